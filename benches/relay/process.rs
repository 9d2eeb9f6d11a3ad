//! What another process used.

use std::fs;

use anyhow::{Context, Result};

/// User and system time of a process with all its threads, seconds, in steps of 10 ms.
///
/// # Errors
/// There is no such process.
pub fn cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid}"))?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = stat.rsplit_once(") ").context("a stat file has a name")?;
    let mut fields = fields.split(' ').skip(11);
    let mut ticks =
        || fields.next().and_then(|ticks| ticks.parse::<f64>().ok()).context("a stat file has times");
    // USER_HZ is 100 on every Linux that this runs on.
    Ok((ticks()? + ticks()?) / 100.0)
}
