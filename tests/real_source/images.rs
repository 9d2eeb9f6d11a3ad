//! Rows that their events do not say whole, by session: read again by key, or put together from differences.

use std::collections::{BTreeMap, BTreeSet};

use everrelay::event::Op;
use everrelay::source::mysql::MysqlSource;
use everrelay::source::{Source, SourceError};
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::columns;
use crate::server::{At, Follower, Server};

at_each!(fault_51_a_row_that_is_sent_before_it_is_committed_is_waited_for);
at_every!(
    fault_51_no_row_is_stale_whoever_writes_while_it_is_read_again,
    fault_51_rows_without_all_columns_are_read_again_by_key,
    keys_of_every_type_find_their_row,
    a_key_that_did_not_come_and_a_table_that_has_changed_are_gaps,
    what_was_read_is_the_horizon_until_the_stream_has_come_as_far,
    a_transaction_of_many_rows_is_read_again_in_chunks,
    rows_that_fill_a_batch_alone_are_read_again,
    a_key_that_no_sql_can_spell_is_a_gap,
);

fn seeded(test: &str) -> StdRng {
    let seed: u64 = std::env::var("EVERRELAY_TEST_SEED")
        .ok()
        .map_or_else(|| u64::from(rand::random::<u32>()), |seed| seed.parse().expect("a number"));
    println!("seed {seed}; to replay: EVERRELAY_TEST_SEED={seed} cargo test --test real_source {test}");
    StdRng::seed_from_u64(seed)
}

/// The rows as the changes leave them, by the text of their key.
fn standing(follower: &Follower, key: &[&str]) -> BTreeMap<String, Vec<(String, String)>> {
    let mut rows = BTreeMap::new();
    for change in &follower.read.changes {
        let value = |name: &&str| change.values.iter().find(|(column, _)| column == name).unwrap().1.clone();
        let id = key.iter().map(value).collect::<Vec<_>>().join("|");
        match change.op {
            Op::Delete | Op::Tombstone => drop(rows.remove(&id)),
            Op::Rekey => {
                rows.remove(&change.old_key.join("|"));
                rows.insert(id, change.values.clone());
            }
            _ => drop(rows.insert(id, change.values.clone())),
        }
    }
    rows
}

/// What the server has, column by column as text.
async fn compare(server: &mut Server, follower: &mut Follower, table: &str, columns: &[&str], key: &[&str]) {
    follower.catch_up(server).await;
    let casts = columns.iter().map(|c| format!("COALESCE(CAST({c} AS CHAR), 'NULL')"));
    let sql = format!("SELECT {} FROM {table}", casts.collect::<Vec<_>>().join(", "));
    let rows: Vec<mysql_async::Row> = server.conn.query(sql).await.unwrap();
    let found = standing(follower, key);
    assert_eq!(rows.len(), found.len());
    for row in rows {
        let row: Vec<String> = (0..columns.len()).map(|i| row.get(i).unwrap()).collect();
        let id = key.iter().map(|k| row[columns.iter().position(|c| c == k).unwrap()].clone());
        let ours = &found[&id.collect::<Vec<_>>().join("|")];
        for ((column, expected), (_, ours)) in columns.iter().zip(&row).zip(ours) {
            assert!(expected == ours, "{column}: {expected:?} != {ours:?}");
        }
    }
}

async fn fault_51_rows_without_all_columns_are_read_again_by_key(at: At) {
    let mut random = seeded("fault_51_rows");
    let mut server = Server::on(at, "images").await;
    server
        .run(
            "CREATE TABLE t (a VARCHAR(20) CHARACTER SET latin1, b INT, c TEXT, d JSON, e BLOB, f DECIMAL(9,2) DEFAULT 7, \
             g INT GENERATED ALWAYS AS (b + 1) VIRTUAL, s VARCHAR(40) GENERATED ALWAYS AS (CONCAT(a, b)) STORED, PRIMARY KEY (a, b))",
        )
        .await;
    let mut follower = server.follow().await;
    let images = images(&mut server).await;
    for round in 0..150 {
        let image = images.choose(&mut random).unwrap();
        server.run(&format!("SET binlog_row_image = '{image}'")).await;
        let (a, b) = (["x", "é", "X", "", "ö'"].choose(&mut random).unwrap(), random.random_range(0..6));
        let a = a.replace('\'', "''");
        let many = random.random_bool(0.3);
        if many {
            server.run("BEGIN").await;
        }
        for _ in 0..if many { 6 } else { 1 } {
            let n = random.random_range(0..1000);
            let statement = match random.random_range(0..7) {
                0 | 1 => format!("REPLACE INTO t (a, b, c) VALUES ('{a}', {b}, 'text {n}')"),
                2 => format!("INSERT IGNORE INTO t (a, b, d) VALUES ('{a}', {b}, '{{\"n\": {n}}}')"),
                3 => format!("UPDATE t SET f = {n} WHERE b = {b}"),
                4 => format!("UPDATE t SET c = REPEAT('c', {n}), e = 0xFF00 WHERE a = '{a}'"),
                5 => {
                    format!("UPDATE IGNORE t SET b = b + 1, a = CONCAT(a, '') WHERE b = {b} ORDER BY b DESC")
                }
                _ => format!("DELETE FROM t WHERE a = '{a}' AND b = {b}"),
            };
            server.run(&statement).await;
        }
        if many {
            server.run("COMMIT").await;
        }
        if round % 25 == 0 {
            compare(&mut server, &mut follower, "t", &["a", "b", "c", "d"], &["a", "b"]).await;
        }
    }
    compare(&mut server, &mut follower, "t", &["a", "b", "c", "d"], &["a", "b"]).await;
    assert!(follower.read.changes.iter().any(|change| change.op == Op::Tombstone));
    assert!(follower.read.commits.iter().all(|commit| commit.noted.gaps.is_empty()));
}

/// What sessions may say of row images.
async fn images(server: &mut Server) -> Vec<&'static str> {
    let mut images = vec!["MINIMAL", "NOBLOB", "FULL"];
    if server.conn.query_drop("SET binlog_row_image = 'FULL_NODUP'").await.is_ok() {
        images.push("FULL_NODUP");
    }
    images
}

/// One of several that write the same few rows; what fails (a deadlock, a key that is there) changes nothing.
async fn write(mut server: Server, mut random: StdRng, images: Vec<&'static str>, alters: bool) {
    // MODIFY keeps what is there only so.
    server.run("SET innodb_lock_wait_timeout = 1, sql_mode = 'STRICT_ALL_TABLES'").await;
    for step in 0..150 {
        let image = images.choose(&mut random).unwrap();
        server.run(&format!("SET binlog_row_image = '{image}'")).await;
        let many = random.random_bool(0.3);
        if many {
            server.run("BEGIN").await;
        }
        for _ in 0..if many { random.random_range(2..6) } else { 1 } {
            let (a, b) = (["x", "é", "X", "y"].choose(&mut random).unwrap(), random.random_range(0..5));
            let n = random.random_range(0..1000);
            let sql = match random.random_range(0..9) {
                0 | 1 => format!("REPLACE INTO t (a, b, c) VALUES ('{a}', {b}, 'text {n}')"),
                2 => format!(
                    "INSERT INTO t (a, b, d) VALUES ('{a}', {b}, {n}) ON DUPLICATE KEY UPDATE d = d + 1"
                ),
                3 => format!("UPDATE t SET d = {n} WHERE b = {b}"),
                4 => format!("UPDATE t SET c = REPEAT('c', {n}), e = 0xFF00 WHERE a = '{a}'"),
                5 => format!("UPDATE IGNORE t SET b = b + 1, d = {n} WHERE b = {b} ORDER BY b DESC"),
                // Equal in its collation, and another document.
                6 => format!("UPDATE t SET a = '{a}' WHERE a = '{a}' AND b = {b}"),
                7 => format!("DELETE FROM t WHERE a = '{a}' AND b < {b}"),
                _ => format!("DELETE FROM t WHERE b = {b} LIMIT 2"),
            };
            let _ = server.conn.query_drop(sql).await;
        }
        if many {
            let end = ["COMMIT", "COMMIT", "ROLLBACK"].choose(&mut random).unwrap();
            server.run(end).await;
        }
        if alters && step % 15 == 7 {
            let place = ["FIRST", "AFTER b", "AFTER e"].choose(&mut random).unwrap();
            let sql = match step % 4 {
                0 => format!("ALTER TABLE t MODIFY c TEXT {place}"),
                1 => format!("ALTER TABLE t ADD INDEX i{step} (d), ALGORITHM = COPY"),
                _ => format!("ALTER TABLE t ADD COLUMN n{step} INT NULL {place}"),
            };
            let _ = server.conn.query_drop(sql).await;
        }
    }
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
}

async fn fault_51_no_row_is_stale_whoever_writes_while_it_is_read_again(at: At) {
    let mut random = seeded("fault_51_no_row_is_stale");
    let mut server = Server::on(at, "image_race").await;
    server
        .run(
            "CREATE TABLE t (a VARCHAR(20) CHARACTER SET latin1, b INT, c TEXT, d INT DEFAULT 7, e BLOB, \
             g INT GENERATED ALWAYS AS (b + 1) VIRTUAL, s VARCHAR(40) GENERATED ALWAYS AS (CONCAT(a, b)) STORED, PRIMARY KEY (a, b))",
        )
        .await;
    let mut follower = server.follow().await;
    let images = images(&mut server).await;
    let mut writers = Vec::new();
    for n in 0..3 {
        let mut writer = Server::on(at, &format!("writer_{n}")).await;
        writer.run(&format!("USE {}", server.schema)).await;
        let random = StdRng::seed_from_u64(random.random());
        writers.push(tokio::spawn(write(writer, random, images.clone(), n == 0)));
    }
    while writers.iter().any(|writer| !writer.is_finished()) {
        follower.catch_up(&mut server).await;
    }
    for writer in writers {
        writer.await.expect("a writer writes");
    }
    follower.catch_up(&mut server).await;
    assert!(follower.read.gaps.is_empty(), "{:?}", follower.read.gaps);
    let documents: BTreeSet<Vec<String>> = standing(&follower, &["a", "b"])
        .values()
        .map(|row| {
            let value = |name: &str| row.iter().find(|(column, _)| column == name).unwrap().1.clone();
            ["a", "b", "c", "d", "e", "g"].iter().map(|name| value(name)).collect()
        })
        .collect();
    let asked = "SELECT a, CAST(b AS CHAR), COALESCE(c, 'NULL'), COALESCE(CAST(d AS CHAR), 'NULL'), COALESCE(HEX(e), 'NULL'), CAST(g AS CHAR) FROM t";
    let rows: Vec<(String, String, String, String, String, String)> = server.conn.query(asked).await.unwrap();
    let rows: BTreeSet<Vec<String>> =
        rows.into_iter().map(|(a, b, c, d, e, g)| vec![a, b, c, d, e, g]).collect();
    assert_eq!(documents, rows);
    let again = follower.read.changes.iter().filter(|change| change.op == Op::Tombstone).count();
    println!("{} changes, {} rows, {again} tombstones", follower.read.changes.len(), rows.len());
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
}

/// A server that waits for a replica's answer, which does not come, sends a transaction a while before it commits it.
async fn fault_51_a_row_that_is_sent_before_it_is_committed_is_waited_for(at: At) {
    let (_own, url) = crate::server::Own::up_at(at, "test-semi-sync");
    let mut server = Server::at(&url, "semi_sync").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)").await;
    server.run("INSERT INTO t VALUES (1, 1, 1)").await;
    let mut follower = server.follow().await;
    let mut writer = Server::at(&url, "semi_sync_writer").await;
    writer.run(&format!("USE {}", server.schema)).await;
    writer.run("SET binlog_row_image = 'MINIMAL'").await;
    let (role, nobody) = if at.is_mariadb() { ("master", "slave") } else { ("source", "replica") };
    if !at.is_mariadb() {
        // Where an earlier run left it, it is installed.
        let _ =
            server.conn.query_drop("INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'").await;
    }
    let waits_for_nobody = format!("wait_no_{nobody} = ON");
    for setting in ["wait_point = 'AFTER_SYNC'", "timeout = 2000", &waits_for_nobody, "enabled = ON"] {
        server.run(&format!("SET GLOBAL rpl_semi_sync_{role}_{setting}")).await;
    }
    let update = tokio::spawn(async move { writer.run("UPDATE t SET a = 2").await });
    let mut batch = everrelay::log::record::Batch::new();
    while follower.read.commits.is_empty() {
        follower.source.fill(&mut batch).await.expect("the stream goes on");
        follower.read.batch(&batch);
        batch.clear();
    }
    update.await.unwrap();
    assert_eq!(follower.briefs(), ["update t 1,2,1"]);
}

async fn keys_of_every_type_find_their_row(at: At) {
    let mut random = seeded("keys_of_every_type");
    let mut server = Server::on(at, "image_keys").await;
    let keyable = columns::COLUMNS.iter().filter(|(_, ty, kind)| {
        !matches!(kind, columns::Kind::Json | columns::Kind::Blob(_))
            && !ty.contains("TEXT")
            && !ty.contains("BLOB")
            && *ty != "VARCHAR(500)"
    });
    for (n, (_, ty, kind)) in keyable.enumerate() {
        let ty = match kind {
            columns::Kind::Enum => format!("ENUM('{}')", columns::ENUM.join("','")),
            columns::Kind::Set => format!("SET('{}')", columns::SET.join("','")),
            _ => ty.replace(" NULL", ""),
        };
        server
            .run(&format!(
                "CREATE TABLE k{n} (k {ty} NOT NULL PRIMARY KEY, v INT, filler TEXT) DEFAULT CHARSET utf8mb4"
            ))
            .await;
        let mut options = server.options();
        options.tables = vec![format!("{}.k{n}", server.schema)];
        let mut follower = server.follow_with(options).await;
        server.run("SET binlog_row_image = 'FULL'").await;
        for v in 0..12 {
            let value = columns::value(&mut random, *kind, false);
            if value != "NULL" {
                server.run(&format!("INSERT IGNORE INTO k{n} VALUES ({value}, {v}, 'f')")).await;
            }
        }
        server.run("SET binlog_row_image = 'MINIMAL'").await;
        server.run(&format!("UPDATE k{n} SET v = v + 100")).await;
        follower.catch_up(&mut server).await;
        let rows: u64 = server.conn.query_first(format!("SELECT COUNT(*) FROM k{n}")).await.unwrap().unwrap();
        let found = standing(&follower, &["k"]);
        assert_eq!(found.len() as u64, rows, "{ty}");
        for row in found.values() {
            assert!(row[1].1.parse::<i32>().unwrap() >= 100, "{ty}: {row:?}");
        }
        server.run(&format!("DELETE FROM k{n}")).await;
        follower.catch_up(&mut server).await;
        assert!(standing(&follower, &["k"]).is_empty(), "{ty}");
    }
}

async fn a_key_that_did_not_come_and_a_table_that_has_changed_are_gaps(at: At) {
    let mut server = Server::on(at, "image_gaps").await;
    server.run("CREATE TABLE t (a INT DEFAULT 5, b INT DEFAULT 7, c TEXT, PRIMARY KEY (a, b))").await;
    let mut follower = server.follow().await;
    server.run("SET binlog_row_image = 'MINIMAL'").await;
    for (number, insert) in ["INSERT INTO t (a) VALUES (1)", "INSERT INTO t () VALUES ()"].iter().enumerate()
    {
        server.run(insert).await;
        follower.catch_up(&mut server).await;
        assert_eq!(follower.read.commits.len(), number + 1, "{insert}");
        let gaps = &follower.read.commits[number].noted.gaps;
        assert!(gaps.len() == 1 && gaps[0].table.table == "t" && gaps[0].why.contains("key"), "{gaps:?}");
    }
    // Nobody reads before the table is another one.
    server.run("UPDATE t SET c = 'x'").await;
    server.run("ALTER TABLE t DROP COLUMN c").await;
    let mut batch = everrelay::log::record::Batch::new();
    while follower.read.commits.len() < 3 {
        let result = follower.source.fill(&mut batch).await;
        follower.read.batch(&batch);
        batch.clear();
        if result.is_err() {
            break;
        }
    }
    let gaps = &follower.read.commits.last().unwrap().noted.gaps;
    assert!(gaps.len() == 1 && gaps[0].why.contains("another one"), "{gaps:?}");
}

async fn what_was_read_is_the_horizon_until_the_stream_has_come_as_far(at: At) {
    let mut server = Server::on(at, "image_horizon").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, v INT, w TEXT)").await;
    server.run("INSERT INTO t VALUES (1, 0, 'w')").await;
    let mut follower = server.follow().await;
    server.run("SET binlog_row_image = 'MINIMAL'").await;
    for v in 1..=5 {
        server.run(&format!("UPDATE t SET v = {v}")).await;
    }
    follower.catch_up(&mut server).await;
    // The first one's row is the last one's already.
    assert_eq!(follower.briefs(), vec!["update t 1,5,w"; 5]);
    let [first, .., last] = &follower.read.commits[..] else { panic!("five transactions") };
    assert!(first.noted.horizon.contains(last.gtid.as_ref().unwrap()), "{}", first.noted.horizon);
}

async fn a_transaction_of_many_rows_is_read_again_in_chunks(at: At) {
    let mut server = Server::on(at, "image_many").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, v INT, w VARCHAR(300))").await;
    let depth = if at.is_mariadb() { "max_recursive_iterations" } else { "cte_max_recursion_depth" };
    server.run(&format!("SET SESSION {depth} = 100000")).await;
    server
        .run(
            "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
             SELECT i, 0, REPEAT('w', 300) FROM n",
        )
        .await;
    let mut follower = server.follow().await;
    server.run("SET binlog_row_image = 'MINIMAL'").await;
    server.run("UPDATE t SET v = id").await;
    server.run("DELETE FROM t WHERE id % 2 = 0").await;
    follower.catch_up(&mut server).await;
    let rows = standing(&follower, &["id"]);
    assert_eq!(rows.len(), 10_000);
    assert!(rows.values().all(|row| row[0].1 == row[1].1 && row[2].1.len() == 300));
}

async fn rows_that_fill_a_batch_alone_are_read_again(at: At) {
    let mut server = Server::on(at, "image_large").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, v INT, w LONGBLOB)").await;
    // A batch ends with one, before and behind others, and with the last of them.
    for (id, length) in [(1, 2_000_000), (2, 3), (3, 1_100_000), (4, 600_000), (5, 600_000), (6, 3_000_000)] {
        server.run(&format!("INSERT INTO t VALUES ({id}, 0, REPEAT('{id}', {length}))")).await;
    }
    let mut follower = server.follow().await;
    server.run("SET binlog_row_image = 'NOBLOB'").await;
    server.run("UPDATE t SET v = 1").await;
    server.run("UPDATE t SET v = 2 WHERE id = 6").await;
    server.run("DELETE FROM t WHERE id = 4").await;
    compare(&mut server, &mut follower, "t", &["id", "v"], &["id"]).await;
    let rows = standing(&follower, &["id"]);
    let lengths: Vec<_> = rows.values().map(|row| row[2].1.len() / 2).collect();
    assert_eq!(lengths, [2_000_000, 3, 1_100_000, 600_000, 3_000_000]);
    assert!(follower.read.gaps.is_empty(), "{:?}", follower.read.gaps);
}

async fn a_key_that_no_sql_can_spell_is_a_gap(at: At) {
    let mut server = Server::on(at, "image_unspelt").await;
    server
        .run("CREATE TABLE t (k VARCHAR(5) CHARACTER SET ucs2 COLLATE ucs2_bin PRIMARY KEY, v INT, w BLOB)")
        .await;
    // Half of a pair is no character, and what stands for it would find other rows.
    server.run("INSERT INTO t VALUES (_ucs2 0xD800, 1, 'w'), ('a', 1, 'w')").await;
    let mut follower = server.follow().await;
    server.run("SET binlog_row_image = 'MINIMAL'").await;
    server.run("UPDATE t SET v = 2").await;
    server.run("SET binlog_row_image = 'FULL'").await;
    server.run("INSERT INTO t VALUES ('b', 1, 'w')").await;
    follower.catch_up(&mut server).await;
    let gaps = &follower.read.gaps;
    assert!(gaps.len() == 1 && gaps[0].starts_with("t: "), "{gaps:?}");
    assert_eq!(follower.briefs().last().map(String::as_str), Some("insert t b,1,77"));
}

/// A random document as SQL's text.
fn random_document(random: &mut StdRng, depth: u32) -> String {
    match random.random_range(0..if depth == 0 { 5 } else { 8 }) {
        0 => random.random_range(-70_000..70_000_i64).to_string(),
        1 => format!("{}.5", random.random_range(0..99)),
        2 => "true".to_owned(),
        3 => "null".to_owned(),
        4 => format!("\"{}\"", "té".repeat(random.random_range(0..90))),
        5 | 6 => {
            let names = ["a", "b", "cc", "a b", "é", "long name here"];
            let members: BTreeMap<_, _> = (0..random.random_range(0..5))
                .map(|_| (*names.choose(random).unwrap(), random_document(random, depth - 1)))
                .collect();
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{{}}}", members.join(", "))
        }
        _ => {
            let cells = (0..random.random_range(0..5)).map(|_| random_document(random, depth - 1));
            format!("[{}]", cells.collect::<Vec<_>>().join(", "))
        }
    }
}

fn random_path(random: &mut StdRng) -> String {
    let legs = [".a", ".b", ".cc", ".\"a b\"", ".\"é\"", "[0]", "[1]", "[last]", "[7]", ".\"q\\\\\"q\""];
    let legs = (0..random.random_range(1..4)).map(|_| *legs.choose(random).unwrap());
    format!("${}", legs.collect::<String>())
}

#[tokio::test]
async fn fault_51_differences_of_documents_become_what_the_server_prints() {
    let mut random = seeded("fault_51_differences");
    let mut server = Server::new("partial").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, j JSON, n INT, k JSON)").await;
    let mut follower = server.follow().await;
    server.run("SET binlog_row_value_options = 'PARTIAL_JSON'").await;
    for id in 0..20 {
        let documents = [random_document(&mut random, 4), random_document(&mut random, 3)];
        // Long enough that differences are shorter.
        let long = "x".repeat(300);
        server
            .run(&format!(
                "INSERT INTO t VALUES ({id}, JSON_SET('{{\"pad\": \"{long}\"}}', '$.a', CAST('{}' AS JSON)), 0, '[\"{long}\", {}]')",
                documents[0], documents[1]
            ))
            .await;
    }
    for round in 0..200 {
        let image = ["FULL", "FULL", "NOBLOB", "MINIMAL"].choose(&mut random).unwrap();
        server.run(&format!("SET binlog_row_image = '{image}'")).await;
        let mut change = |column: &str| {
            let (path, other) = (random_path(&mut random), random_path(&mut random));
            let value = random_document(&mut random, 2);
            match random.random_range(0..4) {
                0 => {
                    format!("{column} = JSON_SET({column}, '{path}', CAST('{value}' AS JSON), '{other}', 7)")
                }
                1 => format!("{column} = JSON_REPLACE({column}, '{path}', CAST('{value}' AS JSON))"),
                2 if path != "$" => format!("{column} = JSON_REMOVE({column}, '{path}', '{other}')"),
                _ => format!("{column} = JSON_SET({column}, '$[99]', {round}, '$.a[99]', 'end')"),
            }
        };
        let (first, second) = (change("j"), change("k"));
        let id = random.random_range(0..20);
        server
            .run(&format!("UPDATE t SET {first}, {second}, n = {round} WHERE id IN ({id}, {id} + 3)"))
            .await;
        if round % 40 == 39 {
            compare(&mut server, &mut follower, "t", &["id", "j", "n", "k"], &["id"]).await;
        }
    }
    assert!(follower.read.commits.iter().all(|commit| commit.noted.gaps.is_empty()));
}

#[tokio::test]
async fn fault_51_a_statement_in_statement_format_is_definite_and_names_table_and_place() {
    let mut server = Server::new("statements").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, v INT)").await;
    server.run("INSERT INTO t VALUES (1, 1)").await;
    for format in ["STATEMENT", "MIXED"] {
        let mut follower = server.follow().await;
        server.run(&format!("SET binlog_format = '{format}'")).await;
        server.run("UPDATE t SET v = v + 1").await;
        server.run("SET binlog_format = 'ROW'").await;
        let SourceError::Definite(error) = follower.error(&mut server).await else { panic!("{format}") };
        let text = error.to_string();
        assert!(text.contains("UPDATE in statement format"), "{text}");
        assert!(text.contains(&format!("{}.t", server.schema)) && text.contains("GTID "), "{text}");
        assert!(follower.read.changes.is_empty());
    }
}

#[tokio::test]
async fn a_server_whose_images_lack_columns_is_followed() {
    let (_own, url) = crate::server::Own::up("test-images");
    let mut server = Server::at(&url, "lacking").await;
    for setting in ["binlog_row_image = 'MINIMAL'", "binlog_row_value_options = 'PARTIAL_JSON'"] {
        server.run(&format!("SET GLOBAL {setting}")).await;
        server.run(&format!("SET SESSION {setting}")).await;
    }
    server.run("CREATE TABLE t (id INT PRIMARY KEY, v INT DEFAULT 3, j JSON)").await;
    let mut follower = server.follow().await;
    server
        .run("INSERT INTO t (id, j) VALUES (1, '{\"a\": 1, \"b\": \"long enough to be a difference\"}')")
        .await;
    server.run("UPDATE t SET j = JSON_SET(j, '$.a', 2)").await;
    follower.catch_up(&mut server).await;
    let last = follower.briefs().pop().unwrap();
    assert_eq!(last, "update t 1,3,{\"a\": 2, \"b\": \"long enough to be a difference\"}");
    // A new connection begins anew.
    let after = everrelay::log::Standing::after(follower.read.gtids.clone());
    let mut source = MysqlSource::new(server.options()).unwrap();
    source.connect(&after).await.unwrap();
}
