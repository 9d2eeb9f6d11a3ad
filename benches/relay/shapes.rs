//! Tables of other shapes than orders: nested JSON, and many columns.

use anyhow::Result;

use crate::backlog::Stretch;
use crate::note;
use crate::support::mysql::{execute, executed};

/// Rows of one transaction.
const ROWS: u64 = 1_000;

/// Columns of each kind in the wide table.
const EACH: usize = 50;

/// Documents of about 1 KB, as binary JSON: inserted, then each changed.
///
/// # Errors
/// The server refuses.
pub async fn json(url: &str, turns: u64) -> Result<Stretch> {
    let row = "JSON_OBJECT('id', n.id, 'name', CONCAT('customer number ', n.id), 'active', n.id % 2 = 0, 'score', n.id / 7, \
               'since', CAST('2026-11-23' AS DATE), 'address', JSON_OBJECT('street', REPEAT('Long Street ', 5), 'zip', '12345', 'geo', \
               JSON_ARRAY(n.id / 1000, -n.id / 1000)), 'tags', JSON_ARRAY('a', 'bb', 'ccc', n.id, NULL, TRUE), 'lines', JSON_ARRAY(\
               JSON_OBJECT('sku', 'A-1', 'quantity', 1, 'price', 12.30, 'text', REPEAT('x', 100)), \
               JSON_OBJECT('sku', 'B-2', 'quantity', n.id % 9, 'price', 1e10, 'text', REPEAT('y', 100)), \
               JSON_OBJECT('sku', 'C-3', 'quantity', 70000, 'price', 0.5, 'text', REPEAT('z', 200))))";
    let shape = Shape {
        schema: "bench_json",
        columns: "doc JSON NOT NULL".to_owned(),
        row: row.to_owned(),
        set: "doc = JSON_SET(doc, '$.score', 0, '$.name', 'changed')",
    };
    shape.make(url, turns).await
}

/// 200 columns of four kinds: inserted, then each row changed.
///
/// # Errors
/// The server refuses.
pub async fn wide(url: &str, turns: u64) -> Result<Stretch> {
    const KINDS: [(&str, &str, &str); 4] = [
        ("i", "INT", "n.id * 7"),
        ("v", "VARCHAR(40)", "CONCAT('value ', n.id)"),
        ("d", "DECIMAL(12,2)", "n.id / 8"),
        ("t", "DATETIME(3)", "'2026-11-23 12:34:56.789'"),
    ];
    let all = || (0..EACH).flat_map(|n| KINDS.map(|(name, ty, value)| (format!("{name}{n}"), ty, value)));
    let shape = Shape {
        schema: "bench_wide",
        columns: all().map(|(name, ty, _)| format!("{name} {ty}")).collect::<Vec<_>>().join(", "),
        row: all().map(|(.., value)| value).collect::<Vec<_>>().join(", "),
        set: "i0 = i0 + 1, v7 = 'changed'",
    };
    shape.make(url, turns / 5).await
}

struct Shape {
    schema: &'static str,
    /// Behind `id BIGINT PRIMARY KEY`.
    columns: String,
    /// Their values in row `n.id`.
    row: String,
    set: &'static str,
}

impl Shape {
    /// `turns` transactions of inserts and as many of updates.
    async fn make(&self, url: &str, turns: u64) -> Result<Stretch> {
        let Shape { schema, columns, row, set } = self;
        let turns = turns.max(1);
        note!("making {schema}: {} row changes", 2 * turns * ROWS);
        execute(
            url,
            [
                format!("DROP DATABASE IF EXISTS {schema}"),
                format!("CREATE DATABASE {schema}"),
                format!("CREATE TABLE {schema}.t (id BIGINT NOT NULL PRIMARY KEY, {columns})"),
            ],
        )
        .await?;
        let after = executed(url).await?;
        let insert = |turn: u64| {
            let (first, last) = (turn * ROWS + 1, (turn + 1) * ROWS);
            format!(
                "INSERT INTO {schema}.t WITH RECURSIVE n (id) AS (SELECT {first} UNION ALL SELECT id + 1 FROM n WHERE id < {last}) \
                 SELECT n.id, {row} FROM n"
            )
        };
        let update = |turn: u64| {
            let (first, last) = (turn * ROWS + 1, (turn + 1) * ROWS);
            format!("UPDATE {schema}.t SET {set} WHERE id BETWEEN {first} AND {last}")
        };
        execute(url, (0..turns).map(insert).chain((0..turns).map(update))).await?;
        let until = executed(url).await?;
        Ok(Stretch { schema, after, until, transactions: 2 * turns, changes: 2 * turns * ROWS })
    }
}
