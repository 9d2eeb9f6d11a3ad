//! More of what the relay must not go on with, and what it goes on with once that is mended.

mod support;

use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;
use support::stage::Stage;
use support::{ensure_says, mysql};

const SOON: Duration = Duration::from_secs(30);

async fn execute(stage: &Stage, statements: &[String]) -> Result<()> {
    mysql::execute(&stage.shop.mysql_url, statements).await
}

async fn drain(stage: &mut Stage) -> Result<()> {
    stage.relay.signal(Signal::TERM)?;
    stage.relay_ends_with(0, SOON).await.map(|_words| ())
}

#[tokio::test]
async fn fault_37_an_index_deleted_while_the_relay_was_away_exits_with_4_and_is_not_made_anew() -> Result<()>
{
    let mut stage =
        Stage::set("an_index_deleted_while_the_relay_was_away_exits_with_4_and_is_not_made_anew", 300)
            .await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    drain(&mut stage).await?;
    let schema = stage.shop.schema.clone();
    stage.engine.delete_indices(&format!("{schema}.customers")).await?;
    execute(&stage, &[format!("UPDATE `{schema}`.customers SET name = 'x' LIMIT 1")]).await?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(4, SOON).await?;
    ensure_says(&words, &["customers", "deleted"])?;
    let found = stage.engine.indices(&format!("{schema}.customers")).await?;
    ensure!(found.is_empty(), "made anew: {found:?}");
    stage.clear().await
}

#[tokio::test]
async fn two_tables_that_would_share_an_alias_exit_with_4_and_both_are_named() -> Result<()> {
    let mut stage =
        Stage::set("two_tables_that_would_share_an_alias_exit_with_4_and_both_are_named", 0).await?;
    let schema = stage.shop.schema.clone();
    let mut statements = Vec::new();
    for table in ["Twins", "twins"] {
        statements.push(format!("CREATE TABLE `{schema}`.{table} (id INT PRIMARY KEY)"));
        statements.push(format!("INSERT INTO `{schema}`.{table} VALUES (1)"));
    }
    execute(&stage, &statements).await?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(4, SOON).await?;
    ensure_says(&words, &[".Twins", ".twins", "alias"])?;
    stage.clear().await
}

#[tokio::test]
async fn a_table_whose_name_no_index_can_have_is_named_and_exits_with_4() -> Result<()> {
    let mut stage = Stage::set("a_table_whose_name_no_index_can_have_is_named_and_exits_with_4", 0).await?;
    let schema = stage.shop.schema.clone();
    let statements = [
        format!("CREATE TABLE `{schema}`.`two words` (id INT PRIMARY KEY)"),
        format!("INSERT INTO `{schema}`.`two words` VALUES (1)"),
    ];
    execute(&stage, &statements).await?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(4, SOON).await?;
    ensure_says(&words, &["two words", "rename"])?;
    stage.clear().await
}

#[tokio::test]
async fn a_server_that_does_not_log_rows_exits_with_3_and_the_statement_to_change_it() -> Result<()> {
    let mut stage =
        Stage::set("a_server_that_does_not_log_rows_exits_with_3_and_the_statement_to_change_it", 0).await?;
    execute(&stage, &["SET GLOBAL binlog_format = 'STATEMENT'".to_owned()]).await?;
    stage.relay.start()?;
    let ended = stage.relay_ends_with(3, SOON).await;
    execute(&stage, &["SET GLOBAL binlog_format = 'ROW'".to_owned()]).await?;
    ensure_says(&ended?, &["binlog_format", "STATEMENT", "SET PERSIST"])?;
    stage.clear().await
}

#[tokio::test]
async fn purged_transactions_exit_with_3_and_are_named() -> Result<()> {
    let mut stage = Stage::set("purged_transactions_exit_with_3_and_are_named", 200).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    drain(&mut stage).await?;
    let schema = stage.shop.schema.clone();
    execute(&stage, &[format!("UPDATE `{schema}`.pulse SET beat = 1"), "FLUSH BINARY LOGS".to_owned()])
        .await?;
    let (file, ..): (String, u64, String, String, String) =
        mysql::one(&stage.shop.mysql_url, "SHOW BINARY LOG STATUS").await?;
    execute(&stage, &[format!("PURGE BINARY LOGS TO '{file}'")]).await?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(3, SOON).await?;
    ensure_says(&words, &["purged"])?;
    stage.clear().await
}

#[tokio::test]
async fn a_state_folder_of_another_server_exits_with_3() -> Result<()> {
    let mut stage = Stage::set("a_state_folder_of_another_server_exits_with_3", 0).await?;
    stage.relay.options.start = "11111111-2222-3333-4444-555555555555:1-7".to_owned();
    stage.relay.write_config()?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(3, SOON).await?;
    ensure_says(&words, &["11111111-2222-3333-4444-555555555555:1-7"])?;
    stage.clear().await
}
