//! What MariaDB alone has.

use std::time::Duration;

use everrelay::log::Standing;
use everrelay::source::mysql::{Address, MysqlSource};
use everrelay::source::{Source, SourceError, Start};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

use crate::server::{At, Own, Server, definite_in_time};

at_mariadb!(
    compressed_events_and_columns_come_as_what_they_were,
    sequences_have_no_rows_and_a_table_of_the_same_name_has,
    fault_48_each_domain_and_server_has_a_place_of_its_own,
    rows_of_periods_are_rows,
    a_table_with_system_versioning_stops_where_it_is_made,
    times_of_the_old_form_stop_before_they_could_be_misread,
    types_that_table_maps_do_not_tell_are_followed_through_ddl,
);

async fn compressed_events_and_columns_come_as_what_they_were(at: At) {
    let mut server = Server::on(at, "packed").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a TEXT)").await;
    server
        .run(
            "CREATE TABLE c (id INT PRIMARY KEY, v VARCHAR(2000) COMPRESSED, b BLOB COMPRESSED, l LONGTEXT COMPRESSED CHARACTER SET latin1)",
        )
        .await;
    let mut follower = server.follow().await;
    let mut expected = Vec::new();
    for compress in ["OFF", "ON"] {
        server
            .run(&format!("SET GLOBAL log_bin_compress = {compress}, GLOBAL log_bin_compress_min_len = 10"))
            .await;
        for sql in [
            "INSERT INTO t VALUES (1, REPEAT('é', 100)), (2, REPEAT('x', 60000)), (3, '')",
            "UPDATE t SET a = CONCAT(a, '!') WHERE id < 3",
            "UPDATE t SET id = 4 WHERE id = 3",
            "DELETE FROM t",
            "INSERT INTO c VALUES (1, REPEAT('é', 100), REPEAT(X'00ff', 100), REPEAT('é', 70000)), (2, '', '', 'x')",
            "SET column_compression_zlib_wrap = ON",
            "UPDATE c SET v = CONCAT(v, v) WHERE id = 1",
            "SET column_compression_zlib_wrap = OFF",
            "DELETE FROM c",
        ] {
            server.run(sql).await;
        }
        server
            .run(&format!(
                "CREATE TABLE a_name_as_long_as_compressing_takes_{} (id INT PRIMARY KEY)",
                compress
            ))
            .await;
        let (e, x) = ("é".repeat(100), "x".repeat(60_000));
        let (b, l) = ("00FF".repeat(100), "é".repeat(70_000));
        expected.extend([
            format!("insert t 1,{e}"),
            format!("insert t 2,{x}"),
            "insert t 3,".to_owned(),
            format!("update t 1,{e}!"),
            format!("update t 2,{x}!"),
            "rekey t 4, was 3".to_owned(),
            format!("delete t 1,{e}!"),
            format!("delete t 2,{x}!"),
            "delete t 4,".to_owned(),
            format!("insert c 1,{e},{b},{l}"),
            "insert c 2,,,x".to_owned(),
            format!("update c 1,{e}{e},{b},{l}"),
            format!("delete c 1,{e}{e},{b},{l}"),
            "delete c 2,,,x".to_owned(),
        ]);
    }
    server.run("SET GLOBAL log_bin_compress = OFF, GLOBAL log_bin_compress_min_len = DEFAULT").await;
    follower.catch_up(&mut server).await;
    let (found, wanted) = (follower.briefs(), expected);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert!(found == wanted, "{} {}", &found[..found.len().min(300)], &wanted[..wanted.len().min(300)]);
    }
    assert_eq!(found.len(), wanted.len());
}

async fn sequences_have_no_rows_and_a_table_of_the_same_name_has(at: At) {
    let mut server = Server::on(at, "sequence").await;
    server.run("CREATE SEQUENCE s").await;
    let mut follower = server.follow().await;
    for sql in [
        "DO NEXTVAL(s)",
        "ALTER SEQUENCE s RESTART 50",
        "CREATE TABLE t (id BIGINT DEFAULT NEXTVAL(s) PRIMARY KEY)",
        "INSERT INTO t VALUES (), ()",
        "DO SETVAL(s, 100)",
        "DROP TABLE t",
        "DROP SEQUENCE s",
        "CREATE TABLE s (next_not_cached_value INT PRIMARY KEY)",
        "INSERT INTO s VALUES (7)",
    ] {
        server.run(sql).await;
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 50", "insert t 51", "insert s 7"]);
}

async fn fault_48_each_domain_and_server_has_a_place_of_its_own(at: At) {
    let mut server = Server::on(at, "domains").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    // A domain that no other test has.
    let domain = 1_000_000 + std::process::id() % 1_000_000 + 1_000_000 * (at as u32);
    let mut follower = server.follow().await;
    let mut written = Vec::new();
    for round in 0..3 {
        for (domain, id) in [(domain, 77), (1, 0), (domain, 78), (domain + 1, 77)] {
            let id = if id == 0 { "@@GLOBAL.server_id".to_owned() } else { id.to_string() };
            server.run(&format!("SET SESSION gtid_domain_id = {domain}, SESSION server_id = {id}")).await;
            server.run(&format!("INSERT INTO t VALUES ({})", written.len())).await;
            written.push(format!("insert t {}", written.len()));
        }
        // A connection that begins there, in the middle of a file and at the start of one.
        follower.catch_up(&mut server).await;
        if round == 1 {
            server.run("FLUSH BINARY LOGS").await;
        }
        let after = follower.read.gtids.clone();
        follower.source.connect(&Standing::after(after)).await.unwrap();
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), written);
    let text = follower.read.gtids.to_string();
    for place in [format!("{domain}-77-5"), format!("{domain}-78-6"), format!("{}-77-3", domain + 1)] {
        assert!(text.contains(&place), "{text}");
    }
}

async fn rows_of_periods_are_rows(at: At) {
    let mut server = Server::on(at, "periods").await;
    server
        .run("CREATE TABLE p (id INT, a DATE, b DATE, PERIOD FOR d (a, b), PRIMARY KEY (id, d WITHOUT OVERLAPS))")
        .await;
    let mut follower = server.follow().await;
    server.run("INSERT INTO p VALUES (1, '2026-01-01', '2026-12-31')").await;
    server.run("DELETE FROM p FOR PORTION OF d FROM '2026-03-01' TO '2026-04-01'").await;
    follower.catch_up(&mut server).await;
    let key = "1,2026-12-31,2026-01-01";
    assert_eq!(
        follower.briefs(),
        [
            "insert p 1,2026-01-01,2026-12-31".to_owned(),
            format!("rekey p 1,2026-01-01,2026-03-01 was {key}"),
            "insert p 1,2026-04-01,2026-12-31".to_owned(),
        ]
    );
}

async fn a_table_with_system_versioning_stops_where_it_is_made(at: At) {
    let mut server = Server::on(at, "versioned").await;
    let mut follower = server.follow().await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY) WITH SYSTEM VERSIONING").await;
    let error = follower.error(&mut server).await;
    assert!(matches!(error, SourceError::Definite(_)), "{error}");
    // And where it is there already.
    let after = server.executed().await;
    let error = follower.source.connect(&Standing::after(after)).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SourceError::Definite(_)) && text.contains("system versioning"), "{text}");
    server.run("DROP TABLE t").await;
}

async fn times_of_the_old_form_stop_before_they_could_be_misread(at: At) {
    let mut server = Server::on(at, "old").await;
    let mut follower = server.follow().await;
    server.run("SET GLOBAL mysql56_temporal_format = OFF").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a TIME(3))").await;
    server.run("SET GLOBAL mysql56_temporal_format = ON").await;
    server.run("INSERT INTO t VALUES (1, '-01:02:03.456')").await;
    let error = follower.error(&mut server).await;
    assert!(matches!(error, SourceError::Definite(_)), "{error}");
    assert!(error.to_string().contains("mysql56_temporal_format"), "{error}");
    assert!(follower.read.changes.is_empty());
}

async fn types_that_table_maps_do_not_tell_are_followed_through_ddl(at: At) {
    // The setting is the whole server's.
    let (_own, url) = Own::up_at(at, if at == At::Mariadb { "test-natives" } else { "test-natives10" });
    for metadata in ["FULL", "MINIMAL", "NO_LOG"] {
        for late in [false, true] {
            let mut server = Server::at(&url, "natives").await;
            server.run(&format!("SET GLOBAL binlog_row_metadata = {metadata}")).await;
            server.run("CREATE TABLE t (id INT PRIMARY KEY, a BINARY(16), b INET4)").await;
            server.run("CREATE TABLE k (u UUID PRIMARY KEY, a INT)").await;
            server.run("CREATE SEQUENCE s").await;
            let mut follower = server.follow().await;
            server.run("INSERT INTO t VALUES (1, 'plain', '10.2.0.1')").await;
            follower.catch_up(&mut server).await;
            for sql in [
                "INSERT INTO k VALUES ('01234567-89ab-4def-8123-456789abcdef', 1)",
                "UPDATE k SET a = 2",
                "DO NEXTVAL(s)",
                "ALTER TABLE t MODIFY a UUID, ADD c INT",
                "INSERT INTO t VALUES (2, '01234567-89ab-4def-8123-456789abcdef', NULL, 7)",
                "ALTER TABLE t DROP a, ADD a INET6",
                "INSERT INTO t VALUES (3, '0.0.0.0', 8, '2001:db8::1')",
                "UPDATE k SET u = '00000000-89ab-4def-8123-456789abcdef'",
                "DELETE FROM k",
            ] {
                server.run(sql).await;
                if !late {
                    follower.catch_up(&mut server).await;
                }
            }
            if late {
                follower.connect_again().await;
                follower.catch_up(&mut server).await;
            }
            let plain = "706C61696E0000000000000000000000";
            let rows = [
                format!("insert t 1,{plain},10.2.0.1"),
                "insert k 01234567-89ab-4def-8123-456789abcdef,1".into(),
                "update k 01234567-89ab-4def-8123-456789abcdef,2".into(),
                "insert t 2,01234567-89ab-4def-8123-456789abcdef,NULL,7".into(),
                "insert t 3,0.0.0.0,8,2001:db8::1".into(),
                "rekey k 00000000-89ab-4def-8123-456789abcdef,2 was 01234567-89ab-4def-8123-456789abcdef"
                    .into(),
                "delete k 00000000-89ab-4def-8123-456789abcdef,2".into(),
            ];
            let briefs = follower.briefs();
            if late {
                // The columns of then are not to be had any more: those rows are for a snapshot.
                assert!(!briefs.iter().any(|row| row.starts_with("insert t 2")), "{briefs:?}");
                let others = rows.iter().filter(|row| !row.starts_with("insert t 2"));
                assert!(others.eq(&briefs), "{briefs:?}");
            } else {
                assert_eq!(briefs, rows, "{metadata}");
            }
            assert!(follower.read.gaps.iter().all(|gap| gap.starts_with("t: ")), "{:?}", follower.read.gaps);
            assert!(!follower.read.gaps.is_empty());
            server.run(&format!("DROP DATABASE {}", server.schema)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_falls_in_its_domain_is_a_definite_error() {
    // Whoever reads the server's binlog from its beginning stops there.
    let (_own, url) = Own::fresh(At::Mariadb, "test-falling", "");
    let mut server = Server::at(&url, "falling").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    for (id, number, row) in [(78, 6, 0), (79, 2, 1)] {
        server.run(&format!("SET SESSION gtid_domain_id = 5, SESSION server_id = {id}")).await;
        server.run(&format!("SET SESSION gtid_seq_no = {number}")).await;
        server.run(&format!("INSERT INTO t VALUES ({row})")).await;
    }
    let error = follower.error(&mut server).await;
    let text = error.to_string();
    assert!(matches!(error, SourceError::Definite(_)), "{text}");
    assert!(text.contains("5-79-2") && text.contains("5-78-6"), "{text}");
    assert_eq!(follower.briefs(), ["insert t 0"]);
    // Nor does another connection begin there.
    let error = follower.source.resolve_start(&Start::Now).await.unwrap_err();
    assert!(error.to_string().contains("gtid_strict_mode"), "{error}");
    // What comes next is ahead of all again.
    server.run("INSERT INTO t VALUES (2)").await;
    follower.source.resolve_start(&Start::Now).await.unwrap();
}

/// A large commit becomes a binlog file of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_becomes_a_file_is_read_like_others() {
    let (_own, url) = Own::up_at(At::Mariadb, "test-file");
    let mut server = Server::at(&url, "file").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a TEXT)").await;
    server.run("SET GLOBAL binlog_large_commit_threshold = 10485760").await;
    let mut follower = server.follow().await;
    let start = follower.read.gtids.clone();
    server.run("INSERT INTO t VALUES (0, '')").await;
    server.run("INSERT INTO t SELECT seq, REPEAT('x', 2000) FROM seq_1_to_8000").await;
    server.run("DELETE FROM t WHERE id > 1").await;
    server.run("INSERT INTO t VALUES (9999, '')").await;
    let files: Vec<mysql_async::Row> = server.conn.query("SHOW BINARY LOGS").await.unwrap();
    assert!(files.len() > 1, "{files:?}");
    for _ in 0..2 {
        follower.catch_up(&mut server).await;
        let commits = follower.read.commits.len();
        assert_eq!((follower.read.changes.len(), commits), (16_001, 4));
        // And again from before it.
        follower.read = crate::server::Read::default();
        follower.read.gtids = start.clone();
        follower.source.connect(&Standing::after(start.clone())).await.unwrap();
    }
}

/// A replica that writes what it replicates into its own binlog.
struct Replica {
    conn: Conn,
    port: u16,
}

impl Replica {
    async fn of(primary: &Server, url: &str) -> Replica {
        let opts = Opts::from_url(url).unwrap();
        let mut conn = Conn::new(opts.clone()).await.unwrap();
        let Address::Tcp { host, port } = primary.options().address else { panic!("TCP") };
        for sql in [
            "SET sql_log_bin = 0",
            "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
            "SET sql_log_bin = 1",
            "RESET MASTER",
            &format!(
                "CHANGE MASTER TO master_host = '{host}', master_port = {port}, master_user = 'root', master_ssl_verify_server_cert = 0, \
                 master_use_gtid = slave_pos"
            ),
            "START SLAVE",
        ] {
            conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        }
        Replica { conn, port: opts.tcp_port() }
    }

    async fn run(&mut self, sql: &str) {
        self.conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn has(&mut self, place: &str) {
        let waited: Option<i64> =
            self.conn.query_first(format!("SELECT MASTER_GTID_WAIT('{place}', 30)")).await.unwrap();
        assert_eq!(waited, Some(0), "the replica has {place}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_takes_over_where_it_has_everything_and_is_refused_where_it_has_not() {
    let (_primary, url) = Own::fresh(At::Mariadb, "test-primary", "");
    let (_replica, replica_url) = Own::fresh(At::Mariadb, "test-replica", "--log-slave-updates");
    let mut server = Server::at(&url, "failover").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut replica = Replica::of(&server, &replica_url).await;
    let mut follower = server.follow().await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    let standing = Standing::after(follower.read.gtids.clone());
    let last = standing.gtids.domains().map(|gtid| gtid.to_string()).collect::<Vec<_>>().join(",");
    replica.has(&last).await;
    replica.run("STOP SLAVE").await;

    // What comes next at the old primary nobody else has.
    server.run("INSERT INTO t VALUES (2)").await;
    follower.catch_up(&mut server).await;
    let ahead = Standing::after(follower.read.gtids.clone());
    let mut options = server.options();
    options.address = Address::Tcp { host: "127.0.0.1".into(), port: replica.port };
    options.failover_grace = Duration::from_secs(1);
    let mut source = MysqlSource::new(options.clone()).unwrap();
    let text = definite_in_time(&mut source, &ahead).await;
    let lost = ahead.gtids.subtract(&standing.gtids).to_string();
    assert!(text.contains(&lost), "{text}");

    // A replica that lags is waited for.
    options.failover_grace = Duration::from_secs(30);
    let mut source = MysqlSource::new(options).unwrap();
    let connecting = async {
        while let Err(error) = source.connect(&ahead).await {
            assert!(matches!(error, SourceError::Transient(_)), "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::join!(connecting, async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        replica.run("START SLAVE").await;
    });

    // And takes over: its own transactions stand in the same domain, under its own id.
    replica.run("STOP SLAVE").await;
    replica.run(&format!("INSERT INTO {}.t VALUES (3)", server.schema)).await;
    follower.source = source;
    let state: Option<String> = replica.conn.query_first("SELECT @@GLOBAL.gtid_binlog_state").await.unwrap();
    let state = state.unwrap().parse().unwrap();
    follower.until(&state).await.unwrap();
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2", "insert t 3"]);
    let [.., before, after] = follower.read.commits.as_slice() else { panic!("three commits") };
    assert_ne!(before.position.server, after.position.server);
}
