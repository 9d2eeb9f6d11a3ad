//! Mapping types, and which existing ones will do.

use serde_json::{Value, json};

use crate::event::document::FieldKind;

/// Most characters of a CHAR or VARCHAR that the exact field below it takes: 4 bytes each stay under Lucene's limit of 32,766 for a
/// term. A longer text is found by its words only.
const IGNORE_ABOVE: u32 = 8_191;

/// Whether the engine has the type `unsigned_long`: not in every build, and not in OpenSearch before 2.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnsignedLong {
    Mapped,
    /// As `keyword`: exact for every value, sorted as text.
    AsKeyword,
}

/// The mapping of a field that is not there yet.
pub(super) fn mapping(kind: FieldKind, unsigned_long: UnsignedLong) -> Value {
    match kind {
        FieldKind::TextWithKeyword => json!({
            "type": "text",
            "fields": {"keyword": {"type": "keyword", "ignore_above": IGNORE_ABOVE}}
        }),
        FieldKind::Object => json!({"type": "object", "dynamic": true}),
        FieldKind::UnsignedLong if unsigned_long == UnsignedLong::AsKeyword => json!({"type": "keyword"}),
        _ => json!({"type": type_name(kind)}),
    }
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
        FieldKind::TextWithKeyword | FieldKind::Text => "text",
        FieldKind::Keyword => "keyword",
        FieldKind::Binary => "binary",
        FieldKind::Date => "date",
        FieldKind::Object => "object",
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
        FieldKind::Binary => exact || existing == "binary",
        FieldKind::Date => exact || matches!(existing, "date" | "date_nanos"),
        FieldKind::Object => matches!(existing, "object" | "nested" | "flattened" | "flat_object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_takes_its_own_mapping() {
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
            FieldKind::Object,
        ] {
            for unsigned_long in [UnsignedLong::Mapped, UnsignedLong::AsKeyword] {
                let mapping = mapping(kind, unsigned_long);
                assert!(will_do(kind, mapping["type"].as_str().unwrap()), "{kind:?}");
            }
            assert_eq!(will_do(kind, "object"), kind == FieldKind::Object, "{kind:?}");
        }
    }
}
