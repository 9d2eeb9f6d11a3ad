//! What outlives the relay's lag.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::rows::Expected;
use super::{Diff, DiffError, Found, Kind, Lag, Standing, Suspect, Suspects};
use crate::event::GtidSet;
use crate::source::mysql::Place;
use crate::source::mysql::snapshot::chunk::High;

/// How often in a row a document must differ without having moved.
const TWICE: u32 = 2;

/// Looks after which a document that moves each time is left undecided.
const LOOKS: u32 = 8;

/// Between two questions to the relay.
const PAUSE: Duration = Duration::from_millis(250);

/// By place the relay says what it read, which its log shows a moment later.
const MOMENT: Duration = Duration::from_secs(2);

impl<L: Lag> Diff<'_, L> {
    /// Decides what differs of these, once everything is settled that their rows can show.
    pub(super) async fn look_again(
        &mut self,
        mut kept: Vec<Suspects>,
        found: &mut Found,
    ) -> Result<(), DiffError> {
        kept.retain(|suspects| !suspects.by_id.is_empty());
        if !found.relay {
            kept.into_iter().for_each(|suspects| self.tell_all(suspects, found));
            return Ok(());
        }
        for _ in 0..LOOKS {
            if kept.is_empty() {
                return Ok(());
            }
            let mut expected = Vec::new();
            let mut highs = Vec::new();
            for suspects in &mut kept {
                let (mut after, mut rows) = (suspects.after.clone(), Vec::<Expected>::new());
                loop {
                    let range = self.table.next(after, &suspects.upto).await?;
                    rows.extend(
                        range.rows.into_iter().filter(|row| suspects.by_id.contains_key(&row.at.document.id)),
                    );
                    highs.push(range.high);
                    after = range.upto;
                    if after == suspects.upto {
                        break;
                    }
                }
                // A row that is gone has no document that could be missing or stale.
                let there: HashSet<&str> = rows.iter().map(|row| &*row.at.document.id).collect();
                suspects.by_id.retain(|id, _| there.contains(&**id));
                expected.push(rows);
            }
            if !self.until_settled(&highs).await? {
                found.behind = true;
                break;
            }
            for (suspects, rows) in kept.iter_mut().zip(expected) {
                let mut rest = &rows[..];
                while !rest.is_empty() {
                    let (batch, others) = rest.split_at(super::batch(rest));
                    rest = others;
                    let at: Vec<_> = batch.iter().map(|row| row.at.clone()).collect();
                    for (row, document) in batch.iter().zip(self.engine.documents(&at).await?) {
                        let Some(mut suspect) = suspects.by_id.remove(&row.at.document.id) else { continue };
                        if self.engine.is_same(row, document.as_ref()) {
                            continue;
                        }
                        let version = document.map(|document| document.version);
                        suspect.times = if suspect.version == version { suspect.times + 1 } else { 0 };
                        suspect.version = version;
                        if suspect.times >= TWICE {
                            found.ranges.add(&suspects.after, &suspects.upto);
                            self.tell(suspect, found);
                        } else {
                            suspects.by_id.insert(row.at.document.id.clone(), suspect);
                        }
                    }
                }
            }
            kept.retain(|suspects| !suspects.by_id.is_empty());
        }
        for suspects in kept {
            if found.behind {
                self.tell_all(suspects, found);
            } else {
                let left = suspects.by_id.into_values();
                left.for_each(|suspect| found.undecided.add(suspect.at.document.id, self.options.keys));
            }
        }
        Ok(())
    }

    fn tell_all(&self, suspects: Suspects, found: &mut Found) {
        found.ranges.add(&suspects.after, &suspects.upto);
        suspects.by_id.into_values().for_each(|suspect| self.tell(suspect, found));
    }

    fn tell(&self, suspect: Suspect, found: &mut Found) {
        let kind: &mut Kind = if suspect.version.is_some() { &mut found.stale } else { &mut found.missing };
        kind.add(suspect.at.document.id, self.options.keys);
    }

    /// Waits until the relay has settled all that the rows can show; false: it has not in time.
    pub(super) async fn until_settled(&self, highs: &[High]) -> Result<bool, DiffError> {
        let deadline = Instant::now() + self.options.patience;
        let mut wait = Waiting::default();
        let mut left: Vec<&High> = highs.iter().collect();
        loop {
            let Some(standing) = self.lag.standing().await? else { return Ok(false) };
            if wait.is_over(&mut left, &standing) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            sleep(PAUSE).await;
        }
    }
}

/// A wait for the relay.
#[derive(Debug, Default)]
struct Waiting {
    /// When by place all was read.
    read: Option<Instant>,
    /// What the log held a moment later.
    visible: Option<u64>,
}

impl Waiting {
    fn is_over(&mut self, left: &mut Vec<&High>, standing: &Standing) -> bool {
        let nowhere = Place::default();
        left.retain(|high| !high.is_passed_at(&nowhere, &standing.gtids));
        if left.is_empty() {
            return true;
        }
        let Some(place) = &standing.place else { return false };
        let none = GtidSet::default();
        if self.read.is_none() && left.iter().all(|high| high.is_passed_at(place, &none)) {
            self.read = Some(Instant::now());
        }
        if self.visible.is_none() && self.read.is_some_and(|read| read.elapsed() >= MOMENT) {
            self.visible = Some(standing.visible);
        }
        self.visible.is_some_and(|visible| standing.cursor >= visible)
    }
}
