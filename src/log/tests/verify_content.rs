//! What single frames say, made by hand.

use std::fs;

use super::cut::folder;
use super::verify::{check, damage};
use super::*;
use crate::event::codec;
use crate::log::frame;
use crate::log::record::{ChangeHead, State, SweepRecord};
use crate::log::segment::{self, Previous, SegmentHeader};
use crate::log::snapshot::{SnapshotNote, SnapshotStep};
use crate::log::standing::Noted;
use crate::log::verify::{Depth, Finding};

/// A segment made by hand, each frame whole.
struct HandMade {
    dir: tempfile::TempDir,
    bytes: Vec<u8>,
    next: Seq,
    salt: u32,
    wrong: Option<Seq>,
}

impl HandMade {
    fn new(state: &State) -> HandMade {
        let dir = folder();
        let header = SegmentHeader {
            salt: 5,
            first: Seq(1),
            base: NOW,
            created_micros: NOW,
            previous: Previous::default(),
        };
        segment::create(&SystemDisk, dir.path(), &header, state).unwrap();
        let bytes = fs::read(dir.path().join("00000000000000000001.log")).unwrap();
        HandMade { dir, bytes, next: Seq(2), salt: 5, wrong: None }
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> &mut HandMade {
        frame::copy(kind, payload, self.next, self.salt, &mut self.bytes);
        self.next = self.next.next();
        self
    }

    fn schema(&mut self) -> &mut HandMade {
        self.frame(Kind::Schema, &encoded(&schema(TABLE)))
    }

    fn change(&mut self, op: Op, values: u64) -> &mut HandMade {
        let mut payload = encoded(&ChangeHead { op, table: TABLE });
        (0..values).for_each(|value| RowWriter::new(&mut payload).u64(value));
        self.frame(Kind::Change, &payload)
    }

    /// A TRUNCATE's, as the writer completes it.
    fn sweep(&mut self) -> &mut HandMade {
        self.sweep_below(&SweepRecord::truncated(TableName::new("s", "t")), NOW + self.next.0)
    }

    fn sweep_below(&mut self, sweep: &SweepRecord, below: u64) -> &mut HandMade {
        let mut payload = encoded(sweep);
        payload[..8].copy_from_slice(&below.to_le_bytes());
        self.frame(Kind::Sweep, &payload)
    }

    /// A snapshot's.
    fn snapshot_sweep(&mut self, below: u64) -> &mut HandMade {
        self.sweep_below(&SweepRecord::of_snapshot(TableName::new("s", "t")), below)
    }

    fn note(&mut self, step: SnapshotStep) -> &mut HandMade {
        let snapshots = vec![SnapshotNote { table: TableName::new("s", "t"), step }];
        let synced = Synced((self.bytes.len() as u64).to_le_bytes());
        let noted = Noted { snapshots, ..Noted::default() };
        let commit = Commit { synced, gtid: None, time_micros: NOW, position: Position::default(), noted };
        self.frame(Kind::Commit, &encoded(&commit))
    }

    /// A snapshot that begins with frame 3.
    fn begun(&mut self, filter: Option<&str>) -> &mut HandMade {
        self.note(SnapshotStep::Wanted { filter: filter.map(str::to_owned) });
        self.note(SnapshotStep::Begun { ranges: Vec::new(), estimated_rows: 0 })
    }

    /// A commit that says that all before it was synced.
    fn commit(&mut self, number: u64) -> &mut HandMade {
        self.commit_synced(number, self.bytes.len() as u64)
    }

    fn commit_synced(&mut self, number: u64, synced: u64) -> &mut HandMade {
        let (synced, gtid) = (Synced(synced.to_le_bytes()), gtid(number));
        let commit = Commit {
            synced,
            gtid: Some(gtid),
            time_micros: NOW,
            position: Position::default(),
            noted: Default::default(),
        };
        self.frame(Kind::Commit, &encoded(&commit))
    }

    fn mark(&mut self) -> &mut HandMade {
        let (synced, gtids) = (Synced((self.bytes.len() as u64).to_le_bytes()), set(1));
        let mark =
            Mark { synced, gtids, time_micros: 0, position: Position::default(), noted: Default::default() };
        self.frame(Kind::Mark, &encoded(&mark))
    }

    /// The next frame is the wrong one.
    fn wrong(&mut self) -> &mut HandMade {
        self.wrong = Some(self.next);
        self
    }

    /// What a check of payloads says of the wrong frame; a check of frames finds nothing.
    fn said(&mut self) -> String {
        // Behind the last end nothing is checked.
        self.commit(1000);
        fs::write(self.dir.path().join("00000000000000000001.log"), &self.bytes).unwrap();
        assert_eq!(check(self.dir.path(), Depth::Frames).0.damaged, 0);
        match &damage(self.dir.path()).1[..] {
            [] => String::new(),
            [Finding::Content { seq, why, .. }] => {
                assert_eq!(Some(*seq), self.wrong, "{why}");
                why.clone()
            }
            other => panic!("{other:?}"),
        }
    }
}

fn encoded<T: bincode::Encode>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(value, &mut bytes);
    bytes
}

const STARTED: State = State { standing: None, open_since: None, latest_micros: 0 };

fn started() -> State {
    State { standing: Some(Standing::after(set(1))), ..STARTED }
}

#[test]
fn a_whole_frame_that_says_what_cannot_be_is_found_with_its_payload() {
    type Make = fn(&mut HandMade) -> &mut HandMade;
    let cases: &[(&str, Make)] = &[
        ("", |log| log.schema().change(Op::Insert, 1).commit(2).sweep().commit(3)),
        ("", |log| log.schema().change(Op::Rekey, 2).commit(2).mark()),
        ("", |log| log.schema().change(Op::Tombstone, 1).commit(2)),
        ("2 bytes follow its 1 values", |log| log.schema().wrong().change(Op::Tombstone, 2)),
        ("no schema of table number 7", |log| log.wrong().change(Op::Insert, 1)),
        ("value 1 of 1", |log| log.schema().wrong().change(Op::Insert, 0)),
        ("value 2 of 2", |log| log.schema().wrong().change(Op::Rekey, 1)),
        ("2 bytes follow its 1 values", |log| log.schema().wrong().change(Op::Delete, 2)),
        ("inside a transaction", |log| log.schema().change(Op::Insert, 1).wrong().mark()),
        ("inside a transaction", |log| log.sweep().wrong().mark()),
        ("60 bytes were synced", |log| log.wrong().commit_synced(2, 60)),
        ("100000 bytes were synced", |log| log.wrong().commit_synced(2, 100_000)),
        ("110 bytes were synced", |log| log.mark().commit(2).wrong().commit_synced(3, 110)),
        ("its key is not of its columns", |log| {
            let mut record = schema(TABLE);
            record.schema.key = vec![1];
            log.wrong().frame(Kind::Schema, &encoded(&record))
        }),
        ("its payload cannot be decoded", |log| log.wrong().frame(Kind::Schema, &[1, 2, 3])),
        ("its payload cannot be decoded", |log| log.wrong().frame(Kind::Change, &[9, 9, 9])),
        ("its payload cannot be decoded", |log| log.wrong().frame(Kind::Sweep, &[1, b's', 1])),
        ("", |log| log.begun(None).snapshot_sweep(NOW + 3).note(SnapshotStep::Ended)),
        ("began with", |log| log.begun(None).wrong().snapshot_sweep(NOW + 4)),
        ("no snapshot of its table has begun", |log| log.begun(Some("1")).wrong().snapshot_sweep(NOW + 3)),
        ("no snapshot of its table has begun", |log| log.wrong().snapshot_sweep(NOW + 2)),
        ("and has version", |log| {
            log.wrong().sweep_below(&SweepRecord::truncated(TableName::new("s", "t")), NOW + 3)
        }),
        ("bytes follow its end", |log| {
            let mut payload = encoded(&SweepRecord::truncated(TableName::new("s", "t")));
            payload.push(0);
            log.wrong().frame(Kind::Sweep, &payload)
        }),
    ];
    for (expected, make) in cases {
        let mut log = HandMade::new(&started());
        make(&mut log);
        let said = log.said();
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{expected:?}: {said:?}");
    }
    let mut log = HandMade::new(&STARTED);
    assert!(log.wrong().commit(1).said().contains("no mark has given a start"));
}

#[test]
fn a_state_that_is_not_what_the_frames_before_it_come_to_is_found() {
    let after = State { standing: Some(Standing::after(set(2))), open_since: None, latest_micros: NOW };
    let states = [
        ("", after.clone()),
        ("position", State { standing: Some(Standing::after(set(3))), ..after.clone() }),
        ("position", State { standing: None, ..after.clone() }),
        ("whether a transaction is open", State { open_since: Some(Seq(2)), ..after.clone() }),
        ("latest time", State { latest_micros: NOW + 1, ..after.clone() }),
    ];
    for (expected, state) in states {
        let mut log = HandMade::new(&started());
        log.commit(2);
        let path = log.dir.path();
        fs::write(path.join("00000000000000000001.log"), &log.bytes).unwrap();
        let previous = Previous { first: Seq(1), bytes: log.bytes.len() as u64, salt: log.salt };
        let header = SegmentHeader { salt: 6, first: log.next, base: NOW, created_micros: NOW, previous };
        segment::create(&SystemDisk, path, &header, &state).unwrap();
        let third = SegmentHeader { first: log.next.next(), salt: 7, ..header };
        let bytes = fs::metadata(path.join(segment::segment_name(header.first))).unwrap().len();
        let previous = Previous { first: header.first, bytes, salt: 6 };
        // Another follows, so that it does not matter what an opening makes of a log that ends with it.
        segment::create(&SystemDisk, path, &SegmentHeader { previous, ..third }, &after).unwrap();
        let (_, findings) = damage(path);
        match &findings[..] {
            [] => assert_eq!(expected, ""),
            [Finding::Content { seq, why, .. }, ..] => {
                assert!(*seq == header.first && !expected.is_empty() && why.contains(expected), "{why}");
            }
            other => panic!("{other:?}"),
        }
    }
}
