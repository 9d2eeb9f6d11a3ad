//! Sweeps: all documents of a table that are older than a record of the log go.
//!
//! # Constraints
//!
//! - A TRUNCATE's is a barrier for its table. It begins when the engine has answered for every older change of the table's documents: one that
//!   was applied behind the scan would stay. No newer change of them is sent before it has ended ([`Documents::bar`]).
//! - A snapshot's begins when the engine has answered for all that stands before it in the log, so that every row of the table has a document of a
//!   version that it spares: none is missing even for a moment. Newer changes go on meanwhile: an index may be swept for minutes.
//! - A TRUNCATE's ticket, opened in its place among all others, is settled when a whole pass has been made: the cursor stands below it until
//!   then, so a crash makes it again, after the older changes that are sent again before it. A snapshot's is settled when its pass begins, and the cursor
//!   that passes it says that it is owed: so it is begun again after a crash, and holds nothing up meanwhile.
//! - Other tables go on until a bound of the deliver side is reached: what waits for a sweep counts as waiting, what
//!   follows it as unsettled. No bound makes it wait in turn, since it needs nothing that is yet to be read.
//!
//! # Why its deletes are safe
//!
//! Each carries the last version below the bound. A live document keeps its version for as long as it lives, so a newer one is never hit, however late a
//! delete arrives: not one sent again, not one of a former run. Deleted versions are forgotten, but a delete makes no document; where a
//! newer one was deleted meanwhile there is nothing to hit. And nothing older comes back: all of it was answered for, and what a
//! crash makes us send again comes back only until the sweep that is made again behind it.
//!
//! # Operation
//!
//! A table that was not met in this run (a TRUNCATE may be the first that is read of it) has its index looked for while reading waits; where
//! there is none there is nothing to sweep. One whose rows say where they go has all of its indices looked for each time, by what the engine has and by what the cursor knows: while reading waits none is added. A second TRUNCATE of a table makes reading wait for the first's. Passes that fail are made
//! again for as long as it takes; a drain ends them after a page.
//!
//! [`Documents::bar`]: super::documents::Documents::bar

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{counter, gauge};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::documents::Documents;
use super::error::DeliverError;
use super::learning::patiently;
use super::outstanding::Ticket;
use super::parking::Parking;
use crate::backoff::Backoff;
use crate::disk::Disk;
use crate::event::document::Behind;
use crate::event::{Seq, TableName, Version};
use crate::lifecycle::Readiness;
use crate::log::{Log, NOT_BEFORE_MICROS};
use crate::metrics::names;
use crate::settled::OwedSweep;
use crate::sink::{Expect, Index, Old, Sink, SinkError, Swept};

/// How often a long sweep says how far it is.
const SAID_EVERY: Duration = Duration::from_secs(10);

/// What a sweep that waits for the engine is called in `/readyz`.
const PART: &str = "sweep";

/// A sweep as the log has it.
#[derive(Debug)]
pub struct Owed {
    pub table: TableName,
    /// Documents below it go.
    pub bound: Version,
    /// The frame that asks for it.
    pub seq: Seq,
    pub what_for: WhatFor,
}

/// Why older documents go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhatFor {
    /// The table was emptied, at the bound. Settled when the sweep has ended.
    Truncate(Ticket),
    /// All rows of the table came since the bound. Settled when the sweep begins: from then on the cursor says that it is owed, and passes it.
    Snapshot(Option<Ticket>),
}

/// A sweep whose indices are known.
#[derive(Debug)]
pub struct Sweep {
    pub owed: Owed,
    /// One at least.
    pub indices: Vec<Index>,
}

impl Sweep {
    /// Another one's barrier stands before one of its indices.
    fn is_barred(&self, documents: &Documents) -> bool {
        self.indices.iter().any(|index| documents.is_barred(index.no))
    }
}

/// What a task of this room came to.
#[derive(Debug)]
pub enum Event {
    /// The indices of a table were looked for, by their aliases.
    Found { owed: Owed, indices: Vec<(String, Option<Index>)> },
    /// A whole pass was made.
    Ended(Sweep),
    /// A drain ended it.
    Stopped,
}

/// All sweeps that have been read and not ended.
#[derive(Debug)]
pub struct Sweeps<K> {
    sink: Arc<K>,
    /// The sink's name.
    name: String,
    readiness: Readiness,
    stop: CancellationToken,
    tasks: JoinSet<Result<Event, DeliverError>>,
    /// An index is being looked for.
    finding: bool,
    /// Those that wait until everything older is answered for.
    waiting: Vec<Sweep>,
    /// The one that waits for another of its table.
    next: Option<Sweep>,
    /// Not ended.
    open: usize,
    steps: Arc<AtomicU64>,
}

impl<K: Sink> Sweeps<K> {
    #[must_use]
    pub fn new(sink: Arc<K>, name: &str, readiness: Readiness) -> Sweeps<K> {
        Sweeps {
            sink,
            name: name.to_owned(),
            readiness,
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
            finding: false,
            waiting: Vec::new(),
            next: None,
            open: 0,
            steps: Arc::default(),
        }
    }

    /// Reading from the log waits: an index is being looked for, or a sweep is for the one before it of its table.
    #[must_use]
    pub fn hold_reading(&self) -> bool {
        self.finding || self.next.is_some()
    }

    /// Every sweep that was read has ended.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open == 0 && !self.hold_reading()
    }

    /// A task is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Indices found and pages swept so far: it moves while a sweep does.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps.load(Ordering::Relaxed)
    }

    /// Looks for the indices of a table that were not looked at in this run; reading waits for them. `known`: aliases that it had documents behind.
    pub fn find(&mut self, owed: Owed, behind: Behind, known: Vec<String>, expect: Expect) {
        self.finding = true;
        let (sink, readiness, stop) = (Arc::clone(&self.sink), self.readiness.clone(), self.stop.clone());
        let steps = Arc::clone(&self.steps);
        self.tasks.spawn(async move {
            let found = async {
                let mut aliases = BTreeSet::from_iter(known);
                match &behind {
                    Behind::Alias(alias) => drop(aliases.insert(alias.clone())),
                    Behind::ByRow(by_row) => {
                        let there = patiently(&readiness, &by_row.pattern, || sink.aliases(by_row));
                        aliases.extend(there.await?);
                    }
                }
                let mut indices = Vec::new();
                for alias in aliases {
                    let index = patiently(&readiness, &alias, || sink.find(&alias, expect)).await?;
                    steps.fetch_add(1, Ordering::Relaxed);
                    indices.push((alias, index));
                }
                Ok::<_, DeliverError>(indices)
            };
            let indices = stop.run_until_cancelled(found).await;
            indices.map_or(Ok(Event::Stopped), |indices| Ok(Event::Found { owed, indices: indices? }))
        });
    }

    /// A sweep begins: its barrier is set, or reading waits until the one before it of the same table has ended.
    pub fn begin(&mut self, sweep: Sweep, documents: &mut Documents) {
        if matches!(sweep.owed.what_for, WhatFor::Truncate(_)) {
            if sweep.is_barred(documents) {
                self.next = Some(sweep);
                return;
            }
            sweep.indices.iter().for_each(|index| documents.bar(index.no, sweep.owed.bound));
        }
        self.open += 1;
        self.tell_open();
        self.waiting.push(sweep);
    }

    /// Starts the sweeps that nothing older stands before any more. Everything up to `settled` is settled. What is parked of rows that a snapshot did not
    /// find is settled here and now: nothing of it may follow the scan. `beside`: something without a ticket is under way, and a snapshot's waits for that. Returns what is owed from here on in place of these tickets.
    pub fn start<D: Disk>(
        &mut self,
        documents: &Documents,
        settled: Seq,
        log: &Log<D>,
        (parking, beside): (&mut Parking, bool),
    ) -> Vec<(Ticket, OwedSweep)> {
        let is_due = |sweep: &mut Sweep| match sweep.owed.what_for {
            WhatFor::Truncate(_) => sweep.indices.iter().all(|index| documents.is_clear(index.no)),
            WhatFor::Snapshot(_) if beside => false,
            WhatFor::Snapshot(Some(_)) => settled >= sweep.owed.seq.previous(),
            WhatFor::Snapshot(None) => true,
        };
        let mut owed = Vec::new();
        for mut sweep in self.waiting.extract_if(.., is_due) {
            if let WhatFor::Snapshot(ticket) = &mut sweep.owed.what_for
                && let Some(ticket) = ticket.take()
            {
                let Owed { table, bound, seq, .. } = &sweep.owed;
                owed.push((ticket, OwedSweep { seq: *seq, table: table.clone(), below: bound.0 }));
            }
            let Owed { table, bound, what_for, .. } = &sweep.owed;
            let mut spared = HashSet::new();
            if matches!(what_for, WhatFor::Snapshot(_)) {
                parking.sweep(table, *bound);
                spared = parking.spared(table, *bound);
            }
            let pass = Pass {
                spared,
                sink: Arc::clone(&self.sink),
                name: self.name.clone(),
                readiness: self.readiness.clone(),
                stop: self.stop.clone(),
                steps: Arc::clone(&self.steps),
                log: log.clone(),
            };
            self.tasks.spawn(pass.run(sweep));
        }
        owed
    }

    /// Waits for the next event; for ever while no task is under way. Cancel safe.
    ///
    /// # Errors
    /// A sweep cannot be made.
    pub async fn next_event(&mut self) -> Result<Event, DeliverError> {
        match self.tasks.join_next().await {
            Some(Ok(event)) => {
                self.finding &= !matches!(event, Ok(Event::Found { .. }));
                event
            }
            Some(Err(failed)) => std::panic::resume_unwind(Box::new(failed.to_string())),
            None => std::future::pending().await,
        }
    }

    /// A sweep has ended, its barrier is gone: the one that waited for that begins.
    pub fn ended(&mut self, documents: &mut Documents) {
        self.open -= 1;
        self.tell_open();
        if let Some(next) = self.next.take_if(|next| !next.is_barred(documents)) {
            self.begin(next, documents);
        }
    }

    fn tell_open(&self) {
        gauge!(names::SINK_SWEEPS, "sink" => self.name.clone()).set(self.open as f64);
    }

    /// Ends every sweep after the page that it is at.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// What makes passes over each index until one is whole.
struct Pass<K, D: Disk> {
    /// Documents whose rows a snapshot found, and which the engine refused: what it has of them stays.
    spared: HashSet<Arc<str>>,
    sink: Arc<K>,
    name: String,
    readiness: Readiness,
    stop: CancellationToken,
    steps: Arc<AtomicU64>,
    log: Log<D>,
}

impl<K: Sink, D: Disk> Pass<K, D> {
    async fn run(self, sweep: Sweep) -> Result<Event, DeliverError> {
        let Owed { table, bound, what_for, .. } = &sweep.owed;
        let why = match what_for {
            WhatFor::Truncate(_) => "the table was emptied",
            WhatFor::Snapshot(_) => "every row of the table was read",
        };
        let indices = match sweep.indices.as_slice() {
            [index] => index.name.clone(),
            several => format!("{} of them", several.len()),
        };
        tracing::info!(%table, indices, %bound, "{why}; deleting its older documents");
        let mut all = Swept::default();
        for index in &sweep.indices {
            let ControlFlow::Continue(swept) = self.over(&sweep.owed, index).await? else {
                return Ok(Event::Stopped);
            };
            all.deleted += swept.deleted;
            all.spared += swept.spared;
        }
        tracing::info!(%table, deleted = all.deleted, spared = all.spared, "deleted all older documents");
        Ok(Event::Ended(sweep))
    }

    /// What a whole pass over one index came to; breaks where a drain ends it.
    async fn over(&self, owed: &Owed, index: &Index) -> Result<ControlFlow<(), Swept>, DeliverError> {
        let Owed { table, bound, what_for, .. } = owed;
        // No version is lower that a log ever gave.
        let versions = Version(NOT_BEFORE_MICROS)..*bound;
        // A TRUNCATE leaves nothing of a table; what a snapshot did not find is not what was read to be deleted.
        let but_marked = matches!(what_for, WhatFor::Snapshot(_));
        let (mut backoff, mut swept, mut said) = (Backoff::new(), Swept::default(), Instant::now());
        while !self.stop.is_cancelled() {
            let (mut foreign, mut moved) = (None, false);
            let page = |page: &Swept| {
                self.steps.fetch_add(1, Ordering::Relaxed);
                if self.readiness.clear(PART) {
                    tracing::info!(%table, "the search engine is swept again");
                }
                counter!(names::SINK_SWEPT, "sink" => self.name.clone()).increment(page.deleted);
                moved |= page.deleted > 0;
                swept.deleted += page.deleted;
                swept.spared += page.spared;
                if said.elapsed() > SAID_EVERY {
                    said = Instant::now();
                    tracing::info!(%table, index = index.name, deleted = swept.deleted, spared = swept.spared, "deleting older documents");
                }
                let newest = page.newest.as_ref();
                foreign = newest.and_then(|(id, newest)| {
                    super::foreign(|| index.name.clone(), id, *newest, self.log.highest_version())
                });
                let stops = foreign.is_some() || self.stop.is_cancelled();
                if stops { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            let old = Old { versions: versions.clone(), spared: &self.spared, but_marked };
            let result = self.sink.sweep(index.no, old, page).await;
            if let Some(foreign) = foreign {
                return Err(foreign);
            }
            let error = match result {
                Ok(ControlFlow::Continue(())) => return Ok(ControlFlow::Continue(swept)),
                Ok(ControlFlow::Break(())) => return Ok(ControlFlow::Break(())),
                Err(SinkError::Definite(error)) => return Err(DeliverError::Sink(error)),
                Err(SinkError::Transient(error)) => error,
            };
            if self.readiness.obstacle(PART, error.to_string()) {
                tracing::warn!(%error, %table, "older documents are not all deleted; going over them again");
            }
            if moved {
                backoff.reset();
            }
            // What was spared is met again.
            swept.spared = 0;
            tokio::select! {
                () = tokio::time::sleep(backoff.next_delay()) => {}
                () = self.stop.cancelled() => {}
            }
        }
        Ok(ControlFlow::Break(()))
    }
}
