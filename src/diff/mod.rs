//! A table against its index, while both move.
//!
//! # Constraints
//!
//! - A difference is one that outlives the relay's lag. Be D a document as it was looked at, R its row, read after that, and H what had been executed when R came. Once the relay
//!   says that all up to H is settled, D is looked at again: where it is still of the same version, nothing was written to it since before R was
//!   read, so all that the log holds of its row up to H came to D, and D must be what R becomes. Where the version moved, or the row is gone, nothing is known, and it is looked at once more. A document that is not there
//!   has no version: it might have come and gone in between, so each difference must be found twice in a row.
//! - An extra document is none of those whose rows a pass over the whole table saw that began after the document was found, and that is of the same version after all that the pass saw is
//!   settled: had it a row, it had it all the while.
//! - Nobody can tell lag from loss without a relay that says what is settled: then what differs is told as it is.
//! - Nothing is written here, at neither side: to mend what differs is a snapshot's matter ([`repair`]). Memory: a range's rows twice, what is to be looked at again ([`MOST_SUSPECTS`]), and 16 bytes for each row where extra documents are looked for.
//!
//! # Operation
//!
//! The rows of a range come by the snapshot's reader ([`rows`]), become documents by the relay's mapping, and are compared with what the engine
//! shows by their ids, in real time, while the next range is read. What differs is kept with its range; [`again`] decides. Documents
//! are compared themselves, since no engine has a checksum of many that would cost less than to send them: an aggregation sees doc values and not the source, and versions say only which change came
//! last and not what became of it.
//!
//! | file | idea |
//! |---|---|
//! | [`rows`] | a table's rows as documents, range by range |
//! | [`same`] | whether two documents are the same |
//! | [`engine`] | the documents as the engine shows them |
//! | [`again`] | what outlives the lag |
//! | [`extra`] | documents without a row |
//! | [`repair`] | what a snapshot has to read |

pub mod again;
pub mod engine;
pub mod extra;
pub mod repair;
pub mod rows;
pub mod same;

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::event::{GtidSet, TableName, Version};
use crate::mapping::MappingError;
use crate::sink::SinkError;
use crate::sink::elastic::documents::Document;
use crate::source::mysql::{MysqlError, Place};
use engine::Engine;
use extra::Seen;
use repair::Ranges;
use rows::{At, Edge, Expected, Range, Table};

/// Documents that are looked at in one request: their ids take 512 kB at most.
const BATCH: usize = 1_000;

/// Bytes of documents that are expected in one answer; one more may be over it.
const BATCH_BYTES: usize = 4 << 20;

/// Documents that are kept to be looked at again: with more the pass waits until these are decided. A large one counts as several.
const MOST_SUSPECTS: usize = 10_000;

/// Bytes that a document may take to count as one.
const SMALL: usize = 8 << 10;

/// Rows of a range of a sample.
const SAMPLE_ROWS: u64 = 200;

/// Why a table cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum DiffError {
    #[error("there is no table {table}, or none that the user may see")]
    NoTable { table: TableName },
    #[error("table {table} was altered meanwhile: start again once the relay has followed")]
    Changed { table: TableName },
    #[error(
        "a few rows of table {table} cannot be read in time: look at what the server does, and start again"
    )]
    Slow { table: TableName },
    #[error(transparent)]
    Source(#[from] MysqlError),
    #[error(transparent)]
    Mapping(#[from] MappingError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("asking the relay what is settled: {0}")]
    Relay(String),
}

/// What a relay says of itself.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Settled.
    pub gtids: GtidSet,
    /// Read.
    pub place: Option<Place>,
    pub visible: u64,
    /// Everything up to here is settled.
    pub cursor: u64,
}

/// Who knows how far the relay is.
pub trait Lag {
    /// `None`: no relay runs.
    ///
    /// # Errors
    /// Something else answers, or nothing in time.
    fn standing(&self) -> impl Future<Output = Result<Option<Standing>, DiffError>>;
}

/// Is told how far it is.
pub trait Progress {
    fn rows(&self, rows: u64, estimated: u64);
}

/// What is compared.
#[derive(Clone, Copy, Debug)]
pub struct DiffOptions {
    /// About as many rows, of ranges at even distances in the key's order; extra documents are not looked for.
    pub sample: Option<NonZeroU64>,
    /// Most keys of a kind that are told.
    pub keys: usize,
    /// How long the relay has to settle what is looked at again.
    pub patience: Duration,
}

/// Documents of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Kind {
    pub count: u64,
    /// The first of them.
    pub ids: Vec<String>,
}

impl Kind {
    fn add(&mut self, id: String, keys: usize) {
        self.count += 1;
        if self.ids.len() < keys {
            self.ids.push(id);
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    pub rows: u64,
    /// Of the index, where extra documents were looked for.
    pub documents: Option<u64>,
    /// Rows without a document.
    pub missing: Kind,
    /// Documents that are not what their rows are.
    pub stale: Kind,
    /// Documents without a row.
    pub extra: Kind,
    /// Documents that seem to have no row, beyond as many as are decided one by one.
    pub unlooked: u64,
    /// Rows whose index is not there, of a table whose rules leave such rows out.
    pub without_index: u64,
    /// Documents that changed each time that they were looked at.
    pub undecided: Kind,
    /// A relay runs, and said what is settled.
    pub relay: bool,
    /// It did not settle in time what it had to: what differs may be its lag.
    pub behind: bool,
    /// Why extra documents were not looked for, if they were not.
    pub without_extra: Option<&'static str>,
    /// An ingest pipeline makes the documents: only whether they are there was compared.
    pub existence_only: bool,
    /// Where rows are whose documents are missing or stale; as many as a repair can name.
    #[serde(skip)]
    pub ranges: Ranges,
}

impl Found {
    #[must_use]
    pub fn differs(&self) -> bool {
        self.missing.count + self.stale.count + self.extra.count + self.unlooked > 0
    }
}

/// A document that differs.
#[derive(Clone, Debug)]
pub(crate) struct Suspect {
    pub at: At,
    pub version: Option<Version>,
    /// How often in a row it differed while it did not move.
    pub times: u32,
}

/// A range with some of them.
#[derive(Debug)]
pub(crate) struct Suspects {
    pub after: Edge,
    pub upto: Edge,
    pub by_id: HashMap<String, Suspect>,
    /// Rows whose index is not there, and which are left out for that.
    without_index: u64,
    weight: usize,
}

/// A comparison that is under way.
#[derive(Debug)]
pub struct Diff<'d, L> {
    pub table: Table,
    pub engine: Engine<'d>,
    pub lag: &'d L,
    pub options: DiffOptions,
}

impl<L: Lag> Diff<'_, L> {
    /// # Errors
    /// See [`DiffError`].
    pub async fn run(&mut self, progress: &impl Progress) -> Result<Found, DiffError> {
        let mut found = Found {
            relay: self.lag.standing().await?.is_some(),
            existence_only: self.engine.existence_only,
            ..Found::default()
        };
        let mut seen = Seen::default();
        let estimated = self.table.estimated_rows();
        let skipped = self.options.sample.map_or(0, |sample| skipped(estimated, sample));
        let (mut kept, mut weight) = (Vec::new(), 0);
        let (mut after, mut before): (Edge, Option<Range>) = (None, None);
        let mut ended = false;
        while !ended || before.is_some() {
            let (engine, table, edge) = (&self.engine, &mut self.table, after.take());
            let read = async {
                match (ended, self.options.sample) {
                    (true, _) => Ok(None),
                    (false, None) => table.next(edge, &None).await.map(Some),
                    (false, Some(_)) => table.some(edge, SAMPLE_ROWS as usize).await.map(Some),
                }
            };
            let (next, suspects) = tokio::try_join!(read, engine.compare(before.take()))?;
            if let Some(suspects) = suspects {
                found.without_index += suspects.without_index;
                weight += suspects.weight;
                kept.push(suspects);
            }
            if let Some(range) = &next {
                found.rows += range.rows.len() as u64;
                if self.options.sample.is_none() {
                    range.rows.iter().for_each(|row| seen.add(&row.at.alias, &row.at.document.id));
                }
                after = range.upto.clone();
                if skipped > 0 && after.is_some() {
                    after = self.table.skip(after, skipped).await?;
                }
                ended = after.is_none();
            }
            before = next;
            progress.rows(found.rows, self.options.sample.map_or(estimated, NonZeroU64::get));
            if weight >= MOST_SUSPECTS {
                self.look_again(std::mem::take(&mut kept), &mut found).await?;
                weight = 0;
            }
        }
        self.look_again(kept, &mut found).await?;
        match self.options.sample {
            Some(_) => found.without_extra = Some("only a sample of the rows was read"),
            None => self.find_extra(seen, &mut found).await?,
        }
        Ok(found)
    }
}

/// Rows that are passed over behind each range of a sample.
fn skipped(estimated: u64, sample: NonZeroU64) -> usize {
    let ranges = sample.get().div_ceil(SAMPLE_ROWS);
    let each = estimated / ranges;
    usize::try_from(each.saturating_sub(SAMPLE_ROWS)).unwrap_or(usize::MAX)
}

impl Engine<'_> {
    /// The rows of a range whose documents are not what they become.
    async fn compare(&self, range: Option<Range>) -> Result<Option<Suspects>, DiffError> {
        let Some(Range { after, upto, mut rows, .. }) = range else { return Ok(None) };
        let (mut by_id, mut weight) = (HashMap::new(), 0);
        let without_index = self.leave_out(&mut rows).await?;
        let mut rest = &rows[..];
        while !rest.is_empty() {
            let (batch, others) = rest.split_at(batch(rest));
            rest = others;
            let at: Vec<_> = batch.iter().map(|row| row.at.clone()).collect();
            for (row, document) in batch.iter().zip(self.documents(&at).await?) {
                if !self.is_same(row, document.as_ref()) {
                    let version = document.map(|document| document.version);
                    weight += 1 + row.json.len() / SMALL;
                    by_id.insert(
                        row.at.document.id.clone(),
                        Suspect { at: row.at.clone(), version, times: 0 },
                    );
                }
            }
        }
        let tells = !by_id.is_empty() || without_index > 0;
        Ok(tells.then_some(Suspects { after, upto, by_id, without_index, weight }))
    }

    fn is_same(&self, row: &Expected, document: Option<&Document>) -> bool {
        match document {
            None => false,
            Some(_) if self.existence_only => true,
            Some(document) => document
                .source
                .as_ref()
                .is_some_and(|source| same::is_same(&row.json, source, self.metadata.as_deref())),
        }
    }
}

/// How many of these are looked at in one request.
fn batch(rows: &[Expected]) -> usize {
    let mut bytes = 0;
    let fit = rows.iter().take(BATCH).take_while(|row| {
        bytes += row.json.len();
        bytes <= BATCH_BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::elastic::documents::DocumentId;

    #[test]
    fn a_sample_is_drawn_at_even_distances() {
        for (rows, sample, passed_over) in
            [(100_000, 1_000, 19_800), (1_000, 1_000, 0), (0, 5, 0), (1_000, 1, 800)]
        {
            assert_eq!(skipped(rows, NonZeroU64::new(sample).unwrap()), passed_over, "{rows} {sample}");
        }
    }

    #[test]
    fn a_batch_is_bounded_in_rows_and_in_bytes_and_never_empty() {
        let rows = |count: usize, bytes: usize| -> Vec<Expected> {
            let document = DocumentId { id: String::new(), routing: None };
            let at = At { alias: "".into(), document };
            (0..count).map(|_| Expected { at: at.clone(), json: vec![b' '; bytes] }).collect()
        };
        assert_eq!(batch(&rows(BATCH + 1, 1)), BATCH);
        assert_eq!(batch(&rows(10, BATCH_BYTES / 3)), 3);
        assert_eq!(batch(&rows(2, BATCH_BYTES + 1)), 1);
    }
}
