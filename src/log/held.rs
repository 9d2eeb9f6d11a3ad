//! What undecided XA transactions hold of the log: it is not removed before it is carried forward.
//!
//! # Operation
//!
//! The writer publishes, with what becomes visible, where rows are held ([`HeldPlaces::publish`]). Retention removes no segment from the first of those places on. Where
//! such a segment is due it asks the writer to carry the rows forward ([`HeldPlaces::ask`]): the writer copies them to the log's end, between
//! transactions, and once that is durable the segment may go.
//!
//! Carrying costs writing, so it waits until [`WORTH`] times as many bytes go with it: an XA transaction that stays undecided for days holds that much of
//! the log beside what is needed anyway, and adds a [`WORTH`]th to what is written. It also bounds what the log takes meanwhile: at its quota, with everything
//! settled, that is a quarter more, the second limit.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::shared::lock;
use super::standing::Standing;
use crate::event::Seq;

/// How many times what is carried must go with it.
const WORTH: u64 = 4;

/// Where one transaction's rows are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// First frame of the segment that they begin in.
    pub segment: Seq,
    pub bytes: u64,
}

/// All places behind what is visible.
#[derive(Debug, Default)]
pub(super) struct HeldPlaces {
    spans: Mutex<Arc<[Span]>>,
    /// What is held below this segment is to be carried forward; 0 for nothing.
    wanted: AtomicU64,
}

/// As a standing has them.
pub(super) fn spans(standing: Option<&Standing>) -> Arc<[Span]> {
    let prepared = standing.map(|standing| standing.prepared.as_slice()).unwrap_or_default();
    let held = prepared.iter().filter_map(|prepared| prepared.held);
    held.map(|held| Span { segment: held.at.segment, bytes: held.bytes }).collect()
}

impl HeldPlaces {
    pub fn publish(&self, spans: Arc<[Span]>) {
        *lock(&self.spans) = spans;
    }

    pub fn places(&self) -> Arc<[Span]> {
        Arc::clone(&lock(&self.spans))
    }

    /// What is held below the segment `upto` is to be carried forward.
    pub fn ask(&self, upto: Seq) {
        self.wanted.store(upto.0, Ordering::Relaxed);
    }

    /// Asked by the writer at each end of a transaction.
    #[inline]
    pub fn is_to_be_carried(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }

    /// Up to which segment, and that it was taken in.
    pub fn take_wanted(&self) -> Seq {
        Seq(self.wanted.swap(0, Ordering::Relaxed))
    }
}

/// Whether something is held in the segment `first` or before.
pub(super) fn is_held(spans: &[Span], first: Seq) -> bool {
    spans.iter().any(|span| span.segment <= first)
}

/// Whether `bytes` of segments, all that lies below the segment `upto`, are worth carrying forward what is held in them.
pub(super) fn is_worth(spans: &[Span], upto: Seq, bytes: u64) -> bool {
    held_below(spans, upto).saturating_mul(WORTH) <= bytes
}

/// What is held below the segment `upto`, bytes.
pub(super) fn held_below(spans: &[Span], upto: Seq) -> u64 {
    spans.iter().filter(|span| span.segment < upto).fold(0, |sum, span| sum.saturating_add(span.bytes))
}
