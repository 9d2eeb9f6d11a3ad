//! Rows events inside the stream: to which table they belong, and what they add to the batch.

use std::collections::HashSet;

use crate::event::{Column, TableName, TableSchema};
use crate::log::Gap;
use crate::log::record::Batch;

use super::super::decode::{Change, RowsHeader};
use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::super::tables::{News, Target};
use super::{Binlog, Disturbance, TOO_LARGE};

/// The table id of a rows event without rows, which only ends its statement (MySQL, Table_id's dummy).
const NO_TABLE: u64 = 0x00ff_ffff;

/// Of rows that are owed where no executed set says when the server has committed them.
const NO_SET: &str = "a row came without all its columns (binlog_row_image is not FULL, or PARTIAL_JSON), and without GTIDs nothing tells when it can be read \
                      again: SET PERSIST binlog_row_image = 'FULL' and binlog_row_value_options = '' (sessions may have their own), or gtid_mode = ON, and stop the relay and run \
                      `everrelay snapshot --from-now`; or exclude the table by a pattern";

/// Most columns that are spoken of: names come from outside, and new ones may come for ever.
const MOST_REPORTED: usize = 10_000;

/// Says once of a column that bytes in it are not of its character set; never which.
#[cold]
fn report_replaced(reported: &mut HashSet<(TableName, String)>, table: &TableSchema, column: usize) {
    let Some(Column { name, .. }) = table.columns.get(column) else { return };
    if reported.len() < MOST_REPORTED && reported.insert((table.name.clone(), name.clone())) {
        tracing::warn!(
            table = %table.name,
            column = %name.escape_debug(),
            "text with bytes that are not of its character set: they become U+FFFD, here and from now on; everrelay_source_replaced_values_total counts such values"
        );
    }
}

impl Binlog {
    pub(super) fn rows(
        &mut self,
        event: &RawEvent<'_>,
        name: &'static str,
        change: Change,
        version: u8,
        batch: &mut Batch,
    ) -> Result<(), MysqlError> {
        let header = RowsHeader::parse(event.body(), version).map_err(self.short("a rows event"))?;
        // Of tables that are not followed too: which those are may be another question when the transaction is read again.
        let counts = self.transaction.as_mut().is_none_or(|transaction| transaction.rollbacks.next_counts());
        match self.tables.target(header.table_id) {
            Some(Target::Unfollowed) => {}
            Some(_) if !counts => {}
            Some(Target::Unread(number)) => self.left_out(number),
            Some(Target::Followed(number)) => {
                let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.begun)
                else {
                    return Err(self.garbled("a rows event outside a transaction"));
                };
                transaction.rollbacks.hand_over();
                let Some((table, news)) = self.tables.version(number, batch) else {
                    return Err(self.garbled("a rows event of an unknown table"));
                };
                if let Some(News { shape, gap }) = news.map(|news| *news) {
                    let (table, time_micros) = (shape.table.clone(), transaction.time_micros);
                    let how = if gap.is_some() { Disturbance::Gap } else { Disturbance::Altered };
                    self.observed.disturb(&table, how);
                    transaction.noted.gaps.extend(gap.map(|why| Gap::new(table, why, time_micros)));
                    transaction.noted.shapes.push(shape);
                }
                if transaction.rows_of.is_none() {
                    transaction.rows_of = Some(table.record.schema.name.clone());
                }
                if event.is_cut() {
                    let table = table.record.schema.name.clone();
                    return Err(self.refuse_table(name, table, TOO_LARGE));
                }
                batch.stamp(transaction.stamp(table).as_ref());
                let owed = &mut transaction.owed;
                let decoded =
                    self.decoder.rows(&table.plan, table.record.table, change, header.rest, batch, owed);
                batch.stamp(None);
                owed.bound();
                for column in self.decoder.replaced_in.drain(..) {
                    report_replaced(&mut self.reported, &table.record.schema, column);
                }
                match decoded {
                    // What cannot be told apart from rows of before.
                    Ok(_) if !owed.is_empty() && (!self.gives_gtids || transaction.gtid.is_none()) => {
                        let table = table.record.schema.name.clone();
                        return Err(self.refuse_table(name, table, NO_SET));
                    }
                    Ok(rows) => table.changes.increment(rows as u64),
                    Err(source) => {
                        let table = table.record.schema.name.clone();
                        return Err(MysqlError::Rows {
                            event: name,
                            table,
                            place: self.place.clone().into(),
                            source,
                        });
                    }
                }
            }
            None if header.table_id == NO_TABLE => {}
            None => return Err(self.garbled("a rows event without a table map")),
        }
        if header.ends_statement {
            self.tables.end_statement();
        }
        Ok(())
    }

    /// Rows that nobody can read, of a table that a statement is to come for.
    fn left_out(&mut self, number: usize) {
        let Some(table) = self.tables.unread(number).cloned() else { return };
        let Some(transaction) = &self.transaction else { return };
        if transaction.noted.gaps.iter().all(|gap| gap.table != table) {
            self.gap(table, "its rows were left out: they do not name their columns, and information_schema has newer ones");
        }
    }
}
