//! `log cut`: the log of a stopped relay, cut back to the end of a transaction.

use std::io::{self, Write};

use anyhow::anyhow;
use serde::Serialize;

use super::going_on_at;
use crate::cli::{ConfigArgument, Failure, bytes_for_people, consent};
use crate::clock::{Clock, SystemClock, rfc3339_seconds};
use crate::config::Settings;
use crate::disk::{Reserve, SystemDisk};
use crate::event::Seq;
use crate::lifecycle::Exit;
use crate::log::cut::{self, Kept, Plan};
use crate::settled::{Cursor, CursorStore, ROOM_BYTES, Settled, SettledError, SledCursor};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CutArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The last record that stays; the end of a transaction at or below it is taken.
    #[arg(long, value_name = "SEQ")]
    after: u64,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// One JSON object that says what is planned, and one that says what was done.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CutArguments, out: &mut impl Write) -> Result<Exit, Failure> {
    let settings = arguments.config.load()?;
    let locked = cut::lock(&SystemDisk, &settings.log_dir()).map_err(state)?;
    // Opened after the log is locked: a relay opens them in the same order.
    let mut cursors = Cursors::open(&settings).map_err(state)?;
    let plan = locked.plan(&SystemClock, Seq(arguments.after), &cursors.seqs()).map_err(state)?;
    cursors.check(&plan)?;
    let lowered: Vec<Lowered> = cursors.above(plan.after);
    let said = if arguments.json {
        say_json(arguments, &plan, &lowered, out)
    } else {
        say(arguments, &plan, &lowered, &settings, out)
    };
    said.and_then(|()| out.flush()).map_err(state)?;
    if changes_nothing(&plan, &lowered) {
        return Ok(Exit::Done);
    }
    consent("Cut?", arguments.yes)?;
    // On a full disk too: the next `run` makes the reserve again, where there is room.
    let reserve = Reserve::open(SystemDisk, &settings.reserve_path(), settings.disk_reserve_bytes);
    let room = ROOM_BYTES.saturating_add(plan.going.bytes);
    reserve.and_then(|reserve| reserve.give_up_under(room)).map_err(state)?;
    cursors.lower(&plan).map_err(state)?;
    let kept = locked.carry_out(&plan, &settings.cut_dir()).map_err(state)?;
    match say_done(arguments.json, kept.as_ref(), out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(state(error)),
        // It is done, whether somebody reads that or not.
        _ => Ok(Exit::Done),
    }
}

fn state(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::State, error)
}

/// Every sink's cursor, held so that nobody moves them.
struct Cursors {
    /// `None` where nothing was ever settled.
    settled: Option<Settled>,
    stores: Vec<(String, SledCursor, Cursor)>,
}

/// A cursor that stands above the cut.
#[derive(Serialize)]
struct Lowered {
    sink: String,
    from: u64,
    to: u64,
}

impl Cursors {
    fn open(settings: &Settings) -> Result<Cursors, SettledError> {
        // Opening makes the folder where it is missing.
        if !settings.settled_dir().exists() {
            return Ok(Cursors { settled: None, stores: Vec::new() });
        }
        let settled = Settled::open(&settings.settled_dir())?;
        let mut stores = Vec::new();
        for name in settled.cursors()? {
            let store = settled.cursor(&name)?;
            if let Some(cursor) = store.load()? {
                stores.push((name, store, cursor));
            }
        }
        Ok(Cursors { settled: Some(settled), stores })
    }

    fn seqs(&self) -> Vec<Seq> {
        self.stores.iter().map(|(_, _, cursor)| cursor.seq).collect()
    }

    fn above(&self, after: Seq) -> Vec<Lowered> {
        let above = self.stores.iter().filter(|(_, _, cursor)| cursor.seq > after);
        above
            .map(|(name, _, cursor)| Lowered { sink: name.clone(), from: cursor.seq.0, to: after.0 })
            .collect()
    }

    /// A cursor past all that is there is one of a log that lost its end, if it has settled what is left; else it is another log's, and
    /// lowering it would call settled what was never sent.
    fn check(&self, plan: &Plan) -> Result<(), Failure> {
        let left = plan.standing.clone().unwrap_or_default().gtids;
        for (name, _, cursor) in self.stores.iter().filter(|(_, _, cursor)| plan.is_passed_by(cursor.seq)) {
            if !left.is_subset(&cursor.gtids) {
                return Err(state(anyhow!(
                    "the cursor of {name} stands at frame {}, past all that is there, and has not settled what the log holds: log and cursor \
                     are not of one folder. Nothing was changed. Put together what belongs together, or start with an empty state folder",
                    cursor.seq
                )));
            }
        }
        Ok(())
    }

    /// Lowers what stands above the cut to it, durably. The indices stay: they are what documents went to.
    fn lower(&mut self, plan: &Plan) -> Result<(), SettledError> {
        for (_, store, cursor) in self.stores.iter_mut().filter(|(_, _, cursor)| cursor.seq > plan.after) {
            cursor.seq = plan.after;
            cursor.gtids = plan.standing.clone().unwrap_or_default().gtids;
            store.commit(cursor)?;
        }
        self.settled.as_ref().map_or(Ok(()), Settled::sync)
    }
}

fn changes_nothing(plan: &Plan, lowered: &[Lowered]) -> bool {
    plan.is_empty() && lowered.is_empty() && plan.lost.is_empty()
}

fn say(
    arguments: &CutArguments,
    plan: &Plan,
    lowered: &[Lowered],
    settings: &Settings,
    out: &mut impl Write,
) -> io::Result<()> {
    let after = plan.after;
    if changes_nothing(plan, lowered) {
        return writeln!(out, "nothing to cut: the log ends with frame {after}, and no sink is past it");
    }
    write!(out, "cut       after frame {after}, the end of a transaction")?;
    let asked = if arguments.after == after.0 {
        String::new()
    } else {
        format!(" ({} was asked for)", arguments.after)
    };
    writeln!(out, "{asked}")?;
    let going = &plan.going;
    writeln!(
        out,
        "goes      {}: frames {} to {}, {} commits and marks; {} whole segments",
        bytes_for_people(going.bytes),
        after.next(),
        going.last.max(after),
        going.ends,
        going.segments
    )?;
    if !going.gtids.is_empty() {
        writeln!(out, "          transactions {}", going.gtids)?;
    }
    if !going.whole {
        writeln!(out, "          not all of it can be read: there may be more transactions in it")?;
    }
    writeln!(out, "kept in   {}", settings.cut_dir().display())?;
    for Lowered { sink, from, to } in lowered {
        writeln!(out, "cursor    of {sink} is lowered from {from} to {to}")?;
    }
    for xid in &plan.lost {
        writeln!(
            out,
            "xa        {xid} is prepared and its rows are not whole: its XA COMMIT will mark the tables as needing a snapshot"
        )?;
    }
    if !going.versions_known {
        writeln!(
            out,
            "versions  that were sent cannot be read from what goes: those to come are taken from the clock. It reads {}: is that right?",
            rfc3339_seconds(SystemClock.wall_micros())
        )?;
    }
    let place = plan.standing.as_ref().and_then(|standing| going_on_at(&standing.position));
    let gtids = plan.standing.as_ref().map(|standing| &standing.gtids).filter(|gtids| !gtids.is_empty());
    let position = place.or_else(|| gtids.map(ToString::to_string)).unwrap_or_else(|| "the start".to_owned());
    writeln!(
        out,
        "again     everything after {position} is read from the server and sent again, if the server still has its binlogs; \
         else `everrelay run` refuses and names what is missing"
    )
}

#[derive(Serialize)]
struct PlanLine<'a> {
    kind: &'static str,
    asked: u64,
    after: u64,
    bytes: u64,
    segments: usize,
    last: u64,
    ends: u64,
    gtids: String,
    whole: bool,
    versions_known: bool,
    position: Option<String>,
    cursors: &'a [Lowered],
    xa_lost: Vec<String>,
}

fn say_json(
    arguments: &CutArguments,
    plan: &Plan,
    lowered: &[Lowered],
    out: &mut impl Write,
) -> io::Result<()> {
    let line = PlanLine {
        kind: "plan",
        asked: arguments.after,
        after: plan.after.0,
        bytes: plan.going.bytes,
        segments: plan.going.segments,
        last: plan.going.last.max(plan.after).0,
        ends: plan.going.ends,
        gtids: plan.going.gtids.to_string(),
        whole: plan.going.whole,
        versions_known: plan.going.versions_known,
        position: plan
            .standing
            .as_ref()
            .map(|standing| going_on_at(&standing.position).unwrap_or_else(|| standing.gtids.to_string())),
        cursors: lowered,
        xa_lost: plan.lost.iter().map(ToString::to_string).collect(),
    };
    writeln!(out, "{}", serde_json::to_string(&line)?)
}

#[derive(Serialize)]
struct DoneLine {
    kind: &'static str,
    kept: Option<String>,
    unreadable_bytes: u64,
}

fn say_done(json: bool, kept: Option<&Kept>, out: &mut impl Write) -> io::Result<()> {
    let unreadable_bytes = kept.map_or(0, |kept| kept.unreadable_bytes);
    let folder = kept.map(|kept| kept.folder.display().to_string());
    if json {
        let line = DoneLine { kind: "cut", kept: folder, unreadable_bytes };
        return writeln!(out, "{}", serde_json::to_string(&line)?);
    }
    if let Some(folder) = folder {
        writeln!(out, "done; what went is in {folder}: remove it when you are sure that you do not want it")?;
    } else {
        writeln!(out, "done")?;
    }
    if unreadable_bytes > 0 {
        writeln!(out, "{unreadable_bytes} bytes of it could not be read, and are zeros there")?;
    }
    writeln!(out, "`everrelay run` goes on from here")
}
