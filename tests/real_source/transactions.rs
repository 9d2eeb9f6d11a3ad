//! What counts as a transaction, and when.

use std::time::Duration;

use everrelay::log::Standing;
use everrelay::source::{Source, Start};
use mysql_async::prelude::Queryable;

use crate::outcome::compare;
use crate::server::{At, Server};

at_each!(
    rows_come_with_their_operation_in_commit_order,
    fault_56_only_committed_rows_come_however_their_group_ends,
    create_select_and_temporary_tables_and_other_engines_are_followed,
    added_columns_are_followed_wherever_they_stand,
    a_stream_resumes_after_any_transaction_without_loss_or_repetition,
    transactions_of_other_tables_move_the_position_by_marks,
    heartbeats_keep_a_quiet_stream_alive,
    earliest_begins_with_what_the_server_still_has,
);

async fn rows_come_with_their_operation_in_commit_order(at: At) {
    let mut server = Server::on(at, "rows").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(10))").await;
    let mut follower = server.follow().await;
    server.run("INSERT INTO t VALUES (1, 'a'), (2, 'b')").await;
    server.run("UPDATE t SET name = 'c' WHERE id = 1").await;
    server.run("UPDATE t SET id = 3 WHERE id = 2").await;
    server.run("DELETE FROM t WHERE id = 1").await;
    follower.catch_up(&mut server).await;
    assert_eq!(
        follower.briefs(),
        ["insert t 1,a", "insert t 2,b", "update t 1,c", "rekey t 3,b was 2", "delete t 1,c"]
    );
    let commits = &follower.read.commits;
    assert_eq!(commits.len(), 4);
    assert!(commits.windows(2).all(|w| w[0].position.offset < w[1].position.offset));
    assert!(commits.iter().all(|commit| commit.time_micros > 1_600_000_000_000_000));
}

/// Statements of a group each; `!`: the first fails.
pub const GROUPS: &[&str] = &[
    "INSERT INTO t VALUES (1, 1), (2, 2); INSERT INTO m VALUES (1, 1), (2, 2)",
    "BEGIN; INSERT INTO t VALUES (3, 3); SAVEPOINT s; INSERT INTO t VALUES (4, 4); ROLLBACK TO s; INSERT INTO t VALUES (5, 5); COMMIT",
    "BEGIN; INSERT INTO t VALUES (6, 6); ROLLBACK",
    "BEGIN; INSERT INTO t VALUES (7, 7); CREATE TABLE d (id INT PRIMARY KEY, a INT); ROLLBACK",
    "CREATE TABLE c (PRIMARY KEY (id)) SELECT id + 10 AS id, a FROM t; DELETE FROM c WHERE id = 11",
    // The rows before the one that fails stay where nothing rolls back.
    "!INSERT INTO m VALUES (8, 8), (9, 9), (1, 0)",
    "!INSERT INTO t VALUES (8, 8), (9, 9), (1, 0)",
    "UPDATE m SET a = a + 1; UPDATE t SET a = a + 1 WHERE id < 3; REPLACE INTO m VALUES (1, 100)",
];

/// Of both kinds of tables, which MySQL refuses with GTIDs.
pub const MIXED_GROUPS: &[&str] = &[
    "BEGIN; INSERT INTO t VALUES (20, 1); INSERT INTO m VALUES (20, 1); INSERT INTO t VALUES (21, 1); ROLLBACK",
    "BEGIN; INSERT INTO t VALUES (22, 1); SAVEPOINT `s``1`; INSERT INTO m VALUES (22, 1); INSERT INTO t VALUES (23, 1); \
     ROLLBACK TO `S``1`; INSERT INTO t VALUES (24, 1); COMMIT",
    "BEGIN; INSERT INTO t VALUES (30, 1); SAVEPOINT a; INSERT INTO m VALUES (30, 1); INSERT INTO t VALUES (31, 1); SAVEPOINT b; \
     UPDATE t SET a = 0; ROLLBACK TO b; DELETE FROM t WHERE id = 1; SAVEPOINT b; UPDATE t SET a = 9; ROLLBACK TO b; \
     ROLLBACK TO a; INSERT INTO t VALUES (32, 1); COMMIT",
    "BEGIN; UPDATE t, m SET t.a = 5, m.a = 5 WHERE t.id = m.id; ROLLBACK",
    "BEGIN; INSERT INTO t VALUES (50, 1); CREATE TEMPORARY TABLE x (id INT); DROP TEMPORARY TABLE x; ROLLBACK",
    "BEGIN; INSERT INTO t VALUES (51, 1); SAVEPOINT s; UPDATE t, m SET t.a = 6, m.a = 6 WHERE t.id = m.id; ROLLBACK TO s; \
     ROLLBACK",
    "INSERT INTO t VALUES (60, 60)",
];

async fn fault_56_only_committed_rows_come_however_their_group_ends(at: At) {
    let mut server = Server::on(at, "committed").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    server.run("CREATE TABLE m (id INT PRIMARY KEY, a INT) ENGINE = MyISAM").await;
    let mut follower = server.follow().await;
    let own = if at.is_mariadb() { MIXED_GROUPS } else { &[] };
    for group in GROUPS.iter().chain(own) {
        carry_out(&mut server, group).await;
    }
    let again = follower.catch_up_again(&mut server).await;
    let of = |name| (name, vec!["id", "a"]);
    let right = compare(&mut server, &[of("t"), of("m"), of("c"), of("d")], &follower.read).await;
    assert!(
        right >= 10 && follower.read.standing.gaps.is_empty(),
        "{right} {:?}",
        follower.read.standing.gaps
    );
    // Those whose rows were read before they were rolled back, each once.
    assert_eq!(again, if at.is_mariadb() { 3 } else { 0 });
}

pub async fn carry_out(server: &mut Server, group: &str) {
    let (group, fails) = group.strip_prefix('!').map_or((group, false), |group| (group, true));
    for sql in group.split("; ") {
        assert_eq!(server.conn.query_drop(sql).await.is_err(), fails, "{sql}");
    }
}

async fn create_select_and_temporary_tables_and_other_engines_are_followed(at: At) {
    let mut server = Server::on(at, "kinds").await;
    let mut follower = server.follow().await;
    for sql in [
        "CREATE TABLE a (id INT PRIMARY KEY) ENGINE=MyISAM",
        "INSERT INTO a VALUES (1)",
        "CREATE TABLE b (PRIMARY KEY (id)) SELECT id + 1 AS id FROM a",
        "CREATE TEMPORARY TABLE tmp (id INT PRIMARY KEY)",
        "INSERT INTO tmp VALUES (9)",
        "DROP TEMPORARY TABLE tmp",
        "CREATE TABLE c LIKE b",
        "INSERT INTO c SELECT * FROM b",
        "CREATE TABLE u (a INT NULL, b INT NOT NULL, c VARCHAR(5) NOT NULL, UNIQUE KEY (c, b))",
    ] {
        server.run(sql).await;
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert a 1", "insert b 2", "insert c 2"]);
    // A unique key is known to whoever connects when the table is there.
    let mut follower = server.follow().await;
    server.run("INSERT INTO u VALUES (1, 2, 'x')").await;
    server.run("UPDATE u SET b = 3").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert u 1,2,x", "rekey u 1,3,x was x,2"]);
}

async fn added_columns_are_followed_wherever_they_stand(at: At) {
    let mut server = Server::on(at, "added").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    let mut follower = server.follow().await;
    for sql in [
        "INSERT INTO t VALUES (1, 10)",
        "ALTER TABLE t ADD COLUMN b VARCHAR(5) DEFAULT 'x' AFTER id, ADD c INT FIRST, ALGORITHM=INPLACE",
        "INSERT INTO t VALUES (7, 2, 'b', 20)",
        "ALTER TABLE t ADD INDEX (a)",
        "CREATE INDEX other ON t (b)",
        "DROP INDEX other ON t",
        "UPDATE t SET a = 11 WHERE id = 1",
    ] {
        server.run(sql).await;
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1,10", "insert t 7,2,b,20", "update t NULL,1,x,11"]);
}

async fn a_stream_resumes_after_any_transaction_without_loss_or_repetition(at: At) {
    let mut server = Server::on(at, "resume").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    for id in 0..20 {
        server.run(&format!("INSERT INTO t VALUES ({id})")).await;
        if id % 3 == 0 {
            let after = follower.read.gtids.clone();
            follower.source.connect(&Standing::after(after.clone())).await.unwrap();
        }
        if id % 2 == 0 {
            follower.catch_up(&mut server).await;
        }
    }
    follower.catch_up(&mut server).await;
    let expected: Vec<String> = (0..20).map(|id| format!("insert t {id}")).collect();
    assert_eq!(follower.briefs(), expected);
}

async fn transactions_of_other_tables_move_the_position_by_marks(at: At) {
    let mut server = Server::on(at, "marks").await;
    server.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY)").await;
    let mut options = server.options();
    options.tables = vec![format!("{}.nothing", server.schema)];
    options.mark_interval = Duration::from_millis(100);
    options.mark_transactions = 10;
    let mut follower = server.follow_with(options).await;
    for _ in 0..50 {
        server.run("INSERT INTO t VALUES ()").await;
    }
    follower.catch_up(&mut server).await;
    assert!(follower.read.marks.len() >= 5, "{}", follower.read.marks.len());
    assert!(follower.briefs().is_empty());
    // What is left is marked after the interval, without anything else arriving.
    let target = follower.source.gtids().clone();
    while !target.is_subset(&follower.read.gtids) {
        let mut batch = everrelay::log::record::Batch::new();
        tokio::time::timeout(Duration::from_secs(5), follower.source.fill(&mut batch))
            .await
            .unwrap()
            .unwrap();
        follower.read.batch(&batch);
    }
}

async fn heartbeats_keep_a_quiet_stream_alive(at: At) {
    let server = Server::on(at, "heartbeat").await;
    let mut options = server.options();
    options.heartbeat = Duration::from_millis(300);
    let mut follower = server.follow_with(options).await;
    let quiet = async {
        loop {
            let mut batch = everrelay::log::record::Batch::new();
            follower.source.fill(&mut batch).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(2), quiet).await.is_err());
}

async fn earliest_begins_with_what_the_server_still_has(at: At) {
    let mut server = Server::on(at, "earliest").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    server.run("INSERT INTO t VALUES (1)").await;
    let mut follower = server.follow().await;
    let start = follower.source.resolve_start(&Start::Earliest).await.unwrap();
    assert!(start.gtids.is_subset(&server.executed().await));
    follower.read.gtids = start.gtids.clone();
    follower.source.connect(&start).await.unwrap();
    // Other tests' schemas go by: they are not followed.
    follower.catch_up(&mut server).await;
    assert!(follower.briefs().contains(&"insert t 1".to_owned()));
}

#[tokio::test]
async fn fault_48_tagged_gtids_are_kept_apart() {
    let mut server = Server::new("tagged").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    server.run("SET gtid_next = 'AUTOMATIC:blue'").await;
    server.run("INSERT INTO t VALUES (1)").await;
    server.run("SET gtid_next = 'AUTOMATIC'").await;
    server.run("INSERT INTO t VALUES (2)").await;
    follower.catch_up(&mut server).await;
    assert!(follower.read.commits[0].gtid.as_ref().unwrap().to_string().contains(":blue:"));
    // And they are sent back so.
    let after = follower.read.gtids.clone();
    follower.source.connect(&Standing::after(after.clone())).await.unwrap();
    server.run("INSERT INTO t VALUES (3)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2", "insert t 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn checksums_may_come_and_go_from_one_binlog_file_to_the_next() {
    // The setting is the whole server's.
    let (_own, url) = crate::server::Own::up("test-sums");
    let mut server = Server::at(&url, "sums").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    let start = follower.read.gtids.clone();
    for (id, checksums) in ["NONE", "CRC32", "NONE"].into_iter().enumerate() {
        server.run(&format!("SET GLOBAL binlog_checksum = {checksums}")).await;
        for compression in ["OFF", "ON"] {
            server.run(&format!("SET SESSION binlog_transaction_compression = {compression}")).await;
            server.run("DELETE FROM t").await;
            server.run(&format!("INSERT INTO t VALUES ({id})")).await;
        }
        follower.catch_up(&mut server).await;
        // And by a connection that begins there.
        let after = follower.read.gtids.clone();
        follower.source.connect(&Standing::after(after.clone())).await.unwrap();
    }
    let briefs = follower.briefs();
    assert_eq!(briefs.iter().filter(|brief| brief.starts_with("insert")).count(), 6, "{briefs:?}");
    let mut again = server.follow().await;
    again.read.gtids = start.clone();
    again.source.connect(&Standing::after(start.clone())).await.unwrap();
    again.catch_up(&mut server).await;
    assert_eq!(again.briefs(), briefs);
}
