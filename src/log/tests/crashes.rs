//! The power goes at every operation of seeded histories, again in the recovery, and again in that.

use rand::Rng;
use rand::rngs::StdRng;

use super::bounds::{Bounds, Ended, check};
use super::history::{History, Seed, dir, number_from_env};
use super::*;
use crate::disk::SimDisk;

/// Crashes that are opened, checked and written on in one run; `EVERRELAY_CRASH_POINTS` asks for more.
const POINTS: u64 = 100_000;

/// Disks that one crash is thrown for.
const THROWS: u64 = 3;

/// Crashes of what is done after a crash, one after the other.
const DEPTH: usize = 2;

/// Opens a log whose disk crashed, checks it, writes a transaction, and crashes all that somewhere. Returns how often the power went.
fn survive(disk: &SimDisk, bounds: &Bounds<'_>, now: u64, random: &mut StdRng, depth: usize) -> u64 {
    disk.keep_history();
    let mut opened = open(disk, &At(now), dir(), options(700)).unwrap();
    let opening = disk.history_len();
    let found = check(&opened, bounds);

    let from = opened.log.visible().seq.next();
    let mut batch = Batch::new();
    let position = found.position.unwrap_or_else(|| {
        mark(&mut batch, set(0));
        0
    });
    batch.schema(&schema(TABLE));
    let written = [7_000_000 + depth as u64, 8_000_000];
    transaction(&mut batch, position + 1, written);
    opened.writer.append(&mut batch).unwrap();
    opened.writer.sync().unwrap();
    let behind = read(&opened.log, from);
    assert_eq!(values(&behind), written);
    drop(opened);
    if depth == 0 {
        return 1;
    }

    let at = random.random_range(0..=disk.history_len());
    let crashed = disk.before(at).expect("that many changes were made").crash(random.random());
    let mut ended = vec![Ended::plain(position + 1, written.to_vec())];
    if found.position.is_none() {
        ended.insert(0, Ended::plain(0, Vec::new()));
    }
    let mut before = [bounds.before, &bounds.appended[..found.appended]].concat();
    let needed = found.frames.first().map_or(bounds.needed, |frame| frame.seq);
    let mut seen = found.frames;
    let bounds = if at < opening {
        *bounds
    } else if at < disk.history_len() {
        Bounds { seen: &seen, position: found.position, before: &before, appended: &ended, needed }
    } else {
        seen.extend(behind.into_iter().filter(|frame| frame.seq >= from));
        before.extend(ended);
        Bounds { seen: &seen, position: Some(position + 1), before: &before, appended: &[], needed }
    };
    1 + survive(&crashed, &bounds, now, random, depth - 1)
}

/// One history, crashed at each of its operations.
fn crash_everywhere(seed: &Seed) -> u64 {
    let mut random = seed.random();
    let mut history = History::new(SimDisk::new(), [300, 700, 3000][random.random_range(0..3)]);
    history.disk.keep_history();
    history.point();
    history.open().unwrap();
    history.point();
    for _ in 0..12 {
        history.act(&mut random).unwrap();
        history.point();
    }
    let mut points = 0;
    for index in 0..=history.disk.history_len() {
        let disk = history.disk.before(index).expect("that many changes were made");
        for _ in 0..THROWS {
            let crashed = disk.crash(random.random());
            points += survive(&crashed, &history.bounds(index), history.now, &mut random, DEPTH);
        }
    }
    points
}

#[test]
fn fault_02_power_lost_at_any_operation_loses_nothing_visible_and_keeps_whole_transactions() {
    let seed = Seed::take("fault_02_power");
    let wanted = number_from_env("EVERRELAY_CRASH_POINTS", POINTS);
    let (mut points, mut histories) = (0, 0);
    let began = std::time::Instant::now();
    while points < wanted {
        points += crash_everywhere(&seed.later(histories));
        histories += 1;
    }
    eprintln!(
        "{points} crashes of {histories} histories survived in {:.1} s, {seed}",
        began.elapsed().as_secs_f64()
    );
    assert!(points >= wanted && histories >= wanted / 10_000);
}
