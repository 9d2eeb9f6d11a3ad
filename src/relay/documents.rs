//! One flight per document.
//!
//! A document (index and id) that has a change in the bulk being built, in flight, or of unknown outcome is kept here until
//! the engine has answered for it. A newer change of it meanwhile waits, and what waits collapses to the newest: it is held
//! as a place in the log, not as bytes. So no change of a document is ever sent while an older one may still be applied.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::building::{Building, Place};
use super::outstanding::Ticket;
use super::tables::Table;
use crate::event::Version;
use crate::event::document::Verb;
use crate::log::Location;
use crate::sink::IndexNo;

/// A change that waits for its document's turn.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub table: Arc<Table>,
    pub verb: Verb,
    pub version: Version,
    pub ticket: Ticket,
    /// Where its change stands in the log.
    pub location: Location,
}

/// Where a document's newest change is.
#[derive(Debug)]
enum Standing {
    /// Encoded there: in the bulk being built, or in one that was sent.
    Encoded(Place),
    /// Behind one that was sent.
    Behind(Box<Waiting>),
    /// Behind one that was answered for: to be built.
    Ready(Box<Waiting>),
}

/// What a new change of a document has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Be built: nothing stands before it.
    Now,
    /// Be built in the place of this one, which is in the bulk being built.
    Replace(Place),
    /// Wait, and take along the ticket of what waited before it.
    Wait(Option<Ticket>),
}

/// Every document that is not at rest.
#[derive(Debug, Default)]
pub struct Documents {
    by_index: Vec<HashMap<Arc<str>, Standing>>,
    ready: VecDeque<(IndexNo, Arc<str>)>,
    waiting: usize,
}

impl Documents {
    /// A change has come. Where it has to wait it is kept, in the place of what waited already; else [`Documents::build`] must follow.
    pub fn change(
        &mut self,
        index: IndexNo,
        id: &str,
        building: &Building,
        change: impl FnOnce() -> Waiting,
    ) -> Turn {
        match self.by_index.get_mut(index.0 as usize).and_then(|ids| ids.get_mut(id)) {
            None => Turn::Now,
            Some(Standing::Encoded(place)) if building.holds(*place) => Turn::Replace(*place),
            Some(standing @ Standing::Encoded(_)) => {
                *standing = Standing::Behind(Box::new(change()));
                self.waiting += 1;
                Turn::Wait(None)
            }
            Some(Standing::Behind(waiting) | Standing::Ready(waiting)) => {
                Turn::Wait(Some(std::mem::replace(&mut **waiting, change()).ticket))
            }
        }
    }

    /// A document's newest change is now at `place`, in the bulk being built.
    pub fn build(&mut self, index: IndexNo, id: Arc<str>, place: Place) {
        let no = index.0 as usize;
        if self.by_index.len() <= no {
            self.by_index.resize_with(no + 1, HashMap::new);
        }
        self.by_index[no].insert(id, Standing::Encoded(place));
    }

    /// The engine has answered for the document's change in flight.
    pub fn land(&mut self, index: IndexNo, id: &Arc<str>, building: &Building) {
        let Some(ids) = self.by_index.get_mut(index.0 as usize) else { return };
        match ids.remove(id) {
            Some(Standing::Behind(waiting)) => {
                ids.insert(Arc::clone(id), Standing::Ready(waiting));
                self.ready.push_back((index, Arc::clone(id)));
            }
            Some(Standing::Encoded(place)) if !building.holds(place) => {}
            // Not in flight: what is to be sent stays.
            Some(other) => {
                ids.insert(Arc::clone(id), other);
            }
            None => {}
        }
    }

    /// The next document whose turn has come; [`Documents::build`] must follow.
    pub fn next_ready(&mut self) -> Option<(IndexNo, Arc<str>, Waiting)> {
        let (index, id) = self.ready.pop_front()?;
        let ids = self.by_index.get_mut(index.0 as usize)?;
        match ids.remove(&id)? {
            Standing::Ready(waiting) => {
                self.waiting -= 1;
                Some((index, id, *waiting))
            }
            other => {
                ids.insert(id, other);
                None
            }
        }
    }

    /// Changes that wait for their document's turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Documents whose turn has come.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.ready.len()
    }
}
