//! One pipeline: a source, a log, and sinks with a cursor each, running until told to stop or until waiting would not help.
//!
//! | file | idea |
//! |---|---|
//! | [`ingest`] | source to log: connect, stream, reconnect |
//! | [`committer`] | the log's writer thread: group commit |
//! | [`gaps`] | tables that need a snapshot, told |
//! | [`snapshots`] | snapshots that are not over, told |
//! | [`upstream`] | what is told of the servers behind the source |
//! | [`retention`] | segments go, the disk reserve is held, what is left is told |
//! | [`sinks`] | one sink or several on the log |
//! | [`joining`] | a sink that is new on it |
//! | [`deliver`] | log to sink: read, build, launch, judge, commit the cursor |
//! | [`finding`] | indices of tables that were not met in this run |
//! | [`flights`] | bulks under way and sent again |
//! | [`concurrency`] | how many may be under way |
//! | [`ceiling`] | how many bytes a second |
//! | [`building`] | the bulk being built |
//! | [`sizing`] | how large it becomes |
//! | [`documents`] | one flight per document |
//! | [`outstanding`] | the settled prefix |
//! | [`orders`] | how an operator's orders come to the indexer |
//! | [`parking`] | changes that the engine refuses |
//! | [`parked_orders`] | what an operator asks of them |
//! | [`retries`] | parked changes sent again |
//! | [`replay`] | documents of a range of the log sent again |
//! | [`sweeps`] | all older documents of a table go |
//! | [`progress`] | the cursor's way into its store |
//! | [`options`] | bounds and times |
//! | [`error`] | why a pipeline stopped |
//! | [`tables`] [`learning`] | mapping and indices per table, made ready |
//!
//! The two sides share nothing but the log. When one stops for good the other finishes what it can within its bound,
//! and the pipeline ends with the first error: a daemon is not half alive. Of several sinks the others go on when one stops.

pub mod building;
mod ceiling;
pub mod committer;
mod concurrency;
pub mod deliver;
pub mod documents;
pub mod error;
pub mod finding;
pub mod flights;
pub mod gaps;
pub mod ingest;
pub mod joining;
pub mod learning;
pub mod options;
pub mod orders;
pub mod outstanding;
pub mod parked_orders;
pub mod parking;
pub mod progress;
pub mod replay;
pub mod retention;
pub mod retries;
pub mod sinks;
mod sizing;
pub mod snapshots;
pub mod sweeps;
pub mod tables;
pub mod upstream;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Version;
use crate::lifecycle::{Readiness, Shutdown};
use crate::settled::CursorStore;
use crate::sink::Sink;
use crate::source::Source;
use error::{DeliverError, RelayError};
use ingest::Ingest;
pub use retention::{Outlook, Retention};
use sinks::Sinks;

/// Runs both sides of a pipeline until a drain is asked for or one of them stops.
///
/// # Errors
/// The first definite error of either side.
pub async fn run<S, K, C, D, T>(
    ingest: Ingest<S, T>,
    sinks: Sinks<K, C, D, T>,
    retention: Retention<C, D, T>,
    readiness: Readiness,
    shutdown: &Shutdown,
) -> Result<(), RelayError>
where
    S: Source,
    K: Sink,
    C: CursorStore,
    D: Disk,
    T: Clock,
{
    let source_ended = CancellationToken::new();
    let gaps = gaps::tell(sinks.gaps(), shutdown);
    // A task of its own: decoding is work for a processor, and so is building bulks. It ends when this future is dropped.
    let mut source_side = JoinSet::new();
    let (ended, draining) = (source_ended.clone(), shutdown.clone());
    source_side.spawn(async move {
        let result = ingest.run(&draining).await;
        if let Err(error) = &result {
            readiness.obstacle("source", error.to_string());
            tracing::error!(%error, "the source stopped; delivering what the log holds");
        }
        ended.cancel();
        result.map_err(RelayError::from)
    });
    let ingest = async {
        match source_side.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(failed)) => std::panic::resume_unwind(match failed.try_into_panic() {
                Ok(panic) => panic,
                Err(cancelled) => Box::new(cancelled.to_string()),
            }),
            None => Ok(()),
        }
    };
    let deliver = async {
        let result = sinks.run(shutdown, &source_ended).await;
        result.map_err(RelayError::from)
    };
    let retention = async {
        let result = retention.run(shutdown).await;
        if result.is_err() {
            shutdown.request();
        }
        result
    };
    let (ingested, delivered, retained, ()) = tokio::join!(ingest, deliver, retention, gaps);
    let mut errors = [ingested, delivered, retained].into_iter().filter_map(Result::err);
    let Some(first) = errors.next() else { return Ok(()) };
    for error in errors {
        tracing::error!(%error, "stopped as well");
    }
    Err(first)
}

/// A document with a version that this log never gave, above `highest`, is somebody else's. `index`: its name.
fn foreign(
    index: impl FnOnce() -> String,
    id: &str,
    current: Version,
    highest: Version,
) -> Option<DeliverError> {
    (current > highest).then(|| DeliverError::ForeignWriter {
        index: index(),
        id: id_for_people(id),
        current,
        highest,
    })
}

/// A document id as it may appear in a log line: ids can be personal, so only enough of a hash to find it again.
#[must_use]
pub fn id_for_people(id: &str) -> String {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(id.as_bytes());
    let hex: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("#{hex}")
}
