//! Document ids.
//!
//! # Format
//!
//! One key column: its text, as the document has it; binary as base64url without padding. Several: their texts joined by `|`, with
//! `\` and `|` in them escaped by `\`. Then, whatever the number of columns:
//!
//! - an id that is empty (the engine takes none) or begins with `sha256:` gets a leading `\`, and so, that no two rows
//!   meet, does one that is such a text behind backslashes;
//! - an id over 512 bytes (the engine's limit) becomes `sha256:` and the hash of itself, in hex.
//!
//! Each step maps different texts to different texts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use super::{document, temporal};
use crate::event::Value;
use crate::event::value::Geometry;

/// The engine's limit, bytes.
const MAX_ID: usize = 512;

const HASHED: &str = "sha256:";

/// Appends a key column's value; `false` for NULL, which is none.
#[inline]
pub(super) fn push(value: &Value<'_>, joined: bool, out: &mut String) -> bool {
    match *value {
        Value::Null => return false,
        Value::I64(v) => out.push_str(itoa::Buffer::new().format(v)),
        Value::U64(v) => out.push_str(itoa::Buffer::new().format(v)),
        Value::Text(text) | Value::Enum(text) | Value::Set(text) | Value::Json(text) => {
            if joined && text.contains(['\\', '|']) {
                for c in text.chars() {
                    if matches!(c, '\\' | '|') {
                        out.push('\\');
                    }
                    out.push(c);
                }
            } else {
                out.push_str(text);
            }
        }
        Value::Bytes(bytes) | Value::Vector(bytes) => URL_SAFE_NO_PAD.encode_string(bytes, out),
        Value::Geometry(Geometry { srid, wkb }) => {
            // The same shape in another reference system is another key.
            URL_SAFE_NO_PAD.encode_string([&srid.to_le_bytes(), wkb].concat(), out);
        }
        ref other => push_printed(other, out),
    }
    true
}

/// Numbers and times print as in the document. A zero date is a legal key value, and there is one row of it: it prints as MySQL
/// does.
fn push_printed(value: &Value<'_>, out: &mut String) {
    let mut bytes = Vec::with_capacity(32);
    let printed = match *value {
        Value::Date(date) => temporal::date(date, &mut bytes),
        Value::DateTime(value) => temporal::date_time(value, &mut bytes),
        Value::Instant(value) => temporal::instant(value, &mut bytes),
        Value::Time(value) => {
            temporal::time(value, &mut bytes);
            true
        }
        _ => {
            document::number(value, &mut bytes);
            true
        }
    };
    // All of these print ASCII.
    out.push_str(std::str::from_utf8(&bytes).unwrap_or_default());
    if printed {
        return;
    }
    match *value {
        Value::Date(d) => out.push_str(&format!("{:04}-{:02}-{:02}", d.year, d.month, d.day)),
        Value::DateTime(v) => {
            let (d, seconds) = (v.date, v.micros / 1_000_000);
            out.push_str(&format!(
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}",
                d.year,
                d.month,
                d.day,
                seconds / 3_600,
                seconds / 60 % 60,
                seconds % 60,
                v.micros % 1_000_000
            ));
        }
        Value::Instant(v) => out.push_str(&format!("@{}", v.micros)),
        _ => {}
    }
}

/// Makes of the joined texts what the engine takes.
#[inline]
pub(super) fn finish(id: &mut String) {
    let first = id.as_bytes().first();
    if matches!(first, None | Some(b'\\' | b's')) {
        let bare = id.trim_start_matches('\\');
        if bare.is_empty() || bare.starts_with(HASHED) {
            id.insert(0, '\\');
        }
    }
    if id.len() > MAX_ID {
        hash(id);
    }
}

#[cold]
fn hash(id: &mut String) {
    let digest = Sha256::digest(id.as_bytes());
    id.clear();
    id.push_str(HASHED);
    for byte in digest {
        for nibble in [byte >> 4, byte & 15] {
            id.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
}
