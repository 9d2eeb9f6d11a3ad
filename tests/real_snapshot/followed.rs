//! Tables that come to be followed when the log has begun, and such as cease to be.

mod gaps;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;

use super::support::pulse::Beat;
use super::support::servers::Database;
use super::support::stage::Stage;
use super::support::{eventually, mysql};
use super::{SOON, command, over, snapshot, with_snapshot};

/// Ends the relay as an operator would, and starts it again with other tables of the shop's.
pub async fn start_again_with(stage: &mut Stage, patterns: &[&str]) -> Result<()> {
    if stage.relay.pid().is_ok() {
        stage.relay.signal(Signal::TERM)?;
        stage.relay.exit(SOON).await?;
    }
    name(stage, patterns)?;
    stage.relay.start()
}

/// Writes them into the configuration.
fn name(stage: &mut Stage, patterns: &[&str]) -> Result<()> {
    let schema = &stage.shop.schema;
    let pattern = |pattern: &&str| match pattern.strip_prefix('!') {
        Some(pattern) => format!("!{schema}.{pattern}"),
        None => format!("{schema}.{pattern}"),
    };
    stage.relay.options.tables = patterns.iter().map(pattern).collect();
    stage.relay.write_config()
}

/// Tables of the shop's that need a snapshot, and why.
pub async fn needing(stage: &Stage) -> Result<Vec<(String, String)>> {
    let (_, text) = stage.relay.get("/status").await?;
    let status: Value = serde_json::from_str(&text)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let needing = status["pipeline"]["needs_snapshot"].as_array().cloned().unwrap_or_default();
    Ok(needing.iter().map(|needs| (text(&needs["table"]), text(&needs["why"]))).collect())
}

/// Waits until what is committed now is settled.
pub async fn caught_up(stage: &mut Stage) -> Result<()> {
    let beat = Beat::commit(&stage.shop).await?;
    eventually("the relay catches up", SOON, async || {
        Ok(beat.has_arrived(&stage.engine).await?.then_some(()))
    })
    .await?;
    stage.relay.until_settled(SOON).await
}

/// How often a snapshot of the shop's table has begun.
pub fn begun(stage: &Stage, table: &str) -> usize {
    let table = format!("{}.{table}\"", stage.shop.schema);
    let words = stage.relay.words();
    words.lines().filter(|line| line.contains("a snapshot begins") && line.contains(&table)).count()
}

pub async fn until_begun(stage: &Stage, table: &str, times: usize) -> Result<()> {
    let begun = async || Ok((begun(stage, table) >= times).then_some(()));
    eventually("the table's snapshot begins", SOON, begun).await.with_context(|| stage.relay.last_words())
}

async fn is_read_by_itself(database: Database, test: &'static str) -> Result<()> {
    let mut stage = with_snapshot(database, test, 10_000, None).await?;
    start_again_with(&mut stage, &["*", "!order*"]).await?;
    over(&mut stage).await?;
    caught_up(&mut stage).await?;
    let workload = stage.workload(None);
    start_again_with(&mut stage, &["*"]).await?;
    until_begun(&stage, "orders", 1).await?;
    // Interrupted, it goes on.
    stage.relay.kill()?;
    start_again_with(&mut stage, &["*"]).await?;
    over(&mut stage).await?;
    workload.stop().await?;
    stage.agree(SOON).await?;
    let left = needing(&stage).await?;
    ensure!(left.is_empty(), "{left:?} need a snapshot still");
    ensure!(begun(&stage, "customers") == 1, "customers were read again");
    stage.clear().await
}

#[tokio::test]
async fn a_table_that_the_configuration_names_later_is_read_by_itself() -> Result<()> {
    is_read_by_itself(Database::Mysql, "a_table_that_the_configuration_names_later_is_read_by_itself").await
}

#[tokio::test]
async fn at_mariadb_too_a_table_that_the_configuration_names_later_is_read_by_itself() -> Result<()> {
    let test = "at_mariadb_too_a_table_that_the_configuration_names_later_is_read_by_itself";
    is_read_by_itself(Database::Mariadb, test).await
}

#[tokio::test]
async fn a_table_that_was_taken_out_and_is_put_in_again_is_read_anew() -> Result<()> {
    let test = "a_table_that_was_taken_out_and_is_put_in_again_is_read_anew";
    let mut stage = with_snapshot(Database::Mysql, test, 5000, None).await?;
    let schema = stage.shop.schema.clone();
    start_again_with(&mut stage, &["*"]).await?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    start_again_with(&mut stage, &["*", "!orders"]).await?;
    let missed = [
        "SET foreign_key_checks = 0".to_owned(),
        format!("DELETE FROM `{schema}`.orders WHERE id % 3 = 0"),
        format!("UPDATE `{schema}`.orders SET note = 'missed' WHERE id % 5 = 0"),
        format!("ALTER TABLE `{schema}`.orders ADD COLUMN missed INT FIRST"),
    ];
    mysql::execute(&stage.shop.mysql_url, missed).await?;
    caught_up(&mut stage).await?;
    ensure!(needing(&stage).await?.is_empty(), "it is not followed and owes nothing");
    name(&mut stage, &["*"])?;
    let said = command(&stage, &["check"]).await?;
    ensure!(
        said.contains(&format!("{schema}.orders is read by a snapshot from the next start on")),
        "{said}"
    );
    ensure!(!said.contains("customers is read"), "{said}");
    start_again_with(&mut stage, &["*"]).await?;
    until_begun(&stage, "orders", 2).await?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    ensure!((begun(&stage, "orders"), begun(&stage, "customers")) == (2, 1), "{}", stage.relay.words());
    stage.clear().await
}

#[tokio::test]
async fn a_table_that_is_made_in_mid_stream_is_not_read_by_a_snapshot() -> Result<()> {
    let test = "a_table_that_is_made_in_mid_stream_is_not_read_by_a_snapshot";
    let mut stage = with_snapshot(Database::Mysql, test, 100, None).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let make = |table: &str| {
        [
            format!("CREATE TABLE `{schema}`.{table} (a INT PRIMARY KEY, b INT)"),
            format!("INSERT INTO `{schema}`.{table} VALUES (1, 2), (3, 4)"),
        ]
    };
    start_again_with(&mut stage, &["*"]).await?;
    over(&mut stage).await?;
    mysql::execute(&url, make("made_beside")).await?;
    stage.tables.push("made_beside".to_owned());
    stage.agree(SOON).await?;
    stage.relay.kill()?;
    mysql::execute(&url, make("made_meanwhile")).await?;
    stage.tables.push("made_meanwhile".to_owned());
    start_again_with(&mut stage, &["*"]).await?;
    stage.agree(SOON).await?;
    for table in ["made_beside", "made_meanwhile"] {
        ensure!(begun(&stage, table) == 0, "{table} was read by a snapshot:\n{}", stage.relay.words());
    }
    stage.clear().await
}

#[tokio::test]
async fn what_was_prepared_before_a_table_was_followed_is_a_gap_of_that_table_when_it_is_committed()
-> Result<()> {
    let test = "what_was_prepared_before_a_table_was_followed_is_a_gap_of_that_table_when_it_is_committed";
    let mut stage = with_snapshot(Database::Mysql, test, 1000, None).await?;
    let schema = stage.shop.schema.clone();
    start_again_with(&mut stage, &["*", "!orders"]).await?;
    over(&mut stage).await?;
    let prepared = [
        "XA START 'early'".to_owned(),
        format!("UPDATE `{schema}`.orders SET note = 'prepared' WHERE id = 7"),
        "XA END 'early'".to_owned(),
        "XA PREPARE 'early'".to_owned(),
    ];
    mysql::execute(&stage.shop.mysql_url, prepared).await?;
    eventually("the log knows of the XA transaction", Duration::from_secs(60), async || {
        Ok(command(&stage, &["log", "cat"]).await?.contains("prepared X'6561726c79'").then_some(()))
    })
    .await?;
    start_again_with(&mut stage, &["*"]).await?;
    until_begun(&stage, "orders", 1).await?;
    over(&mut stage).await?;
    caught_up(&mut stage).await?;
    ensure!(needing(&stage).await?.is_empty(), "nothing is known yet");
    mysql::execute(&stage.shop.mysql_url, ["XA COMMIT 'early'"]).await?;
    caught_up(&mut stage).await?;
    let needing = needing(&stage).await?;
    let [(table, why)] = needing.as_slice() else { anyhow::bail!("{needing:?} need a snapshot") };
    ensure!(*table == format!("{schema}.orders") && why.contains("before the table was followed"), "{why}");
    snapshot(&stage, &[table]).await?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    stage.clear().await
}
