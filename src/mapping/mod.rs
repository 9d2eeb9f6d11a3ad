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
//! - Alias: `schema.table`, lower-cased (index names have no upper case), or by a [template], of the row's key too.
//! - Routing: none, or the text of columns of the key, made as an id is. Only of the key: of an older row that is to be deleted no more is known.
//! - Document: one member per column, in row order, NULL as `null`; where a rule has documents of deleted rows stay, those have `"deleted":true` behind them, and where one asks for it
//!   an object that says by what the document became what it is. What each type becomes is docs/types.md's table. A value that has no JSON, or none
//!   that its field takes (a date that no calendar knows), becomes `null`; these are counted in `everrelay_values_nulled_total`.
//! - Id: see [`id`].
//!
//! # Operation
//!
//! [`TableMapping::with_rules`] is called once per version of a table's schema and renders every member's name; then
//! [`TableMapping::id`] and [`TableMapping::document`] are called per change.

mod document;
mod extra;
mod geometry;
mod id;
mod json;
mod name;
mod places;
pub mod rule;
pub mod template;
mod temporal;

use std::collections::HashSet;

use bincode::error::DecodeError;

use crate::event::codec::Row;
use crate::event::document::{Action, Behind, Field, FieldKind, IndexSpec, Verb};
use crate::event::{ColumnType, Op, TableName, TableSchema, Value, Version};
use crate::metrics::names::VALUES_NULLED;
use extra::Extra;
use places::Places;
pub use places::behind;
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
        "table {table} cannot be routed by column `{column}`: {why}; `routing` names columns of its key, or of its `id`"
    )]
    Routing { table: Box<TableName>, column: Box<str>, why: &'static str },
    #[error(
        "table {table} cannot have its indices by column `{column}`: {why}; `index` names columns of its key, or of its `id`"
    )]
    Index { table: Box<TableName>, column: Box<str>, why: &'static str },
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
    places: Places,
    /// What the members' names take of a document, bytes.
    names_bytes: usize,
    extra: Extra,
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
        let (mut fields, mut columns) = (Vec::<Field>::new(), Vec::new());
        let mut names = HashSet::new();
        for column in &schema.columns {
            let field = rules.rename.get(&column.name).unwrap_or(&column.name);
            let wrong = |why| MappingError::FieldName {
                table: table(),
                column: column.name.escape_debug().to_string().into(),
                why,
            };
            name::check_field(field).map_err(wrong)?;
            if !names.insert(field) && !rules.rename.is_empty() {
                return Err(wrong("another column has its field, by `rename`"));
            }
            let mut member = vec![if columns.is_empty() { b'{' } else { b',' }, b'"'];
            json::escape(field.as_bytes(), &mut member);
            member.extend_from_slice(b"\":");
            let (form, kind) = rules.column(column.ty, field_kind(column.ty));
            columns.push(ColumnPlan { name: column.name.as_str().into(), member: member.into(), form });
            fields.push(Field { name: field.clone(), kind });
        }
        let extra = Extra::of(&rules, &mut fields).map_err(|(field, why)| MappingError::FieldName {
            table: table(),
            column: field.escape_debug().to_string().into(),
            why,
        })?;
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
        let behind = places::checked(&schema.name, &rules)?;
        let places = Places::of(schema, &key, &rules, matches!(behind, Behind::ByRow(_)))?;
        let (alias, by_row) = match behind {
            Behind::Alias(alias) => (alias, None),
            Behind::ByRow(by_row) => (by_row.pattern.clone(), Some(by_row)),
        };
        let mut renamed = rules.rename;
        renamed.retain(|column, _| schema.columns.iter().any(|there| there.name == *column));
        let spec = IndexSpec {
            alias,
            by_row,
            fields,
            routing: rules.routing,
            renamed,
            pipeline: rules.pipeline,
            deleted: extra.deleted.then(|| extra::DELETED.to_owned()),
            metadata: rules.metadata.filter(|name| !name.is_empty()),
            settings: rules.settings,
            mapping: rules.mapping,
        };
        Ok(TableMapping {
            table: schema.name.clone(),
            label: schema.name.to_string(),
            spec,
            names_bytes: columns.iter().map(|column| column.member.len()).sum(),
            columns,
            key,
            places,
            extra,
        })
    }

    /// The alias, or the pattern of all aliases, and the fields that the documents need.
    #[must_use]
    pub fn spec(&self) -> &IndexSpec {
        &self.spec
    }

    /// Replaces `out` by the id of `row`'s document, 1 to 512 bytes.
    ///
    /// # Errors
    /// A key column is NULL, or the row cannot be read.
    pub fn id(&self, row: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        self.join(row, self.key.iter().copied(), out)
    }

    /// What is done to a document; `routing`: [`TableMapping::routing`].
    #[must_use]
    pub fn action<'a>(
        &'a self,
        verb: Verb,
        id: &'a str,
        version: Version,
        routing: Option<&'a str>,
    ) -> Action<'a> {
        Action { verb, id, version, routing, pipeline: self.spec.pipeline.as_deref() }
    }

    /// Replaces `out` by what is made of the values of these columns, as an id is.
    fn join(
        &self,
        row: Row<'_>,
        columns: impl ExactSizeIterator<Item = usize>,
        out: &mut String,
    ) -> Result<(), MappingError> {
        out.clear();
        let joined = columns.len() > 1;
        let (mut rest, mut at) = (row, 0);
        for (n, column) in columns.enumerate() {
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

    /// The key's values that follow the row of an [`Op::Rekey`].
    fn old_key<'a>(&self, row: Row<'a>) -> Result<Row<'a>, MappingError> {
        let mut rest = row;
        for column in 0..self.columns.len() {
            self.value(&mut rest, column)?;
        }
        Ok(rest)
    }

    /// Replaces `out` by the id that the row of an [`Op::Rekey`](crate::event::Op::Rekey) had before: its key values follow `row`'s own, in key
    /// order.
    ///
    /// # Errors
    /// A key column was NULL, or the row cannot be read.
    pub fn old_id(&self, row: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        self.id_of_key(self.old_key(row)?, out)
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

    /// What a change does to the document of its row; to that of the key before, an [`Op::Rekey`] does [`Verb::Delete`].
    #[must_use]
    pub fn verb(&self, op: Op) -> Verb {
        match op {
            Op::Insert | Op::Update | Op::Read | Op::Rekey => Verb::Index,
            // Of a tombstone nothing is known that could stay.
            Op::Delete if self.extra.deleted => Verb::Index,
            Op::Delete | Op::Tombstone => Verb::Delete,
        }
    }

    /// Appends the document that `row` becomes by a change: one JSON object on one line.
    ///
    /// # Errors
    /// The row cannot be read; `out` then ends in an unfinished object.
    pub fn document(&self, op: Op, row: Row<'_>, out: &mut Vec<u8>) -> Result<(), MappingError> {
        self.stamped_document((op, None), row, out)
    }

    /// The same by a change with these bytes of a [`Stamp`](crate::event::Stamp).
    ///
    /// # Errors
    /// As [`TableMapping::document`], or they are none.
    pub fn stamped_document(
        &self,
        (op, stamp): (Op, Option<&[u8]>),
        row: Row<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), MappingError> {
        let mut row = row;
        // Numbers and dates print longer than the log holds them, by less than a column's name usually takes.
        out.reserve(self.names_bytes + row.rest().len() + 16 * self.columns.len());
        let (mut nulled, mut value) = (0, Value::Null);
        for (at, column) in self.columns.iter().enumerate() {
            out.extend_from_slice(&column.member);
            row.next_into(&mut value).map_err(|source| self.unreadable(at, source))?;
            nulled += u64::from(!document::write_as(column.form, &value, out));
        }
        self.extra.write(op, stamp, out).map_err(|source| MappingError::Row {
            table: Box::new(self.table.clone()),
            column: self.spec.metadata.as_deref().unwrap_or_default().into(),
            source,
        })?;
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
