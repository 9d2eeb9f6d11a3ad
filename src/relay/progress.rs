//! The cursor's way: from the ends of transactions that were read to the cursor in its store.

use std::collections::{BTreeMap, VecDeque};

use crate::event::{Gtid, GtidSet, Seq};
use crate::settled::{Cursor, CursorStore, IndexId, OwedSweep, SettledError};

/// How an end of a transaction, or a mark, moves the position.
#[derive(Debug)]
pub enum Moved {
    /// One transaction more; `None` where the source gives it no GTID.
    By(Option<Gtid>),
    To(GtidSet),
}

#[derive(Debug)]
struct End {
    seq: Seq,
    time_micros: u64,
    moved: Moved,
}

/// The cursor and the ends that it has yet to pass.
#[derive(Debug)]
pub struct Progress<C> {
    store: C,
    cursor: Cursor,
    /// What is owed is not what was committed.
    changed: bool,
    ends: VecDeque<End>,
}

impl<C: CursorStore> Progress<C> {
    /// Starts at the store's cursor, or just below the log's `start` where there is none: what may have been sent before is sent
    /// again.
    ///
    /// # Errors
    /// The cursor cannot be read.
    pub fn load(store: C, start: Seq) -> Result<Progress<C>, SettledError> {
        let cursor = store.load()?;
        let mut cursor = cursor.unwrap_or_else(|| Cursor { seq: start.previous(), ..Cursor::default() });
        // One that was not passed is read again.
        cursor.sweeps.retain(|sweep| sweep.seq <= cursor.seq);
        Ok(Progress { store, cursor, changed: false, ends: VecDeque::new() })
    }

    /// The settled prefix as last committed.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// A segment's state was read: without a cursor, the first one says what lies below it.
    pub fn begin(&mut self, gtids: Option<GtidSet>) {
        if self.cursor.gtids.is_empty() && self.ends.is_empty() {
            self.cursor.gtids = gtids.unwrap_or_default();
        }
    }

    /// An end was read; `time_micros`: the server's time of it.
    pub fn end(&mut self, seq: Seq, time_micros: u64, moved: Moved) {
        self.ends.push_back(End { seq, time_micros, moved });
    }

    /// A sweep is due, and its frame may be passed.
    pub fn owe(&mut self, sweep: OwedSweep) {
        self.cursor.sweeps.push(sweep);
        self.changed = true;
    }

    /// The sweep that the frame `seq` asks for was made.
    pub fn swept(&mut self, seq: Seq) {
        self.cursor.sweeps.retain(|sweep| sweep.seq != seq);
        self.changed = true;
    }

    /// Everything up to `settled` is settled, in `indices`: moves the cursor there, whole.
    ///
    /// # Errors
    /// The store does not take it.
    pub fn commit(&mut self, settled: Seq, indices: &BTreeMap<String, IndexId>) -> Result<(), SettledError> {
        if settled <= self.cursor.seq && !self.changed {
            return Ok(());
        }
        while let Some(end) = self.ends.front().filter(|end| end.seq <= settled) {
            match &end.moved {
                Moved::By(Some(gtid)) => {
                    self.cursor.gtids.insert(gtid);
                }
                Moved::By(None) => {}
                Moved::To(gtids) => self.cursor.gtids.clone_from(gtids),
            }
            self.ends.pop_front();
        }
        self.cursor.seq = settled.max(self.cursor.seq);
        self.cursor.indices.clone_from(indices);
        self.store.commit(&self.cursor)?;
        self.changed = false;
        Ok(())
    }

    /// Makes the committed cursor durable.
    ///
    /// # Errors
    /// It is not known to be.
    pub fn sync(&mut self) -> Result<(), SettledError> {
        self.store.sync()
    }

    /// Ends not passed yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.ends.len()
    }

    /// The server's time of the oldest end not passed; `None` when all are.
    #[must_use]
    pub fn oldest_micros(&self) -> Option<u64> {
        self.ends.front().map(|end| end.time_micros)
    }
}
