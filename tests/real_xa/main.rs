//! XA transactions through the whole relay: what is prepared is not indexed, whatever happens before the decision, and table and index agree.

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use support::servers::Server;
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(30);

/// An XA transaction in a session of its own.
struct Branch {
    conn: Conn,
    xid: String,
}

impl Branch {
    /// Begins it in the stage's schema and carries out `statements`.
    async fn begin(stage: &Stage, name: &str, statements: &[&str]) -> Result<Branch> {
        let conn = mysql::connect(&stage.shop.mysql_url).await?;
        let mut branch = Branch { conn, xid: format!("'{}','{name}'", stage.shop.schema) };
        branch.conn.query_drop(format!("USE `{}`", stage.shop.schema)).await?;
        branch.say("START", "").await?;
        for statement in statements {
            branch.conn.query_drop(*statement).await.with_context(|| (*statement).to_owned())?;
        }
        branch.say("END", "").await?;
        Ok(branch)
    }

    async fn prepared(stage: &Stage, name: &str, statements: &[&str]) -> Result<Branch> {
        let mut branch = Branch::begin(stage, name, statements).await?;
        branch.say("PREPARE", "").await?;
        Ok(branch)
    }

    async fn say(&mut self, verb: &str, more: &str) -> Result<()> {
        let sql = format!("XA {verb} {} {more}", self.xid);
        self.conn.query_drop(&sql).await.context(sql)
    }

    /// Decides it from another session, as whoever recovers it does.
    async fn decide(self, stage: &Stage, verb: &str) -> Result<()> {
        let Branch { conn, xid } = self;
        // The server may be another process by now.
        drop(conn);
        mysql::execute(&stage.shop.mysql_url, [format!("XA {verb} {xid}")]).await
    }
}

/// Two tables with rows, one of them with a unique key beside its own.
async fn with_tables(test: &'static str) -> Result<Stage> {
    let mut stage = Stage::set(test, 0).await?;
    let schema = stage.shop.schema.clone();
    mysql::execute(
        &stage.shop.mysql_url,
        [
            format!("CREATE TABLE `{schema}`.accounts (id INT PRIMARY KEY, mail VARCHAR(20) UNIQUE, balance INT)"),
            format!("CREATE TABLE `{schema}`.moves (id INT, part INT, note TEXT, PRIMARY KEY (id, part))"),
            format!("INSERT INTO `{schema}`.accounts VALUES (1, 'a', 10), (2, 'b', 20), (3, 'c', 30), (4, 'd', 40)"),
            format!("INSERT INTO `{schema}`.moves VALUES (1, 1, 'one'), (2, 1, 'two')"),
        ],
    )
    .await?;
    stage.tables.extend(["accounts".to_owned(), "moves".to_owned()]);
    Ok(stage)
}

/// Key changes, one of them to a key that is free since then, over both tables.
const MOVES: &[&str] = &[
    "UPDATE accounts SET id = 11, mail = 'new' WHERE id = 1",
    "INSERT INTO accounts VALUES (1, 'a', 99)",
    "DELETE FROM accounts WHERE id = 2",
    "UPDATE moves SET id = 7 WHERE id = 1",
    "INSERT INTO moves VALUES (1, 1, 'another')",
];

async fn undecided(stage: &Stage, number: f64) -> Result<()> {
    eventually(&format!("{number} undecided XA transactions"), SOON, async || {
        // It may not have come to answer yet.
        let found = stage.relay.metric("everrelay_source_undecided_xa").await;
        Ok(found.is_ok_and(|found| found == number).then_some(()))
    })
    .await
}

#[tokio::test]
async fn fault_55_prepared_rows_are_indexed_with_xa_commit_and_dropped_with_xa_rollback() -> Result<()> {
    let mut stage = with_tables("fault_55_prepared_rows_are_indexed").await?;
    stage.relay.start()?;
    let first = Branch::prepared(&stage, "first", MOVES).await?;
    let second = ["UPDATE accounts SET balance = 0 WHERE id = 3", "INSERT INTO moves VALUES (9, 9, 'nine')"];
    let second = Branch::prepared(&stage, "second", &second).await?;
    let third = Branch::prepared(&stage, "third", &["DELETE FROM accounts WHERE id = 4"]).await?;
    undecided(&stage, 3.0).await?;
    // A SELECT shows none of it.
    stage.agree(SOON).await?;
    third.decide(&stage, "ROLLBACK").await?;
    second.decide(&stage, "COMMIT").await?;
    stage.agree(SOON).await?;
    // What was locked is changed at once, before and after it is in the index.
    first.decide(&stage, "COMMIT").await?;
    let schema = &stage.shop.schema;
    mysql::execute(
        &stage.shop.mysql_url,
        [
            format!("UPDATE `{schema}`.accounts SET id = 2 WHERE id = 11"),
            format!("DELETE FROM `{schema}`.moves WHERE id = 7"),
        ],
    )
    .await?;
    let mut at_once = Branch::begin(&stage, "at_once", &["UPDATE accounts SET id = 5 WHERE id = 4"]).await?;
    at_once.say("COMMIT", "ONE PHASE").await?;
    stage.agree(SOON).await?;
    eventually("nothing is held any more", SOON, async || {
        Ok((stage.relay.metric("everrelay_log_held_bytes").await? == 0.0).then_some(()))
    })
    .await?;
    stage.clear().await
}

#[tokio::test]
async fn fault_55_kills_and_restarts_of_either_side_between_prepare_and_decision_lose_nothing() -> Result<()>
{
    let mut stage = with_tables("fault_55_kills_and_restarts").await?;
    stage.relay.start()?;
    let counts = Branch::prepared(&stage, "counts", MOVES).await?;
    let gone = Branch::prepared(&stage, "gone", &["DELETE FROM accounts WHERE id = 4"]).await?;
    undecided(&stage, 2.0).await?;
    stage.relay.kill()?;
    let away = Branch::prepared(&stage, "away", &["UPDATE accounts SET balance = 31 WHERE id = 3"]).await?;
    stage.relay.start()?;
    undecided(&stage, 3.0).await?;
    stage.agree(SOON).await?;

    // The stream breaks off, and then the server does.
    let dumps = "SELECT CONCAT('KILL ', GROUP_CONCAT(id)) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'";
    let kill: Option<String> = mysql::one(&stage.shop.mysql_url, dumps).await?;
    let kill = kill.context("the relay reads the binlog")?;
    mysql::execute(&stage.shop.mysql_url, [kill]).await?;
    stage.servers.restart(Server::Mysql).await?;
    gone.decide(&stage, "ROLLBACK").await?;
    counts.decide(&stage, "COMMIT").await?;
    stage.relay.kill()?;
    away.decide(&stage, "COMMIT").await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    undecided(&stage, 0.0).await?;
    stage.clear().await
}

#[tokio::test]
async fn fault_55_a_commit_of_what_was_prepared_before_the_first_start_marks_the_followed_tables()
-> Result<()> {
    let mut stage = with_tables("fault_55_a_commit_of_what_was_prepared_before").await?;
    let before =
        Branch::prepared(&stage, "before", &["UPDATE accounts SET balance = 1 WHERE id = 3"]).await?;
    let dropped =
        Branch::prepared(&stage, "dropped", &["UPDATE accounts SET balance = 1 WHERE id = 4"]).await?;
    stage.relay.options.start = mysql::executed(&stage.shop.mysql_url).await?;
    stage.relay.write_config()?;
    stage.relay.start()?;
    dropped.decide(&stage, "ROLLBACK").await?;
    let beat = support::pulse::Beat::commit(&stage.shop).await?;
    eventually("the pulse", SOON, async || Ok(beat.has_arrived(&stage.engine).await?.then_some(()))).await?;
    let status = async |stage: &Stage| -> Result<String> { Ok(stage.relay.get("/status").await?.1) };
    ensure!(!status(&stage).await?.contains("XA transaction"));

    before.decide(&stage, "COMMIT").await?;
    let told = eventually("the status names the tables", SOON, async || {
        let told = status(&stage).await?;
        Ok(told.contains("accounts").then_some(told))
    })
    .await?;
    for table in ["accounts", "moves", "orders"] {
        ensure!(told.contains(&format!("{}.{table}", stage.shop.schema)), "{table} is not named: {told}");
    }
    ensure!(told.contains("XA transaction X'"), "{told}");
    // It goes on, and remembers.
    stage.relay.kill()?;
    stage.relay.start()?;
    let again = eventually("it answers", SOON, async || Ok(status(&stage).await.ok())).await?;
    ensure!(again.contains("XA transaction X'"), "{again}");
    stage.clear().await
}

#[tokio::test]
async fn fault_55_an_undecided_xa_transaction_keeps_no_segment_and_loses_no_row() -> Result<()> {
    let mut stage = with_tables("fault_55_an_undecided_xa_transaction_keeps_no_segment").await?;
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.options.segment_bytes = Some(256 << 10);
    stage.relay.write_config()?;
    stage.relay.start()?;
    let (schema, url) = (stage.shop.schema.clone(), stage.shop.mysql_url.clone());
    let numbers = "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 1000)";
    mysql::execute(&url, [format!("CREATE TABLE `{schema}`.filler (id INT PRIMARY KEY, text TEXT)")]).await?;
    stage.tables.push("filler".to_owned());
    let held = Branch::prepared(&stage, "held", MOVES).await?;
    let many = format!("INSERT INTO moves {numbers} SELECT n + 1000, 2, REPEAT('x', 200) FROM r");
    let many = Branch::prepared(&stage, "many", &[&many]).await?;
    undecided(&stage, 2.0).await?;
    let oldest = || -> Result<u64> {
        let first = stage.relay.segments()?.swap_remove(0);
        Ok(first.file_stem().and_then(|stem| stem.to_str()).context("UTF-8")?.parse()?)
    };
    let (begun, deadline) = (oldest()?, tokio::time::Instant::now() + SOON);
    for round in 0.. {
        if oldest()? != begun {
            break;
        }
        ensure!(tokio::time::Instant::now() < deadline, "the log's first segment stays, {begun}");
        let rows = format!(
            "REPLACE INTO `{schema}`.filler {numbers} SELECT n, CONCAT(REPEAT('y', 400), {round}) FROM r"
        );
        mysql::execute(&url, [rows]).await?;
    }
    stage.relay.kill()?;
    stage.relay.start()?;
    held.decide(&stage, "COMMIT").await?;
    many.decide(&stage, "COMMIT").await?;
    stage.agree(SOON).await?;
    stage.clear().await
}
