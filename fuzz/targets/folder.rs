//! A whole log folder: files with names, chained or not, whose checksums hold, so that what lies behind them is reached.
//!
//! The input is read by [`Input`]: per file a byte of [`how`] it is made, then what the flags ask for, then its frames, each a byte of
//! kind and a block of payload. A kind of 0 ends the file, [`RAW`] is followed by bytes that are taken as they are.

use super::format::{EMPTY_STATE, FIRST, Header, Input, frame};
use super::place::{Outcome, Place};

/// Bits of a file's first byte.
pub mod how {
    /// Header fields come from the input: first seq, base, the previous segment's first seq, length and salt. Otherwise it follows the
    /// file before it.
    pub const OWN_HEADER: u8 = 1;
    /// The first frame is not a state made here.
    pub const OWN_STATE: u8 = 2;
    /// Not a segment by its name: the next byte says what.
    pub const OTHER_NAME: u8 = 4;
}

/// In place of a kind: bytes that are no frame.
pub const RAW: u8 = 0xFE;

const MOST_FILES: usize = 6;

/// A file's name and bytes.
pub type File = (String, Vec<u8>);

pub fn run(input: &[u8]) {
    let files = files(Input(input));
    let place = Place::with(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    if let Outcome::Opened(found) = place.examine() {
        let rises = found.frames.windows(2).all(|pair| pair[0].seq < pair[1].seq);
        assert!(rises && found.frames.len() <= input.len() + MOST_FILES);
    }
}

pub fn files(mut input: Input<'_>) -> Vec<File> {
    let mut files: Vec<File> = Vec::new();
    let mut follows = FIRST;
    while !input.is_empty() && files.len() < MOST_FILES {
        let (file, next) = file(&mut input, follows);
        follows = next;
        files.push(file);
    }
    files
}

/// One file, and the header of one that follows it.
fn file(input: &mut Input<'_>, follows: Header) -> (File, Header) {
    let how = input.byte();
    let mut header = follows;
    if how & how::OWN_HEADER != 0 {
        header.first = input.number();
        header.base = input.number();
        header.previous_first = input.number();
        header.previous_bytes = input.number();
        header.previous_salt = input.u32();
    }
    let mut name = format!("{:020}.log", header.first);
    if how & how::OTHER_NAME != 0 {
        let others = [".new", ".torn", ".txt", "x.log"];
        name = format!("{:020}{}", header.first, others[usize::from(input.byte()) % others.len()]);
    }
    let mut bytes = header.bytes();
    let mut seq = header.first;
    if how & how::OWN_STATE == 0 {
        bytes.extend(frame(1, 0, seq, header.salt, &EMPTY_STATE));
        seq = seq.wrapping_add(1);
    }
    while !input.is_empty() {
        match input.byte() {
            0 => break,
            RAW => bytes.extend(input.block()),
            kind => {
                // The highest bit of a kind stands for a flag that no version knows.
                bytes.extend(frame(kind & 0x7F, kind >> 7, seq, header.salt, input.block()));
                seq = seq.wrapping_add(1);
            }
        }
    }
    let next = Header {
        salt: header.salt.wrapping_mul(0x9E37_79B1).wrapping_add(1),
        first: seq,
        previous_first: header.first,
        previous_bytes: bytes.len() as u64,
        previous_salt: header.salt,
        ..header
    };
    ((name, bytes), next)
}
