//! `end_to_end.*`: the backlog from MySQL into Elasticsearch, by the relay as it is shipped.

use std::path::Path;

use anyhow::{Result, ensure};
use everrelay::event::GtidSet;

use crate::Scale;
use crate::backlog::backlog;
use crate::ingest::task;
use crate::measure::line;
use crate::prepared::Bodies;
use crate::support::relay::{RelayOptions, relay_binary};
use crate::support::servers::Servers;
use crate::whole::{Against, Subject, against};

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
    let mut options =
        RelayOptions::new(relay_binary(), &servers.mysql_url, &servers.engine_url, stretch.schema);
    options.segment_bytes = None;
    options.start.clone_from(&stretch.after);
    let until: GtidSet = stretch.until.parse()?;
    let Against { share, cpu_share, peak_mb } =
        against(&bodies, servers, dir, Subject { options: &options, log: None }, scale.rounds, |status| {
            Ok(status.pipeline.sinks[0].gtids.parse::<GtidSet>()? == until)
        })
        .await?;
    line("end_to_end.share_of_engine", share, "ratio");
    line("end_to_end.relay_cpu_share", cpu_share, "ratio");
    line("end_to_end.peak_rss_mb", peak_mb, "MB");
    Ok(())
}
