//! Tables that come to need a snapshot, where the configuration has them read anew by themselves.

use anyhow::{Context, Result, ensure};

use super::super::support::servers::Database;
use super::super::support::stage::Stage;
use super::super::support::{eventually, mysql};
use super::super::{SOON, over, snapshot, with_snapshot};
use super::{begun, caught_up, needing, start_again_with, until_begun};

/// All of the shop's tables, but for those that change places with others.
const FOLLOWED: [&str; 2] = ["*", "!tmp_*"];

async fn with_on_gap(database: Database, test: &'static str) -> Result<Stage> {
    let mut stage = with_snapshot(database, test, 5000, None).await?;
    start_again_at(&mut stage, 100_000).await?;
    over(&mut stage).await?;
    Ok(stage)
}

/// Starts the relay (again) so that it reads so many rows a second.
async fn start_again_at(stage: &mut Stage, rate: u64) -> Result<()> {
    stage.relay.options.more = format!("\n[snapshot]\non_gap = \"snapshot\"\nrows_per_second = {rate}\n");
    start_again_with(stage, &FOLLOWED).await
}

/// Waits until no table needs a snapshot.
async fn all_are_right(stage: &Stage) -> Result<()> {
    let right = async || Ok(needing(stage).await?.is_empty().then_some(()));
    eventually("no table needs a snapshot", SOON, right).await.with_context(|| stage.relay.last_words())
}

async fn is_read_once_for_each_gap(database: Database, test: &'static str) -> Result<()> {
    let mut stage = with_on_gap(database, test).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let workload = stage.workload(Some(200));
    let statement = format!("ALTER TABLE `{schema}`.orders ADD COLUMN more INT NOT NULL DEFAULT 7");
    mysql::execute(&url, [statement]).await?;
    until_begun(&stage, "orders", 2).await?;
    all_are_right(&stage).await?;
    let make = |table: &str, first: u32| {
        [
            format!("CREATE TABLE `{schema}`.{table} (a INT PRIMARY KEY, b INT)"),
            format!("INSERT INTO `{schema}`.{table} VALUES ({first}, 1), ({}, 2)", first + 1),
        ]
    };
    mysql::execute(&url, make("one", 10).into_iter().chain(make("two", 20))).await?;
    let swap = format!("`{schema}`.one TO `{schema}`.tmp_x, `{schema}`.two TO `{schema}`.one");
    mysql::execute(&url, [format!("RENAME TABLE {swap}, `{schema}`.tmp_x TO `{schema}`.two")]).await?;
    for table in ["one", "two"] {
        until_begun(&stage, table, 1).await?;
    }
    all_are_right(&stage).await?;
    mysql::execute(&url, [format!("DROP TABLE `{schema}`.one")]).await?;
    eventually("it is noticed that the table is gone", SOON, async || {
        Ok(stage.relay.words().contains("there is no such table").then_some(()))
    })
    .await?;
    caught_up(&mut stage).await?;
    let left = needing(&stage).await?;
    ensure!(left.len() == 1 && left[0].0.ends_with(".one"), "{left:?} need a snapshot");
    mysql::execute(&url, make("one", 30)).await?;
    until_begun(&stage, "one", 2).await?;
    all_are_right(&stage).await?;
    workload.stop().await?;
    stage.tables.extend(["one", "two"].map(str::to_owned));
    stage.agree(SOON).await?;
    let times = ["orders", "one", "two", "customers"].map(|table| begun(&stage, table));
    ensure!(times == [2, 2, 1, 1], "snapshots began {times:?} times:\n{}", stage.relay.words());
    stage.clear().await
}

#[tokio::test]
async fn where_the_configuration_says_so_a_table_is_read_anew_once_for_each_gap() -> Result<()> {
    let test = "where_the_configuration_says_so_a_table_is_read_anew_once_for_each_gap";
    is_read_once_for_each_gap(Database::Mysql, test).await
}

#[tokio::test]
async fn at_mariadb_too_a_table_is_read_anew_once_for_each_gap() -> Result<()> {
    let test = "at_mariadb_too_a_table_is_read_anew_once_for_each_gap";
    is_read_once_for_each_gap(Database::Mariadb, test).await
}

#[tokio::test]
async fn a_table_whose_snapshot_was_cancelled_stays_marked_until_it_is_ordered() -> Result<()> {
    let test = "a_table_whose_snapshot_was_cancelled_stays_marked_until_it_is_ordered";
    let mut stage = with_on_gap(Database::Mysql, test).await?;
    // It is still being read when it is cancelled, on a slow machine too.
    start_again_at(&mut stage, 10).await?;
    let schema = stage.shop.schema.clone();
    let statement = format!("ALTER TABLE `{schema}`.orders ADD COLUMN more INT NOT NULL DEFAULT 7");
    mysql::execute(&stage.shop.mysql_url, [statement]).await?;
    until_begun(&stage, "orders", 2).await?;
    snapshot(&stage, &["cancel", &format!("{schema}.orders")]).await?;
    start_again_at(&mut stage, 100_000).await?;
    caught_up(&mut stage).await?;
    let left = needing(&stage).await?;
    ensure!(left.len() == 1 && begun(&stage, "orders") == 2, "{left:?}:\n{}", stage.relay.words());
    snapshot(&stage, &[&left[0].0]).await?;
    all_are_right(&stage).await?;
    stage.agree(SOON).await?;
    stage.clear().await
}
