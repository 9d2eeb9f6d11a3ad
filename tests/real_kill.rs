//! The relay is killed at random moments of a mixed workload, and table and index are the same in the end.
//!
//! `EVERRELAY_TEST_KILLS`: how often (10). `EVERRELAY_TEST_SEED`: the workload and the moments of an earlier run.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::seed::number_from_env;
use support::servers::Database;
use support::stage::Stage;
use support::workload::Workload;

#[tokio::test]
async fn table_and_index_agree_after_kills_at_random_moments() -> Result<()> {
    let stage = Stage::set("table_and_index_agree_after_kills_at_random_moments", 3000).await?;
    agree_after_kills(stage, number_from_env("EVERRELAY_TEST_KILLS", 10)?).await
}

#[tokio::test]
async fn kills_at_random_moments_cost_nothing_at_mariadb_either() -> Result<()> {
    let test = "kills_at_random_moments_cost_nothing_at_mariadb_either";
    let stage = Stage::set_with(Database::Mariadb, test, 2000).await?;
    agree_after_kills(stage, number_from_env("EVERRELAY_TEST_KILLS", 4)?).await
}

async fn agree_after_kills(mut stage: Stage, kills: u64) -> Result<()> {
    // Segments are met as they go, too.
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.write_config()?;
    let seed = stage.seed;
    let mut workload = stage.workload(None);
    kill_again_and_again(&mut stage, &mut workload, kills).await.with_context(|| seed.to_string())?;
    let totals = workload.stop().await?;
    eprintln!("{kills} kills, {totals:?}");
    stage.agree(Duration::from_secs(120)).await?;
    let (oldest, peak) = (stage.relay.segments()?.swap_remove(0), stage.relay.peak_bytes());
    eprintln!("the oldest segment: {}; {peak} bytes of memory at the peak", oldest.display());
    let first_seq: u64 = oldest.file_stem().and_then(|stem| stem.to_str()).context("UTF-8")?.parse()?;
    ensure!(first_seq > 1, "no segment has gone: {}", oldest.display());
    stage.clear().await
}

async fn kill_again_and_again(stage: &mut Stage, workload: &mut Workload, kills: u64) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(stage.seed.number);
    for kill in 1..=kills {
        stage.relay.start()?;
        // Now and then so soon that it has hardly begun.
        tokio::time::sleep(Duration::from_millis(rng.random_range(200..3000))).await;
        workload.ensure_alive().await?;
        stage.relay.kill().with_context(|| format!("before kill {kill} of {kills}"))?;
        if rng.random_bool(0.3) {
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        }
    }
    stage.relay.start()
}
