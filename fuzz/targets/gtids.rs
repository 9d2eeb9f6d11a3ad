//! GTID sets: the first byte says whether the rest is a text, a stored set or a PREVIOUS_GTIDS event; a second set, behind a zero byte, is reckoned with.

use everrelay::event::{GtidSet, codec};
use everrelay::source::mysql::previous::previous_gtids;

/// What decoding may allocate, bytes.
const LIMIT: usize = 1 << 20;

pub fn run(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    if how & 2 != 0 {
        let Ok(set) = previous_gtids(bytes) else { return };
        reckon(&set, &GtidSet::default());
    } else if how & 1 == 0 {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let (one, other) = text.split_once('\0').unwrap_or((text, ""));
        let (Ok(one), Ok(other)) = (one.parse::<GtidSet>(), other.parse::<GtidSet>()) else { return };
        reckon(&one, &other);
    } else {
        let Ok((one, rest)) = codec::decode_owned::<GtidSet, LIMIT>(bytes) else { return };
        let other = codec::decode_owned::<GtidSet, LIMIT>(rest).map(|(set, _)| set).unwrap_or_default();
        reckon(&one, &other);
    }
}

fn reckon(one: &GtidSet, other: &GtidSet) {
    for set in [one, other] {
        assert_eq!(set.to_string().parse::<GtidSet>().as_ref(), Ok(set), "printed and read");
        let mut stored = Vec::new();
        codec::encode(set, &mut stored);
        let (again, rest) =
            codec::decode_owned::<GtidSet, { 64 << 20 }>(&stored).expect("what was stored is read");
        assert!(again == *set && rest.is_empty(), "stored and read");
        assert_eq!(set.is_empty(), set.count() == 0);
    }
    let mut both = one.clone();
    both.union(other);
    assert!(one.is_subset(&both) && other.is_subset(&both));
    let only = both.subtract(other);
    assert!(only.is_subset(one) && only.subtract(one).is_empty());
    let mut again = only.clone();
    again.union(other);
    assert_eq!(again, both, "taken away and added again");
    assert_eq!(one.is_subset(other), both == *other);
}
