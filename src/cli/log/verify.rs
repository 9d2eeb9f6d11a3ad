//! `log verify`: all of the log, and what to do where it is damaged.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::{ConfigArgument, Failure, bytes_for_people};
use crate::disk::SystemDisk;
use crate::lifecycle::Exit;
use crate::log::verify::{self, Checked, Depth, Finding, Report, WayOut};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct VerifyArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Take every record apart, too: positions, schemas, values.
    #[arg(long)]
    deep: bool,
    /// One JSON object a finding, and one that sums up.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &VerifyArguments, out: &mut impl Write) -> Result<Exit, Failure> {
    let settings = arguments.config.load()?;
    let depth = if arguments.deep { Depth::Payloads } else { Depth::Frames };
    let bar = Bar::new();
    let started = Instant::now();
    let mut written = Ok(());
    let checked = verify::verify(&SystemDisk, &settings.log_dir(), depth, |report| match report {
        Report::Total(bytes) => bar.0.set_length(bytes),
        Report::Read(bytes) => bar.0.inc(bytes),
        Report::Finding(finding) => {
            if written.is_ok() {
                written = bar.0.suspend(|| tell(&finding, arguments.json, out));
            }
        }
    });
    bar.0.finish_and_clear();
    let checked = checked.map_err(|error| Failure::new(Exit::State, error))?;
    let summed = written.and_then(|()| sum_up(&checked, started.elapsed(), arguments.json, out));
    match summed.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            return Err(Failure::new(Exit::State, error));
        }
        // Whoever reads no further still has the exit code.
        _ => {}
    }
    Ok(if checked.damaged == 0 { Exit::Done } else { Exit::State })
}

/// Bytes read of all, on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Bar {
        if !io::stderr().is_terminal() {
            return Bar(ProgressBar::hidden());
        }
        let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        Bar(ProgressBar::new(0).with_style(style))
    }
}

#[derive(Serialize)]
struct FindingLine<'a> {
    kind: &'static str,
    damage: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    what: &'a str,
}

#[derive(Serialize)]
struct SummaryLine {
    kind: &'static str,
    whole: bool,
    /// Whether `run` would open it.
    opens: bool,
    segments: u64,
    frames: u64,
    ends: u64,
    bytes: u64,
    seconds: f64,
    first: u64,
    last: u64,
    damaged: u64,
    /// What `log cut --after` takes to leave a whole log, and how many bytes that takes away.
    cut_after: Option<u64>,
    cut_bytes: Option<u64>,
}

fn tell(finding: &Finding, json: bool, out: &mut impl Write) -> io::Result<()> {
    let what = finding.to_string();
    if !json {
        writeln!(out, "{what}")?;
        return out.flush();
    }
    let line = FindingLine {
        kind: finding.kind(),
        damage: finding.is_damage(),
        path: finding.path().map(|path| path.display().to_string()),
        offset: finding.offset(),
        seq: finding.seq().map(|seq| seq.0),
        what: &what,
    };
    writeln!(out, "{}", serde_json::to_string(&line)?)
}

fn sum_up(checked: &Checked, took: Duration, json: bool, out: &mut impl Write) -> io::Result<()> {
    let Checked { segments, frames, ends, bytes, first, last, damaged, opens, way_out } = *checked;
    let seconds = took.as_secs_f64();
    if json {
        let (cut_after, cut_bytes) = match way_out {
            WayOut::Cut { after, bytes } => (Some(after.0), Some(bytes)),
            WayOut::None | WayOut::NothingToKeep => (None, None),
        };
        let line = SummaryLine {
            kind: "summary",
            whole: damaged == 0,
            opens,
            segments,
            frames,
            ends,
            bytes,
            seconds,
            first: first.0,
            last: last.0,
            damaged,
            cut_after,
            cut_bytes,
        };
        return writeln!(out, "{}", serde_json::to_string(&line)?);
    }
    // A log that is checked in no time at all still has a rate.
    let rate = bytes_for_people((bytes as f64 / seconds.max(1e-6)) as u64);
    let size = bytes_for_people(bytes);
    writeln!(
        out,
        "checked {segments} segments, {frames} frames from {first} to {last}, {ends} commits and marks: {size} in {seconds:.1} s, {rate}/s"
    )?;
    if damaged == 0 {
        return writeln!(out, "the log is whole");
    }
    writeln!(out, "the log is damaged: {damaged} findings")?;
    if opens {
        writeln!(
            out,
            "It opens all the same. Where every sink is past what is damaged (`everrelay status`), nothing reads that again, and it goes with the retention; else:"
        )?;
    }
    match way_out {
        WayOut::None => writeln!(out, "Move what is not part of the log elsewhere."),
        WayOut::Cut { after, bytes } => writeln!(
            out,
            "Stop everrelay and run `everrelay log cut --after {after}`. That takes {} from frame {} on out of the log, and keeps them beside it; \
             the server is asked for their transactions again, and must still have its binlogs.",
            bytes_for_people(bytes),
            after.next(),
        ),
        WayOut::NothingToKeep => writeln!(
            out,
            "Nothing whole stands before the first damage: restore the whole state folder from a copy, or start with an empty one."
        ),
    }
}
