//! Append and abandon.
//!
//! A batch's frames are completed in place and written from where they lie, up to a rotation or a repeated schema in one write.
//! What was appended becomes visible when it is synced, up to the last commit or mark.
//!
//! A failed write or sync is latched. After a failed fdatasync the kernel may call the pages clean that it could not write, so a second
//! one would succeed and mean nothing (and the file's state is only known once it is read again).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{Step, WriteError};
use super::frame::{self, Head, MAX_PAYLOAD};
use super::index::{Point, Trail};
use super::record::{Batch, Commit, HEADER, Kind, Mark, SchemaRecord, SweepRecord};
use super::segment::{SegmentHeader, segment_name};
use super::shared::Log;
use super::{Location, Standing, Visible};
use crate::disk::{Disk, DiskFile};
use crate::event::{GtidSet, Seq, TableNo, Version};

mod admit;
mod held;
mod segments;
mod sync;

use admit::Sealed;
use sync::Pending;
pub use sync::Syncing;

/// The one that appends.
pub struct Writer<D: Disk> {
    log: Log<D>,
    now: Box<dyn Fn() -> u64 + Send>,
    /// The segment that is written, and up to which offset it is written and synced.
    header: SegmentHeader,
    file: Arc<D::File>,
    written: u64,
    synced: u64,
    /// The next frame's number.
    next: Seq,
    /// The highest version that was to be outranked.
    outranked: Version,
    standing: Option<Standing>,
    /// As the next segment's state will have it.
    latest_micros: u64,
    open: Option<Open>,
    /// Where the last whole transaction, or the state after it, ends: what [`Writer::abandon`] cuts back to.
    end: (Location, Seq),
    /// What becomes visible with the next sync.
    ended: Visible,
    /// An XA transaction was prepared, decided or carried forward since that was last to become visible.
    held_changed: bool,
    /// A sync that was begun and not taken in yet.
    pending: Option<Pending<D::File>>,
    tables: HashMap<TableNo, Table>,
    /// The number that the next schema gets which no source of this process has sent: counted down, so that it is no source's.
    copied_table: u32,
    /// Kind and table of the row before: most often those of the next.
    last_table: Option<(Kind, TableNo)>,
    trail: Trail,
    sealed: Sealed,
    failed: Option<WriteError>,
    _lock: D::Lock,
}

/// What an opened log starts writing with.
pub(super) struct Start<F> {
    pub header: SegmentHeader,
    pub file: F,
    pub bytes: u64,
    pub standing: Option<Standing>,
    pub latest_micros: u64,
    pub visible: Visible,
}

/// The transaction being written.
#[derive(Clone, Copy)]
struct Open {
    since: Seq,
    /// Rows of it that count with its commit.
    changes: u64,
    /// Rows of it that an XA transaction holds.
    held: u64,
}

/// A table's schema, and where it was written last.
struct Table {
    payload: Box<[u8]>,
    at: Location,
}

impl<D: Disk> Writer<D> {
    pub(super) fn start(
        log: Log<D>,
        start: Start<D::File>,
        now: Box<dyn Fn() -> u64 + Send>,
        lock: D::Lock,
    ) -> Writer<D> {
        let Start { header, file, bytes, standing, latest_micros, visible } = start;
        let next = header.first.next();
        Writer {
            log,
            now,
            header,
            file: Arc::new(file),
            written: bytes,
            synced: bytes,
            next,
            outranked: Version(0),
            standing,
            latest_micros,
            open: None,
            end: (Location { segment: header.first, offset: bytes }, next),
            ended: visible,
            held_changed: false,
            pending: None,
            tables: HashMap::new(),
            copied_table: u32::MAX,
            last_table: None,
            trail: Trail::new(header.first),
            sealed: Sealed::default(),
            failed: None,
            _lock: lock,
        }
    }

    /// Everything committed so far, synced or not; `None` for a log that was never given a start by a [`Mark`].
    #[must_use]
    pub fn position(&self) -> Option<&GtidSet> {
        self.standing.as_ref().map(|standing| &standing.gtids)
    }

    /// What the log knows of its source behind all that was committed, synced or not; `None` as for [`Writer::position`].
    #[must_use]
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_ref()
    }

    /// The number of the next frame.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// The version that the next frame would have. A document written by somebody with this version or a higher one is outranked by
    /// [`Writer::outrank`].
    #[must_use]
    pub fn next_version(&self) -> Version {
        self.header.version(self.next)
    }

    /// The number of the last commit or mark, durable or not.
    #[must_use]
    pub fn ended(&self) -> Seq {
        self.ended.seq
    }

    /// Whether what was appended ends inside a transaction.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The error that stopped the writer.
    ///
    /// # Errors
    /// That error.
    pub fn health(&self) -> Result<(), WriteError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Writes the batch's frames and leaves it empty. Nothing of it is durable or visible before [`Writer::sync`].
    ///
    /// A change whose table has no schema in the segment yet gets it written before it; the schema itself must have come in this or an
    /// earlier batch since the log was opened.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then.
    pub fn append(&mut self, batch: &mut Batch) -> Result<(), WriteError> {
        self.health()?;
        let result = self.append_frames(batch.bytes_mut());
        batch.clear();
        self.latch(result)
    }

    /// Cuts the open transaction, if there is one, back to the last commit or mark. The position does not change: it moves with
    /// commits and marks alone.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then.
    pub fn abandon(&mut self) -> Result<(), WriteError> {
        self.health()?;
        if self.open.is_none() {
            return Ok(());
        }
        self.settle()?;
        let result = self.cut_open();
        self.latch(result)
    }

    /// Makes every version from now on higher than `bound`, by a new segment with a higher base.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then.
    pub fn outrank(&mut self, bound: Version) -> Result<(), WriteError> {
        self.health()?;
        self.outranked = self.outranked.max(bound);
        let result = self.rise();
        self.latch(result)
    }

    /// Begins a new segment if the next version would not be above all that was to be outranked.
    fn rise(&mut self) -> Result<(), WriteError> {
        let bound = self.outranked;
        if self.next_version() > bound {
            return Ok(());
        }
        // The new segment's state takes the next number.
        self.rotate(bound.0.saturating_add(1).saturating_sub(self.next.0).max(self.header.base))
    }

    fn latch(&mut self, result: Result<(), WriteError>) -> Result<(), WriteError> {
        self.failed = result.as_ref().err().cloned();
        result
    }

    fn append_frames(&mut self, bytes: &mut [u8]) -> Result<(), WriteError> {
        // Frames in `from..at` are complete and not yet written.
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            let head = Head::read(&bytes[at..]);
            let kind = Kind::from_byte(head.kind).ok_or_else(|| self.misuse("it has no kind"))?;
            let length = u64::from(head.length) + HEADER as u64;
            if head.length > self.limit(kind) {
                return Err(self.too_large(kind, head.length, &bytes[at + HEADER..]));
            }
            let offset = self.written + (at - from) as u64;
            if offset + length > self.log.shared.options.segment_bytes && self.has_content() {
                self.write(&bytes[from..at])?;
                from = at;
                self.rotate(self.header.base)?;
            }
            let end = at + HEADER + head.length as usize;
            let payload =
                bytes.get(at + HEADER..end).ok_or_else(|| self.misuse("its batch ends inside it"))?;
            if matches!(kind, Kind::Change | Kind::Prepared) {
                let table = frame::table_of(payload).ok_or_else(|| self.misuse("it names no table"))?;
                if self.last_table != Some((kind, table)) {
                    if !self.has_schema(table, kind)? {
                        self.write(&bytes[from..at])?;
                        from = at;
                        self.repeat_schema(table)?;
                    }
                    self.last_table = Some((kind, table));
                }
            } else if kind == Kind::Commit {
                let commit = Commit::decode(payload).map_err(|_| self.misuse("it is no commit"))?;
                if self.concerns_xa(&commit) {
                    self.write(&bytes[from..at])?;
                    self.end_with_xa(commit)?;
                    (from, at) = (end, end);
                    continue;
                }
                self.committed(commit)?;
            }
            let at_offset = self.written + (at - from) as u64;
            let frame = &mut bytes[at..end];
            self.note(kind, frame, at_offset)?;
            if self.trail.is_due(kind, at_offset) {
                self.tell(kind, at_offset);
            }
            frame::seal(frame, self.next, self.header.salt);
            self.next = self.next.next();
            at = end;
            if matches!(kind, Kind::Commit | Kind::Mark) {
                self.end_transaction(self.written + (at - from) as u64);
                if self.log.shared.held.is_to_be_carried() {
                    self.write(&bytes[from..at])?;
                    from = at;
                    self.carry_due()?;
                }
            }
        }
        self.write(&bytes[from..])
    }

    /// Longest payload of a frame, bytes.
    fn limit(&self, kind: Kind) -> u32 {
        let limit = match kind {
            Kind::Change | Kind::Prepared => self.log.shared.options.max_frame_bytes,
            _ => super::record::DECODE_LIMIT as u64,
        };
        u32::try_from(limit).map_or(MAX_PAYLOAD, |limit| limit.min(MAX_PAYLOAD))
    }

    /// Whether the segment holds a frame besides its state.
    fn has_content(&self) -> bool {
        self.next > self.header.first.next()
    }

    /// Takes in what the frame means that will begin at `offset`, before it is completed.
    #[inline]
    fn note(&mut self, kind: Kind, frame: &mut [u8], offset: u64) -> Result<(), WriteError> {
        match kind {
            Kind::Change => self.open_now().changes += 1,
            Kind::Sweep => {
                self.set_below(frame)?;
                self.open_now().changes += 1;
            }
            Kind::Prepared => self.open_now().held += 1,
            Kind::Schema => {
                let record = SchemaRecord::decode(&frame[HEADER..]);
                let record = record.map_err(|_| self.misuse("it is no schema"))?;
                let at = Location { segment: self.header.first, offset };
                let payload = frame[HEADER..].into();
                self.tables.insert(record.table, Table { payload, at });
                self.open_now();
            }
            // It was taken in before.
            Kind::Commit => self.set_synced(frame)?,
            Kind::Mark => {
                if self.open.is_some_and(|open| open.changes + open.held > 0) {
                    return Err(self.misuse("a mark stands inside a transaction"));
                }
                self.set_synced(frame)?;
                let mark = Mark::decode(&frame[HEADER..]).map_err(|_| self.misuse("it is no mark"))?;
                if mark.time_micros > 0 {
                    self.ended.time_micros = mark.time_micros;
                }
                let anew = mark.noted.follows.as_ref().is_some_and(|follows| follows.anew);
                self.held_changed |= anew || !mark.noted.xa.is_empty();
                let version = self.next_version();
                self.standing.get_or_insert_default().marked(mark, version);
            }
            Kind::State => return Err(self.misuse("a state stands in a batch")),
        }
        Ok(())
    }

    /// The open transaction, which begins here if there is none.
    fn open_now(&mut self) -> &mut Open {
        self.open.get_or_insert(Open { since: self.next, changes: 0, held: 0 })
    }

    /// Takes in what a commit means.
    fn committed(&mut self, commit: Commit) -> Result<(), WriteError> {
        let version = self.next_version();
        let Some(standing) = &mut self.standing else {
            return Err(self.misuse("a commit stands in a log that no mark has given a start"));
        };
        self.ended.time_micros = commit.time_micros;
        standing.committed(commit, version);
        Ok(())
    }

    /// Up to where a sweep goes.
    fn set_below(&self, frame: &mut [u8]) -> Result<(), WriteError> {
        let record = SweepRecord::decode(&frame[HEADER..]).map_err(|_| self.misuse("it is no sweep"))?;
        let begun = |standing: &Standing| standing.snapshot_since(&record.table);
        let below = match record.of_snapshot {
            false => self.next_version(),
            true => self.standing.as_ref().and_then(begun).ok_or_else(|| {
                self.misuse("it is the sweep of a snapshot that has not begun, or is of some rows only")
            })?,
        };
        frame[HEADER..HEADER + 8].copy_from_slice(&below.0.to_le_bytes());
        Ok(())
    }

    fn set_synced(&self, frame: &mut [u8]) -> Result<(), WriteError> {
        let field = frame.get_mut(HEADER..HEADER + 8);
        field.ok_or_else(|| self.misuse("it is too short"))?.copy_from_slice(&self.synced.to_le_bytes());
        Ok(())
    }

    /// A commit or mark, the frame before `next`, ends at `offset`.
    fn end_transaction(&mut self, offset: u64) {
        if self.open.take().is_some_and(|open| open.held > 0) {
            // The next rows that are held need their schemas among them.
            self.last_table = None;
        }
        self.latest_micros = self.latest_micros.max(self.ended.time_micros);
        let end = Location { segment: self.header.first, offset };
        self.end = (end, self.next);
        self.ended.seq = self.next.previous();
        self.ended.end = end;
        self.ended.commits += 1;
    }

    /// Whether the table's schema is in this segment already; for a row that is held, among those that are held with it: they are read
    /// alone when they count.
    fn has_schema(&self, table: TableNo, kind: Kind) -> Result<bool, WriteError> {
        let unknown = || self.misuse("it changes a table whose schema was not sent since the log was opened");
        let table = self.tables.get(&table).ok_or_else(unknown)?;
        let (begun, _) = self.end;
        Ok(table.at.segment == self.header.first && (kind == Kind::Change || table.at >= begun))
    }

    fn tell(&mut self, kind: Kind, offset: u64) {
        self.log.shared.tell(&mut self.trail, kind, Point { seq: self.next, offset });
    }

    fn repeat_schema(&mut self, table: TableNo) -> Result<(), WriteError> {
        self.tell(Kind::Schema, self.written);
        let mut bytes = Vec::new();
        if let Some(table) = self.tables.get_mut(&table) {
            frame::copy(Kind::Schema, &table.payload, self.next, self.header.salt, &mut bytes);
            table.at = Location { segment: self.header.first, offset: self.written };
        }
        self.open_now();
        self.next = self.next.next();
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all_at(bytes, self.written);
        written.map_err(|e| self.io(Step::Write, e))?;
        self.written += bytes.len() as u64;
        self.ended.bytes += bytes.len() as u64;
        self.set_length();
        Ok(())
    }

    fn set_length(&self) {
        if let Some(last) = self.log.shared.segments().last_mut() {
            last.bytes = self.written;
        }
    }

    fn path(&self) -> PathBuf {
        self.log.shared.dir.join(segment_name(self.header.first))
    }

    fn io(&self, step: Step, source: io::Error) -> WriteError {
        WriteError::Io { step, path: self.path(), source: Arc::new(source) }
    }

    fn misuse(&self, why: &'static str) -> WriteError {
        WriteError::Misuse { seq: self.next, why }
    }

    fn too_large(&self, kind: Kind, length: u32, payload: &[u8]) -> WriteError {
        let table = frame::table_of(payload).filter(|_| kind == Kind::Change);
        let schema = table.and_then(|table| SchemaRecord::decode(&self.tables.get(&table)?.payload).ok());
        let table = match schema {
            Some(record) => record.schema.name.to_string(),
            None => format!("a {kind:?} frame"),
        };
        WriteError::TooLarge { table, bytes: u64::from(length), limit: u64::from(self.limit(kind)) }
    }
}

impl<D: Disk> fmt::Debug for Writer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut writer = f.debug_struct("Writer");
        writer.field("path", &self.path()).field("written", &self.written).field("next", &self.next);
        writer.finish_non_exhaustive()
    }
}
