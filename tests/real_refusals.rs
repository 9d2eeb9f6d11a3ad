//! What the relay must not go on with: each one an exit code, and words that say what it is about.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use support::servers::Server;
use support::stage::Stage;
use support::{ensure_says, eventually, mysql};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_unknown_configuration_key_is_named_with_its_line_and_exits_with_2() -> Result<()> {
    let mut stage =
        Stage::set("an_unknown_configuration_key_is_named_with_its_line_and_exits_with_2", 0).await?;
    stage.relay.options.more = "segment_byte = 5\n".to_owned();
    stage.relay.write_config()?;
    let config = fs::read_to_string(stage.relay.config_file())?;
    let line =
        1 + config.lines().position(|line| line.starts_with("segment_byte =")).context("written above")?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(2, SOON).await?;
    ensure_says(&words, &["segment_byte", &line.to_string()])?;
    ensure!(
        !stage.relay.state_dir().exists(),
        "the state folder was made although the configuration is wrong"
    );
    stage.clear().await
}

#[tokio::test]
async fn a_wrong_password_exits_with_3_and_the_right_one_works() -> Result<()> {
    let mut stage = Stage::set("a_wrong_password_exits_with_3_and_the_right_one_works", 200).await?;
    let user = "'everrelay_test'@'127.0.0.1'";
    mysql::execute(
        &stage.shop.mysql_url,
        [
            format!("DROP USER IF EXISTS {user}"),
            format!("CREATE USER {user} IDENTIFIED BY 'right & proper'"),
            format!("GRANT SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {user}"),
        ],
    )
    .await?;
    let (host, port) = (&stage.servers.mysql_host, stage.servers.mysql_port);
    stage.relay.options.source_url = format!("mysql://everrelay_test@{host}:{port}");
    stage.relay.options.password = Some(("EVERRELAY_TEST_PASSWORD".to_owned(), "wrong".to_owned()));
    stage.relay.write_config()?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(3, SOON).await?;
    ensure_says(&words, &["everrelay_test", "password"])?;
    stage.relay.options.password = Some(("EVERRELAY_TEST_PASSWORD".to_owned(), "right & proper".to_owned()));
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let all = stage.relay.words();
    ensure!(!all.contains("right & proper") && !all.contains("wrong\""), "a password is in the log:\n{all}");
    mysql::execute(&stage.shop.mysql_url, [format!("DROP USER {user}")]).await?;
    stage.clear().await
}

#[tokio::test]
async fn a_table_without_a_key_is_named_and_exits_with_3() -> Result<()> {
    let mut stage = Stage::set("a_table_without_a_key_is_named_and_exits_with_3", 0).await?;
    let schema = &stage.shop.schema;
    let create = format!("CREATE TABLE `{schema}`.keyless (a INT, b INT)");
    mysql::execute(&stage.shop.mysql_url, [create]).await?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(3, SOON).await?;
    ensure_says(&words, &["keyless", "id = [", "!"])?;
    stage.clear().await
}

#[tokio::test]
async fn a_statement_without_rows_is_named_and_exits_with_3_after_earlier_rows() -> Result<()> {
    let mut stage =
        Stage::set("a_statement_without_rows_is_named_and_exits_with_3_after_earlier_rows", 500).await?;
    let schema = stage.shop.schema.clone();
    let statements = [
        format!("UPDATE `{schema}`.pulse SET beat = 4711"),
        "SET SESSION binlog_format = 'STATEMENT'".to_owned(),
        format!("DELETE FROM `{schema}`.order_items"),
        "SET SESSION binlog_format = 'ROW'".to_owned(),
        format!("UPDATE `{schema}`.pulse SET beat = 4712"),
    ];
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(3, SOON).await?;
    ensure_says(&words, &["statement format", "order_items"])?;
    let alias = |table: &str| format!("{schema}.{table}");
    let pulse = stage.engine.document(&alias("pulse"), "1").await?.context("the pulse's row is missing")?;
    ensure!(pulse.contains("4711"), "{pulse}");
    let items = stage.engine.count(&alias("order_items")).await?;
    ensure!(items == stage.scale.items, "{items} items are there, {} were before", stage.scale.items);
    // And it refuses again, rather than going past it the second time.
    stage.relay.start()?;
    stage.relay_ends_with(3, SOON).await?;
    stage.clear().await
}

/// Several sealed segments that nobody has read yet, of a relay that was killed.
async fn with_an_unread_log(stage: &mut Stage) -> Result<()> {
    stage.relay.options.segment_bytes = Some(128 * 1024);
    stage.relay.write_config()?;
    stage.servers.stop(Server::Elasticsearch).await?;
    stage.relay.start()?;
    let seen = &*stage;
    eventually("four segments", SOON, async || Ok((seen.relay.segments()?.len() >= 4).then_some(()))).await?;
    stage.relay.kill()?;
    stage.servers.start(Server::Elasticsearch).await
}

/// Flips one bit at an offset.
fn flip(path: &Path, offset: u64) -> Result<()> {
    let mut bytes = fs::read(path)?;
    bytes[usize::try_from(offset)?] ^= 0x10;
    fs::write(path, bytes)?;
    Ok(())
}

#[tokio::test]
async fn a_flipped_bit_in_a_sealed_segment_names_the_file_and_exits_with_5() -> Result<()> {
    let mut stage =
        Stage::set("a_flipped_bit_in_a_sealed_segment_names_the_file_and_exits_with_5", 4000).await?;
    with_an_unread_log(&mut stage).await?;
    let damaged = stage.relay.segments()?.remove(1);
    let middle = fs::metadata(&damaged)?.len() / 2;
    flip(&damaged, middle)?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(5, SOON).await?;
    let name = damaged.file_name().and_then(|name| name.to_str()).context("UTF-8")?;
    ensure_says(&words, &[name])?;
    // Repaired, it goes on as if nothing had been.
    flip(&damaged, middle)?;
    stage.relay.start()?;
    stage.agree(Duration::from_secs(60)).await?;
    stage.clear().await
}

#[tokio::test]
async fn a_flipped_bit_in_the_last_segments_synced_part_exits_with_5() -> Result<()> {
    let mut stage = Stage::set("a_flipped_bit_in_the_last_segments_synced_part_exits_with_5", 4000).await?;
    stage.relay.options.segment_bytes = Some(1 << 26);
    stage.relay.write_config()?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let last = stage.relay.segments()?.pop().context("a segment")?;
    let middle = fs::metadata(&last)?.len() / 2;
    // What is written later says that this was synced before: it cannot be a torn tail.
    stage.agree(SOON).await?;
    stage.relay.kill()?;
    flip(&last, middle)?;
    stage.relay.start()?;
    let words = stage.relay_ends_with(5, SOON).await?;
    let name = last.file_name().and_then(|name| name.to_str()).context("UTF-8")?;
    ensure_says(&words, &[name])?;
    flip(&last, middle)?;
    stage.relay.start()?;
    stage.agree(Duration::from_secs(60)).await?;
    stage.clear().await
}
