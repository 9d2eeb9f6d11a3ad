//! Repair. A log that the disk damaged: the relay refuses it, a check names the place and the cut, and after the cut table and index are equal. Documents that somebody else
//! altered, took away or brought back: a replay makes them what their rows are.

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use everrelay::disk::SystemDisk;
use everrelay::log::record::{Commit, Kind};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use support::compare::compare;
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(60);

/// Runs `everrelay log …`; its exit code, what it printed, and what it complained of.
async fn log_command(stage: &Stage, arguments: &[&str]) -> Result<(i32, String, String)> {
    stage.command(&[&["log"], arguments].concat()).await
}

/// The highest offset of the last segment that a commit in it says was synced; in its state, if it has no commit.
fn synced(log: &Path) -> Result<u64> {
    let log = everrelay::log::read_only(&SystemDisk, log)?.log;
    let last = log.segments().last().context("no segment")?.first;
    let (mut reader, mut synced) = (log.reader(last)?, 100);
    while let Some(frame) = reader.next_frame()? {
        if frame.kind == Kind::Commit {
            synced = u64::from_le_bytes(Commit::decode(frame.payload)?.synced.0);
        }
    }
    Ok(synced)
}

fn flip(path: &Path, at: u64) -> Result<()> {
    let mut bytes = fs::read(path)?;
    let byte = bytes.get_mut(usize::try_from(at)?).context("the segment is shorter")?;
    *byte ^= 0x20;
    Ok(fs::write(path, bytes)?)
}

async fn drained(stage: &mut Stage) -> Result<()> {
    stage.relay.signal(Signal::TERM)?;
    stage.relay_ends_with(0, SOON).await?;
    Ok(())
}

#[tokio::test]
async fn a_log_with_a_flipped_byte_is_refused_checked_cut_and_table_and_index_agree() -> Result<()> {
    let mut stage =
        Stage::set("a_log_with_a_flipped_byte_is_refused_checked_cut_and_table_and_index_agree", 1000)
            .await?;
    stage.relay.options.segment_bytes = Some(64 << 10);
    stage.relay.write_config()?;
    stage.relay.start()?;
    let workload = stage.workload(None);
    tokio::time::timeout(SOON, async {
        while workload.totals.transactions() < 500 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await?;
    workload.stop().await?;
    stage.agree(SOON).await?;
    let (code, text, _) = log_command(&stage, &["verify", "--deep"]).await?;
    ensure!(code == 0, "beside the relay: {text}");
    drained(&mut stage).await?;

    // The newest segment first, which an opening reads; then one from the middle, which it does not.
    let log = stage.relay.state_dir().join("main/log");
    for newest in [true, false] {
        let segments = stage.relay.segments()?;
        ensure!(segments.len() > 4, "{segments:?}");
        let damaged =
            if newest { segments.last().context("no segment")? } else { &segments[segments.len() / 2] };
        let at = if newest { synced(&log)? - 1 } else { fs::metadata(damaged)?.len() / 2 };
        flip(damaged, at)?;
        let name = damaged.file_name().and_then(|name| name.to_str()).context("UTF-8")?;
        if newest {
            stage.relay.start()?;
            let words = stage.relay_ends_with(5, SOON).await?;
            ensure!(words.contains(name) && words.contains("everrelay log verify"), "{words}");
            ensure!(words.contains("everrelay log cut --after"), "{words}");
        }
        let (code, text, _) = log_command(&stage, &["verify", "--json"]).await?;
        let lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let (summary, findings) = lines.split_last().context("no summary")?;
        let finding = findings.iter().find(|finding| finding["damage"] == true).context("no finding")?;
        let place = finding["path"].as_str().is_some_and(|path| path.ends_with(name));
        let before = finding["offset"].as_u64().is_some_and(|offset| offset <= at);
        ensure!(code == 5 && place && before && summary["opens"] == !newest, "{code}: {text}");
        let after = summary["cut_after"].as_u64().context("no way out")?.to_string();

        // What happens meanwhile, and what was sent from what goes, are both outranked by what is read again.
        let schema = &stage.shop.schema;
        let changes = [
            format!("DELETE FROM `{schema}`.order_items LIMIT 50"),
            format!("UPDATE `{schema}`.orders SET note = 'after the cut' LIMIT 50"),
        ];
        mysql::execute(&stage.shop.mysql_url, changes).await?;
        let (code, text, error) = log_command(&stage, &["cut", "--after", &after, "--yes"]).await?;
        ensure!(code == 0 && text.contains("cursor") && text.contains("goes on"), "{code}: {text}{error}");
        let (code, text, _) = log_command(&stage, &["verify", "--deep"]).await?;
        ensure!(code == 0, "{text}");
        stage.relay.start()?;
        stage.agree(SOON).await?;
        drained(&mut stage).await?;
    }
    stage.clear().await
}

/// What somebody does to a document of `parts` who does not ask the relay, at a version that the engine takes.
async fn tamper(stage: &Stage, method: Method, id: &str, body: Option<&str>) -> Result<()> {
    let path = format!("/{}.parts/_doc/{id}", stage.shop.schema);
    let at = |version: u64| format!("{path}?refresh=true&version_type=external_gte&version={version}");
    // The engine says which version there is, of a deleted document too.
    let (status, text) = stage.engine.ask(Method::PUT, &at(1), Some("{}".to_owned())).await?;
    ensure!(status == StatusCode::CONFLICT, "{status}: {text}");
    let (_, rest) = text.split_once("current version [").context("the version")?;
    let version: u64 = rest.split_once(']').context("its end")?.0.parse()?;
    let (status, text) = stage.engine.ask(method, &at(version), body.map(str::to_owned)).await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(())
}

#[tokio::test]
async fn a_replay_mends_what_somebody_else_did_to_documents_and_brings_no_deleted_row_back() -> Result<()> {
    let test = "a_replay_mends_what_somebody_else_did_to_documents_and_brings_no_deleted_row_back";
    let mut stage = Stage::set(test, 0).await?;
    let parts = format!("`{}`.parts", stage.shop.schema);
    let rows: Vec<String> = (1..=20).map(|id| format!("({id}, 'part {id}')")).collect();
    let create = format!("CREATE TABLE {parts} (id INT PRIMARY KEY, note VARCHAR(40))");
    mysql::execute(&stage.shop.mysql_url, [create]).await?;
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    let write = [
        format!("INSERT INTO {parts} VALUES {}", rows.join(", ")),
        format!("UPDATE {parts} SET note = 'newest' WHERE id <= 10"),
        format!("DELETE FROM {parts} WHERE id = 20"),
    ];
    mysql::execute(&stage.shop.mysql_url, write).await?;
    let table = format!("{}.parts", stage.shop.schema);
    eventually("all that was written is in the index", SOON, async || {
        // 503 while the shards of a new index are not there.
        let newest = stage.engine.document(&table, "10").await.ok().flatten();
        let newest = newest.is_some_and(|text| text.contains("newest"));
        let gone = stage.engine.document(&table, "20").await.is_ok_and(|document| document.is_none());
        Ok((newest && gone).then_some(()))
    })
    .await?;
    stage.relay.until_settled(SOON).await?;

    for id in ["1", "11"] {
        tamper(&stage, Method::DELETE, id, None).await?;
    }
    for id in ["2", "20"] {
        tamper(&stage, Method::PUT, id, Some(r#"{"note": "somebody else's"}"#)).await?;
    }
    // With a version of the engine's own, above the row's.
    let path = format!("/{}.parts/_doc/3", stage.shop.schema);
    let (status, text) =
        stage.engine.ask(Method::PUT, &path, Some(r#"{"note": "higher"}"#.to_owned())).await?;
    ensure!(status.is_success(), "{status}: {text}");

    let status: Value = serde_json::from_str(&stage.relay.get("/status").await?.1)?;
    let from = status["pipeline"]["retained_start"].to_string();
    let replay = ["replay", "--from", &from, "--table", &table, "--json"];
    let (code, text, error) = stage.command(&replay).await?;
    ensure!(code == 0, "{code}: {text}{error}");
    let told: Value = serde_json::from_str(&text)?;
    ensure!(told["state"] == "done" && told["indexed"] == 18 && told["deleted"] == 1, "{told}");
    ensure!(told["conflicts"] == 1 && told["parked"] == 0 && told["overtaken"] == 0, "{told}");
    for (id, note) in [("1", "newest"), ("2", "newest"), ("11", "part 11"), ("3", "higher")] {
        let document = stage.engine.document(&table, id).await?.context("a document")?;
        ensure!(document.contains(note), "{id}: {document}");
    }
    ensure!(stage.engine.document(&table, "20").await?.is_none(), "a deleted row is back");
    let (_, text, _) = stage.command(&["status"]).await?;
    ensure!(text.contains("replay 1 of records") && text.contains("1 left as they are"), "{text}");
    let (code, _, error) = stage.command(&["replay", "--cancel"]).await?;
    ensure!(code == 2 && error.contains("no replay goes on"), "{code}: {error}");

    stage.relay.kill()?;
    let (code, _, error) = stage.command(&replay).await?;
    ensure!(code == 1 && error.contains("no relay runs"), "{code}: {error}");
    stage.clear().await
}

/// What somebody does by hand to 400 documents of the table: every second one is deleted, the others are altered.
async fn damage(stage: &Stage, table: &str) -> Result<()> {
    let (engine, alias) = (&stage.engine, format!("/{}.{table}", stage.shop.schema));
    let gc_deletes = async |time: &str| {
        let settings = json!({"index.gc_deletes": time}).to_string();
        engine.demand(Method::PUT, &format!("{alias}/_settings"), Some(settings)).await
    };
    let refresh = async || engine.demand(Method::POST, &format!("{alias}/_refresh"), None).await;
    refresh().await?;
    let search = json!({"size": 400, "version": true, "_source": false}).to_string();
    let page = engine.demand(Method::POST, &format!("{alias}/_search"), Some(search)).await?;
    let page: Value = serde_json::from_str(&page)?;
    let hits = page["hits"]["hits"].as_array().context("hits")?;
    ensure!(hits.len() == 400, "{} hits", hits.len());
    gc_deletes("0s").await?;
    let mut lines = String::new();
    for (n, hit) in hits.iter().enumerate() {
        let id = &hit["_id"];
        if n % 2 == 0 {
            lines += &format!("{}\n", json!({"delete": {"_id": id}}));
        } else {
            let index = json!({"_id": id, "version": hit["_version"], "version_type": "external_gte"});
            lines += &format!("{}\n{}\n", json!({"index": index}), json!({"note": "somebody else's"}));
        }
    }
    let answer = engine.demand(Method::POST, &format!("{alias}/_bulk"), Some(lines)).await?;
    ensure!(serde_json::from_str::<Value>(&answer)?["errors"] == false, "{answer}");
    // Only what the engine has forgotten may come back with the version that it had. It forgets in the order of time.
    let last = hits[398]["_id"].as_str().context("an id")?;
    let probe = format!("{alias}/_doc/{last}?version_type=external_gte&version=1");
    eventually("the engine forgets what was deleted", SOON, async || {
        refresh().await?;
        let (status, _) = engine.ask(Method::PUT, &probe, Some("{}".to_owned())).await?;
        Ok(status.is_success().then_some(()))
    })
    .await?;
    gc_deletes("15m").await?;
    Ok(())
}

/// From the next start on.
fn slow_down(stage: &Stage) -> Result<()> {
    let file = stage.relay.config_file();
    let config = fs::read_to_string(&file)?.replace("[sink]\n", "[sink]\nmax_bytes_per_second = 1000000\n");
    ensure!(config.contains("max_bytes_per_second"), "{config}");
    Ok(fs::write(file, config)?)
}

/// The replay that goes on, or the last one; while the relay starts none.
async fn replay_of(stage: &Stage) -> Result<Option<Value>> {
    let Ok((200, status)) = stage.relay.get("/status").await else { return Ok(None) };
    let mut status: Value = serde_json::from_str(&status)?;
    Ok(Some(status["pipeline"]["sinks"][0]["replay"].take()))
}

#[tokio::test]
async fn a_replay_goes_on_over_kills_beside_live_writes_and_the_log_stays_for_it_beyond_its_time()
-> Result<()> {
    let test = "a_replay_goes_on_over_kills_beside_live_writes_and_the_log_stays_for_it_beyond_its_time";
    let mut stage = Stage::set(test, 30_000).await?;
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let status: Value = serde_json::from_str(&stage.relay.get("/status").await?.1)?;
    let from = status["pipeline"]["retained_start"].to_string();
    let (code, text, error) = stage.command(&["replay", "--from", &from, "--json"]).await?;
    ensure!(code == 0, "{code}: {text}{error}");
    let told: Value = serde_json::from_str(&text)?;
    let all = told["indexed"].as_u64().context("a count")?;
    let micros = |replay: &Value| replay["ended_micros"].as_u64().zip(replay["since_micros"].as_u64());
    let (ended, since) = micros(&told).context("times")?;
    eprintln!("{all} documents sent again in {} ms", (ended - since) / 1000);

    for table in ["order_items", "customers"] {
        damage(&stage, table).await?;
    }
    let tables = stage.tables.iter().map(String::as_str);
    let differs = compare(&stage.shop.mysql_url, &stage.engine, &stage.shop.schema, tables).await?;
    ensure!(differs.differences() == 800, "{differs}");

    // So slow that kills strike in its middle.
    drained(&mut stage).await?;
    slow_down(&stage)?;
    stage.relay.start()?;
    stage.relay.until_ready_is(200, SOON).await?;
    let mut workload = stage.workload(Some(60));
    let (code, text, error) = stage.command(&["replay", "--from", &from, "--no-wait", "--json"]).await?;
    ensure!(code == 0, "{code}: {text}{error}");
    // From here on everything that is settled would go at once.
    stage.relay.options.retention_seconds = Some(0);
    stage.relay.write_config()?;
    slow_down(&stage)?;
    for part in [0.55, 0.7, 0.85] {
        let replay = eventually("the replay is under way", SOON, async || {
            let replay = replay_of(&stage).await?.unwrap_or_default();
            Ok(Some(replay).filter(|replay| {
                replay["state"] != "reading" && replay["part"].as_f64().is_some_and(|done| done >= part)
            }))
        })
        .await?;
        ensure!(replay["state"] == "sending", "it is to be killed in its middle: {replay}");
        stage.relay.kill()?;
        workload.ensure_alive().await?;
        stage.relay.start()?;
    }
    // Whoever asks is told by the relay, once it is there.
    eventually("the relay is there", SOON, async || replay_of(&stage).await).await?;
    let (code, text, _) = stage.command(&["log", "ls", "--json"]).await?;
    let first: Value = serde_json::from_str(text.lines().next().context("a segment")?)?;
    ensure!(code == 0 && first["first"] == status["pipeline"]["retained_start"], "{text}");
    ensure!(first["needed_by"] == json!(["replay"]), "{text}");
    let replay = eventually("the replay has ended", SOON, async || {
        Ok(replay_of(&stage).await?.filter(|replay| replay["ended_micros"].is_u64()))
    })
    .await?;
    let totals = workload.stop().await?;
    eprintln!("{totals:?} meanwhile: {replay}");
    ensure!(replay["state"] == "done" && replay["conflicts"] == 0, "{replay}");
    let sent = replay["indexed"].as_u64().context("a count")?;
    ensure!(sent > all / 2 && sent < all + all / 2, "{sent} of {all} sent, over three kills: {replay}");
    stage.agree(SOON).await?;
    eventually("what was kept for the replay alone goes", SOON, async || {
        let (_, text, _) = stage.command(&["log", "ls", "--json"]).await?;
        Ok((!text.starts_with(&format!("{{\"first\":{from},"))).then_some(()))
    })
    .await?;
    stage.clear().await
}
