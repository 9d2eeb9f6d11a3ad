//! `log cat`: the log's records, row values included.

use std::collections::HashMap;
use std::io::Write;

use anyhow::Context;
use serde::Serialize;

use super::place::{Place, not_there};
use super::{for_people, going_on_at, open};
use crate::admin::NeedsSnapshot;
use crate::cli::sinks::SinkArgument;
use crate::cli::{ConfigArgument, Failure};
use crate::clock::rfc3339_seconds;
use crate::disk::SystemDisk;
use crate::event::{Op, Seq, TableNo};
use crate::lifecycle::Exit;
use crate::log::prepared::{Outcome, Prepared, Xa};
use crate::log::record::{Change, Commit, Kind, Mark, SchemaRecord, State, SweepRecord};
use crate::log::snapshot::{Begun, Snapshot, SnapshotNote, SnapshotStep};
use crate::log::{Frame, Log, Standing};
use crate::mapping::TableMapping;
use crate::mapping::rule::Rules;
use crate::source::mysql::patterns::Patterns;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CatArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    sink: SinkArgument,
    /// Where to begin: a record, the first transaction of a time or later, or a transaction. The log's start by default.
    ///
    /// A sequence number; a time with its zone (2026-11-23T06:47:08Z), a date alone (midnight UTC), or how long ago (10m); a GTID
    /// (uuid:7, uuid:tag:7), or a GTID set (uuid:1-7) for what follows it.
    #[arg(long, value_name = "SEQ|TIME|GTID", allow_hyphen_values = true)]
    from: Option<Place>,
    /// Where to end: with a record, before the first transaction of a time or later, or with a transaction.
    #[arg(long, value_name = "SEQ|TIME|GTID", allow_hyphen_values = true)]
    to: Option<Place>,
    /// Only changes of this table, and the commits that end their transactions: a pattern as `tables` takes it. May be repeated.
    #[arg(long, value_name = "PATTERN", allow_hyphen_values = true)]
    table: Vec<String>,
    /// At most this many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CatArguments, out: &mut impl Write) -> Result<(), Failure> {
    let settings = arguments.config.load()?;
    // Documents are shown as this one's.
    let rules = arguments.sink.of(&settings)?.deliver.rules.clone();
    let only = match arguments.table.as_slice() {
        [] => None,
        patterns => Some(Patterns::parse(patterns).map_err(|error| Failure::new(Exit::Usage, error))?),
    };
    let log = open(&settings)?.log;
    let from = arguments.from.as_ref().map_or_else(|| Ok(log.retained_start()), |place| place.first(&log));
    let end = arguments.to.as_ref().map_or(Ok(None), |place| place.end(&log));
    let range = Range { from: from.map_err(not_there)?, end: end.map_err(not_there)? };
    let (json, tables) = (arguments.json, HashMap::new());
    let mut printer = Printer { only, json, out, tables, rules, open: Open::Other };
    let printed = printer.print(&log, &range, arguments.limit.unwrap_or(u64::MAX));
    printed.map_err(|error| Failure::new(Exit::State, error))
}

struct Range {
    from: Seq,
    /// The first record that is not asked for any more.
    end: Option<Seq>,
}

/// The transaction being read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// A change of it was printed.
    Printed,
    Other,
}

struct Printer<'o, W> {
    /// The tables asked for; `None` for every record.
    only: Option<Patterns>,
    json: bool,
    out: &'o mut W,
    /// Of the segment being read; `None` for a table that was not asked for.
    tables: HashMap<TableNo, Option<Table>>,
    /// Documents are shown as they would be sent now.
    rules: Rules,
    open: Open,
}

struct Table {
    name: String,
    mapping: TableMapping,
}

impl<W: Write> Printer<'_, W> {
    fn print(&mut self, log: &Log<SystemDisk>, range: &Range, limit: u64) -> anyhow::Result<()> {
        let mut reader = log.reader(range.from)?;
        let mut printed = 0;
        while printed < limit {
            let Some(frame) = reader.next_frame()? else { return Ok(()) };
            let seq = frame.seq;
            if range.end.is_some_and(|end| seq >= end) {
                return Ok(());
            }
            self.learn(&frame)?;
            // Schemas from before are needed to read what follows, and not asked for.
            if seq >= range.from && self.asked_for(&frame)? {
                self.record(&frame)?;
                printed += 1;
            }
        }
        Ok(())
    }

    /// Takes in what later records are read by.
    fn learn(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        match frame.kind {
            // Each segment repeats the schemas that it uses.
            Kind::State => self.tables.clear(),
            Kind::Schema => {
                let SchemaRecord { table, schema } =
                    SchemaRecord::decode(frame.payload).with_context(|| unreadable(frame.seq))?;
                let wanted = self.only.as_ref().is_none_or(|only| only.follows_table(&schema.name));
                let known = if wanted {
                    Some(Table {
                        name: schema.name.to_string(),
                        mapping: TableMapping::with_rules(&schema, &self.rules)?,
                    })
                } else {
                    None
                };
                self.tables.insert(table, known);
            }
            Kind::Change | Kind::Prepared | Kind::Sweep | Kind::Commit | Kind::Mark => {}
        }
        Ok(())
    }

    fn asked_for(&mut self, frame: &Frame<'_>) -> anyhow::Result<bool> {
        if self.only.is_none() {
            return Ok(true);
        }
        Ok(match frame.kind {
            Kind::State | Kind::Schema | Kind::Mark => false,
            Kind::Change | Kind::Prepared => {
                let change = Change::decode(frame.payload).with_context(|| unreadable(frame.seq))?;
                let wanted = self.table(frame.seq, change.table)?.is_some();
                if wanted {
                    self.open = Open::Printed;
                }
                wanted
            }
            Kind::Sweep => {
                let sweep = SweepRecord::decode(frame.payload).with_context(|| unreadable(frame.seq))?;
                let wanted = self.only.as_ref().is_none_or(|only| only.follows_table(&sweep.table));
                if wanted {
                    self.open = Open::Printed;
                }
                wanted
            }
            Kind::Commit => std::mem::replace(&mut self.open, Open::Other) == Open::Printed,
        })
    }

    fn table(&self, seq: Seq, table: TableNo) -> anyhow::Result<Option<&Table>> {
        let known =
            self.tables.get(&table).with_context(|| format!("no schema stands before record {seq}"))?;
        Ok(known.as_ref())
    }

    fn record(&mut self, frame: &Frame<'_>) -> anyhow::Result<()> {
        let (seq, json) = (frame.seq, self.json);
        let unreadable = || unreadable(seq);
        match frame.kind {
            Kind::State => {
                let state = State::decode(frame.payload).with_context(unreadable)?;
                let Standing { gtids, prepared, snapshots, position, followed, .. } =
                    state.standing.unwrap_or_default();
                let line = RecordLine {
                    gtids: Some(gtids.to_string()),
                    position: going_on_at(&position),
                    xa: prepared.iter().map(|prepared| format!("prepared {}", prepared.xid)).collect(),
                    snapshots: snapshots.iter().map(snapshot_for_people).collect(),
                    follows: followed.patterns,
                    ..RecordLine::new(seq, "state")
                };
                line.write(json, self.out)
            }
            Kind::Schema => {
                let record = SchemaRecord::decode(frame.payload).with_context(unreadable)?;
                let columns = record.schema.columns.iter().map(|c| c.name.escape_debug().to_string());
                let line = RecordLine {
                    table: Some(record.schema.name.to_string()),
                    columns: Some(columns.collect()),
                    ..RecordLine::new(seq, "schema")
                };
                line.write(json, self.out)
            }
            Kind::Sweep => {
                let sweep = SweepRecord::decode(frame.payload).with_context(unreadable)?;
                let line = RecordLine {
                    version: Some(frame.version.0),
                    below: Some(sweep.below().0),
                    table: Some(sweep.table.to_string()),
                    ..RecordLine::new(seq, "sweep")
                };
                line.write(json, self.out)
            }
            Kind::Commit => {
                let commit = Commit::decode(frame.payload).with_context(unreadable)?;
                let line = RecordLine {
                    gtids: commit.gtid.as_ref().map(ToString::to_string),
                    time_micros: Some(commit.time_micros),
                    position: Some(for_people(&commit.position)),
                    gaps: commit.noted.gaps.iter().map(NeedsSnapshot::from).collect(),
                    xa: xa_for_people(&commit.noted.xa),
                    snapshots: commit.noted.snapshots.iter().map(step_for_people).collect(),
                    follows: commit.noted.follows.map_or_else(Vec::new, |follows| follows.patterns),
                    ..RecordLine::new(seq, "commit")
                };
                line.write(json, self.out)
            }
            Kind::Mark => {
                let mark = Mark::decode(frame.payload).with_context(unreadable)?;
                let line = RecordLine {
                    gtids: Some(mark.gtids.to_string()),
                    time_micros: Some(mark.time_micros),
                    position: going_on_at(&mark.position),
                    gaps: mark.noted.gaps.iter().map(NeedsSnapshot::from).collect(),
                    xa: xa_for_people(&mark.noted.xa),
                    snapshots: mark.noted.snapshots.iter().map(step_for_people).collect(),
                    follows: mark.noted.follows.map_or_else(Vec::new, |follows| follows.patterns),
                    ..RecordLine::new(seq, "mark")
                };
                line.write(json, self.out)
            }
            Kind::Change | Kind::Prepared => {
                let change = Change::decode(frame.payload).with_context(unreadable)?;
                let no_table = || format!("the table of record {seq} was not asked for");
                let Table { name, mapping } = self.table(seq, change.table)?.with_context(no_table)?;
                let (mut id, mut old_id, mut row) = (String::new(), String::new(), Vec::new());
                if change.op == Op::Tombstone {
                    mapping.id_of_key(change.row, &mut id)?;
                } else {
                    mapping.id(change.row, &mut id)?;
                    mapping.document(change.op, change.row, &mut row)?;
                }
                if change.op == Op::Rekey {
                    mapping.old_id(change.row, &mut old_id)?;
                }
                // What is held has no version: its copy will.
                let counts = frame.kind == Kind::Change;
                let (version, kind, held) = if counts {
                    (Some(frame.version.0), op(change.op), None)
                } else {
                    (None, "prepared", Some(op(change.op)))
                };
                let line = RecordLine {
                    version,
                    op: held,
                    table: Some(name.clone()),
                    id: Some(&id),
                    old_id: Some(old_id.as_str()).filter(|id| !id.is_empty()),
                    row: if row.is_empty() { None } else { Some(serde_json::from_slice(&row)?) },
                    ..RecordLine::new(seq, kind)
                };
                line.write(json, self.out)
            }
        }
    }
}

fn xa_for_people(xa: &[Xa]) -> Vec<String> {
    let said = xa.iter().map(|xa| match xa {
        Xa::Prepared(Prepared { xid, .. }) => format!("prepared {xid}"),
        Xa::Decided { xid, outcome: Outcome::Committed } => format!("committed {xid}"),
        Xa::Decided { xid, outcome: Outcome::RolledBack } => format!("rolled back {xid}"),
    });
    said.collect()
}

fn step_for_people(SnapshotNote { table, step }: &SnapshotNote) -> String {
    let step = match step {
        SnapshotStep::Wanted { filter: None } => "wanted".to_owned(),
        SnapshotStep::Wanted { filter: Some(filter) } => format!("wanted where {filter}"),
        SnapshotStep::Begun { ranges, estimated_rows } => {
            format!("begun: about {estimated_rows} rows in {} ranges", ranges.len())
        }
        SnapshotStep::Read { range, after: Some(_), rows } => format!("{rows} rows of range {range}"),
        SnapshotStep::Read { range, after: None, rows } => format!("{rows} rows of range {range}, its last"),
        SnapshotStep::Ended => "ended".to_owned(),
        SnapshotStep::Cancelled => "cancelled".to_owned(),
        SnapshotStep::Paused(true) => "paused".to_owned(),
        SnapshotStep::Paused(false) => "resumed".to_owned(),
    };
    format!("snapshot of {table} {step}")
}

fn snapshot_for_people(Snapshot { table, filter, paused, begun }: &Snapshot) -> String {
    let filter = filter.as_ref().map_or(String::new(), |filter| format!(" where {filter}"));
    let paused = if *paused { ", paused" } else { "" };
    match begun {
        None => format!("snapshot of {table} wanted{filter}{paused}"),
        Some(Begun { since, rows, estimated_rows, .. }) => format!(
            "snapshot of {table} begun{filter} with version {since}: {rows} of about {estimated_rows} rows{paused}"
        ),
    }
}

fn unreadable(seq: Seq) -> String {
    format!("record {seq} cannot be decoded: was it written by a newer everrelay?")
}

/// One record, for `--json`.
#[derive(Serialize)]
struct RecordLine<'a> {
    seq: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// The first version that a sweep leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    below: Option<u64>,
    /// Of a row that is held.
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<&'a serde_json::value::RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gtids: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_micros: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    columns: Option<Vec<String>>,
    /// Tables that need a snapshot from here on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<NeedsSnapshot>,
    /// XA transactions, and what becomes of them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xa: Vec<String>,
    /// Snapshots, and what becomes of them here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    snapshots: Vec<String>,
    /// The patterns of the tables that are followed from here on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    follows: Vec<String>,
}

impl RecordLine<'_> {
    fn new(seq: Seq, kind: &'static str) -> Self {
        RecordLine {
            seq: seq.0,
            kind,
            version: None,
            below: None,
            op: None,
            table: None,
            id: None,
            old_id: None,
            row: None,
            gtids: None,
            time_micros: None,
            position: None,
            columns: None,
            gaps: Vec::new(),
            xa: Vec::new(),
            snapshots: Vec::new(),
            follows: Vec::new(),
        }
    }

    fn write(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        if json {
            return Ok(writeln!(out, "{}", serde_json::to_string(self)?)?);
        }
        write!(out, "{:>12}  {:<7}", self.seq, self.kind)?;
        let op = self.op.map(str::to_owned);
        let below = self.below.map(|below| format!("below version {below}"));
        let (xa, snapshots) = (Some(self.xa.join(", ")), Some(self.snapshots.join(", ")));
        let follows = Some(&self.follows).filter(|patterns| !patterns.is_empty());
        let follows = follows.map(|patterns| format!("follows {}", patterns.join(", ").escape_debug()));
        let row = self.row.map(|row| row.get().to_owned());
        let columns = self.columns.as_ref().map(|columns| format!("({})", columns.join(", ")));
        let time = self.time_micros.filter(|micros| *micros > 0).map(rfc3339_seconds);
        let old_id = self.old_id.map(|id| format!("was {id:?}"));
        let what = [&op, &self.table, &below, &columns, &old_id, &row, &xa, &snapshots, &follows];
        for text in what.into_iter().chain([&self.gtids, &time, &self.position]) {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                write!(out, " {text}")?;
            }
        }
        for NeedsSnapshot { table, why, .. } in &self.gaps {
            write!(out, "; {table} needs a snapshot: {why}")?;
        }
        Ok(writeln!(out)?)
    }
}

fn op(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Rekey => "rekey",
        Op::Delete | Op::Tombstone => "delete",
        Op::Read => "read",
    }
}
