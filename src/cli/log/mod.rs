//! `everrelay log ls` and `log cat`: a look at the log, beside a running relay or without one. Neither writes anything.

mod cat;
mod ls;

use std::io::{self, BufWriter, Write};

use clap::Subcommand;

use super::{ConfigArgument, Failure};
use crate::disk::SystemDisk;
use crate::event::Seq;
use crate::lifecycle::Exit;
use crate::log::Log;

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// List the segments.
    Ls {
        #[command(flatten)]
        config: ConfigArgument,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print records, row values included.
    Cat {
        #[command(flatten)]
        config: ConfigArgument,
        /// Sequence number of the first record; the log's start by default.
        #[arg(long, value_name = "SEQ")]
        from: Option<u64>,
        /// At most this many records.
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &LogCommand) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match command {
        LogCommand::Ls { config, json } => ls::list(&open(config)?, *json, &mut out),
        LogCommand::Cat { config, from, limit, json } => {
            let log = open(config)?;
            let from = from.map_or_else(|| log.retained_start(), Seq);
            cat::print(&log, from, limit.unwrap_or(u64::MAX), *json, &mut out)
        }
    };
    match result.and_then(|()| out.flush().map_err(anyhow::Error::from)) {
        Ok(()) => Ok(Exit::Done),
        // `log cat | head` ends the pipe: that is no failure.
        Err(error) if broken_pipe(&error) => Ok(Exit::Done),
        Err(error) => Err(Failure::new(Exit::State, error)),
    }
}

fn open(config: &ConfigArgument) -> Result<Log<SystemDisk>, Failure> {
    let settings = config.load()?;
    let opened = crate::log::read_only(&SystemDisk, &settings.log_dir());
    opened.map(|opened| opened.log).map_err(|error| Failure::new(Exit::State, error))
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
