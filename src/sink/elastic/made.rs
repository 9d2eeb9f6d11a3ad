//! What an index is made by besides its fields, and whether one that is there was made alike.
//!
//! # Format
//!
//! Where a table's rules say anything of it, the mapping's `_meta` holds it, beside whatever others keep there, so that it goes with the index and not with the
//! state folder:
//!
//! ```text
//! {"_meta": {"everrelay": {"routing": ["tenant"], "rename": {"name": "title"}, "pipeline": "trim", "deleted": "deleted"}}}
//! ```
//!
//! Where the alias of each document follows from its row, `table` and `index` say so too (`{"table": "shop.orders", "index": "orders-{created_at:%Y.%m}"}`): by them the indices of
//! a table are known, whatever was kept of them. One that was made by another template is refused, since its documents would be looked for elsewhere.
//!
//! `deleted` is the field that documents have whose rows are deleted, once there may be any: such a document is no row's, and stays what it is.
//!
//! Documents that were routed otherwise would never be found again, by deletes least of all: such an index is refused. Those that were named otherwise, or went through
//! another pipeline, are right until their rows change: the relay goes on, and says so once.

use serde_json::{Map, Value, json};

use super::index::IndexError;
use crate::event::TableName;
use crate::event::document::{ByRow, FieldKind, IndexSpec, merge};

/// How long the engine remembers deleted versions, where it can: longer than its own minute, so that a request that it applies late, or an answer that was lost,
/// meets them. What it takes of its heap grows with deletes times this.
const GC_DELETES: &str = "15m";

/// An engine's own limit on fields unless an index says otherwise; fields below JSON columns count too.
pub(super) const USUAL_FIELD_LIMIT: usize = 1000;

const META: &str = "everrelay";
const DELETED: &str = "deleted";
const TABLE: &str = "table";
const INDEX: &str = "index";

/// The field that documents of deleted rows have in an index of this mapping, if there may be any.
pub(super) fn deleted_field(mapping: &Value) -> Option<&str> {
    mapping.get("_meta")?.get(META)?.get(DELETED)?.as_str()
}

/// By which template an index of this mapping says that it was made for rows of this table, if it does.
pub(super) fn template_of<'m>(table: &TableName, mapping: &'m Value) -> Option<&'m str> {
    let said = |key: &str| mapping.get("_meta")?.get(META)?.get(key)?.as_str();
    said(INDEX).filter(|_| said(TABLE) == Some(&table.to_string()))
}

/// An index behind an alias of the table that another template made.
pub(super) fn chosen_otherwise(
    by_row: &ByRow,
    (alias, index): (&str, &str),
    template: Option<&str>,
) -> IndexError {
    IndexError::ChosenOtherwise {
        alias: alias.to_owned(),
        index: index.to_owned(),
        before: chosen(by_row, template.unwrap_or_default()),
        now: chosen(by_row, &by_row.template),
    }
}

fn chosen(by_row: &ByRow, template: &str) -> String {
    format!("`{}` of table {}", template.escape_debug(), by_row.table)
}

/// The settings of an index that is made.
pub(super) fn settings(spec: &IndexSpec) -> Map<String, Value> {
    let mut settings = Map::new();
    settings.insert("index.gc_deletes".to_owned(), GC_DELETES.into());
    let below = spec.fields.iter().filter(|field| field.kind == FieldKind::TextWithKeyword).count();
    let fields = spec.fields.len() + below;
    if fields > USUAL_FIELD_LIMIT / 2 {
        settings.insert("index.mapping.total_fields.limit".to_owned(), (USUAL_FIELD_LIMIT + fields).into());
    }
    settings.extend(spec.settings.clone());
    settings
}

/// The mapping of an index that is made; `properties`: what the columns give.
pub(super) fn mapping(spec: &IndexSpec, properties: Value) -> Value {
    let mut mapping = Map::new();
    mapping.insert("dynamic".to_owned(), false.into());
    if !spec.routing.is_empty() {
        mapping.insert("_routing".to_owned(), json!({"required": true}));
    }
    let made = made_by(spec);
    if !made.is_empty() {
        mapping.insert("_meta".to_owned(), json!({META: made}));
    }
    let mut over = spec.mapping.clone();
    let own = over.remove("properties");
    merge(&mut mapping, &over);
    let mut properties = match properties {
        Value::Object(properties) => properties,
        _ => Map::new(),
    };
    // Fields that no column gives are the operator's too: a pipeline may fill them.
    for (name, value) in own.as_ref().and_then(Value::as_object).into_iter().flatten() {
        lay_over(&mut properties, name, value);
    }
    mapping.insert("properties".to_owned(), Value::Object(properties));
    Value::Object(mapping)
}

/// The mapping of fields that are added to an index; `properties`: what the columns give.
pub(super) fn added(spec: &IndexSpec, properties: Value) -> Map<String, Value> {
    let Value::Object(mut properties) = properties else { return Map::new() };
    let names: Vec<String> = properties.keys().cloned().collect();
    for name in names {
        if let Some(value) = of_operator(spec, &name) {
            lay_over(&mut properties, &name, value);
        }
    }
    properties
}

/// What the rules say of a field's mapping.
pub(super) fn of_operator<'s>(spec: &'s IndexSpec, field: &str) -> Option<&'s Value> {
    spec.mapping.get("properties")?.get(field)
}

/// A field of another type has nothing of the one that its column gives.
fn lay_over(properties: &mut Map<String, Value>, name: &str, value: &Value) {
    match (properties.get_mut(name), value) {
        (Some(Value::Object(under)), Value::Object(over)) if !over.contains_key("type") => merge(under, over),
        _ => drop(properties.insert(name.to_owned(), value.clone())),
    }
}

fn made_by(spec: &IndexSpec) -> Map<String, Value> {
    let mut made = Map::new();
    if !spec.routing.is_empty() {
        made.insert("routing".to_owned(), json!(spec.routing));
    }
    if !spec.renamed.is_empty() {
        made.insert("rename".to_owned(), json!(spec.renamed));
    }
    if let Some(pipeline) = &spec.pipeline {
        made.insert("pipeline".to_owned(), json!(pipeline));
    }
    if let Some(field) = &spec.deleted {
        made.insert(DELETED.to_owned(), json!(field));
    }
    if let Some(ByRow { table, template, .. }) = &spec.by_row {
        made.insert(TABLE.to_owned(), json!(table.to_string()));
        made.insert(INDEX.to_owned(), json!(template));
    }
    made
}

/// Compares what an index was made by with the rules of today; the `_meta` that it is to have, where it has another.
///
/// # Errors
/// Its documents are routed otherwise, or are there for another reason.
pub(super) fn compare(spec: &IndexSpec, index: &str, mapping: &Value) -> Result<Option<Value>, IndexError> {
    let required = mapping.pointer("/_routing/required").and_then(Value::as_bool) == Some(true);
    let (alias, index) = (spec.alias.clone(), index.to_owned());
    if required && spec.routing.is_empty() {
        return Err(IndexError::RoutingRequired { alias, index });
    }
    let stored = mapping.get("_meta").and_then(|meta| meta.get(META)).and_then(Value::as_object);
    let nothing = Map::new();
    let (stored, mut made) = (stored.unwrap_or(&nothing), made_by(spec));
    if let Some(template) = stored.get(INDEX)
        && (Some(template) != made.get(INDEX) || stored.get(TABLE) != made.get(TABLE))
    {
        let said = |of: &Map<String, Value>, key: &str| {
            of.get(key).and_then(Value::as_str).unwrap_or_default().escape_debug().to_string()
        };
        let before = format!("`{}` of table {}", said(stored, INDEX), said(stored, TABLE));
        let now = match &spec.by_row {
            Some(by_row) => chosen(by_row, &by_row.template),
            None => "that alias for all rows of a table".to_owned(),
        };
        return Err(IndexError::ChosenOtherwise { alias, index, before, now });
    }
    // Those that were marked stay so.
    if let Some(field) = stored.get(DELETED) {
        made.entry(DELETED).or_insert_with(|| field.clone());
    }
    let other = stored.get("routing").filter(|routing| Some(*routing) != made.get("routing"));
    if !spec.routing.is_empty() && (!required || other.is_some()) {
        let before = match other {
            Some(routing) => routing.to_string().escape_debug().to_string(),
            None => "their ids".to_owned(),
        };
        return Err(IndexError::RoutedOtherwise { alias, index, before, now: spec.routing.join(", ") });
    }
    if *stored == made {
        return Ok(None);
    }
    let differs = |key: &str| stored.get(key) != made.get(key);
    if differs("rename") || differs("pipeline") {
        tracing::warn!(
            index,
            rename = differs("rename"),
            pipeline = differs("pipeline"),
            "the rules name fields otherwise, or another pipeline, than those that documents of this index were written by: each is written anew \
             when its row changes; `everrelay snapshot` of the table writes all of them now"
        );
    }
    let mut meta = mapping.get("_meta").and_then(Value::as_object).cloned().unwrap_or_default();
    meta.insert(META.to_owned(), Value::Object(made));
    Ok(Some(Value::Object(meta)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::document::{DeletedIndex, Field};

    fn spec(rules: Value) -> IndexSpec {
        let field = |name: &str, kind| Field { name: name.into(), kind };
        IndexSpec {
            alias: "a.b".into(),
            fields: vec![field("id", FieldKind::Long), field("name", FieldKind::TextWithKeyword)],
            settings: rules["settings"].as_object().cloned().unwrap_or_default(),
            mapping: rules["mapping"].as_object().cloned().unwrap_or_default(),
            routing: serde_json::from_value(rules["routing"].clone()).unwrap_or_default(),
            pipeline: rules["pipeline"].as_str().map(str::to_owned),
            ..IndexSpec::default()
        }
    }

    #[test]
    fn a_wide_table_raises_the_field_limit_and_rules_have_the_last_word() {
        let limit = "index.mapping.total_fields.limit";
        let mut wide = spec(json!({}));
        assert_eq!(settings(&wide).get(limit), None);
        let field = |n: usize| Field { name: format!("c{n}"), kind: FieldKind::TextWithKeyword };
        wide.fields = (0..900).map(field).collect();
        assert_eq!(settings(&wide)[limit], 2800);
        let ruled = spec(json!({"settings": {"index.gc_deletes": "1h", "index.number_of_shards": 3}}));
        let expected = json!({"index.gc_deletes": "1h", "index.number_of_shards": 3});
        assert_eq!(Value::Object(settings(&ruled)), expected);
    }

    #[test]
    fn rules_lie_over_what_the_columns_give() {
        let properties = json!({"id": {"type": "long"}, "name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}});
        let rules = json!({"mapping": {"dynamic": "strict", "properties": {
            "name": {"analyzer": "german"}, "id": {"type": "keyword"}, "of_pipeline": {"type": "ip"},
        }}, "routing": ["id"]});
        let of = mapping(&spec(rules.clone()), properties.clone());
        assert_eq!(
            of,
            json!({
                "dynamic": "strict", "_routing": {"required": true}, "_meta": {"everrelay": {"routing": ["id"]}},
                "properties": {
                    "id": {"type": "keyword"}, "of_pipeline": {"type": "ip"},
                    "name": {"type": "text", "analyzer": "german", "fields": {"keyword": {"type": "keyword"}}},
                },
            })
        );
        let added = added(&spec(rules), json!({"name": {"type": "text"}, "other": {"type": "long"}}));
        assert_eq!(
            Value::Object(added),
            json!({"name": {"type": "text", "analyzer": "german"}, "other": {"type": "long"}})
        );
        assert_eq!(
            mapping(&spec(json!({})), properties.clone()),
            json!({"dynamic": false, "properties": properties})
        );
    }

    #[test]
    fn an_index_that_is_routed_otherwise_is_refused_and_other_differences_are_noted_once() {
        let of = |rules: Value, mapping: Value| compare(&spec(rules), "a.b-000001", &mapping);
        let (plain, required) = (json!({}), json!({"_routing": {"required": true}}));
        let made =
            |by: Value| json!({"_routing": {"required": true}, "_meta": {"theirs": 1, "everrelay": by}});
        assert!(of(json!({}), plain.clone()).unwrap().is_none());
        assert!(matches!(of(json!({}), required.clone()), Err(IndexError::RoutingRequired { .. })));
        for mapping in
            [plain.clone(), made(json!({"routing": ["other"]})), made(json!({"routing": ["id", "name"]}))]
        {
            let refused = of(json!({"routing": ["id"]}), mapping);
            assert!(matches!(refused, Err(IndexError::RoutedOtherwise { .. })), "{refused:?}");
        }
        assert!(of(json!({"routing": ["id"]}), made(json!({"routing": ["id"]}))).unwrap().is_none());
        // One that an operator made is taken as it is meant.
        let adopted = of(json!({"routing": ["id"]}), required).unwrap();
        assert_eq!(adopted, Some(json!({"everrelay": {"routing": ["id"]}})));
        let noted = of(json!({"pipeline": "trim"}), json!({"_meta": {"theirs": 1}})).unwrap();
        assert_eq!(noted, Some(json!({"theirs": 1, "everrelay": {"pipeline": "trim"}})));
        let again = json!({"_meta": noted});
        assert!(of(json!({"pipeline": "trim"}), again.clone()).unwrap().is_none());
        assert_eq!(of(json!({}), again).unwrap(), Some(json!({"theirs": 1, "everrelay": {}})));
        let by_row = |template: &str| {
            let table = TableName::new("shop", "orders");
            let by_row = ByRow {
                table,
                template: template.into(),
                pattern: "o-*".into(),
                deleted_index: DeletedIndex::Halt,
            };
            IndexSpec { by_row: Some(by_row), ..spec(json!({})) }
        };
        let by_year = by_row("o-{d:%Y}");
        let chosen = compare(&by_year, "o-2026-000001", &plain).unwrap().unwrap();
        assert_eq!(chosen, json!({"everrelay": {"table": "shop.orders", "index": "o-{d:%Y}"}}));
        let chosen = json!({"_meta": chosen});
        assert!(compare(&by_year, "o-2026-000001", &chosen).unwrap().is_none());
        for other in [by_row("o-{d:%Y.%m}"), spec(json!({}))] {
            let refused = compare(&other, "o-2026-000001", &chosen);
            assert!(matches!(refused, Err(IndexError::ChosenOtherwise { .. })), "{refused:?}");
        }
        let by = |table: &str, mapping| template_of(&TableName::new("shop", table), mapping);
        assert_eq!(
            (by("orders", &chosen), by("lines", &chosen), by("orders", &plain)),
            (Some("o-{d:%Y}"), None, None)
        );
        let marks = IndexSpec { deleted: Some("deleted".into()), ..spec(json!({})) };
        let marking = compare(&marks, "a.b-000001", &plain).unwrap().unwrap();
        assert_eq!(marking, json!({"everrelay": {"deleted": "deleted"}}));
        let marking = json!({"_meta": marking});
        assert_eq!((deleted_field(&marking), deleted_field(&plain)), (Some("deleted"), None));
        assert!(of(json!({}), marking).unwrap().is_none(), "what was marked stays so");
    }
}
