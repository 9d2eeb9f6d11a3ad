//! `everrelay run` as an operator meets it: signals, health, and being told what is wrong.

mod support;

use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use support::proxy::Proxy;
use support::relay::Relay;
use support::servers::Server;
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(30);
/// The documented bound of a drain, and a little for ending.
const DRAIN: Duration = Duration::from_secs(17);

fn ensure_says(words: &str, all_of: &[&str]) -> Result<()> {
    for word in all_of {
        ensure!(words.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not said:\n{words}");
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_under_load_drains_and_exits_with_0() -> Result<()> {
    let mut stage = Stage::set("sigterm_under_load_drains_and_exits_with_0", 1000).await?;
    stage.relay.start()?;
    let workload = stage.workload(None);
    stage.relay.until_ready_is(200, SOON).await?;
    let relay = &stage.relay;
    eventually("two thousand records", SOON, async || {
        Ok((relay.metric("everrelay_log_visible_seq").await? > 2000.0).then_some(()))
    })
    .await?;
    stage.relay.signal(Signal::TERM)?;
    let asked = Instant::now();
    stage.relay_ends_with(0, DRAIN).await?;
    eprintln!("drained in {:?}", asked.elapsed());
    workload.stop().await?;
    stage.relay.start()?;
    stage.agree(Duration::from_secs(60)).await?;
    stage.clear().await
}

#[tokio::test]
async fn what_was_settled_before_a_drain_is_not_sent_again() -> Result<()> {
    let mut stage = Stage::set("what_was_settled_before_a_drain_is_not_sent_again", 1000).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.relay.signal(Signal::TERM)?;
    stage.relay_ends_with(0, DRAIN).await?;

    // With the log alone, lest anything new comes.
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    stage.relay.options.source_url = format!("mysql://root@{nobody}");
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.relay.until_settled(SOON).await?;
    let sent = stage.relay.metric("everrelay_sink_items_total").await?;
    ensure!(sent == 0.0, "{sent} documents were sent again");
    stage.clear().await
}

#[tokio::test]
async fn a_second_signal_ends_a_drain_at_once_with_130() -> Result<()> {
    let mut stage = Stage::set("a_second_signal_ends_a_drain_at_once_with_130", 500).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.servers.stop(Server::Elasticsearch).await?;
    let schema = &stage.shop.schema;
    let update = format!("UPDATE `{schema}`.orders SET note = 'nowhere to go'");
    mysql::execute(&stage.shop.mysql_url, [update]).await?;
    let relay = &stage.relay;
    eventually("changes that cannot be delivered", SOON, async || {
        Ok((relay.metric("everrelay_sink_lag_records").await? > 0.0).then_some(()))
    })
    .await?;
    stage.relay.signal(Signal::TERM)?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.relay.ensure_alive().context("a drain with nowhere to go was to wait")?;
    stage.relay.signal(Signal::INT)?;
    stage.relay_ends_with(130, Duration::from_secs(1)).await?;
    stage.servers.start(Server::Elasticsearch).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn readiness_goes_and_comes_with_the_engine_and_health_stays() -> Result<()> {
    let mut stage = Stage::set("readiness_goes_and_comes_with_the_engine_and_health_stays", 500).await?;
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    let workload = stage.workload(Some(50));
    stage.servers.stop(Server::Elasticsearch).await?;
    let reasons = stage.relay.until_ready_is(503, SOON).await?;
    eprintln!("not ready: {reasons}");
    ensure!(!reasons.trim().is_empty(), "/readyz gives no reason");
    let (health, _) = stage.relay.get("/healthz").await?;
    ensure!(health == 200, "/healthz was answered {health}");
    stage.servers.start(Server::Elasticsearch).await?;
    stage.relay.until_ready_is(200, Duration::from_secs(60)).await?;
    workload.stop().await?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn fault_64_a_second_process_on_the_same_folder_names_the_lock_and_exits_with_5() -> Result<()> {
    let mut stage =
        Stage::set("a_second_process_on_the_same_folder_names_the_lock_and_exits_with_5", 0).await?;
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    let folder = stage.relay.dir.join("second");
    let mut second = Relay::prepare(&folder, stage.relay.options.clone())?;
    let config = fs::read_to_string(second.config_file())?;
    let (own, shared) = (second.state_dir(), stage.relay.state_dir());
    let config = config.replace(own.to_str().context("UTF-8")?, shared.to_str().context("UTF-8")?);
    fs::write(second.config_file(), config)?;
    second.start()?;
    let status = second.exit(SOON).await?;
    ensure!(status.code() == Some(5), "{status}: {}", second.words());
    ensure_says(&second.words(), &["lock", shared.to_str().context("UTF-8")?])?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn an_unreachable_mysql_is_tried_until_it_is_there() -> Result<()> {
    let mut stage = Stage::set("an_unreachable_mysql_is_tried_until_it_is_there", 500).await?;
    let nobody = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    stage.relay.options.source_url = format!("mysql://root@{nobody}");
    stage.relay.write_config()?;
    stage.relay.start()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reasons = stage.relay.until_ready_is(503, SOON).await?;
    eprintln!("not ready: {reasons}");
    ensure!(!reasons.trim().is_empty(), "/readyz gives no reason");
    ensure!(stage.relay.get("/healthz").await?.0 == 200);
    let server = format!("{}:{}", stage.servers.mysql_host, stage.servers.mysql_port);
    let _proxy = Proxy::start(&nobody.to_string(), server, []).await?;
    stage.agree(Duration::from_secs(60)).await?;
    stage.clear().await
}
