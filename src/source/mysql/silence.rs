//! Silence: how long the server may say nothing before the connection counts as dead.
//!
//! It sends heartbeats while it has nothing else, so two periods are enough, except where it is reading a large event from its disk: none
//! comes in between. (Bytes of an event that arrive are no silence.) Such an event lies inside a transaction. There the patience doubles with
//! each connection that fell silent, until a transaction has ended: an event that comes before the large one, as it does on each connection
//! again, says nothing.

use std::time::Duration;

/// Longest patience, unless two heartbeats are longer.
const LONGEST: Duration = Duration::from_secs(600);

/// The patience of one source, over its connections.
#[derive(Debug)]
pub struct Silence {
    usual: Duration,
    inside: Duration,
}

impl Silence {
    #[must_use]
    pub fn new(heartbeat: Duration) -> Silence {
        let usual = heartbeat * 2;
        Silence { usual, inside: usual }
    }

    /// How long to wait for the next event.
    #[must_use]
    pub fn patience(&self, in_transaction: bool) -> Duration {
        if in_transaction { self.inside } else { self.usual }
    }

    /// A connection fell silent.
    pub fn fell(&mut self, in_transaction: bool) {
        if in_transaction {
            self.inside = (self.inside * 2).min(LONGEST.max(self.usual));
        }
    }

    /// A transaction ended.
    pub fn ended(&mut self) {
        self.inside = self.usual;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_doubles_with_each_silence_inside_a_transaction_until_one_ends() {
        let seconds = Duration::from_secs;
        let mut silence = Silence::new(seconds(10));
        silence.fell(false);
        assert_eq!((silence.patience(true), silence.patience(false)), (seconds(20), seconds(20)));
        silence.fell(true);
        silence.fell(true);
        assert_eq!((silence.patience(true), silence.patience(false)), (seconds(80), seconds(20)));
        (0..10).for_each(|_| silence.fell(true));
        assert_eq!(silence.patience(true), seconds(600));
        silence.ended();
        assert_eq!(silence.patience(true), seconds(20));
    }
}
