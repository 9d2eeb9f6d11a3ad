//! A segment's header: the first byte says whether its checksum is made to hold, the next 60 are the header.

use super::format::{EMPTY_STATE, frame};
use super::place::Place;

pub fn run(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let mut file = bytes[..bytes.len().min(64)].to_vec();
    if how & 1 == 1 {
        file.resize(60, 0);
        file.extend(crc32fast::hash(&file).to_le_bytes());
    }
    let number =
        |at: usize| file.get(at..at + 8).map_or(1, |b| u64::from_le_bytes(b.try_into().expect("8 bytes")));
    let (first, salt) = (number(16), number(12) as u32);
    if how & 2 == 0 {
        file.extend(frame(1, 0, first, salt, &EMPTY_STATE));
    }
    let name = format!("{first:020}.log");
    Place::with([(name.as_str(), file.as_slice())]).examine();
}
