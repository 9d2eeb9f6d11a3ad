//! What a replay would send, by the state folder alone.

use std::io::{self, IsTerminal, Write};
use std::time::Instant;

use serde::Serialize;

use super::super::{Failure, bytes_for_people};
use super::{Meant, ReplayArguments};
use crate::config::{Settings, SinkSettings};
use crate::event::Seq;
use crate::lifecycle::Exit;
use crate::relay::replay::Scope;
use crate::relay::replay::dry_run::{self, Counted};

pub(super) fn run(
    arguments: &ReplayArguments,
    settings: &Settings,
    sink: &SinkSettings,
) -> Result<Exit, Failure> {
    let opened = super::super::log::open(settings)?;
    let Meant { scope, .. } = arguments.meant(&opened)?;
    let log = opened.log;
    let horizon = log.visible().seq;
    let mut said = Said::new("reading the log");
    let counted = dry_run::count(&log, &scope, &sink.deliver.rules, horizon, || said.go_on());
    said.end();
    let counted = counted.map_err(|error| Failure::new(Exit::State, error))?;
    print(&Would::new(&scope, horizon, &counted), arguments.json)
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    Ok(Exit::Done)
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
