//! Inputs made from those of a corpus, as a fuzzer makes them: bits flipped, bytes cut, moved and spliced, numbers set to extremes.

use rand::Rng;
use rand::rngs::StdRng;

/// What lengths, counts and offsets are set to.
const EXTREMES: [u64; 12] = [
    0,
    1,
    0x7F,
    0xFB,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    0x7FFF_FFFF_FFFF_FFFF,
    0xFFFF_FFFF_FFFF_FFFE,
    u64::MAX,
];

/// Inputs do not grow over this, bytes.
const LONGEST: usize = 1 << 16;

/// An input from one of `corpus`, or one that is wholly random.
pub fn input(corpus: &[Vec<u8>], chance: &mut StdRng) -> Vec<u8> {
    if chance.random_ratio(1, 16) {
        let length = chance.random_range(0..600);
        return (0..length).map(|_| chance.random()).collect();
    }
    let mut bytes = pick(corpus, chance).to_vec();
    for _ in 0..1 << chance.random_range(0..4) {
        change(&mut bytes, corpus, chance);
    }
    bytes.truncate(LONGEST);
    bytes
}

fn pick<'c>(corpus: &'c [Vec<u8>], chance: &mut StdRng) -> &'c [u8] {
    &corpus[chance.random_range(0..corpus.len())]
}

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], chance: &mut StdRng) {
    let at = chance.random_range(0..=bytes.len());
    let rest = bytes.len() - at;
    let some = chance.random_range(0..=rest.min(64));
    match chance.random_range(0..9) {
        0 | 1 if rest > 0 => bytes[at] ^= 1 << chance.random_range(0..8),
        2 if rest > 0 => bytes[at] = chance.random(),
        3 => overwrite(bytes, at, chance),
        4 => bytes.truncate(at),
        5 => drop(bytes.drain(at..at + some)),
        // The same again.
        6 => {
            let again = bytes[at..at + some].to_vec();
            bytes.splice(at..at, again);
        }
        7 => {
            let other = pick(corpus, chance);
            let from = chance.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let new: Vec<u8> = (0..some).map(|_| chance.random()).collect();
            bytes.splice(at..at, new);
        }
    }
}

/// A number in one of the widths that lengths have, bincode's among them.
fn overwrite(bytes: &mut [u8], at: usize, chance: &mut StdRng) {
    let number = EXTREMES[chance.random_range(0..EXTREMES.len())].to_le_bytes();
    let (tag, width) = [(None, 1), (None, 2), (None, 4), (None, 8), (Some(252), 4), (Some(253), 8)]
        [chance.random_range(0..6)];
    let written = tag.into_iter().chain(number[..width].iter().copied());
    for (place, byte) in bytes[at..].iter_mut().zip(written) {
        *place = byte;
    }
}
