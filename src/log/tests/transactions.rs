//! Append, sync, abandon, rotate, read.

use super::*;

#[test]
fn what_was_synced_is_read_back_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    {
        let Opened { mut writer, log, recovered } = open_at(dir.path(), 1 << 20);
        assert_eq!(recovered, Recovered::Empty);
        assert_eq!(writer.position(), None);
        assert_eq!((log.visible().seq, log.retained_start()), (Seq(0), Seq(1)));
        let mut batch = start();
        transaction(&mut batch, 1, [10, 11]);
        transaction(&mut batch, 2, [20]);
        writer.append(&mut batch).unwrap();
        assert!(batch.is_empty());
        assert_eq!(writer.position(), Some(&set(2)));
        assert_eq!(log.visible().seq, Seq(0));
        writer.sync().unwrap();
        assert_eq!((log.visible().seq, log.visible().commits), (Seq(8), 3));
        assert_eq!(log.visible().time_micros, NOW + 2);
        assert_eq!(values(&read(&log, Seq(1))), [10, 11, 20]);
    }
    let Opened { writer, log, recovered } = open_at(dir.path(), 1 << 20);
    assert_eq!(recovered, Recovered::Clean);
    assert_eq!(writer.position(), Some(&set(2)));
    assert_eq!(log.visible().seq, Seq(8));
    let frames = read(&log, Seq(1));
    assert_eq!(values(&frames), [10, 11, 20]);
    assert_eq!(frames.iter().map(|frame| frame.seq.0).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    assert_eq!(frames[3].version, Version(NOW - 1 + 4));
}

#[test]
fn a_transaction_is_not_visible_before_its_commit_is_synced() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    let mut reader = log.reader(Seq(1)).unwrap();
    assert!(reader.next_frame().unwrap().is_none());
    let mut batch = start();
    transaction(&mut batch, 1, [10]);
    change(&mut batch, TABLE, 20);
    writer.append(&mut batch).unwrap();
    assert!(reader.next_frame().unwrap().is_none());
    writer.sync().unwrap();
    assert_eq!(values(&read(&log, Seq(1))), [10]);
    let mut kinds = Vec::new();
    while let Some(frame) = reader.next_frame().unwrap() {
        kinds.push(frame.kind);
    }
    assert_eq!(kinds, [Kind::State, Kind::Mark, Kind::Schema, Kind::Change, Kind::Commit]);
    assert_eq!(reader.bytes_behind(), 0);
    commit(&mut batch, 2);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    assert!(reader.bytes_behind() > 0);
    assert_eq!(reader.next_frame().unwrap().unwrap().kind, Kind::Change);
    assert_eq!(reader.next_frame().unwrap().unwrap().kind, Kind::Commit);
    assert!(reader.next_frame().unwrap().is_none());
}

#[test]
fn a_transaction_goes_on_through_rotations_and_each_segment_has_its_schemas() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 400);
    let mut batch = start();
    transaction(&mut batch, 1, 0..100);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let segments = log.segments();
    assert!(segments.len() > 5, "{segments:?}");
    assert!(segments.iter().all(|segment| segment.bytes <= 500), "{segments:?}");
    let frames = read(&log, Seq(1));
    assert_eq!(values(&frames), (0..100).collect::<Vec<_>>());
    assert_eq!(frames.len() as u64, log.visible().seq.0);
    for segment in &segments {
        let own: Vec<Read> =
            frames.iter().filter(|frame| frame.at.segment == segment.first).cloned().collect();
        assert_eq!(own[0].kind, Kind::State);
        let schema = own.iter().position(|frame| frame.kind == Kind::Schema);
        let change = own.iter().position(|frame| frame.kind == Kind::Change);
        assert!(schema < change || change.is_none(), "{segment:?}");
    }
    drop(writer);
    let Opened { writer, log, recovered } = open_at(dir.path(), 400);
    assert_eq!((recovered, writer.position()), (Recovered::Clean, Some(&set(1))));
    assert_eq!(read(&log, Seq(1)), frames);
}

#[test]
fn abandoning_cuts_the_open_transaction_out_of_all_its_segments() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 400);
    let mut batch = start();
    transaction(&mut batch, 1, 0..3);
    change(&mut batch, TABLE, 1000);
    writer.append(&mut batch).unwrap();
    let before = writer.next_seq();
    batch.schema(&schema(TableNo(8)));
    for value in 0..100 {
        change(&mut batch, TableNo(8), value);
    }
    writer.append(&mut batch).unwrap();
    assert!(log.segments().len() > 5 && writer.is_open());
    writer.abandon().unwrap();
    assert!(!writer.is_open() && writer.next_seq() < before);
    assert_eq!(log.segments().len(), 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);

    // The source may send a schema only once: the writer knows that it was cut.
    change(&mut batch, TableNo(8), 7);
    transaction(&mut batch, 2, 3..60);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let frames = read(&log, Seq(1));
    assert_eq!(values(&frames), [0, 1, 2, 7].into_iter().chain(3..60).collect::<Vec<_>>());
    assert_eq!(frames.len() as u64, log.visible().seq.0);
    let tables = |frame: &&Read| SchemaRecord::decode(&frame.payload).is_ok_and(|r| r.table == TableNo(8));
    let repeated = frames.iter().filter(|frame| frame.kind == Kind::Schema).find(tables).unwrap();
    let used = frames.iter().find(|frame| values(std::slice::from_ref(frame)) == [7]).unwrap();
    assert!(repeated.seq < used.seq);
    assert_eq!(writer.position(), Some(&set(2)));
}

#[test]
fn abandoning_between_transactions_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    writer.abandon().unwrap();
    let mut batch = start();
    transaction(&mut batch, 1, [1]);
    writer.append(&mut batch).unwrap();
    let next = writer.next_seq();
    writer.abandon().unwrap();
    assert_eq!(writer.next_seq(), next);
    writer.sync().unwrap();
    assert_eq!(values(&read(&log, Seq(1))), [1]);
}

#[test]
fn a_reader_that_begins_inside_a_segment_gets_the_schemas_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    let mut batch = start();
    transaction(&mut batch, 1, [1, 2]);
    transaction(&mut batch, 2, [3]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let frames = read(&log, Seq(7));
    let seqs: Vec<_> = frames.iter().map(|frame| (frame.seq.0, frame.kind)).collect();
    assert_eq!(seqs, [(3, Kind::Schema), (7, Kind::Change), (8, Kind::Commit)]);
    assert_eq!(SchemaRecord::decode(&frames[0].payload).unwrap(), schema(TABLE));
    let end: Vec<_> = read(&log, Seq(9)).iter().map(|frame| frame.seq.0).collect();
    assert_eq!(end, [3]);
    let error = log.reader(Seq(10)).unwrap_err();
    assert!(matches!(error, ReadError::Ahead { wanted: Seq(10), visible: Seq(8) }), "{error}");
}

#[test]
fn a_reader_may_wait_where_the_next_segment_has_begun_already() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 150);
    let mut batch = start();
    writer.append(&mut batch).unwrap();
    transaction(&mut batch, 1, [1]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    for value in 0..20 {
        change(&mut batch, TABLE, value);
    }
    writer.append(&mut batch).unwrap();
    let from = log.visible().seq.next();
    let mut reader = log.reader(from).unwrap();
    while let Some(frame) = reader.next_frame().unwrap() {
        assert!(frame.kind == Kind::Schema && frame.seq < from);
    }
    commit(&mut batch, 2);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let mut expected = from;
    while let Some(frame) = reader.next_frame().unwrap() {
        assert_eq!(frame.seq, expected);
        expected = expected.next();
    }
    assert_eq!(expected, log.visible().seq.next());
}

#[test]
fn a_frame_is_read_again_by_its_location() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 3000);
    let mut batch = start();
    let mut large = batch.change(TABLE);
    RowWriter::new(large.values()).bytes(&[5; 5000]);
    large.finish(Op::Insert);
    transaction(&mut batch, 1, 0..500);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let mut buffer = Vec::new();
    let frames = read(&log, Seq(1));
    assert!(log.stats().segments > 5);
    for expected in frames.iter().rev() {
        let Frame { seq, version, kind, payload, at } = log.read_at(expected.at, &mut buffer).unwrap();
        assert_eq!(*expected, Read { seq, version, kind, payload: payload.to_vec(), at });
    }
    let nowhere = Location { offset: frames[4].at.offset + 1, ..frames[4].at };
    assert!(matches!(log.read_at(nowhere, &mut buffer), Err(ReadError::Nowhere { .. })));
}

#[test]
fn a_row_over_the_limit_stops_the_writer_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { max_frame_bytes: 1000, ..LogOptions::default() };
    let Opened { mut writer, log, .. } = open(&SystemDisk, &At(NOW), dir.path(), options).unwrap();
    let mut batch = start();
    transaction(&mut batch, 1, [1]);
    writer.append(&mut batch).unwrap();
    let mut large = batch.change(TABLE);
    RowWriter::new(large.values()).bytes(&[5; 1001]);
    large.finish(Op::Insert);
    let error = writer.append(&mut batch).unwrap_err();
    assert!(
        matches!(&error, WriteError::TooLarge { table, limit: 1000, .. } if table == "shop.t7"),
        "{error}"
    );
    let again = writer.sync().unwrap_err();
    assert_eq!(again.to_string(), error.to_string());
    assert_eq!(log.visible().seq, Seq(0));
}

#[test]
fn a_batch_that_breaks_the_rules_is_refused() {
    let refused = |batch: &mut Batch, started: bool| {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut writer, .. } = open_at(dir.path(), 1 << 20);
        if started {
            writer.append(&mut start()).unwrap();
        }
        let error = writer.append(batch).unwrap_err();
        assert!(matches!(error, WriteError::Misuse { .. }), "{error}");
        assert!(writer.health().is_err());
    };
    let mut batch = Batch::new();
    commit(&mut batch, 1);
    refused(&mut batch, false);
    change(&mut batch, TableNo(99), 1);
    refused(&mut batch, true);
}

#[test]
fn versions_rise_over_reopening_and_over_what_others_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = Version(0);
    for (round, now) in [NOW, NOW - 5_000_000, NOW + 5_000_000, NOW].into_iter().enumerate() {
        let Opened { mut writer, log, .. } =
            open(&SystemDisk, &At(now), dir.path(), options(1 << 20)).unwrap();
        let mut batch = start();
        transaction(&mut batch, 1, [1, 2]);
        assert!(writer.next_version() > last, "round {round}");
        writer.append(&mut batch).unwrap();
        if round == 1 {
            let bound = Version(NOW + 60_000_000);
            writer.outrank(bound).unwrap();
            assert!(writer.next_version() > bound);
            transaction(&mut batch, 2, [3]);
            writer.append(&mut batch).unwrap();
        }
        writer.sync().unwrap();
        let frames = read(&log, Seq(1));
        assert!(frames.windows(2).all(|pair| pair[0].version < pair[1].version));
        last = frames.last().unwrap().version;
    }
    assert!(last > Version(NOW + 60_000_000));
}

#[test]
fn what_is_appended_during_a_sync_becomes_visible_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 400);
    let mut batch = start();
    transaction(&mut batch, 1, [10]);
    writer.append(&mut batch).unwrap();
    let sync = writer.begin_sync().unwrap().unwrap();
    transaction(&mut batch, 2, [20]);
    writer.append(&mut batch).unwrap();
    assert!(writer.is_syncing() && writer.unsynced_bytes() > 0);
    assert_eq!(values(&read(&log, Seq(1))), [0; 0]);
    std::thread::spawn(move || sync.run()).join().unwrap();
    assert!(!writer.is_syncing());
    assert_eq!(values(&read(&log, Seq(1))), [0; 0], "nothing is visible before the writer knows");
    writer.settle().unwrap();
    assert_eq!(values(&read(&log, Seq(1))), [10]);
    // A sync that nobody runs is done by the writer where it cannot go on without: at a rotation, an abandoned transaction, the next sync.
    let _never_run = writer.begin_sync().unwrap().unwrap();
    change(&mut batch, TABLE, 30);
    writer.append(&mut batch).unwrap();
    writer.abandon().unwrap();
    assert_eq!(values(&read(&log, Seq(1))), [10, 20]);
    for number in 3..20 {
        transaction(&mut batch, number, [number * 10]);
        writer.append(&mut batch).unwrap();
        let _never_run = writer.begin_sync().unwrap();
    }
    writer.sync().unwrap();
    assert!(log.stats().segments > 3 && writer.begin_sync().unwrap().is_none());
    assert_eq!(values(&read(&log, Seq(1))), (1..20).map(|number| number * 10).collect::<Vec<_>>());
}

#[test]
fn what_was_outranked_stays_so_when_the_open_transaction_and_its_segments_are_abandoned() {
    for inside in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let Opened { mut writer, log, .. } = open_at(dir.path(), 400);
        let mut batch = start();
        transaction(&mut batch, 1, [1]);
        for value in 0..50 {
            change(&mut batch, TABLE, value);
        }
        writer.append(&mut batch).unwrap();
        // In a segment of its own, which goes with the transaction; or by numbers alone, which are given again.
        let bound = Version(writer.next_version().0 + if inside { 1_000_000 } else { 0 } - 1);
        writer.outrank(bound).unwrap();
        writer.abandon().unwrap();
        assert!(writer.next_version() > bound);
        transaction(&mut batch, 2, [2]);
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
        let frames = read(&log, Seq(1));
        assert_eq!(values(&frames), [1, 2]);
        assert!(frames.windows(2).all(|pair| pair[0].version < pair[1].version));
        assert!(frames.iter().rfind(|frame| frame.kind == Kind::Change).unwrap().version > bound);
    }
}

#[test]
fn a_quota_that_has_become_smaller_pauses_the_source_until_the_log_is_under_it() {
    let dir = tempfile::tempdir().unwrap();
    {
        let Opened { mut writer, .. } = open_at(dir.path(), 300);
        let mut batch = start();
        for number in 1..=40 {
            transaction(&mut batch, number, [number]);
            writer.append(&mut batch).unwrap();
        }
        writer.sync().unwrap();
    }
    let smaller = LogOptions { quota: Quota::Bytes(2400), ..options(300) };
    let Opened { mut writer, log, .. } = open(&SystemDisk, &At(NOW), dir.path(), smaller).unwrap();
    assert!(log.stats().bytes > log.limits().second);
    let shortage = writer.admit(0).unwrap().unwrap();
    assert!(matches!(shortage.kind, ShortageKind::Quota { .. }), "{shortage}");
    // Half of it is delivered, and goes.
    log.retain(Seq(log.visible().seq.0 / 2), NOW).unwrap();
    assert!(log.stats().bytes > log.limits().low && writer.admit(0).unwrap().is_some());
    log.retain(log.visible().seq.next(), NOW).unwrap();
    assert_eq!(writer.admit(0).unwrap(), None);
    assert!(log.stats().segments > 1, "what fits under the quota is kept for a replay");
}
