//! `everrelay diff` beside a running relay, at rest and in a storm.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use support::servers::{Database, Servers};
use support::specimens::{KEYS, MARIADB_SPECIMENS, SPECIMENS, specimens_of};
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(60);

async fn diff(stage: &Stage, table: &str, more: &[&str]) -> Result<(i32, Value)> {
    let table = format!("{}.{table}", stage.shop.schema);
    let (code, out, complaint) = stage.command(&[&["diff", &table, "--json"], more].concat()).await?;
    let found = serde_json::from_str(&out).with_context(|| format!("exit code {code}: {out}{complaint}"))?;
    Ok((code, found))
}

#[tokio::test]
async fn diff_names_and_repairs_what_was_lost_changed_and_added_and_nothing_that_the_relay_has_yet_to_carry()
-> Result<()> {
    let test =
        "diff_names_and_repairs_what_was_lost_changed_and_added_and_nothing_that_the_relay_has_yet_to_carry";
    names_and_repairs(Stage::set(test, 3_000).await?).await
}

#[tokio::test]
async fn diff_names_and_repairs_the_same_at_mariadb() -> Result<()> {
    let test = "diff_names_and_repairs_the_same_at_mariadb";
    names_and_repairs(Stage::set_with(Database::Mariadb, test, 3_000).await?).await
}

#[tokio::test]
async fn diff_names_and_repairs_the_same_where_transactions_have_no_gtids() -> Result<()> {
    let test = "diff_names_and_repairs_the_same_where_transactions_have_no_gtids";
    names_and_repairs(Stage::set_on(Servers::without_gtids, test, 3_000).await?).await
}

async fn names_and_repairs(mut stage: Stage) -> Result<()> {
    stage.relay.start()?;
    stage.agree(SOON).await?;
    let storm = stage.workload(Some(100));
    let (code, found) = diff(&stage, "orders", &[]).await?;
    ensure!(code == 0 && found["relay"] == true && found["behind"] == false, "{found}");
    storm.stop().await?;
    stage.agree(SOON).await?;

    let (code, found) = diff(&stage, "customers", &[]).await?;
    ensure!(code == 0 && found["rows"] == found["documents"], "{found}");
    let alias = format!("{}.customers", stage.shop.schema);
    let mut ids = Vec::new();
    stage
        .engine
        .scan(&alias, |hit| {
            ids.push(hit.id);
            Ok(())
        })
        .await?;
    ids.sort();
    let path = |id: &str| format!("/{alias}-000001/_doc/{id}");
    let empty = || Some("{}".to_owned());
    // By others, without a version of their own: it rises by one.
    stage.engine.demand(Method::DELETE, &path(&ids[2]), None).await?;
    stage.engine.demand(Method::PUT, &path(&ids[4]), empty()).await?;
    let (code, found) = diff(&stage, "customers", &["--repair"]).await?;
    ensure!(code == 0 && found["missing"]["count"] == 1 && found["stale"]["count"] == 1, "{code}: {found}");
    ensure!(found["repair"]["read"] == "the rows around what differs", "{found}");
    ensure!(found["repair"]["left"]["stale"]["count"] == 0, "{found}");
    let known: Value = serde_json::from_str(&stage.engine.demand(Method::GET, &path(&ids[0]), None).await?)?;
    let version = known["_version"].as_u64().context("a version")?;
    let extra = format!("{}?version_type=external&version={version}", path("somebody"));
    stage.engine.demand(Method::PUT, &extra, empty()).await?;
    stage.engine.demand(Method::DELETE, &path(&ids[2]), None).await?;
    let (code, found) = diff(&stage, "customers", &["--repair"]).await?;
    ensure!(code == 0 && found["missing"]["count"] == 1 && found["extra"]["count"] == 1, "{code}: {found}");
    ensure!(found["repair"]["read"] == "the whole table", "{found}");
    stage.agree(SOON).await?;

    let newer = "version_type=external&version=9000000000000000000";
    stage.engine.demand(Method::DELETE, &format!("{}?{newer}", path(&ids[3])), None).await?;
    stage.engine.demand(Method::PUT, &format!("{}?{newer}", path(&ids[5])), empty()).await?;
    stage.engine.demand(Method::PUT, &format!("{}?{newer}", path("nobody")), empty()).await?;

    let (code, found) = diff(&stage, "customers", &[]).await?;
    ensure!(code == 6, "{code}: {found}");
    for (kind, id) in [("missing", &*ids[3]), ("stale", &*ids[5]), ("extra", "nobody")] {
        ensure!(found[kind]["count"] == 1 && found[kind]["ids"][0] == id, "{kind} {id}: {found}");
    }
    let (code, found) = diff(&stage, "orders", &["--sample", "100"]).await?;
    ensure!(code == 0 && found["documents"].is_null() && found["rows"].as_u64() >= Some(100), "{found}");
    stage.clear().await
}

/// A document by its members, each as it is written.
type Members = BTreeMap<String, Box<RawValue>>;

/// The table's documents by their ids, once there are so many and the relay has nothing more to do.
async fn documents(stage: &mut Stage, table: &str, count: usize) -> Result<BTreeMap<String, Members>> {
    let (engine, alias) = (stage.engine.clone(), format!("{}.{table}", stage.shop.schema).to_lowercase());
    eventually(&format!("the documents of {table}"), SOON, async || {
        // 503 while the shards of a new index are not there.
        Ok(engine.count(&alias).await.ok().filter(|found| *found == count as u64))
    })
    .await?;
    stage.relay.until_settled(SOON).await?;
    #[derive(Deserialize)]
    struct Page {
        hits: Hits,
    }
    #[derive(Deserialize)]
    struct Hits {
        hits: Vec<Hit>,
    }
    #[derive(Deserialize)]
    struct Hit {
        _id: String,
        _source: Members,
    }
    // Vectors are left out unless they are asked for.
    let page = format!("/{alias}/_search?_source_exclude_vectors=false&size=1000");
    let page: Page = serde_json::from_str(&engine.demand(Method::GET, &page, None).await?)?;
    ensure!(page.hits.hits.len() == count, "{} hits, of {count}", page.hits.hits.len());
    Ok(page.hits.hits.into_iter().map(|hit| (hit._id, hit._source)).collect())
}

/// Writes these documents by hand, and deletes those that are `None`, without versions.
async fn by_hand(stage: &Stage, table: &str, documents: &[(&str, Option<&Members>)]) -> Result<()> {
    let index = format!("{}.{table}-000001", stage.shop.schema).to_lowercase();
    let mut lines = String::new();
    for (id, members) in documents {
        match members {
            Some(members) => {
                let index = json!({"index": {"_id": id}});
                lines += &format!("{index}\n{}\n", serde_json::to_string(members)?);
            }
            None => lines += &format!("{}\n", json!({"delete": {"_id": id}})),
        }
    }
    let answer = stage.engine.demand(Method::POST, &format!("/{index}/_bulk"), Some(lines)).await?;
    ensure!(serde_json::from_str::<Value>(&answer)?["errors"] == false, "{answer}");
    Ok(())
}

fn ids(kind: &Value) -> Vec<&str> {
    let mut ids: Vec<&str> = kind["ids"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn diff_sees_every_type_of_column_and_none_that_is_as_its_row() -> Result<()> {
    let test = "diff_sees_every_type_of_column_and_none_that_is_as_its_row";
    let vector: &[&str] = &["STRING_TO_VECTOR('[1, 2.5, -0.1]')", "STRING_TO_VECTOR('[0, 1e-30, 16777216]')"];
    let specimens = [SPECIMENS, &[("VECTOR(3)", vector)]].concat();
    sees_every_type(Stage::set(test, 0).await?, &specimens).await
}

#[tokio::test]
async fn diff_sees_every_type_of_column_at_mariadb_too() -> Result<()> {
    let vector: &[&str] = &["VEC_FromText('[1, 2.5, -0.1]')", "VEC_FromText('[0, 1e-30, 16777216]')"];
    let specimens = [SPECIMENS, MARIADB_SPECIMENS, &[("VECTOR(3)", vector)]].concat();
    let test = "diff_sees_every_type_of_column_at_mariadb_too";
    sees_every_type(Stage::set_with(Database::Mariadb, test, 0).await?, &specimens).await
}

/// Beside the rows with the values at the edges, one for each column, in whose document that column will be altered.
async fn sees_every_type(mut stage: Stage, specimens: &[(&str, &[&str])]) -> Result<()> {
    let mut statements = specimens_of(&stage.shop.schema, specimens);
    let edges = statements.len() - 2;
    let values: Vec<String> = specimens
        .iter()
        .map(|(_, values)| match values[0] {
            long if long.starts_with("REPEAT") => format!("LEFT({long}, 20)"),
            value => value.to_owned(),
        })
        .collect();
    let rows: Vec<String> =
        (0..=specimens.len()).map(|n| format!("({}, {})", 1000 + n, values.join(", "))).collect();
    statements.push(format!("INSERT INTO `{}`.specimens VALUES {}", stage.shop.schema, rows.join(", ")));
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    stage.relay.start()?;
    let mut before = documents(&mut stage, "specimens", edges + rows.len()).await?;
    let (code, found) = diff(&stage, "specimens", &[]).await?;
    ensure!(
        code == 0 && found["rows"] == before.len() && found["documents"] == before.len(),
        "{code}: {found}"
    );

    let mut altered = Vec::new();
    for (n, (data_type, _)) in specimens.iter().enumerate() {
        let id = (1000 + n).to_string();
        let members = before.get_mut(&id).context("a document")?;
        let member = members.get_mut(&format!("c{n:02}")).context("a member")?;
        ensure!(member.get() != "null", "{data_type}: {members:?}");
        *member = RawValue::from_string("null".to_owned())?;
        altered.push(id);
    }
    // One is written as it is, with its members in another order.
    let same = (1000 + specimens.len()).to_string();
    let written = altered.iter().chain([&same]).map(|id| (&**id, before.get(id))).collect::<Vec<_>>();
    by_hand(&stage, "specimens", &written).await?;
    let (code, found) = diff(&stage, "specimens", &["--keys", "1000"]).await?;
    ensure!(code == 6, "{code}: {found}");
    let stale = ids(&found["stale"]);
    let unseen = altered.iter().zip(specimens).filter(|(id, _)| !stale.contains(&id.as_str()));
    let unseen: Vec<_> = unseen.map(|(_, (data_type, _))| data_type).collect();
    ensure!(unseen.is_empty(), "not seen: {unseen:?}");
    ensure!(found["stale"]["count"] == altered.len(), "{found}");
    ensure!(found["missing"]["count"] == 0 && found["extra"]["count"] == 0, "{found}");
    let (code, found) = diff(&stage, "specimens", &["--repair"]).await?;
    ensure!(code == 0 && found["repair"]["left"]["stale"]["count"] == 0, "{code}: {found}");
    stage.clear().await
}

#[tokio::test]
async fn diff_finds_documents_by_keys_of_every_kind() -> Result<()> {
    finds_by_every_key(Stage::set("diff_finds_documents_by_keys_of_every_kind", 0).await?).await
}

#[tokio::test]
async fn diff_finds_documents_by_keys_of_every_kind_at_mariadb_too() -> Result<()> {
    let test = "diff_finds_documents_by_keys_of_every_kind_at_mariadb_too";
    finds_by_every_key(Stage::set_with(Database::Mariadb, test, 0).await?).await
}

async fn finds_by_every_key(mut stage: Stage) -> Result<()> {
    let mut statements = Vec::new();
    for (name, columns, rows) in KEYS {
        statements.push(format!("CREATE TABLE `{}`.{name} ({columns})", stage.shop.schema));
        statements.push(format!("INSERT INTO `{}`.{name} VALUES ({})", stage.shop.schema, rows.join("), (")));
    }
    mysql::execute(&stage.shop.mysql_url, statements).await?;
    stage.relay.start()?;
    let empty = Members::new();
    for (name, _, rows) in KEYS {
        let before = documents(&mut stage, name, rows.len()).await?;
        let (code, found) = diff(&stage, name, &[]).await?;
        ensure!(
            code == 0 && found["rows"] == rows.len() && found["documents"] == rows.len(),
            "{name}: {found}"
        );
        let all: Vec<&str> = before.keys().map(String::as_str).collect();
        let (deleted, altered) = (all[0], *all.last().context("a document")?);
        by_hand(&stage, name, &[(deleted, None), (altered, Some(&empty))]).await?;
        // What is no document of ours at all nobody deletes.
        let alias = format!("/{}.{name}", stage.shop.schema).to_lowercase();
        let search = json!({"version": true, "size": 1}).to_string();
        let hit = stage.engine.demand(Method::POST, &format!("{alias}/_search"), Some(search)).await?;
        let version = serde_json::from_str::<Value>(&hit)?["hits"]["hits"][0]["_version"].to_string();
        let extra = format!("{alias}-000001/_doc/somebody?version_type=external&version={version}");
        stage.engine.demand(Method::PUT, &extra, Some("{}".to_owned())).await?;
        let (code, found) = diff(&stage, name, &["--repair"]).await?;
        let kinds = ["missing", "stale", "extra"].map(|kind| ids(&found[kind]));
        ensure!(kinds == [vec![deleted], vec![altered], vec!["somebody"]], "{name}: {found}");
        ensure!(code == 0, "{name}: {code}: {found}");
        let again = documents(&mut stage, name, rows.len()).await?;
        let is_same = |(id, members): (&String, &Members)| {
            again.get(id).map(serde_json::to_string).transpose().ok().flatten()
                == serde_json::to_string(members).ok()
        };
        ensure!(before.iter().all(is_same), "{name}: {before:?}, {again:?}");
    }
    stage.clear().await
}
