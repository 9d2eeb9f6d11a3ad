//! Snapshots: whole tables, read while they are written, and in the end every index is its table.
//!
//! `EVERRELAY_TEST_SEED`: the workload and the moments of an earlier run.

mod followed;
mod named_key;
mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::relay::relay_binary;
use support::servers::{Database, Server, Servers};
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(120);

/// Has the relay begin with a snapshot of so many rows, and read as many a second at most.
async fn with_snapshot(
    database: Database,
    test: &'static str,
    rows: u64,
    rate: Option<u64>,
) -> Result<Stage> {
    beginning(Stage::set_with(database, test, rows).await?, rate)
}

fn beginning(mut stage: Stage, rate: Option<u64>) -> Result<Stage> {
    stage.relay.options.start = "snapshot".to_owned();
    if let Some(rate) = rate {
        stage.relay.options.more = format!("\n[snapshot]\nrows_per_second = {rate}\n");
    }
    stage.relay.write_config()?;
    Ok(stage)
}

/// Waits until the log was begun, and no snapshot is wanted or under way.
async fn over(stage: &mut Stage) -> Result<()> {
    stage.relay.ensure_alive()?;
    let relay = &stage.relay;
    eventually("every snapshot is over", SOON, async || {
        let Ok((200, text)) = relay.get("/status").await else { return Ok(None) };
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let snapshots = status["pipeline"]["snapshots"].as_array().context("snapshots in /status")?;
        let begun = status["pipeline"]["visible"].as_u64().context("visible in /status")? > 0;
        Ok((begun && snapshots.is_empty()).then_some(()))
    })
    .await
    .with_context(|| stage.relay.last_words())
}

/// What `everrelay snapshot …` says.
async fn snapshot(stage: &Stage, arguments: &[&str]) -> Result<String> {
    command(stage, &[&["snapshot"], arguments].concat()).await
}

/// What a command of the relay's says.
async fn command(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(relay_binary())
        .args(arguments)
        .arg("--config")
        .arg(stage.relay.config_file())
        .output()
        .await?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(said)
}

/// Statements whose rows and deletions no binlog has.
async fn unseen(stage: &Stage, statements: &[String]) -> Result<()> {
    let hide = ["SET SESSION sql_log_bin = 0".to_owned()];
    mysql::execute(&stage.shop.mysql_url, hide.iter().chain(statements)).await
}

async fn agrees_while_it_is_written(database: Database, test: &'static str) -> Result<()> {
    let mut stage = with_snapshot(database, test, 20_000, None).await?;
    let workload = stage.workload(None);
    stage.relay.start()?;
    over(&mut stage).await?;
    let totals = workload.stop().await?;
    eprintln!("{totals:?}; {} bytes of memory at the peak", stage.relay.peak_bytes());
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn what_was_there_before_is_read_while_it_is_written() -> Result<()> {
    agrees_while_it_is_written(Database::Mysql, "what_was_there_before_is_read_while_it_is_written").await
}

#[tokio::test]
async fn what_was_there_before_is_read_while_it_is_written_at_mariadb_too() -> Result<()> {
    let test = "what_was_there_before_is_read_while_it_is_written_at_mariadb_too";
    agrees_while_it_is_written(Database::Mariadb, test).await
}

async fn agrees_after_kills(database: Database, test: &'static str, kills: u32) -> Result<()> {
    goes_on_after_kills(with_snapshot(database, test, 20_000, Some(8000)).await?, kills).await
}

async fn goes_on_after_kills(mut stage: Stage, kills: u32) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(stage.seed.number);
    let workload = stage.workload(Some(300));
    for _ in 0..kills {
        stage.relay.start()?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..1200))).await;
        stage.relay.kill()?;
    }
    stage.relay.start()?;
    over(&mut stage).await?;
    // Again, with documents there.
    snapshot(&stage, &["--all"]).await?;
    for _ in 0..kills / 2 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(50..800))).await;
        stage.relay.kill()?;
        stage.relay.start()?;
    }
    over(&mut stage).await?;
    workload.stop().await?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn a_snapshot_goes_on_after_kills_of_the_relay() -> Result<()> {
    agrees_after_kills(Database::Mysql, "a_snapshot_goes_on_after_kills_of_the_relay", 12).await
}

#[tokio::test]
async fn a_snapshot_goes_on_after_kills_of_the_relay_at_mariadb_too() -> Result<()> {
    agrees_after_kills(Database::Mariadb, "a_snapshot_goes_on_after_kills_of_the_relay_at_mariadb_too", 6)
        .await
}

/// What a commit that is under way holds says what a SELECT shows.
#[tokio::test]
async fn a_snapshot_without_gtids_goes_on_after_kills_too() -> Result<()> {
    let test = "a_snapshot_without_gtids_goes_on_after_kills_too";
    goes_on_after_kills(beginning(Stage::set_on(Servers::without_gtids, test, 20_000).await?, Some(8000))?, 6)
        .await
}

/// A table's key columns, and an expression for each of the key's values by a number `n`.
const KEYS: [(&str, &str); 15] = [
    ("a BIGINT", "(n - 1000) * 2251799813685249"),
    ("a BIGINT UNSIGNED", "18446744073709551615 - n * 7"),
    ("a DECIMAL(20,5)", "n / 3 - 400"),
    ("a DOUBLE", "n / 7 - 100"),
    ("a VARCHAR(60) COLLATE utf8mb4_0900_ai_ci", "CONCAT(CHAR(97 + n % 26), 'Ä ', n)"),
    ("a VARCHAR(60) CHARACTER SET latin1 COLLATE latin1_german1_ci", "CONCAT('ß', n % 9, 'é', n)"),
    ("a CHAR(40) COLLATE utf8mb4_bin", "CONCAT(IF(n % 2, 'a', 'A'), n)"),
    ("a VARCHAR(768) COLLATE utf8mb4_bin", "CONCAT(REPEAT('x', 750), n)"),
    ("a BINARY(16)", "LEFT(UNHEX(SHA2(n, 256)), 16)"),
    ("a VARBINARY(30)", "CONCAT(LEFT(UNHEX(SHA2(n, 256)), 16), UNHEX('00'))"),
    ("a DATETIME(6)", "'2026-11-23' + INTERVAL n * 1000003 MICROSECOND"),
    ("a TIMESTAMP(3)", "'2026-03-29 00:30:00' + INTERVAL n SECOND"),
    ("a TIME(2)", "SEC_TO_TIME(n * 11 - 5000)"),
    ("a INT, b VARCHAR(20), c DATE", "n % 4, CONCAT('k', n % 300), '2026-01-01' + INTERVAL n DAY"),
    ("a ENUM('z','y','x'), b SET('q','r'), c BIT(20)", "1 + n % 3, n % 4, n"),
];

#[tokio::test]
async fn a_key_of_any_type_and_any_number_of_columns_is_read_whole() -> Result<()> {
    let test = "a_key_of_any_type_and_any_number_of_columns_is_read_whole";
    every_key_is_read_whole(with_snapshot(Database::Mysql, test, 0, None).await?).await
}

#[tokio::test]
async fn a_key_of_any_type_and_any_number_of_columns_is_read_whole_at_mariadb_too() -> Result<()> {
    let test = "a_key_of_any_type_and_any_number_of_columns_is_read_whole_at_mariadb_too";
    every_key_is_read_whole(with_snapshot(Database::Mariadb, test, 0, None).await?).await
}

async fn every_key_is_read_whole(mut stage: Stage) -> Result<()> {
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    mysql::execute(&url, numbers(&schema)).await?;
    for (number, (columns, values)) in KEYS.iter().enumerate() {
        let names: Vec<_> = columns.split(", ").filter_map(|column| column.split(' ').next()).collect();
        let names = names.join(", ");
        let statements = [
            format!("CREATE TABLE `{schema}`.k{number} ({columns}, n INT NOT NULL, PRIMARY KEY ({names}))"),
            format!("INSERT INTO `{schema}`.k{number} SELECT {values}, n FROM `{schema}`.numbers"),
        ];
        mysql::execute(&url, statements).await.with_context(|| (*columns).to_owned())?;
        // Of others the comparison spells ids otherwise.
        if !["DOUBLE", "(768)", "BIT("].iter().any(|part| columns.contains(part)) {
            stage.tables.push(format!("k{number}"));
        }
    }
    let more = [
        // Found by a unique key where there is no primary one; empty, and of one row.
        format!(
            "CREATE TABLE `{schema}`.unique_key (n INT, a INT NOT NULL, b VARCHAR(9) NOT NULL, UNIQUE (b, a))"
        ),
        format!("INSERT INTO `{schema}`.unique_key SELECT NULL, n % 50, n FROM `{schema}`.numbers"),
        format!("CREATE TABLE `{schema}`.empty_one (a INT PRIMARY KEY)"),
        format!("CREATE TABLE `{schema}`.one (a INT PRIMARY KEY)"),
        format!("INSERT INTO `{schema}`.one VALUES (7)"),
        format!(
            "CREATE TABLE `{schema}`.parted (a INT PRIMARY KEY, n INT) PARTITION BY HASH(a) PARTITIONS 5"
        ),
        format!("INSERT INTO `{schema}`.parted SELECT n * 3, n FROM `{schema}`.numbers"),
        // Many chunks, of keys that lie evenly for a while: then close together, more than a chunk can hold; and then far apart.
        format!("CREATE TABLE `{schema}`.then_dense (a BIGINT PRIMARY KEY, filler VARCHAR(5000))"),
        format!("CREATE TABLE `{schema}`.then_sparse (a BIGINT UNSIGNED PRIMARY KEY, filler VARCHAR(5000))"),
        format!(
            "INSERT INTO `{schema}`.then_dense SELECT CASE WHEN n < 2000 THEN (n - 700) * 1000000000000 \
             WHEN n < 3999 THEN 1300000000000000 + n ELSE 9223372036854775807 END, REPEAT('f', 5000) FROM `{schema}`.numbers"
        ),
        format!(
            "INSERT INTO `{schema}`.then_sparse SELECT IF(n < 2500, n * 3, 18446744073709551615 - (3999 - n) * 1000000), \
             REPEAT('f', 5000) FROM `{schema}`.numbers"
        ),
    ];
    mysql::execute(&url, more).await?;
    stage
        .tables
        .extend(["numbers", "empty_one", "one", "parted", "then_dense", "then_sparse"].map(str::to_owned));
    stage.relay.start()?;
    over(&mut stage).await?;
    stage.relay.until_settled(SOON).await?;
    for table in (0..KEYS.len()).map(|number| format!("k{number}")).chain(["unique_key".to_owned()]) {
        let count = stage.engine.count(&format!("{schema}.{table}")).await?;
        ensure!(count == 4000, "{count} of 4000 rows of {table}");
        if !stage.tables.contains(&table) {
            stage.engine.delete_indices(&format!("{schema}.{table}-")).await?;
        }
    }
    stage.agree(SOON).await?;
    stage.clear().await
}

/// A table of the numbers below 4,000.
fn numbers(schema: &str) -> [String; 2] {
    let digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    let sum = "x.d + 10 * y.d + 100 * z.d + 1000 * w.d";
    [
        format!("CREATE TABLE `{schema}`.numbers (n INT PRIMARY KEY)"),
        format!(
            "INSERT INTO `{schema}`.numbers SELECT {sum} FROM {digits} x, {digits} y, {digits} z, {digits} w WHERE {sum} < 4000"
        ),
    ]
}

#[tokio::test]
async fn a_snapshot_by_command_mends_what_no_event_showed() -> Result<()> {
    let mut stage =
        with_snapshot(Database::Mysql, "a_snapshot_by_command_mends_what_no_event_showed", 3000, None)
            .await?;
    let schema = stage.shop.schema.clone();
    stage.relay.start()?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    let unswept = stage.relay.words().matches("no older document can be there").count();
    ensure!(unswept > 0, "a fresh index has nothing to be swept: {}", stage.relay.last_words());
    let statements = [
        "SET foreign_key_checks = 0".to_owned(),
        format!("DELETE FROM `{schema}`.orders WHERE id % 3 = 0"),
        format!("UPDATE `{schema}`.orders SET note = 'unseen' WHERE id % 5 = 0"),
    ];
    unseen(&stage, &statements).await?;
    ensure!(stage.agree(SOON).await.is_err(), "the changes were seen");
    let said = snapshot(&stage, &[&format!("{schema}.orders")]).await?;
    ensure!(said.contains("orders"), "{said}");
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    ensure!(stage.relay.words().matches("no older document can be there").count() == unswept);
    stage.clear().await
}

#[tokio::test]
async fn fault_59_a_table_that_is_altered_or_truncated_while_it_is_read_is_read_right() -> Result<()> {
    let test = "fault_59_a_table_that_is_altered_or_truncated_while_it_is_read_is_read_right";
    let mut stage = with_snapshot(Database::Mysql, test, 20_000, Some(5000)).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    for round in 0..6 {
        snapshot(&stage, &["--all"]).await?;
        let statements = [
            format!("ALTER TABLE `{schema}`.orders ADD COLUMN more{round} INT NOT NULL DEFAULT {round}"),
            format!("UPDATE `{schema}`.orders SET more{round} = id WHERE id % 7 = {round}"),
            format!("DELETE FROM `{schema}`.orders WHERE id % 31 = {round}"),
            match round {
                2 => format!("TRUNCATE TABLE `{schema}`.order_items"),
                4 => format!(
                    "ALTER TABLE `{schema}`.order_items DROP PRIMARY KEY, ADD PRIMARY KEY (line, order_id)"
                ),
                _ => format!(
                    "UPDATE `{schema}`.order_items SET order_id = order_id + 1000000 WHERE order_id % 17 = {round}"
                ),
            },
        ];
        for statement in statements {
            mysql::execute(&url, [statement]).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    over(&mut stage).await?;
    // An added column with a default leaves documents without it, but for those read since.
    snapshot(&stage, &["--all"]).await?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    snapshot(&stage, &["--all"]).await?;
    stage.servers.restart(Server::Mysql).await?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    stage.clear().await
}
