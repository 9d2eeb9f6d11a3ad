//! Random values of the types that the tables of *columns* have not: text in every character set, shapes, vectors.

use std::collections::BTreeMap;

use everrelay::event::codec::{Row, RowWriter};
use everrelay::event::value::Geometry;
use everrelay::event::{Column, ColumnType, Op, TableName, TableSchema, Value};
use everrelay::mapping::TableMapping;
use everrelay::source::mysql::charset::Charset;
use everrelay::source::mysql::server::Family;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::charsets::{Set, sets};
use crate::server::{At, Follower, Server};

at_each!(
    random_text_of_every_character_set_reads_as_the_server_converts_it,
    random_shapes_and_vectors_become_the_json_that_the_server_makes_of_them,
);

const ROWS: usize = 60;

fn seeded(test: &str) -> StdRng {
    let seed: u64 = std::env::var("EVERRELAY_TEST_SEED")
        .map_or_else(|_| u64::from(rand::random::<u32>()), |seed| seed.parse().expect("a number"));
    eprintln!("seed {seed}; to replay: EVERRELAY_TEST_SEED={seed} cargo test --test real_source {test}");
    StdRng::seed_from_u64(seed)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads table `t` by a snapshot: its rows must have the bytes that the stream's have.
async fn ensure_snapshot_is_the_same(server: &mut Server, stream: &Follower) {
    let mut snapshot = server.follow().await;
    snapshot.snapshot(&server.schema, "t").await;
    let bytes = |follower: &Follower| {
        let rows = follower.read.changes.iter();
        rows.map(|row| (row.values[0].1.clone(), row.bytes.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(snapshot.read.changes.len(), ROWS);
    assert!(bytes(stream) == bytes(&snapshot), "stream and snapshot differ");
}

/// Text of at most 30 characters as SQL.
fn text(random: &mut StdRng, (name, collation, most_bytes): &Set, family: Family) -> String {
    let characters = random.random_range(0..30);
    let is_unicode = name.starts_with("utf") || name == "ucs2";
    if is_unicode {
        let most = if *most_bytes == 4 { 0x10_ffff } else { 0xffff };
        let most = if name.ends_with('3') || name == "ucs2" { 0xffff } else { most };
        let text: String =
            (0..characters).filter_map(|_| char::from_u32(random.random_range(0..=most))).collect();
        return format!("_utf8mb4 x'{}'", hex(text.as_bytes()));
    }
    let charset = Charset::of(family, *collation).unwrap();
    let (mut bytes, mut scratch) = (Vec::new(), String::new());
    for _ in 0..characters {
        for _ in 0..50 {
            let length = random.random_range(1..=usize::from(*most_bytes));
            let one: Vec<u8> = (0..length).map(|_| random.random()).collect();
            let (text, replaced) = charset.decode(&one, &mut scratch);
            if !replaced && text.chars().count() == 1 {
                bytes.extend(one);
                break;
            }
        }
    }
    format!("_binary x'{}'", hex(&bytes))
}

async fn random_text_of_every_character_set_reads_as_the_server_converts_it(at: At) {
    let mut random = seeded("random_text_of_every");
    let mut server = Server::on(at, "random_text").await;
    let family = if at.is_mariadb() { Family::Mariadb } else { Family::Mysql };
    let sets = sets(&mut server).await;
    let columns: Vec<String> =
        sets.iter().map(|(name, ..)| format!("c_{name} VARCHAR(30) CHARACTER SET {name}")).collect();
    server.run(&format!("CREATE TABLE t (id INT PRIMARY KEY, {})", columns.join(", "))).await;
    let mut follower = server.follow().await;
    for id in 0..ROWS {
        let values: Vec<String> = sets.iter().map(|set| text(&mut random, set, family)).collect();
        server.run(&format!("INSERT INTO t VALUES ({id}, {})", values.join(", "))).await;
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.read.changes.len(), ROWS);
    for (name, ..) in &sets {
        let column = format!("c_{name}");
        let printed: Vec<String> = server
            .conn
            .query(format!("SELECT CONVERT({column} USING utf8mb4) FROM t ORDER BY id"))
            .await
            .unwrap();
        for (row, printed) in follower.read.changes.iter().zip(&printed) {
            let (_, ours) = row.values.iter().find(|(name, _)| *name == column).unwrap();
            assert_eq!(ours, printed, "{column}");
        }
    }
    ensure_snapshot_is_the_same(&mut server, &follower).await;
}

/// A number that binary fractions and decimal ones of a few digits both have.
fn coordinate(random: &mut StdRng, most: i32) -> f64 {
    f64::from(random.random_range(-most * 8..=most * 8)) / 8.0
}

fn points(random: &mut StdRng, least: usize) -> String {
    let point = |random: &mut StdRng| format!("{} {}", coordinate(random, 180), coordinate(random, 90));
    let count = random.random_range(least..least + 4);
    (0..count).map(|_| point(random)).collect::<Vec<_>>().join(", ")
}

fn ring(random: &mut StdRng) -> String {
    let points = points(random, 3);
    let first = points.split(", ").next().unwrap();
    format!("({points}, {first})")
}

fn polygon(random: &mut StdRng) -> String {
    let rings = random.random_range(1..3);
    format!("({})", (0..rings).map(|_| ring(random)).collect::<Vec<_>>().join(", "))
}

/// A shape as well-known text, collections at most `depth` inside each other.
fn shape(random: &mut StdRng, depth: u8) -> String {
    let some = random.random_range(1..4);
    match random.random_range(0..if depth > 0 { 7 } else { 6 }) {
        0 => format!("POINT({} {})", coordinate(random, 180), coordinate(random, 90)),
        1 => format!("LINESTRING({})", points(random, 2)),
        2 => format!("POLYGON{}", polygon(random)),
        3 => format!("MULTIPOINT({})", points(random, 1)),
        4 => {
            let lines: Vec<String> = (0..some).map(|_| format!("({})", points(random, 2))).collect();
            format!("MULTILINESTRING({})", lines.join(", "))
        }
        5 => {
            let polygons: Vec<String> = (0..some).map(|_| polygon(random)).collect();
            format!("MULTIPOLYGON({})", polygons.join(", "))
        }
        _ => {
            let shapes: Vec<String> = (0..some).map(|_| shape(random, depth - 1)).collect();
            format!("GEOMETRYCOLLECTION({})", shapes.join(", "))
        }
    }
}

/// The value of a document of this one column.
fn json(ty: ColumnType, value: &Value<'_>) -> serde_json::Value {
    let schema = TableSchema {
        name: TableName::new("s", "t"),
        columns: vec![Column { name: "c".into(), ty, nullable: false }],
        key: vec![0],
    };
    let (mut row, mut document) = (Vec::new(), Vec::new());
    RowWriter::new(&mut row).value(value);
    TableMapping::new(&schema).unwrap().document(Op::Read, Row::new(&row), &mut document).unwrap();
    serde_json::from_slice::<serde_json::Value>(&document).unwrap()["c"].clone()
}

/// Numbers as they are, whatever was written: 1 and 1.0 are the same.
fn plain(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(number) => number.as_f64().into(),
        serde_json::Value::Array(values) => values.iter().map(plain).collect(),
        serde_json::Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), plain(value))).collect()
        }
        other => other.clone(),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

async fn random_shapes_and_vectors_become_the_json_that_the_server_makes_of_them(at: At) {
    let mut random = seeded("random_shapes_and");
    let mut server = Server::on(at, "random_shapes").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, g GEOMETRY, v VECTOR(5))").await;
    let mut follower = server.follow().await;
    let mut vectors = Vec::new();
    // MariaDB takes no vector whose length is over the range of its numbers, and reads no collection inside another.
    let (most, depth) = if at.is_mariadb() { (1e15, 1) } else { (f32::MAX, 3) };
    for id in 0..ROWS {
        let vector: Vec<f32> = std::iter::repeat_with(|| f32::from_bits(random.random()))
            .filter(|number| number.is_finite() && number.abs() < most)
            .take(5)
            .collect();
        let packed: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
        let shape = shape(&mut random, depth);
        server
            .run(&format!("INSERT INTO t VALUES ({id}, ST_GeomFromText('{shape}'), x'{}')", hex(&packed)))
            .await;
        vectors.push(vector);
    }
    follower.catch_up(&mut server).await;
    let printed: Vec<(String, String)> =
        server.conn.query("SELECT ST_AsGeoJSON(g), HEX(v) FROM t ORDER BY id").await.unwrap();
    assert_eq!((follower.read.changes.len(), printed.len()), (ROWS, ROWS));
    for ((row, (shape, vector)), numbers) in follower.read.changes.iter().zip(&printed).zip(&vectors) {
        let geometry = bytes(&row.values[1].1);
        let geometry = Value::Geometry(Geometry { srid: 0, wkb: &geometry[4..] });
        let expected: serde_json::Value = serde_json::from_str(shape).unwrap();
        assert_eq!(plain(&json(ColumnType::Geometry, &geometry)), plain(&expected));
        assert_eq!(row.values[2].1, *vector);
        let packed = bytes(vector);
        let ours = json(ColumnType::Vector { dimensions: 5 }, &Value::Vector(&packed));
        let ours: Vec<f32> =
            ours.as_array().unwrap().iter().map(|n| n.to_string().parse().unwrap()).collect();
        assert_eq!(ours, *numbers);
    }
    ensure_snapshot_is_the_same(&mut server, &follower).await;
}
