//! A JSON document of MySQL's as a block, and differences behind it.

use everrelay::source::mysql::json;
use everrelay::source::mysql::json_diff::{DiffError, write_text};

use super::format::Input;
use super::json::{KEPT, LIMIT, is_bounded, is_json};

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let document = input.block();
    let mut out = KEPT.to_vec();
    match write_text(document, input.0, &mut out, LIMIT) {
        Ok(text) => {
            is_json(text);
            if input.is_empty() {
                let mut same = Vec::new();
                assert_eq!(json::write_text(document, &mut same, LIMIT), Ok(text), "no differences");
            }
        }
        Err(DiffError::Malformed | DiffError::Rejected | DiffError::Json(_)) => {}
    }
    is_bounded(&out);
}
