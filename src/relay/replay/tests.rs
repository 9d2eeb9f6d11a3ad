use std::path::Path;
use std::sync::Arc;

use super::dry_run::{Counted, OfTable, count, count_slice};
use super::due::{Taken, Taking};
use super::noted::{Noted, Noting, Slice};
use super::*;
use crate::clock::SystemClock;
use crate::disk::SystemDisk;
use crate::event::codec::RowWriter;
use crate::event::document::Verb;
use crate::event::{Column, ColumnType, GtidSet, Op, TableNo, TableSchema};
use crate::log::record::{Batch, Commit, Mark, Position, SchemaRecord, SweepRecord, Synced};
use crate::log::{Log, LogOptions, Noted as NotedInLog, Opened};
use crate::mapping::rule::Rules;

/// A log of the tables shop.t0 and shop.t1, `id` and `value` each.
struct Play {
    opened: Opened<SystemDisk>,
    batch: Batch,
    _dir: tempfile::TempDir,
}

impl Play {
    fn new() -> Play {
        Play::with(LogOptions::default())
    }

    fn with(options: LogOptions) -> Play {
        let dir = tempfile::tempdir().unwrap();
        let opened =
            crate::log::open(&SystemDisk, &SystemClock, &Path::new(dir.path()).join("log"), options).unwrap();
        let mut play = Play { opened, batch: Batch::new(), _dir: dir };
        let (synced, position) = (Synced::default(), Position::default());
        let noted = NotedInLog::default();
        play.batch.mark(&Mark { synced, gtids: GtidSet::default(), time_micros: 0, position, noted });
        for no in [0, 1] {
            let ty = ColumnType::Integer { bits: 64, unsigned: true };
            let column = |name: &str| Column { name: name.into(), ty, nullable: false };
            let schema = TableSchema {
                name: TableName::new("shop", format!("t{no}")),
                columns: vec![column("id"), column("value")],
                key: vec![0],
            };
            play.batch.schema(&SchemaRecord { table: TableNo(no), schema });
        }
        play.write();
        play
    }

    fn log(&self) -> &Log<SystemDisk> {
        &self.opened.log
    }

    fn write(&mut self) {
        self.opened.writer.append(&mut self.batch).unwrap();
        self.opened.writer.sync().unwrap();
    }

    fn commit(&mut self) -> Seq {
        let (synced, position, noted) = (Synced::default(), Position::default(), NotedInLog::default());
        self.batch.commit(&Commit { synced, gtid: None, time_micros: 1, position, noted });
        self.write();
        self.log().visible().seq
    }

    /// A transaction of one change; its last record. `values`: of the row, and behind it the old key.
    fn change(&mut self, table: u32, op: Op, values: &[u64]) -> Seq {
        let mut change = self.batch.change(TableNo(table));
        for value in values {
            RowWriter::new(change.values()).u64(*value);
        }
        change.finish(op);
        self.commit()
    }

    fn truncate(&mut self, table: u32) -> Seq {
        self.batch.sweep(&SweepRecord::truncated(TableName::new("shop", format!("t{table}"))));
        self.commit()
    }

    fn scope(&self, from: Seq, last: Seq, tables: &[&str]) -> Arc<Scope> {
        Arc::new(Scope {
            from,
            end: last.next(),
            tables: Chosen::parse(tables).unwrap(),
            indices: Vec::new(),
        })
    }

    /// What is due: id, verb, and the record of the version that it is sent with.
    fn due(&self, scope: &Arc<Scope>, horizon: Seq) -> Vec<(String, Verb, u64)> {
        let rules = Rules::default();
        let noted = Noted::new(Slice::WHOLE, horizon);
        let mut noting = Noting::open(self.log(), scope, &rules, noted).unwrap();
        while !noting.go_on(1).unwrap() {}
        let mut taking = Taking::open(self.log(), scope, &rules, scope.from).unwrap();
        let mut due = Vec::new();
        loop {
            match taking.go_on(noting.noted()).unwrap() {
                Taken::End => break,
                Taken::Nothing | Taken::Due => {}
            }
            while taking.first(noting.noted()).is_some() {
                let Some(one) = taking.take(noting.noted()) else { continue };
                let back = self.log().highest_version().0 - one.version.0;
                due.push((one.id.to_string(), one.verb, self.log().visible().seq.0 - back));
            }
        }
        assert!(noting.noted().is_empty(), "all that was noted came");
        due
    }
}

#[test]
fn what_is_due_and_waits_is_dropped_when_a_newer_change_is_read() {
    let mut play = Play::new();
    let first = play.change(0, Op::Insert, &[1, 0]).previous();
    let second = play.change(0, Op::Rekey, &[2, 0, 1]);
    let scope = play.scope(first, second, &[]);
    let rules = Rules::default();
    let noted = Noted::new(Slice::WHOLE, second);
    let mut noting = Noting::open(play.log(), &scope, &rules, noted).unwrap();
    while !noting.go_on(1).unwrap() {}
    let mut taking = Taking::open(play.log(), &scope, &rules, scope.from).unwrap();
    while !matches!(taking.go_on(noting.noted()).unwrap(), Taken::Due) {}
    assert_eq!(taking.first(noting.noted()).map(|due| &*due.id), Some("1"));
    play.change(0, Op::Insert, &[1, 7]);
    while !noting.go_on(1).unwrap() {}
    assert_eq!(
        taking.first(noting.noted()).map(|due| &*due.id),
        Some("2"),
        "what was the first is not the newest"
    );
    play.truncate(0);
    while !noting.go_on(1).unwrap() {}
    assert!(taking.take(noting.noted()).is_none(), "the sweep is another's to make");
    assert_eq!((noting.noted().take_superseded(), noting.noted().len()), (2, 0));
}

fn of(due: &[(&str, Verb, Seq)]) -> Vec<(String, Verb, u64)> {
    due.iter().map(|(id, verb, seq)| ((*id).to_owned(), *verb, seq.0)).collect()
}

#[test]
fn of_each_document_that_the_range_touched_the_newest_state_is_due_and_no_other() {
    let mut play = Play::new();
    let before = play.change(0, Op::Insert, &[1, 0]);
    let from = play.change(0, Op::Insert, &[2, 0]).previous();
    play.change(0, Op::Insert, &[3, 0]);
    let last = play.change(0, Op::Update, &[2, 1]);
    let second = play.change(0, Op::Update, &[2, 2]);
    let gone = play.change(0, Op::Tombstone, &[3]);
    let end = play.change(0, Op::Update, &[1, 1]);
    let change = Seq::previous;
    let scope = play.scope(from, last, &[]);
    let expected = of(&[("2", Verb::Index, change(second)), ("3", Verb::Delete, change(gone))]);
    assert_eq!(play.due(&scope, end), expected, "not document 1, which nothing in the range touched");
    // What came behind the horizon is somebody else's to send.
    assert_eq!(play.due(&scope, second), of(&[("2", Verb::Index, change(second))]));
    let scope = play.scope(change(before), before, &[]);
    assert_eq!(play.due(&scope, end), of(&[("1", Verb::Index, change(end))]));
}

#[test]
fn a_change_of_the_key_is_two_documents_and_tables_are_chosen_by_patterns() {
    let mut play = Play::new();
    let first = play.change(0, Op::Insert, &[1, 0]).previous();
    let moved = play.change(0, Op::Rekey, &[2, 0, 1]).previous();
    let other = play.change(1, Op::Insert, &[1, 0]).previous();
    let end = play.log().visible().seq;
    let two = [("1", Verb::Delete, moved), ("2", Verb::Index, moved)];
    assert_eq!(play.due(&play.scope(first, end, &["shop.t?", "!shop.t1"]), end), of(&two));
    assert_eq!(play.due(&play.scope(first, end, &["Shop.T1"]), end), of(&[("1", Verb::Index, other)]));
    assert_eq!(play.due(&play.scope(first, end, &["else.*"]), end), []);
    let again = play.change(0, Op::Insert, &[1, 5]).previous();
    let end = play.log().visible().seq;
    let back = [("2", Verb::Index, moved), ("1", Verb::Index, again)];
    assert_eq!(play.due(&play.scope(first, end, &["shop.t0"]), end), of(&back));
}

#[test]
fn a_sweep_deletes_what_is_older_and_one_behind_the_horizon_is_left_to_who_reads_there() {
    let mut play = Play::new();
    let first = play.change(0, Op::Insert, &[1, 0]).previous();
    let other = play.change(1, Op::Insert, &[1, 0]).previous();
    let before = play.log().visible().seq;
    let truncated = play.truncate(0).previous();
    let newer = play.change(0, Op::Insert, &[2, 0]).previous();
    let end = play.log().visible().seq;
    let scope = play.scope(first, end, &[]);
    let expected = [
        // With the last version below the sweep's.
        ("1", Verb::Delete, truncated.previous()),
        ("1", Verb::Index, other),
        ("2", Verb::Index, newer),
    ];
    assert_eq!(play.due(&scope, end), of(&expected));
    assert_eq!(play.due(&scope, before), of(&[("1", Verb::Index, other)]));
}

#[test]
fn a_log_in_many_slices_comes_to_the_same_as_in_one() {
    // And many segments.
    let mut play = Play::with(LogOptions { segment_bytes: 700, ..LogOptions::default() });
    let first = play.log().visible().seq.next();
    for id in 0..200 {
        play.change((id % 2) as u32, Op::Insert, &[id, 0]);
        if id % 3 == 0 {
            play.change((id % 2) as u32, Op::Delete, &[id, 0]);
        }
    }
    let end = play.log().visible().seq;
    let scope = play.scope(first, end, &[]);
    let rules = Rules::default();
    let whole = count(play.log(), &scope, &rules, end, || {}).unwrap();
    let bytes = whole["shop.t0"].bytes;
    assert!(bytes > 66 * 3, "{bytes}");
    assert_eq!(whole["shop.t0"], OfTable { changes: 134, to_index: 66, to_delete: 34, bytes });
    assert_eq!((whole["shop.t1"].to_index, whole["shop.t1"].to_delete), (67, 33));
    let (mut counted, mut slices, mut slice) = (Counted::new(), 0, Some(Slice::WHOLE));
    while let Some(wanted) = slice {
        let noted = Noted::at_most(10, wanted, end);
        let done = count_slice(play.log(), &scope, &rules, noted, &mut counted, &mut || {}).unwrap();
        (slices, slice) = (slices + 1, done.next());
    }
    assert!(slices >= 20, "{slices}");
    assert_eq!(counted, whole);
}

#[test]
fn documents_are_chosen_by_an_alias_a_pattern_of_aliases_or_an_index() {
    let scope = |names: &[&str]| Scope {
        from: Seq(1),
        end: Seq(2),
        tables: Chosen::default(),
        indices: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    for (names, alias, meant) in [
        (&[][..], "visits-2026.11", true),
        (&["visits-2026.11"], "visits-2026.11", true),
        (&["visits-2026.1?", "x"], "visits-2026.11", true),
        (&["visits-2026.11-000001"], "visits-2026.11", true),
        (&["visits-2026.11-x"], "visits-2026.11", false),
        (&["visits-2026.1"], "visits-2026.11", false),
        (&["visits"], "visits-2026.11", false),
    ] {
        assert_eq!(scope(names).has_alias(alias), meant, "{names:?} {alias}");
    }
}
