//! The replay's documents: built where the live stream has nothing to send, judged as they land.

use std::sync::Arc;

use super::super::building::Flight;
use super::super::error::DeliverError;
use super::super::finding::Found;
use super::super::outstanding::Ticket;
use super::super::replay::due::Due;
use super::super::replay::going::{Answered, Next};
use super::super::replay::orders::{ReplayOrder, Taken};
use super::Deliver;
use super::parked::Rows;
use super::reading::ToSend;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Seq;
use crate::event::document::Verb;
use crate::log::record::Change;
use crate::settled::{CursorStore, HowEnded, Replay};
use crate::sink::{Disposition, Sink};

/// What a landed document of a replay counts as among all that land.
pub(super) enum Counts {
    Done,
    Superseded,
    Parked(String),
}

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    /// Begins a replay, or gives it up.
    pub(super) fn replay_ordered(&mut self, Taken { order, answer }: Taken) -> Result<(), DeliverError> {
        let now = self.clock.wall_micros();
        let done = match order {
            ReplayOrder::Begin { from, end, tables, indices } => {
                self.begin_replay((from, end), (tables, indices))
            }
            ReplayOrder::Cancel => match self.replays.end(HowEnded::Cancelled, now) {
                Some(replay) => Ok(replay.clone()),
                None => Err("no replay goes on".to_owned()),
            },
        };
        if let Ok(replay) = &done {
            let Replay { number, from, end, ended, .. } = replay;
            let what = if ended.is_none() { "begins" } else { "is given up" };
            tracing::info!(number, from = from.0, to = end.previous().0, "a replay {what}");
            self.commit()?;
            self.progress.sync()?;
        }
        // Nobody waits for it any more.
        let _ = answer.send(done);
        Ok(())
    }

    fn begin_replay(
        &mut self,
        (from, end): (Seq, Option<Seq>),
        meant: (Vec<String>, Vec<String>),
    ) -> Result<Replay, String> {
        let (start, settled) = (self.log.retained_start(), self.outstanding.settled());
        if from < start {
            return Err(format!("record {from} is gone: the log starts at {start}"));
        }
        if from > settled || end.is_some_and(|end| end <= from) {
            return Err(format!(
                "nothing is to be sent again: it would begin with record {from}, everything up to {settled} is settled, and what stands behind that is sent in its turn"
            ));
        }
        let now = self.clock.wall_micros();
        self.replays.begin((from, end), meant, settled, now).cloned()
    }

    fn end_replay(&mut self, how: HowEnded) -> Result<(), DeliverError> {
        let Some(replay) = self.replays.end(how, self.clock.wall_micros()) else { return Ok(()) };
        let number = replay.number;
        match replay.ended.as_ref().map(|ended| &ended.how) {
            Some(HowEnded::Failed(why)) => {
                tracing::error!(number, why, "a replay cannot go on; it has ended")
            }
            _ => tracing::info!(number, counts = ?replay.counts, "a replay has ended"),
        }
        self.commit()
    }

    /// What stops a replay stops nothing else.
    fn fail_replay(&mut self, error: &DeliverError) -> Result<(), DeliverError> {
        self.end_replay(HowEnded::Failed(error.to_string()))
    }

    /// Goes on with the replay's first pass.
    pub(super) fn read_for_replay(&mut self) -> Result<(), DeliverError> {
        let settled = self.outstanding.settled();
        match self.replays.read_on(&self.log, &self.options.rules, settled) {
            Ok(_) => Ok(()),
            Err(error) => self.fail_replay(&error),
        }
    }

    /// Encodes the replay's next document, the live reader having found nothing in this turn; false where there is none, or it has to wait.
    pub(super) fn build_replayed(&mut self) -> Result<bool, DeliverError> {
        if !self.replays.is_going() || !self.sweeps.is_idle() || !self.resumed.is_empty() {
            return Ok(false);
        }
        let next = self.next_replayed();
        match next {
            Ok(true) => Ok(true),
            Ok(false) => Ok(false),
            Err(error) => self.fail_replay(&error).map(|()| false),
        }
    }

    fn next_replayed(&mut self) -> Result<bool, DeliverError> {
        let settled = self.outstanding.settled();
        if !self.replays.read_on(&self.log, &self.options.rules, settled)? {
            return Ok(false);
        }
        let (table, alias, id) = match self.replays.next_due()? {
            Next::Due { table, alias, id } => (table, alias, id),
            Next::Later => return Ok(false),
            Next::End => {
                if !self.replays.next_slice() {
                    self.end_replay(HowEnded::Done)?;
                }
                return Ok(false);
            }
        };
        if self.replays.leaves_out(&alias) {
            return Ok(true);
        }
        let spec = table.mapping.spec();
        let Some(index) = self.tables.to_any_version(spec, &alias) else {
            let expect = self.tables.expect_found(&spec.behind(), &alias, &table.name)?;
            let wanted = (table.name.clone(), self.tables.spec_at(&table.name, spec, &alias), expect);
            self.replays.find(wanted, &self.sink, &self.readiness);
            return Ok(false);
        };
        // A parked change of it is being sent again.
        if !self.documents.is_at_rest(index, &id) {
            return Ok(false);
        }
        let Some(Due { seq, verb, version, routing, payload, .. }) = self.replays.take_due() else {
            return Ok(true);
        };
        let change = Change::decode(&payload).map_err(|error| DeliverError::undecodable(seq, &error))?;
        let document = ToSend { verb, id: Arc::clone(&id), version, ticket: Ticket::REPLAYED };
        self.encode((&table.mapping, index), document, routing.as_deref(), &change)?;
        self.replays.sent(index, id, seq);
        Ok(true)
    }

    /// The index that the replay waited for was looked for.
    pub(super) fn found_for_replay(&mut self, found: Found) -> Result<(), DeliverError> {
        let Found { table, alias, index } = found;
        match index {
            Ok(Some(index)) => match self.tables.found(&alias, &table, &index) {
                Ok(()) => self.note_indices(),
                Err(error) => self.fail_replay(&error),
            },
            Ok(None) => {
                self.replays.without_index(&table, alias);
                Ok(())
            }
            Err(error) => self.fail_replay(&error),
        }
    }

    /// The engine has answered for a document of the replay, for good.
    pub(super) fn replayed(
        &mut self,
        (flight, i): (&Flight, usize),
        disposition: Disposition,
        rows: &mut Rows<D>,
    ) -> Result<Counts, DeliverError> {
        let item = &flight.bulk.items[i];
        let judged = match disposition {
            Disposition::Done => Ok((Answered::Done(item.verb), Counts::Done)),
            Disposition::Superseded { current } => {
                self.check_writer(flight, i, current).map(|()| (Answered::Conflict, Counts::Superseded))
            }
            Disposition::Poison { kind, reason } if item.verb == Verb::Index => self
                .park((flight, i), kind, reason.clone(), rows)
                .map(|()| (Answered::Parked, Counts::Parked(reason))),
            Disposition::Transient { reason }
            | Disposition::Poison { reason, .. }
            | Disposition::Definite { reason } => Err(self.refused(flight, i, reason)),
        };
        let (answered, counts) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                self.fail_replay(&error)?;
                (Answered::Failed, Counts::Done)
            }
        };
        if matches!(answered, Answered::Done(_) | Answered::Conflict)
            && let Some(table) = self.tables.table_of(item.index)
        {
            self.parking.settle(table, &item.id, item.version);
        }
        self.replays.answered(item.index, &item.id, answered);
        Ok(counts)
    }
}
