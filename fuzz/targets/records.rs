//! A frame's payload: the first byte says of which kind.

use std::fmt::Debug;

use bincode::Encode;
use bincode::error::DecodeError;
use everrelay::event::Value;
use everrelay::event::codec::{self, Row};
use everrelay::log::record::{Change, ChangeHead, Commit, Mark, STAMPED, SchemaRecord, State, SweepRecord};

pub fn run(input: &[u8]) {
    let Some((kind, payload)) = input.split_first() else { return };
    match kind % 6 {
        0 => whole(payload, State::decode),
        1 => whole(payload, SchemaRecord::decode),
        2 => change(payload),
        3 => whole(payload, Commit::decode),
        4 => whole(payload, Mark::decode),
        5 => whole(payload, SweepRecord::decode),
        _ => change(payload),
    }
}

fn whole<T: Encode + Debug + PartialEq>(payload: &[u8], decode: fn(&[u8]) -> Result<T, DecodeError>) {
    let Ok(value) = decode(payload) else { return };
    let mut encoded = Vec::new();
    codec::encode(&value, &mut encoded);
    assert!(encoded.len() <= payload.len(), "the encoding is the shortest");
    assert_eq!(decode(&encoded).ok().as_ref(), Some(&value));
    for length in 0..encoded.len() {
        assert!(decode(&encoded[..length]).is_err(), "a payload that is cut is none");
    }
}

fn change(payload: &[u8]) {
    let Ok(mut change) = Change::decode(payload) else { return };
    let (mut values, mut encoded) = (Vec::new(), Vec::new());
    codec::encode(&ChangeHead { op: change.op, table: change.table }, &mut encoded);
    let stamp = change.stamp();
    if let Some(stamp) = change.stamp {
        encoded[0] |= STAMPED;
        codec::encode(&stamp, &mut encoded);
    }
    while !change.row.rest().is_empty() {
        let Ok(value) = change.row.next_value() else { break };
        codec::encode(&value, &mut encoded);
        values.push(value);
    }
    let again = Change::decode(&encoded).expect("what was encoded decodes");
    assert_eq!((again.op, again.table), (change.op, change.table));
    assert_eq!(again.stamp().ok(), stamp.ok());
    let mut row = Row::new(again.row.rest());
    for value in values {
        let again = row.next_value().expect("what was encoded decodes");
        assert!(same(&value, &again), "{value:?} became {again:?}");
    }
    assert!(row.rest().is_empty());
}

/// Equal, a number that is none included.
fn same(one: &Value<'_>, other: &Value<'_>) -> bool {
    match (one, other) {
        (Value::F32(one), Value::F32(other)) => one.to_bits() == other.to_bits(),
        (Value::F64(one), Value::F64(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}
