//! Snapshots of tables: what commits and marks tell of their progress, and the [`Standing`](super::Standing) keeps of it.
//!
//! # Constraints
//!
//! - A crash at any instant leaves the log's end as where a snapshot goes on: what was read stands in the same transaction as the step that says so.
//! - What a source notes may be anything: an impossible step changes nothing, and what is kept is bounded.
//!
//! # Operation
//!
//! Rows stand as changes of [`Op::Read`](crate::event::Op::Read). From the frame that began it on, every row of the table comes with a version of the snapshot's or a newer one: by
//! what was read, or by what the source sent meanwhile. So at its end a sweep takes all that is older than its beginning, and
//! what made the table need a snapshot before that is no more.

use bincode::{Decode, Encode};

use crate::event::{TableName, Version};

/// Most snapshots in [`Standing::snapshots`](super::Standing::snapshots).
pub const MAX_SNAPSHOTS: usize = 10_000;

/// Most bytes of all their conditions and keys together, a range counted as 56 more: each segment begins with them.
pub const MAX_SNAPSHOT_BYTES: usize = 8 << 20;

/// What a range takes in memory besides its keys, bytes.
const RANGE_BYTES: usize = 56;

/// What became of a table's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SnapshotNote {
    pub table: TableName,
    pub step: SnapshotStep,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SnapshotStep {
    /// It is wanted, and begins when its turn comes. One of the same table that is not over is replaced. `filter`: of rows that fulfil this SQL condition
    /// only; such a one ends without a sweep and clears no gap.
    Wanted {
        filter: Option<String>,
    },
    /// It begins: the version of the commit or mark that says so, and higher ones, are its. What is to be read, and how many rows there may be.
    Begun {
        ranges: Vec<Range>,
        estimated_rows: u64,
    },
    /// Rows of a range up to this key are in the log; `None`: all of them. `rows`: how many were read, with those that were
    /// left out for the stream had them.
    Read {
        range: u32,
        after: Option<Vec<u8>>,
        rows: u64,
    },
    /// Every range is in the log, and its sweep stands before this in the same transaction, if it has no filter.
    Ended,
    Cancelled,
    /// Nothing is read for as long as it is paused.
    Paused(bool),
}

/// Rows of a table between two keys, in the source's own spelling, which only the source reads.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Range {
    /// Unique within the table's snapshot.
    pub number: u32,
    /// Exclusive; `None`: from the first row on.
    pub after: Option<Vec<u8>>,
    /// Inclusive; `None`: to the last row.
    pub upto: Option<Vec<u8>>,
}

/// A snapshot that is not over.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Snapshot {
    pub table: TableName,
    pub filter: Option<String>,
    pub paused: bool,
    /// `None` until its turn comes.
    pub begun: Option<Begun>,
}

/// A snapshot that is being read.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Begun {
    /// Version of the frame that began it: its sweep takes what is lower.
    pub since: u64,
    /// Those of which rows are yet to be read, from the key reached on.
    pub ranges: Vec<Range>,
    /// Read so far.
    pub rows: u64,
    pub estimated_rows: u64,
    /// The table's gap was there before it began, and no other has come since.
    pub covers_gap: bool,
}

impl Begun {
    /// The first version that its sweep leaves.
    #[must_use]
    pub fn since(&self) -> Version {
        Version(self.since)
    }
}

impl Snapshot {
    /// What counts of it against [`MAX_SNAPSHOT_BYTES`].
    fn bytes(&self) -> usize {
        let ranges = self.begun.iter().flat_map(|begun| &begun.ranges);
        self.filter.as_ref().map_or(0, String::len) + ranges.map(Range::bytes).sum::<usize>()
    }
}

impl Range {
    fn bytes(&self) -> usize {
        let key = |key: &Option<Vec<u8>>| key.as_ref().map_or(0, Vec::len);
        RANGE_BYTES + key(&self.after) + key(&self.upto)
    }
}

/// Takes in a step that stands in the frame `version`. `has_gap`: whether the table needs a snapshot.
///
/// Returns whether the table's gap is closed by it. A step that cannot be, or for which there is no room, changes nothing: of a [`SnapshotStep::Read`] the
/// same rows are read again.
#[must_use]
pub fn take(snapshots: &mut Vec<Snapshot>, note: SnapshotNote, version: Version, has_gap: bool) -> bool {
    let SnapshotNote { table, step } = note;
    let place = snapshots.iter().position(|known| known.table == table);
    let others = |snapshots: &[Snapshot]| {
        let others = snapshots.iter().filter(|known| known.table != table);
        others.map(Snapshot::bytes).sum::<usize>()
    };
    match (step, place) {
        (SnapshotStep::Wanted { filter }, place) => {
            let wanted = Snapshot { table: table.clone(), filter, paused: false, begun: None };
            let count = snapshots.len() - usize::from(place.is_some());
            let bytes = wanted.bytes();
            if count < MAX_SNAPSHOTS && (bytes == 0 || others(snapshots) + bytes <= MAX_SNAPSHOT_BYTES) {
                place.map(|place| snapshots.remove(place));
                snapshots.push(wanted);
            }
        }
        (SnapshotStep::Begun { ranges, estimated_rows }, Some(place)) => {
            let begun = Begun { since: version.0, ranges, rows: 0, estimated_rows, covers_gap: has_gap };
            let new = Snapshot { begun: Some(begun), ..snapshots[place].clone() };
            if others(snapshots) + new.bytes() <= MAX_SNAPSHOT_BYTES {
                snapshots[place] = new;
            }
        }
        (SnapshotStep::Read { range, after, rows }, Some(place)) => {
            let longer = after.as_ref().map_or(0, Vec::len);
            let fits = snapshots.iter().map(Snapshot::bytes).sum::<usize>() + longer <= MAX_SNAPSHOT_BYTES;
            let Some(begun) = &mut snapshots[place].begun else { return false };
            let Some(found) = begun.ranges.iter().position(|known| known.number == range) else {
                return false;
            };
            match after {
                None => drop(begun.ranges.remove(found)),
                Some(_) if !fits => return false,
                after => begun.ranges[found].after = after,
            }
            begun.rows = begun.rows.saturating_add(rows);
        }
        (SnapshotStep::Ended, Some(place)) => {
            let Some(begun) = &snapshots[place].begun else { return false };
            let closes = begun.covers_gap && snapshots[place].filter.is_none();
            snapshots.remove(place);
            return closes;
        }
        (SnapshotStep::Cancelled, Some(place)) => drop(snapshots.remove(place)),
        (SnapshotStep::Paused(paused), Some(place)) => snapshots[place].paused = paused,
        (_, None) => {}
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("shop", name)
    }

    fn step(snapshots: &mut Vec<Snapshot>, name: &str, version: u64, step: SnapshotStep) -> bool {
        take(snapshots, SnapshotNote { table: table(name), step }, Version(version), true)
    }

    fn wanted(filter: Option<&str>) -> SnapshotStep {
        SnapshotStep::Wanted { filter: filter.map(str::to_owned) }
    }

    fn begun(ranges: &[u32]) -> SnapshotStep {
        let range = |number: &u32| Range { number: *number, after: None, upto: None };
        SnapshotStep::Begun { ranges: ranges.iter().map(range).collect(), estimated_rows: 100 }
    }

    fn read(range: u32, after: Option<&[u8]>, rows: u64) -> SnapshotStep {
        SnapshotStep::Read { range, after: after.map(<[u8]>::to_vec), rows }
    }

    fn names(snapshots: &[Snapshot]) -> Vec<&str> {
        snapshots.iter().map(|known| known.table.table.as_str()).collect()
    }

    #[test]
    fn snapshots_stand_in_the_order_in_which_they_were_wanted() {
        let mut all = Vec::new();
        for name in ["b", "a", "c", "b"] {
            step(&mut all, name, 1, wanted(None));
        }
        assert_eq!(names(&all), ["a", "c", "b"]);
        step(&mut all, "c", 1, SnapshotStep::Cancelled);
        step(&mut all, "unknown", 1, SnapshotStep::Cancelled);
        assert_eq!(names(&all), ["a", "b"]);
    }

    #[test]
    fn what_was_read_is_passed_by_and_a_range_that_is_read_goes() {
        let mut all = Vec::new();
        step(&mut all, "a", 1, wanted(None));
        step(&mut all, "a", 7, begun(&[1, 2]));
        step(&mut all, "a", 8, read(2, Some(b"k"), 10));
        step(&mut all, "a", 9, read(1, None, 5));
        step(&mut all, "a", 9, read(9, None, 1000));
        let found = all[0].begun.clone().unwrap();
        let left = vec![Range { number: 2, after: Some(b"k".to_vec()), upto: None }];
        assert_eq!((found.since(), &found.ranges, found.rows), (Version(7), &left, 15));
        step(&mut all, "a", 10, SnapshotStep::Paused(true));
        assert_eq!((all[0].paused, all[0].begun.as_ref()), (true, Some(&found)));
    }

    #[test]
    fn one_that_begins_again_reads_all_of_it_and_has_a_later_beginning() {
        let mut all = Vec::new();
        step(&mut all, "a", 1, wanted(None));
        step(&mut all, "a", 7, begun(&[1]));
        step(&mut all, "a", 8, read(1, None, 10));
        step(&mut all, "a", 9, begun(&[3]));
        let found = all[0].begun.as_ref().unwrap();
        assert_eq!((found.since, found.ranges.len(), found.rows), (9, 1, 0));
    }

    #[test]
    fn only_one_of_all_rows_that_has_begun_closes_a_gap() {
        for (filter, begins, closes) in
            [(None, true, true), (Some("id > 7"), true, false), (None, false, false)]
        {
            let mut all = Vec::new();
            step(&mut all, "a", 1, wanted(filter));
            if begins {
                step(&mut all, "a", 2, begun(&[]));
            }
            assert_eq!(step(&mut all, "a", 3, SnapshotStep::Ended), closes, "{filter:?}");
            assert_eq!(all.is_empty(), begins, "one that never began does not end");
        }
    }

    #[test]
    fn steps_of_what_is_not_wanted_change_nothing() {
        let mut all = Vec::new();
        for unknown in [
            begun(&[1]),
            read(1, None, 1),
            SnapshotStep::Ended,
            SnapshotStep::Cancelled,
            SnapshotStep::Paused(true),
        ] {
            assert!(!step(&mut all, "a", 1, unknown) && all.is_empty());
        }
        step(&mut all, "a", 1, wanted(None));
        assert!(!step(&mut all, "a", 1, read(0, None, 1)) && all[0].begun.is_none());
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut all = Vec::new();
        for number in 0..MAX_SNAPSHOTS + 5 {
            step(&mut all, &number.to_string(), 1, wanted(None));
        }
        assert_eq!(all.len(), MAX_SNAPSHOTS);
        step(&mut all, "0", 1, wanted(Some("id > 7")));
        assert_eq!(
            all.last().unwrap().filter.as_deref(),
            Some("id > 7"),
            "another of the same table has room"
        );
        let key = vec![0; MAX_SNAPSHOT_BYTES / 2];
        let long = |range| read(range, Some(&key), 1);
        step(&mut all, "1", 1, begun(&[1, 2, 3]));
        for range in [1, 2, 3] {
            step(&mut all, "1", 2, long(range));
        }
        let found = &all[0];
        assert_eq!(found.table, table("1"));
        assert_eq!(
            found.begun.as_ref().unwrap().rows,
            1,
            "where its key has no room the step changes nothing"
        );
        assert!(all.iter().map(Snapshot::bytes).sum::<usize>() <= MAX_SNAPSHOT_BYTES);
        let filter = "x".repeat(MAX_SNAPSHOT_BYTES);
        step(&mut all, "2", 1, wanted(Some(&filter)));
        assert_eq!(all.iter().filter(|known| known.table == table("2")).count(), 1);
    }
}
