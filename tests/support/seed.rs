//! The number that replays a run.

use std::fmt;

use anyhow::{Context, Result};

/// What every random choice of a test comes from, with the words that repeat it.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    pub number: u64,
    test: &'static str,
}

impl Seed {
    /// The seed in `EVERRELAY_TEST_SEED`, else a new one; printed either way. `test`: the test function's name.
    ///
    /// # Errors
    /// The variable is no number.
    pub fn take(test: &'static str) -> Result<Seed> {
        let number = match std::env::var("EVERRELAY_TEST_SEED") {
            Ok(text) => text.parse().with_context(|| format!("EVERRELAY_TEST_SEED={text} is no number"))?,
            Err(_) => u64::from(rand::random::<u32>()),
        };
        let seed = Seed { number, test };
        eprintln!("{seed}");
        Ok(seed)
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {0}; to replay: EVERRELAY_TEST_SEED={0} dev/test real {1}", self.number, self.test)
    }
}

/// A number from the environment.
///
/// # Errors
/// The variable is no number.
pub fn number_from_env(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}
