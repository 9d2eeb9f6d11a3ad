//! One flight per document.
//!
//! A document (index and id) that has a change in the bulk being built, in flight, or of unknown outcome is kept here until
//! the engine has answered for it. A newer change of it meanwhile waits, and what waits collapses to the newest: it is held
//! as a place in the log, not as bytes. So no change of a document is ever sent while an older one may still be applied.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::building::Place;
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
pub enum Standing {
    /// In the bulk being built.
    Building(Place),
    /// Sent, and perhaps a newer one waiting for the answer.
    InFlight { waiting: Option<Waiting> },
    /// Answered for, and a newer one waiting to be built.
    Ready(Waiting),
}

/// Every document that is not at rest.
#[derive(Debug, Default)]
pub struct Documents {
    by_index: Vec<HashMap<Arc<str>, Standing>>,
    ready: VecDeque<(IndexNo, Arc<str>)>,
    waiting: usize,
}

impl Documents {
    /// The document's standing; `None` when it is at rest.
    pub fn get_mut(&mut self, index: IndexNo, id: &str) -> Option<&mut Standing> {
        self.by_index.get_mut(index.0 as usize)?.get_mut(id)
    }

    /// A document that was at rest, or was ready, is now in the bulk being built.
    pub fn build(&mut self, index: IndexNo, id: Arc<str>, place: Place) {
        let no = index.0 as usize;
        if self.by_index.len() <= no {
            self.by_index.resize_with(no + 1, HashMap::new);
        }
        self.by_index[no].insert(id, Standing::Building(place));
    }

    /// Puts a change behind the one that is in flight, or in the place of what waits already, whose ticket is returned: the new
    /// one has to take it along. `Err` gives the change back: the document is at rest or being built, nothing stands before it.
    pub fn wait(&mut self, index: IndexNo, id: &str, change: Waiting) -> Result<Option<Ticket>, Waiting> {
        match self.by_index.get_mut(index.0 as usize).and_then(|ids| ids.get_mut(id)) {
            Some(Standing::InFlight { waiting }) => match waiting.replace(change) {
                Some(older) => Ok(Some(older.ticket)),
                None => {
                    self.waiting += 1;
                    Ok(None)
                }
            },
            Some(Standing::Ready(waiting)) => Ok(Some(std::mem::replace(waiting, change).ticket)),
            Some(Standing::Building(_)) | None => Err(change),
        }
    }

    /// The bulk being built was sent.
    pub fn launch(&mut self, index: IndexNo, id: &str) {
        if let Some(standing) = self.get_mut(index, id) {
            *standing = Standing::InFlight { waiting: None };
        }
    }

    /// The engine has answered for the document's change in flight.
    pub fn land(&mut self, index: IndexNo, id: &Arc<str>) {
        let Some(ids) = self.by_index.get_mut(index.0 as usize) else { return };
        let Some(standing) = ids.get_mut(id) else { return };
        if let Standing::InFlight { waiting } = standing {
            match waiting.take() {
                Some(waiting) => {
                    *standing = Standing::Ready(waiting);
                    self.ready.push_back((index, Arc::clone(id)));
                }
                None => {
                    ids.remove(id);
                }
            }
        }
    }

    /// The next document whose turn has come; [`Documents::build`] must follow.
    pub fn next_ready(&mut self) -> Option<(IndexNo, Arc<str>, Waiting)> {
        let (index, id) = self.ready.pop_front()?;
        let ids = self.by_index.get_mut(index.0 as usize)?;
        match ids.remove(&id)? {
            Standing::Ready(waiting) => {
                self.waiting -= 1;
                Some((index, id, waiting))
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
