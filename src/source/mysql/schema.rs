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
use super::columns::{Optional, Seen, column};
use super::decode::{ColumnKind, ColumnPlan, MAX_KEY_PARTS, RowPlan};
use super::definition::Before;
use super::description::{Description, Length};
use super::server::Family;
use super::wire::{Short, Wire, bit};

/// The statement that makes table maps say everything.
pub const FULL_METADATA: &str = "SET PERSIST binlog_row_metadata = 'FULL'";

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
    #[error("the table map does not name the columns, and nobody asked the server for them")]
    Minimal,
    #[error(
        "the table has no primary key, and no unique key over NOT NULL columns: add one and start again, name the columns that tell its rows apart (`id` in a \
         [[table]] section), or exclude the table by a pattern"
    )]
    NoKey,
    #[error(
        "its key is the column {column:?} by the configuration (`id` in a [[table]] section), and {why}: name others, or exclude the table by a pattern"
    )]
    NamedKey { column: String, why: &'static str },
    #[error("column {column:?} is of type {ty}, which is not decoded yet: exclude the table by a pattern")]
    Type { column: String, ty: String },
    #[error(
        "column {column:?} uses {source}, which is none of the servers' own, or newer than this program: exclude the table by a pattern"
    )]
    Charset { column: String, source: UnknownCharset },
}

impl SchemaError {
    /// Why a column cannot be of a key, if it cannot. `nullable`: whether it may be NULL; `None`: it is not there.
    pub(super) fn of_named(nullable: Option<bool>) -> Option<&'static str> {
        match nullable {
            None => Some("the table has no such column"),
            Some(true) => Some("that may be NULL, so it does not tell all rows apart"),
            Some(false) => None,
        }
    }
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

/// A table's schema and how to decode its rows, from its [description](super::description).
///
/// # Errors
/// See [`SchemaError`].
pub fn build(
    name: &TableName,
    described: &[u8],
    family: Family,
) -> Result<(TableSchema, RowPlan), SchemaError> {
    let mut wire = Wire::new(described);
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

    let key = match &optional.named_key[..] {
        [] => optional.key,
        named => named.iter().map(|name| named_column(&columns, name)).collect::<Result<_, _>>()?,
    };
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
    let schema = TableSchema { name: name.clone(), columns, key: key.clone() };
    Ok((schema, RowPlan { columns: plans, key }))
}

/// The place of a column that is of the key by the configuration.
fn named_column(columns: &[Column], name: &[u8]) -> Result<u16, SchemaError> {
    let found = columns.iter().position(|column| column.name.as_bytes() == name);
    let column = found.and_then(|index| columns.get(index));
    if let Some(why) = SchemaError::of_named(column.map(|column| column.nullable)) {
        return Err(SchemaError::NamedKey { column: String::from_utf8_lossy(name).into_owned(), why });
    }
    found.and_then(|index| u16::try_from(index).ok()).ok_or(SchemaError::Malformed)
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

/// Whether a description is that of a sequence, which nothing else says: those columns, and no primary key.
#[must_use]
pub fn is_sequence(described: &[u8], family: Family) -> bool {
    let names = || -> Result<bool, SchemaError> {
        let mut wire = Wire::new(described);
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

/// Why documents of rows of the shape `old` are not what those are now that they have the shape `new`; `None` if they are, but for columns
/// that were added.
#[must_use]
pub fn difference(old: (&TableSchema, &RowPlan), new: (&TableSchema, &RowPlan)) -> Option<String> {
    let key = |schema: &TableSchema| {
        let names = schema.key.iter().filter_map(|index| schema.columns.get(usize::from(*index)));
        names.map(|column| column.name.escape_debug().to_string()).collect::<Vec<_>>().join(", ")
    };
    for (column, plan) in old.0.columns.iter().zip(&old.1.columns) {
        let name = column.name.escape_debug();
        let mut all = new.0.columns.iter().zip(&new.1.columns);
        let Some((now, plan_now)) = all.find(|(now, _)| now.name == column.name) else {
            return Some(format!("its rows have no column {name} any more"));
        };
        if !prints_alike((column.ty, &plan.kind), (now.ty, &plan_now.kind)) {
            return Some(format!("its column {name} is of another type"));
        }
    }
    let (before, now) = (key(old.0), key(new.0));
    (before != now).then(|| format!("its rows are told apart by ({now}), by ({before}) before"))
}

/// Whether a value of the old type that is one of the new type too prints the same.
fn prints_alike(old: (ColumnType, &ColumnKind), new: (ColumnType, &ColumnKind)) -> bool {
    match (old, new) {
        ((ColumnType::Integer { .. }, _), (ColumnType::Integer { .. }, _))
        | ((ColumnType::Bit { .. }, _), (ColumnType::Bit { .. }, _))
        | ((ColumnType::Varchar | ColumnType::Text, _), (ColumnType::Varchar | ColumnType::Text, _)) => true,
        ((ColumnType::Decimal { scale: old, .. }, _), (ColumnType::Decimal { scale: new, .. }, _)) => {
            old == new
        }
        ((ColumnType::Binary, old), (ColumnType::Binary, new)) => {
            !matches!(new, ColumnKind::PaddedBytes(_)) || old == new
        }
        ((_, ColumnKind::Enum(old)), (_, ColumnKind::Enum(new)))
        | ((_, ColumnKind::Set(old)), (_, ColumnKind::Set(new))) => {
            old.iter().all(|label| new.contains(label))
        }
        ((old, _), (new, _)) => old == new,
    }
}

/// A column by its name, as rows of this description have it; `None` where it has none of that name.
#[must_use]
pub fn before(described: &[u8], family: Family, column: &str) -> Option<Before> {
    let (schema, plan) = build(&TableName::default(), described, family).ok()?;
    let index = schema.columns.iter().position(|known| known.name == column)?;
    let (known, kind) = (schema.columns.get(index)?, &plan.columns.get(index)?.kind);
    let description = Description::parse(described).ok()?;
    let Length { bytes, padded } = description.length(index).unwrap_or(Length { bytes: 0, padded: false });
    let chars = match description.collations(family).get(index).copied().flatten() {
        Some(collation) if known.ty == ColumnType::Varchar => {
            bytes.div_ceil(Charset::most_bytes(family, collation))
        }
        _ => bytes,
    };
    let labels = match kind {
        ColumnKind::Enum(labels) | ColumnKind::Set(labels) => labels.to_vec(),
        _ => Vec::new(),
    };
    Some(Before { ty: known.ty, nullable: known.nullable, padded, bytes, chars, labels })
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;
