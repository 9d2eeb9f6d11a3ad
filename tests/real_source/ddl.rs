//! DDL in mid-stream.

use crate::server::{At, Server};

at_each!(fault_58_dropped_tables_are_gaps_and_the_stream_goes_on);

const DROPPED: &str = "t: DROP TABLE: its documents stay as they were";

async fn fault_58_dropped_tables_are_gaps_and_the_stream_goes_on(at: At) {
    let mut server = Server::on(at, "dropped").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    server.run("CREATE TABLE u (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    server.run("DROP TABLE IF EXISTS nothing").await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    assert!(follower.read.gaps.is_empty());
    server.run("DROP TABLE IF EXISTS t").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    server.run("INSERT INTO t VALUES (2)").await;
    server.run("DROP TABLE t").await;
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2"]);
    let dropped = |table: &str| format!("{table}: DROP DATABASE: its documents stay as they were");
    assert_eq!(follower.read.gaps, [DROPPED.to_owned(), DROPPED.into(), dropped("t"), dropped("u")]);
}
