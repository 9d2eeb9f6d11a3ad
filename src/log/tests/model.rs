//! Random histories against a plain list of what was appended, with readers and a cursor that live on meanwhile.
//!
//! The reference machine knows only what does not hang on chance: which steps make sense. What a crash leaves, nobody can say beforehand;
//! [`History`] holds what it must leave and what it may.

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::bounds::check;
use super::history::{History, dir};
use super::verify::check_on;
use super::*;
use crate::disk::SimDisk;
use crate::log::verify::Depth;

/// What is done to the log. A share is of 255, from the retained start to just behind what is visible.
#[derive(Clone, Debug)]
enum Step {
    /// Changes of these tables, one each.
    Change(Vec<u8>),
    /// Rows of an XA transaction, of these tables.
    Hold(Vec<u8>),
    /// Ends the transaction, or lets one without rows pass; an XA transaction is prepared.
    End,
    /// Ends an XA transaction by committing it at once.
    OnePhase,
    /// Decides one of the undecided XA transactions: which, and whether it counts.
    Decide(usize, bool),
    /// A step of a table's snapshot, of any kind.
    Snapshot(u8, u8),
    /// Rows that are held are carried to the log's end.
    Carry,
    Abandon,
    Outrank(u64),
    Sync,
    BeginSync,
    FinishSync,
    /// The power goes.
    Crash(u64),
    /// The process ends and is started again so many microseconds later, or earlier.
    Reopen(i32),
    /// A reader begins at this share.
    Follow(u8),
    /// Reader number .0 reads so many frames on.
    Advance(usize, usize),
    Leave(usize),
    /// Everything from this share on is read, and one frame of it again by its place.
    Read(u8),
    /// The cursor goes to this share, if that is not back.
    Cursor(u8),
    SyncCursor,
    Retain,
}

/// What decides which steps make sense.
#[derive(Clone, Debug)]
struct Shape {
    segment_bytes: u64,
    inside: bool,
    holding: bool,
    readers: usize,
}

struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Shape;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Shape> {
        let sizes = prop_oneof![Just(200u64), Just(500), Just(4000), Just(1 << 20)];
        sizes
            .prop_map(|segment_bytes| Shape { segment_bytes, inside: false, holding: false, readers: 0 })
            .boxed()
    }

    fn transitions(shape: &Shape) -> BoxedStrategy<Step> {
        let readers = shape.readers.max(1);
        prop_oneof![
            6 => prop::collection::vec(0..4u8, 1..12).prop_map(Step::Change),
            2 => prop::collection::vec(0..4u8, 1..12).prop_map(Step::Hold),
            6 => Just(Step::End),
            1 => Just(Step::OnePhase),
            3 => (0..9usize, any::<bool>()).prop_map(|(which, counts)| Step::Decide(which, counts)),
            5 => (0..6u8, 0..2u8).prop_map(|(step, table)| Step::Snapshot(step, table)),
            1 => Just(Step::Carry),
            1 => Just(Step::Abandon),
            1 => (0..1_000_000u64).prop_map(Step::Outrank),
            4 => Just(Step::Sync),
            1 => Just(Step::BeginSync),
            1 => Just(Step::FinishSync),
            2 => any::<u64>().prop_map(Step::Crash),
            1 => (-2_000_000..5_000_000).prop_map(Step::Reopen),
            2 => any::<u8>().prop_map(Step::Follow),
            3 => (0..readers, 1..20usize).prop_map(|(reader, frames)| Step::Advance(reader, frames)),
            1 => (0..readers).prop_map(Step::Leave),
            1 => any::<u8>().prop_map(Step::Read),
            2 => any::<u8>().prop_map(Step::Cursor),
            2 => Just(Step::SyncCursor),
            2 => Just(Step::Retain),
        ]
        .boxed()
    }

    fn preconditions(shape: &Shape, step: &Step) -> bool {
        match step {
            Step::Advance(reader, _) | Step::Leave(reader) => *reader < shape.readers,
            Step::Abandon => shape.inside,
            Step::Change(_) => !shape.holding,
            Step::Hold(_) => shape.holding || !shape.inside,
            Step::OnePhase => shape.holding,
            Step::Decide(..) => !shape.inside,
            _ => true,
        }
    }

    fn apply(mut shape: Shape, step: &Step) -> Shape {
        match step {
            Step::Change(_) => shape.inside = true,
            Step::Hold(_) => (shape.inside, shape.holding) = (true, true),
            Step::End | Step::OnePhase | Step::Abandon => (shape.inside, shape.holding) = (false, false),
            Step::Crash(_) | Step::Reopen(_) => {
                (shape.inside, shape.holding, shape.readers) = (false, false, 0);
            }
            Step::Follow(_) => shape.readers += 1,
            Step::Leave(_) => shape.readers -= 1,
            _ => {}
        }
        shape
    }
}

/// Somebody who reads on.
struct Follower {
    reader: Reader<SimDisk>,
    next: Seq,
    /// The frames of the segment that it is in stay readable when this is retired.
    segment: Seq,
}

/// The log on its simulated disk, and who is about it.
struct System {
    history: History,
    followers: Vec<Follower>,
    /// The last frame that the sink has settled, and the one that is known to be on the disk.
    cursor: Seq,
    synced_cursor: Seq,
}

impl System {
    fn share(&self, of: u8) -> Seq {
        let log = self.history.log();
        let (start, end) = (log.retained_start().0, log.visible().seq.0 + 1);
        Seq(start + end.saturating_sub(start) * u64::from(of) / 255)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Change(tables) => {
                tables.iter().for_each(|table| self.history.change(*table));
                self.history.write().unwrap();
            }
            Step::Hold(tables) => {
                self.history.holding = true;
                tables.iter().for_each(|table| self.history.change(*table));
                self.history.write().unwrap();
            }
            Step::End => {
                self.history.end();
                self.history.write().unwrap();
            }
            Step::OnePhase => {
                self.history.one_phase();
                self.history.write().unwrap();
            }
            Step::Decide(which, counts) => {
                let outcome = if *counts { Outcome::Committed } else { Outcome::RolledBack };
                self.history.decide(*which, outcome);
                self.history.write().unwrap();
            }
            Step::Snapshot(step, table) => self.history.snapshot(*step, *table),
            Step::Carry => self.history.carry().unwrap(),
            Step::Abandon => self.history.abandon().unwrap(),
            Step::Outrank(more) => self.history.outrank(*more).unwrap(),
            Step::Sync => {
                self.history.sync().unwrap();
                self.history.look();
                assert!(self.history.bounds_now().appended.is_empty(), "all that was ended is visible");
            }
            Step::BeginSync => self.history.begin_sync().unwrap(),
            Step::FinishSync => self.history.finish_sync(),
            Step::Crash(seed) => {
                self.end_process();
                self.cursor = self.synced_cursor;
                self.history.disk = self.history.disk.crash(*seed);
                self.history.open().unwrap();
            }
            Step::Reopen(later) => {
                self.end_process();
                self.history.now = self.history.now.saturating_add_signed(i64::from(*later)).max(NOW);
                self.history.open().unwrap();
            }
            Step::Follow(share) => {
                let next = self.share(*share);
                let reader = self.history.log().reader(next).unwrap();
                let segment = reader.location().segment;
                self.followers.push(Follower { reader, next, segment });
            }
            Step::Advance(follower, frames) => self.advance(*follower, *frames),
            Step::Leave(follower) => drop(self.followers.remove(*follower)),
            Step::Read(share) => self.read(*share),
            Step::Cursor(share) => {
                self.cursor = self.cursor.max(self.share(*share).previous());
            }
            Step::SyncCursor => self.synced_cursor = self.cursor,
            Step::Retain => {
                self.history.pass(self.synced_cursor.next()).unwrap();
            }
        }
        self.history.look();
    }

    fn end_process(&mut self) {
        self.followers.clear();
        self.history.close();
    }

    fn advance(&mut self, follower: usize, frames: usize) {
        let log = self.history.log();
        let Follower { reader, next, segment } = &mut self.followers[follower];
        for _ in 0..frames {
            match reader.next_frame() {
                Ok(Some(frame)) => {
                    *segment = frame.at.segment;
                    let seen = &self.history.seen[frame.seq.0 as usize - 1];
                    let Frame { seq, version, kind, payload, at } = frame;
                    assert_eq!(*seen, Read { seq, version, kind, payload: payload.to_vec(), at });
                    if seq < *next {
                        assert_eq!(kind, Kind::Schema, "below the frame asked for only schemas come");
                    } else {
                        assert_eq!(seq, *next);
                        *next = next.next();
                    }
                }
                Ok(None) => {
                    assert_eq!(*next, log.visible().seq.next().max(*next));
                    break;
                }
                Err(ReadError::BelowRetained { wanted, start }) => {
                    assert!(wanted < start && start == log.retained_start() && *segment < start);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn read(&self, share: u8) {
        let (log, from) = (self.history.log(), self.share(share));
        let frames = read(&log, from);
        let (schemas, rest): (Vec<_>, Vec<_>) = frames.iter().partition(|frame| frame.seq < from);
        assert!(schemas.iter().all(|frame| frame.kind == Kind::Schema));
        assert!(rest.into_iter().eq(&self.history.seen[from.0 as usize - 1..]));
        if let Some(expected) = frames.get(usize::from(share) % frames.len().max(1)) {
            let mut buffer = Vec::new();
            let Frame { seq, version, kind, payload, at } = log.read_at(expected.at, &mut buffer).unwrap();
            assert_eq!(*expected, Read { seq, version, kind, payload: payload.to_vec(), at });
        }
        let ahead = log.visible().seq.next().next();
        assert!(matches!(log.reader(ahead), Err(ReadError::Ahead { .. })));
        if let Some(gone) = log.retained_start().0.checked_sub(1).filter(|seq| *seq > 0) {
            assert!(matches!(log.reader(Seq(gone)), Err(ReadError::BelowRetained { .. })));
        }
    }
}

impl StateMachineTest for System {
    type SystemUnderTest = System;
    type Reference = Reference;

    fn init_test(shape: &Shape) -> System {
        let mut history = History::new(SimDisk::new(), shape.segment_bytes);
        history.open().unwrap();
        System { history, followers: Vec::new(), cursor: Seq(0), synced_cursor: Seq(0) }
    }

    fn apply(mut system: System, _: &Shape, step: Step) -> System {
        system.take(&step);
        system
    }

    /// `retained start <= cursor <= visible <= durable <= written`; a cursor is at least the frame before the retained start.
    fn check_invariants(system: &System, _: &Shape) {
        let log = system.history.log();
        let (start, visible) = (log.retained_start(), log.visible());
        assert!(start <= system.synced_cursor.next() && system.synced_cursor <= system.cursor);
        assert!(system.cursor <= visible.seq);
        // Durable: a power cut now keeps it.
        let now = system.history.now;
        let crashed = system.history.disk.crash(visible.seq.0 ^ visible.bytes);
        let opened = open(&crashed, &At(now), dir(), options(system.history.segment_bytes)).unwrap();
        check(&opened, &system.history.bounds_now());
        let (checked, findings) = check_on(&system.history.disk, dir(), Depth::Payloads);
        assert!(checked.opens && checked.damaged == 0, "{findings:?}");
        let stats = log.stats();
        assert_eq!(stats.bytes, log.segments().iter().map(|segment| segment.bytes).sum::<u64>());
        assert_eq!((stats.first, stats.last), (start, visible.seq));
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_what_was_appended_and_who_follows_it_sees_each_frame_once_and_in_order(
        sequential 1..60 => System
    );
}
