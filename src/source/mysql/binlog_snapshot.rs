//! What snapshots need of the stream: where it stands, what it does to a table, and places between transactions for what they write.

use crate::event::{GtidSet, TableName, TableNo, TableSchema};
use crate::log::Noted;
use crate::log::record::{Batch, Commit, Position, Synced};
use crate::log::snapshot::SnapshotNote;

use super::super::decode::RowPlan;
use super::super::tables::Version;
use super::Binlog;

/// What the stream did to a table besides changing its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// It may have other columns.
    Altered,
    /// Rows may have changed that no event shows.
    Gap,
}

/// The table that is read by a snapshot, and what became of it.
#[derive(Debug, Default)]
pub struct Observed {
    table: Option<TableName>,
    disturbed: Option<Disturbance>,
    /// Of whichever table.
    noticed: Noticed,
}

/// What transactions that have ended did to tables.
#[derive(Debug, Default)]
pub struct Noticed {
    /// They have gaps, perhaps not their first.
    pub gaps: Vec<TableName>,
    /// A statement altered or made them.
    pub altered: Vec<TableName>,
}

impl Observed {
    /// Something was done to a table.
    pub(super) fn disturb(&mut self, table: &TableName, how: Disturbance) {
        if self.table.as_ref() == Some(table) {
            self.disturbed = self.disturbed.max(Some(how));
        }
    }

    /// A transaction has ended.
    pub(super) fn notice(&mut self, noted: &Noted) {
        self.noticed.gaps.extend(noted.gaps.iter().map(|gap| gap.table.clone()));
    }

    /// A statement altered or made a table.
    pub(super) fn alters(&mut self, table: &TableName) {
        self.disturb(table, Disturbance::Altered);
        self.noticed.altered.push(table.clone());
    }
}

impl Binlog {
    /// From now on [`Binlog::take_disturbance`] is about this table.
    pub fn observe(&mut self, table: Option<&TableName>) {
        (self.observed.table, self.observed.disturbed) = (table.cloned(), None);
    }

    /// What happened to the observed table since that was last asked.
    pub fn take_disturbance(&mut self) -> Option<Disturbance> {
        self.observed.disturbed.take()
    }

    /// What was done to tables since that was last asked.
    pub fn take_noticed(&mut self) -> Noticed {
        std::mem::take(&mut self.observed.noticed)
    }

    /// The followed tables that are known, in order.
    #[must_use]
    pub fn followed(&self) -> Vec<TableName> {
        self.tables.followed()
    }

    /// A table's name as the server spells it.
    #[must_use]
    pub fn spelt(&self, table: TableName) -> TableName {
        self.tables.spelt(table)
    }

    /// Everything that the log has or will have with what is in the batches, and where its last event ends.
    #[must_use]
    pub fn reached(&self) -> (GtidSet, (String, u64)) {
        (self.gtids.clone(), (self.place.file.clone(), self.place.offset))
    }

    /// A version of a table for rows that are read by SELECT.
    pub fn version_of(&mut self, schema: &TableSchema, plan: &RowPlan) -> TableNo {
        self.tables.version_of(schema, plan)
    }

    /// A version that changes in a batch are of.
    #[must_use]
    pub fn known(&self, version: TableNo) -> Option<&Version> {
        self.tables.known(version.0 as usize)
    }

    /// Ends a chunk of rows that stands in the batch behind a whole transaction.
    pub fn end_chunk(&mut self, notes: Vec<SnapshotNote>, batch: &mut Batch) {
        batch.commit(&Commit {
            synced: Synced::default(),
            gtid: None,
            time_micros: self.last_micros,
            position: Position::default(),
            noted: Noted { snapshots: notes, ..Noted::default() },
        });
    }

    /// Notes what becomes of snapshots, between two transactions.
    pub fn note_snapshots(&mut self, notes: Vec<SnapshotNote>, batch: &mut Batch) {
        self.note(Noted { snapshots: notes, ..Noted::default() }, batch);
    }

    /// Notes what becomes known beside the stream, between two transactions.
    pub fn note(&mut self, noted: Noted, batch: &mut Batch) {
        self.mark(noted, batch);
    }
}
