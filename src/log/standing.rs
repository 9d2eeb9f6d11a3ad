//! What the log knows of its source at one place: where to go on from, and what is owed there.
//!
//! Commits and marks move it, and every segment's [`State`](super::record::State) has it, so that any suffix of the log says it alone. Whoever passes
//! frames (writer, recovery, verify) comes to the same by the two functions here.

use bincode::{Decode, Encode};

use super::record::{Commit, Mark, Position};
use crate::event::{GtidSet, TableName};

/// Where a source goes on from, and what it owes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Standing {
    /// Everything committed.
    pub gtids: GtidSet,
    /// Where that ends in the source's binlog; its file is empty where that is not known.
    pub position: Position,
    /// The source's time of the transaction that ends there, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
    /// The read horizon: what the source had executed when rows of it were read by SELECT. Empty once `gtids` contains it.
    pub horizon: GtidSet,
    /// Tables whose documents are not what their rows are, by name.
    pub gaps: Vec<Gap>,
}

/// A followed table that needs a snapshot: its rows changed and no row event said how.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Gap {
    pub table: TableName,
    /// What changed them, for people.
    pub why: String,
    /// The server's time of it, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
}

/// What becomes known with a commit or a mark besides its position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Noted {
    /// What the source had executed when rows of this transaction were read by SELECT; else empty.
    pub horizon: GtidSet,
    pub gaps: Vec<Gap>,
}

impl Standing {
    /// A source goes on after `gtids`; nothing is owed.
    #[must_use]
    pub fn after(gtids: GtidSet) -> Standing {
        Standing { gtids, ..Standing::default() }
    }

    /// A commit was passed.
    pub fn committed(&mut self, commit: Commit) {
        if let Some(gtid) = &commit.gtid {
            self.gtids.insert(gtid);
        }
        self.moved(commit.position, commit.time_micros, commit.noted);
    }

    /// A mark was passed.
    pub fn marked(&mut self, mark: Mark) {
        self.gtids = mark.gtids;
        self.moved(mark.position, mark.time_micros, mark.noted);
    }

    fn moved(&mut self, position: Position, time_micros: u64, noted: Noted) {
        if !position.file.is_empty() {
            (self.position, self.time_micros) = (position, time_micros);
        }
        if !noted.horizon.is_empty() {
            self.horizon.union(&noted.horizon);
        }
        if !self.horizon.is_empty() && self.horizon.is_subset(&self.gtids) {
            self.horizon = GtidSet::default();
        }
        for gap in noted.gaps {
            // The first reason says since when.
            if let Err(place) = self.gaps.binary_search_by(|known| known.table.cmp(&gap.table)) {
                self.gaps.insert(place, gap);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Gtid;
    use crate::log::record::Synced;

    fn set(text: &str) -> GtidSet {
        text.parse().unwrap()
    }

    fn commit(gtid: Option<Gtid>, file: &str, noted: Noted) -> Commit {
        let position = Position { server: [1; 16], file: file.to_owned(), offset: 9, ..Position::default() };
        Commit { synced: Synced::default(), gtid, time_micros: 7, position, noted }
    }

    #[test]
    fn a_horizon_is_kept_until_the_set_contains_it() {
        let mut standing = Standing::after(set("0-1-5"));
        let noted = Noted { horizon: set("0-1-7"), gaps: Vec::new() };
        standing.committed(commit(set("0-1-6").only(), "b.1", noted));
        assert_eq!((standing.horizon.to_string(), standing.position.file.as_str()), ("0-1-7".into(), "b.1"));
        standing.committed(commit(set("0-1-7").only(), "", Noted::default()));
        assert!(standing.horizon.is_empty());
        assert_eq!(
            (standing.position.file.as_str(), standing.time_micros),
            ("b.1", 7),
            "an unknown place leaves the known one"
        );
    }

    #[test]
    fn a_table_has_one_gap_with_its_first_reason() {
        let gap = |table: &str, why: &str| Gap {
            table: TableName::new("shop", table),
            why: why.to_owned(),
            time_micros: 1,
        };
        let mut standing = Standing::default();
        let gaps = vec![gap("b", "first"), gap("a", "other"), gap("b", "second")];
        standing.committed(commit(None, "b.1", Noted { horizon: GtidSet::default(), gaps }));
        let found: Vec<_> =
            standing.gaps.iter().map(|gap| (gap.table.table.as_str(), gap.why.as_str())).collect();
        assert_eq!(found, [("a", "other"), ("b", "first")]);
    }
}
