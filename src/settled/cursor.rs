//! How far a sink has carried the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bincode::{Decode, Encode};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};

use super::handle::Handle;
use super::parked::{Encoded, Parked, ParkedRow, ParkedStep, ParkedTrees};
use super::replay::Replay;
use super::{Settled, SettledError, describe};
use crate::event::{GtidSet, Seq, TableName, codec};

const TREE: &str = "cursors";

/// Version of a stored cursor's encoding.
const ENCODING: u8 = 6;

/// Limit on what decoding a cursor may allocate, bytes.
const DECODE_LIMIT: usize = 64 << 20;

/// Everything up to here is settled: done, superseded, or parked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Cursor {
    /// The last frame of the settled prefix; it may lie inside a transaction. 0: nothing yet.
    pub seq: Seq,
    /// The source's position there.
    pub gtids: GtidSet,
    /// By alias, the index that documents went to: one deleted and made anew has another UUID.
    pub indices: BTreeMap<String, IndexId>,
    /// Sweeps at the end of snapshots that were passed and go on.
    pub sweeps: Vec<OwedSweep>,
    /// The replay that goes on, or the last one.
    pub replay: Option<Replay>,
}

impl Cursor {
    /// What stands up to here nobody needs any more. A sweep that goes on stands in the log as long as that: a cursor may be lost.
    #[must_use]
    pub fn done(&self) -> Seq {
        self.sweeps.iter().map(|sweep| sweep.seq.previous()).fold(self.seq, Seq::min)
    }
}

/// Documents of a table that are yet to be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OwedSweep {
    /// The frame that asks for it.
    pub seq: Seq,
    pub table: TableName,
    /// Those of a lower version.
    pub below: u64,
}

/// One concrete index and the table that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct IndexId {
    pub table: TableName,
    pub name: String,
    /// As the engine gave it.
    pub uuid: String,
    /// Stands for what was written to it so far; `None`: the engine did not tell.
    pub history: Option<u32>,
    /// What its alias was made by, where the table's rows say theirs.
    pub template: Option<String>,
}

/// Keeps one sink's cursor.
pub trait CursorStore: Send + 'static {
    /// The cursor committed last; `None` in a new folder.
    ///
    /// # Errors
    /// See [`SettledError`].
    fn load(&self) -> Result<Option<Cursor>, SettledError>;

    /// All that is parked, in no order that means anything; without the rows.
    ///
    /// # Errors
    /// See [`SettledError`].
    fn parked(&self) -> Result<Vec<Parked>, SettledError>;

    /// The row of a document's parked change; `None` where none is parked.
    ///
    /// # Errors
    /// See [`SettledError`].
    fn parked_row(&self, table: &TableName, id: &str) -> Result<Option<ParkedRow>, SettledError>;

    /// Replaces the cursor and takes these steps with what is parked, all of it or nothing. It may be lost with the process before
    /// [`CursorStore::sync`].
    ///
    /// # Errors
    /// See [`SettledError`].
    fn settle(&mut self, cursor: &Cursor, steps: &[ParkedStep]) -> Result<(), SettledError>;

    /// Replaces the cursor alone.
    ///
    /// # Errors
    /// See [`SettledError`].
    fn commit(&mut self, cursor: &Cursor) -> Result<(), SettledError> {
        self.settle(cursor, &[])
    }

    /// Makes what was committed durable against power loss.
    ///
    /// # Errors
    /// It is not known to be; nothing more is accepted then.
    fn sync(&mut self) -> Result<(), SettledError>;
}

/// A cursor in a [`Settled`] folder.
#[derive(Debug)]
pub struct SledCursor {
    settled: Settled,
    tree: Handle<sled::Tree>,
    parked: ParkedTrees,
    name: String,
}

impl SledCursor {
    pub(super) fn open(settled: Settled, name: &str) -> Result<SledCursor, SettledError> {
        let tree = settled.db.open_tree(TREE).map_err(|error| describe(&settled.path, "open", error))?;
        let parked = ParkedTrees::open(&settled, name)?;
        Ok(SledCursor { settled, tree: Handle::new(tree), parked, name: name.to_owned() })
    }

    /// The folder that it is in.
    #[must_use]
    pub fn folder(&self) -> &Settled {
        &self.settled
    }

    pub(super) fn forget(settled: &Settled, name: &str) -> Result<(), SettledError> {
        settled.usable()?;
        let failed = |error| describe(&settled.path, "write", error);
        // Last of all the cursor: one that is there yet is forgotten once more.
        ParkedTrees::remove(settled, name)?;
        settled.db.open_tree(TREE).and_then(|tree| tree.remove(name)).map_err(failed)?;
        Ok(())
    }

    pub(super) fn names(settled: &Settled) -> Result<Vec<String>, SettledError> {
        let failed = |error| describe(&settled.path, "read", error);
        let tree = settled.db.open_tree(TREE).map_err(failed)?;
        let names = tree.iter().keys();
        names.map(|name| Ok(String::from_utf8_lossy(&name.map_err(failed)?).into_owned())).collect()
    }
}

impl CursorStore for SledCursor {
    fn load(&self) -> Result<Option<Cursor>, SettledError> {
        let path = &self.settled.path;
        let Some(value) = self.tree.get(&self.name).map_err(|error| describe(path, "read", error))? else {
            return Ok(None);
        };
        let damaged = |why: String| SettledError::Damaged { path: path.to_path_buf(), why };
        match value.split_first() {
            Some((&ENCODING, bytes)) => match codec::decode_owned::<Cursor, DECODE_LIMIT>(bytes) {
                Ok((cursor, [])) => Ok(Some(cursor)),
                Ok(_) => Err(damaged(format!("bytes follow the cursor of {:?}", self.name))),
                Err(error) => {
                    Err(damaged(format!("the cursor of {:?} cannot be decoded: {error}", self.name)))
                }
            },
            Some((&found, _)) => Err(SettledError::Format {
                path: path.to_path_buf(),
                found: u32::from(found),
                known: u32::from(ENCODING),
            }),
            None => Err(damaged(format!("the cursor of {:?} is empty", self.name))),
        }
    }

    fn parked(&self) -> Result<Vec<Parked>, SettledError> {
        self.parked.all(&self.settled.path)
    }

    fn parked_row(&self, table: &TableName, id: &str) -> Result<Option<ParkedRow>, SettledError> {
        self.parked.row(&self.settled.path, table, id)
    }

    fn settle(&mut self, cursor: &Cursor, steps: &[ParkedStep]) -> Result<(), SettledError> {
        self.settled.usable()?;
        let mut value = vec![ENCODING];
        codec::encode(cursor, &mut value);
        let key = self.name.as_bytes();
        let steps: Vec<Encoded> = steps.iter().map(Encoded::of).collect();
        let (cursors, parked, rows) = (&*self.tree, &*self.parked.parked, &*self.parked.rows);
        let result = (cursors, parked, rows).transaction(|(cursors, parked, rows)| {
            cursors.insert(key, value.as_slice())?;
            for step in &steps {
                step.apply::<ConflictableTransactionError>(parked, rows)?;
            }
            Ok(())
        });
        result.map_err(|error| match error {
            TransactionError::Storage(error) => describe(&self.settled.path, "write", error),
            TransactionError::Abort(never) => describe(&self.settled.path, "write", never),
        })
    }

    fn sync(&mut self) -> Result<(), SettledError> {
        self.settled.sync()
    }
}

/// A cursor in memory, which outlives the store for whoever holds a clone of it: for tests and simulations.
#[derive(Clone, Debug, Default)]
pub struct MemoryCursor {
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    committed: AtOnce,
    synced: AtOnce,
}

/// What is there together.
#[derive(Clone, Debug, Default)]
struct AtOnce {
    cursor: Option<Cursor>,
    parked: BTreeMap<(TableName, String), (Parked, Arc<ParkedRow>)>,
}

impl MemoryCursor {
    /// The cursor that a power loss leaves.
    #[must_use]
    pub fn synced(&self) -> Option<Cursor> {
        self.kept().synced.cursor.clone()
    }

    /// Falls back to what was synced, as a power loss may make it.
    pub fn lose_unsynced(&self) {
        let mut kept = self.kept();
        kept.committed = kept.synced.clone();
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CursorStore for MemoryCursor {
    fn load(&self) -> Result<Option<Cursor>, SettledError> {
        Ok(self.kept().committed.cursor.clone())
    }

    fn parked(&self) -> Result<Vec<Parked>, SettledError> {
        Ok(self.kept().committed.parked.values().map(|(parked, _)| parked.clone()).collect())
    }

    fn parked_row(&self, table: &TableName, id: &str) -> Result<Option<ParkedRow>, SettledError> {
        let row =
            self.kept().committed.parked.get(&(table.clone(), id.to_owned())).map(|(_, row)| Arc::clone(row));
        Ok(row.map(Arc::unwrap_or_clone))
    }

    fn settle(&mut self, cursor: &Cursor, steps: &[ParkedStep]) -> Result<(), SettledError> {
        let committed = &mut self.kept().committed;
        committed.cursor = Some(cursor.clone());
        for step in steps {
            match step {
                ParkedStep::Parked(parked, row) => {
                    let kept = ((**parked).clone(), Arc::new(row.clone()));
                    committed.parked.insert((parked.table.clone(), parked.id.clone()), kept);
                }
                ParkedStep::Again(parked) => {
                    if let Some(kept) = committed.parked.get_mut(&(parked.table.clone(), parked.id.clone())) {
                        kept.0 = (**parked).clone();
                    }
                }
                ParkedStep::Gone { table, id } => drop(committed.parked.remove(&(table.clone(), id.clone()))),
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SettledError> {
        let mut kept = self.kept();
        kept.synced = kept.committed.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settled::{Ended, HowEnded, Replayed};

    fn cursor(seq: u64) -> Cursor {
        let index = IndexId {
            table: TableName::new("shop", "orders"),
            name: "shop.orders-000001".into(),
            uuid: "x1y2".into(),
            history: Some(7),
            template: Some("orders-{day:%Y}".into()),
        };
        Cursor {
            seq: Seq(seq),
            gtids: "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7:9".parse().unwrap(),
            indices: [("shop.orders".into(), index)].into(),
            sweeps: vec![OwedSweep { seq: Seq(5), table: TableName::new("shop", "orders"), below: 3 }],
            replay: Some(Replay {
                number: 2,
                from: Seq(1),
                end: Seq(5),
                tables: vec!["shop.*".into()],
                indices: vec!["orders-2026.*".into()],
                since_micros: 9,
                slice: ([1, 0], [7, u64::MAX]),
                place: Seq(3),
                horizon: Seq(4),
                noted: Seq(4),
                counts: Replayed { indexed: 1, conflicts: 2, ..Replayed::default() },
                ended: Some(Ended { micros: 10, how: HowEnded::Failed("so".into()) }),
            }),
        }
    }

    #[test]
    fn what_asks_for_a_sweep_that_goes_on_is_needed() {
        assert_eq!((cursor(7).done(), cursor(3).done(), Cursor::default().done()), (Seq(4), Seq(3), Seq(0)));
    }

    #[test]
    fn a_synced_cursor_is_found_again_by_its_sink() {
        let dir = tempfile::tempdir().unwrap();
        {
            let settled = Settled::open(dir.path()).unwrap();
            let (mut a, mut b) = (settled.cursor("a").unwrap(), settled.cursor("b").unwrap());
            assert_eq!(a.load().unwrap(), None);
            a.commit(&cursor(6)).unwrap();
            a.commit(&cursor(7)).unwrap();
            b.commit(&cursor(8)).unwrap();
            assert_eq!(a.load().unwrap(), Some(cursor(7)));
            a.sync().unwrap();
        }
        let settled = crate::settled::tests::again(dir.path()).unwrap();
        assert_eq!(settled.cursor("a").unwrap().load().unwrap(), Some(cursor(7)));
        assert_eq!(settled.cursor("b").unwrap().load().unwrap(), Some(cursor(8)));
        assert_eq!(settled.cursor("c").unwrap().load().unwrap(), None);
        assert_eq!(settled.cursors().unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_copy_of_the_folder_taken_after_a_sync_holds_the_cursor() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settled = Settled::open(dir.path()).unwrap();
        let mut store = settled.cursor("a").unwrap();
        store.commit(&cursor(7)).unwrap();
        store.sync().unwrap();
        // The process is still running: what it has in its own memory is not copied.
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.path().is_file() {
                std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
            }
        }
        let copied = Settled::open(copy.path()).unwrap();
        assert_eq!(copied.cursor("a").unwrap().load().unwrap(), Some(cursor(7)));
        assert_eq!(copied.folder_id(), settled.folder_id());
    }

    #[test]
    fn a_cursor_of_another_encoding_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let store = Settled::open(dir.path()).unwrap().cursor("a").unwrap();
        store.tree.insert("a", &[9, 1, 2]).unwrap();
        assert!(matches!(store.load(), Err(SettledError::Format { found: 9, .. })));
        store.tree.insert("a", &[ENCODING, 1]).unwrap();
        assert!(matches!(store.load(), Err(SettledError::Damaged { .. })));
    }

    #[test]
    fn a_cursor_in_memory_falls_back_to_what_was_synced() {
        let kept = MemoryCursor::default();
        let mut store = kept.clone();
        store.commit(&cursor(1)).unwrap();
        store.sync().unwrap();
        store.commit(&cursor(2)).unwrap();
        assert_eq!(store.load().unwrap(), Some(cursor(2)));
        kept.lose_unsynced();
        assert_eq!((store.load().unwrap(), kept.synced()), (Some(cursor(1)), Some(cursor(1))));
    }
}
