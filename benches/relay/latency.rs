//! `latency.*`: one-row transactions at a steady rate, from sending COMMIT to the end of the engine's answer.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::timeout;

use crate::backlog::{orders, row};
use crate::measure::{line, load};
use crate::prepared::remove;
use crate::process::cpu;
use crate::support::mysql::{connect, execute};
use crate::support::relay::{Relay, RelayOptions, relay_binary};
use crate::support::servers::Servers;
use crate::tap::Tap;
use crate::{Scale, note};

const SCHEMA: &str = "bench_latency";
const ROWS: u64 = 10_000;
/// Between two transactions.
const EVERY: Duration = Duration::from_millis(10);
/// The first seconds do not count.
const WARM_UP: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);

/// # Errors
/// A server or the relay fails.
pub async fn run(servers: &Servers, dir: &Path, scale: Scale) -> Result<()> {
    prepare(servers).await?;
    let engine = servers.engine_url.trim_start_matches("http://").to_owned();
    let mut tap = Tap::start(engine).await?;
    let mut options = RelayOptions::new(relay_binary(), &servers.mysql_url, &tap.url, SCHEMA);
    options.segment_bytes = None;
    options.start = "now".to_owned();
    let mut relay = Relay::prepare(&dir.join("relay"), options)?;
    relay.start()?;
    relay.until_ready_is(200, PATIENCE).await?;

    let begun = Instant::now();
    let cpu_before = cpu(relay.pid()?)?;
    let commits = trade(&servers.mysql_url, begun, Duration::from_secs(scale.latency_seconds)).await?;
    let used = cpu(relay.pid()?)? - cpu_before;
    let (mut seen, mut bulks) = (HashMap::new(), 0_u64);
    while seen.len() < commits.len() {
        let bulk = timeout(PATIENCE, tap.bulks.recv()).await.with_context(|| {
            format!("{} of {} changes were answered; {}", seen.len(), commits.len(), relay.last_words())
        })?;
        let bulk = bulk.context("the tap goes on as long as its end is held")?;
        bulks += 1;
        for number in numbers(&bulk.body)? {
            seen.entry(number).or_insert(bulk.answered);
        }
    }
    relay.kill()?;
    let mut waits = Vec::new();
    for (number, sent) in commits.iter().enumerate().filter(|(_, sent)| **sent > begun + WARM_UP) {
        let answered =
            seen.get(&(number as u64)).with_context(|| format!("change {number} was never answered"))?;
        waits.push(answered.duration_since(*sent).as_secs_f64() * 1e3);
    }
    ensure!(!waits.is_empty(), "nothing was measured");
    waits.sort_by(f64::total_cmp);
    let took = begun.elapsed().as_secs_f64();
    note!(
        "{} transactions in {took:.1} s, {bulks} bulks, relay {used:.2} s CPU; p90 {:.1}, p99.9 {:.1}, most {:.1} ms; load {}",
        commits.len(),
        percentile(&waits, 0.9),
        percentile(&waits, 0.999),
        percentile(&waits, 1.0),
        load()
    );
    line("latency.p50_ms", percentile(&waits, 0.5), "ms");
    line("latency.p99_ms", percentile(&waits, 0.99), "ms");
    remove(&servers.engine_url, &format!("{SCHEMA}.orders-000001")).await
}

async fn prepare(servers: &Servers) -> Result<()> {
    remove(&servers.engine_url, &format!("{SCHEMA}.orders-000001")).await?;
    let mut random = StdRng::seed_from_u64(3);
    let rows: Vec<String> = (0..ROWS).map(|id| row(id + 1, &mut random)).collect();
    let statements = [
        format!("DROP DATABASE IF EXISTS {SCHEMA}"),
        format!("CREATE DATABASE {SCHEMA}"),
        orders(SCHEMA),
        format!("INSERT INTO {SCHEMA}.orders VALUES {}", rows.join(",")),
        "SET GLOBAL sync_binlog = 1".to_owned(),
        "SET GLOBAL innodb_flush_log_at_trx_commit = 1".to_owned(),
    ];
    execute(&servers.mysql_url, statements).await
}

/// One-row transactions on one connection, each due at its own time however long the last one took; when each COMMIT was sent.
async fn trade(url: &str, begun: Instant, lasting: Duration) -> Result<Vec<Instant>> {
    let mut conn = connect(url).await?;
    let mut commits = Vec::new();
    for number in 0..(lasting.as_millis() / EVERY.as_millis()) as u64 {
        tokio::time::sleep_until((begun + EVERY * number as u32).into()).await;
        conn.query_drop("BEGIN").await?;
        let update = format!(
            "UPDATE {SCHEMA}.orders SET customer_id = {} WHERE id = {}",
            mark(number),
            number % ROWS + 1
        );
        conn.query_drop(update).await?;
        commits.push(Instant::now());
        conn.query_drop("COMMIT").await?;
    }
    conn.disconnect().await?;
    Ok(commits)
}

/// What a change is known by in its document.
const FIRST_MARK: u64 = 1_000_000;

fn mark(number: u64) -> u64 {
    FIRST_MARK + number
}

/// The changes in a bulk's body.
fn numbers(body: &[u8]) -> Result<Vec<u64>> {
    #[derive(serde::Deserialize)]
    struct Document {
        customer_id: Option<u64>,
    }
    let mut found = Vec::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let document: Document = serde_json::from_slice(line)?;
        found.extend(document.customer_id.and_then(|mark| mark.checked_sub(FIRST_MARK)));
    }
    Ok(found)
}

/// The value below which a share of all are.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share).round() as usize]
}
