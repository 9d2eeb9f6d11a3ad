//! Either server goes away under load, and the connection between is cut; everything catches up and agrees.
//!
//! `EVERRELAY_TEST_OUTAGE_SECONDS`: how long Elasticsearch is away (10), or nothing passes before it (20).

mod support;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use support::gateway::{Failing, Gateway, Weather};
use support::proxy::Proxy;
use support::seed::number_from_env;
use support::servers::Server;
use support::stage::Stage;
use support::valve::Valve;
use support::{ensure_says, eventually, mysql};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn while_elasticsearch_is_away_the_log_takes_everything() -> Result<()> {
    let away = Duration::from_secs(number_from_env("EVERRELAY_TEST_OUTAGE_SECONDS", 10)?);
    let mut stage = Stage::set("while_elasticsearch_is_away_the_log_takes_everything", 2000).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let mut workload = stage.workload(Some(200));

    stage.servers.stop(Server::Elasticsearch).await?;
    let (changes, visible) =
        (workload.totals.changes(), stage.relay.metric("everrelay_log_visible_seq").await?);
    tokio::time::sleep(away).await;
    workload.ensure_alive().await?;
    stage.relay.ensure_alive()?;
    let changes = workload.totals.changes() - changes;
    let logged = stage.relay.metric("everrelay_log_visible_seq").await? - visible;
    let lag = stage.relay.metric("everrelay_sink_lag_records").await?;
    eprintln!("away for {away:?}: {changes} changes made, {logged} records logged, the sink {lag} behind");
    ensure!(changes > 0 && logged > 0.5 * changes as f64, "the source did not go on into the log");
    ensure!(lag >= logged, "the sink is behind by {lag} only, of {logged} logged");

    stage.servers.start(Server::Elasticsearch).await?;
    workload.stop().await?;
    stage.agree(Duration::from_secs(120)).await?;
    stage.clear().await
}

#[tokio::test]
async fn fault_42_a_restart_and_a_crash_of_mysql_under_load_cost_nothing() -> Result<()> {
    let mut stage =
        Stage::set("fault_42_a_restart_and_a_crash_of_mysql_under_load_cost_nothing", 2000).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let mut workload = stage.workload(Some(300));
    goes_on(&stage, "before the restart").await?;
    stage.servers.restart(Server::Mysql).await?;
    goes_on(&stage, "after the restart").await?;
    stage.servers.kill(Server::Mysql).await?;
    stage.servers.start(Server::Mysql).await?;
    goes_on(&stage, "after the crash").await?;
    workload.ensure_alive().await?;
    workload.stop().await?;
    stage.agree(Duration::from_secs(60)).await?;
    stage.clear().await
}

/// Waits until the relay has logged some more.
async fn goes_on(stage: &Stage, when: &str) -> Result<()> {
    let visible = stage.relay.metric("everrelay_log_visible_seq").await?;
    eventually(&format!("500 more records {when}"), Duration::from_secs(60), async || {
        let now = stage.relay.metric("everrelay_log_visible_seq").await?;
        Ok((now > visible + 500.0).then_some(()))
    })
    .await
}

#[tokio::test]
async fn fault_42_a_stream_cut_in_mid_transaction_doubles_nothing() -> Result<()> {
    const TRANSACTIONS: u64 = 30;
    const ROWS: u64 = 3000;
    let mut stage = Stage::set("fault_42_a_stream_cut_in_mid_transaction_doubles_nothing", 0).await?;
    let mut rng = StdRng::seed_from_u64(stage.seed.number);
    // A transaction is about 90 KB on the wire: few of these cuts are not within one, and all of them together are less than all transactions.
    let cuts: Vec<u64> = (0..8).map(|_| rng.random_range(20_000..300_000)).collect();
    let server = format!("{}:{}", stage.servers.mysql_host, stage.servers.mysql_port);
    let proxy = Proxy::start("127.0.0.1:0", server, cuts.clone()).await?;
    stage.relay.options.source_url = format!("mysql://root@{}", proxy.address);
    stage.relay.write_config()?;
    stage.relay.start()?;

    let schema = &stage.shop.schema;
    let mut statements: Vec<String> = (0..TRANSACTIONS)
        .map(|transaction| {
            let rows: Vec<String> = (0..ROWS)
                .map(|row| format!("({},{row},'p1',1,1.50,'00:00:01.25')", transaction + 1))
                .collect();
            format!("INSERT INTO `{schema}`.order_items VALUES {}", rows.join(","))
        })
        .collect();
    statements.push(format!("UPDATE `{schema}`.order_items SET quantity = 2 WHERE line = 7"));
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    let comparison = stage.agree(Duration::from_secs(90)).await?;
    ensure!(comparison.rows() == TRANSACTIONS * ROWS + 1, "{comparison}");
    ensure!(proxy.cuts_made() == cuts.len() as u64, "{} of the cuts {cuts:?} were made", proxy.cuts_made());

    let metrics = stage.relay.metrics().await?;
    let done = metrics.sum("everrelay_sink_items_total", "disposition=\"done\"").unwrap_or(0.0);
    let superseded = metrics.sum("everrelay_sink_items_total", "disposition=\"superseded\"").unwrap_or(0.0);
    // Every item row once, the updated ones perhaps twice; the pulse's row was inserted once and has beaten once.
    let most = (TRANSACTIONS * ROWS + TRANSACTIONS + 2) as f64;
    ensure!(
        superseded == 0.0 && done <= most,
        "{done} documents written, {superseded} superseded; at most {most}"
    );
    stage.clear().await
}

#[tokio::test]
async fn fault_54_a_relay_killed_within_a_large_transaction_shows_none_of_it_and_reads_it_again() -> Result<()>
{
    const ROWS: u64 = 200_000;
    let test = "fault_54_a_relay_killed_within_a_large_transaction_shows_none_of_it_and_reads_it_again";
    let mut stage = Stage::set(test, 100).await?;
    let server = format!("{}:{}", stage.servers.mysql_host, stage.servers.mysql_port);
    let valve = Valve::before(server).await?;
    stage.relay.options.source_url = format!("mysql://root@{}", valve.address);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let schema = &stage.shop.schema;
    valve.shut_after(1_500_000);
    let copy = format!(
        "INSERT INTO `{schema}`.order_items WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {ROWS}) \
         SELECT 1000000 + n, 1, 'p1', 1, 1.50, '00:00:01.25' FROM numbers"
    );
    let statements = ["SET SESSION cte_max_recursion_depth = 1000000".to_owned(), copy];
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    // Some of it, and more than there was when it was killed before.
    for some in [1_000_000.0, 2_000_000.0] {
        let relay = &stage.relay;
        eventually("the log has some of the transaction", SOON, async || {
            // Just started, it may not answer yet.
            Ok((relay.metric("everrelay_log_bytes").await.unwrap_or(0.0) > some).then_some(()))
        })
        .await?;
        let items = stage.engine.count(&format!("{}.order_items", stage.shop.schema)).await?;
        ensure!(items == stage.scale.items, "{items} items, of {} before the transaction", stage.scale.items);
        stage.relay.kill()?;
        valve.open();
        valve.shut_after(3_000_000);
        stage.relay.start()?;
    }
    valve.open();
    let comparison = stage.agree(Duration::from_secs(120)).await?;
    ensure!(comparison.rows() > ROWS, "{comparison}");
    stage.clear().await
}

#[tokio::test]
async fn bulks_that_a_gateway_resets_cuts_and_garbles_leave_table_and_index_equal() -> Result<()> {
    let test = "bulks_that_a_gateway_resets_cuts_and_garbles_leave_table_and_index_equal";
    let mut stage = Stage::set(test, 500).await?;
    let mut rng = StdRng::seed_from_u64(stage.seed.number);
    let mut failing = vec![Failing::Answer, Failing::Page, Failing::Garbage];
    failing.extend((0..3).map(|_| Failing::Request(rng.random_range(1..600))));
    failing.extend((0..3).map(|_| Failing::Cut(rng.random_range(1..250))));
    failing.shuffle(&mut rng);
    eprintln!("{failing:?}");
    let all = failing.len();
    let engine = stage.relay.options.sink_url.clone();
    let engine = engine.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let gateway = Gateway::before(engine, failing).await?;
    stage.relay.options.sink_url = format!("http://{}", gateway.address);
    stage.relay.write_config()?;
    stage.relay.start()?;
    let workload = stage.workload(Some(200));
    eventually("every bulk that is to fail has failed", Duration::from_secs(120), async || {
        Ok((gateway.failed() == all).then_some(()))
    })
    .await
    .with_context(|| format!("{} of {all} failed", gateway.failed()))?;
    workload.stop().await?;
    stage.agree(Duration::from_secs(60)).await?;
    stage.clear().await
}

#[tokio::test]
async fn a_gateway_that_swallows_everything_for_a_while_loses_nothing() -> Result<()> {
    bad_weather("a_gateway_that_swallows_everything_for_a_while_loses_nothing", Weather::Hole).await
}

#[tokio::test]
async fn a_gateway_that_lets_a_byte_a_second_through_for_a_while_loses_nothing() -> Result<()> {
    bad_weather("a_gateway_that_lets_a_byte_a_second_through_for_a_while_loses_nothing", Weather::Trickle)
        .await
}

async fn bad_weather(test: &'static str, weather: Weather) -> Result<()> {
    // Longer than the lease of the fence.
    let bad = Duration::from_secs(number_from_env("EVERRELAY_TEST_OUTAGE_SECONDS", 20)?);
    let mut stage = Stage::set(test, 500).await?;
    let engine = stage.relay.options.sink_url.clone();
    let engine = engine.trim_start_matches("http://").trim_end_matches('/').to_owned();
    let gateway = Gateway::before(engine, []).await?;
    stage.relay.options.sink_url = format!("http://{}", gateway.address);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let mut workload = stage.workload(Some(200));
    let bulks = gateway.bulks();
    eventually("bulks are under way", SOON, async || Ok((gateway.bulks() > bulks + 5).then_some(()))).await?;
    gateway.becomes(weather);
    tokio::time::sleep(bad).await;
    let lag = stage.relay.metric("everrelay_sink_lag_records").await?;
    gateway.becomes(Weather::Fair);
    let fair = Instant::now();
    ensure!(lag > 500.0, "{lag} records behind: nothing was held up");
    workload.ensure_alive().await?;
    stage.relay.until_ready_is(200, Duration::from_secs(120)).await?;
    workload.stop().await?;
    stage.agree(Duration::from_secs(60)).await?;
    eprintln!("{lag} records behind after {bad:?} of {weather:?}; equal {:?} later", fair.elapsed());
    stage.clear().await
}

#[tokio::test]
async fn fault_40_an_index_restored_from_a_backup_ends_the_relay_and_is_filled_again_by_a_snapshot()
-> Result<()> {
    let test = "fault_40_an_index_restored_from_a_backup_ends_the_relay_and_is_filled_again_by_a_snapshot";
    let mut stage = Stage::set(test, 300).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let indices = stage.engine.indices(&format!("{schema}.orders-")).await?;
    let index = indices.first().context("an index of orders")?;
    let (backups, only) = (format!("/_snapshot/{schema}"), format!("{{\"indices\":\"{index}\"}}"));
    let place = format!("{{\"type\":\"fs\",\"settings\":{{\"location\":\"{schema}\"}}}}");
    stage.engine.demand(Method::PUT, &backups, Some(place)).await?;
    let backup = format!("{backups}/before");
    stage
        .engine
        .demand(Method::PUT, &format!("{backup}?wait_for_completion=true"), Some(only.clone()))
        .await?;
    let update = |amount: u32| format!("UPDATE `{schema}`.orders SET amount = {amount}");
    // Taken, and not in the backup.
    mysql::execute(&url, [update(7)]).await?;
    stage.relay.until_settled(SOON).await?;
    stage.engine.demand(Method::POST, &format!("/{index}/_close"), None).await?;
    mysql::execute(&url, [update(8)]).await?;
    stage.relay.until_ready_is(503, SOON).await?;
    stage
        .engine
        .demand(Method::POST, &format!("{backup}/_restore?wait_for_completion=true"), Some(only))
        .await?;
    let words = stage.relay_ends_with(4, SOON).await?;
    ensure_says(&words, &["lost documents", index, "snapshot --all"])?;
    // The next start sees it too.
    stage.relay.start()?;
    let words = stage.relay_ends_with(4, SOON).await?;
    ensure_says(&words, &["lost documents", index, "snapshot --all"])?;
    // What it says helps.
    std::fs::remove_dir_all(stage.relay.state_dir().join("main/settled"))?;
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    let (code, said, _) = stage.command(&["snapshot", "--all"]).await?;
    ensure!(code == 0, "{said}");
    stage.agree(SOON).await?;
    stage.engine.demand(Method::DELETE, &backup, None).await?;
    stage.engine.demand(Method::DELETE, &backups, None).await?;
    stage.clear().await
}
