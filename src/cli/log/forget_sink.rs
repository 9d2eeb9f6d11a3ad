//! `log forget-sink`: a sink that the configuration does not name any more, forgotten, so that the log is not kept for it.

use std::io::Write;

use anyhow::anyhow;
use serde::Serialize;

use crate::admin::sinks::SinkStatus;
use crate::cli::{ConfigArgument, Failure, consent, sinks};
use crate::lifecycle::Exit;
use crate::settled::Settled;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ForgetArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// The sink, as `log ls` and `status` name it.
    #[arg(value_name = "NAME")]
    name: String,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// One JSON object that says what is forgotten.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Forgotten<'s> {
    sink: &'s str,
    /// Up to where everything was settled.
    cursor: u64,
    /// Documents that its engine had refused.
    parked: u64,
}

pub(super) fn run(arguments: &ForgetArguments, out: &mut impl Write) -> Result<Exit, Failure> {
    let (settings, name) = (arguments.config.load()?, arguments.name.as_str());
    let usage = |why: String| Failure::new(Exit::Usage, anyhow!(why));
    if settings.sinks.iter().any(|sink| sink.name == name) {
        return Err(usage(format!("the configuration names the sink {name}: take it out there first")));
    }
    // Opening makes the folder where it is missing.
    let settled = settings.settled_dir().exists().then(|| Settled::open(&settings.settled_dir()));
    let settled = settled.transpose().map_err(state)?;
    let settled =
        settled.ok_or_else(|| usage(format!("no sink has a cursor in {:?} yet", settings.state_dir)))?;
    let (_, others) = sinks::names(&settings, &settled).map_err(state)?;
    if !others.iter().any(|other| other == name) {
        let known = if others.is_empty() { "there is none".to_owned() } else { others.join(", ") };
        return Err(usage(format!(
            "the state folder has no sink {name:?}; of those that the configuration does not name: {known}"
        )));
    }
    let store = settled.cursor(name).map_err(state)?;
    let SinkStatus { cursor, parked, .. } = sinks::load(name, false, &store).map_err(state)?;
    drop(store);
    let parked = parked.iter().map(|parked| parked.changes).sum();
    let said = if arguments.json {
        serde_json::to_string(&Forgotten { sink: name, cursor, parked })
            .map_err(std::io::Error::from)
            .and_then(|json| writeln!(out, "{json}"))
    } else {
        writeln!(
            out,
            "the sink {name} has settled records up to {cursor}, and {parked} documents of it are parked. Its indices stay as they are. Under \
             this name a sink is new then: it is filled by snapshots of all tables"
        )
    };
    said.and_then(|()| out.flush()).map_err(state)?;
    consent("Forget it?", arguments.yes)?;
    settled.forget(name).map_err(state)?;
    Ok(Exit::Done)
}

fn state(error: impl Into<anyhow::Error>) -> Failure {
    Failure::new(Exit::State, error)
}
