//! Rows of XA transactions: held when they come, copied as changes when they count, carried forward when their segment is to go.
//!
//! # Why they are copied
//!
//! Between PREPARE and XA COMMIT the transaction has its rows locked, old and new keys and unique values too, so nobody's change of them stands between in the
//! log; but what was read of them by SELECT may, and that shows them as they were before. Documents need a version above that: those of the
//! copies. And whoever reads the log needs to know nothing of XA: what counts stands where it began to count, and a cursor, a replay or a retention is
//! where it is in one order. It costs the bytes twice.
//!
//! # How
//!
//! Within the transaction that the decision's commit ends: a crash or a cut in the middle leaves nothing of it, and the source sends the decision again. What is held is read from the
//! files, visible or not, in bounded memory. Table numbers are those of the process that wrote them, so schemas, which stand among the rows, give each its number of now.

use std::collections::HashMap;
use std::sync::Arc;

use super::Writer;
use crate::disk::Disk;
use crate::event::codec;
use crate::event::{Seq, TableNo};
use crate::log::error::{Corrupt, ReadError, Step, WriteError};
use crate::log::frame::{self, Problem};
use crate::log::prepared::{Held, Outcome, Prepared, Xa};
use crate::log::record::{Batch, Change, Commit, HEADER, Kind, Position, SchemaRecord, Synced};
use crate::log::scan::{ScanError, Scanner};
use crate::log::segment::{SEGMENT_HEADER, segment_name};
use crate::log::shared::Shared;
use crate::log::standing::Noted;

/// What is copied at once, bytes; small in unit tests, so that copies are cut.
const AT_ONCE: usize = if cfg!(test) { 100 } else { 1 << 20 };

/// What is written of copies before it is synced, bytes.
const UNSYNCED: u64 = 32 << 20;

impl<D: Disk> Writer<D> {
    /// Whether the commit, or what it ends, is about XA transactions.
    #[inline]
    pub(super) fn concerns_xa(&self, commit: &Commit) -> bool {
        !commit.noted.xa.is_empty() || self.open.is_some_and(|open| open.held > 0)
    }

    /// Ends the open transaction with such a commit. Everything before it is written.
    pub(super) fn end_with_xa(&mut self, mut commit: Commit) -> Result<(), WriteError> {
        let (own, changes) = (self.open_held(), self.open.map_or(0, |open| open.changes));
        if changes > 0 {
            return Err(self.misuse("a transaction with changes of its own prepares or decides another"));
        }
        if own.is_some() && commit.noted.xa.len() != 1 {
            return Err(self.misuse("rows are held, and it is not said for which one XA transaction"));
        }
        for xa in &mut commit.noted.xa {
            match xa {
                Xa::Prepared(prepared) => prepared.held = own,
                Xa::Decided { xid, outcome } => {
                    // `XA COMMIT … ONE PHASE` prepares and decides at once.
                    let held = own.or_else(|| self.standing.as_ref()?.held(xid));
                    if let Some(held) = held.filter(|_| *outcome == Outcome::Committed) {
                        self.copy(&held, Kind::Change)?;
                    }
                }
            }
        }
        self.write_commit(commit)
    }

    /// The rows of the open transaction that are held.
    fn open_held(&self) -> Option<Held> {
        let open = self.open.filter(|open| open.held > 0)?;
        let (at, first) = self.end;
        Some(Held { first, at, last: self.next.previous(), rows: open.held, bytes: self.open_bytes() })
    }

    fn write_commit(&mut self, mut commit: Commit) -> Result<(), WriteError> {
        let mut bytes = Vec::new();
        frame::encode(Kind::Commit, &commit, self.next, self.header.salt, &mut bytes);
        if self.written + bytes.len() as u64 > self.log.shared.options.segment_bytes && self.has_content() {
            self.rotate(self.header.base)?;
        }
        if (bytes.len() - HEADER) as u64 > u64::from(self.limit(Kind::Commit)) {
            return Err(self.misuse("a commit is too long"));
        }
        commit.synced = Synced(self.synced.to_le_bytes());
        bytes.clear();
        frame::encode(Kind::Commit, &commit, self.next, self.header.salt, &mut bytes);
        if self.trail.is_due(Kind::Commit, self.written) {
            self.tell(Kind::Commit, self.written);
        }
        self.committed(commit)?;
        self.held_changed = true;
        self.next = self.next.next();
        self.write(&bytes)?;
        self.end_transaction(self.written);
        Ok(())
    }

    /// Appends the rows of `held` again, as `kind`, with the schemas that they need.
    fn copy(&mut self, held: &Held, kind: Kind) -> Result<(), WriteError> {
        let shared = Arc::clone(&self.log.shared);
        let mut frames = HeldFrames::open(&shared, held).map_err(WriteError::held)?;
        let mut numbers = HashMap::new();
        let (mut batch, mut rows) = (Batch::new(), 0);
        while let Some(kind_there) = frames.advance().map_err(WriteError::held)? {
            let unreadable = |error: bincode::error::DecodeError| {
                WriteError::held(frames.corrupt(Problem::Payload(error.to_string())))
            };
            match kind_there {
                // The numbers of tables are a segment's.
                Kind::State => numbers.clear(),
                Kind::Schema => {
                    let mut record = SchemaRecord::decode(frames.payload()).map_err(unreadable)?;
                    let there = record.table;
                    record.table = self.number_of(frames.payload()).map_err(unreadable)?;
                    if !self.tables.contains_key(&record.table) {
                        self.note_schema(&record);
                    }
                    numbers.insert(there, record.table);
                }
                Kind::Prepared => {
                    let change = Change::decode(frames.payload()).map_err(unreadable)?;
                    let number = numbers.get(&change.table).copied();
                    let number = number.ok_or_else(|| WriteError::held(frames.corrupt(Problem::NoSchema)))?;
                    batch.copy(kind, number, &change);
                    rows += 1;
                }
                // Copies of a first phase stand behind them.
                Kind::Change | Kind::Sweep | Kind::Commit | Kind::Mark => {
                    return Err(WriteError::held(frames.corrupt(Problem::Kind(kind_there as u8))));
                }
            }
            if batch.len() >= AT_ONCE {
                self.append_copies(&mut batch)?;
            }
        }
        if rows != held.rows {
            return Err(WriteError::held(frames.corrupt(Problem::EndsEarly)));
        }
        self.append_copies(&mut batch)
    }

    fn append_copies(&mut self, batch: &mut Batch) -> Result<(), WriteError> {
        self.append_frames(batch.bytes_mut())?;
        batch.clear();
        if self.unsynced_bytes() >= UNSYNCED {
            self.sync()?;
        }
        Ok(())
    }

    /// The number that a table's schema, as a frame has it, goes by in this process.
    fn number_of(&self, payload: &[u8]) -> Result<TableNo, bincode::error::DecodeError> {
        let schema = |payload| codec::decode_owned::<TableNo, 16>(payload).map(|(_, schema)| schema);
        let wanted = schema(payload)?;
        let same =
            self.tables.iter().filter(|(_, table)| schema(&table.payload).is_ok_and(|own| own == wanted));
        let known = same.map(|(number, _)| *number).min_by_key(|number| number.0);
        Ok(known.unwrap_or(TableNo(self.copied_table)))
    }

    /// Notes a schema that no source of this process has sent; it is written before its first use.
    fn note_schema(&mut self, record: &SchemaRecord) {
        let mut payload = Vec::new();
        codec::encode(record, &mut payload);
        let table = super::Table { payload: payload.into(), at: Default::default() };
        self.tables.insert(record.table, table);
        self.copied_table = self.copied_table.wrapping_sub(1);
    }

    /// Bytes that a batch's decisions have written again when it is appended.
    #[must_use]
    pub fn owed(&self, batch: &Batch) -> u64 {
        let held = |xid| self.standing.as_ref().and_then(|standing| standing.held(xid));
        let known =
            batch.decided().iter().filter_map(held).map(|held| held.bytes).fold(0, u64::saturating_add);
        if batch.decided().iter().all(|xid| held(xid).is_some()) {
            return known;
        }
        // Of those not prepared before the rows are in the batch, and in the open transaction if that holds some: each once.
        let open = if self.open.is_some_and(|open| open.held > 0) { self.open_bytes() } else { 0 };
        known.saturating_add(open).saturating_add(batch.len() as u64)
    }

    /// Carries forward what retention asked for, between transactions. Returns how many ends of transactions that made.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then.
    pub fn carry_forward(&mut self) -> Result<usize, WriteError> {
        self.health()?;
        if self.open.is_some() || !self.log.shared.held.is_to_be_carried() {
            return Ok(0);
        }
        let result = self.carry_due();
        self.latch(result.as_ref().map(|_| ()).map_err(Clone::clone))?;
        result
    }

    pub(super) fn carry_due(&mut self) -> Result<usize, WriteError> {
        let upto = self.log.shared.held.take_wanted();
        let Some(standing) = &self.standing else { return Ok(0) };
        let below = |prepared: &&Prepared| prepared.held.is_some_and(|held| held.at.segment < upto);
        let mut due: Vec<Prepared> = standing.prepared.iter().filter(below).cloned().collect();
        due.sort_by_key(|prepared| prepared.held.map(|held| held.first));
        let mut ends = 0;
        for prepared in due {
            let Some(held) = prepared.held else { continue };
            // Without room it is asked for again.
            if !self.has_room(held.bytes)? {
                break;
            }
            self.copy(&held, Kind::Prepared)?;
            let commit = Commit {
                synced: Synced::default(),
                // Nothing moves at the source.
                gtid: None,
                time_micros: self.ended.time_micros,
                noted: Noted { xa: vec![Xa::Prepared(prepared)], ..Noted::default() },
                position: Position::default(),
            };
            self.end_with_xa(commit)?;
            ends += 1;
        }
        Ok(ends)
    }

    /// Whether `bytes` more can be written without coming to a limit.
    fn has_room(&mut self, bytes: u64) -> Result<bool, WriteError> {
        let limits = self.log.shared.limits;
        let free = self.log.shared.free_bytes();
        let free = free.map_err(|(step, source)| self.io_in_folder(step, source))?;
        Ok(self.taken().saturating_add(bytes) <= limits.second
            && free >= limits.keep_free.saturating_add(bytes))
    }
}

/// The frames of one transaction that holds rows, visible or not.
struct HeldFrames<'a, D: Disk> {
    shared: &'a Shared<D>,
    segment: Seq,
    scanner: Scanner<D::File>,
    last: Seq,
}

impl<'a, D: Disk> HeldFrames<'a, D> {
    fn open(shared: &'a Shared<D>, held: &Held) -> Result<HeldFrames<'a, D>, ReadError> {
        let segment = shared.segment(held.at.segment)?;
        let limit = shared.bytes_of(held.at.segment);
        // Most are short, and lie in one segment.
        let limit = limit.min(held.at.offset.saturating_add(held.bytes));
        let scanner =
            Scanner::new(Arc::clone(&segment.file), segment.header.salt, held.first, held.at.offset, limit);
        Ok(HeldFrames { shared, segment: held.at.segment, scanner, last: held.last })
    }

    /// Goes on to the next frame; `None` behind the last.
    fn advance(&mut self) -> Result<Option<Kind>, ReadError> {
        while self.scanner.next_seq() <= self.last {
            match self.scanner.advance() {
                Ok(Some(scanned)) => return Ok(Some(scanned.kind)),
                Ok(None) => self.enter_next()?,
                Err(ScanError::Bad(problem)) => return Err(self.corrupt(problem)),
                Err(ScanError::Io(source)) => {
                    let (offset, seq) = (self.scanner.offset(), self.scanner.next_seq());
                    let path = self.shared.dir.join(segment_name(self.segment));
                    return Err(ReadError::Io { step: Step::Read, path, offset, seq, source });
                }
            }
        }
        Ok(None)
    }

    fn enter_next(&mut self) -> Result<(), ReadError> {
        let next = self.shared.following(self.segment).filter(|next| next.first == self.scanner.next_seq());
        let next = next.ok_or_else(|| self.corrupt(Problem::EndsEarly))?;
        let segment = self.shared.segment(next.first)?;
        let limit = self.shared.bytes_of(next.first);
        let file = Arc::clone(&segment.file);
        self.scanner.change_file(file, next.salt, next.first, SEGMENT_HEADER, limit);
        self.segment = next.first;
        Ok(())
    }

    fn payload(&self) -> &[u8] {
        self.scanner.payload()
    }

    /// Of the frame that was come to last.
    fn corrupt(&self, problem: Problem) -> ReadError {
        let path = self.shared.dir.join(segment_name(self.segment));
        let (offset, seq) = (self.scanner.offset(), self.scanner.next_seq());
        Corrupt { path, offset, seq, problem }.into()
    }
}
