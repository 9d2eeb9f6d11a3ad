//! What a snapshot has to read so that nothing differs any more.
//!
//! Rows whose documents are missing or stale are read anew by a snapshot of the ranges that they are in: by its window, as any other, so that no row comes in behind a newer change. A
//! document without a row goes at the end of a snapshot of the whole table and not otherwise: nothing says of a part of it that what was not read is not there.

use super::rows::{Edge, Table};
use super::{Diff, DiffError, Found, Lag, Progress};

/// Ranges beyond which the whole table is read: about 1 MB each.
const MOST_RANGES: usize = 100;

/// Bytes of SQL beyond which it is so too: the log keeps it while the snapshot is not over.
const MOST_SQL: usize = 64 << 10;

/// Ranges of a table's rows, each once, in the order of the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    of: Vec<(Edge, Edge)>,
    too_many: bool,
}

impl Ranges {
    pub(super) fn add(&mut self, after: &Edge, upto: &Edge) {
        if self.of.last().is_some_and(|(last, _)| last == after) || self.too_many {
            return;
        }
        self.of.push((after.clone(), upto.clone()));
        if self.of.len() > MOST_RANGES {
            (self.of, self.too_many) = (Vec::new(), true);
        }
    }
}

/// What is to be read anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing differs.
    Nothing,
    /// Rows that fulfil this SQL condition.
    Where(String),
    /// All rows; documents without one are deleted.
    Whole,
}

impl Repair {
    /// What is read, in words.
    #[must_use]
    pub fn read(&self) -> &'static str {
        match self {
            Repair::Nothing => "nothing",
            Repair::Where(_) => "the rows around what differs",
            Repair::Whole => "the whole table",
        }
    }

    /// Of what was found.
    #[must_use]
    pub fn of(found: &Found, table: &Table) -> Repair {
        if !found.differs() {
            return Repair::Nothing;
        }
        if found.ranges.too_many || found.extra.count + found.unlooked > 0 {
            return Repair::Whole;
        }
        let conditions = found.ranges.of.iter().map(|(after, upto)| table.condition(after, upto));
        match conditions.collect::<Option<Vec<String>>>() {
            Some(conditions) => {
                let sql = conditions.iter().map(|sql| format!("({sql})")).collect::<Vec<_>>().join(" OR ");
                if sql.len() > MOST_SQL { Repair::Whole } else { Repair::Where(sql) }
            }
            None => Repair::Whole,
        }
    }
}

impl<L: Lag> Diff<'_, L> {
    /// Compares anew what was repaired by reading these ranges alone.
    ///
    /// # Errors
    /// See [`DiffError`].
    pub async fn run_again(
        &mut self,
        Ranges { of, .. }: &Ranges,
        progress: &impl Progress,
    ) -> Result<Found, DiffError> {
        let mut found = Found {
            relay: self.lag.standing().await?.is_some(),
            existence_only: self.engine.existence_only,
            without_extra: Some("only what had differed was compared once more"),
            ..Found::default()
        };
        for (first, last) in of {
            let mut after = first.clone();
            loop {
                let range = self.table.next(after, last).await?;
                found.rows += range.rows.len() as u64;
                progress.rows(found.rows, found.rows);
                after = range.upto.clone();
                if let Some(suspects) = self.engine.compare(Some(range)).await? {
                    found.without_index += suspects.without_index;
                    self.look_again(vec![suspects], &mut found).await?;
                }
                if after == *last {
                    break;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_kept_once_each_and_not_without_end() {
        let mut ranges = Ranges::default();
        let edge = |n: usize| (n > 0).then(|| vec![n as u8]);
        for n in 0..MOST_RANGES {
            ranges.add(&edge(n), &edge(n + 1));
            ranges.add(&edge(n), &edge(n + 1));
        }
        assert_eq!((ranges.of.len(), ranges.too_many), (MOST_RANGES, false));
        ranges.add(&edge(200), &None);
        assert_eq!((ranges.of.len(), ranges.too_many), (0, true));
        ranges.add(&None, &None);
        assert!(ranges.of.is_empty());
    }
}
