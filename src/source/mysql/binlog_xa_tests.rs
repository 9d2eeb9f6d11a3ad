//! XA transactions, from events to frames.

use super::*;
use crate::event::{Version, Xid};
use crate::log::Standing;
use crate::log::prepared::{Outcome, Xa};

/// The xid that the events here are about: `a`.
fn a() -> Xid {
    Xid::new(1, b"a", b"").unwrap()
}

fn prepare_event(one_phase: bool) -> RawEvent<'static> {
    let mut body = b"\0\x01\0\0\0\x01\0\0\0\0\0\0\0a".to_vec();
    body[0] = one_phase.into();
    RawEvent::of(kind::XA_PREPARE, 0, &body)
}

/// An XA transaction with a row of a table in this schema, up to its end.
fn group(number: u64, schema: &str, end: RawEvent<'static>) -> Vec<RawEvent<'static>> {
    let (start, xa_end) = (query("XA START X'61',X'',1"), query("XA END X'61',X'',1"));
    vec![gtid(number), start, table_map(schema), insert(1), xa_end, end]
}

fn decision(number: u64, verb: &str) -> Vec<RawEvent<'static>> {
    vec![gtid(number), query(&format!("XA {verb} X'61',X'',1"))]
}

fn idle() -> RawEvent<'static> {
    RawEvent::of(kind::HEARTBEAT, 0, b"f")
}

/// What commits and marks of these events say: kinds, sets and XA transactions.
fn said(binlog: &mut Binlog, events: Vec<RawEvent<'static>>) -> Vec<(Kind, GtidSet, Noted)> {
    let mut batch = Batch::new();
    for event in events {
        binlog.event(&event, &mut batch).unwrap();
        binlog.mark_if_due(&mut batch);
    }
    let ends = batch.payloads().filter_map(|(kind, payload)| match kind {
        Kind::Commit => {
            let commit = Commit::decode(payload).unwrap();
            let mut set = GtidSet::default();
            set.insert(commit.gtid.as_ref().unwrap());
            Some((kind, set, commit.noted))
        }
        Kind::Mark => {
            let mark = Mark::decode(payload).unwrap();
            Some((kind, mark.gtids, mark.noted))
        }
        _ => None,
    });
    ends.collect()
}

/// The stream goes on in another run, from what the log was told.
fn again(told: Vec<(Kind, GtidSet, Noted)>) -> (Binlog, Standing) {
    let mut standing = Standing::default();
    for (kind, gtids, noted) in told {
        let (synced, position) = (Synced::default(), Position::default());
        match kind {
            Kind::Commit => {
                let gtid = gtids.only();
                standing.committed(Commit { synced, gtid, time_micros: 0, position, noted }, Version(1));
            }
            _ => standing.marked(Mark { synced, gtids, time_micros: 0, position, noted }, Version(1)),
        }
    }
    let mut binlog = binlog();
    let patterns = Patterns::parse(&["shop.*"]).unwrap();
    binlog.restart(standing.gtids.clone(), PEER, patterns, BTreeSet::new());
    binlog.restart_xa(&standing);
    (binlog, standing)
}

#[test]
fn rows_are_held_until_the_decision() {
    for (verb, outcome) in [("COMMIT", Outcome::Committed), ("ROLLBACK", Outcome::RolledBack)] {
        let mut binlog = binlog();
        let held = feed(&mut binlog, group(1, "shop", prepare_event(false))).unwrap();
        assert_eq!(held, [Kind::Schema, Kind::Prepared, Kind::Commit]);
        // What comes in between is none of its.
        let ours = vec![gtid(2), query("BEGIN"), table_map("shop"), insert(2), xid()];
        assert_eq!(feed(&mut binlog, ours).unwrap(), [Kind::Change, Kind::Commit]);
        let told = said(&mut binlog, decision(3, verb));
        let [(Kind::Commit, _, noted)] = told.as_slice() else { panic!("{told:?}") };
        assert_eq!((&noted.xa, noted.gaps.len()), (&vec![Xa::Decided { xid: a(), outcome }], 0));
        assert_eq!(binlog.gtids().count(), 3);
    }
}

#[test]
fn one_phase_and_a_plain_end_commit_at_once() {
    for end in [prepare_event(true), xid(), query("COMMIT")] {
        let mut events = group(1, "shop", end);
        let mut ends = said(&mut binlog(), std::mem::take(&mut events));
        let xa = vec![Xa::Decided { xid: a(), outcome: Outcome::Committed }];
        assert_eq!(ends.pop().unwrap().2.xa, xa);
    }
    assert_eq!(feed(&mut binlog(), group(1, "other", prepare_event(true))).unwrap(), []);
}

#[test]
fn without_followed_rows_a_mark_tells_of_what_is_undecided() {
    let other = |number| vec![gtid(number), query("BEGIN"), table_map("other"), insert(1), xid()];
    let mut first = binlog();
    let mut events = [other(1), group(2, "other", prepare_event(false)), other(3)].concat();
    events.push(idle());
    let told = said(&mut first, events);
    assert_eq!(told.last().unwrap().1.only(), None, "all three are in its set");
    let (mut second, standing) = again(told.clone());
    assert_eq!((standing.gtids.count(), standing.prepared.len()), (3, 1));
    assert!(standing.prepared[0].held.is_none());

    // Its decision means nothing, and the log hears that it is over.
    for verb in ["COMMIT", "ROLLBACK"] {
        let (mut next, _) = again(told.clone());
        let mut events = decision(4, verb);
        events.push(idle());
        let more = said(&mut next, events);
        assert!(more.iter().all(|(kind, _, noted)| *kind == Kind::Mark && noted.gaps.is_empty()));
        assert!(again([told.clone(), more].concat()).1.prepared.is_empty());
    }
    // A row of ours before the mark leaves its PREPARE to be sent again.
    let mut third = binlog();
    feed(&mut third, group(1, "other", prepare_event(false))).unwrap();
    let ours = vec![gtid(2), query("BEGIN"), table_map("shop"), insert(1), xid()];
    let (mut resumed, standing) = again(said(&mut third, ours));
    assert_eq!((standing.gtids.count(), standing.prepared.len()), (1, 0));
    feed(&mut resumed, group(1, "other", prepare_event(false))).unwrap();
    assert_eq!(feed(&mut resumed, decision(3, "COMMIT")).unwrap(), []);
    assert_eq!(feed(&mut second, decision(4, "COMMIT")).unwrap(), []);
}

#[test]
fn a_commit_of_what_is_not_held_marks_every_followed_table() {
    let there = [("shop", "orders"), ("shop", "lines")];
    let mut binlog = binlog_of(&["shop.*"], NameCase::Sensitive, &there);
    feed(&mut binlog, vec![gtid(1), query("BEGIN"), table_map("shop"), insert(1), xid()]).unwrap();
    assert_eq!(feed(&mut binlog, decision(2, "ROLLBACK")).unwrap(), []);
    let mut told = said(&mut binlog, decision(3, "COMMIT"));
    let (kind, _, noted) = told.pop().unwrap();
    let tables: Vec<_> = noted.gaps.iter().map(|gap| gap.table.to_string()).collect();
    assert_eq!((kind, tables.join(" ").as_str()), (Kind::Mark, "shop.lines shop.orders shop.t"));
    assert!(noted.gaps[0].why.contains("X'61',X'',1") && noted.gaps[0].time_micros > 0);

    // So does one of a name that is undecided already: nobody knows what became of the first.
    let told = said(&mut binlog, group(4, "shop", prepare_event(false)));
    assert!(told[0].2.gaps.is_empty());
    let told = said(&mut binlog, group(5, "shop", prepare_event(false)));
    assert_eq!((told[0].2.gaps.len(), told[0].2.xa.len()), (3, 1));
}

#[test]
fn what_does_not_begin_or_end_as_xa_does_is_garbled() {
    let plain = |end| vec![gtid(1), query("BEGIN"), table_map("shop"), insert(1), end];
    garbled(feed(&mut binlog(), plain(prepare_event(false))));
    garbled(feed(&mut binlog(), plain(query("XA START X'61',X'',1"))));
    garbled(feed(&mut binlog(), plain(query("XA COMMIT X'61',X'',1"))));
    garbled(feed(&mut binlog(), vec![gtid(1), query("XA COMMIT 'a'")]));
    garbled(feed(&mut binlog(), vec![gtid(1), query("XA START")]));
    let mut another = group(1, "shop", prepare_event(false));
    another[1] = query("XA START X'62',X'',1");
    garbled(feed(&mut binlog(), another));
    // Longer than an xid may be.
    let mut body = vec![0, 1, 0, 0, 0, 65, 0, 0, 0, 0, 0, 0, 0];
    body.extend([7; 65]);
    garbled(feed(&mut binlog(), group(1, "shop", RawEvent::of(kind::XA_PREPARE, 0, &body))));
}
