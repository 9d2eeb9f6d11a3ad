//! Snapshots: whole tables, read while they are written, and in the end every index is its table.
//!
//! `EVERRELAY_TEST_SEED`: the workload and the moments of an earlier run.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::relay::relay_binary;
use support::servers::{Database, Server};
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
    let mut stage = Stage::set_with(database, test, rows).await?;
    stage.relay.options.start = "snapshot".to_owned();
    if let Some(rate) = rate {
        stage.relay.options.more = format!("\n[snapshot]\nrows_per_second = {rate}\n");
    }
    stage.relay.write_config()?;
    Ok(stage)
}

/// Waits until no snapshot is wanted or under way.
async fn over(stage: &mut Stage) -> Result<()> {
    stage.relay.ensure_alive()?;
    let relay = &stage.relay;
    eventually("every snapshot is over", SOON, async || {
        let Ok((200, text)) = relay.get("/status").await else { return Ok(None) };
        let status: serde_json::Value = serde_json::from_str(&text)?;
        let snapshots = status["pipeline"]["snapshots"].as_array().context("snapshots in /status")?;
        Ok(snapshots.is_empty().then_some(()))
    })
    .await
    .with_context(|| stage.relay.last_words())
}

/// What `everrelay snapshot …` says.
async fn snapshot(stage: &Stage, arguments: &[&str]) -> Result<String> {
    let output = tokio::process::Command::new(relay_binary())
        .arg("snapshot")
        .args(arguments)
        .arg("--config")
        .arg(stage.relay.config_file())
        .output()
        .await?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "snapshot {arguments:?}: {said}");
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
    let mut stage = with_snapshot(database, test, 20_000, Some(8000)).await?;
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

#[tokio::test]
async fn a_snapshot_by_command_mends_what_no_event_showed() -> Result<()> {
    let mut stage =
        with_snapshot(Database::Mysql, "a_snapshot_by_command_mends_what_no_event_showed", 3000, None)
            .await?;
    let schema = stage.shop.schema.clone();
    stage.relay.start()?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
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
