//! The key collector: which rows the stream touched, and since when.
//!
//! # Constraints
//!
//! A chunk's row may be written only if nothing that came with the stream since the chunk was opened has its key. Keys are compared as the log holds
//! them, which is what makes documents of rows. Memory is bounded: beyond [`MOST`] nothing more is collected, and every open chunk is void.

use std::collections::HashMap;

use bincode::error::DecodeError;

use crate::event::codec::Row;
use crate::event::{Op, TableSchema};

/// Most bytes of keys.
const MOST: usize = if cfg!(test) { 4 << 10 } else { 16 << 20 };

/// What a key takes besides its bytes.
const KEY_COST: usize = 64;

/// When a chunk was opened; later ones are higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opened(u64);

/// The keys of one table that the stream touched while chunks were open.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    /// The chunk that was opened last before the key was touched last.
    keys: HashMap<Box<[u8]>, Opened>,
    bytes: usize,
    last: u64,
    /// Open chunks, in the order in which they were opened.
    open: Vec<Opened>,
    overflowed: bool,
}

impl Touched {
    /// A chunk is opened: what is touched from now on counts for it.
    pub fn open(&mut self) -> Opened {
        self.last += 1;
        self.open.push(Opened(self.last));
        Opened(self.last)
    }

    /// A chunk is written, or given up.
    pub fn close(&mut self, opened: Opened) {
        self.open.retain(|open| *open != opened);
        if self.open.is_empty() {
            self.clear();
        }
    }

    /// Every chunk is given up.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.keys.shrink_to(1 << 10);
        self.open.clear();
        (self.bytes, self.overflowed) = (0, false);
    }

    /// Whether a chunk is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// More keys were touched than are held: no open chunk may be written.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    /// A row with this key came with the stream.
    pub fn touch(&mut self, key: &[u8]) {
        if self.open.is_empty() || self.overflowed {
            return;
        }
        let now = Opened(self.last);
        if let Some(touched) = self.keys.get_mut(key) {
            *touched = now;
            return;
        }
        self.bytes += key.len() + KEY_COST;
        self.keys.insert(key.into(), now);
        if self.bytes > MOST {
            self.forget();
        }
    }

    /// Forgets what no open chunk asks for.
    fn forget(&mut self) {
        let Some(oldest) = self.open.first().copied() else { return };
        self.keys.retain(|_, touched| *touched >= oldest);
        self.bytes = self.keys.keys().map(|key| key.len() + KEY_COST).sum();
        self.overflowed = self.bytes > MOST / 2;
    }

    /// Whether any key was touched since.
    #[must_use]
    pub fn any(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether this key was touched since the chunk was opened.
    #[must_use]
    pub fn since(&self, opened: Opened, key: &[u8]) -> bool {
        self.keys.get(key).is_some_and(|touched| *touched >= opened)
    }
}

/// Replaces `key` by a row's key as the log holds it: its values in key order.
///
/// # Errors
/// The row ends early, or is none.
pub fn key_of(row: &[u8], schema: &TableSchema, key: &mut Vec<u8>) -> Result<(), DecodeError> {
    key.clear();
    if let [index] = schema.key[..] {
        key.extend_from_slice(value(row, usize::from(index))?.0);
        return Ok(());
    }
    for index in &schema.key {
        key.extend_from_slice(value(row, usize::from(*index))?.0);
    }
    Ok(())
}

/// A row's value number `index` as bytes, and what follows it.
fn value(row: &[u8], index: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut values = Row::new(row);
    for _ in 0..index {
        values.next_value()?;
    }
    let before = values.rest();
    values.next_value()?;
    let rest = values.rest();
    let bytes = before.get(..before.len() - rest.len()).unwrap_or_default();
    Ok((bytes, rest))
}

/// Hands the keys to `touch` that a change is about.
///
/// # Errors
/// The row ends early, or is none.
pub fn keys_of(
    op: Op,
    row: &[u8],
    schema: &TableSchema,
    touch: &mut impl FnMut(&[u8]),
) -> Result<(), DecodeError> {
    if op == Op::Tombstone {
        touch(row);
        return Ok(());
    }
    let mut key = Vec::new();
    key_of(row, schema, &mut key)?;
    touch(&key);
    if op == Op::Rekey
        && let Some(last) = schema.columns.len().checked_sub(1)
    {
        let (_, old) = value(row, last)?;
        touch(old);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::codec::RowWriter;
    use crate::event::{Column, ColumnType, TableName};

    #[test]
    fn a_key_counts_for_the_chunks_that_were_open_when_it_was_touched() {
        let mut touched = Touched::default();
        touched.touch(b"before");
        let first = touched.open();
        touched.touch(b"a");
        let second = touched.open();
        touched.touch(b"b");
        let found =
            |touched: &Touched, opened| [&b"before"[..], b"a", b"b"].map(|key| touched.since(opened, key));
        assert_eq!(found(&touched, first), [false, true, true]);
        assert_eq!(found(&touched, second), [false, false, true]);
        touched.touch(b"a");
        assert_eq!(found(&touched, second), [false, true, true]);
        touched.close(first);
        touched.close(second);
        assert!(!touched.any() && !touched.is_open());
    }

    #[test]
    fn more_keys_than_are_held_void_every_open_chunk_and_old_ones_are_forgotten_before() {
        let mut touched = Touched::default();
        let first = touched.open();
        for number in 0..30_u32 {
            touched.touch(&number.to_le_bytes());
        }
        let second = touched.open();
        touched.close(first);
        for number in 0..10_000_u32 {
            touched.touch(&(number % 20).to_le_bytes());
        }
        assert!(!touched.has_overflowed() && touched.since(second, &5_u32.to_le_bytes()));
        for number in 0..100_u32 {
            touched.touch(&number.to_le_bytes());
        }
        assert!(touched.has_overflowed());
        touched.clear();
        assert!(!touched.has_overflowed() && !touched.is_open());
    }

    #[test]
    fn a_change_touches_the_keys_of_before_and_after() {
        let integer = |name: &str| Column {
            name: name.to_owned(),
            ty: ColumnType::Integer { bits: 64, unsigned: false },
            nullable: false,
        };
        let schema = TableSchema {
            name: TableName::new("s", "t"),
            columns: vec![integer("a"), integer("b"), integer("c")],
            key: vec![2, 0],
        };
        let row = |values: &[i64]| {
            let mut row = Vec::new();
            values.iter().for_each(|value| RowWriter::new(&mut row).i64(*value));
            row
        };
        let keys = |op, values: &[i64]| {
            let mut keys = Vec::new();
            keys_of(op, &row(values), &schema, &mut |key: &[u8]| keys.push(key.to_vec())).unwrap();
            keys
        };
        for op in [Op::Insert, Op::Update, Op::Delete, Op::Read] {
            assert_eq!(keys(op, &[1, 2, 3]), [row(&[3, 1])]);
        }
        assert_eq!(keys(Op::Rekey, &[1, 2, 3, 7, 8]), [row(&[3, 1]), row(&[7, 8])]);
        assert_eq!(keys(Op::Tombstone, &[7, 8]), [row(&[7, 8])]);
        assert!(key_of(&row(&[1]), &schema, &mut Vec::new()).is_err());
    }
}
