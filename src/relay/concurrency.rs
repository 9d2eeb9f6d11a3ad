//! How many bulks may be under way at a time.
//!
//! Too few leave the engine idle, too many wait in its queues and cost memory there and here; how many are right depends on its nodes, their
//! cores, and what else they do. So it is found, by published algorithms. TCP Vegas (Brakmo, Peterson 1994; for requests as in Netflix' concurrency-limits):
//! where answers take hardly longer than where nothing queues, one bulk more may be under way; where they take twice as long, half of
//! what is under way only waits, and one goes. What they take where nothing queues is measured now and then with half as many under way, as BBR does
//! (Cardwell and others, 2016): the quickest that was ever seen says nothing of an engine that has changed. TCP Reno's halving answers what Vegas is too gentle for: 429, and
//! requests without an answer. Nothing need be known of the engine, and the number falls before the engine refuses anything, which AIMD on refusals alone does not do.
//!
//! What is compared is time by size: bulks are not of one size, and become smaller as more are under way, so that memory stays as it is.

use std::time::Duration;

use tokio::time::Instant;

/// Bulks that answers alone never take away: one is worked on while the next one travels.
const FLOOR: usize = 2;

/// Answers within this many times the quickest let the number grow; beyond the second they let it fall.
const GROWS_BELOW: f64 = 1.33;
const FALLS_ABOVE: f64 = 2.0;

/// How often it is measured what answers take where nothing queues: a round at half the number costs a half of what a second's part sends.
const MEASURED_EVERY: Duration = Duration::from_secs(30);

/// What an item costs besides its bytes, as bytes: a delete has next to none.
const ITEM: usize = 200;

/// What a bulk costs an engine, about, in bytes.
#[must_use]
pub fn work(bytes: usize, items: usize) -> usize {
    bytes + ITEM * items
}

/// The number that is right, as far as is known.
#[derive(Debug)]
pub struct Concurrency {
    limit: usize,
    most: usize,
    round: Round,
    /// Seconds by work where nothing queues, and when it was measured.
    quickest: Option<(f64, Instant)>,
    /// It is measured: the number before.
    measuring: Option<usize>,
    /// Answers of bulks that were under way when the number fell: they say nothing of it.
    stale: usize,
}

/// As many answers as may be under way: one time around.
#[derive(Debug, Default)]
struct Round {
    answers: usize,
    work: usize,
    took: Duration,
    /// Less was under way than might have been: whether more would be better is not known.
    idle: bool,
}

impl Concurrency {
    /// `most`: at any time.
    #[must_use]
    pub fn new(most: usize) -> Concurrency {
        let most = most.max(1);
        Concurrency {
            limit: FLOOR.min(most),
            most,
            round: Round::default(),
            quickest: None,
            measuring: None,
            stale: 0,
        }
    }

    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The engine answered for a bulk of so much [`work`]; `is_full`: it was about as large as a bulk may be, and as many as may be were under way.
    pub fn answered(&mut self, work: usize, took: Duration, is_full: bool, now: Instant) {
        if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        let round = &mut self.round;
        round.answers += 1;
        round.work += work;
        round.took += took;
        round.idle |= !is_full;
        if round.answers < self.limit {
            return;
        }
        let Round { work, took, idle, .. } = std::mem::take(round);
        // A small bulk's time is that of the way there and back.
        let pace = Some(took.as_secs_f64() / work as f64).filter(|_| !idle && work > 0);
        if let Some(before) = self.measuring.take() {
            self.limit = before;
            self.quickest = pace.map(|pace| (pace, now)).or(self.quickest);
        } else if let Some(pace) = pace {
            self.judge(pace, now);
        }
    }

    /// What a whole round took, in seconds by work.
    fn judge(&mut self, pace: f64, now: Instant) {
        let known = self.quickest.filter(|(_, at)| now.saturating_duration_since(*at) < MEASURED_EVERY);
        let Some((quickest, at)) = known else {
            if self.limit == 1 {
                self.quickest = Some((pace, now));
                self.limit = FLOOR.min(self.most);
            } else {
                self.stale = self.limit - 1;
                self.measuring = Some(self.limit);
                self.limit /= 2;
            }
            return;
        };
        let quickest = quickest.min(pace);
        self.quickest = Some((quickest, at));
        if pace < GROWS_BELOW * quickest {
            self.limit = (self.limit + 1).min(self.most);
        } else if pace > FALLS_ABOVE * quickest && self.limit > FLOOR {
            self.limit -= 1;
        }
    }

    /// The engine put a bulk off, in part or as a whole, or did not answer for it. `under_way`: others that were sent before this was known.
    pub fn refused(&mut self, under_way: usize) {
        if self.stale > 0 {
            self.stale -= 1;
            return;
        }
        let limit = self.measuring.take().unwrap_or(self.limit);
        self.limit = (limit / 2).max(1);
        self.round = Round::default();
        self.stale = under_way;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: usize = 1_000_000;

    /// An engine that works on so many bulks at a time and has the others wait.
    struct Engine {
        cores: usize,
        seconds: f64,
    }

    impl Engine {
        /// What a bulk takes while so many are under way.
        fn takes(&self, under_way: usize) -> Duration {
            let share = (under_way as f64 / self.cores as f64).max(1.0);
            Duration::from_secs_f64(self.seconds * share)
        }

        /// Plays on for a while; what the limit was in its last half, at least and at most.
        fn play(&self, limit: &mut Concurrency, now: &mut Instant, rounds: usize) -> (usize, usize) {
            let mut seen = Vec::new();
            for _ in 0..rounds {
                let takes = self.takes(limit.limit());
                *now += takes;
                for _ in 0..limit.limit() {
                    limit.answered(WORK, takes, true, *now);
                }
                if limit.measuring.is_none() {
                    seen.push(limit.limit());
                }
            }
            let last = &seen[seen.len() / 2..];
            (*last.iter().min().unwrap(), *last.iter().max().unwrap())
        }
    }

    #[test]
    fn an_engine_gets_a_few_more_than_it_works_on_whatever_its_size() {
        for (cores, least, most) in [(1, 2, 2), (2, 2, 4), (4, 5, 8), (8, 10, 16), (12, 15, 16)] {
            let (mut limit, mut now) = (Concurrency::new(16), Instant::now());
            let engine = Engine { cores, seconds: 0.2 };
            let seen = engine.play(&mut limit, &mut now, 2_000);
            assert!(seen.0 >= least && seen.1 <= most, "{cores} cores: {seen:?}");
        }
    }

    #[test]
    fn what_the_engine_can_do_is_found_anew_when_it_changes() {
        let (mut limit, mut now) = (Concurrency::new(16), Instant::now());
        Engine { cores: 8, seconds: 0.2 }.play(&mut limit, &mut now, 500);
        // Others came, or its documents cost more: it takes four times as long, and has room for two.
        let seen = Engine { cores: 2, seconds: 0.2 }.play(&mut limit, &mut now, 2_000);
        assert!(seen.1 <= 4, "{seen:?}");
        let seen = Engine { cores: 8, seconds: 0.8 }.play(&mut limit, &mut now, 2_000);
        assert!(seen.0 >= 8, "{seen:?}");
    }

    #[test]
    fn refusals_halve_it_once_for_what_was_under_way_and_it_grows_again() {
        let (mut limit, mut now) = (Concurrency::new(16), Instant::now());
        let engine = Engine { cores: 16, seconds: 0.1 };
        engine.play(&mut limit, &mut now, 100);
        assert_eq!(limit.limit(), 16);
        limit.refused(3);
        for _ in 0..3 {
            limit.refused(0);
        }
        assert_eq!(limit.limit(), 8);
        limit.refused(0);
        for _ in 0..4 {
            limit.refused(0);
        }
        assert_eq!(limit.limit(), 1);
        engine.play(&mut limit, &mut now, 100);
        assert_eq!(limit.limit(), 16);
    }

    #[test]
    fn nothing_is_learnt_from_small_bulks_or_while_there_is_little_to_send() {
        let (mut limit, now) = (Concurrency::new(16), Instant::now());
        for _ in 0..100 {
            limit.answered(100, Duration::from_millis(5), false, now);
        }
        assert_eq!(limit.limit(), FLOOR);
        assert_eq!(Concurrency::new(1).limit(), 1);
        assert!(work(100, 2) > work(400, 0));
    }
}
