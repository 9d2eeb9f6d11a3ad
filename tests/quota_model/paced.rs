//! A snapshot beside a stream, while the engine is away.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everrelay::event::codec::RowWriter;
use everrelay::event::{Op, TableName};
use everrelay::log::record::{Batch, Commit, Position, Synced};
use everrelay::log::snapshot::{Range, Snapshot, SnapshotNote, SnapshotStep};
use everrelay::log::{Log, Noted, Standing};
use everrelay::source::{Pace, Source, SourceError, Start};
use tokio::sync::watch;

use super::World;
use super::parts::{ModelEngine, ModelSource, PAD, SmallDisk, TABLE, schema};

/// What the keys of the snapshot's rows begin behind: all of the stream.
const BEHIND: u64 = 1_000_000;

/// Rows that a chunk has.
const CHUNK: u64 = 100;

/// The stream of a [`ModelSource`], once it is let go, and a snapshot's rows beside it.
struct PacedSource {
    stream: ModelSource,
    goes: watch::Receiver<bool>,
    pace: Pace,
    rows: u64,
    read: u64,
    told: bool,
    /// Chunks between two batches of the stream; `None`: it goes when no chunk may.
    every: Option<u64>,
    /// How many rows of the snapshot stand before each batch of the stream.
    before: Arc<Mutex<Vec<u64>>>,
}

fn table() -> TableName {
    TableName::new("shop", "t")
}

impl PacedSource {
    fn chunk(&mut self, batch: &mut Batch) {
        if !std::mem::replace(&mut self.told, true) {
            batch.schema(&schema());
        }
        let first = self.read == 0;
        for _ in 0..CHUNK.min(self.rows - self.read) {
            self.read += 1;
            let mut change = batch.change(TABLE);
            let mut row = RowWriter::new(change.values());
            row.u64(BEHIND + self.read);
            row.text(&"x".repeat(PAD));
            change.finish(Op::Read);
        }
        let ranges = vec![Range { number: 0, after: None, upto: None }];
        let begun = SnapshotStep::Begun { ranges, estimated_rows: self.rows };
        let after = (self.read < self.rows).then(|| self.read.to_be_bytes().to_vec());
        let read = SnapshotStep::Read { range: 0, after, rows: CHUNK };
        let steps = Some(begun).filter(|_| first).into_iter().chain([read]);
        let snapshots = steps.map(|step| SnapshotNote { table: table(), step }).collect();
        batch.commit(&Commit {
            synced: Synced::default(),
            gtid: None,
            time_micros: 1,
            position: Position::default(),
            noted: Noted { snapshots, ..Noted::default() },
        });
    }
}

impl Source for PacedSource {
    async fn resolve_start(&mut self, start: &Start) -> Result<Standing, SourceError> {
        let wanted = Snapshot { table: table(), filter: None, paused: false, begun: None };
        assert_eq!(*start, Start::Snapshot);
        Ok(Standing { snapshots: vec![wanted], ..Standing::default() })
    }

    async fn connect(&mut self, after: &Standing) -> Result<(), SourceError> {
        assert_eq!(after.snapshots.len(), 1, "what an empty log begins with is wanted");
        self.told = false;
        self.stream.connect(after).await
    }

    fn disconnect(&mut self) {
        self.stream.disconnect();
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<(), SourceError> {
        let stream = async {
            // Whoever let it go may be gone.
            let _ = self.goes.wait_for(|goes| *goes).await;
            self.stream.fill(batch).await?;
            self.before.lock().unwrap().push(self.read);
            Ok(())
        };
        let turn = self
            .every
            .is_some_and(|every| self.read / CHUNK / every > self.before.lock().unwrap().len() as u64);
        let may_add =
            async { if turn { std::future::pending().await } else { self.pace.until_may_add().await } };
        tokio::select! {
            biased;
            () = may_add, if self.read < self.rows => {}
            filled = stream => return filled,
        }
        self.chunk(batch);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_waits_for_the_engine_long_before_the_quota_and_the_stream_goes_on() {
    let quota = 16 << 20;
    let world = World { quota, ..World::new(false) };
    // 23 MB beside 15 rows of the stream.
    let (rows, stream) = (100_000, [5, 5, 5]);
    let (let_go, goes) = watch::channel(false);
    let mut known = None;
    let running = world.start_with(Start::Snapshot, |log: &Log<SmallDisk>, pace| {
        known = Some((log.clone(), pace.clone()));
        let stream = ModelSource::new(stream.to_vec(), Arc::clone(&world.seen), log.clone());
        PacedSource { stream, goes, pace, rows, read: 0, told: false, every: None, before: Arc::default() }
    });
    let (log, pace) = known.unwrap();
    world.until("the snapshot waits", || !pace.may_add()).await;
    let before = log.visible().commits;
    let_go.send_replace(true);
    world.until("the stream is in the log", || log.visible().commits >= before + 3).await;
    assert!(!pace.may_add() && log.stats().bytes < quota / 2, "{:?}", log.stats());
    let told = log.snapshots().borrow().clone();
    let begun = told[0].begun.as_ref().unwrap();
    assert!(told.len() == 1 && begun.rows < rows / 2 && begun.estimated_rows == rows, "{told:?}");

    world.engine.is_here(true);
    let all = rows + stream.iter().sum::<u64>();
    world.until("all rows", || world.engine.documents() == all).await;
    assert!(world.pause().is_none() && world.connections() == 1, "the source was never paused");
    running.end(&world).await;
    let (disk, options) = (&world.disk, world.options());
    let opened =
        everrelay::log::open(disk, &everrelay::clock::SystemClock, &world.dir.path().join("log"), options);
    let standing = opened.unwrap().writer.standing().unwrap().clone();
    let begun = standing.snapshots[0].begun.as_ref().unwrap();
    assert_eq!((begun.rows, begun.ranges.len()), (rows, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_the_stream_go_before_rows_of_a_snapshot_that_stand_before_them_in_the_log() {
    let engine = Arc::new(ModelEngine::slow(Duration::from_millis(2)));
    let world = World { quota: 1 << 30, engine, ..World::new(true) };
    let (rows, stream) = (20_000, vec![17; 40]);
    let changes = stream.iter().sum::<u64>();
    let before = Arc::<Mutex<Vec<u64>>>::default();
    let running = world.start_with(Start::Snapshot, |log: &Log<SmallDisk>, pace| {
        let stream = ModelSource::new(stream, Arc::clone(&world.seen), log.clone());
        let (_, goes) = watch::channel(true);
        let before = Arc::clone(&before);
        PacedSource { stream, goes, pace, rows, read: 0, told: false, every: Some(5), before }
    });
    world.until("all rows", || world.engine.documents() == rows + changes).await;
    running.end(&world).await;
    let (before, mut sent) = (before.lock().unwrap().clone(), 0);
    let mut overtaken = Vec::new();
    for row in world.engine.order() {
        if row > BEHIND {
            sent += 1;
        } else if row % 17 == 1 {
            overtaken.push(before[(row / 17) as usize].saturating_sub(sent));
        }
    }
    // While rows are at hand: the first ones came before anybody knew that both do.
    overtaken.sort_unstable();
    assert!(overtaken[overtaken.len() * 3 / 4] > 500, "rows that each change has overtaken: {overtaken:?}");
}
