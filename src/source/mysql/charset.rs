//! The character sets of text columns, and their bytes as UTF-8.
//!
//! MySQL names a column's collation by number; only its character set matters here. Sets whose bytes are UTF-8 are taken
//! as they are; of all others but those of Unicode the characters are those that the server itself makes of them ([`tables`]). So latin1 is MySQL's cp1252, in which the five
//! bytes that Microsoft leaves undefined are the C1 controls of the same number (strings/ctype-latin1.cc, `cs_latin1_to_uni`). A set that is not known is refused by name.

pub mod tables;

use mysql_common::collations::{Collation, CollationId};

use super::server::Family;
use super::wire::{big_endian, little_endian};
use tables::Table;

/// How a text column's bytes become UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// Not text: bytes.
    Binary,
    /// utf8mb4, utf8mb3, ascii.
    Utf8,
    Other(&'static Table),
    /// Big-endian 16-bit units: ucs2 and utf16.
    Utf16,
    /// Little-endian ones.
    Utf16Le,
    /// Big-endian 32-bit units.
    Utf32,
}

/// A character set that is not decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the character set {name} (collation {collation})")]
pub struct UnknownCharset {
    pub name: String,
    pub collation: u64,
}

impl Charset {
    /// The character set of collation number `collation`.
    ///
    /// # Errors
    /// A set whose bytes are not decoded here, or a collation that is not known.
    pub fn of_collation(collation: u64) -> Result<Charset, UnknownCharset> {
        let unknown = |name: &str| UnknownCharset { name: name.to_owned(), collation };
        let id = u16::try_from(collation).map_err(|_| unknown("unknown"))?;
        // What is newer than the table in mysql_common: utf8mb4 collations since 8.0.30 (309 to 323), and the
        // user-defined range that the manual reserves is not known to anyone but the server.
        if (255..=323).contains(&id) {
            return Ok(Charset::Utf8);
        }
        let known = Collation::resolve(CollationId::from(id));
        let name = known.charset();
        Ok(match name {
            "binary" => Charset::Binary,
            "utf8mb4" | "utf8mb3" | "utf8" | "ascii" => Charset::Utf8,
            "ucs2" | "utf16" => Charset::Utf16,
            "utf32" => Charset::Utf32,
            "utf16le" => Charset::Utf16Le,
            name => Charset::Other(Table::named(name).ok_or_else(|| unknown(name))?),
        })
    }

    /// The character set of collation number `collation` at a server of this family.
    ///
    /// MariaDB has numbers of its own: from 1024 on those of 0 on once more, without padding (MySQL leaves them to users); from 2048 on 256
    /// of UCA 14 for each of five sets; and some between (MariaDB, include/my_sys.h, *mysys/charset-def.c*).
    ///
    /// # Errors
    /// As [`Charset::of_collation`].
    pub fn of(family: Family, collation: u64) -> Result<Charset, UnknownCharset> {
        if family == Family::Mysql {
            return Charset::of_collation(collation);
        }
        match collation {
            2048..2560 | 576..640 => Ok(Charset::Utf8),
            2560..3072 | 640..704 => Ok(Charset::Utf16),
            3072..3328 | 736..768 => Ok(Charset::Utf32),
            1024..2048 => Charset::of(family, collation - 1024),
            _ => Charset::of_collation(collation),
        }
    }

    /// The most bytes that a character of this collation takes; fewer where that is not known.
    #[must_use]
    pub fn most_bytes(family: Family, collation: u64) -> usize {
        match (family, collation) {
            (Family::Mariadb, 2048..2304) => 3,
            (Family::Mariadb, 2304..2560 | 2816..3328) => 4,
            (Family::Mariadb, 2560..2816) => 2,
            (Family::Mariadb, 1024..2048) => Charset::most_bytes(family, collation - 1024),
            (Family::Mysql, 255..=323) => 4,
            _ => u16::try_from(collation)
                .map_or(1, |id| usize::from(Collation::resolve(CollationId::from(id)).max_len()).max(1)),
        }
    }

    /// The name by which a literal is given this character set's bytes; for several sets that of the one that has all characters of each.
    #[must_use]
    pub fn mysql_name(self) -> &'static str {
        match self {
            Charset::Binary => "binary",
            Charset::Utf8 => "utf8mb4",
            Charset::Utf16 => "utf16",
            Charset::Utf16Le => "utf16le",
            Charset::Utf32 => "utf32",
            Charset::Other(table) => table.name,
        }
    }

    /// `bytes` as UTF-8: borrowed where they are so already, else written into `scratch`; the flag says that something
    /// in them was not of this character set and became U+FFFD.
    pub fn decode<'a>(self, bytes: &'a [u8], scratch: &'a mut String) -> (&'a str, bool) {
        scratch.clear();
        match self {
            Charset::Utf8 | Charset::Binary => match std::str::from_utf8(bytes) {
                Ok(text) => (text, false),
                Err(_) => {
                    scratch.push_str(&String::from_utf8_lossy(bytes));
                    (scratch, true)
                }
            },
            Charset::Other(table) if table.is_ascii && bytes.is_ascii() => {
                (std::str::from_utf8(bytes).unwrap_or_default(), false)
            }
            Charset::Other(table) => {
                let replaced = table.decode(bytes, scratch);
                (scratch, replaced)
            }
            Charset::Utf16 => utf16(bytes, |unit| big_endian(unit) as u16, scratch),
            Charset::Utf16Le => utf16(bytes, |unit| little_endian(unit) as u16, scratch),
            Charset::Utf32 => {
                let units = bytes.chunks_exact(4);
                let mut replaced = !units.remainder().is_empty();
                scratch.extend(units.map(|unit| {
                    char::from_u32(big_endian(unit) as u32).unwrap_or_else(|| {
                        replaced = true;
                        char::REPLACEMENT_CHARACTER
                    })
                }));
                (scratch, replaced)
            }
        }
    }
}

/// UTF-16 with units of this kind. The servers let ucs2 columns have halves of surrogate pairs: one alone is no character.
fn utf16<'a>(bytes: &[u8], unit: fn(&[u8]) -> u16, scratch: &'a mut String) -> (&'a str, bool) {
    let units = bytes.chunks_exact(2);
    let mut replaced = !units.remainder().is_empty();
    scratch.extend(char::decode_utf16(units.map(unit)).map(|c| {
        c.unwrap_or_else(|_| {
            replaced = true;
            char::REPLACEMENT_CHARACTER
        })
    }));
    (scratch, replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Charset {
        Charset::Other(Table::named(name).unwrap())
    }

    fn decode(collation: u64, bytes: &[u8]) -> (String, bool) {
        let mut scratch = String::new();
        let (text, replaced) = Charset::of_collation(collation).unwrap().decode(bytes, &mut scratch);
        (text.to_owned(), replaced)
    }

    #[test]
    fn collations_lead_to_their_character_set() {
        assert_eq!(Charset::of_collation(63), Ok(Charset::Binary));
        for utf8 in [11, 33, 45, 46, 76, 83, 192, 224, 255, 305, 309, 323] {
            assert_eq!(Charset::of_collation(utf8), Ok(Charset::Utf8), "{utf8}");
        }
        for (collation, name) in [(3, "dec8"), (8, "latin1"), (10, "swe7"), (13, "sjis"), (249, "gb18030")] {
            assert_eq!(Charset::of_collation(collation), Ok(named(name)));
        }
        assert_eq!(Charset::of_collation(56), Ok(Charset::Utf16Le));
        assert!(Charset::of_collation(60_000).is_err());
    }

    #[test]
    fn mariadbs_own_collations_are_known_where_they_are_its_own() {
        let of = |collation| Charset::of(Family::Mariadb, collation);
        for utf8 in [11, 45, 255, 576, 608, 1035, 1069, 1070, 1216, 1248, 2048, 2304, 2559] {
            assert_eq!(of(utf8), Ok(Charset::Utf8), "{utf8}");
        }
        for utf16 in [35, 54, 640, 672, 1059, 1078, 1125, 1152, 2560, 2816] {
            assert_eq!(of(utf16), Ok(Charset::Utf16), "{utf16}");
        }
        for utf32 in [60, 736, 1084, 1184, 3072, 3327] {
            assert_eq!(of(utf32), Ok(Charset::Utf32), "{utf32}");
        }
        assert_eq!(
            (of(8), of(1032), of(1027)),
            (Ok(named("latin1")), Ok(named("latin1")), Ok(named("dec8")))
        );
        assert!(of(704).is_err() && of(3328).is_err());
        assert!(Charset::of(Family::Mysql, 1032).is_err() && Charset::of(Family::Mysql, 2304).is_err());
    }

    #[test]
    fn latin1_is_cp1252_with_its_five_holes_filled() {
        assert_eq!(
            decode(8, b"\x80\x81\x8d\x8f\x90\x9d\xe9"),
            ("€\u{81}\u{8d}\u{8f}\u{90}\u{9d}é".into(), false)
        );
    }

    #[test]
    fn what_is_not_of_the_character_set_is_replaced_and_told() {
        assert_eq!(decode(255, b"a\xffb"), ("a\u{fffd}b".into(), true));
        assert_eq!(decode(255, "é🦀".as_bytes()), ("é🦀".into(), false));
        assert_eq!(decode(54, &[0xd8, 0x00]), ("\u{fffd}".into(), true));
        assert_eq!(decode(54, &[0x00, 0x41, 0xd8, 0x3e, 0xdd, 0x80]), ("A🦀".into(), false));
        assert_eq!(decode(60, &[0, 1, 0xf9, 0x80]), ("🦀".into(), false));
    }

    #[test]
    fn what_is_cut_short_or_between_two_characters_takes_nothing_of_its_neighbours_along() {
        // sjis: a leading byte before one that cannot follow, before a gap of the table, at the end.
        assert_eq!(decode(13, b"a\x81!\x88\x9fb\x81"), ("a\u{fffd}!亜b\u{fffd}".into(), true));
        // ujis: three bytes, cut short.
        assert_eq!(decode(12, b"\x8f\xb0\xa1x\x8f\xb0"), ("丂x\u{fffd}".into(), true));
        assert_eq!(decode(249, b"\x90\x30\x81\x30\x81\x30\x81\x30z"), ("\u{10000}\u{80}z".into(), false));
        assert_eq!(decode(249, b"\xfe\x39\xfe\x39\x81\x30\x81"), ("\u{fffd}\u{fffd}0\u{fffd}".into(), true));
    }
}
