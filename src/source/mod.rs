//! Where changes come from: the [`Source`] edge, and MySQL behind it.
//!
//! A source writes what it reads straight into a log [`Batch`]; it never sees the log itself. Its errors say what happens
//! next: see [`SourceError`].

use std::error::Error;
use std::future::Future;

use crate::event::GtidSet;
use crate::log::Standing;
use crate::log::record::Batch;

pub mod mysql;
pub mod orders;
pub mod pace;
pub mod upstream;

pub use pace::Pace;
pub use upstream::Upstream;

/// Where an empty log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// With the oldest transaction that the server still has.
    Earliest,
    /// With the next transaction.
    Now,
    /// With the next transaction, and a snapshot of every followed table.
    Snapshot,
    /// After these transactions.
    After(GtidSet),
}

/// A stream of committed transactions.
pub trait Source: Send + 'static {
    /// Where an empty log starts, and which snapshots are wanted.
    fn resolve_start(&mut self, start: &Start) -> impl Future<Output = Result<Standing, SourceError>> + Send;

    /// Connects anew and asks for what follows `after`; anything of an earlier connection is forgotten,
    /// schemas are sent again before their next use.
    fn connect(&mut self, after: &Standing) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Closes the connection, if there is one: nothing is left at the server that nobody reads. [`Source::connect`] comes next.
    fn disconnect(&mut self);

    /// Waits for something to write, then appends frames to `batch` for as long as more is at hand and `batch` is under its
    /// usual size. A call may add nothing (a heartbeat). The batch may end inside a transaction; it ends right
    /// after a commit where the source has nothing further at hand.
    ///
    /// Not cancel safe: after a dropped call or an error, [`Source::connect`] comes next. What a failed call left in `batch` is
    /// whole frames, and may be written.
    fn fill(&mut self, batch: &mut Batch) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// What went wrong, sorted by what happens next.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Connect again, with backoff, for as long as it takes.
    #[error("{0}")]
    Transient(#[source] Box<dyn Error + Send + Sync>),
    /// The stream says what cannot be (a checksum, a length, an order): connect again, and at the third time in the same
    /// place treat it as definite.
    #[error("{0}")]
    Garbled(#[source] Box<dyn Error + Send + Sync>),
    /// Trying again would not help: stop, and say what an operator can do.
    #[error("{0}")]
    Definite(#[source] Box<dyn Error + Send + Sync>),
}
