//! TRUNCATE: an ordered delete of all that a table had, wherever it meets the relay, the engine, or a kill of either.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::servers::{Database, Server};
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(60);

/// Of the engine, which first goes through what it had not written.
const AFTER_A_CRASH: Duration = Duration::from_secs(180);

/// Rows of the table that is truncated: some dozen pages of a sweep.
const ROWS: u64 = 20_000;

const SWEPT: &str = "everrelay_sink_swept_documents_total";

/// Adds a table that nobody but the test writes to.
async fn add_ledger(stage: &mut Stage) -> Result<()> {
    let create = format!(
        "CREATE TABLE `{}`.ledger (id INT PRIMARY KEY, round INT NOT NULL, note VARCHAR(50) NOT NULL)",
        stage.shop.schema
    );
    stage.tables.push("ledger".to_owned());
    mysql::execute(&stage.shop.mysql_url, [create]).await
}

/// Statements that put the rows `ids` there, a thousand a transaction.
fn rows(schema: &str, round: u64, ids: impl Iterator<Item = u64>) -> Vec<String> {
    let ids: Vec<u64> = ids.collect();
    let values = |ids: &[u64]| {
        let values = ids.iter().map(|id| format!("({id},{round},'row {id} of round {round}')"));
        format!("INSERT INTO `{schema}`.ledger VALUES {}", values.collect::<Vec<_>>().join(","))
    };
    ids.chunks(1000).map(values).collect()
}

/// Waits until the relay is in the middle of a sweep.
async fn amid_a_sweep(stage: &mut Stage, what: &str) -> Result<()> {
    stage.relay.ensure_alive()?;
    let relay = &stage.relay;
    eventually(what, SOON, async || {
        // Just started, it may not answer yet.
        let swept = relay.metric(SWEPT).await.unwrap_or(0.0);
        Ok((swept > 0.0).then_some(()))
    })
    .await?;
    let running = stage.relay.metric("everrelay_sink_sweeps").await?;
    ensure!(running > 0.0, "{what}: the sweep had ended already");
    Ok(())
}

#[tokio::test]
async fn fault_58_what_a_truncate_deleted_stays_so_and_what_follows_it_stays_there() -> Result<()> {
    let test = "fault_58_what_a_truncate_deleted_stays_so_and_what_follows_it_stays_there";
    let mut stage = Stage::set(test, 1000).await?;
    add_ledger(&mut stage).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    stage.relay.start()?;
    // Other tables go on meanwhile.
    let mut workload = stage.workload(Some(200));
    let mut rng = StdRng::seed_from_u64(stage.seed.number);
    mysql::execute(&url, rows(&schema, 0, 0..ROWS)).await?;
    for round in 1..=3 {
        // The same keys again, updates and deletes of some, and another TRUNCATE right behind the first.
        let mut statements = vec![format!("TRUNCATE TABLE `{schema}`.ledger")];
        let some: Vec<u64> = (0..ROWS).filter(|_| rng.random_bool(0.2)).collect();
        statements.extend(rows(&schema, round, some.into_iter()));
        statements.push(format!("UPDATE `{schema}`.ledger SET note = 'changed' WHERE id % 7 = 0"));
        statements.push(format!("DELETE FROM `{schema}`.ledger WHERE id % 5 = 0"));
        statements.push(format!("UPDATE `{schema}`.ledger SET id = id + {ROWS} WHERE id % 11 = 0"));
        if round == 2 {
            statements.push(format!("TRUNCATE `{schema}`.ledger"));
            statements.extend(rows(&schema, 100, 0..100));
        }
        // The next round has all rows to delete again, and is told from this one by its metric.
        stage.relay.until_ready_is(200, SOON).await?;
        stage.relay.kill()?;
        stage.relay.start()?;
        mysql::execute(&url, statements).await?;
        amid_a_sweep(&mut stage, &format!("round {round} sweeps")).await?;
        match round {
            1 => {
                stage.relay.kill()?;
                stage.relay.start()?;
            }
            2 => {
                stage.servers.kill(Server::Elasticsearch).await?;
                stage.relay.ensure_alive()?;
                stage.servers.start(Server::Elasticsearch).await?;
            }
            _ => {
                stage.relay.signal(rustix::process::Signal::TERM)?;
                ensure!(stage.relay.exit(SOON).await?.success(), "a drain in the middle of a sweep");
                stage.relay.start()?;
            }
        }
        workload.ensure_alive().await?;
        stage.relay.until_settled(AFTER_A_CRASH).await.with_context(|| format!("round {round}"))?;
        if round < 3 {
            mysql::execute(&url, rows(&schema, round, 10 * ROWS..11 * ROWS)).await?;
        }
    }
    workload.stop().await?;
    stage.agree(Duration::from_secs(120)).await?;
    let begun = stage.relay.words().matches("the table was emptied; deleting").count();
    ensure!(begun >= 6, "{begun} sweeps were begun: four truncates, and two begun again");
    stage.clear().await
}

#[tokio::test]
async fn fault_58_a_truncate_is_enough_to_know_a_table_by() -> Result<()> {
    let stage = Stage::set("fault_58_a_truncate_is_enough_to_know_a_table_by", 500).await?;
    a_truncate_is_enough(stage).await
}

#[tokio::test]
async fn fault_58_a_truncate_at_mariadb_is_enough_too() -> Result<()> {
    let test = "fault_58_a_truncate_at_mariadb_is_enough_too";
    a_truncate_is_enough(Stage::set_with(Database::Mariadb, test, 500).await?).await
}

async fn a_truncate_is_enough(mut stage: Stage) -> Result<()> {
    add_ledger(&mut stage).await?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let unwritten = format!("CREATE TABLE `{schema}`.unwritten (id INT PRIMARY KEY)");
    mysql::execute(&url, [unwritten]).await?;
    mysql::execute(&url, rows(&schema, 0, 0..3000)).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    stage.relay.kill()?;
    // In the next run they are the first that is read of their tables; of one there was never a row, and no index is to be made.
    let truncates =
        ["ledger", "unwritten", "order_items"].map(|table| format!("TRUNCATE TABLE `{schema}`.{table}"));
    mysql::execute(&url, truncates).await?;
    stage.relay.start()?;
    let compared = stage.agree(SOON).await?;
    eprintln!("{compared}");
    ensure!(stage.engine.count(&format!("{schema}.ledger")).await? == 0);
    // And rows go on in the swept index.
    mysql::execute(&url, rows(&schema, 1, 0..10)).await?;
    stage.agree(SOON).await?;
    stage.clear().await
}

#[tokio::test]
async fn fault_58_a_truncate_of_a_temporary_table_takes_no_documents() -> Result<()> {
    let mut stage = Stage::set("fault_58_a_truncate_of_a_temporary_table_takes_no_documents", 100).await?;
    stage.relay.start()?;
    let statements = [
        format!("USE `{}`", stage.shop.schema),
        // In row format it is not in the binlog at all.
        "SET SESSION binlog_format = 'STATEMENT'".to_owned(),
        "CREATE TEMPORARY TABLE order_items (id INT)".to_owned(),
        "TRUNCATE TABLE order_items".to_owned(),
        "DROP TEMPORARY TABLE order_items".to_owned(),
    ];
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    stage.agree(SOON).await?;
    let items = stage.engine.count(&format!("{}.order_items", stage.shop.schema)).await?;
    ensure!(items == stage.scale.items, "{items} items are left of {}", stage.scale.items);
    stage.clear().await
}
