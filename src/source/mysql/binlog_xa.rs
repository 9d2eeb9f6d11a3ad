//! XA transactions inside the stream: what their PREPARE and their decision mean for the log. MySQL says both by events and statements of its own
//! ([`XaPrepare`](super::super::xa::XaPrepare), `XA COMMIT`), MariaDB also by flags of the GTID event.

use crate::event::gtid::Origin;
use crate::event::{Gtid, TableName, Xid};
use crate::log::prepared::{Outcome, Xa};
use crate::log::record::Batch;

use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::super::undecided::{Decided, Known, MOST, Rows};
use super::super::xa::XaPrepare;
use super::Binlog;

/// Of a name, in errors.
const TOO_MANY: &str = "10000 XA transactions are prepared and not decided, and more are not kept: decide them (XA RECOVER lists them), and \
                        start again";
const _: () = assert!(MOST == 10_000);

/// Of rows that nobody may see before a decision that can be days away, and another run's.
const OWES: &str = "rows of an XA transaction came without all their columns (binlog_row_image is not FULL, or PARTIAL_JSON), and cannot be read \
                    again before it is decided: let sessions that prepare transactions SET binlog_row_image = 'FULL' and \
                    binlog_row_value_options = '', and stop the relay and run `everrelay snapshot --from-now`, or exclude the table by a pattern";

impl Binlog {
    /// The open transaction is one of XA: its rows are held.
    pub(super) fn xa_starts(&mut self, xid: Xid) -> Result<(), MysqlError> {
        let Some(transaction) = &mut self.transaction else {
            return Err(self.garbled("XA START outside a transaction"));
        };
        if transaction.rows_of.is_some() || transaction.xa.is_some() {
            return Err(self.garbled("XA START in the middle of a transaction"));
        }
        transaction.begun = true;
        transaction.xa = Some(xid);
        Ok(())
    }

    /// The xid that a statement names.
    pub(super) fn xid_of(&self, text: &str) -> Result<Xid, MysqlError> {
        Xid::parse(text).ok_or_else(|| self.garbled("a statement names no XA transaction where it should"))
    }

    pub(super) fn xa_prepare(&mut self, event: &RawEvent<'_>, batch: &mut Batch) -> Result<(), MysqlError> {
        let prepared = XaPrepare::parse(event.body()).map_err(self.short("an XA_PREPARE event"))?;
        let xid = prepared.xid.ok_or_else(|| self.garbled("an XA_PREPARE event names no XA transaction"))?;
        if self.transaction.as_ref().and_then(|transaction| transaction.xa.as_ref()) != Some(&xid) {
            return Err(self.garbled("an XA_PREPARE event without the XA START before it"));
        }
        // `XA COMMIT … ONE PHASE` comes as this event too, and commits.
        if prepared.one_phase { self.commit(batch) } else { self.xa_prepared(batch) }
    }

    /// The open transaction of XA ends by being prepared.
    pub(super) fn xa_prepared(&mut self, batch: &mut Batch) -> Result<(), MysqlError> {
        // What is owed may have been rolled back.
        self.is_as_handed_over()?;
        let Some((transaction, xid)) =
            self.transaction.as_ref().and_then(|transaction| Some((transaction, transaction.xa.clone()?)))
        else {
            return Err(self.garbled("an XA transaction is prepared that never began"));
        };
        if let Some(version) = transaction.owed.first() {
            return Err(self.refuse_table("XA_PREPARE event", self.tables.name(version.0 as usize), OWES));
        }
        let rows = if transaction.rows_of.is_some() { Rows::Held } else { Rows::None };
        let (gtid, time_micros) = (transaction.gtid.clone(), transaction.time_micros);
        let (known, xa) = self.undecided.prepare(xid.clone(), rows, gtid, time_micros);
        match known {
            Known::New => {}
            Known::Again => {
                self.xa_gaps(&xid, "was prepared twice, and its first decision is not in the binlog");
            }
            Known::TooMany => return Err(self.refuse("XA_PREPARE event", TOO_MANY)),
        }
        self.end_xa(xa, batch)
    }

    /// The open transaction decides one of XA that was prepared before.
    pub(super) fn xa_decided(
        &mut self,
        xid: Xid,
        outcome: Outcome,
        batch: &mut Batch,
    ) -> Result<(), MysqlError> {
        let mut decided = None;
        if let Some(added) = self.undecided.take_blind(&xid).filter(|_| outcome == Outcome::Committed) {
            let mut tables = if added.is_empty() { self.tables.followed() } else { added.to_vec() };
            tables.retain(|table| self.tables.patterns().follows_table(table));
            self.xa_gaps_of(tables, &xid, "was prepared before the table was followed");
        }
        match self.undecided.decide(xid.clone(), outcome) {
            Decided::Held(xa) => decided = Some(xa),
            Decided::Without => {}
            Decided::Unknown if outcome == Outcome::RolledBack => {}
            Decided::Unknown => self.xa_gaps(&xid, "was committed, and its rows were not kept"),
        }
        self.end_xa(decided, batch)
    }

    /// Ends the open transaction. What the log is to be told of it and not by a commit waits for the next mark only where the log may have gaps: a set of
    /// MySQL's GTIDs leaves out what was folded until the mark, and whoever goes on from it is sent that again. A place in MariaDB's domains or in a file
    /// does not.
    fn end_xa(&mut self, xa: Option<Xa>, batch: &mut Batch) -> Result<(), MysqlError> {
        let mut has_gaps = true;
        if let Some(transaction) = &mut self.transaction {
            let of_a_set = |gtid: &Gtid| matches!(gtid.origin, Origin::Server { .. });
            has_gaps = transaction.gtid.as_ref().is_some_and(of_a_set) && !self.going.is_by_place();
            transaction.noted.xa.extend(xa);
        }
        self.end(batch)?;
        if !has_gaps && self.undecided.has_untold() {
            self.marks.idle();
        }
        Ok(())
    }

    /// The open transaction counts from here on. One of XA is committed at once.
    pub(super) fn commit(&mut self, batch: &mut Batch) -> Result<(), MysqlError> {
        if let Some(transaction) = &mut self.transaction
            && let Some(xid) = transaction.xa.clone().filter(|_| transaction.rows_of.is_some())
        {
            transaction.noted.xa.push(Xa::Decided { xid, outcome: Outcome::Committed });
        }
        self.end(batch)
    }

    /// Every followed table: nobody knows which of them the transaction changed.
    fn xa_gaps(&mut self, xid: &Xid, what: &str) {
        self.xa_gaps_of(self.tables.followed(), xid, what);
    }

    fn xa_gaps_of(&mut self, tables: Vec<TableName>, xid: &Xid, what: &str) {
        tracing::warn!(
            %xid,
            place = %self.place,
            tables = tables.len(),
            "an XA transaction {what}: whichever followed tables it changed need a snapshot"
        );
        for table in tables {
            self.gap(table, format!("the XA transaction {xid} {what}"));
        }
    }
}
