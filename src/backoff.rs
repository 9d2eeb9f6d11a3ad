//! Waiting longer each time something fails, with jitter, so that many waiters do not return at once.

use std::time::Duration;

/// First wait before jitter.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait before jitter.
const LONGEST: Duration = Duration::from_secs(15);

/// Exponential backoff with "equal jitter": half of each step is fixed, half is drawn
/// (Brooker, *Exponential Backoff And Jitter*, AWS Architecture Blog, 2015).
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    #[must_use]
    pub fn new() -> Backoff {
        Backoff::default()
    }

    /// Failures in a row so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Forgets the failures: something went well.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and says how long to wait.
    pub fn next_delay(&mut self) -> Duration {
        let step = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        step / 2 + step.mul_f64(rand::random_range(0.0..0.5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_no_further() {
        let mut backoff = Backoff::new();
        assert!(backoff.next_delay() <= FIRST);
        for _ in 0..100 {
            assert!(backoff.next_delay() <= LONGEST);
        }
        assert!(backoff.next_delay() >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
