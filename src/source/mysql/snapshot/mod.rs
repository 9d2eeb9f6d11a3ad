//! Snapshots: whole tables, read beside the stream, without a lock and without a write to the source.
//!
//! # Constraints
//!
//! - No row of a chunk is older than what the log holds of it. Be C a chunk, opened when the log holds the transactions P, and A where it is appended. What its SELECT
//!   sees, S, holds all of P: the connection showed them before (*low*). And all of S stands before A in the binlog: where the binlog ended after the last row (*high*) was
//!   passed. Take a row of C, and its key k. If nothing of k came with the stream between opening and A, then every transaction that
//!   touches k is in P, or comes behind A: the row is what P left of k, and that is what k is at A. If something of k came, the row is left out: what came says what k is, and stands in the log.
//!   So it is asked of *every key touched since the chunk was opened, up to the moment of appending*: between *low* and *high* alone would miss what came after the SELECT and
//!   before A, and without the wait for *low* S might lack what the log held already.
//! - A chunk counts with its commit, which says how far the table is read: what is cut off is read again. The stream is never held up by it, and
//!   chunks stand between its transactions alone.
//! - Every chunk in the making is void when the connection ends, when a statement alters the table, when its rows go or come in a way that
//!   no row event shows (TRUNCATE, a gap), and when rows of XA that were held long before count from here on, since the collector did not see their keys.
//!   A gap makes the table begin anew, with versions above it.
//! - At the end, what the log says of every row has a version from the snapshot's beginning on: of rows that were there to be read, by being read or by what the stream said
//!   meanwhile; of others by the stream. A sweep takes the documents that are older.
//! - Memory: of each connection a chunk (*TARGET* usually, [`LARGEST`](chunk::LARGEST) at most, or one row), and the collector's keys.
//!
//! # Operation
//!
//! One table after the other, in the order in which they were wanted. A task cuts it into chunks one behind the other ([`subject`]), others read them ([`chunk`]); they are appended in
//! order, so that one place says how far it is. [`work`](Snapshots::work) does everything that can be done at once, between two transactions;
//! [`news`](Snapshots::news) waits until there is more. What the log knows of snapshots is kept here as it will be with what is in the batches.
//!
//! | file | idea |
//! |---|---|
//! | [`subject`] | a table, and where its chunks end |
//! | [`even`] | ends of chunks that are computed |
//! | [`order`] | places in a key's order |
//! | [`chunk`] | one chunk's rows |
//! | [`touched`] | the key collector |
//! | [`table`] | the table at hand, and its chunks in order |
//! | `tasks` | what is done beside the stream |
//! | [`orders`] | what an operator asks for |
//! | [`replicas`] | whether replicas keep up |
//! | [`gaps`] | what nobody asks for and is needed |

pub mod chunk;
pub mod even;
pub mod gaps;
#[cfg(test)]
mod model_tests;
pub mod order;
pub mod orders;
pub mod replicas;
pub mod subject;
pub mod table;
mod tasks;
pub mod touched;

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backoff::Backoff;
use crate::event::{Op, TableName, TableNo};
use crate::log::Standing;
use crate::log::record::{Batch, Change, Kind, SweepRecord};
use crate::log::snapshot::{Begun, Range, Snapshot, SnapshotNote, SnapshotStep};
use crate::source::orders::{OrderQueue, Taken};
use crate::source::upstream::Upstream;
use crate::source::{Pace, SourceError};

use super::BATCH_BYTES;
use super::binlog::{Binlog, Disturbance};
use super::error::MysqlError;
use super::options::MysqlOptions;
use super::server::Peer;
use chunk::{Session, Unread};
use gaps::Gaps;
use replicas::Replicas;
use subject::Subject;
use table::{Piece, Progress, State, reached};
use tasks::{Done, of_task};
use touched::{Touched, key_of, keys_of};

/// The one range of a table: its chunks are appended in order.
const RANGE: u32 = 0;

/// The snapshots of one source.
#[derive(Debug)]
pub struct Snapshots {
    options: MysqlOptions,
    peer: Peer,
    pace: Pace,
    /// While a table is at hand, where they are to be waited for.
    replicas: Option<Replicas>,
    upstream: watch::Sender<Upstream>,
    orders: OrderQueue,
    taken: Vec<Taken>,
    /// Those that are not over, as the log has them with what is in the batches.
    owed: Vec<Snapshot>,
    gaps: Gaps,
    /// What was read of these does not count any more.
    anew: BTreeSet<TableName>,
    reading: Option<Reading>,
    tasks: JoinSet<Done>,
    done: Vec<Done>,
    idle: Vec<Session>,
    touched: Touched,
    /// What of the batch the collector has seen, bytes; and whether changes of this number are of its table.
    scanned: usize,
    last: Option<(TableNo, bool)>,
    backoff: Backoff,
    /// Nothing is begun before a task says so.
    resting: bool,
}

/// The table at hand.
#[derive(Debug)]
struct Reading {
    table: TableName,
    filter: Option<String>,
    /// `None` while it is described.
    progress: Option<Progress>,
}

impl Snapshots {
    #[must_use]
    pub fn new(options: &MysqlOptions, upstream: watch::Sender<Upstream>) -> Snapshots {
        Snapshots {
            options: options.clone(),
            peer: Peer::default(),
            pace: Pace::free(),
            replicas: None,
            upstream,
            orders: OrderQueue::none(),
            taken: Vec::new(),
            owed: Vec::new(),
            gaps: Gaps::default(),
            anew: BTreeSet::new(),
            reading: None,
            tasks: JoinSet::new(),
            done: Vec::new(),
            idle: Vec::new(),
            touched: Touched::default(),
            scanned: 0,
            last: None,
            backoff: Backoff::new(),
            resting: false,
        }
    }

    /// How fast rows may be added.
    pub fn paced_by(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Where orders come from.
    pub fn ordered_by(&mut self, orders: OrderQueue) {
        self.orders = orders;
    }

    /// A new stream begins, from this server, where the log stands. `there`: the followed tables that the server has.
    pub fn restart(
        &mut self,
        options: &MysqlOptions,
        peer: Peer,
        after: &Standing,
        there: &BTreeSet<TableName>,
    ) {
        self.disconnect();
        self.gaps = Gaps::of(after, there);
        (self.options, self.peer, self.owed) = (options.clone(), peer, after.snapshots.clone());
        let gap = |table: &TableName| after.gaps.iter().any(|gap| gap.table == *table);
        let uncovered = |begun: &Begun| !begun.covers_gap;
        let owed =
            self.owed.iter().filter(|known| known.begun.as_ref().is_some_and(uncovered) && gap(&known.table));
        self.anew = owed.map(|known| known.table.clone()).collect();
    }

    /// Nothing is left at the server, and nothing counts that was not appended.
    pub fn disconnect(&mut self) {
        self.give_up();
        self.idle.clear();
        self.reading = None;
        self.replicas = None;
    }

    /// A new batch begins.
    pub fn begin_batch(&mut self) {
        self.scanned = 0;
        self.taken.extend(self.orders.try_next());
    }

    /// Nobody wants anything.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.owed.is_empty() && self.taken.is_empty()
    }

    /// Waits until there is something to do for [`Snapshots::work`]. Cancel safe.
    pub async fn news(&mut self) {
        let waits = self.wants_to_read() && !self.may_read();
        let Snapshots { tasks, orders, pace, replicas, done, taken, .. } = self;
        tokio::select! {
            Some(ended) = tasks.join_next() => done.push(of_task(ended)),
            order = orders.next() => taken.push(order),
            () = until_may_read(pace, replicas.as_ref()), if waits => {}
        }
    }

    /// Does what can be done at once. The batch ends behind a whole transaction.
    ///
    /// # Errors
    /// A table cannot be read, and trying again would not help.
    pub fn work(&mut self, binlog: &mut Binlog, batch: &mut Batch) -> Result<(), MysqlError> {
        self.want_for_gaps(binlog, batch);
        if self.is_idle() {
            return Ok(());
        }
        self.collect(binlog, batch);
        self.heed(binlog);
        for order in std::mem::take(&mut self.taken) {
            self.order(order, binlog, batch);
        }
        while let Some(ended) = self.tasks.try_join_next() {
            self.done.push(of_task(ended));
        }
        for done in std::mem::take(&mut self.done) {
            self.take_in(done, binlog, batch)?;
        }
        self.append(binlog, batch);
        self.dispatch(binlog);
        Ok(())
    }

    /// Has the collector see what the stream added to the batch.
    pub fn collect(&mut self, binlog: &Binlog, batch: &Batch) {
        let from = std::mem::replace(&mut self.scanned, batch.len());
        let Some(Reading { table, .. }) = self.reading.as_ref().filter(|_| self.touched.is_open()) else {
            return;
        };
        // Rows that were held count from here on, and only the writer sees them.
        let mut void = !batch.decided().is_empty();
        for (kind, payload) in batch.payloads_from(from) {
            match kind {
                Kind::Change => {
                    let touched = &mut self.touched;
                    let read = Change::decode(payload).and_then(|change| {
                        let Some(version) = binlog.known(change.table) else { return Ok(()) };
                        let is_ours = match self.last {
                            Some((known, is_ours)) if known == change.table => is_ours,
                            _ => version.record.schema.name == *table,
                        };
                        self.last = Some((change.table, is_ours));
                        if !is_ours || change.op == Op::Read {
                            return Ok(());
                        }
                        keys_of(change.op, change.row.rest(), &version.record.schema, &mut |key| {
                            touched.touch(key)
                        })
                    });
                    void |= read.is_err();
                }
                Kind::Sweep => {
                    void |= SweepRecord::decode(payload).map_or(true, |sweep| sweep.table == *table)
                }
                _ => {}
            }
        }
        if void || self.touched.has_overflowed() {
            self.void(true);
        }
    }

    /// Gives up everything that tasks do, and every chunk in the making.
    fn give_up(&mut self) {
        self.tasks = JoinSet::new();
        self.done.clear();
        self.touched.clear();
        self.resting = false;
    }

    /// Chunks in the making do not count: they are read again. `smaller`: as more of them, since these took too long or too much.
    fn void(&mut self, smaller: bool) {
        self.give_up();
        let Some(Reading { table, progress, .. }) = &mut self.reading else { return };
        let begun = self.owed.iter().find(|known| known.table == *table);
        match progress {
            Some(progress) => progress.go_back(begun.and_then(reached), smaller),
            // Its description was on its way.
            None => self.describe(),
        }
    }

    /// What the stream did to the table at hand.
    fn heed(&mut self, binlog: &mut Binlog) {
        let Some(disturbance) = binlog.take_disturbance() else { return };
        self.give_up();
        // It is described again.
        let Some(Reading { table, .. }) = self.reading.take() else { return };
        if disturbance == Disturbance::Gap {
            self.anew.insert(table);
        }
    }

    /// Rows may be added, and nobody is to be waited for.
    fn may_read(&self) -> bool {
        self.pace.may_add() && self.replicas.as_ref().is_none_or(Replicas::may_read)
    }

    fn wants_to_read(&self) -> bool {
        let progress = self.reading.as_ref().and_then(|reading| reading.progress.as_ref());
        !self.resting && progress.is_some_and(|progress| progress.may_read(self.options.snapshot.connections))
    }

    /// Takes in what a task came to.
    fn take_in(&mut self, done: Done, binlog: &mut Binlog, batch: &mut Batch) -> Result<(), MysqlError> {
        let session = match done {
            Done::Rested => {
                self.resting = false;
                return Ok(());
            }
            Done::Described(described, session) => {
                match *described {
                    Ok(Some(subject)) => self.described(subject, binlog, batch),
                    Ok(None) => self.gone(binlog, batch),
                    Err(error) => return self.failed(error),
                }
                session
            }
            Done::Cut(Ok(cut), session) => {
                if let Some(progress) = self.progress() {
                    progress.cut(cut);
                }
                session
            }
            Done::Read(number, Ok(rows), session) => {
                self.backoff.reset();
                if let Some(progress) = self.progress() {
                    progress.read(number, rows);
                }
                session
            }
            Done::Cut(Err(error), _) | Done::Read(_, Err(error), _) => return self.failed(error),
        };
        self.idle.extend(session);
        Ok(())
    }

    fn progress(&mut self) -> Option<&mut Progress> {
        self.reading.as_mut()?.progress.as_mut()
    }

    /// A task failed: all chunks in the making are given up, and it is tried again for as long as that may help.
    fn failed(&mut self, error: Unread) -> Result<(), MysqlError> {
        let table = self.reading.as_ref().map(|reading| reading.table.clone()).unwrap_or_default();
        match error {
            Unread::TooMuch => {
                let smallest = self.progress().is_some_and(|progress| progress.is_smallest());
                self.void(true);
                if smallest {
                    tracing::warn!(%table, "one row of a snapshot takes the server longer than a statement may: an index has to begin with the columns of the table's key, `id` in its [[table]] section \
                         if that names it; trying again");
                    self.rest();
                }
            }
            Unread::Changed => {
                self.give_up();
                self.reading = None;
                self.rest();
            }
            Unread::Error(error) => {
                let error = match SourceError::from(error) {
                    SourceError::Definite(error) => {
                        return Err(MysqlError::Unreadable { table, source: error });
                    }
                    SourceError::Transient(error) | SourceError::Garbled(error) => error,
                };
                tracing::warn!(%table, %error, "a snapshot is held up; trying again");
                self.give_up();
                self.reading = None;
                self.idle.clear();
                self.rest();
            }
        }
        Ok(())
    }

    /// The table at hand is known: it begins, or goes on where the log says.
    fn described(&mut self, subject: Subject, binlog: &mut Binlog, batch: &mut Batch) {
        let Some(Reading { table, .. }) = &self.reading else { return };
        let known = self.owed.iter().find(|known| known.table == *table);
        let begun = known.and_then(|known| known.begun.as_ref());
        let after = known.and_then(reached);
        // With another key nothing is known of what was read.
        let goes_on = begun.is_some()
            && !self.anew.contains(table)
            && after.as_ref().is_none_or(|after| subject.order.knows(after));
        let after = after.filter(|_| goes_on);
        let version = binlog.version_of(&subject.schema, &subject.plan);
        if !goes_on {
            tracing::info!(%table, estimated_rows = subject.estimated_rows, again = begun.is_some(), "a snapshot begins");
            let ranges = vec![Range { number: RANGE, after: None, upto: None }];
            let step = SnapshotStep::Begun { ranges, estimated_rows: subject.estimated_rows };
            let note = SnapshotNote { table: table.clone(), step };
            self.anew.remove(table);
            self.note(vec![note], binlog, batch);
        }
        if let Some(reading) = &mut self.reading {
            reading.progress = Some(Progress::new(Arc::new(subject), version, after));
        }
    }

    /// Writes what becomes of snapshots, between two transactions.
    fn note(&mut self, notes: Vec<SnapshotNote>, binlog: &mut Binlog, batch: &mut Batch) {
        self.owes(&notes);
        binlog.note_snapshots(notes, batch);
        self.scanned = batch.len();
    }

    /// Appends the chunks whose turn has come and whose *high* the stream has passed.
    fn append(&mut self, binlog: &mut Binlog, batch: &mut Batch) {
        while batch.len() < BATCH_BYTES {
            let Some(Reading { table, filter, progress: Some(progress), .. }) = &mut self.reading else {
                return;
            };
            let Some(Piece { upto, state, .. }) =
                progress.take_due(|high| high.is_passed_at(binlog.place(), binlog.gtids()))
            else {
                return;
            };
            let State::Read(opened, rows) = state else { return };
            if binlog.version(progress.version, batch).is_none() {
                return;
            }
            let (schema, mut from, mut key) = (&progress.subject.schema, 0, Vec::new());
            for end in &rows.ends {
                let row = rows.bytes.get(std::mem::replace(&mut from, *end)..*end).unwrap_or_default();
                if self.touched.any()
                    && (key_of(row, schema, &mut key).is_err() || self.touched.since(opened, &key))
                {
                    continue;
                }
                let mut change = batch.change(progress.version);
                change.values().extend_from_slice(row);
                change.finish(Op::Read);
            }
            self.touched.close(opened);
            binlog.replaced(rows.replaced);
            let note = |step| SnapshotNote { table: table.clone(), step };
            let ended = upto.is_none();
            let read = rows.ends.len() as u64;
            let mut notes = vec![note(SnapshotStep::Read { range: RANGE, after: upto, rows: read })];
            if ended {
                if filter.is_none() {
                    batch.sweep(&SweepRecord::of_snapshot(table.clone()));
                }
                notes.push(note(SnapshotStep::Ended));
                tracing::info!(%table, "a snapshot is read");
            }
            self.owes(&notes);
            binlog.end_chunk(notes, batch);
            self.scanned = batch.len();
            if ended {
                self.reading = None;
                binlog.observe(None);
            }
        }
    }

    /// Begins what may be begun.
    fn dispatch(&mut self, binlog: &mut Binlog) {
        if self.resting {
            return;
        }
        if self.reading.is_none() {
            let Some(next) = self.owed.iter().find(|known| !known.paused) else {
                self.idle.clear();
                self.replicas = None;
                return;
            };
            if self.replicas.is_none() {
                self.replicas = Replicas::watch(&self.options, &self.upstream);
            }
            binlog.observe(Some(&next.table));
            let (table, filter) = (next.table.clone(), next.filter.clone());
            self.reading = Some(Reading { table, filter, progress: None });
            self.last = None;
            self.describe();
        }
        self.cut();
        self.read(binlog);
    }
}

async fn until_may_read(pace: &Pace, replicas: Option<&Replicas>) {
    if let Some(replicas) = replicas {
        replicas.until_may_read().await;
    }
    pace.until_may_add().await;
}
