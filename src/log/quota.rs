//! What the log may take of the disk, and what happens at the end of it.
//!
//! # Constraints
//!
//! - No limit ever costs a frame: at one of them nothing more is written, what was written of an unfinished transaction is cut, and the
//!   source is asked again from the log's position.
//! - Nothing waits for what cannot come: a log that is drained as far as it can be takes whatever fits under the second limit, and
//!   what does not is a definite error.
//!
//! # Operation
//!
//! Three limits on the log's bytes: *low* < *quota* < *second*. Above *low*, segments that are kept for a replay alone go (`retention`). At
//! the *quota*, measured at a transaction's end, [`Writer::admit`](super::Writer::admit) answers with a [`Shortage`], and so it does when the disk has
//! less free than the batch and [`LogOptions::keep_free_bytes`](super::LogOptions). An open transaction goes on up to the *second* limit, a quarter above
//! the quota: one of that size that began just below the quota is then never cut, and beside the half of a disk that is the
//! default the quarter is there. Each measurement is published ([`Log::space`]), with or without a change: who waits for
//! a shortage to be over waits for that.
//!
//! Why none of them repeats for ever: a [`Shortage::Quota`] ends below *low*, at least a segment away. A
//! [`Shortage::Transaction`] ends when nothing is left that could go; if the same transaction then does not fit, there is no second one but
//! the error. A [`Shortage::Disk`] ends when a quarter more is free than the attempt took, so attempts grow with what others
//! free, and there are only so many before the transaction fits, or the quota ends them.

use std::fmt;
use std::io;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::error::Step;
use super::held;
use super::shared::{Log, Shared};
use super::{Location, LogOptions};
use crate::disk::{Disk, Reserve};
use crate::event::Seq;

/// What a batch may take beside its last row, bytes: several times what sources fill one to.
const BATCH_BYTES: u64 = 4 << 20;

/// What the log may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quota {
    /// Half of what is free when the log is opened and what it takes then, but never too little to work: the same at every start, as
    /// long as nobody else fills the disk.
    #[default]
    HalfOfDisk,
    /// So many bytes.
    Bytes(u64),
}

/// The quota and what follows from it, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub quota: u64,
    /// What an open transaction may take the log to.
    pub second: u64,
    /// What the log must be under before the source is read again.
    pub low: u64,
    /// Size at which a segment ends: a quota holds several.
    pub segment: u64,
    /// What is left free on the disk.
    pub keep_free: u64,
    /// What must be free before the source is read again.
    pub resume_free: u64,
}

impl LogOptions {
    /// The least quota that works: the last segment never goes, and it may be of one largest frame; beside it the next batch must fit,
    /// with a frame as large.
    #[must_use]
    pub fn least_quota(&self) -> u64 {
        self.max_frame_bytes.saturating_mul(2).saturating_add(BATCH_BYTES)
    }

    /// The limits of a log that takes `taken` bytes where `free` are free.
    #[must_use]
    pub fn limits(&self, taken: u64, free: u64) -> Limits {
        let quota = match self.quota {
            Quota::HalfOfDisk => (free.saturating_add(taken) / 2).max(self.least_quota()),
            Quota::Bytes(bytes) => bytes,
        };
        let segment = self.segment_bytes.min(quota / 8);
        Limits {
            quota,
            second: quota.saturating_add(quota / 4),
            low: (quota - quota / 10).min(quota - segment),
            segment,
            keep_free: self.keep_free_bytes,
            resume_free: self.keep_free_bytes.saturating_add(segment),
        }
    }
}

/// One measurement of the log and its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Measurements are numbered from 1; 0: none yet.
    pub number: u64,
    pub log_bytes: u64,
    /// Free for the log.
    pub free_bytes: u64,
    /// Nothing is left that could go, whatever is settled.
    pub drained: bool,
}

/// Why nothing more is written for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub kind: ShortageKind,
    /// The measurement that found it.
    measured: Space,
    quota: u64,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortageKind {
    /// The log has reached its quota; over when it is under `low`.
    Quota { low: u64 },
    /// An open transaction has reached the second limit, with `bytes` so far; over when the log is drained.
    Transaction { bytes: u64 },
    /// The disk is full; over when `until` bytes are free.
    Disk { until: u64 },
}

impl Shortage {
    pub(super) fn new(kind: ShortageKind, measured: Space, quota: u64) -> Shortage {
        Shortage { kind, measured, quota }
    }

    /// Whether it is over by a later measurement.
    #[must_use]
    pub fn is_over(&self, space: &Space) -> bool {
        let enough = match self.kind {
            ShortageKind::Quota { low } => space.log_bytes <= low || space.drained,
            ShortageKind::Transaction { .. } => space.drained,
            ShortageKind::Disk { until } => space.free_bytes >= until,
        };
        enough && space.number > self.measured.number
    }
}

impl Limits {
    /// Whether there is room for more than the stream: a segment at least, before anything is short. `needed`: what of the log is not settled, bytes.
    #[must_use]
    pub fn has_room_beside(&self, needed: u64, space: &Space) -> bool {
        // Nothing was measured yet: nothing was short.
        let free = space.number == 0 || space.free_bytes >= self.resume_free.saturating_add(self.segment);
        free && needed.saturating_add(self.segment) < self.low
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortage { kind, measured: Space { log_bytes, free_bytes, .. }, quota } = self;
        match kind {
            ShortageKind::Quota { low } => write!(
                f,
                "the log has reached its quota: it has {log_bytes} bytes of {quota} ([log] quota_bytes). The source is read again when \
                 the search engine has taken enough of them to leave {low}"
            ),
            ShortageKind::Transaction { bytes } => write!(
                f,
                "a transaction of {bytes} bytes so far does not fit beside what the log holds, {log_bytes} bytes in all with a quota of \
                 {quota} ([log] quota_bytes). It is read again when the search engine has taken everything before it"
            ),
            ShortageKind::Disk { until } => write!(
                f,
                "the log's disk is full: {free_bytes} bytes are free beside the reserve. The source is read again when there are {until}: free some, \
                 or let the search engine take what the log holds"
            ),
        }
    }
}

impl<D: Disk> Log<D> {
    /// The limits as they were set when the log was opened.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.shared.limits
    }

    /// The last measurement, to wait for the next.
    #[must_use]
    pub fn space(&self) -> watch::Receiver<Space> {
        self.shared.space.subscribe()
    }

    /// Leaves free what `reserve` lacks. Once, before anything is written.
    pub fn leave_room_for(&self, reserve: Reserve<D>) {
        // A second one would only be told that there is one.
        let _ = self.shared.reserve.set(reserve);
    }

    /// What of the log is not settled below the frame `below`, bytes: the segment that it lies in, all after, and what is held before.
    #[must_use]
    pub fn bytes_needed(&self, below: Seq) -> u64 {
        let segments = self.shared.segments();
        let passed = segments.partition_point(|entry| entry.header.first <= below).saturating_sub(1);
        let from = segments.get(passed).map_or(below, |entry| entry.header.first);
        let needed: u64 = segments[passed..].iter().map(|entry| entry.bytes).sum();
        needed.saturating_add(held::held_below(&self.shared.held.places(), from))
    }

    /// What lies between `from` and the visible end, bytes.
    #[must_use]
    pub fn bytes_ahead(&self, from: Location) -> u64 {
        let end = self.visible().end;
        let segments = self.shared.segments();
        let first = segments.partition_point(|entry| entry.header.first < from.segment);
        let before_end = segments[first..].iter().take_while(|entry| entry.header.first < end.segment);
        let whole: u64 = before_end.map(|entry| entry.bytes).sum();
        whole.saturating_add(end.offset).saturating_sub(from.offset)
    }

    /// What undecided XA transactions hold of what is visible, bytes.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        held::held_below(&self.shared.held.places(), Seq(u64::MAX))
    }

    /// Completes when room was asked for since the last time: [`Log::retain`] is due.
    pub async fn room_wanted(&self) {
        self.shared.room_wanted.notified().await;
    }
}

impl<D: Disk> Shared<D> {
    /// # Errors
    /// The system does not say how much is free.
    pub fn measure(&self) -> Result<Space, (Step, io::Error)> {
        // Numbered before it is made: of two made at once, the one with the higher number is not the older.
        let number = self.measurements.fetch_add(1, Ordering::Relaxed) + 1;
        let free_bytes = self.free_bytes()?;
        let visible = self.visible.borrow().end;
        let end = visible.segment;
        let segments = self.segments();
        let log_bytes = segments.iter().map(|entry| entry.bytes).sum();
        let first = segments.first().map_or(end, |entry| entry.header.first);
        let before: u64 =
            segments.iter().take_while(|entry| entry.header.first < end).map(|entry| entry.bytes).sum();
        let held = self.held.places();
        // It is carried between transactions: what one that is open takes is not there then.
        let between = before.saturating_add(visible.offset);
        let fits = held::held_below(&held, end).saturating_add(between) <= self.limits.second;
        // What is held stays where it is not worth carrying, and where there is no room for that.
        let stays = held::is_held(&held, first) && !(fits && held::is_worth(&held, end, before));
        let drained = first >= end || stays;
        Ok(Space { number, log_bytes, free_bytes, drained })
    }

    /// # Errors
    /// The system does not say.
    pub fn free_bytes(&self) -> Result<u64, (Step, io::Error)> {
        let free = self.disk.free_bytes(&self.dir);
        let free = free.and_then(|free| match self.reserve.get() {
            // The log may lie on a file system of its own.
            Some(reserve) => reserve.free_bytes().map(|left| left.min(free)).map_err(io::Error::other),
            None => Ok(free),
        });
        free.map_err(|error| (Step::Measure, error))
    }

    /// An older measurement does not take the place of a newer one.
    pub fn publish_space(&self, space: Space) {
        self.space.send_if_modified(|last| {
            let newer = space.number > last.number;
            if newer {
                *last = space;
            }
            newer
        });
    }
}
