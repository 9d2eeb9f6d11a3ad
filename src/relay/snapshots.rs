//! Snapshots that are not over, told: how far each is, and how fast it goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::event::TableName;
use crate::lifecycle::Shutdown;
use crate::log::snapshot::{Begun, Snapshot};
use crate::metrics::names;

/// How often the rates are worked out.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Over how long they are smoothed.
const SMOOTHED_OVER: Duration = Duration::from_secs(10);

/// How often the log says how far a snapshot is.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Rows that are read in a second, by table, of the snapshots that have begun.
pub type Rates = BTreeMap<TableName, f64>;

/// Tells of a log's snapshots.
#[derive(Debug)]
pub struct Snapshots {
    snapshots: watch::Receiver<Vec<Snapshot>>,
    rates: watch::Sender<Rates>,
    known: BTreeMap<TableName, Known>,
}

/// A snapshot that has begun, as it was told last.
#[derive(Clone, Copy, Debug)]
struct Known {
    since: u64,
    rows: u64,
    at: Instant,
    per_second: f64,
    /// When the log said last how far it is.
    said: Instant,
}

impl Snapshots {
    /// `snapshots`: of the log.
    #[must_use]
    pub fn new(snapshots: watch::Receiver<Vec<Snapshot>>) -> Snapshots {
        Snapshots { snapshots, rates: watch::Sender::default(), known: BTreeMap::new() }
    }

    #[must_use]
    pub fn rates(&self) -> watch::Receiver<Rates> {
        self.rates.subscribe()
    }

    /// Sets the metrics and says what begins and ends, until a drain is asked for.
    pub async fn tell(mut self, shutdown: &Shutdown) {
        loop {
            self.tell_once(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(TELL_EVERY) => {}
                () = shutdown.wait() => return,
            }
        }
    }

    fn tell_once(&mut self, now: Instant) {
        let mut waiting = 0;
        let mut seen = BTreeMap::new();
        for Snapshot { table, begun, .. } in self.snapshots.borrow_and_update().iter() {
            let Some(Begun { since, rows, estimated_rows, .. }) = begun else {
                waiting += 1;
                continue;
            };
            let known = self.known.remove(table).filter(|known| known.since == *since);
            if known.is_none() {
                tracing::info!(%table, rows, estimated_rows, "the table's snapshot is read");
            }
            observe(table, *rows, *estimated_rows);
            let first = Known { since: *since, rows: *rows, at: now, per_second: 0.0, said: now };
            let mut known = known.map_or(first, |known| known.observe(*rows, now));
            if now - known.said >= SAY_EVERY {
                known.said = now;
                let rows_per_second = known.per_second.round() as u64;
                let seconds_left = estimated_rows.saturating_sub(*rows).checked_div(rows_per_second);
                tracing::info!(%table, rows, estimated_rows, rows_per_second, seconds_left, "the table's snapshot goes on");
            }
            seen.insert(table.clone(), known);
        }
        for (table, Known { rows, .. }) in std::mem::replace(&mut self.known, seen) {
            tracing::info!(%table, rows, "the table's snapshot is over, or begins again");
            observe(&table, 0, 0);
        }
        gauge!(names::SNAPSHOTS_WAITING).set(f64::from(waiting));
        let rates: Rates =
            self.known.iter().map(|(table, known)| (table.clone(), known.per_second)).collect();
        self.rates.send_if_modified(|told| std::mem::replace(told, rates) != *told);
    }
}

fn observe(table: &TableName, rows: u64, estimated_rows: u64) {
    let label = table.to_string();
    gauge!(names::SNAPSHOT_ROWS, "table" => label.clone()).set(rows as f64);
    gauge!(names::SNAPSHOT_ESTIMATED_ROWS, "table" => label).set(estimated_rows as f64);
}

impl Known {
    fn observe(self, rows: u64, now: Instant) -> Known {
        let passed = (now - self.at).as_secs_f64();
        if passed == 0.0 {
            return self;
        }
        let rate = rows.saturating_sub(self.rows) as f64 / passed;
        // The first look has nothing to smooth with.
        let weight =
            if self.per_second == 0.0 { 1.0 } else { 1.0 - (-passed / SMOOTHED_OVER.as_secs_f64()).exp() };
        let per_second = self.per_second + weight * (rate - self.per_second);
        Known { rows, at: now, per_second, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, since: u64, rows: u64) -> Snapshot {
        let begun = Begun { since, ranges: Vec::new(), rows, estimated_rows: 1000, covers_gap: false };
        let begun = Some(begun).filter(|_| since > 0);
        Snapshot { table: TableName::new("shop", name), filter: None, paused: false, begun }
    }

    #[test]
    fn the_rate_is_of_the_snapshot_that_goes_on_now() {
        let (sender, receiver) = watch::channel(vec![snapshot("a", 5, 100), snapshot("b", 0, 0)]);
        let mut told = Snapshots::new(receiver);
        let (rates, start) = (told.rates(), Instant::now());
        let rate = || rates.borrow().get(&TableName::new("shop", "a")).copied();
        told.tell_once(start);
        assert_eq!(rate(), Some(0.0));
        for second in 1..=30 {
            sender.send_replace(vec![snapshot("a", 5, 100 + 50 * second), snapshot("b", 0, 0)]);
            told.tell_once(start + Duration::from_secs(second));
        }
        assert!((rate().unwrap() - 50.0).abs() < 1e-6, "{:?}", rate());
        sender.send_replace(vec![snapshot("a", 9, 3)]);
        told.tell_once(start + Duration::from_secs(31));
        assert_eq!(rate(), Some(0.0), "it began again");
        sender.send_replace(Vec::new());
        told.tell_once(start + Duration::from_secs(32));
        assert_eq!(rate(), None);
    }
}
