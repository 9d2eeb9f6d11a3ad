//! Which events begin a transaction of MySQL's, and what they say of it.

use crate::event::Gtid;
use crate::event::gtid::Origin;

use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::rollbacks::Rollbacks;
use super::{Binlog, Transaction};

/// A set does not say where to go on behind it.
const ANONYMOUS: &str = "the transaction has no GTID, and the stream goes by GTIDs";

impl Binlog {
    pub(super) fn gtid(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("a GTID event")?;
        let parsed =
            event.gtid().map_err(|error| self.garbled(format!("a GTID event is malformed: {error}")))?;
        let tag = parsed.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
        let gtid = Gtid { origin: Origin::Server { uuid: parsed.sid(), tag }, number: parsed.gno() };
        if !(1..crate::event::gtid::NUMBER_LIMIT).contains(&gtid.number) {
            return Err(self.garbled(format!("a GTID has the number {}", gtid.number)));
        }
        self.open(event, Some(gtid), event.committed_micros(&parsed))?;
        Ok(())
    }

    /// A transaction begins that was committed while `gtid_mode` was not ON.
    pub(super) fn anonymous(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("an ANONYMOUS_GTID event")?;
        if !self.going.is_by_place() {
            return Err(self.garbled(format!("an ANONYMOUS_GTID event: {ANONYMOUS}")));
        }
        let parsed = event
            .gtid()
            .map_err(|error| self.garbled(format!("an ANONYMOUS_GTID event is malformed: {error}")))?;
        self.going.no_gtid();
        // Whatever the server said when it was asked.
        self.gives_gtids = false;
        self.open(event, None, event.committed_micros(&parsed))?;
        Ok(())
    }

    /// A transaction begins, with the GTID of this event if it has one.
    pub(super) fn open(
        &mut self,
        event: &RawEvent<'_>,
        gtid: Option<Gtid>,
        time_micros: u64,
    ) -> Result<&mut Transaction, MysqlError> {
        if let Some(gtid) = gtid.as_ref().filter(|gtid| self.gtids.contains(gtid)) {
            return Err(self.garbled(format!("the server sent transaction {gtid} again")));
        }
        self.seeking = false;
        self.place.gtid.clone_from(&gtid);
        let began = self.beginning(event);
        let rollbacks = Rollbacks::of(self.found_before(gtid.as_ref(), began));
        Ok(self.transaction.insert(Transaction { began, rollbacks, ..Transaction::new(gtid, time_micros) }))
    }
}
