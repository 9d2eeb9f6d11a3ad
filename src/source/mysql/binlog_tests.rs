use super::*;
use crate::log::record::{Kind, SweepRecord};
use crate::secret::Secret;
use crate::source::SourceError;
use crate::source::mysql::options::Address;
use crate::source::mysql::patterns::NameCase;
use crate::source::mysql::server::Family;

#[path = "binlog_xa_tests.rs"]
mod xa;

const UUID: [u8; 16] = [7; 16];

const PEER: Peer = Peer { family: Family::Mysql, uuid: [1; 16] };

fn binlog() -> Binlog {
    let mut options = MysqlOptions::new(Address::Socket("/s".into()), "u", Secret::default(), 1);
    options.mark_transactions = 3;
    let mut binlog = Binlog::new(&options);
    let patterns = Patterns::parse(&["shop.*"]).unwrap();
    binlog.restart(GtidSet::default(), PEER, patterns, BTreeSet::new());
    binlog
}

fn gtid(number: u64) -> RawEvent<'static> {
    let mut body = vec![0];
    body.extend_from_slice(&UUID);
    body.extend_from_slice(&number.to_le_bytes());
    body.push(2);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&1_763_880_000_000_000_u64.to_le_bytes()[..7]);
    // Transaction length and server version.
    body.extend_from_slice(&[200, 0, 0, 0, 0]);
    RawEvent::of(kind::GTID, 0, &body)
}

fn query(sql: &str) -> RawEvent<'static> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&[4, 0, 0, 0, 0]);
    body.extend_from_slice(b"shop\0");
    body.extend_from_slice(sql.as_bytes());
    RawEvent::of(kind::QUERY, 0, &body)
}

fn xid() -> RawEvent<'static> {
    RawEvent::of(kind::XID, 0, &[0; 8])
}

/// `id INT PRIMARY KEY` in schema `schema`.
fn table_map(schema: &str) -> RawEvent<'static> {
    let mut body = vec![5, 0, 0, 0, 0, 0, 1, 0, schema.len() as u8];
    body.extend_from_slice(schema.as_bytes());
    body.extend_from_slice(b"\0\x01t\0\x01\x03\x00\x00\x04\x03\x02id\x08\x01\x00");
    RawEvent::of(kind::TABLE_MAP, 0, &body)
}

fn insert(id: u8) -> RawEvent<'static> {
    RawEvent::of(kind::WRITE_ROWS, 0, &[5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0, id, 0, 0, 0])
}

pub(super) fn feed(binlog: &mut Binlog, events: Vec<RawEvent<'static>>) -> Result<Vec<Kind>, SourceError> {
    let mut batch = Batch::new();
    for event in events {
        binlog.event(&event, &mut batch)?;
        binlog.mark_if_due(&mut batch);
    }
    Ok(batch.payloads().map(|(kind, _)| kind).collect())
}

pub(super) fn definite(result: Result<Vec<Kind>, SourceError>) -> String {
    match result {
        Err(SourceError::Definite(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn garbled(result: Result<Vec<Kind>, SourceError>) -> String {
    match result {
        Err(SourceError::Garbled(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_gtid_counts_with_its_commit() {
    let mut binlog = binlog();
    let events = vec![gtid(1), query("BEGIN"), table_map("shop"), insert(1)];
    assert_eq!(feed(&mut binlog, events).unwrap(), [Kind::Schema, Kind::Change]);
    assert!(binlog.gtids().is_empty() && binlog.in_transaction());
    assert_eq!(feed(&mut binlog, vec![xid()]).unwrap(), [Kind::Commit]);
    assert_eq!(binlog.gtids().count(), 1);
    // The schema is not repeated within a connection.
    let again = |number| vec![gtid(number), query("BEGIN"), table_map("shop"), insert(2), xid()];
    assert_eq!(feed(&mut binlog, again(2)).unwrap(), [Kind::Change, Kind::Commit]);
    binlog.restart(binlog.gtids().clone(), PEER, Patterns::parse(&["shop.*"]).unwrap(), BTreeSet::new());
    assert_eq!(feed(&mut binlog, again(3)).unwrap(), [Kind::Schema, Kind::Change, Kind::Commit]);
}

#[test]
fn transactions_without_followed_rows_become_marks() {
    let mut binlog = binlog();
    let other = |number| vec![gtid(number), query("BEGIN"), table_map("other"), insert(1), xid()];
    assert_eq!(feed(&mut binlog, other(1)).unwrap(), []);
    assert!(binlog.mark_due().is_some());
    assert_eq!(feed(&mut binlog, other(2)).unwrap(), []);
    assert_eq!(feed(&mut binlog, other(3)).unwrap(), [Kind::Mark]);
    assert!(binlog.mark_due().is_none());
    // A heartbeat says that nothing else is there: what is pending is marked at once.
    assert_eq!(feed(&mut binlog, other(4)).unwrap(), []);
    assert_eq!(feed(&mut binlog, vec![RawEvent::of(kind::HEARTBEAT, 0, b"f")]).unwrap(), [Kind::Mark]);
}

#[test]
fn a_transaction_cut_short_is_garbled() {
    let open = || vec![gtid(1), query("BEGIN"), table_map("shop"), insert(1)];
    for next in [gtid(2), RawEvent::of(kind::ROTATE, 0, &[0; 12]), RawEvent::of(kind::STOP, 0, &[])] {
        let mut binlog = binlog();
        feed(&mut binlog, open()).unwrap();
        assert!(garbled(feed(&mut binlog, vec![next])).contains("inside a transaction"));
    }
    for alone in [xid(), query("BEGIN"), insert(1)] {
        garbled(feed(&mut binlog(), vec![alone]));
    }
    let mut binlog = binlog();
    feed(&mut binlog, vec![gtid(1), query("CREATE TABLE x (a INT)")]).unwrap();
    assert!(garbled(feed(&mut binlog, vec![gtid(1)])).contains("again"));
}

#[test]
fn fault_50_an_incident_and_what_is_not_known_are_refused_by_name() {
    for (number, named) in [(kind::INCIDENT, "INCIDENT"), (99, "type 99")] {
        let text = definite(feed(&mut binlog(), vec![RawEvent::of(number, 0, &[0; 40])]));
        assert!(text.contains(named), "{text}");
    }
    // Ignorable ones say so themselves.
    assert_eq!(feed(&mut binlog(), vec![RawEvent::of(99, 0x80, &[])]).unwrap(), []);
}

/// The tables that a batch sweeps.
fn swept(batch: &Batch) -> Vec<String> {
    let sweeps = batch.payloads().filter(|(kind, _)| *kind == Kind::Sweep);
    sweeps.map(|(_, payload)| SweepRecord::decode(payload).unwrap().table.to_string()).collect()
}

#[test]
fn a_truncate_is_a_sweep_in_a_transaction_of_its_own_also_of_a_table_never_seen() {
    let mut binlog = binlog();
    let mut batch = Batch::new();
    let events =
        [gtid(1), query("TRUNCATE TABLE t"), gtid(2), query("TRUNCATE other.t"), gtid(3), query("BEGIN")];
    let rows = [table_map("shop"), insert(1), xid(), gtid(4), query("truncate table shop.t")];
    for event in events.iter().chain(&rows) {
        binlog.event(event, &mut batch).unwrap();
    }
    let kinds: Vec<Kind> = batch.payloads().map(|(kind, _)| kind).collect();
    let rows = [Kind::Schema, Kind::Change, Kind::Commit];
    let sweep = [Kind::Sweep, Kind::Commit];
    assert_eq!(kinds, [&sweep[..], &rows[..], &sweep[..]].concat());
    assert_eq!(swept(&batch), ["shop.t", "shop.t"]);
    assert_eq!(binlog.gtids().count(), 4);
}

#[test]
fn a_truncate_of_a_temporary_table_empties_no_followed_one() {
    let mut binlog = binlog();
    let statement = query("TRUNCATE TABLE t");
    let flagged = RawEvent::of(kind::QUERY, 0x04, statement.body());
    assert_eq!(feed(&mut binlog, vec![gtid(1), flagged]).unwrap(), []);
    assert_eq!(feed(&mut binlog, vec![gtid(2), statement]).unwrap(), [Kind::Sweep, Kind::Commit]);
}

#[test]
fn a_truncate_names_its_table_as_the_server_spells_it() {
    for (case, keys, expected) in [
        (NameCase::Sensitive, &[][..], "Shop.T"),
        (NameCase::Insensitive, &[], "shop.t"),
        (NameCase::Insensitive, &[("Shop", "t")], "Shop.t"),
    ] {
        let mut binlog = binlog_of(&["shop.*", "Shop.*"], case, keys);
        let mut batch = Batch::new();
        for event in [gtid(1), query("TRUNCATE TABLE Shop.T")] {
            binlog.event(&event, &mut batch).unwrap();
        }
        assert_eq!(swept(&batch), [expected], "{case:?}");
    }
}

#[test]
fn fault_56_rows_that_were_rolled_back_are_left_out_when_the_transaction_is_read_again() {
    let rows = |id| [table_map("shop"), insert(id)];
    let statement = |sql: &'static str| vec![query(sql)];
    let saved = || [rows(1).to_vec(), statement("SAVEPOINT `s`"), rows(2).to_vec()].concat();
    for (events, kept) in [
        ([rows(1).to_vec(), statement("ROLLBACK")].concat(), 0),
        ([saved(), statement("ROLLBACK TO `S`"), rows(3).to_vec(), vec![xid()]].concat(), 2),
        ([saved(), statement("ROLLBACK TO `s`"), statement("ROLLBACK")].concat(), 0),
    ] {
        let events = [vec![gtid(1), query("BEGIN")], events].concat();
        let mut binlog = binlog();
        let first = feed(&mut binlog, events.clone());
        assert!(matches!(&first, Err(SourceError::Transient(_))), "{first:?}");
        assert_eq!(binlog.gtids().count(), 0, "it is not read yet");
        let patterns = || Patterns::parse(&["shop.*"]).unwrap();
        binlog.restart(GtidSet::default(), PEER, patterns(), BTreeSet::new());
        let kinds = feed(&mut binlog, events.clone()).unwrap();
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Change).count(), kept);
        assert_eq!(binlog.gtids().count(), 1);
        // Another server's group may be another.
        assert!(feed(&mut self::binlog(), events).is_err());
    }
    // Of tables that are not followed nothing was handed over.
    let events = vec![gtid(1), query("BEGIN"), table_map("other"), insert(1), query("ROLLBACK")];
    let mut binlog = binlog();
    feed(&mut binlog, events).unwrap();
    assert_eq!(binlog.gtids().count(), 1);
    let events = vec![gtid(2), query("BEGIN"), query("ROLLBACK TO `s`")];
    assert!(garbled(feed(&mut binlog, events)).contains("savepoint"));
}

/// With these patterns, case rule and tables that are there at the connect.
fn binlog_of(patterns: &[&str], case: NameCase, there: &[(&str, &str)]) -> Binlog {
    let mut binlog = binlog();
    let there = there.iter().map(|(schema, table)| TableName::new(*schema, *table)).collect();
    let patterns = Patterns::parse(patterns).unwrap().with_case(case);
    binlog.restart(GtidSet::default(), PEER, patterns, there);
    binlog
}

/// The gaps that marks and commits of these events note, as text.
fn gaps(binlog: &mut Binlog, events: Vec<RawEvent<'static>>) -> Vec<String> {
    let mut batch = Batch::new();
    for event in events {
        binlog.event(&event, &mut batch).unwrap();
    }
    let noted = |(kind, payload): (Kind, &[u8])| match kind {
        Kind::Commit => Commit::decode(payload).unwrap().noted.gaps,
        Kind::Mark => {
            let mark = Mark::decode(payload).unwrap();
            assert!(binlog.gtids().is_subset(&mark.gtids), "the mark passes the statement");
            mark.noted.gaps
        }
        _ => Vec::new(),
    };
    let gaps = batch.payloads().flat_map(noted);
    gaps.map(|Gap { table, why, time_micros, .. }| {
        assert_eq!(time_micros, 1_763_880_000_000_000);
        format!("{table}: {why}")
    })
    .collect()
}

#[test]
fn a_dropped_table_is_a_gap_recorded_with_the_position_behind_it() {
    let drop = |number, sql| vec![gtid(number), query(sql)];
    let dropped = ["shop.t: DROP TABLE: its documents stay as they were"];
    assert_eq!(gaps(&mut binlog(), drop(1, "DROP TABLE `t`, other.t")), dropped);
    let if_exists = "DROP TABLE IF EXISTS `t`";
    let mut unknown = binlog();
    assert_eq!(feed(&mut unknown, drop(1, if_exists)).unwrap(), [], "it may never have been there");
    feed(&mut unknown, vec![gtid(2), query("BEGIN"), table_map("shop"), insert(1), xid()]).unwrap();
    assert_eq!(gaps(&mut unknown, drop(3, if_exists)), dropped);
    let mut known = binlog_of(&["shop.*"], NameCase::Insensitive, &[("Shop", "T")]);
    assert_eq!(gaps(&mut known, drop(1, if_exists)), ["Shop.T: DROP TABLE: its documents stay as they were"]);
}

#[test]
fn a_dropped_schema_is_a_gap_of_each_table_that_is_known() {
    let drop = |name: &str| vec![gtid(1), query(&format!("DROP DATABASE `{name}`"))];
    let dropped = |table: &str| format!("{table}: DROP DATABASE: its documents stay as they were");
    let there: &[(&str, &str)] = &[("shop", "t"), ("shop", "u"), ("stock", "t")];
    let mut binlog = binlog_of(&["*.*"], NameCase::Sensitive, there);
    assert_eq!(gaps(&mut binlog, drop("shop")), [dropped("shop.t"), dropped("shop.u")]);
    let mut binlog = binlog_of(&["*.*"], NameCase::Insensitive, there);
    assert_eq!(gaps(&mut binlog, drop("STOCK")), [dropped("stock.t")]);
    let mut binlog = binlog_of(&["*.*"], NameCase::Sensitive, there);
    assert_eq!(feed(&mut binlog, drop("other")).unwrap(), []);
}

#[test]
fn renames_are_gaps_of_both_names() {
    let swap = "RENAME TABLE t TO _t_del, _t_gho TO t, other.a TO other.b";
    assert_eq!(
        gaps(&mut binlog(), vec![gtid(1), query(swap)]),
        [
            "shop.t: RENAME TABLE to shop._t_del",
            "shop._t_del: RENAME TABLE from shop.t",
            "shop._t_gho: RENAME TABLE to shop.t",
            "shop.t: RENAME TABLE from shop._t_gho",
        ]
    );
    let mut binlog = binlog();
    assert_eq!(feed(&mut binlog, vec![gtid(1), query("RENAME TABLE other.a TO other.b")]).unwrap(), []);
}

#[test]
fn a_partial_update_without_its_table_map_is_garbled() {
    let event = || RawEvent::of(kind::PARTIAL_UPDATE_ROWS, 0, &[5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0]);
    garbled(feed(&mut binlog(), vec![gtid(1), query("BEGIN"), event()]));
    // The bitmap of the after-images, and nothing behind it.
    feed(&mut binlog(), vec![gtid(1), query("BEGIN"), table_map("shop"), event()]).unwrap();
    feed(&mut binlog(), vec![gtid(1), query("BEGIN"), table_map("other"), event(), xid()]).unwrap();
}

#[test]
fn places_name_file_offset_and_gtid_also_past_4_gib() {
    let mut binlog = binlog();
    let mut rotate = 4_u64.to_le_bytes().to_vec();
    rotate.extend_from_slice(b"binlog.000009");
    feed(&mut binlog, vec![RawEvent::of(kind::ROTATE, 0, &rotate)]).unwrap();
    feed(&mut binlog, vec![gtid(5)]).unwrap();
    binlog.advance(4_000_000_000, 50);
    binlog.advance(0, 200_000_000);
    binlog.advance(0, 94_967_346);
    binlog.advance(100, 50);
    assert_eq!(
        binlog.place().to_string(),
        "binlog.000009:4294967396 (GTID 07070707-0707-0707-0707-070707070707:5)"
    );
}

#[test]
fn random_bodies_never_panic() {
    let mut state = 0x7777_1234_9876_5432_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut binlog = binlog();
        let mut batch = Batch::new();
        let mut events = vec![gtid(1), query("BEGIN"), table_map("shop")];
        for _ in 0..3 {
            let body: Vec<u8> = (0..random() % 60).map(|_| (random() % 7 * 36) as u8).collect();
            events.push(RawEvent::of((random() % 44) as u8, 0, &body));
        }
        for event in &events {
            if binlog.event(event, &mut batch).is_err() {
                break;
            }
        }
    }
}

#[path = "binlog_place_tests.rs"]
mod place;
#[path = "binlog_tables_tests.rs"]
mod tables;
