//! The relay is killed at random moments of a mixed workload, and table and index are the same in the end.
//!
//! `EVERRELAY_TEST_KILLS`: how often (10). `EVERRELAY_TEST_SEED`: the workload and the moments of an earlier run.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::seed::number_from_env;
use support::servers::Database;
use support::stage::Stage;
use support::workload::Workload;
use support::{eventually, mysql};

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
    eprintln!("{} bytes of memory at the peak", stage.relay.peak_bytes());
    // Retention looks now and then, and may not have yet since the last start.
    eventually("a segment is gone", Duration::from_secs(60), async || {
        let oldest = stage.relay.segments()?.swap_remove(0);
        let first_seq: u64 = oldest.file_stem().and_then(|stem| stem.to_str()).context("UTF-8")?.parse()?;
        Ok((first_seq > 1).then_some(()))
    })
    .await?;
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

/// How sessions that begin from now on write rows.
async fn images(stage: &Stage, image: &str, json: &str) -> Result<()> {
    let set = format!("SET GLOBAL binlog_row_image = {image}, GLOBAL binlog_row_value_options = '{json}'");
    mysql::execute(&stage.shop.mysql_url, [set]).await
}

/// Ends all connections of the user, in the middle of whatever they do.
async fn end_connections_of(stage: &Stage, user: &str) -> Result<usize> {
    let mut conn = mysql::connect(&stage.shop.mysql_url).await?;
    let all = format!("SELECT id FROM performance_schema.processlist WHERE user = '{user}'");
    let all: Vec<u64> = conn.query(all).await?;
    for id in &all {
        // It may have ended by itself.
        let _ = conn.query_drop(format!("KILL {id}")).await;
    }
    conn.disconnect().await?;
    Ok(all.len())
}

/// Rows without all their columns are read again by key, over a second connection.
#[tokio::test]
async fn kills_of_the_relay_and_of_its_connections_cost_nothing_where_rows_are_read_again() -> Result<()> {
    let test = "kills_of_the_relay_and_of_its_connections_cost_nothing_where_rows_are_read_again";
    let mut stage = Stage::set(test, 2000).await?;
    let user = format!("again_{}", stage.seed.number);
    let grants = [
        format!("CREATE USER {user}"),
        format!("GRANT REPLICATION SLAVE, REPLICATION CLIENT, SELECT ON *.* TO {user}"),
    ];
    mysql::execute(&stage.shop.mysql_url, grants).await?;
    stage.relay.options.source_url = stage.shop.mysql_url.replace("root@", &format!("{user}@"));
    stage.relay.write_config()?;
    images(&stage, "MINIMAL", "PARTIAL_JSON").await?;
    let seed = stage.seed;
    let ended = end_again_and_again(&mut stage, &user).await.with_context(|| seed.to_string());
    images(&stage, "FULL", "").await?;
    let ended = ended?;
    eprintln!("{ended} connections were ended");
    ensure!(ended > 10, "{ended} connections were ended, which shows nothing");
    stage.agree(Duration::from_secs(120)).await?;
    mysql::execute(&stage.shop.mysql_url, [format!("DROP USER {user}")]).await?;
    stage.clear().await
}

async fn end_again_and_again(stage: &mut Stage, user: &str) -> Result<usize> {
    let mut rng = StdRng::seed_from_u64(stage.seed.number);
    let mut workload = stage.workload(Some(400));
    let mut ended = 0;
    for _ in 0..3 {
        stage.relay.start()?;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(rng.random_range(100..2000))).await;
            workload.ensure_alive().await?;
            stage.relay.ensure_alive()?;
            ended += end_connections_of(stage, user).await?;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        stage.relay.kill()?;
    }
    stage.relay.start()?;
    workload.stop().await?;
    Ok(ended)
}
