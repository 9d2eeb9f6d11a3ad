//! MariaDB's own events inside the stream: they begin transactions without a BEGIN, and say what came before.

use crate::event::gtid::Origin;

use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::super::mariadb::{GtidBegin, Malformed, gtid_list};
use super::Binlog;

impl Binlog {
    pub(super) fn mariadb_gtid(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("a GTID event")?;
        let GtidBegin { gtid, standalone, alters_nothing, prepares } = GtidBegin::parse(event)
            .map_err(|Malformed(problem)| self.garbled(format!("a GTID event is malformed: {problem}")))?;
        let same_domain = |origin: &Origin| match (origin, &gtid.origin) {
            (Origin::Domain { domain, .. }, Origin::Domain { domain: own, .. }) => domain == own,
            _ => false,
        };
        let domain = self.gtids.iter().filter(|(origin, _)| same_domain(origin));
        let highest = domain.filter_map(|(_, intervals)| intervals.last()).map(|(_, end)| end).max();
        if !self.gtids.contains(&gtid) && highest.is_some_and(|end| gtid.number < end) {
            let last = self.gtids.domains().find(|last| same_domain(&last.origin));
            let (at, highest) = (self.place.to_string(), last.unwrap_or_else(|| gtid.clone()));
            return Err(MysqlError::Falling { at, last: gtid, highest });
        }
        let transaction = self.open(event, Some(gtid), u64::from(event.seconds()) * 1_000_000)?;
        (transaction.begun, transaction.alters_nothing) = (!standalone, alters_nothing);
        transaction.xa = prepares;
        Ok(())
    }

    /// At the head of a file it lists what stands in the files before; where we are all of that was read.
    pub(super) fn gtid_list(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("a GTID_LIST event")?;
        let listed = gtid_list(event).map_err(|Malformed(problem)| {
            self.garbled(format!("a GTID_LIST event is malformed: {problem}"))
        })?;
        let skipped = listed.unwrap_or_default().subtract(&self.gtids);
        if skipped.is_empty() {
            return Ok(());
        }
        Err(self.garbled(format!(
            "the server went on after transactions that it did not send: {}",
            skipped.brief(500)
        )))
    }
}

#[cfg(test)]
#[path = "binlog_mariadb_tests.rs"]
mod tests;
