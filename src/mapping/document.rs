//! One column's value as JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::rule::Form;
use super::{geometry, json, temporal};
use crate::event::Value;

/// Appends `value` in a form that a rule may have changed; `false` as [`write`].
#[inline]
pub(super) fn write_as(form: Form, value: &Value<'_>, out: &mut Vec<u8>) -> bool {
    match (form, value) {
        (Form::Quoted, Value::Json(text)) => string(text, out),
        (Form::Quoted, Value::Decimal(_)) => {
            out.push(b'"');
            number(value, out);
            out.push(b'"');
        }
        (Form::AnyDate, _) => {
            let start = out.len();
            if write(value, out) {
                return true;
            }
            out.truncate(start);
            return quoted_or_null(out, |out| temporal::any_date(value, out));
        }
        _ => return write(value, out),
    }
    true
}

/// Appends `value`; `false` where it has no form in JSON, or none that a date field takes, and `null` was written.
#[inline]
pub(super) fn write(value: &Value<'_>, out: &mut Vec<u8>) -> bool {
    match *value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Date(date) => return quoted_or_null(out, |out| temporal::date(date, out)),
        Value::DateTime(value) => return quoted_or_null(out, |out| temporal::date_time(value, out)),
        Value::Instant(value) => return quoted_or_null(out, |out| temporal::instant(value, out)),
        Value::F32(v) if !v.is_finite() => return null(out),
        Value::F64(v) if !v.is_finite() => return null(out),
        Value::I64(_) | Value::U64(_) | Value::F32(_) | Value::F64(_) | Value::Decimal(_) => {
            number(value, out);
        }
        Value::Text(text) | Value::Enum(text) => string(text, out),
        Value::Bytes(bytes) => base64(bytes, out),
        Value::Time(time) => {
            out.push(b'"');
            temporal::time(time, out);
            out.push(b'"');
        }
        Value::Json(text) => json::splice(text, out),
        Value::Set(labels) => set(labels, out),
        Value::Geometry(value) => return geometry::geo_json(value.wkb, out) || null(out),
        Value::Vector(packed) => return geometry::numbers(packed, out) || null(out),
    }
    true
}

/// Appends a finite number's digits; nothing for what is no number.
#[inline]
pub(super) fn number(value: &Value<'_>, out: &mut Vec<u8>) {
    match *value {
        Value::I64(v) => out.extend_from_slice(itoa::Buffer::new().format(v).as_bytes()),
        Value::U64(v) => out.extend_from_slice(itoa::Buffer::new().format(v).as_bytes()),
        Value::F32(v) => out.extend_from_slice(ryu::Buffer::new().format(v).as_bytes()),
        Value::F64(v) => out.extend_from_slice(ryu::Buffer::new().format(v).as_bytes()),
        Value::Decimal(digits) => decimal(digits.as_bytes(), out),
        _ => {}
    }
}

/// JSON has no leading zeros and no bare point, where a ZEROFILL column prints `007.50`.
#[inline]
fn decimal(digits: &[u8], out: &mut Vec<u8>) {
    let unsigned = digits.strip_prefix(b"-");
    if unsigned.is_some() {
        out.push(b'-');
    }
    let mut unsigned = unsigned.unwrap_or(digits);
    while let [b'0', rest @ ..] = unsigned {
        if !rest.first().is_some_and(u8::is_ascii_digit) {
            break;
        }
        unsigned = rest;
    }
    if !unsigned.first().is_some_and(u8::is_ascii_digit) {
        out.push(b'0');
    }
    out.extend_from_slice(unsigned);
}

#[inline]
fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    json::escape(text.as_bytes(), out);
    out.push(b'"');
}

fn set(labels: &str, out: &mut Vec<u8>) {
    out.push(b'[');
    if !labels.is_empty() {
        for (n, label) in labels.split(',').enumerate() {
            if n > 0 {
                out.push(b',');
            }
            string(label, out);
        }
    }
    out.push(b']');
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let length = STANDARD
        .encode_slice(bytes, &mut out[start..])
        .expect("padded base64 takes four bytes for each three begun, which the buffer has");
    out.truncate(start + length);
    out.push(b'"');
}

#[inline]
fn quoted_or_null(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
    out.push(b'"');
    let known = write(out);
    if known {
        out.push(b'"');
    } else {
        out.pop();
        null(out);
    }
    known
}

fn null(out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(b"null");
    false
}
