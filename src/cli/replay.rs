//! `everrelay replay`: which documents a range of the log touched, and what of them would be sent again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use serde::Serialize;

use super::log::place::{Place, not_there};
use super::{ConfigArgument, Failure, bytes_for_people};
use crate::disk::SystemDisk;
use crate::event::Seq;
use crate::lifecycle::Exit;
use crate::log::Log;
use crate::relay::replay::dry_run::{self, Counted};
use crate::relay::replay::{Chosen, Scope};
use crate::source::mysql::patterns::Patterns;

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Where to begin: a record, the first transaction of a time or later, or a transaction.
    ///
    /// A sequence number; a time with its zone (2026-11-23T06:47:08Z), a date alone (midnight UTC), or how long ago (10m); a GTID
    /// (uuid:7, uuid:tag:7), or a GTID set (uuid:1-7) for what follows it.
    #[arg(long, value_name = "SEQ|TIME|GTID", allow_hyphen_values = true)]
    from: Place,
    /// Where to end: with a record, before the first transaction of a time or later, or with a transaction. The log's end by default.
    #[arg(long, value_name = "SEQ|TIME|GTID", allow_hyphen_values = true)]
    to: Option<Place>,
    /// Only documents of this table: a pattern as `tables` takes it. May be repeated.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    table: Vec<String>,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &ReplayArguments) -> Result<Exit, Failure> {
    if !arguments.dry_run {
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("this everrelay only says what a replay would send: say --dry-run"),
        ));
    }
    let settings = arguments.config.load()?;
    if !arguments.table.is_empty() {
        Patterns::parse(&arguments.table).map_err(|error| Failure::new(Exit::Usage, error))?;
    }
    let log = super::log::open(&settings)?.log;
    let scope = arguments.scope(&log)?;
    let horizon = log.visible().seq;
    let mut said = Said::new("reading the log");
    let counted = dry_run::count(&log, &scope, &settings.rules, horizon, || said.go_on());
    said.end();
    let counted = counted.map_err(|error| Failure::new(Exit::State, error))?;
    print(&Would::new(&scope, horizon, &counted), arguments.json)
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    Ok(Exit::Done)
}

impl ReplayArguments {
    fn scope(&self, log: &Log<SystemDisk>) -> Result<Arc<Scope>, Failure> {
        let from = self.from.first(log).map_err(not_there)?;
        let end = self.to.as_ref().map_or(Ok(None), |place| place.end(log)).map_err(not_there)?;
        let tables =
            Chosen::parse(&self.table).map_err(|problem| Failure::new(Exit::Usage, anyhow!(problem)))?;
        let past = log.visible().seq.next();
        Ok(Arc::new(Scope { from, end: end.unwrap_or(past).min(past), tables }))
    }
}

/// What a replay would do.
#[derive(Debug, Serialize)]
struct Would {
    /// The range's first record, and its last.
    from: u64,
    to: u64,
    /// Up to this record a newer state of a document is sent in the place of the range's.
    newest: u64,
    tables: Vec<OfTable>,
}

#[derive(Debug, Serialize)]
struct OfTable {
    table: String,
    changes: u64,
    to_index: u64,
    to_delete: u64,
    /// Of the rows to be indexed, as the log holds them.
    bytes: u64,
}

impl Would {
    fn new(scope: &Scope, horizon: Seq, counted: &Counted) -> Would {
        let of = |(table, of): (&String, &dry_run::OfTable)| OfTable {
            table: table.clone(),
            changes: of.changes,
            to_index: of.to_index,
            to_delete: of.to_delete,
            bytes: of.bytes,
        };
        Would {
            from: scope.from.0,
            to: scope.end.previous().0,
            newest: horizon.0,
            tables: counted.iter().map(of).collect(),
        }
    }
}

fn print(would: &Would, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(would)?)?);
    }
    let Would { from, to, newest, tables } = would;
    writeln!(out, "records {from} to {to}, each document as record {newest} leaves it; nothing is sent:")?;
    for OfTable { table, changes, to_index, to_delete, bytes } in tables {
        writeln!(
            out,
            "{table}: {changes} changes; {to_index} documents to index ({} of rows), {to_delete} to delete",
            bytes_for_people(*bytes)
        )?;
    }
    if tables.is_empty() {
        writeln!(out, "no change of these tables")?;
    }
    Ok(())
}

/// Shows people at a terminal that work goes on.
struct Said {
    what: &'static str,
    since: Instant,
    /// What stands in the line now, seconds.
    shown: Option<u64>,
}

impl Said {
    fn new(what: &'static str) -> Said {
        Said { what, since: Instant::now(), shown: None }
    }

    fn go_on(&mut self) {
        let seconds = self.since.elapsed().as_secs();
        if self.shown.unwrap_or(1) < seconds && io::stderr().is_terminal() {
            self.shown = Some(seconds);
            eprint!("\r{} for {seconds} s", self.what);
        }
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprintln!();
        }
    }
}
