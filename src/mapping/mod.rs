//! From a logged row to a document: which alias it goes to, under which id, and its JSON.
//!
//! # Constraints
//!
//! A document is written straight from the log's bytes into the request body: one pass, no tree in between, no allocation
//! per column. The same row always gives the same bytes, whether it came from the stream or from a snapshot. Two rows of a
//! table never share an id. What the engine would refuse by name is refused here, before anything is sent.
//!
//! # Format
//!
//! - Alias: `schema.table`, lower-cased (index names have no upper case).
//! - Document: one member per column, in row order, NULL as `null`. What each type becomes is docs/types.md's table. A value that has no JSON, or none
//!   that its field takes (a date that no calendar knows), becomes `null`; these are counted in `everrelay_values_nulled_total`.
//! - Id: see [`id`].
//!
//! # Operation
//!
//! [`TableMapping::with_rules`] is called once per version of a table's schema and renders every member's name; then
//! [`TableMapping::id`] and [`TableMapping::document`] are called per change.

mod document;
mod geometry;
mod id;
mod json;
mod name;
pub mod rule;
mod temporal;

use bincode::error::DecodeError;

use crate::event::codec::Row;
use crate::event::document::{Field, FieldKind, IndexSpec};
use crate::event::{ColumnType, TableName, TableSchema, Value};
use crate::metrics::names::VALUES_NULLED;
use rule::{Form, Rules};

/// Why a table or one of its rows cannot become documents.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    #[error(
        "table {table} cannot have an index: {why}; rename the table or leave it out of `tables`, for no index can be called that"
    )]
    IndexName { table: Box<TableName>, why: &'static str },
    #[error(
        "column `{column}` of table {table} cannot be a document field: {why}; rename the column or leave the table out of `tables`"
    )]
    FieldName { table: Box<TableName>, column: Box<str>, why: &'static str },
    #[error(
        "table {table} has no usable key: {why}; documents need an id, so give it a primary key or leave it out of `tables`"
    )]
    Key { table: Box<TableName>, why: &'static str },
    #[error(
        "a row of table {table} has NULL in its key column `{column}` and so no id; make the column NOT NULL or choose another key"
    )]
    NullKey { table: Box<TableName>, column: Box<str> },
    #[error(
        "a logged row of table {table} cannot be read at column `{column}`: the log's schema and row disagree, which is a defect of everrelay: please report it"
    )]
    Row { table: Box<TableName>, column: Box<str>, source: DecodeError },
}

/// How one version of a table's rows become documents.
#[derive(Clone, Debug)]
pub struct TableMapping {
    table: TableName,
    /// As metrics label.
    label: String,
    spec: IndexSpec,
    columns: Vec<ColumnPlan>,
    /// Indices into `columns`, in key order.
    key: Vec<usize>,
    /// What the members' names take of a document, bytes.
    names_bytes: usize,
}

#[derive(Clone, Debug)]
struct ColumnPlan {
    name: Box<str>,
    /// The member's name as it stands in the document: `{"id":` for the first, `,"name":` for others.
    member: Box<[u8]>,
    form: Form,
}

impl TableMapping {
    /// A table that no rule speaks of.
    ///
    /// # Errors
    /// As [`TableMapping::with_rules`].
    pub fn new(schema: &TableSchema) -> Result<TableMapping, MappingError> {
        TableMapping::with_rules(schema, &Rules::default())
    }

    /// # Errors
    /// The engine would refuse the alias or a field, or the key names no column.
    pub fn with_rules(schema: &TableSchema, rules: &Rules) -> Result<TableMapping, MappingError> {
        let rules = rules.of(&schema.name);
        let table = || Box::new(schema.name.clone());
        let alias = alias(&schema.name)?;
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for column in &schema.columns {
            name::check_field(&column.name).map_err(|why| MappingError::FieldName {
                table: table(),
                column: column.name.escape_debug().to_string().into(),
                why,
            })?;
            let mut member = vec![if columns.is_empty() { b'{' } else { b',' }, b'"'];
            json::escape(column.name.as_bytes(), &mut member);
            member.extend_from_slice(b"\":");
            let (form, kind) = rules.column(column.ty, field_kind(column.ty));
            columns.push(ColumnPlan { name: column.name.as_str().into(), member: member.into(), form });
            fields.push(Field { name: column.name.clone(), kind });
        }
        let key: Vec<usize> = schema.key.iter().map(|&index| usize::from(index)).collect();
        if key.is_empty() {
            return Err(MappingError::Key { table: table(), why: "its schema names none" });
        }
        if key.iter().any(|&index| index >= columns.len()) {
            return Err(MappingError::Key {
                table: table(),
                why: "its schema names a column that is not there",
            });
        }
        Ok(TableMapping {
            table: schema.name.clone(),
            label: schema.name.to_string(),
            spec: IndexSpec { alias, fields },
            names_bytes: columns.iter().map(|column| column.member.len()).sum(),
            columns,
            key,
        })
    }

    /// The alias and fields that the documents need.
    #[must_use]
    pub fn spec(&self) -> &IndexSpec {
        &self.spec
    }

    /// Replaces `out` by the id of `row`'s document, 1 to 512 bytes.
    ///
    /// # Errors
    /// A key column is NULL, or the row cannot be read.
    pub fn id(&self, row: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        out.clear();
        let joined = self.key.len() > 1;
        let (mut rest, mut at) = (row, 0);
        for (n, &column) in self.key.iter().enumerate() {
            if column < at {
                // The key's order is not the row's: look from the start again.
                (rest, at) = (row, 0);
            }
            while at < column {
                self.value(&mut rest, at)?;
                at += 1;
            }
            let value = self.value(&mut rest, at)?;
            at += 1;
            self.part(n, column, &value, joined, out)?;
        }
        id::finish(out);
        Ok(())
    }

    /// Replaces `out` by the id that the row of an [`Op::Rekey`](crate::event::Op::Rekey) had before: its key values follow `row`'s own, in key
    /// order.
    ///
    /// # Errors
    /// A key column was NULL, or the row cannot be read.
    pub fn old_id(&self, row: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        let mut rest = row;
        for column in 0..self.columns.len() {
            self.value(&mut rest, column)?;
        }
        self.id_of_key(rest, out)
    }

    /// Replaces `out` by the id of the document of an [`Op::Tombstone`](crate::event::Op::Tombstone): `key` is the key's values alone.
    ///
    /// # Errors
    /// A key column was NULL, or the values cannot be read.
    pub fn id_of_key(&self, key: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        out.clear();
        let mut rest = key;
        for (n, &column) in self.key.iter().enumerate() {
            let value = self.value(&mut rest, column)?;
            self.part(n, column, &value, self.key.len() > 1, out)?;
        }
        id::finish(out);
        Ok(())
    }

    /// Appends `row`'s document: one JSON object on one line.
    ///
    /// # Errors
    /// The row cannot be read; `out` then ends in an unfinished object.
    pub fn document(&self, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), MappingError> {
        let mut row = row;
        // Numbers and dates print longer than the log holds them, by less than a column's name usually takes.
        out.reserve(self.names_bytes + row.rest().len() + 16 * self.columns.len());
        let mut nulled = 0;
        for (at, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(&column.member);
            let value = self.value(&mut row, at)?;
            nulled += u64::from(!document::write_as(column.form, &value, out));
        }
        out.push(b'}');
        if nulled > 0 {
            metrics::counter!(VALUES_NULLED, "table" => self.label.clone()).increment(nulled);
        }
        Ok(())
    }

    /// Appends one key value to an id in the making.
    fn part(
        &self,
        n: usize,
        column: usize,
        value: &Value<'_>,
        joined: bool,
        out: &mut String,
    ) -> Result<(), MappingError> {
        if n > 0 {
            out.push('|');
        }
        if id::push(value, joined, out) {
            return Ok(());
        }
        let column = self.columns[column].name.clone();
        Err(MappingError::NullKey { table: Box::new(self.table.clone()), column })
    }

    #[inline]
    fn value<'a>(&self, row: &mut Row<'a>, column: usize) -> Result<Value<'a>, MappingError> {
        row.next_value().map_err(|source| self.unreadable(column, source))
    }

    #[cold]
    fn unreadable(&self, column: usize, source: DecodeError) -> MappingError {
        let column = self.columns[column].name.clone();
        MappingError::Row { table: Box::new(self.table.clone()), column, source }
    }
}

/// The alias of a table's documents.
///
/// # Errors
/// The engine would refuse it.
pub fn alias(table: &TableName) -> Result<String, MappingError> {
    let alias = format!("{}.{}", table.schema, table.table).to_lowercase();
    match name::check_alias(&alias) {
        Ok(()) => Ok(alias),
        Err(why) => Err(MappingError::IndexName { table: Box::new(table.clone()), why }),
    }
}

fn field_kind(ty: ColumnType) -> FieldKind {
    match ty {
        ColumnType::Integer { bits: ..=8, unsigned: false } => FieldKind::Byte,
        ColumnType::Integer { bits: ..=8, .. } => FieldKind::Short,
        ColumnType::Integer { bits: ..=16, unsigned: false } => FieldKind::Short,
        ColumnType::Integer { bits: ..=24, .. } => FieldKind::Integer,
        ColumnType::Integer { bits: ..=32, unsigned: false } => FieldKind::Integer,
        ColumnType::Integer { bits: ..=32, .. } => FieldKind::Long,
        ColumnType::Integer { unsigned: false, .. } | ColumnType::Bit { bits: ..=63 } => FieldKind::Long,
        ColumnType::Integer { .. } | ColumnType::Bit { .. } => FieldKind::UnsignedLong,
        ColumnType::Year => FieldKind::Short,
        ColumnType::Decimal { .. } | ColumnType::Double => FieldKind::Double,
        ColumnType::Float => FieldKind::Float,
        ColumnType::Varchar => FieldKind::TextWithKeyword,
        ColumnType::Text => FieldKind::Text,
        ColumnType::Binary => FieldKind::Binary,
        ColumnType::Date | ColumnType::DateTime { .. } | ColumnType::Timestamp { .. } => FieldKind::Date,
        ColumnType::Time { .. } | ColumnType::Enum | ColumnType::Set => FieldKind::Keyword,
        ColumnType::Json => FieldKind::Object,
        ColumnType::Geometry => FieldKind::GeoShape,
        ColumnType::Vector { dimensions } => FieldKind::DenseVector { dimensions },
        ColumnType::Uuid => FieldKind::Keyword,
        ColumnType::Inet4 | ColumnType::Inet6 => FieldKind::Ip,
    }
}

#[cfg(test)]
mod tests;
