//! MariaDB's own events: the GTID that begins a transaction, and the list of GTIDs at the head of a binlog file.
//!
//! # Format
//!
//! A GTID event is the sequence (8), the domain (4) and flags (1); the third part of the GTID, the server that wrote it, stands in the event's
//! head. Then, as the flags announce it, a group commit's number (8) and an XA transaction's id (format 4, two lengths of 1, both parts);
//! then more flags (1) and what those announce. Zeros fill it up to 19 bytes, so that no more flags read as none. (MariaDB,
//! *Gtid_log_event*, sql/log_event.cc.)
//!
//! A list is its length (28 bits) and flags (4 bits), then domain (4), server (4) and sequence (8) each: what was written in files before
//! this one, per domain the last at the end. One with the artificial flag tells a replica that has skipped what it had where it is.
//! (*Gtid_list_log_event*.)
//!
//! `mysql_cdc` reads both; it knows nothing of what follows a GTID's flags, which is read here.

use std::io::Cursor;

use mysql_cdc::events::event_header::EventHeader;
use mysql_cdc::providers::mariadb::events::{gtid_event::GtidEvent, gtid_list_event::GtidListEvent};

use crate::event::gtid::{NUMBER_LIMIT, Origin};
use crate::event::{Gtid, GtidSet, Xid};
use crate::lifecycle::contain;

use super::event::{HEAD, RawEvent};
use super::wire::{Short, Wire};

/// FL_STANDALONE and its neighbours.
const STANDALONE: u8 = 1;
const GROUP_COMMIT_ID: u8 = 2;
const PREPARED_XA: u8 = 64;
const COMPLETED_XA: u8 = 128;

/// FL_EXTRA_MULTI_ENGINE_E1 and its neighbours.
const MULTI_ENGINE: u8 = 1;
const START_ALTER: u8 = 2;
const ROLLBACK_ALTER: u8 = 8;

/// Of a list's first four bytes, those that are its length.
const LIST_LENGTH: u32 = (1 << 28) - 1;

/// What a GTID event says of the transaction that it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GtidBegin {
    pub gtid: Gtid,
    /// One statement is all of it; else an XID, a COMMIT or an XA_PREPARE ends it, and it has no BEGIN.
    pub standalone: bool,
    /// Its statement is the first half of an ALTER in two phases (*binlog_alter_two_phase*), or takes such a half back: the table is what it
    /// was. The second half comes with the same statement in a transaction of its own.
    pub alters_nothing: bool,
    /// It is one of XA, and ends with being prepared: there is no XA START.
    pub prepares: Option<Xid>,
}

/// An event that is no GTID event or list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl From<Short> for Malformed {
    fn from(short: Short) -> Malformed {
        Malformed(short.to_string())
    }
}

impl GtidBegin {
    /// # Errors
    /// The event is malformed, or its sequence is none.
    pub fn parse(event: &RawEvent<'_>) -> Result<GtidBegin, Malformed> {
        let read = |body: &[u8]| GtidEvent::parse(&mut Cursor::new(body), &header(event));
        let parsed = contained(|| read(event.body()))?;
        let (domain, server, number) = (parsed.gtid.domain_id, parsed.gtid.server_id, parsed.gtid.sequence);
        let gtid = gtid(domain, server, number)?;
        let mut wire = Wire::new(event.body());
        wire.take(13)?;
        if parsed.flags & GROUP_COMMIT_ID != 0 {
            wire.u64()?;
        }
        let mut prepares = None;
        if parsed.flags & (PREPARED_XA | COMPLETED_XA) != 0 {
            let format = wire.u32()?;
            let (global, branch) = (usize::from(wire.u8()?), usize::from(wire.u8()?));
            let xid = Xid::new(format, wire.take(global)?, wire.take(branch)?);
            let xid = xid.ok_or_else(|| Malformed("an xid is longer than one may be".to_owned()))?;
            prepares = Some(xid).filter(|_| parsed.flags & PREPARED_XA != 0);
        }
        let more = if wire.is_empty() { 0 } else { wire.u8()? };
        if more & MULTI_ENGINE != 0 {
            wire.u8()?;
        }
        let alters_nothing = more & (START_ALTER | ROLLBACK_ALTER) != 0;
        let standalone = parsed.flags & STANDALONE != 0;
        if alters_nothing && !standalone {
            return Err(Malformed("half an ALTER is more than a statement".to_owned()));
        }
        Ok(GtidBegin { gtid, standalone, alters_nothing, prepares })
    }
}

/// The GTIDs of a list, as the set that they stand for; `None` where the list is of another use (its flags).
///
/// # Errors
/// The event is malformed, or a sequence is none.
pub fn gtid_list(event: &RawEvent<'_>) -> Result<Option<GtidSet>, Malformed> {
    if Wire::new(event.body()).u32()? > LIST_LENGTH {
        return Ok(None);
    }
    let read = |body: &[u8]| GtidListEvent::parse(&mut Cursor::new(body));
    let parsed = contained(|| read(event.body()))?;
    let mut set = GtidSet::default();
    for listed in &parsed.gtid_list.gtids {
        set.insert(&gtid(listed.domain_id, listed.server_id, listed.sequence)?);
    }
    Ok(Some(set))
}

fn gtid(domain: u32, server: u32, number: u64) -> Result<Gtid, Malformed> {
    if !(1..NUMBER_LIMIT).contains(&number) {
        return Err(Malformed(format!("the sequence {number} is none")));
    }
    Ok(Gtid { origin: Origin::Domain { domain, server }, number })
}

fn header(event: &RawEvent<'_>) -> EventHeader {
    EventHeader {
        timestamp: event.seconds(),
        event_type: event.kind(),
        server_id: event.server_id(),
        event_length: (HEAD + event.body().len()) as u32,
        next_event_position: event.end(),
        event_flags: 0,
    }
}

fn contained<T>(read: impl FnOnce() -> Result<T, mysql_cdc::errors::Error>) -> Result<T, Malformed> {
    match contain(read) {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(error)) => Err(Malformed(format!("{error:?}"))),
        Err(panic) => Err(Malformed(panic)),
    }
}

#[cfg(test)]
#[path = "mariadb_tests.rs"]
mod tests;
