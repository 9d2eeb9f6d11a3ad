//! `end_to_end.*`: the backlog from MySQL into Elasticsearch, by the relay as it is shipped.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use everrelay::admin::Status;
use everrelay::event::GtidSet;

use crate::backlog::{Stretch, backlog};
use crate::ingest::task;
use crate::measure::{MB, line, load, median};
use crate::prepared::Bodies;
use crate::process::cpu;
use crate::support::relay::{Relay, RelayOptions, relay_binary};
use crate::support::servers::Servers;
use crate::{Scale, note};

/// How long the backlog may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between looks at the cursor: each costs the relay a little.
const LOOK: Duration = Duration::from_millis(50);
/// What the engine still does of a former index is not this one's.
const CALM: Duration = Duration::from_secs(3);

/// # Errors
/// A server or the relay fails.
pub async fn run(servers: &Servers, dir: &Path, scale: Scale) -> Result<()> {
    let stretch = backlog(&servers.mysql_url, scale.turns).await?;
    let log = dir.join("log");
    task(servers, &stretch, Some(&log)).run().await?;
    let bodies = Bodies::of_log(&log, &servers.engine_url).await?;
    std::fs::remove_dir_all(&log)?;
    ensure!(
        bodies.actions == stretch.changes,
        "the log has {} changes of {}",
        bodies.actions,
        stretch.changes
    );

    let (mut shares, mut cpu_shares, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for round in 0..=scale.rounds {
        tokio::time::sleep(CALM).await;
        let engine = cpu(servers.engine_pid)?;
        let limit = bodies.send(&servers.engine_url).await?;
        let engine = cpu(servers.engine_pid)? - engine;
        bodies.clear(&servers.engine_url).await?;
        tokio::time::sleep(CALM).await;
        let taken = relay(servers, &dir.join(format!("relay-{round}")), &stretch).await?;
        bodies.clear(&servers.engine_url).await?;
        let cpu_share = taken.relay_cpu / (taken.relay_cpu + taken.engine_cpu + taken.mysql_cpu);
        note!(
            "round {round}: prepared {limit:.2} s wall, {engine:.2} s engine CPU; relay {:.2} s wall, {:.2} s CPU, {:.1} MB peak \
             (engine {:.2} s, MySQL {:.2} s CPU): share {:.3}, CPU share {cpu_share:.3}; load {}",
            taken.wall,
            taken.relay_cpu,
            taken.peak / MB,
            taken.engine_cpu,
            taken.mysql_cpu,
            limit / taken.wall,
            load()
        );
        peak = peak.max(taken.peak);
        if round > 0 {
            shares.push(limit / taken.wall);
            cpu_shares.push(cpu_share);
        }
    }
    let (share, spread) = median(&shares);
    let (cpu_share, cpu_spread) = median(&cpu_shares);
    note!("spread: share {:.0} %, CPU share {:.0} %", spread * 100.0, cpu_spread * 100.0);
    line("end_to_end.share_of_engine", share, "ratio");
    line("end_to_end.relay_cpu_share", cpu_share, "ratio");
    line("end_to_end.peak_rss_mb", peak / MB, "MB");
    Ok(())
}

struct Taken {
    wall: f64,
    relay_cpu: f64,
    engine_cpu: f64,
    mysql_cpu: f64,
    peak: f64,
}

/// From the start of the process to the cursor at the end of the stretch.
async fn relay(servers: &Servers, dir: &Path, stretch: &Stretch) -> Result<Taken> {
    let mut options =
        RelayOptions::new(relay_binary(), &servers.mysql_url, &servers.engine_url, stretch.schema);
    options.segment_bytes = None;
    options.start.clone_from(&stretch.after);
    let mut relay = Relay::prepare(dir, options)?;
    let (engine, mysql) = (cpu(servers.engine_pid)?, cpu(servers.mysql_pid)?);
    let until: GtidSet = stretch.until.parse()?;
    let begun = Instant::now();
    relay.start()?;
    loop {
        tokio::time::sleep(LOOK).await;
        relay.ensure_alive()?;
        if let Ok((200, body)) = relay.get("/status").await {
            let status: Status = serde_json::from_str(&body)?;
            if status.pipeline.gtids.parse::<GtidSet>()? == until {
                break;
            }
        }
        if begun.elapsed() > PATIENCE {
            bail!("the relay did not come to the end; its last words:\n{}", relay.last_words());
        }
    }
    let taken = Taken {
        wall: begun.elapsed().as_secs_f64(),
        relay_cpu: cpu(relay.pid()?)?,
        engine_cpu: cpu(servers.engine_pid)? - engine,
        mysql_cpu: cpu(servers.mysql_pid)? - mysql,
        peak: relay.peak_bytes() as f64,
    };
    relay.kill()?;
    std::fs::remove_dir_all(dir)?;
    Ok(taken)
}
