//! The second pass: a change is taken only where it is the newest of its document.
//!
//! It stays noted until it is taken out to be sent: it may wait, and a newer one that is read meanwhile drops it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::error::DeliverError;
use super::Scope;
use super::noted::Noted;
use super::reading::{DocumentHash, Reading, TableThere, Touched, What};
use crate::disk::Disk;
use crate::event::document::Verb;
use crate::event::{Op, Seq, Version};
use crate::log::Log;
use crate::log::record::Change;
use crate::mapping::rule::Rules;

/// What is to be sent of one document.
#[derive(Debug)]
pub struct Due {
    pub seq: Seq,
    pub table: Arc<TableThere>,
    /// That the document is behind.
    pub alias: Arc<str>,
    pub id: Arc<str>,
    hash: DocumentHash,
    pub verb: Verb,
    /// It is a document that says that its row is deleted.
    marks: bool,
    pub version: Version,
    pub routing: Option<String>,
    /// The change's, from the log.
    pub payload: Vec<u8>,
}

/// Reads the changes up to the horizon once more.
#[derive(Debug)]
pub struct Taking<D: Disk> {
    reading: Reading<D>,
    /// Of the change that was read last; as it is, and not as a sweep leaves it.
    due: VecDeque<Due>,
    /// Everything up to here was read.
    at: Seq,
    /// Changes read, by this table's.
    pub changes: u64,
}

/// What reading one record more came to.
#[derive(Debug)]
pub enum Taken {
    /// Something is due.
    Due,
    Nothing,
    /// Nothing up to the horizon is left.
    End,
}

impl<D: Disk> Taking<D> {
    /// From the record `from` on, up to which everything was sent.
    ///
    /// # Errors
    /// The log does not hold it, or cannot be read.
    pub fn open(log: &Log<D>, scope: &Arc<Scope>, rules: &Rules, from: Seq) -> Result<Self, DeliverError> {
        let reading = Reading::open(log, scope, rules, from)?;
        Ok(Taking { reading, due: VecDeque::new(), at: from.previous(), changes: 0 })
    }

    /// What is due first, if it is the newest still.
    pub fn first(&mut self, noted: &Noted) -> Option<&Due> {
        while self.due.front().is_some_and(|due| !noted.has(due.hash, due.seq)) {
            self.due.pop_front();
        }
        self.due.front()
    }

    /// The record of what is due and waits.
    #[must_use]
    pub fn waiting(&self) -> Option<Seq> {
        self.due.front().map(|due| due.seq)
    }

    /// Takes out what is due first; `None`: nothing newer is to be sent of it, or a sweep will see to it.
    pub fn take(&mut self, noted: &mut Noted) -> Option<Due> {
        let due = self.due.pop_front()?;
        let (verb, version) =
            noted.take((due.hash, &due.table.space), due.seq, (due.verb, due.marks), due.version)?;
        Some(Due { verb, version, ..due })
    }

    /// Everything up to here was read.
    #[must_use]
    pub fn at(&self) -> Seq {
        self.at
    }

    /// Reads one record; what was due before must have been taken out.
    ///
    /// # Errors
    /// As of [`Reading::next_step`].
    pub fn go_on(&mut self, noted: &Noted) -> Result<Taken, DeliverError> {
        debug_assert!(self.due.is_empty(), "what is due is sent first");
        if self.at >= noted.horizon() || noted.is_empty() {
            return Ok(Taken::End);
        }
        let Some(step) = self.reading.next_step()? else { return Ok(Taken::End) };
        self.at = self.at.max(step.seq);
        let What::Change { table, change, payload, document, old } = &step.what else {
            return Ok(Taken::Nothing);
        };
        self.changes += 1;
        let mut alias = String::new();
        for touched in old.iter().chain(document).filter(|touched| noted.has(touched.hash, step.seq)) {
            table.mapping.alias(change.op, touched.verb, change.row, &mut alias)?;
            self.due.push_back(Due {
                seq: step.seq,
                table: Arc::clone(table),
                alias: alias.as_str().into(),
                id: touched.id.into(),
                hash: touched.hash,
                verb: touched.verb,
                marks: change.op == Op::Delete && touched.verb == Verb::Index,
                version: step.version,
                routing: routing(table, touched, change)?,
                payload: payload.to_vec(),
            });
        }
        Ok(if self.due.is_empty() { Taken::Nothing } else { Taken::Due })
    }
}

/// As what the change did was routed, whatever is done now.
fn routing(
    table: &TableThere,
    touched: &Touched<'_>,
    change: &Change<'_>,
) -> Result<Option<String>, DeliverError> {
    Ok(table.mapping.routing(change.op, touched.verb, change.row)?)
}
