//! Character sets by tables: what the server itself makes of each character.
//!
//! # Format
//!
//! A set's file is 256 units, one for each single byte, then grids of longer characters, those of three bytes first. A grid begins with five bytes: the byte before the two that it is about (0:
//! none), the first and the last of the leading bytes, the first and the last of the trailing ones; then it has a unit for each trailing byte of each leading one. A
//! unit is a character of the basic plane in two bytes, little-endian; 0 is none, but for the byte 0.
//!
//! gb18030 has characters of four bytes besides. Numbered in their order, up to 39,419 they are the basic plane's in runs, each run in the file of *ranges* by
//! the number and the character that it begins with; from 189,000 on they are those from U+10000 on.
//!
//! The files are written by `cargo test --test real_source -- --ignored tables_of_character_sets` from what MySQL converts. The tests beside it
//! compare every character with MySQL and MariaDB. (Of the WHATWG's tables, which `encoding_rs` has, those of big5, gb2312, gb18030, eucjpms, cp866, greek and hebrew are
//! others, and those of gbk and euckr have characters that the servers do not know.)

use std::fmt;

use crate::source::mysql::wire::little_endian;

/// A character set.
pub struct Table {
    pub name: &'static str,
    /// Whether its first 128 bytes are those of ASCII.
    pub(super) is_ascii: bool,
    bytes: &'static [u8],
    ranges: &'static [u8],
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Table {
    fn eq(&self, other: &Table) -> bool {
        self.name == other.name
    }
}

impl Eq for Table {}

macro_rules! tables {
    ($($name:literal)*) => {
        [$(Table { name: $name, is_ascii: true, bytes: include_bytes!(concat!("tables/", $name)), ranges: &[] },)*]
    };
}

static TABLES: [Table; 31] = tables!(
    "armscii8" "big5" "cp1250" "cp1251" "cp1256" "cp1257" "cp850" "cp852" "cp866" "cp932" "dec8" "eucjpms" "euckr" "gb2312" "gbk" "geostd8"
    "greek" "hebrew" "hp8" "keybcs2" "koi8r" "koi8u" "latin1" "latin2" "latin5" "latin7" "macce" "macroman" "sjis" "tis620" "ujis"
);

/// Swedish letters stand where ASCII has brackets.
static SWE7: Table =
    Table { name: "swe7", is_ascii: false, bytes: include_bytes!("tables/swe7"), ranges: &[] };

static GB18030: Table = Table {
    name: "gb18030",
    is_ascii: true,
    bytes: include_bytes!("tables/gb18030"),
    ranges: include_bytes!("tables/gb18030.ranges"),
};

/// Bytes of a grid's head.
const HEAD: usize = 5;

impl Table {
    /// The table of a set, by MySQL's name of it.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Table> {
        TABLES.iter().chain([&SWE7, &GB18030]).find(|table| table.name == name)
    }

    /// Appends `bytes` as UTF-8; true where something in them is no character of the set, and became U+FFFD.
    pub(super) fn decode(&self, mut bytes: &[u8], out: &mut String) -> bool {
        let mut replaced = false;
        while !bytes.is_empty() {
            if self.is_ascii {
                let length = bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len());
                let (plain, rest) = bytes.split_at(length);
                out.push_str(std::str::from_utf8(plain).unwrap_or_default());
                bytes = rest;
            }
            let Some((&first, rest)) = bytes.split_first() else { break };
            let (found, length) = match unit(self.bytes, usize::from(first)) {
                0 if first != 0 => self.longer(first, rest),
                unit => (char::from_u32(unit), 1),
            };
            replaced |= found.is_none();
            out.push(found.unwrap_or(char::REPLACEMENT_CHARACTER));
            bytes = bytes.get(length..).unwrap_or_default();
        }
        replaced
    }

    /// The character that begins with `first`, and how many bytes it, or what stands in its place, takes.
    fn longer(&self, first: u8, rest: &[u8]) -> (Option<char>, usize) {
        let mut grids = self.bytes.get(512..).unwrap_or_default();
        while let Some(([before, leads @ .., first_trail, last_trail], cells)) =
            grids.split_first_chunk::<HEAD>()
        {
            let [first_lead, last_lead] = *leads;
            let width = usize::from(last_trail - first_trail) + 1;
            let (lead, trail, length) = match (*before, rest) {
                (0, [trail, ..]) => (first, *trail, 2),
                (before, [lead, trail, ..]) if before == first => (*lead, *trail, 3),
                _ => (0, 0, 0),
            };
            if length > 0
                && (first_lead..=last_lead).contains(&lead)
                && (*first_trail..=*last_trail).contains(&trail)
            {
                let cell = usize::from(lead - first_lead) * width + usize::from(trail - first_trail);
                return (char::from_u32(unit(cells, cell)).filter(|found| *found != '\0'), length);
            }
            let size = (usize::from(last_lead - first_lead) + 1) * width * 2;
            grids = cells.get(size..).unwrap_or_default();
        }
        match rest {
            [b @ 0x30..=0x39, c @ 0x81..=0xfe, d @ 0x30..=0x39, ..]
                if !self.ranges.is_empty() && first >= 0x81 =>
            {
                let digit = |byte: u8| u32::from(byte - 0x30);
                let number =
                    ((u32::from(first - 0x81) * 10 + digit(*b)) * 126 + u32::from(c - 0x81)) * 10 + digit(*d);
                (self.of_four(number), 4)
            }
            _ => (None, 1),
        }
    }

    fn of_four(&self, number: u32) -> Option<char> {
        match number {
            0..39_420 => {
                let (runs, _) = self.ranges.as_chunks::<4>();
                let begins = |[a, b, ..]: &[u8; 4]| u32::from(u16::from_le_bytes([*a, *b]));
                let after = runs.partition_point(|run| begins(run) <= number);
                let run = runs.get(after.checked_sub(1)?)?;
                let [.., c, d] = *run;
                char::from_u32(u32::from(u16::from_le_bytes([c, d])) + number - begins(run))
            }
            189_000.. => char::from_u32(number - 189_000 + 0x1_0000),
            _ => None,
        }
    }
}

fn unit(units: &[u8], index: usize) -> u32 {
    units.get(2 * index..2 * index + 2).map_or(0, |unit| little_endian(unit) as u32)
}
