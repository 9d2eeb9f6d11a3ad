//! A replay by the relay that runs: ordered, watched, given up.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use reqwest::Method;

use super::super::Failure;
use super::super::socket::ask;
use super::{Meant, ReplayArguments};
use crate::admin::replay::{Asked, ReplayState, ReplayStatus};
use crate::clock::rfc3339_seconds;
use crate::config::{Settings, SinkSettings};
use crate::lifecycle::Exit;

/// How often it is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn run(
    arguments: &ReplayArguments,
    settings: &Settings,
    sink: &SinkSettings,
) -> Result<Exit, Failure> {
    let opened = super::super::log::open(settings)?;
    let Meant { scope, tables, indices } = arguments.meant(&opened)?;
    let end = arguments.to.is_some().then_some(scope.end.0);
    let asked = Asked { from: scope.from.0, end, tables, indices };
    let begun = order(settings, &route(sink, ""), &asked)?;
    if arguments.no_wait {
        return tell(&begun, arguments.json);
    }
    let replay = watch(settings, sink, begun, arguments.json)?;
    tell(&replay, arguments.json)
}

pub(super) fn cancel(settings: &Settings, sink: &SinkSettings, json: bool) -> Result<Exit, Failure> {
    let replay = order(settings, &route(sink, "/cancel"), &())?;
    tell(&replay, json).map(|_| Exit::Done)
}

/// Where the relay has the replay of a sink.
fn route(sink: &SinkSettings, what: &str) -> String {
    format!("/sink/{}/replay{what}", sink.name)
}

fn order(settings: &Settings, route: &str, body: &impl serde::Serialize) -> Result<ReplayStatus, Failure> {
    let answer = ask(settings, Method::POST, route, body);
    let answer = answer.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let answer = answer.ok_or_else(|| {
        let state = &settings.state_dir;
        let why = anyhow!(
            "no relay runs on {state:?}: documents are sent again by one that runs, among its changes. Start it (`everrelay run`); --dry-run needs none"
        );
        Failure::new(Exit::Unexpected, why)
    })?;
    answer.map_err(|refused| Failure::new(Exit::Usage, anyhow!(refused)))
}

/// Waits for its end.
fn watch(
    settings: &Settings,
    sink: &SinkSettings,
    mut replay: ReplayStatus,
    json: bool,
) -> Result<ReplayStatus, Failure> {
    let number = replay.number;
    let shows = io::stderr().is_terminal();
    if shows && !json {
        eprintln!(
            "replay {number} goes on whether or not this command waits for it; Ctrl-C leaves it running"
        );
    }
    while replay.is_going() {
        if shows {
            eprint!("\r{:<78}", bar(&replay));
        }
        thread::sleep(LOOK_EVERY);
        let looked = ask::<Option<ReplayStatus>>(settings, Method::GET, &route(sink, ""), &());
        let looked = looked.map_err(|error| Failure::new(Exit::Unexpected, error))?;
        let gone = |why: &str| Failure::new(Exit::Unexpected, anyhow!("{why}"));
        let looked = looked
            .ok_or_else(|| gone("the relay has stopped: the replay goes on when it is started again"))?
            .map_err(|refused| gone(&refused))?
            .filter(|looked| looked.number == number);
        replay = looked.ok_or_else(|| gone("another replay was ordered since this one ended"))?;
    }
    if shows {
        eprint!("\r{:<78}\r", "");
    }
    Ok(replay)
}

/// `[=====               ]  25 %, reading the log`
fn bar(replay: &ReplayStatus) -> String {
    let percent = (replay.part.clamp(0.0, 1.0) * 100.0) as usize;
    let what = match replay.state {
        ReplayState::Reading => "reading the log",
        _ => "sending",
    };
    let sent = replay.indexed + replay.deleted;
    format!("[{:<20}] {percent:>3} %, {what}, {sent} documents sent again", "=".repeat(percent / 5))
}

fn tell(replay: &ReplayStatus, json: bool) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    let written = if json {
        serde_json::to_string(replay).map_err(io::Error::from).and_then(|json| writeln!(out, "{json}"))
    } else {
        writeln!(out, "{}", for_people(replay))
    };
    written.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    Ok(match replay.state {
        ReplayState::Reading | ReplayState::Sending | ReplayState::Done => Exit::Done,
        ReplayState::Cancelled | ReplayState::Failed => Exit::Unexpected,
    })
}

/// What it is, how far it is, and what became of documents.
pub(in crate::cli) fn for_people(replay: &ReplayStatus) -> String {
    let ReplayStatus { number, from, to, indexed, deleted, overtaken, conflicts, parked, .. } = replay;
    let ended = replay.ended_micros.map_or(String::new(), |micros| format!(" {}", rfc3339_seconds(micros)));
    let state = match replay.state {
        ReplayState::Reading => format!("{:.0} %, reading the log", replay.part * 100.0),
        ReplayState::Sending => format!("{:.0} %, sending", replay.part * 100.0),
        ReplayState::Done => format!("done{ended}"),
        ReplayState::Cancelled => format!("given up{ended}"),
        ReplayState::Failed => {
            format!("ended{ended}, could not go on: {}", replay.details.as_deref().unwrap_or_default())
        }
    };
    let mut text = format!(
        "replay {number} of records {from} to {to}: {state}; {indexed} documents indexed, {deleted} deleted, {overtaken} overtaken by newer changes"
    );
    let without = replay.without_index;
    for (count, what) in [
        (
            *conflicts,
            "left as they are, since somebody else wrote a higher version (`everrelay snapshot TABLE` mends them)",
        ),
        (*parked, "refused (`everrelay parked ls`)"),
        (without, "of tables without an index"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    let all = indexed + deleted + overtaken + conflicts + parked + without;
    if replay.state == ReplayState::Done && all == 0 && !replay.indices.is_empty() {
        text.push_str(&format!("; no record there is of a document behind {}", replay.indices.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_says_what_became_of_documents_and_what_there_is_to_do() {
        let mut replay = ReplayStatus {
            number: 2,
            state: ReplayState::Sending,
            details: None,
            from: 5,
            to: 90,
            tables: Vec::new(),
            indices: Vec::new(),
            since_micros: 0,
            ended_micros: None,
            part: 0.25,
            indexed: 7,
            deleted: 1,
            overtaken: 0,
            conflicts: 0,
            parked: 0,
            without_index: 0,
        };
        assert_eq!(bar(&replay), "[=====               ]  25 %, sending, 8 documents sent again");
        let so_far = "replay 2 of records 5 to 90: 25 %, sending; 7 documents indexed, 1 deleted, 0 overtaken by newer changes";
        assert_eq!(for_people(&replay), so_far);
        (replay.state, replay.details, replay.conflicts) = (ReplayState::Failed, Some("so".into()), 3);
        let ended = for_people(&replay);
        let nothing = ReplayStatus {
            state: ReplayState::Done,
            indices: vec!["shop.odrers".into()],
            ..ReplayStatus::default()
        };
        assert!(for_people(&nothing).ends_with("; no record there is of a document behind shop.odrers"));
        assert!(ended.contains("could not go on: so; 7") && ended.contains("3 left as they are"), "{ended}");
    }
}
