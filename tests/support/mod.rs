//! What the tests with real servers and the demo share: servers, a shop, a workload, the relay as a process, and an oracle.
//!
//! The oracle knows the product's contract from its documentation alone: it imports nothing from the crate that it judges.
//!
//! | file | idea |
//! |---|---|
//! | [`servers`] | MySQL and Elasticsearch by `dev/servers`: up, down, restart |
//! | [`mysql`] | connections and one-off statements |
//! | [`engine`] | Elasticsearch over HTTP: counting, scanning, single documents |
//! | [`shop`] | the tables that are followed, and the rows that they begin with |
//! | [`content`] | random values, as awkward as real ones |
//! | [`plan`] | a seeded, endless list of transactions |
//! | [`workload`] | plans carried out by several connections |
//! | [`relay`] | `everrelay run` as a process of its own |
//! | [`scrape`] | its metrics |
//! | [`pulse`] | a row that tells how far the relay is behind |
//! | [`oracle`] | the documents that a table's rows must have become |
//! | [`canonical`] | JSON in a form in which equal means equal |
//! | [`compare`] | a table against its index, document by document |
//! | [`small_disk`] | a file system of its own, to be filled |
//! | [`proxy`] | a TCP proxy that resets connections by a script |
//! | [`valve`] | a TCP proxy that can be shut: connections stay, nothing passes |
//! | [`strike`] | a system call of the relay that fails, hangs or kills it |
//! | [`specimens`] | column types with values at their edges, and keys of every kind |
//! | [`stage`] | all of it set up for one test |
//! | [`seed`] | the number that replays a run |

// Every test uses a part of this.
#![allow(dead_code)]

pub mod canonical;
pub mod compare;
pub mod content;
pub mod engine;
pub mod gateway;
pub mod mysql;
pub mod oracle;
pub mod plan;
pub mod proxy;
pub mod pulse;
pub mod relay;
pub mod scrape;
pub mod seed;
pub mod servers;
pub mod shop;
pub mod small_disk;
pub mod specimens;
pub mod stage;
pub mod strike;
pub mod valve;
pub mod workload;

use std::future::Future;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

/// Asks again and again until there is an answer, and says what was waited for when `within` is over.
///
/// # Errors
/// The deadline, with `what`; or what `ask` fails with, at once.
pub async fn eventually<T, F>(what: &str, within: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        anyhow::ensure!(Instant::now() < deadline, "waited {within:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The relay's words say all of this, in whatever case; the last line is printed for whoever reads the test's output.
///
/// # Errors
/// The first that is not said.
pub fn ensure_says(words: &str, all_of: &[&str]) -> Result<()> {
    for word in all_of {
        ensure!(words.to_lowercase().contains(&word.to_lowercase()), "{word:?} is not said:\n{words}");
    }
    eprintln!("{}", words.lines().last().unwrap_or_default());
    Ok(())
}
