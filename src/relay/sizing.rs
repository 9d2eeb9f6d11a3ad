//! How large the bulk being built becomes.
//!
//! A large bulk costs the engine least, and is answered late: on two cores 3 MB take half a second, and a change of the stream waits for those under way, for
//! its own to fill up, and for its own answer. So while rows of a snapshot and changes of the stream come together, bulks
//! are only as large as the engine answers for within [`ANSWER`], by its answers so far, and rows go behind the changes that were read after them. Rows alone, or a backlog of the stream alone, go in
//! large ones: nobody waits for a single row of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::event::Op;

/// How long the engine should take over a bulk that a change of the stream waits for.
const ANSWER: Duration = Duration::from_millis(120);

/// What a bulk may have whatever the engine's pace, bytes.
const LEAST: usize = 128 << 10;

/// An answer for fewer bytes says more of the way there and back than of the engine's pace.
const TELLING: usize = 32 << 10;

/// Part of the newest answer in the pace.
const WEIGHT: f64 = 0.2;

/// For how long after the last of a kind more of it is expected.
const EXPECTED: Duration = Duration::from_secs(5);

/// What was read lately, and how fast the engine answers.
#[derive(Debug)]
pub struct Sizing {
    most: usize,
    rows: Seen,
    changes: Seen,
    /// Bytes a second in one flight.
    pace: Option<f64>,
    bulk_bytes: usize,
    is_mixed: bool,
}

/// When something was read last.
#[derive(Debug, Default)]
struct Seen {
    /// Since the last bulk was launched.
    now: bool,
    until: Option<Instant>,
}

impl Seen {
    /// Whether more of it is expected.
    fn launched(&mut self, now: Instant) -> bool {
        if std::mem::take(&mut self.now) {
            self.until = Some(now + EXPECTED);
        }
        self.until.is_some_and(|until| now < until)
    }
}

impl Sizing {
    /// `most`: of a bulk, bytes.
    #[must_use]
    pub fn new(most: usize) -> Sizing {
        Sizing {
            most,
            rows: Seen::default(),
            changes: Seen::default(),
            pace: None,
            bulk_bytes: most,
            is_mixed: false,
        }
    }

    /// A bulk of so many bytes is to be launched.
    #[must_use]
    pub fn bulk_bytes(&self) -> usize {
        self.bulk_bytes
    }

    /// Rows of snapshots are to go behind changes of the stream that were read after them.
    #[must_use]
    pub fn rows_wait(&self) -> bool {
        self.is_mixed
    }

    /// A change was read.
    #[inline]
    pub fn read(&mut self, op: Op) {
        let seen = if op == Op::Read { &mut self.rows } else { &mut self.changes };
        seen.now = true;
    }

    /// A bulk is launched: the next one begins.
    pub fn launched(&mut self, now: Instant) {
        let (rows, changes) = (self.rows.launched(now), self.changes.launched(now));
        self.is_mixed = rows && changes;
        self.bulk_bytes = match self.pace {
            _ if !self.is_mixed => self.most,
            None => LEAST.min(self.most),
            Some(pace) => ((pace * ANSWER.as_secs_f64()) as usize).max(LEAST).min(self.most),
        };
    }

    /// The engine answered for a bulk.
    pub fn answered(&mut self, bytes: usize, took: Duration) {
        if bytes < TELLING || took.is_zero() {
            return;
        }
        let pace = bytes as f64 / took.as_secs_f64();
        self.pace = Some(self.pace.map_or(pace, |before| before + WEIGHT * (pace - before)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 3_000_000;

    #[test]
    fn bulks_are_small_while_rows_and_changes_come_together_and_large_otherwise() {
        let (mut sizing, start) = (Sizing::new(MOST), Instant::now());
        sizing.read(Op::Read);
        sizing.launched(start);
        assert_eq!(sizing.bulk_bytes(), MOST);
        sizing.read(Op::Update);
        assert!(!sizing.rows_wait());
        sizing.launched(start + EXPECTED / 2);
        assert_eq!(sizing.bulk_bytes(), LEAST, "nothing is known of the engine's pace");
        assert!(sizing.rows_wait());

        sizing.answered(MOST, Duration::from_millis(600));
        sizing.read(Op::Read);
        sizing.launched(start + EXPECTED / 2);
        assert_eq!(sizing.bulk_bytes(), 600_000);
        // The stream is quiet.
        sizing.read(Op::Read);
        sizing.launched(start + 2 * EXPECTED);
        assert_eq!(sizing.bulk_bytes(), MOST);
        assert!(!sizing.rows_wait());
    }

    #[test]
    fn a_backlog_of_the_stream_alone_goes_in_large_bulks() {
        let (mut sizing, now) = (Sizing::new(MOST), Instant::now());
        for op in [Op::Insert, Op::Update, Op::Rekey, Op::Delete, Op::Tombstone] {
            sizing.read(op);
            sizing.answered(MOST, Duration::from_secs(1));
            sizing.launched(now);
            assert_eq!(sizing.bulk_bytes(), MOST);
        }
    }

    #[test]
    fn the_engines_pace_is_that_of_its_last_telling_answers() {
        let (mut sizing, now) = (Sizing::new(MOST), Instant::now());
        for _ in 0..50 {
            sizing.answered(1_000_000, Duration::from_millis(250));
            sizing.answered(500, Duration::from_millis(5));
        }
        sizing.read(Op::Read);
        sizing.read(Op::Insert);
        sizing.launched(now);
        assert_eq!(sizing.bulk_bytes(), 480_000);
        for _ in 0..50 {
            sizing.answered(1_000_000, Duration::from_millis(10));
        }
        sizing.read(Op::Insert);
        sizing.launched(now);
        assert_eq!(sizing.bulk_bytes(), MOST);
        for _ in 0..50 {
            sizing.answered(1_000_000, Duration::from_secs(10));
        }
        sizing.launched(now);
        assert_eq!(sizing.bulk_bytes(), LEAST);
    }
}
