//! `log ls`: one line a segment, and who still needs it.

use std::io::Write;

use serde::Serialize;

use super::{going_on_at, open};
use crate::admin::sinks::SinkStatus;
use crate::cli::{ConfigArgument, Failure, bytes_for_people};
use crate::clock::rfc3339_seconds;
use crate::disk::SystemDisk;
use crate::event::{GtidSet, Seq};
use crate::lifecycle::Exit;
use crate::log::{self, ReadOnly, SegmentInfo};

/// Characters of a segment's GTIDs that people are shown.
const SHOWN: usize = 80;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LsArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// One JSON object a line, with all GTIDs of each segment.
    #[arg(long)]
    json: bool,
}

/// How the sinks stand, or why that cannot be known.
type Settled = Result<Vec<SinkStatus>, String>;

pub(super) fn run(arguments: &LsArguments, out: &mut impl Write) -> Result<(), Failure> {
    let settings = arguments.config.load()?;
    let opened = open(&settings)?;
    let settled = crate::cli::status::standing_of_sinks(&settings).map_err(|error| format!("{error:#}"));
    list(&opened, &settled, arguments.json, out).map_err(|error| Failure::new(Exit::State, error))
}

#[derive(Serialize)]
struct SegmentLine {
    first: u64,
    last: Option<u64>,
    bytes: u64,
    version_base: u64,
    created_micros: u64,
    sealed_micros: Option<u64>,
    /// Server's times of its commits: later than the first, up to the second; 0 where none is known.
    commits_after_micros: u64,
    commits_until_micros: u64,
    gtids: String,
    /// Where it ends in the source's binlog, if transactions near there have no GTIDs.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<String>,
    /// `None`: not known, and then why.
    needed_by: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    needed_by_unknown: Option<String>,
}

/// Where the source stands at a segment's start or the log's end.
struct Standing {
    gtids: GtidSet,
    place: Option<String>,
    latest_micros: u64,
}

fn list(
    opened: &ReadOnly<SystemDisk>,
    settled: &Settled,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let segments = opened.log.segments();
    if !json {
        writeln!(
            out,
            "{:>20} {:>20} {:>10}  {:<20}  {:<20}  {:<20}  {:<20}  {:<20}  GTIDs",
            "first", "last", "size", "created", "sealed", "commits after", "commits until", "needed by",
        )?;
    }
    let mut standing = None;
    for (i, segment) in segments.iter().enumerate() {
        let begins = match standing.take() {
            Some(standing) => standing,
            None => at(opened, Some(segment))?,
        };
        let ends = at(opened, segments.get(i + 1))?;
        let gtids = ends.gtids.subtract(&begins.gtids);
        let needed = settled.as_ref().map(|sinks| needed_by(segment, sinks, opened)).map_err(String::as_str);
        if json {
            let line = SegmentLine {
                first: segment.first.0,
                last: segment.last.map(|seq| seq.0),
                bytes: segment.bytes,
                version_base: segment.base,
                created_micros: segment.created_micros,
                sealed_micros: segment.sealed_micros,
                commits_after_micros: begins.latest_micros,
                commits_until_micros: ends.latest_micros,
                gtids: gtids.to_string(),
                position: ends.place.clone(),
                needed_by_unknown: needed.as_ref().err().map(|why| (*why).to_owned()),
                needed_by: needed.ok(),
            };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        } else {
            let time = |micros| if micros > 0 { rfc3339_seconds(micros) } else { "-".to_owned() };
            writeln!(
                out,
                "{:>20} {:>20} {:>10}  {:<20}  {:<20}  {:<20}  {:<20}  {:<20}  {}",
                segment.first,
                segment.last.map_or_else(|| "-".to_owned(), |seq| seq.to_string()),
                bytes_for_people(segment.bytes),
                rfc3339_seconds(segment.created_micros),
                segment.sealed_micros.map_or_else(|| "being written".to_owned(), rfc3339_seconds),
                time(begins.latest_micros),
                time(ends.latest_micros),
                needed.map_or_else(|_| "unknown".to_owned(), |needed| needed.join(", ")),
                shown(&gtids, ends.place.as_deref()),
            )?;
        }
        standing = Some(ends);
    }
    if !json {
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        writeln!(out, "{} segments, {}", segments.len(), bytes_for_people(bytes))?;
        if let Err(why) = settled {
            writeln!(out, "who still needs them is unknown: {why}")?;
        }
    }
    Ok(())
}

/// How the segment begins; past the last that begins below the end of what is visible, that end.
fn at(opened: &ReadOnly<SystemDisk>, segment: Option<&SegmentInfo>) -> anyhow::Result<Standing> {
    match segment.filter(|segment| segment.first <= opened.log.visible().seq) {
        Some(segment) => {
            let state = opened.log.state(segment.first)?;
            Ok(standing(state.standing, state.latest_micros))
        }
        None => Ok(standing(opened.standing.clone(), opened.latest_micros)),
    }
}

fn standing(standing: Option<log::Standing>, latest_micros: u64) -> Standing {
    let log::Standing { gtids, position, .. } = standing.unwrap_or_default();
    Standing { gtids, place: going_on_at(&position), latest_micros }
}

fn shown(gtids: &GtidSet, place: Option<&str>) -> String {
    match (gtids.is_empty(), place) {
        (true, Some(place)) => format!("none, up to {place}"),
        (false, Some(place)) => format!("{}, others up to {place}", gtids.brief(SHOWN)),
        (_, None) => gtids.brief(SHOWN),
    }
}

fn needed_by(segment: &SegmentInfo, sinks: &[SinkStatus], opened: &ReadOnly<SystemDisk>) -> Vec<String> {
    let mut needed = Vec::new();
    if segment.sealed_micros.is_none() || segment.last.is_none() {
        needed.push("writing".to_owned());
    }
    let several = sinks.len() > 1;
    needed.extend(sinks.iter().filter_map(|sink| to_deliver(segment.last, sink, several)));
    if holds(segment, opened) {
        needed.push("xa".to_owned());
    }
    let replayed = sinks.iter().filter(|sink| is_replayed(segment.last, sink));
    needed.extend(replayed.map(|sink| match several {
        true => format!("replay of {}", sink.name),
        false => "replay".to_owned(),
    }));
    // Nobody waits for it: it is kept for as long as retention says.
    if needed.is_empty() {
        needed.push("retention".to_owned());
    }
    needed
}

/// For what the sink needs a segment that ends with `last`, if it does.
fn to_deliver(last: Option<Seq>, sink: &SinkStatus, several: bool) -> Option<String> {
    let SinkStatus { name, configured, cursor, done, .. } = sink;
    let more = if *configured { "" } else { " (not in the configuration)" };
    match last {
        Some(Seq(last)) if last <= *done => None,
        Some(Seq(last)) if last <= *cursor && several => Some(format!("sweep of {name}{more}")),
        Some(Seq(last)) if last <= *cursor => Some("sweep".to_owned()),
        _ => Some(format!("sink {name}{more}")),
    }
}

/// Whether the sink's replay goes on and is yet to read of a segment that ends with `last`.
fn is_replayed(last: Option<Seq>, sink: &SinkStatus) -> bool {
    let going = sink.replay.as_ref().filter(|replay| replay.is_going());
    going.is_some_and(|replay| last.is_none_or(|last| replay.from <= last.0))
}

/// Whether rows of an undecided XA transaction are in it.
fn holds(segment: &SegmentInfo, opened: &ReadOnly<SystemDisk>) -> bool {
    let prepared = opened.standing.as_ref().map(|standing| standing.prepared.as_slice()).unwrap_or_default();
    let mut held = prepared.iter().filter_map(|prepared| prepared.held);
    held.any(|held| segment.first <= held.last && segment.last.is_none_or(|last| held.first <= last))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::admin::replay::{ReplayState, ReplayStatus};

    #[test]
    fn a_segment_is_needed_until_it_is_settled_and_swept() {
        let sink =
            SinkStatus { cursor: 20, done: 9, name: "a".into(), configured: true, ..SinkStatus::default() };
        let needed = |last| to_deliver(last, &sink, false);
        assert_eq!(needed(Some(Seq(9))), None);
        assert_eq!(needed(Some(Seq(10))).as_deref(), Some("sweep"));
        assert_eq!(needed(Some(Seq(20))).as_deref(), Some("sweep"));
        for last in [Some(Seq(21)), None] {
            assert_eq!(needed(last).as_deref(), Some("sink a"));
        }
        let replay = |state| Some(ReplayStatus { state, from: 9, ..ReplayStatus::default() });
        let replayed = |state| {
            let sink = SinkStatus { replay: replay(state), ..sink.clone() };
            [Some(Seq(8)), Some(Seq(9)), None].map(|last| is_replayed(last, &sink))
        };
        assert_eq!(replayed(ReplayState::Sending), [false, true, true]);
        assert_eq!(replayed(ReplayState::Done), [false, false, false]);
        assert_eq!(to_deliver(Some(Seq(10)), &sink, true).as_deref(), Some("sweep of a"));
        let forgotten = SinkStatus { configured: false, ..sink };
        let needed = to_deliver(None, &forgotten, true);
        assert_eq!(needed.as_deref(), Some("sink a (not in the configuration)"));
    }
}
