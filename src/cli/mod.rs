//! The commands: what they take, what they print, and how they exit.
//!
//! One file a command. People get text, machines get `--json`; logs go to standard error, results to standard output.

pub mod check;
pub mod diff;
mod fence;
pub mod log;
pub mod parked;
pub mod replay;
pub mod run;
mod sinks;
pub mod snapshot;
mod socket;
pub mod status;

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, Settings};
use crate::lifecycle::Exit;

/// Carries every committed row change of MySQL or MariaDB into Elasticsearch or OpenSearch, through a durable log on disk.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 source, 4 sink, \
    5 state folder, 6 differences found, 130 second signal. 2 to 5 mean that starting again without a change would not help.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or Ctrl-C.
    Run(run::Arguments),
    /// Try everything that `run` will need, and say what is missing.
    Check(check::CheckArguments),
    /// Say how a running relay is doing, or how a stopped one left its state folder.
    Status(status::StatusArguments),
    /// Read tables anew, and delete the documents of rows that are gone.
    Snapshot(snapshot::SnapshotArguments),
    /// Send documents again, each in its newest state: those that changes since some place in the log touched.
    Replay(replay::ReplayArguments),
    /// Compare a table's rows with its documents, beside a running relay.
    Diff(diff::DiffArguments),
    /// What the search engine refused: look, send again, forget.
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Look into the log.
    #[command(subcommand)]
    Log(log::LogCommand),
}

/// Which configuration to use.
#[derive(Debug, clap::Args)]
pub struct ConfigArgument {
    /// The configuration file.
    #[arg(long, short, default_value = "everrelay.toml", env = "EVERRELAY_CONFIG")]
    config: PathBuf,
}

impl ConfigArgument {
    fn load(&self) -> Result<Settings, Failure> {
        crate::config::load(&self.config).map_err(Failure::from)
    }
}

/// An error with the exit code that it ends the process with.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub error: anyhow::Error,
}

impl Failure {
    pub fn new(exit: Exit, error: impl Into<anyhow::Error>) -> Failure {
        Failure { exit, error: error.into() }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::new(Exit::Usage, error)
    }
}

/// Parses the command line, runs the command, and turns its outcome into an exit code.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version are asked for and print to standard output; the rest is a usage error.
            let exit = if message.use_stderr() { Exit::Usage } else { Exit::Done };
            // Nowhere to print to is no reason to fail otherwise.
            let _ = message.print();
            return exit.into();
        }
    };
    // Only the daemon speaks to a log collector; whoever calls another command reads it.
    let for_machines = matches!(arguments.command, Command::Run(_)) && !std::io::stderr().is_terminal();
    start_logging(for_machines);
    crate::lifecycle::end_on_panic();
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        Command::Replay(arguments) => replay::run(&arguments),
        Command::Diff(arguments) => diff::run(&arguments),
        Command::Parked(command) => parked::run(&command),
        Command::Log(command) => log::run(&command),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(Failure { exit, error }) => {
            if for_machines {
                tracing::error!(exit_code = exit as u8, "{}", with_causes(&error));
            } else {
                eprintln!("everrelay: {}", with_causes(&error));
            }
            exit.into()
        }
    }
}

/// An error and its causes on one line; most of ours name their cause themselves, and then it is not said again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Asks before something is changed, unless that was said already.
fn consent(question: &str, said: bool) -> Result<(), Failure> {
    if said {
        return Ok(());
    }
    let refused = |why: &'static str| Failure::new(Exit::Usage, anyhow::anyhow!(why));
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(refused("nothing was changed: there is no terminal to ask on. Say --yes"));
    }
    match confirmed(question, &mut stdin.lock(), &mut io::stderr()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(refused("nothing was changed")),
        Err(error) => Err(Failure::new(Exit::Unexpected, error)),
    }
}

/// Asks, and is told.
fn confirmed(question: &str, input: &mut impl BufRead, out: &mut impl Write) -> io::Result<bool> {
    write!(out, "{question} [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// `3.2 GB`: powers of 1000.
fn bytes_for_people(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let unit = UNITS.iter().enumerate().rfind(|(i, _)| bytes >= 1000_u64.pow(*i as u32));
    match unit {
        None | Some((0, _)) => format!("{bytes} B"),
        Some((i, unit)) => format!("{:.1} {unit}", bytes as f64 / 1000_f64.powi(i as i32)),
    }
}

/// Text for people, with colours on a terminal; a JSON object a line for machines. The span says which of several sinks speaks. `EVERRELAY_LOG` takes tracing's filter syntax.
fn start_logging(for_machines: bool) {
    let filter = EnvFilter::try_from_env("EVERRELAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if for_machines {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
    } else {
        builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn only_a_yes_is_one() {
        for (answer, meant) in
            [("y\n", true), ("YES\n", true), ("", false), ("\n", false), ("n\n", false), ("yo\n", false)]
        {
            let mut out = Vec::new();
            assert_eq!(confirmed("Cut?", &mut answer.as_bytes(), &mut out).unwrap(), meant, "{answer:?}");
            assert_eq!(out, b"Cut? [y/N] ");
        }
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(bytes_for_people(999), "999 B");
        assert_eq!(bytes_for_people(3_240_000_000), "3.2 GB");
    }
}
