//! Room: letting segments go, holding the disk reserve, and saying how long what is left will last.
//!
//! Everything here blocks, so it runs on a thread for that, once a second and at once when the writer has no room. What it finds it publishes:
//! the log's own measurement wakes a source that waits for room, and [`Outlook`] is what operators see.

use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;

use super::committer::Carrier;
use super::error::RelayError;
use crate::clock::Clock;
use crate::disk::{Disk, Reserve};
use crate::event::Seq;
use crate::lifecycle::Shutdown;
use crate::log::{Limits, Log, Needed, Space};
use crate::metrics::{LONG_SECONDS, names};
use crate::settled::{Cursor, CursorStore, Replay, SettledError};

/// How often the cursor is made durable, and segments that nobody needs any more are looked for: a killed relay sends about this
/// much again.
const RETAIN_EVERY: Duration = Duration::from_secs(1);

/// The rate of the log's growth is that of about so long.
const SMOOTHED_OVER: Duration = Duration::from_secs(60);

/// Lets segments go that lie behind the slowest cursor, past the retention, and before what a replay is yet to read.
pub struct Retention<C, D: Disk, T> {
    log: Log<D>,
    cursors: Vec<Held<C>>,
    clock: T,
    started: Started,
    reserve: Reserve<D>,
    /// Has rows of undecided XA transactions carried forward where they are in the way.
    carrier: Carrier,
    /// Up to here every cursor is durable.
    synced: Seq,
    /// What each cursor, as it is durable, does not need any more, and its replay.
    durable: Vec<(Seq, Option<Replay>)>,
    growth: Growth,
    outlook: watch::Sender<Outlook>,
}

/// A cursor that the log is kept for.
#[derive(Debug)]
pub struct Held<C> {
    pub store: C,
    /// Where it will stand at least, while there is none.
    pub joins: Seq,
}

/// How much room there is, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Free on the disk for the log, bytes.
    pub free_bytes: u64,
    /// Held back, bytes.
    pub reserve_bytes: u64,
    /// How long the search engine could be away before the source is paused, at the rate at which changes come; at most [`LONG_SECONDS`].
    pub outage_seconds: u64,
}

impl<C: CursorStore, D: Disk, T: Clock> Retention<C, D, T> {
    #[must_use]
    pub fn new(log: Log<D>, store: C, clock: T, reserve: Reserve<D>, carrier: Carrier) -> Self {
        Retention::of_all(log, vec![Held { store, joins: Seq(0) }], clock, reserve, carrier)
    }

    /// For as long as any of these cursors needs it.
    #[must_use]
    pub fn of_all(
        log: Log<D>,
        cursors: Vec<Held<C>>,
        clock: T,
        reserve: Reserve<D>,
        carrier: Carrier,
    ) -> Self {
        let (synced, growth, outlook) = (Seq(0), Growth::default(), watch::Sender::default());
        let started = Started { wall_micros: clock.wall_micros(), since_boot: clock.since_boot() };
        Retention {
            log,
            cursors,
            clock,
            started,
            reserve,
            carrier,
            synced,
            durable: Vec::new(),
            growth,
            outlook,
        }
    }

    /// What it finds, from the first time on that it looks.
    #[must_use]
    pub fn outlook(&self) -> watch::Receiver<Outlook> {
        self.outlook.subscribe()
    }

    /// # Errors
    /// What a segment's removal, the cursor's sync or the reserve says; all of it is definite.
    pub async fn run(self, shutdown: &Shutdown) -> Result<(), RelayError> {
        let mut this = self;
        let log = this.log.clone();
        loop {
            let once = tokio::task::spawn_blocking(move || this.retain().map(|()| this));
            this = match once.await {
                Ok(result) => result?,
                Err(failed) => std::panic::resume_unwind(Box::new(failed.to_string())),
            };
            tokio::select! {
                () = tokio::time::sleep(RETAIN_EVERY) => {}
                () = log.room_wanted() => {}
                () = shutdown.wait() => return Ok(()),
            }
        }
    }

    fn retain(&mut self) -> Result<(), RelayError> {
        let now = self.look()?;
        if now != self.durable {
            // The cursors are made durable first: a segment goes only behind a cursor that no power loss takes back, and behind a replay that has ended
            // for good. What is committed meanwhile is higher, and does no harm. Each that moved is made durable, and not only the slowest: a killed relay
            // sends again what is not.
            self.cursors.iter_mut().try_for_each(|held| held.store.sync())?;
            self.durable = now;
            self.synced = self.durable.iter().map(|(done, _)| *done).min().unwrap_or_default();
        }
        let limits = self.log.limits();
        // Before anybody is told of the room that it takes.
        if self.reserve.renew(limits.keep_free)? {
            tracing::info!(bytes = self.reserve.held_bytes(), "the disk reserve is held");
        }
        let replays = self.durable.iter().filter_map(|(_, replay)| replay.as_ref()?.needs());
        let needed = Needed { below: self.synced.next(), replay: replays.min() };
        let retained = self.log.retain(needed, self.started.wall_now(&self.clock))?;
        if retained.carry {
            self.carrier.carry();
        }
        self.observe(limits);
        Ok(())
    }

    /// What each cursor does not need any more, and its replay.
    fn look(&self) -> Result<Vec<(Seq, Option<Replay>)>, SettledError> {
        let look = |Held { store, joins }: &Held<C>| {
            let cursor = store.load()?.unwrap_or_else(|| Cursor { seq: *joins, ..Cursor::default() });
            Ok((cursor.done(), cursor.replay))
        };
        self.cursors.iter().map(look).collect()
    }

    fn observe(&mut self, limits: Limits) {
        let (stats, space) = (self.log.stats(), *self.log.space().borrow());
        let per_second = self.growth.observe(self.clock.since_boot(), self.log.visible().bytes);
        let room = room_left(limits, space, self.log.bytes_needed(self.synced.next()));
        let outlook = Outlook {
            free_bytes: space.free_bytes,
            reserve_bytes: self.reserve.held_bytes(),
            outage_seconds: seconds_left(room, per_second),
        };
        self.outlook.send_replace(outlook);
        gauge!(names::LOG_BYTES).set(stats.bytes as f64);
        gauge!(names::LOG_SEGMENTS).set(stats.segments as f64);
        gauge!(names::LOG_HELD).set(self.log.held_bytes() as f64);
        gauge!(names::LOG_QUOTA).set(limits.quota as f64);
        gauge!(names::OUTAGE_LEFT).set(outlook.outage_seconds as f64);
        gauge!(names::DISK_FREE).set(outlook.free_bytes as f64);
        gauge!(names::DISK_RESERVE).set(outlook.reserve_bytes as f64);
    }
}

/// When this run began.
#[derive(Clone, Copy, Debug)]
struct Started {
    wall_micros: u64,
    since_boot: Duration,
}

impl Started {
    /// The wall's time, but no later than what has passed since the start: a clock that is set forward must not end the time for which segments are
    /// kept for a replay. One that is set back lengthens it.
    fn wall_now(&self, clock: &impl Clock) -> u64 {
        let passed = clock.since_boot().saturating_sub(self.since_boot).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        clock.wall_micros().min(self.wall_micros.saturating_add(passed))
    }
}

/// Bytes that the log can still take in: of what it may have, what is not needed gives way.
fn room_left(limits: Limits, space: Space, needed: u64) -> u64 {
    let by_disk = space.log_bytes.saturating_add(space.free_bytes.saturating_sub(limits.keep_free));
    limits.quota.min(by_disk).saturating_sub(needed)
}

fn seconds_left(room: u64, per_second: f64) -> u64 {
    let seconds = room as f64 / per_second;
    // Not a number where both are 0: no room is no time.
    if room == 0 || seconds.is_nan() { 0 } else { (seconds as u64).min(LONG_SECONDS) }
}

/// How fast the log grows, bytes a second, smoothed.
#[derive(Debug, Default)]
struct Growth {
    last: Option<(Duration, u64)>,
    per_second: Option<f64>,
}

impl Growth {
    /// `appended`: bytes so far, at the time `now`.
    fn observe(&mut self, now: Duration, appended: u64) -> f64 {
        let Some((then, before)) = self.last.replace((now, appended)) else { return 0.0 };
        let seconds = now.saturating_sub(then).as_secs_f64();
        if seconds > 0.0 {
            let rate = appended.saturating_sub(before) as f64 / seconds;
            let weight = 1.0 - (-seconds / SMOOTHED_OVER.as_secs_f64()).exp();
            let smoothed = self.per_second.map_or(rate, |old| old + weight * (rate - old));
            self.per_second = Some(smoothed);
        }
        self.per_second.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::committer::Committer;
    use super::*;
    use crate::clock::SystemClock;
    use crate::disk::SystemDisk;
    use crate::log::LogOptions;
    use crate::settled::{MemoryCursor, Replayed};

    #[test]
    fn the_rate_follows_the_growth_of_about_a_minute() {
        let mut growth = Growth::default();
        assert_eq!(growth.observe(Duration::ZERO, 500), 0.0);
        let mut appended = 500;
        let mut rate = 0.0;
        for second in 1..=60 {
            appended += 1000;
            rate = growth.observe(Duration::from_secs(second), appended);
            assert!((rate - 1000.0).abs() < 1e-6, "{rate}");
        }
        for second in 61..=120 {
            rate = growth.observe(Duration::from_secs(second), appended);
        }
        assert!((300.0..450.0).contains(&rate), "a minute without growth leaves a third: {rate}");
        let same = growth.observe(Duration::from_secs(120), appended);
        assert_eq!(same, rate, "no time, no news");
    }

    /// A state folder with a log that has just begun.
    fn folder() -> (tempfile::TempDir, Log<SystemDisk>, Reserve<SystemDisk>, Committer) {
        let dir = tempfile::tempdir().unwrap();
        let opened =
            crate::log::open(&SystemDisk, &SystemClock, &dir.path().join("log"), LogOptions::default());
        let opened = opened.unwrap();
        let reserve = Reserve::open(SystemDisk, &dir.path().join("reserve"), 0).unwrap();
        (dir, opened.log, reserve, Committer::start(opened.writer).unwrap())
    }

    #[tokio::test]
    async fn how_far_a_replay_is_becomes_durable_where_nothing_else_moves() {
        let (_dir, log, reserve, committer) = folder();
        let kept = MemoryCursor::default();
        let mut retention = Retention::new(log, kept.clone(), SystemClock, reserve, committer.carrier());
        let mut store = kept.clone();
        for place in 0..3 {
            let replay = Replay {
                number: 1,
                from: Seq(1),
                end: Seq(9),
                tables: Vec::new(),
                indices: Vec::new(),
                since_micros: 1,
                slice: ([0; 2], [u64::MAX; 2]),
                place: Seq(place),
                horizon: Seq(9),
                noted: Seq(9),
                counts: Replayed::default(),
                ended: None,
            };
            let cursor = Cursor { seq: Seq(9), replay: Some(replay), ..Cursor::default() };
            store.commit(&cursor).unwrap();
            retention.retain().unwrap();
            assert_eq!(kept.synced(), Some(cursor));
        }
        committer.finish().await.unwrap();
    }

    #[tokio::test]
    async fn a_cursor_becomes_durable_where_the_slowest_stands_still() {
        let (_dir, log, reserve, committer) = folder();
        let (moves, stands) = (MemoryCursor::default(), MemoryCursor::default());
        let held = |store: &MemoryCursor| Held { store: store.clone(), joins: Seq(0) };
        let cursors = vec![held(&moves), held(&stands)];
        let mut retention = Retention::of_all(log, cursors, SystemClock, reserve, committer.carrier());
        for seq in 1..4 {
            let cursor = Cursor { seq: Seq(seq), ..Cursor::default() };
            moves.clone().commit(&cursor).unwrap();
            retention.retain().unwrap();
            assert_eq!((moves.synced(), retention.synced), (Some(cursor), Seq(0)));
        }
        committer.finish().await.unwrap();
    }

    #[derive(Clone, Copy)]
    struct At(u64, u64);

    impl Clock for At {
        fn wall_micros(&self) -> u64 {
            self.0
        }

        fn since_boot(&self) -> Duration {
            Duration::from_micros(self.1)
        }
    }

    #[test]
    fn fault_22_a_clock_set_forward_does_not_end_what_is_kept_for_a_replay() {
        let started = Started { wall_micros: 1_000_000, since_boot: Duration::from_micros(70) };
        assert_eq!(started.wall_now(&At(1_000_005, 75)), 1_000_005);
        assert_eq!(started.wall_now(&At(9_000_000, 80)), 1_000_010, "ten microseconds have passed");
        assert_eq!(started.wall_now(&At(900_000, 90)), 900_000, "set back: kept for longer");
    }

    #[test]
    fn what_is_left_is_the_quota_or_the_disk_less_what_is_needed() {
        let limits = LogOptions {
            quota: crate::log::Quota::Bytes(1000),
            keep_free_bytes: 10,
            ..LogOptions::default()
        };
        let limits = limits.limits(0, 0);
        let space = |log_bytes, free_bytes| Space { log_bytes, free_bytes, ..Space::default() };
        assert_eq!(room_left(limits, space(600, 5000), 200), 800, "what is not needed gives way");
        assert_eq!(room_left(limits, space(600, 110), 200), 500, "the disk has less than the quota");
        assert_eq!(room_left(limits, space(1200, 0), 1200), 0);
        assert_eq!(seconds_left(800, 2.0), 400);
        assert_eq!(seconds_left(800, 0.0), LONG_SECONDS, "for ever is long");
        assert_eq!((seconds_left(0, 0.0), seconds_left(0, 7.0)), (0, 0));
    }
}
