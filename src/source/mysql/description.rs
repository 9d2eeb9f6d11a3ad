//! A table's description: all that a table map can say of a table, though the map at hand may leave parts of it out.
//!
//! With `binlog_row_metadata=FULL` a map is its own description, but for a key that is not the primary one and for types that MariaDB's maps do not tell. With MINIMAL (and MariaDB's
//! NO_LOG) it has no names, labels and key, and what it lacks comes from a description of the same table: the one that the log holds of its last
//! rows, or one made from information_schema.
//!
//! # Format
//!
//! That of a table map behind its names, see [`schema`](super::schema), with every field that is needed. The log keeps it.

use super::charset::Charset;
use super::server::Family;
use super::wire::{Short, Wire};

/// Optional fields of a table map that are needed; of two ways to say the same the lower number stands for both.
pub const SIGNS: u8 = 1;
pub const CHARSETS: u8 = 2;
pub const NAMES: u8 = 4;
pub const SET_LABELS: u8 = 5;
pub const ENUM_LABELS: u8 = 6;
pub const KEY: u8 = 8;
pub const LABEL_CHARSETS: u8 = 10;
/// Of each of MySQL's vectors, how many numbers it has; maps say it whatever they leave out.
pub const DIMENSIONS: u8 = 13;

/// What no server's table map says: which columns are of MariaDB's types that it has as BINARY and VARBINARY. For each its number in the table, the [type](Native), and
/// for a vector how many numbers it has, else 0. It is there and empty where no column is.
pub const NATIVES: u8 = 128;

/// What no server says: the columns that are the table's key by the [configuration](super::named_key), whatever else is said of that. Their names, in key order.
pub const NAMED: u8 = 129;

/// MariaDB's types that its table maps do not tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Native {
    /// As BINARY(16).
    Uuid,
    /// As BINARY(4).
    Inet4,
    /// As BINARY(16).
    Inet6,
    /// As VARBINARY of four bytes for each number.
    Vector { dimensions: u16 },
}

impl Native {
    /// Appends what [`NATIVES`] says of column number `column`.
    pub fn push(self, column: usize, out: &mut Vec<u8>) {
        let (number, dimensions) = match self {
            Native::Uuid => (1, 0),
            Native::Inet4 => (2, 0),
            Native::Inet6 => (3, 0),
            Native::Vector { dimensions } => (4, dimensions),
        };
        [column, number, usize::from(dimensions)].into_iter().for_each(|part| length(part, out));
    }

    /// The next column's number and type.
    ///
    /// # Errors
    /// It ends early, or means nothing.
    pub fn take(wire: &mut Wire<'_>) -> Result<(usize, Native), Short> {
        let column = wire.size()?;
        let native = match (wire.length()?, u16::try_from(wire.length()?)) {
            (1, Ok(0)) => Native::Uuid,
            (2, Ok(0)) => Native::Inet4,
            (3, Ok(0)) => Native::Inet6,
            (4, Ok(dimensions)) => Native::Vector { dimensions },
            _ => return Err(Short),
        };
        Ok((column, native))
    }
}

/// A description, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description<'a> {
    pub types: &'a [u8],
    pub metadata: &'a [u8],
    /// Bits of the columns that may be NULL.
    pub nulls: &'a [u8],
    /// Number and value of each optional field, in their order.
    fields: Vec<(u8, &'a [u8])>,
}

impl<'a> Description<'a> {
    /// # Errors
    /// It ends early.
    pub fn parse(bytes: &'a [u8]) -> Result<Description<'a>, Short> {
        let mut wire = Wire::new(bytes);
        let count = wire.size()?;
        let types = wire.take(count)?;
        let metadata = wire.string()?;
        let nulls = wire.take(count.div_ceil(8))?;
        let mut fields = Vec::new();
        while !wire.is_empty() {
            fields.push((wire.u8()?, wire.string()?));
        }
        Ok(Description { types, metadata, nulls, fields })
    }

    /// A field's number and value, whichever way it is said.
    #[must_use]
    pub fn field(&self, field: u8) -> Option<(u8, &'a [u8])> {
        self.fields.iter().find(|(number, _)| subject(*number) == field).copied()
    }

    /// The columns' names, if it has them.
    #[must_use]
    pub fn names(&self) -> Option<Vec<&'a [u8]>> {
        let (_, value) = self.field(NAMES)?;
        let mut wire = Wire::new(value);
        (0..self.types.len()).map(|_| wire.string().ok()).collect()
    }

    /// Whether rows can be read and told apart by it alone.
    #[must_use]
    pub fn is_whole(&self, family: Family) -> bool {
        self.field(NAMES).is_some()
            && [KEY, NAMED].iter().any(|key| self.field(*key).is_some_and(|(_, key)| !key.is_empty()))
            && (self.field(NATIVES).is_some() || !self.may_have_natives(family))
    }

    /// Whether a column may be of a type that MariaDB's table maps do not tell.
    fn may_have_natives(&self, family: Family) -> bool {
        let mut columns = self.columns().zip(self.collations(family));
        family == Family::Mariadb
            && columns.any(|(column, collation)| {
                column.is_ok_and(Native::may_be)
                    && collation.is_some_and(|number| Charset::of(family, number) == Ok(Charset::Binary))
            })
    }

    /// It with what it lacks taken from `other`; `None` if that is not of the same columns.
    #[must_use]
    pub fn completed_by(&self, other: &Description<'_>) -> Option<Vec<u8>> {
        let same_types =
            self.types == other.types && self.metadata == other.metadata && self.nulls == other.nulls;
        let same_fields = [SIGNS, CHARSETS, NAMES].iter().all(|field| {
            let (own, other) = (self.field(*field), other.field(*field));
            own.is_none() || other.is_none() || own == other
        });
        if !same_types || !same_fields {
            return None;
        }
        let mut fields = self.fields.clone();
        fields.retain(|(number, value)| subject(*number) != KEY || !value.is_empty());
        for field in [SIGNS, CHARSETS, NAMES, SET_LABELS, ENUM_LABELS, KEY, LABEL_CHARSETS, NATIVES] {
            if !fields.iter().any(|(number, _)| subject(*number) == field) {
                fields.extend(other.field(field));
            }
        }
        fields.sort_by_key(|(number, _)| *number);
        Some(self.with(fields).to_bytes())
    }

    /// It with these columns as its key by the configuration; `None`: with none.
    #[must_use]
    pub fn with_key(&self, columns: Option<&[String]>) -> Vec<u8> {
        let mut named = Vec::new();
        columns.into_iter().flatten().for_each(|column| string(column.as_bytes(), &mut named));
        let mut fields = self.fields.clone();
        fields.retain(|(number, _)| *number != NAMED);
        fields.extend(columns.map(|_| (NAMED, &named[..])));
        self.with(fields).to_bytes()
    }

    /// The columns that are its key by the configuration, if any are.
    #[must_use]
    pub fn named_key(&self) -> Option<Vec<&'a [u8]>> {
        let (_, value) = self.field(NAMED)?;
        let (mut wire, mut columns) = (Wire::new(value), Vec::new());
        while !wire.is_empty() {
            columns.push(wire.string().ok()?);
        }
        Some(columns)
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        length(self.types.len(), &mut bytes);
        bytes.extend_from_slice(self.types);
        string(self.metadata, &mut bytes);
        bytes.extend_from_slice(self.nulls);
        for (number, value) in &self.fields {
            bytes.push(*number);
            string(value, &mut bytes);
        }
        bytes
    }

    /// Each column's type byte and its part of the metadata.
    pub fn columns(&self) -> impl Iterator<Item = Result<(u8, &'a [u8]), Short>> {
        let mut metadata = Wire::new(self.metadata);
        self.types.iter().map(move |ty| Ok((*ty, metadata.take(metadata_bytes(*ty))?)))
    }

    /// How long the values of a string column may be.
    #[must_use]
    pub fn length(&self, index: usize) -> Option<Length> {
        let (ty, metadata) = self.columns().nth(index)?.ok()?;
        Length::of(ty, metadata)
    }

    /// The collation of each column that has one to the server.
    #[must_use]
    pub fn collations(&self, family: Family) -> Vec<Option<u64>> {
        let (field, value) = self.field(CHARSETS).unwrap_or((CHARSETS, &[]));
        let mut wire = Wire::new(value);
        // One for each, or a default and which columns are exceptions, in their order.
        let default = if field == CHARSETS { wire.length().ok() } else { None };
        let mut exception = None;
        let mut number = 0;
        let columns = self.columns().map(|column| {
            let (ty, metadata) = column.ok()?;
            if !has_collation(ty, metadata, family) {
                return None;
            }
            number += 1;
            if field != CHARSETS {
                return wire.length().ok();
            }
            if exception.is_none() && !wire.is_empty() {
                exception = Some((wire.length().ok()?, wire.length().ok()?));
            }
            match exception {
                Some((of, collation)) if of + 1 == number => {
                    exception = None;
                    Some(collation)
                }
                _ => default,
            }
        });
        columns.collect()
    }

    /// A description of the same columns with other fields, in the order of their numbers.
    #[must_use]
    pub fn with<'b>(&self, fields: Vec<(u8, &'b [u8])>) -> Description<'b>
    where
        'a: 'b,
    {
        Description { types: self.types, metadata: self.metadata, nulls: self.nulls, fields }
    }
}

/// Whether the server counts a column of this type and metadata among those with a collation: a VECTOR is one of them to MySQL, a geometry to MariaDB.
#[must_use]
pub fn has_collation(ty: u8, metadata: &[u8], family: Family) -> bool {
    let also = if family == Family::Mysql { 242 } else { 255 };
    ty == also || Length::of(ty, metadata).is_some()
}

impl Native {
    /// Whether a column of this type and metadata may be one, if it is binary.
    fn may_be(column: (u8, &[u8])) -> bool {
        match column {
            (254, [0xfe, bytes]) => matches!(bytes, 4 | 16),
            (15, [low, high]) => u16::from_le_bytes([*low, *high]) % 4 == 0,
            _ => false,
        }
    }
}

/// How long a string column's values may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    pub bytes: usize,
    /// CHAR or BINARY.
    pub padded: bool,
}

impl Length {
    fn of(ty: u8, metadata: &[u8]) -> Option<Length> {
        match (ty, metadata) {
            (15 | 253 | 141, [low, high]) => {
                Some(Length { bytes: usize::from(u16::from_le_bytes([*low, *high])), padded: false })
            }
            (249..=252 | 140, [prefix @ 1..=4]) => {
                let bytes = usize::try_from((1_u64 << (8 * prefix)) - 1).ok()?;
                Some(Length { bytes, padded: false })
            }
            // ENUM and SET hide in the same type; the upper bits of a long CHAR do so too, inverted.
            (254, [247 | 248, _]) => None,
            (254, [first, second]) => {
                let bytes = usize::from(*second) | usize::from(first & 0x30 ^ 0x30) << 4;
                Some(Length { bytes, padded: true })
            }
            _ => None,
        }
    }
}

/// How many bytes of the metadata a type takes (MySQL, libs/mysql/binlog/event/rows_event.h, *Table_map_event*, m_field_metadata).
fn metadata_bytes(ty: u8) -> usize {
    match ty {
        4 | 5 | 17..=19 | 140 | 242 | 245 | 249..=252 | 255 => 1,
        15 | 16 | 141 | 246..=248 | 253 | 254 => 2,
        _ => 0,
    }
}

/// What a field is about: some are said in one of two ways.
fn subject(field: u8) -> u8 {
    match field {
        3 => CHARSETS,
        9 => KEY,
        11 => LABEL_CHARSETS,
        field => field,
    }
}

/// Appends a length as MySQL's protocol writes it (*net_store_length*).
pub fn length(length: usize, out: &mut Vec<u8>) {
    match length {
        0..=250 => out.push(length as u8),
        251..=0xffff => {
            out.push(252);
            out.extend_from_slice(&(length as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(253);
            out.extend_from_slice(&(length as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(254);
            out.extend_from_slice(&(length as u64).to_le_bytes());
        }
    }
}

/// Appends a length and the bytes.
pub fn string(bytes: &[u8], out: &mut Vec<u8>) {
    length(bytes.len(), out);
    out.extend_from_slice(bytes);
}
