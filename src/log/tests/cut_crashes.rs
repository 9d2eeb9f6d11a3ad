//! A cut whose power goes, or whose disk refuses, at any of its operations: see `cut` for what a cut promises.

use super::cut::{cut, end_below, goes_on_with, position_at, several_segments_on};
use super::history::{Seed, dir};
use super::*;
use crate::disk::sim::{Fault, Lasting};
use crate::disk::{Disk, SimDisk};
use crate::log::cut::CutError;

/// Crashes at each operation.
const THROWS: u64 = 8;

/// A log of several segments whose last transaction was never synced, and its frames.
fn killed_before_its_sync() -> (SimDisk, Vec<Read>) {
    let disk = SimDisk::new();
    several_segments_on(&disk, dir());
    let Opened { mut writer, .. } = open(&disk, &At(NOW), dir(), options(350)).unwrap();
    let mut batch = Batch::new();
    batch.schema(&schema(TABLE));
    transaction(&mut batch, 9, [90]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    transaction(&mut batch, 10, [100]);
    writer.append(&mut batch).unwrap();
    drop(writer);
    let log = read_only(&disk, dir()).unwrap().log;
    let frames = read(&log, Seq(1));
    (disk, frames)
}

#[test]
fn power_lost_at_any_operation_of_a_cut_leaves_the_log_or_what_the_same_cut_finishes() {
    let seed = Seed::take("power_lost_at_any_operation_of_a_cut");
    let mut random = seed.random();
    let (whole, frames) = killed_before_its_sync();
    let last = frames.last().unwrap().seq;
    // The last transaction was never synced, and so never visible: a crash may take it.
    let synced = end_below(&frames, last.0 - 1);
    let sent = frames[usize::try_from(synced.0).unwrap() - 1].version;
    let starts: Vec<Seq> = read_only(&whole, dir()).unwrap().log.segments().iter().map(|s| s.first).collect();
    let (mut refused, mut before, mut done) = (0, 0, 0);
    for after in [0, 12, starts[2].0 - 1, starts[3].0 + 3, synced.0, last.0] {
        let end = end_below(&frames, after);
        let (disk, _) = killed_before_its_sync();
        disk.keep_history();
        let kept = cut(&disk, dir(), after, &[last]).unwrap().1;
        for index in 0..=disk.history_len() {
            for _ in 0..THROWS {
                let (at, throw) = (disk.before(index).unwrap(), rand::Rng::random(&mut random));
                let crashed = at.crash(throw);
                match open(&crashed, &At(NOW - 3_000_000), dir(), options(350)) {
                    Ok(Opened { log, writer, .. }) => {
                        let now = log.visible().seq;
                        let uncut = now >= synced && index < disk.history_len();
                        assert!(now == end || uncut, "{after} {index}: {now}");
                        let own = usize::try_from(now.0).unwrap();
                        assert_eq!(read(&log, Seq(1))[..own], frames[..own], "{after} {index}");
                        assert!(writer.next_version() > sent, "{after} {index}");
                        if now == end { done += 1 } else { before += 1 }
                    }
                    Err(OpenError::Chain { .. }) if index < disk.history_len() => refused += 1,
                    Err(error) => panic!("{after} {index}: {error}"),
                }
                let crashed = at.crash(throw);
                let plan = cut(&crashed, dir(), after, &[]).unwrap().0;
                let lost = after == last.0 && plan.after < end;
                assert!(plan.after == end || lost && index < disk.history_len(), "{after} {index}");
                if !lost {
                    let position = plan.standing.clone().map(|standing| standing.gtids);
                    assert_eq!(position, position_at(&frames, end), "{after} {index}");
                    goes_on_with(&crashed, dir(), &frames, end, sent);
                }
                if index == disk.history_len()
                    && let Some(kept) = &kept
                {
                    assert!(!at.crash(throw).list(&kept.folder).unwrap().is_empty());
                }
            }
        }
    }
    assert!(refused > 100 && before > 100 && done > 100, "{refused} {before} {done}");
}

#[test]
fn a_cut_whose_disk_failed_anywhere_leaves_a_log_that_opens_or_is_finished_by_the_same_cut() {
    let log = || {
        let disk = SimDisk::new();
        let frames = several_segments_on(&disk, dir());
        (disk, frames)
    };
    let frames = log().1;
    let (last, sent) = frames.last().map(|frame| (frame.seq, frame.version)).unwrap();
    let starts: Vec<Seq> =
        read_only(&log().0, dir()).unwrap().log.segments().iter().map(|s| s.first).collect();
    let (mut refused, mut opened) = (0, 0);
    // In the middle of a segment, at its end, behind the beginning of one, at a log's start, at its end.
    for after in [20, starts[2].0 - 1, starts[2].0 - 2, starts[3].0 + 3, 0, last.0] {
        let end = end_below(&frames, after);
        for (fault, lasting) in [Fault::Io, Fault::Full]
            .into_iter()
            .flat_map(|fault| [(fault, Lasting::Once), (fault, Lasting::ForGood)])
        {
            for passing in 0.. {
                let (disk, _) = log();
                disk.fail(fault, passing, lasting);
                let first = cut(&disk, dir(), after, &[last]);
                if !disk.struck() {
                    assert!(first.is_ok() && passing > 1, "{after} {fault:?}: {passing}");
                    break;
                }
                disk.heal();
                match &first {
                    Err(error @ CutError::Unfinished { .. }) => {
                        assert!(error.to_string().contains(&format!("log cut --after {end}")), "{error}");
                    }
                    // A read that fails costs a copy's block, or what is told of what goes.
                    Ok(_) | Err(CutError::Open(_) | CutError::Clock { .. }) => {}
                    Err(error) => panic!("{after} {fault:?} {passing}: {error}"),
                }
                let power = disk.crash(passing);
                match open(&power, &At(NOW - 3_000_000), dir(), options(350)) {
                    Ok(Opened { log, writer, .. }) => {
                        opened += 1;
                        let now = log.visible().seq;
                        assert!(now == last || now == end, "{after} {fault:?} {passing}: {now}");
                        assert!(writer.next_version() > sent, "{after} {fault:?} {passing}");
                    }
                    Err(OpenError::Chain { .. }) => refused += 1,
                    Err(error) => panic!("{after} {fault:?} {passing}: {error}"),
                }
                for disk in [disk.crash(passing), disk] {
                    let (plan, _) = cut(&disk, dir(), after, &[end]).unwrap();
                    assert_eq!(plan.after, end, "{after} {fault:?} {passing}");
                    goes_on_with(&disk, dir(), &frames, end, sent);
                }
            }
        }
    }
    assert!(refused > 50 && opened > 50, "{refused} {opened}");
}
