//! Parked changes that are sent again because an operator says so.
//!
//! # Constraints
//!
//! - They go through the one indexer, each with the version that it was parked with: one flight a document, nothing newer is overwritten, and what
//!   of a document is under way already is left alone.
//! - None is under way while a table is swept: the sweep settles what is parked below its bound, and must not be followed by it.
//! - They hold no cursor up ([`Ticket::PARKED`](super::outstanding::Ticket::PARKED)): until the engine has answered they stay parked.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::finding::{Finding, Found};
use super::parked_orders::{Became, Fate, Fates};
use crate::event::document::IndexSpec;
use crate::event::{Seq, TableName};
use crate::lifecycle::Readiness;
use crate::sink::{Expect, Sink};

/// A parked change to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Retry {
    pub table: TableName,
    pub id: Arc<str>,
    /// Its record: another one's may have been parked in its place meanwhile.
    pub seq: Seq,
}

#[derive(Debug)]
struct Going {
    answer: oneshot::Sender<Fates>,
    left: VecDeque<Retry>,
    /// By table and id, in a bulk that was not answered for.
    under_way: HashMap<(TableName, Arc<str>), Seq>,
    fates: Fates,
}

/// The order that is being carried out, if any.
#[derive(Debug, Default)]
pub struct Retries {
    going: Option<Going>,
    finding: Finding,
}

impl Retries {
    /// Begins an order; one at a time.
    pub fn begin(&mut self, retries: Vec<Retry>, answer: oneshot::Sender<Fates>) {
        debug_assert!(self.going.is_none(), "one order at a time");
        let going = Going { answer, left: retries.into(), under_way: HashMap::new(), fates: Vec::new() };
        self.going = Some(going);
    }

    /// No order is being carried out.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.going.is_none()
    }

    /// Parked changes are in bulks that were not answered for.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.going.as_ref().is_some_and(|going| !going.under_way.is_empty())
    }

    /// The next to be sent; none while an index is looked for.
    pub fn next_due(&mut self) -> Option<Retry> {
        self.going.as_mut().filter(|_| self.finding.is_empty())?.left.pop_front()
    }

    /// Looks for the index of a table that was not met in this run; `retry` waits for it.
    pub fn find<K: Sink>(
        &mut self,
        retry: Retry,
        spec: IndexSpec,
        expect: Expect,
        sink: &Arc<K>,
        readiness: &Readiness,
    ) {
        let wanted = (retry.table.clone(), spec, expect);
        if let Some(going) = &mut self.going {
            going.left.push_front(retry);
        }
        self.finding.begin(wanted, sink, readiness);
    }

    /// Waits for an index that is looked for; for ever while none is. Cancel safe.
    pub async fn next_found(&mut self) -> Found {
        self.finding.next().await
    }

    /// There is no index to write the table's documents to.
    pub fn refuse(&mut self, table: &TableName, reason: &str) {
        let Some(going) = &mut self.going else { return };
        let of_table: Vec<Retry> = going.left.iter().filter(|retry| retry.table == *table).cloned().collect();
        going.left.retain(|retry| retry.table != *table);
        for Retry { table, seq, .. } in of_table {
            going.fates.push(Fate { table, seq, became: Became::Refused { reason: reason.to_owned() } });
        }
    }

    /// It is in a bulk.
    pub fn sent(&mut self, retry: Retry) {
        if let Some(going) = &mut self.going {
            going.under_way.insert((retry.table, retry.id), retry.seq);
        }
    }

    /// It is not sent.
    pub fn decided(&mut self, retry: Retry, became: Became) {
        if let Some(going) = &mut self.going {
            going.fates.push(Fate { table: retry.table, seq: retry.seq, became });
        }
    }

    /// What was sent of a document has been answered for, or left out of its bulk.
    pub fn answered(&mut self, table: &TableName, id: &Arc<str>, became: Became) {
        let Some(going) = &mut self.going else { return };
        if let Some(seq) = going.under_way.remove(&(table.clone(), Arc::clone(id))) {
            going.fates.push(Fate { table: table.clone(), seq, became });
        }
    }

    /// The order has been carried out: whom to tell what.
    pub fn take_done(&mut self) -> Option<(oneshot::Sender<Fates>, Fates)> {
        let going = self.going.take_if(|going| going.left.is_empty() && going.under_way.is_empty())?;
        Some((going.answer, going.fates))
    }
}
