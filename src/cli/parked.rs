//! `everrelay parked`: what the search engine refused; has it sent again, or forgotten.

use anyhow::anyhow;
use reqwest::Method;
use serde::Serialize;

use super::sinks::SinkArgument;
use super::socket::ask;
use super::{ConfigArgument, Failure, bytes_for_people};
use crate::admin::parked::{self, Meant, Outcome, ParkedChange, Shown, Told};
use crate::clock::rfc3339_seconds;
use crate::config::{Settings, SinkSettings};
use crate::lifecycle::Exit;
use crate::settled::{CursorStore, ParkedStep, Settled, SettledError, SledCursor};

#[derive(Debug, clap::Subcommand)]
pub(super) enum ParkedCommand {
    /// Say what is parked, without values of rows.
    Ls(ListArguments),
    /// Say all of one parked change, and with --show the document itself.
    Show(ShowArguments),
    /// Send parked changes again. Nothing newer is overwritten.
    Retry(OrderArguments),
    /// Forget parked changes: their documents stay as they are until their rows change.
    Drop(DropArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    sink: SinkArgument,
    /// The documents' ids too.
    #[arg(long)]
    show: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ShowArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    sink: SinkArgument,
    /// Its record in the log, as `parked ls` names it.
    record: u64,
    /// The document's id and the document itself: values of a row.
    #[arg(long)]
    show: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct OrderArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    sink: SinkArgument,
    /// Records as `parked ls` names them, or tables, schema.table each.
    #[arg(value_name = "RECORD|TABLE")]
    which: Vec<String>,
    /// All that is parked.
    #[arg(long, conflicts_with = "which")]
    all: bool,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DropArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// Drop them, and do not only say which they are.
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(command: &ParkedCommand) -> Result<Exit, Failure> {
    match command {
        ParkedCommand::Ls(arguments) => list(arguments),
        ParkedCommand::Show(arguments) => show(arguments),
        ParkedCommand::Retry(arguments) => retry(arguments),
        ParkedCommand::Drop(arguments) => forget(arguments),
    }
}

fn list(ListArguments { config, sink, show, json }: &ListArguments) -> Result<Exit, Failure> {
    let settings = config.load()?;
    let changes = look(&settings, sink.of(&settings)?)?;
    for change in &changes {
        let change = ParkedChange { id: change.id.clone().filter(|_| *show), ..change.clone() };
        if *json {
            print_json(&change)?;
        } else {
            println!("{}", for_people(&change));
        }
    }
    if changes.is_empty() && !json {
        println!("nothing is parked");
    }
    Ok(Exit::Done)
}

fn show(ShowArguments { config, sink, record, show, json }: &ShowArguments) -> Result<Exit, Failure> {
    let settings = config.load()?;
    let sink = sink.of(&settings)?;
    let meant = Meant { records: Some(vec![*record]), ..Meant::default() };
    let answer = ask::<Vec<Shown>>(&settings, Method::POST, &route(sink, "/show"), &meant);
    let found = match taken(answer)? {
        Some(found) => found,
        None => {
            let which = meant.which().map_err(|why| Failure::new(Exit::Usage, anyhow!(why)))?;
            let rules = &sink.deliver.rules;
            left_behind(&settings, sink, |store| parked::show(store, &which, rules))?.unwrap_or_default()
        }
    };
    if found.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("record {record} is not parked; see everrelay parked ls"),
        ));
    }
    for Shown { change, body } in found {
        let change = ParkedChange { id: change.id.filter(|_| *show), ..change };
        if !json {
            println!("{}\n  {}, version {}", for_people(&change), change.details, change.version);
            if *show {
                println!("{body}");
            }
        } else if *show {
            // The document as it is: read into numbers of ours and printed again it might be another.
            let head =
                serde_json::to_string(&change).map_err(|error| Failure::new(Exit::Unexpected, error))?;
            println!("{},\"body\":{body}}}", head.strip_suffix('}').unwrap_or(&head));
        } else {
            print_json(&change)?;
        }
    }
    Ok(Exit::Done)
}

fn retry(arguments: &OrderArguments) -> Result<Exit, Failure> {
    let meant = arguments.meant()?;
    let settings = arguments.config.load()?;
    let sink = arguments.sink.of(&settings)?;
    let answer = ask::<Vec<Told>>(&settings, Method::POST, &route(sink, "/retry"), &meant);
    let told = taken(answer)?.ok_or_else(|| {
        let why = anyhow!(
            "no relay runs on {:?}: parked changes are sent by one that runs, among its others",
            settings.state_dir
        );
        Failure::new(Exit::Unexpected, why)
    })?;
    arguments.tell(&told)
}

fn forget(DropArguments { order, yes }: &DropArguments) -> Result<Exit, Failure> {
    let meant = order.meant()?;
    let settings = order.config.load()?;
    let sink = order.sink.of(&settings)?;
    if !yes {
        let changes = look(&settings, sink)?;
        let named = |change: &&ParkedChange| {
            let ParkedChange { table, record, .. } = change;
            let Meant { tables, records } = &meant;
            tables.as_ref().is_none_or(|tables| tables.contains(table))
                && records.as_ref().is_none_or(|records| records.contains(record))
        };
        changes.iter().filter(named).for_each(|change| {
            println!("{}", for_people(&ParkedChange { id: None, ..change.clone() }));
        });
        return Err(Failure::new(
            Exit::Usage,
            anyhow!("nothing was dropped: add --yes to forget these for good"),
        ));
    }
    let told = match taken(ask::<Vec<Told>>(&settings, Method::POST, &route(sink, "/drop"), &meant))? {
        Some(told) => told,
        None => {
            let which = meant.which().map_err(|why| Failure::new(Exit::Usage, anyhow!(why)))?;
            left_behind(&settings, sink, |store| {
                let chosen = parked::chosen(store, &which)?;
                let gone = chosen
                    .iter()
                    .map(|parked| ParkedStep::Gone { table: parked.table.clone(), id: parked.id.clone() });
                if let Some(cursor) = store.load()? {
                    store.settle(&cursor, &gone.collect::<Vec<_>>())?;
                    store.sync()?;
                }
                let dropped = |change: ParkedChange| Told {
                    record: change.record,
                    table: change.table,
                    became: Outcome::Dropped,
                    details: None,
                };
                Ok(chosen.iter().map(ParkedChange::from).map(dropped).collect())
            })?
            .unwrap_or_default()
        }
    };
    order.tell(&told)
}

impl OrderArguments {
    fn meant(&self) -> Result<Meant, Failure> {
        let usage = |why: &str| Failure::new(Exit::Usage, anyhow!("{why}; see --help"));
        if self.all {
            return Ok(Meant::default());
        }
        let records: Vec<u64> = self.which.iter().filter_map(|word| word.parse().ok()).collect();
        match (self.which.len(), records.len()) {
            (0, _) => Err(usage("say which (records or tables as `parked ls` names them), or --all")),
            (words, numbers) if words == numbers => Ok(Meant { records: Some(records), ..Meant::default() }),
            (_, 0) => Ok(Meant { tables: Some(self.which.clone()), ..Meant::default() }),
            _ => Err(usage("give either records or tables")),
        }
    }

    fn tell(&self, told: &[Told]) -> Result<Exit, Failure> {
        if told.is_empty() && !self.all {
            return Err(Failure::new(
                Exit::Usage,
                anyhow!("nothing of this is parked; see everrelay parked ls"),
            ));
        }
        for one in told {
            if self.json {
                print_json(one)?;
            } else {
                let became = match one.became {
                    Outcome::Taken => "taken",
                    Outcome::Superseded => "the index has a newer version already",
                    Outcome::Overtaken => "a newer change came before it",
                    Outcome::Busy => "another change of its document is under way; still parked",
                    Outcome::Refused => "refused again",
                    Outcome::Dropped => "dropped",
                };
                let details = one.details.as_ref().map_or(String::new(), |details| format!(": {details}"));
                println!("{} {} {became}{details}", one.record, one.table);
            }
        }
        if told.is_empty() && !self.json {
            println!("nothing is parked");
        }
        Ok(Exit::Done)
    }
}

/// Where the relay has what is parked of a sink.
fn route(sink: &SinkSettings, what: &str) -> String {
    format!("/sink/{}/parked{what}", sink.name)
}

/// All that is parked: by the relay that runs, or by what it left behind.
fn look(settings: &Settings, sink: &SinkSettings) -> Result<Vec<ParkedChange>, Failure> {
    let answer = ask::<Vec<ParkedChange>>(settings, Method::GET, &route(sink, ""), &());
    match taken(answer)? {
        Some(changes) => Ok(changes),
        None => Ok(left_behind(settings, sink, |store| parked::list(store))?.unwrap_or_default()),
    }
}

fn taken<T>(answer: anyhow::Result<Option<Result<T, String>>>) -> Result<Option<T>, Failure> {
    let answer = answer.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    answer.transpose().map_err(|refused| Failure::new(Exit::Usage, anyhow!(refused)))
}

/// Works on the state folder of a relay that does not run; `None` where there is none yet.
fn left_behind<T>(
    settings: &Settings,
    sink: &SinkSettings,
    work: impl FnOnce(&mut SledCursor) -> Result<T, SettledError>,
) -> Result<Option<T>, Failure> {
    // Opening makes the folder where it is missing: a look must not.
    if !settings.settled_dir().exists() {
        return Ok(None);
    }
    let opened = Settled::open(&settings.settled_dir()).and_then(|settled| settled.cursor(&sink.name));
    let done = opened.and_then(|mut store| work(&mut store));
    done.map(Some).map_err(|error| Failure::new(Exit::State, error))
}

fn for_people(change: &ParkedChange) -> String {
    let ParkedChange {
        record, table, document, id, operation, reason, since_micros, attempts, bytes, ..
    } = change;
    let id = id.as_ref().map_or(String::new(), |id| format!(" (id {:?})", id));
    let tried = if *attempts == 1 { String::new() } else { format!(", refused {attempts} times") };
    format!(
        "{record} {table} document {document}{id}: {operation}, {}, {reason} since {}{tried}",
        bytes_for_people(*bytes),
        rfc3339_seconds(*since_micros)
    )
}

fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string(value).map_err(|error| Failure::new(Exit::Unexpected, error))?);
    Ok(())
}
