//! `everrelay replay`: has a running relay send documents again that changes of a range of the log touched, or says which they are.

mod dry_run;
mod sending;

use std::sync::Arc;

use anyhow::anyhow;

pub(super) use sending::for_people;

use super::log::place::{Place, not_there};
use super::sinks::SinkArgument;
use super::{ConfigArgument, Failure};
use crate::disk::SystemDisk;
use crate::lifecycle::Exit;
use crate::log::Log;
use crate::relay::replay::{Chosen, Scope};
use crate::source::mysql::patterns::Patterns;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    sink: SinkArgument,
    /// Where to begin: a record, the first transaction of a time or later, or a transaction.
    ///
    /// A sequence number; a time with its zone (2026-11-23T06:47:08Z), a date alone (midnight UTC), or how long ago (10m); a GTID
    /// (uuid:7, uuid:tag:7), or a GTID set (uuid:1-7) for what follows it.
    #[arg(
        long,
        value_name = "SEQ|TIME|GTID",
        allow_hyphen_values = true,
        required_unless_present = "cancel"
    )]
    from: Option<Place>,
    /// Where to end: with a record, before the first transaction of a time or later, or with a transaction. The log's end by default.
    #[arg(long, value_name = "SEQ|TIME|GTID", allow_hyphen_values = true)]
    to: Option<Place>,
    /// Only documents of this table: a pattern as `tables` takes it. May be repeated.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    table: Vec<String>,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for its end: `everrelay status` says how far it is.
    #[arg(long, conflicts_with = "dry_run")]
    no_wait: bool,
    /// Give up the replay that goes on; what was sent stays.
    #[arg(long, conflicts_with_all = ["from", "to", "table", "dry_run", "no_wait"])]
    cancel: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<Exit, Failure> {
    let settings = arguments.config.load()?;
    let sink = arguments.sink.of(&settings)?;
    if arguments.cancel {
        return sending::cancel(&settings, sink, arguments.json);
    }
    if !arguments.table.is_empty() {
        Patterns::parse(&arguments.table).map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    if arguments.dry_run {
        dry_run::run(arguments, &settings, sink)
    } else {
        sending::run(arguments, &settings, sink)
    }
}

impl ReplayArguments {
    fn scope(&self, log: &Log<SystemDisk>) -> Result<Arc<Scope>, Failure> {
        let from = self.from.as_ref().ok_or_else(|| Failure::new(Exit::Usage, anyhow!("say --from")))?;
        let from = from.first(log).map_err(not_there)?;
        let end = self.to.as_ref().map_or(Ok(None), |place| place.end(log)).map_err(not_there)?;
        let tables =
            Chosen::parse(&self.table).map_err(|problem| Failure::new(Exit::Usage, anyhow!(problem)))?;
        let past = log.visible().seq.next();
        Ok(Arc::new(Scope { from, end: end.unwrap_or(past).min(past), tables }))
    }
}
