//! `snapshot --from-now`: a stopped relay's log goes on from where the server is now, and every followed table is read anew.
//!
//! The way out where transactions were purged or lost. It says what it found and what it will do, and asks; all of it is one mark at the log's end.

use std::collections::BTreeSet;
use std::io;

use anyhow::{Context, anyhow};
use serde::Serialize;

use super::super::run::{open_log, refuse_newer_cursors};
use super::super::{ConfigArgument, Failure, consent};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::disk::{Reserve, SystemDisk};
use crate::event::TableName;
use crate::lifecycle::Exit;
use crate::log::record::{Batch, Mark, Synced};
use crate::log::{Noted, Standing};
use crate::settled::{CursorStore, ROOM_BYTES, Settled};
use crate::source::SourceError;
use crate::source::mysql::{MysqlOptions, MysqlSource};

/// Most tables that are named.
const NAMED: usize = 20;

/// What was found, and where the log is to go on.
#[derive(Debug, Serialize)]
struct Plan {
    server: String,
    /// What the source cannot go on from; `None`: it can.
    lost: Option<String>,
    /// Servers that could not be asked, and why.
    not_asked: Vec<String>,
    /// Where it goes on: these are passed over or read anew.
    gtids: String,
    place: Option<String>,
    /// XA transactions whose rows are given up.
    undecided_xa: usize,
    /// To be read anew.
    tables: Vec<String>,
    /// Gone, so that only documents may be left of them.
    gone: Vec<String>,
}

pub(super) fn run(config: &ConfigArgument, yes: bool, json: bool) -> Result<Exit, Failure> {
    let settings = config.load()?;
    // One provider in the whole tree; a second installation would only say that this one is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    runtime.block_on(go_on(&settings, yes, json))
}

async fn go_on(settings: &Settings, yes: bool, json: bool) -> Result<Exit, Failure> {
    if !settings.log_dir().exists() {
        let error = anyhow!("there is no log in {:?} yet: `everrelay run` begins one", settings.state_dir);
        return Err(Failure::new(Exit::Usage, error));
    }
    refuse_newer_cursors(settings)?;
    // Its lock keeps a relay from running meanwhile.
    let mut opened = open_log(settings).await.map_err(|Failure { exit, error }| {
        Failure::new(exit, error.context("the relay must be stopped for this"))
    })?;
    let Some(after) = opened.writer.standing().cloned() else {
        return Err(Failure::new(Exit::Usage, anyhow!("the log is empty: `everrelay run` begins it")));
    };
    let (plan, begins, noted) = plan(settings, &after).await?;
    say(&plan, json).map_err(state)?;
    consent("Go on from there?", yes)?;
    // On a full disk too: the next `run` makes the reserve again, where there is room.
    let reserve = Reserve::open(SystemDisk, &settings.reserve_path(), settings.disk_reserve_bytes);
    reserve.and_then(|reserve| reserve.give_up_under(ROOM_BYTES)).map_err(state)?;
    let mut batch = Batch::new();
    batch.mark(&Mark {
        synced: Synced::default(),
        gtids: begins.gtids,
        time_micros: match begins.time_micros {
            0 => SystemClock.wall_micros(),
            micros => micros,
        },
        position: begins.position,
        noted,
    });
    opened.writer.append(&mut batch).and_then(|()| opened.writer.sync()).map_err(state)?;
    if !json {
        println!("done      `everrelay run` goes on from there and reads the tables");
    }
    Ok(Exit::Done)
}

fn state(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::State, error)
}

/// Looks at every server; the first that has all is taken, else the first that serves.
async fn plan(settings: &Settings, after: &Standing) -> Result<(Plan, Standing, Noted), Failure> {
    let (mut chosen, mut not_asked): (Option<(MysqlSource, String, Option<String>)>, _) = (None, Vec::new());
    for host in settings.source.hosts() {
        // Under a number of its own: whoever streams under the relay's would be evicted.
        let options = MysqlOptions { relay_id: rand::random(), ..settings.source.only(&host) };
        let mut source = MysqlSource::new(options).map_err(|error| Failure::new(Exit::Usage, error))?;
        let mut told = false;
        let waiting = |said: &str| {
            if !std::mem::replace(&mut told, true) {
                eprintln!("{said}");
            }
        };
        match source.loss(after, waiting).await {
            Err(error) => not_asked.push(format!("{}: {error}", host.address)),
            Ok(lost) => {
                let is_better = chosen.as_ref().is_none_or(|(_, _, known)| known.is_some() && lost.is_none());
                if is_better {
                    chosen = Some((source, host.address.to_string(), lost));
                }
            }
        }
    }
    let Some((mut source, server, lost)) = chosen else {
        return Err(Failure::new(Exit::Source, anyhow!("nothing was changed: {}", not_asked.join("; "))));
    };
    let unasked = |error: SourceError| Failure::new(Exit::Source, error);
    let indexed = indexed(settings).map_err(state)?;
    let (begins, noted) = source.anew(after, indexed).await.map_err(unasked)?;
    let there: BTreeSet<_> = noted.snapshots.iter().map(|note| &note.table).collect();
    let gone = noted.gaps.iter().map(|gap| &gap.table).filter(|table| !there.contains(table));
    let place = Some(&begins.position).filter(|position| position.by_place);
    let plan = Plan {
        server,
        lost,
        not_asked,
        gtids: begins.gtids.to_string(),
        place: place.map(|position| format!("{}:{}", position.file.escape_debug(), position.offset)),
        undecided_xa: after.prepared.len(),
        tables: there.iter().map(ToString::to_string).collect(),
        gone: gone.map(ToString::to_string).collect(),
    };
    Ok((plan, begins, noted))
}

/// The tables that documents were written of, by any sink.
fn indexed(settings: &Settings) -> anyhow::Result<Vec<TableName>> {
    if !settings.settled_dir().exists() {
        return Ok(Vec::new());
    }
    let settled = Settled::open(&settings.settled_dir())?;
    let mut tables = BTreeSet::new();
    for name in settled.cursors()? {
        let cursor = settled.cursor(&name)?.load().context("reading which tables have documents")?;
        let indices = cursor.map(|cursor| cursor.indices).unwrap_or_default();
        tables.extend(indices.into_values().map(|index| index.table));
    }
    Ok(tables.into_iter().collect())
}

fn say(plan: &Plan, json: bool) -> io::Result<()> {
    if json {
        println!("{}", serde_json::to_string(plan)?);
        return Ok(());
    }
    let Plan { server, lost, not_asked, gtids, place, undecided_xa, tables, gone } = plan;
    println!("server    {server}");
    match lost {
        Some(lost) => println!("lost      {lost}"),
        None => println!(
            "lost      nothing: it has everything that the log goes on from, and `everrelay run` can go on there; else what was not read yet is \
             passed over"
        ),
    }
    for server in not_asked {
        println!("not asked {server}: what it alone has is not read");
    }
    match place {
        Some(place) => println!("goes on   at {place}"),
        None => println!("goes on   after {gtids}"),
    }
    if *undecided_xa > 0 {
        println!(
            "          without the rows of {undecided_xa} XA transactions that are prepared: their XA COMMIT will mark every table"
        );
    }
    println!("read anew {}; documents whose rows are gone are deleted then", named(tables));
    if !gone.is_empty() {
        println!("gone      {}: their documents stay", named(gone));
    }
    Ok(())
}

fn named(tables: &[String]) -> String {
    let shown = tables.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if tables.len() > NAMED { ", …" } else { "" };
    format!("{} tables ({shown}{more})", tables.len())
}
