//! A table's shape as the log carries it: columns in row order, and the columns that identify a row.

use bincode::{Decode, Encode};

/// Most columns that a table may have (MySQL's own limit), checked wherever a count comes from outside.
pub const MAX_COLUMNS: usize = 4096;

/// `schema.table`, as the source spells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TableName {
    pub schema: String,
    pub table: String,
}

impl TableName {
    pub fn new(schema: impl Into<String>, table: impl Into<String>) -> TableName {
        TableName { schema: schema.into(), table: table.into() }
    }
}

impl std::fmt::Display for TableName {
    /// Control characters are escaped: names go into log lines.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema.escape_debug(), self.table.escape_debug())
    }
}

/// One version of a table's schema.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TableSchema {
    pub name: TableName,
    /// In row order, invisible and generated columns included; at most [`MAX_COLUMNS`].
    pub columns: Vec<Column>,
    /// Indices into `columns` of the row's key, in key order; never empty.
    pub key: Vec<u16>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Column {
    pub name: String,
    pub ty: ColumnType,
    pub nullable: bool,
}

/// A column's type, as far as documents and mappings depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum ColumnType {
    /// `bits`: 8, 16, 24, 32 or 64.
    Integer {
        bits: u8,
        unsigned: bool,
    },
    Year,
    Decimal {
        precision: u8,
        scale: u8,
    },
    Float,
    Double,
    /// `bits`: 1 to 64.
    Bit {
        bits: u8,
    },
    /// CHAR and VARCHAR.
    Varchar,
    /// TINYTEXT to LONGTEXT.
    Text,
    /// BINARY, VARBINARY, TINYBLOB to LONGBLOB.
    Binary,
    Date,
    /// DATETIME(`decimals`), no time zone.
    DateTime {
        decimals: u8,
    },
    /// TIMESTAMP(`decimals`), an instant in UTC.
    Timestamp {
        decimals: u8,
    },
    /// TIME(`decimals`), a signed duration.
    Time {
        decimals: u8,
    },
    Enum,
    Set,
    Json,
    /// All shapes.
    Geometry,
    /// At most `dimensions` numbers, each an f32.
    Vector {
        dimensions: u16,
    },
    /// Text: `01234567-89ab-1def-8123-456789abcdef`.
    Uuid,
    /// Text: `10.2.0.1`.
    Inet4,
    /// Text: `2001:db8::1`.
    Inet6,
}
