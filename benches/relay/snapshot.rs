//! `snapshot.*`: all rows of a table into the log, with nobody reading it; against the same rows by the same connections, dropped.

use std::path::Path;

use anyhow::Result;

use crate::backlog::{Stretch, table};
use crate::child::{Taken, Task, What};
use crate::measure::{MB, line, median};
use crate::support::servers::Servers;
use crate::{Scale, note};

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
    line("snapshot.peak_rss_mb", peak / MB, "MB");
    std::fs::remove_dir_all(&log)?;
    Ok(())
}
