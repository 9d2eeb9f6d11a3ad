//! A log cut back by hand, whole or damaged, and a cut that ends in the middle.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::log::cut::{self, CutError, Kept, Plan};

/// A log of five segments and more, with an open transaction at the end, versions raised on the way and a clock that went back.
pub(super) fn several_segments(dir: &Path) -> Vec<Read> {
    several_segments_on(&SystemDisk, dir)
}

pub(super) fn several_segments_on<D: crate::disk::Disk>(disk: &D, dir: &Path) -> Vec<Read> {
    let mut number = 0;
    let mut write = |writer: &mut Writer<D>, batch: &mut Batch, transactions: u64| {
        for _ in 0..transactions {
            number += 1;
            transaction(batch, number, [number * 10, number * 10 + 1]);
            writer.append(batch).unwrap();
            writer.sync().unwrap();
        }
    };
    {
        let Opened { mut writer, .. } = open(disk, &At(NOW), dir, options(350)).unwrap();
        let mut batch = start();
        write(&mut writer, &mut batch, 4);
        writer.outrank(Version(NOW + 3_600_000_000)).unwrap();
        write(&mut writer, &mut batch, 2);
    }
    let Opened { mut writer, log, .. } = open(disk, &At(NOW - 1_000_000), dir, options(350)).unwrap();
    let mut batch = Batch::new();
    batch.schema(&schema(TABLE));
    write(&mut writer, &mut batch, 2);
    let frames = read(&log, Seq(1));
    for value in 0..12 {
        change(&mut batch, TABLE, 1000 + value);
    }
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    frames
}

pub(super) fn copy_of(dir: &Path) -> (tempfile::TempDir, PathBuf) {
    let copy = folder();
    let log = copy.path().join("log");
    fs::create_dir(&log).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), log.join(entry.file_name())).unwrap();
    }
    (copy, log)
}

/// In memory where the system has a place for that.
pub(super) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(super) fn names(dir: &Path) -> Vec<String> {
    let mut names = crate::disk::Disk::list(&SystemDisk, dir).unwrap();
    names.sort();
    names
}

/// Cuts on a clock that stands behind the one that the log was written by.
pub(super) fn cut<D: crate::disk::Disk>(
    disk: &D,
    log: &Path,
    after: u64,
    cursors: &[Seq],
) -> Result<(Plan, Option<Kept>), CutError> {
    let locked = cut::lock(disk, log)?;
    let plan = locked.plan(&At(NOW - 2_000_000), Seq(after), cursors)?;
    let kept = locked.carry_out(&plan, &log.with_file_name("cut"))?;
    Ok((plan, kept))
}

/// The last end of a transaction among `frames` at or below `after`.
pub(super) fn end_below(frames: &[Read], after: u64) -> Seq {
    let ends = frames.iter().filter(|frame| matches!(frame.kind, Kind::Commit | Kind::Mark));
    ends.map(|frame| frame.seq).take_while(|seq| seq.0 <= after).last().unwrap_or(Seq(0))
}

pub(super) fn position_at(frames: &[Read], after: Seq) -> Option<GtidSet> {
    let commits = frames.iter().filter(|f| f.kind == Kind::Commit && f.seq <= after).count();
    (after > Seq(0)).then(|| set(commits as u64))
}

/// Opens the log, on a clock that is behind as well, checks that it is `frames` up to `after`, and writes on.
fn goes_on(log: &Path, frames: &[Read], after: Seq) {
    let sent = frames.iter().map(|frame| frame.version).max().unwrap();
    goes_on_with(&SystemDisk, log, frames, after, sent);
}

/// As [`goes_on`]; `sent`: the highest version that was visible to anybody.
pub(super) fn goes_on_with<D: crate::disk::Disk>(
    disk: &D,
    log: &Path,
    frames: &[Read],
    after: Seq,
    sent: Version,
) {
    let Opened { mut writer, log, recovered } = open(disk, &At(NOW - 3_000_000), log, options(350)).unwrap();
    assert_eq!((recovered, log.visible().seq), (Recovered::Clean, after));
    assert_eq!(writer.position().cloned(), position_at(frames, after));
    assert!(writer.next_version() > sent, "{} is not above {sent}", writer.next_version());
    assert!(log.highest_version() >= sent, "what was sent is not taken for another writer's");
    let mut batch = Batch::new();
    if after == Seq(0) {
        mark(&mut batch, GtidSet::default());
    }
    batch.schema(&schema(TABLE));
    transaction(&mut batch, 99, [990, 991]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let now = read(&log, Seq(1));
    let kept = &frames[..usize::try_from(after.0).unwrap()];
    // An empty log's state is that of the new segment.
    assert_eq!(now[..kept.len()], *kept);
    assert_eq!(values(&now), [values(kept), vec![990, 991]].concat());
    assert!(now[kept.len()..].iter().all(|frame| frame.version > sent));
}

#[test]
fn a_log_cut_at_any_frame_is_its_beginning_and_goes_on_with_higher_versions() {
    let whole = folder();
    let frames = several_segments(whole.path());
    let last = frames.last().unwrap().seq.0;
    let before = names(whole.path());
    assert!(before.len() > 5, "{before:?}");
    for after in 0..=last + 20 {
        let (state, log) = copy_of(whole.path());
        let (plan, kept) = cut(&SystemDisk, &log, after, &[Seq(last)]).unwrap();
        assert_eq!(plan.after, end_below(&frames, after), "{after}");
        let position = plan.standing.clone().map(|standing| standing.gtids);
        assert_eq!(position, position_at(&frames, plan.after), "{after}");
        let all = position_at(&frames, Seq(last)).unwrap();
        assert_eq!(plan.going.gtids, all.subtract(&position.unwrap_or_default()), "{after}");
        assert!(plan.going.whole && plan.going.versions_known && !plan.is_empty());
        // Nothing is lost: what went and what stayed are the bytes that were there.
        let kept = kept.unwrap();
        assert!(kept.folder.starts_with(state.path().join("cut")) && kept.unreadable_bytes == 0);
        for name in before.iter().filter(|name| name.ends_with(".log")) {
            let was = fs::read(whole.path().join(name)).unwrap();
            let moved = kept.folder.join(name);
            if moved.exists() {
                assert_eq!(fs::read(moved).unwrap(), was, "{after}");
                continue;
            }
            let mut is = fs::read(log.join(name)).unwrap();
            let tail = kept.folder.join(format!("{}.from-{}", name.trim_end_matches(".log"), is.len()));
            if tail.exists() {
                is.extend(fs::read(tail).unwrap());
            }
            assert_eq!(is, was, "{after} {name}");
        }
        goes_on(&log, &frames, plan.after);
    }
}

#[test]
fn a_second_cut_at_the_same_place_finds_nothing_to_do() {
    let whole = folder();
    let frames = several_segments(whole.path());
    let after = end_below(&frames, 20);
    let (_state, log) = copy_of(whole.path());
    assert!(cut(&SystemDisk, &log, after.0, &[]).unwrap().1.is_some());
    let (plan, kept) = cut(&SystemDisk, &log, after.0, &[]).unwrap();
    assert_eq!((plan.is_empty(), kept), (true, None));
    goes_on(&log, &frames, after);
}

#[test]
fn a_cut_below_the_start_or_inside_a_transaction_that_the_log_begins_in_is_refused() {
    let whole = folder();
    several_segments(whole.path());
    let files: Vec<String> = names(whole.path()).into_iter().filter(|name| name.ends_with(".log")).collect();
    for gone in 1..files.len() {
        let (_state, log) = copy_of(whole.path());
        files[..gone].iter().for_each(|name| fs::remove_file(log.join(name)).unwrap());
        let start: u64 = files[gone].trim_end_matches(".log").parse().unwrap();
        let error = cut(&SystemDisk, &log, start - 2, &[]).unwrap_err();
        assert!(matches!(error, CutError::BelowStart { .. }), "{error}");
        match cut(&SystemDisk, &log, start - 1, &[]) {
            Ok((plan, _)) => assert_eq!(plan.after.0, start - 1),
            Err(error) => assert!(matches!(error, CutError::NoEnd { .. }), "{error}"),
        }
    }
}

#[test]
fn a_log_in_use_or_not_there_or_with_foreign_files_is_not_cut() {
    let (_state, log) = {
        let whole = folder();
        several_segments(whole.path());
        copy_of(whole.path())
    };
    let held = open_at(&log, 350);
    let error = cut(&SystemDisk, &log, 5, &[]).unwrap_err();
    assert!(matches!(error, CutError::Open(OpenError::Locked { .. })), "{error}");
    drop(held);
    fs::write(log.join("notes.txt"), b"x").unwrap();
    let error = cut(&SystemDisk, &log, 5, &[]).unwrap_err();
    assert!(matches!(error, CutError::Open(OpenError::Foreign { .. })), "{error}");
    let nowhere = log.with_file_name("nowhere");
    assert!(cut(&SystemDisk, &nowhere, 5, &[]).is_err() && !nowhere.exists());
}

#[test]
fn damage_anywhere_is_cut_away_and_is_refused_below_the_cut() {
    let whole = folder();
    let frames = several_segments(whole.path());
    let segments: Vec<String> =
        names(whole.path()).into_iter().filter(|name| name.ends_with(".log")).collect();
    // No sink has passed anything: all that stays must be whole.
    let cursors = [Seq(0)];
    for name in &segments {
        let first: u64 = name.trim_end_matches(".log").parse().unwrap();
        let bytes = fs::read(whole.path().join(name)).unwrap();
        for at in (0..bytes.len()).step_by(23) {
            let (_state, log) = copy_of(whole.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x55;
            fs::write(log.join(name), &flipped).unwrap();
            let in_header = at < 64;
            let hit = frames.iter().rev().find(|f| f.at.segment == Seq(first) && f.at.offset <= at as u64);
            let hit = if in_header { first } else { hit.map_or(first, |frame| frame.seq.0) };
            let after = end_below(&frames, hit - 1);
            let cut = cut(&SystemDisk, &log, hit - 1, &cursors);
            if first == 1 && (at as u64) < frames[1].at.offset {
                // Nothing stands before it: no cut mends that.
                assert!(matches!(cut, Err(CutError::Open(_))), "{at}");
                continue;
            }
            if in_header {
                // What its versions were nobody knows, and the clock of this test is behind.
                assert!(matches!(cut, Err(CutError::Clock { .. })), "{name} {at}");
                continue;
            }
            let (plan, _) = cut.unwrap();
            assert_eq!((plan.after, plan.going.versions_known), (after, true), "{name} {at}");
            goes_on(&log, &frames, plan.after);
        }
    }
}

#[test]
fn a_cut_above_what_is_damaged_is_refused_until_every_sink_has_passed_it() {
    let whole = folder();
    let frames = several_segments(whole.path());
    let (_state, log) = copy_of(whole.path());
    let damaged = &frames[4];
    let path = log.join("00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(damaged.at.offset).unwrap() + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    let second = frames.iter().find(|frame| frame.at.segment > Seq(1)).unwrap().seq;
    let after = end_below(&frames, frames.last().unwrap().seq.0);
    for cursors in [&[][..], &[Seq(2)], &[second.previous().previous(), after]] {
        let error = cut(&SystemDisk, &log, after.0, cursors).unwrap_err();
        let CutError::Open(OpenError::Corrupt(corrupt)) = &error else { panic!("{error}") };
        assert_eq!((corrupt.seq, corrupt.offset), (damaged.seq, damaged.at.offset));
        assert!(error.to_string().contains(&format!("log cut --after {}", damaged.seq.previous())));
    }
    let (plan, _) = cut(&SystemDisk, &log, after.0, &[second.previous()]).unwrap();
    assert_eq!(plan.after, after);
}

#[test]
fn versions_that_cannot_be_known_are_taken_from_a_clock_that_is_not_behind() {
    let whole = folder();
    let frames = several_segments(whole.path());
    let last = names(whole.path()).into_iter().rfind(|name| name.ends_with(".log")).unwrap();
    let sent = frames.last().unwrap().seq;
    let at = |log: &Path, now: u64, cursors: &[Seq]| {
        let locked = cut::lock(&SystemDisk, log).unwrap();
        locked.plan(&At(now), Seq(8), cursors).map(|plan| plan.going.versions_known)
    };
    let (_state, log) = copy_of(whole.path());
    assert!(at(&log, NOW - 1, &[sent]).unwrap());
    // A sink has carried more than is there.
    let error = at(&log, NOW - 1, &[Seq(sent.0 + 1000)]).unwrap_err();
    assert!(matches!(error, CutError::Clock { .. }), "{error}");
    assert!(!at(&log, NOW, &[Seq(sent.0 + 1000)]).unwrap());
    fs::write(log.join(last), b"no header").unwrap();
    let error = at(&log, NOW - 1, &[sent]).unwrap_err();
    assert!(matches!(error, CutError::Clock { .. }), "{error}");
    assert!(!at(&log, NOW, &[sent]).unwrap());
}
