//! The first pass: which change of each document is its newest.
//!
//! What is noted is the range's: a document that no change in it touched is nobody's business. Changes behind the range, up to the horizon, replace what is noted; behind the horizon
//! they drop it, since whoever reads there sends them.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::error::DeliverError;
use super::reading::{DocumentHash, Reading, Step, What};
use super::{MOST_NOTED, Scope};
use crate::disk::Disk;
use crate::event::document::Verb;
use crate::event::{Seq, TableName, Version};
use crate::log::Log;
use crate::mapping::rule::Rules;

/// The documents with these hashes, both included: those that are worked off at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    pub first: DocumentHash,
    pub last: DocumentHash,
}

impl Slice {
    pub const WHOLE: Slice = Slice { first: DocumentHash::FIRST, last: DocumentHash::LAST };

    fn has(&self, hash: DocumentHash) -> bool {
        self.first <= hash && hash <= self.last
    }

    /// Its lower half: the upper is for later. False where it cannot be cut.
    fn halve(&mut self) -> bool {
        let ([first, _], [last, _]) = (self.first.0, self.last.0);
        // Hashes are even: the first words of so few tell them apart.
        self.last = DocumentHash([first + (last - first) / 2, u64::MAX]);
        first < last
    }

    /// What is left behind it.
    #[must_use]
    pub fn next(&self) -> Option<Slice> {
        let first = self.last.0[0].checked_add(1)?;
        Some(Slice { first: DocumentHash([first, 0]), last: DocumentHash::LAST })
    }
}

#[derive(Clone, Copy, Debug)]
struct Swept {
    below: Version,
    seq: Seq,
}

/// What one slice's documents come to.
#[derive(Debug)]
pub struct Noted {
    newest: HashMap<DocumentHash, Seq>,
    /// By what tells a table's documents from others', the highest sweep, and the highest of those that take marked documents too.
    swept: HashMap<String, Swept>,
    emptied: HashMap<String, Swept>,
    slice: Slice,
    most: usize,
    /// Up to here changes are noted, behind it they drop what is.
    horizon: Seq,
    /// What was dropped.
    superseded: u64,
}

impl Noted {
    #[must_use]
    pub fn new(slice: Slice, horizon: Seq) -> Noted {
        Noted::at_most(MOST_NOTED, slice, horizon)
    }

    pub(super) fn at_most(most: usize, slice: Slice, horizon: Seq) -> Noted {
        Noted {
            newest: HashMap::new(),
            swept: HashMap::new(),
            emptied: HashMap::new(),
            slice,
            most,
            horizon,
            superseded: 0,
        }
    }

    /// What it came to be: smaller than asked for where there are too many documents.
    #[must_use]
    pub fn slice(&self) -> Slice {
        self.slice
    }

    #[must_use]
    pub fn horizon(&self) -> Seq {
        self.horizon
    }

    /// Documents noted and not taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.newest.is_empty()
    }

    /// Documents that something newer came for, since this was asked last.
    pub fn take_superseded(&mut self) -> u64 {
        std::mem::take(&mut self.superseded)
    }

    /// The record is read; records come in their order.
    fn pass(&mut self, step: &Step<'_>, scope: &Scope) {
        match &step.what {
            What::Change { document, old, .. } => {
                for touched in old.iter().chain(document) {
                    self.touch(touched.hash, step.seq, scope);
                }
            }
            What::Sweep { space, below, but_marked } => {
                let swept = Swept { below: *below, seq: step.seq };
                for of in
                    [Some(&mut self.swept), (!but_marked).then_some(&mut self.emptied)].into_iter().flatten()
                {
                    match of.get_mut(space) {
                        Some(older) if older.below <= *below => *older = swept,
                        Some(_) => {}
                        None => drop(of.insert(space.clone(), swept)),
                    }
                }
            }
            What::Other => {}
        }
    }

    fn touch(&mut self, hash: DocumentHash, seq: Seq, scope: &Scope) {
        if !self.slice.has(hash) {
            return;
        }
        if seq > self.horizon {
            self.superseded += u64::from(self.newest.remove(&hash).is_some());
        } else if seq >= scope.end {
            if let Some(newest) = self.newest.get_mut(&hash) {
                *newest = seq;
            }
        } else {
            self.newest.insert(hash, seq);
            while self.newest.len() > self.most && self.slice.halve() {
                let slice = self.slice;
                self.newest.retain(|hash, _| slice.has(*hash));
            }
        }
    }

    /// Whether the record is the newest of its document.
    #[must_use]
    pub fn has(&self, hash: DocumentHash, seq: Seq) -> bool {
        self.newest.get(&hash) == Some(&seq)
    }

    /// What is to be sent of a document for its newest record, which does `verb` (`marks`: by a document that says so that its row is deleted): nothing where it is
    /// not that any more. It is not noted any more.
    pub fn take(
        &mut self,
        (hash, space): (DocumentHash, &str),
        seq: Seq,
        (verb, marks): (Verb, bool),
        version: Version,
    ) -> Option<(Verb, Version)> {
        if !self.has(hash, seq) {
            return None;
        }
        self.newest.remove(&hash);
        let swept = if marks { &self.emptied } else { &self.swept };
        match swept.get(space).filter(|swept| version < swept.below) {
            None => Some((verb, version)),
            // As the sweep itself deletes.
            Some(swept) if swept.seq <= self.horizon => {
                Some((Verb::Delete, Version(swept.below.0.saturating_sub(1))))
            }
            // It is yet to be made, or under way.
            Some(_) => {
                self.superseded += 1;
                None
            }
        }
    }
}

/// Goes through the log and notes.
#[derive(Debug)]
pub struct Noting<D: Disk> {
    reading: Reading<D>,
    scope: Arc<Scope>,
    noted: Noted,
    /// Everything up to here was read.
    at: Seq,
    changes: HashMap<TableName, u64>,
}

impl<D: Disk> Noting<D> {
    /// # Errors
    /// The log does not hold the range's beginning, or cannot be read.
    pub fn open(log: &Log<D>, scope: &Arc<Scope>, rules: &Rules, noted: Noted) -> Result<Self, DeliverError> {
        let reading = Reading::open(log, scope, rules, scope.from)?;
        let at = scope.from.previous();
        Ok(Noting { reading, scope: Arc::clone(scope), noted, at, changes: HashMap::new() })
    }

    /// Reads so many records more; true where nothing more is visible.
    ///
    /// # Errors
    /// As of [`Reading::next_step`].
    pub fn go_on(&mut self, records: usize) -> Result<bool, DeliverError> {
        for _ in 0..records {
            let Some(step) = self.reading.next_step()? else { return Ok(true) };
            if let What::Change { table, document, old, .. } = &step.what
                && (document.is_some() || old.is_some())
                && step.seq < self.scope.end
                && step.seq <= self.noted.horizon
            {
                match self.changes.get_mut(&table.name) {
                    Some(changes) => *changes += 1,
                    None => drop(self.changes.insert(table.name.clone(), 1)),
                }
            }
            self.at = self.at.max(step.seq);
            self.noted.pass(&step, &self.scope);
        }
        Ok(false)
    }

    /// Everything up to here was read.
    #[must_use]
    pub fn at(&self) -> Seq {
        self.at
    }

    /// Changes in the range, by table.
    #[must_use]
    pub fn changes(&self) -> &HashMap<TableName, u64> {
        &self.changes
    }

    pub fn noted(&mut self) -> &mut Noted {
        &mut self.noted
    }
}
