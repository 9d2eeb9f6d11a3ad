//! What the demo shows: finished steps, and one line that goes on changing on a terminal.

use std::io::{IsTerminal, Write, stdout};
use std::time::Duration;

use tokio::time::Instant;

/// How often a line is printed where the last one cannot be changed.
const PLAIN_INTERVAL: Duration = Duration::from_secs(5);

const BAR: usize = 20;

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    colour: bool,
    /// When the progress line was last printed.
    printed: Option<Instant>,
}

/// The figures of the line that changes.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub elapsed: Duration,
    pub of: Duration,
    pub changes: u64,
    /// `None`: no change has arrived yet.
    pub lag: Option<Duration>,
    pub memory_bytes: u64,
}

impl Screen {
    #[must_use]
    pub fn new() -> Screen {
        let terminal = stdout().is_terminal() && std::env::var_os("CI").is_none();
        Screen { terminal, colour: terminal && std::env::var_os("NO_COLOR").is_none(), printed: None }
    }

    /// A line of its own.
    pub fn line(&mut self, text: &str) {
        self.clear();
        println!("{text}");
    }

    /// A step that went well. `took`: shown behind it.
    pub fn step(&mut self, name: &str, text: &str, took: Option<Duration>) {
        let took = took.map_or(String::new(), |took| self.paint("2", &format!("  {}", seconds(took))));
        let line = format!("  {} {} {text}{took}", self.paint("32", "✓"), self.paint("1", &padded(name, 11)));
        self.line(&line);
    }

    /// Something that happened while the figures were running.
    pub fn incident(&mut self, at: Duration, text: &str) {
        let line = format!("  {} {:>6}  {text}", self.paint("33", "⚡"), seconds(at));
        self.line(&line);
    }

    /// What is waited for, where it can be taken away again.
    pub fn waiting(&mut self, text: &str) {
        if self.terminal {
            print!("\r\x1b[K  {} {text}", self.paint("2", "…"));
            let _ = stdout().flush();
            self.printed = Some(Instant::now());
        }
    }

    /// The figures as they are now.
    pub fn progress(&mut self, now: Progress) {
        let lag = now.lag.map_or("-".to_owned(), lag);
        let rate = now.changes as f64 / now.elapsed.as_secs_f64().max(0.1);
        let figures = format!(
            "{:>3}/{} s  {} changes  {}/s  lag {lag}  {}",
            now.elapsed.as_secs(),
            now.of.as_secs(),
            grouped(now.changes),
            grouped(rate as u64),
            megabytes(now.memory_bytes)
        );
        if self.terminal {
            let share = now.elapsed.as_secs_f64() / now.of.as_secs_f64().max(0.001);
            let full = (share * BAR as f64).min(BAR as f64) as usize;
            let bar = format!(
                "{}{}",
                self.paint("36", &"━".repeat(full)),
                self.paint("2", &"━".repeat(BAR - full))
            );
            print!("\r\x1b[K  {bar} {figures}");
            let _ = stdout().flush();
            self.printed = Some(Instant::now());
        } else if self.printed.is_none_or(|printed| printed.elapsed() >= PLAIN_INTERVAL) {
            println!("    {figures}");
            self.printed = Some(Instant::now());
        }
    }

    /// Takes the line that changes away.
    pub fn clear(&mut self) {
        if self.terminal && self.printed.take().is_some() {
            print!("\r\x1b[K");
            let _ = stdout().flush();
        }
    }

    /// `text` in a colour or weight of ANSI's.
    #[must_use]
    pub fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `text` and spaces: what colours are put around keeps its width.
#[must_use]
pub fn padded(text: &str, width: usize) -> String {
    format!("{text:<width$}")
}

/// `12,345`
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1.2 s`
#[must_use]
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// `12 ms`, `3.4 s`
#[must_use]
pub fn lag(duration: Duration) -> String {
    if duration < Duration::from_secs(1) { format!("{} ms", duration.as_millis()) } else { seconds(duration) }
}

/// `31 MB`
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}
