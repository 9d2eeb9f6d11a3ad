//! Where in the server's binlog the stream stands, and what says where another one goes on.
//!
//! A stream that goes by place ([`Way::ByPlace`]) sends everything behind it, whether it has a GTID or not. The log then goes on by place as well, until a set says
//! the same: from the head of a file on, where PREVIOUS_GTIDS lists all GTIDs of the files before it, and as long as every transaction has one.

use crate::event::{Gtid, GtidSet};
use crate::log::Noted;
use crate::log::record::{Batch, Position};

use super::super::error::MysqlError;
use super::super::event::{RawEvent, kind};
use super::super::place::{FILE_HEAD, Way};
use super::super::previous::{Malformed, previous_gtids};
use super::super::wire::Wire;
use super::Binlog;

/// Longest name of a binlog file, bytes (MySQL's FN_REFLEN).
const FILE_NAME: usize = 512;

/// What says where to go on.
#[derive(Debug, Default)]
pub(super) enum Going {
    /// The set: the server leaves out what is in it.
    #[default]
    BySet,
    ByPlace {
        /// GTIDs that stand before, and in no list of what the files before hold: purged, or never in the binlog.
        before: GtidSet,
        /// The set has all GTIDs before our place, and every transaction since the head of a file has one.
        is_whole: bool,
        until: Option<Until>,
    },
}

/// What is sent up to an offset was read by an earlier connection.
#[derive(Debug)]
pub(super) struct Until {
    offset: u64,
    /// An event ended there.
    met: bool,
}

impl Going {
    pub(super) fn is_by_place(&self) -> bool {
        matches!(self, Going::ByPlace { .. })
    }

    /// A transaction without a GTID comes.
    pub(super) fn no_gtid(&mut self) {
        if let Going::ByPlace { is_whole, .. } = self {
            *is_whole = false;
        }
    }

    /// Whether behind a transaction with this GTID the place alone says where to go on.
    pub(super) fn needs_place(&self, gtid: Option<&Gtid>) -> bool {
        match self {
            Going::BySet => false,
            Going::ByPlace { is_whole, .. } => gtid.is_none() || !is_whole,
        }
    }
}

impl Binlog {
    /// How the new stream goes on. `gives_gtids`: every transaction of the server's has one.
    pub fn goes(&mut self, way: &Way, gives_gtids: bool) {
        self.gives_gtids = gives_gtids;
        self.going = match way {
            Way::BySet => Going::BySet,
            Way::ByPlace { before, from, offset, .. } => Going::ByPlace {
                before: before.clone(),
                is_whole: false,
                until: (u64::from(*from) != *offset).then_some(Until { offset: *offset, met: false }),
            },
        };
    }

    /// Every transaction has a GTID, so that sets tell what a connection shows.
    #[must_use]
    pub fn gives_gtids(&self) -> bool {
        self.gives_gtids
    }

    /// Where the last transaction ended; its file is empty before there was one.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Notes where the event ends.
    pub(super) fn moves(&mut self, event: &RawEvent<'_>) {
        let is_heartbeat = matches!(event.kind(), kind::HEARTBEAT | kind::HEARTBEAT_V2);
        // By place no event is left out, so that a heartbeat has no news.
        if !(is_heartbeat && self.going.is_by_place()) {
            self.advance(event.end(), if event.is_artificial() { 0 } else { event.size() });
        }
    }

    /// `end`: the offset's lower 32 bits; files grow past them within a large transaction. Inside one MariaDB 11.8
    /// does not say it: there `size`, the event's bytes, tell people about where it is.
    pub(super) fn advance(&mut self, end: u32, size: usize) {
        if end != 0 {
            let (high, low) = (self.place.offset >> 32, self.place.offset & 0xffff_ffff);
            let high = if u64::from(end) < low { high + 1 } else { high };
            self.place.offset = high << 32 | u64::from(end);
        } else if self.transaction.is_some() {
            self.place.offset = self.place.offset.saturating_add(size as u64);
        }
    }

    /// Whether an earlier connection read the event. Its offset could not be asked for: it is behind 4 GiB.
    pub(super) fn was_read(&mut self, event: &RawEvent<'_>) -> Result<bool, MysqlError> {
        let Going::ByPlace { until: Some(until), .. } = &mut self.going else { return Ok(false) };
        if event.is_artificial() || event.end() == 0 {
            return Ok(false);
        }
        if self.place.offset <= until.offset {
            // All events of a payload end where it does.
            until.met = self.place.offset == until.offset;
            return Ok(true);
        }
        self.passes()?;
        Ok(false)
    }

    /// What comes now stands behind the offset up to which all was read.
    fn passes(&mut self) -> Result<(), MysqlError> {
        let Going::ByPlace { until, .. } = &mut self.going else { return Ok(()) };
        match until.take() {
            Some(Until { offset, met: false }) => {
                Err(self.garbled(format!("no event ends at {offset}, where the log goes on")))
            }
            _ => Ok(()),
        }
    }

    /// Where an event began; 0 where the server does not say where it ends.
    pub(super) fn beginning(&self, event: &RawEvent<'_>) -> u64 {
        if event.end() == 0 { 0 } else { self.place.offset.saturating_sub(event.size() as u64) }
    }

    pub(super) fn rotate(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("a ROTATE event")?;
        let mut wire = Wire::new(event.body());
        let offset = wire.u64().map_err(self.short("a ROTATE event"))?;
        if wire.len() > FILE_NAME {
            return Err(self.garbled("a ROTATE event names a file longer than a path may be"));
        }
        let file = String::from_utf8_lossy(wire.rest()).into_owned();
        if !self.place.file.is_empty() && self.place.file != file {
            self.passes()?;
        }
        (self.place.file, self.place.offset) = (file, offset);
        Ok(())
    }

    /// A file begins, or the server describes one in whose middle it goes on. A place at its head is as good as the end of the last transaction, whose file may be
    /// purged while nothing else is written.
    pub(super) fn described(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("a FORMAT_DESCRIPTION event")?;
        if !self.going.is_by_place() || event.end() == 0 {
            return Ok(());
        }
        self.position = Position {
            server: self.server.uuid,
            file: self.place.file.clone(),
            by_place: self.position.file.is_empty() || self.position.by_place,
            began: FILE_HEAD,
            offset: FILE_HEAD,
        };
        self.last_micros = u64::from(event.seconds()) * 1_000_000;
        self.marks.folded();
        Ok(())
    }

    /// The GTIDs of all files before this one.
    pub(super) fn previous_gtids(
        &mut self,
        event: &RawEvent<'_>,
        batch: &mut Batch,
    ) -> Result<(), MysqlError> {
        let Going::ByPlace { before, is_whole, .. } = &mut self.going else { return Ok(()) };
        let mut set = match previous_gtids(event.body()) {
            Ok(set) => set,
            Err(Malformed(problem)) => {
                return Err(self.garbled(format!("a PREVIOUS_GTIDS event is malformed: {problem}")));
            }
        };
        set.union(before);
        *is_whole = true;
        self.between_transactions("a PREVIOUS_GTIDS event")?;
        if !set.is_subset(&self.gtids) {
            self.gtids.union(&set);
            // Before a commit that says that the set is all.
            self.mark(Noted::default(), batch);
        }
        Ok(())
    }
}
