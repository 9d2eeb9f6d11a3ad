//! One flight per document.
//!
//! A document (index and id) that has a change in the bulk being built, in flight, or of unknown outcome is kept here until
//! the engine has answered for it. A newer change of it meanwhile waits, and what waits collapses to the newest: it is held
//! as a place in the log, not as bytes. So no change of a document is ever sent while an older one may still be applied.
//!
//! A change may also wait for room alone ([`Documents::defer`]): rows of a snapshot, while changes of the stream come behind them. One that is changed meanwhile
//! does not wait any longer.
//!
//! While an index is swept ([`Documents::bar`]) all its newer changes wait, whether or not anything of their document is in flight. What they
//! collapse with may be older than the sweep and unsent: it is never sent then, for the sweep deletes what it would have written. So
//! whether all that is older has been answered for is counted by documents, not by tickets, which may go on in newer ones.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::building::{Building, Place};
use super::outstanding::Ticket;
use super::tables::Table;
use crate::event::Version;
use crate::event::document::Verb;
use crate::log::Location;
use crate::sink::IndexNo;

/// A change that waits for its document's turn.
#[derive(Clone, Debug)]
pub struct Waiting {
    pub table: Arc<Table>,
    pub verb: Verb,
    pub version: Version,
    pub ticket: Ticket,
    /// Where its change stands in the log.
    pub location: Location,
    /// It waits for nothing but room: see [`Documents::defer`].
    pub deferred: bool,
}

/// Where a document's newest change is.
#[derive(Debug)]
enum Standing {
    /// Encoded there: in the bulk being built, or in one that was sent.
    Encoded(Place),
    /// Behind one that was sent.
    Behind(Box<Waiting>),
    /// Behind one that was answered for: to be built.
    Ready(Box<Waiting>),
    /// Behind nothing but the sweep of its index.
    Held(Box<Waiting>),
}

#[derive(Debug, Default)]
struct OfIndex {
    by_id: HashMap<Arc<str>, Standing>,
    sweep: Option<Barrier>,
}

/// What a sweep waits for, and what waits for it.
#[derive(Debug)]
struct Barrier {
    /// Changes with a higher version wait.
    bound: Version,
    /// Documents with a change below the bound in the bulk being built, in flight or to be sent.
    older: usize,
}

/// What a new change of a document has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Be built: nothing stands before it.
    Now,
    /// Be built in the place of this one, which is in the bulk being built.
    Replace(Place),
    /// Wait, and take along the ticket of what waited before it.
    Wait(Option<Ticket>),
}

/// Every document that is not at rest.
#[derive(Debug, Default)]
pub struct Documents {
    by_index: Vec<OfIndex>,
    /// In the order of their turns; some may have lost theirs since.
    ready: VecDeque<(IndexNo, Arc<str>)>,
    /// Those whose turn comes when there is room, in the order of the log, which has their changes there; some may have had theirs since.
    deferred: VecDeque<(IndexNo, Arc<str>, Location)>,
    waiting: usize,
}

impl Documents {
    /// A change has come. Where it has to wait it is kept, in the place of what waited already; else [`Documents::build`] must follow.
    pub fn change(
        &mut self,
        index: IndexNo,
        id: &str,
        building: &Building,
        change: impl FnOnce() -> Waiting,
    ) -> Turn {
        let Some(OfIndex { by_id, sweep }) = self.by_index.get_mut(index.0 as usize) else {
            return Turn::Now;
        };
        match (by_id.get_mut(id), sweep) {
            (None, None) => Turn::Now,
            (None, Some(_)) => {
                by_id.insert(id.into(), Standing::Held(Box::new(change())));
                self.waiting += 1;
                Turn::Wait(None)
            }
            (Some(Standing::Encoded(place)), None) if building.holds(*place) => Turn::Replace(*place),
            (Some(standing @ Standing::Encoded(_)), _) => {
                *standing = Standing::Behind(Box::new(change()));
                self.waiting += 1;
                Turn::Wait(None)
            }
            (Some(standing @ Standing::Ready(_)), Some(barrier)) => {
                barrier.older -= 1;
                let held = Standing::Held(Box::new(change()));
                match std::mem::replace(standing, held) {
                    Standing::Ready(older) => Turn::Wait(Some(older.ticket)),
                    _ => Turn::Wait(None),
                }
            }
            (Some(Standing::Behind(waiting) | Standing::Ready(waiting) | Standing::Held(waiting)), _) => {
                let older = std::mem::replace(&mut **waiting, change());
                if older.deferred {
                    self.ready.push_back((index, id.into()));
                }
                Turn::Wait(Some(older.ticket))
            }
        }
    }

    /// Has a change wait for room, whose turn [`Documents::change`] has said to be now: those of other documents go before it.
    pub fn defer(&mut self, index: IndexNo, id: &str, waiting: Waiting) {
        let (id, location) = (Arc::<str>::from(id), waiting.location);
        let waiting = Box::new(Waiting { deferred: true, ..waiting });
        self.of(index).by_id.insert(Arc::clone(&id), Standing::Ready(waiting));
        self.deferred.push_back((index, id, location));
        self.waiting += 1;
    }

    /// Nothing of the document is to be sent, in flight or waiting, and nothing would wait.
    #[must_use]
    pub fn is_at_rest(&self, index: IndexNo, id: &str) -> bool {
        let of = self.by_index.get(index.0 as usize);
        of.is_none_or(|of| of.sweep.is_none() && !of.by_id.contains_key(id))
    }

    /// A document's newest change is now at `place`, in the bulk being built.
    pub fn build(&mut self, index: IndexNo, id: Arc<str>, place: Place) {
        self.of(index).by_id.insert(id, Standing::Encoded(place));
    }

    fn of(&mut self, index: IndexNo) -> &mut OfIndex {
        let no = index.0 as usize;
        if self.by_index.len() <= no {
            self.by_index.resize_with(no + 1, OfIndex::default);
        }
        &mut self.by_index[no]
    }

    /// The engine has answered for the document's change in flight.
    pub fn land(&mut self, index: IndexNo, id: &Arc<str>, building: &Building) {
        let Some(OfIndex { by_id, sweep }) = self.by_index.get_mut(index.0 as usize) else { return };
        match (by_id.remove(id), sweep) {
            (Some(Standing::Behind(waiting)), Some(barrier)) if waiting.version > barrier.bound => {
                by_id.insert(Arc::clone(id), Standing::Held(waiting));
                barrier.older -= 1;
            }
            (Some(Standing::Behind(waiting)), _) => {
                by_id.insert(Arc::clone(id), Standing::Ready(waiting));
                self.ready.push_back((index, Arc::clone(id)));
            }
            (Some(Standing::Encoded(place)), sweep) if !building.holds(place) => {
                if let Some(barrier) = sweep {
                    barrier.older -= 1;
                }
            }
            // Not in flight: what is to be sent stays.
            (Some(other), _) => {
                by_id.insert(Arc::clone(id), other);
            }
            (None, _) => {}
        }
    }

    /// The next document whose turn has come; [`Documents::build`] must follow.
    pub fn next_ready(&mut self) -> Option<(IndexNo, Arc<str>, Waiting)> {
        while let Some((index, id)) = self.ready.pop_front() {
            if let Some(waiting) = self.take(index, &id) {
                return Some((index, id, waiting));
            }
        }
        None
    }

    /// The next document that waits for room; [`Documents::build`] must follow.
    pub fn next_deferred(&mut self) -> Option<(IndexNo, Arc<str>, Waiting)> {
        while let Some((index, id, _)) = self.deferred.pop_front() {
            if let Some(waiting) = self.take(index, &id) {
                return Some((index, id, waiting));
            }
        }
        None
    }

    fn take(&mut self, index: IndexNo, id: &Arc<str>) -> Option<Waiting> {
        let by_id = &mut self.of(index).by_id;
        if !matches!(by_id.get(id), Some(Standing::Ready(_))) {
            return None;
        }
        let Some(Standing::Ready(waiting)) = by_id.remove(id) else { return None };
        self.waiting -= 1;
        Some(*waiting)
    }

    /// How many wait for room.
    #[must_use]
    pub fn deferred(&self) -> usize {
        self.deferred.len()
    }

    /// Where the first of those that wait for room stands in the log.
    #[must_use]
    pub fn first_deferred(&self) -> Option<Location> {
        self.deferred.front().map(|(.., location)| *location)
    }

    /// From here on changes of the index wait until [`Documents::lift`]; those so far are older than `bound`. Not twice at a time.
    pub fn bar(&mut self, index: IndexNo, bound: Version) {
        let of = self.of(index);
        debug_assert!(of.sweep.is_none(), "one sweep of an index at a time");
        of.sweep = Some(Barrier { bound, older: of.by_id.len() });
    }

    /// Between [`Documents::bar`] and [`Documents::lift`].
    #[must_use]
    pub fn is_barred(&self, index: IndexNo) -> bool {
        self.by_index.get(index.0 as usize).is_some_and(|of| of.sweep.is_some())
    }

    /// Whether the engine has answered for all that is older than the bound of the index's sweep.
    #[must_use]
    pub fn is_clear(&self, index: IndexNo) -> bool {
        let of = self.by_index.get(index.0 as usize);
        of.and_then(|of| of.sweep.as_ref()).is_none_or(|barrier| barrier.older == 0)
    }

    /// The index was swept: the turn of what waited for it has come.
    pub fn lift(&mut self, index: IndexNo) {
        let OfIndex { by_id, sweep } = self.of(index);
        *sweep = None;
        let mut ready = Vec::new();
        for (id, standing) in by_id {
            if let Standing::Held(waiting) = standing {
                ready.push((waiting.version, Arc::clone(id)));
                *standing = Standing::Ready(waiting.clone());
            }
        }
        // Oldest first: the cursor stands below them.
        ready.sort_unstable();
        self.ready.extend(ready.into_iter().map(|(_, id)| (index, id)));
    }

    /// Changes that wait for their document's turn.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Seq;
    use crate::event::schema::TableSchema;
    use crate::event::{Column, ColumnType, TableName};
    use crate::mapping::TableMapping;
    use crate::relay::outstanding::Outstanding;

    const NO: IndexNo = IndexNo(0);

    /// What a test plays with: the bulk being built, too.
    struct Play {
        documents: Documents,
        building: Building,
        outstanding: Outstanding,
        table: Arc<Table>,
        seq: u64,
    }

    impl Play {
        fn new() -> Play {
            let ty = ColumnType::Integer { bits: 64, unsigned: true };
            let schema = TableSchema {
                name: TableName::new("shop", "orders"),
                columns: vec![Column { name: "id".into(), ty, nullable: false }],
                key: vec![0],
            };
            Play {
                documents: Documents::default(),
                building: Building::default(),
                outstanding: Outstanding::new(Seq(0)),
                table: Arc::new(Table { mapping: TableMapping::new(&schema).unwrap(), index: Some(NO) }),
                seq: 0,
            }
        }

        fn next(&mut self) -> (Version, Ticket) {
            self.seq += 1;
            (Version(self.seq), self.outstanding.open(Seq(self.seq)))
        }

        /// A change of a document; encoded where its turn has come.
        fn change(&mut self, id: &str) -> Turn {
            let (version, ticket) = self.next();
            let table = Arc::clone(&self.table);
            let waiting = || Waiting {
                table,
                verb: Verb::Index,
                version,
                ticket,
                location: Location::default(),
                deferred: false,
            };
            let turn = self.documents.change(NO, id, &self.building, waiting);
            if !matches!(turn, Turn::Wait(_)) {
                self.encode(id.into(), version, ticket);
            }
            turn
        }

        fn encode(&mut self, id: Arc<str>, version: Version, ticket: Ticket) {
            let start = self.building.body().len();
            self.building.body().push(b'x');
            let place = self.building.push(start, NO, Verb::Index, Arc::clone(&id), version, ticket);
            self.documents.build(NO, id, place);
        }

        /// Sends the bulk being built.
        fn launch(&mut self) {
            self.building.take("x".into());
        }

        fn land(&mut self, id: &str) {
            self.documents.land(NO, &id.into(), &self.building);
        }

        fn bar(&mut self) {
            let (bound, _) = self.next();
            self.documents.bar(NO, bound);
        }

        /// Builds everything whose turn has come; its versions.
        fn build_ready(&mut self) -> Vec<u64> {
            let mut versions = Vec::new();
            while let Some((_, id, waiting)) = self.documents.next_ready() {
                versions.push(waiting.version.0);
                self.encode(id, waiting.version, waiting.ticket);
            }
            versions
        }
    }

    #[test]
    fn a_sweep_waits_for_what_is_older_and_what_is_newer_waits_for_it() {
        let mut play = Play::new();
        play.change("in flight");
        play.change("behind");
        play.launch();
        play.change("being built");
        assert_eq!(play.change("behind"), Turn::Wait(None));
        play.bar();
        // Newer ones: of documents at rest, in the bulk being built, in flight, and with an older one waiting.
        assert_eq!(play.change("at rest"), Turn::Wait(None));
        assert_eq!(play.change("being built"), Turn::Wait(None), "not in the place of the older one");
        assert_eq!(play.change("in flight"), Turn::Wait(None));
        assert!(matches!(play.change("behind"), Turn::Wait(Some(_))), "the older one is never sent");
        assert_eq!(play.documents.waiting(), 4);
        for id in ["in flight", "behind"] {
            assert!(!play.documents.is_clear(NO));
            play.land(id);
        }
        play.launch();
        assert!(!play.documents.is_clear(NO));
        play.land("being built");
        assert!(play.documents.is_clear(NO) && play.build_ready().is_empty());
        assert_eq!(play.change("never seen"), Turn::Wait(None));
        play.documents.lift(NO);
        assert_eq!(play.build_ready(), [6, 7, 8, 9, 10], "oldest first");
        assert_eq!(play.documents.waiting(), 0);
        assert_eq!(play.change("another"), Turn::Now);
    }

    #[test]
    fn what_waits_for_room_comes_in_order_and_waits_no_longer_when_its_document_changes() {
        let mut play = Play::new();
        let ids = ["a", "b", "c"];
        for (at, id) in ids.into_iter().enumerate() {
            let (version, ticket) = play.next();
            let location = Location { offset: at as u64, ..Location::default() };
            let table = Arc::clone(&play.table);
            let waiting = Waiting { table, verb: Verb::Index, version, ticket, location, deferred: false };
            play.documents.defer(NO, id, waiting);
        }
        assert!(play.documents.next_ready().is_none());
        assert_eq!((play.documents.deferred(), play.documents.waiting()), (3, 3));
        assert!(!play.documents.is_at_rest(NO, "b"));
        assert!(matches!(play.change("b"), Turn::Wait(Some(_))), "the row is never sent");
        assert!(matches!(play.change("b"), Turn::Wait(Some(_))));
        assert_eq!(play.build_ready(), [5], "once, and the newest");
        let mut come = Vec::new();
        while let Some((_, id, waiting)) = play.documents.next_deferred() {
            come.push((waiting.version.0, id.to_string()));
            assert_eq!(play.documents.first_deferred().is_some(), id == "a".into());
        }
        assert_eq!(come, [(1, "a".to_owned()), (3, "c".to_owned())]);
        assert_eq!(play.documents.waiting(), 0);
    }

    #[test]
    fn a_sweep_waits_for_rows_that_wait_for_room_and_they_give_way_to_what_is_newer() {
        let mut play = Play::new();
        for id in ["a", "b"] {
            let (version, ticket) = play.next();
            let (table, location) = (Arc::clone(&play.table), Location::default());
            play.documents.defer(
                NO,
                id,
                Waiting { table, verb: Verb::Index, version, ticket, location, deferred: false },
            );
        }
        play.bar();
        assert!(matches!(play.change("a"), Turn::Wait(Some(_))), "behind the sweep");
        assert!(!play.documents.is_clear(NO));
        let (_, id, waiting) = play.documents.next_deferred().unwrap();
        assert_eq!((&*id, waiting.version.0), ("b", 2));
        play.encode(id, waiting.version, waiting.ticket);
        play.launch();
        play.land("b");
        assert!(play.documents.is_clear(NO) && play.documents.next_deferred().is_none());
        play.documents.lift(NO);
        assert_eq!(play.build_ready(), [4]);
    }

    #[test]
    fn an_older_change_whose_turn_has_come_gives_way_to_a_newer_one_behind_the_sweep() {
        let mut play = Play::new();
        play.change("a");
        play.launch();
        play.change("a");
        play.land("a");
        // Its turn has come, and it is not built yet.
        play.bar();
        assert!(!play.documents.is_clear(NO));
        assert!(matches!(play.change("a"), Turn::Wait(Some(_))));
        assert!(play.documents.is_clear(NO));
        assert!(play.build_ready().is_empty(), "it has lost its turn");
        play.documents.lift(NO);
        assert_eq!((play.build_ready(), play.documents.waiting()), (vec![4], 0));
    }
}
