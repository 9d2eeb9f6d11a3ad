//! Every type with its edges: what the source read equals what the server prints.

use std::collections::BTreeMap;

use everrelay::event::Op;
use mysql_async::prelude::Queryable;
use mysql_async::{Row as ServerRow, Value as ServerValue};

use crate::server::{At, Follower, Own, Row, Server};

at_every!(fault_63_every_type_reads_as_the_server_prints_it_through_every_carrier_and_by_snapshot);
at_each!(it_is_the_same_where_table_maps_have_no_names_and_events_no_checksums);

/// Column name, type, and SQL expressions for its edges.
pub const COLUMNS: &[(&str, &str, &[&str])] = &[
    ("y", "YEAR", &["0", "1901", "2155", "2026"]),
    ("i8", "TINYINT", &["-128", "127", "0"]),
    ("u8", "TINYINT UNSIGNED", &["255", "128"]),
    ("i16", "SMALLINT", &["-32768", "32767"]),
    ("u16", "SMALLINT UNSIGNED", &["65535"]),
    ("i24", "MEDIUMINT", &["-8388608", "8388607", "-1"]),
    ("u24", "MEDIUMINT UNSIGNED", &["16777215"]),
    ("f", "FLOAT", &["1.1", "-3.4e38", "1e-38", "0", "16777217"]),
    ("fu", "FLOAT UNSIGNED", &["1.5"]),
    ("i32", "INT", &["-2147483648", "2147483647"]),
    ("u32", "INT UNSIGNED", &["4294967295"]),
    ("d", "DOUBLE", &["1.1", "-1.7976931348623157e308", "5e-324", "-0.0"]),
    ("i64", "BIGINT", &["-9223372036854775808", "9223372036854775807"]),
    ("u64", "BIGINT UNSIGNED", &["18446744073709551615"]),
    ("b1", "BIT(1)", &["1", "0"]),
    ("b9", "BIT(9)", &["511", "256"]),
    ("b64", "BIT(64)", &["18446744073709551615", "1"]),
    ("dec1", "DECIMAL(10,2)", &["0.5", "-12.3", "99999999.99", "-0.00", "0"]),
    (
        "dec2",
        "DECIMAL(65,30)",
        &[
            "-99999999999999999999999999999999999.999999999999999999999999999999",
            "0.000000000000000000000000000001",
            "1000000000000000000",
        ],
    ),
    ("dec3", "DECIMAL(65,0)", &["99999999999999999999999999999999999999999999999999999999999999999", "7"]),
    ("dec4", "DECIMAL(9,9) UNSIGNED", &["0.123456789", "0"]),
    ("da", "DATE", &["'0000-00-00'", "'9999-12-31'", "'2026-00-00'", "'1000-01-01'", "'2024-02-29'"]),
    ("dt", "DATETIME", &["'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'", "'2026-11-23 14:50:36'"]),
    ("dt1", "DATETIME(1)", &["'2026-11-23 14:50:36.1'", "'1000-01-01 00:00:00.9'"]),
    ("dt3", "DATETIME(3)", &["'2026-11-23 14:50:36.123'", "'0000-00-00 00:00:00'"]),
    ("dt6", "DATETIME(6)", &["'2026-11-23 14:50:36.123456'", "'9999-12-31 23:59:59.999999'"]),
    ("ts", "TIMESTAMP NULL", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00 00:00:00'"]),
    ("ts2", "TIMESTAMP(2) NULL", &["'2026-11-23 14:50:36.12'"]),
    ("ts6", "TIMESTAMP(6) NULL", &["'2026-11-23 14:50:36.000001'", "'1970-01-01 00:00:01.5'"]),
    ("ti", "TIME", &["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"]),
    ("ti1", "TIME(1)", &["'-00:00:00.1'", "'838:59:58.9'", "'-01:00:00.9'"]),
    ("ti4", "TIME(4)", &["'-00:00:01.0001'", "'12:34:56.7891'"]),
    ("ti6", "TIME(6)", &["'-838:59:58.999999'", "'-00:00:00.000001'", "'00:00:00.000001'"]),
    ("c", "CHAR(10)", &["''", "'é🦀  '", "'abc'"]),
    ("cl", "CHAR(255) CHARACTER SET utf8mb4", &["REPEAT('🦀', 255)", "'x'"]),
    ("vc", "VARCHAR(200)", &["''", "'a\\'b\\\\c'", "REPEAT('é', 200)"]),
    ("vl", "VARCHAR(3000)", &["REPEAT('x', 3000)", "' spaces stay '"]),
    ("vl1", "VARCHAR(100) CHARACTER SET latin1", &["'é€'", "_binary 0x818D8F909D80FF"]),
    ("va", "VARCHAR(100) CHARACTER SET ascii", &["'plain'"]),
    ("vu", "VARCHAR(100) CHARACTER SET utf16", &["'é🦀'"]),
    ("v3", "VARCHAR(100) CHARACTER SET utf8mb3", &["'é漢'"]),
    ("vg", "VARCHAR(100) CHARACTER SET gbk", &["'漢字'", "'中文'"]),
    ("bi", "BINARY(8)", &["0x00", "0xFF00", "0x0102030405060708", "''"]),
    ("vb", "VARBINARY(300)", &["0x00FF00", "''", "REPEAT(0xAB, 300)"]),
    ("tt", "TINYTEXT", &["'tiny'"]),
    ("tx", "TEXT", &["REPEAT('é', 30000)", "''"]),
    ("mt", "MEDIUMTEXT", &["REPEAT('m', 70000)"]),
    ("lt", "LONGTEXT", &["'long'"]),
    ("tb", "TINYBLOB", &["0x00FF"]),
    ("bl", "BLOB", &["X''", "X'00'"]),
    ("lb", "LONGBLOB", &["REPEAT(0xCD, 70000)"]),
    ("e", "ENUM('a','é','it''s')", &["'é'", "'it''s'", "'no such label'"]),
    ("el", "ENUM('x','ü') CHARACTER SET latin1", &["'ü'"]),
    ("s", "SET('a','b','é')", &["''", "'a,é'", "'a,b,é'"]),
    (
        "s64",
        "SET('0','1','2','3','4','5','6','7','8','9','10','11','12','13','14','15','16','17','18','19','20','21','22','23',\
      '24','25','26','27','28','29','30','31','32','33','34','35','36','37','38','39','40','41','42','43','44','45','46','47',\
      '48','49','50','51','52','53','54','55','56','57','58','59','60','61','62','63')",
        &["'63'", "'0,63'", "18446744073709551615"],
    ),
    ("j", "JSON", JSON),
    (
        "g",
        "GEOMETRY",
        &[
            "ST_GeomFromText('POINT(52.5 13.4)', 4326)",
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2), GEOMETRYCOLLECTION EMPTY, LINESTRING(0 0, 1 1))')",
            "ST_GeomFromWKB(0x00000000014014000000000000C020000000000000)",
        ],
    ),
    ("gpt", "POINT SRID 4326", &["ST_GeomFromText('POINT(-90 180)', 4326)"]),
    ("gls", "LINESTRING", &["ST_GeomFromText('LINESTRING(0 0, 1.5 -1e300, 2 2)')"]),
    ("gpg", "POLYGON", &["ST_GeomFromText('POLYGON((0 0, 0 9, 9 9, 0 0), (1 2, 1 3, 2 3, 1 2))')"]),
    ("gmp", "MULTIPOINT", &["ST_GeomFromText('MULTIPOINT(1 2, 3 4)')"]),
    ("gml", "MULTILINESTRING", &["ST_GeomFromText('MULTILINESTRING((0 0, 1 1), (2 2, 3 3, 4 4))')"]),
    (
        "gmg",
        "MULTIPOLYGON",
        &["ST_GeomFromText('MULTIPOLYGON(((0 0, 0 1, 1 1, 0 0)), ((2 2, 2 3, 3 3, 2 2)))')"],
    ),
    ("ggc", "GEOMETRYCOLLECTION", &["ST_GeomFromText('GEOMETRYCOLLECTION EMPTY')"]),
    ("ve", "VECTOR(4)", &["STRING_TO_VECTOR('[1, -0.0, 3.4e38, 1.2e-38]')", "0x0000803F"]),
    ("vem", "VECTOR(16383)", &["REPEAT(0x0000803F, 16383)"]),
    (
        "u",
        "UUID",
        &[
            "'01234567-89AB-4DEF-8123-456789ABCDEF'",
            "'6ccd780c-baba-1026-9564-5b8c656024db'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    ("i4", "INET4", &["'10.2.0.1'", "'0.0.0.0'", "'255.255.255.0'"]),
    (
        "i6",
        "INET6",
        &[
            "'2001:db8::1'",
            "'::'",
            "'::ffff:1.2.3.4'",
            "'::1.2.3.4'",
            "'1:0:2:0:0:3:0:0'",
            "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'",
        ],
    ),
    // As long as those, and none of them.
    ("b16", "BINARY(16)", &["0x0123456789ABCDEF0123456789ABCDEF", "0x01", "''"]),
    ("b4", "BINARY(4)", &["0x0A020001", "0x0A000000"]),
    ("vb16", "VARBINARY(16)", &["0x0000803F", "''"]),
    // Behind vectors and geometries, so that a character set that is taken for another's shows.
    ("vlast", "VARCHAR(20) CHARACTER SET latin1", &["'é€'"]),
    ("gv", "INT GENERATED ALWAYS AS (i8 + 1) VIRTUAL", &[]),
    ("gs", "VARCHAR(20) GENERATED ALWAYS AS (CONCAT('v', u8)) STORED", &[]),
    ("inv", "INT INVISIBLE", &["5"]),
];

/// Documents whose text must be the server's own.
const JSON: &[&str] = &[
    "'null'",
    "'true'",
    "'{}'",
    "'[]'",
    "'[1, -1, 32767, -32768, 65535, 32768, 2147483647, 2147483648, 4294967295, 4294967296, -9223372036854775808, 18446744073709551615]'",
    "'{\"b\": {\"nested\": [[], {}, [null]]}, \"a\": \"text\", \"longer key é\": 1.5}'",
    "'[0.0, -0.0, 1.0, 0.1, 1e14, 1e15, 123456789012345.6, 1234567890123456.5, -1644015272909171.8, 1000000000000001.0, 1e16, 1e-4, 1e-14, 1e-15, 1e-16, 1.5e-300, 1e100, 1.7976931348623157e308, 5e-324, 0.30000000000000004, 100, 1.0e2]'",
    "'[\"q\\\\\"b\\\\\\\\s\\\\/n\\\\nt\\\\tr\\\\rf\\\\fb\\\\b\", \"\\\\u0000\\\\u0001\\\\u001f\\\\u007f\\\\u0080\", \"é🦀\"]'",
    "JSON_OBJECT('d', CAST('2015-01-15' AS DATE), 't', CAST('-10:11:12.5' AS TIME(6)), 'dt', CAST('2015-01-15 23:24:25.12' AS DATETIME(2)), 'dt0', CAST('0000-00-00' AS DATE))",
    "JSON_OBJECT('ts', TIMESTAMP('2015-01-15 23:24:25'), 'dec', CAST(0.50 AS DECIMAL(10,2)), 'neg', CAST(-123456789.123456789 AS DECIMAL(30,15)))",
    "JSON_OBJECT('bin', CAST(0x00FF10 AS BINARY), 'bit', b'101', 'long', CAST(REPEAT(0xAB, 200) AS BINARY), 'exact', CAST(REPEAT(0xAB, 57) AS BINARY), 'blob', REPEAT(0x41, 3))",
    "CONCAT('[', REPEAT('\"0123456789\",', 9999), '\"end\"]')",
    "CONCAT('{\"k\": \"', REPEAT('x', 70000), '\", \"z\": [1, true, -70000, 70000]}')",
    "CONCAT(REPEAT('[', 99), '1', REPEAT(']', 99))",
    "JSON_ARRAY(CAST(1.0 AS DOUBLE), CAST(1e17 AS DOUBLE), CAST(-1e17 AS DOUBLE), 1.0, CAST(3 AS UNSIGNED), TRUE, NULL, CAST(1.1 AS FLOAT))",
];

/// What the server itself makes of a column, in the form of [`crate::server::text`].
fn expression(name: &str, ty: &str) -> String {
    if name.starts_with('b') && ty.starts_with("BIT") {
        return format!("CAST({name} + 0 AS CHAR)");
    }
    if ty.contains("BINARY") || ty.contains("BLOB") || ty.starts_with("VECTOR") || is_geometry(ty) {
        return format!("HEX({name})");
    }
    if ty.starts_with("FLOAT") || ty.starts_with("DOUBLE") {
        return name.to_owned();
    }
    if ty == "YEAR" {
        return format!("CAST({name} + 0 AS CHAR)");
    }
    // For a server told latin1 is cp1252: the client's conversion would do the same.
    format!("CAST(CONVERT({name} USING utf8mb4) AS CHAR)").replace("CONVERT(j USING utf8mb4)", "j")
}

fn is_geometry(ty: &str) -> bool {
    ["GEOMETRY", "POINT", "LINESTRING", "POLYGON", "MULTI"].iter().any(|prefix| ty.starts_with(prefix))
}

fn from_server(row: &ServerRow) -> Vec<String> {
    (0..row.len())
        .map(|i| match row.as_ref(i).unwrap() {
            ServerValue::NULL => "NULL".to_owned(),
            ServerValue::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            ServerValue::Float(v) => format!("f32:{:08x}", v.to_bits()),
            ServerValue::Double(v) => format!("f64:{:016x}", v.to_bits()),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// MariaDB takes no JSON deeper than 32, and no vector shorter than its column.
fn takes(at: At, ty: &str, edge: &str) -> bool {
    !at.is_mariadb()
        || !(edge.contains("REPEAT('[', 99)") || ty.starts_with("VECTOR") && edge.starts_with("0x"))
}

/// An edge in the words of this server.
fn spelt(at: At, edge: &str) -> String {
    if at.is_mariadb() { edge.replace("STRING_TO_VECTOR", "VEC_FromText") } else { edge.to_owned() }
}

/// MariaDB has vectors since 11.7, none as long as MySQL's beside other columns, and columns have no SRID there.
pub fn has(at: At, ty: &str) -> bool {
    let its_own = ["UUID", "INET4", "INET6"].contains(&ty);
    match at {
        At::Mysql => !its_own,
        At::Mariadb => !ty.contains("SRID") && ty != "VECTOR(16383)",
        At::Mariadb10 => !ty.contains("SRID") && !ty.starts_with("VECTOR"),
    }
}

/// The rows that changes leave, by id.
fn folded(changes: &[Row]) -> BTreeMap<u64, Row> {
    let mut rows = BTreeMap::new();
    for row in changes {
        let id = row.values[0].1.parse().unwrap();
        match row.op {
            Op::Delete | Op::Tombstone => drop(rows.remove(&id)),
            Op::Rekey => {
                rows.remove(&row.old_key[0].parse().unwrap());
                rows.insert(id, row.clone());
            }
            _ => drop(rows.insert(id, row.clone())),
        }
    }
    rows
}

async fn compare(at: At, server: &mut Server, follower: &mut Follower) {
    follower.catch_up(server).await;
    assert!(follower.read.gaps.is_empty(), "{:?}", follower.read.gaps);
    server.run("SET time_zone = '+00:00'").await;
    let kept = || COLUMNS.iter().filter(|(_, ty, _)| has(at, ty));
    let names: Vec<&str> = kept().map(|(name, ..)| *name).collect();
    let expressions: Vec<String> = kept().map(|(name, ty, _)| expression(name, ty)).collect();
    let sql = format!("SELECT CAST(id AS CHAR), {} FROM golden ORDER BY id", expressions.join(", "));
    let statement = server.conn.prep(sql).await.unwrap();
    let rows: Vec<ServerRow> = server.conn.exec(statement, ()).await.unwrap();
    let read = folded(&follower.read.changes);
    assert_eq!(rows.len(), read.len());
    for row in rows {
        let expected = from_server(&row);
        let ours = &read[&expected[0].parse().unwrap()].values;
        for ((name, expected), (our_name, ours)) in names.iter().zip(&expected[1..]).zip(&ours[1..]) {
            assert_eq!(name, our_name);
            assert!(
                expected == ours,
                "column {name} of row {}:\nserver {:?}\nours   {:?}",
                expected.len(),
                cut(expected),
                cut(ours)
            );
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(3_000).collect()
}

/// What a session says of how its rows are carried, and whether the server has it.
struct Carrier {
    settings: &'static str,
    by: &'static [At],
}

const CARRIERS: &[Carrier] = &[
    Carrier { settings: "binlog_row_image = 'FULL'", by: &[At::Mysql, At::Mariadb, At::Mariadb10] },
    Carrier { settings: "binlog_row_image = 'MINIMAL'", by: &[At::Mysql, At::Mariadb, At::Mariadb10] },
    Carrier { settings: "binlog_row_image = 'NOBLOB'", by: &[At::Mysql, At::Mariadb, At::Mariadb10] },
    Carrier { settings: "binlog_row_image = 'FULL_NODUP'", by: &[At::Mariadb] },
    Carrier { settings: "binlog_row_value_options = 'PARTIAL_JSON'", by: &[At::Mysql] },
    Carrier { settings: "binlog_transaction_compression = ON", by: &[At::Mysql] },
    Carrier {
        settings: "binlog_transaction_compression = ON, binlog_row_image = 'MINIMAL', binlog_row_value_options = 'PARTIAL_JSON'",
        by: &[At::Mysql],
    },
];

/// Of sessions that write; what is compared is read in UTC.
const ZONES: [&str; 3] = ["+00:00", "+05:45", "-11:30"];

async fn fault_63_every_type_reads_as_the_server_prints_it_through_every_carrier_and_by_snapshot(at: At) {
    through_each(at, at.url()).await;
}

async fn it_is_the_same_where_table_maps_have_no_names_and_events_no_checksums(at: At) {
    let (_own, url) = Own::up_at(at, "test-minimal-golden");
    let mut server = Server::at(&url, "golden_globals").await;
    for setting in ["binlog_row_metadata = 'MINIMAL'", "binlog_checksum = 'NONE'"] {
        server.run(&format!("SET GLOBAL {setting}")).await;
    }
    through_each(at, &url).await;
}

/// Signs, character sets, names, labels, key: all of it comes from information_schema then.
#[tokio::test(flavor = "multi_thread")]
async fn every_type_reads_so_where_mariadbs_table_maps_say_least() {
    let (_own, url) = Own::up_at(At::Mariadb, "test-least");
    let mut server = Server::at(&url, "least").await;
    server.run("SET GLOBAL binlog_row_metadata = NO_LOG").await;
    through_each(At::Mariadb, &url).await;
}

async fn through_each(at: At, url: &str) {
    for (number, carrier) in CARRIERS.iter().filter(|carrier| carrier.by.contains(&at)).enumerate() {
        let mut server = Server::at(url, "golden").await;
        println!("{} in {}", carrier.settings, server.schema);
        server.run(&format!("SET {}", carrier.settings)).await;
        carried(at, &mut server, number).await;
        server.run(&format!("DROP DATABASE {}", server.schema)).await;
    }
}

/// `turn`: with which time zone it begins.
async fn carried(at: At, server: &mut Server, turn: usize) {
    let mut zones = ZONES.iter().cycle().skip(turn).map(|zone| format!("SET time_zone = '{zone}'"));
    let kept: Vec<_> = COLUMNS.iter().filter(|(_, ty, _)| has(at, ty)).collect();
    let columns: Vec<String> = kept.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
    server
        .run(&format!(
            "CREATE TABLE golden (id INT AUTO_INCREMENT PRIMARY KEY, {}) DEFAULT CHARSET utf8mb4 ROW_FORMAT=DYNAMIC",
            columns.join(", ")
        ))
        .await;
    let mut follower = server.follow().await;
    server.run("INSERT INTO golden () VALUES ()").await;
    for (name, ty, edges) in &kept {
        for edge in edges.iter().filter(|edge| takes(at, ty, edge)) {
            let edge = spelt(at, edge);
            server.run(&zones.next().unwrap()).await;
            server.run(&format!("INSERT IGNORE INTO golden ({name}) VALUES ({edge})")).await;
        }
    }
    // Everything at once, in one transaction of many rows, then changed and deleted in bulk.
    let settable: Vec<_> = kept.iter().filter(|(.., edges)| !edges.is_empty()).collect();
    server.run("BEGIN").await;
    for i in 0..16 {
        let names: Vec<&str> = settable.iter().map(|(name, ..)| *name).collect();
        let value = |ty: &str, edges: &[&'static str]| {
            let taken: Vec<_> = edges.iter().filter(|edge| takes(at, ty, edge)).collect();
            spelt(at, taken[i % taken.len()])
        };
        server.run(&zones.next().unwrap()).await;
        let values: Vec<String> = settable.iter().map(|(_, ty, edges)| value(ty, edges)).collect();
        server
            .run(&format!("INSERT IGNORE INTO golden ({}) VALUES ({})", names.join(", "), values.join(", ")))
            .await;
    }
    server.run("COMMIT").await;
    compare(at, server, &mut follower).await;
    server
        .run("UPDATE IGNORE golden SET i8 = i8 DIV 2, vc = CONCAT(COALESCE(vc, ''), '!') WHERE id % 3 = 0")
        .await;
    if !at.is_mariadb() {
        let set = "JSON_SET(j, '$.b.new', CAST('[1.5, \"é\"]' AS JSON), '$[0]', 70000, '$.d', 'x')";
        server.run(&format!("UPDATE golden SET j = {set}, vb = 0x00 WHERE id % 2 = 0")).await;
        server.run("UPDATE golden SET j = JSON_REMOVE(j, '$.a', '$[1]'), ts2 = ts6 WHERE id % 3 = 1").await;
    }
    server.run("DELETE FROM golden WHERE id % 7 = 0").await;
    server.run("UPDATE golden SET id = id + 100000 WHERE id % 5 = 0").await;
    compare(at, server, &mut follower).await;
    let mut snapshot = server.follow().await;
    snapshot.snapshot(&server.schema, "golden").await;
    assert!(snapshot.read.changes.iter().all(|row| row.op == Op::Read));
    compare(at, server, &mut snapshot).await;
    // The server's words are alike for values that are not.
    let bytes = |follower: &Follower| {
        let rows = folded(&follower.read.changes).into_iter();
        rows.map(|(id, row)| (id, row.bytes)).collect::<BTreeMap<_, _>>()
    };
    assert!(bytes(&follower) == bytes(&snapshot), "the same words, and other bytes");
    let schemas = [&follower, &snapshot].map(|follower| follower.read.schemas.values().next().cloned());
    assert_eq!(schemas[0], schemas[1]);
}
