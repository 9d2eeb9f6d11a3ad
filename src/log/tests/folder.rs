//! What may lie in a log's folder, and what opening makes of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

/// A log of `transactions` of one change each, about one a segment.
fn fill(dir: &Path, transactions: u64) -> Opened<SystemDisk> {
    let mut opened = open_at(dir, 330);
    let mut batch = start();
    for number in 1..=transactions {
        transaction(&mut batch, number, [number]);
        opened.writer.append(&mut batch).unwrap();
        opened.writer.sync().unwrap();
    }
    opened
}

/// The segments' files, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
    paths.sort();
    paths
}

fn refusal(dir: &Path) -> OpenError {
    let before = files(dir).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    let error = open(&SystemDisk, &At(NOW), dir, options(300)).unwrap_err();
    let after = files(dir).iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>();
    assert!(before == after, "a refusal changes nothing: {error}");
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    error
}

#[test]
fn a_second_process_is_refused_and_may_look_on() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = fill(dir.path(), 5);
    assert!(matches!(refusal(dir.path()), OpenError::Locked { .. }));
    let mut open_transaction = Batch::new();
    change(&mut open_transaction, TABLE, 99);
    writer.append(&mut open_transaction).unwrap();

    let listing = |dir: &Path| {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let before = listing(dir.path());
    let beside = read_only(&SystemDisk, dir.path()).unwrap().log;
    assert_eq!(beside.visible().seq, log.visible().seq);
    assert_eq!(read(&beside, Seq(1)), read(&log, Seq(1)));
    assert!(matches!(beside.retain(Seq(u64::MAX), u64::MAX), Err(RetainError::ReadOnly)));
    let seen = beside.segments();
    assert_eq!(seen, log.segments());
    assert_eq!((seen[0].first, seen[0].sealed_micros), (Seq(1), Some(NOW)));
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn a_folder_without_a_log_cannot_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(read_only(&SystemDisk, dir.path()), Err(OpenError::Io { .. })));
    assert!(matches!(read_only(&SystemDisk, &dir.path().join("no")), Err(OpenError::Io { .. })));
}

#[test]
fn openings_without_a_write_do_not_pile_up_segments() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let Opened { log, recovered, .. } = open_at(dir.path(), 300);
        assert_eq!(recovered, if round == 0 { Recovered::Empty } else { Recovered::Clean });
        assert_eq!((files(dir.path()).len(), log.visible().seq), (1, Seq(0)));
    }
    let opened = fill(dir.path(), 3);
    let (visible, segments) = (opened.log.visible().seq, files(dir.path()).len());
    drop(opened);
    for _ in 0..5 {
        let Opened { log, writer, .. } = open_at(dir.path(), 300);
        assert_eq!((files(dir.path()).len(), log.visible().seq), (segments + 1, visible));
        assert_eq!(writer.position(), Some(&set(3)));
        assert_eq!(values(&read(&log, Seq(1))), [1, 2, 3]);
    }
}

#[test]
fn a_segment_half_made_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 3));
    let leftover = dir.path().join("00000000000000000099.new");
    fs::write(&leftover, b"half").unwrap();
    let Opened { log, recovered, .. } = open_at(dir.path(), 300);
    assert_eq!((recovered, leftover.exists()), (Recovered::Clean, false));
    assert_eq!(values(&read(&log, Seq(1))), [1, 2, 3]);
}

#[test]
fn what_is_not_the_logs_is_named_and_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 3));
    for name in ["notes.txt", "7.log", "00000000000000000001.log.bak"] {
        let path = dir.path().join(name);
        fs::write(&path, b"x").unwrap();
        let error = refusal(dir.path());
        assert!(matches!(&error, OpenError::Foreign { names, .. } if names[..] == [name]), "{error}");
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn a_missing_shortened_lengthened_or_foreign_segment_is_named_and_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    drop(fill(dir.path(), 9));
    drop(fill(other.path(), 9));
    let files = files(dir.path());
    assert!(files.len() > 4, "{files:?}");
    let middle = &files[2];
    let whole = fs::read(middle).unwrap();
    let chained = || match refusal(dir.path()) {
        OpenError::Chain { path, .. } => assert!(path == *middle || path == files[3], "{path:?}"),
        error => panic!("{error}"),
    };
    fs::remove_file(middle).unwrap();
    chained();
    fs::write(middle, &whole[..whole.len() - 1]).unwrap();
    chained();
    fs::write(middle, [&whole[..], b"x"].concat()).unwrap();
    chained();
    fs::copy(other.path().join(middle.file_name().unwrap()), middle).unwrap();
    chained();
    fs::write(middle, &whole).unwrap();
    // The first may be missing: retention removes from there.
    fs::remove_file(&files[0]).unwrap();
    let Opened { log, .. } = open_at(dir.path(), 300);
    let start = log.retained_start();
    assert!(start > Seq(1));
    let error = log.reader(start.previous()).unwrap_err();
    assert!(matches!(error, ReadError::BelowRetained { .. }), "{error}");
    assert_eq!(read(&log, start).last().unwrap().seq, log.visible().seq);
}

#[test]
fn fault_66_another_format_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 3));
    let last = files(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[8] = 9;
    fs::write(&last, bytes).unwrap();
    fs::write(dir.path().join("00000000000000000099.new"), b"half").unwrap();
    assert!(matches!(refusal(dir.path()), OpenError::Format { found: 9, .. }));
    assert!(dir.path().join("00000000000000000099.new").exists());
}

#[test]
fn a_segment_goes_when_all_have_passed_it_and_it_is_old() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = fill(dir.path(), 20);
    let day = u64::try_from(Duration::from_secs(86_400).as_micros()).unwrap();
    let segments = log.segments();
    let third = segments[3].first;
    assert_eq!(log.retain(third, NOW + day).unwrap().segments, 0);
    let mut reader = log.reader(Seq(1)).unwrap();
    reader.next_frame().unwrap();
    let held = log.read_at(Location { segment: Seq(1), offset: 64 }, &mut Vec::new()).unwrap().seq;
    assert_eq!(held, Seq(1));

    let removed = log.retain(third, NOW + day + 1).unwrap();
    assert_eq!(removed.segments, 3);
    assert_eq!(removed.bytes, segments[..3].iter().map(|segment| segment.bytes).sum::<u64>());
    assert_eq!(log.retained_start(), third);
    assert_eq!(files(dir.path()).len(), segments.len() - 3);
    assert_eq!(log.segments()[..], segments[3..]);

    // Who is in a segment that went reads it to its end, and is then told.
    let error = loop {
        match reader.next_frame() {
            Ok(frame) => assert!(frame.unwrap().seq < segments[1].first),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, ReadError::BelowRetained { wanted, .. } if wanted == segments[1].first),
        "{error}"
    );
    let gone = log.read_at(Location { segment: Seq(1), offset: 64 }, &mut Vec::new()).unwrap_err();
    assert!(matches!(gone, ReadError::BelowRetained { .. }), "{gone}");

    // Not the one in which the visible log ends, whoever asks.
    assert!(log.retain(Seq(u64::MAX), u64::MAX).unwrap().segments > 0);
    assert_eq!(log.stats().segments, 1);
    let mut batch = Batch::new();
    transaction(&mut batch, 21, [21]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let visible = log.visible().seq;
    drop(writer);
    let Opened { writer, log, .. } = open_at(dir.path(), 300);
    assert_eq!((log.visible().seq, writer.position()), (visible, Some(&set(21))));
}

#[test]
fn what_a_replay_is_yet_to_read_stays_over_age_and_bytes_and_goes_when_room_is_short() {
    for (quota, is_short) in [(Quota::Bytes(1 << 20), false), (Quota::Bytes(2400), true)] {
        let dir = tempfile::tempdir().unwrap();
        drop(fill(dir.path(), 20));
        let retention = Retention { age: Duration::ZERO, bytes: 0 };
        let options = LogOptions { segment_bytes: 300, retention, quota, ..LogOptions::default() };
        let Opened { log, .. } = open(&SystemDisk, &At(NOW), dir.path(), options).unwrap();
        let (segments, below) = (log.segments(), log.visible().seq.next());
        assert!(segments.len() > 5 && log.stats().bytes > 2400, "{segments:?}");
        // In the middle of a segment.
        let (third, replay) = (segments[2].first, Some(segments[2].first.next()));
        let needed = Needed { below, replay };
        let removed = log.retain(needed, u64::MAX).unwrap().segments;
        if is_short {
            assert!(removed > 2 && log.stats().bytes <= log.limits().low, "{removed}");
        } else {
            assert_eq!((removed, log.retained_start()), (2, third));
            assert_eq!(log.retain(needed, u64::MAX).unwrap(), Retained::default());
        }
        log.retain(below, u64::MAX).unwrap();
        assert_eq!(log.stats().segments, 1, "the replay has ended");
    }
}

#[test]
fn a_segment_goes_when_those_that_all_have_passed_are_too_large_together() {
    let dir = tempfile::tempdir().unwrap();
    drop(fill(dir.path(), 20));
    let retention = Retention { bytes: 1000, ..Retention::default() };
    let options = LogOptions { segment_bytes: 300, retention, ..LogOptions::default() };
    let Opened { log, .. } = open(&SystemDisk, &At(NOW), dir.path(), options).unwrap();
    let below = log.visible().seq;
    assert!(log.retain(below, NOW).unwrap().segments > 0);
    let behind = log.segments();
    let behind: u64 =
        behind.iter().filter(|s| s.last.is_some_and(|last| last < below)).map(|s| s.bytes).sum();
    assert!((700..=1000).contains(&behind), "{behind}");
    assert_eq!(log.retain(below, NOW).unwrap().segments, 0);
}
