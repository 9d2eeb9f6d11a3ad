//! Evictions: the server ends a stream when another one registers with the same UUID or id.
//!
//! One of them is a connection of our own that the server had not seen die. Several in a short while are two relays that take the stream from
//! each other, which goes on for ever and looks like a poor network.

use std::time::Duration;

use tokio::time::Instant;

/// So many evictions ...
const LIMIT: usize = 3;
/// ... within so long are a clash.
const WINDOW: Duration = Duration::from_secs(60);

/// The latest evictions.
#[derive(Debug, Default)]
pub struct Evictions(Vec<Instant>);

impl Evictions {
    /// Notes one; true if they are a clash.
    #[must_use]
    pub fn again(&mut self) -> bool {
        let now = Instant::now();
        self.0.retain(|then| now.duration_since(*then) < WINDOW);
        self.0.push(now);
        self.0.len() >= LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn three_within_a_minute_are_a_clash() {
        let mut evictions = Evictions::default();
        for seconds in [0, 29, 32] {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            assert!(!evictions.again(), "{seconds}");
        }
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(evictions.again());
    }
}
