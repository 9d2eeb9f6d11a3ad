//! Statements inside the stream: what they do to the open transaction and to followed tables.

use crate::event::TableName;
use crate::log::prepared::Outcome;
use crate::log::record::{Batch, SweepRecord};

use super::super::error::{MysqlError, Place};
use super::super::event::RawEvent;
use super::super::query::Query;
use super::super::statement::{Effect, Leaves, Meaning, Redefined, classify};
use super::super::tables::Altered;
use super::Binlog;

/// What an operator can do about a change that no row event shows.
const UNSHOWN: &str = "rows may change and no row event says how, which is not followed: stop the relay and run `everrelay snapshot --from-now`, \
                       or exclude the table by a pattern";

impl Binlog {
    pub(super) fn query(
        &mut self,
        event: &RawEvent<'_>,
        extra: usize,
        batch: &mut Batch,
    ) -> Result<(), MysqlError> {
        let query = Query::parse(event.body(), extra).map_err(self.short("a QUERY event"))?;
        let meaning = match query.sql {
            b"BEGIN" => Meaning::Begin,
            _ if self.transaction.as_ref().is_some_and(|transaction| transaction.alters_nothing) => {
                Meaning::Nothing
            }
            _ => classify(&query.text(), &query.schema(), query.mode, self.tables.patterns()),
        };
        let Some(transaction) = &mut self.transaction else {
            return Err(self.garbled("a QUERY event without a GTID"));
        };
        let has_rows = transaction.rows_of.is_some();
        let begun = transaction.begun;
        match meaning {
            Meaning::Begin => {
                transaction.begun = true;
                return Ok(());
            }
            Meaning::OpensTransaction(table) => {
                transaction.begun = true;
                table.into_iter().for_each(|table| self.altered(&table));
                return Ok(());
            }
            Meaning::XaStart(xid) => {
                let xid = self.xid_of(&xid)?;
                return self.xa_starts(xid);
            }
            Meaning::XaEnd => return Ok(()),
            Meaning::Commit => return self.commit(batch),
            Meaning::Rollback => return self.roll_back(batch),
            Meaning::RollbackTo(savepoint) => return self.roll_back_to(&savepoint),
            Meaning::Savepoint(name) => return self.savepoint(&name),
            // Each is a transaction of its own.
            Meaning::XaCommit(_) | Meaning::XaRollback(_) if transaction.xa.is_some() || has_rows => {
                return Err(self.garbled("an XA transaction is decided inside another transaction"));
            }
            Meaning::XaCommit(xid) => {
                let xid = self.xid_of(&xid)?;
                return self.xa_decided(xid, Outcome::Committed, batch);
            }
            Meaning::XaRollback(xid) => {
                let xid = self.xid_of(&xid)?;
                return self.xa_decided(xid, Outcome::RolledBack, batch);
            }
            Meaning::Nothing | Meaning::OtherDdl => {}
            Meaning::Ddl(effects) => {
                effects.into_iter().for_each(|effect| self.ddl(effect, query.mode.strict))
            }
            Meaning::DropsSchema(schema) => self.drops_schema(&schema),
            // In statement format, and of a temporary table that hides the followed one.
            Meaning::Truncates(_) if event.is_thread_specific() => {}
            Meaning::Truncates(table) => {
                let table = self.tables.spelt(table);
                tracing::info!(%table, place = %self.place, "a table was truncated: its documents are to go");
                batch.sweep(&SweepRecord::truncated(table.clone()));
                transaction.rows_of = Some(table);
            }
            Meaning::Stops { table, what } => {
                return Err(self.refuse_table(&format!("QUERY event ({what})"), table, UNSHOWN));
            }
        }
        // A statement on its own is its whole transaction.
        if begun { Ok(()) } else { self.commit(batch) }
    }

    /// The tables that went with the schema are not named.
    fn drops_schema(&mut self, schema: &str) {
        let seen = self.tables.seen_in(schema);
        if seen.is_empty() && self.tables.patterns().follow_in(schema) {
            tracing::warn!(schema, place = %self.place, "a schema was dropped: documents of tables that it may have had stay");
        }
        for table in seen {
            self.gap(table.clone(), "DROP DATABASE: its documents stay as they were");
            self.altered(&table);
        }
    }

    /// What DDL does to a followed table. `strict`: its session's sql_mode is.
    fn ddl(&mut self, effect: Effect, strict: bool) {
        let table = self.tables.spelt(effect.table);
        let gap = match effect.leaves {
            Leaves::Right => None,
            Leaves::Gap(why) => Some(why),
            Leaves::GapIfThere(why) if self.tables.is_known(&table) => Some(why),
            Leaves::GapIfThere(why) => {
                tracing::warn!(%table, place = %self.place, why, "of a table that was not seen: if it had rows, their documents stay");
                None
            }
            Leaves::RightIf(redefined) => redefined.iter().find_map(|Redefined { column, definition }| {
                let before = self.tables.before(&table, column);
                let keeps = before.is_some_and(|before| definition.keeps(&before, strict));
                (!keeps).then(|| format!("MODIFY COLUMN {}: its values may be others", column.escape_debug()))
            }),
        };
        if let Some(why) = gap {
            self.gap(table.clone(), why);
        }
        self.altered(&table);
    }

    /// A statement may have altered, made or removed the table.
    fn altered(&mut self, table: &TableName) {
        self.observed.alters(table);
        let Some(transaction) = &mut self.transaction else { return };
        let began = Place { offset: transaction.began, ..self.place.clone() };
        let Some(Altered { was_newer }) = self.tables.alter(table, &began) else { return };
        transaction.noted.altered.push(table.clone());
        if was_newer {
            self.gap(
                table.clone(),
                "rows before this statement may have been read by the names that it gave its columns",
            );
        }
    }
}
