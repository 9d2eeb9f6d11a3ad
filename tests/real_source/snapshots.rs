//! What a snapshot writes, where nothing else comes.

use std::time::{Duration, Instant};

use everrelay::event::TableName;
use everrelay::log::record::{Batch, Kind, Mark};
use everrelay::log::snapshot::{Snapshot, SnapshotNote, SnapshotStep};
use everrelay::source::mysql::MysqlSource;
use everrelay::source::orders::{self, SnapshotOrder, Tables};
use everrelay::source::{Source, Start};

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
