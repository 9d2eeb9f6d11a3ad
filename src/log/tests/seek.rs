//! Times and GTIDs looked up, against a scan of everything that was ever written.

use proptest::prelude::*;

use super::*;

/// One transaction or mark, as it was written.
#[derive(Clone, Debug)]
struct Written {
    first: Seq,
    time_micros: u64,
    gtids: GtidSet,
}

#[derive(Clone, Debug)]
enum Step {
    /// A transaction of this server with so many changes, this much later than the last (or earlier).
    Transaction { server: u8, changes: u8, later: i8 },
    /// Transactions of other tables, folded into a mark.
    Mark { folded: Vec<u8>, timed: bool },
    /// The process ends and begins again.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..3u8, 0..12u8, -3..10i8).prop_map(|(server, changes, later)| Step::Transaction { server, changes, later }),
        2 => (prop::collection::vec(0..4u8, 1..6), any::<bool>()).prop_map(|(folded, timed)| Step::Mark { folded, timed }),
        1 => Just(Step::Restart),
    ]
}

fn of(server: u8, number: u64) -> Gtid {
    let tag = if server == 2 { "blue" } else { "" };
    Gtid { origin: Origin::Server { uuid: [server; 16], tag: tag.to_owned() }, number }
}

/// A log, everything written into it, and each server's last number.
struct Seeking {
    dir: tempfile::TempDir,
    segment_bytes: u64,
    opened: Option<Opened<SystemDisk>>,
    written: Vec<Written>,
    position: GtidSet,
    numbers: [u64; 4],
    time: u64,
    schema_sent: bool,
}

impl Seeking {
    fn new(segment_bytes: u64) -> Seeking {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let opened = Some(open_at(dir.path(), segment_bytes));
        let (written, numbers) = (Vec::new(), [5, 0, 0, 0]);
        let mut position = GtidSet::default();
        (1..=5).for_each(|number| assert!(position.insert(&of(0, number))));
        let mut this = Seeking {
            dir,
            segment_bytes,
            opened,
            written,
            position,
            numbers,
            time: 1000,
            schema_sent: false,
        };
        // Where the log was begun.
        this.mark(0);
        this
    }

    fn log(&self) -> &Log<SystemDisk> {
        &self.opened.as_ref().unwrap().log
    }

    fn next_gtid(&mut self, server: u8) -> Gtid {
        let number = &mut self.numbers[usize::from(server)];
        *number += 1;
        of(server, *number)
    }

    fn append(&mut self, batch: &mut Batch) {
        let writer = &mut self.opened.as_mut().unwrap().writer;
        writer.append(batch).unwrap();
        writer.sync().unwrap();
    }

    fn mark(&mut self, time_micros: u64) {
        let (synced, position, gtids) = (Synced::default(), Position::default(), self.position.clone());
        let mut batch = Batch::new();
        batch.mark(&Mark { synced, gtids: gtids.clone(), time_micros, position, noted: Default::default() });
        self.append(&mut batch);
        let first = self.log().visible().seq;
        self.written.push(Written { first, time_micros, gtids });
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Transaction { server, changes, later } => {
                self.time = self.time.saturating_add_signed(i64::from(*later) * 10);
                let gtid = self.next_gtid(*server);
                self.position.insert(&gtid);
                let before = self.log().visible().seq;
                let mut batch = Batch::new();
                if !std::mem::replace(&mut self.schema_sent, true) {
                    batch.schema(&schema(TABLE));
                }
                (0..*changes).for_each(|value| change(&mut batch, TABLE, value.into()));
                let (synced, position) = (Synced::default(), Position::default());
                batch.commit(&Commit {
                    synced,
                    gtid: Some(gtid.clone()),
                    time_micros: self.time,
                    position,
                    noted: Default::default(),
                });
                self.append(&mut batch);
                // States stand before a transaction or inside it, and are never what it begins with.
                let frames = read(self.log(), before.next());
                let first =
                    frames.iter().find(|frame| frame.seq > before && frame.kind != Kind::State).unwrap().seq;
                let mut gtids = GtidSet::default();
                gtids.insert(&gtid);
                self.written.push(Written { first, time_micros: self.time, gtids });
            }
            Step::Mark { folded, timed } => {
                for server in folded {
                    let gtid = self.next_gtid(*server);
                    self.position.insert(&gtid);
                }
                self.mark(if *timed { self.time } else { 0 });
            }
            Step::Restart => {
                self.opened = None;
                self.opened = Some(open_at(self.dir.path(), self.segment_bytes));
                self.schema_sent = false;
            }
        }
    }

    /// What a search should say by a scan of everything written.
    fn expected(&self, sought: impl Fn(&Written) -> bool, start_counts: bool) -> Answer {
        let retained = self.log().retained_start();
        match self.written.iter().enumerate().find(|(_, written)| sought(written)) {
            None => Answer::Above,
            Some((0, _)) if !start_counts => Answer::Below,
            Some((_, written)) if written.first < retained => Answer::Below,
            Some((_, written)) => Answer::At(written.first),
        }
    }

    fn check(&self, log: &Log<SystemDisk>) {
        for time in (900..self.time + 200).step_by(5) {
            let expected = self.expected(|written| written.time_micros >= time, true);
            assert_eq!(answer(log.seek_time(time)), expected, "time {time}");
        }
        for server in 0..4u8 {
            for number in 1..=self.numbers[usize::from(server)] + 1 {
                let gtid = of(server, number);
                let expected = self.expected(|written| written.gtids.contains(&gtid), false);
                assert_eq!(answer(log.seek_gtid(&gtid)), expected, "{gtid}");
            }
        }
        // Everything up to each of the transactions, and the same without one of each server.
        let mut set = GtidSet::default();
        for written in &self.written {
            set.union(&written.gtids);
            let mut gap = GtidSet::default();
            (0..4u8).for_each(|server| assert!(gap.insert(&of(server, 3))));
            for set in [set.clone(), set.subtract(&gap), GtidSet::default()] {
                let expected = self.expected(|written| !written.gtids.is_subset(&set), false);
                assert_eq!(answer(log.seek_after(&set)), expected, "after {set}");
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Below,
    At(Seq),
    Above,
}

fn answer(result: Result<Seq, SeekError>) -> Answer {
    match result {
        Ok(seq) => Answer::At(seq),
        Err(SeekError::BelowRetained { .. }) => Answer::Below,
        Err(SeekError::AboveEnd { .. }) => Answer::Above,
        Err(SeekError::Read(error)) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_time_and_a_gtid_are_found_where_a_scan_finds_them(
        segment_bytes in prop_oneof![Just(250u64), Just(700), Just(1 << 20)],
        steps in prop::collection::vec(step(), 1..40),
        retired in any::<u8>(),
    ) {
        let mut seeking = Seeking::new(segment_bytes);
        for step in &steps {
            seeking.take(step);
        }
        seeking.check(seeking.log());
        let below = Seq(seeking.log().visible().seq.0 * u64::from(retired) / 255);
        seeking.log().retain(below, u64::MAX).unwrap();
        seeking.check(seeking.log());
        seeking.check(&read_only(&SystemDisk, seeking.dir.path()).unwrap().log);
    }
}

/// Times 1010, 1020, … of server 1, one transaction about a segment; the first eight segments are gone.
fn retired() -> Seeking {
    let mut seeking = Seeking::new(250);
    for _ in 0..20 {
        seeking.take(&Step::Transaction { server: 1, changes: 1, later: 1 });
    }
    let start = seeking.log().segments()[8].first;
    assert_eq!(seeking.log().retain(start, u64::MAX).unwrap().segments, 8);
    seeking
}

#[test]
fn what_is_below_the_retained_start_and_above_the_end_is_said_to_be_so() {
    let seeking = retired();
    let (log, uuid) = (seeking.log(), "01010101-0101-0101-0101-010101010101");
    let start = log.retained_start();
    let said = |result: Result<Seq, SeekError>| result.unwrap_err().to_string();
    for text in [said(log.seek_time(1010)), said(log.seek_gtid(&of(1, 1))), said(log.seek_after(&set(0)))] {
        assert!(text.contains(&format!("the log starts with frame {start}, and below that lies ")), "{text}");
    }
    assert!(said(log.seek_time(1010)).contains("lies commits up to 1970-01-01T00:00:00.00"));
    assert!(said(log.seek_gtid(&of(1, 1))).contains(&format!("transaction {uuid}:1 is not kept whole")));
    assert!(said(log.seek_gtid(&of(1, 1))).contains(&format!(",{uuid}:1-")));
    let all = seeking.position.clone();
    for text in [said(log.seek_time(1201)), said(log.seek_gtid(&of(1, 21))), said(log.seek_after(&all))] {
        assert!(
            text.contains(&format!("is not in the log, which ends with frame {}", log.visible().seq)),
            "{text}"
        );
    }
    assert!(said(log.seek_after(&all)).starts_with("what follows 00000000-"));
    // An empty log has nothing at all.
    let empty = tempfile::tempdir().unwrap();
    let log = open_at(empty.path(), 250).log;
    assert!(matches!(log.seek_time(0), Err(SeekError::AboveEnd { end: Seq(0), .. })));
}

#[test]
fn a_transaction_of_which_the_beginning_is_retired_is_no_longer_kept() {
    let mut seeking = Seeking::new(250);
    seeking.take(&Step::Transaction { server: 1, changes: 1, later: 1 });
    seeking.take(&Step::Transaction { server: 1, changes: 100, later: 1 });
    seeking.take(&Step::Transaction { server: 1, changes: 1, later: 1 });
    let log = seeking.log();
    let second = log.seek_gtid(&of(1, 2)).unwrap();
    assert_eq!(log.seek_time(1020).unwrap(), second);
    assert!(read(log, second).iter().any(|frame| frame.kind == Kind::State), "it goes over several segments");
    // A cursor may stand inside a transaction.
    let inside = log.segments()[4].first;
    assert!(inside > second && log.retain(inside, u64::MAX).unwrap().segments > 0);
    assert_eq!(answer(log.seek_gtid(&of(1, 2))), Answer::Below);
    assert_eq!(answer(log.seek_time(1020)), Answer::Below);
    assert!(log.seek_gtid(&of(1, 3)).unwrap() > inside);
    seeking.check(log);
}

#[test]
fn a_damaged_state_is_named_and_no_place_is_guessed() {
    use std::os::unix::fs::FileExt;
    let seeking = retired();
    // Where a search by halves looks first.
    let segments = seeking.log().segments();
    let middle = segments[segments.len() / 2].first;
    let path = seeking.dir.path().join(format!("{:020}.log", middle.0));
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(b"x", 90).unwrap();
    let error = seeking.log().seek_time(1100).unwrap_err();
    assert!(
        matches!(&error, SeekError::Read(_)) && error.to_string().contains(&middle.to_string()),
        "{error}"
    );
}
