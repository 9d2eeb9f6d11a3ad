//! Marks: the position, recorded between transactions while nothing of ours goes by.

use std::time::Duration;

use tokio::time::Instant;

/// Transactions that are in the set but not in the log, and when that has to end.
#[derive(Debug)]
pub struct Marks {
    interval: Duration,
    transactions: u64,
    pending: u64,
    since: Option<Instant>,
    idle: bool,
}

impl Marks {
    /// A mark at least every `interval` or `transactions`.
    #[must_use]
    pub fn new(interval: Duration, transactions: u64) -> Marks {
        Marks { interval, transactions, pending: 0, since: None, idle: false }
    }

    /// One more transaction without followed rows.
    pub fn folded(&mut self) {
        self.pending += 1;
        self.since.get_or_insert_with(Instant::now);
    }

    /// The server has nothing else to send: what is pending need not wait.
    pub fn idle(&mut self) {
        self.idle = self.pending > 0;
    }

    /// When the next mark is due, if anything is pending.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.since? + self.interval)
    }

    /// Whether a mark is due now.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.pending > 0
            && (self.idle
                || self.pending >= self.transactions
                || self.deadline().is_some_and(|deadline| Instant::now() >= deadline))
    }

    /// A mark was written, or the position is another: nothing is pending.
    pub fn clear(&mut self) {
        (self.pending, self.since, self.idle) = (0, None, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_pending_is_never_due() {
        let mut marks = Marks::new(Duration::ZERO, 1);
        marks.idle();
        assert!(!marks.is_due() && marks.deadline().is_none());
        marks.folded();
        assert!(marks.is_due());
        marks.clear();
        assert!(!marks.is_due());
    }

    #[test]
    fn number_time_and_idleness_make_a_mark_due() {
        let mut marks = Marks::new(Duration::from_secs(3_600), 2);
        marks.folded();
        assert!(!marks.is_due());
        marks.idle();
        assert!(marks.is_due());
        marks.clear();
        marks.folded();
        marks.folded();
        assert!(marks.is_due());
    }
}
