//! `everrelay snapshot`: orders a running relay to read tables anew, and says how far that is.

mod from_now;

use anyhow::anyhow;
use reqwest::Method;

use super::socket::ask;
use super::status::snapshot_for_people;
use super::{ConfigArgument, Failure};
use crate::admin::control::{Asked, Done};
use crate::lifecycle::Exit;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct SnapshotArguments {
    #[command(subcommand)]
    command: Option<SnapshotCommand>,
    #[command(flatten)]
    config: ConfigArgument,
    /// The tables to read anew, schema.table each.
    #[arg(value_name = "TABLE")]
    tables: Vec<String>,
    /// Every followed table.
    #[arg(long, conflicts_with = "tables")]
    all: bool,
    /// Of a relay that is stopped: go on from where the server is now, without what was purged or lost, and read every followed table anew.
    #[arg(long, conflicts_with_all = ["tables", "all", "filter"])]
    from_now: bool,
    /// Do not ask.
    #[arg(long, requires = "from_now")]
    yes: bool,
    /// Only rows that fulfil this SQL condition; documents whose rows are gone stay then.
    #[arg(long = "where", value_name = "SQL")]
    filter: Option<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum SnapshotCommand {
    /// Say which snapshots are not over, and how far they are.
    Ls(ListArguments),
    /// Read nothing more for snapshots until they are resumed.
    Pause(WhichArguments),
    /// Go on with paused snapshots.
    Resume(WhichArguments),
    /// Give snapshots up; what was read stays.
    Cancel(WhichArguments),
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct WhichArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Snapshots of these tables, schema.table each; all by default.
    #[arg(value_name = "TABLE")]
    tables: Vec<String>,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &SnapshotArguments) -> Result<Exit, Failure> {
    let SnapshotArguments { command, config, tables, all, from_now, yes, filter, json } = arguments;
    match command {
        Some(SnapshotCommand::Ls(arguments)) => list(arguments),
        Some(SnapshotCommand::Pause(which)) => which.order("/snapshot/pause", "paused"),
        Some(SnapshotCommand::Resume(which)) => which.order("/snapshot/resume", "resumed"),
        Some(SnapshotCommand::Cancel(which)) => which.order("/snapshot/cancel", "cancelled"),
        None if *from_now => from_now::run(config, *yes, *json),
        None if tables.is_empty() && !all => {
            Err(Failure::new(Exit::Usage, anyhow!("say which tables (schema.table …), or --all; see --help")))
        }
        None => {
            let tables = Some(tables.clone()).filter(|_| !all);
            order(config, "/snapshot", &Asked { tables, filter: filter.clone() }, "wanted", *json)
        }
    }
}

impl WhichArguments {
    fn order(&self, route: &str, done: &str) -> Result<Exit, Failure> {
        let tables = Some(self.tables.clone()).filter(|tables| !tables.is_empty());
        order(&self.config, route, &Asked { tables, filter: None }, done, self.json)
    }
}

fn list(arguments: &ListArguments) -> Result<Exit, Failure> {
    let (_, status) = super::status::look(&arguments.config.load()?)?;
    for snapshot in &status.pipeline.snapshots {
        if arguments.json {
            let json = serde_json::to_string(snapshot);
            println!("{}", json.map_err(|error| Failure::new(Exit::Unexpected, error))?);
        } else {
            println!("{}", snapshot_for_people(snapshot));
        }
    }
    let sinks = &status.pipeline.sinks;
    for (sink, table) in sinks.iter().flat_map(|sink| sink.swept.iter().map(|table| (&sink.name, table))) {
        if arguments.json {
            println!("{}", serde_json::json!({ "table": table, "state": "sweeping", "sink": sink }));
        } else {
            let of = if sinks.len() > 1 { format!(" of sink {sink}") } else { String::new() };
            println!("{table} was read, and documents{of} without a row are being deleted");
        }
    }
    if let Some(why) = status.pipeline.source.snapshots_wait.as_ref().filter(|_| !arguments.json) {
        println!("rows wait for replicas: {why}");
    }
    if status.pipeline.snapshots.is_empty()
        && sinks.iter().all(|sink| sink.swept.is_empty())
        && !arguments.json
    {
        println!("no snapshot is wanted or read");
    }
    Ok(Exit::Done)
}

fn order(
    config: &ConfigArgument,
    route: &str,
    asked: &Asked,
    done: &str,
    json: bool,
) -> Result<Exit, Failure> {
    let unexpected = |error| Failure::new(Exit::Unexpected, error);
    let settings = config.load()?;
    let answer = ask(&settings, Method::POST, route, asked).map_err(unexpected)?.ok_or_else(|| {
        let state = &settings.state_dir;
        unexpected(anyhow!("no relay runs on {state:?}: a snapshot is made by one that runs"))
    })?;
    let Done { tables } = answer.map_err(|refused| Failure::new(Exit::Usage, anyhow!(refused)))?;
    if json {
        let json = serde_json::to_string(&Done { tables });
        println!("{}", json.map_err(|error| Failure::new(Exit::Unexpected, error))?);
    } else {
        tables.iter().for_each(|table| println!("{table} {done}"));
        if tables.is_empty() {
            println!("no snapshot is {done}");
        }
    }
    Ok(Exit::Done)
}
