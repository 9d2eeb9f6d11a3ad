//! Transactions that a real server compressed (`binlog_transaction_compression = ON`): read like others, in flat memory.
//!
//! The server is that of `tests/real_source`. A program of its own, so that the memory it measures is nothing else's.

use std::time::Duration;

use everrelay::log::record::Batch;
use everrelay::source::Source;
use mysql_async::prelude::Queryable;

use server::Server;

#[allow(dead_code)]
#[path = "../real_source/server.rs"]
mod server;

/// How many transactions the server has compressed since it started.
async fn compressed(server: &mut Server) -> u64 {
    let query = "SELECT COALESCE(SUM(TRANSACTION_COUNTER), 0) FROM performance_schema.binary_log_transaction_compression_stats \
                 WHERE COMPRESSION_TYPE = 'ZSTD'";
    server.conn.query_first::<u64, _>(query).await.unwrap().unwrap()
}

#[tokio::test]
async fn fault_53_compressed_transactions_read_like_others_and_a_large_one_takes_no_memory() {
    let mut server = Server::new("compressed").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(200), j JSON)").await;
    server.run("CREATE TABLE o (id INT PRIMARY KEY)").await;
    let mut options = server.options();
    options.tables.push(format!("!{}.o", server.schema));
    let mut follower = server.follow_with(options).await;
    let before = compressed(&mut server).await;
    for level in [1, 3, 22] {
        // One plain, and one of each kind.
        for sql in [
            "SET SESSION binlog_transaction_compression = OFF".to_owned(),
            "INSERT INTO t VALUES (1, 'plain', NULL)".to_owned(),
            format!(
                "SET SESSION binlog_transaction_compression = ON, binlog_transaction_compression_level_zstd = {level}"
            ),
            "INSERT INTO t VALUES (2, REPEAT('é', 100), '{\"a\": [1, 2]}'), (3, 'three', 'null')".to_owned(),
            "UPDATE t SET a = CONCAT(a, '!') WHERE id < 3".to_owned(),
            "UPDATE t SET id = 4 WHERE id = 3".to_owned(),
            "INSERT INTO o VALUES (1)".to_owned(),
            "BEGIN".to_owned(),
            "INSERT INTO o VALUES (2)".to_owned(),
            "DELETE FROM t".to_owned(),
            "DELETE FROM o".to_owned(),
            "COMMIT".to_owned(),
            "SET gtid_next = 'AUTOMATIC:green'".to_owned(),
            "INSERT INTO t VALUES (5, 'tagged', NULL)".to_owned(),
            "DELETE FROM t".to_owned(),
            "SET gtid_next = 'AUTOMATIC'".to_owned(),
            // Its statement is an event of its own.
            "SET SESSION binlog_rows_query_log_events = ON".to_owned(),
            "INSERT INTO t VALUES (6, NULL, NULL)".to_owned(),
            "SET SESSION binlog_rows_query_log_events = OFF".to_owned(),
            "DELETE FROM t".to_owned(),
        ] {
            server.run(&sql).await;
        }
        follower.catch_up(&mut server).await;
        let long = "é".repeat(100);
        assert_eq!(
            std::mem::take(&mut follower.read.changes).iter().map(server::Row::brief).collect::<Vec<_>>(),
            [
                "insert t 1,plain,NULL",
                &format!("insert t 2,{long},{{\"a\": [1, 2]}}"),
                "insert t 3,three,null",
                "update t 1,plain!,NULL",
                &format!("update t 2,{long}!,{{\"a\": [1, 2]}}"),
                "rekey t 4,three,null was 3",
                "delete t 1,plain!,NULL",
                &format!("delete t 2,{long}!,{{\"a\": [1, 2]}}"),
                "delete t 4,three,null",
                "insert t 5,tagged,NULL",
                "delete t 5,tagged,NULL",
                "insert t 6,NULL,NULL",
                "delete t 6,NULL,NULL",
            ],
            "level {level}"
        );
    }
    assert!(compressed(&mut server).await >= before + 24, "the server did compress");

    // Some 100 MB in one transaction, which compress to about half.
    let rows = 52_000;
    server.run("CREATE TABLE large (id INT PRIMARY KEY, a TEXT)").await;
    server.run(&format!("SET cte_max_recursion_depth = {rows}")).await;
    server.run("SET SESSION binlog_transaction_compression_level_zstd = 1").await;
    server
        .run(&format!(
            "INSERT INTO large WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {rows}) \
             SELECT id, CONCAT(REPEAT(SHA2(id, 512), 8), REPEAT(SHA2(-id, 512), 8)) FROM n"
        ))
        .await;
    let target = server.executed().await;
    // Forgets the peak so far (proc(5), clear_refs).
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    let (mut changes, mut bytes, mut commits) = (0, 0, 0);
    let mut batch = Batch::new();
    let reading = async {
        while !target.is_subset(follower.source.gtids()) {
            follower.source.fill(&mut batch).await.unwrap();
            (changes, bytes, commits) =
                (changes + batch.changes(), bytes + batch.len(), commits + batch.commits());
            batch.clear();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), reading).await.expect("it arrives in time");
    let grew = peak() - before;
    println!("{bytes} bytes of {changes} changes; the process grew by {grew}");
    assert_eq!((changes, commits), (rows, 1));
    assert!(bytes > 100_000_000);
    assert!(grew < 16 << 20, "{grew}");
}

/// The most memory that this process has had, bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}
