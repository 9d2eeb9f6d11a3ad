//! How the process ends and how it says that it is well.
//!
//! - [`Exit`]: the exit codes, part of the interface.
//! - [`Shutdown`]: first signal drains, second ends at once.
//! - [`end_on_panic`]: a panic anywhere ends the whole process; a daemon is not half alive. [`contain`] is the one exception.
//! - [`Readiness`]: what stands in the way of progress at the moment, if anything; `/readyz` shows it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit codes. 2 to 5 mean that trying again without a change would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Unexpected = 1,
    /// Command line or configuration.
    Usage = 2,
    Source = 3,
    Sink = 4,
    /// The state folder: log, cursor, lock.
    State = 5,
    /// What was compared differs.
    Differs = 6,
    /// A second signal cut the draining short.
    Signal = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        std::process::ExitCode::from(exit as u8)
    }
}

thread_local! {
    /// Inside [`contain`].
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic in any thread is reported and ends the process with [`Exit::Unexpected`].
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !CONTAINED.get() {
            report(panic);
            std::process::exit(Exit::Unexpected as i32);
        }
    }));
}

/// Calls foreign code that answers damage with a panic; returns the panic's words instead of ending the process.
///
/// # Errors
/// It panicked.
pub fn contain<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    CONTAINED.set(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CONTAINED.set(false);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
    })
}

/// Asks every part of the process to end.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    drain: CancellationToken,
}

impl Shutdown {
    #[must_use]
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Asks for a drain: finish what is under way, commit, end.
    pub fn request(&self) {
        self.drain.cancel();
    }

    #[must_use]
    pub fn requested(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Completes when a drain was asked for.
    pub async fn wait(&self) {
        self.drain.cancelled().await;
    }

    /// Turns SIGTERM and SIGINT into a drain; completes at the second signal, which asks to end at once. SIGHUP only says that
    /// nothing is reloaded.
    ///
    /// # Errors
    /// The process may not listen for signals.
    pub fn on_signals(&self) -> std::io::Result<impl Future<Output = ()> + use<>> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let shutdown = self.clone();
        Ok(async move {
            let mut next = async || {
                loop {
                    tokio::select! {
                        _ = terminate.recv() => return "SIGTERM",
                        _ = interrupt.recv() => return "SIGINT",
                        _ = hangup.recv() => {
                            tracing::warn!("SIGHUP: nothing is reloaded; restart to use a changed configuration");
                        }
                    }
                }
            };
            let first = next().await;
            tracing::info!(signal = first, "draining; a second signal ends at once");
            shutdown.request();
            let second = next().await;
            tracing::warn!(signal = second, "ending at once");
        })
    }
}

/// What stands in the way, by the part of the process that says so; empty when all is well.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    obstacles: Arc<Mutex<BTreeMap<String, String>>>,
    /// The sink that speaks, where there are several.
    sink: Option<Arc<str>>,
}

/// The part that speaks of a sink as a whole.
pub const SINK: &str = "sink";

impl Readiness {
    #[must_use]
    pub fn new() -> Readiness {
        Readiness::default()
    }

    /// The same for one of several sinks: what is said here names it.
    #[must_use]
    pub fn of_sink(&self, name: &str) -> Readiness {
        Readiness { obstacles: Arc::clone(&self.obstacles), sink: Some(name.into()) }
    }

    /// `part` cannot make progress because of `reason`. True if it said something else before.
    pub fn obstacle(&self, part: &str, reason: impl Into<String>) -> bool {
        let (part, reason) = (self.named(part), reason.into());
        let mut obstacles = self.lock();
        if obstacles.get(&part) == Some(&reason) {
            return false;
        }
        obstacles.insert(part, reason);
        true
    }

    /// `part` is well. True if something stood in its way before.
    pub fn clear(&self, part: &str) -> bool {
        self.lock().remove(&self.named(part)).is_some()
    }

    /// Every obstacle, by part.
    #[must_use]
    pub fn obstacles(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    /// `sink es`, `sink es, index`.
    fn named(&self, part: &str) -> String {
        match &self.sink {
            None => part.to_owned(),
            Some(name) if part == SINK => format!("{SINK} {name}"),
            Some(name) => format!("{SINK} {name}, {part}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        // The map is whole after every statement above, whoever panicked.
        self.obstacles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contained_panic_is_an_error_with_its_words() {
        assert_eq!(contain(|| 7), Ok(7));
        assert_eq!(contain(|| -> u8 { panic!("page {} is damaged", 3) }), Err("page 3 is damaged".into()));
    }

    #[test]
    fn obstacles_of_several_sinks_stand_side_by_side() {
        let readiness = Readiness::new();
        let (a, b) = (readiness.of_sink("a"), readiness.of_sink("b"));
        assert!(a.obstacle("sink", "away") && b.obstacle("sink", "away") && b.obstacle("index", "none"));
        let parts: Vec<String> = readiness.obstacles().into_keys().collect();
        assert_eq!(parts, ["sink a", "sink b", "sink b, index"]);
        assert!(b.clear("sink") && !b.clear("sink"));
        assert_eq!(readiness.obstacles().len(), 2);
    }

    #[test]
    fn an_obstacle_is_news_once() {
        let readiness = Readiness::new();
        assert!(readiness.obstacle("sink", "away"));
        assert!(!readiness.obstacle("sink", "away"));
        assert!(readiness.obstacle("sink", "busy"));
        assert!(readiness.clear("sink"));
        assert!(!readiness.clear("sink"));
        assert!(readiness.obstacles().is_empty());
    }
}
