//! Every column type at its edges, through the whole relay: a document's bytes are what the row says.

mod support;

use std::time::Duration;

use anyhow::{Result, ensure};
use support::servers::Database;
use support::specimens::{KEYS, MARIADB_SPECIMENS, SPECIMENS, specimens_of};
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn every_type_at_its_edges_becomes_the_document_that_its_row_says() -> Result<()> {
    let test = "every_type_at_its_edges_becomes_the_document_that_its_row_says";
    every_type(Stage::set(test, 0).await?, SPECIMENS).await
}

#[tokio::test]
async fn at_mariadb_every_type_becomes_the_document_that_its_row_says() -> Result<()> {
    let test = "at_mariadb_every_type_becomes_the_document_that_its_row_says";
    every_type(Stage::set_with(Database::Mariadb, test, 0).await?, &[SPECIMENS, MARIADB_SPECIMENS].concat())
        .await
}

async fn every_type(mut stage: Stage, specimens: &[(&str, &[&str])]) -> Result<()> {
    let schema = stage.shop.schema.clone();
    mysql::execute(&stage.shop.mysql_url, specimens_of(&schema, specimens)).await?;
    stage.tables.push("specimens".to_owned());
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn a_table_rule_is_followed_by_a_running_relay() -> Result<()> {
    let mut stage = Stage::set("a_table_rule_is_followed_by_a_running_relay", 0).await?;
    let schema = stage.shop.schema.clone();
    stage.relay.options.more = format!(
        "[[table]]\nmatch = \"{schema}.rul*\"\ndecimal = \"string\"\nzero_dates = \"string\"\njson = \"string\"\n\n\
         [[table]]\nmatch = \"{schema}.ruled_otherwise\"\njson = \"flattened\"\n"
    );
    stage.relay.write_config()?;
    let mut statements = vec!["SET sql_mode = ''".to_owned()];
    for table in ["ruled", "ruled_otherwise", "plain"] {
        statements.push(format!(
            "CREATE TABLE `{schema}`.{table} (id INT PRIMARY KEY, n DECIMAL(9,2), d DATE, t DATETIME(3), j JSON)"
        ));
        statements.push(format!(
            "INSERT INTO `{schema}`.{table} VALUES (1, 12.30, '0000-00-00', '2026-11-23 06:47:08.12', '{{\"a\": [1, 2]}}')"
        ));
        // What comes later too.
        statements.push(format!("UPDATE `{schema}`.{table} SET n = -0.50 WHERE id = 1"));
    }
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    stage.relay.start()?;
    for (table, expected) in [
        (
            "ruled",
            r#"{"id":1,"n":"-0.50","d":"0000-00-00","t":"2026-11-23T06:47:08.120","j":"{\"a\": [1, 2]}"}"#,
        ),
        (
            "ruled_otherwise",
            r#"{"id":1,"n":"-0.50","d":"0000-00-00","t":"2026-11-23T06:47:08.120","j":{"a":[1,2]}}"#,
        ),
        ("plain", r#"{"id":1,"n":-0.50,"d":null,"t":"2026-11-23T06:47:08.120","j":{"a":[1,2]}}"#),
    ] {
        let alias = format!("{schema}.{table}").to_lowercase();
        let what = format!("the document of {table}");
        let arrived = eventually(&what, SOON, async || {
            let document = stage.engine.document(&alias, "1").await.unwrap_or_default();
            Ok(document.filter(|document| document.contains("0.50")))
        });
        let document = arrived.await?;
        let [found, expected]: [serde_json::Value; 2] =
            [serde_json::from_str(&document)?, serde_json::from_str(expected)?];
        ensure!(found == expected, "{table}: {document}");
    }
    stage.clear().await
}

#[tokio::test]
async fn keys_of_every_kind_become_ids() -> Result<()> {
    every_key(Stage::set("keys_of_every_kind_become_ids", 0).await?).await
}

#[tokio::test]
async fn at_mariadb_keys_of_every_kind_become_ids() -> Result<()> {
    every_key(Stage::set_with(Database::Mariadb, "at_mariadb_keys_of_every_kind_become_ids", 0).await?).await
}

async fn every_key(mut stage: Stage) -> Result<()> {
    let schema = stage.shop.schema.clone();
    let mut statements = Vec::new();
    for (name, columns, rows) in KEYS {
        statements.push(format!("CREATE TABLE `{schema}`.{name} ({columns})"));
        for row in *rows {
            statements.push(format!("INSERT INTO `{schema}`.{name} VALUES ({row})"));
        }
        // Every row is touched once under its key, and one of them goes.
        if columns.contains("c INT") {
            statements.push(format!("UPDATE `{schema}`.{name} SET c = c + 1"));
        }
        statements.push(format!("DELETE FROM `{schema}`.{name} ORDER BY a LIMIT 1"));
    }
    statements.push(format!("INSERT INTO `{schema}`.k7 VALUES ('x')"));
    statements.push(format!("UPDATE `{schema}`.k7 SET a = CONCAT(a, '!')"));
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    stage.tables.extend(KEYS.iter().map(|(name, ..)| (*name).to_owned()));
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.clear().await
}
