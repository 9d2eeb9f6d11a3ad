//! Bulks under way: sent once each by a task of their own, sent again after a backoff for as long as it takes.
//!
//! A bulk of unknown outcome is not sent again before the engine is at work on it no more: it would be applied once more at any later time, behind a newer
//! change of a document that was deleted meanwhile and whose version the engine has forgotten. So it is asked for its tasks until none bears the bulk's id;
//! twice, since what had arrived when the connection ended becomes a task a moment later. Where the engine does not tell, it has as long as
//! [`DeliverOptions::quarantine`]. All its documents stay in flight; those of other bulks go on as soon as the engine answers anything, one bulk at a time.

use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, histogram};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::building::Flight;
use super::ceiling::Ceiling;
use super::concurrency::{self, Concurrency};
use super::error::DeliverError;
use super::options::DeliverOptions;
use crate::backoff::Backoff;
use crate::lifecycle::Readiness;
use crate::metrics::names;
use crate::sink::{BulkError, Disposition, Sink, SinkError, UnderWay, Whose};

/// A bulk may have as much however many are under way, bytes.
const LEAST: usize = 256 << 10;

/// What lies at least between two answers of the engine that it is at work on a bulk no more.
const LOOKS_APART: Duration = Duration::from_secs(1);

/// What came back of one task.
#[derive(Debug)]
pub enum Returned {
    Landing(Landing),
    /// Nothing landed; whether new bulks may go out may have changed.
    Looked,
}

/// What a flight brought back.
#[derive(Debug)]
pub struct Landing {
    pub flight: Flight,
    pub attempt: Attempt,
    pub result: Result<Vec<Disposition>, BulkError>,
    /// From sending to the end of the answer.
    pub took: Duration,
}

/// How often a flight went out, and what came of the last time.
#[derive(Debug, Default)]
pub struct Attempt {
    backoff: Backoff,
    last: Last,
}

/// What came of a flight's last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    /// There was none.
    #[default]
    None,
    /// The engine put its items off.
    PutOff,
    /// The engine did not take the whole bulk, or has answered nothing since.
    Unwell,
    /// The outcome is unknown, and the engine has answered since.
    Unknown,
}

/// A flight of unknown outcome.
#[derive(Debug)]
struct Lost {
    flight: Flight,
    attempt: Attempt,
    since: Instant,
    why: String,
    looks: Backoff,
    /// When the engine said first that it is at work on it no more.
    over: Option<Instant>,
}

/// What a task brings back.
enum Leg {
    Sent(Landing),
    Looked(Box<Lost>, Result<UnderWay, SinkError>),
}

/// Every bulk between launch and settlement.
pub struct Flights<K> {
    sink: Arc<K>,
    /// The sink's name.
    name: String,
    concurrency: Concurrency,
    in_flight_bytes: usize,
    ceiling: Ceiling,
    quarantine: Duration,
    readiness: Readiness,
    tasks: JoinSet<Leg>,
    /// Flights that wait for, or try, another answer after the engine gave none.
    unwell: usize,
    /// Flights with items that the engine put off.
    put_off: usize,
    /// Flights of unknown outcome, the engine having answered since.
    unknown: usize,
    held_bytes: usize,
    launched: u64,
}

impl<K: Sink> Flights<K> {
    #[must_use]
    pub fn new(sink: Arc<K>, options: &DeliverOptions, readiness: Readiness) -> Flights<K> {
        Flights {
            sink,
            name: options.name.clone(),
            concurrency: Concurrency::new(options.in_flight),
            in_flight_bytes: options.in_flight_bytes,
            ceiling: Ceiling::new(options.bytes_per_second),
            quarantine: options.quarantine,
            readiness,
            tasks: JoinSet::new(),
            unwell: 0,
            put_off: 0,
            unknown: 0,
            held_bytes: 0,
            launched: 0,
        }
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

    /// A new bulk may go out: the engine takes bulks, and fewer than may be are under way besides those that wait with items
    /// put off or for the end of a request.
    #[must_use]
    pub fn may_launch(&self) -> bool {
        // An engine that puts items off (429, most of the time), or does not answer in time, gets one bulk at a time until it takes them.
        let waiting = self.put_off + self.unknown;
        let most = if waiting > 0 { 1 } else { self.concurrency.limit() };
        self.unwell == 0 && self.tasks.len() - waiting < most && self.free_at().is_none()
    }

    /// When the next bulk may go out for the ceiling's sake, if it may not yet.
    #[must_use]
    pub fn free_at(&self) -> Option<Instant> {
        self.ceiling.free_at(Instant::now())
    }

    /// How many bulks may be under way.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.concurrency.limit()
    }

    /// What a new bulk may have, bytes.
    #[must_use]
    pub fn most_bytes(&self) -> usize {
        (self.in_flight_bytes / self.concurrency.limit()).max(LEAST).min(self.ceiling.most())
    }

    /// The engine answered for a bulk; `usual`: what a bulk may have at present, bytes.
    pub fn answered(&mut self, flight: &Flight, took: Duration, usual: usize) {
        let bytes = flight.bulk.body.len();
        // It is counted no more.
        let is_full = flight.weight() >= usual / 2 && self.tasks.len() + 1 >= self.concurrency.limit();
        let work = concurrency::work(bytes, flight.tickets.len());
        self.concurrency.answered(work, took, is_full, Instant::now());
    }

    /// Nothing waits to be sent again.
    #[must_use]
    pub fn all_well(&self) -> bool {
        self.unwell + self.put_off + self.unknown == 0
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
        self.concurrency.refused(self.tasks.len());
        attempt.last = Last::PutOff;
        self.spawn(flight, attempt, delay);
    }

    /// Sends a bulk again that got no dispositions.
    ///
    /// # Errors
    /// Sending again would not help.
    pub fn again(
        &mut self,
        mut flight: Flight,
        mut attempt: Attempt,
        error: BulkError,
    ) -> Result<(), DeliverError> {
        let mut delay = attempt.backoff.next_delay();
        attempt.last = Last::Unwell;
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
                self.concurrency.refused(self.tasks.len());
                delay = delay.max(retry_after.unwrap_or_default());
            }
            BulkError::Unknown { reason } => {
                self.concurrency.refused(self.tasks.len());
                self.lost(Lost {
                    flight,
                    attempt,
                    since: Instant::now(),
                    why: reason,
                    looks: Backoff::new(),
                    over: None,
                });
                return Ok(());
            }
        }
        if self.readiness.obstacle("sink", text.as_str()) {
            tracing::warn!(
                error = text,
                items = flight.tickets.len(),
                "the search engine did not take a bulk; sending it again"
            );
        }
        flight.bulk.opaque_id = self.next_opaque_id();
        self.spawn(flight, attempt, delay);
        Ok(())
    }

    /// Begins to ask after a bulk of unknown outcome.
    fn lost(&mut self, mut lost: Lost) {
        let delay = lost.looks.next_delay();
        tracing::warn!(
            reason = lost.why,
            items = lost.flight.tickets.len(),
            "the outcome of a bulk is unknown; it is sent again when the search engine is at work on it no more"
        );
        self.tell(&lost, "it has yet to say");
        self.look(lost, delay);
    }

    /// What is waited for, and for how long so far.
    fn tell(&self, lost: &Lost, said: &str) {
        let Lost { flight, since, why, .. } = lost;
        let (items, seconds) = (flight.tickets.len(), since.elapsed().as_secs());
        self.readiness.obstacle(
            "sink",
            format!(
                "the outcome of a bulk of {items} documents is unknown ({why}); waiting for {seconds} s until the engine is at \
                 work on it no more: {said}"
            ),
        );
    }

    /// What the engine says of a bulk of unknown outcome.
    ///
    /// # Errors
    /// Asking again would not help.
    fn looked(&mut self, mut lost: Lost, said: Result<UnderWay, SinkError>) -> Result<(), DeliverError> {
        let mut delay = LOOKS_APART;
        lost.attempt.last = if said.is_ok() { Last::Unknown } else { Last::Unwell };
        if said.is_ok() {
            lost.looks.reset();
        }
        match said {
            Err(SinkError::Definite(error)) => return Err(DeliverError::Sink(error)),
            Err(SinkError::Transient(error)) => {
                delay = lost.looks.next_delay();
                self.tell(&lost, &error.to_string());
            }
            Ok(UnderWay::Nothing) if lost.over.is_some_and(|over| over.elapsed() >= LOOKS_APART) => {
                self.resend(lost);
                return Ok(());
            }
            Ok(UnderWay::Nothing) => {
                lost.over.get_or_insert_with(Instant::now);
                self.tell(&lost, "no task of it is left, to be confirmed");
            }
            Ok(UnderWay::Tasks(tasks)) => {
                lost.over = None;
                self.tell(&lost, &format!("{tasks} tasks of it are left"));
            }
            Ok(UnderWay::Untold(why)) => {
                let left = self.quarantine.saturating_sub(lost.since.elapsed());
                if left.is_zero() {
                    self.resend(lost);
                    return Ok(());
                }
                delay = left;
                let all = self.quarantine.as_secs();
                self.tell(&lost, &format!("it does not tell ({why}), and has {all} s in all"));
            }
        }
        self.look(lost, delay);
        Ok(())
    }

    /// Sends a bulk again that the engine is at work on no more; by another id, so that the two are told apart.
    fn resend(&mut self, lost: Lost) {
        let Lost { mut flight, attempt, .. } = lost;
        flight.bulk.opaque_id = self.next_opaque_id();
        self.spawn(flight, attempt, Duration::ZERO);
    }

    /// Waits for the next task that comes back; for ever while there is none. Cancel safe.
    ///
    /// # Errors
    /// Going on would not help.
    pub async fn next_returned(&mut self) -> Result<Returned, DeliverError> {
        match self.tasks.join_next().await {
            Some(Ok(Leg::Sent(landing))) => {
                self.forget(&landing.flight, &landing.attempt);
                Ok(Returned::Landing(landing))
            }
            Some(Ok(Leg::Looked(lost, said))) => {
                self.forget(&lost.flight, &lost.attempt);
                self.looked(*lost, said).map(|()| Returned::Looked)
            }
            // A flight that panicked takes the process along: a daemon is not half alive.
            Some(Err(failed)) => std::panic::resume_unwind(match failed.try_into_panic() {
                Ok(panic) => panic,
                Err(cancelled) => Box::new(cancelled.to_string()),
            }),
            None => std::future::pending().await,
        }
    }

    /// How many flights there are of which the last time went like this.
    fn count(&mut self, last: Last) -> Option<&mut usize> {
        match last {
            Last::None => None,
            Last::PutOff => Some(&mut self.put_off),
            Last::Unwell => Some(&mut self.unwell),
            Last::Unknown => Some(&mut self.unknown),
        }
    }

    fn remember(&mut self, flight: &Flight, attempt: &Attempt) {
        self.held_bytes += flight.bulk.body.len();
        if let Some(count) = self.count(attempt.last) {
            *count += 1;
        }
    }

    fn forget(&mut self, flight: &Flight, attempt: &Attempt) {
        self.held_bytes -= flight.bulk.body.len();
        if let Some(count) = self.count(attempt.last) {
            *count -= 1;
        }
    }

    fn look(&mut self, lost: Lost, delay: Duration) {
        self.remember(&lost.flight, &lost.attempt);
        let sink = Arc::clone(&self.sink);
        self.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            let said = sink.under_way(Whose::Bulk(&lost.flight.bulk.opaque_id)).await;
            Leg::Looked(Box::new(lost), said)
        });
    }

    fn spawn(&mut self, flight: Flight, attempt: Attempt, delay: Duration) {
        self.remember(&flight, &attempt);
        self.ceiling.sent(flight.bulk.body.len(), Instant::now());
        let (sink, name) = (Arc::clone(&self.sink), self.name.clone());
        self.tasks.spawn(async move {
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let start = Instant::now();
            let result = sink.send(&flight.bulk).await;
            let took = start.elapsed();
            histogram!(names::SINK_BULK_SECONDS, "sink" => name.clone()).record(took.as_secs_f64());
            counter!(names::SINK_BULKS, "outcome" => outcome(&result), "sink" => name).increment(1);
            Leg::Sent(Landing { flight, attempt, result, took })
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
