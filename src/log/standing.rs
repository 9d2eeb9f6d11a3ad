//! What the log knows of its source at one place: where to go on from, and what is owed there.
//!
//! Commits and marks move it, and every segment's [`State`](super::record::State) has it, so that any suffix of the log says it alone. Whoever passes
//! frames (writer, recovery, verify) comes to the same by the two functions here.

use std::collections::BTreeSet;

use bincode::{Decode, Encode};

use super::followed::{Followed, Follows};
use super::prepared::{self, Held, Prepared, Xa};
use super::record::{Commit, Mark, Position};
use super::snapshot::{self, Begun, Snapshot, SnapshotNote, SnapshotStep};
use crate::event::{GtidSet, TableName, Version, Xid};

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
    /// Tables whose documents are not what their rows are, by name; over [`MAX_GAPS`] of them one gap of `*.*` stands for the rest.
    pub gaps: Vec<Gap>,
    /// How each table's rows were described last, by name; of tables beyond [`MAX_SHAPE_BYTES`] nothing is kept.
    pub shapes: Vec<Shape>,
    /// XA transactions that are prepared and not decided, by xid.
    pub prepared: Vec<Prepared>,
    /// Snapshots of tables that are not over, in the order in which they were wanted; at most [`snapshot::MAX_SNAPSHOTS`].
    pub snapshots: Vec<Snapshot>,
    /// Which tables it has all changes of.
    pub followed: Followed,
}

/// Most tables in [`Standing::gaps`]: whoever makes tables without end must not make a state that cannot be read.
pub const MAX_GAPS: usize = 10_000;

/// Most bytes of all [`Standing::shapes`] together: each segment begins with them.
pub const MAX_SHAPE_BYTES: usize = 8 << 20;

/// A followed table that needs a snapshot: its rows changed and no row event said how.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Gap {
    pub table: TableName,
    /// What changed them, for people.
    pub why: String,
    /// The server's time of it, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
    /// A snapshot of all its rows was wanted since that was said last. Sources leave it `false`.
    pub wanted: bool,
}

impl Gap {
    #[must_use]
    pub fn new(table: TableName, why: impl Into<String>, time_micros: u64) -> Gap {
        Gap { table, why: why.into(), time_micros, wanted: false }
    }

    /// It is of every table that has none of its own, for want of room.
    #[must_use]
    pub fn is_of_all(&self) -> bool {
        self.table.schema == ANY && self.table.table == ANY
    }
}

/// No table is called so by one that patterns can name.
const ANY: &str = "*";

/// How rows of a followed table are described: what lies between two of its transactions is told by comparing, and rows that do not
/// name their columns are named by it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Shape {
    pub table: TableName,
    /// The source's own description, which only the source reads.
    pub described: Vec<u8>,
    /// Where the source's log ended when the source was asked for what rows do not say of themselves: up to there that may be newer
    /// than the rows are. `None` where the rows said all of it.
    pub asked_at: Option<Position>,
    /// A statement may have altered the table since.
    pub altered: bool,
}

/// What becomes known with a commit or a mark besides its position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Noted {
    /// What the source had executed when rows of this transaction were read by SELECT; else empty.
    pub horizon: GtidSet,
    pub gaps: Vec<Gap>,
    /// Tables that a statement altered, made or removed.
    pub altered: Vec<TableName>,
    /// Tables whose rows are described otherwise than before; after what is in `altered`.
    pub shapes: Vec<Shape>,
    /// What becomes of XA transactions, in order.
    pub xa: Vec<Xa>,
    /// What becomes of snapshots, in order; after what is in `gaps`.
    pub snapshots: Vec<SnapshotNote>,
    /// The source follows other tables from here on; before all else that is noted.
    pub follows: Option<Follows>,
}

impl Noted {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Noted::default()
    }
}

impl Standing {
    /// A source goes on after `gtids`; nothing is owed.
    #[must_use]
    pub fn after(gtids: GtidSet) -> Standing {
        Standing { gtids, ..Standing::default() }
    }

    /// A commit was passed, the frame `version`.
    pub fn committed(&mut self, commit: Commit, version: Version) {
        if let Some(gtid) = &commit.gtid {
            self.gtids.insert(gtid);
        }
        self.moved(commit.position, commit.time_micros, commit.noted, version);
    }

    /// A mark was passed, the frame `version`.
    pub fn marked(&mut self, mark: Mark, version: Version) {
        if mark.noted.follows.as_ref().is_some_and(|follows| follows.anew) {
            *self = Standing::default();
        }
        self.gtids = mark.gtids;
        self.moved(mark.position, mark.time_micros, mark.noted, version);
    }

    fn moved(&mut self, position: Position, time_micros: u64, noted: Noted, version: Version) {
        if !position.file.is_empty() {
            (self.position, self.time_micros) = (position, time_micros);
        }
        self.noted(noted, version);
    }

    /// What the frame `version` notes became known, and nothing moved.
    pub fn noted(&mut self, noted: Noted, version: Version) {
        if let Some(Follows { patterns, forgotten, .. }) = noted.follows {
            let added = noted.gaps.iter().map(|gap| gap.table.clone());
            self.followed.take(patterns, added, &self.prepared);
            self.forget(forgotten.into_iter().collect());
        }
        if !noted.horizon.is_empty() {
            self.horizon.union(&noted.horizon);
        }
        if !self.horizon.is_empty() && self.horizon.is_subset(&self.gtids) {
            self.horizon = GtidSet::default();
        }
        for gap in noted.gaps {
            self.owes(gap);
        }
        for table in noted.altered {
            if let Ok(place) = self.shapes.binary_search_by(|known| known.table.cmp(&table)) {
                self.shapes[place].altered = true;
            }
        }
        for shape in noted.shapes {
            self.describes(shape);
        }
        for xa in noted.xa {
            self.followed.take_xa(&xa);
            prepared::take(&mut self.prepared, xa);
        }
        for note in noted.snapshots {
            self.snapshot(note, version);
        }
    }

    fn forget(&mut self, tables: BTreeSet<TableName>) {
        self.gaps.retain(|known| !tables.contains(&known.table));
        self.shapes.retain(|known| !tables.contains(&known.table));
        self.snapshots.retain(|known| !tables.contains(&known.table));
    }

    fn snapshot(&mut self, note: SnapshotNote, version: Version) {
        let Ok(gap) = self.gaps.binary_search_by(|known| known.table.cmp(&note.table)) else {
            let _closes_none = snapshot::take(&mut self.snapshots, note, version, false);
            return;
        };
        let wants = matches!(note.step, SnapshotStep::Wanted { filter: None });
        if snapshot::take(&mut self.snapshots, note, version, true) {
            self.gaps.remove(gap);
        } else if wants {
            // There may have been no room for it.
            let table = &self.gaps[gap].table;
            self.gaps[gap].wanted = self.snapshots.iter().any(|known| known.table == *table);
        }
    }

    fn owes(&mut self, mut gap: Gap) {
        // What is read already does not show it.
        let begun = self.snapshots.iter_mut().find(|known| known.table == gap.table);
        if let Some(begun) = begun.and_then(|known| known.begun.as_mut()) {
            begun.covers_gap = false;
        }
        let place = |table: &TableName| self.gaps.binary_search_by(|known| known.table.cmp(table));
        // The first reason says since when.
        let mut free = match place(&gap.table) {
            Err(free) => free,
            Ok(known) => {
                self.gaps[known].wanted = false;
                return;
            }
        };
        gap.wanted = false;
        if self.gaps.len() >= MAX_GAPS {
            gap.table = TableName::new(ANY, ANY);
            gap.why = format!("more than {MAX_GAPS} tables need a snapshot");
            match place(&gap.table) {
                Ok(_) => return,
                Err(place) => free = place,
            }
        }
        self.gaps.insert(free, gap);
    }

    fn describes(&mut self, shape: Shape) {
        let place = self.shapes.binary_search_by(|known| known.table.cmp(&shape.table));
        let others = self.shapes.iter().filter(|known| known.table != shape.table);
        let bytes: usize = others.map(|known| known.described.len()).sum();
        match place {
            _ if bytes + shape.described.len() > MAX_SHAPE_BYTES => {
                // What is known is not true any more.
                self.shapes.retain(|known| known.table != shape.table);
            }
            Ok(place) => self.shapes[place] = shape,
            Err(place) => self.shapes.insert(place, shape),
        }
    }

    /// Where the rows of an undecided XA transaction are held; `None` if it has none, or is not known.
    #[must_use]
    pub fn held(&self, xid: &Xid) -> Option<Held> {
        let place = self.prepared.binary_search_by(|known| known.xid.cmp(xid)).ok()?;
        self.prepared[place].held
    }

    /// The first version that the sweep at the end of the table's snapshot leaves; `None` where no snapshot of it has begun, or it is of some rows
    /// only.
    #[must_use]
    pub fn snapshot_since(&self, table: &TableName) -> Option<Version> {
        let known = self.snapshots.iter().find(|known| known.table == *table)?;
        known.begun.as_ref().filter(|_| known.filter.is_none()).map(Begun::since)
    }

    /// What undecided XA transactions hold of the log, bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.prepared.iter().filter_map(|prepared| prepared.held).map(|held| held.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Gtid, Seq};
    use crate::log::Location;
    use crate::log::prepared::Outcome;
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
        let noted = Noted { horizon: set("0-1-7"), ..Noted::default() };
        standing.committed(commit(set("0-1-6").only(), "b.1", noted), Version(1));
        assert_eq!((standing.horizon.to_string(), standing.position.file.as_str()), ("0-1-7".into(), "b.1"));
        standing.committed(commit(set("0-1-7").only(), "", Noted::default()), Version(1));
        assert!(standing.horizon.is_empty());
        assert_eq!(
            (standing.position.file.as_str(), standing.time_micros),
            ("b.1", 7),
            "an unknown place leaves the known one"
        );
    }

    fn gap(table: &str, why: &str) -> Gap {
        Gap::new(TableName::new("shop", table), why, 1)
    }

    fn shape(table: &str, described: &[u8]) -> Shape {
        let (table, described) = (TableName::new("shop", table), described.to_vec());
        Shape { table, described, asked_at: None, altered: false }
    }

    #[test]
    fn a_table_has_one_gap_with_its_first_reason() {
        let mut standing = Standing::default();
        let gaps = vec![gap("b", "first"), gap("a", "other"), gap("b", "second")];
        standing.committed(commit(None, "b.1", Noted { gaps, ..Noted::default() }), Version(1));
        let found: Vec<_> =
            standing.gaps.iter().map(|gap| (gap.table.table.as_str(), gap.why.as_str())).collect();
        assert_eq!(found, [("a", "other"), ("b", "first")]);
    }

    #[test]
    fn gaps_without_end_become_one_of_all_tables() {
        let mut standing = Standing::default();
        for number in 0..2 * MAX_GAPS {
            let gaps = vec![gap(&format!("t{number}"), "DROP TABLE")];
            standing.committed(commit(None, "b.1", Noted { gaps, ..Noted::default() }), Version(1));
        }
        assert_eq!(standing.gaps.len(), MAX_GAPS + 1);
        assert_eq!(standing.gaps[0].table.to_string(), "*.*");
    }

    #[test]
    fn a_shape_is_the_last_one_and_altered_from_the_statement_on() {
        let mut standing = Standing::default();
        let noted = |altered: &[&str], shapes| Noted {
            altered: altered.iter().map(|table| TableName::new("shop", *table)).collect(),
            shapes,
            ..Noted::default()
        };
        standing
            .committed(commit(None, "b.1", noted(&[], vec![shape("b", b"1"), shape("a", b"2")])), Version(1));
        standing.committed(commit(None, "b.1", noted(&["b", "unknown"], Vec::new())), Version(1));
        let found = |standing: &Standing| -> Vec<_> {
            let shapes = standing.shapes.iter();
            shapes.map(|shape| (shape.table.table.clone(), shape.described.clone(), shape.altered)).collect()
        };
        let known = |table: &str, described: &[u8], altered| (table.to_owned(), described.to_vec(), altered);
        assert_eq!(found(&standing), [known("a", b"2", false), known("b", b"1", true)]);
        standing.committed(commit(None, "b.1", noted(&["b"], vec![shape("b", b"3")])), Version(1));
        assert_eq!(found(&standing), [known("a", b"2", false), known("b", b"3", false)]);
    }

    #[test]
    fn what_is_kept_of_shapes_is_bounded() {
        let mut standing = Standing::default();
        let half = vec![0; MAX_SHAPE_BYTES / 2];
        for table in ["a", "b", "c"] {
            let noted = Noted { shapes: vec![shape(table, &half)], ..Noted::default() };
            standing.committed(commit(None, "b.1", noted), Version(1));
        }
        assert_eq!(standing.shapes.iter().map(|shape| &*shape.table.table).collect::<Vec<_>>(), ["a", "b"]);
        let noted = Noted { shapes: vec![shape("a", &[&half[..], b"more"].concat())], ..Noted::default() };
        standing.committed(commit(None, "b.1", noted), Version(1));
        assert_eq!(standing.shapes.len(), 1, "an old description is not kept for the table's new one");
    }

    #[test]
    fn an_xa_transaction_is_known_from_its_prepare_to_its_decision() {
        let xid = |name: &str| Xid::new(1, name.as_bytes(), b"").unwrap();
        let prepared = |name: &str, first: u64| {
            let at = Location { segment: Seq(1), offset: 64 };
            let held = Held { first: Seq(first), at, last: Seq(first + 1), rows: 1, bytes: 100 };
            let held = Some(held).filter(|_| first > 0);
            Xa::Prepared(Prepared { xid: xid(name), gtid: None, time_micros: 0, held })
        };
        let decided = |name: &str, outcome| Xa::Decided { xid: xid(name), outcome };
        let mut standing = Standing::default();
        let mut note = |xa: Vec<Xa>| {
            standing.committed(commit(None, "b.1", Noted { xa, ..Noted::default() }), Version(1))
        };
        note(vec![prepared("b", 7), prepared("a", 0), prepared("c", 9)]);
        note(vec![decided("c", Outcome::Committed), decided("unknown", Outcome::Committed)]);
        // Copied elsewhere.
        note(vec![prepared("b", 20)]);
        note(vec![prepared("d", 30), decided("a", Outcome::RolledBack)]);
        let known: Vec<_> = standing.prepared.iter().map(|prepared| prepared.xid.clone()).collect();
        assert_eq!(known, [xid("b"), xid("d")]);
        assert_eq!(standing.held(&xid("b")).map(|held| held.first), Some(Seq(20)));
        assert_eq!((standing.held(&xid("a")), standing.held_bytes()), (None, 200));
    }

    #[test]
    fn a_snapshot_closes_the_gap_that_was_there_when_it_began_and_no_later_one() {
        use crate::log::snapshot::SnapshotStep;
        let note = |table: &str, step| SnapshotNote { table: TableName::new("shop", table), step };
        let wanted = || SnapshotStep::Wanted { filter: None };
        let begun = || SnapshotStep::Begun { ranges: Vec::new(), estimated_rows: 0 };
        let mut standing = Standing::default();
        let mut pass = |gaps: Vec<Gap>, snapshots: Vec<SnapshotNote>, version: u64| {
            let noted = Noted { gaps, snapshots, ..Noted::default() };
            standing.committed(commit(None, "b.1", noted), Version(version));
            let gaps: Vec<_> = standing.gaps.iter().map(|gap| gap.table.table.clone()).collect();
            (gaps.concat(), standing.snapshot_since(&TableName::new("shop", "a")))
        };
        let old = vec![gap("a", "old"), gap("b", "old"), gap("c", "old")];
        let all_wanted = ["a", "b", "c"].map(|table| note(table, wanted()));
        assert_eq!(pass(old, all_wanted.to_vec(), 1), ("abc".into(), None));
        let all_begun = ["a", "b"].map(|table| note(table, begun()));
        assert_eq!(pass(Vec::new(), all_begun.to_vec(), 5), ("abc".into(), Some(Version(5))));
        pass(vec![gap("b", "meanwhile"), gap("c", "before it began")], Vec::new(), 6);
        pass(Vec::new(), vec![note("c", begun())], 7);
        let all_ended = ["a", "b", "c"].map(|table| note(table, SnapshotStep::Ended));
        assert_eq!(pass(Vec::new(), all_ended.to_vec(), 9), ("b".into(), None));
        let again = vec![note("a", SnapshotStep::Wanted { filter: Some("1".into()) }), note("a", begun())];
        assert_eq!(pass(Vec::new(), again, 10).1, None, "one of some rows sweeps nothing");
    }

    #[test]
    fn a_gap_says_whether_a_snapshot_was_wanted_since_it_came() {
        use crate::log::snapshot::{MAX_SNAPSHOTS, SnapshotStep};
        let mut standing = Standing::default();
        let mut pass = |gaps: Vec<Gap>, steps: Vec<(&str, SnapshotStep)>| {
            let note = |(table, step): (&str, _)| SnapshotNote { table: TableName::new("shop", table), step };
            let snapshots = steps.into_iter().map(note).collect();
            standing.noted(Noted { gaps, snapshots, ..Noted::default() }, Version(1));
            standing.gaps.iter().map(|gap| gap.wanted).collect::<Vec<_>>()
        };
        let wanted = |filter: Option<&str>| SnapshotStep::Wanted { filter: filter.map(str::to_owned) };
        let some = vec![("a", wanted(None)), ("b", wanted(Some("1")))];
        assert_eq!(pass(vec![gap("a", "1"), gap("b", "1")], some), [true, false]);
        assert_eq!(pass(Vec::new(), vec![("a", SnapshotStep::Cancelled)]), [true, false]);
        assert_eq!(pass(vec![gap("a", "2")], Vec::new()), [false, false]);
        let names: Vec<_> = (0..MAX_SNAPSHOTS).map(|number| number.to_string()).collect();
        pass(Vec::new(), names.iter().map(|name| (name.as_str(), wanted(None))).collect());
        assert_eq!(pass(Vec::new(), vec![("a", wanted(None))]), [false, false], "there is no room for it");
    }

    #[test]
    fn a_log_that_goes_on_anew_knows_nothing_of_before_but_what_that_mark_says() {
        let follows = |anew| Follows { patterns: vec!["shop.*".to_owned()], forgotten: Vec::new(), anew };
        let xid = Xid::new(1, b"x", b"").unwrap();
        let prepared = Prepared { xid, gtid: None, time_micros: 0, held: None };
        let known = Noted {
            horizon: set("0-1-9"),
            gaps: vec![gap("old", "ALTER"), gap("b", "ALTER")],
            shapes: vec![shape("b", b"1")],
            xa: vec![Xa::Prepared(prepared)],
            ..Noted::default()
        };
        let mark = |gtids: &str, noted| Mark {
            synced: Synced::default(),
            gtids: set(gtids),
            time_micros: 9,
            noted,
            position: Position::default(),
        };
        let mut standing = Standing::default();
        standing.committed(commit(set("0-1-8").only(), "b.1", known), Version(1));
        let noted =
            |anew| Noted { gaps: vec![gap("b", "lost")], follows: Some(follows(anew)), ..Noted::default() };
        standing.marked(mark("0-1-8", noted(false)), Version(2));
        assert_eq!((standing.gaps.len(), standing.position.file.as_str()), (2, "b.1"));
        standing.marked(mark("0-1-5", noted(true)), Version(3));
        let mut begun = Standing::default();
        begun.marked(mark("0-1-5", noted(false)), Version(3));
        assert_eq!(standing, begun);
        assert_eq!((standing.gtids.to_string().as_str(), standing.gaps[0].why.as_str()), ("0-1-5", "lost"));
    }

    #[test]
    fn whatever_a_source_notes_a_segment_can_begin_with_it() {
        use crate::log::record::State;
        use crate::log::snapshot::{MAX_SNAPSHOT_BYTES, MAX_SNAPSHOTS, Range, SnapshotStep};
        let mut standing = Standing::default();
        // As long as names are at all.
        let table = |number: usize| TableName::new(format!("{number:-<256}"), "t".repeat(256));
        let mut pass = |noted| standing.committed(commit(None, "b.1", noted), Version(1));
        let why = "w".repeat(500);
        let gap = |number| Gap::new(table(number), why.clone(), 1);
        pass(Noted { gaps: (0..MAX_GAPS + 9).map(gap).collect(), ..Noted::default() });
        let shape = |number| Shape { table: table(number), ..shape("", &[0; 1 << 10]) };
        pass(Noted { shapes: (0..(MAX_SHAPE_BYTES >> 10) + 9).map(shape).collect(), ..Noted::default() });
        let note = |number, step| SnapshotNote { table: table(number), step };
        let filter = |number| Some("f".repeat(4000)).filter(|_| number < 500);
        let wanted = (0..MAX_SNAPSHOTS + 9)
            .map(|number| note(number, SnapshotStep::Wanted { filter: filter(number) }));
        pass(Noted { snapshots: wanted.collect(), ..Noted::default() });
        let key = || Some(vec![7; 100]);
        let ranges = |count| (0..count).map(|number| Range { number, after: key(), upto: key() }).collect();
        let begun =
            |number, count| note(number, SnapshotStep::Begun { ranges: ranges(count), estimated_rows: 1 });
        pass(Noted { snapshots: vec![begun(0, 20_000), begun(1, 1 << 16)], ..Noted::default() });
        let begun = standing.snapshots.iter().filter_map(|known| known.begun.as_ref());
        let ranges: Vec<_> = begun.map(|begun| begun.ranges.len()).collect();
        assert_eq!((standing.snapshots.len(), ranges), (MAX_SNAPSHOTS, vec![20_000]));
        let state = State { standing: Some(standing), open_since: None, latest_micros: 0 };
        let mut bytes = Vec::new();
        crate::event::codec::encode(&state, &mut bytes);
        assert!(bytes.len() > MAX_SNAPSHOT_BYTES + MAX_SHAPE_BYTES / 2, "{}", bytes.len());
        assert_eq!(State::decode(&bytes).unwrap(), state);
    }
}
