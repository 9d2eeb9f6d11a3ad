//! What comes out at the other end: which index a table goes to, with which fields, and what is done to a document.
//!
//! The mapping fills these, the sinks carry them out; neither knows the other.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Version;

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

/// A table's place in the search engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexSpec {
    /// The alias that documents are written to.
    pub alias: String,
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
