//! What a snapshot writes, where nothing else comes.

use std::time::{Duration, Instant};

use everrelay::event::{Op, TableName};
use everrelay::log::record::{Batch, Change, Kind, Mark};
use everrelay::log::snapshot::{Snapshot, SnapshotNote, SnapshotStep};
use everrelay::source::mysql::{Host, MysqlSource, Tls};
use everrelay::source::orders::{self, SnapshotOrder, Tables};
use everrelay::source::{Source, Start};

use crate::pair::Pair;
use crate::server::{At, Server};

at_each!(what_a_snapshot_writes_is_handed_over_before_the_server_says_anything);

/// Much longer than it takes to write a note.
const HEARTBEAT: Duration = Duration::from_secs(6);

async fn what_a_snapshot_writes_is_handed_over_before_the_server_says_anything(at: At) {
    let mut server = Server::on(at, "handed_over").await;
    server.run("CREATE TABLE t (a INT PRIMARY KEY)").await;
    let mut options = server.options();
    options.heartbeat = HEARTBEAT;
    let (orders, queue) = orders::channel();
    let mut source = MysqlSource::new(options).unwrap().ordered_by(queue);
    let mut start = source.resolve_start(&Start::Now).await.unwrap();
    let table = TableName::new(&server.schema, "t");
    // What is paused has nothing done beside the stream whose end would be news.
    start.snapshots = vec![Snapshot { table: table.clone(), filter: None, paused: true, begun: None }];
    source.connect(&start).await.unwrap();
    // Servers may be shared, so that something comes; then nothing does for a while.
    let mut heard = Instant::now();
    while heard.elapsed() < HEARTBEAT / 2 {
        heard = Instant::now();
        source.fill(&mut Batch::new()).await.unwrap();
    }
    let asked = tokio::spawn(async move { orders.ask(SnapshotOrder::Cancel(Tables::All)).await });
    // It waits before the source looks.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (began, mut batch) = (Instant::now(), Batch::new());
    source.fill(&mut batch).await.unwrap();
    assert!(began.elapsed() < HEARTBEAT / 2, "it waited for {:?}", began.elapsed());
    // The log keeps it.
    batch.take_told().into_iter().for_each(|told| told.send(()).expect("who asked waits"));
    assert_eq!(asked.await.unwrap(), Ok(vec![table.clone()]));
    let (kind, payload) = batch.payloads().next().expect("the order is in the batch");
    assert_eq!(kind, Kind::Mark);
    let note = SnapshotNote { table, step: SnapshotStep::Cancelled };
    assert_eq!(Mark::decode(payload).unwrap().noted.snapshots, [note]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_read_when_a_replica_that_stood_still_keeps_up() {
    let mut pair = Pair::up("held").await;
    pair.primary.run("CREATE TABLE t (a INT PRIMARY KEY)").await;
    pair.primary.run("INSERT INTO t VALUES (1), (2)").await;
    pair.replicated().await;
    pair.replica.run("STOP REPLICA SQL_THREAD").await;

    let mut options = pair.primary.options();
    options.heartbeat = Duration::from_secs(1);
    options.snapshot.max_replica_lag = Some(Duration::from_secs(5));
    options.snapshot_replicas = vec![Host { address: pair.replica.address(), tls: Tls::Local }];
    let mut source = MysqlSource::new(options).unwrap();
    let upstream = source.upstream();
    let mut start = source.resolve_start(&Start::Now).await.unwrap();
    let table = TableName::new(&pair.primary.schema, "t");
    start.snapshots = vec![Snapshot { table, filter: None, paused: false, begun: None }];
    source.connect(&start).await.unwrap();

    let (mut rows, began) = (0, Instant::now());
    let mut held = false;
    while rows < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "held: {held}");
        let mut batch = Batch::new();
        source.fill(&mut batch).await.unwrap();
        let changes = batch.payloads().filter(|(kind, _)| *kind == Kind::Change);
        rows += changes.filter(|(_, payload)| Change::decode(payload).unwrap().op == Op::Read).count();
        let why = upstream.borrow().snapshots_wait.clone();
        if !held && why.is_some_and(|why| why.contains("does not execute")) {
            assert_eq!(rows, 0);
            held = true;
            pair.replica.run("START REPLICA SQL_THREAD").await;
        }
    }
    assert!(held);
    // Nobody waits for anything when nothing is read.
    while upstream.borrow().snapshots_wait.is_some() {
        assert!(began.elapsed() < Duration::from_secs(60));
        source.fill(&mut Batch::new()).await.unwrap();
    }
}
