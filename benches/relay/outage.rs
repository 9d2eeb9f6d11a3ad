//! What gathers in a log while the engine is away: changes that collapse, and very many of them.

use anyhow::{Result, ensure};
use mysql_async::prelude::Queryable;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::backlog::{Stretch, fresh, row};
use crate::note;
use crate::support::mysql::{connect, executed};

/// Changes of a block, and the documents that they are of.
const BLOCK: u64 = 100_000;
const IDS: u64 = 5_000;
/// Rows of one transaction.
const ROWS: u64 = 1_000;

/// Blocks of changes, each of ids of its own: every one inserted and updated 19 times, in random order.
///
/// # Errors
/// The server refuses.
pub async fn blocks(url: &str, blocks: u64) -> Result<Stretch> {
    const SCHEMA: &str = "bench_collapse";
    note!("making {blocks} blocks of {BLOCK} changes of {IDS} ids");
    fresh(url, SCHEMA).await?;
    let after = executed(url).await?;
    let mut random = StdRng::seed_from_u64(3);
    let mut conn = connect(url).await?;
    for block in 0..blocks {
        let mut ids: Vec<u64> = (0..BLOCK).map(|n| block * IDS + n % IDS + 1).collect();
        ids.shuffle(&mut random);
        for ids in ids.chunks(ROWS as usize) {
            let rows: Vec<String> = ids.iter().map(|id| row(*id, &mut random)).collect();
            let statement = format!(
                "INSERT INTO {SCHEMA}.orders VALUES {} AS new ON DUPLICATE KEY UPDATE customer_id = new.customer_id, status = new.status, \
                 amount = new.amount, note = new.note, created_at = new.created_at, updated_at = new.updated_at, meta = new.meta",
                rows.join(",")
            );
            conn.query_drop(statement).await?;
        }
    }
    conn.disconnect().await?;
    let until = executed(url).await?;
    let transactions = blocks * BLOCK / ROWS;
    Ok(Stretch { schema: SCHEMA, after, until, transactions, changes: blocks * BLOCK })
}

/// At least so many changes: of 16 transactions ten insert, five update rows of any age, one deletes the oldest.
///
/// # Errors
/// The server refuses.
pub async fn many(url: &str, changes: u64) -> Result<Stretch> {
    const SCHEMA: &str = "bench_catch_up";
    const TURN: u64 = 16;
    let turns = changes.div_ceil(TURN * ROWS);
    note!("making {} changes", turns * TURN * ROWS);
    fresh(url, SCHEMA).await?;
    let after = executed(url).await?;
    let mut conn = connect(url).await?;
    let mut change = async |statement: String| -> Result<()> {
        conn.query_drop(statement).await?;
        ensure!(conn.affected_rows() == ROWS, "a transaction changed {} rows", conn.affected_rows());
        Ok(())
    };
    for turn in 0..turns {
        let (deleted, inserted) = (turn * ROWS, turn * 10 * ROWS);
        for first in (inserted..inserted + 10 * ROWS).step_by(ROWS as usize) {
            change(format!(
                "INSERT INTO {SCHEMA}.orders WITH RECURSIVE n (id) AS (SELECT {first} + 1 UNION ALL SELECT id + 1 FROM n WHERE id < {first} + {ROWS}) \
                 SELECT id, id % 100000, 'packed', id / 100, CONCAT('Leave it with the neighbour at number ', id % 10000, ', bell 12; call before. Thanks'), \
                 '2026-01-02 03:04:05.678', '2026-01-02 03:04:05', JSON_OBJECT('tags', JSON_ARRAY('a', 'b12'), 'source', 'web', 'priority', id % 60) FROM n"
            ))
            .await?;
        }
        for part in 0..5 {
            // Between the oldest and the newest that are there.
            let first = deleted + (inserted + 10 * ROWS - deleted) / 5 * part;
            change(format!(
                "UPDATE {SCHEMA}.orders SET status = 'shipped', amount = amount + 1, updated_at = updated_at + INTERVAL 1 DAY \
                 WHERE id > {first} ORDER BY id LIMIT {ROWS}"
            ))
            .await?;
        }
        change(format!("DELETE FROM {SCHEMA}.orders ORDER BY id LIMIT {ROWS}")).await?;
    }
    conn.disconnect().await?;
    let until = executed(url).await?;
    Ok(Stretch { schema: SCHEMA, after, until, transactions: turns * TURN, changes: turns * TURN * ROWS })
}
