//! The log as a whole, on real files with small segments. What each file promises alone is tested beside it.

use std::path::Path;

use super::prepared::{Outcome, Prepared, Xa};
use super::record::{Batch, Change, Commit, Kind, Mark, Position, SchemaRecord, Synced};
use super::*;
use crate::clock::Clock;
use crate::disk::SystemDisk;
use crate::event::codec::RowWriter;
use crate::event::gtid::Origin;
use crate::event::{
    Column, ColumnType, Gtid, GtidSet, Op, TableName, TableNo, TableSchema, Value, Version, Xid,
};

mod bounds;
mod bytes;
mod clock;
mod crashes;
mod cut;
mod cut_crashes;
mod damage;
mod faults;
mod folder;
mod history;
mod model;
mod readers;
mod seek;
mod transactions;
mod verify;
mod verify_content;
mod xa;

/// A clock that stands still.
#[derive(Clone, Copy)]
struct At(u64);

impl Clock for At {
    fn wall_micros(&self) -> u64 {
        self.0
    }

    fn since_boot(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// 2026-11-23.
const NOW: u64 = 1_795_392_000_000_000;

const TABLE: TableNo = TableNo(7);

fn options(segment_bytes: u64) -> LogOptions {
    LogOptions { segment_bytes, ..LogOptions::default() }
}

fn open_at(dir: &Path, segment_bytes: u64) -> Opened<SystemDisk> {
    open(&SystemDisk, &At(NOW), dir, options(segment_bytes)).unwrap()
}

fn schema(table: TableNo) -> SchemaRecord {
    let column =
        Column { name: "id".into(), ty: ColumnType::Integer { bits: 64, unsigned: true }, nullable: false };
    let name = TableName::new("shop", format!("t{}", table.0));
    SchemaRecord { table, schema: TableSchema { name, columns: vec![column], key: vec![0] } }
}

fn gtid(number: u64) -> Gtid {
    Gtid { origin: Origin::Server { uuid: [1; 16], tag: String::new() }, number }
}

fn set(upto: u64) -> GtidSet {
    let mut set = GtidSet::default();
    for number in 1..=upto {
        set.insert(&gtid(number));
    }
    set
}

fn change(batch: &mut Batch, table: TableNo, value: u64) {
    let mut change = batch.change(table);
    RowWriter::new(change.values()).u64(value);
    change.finish(Op::Insert);
}

fn commit(batch: &mut Batch, number: u64) {
    commit_xa(batch, Some(number), Vec::new());
}

/// The xid that stands for a number.
fn xid(number: u64) -> Xid {
    Xid::new(1, &number.to_be_bytes(), b"b").unwrap()
}

fn prepare(number: u64) -> Xa {
    Xa::Prepared(Prepared { xid: xid(number), gtid: Some(gtid(number)), time_micros: NOW, held: None })
}

fn decide(number: u64, outcome: Outcome) -> Xa {
    Xa::Decided { xid: xid(number), outcome }
}

fn commit_xa(batch: &mut Batch, number: Option<u64>, xa: Vec<Xa>) {
    // Ends with a byte that is not 0, so that a frame without its last byte and zeros behind it is not whole by chance.
    let position = Position { offset: 200, ..Position::default() };
    let synced = Synced::default();
    batch.commit(&Commit {
        synced,
        gtid: number.map(gtid),
        time_micros: NOW + number.unwrap_or(0),
        position,
        noted: Noted { xa, ..Noted::default() },
    });
}

fn mark(batch: &mut Batch, gtids: GtidSet) {
    let (synced, position) = (Synced::default(), Position::default());
    batch.mark(&Mark { synced, gtids, time_micros: 0, position, noted: Default::default() });
}

/// A batch with the start of a log and the schema of [`TABLE`].
fn start() -> Batch {
    let mut batch = Batch::new();
    mark(&mut batch, GtidSet::default());
    batch.schema(&schema(TABLE));
    batch
}

/// A transaction of [`TABLE`] with these values.
fn transaction(batch: &mut Batch, number: u64, values: impl IntoIterator<Item = u64>) {
    for value in values {
        change(batch, TABLE, value);
    }
    commit(batch, number);
}

/// A frame as read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    seq: Seq,
    version: Version,
    kind: Kind,
    payload: Vec<u8>,
    at: Location,
}

/// Everything from `from` on, and the error that ended it.
fn read_until<D: crate::disk::Disk>(log: &Log<D>, from: Seq) -> (Vec<Read>, Option<ReadError>) {
    let mut frames = Vec::new();
    let mut reader = match log.reader(from) {
        Ok(reader) => reader,
        Err(error) => return (frames, Some(error)),
    };
    loop {
        match reader.next_frame() {
            Ok(Some(Frame { seq, version, kind, payload, at })) => {
                frames.push(Read { seq, version, kind, payload: payload.to_vec(), at });
            }
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

fn read<D: crate::disk::Disk>(log: &Log<D>, from: Seq) -> Vec<Read> {
    let (frames, error) = read_until(log, from);
    assert!(error.is_none(), "{error:?}");
    frames
}

/// The values of the changes in `frames`.
fn values(frames: &[Read]) -> Vec<u64> {
    values_of(frames, Kind::Change)
}

/// The values of the changes or held rows in `frames`.
fn values_of(frames: &[Read], kind: Kind) -> Vec<u64> {
    let rows = frames.iter().filter(|frame| frame.kind == kind);
    rows.map(|frame| match Change::decode(&frame.payload).unwrap().row.next_value().unwrap() {
        Value::U64(value) => value,
        other => panic!("{other:?}"),
    })
    .collect()
}
