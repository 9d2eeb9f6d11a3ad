//! Rows as the binlog carries them: events larger than a packet, partitions, statements beside rows, loads, with and without compression.

use crate::server::{At, Server};

at_each!(rows_of_partitions_and_beside_their_statements_come_like_others, loaded_rows_come_as_rows);

#[tokio::test]
async fn rows_larger_than_a_packet_come_whole() {
    let mut server = Server::new("large").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a LONGTEXT)").await;
    let mut follower = server.follow().await;
    // A packet has at most 16,777,215 bytes: an event of more goes on in another.
    for compression in ["OFF", "ON"] {
        server.run(&format!("SET SESSION binlog_transaction_compression = {compression}")).await;
        server.run("INSERT INTO t VALUES (1, REPEAT('ab', 8500000))").await;
        server.run("DELETE FROM t").await;
    }
    follower.catch_up(&mut server).await;
    let values = follower.read.changes.iter().map(|row| row.values[1].1.as_str());
    let values: Vec<_> = values.map(|value| (value.len(), value.ends_with("abab"))).collect();
    assert_eq!(values, [(17_000_000, true); 4]);
}

async fn rows_of_partitions_and_beside_their_statements_come_like_others(at: At) {
    let mut server = Server::on(at, "beside").await;
    // A partition's number stands in each rows event's extra data, and for an update both.
    server.run("CREATE TABLE p (id INT PRIMARY KEY, a INT) PARTITION BY HASH (id) PARTITIONS 4").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    let mut follower = server.follow().await;
    if !at.is_mariadb() {
        // The statement comes as an event of its own before its rows.
        server.run("SET SESSION binlog_rows_query_log_events = ON").await;
    }
    for sql in [
        "INSERT INTO p VALUES (1, 1), (2, 2), (3, 3)",
        "UPDATE p SET a = a + 10 WHERE id < 3",
        "UPDATE p SET id = 6 WHERE id = 3",
        "DELETE FROM p WHERE id = 1",
        "INSERT INTO t SELECT id, a FROM p",
        "REPLACE INTO t VALUES (2, 20)",
        "INSERT INTO t VALUES (2, 0) ON DUPLICATE KEY UPDATE a = 21",
        "UPDATE p, t SET p.a = 100, t.a = 100 WHERE p.id = t.id AND p.id = 6",
        "DELETE p, t FROM p JOIN t USING (id) WHERE id = 2",
    ] {
        server.run(sql).await;
    }
    follower.catch_up(&mut server).await;
    let mut briefs = follower.briefs();
    // Partitions come in an order of their own.
    briefs[..3].sort();
    briefs[3..5].sort();
    let expected = [
        ["insert p 1,1", "insert p 2,2", "insert p 3,3"].as_slice(),
        &["update p 1,11", "update p 2,12"],
        &["rekey p 6,3 was 3", "delete p 1,11"],
    ]
    .concat();
    assert_eq!(briefs[..7], expected);
    let of =
        |table: &str| briefs[7..].iter().filter(|brief| brief.contains(table)).cloned().collect::<Vec<_>>();
    assert_eq!(of(" p "), ["update p 6,100", "delete p 2,12"]);
    let in_t = of(" t ");
    assert_eq!(in_t.last().map(String::as_str), Some("delete t 2,21"), "{in_t:?}");
    assert!(in_t.contains(&"update t 6,100".to_owned()), "{in_t:?}");
}

async fn loaded_rows_come_as_rows(at: At) {
    let mut server = Server::on(at, "loaded").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, name VARCHAR(20) CHARACTER SET latin1)").await;
    let mut follower = server.follow().await;
    let folder = tempfile::tempdir().unwrap();
    // The server reads it, under whatever user it runs.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).unwrap();
    let path = folder.path().join("rows.tsv");
    let rows: String = (0..5_000).map(|id| format!("{id}\tname é {id}\n")).collect();
    std::fs::write(&path, rows).unwrap();
    server.run(&format!("LOAD DATA INFILE '{}' INTO TABLE t CHARACTER SET utf8mb4", path.display())).await;
    follower.catch_up(&mut server).await;
    let briefs = follower.briefs();
    assert_eq!((briefs.len(), follower.read.commits.len()), (5_000, 1));
    assert_eq!(briefs[4_711], "insert t 4711,name é 4711");
}
