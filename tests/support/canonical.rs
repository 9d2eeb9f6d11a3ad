//! JSON in a form in which equal means equal.
//!
//! Numbers are never read into a float: `12.30` is not `12.3` where the column is a DECIMAL, and 18446744073709551615 keeps
//! its digits. Strings are compared without their escapes, objects without the order of their keys.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::value::RawValue;

/// When two numbers are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Character by character.
    AsPrinted,
    /// As decimal fractions: `1e2` is `100.0`.
    ByValue,
}

/// A document in canonical form, by column.
pub type Document = BTreeMap<String, String>;

/// `json` without white space, unnecessary escapes and order of keys.
///
/// # Errors
/// `json` is not JSON.
pub fn canonical(json: &str, numbers: Numbers) -> Result<String> {
    let mut out = String::with_capacity(json.len());
    append(json, numbers, &mut out)?;
    Ok(out)
}

/// Splits an object into its members in canonical form; `numbers` is asked for each member.
///
/// # Errors
/// `json` is not a JSON object.
pub fn canonical_members(json: &str, numbers: impl Fn(&str) -> Numbers) -> Result<Document> {
    let members: BTreeMap<String, &RawValue> =
        serde_json::from_str(json).with_context(|| format!("not a JSON object: {json}"))?;
    let mut document = Document::new();
    for (name, value) in members {
        let value = canonical(value.get(), numbers(&name))?;
        document.insert(name, value);
    }
    Ok(document)
}

fn append(json: &str, numbers: Numbers, out: &mut String) -> Result<()> {
    let json = json.trim();
    match json.as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(json)?;
            out.push('{');
            for (name, value) in members {
                out.push_str(&serde_json::to_string(&name)?);
                out.push(':');
                append(value.get(), numbers, out)?;
                out.push(',');
            }
            out.push('}');
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(json)?;
            out.push('[');
            for item in items {
                append(item.get(), numbers, out)?;
                out.push(',');
            }
            out.push(']');
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(json)?;
            out.push_str(&serde_json::to_string(&text)?);
        }
        Some(b't' | b'f' | b'n') => {
            serde_json::from_str::<Option<bool>>(json)?;
            out.push_str(json);
        }
        Some(b'-' | b'0'..=b'9') => {
            // What serde_json takes for a number is one.
            serde_json::from_str::<&RawValue>(json)?;
            match numbers {
                Numbers::AsPrinted => out.push_str(json),
                Numbers::ByValue => out.push_str(&by_value(json)?),
            }
        }
        _ => bail!("not JSON: {json}"),
    }
    Ok(())
}

/// A number as digits without zeros at either end, and a power of ten.
fn by_value(number: &str) -> Result<String> {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.trim_start_matches('+').parse::<i64>()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Ok("0".to_owned());
    }
    let power = exponent - fraction.len() as i64 + (digits.len() - significant.len()) as i64;
    Ok(format!("{sign}{significant}e{power}"))
}
