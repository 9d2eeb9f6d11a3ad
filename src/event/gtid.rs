//! GTIDs and sets of them, kept exactly: gaps, tags and any number of sources.
//!
//! Text form: MySQL's, `uuid[:tag]:interval[:interval]…`, joined by commas; intervals `first[-last]`, both inclusive.
//! (MySQL Reference Manual, *GTID Sets*; tags since 8.3.)
//!
//! Stored form: bincode of the types below. What is read there is held to what their comments say, since all arithmetic here relies on it.

use std::collections::BTreeMap;
use std::fmt;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode, impl_borrow_decode};

/// A GTID's number is below this (MySQL: the exclusive upper limit is 2^63 - 1).
pub const NUMBER_LIMIT: u64 = i64::MAX as u64;

/// Most characters in a tag.
pub const MAX_TAG: usize = 32;

/// Who numbers transactions: a server's UUID with an optional tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Origin {
    pub uuid: [u8; 16],
    /// Empty, or 1 to 32 of `a-z 0-9 _`, not starting with a digit.
    pub tag: String,
}

/// One transaction's global identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Gtid {
    pub origin: Origin,
    /// 1 to [`NUMBER_LIMIT`] exclusive.
    pub number: u64,
}

/// A half-open interval of transaction numbers, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Interval {
    start: u64,
    end: u64,
}

/// A set of GTIDs: per origin, sorted intervals that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct GtidSet {
    origins: BTreeMap<Origin, Vec<Interval>>,
}

/// A text that is no GTID or GTID set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a GTID set: {problem} (expected uuid[:tag]:first[-last], joined by commas)")]
pub struct ParseGtidError {
    /// The part that was not understood, at most 80 characters of it.
    pub text: String,
    pub problem: &'static str,
}

impl Origin {
    fn is_legal(&self) -> bool {
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        self.tag.len() <= MAX_TAG
            && !self.tag.starts_with(|c: char| c.is_ascii_digit())
            && self.tag.bytes().all(rest)
    }
}

impl<Context> Decode<Context> for Origin {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Origin, DecodeError> {
        let origin = Origin { uuid: Decode::decode(decoder)?, tag: Decode::decode(decoder)? };
        if origin.is_legal() { Ok(origin) } else { Err(DecodeError::Other("a GTID's tag is none")) }
    }
}
impl_borrow_decode!(Origin);

impl<Context> Decode<Context> for Gtid {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Gtid, DecodeError> {
        let gtid = Gtid { origin: Decode::decode(decoder)?, number: Decode::decode(decoder)? };
        let legal = (1..NUMBER_LIMIT).contains(&gtid.number);
        if legal { Ok(gtid) } else { Err(DecodeError::Other("a GTID's number is out of range")) }
    }
}
impl_borrow_decode!(Gtid);

impl<Context> Decode<Context> for GtidSet {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<GtidSet, DecodeError> {
        // A map's bytes, read as a list: an origin that is there twice must show.
        let origins: Vec<(Origin, Vec<Interval>)> = Decode::decode(decoder)?;
        let rising = |intervals: &[Interval]| intervals.windows(2).all(|pair| pair[0].end < pair[1].start);
        let legal = |i: &Interval| 1 <= i.start && i.start < i.end && i.end <= NUMBER_LIMIT;
        let sets = origins
            .iter()
            .all(|(_, intervals)| !intervals.is_empty() && intervals.iter().all(legal) && rising(intervals));
        if !sets || !origins.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(DecodeError::Other("a GTID set's intervals overlap, touch or are none"));
        }
        Ok(GtidSet { origins: origins.into_iter().collect() })
    }
}
impl_borrow_decode!(GtidSet);

impl GtidSet {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    /// Adds one GTID; false if it was there already.
    pub fn insert(&mut self, gtid: &Gtid) -> bool {
        let added = Interval { start: gtid.number, end: gtid.number + 1 };
        match self.origins.get_mut(&gtid.origin) {
            Some(intervals) => {
                // The usual case first: the next transaction of the same server.
                if let Some(last) = intervals.last_mut()
                    && last.end == gtid.number
                {
                    last.end += 1;
                    return true;
                }
                if intervals.iter().any(|i| i.start <= gtid.number && gtid.number < i.end) {
                    return false;
                }
                merge(intervals, added);
            }
            None => {
                self.origins.insert(gtid.origin.clone(), vec![added]);
            }
        }
        true
    }

    #[must_use]
    pub fn contains(&self, gtid: &Gtid) -> bool {
        let intervals = self.origins.get(&gtid.origin);
        intervals.is_some_and(|intervals| covering(intervals, gtid.number).is_some())
    }

    /// Adds all of `other`.
    pub fn union(&mut self, other: &GtidSet) {
        for (origin, intervals) in &other.origins {
            let mine = self.origins.entry(origin.clone()).or_default();
            for interval in intervals {
                merge(mine, *interval);
            }
        }
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub fn subtract(&self, other: &GtidSet) -> GtidSet {
        let mut result = GtidSet::default();
        for (origin, mine) in &self.origins {
            let theirs = other.origins.get(origin).map_or(&[][..], Vec::as_slice);
            let mut left = Vec::new();
            for interval in mine {
                let mut start = interval.start;
                for cut in theirs.iter().filter(|c| c.end > interval.start && c.start < interval.end) {
                    if start < cut.start {
                        left.push(Interval { start, end: cut.start });
                    }
                    start = start.max(cut.end);
                }
                if start < interval.end {
                    left.push(Interval { start, end: interval.end });
                }
            }
            if !left.is_empty() {
                result.origins.insert(origin.clone(), left);
            }
        }
        result
    }

    #[must_use]
    pub fn is_subset(&self, other: &GtidSet) -> bool {
        self.origins.iter().all(|(origin, mine)| {
            // Intervals do not touch, so each of mine lies within one of theirs.
            let theirs = other.origins.get(origin).map_or(&[][..], Vec::as_slice);
            mine.iter().all(|i| covering(theirs, i.start).is_some_and(|theirs| i.end <= theirs.end))
        })
    }

    /// The set as text where that has at most `most` characters, else its beginning and how many GTIDs there are.
    #[must_use]
    pub fn brief(&self, most: usize) -> String {
        let text = self.to_string();
        match text.char_indices().nth(most) {
            None => text,
            Some((cut, _)) => format!("{}… ({} in all)", &text[..cut], self.count()),
        }
    }

    /// How many GTIDs the set has.
    #[must_use]
    pub fn count(&self) -> u64 {
        let lengths = self.origins.values().flatten().map(|i| i.end - i.start);
        lengths.fold(0, u64::saturating_add)
    }

    /// Its GTID, if it has one alone.
    #[must_use]
    pub fn only(&self) -> Option<Gtid> {
        let (origin, intervals) = self.origins.first_key_value()?;
        let gtid = Gtid { origin: origin.clone(), number: intervals.first()?.start };
        (self.count() == 1).then_some(gtid)
    }

    /// Per origin its intervals `(first, end)`, `end` exclusive, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Origin, impl Iterator<Item = (u64, u64)> + '_)> {
        self.origins.iter().map(|(origin, intervals)| (origin, intervals.iter().map(|i| (i.start, i.end))))
    }
}

/// The one of sorted, disjoint `intervals` that `number` lies in.
fn covering(intervals: &[Interval], number: u64) -> Option<&Interval> {
    let after = intervals.partition_point(|i| i.start <= number);
    intervals[..after].last().filter(|i| number < i.end)
}

/// Adds `added` to sorted, disjoint `intervals`, joining what overlaps or touches.
fn merge(intervals: &mut Vec<Interval>, mut added: Interval) {
    let from = intervals.partition_point(|i| i.end < added.start);
    let to = intervals.partition_point(|i| i.start <= added.end);
    if from < to {
        added.start = added.start.min(intervals[from].start);
        added.end = added.end.max(intervals[to - 1].end);
    }
    intervals.splice(from..to, [added]);
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", uuid::Uuid::from_bytes(self.uuid))?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        Ok(())
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin, self.number)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (origin, intervals)) in self.origins.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{origin}")?;
            for interval in intervals {
                if interval.start + 1 == interval.end {
                    write!(f, ":{}", interval.start)?;
                } else {
                    write!(f, ":{}-{}", interval.start, interval.end - 1)?;
                }
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for GtidSet {
    type Err = ParseGtidError;

    /// Reads what MySQL prints (line breaks after commas included) and what people write (any case, spaces).
    fn from_str(text: &str) -> Result<GtidSet, ParseGtidError> {
        let mut set = GtidSet::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = |problem| ParseGtidError { text: part.chars().take(80).collect(), problem };
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
            let uuid = uuid.ok_or_else(|| wrong("it does not start with a UUID"))?;
            let mut origin = Origin { uuid: *uuid.as_bytes(), tag: String::new() };
            let mut intervals = 0;
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    let tag = field.to_ascii_lowercase();
                    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                    if tag.len() > MAX_TAG || !tag.bytes().all(legal) {
                        return Err(wrong("a tag has at most 32 letters, digits and underscores"));
                    }
                    origin.tag = tag;
                    continue;
                }
                let (first, last) = field.split_once('-').unwrap_or((field, field));
                let number =
                    |text: &str| text.trim().parse::<u64>().ok().filter(|n| (1..NUMBER_LIMIT).contains(n));
                let (Some(first), Some(last)) = (number(first), number(last)) else {
                    return Err(wrong("a transaction number is from 1 to 2^63 - 2"));
                };
                if last < first {
                    return Err(wrong("an interval ends before it starts"));
                }
                merge(
                    set.origins.entry(origin.clone()).or_default(),
                    Interval { start: first, end: last + 1 },
                );
                intervals += 1;
            }
            if intervals == 0 {
                return Err(wrong("no transaction numbers follow the UUID"));
            }
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    #[test]
    fn text_round_trips_with_gaps_tags_and_several_servers() {
        for text in ["", &format!("{A}:1-7:9-10"), &format!("{A}:1,{A}:blue:5-6,{B}:3")] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(
            set(&format!(" {}:1-3:4,\n{B}:2 ", A.to_uppercase())).to_string(),
            format!("{A}:1-4,{B}:2")
        );
        assert_eq!(set(&format!("{A}:1:blue:2-3")).to_string(), format!("{A}:1,{A}:blue:2-3"));
    }

    #[test]
    fn wrong_text_is_refused() {
        for text in [
            "x",
            A,
            &format!("{A}:0"),
            &format!("{A}:5-4"),
            &format!("{A}:9223372036854775807"),
            &format!("{A}:1-"),
        ] {
            assert!(text.parse::<GtidSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_stored_is_read_back_and_what_no_set_holds_is_refused() {
        use crate::event::codec::{decode_owned, encode};
        let whole = set(&format!("{A}:1-7:9-10,{A}:blue:3,{B}:1-9223372036854775806"));
        let mut stored = Vec::new();
        encode(&whole, &mut stored);
        assert_eq!(decode_owned::<GtidSet, 1000>(&stored).unwrap(), (whole, &[][..]));
        let origin = |tag: &str| Origin { uuid: [1; 16], tag: tag.to_owned() };
        let i = |start, end| Interval { start, end };
        let blue = || (origin("blue"), vec![i(1, 2)]);
        for wrong in [
            vec![(origin(""), vec![])],
            vec![(origin(""), vec![i(0, 2)])],
            vec![(origin(""), vec![i(9, 3)])],
            vec![(origin(""), vec![i(1, NUMBER_LIMIT + 1)])],
            vec![(origin(""), vec![i(1, 4), i(4, 6)])],
            vec![(origin(""), vec![i(5, 9), i(1, 3)])],
            vec![(origin("Blue"), vec![i(1, 2)])],
            vec![(origin("1st"), vec![i(1, 2)])],
            vec![(origin(&"x".repeat(33)), vec![i(1, 2)])],
            vec![blue(), blue()],
            vec![blue(), (origin(""), vec![i(1, 2)])],
        ] {
            let mut stored = Vec::new();
            encode(&wrong, &mut stored);
            assert!(decode_owned::<GtidSet, 10_000>(&stored).is_err(), "{wrong:?}");
        }
        for number in [0, NUMBER_LIMIT, u64::MAX] {
            let mut stored = Vec::new();
            encode(&Gtid { origin: origin(""), number }, &mut stored);
            assert!(decode_owned::<Gtid, 1000>(&stored).is_err(), "{number}");
        }
    }

    #[test]
    fn inserting_keeps_gaps_until_they_are_filled() {
        let mut s = set(&format!("{A}:1-7:9-10"));
        let origin = s.origins.keys().next().unwrap().clone();
        assert!(!s.insert(&Gtid { origin: origin.clone(), number: 3 }));
        assert!(s.insert(&Gtid { origin: origin.clone(), number: 12 }));
        assert_eq!(s.to_string(), format!("{A}:1-7:9-10:12"));
        assert!(s.insert(&Gtid { origin: origin.clone(), number: 8 }));
        assert!(s.insert(&Gtid { origin: origin.clone(), number: 11 }));
        assert_eq!(s.to_string(), format!("{A}:1-12"));
        assert_eq!(s.count(), 12);
        assert!(s.contains(&Gtid { origin, number: 12 }));
    }

    #[test]
    fn subtracting_and_subsets() {
        let all = set(&format!("{A}:1-10,{B}:1-3"));
        let some = set(&format!("{A}:1-3:5"));
        assert!(some.is_subset(&all));
        assert!(!all.is_subset(&some));
        assert_eq!(all.subtract(&some).to_string(), format!("{A}:4:6-10,{B}:1-3"));
        let mut union = some.clone();
        union.union(&all);
        assert_eq!(union, all);
        assert!(GtidSet::default().is_subset(&some));
        assert!(!set(&format!("{A}:3-5")).is_subset(&some));
        assert!(!set(&format!("{A}:blue:1")).is_subset(&all));
        for number in 1..=11 {
            let gtid = Gtid {
                origin: Origin { uuid: *uuid::Uuid::try_parse(A).unwrap().as_bytes(), tag: String::new() },
                number,
            };
            assert_eq!(
                (some.contains(&gtid), all.contains(&gtid)),
                (number <= 3 || number == 5, number <= 10)
            );
        }
    }

    #[test]
    fn a_long_set_is_shown_by_its_beginning_and_its_count() {
        let some = set(&format!("{A}:1-3:5"));
        assert_eq!(some.brief(100), some.to_string());
        assert_eq!(some.brief(8), "3e11fa47… (4 in all)");
    }
}
