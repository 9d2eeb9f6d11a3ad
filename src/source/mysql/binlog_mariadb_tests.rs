use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::super::tests::{definite, feed, garbled};
use super::super::*;
use crate::log::record::Kind;
use crate::secret::Secret;
use crate::source::mysql::options::Address;
use crate::source::mysql::server::Family;

fn binlog_after(after: &str) -> Binlog {
    let mut options = MysqlOptions::new(Address::Socket("/s".into()), "u", Secret::default(), 1);
    options.mark_transactions = 1;
    options.max_row_bytes = 1 << 16;
    let mut binlog = Binlog::new(&options);
    let peer = Peer { family: Family::Mariadb, uuid: [1; 16] };
    binlog.restart(after.parse().unwrap(), peer, Patterns::parse(&["shop.*"]).unwrap(), BTreeSet::new());
    binlog
}

const STANDALONE: u8 = 1;

/// The GTID 1-1-`number`.
fn gtid(number: u64, flags: u8, more: &[u8]) -> RawEvent<'static> {
    let mut body = number.to_le_bytes().to_vec();
    body.extend_from_slice(&[1, 0, 0, 0, flags]);
    body.extend_from_slice(more);
    body.resize(body.len().max(19), 0);
    RawEvent::of(kind::MARIADB_GTID, 8, &body)
}

/// The GTID 1-2-`number`.
fn gtid_of_2(number: u64) -> RawEvent<'static> {
    let event = gtid(number, 0, &[]);
    let mut bytes = event.bytes().to_vec();
    bytes[5] = 2;
    let bytes = bytes.leak();
    RawEvent::new(super::super::super::event::Head::parse(bytes).unwrap(), bytes, Within::Stream)
}

fn query_body(sql: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&[4, 0, 0, 0, 0]);
    body.extend_from_slice(b"shop\0");
    body.extend_from_slice(sql);
    body
}

fn query(sql: &str) -> RawEvent<'static> {
    RawEvent::of(kind::QUERY, 0, &query_body(sql.as_bytes()))
}

fn xid() -> RawEvent<'static> {
    RawEvent::of(kind::XID, 0, &[0; 8])
}

/// `id INT PRIMARY KEY` of shop.t.
fn table_map() -> RawEvent<'static> {
    RawEvent::of(
        kind::TABLE_MAP,
        0,
        b"\x05\0\0\0\0\0\x01\0\x04shop\0\x01t\0\x01\x03\0\0\x04\x03\x02id\x08\x01\0",
    )
}

/// Up to the images of a rows event of version 1.
const ROWS: [u8; 10] = [5, 0, 0, 0, 0, 0, 1, 0, 1, 1];

fn insert(id: u8) -> RawEvent<'static> {
    RawEvent::of(kind::WRITE_ROWS_V1, 0, &[&ROWS[..], &[0, id, 0, 0, 0]].concat())
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    let length = (bytes.len() as u32).to_be_bytes();
    [&[0x84], &length[..], &encoder.finish().unwrap()].concat()
}

fn list(entries: &[(u32, u64)]) -> RawEvent<'static> {
    let mut body = (entries.len() as u32).to_le_bytes().to_vec();
    for (server, number) in entries {
        body.extend_from_slice(&1_u32.to_le_bytes());
        body.extend_from_slice(&server.to_le_bytes());
        body.extend_from_slice(&number.to_le_bytes());
    }
    RawEvent::of(kind::GTID_LIST, 0, &body)
}

#[test]
fn a_gtid_begins_a_transaction_and_counts_with_its_end() {
    let mut binlog = binlog_after("1-1-6,4-9-2");
    let frames = feed(&mut binlog, vec![gtid(7, 12, &[]), table_map(), insert(1)]).unwrap();
    assert_eq!(frames, [Kind::Schema, Kind::Change]);
    assert_eq!(binlog.gtids().to_string(), "1-1-6,4-9-2");
    assert_eq!(feed(&mut binlog, vec![xid()]).unwrap(), [Kind::Commit]);
    assert_eq!(binlog.gtids().to_string(), "1-1-7,4-9-2");
    // Tables that cannot roll back end with COMMIT.
    let frames = feed(&mut binlog, vec![gtid(8, 8, &[]), table_map(), insert(2), query("COMMIT")]).unwrap();
    assert_eq!(frames, [Kind::Change, Kind::Commit]);
    // Others write in the same domain.
    let frames = feed(&mut binlog, vec![gtid_of_2(9), table_map(), insert(3), xid()]).unwrap();
    assert_eq!(frames, [Kind::Change, Kind::Commit]);
    assert_eq!(binlog.gtids().to_string(), "1-1-8,1-2-9,4-9-2");
}

#[test]
fn a_standalone_statement_is_all_of_its_transaction() {
    let mut binlog = binlog_after("");
    let frames =
        feed(&mut binlog, vec![gtid(1, STANDALONE, &[]), query("CREATE TABLE t (id INT PRIMARY KEY)")]);
    assert_eq!(frames.unwrap(), [Kind::Mark]);
    let frames = feed(&mut binlog, vec![gtid(2, STANDALONE, &[]), query("TRUNCATE t")]);
    assert_eq!(frames.unwrap(), [Kind::Sweep, Kind::Commit]);
    // Within a transaction that has rows: CREATE TABLE … SELECT.
    let mut binlog = binlog_after("");
    let created = vec![gtid(1, 8, &[]), query("CREATE TABLE `t` (`id` int)"), table_map(), insert(1), xid()];
    assert_eq!(feed(&mut binlog, created).unwrap(), [Kind::Schema, Kind::Change, Kind::Commit]);
    garbled(feed(&mut binlog, vec![gtid(2, STANDALONE, &[]), table_map(), insert(1)]));
}

#[test]
fn half_an_alter_changes_nothing_until_its_other_half_comes() {
    let alter = || query("ALTER TABLE t DROP COLUMN a");
    let mut binlog = binlog_after("");
    let begun =
        vec![gtid(1, STANDALONE, &[2]), alter(), gtid(2, STANDALONE, &[8, 1, 0, 0, 0, 0, 0, 0, 0]), alter()];
    assert_eq!(feed(&mut binlog, begun).unwrap(), [Kind::Mark, Kind::Mark]);
    let done = [gtid(3, STANDALONE, &[4, 1, 0, 0, 0, 0, 0, 0, 0]), alter()];
    let mut batch = Batch::new();
    done.iter().for_each(|event| binlog.event(event, &mut batch).unwrap());
    let (_, mark) = batch.payloads().next().unwrap();
    assert!(Mark::decode(mark).unwrap().noted.gaps[0].why.contains("DROP COLUMN a"));
}

#[test]
fn sequences_that_fall_are_a_definite_error_and_one_sent_again_is_garbled() {
    let text = definite(feed(&mut binlog_after("1-1-6"), vec![gtid_of_2(5)]));
    assert!(text.contains("1-2-5") && text.contains("1-1-6") && text.contains("gtid_strict_mode"), "{text}");
    let text = garbled(feed(&mut binlog_after("1-1-6"), vec![gtid(6, 0, &[])]));
    assert!(text.contains("1-1-6 again"), "{text}");
    // Of another domain than the one that is far ahead.
    feed(&mut binlog_after("7-1-600"), vec![gtid(6, 0, &[]), xid()]).unwrap();
}

#[test]
fn a_list_of_what_was_not_sent_is_garbled() {
    let mut binlog = binlog_after("1-1-6,1-2-9");
    feed(&mut binlog, vec![list(&[]), list(&[(1, 6)]), list(&[(1, 6), (2, 9)])]).unwrap();
    for missing in [vec![(1, 7)], vec![(1, 6), (3, 1)]] {
        let text = garbled(feed(&mut binlog_after("1-1-6,1-2-9"), vec![list(&missing)]));
        assert!(text.contains("did not send"), "{text}");
    }
    garbled(feed(&mut binlog, vec![gtid(10, 0, &[]), list(&[])]));
}

#[test]
fn compressed_events_are_what_they_would_have_been() {
    let mut binlog = binlog_after("");
    let images: Vec<u8> = (0..200).flat_map(|id| [0, id, 0, 0, 0]).collect();
    let write = RawEvent::of(kind::WRITE_ROWS_COMPRESSED_V1, 0, &[&ROWS[..], &packed(&images)].concat());
    let frames = feed(&mut binlog, vec![gtid(1, 0, &[]), table_map(), write, xid()]).unwrap();
    assert_eq!(frames.iter().filter(|kind| **kind == Kind::Change).count(), 200);
    // Two bitmaps, two images.
    let update = [&ROWS[..], &[1], &packed(&[0, 7, 0, 0, 0, 0, 8, 0, 0, 0])].concat();
    let update = RawEvent::of(kind::UPDATE_ROWS_COMPRESSED_V1, 0, &update);
    assert_eq!(
        feed(&mut binlog, vec![gtid(2, 0, &[]), table_map(), update, xid()]).unwrap(),
        [Kind::Change, Kind::Commit]
    );
    let truncate = [&query_body(b"")[..], &packed(b"TRUNCATE TABLE t")].concat();
    let truncate = RawEvent::of(kind::QUERY_COMPRESSED, 0, &truncate);
    let frames = feed(&mut binlog, vec![gtid(3, STANDALONE, &[]), truncate]).unwrap();
    assert_eq!(frames, [Kind::Sweep, Kind::Commit]);
}

#[test]
fn compressed_events_that_are_damaged_or_too_large_are_refused_where_they_matter() {
    let start = || vec![gtid(1, 0, &[]), table_map()];
    let of = |body: &[u8]| RawEvent::of(kind::DELETE_ROWS_COMPRESSED_V1, 0, body);
    let mut damaged = [&ROWS[..], &packed(&[0, 7, 0, 0, 0])].concat();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let mut events = start();
    events.push(of(&damaged));
    assert!(garbled(feed(&mut binlog_after(""), events)).contains("cannot be inflated"));
    let mut events = start();
    events.push(of(&[&ROWS[..], &packed(&vec![0; (1 << 17) + 1])].concat()));
    assert!(definite(feed(&mut binlog_after(""), events)).contains("max_row_bytes"));
    // Of a table that is not followed nothing matters.
    let mut other = table_map().bytes()[19..].to_vec();
    other[9] = b'x';
    let events = vec![gtid(1, 0, &[]), RawEvent::of(kind::TABLE_MAP, 0, &other), of(&damaged), xid()];
    assert_eq!(feed(&mut binlog_after(""), events).unwrap(), [Kind::Mark]);
}

#[test]
fn what_says_nothing_of_rows_is_passed_over() {
    let mut binlog = binlog_after("");
    let aside = [kind::ANNOTATE_ROWS, kind::BINLOG_CHECKPOINT, kind::START_ENCRYPTION];
    let mut events = vec![gtid(1, 0, &[])];
    events.extend(aside.map(|kind| RawEvent::of(kind, 0, &[1, 2, 3])));
    events.push(xid());
    assert_eq!(feed(&mut binlog, events).unwrap(), [Kind::Mark]);
    assert!(definite(feed(&mut binlog, vec![RawEvent::of(172, 0, &[])])).contains("type 172"));
}

#[test]
fn a_silence_is_borne_until_the_server_has_found_our_place() {
    let mut binlog = binlog_after("1-1-6");
    assert!(binlog.may_be_silent());
    feed(&mut binlog, vec![list(&[(1, 6)])]).unwrap();
    assert!(binlog.may_be_silent());
    feed(&mut binlog, vec![RawEvent::of(kind::HEARTBEAT, 0, &[])]).unwrap();
    assert!(!binlog.may_be_silent());
}
