//! The sink against a real engine: `dev/test real` starts one, or `EVERRELAY_TEST_ELASTICSEARCH_URL` names it.

use std::convert::Infallible;

use bytes::Bytes;
use everrelay::event::codec::{Row, RowWriter};
use everrelay::event::document::{Action, Field, FieldKind, IndexSpec, Verb};
use everrelay::event::value::{Date, DateTime, Instant, Time};
use everrelay::event::{Column, ColumnType, Op, TableName, TableSchema, Value, Version};
use everrelay::mapping::TableMapping;
use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Bulk, Disposition, Expect, Index, Item, Sink, SinkError};
use serde_json::{Value as Json, json};

fn url() -> String {
    let name = "EVERRELAY_TEST_ELASTICSEARCH_URL";
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}, or run `dev/test real`"))
}

fn sink() -> ElasticSink {
    ElasticSink::new(&ElasticOptions::new(url())).unwrap()
}

/// An alias that no other test or run has.
fn alias() -> String {
    format!("t{}.orders", uuid::Uuid::new_v4().simple())
}

fn spec(alias: &str, fields: &[(&str, FieldKind)]) -> IndexSpec {
    let fields = fields.iter().map(|&(name, kind)| Field { name: name.to_owned(), kind });
    IndexSpec { alias: alias.to_owned(), fields: fields.collect(), ..IndexSpec::default() }
}

/// The engine itself, not through the sink.
async fn engine(method: reqwest::Method, path: &str, body: Option<Json>) -> (u16, Json) {
    let mut request = reqwest::Client::new().request(method, format!("{}/{path}", url()));
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Json::Null))
}

async fn get(path: &str) -> Json {
    let (status, body) = engine(reqwest::Method::GET, path, None).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn put(path: &str, body: Json) {
    let (status, answer) = engine(reqwest::Method::PUT, path, Some(body)).await;
    assert_eq!(status, 200, "{path}: {answer}");
}

async fn post(path: &str, body: Json) {
    let body = Some(body).filter(|body| !body.is_null());
    let (status, answer) = engine(reqwest::Method::POST, path, body).await;
    assert_eq!(status, 200, "{path}: {answer}");
}

/// Sends one bulk of `(id, version, document)`, a delete where there is none.
async fn send(sink: &ElasticSink, index: &Index, changes: &[(&str, u64, Option<&str>)]) -> Vec<Disposition> {
    let (mut body, mut items) = (Vec::new(), Vec::new());
    for &(id, version, document) in changes {
        let verb = if document.is_some() { Verb::Index } else { Verb::Delete };
        let action = Action::plain(verb, id, Version(version));
        let start = body.len();
        let write = |out: &mut Vec<u8>| {
            out.extend_from_slice(document.unwrap_or_default().as_bytes());
            Ok::<(), Infallible>(())
        };
        sink.encode(index.no, &action, write, &mut body).unwrap();
        items.push(Item {
            index: index.no,
            verb,
            id: id.into(),
            version: Version(version),
            bytes: start..body.len(),
        });
    }
    let bulk = Bulk { opaque_id: "1".into(), body: Bytes::from(body), items };
    let judged = sink.send(&bulk).await.unwrap();
    assert_eq!(judged.len(), changes.len());
    judged
}

fn definite(result: Result<Index, SinkError>) -> String {
    match result {
        Err(SinkError::Definite(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_version_is_known_whether_or_not_the_engine_tells_it_at_its_root() {
    let version = sink().versions().await.remove(0).1.unwrap();
    assert!(version.number.split('.').count() >= 3, "{version:?}");
}

#[tokio::test]
async fn an_engine_says_which_cluster_it_is_of_and_a_node_that_is_gone_is_passed_over() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (first, second) = (url(), url().replace("127.0.0.1", "localhost"));
    assert_ne!(first, second);
    let urls = vec![format!("http://{gone}"), first, second];
    let sink = ElasticSink::new(&ElasticOptions { urls, ..ElasticOptions::new("") }).unwrap();
    sink.meet().await.unwrap();
    let versions = sink.versions().await;
    let answered = versions.iter().filter(|(_, version)| version.is_ok()).count();
    assert_eq!((answered, versions[0].1.is_ok()), (2, false), "{versions:?}");
    let alias = alias();
    let index = sink.ensure(&spec(&alias, &[("id", FieldKind::Long)]), Expect::Anything).await.unwrap();
    for version in 1..=6 {
        let judged = send(&sink, &index, &[("1", version, Some(r#"{"id":1}"#))]).await;
        assert_eq!(judged, [Disposition::Done]);
    }
}

#[tokio::test]
async fn an_index_is_made_once_and_found_again() {
    let alias = alias();
    let fields = [
        ("id", FieldKind::Long),
        ("name", FieldKind::TextWithKeyword),
        ("meta", FieldKind::Object),
        ("at", FieldKind::Date),
    ];
    let sink_a = sink();
    let index = sink_a.ensure(&spec(&alias, &fields), Expect::Anything).await.unwrap();
    assert_eq!((index.name.clone(), index.made), (format!("{alias}-000001"), true));
    let found = Index { made: false, ..index.clone() };
    assert_eq!(sink_a.ensure(&spec(&alias, &fields), Expect::Anything).await.unwrap(), found);
    assert_eq!(sink().ensure(&spec(&alias, &fields), Expect::Anything).await.unwrap(), found);
    let mapping = &get(&format!("{}/_mapping", index.name)).await[&index.name]["mappings"];
    assert_eq!(mapping["dynamic"], "false");
    assert_eq!(mapping["properties"]["id"]["type"], "long");
    assert_eq!(mapping["properties"]["name"]["fields"]["keyword"]["type"], "keyword");
    assert_eq!(mapping["properties"]["meta"]["dynamic"], "true");
    let aliases = &get(&format!("_alias/{alias}")).await[&index.name]["aliases"];
    assert_eq!(aliases[&alias]["is_write_index"], true);
}

#[tokio::test]
async fn many_that_ensure_at_once_get_the_same_index() {
    let alias = alias();
    let spec = spec(&alias, &[("id", FieldKind::Long)]);
    let racing = (0..8).map(|_| {
        let spec = spec.clone();
        tokio::spawn(async move { sink().ensure(&spec, Expect::Anything).await.unwrap().uuid })
    });
    let mut uuids = Vec::new();
    for task in racing.collect::<Vec<_>>() {
        uuids.push(task.await.unwrap());
    }
    uuids.dedup();
    assert_eq!(uuids.len(), 1);
}

#[tokio::test]
async fn new_columns_are_added_and_existing_fields_left_as_they_are() {
    let alias = alias();
    put(
        &format!("{alias}-000007"),
        json!({
            "aliases": {&alias: {}},
            "mappings": {"properties": {"id": {"type": "keyword"}, "name": {"type": "text", "index": false}}}
        }),
    )
    .await;
    let fields = [
        ("id", FieldKind::Long),
        ("name", FieldKind::TextWithKeyword),
        ("new", FieldKind::Integer),
        ("big", FieldKind::UnsignedLong),
    ];
    let index = sink().ensure(&spec(&alias, &fields), Expect::Anything).await.unwrap();
    assert_eq!(index.name, format!("{alias}-000007"));
    let properties =
        get(&format!("{}/_mapping", index.name)).await[&index.name]["mappings"]["properties"].clone();
    assert_eq!(properties["id"]["type"], "keyword");
    assert_eq!(properties["name"], json!({"type": "text", "index": false}));
    assert_eq!(properties["new"]["type"], "integer");
    assert!(["unsigned_long", "keyword"].map(Json::from).contains(&properties["big"]["type"]));
}

#[tokio::test]
async fn a_field_that_can_take_no_value_of_its_column_is_definite() {
    let alias = alias();
    put(
        &format!("{alias}-000001"),
        json!({"aliases": {&alias: {}}, "mappings": {"properties": {"at": {"type": "ip"}, "o": {"type": "long"}}}}),
    )
    .await;
    let error = definite(sink().ensure(&spec(&alias, &[("at", FieldKind::Date)]), Expect::Anything).await);
    assert!(error.contains("`at`") && error.contains("ip") && error.contains("date"), "{error}");
    definite(sink().ensure(&spec(&alias, &[("o", FieldKind::Object)]), Expect::Anything).await);
}

#[tokio::test]
async fn an_alias_that_cannot_be_written_through_is_definite() {
    // An index of that name.
    let name = alias();
    put(&name, json!({})).await;
    let error = definite(sink().ensure(&spec(&name, &[]), Expect::Anything).await);
    assert!(error.contains("not an alias"), "{error}");
    // Several indices without a write index; then with one.
    let name = alias();
    for n in [1, 2] {
        put(&format!("{name}-{n}"), json!({"aliases": {&name: {}}})).await;
    }
    let error = definite(sink().ensure(&spec(&name, &[]), Expect::Anything).await);
    assert!(error.contains("is_write_index"), "{error}");
    post(
        "_aliases",
        json!({"actions": [{"add": {"index": format!("{name}-2"), "alias": &name, "is_write_index": true}}]}),
    )
    .await;
    assert_eq!(sink().ensure(&spec(&name, &[]), Expect::Anything).await.unwrap().name, format!("{name}-2"));
    // One that is said to be read only.
    let name = alias();
    put(&format!("{name}-1"), json!({"aliases": {&name: {"is_write_index": false}}})).await;
    definite(sink().ensure(&spec(&name, &[]), Expect::Anything).await);
    // Routing, by the alias or by the index.
    let name = alias();
    put(&format!("{name}-1"), json!({"aliases": {&name: {"routing": "1"}}})).await;
    definite(sink().ensure(&spec(&name, &[]), Expect::Anything).await);
    let name = alias();
    put(&format!("{name}-1"), json!({"aliases": {&name: {}}, "mappings": {"_routing": {"required": true}}}))
        .await;
    definite(sink().ensure(&spec(&name, &[]), Expect::Anything).await);
    // An index of ours that lost its alias.
    let name = alias();
    put(&format!("{name}-000001"), json!({})).await;
    let error = definite(sink().ensure(&spec(&name, &[]), Expect::Anything).await);
    assert!(error.contains("add the alias"), "{error}");
}

#[tokio::test]
async fn versions_decide_what_is_done_and_what_is_superseded() {
    let sink = sink();
    let index = sink.ensure(&spec(&alias(), &[("id", FieldKind::Long)]), Expect::Anything).await.unwrap();
    let doc = Some("{\"id\":1}");
    let judged = send(&sink, &index, &[("1", 5, doc), ("gone", 5, None), ("2", u64::MAX >> 1, doc)]).await;
    assert_eq!(judged, [Disposition::Done, Disposition::Done, Disposition::Done]);
    let superseded = |n| Disposition::Superseded { current: Some(Version(n)) };
    // The same again, an older one, an older delete.
    assert_eq!(send(&sink, &index, &[("1", 5, doc)]).await, [Disposition::Done]);
    assert_eq!(send(&sink, &index, &[("1", 4, doc)]).await, [superseded(5)]);
    assert_eq!(send(&sink, &index, &[("1", 4, None)]).await, [superseded(5)]);
    assert_eq!(send(&sink, &index, &[("1", 6, None)]).await, [Disposition::Done]);
    assert_eq!(send(&sink, &index, &[("1", 5, doc)]).await, [superseded(6)]);
    assert_eq!(send(&sink, &index, &[("gone", 4, doc)]).await, [superseded(5)]);
}

#[tokio::test]
async fn ids_of_any_text_come_back_as_they_were_sent() {
    let sink = sink();
    let index = sink.ensure(&spec(&alias(), &[("id", FieldKind::Long)]), Expect::Anything).await.unwrap();
    let long = "é".repeat(256);
    let ids = ["\\", "\"", "a\nb\t\0", "🦀", " ", "current version [9]", "_x", "a|b\\|c", &long];
    let changes: Vec<(&str, u64, Option<&str>)> = ids.iter().map(|id| (*id, 5, Some("{}"))).collect();
    for judged in [send(&sink, &index, &changes).await, send(&sink, &index, &changes).await] {
        assert!(judged.iter().all(|judged| *judged == Disposition::Done), "{judged:?}");
    }
    let older: Vec<(&str, u64, Option<&str>)> = ids.iter().map(|id| (*id, 4, None)).collect();
    for judged in send(&sink, &index, &older).await {
        assert_eq!(judged, Disposition::Superseded { current: Some(Version(5)) });
    }
}

#[tokio::test]
async fn a_document_that_the_mapping_refuses_is_poison_and_others_of_its_bulk_are_done() {
    let sink = sink();
    let fields = [
        ("id", FieldKind::Long),
        ("at", FieldKind::Date),
        ("meta", FieldKind::Object),
        ("tag", FieldKind::Keyword),
    ];
    let index = sink.ensure(&spec(&alias(), &fields), Expect::Anything).await.unwrap();
    let immense = format!("{{\"tag\":\"canary{}\"}}", "x".repeat(40_000));
    let many: Vec<String> = (0..1100).map(|n| format!("\"canary{n}\":1")).collect();
    let many = format!("{{\"meta\":{{{}}}}}", many.join(","));
    let deep = format!("{{\"meta\":{}1{}}}", "{\"canary\":".repeat(60), "}".repeat(60));
    let poison = [
        "{\"id\":\"canary\"}",
        "{\"id\":99999999999999999999}",
        "{\"at\":\"canary\"}",
        "{\"at\":\"2026-02-31\"}",
        "{\"meta\":\"canary\"}",
        "{\"meta\":{\"canary..x\":1}}",
        "{\"_id\":\"canary\"}",
        "{\"tag\":{\"canary\":1}}",
        &immense,
        &many,
        &deep,
        "{\"id\":canary}",
        "[1]",
    ];
    for document in poison {
        let changes = [("ok", 5, Some("{\"id\":1}")), ("bad", 5, Some(document)), ("ok2", 5, None)];
        let judged = send(&sink, &index, &changes).await;
        let shown = &document[..document.len().min(60)];
        assert_eq!((&judged[0], &judged[2]), (&Disposition::Done, &Disposition::Done), "{shown}");
        let Disposition::Poison { reason, .. } = &judged[1] else { panic!("{shown}: {judged:?}") };
        println!("{shown}: {reason}");
        assert!(!reason.contains("canary"), "{reason}");
    }
    let judged = send(&sink, &index, &[("x", 5, Some("{\"id\":\"canary\"}"))]).await;
    let Disposition::Poison { reason, .. } = &judged[0] else { panic!("{judged:?}") };
    assert!(reason.contains("at column id"), "{reason}");
}

#[tokio::test]
async fn a_blocked_or_closed_index_is_transient() {
    let sink = sink();
    let index = sink.ensure(&spec(&alias(), &[("id", FieldKind::Long)]), Expect::Anything).await.unwrap();
    let changes = [("1", 5, Some("{\"id\":1}")), ("2", 5, None)];
    let settings = format!("{}/_settings", index.name);
    for block in ["read_only_allow_delete", "write", "read_only"] {
        put(&settings, json!({"index": {"blocks": {block: true}}})).await;
        let judged = send(&sink, &index, &changes).await;
        assert!(matches!(judged[0], Disposition::Transient { .. }), "{block}: {judged:?}");
        put(&settings, json!({"index": {"blocks": {block: null}}})).await;
    }
    post(&format!("{}/_close", index.name), Json::Null).await;
    for judged in send(&sink, &index, &changes).await {
        assert!(matches!(judged, Disposition::Transient { .. }), "{judged:?}");
    }
    post(&format!("{}/_open", index.name), Json::Null).await;
    assert_eq!(send(&sink, &index, &changes).await, [Disposition::Done, Disposition::Done]);
}

#[tokio::test]
async fn fault_37_an_index_deleted_under_us_is_definite_and_not_made_anew() {
    let (sink, alias) = (sink(), alias());
    let spec = spec(&alias, &[("id", FieldKind::Long)]);
    let index = sink.ensure(&spec, Expect::Anything).await.unwrap();
    engine(reqwest::Method::DELETE, &index.name, None).await;
    // An index request creates nothing; a versioned delete does, under the alias's name.
    let judged = send(&sink, &index, &[("1", 5, Some("{\"id\":1}"))]).await;
    assert!(matches!(judged[0], Disposition::Definite { .. }), "{judged:?}");
    assert_eq!(engine(reqwest::Method::GET, &alias, None).await.0, 404);
    let judged = send(&sink, &index, &[("1", 5, None)]).await;
    assert!(matches!(judged[0], Disposition::Definite { .. }), "{judged:?}");
    let error = definite(sink.ensure(&spec, Expect::Anything).await);
    assert!(error.contains(&index.uuid), "{error}");
    assert_eq!(engine(reqwest::Method::GET, &index.name, None).await.0, 404);
}

#[tokio::test]
async fn fault_38_an_alias_moved_under_us_is_definite() {
    let (sink, alias) = (sink(), alias());
    let spec = spec(&alias, &[("id", FieldKind::Long)]);
    let index = sink.ensure(&spec, Expect::Anything).await.unwrap();
    let other = format!("{alias}-other");
    put(&other, json!({})).await;
    post(
        "_aliases",
        json!({"actions": [
            {"remove": {"index": &index.name, "alias": &alias}},
            {"add": {"index": &other, "alias": &alias, "is_write_index": true}}
        ]}),
    )
    .await;
    for judged in send(&sink, &index, &[("1", 5, Some("{\"id\":1}")), ("2", 5, None)]).await {
        let Disposition::Definite { reason } = judged else { panic!("{judged:?}") };
        assert!(reason.contains(&other), "{reason}");
    }
    let error = definite(sink.ensure(&spec, Expect::Anything).await);
    assert!(error.contains(&other), "{error}");
}

#[tokio::test]
async fn a_row_of_every_type_is_indexed_and_reads_back_digit_by_digit() {
    let date = Date { year: 2026, month: 11, day: 23 };
    let micros = 24_428_120_400;
    let columns: Vec<(ColumnType, Value<'_>, &str)> = vec![
        (ColumnType::Integer { bits: 64, unsigned: false }, Value::I64(i64::MIN), "-9223372036854775808"),
        (ColumnType::Integer { bits: 64, unsigned: true }, Value::U64(u64::MAX), "18446744073709551615"),
        (ColumnType::Integer { bits: 8, unsigned: true }, Value::U64(255), "255"),
        (ColumnType::Integer { bits: 24, unsigned: true }, Value::U64(16_777_215), "16777215"),
        (ColumnType::Integer { bits: 32, unsigned: true }, Value::U64(4_294_967_295), "4294967295"),
        (ColumnType::Bit { bits: 64 }, Value::U64(u64::MAX), "18446744073709551615"),
        (ColumnType::Year, Value::U64(2155), "2155"),
        (
            ColumnType::Decimal { precision: 31, scale: 3 },
            Value::Decimal("-99999999999999999999999999.990"),
            "",
        ),
        (ColumnType::Float, Value::F32(f32::MAX), "3.4028235e38"),
        (ColumnType::Double, Value::F64(f64::MIN_POSITIVE), "2.2250738585072014e-308"),
        (ColumnType::Varchar, Value::Text("007 \u{1}\"\\\n🦀"), ""),
        (ColumnType::Text, Value::Text("é"), "\"é\""),
        (ColumnType::Binary, Value::Bytes(&[0, 255, 254, 1]), "\"AP/+AQ==\""),
        (ColumnType::Date, Value::Date(date), "\"2026-11-23\""),
        (
            ColumnType::DateTime { decimals: 6 },
            Value::DateTime(DateTime { date, micros, decimals: 6 }),
            "\"2026-11-23T06:47:08.120400\"",
        ),
        (
            ColumnType::DateTime { decimals: 1 },
            Value::DateTime(DateTime { date, micros, decimals: 1 }),
            "\"2026-11-23T06:47:08.1\"",
        ),
        (
            ColumnType::Timestamp { decimals: 0 },
            Value::Instant(Instant { micros: 1_795_416_428_000_000, decimals: 0 }),
            "\"2026-11-23T06:47:08Z\"",
        ),
        (ColumnType::Date, Value::Date(Date { year: 1, month: 1, day: 1 }), "\"0001-01-01\""),
        (
            ColumnType::Time { decimals: 6 },
            Value::Time(Time { micros: -3_020_399_000_001, decimals: 6 }),
            "\"-838:59:59.000001\"",
        ),
        (ColumnType::Enum, Value::Enum(""), "\"\""),
        (ColumnType::Set, Value::Set("a,b"), "[\"a\",\"b\"]"),
        (ColumnType::Set, Value::Set(""), "[]"),
        (
            ColumnType::Json,
            Value::Json("{\"a\": [1.10, 2.0], \"b\": {\"c\": null}}"),
            "{\"a\": [1.10, 2.0], \"b\": {\"c\": null}}",
        ),
        (ColumnType::Json, Value::Json("null"), "null"),
        (ColumnType::Date, Value::Date(Date { year: 0, month: 0, day: 0 }), "null"),
    ];
    let name = alias();
    let schema = TableSchema {
        name: TableName::new(name.split('.').next().unwrap(), "Orders"),
        columns: columns
            .iter()
            .enumerate()
            .map(|(n, (ty, _, _))| Column { name: format!("c{n}"), ty: *ty, nullable: true })
            .collect(),
        key: vec![10, 0],
    };
    let mapping = TableMapping::new(&schema).unwrap();
    let sink = sink();
    let index = sink.ensure(mapping.spec(), Expect::Anything).await.unwrap();
    let mut row = Vec::new();
    for (_, value, _) in &columns {
        RowWriter::new(&mut row).value(value);
    }
    let (mut id, mut document) = (String::new(), Vec::new());
    mapping.id(Row::new(&row), &mut id).unwrap();
    mapping.document(Op::Read, Row::new(&row), &mut document).unwrap();
    let document = String::from_utf8(document).unwrap();
    for (n, (_, _, expected)) in columns.iter().enumerate() {
        assert!(document.contains(&format!("\"c{n}\":{expected}")), "c{n}: {document}");
    }
    assert_eq!(send(&sink, &index, &[(&id, 5, Some(&document))]).await, [Disposition::Done]);
    let nulls: Vec<String> = (0..columns.len()).map(|n| format!("\"c{n}\":null")).collect();
    let nulls = format!("{{{}}}", nulls.join(","));
    assert_eq!(send(&sink, &index, &[("nulls", 5, Some(&nulls))]).await, [Disposition::Done]);
    post(&format!("{}/_refresh", index.name), Json::Null).await;
    let found = reqwest::get(format!("{}/{}/_search?q=c6:2155", url(), index.name)).await.unwrap();
    let found = String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap();
    // As bytes: a parsed answer would round the digits that this is about.
    assert!(found.contains(&document), "{found}\n{document}");
}

#[tokio::test]
async fn an_index_that_takes_too_few_fields_is_seen_before_the_first_document() {
    let name = alias();
    let fields = [("id", FieldKind::Long), ("a", FieldKind::Text), ("b", FieldKind::Text)];
    let wanted = spec(&name, &fields);
    let look = sink().look(&wanted).await.unwrap();
    assert_eq!((look.index, look.fields, look.limit), (None, 3, 1000));
    let index = format!("{name}-made");
    let text = json!({"type": "text", "fields": {"raw": {"type": "keyword"}}});
    put(
        &index,
        json!({
            "settings": {"index.mapping.total_fields.limit": 4},
            "aliases": {&name: {}},
            "mappings": {"properties": {"id": {"type": "long"}, "theirs": text}}
        }),
    )
    .await;
    let look = sink().look(&wanted).await.unwrap();
    assert_eq!((look.index, look.fields, look.limit), (Some(index.clone()), 5, 4));
    assert_eq!((look.depth, look.depth_limit), (1, 20));
    let deep = format!("{name}-deep");
    let object = json!({"properties": {"a": {"properties": {"b": {"type": "long"}}}}});
    let settings = json!({"index.mapping.depth.limit": 3});
    put(&deep, json!({"settings": settings, "mappings": {"properties": {"theirs": object}}, "aliases": {format!("{name}-d"): {}}})).await;
    let look = sink().look(&spec(&format!("{name}-d"), &fields)).await.unwrap();
    assert_eq!((look.depth, look.depth_limit, look.limit), (3, 3, 1000));
    let with_object = spec(&format!("{name}-none"), &[("id", FieldKind::Long), ("j", FieldKind::Object)]);
    assert_eq!(sink().look(&with_object).await.unwrap().depth, 2);
    // What an index is called cannot be an alias; nothing was made by looking.
    let error = sink().look(&spec(&index, &fields)).await.unwrap_err();
    assert!(
        matches!(&error, SinkError::Definite(error) if error.to_string().contains("not an alias")),
        "{error}"
    );
}
