//! What a change's payload says before and besides its row.

use bincode::error::DecodeError;
use bincode::{Decode, Encode};

use super::decode;
use crate::event::codec::{self, Row};
use crate::event::{Op, Stamp, TableNo};

/// Added to the first byte of a change that has a [`Stamp`].
pub const STAMPED: u8 = 8;

/// The start of a change's payload; the row's values follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct ChangeHead {
    /// First, and of one byte, so that it can be set when the row is known.
    pub op: Op,
    pub table: TableNo,
}

/// A change as read back.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub op: Op,
    pub table: TableNo,
    /// A [`Stamp`]'s bytes, where it has one: see [`Change::stamp`].
    pub stamp: Option<&'a [u8]>,
    pub row: Row<'a>,
}

impl<'a> Change<'a> {
    /// # Errors
    /// `payload` is no change.
    pub fn decode(payload: &'a [u8]) -> Result<Change<'a>, DecodeError> {
        let (first, rest) = payload.split_first().ok_or(DecodeError::UnexpectedEnd { additional: 1 })?;
        let op =
            Op::from_byte(first & !STAMPED).ok_or(DecodeError::Other("a change does what is not known"))?;
        let (table, mut rest) = codec::decode_owned::<TableNo, 16>(rest)?;
        let mut stamp = None;
        if first & STAMPED != 0 {
            let (bytes, behind) = bincode::borrow_decode_from_slice::<&[u8], _>(rest, codec::CONFIG)
                .map(|(bytes, used)| (bytes, &rest[used..]))?;
            (stamp, rest) = (Some(bytes), behind);
        }
        Ok(Change { op, table, stamp, row: Row::new(rest) })
    }

    /// What it says of its transaction, if anything.
    ///
    /// # Errors
    /// That is no [`Stamp`].
    pub fn stamp(&self) -> Result<Option<Stamp>, DecodeError> {
        self.stamp.map(decode).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Kind};
    use super::*;
    use crate::event::codec::RowWriter;
    use crate::event::gtid::Origin;
    use crate::event::{Gtid, Value};

    #[test]
    fn a_change_may_say_of_which_transaction_it_is_and_a_copy_says_the_same() {
        let origin = Origin::Domain { domain: 0, server: 1 };
        let gtid = Gtid { origin, number: 7 };
        let stamp = Stamp { time_micros: 1_763_880_000_000_000, gtid: Some(gtid) };
        let mut batch = Batch::new();
        batch.stamp(Some(&stamp));
        for _ in 0..2 {
            let mut change = batch.change(TableNo(300));
            RowWriter::new(change.values()).i64(7);
            change.finish(Op::Delete);
            batch.stamp(None);
        }
        let mut copies = Batch::new();
        for (_, payload) in batch.payloads() {
            copies.copy(Kind::Change, TableNo(4), &Change::decode(payload).unwrap());
        }
        for (batch, table) in [(&batch, 300), (&copies, 4)] {
            let changes: Vec<_> =
                batch.payloads().map(|(_, payload)| Change::decode(payload).unwrap()).collect();
            assert_eq!(changes[0].stamp().unwrap(), Some(stamp.clone()));
            assert_eq!(changes[1].stamp().unwrap(), None);
            for mut change in changes {
                assert_eq!((change.op, change.table), (Op::Delete, TableNo(table)));
                assert_eq!(change.row.next_value().unwrap(), Value::I64(7));
                assert!(change.row.rest().is_empty());
            }
        }
        assert!(Change::decode(&[3 | STAMPED, 4, 9, 1]).is_err(), "it ends inside the stamp");
        assert!(Change::decode(&[]).is_err() && Change::decode(&[6, 4]).is_err());
        assert!(Change::decode(&[3 | STAMPED, 4, 1, 0]).unwrap().stamp().is_err());
    }
}
