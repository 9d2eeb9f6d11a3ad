//! A replay as it is kept with the cursor: what was ordered, how far it is, and what became of it.

use bincode::{Decode, Encode};

use crate::event::Seq;

/// The replay that goes on, or the last one.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Replay {
    /// Each replay of a sink has the next one, from 1 on.
    pub number: u64,
    /// The first record of the range.
    pub from: Seq,
    /// The first that is not meant any more.
    pub end: Seq,
    /// Patterns of the tables that are meant; none: all.
    pub tables: Vec<String>,
    /// Patterns of the aliases whose documents are meant, or names of indices; none: all.
    pub indices: Vec<String>,
    /// When it was ordered, microseconds since 1970 UTC.
    pub since_micros: u64,
    /// The hashes of the documents that are worked off now, both included: the words of the first and of the last one.
    pub slice: ([u64; 2], [u64; 2]),
    /// Of these everything up to here was sent and answered for.
    pub place: Seq,
    /// Up to here their newest changes are looked for; 0 before that was begun.
    pub horizon: Seq,
    /// Up to here they were looked for.
    pub noted: Seq,
    pub counts: Replayed,
    pub ended: Option<Ended>,
}

/// What became of documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Replayed {
    pub indexed: u64,
    /// Deleted again.
    pub deleted: u64,
    /// A newer change came meanwhile, and was sent in its turn.
    pub overtaken: u64,
    /// The engine has a higher version than the log gave the newest change: somebody else's.
    pub conflicts: u64,
    /// The engine refused them.
    pub parked: u64,
    /// Of tables that have no index.
    pub without_index: u64,
}

/// A replay's end.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Ended {
    /// Microseconds since 1970 UTC.
    pub micros: u64,
    pub how: HowEnded,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum HowEnded {
    Done,
    Cancelled,
    /// Why it could not go on.
    Failed(String),
}

impl Replay {
    #[must_use]
    pub fn is_going(&self) -> bool {
        self.ended.is_none()
    }

    /// The first record that it may have yet to read: the range's first, since a crash makes its first pass anew; `None` where it has ended.
    #[must_use]
    pub fn needs(&self) -> Option<Seq> {
        self.is_going().then_some(self.from)
    }
}
