//! The whole way once, on real servers, for people to watch. `dev/demo` builds this, starts the servers and cleans up.

#[path = "demo_screen.rs"]
mod screen;
#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use screen::{Progress, Screen, grouped, lag, megabytes, padded, seconds};
use support::compare::{Comparison, compare};
use support::engine::Engine;
use support::mysql;
use support::pulse::Beat;
use support::relay::{Relay, RelayOptions};
use support::servers::{Database, Server, Servers};
use support::shop::{Scale, Shop};
use support::workload::{Pace, Workload};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

#[derive(Parser)]
struct Options {
    /// How long the shop trades.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Rows that the shop opens with, about.
    #[arg(long, default_value_t = 20_000)]
    rows: u64,
    /// Transactions per second.
    #[arg(long, default_value_t = 250)]
    rate: u32,
    /// What the trade is derived from.
    #[arg(long)]
    seed: Option<u64>,
    /// Leave servers and relay running.
    #[arg(long)]
    keep: bool,
    /// From MariaDB.
    #[arg(long)]
    mariadb: bool,
    /// The instance of `dev/servers`.
    #[arg(long, default_value = "demo")]
    instance: String,
    /// A folder for the relay, and for its pid.
    #[arg(long)]
    home: PathBuf,
    /// The relay's binary.
    #[arg(long)]
    relay: PathBuf,
}

impl Options {
    fn database(&self) -> Database {
        if self.mariadb { Database::Mariadb } else { Database::Mysql }
    }
}

/// How long the relay may take to catch up.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("signals cannot be waited for");
        return ExitCode::FAILURE;
    };
    let mut screen = Screen::new();
    // What is dropped here ends with it: the relay, the workload.
    let outcome = tokio::select! {
        outcome = demo(&options, &mut screen) => Some(outcome),
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    screen.clear();
    // Without waiting for a command of dev/servers that may be under way.
    match outcome {
        Some(Ok(comparison)) if comparison.differences() == 0 => std::process::exit(0),
        Some(Ok(_)) => std::process::exit(1),
        Some(Err(error)) => {
            eprintln!("\n{} {error:#}", screen.paint("31", "the demo failed:"));
            std::process::exit(1)
        }
        None => std::process::exit(130),
    }
}

/// What is traded with.
struct Demo<'a> {
    options: &'a Options,
    servers: Servers,
    engine: Engine,
    shop: Shop,
    scale: Scale,
    seed: u64,
    relay: Relay,
}

/// What was seen while trading.
struct Trade {
    elapsed: Duration,
    changes: u64,
    transactions: u64,
    kills: u64,
    engine_restarts: u64,
    engine_away: Duration,
    lags: Vec<Duration>,
}

async fn demo(options: &Options, screen: &mut Screen) -> Result<Comparison> {
    let mut demo = open(options, screen).await?;
    demo.carry_the_first_rows(screen).await?;
    let trade = demo.trade(screen).await?;

    let stopped = Instant::now();
    demo.catch_up(screen).await?;
    screen.step("caught up", "after the last commit", Some(stopped.elapsed()));

    screen.waiting("comparing every row with its document");
    let started = Instant::now();
    let comparison =
        compare(&demo.shop.mysql_url, &demo.engine, &demo.shop.schema, demo.shop.tables()).await?;
    screen.step("compared", "every row with its document", Some(started.elapsed()));
    demo.summarise(screen, &trade, &comparison);
    if options.keep && comparison.differences() == 0 {
        demo.relay.leave_running()?;
        demo.tell_how_to_look(screen);
    }
    Ok(comparison)
}

/// Servers without anything of an earlier demo, and a shop full of goods.
async fn open<'a>(options: &'a Options, screen: &mut Screen) -> Result<Demo<'a>> {
    let servers = Servers::up_with(options.database(), &options.instance).await?;
    let engine = Engine::new(&servers.engine_url)?;
    let version: String = mysql::one(&servers.mysql_url, "SELECT VERSION()").await?;
    let (_, engine_version) = engine.ask(reqwest::Method::GET, "/_cat/nodes?h=version", None).await?;
    // MariaDB's version says so itself.
    let name = if options.mariadb { "" } else { "MySQL " };
    let title = format!("{name}{version} → everrelay → Elasticsearch {}", engine_version.trim());
    screen.line(&format!("\n  {}\n", screen.paint("1", &title)));
    screen.step(
        "servers",
        &format!(
            "{} on {}:{}, Elasticsearch on {}",
            options.database().name(),
            servers.mysql_host,
            servers.mysql_port,
            engine.url
        ),
        None,
    );

    let shop = Shop::new(&servers.mysql_url, "shop");
    shop.drop().await?;
    engine.delete_indices(&shop.schema).await?;
    let reset = if options.mariadb { "RESET MASTER" } else { "RESET BINARY LOGS AND GTIDS" };
    mysql::execute(&shop.mysql_url, [reset]).await?;

    screen.waiting("filling the shop");
    let started = Instant::now();
    let scale = Scale::of_rows(options.rows);
    let seed = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    shop.create().await?;
    shop.seed(scale, seed).await?;
    screen.step(
        "shop",
        &format!("{} rows in {} tables", grouped(scale.rows() + 1), shop.tables().len()),
        Some(started.elapsed()),
    );

    let mut relay_options =
        RelayOptions::new(&options.relay, &servers.mysql_url, &servers.engine_url, &shop.schema);
    relay_options.segment_bytes = None;
    let relay = Relay::prepare(&options.home.join("relay"), relay_options)?;
    Ok(Demo { options, servers, engine, shop, scale, seed, relay })
}

impl Demo<'_> {
    fn start_relay(&mut self) -> Result<()> {
        self.relay.start()?;
        // For dev/demo, should this process be killed.
        fs::write(self.options.home.join("relay.pid"), self.relay.pid()?.to_string())?;
        Ok(())
    }

    async fn carry_the_first_rows(&mut self, screen: &mut Screen) -> Result<()> {
        let started = Instant::now();
        self.start_relay()?;
        self.catch_up(screen).await?;
        screen.step("relay", "carried them into Elasticsearch", Some(started.elapsed()));
        Ok(())
    }

    /// Waits until everything that is committed now is in the engine.
    async fn catch_up(&mut self, screen: &mut Screen) -> Result<()> {
        let beat = Beat::commit(&self.shop).await?;
        while !beat.has_arrived(&self.engine).await? {
            if let Ok(metrics) = self.relay.metrics().await {
                let behind = metrics.get("everrelay_sink_lag_records").unwrap_or(0.0);
                screen.waiting(&format!("the relay catches up, {} records behind", grouped(behind as u64)));
            }
            self.relay.ensure_alive()?;
            ensure!(
                beat.age() < PATIENCE,
                "nothing new in the engine for {PATIENCE:?}; the relay's last words:\n{}",
                self.relay.last_words()
            );
            sleep(Duration::from_millis(10)).await;
        }
        self.relay.until_settled(PATIENCE).await
    }

    /// Lets the workload run, and things happen to it: a kill, a restart of the engine, another kill.
    async fn trade(&mut self, screen: &mut Screen) -> Result<Trade> {
        let of = Duration::from_secs(self.options.seconds);
        let pace = Pace { connections: 3, rate: Some(self.options.rate) };
        let mut workload = Workload::start(&self.shop, self.scale, self.seed, pace);
        let lags = Lags::measure(self.shop.clone(), self.engine.clone());
        let mut incidents = Incidents::over(of);
        let started = Instant::now();
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A restart of the engine may outlast the time: it is waited for under load.
        while started.elapsed() < of || !incidents.are_over() {
            ticks.tick().await;
            workload.ensure_alive().await?;
            self.relay.ensure_alive()?;
            incidents.look(started.elapsed(), self, screen).await?;
            self.relay.peak_bytes();
            screen.progress(Progress {
                elapsed: started.elapsed(),
                of,
                changes: workload.totals.changes(),
                lag: lags.now(),
                memory_bytes: self.relay.resident_bytes(),
            });
        }
        let elapsed = started.elapsed();
        let totals = workload.stop().await?;
        let trade = Trade {
            elapsed,
            changes: totals.changes(),
            transactions: totals.transactions(),
            kills: incidents.kills,
            engine_restarts: u64::from(incidents.away.is_some()),
            engine_away: incidents.away.unwrap_or_default(),
            lags: lags.end().await?,
        };
        screen.step("trade", &format!("{} changes", grouped(trade.changes)), Some(elapsed));
        Ok(trade)
    }

    fn summarise(&mut self, screen: &mut Screen, trade: &Trade, comparison: &Comparison) {
        screen.line("");
        let header = format!(
            "  {:<12}{:>10}{:>12}{:>9}{:>8}{:>8}",
            "table", "rows", "documents", "missing", "stale", "extra"
        );
        screen.line(&screen.paint("2", &header));
        for table in &comparison.tables {
            screen.line(&format!(
                "  {:<12}{:>10}{:>12}{:>9}{:>8}{:>8}",
                table.table,
                grouped(table.rows),
                grouped(table.documents),
                grouped(table.missing),
                grouped(table.stale),
                grouped(table.extra)
            ));
        }
        screen.line(&format!(
            "  {:<12}{:>10}{:>12}",
            "together",
            grouped(comparison.rows()),
            grouped(comparison.documents())
        ));
        screen.line("");
        let rate = trade.changes as f64 / trade.elapsed.as_secs_f64();
        let mut lags = trade.lags.clone();
        lags.sort();
        let median = lags.get(lags.len() / 2).copied().unwrap_or_default();
        let longest = lags.last().copied().unwrap_or_default();
        let peak = self.relay.peak_bytes();
        let mut figure = |name: &str, text: String| {
            let line = format!("  {} {text}", screen.paint("1", &padded(name, 13)));
            screen.line(&line);
        };
        figure(
            "changes",
            format!(
                "{} in {} transactions, {} a second",
                grouped(trade.changes),
                grouped(trade.transactions),
                grouped(rate as u64)
            ),
        );
        figure(
            "lag",
            format!(
                "p50 {}, max {} (Elasticsearch was away for {}); from commit to document",
                lag(median),
                lag(longest),
                seconds(trade.engine_away)
            ),
        );
        figure("relay memory", format!("{} at its peak", megabytes(peak)));
        figure(
            "survived",
            format!(
                "{} × SIGKILL of the relay, {} × restart of Elasticsearch",
                trade.kills, trade.engine_restarts
            ),
        );
        let differences = comparison.differences();
        let colour = if differences == 0 { "1;32" } else { "1;31" };
        let count = screen.paint(colour, &grouped(differences));
        screen.line(&format!("  {} {count}", screen.paint("1", &padded("differences", 13))));
        for example in comparison.tables.iter().flat_map(|table| &table.examples) {
            screen.line(&format!("    {example}"));
        }
        if differences > 0 {
            screen.line(&format!("\n  The same trade again: dev/demo --seed {}", self.seed));
        }
        screen.line("");
    }

    fn tell_how_to_look(&self, screen: &mut Screen) {
        let (engine, admin) = (&self.engine.url, &self.relay.admin);
        screen.line(&screen.paint("1", "  All is left running. To look at it:"));
        for (what, command) in [
            (
                "the shop",
                format!(
                    "dev/servers {} --instance {} shop",
                    self.options.database().name(),
                    self.options.instance
                ),
            ),
            ("its indices", format!("curl -s '{engine}/_cat/indices/shop.*?v'")),
            ("documents", format!("curl -s '{engine}/shop.orders/_search?pretty&size=3&q=status:paid'")),
            ("readiness", format!("curl -s http://{admin}/readyz")),
            ("metrics", format!("curl -s http://{admin}/metrics | grep ^everrelay")),
            ("the relay's words", format!("tail -f {}", self.relay.log_file().display())),
            ("to end it all", "dev/demo --down".to_owned()),
        ] {
            screen.line(&format!("    {what:<18} {command}"));
        }
        screen.line("");
    }
}

/// What happens to relay and engine on the way.
struct Incidents {
    kills_due: Vec<Duration>,
    restart_due: Option<Duration>,
    restart: Option<(Instant, JoinHandle<Result<()>>)>,
    /// Since when the relay is awaited.
    unready: Option<Instant>,
    kills: u64,
    /// How long the engine was away.
    away: Option<Duration>,
}

impl Incidents {
    fn over(of: Duration) -> Incidents {
        Incidents {
            // The last one first.
            kills_due: vec![of.mul_f64(0.8), of.mul_f64(0.2)],
            restart_due: Some(of.mul_f64(0.35)),
            restart: None,
            unready: None,
            kills: 0,
            away: None,
        }
    }

    fn are_over(&self) -> bool {
        self.kills_due.is_empty()
            && self.restart_due.is_none()
            && self.restart.is_none()
            && self.unready.is_none()
    }

    async fn look(&mut self, now: Duration, demo: &mut Demo<'_>, screen: &mut Screen) -> Result<()> {
        if self.restart_due.take_if(|due| *due <= now).is_some() {
            screen.incident(now, "Elasticsearch is stopped");
            let servers = demo.servers.clone();
            let restart = tokio::spawn(async move { servers.restart(Server::Elasticsearch).await });
            self.restart = Some((Instant::now(), restart));
        }
        if let Some((since, restart)) = self.restart.take_if(|(_, restart)| restart.is_finished()) {
            restart.await??;
            let away = since.elapsed();
            screen.incident(now, &format!("Elasticsearch is back, after {}", seconds(away)));
            self.away = Some(away);
        }
        // A kill while the engine is away would say less about either.
        let quiet = self.restart.is_none() && self.unready.is_none();
        if quiet && self.kills_due.last().is_some_and(|due| *due <= now) {
            self.kills_due.pop();
            demo.relay.kill()?;
            demo.start_relay()?;
            self.kills += 1;
            self.unready = Some(Instant::now());
        }
        if let Some(since) = self.unready {
            let ready = demo.relay.get("/readyz").await.is_ok_and(|(status, _)| status == 200);
            if ready {
                let text =
                    format!("relay killed with SIGKILL, ready again after {}", seconds(since.elapsed()));
                screen.incident(now, &text);
                self.unready = None;
            }
            ensure!(
                since.elapsed() < PATIENCE,
                "the relay was not ready for {PATIENCE:?}; its last words:\n{}",
                demo.relay.last_words()
            );
        }
        Ok(())
    }
}

/// Measures again and again how long a change takes from its commit to the engine.
struct Lags {
    seen: Arc<Mutex<Seen>>,
    measuring: JoinHandle<Result<()>>,
}

#[derive(Default)]
struct Seen {
    lags: Vec<Duration>,
    /// The commit that is awaited.
    since: Option<Instant>,
    stop: bool,
}

impl Lags {
    fn measure(shop: Shop, engine: Engine) -> Lags {
        let seen = Arc::<Mutex<Seen>>::default();
        let shared = seen.clone();
        let measuring = tokio::spawn(async move {
            loop {
                let beat = Beat::commit(&shop).await?;
                shared.lock().expect("no one panics with the lock held").since = Some(Instant::now());
                while !beat.has_arrived(&engine).await? {
                    ensure!(beat.age() < PATIENCE, "a change did not arrive within {PATIENCE:?}");
                    sleep(Duration::from_millis(4)).await;
                }
                let age = beat.age();
                {
                    let mut seen = shared.lock().expect("no one panics with the lock held");
                    seen.lags.push(age);
                    seen.since = None;
                    if seen.stop {
                        return Ok(());
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        });
        Lags { seen, measuring }
    }

    /// The last change's, or the age of the one that is awaited where that is longer.
    fn now(&self) -> Option<Duration> {
        let seen = self.seen.lock().expect("no one panics with the lock held");
        let waiting = seen.since.map(|since| since.elapsed());
        waiting.max(seen.lags.last().copied())
    }

    async fn end(self) -> Result<Vec<Duration>> {
        self.seen.lock().expect("no one panics with the lock held").stop = true;
        self.measuring.await?.context("measuring the lag")?;
        let mut seen = self.seen.lock().expect("no one panics with the lock held");
        Ok(std::mem::take(&mut seen.lags))
    }
}
