//! What the log costs, without servers: `dev/bench log`. Each line is defined in docs/benchmarks.md (`name value unit`).
//!
//! A throw-away pass first, since the first touch of memory and files costs many times the second; then the limit and the subject
//! alternate three times and medians are printed; what each round took goes to standard error.
//!
//! | file | idea |
//! |---|---|
//! | [`append`] | through the committer, as the relay does; and the bare disk |
//! | [`durable`] | one record at a time |
//! | [`open`] | logs of 10 GB and of 10,000 segments, each in a process of its own |
//! | [`content`] | the records |

/// The relay's own.
#[path = "../../src/main/allocator.rs"]
mod allocator;
mod append;
mod content;
mod durable;
#[path = "../measure.rs"]
mod measure;
mod open;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use measure::{line, load, median};

#[derive(Parser)]
struct Options {
    /// Logs of a tenth of the size: to see that it works, not how fast.
    #[arg(long)]
    quick: bool,
    /// Rounds after the throw-away one.
    #[arg(long, env = "EVERRELAY_BENCH_ROUNDS", default_value_t = 3)]
    rounds: usize,
    /// A log that a process started by this one is to open.
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    allocator::give_back_soon();
    let options = Options::parse();
    if let Some(dir) = options.child {
        return open::child(&dir);
    }
    // On the disk that the target folder is on, not on one in memory.
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench-log"));
    // Left by a run that was interrupted.
    let _ = std::fs::remove_dir_all(&root);
    std::fs::create_dir_all(&root)?;
    let result = append::lines(&root, options.rounds)
        .and_then(|()| durable::lines(&root, options.rounds))
        .and_then(|()| open::lines(&root, options.rounds, options.quick));
    std::fs::remove_dir_all(&root)?;
    result
}

/// Runs `round` once for nothing and then `rounds` times, and prints the median of each of its values.
fn medians<const N: usize>(
    rounds: usize,
    names: [(&str, &str); N],
    mut round: impl FnMut() -> Result<[f64; N]>,
) -> Result<()> {
    let mut all = [const { Vec::new() }; N];
    for number in 0..=rounds {
        let values = round()?;
        let kind = if number == 0 { "throw-away round" } else { "round" };
        note!("{kind}: {values:.3?}, load {}", load());
        if number > 0 {
            all.iter_mut().zip(values).for_each(|(all, value)| all.push(value));
        }
    }
    for ((name, unit), values) in names.into_iter().zip(&all) {
        let (middle, spread) = median(values);
        line(name, middle, unit);
        note!("{name}: rounds within {:.0} %", spread * 100.0);
    }
    Ok(())
}
