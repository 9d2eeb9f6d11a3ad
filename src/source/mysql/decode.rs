//! Row images into log bytes: one pass, no allocation per column.
//!
//! # Format
//!
//! A rows event is table id (6), flags (2), in version 2 extra data (its length first, counting itself), the number of
//! columns, a bitmap of the columns present (for an update two: before and after), then row images. An image is a
//! bitmap of nulls and the values that are not null, in column order. (MySQL, *Rows_event*, sql/log_event.h; values:
//! *Field::pack* of each type, sql/field.cc.)
//!
//! # Operation
//!
//! A [`ColumnPlan`], made once per version of a table, says how many bytes a value takes and what they mean. Insert and delete
//! carry one image. Of an update the before-image is only walked over, for its key; where the key changed, the old key's values
//! follow the row ([`Op::Rekey`]). Events whose images lack columns, or have a document's differences, are another way ([`images`]).

#[path = "images.rs"]
mod images;
#[path = "decode_values.rs"]
mod values;

pub(super) use values::geometry;

use crate::event::codec::RowWriter;
use crate::event::{Op, TableNo};
use crate::log::record::Batch;

use super::charset::Charset;
use super::compressed::Inflate;
use super::json::JsonError;
use super::json_diff::DiffError;
use super::numbers::Decimal;
use super::owed::Owed;
use super::wire::{Short, Wire, bit};

/// Most columns in a key (MySQL's MAX_REF_PARTS).
pub const MAX_KEY_PARTS: usize = 16;

/// Bytes of scratch memory that are kept from one rows event to the next.
const MAX_KEPT: usize = 4 << 20;

/// How one column's values lie in an image and what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnPlan {
    pub store: Store,
    pub kind: ColumnKind,
    /// Place in the row's key.
    pub key_part: Option<u8>,
}

/// How many bytes a value takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Fixed(u8),
    /// A length of so many bytes comes first, at most 4.
    Prefixed(u8),
}

/// What a value's bytes mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    Signed,
    Unsigned,
    Float,
    Double,
    Decimal(Decimal),
    Year,
    Bit,
    Date,
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    OldDateTime,
    OldTimestamp,
    OldTime,
    Text(Charset),
    Bytes,
    /// MariaDB's COMPRESSED columns.
    CompressedText(Charset),
    CompressedBytes,
    /// BINARY(n): stored without the zeros at its end.
    PaddedBytes(usize),
    Enum(Box<[String]>),
    Set(Box<[String]>),
    Json,
    Geometry,
    Vector,
    /// MariaDB's types of fixed width.
    Uuid,
    Inet4,
    Inet6,
}

/// What a rows event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Write,
    Update,
    /// An update whose after-images may have the differences of JSON documents.
    PartialUpdate,
    Delete,
}

/// A rows event that cannot become log bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the event ends inside a row")]
    Short,
    #[error("it has {found} columns where its table map has {expected}")]
    Width { found: u64, expected: usize },
    #[error("column {column} holds bytes that are no value of its type")]
    Value { column: usize },
    #[error("column {column}: {source}")]
    Json { column: usize, source: JsonError },
    #[error("its value options are {options}, which are not known")]
    Options { options: u64 },
    #[error("column {column} is changed by differences that do not fit what it was: {source}")]
    Diff { column: usize, source: DiffError },
    #[error("a row takes {bytes} bytes, more than max_row_bytes allows ({limit})")]
    TooLarge { bytes: usize, limit: usize },
}

impl DecodeError {
    /// Whether reading the same event again could end otherwise.
    #[must_use]
    pub fn is_garbled(&self) -> bool {
        !matches!(
            self,
            DecodeError::TooLarge { .. }
                | DecodeError::Json { source: JsonError::TooLong, .. }
                | DecodeError::Diff { source: DiffError::Json(JsonError::TooLong), .. }
        )
    }
}

impl From<Short> for DecodeError {
    fn from(_: Short) -> DecodeError {
        DecodeError::Short
    }
}

/// The start of a rows event.
#[derive(Clone, Copy, Debug)]
pub struct RowsHeader<'a> {
    pub table_id: u64,
    /// The last rows event of its statement: the table ids that it used mean nothing any more.
    pub ends_statement: bool,
    /// From the number of columns on.
    pub rest: Wire<'a>,
}

impl<'a> RowsHeader<'a> {
    /// `body`: the event without its common header; `version`: 1 or 2.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(body: &'a [u8], version: u8) -> Result<RowsHeader<'a>, Short> {
        let mut wire = Wire::new(body);
        let table_id = wire.uint(6)?;
        let flags = wire.u16()?;
        if version == 2 {
            let extra = usize::from(wire.u16()?).checked_sub(2).ok_or(Short)?;
            wire.take(extra)?;
        }
        // STMT_END_F
        Ok(RowsHeader { table_id, ends_statement: flags & 1 == 1, rest: wire })
    }
}

/// The raw key values of one image, by their place in the key.
pub type Key<'a> = [&'a [u8]; MAX_KEY_PARTS];

/// The columns of one version of a table, and what decoding them needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowPlan {
    pub columns: Vec<ColumnPlan>,
    /// Indices into `columns`, in key order; at most [`MAX_KEY_PARTS`].
    pub key: Vec<u16>,
}

/// Memory that decoding uses again and again.
pub struct Decoder {
    scratch: String,
    json: Vec<u8>,
    inflate: Inflate,
    old_key: Vec<u8>,
    new_key: Vec<u8>,
    limit: usize,
    /// Bytes of text and inflated values that the row may yet have: few bytes of a binary document can say the same part many times over.
    grows_left: usize,
    /// Values in which bytes that their character set does not know became U+FFFD.
    pub replaced: u64,
    /// The columns in which that was since somebody took them, each once.
    pub replaced_in: Vec<usize>,
}

impl std::fmt::Debug for Decoder {
    /// Without what is left of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decoder").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Decoder {
    /// `max_row_bytes`: the largest row image, and the largest row in the log.
    #[must_use]
    pub fn new(max_row_bytes: usize) -> Decoder {
        Decoder {
            scratch: String::new(),
            json: Vec::new(),
            inflate: Inflate::default(),
            old_key: Vec::new(),
            new_key: Vec::new(),
            limit: max_row_bytes,
            grows_left: 0,
            replaced: 0,
            replaced_in: Vec::new(),
        }
    }

    /// Appends every row of a rows event to `batch` and returns how many there were. Where the event does not say a row whole, its key goes
    /// to `owed`. `rows` is [`RowsHeader::rest`].
    ///
    /// # Errors
    /// See [`DecodeError`]; the changes before the bad row stay in `batch`.
    pub fn rows(
        &mut self,
        plan: &RowPlan,
        table: TableNo,
        change: Change,
        mut rows: Wire<'_>,
        batch: &mut Batch,
        owed: &mut Owed,
    ) -> Result<usize, DecodeError> {
        let found = rows.length()?;
        let width = plan.columns.len();
        if found != width as u64 {
            return Err(DecodeError::Width { found, expected: width });
        }
        let first = rows.take(width.div_ceil(8))?;
        let updates = matches!(change, Change::Update | Change::PartialUpdate);
        let second = if updates { rows.take(width.div_ceil(8))? } else { first };
        let whole = all_set(first, width) && all_set(second, width) && change != Change::PartialUpdate;
        if rows.is_empty() && !whole {
            // Every column was left to its default: such a row takes no byte, however many there are.
            owed.of(table).lose(images::NO_KEY);
            return Ok(1);
        }
        let mut count = 0;
        while !rows.is_empty() {
            let left = rows.len();
            if whole {
                self.row(plan, table, change, &mut rows, batch)?;
            } else {
                self.row_in_part((plan, table), change, (first, second), &mut rows, batch, owed)?;
                if rows.len() == left {
                    return Err(DecodeError::Short);
                }
            }
            count += 1;
        }
        self.give_back();
        Ok(count)
    }

    /// A large value's memory is not kept for ever.
    fn give_back(&mut self) {
        if self.scratch.capacity() > MAX_KEPT {
            self.scratch = String::new();
        }
        for kept in [&mut self.json, &mut self.old_key, &mut self.new_key] {
            kept.clear();
            kept.shrink_to(MAX_KEPT);
        }
    }

    fn row<'a>(
        &mut self,
        plan: &RowPlan,
        table: TableNo,
        change: Change,
        rows: &mut Wire<'a>,
        batch: &mut Batch,
    ) -> Result<(), DecodeError> {
        let mut before: Key<'a> = [&[]; MAX_KEY_PARTS];
        if change == Change::Update {
            let start = rows.len();
            plan.walk(rows, |column, _, raw| {
                if let (Some(part), Some(raw)) = (column.key_part, raw) {
                    set_key(&mut before, part, raw);
                }
                Ok(())
            })?;
            self.check_size(start - rows.len())?;
        }

        self.grows_left = self.limit;
        let mut writer = batch.change(table);
        let values = writer.values();
        let (first, start) = (values.len(), rows.len());
        let mut after: Key<'a> = [&[]; MAX_KEY_PARTS];
        let mut out = RowWriter::new(values);
        plan.walk(rows, |column, index, raw| {
            let Some(raw) = raw else {
                out.null();
                return Ok(());
            };
            if let Some(part) = column.key_part {
                set_key(&mut after, part, raw);
            }
            self.value(column, index, raw, &mut out)
        })?;
        self.check_size(start - rows.len())?;

        let op = match change {
            Change::Write => Op::Insert,
            Change::Delete => Op::Delete,
            Change::Update | Change::PartialUpdate => self.update(plan, &before, &after, writer.values())?,
        };
        self.check_size(writer.values().len() - first)?;
        writer.finish(op);
        Ok(())
    }

    /// What an update is; appends the old key's values where it is another.
    fn update(
        &mut self,
        plan: &RowPlan,
        before: &Key<'_>,
        after: &Key<'_>,
        values: &mut Vec<u8>,
    ) -> Result<Op, DecodeError> {
        // No parts that are not there: where libc compares nothing at an address that is none, the processor takes as long as for a fault.
        let parts = plan.key.len();
        if before.get(..parts) == after.get(..parts) {
            return Ok(Op::Update);
        }
        // Other bytes may still be the same value (what is not of the character set becomes one U+FFFD).
        let mut old_key = std::mem::take(&mut self.old_key);
        let mut new_key = std::mem::take(&mut self.new_key);
        self.key(plan, before, &mut old_key)?;
        self.key(plan, after, &mut new_key)?;
        let op = if old_key == new_key { Op::Update } else { Op::Rekey };
        if op == Op::Rekey {
            values.extend_from_slice(&old_key);
        }
        (self.old_key, self.new_key) = (old_key, new_key);
        Ok(op)
    }

    /// Replaces `out` by a key's values. `key`: as it lies in an image.
    pub fn key(&mut self, plan: &RowPlan, key: &Key<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        out.clear();
        let mut out = RowWriter::new(out);
        for (index, raw) in plan.key.iter().map(|index| usize::from(*index)).zip(key) {
            let column = plan.columns.get(index).ok_or(DecodeError::Short)?;
            self.value(column, index, raw, &mut out)?;
        }
        Ok(())
    }

    fn check_size(&self, bytes: usize) -> Result<(), DecodeError> {
        if bytes > self.limit { Err(DecodeError::TooLarge { bytes, limit: self.limit }) } else { Ok(()) }
    }
}

impl RowPlan {
    /// Goes over one image and hands each column's bytes (`None`: null) to `visit`.
    #[inline]
    fn walk<'a, F>(&self, wire: &mut Wire<'a>, mut visit: F) -> Result<(), DecodeError>
    where
        F: FnMut(&ColumnPlan, usize, Option<&'a [u8]>) -> Result<(), DecodeError>,
    {
        let nulls = wire.take(self.columns.len().div_ceil(8))?;
        for (index, column) in self.columns.iter().enumerate() {
            if bit(nulls, index) {
                visit(column, index, None)?;
                continue;
            }
            visit(column, index, Some(column.store.take(wire)?))?;
        }
        Ok(())
    }
}

impl Store {
    /// The next value's bytes.
    #[inline]
    fn take<'a>(self, wire: &mut Wire<'a>) -> Result<&'a [u8], Short> {
        let length = match self {
            Store::Fixed(bytes) => usize::from(bytes),
            Store::Prefixed(1) => usize::from(wire.u8()?),
            Store::Prefixed(2) => usize::from(wire.u16()?),
            Store::Prefixed(bytes) => wire.uint(usize::from(bytes))? as usize,
        };
        wire.take(length)
    }
}

#[inline]
fn set_key<'a>(key: &mut Key<'a>, part: u8, raw: &'a [u8]) {
    if let Some(place) = key.get_mut(usize::from(part)) {
        *place = raw;
    }
}

/// Whether the lowest `count` bits are all set.
fn all_set(bitmap: &[u8], count: usize) -> bool {
    let (whole, rest) = (count / 8, count % 8);
    let mask = (1_u8 << rest) - 1;
    bitmap.iter().take(whole).all(|byte| *byte == 0xff)
        && (rest == 0 || bitmap.get(whole).is_some_and(|byte| byte & mask == mask))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
