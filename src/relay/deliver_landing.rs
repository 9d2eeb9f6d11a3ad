//! What flights and sweeps came to: settled, sent again, or the end.

use metrics::counter;

use super::super::building::Flight;
use super::super::error::DeliverError;
use super::super::flights::{Landing, Returned};
use super::super::outstanding::Ticket;
use super::super::parked_orders::Became;
use super::super::sweeps::{Event, Owed, Sweep, WhatFor};
use super::super::{foreign, id_for_people};
use super::Deliver;
use super::parked::Rows;
use super::replay::Counts;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Version;
use crate::event::document::{Behind, Verb};
use crate::log::Frame;
use crate::log::record::SweepRecord;
use crate::mapping;
use crate::metrics::names;
use crate::settled::{CursorStore, OwedSweep};
use crate::sink::{BulkError, Disposition, Sink};

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    pub(super) fn returned(&mut self, returned: Returned) -> Result<(), DeliverError> {
        match returned {
            Returned::Landing(landing) => self.land(landing),
            Returned::Looked => Ok(()),
        }
    }

    fn land(&mut self, landing: Landing) -> Result<(), DeliverError> {
        let Landing { flight, attempt, result, took } = landing;
        let dispositions = match result {
            Ok(dispositions) => {
                self.sizing.answered(flight.weight(), took);
                self.flights.answered(&flight, took, self.bulk_bytes());
                dispositions
            }
            Err(BulkError::TooLarge { reason }) if is_one_document(&flight) => {
                vec![Disposition::Poison { kind: "too_large", reason }]
            }
            Err(error) => return self.flights.again(flight, attempt, error),
        };
        let mut put_off = Vec::new();
        let mut why = None;
        let (mut superseded, mut parked) = (0_u64, Vec::new());
        let mut rows = Rows::new(self.log.clone());
        for (i, disposition) in dispositions.into_iter().enumerate() {
            let (item, ticket) = (&flight.bulk.items[i], flight.tickets[i]);
            match disposition {
                Disposition::Transient { reason } => {
                    put_off.push(i);
                    why = Some(reason);
                    continue;
                }
                disposition if ticket == Ticket::REPLAYED => {
                    match self.replayed((&flight, i), disposition, &mut rows)? {
                        Counts::Done => {}
                        Counts::Superseded => superseded += 1,
                        Counts::Parked(reason) => parked.push((i, reason)),
                    }
                }
                Disposition::Done => self.taken(item, ticket, Became::Taken),
                Disposition::Superseded { current } => {
                    self.check_writer(&flight, i, current)?;
                    self.taken(item, ticket, Became::Superseded);
                    superseded += 1;
                }
                Disposition::Poison { kind, reason } if item.verb == Verb::Index => {
                    self.park((&flight, i), kind, reason.clone(), &mut rows)?;
                    parked.push((i, reason));
                }
                Disposition::Poison { reason, .. } | Disposition::Definite { reason } => {
                    return Err(self.refused(&flight, i, reason));
                }
            }
            self.outstanding.settle(ticket);
            self.documents.land(item.index, &item.id, &self.building);
        }
        let done = (flight.tickets.len() - put_off.len() - parked.len()) as u64 - superseded;
        self.count("done", done);
        self.count("superseded", superseded);
        self.tell_parked(&flight, &parked);
        if let Some(reason) = why {
            self.count("transient", put_off.len() as u64);
            if self.readiness.obstacle("sink", reason.clone()) {
                tracing::warn!(
                    items = put_off.len(),
                    reason,
                    "the search engine put items off; sending them again"
                );
            }
            let opaque_id = self.flights.next_opaque_id();
            self.flights.put_off(flight.select(&put_off, opaque_id), attempt);
        }
        self.building.reuse(flight);
        if self.flights.all_well() && self.readiness.clear("sink") {
            tracing::info!("the search engine takes everything again");
        }
        if self.parking.is_heavy() {
            self.commit()?;
        }
        self.answer_retry()
    }

    pub(super) fn count(&self, disposition: &'static str, items: u64) {
        let sink = self.options.name.clone();
        counter!(names::SINK_ITEMS, "disposition" => disposition, "sink" => sink).increment(items);
    }

    fn tell_parked(&self, flight: &Flight, parked: &[(usize, String)]) {
        let Some((first, reason)) = parked.first() else { return };
        self.count("parked", parked.len() as u64);
        let item = &flight.bulk.items[*first];
        tracing::warn!(
            items = parked.len(),
            index = self.tables.index_name(item.index),
            document = id_for_people(&item.id),
            reason,
            "the search engine refused documents for good; they are parked, and what it has of them is older: see `everrelay parked ls`"
        );
    }

    /// A conflict with a version that this log never gave is somebody else's.
    pub(super) fn check_writer(
        &self,
        flight: &Flight,
        i: usize,
        current: Option<Version>,
    ) -> Result<(), DeliverError> {
        let item = &flight.bulk.items[i];
        match current {
            Some(current) => {
                let index = || self.tables.index_name(item.index);
                foreign(index, &item.id, current, self.log.highest_version()).map_or(Ok(()), Err)
            }
            // Unseen so far; without the number nobody can say whose version it is.
            None => {
                let reason = "a version conflict that does not say which version is there";
                Err(self.refused(flight, i, reason.to_owned()))
            }
        }
    }

    /// A sweep was read.
    pub(super) fn read_sweep(&mut self, frame: &Frame<'_>) -> Result<(), DeliverError> {
        let record =
            SweepRecord::decode(frame.payload).map_err(|e| DeliverError::undecodable(frame.seq, &e))?;
        let (bound, own) = (record.below(), frame.version);
        if bound > own || (bound < own && !record.of_snapshot) {
            let problem = format!("it is a sweep up to version {bound}, and its own is {own}");
            return Err(DeliverError::Record { seq: frame.seq, problem });
        }
        let ticket = self.outstanding.open(frame.seq);
        let what_for =
            if record.of_snapshot { WhatFor::Snapshot(Some(ticket)) } else { WhatFor::Truncate(ticket) };
        self.owe(Owed { table: record.table, bound, seq: frame.seq, what_for })
    }

    /// Goes on with a sweep that a former run left, if there is one; reading waits for one at a time.
    pub(super) fn resume_sweep(&mut self) -> Result<(), DeliverError> {
        // An index that is being made would be missed.
        if self.sweeps.hold_reading() || self.learning.is_some() || self.held.is_some() {
            return Ok(());
        }
        let Some(OwedSweep { seq, table, below }) = self.resumed.pop() else { return Ok(()) };
        self.owe(Owed { table, bound: Version(below), seq, what_for: WhatFor::Snapshot(None) })
    }

    fn owe(&mut self, owed: Owed) -> Result<(), DeliverError> {
        let behind = mapping::behind(&owed.table, &self.options.rules)?;
        let expect = self.tables.expect_found(&behind, &behind.to_string(), &owed.table)?;
        if let Behind::Alias(alias) = &behind
            && self.tables.seen(alias).is_some()
        {
            self.begin_sweep(owed);
            return Ok(());
        }
        let known = self.tables.aliases_of(&owed.table).cloned().collect();
        self.sweeps.find(owed, behind, known, expect);
        Ok(())
    }

    /// A sweep begins over all indices of its table that were looked at.
    fn begin_sweep(&mut self, owed: Owed) {
        let mut indices = self.tables.seen_of(&owed.table);
        let none = indices.is_empty();
        if !matches!(owed.what_for, WhatFor::Truncate(_)) {
            indices.retain(|index| self.tables.may_have_older(index, owed.bound));
        }
        if !indices.is_empty() {
            return self.sweeps.begin(Sweep { owed, indices }, &mut self.documents);
        }
        let Owed { table, bound, seq, what_for } = owed;
        if none {
            tracing::info!(%table, "the table's older documents are to go, and it has no index");
        } else {
            tracing::info!(%table, "the first load is over: its index was made for it, no older document can be there");
        }
        self.parking.sweep(&table, bound);
        match what_for {
            WhatFor::Truncate(ticket) | WhatFor::Snapshot(Some(ticket)) => self.outstanding.settle(ticket),
            WhatFor::Snapshot(None) => self.progress.swept(seq),
        }
    }

    pub(super) fn swept(&mut self, event: Event) -> Result<(), DeliverError> {
        match event {
            Event::Found { owed, indices } => {
                for (alias, index) in indices {
                    match index {
                        Some(index) => self.tables.check_identity(&alias, &owed.table, &index)?,
                        None => self.tables.note_absent(&alias),
                    }
                }
                self.note_indices()?;
                self.begin_sweep(owed);
            }
            Event::Ended(Sweep { owed, indices }) => {
                match owed.what_for {
                    WhatFor::Truncate(ticket) => {
                        self.parking.sweep(&owed.table, owed.bound);
                        indices.iter().for_each(|index| self.documents.lift(index.no));
                        self.outstanding.settle(ticket);
                    }
                    WhatFor::Snapshot(_) => self.progress.swept(owed.seq),
                }
                self.sweeps.ended(&mut self.documents);
            }
            Event::Stopped => {}
        }
        Ok(())
    }
}

/// Whether a bulk that is too large is so for one document alone.
fn is_one_document(flight: &Flight) -> bool {
    matches!(flight.bulk.items.as_slice(), [item] if item.verb == Verb::Index)
}
