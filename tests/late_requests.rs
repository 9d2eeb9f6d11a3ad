//! A request that the engine applies long after it was given up, when the document was deleted at the source and every engine would have forgotten that.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::event::codec::RowWriter;
use everrelay::event::document::{Action, ByRow, IndexSpec, Verb};
use everrelay::event::{Column, ColumnType, GtidSet, Op, TableName, TableNo, TableSchema};
use everrelay::lifecycle::{Readiness, Shutdown};
use everrelay::log::record::{Batch, Commit, Mark, Position, SchemaRecord, Synced};
use everrelay::log::{Log, LogOptions, Noted, Opened, Writer};
use everrelay::relay::deliver::Deliver;
use everrelay::relay::options::DeliverOptions;
use everrelay::settled::{CursorStore, MemoryCursor};
use everrelay::sink::{
    Bulk, BulkError, Disposition, Expect, Index, IndexNo, Old, Sink, SinkError, Swept, UnderWay, Whose,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// When the first bulk is applied, after it was given up.
const LATE: Duration = Duration::from_secs(70);

#[derive(Clone, Copy, PartialEq)]
enum Tells {
    Tasks,
    Nothing,
}

/// An engine that loses the first bulk for [`LATE`], and forgets what it deleted at once.
struct Engine {
    tells: Tells,
    started: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// By id.
    documents: BTreeMap<String, u64>,
    /// The id of the bulk that is at work.
    late: Option<String>,
    /// Ids that were sent, and when.
    sent: Vec<(String, Duration)>,
    opaque_ids: HashSet<String>,
}

fn apply(state: &mut State, bulk: &Bulk) {
    for item in &bulk.items {
        match item.verb {
            Verb::Delete => drop(state.documents.remove(&*item.id)),
            Verb::Index => {
                let version = state.documents.entry(item.id.to_string()).or_default();
                *version = item.version.0.max(*version);
            }
        }
    }
}

impl Sink for Engine {
    async fn ensure(&self, spec: &IndexSpec, _: Expect) -> Result<Index, SinkError> {
        Ok(Index { no: IndexNo(0), name: spec.alias.clone(), uuid: "u".into(), history: None, made: false })
    }

    async fn find(&self, _: &str, _: Expect) -> Result<Option<Index>, SinkError> {
        Ok(None)
    }

    async fn aliases(&self, _: &ByRow) -> Result<Vec<String>, SinkError> {
        unreachable!("no table has more than one index here")
    }

    async fn sweep(
        &self,
        _: IndexNo,
        _: Old<'_>,
        _: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        unreachable!("no table is truncated here")
    }

    fn encode<E>(
        &self,
        _: IndexNo,
        _: &Action<'_>,
        document: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        body: &mut Vec<u8>,
    ) -> Result<(), E> {
        body.push(b'\n');
        document(&mut Vec::new())
    }

    async fn send(&self, bulk: &Bulk) -> Result<Vec<Disposition>, BulkError> {
        let mut state = self.state.lock().unwrap();
        assert!(state.opaque_ids.insert(bulk.opaque_id.clone()), "each attempt has an id of its own");
        let first = state.sent.is_empty();
        let at = self.started.elapsed();
        state.sent.extend(bulk.items.iter().map(|item| (item.id.to_string(), at)));
        if !first {
            apply(&mut state, bulk);
            return Ok(vec![Disposition::Done; bulk.items.len()]);
        }
        state.late = Some(bulk.opaque_id.clone());
        let (kept, bulk) = (Arc::clone(&self.state), bulk.clone());
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            let mut state = kept.lock().unwrap();
            apply(&mut state, &bulk);
            state.late = None;
        });
        Err(BulkError::Unknown { reason: "reset".into() })
    }

    async fn under_way(&self, whose: Whose<'_>) -> Result<UnderWay, SinkError> {
        if self.tells == Tells::Nothing {
            return Ok(UnderWay::Untold("403".into()));
        }
        let late = self.state.lock().unwrap().late.clone();
        Ok(if late.is_some_and(|late| whose == Whose::Bulk(&late)) {
            UnderWay::Tasks(1)
        } else {
            UnderWay::Nothing
        })
    }

    async fn release(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn row(writer: &mut Writer<SystemDisk>, op: Op, id: i64) {
    let mut batch = Batch::new();
    let bigint = ColumnType::Integer { bits: 64, unsigned: false };
    let column = Column { name: "id".into(), ty: bigint, nullable: false };
    let (name, columns, key) = (TableName::new("shop", "a"), vec![column], vec![0]);
    batch.schema(&SchemaRecord { table: TableNo(0), schema: TableSchema { name, columns, key } });
    let mut change = batch.change(TableNo(0));
    RowWriter::new(change.values()).i64(id);
    change.finish(op);
    batch.commit(&Commit {
        synced: Synced::default(),
        gtid: None,
        time_micros: 1,
        position: Position::default(),
        noted: Noted::default(),
    });
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
}

fn log(dir: &std::path::Path) -> (Writer<SystemDisk>, Log<SystemDisk>) {
    let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
    let Opened { mut writer, log, .. } =
        everrelay::log::open(&SystemDisk, &SystemClock, dir, options).unwrap();
    let mut batch = Batch::new();
    let (gtids, position) = (GtidSet::default(), Position::default());
    batch.mark(&Mark { synced: Synced::default(), gtids, time_micros: 1, position, noted: Noted::default() });
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    (writer, log)
}

/// Row 1 is written, and deleted while the bulk that has it is of unknown outcome; row 2 is written meanwhile.
async fn a_row_is_deleted_while_its_bulk_is_late(tells: Tells) {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, log) = log(dir.path());
    let state = Arc::new(Mutex::new(State::default()));
    let engine = Engine { tells, started: Instant::now(), state: Arc::clone(&state) };
    let (cursor, readiness) = (MemoryCursor::default(), Readiness::new());
    let options = DeliverOptions::default();
    let deliver =
        Deliver::open(log.clone(), Arc::new(engine), cursor.clone(), SystemClock, options, readiness.clone());
    let (shutdown, source_ended) = (Shutdown::new(), CancellationToken::new());
    let task = tokio::spawn({
        let (deliver, shutdown) = (deliver.unwrap(), shutdown.clone());
        async move { deliver.run(&shutdown, &source_ended).await }
    });
    row(&mut writer, Op::Insert, 1);
    while state.lock().unwrap().sent.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    row(&mut writer, Op::Delete, 1);
    row(&mut writer, Op::Insert, 2);
    while state.lock().unwrap().documents.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let obstacles = readiness.obstacles();
    let why = &obstacles["sink"];
    assert!(why.contains("unknown (reset)") && why.contains("waiting for"), "{why}");
    assert!(state.lock().unwrap().sent.iter().all(|(_, at)| *at < LATE / 10), "row 2 has waited: {why}");
    assert!(cursor.load().unwrap().is_none_or(|cursor| cursor.seq < log.visible().seq));
    while cursor.load().unwrap().is_none_or(|cursor| cursor.seq < log.visible().seq) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!task.is_finished(), "it has ended");
    }
    assert!(readiness.obstacles().is_empty());
    let state = state.lock().unwrap();
    assert_eq!(state.documents.keys().collect::<Vec<_>>(), ["2"], "a deleted row is back: {:?}", state.sent);
    let again = state.sent.iter().filter(|(id, _)| id == "1").nth(1).unwrap();
    assert!(again.1 > LATE, "{:?}", state.sent);
    shutdown.request();
}

#[tokio::test(start_paused = true)]
async fn fault_28_a_request_applied_long_after_it_was_given_up_brings_no_deleted_document_back() {
    a_row_is_deleted_while_its_bulk_is_late(Tells::Tasks).await;
}

#[tokio::test(start_paused = true)]
async fn fault_28_nor_where_the_engine_does_not_tell_what_it_is_at_work_on() {
    a_row_is_deleted_while_its_bulk_is_late(Tells::Nothing).await;
}
