//! Where documents go and how their index is made, by `[[table]]`, through the whole relay.

mod support;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use support::stage::Stage;
use support::{eventually, mysql};

const SOON: Duration = Duration::from_secs(30);

/// Names in the order of their documents' ids, each asked for with its routing; `None` where there is no such document.
async fn titles(stage: &Stage, alias: &str, documents: &[(&str, &str)]) -> Result<Vec<Option<String>>> {
    let mut titles = Vec::new();
    for (id, routing) in documents {
        let path = format!("{}?routing={routing}", id.replace('|', "%7C"));
        // An index that has just been made has no shards for a moment.
        let document = stage.engine.document(alias, &path).await.unwrap_or_default();
        let document = document.map(|text| serde_json::from_str::<Value>(&text)).transpose()?;
        titles.push(document.and_then(|document| document["title"].as_str().map(str::to_owned)));
    }
    Ok(titles)
}

#[tokio::test]
async fn fault_65_rules_decide_where_documents_go_and_a_change_of_them_is_refused_or_followed() -> Result<()>
{
    let mut stage =
        Stage::set("fault_65_rules_decide_where_documents_go_and_a_change_of_them_is_refused_or_followed", 0)
            .await?;
    let schema = stage.shop.schema.clone();
    let alias = format!("{schema}.of-routed").to_lowercase();
    let section = |rules: &str| {
        format!(
            "[[table]]\nmatch = \"{schema}.routed\"\n{rules}\n[table.settings]\nnumber_of_shards = 3\n\
             [table.mapping.properties.title]\ntype = \"keyword\"\ndoc_values = false\n"
        )
    };
    let usual = "index = \"{schema}.of-{table}\"\nrouting = [\"tenant\"]\nrename = { name = \"title\" }";
    stage.relay.options.more = section(usual);
    stage.relay.write_config()?;
    let url = stage.shop.mysql_url.clone();
    let run = async |statements: &[&str]| {
        let statements =
            statements.iter().map(|statement| statement.replace("routed", &format!("`{schema}`.routed")));
        mysql::execute(&url, statements.collect::<Vec<_>>()).await
    };
    run(&[
        "CREATE TABLE routed (tenant INT, id INT, name VARCHAR(40), PRIMARY KEY (id, tenant))",
        "INSERT INTO routed VALUES (1, 1, 'a'), (1, 2, 'b'), (2, 1, 'c')",
    ])
    .await?;
    stage.relay.start()?;
    let expect = async |stage: &Stage, documents: &[(&str, &str)], expected: &[Option<&str>]| {
        let what = format!("{expected:?} behind {alias}");
        eventually(&what, SOON, async || {
            let found = titles(stage, &alias, documents).await?;
            let found: Vec<Option<&str>> = found.iter().map(Option::as_deref).collect();
            Ok((found == expected).then_some(()))
        })
        .await
    };
    let documents = [("1|1", "1"), ("2|1", "1"), ("1|2", "2"), ("2|3", "3")];
    expect(&stage, &documents, &[Some("a"), Some("b"), Some("c"), None]).await?;
    // A changed routing is two documents; a deleted one is found where it is.
    run(&["UPDATE routed SET tenant = 3, name = 'd' WHERE id = 2", "DELETE FROM routed WHERE tenant = 2"])
        .await?;
    run(&["UPDATE routed SET name = 'e' WHERE id = 1"]).await?;
    expect(&stage, &documents, &[Some("e"), None, None, Some("d")]).await?;
    ensure!(stage.engine.count(&alias).await? == 2, "a document is left where it was routed to before");

    let (_, made) = stage.engine.ask(Method::GET, &format!("/{alias}-000001"), None).await?;
    let made: Value = serde_json::from_str(&made)?;
    let made = &made[format!("{alias}-000001")];
    let index = &made["settings"]["index"];
    ensure!((&index["number_of_shards"], &index["gc_deletes"]) == (&json!("3"), &json!("15m")), "{index}");
    let mapping = &made["mappings"];
    ensure!(mapping["properties"]["title"] == json!({"type": "keyword", "doc_values": false}), "{mapping}");
    ensure!(mapping["_routing"]["required"] == true, "{mapping}");
    ensure!(
        mapping["_meta"]["everrelay"] == json!({"routing": ["tenant"], "rename": {"name": "title"}}),
        "{mapping}"
    );

    // All documents of a table go, wherever they were routed to.
    run(&["TRUNCATE routed", "INSERT INTO routed VALUES (4, 4, 'f')"]).await?;
    expect(&stage, &[("1|1", "1"), ("2|3", "3"), ("4|4", "4")], &[None, None, Some("f")]).await?;
    stage.relay.until_settled(SOON).await?;

    stage.relay.kill()?;
    for (n, (rules, said)) in [
        (usual.replace("tenant", "id"), "are routed by"),
        (usual.replace("routing = [\"tenant\"]", ""), "wants a routing for each document"),
        (usual.replace("of-{table}", "in-{table}"), "are behind the alias"),
        (usual.replace("tenant", "name"), "not of the key"),
    ]
    .into_iter()
    .enumerate()
    {
        stage.relay.options.more = section(&rules);
        stage.relay.write_config()?;
        run(&[&format!("INSERT INTO routed VALUES (5, {}, 'g')", 10 + n)]).await?;
        stage.relay.start()?;
        let words = stage.relay_ends_with(4, SOON).await?;
        ensure!(words.contains(said), "{said}: {words}");
    }
    // Other names are followed, and said once; nothing that was refused before is missing.
    stage.relay.options.more = section(&usual.replace("title\" }", "title\", tenant = \"owner\" }"));
    stage.relay.write_config()?;
    stage.relay.start()?;
    expect(&stage, &[("10|5", "5"), ("13|5", "5")], &[Some("g"), Some("g")]).await?;
    let words = stage.relay.words();
    ensure!(words.contains("the rules name fields otherwise"), "{words}");
    let (_, mapping) = stage.engine.ask(Method::GET, &format!("/{alias}/_mapping"), None).await?;
    ensure!(mapping.contains("\"owner\""), "{mapping}");
    stage.clear().await
}

/// The documents that are expected, each with whether it says that its row is deleted.
async fn expect_marks(stage: &Stage, alias: &str, expected: &[(&str, Option<bool>)]) -> Result<()> {
    let what = format!("{expected:?} behind {alias}");
    let last = std::sync::Mutex::new(Vec::new());
    let found = eventually(&what, SOON, async || {
        let mut found = Vec::new();
        for (id, _) in expected {
            let document = stage.engine.document(alias, id).await.unwrap_or_default();
            let document = document.map(|text| serde_json::from_str::<Value>(&text)).transpose()?;
            let marked =
                document.map(|document| document["deleted"] == true && document["name"] == "deleted");
            found.push((*id, marked));
        }
        let same = found == expected;
        *last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            found.into_iter().map(|(id, marked)| (id.to_owned(), marked)).collect();
        Ok(same.then_some(()))
    })
    .await;
    found.with_context(|| format!("{last:?}"))
}

#[tokio::test]
async fn documents_of_deleted_rows_stay_marked_where_a_rule_says_so() -> Result<()> {
    let mut stage = Stage::set("documents_of_deleted_rows_stay_marked_where_a_rule_says_so", 0).await?;
    let schema = stage.shop.schema.clone();
    let (alias, table) = (format!("{schema}.kept").to_lowercase(), format!("{schema}.kept"));
    stage.relay.options.more = format!("[[table]]\nmatch = \"{table}\"\ndeletes = \"mark\"\n");
    stage.relay.write_config()?;
    let url = stage.shop.mysql_url.clone();
    let run = async |statements: &[&str]| {
        let statements =
            statements.iter().map(|statement| statement.replace("kept", &format!("`{schema}`.kept")));
        mysql::execute(&url, statements.collect::<Vec<_>>()).await
    };
    run(&[
        "CREATE TABLE kept (id INT PRIMARY KEY, name VARCHAR(40))",
        "INSERT INTO kept VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e'), (6, 'f')",
    ])
    .await?;
    stage.relay.start()?;
    expect_marks(&stage, &alias, &[("1", Some(false)), ("6", Some(false))]).await?;
    // A row that comes again is a row; one that gets another key is none that was deleted.
    run(&[
        "UPDATE kept SET name = 'deleted' WHERE id IN (2, 5)",
        "DELETE FROM kept WHERE id IN (2, 5)",
        "INSERT INTO kept VALUES (5, 'deleted')",
        "UPDATE kept SET id = 40 WHERE id = 4",
    ])
    .await?;
    let now = [
        ("1", Some(false)),
        ("2", Some(true)),
        ("3", Some(false)),
        ("4", None),
        ("40", Some(false)),
        ("5", Some(false)),
    ];
    expect_marks(&stage, &alias, &now).await?;

    // What nobody saw to be deleted goes with a snapshot; what is marked stays, and is no difference.
    run(&["SET SESSION sql_log_bin = 0", "DELETE FROM kept WHERE id = 1"]).await?;
    let (code, _, error) = stage.command(&["snapshot", &table]).await?;
    ensure!(code == 0, "{error}");
    let now = [("1", None), ("2", Some(true)), ("3", Some(false)), ("5", Some(false))];
    expect_marks(&stage, &alias, &now).await?;
    stage.relay.until_settled(SOON).await?;
    let (code, text, error) = stage.command(&["diff", &table]).await?;
    ensure!(code == 0, "{text}{error}");
    let status: Value = serde_json::from_str(&stage.relay.get("/status").await?.1)?;
    let from = status["pipeline"]["retained_start"].to_string();
    let (code, text, error) =
        stage.command(&["replay", "--from", &from, "--table", &table, "--json"]).await?;
    ensure!(code == 0, "{text}{error}");
    expect_marks(&stage, &alias, &now).await?;

    // A table that is emptied has no documents.
    run(&["TRUNCATE kept", "INSERT INTO kept VALUES (7, 'g')"]).await?;
    expect_marks(&stage, &alias, &[("2", None), ("3", None), ("5", None), ("7", Some(false))]).await?;
    stage.clear().await
}

#[tokio::test]
async fn documents_say_of_which_transaction_they_are_where_a_rule_asks_for_it() -> Result<()> {
    let mut stage =
        Stage::set("documents_say_of_which_transaction_they_are_where_a_rule_asks_for_it", 0).await?;
    let schema = stage.shop.schema.clone();
    let (alias, table) = (format!("{schema}.told").to_lowercase(), format!("{schema}.told"));
    stage.relay.options.start = "snapshot".to_owned();
    stage.relay.options.more = format!("[[table]]\nmatch = \"{table}\"\nmetadata = \"change\"\n");
    stage.relay.write_config()?;
    let url = stage.shop.mysql_url.clone();
    let run = async |statements: &[&str]| {
        let statements =
            statements.iter().map(|statement| statement.replace("told", &format!("`{schema}`.told")));
        mysql::execute(&url, statements.collect::<Vec<_>>()).await
    };
    run(&["CREATE TABLE told (id INT PRIMARY KEY, n INT)", "INSERT INTO told VALUES (1, 1)"]).await?;
    stage.relay.start()?;
    let change = async |id: &str, operation: &str| {
        let what = format!("{operation} of {id} behind {alias}");
        let change = eventually(&what, SOON, async || {
            let document = stage.engine.document(&alias, id).await.unwrap_or_default();
            let document = document.map(|text| serde_json::from_str::<Value>(&text)).transpose()?;
            let change = document.map(|document| document["change"].clone()).unwrap_or_default();
            Ok((change["operation"] == operation).then_some(change))
        });
        change.await
    };
    ensure!(change("1", "snapshot").await? == json!({"operation": "snapshot"}));
    // The last is read again by key: its event has not all of it.
    for (statement, id, operation) in [
        ("INSERT INTO told VALUES (2, 2)", "2", "insert"),
        ("UPDATE told SET n = 3 WHERE id = 1", "1", "update"),
        ("UPDATE told SET n = 4 WHERE id = 2", "2", "update"),
    ] {
        let image = if id == "2" { "MINIMAL" } else { "FULL" };
        let before: f64 = mysql::one(&url, "SELECT UNIX_TIMESTAMP(NOW(6)) + 0e0").await?;
        let executed: String = mysql::one(&url, "SELECT @@GLOBAL.gtid_executed").await?;
        run(&[&format!("SET SESSION binlog_row_image = '{image}'"), statement]).await?;
        let change = change(id, operation).await?;
        let gtid = change["gtid"].as_str().context("a GTID")?;
        let is_its_own =
            format!("SELECT GTID_SUBSET('{gtid}', GTID_SUBTRACT(@@GLOBAL.gtid_executed, '{executed}'))");
        ensure!(mysql::one::<u8>(&url, &is_its_own).await? == 1, "{gtid} is not behind {executed}");
        let time: humantime::Timestamp = change["time"].as_str().context("a time")?.parse()?;
        let seconds = std::time::SystemTime::from(time).duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        ensure!((before..before + 30.0).contains(&seconds), "{change}, written behind {before}");
    }
    stage.relay.until_settled(SOON).await?;
    let (code, text, error) = stage.command(&["diff", &table]).await?;
    ensure!(code == 0, "what it says of itself is no difference: {text}{error}");
    // Every row is searched for by it.
    let path = format!("/{alias}/_refresh");
    stage.engine.demand(Method::POST, &path, None).await?;
    let path = format!("/{alias}/_count?q=change.operation:update");
    let found: Value = serde_json::from_str(&stage.engine.demand(Method::GET, &path, None).await?)?;
    ensure!(found["count"] == 2, "{found}");
    stage.clear().await
}

#[tokio::test]
async fn a_document_goes_where_a_column_outside_the_key_routes_it_and_leaves_nothing_behind() -> Result<()> {
    let test = "a_document_goes_where_a_column_outside_the_key_routes_it_and_leaves_nothing_behind";
    let mut stage = Stage::set(test, 0).await?;
    let schema = stage.shop.schema.clone();
    let (alias, table) = (format!("{schema}.owned").to_lowercase(), format!("{schema}.owned"));
    stage.relay.options.start = "snapshot".to_owned();
    stage.relay.options.more = format!(
        "[[table]]\nmatch = \"{table}\"\nid = [\"id\", \"tenant\"]\nrouting = [\"tenant\"]\n[table.settings]\nnumber_of_shards = 3\n"
    );
    stage.relay.write_config()?;
    let url = stage.shop.mysql_url.clone();
    let run = async |statements: &[&str]| {
        let statements =
            statements.iter().map(|statement| statement.replace("owned", &format!("`{schema}`.owned")));
        mysql::execute(&url, statements.collect::<Vec<_>>()).await
    };
    run(&[
        "CREATE TABLE owned (id INT PRIMARY KEY, tenant INT NOT NULL, title VARCHAR(9))",
        "INSERT INTO owned VALUES (1, 1, 'a'), (2, 1, 'b'), (3, 2, 'c')",
    ])
    .await?;
    stage.relay.start()?;
    let expect = async |stage: &Stage, expected: &[(&str, &str, Option<&str>)]| {
        let documents: Vec<_> = expected.iter().map(|(id, routing, _)| (*id, *routing)).collect();
        let expected: Vec<_> = expected.iter().map(|(.., title)| *title).collect();
        eventually(&format!("{expected:?} behind {alias}"), SOON, async || {
            let found = titles(stage, &alias, &documents).await?;
            Ok(found.iter().map(Option::as_deref).eq(expected.iter().copied()).then_some(()))
        })
        .await
    };
    expect(&stage, &[("1|1", "1", Some("a")), ("2|1", "1", Some("b")), ("3|2", "2", Some("c"))]).await?;
    run(&[
        "UPDATE owned SET tenant = tenant + 5 WHERE id < 3",
        "UPDATE owned SET title = 'd' WHERE id = 2",
        "DELETE FROM owned WHERE id = 1",
    ])
    .await?;
    expect(&stage, &[("1|1", "1", None), ("1|6", "6", None), ("2|1", "1", None), ("2|6", "6", Some("d"))])
        .await?;
    ensure!(stage.engine.count(&alias).await? == 2, "a document is left where it was routed to before");
    stage.relay.until_settled(SOON).await?;
    let (code, text, error) = stage.command(&["diff", &table]).await?;
    ensure!(code == 0, "{text}{error}");
    stage.clear().await
}
