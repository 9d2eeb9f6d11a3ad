//! What an operator asks of the indexer while it runs: parked changes to be sent again, or forgotten.

use super::orders;
use crate::event::{Seq, TableName};
use crate::settled::Parked;

/// Which parked changes an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    Tables(Vec<TableName>),
    /// By their records in the log.
    Records(Vec<Seq>),
}

impl Which {
    #[must_use]
    pub fn chooses(&self, parked: &Parked) -> bool {
        match self {
            Which::All => true,
            Which::Tables(tables) => tables.contains(&parked.table),
            Which::Records(records) => records.contains(&parked.seq),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedOrder {
    /// Send them again.
    Retry(Which),
    /// Forget them: their documents stay as they are in the index until their rows change.
    Drop(Which),
}

/// What became of one parked change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    pub table: TableName,
    pub seq: Seq,
    pub became: Became,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// The engine has it.
    Taken,
    /// The index has a newer version of its document.
    Superseded,
    /// A newer change or a sweep of its document came before it.
    Overtaken,
    /// A change of its document is under way: it was not sent.
    Busy,
    /// It stays parked.
    Refused {
        reason: String,
    },
    Dropped,
}

/// In the order in which it was decided.
pub type Fates = Vec<Fate>;

/// An order that the indexer has taken.
pub type Taken = orders::Taken<ParkedOrder, Fates>;

/// The end that asks.
pub type ParkedOrders = orders::Orders<ParkedOrder, Fates>;

/// The indexer's end.
pub type ParkedQueue = orders::Queue<ParkedOrder, Fates>;

/// Both ends.
#[must_use]
pub fn channel() -> (ParkedOrders, ParkedQueue) {
    orders::channel()
}
