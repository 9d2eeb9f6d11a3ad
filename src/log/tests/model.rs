//! Random histories against a plain list of transactions.

use std::fs::OpenOptions;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Changes of these tables, one each.
    Change(Vec<u8>),
    Commit,
    Mark,
    Sync,
    Abandon,
    Outrank(u64),
    /// The process ends; of what was not synced this share of 256 stays.
    Crash(u8),
    /// Segments below this share of 256 of what is visible are not needed.
    Retain(u8),
    /// Everything from this share of 256 on is read.
    Read(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0..4u8, 1..12).prop_map(Step::Change),
        5 => Just(Step::Commit),
        1 => Just(Step::Mark),
        3 => Just(Step::Sync),
        1 => Just(Step::Abandon),
        1 => (0..1_000_000u64).prop_map(Step::Outrank),
        2 => any::<u8>().prop_map(Step::Crash),
        1 => any::<u8>().prop_map(Step::Retain),
        1 => any::<u8>().prop_map(Step::Read),
    ]
}

/// In memory where the system has a place for that: a history syncs hundreds of times.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The log and what it should hold.
struct Model {
    dir: tempfile::TempDir,
    segment_bytes: u64,
    now: u64,
    opened: Opened<SystemDisk>,
    batch: Batch,
    /// Tables whose schema this process sent.
    sent: Vec<u8>,
    committed: Vec<Vec<u64>>,
    synced: usize,
    open: Vec<u64>,
    value: u64,
    visible: Seq,
}

impl Model {
    fn new(segment_bytes: u64) -> Model {
        let dir = folder();
        let mut opened = open_at(dir.path(), segment_bytes);
        let mut batch = Batch::new();
        mark(&mut batch, GtidSet::default());
        opened.writer.append(&mut batch).unwrap();
        opened.writer.sync().unwrap();
        Model {
            dir,
            segment_bytes,
            now: NOW,
            opened,
            batch,
            sent: Vec::new(),
            committed: Vec::new(),
            synced: 0,
            open: Vec::new(),
            value: 0,
            visible: Seq(0),
        }
    }

    fn share(&self, of: u8) -> Seq {
        let (start, end) = (self.opened.log.retained_start().0, self.opened.log.visible().seq.0 + 1);
        Seq(start + end.saturating_sub(start) * u64::from(of) / 255)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Change(tables) => {
                for &table in tables {
                    let number = TableNo(u32::from(table) * 200);
                    if !self.sent.contains(&table) {
                        self.batch.schema(&schema(number));
                        self.sent.push(table);
                    }
                    self.value += 1;
                    change(&mut self.batch, number, self.value);
                    self.open.push(self.value);
                }
                self.append();
            }
            Step::Commit => {
                self.committed.push(std::mem::take(&mut self.open));
                commit(&mut self.batch, self.committed.len() as u64);
                self.append();
            }
            Step::Mark => {
                if self.open.is_empty() {
                    mark(&mut self.batch, set(self.committed.len() as u64));
                    self.append();
                }
            }
            Step::Sync => {
                self.opened.writer.sync().unwrap();
                self.synced = self.committed.len();
            }
            Step::Abandon => {
                self.opened.writer.abandon().unwrap();
                self.open.clear();
            }
            Step::Outrank(more) => {
                let bound = Version(self.opened.writer.next_version().0 + more);
                self.opened.writer.outrank(bound).unwrap();
                assert!(self.opened.writer.next_version() > bound);
            }
            Step::Crash(share) => self.crash(*share),
            Step::Retain(share) => {
                let below = self.share(*share);
                self.opened.log.retain(below, u64::MAX).unwrap();
                assert!(self.opened.log.retained_start() <= below);
            }
            Step::Read(share) => self.read(self.share(*share)),
        }
    }

    fn append(&mut self) {
        self.opened.writer.append(&mut self.batch).unwrap();
    }

    fn crash(&mut self, share: u8) {
        self.now += 1_000;
        let end = self.opened.log.visible().end;
        let last = self.opened.log.segments().pop().unwrap();
        let path = self.dir.path().join(format!("{:020}.log", last.first.0));
        let visible = self.opened.log.visible().seq;
        // The lock goes before the next one is asked for.
        let closed = open_at(folder().path(), 1000);
        drop(std::mem::replace(&mut self.opened, closed));
        // A state is synced before its segment has a name; behind it nothing is visible yet.
        if end.segment == last.first && end.offset > 64 {
            let torn = (last.bytes - end.offset) * u64::from(share) / 255;
            OpenOptions::new().write(true).open(path).unwrap().set_len(end.offset + torn).unwrap();
        }
        self.opened = open(&SystemDisk, &At(self.now), self.dir.path(), options(self.segment_bytes)).unwrap();
        let position = self.opened.writer.position().unwrap();
        let kept = usize::try_from(position.count()).unwrap();
        assert!(kept >= self.synced && kept <= self.committed.len());
        assert_eq!(*position, set(kept as u64));
        assert!(self.opened.log.visible().seq >= visible);
        self.committed.truncate(kept);
        self.synced = kept;
        self.open.clear();
        self.sent.clear();
        self.read(self.opened.log.retained_start());
    }

    fn read(&mut self, from: Seq) {
        let log = &self.opened.log;
        assert!(log.visible().seq >= self.visible);
        self.visible = log.visible().seq;
        let frames = read(log, from);
        let mut expected = from;
        let mut known = Vec::new();
        for frame in &frames {
            if known.first().is_none_or(|(segment, _)| *segment != frame.at.segment) {
                known.clear();
            }
            match frame.kind {
                Kind::Schema => {
                    known.push((frame.at.segment, SchemaRecord::decode(&frame.payload).unwrap().table));
                }
                Kind::Change => {
                    let table = Change::decode(&frame.payload).unwrap().table;
                    assert!(known.contains(&(frame.at.segment, table)), "{frame:?}");
                }
                _ => {}
            }
            if frame.seq >= from {
                assert_eq!(frame.seq, expected);
                expected = expected.next();
            }
        }
        assert!(frames.windows(2).all(|pair| pair[0].version < pair[1].version));
        assert_eq!(expected, self.visible.next());
        let all: Vec<u64> = self.committed[..self.synced].concat();
        assert!(all.ends_with(&values(&frames)), "{:?} is no end of {all:?}", values(&frames));
        if from == Seq(1) {
            assert_eq!(all, values(&frames));
        }
        let stats = log.stats();
        assert_eq!(stats.bytes, log.segments().iter().map(|segment| segment.bytes).sum::<u64>());
        assert_eq!((stats.first, stats.last), (log.retained_start(), log.visible().seq));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_history_leaves_the_transactions_that_were_committed(
        segment_bytes in prop_oneof![Just(200u64), Just(500), Just(4000), Just(1 << 20)],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(segment_bytes);
        for step in &steps {
            model.take(step);
        }
        model.take(&Step::Sync);
        model.read(model.opened.log.retained_start());
    }
}
