//! `everrelay log`: a look at the log, a check of it, and the knife. All but `cut` and `forget-sink` work beside a running relay too, and write nothing.

mod cat;
mod cut;
mod forget_sink;
mod ls;
pub(super) mod place;
mod verify;

use std::io::{self, BufWriter, Write};

use clap::Subcommand;

use super::Failure;
use crate::config::Settings;
use crate::disk::SystemDisk;
use crate::lifecycle::Exit;
use crate::log::ReadOnly;
use crate::log::record::Position;

/// A place in a binlog file, where it alone says where to go on.
fn going_on_at(position: &Position) -> Option<String> {
    position.by_place.then(|| for_people(position))
}

fn for_people(position: &Position) -> String {
    format!("{}:{}", position.file.escape_debug(), position.offset)
}

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// List the segments, and who still needs each.
    Ls(ls::LsArguments),
    /// Print records, row values included.
    Cat(cat::CatArguments),
    /// Check the whole log, and say what to do where it is damaged.
    Verify(verify::VerifyArguments),
    /// Cut the log of a stopped relay back; what goes is kept, and read again from the server.
    Cut(cut::CutArguments),
    /// Keep the log no longer for a sink that the configuration does not name any more.
    ForgetSink(forget_sink::ForgetArguments),
}

pub(super) fn run(command: &LogCommand) -> Result<Exit, Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match command {
        LogCommand::Ls(arguments) => ls::run(arguments, &mut out),
        LogCommand::Cat(arguments) => cat::run(arguments, &mut out),
        LogCommand::Verify(arguments) => return verify::run(arguments, &mut out),
        LogCommand::Cut(arguments) => return cut::run(arguments, &mut out),
        LogCommand::ForgetSink(arguments) => return forget_sink::run(arguments, &mut out),
    };
    let flushed = |()| out.flush().map_err(|error| Failure::new(Exit::State, error));
    match result.and_then(flushed) {
        Ok(()) => Ok(Exit::Done),
        // `log cat | head` ends the pipe: that is no failure.
        Err(failure) if broken_pipe(&failure.error) => Ok(Exit::Done),
        Err(failure) => Err(failure),
    }
}

pub(super) fn open(settings: &Settings) -> Result<ReadOnly<SystemDisk>, Failure> {
    let opened = crate::log::read_only(&SystemDisk, &settings.log_dir());
    opened.map_err(|error| Failure::new(Exit::State, error))
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
