//! XA transactions that are prepared and not decided: what the log knows of them, and what it is yet to be told.
//!
//! One with rows of followed tables is told to the log by the commit behind its rows, and so is its decision. One without is told by the next mark, together
//! with the GTID of its PREPARE: so whoever goes on from the log knows that its XA COMMIT means nothing here, or is sent the PREPARE again. Most are decided
//! before that, and never told.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::event::{Gtid, TableName, Xid};
use crate::log::followed::Followed;
use crate::log::prepared::{Outcome, Prepared, Xa};

/// Most of them at once: what is told of each is in the state of every segment.
pub const MOST: usize = 10_000;

/// Whether a transaction has rows of followed tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Held,
    None,
}

/// What was known of a transaction that is now decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It has rows: the log is to be told with its own commit.
    Held(Xa),
    /// It has none: nothing changes.
    Without,
    Unknown,
}

/// What a PREPARE comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The first of its name.
    New,
    /// One of its name is undecided already: its decision was never written to the binlog.
    Again,
    /// There are [`MOST`] already.
    TooMany,
}

/// All of one source.
#[derive(Debug, Default)]
pub struct Undecided {
    known: HashMap<Xid, Rows>,
    /// Those that the log knows.
    logged: HashSet<Xid>,
    /// For the next mark.
    untold: BTreeMap<Xid, Xa>,
    /// Prepared before some of the tables were followed: what they did to those nobody kept.
    blind: HashSet<Xid>,
    /// Which tables; none: any.
    added: Vec<TableName>,
}

impl Undecided {
    /// A stream begins where the log knows of these, and which tables were followed when.
    pub fn restart(&mut self, prepared: &[Prepared], followed: &Followed) {
        self.blind = followed.blind.iter().cloned().collect();
        self.added.clone_from(&followed.added);
        let rows = |prepared: &Prepared| if prepared.held.is_some() { Rows::Held } else { Rows::None };
        self.known = prepared.iter().map(|prepared| (prepared.xid.clone(), rows(prepared))).collect();
        self.logged = self.known.keys().cloned().collect();
        self.untold.clear();
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A transaction is prepared at `time_micros`; `gtid`: of its PREPARE. Returns what the commit behind its rows is to say: nothing where there are none.
    pub fn prepare(
        &mut self,
        xid: Xid,
        rows: Rows,
        gtid: Option<Gtid>,
        time_micros: u64,
    ) -> (Known, Option<Xa>) {
        let known = match self.known.insert(xid.clone(), rows) {
            Some(_) => Known::Again,
            None if self.known.len() > MOST => return (Known::TooMany, None),
            None => Known::New,
        };
        let xa = Xa::Prepared(Prepared { xid: xid.clone(), gtid, time_micros, held: None });
        match rows {
            Rows::Held => {
                self.untold.remove(&xid);
                self.logged.insert(xid);
                (known, Some(xa))
            }
            Rows::None => {
                self.untold.insert(xid, xa);
                (known, None)
            }
        }
    }

    /// A transaction is decided.
    pub fn decide(&mut self, xid: Xid, outcome: Outcome) -> Decided {
        let Some(rows) = self.known.remove(&xid) else { return Decided::Unknown };
        let xa = Xa::Decided { xid: xid.clone(), outcome };
        match rows {
            Rows::Held => {
                self.logged.remove(&xid);
                Decided::Held(xa)
            }
            Rows::None if self.logged.contains(&xid) => {
                self.untold.insert(xid, xa);
                Decided::Without
            }
            Rows::None => {
                self.untold.remove(&xid);
                Decided::Without
            }
        }
    }

    /// Tables that one changes without rows of theirs having been kept, since it was prepared before they were followed; none in it: any may be. `None`: there are none.
    pub fn take_blind(&mut self, xid: &Xid) -> Option<&[TableName]> {
        self.blind.remove(xid).then_some(self.added.as_slice())
    }

    /// Whether the next mark is to say something.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// What the next mark is to say. Its set has the GTIDs of all PREPAREs.
    pub fn take_untold(&mut self) -> Vec<Xa> {
        let untold = std::mem::take(&mut self.untold);
        for (xid, xa) in &untold {
            match xa {
                Xa::Prepared(_) => drop(self.logged.insert(xid.clone())),
                Xa::Decided { .. } => drop(self.logged.remove(xid)),
            }
        }
        untold.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::gtid::Origin;

    fn xid(name: &str) -> Xid {
        Xid::new(1, name.as_bytes(), b"").unwrap()
    }

    fn gtid() -> Gtid {
        Gtid { origin: Origin::Domain { domain: 1, server: 2 }, number: 3 }
    }

    fn prepare(undecided: &mut Undecided, name: &str, rows: Rows) -> Known {
        undecided.prepare(xid(name), rows, Some(gtid()), 7).0
    }

    #[test]
    fn the_log_is_told_of_those_without_rows_that_outlive_a_mark() {
        let mut undecided = Undecided::default();
        let commit = |name| (xid(name), Outcome::Committed);
        for name in ["short", "long"] {
            assert_eq!(prepare(&mut undecided, name, Rows::None), Known::New);
        }
        let (short, outcome) = commit("short");
        assert_eq!(undecided.decide(short, outcome), Decided::Without);
        let told = undecided.take_untold();
        assert!(
            matches!(told.as_slice(), [Xa::Prepared(prepared)] if prepared.xid == xid("long")),
            "{told:?}"
        );
        assert!(undecided.take_untold().is_empty());
        let (long, outcome) = commit("long");
        assert_eq!(undecided.decide(long.clone(), outcome), Decided::Without);
        // Prepared and decided again before the log hears of it: it still hears that it is over.
        prepare(&mut undecided, "long", Rows::None);
        undecided.decide(long.clone(), outcome);
        assert_eq!(undecided.take_untold(), [Xa::Decided { xid: long, outcome }]);
        assert!(undecided.is_empty());
    }

    #[test]
    fn those_with_rows_are_told_by_their_own_commits() {
        let mut undecided = Undecided::default();
        let (known, xa) = undecided.prepare(xid("a"), Rows::Held, Some(gtid()), 7);
        assert!(known == Known::New && matches!(xa, Some(Xa::Prepared(_))));
        assert_eq!(prepare(&mut undecided, "a", Rows::Held), Known::Again);
        let rolled_back = Xa::Decided { xid: xid("a"), outcome: Outcome::RolledBack };
        assert_eq!(undecided.decide(xid("a"), Outcome::RolledBack), Decided::Held(rolled_back));
        assert_eq!(undecided.decide(xid("a"), Outcome::Committed), Decided::Unknown);
        // One of the same name without rows takes its place, and the log hears what becomes of it.
        prepare(&mut undecided, "a", Rows::Held);
        assert_eq!(prepare(&mut undecided, "a", Rows::None), Known::Again);
        assert_eq!(undecided.decide(xid("a"), Outcome::Committed), Decided::Without);
        assert!(matches!(undecided.take_untold().as_slice(), [Xa::Decided { .. }]));
    }

    #[test]
    fn a_restart_knows_what_the_log_knows_and_nothing_else() {
        let mut undecided = Undecided::default();
        prepare(&mut undecided, "gone", Rows::None);
        let (_, held) = undecided.prepare(xid("held"), Rows::Held, Some(gtid()), 7);
        let Some(Xa::Prepared(without)) = held else { panic!("{held:?}") };
        let added = vec![TableName::new("shop", "new")];
        let followed = Followed { blind: vec![xid("held")], added, ..Followed::default() };
        undecided.restart(&[without], &followed);
        assert_eq!(undecided.take_blind(&xid("gone")), None);
        assert_eq!(undecided.take_blind(&xid("held")).map(<[_]>::len), Some(1));
        assert_eq!(undecided.take_blind(&xid("held")), None, "it is decided once");
        assert_eq!((undecided.len(), undecided.take_untold()), (1, vec![]));
        assert_eq!(undecided.decide(xid("gone"), Outcome::Committed), Decided::Unknown);
    }

    #[test]
    fn there_is_a_limit() {
        let mut undecided = Undecided::default();
        for number in 0..MOST {
            assert_eq!(prepare(&mut undecided, &number.to_string(), Rows::None), Known::New);
        }
        assert_eq!(prepare(&mut undecided, "more", Rows::Held), Known::TooMany);
    }
}
