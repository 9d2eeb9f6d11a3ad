//! A reader that is held up, and a server that gives up on it.

use std::time::{Duration, Instant};

use everrelay::log::record::Batch;
use everrelay::source::Source;
use mysql_async::prelude::Queryable;

use crate::server::{At, Own, Server};

at_each!(fault_60_a_reader_that_was_given_up_on_reads_a_large_transaction_to_its_end_by_another_connection);

/// Rows of a megabyte each: far more than lies in the sockets between.
const ROWS: usize = 96;

/// The threads that stream.
async fn streams(server: &mut Server) -> Vec<u64> {
    let sql = "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    server.conn.query(sql).await.expect("the list")
}

async fn fault_60_a_reader_that_was_given_up_on_reads_a_large_transaction_to_its_end_by_another_connection(
    at: At,
) {
    // Its streams are ours alone.
    let (_own, url) = Own::up_at(at, "test-stalls");
    let mut server = Server::at(&url, "stalls").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT)").await;
    let mut follower = server.follow().await;
    server.run("BEGIN").await;
    for id in 0..ROWS {
        server.run(&format!("INSERT INTO t VALUES ({id}, REPEAT('{}', 1000000))", id % 10)).await;
    }
    server.run("COMMIT").await;
    server.run("INSERT INTO t VALUES (1000, 'behind it')").await;
    // Somewhere in its midst.
    let mut batch = Batch::new();
    follower.source.fill(&mut batch).await.expect("the stream goes on");
    assert!(batch.commits() == 0 && !batch.is_empty());
    follower.read.batch(&batch);
    // It has ten minutes by what we ask for at the connect; this is what comes then.
    let [stream] = streams(&mut server).await[..] else { panic!("one stream") };
    server.run(&format!("KILL {stream}")).await;
    let until = Instant::now() + Duration::from_secs(60);
    while !streams(&mut server).await.is_empty() {
        assert!(Instant::now() < until, "the server goes on waiting");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let again = follower.catch_up_again(&mut server).await;
    assert_eq!(again, 1, "one connection more is enough");
    let rows: Vec<_> =
        follower.read.changes.iter().map(|row| (&*row.values[0].1, row.values[1].1.len())).collect();
    assert_eq!(rows.len(), ROWS + 1);
    for (id, (found, length)) in rows[..ROWS].iter().enumerate() {
        assert_eq!((*found, *length), (&*id.to_string(), 1_000_000));
    }
    assert_eq!(rows[ROWS], ("1000", "behind it".len()));
}
