//! Wall and boot time behind a trait, so that a simulation can hold the clock. Timers are tokio's, which can be paused.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads time; cheap to clone.
pub trait Clock: Clone + Send + Sync + 'static {
    /// Microseconds since 1970 UTC by the machine's clock: may step in either direction.
    fn wall_micros(&self) -> u64;

    /// Time since the machine started, sleep included: never steps.
    fn since_boot(&self) -> Duration;
}

/// 9999-12-31T23:59:59Z, the last second that RFC 3339 has, microseconds since 1970.
const LAST_MICROS: u64 = 253_402_300_799_000_000;

/// A time in microseconds since 1970 as `2026-11-23T06:47:08Z`; one that RFC 3339 does not reach as the last that it does: times come from files and
/// servers, and may be anything.
#[must_use]
pub fn rfc3339_seconds(micros: u64) -> String {
    humantime::format_rfc3339_seconds(time_of(micros)).to_string()
}

/// Likewise with all six digits of a second.
#[must_use]
pub fn rfc3339_micros(micros: u64) -> String {
    humantime::format_rfc3339_micros(time_of(micros)).to_string()
}

fn time_of(micros: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.min(LAST_MICROS))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_can_be_said() {
        assert_eq!(rfc3339_seconds(1_795_416_428_120_000), "2026-11-23T06:47:08Z");
        assert_eq!(rfc3339_micros(1_795_416_428_120_000), "2026-11-23T06:47:08.120000Z");
        assert_eq!(rfc3339_seconds(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
