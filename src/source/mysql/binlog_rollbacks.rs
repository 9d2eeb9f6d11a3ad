//! Rows that were rolled back, and stand in the binlog all the same.
//!
//! A server cuts them out of what it is about to write, but where it cannot: where the transaction also wrote to tables that do not roll back
//! (MariaDB), or made temporary ones. Then ROLLBACK or ROLLBACK TO stands behind them. In row format the rows of tables that do not roll back are
//! in groups of their own, which end with COMMIT (use_trans_cache in MariaDB's sql/log.cc; is_transactional in MySQL's sql/binlog.cc), so whatever
//! rows such a statement covers were rolled back.
//!
//! When it comes they may be in the log, within the open transaction, which only its end makes count. So the rest is looked at, what does not
//! count is noted, and the transaction is read once more, without that: by another connection, before which the log cuts what is open.

use std::ops::Range;

use crate::event::Gtid;
use crate::log::record::Batch;

use super::super::error::MysqlError;
use super::{Binlog, Transaction};

/// Most savepoints of a transaction, and most stretches of rows in it, that are told apart.
const MOST: usize = 100_000;

/// What a transaction has rolled back so far. Rows events are counted from 0.
#[derive(Debug, Default)]
pub(super) struct Rollbacks {
    events: u64,
    /// The last event whose rows were handed over.
    handed_over: Option<u64>,
    /// Names in lower case, and before which event each stands; in order.
    savepoints: Vec<(String, u64)>,
    /// Rolled back, in order and apart.
    covered: Vec<Range<u64>>,
    /// Rows were handed over that do not count. The rest of the transaction is only looked at.
    in_vain: bool,
    /// What an earlier reading found.
    known: Vec<Range<u64>>,
}

/// What a reading found of a transaction: whose, and what does not count.
#[derive(Debug)]
pub(super) struct Found {
    gtid: Option<Gtid>,
    /// The server's UUID, the file and where it began there: another server may write it otherwise.
    place: (uuid::Bytes, String, u64),
    covered: Vec<Range<u64>>,
}

impl Rollbacks {
    pub(super) fn of(known: Option<Found>) -> Rollbacks {
        Rollbacks { known: known.map(|found| found.covered).unwrap_or_default(), ..Rollbacks::default() }
    }

    /// The next rows event: whether its rows are to be handed over.
    #[inline]
    pub(super) fn next_counts(&mut self) -> bool {
        let event = self.events;
        self.events += 1;
        let next = self.known.partition_point(|range| range.end <= event);
        !self.in_vain && self.known.get(next).is_none_or(|range| event < range.start)
    }

    /// The rows of the event that was asked about last are handed over.
    #[inline]
    pub(super) fn hand_over(&mut self) {
        self.handed_over = Some(self.events.saturating_sub(1));
    }

    /// Whether there was room for it.
    fn save(&mut self, name: String) -> bool {
        self.savepoints.retain(|(saved, _)| *saved != name);
        self.savepoints.push((name, self.events));
        self.savepoints.len() <= MOST
    }

    /// Back to a savepoint, or to the beginning; `None` where there is no such savepoint, else whether there was room for it.
    fn roll_back(&mut self, to: Option<&str>) -> Option<bool> {
        let since = match to {
            None => 0,
            Some(name) => {
                let at = self.savepoints.iter().position(|(saved, _)| saved == name)?;
                // It stays; those behind it go.
                self.savepoints.truncate(at + 1);
                self.savepoints.last()?.1
            }
        };
        while self.covered.last().is_some_and(|range| range.start >= since) {
            self.covered.pop();
        }
        match self.covered.last_mut() {
            Some(range) if range.end >= since => range.end = self.events,
            _ if since < self.events => self.covered.push(since..self.events),
            _ => {}
        }
        self.in_vain |= self.handed_over.is_some_and(|event| event >= since);
        Some(self.covered.len() <= MOST)
    }
}

impl Binlog {
    /// Of the transaction that begins: what an earlier reading found. Nothing else is kept.
    pub(super) fn found_before(&mut self, gtid: Option<&Gtid>, began: u64) -> Option<Found> {
        let place = (self.server.uuid, &self.place.file, began);
        self.found.take().filter(|found| {
            found.gtid.as_ref() == gtid && (found.place.0, &found.place.1, found.place.2) == place
        })
    }

    pub(super) fn savepoint(&mut self, name: &str) -> Result<(), MysqlError> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        if transaction.rollbacks.save(name.to_lowercase()) {
            return Ok(());
        }
        Err(self.refuse("QUERY event (SAVEPOINT)", TOO_MANY))
    }

    pub(super) fn roll_back_to(&mut self, name: &str) -> Result<(), MysqlError> {
        let Some(transaction) = &mut self.transaction else { return Ok(()) };
        match transaction.rollbacks.roll_back(Some(&name.to_lowercase())) {
            Some(true) => Ok(()),
            Some(false) => Err(self.refuse("QUERY event (ROLLBACK TO)", TOO_MANY)),
            None => Err(self.garbled("ROLLBACK TO a savepoint that the transaction does not have")),
        }
    }

    pub(super) fn roll_back(&mut self, batch: &mut Batch) -> Result<(), MysqlError> {
        if let Some(transaction) = &mut self.transaction {
            transaction.rollbacks.roll_back(None);
        }
        self.commit(batch)
    }

    /// The transaction ends: an error if what was handed over of its rows is not what counts.
    pub(super) fn is_as_handed_over(&mut self) -> Result<(), MysqlError> {
        let Some(transaction) = self.transaction.take_if(|transaction| transaction.rollbacks.in_vain) else {
            return Ok(());
        };
        let place = (self.server.uuid, self.place.file.clone(), transaction.began);
        let Transaction { gtid, rollbacks: Rollbacks { covered, .. }, .. } = transaction;
        self.found = Some(Found { gtid, place, covered });
        Err(MysqlError::RolledBack { place: self.place.clone().into() })
    }
}

const TOO_MANY: &str = "the transaction has more savepoints, or rolls back to them more often, than are told apart (100,000): start from a new state \
                        folder after it";

#[cfg(test)]
mod tests {
    use super::*;

    /// What counts of so many events, all handed over, after these steps: an event, a savepoint, a way back.
    fn covered(steps: &[&str]) -> Vec<(u64, u64)> {
        let mut rollbacks = Rollbacks::default();
        for step in steps {
            match step.split_once(' ') {
                None if *step == "rows" => assert!(rollbacks.next_counts()),
                None => assert_eq!(rollbacks.roll_back(None), Some(true)),
                Some(("save", name)) => assert!(rollbacks.save(name.to_owned())),
                Some((_, name)) => assert_eq!(rollbacks.roll_back(Some(name)), Some(true), "{name}"),
            }
        }
        rollbacks.covered.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn what_was_rolled_back_is_known_by_event() {
        for (steps, expected) in [
            (&["rows", "save a", "rows", "to a", "rows"][..], vec![(1, 2)]),
            (&["rows", "back"], vec![(0, 1)]),
            (&["save a", "to a", "back"], vec![]),
            (&["save a", "rows", "save b", "rows", "to b", "rows", "to a", "rows"], vec![(0, 3)]),
            (
                &["rows", "save a", "rows", "to a", "rows", "to a", "rows", "save a", "rows", "to a"],
                vec![(1, 3), (4, 5)],
            ),
            // The same name again is another place.
            (&["rows", "save a", "rows", "save a", "rows", "to a"], vec![(2, 3)]),
        ] {
            assert_eq!(covered(steps), expected, "{steps:?}");
        }
        let mut rollbacks = Rollbacks::default();
        assert!(rollbacks.save("a".into()) && rollbacks.save("b".into()));
        assert_eq!(rollbacks.roll_back(Some("a")), Some(true));
        assert_eq!(rollbacks.roll_back(Some("b")), None, "it went with the way back before it");
    }
}
