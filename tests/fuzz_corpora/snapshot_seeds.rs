//! First inputs for the targets that know the log: what it says of snapshots.

use everrelay::event::{Op, TableName, Xid, codec};
use everrelay::log::followed::{Followed, Follows};
use everrelay::log::record::{Batch, Commit, Kind, Mark, Position, State, SweepRecord, Synced};
use everrelay::log::snapshot::{Begun, Range, Snapshot, SnapshotNote, SnapshotStep};
use everrelay::log::{Noted, Standing};

use crate::seeds::{Record, change, mark, schema, set};
use crate::targets::format::FIRST;

fn table() -> TableName {
    TableName::new("shop", "t300")
}

fn noted(steps: impl IntoIterator<Item = SnapshotStep>) -> Noted {
    let note = |step| SnapshotNote { table: table(), step };
    Noted { snapshots: steps.into_iter().map(note).collect(), ..Noted::default() }
}

fn commit(steps: impl IntoIterator<Item = SnapshotStep>) -> Commit {
    let (synced, position, noted) = (Synced::default(), Position::default(), noted(steps));
    Commit { synced, gtid: None, time_micros: 7, position, noted }
}

fn ranges() -> Vec<Range> {
    let key = |byte| Some(vec![byte; 9]);
    vec![Range { number: 1, after: None, upto: key(4) }, Range { number: 70_000, after: key(4), upto: None }]
}

/// One that is wanted, begins, is paused, read and swept; steps of another that is not.
pub fn history() -> Vec<Record> {
    let mut batch = Batch::new();
    let wanted = [None, Some("id > 7".to_owned()), None].map(|filter| SnapshotStep::Wanted { filter });
    let follows = Follows { patterns: vec!["shop.t*".into()], forgotten: vec![table()], anew: false };
    batch.mark(&Mark { noted: Noted { follows: Some(follows), ..noted(wanted) }, ..mark(set()) });
    batch.schema(&schema(300));
    let begun = SnapshotStep::Begun { ranges: ranges(), estimated_rows: u64::MAX };
    batch.commit(&commit([begun, SnapshotStep::Paused(true)]));
    change(&mut batch, 300, Op::Read);
    let read = |range, after| SnapshotStep::Read { range, after, rows: u64::MAX };
    let steps = [read(1, Some(vec![3; 9])), read(1, None), read(9, None), SnapshotStep::Paused(false)];
    batch.commit(&commit(steps));
    batch.sweep(&SweepRecord::of_snapshot(table()));
    batch.commit(&commit([read(70_000, None), SnapshotStep::Ended, SnapshotStep::Cancelled]));
    let mut frames: Vec<Record> =
        batch.payloads().map(|(kind, payload)| (kind as u8, payload.to_vec())).collect();
    // As the writer completes it: the state stands before these frames, and the third begins the snapshot.
    let since = FIRST.base + FIRST.first + 3;
    let sweeps = frames.iter_mut().filter(|(kind, _)| *kind == Kind::Sweep as u8);
    sweeps.for_each(|(_, payload)| payload[..8].copy_from_slice(&since.to_le_bytes()));
    frames
}

/// A segment's, with one that is read and one that waits.
pub fn state() -> Record {
    let begun = Begun { since: 5, ranges: ranges(), rows: 300, estimated_rows: 7, covers_gap: true };
    let read = Snapshot { table: table(), filter: None, paused: true, begun: Some(begun) };
    let waits = Snapshot { filter: Some("1".into()), paused: false, begun: None, ..read.clone() };
    let (blind, added) = (vec![Xid::new(1, b"x", b"").expect("a short xid")], vec![table()]);
    let followed = Followed { patterns: vec!["shop.*".into(), "!shop.a".into()], blind, added };
    let standing = Standing { snapshots: vec![read, waits], followed, ..Standing::after(set()) };
    let state = State { standing: Some(standing), open_since: None, latest_micros: 7 };
    let mut payload = Vec::new();
    codec::encode(&state, &mut payload);
    (Kind::State as u8, payload)
}
