//! Whether a document is what its row becomes.

use serde_json::{Number, Value};

/// The same bytes, or the same JSON: an engine may put a document together anew, and print its numbers as it likes. `but`: a member that may be anything.
#[must_use]
pub fn is_same(expected: &[u8], found: &str, but: Option<&str>) -> bool {
    if expected == found.as_bytes() {
        return true;
    }
    let (Ok(mut expected), Ok(mut found)) = (serde_json::from_slice(expected), serde_json::from_str(found))
    else {
        return false;
    };
    for value in [&mut expected, &mut found] {
        if let (Value::Object(members), Some(but)) = (value, but) {
            members.remove(but);
        }
    }
    same_value(&expected, &found)
}

fn same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => same_number(a, b),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same_value(a, b)))
        }
        (a, b) => a == b,
    }
}

/// `1` and `1.0` are, two integers of which a float knows no difference are not.
fn same_number(a: &Number, b: &Number) -> bool {
    a == b || ((a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_same_however_it_is_printed() {
        for (expected, found, same) in [
            (r#"{"a":1}"#, r#"{"a":1}"#, true),
            (r#"{"a":1,"b":[1.0,"x"]}"#, r#"{ "b": [1, "x"], "a": 1e0 }"#, true),
            (r#"{"a":1}"#, r#"{"a":2}"#, false),
            (r#"{"a":1}"#, r#"{"a":"1"}"#, false),
            (r#"{"a":null}"#, "{}", false),
            ("{}", r#"{"a":null}"#, false),
            (r#"{"a":[1,2]}"#, r#"{"a":[1]}"#, false),
            (r#"{"a":9007199254740993}"#, r#"{"a":9007199254740992}"#, false),
            (r#"{"a":1}"#, "nonsense", false),
        ] {
            let with =
                |text: &str, member: &str| text.replacen('{', &format!("{{{member}"), 1).replace(",}", "}");
            let (expected_with, found_with) = (with(expected, "\"m\":1,"), with(found, "\"m\":{\"x\":2},"));
            assert_eq!(
                is_same(expected_with.as_bytes(), &found_with, Some("m")),
                same,
                "{expected_with} {found_with}"
            );
            assert_eq!(is_same(expected.as_bytes(), found, None), same, "{expected} {found}");
        }
    }
}
