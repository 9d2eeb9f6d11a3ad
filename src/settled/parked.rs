//! Changes that the engine refuses, each with all that it takes to send it again.
//!
//! # Constraints
//!
//! - What is parked counts as settled, so it is put here in the transaction that moves the cursor past it: a crash leaves a change either unsettled, and
//!   it is sent again, or parked.
//! - One change a document, the newest that was refused.
//! - Nothing in the log is needed for it: its row is kept here, with the columns that it had.
//! - A row is read when it is asked for. [`Parked`] alone is what is held in memory, and holds no value of a row but the document's id.
//!
//! # Format
//!
//! Two trees a sink, `parked NAME` and `parked rows NAME`. The key in both is the table in bincode, then the id; a value is a byte with the version of its
//! encoding, then a [`Parked`], or a row's [`TableSchema`], in bincode 2's standard configuration; the row's bytes follow up to the value's end.

use std::path::Path;

use bincode::{Decode, Encode};

use super::{Settled, SettledError, describe};
use crate::event::{Op, Seq, TableName, TableSchema, codec};

use super::handle::Handle;

/// Version of the encoding of both kinds of values.
const ENCODING: u8 = 1;

/// Limit on what decoding a value may allocate beside the row's own bytes, bytes.
const DECODE_LIMIT: usize = 16 << 20;

/// A change that the engine refused.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Parked {
    pub table: TableName,
    /// The document's id: a row's value, so nothing for a log line.
    pub id: String,
    /// Its record in the log when it was refused; people name it by that.
    pub seq: Seq,
    /// The version that the document would have.
    pub version: u64,
    pub op: Op,
    /// The engine's word for what is wrong, one of a few.
    pub kind: String,
    /// More of it, without values of the row.
    pub reason: String,
    /// When it was parked, microseconds since 1970 UTC.
    pub since_micros: u64,
    /// When it was refused last.
    pub tried_micros: u64,
    /// How often it was refused.
    pub attempts: u32,
    /// What its row takes, columns' names included.
    pub bytes: u64,
}

/// A parked change's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedRow {
    /// As the table was then.
    pub schema: TableSchema,
    /// The columns' values, as [`codec`] has them.
    pub row: Vec<u8>,
}

/// What becomes of a document's parked change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedStep {
    /// It is parked, in the place of what was.
    Parked(Box<Parked>, ParkedRow),
    /// It was refused once more; its row stays.
    Again(Box<Parked>),
    /// It is settled, or forgotten.
    Gone { table: TableName, id: String },
}

impl ParkedStep {
    /// About what it takes in the store, bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let head = |parked: &Parked| 256 + (parked.id.len() + parked.reason.len()) as u64;
        match self {
            ParkedStep::Parked(parked, row) => head(parked) + row.row.len() as u64,
            ParkedStep::Again(parked) => head(parked),
            ParkedStep::Gone { id, .. } => 256 + id.len() as u64,
        }
    }
}

/// The trees of one sink.
#[derive(Debug)]
pub(super) struct ParkedTrees {
    pub parked: Handle<sled::Tree>,
    pub rows: Handle<sled::Tree>,
}

impl ParkedTrees {
    pub fn open(settled: &Settled, name: &str) -> Result<ParkedTrees, SettledError> {
        let open = |tree: String| {
            let opened = settled.db.open_tree(tree).map_err(|error| describe(&settled.path, "open", error));
            opened.map(Handle::new)
        };
        Ok(ParkedTrees {
            parked: open(format!("parked {name}"))?,
            rows: open(format!("parked rows {name}"))?,
        })
    }

    /// Removes both.
    pub fn remove(settled: &Settled, name: &str) -> Result<(), SettledError> {
        for tree in [format!("parked {name}"), format!("parked rows {name}")] {
            settled.db.drop_tree(tree).map_err(|error| describe(&settled.path, "write", error))?;
        }
        Ok(())
    }

    /// All that is parked, by key.
    pub fn all(&self, path: &Path) -> Result<Vec<Parked>, SettledError> {
        let values = self.parked.iter().values();
        values
            .map(|value| match decode(path, &value.map_err(|e| describe(path, "read", e))?)? {
                (parked, []) => Ok(parked),
                _ => Err(damaged(path, "bytes follow a parked change".to_owned())),
            })
            .collect()
    }

    /// The row of a document's parked change.
    pub fn row(&self, path: &Path, table: &TableName, id: &str) -> Result<Option<ParkedRow>, SettledError> {
        let value = self.rows.get(key(table, id)).map_err(|error| describe(path, "read", error))?;
        let row = |value: sled::IVec| {
            let (schema, row) = decode(path, &value)?;
            Ok(ParkedRow { schema, row: row.to_vec() })
        };
        value.map(row).transpose()
    }
}

/// A step as the trees take it.
pub(super) struct Encoded {
    key: Vec<u8>,
    parked: Option<Vec<u8>>,
    row: Option<Vec<u8>>,
}

impl Encoded {
    pub fn of(step: &ParkedStep) -> Encoded {
        match step {
            ParkedStep::Parked(parked, row) => Encoded {
                key: key(&parked.table, &parked.id),
                parked: Some(encode(&**parked)),
                row: Some([encode(&row.schema), row.row.clone()].concat()),
            },
            ParkedStep::Again(parked) => {
                Encoded { key: key(&parked.table, &parked.id), parked: Some(encode(&**parked)), row: None }
            }
            ParkedStep::Gone { table, id } => Encoded { key: key(table, id), parked: None, row: None },
        }
    }

    pub fn apply<E>(
        &self,
        parked: &sled::transaction::TransactionalTree,
        rows: &sled::transaction::TransactionalTree,
    ) -> Result<(), E>
    where
        E: From<sled::transaction::UnabortableTransactionError>,
    {
        match (&self.parked, &self.row) {
            (Some(value), row) => {
                parked.insert(self.key.as_slice(), value.as_slice())?;
                if let Some(row) = row {
                    rows.insert(self.key.as_slice(), row.as_slice())?;
                }
            }
            (None, _) => {
                parked.remove(self.key.as_slice())?;
                rows.remove(self.key.as_slice())?;
            }
        }
        Ok(())
    }
}

fn key(table: &TableName, id: &str) -> Vec<u8> {
    let mut key = Vec::new();
    codec::encode(table, &mut key);
    key.extend_from_slice(id.as_bytes());
    key
}

fn encode<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = vec![ENCODING];
    codec::encode(value, &mut bytes);
    bytes
}

/// A `T`, and what follows it.
fn decode<'v, T: Decode<()>>(path: &Path, value: &'v [u8]) -> Result<(T, &'v [u8]), SettledError> {
    match value.split_first() {
        // bincode's words tell of lengths and variants, not of values.
        Some((&ENCODING, bytes)) => codec::decode_owned::<T, DECODE_LIMIT>(bytes)
            .map_err(|error| damaged(path, format!("a parked change cannot be decoded: {error}"))),
        Some((&found, _)) => Err(SettledError::Format {
            path: path.to_path_buf(),
            found: u32::from(found),
            known: u32::from(ENCODING),
        }),
        None => Err(damaged(path, "a parked change is empty".to_owned())),
    }
}

fn damaged(path: &Path, why: String) -> SettledError {
    SettledError::Damaged { path: path.to_path_buf(), why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Column, ColumnType};
    use crate::settled::{Cursor, CursorStore, MemoryCursor, SledCursor};

    fn parked(id: &str, seq: u64) -> Parked {
        Parked {
            table: TableName::new("shop", "orders"),
            id: id.to_owned(),
            seq: Seq(seq),
            version: 1_700_000_000_000_000 + seq,
            op: Op::Update,
            kind: "document_parsing_exception".into(),
            reason: "document_parsing_exception (400), at column meta".into(),
            since_micros: 7,
            tried_micros: 7,
            attempts: 1,
            bytes: 3,
        }
    }

    fn row(bytes: Vec<u8>) -> ParkedRow {
        let ty = ColumnType::Integer { bits: 64, unsigned: false };
        let columns = vec![Column { name: "id".into(), ty, nullable: false }];
        ParkedRow {
            schema: TableSchema { name: TableName::new("shop", "orders"), columns, key: vec![0] },
            row: bytes,
        }
    }

    fn at(seq: u64) -> Cursor {
        Cursor { seq: Seq(seq), ..Cursor::default() }
    }

    fn gone(id: &str) -> ParkedStep {
        ParkedStep::Gone { table: TableName::new("shop", "orders"), id: id.to_owned() }
    }

    /// What both stores do alike.
    fn keeps_what_is_parked(store: &mut impl CursorStore) {
        let table = TableName::new("shop", "orders");
        let steps = [
            ParkedStep::Parked(Box::new(parked("a", 5)), row(vec![1])),
            ParkedStep::Parked(Box::new(parked("b", 6)), row(vec![2])),
            ParkedStep::Parked(Box::new(parked("", 7)), row(vec![3])),
            gone("never there"),
        ];
        store.settle(&at(7), &steps).unwrap();
        let mut all = store.parked().unwrap();
        all.sort_by_key(|parked| parked.seq);
        assert_eq!(all, [parked("a", 5), parked("b", 6), parked("", 7)]);
        assert_eq!(store.load().unwrap(), Some(at(7)));
        let again = Parked { attempts: 2, ..parked("a", 5) };
        let newer = ParkedStep::Parked(Box::new(parked("", 9)), row(vec![9]));
        store.settle(&at(9), &[ParkedStep::Again(Box::new(again.clone())), gone("b"), newer]).unwrap();
        let mut all = store.parked().unwrap();
        all.sort_by_key(|parked| parked.seq);
        assert_eq!(all, [again, parked("", 9)]);
        assert_eq!(store.parked_row(&table, "a").unwrap(), Some(row(vec![1])));
        assert_eq!(store.parked_row(&table, "").unwrap(), Some(row(vec![9])));
        assert_eq!(store.parked_row(&table, "b").unwrap(), None);
        store.commit(&at(10)).unwrap();
        assert_eq!(store.parked().unwrap().len(), 2, "a cursor alone changes nothing of them");
    }

    #[test]
    fn one_change_a_document_is_kept_with_its_row_until_it_is_settled() {
        keeps_what_is_parked(&mut MemoryCursor::default());
        let dir = tempfile::tempdir().unwrap();
        let mut store = Settled::open(dir.path()).unwrap().cursor("a").unwrap();
        keeps_what_is_parked(&mut store);
        assert_eq!(store.parked().unwrap().len(), 2);
        drop(store);
        let settled = crate::settled::tests::again(dir.path()).unwrap();
        let reopened: SledCursor = settled.cursor("a").unwrap();
        assert_eq!(reopened.parked().unwrap().len(), 2);
        assert!(settled.cursor("another sink").unwrap().parked().unwrap().is_empty());
    }

    #[test]
    fn what_is_parked_falls_back_with_its_cursor() {
        let kept = MemoryCursor::default();
        let mut store = kept.clone();
        store.settle(&at(5), &[ParkedStep::Parked(Box::new(parked("a", 5)), row(vec![1]))]).unwrap();
        store.sync().unwrap();
        store.settle(&at(6), &[gone("a")]).unwrap();
        kept.lose_unsynced();
        assert_eq!((store.load().unwrap(), store.parked().unwrap().len()), (Some(at(5)), 1));
    }

    #[test]
    fn a_row_as_large_as_rows_may_be_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Settled::open(dir.path()).unwrap().cursor("a").unwrap();
        let large = row(vec![7; 70 << 20]);
        store.settle(&at(5), &[ParkedStep::Parked(Box::new(parked("a", 5)), large.clone())]).unwrap();
        store.sync().unwrap();
        drop(store);
        let store = crate::settled::tests::again(dir.path()).unwrap().cursor("a").unwrap();
        assert_eq!(store.parked_row(&TableName::new("shop", "orders"), "a").unwrap(), Some(large));
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let store = Settled::open(dir.path()).unwrap().cursor("a").unwrap();
        let tree = ParkedTrees::open(&Settled::clone(store.folder()), "a").unwrap().parked;
        tree.insert("k", &[9, 1]).unwrap();
        assert!(matches!(store.parked(), Err(SettledError::Format { found: 9, .. })));
        for bytes in [&[][..], &[ENCODING], &[ENCODING, 4, b'c', b'a', b'n', b'a']] {
            tree.insert("k", bytes).unwrap();
            let error = store.parked().unwrap_err().to_string();
            assert!(error.contains("parked") && !error.contains("cana"), "{error}");
        }
    }
}
