//! `everrelay log verify` and `log cut` on a state folder that a stopped relay left, without servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::event::codec::RowWriter;
use everrelay::event::gtid::{Gtid, GtidSet, Origin};
use everrelay::event::{Column, ColumnType, Op, Seq, TableName, TableNo, TableSchema};
use everrelay::log::record::{Batch, Commit, Kind, Mark, Position, SchemaRecord, Synced};
use everrelay::log::{LogOptions, Noted, Opened, Recovered};
use everrelay::settled::{Cursor, CursorStore, IndexId, Settled};
use serde_json::Value;
use tempfile::TempDir;

const UUID: &str = "01010101-0101-0101-0101-010101010101";
const TRANSACTIONS: u64 = 12;

/// A state folder with a log of several segments, a cursor at its end, and a configuration.
struct Folder {
    dir: TempDir,
    /// The last frame.
    end: Seq,
}

fn gtids(upto: u64) -> GtidSet {
    format!("{UUID}:1-{upto}").parse().unwrap()
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 400, ..LogOptions::default() }
}

fn open(log: &Path) -> Opened<SystemDisk> {
    everrelay::log::open(&SystemDisk, &SystemClock, log, options()).unwrap()
}

fn transaction(batch: &mut Batch, number: u64) {
    let mut change = batch.change(TableNo(1));
    RowWriter::new(change.values()).u64(number);
    change.finish(Op::Insert);
    let origin = Origin::Server { uuid: [1; 16], tag: String::new() };
    let (synced, gtid) = (Synced::default(), Gtid { origin, number });
    batch.commit(&Commit {
        synced,
        gtid: Some(gtid),
        time_micros: 1,
        position: Position { offset: 7, ..Position::default() },
        noted: Noted::default(),
    });
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder { dir, end: Seq(0) };
        let Opened { mut writer, log, .. } = open(&folder.log());
        let mut batch = Batch::new();
        let (synced, position) = (Synced::default(), Position::default());
        batch.mark(&Mark {
            synced,
            gtids: GtidSet::default(),
            time_micros: 0,
            position,
            noted: Default::default(),
        });
        let ty = ColumnType::Integer { bits: 64, unsigned: true };
        let columns = vec![Column { name: "id".into(), ty, nullable: false }];
        let name = TableName::new("shop", "orders");
        batch
            .schema(&SchemaRecord { table: TableNo(1), schema: TableSchema { name, columns, key: vec![0] } });
        for number in 1..=TRANSACTIONS {
            transaction(&mut batch, number);
            writer.append(&mut batch).unwrap();
            writer.sync().unwrap();
        }
        let end = log.visible().seq;
        folder.set_cursor(end, gtids(TRANSACTIONS));
        let config = format!(
            "[source]\nurl = \"mysql://relay@127.0.0.1:1\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://127.0.0.1:1\"\n\
             [state]\ndir = {:?}\n",
            folder.state()
        );
        fs::write(folder.config(), config).unwrap();
        Folder { end, ..folder }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("everrelay.toml")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn log(&self) -> PathBuf {
        self.state().join("main/log")
    }

    fn settled(&self) -> PathBuf {
        self.state().join("main/settled")
    }

    fn set_cursor(&self, seq: Seq, gtids: GtidSet) {
        let settled = Settled::open(&self.settled()).unwrap();
        let mut store = settled.cursor("main").unwrap();
        store.commit(&Cursor { seq, gtids, indices: indices(), ..Cursor::default() }).unwrap();
        store.sync().unwrap();
    }

    fn cursor(&self) -> Cursor {
        Settled::open(&self.settled()).unwrap().cursor("main").unwrap().load().unwrap().unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let paths = fs::read_dir(self.log()).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        paths.sort();
        paths
    }

    /// Flips a byte in the middle of a segment, and returns its name.
    fn damage(&self, segment: usize) -> String {
        let path = &self.segments()[segment];
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() * 2 / 3;
        bytes[middle] ^= 0x40;
        fs::write(path, bytes).unwrap();
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    /// Everything below the state folder but sled's own files, which a look may touch.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let (mut found, mut folders) = (Vec::new(), vec![self.state()]);
        while let Some(folder) = folders.pop().filter(|folder| *folder != self.settled()) {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path)
                } else {
                    found.push((path.clone(), fs::read(path).unwrap()))
                }
            }
        }
        found.sort();
        found
    }

    /// Exit code, standard output, standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everrelay"));
        command.args(arguments).arg("--config").arg(self.config()).stdin(Stdio::null());
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn json(&self, arguments: &[&str]) -> (i32, Vec<Value>) {
        let (code, out, error) = self.run(&[arguments, &["--json"]].concat());
        assert!(!error.contains("panicked"), "{error}");
        (code, out.lines().map(|line| serde_json::from_str(line).expect(line)).collect())
    }

    /// The numbers of the transactions in the log.
    fn numbers(&self) -> Vec<u64> {
        let log = everrelay::log::read_only(&SystemDisk, &self.log()).unwrap().log;
        let (mut reader, mut numbers) = (log.reader(log.retained_start()).unwrap(), Vec::new());
        while let Some(frame) = reader.next_frame().unwrap() {
            if frame.kind == Kind::Commit {
                numbers.push(Commit::decode(frame.payload).unwrap().gtid.unwrap().number);
            }
        }
        numbers
    }
}

fn indices() -> std::collections::BTreeMap<String, IndexId> {
    let index = IndexId {
        table: TableName::new("shop", "orders"),
        name: "x-000001".into(),
        uuid: "u".into(),
        history: None,
        template: None,
    };
    [("shop.orders".to_owned(), index)].into()
}

#[test]
fn a_whole_log_is_said_to_be_whole_beside_a_process_that_has_it_open_and_without_one() {
    let folder = Folder::new();
    for deep in [&[][..], &["--deep"]] {
        let before = folder.files();
        let (code, out, _) = folder.run(&[&["log", "verify"], deep].concat());
        assert!(code == 0 && out.contains("the log is whole"), "{code}: {out}");
        let (code, lines) = folder.json(&[&["log", "verify"], deep].concat());
        let [summary] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((code, &summary["kind"], &summary["whole"]), (0, &"summary".into(), &true.into()));
        assert_eq!(summary["last"], folder.end.0);
        assert_eq!(folder.files(), before, "a check changes nothing");
    }
    let mut held = open(&folder.log());
    let mut batch = Batch::new();
    let (synced, position) = (Synced::default(), Position::default());
    batch.mark(&Mark {
        synced,
        gtids: gtids(TRANSACTIONS),
        time_micros: 0,
        position,
        noted: Default::default(),
    });
    held.writer.append(&mut batch).unwrap();
    let (code, out, _) = folder.run(&["log", "verify", "--deep"]);
    assert!(code == 0 && out.contains("the log is whole"), "{code}: {out}");
}

#[test]
fn damage_is_named_with_its_place_and_the_cut_that_the_check_names_mends_it() {
    let all = Folder::new().segments().len();
    for segment in 0..all {
        let folder = Folder::new();
        let name = folder.damage(segment);
        let (code, lines) = folder.json(&["log", "verify"]);
        let (summary, findings) = lines.split_last().unwrap();
        if segment + 1 == all && code == 0 {
            // Nothing says that the last batch was synced: a torn tail, which the next start cuts.
            assert_eq!(findings[0]["kind"], "torn_tail");
            continue;
        }
        let [finding] = findings else { panic!("{findings:?}") };
        assert_eq!((code, &finding["kind"], &finding["damage"]), (5, &"frame".into(), &true.into()));
        assert!(finding["path"].as_str().unwrap().ends_with(&name) && finding["offset"].as_u64() > Some(63));
        let after = summary["cut_after"].as_u64().unwrap();
        assert!(after < finding["seq"].as_u64().unwrap() && summary["cut_bytes"].as_u64() > Some(0));
        let (_, out, _) = folder.run(&["log", "verify"]);
        let command = format!("everrelay log cut --after {after}`");
        assert!(out.contains(&command) && out.contains(&name), "{out}");

        let before = folder.files();
        let cut = ["log", "cut", "--after", &after.to_string()];
        let (code, out, error) = folder.run(&cut);
        assert!(
            code == 2 && error.contains("--yes") && error.contains("nothing was changed"),
            "{code}: {error}"
        );
        assert!(out.contains(&format!("from {} to {after}", folder.end)), "{out}");
        assert_eq!(folder.files(), before, "not confirmed, nothing changes");

        let (code, lines) = folder.json(&[&cut[..], &["--yes"]].concat());
        let [plan, done] = &lines[..] else { panic!("{lines:?}") };
        assert_eq!((code, plan["after"].as_u64(), &plan["whole"]), (0, Some(after), &false.into()));
        assert_eq!(plan["cursors"][0]["from"], folder.end.0);
        let kept = PathBuf::from(done["kept"].as_str().unwrap());
        assert!(kept.starts_with(folder.state().join("main/cut")) && kept.is_dir());
        let (code, lines) = folder.json(&["log", "verify", "--deep"]);
        assert_eq!((code, lines.len()), (0, 1), "{lines:?}");

        let cursor = folder.cursor();
        let numbers = folder.numbers();
        let left = numbers.len() as u64;
        assert_eq!(numbers, (1..=left).collect::<Vec<_>>());
        assert_eq!(cursor.seq, Seq(after));
        assert_eq!(cursor.gtids, if left == 0 { GtidSet::default() } else { gtids(left) });
        assert_eq!(cursor.indices, indices());
        let Opened { writer, recovered, .. } = open(&folder.log());
        assert_eq!((recovered, writer.position()), (Recovered::Clean, Some(&cursor.gtids)));
    }
}

#[test]
fn a_cut_rounds_down_to_the_end_of_a_transaction_and_says_so() {
    let folder = Folder::new();
    // Mark 2, schema 3, change 4, commit 5, change 6.
    let (code, out, _) = folder.run(&["log", "cut", "--after", "6", "--yes"]);
    assert_eq!(code, 0, "{out}");
    assert!(out.contains("after frame 5") && out.contains("6 was asked for"), "{out}");
    assert!(out.contains(&format!("{UUID}:2-{TRANSACTIONS}")), "{out}");
    assert!(out.contains(&format!("everything after {UUID}:1 is read")), "{out}");
    assert_eq!((folder.numbers(), folder.cursor().seq), (vec![1], Seq(5)));
    let (code, out, _) = folder.run(&["log", "cut", "--after", "5"]);
    assert!(code == 0 && out.contains("nothing to cut"), "{code}: {out}");
}

#[test]
fn a_cut_is_refused_while_a_process_has_the_log_or_the_cursor_open() {
    let folder = Folder::new();
    let before = folder.files();
    let held = open(&folder.log());
    let (code, _, error) = folder.run(&["log", "cut", "--after", "5", "--yes"]);
    assert!(code == 5 && error.contains("another everrelay process has this log open"), "{code}: {error}");
    drop(held);
    let folder = Folder::new();
    let held = Settled::open(&folder.settled()).unwrap();
    let (code, _, error) = folder.run(&["log", "cut", "--after", "5", "--yes"]);
    assert!(code == 5 && error.contains("is locked"), "{code}: {error}");
    drop(held);
    assert_eq!(folder.files().len(), before.len());
    assert_eq!(folder.numbers().len() as u64, TRANSACTIONS);
}

#[test]
fn a_log_without_cursors_is_cut_and_none_is_made() {
    let folder = Folder::new();
    fs::remove_dir_all(folder.settled()).unwrap();
    let (code, out, error) = folder.run(&["log", "cut", "--after", "5", "--yes"]);
    assert_eq!(code, 0, "{out}{error}");
    assert!(!folder.settled().exists());
    assert_eq!(folder.numbers(), [1]);
}

#[test]
fn a_cursor_past_the_end_is_lowered_if_the_log_lost_its_end_and_not_if_it_is_another_ones() {
    let folder = Folder::new();
    let end = folder.end.to_string();
    folder.set_cursor(Seq(folder.end.0 + 100), gtids(TRANSACTIONS - 1));
    let (code, _, error) = folder.run(&["log", "cut", "--after", &end, "--yes"]);
    assert!(code == 5 && error.contains("not of one folder"), "{code}: {error}");
    assert_eq!(folder.cursor().seq, Seq(folder.end.0 + 100));
    folder.set_cursor(Seq(folder.end.0 + 100), gtids(TRANSACTIONS + 30));
    let (code, out, error) = folder.run(&["log", "cut", "--after", &end, "--yes"]);
    assert!(code == 0 && out.contains("taken from the clock"), "{code}: {out}{error}");
    let cursor = folder.cursor();
    assert_eq!((cursor.seq, cursor.gtids), (folder.end, gtids(TRANSACTIONS)));
    assert_eq!(folder.numbers().len() as u64, TRANSACTIONS);
}

#[test]
fn commands_on_a_folder_without_a_log_say_so_and_make_nothing() {
    let folder = Folder::new();
    fs::remove_dir_all(folder.state()).unwrap();
    for arguments in [&["log", "verify"][..], &["log", "cut", "--after", "5", "--yes"]] {
        let (code, _, error) = folder.run(arguments);
        assert!(code == 5 && error.contains("main/log"), "{code}: {error}");
    }
    assert!(!folder.state().exists());
}
