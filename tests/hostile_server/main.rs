//! The MySQL source against servers that do not keep to the protocol: each ends in an error that says whether another connection is worth it,
//! within a deadline and in little memory.

mod login;
mod server;
mod stream;

use std::time::Duration;

use everrelay::event::GtidSet;
use everrelay::log::Standing;
use everrelay::log::record::Batch;
use everrelay::source::mysql::{MysqlOptions, MysqlSource};
use everrelay::source::{Source, SourceError};

use server::UUID;

/// Bound on everything that waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// What an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Transient,
    Garbled,
    Definite,
}

fn classed(error: SourceError) -> (Class, String) {
    let text = error.to_string();
    assert!(!text.contains(server::PASSWORD), "{text}");
    match error {
        SourceError::Transient(_) => (Class::Transient, text),
        SourceError::Garbled(_) => (Class::Garbled, text),
        SourceError::Definite(_) => (Class::Definite, text),
    }
}

/// Connects and reads until the error that must come; `Ok` with the committed changes if none came within `transactions`.
async fn read(options: MysqlOptions, transactions: u64) -> Result<usize, (Class, String)> {
    let after: GtidSet = format!("{UUID}:1-5").parse().unwrap();
    let mut source = MysqlSource::new(options).unwrap();
    let work = async {
        source.connect(&Standing::after(after)).await?;
        let mut changes = 0;
        while source.gtids().count() < 5 + transactions {
            let mut batch = Batch::new();
            let result = source.fill(&mut batch).await;
            changes += batch.changes();
            result?;
        }
        Ok(changes)
    };
    tokio::time::timeout(PATIENCE, work).await.expect("an error comes in time").map_err(classed)
}

async fn error_of(options: MysqlOptions) -> (Class, String) {
    match read(options, 1_000_000).await {
        Err(error) => error,
        Ok(changes) => panic!("no error came; {changes} changes did"),
    }
}

/// This process' memory, while no other test takes or measures much.
struct Memory {
    before: usize,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Memory {
    async fn alone() -> Memory {
        static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let alone = ONE.lock().await;
        // Forgets the peak so far (proc(5), clear_refs).
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        Memory { before: Memory::peak(), _alone: alone }
    }

    fn peak() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    fn grew_by_at_most(&self, bytes: usize) {
        let grew = Memory::peak().saturating_sub(self.before);
        println!("grew by {grew}");
        assert!(grew <= bytes, "{grew} bytes, and {bytes} were expected at most");
    }
}
