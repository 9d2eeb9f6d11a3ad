//! The relay as it is shipped, from the start of its process to a moment that its status tells; against the same actions as ready-made bodies.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use everrelay::admin::Status;

use crate::measure::{MB, load, median};
use crate::note;
use crate::prepared::Bodies;
use crate::process::cpu;
use crate::support::relay::{Relay, RelayOptions};
use crate::support::servers::Servers;

/// How long a run may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// Between looks at the status: each costs the relay a little.
const LOOK: Duration = Duration::from_millis(50);
/// What the engine still does of a former index is not this one's.
const CALM: Duration = Duration::from_secs(3);

/// What a run took: seconds, and bytes of memory at the relay's peak.
pub struct Taken {
    pub wall: f64,
    pub relay_cpu: f64,
    engine_cpu: f64,
    mysql_cpu: f64,
    pub peak: f64,
    /// Bytes of memory at each look.
    pub resident: Vec<u64>,
}

/// What is run.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    pub options: &'a RelayOptions,
    /// A log that its state folder has at the start; an empty folder without one.
    pub log: Option<&'a Path>,
}

/// Medians over the rounds.
pub struct Against {
    /// Wall time of the bodies / of the relay.
    pub share: f64,
    /// The relay's CPU / that of all that work: MySQL has nothing to do where a log is there at the start.
    pub cpu_share: f64,
    pub peak_mb: f64,
}

/// Sends the bodies and runs a relay until `is_over`, in turn, after a throw-away pass.
///
/// # Errors
/// A server or the relay fails.
pub async fn against(
    bodies: &Bodies,
    servers: &Servers,
    dir: &Path,
    subject: Subject<'_>,
    rounds: usize,
    is_over: impl Fn(&Status) -> Result<bool>,
) -> Result<Against> {
    let (mut shares, mut cpu_shares, mut peak) = (Vec::new(), Vec::new(), 0.0_f64);
    for round in 0..=rounds {
        tokio::time::sleep(CALM).await;
        let engine = cpu(servers.engine_pid)?;
        let limit = bodies.send(&servers.engine_url).await?;
        let engine = cpu(servers.engine_pid)? - engine;
        bodies.clear(&servers.engine_url).await?;
        tokio::time::sleep(CALM).await;
        let taken = relay(servers, &dir.join(format!("relay-{round}")), subject, &is_over).await?;
        bodies.clear(&servers.engine_url).await?;
        let source_cpu = if subject.log.is_some() { 0.0 } else { taken.mysql_cpu };
        let cpu_share = taken.relay_cpu / (taken.relay_cpu + taken.engine_cpu + source_cpu);
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
    let ((share, spread), (cpu_share, cpu_spread)) = (median(&shares), median(&cpu_shares));
    note!("spread: share {:.0} %, CPU share {:.0} %", spread * 100.0, cpu_spread * 100.0);
    Ok(Against { share, cpu_share, peak_mb: peak / MB })
}

/// From the start of the process to the first status that says that it is over.
///
/// # Errors
/// A server or the relay fails.
pub async fn relay(
    servers: &Servers,
    dir: &Path,
    Subject { options, log }: Subject<'_>,
    is_over: impl Fn(&Status) -> Result<bool>,
) -> Result<Taken> {
    let mut relay = Relay::prepare(dir, options.clone())?;
    if let Some(log) = log {
        copy(log, &relay.state_dir().join("main/log"))?;
    }
    let mut resident = Vec::new();
    let (engine, mysql) = (cpu(servers.engine_pid)?, cpu(servers.mysql_pid)?);
    let begun = Instant::now();
    relay.start()?;
    loop {
        tokio::time::sleep(LOOK).await;
        relay.ensure_alive()?;
        resident.push(relay.resident_bytes());
        if let Ok((200, body)) = relay.get("/status").await
            && is_over(&serde_json::from_str(&body)?)?
        {
            break;
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
        resident,
    };
    relay.kill()?;
    std::fs::remove_dir_all(dir)?;
    Ok(taken)
}

/// A log's files: whoever opens it writes to them.
fn copy(log: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(log)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}
