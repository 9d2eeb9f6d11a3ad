//! A schema's payload as a block, and a change's behind it: the way from the log to a document.

use everrelay::event::codec::Row;
use everrelay::event::{Op, Value};
use everrelay::log::record::{Change, SchemaRecord};
use everrelay::mapping::TableMapping;

use super::format::Input;

/// Longest id of a document that engines take, bytes.
const LONGEST_ID: usize = 512;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (schema, change) = (input.block(), input.0);
    let Ok(record) = SchemaRecord::decode(schema) else { return };
    let (Ok(mapping), Ok(change)) = (TableMapping::new(&record.schema), Change::decode(change)) else {
        return;
    };
    let mut id = String::new();
    if mapping.id(change.row, &mut id).is_ok() {
        assert!((1..=LONGEST_ID).contains(&id.len()), "an id of {} bytes", id.len());
    }
    if change.op == Op::Rekey && mapping.old_id(change.row, &mut id).is_ok() {
        assert!((1..=LONGEST_ID).contains(&id.len()), "an id of {} bytes", id.len());
    }
    if change.op == Op::Tombstone && mapping.id_of_key(change.row, &mut id).is_ok() {
        assert!((1..=LONGEST_ID).contains(&id.len()), "an id of {} bytes", id.len());
    }
    let mut document = Vec::new();
    if mapping.document(change.op, change.row, &mut document).is_ok()
        && !is_as_given(change.row, record.schema.columns.len())
    {
        assert!(!document.contains(&b'\n'), "a bulk body has a document a line");
        let parsed: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(&document);
        assert!(parsed.is_ok(), "{} is no JSON", String::from_utf8_lossy(&document));
    }
}

/// A decimal's digits and a JSON column's text are carried as they stand in the row: the source made them.
fn is_as_given(mut row: Row<'_>, columns: usize) -> bool {
    (0..columns).any(|_| matches!(row.next_value(), Ok(Value::Decimal(_) | Value::Json(_))))
}
