//! Seeded histories of a log on a simulated disk, and what must be found after any crash of them.

use std::collections::BTreeMap;
use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::bounds::{Bounds, Ended, Turn, carried, check, undecided};
use super::*;
use crate::disk::SimDisk;
use crate::disk::sim::SimFile;
use crate::log::record::SweepRecord;
use crate::log::snapshot::{Range, SnapshotNote, SnapshotStep};

/// The folder of every simulated log.
pub fn dir() -> &'static Path {
    Path::new("/state/log")
}

/// What every random choice of a test comes from, printed with the words that repeat it: when it is taken, and the one that failed.
pub struct Seed {
    pub number: u64,
    test: &'static str,
}

impl Seed {
    /// The seed in `EVERRELAY_TEST_SEED`, else a new one. `test`: the test function's name.
    pub fn take(test: &'static str) -> Seed {
        let number = number_from_env("EVERRELAY_TEST_SEED", u64::from(rand::random::<u32>()));
        let seed = Seed { number, test };
        eprintln!("{seed}");
        seed
    }

    /// The seed that begins with what this one does at its `step`th.
    pub fn later(&self, step: u64) -> Seed {
        Seed { number: self.number.wrapping_add(step), test: self.test }
    }

    pub fn random(&self) -> StdRng {
        StdRng::seed_from_u64(self.number)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {0}; to replay: EVERRELAY_TEST_SEED={0} cargo test --lib {1}", self.number, self.test)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

pub fn number_from_env(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")),
        Err(_) => default,
    }
}

/// What had happened when so many operations had changed the disk.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub changes: usize,
    seen: usize,
    ended: usize,
    position: Option<u64>,
    needed: Seq,
}

/// A log being written, and all that was ever appended to it.
pub struct History {
    pub disk: SimDisk,
    pub segment_bytes: u64,
    pub now: u64,
    pub opened: Option<Opened<SimDisk>>,
    reader: Option<Reader<SimDisk>>,
    syncing: Option<Syncing<SimFile>>,
    batch: Batch,
    sent: Vec<u8>,
    open: Vec<u64>,
    /// The open transaction is one of XA.
    pub holding: bool,
    value: u64,
    /// What the next end notes of snapshots, and the table that is swept with it.
    noted: Vec<SnapshotNote>,
    sweep: Option<TableName>,
    /// Tables whose snapshots are wanted, and whether they have begun.
    snapshots: BTreeMap<u8, bool>,
    /// What the process was told to outrank.
    outranked: Version,
    /// The position behind what was appended.
    position: Option<u64>,
    /// All frames ever visible, from 1 on.
    pub seen: Vec<Read>,
    /// All commits and marks ever appended that were not lost, and how many are visible.
    ended: Vec<Ended>,
    visible: usize,
    visible_position: Option<u64>,
    needed: Seq,
    pub points: Vec<Point>,
}

impl History {
    pub fn new(disk: SimDisk, segment_bytes: u64) -> History {
        History {
            disk,
            segment_bytes,
            now: NOW,
            opened: None,
            reader: None,
            syncing: None,
            batch: Batch::new(),
            sent: Vec::new(),
            open: Vec::new(),
            holding: false,
            value: 0,
            noted: Vec::new(),
            sweep: None,
            snapshots: BTreeMap::new(),
            outranked: Version(0),
            position: None,
            seen: Vec::new(),
            ended: Vec::new(),
            visible: 0,
            visible_position: None,
            needed: Seq(1),
            points: Vec::new(),
        }
    }

    /// Notes what has happened up to now.
    pub fn point(&mut self) {
        self.points.push(Point {
            changes: self.disk.history_len(),
            seen: self.seen.len(),
            ended: self.visible,
            position: self.visible_position,
            needed: self.needed,
        });
    }

    /// What must be found when the disk stops before the changing operation `index`.
    pub fn bounds(&self, index: usize) -> Bounds<'_> {
        let done = self.points.partition_point(|point| point.changes <= index) - 1;
        let lower = self.points[done];
        // A retirement in progress is for a need that was said before it.
        let later = self.points.get(done + 1).unwrap_or(&lower);
        Bounds {
            seen: &self.seen[..lower.seen],
            position: lower.position,
            before: &self.ended[..lower.ended],
            appended: &self.ended[lower.ended..],
            needed: lower.needed.max(later.needed),
        }
    }

    /// What must be found if the disk stopped now.
    pub fn bounds_now(&self) -> Bounds<'_> {
        Bounds {
            seen: &self.seen,
            position: self.visible_position,
            before: &self.ended[..self.visible],
            appended: &self.ended[self.visible..],
            needed: self.needed,
        }
    }

    /// Opens the log, checks it, and gives it a start if it has none.
    pub fn open(&mut self) -> Result<(), OpenError> {
        self.close();
        (self.batch, self.sent, self.open) = (Batch::new(), Vec::new(), Vec::new());
        self.holding = false;
        (self.noted, self.sweep) = (Vec::new(), None);
        let opened = open(&self.disk, &At(self.now), dir(), options(self.segment_bytes))?;
        let standing = opened.writer.standing().map_or(&[][..], |standing| &standing.snapshots);
        let number = |table: &TableName| table.table.parse().unwrap();
        self.snapshots = standing.iter().map(|known| (number(&known.table), known.begun.is_some())).collect();
        self.outranked = Version(0);
        let found = self.disk.undisturbed(|| check(&opened, &self.bounds_now()));
        self.visible += found.appended;
        self.ended.truncate(self.visible);
        (self.position, self.visible_position) = (found.position, found.position);
        // Every frame may be below it: what the last segment holds need not be synced.
        let first = opened.log.retained_start();
        self.seen.truncate(first.0 as usize - 1);
        self.seen.extend(found.frames);
        let next = self.seen.last().map_or(Seq(1), |frame| frame.seq.next());
        self.reader = Some(self.disk.undisturbed(|| opened.log.reader(next)).unwrap());
        self.opened = Some(opened);
        Ok(())
    }

    /// The process has ended; what it wrote is in the system's memory.
    pub fn close(&mut self) {
        (self.reader, self.opened, self.syncing) = (None, None, None);
    }

    pub fn writer(&mut self) -> &mut Writer<SimDisk> {
        &mut self.opened.as_mut().expect("the log is open").writer
    }

    pub fn log(&self) -> Log<SimDisk> {
        self.opened.as_ref().expect("the log is open").log.clone()
    }

    /// Does something of what a relay does with its log.
    ///
    /// # Errors
    /// The writer has stopped.
    pub fn act(&mut self, random: &mut StdRng) -> Result<(), WriteError> {
        let result = self.one_act(random);
        self.look();
        result
    }

    fn one_act(&mut self, random: &mut StdRng) -> Result<(), WriteError> {
        match random.random_range(0..100) {
            0..=39 => self.append(random),
            40..=45 => self.append_xa(random),
            46..=49 => self.carry(),
            50..=64 => self.sync(),
            65..=74 => self.begin_sync(),
            75..=79 => {
                self.finish_sync();
                Ok(())
            }
            80..=84 => self.abandon(),
            85..=89 => self.outrank(random.random_range(0..1_000_000)),
            90..=95 => {
                self.pass_somewhere(random);
                Ok(())
            }
            _ => {
                // The process is killed and started again: what it wrote is in the system's memory.
                self.now += random.random_range(0..3_000_000);
                self.now -= random.random_range(0..2_000_000);
                self.open().unwrap();
                Ok(())
            }
        }
    }

    fn append(&mut self, random: &mut StdRng) -> Result<(), WriteError> {
        for _ in 0..random.random_range(1..3) {
            let most = if random.random_range(0..24) == 0 { 60 } else { 6 };
            for _ in 0..random.random_range(0..most) {
                self.change(random.random_range(0..3));
            }
            if random.random_range(0..3) == 0 {
                self.snapshot(random.random_range(0..6), random.random_range(0..2));
            }
            if random.random_range(0..4) > 0 {
                self.end();
            }
        }
        self.write()
    }

    /// A step of a table's snapshot, said by the next end that is not one of XA; where the last was not said yet, none.
    pub fn snapshot(&mut self, step: u8, table: u8) {
        if !self.noted.is_empty() {
            return;
        }
        self.value += 1;
        let (name, known) = (TableName::new("shop", table.to_string()), self.snapshots.get(&table).copied());
        let range = |number| Range { number, after: None, upto: Some(vec![number as u8]) };
        // Most go on from where they are.
        let step = match (step, known) {
            (1..4, None) => 0,
            (0 | 2 | 3, Some(false)) => 1,
            (step, _) => step,
        };
        let step = match step {
            0 => {
                self.snapshots.insert(table, false);
                SnapshotStep::Wanted { filter: None }
            }
            1 => {
                if let Some(begun) = self.snapshots.get_mut(&table) {
                    *begun = true;
                }
                SnapshotStep::Begun { ranges: vec![range(1), range(2)], estimated_rows: self.value }
            }
            2 => {
                let after = Some(self.value.to_be_bytes().to_vec()).filter(|_| !self.value.is_multiple_of(3));
                SnapshotStep::Read { range: 1 + (self.value % 2) as u32, after, rows: self.value }
            }
            3 => {
                if known == Some(true) {
                    self.sweep = Some(name.clone());
                    self.snapshots.remove(&table);
                }
                SnapshotStep::Ended
            }
            4 => {
                self.snapshots.remove(&table);
                SnapshotStep::Cancelled
            }
            _ => SnapshotStep::Paused(self.value.is_multiple_of(2)),
        };
        self.noted.push(SnapshotNote { table: name, step });
    }

    /// A whole XA transaction or a part of one, or a decision, where no other transaction is open.
    fn append_xa(&mut self, random: &mut StdRng) -> Result<(), WriteError> {
        if !self.open.is_empty() && !self.holding {
            self.end();
        }
        if !self.holding && random.random_range(0..2) == 0 {
            let outcome = [Outcome::Committed, Outcome::Committed, Outcome::RolledBack];
            self.decide(random.random_range(0..9), outcome[random.random_range(0..3)]);
            return self.write();
        }
        self.holding = true;
        for _ in 0..random.random_range(0..9) {
            self.change(random.random_range(0..3));
        }
        match random.random_range(0..6) {
            0 => {}
            1 => self.one_phase(),
            _ => self.end(),
        }
        self.write()
    }

    pub fn change(&mut self, table: u8) {
        self.batch.hold(self.holding);
        self.start();
        let number = TableNo(u32::from(table) * 200);
        if !self.sent.contains(&table) {
            self.batch.schema(&schema(number));
            self.sent.push(table);
        }
        self.value += 1;
        change(&mut self.batch, number, self.value);
        self.open.push(self.value);
    }

    /// Ends a transaction, or where there is none lets transactions without followed rows pass.
    pub fn end(&mut self) {
        self.start();
        let position = self.position.unwrap_or(0) + 1;
        if std::mem::take(&mut self.holding) {
            commit_xa(&mut self.batch, Some(position), vec![prepare(position)]);
            let held = std::mem::take(&mut self.open);
            let xa = Some((position, Turn::Prepared));
            return self.ended_with(Ended { position, values: Vec::new(), held, xa });
        }
        let noted = Noted { snapshots: std::mem::take(&mut self.noted), ..Noted::default() };
        let sweep = self.sweep.take();
        if let Some(table) = &sweep {
            self.batch.sweep(&SweepRecord::of_snapshot(table.clone()));
        }
        let (synced, place) = (Synced::default(), Position { offset: 200, ..Position::default() });
        if self.open.is_empty() && sweep.is_none() {
            let gtids = set(position);
            self.batch.mark(&Mark { synced, gtids, time_micros: 0, position: place, noted });
        } else {
            let (gtid, time_micros) = (Some(gtid(position)), NOW + position);
            self.batch.commit(&Commit { synced, gtid, time_micros, position: place, noted });
        }
        self.ended_at(position);
    }

    fn start(&mut self) {
        if self.position.is_none() {
            mark(&mut self.batch, set(0));
            self.ended_at(0);
        }
    }

    /// Ends an XA transaction that was never prepared.
    pub fn one_phase(&mut self) {
        self.start();
        self.holding = false;
        let position = self.position.unwrap_or(0) + 1;
        commit_xa(&mut self.batch, Some(position), vec![decide(position, Outcome::Committed)]);
        let values = std::mem::take(&mut self.open);
        self.ended_with(Ended { position, held: values.clone(), values, xa: None });
    }

    /// Decides the undecided XA transaction that `which` points to, if there is one. None may be open.
    pub fn decide(&mut self, which: usize, outcome: Outcome) {
        self.start();
        let undecided = undecided(&self.ended);
        let number = match undecided.len() {
            0 => 1 << 40,
            some => *undecided.keys().nth(which % some).unwrap(),
        };
        let position = self.position.unwrap_or(0) + 1;
        commit_xa(&mut self.batch, Some(position), vec![decide(number, outcome)]);
        let rows = undecided.get(&number).filter(|_| outcome == Outcome::Committed);
        let values = rows.cloned().unwrap_or_default();
        let xa = Some((number, Turn::Decided));
        self.ended_with(Ended { position, values, held: Vec::new(), xa });
    }

    /// All that is held and durable is to be carried forward.
    pub fn carry(&mut self) -> Result<(), WriteError> {
        let log = self.log();
        log.shared.held.ask(log.visible().end.segment);
        self.writer().carry_forward().map(|_| ())
    }

    fn ended_at(&mut self, position: u64) {
        let values = std::mem::take(&mut self.open);
        self.ended_with(Ended::plain(position, values));
    }

    fn ended_with(&mut self, ended: Ended) {
        self.position = Some(ended.position);
        self.ended.push(ended);
    }

    pub fn write(&mut self) -> Result<(), WriteError> {
        let mut batch = std::mem::take(&mut self.batch);
        let result = self.writer().append(&mut batch);
        self.batch = batch;
        result
    }

    pub fn sync(&mut self) -> Result<(), WriteError> {
        self.writer().sync()
    }

    /// As a relay under load does: another thread syncs while more is appended.
    pub fn begin_sync(&mut self) -> Result<(), WriteError> {
        self.syncing = self.writer().begin_sync()?;
        Ok(())
    }

    /// The other thread comes to its work, if the writer has not done it.
    pub fn finish_sync(&mut self) {
        if let Some(syncing) = self.syncing.take() {
            syncing.run();
        }
    }

    /// Reads on, whatever has become visible.
    pub fn look(&mut self) {
        let disk = self.disk.clone();
        disk.undisturbed(|| self.read_on());
    }

    fn read_on(&mut self) {
        let reader = self.reader.as_mut().expect("the log is open");
        let from = self.seen.last().map_or(Seq(1), |frame| frame.seq.next());
        while let Some(Frame { seq, version, kind, payload, at }) = reader.next_frame().unwrap() {
            if seq >= from {
                let frame = Read { seq, version, kind, payload: payload.to_vec(), at };
                let ends = kind == Kind::Mark || kind == Kind::Commit && carried(&frame).is_none();
                self.visible += usize::from(ends);
                self.seen.push(frame);
            }
        }
        self.visible_position =
            self.ended[..self.visible].last().map(|ended| ended.position).or(self.visible_position);
        assert_eq!(self.log().visible().seq.0, self.seen.len() as u64);
    }

    pub fn abandon(&mut self) -> Result<(), WriteError> {
        self.writer().abandon()?;
        self.open.clear();
        self.holding = false;
        assert!(self.writer().next_version() > self.outranked);
        Ok(())
    }

    pub fn outrank(&mut self, more: u64) -> Result<(), WriteError> {
        let bound = Version(self.writer().next_version().0 + more);
        self.writer().outrank(bound)?;
        self.outranked = bound;
        assert!(self.writer().next_version() > bound);
        Ok(())
    }

    fn pass_somewhere(&mut self, random: &mut StdRng) {
        let end = self.log().visible().seq.next();
        self.pass(Seq(random.random_range(self.needed.0..=end.0.max(self.needed.0)))).unwrap();
    }

    /// A synced cursor has passed what is below `needed`, and that may go.
    pub fn pass(&mut self, needed: Seq) -> Result<Retained, RetainError> {
        self.needed = self.needed.max(needed);
        self.log().retain(self.needed, u64::MAX)
    }
}
