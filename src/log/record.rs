//! What the log's frames say, and [`Batch`]: frames in the making.
//!
//! # Format
//!
//! A frame is a [`HEADER`]-byte head and a payload. All integers of the head are little-endian.
//!
//! ```text
//!  0        4        8                 16     17      18
//!  +--------+--------+-----------------+------+-------+----------+
//!  | length | crc32  | seq             | kind | flags | payload… |
//!  +--------+--------+-----------------+------+-------+----------+
//! ```
//!
//! `length` counts the payload; `crc32` covers length, seq, kind, flags and payload and is seeded with the segment's salt;
//! `flags` is 0 and anything else is refused. Payloads are bincode 2, standard configuration, of the types below; a change's
//! payload is a [`ChangeHead`] followed by the row's values (see [`codec`]), and for [`Op::Rekey`] by the
//! before-image's key values; for [`Op::Tombstone`] the key's values are all that follows. Where [`STAMPED`] is added to the payload's first byte, the bytes of
//! a [`Stamp`], their number before them, stand between head and values.
//!
//! A source fills a [`Batch`] without knowing sequence numbers or segments: the writer sets length, seq and CRC.

mod change;

use bincode::error::DecodeError;
use bincode::{Decode, Encode};
use tokio::sync::oneshot;

use super::prepared::{Outcome, Xa};
use super::standing::{Noted, Standing};
use crate::event::codec;
use crate::event::{Gtid, GtidSet, Op, Stamp, TableName, TableNo, TableSchema, Version, Xid};
pub use change::{Change, ChangeHead, STAMPED};

/// Bytes before a frame's payload.
pub const HEADER: usize = 18;

/// Limit on what decoding one payload of another kind than `change` may allocate, bytes.
pub const DECODE_LIMIT: usize = 64 << 20;

/// Memory that a [`Batch`] keeps when it is cleared, bytes: a few times what sources fill it to.
const MAX_KEPT: usize = 4 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Opens each segment: where the source stands. Payload: [`State`].
    State = 1,
    /// A table's schema, before its first use in a segment. Payload: [`SchemaRecord`].
    Schema = 2,
    /// A row change. Payload: [`ChangeHead`] and values.
    Change = 3,
    /// Ends a transaction. Payload: [`Commit`].
    Commit = 4,
    /// The position moved without rows. Payload: [`Mark`].
    Mark = 5,
    /// A table's documents below a version are to be deleted. Payload: [`SweepRecord`].
    Sweep = 6,
    /// A row change of an XA transaction that is not decided yet: see [`prepared`](super::prepared). Payload: as a change's.
    Prepared = 7,
}

impl Kind {
    /// `None` for a byte that no version of this format wrote.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Kind> {
        Some(match byte {
            1 => Kind::State,
            2 => Kind::Schema,
            3 => Kind::Change,
            4 => Kind::Commit,
            5 => Kind::Mark,
            6 => Kind::Sweep,
            7 => Kind::Prepared,
            _ => return None,
        })
    }
}

/// Where the source stands at a segment's start.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct State {
    /// What all below this segment comes to; `None` before the log was given a start.
    pub standing: Option<Standing>,
    /// The segment starts inside a transaction, whose first frame this is.
    pub open_since: Option<crate::event::Seq>,
    /// The latest server's time of the commits and marks below this segment, microseconds since 1970 UTC; 0 where none is known.
    /// It never falls from segment to segment, though the servers' clocks may.
    pub latest_micros: u64,
}

/// One version of a table's schema and the number that changes refer to it by.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SchemaRecord {
    pub table: TableNo,
    pub schema: TableSchema,
}

/// Rows of a table are gone that no change of theirs says so of: its documents with a lower version are to be deleted. It stands
/// inside a transaction, as a change does, and counts with it.
///
/// The table goes by its name, since no schema may be known: a TRUNCATE may be the first that is read of a table.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SweepRecord {
    /// The lowest version that stays, little-endian. Sources leave it 0; the writer sets it in place, as it does [`Synced`].
    below: [u8; 8],
    pub table: TableName,
    /// `false`: all rows that the table had before are gone (TRUNCATE): what is below this frame's version. `true`: all rows that it has came since the table's
    /// snapshot began: what is below that.
    pub of_snapshot: bool,
}

impl SweepRecord {
    /// Of a TRUNCATE.
    #[must_use]
    pub fn truncated(table: TableName) -> SweepRecord {
        SweepRecord { below: [0; 8], table, of_snapshot: false }
    }

    /// At the end of a table's snapshot, in the transaction whose commit says that it ended.
    #[must_use]
    pub fn of_snapshot(table: TableName) -> SweepRecord {
        SweepRecord { below: [0; 8], table, of_snapshot: true }
    }

    /// Documents with a lower version are to be deleted.
    #[must_use]
    pub fn below(&self) -> Version {
        Version(u64::from_le_bytes(self.below))
    }
}

/// The offset in its segment that was known to be synced when a commit or mark was written, bytes. Sources leave it 0;
/// the writer sets it in place: it is the payload's first 8 bytes, little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Synced(pub [u8; 8]);

/// The end of a transaction: from here on its changes count. Prepared rows do not: [`Noted`] says whose they are.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Commit {
    pub synced: Synced,
    /// `None` where the source gives none: its position alone says what was committed.
    pub gtid: Option<Gtid>,
    /// The server's commit time, microseconds since 1970 UTC.
    pub time_micros: u64,
    pub noted: Noted,
    /// Where the transaction ends at the source.
    pub position: Position,
}

/// A place in a binlog file: where the last transaction ends. Where transactions have GTIDs it is for people, and to find out whether the server
/// still has that transaction there; where they have none the source resumes from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Position {
    /// UUID of the server that sent it.
    pub server: [u8; 16],
    pub file: String,
    /// Transactions without GTIDs may stand not far before it: a GTID set does not say where to go on, this place alone does.
    pub by_place: bool,
    /// Offset of the transaction's first event, whose time is the commit's or mark's, bytes; 0 where that is not known.
    pub began: u64,
    /// Offset after its last event, bytes.
    pub offset: u64,
}

/// The position moved without rows: transactions of other tables, or the start of an empty log.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Mark {
    pub synced: Synced,
    /// Everything committed up to here.
    pub gtids: GtidSet,
    /// The server's time, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
    pub noted: Noted,
    pub position: Position,
}

/// Frames in the making, heads not yet filled in.
///
/// A batch holds whole frames, but may begin and end inside a transaction.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    frames: usize,
    changes: usize,
    commits: usize,
    open: bool,
    /// Changes are those of an XA transaction.
    held: bool,
    /// What stands behind the heads of changes; empty: nothing.
    stamp: Vec<u8>,
    /// XA transactions that are committed here.
    decided: Vec<Xid>,
    /// Whom to tell once commits and marks so far are durable.
    told: Vec<oneshot::Sender<()>>,
}

impl Batch {
    #[must_use]
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Adds a table's schema; needed before the first change that names `record.table`, and then never again.
    pub fn schema(&mut self, record: &SchemaRecord) {
        self.frame(Kind::Schema, record);
    }

    /// Whether the changes to come are of an XA transaction: such are held, and count with its decision. A batch begins with `false`.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Starts a change of `table`; it counts once [`ChangeWriter::finish`] is called, and leaves nothing behind otherwise.
    pub fn change(&mut self, table: TableNo) -> ChangeWriter<'_> {
        let start = self.bytes.len();
        self.head(if self.held { Kind::Prepared } else { Kind::Change });
        let head = ChangeHead { op: Op::Insert, table };
        codec::encode(&head, &mut self.bytes);
        self.bytes.extend_from_slice(&self.stamp);
        ChangeWriter { batch: self, start, finished: false }
    }

    /// What changes to come say of their transaction. A batch begins with `None`.
    pub fn stamp(&mut self, stamp: Option<&Stamp>) {
        self.stamp.clear();
        if let Some(stamp) = stamp {
            let mut bytes = Vec::new();
            codec::encode(stamp, &mut bytes);
            codec::encode(&bytes, &mut self.stamp);
        }
    }

    /// Documents of the table are to be deleted.
    pub fn sweep(&mut self, record: &SweepRecord) {
        self.frame(Kind::Sweep, record);
        self.open = true;
    }

    /// Ends the open transaction.
    pub fn commit(&mut self, commit: &Commit) {
        self.frame(Kind::Commit, commit);
        self.commits += 1;
        self.open = false;
        for xa in &commit.noted.xa {
            if let Xa::Decided { xid, outcome: Outcome::Committed } = xa {
                self.decided.push(xid.clone());
            }
        }
    }

    /// Moves the position; only between transactions.
    pub fn mark(&mut self, mark: &Mark) {
        debug_assert!(!self.open, "a mark stands between transactions only");
        self.frame(Kind::Mark, mark);
        self.commits += 1;
    }

    /// Size so far, bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Row changes so far.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.changes
    }

    /// Commits and marks so far: ends up to which the batch can become visible.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.commits
    }

    /// XA transactions that commits so far decide: rows that are held count from there on, and are written again for it.
    #[must_use]
    pub fn decided(&self) -> &[Xid] {
        &self.decided
    }

    /// Has `told` hear of it once all commits and marks so far are durable; it is dropped unheard where they are not written.
    pub fn tell_when_durable(&mut self, told: oneshot::Sender<()>) {
        self.told.push(told);
    }

    /// Who waits for its commits and marks, handed over to whoever knows when they are durable.
    pub fn take_told(&mut self) -> Vec<oneshot::Sender<()>> {
        std::mem::take(&mut self.told)
    }

    /// Frames so far.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Forgets the frames and keeps the memory, but for what a large row left.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(MAX_KEPT);
        (self.frames, self.changes, self.commits, self.open) = (0, 0, 0, false);
        self.held = false;
        self.stamp.clear();
        self.decided.clear();
        self.told.clear();
    }

    /// The frames' kinds and payloads, in order: for tests and for whoever takes a batch elsewhere than into a log.
    pub fn payloads(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        self.payloads_from(0)
    }

    /// The same of the frames behind the first `length` bytes, which [`Batch::len`] was once.
    pub fn payloads_from(&self, length: usize) -> impl Iterator<Item = (Kind, &[u8])> {
        let mut rest = self.bytes.get(length..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (head, after) = rest.split_first_chunk::<HEADER>()?;
            let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let (payload, next) = after.split_at_checked(length)?;
            rest = next;
            Some((Kind::from_byte(head[16])?, payload))
        })
    }

    /// Adds a row as it was written before, of the table that is number `table` here; `kind`: whether it counts.
    pub(super) fn copy(&mut self, kind: Kind, table: TableNo, change: &Change<'_>) {
        let start = self.bytes.len();
        self.head(kind);
        codec::encode(&ChangeHead { op: change.op, table }, &mut self.bytes);
        if let Some(stamp) = change.stamp {
            self.bytes[start + HEADER] |= STAMPED;
            codec::encode(&stamp, &mut self.bytes);
        }
        self.bytes.extend_from_slice(change.row.rest());
        self.end(start);
        self.changes += 1;
        self.open = true;
    }

    /// The frames with unfilled heads, for the writer.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn frame<T: Encode>(&mut self, kind: Kind, payload: &T) {
        let start = self.bytes.len();
        self.head(kind);
        codec::encode(payload, &mut self.bytes);
        self.end(start);
    }

    fn head(&mut self, kind: Kind) {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER, 0);
        self.bytes[start + 16] = kind as u8;
    }

    /// Fills in the length of the frame that began at `start`; a length over u32 is left for the writer to refuse.
    fn end(&mut self, start: usize) {
        let length = self.bytes.len() - start - HEADER;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.frames += 1;
    }
}

/// One change being written into a [`Batch`].
#[derive(Debug)]
pub struct ChangeWriter<'a> {
    batch: &'a mut Batch,
    start: usize,
    finished: bool,
}

impl ChangeWriter<'_> {
    /// The bytes to append the row's values to, and for [`Op::Rekey`] the old key's after them.
    pub fn values(&mut self) -> &mut Vec<u8> {
        &mut self.batch.bytes
    }

    /// Completes the change.
    pub fn finish(mut self, op: Op) {
        let stamped = if self.batch.stamp.is_empty() { 0 } else { STAMPED };
        self.batch.bytes[self.start + HEADER] = op as u8 | stamped;
        self.batch.end(self.start);
        self.batch.changes += 1;
        self.batch.open = true;
        self.finished = true;
    }
}

impl Drop for ChangeWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.batch.bytes.truncate(self.start);
        }
    }
}

/// Decodes a whole payload.
fn decode<T: Decode<()>>(payload: &[u8]) -> Result<T, DecodeError> {
    let (value, rest) = codec::decode_owned::<T, DECODE_LIMIT>(payload)?;
    if rest.is_empty() { Ok(value) } else { Err(DecodeError::Other("bytes follow its end")) }
}

macro_rules! decoded_whole {
    ($($record:ident)*) => {$(
        impl $record {
            /// # Errors
            /// `payload` is something else.
            pub fn decode(payload: &[u8]) -> Result<$record, DecodeError> {
                decode(payload)
            }
        }
    )*};
}
decoded_whole!(State SchemaRecord SweepRecord Commit Mark);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::codec::RowWriter;

    #[test]
    fn a_change_not_finished_leaves_nothing_behind() {
        let mut batch = Batch::new();
        let mut change = batch.change(TableNo(3));
        RowWriter::new(change.values()).i64(7);
        drop(change);
        assert!(batch.is_empty());
        assert_eq!(batch.frames(), 0);
    }

    #[test]
    fn what_is_held_is_no_change_and_a_cleared_batch_holds_nothing() {
        let mut batch = Batch::new();
        let kinds = |batch: &Batch| batch.payloads().map(|(kind, _)| kind).collect::<Vec<_>>();
        for held in [false, true, false] {
            batch.hold(held);
            batch.change(TableNo(3)).finish(Op::Insert);
        }
        assert_eq!(kinds(&batch), [Kind::Change, Kind::Prepared, Kind::Change]);
        batch.hold(true);
        batch.clear();
        batch.change(TableNo(3)).finish(Op::Insert);
        assert_eq!(kinds(&batch), [Kind::Change]);
    }

    #[test]
    fn a_cleared_batch_keeps_some_memory_and_not_that_of_a_large_row() {
        for (length, kept) in [(1 << 20, 1 << 20), (40 << 20, MAX_KEPT)] {
            let mut batch = Batch::new();
            let mut change = batch.change(TableNo(3));
            RowWriter::new(change.values()).bytes(&vec![7; length]);
            change.finish(Op::Insert);
            batch.clear();
            assert!(batch.is_empty() && (kept..8 << 20).contains(&batch.bytes.capacity()));
        }
    }

    #[test]
    fn the_op_is_set_when_the_row_is_known() {
        for op in [Op::Insert, Op::Update, Op::Rekey, Op::Delete, Op::Tombstone, Op::Read] {
            let mut batch = Batch::new();
            let mut change = batch.change(TableNo(300));
            RowWriter::new(change.values()).i64(7);
            change.finish(op);
            let change = Change::decode(&batch.bytes[HEADER..]).unwrap();
            assert_eq!((change.op, change.table), (op, TableNo(300)));
        }
    }
}
