//! What cannot be carried stops the source, and the error names event, table and place.

use std::time::Duration;

use everrelay::log::Standing;
use everrelay::secret::Secret;
use everrelay::source::mysql::{MysqlOptions, MysqlSource, Tls};
use everrelay::source::{Source, SourceError, Start};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::server::{At, Own, Server, definite_in_time};

at_each!(
    what_no_row_event_shows_is_a_definite_error,
    the_same_on_tables_that_are_not_followed_stops_nothing,
    a_position_of_another_history_is_a_definite_error,
    a_table_without_a_key_stops_the_start,
    a_table_without_a_key_that_is_made_later_is_a_definite_error_until_it_has_one,
    fault_61_two_sources_of_one_identity_are_told_that_they_clash,
    a_row_over_the_limit_is_a_definite_error,
    a_row_of_many_packets_arrives_whole,
    a_server_that_is_not_there_is_transient_and_one_that_says_no_is_definite,
    fault_42_a_killed_stream_is_transient,
    fault_44_purged_transactions_are_a_definite_error_that_names_them,
);

fn definite(error: SourceError) -> String {
    match error {
        SourceError::Definite(error) => error.to_string(),
        other => panic!("not definite: {other}"),
    }
}

/// The text names the table and a place of file, offset and GTID.
fn names(text: &str, event: &str, table: &str) {
    assert!(text.contains(event), "{text}");
    assert!(text.contains(table), "{text}");
    assert!(text.contains("GTID ") && text.contains("binlog.0") || text.contains("-bin.0"), "{text}");
}

async fn what_no_row_event_shows_is_a_definite_error(at: At) {
    const EITHER: &[(&str, &str)] =
        &[("SET binlog_format = 'STATEMENT'; UPDATE t SET a = 5", "UPDATE in statement format")];
    const MARIADB: &[(&str, &str)] =
        &[("ALTER TABLE t ADD SYSTEM VERSIONING", "ALTER TABLE … ADD SYSTEM VERSIONING")];
    let own = if at.is_mariadb() { MARIADB } else { &[] };
    for (i, (sql, event)) in EITHER.iter().chain(own).enumerate() {
        let mut server = Server::on(at, &format!("stop_{i}")).await;
        server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
        server.run("INSERT INTO t VALUES (1, 1)").await;
        let mut follower = server.follow().await;
        for sql in sql.split("; ") {
            server.run(sql).await;
        }
        let text = definite(follower.error(&mut server).await);
        println!("{sql}\n    {text}");
        names(&text, event, &format!("{}.t", server.schema));
        assert!(follower.read.changes.is_empty(), "{sql}");
        // Out of the way of other tests, whatever its session was left as.
        let _ = server.conn.query_drop(format!("DROP DATABASE IF EXISTS {}", server.schema)).await;
    }
}

async fn the_same_on_tables_that_are_not_followed_stops_nothing(at: At) {
    let mut server = Server::on(at, "free").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut options = server.options();
    options.tables.push(format!("!{}.o*", server.schema));
    let mut follower = server.follow_with(options).await;
    for sql in [
        "CREATE TABLE o (id INT, a INT)",
        "INSERT INTO o VALUES (1, 1)",
        "TRUNCATE TABLE o",
        "ALTER TABLE o DROP COLUMN a",
        "SET binlog_format = 'STATEMENT'",
        "INSERT INTO o VALUES (2)",
        "SET binlog_format = 'ROW', binlog_row_image = 'MINIMAL'",
        "INSERT INTO o VALUES (3)",
        "SET binlog_row_image = 'FULL'",
        "XA START 'free'",
        "INSERT INTO o VALUES (4)",
        "XA END 'free'",
        "XA PREPARE 'free'",
        "XA COMMIT 'free'",
        "XA START 'one'",
        "INSERT INTO t VALUES (8)",
        "XA END 'one'",
        "XA COMMIT 'one' ONE PHASE",
        "RENAME TABLE o TO o2",
        "DROP TABLE o2",
        "CREATE VIEW v AS SELECT * FROM t",
        "DROP VIEW v",
        "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET @x = 1",
        "DROP TRIGGER g",
        "CREATE PROCEDURE p() BEGIN DELETE FROM t; END",
        "DROP PROCEDURE p",
        "OPTIMIZE TABLE t",
        "ANALYZE TABLE t",
        "INSERT INTO t VALUES (9)",
    ] {
        server.run(sql).await;
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 8", "insert t 9"]);
}

async fn a_position_of_another_history_is_a_definite_error(at: At) {
    let server = Server::on(at, "history").await;
    let mut source = MysqlSource::new(server.options()).unwrap();
    let missing = if at.is_mariadb() { "77-5-9" } else { "11111111-2222-3333-4444-555555555555:1-5" };
    let foreign = Standing::after(missing.parse().unwrap());
    let text = definite(source.connect(&foreign).await.unwrap_err());
    assert!(text.contains("never executed") && text.contains(missing), "{text}");
    let mut ahead = source.resolve_start(&Start::Now).await.unwrap();
    ahead.gtids.union(&foreign.gtids);
    let text = definite_in_time(&mut source, &ahead).await;
    assert!(text.contains(missing), "{text}");
}

async fn a_table_without_a_key_stops_the_start(at: At) {
    let mut server = Server::on(at, "keyless").await;
    server.run("CREATE TABLE t (a INT, UNIQUE KEY (a))").await;
    let mut source = MysqlSource::new(server.options()).unwrap();
    let start = source.resolve_start(&Start::Now).await.unwrap();
    let text = definite(source.connect(&start).await.unwrap_err());
    assert!(text.contains(&format!("{}.t", server.schema)) && text.contains("primary key"), "{text}");
}

async fn a_table_without_a_key_that_is_made_later_is_a_definite_error_until_it_has_one(at: At) {
    let mut server = Server::on(at, "newkey").await;
    let mut follower = server.follow().await;
    // The server promotes the first unique key over whole NOT NULL columns, and names it in the table map.
    server.run("CREATE TABLE t (a INT NOT NULL UNIQUE)").await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1"]);

    server.run("CREATE TABLE nokey (a INT)").await;
    server.run("INSERT INTO nokey VALUES (1)").await;
    let text = definite(follower.error(&mut server).await);
    names(&text, "TABLE_MAP event", &format!("{}.nokey", server.schema));
    let after = follower.read.standing.clone();
    let text = definite(follower.source.connect(&after).await.unwrap_err());
    assert!(text.contains("nokey") && text.contains("primary key"), "{text}");
    server.run("ALTER TABLE nokey ADD id INT AUTO_INCREMENT PRIMARY KEY").await;
    server.run("INSERT INTO nokey VALUES (2, 2)").await;
    follower.connect_again().await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert nokey 2,2"]);
    assert!(follower.read.gaps[0].starts_with("nokey: its rows were left out"), "{:?}", follower.read.gaps);
}

async fn fault_61_two_sources_of_one_identity_are_told_that_they_clash(at: At) {
    let mut server = Server::on(at, "clash").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let (mut one, mut two) = (server.follow().await, server.follow().await);
    let after = one.read.gtids.clone();
    let mut errors = Vec::new();
    for _ in 0..3 {
        let mut batch = everrelay::log::record::Batch::new();
        one.source.connect(&Standing::after(after.clone())).await.unwrap();
        // An event has come, so the server knows this stream: the one that asks next takes it.
        one.source.fill(&mut batch).await.unwrap();
        // The server ends one stream of that name, and may take one that is ending already for it: then it is asked again.
        let error = 'evicted: {
            for _ in 0..10 {
                two.source.connect(&Standing::after(after.clone())).await.unwrap();
                let evicted = async {
                    loop {
                        if let Err(error) = one.source.fill(&mut batch).await {
                            break error;
                        }
                    }
                };
                if let Ok(error) = tokio::time::timeout(Duration::from_secs(2), evicted).await {
                    break 'evicted error;
                }
            }
            panic!("the stream was never taken away");
        };
        errors.push(error);
    }
    let [first, second, third] = errors.try_into().unwrap();
    for error in [first, second] {
        assert!(matches!(error, SourceError::Transient(_)), "{error}");
    }
    let text = definite(third);
    assert!(text.contains(&one.source.server_id().to_string()) && text.contains("UUID"), "{text}");
}

async fn a_row_over_the_limit_is_a_definite_error(at: At) {
    let mut server = Server::on(at, "large").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)").await;
    let mut options = server.options();
    options.max_row_bytes = 1 << 20;
    let mut follower = server.follow_with(options).await;
    server.run("INSERT INTO t VALUES (1, REPEAT('x', 1000000))").await;
    follower.catch_up(&mut server).await;
    server.run("INSERT INTO t VALUES (2, REPEAT('x', 1100000))").await;
    let text = definite(follower.error(&mut server).await);
    names(&text, "max_row_bytes", &format!("{}.t", server.schema));
}

async fn a_row_of_many_packets_arrives_whole(at: At) {
    let mut server = Server::on(at, "packets").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)").await;
    let mut follower = server.follow().await;
    server.run("SET SESSION sql_mode = ''").await;
    // MariaDB's max_allowed_packet is 16 MiB by default.
    let bytes = if at.is_mariadb() { 8_000_000 } else { 15_000_000 };
    server.run(&format!("INSERT INTO t VALUES (1, REPEAT('x', {bytes}))")).await;
    server.run("UPDATE t SET b = CONCAT(b, b)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.read.changes.last().unwrap().values[1].1.len(), 4 * bytes);
}

async fn a_server_that_is_not_there_is_transient_and_one_that_says_no_is_definite(at: At) {
    let mut server = Server::on(at, "access").await;
    let mut options = server.options();
    options.address = everrelay::source::mysql::Address::Tcp { host: "127.0.0.1".into(), port: 1 };
    let error = MysqlSource::new(options).unwrap().resolve_start(&Start::Now).await.unwrap_err();
    assert!(matches!(error, SourceError::Transient(_)), "{error}");

    let mut options = server.options();
    (options.user, options.password) = ("nobody".into(), Secret::new("canary-secret"));
    let error = MysqlSource::new(options).unwrap().resolve_start(&Start::Now).await.unwrap_err();
    assert!(!definite(error).contains("canary-secret"));

    for sql in [
        "DROP USER IF EXISTS src_poor",
        "CREATE USER src_poor IDENTIFIED BY 'a long pass phrase'",
        "GRANT SELECT ON SCHEMA.* TO src_poor",
    ] {
        server.run(&sql.replace("SCHEMA", &server.schema)).await;
    }
    let mut options = server.options();
    (options.user, options.password) = ("src_poor".into(), Secret::new("a long pass phrase"));
    // MySQL asks for the password itself.
    options.tls = Tls::Disabled;
    let mut source = MysqlSource::new(options).unwrap();
    let start = source.resolve_start(&Start::Now).await.unwrap();
    let text = definite(source.connect(&start).await.unwrap_err());
    assert!(text.contains("GRANT REPLICATION SLAVE"), "{text}");
    server.run("DROP USER src_poor").await;
}

async fn fault_42_a_killed_stream_is_transient(at: At) {
    let mut server = Server::on(at, "killed").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    let id = follower.source.server_id();
    let listed = match at {
        // Which it is does not show there: the newest.
        At::Mariadb | At::Mariadb10 => {
            "SELECT MAX(id) FROM information_schema.processlist WHERE command = 'Binlog Dump'".to_owned()
        }
        At::Mysql => stream_of(&server),
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let thread = loop {
        let thread: Option<Option<u64>> = server.conn.query_first(listed.as_str()).await.unwrap();
        if let Some(Some(thread)) = thread {
            break thread;
        }
        assert!(std::time::Instant::now() < deadline, "our stream is listed");
    };
    assert!(id >= 0x8000_0000);
    let mut other = Conn::new(mysql_async::Opts::from_url(at.url()).unwrap()).await.unwrap();
    other.query_drop(format!("KILL {}", thread)).await.unwrap();
    let error = loop {
        let mut batch = everrelay::log::record::Batch::new();
        if let Err(error) = follower.source.fill(&mut batch).await {
            break error;
        }
    };
    assert!(matches!(error, SourceError::Transient(_)), "{error}");
    let after = follower.read.gtids.clone();
    follower.source.connect(&Standing::after(after.clone())).await.unwrap();
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1"]);
}

/// Asks for the thread of this schema's stream.
fn stream_of(server: &Server) -> String {
    format!(
        "SELECT MAX(p.id) FROM information_schema.processlist p WHERE p.command LIKE 'Binlog Dump%' AND p.id IN \
         (SELECT t.processlist_id FROM performance_schema.threads t JOIN performance_schema.user_variables_by_thread v \
         ON v.thread_id = t.thread_id WHERE v.variable_name = 'replica_uuid' AND v.variable_value = '{}')",
        server.options().replica_uuid()
    )
}

#[tokio::test]
async fn a_stream_that_is_closed_is_gone_from_an_idle_server_with_its_next_heartbeat() {
    const HEARTBEAT: Duration = Duration::from_secs(4);
    let mut server = Server::new("closed").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow_with(MysqlOptions { heartbeat: HEARTBEAT, ..server.options() }).await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    let listed = stream_of(&server);
    let closed = std::time::Instant::now();
    follower.source.disconnect();
    loop {
        let thread: Option<Option<u64>> = server.conn.query_first(listed.as_str()).await.unwrap();
        if thread.flatten().is_none() {
            break;
        }
        assert!(closed.elapsed() < HEARTBEAT * 3 / 2, "one heartbeat is enough to see that nobody is there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn fault_44_purged_transactions_are_a_definite_error_that_names_them(at: At) {
    // Other tests need their binlogs.
    let (_own, url) = Own::up_at(at, "test-purge");
    let mut server = Server::at(&url, "purged").await;
    let mut source = MysqlSource::new(server.options()).unwrap();
    let before = source.resolve_start(&Start::Now).await.unwrap();
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let lost = server.executed().await.subtract(&before.gtids);
    server.purge().await;
    let text = definite(source.connect(&before).await.unwrap_err());
    assert!(text.contains(&lost.to_string()), "{text}");
    // What is left is where the earliest start is.
    let start = source.resolve_start(&Start::Earliest).await.unwrap();
    source.connect(&start).await.unwrap();
}
