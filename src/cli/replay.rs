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
use crate::log::ReadOnly;
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
    /// Only documents behind this alias, with `*` and `?`, or in this index. May be repeated; of tables that `--table` leaves, where that is given too.
    #[arg(long, value_name = "NAME")]
    index: Vec<String>,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for its end: `everrelay status` says how far it is.
    #[arg(long, conflicts_with = "dry_run")]
    no_wait: bool,
    /// Give up the replay that goes on; what was sent stays.
    #[arg(long, conflicts_with_all = ["from", "to", "table", "index", "dry_run", "no_wait"])]
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

/// The documents that are meant, and the patterns of their tables and indices as a relay is told them.
struct Meant {
    scope: Arc<Scope>,
    tables: Vec<String>,
    indices: Vec<String>,
}

impl ReplayArguments {
    fn meant(&self, opened: &ReadOnly<SystemDisk>) -> Result<Meant, Failure> {
        let log = &opened.log;
        let from = self.from.as_ref().ok_or_else(|| Failure::new(Exit::Usage, anyhow!("say --from")))?;
        let from = from.first(log).map_err(not_there)?;
        let end = self.to.as_ref().map_or(Ok(None), |place| place.end(log)).map_err(not_there)?;
        let (tables, indices) = (self.table.clone(), self.index.clone());
        let past = log.visible().seq.next();
        let end = end.unwrap_or(past).min(past);
        let scope = Scope { from, end, tables: chosen(&tables)?, indices: indices.clone() };
        Ok(Meant { scope: Arc::new(scope), tables, indices })
    }
}

fn chosen(tables: &[String]) -> Result<Chosen, Failure> {
    Chosen::parse(tables).map_err(|problem| Failure::new(Exit::Usage, anyhow!(problem)))
}
