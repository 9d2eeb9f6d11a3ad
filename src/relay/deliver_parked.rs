//! Documents that the engine refuses: parked, sent again, forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::building::Flight;
use super::super::error::DeliverError;
use super::super::finding::Found;
use super::super::id_for_people;
use super::super::outstanding::Ticket;
use super::super::parked_orders::{Became, Fate, ParkedOrder, Taken};
use super::super::parking::Full;
use super::super::retries::Retry;
use super::super::tables::Table;
use super::Deliver;
use super::reading::ToSend;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::codec::Row;
use crate::event::document::IndexSpec;
use crate::event::{Op, Seq, TableNo, TableSchema, Version};
use crate::log::record::{Change, Kind, SchemaRecord};
use crate::log::{Log, Reader};
use crate::mapping::TableMapping;
use crate::settled::{CursorStore, Parked, ParkedRow};
use crate::sink::{Expect, IndexNo, Item, Sink};

/// Where a parked row's document goes.
enum Place {
    At(IndexNo),
    /// Its index was not looked at in this run.
    Unseen {
        spec: Box<IndexSpec>,
        expect: Expect,
    },
}

/// How many frames are read over on the way to a row, rather than to look for its place in the log.
const NEAR: u64 = 4096;

/// Rows of the changes that one landing parks, read from the log once more: the cursor stands below them, so the log has them.
pub(super) struct Rows<D: Disk> {
    log: Log<D>,
    reading: Option<Reading<D>>,
}

struct Reading<D: Disk> {
    reader: Reader<D>,
    schemas: HashMap<TableNo, TableSchema>,
    /// The last frame that was read.
    at: Seq,
}

impl<D: Disk> Rows<D> {
    pub fn new(log: Log<D>) -> Rows<D> {
        Rows { log, reading: None }
    }

    /// A change's row, and its table's columns. In rising order they cost one pass.
    fn of(&mut self, seq: Seq) -> Result<(Op, ParkedRow), DeliverError> {
        let reading = match self
            .reading
            .take()
            .filter(|reading| (1..=NEAR).contains(&(seq.0.saturating_sub(reading.at.0))))
        {
            Some(reading) => reading,
            None => Reading { reader: self.log.reader(seq)?, schemas: HashMap::new(), at: Seq(0) },
        };
        let Reading { reader, schemas, at } = self.reading.insert(reading);
        while let Some(frame) = reader.next_frame()? {
            let undecodable = |error| DeliverError::undecodable(frame.seq, &error);
            if frame.kind == Kind::Schema {
                let record = SchemaRecord::decode(frame.payload).map_err(undecodable)?;
                schemas.insert(record.table, record.schema);
            }
            *at = frame.seq;
            if frame.seq < seq {
                continue;
            }
            if frame.kind != Kind::Change {
                break;
            }
            let change = Change::decode(frame.payload).map_err(undecodable)?;
            let schema = schemas.get(&change.table).cloned();
            let schema = schema.ok_or_else(|| DeliverError::no_schema(seq, change.table))?;
            return Ok((change.op, ParkedRow { schema, row: change.row.rest().to_vec() }));
        }
        Err(DeliverError::Record { seq, problem: "it is no change any more".to_owned() })
    }
}

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    /// The engine has the item's document, or a newer one.
    pub(super) fn taken(&mut self, item: &Item, ticket: Ticket, became: Became) {
        if self.parking.is_empty() && ticket != Ticket::PARKED {
            return;
        }
        let Some(table) = self.tables.table_of(item.index) else { return };
        self.parking.settle(table, &item.id, item.version);
        if ticket == Ticket::PARKED {
            self.retries.answered(table, &item.id, became);
        }
    }

    /// The engine will never take the item's document as it is: it is parked.
    ///
    /// # Errors
    /// No more may be parked, or its row cannot be read.
    pub(super) fn park(
        &mut self,
        (flight, i): (&Flight, usize),
        kind: &'static str,
        reason: String,
        rows: &mut Rows<D>,
    ) -> Result<(), DeliverError> {
        let (item, ticket) = (&flight.bulk.items[i], flight.tickets[i]);
        let table = self.tables.table_of(item.index).cloned();
        let table = table.ok_or_else(|| self.refused(flight, i, reason.clone()))?;
        let now = self.clock.wall_micros();
        if ticket == Ticket::PARKED {
            self.parking.again(&table, &item.id, kind, reason.clone(), now);
            self.retries.answered(&table, &item.id, Became::Refused { reason });
            return Ok(());
        }
        if self.parking.has_newer(&table, &item.id, item.version) {
            return Ok(());
        }
        let seq = self.seq(item, ticket);
        let (op, row) = rows.of(seq)?;
        let names: usize = row.schema.columns.iter().map(|column| column.name.len()).sum();
        let parked = Parked {
            table,
            id: item.id.to_string(),
            seq,
            version: item.version.0,
            op,
            kind: kind.to_owned(),
            reason,
            since_micros: now,
            tried_micros: now,
            attempts: 1,
            bytes: (row.row.len() + names) as u64,
        };
        let (index, id) = (self.tables.index_name(item.index), id_for_people(&item.id));
        let reason = parked.reason.clone();
        self.parking.park(parked, row).map_err(|Full(full)| DeliverError::ParkedFull {
            index,
            id,
            seq,
            reason,
            full,
        })
    }

    /// An item that nothing can be done for.
    pub(super) fn refused(&self, flight: &Flight, i: usize, reason: String) -> DeliverError {
        let item = &flight.bulk.items[i];
        DeliverError::Refused {
            index: self.tables.index_name(item.index),
            id: id_for_people(&item.id),
            seq: self.seq(item, flight.tickets[i]),
            reason,
        }
    }

    /// The record that an item was sent for.
    fn seq(&self, item: &Item, ticket: Ticket) -> Seq {
        let parked =
            || self.parking.get(self.tables.table_of(item.index)?, &item.id).map(|parked| parked.seq);
        match ticket {
            Ticket::PARKED => parked().unwrap_or_default(),
            Ticket::REPLAYED => self.replays.seq(item.index, &item.id).unwrap_or_default(),
            ticket => self.outstanding.seq(ticket),
        }
    }

    /// Carries an order out, or begins to.
    pub(super) fn ordered(&mut self, Taken { order, answer }: Taken) -> Result<(), DeliverError> {
        let (ParkedOrder::Retry(which) | ParkedOrder::Drop(which)) = &order;
        let chosen = self.parking.select(which).into_iter().filter_map(|(table, id)| {
            let seq = self.parking.get(&table, &id)?.seq;
            Some(Retry { table, id, seq })
        });
        let chosen: Vec<Retry> = chosen.collect();
        match order {
            ParkedOrder::Retry(_) => {
                // Their rows are read from the store.
                self.commit()?;
                self.retries.begin(chosen, answer);
                self.answer_retry()
            }
            ParkedOrder::Drop(_) => {
                let mut fates = Vec::with_capacity(chosen.len());
                for Retry { table, id, seq } in chosen {
                    self.parking.remove(&table, &id);
                    tracing::info!(%table, record = seq.0, "a parked change is dropped");
                    fates.push(Fate { table, seq, became: Became::Dropped });
                }
                self.commit()?;
                self.progress.sync()?;
                // Nobody waits for it any more.
                let _ = answer.send(fates);
                Ok(())
            }
        }
    }

    /// Tells whoever ordered a retry what became of it, once that is committed.
    pub(super) fn answer_retry(&mut self) -> Result<(), DeliverError> {
        if let Some((answer, fates)) = self.retries.take_done() {
            self.commit()?;
            let _ = answer.send(fates);
        }
        Ok(())
    }

    /// Encodes the next parked change that is to be sent again; false where there is none, or it has to wait.
    pub(super) fn build_parked(&mut self) -> Result<bool, DeliverError> {
        if self.retries.is_idle() || !self.sweeps.is_idle() || !self.resumed.is_empty() {
            return Ok(false);
        }
        let Some(retry) = self.retries.next_due() else { return Ok(false) };
        let parked = self.parking.get(&retry.table, &retry.id).filter(|parked| parked.seq == retry.seq);
        let Some((version, op)) = parked.map(|parked| (Version(parked.version), parked.op)) else {
            self.retries.decided(retry, Became::Overtaken);
            return self.answer_retry().map(|()| true);
        };
        let Some(ParkedRow { schema, row }) = self.progress.store().parked_row(&retry.table, &retry.id)?
        else {
            self.retries.decided(retry, Became::Overtaken);
            return self.answer_retry().map(|()| true);
        };
        // Only the row is kept: what stood behind that of a key before is not.
        let op = if op == Op::Delete { op } else { Op::Read };
        let change = Change { op, table: TableNo(0), stamp: None, row: Row::new(&row) };
        match self.place_of_parked(&schema, &change) {
            Ok((table, Place::At(index))) => {
                // Above what is settled the change itself is yet to be sent again, behind older ones.
                let is_to_come = retry.seq > self.outstanding.settled();
                if is_to_come || !self.documents.is_at_rest(index, &retry.id) {
                    self.retries.decided(retry, Became::Busy);
                    return self.answer_retry().map(|()| true);
                }
                let (verb, id, ticket) = (table.mapping.verb(op), Arc::clone(&retry.id), Ticket::PARKED);
                let document = ToSend { verb, id, version, ticket };
                match self.encode_change((&table, index), document, &change) {
                    Ok(()) => self.retries.sent(retry),
                    Err(error) => self.refuse_retry(retry, &error)?,
                }
                Ok(true)
            }
            Ok((_, Place::Unseen { spec, expect })) => {
                self.retries.find(retry, *spec, expect, &self.sink, &self.readiness);
                Ok(false)
            }
            Err(error) => self.refuse_retry(retry, &error).map(|()| true),
        }
    }

    fn refuse_retry(&mut self, retry: Retry, error: &DeliverError) -> Result<(), DeliverError> {
        self.retries.decided(retry, Became::Refused { reason: error.to_string() });
        self.answer_retry()
    }

    /// Where a parked row's document goes, by today's rules: they may be what was mended.
    fn place_of_parked(
        &mut self,
        schema: &TableSchema,
        change: &Change<'_>,
    ) -> Result<(Table, Place), DeliverError> {
        let mapping = TableMapping::with_rules(schema, &self.options.rules)?;
        let mut alias = String::new();
        mapping.alias(change.op, mapping.verb(change.op), change.row, &mut alias)?;
        let expect = self.tables.expect_found(&mapping.spec().behind(), &alias, &schema.name)?;
        let spec = mapping.spec();
        let place = match self.tables.to_any_version(spec, &alias) {
            Some(index) => Place::At(index),
            None if self.tables.is_absent(&alias) => return Err(DeliverError::NoIndex { alias }),
            None => {
                let spec = Box::new(self.tables.spec_at(&schema.name, spec, &alias));
                Place::Unseen { spec, expect }
            }
        };
        Ok((Table { mapping, index: None }, place))
    }

    /// The index that a retry waited for was looked for.
    pub(super) fn found_for_retry(&mut self, found: Found) -> Result<(), DeliverError> {
        let Found { table, alias, index } = found;
        let refused = match index {
            Ok(Some(index)) => {
                let refused = self.tables.found(&alias, &table, &index).err().map(|e| e.to_string());
                self.note_indices()?;
                refused
            }
            Ok(None) => {
                self.tables.note_absent(&alias);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(reason) = refused {
            self.retries.refuse(&table, &reason);
        }
        self.answer_retry()
    }

    /// A newer change was put in the place of a parked one in the bulk being built.
    pub(super) fn overtaken(&mut self, index: IndexNo, id: &str) -> Result<(), DeliverError> {
        if let Some(table) = self.tables.table_of(index) {
            self.retries.answered(table, &id.into(), Became::Overtaken);
        }
        self.answer_retry()
    }
}
