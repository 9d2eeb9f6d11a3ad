//! How fast rows of snapshots may come: no faster than the deliver side takes them, so that a change of the stream never waits long behind them.
//!
//! # Constraints
//!
//! The stream has priority: it is never held back by this. What a snapshot adds stands before later changes of the stream in the log, so
//! what is yet to be read there is kept to what the deliver side reads in [`AHEAD`]. With the log's room in sight nothing is added.
//!
//! # Operation
//!
//! The deliver side says how far it has read ([`Pacing::read`]) and whether there is room ([`Pacing::room`]); a source asks before each chunk. What
//! was appended and did not become visible yet is not counted: that is bounded by the queue of the log's writer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::log::Visible;

/// What may be ahead of the deliver side, as the time that it takes to read it.
const AHEAD: Duration = Duration::from_millis(250);

/// What may be ahead of it whatever its rate, and at most, bytes: a chunk or two, so that it need not wait for the next.
const AHEAD_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 20;

/// Over how long its rate is smoothed.
const SMOOTHED_OVER: Duration = Duration::from_secs(1);

/// What the source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leave {
    /// Rows may be added while fewer bytes than this became visible, by [`Visible::bytes`].
    below: u64,
    /// The log has room.
    room: bool,
}

/// Says whether rows of snapshots may be added to the log.
#[derive(Clone, Debug)]
pub struct Pace {
    /// `None`: always.
    held: Option<(watch::Receiver<Leave>, watch::Receiver<Visible>)>,
}

impl Pace {
    /// Nobody holds the source back.
    #[must_use]
    pub fn free() -> Pace {
        Pace { held: None }
    }

    #[must_use]
    pub fn may_add(&self) -> bool {
        self.held.as_ref().is_none_or(|(leave, visible)| allows(*leave.borrow(), &visible.borrow()))
    }

    /// Completes when rows may be added; never where whoever holds the source back is gone. Cancel safe.
    pub async fn until_may_add(&self) {
        let Some((leave, visible)) = &self.held else { return };
        let mut leave = leave.clone();
        let allowed = leave.wait_for(|leave| allows(*leave, &visible.borrow())).await.is_ok();
        if !allowed {
            std::future::pending().await
        }
    }
}

fn allows(leave: Leave, visible: &Visible) -> bool {
    leave.room && visible.bytes < leave.below
}

/// The deliver side's end of a [`Pace`].
#[derive(Clone, Debug)]
pub struct Pacing {
    leave: watch::Sender<Leave>,
    visible: watch::Receiver<Visible>,
    rate: Arc<Mutex<Rate>>,
}

impl Pacing {
    /// `visible`: of the log that is delivered.
    #[must_use]
    pub fn new(visible: watch::Receiver<Visible>) -> Pacing {
        let below = visible.borrow().bytes + AHEAD_BYTES.start();
        Pacing { leave: watch::Sender::new(Leave { below, room: true }), visible, rate: Arc::default() }
    }

    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace { held: Some((self.leave.subscribe(), self.visible.clone())) }
    }

    /// At the time `now` all but the last `unread` bytes of what is visible were read.
    pub fn read(&self, unread: u64, now: Instant) {
        let read = self.visible.borrow().bytes.saturating_sub(unread);
        let per_second = self.rate.lock().unwrap_or_else(PoisonError::into_inner).observe(read, now);
        let ahead = (per_second * AHEAD.as_secs_f64()) as u64;
        let below = read.saturating_add(ahead.clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end()));
        self.change(|leave| Leave { below, ..leave });
    }

    /// Whether the log has room for more than the stream.
    pub fn room(&self, room: bool) {
        self.change(|leave| Leave { room, ..leave });
    }

    fn change(&self, change: impl FnOnce(Leave) -> Leave) {
        self.leave.send_if_modified(|leave| {
            let new = change(*leave);
            std::mem::replace(leave, new) != new
        });
    }
}

/// How fast the deliver side reads, bytes a second.
#[derive(Debug, Default)]
struct Rate {
    last: Option<(u64, Instant)>,
    per_second: f64,
}

impl Rate {
    fn observe(&mut self, read: u64, now: Instant) -> f64 {
        let Some((before, then)) = self.last else {
            self.last = Some((read, now));
            return self.per_second;
        };
        let passed = now.saturating_duration_since(then).as_secs_f64();
        // What is read at once says little of a rate.
        if passed >= 0.01 {
            let rate = read.saturating_sub(before) as f64 / passed;
            let weight = 1.0 - (-passed / SMOOTHED_OVER.as_secs_f64()).exp();
            self.per_second += weight * (rate - self.per_second);
            self.last = Some((read, now));
        }
        self.per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn appended(visible: &watch::Sender<Visible>, bytes: u64) {
        visible.send_modify(|visible| visible.bytes += bytes);
    }

    #[test]
    fn rows_are_added_while_little_is_ahead_of_the_deliver_side_and_there_is_room() {
        let visible = watch::Sender::new(Visible::default());
        let pacing = Pacing::new(visible.subscribe());
        let (pace, now) = (pacing.pace(), Instant::now());
        assert!(pace.may_add());
        appended(&visible, MIB);
        assert!(!pace.may_add());
        pacing.read(MIB / 2, now);
        assert!(pace.may_add());
        pacing.room(false);
        assert!(!pace.may_add());
        pacing.room(true);
        assert!(pace.may_add() && Pace::free().may_add());
    }

    #[test]
    fn what_may_be_ahead_is_what_a_quarter_of_a_second_takes_to_read() {
        let visible = watch::Sender::new(Visible::default());
        let pacing = Pacing::new(visible.subscribe());
        let (pace, start) = (pacing.pace(), Instant::now());
        // 20 MiB a second for long enough.
        for tenth in 0..100 {
            pacing.read(0, start + Duration::from_millis(100 * tenth));
            appended(&visible, 2 * MIB);
        }
        pacing.read(0, start + Duration::from_secs(10));
        appended(&visible, 4 * MIB);
        assert!(pace.may_add());
        appended(&visible, MIB + MIB / 4);
        assert!(!pace.may_add());
        // It stands still: the rate is forgotten, the least stays.
        pacing.read(0, start + Duration::from_secs(60));
        appended(&visible, MIB - 1);
        assert!(pace.may_add());
        appended(&visible, 1);
        assert!(!pace.may_add());
    }

    #[tokio::test]
    async fn who_waits_goes_on_when_enough_was_read() {
        let visible = watch::Sender::new(Visible::default());
        let pacing = Pacing::new(visible.subscribe());
        let pace = pacing.pace();
        Pace::free().until_may_add().await;
        pace.until_may_add().await;
        appended(&visible, 2 * MIB);
        let waits = tokio::spawn(async move { pace.until_may_add().await });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished());
        pacing.read(0, Instant::now());
        waits.await.unwrap();
    }
}
