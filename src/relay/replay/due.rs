//! The second pass: a change is taken only where it is the newest of its document.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::error::DeliverError;
use super::Scope;
use super::noted::Noted;
use super::reading::{Reading, TableThere, Touched, What};
use crate::disk::Disk;
use crate::event::document::Verb;
use crate::event::{Seq, Version};
use crate::log::Log;
use crate::log::record::Change;
use crate::mapping::rule::Rules;

/// What is to be sent of one document.
#[derive(Debug)]
pub struct Due {
    pub seq: Seq,
    pub table: Arc<TableThere>,
    pub id: Arc<str>,
    pub verb: Verb,
    pub version: Version,
    pub routing: Option<String>,
    /// The change's, from the log.
    pub payload: Vec<u8>,
}

/// Reads the changes up to the horizon once more.
#[derive(Debug)]
pub struct Taking<D: Disk> {
    reading: Reading<D>,
    /// Of the change that was read last.
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

    /// What is due first.
    pub fn due(&mut self) -> &mut VecDeque<Due> {
        &mut self.due
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
    pub fn go_on(&mut self, noted: &mut Noted) -> Result<Taken, DeliverError> {
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
        let alias = &table.mapping.spec().alias;
        for touched in old.iter().chain([document]) {
            let Some((verb, version)) = noted.take(touched, alias, step.seq, step.version) else { continue };
            self.due.push_back(Due {
                seq: step.seq,
                table: Arc::clone(table),
                id: touched.id.into(),
                verb,
                version,
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
