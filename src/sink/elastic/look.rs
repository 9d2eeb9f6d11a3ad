//! What will be found wrong with an index before the first document meets it; nothing is made or changed.

use std::time::Duration;

use elasticsearch::http::Method;
use serde_json::{Map, Value};

use super::client::Client;
use super::index::{IndexError, Resolved, describe, encoded, not_taken, object, resolve};
use super::made;
use crate::event::document::{Field, FieldKind, IndexSpec};
use crate::sink::SinkError;

/// The engine's own name of its limit on fields.
const LIMIT: &str = "index.mapping.total_fields.limit";

/// The engine's own name of its limit on objects in objects.
const DEPTH_LIMIT: &str = "index.mapping.depth.limit";

/// Both of them.
const LIMITS: &str = "index.mapping.*.limit";

/// The engine's limit on objects in objects unless an index says otherwise; a document's own members are the first.
const USUAL_DEPTH_LIMIT: u64 = 20;

/// How long an index is looked at.
const PATIENCE: Duration = Duration::from_secs(10);

/// An index, as far as it concerns what is to be written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The concrete index; `None` where it will be made.
    pub index: Option<String>,
    /// Fields that it has and those that are missing; objects count, and fields below fields.
    pub fields: u64,
    /// How many it takes.
    pub limit: u64,
    /// How deep its fields lie, those that are missing too, a document's own members being 1. What JSON columns hold below their first members nobody knows before.
    pub depth: u64,
    /// How deep they may.
    pub depth_limit: u64,
    /// Its documents were written by other rules of names or pipelines.
    pub other_rules: bool,
}

/// # Errors
/// The engine does not answer in time; or what stands behind the alias cannot be written to.
pub(super) async fn look(client: &Client, spec: &IndexSpec) -> Result<Look, SinkError> {
    let late =
        || SinkError::Transient(format!("the engine said nothing of alias {} in time", spec.alias).into());
    tokio::time::timeout(PATIENCE, of(client, spec)).await.unwrap_or_else(|_| Err(late()))
}

async fn of(client: &Client, spec: &IndexSpec) -> Result<Look, SinkError> {
    let wanted = spec.fields.len() as u64;
    let is_object = |field: &Field| matches!(field.kind, FieldKind::Object | FieldKind::Metadata);
    let wanted_depth = if spec.fields.iter().any(is_object) { 2 } else { 1 };
    let Resolved::Index(index) = resolve(client, &spec.alias).await? else {
        not_taken(client, &spec.alias).await?;
        let settings = made::settings(spec);
        return Ok(Look {
            index: None,
            fields: wanted,
            limit: settings.get(LIMIT).and_then(number).unwrap_or(made::USUAL_FIELD_LIMIT as u64),
            depth: wanted_depth,
            depth_limit: settings.get(DEPTH_LIMIT).and_then(number).unwrap_or(USUAL_DEPTH_LIMIT),
            other_rules: false,
        });
    };
    let Some(found) = describe(client, &spec.alias, index).await? else {
        return Err(IndexError::Contended { alias: spec.alias.clone() }.into());
    };
    let index = found.name;
    let unreadable = || IndexError::Unreadable { what: format!("the mapping of `{index}`") };
    let answer = client.control(Method::Get, &format!("{}/_mapping", encoded(&index)), &[], None).await?;
    let mappings = object(&answer, || format!("the mapping of `{index}`"))?;
    let mapping = mappings.get(&index).and_then(|entry| entry.get("mappings")).ok_or_else(unreadable)?;
    let other_rules = made::compare(spec, &index, mapping)?.is_some();
    let none = Map::new();
    let properties = mapping.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let missing = spec.fields.iter().filter(|field| !properties.contains_key(&field.name)).count() as u64;
    let path = format!("{}/_settings/{LIMITS}", encoded(&index));
    let answer = client.control(Method::Get, &path, &[("flat_settings", "true")], None).await?;
    let settings = object(&answer, || format!("the settings of `{index}`"))?;
    // Where it was never set it is not among them.
    let limit =
        |name| settings.get(&index).and_then(|entry| entry.get("settings")?.get(name)).and_then(number);
    let (limit, depth_limit) = (limit(LIMIT), limit(DEPTH_LIMIT));
    let fields = count(properties).saturating_add(missing);
    Ok(Look {
        index: Some(index),
        fields,
        limit: limit.unwrap_or(made::USUAL_FIELD_LIMIT as u64),
        depth: depth(properties).max(wanted_depth),
        depth_limit: depth_limit.unwrap_or(USUAL_DEPTH_LIMIT),
        other_rules,
    })
}

/// The engine prints numbers of settings as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn count(properties: &Map<String, Value>) -> u64 {
    let below = |field: &Value, name: &str| field.get(name).and_then(Value::as_object).map_or(0, count);
    properties.values().map(|field| 1 + below(field, "properties") + below(field, "fields")).sum()
}

/// A document's own members are 1; fields below fields lie no deeper.
fn depth(properties: &Map<String, Value>) -> u64 {
    let below = |field: &Value| field.get("properties").and_then(Value::as_object).map_or(0, depth);
    1 + properties.values().map(below).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_below_fields_count() {
        let properties = serde_json::json!({
            "id": {"type": "long"},
            "name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
            "j": {"properties": {"a": {"properties": {"b": {"type": "long"}}}}},
        });
        assert_eq!(properties.as_object().map(count), Some(6));
        assert_eq!(properties.as_object().map(depth), Some(3));
    }
}
