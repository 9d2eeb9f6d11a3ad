//! From the source to the log.
//!
//! The log knows where to go on: each connection starts after the position of its last commit, and what an ended
//! connection left of an unfinished transaction is cut off first. Transient errors are tried again without end; the same
//! nonsense from the stream for half a minute in the same place, and every definite error, stops the source. What the log holds is
//! delivered all the same.
//!
//! When the log has no room the connection is closed, since a server that writes to nobody holds a thread and gives up in the end; what was read and
//! not written is read again. The log says when there is room ([`Shortage`]).

use std::error::Error;
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::time::Instant;

use super::committer::{Abandoned, Committer, Gone};
use super::error::IngestError;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::lifecycle::{Readiness, Shutdown};
use crate::log::followed::Follows;
use crate::log::record::{Mark, Position, Synced};
use crate::log::snapshot::{Snapshot, SnapshotNote, SnapshotStep};
use crate::log::{Noted, Shortage, Standing};
use crate::metrics::names;
use crate::source::{Source, SourceError, Start};

/// How often the stream must say what cannot be, in one place, before it is believed.
const GARBLED_LIMIT: u32 = 3;
/// And over how long: what a balancer says while servers change, or a bad moment of a network, has passed by then.
const GARBLED_OVER: Duration = Duration::from_secs(30);
/// What is further apart has nothing to do with each other, however quiet the source.
const GARBLED_APART: Duration = Duration::from_secs(600);

/// The part of the process that says that the log has no room, in [`Readiness`].
pub const NO_ROOM: &str = "log";

/// The source side of a pipeline.
pub struct Ingest<S, T> {
    source: S,
    committer: Committer,
    start: Start,
    clock: T,
    readiness: Readiness,
}

impl<S: Source, T: Clock> Ingest<S, T> {
    #[must_use]
    pub fn new(source: S, committer: Committer, start: Start, clock: T, readiness: Readiness) -> Self {
        Ingest { source, committer, start, clock, readiness }
    }

    /// Streams until a drain is asked for; whatever was queued by then is durable when it returns.
    ///
    /// # Errors
    /// The source's definite error, or the log's.
    pub async fn run(mut self, shutdown: &Shutdown) -> Result<(), IngestError> {
        let ended = self.committer.ended();
        gauge!(names::SOURCE_PAUSED).set(0.0);
        let result = tokio::select! {
            result = self.work() => result,
            () = ended.cancelled() => Err(Stop::Gone),
            () = shutdown.wait() => Ok(()),
        };
        gauge!(names::SOURCE_CONNECTED).set(0.0);
        // The writer's own error explains a queue that is gone.
        self.committer.finish().await?;
        match result {
            Ok(()) | Err(Stop::Gone) => Ok(()),
            Err(Stop::Source(error)) => Err(IngestError::Source(error)),
        }
    }

    async fn work(&mut self) -> Result<(), Stop> {
        let mut backoff = Backoff::new();
        let mut garbled = Garbled::default();
        loop {
            let Abandoned { standing, shortage } = self.committer.abandon().await?;
            if let Some(shortage) = shortage {
                self.pause(&shortage).await?;
                continue;
            }
            let Err(error) = self.stream(standing, &mut backoff).await;
            gauge!(names::SOURCE_CONNECTED).set(0.0);
            let error = match error {
                Trouble::Stop(stop) => return Err(stop),
                Trouble::NoRoom => {
                    self.source.disconnect();
                    continue;
                }
                Trouble::Source(SourceError::Definite(error)) => return Err(Stop::Source(error)),
                Trouble::Source(SourceError::Garbled(error)) => {
                    let Abandoned { standing, shortage } = self.committer.abandon().await?;
                    if garbled.is_believed(standing, Instant::now()) {
                        return Err(Stop::Source(error));
                    }
                    if let Some(shortage) = shortage {
                        self.pause(&shortage).await?;
                    }
                    error
                }
                Trouble::Source(SourceError::Transient(error)) => error,
            };
            let delay = backoff.next_delay();
            counter!(names::SOURCE_RECONNECTS).increment(1);
            if self.readiness.obstacle("source", error.to_string()) {
                tracing::warn!(%error, "the source connection ended; connecting again");
            }
            tokio::time::sleep(delay).await;
        }
    }

    async fn stream(
        &mut self,
        standing: Option<Standing>,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, Trouble> {
        let standing = match standing {
            Some(standing) => standing,
            None => self.begin().await?,
        };
        self.source.connect(&standing).await?;
        gauge!(names::SOURCE_CONNECTED).set(1.0);
        if self.readiness.clear("source") {
            tracing::info!("connected to the source");
        }
        loop {
            let mut batch = self.committer.batch();
            let filled = tokio::select! {
                biased;
                () = self.committer.refused() => return Err(Trouble::NoRoom),
                filled = self.source.fill(&mut batch) => filled,
            };
            if !batch.is_empty() {
                if batch.commits() > 0 {
                    backoff.reset();
                }
                self.committer.append(batch).await?;
            }
            filled?;
        }
    }

    /// Waits until the log has room again.
    async fn pause(&mut self, shortage: &Shortage) -> Result<(), Stop> {
        gauge!(names::SOURCE_PAUSED).set(1.0);
        if self.readiness.obstacle(NO_ROOM, shortage.to_string()) {
            tracing::warn!(reason = %shortage, "the source is paused");
        }
        self.committer.until_over(shortage).await?;
        gauge!(names::SOURCE_PAUSED).set(0.0);
        if self.readiness.clear(NO_ROOM) {
            tracing::info!("the log has room again; going on with the source");
        }
        Ok(())
    }

    /// Gives an empty log its start.
    async fn begin(&mut self) -> Result<Standing, Trouble> {
        let standing = self.source.resolve_start(&self.start).await?;
        let Position { file, offset, .. } = &standing.position;
        tracing::info!(after = %standing.gtids, %file, offset, "the log is empty; starting");
        let wanted = standing.snapshots.iter().map(|Snapshot { table, filter, .. }| SnapshotNote {
            table: table.clone(),
            step: SnapshotStep::Wanted { filter: filter.clone() },
        });
        let from_now = matches!(self.start, Start::Now | Start::Snapshot);
        let patterns = standing.followed.patterns.clone();
        let follows = Some(Follows { patterns, ..Follows::default() });
        let follows = follows.filter(|follows| !follows.patterns.is_empty());
        let mut batch = self.committer.batch();
        batch.mark(&Mark {
            synced: Synced::default(),
            gtids: standing.gtids.clone(),
            // Whatever comes after an earlier start is older than now.
            time_micros: match standing.time_micros {
                0 if from_now => self.clock.wall_micros(),
                micros => micros,
            },
            position: standing.position.clone(),
            noted: Noted { snapshots: wanted.collect(), follows, ..Noted::default() },
        });
        self.committer.append(batch).await?;
        Ok(standing)
    }
}

/// Nonsense from the stream, counted by place.
#[derive(Default)]
struct Garbled {
    place: Option<Standing>,
    times: u32,
    /// When it was said first and last.
    between: Option<(Instant, Instant)>,
}

impl Garbled {
    /// Takes in that it was said again, at `place` and `now`; true once trying again would not help.
    fn is_believed(&mut self, place: Option<Standing>, now: Instant) -> bool {
        let since = self.between.filter(|(_, last)| self.place == place && now - *last <= GARBLED_APART);
        if since.is_none() {
            (self.place, self.times) = (place, 0);
        }
        let first = since.map_or(now, |(first, _)| first);
        self.between = Some((first, now));
        self.times += 1;
        self.times >= GARBLED_LIMIT && now - first >= GARBLED_OVER
    }
}

enum Stop {
    Gone,
    Source(Box<dyn Error + Send + Sync>),
}

enum Trouble {
    Stop(Stop),
    /// The log has no room for what was read.
    NoRoom,
    Source(SourceError),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<Gone> for Trouble {
    fn from(gone: Gone) -> Trouble {
        Trouble::Stop(gone.into())
    }
}

impl From<SourceError> for Trouble {
    fn from(error: SourceError) -> Trouble {
        Trouble::Source(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_50_nonsense_is_believed_when_it_is_said_in_one_place_for_half_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let place = || Some(Standing::after("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7".parse().unwrap()));
        let other = || Some(Standing::default());
        let mut garbled = Garbled::default();
        for second in [0, 1, 3, 7, 15, 29] {
            assert!(!garbled.is_believed(place(), at(second)), "{second}");
        }
        assert!(garbled.is_believed(place(), at(31)));
        assert!(!garbled.is_believed(other(), at(32)), "another place");
        assert!(!garbled.is_believed(other(), at(50)));
        assert!(!garbled.is_believed(other(), at(1000)), "too long ago");
        assert!(!garbled.is_believed(other(), at(1040)), "twice is chance");
        assert!(garbled.is_believed(other(), at(1041)));
    }
}
