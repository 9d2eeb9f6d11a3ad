//! `snapshot.*`: all rows of a table into the log, with nobody reading it, against the same rows by the same connections, dropped; and into
//! Elasticsearch, by the relay as it is shipped, against the same documents as ready-made bodies.

use std::path::Path;

use anyhow::{Result, ensure};

use crate::backlog::{Stretch, table};
use crate::child::{Taken, Task, What};
use crate::measure::{MB, line, median};
use crate::prepared::Bodies;
use crate::support::relay::{RelayOptions, relay_binary};
use crate::support::servers::Servers;
use crate::whole::{Against, Subject, against};
use crate::{Scale, latency, note};

/// # Errors
/// A server or a child fails.
pub async fn run(servers: &Servers, dir: &Path, scale: Scale) -> Result<()> {
    let log = dir.join("snapshot");
    let rows = scale.turns * 2_000;
    let stretch: Stretch = table(&servers.mysql_url, rows).await?;
    let task = |what, log| Task { what, ..Task::new(&servers.mysql_host, servers.mysql_port, &stretch, log) };
    let (subject, limit) = (task(What::Snapshot, Some(&log)), task(What::Select, None));
    let (mut rates, mut shares, mut peak) = (Vec::new(), Vec::new(), 0_f64);
    for round in 0..=scale.rounds {
        let select = limit.run().await?;
        let taken = subject.run().await?;
        taken.note(round, "the rows", select);
        let Taken { wall_seconds, peak_bytes, .. } = taken;
        peak = peak.max(peak_bytes);
        if round > 0 {
            rates.push(rows as f64 / wall_seconds);
            shares.push(select.wall_seconds / wall_seconds);
        }
    }
    let ((rate, spread), (share, share_spread)) = (median(&rates), median(&shares));
    note!("spread: rate {:.0} %, share {:.0} %", spread * 100.0, share_spread * 100.0);
    line("snapshot.rows_per_second", rate, "rows/s");
    line("snapshot.share_of_select", share, "ratio");
    let bodies = Bodies::of_log(&log, &servers.engine_url).await?;
    std::fs::remove_dir_all(&log)?;
    ensure!(bodies.actions == rows, "the log has {} rows of {rows}", bodies.actions);
    let mut options =
        RelayOptions::new(relay_binary(), &servers.mysql_url, &servers.engine_url, stretch.schema);
    options.segment_bytes = None;
    options.start = "snapshot".to_owned();
    let Against { share, cpu_share, peak_mb } =
        against(&bodies, servers, dir, Subject { options: &options, log: None }, scale.rounds, |status| {
            let pipeline = &status.pipeline;
            Ok(pipeline.visible > 0
                && pipeline.snapshots.is_empty()
                && pipeline.sinks[0].swept.is_empty()
                && pipeline.sinks[0].cursor == pipeline.visible)
        })
        .await?;
    line("snapshot.peak_rss_mb", (peak / MB).max(peak_mb), "MB");
    line("snapshot.share_of_engine", share, "ratio");
    line("snapshot.relay_cpu_share", cpu_share, "ratio");
    let waits = latency::beside_snapshot(servers, dir, stretch.schema, scale).await?;
    line("snapshot.live_delay_p99_ms", waits.percentile(0.99), "ms");
    Ok(())
}
