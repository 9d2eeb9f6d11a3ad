//! Where a document is: the alias that it is behind, and what it is routed by.
//!
//! Both may be said by columns of the key, and by no others: of an older row that is to be deleted no more is known.

use super::rule::{Rules, TableRules};
use super::template::{ColumnPart, IndexTemplate};
use super::{MappingError, TableMapping, id, name};
use crate::event::codec::Row;
use crate::event::document::{Behind, Verb};
use crate::event::{ColumnType, Op, TableName, TableSchema, Value};

/// What of a key says where its document is.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// Indices into the key of what documents are routed by.
    routing: Vec<usize>,
    /// What each document's alias is made from, and indices into the key of the columns that are in it, in their order.
    by_row: Option<(IndexTemplate, Vec<usize>)>,
}

impl Places {
    pub(super) fn of(
        schema: &TableSchema,
        key: &[usize],
        rules: &TableRules,
        is_by_row: bool,
    ) -> Result<Places, MappingError> {
        let table = || Box::new(schema.name.clone());
        let routing = |column: &String| {
            place_in_key(schema, key, column).map_err(|why| MappingError::Routing {
                table: table(),
                column: column.escape_debug().to_string().into(),
                why,
            })
        };
        let of_column = |column: &ColumnPart| {
            let wrong = |why| MappingError::Index {
                table: table(),
                column: column.name.escape_debug().to_string().into(),
                why,
            };
            let place = place_in_key(schema, key, &column.name).map_err(wrong)?;
            let ty = key.get(place).and_then(|&at| schema.columns.get(at)).map(|column| column.ty);
            let is_date = matches!(
                ty,
                Some(ColumnType::Date | ColumnType::DateTime { .. } | ColumnType::Timestamp { .. })
            );
            if column.date.is_some() && !is_date {
                return Err(wrong("it is none of DATE, DATETIME and TIMESTAMP, which alone `%` is for"));
            }
            Ok(place)
        };
        let by_row = rules.index.as_ref().filter(|_| is_by_row).map(|template| {
            let places = template.columns().map(of_column).collect::<Result<_, _>>()?;
            Ok((template.clone(), places))
        });
        Ok(Places {
            routing: rules.routing.iter().map(routing).collect::<Result<_, _>>()?,
            by_row: by_row.transpose()?,
        })
    }
}

impl TableMapping {
    /// What the document that a change does `verb` to is routed by; `None` where it is by its id.
    ///
    /// # Errors
    /// As [`TableMapping::id`].
    pub fn routing(&self, op: Op, verb: Verb, row: Row<'_>) -> Result<Option<String>, MappingError> {
        if self.places.routing.is_empty() {
            return Ok(None);
        }
        let mut out = String::new();
        match (op, verb) {
            (Op::Tombstone, _) => self.routing_of_key(row, &mut out)?,
            (Op::Rekey, Verb::Delete) => self.routing_of_key(self.old_key(row)?, &mut out)?,
            _ => self.join(row, self.places.routing.iter().map(|&at| self.key[at]), &mut out)?,
        }
        Ok(Some(out))
    }

    /// Whether each row says by its key which alias its document is behind.
    #[must_use]
    pub fn is_by_row(&self) -> bool {
        self.places.by_row.is_some()
    }

    /// Replaces `out` by the alias that the document is behind which a change does `verb` to.
    ///
    /// # Errors
    /// The row cannot be read.
    pub fn alias(&self, op: Op, verb: Verb, row: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        let Some((template, places)) = &self.places.by_row else {
            out.clone_from(&self.spec.alias);
            return Ok(());
        };
        let of_key = match (op, verb) {
            (Op::Tombstone, _) => Some(row),
            (Op::Rekey, Verb::Delete) => Some(self.old_key(row)?),
            _ => None,
        };
        let mut values = Vec::with_capacity(places.len());
        for &place in places {
            let column = self.key[place];
            let mut rest = of_key.unwrap_or(row);
            let mut value = Value::Null;
            if of_key.is_some() {
                for &column in &self.key[..=place] {
                    value = self.value(&mut rest, column)?;
                }
            } else {
                for column in 0..=column {
                    value = self.value(&mut rest, column)?;
                }
            }
            values.push(value);
        }
        template.fill(&self.table, values.into_iter(), out);
        Ok(())
    }

    fn routing_of_key(&self, key: Row<'_>, out: &mut String) -> Result<(), MappingError> {
        for (n, &wanted) in self.places.routing.iter().enumerate() {
            let mut rest = key;
            for &column in &self.key[..wanted] {
                self.value(&mut rest, column)?;
            }
            let column = self.key[wanted];
            let value = self.value(&mut rest, column)?;
            self.part(n, column, &value, self.places.routing.len() > 1, out)?;
        }
        id::finish(out);
        Ok(())
    }
}

/// Behind what a table's documents are.
///
/// # Errors
/// The engine would refuse it.
pub fn behind(table: &TableName, rules: &Rules) -> Result<Behind, MappingError> {
    checked(table, &rules.of(table))
}

pub(super) fn checked(table: &TableName, rules: &TableRules) -> Result<Behind, MappingError> {
    let mut behind = match &rules.index {
        Some(template) => template.behind(table),
        None => Behind::Alias(format!("{}.{}", table.schema, table.table).to_lowercase()),
    };
    let result = match (&behind, &rules.index) {
        (Behind::ByRow(_), Some(template)) => name::check_alias(&template.longest(table)),
        (behind, _) => name::check_alias(&behind.to_string()),
    };
    result.map_err(|why| MappingError::IndexName { table: Box::new(table.clone()), why })?;
    if let Behind::ByRow(by_row) = &mut behind {
        by_row.deleted_index = rules.deleted_index;
    }
    Ok(behind)
}

/// Where in the key a column is that says where documents go.
fn place_in_key(schema: &TableSchema, key: &[usize], name: &str) -> Result<usize, &'static str> {
    let column = schema.columns.iter().position(|column| column.name == name);
    let column = column.ok_or("it has no such column")?;
    key.iter().position(|&at| at == column).ok_or(
        "it is not of the key: where a row that changes it was before the log does not keep. Name it in `id` too, behind the columns of the key",
    )
}
