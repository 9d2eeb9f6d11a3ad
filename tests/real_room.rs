//! No room, with real servers and a real, small disk: a quota reached while the engine is away, a disk that the log fills, and one that
//! somebody else fills. The source is paused, nothing is lost, and all of it ends by itself.

mod support;

use std::time::Duration;

use anyhow::{Result, ensure};
use support::relay::relay_binary;
use support::servers::Server;
use support::small_disk::SmallDisk;
use support::stage::Stage;
use support::{ensure_says, eventually, mysql};

const SOON: Duration = Duration::from_secs(30);
const LONG: Duration = Duration::from_secs(120);

/// Commits `count` transactions of some 30 kB each, every one of them another text in one of the customers.
async fn write(stage: &Stage, count: u64) -> Result<()> {
    let schema = &stage.shop.schema;
    let customers = stage.scale.customers;
    let statement = |number: u64| {
        let id = number % customers + 1;
        format!(
            "UPDATE `{schema}`.customers SET notes = CONCAT(UUID(), REPEAT(' room', 6000)) WHERE id = {id}"
        )
    };
    mysql::execute(&stage.shop.mysql_url, (0..count).map(statement)).await
}

/// Waits until the source is paused, says why, and makes sure that the server streams to nobody and the relay goes on.
async fn until_paused(stage: &mut Stage, because: &str) -> Result<()> {
    let relay = &stage.relay;
    eventually("the source is paused", Duration::from_secs(60), async || {
        let Ok(metrics) = relay.metrics().await else { return Ok(None) };
        Ok((metrics.get("everrelay_source_paused") == Some(1.0)).then_some(()))
    })
    .await?;
    let (status, reasons) = stage.relay.get("/readyz").await?;
    eprintln!("not ready: {reasons}");
    ensure!(status == 503, "/readyz was answered {status}");
    ensure_says(&reasons, &["log:", because])?;
    let streams = "SELECT COUNT(*) FROM performance_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'";
    let url = stage.shop.mysql_url.clone();
    eventually("the server streams to nobody", SOON, async || {
        let streams: u64 = mysql::one(&url, streams).await?;
        Ok((streams == 0).then_some(()))
    })
    .await?;
    stage.relay.ensure_alive()
}

async fn until_metric(stage: &Stage, name: &str, holds: impl Fn(f64) -> bool) -> Result<()> {
    eventually(name, LONG, async || {
        let Ok(metrics) = stage.relay.metrics().await else { return Ok(None) };
        Ok(metrics.get(name).is_some_and(&holds).then_some(()))
    })
    .await
}

async fn until_going_on(stage: &Stage) -> Result<()> {
    until_metric(stage, "everrelay_source_paused", |paused| paused == 0.0).await
}

async fn everrelay(stage: &Stage, command: &str) -> Result<String> {
    let mut process = tokio::process::Command::new(relay_binary());
    let output = process.arg(command).arg("--config").arg(stage.relay.config_file()).output().await?;
    let text = String::from_utf8(output.stdout)? + std::str::from_utf8(&output.stderr)?;
    ensure!(output.status.success(), "{text}");
    Ok(text)
}

#[tokio::test]
async fn fault_08_a_disk_that_the_log_fills_pauses_the_source_and_goes_on_when_the_engine_has_taken_some()
-> Result<()> {
    let mut stage = Stage::set(
        "fault_08_a_disk_that_the_log_fills_pauses_the_source_and_goes_on_when_the_engine_has_taken_some",
        300,
    )
    .await?;
    // The log leaves 16 MiB free and sled takes one: some 10 MiB are left.
    let disk = SmallDisk::mount(&stage.relay.state_dir(), "size=32m")?;
    stage.relay.options.disk_reserve_bytes = Some(4 << 20);
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.servers.stop(Server::Elasticsearch).await?;
    write(&stage, 700).await?;
    until_paused(&mut stage, "disk is full").await?;
    let free = stage.relay.metric("everrelay_disk_free_bytes").await?;
    ensure!(free > f64::from(14 << 20), "the log left {free} bytes free");

    stage.servers.start(Server::Elasticsearch).await?;
    stage.agree(LONG).await?;
    until_going_on(&stage).await?;
    stage.relay.kill()?;
    drop(disk);
    stage.clear().await
}

#[tokio::test]
async fn fault_08_a_disk_too_small_to_begin_on_is_waited_for_and_with_room_it_begins() -> Result<()> {
    let mut stage =
        Stage::set("fault_08_a_disk_too_small_to_begin_on_is_waited_for_and_with_room_it_begins", 1000)
            .await?;
    let disk = SmallDisk::mount(&stage.relay.state_dir(), "size=8m")?;
    stage.relay.start()?;
    until_paused(&mut stage, "disk is full").await?;
    disk.remount("size=256m")?;
    stage.agree(Duration::from_secs(60)).await?;
    until_metric(&stage, "everrelay_disk_reserve_bytes", |held| held == f64::from(64 << 20)).await?;
    stage.relay.kill()?;
    drop(disk);
    stage.clear().await
}

#[tokio::test]
async fn fault_08_a_write_refused_for_want_of_room_exits_with_5_and_with_room_again_it_goes_on_where_it_was()
-> Result<()> {
    let mut stage = Stage::set(
        "fault_08_a_write_refused_for_want_of_room_exits_with_5_and_with_room_again_it_goes_on_where_it_was",
        300,
    )
    .await?;
    // A want that free bytes do not show: there are no more files to be had, and a new segment is refused as on a full disk.
    let disk = SmallDisk::mount(&stage.relay.state_dir(), "size=256m,nr_inodes=24")?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.servers.stop(Server::Elasticsearch).await?;
    write(&stage, 1000).await?;
    let words = stage.relay_ends_with(5, SOON).await?;
    ensure_says(&words, &["No space left on device", "Nothing more is written"])?;
    disk.remount("size=256m,nr_inodes=1000")?;
    stage.relay.start()?;
    stage.servers.start(Server::Elasticsearch).await?;
    stage.agree(LONG).await?;
    stage.relay.kill()?;
    drop(disk);
    stage.clear().await
}

#[tokio::test]
async fn fault_09_on_a_disk_that_somebody_else_filled_the_cursor_commits_segments_go_and_the_relay_goes_on()
-> Result<()> {
    const RESERVE: u32 = 16 << 20;
    let mut stage = Stage::set(
        "fault_09_on_a_disk_that_somebody_else_filled_the_cursor_commits_segments_go_and_the_relay_goes_on",
        300,
    )
    .await?;
    let disk = SmallDisk::mount(&stage.relay.state_dir(), "size=128m")?;
    stage.relay.options.disk_reserve_bytes = Some(RESERVE.into());
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    until_metric(&stage, "everrelay_disk_reserve_bytes", |held| held == f64::from(RESERVE)).await?;
    stage.servers.stop(Server::Elasticsearch).await?;
    write(&stage, 1700).await?;
    until_metric(&stage, "everrelay_log_bytes", |bytes| bytes > f64::from(48 << 20)).await?;

    let ballast = disk.fill()?;
    write(&stage, 5).await?;
    until_paused(&mut stage, "disk is full").await?;
    let metrics = stage.relay.metrics().await?;
    ensure!(
        metrics.get("everrelay_disk_reserve_bytes") == Some(RESERVE.into()),
        "the reserve is kept until it is needed"
    );

    // The ballast stays: what the segments leave is enough for the reserve and for going on.
    stage.servers.start(Server::Elasticsearch).await?;
    until_going_on(&stage).await?;
    stage.agree(LONG).await?;
    ensure!(ballast.exists());
    until_metric(&stage, "everrelay_disk_reserve_bytes", |held| held == f64::from(RESERVE)).await?;
    ensure_says(&stage.relay.words(), &["reserve is given up so that the cursor can be committed"])?;
    stage.relay.kill()?;
    drop(disk);
    stage.clear().await
}

#[tokio::test]
async fn fault_09_a_relay_killed_on_a_completely_full_disk_opens_again_and_delivers() -> Result<()> {
    const RESERVE: u32 = 32 << 20;
    let mut stage =
        Stage::set("fault_09_a_relay_killed_on_a_completely_full_disk_opens_again_and_delivers", 300).await?;
    let disk = SmallDisk::mount(&stage.relay.state_dir(), "size=96m")?;
    stage.relay.options.disk_reserve_bytes = Some(RESERVE.into());
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    until_metric(&stage, "everrelay_disk_reserve_bytes", |held| held == f64::from(RESERVE)).await?;
    stage.servers.stop(Server::Elasticsearch).await?;
    write(&stage, 300).await?;
    until_metric(&stage, "everrelay_log_bytes", |bytes| bytes > f64::from(8 << 20)).await?;
    stage.relay.kill()?;
    let ballast = disk.fill()?;

    stage.relay.start()?;
    until_paused(&mut stage, "disk is full").await?;
    ensure_says(&stage.relay.words(), &["reserve is given up to open the log"])?;
    stage.servers.start(Server::Elasticsearch).await?;
    stage.relay.until_settled(LONG).await?;
    // With the ballast gone everything is as before.
    std::fs::remove_file(ballast)?;
    stage.agree(LONG).await?;
    until_metric(&stage, "everrelay_disk_reserve_bytes", |held| held == f64::from(RESERVE)).await?;
    stage.relay.kill()?;
    drop(disk);
    stage.clear().await
}

#[tokio::test]
async fn fault_10_a_quota_reached_while_the_engine_is_away_pauses_the_source_and_everything_arrives_afterwards()
-> Result<()> {
    const QUOTA: u32 = 22 << 20;
    let mut stage = Stage::set(
        "fault_10_a_quota_reached_while_the_engine_is_away_pauses_the_source_and_everything_arrives_afterwards",
        1000,
    )
    .await?;
    stage.relay.options.max_row_bytes = Some(1 << 20);
    stage.relay.options.quota_bytes = Some(QUOTA.into());
    stage.relay.write_config()?;
    let said = everrelay(&stage, "check").await?;
    ensure_says(&said, &["quota", "23.1 MB"])?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.servers.stop(Server::Elasticsearch).await?;
    // 50 MB: twice the quota, and then some that the source is not even asked for.
    write(&stage, 1600).await?;
    until_paused(&mut stage, "quota").await?;
    let bytes = stage.relay.metric("everrelay_log_bytes").await?;
    ensure!(
        (f64::from(QUOTA)..f64::from(QUOTA / 4 * 5)).contains(&bytes),
        "the log has {bytes} bytes of {QUOTA}"
    );
    ensure!(stage.relay.metric("everrelay_log_quota_bytes").await? == f64::from(QUOTA));
    ensure!(stage.relay.metric("everrelay_outage_left_seconds").await? == 0.0);
    let said = everrelay(&stage, "status").await?;
    eprintln!("{said}");
    ensure_says(&said, &["quota ", "of 23.1 mb", "the source is paused"])?;
    write(&stage, 100).await?;

    // Killed and started again it stays paused.
    stage.relay.kill()?;
    stage.relay.start()?;
    until_paused(&mut stage, "quota").await?;
    stage.servers.start(Server::Elasticsearch).await?;
    stage.agree(LONG).await?;
    until_going_on(&stage).await?;
    ensure!(stage.relay.metric("everrelay_log_bytes").await? < f64::from(QUOTA));
    stage.clear().await
}
