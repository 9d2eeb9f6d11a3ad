//! Tables whose key the configuration names.

use anyhow::{Result, ensure};

use rustix::process::Signal;

use super::support::servers::Database;
use super::support::stage::Stage;
use super::support::{eventually, mysql};
use super::{SOON, numbers, over, with_snapshot};

/// Has the relay take these columns as the key of `keyless`.
fn name(stage: &mut Stage, columns: &str) -> Result<()> {
    stage.relay.options.more = format!("\n[[table]]\nmatch = \"*.keyless\"\nid = [{columns}]\n");
    stage.relay.write_config()
}

async fn is_told_apart(database: Database, test: &'static str) -> Result<()> {
    let mut stage = with_snapshot(database, test, 0, None).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let table = [
        format!(
            "CREATE TABLE `{schema}`.keyless (filler VARCHAR(2000), low VARCHAR(9) NOT NULL COMMENT 'key 2', n INT, \
             high INT NOT NULL COMMENT 'key 1')"
        ),
        format!(
            "INSERT INTO `{schema}`.keyless SELECT REPEAT('f', 2000), n % 50, n, n DIV 50 FROM `{schema}`.numbers"
        ),
    ];
    mysql::execute(&url, numbers(&schema).into_iter().chain(table)).await?;
    stage.tables.extend(["numbers", "keyless"].map(str::to_owned));
    name(&mut stage, "\"high\", \"low\"")?;
    stage.relay.start()?;
    over(&mut stage).await?;
    stage.agree(SOON).await?;
    ensure!(stage.engine.count(&format!("{schema}.keyless")).await? == 4000);
    // Of such a table every image has all columns, however few are asked for.
    let changes = [
        "SET SESSION binlog_row_image = 'MINIMAL'".to_owned(),
        format!("UPDATE `{schema}`.keyless SET n = -n WHERE high < 5"),
        format!(
            "UPDATE `{schema}`.keyless SET high = high + 1000, low = CONCAT('l', low) WHERE high BETWEEN 10 AND 12"
        ),
        format!("DELETE FROM `{schema}`.keyless WHERE high BETWEEN 20 AND 23"),
        format!("INSERT INTO `{schema}`.keyless VALUES (NULL, 'a|b', 1, -7), (NULL, 'A|b', 1, -7)"),
    ];
    mysql::execute(&url, changes).await?;
    stage.agree(SOON).await?;

    // Other columns: every document gets another id, and none of the old ones stays.
    let other = [
        format!("DELETE FROM `{schema}`.keyless WHERE n = 1"),
        format!(
            "ALTER TABLE `{schema}`.keyless MODIFY high INT NOT NULL COMMENT '', MODIFY low VARCHAR(9) NOT NULL COMMENT '', \
             MODIFY n INT NOT NULL COMMENT 'key 1'"
        ),
    ];
    mysql::execute(&url, other).await?;
    stage.relay.until_settled(SOON).await?;
    stage.relay.signal(Signal::TERM)?;
    stage.relay_ends_with(0, SOON).await?;
    name(&mut stage, "\"n\"")?;
    stage.relay.start()?;
    over(&mut stage).await?;
    let rows: u64 = mysql::one(&url, &format!("SELECT COUNT(*) FROM `{schema}`.keyless")).await?;
    eventually("the documents under the old ids are gone", SOON, async || {
        let documents = stage.engine.count(&format!("{schema}.keyless")).await?;
        Ok((documents == rows).then_some(()))
    })
    .await?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn a_table_without_a_key_is_told_apart_by_columns_that_the_configuration_names() -> Result<()> {
    let test = "a_table_without_a_key_is_told_apart_by_columns_that_the_configuration_names";
    is_told_apart(Database::Mysql, test).await
}

#[tokio::test]
async fn a_table_without_a_key_is_told_apart_by_named_columns_at_mariadb_too() -> Result<()> {
    let test = "a_table_without_a_key_is_told_apart_by_named_columns_at_mariadb_too";
    is_told_apart(Database::Mariadb, test).await
}

#[tokio::test]
async fn columns_that_are_no_key_are_refused_at_the_start_and_check_says_what_the_server_does_not_do()
-> Result<()> {
    let test = "columns_that_are_no_key_are_refused_at_the_start_and_check_says_what_the_server_does_not_do";
    let mut stage = with_snapshot(Database::Mysql, test, 0, None).await?;
    let create = format!("CREATE TABLE `{}`.keyless (a INT, b INT NOT NULL)", stage.shop.schema);
    mysql::execute(&stage.shop.mysql_url, [create]).await?;
    for (columns, wrong) in [("\"a\"", "may be NULL"), ("\"b\", \"c\"", "no such column")] {
        name(&mut stage, columns)?;
        stage.relay.start()?;
        let words = stage.relay_ends_with(3, SOON).await?;
        ensure!(words.contains("keyless") && words.contains(wrong) && words.contains("`id`"), "{words}");
    }
    name(&mut stage, "\"b\"")?;
    let (code, text, _) = stage.command(&["check"]).await?;
    ensure!(
        code == 0 && text.contains("no unique index") && text.contains("no index begins"),
        "{code}: {text}"
    );
    stage.clear().await
}
