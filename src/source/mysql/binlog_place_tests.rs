//! Streams that go by place: what their events make of the position.

use super::super::super::event::Head;
use super::super::super::place::Way;
use super::*;
use crate::event::Version;
use crate::log::Standing;

const FILE: &str = "binlog.000009";

/// The event, ending there; `None` for one that is in no file.
fn ending(end: u32, event: RawEvent<'static>) -> RawEvent<'static> {
    let mut bytes = event.bytes().to_vec();
    bytes[13..17].copy_from_slice(&end.to_le_bytes());
    let bytes = bytes.leak();
    RawEvent::new(Head::parse(bytes).unwrap(), bytes, event.within())
}

fn anonymous() -> RawEvent<'static> {
    let body = gtid(1).body().to_vec();
    let body = [&[0; 25][..], &body[25..]].concat();
    RawEvent::of(kind::ANONYMOUS_GTID, 0, &body)
}

fn rotate(file: &str, offset: u64) -> RawEvent<'static> {
    RawEvent::of(kind::ROTATE, 0x20, &[&offset.to_le_bytes(), file.as_bytes()].concat())
}

fn previous(numbers: Option<(u64, u64)>) -> RawEvent<'static> {
    let mut body = u64::from(numbers.is_some()).to_le_bytes().to_vec();
    if let Some((first, end)) = numbers {
        body.extend_from_slice(&UUID);
        [1, first, end].iter().for_each(|number| body.extend_from_slice(&number.to_le_bytes()));
    }
    RawEvent::of(kind::PREVIOUS_GTIDS, 0, &body)
}

fn head(file: &str) -> [RawEvent<'static>; 2] {
    [rotate(file, 4), ending(126, RawEvent::of(kind::FORMAT_DESCRIPTION, 0, &[0; 98]))]
}

/// A transaction whose events end at consecutive offsets from `at` on, 10 apart.
fn group(at: u32, begin: RawEvent<'static>, schema: &str) -> Vec<RawEvent<'static>> {
    let events = [begin, query("BEGIN"), table_map(schema), insert(1), xid()];
    events.into_iter().zip(1..).map(|(event, number)| ending(at + number * 10, event)).collect()
}

/// A stream that was asked for `from` and goes on at `offset`.
fn by_place(from: u32, offset: u64, before: &str) -> Binlog {
    let mut binlog = binlog();
    let before = before.parse().unwrap();
    binlog.goes(&Way::ByPlace { file: FILE.into(), from, offset, before }, false);
    binlog
}

/// What a log comes to that takes these events, and the kinds of its frames.
fn log(
    binlog: &mut Binlog,
    standing: &mut Standing,
    events: impl IntoIterator<Item = RawEvent<'static>>,
) -> Vec<Kind> {
    let mut batch = Batch::new();
    for event in events {
        binlog.event(&event, &mut batch).unwrap();
        binlog.mark_if_due(&mut batch);
    }
    let mut kinds = Vec::new();
    for (kind, payload) in batch.payloads() {
        match kind {
            Kind::Commit => standing.committed(Commit::decode(payload).unwrap(), Version(1)),
            Kind::Mark => standing.marked(Mark::decode(payload).unwrap(), Version(1)),
            _ => {}
        }
        kinds.push(kind);
    }
    kinds
}

fn place(standing: &Standing) -> (&str, u64, u64, bool) {
    let Position { file, began, offset, by_place, .. } = &standing.position;
    (file, *began, *offset, *by_place)
}

#[test]
fn transactions_without_gtids_count_with_their_end_and_move_the_place() {
    let (mut binlog, mut standing) = (by_place(700, 700, ""), Standing::default());
    log(&mut binlog, &mut standing, [rotate(FILE, 700)]);
    let begin = anonymous();
    let size = begin.size() as u64;
    let mut events = group(1_000, begin, "shop");
    let end = events.pop().unwrap();
    assert_eq!(log(&mut binlog, &mut standing, events), [Kind::Schema, Kind::Change]);
    assert!(binlog.in_transaction() && standing.position.file.is_empty());
    assert_eq!(log(&mut binlog, &mut standing, [end]), [Kind::Commit]);
    assert_eq!(place(&standing), (FILE, 1_010 - size, 1_050, true));
    assert_eq!((standing.time_micros, standing.gtids.is_empty()), (1_763_880_000_000_000, true));
    // Without followed rows: by marks, after three here.
    for (at, frames) in [(2_000, &[][..]), (3_000, &[]), (4_000, &[Kind::Mark])] {
        assert_eq!(log(&mut binlog, &mut standing, group(at, anonymous(), "other")), frames);
    }
    assert_eq!(place(&standing), (FILE, 4_010 - size, 4_050, true));
    // A heartbeat brings a mark forward, and has no place of its own.
    log(&mut binlog, &mut standing, group(5_000, anonymous(), "other"));
    let heartbeat = ending(7, RawEvent::of(kind::HEARTBEAT, 0, b"f"));
    assert_eq!(log(&mut binlog, &mut standing, [heartbeat]), [Kind::Mark]);
    assert_eq!((place(&standing).2, binlog.place().offset), (5_050, 5_050));
}

#[test]
fn a_stream_by_gtids_takes_no_transaction_without_one() {
    assert!(garbled(feed(&mut binlog(), vec![anonymous()])).contains("goes by GTIDs"));
}

#[test]
fn the_set_alone_does_from_a_files_head_on_while_every_transaction_has_a_gtid() {
    let (mut binlog, mut standing) =
        (by_place(700, 700, "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3"), Standing::default());
    log(&mut binlog, &mut standing, [rotate(FILE, 700)]);
    log(&mut binlog, &mut standing, group(1_000, gtid(8), "shop"));
    assert!(standing.position.by_place, "what has a GTID before it is not known");
    log(&mut binlog, &mut standing, head("binlog.000010"));
    assert_eq!(log(&mut binlog, &mut standing, [ending(300, previous(Some((1, 9))))]), [Kind::Mark]);
    assert_eq!(place(&standing), ("binlog.000010", 4, 4, true));
    let all = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3,07070707-0707-0707-0707-070707070707:1-8";
    assert_eq!(standing.gtids, all.parse().unwrap());
    log(&mut binlog, &mut standing, group(1_000, gtid(9), "shop"));
    assert!(!standing.position.by_place);
    // One without a GTID: the next file's head has to say it again.
    log(&mut binlog, &mut standing, group(2_000, anonymous(), "shop"));
    log(&mut binlog, &mut standing, group(3_000, gtid(10), "shop"));
    assert!(standing.position.by_place);
    log(&mut binlog, &mut standing, head("binlog.000011"));
    log(&mut binlog, &mut standing, [ending(300, previous(Some((1, 11))))]);
    log(&mut binlog, &mut standing, group(1_000, gtid(11), "shop"));
    assert!(!standing.position.by_place);
    assert_eq!(standing.gtids.count(), 14);
}

#[test]
fn a_list_of_gtids_that_is_none_is_garbled() {
    let mut binlog = by_place(4, 4, "");
    let bad = RawEvent::of(kind::PREVIOUS_GTIDS, 0, &[9, 9]);
    assert!(garbled(feed(&mut binlog, vec![bad])).contains("PREVIOUS_GTIDS"));
    // Where it does not matter it is not read.
    feed(&mut super::binlog(), vec![RawEvent::of(kind::PREVIOUS_GTIDS, 0, &[9, 9])]).unwrap();
}

#[test]
fn a_new_file_is_a_place_to_go_on_from_though_nothing_is_written_to_it() {
    let (mut binlog, mut standing) = (by_place(700, 700, ""), Standing::default());
    log(&mut binlog, &mut standing, [rotate(FILE, 700)]);
    // Described again in the middle of a file: no place.
    log(&mut binlog, &mut standing, [RawEvent::of(kind::FORMAT_DESCRIPTION, 0, &[0; 98])]);
    assert!(binlog.mark_due().is_none());
    log(&mut binlog, &mut standing, head("binlog.1000000"));
    log(&mut binlog, &mut standing, [ending(300, previous(None))]);
    assert!(binlog.mark_due().is_some());
    assert_eq!(log(&mut binlog, &mut standing, [RawEvent::of(kind::HEARTBEAT, 0, b"f")]), [Kind::Mark]);
    assert_eq!(place(&standing), ("binlog.1000000", 4, 4, true));
}

#[test]
fn what_was_read_before_an_offset_that_cannot_be_asked_for_is_passed_over() {
    const LARGE: u64 = 1 << 32;
    let begun = |from| {
        let (mut binlog, mut standing) = (by_place(from, LARGE + 550, ""), Standing::default());
        log(&mut binlog, &mut standing, [rotate(FILE, from.into())]);
        (binlog, standing)
    };
    let first = || group(4_000_000_000, anonymous(), "shop").into_iter().take(3).collect::<Vec<_>>();
    let rest = || [ending(100, insert(1)), ending(550, xid())];
    let (mut binlog, mut standing) = begun(4_000);
    assert_eq!(log(&mut binlog, &mut standing, first().into_iter().chain(rest())), []);
    assert!(!binlog.in_transaction() && standing.position.file.is_empty());
    assert_eq!(
        log(&mut binlog, &mut standing, group(1_000, anonymous(), "shop")),
        [Kind::Schema, Kind::Change, Kind::Commit]
    );
    assert_eq!(place(&standing).2, LARGE + 1_050);
    // It ends with the file.
    let (mut binlog, mut standing) = begun(4_000);
    log(&mut binlog, &mut standing, first().into_iter().chain(rest()));
    log(&mut binlog, &mut standing, [rotate("binlog.000010", 4)]);
    assert_eq!(
        log(&mut binlog, &mut standing, group(1_000, anonymous(), "shop")),
        [Kind::Schema, Kind::Change, Kind::Commit]
    );
    // No event ends there: the file is another.
    for next in [ending(551, xid()), rotate("binlog.000010", 4)] {
        let (mut binlog, mut standing) = begun(4_000);
        log(&mut binlog, &mut standing, first());
        log(&mut binlog, &mut standing, [ending(100, insert(1))]);
        assert!(garbled(feed(&mut binlog, vec![next])).contains("where the log goes on"));
    }
}

#[test]
fn xa_without_rows_is_told_at_once_where_a_place_moves_on() {
    let (mut binlog, mut standing) = (by_place(700, 700, ""), Standing::default());
    let prepare = RawEvent::of(kind::XA_PREPARE, 0, b"\0\x01\0\0\0\x01\0\0\0\0\0\0\0a");
    let events = vec![anonymous(), query("XA START X'61',X'',1"), query("XA END X'61',X'',1"), prepare];
    assert_eq!(log(&mut binlog, &mut standing, events), [Kind::Mark]);
    assert_eq!(standing.prepared.len(), 1);
    let events = vec![anonymous(), query("XA COMMIT X'61',X'',1")];
    assert_eq!(log(&mut binlog, &mut standing, events), [Kind::Mark]);
    assert!(standing.prepared.is_empty() && standing.gaps.is_empty());
}
