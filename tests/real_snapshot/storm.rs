//! Writers who go where the snapshot is, and whatever breaks meanwhile; and what the snapshot itself holds at the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;

use super::support::mysql;
use super::support::servers::{Database, Server};
use super::support::stage::Stage;
use super::{SOON, numbers, over, snapshot, with_snapshot};

/// Rows of the table at first; their keys are ten times their number, so that there is room between them.
const ROWS: u64 = 20_000;
const KEYS: u64 = ROWS * 10;
const CONNECTIONS: u64 = 3;

/// Where writers write.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Uniform,
    /// The same few keys, over and over.
    HotKeys,
    /// Twenty keys that go through the table as the snapshot does, a little before it, with it or behind it.
    MovingWindow,
}

const PATTERNS: [Pattern; 3] = [Pattern::Uniform, Pattern::HotKeys, Pattern::MovingWindow];

impl Pattern {
    /// `passed`: the share of the table that was passed, in thousandths.
    fn key(self, passed: u64, random: &mut StdRng) -> u64 {
        match self {
            Pattern::Uniform => random.random_range(0..KEYS),
            Pattern::HotKeys => random.random_range(0..8) * (KEYS / 8) + random.random_range(0..3),
            Pattern::MovingWindow => {
                (passed * KEYS / 1000 + KEYS - KEYS / 50 + random.random_range(0..KEYS / 25)) % KEYS
            }
        }
    }
}

/// What becomes of a row; each may find none, or one in its way. Keys are written as text of one length, whose order is that of numbers.
fn statement(schema: &str, a: u64, b: u64, random: &mut StdRng) -> String {
    let n = random.random_range(0..1_000_000);
    match random.random_range(0..10) {
        0..3 => {
            format!(
                "REPLACE INTO `{schema}`.storm (id, n, note) VALUES ('{a:010}', {n}, REPEAT('r', {n} % 40))"
            )
        }
        3..6 => {
            format!("UPDATE `{schema}`.storm SET n = {n} WHERE id BETWEEN '{a:010}' AND '{:010}'", a + 30)
        }
        6..8 => format!("DELETE FROM `{schema}`.storm WHERE id BETWEEN '{a:010}' AND '{:010}'", a + 9),
        _ => format!("UPDATE IGNORE `{schema}`.storm SET id = '{b:010}' WHERE id = '{a:010}'"),
    }
}

/// Connections that write until they are told to stop, and connect anew for as long as the server is away.
struct Writers {
    stop: Arc<AtomicBool>,
    /// Where the window is, in thousandths of the table.
    passed: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Result<u64>>>,
}

impl Writers {
    fn start(stage: &Stage, pattern: Pattern, seed: u64) -> Writers {
        let (stop, passed) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let tasks = (0..CONNECTIONS).map(|connection| {
            let (stop, passed) = (Arc::clone(&stop), Arc::clone(&passed));
            let (url, schema) = (stage.shop.mysql_url.clone(), stage.shop.schema.clone());
            let mut random = StdRng::seed_from_u64(seed.wrapping_mul(31).wrapping_add(connection));
            tokio::spawn(async move {
                let (mut conn, mut done) = (None::<Conn>, 0);
                while !stop.load(Ordering::Relaxed) {
                    let Some(open) = &mut conn else {
                        conn = mysql::connect(&url).await.ok();
                        continue;
                    };
                    let at = passed.load(Ordering::Relaxed);
                    let keys = [pattern.key(at, &mut random), pattern.key(at, &mut random)];
                    let mut said = vec!["BEGIN".to_owned()];
                    for _ in 0..random.random_range(1..4) {
                        said.push(statement(&schema, keys[0], keys[1], &mut random));
                    }
                    said.push(if random.random_ratio(1, 12) { "ROLLBACK" } else { "COMMIT" }.to_owned());
                    for statement in &said {
                        match open.query_drop(statement).await {
                            Ok(()) => {}
                            // A deadlock, a lock wait: the transaction is over.
                            Err(mysql_async::Error::Server(error)) if [1205, 1213].contains(&error.code) => {
                                break;
                            }
                            // A killed server; anything else shows in what was done.
                            Err(_) => {
                                conn = None;
                                break;
                            }
                        }
                    }
                    done += 1;
                }
                Ok(done)
            })
        });
        let tasks = tasks.collect();
        Writers { stop, passed, tasks }
    }

    async fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let mut done = 0;
        for task in self.tasks {
            done += task.await??;
        }
        ensure!(done > 100, "{done} transactions only");
        eprintln!("{done} transactions");
        Ok(())
    }
}

const NUMBER: &str = "id BIGINT PRIMARY KEY";

/// Told apart by a column that the configuration names: an index over a part of it is no key to the relay, though the server keeps it unique.
const NAMED: &str = "id VARCHAR(20) NOT NULL COMMENT 'key 1', UNIQUE KEY (id(15))";

/// A table of its own, of [`ROWS`] rows.
async fn with_storm(database: Database, test: &'static str, key: &str, rate: u64) -> Result<Stage> {
    let mut stage = with_snapshot(database, test, 0, Some(rate)).await?;
    if key == NAMED {
        stage.relay.options.more += "[[table]]\nmatch = \"*.storm\"\nid = [\"id\"]\n";
        stage.relay.write_config()?;
    }
    let schema = stage.shop.schema.clone();
    let table = [
        // Rows of a size that makes some ten chunks of them.
        format!(
            "CREATE TABLE `{schema}`.storm ({key}, n INT NOT NULL, note VARCHAR(40), \
             wide VARCHAR(600) NOT NULL DEFAULT (REPEAT('w', 600)))"
        ),
        format!(
            "INSERT INTO `{schema}`.storm (id, n, note) SELECT LPAD((a.n * 5 + b.n) * 10, 10, '0'), a.n, b.n FROM `{schema}`.numbers a \
             JOIN `{schema}`.numbers b ON b.n < 5"
        ),
    ];
    mysql::execute(&stage.shop.mysql_url, numbers(&schema).into_iter().chain(table)).await?;
    stage.tables.extend(["numbers", "storm"].map(str::to_owned));
    Ok(stage)
}

/// How much of the table the snapshot has read, in thousandths; `None` when none is wanted or under way.
async fn passed(stage: &Stage) -> Result<Option<u64>> {
    let Ok((200, text)) = stage.relay.get("/status").await else { return Ok(Some(0)) };
    let status: serde_json::Value = serde_json::from_str(&text)?;
    let pipeline = &status["pipeline"];
    let snapshots = pipeline["snapshots"].as_array().context("snapshots in /status")?;
    if snapshots.is_empty() && pipeline["visible"] != 0 {
        return Ok(None);
    }
    let storm =
        snapshots.iter().find(|one| one["table"].as_str().is_some_and(|table| table.ends_with("storm")));
    Ok(Some(storm.map_or(0, |storm| storm["rows"].as_u64().unwrap_or(0) * 1000 / ROWS)))
}

async fn agrees_after_storms(
    database: Database,
    test: &'static str,
    key: &str,
    patterns: &[Pattern],
) -> Result<()> {
    let mut stage = with_storm(database, test, key, 5000).await?;
    let mut random = StdRng::seed_from_u64(stage.seed.number);
    for &pattern in patterns {
        let writers = Writers::start(&stage, pattern, stage.seed.number);
        if stage.relay.pid().is_ok() {
            snapshot(&stage, &["--all"]).await?;
        } else {
            stage.relay.start()?;
        }
        // The relay first: while a server starts nobody looks, and much may be read.
        let (mut relay_dies, mut server_dies) =
            (Some(random.random_range(10..250)), Some(random.random_range(250..500)));
        while let Some(passed) = passed(&stage).await? {
            writers.passed.store(passed, Ordering::Relaxed);
            if relay_dies.take_if(|at| passed > *at).is_some() {
                stage.relay.kill()?;
                stage.relay.start()?;
            }
            if server_dies.take_if(|at| passed > *at).is_some() {
                stage.servers.kill(Server::Mysql).await?;
                stage.servers.start(Server::Mysql).await?;
            }
            stage.relay.ensure_alive()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ensure!(relay_dies.is_none() && server_dies.is_none(), "the snapshot was over too soon");
        writers.stop().await.with_context(|| format!("{pattern:?}"))?;
        stage.agree(SOON).await.with_context(|| format!("{pattern:?}"))?;
    }
    stage.clear().await
}

#[tokio::test]
async fn storms_over_the_table_and_kills_of_both_sides_leave_index_and_table_equal() -> Result<()> {
    let test = "storms_over_the_table_and_kills_of_both_sides_leave_index_and_table_equal";
    agrees_after_storms(Database::Mysql, test, NUMBER, &PATTERNS).await
}

#[tokio::test]
async fn storms_over_the_table_and_kills_of_both_sides_leave_index_and_table_equal_at_mariadb() -> Result<()>
{
    let test = "storms_over_the_table_and_kills_of_both_sides_leave_index_and_table_equal_at_mariadb";
    agrees_after_storms(Database::Mariadb, test, NUMBER, &PATTERNS).await
}

#[tokio::test]
async fn a_storm_over_a_table_whose_key_the_configuration_names_leaves_index_and_table_equal() -> Result<()> {
    let test = "a_storm_over_a_table_whose_key_the_configuration_names_leaves_index_and_table_equal";
    agrees_after_storms(Database::Mysql, test, NAMED, &[Pattern::MovingWindow]).await
}

#[tokio::test]
async fn a_storm_over_a_table_whose_key_the_configuration_names_leaves_them_equal_at_mariadb() -> Result<()> {
    let test = "a_storm_over_a_table_whose_key_the_configuration_names_leaves_them_equal_at_mariadb";
    agrees_after_storms(Database::Mariadb, test, NAMED, &[Pattern::MovingWindow]).await
}

/// Which connection holds more than a shared lock, or any lock of rows. (information_schema holds a schema's intention lock for the moment in
/// which it describes a table: that keeps nobody but who drops or alters the database. The server's own threads write mysql.gtid_executed now
/// and then, whoever is connected.) The test's own statements are over by then.
const LOCKS: [&str; 2] = [
    "SELECT CONCAT_WS(' ', object_schema, object_name, lock_type, lock_mode, lock_data) FROM performance_schema.data_locks \
     JOIN performance_schema.threads USING (thread_id) WHERE threads.name = 'thread/sql/one_connection'",
    "SELECT CONCAT_WS(' ', object_type, object_schema, object_name, lock_type) FROM performance_schema.metadata_locks \
     JOIN performance_schema.threads ON threads.thread_id = owner_thread_id \
     WHERE threads.name = 'thread/sql/one_connection' AND owner_thread_id <> PS_CURRENT_THREAD_ID() \
     AND NOT (object_type = 'SCHEMA' AND lock_type = 'INTENTION_EXCLUSIVE') \
     AND lock_type NOT IN ('SHARED', 'SHARED_HIGH_PRIO', 'SHARED_READ')",
];

#[tokio::test]
async fn a_snapshot_holds_no_lock_beyond_shared_metadata_locks_of_its_tables() -> Result<()> {
    let test = "a_snapshot_holds_no_lock_beyond_shared_metadata_locks_of_its_tables";
    let mut stage = with_storm(Database::Mysql, test, NUMBER, 8000).await?;
    let mut conn = mysql::connect(&stage.shop.mysql_url).await?;
    let shared = format!(
        "SELECT COUNT(*) FROM performance_schema.metadata_locks WHERE object_schema = '{}' AND lock_type = 'SHARED_READ'",
        stage.shop.schema
    );
    let (mut looks, mut seen_shared) = (0, 0);
    stage.relay.start()?;
    while passed(&stage).await?.is_some() {
        stage.relay.ensure_alive()?;
        for locks in LOCKS {
            let held: Vec<String> = conn.query(locks).await?;
            ensure!(held.is_empty(), "{held:?}");
        }
        let held: u64 = conn.query_first(&shared).await?.context("a count")?;
        (looks, seen_shared) = (looks + 1, seen_shared + held);
    }
    ensure!(looks > 10 && seen_shared > 0, "{looks} looks, {seen_shared} shared locks: nothing was seen");
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    stage.clear().await
}
