//! Table maps: what a table looked like when its rows were written, as the binlog itself says it.
//!
//! # Format
//!
//! Table id (6), flags (2), schema and table name (length, bytes, zero), the number of columns, one type byte each, the
//! types' metadata, a bitmap of what may be null, then optional fields of type, length and value. With
//! `binlog_row_metadata=FULL` these name columns, labels, character sets and primary key. (MySQL, *Table_map_event*,
//! libs/mysql/binlog/event/rows_event.h; sql/log_event.cc, *Table_map_log_event::init_metadata_fields*.)

use crate::event::schema::MAX_COLUMNS;
use crate::event::{Column, ColumnType, TableName, TableSchema};

use super::charset::{Charset, UnknownCharset};
use super::decode::{ColumnKind, ColumnPlan, MAX_KEY_PARTS, RowPlan, Store};
use super::numbers::Decimal;
use super::server::Family;
use super::temporal::fraction_bytes;
use super::wire::{Short, Wire, bit};

/// The statement that makes table maps say everything.
pub const FULL_METADATA: &str = "SET PERSIST binlog_row_metadata = 'FULL'";

/// Most labels of an ENUM and of a SET (MySQL Reference Manual, *The ENUM Type*, *The SET Type*): a value is a number of two bytes, or a bit
/// each in eight.
const MAX_ENUM_LABELS: usize = 65_535;
const MAX_SET_LABELS: usize = 64;

/// A table map's parts, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct TableMap<'a> {
    pub table_id: u64,
    /// Both names with their lengths and zeros: what tells tables apart, without copying.
    pub names: &'a [u8],
    pub schema: &'a [u8],
    pub table: &'a [u8],
    /// Everything after the names: what tells versions of a table apart.
    pub shape: &'a [u8],
}

/// A table map that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("the table map is malformed")]
    Malformed,
    #[error(
        "the table map does not name the columns: binlog_row_metadata was MINIMAL when it was written; run {FULL_METADATA}; \
         and start after this transaction"
    )]
    Minimal,
    #[error(
        "the table has no primary key, and no unique key over NOT NULL columns was found when connecting: add one, or exclude \
         the table by a pattern"
    )]
    NoKey,
    #[error("column {column:?} is of type {ty}, which is not decoded yet: exclude the table by a pattern")]
    Type { column: String, ty: String },
    #[error("column {column:?} uses {source}, which is not decoded yet: exclude the table by a pattern")]
    Charset { column: String, source: UnknownCharset },
}

impl From<Short> for SchemaError {
    fn from(_: Short) -> SchemaError {
        SchemaError::Malformed
    }
}

impl<'a> TableMap<'a> {
    /// `body`: the event without its common header.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(body: &'a [u8]) -> Result<TableMap<'a>, Short> {
        let mut wire = Wire::new(body);
        let table_id = wire.uint(6)?;
        wire.u16()?;
        let all = wire.rest();
        let schema_length = usize::from(wire.u8()?);
        let schema = wire.take(schema_length)?;
        wire.u8()?;
        let table_length = usize::from(wire.u8()?);
        let table = wire.take(table_length)?;
        wire.u8()?;
        let names = all.get(..all.len() - wire.len()).ok_or(Short)?;
        Ok(TableMap { table_id, names, schema, table, shape: wire.rest() })
    }

    /// Names are UTF-8 in the binlog (system_charset_info).
    #[must_use]
    pub fn name(&self) -> TableName {
        TableName::new(String::from_utf8_lossy(self.schema), String::from_utf8_lossy(self.table))
    }
}

/// The optional metadata, field by field.
#[derive(Debug, Default)]
struct Optional<'a> {
    signedness: &'a [u8],
    charsets: Charsets<'a>,
    label_charsets: Charsets<'a>,
    names: Option<Wire<'a>>,
    set_labels: Wire<'a>,
    enum_labels: Wire<'a>,
    key: Vec<u16>,
    /// Whose collations they are.
    family: Family,
}

/// Collations: a default with exceptions, or one for each column.
#[derive(Debug, Default)]
struct Charsets<'a> {
    default: Option<u64>,
    exceptions: Vec<(u64, u64)>,
    each: Option<Wire<'a>>,
}

impl<'a> Charsets<'a> {
    fn with_default(value: &'a [u8]) -> Result<Charsets<'a>, Short> {
        let mut wire = Wire::new(value);
        let default = Some(wire.length()?);
        let mut exceptions = Vec::new();
        while !wire.is_empty() {
            exceptions.push((wire.length()?, wire.length()?));
        }
        Ok(Charsets { default, exceptions, each: None })
    }

    /// The collation of the next column that has one; `index` counts only those.
    fn next(&mut self, index: u64) -> Result<u64, Short> {
        if let Some(each) = &mut self.each {
            return each.length();
        }
        let exception = self.exceptions.iter().find(|(column, _)| *column == index);
        exception.map(|(_, collation)| *collation).or(self.default).ok_or(Short)
    }
}

impl<'a> Optional<'a> {
    fn parse(mut wire: Wire<'a>, family: Family) -> Result<Optional<'a>, SchemaError> {
        let mut optional = Optional { family, ..Optional::default() };
        while !wire.is_empty() {
            let field = wire.u8()?;
            let value = wire.string()?;
            let mut list = Wire::new(value);
            match field {
                1 => optional.signedness = value,
                2 => optional.charsets = Charsets::with_default(value)?,
                3 => optional.charsets.each = Some(list),
                4 => optional.names = Some(list),
                5 => optional.set_labels = list,
                6 => optional.enum_labels = list,
                8 | 9 => {
                    while !list.is_empty() {
                        let column = u16::try_from(list.length()?).map_err(|_| SchemaError::Malformed)?;
                        optional.key.push(column);
                        if field == 9 {
                            // How many characters of the column the key covers. The whole column identifies its row all
                            // the more.
                            list.length()?;
                        }
                    }
                }
                10 => optional.label_charsets = Charsets::with_default(value)?,
                11 => optional.label_charsets.each = Some(list),
                // 7 geometry types, 12 visibility, 13 vector dimensions, and whatever comes later: nothing that decoding needs.
                _ => {}
            }
        }
        Ok(optional)
    }
}

/// A table's schema and how to decode its rows.
///
/// `fallback_key`: names of a unique key's NOT NULL columns, used where the table map has no primary key (it does not carry other
/// keys).
///
/// # Errors
/// See [`SchemaError`].
pub fn build(
    map: &TableMap<'_>,
    fallback_key: Option<&[String]>,
    family: Family,
) -> Result<(TableSchema, RowPlan), SchemaError> {
    let mut wire = Wire::new(map.shape);
    let count = wire.size()?;
    if count == 0 || count > MAX_COLUMNS {
        return Err(SchemaError::Malformed);
    }
    let types = wire.take(count)?;
    let mut metadata = Wire::new(wire.string()?);
    let nulls = wire.take(count.div_ceil(8))?;
    let mut optional = Optional::parse(wire, family)?;
    let mut names = optional.names.take().ok_or(SchemaError::Minimal)?;

    let mut columns = Vec::with_capacity(count);
    let mut plans = Vec::with_capacity(count);
    let mut seen = Seen::default();
    for (index, binlog_type) in types.iter().enumerate() {
        let name = String::from_utf8_lossy(names.string()?).into_owned();
        let (ty, store, kind) = column(*binlog_type, &mut metadata, &mut optional, &mut seen, &name)?;
        columns.push(Column { name, ty, nullable: bit(nulls, index) });
        plans.push(ColumnPlan { store, kind, key_part: None });
    }

    let mut key = optional.key;
    if key.is_empty() {
        let place =
            |name: &String| columns.iter().position(|column| column.name == *name && !column.nullable);
        let found = fallback_key.unwrap_or_default().iter().map(place).collect::<Option<Vec<_>>>();
        key = found.unwrap_or_default().into_iter().map(|index| index as u16).collect();
    }
    if key.is_empty() {
        return Err(SchemaError::NoKey);
    }
    if key.len() > MAX_KEY_PARTS {
        return Err(SchemaError::Malformed);
    }
    for (part, index) in key.iter().enumerate() {
        let plan = plans.get_mut(usize::from(*index)).ok_or(SchemaError::Malformed)?;
        plan.key_part = Some(part as u8);
    }
    let schema = TableSchema { name: map.name(), columns, key: key.clone() };
    Ok((schema, RowPlan { columns: plans, key }))
}

/// Columns of a sequence, MariaDB's table of one row (sql/sql_sequence.cc).
const SEQUENCE: [&[u8]; 8] = [
    b"next_not_cached_value",
    b"minimum_value",
    b"maximum_value",
    b"start_value",
    b"increment",
    b"cache_size",
    b"cycle_option",
    b"cycle_count",
];

/// Whether the map is that of a sequence, which nothing else says: those columns, and no primary key.
#[must_use]
pub fn is_sequence(map: &TableMap<'_>, family: Family) -> bool {
    let names = || -> Result<bool, SchemaError> {
        let mut wire = Wire::new(map.shape);
        let count = wire.size()?;
        if count != SEQUENCE.len() {
            return Ok(false);
        }
        wire.take(count)?;
        wire.string()?;
        wire.take(count.div_ceil(8))?;
        let optional = Optional::parse(wire, family)?;
        let mut names = optional.names.ok_or(SchemaError::Minimal)?;
        let same =
            SEQUENCE.iter().map(|name| Ok(names.string()? == *name)).collect::<Result<Vec<_>, Short>>()?;
        Ok(same.iter().all(|same| *same) && optional.key.is_empty())
    };
    family == Family::Mariadb && names() == Ok(true)
}

/// How many columns of each sort came before: the optional fields count by sort.
#[derive(Debug, Default)]
struct Seen {
    numeric: usize,
    character: u64,
    label: u64,
}

type Described = (ColumnType, Store, ColumnKind);

/// One column; takes its part of the metadata and of the optional fields.
fn column(
    binlog_type: u8,
    metadata: &mut Wire<'_>,
    optional: &mut Optional<'_>,
    seen: &mut Seen,
    name: &str,
) -> Result<Described, SchemaError> {
    // Only numeric columns have a bit, the first in the highest (is_numeric_type and init_signedness_field in
    // sql/log_event.cc): YEAR is one of them, BIT is none.
    let mut unsigned = || {
        let bit =
            optional.signedness.get(seen.numeric / 8).is_some_and(|b| b << (seen.numeric % 8) & 0x80 != 0);
        seen.numeric += 1;
        bit
    };
    let integer = |bits: u8, stored: u8, unsigned: bool| {
        let kind = if unsigned { ColumnKind::Unsigned } else { ColumnKind::Signed };
        (ColumnType::Integer { bits, unsigned }, Store::Fixed(stored), kind)
    };
    let unknown = |ty: &str| SchemaError::Type { column: name.to_owned(), ty: ty.to_owned() };
    Ok(match binlog_type {
        1 => integer(8, 1, unsigned()),
        2 => integer(16, 2, unsigned()),
        9 => integer(24, 3, unsigned()),
        3 => integer(32, 4, unsigned()),
        8 => integer(64, 8, unsigned()),
        4 | 5 => {
            metadata.u8()?;
            unsigned();
            match binlog_type {
                4 => (ColumnType::Float, Store::Fixed(4), ColumnKind::Float),
                _ => (ColumnType::Double, Store::Fixed(8), ColumnKind::Double),
            }
        }
        246 => {
            let (precision, scale) = (metadata.u8()?, metadata.u8()?);
            unsigned();
            let decimal = Decimal::new(precision, scale).ok_or(SchemaError::Malformed)?;
            let ty = ColumnType::Decimal { precision, scale };
            (ty, Store::Fixed(decimal.bytes() as u8), ColumnKind::Decimal(decimal))
        }
        7 => (ColumnType::Timestamp { decimals: 0 }, Store::Fixed(4), ColumnKind::OldTimestamp),
        10 | 14 => (ColumnType::Date, Store::Fixed(3), ColumnKind::Date),
        11 => (ColumnType::Time { decimals: 0 }, Store::Fixed(3), ColumnKind::OldTime),
        12 => (ColumnType::DateTime { decimals: 0 }, Store::Fixed(8), ColumnKind::OldDateTime),
        13 => {
            unsigned();
            (ColumnType::Year, Store::Fixed(1), ColumnKind::Year)
        }
        16 => {
            let (rest, whole) = (metadata.u8()?, metadata.u8()?);
            if rest > 7 || whole > 8 || whole * 8 + rest == 0 || whole * 8 + rest > 64 {
                return Err(SchemaError::Malformed);
            }
            let stored = whole + u8::from(rest > 0);
            (ColumnType::Bit { bits: whole * 8 + rest }, Store::Fixed(stored), ColumnKind::Bit)
        }
        17..=19 => {
            let decimals = metadata.u8()?;
            if decimals > 6 {
                return Err(SchemaError::Malformed);
            }
            let fixed = |whole: u8| Store::Fixed(whole + fraction_bytes(decimals) as u8);
            match binlog_type {
                17 => (ColumnType::Timestamp { decimals }, fixed(4), ColumnKind::Timestamp(decimals)),
                18 => (ColumnType::DateTime { decimals }, fixed(5), ColumnKind::DateTime(decimals)),
                _ => (ColumnType::Time { decimals }, fixed(3), ColumnKind::Time(decimals)),
            }
        }
        15 | 253 => {
            let length = metadata.u16()?;
            text(ColumnType::Varchar, prefix(u32::from(length)), None, optional, seen, name)?
        }
        140 | 141 => {
            let prefix = match binlog_type {
                140 => metadata.u8()?,
                _ => prefix(u32::from(metadata.u16()?)),
            };
            if !(1..=4).contains(&prefix) {
                return Err(SchemaError::Malformed);
            }
            let ty = if binlog_type == 140 { ColumnType::Text } else { ColumnType::Varchar };
            let (ty, store, kind) = text(ty, prefix, None, optional, seen, name)?;
            let kind = match kind {
                ColumnKind::Text(charset) => ColumnKind::CompressedText(charset),
                _ => ColumnKind::CompressedBytes,
            };
            (ty, store, kind)
        }
        249..=252 => {
            let prefix = metadata.u8()?;
            if !(1..=4).contains(&prefix) {
                return Err(SchemaError::Malformed);
            }
            text(ColumnType::Text, prefix, None, optional, seen, name)?
        }
        245 => {
            let prefix = metadata.u8()?;
            if !(1..=4).contains(&prefix) {
                return Err(SchemaError::Malformed);
            }
            (ColumnType::Json, Store::Prefixed(prefix), ColumnKind::Json)
        }
        254 | 247 | 248 => {
            let (first, second) = (metadata.u8()?, metadata.u8()?);
            // CHAR over 255 bytes hides the upper bits of its length in the type, inverted (Field_string's
            // do_save_field_metadata; MySQL bug 37426).
            let (real_type, length) = if first & 0x30 == 0x30 {
                (first, u32::from(second))
            } else {
                (first | 0x30, u32::from(second) | u32::from(first & 0x30 ^ 0x30) << 4)
            };
            match real_type {
                247 | 248 => labelled(real_type, length, optional, seen, name)?,
                254 => {
                    text(ColumnType::Varchar, prefix(length), Some(length as usize), optional, seen, name)?
                }
                _ => return Err(SchemaError::Malformed),
            }
        }
        0 => return Err(unknown("DECIMAL as it was before MySQL 5.0")),
        20 => return Err(unknown("TYPED ARRAY")),
        242 => return Err(unknown("VECTOR")),
        255 => return Err(unknown("GEOMETRY")),
        number => return Err(unknown(&format!("number {number}"))),
    })
}

/// Bytes of a length before a CHAR or VARCHAR of at most `length` bytes.
fn prefix(length: u32) -> u8 {
    if length > 255 { 2 } else { 1 }
}

/// A column with a collation; `padded`: the length of a BINARY.
fn text(
    ty: ColumnType,
    prefix: u8,
    padded: Option<usize>,
    optional: &mut Optional<'_>,
    seen: &mut Seen,
    name: &str,
) -> Result<Described, SchemaError> {
    let collation = optional.charsets.next(seen.character)?;
    seen.character += 1;
    let charset = Charset::of(optional.family, collation)
        .map_err(|source| SchemaError::Charset { column: name.to_owned(), source })?;
    Ok(match (charset, padded) {
        (Charset::Binary, None) => (ColumnType::Binary, Store::Prefixed(prefix), ColumnKind::Bytes),
        (Charset::Binary, Some(length)) => {
            (ColumnType::Binary, Store::Prefixed(prefix), ColumnKind::PaddedBytes(length))
        }
        (charset, _) => (ty, Store::Prefixed(prefix), ColumnKind::Text(charset)),
    })
}

/// ENUM or SET, stored in `bytes` bytes.
fn labelled(
    real_type: u8,
    bytes: u32,
    optional: &mut Optional<'_>,
    seen: &mut Seen,
    name: &str,
) -> Result<Described, SchemaError> {
    let collation = optional.label_charsets.next(seen.label)?;
    seen.label += 1;
    let charset = Charset::of(optional.family, collation)
        .map_err(|source| SchemaError::Charset { column: name.to_owned(), source })?;
    let list = if real_type == 247 { &mut optional.enum_labels } else { &mut optional.set_labels };
    let count = list.size()?;
    let most = if real_type == 247 { MAX_ENUM_LABELS } else { MAX_SET_LABELS };
    if count > list.len().min(most) {
        return Err(SchemaError::Malformed);
    }
    let mut labels = Vec::with_capacity(count);
    for _ in 0..count {
        labels.push(charset.decode(list.string()?, &mut String::new()).0.to_owned());
    }
    let labels = labels.into_boxed_slice();
    let stored = u8::try_from(bytes).ok().filter(|bytes| (1..=8).contains(bytes));
    let store = Store::Fixed(stored.ok_or(SchemaError::Malformed)?);
    Ok(match real_type {
        247 => (ColumnType::Enum, store, ColumnKind::Enum(labels)),
        _ => (ColumnType::Set, store, ColumnKind::Set(labels)),
    })
}

/// Whether rows of `old` are still described by `new`: every old column is there, in the same order, name and plan, and the key
/// is the same columns. New columns may stand anywhere.
#[must_use]
pub fn only_adds_columns(old: (&TableSchema, &RowPlan), new: (&TableSchema, &RowPlan)) -> bool {
    let key_names = |schema: &TableSchema| {
        let name = |index: &u16| schema.columns.get(usize::from(*index)).map(|c| c.name.clone());
        schema.key.iter().map(name).collect::<Vec<_>>()
    };
    let mut rest = new.0.columns.iter().zip(&new.1.columns);
    let kept =
        old.0.columns.iter().zip(&old.1.columns).all(|old| {
            rest.any(|new| new.0.name == old.0.name && new.0 == old.0 && new.1.kind == old.1.kind)
        });
    kept && key_names(old.0) == key_names(new.0)
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
