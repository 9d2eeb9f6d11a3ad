//! What an operator asks of the indexer while it runs: a replay begun, or given up.

use super::super::orders;
use crate::event::Seq;
use crate::settled::Replay;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayOrder {
    Begin {
        from: Seq,
        /// The first record that is not meant any more; `None`: all that is settled is meant.
        end: Option<Seq>,
        /// Patterns as [`Chosen::parse`](super::Chosen::parse) takes them.
        tables: Vec<String>,
        /// Only documents behind these aliases, with `*` and `?`, or in these indices; none: all.
        indices: Vec<String>,
    },
    Cancel,
}

/// The replay that was begun or given up, or why not.
pub type Answer = Result<Replay, String>;

/// An order that the indexer has taken.
pub type Taken = orders::Taken<ReplayOrder, Answer>;

/// The end that asks.
pub type ReplayOrders = orders::Orders<ReplayOrder, Answer>;

/// The indexer's end.
pub type ReplayQueue = orders::Queue<ReplayOrder, Answer>;

/// Both ends.
#[must_use]
pub fn channel() -> (ReplayOrders, ReplayQueue) {
    orders::channel()
}
