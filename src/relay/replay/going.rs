//! The replay that goes on: which pass it is in, what of it is under way, and what of that a crash must not lose.
//!
//! # Constraints
//!
//! - Nothing is due before the first pass, read on behind the horizon, has read all that is visible *in the same turn* ([`Replays::read_on`]): so it has read at least what the live stream
//!   has, and of what is due no newer change was ever sent. What is read behind that finds the document in flight, and waits.
//! - What is kept ([`Replays::kept`]) never passes what was not answered for. After a crash the first pass is made anew and the second goes on from there: that sends
//!   some documents again which were, and no others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use metrics::{counter, gauge};

use super::super::error::DeliverError;
use super::super::finding::{Finding, Found};
use super::due::{Due, Taken, Taking};
use super::noted::{Noted, Noting, Slice};
use super::reading::{DocumentHash, TableThere};
use super::{Chosen, Scope};
use crate::disk::Disk;
use crate::event::document::{IndexSpec, Verb};
use crate::event::{Seq, TableName};
use crate::lifecycle::Readiness;
use crate::log::Log;
use crate::mapping::rule::Rules;
use crate::metrics::names;
use crate::settled::{Ended, HowEnded, Replay, Replayed};
use crate::sink::{Expect, IndexNo, Sink};

/// Records that a turn reads: about a millisecond's work, which live changes wait for.
const A_TURN: usize = 512;

/// Most aliases that are known to lead to no index.
const MOST_ABSENT: usize = 10_000;

/// What became of a document that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    Done(Verb),
    /// A newer change was put in its place before it was sent.
    Overtaken,
    Conflict,
    Parked,
    /// The replay has ended for it.
    Failed,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// To be sent, and then taken out by [`Replays::take_due`].
    Due { table: Arc<TableThere>, alias: Arc<str>, id: Arc<str> },
    /// Reading goes on in another turn.
    Later,
    /// Everything is sent.
    End,
}

struct Passes<D: Disk> {
    scope: Arc<Scope>,
    noting: Noting<D>,
    /// Once the first pass has come to the log's end for the first time.
    taking: Option<Taking<D>>,
}

/// The replay of a sink.
pub struct Replays<D: Disk> {
    /// The sink's name.
    name: String,
    /// What goes on, or ended last.
    replay: Option<Replay>,
    passes: Option<Passes<D>>,
    /// Sent or to be sent with the bulk being built, and not answered for.
    under_way: HashMap<(IndexNo, Arc<str>), Seq>,
    /// What is under way was launched: nothing is added before it is answered for.
    launched: bool,
    /// There is more to read at once.
    eager: bool,
    finding: Finding,
    /// Aliases that lead to no index.
    absent: HashSet<String>,
}

impl<D: Disk> Replays<D> {
    /// `name`: the sink's; `kept`: what the cursor says.
    #[must_use]
    pub fn new(name: &str, kept: Option<Replay>) -> Replays<D> {
        let replays = Replays {
            name: name.to_owned(),
            replay: kept,
            passes: None,
            under_way: HashMap::new(),
            launched: false,
            eager: false,
            finding: Finding::default(),
            absent: HashSet::new(),
        };
        tell_going(&replays.name, replays.is_going());
        replays
    }

    /// Begins one, of these tables and of these indices; everything up to `settled` is settled.
    ///
    /// # Errors
    /// One goes on, or the order is none.
    pub fn begin(
        &mut self,
        (from, end): (Seq, Option<Seq>),
        (tables, indices): (Vec<String>, Vec<String>),
        settled: Seq,
        now_micros: u64,
    ) -> Result<&Replay, String> {
        if self.is_going() {
            return Err("a replay goes on: wait for its end, or give it up with `everrelay replay --cancel`"
                .to_owned());
        }
        Chosen::parse(&tables).map_err(|problem| format!("a table pattern {problem}"))?;
        // What is not settled yet is sent in its turn.
        let end = end.map_or(settled.next(), |end| end.min(settled.next()));
        let replay = Replay {
            number: self.replay.as_ref().map_or(0, |last| last.number) + 1,
            from,
            end,
            tables,
            indices,
            since_micros: now_micros,
            slice: (Slice::WHOLE.first.0, Slice::WHOLE.last.0),
            place: from.previous(),
            horizon: Seq(0),
            noted: Seq(0),
            counts: Replayed::default(),
            ended: None,
        };
        let replay = self.replay.insert(replay);
        (self.passes, self.eager) = (None, true);
        self.absent.clear();
        tell_going(&self.name, true);
        Ok(replay)
    }

    /// It has come to its end; what is under way is still answered for.
    pub fn end(&mut self, how: HowEnded, now_micros: u64) -> Option<&Replay> {
        (self.passes, self.eager) = (None, false);
        self.keep_place();
        let replay = self.replay.as_mut().filter(|replay| replay.is_going())?;
        replay.ended = Some(Ended { micros: now_micros, how });
        tell_going(&self.name, false);
        self.replay.as_ref()
    }

    #[must_use]
    pub fn is_going(&self) -> bool {
        self.replay.as_ref().is_some_and(Replay::is_going)
    }

    /// An order may be taken: what the replay before sent is answered for.
    #[must_use]
    pub fn takes_orders(&self) -> bool {
        self.is_going() || self.under_way.is_empty()
    }

    /// Documents of it were sent, or are in the bulk being built.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// It has something to do that waits for nothing; asking ends that until the next turn says so.
    #[must_use]
    pub fn is_eager(&self) -> bool {
        self.eager
    }

    /// What the cursor is to say.
    #[must_use]
    pub fn kept(&mut self) -> Option<&Replay> {
        self.keep_place();
        self.replay.as_ref()
    }

    fn keep_place(&mut self) {
        let (Some(replay), Some(passes)) = (&mut self.replay, &mut self.passes) else { return };
        if !replay.is_going() {
            return;
        }
        replay.noted = passes.noting.at().min(replay.horizon);
        if let Some(taking) = &mut passes.taking {
            let due = taking.waiting().map(Seq::previous);
            let open = self.under_way.values().map(|seq| seq.previous());
            replay.place = open.chain(due).fold(taking.at(), Seq::min);
        }
    }

    /// Reads some of the log with the first pass, and on behind the horizon; true where nothing visible is left. Everything up to `settled` is settled.
    ///
    /// # Errors
    /// The log cannot be read, or does not hold the range's beginning any more.
    pub fn read_on(&mut self, log: &Log<D>, rules: &Rules, settled: Seq) -> Result<bool, DeliverError> {
        let Some(replay) = self.replay.as_mut().filter(|replay| replay.is_going()) else {
            self.eager = false;
            return Ok(false);
        };
        let passes = match &mut self.passes {
            Some(passes) => passes,
            none => {
                let tables = Chosen::parse(&replay.tables);
                let tables = tables.map_err(|problem| DeliverError::Record {
                    seq: replay.from,
                    problem: format!("the replay's tables are none: {problem}"),
                })?;
                let (from, end, indices) = (replay.from, replay.end, replay.indices.clone());
                let scope = Arc::new(Scope { from, end, tables, indices });
                let (first, last) = replay.slice;
                let slice = Slice { first: DocumentHash(first), last: DocumentHash(last) };
                replay.horizon = settled;
                // A log that was cut back, or a cursor that has fallen back, knows less.
                replay.place = replay.place.min(settled);
                let noting = Noting::open(log, &scope, rules, Noted::new(slice, settled))?;
                none.insert(Passes { scope, noting, taking: None })
            }
        };
        let is_whole = passes.noting.go_on(A_TURN)?;
        if is_whole && passes.taking.is_none() {
            let slice = passes.noting.noted().slice();
            replay.slice = (slice.first.0, slice.last.0);
            passes.taking = Some(Taking::open(log, &passes.scope, rules, replay.place.next())?);
        }
        // What is due when all is read is asked for by whoever sends.
        self.eager = !is_whole;
        let overtaken = passes.noting.noted().take_superseded();
        self.count(Replayed { overtaken, ..Replayed::default() });
        Ok(is_whole)
    }

    /// What is due next, where the engine may have more of it and the first pass has just read all that is visible.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn next_due(&mut self) -> Result<Next, DeliverError> {
        let Some(Passes { noting, taking: Some(taking), .. }) = &mut self.passes else {
            return Ok(Next::Later);
        };
        if self.launched || !self.finding.is_empty() {
            return Ok(Next::Later);
        }
        let mut is_end = false;
        for _ in 0..A_TURN {
            if taking.first(noting.noted()).is_some() {
                break;
            }
            is_end = matches!(taking.go_on(noting.noted())?, Taken::End);
            if is_end {
                break;
            }
        }
        let overtaken = noting.noted().take_superseded();
        let due = taking.first(noting.noted()).map(|due| Next::Due {
            table: Arc::clone(&due.table),
            alias: Arc::clone(&due.alias),
            id: Arc::clone(&due.id),
        });
        // The end is where all is answered for.
        self.eager = due.is_none() && !is_end;
        self.count(Replayed { overtaken, ..Replayed::default() });
        let otherwise = if is_end && self.under_way.is_empty() { Next::End } else { Next::Later };
        Ok(due.unwrap_or(otherwise))
    }

    /// Takes out what is due next; `None` where a sweep will see to it.
    pub fn take_due(&mut self) -> Option<Due> {
        let Passes { noting, taking, .. } = self.passes.as_mut()?;
        taking.as_mut()?.take(noting.noted())
    }

    /// The documents that were worked off are sent: goes on with those that did not fit; false where there are none.
    pub fn next_slice(&mut self) -> bool {
        let slice = self.passes.as_mut().and_then(|passes| passes.noting.noted().slice().next());
        let (Some(slice), Some(replay)) = (slice, &mut self.replay) else { return false };
        replay.slice = (slice.first.0, slice.last.0);
        (replay.place, replay.noted) = (replay.from.previous(), Seq(0));
        (self.passes, self.eager) = (None, true);
        true
    }

    /// It is in the bulk being built.
    pub fn sent(&mut self, index: IndexNo, id: Arc<str>, seq: Seq) {
        self.under_way.insert((index, id), seq);
    }

    /// The bulk being built goes out.
    pub fn launched(&mut self) {
        self.launched = !self.under_way.is_empty();
    }

    /// The record of what was sent of a document.
    #[must_use]
    pub fn seq(&self, index: IndexNo, id: &Arc<str>) -> Option<Seq> {
        self.under_way.get(&(index, Arc::clone(id))).copied()
    }

    /// What was sent of a document was answered for, or left out of its bulk.
    pub fn answered(&mut self, index: IndexNo, id: &Arc<str>, answered: Answered) {
        self.under_way.remove(&(index, Arc::clone(id)));
        self.launched &= !self.under_way.is_empty();
        let mut tally = Replayed::default();
        match answered {
            Answered::Done(Verb::Index) => tally.indexed = 1,
            Answered::Done(Verb::Delete) => tally.deleted = 1,
            Answered::Overtaken => tally.overtaken = 1,
            Answered::Conflict => tally.conflicts = 1,
            Answered::Parked => tally.parked = 1,
            Answered::Failed => {}
        }
        self.count(tally);
    }

    /// No index is behind the alias that documents of the table should be behind.
    pub fn without_index(&mut self, table: &TableName, alias: String) {
        if self.absent.len() >= MOST_ABSENT {
            self.absent.clear();
        }
        tracing::warn!(%table, alias, "no index is behind this alias: nothing of it is sent again");
        self.absent.insert(alias);
    }

    /// What is due next has no index: it is left out.
    pub fn leaves_out(&mut self, alias: &str) -> bool {
        let is_absent = self.absent.contains(alias);
        let without_index = u64::from(is_absent && self.take_due().is_some());
        self.count(Replayed { without_index, ..Replayed::default() });
        is_absent
    }

    /// Looks for an index that was not met in this run.
    pub fn find<K: Sink>(
        &mut self,
        wanted: (TableName, IndexSpec, Expect),
        sink: &Arc<K>,
        readiness: &Readiness,
    ) {
        self.finding.begin(wanted, sink, readiness);
    }

    /// Waits for an index that is looked for; for ever while none is. Cancel safe.
    pub async fn next_found(&mut self) -> Found {
        self.finding.next().await
    }

    fn count(&mut self, tally: Replayed) {
        let Some(replay) = &mut self.replay else { return };
        let counts = &mut replay.counts;
        for (label, more, count) in [
            ("indexed", tally.indexed, &mut counts.indexed),
            ("deleted", tally.deleted, &mut counts.deleted),
            ("overtaken", tally.overtaken, &mut counts.overtaken),
            ("conflict", tally.conflicts, &mut counts.conflicts),
            ("parked", tally.parked, &mut counts.parked),
            ("without_index", tally.without_index, &mut counts.without_index),
        ] {
            if more > 0 {
                *count += more;
                counter!(names::REPLAYED, "outcome" => label, "sink" => self.name.clone()).increment(more);
            }
        }
    }
}

fn tell_going(sink: &str, is_going: bool) {
    gauge!(names::REPLAY_GOING, "sink" => sink.to_owned()).set(if is_going { 1.0 } else { 0.0 });
}
