//! Rows that their events did not say whole: the keys by which they are read again before their transaction counts.
//!
//! Keys are held as they lie in row images, one after the other, so that a transaction of a million rows takes some megabytes. Where they take more
//! than [`MOST`] even without those that came twice, the table with the most of them is given up: its rows are what nobody says any more, and it needs
//! a snapshot.

use std::collections::BTreeMap;

use crate::event::TableNo;

use super::wire::{Short, Wire};

/// Most bytes of keys of one transaction.
const MOST: usize = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// The keys of one version of one table.
#[derive(Debug, Default)]
pub struct Keys {
    /// Each key's length and its parts, each behind its length; lengths of four bytes.
    bytes: Vec<u8>,
    /// Why it cannot be said which rows changed.
    lost: Option<&'static str>,
}

impl Keys {
    /// A row with this key is owed. `parts`: as they lie in the image, in key order.
    pub fn owe(&mut self, parts: &[&[u8]]) {
        if self.lost.is_some() {
            return;
        }
        let length: usize = parts.iter().map(|part| 4 + part.len()).sum();
        self.push_length(length);
        for part in parts {
            self.push_length(part.len());
            self.bytes.extend_from_slice(part);
        }
    }

    /// Rows changed and it is not known which.
    pub fn lose(&mut self, why: &'static str) {
        self.lost = Some(self.lost.unwrap_or(why));
        self.bytes = Vec::new();
    }

    // An event is shorter than 4 GiB.
    fn push_length(&mut self, length: usize) {
        self.bytes.extend_from_slice(&(length as u32).to_le_bytes());
    }

    /// The keys, each once.
    fn distinct(&self) -> Vec<&[u8]> {
        let (mut keys, mut wire) = (Vec::new(), Wire::new(&self.bytes));
        while let Ok(key) = next(&mut wire) {
            keys.push(key);
        }
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Forgets keys that came twice.
    fn compact(&mut self) {
        let mut bytes = Vec::new();
        for key in self.distinct() {
            bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            bytes.extend_from_slice(key);
        }
        self.bytes = bytes;
    }
}

fn next<'a>(wire: &mut Wire<'a>) -> Result<&'a [u8], Short> {
    let length = wire.u32()? as usize;
    wire.take(length)
}

/// The parts of a key, in key order.
pub fn parts(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut wire = Wire::new(key);
    std::iter::from_fn(move || next(&mut wire).ok())
}

/// What one transaction owes.
#[derive(Debug, Default)]
pub struct Owed {
    /// By the number of a table's version.
    tables: BTreeMap<TableNo, Keys>,
    /// Bytes at which keys that came twice are looked for.
    look: usize,
}

/// Why a table is given up.
pub const TOO_MANY: &str = "too many rows of one transaction came without all their columns";

impl Owed {
    /// The keys of a table's version.
    pub fn of(&mut self, version: TableNo) -> &mut Keys {
        self.tables.entry(version).or_default()
    }

    /// Nothing is owed and nothing is lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first().is_none()
    }

    /// A table's version of which rows are owed or lost.
    #[must_use]
    pub fn first(&self) -> Option<TableNo> {
        let owes = |keys: &Keys| !keys.bytes.is_empty() || keys.lost.is_some();
        self.tables.iter().find_map(|(version, keys)| owes(keys).then_some(*version))
    }

    /// Keeps to the bound; after each event.
    pub fn bound(&mut self) {
        let bytes =
            |tables: &BTreeMap<TableNo, Keys>| tables.values().map(|keys| keys.bytes.len()).sum::<usize>();
        if bytes(&self.tables) <= self.look.max(MOST / 2) {
            return;
        }
        self.tables.values_mut().for_each(Keys::compact);
        while bytes(&self.tables) > MOST {
            if let Some(largest) = self.tables.values_mut().max_by_key(|keys| keys.bytes.len()) {
                largest.lose(TOO_MANY);
            }
        }
        // Not again before as much has come again.
        self.look = bytes(&self.tables) + MOST / 4;
    }

    /// Takes out a table of which it is not known which rows changed, and why.
    pub fn next_lost(&mut self) -> Option<(TableNo, &'static str)> {
        let (version, why) = self.tables.iter().find_map(|(version, keys)| Some((*version, keys.lost?)))?;
        self.tables.remove(&version);
        Some((version, why))
    }

    /// Takes out the keys of a table, each once.
    pub fn next_table(&mut self) -> Option<(TableNo, Sorted)> {
        let (version, keys) = self.tables.pop_first()?;
        let mut sorted = Sorted { bytes: Vec::with_capacity(keys.bytes.len()), read: 0 };
        for key in keys.distinct() {
            sorted.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
            sorted.bytes.extend_from_slice(key);
        }
        Some((version, sorted))
    }
}

/// Keys in the order of their bytes.
#[derive(Debug)]
pub struct Sorted {
    bytes: Vec<u8>,
    read: usize,
}

impl Sorted {
    /// The next key.
    pub fn next_key(&mut self) -> Option<&[u8]> {
        let mut wire = Wire::new(self.bytes.get(self.read..)?);
        let key = next(&mut wire).ok()?;
        self.read = self.bytes.len() - wire.len();
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(owed: &mut Owed) -> Vec<(u32, Vec<Vec<u8>>)> {
        let mut found = Vec::new();
        while let Some((version, mut sorted)) = owed.next_table() {
            let mut keys = Vec::new();
            while let Some(key) = sorted.next_key() {
                keys.push(parts(key).collect::<Vec<_>>().join(&b'|'));
            }
            found.push((version.0, keys));
        }
        found
    }

    #[test]
    fn a_key_is_owed_once_however_often_its_row_changes() {
        let mut owed = Owed::default();
        assert!(owed.is_empty());
        for key in ["b", "a", "b", ""] {
            owed.of(TableNo(7)).owe(&[key.as_bytes(), b"x"]);
        }
        owed.of(TableNo(3)).owe(&[b"1"]);
        assert!(!owed.is_empty());
        let found = keys(&mut owed);
        assert_eq!(
            found,
            [(3, vec![b"1".to_vec()]), (7, vec![b"|x".to_vec(), b"a|x".to_vec(), b"b|x".to_vec()])]
        );
        assert!(owed.is_empty());
    }

    #[test]
    fn keys_beyond_the_bound_give_up_the_table_with_the_most_of_them() {
        let mut owed = Owed::default();
        owed.of(TableNo(1)).owe(&[b"kept"]);
        // The same key over and over takes no room.
        for _ in 0..10_000 {
            owed.of(TableNo(2)).owe(&[b"the same"]);
            owed.bound();
        }
        assert_eq!(owed.next_lost(), None);
        for number in 0..200_u32 {
            owed.of(TableNo(2)).owe(&[&number.to_le_bytes()]);
            owed.bound();
        }
        assert_eq!(owed.next_lost(), Some((TableNo(2), TOO_MANY)));
        owed.of(TableNo(4)).lose("why");
        owed.of(TableNo(4)).owe(&[b"after"]);
        assert_eq!(owed.next_lost(), Some((TableNo(4), "why")));
        assert_eq!(owed.next_lost(), None);
        assert_eq!(keys(&mut owed), [(1, vec![b"kept".to_vec()])]);
    }
}
