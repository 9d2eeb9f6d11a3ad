//! The commands that only look: beside a running relay, and at the folder that one left.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use support::mysql;
use support::relay::relay_binary;
use support::stage::Stage;
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(30);

/// Runs `everrelay` with this stage's configuration; its exit code, and what it printed.
async fn everrelay(stage: &Stage, arguments: &[&str]) -> Result<(i32, String)> {
    let output = Command::new(relay_binary())
        .args(arguments)
        .arg("--config")
        .arg(stage.relay.config_file())
        .output()
        .await
        .context("starting everrelay")?;
    let text = String::from_utf8(output.stdout)? + std::str::from_utf8(&output.stderr)?;
    Ok((output.status.code().context("ended by a signal")?, text))
}

fn json_lines(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

#[tokio::test]
async fn check_finds_all_well_before_the_first_start_beside_a_running_relay_and_after() -> Result<()> {
    let mut stage =
        Stage::set("check_finds_all_well_before_the_first_start_beside_a_running_relay_and_after", 100)
            .await?;
    let tried = ["configuration", "state folder", "log", "source", "tables", "replication", "sink"];
    for running in [false, true, false] {
        if running {
            stage.relay.start()?;
            stage.agree(SOON).await?;
        }
        let (code, text) = everrelay(&stage, &["check", "--json"]).await?;
        ensure!(code == 0, "{text}");
        let findings = json_lines(&text)?;
        for what in tried {
            let finding = findings.iter().find(|finding| finding["what"] == what);
            ensure!(finding.is_some_and(|finding| finding["verdict"] == "ok"), "{what}: {text}");
        }
        if running {
            // The running relay was not disturbed.
            stage.agree(SOON).await?;
            stage.relay.signal(Signal::TERM)?;
            stage.relay_ends_with(0, SOON).await?;
        }
    }
    stage.clear().await
}

#[tokio::test]
async fn check_names_a_keyless_table_and_an_engine_that_is_not_there() -> Result<()> {
    let mut stage = Stage::set("check_names_a_keyless_table_and_an_engine_that_is_not_there", 0).await?;
    let create = format!("CREATE TABLE `{}`.keyless (a INT)", stage.shop.schema);
    mysql::execute(&stage.shop.mysql_url, [create]).await?;
    stage.relay.options.sink_url = "http://127.0.0.1:1".to_owned();
    stage.relay.write_config()?;
    let (code, text) = everrelay(&stage, &["check"]).await?;
    ensure!(code == 3, "the first failure is the source's: {code}\n{text}");
    ensure!(text.contains("keyless") && text.contains("cannot be reached"), "{text}");
    stage.clear().await
}

#[tokio::test]
async fn fault_47_check_says_that_a_crash_may_take_back_what_was_sent() -> Result<()> {
    let stage = Stage::set("fault_47_check_says_that_a_crash_may_take_back_what_was_sent", 0).await?;
    let before: u64 = mysql::one(&stage.shop.mysql_url, "SELECT @@GLOBAL.sync_binlog").await?;
    mysql::execute(&stage.shop.mysql_url, ["SET GLOBAL sync_binlog = 0"]).await?;
    let checked = everrelay(&stage, &["check", "--json"]).await;
    mysql::execute(&stage.shop.mysql_url, [format!("SET GLOBAL sync_binlog = {before}")]).await?;
    let (code, text) = checked?;
    ensure!(code == 0, "a warning is no failure: {text}");
    let findings = json_lines(&text)?;
    let finding = findings.iter().find(|finding| finding["what"] == "durability").context(text.clone())?;
    ensure!(finding["verdict"] == "warning", "{finding}");
    let said = finding.to_string();
    for part in ["sync_binlog = 0", "SET PERSIST sync_binlog = 1"] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    stage.clear().await
}

#[tokio::test]
async fn status_and_the_log_are_read_beside_a_relay_and_without_one() -> Result<()> {
    let mut stage = Stage::set("status_and_the_log_are_read_beside_a_relay_and_without_one", 500).await?;
    let (code, text) = everrelay(&stage, &["status"]).await?;
    ensure!(code == 5 && text.contains("no relay answers"), "{code}: {text}");
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let mut seen = Vec::new();
    for running in [true, false] {
        let (code, text) = everrelay(&stage, &["status", "--json"]).await?;
        ensure!(code == 0, "{text}");
        let status: Value = serde_json::from_str(&text)?;
        ensure!(status["running"] == running && status["ready"] == running, "{text}");
        let pipeline = &status["pipeline"];
        let sink = &pipeline["sinks"][0];
        ensure!(sink["name"] == "main" && sink["configured"] == true, "{text}");
        ensure!(sink["cursor"] == pipeline["visible"] && sink["cursor"].as_u64() > Some(0), "{text}");
        ensure!(sink["gtids"].as_str().is_some_and(|gtids| !gtids.is_empty()), "{text}");

        let (code, text) = everrelay(&stage, &["log", "ls", "--json"]).await?;
        ensure!(code == 0, "{text}");
        let segments = json_lines(&text)?;
        ensure!(segments.first().is_some_and(|segment| segment["first"] == 1), "{text}");
        // Who needs it is known from the relay, and from the folder that it left.
        ensure!(segments.last().is_some_and(|segment| segment["needed_by"][0] == "writing"), "{text}");

        let (code, text) = everrelay(&stage, &["log", "cat", "--json"]).await?;
        ensure!(code == 0, "{text}");
        let records = json_lines(&text)?;
        let dense = records.iter().zip(1..).all(|(record, seq)| record["seq"] == seq);
        ensure!(dense, "records are missing:\n{text}");
        let orders = records
            .iter()
            .filter(|record| record["kind"] == "insert" && record["row"]["placed_at"].is_string())
            .count();
        ensure!(orders as u64 == stage.scale.orders, "{orders} orders of {}", stage.scale.orders);
        seen.push(records.len());

        let middle = records.len() / 2;
        let from = middle.to_string();
        let (code, text) =
            everrelay(&stage, &["log", "cat", "--from", &from, "--limit", "3", "--json"]).await?;
        let some = json_lines(&text)?;
        ensure!(code == 0 && some.len() == 3 && some[0]["seq"] == middle, "{text}");

        let last =
            records.iter().rfind(|record| record["kind"] == "commit").context("nothing was committed")?;
        let gtid = last["gtids"].as_str().context("a commit has a GTID")?;
        let (code, text) = everrelay(&stage, &["log", "cat", "--from", gtid, "--to", gtid, "--json"]).await?;
        ensure!(code == 0 && json_lines(&text)?.last() == Some(last), "{text}");
        if running {
            stage.relay.signal(Signal::TERM)?;
            stage.relay_ends_with(0, SOON).await?;
        }
    }
    ensure!(seen[0] <= seen[1], "{seen:?}");
    stage.clear().await
}
