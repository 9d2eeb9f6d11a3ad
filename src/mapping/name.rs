//! Which names the engine takes for aliases, indices and fields.

/// Most bytes in an index name (Elasticsearch, "Create index API").
const MAX_INDEX_NAME: usize = 255;

/// What a sink appends to an alias to name the first index behind it.
pub(super) const FIRST: &str = "-000001";

/// Names that the engine keeps for itself: a document that holds one is refused ("is a metadata field and cannot be added
/// inside a document"), in Elasticsearch 7 to 9 and OpenSearch.
const METADATA: &[&str] = &[
    "_data_stream_timestamp",
    "_doc_count",
    "_feature",
    "_field_names",
    "_id",
    "_ignored",
    "_ignored_source",
    "_index",
    "_inference_fields",
    "_nested_path",
    "_parent",
    "_primary_term",
    "_recovery_source",
    "_routing",
    "_routing_hash",
    "_seq_no",
    "_size",
    "_source",
    "_tier",
    "_timestamp",
    "_tsid",
    "_ttl",
    "_type",
    "_uid",
    "_version",
];

/// `alias`: lower-cased. The rules are Elasticsearch's `MetadataCreateIndexService.validateIndexOrAliasName`.
pub(super) fn check_alias(alias: &str) -> Result<(), &'static str> {
    if alias.len() + FIRST.len() > MAX_INDEX_NAME {
        return Err("its name is longer than the 248 bytes that an index name leaves");
    }
    if alias.starts_with(['-', '_', '+']) {
        return Err("an index name cannot begin with `-`, `_` or `+`");
    }
    if alias.contains(['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':']) {
        return Err("an index name cannot contain any of `\\ / * ? \" < > | , # :` or a space");
    }
    if alias.contains(char::is_control) {
        return Err("its name contains a control character");
    }
    if alias.chars().all(|c| c == '.') {
        return Err("an index name cannot be of dots alone");
    }
    Ok(())
}

/// The rules are Elasticsearch's `DocumentParser` and `MapperService`; a dot would make the column a path into another one.
pub(super) fn check_field(name: &str) -> Result<(), &'static str> {
    if name.trim().is_empty() {
        return Err("a field name cannot be empty or blank");
    }
    if METADATA.contains(&name) {
        return Err("the engine keeps that name for itself");
    }
    if name.contains('.') {
        return Err("the engine takes a dot for a path into another field");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_engine_refuses_are_refused() {
        for alias in ["-a.b", "_a.b", "+a.b", "a.b c", "a.b*", "a,b", "a:b", "a#b", ".", "..", "a\n.b"] {
            assert!(check_alias(alias).is_err(), "{alias:?}");
        }
        assert!(check_alias(&"a".repeat(249)).is_err());
        assert!(check_alias(&"a".repeat(248)).is_ok());
        assert!(check_alias("shop.größe-2").is_ok());
        for field in ["", " ", "_id", "_source", ".", "a.b", ".a", "a.", "a..b"] {
            assert!(check_field(field).is_err(), "{field:?}");
        }
        for field in ["_note", "id", "Größe", "a b", "a\"b"] {
            assert!(check_field(field).is_ok(), "{field:?}");
        }
    }
}
