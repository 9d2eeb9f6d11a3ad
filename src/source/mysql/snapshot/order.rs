//! A table's rows in the order of its key: where a chunk begins and ends, as the log keeps it and as SQL says it.
//!
//! # Format
//!
//! A place is the CRC-32 of the key's columns' names and types (4 bytes, little-endian), then the key's values in key order, each as
//! [`codec`](crate::event::codec) writes it. A place in another key than the table has now is none.

use crate::event::codec::{Row, RowWriter};
use crate::event::{TableSchema, Value};

use super::super::decode::{ColumnKind, RowPlan};
use super::super::{literal, select};

/// The columns of a key, in key order.
#[derive(Clone, Debug)]
pub struct KeyOrder {
    columns: Vec<(String, ColumnKind)>,
    stamp: [u8; 4],
}

impl KeyOrder {
    #[must_use]
    pub fn of(schema: &TableSchema, plan: &RowPlan) -> KeyOrder {
        let (mut columns, mut stamp) = (Vec::new(), crc32fast::Hasher::new());
        for index in schema.key.iter().map(|index| usize::from(*index)) {
            let Some((column, plan)) = schema.columns.get(index).zip(plan.columns.get(index)) else {
                continue;
            };
            stamp.update(format!("{:?} {:?}\n", column.name, column.ty).as_bytes());
            columns.push((column.name.clone(), plan.kind.clone()));
        }
        KeyOrder { columns, stamp: stamp.finalize().to_le_bytes() }
    }

    /// The place of the row with these key values.
    #[must_use]
    pub fn place<'v>(&self, values: impl Iterator<Item = &'v [u8]>) -> Vec<u8> {
        let mut place = self.stamp.to_vec();
        values.for_each(|value| place.extend_from_slice(value));
        place
    }

    /// Whether it is a place in this key.
    #[must_use]
    pub fn knows(&self, place: &[u8]) -> bool {
        self.literals(place).is_some()
    }

    /// The value at a place, if the key is one integer.
    #[must_use]
    pub fn integer(&self, place: &[u8]) -> Option<i128> {
        let [(_, ColumnKind::Signed | ColumnKind::Unsigned)] = &self.columns[..] else { return None };
        match Row::new(place.strip_prefix(&self.stamp)?).next_value().ok()? {
            Value::I64(value) => Some(value.into()),
            Value::U64(value) => Some(value.into()),
            _ => None,
        }
    }

    /// The place of a value, if the key is one integer that can be it.
    #[must_use]
    pub fn at(&self, value: i128) -> Option<Vec<u8>> {
        let [(_, kind)] = &self.columns[..] else { return None };
        let mut place = self.stamp.to_vec();
        let mut writer = RowWriter::new(&mut place);
        match kind {
            ColumnKind::Signed => writer.i64(value.try_into().ok()?),
            ColumnKind::Unsigned => writer.u64(value.try_into().ok()?),
            _ => return None,
        }
        Some(place)
    }

    /// The columns as ORDER BY and a list of columns name them.
    #[must_use]
    pub fn list(&self) -> String {
        let mut list = String::new();
        for (name, _) in &self.columns {
            if !list.is_empty() {
                list.push_str(", ");
            }
            select::push_name(&mut list, name);
        }
        list
    }

    /// ` WHERE …` for the rows behind `after`, up to and with `upto`, that fulfil `filter`. `None`: a place cannot be spelt.
    #[must_use]
    pub fn condition(
        &self,
        after: Option<&[u8]>,
        upto: Option<&[u8]>,
        filter: Option<&str>,
    ) -> Option<String> {
        let mut conditions = Vec::new();
        if let Some(after) = after {
            conditions.push(self.beyond(after, " > ", " > ")?);
        }
        if let Some(upto) = upto {
            conditions.push(self.beyond(upto, " < ", " <= ")?);
        }
        // On lines of its own: a comment at its end ends there.
        conditions.extend(filter.map(|filter| format!("(\n{filter}\n)")));
        if conditions.is_empty() {
            Some(String::new())
        } else {
            Some(format!(" WHERE {}", conditions.join(" AND ")))
        }
    }

    /// Rows on one side of a place: written out, since a comparison of several columns at once makes the server read all of the index.
    fn beyond(&self, place: &[u8], side: &str, last_side: &str) -> Option<String> {
        let literals = self.literals(place)?;
        let last = literals.len().checked_sub(1)?;
        let mut sql = String::from("(");
        for number in 0..=last {
            if number > 0 {
                sql.push_str(" OR ");
            }
            sql.push('(');
            for (n, ((name, _), literal)) in self.columns.iter().zip(&literals).take(number + 1).enumerate() {
                if n > 0 {
                    sql.push_str(" AND ");
                }
                select::push_name(&mut sql, name);
                sql.push_str(match n {
                    _ if n < number => " = ",
                    _ if n == last => last_side,
                    _ => side,
                });
                sql.push_str(literal);
            }
            sql.push(')');
        }
        sql.push(')');
        Some(sql)
    }

    fn literals(&self, place: &[u8]) -> Option<Vec<String>> {
        let values = place.strip_prefix(&self.stamp)?;
        let mut row = Row::new(values);
        let mut literals = Vec::with_capacity(self.columns.len());
        for (_, kind) in &self.columns {
            let mut literal = String::new();
            literal::push_value(&mut literal, kind, &row.next_value().ok()?)?;
            literals.push(literal);
        }
        row.rest().is_empty().then_some(literals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(columns: &[(&str, ColumnKind)]) -> KeyOrder {
        let columns = columns.iter().map(|(name, kind)| ((*name).to_owned(), kind.clone())).collect();
        KeyOrder { columns, stamp: [7; 4] }
    }

    fn place(order: &KeyOrder, write: impl FnOnce(&mut RowWriter<'_>)) -> Vec<u8> {
        let mut values = Vec::new();
        write(&mut RowWriter::new(&mut values));
        order.place(std::iter::once(&values[..]))
    }

    #[test]
    fn a_chunk_is_what_lies_behind_one_place_and_up_to_another() {
        let order = order(&[("a", ColumnKind::Signed), ("b`", ColumnKind::Unsigned)]);
        let after = place(&order, |w| {
            w.i64(-1);
            w.u64(u64::MAX);
        });
        let upto = place(&order, |w| {
            w.i64(5);
            w.u64(6);
        });
        assert_eq!(
            order.condition(Some(&after), Some(&upto), Some("x = 1 -- why")).unwrap(),
            " WHERE ((`a` > -1) OR (`a` = -1 AND `b``` > 18446744073709551615)) AND ((`a` < 5) OR (`a` = 5 AND `b``` <= 6)) AND (\nx = 1 -- why\n)"
        );
        assert_eq!(order.condition(None, None, None).unwrap(), "");
        assert_eq!(order.list(), "`a`, `b```");
    }

    #[test]
    fn a_key_that_is_one_integer_has_a_place_for_each_value() {
        for (kind, lowest, highest) in [
            (ColumnKind::Signed, i64::MIN.into(), i64::MAX.into()),
            (ColumnKind::Unsigned, 0, i128::from(u64::MAX)),
        ] {
            let order = order(&[("a", kind)]);
            for value in [lowest, 7, highest] {
                let place = order.at(value).unwrap();
                assert!(order.knows(&place));
                assert_eq!(order.integer(&place), Some(value));
            }
            assert_eq!([order.at(lowest - 1), order.at(highest + 1)], [None, None]);
        }
        let other = order(&[("a", ColumnKind::Signed), ("b", ColumnKind::Signed)]);
        assert_eq!(other.at(1), None);
        let place = place(&other, |w| {
            w.i64(1);
            w.i64(2);
        });
        assert_eq!(other.integer(&place), None);
        assert_eq!(order(&[("a", ColumnKind::Year)]).at(1), None);
    }

    #[test]
    fn a_place_in_another_key_is_none() {
        let order = order(&[("a", ColumnKind::Signed)]);
        let here = place(&order, |w| w.i64(1));
        assert!(order.knows(&here));
        let mut other = here.clone();
        other[0] ^= 1;
        assert!(
            !order.knows(&other)
                && !order.knows(&here[..here.len() - 1])
                && !order.knows(&[&here[..], b"x"].concat())
        );
        assert_eq!(order.condition(Some(&other), None, None), None);
    }
}
