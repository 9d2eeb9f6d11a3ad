//! What the whole relay costs, on real servers: `dev/bench ingest snapshot deliver end-to-end latency`.
//!
//! Each line is `name value unit`. Limit and subject are measured in turn, after a throw-away pass, and medians are printed; what
//! each round took, and how far rounds lay apart, goes to standard error.
//!
//! | file | idea |
//! |---|---|
//! | [`backlog`] | the changes that are measured |
//! | [`shapes`] | other tables: JSON, many columns |
//! | [`ingest`] | `ingest.*` |
//! | [`end_to_end`] | `end_to_end.*` |
//! | [`snapshot`] | `snapshot.*` |
//! | [`deliver`] | `deliver.*` |
//! | [`outage`] | the changes that are measured there |
//! | [`acknowledging`] | an engine that is never the limit |
//! | [`latency`] | `latency.*` |
//! | [`child`] | the source side, or the bare stream, as a process of its own |
//! | [`prepared`] | the same actions as ready-made bodies: what the engine can take |
//! | [`tap`] | sees what goes to the engine and when it answers |
//! | [`whole`] | the relay as it is shipped, against ready-made bodies |
//! | [`process`] | what another process used |
//! | [`measure`] | clocks, memory, medians |

mod acknowledging;
/// The relay's own.
#[path = "../../src/main/allocator.rs"]
mod allocator;
mod backlog;
mod child;
mod deliver;
mod end_to_end;
mod ingest;
mod latency;
#[path = "../measure.rs"]
mod measure;
mod outage;
mod prepared;
mod process;
mod shapes;
mod snapshot;
#[path = "../../tests/support/mod.rs"]
mod support;
mod tap;
mod whole;

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;
use support::servers::Servers;

#[derive(Parser)]
struct Options {
    /// ingest, snapshot, deliver, end-to-end, latency; all of them when none is named.
    names: Vec<String>,
    /// A tenth of everything: to see that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// The instance of `dev/servers`.
    #[arg(long, default_value = "bench")]
    instance: String,
    /// Actions that warm the engine up.
    #[arg(long, env = "EVERRELAY_BENCH_WARM")]
    warm: Option<u64>,
    /// Rounds after the throw-away one.
    #[arg(long, env = "EVERRELAY_BENCH_ROUNDS")]
    rounds: Option<usize>,
    /// Changes that the log has when the engine is just back.
    #[arg(long, env = "EVERRELAY_BENCH_CATCH_UP")]
    catch_up: Option<u64>,
    /// What a process started by this one is to do.
    #[arg(long, hide = true)]
    child: Option<String>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Sixteen transactions of the backlog each.
    pub turns: u64,
    pub giant_megabytes: u64,
    pub ingest_rounds: usize,
    pub rounds: usize,
    pub warm_actions: u64,
    pub latency_seconds: u64,
    pub catch_up_changes: u64,
}

fn main() -> Result<()> {
    allocator::give_back_soon();
    let options = Options::parse();
    if let Some(task) = &options.child {
        return child::main(task);
    }
    let mut scale = Scale {
        turns: 500,
        giant_megabytes: 1_000,
        ingest_rounds: 5,
        rounds: 3,
        warm_actions: 3_000_000,
        latency_seconds: 60,
        catch_up_changes: 8_600_000,
    };
    if options.quick {
        println!("# quick: a tenth of everything, not comparable");
        scale = Scale {
            turns: 50,
            giant_megabytes: 100,
            ingest_rounds: 1,
            rounds: 1,
            warm_actions: 300_000,
            latency_seconds: 15,
            catch_up_changes: 860_000,
        };
    }
    scale.warm_actions = options.warm.unwrap_or(scale.warm_actions);
    scale.rounds = options.rounds.unwrap_or(scale.rounds);
    scale.catch_up_changes = options.catch_up.unwrap_or(scale.catch_up_changes);
    scale.ingest_rounds = options.rounds.unwrap_or(scale.ingest_rounds);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(&options, scale))
}

async fn run(options: &Options, scale: Scale) -> Result<()> {
    let servers = Servers::up(&options.instance).await?;
    // On the disk that the target folder is on, not on one in memory.
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-relay"));
    let mut names: Vec<&str> = options.names.iter().map(String::as_str).collect();
    if names.is_empty() {
        names = vec!["ingest", "snapshot", "deliver", "end-to-end", "latency"];
    }
    if names.iter().any(|name| *name != "ingest") {
        prepared::warm(&servers.engine_url, scale.warm_actions).await?;
    }
    for name in names {
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        note!("{name}; load {}", measure::load());
        match name {
            "ingest" => ingest::run(&servers, &dir, scale).await?,
            "snapshot" => snapshot::run(&servers, &dir, scale).await?,
            "deliver" => deliver::run(&servers, &dir, scale).await?,
            "end-to-end" => end_to_end::run(&servers, &dir, scale).await?,
            "latency" => latency::run(&servers, &dir, scale).await?,
            other => bail!("there is no bench {other:?}: ingest, snapshot, deliver, end-to-end, latency"),
        }
    }
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}
