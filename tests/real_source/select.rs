//! The same row by either way, from the stream and by SELECT, is the same bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use everrelay::event::codec::Row;
use everrelay::event::gtid::Origin;
use everrelay::event::{Gtid, GtidSet, Op, TableName, TableNo, TableSchema};
use everrelay::log::record::{Batch, Change as LogChange, Kind};
use everrelay::source::mysql::connection::{BinlogConnection, Next};
use everrelay::source::mysql::control::Control;
use everrelay::source::mysql::decode::{Change, Decoder, RowPlan, RowsHeader};
use everrelay::source::mysql::event::kind;
use everrelay::source::mysql::link::{Link, LinkError};
use everrelay::source::mysql::owed::Owed;
use everrelay::source::mysql::schema::{self, TableMap};
use everrelay::source::mysql::select::{self, RowReader};
use everrelay::source::mysql::server::Family;
use everrelay::source::mysql::{MysqlOptions, Place};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::columns;
use crate::golden;
use crate::server::{At, Server};

/// Bound on everything that waits.
const PATIENCE: Duration = Duration::from_secs(30);

const LIMIT: usize = 16 << 20;

/// Rows by the bytes of their key, from the stream of one table.
struct Streamed {
    stream: BinlogConnection,
    decoder: Decoder,
    table: Option<(TableSchema, RowPlan)>,
    map: Vec<u8>,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    gtids: GtidSet,
    /// The table's number in the statement at hand; other tests have theirs.
    number: u64,
}

impl Streamed {
    async fn start(server: &mut Server) -> Streamed {
        let after = server.executed().await;
        let mut options = server.options();
        options.heartbeat = Duration::from_millis(200);
        let control = Control::connect(&options).await.unwrap();
        let stream = control.stream(&after, &options).await.unwrap();
        let (decoder, rows) = (Decoder::new(LIMIT), BTreeMap::new());
        Streamed { stream, decoder, table: None, map: Vec::new(), rows, gtids: after, number: 0 }
    }

    /// Reads all that the server has executed, up to a heartbeat: it has nothing further.
    async fn catch_up(&mut self, server: &mut Server, table: &str) {
        let target = server.executed().await;
        let place = Place::default();
        loop {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            let event = match self.stream.wait(deadline, PATIENCE, &place).await.unwrap() {
                Next::Event(event) => event,
                Next::Deadline => panic!("no heartbeat came"),
            };
            let change = match event.kind() {
                kind::HEARTBEAT | kind::HEARTBEAT_V2 if target.is_subset(&self.gtids) => return,
                kind::GTID | kind::GTID_TAGGED => {
                    let parsed = event.gtid().unwrap();
                    let tag = parsed.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
                    let origin = Origin::Server { uuid: parsed.sid(), tag };
                    self.gtids.insert(&Gtid { origin, number: parsed.gno() });
                    continue;
                }
                kind::TABLE_MAP => {
                    let map = TableMap::parse(event.body()).unwrap();
                    if map.name() != TableName::new(&server.schema, table) {
                        continue;
                    }
                    self.number = map.table_id;
                    if self.map != map.shape {
                        self.table = Some(schema::build(&map.name(), map.shape, Family::Mysql).unwrap());
                        self.map = map.shape.to_vec();
                    }
                    continue;
                }
                kind::WRITE_ROWS => Change::Write,
                kind::UPDATE_ROWS => Change::Update,
                kind::DELETE_ROWS => Change::Delete,
                _ => continue,
            };
            let Some((schema, plan)) = &self.table else { continue };
            let header = RowsHeader::parse(event.body(), 2).unwrap();
            if header.table_id != self.number {
                continue;
            }
            let mut batch = Batch::new();
            self.decoder
                .rows(plan, TableNo(0), change, header.rest, &mut batch, &mut Owed::default())
                .unwrap();
            for (kind, payload) in batch.payloads() {
                assert_eq!(kind, Kind::Change);
                let change = LogChange::decode(payload).unwrap();
                let (values, rest) = split(change.row.rest(), schema.columns.len());
                let key = key_of(schema, &values);
                match change.op {
                    Op::Delete => drop(self.rows.remove(&key)),
                    Op::Rekey => {
                        self.rows.remove(rest);
                        self.rows.insert(key, values.concat());
                    }
                    _ => drop(self.rows.insert(key, values.concat())),
                }
            }
        }
    }
}

/// The bytes of each value, and what follows them.
fn split(bytes: &[u8], columns: usize) -> (Vec<&[u8]>, &[u8]) {
    let mut row = Row::new(bytes);
    let values = (0..columns).map(|_| {
        let before = row.rest();
        row.next_value().unwrap();
        &before[..before.len() - row.rest().len()]
    });
    let values = values.collect();
    (values, row.rest())
}

fn key_of(schema: &TableSchema, values: &[&[u8]]) -> Vec<u8> {
    schema.key.iter().flat_map(|index| values[usize::from(*index)]).copied().collect()
}

async fn link(options: &MysqlOptions) -> Link {
    let mut link = Link::connect(options).await.unwrap();
    for statement in select::session(Family::Mysql) {
        link.ask(statement).await.unwrap();
    }
    link
}

/// All rows by SELECT are those of the stream, byte for byte.
async fn compare(server: &mut Server, streamed: &mut Streamed, table: &str) {
    streamed.catch_up(server, table).await;
    let (schema, plan) = streamed.table.as_ref().unwrap();
    let mut link = link(&server.options()).await;
    let sql = format!("SELECT {} FROM {}", select::list(schema), select::table(schema));
    let statement = link.prepare(&sql).await.unwrap();
    let definitions = link.execute(&statement).await.unwrap();
    let mut reader = RowReader::new(Family::Mysql, plan, &definitions, LIMIT).unwrap();
    let (mut row, mut count) = (Vec::new(), 0);
    while let Some(packet) = link.next_row(LIMIT).await.unwrap() {
        row.clear();
        reader.read(packet, &mut row).unwrap();
        count += 1;
        let (values, rest) = split(&row, schema.columns.len());
        assert!(rest.is_empty());
        let key: Vec<u8> = reader.key(&row).flatten().copied().collect();
        assert_eq!(key, key_of(schema, &values));
        let expected = &streamed.rows[&key];
        if row != *expected {
            let (expected, _) = split(expected, schema.columns.len());
            for ((column, found), expected) in schema.columns.iter().zip(&values).zip(expected) {
                let value = |bytes| format!("{:?}", Row::new(bytes).next_value().unwrap());
                assert!(*found == expected, "{}: {} != {}", column.name, value(found), value(expected));
            }
        }
    }
    assert_eq!((count, reader.replaced > 0), (streamed.rows.len(), streamed.decoder.replaced > 0));
    link.close(statement).await.unwrap();
    assert_eq!(link.ask("SELECT 1").await.unwrap(), [[Some("1".to_owned())]]);
}

#[tokio::test]
async fn a_row_of_every_type_is_the_same_bytes_by_either_way() {
    let mut server = Server::new("select_golden").await;
    let kept: Vec<_> = golden::COLUMNS.iter().filter(|(_, ty, _)| golden::has(At::Mysql, ty)).collect();
    let columns: Vec<String> = kept.iter().map(|(name, ty, _)| format!("{name} {ty}")).collect();
    server
        .run(&format!(
            "CREATE TABLE golden (id INT AUTO_INCREMENT PRIMARY KEY, {}, zf INT(9) ZEROFILL, zd DECIMAL(12,3) ZEROFILL, \
             zz DECIMAL(5,0) ZEROFILL, `back``tick` INT, lg ENUM('中', 'x') CHARACTER SET gbk, sg SET('中', 'x') CHARACTER SET gbk) DEFAULT CHARSET utf8mb4 ROW_FORMAT=DYNAMIC",
            columns.join(", ")
        ))
        .await;
    let mut streamed = Streamed::start(&mut server).await;
    server.run("SET time_zone = '-05:30'").await;
    for (name, _, edges) in kept {
        for edge in *edges {
            server.run(&format!("INSERT IGNORE INTO golden ({name}) VALUES ({edge})")).await;
        }
    }
    server
        .run("INSERT INTO golden (zf, zd, zz, `back``tick`, lg, sg) VALUES (7, 12.3, 0, 1, '中', 'x,中'), (0, 0, 12345, 2, 'x', ''), \
             (1, 0.5, 100, 3, NULL, '中')")
        .await;
    compare(&mut server, &mut streamed, "golden").await;
}

#[tokio::test]
async fn random_rows_are_the_same_bytes_by_either_way() {
    let seed: u64 = std::env::var("EVERRELAY_TEST_SEED")
        .ok()
        .map_or_else(|| u64::from(rand::random::<u32>()), |seed| seed.parse().expect("a number"));
    println!(
        "seed {seed}; to replay: EVERRELAY_TEST_SEED={seed} cargo test --test real_source random_rows_are"
    );
    let mut random = StdRng::seed_from_u64(seed);
    let mut server = Server::new("select_random").await;
    server.run(&columns::create()).await;
    let mut streamed = Streamed::start(&mut server).await;
    let names = columns::COLUMNS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    for id in 0..150 {
        let values = columns::COLUMNS.iter().map(|(.., kind)| columns::value(&mut random, *kind, false));
        let values = values.collect::<Vec<_>>().join(", ");
        let zone = random.random_range(-12..=13);
        server.run(&format!("SET time_zone = '{zone:+03}:00'")).await;
        server.run(&format!("INSERT IGNORE INTO t (id, mild, {names}) VALUES ({id}, 0, {values})")).await;
    }
    server.run("UPDATE t SET id = id + 1000 WHERE id % 5 = 0").await;
    server.run("DELETE FROM t WHERE id % 7 = 0").await;
    compare(&mut server, &mut streamed, "t").await;
}

#[tokio::test]
async fn keys_of_several_columns_are_found_in_a_row() {
    let mut server = Server::new("select_keys").await;
    server
        .run(
            "CREATE TABLE k (a VARCHAR(9) CHARACTER SET latin1, b INT, c DECIMAL(9,2), d TEXT, e DATETIME(3), PRIMARY KEY (e, a, c))",
        )
        .await;
    let mut streamed = Streamed::start(&mut server).await;
    server
        .run(
            "INSERT INTO k VALUES ('é', 1, -1.5, 'x', '2026-11-28 01:02:03.4'), ('', 2, 0, NULL, '2026-11-28'), \
             ('z', NULL, 7, '', '2026-11-28')",
        )
        .await;
    server.run("UPDATE k SET a = CONCAT(a, 'ß'), b = 9").await;
    compare(&mut server, &mut streamed, "k").await;
}

#[tokio::test]
async fn a_table_that_has_changed_is_not_read_as_what_it_was() {
    let mut server = Server::new("select_changed").await;
    server
        .run(
            "CREATE TABLE t (id INT PRIMARY KEY, u INT UNSIGNED, d DECIMAL(9,2), v VARCHAR(9), b VARBINARY(9), e ENUM('a'), \
             dt DATETIME(3), p BINARY(4), l VARCHAR(9) CHARACTER SET latin1)",
        )
        .await;
    let mut streamed = Streamed::start(&mut server).await;
    server.run("INSERT INTO t (id) VALUES (1)").await;
    streamed.catch_up(&mut server, "t").await;
    let (schema, plan) = streamed.table.as_ref().unwrap();
    let mut link = link(&server.options()).await;
    let sql = format!("SELECT {} FROM {}", select::list(schema), select::table(schema));
    for (alter, column) in [
        ("MODIFY u INT", 1),
        ("MODIFY u BIGINT UNSIGNED", 1),
        ("MODIFY d DECIMAL(9,3)", 2),
        ("MODIFY v VARCHAR(9) CHARACTER SET latin1", 3),
        ("MODIFY b VARCHAR(9)", 4),
        ("MODIFY e SET('a')", 5),
        ("MODIFY e VARCHAR(9)", 5),
        ("MODIFY dt DATETIME", 6),
        ("MODIFY p VARBINARY(4)", 7),
        ("MODIFY l VARCHAR(9) CHARACTER SET utf8mb4", 8),
    ] {
        server.run("CREATE TABLE was LIKE t").await;
        server.run(&format!("ALTER TABLE t {alter}")).await;
        let statement = link.prepare(&sql).await.unwrap();
        let definitions = link.execute(&statement).await.unwrap();
        let differs = RowReader::new(Family::Mysql, plan, &definitions, LIMIT).unwrap_err();
        assert_eq!(differs.column, column, "{alter}");
        // Rows that are not read leave a connection that answers nothing else.
        assert!(matches!(link.ask("SELECT 1").await.unwrap_err(), LinkError::Io(_)));
        link = self::link(&server.options()).await;
        server.run("DROP TABLE t").await;
        server.run("RENAME TABLE was TO t").await;
    }
    for (alter, code) in [("ALTER TABLE t DROP COLUMN v", 1054), ("DROP TABLE t", 1146)] {
        server.run(alter).await;
        match link.prepare(&sql).await.unwrap_err() {
            LinkError::Server(said) => assert_eq!(said.code, code),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_row_over_the_limit_is_not_held() {
    let mut server = Server::new("select_long").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)").await;
    server.run("INSERT INTO t VALUES (1, REPEAT('x', 20000000)), (2, NULL)").await;
    let sql = format!("SELECT id, b FROM {}.t ORDER BY id", server.schema);
    for (limit, fits) in [(30_000_000, true), (18_000_000, false), (1_000, false)] {
        let mut link = link(&server.options()).await;
        let statement = link.prepare(&sql).await.unwrap();
        link.execute(&statement).await.unwrap();
        match link.next_row(limit).await {
            Ok(Some(row)) => assert!(fits && row.len() > 20_000_000),
            Err(LinkError::LongRow { .. }) => assert!(!fits),
            other => panic!("{other:?}"),
        }
        if fits {
            assert!(link.next_row(limit).await.unwrap().is_some());
            assert!(
                link.next_row(limit).await.unwrap().is_none()
                    && link.next_row(limit).await.unwrap().is_none()
            );
        }
    }
}
