//! Readers at any place: what the index knows changes where they begin to read, and never what they hand out.

use proptest::prelude::*;

use super::super::index::SPACING;
use super::*;
use crate::log::Space;
use crate::log::record::HEADER;
use crate::log::segment::SEGMENT_HEADER;

/// A history of transactions over some tables, with open ones that are abandoned, in segments of this size.
#[derive(Clone, Debug)]
struct History {
    segment_bytes: u64,
    /// Tables of the changes, and whether they are committed.
    transactions: Vec<(Vec<u8>, bool)>,
}

fn history() -> impl Strategy<Value = History> {
    let tables = prop::collection::vec(0..6u8, 1..25);
    let transactions = prop::collection::vec((tables, prop::bool::weighted(0.7)), 1..25);
    let segment_bytes = prop_oneof![Just(300u64), Just(2000), Just(1 << 20)];
    (segment_bytes, transactions)
        .prop_map(|(segment_bytes, transactions)| History { segment_bytes, transactions })
}

/// Plays a history, and calls `between` after each transaction.
fn play(dir: &Path, history: &History, mut between: impl FnMut(&Log<SystemDisk>)) -> Opened<SystemDisk> {
    let mut opened = open_at(dir, history.segment_bytes);
    let mut batch = Batch::new();
    mark(&mut batch, GtidSet::default());
    let mut sent = Vec::new();
    let mut number = 0;
    for (tables, committed) in &history.transactions {
        for &table in tables {
            if !sent.contains(&table) {
                batch.schema(&schema(TableNo(u32::from(table))));
                sent.push(table);
            }
            change(&mut batch, TableNo(u32::from(table)), number);
        }
        if *committed {
            number += 1;
            commit(&mut batch, number);
        }
        opened.writer.append(&mut batch).unwrap();
        if *committed {
            opened.writer.sync().unwrap();
        } else {
            opened.writer.abandon().unwrap();
        }
        between(&opened.log);
    }
    opened
}

/// What a reader from `from` should hand out, told by `all`: what a reader from the first frame did.
fn expected(all: &[Read], from: Seq) -> Vec<Read> {
    let segment = all.iter().rev().find(|frame| frame.seq <= from).map(|frame| frame.at.segment);
    let wanted =
        |frame: &&Read| frame.seq >= from || frame.kind == Kind::Schema && Some(frame.at.segment) == segment;
    all.iter().filter(wanted).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_hands_out_the_same_whatever_the_index_knows(
        history in history(),
        shares in prop::collection::vec(any::<u8>(), 1..8),
    ) {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut rounds = 0;
        let opened = play(dir.path(), &history, |log| {
            let mut all = read(&read_only(&SystemDisk, dir.path()).unwrap().log, Seq(1));
            all.truncate(log.visible().seq.0 as usize);
            rounds += 1;
            // Now and then nothing is known, and then what readers find, and the writer from there on.
            if rounds % 5 == 0 {
                log.shared.index.segments().into_iter().for_each(|segment| log.shared.index.forget(segment));
            }
            for &share in &shares {
                let from = Seq(1 + log.visible().seq.0 * u64::from(share) / 255);
                assert!(read(log, from) == expected(&all, from), "from {from}");
            }
        });
        // The log that its writer passed, and one that nobody has passed but the readers before.
        let look = || read_only(&SystemDisk, dir.path()).unwrap().log;
        for log in [opened.log, look()] {
            let all = read(&look(), Seq(1))[..log.visible().seq.0 as usize].to_vec();
            for from in (1..=all.len() as u64 + 1).rev().map(Seq) {
                prop_assert!(read(&log, from) == expected(&all, from), "from {}", from);
            }
        }
    }
}

#[test]
fn a_reader_begins_near_its_frame_where_somebody_passed_before() {
    let dir = tempfile::tempdir().unwrap();
    {
        let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
        let mut batch = start();
        transaction(&mut batch, 1, 0..60);
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
        // The writer passed.
        let from = read(&log, Seq(1))[50].at;
        let reader = log.reader(Seq(51)).unwrap();
        assert!(reader.location() <= from && from.offset - reader.location().offset < SPACING + 100);
        assert_eq!(reader.bytes_behind(), log.visible().end.offset - reader.location().offset);
    }
    let Opened { log, .. } = open_at(dir.path(), 1 << 20);
    let begins = |from| log.reader(from).unwrap().location().offset;
    assert_eq!(begins(Seq(51)), 64, "nobody has passed since it was opened");
    let frames = read(&log, Seq(30));
    let from = frames.iter().find(|frame| frame.seq == Seq(51)).unwrap().at.offset;
    assert!(begins(Seq(51)) <= from && from - begins(Seq(51)) < SPACING + 100);
    assert_eq!(read(&log, Seq(51)), frames[..1].iter().chain(&frames[22..]).cloned().collect::<Vec<_>>());
}

#[test]
fn a_schema_that_cannot_be_read_at_its_stop_is_tried_again_and_never_left_out() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    let mut batch = start();
    transaction(&mut batch, 1, 0..60);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let at = read(&log, Seq(1)).iter().find(|frame| frame.kind == Kind::Schema).unwrap().at;
    let path = dir.path().join("00000000000000000001.log");
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut whole = [0];
    file.read_exact_at(&mut whole, at.offset + 20).unwrap();
    file.write_all_at(&[!whole[0]], at.offset + 20).unwrap();
    let mut reader = log.reader(Seq(51)).unwrap();
    for _ in 0..3 {
        let error = reader.next_frame().unwrap_err();
        assert!(matches!(&error, ReadError::Corrupt(c) if c.offset == at.offset), "{error}");
    }
    file.write_all_at(&whole, at.offset + 20).unwrap();
    let seqs: Vec<_> = read(&log, Seq(51)).iter().map(|frame| frame.seq.0).collect();
    assert_eq!(seqs, [3].into_iter().chain(51..=64).collect::<Vec<_>>());
}

#[test]
fn what_is_known_of_a_segment_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1500);
    let mut batch = start();
    for number in 1..=10 {
        transaction(&mut batch, number, 0..20);
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
    let firsts =
        |log: &Log<SystemDisk>| log.segments().iter().map(|segment| segment.first).collect::<Vec<_>>();
    let known = |log: &Log<SystemDisk>| log.shared.index.segments();
    assert_eq!(known(&log), firsts(&log));
    let mut inside = log.reader(Seq(1)).unwrap();
    inside.next_frame().unwrap();
    // An open transaction's segments, cut again.
    (0..200).for_each(|value| change(&mut batch, TABLE, value));
    writer.append(&mut batch).unwrap();
    assert_eq!(known(&log), firsts(&log));
    writer.abandon().unwrap();
    assert_eq!(known(&log), firsts(&log));
    // Retired ones, also while somebody reads on in one.
    log.retain(log.visible().seq, u64::MAX).unwrap();
    while inside.next_frame().is_ok_and(|frame| frame.is_some()) {}
    assert_eq!(known(&log), firsts(&log));
}

#[test]
fn fault_14_a_reader_keeps_its_retired_segment_and_is_told_at_its_end_and_so_is_one_that_comes_late() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 450);
    let mut batch = start();
    for number in 1..=20 {
        transaction(&mut batch, number, [number]);
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
    let frames = read(&log, Seq(1));
    let segments = log.segments();
    // At different places of the log, one in the middle of each segment.
    let middle = |segment: &SegmentInfo| Seq(u64::midpoint(segment.first.0, segment.last.unwrap().0));
    let mut readers: Vec<_> = segments.iter().map(|s| (middle(s), log.reader(middle(s)).unwrap())).collect();
    let beside = read_only(&SystemDisk, dir.path()).unwrap().log;
    let mut looking = beside.reader(Seq(1)).unwrap();
    looking.next_frame().unwrap();
    let start = segments[3].first;
    assert_eq!(log.retain(start, u64::MAX).unwrap().segments, 3);

    for (segment, (from, reader)) in segments.iter().zip(&mut readers) {
        let (mut seqs, error) = (
            Vec::new(),
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) if frame.seq == *from => break None,
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("{from} is visible"),
                    Err(error) => break Some(error),
                }
            },
        );
        assert!(error.is_none(), "{error:?}");
        let error = loop {
            match reader.next_frame() {
                Ok(Some(frame)) => seqs.push(frame.seq),
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        let retired = segment.first < start;
        let last = if retired && segment.last != Some(start.previous()) {
            segment.last.unwrap()
        } else {
            log.visible().seq
        };
        assert_eq!(seqs.last(), Some(&last).filter(|last| **last > *from));
        match error {
            Some(ReadError::BelowRetained { wanted, start: told }) => {
                assert_eq!((wanted, told), (last.next(), start));
            }
            Some(error) => panic!("{error}"),
            None => assert_eq!(last, log.visible().seq),
        }
    }
    let late = log.reader(start.previous()).unwrap_err();
    assert!(matches!(late, ReadError::BelowRetained { start: told, .. } if told == start), "{late}");
    assert_eq!(read(&log, start)[..], frames[start.0 as usize - 1..]);

    // Who only looks on finds the files gone, and is told the same.
    let error = loop {
        match looking.next_frame() {
            Ok(frame) => assert!(frame.unwrap().seq < segments[1].first),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, ReadError::BelowRetained { wanted, .. } if wanted == segments[1].first),
        "{error}"
    );
    assert_eq!(beside.retained_start(), segments[2].first);
    let error = beside.reader(segments[2].first).unwrap_err();
    assert!(matches!(error, ReadError::BelowRetained { .. }), "{error}");
    assert_eq!(read(&beside, beside.retained_start())[..], frames[start.0 as usize - 1..]);
    // A segment that retention cannot have taken is missing.
    std::fs::remove_file(dir.path().join(format!("{:020}.log", segments[4].first.0))).unwrap();
    let error = read_until(&beside, start).1.unwrap();
    assert!(matches!(error, ReadError::Io { .. }), "{error}");
}

#[test]
fn what_is_ahead_of_a_place_is_what_will_be_read_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 300);
    let mut batch = start();
    for number in 1..=9 {
        transaction(&mut batch, number, 0..number % 4);
    }
    // Not visible: it counts as soon as it is.
    change(&mut batch, TABLE, 7);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let frames = read(&log, Seq(1));
    assert!(log.segments().len() > 3);
    for (place, frame) in frames.iter().enumerate() {
        let length = |frame: &Read| (HEADER + frame.payload.len()) as u64;
        let end = Location { offset: frame.at.offset + length(frame), ..frame.at };
        let heads =
            frames[place + 1..].iter().filter(|frame| frame.at.offset == SEGMENT_HEADER).count() as u64;
        let ahead: u64 = frames[place + 1..].iter().map(length).sum();
        assert_eq!(log.bytes_ahead(end), ahead + heads * SEGMENT_HEADER, "{}", frame.seq);
    }
}

#[test]
fn there_is_room_beside_the_stream_while_a_segment_and_more_is_left_below_every_limit() {
    let quota = crate::log::Quota::Bytes(1000);
    let options = LogOptions { quota, segment_bytes: 100, keep_free_bytes: 10, ..LogOptions::default() };
    let limits = options.limits(0, 0);
    let space = |free_bytes| Space { number: 1, free_bytes, ..Space::default() };
    assert_eq!((limits.low, limits.resume_free), (900, 110));
    assert!(limits.has_room_beside(799, &space(210)));
    assert!(!limits.has_room_beside(800, &space(210)), "the log");
    assert!(!limits.has_room_beside(0, &space(209)), "the disk");
    assert!(limits.has_room_beside(0, &Space::default()), "nothing was measured yet");
}
