//! Mapping types, and which existing ones will do.

use serde_json::{Value, json};

use crate::event::document::FieldKind;

/// Most characters of a CHAR or VARCHAR that the exact field below it takes: 4 bytes each stay under Lucene's limit of 32,766 for a
/// term. A longer text is found by its words only.
const IGNORE_ABOVE: u32 = 8_191;

/// Most characters of a value inside a flattened field that are searchable: with the path to it, it is one term.
const FLAT_IGNORE_ABOVE: u32 = 4_000;

/// As deep as MySQL's JSON goes.
const DEPTH_LIMIT: u32 = 100;

/// The mappings that take all values of a kind, best first: engines lack some types, and [`Choice`](super::choice::Choice) tries.
pub(super) fn mappings(kind: FieldKind) -> Vec<Value> {
    let plain = |name: &str| json!({"type": name});
    match kind {
        FieldKind::TextWithKeyword => vec![json!({
            "type": "text",
            "fields": {"keyword": {"type": "keyword", "ignore_above": IGNORE_ABOVE}}
        })],
        FieldKind::Object => vec![json!({"type": "object", "dynamic": true})],
        // Not in every build, and not in OpenSearch before 2.8. A keyword is exact for every value, sorted as text.
        FieldKind::UnsignedLong => vec![plain("unsigned_long"), plain("keyword")],
        // Elasticsearch's, OpenSearch's, and what takes anything.
        FieldKind::Flattened => vec![
            json!({"type": "flattened", "ignore_above": FLAT_IGNORE_ABOVE, "depth_limit": DEPTH_LIMIT}),
            plain("flat_object"),
            json!({"type": "object", "enabled": false}),
        ],
        FieldKind::AnyDate => vec![json!({"type": "date", "ignore_malformed": true})],
        // A shape on a plane may lie beside the globe.
        FieldKind::GeoShape => {
            vec![
                json!({"type": "geo_shape", "ignore_malformed": true}),
                json!({"type": "object", "enabled": false}),
            ]
        }
        FieldKind::DenseVector { dimensions } => vectors(dimensions),
        FieldKind::Metadata => vec![json!({"properties": {
            "operation": plain("keyword"), "time": plain("date"), "gtid": plain("keyword"),
        }})],
        _ => vec![plain(type_name(kind))],
    }
}

/// Most numbers of a `dense_vector`.
const MAX_DIMENSIONS: u16 = 4096;

/// Not indexed: for that the engine would choose a similarity, and refuse zero vectors because of it.
fn vectors(dimensions: u16) -> Vec<Value> {
    let mut mappings = vec![
        json!({"type": "dense_vector", "dims": dimensions, "index": false}),
        // 7.x knows no `index`.
        json!({"type": "dense_vector", "dims": dimensions}),
        json!({"type": "float", "index": false}),
    ];
    if dimensions <= MAX_DIMENSIONS {
        // As many as the first one has, since 8.11: a column is often wider than what is in it (a VECTOR without a number is VECTOR(2048)).
        mappings.insert(0, json!({"type": "dense_vector", "index": false}));
    }
    mappings
}

/// The mapping type's name.
pub(super) fn type_name(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Byte => "byte",
        FieldKind::Short => "short",
        FieldKind::Integer => "integer",
        FieldKind::Long => "long",
        FieldKind::UnsignedLong => "unsigned_long",
        FieldKind::Float => "float",
        FieldKind::Double => "double",
        FieldKind::Boolean => "boolean",
        FieldKind::Metadata => "object",
        FieldKind::TextWithKeyword | FieldKind::Text => "text",
        FieldKind::Keyword => "keyword",
        FieldKind::Binary => "binary",
        FieldKind::Date | FieldKind::AnyDate => "date",
        FieldKind::Object => "object",
        FieldKind::Flattened => "flattened",
        FieldKind::GeoShape => "geo_shape",
        FieldKind::DenseVector { .. } => "dense_vector",
        FieldKind::Ip => "ip",
    }
}

/// Whether a field of type `existing` takes what `kind` holds. A type that takes some values only (an `integer` where the column
/// is a BIGINT, an `ip` for text) will do: whoever made it chose it, and a value that it refuses is parked. One that can take none is not.
pub(super) fn will_do(kind: FieldKind, existing: &str) -> bool {
    let exact = matches!(existing, "keyword" | "wildcard" | "text" | "match_only_text" | "constant_keyword");
    match kind {
        FieldKind::Byte
        | FieldKind::Short
        | FieldKind::Integer
        | FieldKind::Long
        | FieldKind::UnsignedLong
        | FieldKind::Float
        | FieldKind::Double => {
            exact
                || matches!(
                    existing,
                    "byte"
                        | "short"
                        | "integer"
                        | "long"
                        | "unsigned_long"
                        | "float"
                        | "half_float"
                        | "double"
                        | "scaled_float"
                        | "date"
                        | "rank_feature"
                )
        }
        FieldKind::TextWithKeyword | FieldKind::Text | FieldKind::Keyword => {
            !matches!(existing, "object" | "nested" | "flattened" | "flat_object")
        }
        // Searches for it decide what stays.
        FieldKind::Boolean => existing == "boolean",
        FieldKind::Metadata => matches!(existing, "object" | "nested" | "flattened" | "flat_object"),
        FieldKind::Binary => exact || existing == "binary",
        FieldKind::Date | FieldKind::AnyDate => exact || matches!(existing, "date" | "date_nanos"),
        FieldKind::Object | FieldKind::Flattened => {
            matches!(existing, "object" | "nested" | "flattened" | "flat_object")
        }
        FieldKind::GeoShape => {
            matches!(existing, "geo_shape" | "geo_point" | "xy_shape" | "shape" | "object" | "nested")
        }
        FieldKind::DenseVector { .. } => {
            matches!(
                existing,
                "dense_vector" | "knn_vector" | "float" | "half_float" | "double" | "scaled_float"
            )
        }
        FieldKind::Ip => exact || existing == "ip",
    }
}

/// The mapping that a field of this kind needs in the place of `existing`, where it is of the right type and refuses some of the values all the same. (Both
/// engines let `ignore_malformed` be changed.)
pub(super) fn amended(kind: FieldKind, existing: &Value) -> Option<Value> {
    let is_date = matches!(existing.get("type").and_then(Value::as_str), Some("date" | "date_nanos"));
    // Some versions print it as text.
    let ignores = existing.get("ignore_malformed").is_some_and(|v| *v == true || *v == "true");
    if kind != FieldKind::AnyDate || !is_date || ignores {
        return None;
    }
    let mut amended = existing.clone();
    amended["ignore_malformed"] = true.into();
    Some(amended)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_takes_each_of_its_own_mappings() {
        for kind in [
            FieldKind::Byte,
            FieldKind::Short,
            FieldKind::Integer,
            FieldKind::Long,
            FieldKind::UnsignedLong,
            FieldKind::Float,
            FieldKind::Double,
            FieldKind::TextWithKeyword,
            FieldKind::Text,
            FieldKind::Keyword,
            FieldKind::Binary,
            FieldKind::Date,
            FieldKind::AnyDate,
            FieldKind::Object,
            FieldKind::Flattened,
            FieldKind::GeoShape,
            FieldKind::DenseVector { dimensions: 3 },
            FieldKind::Ip,
        ] {
            for mapping in mappings(kind) {
                assert!(will_do(kind, mapping["type"].as_str().unwrap()), "{kind:?}");
            }
            let holds_objects =
                matches!(kind, FieldKind::Object | FieldKind::Flattened | FieldKind::GeoShape);
            assert_eq!(will_do(kind, "object"), holds_objects, "{kind:?}");
        }
    }
}
