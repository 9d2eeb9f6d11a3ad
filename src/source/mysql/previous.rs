//! PREVIOUS_GTIDS events: at the head of each binlog file of MySQL, the GTIDs of all files before it.
//!
//! # Format
//!
//! ```text
//! count of origins (8) ─ origin… :  UUID (16) ─ [tag] ─ count of intervals (8) ─ (first (8) ─ end, exclusive (8))…
//! ```
//!
//! Little-endian. Since MySQL 8.3, in a set that has tags: the first and the last byte of the count are 1 and the count is between them, and each
//! UUID is followed by its tag, the doubled length in a byte and then its letters (MySQL, sql/rpl_gtid_set.cc, *Gtid_set::encode*;
//! libs/mysql/gtid/tag.cpp).

use std::fmt::Write as _;

use super::wire::{Short, Wire};
use crate::event::GtidSet;

/// Longest tag, bytes.
const TAG: u8 = 32;

/// Why an event is none.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl From<Short> for Malformed {
    fn from(Short: Short) -> Malformed {
        Malformed("it ends early")
    }
}

/// The GTIDs that the event lists. `body`: the event without its common header.
///
/// # Errors
/// It is malformed.
pub fn previous_gtids(body: &[u8]) -> Result<GtidSet, Malformed> {
    let mut wire = Wire::new(body);
    let head = wire.u64()?;
    let (count, has_tags) = match (head >> 56, head & 0xff) {
        (0, _) => (head, false),
        (1, 1) => (head >> 8 & 0xffff_ffff_ffff, true),
        _ => return Err(Malformed("its format is not known")),
    };
    // As text, whose parser knows what a set may be. The counts are believed for as long as there are bytes.
    let mut text = String::new();
    for _ in 0..count {
        let uuid = uuid::Uuid::from_bytes(wire.array()?);
        // Writing to a string does not fail.
        let _ = write!(text, "{uuid}");
        if has_tags {
            let doubled = wire.u8()?;
            if doubled % 2 != 0 || doubled / 2 > TAG {
                return Err(Malformed("it has a tag that is too long"));
            }
            let tag = wire.take(usize::from(doubled / 2))?;
            let tag = std::str::from_utf8(tag).map_err(|_| Malformed("it has a tag of other letters"))?;
            if !tag.is_empty() {
                let _ = write!(text, ":{tag}");
            }
        }
        for _ in 0..wire.u64()? {
            let (first, end) = (wire.u64()?, wire.u64()?);
            let last = end.checked_sub(1).filter(|last| *last >= first && first > 0);
            let last = last.ok_or(Malformed("it has an interval that is none"))?;
            let _ = write!(text, ":{first}-{last}");
        }
        text.push(',');
    }
    if !wire.is_empty() {
        return Err(Malformed("bytes follow its end"));
    }
    text.trim_end_matches(',').parse().map_err(|_| Malformed("it lists no GTID set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: [u8; 16] = [7; 16];

    /// A tag, as it is written, and intervals.
    type Listed<'a> = (&'a [u8], &'a [(u64, u64)]);

    fn body(head: u64, origins: &[Listed<'_>]) -> Vec<u8> {
        let mut body = head.to_le_bytes().to_vec();
        for (tag, intervals) in origins {
            body.extend_from_slice(&UUID);
            body.extend_from_slice(tag);
            body.extend_from_slice(&(intervals.len() as u64).to_le_bytes());
            for (first, end) in *intervals {
                body.extend_from_slice(&first.to_le_bytes());
                body.extend_from_slice(&end.to_le_bytes());
            }
        }
        body
    }

    #[test]
    fn a_list_without_and_with_tags_is_the_set_that_it_says() {
        assert_eq!(previous_gtids(&body(0, &[])), Ok(GtidSet::default()));
        let uuid = uuid::Uuid::from_bytes(UUID);
        let plain = body(1, &[(b"", &[(1, 6), (8, 9)])]);
        assert_eq!(previous_gtids(&plain), Ok(format!("{uuid}:1-5:8").parse().unwrap()));
        let tagged = body(1 << 56 | 2 << 8 | 1, &[(b"\0", &[(1, 6)]), (b"\x08blue", &[(3, 4)])]);
        assert_eq!(previous_gtids(&tagged), Ok(format!("{uuid}:1-5:blue:3").parse().unwrap()));
    }

    #[test]
    fn what_is_cut_or_no_set_is_malformed() {
        let whole = body(1 << 56 | 2 << 8 | 1, &[(b"\0", &[(1, 6)]), (b"\x08blue", &[(3, 4)])]);
        for cut in 0..whole.len() {
            assert!(previous_gtids(&whole[..cut]).is_err(), "{cut}");
        }
        for (head, tag, interval) in [
            (1, &b""[..], (0, 5)),
            (1, b"", (5, 5)),
            (1, b"", (6, 5)),
            (1, b"", (1, u64::MAX)),
            (u64::MAX, b"", (1, 2)),
            (2 << 56 | 1, b"", (1, 2)),
            (1 << 56 | 1 << 8 | 1, b"\x09blue", (1, 2)),
            (1 << 56 | 1 << 8 | 1, b"\x44blue", (1, 2)),
            (1 << 56 | 1 << 8 | 1, b"\x08b-ue", (1, 2)),
        ] {
            assert!(
                previous_gtids(&body(head, &[(tag, &[interval])])).is_err(),
                "{head} {tag:?} {interval:?}"
            );
        }
        assert!(previous_gtids(&[body(0, &[]), vec![0]].concat()).is_err());
    }
}
