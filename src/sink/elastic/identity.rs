//! Whether an index is still what it was when it was met: the same one, with the same history.
//!
//! # Constraints
//!
//! - An index that was deleted and made anew under its name has another UUID. One that was restored over itself from a backup, or lost a shard's
//!   operations (`allocate_stale_primary`, `allocate_empty_primary`), keeps its UUID; what was taken and acknowledged is gone all the same. The engine then
//!   gives the shard's copies a new *history UUID*, and keeps it over restarts, relocation and the failover to a replica.
//! - No bulk goes out to an index that was not looked at for [`FRESH`], nor behind one that the engine did not take, or not all of it: an index is closed while it is restored,
//!   and a shard without a primary takes nothing. What was sent to one that had none is looked at once more when it was taken. Indices of a bulk are asked about together.
//! - A shard without a primary has no history to tell; it is asked again. An engine that does not let this relay ask (`monitor` on the index) is believed.
//!
//! # Format
//!
//! ```text
//! GET /shop.orders-000001/_stats/docs?level=shards
//! {"indices":{"shop.orders-000001":{"uuid":"…","shards":{"0":[{"routing":{"primary":true},"commit":{"user_data":{"history_uuid":"…"}}}]}}}}
//! ```
//!
//! What is kept of it is the CRC-32 of the primaries' history UUIDs in the order of their shards, each with a line feed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use elasticsearch::http::Method;
use serde::Deserialize;
use tokio::time::Instant;

use super::Target;
use super::client::{Client, served};
use super::index::{IndexError, encoded};
use crate::sink::{BulkError, Index, IndexNo, Item, SinkError};

/// How long a look holds.
const FRESH: Duration = Duration::from_secs(30);

/// Most bytes of names in one request's path; engines take lines of 4,096.
const NAMES: usize = 3000;

/// What an index is recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    uuid: String,
    /// `None`: not all of its shards have a primary.
    history: Option<u32>,
}

/// The indices of this run, and when they were looked at.
#[derive(Debug, Default)]
pub(super) struct Identities {
    known: Mutex<HashMap<IndexNo, Known>>,
    /// One look at a time: the others wait for what it finds.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    history: Option<u32>,
    looked: Instant,
    doubted: bool,
}

impl Known {
    fn holds(&self) -> bool {
        !self.doubted && self.looked.elapsed() < FRESH
    }
}

impl Identities {
    fn known(&self) -> MutexGuard<'_, HashMap<IndexNo, Known>> {
        // Whole after every statement, whoever panicked.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An index was met, with this history.
    pub(super) fn met(&self, index: &Index) {
        let known = Known { history: index.history, looked: Instant::now(), doubted: false };
        self.known().insert(index.no, known);
    }

    /// The engine did not take all of a bulk: something may have happened to its indices.
    pub(super) fn doubt(&self, items: &[Item]) {
        let mut known = self.known();
        for index in indices(items) {
            if let Some(known) = known.get_mut(&index) {
                known.doubted = true;
            }
        }
    }

    /// Looks at the indices of a bulk that were not looked at for a while.
    ///
    /// # Errors
    /// Nothing was sent. Definite: one of them is not what it was. Transient: the engine does not say.
    pub(super) async fn confirm(
        &self,
        client: &Client,
        targets: &[Arc<Target>],
        items: &[Item],
    ) -> Result<(), BulkError> {
        let due = || -> Vec<(IndexNo, Arc<Target>)> {
            let known = self.known();
            let due =
                indices(items).into_iter().filter(|no| known.get(no).is_none_or(|known| !known.holds()));
            let due = due.filter_map(|no| Some((no, Arc::clone(targets.get(no.0 as usize)?))));
            due.filter(|(_, target)| target.shards > 0).collect()
        };
        if due().is_empty() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let mut due = due();
        while let Some(first) = due.pop() {
            let mut bytes = encoded(&first.1.index).len();
            let mut batch = vec![first];
            while let Some(next) = due.pop_if(|(_, target)| {
                bytes += 1 + encoded(&target.index).len();
                bytes <= NAMES
            }) {
                batch.push(next);
            }
            self.compare(client, &batch).await.map_err(|error| match error {
                SinkError::Transient(error) => {
                    BulkError::Transient { reason: error.to_string(), retry_after: None }
                }
                SinkError::Definite(error) => BulkError::Definite { reason: error.to_string() },
            })?;
        }
        Ok(())
    }

    async fn compare(&self, client: &Client, batch: &[(IndexNo, Arc<Target>)]) -> Result<(), SinkError> {
        let names: Vec<(&str, u32)> =
            batch.iter().map(|(_, target)| (target.index.as_str(), target.shards)).collect();
        let found = ask(client, &names).await?;
        let looked = Instant::now();
        for (no, target) in batch {
            let mut known = self.known();
            let known = known.entry(*no).or_insert(Known { history: None, looked, doubted: false });
            (known.looked, known.doubted) = (looked, false);
            let Some(found) = &found else { continue };
            // Closed, or gone: what is written to it will be refused, and it is looked at again.
            known.doubted = true;
            if let Some(Identity { uuid, history }) = found.get(&target.index) {
                if *uuid != target.uuid {
                    return Err(target.changed(format!("leads to another of that name ({uuid})")));
                }
                if let (Some(before), Some(now)) = (known.history, history)
                    && before != *now
                {
                    let (alias, index) = (target.alias.clone(), target.index.clone());
                    return Err(IndexError::Rewound { alias, index }.into());
                }
                known.history = known.history.or(*history);
                known.doubted = history.is_none();
            }
        }
        Ok(())
    }
}

/// The history of an index of so many shards; `None` where the engine does not tell, or not yet.
///
/// # Errors
/// The engine does not answer.
pub(super) async fn history(client: &Client, index: &str, shards: u32) -> Result<Option<u32>, SinkError> {
    if shards == 0 {
        return Ok(None);
    }
    let found = ask(client, &[(index, shards)]).await?;
    Ok(found.and_then(|found| found.get(index)?.history))
}

/// What these indices of so many shards are recognised by, as far as they are open; `None`: the engine does not tell this relay.
async fn ask(
    client: &Client,
    indices: &[(&str, u32)],
) -> Result<Option<HashMap<String, Identity>>, SinkError> {
    let names: Vec<String> = indices.iter().map(|(name, _)| encoded(name)).collect();
    let path = format!("{}/_stats/docs", names.join(","));
    let query = [
        ("level", "shards"),
        ("ignore_unavailable", "true"),
        (
            "filter_path",
            "indices.*.uuid,indices.*.shards.*.routing.primary,indices.*.shards.*.commit.user_data.history_uuid",
        ),
    ];
    let answer = client.answered(Method::Get, &path, &query, None).await?;
    if matches!(answer.status, 401 | 403) {
        return Ok(None);
    }
    let answer = served(&format!("GET /{path}"), answer)?;
    match answer.status {
        200 => {}
        404 => return Ok(Some(HashMap::new())),
        _ => return Ok(None),
    }
    let stats: Stats = serde_json::from_slice(&answer.body)
        .map_err(|_| IndexError::Unreadable { what: "the indices' shards".to_owned() })?;
    Ok(Some(stats.identities(indices)))
}

/// Each once, in no order.
fn indices(items: &[Item]) -> Vec<IndexNo> {
    let mut indices: Vec<IndexNo> =
        items.chunk_by(|a, b| a.index == b.index).map(|run| run[0].index).collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    indices: HashMap<String, IndexStats>,
}

#[derive(Deserialize)]
struct IndexStats {
    uuid: Option<String>,
    #[serde(default)]
    shards: BTreeMap<u32, Vec<Copy>>,
}

/// One copy of a shard.
#[derive(Deserialize)]
struct Copy {
    routing: Option<Routing>,
    commit: Option<Commit>,
}

#[derive(Deserialize)]
struct Routing {
    primary: bool,
}

#[derive(Deserialize)]
struct Commit {
    user_data: Option<UserData>,
}

#[derive(Deserialize)]
struct UserData {
    history_uuid: Option<String>,
}

impl Copy {
    fn history(&self) -> Option<&str> {
        self.routing.as_ref().filter(|routing| routing.primary)?;
        self.commit.as_ref()?.user_data.as_ref()?.history_uuid.as_deref()
    }
}

impl Stats {
    fn identities(&self, indices: &[(&str, u32)]) -> HashMap<String, Identity> {
        let of = |(name, shards): &(&str, u32)| {
            let stats = self.indices.get(*name)?;
            let mut sum = crc32fast::Hasher::new();
            let histories =
                (0..*shards).map_while(|shard| stats.shards.get(&shard)?.iter().find_map(Copy::history));
            let told = histories.map(|history| {
                sum.update(history.as_bytes());
                sum.update(b"\n");
            });
            let is_whole = told.count() == *shards as usize && *shards > 0;
            let history = is_whole.then(|| sum.finalize());
            Some(((*name).to_owned(), Identity { uuid: stats.uuid.clone()?, history }))
        };
        indices.iter().filter_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies of one shard: whether each is the primary, and its history.
    fn shard(copies: &[(bool, &str)]) -> serde_json::Value {
        copies
            .iter()
            .map(|(primary, history)| {
                serde_json::json!({"routing": {"primary": primary}, "commit": {"user_data": {"history_uuid": history}}})
            })
            .collect()
    }

    fn history(shards: serde_json::Value, count: u32) -> Option<u32> {
        let stats = serde_json::json!({"indices": {"i": {"uuid": "u", "shards": shards}}});
        let stats: Stats = serde_json::from_value(stats).unwrap();
        let found = stats.identities(&[("i", count), ("gone", 1)]);
        assert_eq!((found.len(), found["i"].uuid.as_str()), (1, "u"));
        found["i"].history
    }

    #[test]
    fn a_history_is_that_of_all_primaries_and_none_where_one_is_missing() {
        let (a, b) = (shard(&[(true, "a")]), shard(&[(false, "b"), (true, "b")]));
        let both = history(serde_json::json!({"0": &a, "1": &b}), 2);
        assert!(both.is_some());
        assert_eq!(history(serde_json::json!({"1": &shard(&[(true, "b")]), "0": &a}), 2), both);
        assert_ne!(history(serde_json::json!({"0": &b, "1": &a}), 2), both);
        assert_ne!(history(serde_json::json!({"0": &a, "1": &shard(&[(true, "c")])}), 2), both);
        assert_eq!(history(serde_json::json!({"0": &a}), 2), None);
        assert_eq!(history(serde_json::json!({"0": &a, "1": shard(&[(false, "b")])}), 2), None);
        assert_eq!(history(serde_json::json!({"0": [{"routing": {"primary": true}}]}), 1), None);
        assert_eq!(history(serde_json::json!({}), 0), None);
    }
}
