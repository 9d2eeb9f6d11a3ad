//! Whether a document is what its row becomes.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// The same bytes, or the same JSON: an engine may put a document together anew, and print its numbers as it likes. `but`: a member that may be anything.
#[must_use]
pub fn is_same(expected: &[u8], found: &str, but: Option<&str>) -> bool {
    if expected == found.as_bytes() {
        return true;
    }
    let (Ok(mut expected), Ok(mut found)) =
        (serde_json::from_slice::<Members>(expected), serde_json::from_str::<Members>(found))
    else {
        return false;
    };
    if let Some(but) = but {
        expected.remove(but);
        found.remove(but);
    }
    same_members(&expected, &found).unwrap_or(false)
}

type Members<'a> = HashMap<String, &'a RawValue>;

fn same_members(expected: &Members<'_>, found: &Members<'_>) -> serde_json::Result<bool> {
    let mut same = expected.len() == found.len();
    for (name, expected) in expected {
        same = same && matches!(found.get(name), Some(found) if same_value(expected, found)?);
    }
    Ok(same)
}

/// Numbers are compared as they are printed: a float knows 15 digits of them, and DECIMAL has 65.
fn same_value(expected: &RawValue, found: &RawValue) -> serde_json::Result<bool> {
    let (a, b) = (expected.get(), found.get());
    let kind = |text: &str| match text.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => b'0',
        first => first.copied().unwrap_or(0),
    };
    if kind(a) != kind(b) {
        return Ok(false);
    }
    match kind(a) {
        b'{' => {
            let [a, b]: [Members<'_>; 2] = [serde_json::from_str(a)?, serde_json::from_str(b)?];
            same_members(&a, &b)
        }
        b'[' => {
            let [a, b]: [Vec<&RawValue>; 2] = [serde_json::from_str(a)?, serde_json::from_str(b)?];
            let mut same = a.len() == b.len();
            for (a, b) in a.into_iter().zip(b) {
                same = same && same_value(a, b)?;
            }
            Ok(same)
        }
        b'"' => Ok(serde_json::from_str::<String>(a)? == serde_json::from_str::<String>(b)?),
        b'0' => Ok(same_number(a, b)),
        _ => Ok(a == b),
    }
}

/// `1` and `1.0` are, and what a float makes of a number is; two integers of which a float knows no difference are not, nor two decimals.
fn same_number(expected: &str, found: &str) -> bool {
    let is_integer = |text: &str| !text.contains(['.', 'e', 'E']);
    let Some(value) = Decimal::parse(found) else { return false };
    if Decimal::parse(expected) == Some(value.clone()) {
        return true;
    }
    let rounded = || {
        let float = expected.parse::<f64>().ok().filter(|float| float.is_finite())?;
        Decimal::parse(ryu::Buffer::new().format_finite(float))
    };
    !(is_integer(expected) && is_integer(found)) && rounded() == Some(value)
}

/// 0.digits * 10^exponent, without zeros at either end; no digits: 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Option<Decimal> {
        let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = [whole, fraction].concat();
        let digits = all.trim_start_matches('0');
        let zeros = i64::try_from(all.len() - digits.len()).ok()?;
        let point = i64::try_from(whole.len()).ok()? - zeros;
        let digits = digits.trim_end_matches('0').to_owned();
        if digits.is_empty() {
            return Some(Decimal { negative: false, digits, exponent: 0 });
        }
        Some(Decimal { negative, digits, exponent: power.parse::<i64>().ok()?.checked_add(point)? })
    }
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
            (r#"{"a":12.30}"#, r#"{"a":12.3}"#, true),
            (r#"{"a":-0.0012e3}"#, r#"{"a":-12E-1}"#, true),
            (r#"{"a":0.0}"#, r#"{"a":-0}"#, true),
            (r#"{"a":12345678901234567.89}"#, r#"{"a": 12345678901234567.88}"#, false),
            (r#"{"a":12345678901234567.89}"#, r#"{"a":1.2345678901234568E16}"#, true),
            (r#"{"a":123456789012345678901}"#, r#"{"a": 123456789012345678902}"#, false),
            (r#"{"a":9007199254740993}"#, r#"{"a":9.007199254740992E15}"#, true),
            (r#"{"a":"\u00fc"}"#, r#"{"a": "ü"}"#, true),
            (r#"{"a":true}"#, r#"{"a": false}"#, false),
            (r#"{"a":[{"b":1}]}"#, r#"{"a": [{"b": 2}]}"#, false),
            (r#"{"a":1}"#, r#"{"a": 1, "a": 2}"#, false),
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
