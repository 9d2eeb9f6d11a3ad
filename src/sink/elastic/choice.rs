//! Which mapping each field gets: the best that this engine has, found by trying.
//!
//! An engine's version does not say what it has: modules are left out of builds, plugins are added, and forks count otherwise. So the best mapping of each field is
//! proposed, and where the engine refuses one by name its fields fall back to their next, until it takes all of them or one has no next.

use serde_json::{Map, Value};

use super::field::mappings;
use super::reason::name;
use crate::event::document::Field;

/// A proposal.
#[derive(Debug)]
pub(super) struct Choice<'f> {
    fields: Vec<Proposed<'f>>,
}

#[derive(Debug)]
struct Proposed<'f> {
    field: &'f Field,
    /// Best first; what stands first is proposed. Never empty.
    mappings: Vec<Value>,
}

impl Proposed<'_> {
    fn type_name(&self) -> &str {
        self.mappings[0].get("type").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether the engine's words have the field's name in brackets, or a number of its mapping.
    fn is_meant_by(&self, said: &str) -> bool {
        let numbers =
            self.mappings[0].as_object().into_iter().flat_map(Map::values).filter(|value| value.is_number());
        let mut names = numbers.map(Value::to_string).chain([self.field.name.clone()]);
        names.any(|name| said.contains(&format!("[{name}]")))
    }

    /// Proposes the next; false if there is none.
    fn fall_back(&mut self) -> bool {
        if self.mappings.len() == 1 {
            return false;
        }
        let refused = self.mappings.remove(0);
        tracing::info!(
            field = name(&self.field.name),
            %refused,
            mapping = %self.mappings[0],
            "the engine does not take the best mapping of a field; it gets another"
        );
        true
    }
}

impl<'f> Choice<'f> {
    /// The best mapping of each field.
    pub(super) fn best(fields: impl IntoIterator<Item = &'f Field>) -> Choice<'f> {
        let fields = fields.into_iter();
        let fields = fields.map(|field| Proposed { field, mappings: mappings(field.kind) }).collect();
        Choice { fields }
    }

    /// As `properties` of a mapping.
    pub(super) fn properties(&self) -> Value {
        let member = |proposed: &Proposed<'_>| (proposed.field.name.clone(), proposed.mappings[0].clone());
        Value::Object(self.fields.iter().map(member).collect::<Map<_, _>>())
    }

    /// The engine refused the proposal; `said`: its words. False if nothing can be proposed instead.
    ///
    /// 7.x says of a type that it lacks "No handler for type \[unsigned_long\] declared on field \[x\]", 9.5.3 "The mapper type \[unsigned_long\] declared on field \[x\] does
    /// not exist". Of a type that it has they say which field, or no more than "The number of dimensions should be in the range \[1, 4096\] but was \[16383\]".
    pub(super) fn fall_back(&mut self, said: &str) -> bool {
        let lacks = |proposed: &&mut Proposed<'_>| {
            said.contains(&format!("type [{}] declared on field", proposed.type_name()))
        };
        let lacking = self.fields.iter_mut().filter(lacks).map(Proposed::fall_back).collect::<Vec<_>>();
        if !lacking.is_empty() {
            return lacking.into_iter().all(|fell| fell);
        }
        // What is called so by chance is not what the engine means, if it has no other mapping.
        self.fields.iter_mut().filter(|proposed| proposed.is_meant_by(said)).any(Proposed::fall_back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::document::FieldKind;

    fn types(choice: &Choice<'_>) -> Vec<String> {
        choice.fields.iter().map(|proposed| proposed.type_name().to_owned()).collect()
    }

    #[test]
    fn fields_fall_back_by_type_or_by_name_until_there_is_no_other() {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        let fields = [
            field("a", FieldKind::UnsignedLong),
            field("b", FieldKind::UnsignedLong),
            field("v", FieldKind::DenseVector { dimensions: 5000 }),
            field("g", FieldKind::GeoShape),
            field("k", FieldKind::Keyword),
        ];
        let mut choice = Choice::best(&fields);
        assert_eq!(
            types(&choice),
            ["unsigned_long", "unsigned_long", "dense_vector", "geo_shape", "keyword"]
        );
        assert!(choice.fall_back("No handler for type [unsigned_long] declared on field [a]"));
        assert_eq!(types(&choice)[..2], ["keyword", "keyword"]);
        let dims = "Failed to parse mapping: The number of dimensions for field [v] should be in the range [1, 4096] but was [5000]";
        assert!(choice.fall_back(dims));
        assert_eq!(choice.properties()["v"], serde_json::json!({"type": "dense_vector", "dims": 5000}));
        assert!(choice.fall_back("The number of dimensions should be in the range [1, 4096] but was [5000]"));
        assert_eq!(choice.properties()["v"], serde_json::json!({"type": "float", "index": false}));
        assert!(!choice.fall_back(dims));
        assert!(choice.fall_back("The mapper type [geo_shape] declared on field [g] does not exist."));
        assert_eq!(choice.properties()["g"], serde_json::json!({"type": "object", "enabled": false}));
        for said in [
            "No handler for type [keyword] declared on field [k]",
            "analyzer [k] not found",
            "limit of total fields [1000]",
            "",
        ] {
            assert!(!choice.fall_back(said), "{said}");
        }
    }
}
