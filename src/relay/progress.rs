//! The cursor's way: from the ends of transactions that were read to the cursor in its store.

use std::collections::{BTreeMap, VecDeque};

use crate::event::{Gtid, GtidSet, Seq};
use crate::settled::{Cursor, CursorStore, IndexId, OwedSweep, ParkedStep, Replay, SettledError};

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
    /// What is owed, or the replay, is not what was committed.
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

    /// An end was read; `time_micros`: the server's time of it, 0 where it has none.
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

    /// What is to be kept of the replay.
    pub fn replay(&mut self, replay: Option<&Replay>) {
        if self.cursor.replay.as_ref() != replay {
            self.cursor.replay = replay.cloned();
            self.changed = true;
        }
    }

    /// Where the cursor is kept, and what is parked.
    #[must_use]
    pub fn store(&self) -> &C {
        &self.store
    }

    /// Everything up to `settled` is settled, in `indices`, or parked by `parked` or before: moves the cursor there, whole.
    ///
    /// # Errors
    /// The store does not take it.
    pub fn commit(
        &mut self,
        settled: Seq,
        indices: &BTreeMap<String, IndexId>,
        parked: &[ParkedStep],
    ) -> Result<(), SettledError> {
        let other_indices = *indices != self.cursor.indices;
        if settled <= self.cursor.seq && !self.changed && !other_indices && parked.is_empty() {
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
        if other_indices {
            self.cursor.indices.clone_from(indices);
        }
        self.store.settle(&self.cursor, parked)?;
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

    /// The server's time of the oldest end not passed whose time is known; `None` when there is none.
    #[must_use]
    pub fn oldest_micros(&self) -> Option<u64> {
        self.ends.iter().map(|end| end.time_micros).find(|micros| *micros > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TableName;
    use crate::settled::MemoryCursor;

    fn sweep(seq: u64) -> OwedSweep {
        OwedSweep { seq: Seq(seq), table: TableName::new("shop", "orders"), below: 3 }
    }

    #[test]
    fn a_sweep_is_owed_from_when_its_frame_is_passed_until_it_was_made() {
        let store = MemoryCursor::default();
        let load = || Progress::load(store.clone(), Seq(1)).unwrap();
        let mut progress = load();
        progress.owe(sweep(9));
        progress.commit(Seq(8), &BTreeMap::new(), &[]).unwrap();
        assert!(load().cursor().sweeps.is_empty(), "its frame is read again");
        progress.commit(Seq(9), &BTreeMap::new(), &[]).unwrap();
        assert_eq!(load().cursor().sweeps, [sweep(9)]);
        progress.swept(Seq(9));
        progress.commit(Seq(9), &BTreeMap::new(), &[]).unwrap();
        assert_eq!((load().cursor().seq, load().cursor().sweeps.len()), (Seq(9), 0));
    }

    #[test]
    fn the_oldest_time_is_that_of_the_first_end_that_has_one() {
        let mut progress = Progress::load(MemoryCursor::default(), Seq(1)).unwrap();
        for (seq, time) in [(1, 0), (2, 70), (3, 0), (4, 90)] {
            progress.end(Seq(seq), time, Moved::By(None));
        }
        assert_eq!(progress.oldest_micros(), Some(70));
        progress.commit(Seq(2), &BTreeMap::new(), &[]).unwrap();
        assert_eq!(progress.oldest_micros(), Some(90));
        progress.commit(Seq(4), &BTreeMap::new(), &[]).unwrap();
        assert_eq!(progress.oldest_micros(), None);
    }
}
