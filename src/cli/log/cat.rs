//! `log cat`: the log's records, row values included.

use std::io::Write;

use anyhow::Context;
use serde::Serialize;

use crate::cli::time_for_people;
use crate::disk::SystemDisk;
use crate::event::{Op, Seq, TableNo};
use crate::log::record::{Change, Commit, Kind, Mark, SchemaRecord, State};
use crate::log::{Frame, Log};
use crate::mapping::TableMapping;

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

pub(super) fn print(
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
