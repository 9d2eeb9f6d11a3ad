//! A JSON document of MySQL's as a block, and differences behind it.

use everrelay::source::mysql::json;
use everrelay::source::mysql::json_diff::{DiffError, write_text};

use super::format::Input;

/// What a text may take, bytes.
const LIMIT: usize = 1 << 16;

/// What one value may be longer than was left for it: a number, a key's quotes.
const SLACK: usize = 512;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let document = input.block();
    let mut text = String::from("kept");
    let written = write_text(document, input.0, &mut text, LIMIT);
    let text = text.strip_prefix("kept").expect("what stood there stays");
    assert!(text.len() <= 6 * LIMIT + SLACK, "{} bytes of text", text.len());
    match written {
        Ok(()) => {
            let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_str(text);
            assert!(parsed.is_ok(), "{text} is no JSON");
            if input.is_empty() {
                let mut same = String::new();
                assert_eq!(json::write_text(document, &mut same, LIMIT), Ok(()));
                assert_eq!(text, same, "no differences");
            }
        }
        Err(DiffError::Malformed | DiffError::Rejected | DiffError::Json(_)) => {}
    }
}
