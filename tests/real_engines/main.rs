//! Mapping types at engines that do not have the same ones: chosen by trying, and every value taken all the same.
//!
//! The engines are those that `EVERRELAY_TEST_ELASTICSEARCH_URL` and `EVERRELAY_TEST_OPENSEARCH_URL` name, else those of the instance in `EVERRELAY_TEST_INSTANCE`, else `test`,
//! which `dev/servers` starts.

#[path = "../support/engine_model.rs"]
mod engine_model;
mod model;
#[path = "../support/seed.rs"]
#[expect(dead_code, reason = "what other tests take from it")]
mod seed;

use std::convert::Infallible;
use std::process::Command;

use bytes::Bytes;
use everrelay::event::codec::{Row, RowWriter};
use everrelay::event::document::{Action, Field, FieldKind, IndexSpec, Verb};
use everrelay::event::pattern::TablePattern;
use everrelay::event::value::{Date, DateTime, Geometry, Instant};
use everrelay::event::{Column, ColumnType, Op, TableName, TableSchema, Value, Version};
use everrelay::mapping::TableMapping;
use everrelay::mapping::rule::{DecimalAs, JsonAs, Rule, Rules, ZeroDatesAs};
use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Bulk, Disposition, Expect, Index, Item, Sink, SinkError};
use serde_json::{Value as Json, json};

/// An engine, and an index of this test's own there.
struct Engine {
    url: String,
    sink: ElasticSink,
    schema: String,
}

impl Engine {
    fn new(name: &str) -> Engine {
        let named = std::env::var(format!("EVERRELAY_TEST_{}_URL", name.to_uppercase()));
        let url = named.ok().filter(|url| !url.is_empty()).unwrap_or_else(|| started(name));
        let sink = ElasticSink::new(&ElasticOptions::new(url.clone())).unwrap();
        Engine { url, sink, schema: format!("t{}", uuid::Uuid::new_v4().simple()) }
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Json>) -> Json {
        let mut request = reqwest::Client::new().request(method, format!("{}/{path}", self.url));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {text}");
        serde_json::from_str(&text).unwrap_or(Json::Null)
    }

    async fn properties(&self, index: &Index) -> Json {
        let answer = self.ask(reqwest::Method::GET, &format!("{}/_mapping", index.name), None).await;
        answer[&index.name]["mappings"]["properties"].clone()
    }

    /// Ids of the documents that a query finds.
    async fn found(&self, index: &Index, query: Json) -> Vec<String> {
        let body = json!({"query": query, "size": 100, "sort": ["_doc"]});
        let answer = self.ask(reqwest::Method::POST, &format!("{}/_search", index.name), Some(body)).await;
        let hits = answer["hits"]["hits"].as_array().unwrap();
        let mut ids: Vec<_> = hits.iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        ids
    }

    /// The document's own bytes. Elasticsearch leaves vectors out since 9.2 unless it is asked for them, in words that others refuse.
    async fn source(&self, index: &Index, id: &str) -> String {
        let url = format!("{}/{}/_source/{id}", self.url, index.name);
        let mut answer = reqwest::get(format!("{url}?_source_exclude_vectors=false")).await.unwrap();
        if !answer.status().is_success() {
            answer = reqwest::get(url).await.unwrap();
        }
        answer.text().await.unwrap()
    }
}

fn started(name: &str) -> String {
    let instance = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/servers");
    let run = Command::new(script).args(["up", name, "--instance", &instance, "--json"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let answer: Json = serde_json::from_slice(&run.stdout).unwrap();
    answer[name]["url"].as_str().unwrap().to_owned()
}

/// The same index as whoever does not make it gets it.
fn found_again(index: &Index) -> Index {
    assert!(index.made && index.history.is_some(), "{index:?}");
    Index { made: false, ..index.clone() }
}

/// A table of these types behind a key, at an engine.
struct Table {
    engine: Engine,
    mapping: TableMapping,
    index: Index,
}

impl Table {
    async fn new(engine: &str, types: &[(&str, ColumnType)]) -> Table {
        Table::with_rules(Engine::new(engine), types, &Rules::default()).await
    }

    async fn with_rules(engine: Engine, types: &[(&str, ColumnType)], rules: &Rules) -> Table {
        let id = ("id", ColumnType::Integer { bits: 32, unsigned: true });
        let column =
            |(name, ty): &(&str, ColumnType)| Column { name: (*name).to_owned(), ty: *ty, nullable: true };
        let schema = TableSchema {
            name: TableName::new(&engine.schema, "values"),
            columns: std::iter::once(&id).chain(types).map(column).collect(),
            key: vec![0],
        };
        let mapping = TableMapping::with_rules(&schema, rules).unwrap();
        let index = engine.sink.ensure(mapping.spec(), Expect::Anything).await.unwrap();
        Table { engine, mapping, index }
    }

    /// Sends rows under the ids 1 and so on; returns what became of them, and their documents.
    async fn send(&self, rows: &[Vec<Value<'_>>]) -> (Vec<Disposition>, Vec<String>) {
        let (mut body, mut items, mut documents) = (Vec::new(), Vec::new(), Vec::new());
        for (n, row) in rows.iter().enumerate() {
            let mut bytes = Vec::new();
            let mut writer = RowWriter::new(&mut bytes);
            writer.u64(n as u64 + 1);
            row.iter().for_each(|value| writer.value(value));
            let (mut id, mut document) = (String::new(), Vec::new());
            self.mapping.id(Row::new(&bytes), &mut id).unwrap();
            self.mapping.document(Op::Read, Row::new(&bytes), &mut document).unwrap();
            let (start, version) = (body.len(), Version(7));
            let action = Action::plain(Verb::Index, &id, version);
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(&document);
                Ok::<(), Infallible>(())
            };
            self.engine.sink.encode(self.index.no, &action, write, &mut body).unwrap();
            let bytes = start..body.len();
            items.push(Item { index: self.index.no, verb: Verb::Index, id: id.into(), version, bytes });
            documents.push(String::from_utf8(document).unwrap());
        }
        let bulk = Bulk { opaque_id: "1".into(), body: Bytes::from(body), items };
        (self.engine.sink.send(&bulk).await.unwrap(), documents)
    }

    /// Sends rows, reads each back as it was sent, and makes them all searchable.
    async fn index(&self, rows: &[Vec<Value<'_>>]) -> Vec<String> {
        let (judged, documents) = self.send(rows).await;
        for (judged, document) in judged.iter().zip(&documents) {
            assert_eq!(*judged, Disposition::Done, "{document:.300}");
        }
        self.engine.ask(reqwest::Method::POST, &format!("{}/_refresh", self.index.name), None).await;
        for (n, document) in documents.iter().enumerate() {
            assert!(
                self.engine.source(&self.index, &(n + 1).to_string()).await == *document,
                "{document:.300}"
            );
        }
        documents
    }
}

/// Little-endian well-known binary.
fn point(x: f64, y: f64) -> Vec<u8> {
    [&[1, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()].concat()
}

fn line(points: &[(f64, f64)]) -> Vec<u8> {
    let mut wkb = [&[1, 2, 0, 0, 0][..], &(points.len() as u32).to_le_bytes()].concat();
    points.iter().for_each(|(x, y)| wkb.extend([x.to_le_bytes(), y.to_le_bytes()].concat()));
    wkb
}

fn polygon(rings: &[&[(f64, f64)]]) -> Vec<u8> {
    let mut wkb = [&[1, 3, 0, 0, 0][..], &(rings.len() as u32).to_le_bytes()].concat();
    rings.iter().for_each(|ring| wkb.extend(&line(ring)[5..]));
    wkb
}

fn of(shape: u8, members: &[Vec<u8>]) -> Vec<u8> {
    [&[1, shape, 0, 0, 0][..], &(members.len() as u32).to_le_bytes(), &members.concat()].concat()
}

fn geometries() -> Vec<Vec<u8>> {
    let square: &[(f64, f64)] = &[(0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (9.0, 0.0), (0.0, 0.0)];
    vec![
        point(13.4, 52.5),
        line(&[(13.0, 52.0), (14.0, 53.0)]),
        polygon(&[square, &[(1.0, 2.0), (1.0, 3.0), (2.0, 3.0), (1.0, 2.0)]]),
        of(4, &[point(1.0, 2.0), point(13.5, 52.6)]),
        of(5, &[line(&[(0.0, 0.0), (1.0, 1.0)]), line(&[(2.0, 2.0), (3.0, 3.0)])]),
        of(6, &[polygon(&[square])]),
        // What no index can place: it has an empty part, crosses itself, has no area, no points, no members, a hole outside.
        of(7, &[point(1.0, 2.0), of(7, &[]), line(&[(0.0, 0.0), (1.0, 1.0)])]),
        polygon(&[&[(0.0, 0.0), (2.0, 2.0), (2.0, 0.0), (0.0, 2.0), (0.0, 0.0)]]),
        polygon(&[&[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]]),
        polygon(&[square, &[(10.0, 2.0), (10.0, 3.0), (12.0, 3.0), (10.0, 2.0)]]),
        polygon(&[&[(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)]]),
        line(&[(0.0, 0.0)]),
        line(&[]),
        polygon(&[]),
        of(4, &[]),
        of(7, &[]),
        // On a plane.
        point(1000.0, 52.5),
        line(&[(0.0, 0.0), (1e9, 5.0)]),
        line(&[(0.0, 0.0), (1e300, 5.0), (1.0, 1.0)]),
        polygon(&[&[(0.0, 0.0), (0.0, 1e300), (1e300, 1e300), (0.0, 0.0)]]),
        of(7, &[point(1.0, 2.0), line(&[(0.0, 0.0), (1e300, 1.0)])]),
        // As deep as it gets.
        (0..48).fold(point(1.0, 2.0), |inner, _| of(7, &[inner])),
        (0..49).fold(point(1.0, 2.0), |inner, _| of(7, &[inner])),
        point(f64::NAN, 1.0),
    ]
}

async fn every_geometry_is_kept(engine: &str, has_geo_shape: bool) {
    let table = Table::new(engine, &[("g", ColumnType::Geometry)]).await;
    let properties = table.engine.properties(&table.index).await;
    let expected = if has_geo_shape {
        json!({"type": "geo_shape", "ignore_malformed": true})
    } else {
        json!({"type": "object", "enabled": false})
    };
    assert_eq!(properties["g"], expected);
    let geometries = geometries();
    let rows: Vec<_> =
        geometries.iter().map(|wkb| vec![Value::Geometry(Geometry { srid: 0, wkb })]).collect();
    let documents = table.index(&rows).await;
    assert!(documents[..22].iter().all(|document| document.contains("\"type\":")));
    assert_eq!(documents[22..], ["{\"id\":23,\"g\":null}", "{\"id\":24,\"g\":null}"]);
    // Once more: an index that is there is found to do.
    let again = table.engine.sink.ensure(table.mapping.spec(), Expect::Existing).await.unwrap();
    assert_eq!(again, found_again(&table.index));
    if has_geo_shape {
        let near = json!({"geo_shape": {"g": {"shape": {"type": "envelope", "coordinates": [[13.3, 52.7], [13.6, 52.4]]}}}});
        assert_eq!(table.engine.found(&table.index, near).await, ["1", "2", "4"]);
        let ignored = table.engine.found(&table.index, json!({"term": {"_ignored": "g"}})).await;
        let planes = ["17", "18", "19", "20", "21"];
        assert!(planes.iter().all(|id| ignored.iter().any(|ignored| ignored == id)), "{ignored:?}");
        assert!(!ignored.iter().any(|id| id.len() == 1 && id.as_str() < "7"), "{ignored:?}");
    }
}

async fn unsigned_longs_are_exact(engine: &str, has_unsigned_long: bool) {
    let ty = ColumnType::Integer { bits: 64, unsigned: true };
    let table = Table::new(engine, &[("u", ty), ("b", ColumnType::Bit { bits: 64 })]).await;
    let properties = table.engine.properties(&table.index).await;
    let expected = if has_unsigned_long { "unsigned_long" } else { "keyword" };
    assert_eq!((&properties["u"]["type"], &properties["b"]["type"]), (&json!(expected), &json!(expected)));
    let numbers = [0, 9, 10, u64::MAX, u64::MAX - 1, 1 << 63, (1 << 53) + 1];
    let rows: Vec<_> = numbers.iter().map(|n| vec![Value::U64(*n), Value::U64(*n)]).collect();
    table.index(&rows).await;
    for (n, number) in numbers.iter().enumerate() {
        let found = table.engine.found(&table.index, json!({"term": {"u": number}})).await;
        assert_eq!(found, [(n + 1).to_string()], "{number}");
    }
    if has_unsigned_long {
        let above = table.engine.found(&table.index, json!({"range": {"u": {"gt": 9_u64}}})).await;
        assert_eq!(above, ["3", "4", "5", "6", "7"], "in the order of numbers");
    }
}

async fn vectors_are_taken(engine: &str, has_dense_vector: bool) {
    let vector = |dimensions| ColumnType::Vector { dimensions };
    // No engine takes the longest that MySQL has as a vector.
    let table = Table::new(engine, &[("v", vector(3)), ("long", vector(16383))]).await;
    let properties = table.engine.properties(&table.index).await;
    let expected = if has_dense_vector { "dense_vector" } else { "float" };
    assert_eq!((&properties["v"]["type"], &properties["long"]["type"]), (&json!(expected), &json!("float")));
    let packed = |numbers: &[f32]| numbers.iter().flat_map(|n| n.to_le_bytes()).collect::<Vec<u8>>();
    let rows = [
        (packed(&[0.1, -2.5]), packed(&[1.5; 16383])),
        (packed(&[0.0, 0.0]), packed(&[3.4e38])),
        (packed(&[f32::NAN, 0.0]), packed(&[])),
    ];
    let rows: Vec<_> = rows.iter().map(|(v, long)| vec![Value::Vector(v), Value::Vector(long)]).collect();
    let documents = table.index(&rows).await;
    assert!(
        documents[0].starts_with("{\"id\":1,\"v\":[0.1,-2.5],\"long\":[1.5,1.5,"),
        "{:.60}",
        documents[0]
    );
    assert_eq!(documents[2], "{\"id\":3,\"v\":null,\"long\":[]}");
    // What docs/types.md says of it: another length than the first, and a magnitude over an f32's.
    for numbers in [&[1.0][..], &[3e38, 3e38]] {
        let numbers = packed(numbers);
        let (judged, _) = table.send(&[vec![Value::Vector(&numbers), Value::Null]]).await;
        assert_eq!(matches!(judged[0], Disposition::Poison { .. }), has_dense_vector, "{judged:?}");
    }
}

async fn addresses_are_found_by_network(engine: &str) {
    let types = [("u", ColumnType::Uuid), ("a", ColumnType::Inet4), ("b", ColumnType::Inet6)];
    let table = Table::new(engine, &types).await;
    let properties = table.engine.properties(&table.index).await;
    let found = ["u", "a", "b"].map(|field| properties[field]["type"].as_str().unwrap());
    assert_eq!(found, ["keyword", "ip", "ip"]);
    let uuid = "01234567-89ab-7def-8123-456789abcdef";
    // As MariaDB prints them.
    let addresses = [
        "2001:db8::1",
        "::ffff:1.2.3.4",
        "::1.2.3.4",
        "::0.1.0.0",
        "1::2:3:4:5:6:7",
        "1:2:3:4:5:6:7::",
        "::",
    ];
    let row = |b| vec![Value::Text(uuid), Value::Text("10.2.0.1"), Value::Text(b)];
    table.index(&addresses.map(row)).await;
    assert_eq!(table.engine.found(&table.index, json!({"term": {"b": "2001:db8::/32"}})).await, ["1"]);
    assert_eq!(table.engine.found(&table.index, json!({"term": {"a": "10.0.0.0/8"}})).await.len(), 7);
    assert_eq!(table.engine.found(&table.index, json!({"term": {"u": uuid}})).await.len(), 7);
}

fn strings_and(json: JsonAs) -> Rules {
    Rules(vec![Rule {
        decimal: Some(DecimalAs::String),
        zero_dates: Some(ZeroDatesAs::String),
        json: Some(json),
        ..Rule::of(TablePattern::parse("*.values").unwrap(), 1)
    }])
}

const DATES: [(&str, ColumnType); 3] = [
    ("d", ColumnType::Date),
    ("m", ColumnType::DateTime { decimals: 6 }),
    ("t", ColumnType::Timestamp { decimals: 0 }),
];

/// Rows of a date, a moment and an instant; all but the first are in no calendar.
fn dates() -> Vec<Vec<Value<'static>>> {
    let known = |micros| Value::Instant(Instant { micros, decimals: 0 });
    let row = |year, month, day, instant| {
        let date = Date { year, month, day };
        vec![Value::Date(date), Value::DateTime(DateTime { date, micros: 1, decimals: 6 }), known(instant)]
    };
    vec![
        row(2026, 11, 23, 1_795_416_428_000_000),
        row(0, 0, 0, 0),
        row(2026, 0, 1, 0),
        row(2026, 1, 0, 0),
        row(2026, 2, 31, 0),
        row(0, 1, 1, 0),
    ]
}

async fn zero_dates_are_kept(engine: &str) {
    let table = Table::with_rules(Engine::new(engine), &DATES, &strings_and(JsonAs::Object)).await;
    let documents = table.index(&dates()).await;
    assert!(
        documents[1].contains("\"d\":\"0000-00-00\",\"m\":\"0000-00-00T00:00:00.000001\""),
        "{}",
        documents[1]
    );
    let ignored = table.engine.found(&table.index, json!({"term": {"_ignored": "d"}})).await;
    assert!(["2", "3", "4", "5"].iter().all(|id| ignored.iter().any(|found| found == id)), "{ignored:?}");
    let range = json!({"range": {"t": {"gte": "2020-01-01"}}});
    assert_eq!(table.engine.found(&table.index, range).await, ["1"]);

    // An index from before the rule is told to ignore them.
    let before = Table::new(engine, &DATES).await;
    assert_eq!(before.engine.properties(&before.index).await["d"], json!({"type": "date"}));
    let after = Table::with_rules(before.engine, &DATES, &strings_and(JsonAs::Object)).await;
    assert_eq!(after.index, found_again(&before.index));
    after.index(&dates()).await;
}

async fn json_is_flattened(engine: &str, has: &str) {
    let types = [("d", ColumnType::Decimal { precision: 30, scale: 2 }), ("j", ColumnType::Json)];
    let table = Table::with_rules(Engine::new(engine), &types, &strings_and(JsonAs::Flattened)).await;
    let properties = table.engine.properties(&table.index).await;
    assert_eq!((&properties["j"]["type"], &properties["d"]), (&json!(has), &json!({"type": "keyword"})));
    let long = format!("{{\"long\": \"{}\"}}", "é".repeat(40_000));
    let deep = format!("{}1{}", "{\"a\":".repeat(99), "}".repeat(99));
    let texts = [
        "{\"a\": {\"b\": [1, \"x\"]}}",
        // Kinds that fields of their own could not mix.
        "{\"a\": {\"b\": {\"c\": null}}}",
        "{\"a\": true, \"\": 1.10}",
        "[{\"a\": 1}, {\"a\": \"x\"}]",
        "{}",
        "[]",
        &deep,
    ];
    let rows: Vec<_> = texts
        .iter()
        .map(|text| vec![Value::Decimal("123456789012345678901234567.10"), Value::Json(text)])
        .collect();
    let documents = table.index(&rows).await;
    assert!(documents[0].contains("\"d\":\"123456789012345678901234567.10\""), "{}", documents[0]);
    assert_eq!(table.engine.found(&table.index, json!({"term": {"j.a.b": "x"}})).await, ["1"]);
    let exact = json!({"term": {"d": "123456789012345678901234567.10"}});
    assert_eq!(table.engine.found(&table.index, exact).await.len(), rows.len());
    // What docs/types.md says of OpenSearch's: it takes no longer text, and nothing makes it.
    let (judged, _) = table.send(&[vec![Value::Null, Value::Json(&long)]]).await;
    assert_eq!(matches!(judged[0], Disposition::Poison { .. }), has == "flat_object", "{judged:?}");
}

async fn json_is_text(engine: &str) {
    let table =
        Table::with_rules(Engine::new(engine), &[("j", ColumnType::Json)], &strings_and(JsonAs::String))
            .await;
    let long = format!("\"{}\"", "x".repeat(40_000));
    let texts = ["{\"a\": \"word\"}", "1", "\"s\"", "[1, \"x\", {}]", "null", &long];
    table.index(&texts.map(|text| vec![Value::Json(text)])).await;
    assert_eq!(table.engine.found(&table.index, json!({"match": {"j": "word"}})).await, ["1"]);
    // What an object was made for takes no string: the rule is refused, and nothing is sent.
    let before = Table::new(engine, &[("j", ColumnType::Json)]).await;
    let mut spec = table.mapping.spec().clone();
    spec.alias.clone_from(&before.mapping.spec().alias);
    let error = before.engine.sink.ensure(&spec, Expect::Existing).await.unwrap_err();
    assert!(error.to_string().contains("field `j`"), "{error}");
}

async fn the_widest_table_is_indexed(engine: &str) {
    let names: Vec<String> = (1..4096).map(|n| format!("c{n}")).collect();
    let ty = ColumnType::Integer { bits: 8, unsigned: true };
    let text = |n: usize| if n.is_multiple_of(8) { ColumnType::Varchar } else { ty };
    let types: Vec<_> = names.iter().enumerate().map(|(n, name)| (name.as_str(), text(n))).collect();
    let table = Table::new(engine, &types).await;
    let value = |n: usize| if n.is_multiple_of(8) { Value::Text("word") } else { Value::U64(n as u64 % 256) };
    let all: Vec<_> = (0..4095).map(value).collect();
    table.index(&[all, vec![Value::Null; 4095]]).await;
    assert_eq!(table.engine.found(&table.index, json!({"term": {"c4095": 4094 % 256}})).await, ["1"]);
    assert_eq!(table.engine.found(&table.index, json!({"match": {"c4089": "word"}})).await, ["1"]);
}

/// What an engine has of the types that not all have.
macro_rules! at {
    ($engine:ident: unsigned_long $unsigned_long:literal, flat $flat:literal, geo_shape $geo_shape:literal, dense_vector $dense_vector:literal) => {
        mod $engine {
            const NAME: &str = stringify!($engine);

            #[tokio::test]
            async fn every_geometry_is_kept_and_found_where_shapes_are_indexed() {
                super::every_geometry_is_kept(NAME, $geo_shape).await;
            }

            #[tokio::test]
            async fn unsigned_longs_are_exact_whether_numbers_or_keywords() {
                super::unsigned_longs_are_exact(NAME, $unsigned_long).await;
            }

            #[tokio::test]
            async fn by_rule_zero_dates_are_strings_that_the_field_ignores() {
                super::zero_dates_are_kept(NAME).await;
            }

            #[tokio::test]
            async fn by_rule_json_of_any_shape_is_one_flattened_field() {
                super::json_is_flattened(NAME, $flat).await;
            }

            #[tokio::test]
            async fn by_rule_json_is_text() {
                super::json_is_text(NAME).await;
            }

            #[tokio::test]
            async fn a_table_of_as_many_columns_as_there_can_be_is_indexed_with_null_in_every_one_too() {
                super::the_widest_table_is_indexed(NAME).await;
            }

            #[tokio::test]
            async fn the_engine_answers_as_the_model_of_the_tests_does() {
                super::model::answers_as_the_model_does(NAME).await;
            }

            #[tokio::test]
            async fn vectors_are_taken_as_vectors_or_numbers() {
                super::vectors_are_taken(NAME, $dense_vector).await;
            }

            #[tokio::test]
            async fn addresses_are_found_by_network_and_uuids_as_they_are() {
                super::addresses_are_found_by_network(NAME).await;
            }
        }
    };
}

at!(elasticsearch: unsigned_long false, flat "flattened", geo_shape false, dense_vector true);
at!(opensearch: unsigned_long true, flat "flat_object", geo_shape true, dense_vector false);

#[tokio::test]
async fn fields_that_are_added_later_fall_back_alike() {
    let engine = Engine::new("elasticsearch");
    let alias = format!("{}.later", engine.schema);
    let field = |name: &str, kind| Field { name: name.to_owned(), kind };
    let mut spec = IndexSpec { alias, fields: vec![field("id", FieldKind::Long)], ..IndexSpec::default() };
    let index = engine.sink.ensure(&spec, Expect::Anything).await.unwrap();
    spec.fields.extend([
        field("u", FieldKind::UnsignedLong),
        field("g", FieldKind::GeoShape),
        field("v", FieldKind::DenseVector { dimensions: 5000 }),
    ]);
    assert_eq!(engine.sink.ensure(&spec, Expect::Existing).await.unwrap(), found_again(&index));
    let properties = engine.properties(&index).await;
    assert_eq!(properties["u"], json!({"type": "keyword"}));
    assert_eq!(properties["g"], json!({"type": "object", "enabled": false}));
    assert_eq!(properties["v"], json!({"type": "float", "index": false}));
}

#[tokio::test]
async fn an_index_keeps_what_it_was_made_by_at_either_engine() {
    for engine in ["elasticsearch", "opensearch"] {
        let engine = Engine::new(engine);
        let alias = format!("{}.ruled", engine.schema);
        let fields = vec![Field { name: "id".into(), kind: FieldKind::Long }];
        let object = |value: Json| value.as_object().cloned().unwrap();
        let mut spec = IndexSpec {
            alias: alias.clone(),
            fields,
            routing: vec!["id".into()],
            settings: object(
                json!({"index.number_of_shards": 2, "index.analysis.analyzer.own.type": "standard"}),
            ),
            mapping: object(json!({"properties": {"of_pipeline": {"type": "text", "analyzer": "own"}}})),
            ..IndexSpec::default()
        };
        let index = engine.sink.ensure(&spec, Expect::Anything).await.unwrap();
        // Once more, by a sink that has not seen it.
        let again = ElasticSink::new(&ElasticOptions::new(engine.url.clone())).unwrap();
        assert_eq!(again.ensure(&spec, Expect::Existing).await.unwrap(), found_again(&index));
        spec.pipeline = Some("trim".into());
        assert_eq!(again.ensure(&spec, Expect::Existing).await.unwrap(), found_again(&index));
        let answer = engine.ask(reqwest::Method::GET, &index.name, None).await;
        let made = &answer[&index.name];
        assert_eq!(made["settings"]["index"]["gc_deletes"], "15m", "{made}");
        let mapping = &made["mappings"];
        assert_eq!(
            mapping["_meta"]["everrelay"],
            json!({"routing": ["id"], "pipeline": "trim"}),
            "{mapping}"
        );
        assert_eq!(mapping["_routing"], json!({"required": true}));
        assert_eq!(mapping["properties"]["of_pipeline"], json!({"type": "text", "analyzer": "own"}));
        spec.routing = vec!["other".into()];
        assert!(matches!(again.ensure(&spec, Expect::Existing).await, Err(SinkError::Definite(_))));
        engine.ask(reqwest::Method::DELETE, &index.name, None).await;
    }
}
