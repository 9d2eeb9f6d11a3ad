//! A row that tells how far the relay is behind: changed, committed, and awaited in the engine.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use tokio::time::Instant;

use super::engine::Engine;
use super::mysql;
use super::shop::{PULSE, Shop};

/// One change of the row. Once it has arrived, everything that was committed before it is in the relay's log.
#[derive(Debug)]
pub struct Beat {
    alias: String,
    number: u64,
    committed: Instant,
}

impl Beat {
    /// Changes the row.
    ///
    /// # Errors
    /// The server fails.
    pub async fn commit(shop: &Shop) -> Result<Beat> {
        let table = format!("`{}`.{PULSE}", shop.schema);
        mysql::execute(&shop.mysql_url, [format!("UPDATE {table} SET beat = beat + 1")]).await?;
        let committed = Instant::now();
        let number = mysql::one(&shop.mysql_url, &format!("SELECT beat FROM {table}")).await?;
        let alias = format!("{}.{PULSE}", shop.schema).to_lowercase();
        Ok(Beat { alias, number, committed })
    }

    /// Whether the engine gives it back already; not, where the engine is away.
    ///
    /// # Errors
    /// What the engine gives back is no such row.
    pub async fn has_arrived(&self, engine: &Engine) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {
            beat: u64,
        }
        let Ok(Some(source)) = engine.document(&self.alias, "1").await else { return Ok(false) };
        let row: Row = serde_json::from_str(&source)?;
        Ok(row.beat >= self.number)
    }

    /// The time since the commit.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.committed.elapsed()
    }
}
