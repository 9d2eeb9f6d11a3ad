//! `everrelay log ls` and `log cat`: a look at the log, beside a running relay or without one. Neither writes anything.

use std::io::{self, BufWriter, Write};

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;

use super::{ConfigArgument, Failure, bytes_for_people, time_for_people};
use crate::disk::SystemDisk;
use crate::event::{Op, Seq, TableNo};
use crate::lifecycle::Exit;
use crate::log::record::{Change, Commit, Kind, Mark, SchemaRecord, State};
use crate::log::{Frame, Log, SegmentInfo};
use crate::mapping::TableMapping;

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
        LogCommand::Ls { config, json } => list(&open(config)?, *json, &mut out),
        LogCommand::Cat { config, from, limit, json } => {
            let log = open(config)?;
            let from = from.map_or_else(|| log.retained_start(), Seq);
            print(&log, from, limit.unwrap_or(u64::MAX), *json, &mut out)
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

#[derive(Serialize)]
struct SegmentLine {
    first: u64,
    last: Option<u64>,
    bytes: u64,
    version_base: u64,
    created_micros: u64,
    sealed_micros: Option<u64>,
}

impl From<&SegmentInfo> for SegmentLine {
    fn from(info: &SegmentInfo) -> Self {
        SegmentLine {
            first: info.first.0,
            last: info.last.map(|seq| seq.0),
            bytes: info.bytes,
            version_base: info.base,
            created_micros: info.created_micros,
            sealed_micros: info.sealed_micros,
        }
    }
}

fn list(log: &Log<SystemDisk>, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let segments = log.segments();
    if json {
        for info in &segments {
            writeln!(out, "{}", serde_json::to_string(&SegmentLine::from(info))?)?;
        }
        return Ok(());
    }
    writeln!(out, "{:>20} {:>20} {:>10}  {:<20} sealed", "first", "last", "size", "created")?;
    for info in &segments {
        let last = info.last.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
        let sealed = info.sealed_micros.map_or_else(|| "being written".to_owned(), time_for_people);
        writeln!(
            out,
            "{:>20} {:>20} {:>10}  {:<20} {sealed}",
            info.first,
            last,
            bytes_for_people(info.bytes),
            time_for_people(info.created_micros),
        )?;
    }
    let bytes = segments.iter().map(|info| info.bytes).sum();
    writeln!(out, "{} segments, {}", segments.len(), bytes_for_people(bytes))?;
    Ok(())
}

/// One record, for `--json`.
#[derive(Serialize)]
struct RecordLine<'a> {
    seq: u64,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
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
}

impl RecordLine<'_> {
    fn new(seq: Seq, kind: &'static str) -> Self {
        RecordLine {
            seq: seq.0,
            kind,
            version: None,
            table: None,
            id: None,
            old_id: None,
            row: None,
            gtids: None,
            time_micros: None,
            position: None,
            columns: None,
        }
    }

    fn write(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        if json {
            return Ok(writeln!(out, "{}", serde_json::to_string(self)?)?);
        }
        write!(out, "{:>12}  {:<7}", self.seq, self.kind)?;
        let row = self.row.map(|row| row.get().to_owned());
        let columns = self.columns.as_ref().map(|columns| format!("({})", columns.join(", ")));
        let time = self.time_micros.filter(|micros| *micros > 0).map(time_for_people);
        let old_id = self.old_id.map(|id| format!("was {id:?}"));
        for text in [&self.table, &columns, &old_id, &row, &self.gtids, &time, &self.position] {
            if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
                write!(out, " {text}")?;
            }
        }
        Ok(writeln!(out)?)
    }
}

fn print(
    log: &Log<SystemDisk>,
    from: Seq,
    limit: u64,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut reader = log.reader(from)?;
    let mut tables = std::collections::HashMap::<TableNo, (String, TableMapping)>::new();
    let mut printed = 0;
    while let Some(frame) = reader.next_frame()?.filter(|_| printed < limit) {
        if frame.kind == Kind::Schema {
            let record = SchemaRecord::decode(frame.payload).context(unreadable(frame.seq))?;
            let mapping = TableMapping::new(&record.schema)?;
            tables.insert(record.table, (record.schema.name.to_string(), mapping));
        }
        // Schemas from before `from` are needed to read what follows, and not asked for.
        if frame.seq >= from {
            record(&frame, &tables, json, out)?;
            printed += 1;
        }
    }
    Ok(())
}

fn unreadable(seq: Seq) -> String {
    format!("record {seq} cannot be decoded: was it written by a newer everrelay?")
}

fn record(
    frame: &Frame<'_>,
    tables: &std::collections::HashMap<TableNo, (String, TableMapping)>,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let seq = frame.seq;
    let unreadable = || unreadable(seq);
    match frame.kind {
        Kind::State => {
            let state = State::decode(frame.payload).with_context(unreadable)?;
            let gtids = Some(state.gtids.unwrap_or_default().to_string());
            RecordLine { gtids, ..RecordLine::new(seq, "state") }.write(json, out)
        }
        Kind::Schema => {
            let record = SchemaRecord::decode(frame.payload).with_context(unreadable)?;
            let columns = record.schema.columns.iter().map(|c| c.name.escape_debug().to_string());
            let line = RecordLine {
                table: Some(record.schema.name.to_string()),
                columns: Some(columns.collect()),
                ..RecordLine::new(seq, "schema")
            };
            line.write(json, out)
        }
        Kind::Commit => {
            let commit = Commit::decode(frame.payload).with_context(unreadable)?;
            let line = RecordLine {
                gtids: Some(commit.gtid.to_string()),
                time_micros: Some(commit.time_micros),
                position: Some(format!("{}:{}", commit.position.file, commit.position.offset)),
                ..RecordLine::new(seq, "commit")
            };
            line.write(json, out)
        }
        Kind::Mark => {
            let mark = Mark::decode(frame.payload).with_context(unreadable)?;
            let line = RecordLine {
                gtids: Some(mark.gtids.to_string()),
                time_micros: Some(mark.time_micros),
                ..RecordLine::new(seq, "mark")
            };
            line.write(json, out)
        }
        Kind::Change => {
            let change = Change::decode(frame.payload).with_context(unreadable)?;
            let (name, mapping) =
                tables.get(&change.table).with_context(|| format!("no schema stands before record {seq}"))?;
            let (mut id, mut old_id, mut row) = (String::new(), String::new(), Vec::new());
            mapping.id(change.row, &mut id)?;
            mapping.document(change.row, &mut row)?;
            if change.op == Op::Rekey {
                mapping.old_id(change.row, &mut old_id)?;
            }
            let line = RecordLine {
                version: Some(frame.version.0),
                table: Some(name.clone()),
                id: Some(&id),
                old_id: Some(old_id.as_str()).filter(|id| !id.is_empty()),
                row: Some(serde_json::from_slice(&row)?),
                ..RecordLine::new(seq, op(change.op))
            };
            line.write(json, out)
        }
    }
}

fn op(op: Op) -> &'static str {
    match op {
        Op::Insert => "insert",
        Op::Update => "update",
        Op::Rekey => "rekey",
        Op::Delete => "delete",
    }
}
