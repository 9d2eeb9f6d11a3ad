//! Has the relay read anew what differs, and waits until that is in the index.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::anyhow;
use reqwest::Method;

use super::super::{Failure, socket, status};
use crate::admin::control::{Asked, Done};
use crate::config::{Settings, SinkSettings};
use crate::diff::Found;
use crate::diff::repair::Repair;
use crate::event::TableName;
use crate::lifecycle::Exit;

/// Between two questions to the relay.
const PAUSE: Duration = Duration::from_millis(250);

/// # Errors
/// No relay runs, it refuses, or it has a snapshot of the table under way that this one would replace.
pub(super) async fn order(
    (settings, sink): (&Settings, &SinkSettings),
    table: &TableName,
    repair: &Repair,
    found: &Found,
) -> Result<(), Failure> {
    if !found.relay {
        return Err(refused("no relay runs: what differs is read anew by one that runs".to_owned()));
    }
    if found.behind {
        return Err(refused(
            "the relay did not catch up in time, so that what differs may be its lag: nothing was read anew. See `everrelay status`, or give more with --wait"
                .to_owned(),
        ));
    }
    let name = table.to_string();
    if is_under_way(settings, &name).await?.0 {
        return Err(refused(format!(
            "a snapshot of {name} is wanted or under way already: see `everrelay snapshot ls`, and compare again when it is over"
        )));
    }
    let filter = match repair {
        Repair::Where(sql) => Some(sql.clone()),
        _ => None,
    };
    let asked = Asked { tables: Some(vec![name.clone()]), filter };
    let answer = socket::ask_async::<Done>(settings, Method::POST, "/snapshot", &asked).await;
    let answer = answer.map_err(unexpected)?;
    answer.ok_or_else(|| refused("the relay has ended meanwhile".to_owned()))?.map_err(refused)?;
    tell(&format!("{} of {name} read anew", repair.read()));
    // The log keeps it, and says so a moment later.
    tokio::time::sleep(PAUSE).await;
    let read_up_to = loop {
        match is_under_way(settings, &name).await? {
            (true, _) => tokio::time::sleep(PAUSE).await,
            (false, visible) => break visible,
        }
    };
    loop {
        let pipeline = standing(settings).await?;
        let status = super::sink_of(&pipeline, sink).map_err(refused)?;
        if let Some(why) = &status.stopped {
            return Err(refused(format!("the sink {} was stopped meanwhile: {why}", sink.name)));
        }
        if status.cursor >= read_up_to && !status.swept.contains(&name) {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a snapshot of the table is not over, and what the log holds.
async fn is_under_way(settings: &Settings, table: &str) -> Result<(bool, u64), Failure> {
    let pipeline = standing(settings).await?;
    let is_under_way = pipeline.snapshots.iter().any(|snapshot| snapshot.table == table);
    Ok((is_under_way, pipeline.visible))
}

async fn standing(settings: &Settings) -> Result<crate::admin::PipelineStatus, Failure> {
    let status = status::asked(settings).await.map_err(unexpected)?;
    let status = status.ok_or_else(|| {
        unexpected(anyhow!("the relay has ended: what was asked of it goes on with its next start"))
    })?;
    Ok(status.pipeline)
}

/// On a terminal, in the place of the bar.
fn tell(what: &str) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        // Nowhere to print to is no reason to fail.
        let _ = writeln!(out, "\r{what} …");
    }
}

fn refused(why: String) -> Failure {
    Failure::new(Exit::Differs, anyhow!("{why}"))
}

fn unexpected(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Unexpected, error)
}
