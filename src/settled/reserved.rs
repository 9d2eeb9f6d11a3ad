//! A cursor that commits also on a full disk, at the cost of the disk reserve.

use super::{Cursor, CursorStore, Parked, ParkedRow, ParkedStep, SettledError};
use crate::disk::{Disk, Reserve};
use crate::event::TableName;

/// What must be free before anything is written here, bytes: sled writes a cursor of some kilobytes at a time, into a file that grows
/// by half a megabyte. Less than what the log leaves free, so that the log alone never costs the reserve.
pub const ROOM_BYTES: u64 = 8 << 20;

/// Gives the reserve up before a write that may find no room. sled stops for good at its first failed write, so that afterwards would be too
/// late; and not before there is something to write: on a disk that somebody else fills, what is given up too early is gone as well.
#[derive(Debug)]
pub struct Reserved<C, D: Disk> {
    store: C,
    reserve: Reserve<D>,
}

impl<C, D: Disk> Reserved<C, D> {
    #[must_use]
    pub fn new(store: C, reserve: Reserve<D>) -> Self {
        Reserved { store, reserve }
    }

    fn make_room(&self, bytes: u64) -> Result<(), SettledError> {
        if self.reserve.give_up_under(bytes)? {
            tracing::warn!("the disk is full; its reserve is given up so that the cursor can be committed");
        }
        Ok(())
    }
}

impl<C: CursorStore, D: Disk> CursorStore for Reserved<C, D> {
    fn load(&self) -> Result<Option<Cursor>, SettledError> {
        self.store.load()
    }

    fn parked(&self) -> Result<Vec<Parked>, SettledError> {
        self.store.parked()
    }

    fn parked_row(&self, table: &TableName, id: &str) -> Result<Option<ParkedRow>, SettledError> {
        self.store.parked_row(table, id)
    }

    fn settle(&mut self, cursor: &Cursor, steps: &[ParkedStep]) -> Result<(), SettledError> {
        self.make_room(ROOM_BYTES + steps.iter().map(ParkedStep::bytes).sum::<u64>())?;
        self.store.settle(cursor, steps)
    }

    fn sync(&mut self) -> Result<(), SettledError> {
        self.make_room(ROOM_BYTES)?;
        self.store.sync()
    }
}
