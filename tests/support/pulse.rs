//! A row that tells how far the relay is behind: changed, committed, and awaited in the engine.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use tokio::time::Instant;

use super::engine::Engine;
use super::shop::{PULSE, Shop};
use super::{eventually, mysql};

/// Changes the row and waits until the engine gives it back; all that was committed before is then in the relay's log.
/// Returns the time between the commit and the document.
///
/// # Errors
/// A server fails, or it takes longer than `within`.
pub async fn beat(shop: &Shop, engine: &Engine, within: Duration) -> Result<Duration> {
    mysql::execute(&shop.mysql_url, [format!("UPDATE `{}`.{PULSE} SET beat = beat + 1", shop.schema)])
        .await?;
    let committed = Instant::now();
    let expected: u64 =
        mysql::one(&shop.mysql_url, &format!("SELECT beat FROM `{}`.{PULSE}", shop.schema)).await?;
    let alias = format!("{}.{PULSE}", shop.schema).to_lowercase();
    eventually("a committed change to be in the engine", within, async || {
        #[derive(Deserialize)]
        struct Beat {
            beat: u64,
        }
        // The engine may be away for a while.
        let Ok(Some(source)) = engine.document(&alias, "1").await else { return Ok(None) };
        let found: Beat = serde_json::from_str(&source)?;
        Ok((found.beat >= expected).then_some(()))
    })
    .await?;
    Ok(committed.elapsed())
}
