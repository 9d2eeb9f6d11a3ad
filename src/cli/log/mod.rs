//! `everrelay log ls` and `log cat`: a look at the log, beside a running relay or without one. Neither writes anything.

mod cat;
mod ls;
mod place;

use std::io::{self, BufWriter, Write};

use clap::Subcommand;

use super::Failure;
use crate::config::Settings;
use crate::disk::SystemDisk;
use crate::lifecycle::Exit;
use crate::log::ReadOnly;

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// List the segments, and who still needs each.
    Ls(ls::LsArguments),
    /// Print records, row values included.
    Cat(cat::CatArguments),
}

pub(super) fn run(command: &LogCommand) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match command {
        LogCommand::Ls(arguments) => ls::run(arguments, &mut out),
        LogCommand::Cat(arguments) => cat::run(arguments, &mut out),
    };
    let flushed = |()| out.flush().map_err(|error| Failure::new(Exit::State, error));
    match result.and_then(flushed) {
        Ok(()) => Ok(Exit::Done),
        // `log cat | head` ends the pipe: that is no failure.
        Err(failure) if broken_pipe(&failure.error) => Ok(Exit::Done),
        Err(failure) => Err(failure),
    }
}

fn open(settings: &Settings) -> Result<ReadOnly<SystemDisk>, Failure> {
    let opened = crate::log::read_only(&SystemDisk, &settings.log_dir());
    opened.map_err(|error| Failure::new(Exit::State, error))
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
