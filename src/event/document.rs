//! What comes out at the other end: which index a table goes to, with which fields, and what is done to a document.
//!
//! The mapping fills these, the sinks carry them out; neither knows the other.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::pattern::glob;
use super::{TableName, Version};

/// What a bulk action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Write the whole document.
    Index,
    /// Remove the document.
    Delete,
}

/// One document's change, as a sink is given it; the JSON body of an [`Verb::Index`] goes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action<'a> {
    pub verb: Verb,
    /// The document's id, at most 512 bytes.
    pub id: &'a str,
    pub version: Version,
    /// By what its shard is chosen in the place of its id, at most 512 bytes.
    pub routing: Option<&'a str>,
    /// The ingest pipeline that an [`Verb::Index`] goes through.
    pub pipeline: Option<&'a str>,
}

impl<'a> Action<'a> {
    /// One of a document that is routed by its id and goes through no pipeline.
    #[must_use]
    pub fn plain(verb: Verb, id: &'a str, version: Version) -> Action<'a> {
        Action { verb, id, version, routing: None, pipeline: None }
    }
}

/// What becomes of a row whose index was deleted, where a table has one for each value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletedIndex {
    /// The relay ends: it would be alone in an index that had more.
    #[default]
    Halt,
    /// It is left out, as the index was.
    Skip,
    /// The index is made anew, and holds what comes.
    Make,
}

/// Behind what a table's documents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// One alias.
    Alias(String),
    /// An alias by values of each row's key.
    ByRow(ByRow),
}

/// How the aliases of one table's documents are told from others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByRow {
    pub table: TableName,
    /// What they are made by, as the configuration says it.
    pub template: String,
    /// All of them match it: `*` stands for any text. No alias has a `*`.
    pub pattern: String,
    pub deleted_index: DeletedIndex,
}

impl ByRow {
    /// Whether an alias may be one of them.
    #[must_use]
    pub fn has(&self, alias: &str) -> bool {
        glob(&self.pattern, alias)
    }
}

impl Behind {
    /// What the aliases are made by, where rows say them.
    #[must_use]
    pub fn template(&self) -> Option<&str> {
        match self {
            Behind::Alias(_) => None,
            Behind::ByRow(by_row) => Some(&by_row.template),
        }
    }

    /// What of all tables is this one's alone; it goes before an id where documents of several tables are told apart.
    #[must_use]
    pub fn space(&self) -> String {
        match self {
            Behind::Alias(alias) => alias.clone(),
            // No alias has a `*`.
            Behind::ByRow(by_row) => format!("*{}", by_row.table),
        }
    }

    /// Whether an alias may be one that the documents are behind.
    #[must_use]
    pub fn has(&self, alias: &str) -> bool {
        match self {
            Behind::Alias(one) => one == alias,
            Behind::ByRow(by_row) => by_row.has(alias),
        }
    }
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Behind::Alias(name) | Behind::ByRow(ByRow { pattern: name, .. }) => f.write_str(name),
        }
    }
}

/// A table's place in the search engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSpec {
    /// The alias that documents are written to; where they have more than one, the pattern of all ([`IndexSpec::at`]).
    pub alias: String,
    /// Where the alias is by values of each row.
    pub by_row: Option<ByRow>,
    /// One per document field, in document order.
    pub fields: Vec<Field>,
    /// Columns whose values route documents, in this order; none: they are routed by their ids.
    pub routing: Vec<String>,
    /// Columns whose fields are called otherwise, and how.
    pub renamed: BTreeMap<String, String>,
    pub pipeline: Option<String>,
    /// The field that says of a document that its row is deleted, where such documents stay.
    pub deleted: Option<String>,
    /// The field that says by what a document became what it is.
    pub metadata: Option<String>,
    /// Settings of an index that is made, by their whole names.
    pub settings: Map<String, Value>,
    /// What is said of the mapping of an index that is made, over what the fields give.
    pub mapping: Map<String, Value>,
}

impl IndexSpec {
    /// Behind what the documents are.
    #[must_use]
    pub fn behind(&self) -> Behind {
        match &self.by_row {
            Some(by_row) => Behind::ByRow(by_row.clone()),
            None => Behind::Alias(self.alias.clone()),
        }
    }

    /// The same for one of the aliases.
    #[must_use]
    pub fn at(&self, alias: &str) -> IndexSpec {
        IndexSpec { alias: alias.to_owned(), ..self.clone() }
    }
}

/// Puts `over` into `under`, member by member, objects into objects.
pub fn merge(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (name, value) in over {
        match (under.get_mut(name), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            _ => drop(under.insert(name.clone(), value.clone())),
        }
    }
}

/// A document field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: String,
    pub kind: FieldKind,
}

/// What a field holds; a sink says which of its engine's mapping types that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    Byte,
    Short,
    Integer,
    Long,
    UnsignedLong,
    Float,
    Double,
    Boolean,
    /// `{"operation": "update", "time": "2026-11-23T06:47:08.120000Z", "gtid": "…"}`.
    Metadata,
    /// Short text: searchable and exact.
    TextWithKeyword,
    Text,
    Keyword,
    Binary,
    /// `2026-11-23`, `2026-11-23T06:47:08.120`, the same with `Z`.
    Date,
    /// The same, or a date that no calendar knows, which is kept and not searchable.
    AnyDate,
    /// Any JSON value, its inner fields mapped by the engine as they come.
    Object,
    /// Any JSON object, its inner fields not mapped each by itself.
    Flattened,
    /// GeoJSON. A shape that the engine cannot place on the globe is kept and not searchable.
    GeoShape,
    /// An array of so many numbers.
    DenseVector {
        dimensions: u16,
    },
    /// An IPv4 or IPv6 address.
    Ip,
}
