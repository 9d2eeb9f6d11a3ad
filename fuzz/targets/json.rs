//! MySQL's binary JSON.

use everrelay::source::mysql::json::{JsonError, write_text};

/// What a text may take, bytes.
pub const LIMIT: usize = 1 << 16;

/// What one value may be longer than was left for it: a number, a key's quotes.
const SLACK: usize = 512;

pub fn run(input: &[u8]) {
    let mut text = KEPT.to_vec();
    match write_text(input, &mut text, LIMIT) {
        Ok(text) => is_json(text),
        Err(JsonError::Malformed | JsonError::TooDeep | JsonError::TooLong) => {}
    }
    is_bounded(&text);
}

/// What stands in a text before a document is written to it.
pub const KEPT: &[u8] = b"kept";

/// What was written, all of it or a part, is not longer than it may be.
pub fn is_bounded(text: &[u8]) {
    assert!(text.len() <= 6 * LIMIT + SLACK, "{} bytes of text", text.len());
}

pub fn is_json(text: &str) {
    let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(text);
    assert!(parsed.is_ok(), "{text} is no JSON");
}
