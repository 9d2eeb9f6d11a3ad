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
//!
//! Of several sinks the slowest says how fast, of those that read: one that has read nothing for [`STILL`] is away, and does not hold the snapshot for the
//! others. Its changes wait behind the rows that are added meanwhile, and would wait for its engine anyhow. The room is for all of them: what a sink that is away has
//! not settled fills the log, so the snapshot waits with the quota in sight, and the source is not paused because of rows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::log::Visible;

/// What may be ahead of the deliver side, as the time that it takes to read it.
const AHEAD: Duration = Duration::from_millis(250);

/// What may be ahead of it whatever its rate, and at most, bytes: a chunk or two, so that it need not wait for the next.
const AHEAD_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=16 << 20;

/// How long a sink may read nothing, of several, before the others' pace is taken.
const STILL: Duration = Duration::from_secs(10);

/// How often several are asked.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Over how long its rate is smoothed.
const SMOOTHED_OVER: Duration = Duration::from_secs(1);

/// What the source may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leave {
    /// Rows may be added while fewer bytes than this became visible, by [`Visible::bytes`].
    below: u64,
    /// The log has room.
    room: bool,
    /// When more was read last.
    moved: Instant,
}

/// Says whether rows of snapshots may be added to the log.
#[derive(Clone, Debug)]
pub struct Pace {
    /// By each sink; none: always.
    held: Vec<(watch::Receiver<Leave>, watch::Receiver<Visible>)>,
}

impl Pace {
    /// Nobody holds the source back.
    #[must_use]
    pub fn free() -> Pace {
        Pace { held: Vec::new() }
    }

    /// As all of these allow it together.
    #[must_use]
    pub fn of_all(paces: impl IntoIterator<Item = Pace>) -> Pace {
        Pace { held: paces.into_iter().flat_map(|pace| pace.held).collect() }
    }

    #[must_use]
    pub fn may_add(&self) -> bool {
        self.may_add_at(Instant::now())
    }

    fn may_add_at(&self, now: Instant) -> bool {
        let mut some_allows = self.held.is_empty();
        for (leave, visible) in &self.held {
            let (is_there, leave) = (leave.has_changed().is_ok(), *leave.borrow());
            let is_still = !is_there || now.saturating_duration_since(leave.moved) >= STILL;
            match allows(leave, &visible.borrow()) {
                true => some_allows = true,
                false if is_still && leave.room => {}
                false => return false,
            }
        }
        some_allows
    }

    /// Completes when rows may be added; never where whoever holds the source back is gone. Cancel safe.
    pub async fn until_may_add(&self) {
        match self.held.as_slice() {
            [] => {}
            [(leave, visible)] => {
                let mut leave = leave.clone();
                let allowed = leave.wait_for(|leave| allows(*leave, &visible.borrow())).await.is_ok();
                if !allowed {
                    std::future::pending().await
                }
            }
            // That one is away shows by nothing but time.
            _ => {
                while !self.may_add() {
                    tokio::time::sleep(ASK_EVERY).await;
                }
            }
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
        let leave = Leave { below, room: true, moved: Instant::now() };
        Pacing { leave: watch::Sender::new(leave), visible, rate: Arc::default() }
    }

    #[must_use]
    pub fn pace(&self) -> Pace {
        Pace { held: vec![(self.leave.subscribe(), self.visible.clone())] }
    }

    /// At the time `now` all but the last `unread` bytes of what is visible were read.
    pub fn read(&self, unread: u64, now: Instant) {
        let read = self.visible.borrow().bytes.saturating_sub(unread);
        let (moved, per_second) = {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            (std::mem::replace(&mut rate.upto, read) != read, rate.observe(read, now))
        };
        let ahead = (per_second * AHEAD.as_secs_f64()) as u64;
        let below = read.saturating_add(ahead.clamp(*AHEAD_BYTES.start(), *AHEAD_BYTES.end()));
        self.change(|leave| Leave { below, moved: if moved { now } else { leave.moved }, ..leave });
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
    /// What was read when it was told last.
    upto: u64,
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

    #[test]
    fn of_several_sinks_the_slowest_that_reads_says_how_fast_and_one_that_is_away_holds_nothing_but_the_room()
    {
        let visible = watch::Sender::new(Visible::default());
        let (a, b) = (Pacing::new(visible.subscribe()), Pacing::new(visible.subscribe()));
        let (pace, start) = (Pace::of_all([a.pace(), b.pace()]), Instant::now());
        let second = |seconds| start + Duration::from_secs(seconds);
        appended(&visible, 2 * MIB);
        a.read(0, second(1));
        b.read(MIB + MIB / 2, second(1));
        assert!(!pace.may_add_at(second(1)), "the slowest");
        b.read(0, second(2));
        assert!(pace.may_add_at(second(2)));
        // b reads nothing more.
        appended(&visible, 4 * MIB);
        a.read(0, second(11));
        b.read(4 * MIB, second(11));
        assert!(!pace.may_add_at(second(11)), "it may be back in a moment");
        assert!(pace.may_add_at(second(13)), "it is away");
        b.room(false);
        assert!(!pace.may_add_at(second(13)), "and its changes take the room");
        b.room(true);
        // It is back.
        b.read(3 * MIB, second(14));
        assert!(!pace.may_add_at(second(14)));
        // Who has read everything is not away, however long ago that was.
        assert!(pace.may_add_at(second(60)));
        // Nobody reads.
        appended(&visible, 2 * MIB);
        assert!(!pace.may_add_at(second(60)));
        // The slower one is gone for good, and the other reads.
        a.read(MIB, second(60));
        a.read(0, second(61));
        drop(b);
        assert!(pace.may_add_at(second(61)));
        let gone = Pace::of_all([a.pace()]);
        appended(&visible, 20 * MIB);
        drop(a);
        assert!(!gone.may_add_at(second(62)) && !pace.may_add_at(second(62)));
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
