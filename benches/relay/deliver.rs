//! `deliver.*`: from a full log to the engine, by the relay as it is shipped, whose source cannot be reached meanwhile.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use everrelay::admin::Status;

use crate::acknowledging::Acknowledging;
use crate::backlog::{Stretch, backlog};
use crate::ingest::task;
use crate::measure::{MB, line, load, median};
use crate::prepared::{Bodies, remove};
use crate::support::relay::{RelayOptions, relay_binary};
use crate::support::servers::Servers;
use crate::whole::{Against, Subject, Taken, against, relay};
use crate::{Scale, note, outage};

/// Nobody listens there.
const NO_SOURCE: &str = "mysql://root@127.0.0.1:1";

/// # Errors
/// A server or the relay fails.
pub async fn run(servers: &Servers, dir: &Path, scale: Scale) -> Result<()> {
    let log = dir.join("log");
    let stretch = backlog(&servers.mysql_url, scale.turns).await?;
    fill(servers, &stretch, &log).await?;
    acknowledged(servers, dir, &log, &stretch, scale.rounds).await?;
    let Against { share, cpu_share, peak_mb } = sent(servers, dir, &log, &stretch, scale.rounds).await?;
    line("deliver.share_of_engine", share, "ratio");
    line("deliver.relay_cpu_share", cpu_share, "ratio");
    line("deliver.peak_rss_mb", peak_mb, "MB");

    let stretch = outage::blocks(&servers.mysql_url, scale.turns / 50).await?;
    fill(servers, &stretch, &log).await?;
    // As many changes as actions: the share of the time is that of the rate.
    let Against { share, .. } = sent(servers, dir, &log, &stretch, scale.rounds).await?;
    line("deliver.collapse_gain", share, "times");

    let stretch = outage::many(&servers.mysql_url, scale.catch_up_changes).await?;
    fill(servers, &stretch, &log).await?;
    catch_up(servers, dir, &log, &stretch).await
}

async fn fill(servers: &Servers, stretch: &Stretch, log: &Path) -> Result<()> {
    task(servers, stretch, Some(log)).run().await?;
    Ok(())
}

fn options(stretch: &Stretch, sink_url: &str) -> RelayOptions {
    let mut options = RelayOptions::new(relay_binary(), NO_SOURCE, sink_url, stretch.schema);
    options.segment_bytes = None;
    options.start.clone_from(&stretch.after);
    options
}

fn is_settled(status: &Status) -> Result<bool> {
    let pipeline = &status.pipeline;
    Ok(pipeline.visible > 0 && pipeline.sinks[0].cursor == pipeline.visible)
}

/// To a server that acknowledges all.
async fn acknowledged(
    servers: &Servers,
    dir: &Path,
    log: &Path,
    stretch: &Stretch,
    rounds: usize,
) -> Result<()> {
    let server = Acknowledging::start(&servers.engine_url).await?;
    let options = options(stretch, &server.url);
    let mut rates = Vec::new();
    for round in 0..=rounds {
        let folder = dir.join(format!("relay-{round}"));
        let subject = Subject { options: &options, log: Some(log) };
        let taken = relay(servers, &folder, subject, &is_settled).await?;
        remove(&servers.engine_url, &format!("{}.orders-000001", stretch.schema)).await?;
        let documents = server.take_actions();
        ensure!(
            documents > 0 && documents <= stretch.changes,
            "{documents} documents of {} changes",
            stretch.changes
        );
        note!(
            "round {round}: {documents} documents acknowledged, {:.2} s wall, {:.2} s CPU, {:.1} MB peak; load {}",
            taken.wall,
            taken.relay_cpu,
            taken.peak / MB,
            load()
        );
        if round > 0 {
            rates.push(documents as f64 / taken.relay_cpu);
        }
    }
    let (rate, spread) = median(&rates);
    note!("spread: rate {:.0} %", spread * 100.0);
    line("deliver.docs_per_cpu_second", rate, "docs/s");
    Ok(())
}

/// To the engine, against the same actions as ready-made bodies.
async fn sent(
    servers: &Servers,
    dir: &Path,
    log: &Path,
    stretch: &Stretch,
    rounds: usize,
) -> Result<Against> {
    let bodies = Bodies::of_log(log, &servers.engine_url).await?;
    ensure!(
        bodies.actions == stretch.changes,
        "the log has {} changes of {}",
        bodies.actions,
        stretch.changes
    );
    let options = options(stretch, &servers.engine_url);
    let subject = Subject { options: &options, log: Some(log) };
    against(&bodies, servers, dir, subject, rounds, is_settled).await
}

/// To the engine, once, and how much memory it takes on the way.
async fn catch_up(servers: &Servers, dir: &Path, log: &Path, stretch: &Stretch) -> Result<()> {
    let options = options(stretch, &servers.engine_url);
    let subject = Subject { options: &options, log: Some(log) };
    let Taken { wall, relay_cpu, peak, resident, .. } =
        relay(servers, &dir.join("relay"), subject, &is_settled).await?;
    remove(&servers.engine_url, &format!("{}.orders-000001", stretch.schema)).await?;
    let quarters: Vec<String> = resident
        .chunks(resident.len().div_ceil(4).max(1))
        .map(|quarter| quarter.iter().max().context("a chunk is not empty"))
        .map(|most| most.map(|most| format!("{:.1}", *most as f64 / MB)))
        .collect::<Result<_>>()?;
    note!(
        "catching up with {} changes: {wall:.2} s wall, {relay_cpu:.2} s CPU; most memory in each quarter of the time {} MB; load {}",
        stretch.changes,
        quarters.join(", "),
        load()
    );
    line("deliver.catch_up_changes_per_second", stretch.changes as f64 / wall, "changes/s");
    line("deliver.catch_up_peak_rss_mb", peak / MB, "MB");
    Ok(())
}
