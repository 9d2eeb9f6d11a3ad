//! `everrelay log ls` and `log cat` as people call them: the built program on a state folder, without servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use everrelay::admin::sinks::SinkStatus;
use everrelay::admin::{PipelineStatus, Room};
use everrelay::clock::Clock;
use everrelay::disk::SystemDisk;
use everrelay::event::codec::RowWriter;
use everrelay::event::gtid::Origin;
use everrelay::event::{Column, ColumnType, Gtid, GtidSet, Op, Seq, TableName, TableNo, TableSchema};
use everrelay::log::record::{Batch, Commit, Mark, Position, SchemaRecord, Synced};
use everrelay::log::{LogOptions, Opened};
use everrelay::settled::{Cursor, CursorStore, Settled};
use serde_json::Value;

/// 2026-11-23T06:00:00Z: the log is made then, and transaction N commits N minutes later.
const SIX: u64 = 1_795_413_600_000_000;
const MINUTE: u64 = 60_000_000;
const TRANSACTIONS: u64 = 20;
const UUID: &str = "07070707-0707-0707-0707-070707070707";

#[derive(Clone, Copy)]
struct AtSix;

impl Clock for AtSix {
    fn wall_micros(&self) -> u64 {
        SIX
    }

    fn since_boot(&self) -> std::time::Duration {
        std::time::Duration::ZERO
    }
}

/// A state folder with a log, and a configuration that names both. Nothing answers at the addresses in it.
struct Folder {
    dir: tempfile::TempDir,
    opened: Option<Opened<SystemDisk>>,
}

impl Folder {
    /// Transaction N inserts row N into shop.orders, and every fifth one also into shop.items; some six segments.
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let options = LogOptions { segment_bytes: 700, ..LogOptions::default() };
        let log = dir.path().join("state/main/log");
        let mut opened = everrelay::log::open(&SystemDisk, &AtSix, &log, options).unwrap();
        let mut batch = Batch::new();
        let (synced, position) = (Synced::default(), Position::default());
        batch.mark(&Mark {
            synced,
            gtids: GtidSet::default(),
            time_micros: 0,
            position,
            noted: Default::default(),
        });
        for (number, table) in [(1, "orders"), (2, "items")] {
            let ty = ColumnType::Integer { bits: 64, unsigned: true };
            let columns = vec![Column { name: "id".into(), ty, nullable: false }];
            let schema = TableSchema { name: TableName::new("shop", table), columns, key: vec![0] };
            batch.schema(&SchemaRecord { table: TableNo(number), schema });
        }
        for number in 1..=TRANSACTIONS {
            insert(&mut batch, TableNo(1), number);
            if number % 5 == 0 {
                insert(&mut batch, TableNo(2), number);
            }
            let gtid = Gtid { origin: Origin::Server { uuid: [7; 16], tag: String::new() }, number };
            let position = Position { file: "binlog.000001".into(), offset: number, ..Position::default() };
            batch.commit(&Commit {
                synced,
                gtid: Some(gtid),
                time_micros: SIX + number * MINUTE,
                position,
                noted: Default::default(),
            });
            opened.writer.append(&mut batch).unwrap();
            opened.writer.sync().unwrap();
        }
        let folder = Folder { dir, opened: Some(opened) };
        folder.configure("127.0.0.1:1");
        folder
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn configure(&self, admin: &str) {
        let state = self.path().join("state");
        let config = format!(
            "[source]\nurl = \"mysql://relay@127.0.0.1:1\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://127.0.0.1:1\"\n\
             [state]\ndir = {state:?}\n[admin]\nlisten = {admin:?}\n"
        );
        std::fs::write(self.path().join("everrelay.toml"), config).unwrap();
    }

    fn settle(&self, seq: Seq) -> Settled {
        let settled = Settled::open(&self.path().join("state/main/settled")).unwrap();
        let mut store = settled.cursor("main").unwrap();
        store.commit(&Cursor { seq, ..Cursor::default() }).unwrap();
        store.sync().unwrap();
        settled
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everrelay"));
        command.arg("log").args(arguments).arg("--config").arg(self.path().join("everrelay.toml"));
        command
    }

    /// Exit code, and both outputs.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(text).unwrap())
    }

    /// The lines of a command that succeeds.
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let (code, text) = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ids of the rows that `log cat` prints.
    fn rows(&self, arguments: &[&str]) -> Vec<u64> {
        let lines = self.json(&[&["cat"], arguments].concat());
        lines
            .iter()
            .filter(|line| line["kind"] == "insert")
            .map(|line| line["row"]["id"].as_u64().unwrap())
            .collect()
    }
}

fn insert(batch: &mut Batch, table: TableNo, id: u64) {
    let mut change = batch.change(table);
    RowWriter::new(change.values()).u64(id);
    change.finish(Op::Insert);
}

/// Rows of the transactions `range`.
fn expected(range: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    range.flat_map(|number| vec![number; if number % 5 == 0 { 2 } else { 1 }]).collect()
}

#[test]
fn cat_begins_and_ends_at_a_record_a_time_or_a_gtid() {
    let folder = Folder::new();
    let all = folder.json(&["cat"]);
    assert!(all.iter().zip(1..).all(|(line, seq)| line["seq"] == seq));
    assert_eq!(folder.rows(&[]), expected(1..=20));

    let gtid = |numbers: &str| format!("{UUID}:{numbers}");
    assert_eq!(folder.rows(&["--from", "2026-11-23T06:08:00Z"]), expected(8..=20));
    assert_eq!(
        folder.rows(&["--from", "2026-11-23T07:07:30+01:00", "--to", "2026-11-23T06:12:00Z"]),
        expected(8..=11)
    );
    assert_eq!(folder.rows(&["--from", "2026-11-23"]), expected(1..=20));
    assert_eq!(folder.rows(&["--from", &gtid("13")]), expected(13..=20));
    assert_eq!(folder.rows(&["--from", &gtid("13"), "--to", &gtid("15")]), expected(13..=15));
    assert_eq!(folder.rows(&["--from", &gtid("1-17")]), expected(18..=20));
    assert_eq!(folder.rows(&["--to", &gtid("1-3")]), expected(1..=3));
    assert_eq!(folder.rows(&["--from", &gtid("13"), "--to", &gtid("12")]), [0; 0]);
    assert_eq!(folder.rows(&["--to", "2100-01-01"]), expected(1..=20));

    let middle = all.len() / 2;
    let (from, to) = (middle.to_string(), (middle + 4).to_string());
    assert_eq!(folder.json(&["cat", "--from", &from, "--to", &to]), all[middle - 1..middle + 4]);
    assert_eq!(folder.json(&["cat", "--from", &from, "--limit", "2"]), all[middle - 1..=middle]);
    assert!(folder.json(&["cat", "--limit", "0"]).is_empty());
    let (code, text) = folder.run(&["cat", "--from", &gtid("13"), "--to", &gtid("13")]);
    assert!(code == 0 && text.contains("insert  shop.orders {\"id\":13}"), "{text}");
}

#[test]
fn cat_of_a_table_has_its_changes_and_the_commits_that_end_their_transactions() {
    let folder = Folder::new();
    for patterns in [&["shop.items"][..], &["shop.*", "!shop.orders"], &["*.item?"]] {
        let arguments: Vec<&str> = patterns.iter().flat_map(|pattern| ["--table", pattern]).collect();
        let lines = folder.json(&[&["cat"], &arguments[..]].concat());
        let seen: Vec<_> = lines
            .iter()
            .map(|line| match line["kind"].as_str().unwrap() {
                "insert" => format!("{} {}", line["table"].as_str().unwrap(), line["id"].as_str().unwrap()),
                "commit" => line["gtids"].as_str().unwrap().to_owned(),
                other => other.to_owned(),
            })
            .collect();
        let expected = [5, 10, 15, 20].map(|n| [format!("shop.items {n}"), format!("{UUID}:{n}")]).concat();
        assert_eq!(seen, expected, "{patterns:?}");
    }
    assert_eq!(folder.json(&["cat", "--table", "shop.items", "--limit", "3"]).len(), 3);
    assert!(folder.json(&["cat", "--table", "other.*"]).is_empty());
    let (code, text) = folder.run(&["cat", "--table", "items"]);
    assert!(code == 2 && text.contains("write schema.table"), "{code}: {text}");
}

#[test]
fn a_place_that_is_none_and_one_that_the_log_does_not_hold_are_answered() {
    let folder = Folder::new();
    for place in ["yesterday", "2026-11-23T06:08:00", "-5", "07070707:7"] {
        let (code, text) = folder.run(&["cat", "--from", place]);
        assert_eq!(code, 2, "{place}: {text}");
        for form in ["4711", "2026-11-23T06:47:08Z", "uuid:7"] {
            assert!(text.contains(form), "{place}: {text}");
        }
    }
    let end = folder.opened.as_ref().unwrap().log.visible().seq;
    let above = [
        format!("{UUID}:21"),
        format!("{UUID}:1-20"),
        "2100-01-01".to_owned(),
        end.next().next().to_string(),
    ];
    for place in &above {
        let (code, text) = folder.run(&["cat", "--from", place]);
        let said = format!("is not in the log, which ends with frame {end}");
        assert!(code == 2 && text.contains(&said), "{place}: {code}: {text}");
    }
    // Just past the end is the place to go on from.
    assert!(folder.json(&["cat", "--from", &end.next().to_string()]).is_empty());

    let log = &folder.opened.as_ref().unwrap().log;
    let start = log.segments()[2].first;
    assert_eq!(log.retain(start, u64::MAX).unwrap().segments, 2);
    for place in [&format!("{UUID}:1"), &format!("{UUID}:1-2"), "2026-11-23", "1"] {
        for side in ["--from", "--to"] {
            let (code, text) = folder.run(&["cat", side, place]);
            if side == "--to" && place == "1" {
                assert!(code == 0 && text.is_empty(), "{text}");
                continue;
            }
            let said = format!("the log starts with {}{start}", if place == "1" { "" } else { "frame " });
            assert!(code == 2 && text.contains(&said), "{side} {place}: {code}: {text}");
        }
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let folder = Folder::new();
    // More than a pipe holds.
    let mut batch = Batch::new();
    for number in 0..20_000 {
        insert(&mut batch, TableNo(1), number);
    }
    let gtid =
        Gtid { origin: Origin::Server { uuid: [7; 16], tag: String::new() }, number: TRANSACTIONS + 1 };
    let (synced, position) = (Synced::default(), Position::default());
    batch.commit(&Commit { synced, gtid: Some(gtid), time_micros: SIX, position, noted: Default::default() });
    let mut folder = folder;
    let writer = &mut folder.opened.as_mut().unwrap().writer;
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    for arguments in [&["cat"][..], &["cat", "--json"], &["ls"]] {
        let mut child =
            folder.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            !line.is_empty() && output.stderr.is_empty() && output.status.code() == Some(0),
            "{output:?}"
        );
    }
}

#[test]
fn ls_says_what_each_segment_holds_and_who_needs_it() {
    let mut folder = Folder::new();
    let segments = folder.opened.as_ref().unwrap().log.segments();
    assert!(segments.len() > 4, "{segments:?}");
    // Settled up to the end of the second segment, and one record into the third.
    for more in [0, 1] {
        let cursor = Seq(segments[1].last.unwrap().0 + more);
        drop(folder.settle(cursor));
        let lines = folder.json(&["ls"]);
        assert_eq!(lines.len(), segments.len());
        let mut gtids = GtidSet::default();
        let mut until = 0;
        for (i, (line, segment)) in lines.iter().zip(&segments).enumerate() {
            assert_eq!((&line["first"], &line["bytes"]), (&segment.first.0.into(), &segment.bytes.into()));
            assert_eq!(
                (&line["last"], &line["created_micros"]),
                (&segment.last.unwrap().0.into(), &SIX.into())
            );
            let needed: &[&str] = match i {
                0 | 1 => &["retention"],
                _ if i + 1 == segments.len() => &["writing", "sink main"],
                _ => &["sink main"],
            };
            assert_eq!(line["needed_by"], serde_json::json!(needed), "{i}");
            let own: GtidSet = line["gtids"].as_str().unwrap().parse().unwrap();
            assert_eq!(line["commits_after_micros"], until, "{i}");
            until = line["commits_until_micros"].as_u64().unwrap();
            gtids.union(&own);
            let last = gtids.count();
            assert_eq!(until, if last == 0 { 0 } else { SIX + last * MINUTE });
            let cat = folder.json(&[
                "cat",
                "--from",
                &segment.first.to_string(),
                "--to",
                &line["last"].to_string(),
            ]);
            let commits = cat.iter().filter(|line| line["kind"] == "commit").count();
            assert_eq!(commits as u64, own.count());
        }
        assert_eq!(gtids.to_string(), format!("{UUID}:1-{TRANSACTIONS}"));
    }
    let (code, text) = folder.run(&["ls"]);
    assert_eq!(code, 0, "{text}");
    for part in
        ["retention", "writing, sink main", "2026-11-23T06:20:00Z", &format!("{UUID}:1-"), "being written"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // No relay has ever settled anything.
    std::fs::remove_dir_all(folder.path().join("state/main/settled")).unwrap();
    assert_eq!(folder.json(&["ls"])[0]["needed_by"], serde_json::json!(["sink main"]));
    assert!(!folder.path().join("state/main/settled").exists(), "a look makes no folder");
    // The end of an open transaction is not visible, and its segments are being written.
    let mut batch = Batch::new();
    (0..200).for_each(|id| insert(&mut batch, TableNo(1), id));
    folder.opened.as_mut().unwrap().writer.append(&mut batch).unwrap();
    let lines = folder.json(&["ls"]);
    assert!(lines.len() > segments.len() + 2);
    let last = lines.last().unwrap();
    assert_eq!((&last["last"], &last["gtids"]), (&Value::Null, &"".into()));
    assert_eq!(last["needed_by"], serde_json::json!(["writing", "sink main"]));
}

#[test]
fn ls_asks_the_relay_that_holds_the_state_folder_and_else_says_why_it_does_not_know() {
    let folder = Folder::new();
    let second = folder.opened.as_ref().unwrap().log.segments()[1].last.unwrap();
    // As a relay would.
    let _held = folder.settle(Seq(0));
    let (code, text) = folder.run(&["ls"]);
    assert!(
        code == 0 && text.contains("unknown") && text.contains("no relay answers at 127.0.0.1:1"),
        "{code}: {text}"
    );
    let lines = folder.json(&["ls"]);
    assert!(lines.iter().all(|line| line["needed_by"].is_null()));
    assert!(lines[0]["needed_by_unknown"].as_str().unwrap().contains("locked"), "{:?}", lines[0]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    folder.configure(&listener.local_addr().unwrap().to_string());
    let cursor = Cursor { seq: second, ..Cursor::default() };
    let sinks = vec![SinkStatus::new("main", true, &cursor, &[])];
    let pipeline = PipelineStatus::new(&folder.opened.as_ref().unwrap().log, sinks, Room::default());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let read = stream.read(&mut request).unwrap();
        assert!(request[..read].starts_with(b"GET /status "));
        let status =
            serde_json::json!({ "version": "", "ready": true, "obstacles": {}, "pipeline": pipeline });
        let body = status.to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
    });
    let lines = folder.json(&["ls"]);
    answering.join().unwrap();
    assert_eq!(lines[1]["needed_by"], serde_json::json!(["retention"]));
    assert_eq!(lines[2]["needed_by"], serde_json::json!(["sink main"]));
}
