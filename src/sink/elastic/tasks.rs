//! Whether the engine is still at work on a request that was given up: what its list of tasks says.
//!
//! A request goes on in the engine when its client is gone, for minutes sometimes (elastic/elasticsearch#46994), and has no deadline there. Every task made
//! for it, on whichever node, bears its `X-Opaque-Id` (seen on Elasticsearch 9.5 and OpenSearch 1.3: the bulk itself, `[s]` for
//! each shard, `[s][p]` and `[s][r]` for its copies). The question is a task as well and must be found among the rest under its own id: where something
//! between keeps the header back, no task is told from others.

use std::borrow::Cow;
use std::collections::HashMap;

use elasticsearch::http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::client::{Client, said};
use crate::sink::{SinkError, UnderWay, Whose};

/// An engine's tasks, ungrouped.
#[derive(Deserialize)]
struct Tasks<'a> {
    #[serde(borrow)]
    tasks: Vec<Task<'a>>,
    /// Nodes that did not say, and tasks that could not be looked at.
    #[serde(default)]
    node_failures: Vec<IgnoredAny>,
    #[serde(default)]
    task_failures: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Task<'a> {
    #[serde(borrow)]
    action: Cow<'a, str>,
    #[serde(borrow, default)]
    headers: HashMap<Cow<'a, str>, Cow<'a, str>>,
}

impl Task<'_> {
    fn opaque_id(&self) -> Option<&str> {
        // Header names are of any case.
        let mut headers = self.headers.iter();
        headers.find(|(name, _)| name.eq_ignore_ascii_case("x-opaque-id")).map(|(_, value)| &**value)
    }
}

/// The action of the question itself.
const ASKING: &str = "cluster:monitor/tasks/lists";

/// See [`Sink::under_way`](crate::sink::Sink::under_way).
pub(super) async fn ask(client: &Client, whose: Whose<'_>) -> Result<UnderWay, SinkError> {
    match whose {
        Whose::Bulk(id) => {
            let id = client.opaque_id(id);
            of(client, |found| found == id).await
        }
        Whose::FormerRuns if client.folder_prefix().is_empty() => Ok(UnderWay::Nothing),
        Whose::FormerRuns => of(client, |found| found.starts_with(client.folder_prefix())).await,
    }
}

/// Whether the engine is at work on bulks whose `X-Opaque-Id` is one of these.
pub(super) async fn of(client: &Client, sought: impl Fn(&str) -> bool + Send) -> Result<UnderWay, SinkError> {
    let actions = format!("*bulk*,{ASKING}");
    let query = [("actions", &*actions), ("group_by", "none")];
    let answer = client.answered(Method::Get, "_tasks", &query, None).await?;
    let said = said(answer.status, &answer.body);
    match answer.status {
        200 => {}
        // Asked again: credentials may be changed at this moment, and an engine that is busy is one that may be at work.
        401 | 408 | 429 | 500.. => {
            return Err(SinkError::Transient(format!("GET /_tasks: the engine answered {said}").into()));
        }
        _ => return Ok(UnderWay::Untold(format!("GET /_tasks was answered {said}"))),
    }
    let Ok(read) = serde_json::from_slice::<Tasks<'_>>(&answer.body) else {
        return Ok(UnderWay::Untold("the answer to GET /_tasks is no list of tasks".into()));
    };
    let failures = read.node_failures.len() + read.task_failures.len();
    if failures > 0 {
        let why = format!("GET /_tasks: {failures} of the engine's nodes or tasks did not say what they do");
        return Err(SinkError::Transient(why.into()));
    }
    let (mut seen_ourselves, mut tasks) = (false, 0);
    for task in &read.tasks {
        let Some(id) = task.opaque_id() else { continue };
        if task.action == ASKING {
            seen_ourselves |= id == client.opaque_id("");
        } else if sought(id) {
            tasks += 1;
        }
    }
    Ok(match tasks {
        0 if !seen_ourselves => UnderWay::Untold(
            "the engine's tasks do not bear the X-Opaque-Id that is sent along: something before it keeps that header back"
                .into(),
        ),
        0 => UnderWay::Nothing,
        tasks => UnderWay::Tasks(tasks),
    })
}
