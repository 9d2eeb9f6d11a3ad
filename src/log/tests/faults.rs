//! A disk that refuses: every operation of a history fails once, and for good, in every way; and readers beside the writer.

use super::bounds::{Bounds, check};
use super::history::{History, dir};
use super::*;
use crate::disk::sim::{Cache, Fault, Lasting, Operation};
use crate::disk::{Disk, SimDisk};

/// How a history ended.
#[derive(Debug)]
enum Stopped {
    Opening(OpenError),
    Writing(WriteError),
}

/// Transactions, rotations inside some, one abandoned, somebody outranked, rows held, copied and carried, segments retired, a sync beside the
/// writer, a restart.
fn act(history: &mut History) -> Result<(), Stopped> {
    history.open().map_err(Stopped::Opening)?;
    for round in 0..3 {
        write(history, round).map_err(Stopped::Writing)?;
        let needed = Seq(history.seen.len() as u64);
        match history.pass(needed) {
            Ok(_) | Err(RetainError::Io { .. } | RetainError::Stopped) => {}
            Err(error) => panic!("{error}"),
        }
        if round == 1 {
            history.open().map_err(Stopped::Opening)?;
        }
    }
    Ok(())
}

fn write(history: &mut History, round: u64) -> Result<(), WriteError> {
    let result = write_round(history, round);
    history.look();
    result
}

fn write_round(history: &mut History, round: u64) -> Result<(), WriteError> {
    for table in [0, 1, 0, 2] {
        history.change(table);
        history.change(table);
        history.end();
        history.write()?;
    }
    history.begin_sync()?;
    for _ in 0..20 {
        history.change(1);
    }
    history.write()?;
    history.finish_sync();
    if round == 1 {
        history.abandon()?;
        history.outrank(1_000_000)?;
    } else {
        history.end();
    }
    // One more is prepared than is decided; what the round before held is carried.
    for _ in 0..2 {
        history.holding = true;
        for _ in 0..3 {
            history.change(2);
        }
        history.end();
    }
    history.decide(0, Outcome::Committed);
    history.write()?;
    history.carry()?;
    history.change(2);
    history.end();
    history.write()?;
    history.sync()
}

/// Asks a writer that has stopped for everything: it does nothing.
fn ask_in_vain(history: &mut History) {
    let before = history.disk.operations();
    let writer = history.writer();
    assert!(writer.health().is_err() && writer.append(&mut start()).is_err() && writer.sync().is_err());
    assert!(writer.begin_sync().is_err() && writer.settle().is_err() && writer.abandon().is_err());
    assert!(writer.outrank(Version(u64::MAX)).is_err());
    assert_eq!(history.disk.operations(), before);
}

/// Lets `fault` strike each operation of a history that it can, one after the other, and opens what that leaves: by a process on the same
/// machine, which writes on until the power goes, and where the power went at once. Returns how many operations there were.
fn strike_everywhere(fault: Fault, lasting: Lasting) -> u64 {
    for nth in 0.. {
        let disk = SimDisk::new();
        let mut history = History::new(disk.clone(), 400);
        disk.fail(fault, nth, lasting);
        let ended = act(&mut history);
        if !disk.struck() {
            ended.unwrap();
            return nth;
        }
        match &ended {
            Err(Stopped::Writing(error)) => {
                assert!(matches!(error, WriteError::Io { .. }), "{nth}: {error}");
                ask_in_vain(&mut history);
            }
            Err(Stopped::Opening(error)) => assert!(matches!(error, OpenError::Io { .. }), "{nth}: {error}"),
            // A segment could not be retired, or a torn tail not kept: all that was written is visible.
            Ok(()) => assert!(history.bounds_now().appended.is_empty()),
        }
        disk.heal();
        if history.opened.is_some() {
            history.look();
            let log = history.log();
            assert_eq!(read(&log, log.retained_start()).last(), history.seen.last(), "who reads goes on");
        }
        history.close();
        for seed in 0..3 {
            let crashed = disk.crash(seed);
            check(&open(&crashed, &At(NOW), dir(), options(400)).unwrap(), &history.bounds_now());
        }
        history.open().unwrap_or_else(|error| panic!("{nth}: {ended:?}, then {error}"));
        // What this process has shown must now outlast the power, though the pages may have been lost before it began.
        survives_power_cuts(&history, nth);
        write(&mut history, 2).unwrap();
        survives_power_cuts(&history, nth);
    }
    unreachable!("operations end before numbers do")
}

fn survives_power_cuts(history: &History, nth: u64) {
    for seed in 0..4 {
        let crashed = history.disk.crash(seed);
        let opened = open(&crashed, &At(NOW), dir(), options(400));
        let opened = opened.unwrap_or_else(|error| panic!("{nth}, crash {seed}: {error}"));
        check(&opened, &history.bounds_now());
    }
}

const BOTH: [Lasting; 2] = [Lasting::Once, Lasting::ForGood];

#[test]
fn fault_06_a_failed_sync_stops_the_writer_and_what_is_read_after_it_is_made_durable_before_it_is_shown() {
    for fault in [Fault::Drops(Cache::Stays), Fault::Drops(Cache::Reverts), Fault::IoOf(Operation::Sync)] {
        for lasting in BOTH {
            let syncs = strike_everywhere(fault, lasting);
            assert!(syncs > 20, "{fault:?}: {syncs}");
        }
    }
}

#[test]
fn fault_07_a_failed_or_short_write_stops_the_writer_and_reopening_loses_nothing_visible() {
    for fault in [Fault::Short, Fault::IoOf(Operation::Write)] {
        for lasting in BOTH {
            let writes = strike_everywhere(fault, lasting);
            assert!(writes > 40, "{fault:?}: {writes}");
        }
    }
}

#[test]
fn fault_07_an_error_of_any_operation_stops_the_writer_or_the_opening_and_reopening_loses_nothing_visible() {
    for lasting in BOTH {
        let operations = strike_everywhere(Fault::Io, lasting);
        assert!(operations > 200, "{operations}");
    }
}

#[test]
fn fault_08_a_disk_without_room_at_any_operation_stops_the_writer_and_reopening_loses_nothing_visible() {
    for lasting in BOTH {
        let operations = strike_everywhere(Fault::Full, lasting);
        assert!(operations > 100, "{operations}");
    }
}

/// A log whose last segments are an open transaction with a torn tail, with the seen frames.
fn to_be_cut() -> (SimDisk, History) {
    let disk = SimDisk::new();
    let mut history = History::new(disk.clone(), 300);
    history.open().unwrap();
    for _ in 0..2 {
        history.change(0);
        history.end();
        history.write().unwrap();
        history.sync().unwrap();
    }
    for _ in 0..30 {
        history.change(1);
    }
    history.write().unwrap();
    history.look();
    assert!(history.log().segments().len() > 3);
    let last = history.log().segments().last().unwrap().first;
    history.close();
    let path = dir().join(format!("{:020}.log", last.0));
    let mut bytes = disk.contents(&path).unwrap();
    bytes.extend([7; 100]);
    disk.put(&path, &bytes).unwrap();
    (disk, history)
}

#[test]
fn fault_03_a_recovery_that_fails_at_any_operation_is_finished_by_the_next() {
    for fault in
        [Fault::Io, Fault::Full, Fault::Short, Fault::Drops(Cache::Stays), Fault::Drops(Cache::Reverts)]
    {
        for lasting in BOTH {
            for nth in 0.. {
                let (disk, history) = to_be_cut();
                disk.fail(fault, nth, lasting);
                let first = open(&disk, &At(NOW), dir(), options(300)).map(|opened| opened.recovered);
                let struck = disk.struck();
                match &first {
                    // No room beside stops nothing.
                    Ok(Recovered::TornTail { torn, cut: Some(_) }) => {
                        assert_eq!(torn.kept.is_some(), !struck, "{fault:?} {nth}");
                    }
                    Ok(other) => panic!("{other}"),
                    Err(error) => assert!(struck && matches!(error, OpenError::Io { .. }), "{error}"),
                }
                disk.heal();
                survives_power_cuts(&history, nth);
                check(&open(&disk, &At(NOW), dir(), options(300)).unwrap(), &history.bounds_now());
                survives_power_cuts(&history, nth);
                if !struck {
                    assert!(nth >= if fault == Fault::Io { 30 } else { 2 }, "{fault:?}: {nth}");
                    break;
                }
            }
        }
    }
}

#[test]
fn fault_03_a_full_disk_does_not_stop_the_cut_of_a_torn_tail() {
    let (disk, history) = to_be_cut();
    disk.set_capacity(1);
    // There is no room for the tail beside, nor for the next segment; the cut has been made.
    let first = open(&disk, &At(NOW), dir(), options(300));
    assert!(matches!(first, Err(OpenError::Io { step: Step::Write, .. })), "{first:?}");
    disk.set_capacity(1 << 20);
    let second = open(&disk, &At(NOW), dir(), options(300)).unwrap();
    assert_eq!(second.recovered, Recovered::Clean);
    check(&second, &history.bounds_now());
}

#[test]
fn fault_13_a_crash_at_any_step_of_a_rotation_leaves_the_old_end_or_the_new_segment_and_no_temporary_file() {
    let disk = SimDisk::new();
    let mut history = History::new(disk.clone(), 1 << 20);
    history.open().unwrap();
    history.change(0);
    history.end();
    history.write().unwrap();
    history.sync().unwrap();
    history.look();
    disk.keep_history();
    // A segment is begun to outrank: with its state and nothing else.
    history.outrank(5).unwrap();
    let steps = disk.history_len();
    assert!(steps >= 4, "{steps}");
    let (mut leftovers, mut begun) = (0, 0);
    for step in 0..=steps {
        for seed in 0..200 {
            let crashed = disk.before(step).unwrap().crash(seed);
            let names = crashed.list(dir()).unwrap();
            leftovers += usize::from(names.iter().any(|name| name.ends_with(".new")));
            let opened = open(&crashed, &At(NOW), dir(), options(1 << 20)).unwrap();
            assert_eq!(opened.recovered, Recovered::Clean);
            let bounds = Bounds { appended: &[], ..history.bounds_now() };
            let seen = opened.log.segments().len();
            begun += usize::from(seen > 2);
            check(&opened, &bounds);
            assert!(crashed.list(dir()).unwrap().iter().all(|name| !name.ends_with(".new")));
        }
    }
    assert!(leftovers > 50, "{leftovers}");
    // The state alone is replaced, so that no restart leaves a segment more.
    assert_eq!(begun, 0);
}

#[test]
fn fault_14_a_reader_in_a_retired_segment_reads_it_to_its_end_and_is_then_told() {
    let mut history = History::new(SimDisk::new(), 300);
    history.open().unwrap();
    for _ in 0..30 {
        history.change(0);
        history.end();
        history.write().unwrap();
    }
    history.sync().unwrap();
    history.look();
    let log = history.log();
    let segments = log.segments();
    let mut readers: Vec<_> =
        segments[..3].iter().map(|segment| log.reader(segment.first).unwrap()).collect();
    let end = log.visible().seq;
    assert!(history.pass(end).unwrap().segments > 3);
    for (reader, segment) in readers.iter_mut().zip(&segments) {
        let mut expected = segment.first;
        let error = loop {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    assert_eq!(frame.payload, history.seen[expected.0 as usize - 1].payload);
                    expected = expected.next();
                }
                Ok(None) => panic!("it is told"),
                Err(error) => break error,
            }
        };
        assert_eq!(Some(expected.previous()), segment.last);
        let start = log.retained_start();
        assert!(
            matches!(error, ReadError::BelowRetained { wanted, start: s } if wanted == expected && s == start)
        );
    }
    assert_eq!(read(&log, log.retained_start()).last(), history.seen.last());
}

#[test]
fn a_reader_beside_the_writer_sees_whole_transactions_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 500);
    const TRANSACTIONS: u64 = 200;
    let reader = std::thread::spawn(move || {
        let mut reader = log.reader(Seq(1)).unwrap();
        let mut visible = log.watch();
        let (mut expected, mut number, mut changes) = (Seq(1), 0, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while number < TRANSACTIONS {
            let Some(frame) = reader.next_frame().unwrap() else {
                assert_eq!(changes, 0, "what is visible ends with a transaction");
                runtime.block_on(visible.changed()).unwrap();
                continue;
            };
            assert_eq!(frame.seq, expected);
            expected = expected.next();
            match frame.kind {
                Kind::Change => changes += 1,
                Kind::Commit => {
                    number += 1;
                    assert_eq!(changes, number % 7 + 1);
                    changes = 0;
                }
                _ => {}
            }
        }
    });
    let mut batch = start();
    for number in 1..=TRANSACTIONS {
        if number % 5 == 0 {
            for value in 0..10 {
                change(&mut batch, TABLE, value);
            }
            writer.append(&mut batch).unwrap();
            writer.abandon().unwrap();
        }
        transaction(&mut batch, number, 0..number % 7 + 1);
        writer.append(&mut batch).unwrap();
        if number % 3 == 0 || number == TRANSACTIONS {
            writer.sync().unwrap();
        }
    }
    reader.join().unwrap();
}
