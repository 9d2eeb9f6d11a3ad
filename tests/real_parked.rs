//! Documents that a real engine refuses: parked, shown, sent again, forgotten, over kills and limits.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::Value;
use support::relay::relay_binary;
use support::servers::Servers;
use support::stage::Stage;
use support::{ensure_says, eventually, mysql};
use tokio::process::Command;

const SOON: Duration = Duration::from_secs(60);

/// Nothing of it may be said unless it is asked for.
const CANARY: &str = "canary-alice";

/// Adds a table with a JSON column, which nobody but the test writes to.
async fn add_papers(stage: &Stage) -> Result<()> {
    let create =
        format!("CREATE TABLE `{}`.papers (id VARCHAR(40) PRIMARY KEY, meta JSON)", stage.shop.schema);
    mysql::execute(&stage.shop.mysql_url, [create]).await
}

async fn write(stage: &Stage, statements: &[&str]) -> Result<()> {
    let table = format!("`{}`.papers", stage.shop.schema);
    mysql::execute(&stage.shop.mysql_url, statements.iter().map(|s| s.replace("papers", &table))).await
}

/// Runs `everrelay parked …`; its exit code, what it printed, and what it complained of.
async fn parked(stage: &Stage, arguments: &[&str]) -> Result<(i32, String, String)> {
    stage.command(&[&["parked"], arguments].concat()).await
}

/// What `parked ls --show` lists: by document, the record and how often it was refused.
async fn listed(stage: &Stage) -> Result<Vec<(String, u64, u64)>> {
    let (code, text, error) = parked(stage, &["ls", "--show", "--json"]).await?;
    ensure!(code == 0, "{code}: {error}");
    let mut listed = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line)?;
        let id = line["id"].as_str().context("an id")?.to_owned();
        let record = line["record"].as_u64().context("a record")?;
        listed.push((id, record, line["attempts"].as_u64().context("attempts")?));
    }
    listed.sort();
    Ok(listed)
}

async fn ids(stage: &Stage) -> Result<Vec<String>> {
    Ok(listed(stage).await?.into_iter().map(|(id, ..)| id).collect())
}

/// Waits until just these documents' changes are parked.
async fn until_parked(stage: &mut Stage, wanted: &[&str]) -> Result<()> {
    stage.relay.until_settled(SOON).await?;
    let stage = &*stage;
    eventually("the documents are parked", SOON, async || Ok((ids(stage).await? == wanted).then_some(())))
        .await
}

async fn meta(stage: &Stage, id: &str) -> Result<Option<Value>> {
    let document = stage.engine.document(&format!("{}.papers", stage.shop.schema), id).await?;
    Ok(document
        .map(|text| serde_json::from_str::<Value>(&text))
        .transpose()?
        .map(|value| value["meta"].clone()))
}

/// What an operator does who wants texts taken where numbers were.
async fn mend_the_mapping(stage: &Stage) -> Result<()> {
    let path = format!("/{}.papers/_mapping", stage.shop.schema);
    let body = r#"{"properties":{"meta":{"properties":{"a":{"type":"long","ignore_malformed":true}}}}}"#;
    let (status, text) = stage.engine.ask(Method::PUT, &path, Some(body.to_owned())).await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(())
}

#[tokio::test]
async fn fault_34_what_the_mapping_refuses_is_parked_and_comes_in_when_it_is_mended() -> Result<()> {
    let test = "fault_34_what_the_mapping_refuses_is_parked_and_comes_in_when_it_is_mended";
    what_is_refused_holds_nothing_up(Stage::set(test, 500).await?).await
}

#[tokio::test]
async fn fault_34_what_opensearch_refuses_is_parked_and_comes_in_when_it_is_mended() -> Result<()> {
    let test = "fault_34_what_opensearch_refuses_is_parked_and_comes_in_when_it_is_mended";
    what_is_refused_holds_nothing_up(Stage::set_on(Servers::with_opensearch, test, 500).await?).await
}

async fn what_is_refused_holds_nothing_up(mut stage: Stage) -> Result<()> {
    add_papers(&stage).await?;
    stage.relay.start()?;
    let insert = format!(
        r#"INSERT INTO papers VALUES ('good', '{{"a": 1}}'), ('text', '{{"a": "{CANARY}"}}'), ('scalar', '7'),
           ('mixed', '{{"a": [1, {{"b": 2}}]}}'), ('{CANARY}', '"{CANARY}"'), ('later', '{{"a": 5}}')"#
    );
    write(&stage, &["INSERT INTO papers VALUES ('first', '{\"a\": 1}')", &insert]).await?;
    until_parked(&mut stage, &[CANARY, "mixed", "scalar", "text"]).await?;
    ensure!(meta(&stage, "good").await?.is_some() && meta(&stage, "later").await?.is_some());
    ensure!(meta(&stage, "text").await?.is_none() && meta(&stage, "scalar").await?.is_none());

    // Seen by whoever looks, and no obstacle.
    stage.relay.until_ready_is(200, SOON).await?;
    ensure!(stage.relay.metric("everrelay_parked").await? == 4.0);
    let status: Value = serde_json::from_str(&stage.relay.get("/status").await?.1)?;
    ensure!(
        status["pipeline"]["sinks"][0]["parked"][0]["table"] == format!("{}.papers", stage.shop.schema),
        "{status}"
    );
    let listed_now = listed(&stage).await?;
    let record = |id: &str| -> Result<String> {
        let found = listed_now.iter().find(|(listed, ..)| listed == id).context("it is listed")?;
        Ok(found.1.to_string())
    };
    let (_, shown, _) = parked(&stage, &["show", &record("text")?, "--show", "--json"]).await?;
    let shown: Value = serde_json::from_str(&shown)?;
    ensure!(shown["body"]["meta"]["a"] == CANARY && shown["operation"] == "insert", "{shown}");
    for arguments in
        [&["ls"][..], &["ls", "--json"], &["show", &record("text")?], &["show", &record("text")?, "--json"]]
    {
        let (code, text, error) = parked(&stage, arguments).await?;
        ensure!(
            code == 0 && text.contains("papers") && text.contains("parsing_exception"),
            "{code}: {text}{error}"
        );
        ensure!(
            !text.contains(CANARY) && !error.contains(CANARY),
            "{arguments:?} shows a row's value: {text}"
        );
    }

    // Refused again, it stays.
    let (code, told, _) = parked(&stage, &["retry", "--all"]).await?;
    ensure!(code == 0 && told.matches("refused again").count() == 4 && !told.contains(CANARY), "{told}");
    ensure!(listed(&stage).await?.iter().all(|(_, _, attempts)| *attempts == 2));

    // Newer changes settle it: a good one, and a delete.
    write(
        &stage,
        &[
            "UPDATE papers SET meta = '{\"a\": 7}' WHERE id = 'scalar'",
            "DELETE FROM papers WHERE id = 'mixed'",
        ],
    )
    .await?;
    until_parked(&mut stage, &[CANARY, "text"]).await?;
    ensure!(meta(&stage, "scalar").await? == Some(serde_json::json!({"a": 7})));
    ensure!(meta(&stage, "mixed").await?.is_none());
    let (code, _, error) = parked(&stage, &["retry", &record("scalar")?]).await?;
    ensure!(code == 2 && error.contains("nothing of this is parked"), "{code}: {error}");

    mend_the_mapping(&stage).await?;
    let table = format!("{}.papers", stage.shop.schema);
    let (code, told, _) = parked(&stage, &["retry", &table]).await?;
    ensure!(code == 0 && told.contains("taken") && told.contains("refused again"), "{told}");
    ensure!(ids(&stage).await? == [CANARY], "a bare scalar is no object, whatever its fields are");
    ensure!(meta(&stage, "text").await? == Some(serde_json::json!({"a": CANARY})));
    let (code, told, _) = parked(&stage, &["drop", &record(CANARY)?]).await?;
    ensure!(code == 2 && ids(&stage).await?.len() == 1, "dropped without --yes: {told}");
    let (code, told, _) = parked(&stage, &["drop", &record(CANARY)?, "--yes"]).await?;
    ensure!(code == 0 && told.contains("dropped"), "{told}");
    let (_, text, _) = parked(&stage, &["ls"]).await?;
    ensure!(text.trim() == "nothing is parked", "{text}");
    ensure!(stage.relay.metric("everrelay_parked").await? == 0.0);
    ensure!(!stage.relay.words().contains(CANARY), "a row's value is in the relay's log");
    stage.clear().await
}

#[tokio::test]
async fn fault_35_a_parked_change_never_comes_after_a_newer_one() -> Result<()> {
    let mut stage = Stage::set("fault_35_a_parked_change_never_comes_after_a_newer_one", 0).await?;
    add_papers(&stage).await?;
    stage.relay.start()?;
    write(&stage, &[
        r#"INSERT INTO papers VALUES ('first', '{"a": 1}'), ('changed', '7'), ('gone', '7'), ('back', '7'), ('truncated', '7')"#,
    ])
    .await?;
    until_parked(&mut stage, &["back", "changed", "gone", "truncated"]).await?;
    // Behind an engine that is away the newer changes and the retry meet.
    stage.relay.kill()?;
    write(
        &stage,
        &[
            r#"UPDATE papers SET meta = '{"a": 2}' WHERE id = 'changed'"#,
            "DELETE FROM papers WHERE id IN ('gone', 'back')",
            r#"INSERT INTO papers VALUES ('back', '8')"#,
        ],
    )
    .await?;
    stage.relay.start()?;
    eventually("the relay takes orders", SOON, async || {
        Ok((parked(&stage, &["retry", "--all"]).await?.0 == 0).then_some(()))
    })
    .await?;
    until_parked(&mut stage, &["back", "truncated"]).await?;
    parked(&stage, &["retry", "--all"]).await?;
    ensure!(meta(&stage, "changed").await? == Some(serde_json::json!({"a": 2})));
    ensure!(meta(&stage, "gone").await?.is_none() && meta(&stage, "back").await?.is_none());
    let (_, text, _) = parked(&stage, &["ls", "--json"]).await?;
    ensure!(text.lines().count() == 2, "{text}");
    write(&stage, &["TRUNCATE TABLE papers", r#"INSERT INTO papers VALUES ('first', '{"a": 3}')"#]).await?;
    until_parked(&mut stage, &[]).await?;
    ensure!(meta(&stage, "first").await? == Some(serde_json::json!({"a": 3})));
    ensure!(stage.engine.count(&format!("{}.papers", stage.shop.schema)).await? == 1);
    stage.clear().await
}

#[tokio::test]
async fn what_is_parked_outlives_kills_and_a_snapshot_spares_its_documents() -> Result<()> {
    let mut stage =
        Stage::set("what_is_parked_outlives_kills_and_a_snapshot_spares_its_documents", 1000).await?;
    add_papers(&stage).await?;
    stage.relay.start()?;
    let workload = stage.workload(Some(100));
    write(&stage, &[r#"INSERT INTO papers VALUES ('00', '{"a": 1}')"#]).await?;
    let mut refused = Vec::new();
    for round in 1..=8_u32 {
        for i in 0..10 {
            let id = format!("{round}{i}");
            let good = (round + i) % 3 != 0;
            let meta = if good { format!(r#"{{"a": {i}}}"#) } else { i.to_string() };
            write(&stage, &[&format!("INSERT INTO papers VALUES ('{id}', '{meta}')")]).await?;
            refused.extend(Some(id).filter(|_| !good));
        }
        // Wherever it is by now.
        stage.relay.kill()?;
        stage.relay.start()?;
    }
    workload.stop().await?;
    let wanted: Vec<&str> = refused.iter().map(String::as_str).collect();
    until_parked(&mut stage, &wanted).await?;
    let alias = format!("{}.papers", stage.shop.schema);
    ensure!(stage.engine.count(&alias).await? == 81 - refused.len() as u64);

    // An older document of a row that is refused stays with a snapshot; one without a row goes, and what is parked of it.
    write(&stage, &["UPDATE papers SET meta = '7' WHERE id = '00'"]).await?;
    let without_a_row = refused.remove(0);
    let delete = format!("DELETE FROM papers WHERE id = '{without_a_row}'");
    write(&stage, &["SET SESSION sql_log_bin = 0", &delete, "SET SESSION sql_log_bin = 1"]).await?;
    let mut command = Command::new(relay_binary());
    command.args(["snapshot", &alias, "--config"]).arg(stage.relay.config_file());
    let output = command.output().await?;
    ensure!(output.status.success(), "{output:?}");
    let wanted: Vec<&str> = ["00"].into_iter().chain(refused.iter().map(String::as_str)).collect();
    until_parked(&mut stage, &wanted).await?;
    let seen = &stage;
    eventually("the snapshot's sweep has ended", SOON, async || {
        let status: Value = serde_json::from_str(&seen.relay.get("/status").await?.1)?;
        let pipeline = &status["pipeline"];
        let lists = [&pipeline["sinks"][0]["swept"], &pipeline["snapshots"]];
        let none = lists.iter().all(|list| list.as_array().is_some_and(Vec::is_empty));
        Ok(none.then_some(()))
    })
    .await?;
    ensure!(
        meta(&stage, "00").await? == Some(serde_json::json!({"a": 1})),
        "the row is there, and its newest state is parked"
    );

    // Without a relay it is listed and dropped, but not sent.
    stage.relay.signal(rustix::process::Signal::TERM)?;
    stage.relay_ends_with(0, SOON).await?;
    ensure!(ids(&stage).await? == wanted);
    let (code, _, error) = parked(&stage, &["retry", "--all"]).await?;
    ensure!(code == 1 && error.contains("no relay runs"), "{code}: {error}");
    let (code, told, error) = parked(&stage, &["drop", &alias, "--yes"]).await?;
    ensure!(code == 0 && told.lines().count() == wanted.len(), "{code}: {told}{error}");
    stage.relay.start()?;
    stage.relay.until_settled(SOON).await?;
    ensure!(ids(&stage).await?.is_empty());
    stage.clear().await
}

#[tokio::test]
async fn over_its_limit_the_relay_stops_before_the_change_and_goes_on_from_it() -> Result<()> {
    let mut stage =
        Stage::set("over_its_limit_the_relay_stops_before_the_change_and_goes_on_from_it", 0).await?;
    add_papers(&stage).await?;
    stage.relay.options.more = "[parked]\nchanges = 2\n".to_owned();
    stage.relay.write_config()?;
    stage.relay.start()?;
    write(&stage, &[r#"INSERT INTO papers VALUES ('first', '{"a": 1}'), ('p1', '7'), ('p2', '7')"#]).await?;
    until_parked(&mut stage, &["p1", "p2"]).await?;
    // In the place of one that is parked another has room.
    write(&stage, &["UPDATE papers SET meta = '8' WHERE id = 'p1'"]).await?;
    stage.relay.until_settled(SOON).await?;
    write(&stage, &[r#"INSERT INTO papers VALUES ('p3', '7'), ('last', '{"a": 1}')"#]).await?;
    let words = stage.relay_ends_with(4, SOON).await?;
    ensure_says(&words, &["[parked] changes allows 2", "everrelay parked ls"])?;
    ensure!(ids(&stage).await? == ["p1", "p2"]);
    stage.relay.start()?;
    stage.relay_ends_with(4, SOON).await?;
    let (_, record, _) = listed(&stage).await?.remove(0);
    let (code, told, error) = parked(&stage, &["drop", &record.to_string(), "--yes"]).await?;
    ensure!(code == 0, "{code}: {told}{error}");
    stage.relay.start()?;
    until_parked(&mut stage, &["p2", "p3"]).await?;
    ensure!(meta(&stage, "last").await?.is_some());
    stage.clear().await
}

async fn demand(
    stage: &Stage,
    index: &str,
    (method, path, body): (Method, &str, Option<String>),
) -> Result<()> {
    let (status, text) = stage.engine.ask(method, &format!("{index}{path}"), body).await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(())
}

#[tokio::test]
async fn fault_36_an_index_that_is_blocked_or_closed_is_waited_for_and_nothing_is_parked() -> Result<()> {
    let test = "fault_36_an_index_that_is_blocked_or_closed_is_waited_for_and_nothing_is_parked";
    let mut stage = Stage::set(test, 500).await?;
    add_papers(&stage).await?;
    stage.relay.start()?;
    write(&stage, &[r#"INSERT INTO papers VALUES ('first', '{"a": 1}')"#]).await?;
    eventually("the index is there", SOON, async || {
        Ok(meta(&stage, "first").await.unwrap_or_default().map(drop))
    })
    .await?;
    until_parked(&mut stage, &[]).await?;
    let index = format!("/{}.papers-000001", stage.shop.schema);
    let settings = |value: &str| format!(r#"{{"index.blocks.read_only_allow_delete": {value}}}"#);
    let steps = [
        [
            (Method::PUT, "/_settings", Some(settings("true"))),
            (Method::PUT, "/_settings", Some(settings("null"))),
        ],
        [(Method::POST, "/_close", None), (Method::POST, "/_open", None)],
    ];
    for (round, [wrong, right]) in steps.into_iter().enumerate() {
        demand(&stage, &index, wrong).await?;
        let id = format!("waits{round}");
        write(&stage, &[&format!(r#"INSERT INTO papers VALUES ('{id}', '{{"a": 2}}')"#)]).await?;
        let why = stage.relay.until_ready_is(503, SOON).await?;
        ensure!(why.contains("sink: ") && !why.contains(CANARY), "{why}");
        ensure!(ids(&stage).await?.is_empty(), "parked behind {why}");
        demand(&stage, &index, right).await?;
        stage.relay.until_ready_is(200, SOON).await?;
        until_parked(&mut stage, &[]).await?;
        ensure!(meta(&stage, &id).await?.is_some());
    }
    stage.clear().await
}
