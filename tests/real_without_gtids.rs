//! The relay at a MySQL server whose `gtid_mode` is OFF, as it is by default: killed, and taken over to GTIDs while everything runs.
//!
//! `EVERRELAY_TEST_SEED`: the workload and the moments of an earlier run.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use support::pulse::Beat;
use support::relay::relay_binary;
use support::servers::Servers;
use support::stage::Stage;
use support::workload::Workload;
use support::{ensure_says, eventually, mysql};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(60);

/// Runs `everrelay` with this stage's configuration; its exit code, and what it printed.
async fn everrelay(stage: &Stage, arguments: &[&str]) -> Result<(i32, String)> {
    let mut command = Command::new(relay_binary());
    command.args(arguments).arg("--config").arg(stage.relay.config_file());
    let output = command.output().await.context("starting everrelay")?;
    let text = String::from_utf8(output.stdout)? + std::str::from_utf8(&output.stderr)?;
    Ok((output.status.code().context("ended by a signal")?, text))
}

async fn status(stage: &Stage) -> Result<Value> {
    let (code, text) = everrelay(stage, &["status", "--json"]).await?;
    ensure!(code == 0, "{text}");
    Ok(serde_json::from_str(&text)?)
}

/// Sets it, once transactions of the mode before have ended.
async fn mode(stage: &Stage, mode: &str) -> Result<()> {
    let sql = format!("SET GLOBAL gtid_mode = {mode}");
    eventually(&sql, SOON, async || Ok(mysql::execute(&stage.shop.mysql_url, [&sql]).await.ok())).await
}

/// Kills the relay twice, at random moments; it runs again.
async fn kill_twice(stage: &mut Stage, workload: &mut Workload, rng: &mut StdRng) -> Result<()> {
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..2500))).await;
        workload.ensure_alive().await?;
        stage.relay.kill()?;
        stage.relay.start()?;
    }
    Ok(())
}

#[tokio::test]
async fn kills_cost_nothing_without_gtids_and_while_they_are_turned_on_under_load() -> Result<()> {
    let test = "kills_cost_nothing_without_gtids_and_while_they_are_turned_on_under_load";
    let mut stage = Stage::set_on(Servers::without_gtids, test, 1000).await?;
    let seed = stage.seed;
    let mut rng = StdRng::seed_from_u64(seed.number);
    let mut workload = stage.workload(Some(200));
    stage.relay.start()?;
    kill_twice(&mut stage, &mut workload, &mut rng).await.with_context(|| seed.to_string())?;
    mysql::execute(&stage.shop.mysql_url, ["SET GLOBAL enforce_gtid_consistency = ON"]).await?;
    for step in ["OFF_PERMISSIVE", "ON_PERMISSIVE"] {
        mode(&stage, step).await?;
        kill_twice(&mut stage, &mut workload, &mut rng).await.with_context(|| seed.to_string())?;
    }
    // All before it is read, so that nothing without a GTID is left.
    let beat = Beat::commit(&stage.shop).await?;
    eventually("the beat", SOON, async || Ok(beat.has_arrived(&stage.engine).await?.then_some(()))).await?;
    mode(&stage, "ON").await?;
    kill_twice(&mut stage, &mut workload, &mut rng).await.with_context(|| seed.to_string())?;
    let totals = workload.stop().await?;
    eprintln!("{totals:?}");
    stage.agree(SOON).await?;
    let status = status(&stage).await?;
    let pipeline = &status["pipeline"];
    ensure!(pipeline["source"]["place"].is_null(), "{status}");
    ensure!(pipeline["sinks"][0]["gtids"].as_str().is_some_and(|gtids| !gtids.is_empty()), "{status}");
    stage.clear().await
}

#[tokio::test]
async fn the_commands_show_places_where_there_are_no_gtids_and_say_what_is_weaker() -> Result<()> {
    let test = "the_commands_show_places_where_there_are_no_gtids_and_say_what_is_weaker";
    let mut stage = Stage::set_on(Servers::without_gtids, test, 100).await?;
    for running in [false, true, false] {
        if running {
            stage.relay.start()?;
            stage.agree(SOON).await?;
            stage.agree(SOON).await?;
        }
        let (code, text) = everrelay(&stage, &["check"]).await?;
        ensure!(code == 0, "{text}");
        ensure_says(&text, &["gtid_mode is OFF", "SET PERSIST gtid_mode = ON", "streams its binlog"])?;
        if running {
            let warnings = stage.relay.words().matches("gtid_mode is OFF").count();
            ensure!(warnings == 1, "once a start: {warnings}");
            stage.relay.signal(Signal::TERM)?;
            stage.relay_ends_with(0, SOON).await?;
        }
    }
    let status = status(&stage).await?;
    let place = status["pipeline"]["source"]["place"].as_str().unwrap_or_default().to_owned();
    ensure!(place.starts_with("binlog.0"), "{status}");
    let (_, text) = everrelay(&stage, &["status"]).await?;
    ensure_says(&text, &["transactions without GTIDs", &place])?;
    let (_, text) = everrelay(&stage, &["log", "ls"]).await?;
    ensure_says(&text, &[&format!("up to {place}")])?;
    let (_, text) = everrelay(&stage, &["log", "cat", "--json"]).await?;
    let records: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let last = records.iter().rfind(|record| matches!(record["kind"].as_str(), Some("commit" | "mark")));
    ensure!(last.is_some_and(|record| record["position"] == place), "{last:?} at {place}");
    stage.clear().await
}
