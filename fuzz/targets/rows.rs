//! A table map as a block and a rows event behind it: what the source writes is a row of its schema.

use everrelay::event::{Op, TableNo};
use everrelay::log::record::{Batch, Change as Logged, Kind};
use everrelay::source::mysql::decode::{Change, Decoder, RowsHeader};
use everrelay::source::mysql::schema::{TableMap, build};
use everrelay::source::mysql::server::Family;

use super::format::Input;

const LARGEST_ROW: usize = 1 << 16;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (map, how) = (input.block(), input.byte());
    let change = [Change::Write, Change::Update, Change::Delete][usize::from(how) % 3];
    let Ok(map) = TableMap::parse(map) else { return };
    let Ok((schema, plan)) = build(&map.name(), map.shape, Family::Mariadb) else { return };
    let Ok(rows) = RowsHeader::parse(input.0, 2) else { return };
    let mut batch = Batch::new();
    let mut decoder = Decoder::new(LARGEST_ROW);
    // Rows before one that is no row stay in the batch: they are whole.
    let decoded = decoder.rows(&plan, TableNo(7), change, rows.rest, &mut batch);
    assert!(decoded.is_err() || decoded == Ok(batch.changes()));
    for (kind, payload) in batch.payloads() {
        assert_eq!(kind, Kind::Change);
        let mut logged = Logged::decode(payload).expect("it is a change");
        assert_eq!(logged.table, TableNo(7));
        let key = if logged.op == Op::Rekey { schema.key.len() } else { 0 };
        for _ in 0..schema.columns.len() + key {
            logged.row.next_value().expect("a value for every column");
        }
        assert!(logged.row.rest().is_empty(), "more values than columns");
    }
}
