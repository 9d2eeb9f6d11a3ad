//! `latency.*`: one-row transactions at a steady rate, from sending COMMIT to the end of the engine's answer.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use everrelay::admin::Status;
use mysql_async::prelude::Queryable;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::backlog::{orders, row};
use crate::measure::{line, load};
use crate::prepared::remove;
use crate::process::cpu;
use crate::support::eventually;
use crate::support::mysql::{connect, execute};
use crate::support::relay::{Relay, RelayOptions, relay_binary};
use crate::support::servers::Servers;
use crate::tap::{Bulk, Tap};
use crate::{Scale, note};

const SCHEMA: &str = "bench_latency";
const ROWS: u64 = 10_000;
/// Between two transactions.
const EVERY: Duration = Duration::from_millis(10);
/// The first seconds do not count.
const WARM_UP: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(60);
/// Between looks at whether a snapshot is over.
const LOOK: Duration = Duration::from_millis(250);

/// # Errors
/// A server or the relay fails.
pub async fn run(servers: &Servers, dir: &Path, scale: Scale) -> Result<()> {
    let waits = measure(servers, dir, scale, None).await?;
    line("latency.p50_ms", waits.percentile(0.5), "ms");
    line("latency.p99_ms", waits.percentile(0.99), "ms");
    Ok(())
}

/// The same while all tables of the schema `snapshot` are read, again and again.
///
/// # Errors
/// A server or the relay fails.
pub async fn beside_snapshot(servers: &Servers, dir: &Path, snapshot: &str, scale: Scale) -> Result<Waits> {
    let waits = measure(servers, dir, scale, Some(snapshot)).await?;
    remove(&servers.engine_url, &format!("{snapshot}.orders-000001")).await?;
    Ok(waits)
}

/// From sending COMMIT to the end of the answer, milliseconds, ascending.
pub struct Waits(Vec<f64>);

impl Waits {
    /// The value below which a share of all are.
    pub fn percentile(&self, share: f64) -> f64 {
        self.0[((self.0.len() - 1) as f64 * share).round() as usize]
    }
}

async fn measure(servers: &Servers, dir: &Path, scale: Scale, snapshot: Option<&str>) -> Result<Waits> {
    prepare(servers).await?;
    let engine = servers.engine_url.trim_start_matches("http://").to_owned();
    let tap = Tap::start(engine).await?;
    let mut options = RelayOptions::new(relay_binary(), &servers.mysql_url, &tap.url, SCHEMA);
    options.segment_bytes = None;
    options.start = "now".to_owned();
    options.tables.extend(snapshot.map(|schema| format!("{schema}.*")));
    let mut relay = Relay::prepare(&dir.join("relay"), options)?;
    relay.start()?;
    relay.until_ready_is(200, PATIENCE).await?;

    let seen = Arc::new(Mutex::new(Seen::default()));
    tokio::spawn(see(tap.bulks, Arc::clone(&seen)));
    let begun = Instant::now();
    let cpu_before = cpu(relay.pid()?)?;
    let traded = trade(&servers.mysql_url, begun, Duration::from_secs(scale.latency_seconds));
    let mut snapshots = 0;
    let commits = tokio::select! {
        commits = traded => commits?,
        failed = read_again(&relay, snapshot, &mut snapshots) => match failed? {},
    };
    let used = cpu(relay.pid()?)? - cpu_before;
    let took = begun.elapsed().as_secs_f64();
    eventually("every change was answered", PATIENCE, async || {
        Ok((lock(&seen).answered.len() >= commits.len()).then_some(()))
    })
    .await
    .with_context(|| format!("of {} changes; {}", commits.len(), relay.last_words()))?;
    relay.kill()?;
    let seen = std::mem::take(&mut *lock(&seen));
    let mut waits = Vec::new();
    let mut longest = vec![0_u64; usize::try_from(scale.latency_seconds).unwrap_or(0) + 1];
    for (number, sent) in commits.iter().enumerate().filter(|(_, sent)| **sent > begun + WARM_UP) {
        let answered = seen.answered.get(&(number as u64));
        let answered = answered.with_context(|| format!("change {number} was never answered"))?;
        let wait = answered.duration_since(*sent);
        waits.push(wait.as_secs_f64() * 1e3);
        if let Some(longest) = longest.get_mut(sent.duration_since(begun).as_secs() as usize) {
            *longest = (wait.as_millis() as u64).max(*longest);
        }
    }
    note!("longest wait by the second of its COMMIT, ms: {longest:?}");
    ensure!(!waits.is_empty(), "nothing was measured");
    waits.sort_by(f64::total_cmp);
    let waits = Waits(waits);
    note!(
        "{} transactions in {took:.1} s beside {snapshots} snapshots, {} bulks, relay {used:.2} s CPU; p50 {:.1}, p90 {:.1}, p99.9 {:.1}, \
         most {:.1} ms; load {}",
        commits.len(),
        seen.bulks,
        waits.percentile(0.5),
        waits.percentile(0.9),
        waits.percentile(0.999),
        waits.percentile(1.0),
        load()
    );
    remove(&servers.engine_url, &format!("{SCHEMA}.orders-000001")).await?;
    std::fs::remove_dir_all(dir.join("relay"))?;
    Ok(waits)
}

/// Has the table of `schema` read whenever its last snapshot is over, if one is given; counts them. It ends only where that fails.
async fn read_again(relay: &Relay, schema: Option<&str>, count: &mut u32) -> Result<Infallible> {
    let Some(schema) = schema else { return std::future::pending().await };
    loop {
        let (status, text) = relay.get("/status").await?;
        ensure!(status == 200, "/status was answered {status}: {text}");
        let status: Status = serde_json::from_str(&text)?;
        if status.pipeline.snapshots.is_empty() {
            let mut command = tokio::process::Command::new(relay_binary());
            command.args(["snapshot", &format!("{schema}.orders"), "--config"]).arg(relay.config_file());
            let output = command.output().await?;
            ensure!(output.status.success(), "a snapshot: {}", String::from_utf8_lossy(&output.stderr));
            *count += 1;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// When changes were answered, by number, and with how many bulks.
#[derive(Default)]
struct Seen {
    answered: HashMap<u64, Instant>,
    bulks: u64,
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics while holding it")
}

async fn see(mut bulks: UnboundedReceiver<Bulk>, seen: Arc<Mutex<Seen>>) {
    while let Some(Bulk { body, answered }) = bulks.recv().await {
        let numbers = numbers(&String::from_utf8_lossy(&body));
        let mut seen = lock(&seen);
        seen.bulks += 1;
        for number in numbers {
            seen.answered.entry(number).or_insert(answered);
        }
    }
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
fn numbers(body: &str) -> Vec<u64> {
    const FIELD: &str = "\"customer_id\":";
    let marks = body.match_indices(FIELD).filter_map(|(at, _)| {
        let value = &body[at + FIELD.len()..];
        let end = value.find(|character: char| !character.is_ascii_digit())?;
        value[..end].parse::<u64>().ok()?.checked_sub(FIRST_MARK)
    });
    marks.collect()
}
