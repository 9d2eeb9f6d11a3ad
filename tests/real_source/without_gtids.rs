//! A MySQL server whose transactions have no GTIDs: read by file and position.

use std::collections::HashSet;
use std::time::Duration;

use everrelay::log::record::{Batch, Kind, Position};
use everrelay::source::mysql::{MysqlOptions, MysqlSource};
use everrelay::source::{Source, SourceError, Start};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

use crate::outcome::compare;
use crate::server::{At, Follower, Own, Server, definite_in_time};
use crate::transactions::{GROUPS, MIXED_GROUPS, carry_out};

/// The server is that of one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

const PATIENCE: Duration = Duration::from_secs(30);

pub const OFF: &str = "--gtid-mode=OFF --enforce-gtid-consistency=OFF";

/// A server without GTIDs, and a table to know by that all was read.
pub struct Off {
    pub own: Own,
    pub server: Server,
    rounds: u32,
    _alone: MutexGuard<'static, ()>,
}

impl Off {
    pub async fn up(name: &str) -> Off {
        let alone = ALONE.lock().await;
        let (own, url) = fresh("off").await;
        let mut server = Server::at(&url, name).await;
        server.run("CREATE TABLE done (id INT PRIMARY KEY)").await;
        server.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(200))").await;
        Off { own, server, rounds: 0, _alone: alone }
    }

    /// Reads all that was committed by now; how many times another connection was needed.
    pub async fn catch_up(&mut self, follower: &mut Follower) -> usize {
        self.rounds += 1;
        self.server.run(&format!("INSERT INTO done VALUES ({})", self.rounds)).await;
        let done = format!("insert done {}", self.rounds);
        let mut again = 0;
        let reading = async {
            while follower.read.changes.last().is_none_or(|row| row.brief() != done) {
                if let Err(error) = fill(follower).await {
                    assert!(matches!(error, SourceError::Transient(_)), "{error}");
                    again += 1;
                    follower.reconnect().await;
                }
            }
        };
        timeout(PATIENCE, reading).await.expect("everything arrives in time");
        again
    }

    /// Another run goes on from what the log has.
    pub async fn again(&self, follower: &mut Follower) {
        follower.source = MysqlSource::new(self.server.options()).unwrap();
        follower.connect_again().await;
    }

    /// What another run is refused with.
    pub async fn refusal(&self, follower: &Follower) -> String {
        let mut source = MysqlSource::new(self.server.options()).unwrap();
        definite_in_time(&mut source, &follower.read.standing).await
    }
}

/// Of its own instance, empty.
pub async fn fresh(which: &str) -> (Own, String) {
    let of_tests = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
    let instance = format!("{of_tests}-{which}");
    tokio::task::spawn_blocking(move || Own::fresh(At::Mysql, &instance, OFF)).await.expect("a server")
}

pub async fn fill(follower: &mut Follower) -> Result<(), SourceError> {
    let mut batch = Batch::new();
    let filled = follower.source.fill(&mut batch).await;
    follower.read.batch(&batch);
    filled
}

/// The error that must come.
pub async fn error(follower: &mut Follower) -> SourceError {
    let reading = async {
        loop {
            if let Err(error) = fill(follower).await {
                return error;
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("it comes in time")
}

pub fn briefs_of(follower: &Follower, table: &str) -> Vec<String> {
    follower.briefs().into_iter().filter(|brief| brief.split(' ').nth(1) == Some(table)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_in_commit_order_with_a_place_and_without_a_gtid() {
    let mut off = Off::up("off_rows").await;
    let mut follower = off.server.follow().await;
    let start = follower.read.standing.clone();
    assert!(start.position.by_place && start.gtids.is_empty() && start.time_micros > 0);
    for sql in [
        "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "UPDATE t SET a = 'c' WHERE id = 1",
        "CREATE TABLE u (id INT PRIMARY KEY) ENGINE = MyISAM",
        "INSERT INTO u VALUES (7)",
        // Of both kinds of tables, which GTIDs forbid.
        "BEGIN",
        "UPDATE t SET id = 3 WHERE id = 2",
        "INSERT INTO u VALUES (8)",
        "COMMIT",
        "SET SESSION binlog_transaction_compression = ON",
        "DELETE FROM t WHERE id = 1",
        "TRUNCATE t",
    ] {
        off.server.run(sql).await;
    }
    off.catch_up(&mut follower).await;
    let mut briefs = follower.briefs();
    briefs.pop();
    // Rows of tables that do not roll back stand before the transaction.
    let expected = [
        "insert t 1,a",
        "insert t 2,b",
        "update t 1,c",
        "insert u 7",
        "insert u 8",
        "rekey t 3,b was 2",
        "delete t 1,c",
    ];
    assert_eq!(briefs, expected);
    let commits = &follower.read.commits;
    assert!(commits.iter().all(|commit| commit.gtid.is_none() && commit.position.by_place));
    assert!(commits.windows(2).all(|w| w[0].position.offset < w[1].position.offset));
    assert!(commits.windows(2).all(|w| w[0].time_micros <= w[1].time_micros));
    assert!(commits[0].time_micros > 1_600_000_000_000_000 && commits[0].time_micros % 1_000_000 > 0);
    // From the oldest file on everything comes again.
    let mut source = MysqlSource::new(off.server.options()).unwrap();
    let earliest = source.resolve_start(&Start::Earliest).await.unwrap();
    assert_eq!((earliest.position.offset, earliest.position.by_place), (4, true));
    let mut all = off.server.follow().await;
    all.read.standing = earliest;
    off.again(&mut all).await;
    off.catch_up(&mut all).await;
    assert_eq!(briefs_of(&all, "t"), briefs_of(&follower, "t"));
    let snapshot = source.resolve_start(&Start::Snapshot).await.unwrap();
    assert!(snapshot.position.by_place && !snapshot.snapshots.is_empty(), "{snapshot:?}");
    // A set says nothing.
    let set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-3".parse().unwrap();
    let error = source.resolve_start(&Start::After(set)).await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Definite(error) if error.to_string().contains("start = \"earliest\"")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_other_tables_move_the_place_by_marks() {
    let mut off = Off::up("off_marks").await;
    off.server.run("CREATE TABLE other (id INT AUTO_INCREMENT PRIMARY KEY)").await;
    let mut options = off.server.options();
    options.tables.push(format!("!{}.other", off.server.schema));
    options.mark_transactions = 10;
    let mut follower = off.server.follow_with(options.clone()).await;
    for _ in 0..50 {
        off.server.run("INSERT INTO other VALUES ()").await;
    }
    off.catch_up(&mut follower).await;
    assert!(follower.read.marks.len() >= 5, "{}", follower.read.marks.len());
    assert!(follower.read.marks.iter().all(|mark| mark.position.by_place && mark.gtids.is_empty()));
    assert_eq!(follower.read.changes.len(), 1);
    // And a connection goes on from a mark.
    for _ in 0..20 {
        off.server.run("INSERT INTO other VALUES ()").await;
    }
    let marks = follower.read.marks.len();
    while follower.read.marks.len() < marks + 2 {
        timeout(PATIENCE, fill(&mut follower)).await.unwrap().unwrap();
    }
    follower.source = MysqlSource::new(options).unwrap();
    follower.connect_again().await;
    off.catch_up(&mut follower).await;
    assert_eq!(follower.briefs(), ["insert done 1", "insert done 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_54_a_connection_that_ends_inside_a_transaction_costs_nothing_without_gtids() {
    let mut off = Off::up("off_inside").await;
    let mut follower = off.server.follow().await;
    off.server.run("INSERT INTO t VALUES (0, 'first')").await;
    off.catch_up(&mut follower).await;
    let digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7)";
    for (base, compression) in [(1, "OFF"), (100_001, "ON")] {
        off.server.run(&format!("SET SESSION binlog_transaction_compression = {compression}")).await;
        let rows = format!(
            "INSERT INTO t SELECT {base} + a.d + 8 * b.d + 64 * c.d + 512 * e.d + 4096 * f.d, REPEAT('x', 180) FROM {digits} a, {digits} b, {digits} c, {digits} e, {digits} f ORDER BY 1"
        );
        off.server.run(&rows).await;
        for _ in 0..2 {
            let mut batch = Batch::new();
            follower.source.fill(&mut batch).await.unwrap();
            assert!(batch.changes() > 0 && batch.payloads().all(|(kind, _)| kind != Kind::Commit));
            off.again(&mut follower).await;
        }
        off.catch_up(&mut follower).await;
    }
    let ids: Vec<String> = follower
        .read
        .changes
        .iter()
        .filter(|row| row.table == "t")
        .map(|row| row.values[0].1.clone())
        .collect();
    let expected = [0].into_iter().chain(1..32_769).chain(100_001..132_769).map(|id: u32| id.to_string());
    assert!(ids.into_iter().eq(expected), "each once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_42_kills_restarts_crashes_and_rotations_under_load_cost_nothing_without_gtids() {
    let mut off = Off::up("off_loop").await;
    let mut follower = off.server.follow().await;
    let opts = off.server.opts().clone();
    let mut next = 0;
    for round in 0..3 {
        // Streams are killed while a writer writes.
        let uuid = off.server.options().replica_uuid();
        let mut killer = Conn::new(opts.clone()).await.unwrap();
        let streams = format!(
            "SELECT t.processlist_id FROM performance_schema.threads t JOIN performance_schema.user_variables_by_thread v \
             ON v.thread_id = t.thread_id WHERE t.processlist_command LIKE 'Binlog Dump%' \
             AND v.variable_name = 'replica_uuid' AND v.variable_value = '{uuid}'"
        );
        let mut killed = HashSet::new();
        while killed.len() < 4 {
            let rows: Vec<String> = (next..next + 50).map(|id| format!("({id}, REPEAT('x', 90))")).collect();
            off.server.run(&format!("INSERT INTO t VALUES {}", rows.join(","))).await;
            next += 50;
            let _ = timeout(Duration::from_millis(30), async {
                // What a dropped call has read is lost with its connection.
                while fill(&mut follower).await.is_ok() {}
            })
            .await;
            for thread in killer.query::<u64, _>(streams.as_str()).await.unwrap() {
                if killer.query_drop(format!("KILL {thread}")).await.is_ok() {
                    killed.insert(thread);
                }
            }
            follower.reconnect().await;
            if killed.len() % 2 == 0 {
                off.server.run("FLUSH BINARY LOGS").await;
            }
        }
        // And the server goes while there is something to read.
        off.server.run(&format!("INSERT INTO t VALUES ({next}, 'last')")).await;
        next += 1;
        if round % 2 == 0 {
            off.own.kill();
            off.own.start_with(OFF);
        } else {
            off.own.restart_with(OFF);
        }
        off.server.connect_again().await;
        off.catch_up(&mut follower).await;
    }
    let ids = follower.read.changes.iter().filter(|row| row.table == "t").map(|row| row.values[0].1.clone());
    assert!(ids.eq((0..next).map(|id: u32| id.to_string())), "each once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_44_a_file_that_was_purged_is_named_and_a_quiet_stream_needs_none() {
    let mut off = Off::up("off_purged").await;
    let mut follower = off.server.follow().await;
    off.server.run("INSERT INTO t VALUES (1, 'a')").await;
    off.catch_up(&mut follower).await;
    let file = follower.read.standing.position.file.clone();
    // Nothing is written but files: the place goes along.
    off.server.run("FLUSH BINARY LOGS").await;
    while follower.read.standing.position.file == file {
        timeout(PATIENCE, fill(&mut follower)).await.unwrap().unwrap();
    }
    let Position { file, offset, .. } = follower.read.standing.position.clone();
    assert_eq!(offset, 4);
    off.server.run(&format!("PURGE BINARY LOGS TO '{file}'")).await;
    off.again(&mut follower).await;
    off.server.run("INSERT INTO t VALUES (2, 'b')").await;
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t"), ["insert t 1,a", "insert t 2,b"]);
    // Here something is lost.
    follower.source.disconnect();
    let file = follower.read.standing.position.file.clone();
    off.server.run("INSERT INTO t VALUES (3, 'c')").await;
    off.server.purge().await;
    let text = off.refusal(&follower).await;
    for part in [&*file, "no longer has its binlog file", "snapshot --from-now"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_45_another_server_is_refused_by_uuid_while_the_place_is_all_that_is_known() {
    let mut off = Off::up("off_other").await;
    let mut follower = off.server.follow().await;
    off.server.run("INSERT INTO t VALUES (1, 'a')").await;
    off.catch_up(&mut follower).await;
    let (_other, url) = fresh("off-other").await;
    let beside = off.server.beside(&url).await;
    let options = MysqlOptions { address: beside.address(), ..off.server.options() };
    let text = definite_in_time(&mut MysqlSource::new(options).unwrap(), &follower.read.standing).await;
    let uuid: Option<String> = off.server.conn.query_first("SELECT @@server_uuid").await.unwrap();
    for part in
        [&*uuid.unwrap(), "gtid_mode = OFF", "nothing at another server", "SET PERSIST gtid_mode = ON"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    // It is waited for where it may come back.
    let mut both = off.server.options();
    both.others = vec![everrelay::source::mysql::Host { address: beside.address(), tls: both.tls }];
    off.own.kill();
    let mut source = MysqlSource::new(both).unwrap();
    let error = source.connect(&follower.read.standing).await.unwrap_err();
    assert!(matches!(error, SourceError::Transient(_)), "{error}");
    off.own.start_with(OFF);
    source.connect(&follower.read.standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_binlogs_that_were_reset_or_cut_are_refused_without_gtids() {
    let mut off = Off::up("off_reset").await;
    let mut follower = off.server.follow().await;
    off.server.run("INSERT INTO t VALUES (1, 'same')").await;
    off.catch_up(&mut follower).await;
    follower.source.disconnect();
    // The same again, and at the same offsets.
    off.server.run("RESET BINARY LOGS AND GTIDS").await;
    let text = off.refusal(&follower).await;
    assert!(
        text.contains("though its server_uuid is the same") && text.contains("its file ends at"),
        "{text}"
    );
    off.server.run("DROP TABLE t").await;
    off.server.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(200))").await;
    for id in 0..50 {
        off.server.run(&format!("INSERT INTO t VALUES ({id}, 'same')")).await;
    }
    let text = off.refusal(&follower).await;
    assert!(text.contains("though its server_uuid is the same"), "{text}");
    // Where nothing was read yet the file itself is compared: its time is in seconds.
    let now = off.server.follow().await;
    let made = now.read.standing.time_micros;
    while timeout(PATIENCE, off.server.conn.query_first::<u64, _>("SELECT UNIX_TIMESTAMP()"))
        .await
        .unwrap()
        .unwrap()
        <= Some(made / 1_000_000)
    {}
    off.server.run("RESET BINARY LOGS AND GTIDS").await;
    for id in 100..200 {
        off.server.run(&format!("INSERT INTO t VALUES ({id}, REPEAT('x', 200))")).await;
    }
    let text = off.refusal(&now).await;
    assert!(text.contains("though its server_uuid is the same"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_47_a_file_that_a_crash_shortened_is_refused_without_gtids() {
    let mut off = Off::up("off_short").await;
    let mut follower = off.server.follow().await;
    off.server.run("INSERT INTO t VALUES (1, 'kept')").await;
    let before: Vec<(String, u64, String)> = off.server.conn.query("SHOW BINARY LOGS").await.unwrap();
    off.server.run("INSERT INTO t VALUES (2, 'lost')").await;
    off.catch_up(&mut follower).await;
    let data: Option<String> = off.server.conn.query_first("SELECT @@datadir").await.unwrap();
    off.own.kill();
    // What was not on the disk.
    let (file, length, _) = before.last().unwrap();
    let path = std::path::Path::new(&data.unwrap()).join(file);
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(*length).unwrap();
    off.own.start_with(OFF);
    off.server.connect_again().await;
    let text = off.refusal(&follower).await;
    assert!(text.contains(&format!("its file ends at {length}")) && text.contains("in a crash"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_56_only_committed_rows_come_without_gtids_of_mixed_tables_too() {
    let mut off = Off::up("off_groups").await;
    off.server.run("DROP TABLE t").await;
    off.server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    off.server.run("CREATE TABLE m (id INT PRIMARY KEY, a INT) ENGINE = MyISAM").await;
    let mut follower = off.server.follow().await;
    for group in GROUPS.iter().chain(MIXED_GROUPS) {
        carry_out(&mut off.server, group).await;
    }
    off.catch_up(&mut follower).await;
    let of = |name| (name, vec!["id", "a"]);
    let right =
        compare(&mut off.server, &[of("t"), of("m"), of("c"), of("d"), ("done", vec!["id"])], &follower.read)
            .await;
    assert!(
        right >= 10 && follower.read.standing.gaps.is_empty(),
        "{right} {:?}",
        follower.read.standing.gaps
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_followed_beyond_the_numbers_of_six_digits() {
    let mut off = Off::up("off_many").await;
    off.server.run("RESET BINARY LOGS AND GTIDS TO 999999").await;
    let mut follower = off.server.follow().await;
    let mut expected = Vec::new();
    for id in 0..4 {
        off.server.run(&format!("INSERT INTO t VALUES ({id}, 'a')")).await;
        expected.push(format!("insert t {id},a"));
        if id % 2 == 0 {
            off.catch_up(&mut follower).await;
            off.again(&mut follower).await;
        }
        off.server.run("FLUSH BINARY LOGS").await;
    }
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t"), expected);
    assert!(
        follower.read.standing.position.file.ends_with(".1000003"),
        "{:?}",
        follower.read.standing.position
    );
    off.again(&mut follower).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_51_a_row_that_is_not_said_whole_is_definite_without_gtids() {
    let mut off = Off::up("off_image").await;
    off.server.run("INSERT INTO t VALUES (1, 'a')").await;
    let mut follower = off.server.follow().await;
    off.server.run("SET SESSION binlog_row_image = MINIMAL").await;
    off.server.run("UPDATE t SET a = 'b'").await;
    let error = error(&mut follower).await;
    let text = error.to_string();
    assert!(matches!(error, SourceError::Definite(_)), "{text}");
    for part in ["UPDATE_ROWS event", &off.server.schema, "binlog_row_image = 'FULL'", "gtid_mode = ON"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_55_xa_counts_with_its_commit_without_gtids() {
    let mut off = Off::up("off_xa").await;
    off.server.run("CREATE TABLE other (id INT PRIMARY KEY)").await;
    let mut options = off.server.options();
    options.tables.push(format!("!{}.other", off.server.schema));
    let mut follower = off.server.follow_with(options.clone()).await;
    for (id, name, table) in [(1, "kept", "t (id)"), (2, "gone", "t (id)"), (3, "without", "other")] {
        let mut branch = Server::new("branch").await.beside(&url_of(&off.server)).await;
        branch.run(&format!("USE {}", off.server.schema)).await;
        for sql in [
            format!("XA START '{name}'"),
            format!("INSERT INTO {table} VALUES ({id})"),
            format!("XA END '{name}'"),
            format!("XA PREPARE '{name}'"),
        ] {
            branch.run(&sql).await;
        }
        // Another session may decide it once this one is gone.
        branch.conn.disconnect().await.unwrap();
    }
    off.catch_up(&mut follower).await;
    assert!(briefs_of(&follower, "t").is_empty());
    assert_eq!(follower.read.standing.prepared.len(), 3);
    // Another run, which knows of all three from the log.
    follower.source = MysqlSource::new(options).unwrap();
    follower.connect_again().await;
    for sql in ["XA ROLLBACK 'gone'", "XA COMMIT 'without'", "XA COMMIT 'kept'"] {
        off.server.run(sql).await;
    }
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t"), ["insert t 1,NULL"]);
    assert!(follower.read.standing.prepared.is_empty() && follower.read.standing.gaps.is_empty());
}

fn url_of(server: &Server) -> String {
    format!("mysql://root@127.0.0.1:{}", server.opts().tcp_port())
}
