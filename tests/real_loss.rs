//! Transactions that are lost before they were read, or after: `everrelay snapshot --from-now` keeps the state folder, and in the end every index is its table.
//!
//! `EVERRELAY_TEST_SEED`: the workload of an earlier run.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::Row;
use mysql_async::prelude::Queryable;
use rustix::process::Signal;
use serde_json::Value;
use support::relay::relay_binary;
use support::servers::{Database, Servers};
use support::stage::Stage;
use support::{ensure_says, eventually, mysql};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(120);

/// What the shop opens with.
const ROWS: u64 = 3000;

/// A relay that has read all of the shop.
async fn begun(mut stage: Stage) -> Result<Stage> {
    stage.relay.options.start = "snapshot".to_owned();
    stage.relay.write_config()?;
    stage.relay.start()?;
    only_need_snapshots(&stage, &[]).await?;
    stage.agree(SOON).await?;
    Ok(stage)
}

/// Waits until no snapshot is under way, and no tables but these of the shop's need one.
async fn only_need_snapshots(stage: &Stage, tables: &[&str]) -> Result<()> {
    let tables: Vec<_> = tables.iter().map(|table| format!("{}.{table}", stage.shop.schema)).collect();
    eventually("every snapshot is over, and documents of rows that are gone are deleted", SOON, async || {
        let Ok((200, text)) = stage.relay.get("/status").await else { return Ok(None) };
        let status: Value = serde_json::from_str(&text)?;
        let pipeline = &status["pipeline"];
        let needing = pipeline["needs_snapshot"].as_array().context("needs_snapshot in /status")?;
        let needing: Vec<_> = needing.iter().filter_map(|needs| needs["table"].as_str()).collect();
        let none = |key: &str| pipeline[key].as_array().is_some_and(Vec::is_empty);
        let swept = pipeline["sinks"][0]["swept"].as_array().is_some_and(Vec::is_empty);
        let over = pipeline["visible"] != 0 && none("snapshots") && swept && needing == tables;
        Ok(over.then_some(()))
    })
    .await
    .with_context(|| stage.relay.last_words())
}

async fn stop(stage: &mut Stage) -> Result<()> {
    stage.relay.signal(Signal::TERM)?;
    stage.relay.exit(SOON).await?;
    Ok(())
}

/// `everrelay snapshot --from-now …`: its exit code, and what it said.
async fn from_now(stage: &Stage, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(relay_binary());
    command.args(["snapshot", "--from-now"]).args(arguments).arg("--config").arg(stage.relay.config_file());
    let output = command.output().await?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&said).into_owned()))
}

/// Takes away every binlog file but a new one.
async fn purge(url: &str) -> Result<()> {
    mysql::execute(url, ["FLUSH BINARY LOGS"]).await?;
    // The file that somebody reads stays, and so do those behind it.
    eventually("the old binlogs are gone", SOON, async || {
        let mut conn = mysql::connect(url).await?;
        let files: Vec<Row> = conn.query("SHOW BINARY LOGS").await?;
        let last: String = files.last().and_then(|file| file.get(0)).context("a binlog file")?;
        conn.query_drop(format!("PURGE BINARY LOGS TO '{last}'")).await?;
        let left: Vec<Row> = conn.query("SHOW BINARY LOGS").await?;
        conn.disconnect().await?;
        Ok((left.len() == 1).then_some(()))
    })
    .await
}

/// The relay refuses to go on; asked for by its words, it goes on from now while the shop is open, and in the end everything agrees. `gone`: tables that are.
async fn goes_on(stage: &mut Stage, says: &[&str], gone: &[&str]) -> Result<()> {
    stage.relay.start()?;
    let words = stage.relay_ends_with(3, SOON).await?;
    ensure_says(&words, says)?;
    ensure_says(&words, &["stop the relay and run `everrelay snapshot --from-now`"])?;
    let (code, said) = from_now(stage, &[]).await?;
    ensure!(code == Some(2) && said.contains("nothing was changed"), "{code:?}: {said}");
    stage.relay.start()?;
    stage.relay_ends_with(3, SOON).await?;
    let (code, said) = from_now(stage, &["--yes"]).await?;
    ensure!(code == Some(0), "{code:?}: {said}");
    ensure_says(&said, says)?;
    ensure_says(&said, &["read anew 5 tables", "everrelay run"])?;
    for table in gone {
        ensure_says(&said, &[&format!("{}.{table}): their documents stay", stage.shop.schema)])?;
    }
    let workload = stage.workload(Some(300));
    stage.relay.start()?;
    only_need_snapshots(stage, gone).await?;
    workload.stop().await?;
    for table in gone {
        stage.engine.delete_indices(&format!("{}.{table}-", stage.shop.schema)).await?;
    }
    stage.agree(SOON).await?;
    let (code, said) = from_now(stage, &["--yes"]).await?;
    ensure!(code == Some(5) && said.contains("the relay must be stopped"), "{code:?}: {said}");
    Ok(())
}

async fn a_purge_is_survived(stage: Stage, says: &str) -> Result<()> {
    let mut stage = begun(stage).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let xid = format!("'{schema}'");
    let seen = [
        format!("CREATE TABLE `{schema}`.brief (a INT PRIMARY KEY)"),
        format!("INSERT INTO `{schema}`.brief VALUES (1), (2)"),
        format!("XA START {xid}"),
        format!("UPDATE `{schema}`.orders SET note = 'held' WHERE id IN (7, 8)"),
        format!("XA END {xid}"),
        format!("XA PREPARE {xid}"),
    ];
    mysql::execute(&url, seen).await?;
    stage.tables.push("brief".to_owned());
    stage.agree(SOON).await?;
    stage.tables.pop();
    stop(&mut stage).await?;
    let missed = [
        format!("XA COMMIT {xid}"),
        "SET foreign_key_checks = 0".to_owned(),
        format!("UPDATE `{schema}`.orders SET note = 'later than what was held' WHERE id IN (7, 9)"),
        format!("DELETE FROM `{schema}`.orders WHERE id % 5 = 3"),
        format!("UPDATE `{schema}`.order_items SET order_id = order_id + 1000000 WHERE order_id % 7 = 1"),
        format!("ALTER TABLE `{schema}`.customers ADD COLUMN missed INT FIRST"),
        format!("DROP TABLE `{schema}`.brief"),
    ];
    mysql::execute(&url, missed).await?;
    purge(&url).await?;
    mysql::execute(&url, [format!("DELETE FROM `{schema}`.orders WHERE id % 11 = 1")]).await?;
    goes_on(&mut stage, &[says], &["brief"]).await?;
    stage.clear().await
}

#[tokio::test]
async fn fault_44_after_a_purge_the_log_goes_on_from_now_and_index_is_table() -> Result<()> {
    let test = "fault_44_after_a_purge_the_log_goes_on_from_now_and_index_is_table";
    a_purge_is_survived(Stage::set(test, ROWS).await?, "has purged transactions").await
}

#[tokio::test]
async fn fault_44_at_mariadb_too_the_log_goes_on_from_now_after_a_purge() -> Result<()> {
    let test = "fault_44_at_mariadb_too_the_log_goes_on_from_now_after_a_purge";
    a_purge_is_survived(Stage::set_with(Database::Mariadb, test, ROWS).await?, "has purged transactions")
        .await
}

#[tokio::test]
async fn fault_44_without_gtids_too_the_log_goes_on_from_now_after_a_purge() -> Result<()> {
    let test = "fault_44_without_gtids_too_the_log_goes_on_from_now_after_a_purge";
    let stage = Stage::set_on(Servers::without_gtids, test, ROWS).await?;
    a_purge_is_survived(stage, "no longer has its binlog file").await
}

/// As a replica is that takes over without the primary's last transactions.
#[tokio::test]
async fn fault_46_after_a_lossy_failover_rows_that_only_the_index_has_are_swept() -> Result<()> {
    let test = "fault_46_after_a_lossy_failover_rows_that_only_the_index_has_are_swept";
    let mut stage = begun(Stage::set(test, ROWS).await?).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let kept = format!("`{}`.kept", stage.shop.neighbour());
    let lost = [
        "SET sql_log_bin = 0, foreign_key_checks = 0".to_owned(),
        format!("CREATE TABLE {kept} AS SELECT * FROM `{schema}`.order_items"),
        "SET sql_log_bin = 1".to_owned(),
        format!(
            "INSERT INTO `{schema}`.order_items SELECT order_id + 5000000, line, sku, quantity, price, packed_in FROM {kept} WHERE order_id % 3 = 0"
        ),
        format!("DELETE FROM `{schema}`.order_items WHERE order_id % 7 = 2"),
        format!("UPDATE `{schema}`.order_items SET order_id = order_id + 7000000 WHERE order_id % 11 = 4"),
    ];
    mysql::execute(&url, lost).await?;
    stage.agree(SOON).await?;
    stop(&mut stage).await?;
    let taken_over = [
        "SET sql_log_bin = 0, foreign_key_checks = 0".to_owned(),
        format!("DELETE FROM `{schema}`.order_items"),
        format!("INSERT INTO `{schema}`.order_items SELECT * FROM {kept}"),
        "RESET BINARY LOGS AND GTIDS".to_owned(),
        // Not one of ours: no grace is worth it.
        "SET GLOBAL gtid_purged = CONCAT(UUID(), ':1-50')".to_owned(),
    ];
    mysql::execute(&url, taken_over).await?;
    goes_on(&mut stage, &["never executed"], &[]).await?;
    stage.clear().await
}
