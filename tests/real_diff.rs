//! `everrelay diff` beside a running relay, at rest and in a storm.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use support::stage::Stage;

const SOON: Duration = Duration::from_secs(60);

async fn diff(stage: &Stage, table: &str, more: &[&str]) -> Result<(i32, Value)> {
    let table = format!("{}.{table}", stage.shop.schema);
    let (code, out, complaint) = stage.command(&[&["diff", &table, "--json"], more].concat()).await?;
    let found = serde_json::from_str(&out).with_context(|| format!("exit code {code}: {out}{complaint}"))?;
    Ok((code, found))
}

#[tokio::test]
async fn diff_names_and_repairs_what_was_lost_changed_and_added_and_nothing_that_the_relay_has_yet_to_carry()
-> Result<()> {
    let test =
        "diff_names_and_repairs_what_was_lost_changed_and_added_and_nothing_that_the_relay_has_yet_to_carry";
    let mut stage = Stage::set(test, 3_000).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let storm = stage.workload(Some(100));
    let (code, found) = diff(&stage, "orders", &[]).await?;
    ensure!(code == 0 && found["relay"] == true && found["behind"] == false, "{found}");
    storm.stop().await?;
    stage.agree(SOON).await?;

    let (code, found) = diff(&stage, "customers", &[]).await?;
    ensure!(code == 0 && found["rows"] == found["documents"], "{found}");
    let alias = format!("{}.customers", stage.shop.schema);
    let mut ids = Vec::new();
    stage
        .engine
        .scan(&alias, |hit| {
            ids.push(hit.id);
            Ok(())
        })
        .await?;
    ids.sort();
    let path = |id: &str| format!("/{alias}-000001/_doc/{id}");
    let empty = || Some("{}".to_owned());
    // By others, without a version of their own: it rises by one.
    stage.engine.demand(Method::DELETE, &path(&ids[2]), None).await?;
    stage.engine.demand(Method::PUT, &path(&ids[4]), empty()).await?;
    let (code, found) = diff(&stage, "customers", &["--repair"]).await?;
    ensure!(code == 0 && found["missing"]["count"] == 1 && found["stale"]["count"] == 1, "{code}: {found}");
    ensure!(found["repair"]["read"] == "the rows around what differs", "{found}");
    ensure!(found["repair"]["left"]["stale"]["count"] == 0, "{found}");
    let known: Value = serde_json::from_str(&stage.engine.demand(Method::GET, &path(&ids[0]), None).await?)?;
    let version = known["_version"].as_u64().context("a version")?;
    let extra = format!("{}?version_type=external&version={version}", path("somebody"));
    stage.engine.demand(Method::PUT, &extra, empty()).await?;
    stage.engine.demand(Method::DELETE, &path(&ids[2]), None).await?;
    let (code, found) = diff(&stage, "customers", &["--repair"]).await?;
    ensure!(code == 0 && found["missing"]["count"] == 1 && found["extra"]["count"] == 1, "{code}: {found}");
    ensure!(found["repair"]["read"] == "the whole table", "{found}");
    stage.agree(SOON).await?;

    let newer = "version_type=external&version=9000000000000000000";
    stage.engine.demand(Method::DELETE, &format!("{}?{newer}", path(&ids[3])), None).await?;
    stage.engine.demand(Method::PUT, &format!("{}?{newer}", path(&ids[5])), empty()).await?;
    stage.engine.demand(Method::PUT, &format!("{}?{newer}", path("nobody")), empty()).await?;

    let (code, found) = diff(&stage, "customers", &[]).await?;
    ensure!(code == 6, "{code}: {found}");
    for (kind, id) in [("missing", &*ids[3]), ("stale", &*ids[5]), ("extra", "nobody")] {
        ensure!(found[kind]["count"] == 1 && found[kind]["ids"][0] == id, "{kind} {id}: {found}");
    }
    let (code, found) = diff(&stage, "orders", &["--sample", "100"]).await?;
    ensure!(code == 0 && found["documents"].is_null() && found["rows"].as_u64() >= Some(100), "{found}");
    stage.clear().await
}
