//! GTIDs and sets of them, kept exactly: gaps, tags and any number of sources.
//!
//! Text form: MySQL's, `uuid[:tag]:interval[:interval]…`, joined by commas; intervals `first[-last]`, both inclusive
//! (MySQL Reference Manual, *GTID Sets*; tags since 8.3). MariaDB's, `domain-server-sequence`, joined by commas: of a set it means everything that
//! the server wrote in the domain up to the sequence (as `gtid_binlog_state` does), and the one with the highest sequence of a domain is where
//! the domain stands, since sequences rise within it (MariaDB, *Global Transaction ID*). A part of that is shown as `domain-server-first..last`.
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

/// Who numbers transactions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub enum Origin {
    /// MySQL: a server's UUID with an optional tag.
    Server {
        uuid: [u8; 16],
        /// Empty, or 1 to 32 of `a-z 0-9 _`, not starting with a digit.
        tag: String,
    },
    /// MariaDB: a server in a replication domain. Its numbers have gaps, where others wrote in the domain; in a set it has all up to its
    /// last.
    Domain { domain: u32, server: u32 },
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
#[error(
    "{text:?} is not a GTID set: {problem} (expected uuid[:tag]:first[-last], or domain-server-sequence, joined by commas)"
)]
pub struct ParseGtidError {
    /// The part that was not understood, at most 80 characters of it.
    pub text: String,
    pub problem: &'static str,
}

impl Origin {
    fn is_legal(&self) -> bool {
        let Origin::Server { tag, .. } = self else { return true };
        let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        tag.len() <= MAX_TAG && !tag.starts_with(|c: char| c.is_ascii_digit()) && tag.bytes().all(rest)
    }
}

impl<Context> Decode<Context> for Origin {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Origin, DecodeError> {
        let origin = match u32::decode(decoder)? {
            0 => Origin::Server { uuid: Decode::decode(decoder)?, tag: Decode::decode(decoder)? },
            1 => Origin::Domain { domain: Decode::decode(decoder)?, server: Decode::decode(decoder)? },
            _ => return Err(DecodeError::Other("a GTID's origin is of no known kind")),
        };
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
        // A server has all up to its last in a domain.
        let from_the_first = |origin: &Origin, intervals: &[Interval]| match origin {
            Origin::Server { .. } => true,
            Origin::Domain { .. } => matches!(intervals, [Interval { start: 1, .. }]),
        };
        let sets = origins.iter().all(|(origin, intervals)| {
            !intervals.is_empty()
                && intervals.iter().all(legal)
                && rising(intervals)
                && from_the_first(origin, intervals)
        });
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

    /// Adds one GTID, of a domain's also what its server wrote there before; false if it was there already.
    pub fn insert(&mut self, gtid: &Gtid) -> bool {
        let start = match gtid.origin {
            Origin::Server { .. } => gtid.number,
            Origin::Domain { .. } => 1,
        };
        let added = Interval { start, end: gtid.number + 1 };
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

    /// What is in `self` and not in `other`, as a set that can be kept: a domain is told by its last GTID, so with what comes before it.
    #[must_use]
    pub fn beyond(&self, other: &GtidSet) -> GtidSet {
        let mut beyond = self.subtract(other);
        for (origin, left) in &mut beyond.origins {
            if let (Origin::Domain { .. }, Some(mine)) = (origin, self.origins.get(origin)) {
                left.clone_from(mine);
            }
        }
        beyond
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

    /// Its GTID, if it has one alone; of a domain's server the last.
    #[must_use]
    pub fn only(&self) -> Option<Gtid> {
        let (origin, intervals) = self.origins.first_key_value()?;
        let number = intervals.last()?.end - 1;
        let alone = match origin {
            Origin::Server { .. } => self.count() == 1,
            Origin::Domain { .. } => self.origins.len() == 1,
        };
        alone.then(|| Gtid { origin: origin.clone(), number })
    }

    /// Where each of MariaDB's domains stands: its last GTID, domains in order.
    pub fn domains(&self) -> impl Iterator<Item = Gtid> {
        let mut last: BTreeMap<u32, Gtid> = BTreeMap::new();
        for (origin, intervals) in &self.origins {
            let (Origin::Domain { domain, .. }, Some(interval)) = (origin, intervals.last()) else {
                continue;
            };
            let gtid = Gtid { origin: origin.clone(), number: interval.end - 1 };
            match last.get(domain) {
                Some(known) if known.number > gtid.number => {}
                _ => drop(last.insert(*domain, gtid)),
            }
        }
        last.into_values()
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

/// `domain-server-sequence`, if the text has that shape.
fn of_domain(text: &str) -> Option<(Origin, Option<u64>)> {
    let mut fields = text.split('-').map(str::trim);
    let digits = |field: &&str| !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
    let mut next = || fields.next().filter(digits);
    let (domain, server, number) = (next()?, next()?, next()?);
    let origin = Origin::Domain { domain: domain.parse().ok()?, server: server.parse().ok()? };
    fields.next().is_none().then(|| (origin, number.parse().ok()))
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Server { uuid, tag } if tag.is_empty() => uuid::Uuid::from_bytes(*uuid).fmt(f),
            Origin::Server { uuid, tag } => write!(f, "{}:{tag}", uuid::Uuid::from_bytes(*uuid)),
            Origin::Domain { domain, server } => write!(f, "{domain}-{server}"),
        }
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = match self.origin {
            Origin::Server { .. } => ':',
            Origin::Domain { .. } => '-',
        };
        write!(f, "{}{between}{}", self.origin, self.number)
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
                if let Origin::Domain { .. } = origin {
                    match interval.start {
                        1 => write!(f, "-{}", interval.end - 1)?,
                        start => write!(f, "-{start}..{}", interval.end - 1)?,
                    }
                } else if interval.start + 1 == interval.end {
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
            if let Some((origin, number)) = of_domain(part) {
                let number = number.filter(|number| (1..NUMBER_LIMIT).contains(number));
                let number = number.ok_or_else(|| wrong("a sequence is from 1 to 2^63 - 2"))?;
                set.insert(&Gtid { origin, number });
                continue;
            }
            let mut fields = part.split(':').map(str::trim);
            let uuid = fields.next().and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
            let uuid = *uuid.ok_or_else(|| wrong("it does not start with a UUID"))?.as_bytes();
            let mut origin = Origin::Server { uuid, tag: String::new() };
            let mut intervals = 0;
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    let tag = field.to_ascii_lowercase();
                    let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
                    if tag.len() > MAX_TAG || !tag.bytes().all(legal) {
                        return Err(wrong("a tag has at most 32 letters, digits and underscores"));
                    }
                    origin = Origin::Server { uuid, tag };
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
#[path = "gtid_tests.rs"]
mod tests;
