//! The orders table, the backlog of changes to it, and one very large transaction.

use anyhow::{Result, ensure};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::note;
use crate::support::mysql::{connect, execute, executed, one};

/// The schema of the backlog's table.
pub const SCHEMA: &str = "bench";
/// The schema of the large transaction's.
pub const GIANT_SCHEMA: &str = "bench_giant";
/// Rows of one transaction.
pub const ROWS: u64 = 100;
/// Kinds of transactions in turn: ten inserts, five updates and one delete, mixed.
const TURN: &[u8] = b"IIUIIUIUIIUIIUID";

/// A stretch of the server's history.
#[derive(Clone, Debug)]
pub struct Stretch {
    pub schema: &'static str,
    /// What the server had executed before, as a GTID set.
    pub after: String,
    /// And with it.
    pub until: String,
    pub transactions: u64,
    pub changes: u64,
}

/// The orders table, in `schema`.
#[must_use]
pub fn orders(schema: &str) -> String {
    format!(
        "CREATE TABLE {schema}.orders (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, customer_id INT NOT NULL, \
         status VARCHAR(16) NOT NULL, amount DECIMAL(12,2) NOT NULL, note VARCHAR(200) NOT NULL, created_at DATETIME(3) NOT NULL, \
         updated_at TIMESTAMP NOT NULL, meta JSON NOT NULL)"
    )
}

/// The values of one row, in parentheses.
pub fn row(id: u64, random: &mut StdRng) -> String {
    const STATUS: [&str; 5] = ["new", "paid", "packed", "shipped", "cancelled"];
    let (customer, cents) = (random.random_range(1..100_000), random.random_range(100..10_000_000));
    let (status, day) = (STATUS[random.random_range(0..5)], random.random_range(1..28));
    let (second, milli) = (random.random_range(0..60), random.random_range(0..1000));
    let (number, bell) = (random.random_range(1..10_000), random.random_range(1..100));
    format!(
        "({id},{customer},'{status}',{}.{:02},'Leave it with the neighbour at number {number:04}, bell {bell:02}; call before. Thank you!',\
         '2026-02-{day:02} 12:34:{second:02}.{milli:03}','2026-03-{day:02} 01:02:{second:02}',\
         '{{\"tags\":[\"a\",\"b{bell:02}\"],\"source\":\"web\",\"priority\":{second}}}')",
        cents / 100,
        cents % 100
    )
}

/// Makes the backlog, or finds the one that is there and the newest of the server's history.
///
/// # Errors
/// The server refuses.
pub async fn backlog(url: &str, turns: u64) -> Result<Stretch> {
    let transactions = turns * TURN.len() as u64;
    let mut stretch = Stretch {
        schema: SCHEMA,
        after: String::new(),
        until: executed(url).await?,
        transactions,
        changes: transactions * ROWS,
    };
    if let Some(after) = known(url, SCHEMA, turns, &stretch.until).await? {
        stretch.after = after;
        return Ok(stretch);
    }
    note!("making the backlog: {} row changes in {transactions} transactions", stretch.changes);
    fresh(url, SCHEMA).await?;
    stretch.after = executed(url).await?;
    let mut conn = connect(url).await?;
    let mut live = Live { ids: Vec::new(), last: 0, random: StdRng::seed_from_u64(1) };
    for _ in 0..turns {
        for kind in TURN {
            let statement = match kind {
                b'I' => live.insert(),
                b'U' => live.update(),
                _ => live.delete(),
            };
            transaction(&mut conn, &statement).await?;
        }
    }
    conn.disconnect().await?;
    stretch.until = executed(url).await?;
    remember(url, &stretch, turns).await?;
    Ok(stretch)
}

/// Whether the server compresses a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    Off,
    On,
}

/// Makes one transaction of about `megabytes` MB.
///
/// # Errors
/// The server refuses.
pub async fn giant(url: &str, megabytes: u64, compression: Compression) -> Result<Stretch> {
    note!("making one transaction of {megabytes} MB, compression {compression:?}");
    let rows = megabytes * 1_000_000 / 2_200;
    fresh(url, GIANT_SCHEMA).await?;
    let after = executed(url).await?;
    execute(
        url,
        [
            format!("SET cte_max_recursion_depth = {rows}, binlog_transaction_compression = {compression:?}"),
            format!(
                "INSERT INTO {GIANT_SCHEMA}.orders WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {rows}) \
                 SELECT id, id % 100000, 'new', id / 100, REPEAT('n', 80), '2026-01-02 03:04:05.678', '2026-01-02 03:04:05', \
                 JSON_OBJECT('text', REPEAT('x', 2020)) FROM n"
            ),
        ],
    )
    .await?;
    let until = executed(url).await?;
    Ok(Stretch { schema: GIANT_SCHEMA, after, until, transactions: 1, changes: rows })
}

/// Makes a table of orders of so many rows, and nothing else.
///
/// # Errors
/// The server refuses.
pub async fn table(url: &str, rows: u64) -> Result<Stretch> {
    const SCHEMA: &str = "bench_snapshot";
    note!("making {rows} rows");
    fresh(url, SCHEMA).await?;
    for first in (0..rows).step_by(100_000) {
        let last = (first + 100_000).min(rows);
        execute(
            url,
            [
                "SET cte_max_recursion_depth = 1000000000".to_owned(),
                format!(
                    "INSERT INTO {SCHEMA}.orders WITH RECURSIVE n (id) AS (SELECT {first} + 1 UNION ALL SELECT id + 1 FROM n WHERE id < {last}) \
                     SELECT id, id % 100000, 'packed', id / 100, CONCAT('Leave it with the neighbour at number ', id % 10000, ', bell 12; call before. Thanks'), \
                     '2026-01-02 03:04:05.678', '2026-01-02 03:04:05', JSON_OBJECT('tags', JSON_ARRAY('a', 'b12'), 'source', 'web', 'priority', id % 60) FROM n"
                ),
            ],
        )
        .await?;
    }
    let after = executed(url).await?;
    Ok(Stretch { schema: SCHEMA, until: after.clone(), after, transactions: 0, changes: rows })
}

/// An empty schema with the orders table; the server's log syncs no more than it must.
///
/// # Errors
/// The server refuses.
pub async fn fresh(url: &str, schema: &str) -> Result<()> {
    let statements = [
        "SET GLOBAL sync_binlog = 0".to_owned(),
        "SET GLOBAL innodb_flush_log_at_trx_commit = 0".to_owned(),
        "SET GLOBAL max_binlog_size = 1073741824".to_owned(),
        format!("DROP DATABASE IF EXISTS {schema}"),
        format!("DROP DATABASE IF EXISTS {schema}_known"),
        format!("CREATE DATABASE {schema}"),
        orders(schema),
    ];
    execute(url, statements).await
}

/// Notes a stretch beside it, outside the binlog.
async fn remember(url: &str, stretch: &Stretch, turns: u64) -> Result<()> {
    let Stretch { schema, after, until, .. } = stretch;
    let statements = [
        "SET sql_log_bin = 0".to_owned(),
        format!("CREATE DATABASE {schema}_known"),
        format!("CREATE TABLE {schema}_known.stretch (turns BIGINT, starts TEXT, ends TEXT)"),
        format!("INSERT INTO {schema}_known.stretch VALUES ({turns}, '{after}', '{until}')"),
    ];
    execute(url, statements).await
}

async fn known(url: &str, schema: &str, turns: u64, until: &str) -> Result<Option<String>> {
    let tables: u64 = one(
        url,
        &format!("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = '{schema}_known'"),
    )
    .await?;
    if tables == 0 {
        return Ok(None);
    }
    let (made, after, ends): (u64, String, String) =
        one(url, &format!("SELECT turns, starts, ends FROM {schema}_known.stretch")).await?;
    Ok((made == turns && ends == until).then_some(after))
}

async fn transaction(conn: &mut Conn, statement: &str) -> Result<()> {
    conn.query_drop("BEGIN").await?;
    conn.query_drop(statement).await?;
    ensure!(conn.affected_rows() == ROWS, "a transaction changed {} rows", conn.affected_rows());
    conn.query_drop("COMMIT").await?;
    Ok(())
}

/// The rows that are there.
struct Live {
    ids: Vec<u64>,
    last: u64,
    random: StdRng,
}

impl Live {
    fn insert(&mut self) -> String {
        let rows: Vec<String> = (0..ROWS)
            .map(|_| {
                self.last += 1;
                self.ids.push(self.last);
                row(self.last, &mut self.random)
            })
            .collect();
        format!("INSERT INTO {SCHEMA}.orders VALUES {}", rows.join(","))
    }

    fn update(&mut self) -> String {
        let mut chosen = std::collections::BTreeSet::new();
        while chosen.len() < ROWS as usize {
            chosen.insert(self.ids[self.random.random_range(0..self.ids.len())]);
        }
        let day = self.random.random_range(1..28);
        format!(
            "UPDATE {SCHEMA}.orders SET status = IF(status = 'paid', 'shipped', 'paid'), amount = amount + 1, \
             updated_at = '2026-04-{day:02} 05:06:07' WHERE id IN ({})",
            list(chosen)
        )
    }

    fn delete(&mut self) -> String {
        let chosen = (0..ROWS).map(|_| {
            let at = self.random.random_range(0..self.ids.len());
            self.ids.swap_remove(at)
        });
        let chosen: Vec<u64> = chosen.collect();
        format!("DELETE FROM {SCHEMA}.orders WHERE id IN ({})", list(chosen))
    }
}

fn list(ids: impl IntoIterator<Item = u64>) -> String {
    ids.into_iter().map(|id| id.to_string()).collect::<Vec<_>>().join(",")
}
