//! Whether there is room for a batch. See `quota` for the limits and why they lose nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Writer;
use crate::disk::Disk;
use crate::event::Seq;
use crate::log::error::WriteError;
use crate::log::quota::{Shortage, ShortageKind, Space};
use crate::log::record::Position;
use crate::log::{Log, Standing};

/// Sum of all segments but the last: they do not change, and there may be many.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sealed {
    segments: usize,
    first: Seq,
    /// Salt of the last segment, which tells it from another that took its place after a cut.
    salt: u32,
    bytes: u64,
}

impl<D: Disk> Writer<D> {
    /// Whether a batch of `bytes` may be appended now; the shortage if not. Nothing may then be appended before [`Writer::abandon`], and from there on
    /// the source must be read again from the writer's position.
    ///
    /// Asked before each batch: at a transaction's end the quota holds, inside a transaction the second limit, and the disk must always have the
    /// batch's bytes and some to spare, so that a frame is not begun on a disk that cannot take it. Costs about a microsecond, for
    /// asking the system what is free.
    ///
    /// # Errors
    /// What would not fit even then is [`WriteError::TransactionTooLarge`]. The system does not say what is free, or what must be known to be durable
    /// cannot be synced.
    pub fn admit(&mut self, bytes: u64) -> Result<Option<Shortage>, WriteError> {
        self.health()?;
        let limits = self.log.shared.limits;
        let taken = self.taken();
        let free = self.log.shared.free_bytes();
        let free = free.map_err(|(step, source)| self.io_in_folder(step, source))?;
        let fits = taken.saturating_add(bytes) <= limits.second;
        let may_begin = self.open.is_some() || taken < limits.quota;
        // Not every file system counts what is written and not synced yet.
        let unsynced = self.written - self.synced;
        let wanted = limits.keep_free.saturating_add(bytes).saturating_add(unsynced);
        if fits && may_begin && free >= wanted {
            self.log.shared.squeezed.store(false, Ordering::Relaxed);
            return Ok(None);
        }
        // What was committed counts as the log's end only when it is visible.
        self.sync()?;
        let space = self.measure()?;
        let so_far = self.open_bytes().saturating_add(bytes);
        // First: a quota that has become smaller since the log was written is no matter of a transaction.
        let kind = if self.open.is_none() && space.log_bytes >= limits.quota && !space.drained {
            ShortageKind::Quota { low: limits.low }
        } else if space.log_bytes.saturating_add(bytes) > limits.second {
            if space.drained {
                let error = self.transaction_too_large(so_far);
                return self.latch(Err(error)).map(|()| None);
            }
            ShortageKind::Transaction { bytes: so_far }
        } else if space.free_bytes < limits.keep_free.saturating_add(bytes) {
            // Enough for what was tried and a quarter more, so that no attempt is like the one before.
            ShortageKind::Disk { until: limits.resume_free.saturating_add(so_far).saturating_add(so_far / 4) }
        } else {
            return Ok(None);
        };
        Ok(Some(self.short(kind, space)))
    }

    /// After a batch with the end of a transaction: the shortage if the log has reached its quota. As after [`Writer::admit`]; what was appended after
    /// the end is cut with it, lest transactions that begin in the batch which ends the one before take the log further and further.
    ///
    /// # Errors
    /// The system does not say what is free, or what was appended cannot be synced.
    pub fn pause_due(&mut self) -> Result<Option<Shortage>, WriteError> {
        self.health()?;
        let limits = self.log.shared.limits;
        if self.taken() < limits.quota {
            return Ok(None);
        }
        self.sync()?;
        let space = self.measure()?;
        let due = space.log_bytes >= limits.quota && !space.drained;
        Ok(due.then(|| self.short(ShortageKind::Quota { low: limits.low }, space)))
    }

    /// The log that is written.
    #[must_use]
    pub fn log(&self) -> &Log<D> {
        &self.log
    }

    fn short(&self, kind: ShortageKind, space: Space) -> Shortage {
        let shared = &self.log.shared;
        // Above the low-water mark what is kept for a replay goes by itself; these ask for all of it.
        if !matches!(kind, ShortageKind::Quota { .. }) {
            shared.squeezed.store(true, Ordering::Relaxed);
        }
        shared.publish_space(space);
        shared.room_wanted.notify_one();
        Shortage::new(kind, space, shared.limits.quota)
    }

    fn measure(&self) -> Result<Space, WriteError> {
        self.log.shared.measure().map_err(|(step, source)| self.io_in_folder(step, source))
    }

    pub(super) fn io_in_folder(&self, step: crate::log::Step, source: std::io::Error) -> WriteError {
        WriteError::Io { step, path: self.log.shared.dir.clone(), source: Arc::new(source) }
    }

    /// What the log takes, bytes.
    pub(super) fn taken(&mut self) -> u64 {
        let segments = self.log.shared.segments();
        let first = segments.first().map_or(Seq(0), |entry| entry.header.first);
        let known = &self.sealed;
        if (known.segments, known.first, known.salt) != (segments.len(), first, self.header.salt) {
            let bytes = segments.iter().rev().skip(1).map(|entry| entry.bytes).sum();
            self.sealed = Sealed { segments: segments.len(), first, salt: self.header.salt, bytes };
            if bytes + self.written > self.log.shared.limits.low {
                // What is settled may go before the quota is reached, and then there is no pause at all.
                self.log.shared.room_wanted.notify_one();
            }
        }
        self.sealed.bytes + self.written
    }

    /// What of it the open transaction takes, bytes; heads and states of its segments are counted with it.
    pub(super) fn open_bytes(&self) -> u64 {
        if self.open.is_none() {
            return 0;
        }
        let (end, _) = self.end;
        let segments = self.log.shared.segments();
        let from = segments.partition_point(|entry| entry.header.first < end.segment);
        let bytes: u64 = segments[from..].iter().map(|entry| entry.bytes).sum();
        bytes.saturating_sub(end.offset)
    }

    fn transaction_too_large(&self, bytes: u64) -> WriteError {
        let limits = self.log.shared.limits;
        let after = match self.standing.as_ref() {
            Some(Standing { position: Position { file, offset, .. }, .. }) if !file.is_empty() => {
                format!("{file}:{offset}")
            }
            standing => {
                let set = standing.map(|standing| standing.gtids.to_string()).unwrap_or_default();
                format!("transactions {}", if set.is_empty() { "none" } else { &set })
            }
        };
        let held = self.standing.as_ref().map_or(0, Standing::held_bytes);
        WriteError::TransactionTooLarge { after, bytes, quota: limits.quota, second: limits.second, held }
    }
}
