//! MySQL's binary JSON.

use everrelay::source::mysql::json::{JsonError, write_text};

/// What a text may take, bytes.
const LIMIT: usize = 1 << 16;

/// What one value may be longer than was left for it: a number, a key's quotes.
const SLACK: usize = 512;

pub fn run(input: &[u8]) {
    let mut text = String::from("kept");
    let written = write_text(input, &mut text, LIMIT);
    let text = text.strip_prefix("kept").expect("what stood there stays");
    assert!(text.len() <= 6 * LIMIT + SLACK, "{} bytes of text", text.len());
    match written {
        Ok(()) => {
            let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(text);
            assert!(parsed.is_ok(), "{text} is no JSON");
        }
        Err(JsonError::Malformed | JsonError::TooDeep | JsonError::TooLong) => {}
    }
}
