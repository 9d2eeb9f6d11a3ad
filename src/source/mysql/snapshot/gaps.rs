//! Tables with a gap: which of them a snapshot is yet to be wanted for that nobody orders, where the configuration says so.
//!
//! Once for each gap: the log says of a gap whether a snapshot was wanted for it ([`Gap::wanted`](crate::log::Gap)), and another is wanted only when the table has come to another. What an operator cancels stays
//! cancelled, and the table marked. A table that is not there waits until a statement makes it, or the next connection finds it.

use std::collections::BTreeSet;

use crate::event::{TableName, Version};
use crate::log::record::Batch;
use crate::log::snapshot::{MAX_SNAPSHOTS, SnapshotNote, SnapshotStep, take};
use crate::log::{Gap, Noted, Standing};

use super::super::binlog::{Binlog, Noticed};
use super::{Reading, Snapshots};

/// Of a table that was to be read.
const NOT_THERE: &str = "there is no such table: its documents stay as they were";

/// As the log has them with what is in the batches.
#[derive(Debug, Default)]
pub struct Gaps {
    known: BTreeSet<TableName>,
    /// No snapshot was wanted for these.
    open: BTreeSet<TableName>,
    /// The server has no such table.
    missing: BTreeSet<TableName>,
    /// Something has changed since that was last looked at.
    changed: bool,
}

impl Gaps {
    /// Those of a log. `there`: the followed tables that the server has.
    #[must_use]
    pub fn of(standing: &Standing, there: &BTreeSet<TableName>) -> Gaps {
        let gaps = || standing.gaps.iter().filter(|gap| !gap.is_of_all());
        let known: BTreeSet<_> = gaps().map(|gap| gap.table.clone()).collect();
        Gaps {
            open: gaps().filter(|gap| !gap.wanted).map(|gap| gap.table.clone()).collect(),
            missing: known.difference(there).cloned().collect(),
            known,
            changed: true,
        }
    }

    #[must_use]
    pub fn has(&self, table: &TableName) -> bool {
        self.known.contains(table)
    }

    /// A commit or mark said that the table has one, perhaps not the first.
    pub fn came(&mut self, table: TableName) {
        self.open.insert(table.clone());
        self.known.insert(table);
        self.changed = true;
    }

    /// A statement altered the table, or made it.
    pub fn altered(&mut self, table: &TableName) {
        self.changed |= self.missing.remove(table);
    }

    /// The server has no such table.
    pub fn is_missing(&mut self, table: &TableName) {
        self.missing.insert(table.clone());
    }

    /// A snapshot of all its rows is wanted.
    pub fn wanted(&mut self, table: &TableName) {
        self.open.remove(table);
    }

    /// A snapshot is over; `closes`: it was of all rows, as they are.
    pub fn over(&mut self, table: &TableName, closes: bool) {
        if closes {
            self.known.remove(table);
            self.open.remove(table);
        }
        // There is room for another, and this table may be read again.
        self.changed = true;
    }

    /// Of which tables a snapshot is to be wanted now, of which so many are `under_way`; `is_owed`: one of the table is not over.
    pub fn due(&mut self, under_way: usize, is_owed: impl Fn(&TableName) -> bool) -> Vec<TableName> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        let due = self.open.iter().filter(|table| !self.missing.contains(*table) && !is_owed(table));
        due.take(MAX_SNAPSHOTS.saturating_sub(under_way)).cloned().collect()
    }
}

impl Snapshots {
    /// Takes in which tables have come to gaps, and wants snapshots of them where that is to be done.
    pub(super) fn want_for_gaps(&mut self, binlog: &mut Binlog, batch: &mut Batch) {
        let Noticed { gaps, altered } = binlog.take_noticed();
        altered.iter().for_each(|table| self.gaps.altered(table));
        gaps.into_iter().for_each(|table| self.gaps.came(table));
        if !self.options.snapshot.gaps {
            return;
        }
        let owed = &self.owed;
        let due = self.gaps.due(owed.len(), |table| owed.iter().any(|known| known.table == *table));
        if due.is_empty() {
            return;
        }
        for table in &due {
            tracing::info!(%table, "the table needs a snapshot: it is read anew");
        }
        let step = || SnapshotStep::Wanted { filter: None };
        let notes = due.into_iter().map(|table| SnapshotNote { table, step: step() });
        self.note(notes.collect(), binlog, batch);
    }

    /// Takes in what the log will with these notes. Versions do not matter here.
    pub(super) fn owes(&mut self, notes: &[SnapshotNote]) {
        for note in notes {
            let known = self.owed.iter().find(|known| known.table == note.table);
            let is_whole = known.is_some_and(|known| known.filter.is_none() && known.begun.is_some());
            match &note.step {
                SnapshotStep::Wanted { filter: None } => self.gaps.wanted(&note.table),
                // One that came in between would have had it begin anew.
                SnapshotStep::Ended => self.gaps.over(&note.table, is_whole),
                SnapshotStep::Cancelled => self.gaps.over(&note.table, false),
                _ => {}
            }
            let _closes_a_gap = take(&mut self.owed, note.clone(), Version(0), false);
        }
    }

    /// The table at hand is not there.
    pub(super) fn gone(&mut self, binlog: &mut Binlog, batch: &mut Batch) {
        let Some(Reading { table, .. }) = self.reading.take() else { return };
        tracing::warn!(%table, "there is no such table, or this user sees none: its snapshot is over");
        let notes = vec![SnapshotNote { table: table.clone(), step: SnapshotStep::Cancelled }];
        self.owes(&notes);
        self.gaps.is_missing(&table);
        let mut noted = Noted { snapshots: notes, ..Noted::default() };
        if self.gaps.has(&table) {
            // Said once more, so that a snapshot is wanted again when it is made anew.
            noted.gaps.push(Gap::new(table.clone(), NOT_THERE, 0));
            self.gaps.came(table);
        }
        binlog.note(noted, batch);
        self.scanned = batch.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> TableName {
        TableName::new("shop", name)
    }

    fn due(gaps: &mut Gaps) -> Vec<String> {
        let due = gaps.due(0, |table| table.table == "owed");
        due.iter().for_each(|table| gaps.wanted(table));
        due.into_iter().map(|table| table.table).collect()
    }

    #[test]
    fn a_snapshot_is_wanted_once_for_each_gap_of_a_table_that_is_there() {
        let gap = |name: &str, wanted| Gap { wanted, ..Gap::new(table(name), "", 0) };
        let all = Gap::new(TableName::new("*", "*"), "", 0);
        let known =
            vec![all, gap("cancelled", true), gap("gone", false), gap("new", false), gap("owed", false)];
        let standing = Standing { gaps: known, ..Standing::default() };
        let there = ["cancelled", "new", "owed"].map(table).into();
        let mut gaps = Gaps::of(&standing, &there);
        assert_eq!(due(&mut gaps), ["new"]);
        assert!(due(&mut gaps).is_empty());
        gaps.altered(&table("new"));
        gaps.altered(&table("gone"));
        assert_eq!(due(&mut gaps), ["gone"]);
        // It was dropped again.
        gaps.is_missing(&table("gone"));
        gaps.came(table("gone"));
        gaps.came(table("cancelled"));
        assert_eq!(due(&mut gaps), ["cancelled"]);
        gaps.over(&table("new"), true);
        assert!(due(&mut gaps).is_empty() && !gaps.has(&table("new")) && gaps.has(&table("gone")));
    }

    #[test]
    fn no_more_are_wanted_than_there_is_room_for() {
        let mut gaps = Gaps::default();
        ["a", "b", "c"].iter().for_each(|name| gaps.came(table(name)));
        assert_eq!(gaps.due(MAX_SNAPSHOTS - 2, |_| false).len(), 2);
        gaps.over(&table("z"), false);
        assert_eq!(gaps.due(MAX_SNAPSHOTS, |_| false).len(), 0);
    }
}
