//! The columns of a table map: each its type byte, its part of the types' metadata and of the optional fields.
//!
//! # Format
//!
//! The optional fields of [`schema`](super::schema) count columns by sort: signs are those of numeric columns alone,
//! collations those of columns with text, label lists those of ENUM and of SET.

use crate::event::ColumnType;

use super::charset::Charset;
use super::decode::{ColumnKind, Store};
use super::description::{DIMENSIONS, NAMED, NATIVES, Native};
use super::numbers::Decimal;
use super::schema::SchemaError;
use super::server::Family;
use super::temporal::fraction_bytes;
use super::wire::{Short, Wire};

/// Most labels of an ENUM and of a SET (MySQL Reference Manual, *The ENUM Type*, *The SET Type*): a value is a number of two bytes, or a bit
/// each in eight.
const MAX_ENUM_LABELS: usize = 65_535;
const MAX_SET_LABELS: usize = 64;

/// The optional metadata, field by field.
#[derive(Debug, Default)]
pub(super) struct Optional<'a> {
    signedness: &'a [u8],
    charsets: Charsets<'a>,
    label_charsets: Charsets<'a>,
    pub(super) names: Option<Wire<'a>>,
    set_labels: Wire<'a>,
    enum_labels: Wire<'a>,
    dimensions: Wire<'a>,
    /// MariaDB's columns that are not what the table map says.
    natives: Vec<(usize, Native)>,
    /// Indices of the primary key's columns.
    pub(super) key: Vec<u16>,
    /// Names of the columns that are the key in its place.
    pub(super) named_key: Vec<&'a [u8]>,
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
    pub(super) fn parse(mut wire: Wire<'a>, family: Family) -> Result<Optional<'a>, SchemaError> {
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
                DIMENSIONS => optional.dimensions = list,
                NATIVES if family == Family::Mariadb => {
                    while !list.is_empty() {
                        optional.natives.push(Native::take(&mut list)?);
                    }
                }
                NAMED => {
                    while !list.is_empty() {
                        optional.named_key.push(list.string()?);
                    }
                }
                // 7 geometry types, 12 visibility, and whatever comes later: nothing that decoding needs.
                _ => {}
            }
        }
        Ok(optional)
    }
}

/// How many columns of each sort came before: the optional fields count by sort.
#[derive(Debug, Default)]
pub(super) struct Seen {
    all: usize,
    numeric: usize,
    character: u64,
    label: u64,
}

pub(super) type Described = (ColumnType, Store, ColumnKind);

/// What MariaDB's table maps do not describe.
const OLD_TEMPORAL: &str = "TIME, DATETIME or TIMESTAMP as of mysql56_temporal_format = OFF (ALTER TABLE … FORCE with ON stores it anew)";

/// One column; takes its part of the metadata and of the optional fields.
pub(super) fn column(
    binlog_type: u8,
    metadata: &mut Wire<'_>,
    optional: &mut Optional<'_>,
    seen: &mut Seen,
    name: &str,
) -> Result<Described, SchemaError> {
    let described = stored(binlog_type, metadata, optional, seen, name)?;
    let native = optional.natives.iter().find(|(column, _)| *column == seen.all);
    seen.all += 1;
    let Some((_, native)) = native else { return Ok(described) };
    let (_, store, kind) = described;
    Ok(match (native, kind) {
        (Native::Uuid, ColumnKind::PaddedBytes(16)) => (ColumnType::Uuid, store, ColumnKind::Uuid),
        (Native::Inet4, ColumnKind::PaddedBytes(4)) => (ColumnType::Inet4, store, ColumnKind::Inet4),
        (Native::Inet6, ColumnKind::PaddedBytes(16)) => (ColumnType::Inet6, store, ColumnKind::Inet6),
        (&Native::Vector { dimensions }, ColumnKind::Bytes) => {
            (ColumnType::Vector { dimensions }, store, ColumnKind::Vector)
        }
        _ => return Err(SchemaError::Malformed),
    })
}

/// A column as the table map has it.
fn stored(
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
        // They may have fractions there, in more bytes, and the map does not say so (MariaDB, *Field_time_hires* and its like, sql/field.h).
        7 | 11 | 12 if optional.family == Family::Mariadb => return Err(unknown(OLD_TEMPORAL)),
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
        242 | 245 | 255 => {
            let prefix = metadata.u8()?;
            if !(1..=4).contains(&prefix) {
                return Err(SchemaError::Malformed);
            }
            let (ty, kind) = match binlog_type {
                242 => vector(optional, seen)?,
                245 => (ColumnType::Json, ColumnKind::Json),
                _ => geometry(optional, seen)?,
            };
            (ty, Store::Prefixed(prefix), kind)
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

/// MySQL counts a VECTOR among the columns with a collation.
fn vector(optional: &mut Optional<'_>, seen: &mut Seen) -> Result<(ColumnType, ColumnKind), SchemaError> {
    optional.charsets.next(seen.character)?;
    seen.character += 1;
    let dimensions = u16::try_from(optional.dimensions.length()?).map_err(|_| SchemaError::Malformed)?;
    Ok((ColumnType::Vector { dimensions }, ColumnKind::Vector))
}

/// MariaDB counts a geometry among the columns with a collation, MySQL does not.
fn geometry(optional: &mut Optional<'_>, seen: &mut Seen) -> Result<(ColumnType, ColumnKind), SchemaError> {
    if optional.family == Family::Mariadb {
        optional.charsets.next(seen.character)?;
        seen.character += 1;
    }
    Ok((ColumnType::Geometry, ColumnKind::Geometry))
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
