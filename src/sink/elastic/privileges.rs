//! What the relay's role may not do, as far as the engine says so before it is tried.
//!
//! # Format
//!
//! Elasticsearch with security, of whoever asks (OpenSearch has no such question, and without security there is none):
//!
//! ```text
//! POST /_security/user/_has_privileges   {"cluster":["monitor"],"index":[{"names":["shop.orders"],"privileges":["index","delete"]}]}
//! {"has_all_requested":false,"cluster":{"monitor":true},"index":{"shop.orders":{"index":true,"delete":false}}}
//! ```

use std::collections::BTreeMap;

use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::{Client, served};
use super::fence::document;
use super::index::IndexError;
use crate::sink::SinkError;

/// What writing documents needs on an alias and the index behind it.
const DOCUMENTS: [&str; 7] =
    ["view_index_metadata", "monitor", "create_index", "manage", "read", "index", "delete"];

/// What the fence needs on its index.
const FENCE: [&str; 3] = ["read", "index", "create_index"];

/// Aliases in one question.
const AT_ONCE: usize = 200;

/// A privilege that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// An index; `None`: the cluster.
    pub on: Option<String>,
    pub privileges: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    has_all_requested: bool,
    #[serde(default)]
    cluster: BTreeMap<String, bool>,
    #[serde(default)]
    index: BTreeMap<String, BTreeMap<String, bool>>,
}

/// What is missing to write behind these aliases; `None`: the engine does not tell.
///
/// # Errors
/// The engine does not answer.
pub(super) async fn missing(client: &Client, aliases: &[&str]) -> Result<Option<Vec<Missing>>, SinkError> {
    let mut missing = Vec::new();
    for aliases in aliases.chunks(AT_ONCE) {
        let first = |alias: &&str| format!("{alias}-000001");
        let names: Vec<String> =
            aliases.iter().map(|alias| (*alias).to_owned()).chain(aliases.iter().map(first)).collect();
        let asked = json!({
            "cluster": ["monitor"],
            "index": [
                {"names": names, "privileges": DOCUMENTS},
                {"names": [document::INDEX], "privileges": FENCE},
            ],
        });
        let path = "_security/user/_has_privileges";
        let answer = client.answered(Method::Post, path, &[], Some(&asked)).await?;
        if answer.status != 200 {
            // What is only late is; anything else has no such question.
            return match answer.status {
                408 | 429 | 502..=504 => served(&format!("POST /{path}"), answer).map(|_| None),
                _ => Ok(None),
            };
        }
        let Answer { has_all_requested, cluster, index } = serde_json::from_slice(&answer.body)
            .map_err(|_| IndexError::Unreadable { what: "the role's privileges".to_owned() })?;
        if has_all_requested {
            continue;
        }
        let of = |on: Option<String>, has: BTreeMap<String, bool>| {
            let privileges: Vec<_> = has.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect();
            (!privileges.is_empty()).then_some(Missing { on, privileges })
        };
        missing.extend(of(None, cluster));
        missing.extend(index.into_iter().filter_map(|(name, has)| of(Some(name), has)));
    }
    missing.sort();
    missing.dedup();
    Ok(Some(missing))
}
