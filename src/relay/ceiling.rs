//! No more bytes a second than the engine is to be asked to take, `[sink] max_bytes_per_second`.
//!
//! What is sent is paid for afterwards: a body goes out whole, and the next one when its time has passed. Bodies are no larger than what half a second pays for, so the
//! wait is short; nothing is saved up.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// A body may have as much whatever the ceiling is, bytes.
const LEAST: u64 = 64 << 10;

/// How long what is sent is paid for.
#[derive(Debug)]
pub struct Ceiling {
    per_second: Option<NonZeroU64>,
    free_at: Instant,
}

impl Ceiling {
    #[must_use]
    pub fn new(per_second: Option<NonZeroU64>) -> Ceiling {
        Ceiling { per_second, free_at: Instant::now() }
    }

    /// So much is sent now.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        let Some(per_second) = self.per_second else { return };
        let paid_in = Duration::from_secs_f64(bytes as f64 / per_second.get() as f64);
        self.free_at = self.free_at.max(now) + paid_in;
    }

    /// When the next body may go out, if it may not yet.
    #[must_use]
    pub fn free_at(&self, now: Instant) -> Option<Instant> {
        Some(self.free_at).filter(|free_at| self.per_second.is_some() && *free_at > now)
    }

    /// What a body may have, bytes.
    #[must_use]
    pub fn most(&self) -> usize {
        let half = self.per_second.map_or(u64::MAX, |per_second| (per_second.get() / 2).max(LEAST));
        usize::try_from(half).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_go_out_when_those_before_are_paid_for_and_nothing_is_saved_up() {
        let mut ceiling = Ceiling::new(NonZeroU64::new(1_000_000));
        let start = Instant::now() + Duration::from_secs(100);
        assert_eq!((ceiling.free_at(start), ceiling.most()), (None, 500_000));
        let second = Duration::from_secs(1);
        ceiling.sent(500_000, start);
        assert_eq!(ceiling.free_at(start), Some(start + second / 2));
        ceiling.sent(500_000, start + second / 4);
        assert_eq!(ceiling.free_at(start + second / 2), Some(start + second));
        assert_eq!(ceiling.free_at(start + second), None);
    }

    #[test]
    fn without_a_ceiling_nothing_waits() {
        let mut ceiling = Ceiling::new(None);
        let now = Instant::now();
        ceiling.sent(usize::MAX, now);
        assert_eq!((ceiling.free_at(now), ceiling.most()), (None, usize::MAX));
        assert_eq!(Ceiling::new(NonZeroU64::new(1)).most(), 64 << 10);
    }
}
