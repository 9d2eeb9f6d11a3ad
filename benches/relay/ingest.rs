//! `ingest.*`: MySQL's binlog into the log, with nobody reading it.

use std::path::Path;

use anyhow::Result;

use crate::backlog::{Compression, Stretch, backlog, giant};
use crate::child::{Taken, Task};
use crate::measure::{MB, line, median};
use crate::support::servers::Servers;
use crate::{Scale, note, shapes};

/// # Errors
/// A server or a child fails.
pub async fn run(servers: &Servers, dir: &Path, scale: Scale) -> Result<()> {
    let log = dir.join("ingest");
    let mut peak = 0_f64;
    for compression in [Compression::Off, Compression::On] {
        let large = giant(&servers.mysql_url, scale.giant_megabytes, compression).await?;
        let taken = task(servers, &large, Some(&log)).run().await?;
        note!(
            "one transaction of {} MB, compression {compression:?}: {:.1} MB peak, {:.2} s wall, {:.2} s CPU",
            scale.giant_megabytes,
            taken.peak_bytes / MB,
            taken.wall_seconds,
            taken.cpu_seconds
        );
        peak = peak.max(taken.peak_bytes);
    }

    let stretch = backlog(&servers.mysql_url, scale.turns).await?;
    let (subject, limit) = (task(servers, &stretch, Some(&log)), task(servers, &stretch, None));
    let (mut rates, mut shares) = (Vec::new(), Vec::new());
    for round in 0..=scale.ingest_rounds {
        let wire = limit.run().await?;
        let taken = subject.run().await?;
        taken.note(round, "the wire", wire);
        let Taken { wall_seconds, cpu_seconds, peak_bytes } = taken;
        peak = peak.max(peak_bytes);
        if round > 0 {
            rates.push(stretch.changes as f64 / cpu_seconds);
            shares.push(wire.wall_seconds / wall_seconds);
        }
    }
    let (rate, spread) = median(&rates);
    let (share, share_spread) = median(&shares);
    note!("spread: rate {:.0} %, share {:.0} %", spread * 100.0, share_spread * 100.0);
    line("ingest.changes_per_cpu_second", rate, "changes/s");
    line("ingest.share_of_wire", share, "ratio");
    line("ingest.peak_rss_mb", peak / MB, "MB");
    for (name, stretch) in [
        ("json", shapes::json(&servers.mysql_url, scale.turns / 5).await?),
        ("wide", shapes::wide(&servers.mysql_url, scale.turns / 5).await?),
    ] {
        let mut rates = Vec::new();
        for round in 0..=scale.ingest_rounds {
            let Taken { cpu_seconds, .. } = task(servers, &stretch, Some(&log)).run().await?;
            if round > 0 {
                rates.push(stretch.changes as f64 / cpu_seconds);
            }
        }
        line(&format!("ingest.{name}_changes_per_cpu_second"), median(&rates).0, "changes/s");
    }
    std::fs::remove_dir_all(&log)?;
    Ok(())
}

/// A child's task on these servers.
#[must_use]
pub fn task(servers: &Servers, stretch: &Stretch, log: Option<&Path>) -> Task {
    Task::new(&servers.mysql_host, servers.mysql_port, stretch, log)
}
