//! Two sinks on one log: each with its cursor, one away without holding the other, stopped, new, forgotten.
//!
//! Both are of one engine, as an operator's two would not be: their indices differ by a section for tables, and one is reached through a valve.
//! `EVERRELAY_TEST_SECOND_URL`: the second sink's engine, another one.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use rustix::process::Signal;
use serde_json::Value;
use support::engine::Engine;
use support::pulse::Beat;
use support::stage::Stage;
use support::valve::Valve;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(60);

fn second_url(stage: &Stage) -> String {
    std::env::var("EVERRELAY_TEST_SECOND_URL").unwrap_or_else(|_| stage.servers.engine_url.clone())
}

/// The sinks `main` and `second`; whatever `second` indexes stands behind aliases of its own.
fn both(stage: &mut Stage, second_url: &str) -> Result<()> {
    let options = &mut stage.relay.options;
    options.sinks = Some(format!(
        "[sink.main]\nurl = {:?}\n\n[sink.second]\nurl = {second_url:?}\n\n\
         [[table]]\nmatch = {:?}\nsink = \"second\"\nindex = \"second-{{schema}}.{{table}}\"\n",
        options.sink_url,
        format!("{}.*", stage.shop.schema)
    ));
    stage.relay.write_config()
}

fn only_main(stage: &mut Stage) -> Result<()> {
    stage.relay.options.sinks = None;
    stage.relay.write_config()
}

async fn documents(engine: &Engine, alias: &str) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    engine
        .scan(&alias.to_lowercase(), |hit| {
            found.insert(hit.id, hit.source.get().to_owned());
            Ok(())
        })
        .await?;
    Ok(found)
}

/// Main's indices are what the tables are, and second's what main's are.
async fn both_agree(stage: &mut Stage) -> Result<()> {
    stage.agree(SOON).await?;
    let schema = stage.shop.schema.clone();
    for table in stage.tables.clone() {
        if second_url(stage) != stage.servers.engine_url {
            let diff = ["diff", &format!("{schema}.{table}"), "--sink", "second"];
            let (code, text, error) = stage.command(&diff).await?;
            ensure!(code == 0, "{code} {text} {error}");
            continue;
        }
        let main = documents(&stage.engine, &format!("{schema}.{table}")).await?;
        let second = documents(&stage.engine, &format!("second-{schema}.{table}")).await?;
        ensure!(main == second, "{table}: {} documents, and {} in second", main.len(), second.len());
    }
    Ok(())
}

async fn sink(stage: &Stage, name: &str) -> Result<Value> {
    let status: Value = serde_json::from_str(&stage.relay.get("/status").await?.1)?;
    let sinks = status["pipeline"]["sinks"].as_array().context("sinks in /status")?;
    Ok(sinks.iter().find(|sink| sink["name"] == name).cloned().unwrap_or_default())
}

/// A change arrives in main's index.
async fn main_goes_on(stage: &mut Stage) -> Result<()> {
    let beat = Beat::commit(&stage.shop).await?;
    stage.relay.ensure_alive()?;
    let engine = &stage.engine;
    eventually("a change is in main's index", SOON, async || {
        Ok(beat.has_arrived(engine).await?.then_some(()))
    })
    .await
    .with_context(|| stage.relay.last_words())
}

async fn clear(stage: Stage) -> Result<()> {
    let (engine, schema) = (stage.engine.clone(), stage.shop.schema.clone());
    stage.clear().await?;
    engine.delete_indices(&format!("second-{schema}").to_lowercase()).await?;
    let second = std::env::var("EVERRELAY_TEST_SECOND_URL");
    let second = second.map_or(Ok(engine), |url| Engine::new(&url))?;
    second.delete_indices(&format!("second-{schema}").to_lowercase()).await
}

fn server_of(url: &str) -> String {
    url.trim_start_matches("http://").trim_end_matches('/').to_owned()
}

#[tokio::test]
async fn a_sink_that_is_cut_off_holds_no_other_and_catches_up_after_kills() -> Result<()> {
    let mut stage =
        Stage::set("a_sink_that_is_cut_off_holds_no_other_and_catches_up_after_kills", 2000).await?;
    let valve = Valve::before(server_of(&second_url(&stage))).await?;
    both(&mut stage, &format!("http://{}", valve.address))?;
    stage.relay.start()?;
    both_agree(&mut stage).await?;

    let mut workload = stage.workload(Some(200));
    valve.shut();
    let stood = sink(&stage, "second").await?["cursor"].as_u64();
    tokio::time::sleep(Duration::from_secs(3)).await;
    main_goes_on(&mut stage).await?;
    stage.relay.kill()?;
    // A start whose engine does not answer does not keep the other from its work.
    stage.relay.start()?;
    eventually("the relay answers", SOON, async || Ok(stage.relay.get("/status").await.ok().map(|_| ())))
        .await?;
    main_goes_on(&mut stage).await?;
    workload.ensure_alive().await?;
    workload.stop().await?;
    main_goes_on(&mut stage).await?;
    let (main, second) = (sink(&stage, "main").await?, sink(&stage, "second").await?);
    ensure!(main["cursor"].as_u64() > second["cursor"].as_u64(), "{main} {second}");
    ensure!(second["cursor"].as_u64() <= stood.map(|stood| stood + 5_000), "{second}, stood at {stood:?}");
    let lag = stage.relay.metrics().await?;
    ensure!(lag.sum("everrelay_sink_lag_records", "sink=\"second\"") > Some(100.0), "{lag}");

    valve.open();
    stage.relay.kill()?;
    stage.relay.start()?;
    both_agree(&mut stage).await?;
    let (code, text, error) = stage.command(&["parked", "ls"]).await?;
    ensure!(code == 2 && error.contains("--sink, of main, second"), "{code} {text} {error}");
    let (code, text, error) = stage.command(&["parked", "ls", "--sink", "second"]).await?;
    ensure!(code == 0 && text.contains("nothing is parked"), "{code} {text} {error}");
    let table = format!("{}.orders", stage.shop.schema);
    for name in ["main", "second"] {
        let (code, text, error) = stage.command(&["diff", &table, "--sink", name]).await?;
        ensure!(code == 0, "{name}: {code} {text} {error}");
    }
    let (code, text, error) = stage.command(&["check"]).await?;
    ensure!(
        code == 0 && text.contains("sink main: ") && text.contains("sink second: "),
        "{code} {text} {error}"
    );
    clear(stage).await
}

#[tokio::test]
async fn a_sink_whose_index_is_deleted_is_stopped_and_the_other_goes_on() -> Result<()> {
    let mut stage = Stage::set("a_sink_whose_index_is_deleted_is_stopped_and_the_other_goes_on", 500).await?;
    let url = second_url(&stage);
    both(&mut stage, &url)?;
    stage.relay.start()?;
    both_agree(&mut stage).await?;

    let schema = stage.shop.schema.clone();
    let index = format!("/second-{schema}.orders-000001").to_lowercase();
    Engine::new(&url)?.demand(Method::DELETE, &index, None).await?;
    let raise = format!("UPDATE `{schema}`.orders SET status = 'returned'");
    mysql::execute(&stage.shop.mysql_url, [raise]).await?;
    let ready = stage.relay.until_ready_is(503, SOON).await?;
    ensure!(ready.contains("sink second: stopped for good"), "{ready}");
    let metrics = stage.relay.metrics().await?;
    ensure!(metrics.sum("everrelay_sink_stopped", "sink=\"second\"") == Some(1.0), "{metrics}");
    ensure!(metrics.sum("everrelay_sink_stopped", "sink=\"main\"") == Some(0.0), "{metrics}");
    let stopped = sink(&stage, "second").await?;
    ensure!(stopped["stopped"].is_string(), "{stopped}");
    main_goes_on(&mut stage).await?;
    let (code, text, _) = stage.command(&["status"]).await?;
    ensure!(code == 0 && text.contains("stopped   sink second: "), "{text}");
    let (code, text, _) = stage.command(&["log", "ls"]).await?;
    ensure!(code == 0 && text.contains("sink second"), "{text}");
    // It is not forgotten at the end.
    stage.relay.signal(Signal::TERM)?;
    stage.relay_ends_with(4, SOON).await?;
    clear(stage).await
}

#[tokio::test]
async fn a_sink_that_is_new_gets_every_row_and_one_that_is_gone_is_forgotten_when_told_so() -> Result<()> {
    let mut stage =
        Stage::set("a_sink_that_is_new_gets_every_row_and_one_that_is_gone_is_forgotten_when_told_so", 1000)
            .await?;
    stage.relay.options.start = "snapshot".to_owned();
    // What is settled is not kept: the log has no row of the beginning any more.
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.options.segment_bytes = Some(64 << 10);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.relay.kill()?;

    let url = second_url(&stage);
    both(&mut stage, &url)?;
    let workload = stage.workload(Some(100));
    stage.relay.start()?;
    // Killed at some moment of its beginning.
    tokio::time::sleep(Duration::from_millis(u64::from(stage.seed.number as u16) % 3000)).await;
    stage.relay.kill()?;
    stage.relay.start()?;
    eventually("the tables are read for the new sink", SOON, async || {
        let Ok((200, text)) = stage.relay.get("/status").await else { return Ok(None) };
        let status: Value = serde_json::from_str(&text)?;
        let none = status["pipeline"]["snapshots"].as_array().is_some_and(Vec::is_empty);
        let joined = sink(&stage, "second").await?["cursor"].as_u64() > Some(0);
        Ok((none && joined).then_some(()))
    })
    .await?;
    workload.stop().await?;
    both_agree(&mut stage).await?;

    stage.relay.kill()?;
    only_main(&mut stage)?;
    stage.relay.start()?;
    main_goes_on(&mut stage).await?;
    ensure!(stage.relay.words().contains("everrelay log forget-sink second"), "{}", stage.relay.last_words());
    ensure!(sink(&stage, "second").await?["configured"] == false);
    let forget = ["log", "forget-sink", "second", "--yes"];
    let (code, _, error) = stage.command(&forget).await?;
    ensure!(code == 5 && error.contains("locked"), "of a relay that runs: {code} {error}");
    stage.relay.kill()?;
    let (code, text, _) = stage.command(&["log", "ls"]).await?;
    ensure!(code == 0 && text.contains("sink second (not in the configuration)"), "{code} {text}");
    let (code, _, error) = stage.command(&["log", "forget-sink", "main", "--yes"]).await?;
    ensure!(code == 2 && error.contains("take it out there first"), "{code} {error}");
    let (code, text, error) = stage.command(&forget).await?;
    ensure!(code == 0 && text.contains("the sink second has settled"), "{code} {text} {error}");
    let (code, text, _) = stage.command(&["log", "ls"]).await?;
    ensure!(code == 0 && !text.contains("second"), "{code} {text}");
    let (code, _, error) = stage.command(&forget).await?;
    ensure!(code == 2 && error.contains("there is none"), "{code} {error}");
    clear(stage).await
}
