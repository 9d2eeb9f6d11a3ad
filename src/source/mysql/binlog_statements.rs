//! Statements inside the stream, and the ends of XA transactions: what they do to the open transaction and to followed tables.

use crate::event::TableName;
use crate::log::record::Batch;

use super::super::ddl::DROP;
use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::super::query::Query;
use super::super::statement::{Alteration, Meaning, classify};
use super::super::xa::XaPrepare;
use super::Binlog;

/// What an operator can do about a change that no row event shows.
const UNSHOWN: &str = "its rows change and no row event says how, which is not followed yet: start from a new state folder after \
                       this transaction, or exclude the table by a pattern";

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
        let rows_of = transaction.rows_of.clone();
        let begun = transaction.begun;
        match meaning {
            Meaning::Begin | Meaning::XaBounds | Meaning::OpensTransaction => {
                transaction.begun = true;
                return Ok(());
            }
            Meaning::Commit => return self.commit(batch),
            Meaning::Rollback | Meaning::RollbackTo => {
                // The server writes these where a transaction also changed a table that cannot roll back.
                if let Some(table) = rows_of {
                    return Err(self.refuse_table(
                        "QUERY event (ROLLBACK)",
                        table,
                        "the transaction mixes tables that roll back with such that do not, and which of its rows stay is not \
                         followed yet: start from a new state folder after it",
                    ));
                }
                return if meaning == Meaning::Rollback { self.commit(batch) } else { Ok(()) };
            }
            Meaning::XaCommit(xid) => {
                if self.prepared.remove(&xid.to_ascii_lowercase()).is_none() {
                    return Err(self.refuse(
                        "QUERY event (XA COMMIT)",
                        "the XA transaction was prepared before this run, possibly with rows of followed tables: XA is not followed \
                         yet; start from a new state folder after it",
                    ));
                }
            }
            Meaning::XaRollback(xid) => {
                self.prepared.remove(&xid.to_ascii_lowercase());
            }
            Meaning::Nothing | Meaning::OtherDdl => {}
            Meaning::Alters(alteration) => self.altered(&alteration)?,
            Meaning::DropsSchema(schema) => self.drops_schema(&schema),
            Meaning::DropsIfExists(tables) => self.drops_if_exists(tables),
            Meaning::Gaps(gaps) => gaps.into_iter().for_each(|(table, why)| self.gap(table, why)),
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
            self.gap(table, "DROP DATABASE: its documents stay as they were");
        }
    }

    /// `DROP TABLE IF EXISTS` is written also where there was no table.
    fn drops_if_exists(&mut self, tables: Vec<TableName>) {
        for table in tables {
            if self.tables.is_known(&table) {
                self.gap(table, DROP);
            } else {
                tracing::warn!(%table, place = %self.place, "DROP TABLE IF EXISTS of a table that was not seen: if it had rows, their documents stay");
            }
        }
    }

    fn altered(&self, alteration: &Alteration) -> Result<(), MysqlError> {
        let table = &alteration.table;
        if alteration.drops_index && self.tables.needs_unique_key(table) {
            return Err(self.refuse_table(
                "QUERY event (DROP INDEX)",
                table.clone(),
                "its rows are told apart by a unique key that may be the one dropped: give it a primary key",
            ));
        }
        if alteration.fills_rows {
            tracing::warn!(
                %table,
                place = %self.place,
                "a column was added with a value for the rows that were there: documents written before lack it until \
                 their rows change"
            );
        }
        Ok(())
    }

    pub(super) fn xa_prepare(&mut self, event: &RawEvent<'_>, batch: &mut Batch) -> Result<(), MysqlError> {
        let prepared = XaPrepare::parse(event.body()).map_err(self.short("an XA_PREPARE event"))?;
        if !prepared.one_phase {
            let Some(transaction) = &self.transaction else {
                return Err(self.garbled("an XA_PREPARE event without a GTID"));
            };
            if let Some(table) = &transaction.rows_of {
                return Err(self.refuse_table(
                    "XA_PREPARE event",
                    table.clone(),
                    "rows of XA transactions are not followed yet: start from a new state folder after its XA COMMIT, or exclude the \
                     table by a pattern",
                ));
            }
            self.prepared.insert(prepared.xid, transaction.gtid.clone());
        }
        // `XA COMMIT … ONE PHASE` comes as this event too, and commits.
        self.commit(batch)
    }
}
