//! XA transactions: rows that are held from their PREPARE to the decision.

use super::verify::check_on;
use super::*;
use crate::log::cut;
use crate::log::verify::{Depth, WayOut};

/// Rows of an XA transaction, held.
fn hold(batch: &mut Batch, table: TableNo, values: impl IntoIterator<Item = u64>) {
    batch.hold(true);
    values.into_iter().for_each(|value| change(batch, table, value));
    batch.hold(false);
}

/// The XA transaction `number`, prepared.
fn prepared(batch: &mut Batch, number: u64, values: impl IntoIterator<Item = u64>) {
    hold(batch, TABLE, values);
    commit_xa(batch, Some(number), vec![prepare(number)]);
}

fn append(writer: &mut Writer<SystemDisk>, batch: &mut Batch) {
    writer.append(batch).unwrap();
    writer.sync().unwrap();
}

fn undecided(writer: &Writer<SystemDisk>) -> Vec<Xid> {
    let prepared = &writer.standing().unwrap().prepared;
    prepared.iter().map(|prepared| prepared.xid.clone()).collect()
}

/// Nothing is wrong with the log as far as it is written.
fn whole(dir: &Path) {
    let (checked, findings) = check_on(&SystemDisk, dir, Depth::Payloads);
    assert!(checked.opens && checked.damaged == 0, "{findings:?}");
}

#[test]
fn held_rows_count_with_the_decision_and_have_the_versions_of_their_copies() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    let mut batch = start();
    transaction(&mut batch, 1, [10]);
    prepared(&mut batch, 2, [20, 21]);
    prepared(&mut batch, 3, [30]);
    // Whoever reads a row by SELECT now sees it as it was before.
    transaction(&mut batch, 4, [40]);
    append(&mut writer, &mut batch);
    assert_eq!(values(&read(&log, Seq(1))), [10, 40]);
    assert_eq!(values_of(&read(&log, Seq(1)), Kind::Prepared), [20, 21, 30]);
    assert_eq!(undecided(&writer), [xid(2), xid(3)]);
    let held = writer.standing().unwrap().held(&xid(2)).unwrap();
    assert_eq!((held.rows, held.last.0 - held.first.0), (2, 2), "its schema stands among them");

    let before = read(&log, Seq(1)).last().unwrap().version;
    commit_xa(&mut batch, Some(5), vec![decide(3, Outcome::RolledBack)]);
    commit_xa(&mut batch, Some(6), vec![decide(2, Outcome::Committed)]);
    // Not known: said by a source that knows it to be without rows, or rolled back before.
    commit_xa(&mut batch, Some(7), vec![decide(99, Outcome::RolledBack), decide(98, Outcome::Committed)]);
    append(&mut writer, &mut batch);
    let frames = read(&log, Seq(1));
    assert_eq!(values(&frames), [10, 40, 20, 21]);
    let copies = frames.iter().filter(|frame| frame.kind == Kind::Change).skip(2);
    assert!(copies.clone().count() == 2 && copies.into_iter().all(|copy| copy.version > before));
    assert_eq!((undecided(&writer), writer.position()), (vec![], Some(&set(7))));
    whole(dir.path());
}

#[test]
fn what_is_held_outlasts_restarts_that_number_the_tables_anew() {
    let dir = tempfile::tempdir().unwrap();
    {
        let Opened { mut writer, .. } = open_at(dir.path(), 1 << 20);
        let mut batch = start();
        batch.schema(&schema(TableNo(8)));
        hold(&mut batch, TABLE, [20]);
        hold(&mut batch, TableNo(8), [80]);
        hold(&mut batch, TABLE, [21]);
        commit_xa(&mut batch, Some(1), vec![prepare(1)]);
        append(&mut writer, &mut batch);
    }
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    assert_eq!(undecided(&writer), [xid(1)]);
    let mut batch = Batch::new();
    // Number 8 is another table now, and one that has rows held goes by another number.
    batch.schema(&SchemaRecord { table: TableNo(8), ..schema(TableNo(3)) });
    batch.schema(&SchemaRecord { table: TableNo(1), ..schema(TABLE) });
    change(&mut batch, TableNo(8), 30);
    commit(&mut batch, 2);
    commit_xa(&mut batch, Some(3), vec![decide(1, Outcome::Committed)]);
    change(&mut batch, TableNo(8), 31);
    commit(&mut batch, 4);
    append(&mut writer, &mut batch);

    let mut tables = std::collections::HashMap::new();
    let mut found = Vec::new();
    for frame in read(&log, Seq(1)) {
        match frame.kind {
            Kind::State => tables.clear(),
            Kind::Schema => {
                let record = SchemaRecord::decode(&frame.payload).unwrap();
                tables.insert(record.table, record.schema.name.table);
            }
            Kind::Change => {
                let table = Change::decode(&frame.payload).unwrap().table;
                found.push((tables[&table].clone(), values(&[frame])[0]));
            }
            _ => {}
        }
    }
    let found: Vec<_> = found.iter().map(|(table, value)| (table.as_str(), *value)).collect();
    assert_eq!(found, [("t3", 30), ("t7", 20), ("t8", 80), ("t7", 21), ("t3", 31)]);
    whole(dir.path());
}

#[test]
fn any_suffix_of_the_log_knows_what_is_held_and_larger_than_a_segment_it_is_copied_whole() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 700);
    let mut batch = start();
    prepared(&mut batch, 1, 100..200);
    // Held rows, and a decision in the same batch, before anything is synced.
    prepared(&mut batch, 2, 200..205);
    commit_xa(&mut batch, Some(3), vec![decide(1, Outcome::Committed)]);
    transaction(&mut batch, 4, 0..60);
    writer.append(&mut batch).unwrap();
    assert_eq!(log.visible().seq, Seq(0), "nothing is synced for it");
    writer.sync().unwrap();
    let expected: Vec<u64> = (100..200).chain(0..60).collect();
    assert_eq!(values(&read(&log, Seq(1))), expected);
    let segments = log.segments();
    for segment in &segments[segments.len() / 2..] {
        let prepared = log.state(segment.first).unwrap().standing.unwrap().prepared;
        assert!(prepared.iter().any(|prepared| prepared.xid == xid(2)));
    }
    drop(writer);
    let Opened { mut writer, log, .. } = open_at(dir.path(), 700);
    commit_xa(&mut batch, Some(5), vec![decide(2, Outcome::Committed)]);
    append(&mut writer, &mut batch);
    assert_eq!(values(&read(&log, Seq(1))), expected.into_iter().chain(200..205).collect::<Vec<_>>());
    whole(dir.path());
}

#[test]
fn one_phase_counts_at_once() {
    for segment in [1 << 20, 500] {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut writer, log, .. } = open_at(dir.path(), segment);
        let mut batch = start();
        hold(&mut batch, TABLE, 0..30);
        append(&mut writer, &mut batch);
        hold(&mut batch, TABLE, 30..40);
        commit_xa(&mut batch, Some(1), vec![decide(1, Outcome::Committed)]);
        append(&mut writer, &mut batch);
        assert_eq!(values(&read(&log, Seq(1))), (0..40).collect::<Vec<_>>());
        assert!(undecided(&writer).is_empty());
        whole(dir.path());
    }
}

#[test]
fn an_abandoned_prepare_or_decision_leaves_what_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 500);
    let mut batch = start();
    prepared(&mut batch, 1, 10..40);
    append(&mut writer, &mut batch);
    hold(&mut batch, TABLE, 50..60);
    append(&mut writer, &mut batch);
    assert!(writer.is_open());
    writer.abandon().unwrap();
    assert_eq!(undecided(&writer), [xid(1)]);
    commit_xa(&mut batch, Some(2), vec![decide(1, Outcome::Committed)]);
    append(&mut writer, &mut batch);
    assert_eq!(values(&read(&log, Seq(1))), (10..40).collect::<Vec<_>>());
    whole(dir.path());
}

#[test]
fn what_does_not_fit_together_is_no_transaction() {
    let cases: [&dyn Fn(&mut Batch); 6] = [
        // Held rows of nobody, of two, of one that is rolled back, and behind or before rows that count.
        &|batch| commit(batch, 1),
        &|batch| commit_xa(batch, Some(1), vec![prepare(1), prepare(2)]),
        &|batch| {
            transaction(batch, 1, [5]);
            mark(batch, set(1));
        },
        &|batch| {
            change(batch, TABLE, 5);
            commit_xa(batch, Some(1), vec![prepare(1)]);
        },
        &|batch| {
            change(batch, TABLE, 5);
            commit_xa(batch, Some(1), vec![decide(1, Outcome::Committed)]);
        },
        &|batch| mark(batch, set(1)),
    ];
    for (i, case) in cases.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut writer, .. } = open_at(dir.path(), 1 << 20);
        let mut batch = start();
        hold(&mut batch, TABLE, [1]);
        writer.append(&mut batch).unwrap();
        let mut batch = Batch::new();
        case(&mut batch);
        assert!(matches!(writer.append(&mut batch), Err(WriteError::Misuse { .. })), "{i}");
    }
}

/// A log of several segments with one XA transaction held in the first of them.
fn with_held_in_the_first(dir: &Path, held: impl IntoIterator<Item = u64>) -> Opened<SystemDisk> {
    let mut opened = open_at(dir, 1000);
    let mut batch = start();
    prepared(&mut batch, 1, held);
    for number in 2..30 {
        transaction(&mut batch, number, [number, number]);
    }
    append(&mut opened.writer, &mut batch);
    assert!(opened.log.segments().len() > 4);
    opened
}

#[test]
fn what_is_held_keeps_its_segments_until_it_was_carried_forward() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = with_held_in_the_first(dir.path(), [100, 101]);
    let all = log.visible().seq.next();
    let removed = log.retain(all, u64::MAX).unwrap();
    assert_eq!(removed, Retained { segments: 0, bytes: 0, carry: true });
    assert!(!log.space().borrow().drained, "it could go");
    // Inside a transaction it has to wait.
    let mut batch = Batch::new();
    change(&mut batch, TABLE, 1000);
    writer.append(&mut batch).unwrap();
    assert_eq!(writer.carry_forward().unwrap(), 0);
    let before = writer.next_seq();
    commit(&mut batch, 30);
    change(&mut batch, TABLE, 1001);
    writer.append(&mut batch).unwrap();
    assert!(writer.standing().unwrap().held(&xid(1)).unwrap().first > before, "at its end");
    // It is not believed before it is durable.
    assert_eq!(log.retain(all, u64::MAX).unwrap().segments, 0);
    commit(&mut batch, 31);
    append(&mut writer, &mut batch);
    let kept = log.retain(all, u64::MAX).unwrap();
    assert!(kept.segments > 2 && !kept.carry, "{kept:?}");
    assert_eq!(undecided(&writer), [xid(1)]);
    assert_eq!(writer.standing().unwrap().prepared[0].gtid, Some(gtid(1)));
    whole(dir.path());
    drop(writer);
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1000);
    commit_xa(&mut batch, Some(32), vec![decide(1, Outcome::Committed)]);
    append(&mut writer, &mut batch);
    assert!(values(&read(&log, log.retained_start())).ends_with(&[1000, 1001, 100, 101]));
    whole(dir.path());
}

#[test]
fn a_decision_lets_go_what_was_held() {
    for outcome in [Outcome::Committed, Outcome::RolledBack] {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut writer, log, .. } = with_held_in_the_first(dir.path(), 100..200);
        let all = log.visible().seq.next();
        // Too much to be carried for what goes with it.
        assert_eq!(log.retain(all, u64::MAX).unwrap(), Retained::default());
        assert!(log.space().borrow().drained, "nothing is left that could go");
        let mut batch = Batch::new();
        commit_xa(&mut batch, Some(30), vec![decide(1, outcome)]);
        writer.append(&mut batch).unwrap();
        assert_eq!(log.retain(all, u64::MAX).unwrap(), Retained::default());
        writer.sync().unwrap();
        assert!(log.retain(all, u64::MAX).unwrap().segments > 4);
        whole(dir.path());
    }
}

#[test]
fn many_are_carried_with_what_goes_with_them_and_no_more_often() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 5000);
    let mut batch = start();
    for number in 1..=10 {
        prepared(&mut batch, number, [1000 + number, 2000 + number]);
    }
    append(&mut writer, &mut batch);
    let held = writer.standing().unwrap().held_bytes();
    let (mut written, mut carried) = (0, 0);
    for number in 11..1000 {
        transaction(&mut batch, number, [number]);
        append(&mut writer, &mut batch);
        log.retain(log.visible().seq.next(), u64::MAX).unwrap();
        carried += writer.carry_forward().unwrap();
        written = number;
        writer.sync().unwrap();
        // What is held, four times that, and two segments.
        assert!(log.stats().bytes < 5 * held + 2 * 5000, "{}", log.stats().bytes);
    }
    assert!(carried >= 20 && carried.is_multiple_of(10), "{carried}");
    let bytes = log.visible().bytes;
    assert!(carried as u64 * held / 10 < bytes / 4, "{carried} of {bytes}");
    commit_xa(&mut batch, Some(written + 1), (1..=10).map(|n| decide(n, Outcome::Committed)).collect());
    append(&mut writer, &mut batch);
    let expected: Vec<u64> = (1..=10).flat_map(|n| [1000 + n, 2000 + n]).collect();
    assert!(values(&read(&log, log.retained_start())).ends_with(&expected));
    whole(dir.path());
}

#[test]
fn a_cut_gives_up_what_is_held_and_not_whole() {
    let dir = tempfile::tempdir().unwrap();
    let log_dir = dir.path().join("log");
    let Opened { mut writer, log, .. } = with_held_in_the_first(&log_dir, [100, 101]);
    let mut batch = Batch::new();
    prepared(&mut batch, 30, [300]);
    append(&mut writer, &mut batch);
    let held = writer.standing().unwrap().held(&xid(1)).unwrap();
    let (first, end) = (log.segments()[0].first, log.visible().seq);
    drop(writer);
    let path = log_dir.join(super::segment::segment_name(first));
    let whole_file = std::fs::read(&path).unwrap();
    let mut bytes = whole_file.clone();
    bytes[held.at.offset as usize + 60] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    // The log opens, since nobody reads there; the decision finds it out.
    let Opened { mut writer, .. } = open_at(&log_dir, 1000);
    commit_xa(&mut batch, Some(31), vec![decide(1, Outcome::Committed)]);
    let error = writer.append(&mut batch).unwrap_err();
    assert!(matches!(error, WriteError::Held { .. }), "{error}");
    drop(writer);

    let locked = cut::lock(&SystemDisk, &log_dir).unwrap();
    let plan = locked.plan(&At(NOW), end, &[end]).unwrap();
    assert!(plan.is_empty() && plan.lost == [xid(1)]);
    locked.carry_out(&plan, &dir.path().join("cut")).unwrap();
    std::fs::write(&path, whole_file).unwrap();
    whole(&log_dir);
    let Opened { mut writer, log, .. } = open_at(&log_dir, 1000);
    assert_eq!(undecided(&writer), [xid(30)]);
    commit_xa(&mut batch, Some(31), vec![decide(30, Outcome::Committed)]);
    append(&mut writer, &mut batch);
    assert!(values(&read(&log, Seq(1))).ends_with(&[300]));
}

#[test]
fn a_check_names_held_rows_that_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { log, writer, .. } = with_held_in_the_first(dir.path(), [100]);
    let (first, end) = (log.segments()[0].first, log.visible().seq);
    drop(writer);
    std::fs::remove_file(dir.path().join(super::segment::segment_name(first))).unwrap();
    let (checked, findings) = check_on(&SystemDisk, dir.path(), Depth::Payloads);
    assert!(checked.damaged == 1 && findings[0].to_string().contains(&xid(1).to_string()), "{findings:?}");
    let WayOut::Cut { after, .. } = checked.way_out else { panic!("{checked:?}") };
    assert_eq!(after, end);
    let locked = cut::lock(&SystemDisk, dir.path()).unwrap();
    let plan = locked.plan(&At(NOW), after, &[after]).unwrap();
    assert_eq!(plan.lost, [xid(1)]);
}

#[test]
fn what_decisions_have_written_again_is_no_more_than_what_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, .. } = open_at(dir.path(), 1 << 20);
    let mut batch = start();
    prepared(&mut batch, 1, 0..50);
    prepared(&mut batch, 2, 0..50);
    append(&mut writer, &mut batch);
    let known: u64 = [1, 2].map(|n| writer.standing().unwrap().held(&xid(n)).unwrap().bytes).iter().sum();
    commit_xa(&mut batch, Some(3), vec![decide(1, Outcome::Committed)]);
    commit_xa(&mut batch, Some(4), vec![decide(2, Outcome::Committed)]);
    assert_eq!(writer.owed(&batch), known);
    // The rows of those that are prepared and decided in one batch stand in it, once, however many they are.
    for number in 10..500 {
        hold(&mut batch, TABLE, [number]);
        commit_xa(&mut batch, Some(number), vec![decide(number, Outcome::Committed)]);
    }
    assert!(writer.owed(&batch) <= known + batch.len() as u64);
    append(&mut writer, &mut batch);

    // An open transaction that is none of XA has nothing written again.
    (0..2000).for_each(|value| change(&mut batch, TABLE, value));
    writer.append(&mut batch).unwrap();
    commit(&mut batch, 600);
    hold(&mut batch, TABLE, [1]);
    commit_xa(&mut batch, Some(601), vec![decide(601, Outcome::Committed)]);
    assert!(writer.owed(&batch) <= batch.len() as u64);
}

#[test]
fn what_a_mark_lets_go_is_held_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    let mut batch = start();
    prepared(&mut batch, 1, 0..50);
    append(&mut writer, &mut batch);
    assert!(log.held_bytes() > 0);
    // Another of the same name, without rows of followed tables: nobody saw what became of the first.
    batch.mark(&Mark {
        synced: Synced::default(),
        gtids: set(2),
        time_micros: 1,
        position: Position::default(),
        noted: Noted { xa: vec![prepare(1)], ..Noted::default() },
    });
    append(&mut writer, &mut batch);
    assert_eq!(undecided(&writer), [xid(1)]);
    assert_eq!(log.held_bytes(), 0);
}
