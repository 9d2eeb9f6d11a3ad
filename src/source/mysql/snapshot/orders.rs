//! What an operator asks for, between two transactions.

use std::collections::BTreeMap;

use crate::event::{TableName, Version};
use crate::log::record::Batch;
use crate::log::snapshot::{MAX_SNAPSHOT_BYTES, MAX_SNAPSHOTS, SnapshotNote, SnapshotStep, take};
use crate::source::orders::{Refused, SnapshotOrder, Tables, Taken};

use super::super::binlog::Binlog;
use super::Snapshots;

/// Most tables of an order that are named in the relay's own words.
const NAMED: usize = 20;

impl Snapshots {
    /// Carries an order out, or says why not.
    pub(super) fn order(&mut self, taken: Taken, binlog: &mut Binlog, batch: &mut Batch) {
        let (tables, step) = match &taken.order {
            SnapshotOrder::Begin { tables, filter } => {
                (followed(binlog, tables), SnapshotStep::Wanted { filter: filter.clone() })
            }
            SnapshotOrder::Pause(tables) => (self.unended(tables), SnapshotStep::Paused(true)),
            SnapshotOrder::Resume(tables) => (self.unended(tables), SnapshotStep::Paused(false)),
            SnapshotOrder::Cancel(tables) => (self.unended(tables), SnapshotStep::Cancelled),
        };
        let tables = match tables {
            Ok(tables) => tables,
            Err(refused) => return taken.answer(Err(refused)),
        };
        let notes: Vec<_> =
            tables.iter().map(|table| SnapshotNote { table: table.clone(), step: step.clone() }).collect();
        if matches!(step, SnapshotStep::Wanted { .. }) && !self.have_room(&notes) {
            return taken.answer(Err(Refused(format!(
                "the log keeps track of {MAX_SNAPSHOTS} snapshots and {} MiB of their conditions and keys: order some of these when others are over",
                MAX_SNAPSHOT_BYTES >> 20
            ))));
        }
        if tables.is_empty() {
            return taken.answer(Ok(tables));
        }
        let is_read =
            |table: &TableName| self.reading.as_ref().is_some_and(|reading| reading.table == *table);
        if !matches!(step, SnapshotStep::Paused(false)) && tables.iter().any(is_read) {
            self.give_up();
            self.reading = None;
            binlog.observe(None);
        }
        // A filter may have values of rows in it.
        let order = match &step {
            SnapshotStep::Paused(true) => "pause",
            SnapshotStep::Paused(false) => "resume",
            SnapshotStep::Cancelled => "cancel",
            _ => "begin",
        };
        let some = tables.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>();
        tracing::info!(order, count = tables.len(), tables = ?some, "an order for snapshots");
        self.note(notes, binlog, batch);
        batch.tell_when_durable(taken.done_once_durable(tables));
    }

    /// Whether the log will keep all of these that are wanted.
    fn have_room(&self, notes: &[SnapshotNote]) -> bool {
        let mut owed = self.owed.clone();
        for note in notes {
            let _closes_a_gap = take(&mut owed, note.clone(), Version(0), false);
        }
        let waiting = owed.iter().filter(|known| known.begun.is_none());
        let kept: BTreeMap<_, _> = waiting.map(|known| (&known.table, &known.filter)).collect();
        notes.iter().all(|note| match &note.step {
            SnapshotStep::Wanted { filter } => kept.get(&note.table) == Some(&filter),
            _ => true,
        })
    }

    /// Those of which the snapshot is not over.
    fn unended(&self, tables: &Tables) -> Result<Vec<TableName>, Refused> {
        let unended = || self.owed.iter().map(|known| known.table.clone());
        match tables {
            Tables::All => Ok(unended().collect()),
            Tables::Named(named) => named
                .iter()
                .map(|table| {
                    let found = unended().find(|known| known == table);
                    found.ok_or_else(|| {
                        Refused(format!("{table} has no snapshot that is waiting or being read"))
                    })
                })
                .collect(),
        }
    }
}

/// Those that are followed.
fn followed(binlog: &Binlog, tables: &Tables) -> Result<Vec<TableName>, Refused> {
    let followed = binlog.followed();
    match tables {
        Tables::All => Ok(followed),
        Tables::Named(named) => named
            .iter()
            .map(|table| {
                let table = binlog.spelt(table.clone());
                if followed.contains(&table) {
                    return Ok(table);
                }
                Err(Refused(format!(
                    "{table} is not among the followed tables: add it to tables in [source] and start the relay again"
                )))
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::source::mysql::{Address, MysqlOptions};

    #[test]
    fn there_is_room_for_as_many_snapshots_as_the_log_keeps() {
        let address = Address::Tcp { host: "db".to_owned(), port: 3306 };
        let snapshots = Snapshots::new(
            &MysqlOptions::new(address, "relay", Secret::new(""), 1),
            tokio::sync::watch::Sender::default(),
        );
        let notes = |count: usize, filter: Option<String>| -> Vec<_> {
            let wanted = |number| SnapshotNote {
                table: TableName::new("shop", format!("t{number}")),
                step: SnapshotStep::Wanted { filter: filter.clone() },
            };
            (0..count).map(wanted).collect()
        };
        let long = |length| Some("x".repeat(length));
        assert!(snapshots.have_room(&notes(MAX_SNAPSHOTS, None)));
        assert!(!snapshots.have_room(&notes(MAX_SNAPSHOTS + 1, None)));
        assert!(snapshots.have_room(&notes(2, long(MAX_SNAPSHOT_BYTES / 2))));
        assert!(!snapshots.have_room(&notes(3, long(MAX_SNAPSHOT_BYTES / 2))));
    }
}
