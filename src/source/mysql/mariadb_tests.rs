use super::super::event::{Head, Within, kind};
use super::*;

/// A GTID event's body as a server wrote it, in hexadecimal digits; the server's id is 1.
fn begin(hex: &str) -> Result<GtidBegin, Malformed> {
    GtidBegin::parse(&RawEvent::of(kind::MARIADB_GTID, 8, &bytes(hex)))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn list(hex: &str) -> Result<Option<GtidSet>, Malformed> {
    gtid_list(&RawEvent::of(kind::GTID_LIST, 0, &bytes(hex)))
}

/// Each begins a transaction in domain 1.
const RECORDED: [(&str, &str, bool, bool); 8] = [
    ("10.11: DDL", "0100000000000000 01000000 29 000000000000", true, false),
    ("10.11: rows", "0200000000000000 01000000 0c 000000000000", false, false),
    ("11.8: DDL, with its thread", "0100000000000000 01000000 29 10 06000000 00", true, false),
    ("11.8: XA START", "0900000000000000 01000000 4c 01000000 01 00 78 11 ff 06000000", false, false),
    ("10.11: XA START", "0900000000000000 01000000 4c 01000000 01 00 78 01 ff", false, false),
    ("11.8: XA COMMIT", "0a00000000000000 01000000 8d 01000000 01 00 78 10 06000000", true, false),
    ("11.8: START ALTER", "0c00000000000000 01000000 29 12 06000000 00", true, true),
    ("11.8: COMMIT ALTER", "0d00000000000000 01000000 29 14 0c00000000000000 06000000", true, false),
];

#[test]
fn recorded_gtid_events_say_what_they_begin() {
    for (what, hex, standalone, alters_nothing) in RECORDED {
        let found = begin(hex).unwrap();
        assert_eq!((found.standalone, found.alters_nothing), (standalone, alters_nothing), "{what}");
        let number = u64::from(bytes(hex)[0]);
        assert_eq!(found.gtid.to_string(), format!("1-1-{number}"), "{what}");
    }
    // A group commit's number stands before everything else.
    let grouped = begin("0500000000000000 01000000 2b 1122334455667788 12 06000000").unwrap();
    assert!(grouped.standalone && grouped.alters_nothing);
}

#[test]
fn what_is_cut_short_or_has_no_sequence_is_malformed() {
    for (what, hex, ..) in RECORDED {
        // Behind the flags zeros alone, or what was announced.
        for cut in 0..13 {
            assert!(begin(&hex.replace(' ', "")[..cut * 2]).is_err(), "{what} {cut}");
        }
    }
    for hex in [
        "0000000000000000 01000000 0c 000000000000",
        "ffffffffffffff7f 01000000 0c 000000000000",
        "0500000000000000 01000000 2b 11223344556677",
        "0900000000000000 01000000 4c 01000000 ff ff 78",
        "0900000000000000 01000000 0c 02",
    ] {
        assert!(begin(hex).is_err(), "{hex}");
    }
}

#[test]
fn a_list_is_the_set_of_its_highest() {
    assert_eq!(list("00000000").unwrap().unwrap().to_string(), "");
    let two = "02000000 01000000 29680000 1a00000000000000 07000000 03000000 0500000000000000";
    assert_eq!(list(two).unwrap().unwrap().to_string(), "1-26665-26,7-3-5");
    // Of another use: it says that a replica has come to where it wanted to stop.
    assert_eq!(list(&two.replacen("02000000", "02000010", 1)), Ok(None));
    for cut in 0..36 {
        assert!(list(&two.replace(' ', "")[..cut * 2]).is_err(), "{cut}");
    }
    assert!(list("01000000 01000000 29680000 0000000000000000").is_err());
    assert!(list("ffffff0f").is_err());
}

#[test]
fn random_bodies_never_panic() {
    let mut state = 0x1234_5678_9abc_def0_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let length = (random() % 60) as usize;
        let body: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        let head =
            Head { seconds: 1, kind: kind::GTID_LIST, server: 2, size: HEAD + length, end: 0, flags: 0 };
        let bytes = [&[0; HEAD][..], &body].concat();
        let event = RawEvent::new(head, &bytes, Within::Stream);
        let _ = (GtidBegin::parse(&event), gtid_list(&event));
    }
}
