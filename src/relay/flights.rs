//! Bulks under way: sent once each by a task of their own, sent again after a backoff for as long as it takes.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::building::Flight;
use super::error::DeliverError;
use crate::backoff::Backoff;
use crate::lifecycle::Readiness;
use crate::metrics::names;
use crate::sink::{BulkError, Disposition, Sink};

/// What a flight brought back.
#[derive(Debug)]
pub struct Landing {
    pub flight: Flight,
    pub attempt: Attempt,
    pub result: Result<Vec<Disposition>, BulkError>,
}

/// How often a flight went out.
#[derive(Debug, Default)]
pub struct Attempt {
    backoff: Backoff,
    /// The engine did not take the whole bulk last time.
    unwell: bool,
}

/// Every bulk between launch and settlement.
pub struct Flights<K> {
    sink: Arc<K>,
    most: usize,
    tasks: JoinSet<Landing>,
    /// Flights that wait for, or try, another answer after the engine gave none.
    unwell: usize,
    /// Flights with items that the engine put off.
    put_off: usize,
    held_bytes: usize,
    launched: u64,
}

impl<K: Sink> Flights<K> {
    #[must_use]
    pub fn new(sink: Arc<K>, most: usize) -> Flights<K> {
        Flights { sink, most, tasks: JoinSet::new(), unwell: 0, put_off: 0, held_bytes: 0, launched: 0 }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Bytes of all bodies.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// A new bulk may go out: the engine takes bulks, and fewer than the most are under way besides those that wait with items
    /// put off.
    #[must_use]
    pub fn may_launch(&self) -> bool {
        // An engine that puts items off (429, most of the time) gets one bulk at a time until it takes them.
        let most = if self.put_off > 0 { 1 } else { self.most };
        self.unwell == 0 && self.tasks.len() - self.put_off < most
    }

    /// Nothing waits to be sent again.
    #[must_use]
    pub fn all_well(&self) -> bool {
        self.unwell == 0 && self.put_off == 0
    }

    /// A new bulk's id, unique in this run.
    pub fn next_opaque_id(&mut self) -> String {
        self.launched += 1;
        self.launched.to_string()
    }

    /// Sends a new bulk.
    pub fn launch(&mut self, flight: Flight) {
        self.spawn(flight, Attempt::default(), Duration::ZERO);
    }

    /// Sends items again that the engine put off.
    pub fn put_off(&mut self, flight: Flight, mut attempt: Attempt) {
        let delay = attempt.backoff.next_delay();
        attempt.unwell = false;
        self.spawn(flight, attempt, delay);
    }

    /// Sends a bulk again that got no dispositions.
    ///
    /// # Errors
    /// Sending again would not help.
    pub fn again(
        &mut self,
        flight: Flight,
        mut attempt: Attempt,
        error: BulkError,
        readiness: &Readiness,
    ) -> Result<(), DeliverError> {
        let mut delay = attempt.backoff.next_delay();
        attempt.unwell = true;
        let text = error.to_string();
        match error {
            BulkError::Definite { reason } => return Err(DeliverError::Sink(reason.into())),
            BulkError::TooLarge { reason } if flight.tickets.len() == 1 => {
                return Err(DeliverError::Sink(
                    format!("one document alone is too large for the search engine: {reason}").into(),
                ));
            }
            BulkError::TooLarge { .. } => {
                let half: Vec<usize> = (0..flight.tickets.len()).collect();
                let (first, second) = half.split_at(half.len() / 2);
                for part in [first, second] {
                    let opaque_id = self.next_opaque_id();
                    self.spawn(flight.select(part, opaque_id), Attempt::default(), Duration::ZERO);
                }
                return Ok(());
            }
            BulkError::Transient { retry_after, .. } => {
                delay = delay.max(retry_after.unwrap_or_default());
            }
            BulkError::Unknown { .. } => {}
        }
        if readiness.obstacle("sink", text.as_str()) {
            tracing::warn!(
                error = text,
                items = flight.tickets.len(),
                "the search engine did not take a bulk; sending it again"
            );
        }
        self.spawn(flight, attempt, delay);
        Ok(())
    }

    /// Waits for the next flight that comes back; for ever while there is none.
    pub async fn next_landing(&mut self) -> Landing {
        match self.tasks.join_next().await {
            Some(Ok(landing)) => {
                self.forget(&landing);
                landing
            }
            // A flight that panicked takes the process along: a daemon is not half alive.
            Some(Err(failed)) => std::panic::resume_unwind(match failed.try_into_panic() {
                Ok(panic) => panic,
                Err(cancelled) => Box::new(cancelled.to_string()),
            }),
            None => std::future::pending().await,
        }
    }

    fn forget(&mut self, landing: &Landing) {
        self.held_bytes -= landing.flight.bulk.body.len();
        if landing.attempt.unwell {
            self.unwell -= 1;
        } else if landing.attempt.backoff.failures() > 0 {
            self.put_off -= 1;
        }
    }

    fn spawn(&mut self, flight: Flight, attempt: Attempt, delay: Duration) {
        self.held_bytes += flight.bulk.body.len();
        if attempt.unwell {
            self.unwell += 1;
        } else if attempt.backoff.failures() > 0 {
            self.put_off += 1;
        }
        let sink = Arc::clone(&self.sink);
        self.tasks.spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let start = Instant::now();
            let result = sink.send(&flight.bulk).await;
            histogram!(names::SINK_BULK_SECONDS).record(start.elapsed().as_secs_f64());
            counter!(names::SINK_BULKS, "outcome" => outcome(&result)).increment(1);
            Landing { flight, attempt, result }
        });
    }
}

fn outcome(result: &Result<Vec<Disposition>, BulkError>) -> &'static str {
    match result {
        Ok(_) => "answered",
        Err(BulkError::Transient { .. }) => "transient",
        Err(BulkError::Unknown { .. }) => "unknown",
        Err(BulkError::TooLarge { .. }) => "too_large",
        Err(BulkError::Definite { .. }) => "definite",
    }
}
