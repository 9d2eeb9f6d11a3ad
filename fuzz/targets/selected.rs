//! A table map as a block, definitions of columns as blocks behind their number, and a row of the binary protocol: a row of the table's schema, or an
//! error.

use everrelay::event::codec::Row;
use everrelay::source::mysql::link::prepared::Definition;
use everrelay::source::mysql::schema::{TableMap, build};
use everrelay::source::mysql::select::RowReader;
use everrelay::source::mysql::server::Family;

use super::format::Input;

const LARGEST_ROW: usize = 1 << 16;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let Ok(map) = TableMap::parse(input.block()) else { return };
    let Ok((schema, plan)) = build(&map.name(), map.shape, Family::Mysql) else { return };
    let mut definitions = Vec::new();
    for _ in 0..input.byte() {
        let Ok(definition) = Definition::parse(input.block()) else { return };
        definitions.push(definition);
    }
    let Ok(mut reader) = RowReader::new(Family::Mysql, &plan, &definitions, LARGEST_ROW) else { return };
    let mut bytes = b"kept".to_vec();
    if reader.read(input.0, &mut bytes).is_ok() {
        let row = bytes.strip_prefix(b"kept").expect("what stood there stays");
        assert!(row.len() <= LARGEST_ROW);
        let mut values = Row::new(row);
        for _ in &schema.columns {
            values.next_value().expect("a value for every column");
        }
        assert!(values.rest().is_empty(), "more values than columns");
        assert_eq!(reader.key(row).count(), schema.key.len());
    }
}
