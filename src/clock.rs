//! Wall and boot time behind a trait, so that a simulation can hold the clock. Timers are tokio's, which can be paused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads time; cheap to clone.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Microseconds since 1970 UTC by the machine's clock: may step in either direction.
    fn wall_micros(&self) -> u64;

    /// Time since the machine started, sleep included: never steps.
    fn since_boot(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn wall_micros(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.map_or(0, |d| u64::try_from(d.as_micros()).unwrap_or(u64::MAX))
    }

    fn since_boot(&self) -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Duration::new(seconds, nanos)
    }
}
