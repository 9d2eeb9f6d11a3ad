//! What of the stream is measured.

use crate::clock::{Clock, SystemClock};

use super::Binlog;

impl Binlog {
    /// Hands over what was counted.
    pub fn publish_metrics(&mut self) {
        self.replaced.increment(std::mem::take(&mut self.decoder.replaced));
        self.undecided_xa.set(self.undecided.len() as f64);
        if self.last_micros > 0 {
            self.last_event.set(self.last_micros as f64 / 1e6);
        }
        // Between transactions nothing is late.
        if std::mem::take(&mut self.has_ended) {
            self.lag.set(SystemClock.wall_micros().saturating_sub(self.last_micros) as f64 / 1e6);
        }
    }
}
