//! What the frames of the log say: actions for the bulk being built, or for later.

use std::sync::Arc;

use tokio::time::Instant;

use super::super::documents::{Turn, Waiting};
use super::super::error::DeliverError;
use super::super::outstanding::Ticket;
use super::super::progress::Moved;
use super::super::replay::going::Answered;
use super::super::tables::{Table, To};
use super::Deliver;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::document::Verb;
use crate::event::{Op, Seq, Version};
use crate::log::record::{Change, Commit, Kind, Mark, State};
use crate::log::{Frame, Location};
use crate::mapping::TableMapping;
use crate::settled::CursorStore;
use crate::sink::{IndexNo, Sink};

/// What is to be done with a document.
pub(super) struct ToSend {
    pub verb: Verb,
    pub id: Arc<str>,
    pub version: Version,
    pub ticket: Ticket,
}

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    pub(super) fn read(&mut self, frame: &Frame<'_>) -> Result<(), DeliverError> {
        match frame.kind {
            Kind::Change => {
                if !self.read_change(frame)? {
                    self.held = Some(frame.at);
                    return Ok(());
                }
            }
            Kind::Sweep => self.read_sweep(frame)?,
            Kind::Commit => {
                let commit =
                    Commit::decode(frame.payload).map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
                // Rows of a snapshot, and what is carried forward, have no time of their own: nothing moved at the source.
                let moved = commit.gtid.is_some() || !commit.position.file.is_empty();
                let time_micros = if moved { commit.time_micros } else { 0 };
                self.progress.end(frame.seq, time_micros, Moved::By(commit.gtid));
            }
            Kind::Mark => {
                let mark =
                    Mark::decode(frame.payload).map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
                self.progress.end(frame.seq, mark.time_micros, Moved::To(mark.gtids));
            }
            Kind::State => {
                let state =
                    State::decode(frame.payload).map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
                self.progress.begin(state.standing.map(|standing| standing.gtids));
            }
            // Rows of an XA transaction come again as changes when they count.
            Kind::Schema | Kind::Prepared => {}
        }
        self.passed(frame.seq);
        Ok(())
    }

    /// Schema frames from before the cursor are handed out again at the start; they do not move it back.
    pub(super) fn passed(&mut self, seq: Seq) {
        if seq > self.progress.cursor().seq {
            self.outstanding.read(seq);
        }
    }

    /// Reads once more the change that an index was looked for with.
    pub(super) fn read_held(&mut self, at: Location) -> Result<(), DeliverError> {
        let mut bytes = std::mem::take(&mut self.reread);
        let frame = self.log.read_at(at, &mut bytes)?;
        self.read(&frame)?;
        self.reread = bytes;
        Ok(())
    }

    /// False, and nothing is done, where an index is to be looked for first.
    fn read_change(&mut self, frame: &Frame<'_>) -> Result<bool, DeliverError> {
        let change = Change::decode(frame.payload).map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
        let table = self.tables.take(change.table);
        let table = table.ok_or_else(|| DeliverError::no_schema(frame.seq, change.table))?;
        let verb = table.mapping.verb(change.op);
        let Some(to) = self.find_place(frame, &table, &change, verb)? else {
            self.tables.put_back(change.table, table);
            return Ok(false);
        };
        let mut of_old = to;
        if change.op == Op::Rekey {
            let Some(place) = self.find_place(frame, &table, &change, Verb::Delete)? else {
                self.tables.put_back(change.table, table);
                return Ok(false);
            };
            of_old = place;
        }
        self.sizing.read(change.op);
        let mut id = std::mem::take(&mut self.id);
        let mut old_id = std::mem::take(&mut self.old_id);
        match change.op {
            Op::Tombstone => table.mapping.id_of_key(change.row, &mut id)?,
            _ => table.mapping.id(change.row, &mut id)?,
        }
        if change.op == Op::Rekey {
            table.mapping.old_id(change.row, &mut old_id)?;
            if old_id != id {
                self.act(frame, &table, &change, (Verb::Delete, of_old), &old_id)?;
            }
        }
        self.act(frame, &table, &change, (verb, to), &id)?;
        (self.id, self.old_id) = (id, old_id);
        self.tables.put_back(change.table, table);
        Ok(true)
    }

    /// Where the document goes that a change does `verb` to; `None`: its index is looked for.
    fn find_place(
        &mut self,
        frame: &Frame<'_>,
        table: &Table,
        change: &Change<'_>,
        verb: Verb,
    ) -> Result<Option<To>, DeliverError> {
        match self.tables.to(table, change, verb, &mut self.alias)? {
            To::Unknown => {
                let wanted = (&*self.alias, (change.op, verb), frame.version);
                let learning = self.tables.learn_index(table, wanted, &self.sink, &self.readiness)?;
                self.learning = Some(learning);
                Ok(None)
            }
            place => Ok(Some(place)),
        }
    }

    /// One action of a change: behind the one in flight, or into the bulk being built.
    fn act(
        &mut self,
        frame: &Frame<'_>,
        table: &Arc<Table>,
        change: &Change<'_>,
        (verb, to): (Verb, To),
        id: &str,
    ) -> Result<(), DeliverError> {
        let To::Index(index) = to else {
            // Its document is nowhere, and so is what was parked of it.
            if let Some(by_row) = &table.mapping.spec().by_row {
                self.parking.settle(&by_row.table, id, frame.version);
            }
            self.count("without_index", 1);
            return Ok(());
        };
        let ticket = self.outstanding.open(frame.seq);
        let waiting = || Waiting {
            table: Arc::clone(table),
            verb,
            version: frame.version,
            ticket,
            location: frame.at,
            deferred: false,
        };
        match self.documents.change(index, id, &self.building, waiting) {
            Turn::Now if change.op == Op::Read && self.sizing.rows_wait() => {
                self.documents.defer(index, id, waiting());
                return Ok(());
            }
            Turn::Now => {}
            Turn::Replace(place) => {
                let older = self.building.ticket(place);
                self.outstanding.take_along(ticket, older);
                match older {
                    Ticket::PARKED => self.overtaken(index, id)?,
                    Ticket::REPLAYED => self.replays.answered(index, &id.into(), Answered::Overtaken),
                    _ => {}
                }
                self.building.supersede(place);
                self.collapsed.increment(1);
            }
            Turn::Wait(None) => return Ok(()),
            Turn::Wait(Some(older)) => {
                self.outstanding.take_along(ticket, older);
                self.collapsed.increment(1);
                return Ok(());
            }
        }
        let document = ToSend { verb, id: id.into(), version: frame.version, ticket };
        self.encode_change((table, index), document, change)
    }

    /// A change that waited for its document's turn is read from the log again.
    pub(super) fn build_waiting(
        &mut self,
        index: IndexNo,
        id: Arc<str>,
        waiting: Waiting,
    ) -> Result<(), DeliverError> {
        let mut bytes = std::mem::take(&mut self.reread);
        let frame = self.log.read_at(waiting.location, &mut bytes)?;
        let Waiting { table, verb, version, ticket, .. } = waiting;
        let change = Change::decode(frame.payload).map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
        self.encode_change((&table, index), ToSend { verb, id, version, ticket }, &change)?;
        self.reread = bytes;
        Ok(())
    }

    pub(super) fn encode_change(
        &mut self,
        (table, index): (&Table, IndexNo),
        document: ToSend,
        change: &Change<'_>,
    ) -> Result<(), DeliverError> {
        let routing = table.mapping.routing(change.op, document.verb, change.row)?;
        self.encode((&table.mapping, index), document, routing.as_deref(), change)
    }

    /// Adds an action to the bulk being built; where it cannot be made nothing is added.
    pub(super) fn encode(
        &mut self,
        (mapping, index): (&TableMapping, IndexNo),
        ToSend { verb, id, version, ticket }: ToSend,
        routing: Option<&str>,
        change: &Change<'_>,
    ) -> Result<(), DeliverError> {
        let start = self.building.body().len();
        let action = mapping.action(verb, &id, version, routing);
        let document =
            |out: &mut Vec<u8>| mapping.stamped_document((change.op, change.stamp), change.row, out);
        let encoded = self.sink.encode(index, &action, document, self.building.body());
        if let Err(error) = encoded {
            self.building.body().truncate(start);
            return Err(error.into());
        }
        let place = self.building.push(start, index, verb, Arc::clone(&id), version, ticket);
        self.documents.build(index, id, place);
        self.building_since.get_or_insert_with(Instant::now);
        Ok(())
    }
}
