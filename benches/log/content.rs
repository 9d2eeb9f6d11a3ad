//! The records: 300 bytes each, head included, in transactions of 100.

use everrelay::event::codec::RowWriter;
use everrelay::event::gtid::Origin;
use everrelay::event::{Column, ColumnType, Gtid, GtidSet, Op, TableName, TableNo, TableSchema};
use everrelay::log::record::{Batch, Commit, HEADER, Mark, Position, SchemaRecord, Synced};

pub const RECORD_BYTES: usize = 300;
/// Rows in a transaction.
pub const TRANSACTION: u64 = 100;

const TABLE: TableNo = TableNo(1);

/// The start of a log, and the schema of the one table.
pub fn start(batch: &mut Batch) {
    let (synced, position) = (Synced::default(), Position::default());
    batch.mark(&Mark {
        synced,
        gtids: GtidSet::default(),
        time_micros: 0,
        position,
        noted: Default::default(),
    });
    schema(batch);
}

/// The schema of the one table.
pub fn schema(batch: &mut Batch) {
    let column = Column { name: "row".into(), ty: ColumnType::Binary, nullable: false };
    let schema = TableSchema { name: TableName::new("shop", "orders"), columns: vec![column], key: vec![0] };
    batch.schema(&SchemaRecord { table: TABLE, schema });
}

/// One record of [`RECORD_BYTES`].
pub fn record(batch: &mut Batch, row: &[u8]) {
    let mut change = batch.change(TABLE);
    RowWriter::new(change.values()).bytes(row);
    change.finish(Op::Insert);
}

pub fn commit(batch: &mut Batch, number: u64) {
    let origin = Origin::Server { uuid: [7; 16], tag: String::new() };
    let position = Position {
        server: [7; 16],
        file: "binlog.000001".into(),
        offset: number * 30_000,
        began: number * 30_000 - 29_000,
        by_place: false,
    };
    let (synced, gtid) = (Synced::default(), Gtid { origin, number });
    batch.commit(&Commit {
        synced,
        gtid: Some(gtid),
        time_micros: number,
        position,
        noted: Default::default(),
    });
}

/// op, table, tag and a length of three bytes stand before the row's bytes.
pub fn row() -> Vec<u8> {
    (0..RECORD_BYTES - HEADER - 6).map(|i| i as u8).collect()
}
