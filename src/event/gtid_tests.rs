use super::*;

const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const B: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429563";

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

#[test]
fn text_round_trips_with_gaps_tags_and_several_servers() {
    for text in ["", &format!("{A}:1-7:9-10"), &format!("{A}:1,{A}:blue:5-6,{B}:3")] {
        assert_eq!(set(text).to_string(), text);
    }
    assert_eq!(set(&format!(" {}:1-3:4,\n{B}:2 ", A.to_uppercase())).to_string(), format!("{A}:1-4,{B}:2"));
    assert_eq!(set(&format!("{A}:1:blue:2-3")).to_string(), format!("{A}:1,{A}:blue:2-3"));
}

#[test]
fn wrong_text_is_refused() {
    for text in [
        "x",
        A,
        &format!("{A}:0"),
        &format!("{A}:5-4"),
        &format!("{A}:9223372036854775807"),
        &format!("{A}:1-"),
    ] {
        assert!(text.parse::<GtidSet>().is_err(), "{text}");
    }
}

#[test]
fn what_is_stored_is_read_back_and_what_no_set_holds_is_refused() {
    use crate::event::codec::{decode_owned, encode};
    let whole = set(&format!("{A}:1-7:9-10,{A}:blue:3,{B}:1-9223372036854775806"));
    let mut stored = Vec::new();
    encode(&whole, &mut stored);
    assert_eq!(decode_owned::<GtidSet, 1000>(&stored).unwrap(), (whole, &[][..]));
    let origin = |tag: &str| Origin::Server { uuid: [1; 16], tag: tag.to_owned() };
    let i = |start, end| Interval { start, end };
    let blue = || (origin("blue"), vec![i(1, 2)]);
    for wrong in [
        vec![(origin(""), vec![])],
        vec![(origin(""), vec![i(0, 2)])],
        vec![(origin(""), vec![i(9, 3)])],
        vec![(origin(""), vec![i(1, NUMBER_LIMIT + 1)])],
        vec![(origin(""), vec![i(1, 4), i(4, 6)])],
        vec![(origin(""), vec![i(5, 9), i(1, 3)])],
        vec![(origin("Blue"), vec![i(1, 2)])],
        vec![(origin("1st"), vec![i(1, 2)])],
        vec![(origin(&"x".repeat(33)), vec![i(1, 2)])],
        vec![blue(), blue()],
        vec![blue(), (origin(""), vec![i(1, 2)])],
        vec![(Origin::Domain { domain: 0, server: 1 }, vec![i(2, 9)])],
        vec![(Origin::Domain { domain: 0, server: 1 }, vec![i(1, 3), i(5, 9)])],
    ] {
        let mut stored = Vec::new();
        encode(&wrong, &mut stored);
        assert!(decode_owned::<GtidSet, 10_000>(&stored).is_err(), "{wrong:?}");
    }
    for number in [0, NUMBER_LIMIT, u64::MAX] {
        let mut stored = Vec::new();
        encode(&Gtid { origin: origin(""), number }, &mut stored);
        assert!(decode_owned::<Gtid, 1000>(&stored).is_err(), "{number}");
    }
}

#[test]
fn inserting_keeps_gaps_until_they_are_filled() {
    let mut s = set(&format!("{A}:1-7:9-10"));
    let origin = s.origins.keys().next().unwrap().clone();
    assert!(!s.insert(&Gtid { origin: origin.clone(), number: 3 }));
    assert!(s.insert(&Gtid { origin: origin.clone(), number: 12 }));
    assert_eq!(s.to_string(), format!("{A}:1-7:9-10:12"));
    assert!(s.insert(&Gtid { origin: origin.clone(), number: 8 }));
    assert!(s.insert(&Gtid { origin: origin.clone(), number: 11 }));
    assert_eq!(s.to_string(), format!("{A}:1-12"));
    assert_eq!(s.count(), 12);
    assert!(s.contains(&Gtid { origin, number: 12 }));
}

#[test]
fn subtracting_and_subsets() {
    let all = set(&format!("{A}:1-10,{B}:1-3"));
    let some = set(&format!("{A}:1-3:5"));
    assert!(some.is_subset(&all));
    assert!(!all.is_subset(&some));
    assert_eq!(all.subtract(&some).to_string(), format!("{A}:4:6-10,{B}:1-3"));
    let mut union = some.clone();
    union.union(&all);
    assert_eq!(union, all);
    assert!(GtidSet::default().is_subset(&some));
    assert!(!set(&format!("{A}:3-5")).is_subset(&some));
    assert!(!set(&format!("{A}:blue:1")).is_subset(&all));
    for number in 1..=11 {
        let gtid = Gtid {
            origin: Origin::Server {
                uuid: *uuid::Uuid::try_parse(A).unwrap().as_bytes(),
                tag: String::new(),
            },
            number,
        };
        assert_eq!((some.contains(&gtid), all.contains(&gtid)), (number <= 3 || number == 5, number <= 10));
    }
}

#[test]
fn a_domains_gtid_stands_for_all_that_its_server_wrote_there_before() {
    let all = set("0-1-100,0-2-150,7-1-3");
    assert_eq!(all.to_string(), "0-1-100,0-2-150,7-1-3");
    assert_eq!(all.domains().map(|gtid| gtid.to_string()).collect::<Vec<_>>(), ["0-2-150", "7-1-3"]);
    let before = set("0-1-90, 0-2-150");
    assert!(before.is_subset(&all) && !all.is_subset(&before));
    assert_eq!(all.subtract(&before).to_string(), "0-1-91..100,7-1-3");
    // What a log keeps of a domain is all up to its last.
    assert_eq!(all.beyond(&before).to_string(), "0-1-100,7-1-3");
    assert!(all.beyond(&all).is_empty());
    let mut grown = before.clone();
    let added = set("0-1-160").only().unwrap();
    assert!(grown.insert(&added) && !grown.insert(&added));
    assert_eq!(grown.domains().map(|gtid| gtid.to_string()).collect::<Vec<_>>(), ["0-1-160"]);
    assert!(grown.contains(&set("0-1-95").only().unwrap()));
    for text in ["0-1", "0-1-0", "0-1-2-3", "4294967296-1-1", "0-1-9223372036854775807", "a-1-2"] {
        assert!(text.parse::<GtidSet>().is_err(), "{text}");
    }
    use crate::event::codec::{decode_owned, encode};
    let mut stored = Vec::new();
    encode(&all, &mut stored);
    assert_eq!(decode_owned::<GtidSet, 1000>(&stored).unwrap(), (all, &[][..]));
}

#[test]
fn a_long_set_is_shown_by_its_beginning_and_its_count() {
    let some = set(&format!("{A}:1-3:5"));
    assert_eq!(some.brief(100), some.to_string());
    assert_eq!(some.brief(8), "3e11fa47… (4 in all)");
}
