//! A clock that jumps (fault 22).

use super::*;
use crate::disk::Disk;

const HOUR: u64 = 3_600_000_000;

/// A log of several segments, its first frame's number the retained start, everything synced.
fn filled(dir: &Path, now: u64) -> Opened<SystemDisk> {
    let mut opened = open(&SystemDisk, &At(now), dir, options(300)).unwrap();
    let mut batch = start();
    for number in 1..=6 {
        transaction(&mut batch, number, [number * 10, number * 10 + 1, number * 10 + 2]);
        opened.writer.append(&mut batch).unwrap();
        opened.writer.sync().unwrap();
    }
    assert!(opened.log.stats().segments > 3);
    opened
}

#[test]
fn fault_22_versions_rise_through_a_clock_that_is_set_back_and_forward_again() {
    let dir = tempfile::tempdir().unwrap();
    for (round, now) in [NOW, NOW - 24 * HOUR, NOT_BEFORE_MICROS, NOW + HOUR, NOW].into_iter().enumerate() {
        let Opened { mut writer, .. } = open(&SystemDisk, &At(now), dir.path(), options(300)).unwrap();
        let mut batch = start();
        transaction(&mut batch, round as u64 + 1, 0..20);
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
    let log = read_only(&SystemDisk, dir.path()).unwrap().log;
    let frames = read(&log, Seq(1));
    assert!(frames.len() > 100 && frames.windows(2).all(|pair| pair[0].version < pair[1].version));
}

#[test]
fn fault_22_a_clock_before_this_program_is_refused_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path(), NOW));
    let names = || {
        let mut names = SystemDisk.list(dir.path()).unwrap();
        names.sort();
        names
    };
    let before = names();
    for now in [0, 1_600_000_000_000_000, NOT_BEFORE_MICROS - 1] {
        let error = open(&SystemDisk, &At(now), dir.path(), options(300)).unwrap_err();
        assert!(matches!(error, OpenError::Clock { now_micros } if now_micros == now), "{error}");
        assert_eq!(names(), before);
    }
    let Opened { log, .. } = open_at(dir.path(), 300);
    assert_eq!(values(&read(&log, Seq(1))).len(), 18);
}

#[test]
fn fault_22_a_clock_set_back_makes_segments_stay_and_never_go() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { log, .. } = filled(dir.path(), NOW);
    let (below, day) = (log.visible().seq.next(), 24 * HOUR);
    for now in [0, NOW - day, NOW - 1, NOW, NOW + day] {
        assert_eq!(log.retain(below, now).unwrap(), Retained::default(), "{now}");
    }
    assert!(log.retain(below, NOW + day + 1).unwrap().segments > 2);
}

#[test]
fn fault_22_a_clock_set_forward_takes_nothing_that_a_cursor_still_needs() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { log, .. } = filled(dir.path(), NOW);
    let segments = log.segments();
    for segment in &segments {
        log.retain(segment.first, u64::MAX).unwrap();
        assert_eq!(log.retained_start(), segment.first);
    }
    assert_eq!(log.stats().segments, 1);
}
