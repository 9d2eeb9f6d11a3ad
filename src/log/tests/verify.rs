//! Checking logs: whole, damaged, being written; and the way out that a check names.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::cut::{copy_of, folder, names, several_segments};
use super::*;
use crate::disk::Disk;
use crate::log::cut;
use crate::log::verify::{Checked, Depth, Finding, Report, WayOut, verify};

pub(super) fn check(dir: &Path, depth: Depth) -> (Checked, Vec<Finding>) {
    check_on(&SystemDisk, dir, depth)
}

pub(super) fn check_on<D: Disk>(disk: &D, dir: &Path, depth: Depth) -> (Checked, Vec<Finding>) {
    let (mut findings, mut total, mut bytes) = (Vec::new(), 0, 0);
    let checked = verify(disk, dir, depth, |report| match report {
        Report::Total(all) => total = all,
        Report::Read(more) => bytes += more,
        Report::Finding(finding) => findings.push(finding),
    });
    let checked = checked.unwrap();
    assert!(bytes == checked.bytes && bytes <= total);
    assert_eq!(findings.iter().filter(|f| f.is_damage()).count() as u64, checked.damaged, "{findings:?}");
    assert!(findings.iter().all(|finding| finding.is_damage() != finding.to_string().contains("no damage")));
    (checked, findings)
}

/// The damage found, with every payload looked at.
pub(super) fn damage(dir: &Path) -> (Checked, Vec<Finding>) {
    let (checked, mut findings) = check(dir, Depth::Payloads);
    findings.retain(Finding::is_damage);
    (checked, findings)
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = names(dir).into_iter().filter(|name| name.ends_with(".log"));
    names.map(|name| dir.join(name)).collect()
}

/// Takes the way out that the check named, and checks again.
fn take_way_out(log: &Path, frames: &[Read]) {
    let (checked, findings) = damage(log);
    let after = match checked.way_out {
        WayOut::Cut { after, bytes } => {
            assert!(bytes > 0, "{findings:?}");
            after
        }
        WayOut::None => return,
        WayOut::NothingToKeep => {
            assert!(findings[0].path().is_some_and(|path| *path == segments(log)[0]), "{findings:?}");
            return;
        }
    };
    let locked = cut::lock(&SystemDisk, log).unwrap();
    // No sink has passed anything; the clock is ahead of all that was sent.
    let plan = locked.plan(&At(2 * NOW), after, &[Seq(0)]).unwrap();
    assert_eq!(plan.after, after, "{findings:?}");
    locked.carry_out(&plan, &log.with_file_name("cut")).unwrap();
    let (checked, left) = damage(log);
    assert!(left.is_empty() && checked.opens, "{findings:?}: {left:?}");
    let Opened { log, writer, .. } = open_at(log, 350);
    assert_eq!((log.visible().seq, writer.next_seq()), (after, after.next().next()));
    let kept = read(&log, Seq(1));
    assert_eq!(kept[..], frames[..kept.len()]);
    assert_eq!(kept.len() as u64, after.0);
}

#[test]
fn a_whole_log_has_no_damage_and_what_the_next_start_cuts_is_none() {
    let dir = folder();
    let frames = several_segments(dir.path());
    for depth in [Depth::Frames, Depth::Payloads] {
        let (checked, findings) = check(dir.path(), depth);
        let open = Finding::OpenTransaction { since: frames.last().unwrap().seq.next(), frames: 16 };
        assert_eq!(findings, [open]);
        assert_eq!((checked.damaged, checked.way_out, checked.opens), (0, WayOut::None, true));
        assert_eq!((checked.first, checked.last), (Seq(1), frames.last().unwrap().seq));
        assert_eq!(checked.frames, frames.len() as u64);
        assert_eq!(checked.ends, 9);
    }
    let last = segments(dir.path()).pop().unwrap();
    let length = fs::metadata(&last).unwrap().len();
    fs::write(&last, [fs::read(&last).unwrap(), vec![0xA5; 70]].concat()).unwrap();
    fs::write(dir.path().join("00000000000000000099.new"), b"half").unwrap();
    let (checked, findings) = check(dir.path(), Depth::Payloads);
    assert_eq!(checked.damaged, 0, "{findings:?}");
    assert!(findings.contains(&Finding::TornTail { path: last, offset: length, bytes: 70 }), "{findings:?}");
    assert!(matches!(findings[0], Finding::Leftover { .. }), "{findings:?}");
}

#[test]
fn a_folder_without_a_log_is_an_error() {
    let dir = folder();
    for path in [dir.path(), &dir.path().join("nowhere")] {
        assert!(verify(&SystemDisk, path, Depth::Frames, |_| {}).is_err());
    }
}

#[test]
fn every_flipped_byte_of_what_is_visible_is_found_at_its_frame_and_the_way_out_mends_it() {
    let whole = folder();
    let frames = several_segments(whole.path());
    let end = frames.last().unwrap();
    for path in segments(whole.path()) {
        let name = path.file_name().unwrap();
        let first: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let (_state, log) = copy_of(whole.path());
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x11;
            fs::write(log.join(name), &flipped).unwrap();
            let (_, findings) = damage(&log);
            let hit = frames.iter().rev().find(|f| f.at.segment == Seq(first) && f.at.offset <= at as u64);
            match hit {
                // The header: nothing in the segment can be read.
                _ if at < 64 => assert!(
                    findings
                        .iter()
                        .any(|f| matches!(f, Finding::Header { path, .. } if *path == log.join(name))),
                    "{at}: {findings:?}"
                ),
                Some(hit) if hit != end || at < end_of(end) => {
                    let place = findings.first().map(|f| (f.seq(), f.offset(), f.path().cloned()));
                    let expected = (Some(hit.seq), Some(hit.at.offset), Some(log.join(name)));
                    assert_eq!(place, Some(expected), "{at}: {findings:?}");
                }
                // The open transaction: the next start cuts it, damaged or not.
                _ => {}
            }
            take_way_out(&log, &frames);
        }
    }
}

/// Where a frame ends in its segment, bytes.
fn end_of(frame: &Read) -> usize {
    usize::try_from(frame.at.offset).unwrap() + crate::log::record::HEADER + frame.payload.len()
}

#[test]
fn fault_15_missing_duplicate_foreign_and_extra_files_are_all_named_and_cut_away() {
    let (whole, other) = (folder(), folder());
    let frames = several_segments(whole.path());
    several_segments(other.path());
    let files = segments(whole.path());
    let name = |i: usize| files[i].file_name().unwrap();
    let refused = |log: &Path| {
        let error = open(&SystemDisk, &At(NOW), log, options(350)).unwrap_err();
        assert!(!matches!(error, OpenError::Io { .. } | OpenError::Locked { .. }), "{error}");
    };
    // Missing.
    for gone in 1..files.len() - 1 {
        let (_state, log) = copy_of(whole.path());
        fs::remove_file(log.join(name(gone))).unwrap();
        refused(&log);
        let (_, findings) = damage(&log);
        let missing = name(gone).to_str().unwrap();
        assert!(
            matches!(&findings[..], [Finding::Chain { why, .. }] if why.contains(missing)),
            "{findings:?}"
        );
        take_way_out(&log, &frames);
    }
    // The same segment of another log.
    for foreign in 0..files.len() - 1 {
        let (_state, log) = copy_of(whole.path());
        fs::copy(other.path().join(name(foreign)), log.join(name(foreign))).unwrap();
        refused(&log);
        let (_, findings) = damage(&log);
        assert!(findings.iter().all(|f| matches!(f, Finding::Chain { .. })), "{findings:?}");
        if foreign > 0 {
            take_way_out(&log, &frames);
        }
    }
    // The same segment twice.
    let (_state, log) = copy_of(whole.path());
    let twice = log.join("00000000000000000007.log");
    assert!(!twice.exists());
    fs::copy(&files[1], &twice).unwrap();
    refused(&log);
    let (_, findings) = damage(&log);
    assert!(matches!(&findings[..], [Finding::Header { path, .. }] if *path == twice), "{findings:?}");
    take_way_out(&log, &frames);
    // A file that is no segment.
    let (_state, log) = copy_of(whole.path());
    fs::write(log.join("notes.txt"), b"x").unwrap();
    refused(&log);
    let (checked, findings) = damage(&log);
    assert_eq!(findings, [Finding::Foreign { path: log.join("notes.txt") }]);
    assert_eq!((checked.way_out, checked.opens), (WayOut::None, false));
    // Shortened, lengthened.
    for (i, change) in [(1, -1), (1, 1), (2, -40), (3, 200)] {
        let (_state, log) = copy_of(whole.path());
        let mut bytes = fs::read(&files[i]).unwrap();
        bytes.resize(bytes.len().checked_add_signed(change).unwrap(), 0);
        fs::write(log.join(name(i)), bytes).unwrap();
        refused(&log);
        let (_, findings) = damage(&log);
        assert!(findings.iter().any(|f| matches!(f, Finding::Chain { .. })), "{findings:?}");
        take_way_out(&log, &frames);
    }
}

#[test]
fn all_damage_is_listed_and_not_just_the_first() {
    let dir = folder();
    several_segments(dir.path());
    let files = segments(dir.path());
    for path in &files[..3] {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() - 3;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    fs::write(dir.path().join("core"), b"x").unwrap();
    let (checked, findings) = damage(dir.path());
    let kinds: Vec<_> = findings.iter().map(Finding::kind).collect();
    assert_eq!(kinds, ["foreign", "frame", "frame", "frame"], "{findings:?}");
    let places: Vec<_> = findings[1..].iter().map(|f| f.path().unwrap().clone()).collect();
    assert_eq!(places, files[..3]);
    assert!(checked.damaged == 4 && !checked.opens);
}

#[test]
fn a_check_beside_the_writer_finds_nothing_in_what_the_writer_does() {
    let dir = folder();
    let path = dir.path().to_owned();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 500);
    let mut batch = start();
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    // Both go on until both have done enough.
    let (written, checked) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let is_enough = {
        let (written, checked) = (Arc::clone(&written), Arc::clone(&checked));
        move || written.load(Ordering::Relaxed) >= 300 && checked.load(Ordering::Relaxed) >= 50
    };
    let enough = is_enough.clone();
    let writing = std::thread::spawn(move || {
        let mut batch = Batch::new();
        while !enough() {
            let number = written.fetch_add(1, Ordering::Relaxed) + 1;
            if number % 5 == 0 {
                (0..20).for_each(|value| change(&mut batch, TABLE, value));
                writer.append(&mut batch).unwrap();
                writer.abandon().unwrap();
            }
            transaction(&mut batch, number, 0..number % 9 + 1);
            writer.append(&mut batch).unwrap();
            writer.sync().unwrap();
            if number % 20 == 0 {
                log.retain(Seq(log.visible().seq.0.saturating_sub(100)), u64::MAX).unwrap();
            }
        }
    });
    while !is_enough() && !writing.is_finished() {
        let (found, findings) = check(&path, Depth::Payloads);
        assert_eq!(found.damaged, 0, "{findings:?}");
        checked.fetch_add(1, Ordering::Relaxed);
    }
    writing.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whatever happens to the files, a check ends; where it finds nothing the log opens and is read to its end, and where
    /// it finds something its way out leads to such a log.
    #[test]
    fn any_damage_is_found_or_does_not_matter(
        strikes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..6u8, any::<u8>()), 1..4),
    ) {
        let whole = folder();
        let frames = several_segments(whole.path());
        let (_state, log) = copy_of(whole.path());
        for (file, place, how, byte) in strikes {
            let files = segments(&log);
            if files.is_empty() {
                break;
            }
            let path = &files[file.index(files.len())];
            let mut bytes = fs::read(path).unwrap();
            let at = place.index(bytes.len().max(1));
            match how {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.truncate(at),
                2 => bytes.extend(vec![byte; at]),
                3 if !bytes.is_empty() => bytes[at..].fill(byte),
                4 => {
                    fs::copy(path, log.join(format!("{:020}.log", at))).unwrap();
                    continue;
                }
                5 => {
                    fs::remove_file(path).unwrap();
                    continue;
                }
                _ => {}
            }
            fs::write(path, bytes).unwrap();
        }
        if segments(&log).is_empty() {
            return Ok(());
        }
        let (checked, findings) = damage(&log);
        if findings.is_empty() {
            let start = segments(&log)[0].file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let Opened { log, .. } = open_at(&log, 350);
            let now = read(&log, Seq(start));
            let kept = &frames[usize::try_from(start - 1).unwrap().min(frames.len())..];
            prop_assert_eq!(&now[..], &kept[..now.len()]);
        } else if checked.first == Seq(1) {
            take_way_out(&log, &frames);
        }
    }
}
