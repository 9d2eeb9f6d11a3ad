//! How the golden folders were made: by the relay's own writer, with a clock that stands still. Salts and the folder's id are random, so
//! that the bytes differ from one making to the next.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use everrelay::clock::Clock;
use everrelay::disk::SystemDisk;
use everrelay::event::codec::RowWriter;
use everrelay::event::value::{Date, DateTime, Geometry, Instant, Time};
use everrelay::event::{
    Column, ColumnType, Gtid, GtidSet, Op, Seq, TableName, TableNo, TableSchema, Value, Xid,
};
use everrelay::log::followed::Follows;
use everrelay::log::prepared::{Outcome, Prepared, Xa};
use everrelay::log::record::{Batch, Commit, Mark, Position, SchemaRecord, SweepRecord, Synced};
use everrelay::log::snapshot::{Range, SnapshotNote, SnapshotStep};
use everrelay::log::{Gap, LogOptions, Noted, Opened, Shape, open};
use everrelay::settled::{Cursor, CursorStore, IndexId, OwedSweep, Settled};

use super::SINK;

/// 2026-11-23T00:00:00Z.
pub const NOW: u64 = 1_795_392_000_000_000;

/// A case's name, and what makes its pipeline folder.
type Case = (&'static str, fn(&Path));

pub const CASES: [Case; 9] = [
    ("empty", empty),
    ("small", small),
    ("several-segments", several_segments),
    ("open-transaction", open_transaction),
    ("torn-tail", torn_tail),
    ("truncated", truncated),
    ("xa", xa),
    ("snapshot", snapshot),
    ("followed", followed),
];

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";
const ORDERS: TableNo = TableNo(1);
/// A number that takes three bytes in bincode.
const LINES: TableNo = TableNo(300);

#[derive(Clone, Copy)]
struct At(u64);

impl Clock for At {
    fn wall_micros(&self) -> u64 {
        self.0
    }

    fn since_boot(&self) -> Duration {
        Duration::ZERO
    }
}

/// A log being written, second by second.
struct Making {
    opened: Opened<SystemDisk>,
    batch: Batch,
    seconds: Cell<u64>,
    /// With the next commit.
    noted: Noted,
}

impl Making {
    /// Opens the pipeline folder `folder`, `hours` after [`NOW`].
    fn open(folder: &Path, hours: u64) -> Making {
        let now = NOW + hours * 3_600_000_000;
        let options = LogOptions { segment_bytes: 1000, ..LogOptions::default() };
        let opened = open(&SystemDisk, &At(now), &folder.join("log"), options).unwrap();
        let (batch, seconds, noted) = (Batch::new(), Cell::new(hours * 3600), Noted::default());
        Making { opened, batch, seconds, noted }
    }

    fn time(&self) -> u64 {
        self.seconds.set(self.seconds.get() + 1);
        NOW + self.seconds.get() * 1_000_000
    }

    fn position(&self) -> Position {
        let server = *uuid::Uuid::parse_str(A).unwrap().as_bytes();
        let offset = 1000 * self.seconds.get();
        Position { server, file: "binlog.000007".into(), offset, began: offset - 400, by_place: false }
    }

    fn mark(&mut self, gtids: &str) {
        let (synced, gtids) = (Synced::default(), gtids.parse::<GtidSet>().unwrap());
        let (time_micros, position) = (self.time(), self.position());
        let noted = std::mem::take(&mut self.noted);
        self.batch.mark(&Mark { synced, gtids, time_micros, position, noted });
    }

    fn schemas(&mut self) {
        self.batch.schema(&orders());
        self.batch.schema(&lines());
    }

    fn change(&mut self, table: TableNo, op: Op, values: &[Value<'_>]) {
        let mut change = self.batch.change(table);
        let mut row = RowWriter::new(change.values());
        values.iter().for_each(|value| row.value(value));
        change.finish(op);
    }

    fn line(&mut self, op: Op, order: u64, line: u64, text: &str) {
        self.change(LINES, op, &[Value::U64(order), Value::Text(text), Value::U64(line)]);
    }

    /// `gtid`: a set with one member.
    fn commit(&mut self, gtid: &str) {
        self.commit_xa(gtid, Vec::new());
    }

    fn commit_xa(&mut self, gtid: &str, xa: Vec<Xa>) {
        let set: GtidSet = gtid.parse().unwrap();
        let (origin, mut intervals) = set.iter().next().unwrap();
        let gtid = Gtid { origin: origin.clone(), number: intervals.next().unwrap().0 };
        drop(intervals);
        let (time_micros, position) = (self.time(), self.position());
        self.batch.commit(&Commit {
            synced: Synced::default(),
            gtid: Some(gtid),
            time_micros,
            position,
            noted: Noted { xa, ..std::mem::take(&mut self.noted) },
        });
    }

    /// What a source adds on its own: nothing moves where the stream stands.
    fn commit_rows(&mut self) {
        let (synced, position) = (Synced::default(), Position::default());
        let (time_micros, noted) = (self.time(), std::mem::take(&mut self.noted));
        self.batch.commit(&Commit { synced, gtid: None, time_micros, position, noted });
    }

    /// XA transactions without rows of followed tables, in a mark.
    fn mark_xa(&mut self, gtids: &str, xa: Vec<Xa>) {
        let (synced, gtids) = (Synced::default(), gtids.parse::<GtidSet>().unwrap());
        let (time_micros, position) = (self.time(), self.position());
        let noted = Noted { xa, ..Noted::default() };
        self.batch.mark(&Mark { synced, gtids, time_micros, position, noted });
    }

    fn sync(&mut self) {
        self.opened.writer.append(&mut self.batch).unwrap();
        self.opened.writer.sync().unwrap();
    }
}

fn column(name: &str, ty: ColumnType) -> Column {
    Column { name: name.into(), ty, nullable: name != "id" && ty != UNSIGNED }
}

const UNSIGNED: ColumnType = ColumnType::Integer { bits: 64, unsigned: true };

/// A column of every type.
fn orders() -> SchemaRecord {
    let columns = vec![
        column("id", UNSIGNED),
        column("balance", ColumnType::Integer { bits: 32, unsigned: false }),
        column("flags", ColumnType::Bit { bits: 12 }),
        column("year", ColumnType::Year),
        column("ratio", ColumnType::Float),
        column("weight", ColumnType::Double),
        column("price", ColumnType::Decimal { precision: 12, scale: 2 }),
        column("status", ColumnType::Varchar),
        column("note", ColumnType::Text),
        column("photo", ColumnType::Binary),
        column("day", ColumnType::Date),
        column("placed_at", ColumnType::DateTime { decimals: 3 }),
        column("changed_at", ColumnType::Timestamp { decimals: 6 }),
        column("took", ColumnType::Time { decimals: 6 }),
        column("extra", ColumnType::Json),
        column("size", ColumnType::Enum),
        column("options", ColumnType::Set),
        column("place", ColumnType::Geometry),
        column("embedding", ColumnType::Vector { dimensions: 300 }),
        column("trace", ColumnType::Uuid),
        column("host", ColumnType::Inet4),
        column("peer", ColumnType::Inet6),
    ];
    SchemaRecord {
        table: ORDERS,
        schema: TableSchema { name: TableName::new("shop", "orders"), columns, key: vec![0] },
    }
}

/// A key of two columns, not in the row's order.
fn lines() -> SchemaRecord {
    let columns =
        vec![column("order_id", UNSIGNED), column("text", ColumnType::Varchar), column("line", UNSIGNED)];
    let schema = TableSchema { name: TableName::new("shop", "lines"), columns, key: vec![2, 0] };
    SchemaRecord { table: LINES, schema }
}

/// GEOMETRYCOLLECTION(POINT(13.5 52.5), LINESTRING(0 1, 2 -3)), the line big-endian.
const PLACE: &[u8] = b"\x01\x07\0\0\0\x02\0\0\0\x01\x01\0\0\0\0\0\0\0\0\0\x2b\x40\0\0\0\0\0\x40\x4a\x40\
    \0\0\0\0\x02\0\0\0\x02\0\0\0\0\0\0\0\0\x3f\xf0\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\xc0\x08\0\0\0\0\0\0";

/// A value of every kind; `note` in one of the columns.
fn order(id: u64, note: &str) -> Vec<Value<'_>> {
    let date = Date { year: 2026, month: 11, day: 23 };
    vec![
        Value::U64(id),
        Value::I64(-70_000),
        Value::U64(0xABC),
        Value::U64(2026),
        Value::F32(0.1),
        Value::F64(-2.5e-300),
        Value::Decimal("-1234567890.10"),
        Value::Text("new"),
        Value::Text(note),
        Value::Bytes(&[0, 1, 0xFE, 0xFF]),
        Value::Date(date),
        Value::DateTime(DateTime { date, micros: 24_428_120_000, decimals: 3 }),
        Value::Instant(Instant { micros: NOW + 1, decimals: 6 }),
        Value::Time(Time { micros: -3_020_399_000_001, decimals: 6 }),
        Value::Json("{\"a\": [1, 2.5, null], \"b\": \"naïve\"}"),
        Value::Enum("small"),
        Value::Set("gift,express"),
        Value::Geometry(Geometry { srid: 4326, wkb: PLACE }),
        // 0.1, -2.5
        Value::Vector(&[0xCD, 0xCC, 0xCC, 0x3D, 0, 0, 0x20, 0xC0]),
        Value::Text("01234567-89ab-7def-8123-456789abcdef"),
        Value::Text("10.2.0.1"),
        Value::Text("2001:db8::1"),
    ]
}

/// NULL wherever it may be, and the zero date.
fn bare_order(id: u64) -> Vec<Value<'static>> {
    let mut row = vec![Value::Null; orders().schema.columns.len()];
    row[0] = Value::U64(id);
    row[10] = Value::Date(Date { year: 0, month: 0, day: 0 });
    row
}

/// Everything that can be noted.
fn noted(making: &Making) -> Noted {
    let table = |name| TableName::new("shop", name);
    let shape =
        |name, asked_at| Shape { table: table(name), described: vec![1, 2, 3], asked_at, altered: false };
    Noted {
        horizon: format!("{A}:1-30").parse().unwrap(),
        gaps: vec![Gap::new(table("lines"), "DROP COLUMN", NOW)],
        altered: vec![table("lines")],
        shapes: vec![shape("orders", None), shape("lines", Some(making.position()))],
        ..Noted::default()
    }
}

fn settle(folder: &Path, cursor: Option<&Cursor>) {
    let settled = Settled::open(&folder.join("settled")).unwrap();
    if let Some(cursor) = cursor {
        settled.cursor(SINK).unwrap().commit(cursor).unwrap();
    }
    settled.sync().unwrap();
}

fn empty(folder: &Path) {
    Making::open(folder, 0);
    settle(folder, None);
}

/// What docs/log-format.md shows byte by byte.
fn small(folder: &Path) {
    let mut making = Making::open(folder, 0);
    making.mark(&format!("{A}:1-7"));
    making.batch.schema(&lines());
    making.line(Op::Insert, 70_000, 1, "tea");
    making.commit(&format!("{A}:8"));
    making.sync();
    settle(folder, Some(&Cursor::default()));
}

fn several_segments(folder: &Path) {
    let mut making = Making::open(folder, 0);
    making.mark(&format!("{A}:1-7:9-10,{A}:blue:3"));
    making.schemas();
    making.change(ORDERS, Op::Insert, &order(250, "first"));
    making.line(Op::Insert, 250, 1, "a book");
    making.line(Op::Insert, 250, 2, "🦀");
    making.commit(&format!("{A}:11"));
    making.sync();
    making.change(ORDERS, Op::Update, &bare_order(250));
    // The after-image, then the old key in the key's order: line, then order.
    making.change(
        LINES,
        Op::Rekey,
        &[Value::U64(250), Value::Text("a book"), Value::U64(70_000), Value::U64(1), Value::U64(250)],
    );
    making.line(Op::Delete, 250, 2, "🦀");
    making.commit(&format!("{A}:blue:4"));
    making.sync();
    let settled = making.opened.log.visible().seq;
    making.mark(&format!("{A}:1-7:9-20,{A}:blue:3-4,{B}:5"));
    making.sync();
    making.noted = noted(&making);
    // One transaction through several segments.
    let note = "n".repeat(300);
    for id in 0..4 {
        making.change(ORDERS, Op::Insert, &order((1 << 32) + id, &note));
        making.line(Op::Insert, (1 << 32) + id, 1, "");
    }
    making.commit(&format!("{B}:6"));
    making.sync();
    // The relay is started again.
    drop(making);
    let mut making = Making::open(folder, 1);
    making.schemas();
    making.change(ORDERS, Op::Delete, &order(251, "gone"));
    making.noted.altered.push(TableName::new("shop", "orders"));
    making.commit(&format!("{B}:7"));
    making.sync();
    let index = |table: &str| IndexId {
        table: TableName::new("shop", table),
        name: format!("shop.{table}-000001"),
        uuid: format!("uuid-of-{table}"),
        history: Some(table.len() as u32),
        template: (table == "lines").then(|| "shop.{table}-{id}".to_owned()),
    };
    let indices = ["orders", "lines"].map(|table| (format!("shop.{table}"), index(table))).into();
    let gtids = format!("{A}:1-7:9-11,{A}:blue:3-4").parse().unwrap();
    settle(folder, Some(&Cursor { seq: settled, gtids, indices, ..Cursor::default() }));
}

fn open_transaction(folder: &Path) {
    let mut making = Making::open(folder, 0);
    making.mark(&format!("{A}:1-7"));
    making.schemas();
    making.line(Op::Insert, 1, 1, "kept");
    making.commit(&format!("{A}:8"));
    making.sync();
    for line in 1..60 {
        making.line(Op::Insert, 2, line, "of a transaction that did not end before the crash");
    }
    making.sync();
    assert!(making.opened.log.segments().len() > 3);
    settle(folder, Some(&Cursor::default()));
}

/// XA transactions: two that are decided, one of them after a restart; one that is undecided and one without rows; one in one phase.
fn xa(folder: &Path) {
    let xid = |name: &str| Xid::new(1, name.as_bytes(), b"b1").unwrap();
    let prepared = |name: &str, gtid: &str| {
        let gtid = gtid.parse::<GtidSet>().unwrap().only();
        Xa::Prepared(Prepared { xid: xid(name), gtid, time_micros: NOW, held: None })
    };
    let decided = |name: &str, outcome| Xa::Decided { xid: xid(name), outcome };
    let mut making = Making::open(folder, 0);
    making.mark(&format!("{A}:1-7"));
    making.schemas();
    making.batch.hold(true);
    making.line(Op::Insert, 1, 1, "counts after the restart");
    making.change(ORDERS, Op::Insert, &bare_order(1));
    making.line(Op::Delete, 1, 2, "");
    making.commit_xa(&format!("{A}:8"), vec![prepared("counts", &format!("{A}:8"))]);
    making.line(Op::Insert, 2, 1, "rolled back");
    making.commit_xa(&format!("{A}:9"), vec![prepared("rolled back", &format!("{A}:9"))]);
    making.line(Op::Insert, 3, 1, "undecided");
    making.commit_xa(&format!("{A}:10"), vec![prepared("undecided", &format!("{A}:10"))]);
    making.batch.hold(false);
    making.line(Op::Insert, 4, 1, "in between");
    making.commit(&format!("{A}:11"));
    making.mark_xa(&format!("{A}:1-12"), vec![prepared("without rows", &format!("{A}:12"))]);
    making.batch.hold(true);
    making.line(Op::Insert, 5, 1, "in one phase");
    making.commit_xa(&format!("{A}:13"), vec![decided("at once", Outcome::Committed)]);
    making.batch.hold(false);
    making.commit_xa(&format!("{A}:14"), vec![decided("rolled back", Outcome::RolledBack)]);
    making.sync();
    drop(making);
    let mut making = Making::open(folder, 1);
    making.batch.schema(&SchemaRecord { table: ORDERS, ..lines() });
    making.change(ORDERS, Op::Insert, &[Value::U64(6), Value::Text("by another number"), Value::U64(1)]);
    making.commit(&format!("{A}:15"));
    making.commit_xa(&format!("{A}:16"), vec![decided("counts", Outcome::Committed)]);
    making.sync();
    assert!(making.opened.log.segments().len() > 2);
    settle(folder, Some(&Cursor::default()));
}

fn torn_tail(folder: &Path) {
    let mut making = Making::open(folder, 0);
    making.mark(&format!("{A}:1-7"));
    making.schemas();
    making.line(Op::Insert, 1, 1, "kept");
    making.commit(&format!("{A}:8"));
    making.sync();
    making.line(Op::Insert, 1, 2, "lost");
    making.commit(&format!("{A}:9"));
    making.sync();
    let name = format!("log/{:020}.log", making.opened.log.segments()[0].first.0);
    drop(making);
    // Of the last commit's page only a part came to the disk, and behind it what stood there before.
    let file = OpenOptions::new().write(true).open(folder.join(name)).unwrap();
    let length = file.metadata().unwrap().len();
    file.write_all_at(&[0xA5; 30], length - 12).unwrap();
    settle(folder, Some(&Cursor::default()));
}

/// A TRUNCATE among rows of its table, and one of a table that has none.
fn truncated(folder: &Path) {
    let mut making = Making::open(folder, 0);
    making.mark(&format!("{A}:1-7"));
    making.batch.sweep(&SweepRecord::truncated(TableName::new("shop", "orders")));
    making.commit(&format!("{A}:8"));
    making.schemas();
    making.line(Op::Insert, 1, 1, "of before");
    making.commit(&format!("{A}:9"));
    making.batch.sweep(&SweepRecord::truncated(TableName::new("shop", "lines")));
    making.commit(&format!("{A}:10"));
    making.line(Op::Insert, 1, 1, "of after");
    making.commit(&format!("{A}:11"));
    making.sync();
    settle(folder, Some(&Cursor::default()));
}

/// Snapshots of tables: one that ends, one that goes on and is paused, one of some rows and one that is cancelled.
fn snapshot(folder: &Path) {
    let note = |table, step| SnapshotNote { table: TableName::new("shop", table), step };
    let wanted = |filter: Option<&str>| SnapshotStep::Wanted { filter: filter.map(str::to_owned) };
    let range = |number, after: Option<&[u8]>, upto: Option<&[u8]>| Range {
        number,
        after: after.map(<[u8]>::to_vec),
        upto: upto.map(<[u8]>::to_vec),
    };
    let read = |range, after: Option<&[u8]>, rows| SnapshotStep::Read {
        range,
        after: after.map(<[u8]>::to_vec),
        rows,
    };
    let mut making = Making::open(folder, 0);
    making.noted.snapshots = vec![
        note("lines", wanted(None)),
        note("orders", wanted(None)),
        note("returns", wanted(Some("id > 7"))),
        note("gone", wanted(None)),
    ];
    making.noted.gaps = vec![Gap::new(TableName::new("shop", "lines"), "RENAME", NOW)];
    making.mark(&format!("{A}:1-7"));
    making.schemas();
    let ranges = vec![range(1, None, Some(b"k")), range(2, Some(b"k"), None)];
    making.noted.snapshots = vec![
        note("lines", SnapshotStep::Begun { ranges, estimated_rows: 70_000 }),
        note("gone", SnapshotStep::Cancelled),
    ];
    making.commit_rows();
    making.line(Op::Insert, 1, 1, "of the stream");
    making.commit(&format!("{A}:8"));
    making.line(Op::Read, 2, 1, "read");
    making.line(Op::Read, 2, 2, "read");
    making.noted.snapshots = vec![note("lines", read(1, Some(b"b"), 300))];
    making.commit_rows();
    making.sync();
    making.line(Op::Read, 3, 1, "the last of its range");
    making.noted.snapshots = vec![note("lines", read(1, None, 1)), note("lines", read(2, None, 0))];
    making.commit_rows();
    making.batch.sweep(&SweepRecord::of_snapshot(TableName::new("shop", "lines")));
    making.noted.snapshots = vec![note("lines", SnapshotStep::Ended)];
    making.commit_rows();
    let begun = |ranges| SnapshotStep::Begun { ranges, estimated_rows: 2 };
    making.noted.snapshots = vec![
        note("returns", begun(Vec::new())),
        note("orders", begun(vec![range(1, None, None)])),
        note("orders", SnapshotStep::Paused(true)),
    ];
    making.commit_rows();
    making.sync();
    drop(making);
    let mut making = Making::open(folder, 1);
    making.schemas();
    making.change(ORDERS, Op::Read, &bare_order(1));
    making.noted.snapshots =
        vec![note("orders", SnapshotStep::Paused(false)), note("orders", read(1, Some(b"1"), 1))];
    making.commit_rows();
    making.noted.snapshots = vec![note("returns", SnapshotStep::Ended)];
    making.commit_rows();
    making.sync();
    assert!(making.opened.log.segments().len() > 2);
    // Behind the sweep, which goes on.
    let visible = making.opened.log.visible().seq;
    let sweep = OwedSweep { seq: Seq(15), table: TableName::new("shop", "lines"), below: NOW + 4 };
    let gtids = format!("{A}:1-8").parse().unwrap();
    settle(folder, Some(&Cursor { seq: visible, gtids, sweeps: vec![sweep], ..Cursor::default() }));
}

/// A log that comes to follow one table more while an XA transaction is undecided, and one less after a restart; and goes on anew.
fn followed(folder: &Path) {
    let follows = |patterns: &[&str], forgotten: &[&str]| {
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let forgotten = forgotten.iter().map(|table| TableName::new("shop", *table)).collect();
        Some(Follows { patterns, forgotten, anew: false })
    };
    let note = |table| SnapshotNote {
        table: TableName::new("shop", table),
        step: SnapshotStep::Wanted { filter: None },
    };
    let xid = Xid::new(1, b"undecided", b"b1").unwrap();
    let prepared = Prepared { xid, gtid: None, time_micros: NOW, held: None };
    let mut making = Making::open(folder, 0);
    making.noted.follows = follows(&["shop.lines"], &[]);
    making.mark(&format!("{A}:1-7"));
    making.schemas();
    making.line(Op::Insert, 1, 1, "of the one that is followed");
    making.commit(&format!("{A}:8"));
    making.mark_xa(&format!("{A}:1-9"), vec![Xa::Prepared(prepared)]);
    making.sync();
    making.noted.follows = follows(&["shop.*", "!shop.audit_*"], &[]);
    let gap = |table| Gap::new(TableName::new("shop", table), "not followed", NOW);
    making.noted.gaps = vec![gap("orders")];
    making.noted.snapshots = vec![note("orders")];
    making.mark(&format!("{A}:1-9"));
    making.change(ORDERS, Op::Insert, &bare_order(1));
    making.commit(&format!("{A}:10"));
    making.sync();
    drop(making);
    let mut making = Making::open(folder, 1);
    making.schemas();
    making.noted.follows = follows(&["shop.orders"], &["lines"]);
    making.mark(&format!("{A}:1-10"));
    making.change(ORDERS, Op::Insert, &bare_order(2));
    making.commit(&format!("{A}:11"));
    // The operator gives up what was lost.
    making.noted.follows = Some(Follows { anew: true, ..follows(&["shop.orders"], &[]).unwrap() });
    making.noted.gaps = vec![gap("orders")];
    making.noted.snapshots = vec![note("orders")];
    making.mark(&format!("{B}:1-3"));
    making.sync();
    settle(folder, Some(&Cursor::default()));
}
