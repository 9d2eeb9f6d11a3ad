//! A table map as a block and a rows event behind it: what the source writes is a row of its schema, or a key that is owed.

use everrelay::event::{Op, TableNo};
use everrelay::log::record::{Batch, Change as Logged, Kind};
use everrelay::source::mysql::decode::{Change, Decoder, RowsHeader};
use everrelay::source::mysql::literal;
use everrelay::source::mysql::owed::{Owed, parts};
use everrelay::source::mysql::schema::{TableMap, build};
use everrelay::source::mysql::server::Family;

use super::format::Input;

const LARGEST_ROW: usize = 1 << 16;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (map, how) = (input.block(), input.byte());
    let change = [Change::Write, Change::Update, Change::Delete, Change::PartialUpdate];
    let change = change[usize::from(how) % change.len()];
    let Ok(map) = TableMap::parse(map) else { return };
    let Ok((schema, plan)) = build(&map.name(), map.shape, Family::Mariadb) else { return };
    let Ok(rows) = RowsHeader::parse(input.0, 2) else { return };
    let mut batch = Batch::new();
    let mut decoder = Decoder::new(LARGEST_ROW);
    // Rows before one that is no row stay in the batch: they are whole.
    let mut owed = Owed::default();
    let decoded = decoder.rows(&plan, TableNo(7), change, rows.rest, &mut batch, &mut owed);
    if owed.is_empty() {
        assert!(decoded.is_err() || decoded == Ok(batch.changes()));
    }
    owed.bound();
    while let Some((table, _)) = owed.next_lost() {
        assert_eq!(table, TableNo(7));
    }
    while let Some((_, mut keys)) = owed.next_table() {
        while let Some(key) = keys.next_key() {
            let mut sql = String::new();
            for (index, raw) in plan.key.iter().zip(parts(key)) {
                let kind = &plan.columns[usize::from(*index)].kind;
                if literal::push(&mut sql, kind, raw).is_none() {
                    break;
                }
            }
            assert!(sql.is_ascii() && sql.bytes().filter(|byte| *byte == b'\'').count() % 2 == 0, "{sql}");
        }
    }
    for (kind, payload) in batch.payloads() {
        assert_eq!(kind, Kind::Change);
        let mut logged = Logged::decode(payload).expect("it is a change");
        assert_eq!(logged.table, TableNo(7));
        let values = match logged.op {
            Op::Rekey => schema.columns.len() + schema.key.len(),
            Op::Tombstone => schema.key.len(),
            _ => schema.columns.len(),
        };
        for _ in 0..values {
            logged.row.next_value().expect("a value for every column");
        }
        assert!(logged.row.rest().is_empty(), "more values than columns");
    }
}
