//! What MariaDB compresses: an event's rest or a column, within a limit, and the same whether the memory is fresh or was used before.

use everrelay::source::mysql::compressed::{Inflate, Inflating};
use everrelay::source::mysql::wire::Wire;

use super::format::Input;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (form, limit) = (input.byte(), usize::from(input.byte()) * 256);
    let bytes = input.0;
    let inflate = |inflate: &mut Inflate| -> Result<Vec<u8>, Inflating> {
        let inflated = match form % 4 {
            0 => inflate.column(bytes, limit)?,
            1 => inflate.query(bytes, bytes, limit)?,
            bitmaps => inflate.rows(bytes, Wire::new(bytes), usize::from(bitmaps) - 1, limit)?,
        };
        Ok(inflated.to_vec())
    };
    let mut used = Inflate::default();
    let first = inflate(&mut used);
    assert_eq!(inflate(&mut used), first, "what was inflated before does not matter");
    match first {
        // Of a column that is not compressed nothing is inflated.
        Ok(inflated) => assert!(inflated.len() <= limit + bytes.len()),
        Err(Inflating::TooLong(length)) => assert!(length > limit),
        Err(Inflating::Damaged) => {}
    }
}
