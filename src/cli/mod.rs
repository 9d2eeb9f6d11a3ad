//! The commands: what they take, what they print, and how they exit.
//!
//! One file a command. People get text, machines get `--json`; logs go to standard error, results to standard output.

pub mod run;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::{ConfigError, Settings};
use crate::lifecycle::Exit;

/// Carries every committed row change of MySQL into Elasticsearch, through a durable log on disk.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100, after_help = EXIT_CODES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 unexpected, 2 usage or configuration, 3 source, 4 sink, \
    5 state folder, 130 second signal. 2 to 5 mean that starting again without a change would not help.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until SIGTERM or Ctrl-C.
    Run(ConfigArgument),
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
    start_logging();
    let result = match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(Failure { exit, error }) => {
            if std::io::stderr().is_terminal() {
                eprintln!("everrelay: {error}");
            } else {
                tracing::error!(exit_code = exit as u8, "{error}");
            }
            exit.into()
        }
    }
}

/// Text with colours on a terminal, a JSON object a line otherwise. `EVERRELAY_LOG` takes tracing's filter syntax.
fn start_logging() {
    let filter = EnvFilter::try_from_env("EVERRELAY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).init();
    }
}
