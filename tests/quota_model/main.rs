//! The whole relay with little room: a model source, the real log on real files, a model engine that is away at will. Whatever there is no
//! room for, every row arrives, nothing is read for ever, and what cannot fit is said.

mod paced;
mod parts;
mod several;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use everrelay::clock::SystemClock;
use everrelay::disk::Reserve;
use everrelay::event::Seq;
use everrelay::lifecycle::{Readiness, Shutdown};
use everrelay::log::{Log, LogOptions, Opened, Quota, Retention as Kept, WriteError};
use everrelay::relay::committer::Committer;
use everrelay::relay::deliver::Deliver;
use everrelay::relay::error::{IngestError, RelayError};
use everrelay::relay::ingest::Ingest;
use everrelay::relay::options::DeliverOptions;
use everrelay::relay::retention::Held;
use everrelay::relay::sinks::{Side, Sinks};
use everrelay::relay::{Outlook, Retention};
use everrelay::settled::{
    Cursor, CursorStore, HowEnded, MemoryCursor, ROOM_BYTES, Replay, Replayed, Reserved,
};
use everrelay::source::{Pace, Source, Start};
use parts::{ModelEngine, ModelSource, Seen, SmallDisk};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const QUOTA: u64 = 64 << 10;
/// A quarter above it.
const SECOND: u64 = 80 << 10;
const KEEP_FREE: u64 = 1 << 20;
const PLENTY: u64 = 1 << 40;
/// What a row takes in the log, about, bytes.
const ROW: u64 = 230;

struct World {
    dir: tempfile::TempDir,
    disk: SmallDisk,
    engine: Arc<ModelEngine>,
    seen: Arc<Seen>,
    readiness: Readiness,
    cursor: MemoryCursor,
    /// Sinks beside the one of this engine and this cursor, by name.
    others: Vec<(String, Arc<ModelEngine>, MemoryCursor)>,
    shutdown: Shutdown,
    kept: Kept,
    quota: u64,
}

impl World {
    fn new(engine_is_here: bool) -> World {
        World {
            dir: tempfile::tempdir().unwrap(),
            disk: SmallDisk::new(PLENTY),
            engine: Arc::new(ModelEngine::new(engine_is_here)),
            seen: Arc::default(),
            readiness: Readiness::new(),
            cursor: MemoryCursor::default(),
            others: Vec::new(),
            shutdown: Shutdown::new(),
            // What is settled is not kept: room is what the engine has not taken.
            kept: Kept { age: Duration::ZERO, bytes: 0 },
            quota: QUOTA,
        }
    }

    fn options(&self) -> LogOptions {
        let (retention, quota) = (self.kept, Quota::Bytes(self.quota));
        LogOptions { retention, quota, keep_free_bytes: KEEP_FREE, ..LogOptions::default() }
    }

    /// Starts a relay that reads transactions of so many rows each.
    fn start(&self, rows: &[u64]) -> Running {
        self.start_beside(rows, None)
    }

    fn start_with<S: Source>(
        &self,
        start: Start,
        source: impl FnOnce(&Log<SmallDisk>, Pace) -> S,
    ) -> Running {
        self.start_whole(start, source, None)
    }

    /// The same beside a sink that has no cursor yet, and will stand there.
    fn start_beside(&self, rows: &[u64], joins: Option<Seq>) -> Running {
        let source =
            |log: &Log<SmallDisk>, _| ModelSource::new(rows.to_vec(), Arc::clone(&self.seen), log.clone());
        self.start_whole(Start::Earliest, source, joins)
    }

    fn start_whole<S: Source>(
        &self,
        start: Start,
        source: impl FnOnce(&Log<SmallDisk>, Pace) -> S,
        joins: Option<Seq>,
    ) -> Running {
        let Opened { writer, log, .. } =
            everrelay::log::open(&self.disk, &SystemClock, &self.dir.path().join("log"), self.options())
                .unwrap();
        let reserve = Reserve::open(self.disk.clone(), &self.dir.path().join("reserve"), 0).unwrap();
        let side = |name: &str, engine: &Arc<ModelEngine>, cursor: &MemoryCursor| {
            // One that is away is not to be waited for.
            let usual = DeliverOptions::default();
            let drain = if self.others.is_empty() { usual.drain } else { Duration::from_millis(500) };
            let options = DeliverOptions { name: name.to_owned(), bulk_bytes: 4000, drain, ..usual };
            let deliver = Deliver::open(
                log.clone(),
                Arc::clone(engine),
                cursor.clone(),
                SystemClock,
                options,
                self.readiness.clone(),
            );
            Side::ready(name, cursor.clone(), deliver.unwrap())
        };
        let mut sides = vec![side("main", &self.engine, &self.cursor)];
        sides.extend(self.others.iter().map(|(name, engine, cursor)| side(name, engine, cursor)));
        let sinks = Sinks::new(log.clone(), sides, self.readiness.clone());
        let source = source(&log, sinks.pace());
        let committer = Committer::start(writer).unwrap();
        let mut held = vec![Held { store: self.cursor.clone(), joins: Seq(0) }];
        held.extend(self.others.iter().map(|(.., store)| Held { store: store.clone(), joins: Seq(0) }));
        held.extend(joins.map(|joins| Held { store: MemoryCursor::default(), joins }));
        let retention = Retention::of_all(log, held, SystemClock, reserve, committer.carrier());
        let ingest = Ingest::new(source, committer, start, SystemClock, self.readiness.clone());
        let outlook = retention.outlook();
        let (readiness, shutdown) = (self.readiness.clone(), self.shutdown.clone());
        let task = tokio::spawn(async move {
            everrelay::relay::run(ingest, sinks, retention, readiness, &shutdown).await
        });
        Running { task, outlook }
    }

    async fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "waited in vain: {what}; {:?}, {:?}",
                self.seen,
                self.readiness.obstacles()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn until_all_arrived(&self, rows: &[u64]) {
        let all: u64 = rows.iter().sum();
        self.until("all rows", || self.engine.documents() == all).await;
        assert_eq!(self.engine.last(), all, "a row that nobody inserted");
    }

    fn pause(&self) -> Option<String> {
        self.readiness.obstacles().remove("log")
    }

    /// Waits until the source is paused, and returns why. Paused is: not connected, and not connecting either.
    async fn until_paused(&self) -> String {
        self.until("the source is paused", || self.pause().is_some()).await;
        assert!(!self.seen.connected.load(Ordering::SeqCst), "a paused source is not left unread");
        self.pause().unwrap()
    }

    fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

struct Running {
    task: JoinHandle<Result<(), RelayError>>,
    outlook: watch::Receiver<Outlook>,
}

impl Running {
    async fn end(self, world: &World) {
        world.shutdown.request();
        self.task.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_10_at_the_quota_the_source_is_paused_and_under_the_low_water_mark_it_goes_on() {
    let world = World::new(false);
    let rows = [5].repeat(400);
    let mut running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("quota") && reason.contains("65536"), "{reason}");
    assert_eq!(world.connections(), 1);
    let taken = world.seen.most_log_bytes.load(Ordering::SeqCst);
    assert!((QUOTA * 8 / 10..SECOND).contains(&taken), "{taken}");
    // It stays paused while nothing goes, however often anybody looks.
    for _ in 0..2 {
        running.outlook.changed().await.unwrap();
    }
    assert!(running.outlook.borrow().outage_seconds == 0, "{:?}", running.outlook.borrow());
    assert_eq!((world.connections(), world.engine.documents()), (1, 0));

    world.engine.is_here(true);
    world.until_all_arrived(&rows).await;
    world.until("the obstacle is gone", || world.pause().is_none()).await;
    // 460 kB through 64 KiB, of which each pause frees a segment of 8 KiB at least.
    let most = 1 + 5 * 400 * ROW / (8 << 10);
    assert!((2..=most).contains(&world.connections()), "{} connections", world.connections());
    let most_bytes = world.seen.most_log_bytes.load(Ordering::SeqCst);
    assert!(most_bytes <= SECOND, "{most_bytes}");
    running.end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_relay_that_is_started_again_waits_before_it_connects() {
    let world = World::new(false);
    let rows = [5].repeat(100);
    let running = world.start(&rows);
    world.until_paused().await;
    running.task.abort();
    assert!(running.task.await.unwrap_err().is_cancelled());
    let world =
        World { readiness: Readiness::new(), shutdown: Shutdown::new(), seen: Arc::default(), ..world };
    // The writer's thread ends by itself, and with it the log's lock.
    let locked = || {
        everrelay::log::open(&world.disk, &SystemClock, &world.dir.path().join("log"), world.options())
            .is_err()
    };
    world.until("the log is unlocked", || !locked()).await;
    let running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("quota"), "{reason}");
    assert_eq!(world.connections(), 0);
    world.engine.is_here(true);
    world.until_all_arrived(&rows).await;
    running.end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_53_a_transaction_over_the_second_limit_is_cut_and_read_again_when_the_log_is_drained() {
    let world = World::new(false);
    // 30 KB, then a transaction of 70 KB: too large beside them, and not alone.
    let large = 70_000 / ROW;
    let mut rows = [10].repeat(13);
    rows.extend([large, 10, 10]);
    let running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("a transaction of"), "{reason}");
    assert_eq!(world.seen.begun(14), 1);
    world.engine.is_here(true);
    world.until_all_arrived(&rows).await;
    assert_eq!(world.seen.begun(14), 2, "once more, and no more");
    running.end(&world).await;
    let (disk, options) = (&world.disk, world.options());
    let opened = everrelay::log::open(disk, &SystemClock, &world.dir.path().join("log"), options).unwrap();
    assert_eq!(opened.writer.position().unwrap().count(), rows.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_53_a_transaction_too_large_for_a_drained_log_is_an_error_with_its_place_and_the_key_to_raise()
{
    for engine_is_here in [true, false] {
        let world = World::new(engine_is_here);
        let mut rows = [10].repeat(13);
        rows.push(120_000 / ROW);
        let running = world.start(&rows);
        if !engine_is_here {
            world.until_paused().await;
            world.engine.is_here(true);
        }
        let error = tokio::time::timeout(Duration::from_secs(30), running.task).await;
        let error = error.unwrap().unwrap().unwrap_err();
        let RelayError::Ingest(IngestError::Write(WriteError::TransactionTooLarge { bytes, second, .. })) =
            &error
        else {
            panic!("{error}");
        };
        assert!((SECOND * 3 / 4..SECOND * 5 / 4).contains(bytes) && *second == SECOND, "{error}");
        let text = error.to_string();
        assert!(text.contains("binlog.000001:13") && text.contains("quota_bytes"), "{text}");
        assert_eq!(world.engine.documents(), 130, "everything before it arrived");
        assert!(world.seen.begun(14) <= 2, "{} times", world.seen.begun(14));
        // Nothing of it is kept, and with a larger quota it goes on.
        let log = world.dir.path().join("log");
        let options = LogOptions { quota: Quota::Bytes(1 << 20), ..world.options() };
        let opened = everrelay::log::open(&world.disk, &SystemClock, &log, options).unwrap();
        assert_eq!(opened.writer.position().unwrap().count(), 13);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_xa_transaction_that_stays_undecided_is_carried_along_and_counts_in_the_end() {
    let world = World::new(false);
    // 4 KB, undecided for seven times the quota.
    let mut rows = vec![17];
    rows.extend([5].repeat(400));
    rows.push(0);
    let running = world.start(&rows);
    world.until_paused().await;
    world.engine.is_here(true);
    world.until_all_arrived(&rows).await;
    world.until("the obstacle is gone", || world.pause().is_none()).await;
    let most_bytes = world.seen.most_log_bytes.load(Ordering::SeqCst);
    assert!(most_bytes <= SECOND, "{most_bytes}");
    running.end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xa_transactions_that_hold_most_of_the_log_do_not_pause_the_source_for_ever() {
    // Never worth carrying, and just not: then there is no room for it.
    for held in [40_000, 18_000] {
        is_an_error_in_the_end(held).await;
    }
}

async fn is_an_error_in_the_end(bytes: u64) {
    let world = World::new(true);
    let mut rows = vec![bytes / ROW];
    rows.extend([5].repeat(200));
    rows.push(0);
    let running = world.start(&rows);
    let error = tokio::time::timeout(Duration::from_secs(30), running.task).await;
    let error = error.unwrap().unwrap().unwrap_err();
    let RelayError::Ingest(IngestError::Write(WriteError::TransactionTooLarge { held, .. })) = &error else {
        panic!("{error}");
    };
    assert!(*held > bytes * 9 / 10 && error.to_string().contains("XA RECOVER"), "{error}");
    // With a larger quota it goes on, and what is undecided was kept.
    let log = world.dir.path().join("log");
    let options = LogOptions { quota: Quota::Bytes(1 << 20), ..world.options() };
    let opened = everrelay::log::open(&world.disk, &SystemClock, &log, options).unwrap();
    assert_eq!(opened.writer.standing().unwrap().prepared.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_for_a_replay_alone_gives_way_above_the_low_water_mark() {
    let kept = Kept::default();
    let world = World { kept, ..World::new(true) };
    let rows = [5].repeat(400);
    let running = world.start(&rows);
    world.until_all_arrived(&rows).await;
    let low = world.options().limits(0, PLENTY).low;
    let bytes = || {
        let files = std::fs::read_dir(world.dir.path().join("log")).unwrap();
        files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum::<u64>()
    };
    world.until("the log is under the mark", || bytes() <= low).await;
    // Nor does it give way further than it must: a segment more would still be under the mark.
    assert!(bytes() > low - 2 * QUOTA / 8, "{}", bytes());
    running.end(&world).await;
}

/// Under the low-water mark a replay's range has several segments.
const LARGE_QUOTA: u64 = 8 * QUOTA;

/// A stopped relay that has settled these rows, and was ordered to replay all of them; the engine is away, and the log is not kept for anything else.
async fn ordered_to_replay(rows: &[u64]) -> World {
    let world = World { kept: Kept::default(), quota: LARGE_QUOTA, ..World::new(true) };
    let running = world.start(rows);
    world.until_all_arrived(rows).await;
    running.end(&world).await;
    let mut store = world.cursor.clone();
    let cursor = store.load().unwrap().unwrap();
    let replay = Replay {
        number: 1,
        from: Seq(1),
        end: cursor.seq.next(),
        tables: Vec::new(),
        indices: Vec::new(),
        since_micros: 1,
        slice: ([0; 2], [u64::MAX; 2]),
        place: Seq(0),
        horizon: Seq(0),
        noted: Seq(0),
        counts: Replayed::default(),
        ended: None,
    };
    store.commit(&Cursor { replay: Some(replay), ..cursor }).unwrap();
    world.engine.is_here(false);
    let kept = Kept { age: Duration::ZERO, bytes: 0 };
    let (readiness, shutdown, seen) = (Readiness::new(), Shutdown::new(), Arc::default());
    World { kept, readiness, shutdown, seen, ..world }
}

impl World {
    fn segments(&self) -> usize {
        let files = std::fs::read_dir(self.dir.path().join("log")).unwrap();
        files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|end| end == "log")).count()
    }

    fn has_first_segment(&self) -> bool {
        self.dir.path().join("log/00000000000000000001.log").exists()
    }

    async fn until_the_replay_has_ended(&self) -> HowEnded {
        let ended = || self.cursor.load().unwrap().unwrap().replay.unwrap().ended;
        self.until("the replay has ended", || ended().is_some()).await;
        ended().unwrap().how
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replay_is_yet_to_read_stays_over_its_time_until_the_replay_has_ended() {
    let mut rows = [5].repeat(200);
    let world = ordered_to_replay(&rows).await;
    let segments = world.segments();
    assert!(segments > 3, "{segments}");
    rows.push(5);
    let mut running = world.start(&rows);
    for _ in 0..3 {
        running.outlook.changed().await.unwrap();
        assert!(world.has_first_segment());
    }
    assert!(world.segments() >= segments && world.pause().is_none());
    world.engine.is_here(true);
    assert_eq!(world.until_the_replay_has_ended().await, HowEnded::Done);
    world.until("the segments go", || world.segments() == 1).await;
    world.until_all_arrived(&rows).await;
    running.end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replay_is_yet_to_read_gives_way_above_the_low_water_mark_and_the_replay_says_so() {
    let mut rows = [5].repeat(200);
    let world = ordered_to_replay(&rows).await;
    // More than the quota, by itself.
    rows.extend([5].repeat(600));
    let running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("quota"), "{reason}");
    world.until("the first segment gives way", || !world.has_first_segment()).await;
    world.engine.is_here(true);
    world.until_all_arrived(&rows).await;
    let HowEnded::Failed(why) = world.until_the_replay_has_ended().await else { panic!("it has failed") };
    assert!(why.contains("is no longer kept"), "{why}");
    world.until("the obstacle is gone", || world.pause().is_none()).await;
    running.end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_08_a_nearly_full_disk_pauses_the_source_before_a_byte_is_written_and_room_lets_it_go_on() {
    let world = World::new(true);
    let first = [5].repeat(20);
    let running = world.start(&first);
    world.until_all_arrived(&first).await;
    running.end(&world).await;

    // From here on nothing fits, though the quota would allow it.
    world.disk.set_free(KEEP_FREE);
    let world =
        World { readiness: Readiness::new(), shutdown: Shutdown::new(), seen: Arc::default(), ..world };
    let rows = [5].repeat(60);
    let running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("disk is full"), "{reason}");
    world.disk.set_free(KEEP_FREE + (QUOTA / 8) - 1);
    let mut outlook = running.outlook.clone();
    for _ in 0..2 {
        outlook.changed().await.unwrap();
    }
    assert!(world.pause().is_some(), "not before a segment more is free");
    world.disk.set_free(PLENTY);
    world.until_all_arrived(&rows).await;
    world.until("the obstacle is gone", || world.pause().is_none()).await;
    running.end(&world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_08_a_transaction_that_meets_a_full_disk_is_cut_and_read_again_when_more_is_free_than_it_took()
{
    let world = World::new(true);
    let rows = [5, 60_000 / ROW, 5];
    // The first batches fit, the rest of the transaction does not.
    world.disk.set_free(KEEP_FREE + 20_000);
    *world.seen.shrinks.lock().unwrap() = Some((2, world.disk.clone(), KEEP_FREE));
    let running = world.start(&rows);
    let reason = world.until_paused().await;
    assert!(reason.contains("disk is full"), "{reason}");
    world.disk.set_free(PLENTY);
    world.until_all_arrived(&rows).await;
    running.end(&world).await;
}

#[test]
fn fault_09_a_cursor_gives_the_reserve_up_when_it_has_no_room_and_not_before_it_has_something_to_write() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("reserve");
    let disk = SmallDisk::new(PLENTY);
    let reserve = Reserve::open(disk.clone(), &path, 1 << 20).unwrap();
    assert!(reserve.renew(KEEP_FREE).unwrap() && path.exists());
    let mut cursor = Reserved::new(MemoryCursor::default(), reserve.clone());
    disk.set_free(0);
    assert_eq!(cursor.load().unwrap(), None);
    assert!(path.exists(), "nothing is written yet");
    disk.set_free(ROOM_BYTES);
    cursor.commit(&Cursor::default()).unwrap();
    assert!(path.exists(), "there is room");
    disk.set_free(ROOM_BYTES - 1);
    cursor.commit(&Cursor::default()).unwrap();
    assert!(!path.exists());
    assert_eq!(cursor.load().unwrap(), Some(Cursor::default()));
    // What it lacks is nobody's until it is held again.
    disk.set_free((1 << 20) + KEEP_FREE);
    assert_eq!(reserve.free_bytes().unwrap(), KEEP_FREE);
    assert!(reserve.renew(KEEP_FREE).unwrap() && path.exists());
}
