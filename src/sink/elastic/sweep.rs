//! Deleting all that stands in an index from before a bound.
//!
//! # Constraints
//!
//! - Nothing is passed over: the index is refreshed first, every shard must answer for every page, and the pages must come to as many
//!   documents as the engine counted at the start. Anything less fails the pass, and a pass that failed is made again.
//! - Nothing newer goes: a delete carries the last version below the bound, so the engine itself refuses it where a newer document stands.
//!   It may therefore arrive at any time, twice, or long after the pass: it makes nothing, and where a newer document was deleted and that forgotten, it
//!   deletes nothing.
//! - Memory is one page of ids, and one bulk of their deletes.
//!
//! # Format
//!
//! ```text
//! POST /INDEX/_refresh
//! GET  /INDEX/_mapping                                               (not for a TRUNCATE) which field marks documents that stay
//! POST /INDEX/_search?scroll=5m&allow_partial_search_results=false   {"size":1000,"sort":["_doc"],"version":true,"_source":false,…}
//! POST /_search/scroll                                               {"scroll":"5m","scroll_id":"…"}
//! DELETE /_search/scroll                                             {"scroll_id":["…"]}
//! ```
//!
//! A scroll, since a point in time is asked for differently by each engine and not at all by OpenSearch 1, and no sort key but `_doc` is one in all of them.
//! (Seen alike on Elasticsearch 7.17, 8.19 and 9.5 and on OpenSearch 1.3, 2.19 and 3.8.)
//!
//! A refresh does not reach the replicas of an OpenSearch index with segment replication (opensearch-project/OpenSearch#6046), so the primaries
//! are asked for. Elasticsearch and OpenSearch 1 refuse that preference by name; they have no such replicas, and are asked without it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Answer, Client, error_of, said};
use super::fence::Fence;
use super::index::encoded;
use super::reason::Text;
use super::{Target, action, made, outcome};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::event::Version;
use crate::event::document::Verb;
use crate::sink::{Bulk, BulkError, Disposition, IndexNo, Item, Old, SinkError, Swept};

/// Documents a page: their deletes make a bulk of some 100 kB, and of less than the 1 MB that many proxies take with the longest ids.
const PAGE: usize = 1000;

/// How long the engine keeps the scan from one page to the next.
const KEEP: &str = "5m";

/// Failures in a row of one page's deletes after which the pass is given up: the scan is not kept for ever.
const PATIENCE: u32 = 6;

/// Longest pause that the engine may ask for inside a pass.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is asked of each page, to keep it small.
const FILTER: &str = "_scroll_id,timed_out,_shards.total,_shards.successful,_shards.failed,hits.total,\
    hits.hits._index,hits.hits._id,hits.hits._version,hits.hits._routing";

/// Why a sweep cannot go on, besides what requests fail of.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(
        "index `{index}` holds documents that everrelay did not write (version {found}; its own begin at {least}): what is no row of the \
         table any more is to be deleted, and with it those documents would go. Delete them, or move them into another index, then start \
         again"
    )]
    NotOurs { index: String, found: Version, least: Version },
    #[error("the engine refused to {what} index `{index}`: {said}; {advice}")]
    Refused { what: &'static str, index: String, said: String, advice: &'static str },
    #[error("a delete of a document that is gone at the source was refused at index `{index}`: {reason}")]
    Delete { index: String, reason: String },
    #[error("{failed} of {total} shards of index `{index}` failed to {what}")]
    Shards { what: &'static str, index: String, failed: u64, total: u64 },
    #[error("the engine's answer to {what} of index `{index}` cannot be read")]
    Unreadable { what: &'static str, index: String },
    #[error("the scan of index `{index}` gave {seen} documents of {total}")]
    Incomplete { index: String, seen: u64, total: u64 },
    #[error("the scan of index `{index}` was lost by the engine")]
    Lost { index: String },
}

impl From<SweepError> for SinkError {
    fn from(error: SweepError) -> SinkError {
        match error {
            SweepError::NotOurs { .. } | SweepError::Refused { .. } | SweepError::Delete { .. } => {
                SinkError::Definite(Box::new(error))
            }
            _ => SinkError::Transient(Box::new(error)),
        }
    }
}

/// One pass over an index.
pub(super) struct Sweep<'c, T> {
    client: &'c Client,
    fence: Option<&'c Fence<T>>,
    targets: Vec<Arc<Target>>,
    target: Arc<Target>,
    index: IndexNo,
    old: Old<'c>,
    /// Before the numbers of its bulks.
    number: u64,
    bulks: u64,
    visit: Option<Visit<'c>>,
}

/// Is told of each document: id, routing, version.
type Visit<'c> = Box<dyn FnMut(&str, Option<&str>, Version) + Send + Sync + 'c>;

/// The same pass with nothing to delete; documents that are marked as deleted are passed over.
pub(super) async fn scan<'c, T: Clock>(
    engine: (&'c Client, Option<&'c Fence<T>>),
    targets: Vec<Arc<Target>>,
    index: IndexNo,
    visit: impl FnMut(&str, Option<&str>, Version) + Send + Sync + 'c,
) -> Result<(), SinkError> {
    let nothing = Old { versions: Version(0)..Version(0), spared: &HashSet::new(), but_marked: true };
    let mut sweep = Sweep::new(engine, targets, index, nothing, 0);
    sweep.visit = Some(Box::new(visit));
    sweep.run(|_| ControlFlow::Continue(())).await.map(|_| ())
}

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    _scroll_id: Text<'a>,
    timed_out: bool,
    _shards: Shards,
    #[serde(borrow)]
    hits: Hits<'a>,
}

#[derive(Clone, Copy, Deserialize)]
struct Shards {
    total: u64,
    successful: u64,
    failed: u64,
}

#[derive(Deserialize)]
struct Hits<'a> {
    total: Total,
    /// An empty list is left out by the filter.
    #[serde(borrow, default)]
    hits: Vec<Hit<'a>>,
}

#[derive(Deserialize)]
struct Total {
    value: u64,
}

#[derive(Deserialize)]
struct Hit<'a> {
    #[serde(borrow)]
    _index: Text<'a>,
    #[serde(borrow)]
    _id: Text<'a>,
    _version: u64,
    #[serde(borrow, default)]
    _routing: Option<Text<'a>>,
}

impl Swept {
    fn saw(&mut self, id: &str, version: Version) {
        if self.newest.as_ref().is_none_or(|(_, newest)| *newest < version) {
            self.newest = Some((id.into(), version));
        }
    }
}

impl<'c, T: Clock> Sweep<'c, T> {
    pub(super) fn new(
        (client, fence): (&'c Client, Option<&'c Fence<T>>),
        targets: Vec<Arc<Target>>,
        index: IndexNo,
        old: Old<'c>,
        number: u64,
    ) -> Sweep<'c, T> {
        let target =
            targets.get(index.0 as usize).cloned().expect("an index number comes from `ensure` or `find`");
        Sweep { client, fence, targets, target, index, old, number, bulks: 0, visit: None }
    }

    /// See [`Sink::sweep`](crate::sink::Sink::sweep).
    pub(super) async fn run(
        mut self,
        page: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        self.refresh().await?;
        let marked = if self.old.but_marked { self.mark().await? } else { None };
        let first = self.begin(marked.as_deref()).await?;
        let mut scroll = None;
        let result = self.pages(first, &mut scroll, page).await;
        if let Some(scroll) = scroll {
            // One that stays open goes by itself.
            let body = json!({"scroll_id": [scroll]});
            let _ = self.client.control(Method::Delete, "_search/scroll", &[], Some(&body)).await;
        }
        result
    }

    fn index(&self) -> String {
        self.target.index.clone()
    }

    /// Makes what was written before visible to the scan.
    async fn refresh(&self) -> Result<(), SinkError> {
        #[derive(Deserialize)]
        struct Refreshed {
            _shards: Shards,
        }
        let path = format!("{}/_refresh", encoded(&self.target.index));
        let answer = self.client.control(Method::Post, &path, &[("filter_path", "_shards")], None).await?;
        let answer = self.taken(answer, "refresh", "look at the index's state")?;
        let refreshed = serde_json::from_slice::<Refreshed>(&answer.body);
        let Refreshed { _shards: Shards { total, failed, .. } } =
            refreshed.map_err(|_| SweepError::Unreadable { what: "a refresh", index: self.index() })?;
        // Copies that are assigned to no node are not asked, and not counted as failed.
        if failed > 0 {
            return Err(SweepError::Shards { what: "refresh", index: self.index(), failed, total }.into());
        }
        Ok(())
    }

    /// The field that says of a document of this index that its row is deleted, by what the index says of itself: the relay may not have met it in this run.
    async fn mark(&self) -> Result<Option<String>, SinkError> {
        let path = format!("{}/_mapping", encoded(&self.target.index));
        let answer = self.client.control(Method::Get, &path, &[], None).await?;
        let answer = self.taken(answer, "tell about the mapping of", "check the sink's url and its path")?;
        let unreadable = || SweepError::Unreadable { what: "the mapping", index: self.index() };
        let mapping: Map<String, Value> = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
        let mapping = mapping.get(&self.target.index).and_then(|entry| entry.get("mappings"));
        Ok(made::deleted_field(mapping.ok_or_else(unreadable)?).map(str::to_owned))
    }

    /// The scan's first page; `marked`: without documents that have this field set.
    async fn begin(&self, marked: Option<&str>) -> Result<Answer, SinkError> {
        let path = format!("{}/_search", encoded(&self.target.index));
        let which = match marked {
            None => json!({"match_all": {}}),
            Some(field) => json!({"bool": {"must_not": {"term": {field: true}}}}),
        };
        let body = json!({
            "size": PAGE, "query": which, "sort": ["_doc"], "version": true, "_source": false,
        });
        let query = [
            ("scroll", KEEP),
            ("allow_partial_search_results", "false"),
            ("filter_path", FILTER),
            ("preference", "_primary"),
        ];
        let mut answer = self.client.control(Method::Post, &path, &query, Some(&body)).await?;
        let refuses_preference = answer.status == 400
            && error_of(&answer.body).is_some_and(|error| error.text().contains("[_primary]"));
        if refuses_preference {
            answer = self.client.control(Method::Post, &path, &query[..3], Some(&body)).await?;
        }
        self.taken(answer, "scan", "its `index.max_result_window` must be 1000 or more")
    }

    /// An answer that is none to what was asked for tells why.
    fn taken(&self, answer: Answer, what: &'static str, advice: &'static str) -> Result<Answer, SinkError> {
        match answer.status {
            200 => Ok(answer),
            404 => Err(self.target.changed("that index is gone".into())),
            status => {
                let said = said(status, &answer.body);
                Err(SweepError::Refused { what, index: self.index(), said, advice }.into())
            }
        }
    }

    /// Page by page. `scroll` is set as soon as the engine has named its scan.
    async fn pages(
        &mut self,
        mut answer: Answer,
        scroll: &mut Option<String>,
        mut page: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        let (mut seen, mut counted) = (0, None);
        loop {
            let unreadable = |_| SweepError::Unreadable { what: "a scan", index: self.index() };
            let read: Page<'_> = serde_json::from_slice(&answer.body).map_err(unreadable)?;
            let name = scroll.insert(read._scroll_id.to_string());
            let Shards { total: shards, successful, failed } = read._shards;
            if failed > 0 || successful < shards || read.timed_out {
                let failed = failed.max(shards.saturating_sub(successful));
                let index = self.index();
                return Err(SweepError::Shards { what: "scan", index, failed, total: shards }.into());
            }
            let total = *counted.get_or_insert(read.hits.total.value);
            seen += read.hits.hits.len() as u64;
            let ends = seen >= total || read.hits.hits.is_empty();
            if seen > total || (ends && seen < total) {
                return Err(SweepError::Incomplete { index: self.index(), seen, total }.into());
            }
            let next = json!({"scroll": KEEP, "scroll_id": name});
            let swept = self.page(&read.hits.hits).await?;
            if page(&swept).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if ends {
                return Ok(ControlFlow::Continue(()));
            }
            let query = [("filter_path", FILTER)];
            answer = self.client.control(Method::Post, "_search/scroll", &query, Some(&next)).await?;
            if answer.status == 404 {
                return Err(SweepError::Lost { index: self.index() }.into());
            }
            answer =
                self.taken(answer, "go on with the scan of", "look for a proxy that changes requests")?;
        }
    }

    /// Deletes what is old of one page.
    async fn page(&mut self, hits: &[Hit<'_>]) -> Result<Swept, SinkError> {
        let mut swept = Swept::default();
        let mut old = Vec::new();
        for hit in hits {
            if *hit._index != self.target.index {
                return Err(SweepError::Unreadable { what: "a scan", index: self.index() }.into());
            }
            let version = Version(hit._version);
            if version < self.old.versions.start {
                let (index, least) = (self.index(), self.old.versions.start);
                return Err(SweepError::NotOurs { index, found: version, least }.into());
            }
            swept.saw(&hit._id, version);
            if let Some(visit) = &mut self.visit {
                visit(&hit._id, hit._routing.as_deref(), version);
            }
            if version < self.old.versions.end && !self.old.spared.contains(&*hit._id) {
                old.push(hit);
            } else {
                swept.spared += 1;
            }
        }
        let mut backoff = Backoff::new();
        let mut parts = vec![old];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let (again, pause) = match self.delete(&part).await {
                Ok(dispositions) => (self.settle(part, dispositions, &mut swept)?, None),
                Err(BulkError::TooLarge { .. }) if part.len() > 1 => {
                    let mut first = part;
                    parts.extend([first.split_off(first.len() / 2), first]);
                    continue;
                }
                Err(BulkError::Definite { reason } | BulkError::TooLarge { reason }) => {
                    return Err(SweepError::Delete { index: self.index(), reason }.into());
                }
                Err(BulkError::Transient { reason, retry_after }) => (Some((part, reason)), retry_after),
                // Deletes of the same versions do no harm, however often.
                Err(BulkError::Unknown { reason }) => (Some((part, reason)), None),
            };
            let Some((part, reason)) = again else { continue };
            if backoff.failures() >= PATIENCE {
                return Err(SinkError::Transient(reason.into()));
            }
            tokio::time::sleep(backoff.next_delay().max(pause.unwrap_or_default()).min(LONGEST_PAUSE)).await;
            parts.push(part);
        }
        Ok(swept)
    }

    /// Takes in what became of each delete; returns those that the engine put off, and why.
    fn settle<'h, 'p>(
        &self,
        part: Vec<&'p Hit<'h>>,
        dispositions: Vec<Disposition>,
        swept: &mut Swept,
    ) -> Result<Option<(Vec<&'p Hit<'h>>, String)>, SinkError> {
        let refused = |reason| SinkError::from(SweepError::Delete { index: self.index(), reason });
        let (mut put_off, mut why) = (Vec::new(), String::new());
        for (hit, disposition) in part.into_iter().zip(dispositions) {
            match disposition {
                Disposition::Done => swept.deleted += 1,
                Disposition::Superseded { current: Some(current) } => {
                    swept.spared += 1;
                    swept.saw(&hit._id, current);
                }
                Disposition::Superseded { current: None } => {
                    return Err(refused(
                        "a version conflict that does not say which version is there".into(),
                    ));
                }
                Disposition::Transient { reason } => {
                    put_off.push(hit);
                    why = reason;
                }
                Disposition::Poison { reason, .. } | Disposition::Definite { reason } => {
                    return Err(refused(reason));
                }
            }
        }
        Ok(Some((put_off, why)).filter(|(put_off, _)| !put_off.is_empty()))
    }

    async fn delete(&mut self, hits: &[&Hit<'_>]) -> Result<Vec<Disposition>, BulkError> {
        let version = Version(self.old.versions.end.0.saturating_sub(1));
        let (mut body, mut items) = (Vec::new(), Vec::with_capacity(hits.len()));
        for hit in hits {
            let start = body.len();
            action::delete(&self.target.prefixes, (&hit._id, hit._routing.as_deref()), version, &mut body);
            let (index, verb, bytes) = (self.index, Verb::Delete, start..body.len());
            items.push(Item { index, verb, id: (*hit._id).into(), version, bytes });
        }
        self.bulks += 1;
        let opaque_id = format!("sweep-{}-{}", self.number, self.bulks);
        let bulk = Bulk { opaque_id, body: Bytes::from(body), items };
        if let Some(fence) = self.fence {
            fence.admit(self.client, &self.targets, &bulk.items).await?;
        }
        let answer = self.client.bulk(&bulk).await?;
        outcome::judge(&answer, &bulk.items, &self.targets)
    }
}
