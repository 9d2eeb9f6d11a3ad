//! DDL and DML at random, read with random delay and over random connections: at the end each row's document is what SELECT says, or was
//! noted to need a snapshot.
//!
//! `EVERRELAY_TEST_SEED` repeats a run, `EVERRELAY_TEST_STATEMENTS` makes it longer.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::outcome::compare;
use crate::server::{At, Follower, Own, Server};

at_each!(
    fault_57_documents_are_what_rows_are_after_a_storm_of_ddl_and_dml,
    fault_57_it_is_the_same_after_a_storm_where_table_maps_have_no_names,
    fault_51_it_is_the_same_after_a_storm_where_rows_come_without_all_columns,
    fault_51_it_is_the_same_where_neither_rows_nor_table_maps_are_whole,
);

/// What sessions say of row images: each statement has one of these.
type Images = &'static [&'static str];

const TYPES: &[&str] = &[
    "INT",
    "BIGINT UNSIGNED",
    "SMALLINT",
    "VARCHAR(20)",
    "VARCHAR(300)",
    "TEXT",
    "DECIMAL(10,2)",
    "DATETIME(3)",
    "ENUM('x','y')",
    "CHAR(5) CHARACTER SET latin1",
];

/// A table as it is at the server.
#[derive(Clone, Debug)]
struct Table {
    name: String,
    /// Name and type of each column but `id`.
    columns: Vec<(String, &'static str)>,
}

/// What the server has, and what comes next.
struct Storm {
    rng: StdRng,
    tables: Vec<Table>,
    named: u32,
}

impl Storm {
    /// Each table with its columns.
    fn tables(&self) -> Vec<(&str, Vec<&str>)> {
        fn columns(table: &Table) -> Vec<&str> {
            let others = table.columns.iter().map(|(name, _)| name.as_str());
            std::iter::once("id").chain(others).collect()
        }
        self.tables.iter().map(|table| (table.name.as_str(), columns(table))).collect()
    }

    fn new_name(&mut self, prefix: &str) -> String {
        self.named += 1;
        format!("{prefix}{}", self.named)
    }

    fn create(&mut self, name: String) -> String {
        let columns: Vec<_> = (0..self.rng.random_range(1..5))
            .map(|_| (self.new_name("c"), *TYPES.choose(&mut self.rng).unwrap()))
            .collect();
        let list: String = columns.iter().map(|(name, ty)| format!(", {name} {ty}")).collect();
        let sql = format!("CREATE TABLE {name} (id INT NOT NULL PRIMARY KEY{list})");
        self.tables.push(Table { name, columns });
        sql
    }

    fn value(&mut self, ty: &str) -> String {
        let number = self.rng.random_range(0..30_000);
        match ty {
            _ if self.rng.random_bool(0.15) => "NULL".to_owned(),
            "INT" | "SMALLINT" | "BIGINT UNSIGNED" => number.to_string(),
            "DECIMAL(10,2)" => format!("{}.{:02}", number / 100, number % 100),
            "DATETIME(3)" => format!("'2026-11-23 06:47:{:02}.{:03}'", number % 60, number % 1000),
            "ENUM('x','y')" => ["'x'", "'y'"][number % 2].to_owned(),
            "CHAR(5) CHARACTER SET latin1" => format!("'ü{}'", number % 1000),
            _ => format!("'{number}'"),
        }
    }

    fn dml(&mut self) -> String {
        let at = self.rng.random_range(0..self.tables.len());
        let table = self.tables[at].clone();
        let name = &table.name;
        let ids = self.rng.random_range(1..40);
        match self.rng.random_range(0..10) {
            0..5 => {
                let rows: Vec<_> = (0..self.rng.random_range(1..4))
                    .map(|row| {
                        let values: String =
                            table.columns.iter().map(|(_, ty)| format!(", {}", self.value(ty))).collect();
                        format!("({}{values})", ids + row)
                    })
                    .collect();
                let names: String = table.columns.iter().map(|(name, _)| format!(", {name}")).collect();
                let verb = ["INSERT IGNORE", "REPLACE"][self.rng.random_range(0..2)];
                format!("{verb} INTO {name} (id{names}) VALUES {}", rows.join(", "))
            }
            5..8 if !table.columns.is_empty() => {
                let (column, ty) = table.columns.choose(&mut self.rng).unwrap().clone();
                let value = self.value(ty);
                format!("UPDATE {name} SET {column} = {value} WHERE id BETWEEN {ids} AND {}", ids + 5)
            }
            8 => format!("UPDATE IGNORE {name} SET id = id + 40 WHERE id = {ids}"),
            _ => format!("DELETE FROM {name} WHERE id BETWEEN {ids} AND {}", ids + 2),
        }
    }

    /// Statements of a change of tables.
    fn ddl(&mut self) -> Vec<String> {
        let at = self.rng.random_range(0..self.tables.len());
        let table = self.tables[at].clone();
        let name = table.name.clone();
        let one = self.rng.random_range(0..table.columns.len().max(1));
        let place = match table.columns.get(one) {
            Some((column, _)) if self.rng.random_bool(0.4) => format!(" AFTER {column}"),
            _ if self.rng.random_bool(0.3) => " FIRST".to_owned(),
            _ => String::new(),
        };
        let has_columns = !table.columns.is_empty();
        match self.rng.random_range(0..12) {
            0 | 1 => {
                let (column, ty) = (self.new_name("c"), *TYPES.choose(&mut self.rng).unwrap());
                self.tables[at].columns.push((column.clone(), ty));
                let default = if self.rng.random_bool(0.2) && ty == "INT" { " DEFAULT 7" } else { "" };
                vec![format!("ALTER TABLE {name} ADD COLUMN {column} {ty}{default}{place}")]
            }
            2 if has_columns => {
                let (column, _) = self.tables[at].columns.remove(one);
                vec![format!("ALTER TABLE {name} DROP COLUMN {column}")]
            }
            3 if has_columns => {
                let (old, new) = (table.columns[one].0.clone(), self.new_name("c"));
                self.tables[at].columns[one].0 = new.clone();
                vec![format!("ALTER TABLE {name} RENAME COLUMN {old} TO {new}")]
            }
            // Two columns take each other's name, if their types let nobody notice.
            4 if table.columns.len() > 1 => {
                let other = (one + 1) % table.columns.len();
                let (a, b) = (table.columns[one].0.clone(), table.columns[other].0.clone());
                self.tables[at].columns[one].0 = b.clone();
                self.tables[at].columns[other].0 = a.clone();
                vec![format!("ALTER TABLE {name} RENAME COLUMN {a} TO {b}, RENAME COLUMN {b} TO {a}")]
            }
            5 if has_columns => {
                let column = table.columns[one].0.clone();
                let ty = *TYPES.choose(&mut self.rng).unwrap();
                self.tables[at].columns[one].1 = ty;
                vec![format!("ALTER TABLE {name} MODIFY COLUMN {column} {ty}")]
            }
            6 if has_columns => {
                let (column, ty) = &table.columns[one];
                vec![format!("ALTER TABLE {name} MODIFY COLUMN {column} {ty} FIRST")]
            }
            7 => vec![format!("TRUNCATE TABLE {name}")],
            8 => {
                self.tables.remove(at);
                let create = self.create(name.clone());
                vec![format!("DROP TABLE {name}"), create]
            }
            // As gh-ost and pt-online-schema-change do it.
            9 => {
                let copy = format!("_{name}_new");
                let column = self.new_name("c");
                self.tables[at].columns.push((column.clone(), "INT"));
                let names: String = table.columns.iter().map(|(name, _)| format!(", {name}")).collect();
                vec![
                    format!("CREATE TABLE {copy} LIKE {name}"),
                    format!("ALTER TABLE {copy} ADD COLUMN {column} INT"),
                    format!("INSERT IGNORE INTO {copy} (id{names}) SELECT id{names} FROM {name}"),
                    format!("RENAME TABLE {name} TO _{name}_old, {copy} TO {name}"),
                    format!("DROP TABLE _{name}_old"),
                ]
            }
            10 => {
                let renamed = self.new_name("t");
                self.tables[at].name = renamed.clone();
                vec![format!("RENAME TABLE {name} TO {renamed}")]
            }
            _ => vec![format!("ALTER TABLE {name} ADD INDEX (id), ENGINE = InnoDB")],
        }
    }

    fn next(&mut self) -> Vec<String> {
        match self.rng.random_range(0..100) {
            0..10 => self.ddl(),
            10..15 if self.tables.len() < 4 => {
                let name = self.new_name("t");
                vec![self.create(name)]
            }
            15..25 => {
                let inner: Vec<_> = (0..self.rng.random_range(2..5)).map(|_| self.dml()).collect();
                let end = ["COMMIT", "COMMIT", "ROLLBACK"][self.rng.random_range(0..3)];
                [vec!["BEGIN".to_owned()], inner, vec![end.to_owned()]].concat()
            }
            _ => vec![self.dml()],
        }
    }
}

async fn rage(server: &mut Server, seed: u64, statements: usize, images: Images) {
    let mut storm = Storm { rng: StdRng::seed_from_u64(seed), tables: Vec::new(), named: 0 };
    for table in ["t", "u"] {
        let create = storm.create(table.to_owned());
        server.run(&create).await;
    }
    let mut follower: Follower = server.follow().await;
    for _ in 0..statements {
        if let Some(image) = images.choose(&mut storm.rng) {
            server.run(&format!("SET binlog_row_image = '{image}'")).await;
        }
        for sql in storm.next() {
            server.run(&sql).await;
        }
        match storm.rng.random_range(0..20) {
            0..3 => follower.catch_up(server).await,
            3 => follower.connect_again().await,
            _ => {}
        }
    }
    follower.catch_up(server).await;
    let right = compare(server, &storm.tables(), &follower.read).await;
    // Every row once more: whatever a table needed, its rows as they are now are what SELECT says.
    for table in &storm.tables {
        server.run(&format!("UPDATE {} SET id = id + 1000 ORDER BY id DESC", table.name)).await;
    }
    follower.catch_up(server).await;
    let all = compare(server, &storm.tables(), &follower.read).await;
    eprintln!(
        "{} changes, {right} of {all} documents right before they were all written again",
        follower.read.changes.len()
    );
    let gaps = &follower.read.standing.gaps;
    assert!(right > 0 || gaps.len() >= storm.tables.len(), "something was right: {gaps:?}");
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

async fn storms(at: At, url: &str, name: &str, images: Images) {
    let first = number("EVERRELAY_TEST_SEED", u64::from(rand::random::<u32>()));
    let statements = number("EVERRELAY_TEST_STATEMENTS", 150) as usize;
    for seed in first..first + 2 {
        eprintln!("seed {seed} at {at:?}; to replay: EVERRELAY_TEST_SEED={seed} dev/test real {name}");
        let mut server = Server::at(url, &format!("storm_{seed}")).await;
        rage(&mut server, seed, statements, images).await;
    }
}

async fn fault_57_documents_are_what_rows_are_after_a_storm_of_ddl_and_dml(at: At) {
    storms(at, at.url(), "storm_of_ddl_and_dml", &[]).await;
}

async fn minimal_metadata(at: At) -> (Own, String) {
    let (own, url) = Own::up_at(at, "test-minimal-storm");
    let mut server = Server::at(&url, "minimal_storm").await;
    server.run("SET GLOBAL binlog_row_metadata = MINIMAL").await;
    (own, url)
}

async fn fault_57_it_is_the_same_after_a_storm_where_table_maps_have_no_names(at: At) {
    let (_own, url) = minimal_metadata(at).await;
    storms(at, &url, "storm_where_table_maps_have_no_names", &[]).await;
}

const EVERY_IMAGE: Images = &["MINIMAL", "NOBLOB", "FULL"];

async fn fault_51_it_is_the_same_after_a_storm_where_rows_come_without_all_columns(at: At) {
    storms(at, at.url(), "storm_where_rows_come_without", EVERY_IMAGE).await;
}

async fn fault_51_it_is_the_same_where_neither_rows_nor_table_maps_are_whole(at: At) {
    let (_own, url) = minimal_metadata(at).await;
    storms(at, &url, "neither_rows_nor_table_maps", EVERY_IMAGE).await;
}
