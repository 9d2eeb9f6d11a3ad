//! The corpora's first inputs: what the relay itself writes and what its sources say, from a fixed seed.

use everrelay::event::codec::{self, RowWriter};
use everrelay::event::gtid::Origin;
use everrelay::event::value::{Date, DateTime, Geometry, Instant, Time};
use everrelay::event::{
    Column, ColumnType, Gtid, GtidSet, Op, Seq, TableName, TableNo, TableSchema, Value, Xid,
};
use everrelay::log::prepared::{Held, Outcome, Prepared, Xa};
use everrelay::log::record::{Batch, Commit, HEADER, Kind, Mark, Position, SchemaRecord, State, Synced};
use everrelay::log::{Location, Noted, Standing};
use everrelay::settled::{Cursor, Ended, HowEnded, IndexId, OwedSweep, Parked, Replay, Replayed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::targets::configuration::CANARY;
use crate::targets::folder::{RAW, how};
use crate::targets::format::{EMPTY_STATE, FIRST, frame};

/// A frame's kind and payload.
pub type Record = (u8, Vec<u8>);

/// Per target its inputs.
pub fn all() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut chance = StdRng::seed_from_u64(20_261_123);
    vec![
        ("frames", frames()),
        ("header", headers()),
        ("folder", folders()),
        ("damage", (0..8).map(|n| (0..9 * (n + 1)).map(|_| chance.random()).collect()).collect()),
        ("records", records()),
        ("documents", documents()),
        ("gtids", gtids()),
        ("configuration", configurations()),
        ("cursor", cursors()),
        ("parked", parked()),
        ("json", json()),
        ("diffs", diffs()),
        ("rows", rows()),
        ("selected", selected()),
        ("statements", statements()),
        ("answers", answers()),
        ("events", [crate::stream_seeds::events(), crate::mariadb_seeds::events()].concat()),
        ("compressed", crate::mariadb_seeds::compressed()),
        ("payload", crate::stream_seeds::payloads()),
    ]
}

// ---- the log's records ----

/// GEOMETRYCOLLECTION(POINT(5 5), GEOMETRYCOLLECTION EMPTY), the latter big-endian.
const COLLECTION: &[u8] = b"\x01\x07\0\0\0\x02\0\0\0\x01\x01\0\0\0\0\0\0\0\0\0\x14\x40\0\0\0\0\0\0\x14\x40\
    \0\0\0\0\x07\0\0\0\0";

fn values() -> Vec<Value<'static>> {
    let date = Date { year: 2026, month: 11, day: 23 };
    vec![
        Value::Null,
        Value::I64(-1),
        Value::U64(1_000_000),
        Value::F32(1.5),
        Value::F64(f64::MAX),
        Value::Decimal("-007.50"),
        Value::Text("naïve \"quoted\" \\ 🦀\n"),
        Value::Bytes(&[0, 255, 10]),
        Value::Date(date),
        Value::DateTime(DateTime { date, micros: 86_399_999_999, decimals: 6 }),
        Value::Instant(Instant { micros: 1_795_392_000_000_000, decimals: 3 }),
        Value::Time(Time { micros: -3_020_399_000_001, decimals: 6 }),
        Value::Json("{\"a\": [1, null]}"),
        Value::Enum("small"),
        Value::Set("a,b"),
        Value::Geometry(Geometry { srid: 4326, wkb: COLLECTION }),
        Value::Vector(&[0, 0, 0x80, 0x3F, 0, 0, 0xC0, 0x7F]),
    ]
}

/// A column for each kind of value, and an id before them.
pub fn schema(table: u32) -> SchemaRecord {
    let types = [
        ColumnType::Varchar,
        ColumnType::Integer { bits: 64, unsigned: false },
        ColumnType::Bit { bits: 20 },
        ColumnType::Float,
        ColumnType::Double,
        ColumnType::Decimal { precision: 10, scale: 2 },
        ColumnType::Text,
        ColumnType::Binary,
        ColumnType::Date,
        ColumnType::DateTime { decimals: 6 },
        ColumnType::Timestamp { decimals: 3 },
        ColumnType::Time { decimals: 6 },
        ColumnType::Json,
        ColumnType::Enum,
        ColumnType::Set,
        ColumnType::Geometry,
        ColumnType::Vector { dimensions: 2 },
    ];
    let id =
        Column { name: "id".into(), ty: ColumnType::Integer { bits: 32, unsigned: true }, nullable: false };
    let columns =
        types.iter().zip(0..).map(|(ty, n)| Column { name: format!("c{n}"), ty: *ty, nullable: true });
    let columns: Vec<Column> = std::iter::once(id).chain(columns).collect();
    let name = TableName::new("shop", format!("t{table}"));
    SchemaRecord { table: TableNo(table), schema: TableSchema { name, columns, key: vec![0, 1] } }
}

pub fn change(batch: &mut Batch, table: u32, op: Op) {
    let mut change = batch.change(TableNo(table));
    let mut row = RowWriter::new(change.values());
    if op != Op::Tombstone {
        row.u64(7);
        values().iter().for_each(|value| row.value(value));
    }
    if matches!(op, Op::Rekey | Op::Tombstone) {
        row.u64(6);
        row.text("old");
    }
    change.finish(op);
}

fn gtid(number: u64, tag: &str) -> Gtid {
    Gtid { origin: Origin::Server { uuid: [0x3E; 16], tag: tag.to_owned() }, number }
}

pub fn set() -> GtidSet {
    let text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7:9-10,3e11fa47-71ca-11e1-9e33-c80aa9429563:blue:5";
    text.parse().expect("a GTID set")
}

pub fn mark(gtids: GtidSet) -> Mark {
    let position = Position {
        server: [9; 16],
        file: "binlog.000002".into(),
        offset: 70_000,
        began: 69_000,
        by_place: true,
    };
    Mark {
        synced: Synced::default(),
        gtids,
        time_micros: 1_795_392_000_000_000,
        position,
        noted: Default::default(),
    }
}

fn commit(number: u64) -> Commit {
    let Mark { synced, position, time_micros, .. } = mark(GtidSet::default());
    Commit { synced, gtid: Some(gtid(number, "blue")), time_micros, position, noted: Default::default() }
}

/// A start, a transaction of every op, and one that is open.
fn history() -> Vec<Record> {
    let mut batch = Batch::new();
    batch.mark(&mark(set()));
    batch.schema(&schema(300));
    for op in [Op::Insert, Op::Update, Op::Rekey, Op::Delete, Op::Tombstone, Op::Read] {
        change(&mut batch, 300, op);
    }
    batch.commit(&commit(1));
    change(&mut batch, 300, Op::Insert);
    batch.commit(&commit(2));
    change(&mut batch, 300, Op::Insert);
    batch.payloads().map(|(kind, payload)| (kind as u8, payload.to_vec())).collect()
}

/// Rows that are held and their PREPARE, one that holds nothing, and decisions.
fn xa_history() -> Vec<Record> {
    let mut batch = Batch::new();
    batch.mark(&mark(set()));
    batch.schema(&schema(300));
    batch.hold(true);
    change(&mut batch, 300, Op::Update);
    batch.commit(&commit_xa(1, vec![Xa::Prepared(prepared())]));
    let held = None;
    let without = Prepared { xid: xid("without"), held, ..prepared() };
    let noted = Noted { xa: vec![Xa::Prepared(without)], ..Noted::default() };
    batch.mark(&Mark { noted, ..mark(set()) });
    let decided = |name, outcome| Xa::Decided { xid: xid(name), outcome };
    batch.commit(&commit_xa(2, vec![decided("without", Outcome::RolledBack)]));
    batch.commit(&commit_xa(3, vec![decided("other", Outcome::Committed)]));
    batch.payloads().map(|(kind, payload)| (kind as u8, payload.to_vec())).collect()
}

fn xid(name: &str) -> Xid {
    Xid::new(1, name.as_bytes(), b"branch").expect("a short xid")
}

/// Says that its rows stand where [`xa_history`] has them in a first file: behind the state and the mark.
fn prepared() -> Prepared {
    let mut before = Vec::new();
    codec::encode(&mark(set()), &mut before);
    let offset = 64 + (HEADER + EMPTY_STATE.len() + HEADER + before.len()) as u64;
    let at = Location { segment: Seq(FIRST.first), offset };
    let held = Held { first: Seq(FIRST.first + 2), at, last: Seq(FIRST.first + 3), rows: 1, bytes: 2_000 };
    Prepared { xid: xid("held"), gtid: Some(gtid(5, "")), time_micros: 7, held: Some(held) }
}

fn commit_xa(number: u64, xa: Vec<Xa>) -> Commit {
    Commit { noted: Noted { xa, ..Noted::default() }, ..commit(number) }
}

fn state(open_since: Option<u64>) -> Record {
    let mut payload = Vec::new();
    let standing = Standing { prepared: vec![prepared()], ..Standing::after(set()) };
    let state = State { standing: Some(standing), open_since: open_since.map(Seq), latest_micros: 7 };
    codec::encode(&state, &mut payload);
    (Kind::State as u8, payload)
}

/// Commits and marks whose payload begins with `synced`.
fn known_synced(records: &mut [Record], synced: u64) {
    for (_, payload) in records.iter_mut().filter(|(kind, _)| matches!(kind, 4 | 5)) {
        payload[..8].copy_from_slice(&synced.to_le_bytes());
    }
}

fn frames() -> Vec<Vec<u8>> {
    let written = |records: &[Record]| -> Vec<u8> {
        let frames = records.iter().zip(FIRST.first + 1..);
        frames.flat_map(|((kind, payload), seq)| frame(*kind, 0, seq, FIRST.salt, payload)).collect()
    };
    let whole = written(&history());
    let mut later = history();
    // What the last commit knows to be synced ends behind the first mark.
    let first = written(&later[..1]).len() as u64;
    known_synced(&mut later[1..], 64 + 21 + first);
    let known = written(&later);
    let mut holed = known.clone();
    holed[200..260].fill(0);
    let mut torn = known.clone();
    torn[90..100].fill(0);
    vec![Vec::new(), whole.clone(), whole[..whole.len() - 30].to_vec(), known, holed, torn]
}

fn headers() -> Vec<Vec<u8>> {
    let made = |how: u8, header: crate::targets::format::Header| {
        let bytes = header.bytes();
        let kept = if how & 1 == 1 { 60 } else { 64 };
        [&[how], &bytes[..kept]].concat()
    };
    let last = crate::targets::format::Header { first: u64::MAX - 1, base: u64::MAX, ..FIRST };
    let follows =
        crate::targets::format::Header { first: 9, previous_first: 1, previous_bytes: 400, ..FIRST };
    let zero = crate::targets::format::Header { first: 0, ..FIRST };
    vec![made(0, FIRST), made(1, FIRST), made(3, FIRST), made(1, last), made(1, follows), made(1, zero)]
}

/// A file of [`crate::targets::folder`]'s input.
fn file(how: u8, head: &[u8], records: &[Record]) -> Vec<u8> {
    let mut bytes = vec![how];
    bytes.extend(head);
    for (kind, payload) in records {
        bytes.push(*kind);
        bytes.extend((payload.len() as u16).to_le_bytes());
        bytes.extend(payload);
    }
    bytes.push(0);
    bytes
}

fn folders() -> Vec<Vec<u8>> {
    let history = history();
    let whole = file(0, &[], &history[..9]);
    let open = file(0, &[], &history);
    // The open transaction began with the last frame of the file before: the state, then twelve frames of the history, from seq 1 on.
    let inside = [state(Some(13)), history[1].clone(), history[2].clone()];
    let goes_on = file(how::OWN_STATE, &[], &inside);
    let ends = file(
        how::OWN_STATE,
        &[],
        &[state(Some(13)), history[1].clone(), history[2].clone(), history[8].clone()],
    );
    let torn = file(0, &[], &[history[0].clone(), (RAW, vec![0xA5; 40])]);
    let raw = vec![(RAW, vec![0; 90]), (RAW, b"EVRLYLOG".to_vec())];
    let other = file(how::OTHER_NAME, &[0], &raw);
    let mut own_header = Vec::new();
    for number in [u64::MAX - 2, u64::MAX, 1, 300] {
        own_header.extend(number.to_le_bytes());
    }
    own_header.extend(7u32.to_le_bytes());
    let far = file(how::OWN_HEADER, &own_header, &history[..9]);
    let unknown = file(0, &[], &[history[0].clone(), (9, vec![1, 2, 3]), (0x83, vec![4])]);
    // Numbers that no GTID has, and intervals that no set has.
    let mut commit = commit(u64::MAX);
    let number = |commit: &Commit| {
        let mut payload = Vec::new();
        codec::encode(commit, &mut payload);
        (Kind::Commit as u8, payload)
    };
    let beyond = file(0, &[], &[history[0].clone(), number(&commit)]);
    commit.gtid = Some(Gtid { number: 0, ..gtid(1, "blue") });
    let none = file(0, &[], &[history[0].clone(), number(&commit)]);
    let xa = file(0, &[], &xa_history());
    let reversed = file(how::OWN_STATE, &[], &[(1, stored_state(&[(9, 3)])), history[0].clone()]);
    vec![
        Vec::new(),
        whole.clone(),
        [whole.clone(), whole.clone(), open.clone()].concat(),
        [open.clone(), goes_on.clone(), goes_on].concat(),
        [open, ends].concat(),
        [whole.clone(), torn].concat(),
        [whole.clone(), other].concat(),
        [whole.clone(), far.clone()].concat(),
        far,
        unknown,
        beyond,
        none,
        reversed,
        xa.clone(),
        [xa, whole].concat(),
        file(0, &[], &crate::snapshot_seeds::history()),
    ]
}

fn records() -> Vec<Vec<u8>> {
    let mut all = history();
    all.extend(xa_history().into_iter().skip(2));
    all.extend(crate::snapshot_seeds::history());
    all.push(crate::snapshot_seeds::state());
    all.push(state(None));
    all.push(state(Some(70_000)));
    all.push((1, EMPTY_STATE.to_vec()));
    // As many columns as a limit lets through, and more.
    for count in [60_000u32, u32::MAX] {
        all.push((2, [&[1, 1, b'a', 1, b'b', 252][..], &count.to_le_bytes()].concat()));
    }
    all.push((6, [&[7; 8][..], b"\x04shop", b"\x06orders", &[0]].concat()));
    all.into_iter().map(|(kind, payload)| [&[kind - 1], payload.as_slice()].concat()).collect()
}

fn documents() -> Vec<Vec<u8>> {
    let history = history();
    let (_, schema) = &history[1];
    let with = |change: &[u8]| [&(schema.len() as u16).to_le_bytes(), schema.as_slice(), change].concat();
    history[2..6].iter().map(|(_, change)| with(change)).collect()
}

/// A set whose origins have these intervals, of whatever kind they are.
fn stored_set(intervals: &[(u64, u64)], origins: u8) -> Vec<u8> {
    let mut stored = vec![origins];
    for _ in 0..origins {
        stored.push(0);
        stored.extend([0x3E; 16]);
        stored.push(0);
        stored.push(intervals.len() as u8);
        for (start, end) in intervals {
            codec::encode(start, &mut stored);
            codec::encode(end, &mut stored);
        }
    }
    stored
}

/// A state's payload with such a set.
fn stored_state(intervals: &[(u64, u64)]) -> Vec<u8> {
    // The position and its time, no horizon, no gaps, no shapes, no XA transaction, no snapshot, no open transaction, no time.
    [&[1], &stored_set(intervals, 1)[..], &[0; 16], &[0; 5], &[0; 5], &[0; 2]].concat()
}

fn gtids() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "3E11FA47-71CA-11E1-9E33-C80AA9429562:1-7:9-10",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7:blue:5-6:9,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:3",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-9223372036854775806\x003e11fa47-71ca-11e1-9e33-c80aa9429562:5",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:5:4:3-9:1\x003e11fa47-71ca-11e1-9e33-c80aa9429562:4-5",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| [&[0], text.as_bytes()].concat()).collect();
    let mut stored = vec![1];
    codec::encode(&set(), &mut stored);
    all.push(stored);
    let sets: [&[(u64, u64)]; 6] =
        [&[(1, 8)], &[(9, 3)], &[(1, 4), (4, 6)], &[(5, 9), (1, 7)], &[(0, 1)], &[(1, u64::MAX)]];
    all.extend(sets.iter().map(|set| [&[1], &stored_set(set, 1)[..]].concat()));
    all.push([&[1], &stored_set(&[(1, 8)], 2)[..]].concat());
    // Listed by a PREVIOUS_GTIDS event, without and with tags.
    for (head, tag) in [(1, &b""[..]), (1 << 56 | 1 << 8 | 1, b"\x08blue")] {
        let mut listed = [&[2], &u64::to_le_bytes(head)[..], &[7; 16], tag].concat();
        [2_u64, 1, 6, 8, 9].iter().for_each(|number| listed.extend_from_slice(&number.to_le_bytes()));
        all.push(listed);
    }
    all
}

fn cursors() -> Vec<Vec<u8>> {
    let index = IndexId {
        table: TableName::new("shop", "t"),
        name: "shop.t-000001".into(),
        uuid: "u1".into(),
        history: Some(9),
        template: Some("t-{d:%Y.%m}".into()),
    };
    let sweeps = vec![OwedSweep { seq: Seq(300), table: TableName::new("shop", "t"), below: u64::MAX }];
    let indices = [("shop.t".to_owned(), index)].into();
    let replay = |ended| Replay {
        number: 2,
        from: Seq(300),
        end: Seq(70_000),
        tables: vec!["shop.*".to_owned(), "!shop.b".to_owned()],
        indices: vec!["t-2026.*".to_owned()],
        since_micros: 1_700_000_000_000_000,
        slice: ([0, 0], [u64::MAX, u64::MAX]),
        place: Seq(400),
        horizon: Seq(60_000),
        noted: Seq(60_000),
        counts: Replayed { indexed: 70_000, deleted: 3, ..Replayed::default() },
        ended,
    };
    let failed = HowEnded::Failed("no longer kept".to_owned());
    let replays =
        [None, Some(HowEnded::Done), Some(failed)].map(|how| replay(how.map(|how| Ended { micros: 7, how })));
    let cursor = Cursor { seq: Seq(70_000), gtids: set(), indices, sweeps, replay: None };
    let stored = |cursor: &Cursor| {
        let mut value = vec![6];
        codec::encode(cursor, &mut value);
        value
    };
    let mut all = vec![Vec::new(), vec![2, 7], stored(&Cursor::default()), stored(&cursor)];
    all.extend(replays.map(|replay| stored(&Cursor { replay: Some(replay), ..cursor.clone() })));
    all
}

fn parked() -> Vec<Vec<u8>> {
    let (table, ty) = (TableName::new("shop", "t"), ColumnType::Integer { bits: 64, unsigned: false });
    let parked = Parked {
        table: table.clone(),
        id: "7".into(),
        seq: Seq(70_000),
        version: u64::MAX,
        op: Op::Update,
        kind: "document_parsing_exception".into(),
        reason: "document_parsing_exception (400), at column meta".into(),
        since_micros: 1,
        tried_micros: 2,
        attempts: 3,
        bytes: 4,
    };
    let columns = ["id", "meta"].map(|name| Column { name: name.into(), ty, nullable: false });
    let schema = TableSchema { name: table, columns: columns.into(), key: vec![0] };
    let (mut change, mut row) = (vec![0, 1], vec![1, 1]);
    codec::encode(&parked, &mut change);
    codec::encode(&schema, &mut row);
    let mut values = RowWriter::new(&mut row);
    values.i64(7);
    values.i64(-1);
    vec![vec![0], vec![1, 9], change, row]
}

// ---- what people write ----

fn configurations() -> Vec<Vec<u8>> {
    let source = "[source]\nurl = \"mysql://relay@db:3306\"\ntables = [\"shop.*\", \"!shop.audit_*\"]\n";
    let sink = "[sink]\nurl = \"https://search:9200\"\n";
    let texts = [
        format!("{source}{sink}"),
        format!(
            "{source}start = \"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-7\"\ntls = \"required\"\nmax_row_bytes = 1048576\n{sink}\
             insecure = true\n[state]\ndir = \"/tmp/x\"\n[log]\nsegment_bytes = 1048576\nretention_seconds = 60\nretention_bytes = 1\n\
             [admin]\nlisten = \"127.0.0.1:1\"\n"
        ),
        format!("{source}password = \"{CANARY}\"\n{sink}"),
        format!("[source]\nurl = \"mysql://relay:{CANARY}@db\"\ntables = []\n{sink}"),
        format!("{source}max_row_bytes = \"{CANARY}\"\n{sink}"),
        format!("{source}{sink}api_key_env = \"NO_SUCH_VARIABLE\"\n"),
        format!("{source}[sink]\nurl = \"https://user:{CANARY}@search:9200\"\n"),
        format!("[source\nurl = {CANARY}"),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

// ---- what MySQL sends ----

/// An object or array of small numbers: entries of type and bytes.
fn container(kind: u8, keys: &[&str], entries: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let head = 4 + 4 * keys.len() + 3 * entries.len();
    let (mut table, mut data) = (Vec::new(), Vec::<u8>::new());
    for key in keys {
        table.extend(((head + data.len()) as u16).to_le_bytes());
        table.extend((key.len() as u16).to_le_bytes());
        data.extend(key.as_bytes());
    }
    for (kind, value) in entries {
        table.push(*kind);
        if matches!(kind, 4..=6) {
            table.extend(value);
        } else {
            table.extend(((head + data.len()) as u16).to_le_bytes());
            data.extend(value);
        }
    }
    let mut bytes = Vec::new();
    bytes.extend((entries.len() as u16).to_le_bytes());
    bytes.extend(((head + data.len()) as u16).to_le_bytes());
    bytes.extend(table);
    bytes.extend(data);
    if kind == u8::MAX { bytes } else { [&[kind], bytes.as_slice()].concat() }
}

fn json() -> Vec<Vec<u8>> {
    let double = |value: f64| (0x0B, value.to_le_bytes().to_vec());
    let text = |text: &str| (0x0C, [&[text.len() as u8], text.as_bytes()].concat());
    let opaque = |ty: u8, bytes: &[u8]| (0x0F, [&[ty, bytes.len() as u8], bytes].concat());
    let inner = container(u8::MAX, &[], &[(5, vec![7, 0]), (4, vec![0, 0]), double(1e300), double(0.1)]);
    let scalars = [
        text("a\"b\\c\n\u{1}🦀"),
        opaque(246, &[5, 2, 0x80, 1, 50]),
        opaque(252, &[1, 2, 3]),
        opaque(12, &[0; 8]),
    ];
    vec![
        Vec::new(),
        vec![4, 1],
        container(0, &["a", "key"], &[(2, inner.clone()), (5, vec![0xFF, 0xFF])]),
        container(2, &[], &scalars),
        container(2, &[], &[(2, inner), (0x09, i64::MIN.to_le_bytes().to_vec()), (0x0A, vec![0xFF; 8])]),
    ]
}

/// A document, and what becomes of it: replaced, inserted, removed.
fn diffs() -> Vec<Vec<u8>> {
    let inner = container(u8::MAX, &[], &[(5, vec![7, 0]), (4, vec![0, 0])]);
    let object = container(0, &["a", "key"], &[(2, inner.clone()), (5, vec![0xFF, 0xFF])]);
    let array = container(2, &[], &[(2, inner), (4, vec![2, 0])]);
    let diff = |operation: u8, path: &str, value: &[u8]| {
        let mut bytes = vec![operation, path.len() as u8];
        bytes.extend(path.as_bytes());
        if operation < 2 {
            bytes.push(value.len() as u8);
            bytes.extend(value);
        }
        bytes
    };
    let of = |document: &[u8], diffs: &[Vec<u8>]| {
        [&(document.len() as u16).to_le_bytes(), document, &diffs.concat()].concat()
    };
    vec![
        of(&object, &[]),
        of(
            &object,
            &[diff(0, "$.key", &[4, 1]), diff(1, "$.\"q \\\"\"", &[5, 1, 0]), diff(2, "$.a[last]", &[])],
        ),
        of(&array, &[diff(1, "$[2]", &object), diff(1, "$[0][9]", &[4, 0]), diff(0, "$[last-1]", &[4, 1])]),
    ]
}

/// A row of the table of [`rows`], by SELECT.
fn selected() -> Vec<Vec<u8>> {
    let definition = |collation: u16, kind: u8, flags: u16, decimals: u8| {
        let mut packet = b"\x03def\x04shop\x01t\x01t\x01c\x01c\x0c".to_vec();
        packet.extend(collation.to_le_bytes());
        packet.extend([0; 4]);
        packet.push(kind);
        packet.extend(flags.to_le_bytes());
        packet.extend([decimals, 0, 0]);
        [&(packet.len() as u16).to_le_bytes(), packet.as_slice()].concat()
    };
    let definitions = [
        definition(63, 3, 32, 0),
        definition(255, 253, 0, 0),
        definition(63, 246, 0, 2),
        definition(63, 12, 128, 3),
        definition(63, 245, 144, 0),
        definition(63, 5, 0, 31),
    ];
    let mut input = rows().swap_remove(0);
    let map = usize::from(u16::from_le_bytes([input[0], input[1]]));
    input.truncate(2 + map);
    input.push(definitions.len() as u8);
    input.extend(definitions.concat());
    let mut row = vec![0, 1, 0, 0, 0];
    row.extend(b"\x02hi\x041.50\x0b\xEA\x07\x0b\x17\x06\x2f\x08\x88\x13\x00\x00\x04true");
    row.extend(1.5f64.to_le_bytes());
    let nulls = [&input[..], &[0b1111_1000, 1, 0, 0, 0]].concat();
    vec![[input, row].concat(), nulls]
}

fn rows() -> Vec<Vec<u8>> {
    // id INT UNSIGNED PRIMARY KEY, note VARCHAR(100), price DECIMAL(10,2), at DATETIME(3), doc JSON, x DOUBLE, g GEOMETRY, v VECTOR(2).
    let mut map = vec![5, 0, 0, 0, 0, 0, 1, 0];
    map.extend(b"\x04shop\0\x01t\0");
    map.extend([8, 3, 15, 246, 18, 245, 5, 255, 242]);
    map.extend([9, 100, 0, 10, 2, 3, 4, 8, 4, 4, 0xFE]);
    // Signedness, default collation, names, primary key.
    map.extend([1, 1, 0x80, 2, 1, 255]);
    map.extend(b"\x04\x1c\x02id\x04note\x05price\x02at\x03doc\x01x\x01g\x01v");
    map.extend([8, 1, 0, 13, 1, 2]);
    let image = |id: u8| -> Vec<u8> {
        let mut image = vec![0, id, 0, 0, 0, 2, b'h', b'i', 0x80, 0, 0, 1, 50];
        image.extend([0x99, 0xBA, 0xEE, 0x6B, 0x08, 0x04, 0xB0]);
        image.extend([2, 0, 0, 0, 4, 1]);
        image.extend(1.5f64.to_le_bytes());
        image.extend((COLLECTION.len() as u32 + 4).to_le_bytes());
        image.extend(4326_u32.to_le_bytes());
        image.extend(COLLECTION);
        image.extend([8, 0, 0, 0, 0, 0, 0x80, 0x3F, 0, 0, 0, 0x40]);
        image
    };
    let event = |how: u8, images: &[Vec<u8>]| {
        let mut bytes = (map.len() as u16).to_le_bytes().to_vec();
        bytes.extend(&map);
        bytes.push(how);
        bytes.extend([5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0xFF]);
        if how % 2 == 1 {
            bytes.push(0xFF);
        }
        bytes.extend(images.concat());
        bytes
    };
    // The key and a price, as MINIMAL has it.
    let key = |id: u8| vec![0, id, 0, 0, 0];
    let mut minimal = event(1, &[key(1), vec![0, 0x80, 0, 0, 2, 0]]);
    let bitmaps = minimal.len() - 13;
    minimal[bitmaps..bitmaps + 2].copy_from_slice(&[0b0000_0001, 0b0000_0100]);
    let mut deleted = event(2, &[key(1), key(2)]);
    let bitmap = deleted.len() - 11;
    deleted[bitmap] = 1;
    // A document's member becomes true, by differences.
    let document = |bytes: &[u8]| {
        let mut row = image(1);
        let at = row.len() - 14;
        row.splice(at..at + 6, [&(bytes.len() as u32).to_le_bytes(), bytes].concat());
        row
    };
    let object = container(0, &["a"], &[(4, vec![0, 0])]);
    let diffs = [&[0, 3][..], b"$.a", &[2, 4, 1], &[2, 3], b"$.a", &[1, 3], b"$.b", &[3, 5, 7, 0]].concat();
    let partial = event(3, &[document(&object), vec![1, 1], document(&diffs)]);
    vec![
        event(0, &[image(1), image(2)]),
        event(1, &[image(1), image(3)]),
        event(2, &[image(1)]),
        minimal,
        deleted,
        partial,
    ]
}

fn statements() -> Vec<Vec<u8>> {
    let texts = [
        "BEGIN",
        "/*!50100 ROLLBACK TO SAVEPOINT */ `a`",
        "XA COMMIT X'61',X'',1",
        "CREATE TABLE `t` (id INT PRIMARY KEY) START TRANSACTION",
        "ALTER TABLE shop.orders ADD COLUMN `note` VARCHAR(20) DEFAULT 'it''s' NOT NULL, DROP INDEX \"i\"",
        "DROP TABLE IF EXISTS `orders`,`shop`.`lines` /* generated by server */",
        "DROP DATABASE shop",
        "INSERT INTO orders (id) SELECT id FROM other.t -- of another\n WHERE note = '\\'' # and so on",
        "GRANT SELECT ON *.* TO 'u'@'%'; UPDATE lines, other.t SET lines.a = 1",
    ];
    texts
        .iter()
        .map(|text| {
            // Thread and seconds, the schema's length, no error, the status variables' length: sql_mode (0) and character sets (45).
            let mut body = vec![0; 8];
            body.extend([4, 0, 0, 16, 0]);
            body.extend([1, 0, 0, 0, 0, 0, 0, 0, 0]);
            body.extend([4, 45, 0, 45, 0, 45, 0]);
            body.extend(b"shop\0");
            body.extend(text.as_bytes());
            body
        })
        .collect()
}

// ---- what an engine answers ----

fn answers() -> Vec<Vec<u8>> {
    let item = |verb: &str, id: &str, end: &str| {
        format!("{{\"{verb}\":{{\"_index\":\"a.b-000001\",\"_id\":\"{id}\",{end}}}}}")
    };
    let done =
        |result: &str, status: u16| format!("\"_version\":7,\"result\":\"{result}\",\"status\":{status}");
    let refused = |status: u16, kind: &str, reason: &str| {
        format!("\"status\":{status},\"error\":{{\"type\":\"{kind}\",\"reason\":\"{reason}\"}}")
    };
    let all = |ends: [String; 3]| {
        let [one, two, three] = ends;
        let items = [item("index", "1", &one), item("index", "2", &two), item("delete", "3", &three)];
        format!("{{\"took\":1,\"errors\":false,\"items\":[{}]}}", items.join(","))
    };
    let conflict = "[1]: version conflict, current version [9] is higher than the one provided [7]";
    let bodies = [
        all([done("created", 201), done("updated", 200), done("deleted", 200)]),
        all([done("created", 201), done("noop", 200), done("not_found", 404)]),
        all([
            refused(409, "version_conflict_engine_exception", conflict),
            refused(400, "document_parsing_exception", "failed to parse field [id] of type [long]"),
            refused(429, "es_rejected_execution_exception", "rejected"),
        ]),
        "{\"error\":{\"type\":\"security_exception\",\"reason\":\"no\"},\"status\":403}".to_owned(),
        "<html>Bad Gateway</html>".to_owned(),
    ];
    let with = |status: u8| bodies.iter().map(move |body| [&[status], body.as_bytes()].concat());
    with(0).chain(with(3)).chain(with(6)).collect()
}
