//! The frame reader: any bytes behind a segment's header and state.

use super::format::{EMPTY_STATE, FIRST, frame};
use super::place::Place;

pub fn run(input: &[u8]) {
    let mut file = FIRST.bytes();
    file.extend(frame(1, 0, FIRST.first, FIRST.salt, &EMPTY_STATE));
    file.extend(input);
    Place::with([("00000000000000000001.log", file.as_slice())]).examine();
}
