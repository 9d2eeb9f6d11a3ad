//! Rules: where a table's documents are not what docs/types.md's table says.
//!
//! All rules whose pattern matches a table apply, in their order: a later one wins, key by key. They are applied when a document is made, and never to what the log
//! holds: what is sent again after a change of the rules follows the new ones. Names are compared without regard to case, since aliases are.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::template::IndexTemplate;
use crate::event::document::{DeletedIndex, FieldKind, merge};
use crate::event::pattern::TablePattern;
use crate::event::{ColumnType, TableName};

/// What a DECIMAL becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecimalAs {
    #[default]
    Number,
    /// Its digits in quotation marks: exact where a reader of JSON would round a number.
    String,
}

/// What a date that no calendar knows becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZeroDatesAs {
    #[default]
    Null,
    /// `0000-00-00`, written as other dates are; the field ignores it.
    String,
}

/// What a JSON column becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonAs {
    /// The value, its inner fields mapped as they come.
    #[default]
    Object,
    /// The value, in one field for all that is inside.
    Flattened,
    /// Its text.
    String,
}

/// What becomes of the document of a row that is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletesAs {
    /// It goes too.
    #[default]
    Delete,
    /// It stays as the row was, with `"deleted": true`.
    Mark,
}

/// What is said of the tables that a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub tables: TablePattern,
    /// Where the configuration says it, for people.
    pub line: usize,
    pub decimal: Option<DecimalAs>,
    pub zero_dates: Option<ZeroDatesAs>,
    pub json: Option<JsonAs>,
    pub deletes: Option<DeletesAs>,
    pub index: Option<IndexTemplate>,
    pub deleted_index: Option<DeletedIndex>,
    /// Columns of the key, in this order.
    pub routing: Option<Vec<String>>,
    /// The names of fields, by their columns'.
    pub rename: BTreeMap<String, String>,
    pub pipeline: Option<String>,
    /// The field that says by what a document became what it is; empty: none.
    pub metadata: Option<String>,
    /// By their whole names.
    pub settings: Map<String, Value>,
    pub mapping: Map<String, Value>,
}

impl Rule {
    /// One that says nothing yet.
    #[must_use]
    pub fn of(tables: TablePattern, line: usize) -> Rule {
        Rule {
            tables,
            line,
            decimal: None,
            zero_dates: None,
            json: None,
            deletes: None,
            index: None,
            deleted_index: None,
            routing: None,
            rename: BTreeMap::new(),
            pipeline: None,
            metadata: None,
            settings: Map::new(),
            mapping: Map::new(),
        }
    }
}

/// All rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// What holds for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableRules {
    pub decimal: DecimalAs,
    pub zero_dates: ZeroDatesAs,
    pub json: JsonAs,
    pub deletes: DeletesAs,
    pub index: Option<IndexTemplate>,
    pub deleted_index: DeletedIndex,
    pub routing: Vec<String>,
    pub rename: BTreeMap<String, String>,
    pub pipeline: Option<String>,
    pub metadata: Option<String>,
    pub settings: Map<String, Value>,
    pub mapping: Map<String, Value>,
}

impl Rules {
    pub(super) fn of(&self, table: &TableName) -> TableRules {
        let mut rules = TableRules::default();
        for rule in self.0.iter().filter(|rule| rule.tables.matches_any_case(table)) {
            rules.decimal = rule.decimal.unwrap_or(rules.decimal);
            rules.zero_dates = rule.zero_dates.unwrap_or(rules.zero_dates);
            rules.json = rule.json.unwrap_or(rules.json);
            rules.deletes = rule.deletes.unwrap_or(rules.deletes);
            rules.index = rule.index.clone().or(rules.index);
            rules.deleted_index = rule.deleted_index.unwrap_or(rules.deleted_index);
            rules.routing = rule.routing.clone().unwrap_or(rules.routing);
            rules.pipeline = rule.pipeline.clone().or(rules.pipeline);
            rules.metadata = rule.metadata.clone().or(rules.metadata);
            rules.rename.extend(rule.rename.clone());
            rules.settings.extend(rule.settings.clone());
            merge(&mut rules.mapping, &rule.mapping);
        }
        rules
    }

    /// The rules that match none of these tables.
    pub fn without_a_table<'a>(&'a self, tables: &'a [TableName]) -> impl Iterator<Item = &'a Rule> {
        self.0.iter().filter(|rule| !tables.iter().any(|table| rule.tables.matches_any_case(table)))
    }
}

/// How a column's values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Usual,
    /// The usual JSON's text as a string.
    Quoted,
    /// Dates that no calendar knows as strings.
    AnyDate,
}

impl TableRules {
    /// The form of a column's values, and the field that takes them.
    pub(super) fn column(&self, ty: ColumnType, usual: FieldKind) -> (Form, FieldKind) {
        match ty {
            ColumnType::Decimal { .. } if self.decimal == DecimalAs::String => {
                (Form::Quoted, FieldKind::Keyword)
            }
            ColumnType::Json => match self.json {
                JsonAs::Object => (Form::Usual, usual),
                JsonAs::Flattened => (Form::Usual, FieldKind::Flattened),
                JsonAs::String => (Form::Quoted, FieldKind::Text),
            },
            ColumnType::Date | ColumnType::DateTime { .. } | ColumnType::Timestamp { .. }
                if self.zero_dates == ZeroDatesAs::String =>
            {
                (Form::AnyDate, FieldKind::AnyDate)
            }
            _ => (Form::Usual, usual),
        }
    }
}
