//! What the log costs: `cargo bench --bench log`. Each line is defined where the bench lines are (`name value unit`).
//!
//! A throw-away pass first, since the first touch of memory and files costs many times the second; then the limit and the subject
//! alternate three times and medians are printed.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::event::codec::RowWriter;
use everrelay::event::gtid::Origin;
use everrelay::event::{Column, ColumnType, Gtid, GtidSet, Op, Seq, TableName, TableNo, TableSchema};
use everrelay::log::record::{Batch, Commit, HEADER, Mark, Position, SchemaRecord, Synced};
use everrelay::log::{LogOptions, Opened, open};

const RECORDS: u64 = 1_500_000;
const RECORD_BYTES: usize = 300;
/// Rows in a transaction.
const TRANSACTION: u64 = 100;
/// What one group commit writes, bytes.
const GROUP_BYTES: usize = 4 << 20;
const DURABLE_APPENDS: usize = 300;
const ROUNDS: usize = 3;

const TABLE: TableNo = TableNo(1);

fn main() {
    // On the disk that the target folder is on, not on one in memory.
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-log"));
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root).expect("the target folder can be written");
    let mut lines: Vec<(&str, &str, Vec<f64>)> = Vec::new();
    for round in 0..=ROUNDS {
        let measured = [
            ("log.share_of_sequential_write", "ratio"),
            ("log.records_per_cpu_second", "records/s"),
            ("log.write_mb_per_second", "MB/s"),
            ("log.read_bytes_per_cpu_second", "bytes/s"),
            ("log.durable_append_vs_fdatasync", "ratio"),
            ("log.durable_append_p50_us", "us"),
            ("log.open_torn_segment_ms", "ms"),
        ];
        let values = measure(&root);
        for ((name, unit), value) in measured.into_iter().zip(values) {
            match lines.iter_mut().find(|line| line.0 == name) {
                _ if round == 0 => {}
                Some(line) => line.2.push(value),
                None => lines.push((name, unit, vec![value])),
            }
        }
    }
    for (name, unit, mut values) in lines {
        values.sort_by(f64::total_cmp);
        println!("{name} {:.3} {unit}", values[values.len() / 2]);
    }
    let _ = std::fs::remove_dir_all(&root);
}

fn measure(root: &Path) -> [f64; 7] {
    let dir = root.join("log");
    let (wall, cpu, bytes) = append(&dir);
    let plain = sequential_write(&root.join("plain"), bytes);
    let read = read(&dir);
    let torn = open_torn(&dir);
    std::fs::remove_dir_all(&dir).expect("what was written can be removed");
    let (one, limit) = durable(&dir, &root.join("plain"));
    std::fs::remove_dir_all(&dir).expect("what was written can be removed");
    let rate = bytes as f64 / wall;
    [plain / wall, RECORDS as f64 / cpu, rate / 1e6, read, one / limit, one * 1e6, torn * 1e3]
}

/// CPU of this thread, seconds.
fn cpu() -> f64 {
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.expect("the first field is the time on a processor") / 1e9
}

fn start(dir: &Path) -> (Opened<SystemDisk>, Batch) {
    let mut opened = open(&SystemDisk, &SystemClock, dir, LogOptions::default()).expect("a new log opens");
    let mut batch = Batch::new();
    let (synced, position) = (Synced::default(), Position::default());
    batch.mark(&Mark { synced, gtids: GtidSet::default(), time_micros: 0, position });
    let column = Column { name: "row".into(), ty: ColumnType::Binary, nullable: false };
    let schema = TableSchema { name: TableName::new("shop", "orders"), columns: vec![column], key: vec![0] };
    batch.schema(&SchemaRecord { table: TABLE, schema });
    opened.writer.append(&mut batch).expect("the disk has room");
    opened.writer.sync().expect("the disk syncs");
    (opened, batch)
}

/// One record of [`RECORD_BYTES`], head included.
fn record(batch: &mut Batch, row: &[u8]) {
    let mut change = batch.change(TABLE);
    RowWriter::new(change.values()).bytes(row);
    change.finish(Op::Insert);
}

fn commit(batch: &mut Batch, number: u64) {
    let origin = Origin { uuid: [7; 16], tag: String::new() };
    let position = Position { server: [7; 16], file: "binlog.000001".into(), offset: number * 30_000 };
    let (synced, gtid) = (Synced::default(), Gtid { origin, number });
    batch.commit(&Commit { synced, gtid, time_micros: number, position });
}

/// op, table, tag and a length of three bytes stand before the row's bytes.
fn row() -> Vec<u8> {
    (0..RECORD_BYTES - HEADER - 6).map(|i| i as u8).collect()
}

/// Wall and CPU seconds, and the bytes written.
fn append(dir: &Path) -> (f64, f64, u64) {
    let (Opened { mut writer, log, .. }, mut batch) = start(dir);
    let row = row();
    let (wall, used) = (Instant::now(), cpu());
    for number in 1..=RECORDS / TRANSACTION {
        for _ in 0..TRANSACTION {
            record(&mut batch, black_box(&row));
        }
        commit(&mut batch, number);
        if batch.len() >= GROUP_BYTES {
            writer.append(&mut batch).expect("the disk has room");
            writer.sync().expect("the disk syncs");
        }
    }
    writer.append(&mut batch).expect("the disk has room");
    writer.sync().expect("the disk syncs");
    (wall.elapsed().as_secs_f64(), cpu() - used, log.stats().bytes)
}

/// Seconds for as many bytes, a megabyte a write, and one fdatasync.
fn sequential_write(path: &Path, bytes: u64) -> f64 {
    let chunk = vec![0xA5; 1 << 20];
    let _ = std::fs::remove_file(path);
    let wall = Instant::now();
    let file = File::create_new(path).expect("the target folder can be written");
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(chunk.len() as u64);
        file.write_all_at(&chunk[..length as usize], at).expect("the disk has room");
        at += length;
    }
    file.sync_data().expect("the disk syncs");
    wall.elapsed().as_secs_f64()
}

/// Bytes per CPU second, from the page cache.
fn read(dir: &Path) -> f64 {
    let Opened { log, .. } =
        open(&SystemDisk, &SystemClock, dir, LogOptions::default()).expect("it opens again");
    let mut reader = log.reader(Seq(1)).expect("nothing was removed");
    let used = cpu();
    let mut bytes = 0;
    while let Some(frame) = reader.next_frame().expect("the log is whole") {
        bytes += black_box(frame.payload).len() + HEADER;
    }
    bytes as f64 / (cpu() - used)
}

/// Seconds to open a log whose last segment is full and has bad bytes behind, in the page cache.
fn open_torn(dir: &Path) -> f64 {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("it was just read").flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    // As if the process had ended when the second segment was full.
    for later in files.drain(2..) {
        std::fs::remove_file(later).expect("what was written can be removed");
    }
    let last = File::options().write(true).open(&files[1]).expect("it was just read");
    let length = last.metadata().expect("it is open").len();
    last.write_all_at(&vec![0x5A; 1 << 20], length).expect("the disk has room");
    let begun = Instant::now();
    let opened = open(&SystemDisk, &SystemClock, dir, LogOptions::default()).expect("it opens again");
    black_box(opened.recovered);
    begun.elapsed().as_secs_f64()
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// Median seconds of one record made durable, and of as many bytes written to a file that grows alike and fdatasync, turn by turn:
/// the disk's own mood is the same for both.
fn durable(dir: &Path, plain: &Path) -> (f64, f64) {
    let (Opened { mut writer, .. }, mut batch) = start(dir);
    let _ = std::fs::remove_file(plain);
    let file = File::create_new(plain).expect("the target folder can be written");
    let row = row();
    let bytes = [0xA5; RECORD_BYTES + 80];
    let (mut appends, mut writes) = (Vec::new(), Vec::new());
    for number in 0..DURABLE_APPENDS {
        let begun = Instant::now();
        record(&mut batch, &row);
        commit(&mut batch, number as u64 + 1);
        writer.append(&mut batch).expect("the disk has room");
        writer.sync().expect("the disk syncs");
        appends.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        file.write_all_at(&bytes, (number * bytes.len()) as u64).expect("the disk has room");
        file.sync_data().expect("the disk syncs");
        writes.push(begun.elapsed().as_secs_f64());
    }
    (median(appends), median(writes))
}
