//! What is parked, as the indexer holds it: all but the rows, which stay in the store.
//!
//! # Constraints
//!
//! - What becomes of a document's parked change is a step that is taken together with the cursor ([`Parking::take_steps`]), so that the store never holds one
//!   without the other.
//! - A parked change gives way to what is as new or newer alone: after a crash older changes of its document are sent once more, and settle nothing of it.
//! - It is bounded by [`ParkLimits`]. What would go over a bound is not parked, and the indexer stops before it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::time::Instant;

use super::parked_orders::Which;
use crate::event::{TableName, Version};
use crate::metrics::names;
use crate::settled::{Parked, ParkedRow, ParkedStep};

/// Steps with this many bytes of rows are committed without waiting for the tick.
const HEAVY_BYTES: u64 = 1 << 20;

/// Over which [`ParkLimits::changes_per_minute`] counts.
const MINUTE: Duration = Duration::from_secs(60);

/// How much may be parked before the indexer stops instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParkLimits {
    /// Documents with a parked change; 0: none is ever parked.
    pub changes: u64,
    /// What their rows take.
    pub bytes: u64,
    /// Documents that are parked anew within a minute: when everything is refused it is not the rows.
    pub changes_per_minute: u64,
}

impl Default for ParkLimits {
    fn default() -> Self {
        ParkLimits { changes: 10_000, bytes: 256 << 20, changes_per_minute: 1000 }
    }
}

/// The bound that one change more would go over, for people: `10000 changes are parked, as many as [parked] changes allows`.
#[derive(Debug, PartialEq, Eq)]
pub struct Full(pub String);

/// The parked changes of one table, by their documents' ids.
type OfTable = HashMap<Arc<str>, Parked>;

/// Everything parked.
#[derive(Debug)]
pub struct Parking {
    /// The sink's name.
    name: String,
    limits: ParkLimits,
    /// No table without one.
    tables: HashMap<TableName, OfTable>,
    changes: u64,
    bytes: u64,
    /// How many of a table were refused for a reason, as the metric says it.
    by_reason: HashMap<(TableName, String), u64>,
    steps: Vec<ParkedStep>,
    steps_bytes: u64,
    /// When the minute that is counted began, and how many were parked in it.
    minute: (Instant, u64),
}

impl Parking {
    /// `name`: the sink's; `parked`: what the store holds.
    #[must_use]
    pub fn new(name: &str, limits: ParkLimits, parked: Vec<Parked>) -> Parking {
        let mut parking = Parking {
            name: name.to_owned(),
            limits,
            tables: HashMap::new(),
            changes: 0,
            bytes: 0,
            by_reason: HashMap::new(),
            steps: Vec::new(),
            steps_bytes: 0,
            minute: (Instant::now(), 0),
        };
        for parked in parked {
            parking.insert(parked);
        }
        parking
    }

    /// Nothing is parked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// The parked change of a document.
    #[must_use]
    pub fn get(&self, table: &TableName, id: &str) -> Option<&Parked> {
        self.tables.get(table)?.get(id)
    }

    /// Whether what is parked of a document is newer than `version`: a change of that version is none to park.
    #[must_use]
    pub fn has_newer(&self, table: &TableName, id: &str, version: Version) -> bool {
        self.get(table, id).is_some_and(|parked| parked.version > version.0)
    }

    /// Parks a change in the place of what was parked of its document, which is not newer.
    ///
    /// # Errors
    /// A bound is reached; nothing was done.
    pub fn park(&mut self, mut parked: Parked, row: ParkedRow) -> Result<(), Full> {
        let before = self.get(&parked.table, &parked.id);
        // After a crash the same change may be refused once more.
        match before.filter(|before| before.version == parked.version) {
            Some(same) => {
                (parked.since_micros, parked.attempts) = (same.since_micros, same.attempts.saturating_add(1));
            }
            None => self.make_room(before.map_or(0, |before| before.bytes), before.is_none(), &parked)?,
        }
        self.insert(parked.clone());
        self.step(ParkedStep::Parked(Box::new(parked), row));
        Ok(())
    }

    /// Checks the bounds, and counts one document more in this minute.
    fn make_room(&mut self, gone_bytes: u64, is_new: bool, parked: &Parked) -> Result<(), Full> {
        let ParkLimits { changes, bytes, changes_per_minute } = self.limits;
        if is_new && self.changes >= changes {
            return Err(Full(format!(
                "{} changes are parked, and [parked] changes allows {changes}",
                self.changes
            )));
        }
        let would_be = (self.bytes - gone_bytes).saturating_add(parked.bytes);
        if would_be > bytes {
            let problem =
                format!("with it {would_be} bytes of rows would be, and [parked] bytes allows {bytes}");
            return Err(Full(problem));
        }
        if !is_new {
            return Ok(());
        }
        let now = Instant::now();
        if now - self.minute.0 >= MINUTE {
            self.minute = (now, 0);
        }
        if self.minute.1 >= changes_per_minute {
            return Err(Full(format!(
                "{} were parked within a minute, and [parked] changes_per_minute allows {changes_per_minute}",
                self.minute.1
            )));
        }
        self.minute.1 += 1;
        Ok(())
    }

    /// The engine refused a parked change once more.
    pub fn again(&mut self, table: &TableName, id: &str, kind: &str, reason: String, now_micros: u64) {
        let Some(before) = self.get(table, id) else { return };
        let attempts = before.attempts.saturating_add(1);
        let parked =
            Parked { kind: kind.to_owned(), reason, tried_micros: now_micros, attempts, ..before.clone() };
        self.insert(parked.clone());
        self.step(ParkedStep::Again(Box::new(parked)));
    }

    /// The engine has `version` of a document, or a newer one: what is parked of it and not newer is settled.
    pub fn settle(&mut self, table: &TableName, id: &str, version: Version) {
        if self.get(table, id).is_some_and(|parked| parked.version <= version.0) {
            self.remove(table, id);
        }
    }

    /// Every document of the table with a version below `bound` goes: what is parked below it is settled.
    pub fn sweep(&mut self, table: &TableName, bound: Version) {
        let Some(of_table) = self.tables.get(table) else { return };
        let below = of_table.iter().filter(|(_, parked)| parked.version < bound.0);
        let below: Vec<Arc<str>> = below.map(|(id, _)| Arc::clone(id)).collect();
        below.iter().for_each(|id| self.remove(table, id));
    }

    /// Documents of the table that a sweep after a snapshot leaves as they are: their rows are there, and parked.
    #[must_use]
    pub fn spared(&self, table: &TableName, bound: Version) -> HashSet<Arc<str>> {
        let of_table = self.tables.get(table).into_iter().flatten();
        of_table.filter(|(_, parked)| parked.version >= bound.0).map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Forgets a document's parked change.
    pub fn remove(&mut self, table: &TableName, id: &str) {
        let Some(parked) = self.take(table, id) else { return };
        self.step(ParkedStep::Gone { table: table.clone(), id: parked.id });
    }

    /// Those that an order is about, oldest first.
    #[must_use]
    pub fn select(&self, which: &Which) -> Vec<(TableName, Arc<str>)> {
        let of_table = |(table, of_table): (&TableName, &OfTable)| -> Vec<(u64, TableName, Arc<str>)> {
            let chosen = of_table.iter().filter(|(_, parked)| which.chooses(parked));
            chosen.map(|(id, parked)| (parked.version, table.clone(), Arc::clone(id))).collect()
        };
        let mut chosen: Vec<_> = self.tables.iter().flat_map(of_table).collect();
        chosen.sort_unstable();
        chosen.into_iter().map(|(_, table, id)| (table, id)).collect()
    }

    /// Steps wait to be committed, and take enough memory not to wait for long.
    #[must_use]
    pub fn is_heavy(&self) -> bool {
        self.steps_bytes >= HEAVY_BYTES
    }

    /// What the store is to do with the next cursor.
    #[must_use]
    pub fn take_steps(&mut self) -> Vec<ParkedStep> {
        self.steps_bytes = 0;
        std::mem::take(&mut self.steps)
    }

    fn step(&mut self, step: ParkedStep) {
        self.steps_bytes += step.bytes();
        self.steps.push(step);
    }

    fn insert(&mut self, parked: Parked) {
        self.take(&parked.table, &parked.id);
        self.changes += 1;
        self.bytes += parked.bytes;
        self.count(&parked, 1);
        self.tables.entry(parked.table.clone()).or_default().insert(parked.id.as_str().into(), parked);
    }

    fn take(&mut self, table: &TableName, id: &str) -> Option<Parked> {
        let of_table = self.tables.get_mut(table)?;
        let parked = of_table.remove(id)?;
        if of_table.is_empty() {
            self.tables.remove(table);
        }
        self.changes -= 1;
        self.bytes -= parked.bytes;
        self.count(&parked, -1);
        Some(parked)
    }

    fn count(&mut self, parked: &Parked, more: i64) {
        let of_reason = self.by_reason.entry((parked.table.clone(), parked.kind.clone())).or_default();
        *of_reason = of_reason.saturating_add_signed(more);
        let sink = ("sink", self.name.clone());
        let labels = [("table", parked.table.to_string()), ("reason", parked.kind.clone()), sink.clone()];
        gauge!(names::PARKED, &labels).set(*of_reason as f64);
        gauge!(names::PARKED_BYTES, &[sink]).set(self.bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Op, Seq, TableSchema};

    fn table() -> TableName {
        TableName::new("shop", "orders")
    }

    fn parked(id: &str, version: u64) -> Parked {
        Parked {
            table: table(),
            id: id.to_owned(),
            seq: Seq(version),
            version,
            op: Op::Insert,
            kind: "k".into(),
            reason: "r".into(),
            since_micros: version,
            tried_micros: version,
            attempts: 1,
            bytes: 10,
        }
    }

    fn row() -> ParkedRow {
        let schema = TableSchema { name: table(), columns: Vec::new(), key: Vec::new() };
        ParkedRow { schema, row: Vec::new() }
    }

    fn limits(changes: u64, bytes: u64, changes_per_minute: u64) -> ParkLimits {
        ParkLimits { changes, bytes, changes_per_minute }
    }

    fn ids(parking: &Parking) -> Vec<String> {
        parking.select(&Which::All).into_iter().map(|(_, id)| id.to_string()).collect()
    }

    #[test]
    fn a_parked_change_gives_way_to_what_is_not_older() {
        let mut parking = Parking::new("main", ParkLimits::default(), vec![parked("a", 5)]);
        parking.settle(&table(), "a", Version(4));
        assert_eq!(ids(&parking), ["a"], "an older change, sent once more after a crash");
        assert!(
            parking.has_newer(&table(), "a", Version(4)) && !parking.has_newer(&table(), "a", Version(5))
        );
        parking.park(parked("a", 5), row()).unwrap();
        assert_eq!(parking.get(&table(), "a").unwrap().attempts, 2, "the same again");
        parking.park(parked("a", 7), row()).unwrap();
        let newer = parking.get(&table(), "a").unwrap();
        assert_eq!((newer.version, newer.attempts, newer.since_micros), (7, 1, 7));
        parking.settle(&table(), "a", Version(9));
        assert!(parking.is_empty());
        let steps = parking.take_steps();
        assert_eq!(steps.last(), Some(&ParkedStep::Gone { table: table(), id: "a".into() }));
        assert!(parking.take_steps().is_empty() && !parking.is_heavy());
    }

    #[test]
    fn a_sweep_settles_what_is_below_its_bound_and_spares_the_documents_of_what_is_not() {
        let all = vec![parked("old", 5), parked("row", 8), parked("later", 9)];
        let mut parking = Parking::new("main", ParkLimits::default(), all);
        let spared = parking.spared(&table(), Version(8));
        parking.sweep(&table(), Version(8));
        assert_eq!(ids(&parking), ["row", "later"]);
        assert_eq!(spared, HashSet::from(["row".into(), "later".into()]));
        assert!(parking.spared(&TableName::new("shop", "other"), Version(0)).is_empty());
    }

    #[test]
    fn what_would_go_over_a_bound_is_not_parked() {
        let mut parking = Parking::new("main", limits(2, 25, 100), Vec::new());
        parking.park(parked("a", 1), row()).unwrap();
        parking.park(parked("b", 2), row()).unwrap();
        let full = parking.park(parked("c", 3), row()).unwrap_err();
        assert!(full.0.contains("[parked] changes allows 2"), "{full:?}");
        parking.park(parked("b", 4), row()).unwrap();
        let full = parking.park(Parked { bytes: 16, ..parked("b", 5) }, row()).unwrap_err();
        assert!(full.0.contains("26 bytes"), "{full:?}");
        parking.park(Parked { bytes: 15, ..parked("b", 5) }, row()).unwrap();
        assert_eq!(ids(&parking), ["a", "b"]);
        let mut none = Parking::new("main", limits(0, 25, 100), Vec::new());
        assert!(none.park(parked("a", 1), row()).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_within_a_minute_are_not_the_rows_fault() {
        let mut parking = Parking::new("main", limits(100, 1000, 2), Vec::new());
        parking.park(parked("a", 1), row()).unwrap();
        parking.park(parked("b", 2), row()).unwrap();
        assert!(parking.park(parked("c", 3), row()).unwrap_err().0.contains("minute"));
        parking.park(parked("b", 2), row()).expect("it was parked before the crash already");
        parking.park(parked("b", 3), row()).expect("one row that changes all the time");
        tokio::time::advance(MINUTE).await;
        parking.park(parked("c", 3), row()).unwrap();
    }

    #[test]
    fn what_is_chosen_comes_oldest_first() {
        let other = Parked { table: TableName::new("shop", "other"), ..parked("z", 1) };
        let parking =
            Parking::new("main", ParkLimits::default(), vec![parked("b", 3), parked("a", 4), other]);
        assert_eq!(ids(&parking), ["z", "b", "a"]);
        assert_eq!(parking.select(&Which::Tables(vec![table()])).len(), 2);
        assert_eq!(parking.select(&Which::Records(vec![Seq(4), Seq(77)])), [(table(), "a".into())]);
    }
}
