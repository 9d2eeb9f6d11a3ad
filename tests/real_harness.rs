//! The comparison and the workload against real servers, without a relay: a comparison that cannot find a difference
//! proves nothing.

mod support;

use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::Method;
use support::canonical::Document;
use support::compare::{TableComparison, compare};
use support::mysql;
use support::oracle::Table;
use support::stage::Stage;

/// Writes a table's rows into the engine as the relay would have to.
async fn copy_by_hand(stage: &Stage, name: &str) -> Result<Vec<String>> {
    let mut conn = mysql::connect(&stage.shop.mysql_url).await?;
    let table = Table::describe(&mut conn, &stage.shop.schema, name).await?;
    let mut rows: Vec<(String, Document)> = Vec::new();
    table
        .documents(&mut conn, |id, document| {
            rows.push((id, document));
            Ok(())
        })
        .await?;
    for chunk in rows.chunks(1000) {
        let mut body = String::new();
        for (id, document) in chunk {
            body.push_str(&format!("{{\"index\":{{\"_id\":{}}}}}\n", serde_json::to_string(id)?));
            let members: Vec<String> = document
                .iter()
                // The canonical form's commas are JSON's, with one too many.
                .map(|(name, value)| format!("\"{name}\":{}", value.replace(",}", "}").replace(",]", "]")))
                .collect();
            body.push_str(&format!("{{{}}}\n", members.join(",")));
        }
        let path = format!("/{}/_bulk", table.alias());
        let (status, text) = stage.engine.ask(Method::POST, &path, Some(body)).await?;
        ensure!(status.is_success() && text.contains("\"errors\":false"), "{status}: {text}");
    }
    Ok(rows.into_iter().map(|(id, _)| id).collect())
}

async fn compare_one(stage: &Stage, table: &str) -> Result<TableComparison> {
    let mut all = compare(&stage.shop.mysql_url, &stage.engine, &stage.shop.schema, [table]).await?;
    Ok(all.tables.remove(0))
}

#[tokio::test]
async fn the_comparison_finds_what_is_missing_stale_and_extra() -> Result<()> {
    let stage = Stage::set("the_comparison_finds_what_is_missing_stale_and_extra", 3000).await?;
    let url = &stage.shop.mysql_url;
    let schema = &stage.shop.schema;

    let nothing_yet = compare_one(&stage, "order_items").await?;
    ensure!(nothing_yet.missing == stage.scale.items && nothing_yet.documents == 0, "{nothing_yet:?}");

    for table in ["customers", "products", "orders", "order_items"] {
        let ids = copy_by_hand(&stage, table).await?;
        let equal = compare_one(&stage, table).await?;
        ensure!(equal.differences() == 0 && equal.rows == ids.len() as u64, "{equal:?}");
    }

    mysql::execute(
        url,
        [
            format!("UPDATE `{schema}`.orders SET amount = amount + 0.01 WHERE id = 3"),
            format!("DELETE FROM `{schema}`.orders WHERE id = 4"),
            format!("UPDATE `{schema}`.orders SET id = 999999 WHERE id = 5"),
        ],
    )
    .await?;
    let found = compare_one(&stage, "orders").await?;
    ensure!((found.missing, found.stale, found.extra) == (1, 1, 2), "{found:?}");
    ensure!(found.examples.iter().any(|example| example.starts_with("stale \"3\": amount is ")), "{found:?}");
    stage.clear().await
}

#[tokio::test]
async fn the_workload_commits_in_every_table_and_survives_a_restart_of_mysql() -> Result<()> {
    let stage =
        Stage::set("the_workload_commits_in_every_table_and_survives_a_restart_of_mysql", 2000).await?;
    let mut workload = stage.workload(Some(300));
    tokio::time::sleep(Duration::from_secs(2)).await;
    stage.servers.restart(support::servers::Server::Mysql).await?;
    let before = workload.totals.transactions();
    support::eventually("transactions after the restart", Duration::from_secs(30), async || {
        Ok((workload.totals.transactions() > before + 200).then_some(()))
    })
    .await?;
    workload.ensure_alive().await?;
    let totals = workload.stop().await?;
    eprintln!("{totals:?}");
    ensure!(totals.changes() > totals.transactions());
    stage.clear().await
}
