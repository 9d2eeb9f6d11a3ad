//! From the log to the search engine.
//!
//! # Constraints
//!
//! - No change of a document is sent while an older one of it is in flight or of unknown outcome ([`documents`]).
//! - The cursor never passes a change that is not settled ([`outstanding`]).
//! - Memory is bounded: bodies by [`DeliverOptions::held_bytes`], waiting changes by [`DeliverOptions::waiting`], unsettled
//!   actions by [`DeliverOptions::outstanding`]; at a bound reading stops, nothing is dropped.
//! - An engine that is away is waited for without end; an answer that nobody foresaw stops the indexer.
//!
//! # Operation
//!
//! One task reads frames up to *visible*, encodes their actions into the bulk being built, and launches it when it is full, when
//! it has lingered, or at once when nothing is in flight. While rows of a snapshot and changes of the stream come together, changes go before rows: those
//! wait, as places in the log, until a bulk may be launched that has room for them. Each flight is a task of its own that sends one bulk once; what it
//! brings back is judged here. Items that the engine put off go out again alone, a bulk without an answer goes out again as
//! it was, both after a backoff, and what may have been taken without an answer when the engine is at work on it no more.
//!
//! A [sweep](super::sweeps) waits until everything older is answered for; what is newer of the table waits for a TRUNCATE's.
//!
//! [`documents`]: super::documents
//! [`outstanding`]: super::outstanding

#[path = "deliver_cursor.rs"]
mod cursor;
#[path = "deliver_landing.rs"]
mod landing;
#[path = "deliver_opening.rs"]
mod opening;
#[path = "deliver_parked.rs"]
mod parked;
#[path = "deliver_reading.rs"]
mod reading;
#[path = "deliver_replay.rs"]
mod replay;

use std::sync::Arc;

use metrics::counter;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::building::Building;
use super::documents::Documents;
use super::error::DeliverError;
use super::flights::Flights;
use super::learning::{Learning, next_learned};
use super::options::DeliverOptions;
use super::outstanding::Outstanding;
use super::parked_orders::ParkedQueue;
use super::parking::Parking;
use super::progress::Progress;
use super::replay::going::Replays;
use super::replay::orders::ReplayQueue;
use super::retries::Retries;
use super::sizing::Sizing;
use super::sweeps::Sweeps;
use super::tables::Tables;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Seq;
use crate::lifecycle::{Readiness, Shutdown};
use crate::log::record::{HEADER, Kind, SchemaRecord};
use crate::log::{Location, Log, Reader, Visible};
use crate::metrics::names;
use crate::settled::{CursorStore, OwedSweep};
use crate::sink::Sink;
use crate::source::pace::Pacing;

/// Most rows of snapshots that wait for room in a bulk: about 200 bytes each.
const MOST_DEFERRED: usize = 30_000;

/// Everything that the deliver side works on.
pub struct Deliver<K, C, D: Disk, T> {
    log: Log<D>,
    sink: Arc<K>,
    clock: T,
    options: DeliverOptions,
    readiness: Readiness,
    visible: watch::Receiver<Visible>,
    /// Where what was read ends.
    reached: Location,
    pacing: Pacing,
    tables: Tables,
    /// The table that reading waits for.
    learning: Option<Learning>,
    /// The change that reading waits for an index with.
    held: Option<Location>,
    documents: Documents,
    sweeps: Sweeps<K>,
    /// Sweeps that a former run left.
    resumed: Vec<OwedSweep>,
    parking: Parking,
    retries: Retries,
    orders: ParkedQueue,
    replays: Replays<D>,
    replay_orders: ReplayQueue,
    outstanding: Outstanding,
    building: Building,
    /// When the oldest action of the bulk being built was added.
    building_since: Option<Instant>,
    flights: Flights<K>,
    sizing: Sizing,
    /// Ends of transactions not settled yet.
    progress: Progress<C>,
    id: String,
    old_id: String,
    alias: String,
    reread: Vec<u8>,
    collapsed: metrics::Counter,
}

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    /// Loads the cursor and checks it against the log.
    ///
    /// # Errors
    /// The cursor cannot be read, or lies outside the log.
    pub fn open(
        log: Log<D>,
        sink: Arc<K>,
        store: C,
        clock: T,
        options: DeliverOptions,
        readiness: Readiness,
    ) -> Result<Self, DeliverError> {
        let start = log.retained_start();
        let progress = Progress::load(store, start)?;
        let cursor = progress.cursor();
        let visible = log.watch();
        let end = visible.borrow().seq;
        if cursor.seq > end {
            return Err(DeliverError::CursorAhead { cursor: cursor.seq, visible: end });
        }
        if cursor.seq.next() < start {
            return Err(DeliverError::CursorBehind { cursor: cursor.seq, start });
        }
        tracing::info!(sink = options.name, cursor = cursor.seq.0, visible = end.0, "delivering");
        Ok(Deliver {
            tables: Tables::new(cursor.indices.clone(), options.rules.clone()),
            learning: None,
            held: None,
            sizing: Sizing::new(options.bulk_bytes),
            outstanding: Outstanding::new(cursor.seq),
            flights: Flights::new(Arc::clone(&sink), &options, readiness.clone()),
            documents: Documents::default(),
            sweeps: Sweeps::new(Arc::clone(&sink), &options.name, readiness.clone()),
            resumed: cursor.sweeps.clone(),
            parking: Parking::new(&options.name, options.parked, progress.store().parked()?),
            retries: Retries::default(),
            orders: ParkedQueue::none(),
            replays: Replays::new(&options.name, cursor.replay.clone()),
            replay_orders: ReplayQueue::none(),
            building: Building::default(),
            building_since: None,
            id: String::new(),
            old_id: String::new(),
            alias: String::new(),
            reread: Vec::new(),
            collapsed: counter!(names::SINK_COLLAPSED, "sink" => options.name.clone()),
            log,
            sink,
            clock,
            options,
            readiness,
            reached: Location::default(),
            pacing: Pacing::new(visible.clone()),
            visible,
            progress,
        })
    }

    /// With orders for what is parked.
    #[must_use]
    pub fn ordered_by(mut self, orders: ParkedQueue) -> Self {
        self.orders = orders;
        self
    }

    /// With orders for replays.
    #[must_use]
    pub fn replays_ordered_by(mut self, orders: ReplayQueue) -> Self {
        self.replay_orders = orders;
        self
    }

    /// Says by `pacing` how fast rows of snapshots may come.
    #[must_use]
    pub fn paced_by(mut self, pacing: Pacing) -> Self {
        self.pacing = pacing;
        self
    }

    /// Who says how fast rows of snapshots may come.
    #[must_use]
    pub fn pacing(&self) -> Pacing {
        self.pacing.clone()
    }

    /// Delivers until a drain is asked for, then waits for what is in flight within its bound and commits the cursor. Once
    /// `source_ended` is cancelled it ends by itself: when all that the log holds is settled, or nothing was for the drain time.
    ///
    /// # Errors
    /// Whatever waiting would not mend. The cursor is committed first where it can be.
    pub async fn run(
        mut self,
        shutdown: &Shutdown,
        source_ended: &CancellationToken,
    ) -> Result<(), DeliverError> {
        let mut result = tokio::select! {
            biased;
            result = self.work(source_ended) => result,
            () = shutdown.wait() => Ok(()),
        };
        if result.is_ok() {
            result = tokio::time::timeout(self.options.drain, self.drain()).await.unwrap_or_else(|_| {
                tracing::warn!(
                    "the search engine did not answer within the drain time; unsettled changes will be sent again"
                );
                Ok(())
            });
        }
        self.commit()?;
        self.progress.sync()?;
        self.release(&result).await;
        result
    }

    async fn work(&mut self, source_ended: &CancellationToken) -> Result<(), DeliverError> {
        if !self.former_runs_are_over(source_ended).await? {
            return Ok(());
        }
        let mut reader = self.log.reader(self.progress.cursor().seq.next())?;
        let mut tick = tokio::time::interval(self.options.commit_interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_progress = ((Seq::default(), 0), Instant::now());
        loop {
            self.resume_sweep()?;
            self.read_for_replay()?;
            let caught_up = self.fill(&mut reader).await?;
            self.tell_reached();
            let settled = self.outstanding.settled();
            // What has no ticket would be written behind the scan.
            let beside = self.retries.is_under_way() || self.replays.is_under_way();
            let parked = (&mut self.parking, beside);
            for (ticket, owed) in self.sweeps.start(&self.documents, settled, &self.log, parked) {
                // In this order: no cursor passes it that does not owe it.
                self.progress.owe(owed);
                self.outstanding.settle(ticket);
            }
            if source_ended.is_cancelled() {
                let progress = (self.outstanding.settled(), self.sweeps.steps());
                if progress != last_progress.0 {
                    last_progress = (progress, Instant::now());
                }
                let swept = self.sweeps.is_idle() && self.resumed.is_empty();
                let idle = caught_up && swept && self.outstanding.is_empty() && self.retries.is_idle();
                if idle || last_progress.1.elapsed() > self.options.drain {
                    return Ok(());
                }
            }
            let free_at = self.flights.free_at();
            let linger = self.building_since.filter(|_| self.flights.may_launch());
            tokio::select! {
                returned = self.flights.next_returned() => self.returned(returned?)?,
                event = self.sweeps.next_event() => self.swept(event?)?,
                taken = self.orders.next(), if self.retries.is_idle() => self.ordered(taken)?,
                found = self.retries.next_found() => self.found_for_retry(found)?,
                taken = self.replay_orders.next(), if self.replays.takes_orders() => self.replay_ordered(taken)?,
                found = self.replays.next_found() => self.found_for_replay(found)?,
                () = tokio::task::yield_now(), if self.replays.is_eager() => {}
                learned = next_learned(&mut self.learning) => {
                    let learned = learned?;
                    if let Some(learning) = self.learning.take() {
                        self.tables.learned(learning, learned)?;
                        self.note_indices()?;
                    }
                }
                changed = self.visible.changed(), if caught_up => {
                    if changed.is_err() {
                        // The writer is gone: nothing more becomes visible. The tick goes on until the end is asked for.
                        tick.tick().await;
                    }
                }
                () = tokio::time::sleep_until(linger.unwrap_or_else(Instant::now) + self.options.linger), if linger.is_some() => {
                    self.launch();
                }
                () = tokio::time::sleep_until(free_at.unwrap_or_else(Instant::now)), if free_at.is_some() => {}
                _ = tick.tick() => self.commit()?,
            }
        }
    }

    /// Builds and launches bulks until the log has nothing more to read (true) or a bound is reached (false).
    async fn fill(&mut self, reader: &mut Reader<D>) -> Result<bool, DeliverError> {
        self.visible.borrow_and_update();
        let mut worked = 0;
        loop {
            if self.building.weight() >= self.bulk_bytes() {
                if !self.flights.may_launch() {
                    return Ok(false);
                }
                self.launch();
            }
            if !self.may_build() {
                return Ok(false);
            }
            // Building is work for the processor; let the other tasks of this thread have their turn.
            worked += 1;
            if worked % 1024 == 0 {
                self.tell_reached();
                tokio::task::yield_now().await;
            }
            if let Some((index, id, waiting)) = self.documents.next_ready() {
                self.build_waiting(index, id, waiting)?;
                continue;
            }
            if self.build_parked()? {
                continue;
            }
            let may_read = self.may_read();
            if may_read && let Some(at) = self.held.take() {
                self.read_held(at)?;
                continue;
            }
            let frame = if may_read { reader.next_frame()? } else { None };
            let Some(frame) = frame else {
                if self.flights.may_launch()
                    && let Some((index, id, waiting)) = self.documents.next_deferred()
                {
                    self.build_waiting(index, id, waiting)?;
                    continue;
                }
                if may_read && self.build_replayed()? {
                    continue;
                }
                if may_read && !self.building.is_empty() && self.flights.is_empty() {
                    self.launch();
                }
                return Ok(may_read);
            };
            let offset = frame.at.offset + (HEADER + frame.payload.len()) as u64;
            self.reached = Location { offset, ..frame.at };
            if frame.kind == Kind::Schema {
                let record = SchemaRecord::decode(frame.payload)
                    .map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
                let (seq, version) = (frame.seq, frame.version);
                if !self.tables.recall(&record) {
                    let wanted = (record, version);
                    self.learning = self.tables.learn(wanted, &self.sink, &self.readiness)?;
                    if self.learning.is_some() {
                        return Ok(false);
                    }
                }
                self.passed(seq);
            } else {
                self.read(&frame)?;
            }
        }
    }

    /// Rows that wait for room are as good as unread.
    fn tell_reached(&self) {
        let reached = self.documents.first_deferred().unwrap_or(self.reached);
        self.pacing.read(self.log.bytes_ahead(reached), Instant::now().into_std());
    }

    /// What a bulk may have at present.
    fn bulk_bytes(&self) -> usize {
        self.sizing.bulk_bytes().min(self.flights.most_bytes())
    }

    fn may_build(&self) -> bool {
        self.building.held_bytes() < 2 * self.options.bulk_bytes.max(1)
            && self.flights.held_bytes() < self.options.held_bytes
    }

    fn may_read(&self) -> bool {
        self.learning.is_none()
            && !self.sweeps.hold_reading()
            && self.documents.deferred() < MOST_DEFERRED
            && self.outstanding.len() < self.options.outstanding
            && self.documents.waiting() < self.options.waiting
            && self.progress.pending() < self.options.waiting
    }

    fn launch(&mut self) {
        if self.building.is_empty() {
            self.building_since = None;
            return;
        }
        let flight = self.building.take(self.flights.next_opaque_id());
        self.replays.launched();
        self.building_since = None;
        self.sizing.launched(Instant::now());
        self.flights.launch(flight);
    }

    /// Waits for everything in flight, and for the page that each sweep is at; nothing new is read or launched.
    async fn drain(&mut self) -> Result<(), DeliverError> {
        self.sweeps.stop();
        while !self.flights.is_empty() || self.sweeps.is_busy() {
            tokio::select! {
                returned = self.flights.next_returned() => self.returned(returned?)?,
                event = self.sweeps.next_event() => self.swept(event?)?,
            }
        }
        Ok(())
    }
}
