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
//! follow the row ([`Op::Rekey`]).

use crate::event::codec::RowWriter;
use crate::event::value::Geometry;
use crate::event::wkb;
use crate::event::{Op, TableNo};
use crate::log::record::Batch;

use super::charset::Charset;
use super::compressed::{Inflate, Inflating};
use super::fixed_binary;
use super::json::{self, JsonError};
use super::numbers::Decimal;
use super::temporal;
use super::wire::{Short, Wire, big_endian, bit, little_endian};

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
    #[error(
        "its row images do not have all columns: a session or the server had another binlog_row_image than FULL \
         when it was written, or it is an update at MariaDB 11.8, which leaves generated columns out"
    )]
    Incomplete,
    #[error("a row takes {bytes} bytes, more than max_row_bytes allows ({limit})")]
    TooLarge { bytes: usize, limit: usize },
}

impl DecodeError {
    /// Whether reading the same event again could end otherwise.
    #[must_use]
    pub fn is_garbled(&self) -> bool {
        !matches!(
            self,
            DecodeError::Incomplete
                | DecodeError::TooLarge { .. }
                | DecodeError::Json { source: JsonError::TooLong, .. }
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
type Key<'a> = [&'a [u8]; MAX_KEY_PARTS];

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
            inflate: Inflate::default(),
            old_key: Vec::new(),
            new_key: Vec::new(),
            limit: max_row_bytes,
            grows_left: 0,
            replaced: 0,
            replaced_in: Vec::new(),
        }
    }

    /// Appends every row of a rows event to `batch` and returns how many there were. `rows` is [`RowsHeader::rest`].
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
    ) -> Result<usize, DecodeError> {
        let found = rows.length()?;
        let width = plan.columns.len();
        if found != width as u64 {
            return Err(DecodeError::Width { found, expected: width });
        }
        let bitmap_bytes = width.div_ceil(8);
        let bitmaps = if change == Change::Update { 2 } else { 1 };
        for _ in 0..bitmaps {
            if !all_set(rows.take(bitmap_bytes)?, width) {
                return Err(DecodeError::Incomplete);
            }
        }
        let mut count = 0;
        while !rows.is_empty() {
            self.row(plan, table, change, &mut rows, batch)?;
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
        for key in [&mut self.old_key, &mut self.new_key] {
            key.clear();
            key.shrink_to(MAX_KEPT);
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
            Change::Update if before == after => Op::Update,
            Change::Update => {
                // Other bytes may still be the same value (what is not of the character set becomes one U+FFFD).
                let mut old_key = std::mem::take(&mut self.old_key);
                let mut new_key = std::mem::take(&mut self.new_key);
                self.key(plan, &before, &mut old_key)?;
                self.key(plan, &after, &mut new_key)?;
                let op = if old_key == new_key { Op::Update } else { Op::Rekey };
                if op == Op::Rekey {
                    writer.values().extend_from_slice(&old_key);
                }
                (self.old_key, self.new_key) = (old_key, new_key);
                op
            }
        };
        self.check_size(writer.values().len() - first)?;
        writer.finish(op);
        Ok(())
    }

    fn key(&mut self, plan: &RowPlan, key: &Key<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
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

    /// Appends one value that is not null.
    #[inline]
    fn value(
        &mut self,
        column: &ColumnPlan,
        index: usize,
        raw: &[u8],
        out: &mut RowWriter<'_>,
    ) -> Result<(), DecodeError> {
        let bad = DecodeError::Value { column: index };
        match &column.kind {
            ColumnKind::Signed => out.i64(signed(raw)),
            ColumnKind::Unsigned => out.u64(little_endian(raw)),
            ColumnKind::Text(charset) => {
                let (text, replaced) = charset.decode(raw, &mut self.scratch);
                if replaced {
                    note_replaced(&mut self.replaced, &mut self.replaced_in, index);
                }
                out.text(text);
            }
            ColumnKind::Decimal(decimal) => out.decimal(decimal.digits(raw).ok_or(bad)?.as_str()),
            ColumnKind::DateTime(decimals) => {
                out.date_time(temporal::date_time(raw, *decimals).ok_or(bad)?);
            }
            ColumnKind::Timestamp(decimals) => out.instant(temporal::instant(raw, *decimals).ok_or(bad)?),
            ColumnKind::Date => out.date(temporal::date(raw).ok_or(bad)?),
            ColumnKind::Time(decimals) => out.time(temporal::time(raw, *decimals).ok_or(bad)?),
            ColumnKind::Float => out.f32(f32::from_le_bytes(raw.try_into().map_err(|_| bad)?)),
            ColumnKind::Double => out.f64(f64::from_le_bytes(raw.try_into().map_err(|_| bad)?)),
            ColumnKind::Enum(labels) => match (little_endian(raw) as usize).checked_sub(1) {
                // 0 is the error value, which the server prints as the empty string.
                None => out.enum_label(""),
                Some(label) => out.enum_label(labels.get(label).ok_or(bad)?),
            },
            ColumnKind::Set(labels) => {
                let members = little_endian(raw);
                if labels.len() < 64 && members >> labels.len() != 0 {
                    return Err(bad);
                }
                let chosen = labels.iter().enumerate().filter(|(i, _)| members >> i & 1 == 1);
                out.set_labels(chosen.map(|(_, label)| label.as_str()));
            }
            ColumnKind::Bytes => out.bytes(raw),
            ColumnKind::CompressedText(charset) => {
                let plain = inflated(&mut self.inflate, raw, index, &mut self.grows_left, self.limit)?;
                let (text, replaced) = charset.decode(plain, &mut self.scratch);
                if replaced {
                    note_replaced(&mut self.replaced, &mut self.replaced_in, index);
                }
                out.text(text);
            }
            ColumnKind::CompressedBytes => {
                out.bytes(inflated(&mut self.inflate, raw, index, &mut self.grows_left, self.limit)?);
            }
            ColumnKind::PaddedBytes(length) => out.padded_bytes(raw, *length),
            ColumnKind::Json => {
                self.scratch.clear();
                json::write_text(raw, &mut self.scratch, self.grows_left)
                    .map_err(|source| DecodeError::Json { column: index, source })?;
                self.grows_left = self.grows_left.saturating_sub(self.scratch.len());
                out.json(&self.scratch);
            }
            // Years since 1900; 0 is the year 0000.
            ColumnKind::Year => out.u64(match little_endian(raw) {
                0 => 0,
                year => year + 1900,
            }),
            ColumnKind::Bit => out.u64(big_endian(raw)),
            ColumnKind::Geometry => out.geometry(geometry(raw).ok_or(bad)?),
            ColumnKind::Vector if raw.len().is_multiple_of(4) => out.vector(raw),
            ColumnKind::Vector => return Err(bad),
            ColumnKind::Uuid => out.text(fixed_binary::uuid(raw).ok_or(bad)?.as_str()),
            ColumnKind::Inet4 => out.text(fixed_binary::inet4(raw).ok_or(bad)?.as_str()),
            ColumnKind::Inet6 => out.text(fixed_binary::inet6(raw).ok_or(bad)?.as_str()),
            ColumnKind::OldDateTime => out.date_time(temporal::old_date_time(raw).ok_or(bad)?),
            ColumnKind::OldTimestamp => out.instant(temporal::old_instant(raw).ok_or(bad)?),
            ColumnKind::OldTime => out.time(temporal::old_time(raw).ok_or(bad)?),
        }
        Ok(())
    }
}

#[cold]
fn note_replaced(count: &mut u64, columns: &mut Vec<usize>, column: usize) {
    *count += 1;
    if !columns.contains(&column) {
        columns.push(column);
    }
}

/// A geometry as both servers keep it: the number of its reference system, then well-known binary. `None` where that is none.
pub(super) fn geometry(raw: &[u8]) -> Option<Geometry<'_>> {
    let (srid, wkb) = raw.split_first_chunk::<4>()?;
    wkb::walk(wkb, |_| ()).ok()?;
    Some(Geometry { srid: u32::from_le_bytes(*srid), wkb })
}

/// A compressed column's value, and how many bytes the row may have besides.
fn inflated<'a>(
    inflate: &'a mut Inflate,
    raw: &'a [u8],
    column: usize,
    left: &mut usize,
    limit: usize,
) -> Result<&'a [u8], DecodeError> {
    let value = inflate.column(raw, *left).map_err(|problem| match problem {
        Inflating::Damaged => DecodeError::Value { column },
        Inflating::TooLong(bytes) => DecodeError::TooLarge { bytes, limit },
    })?;
    *left = left.saturating_sub(value.len());
    Ok(value)
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
            let length = match column.store {
                Store::Fixed(bytes) => usize::from(bytes),
                Store::Prefixed(1) => usize::from(wire.u8()?),
                Store::Prefixed(2) => usize::from(wire.u16()?),
                Store::Prefixed(bytes) => wire.uint(usize::from(bytes))? as usize,
            };
            visit(column, index, Some(wire.take(length)?))?;
        }
        Ok(())
    }
}

#[inline]
fn set_key<'a>(key: &mut Key<'a>, part: u8, raw: &'a [u8]) {
    if let Some(place) = key.get_mut(usize::from(part)) {
        *place = raw;
    }
}

/// At most 8 little-endian bytes, two's complement.
#[inline]
fn signed(raw: &[u8]) -> i64 {
    let unused = 64_u32.saturating_sub(raw.len() as u32 * 8).min(63);
    (little_endian(raw) << unused) as i64 >> unused
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
