//! A disk whose syncs take their time (fault 23): more is committed with each, memory stays bounded, the lag shows, and all arrives.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::SOON;
use crate::support::eventually;
use crate::support::stage::Stage;
use crate::support::strike::{Blow, Strike, When};

/// Of one sync, milliseconds.
const SLOW: u64 = 300;
/// Transactions per second that are committed meanwhile.
const RATE: u32 = 200;

#[tokio::test]
async fn fault_23_with_slow_syncs_more_is_committed_with_each_and_all_arrives() -> Result<()> {
    let mut stage =
        Stage::set("fault_23_with_slow_syncs_more_is_committed_with_each_and_all_arrives", 500).await?;
    let strike = Strike::new("fdatasync", Blow::Hangs(SLOW), When::From(1));
    stage.relay.options.through = strike.command(&stage.relay.dir.join("trace"));
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    let before = (stage.relay.metric("everrelay_log_syncs_total").await?, visible(&stage).await?);
    let workload = stage.workload(Some(RATE));
    for wanted in (1..=10).map(|tenth| f64::from(tenth) * 400.0) {
        eventually("more of the workload", SOON, async || {
            Ok((visible(&stage).await? - before.1 > wanted).then_some(()))
        })
        .await?;
    }
    // It is measured once a second, and not always while something waits for a sync.
    let lag = eventually("the lag shows", SOON, async || {
        let lag = stage.relay.metric("everrelay_sink_lag_seconds").await?;
        Ok((lag > 0.1).then_some(lag))
    })
    .await?;
    let syncs = stage.relay.metric("everrelay_log_syncs_total").await? - before.0;
    let totals = workload.stop().await?;
    let each = totals.transactions() as f64 / syncs;
    stage.agree(Duration::from_secs(60)).await?;
    let peak = stage.relay.peak_bytes();
    eprintln!("{each:.1} transactions a sync in {syncs} syncs; a lag of {lag} s; {peak} bytes at the peak");
    ensure!(each > 10.0, "{each} transactions a sync");
    ensure!(peak < 150_000_000, "{peak} bytes of memory");
    stage.clear().await
}

async fn visible(stage: &Stage) -> Result<f64> {
    stage.relay.metric("everrelay_log_visible_seq").await
}
