//! Several sinks on one log: each has its cursor and its deliver side, and none waits for another.
//!
//! # Constraints
//!
//! - What ends one of several for good, as another index behind its alias or another relay that has taken it, ends that one alone. It is told as an error,
//!   `/readyz` and a gauge say so until the process ends, and the log is kept from its cursor on.
//! - What ends the only one, or the last, ends the process. So does whatever is wrong with the state folder, which all of them have in common; it is told
//!   before what had stopped one of them.
//! - The process ends with the first error, whoever's: a sink that was stopped is not forgotten by a drain.
//!
//! # Operation
//!
//! Each deliver side is a task of its own. Where one is stopped, or a cursor is there that no sink of the configuration moves, a task tells the source how much
//! of the log it needs: a snapshot waits with the quota in sight, whoever needs the log.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::deliver::Deliver;
use super::error::DeliverError;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Seq;
use crate::lifecycle::{self, Readiness, Shutdown};
use crate::log::{Gap, Log};
use crate::metrics::names;
use crate::settled::CursorStore;
use crate::sink::Sink;
use crate::source::pace::{Pace, Pacing};

/// How often the source is told how much of the log is needed by a sink that stands still.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// A deliver side, once it can begin.
pub type Opening<K, C, D, T> =
    Pin<Box<dyn Future<Output = Result<Deliver<K, C, D, T>, DeliverError>> + Send>>;

/// One sink.
pub struct Side<K, C, D: Disk, T> {
    pub name: String,
    /// Its cursor, to look at.
    pub store: C,
    /// The deliver side's, which it has as well.
    pub pacing: Pacing,
    pub opening: Opening<K, C, D, T>,
}

/// A cursor that nobody moves.
pub struct Idle<C> {
    pub store: C,
    pub pacing: Pacing,
}

/// All sinks of a log.
pub struct Sinks<K, C, D: Disk, T> {
    pub log: Log<D>,
    pub sides: Vec<Side<K, C, D, T>>,
    /// Of sinks that the configuration does not name any more.
    pub idle: Vec<Idle<C>>,
    pub readiness: Readiness,
    pub stopped: Stopped,
}

/// Sinks that were stopped for good while others go on, by name, and why.
#[derive(Clone, Debug, Default)]
pub struct Stopped {
    sinks: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Stopped {
    /// Why it was.
    #[must_use]
    pub fn why(&self, sink: &str) -> Option<String> {
        self.sinks().get(sink).cloned()
    }

    fn sinks(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // Whole after every statement, whoever panicked.
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Side<K, C, D, T> {
    /// One that can begin at once.
    #[must_use]
    pub fn ready(name: &str, store: C, deliver: Deliver<K, C, D, T>) -> Side<K, C, D, T> {
        let pacing = deliver.pacing();
        Side { name: name.to_owned(), store, pacing, opening: Box::pin(std::future::ready(Ok(deliver))) }
    }

    async fn run(
        self,
        shutdown: Shutdown,
        source_ended: CancellationToken,
    ) -> (Idle<C>, String, Result<(), DeliverError>) {
        let Side { name, store, pacing, opening } = self;
        let opened = tokio::select! {
            biased;
            opened = opening => Some(opened),
            () = shutdown.wait() => None,
            () = source_ended.cancelled() => None,
        };
        let result = match opened {
            Some(Ok(deliver)) => deliver.run(&shutdown, &source_ended).await,
            Some(Err(error)) => Err(error),
            None => Ok(()),
        };
        (Idle { store, pacing }, name, result)
    }
}

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Sinks<K, C, D, T> {
    /// These, and no cursor beside theirs.
    #[must_use]
    pub fn new(log: Log<D>, sides: Vec<Side<K, C, D, T>>, readiness: Readiness) -> Sinks<K, C, D, T> {
        Sinks { log, sides, idle: Vec::new(), readiness, stopped: Stopped::default() }
    }

    /// How fast rows of snapshots may come.
    #[must_use]
    pub fn pace(&self) -> Pace {
        let idle = self.idle.iter().map(|idle| idle.pacing.pace());
        Pace::of_all(self.sides.iter().map(|side| side.pacing.pace()).chain(idle))
    }

    /// The tables that need a snapshot, by the log that is delivered.
    #[must_use]
    pub fn gaps(&self) -> watch::Receiver<Vec<Gap>> {
        self.log.gaps()
    }

    /// Delivers until a drain is asked for, or the source has ended and each has done what it can, or the last has stopped.
    ///
    /// # Errors
    /// The first that stopped one of them.
    pub async fn run(
        self,
        shutdown: &Shutdown,
        source_ended: &CancellationToken,
    ) -> Result<(), DeliverError> {
        let Sinks { log, sides, idle, readiness, stopped } = self;
        let several = sides.len() > 1;
        let (mut running, mut standing) = (JoinSet::new(), JoinSet::new());
        for side in sides {
            gauge!(names::SINK_STOPPED, "sink" => side.name.clone()).set(0.0);
            let span = if several {
                tracing::info_span!("deliver", sink = side.name)
            } else {
                tracing::Span::none()
            };
            running.spawn(side.run(shutdown.clone(), source_ended.clone()).instrument(span));
        }
        for idle in idle {
            standing.spawn(idle.tell_need(log.clone()));
        }
        let mut first: Option<DeliverError> = None;
        while let Some(ended) = running.join_next().await {
            let (idle, name, result) = match ended {
                Ok(ended) => ended,
                Err(failed) => std::panic::resume_unwind(match failed.try_into_panic() {
                    Ok(panic) => panic,
                    Err(cancelled) => Box::new(cancelled.to_string()),
                }),
            };
            let Err(error) = result else { continue };
            if several {
                gauge!(names::SINK_STOPPED, "sink" => name.clone()).set(1.0);
                stopped.sinks().insert(name.clone(), error.to_string());
                readiness.of_sink(&name).obstacle(lifecycle::SINK, format!("stopped for good: {error}"));
                tracing::error!(sink = name, %error, "this sink is stopped for good, and the log is kept for it");
                standing.spawn(idle.tell_need(log.clone()));
            }
            if error.is_of_the_state_folder() {
                shutdown.request();
                first = first.filter(DeliverError::is_of_the_state_folder);
            }
            first.get_or_insert(error);
        }
        // Also when all ended well: they do so only after the source did.
        shutdown.request();
        first.map_or(Ok(()), Err)
    }
}

impl<C: CursorStore> Idle<C> {
    /// Tells the source for as long as there is anybody to tell.
    async fn tell_need<D: Disk>(self, log: Log<D>) {
        loop {
            match self.store.load() {
                Ok(cursor) => {
                    let needed = log.bytes_needed(cursor.map_or(Seq(0), |cursor| cursor.done()).next());
                    self.pacing.room(log.limits().has_room_beside(needed, &log.space().borrow()));
                }
                // Who moves or syncs a cursor meets it too, and ends the process.
                Err(error) => tracing::warn!(%error, "how much of the log is needed is not known"),
            }
            tokio::time::sleep(TELL_EVERY).await;
        }
    }
}
