//! A JSON document of MySQL's as a block, and differences behind it.

use everrelay::source::mysql::json;
use everrelay::source::mysql::json_diff::{DiffError, write_text};

use super::format::Input;
use super::json::{KEPT, LIMIT, appended, is_json};

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let document = input.block();
    let mut text = String::from(KEPT);
    let written = write_text(document, input.0, &mut text, LIMIT);
    let text = appended(&text);
    match written {
        Ok(()) => {
            is_json(text);
            if input.is_empty() {
                let mut same = String::new();
                assert_eq!(json::write_text(document, &mut same, LIMIT), Ok(()));
                assert_eq!(text, same, "no differences");
            }
        }
        Err(DiffError::Malformed | DiffError::Rejected | DiffError::Json(_)) => {}
    }
}
