//! What an operator asks for, between two transactions.

use crate::event::TableName;
use crate::log::record::Batch;
use crate::log::snapshot::{SnapshotNote, SnapshotStep};
use crate::source::orders::{Refused, SnapshotOrder, Tables, Taken};

use super::super::binlog::Binlog;
use super::Snapshots;

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
        if !tables.is_empty() {
            let is_read =
                |table: &TableName| self.reading.as_ref().is_some_and(|reading| reading.table == *table);
            if !matches!(step, SnapshotStep::Paused(false)) && tables.iter().any(is_read) {
                self.give_up();
                self.reading = None;
                binlog.observe(None);
            }
            tracing::info!(?tables, ?step, "snapshots, as ordered");
            let notes = tables.iter().map(|table| SnapshotNote { table: table.clone(), step: step.clone() });
            self.note(notes.collect(), binlog, batch);
        }
        taken.answer(Ok(tables));
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
