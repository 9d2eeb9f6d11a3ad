//! Where documents go: the [`Sink`] edge, and Elasticsearch behind it.
//!
//! The relay fills [`Bulk`]s by [`Sink::encode`], sends them, and is told a [`Disposition`] for every item or why the
//! whole bulk has none. What a sink cannot tell for certain it calls unknown; it never guesses that something was done.

use std::collections::HashSet;
use std::error::Error;
use std::future::Future;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::event::Version;
use crate::event::document::{Action, ByRow, IndexSpec, Verb};

pub mod elastic;

/// Number of an index that a [`Sink`] has ensured, dense from 0 in the order of the first [`Sink::ensure`] per alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexNo(pub u32);

/// An index that is ready to be written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    pub no: IndexNo,
    /// The concrete index's name.
    pub name: String,
    /// The engine's own id of it: another one under the same name is another index.
    pub uuid: String,
    /// Stands for what was written to it so far: another one once the engine has gone back behind that. `None`: the engine does not tell.
    pub history: Option<u32>,
    /// It was made when it was asked for: no document was in it.
    pub made: bool,
}

/// What is known of an index before it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing: it is created where it is missing.
    Anything,
    /// Documents were written to it: one that is missing was deleted, and those documents with it.
    Existing,
    /// It may have been deleted, in this run too, and is only looked for.
    MaybeGone,
    /// It was deleted, and is to be made anew: nothing, in this run too.
    Anew,
}

/// A request of many actions, encoded once and sent as often as it takes.
#[derive(Clone, Debug)]
pub struct Bulk {
    /// Unique in this run; the sink puts its own prefix before it and sends it along as `X-Opaque-Id`.
    pub opaque_id: String,
    pub body: Bytes,
    /// In body order; no document twice.
    pub items: Vec<Item>,
}

/// One action of a bulk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub index: IndexNo,
    pub verb: Verb,
    pub id: Arc<str>,
    pub version: Version,
    /// Its own bytes in the body, complete in themselves.
    pub bytes: Range<usize>,
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// Applied.
    Done,
    /// The document has `current`, a version above ours, already; `None` where the engine does not say which.
    Superseded { current: Option<Version> },
    /// Not applied, and may be later: send again.
    Transient { reason: String },
    /// The engine will never take this document as it is. `kind`: its word for why, one of a few.
    Poison { kind: &'static str, reason: String },
    /// Nothing that sending again or leaving out would mend; the indexer stops.
    Definite { reason: String },
}

/// Why a bulk has no dispositions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BulkError {
    /// Certainly not applied: send again later, after `retry_after` if the engine named one.
    #[error("{reason}")]
    Transient { reason: String, retry_after: Option<Duration> },
    /// Applied in part, in whole, or not at all, now or later: send the same again before anything newer of its documents, once
    /// [`Sink::under_way`] says that it is over.
    #[error("the outcome is unknown: {reason}")]
    Unknown { reason: String },
    /// The body is too large for the engine (413): halve it.
    #[error("{reason}")]
    TooLarge { reason: String },
    /// Sending again would not help.
    #[error("{reason}")]
    Definite { reason: String },
}

/// Why an index could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// Try again, with backoff, for as long as it takes.
    #[error("{0}")]
    Transient(#[source] Box<dyn Error + Send + Sync>),
    /// Trying again would not help: stop, and say what an operator can do.
    #[error("{0}")]
    Definite(#[source] Box<dyn Error + Send + Sync>),
}

/// Whose requests are asked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The bulk that was sent under this [`Bulk::opaque_id`].
    Bulk(&'a str),
    /// Every bulk of the runs before this one.
    FormerRuns,
}

/// Whether requests that nobody waits for any more are at work in the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// None that the engine knows of. What it has yet to begin with it does not know.
    Nothing,
    /// This many of its tasks.
    Tasks(usize),
    /// The engine does not tell this relay, and why.
    Untold(String),
}

/// Which documents a sweep deletes.
#[derive(Clone, Debug)]
pub struct Old<'a> {
    /// Those of these versions; one with a lower one is not the relay's.
    pub versions: Range<Version>,
    /// Not those with these ids.
    pub spared: &'a HashSet<Arc<str>>,
    /// Not those that [say so](crate::event::document::IndexSpec::deleted) that their rows are deleted.
    pub but_marked: bool,
}

/// What one page of a sweep came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Documents that were deleted.
    pub deleted: u64,
    /// Documents that are as new as the bound, or newer.
    pub spared: u64,
    /// Id and version of the newest of all; `None` for a page without documents.
    pub newest: Option<(Arc<str>, Version)>,
}

/// A search engine, or what stands for one.
pub trait Sink: Send + Sync + 'static {
    /// Makes sure that the alias, its index and all fields exist; called before the first write to an index and again when
    /// fields were added. Idempotent. What is expected to exist and does not is definite, and is not made anew.
    fn ensure(
        &self,
        spec: &IndexSpec,
        expect: Expect,
    ) -> impl Future<Output = Result<Index, SinkError>> + Send;

    /// The index that the alias leads to; `None` where it leads nowhere. Makes nothing. What is expected to exist and does not is
    /// definite.
    fn find(
        &self,
        alias: &str,
        expect: Expect,
    ) -> impl Future<Output = Result<Option<Index>, SinkError>> + Send;

    /// The aliases whose indices say of themselves that they were made for rows of this table, each by what the row is; in no order that means anything. One
    /// that another template made is definite.
    fn aliases(&self, by_row: &ByRow) -> impl Future<Output = Result<Vec<String>, SinkError>> + Send;

    /// Deletes every document of an index that is [`Old`], with the last of its versions as the delete's version, so that no newer one is hit. One pass over all that
    /// was written to the index before the call; a document that is not the relay's is definite.
    ///
    /// `page` is told what was done, and ends the pass by breaking; that is what is returned. A pass that failed is made again from
    /// its start: what it deleted stays so.
    fn sweep(
        &self,
        index: IndexNo,
        old: Old<'_>,
        page: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> impl Future<Output = Result<ControlFlow<()>, SinkError>> + Send;

    /// Appends one action to a bulk's body. `document` appends the JSON object, on one line; it is called once for
    /// [`Verb::Index`], not at all for [`Verb::Delete`]. On its error `body` is as it was.
    fn encode<E>(
        &self,
        index: IndexNo,
        action: &Action<'_>,
        document: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        body: &mut Vec<u8>,
    ) -> Result<(), E>;

    /// Sends a bulk once, within the sink's own deadline.
    ///
    /// Returns one disposition per item, in order.
    fn send(&self, bulk: &Bulk) -> impl Future<Output = Result<Vec<Disposition>, BulkError>> + Send;

    /// Whether the engine is still at work on bulks that were given up.
    fn under_way(&self, whose: Whose<'_>) -> impl Future<Output = Result<UnderWay, SinkError>> + Send;

    /// Nothing more will be sent in this run, and everything was answered for: others need not wait for what it may have left.
    fn release(&self) -> impl Future<Output = Result<(), SinkError>> + Send;
}
