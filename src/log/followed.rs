//! Which tables the source follows: the patterns in force, as commits and marks tell of them and the [`Standing`](super::Standing) keeps them.
//!
//! # Constraints
//!
//! - A table that the patterns match is *carried*: all that changed in it since they are in force stands in the log, and what was in it before is there, owed by a snapshot, or a gap. So patterns say
//!   what names alone would not: a table that is made later is carried with its first row. One that other patterns match later was not read meanwhile, whatever the log held of it once.
//! - An XA transaction that was prepared before a table was followed holds no rows of it, and whoever reads the table does not see them before the XA COMMIT: that is a gap.
//! - What is kept is bounded: [`MAX_PATTERN_BYTES`], the undecided XA transactions, and [`MAX_GAPS`](super::standing::MAX_GAPS) names.

use bincode::{Decode, Encode};

use super::prepared::{Prepared, Xa};
use super::standing::MAX_GAPS;
use crate::event::{TableName, Xid};

/// Most bytes of all patterns together, each counted as 8 more: each segment begins with them.
pub const MAX_PATTERN_BYTES: usize = 1 << 20;

/// What patterns take in memory besides their text, bytes.
const PATTERN_BYTES: usize = 8;

/// The source follows other tables from a commit or mark on. Those that it did not follow before have a gap in the same note, for what they hold already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Follows {
    /// As the configuration has them.
    pub patterns: Vec<String>,
    /// What is known of these tables is of no use any more: they are not followed, or were not until now.
    pub forgotten: Vec<TableName>,
    /// Of a mark: nothing stands that was known before it. The source goes on where it says, whatever was in between.
    pub anew: bool,
}

/// Which tables are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Followed {
    /// Empty where they are not known.
    pub patterns: Vec<String>,
    /// XA transactions that were prepared before all of `added` were followed and are not decided, by xid.
    pub blind: Vec<Xid>,
    /// Tables that came to be followed while one of `blind` was undecided, by name; none: it may be any.
    pub added: Vec<TableName>,
}

/// What counts of patterns against [`MAX_PATTERN_BYTES`].
#[must_use]
pub fn pattern_bytes<S: AsRef<str>>(patterns: &[S]) -> usize {
    patterns.iter().map(|pattern| pattern.as_ref().len() + PATTERN_BYTES).sum()
}

impl Followed {
    /// Takes in what is followed from here on. `added`: tables that were not before.
    pub(super) fn take(
        &mut self,
        patterns: Vec<String>,
        added: impl Iterator<Item = TableName>,
        prepared: &[Prepared],
    ) {
        // What cannot be kept is not known.
        let fits = pattern_bytes(&patterns) <= MAX_PATTERN_BYTES;
        self.patterns = if fits { patterns } else { Vec::new() };
        let mut added: Vec<_> = added.collect();
        if added.is_empty() || prepared.is_empty() {
            return;
        }
        let may_be_any = !self.blind.is_empty() && self.added.is_empty();
        self.blind.extend(prepared.iter().map(|prepared| prepared.xid.clone()));
        self.blind.sort();
        self.blind.dedup();
        added.append(&mut self.added);
        added.sort();
        added.dedup();
        self.added = if may_be_any || added.len() > MAX_GAPS { Vec::new() } else { added };
    }

    /// Takes in what became of an XA transaction.
    pub(super) fn take_xa(&mut self, xa: &Xa) {
        // One that is prepared once more may be the same, held elsewhere.
        let Xa::Decided { xid, .. } = xa else { return };
        if let Ok(place) = self.blind.binary_search(xid) {
            self.blind.remove(place);
        }
        if self.blind.is_empty() {
            self.added.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::prepared::Outcome;

    fn xid(name: &str) -> Xid {
        Xid::new(1, name.as_bytes(), b"").unwrap()
    }

    fn prepared(names: &[&str]) -> Vec<Prepared> {
        let prepared = |name: &&str| Prepared { xid: xid(name), gtid: None, time_micros: 0, held: None };
        names.iter().map(prepared).collect()
    }

    fn tables(names: &[&str]) -> Vec<TableName> {
        names.iter().map(|name| TableName::new("shop", *name)).collect()
    }

    fn take(followed: &mut Followed, patterns: &[&str], added: &[&str], xids: &[&str]) {
        let patterns = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        followed.take(patterns, tables(added).into_iter(), &prepared(xids));
    }

    fn decide(followed: &mut Followed, name: &str) {
        followed.take_xa(&Xa::Decided { xid: xid(name), outcome: Outcome::Committed });
    }

    #[test]
    fn xa_transactions_are_blind_for_tables_that_are_followed_after_their_prepare() {
        let mut followed = Followed::default();
        take(&mut followed, &["shop.a"], &[], &["early"]);
        assert!(followed.blind.is_empty(), "nothing was added");
        take(&mut followed, &["shop.?"], &["b"], &[]);
        assert!(followed.blind.is_empty() && followed.added.is_empty(), "nothing was prepared");
        take(&mut followed, &["shop.*"], &["cc"], &["two", "one"]);
        take(&mut followed, &["*.*"], &["b2"], &["two", "three"]);
        assert_eq!(followed.blind, ["one", "three", "two"].map(xid));
        assert_eq!(followed.added, tables(&["b2", "cc"]));
        followed.take_xa(&Xa::Prepared(prepared(&["two"]).remove(0)));
        ["three", "unknown", "two"].iter().for_each(|name| decide(&mut followed, name));
        assert_eq!((followed.blind.len(), followed.added.len()), (1, 2));
        decide(&mut followed, "one");
        assert_eq!(followed, Followed { patterns: vec!["*.*".to_owned()], ..Followed::default() });
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut followed = Followed::default();
        let names: Vec<_> = (0..=MAX_GAPS).map(|number| number.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        take(&mut followed, &["a.b"], &names[1..], &["x"]);
        assert_eq!(followed.added.len(), MAX_GAPS);
        take(&mut followed, &["a.b"], &names[..1], &["x"]);
        assert!(followed.added.is_empty() && followed.blind.len() == 1, "it may be any");
        take(&mut followed, &["a.b"], &names[..1], &["x"]);
        assert!(followed.added.is_empty(), "and stays so");
        let long = format!("a.{}", "b".repeat(MAX_PATTERN_BYTES));
        take(&mut followed, &[&long], &[], &[]);
        assert!(followed.patterns.is_empty());
    }
}
