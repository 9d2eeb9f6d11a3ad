//! `everrelay diff`: a table against its index, beside a running relay, which mends what differs where it is told to.

mod repair;

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use reqwest::Method;
use serde_json::json;

use super::sinks::SinkArgument;
use super::socket::ask_async;
use super::{ConfigArgument, Failure, status};
use crate::admin::PipelineStatus;
use crate::admin::sinks::SinkStatus;
use crate::config::{Settings, SinkSettings};
use crate::diff::engine::Engine;
use crate::diff::repair::Repair;
use crate::diff::rows::Table;
use crate::diff::{Diff, DiffError, DiffOptions, Found, Kind, Lag, Progress, Standing};
use crate::event::TableName;
use crate::event::document::DeletedIndex;
use crate::lifecycle::Exit;
use crate::sink::SinkError;
use crate::sink::elastic::ElasticSink;
use crate::source::mysql::control::Control;
use crate::source::mysql::patterns::Patterns;
use crate::source::mysql::{MysqlError, MysqlOptions, Place};

#[derive(Debug, clap::Args)]
pub(super) struct DiffArguments {
    #[command(flatten)]
    config: ConfigArgument,
    #[command(flatten)]
    sink: SinkArgument,
    /// The table, schema.table.
    #[arg(value_name = "TABLE")]
    table: String,
    /// Compare about so many rows only, in ranges at even distances; documents without a row are not looked for.
    #[arg(long, value_name = "ROWS")]
    sample: Option<NonZeroU64>,
    /// Most keys to show of each kind.
    #[arg(long, value_name = "N", default_value_t = 20)]
    keys: usize,
    /// Seconds that the relay has to catch up with what differs.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    wait: u64,
    /// Have the relay read anew what differs, wait until it is in the index, and compare it once more.
    #[arg(long)]
    repair: bool,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// A relay at its address, and the sink that is meant.
struct Running<'s>(&'s Settings, &'s SinkSettings);

impl Lag for Running<'_> {
    async fn standing(&self) -> Result<Option<Standing>, DiffError> {
        let unusable = |error: anyhow::Error| DiffError::Relay(format!("{error:#}"));
        let Some(status) = status::asked(self.0).await.map_err(unusable)? else { return Ok(None) };
        let pipeline = status.pipeline;
        let sink = sink_of(&pipeline, self.1).map_err(DiffError::Relay)?;
        let gtids = sink.gtids.parse();
        let gtids = gtids.map_err(|_| DiffError::Relay("it names no GTID set".to_owned()))?;
        let place = pipeline.source.place.as_deref().and_then(place);
        Ok(Some(Standing { gtids, place, visible: pipeline.visible, cursor: sink.cursor }))
    }
}

/// How the sink stands by a relay that runs.
fn sink_of<'p>(pipeline: &'p PipelineStatus, sink: &SinkSettings) -> Result<&'p SinkStatus, String> {
    let found = pipeline.sinks.iter().find(|status| status.name == sink.name);
    found.ok_or_else(|| format!("it was started with a configuration that has no sink {}", sink.name))
}

/// `binlog.000007:1234`.
fn place(text: &str) -> Option<Place> {
    let (file, offset) = text.rsplit_once(':')?;
    Some(Place { file: file.to_owned(), offset: offset.parse().ok()?, gtid: None })
}

/// How far it is, on a terminal.
struct Bar {
    begun: Instant,
}

impl Progress for Bar {
    fn rows(&self, rows: u64, estimated: u64) {
        let mut out = std::io::stderr();
        if out.is_terminal() {
            let percent = (rows.saturating_mul(100) / estimated.max(1)).min(100);
            let rate = rows as f64 / self.begun.elapsed().as_secs_f64().max(0.001);
            // Nowhere to print to is no reason to fail.
            let _ = write!(out, "\r{rows} rows of about {estimated} ({percent} %), {rate:.0} rows/s ");
            let _ = out.flush();
        }
    }
}

pub(super) fn run(arguments: &DiffArguments) -> Result<Exit, Failure> {
    let settings = arguments.config.load()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let begun = Instant::now();
    let (found, repaired) = runtime.block_on(compare(arguments, &settings, arguments.sink.of(&settings)?))?;
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    let seconds = begun.elapsed().as_secs_f64();
    if arguments.json {
        let mut object = json!(found);
        object["table"] = arguments.table.as_str().into();
        object["seconds"] = seconds.into();
        if let Some((repair, left)) = &repaired {
            object["repair"] = json!({"read": repair.read(), "left": left});
        }
        println!("{object}");
    } else {
        print(&arguments.table, &found, seconds);
        if let Some((repair, left)) = &repaired {
            println!("Repaired: {} read anew, and compared once more:", repair.read());
            print(&arguments.table, left, seconds);
        }
    }
    let now = repaired.as_ref().map_or(&found, |(_, left)| left);
    Ok(if now.differs() { Exit::Differs } else { Exit::Done })
}

/// What was found; and, where it was repaired, how, and what is left.
async fn compare(
    arguments: &DiffArguments,
    settings: &Settings,
    of_sink: &SinkSettings,
) -> Result<(Found, Option<(Repair, Found)>), Failure> {
    let name = arguments.table.split_once('.');
    let name = name.map(|(schema, table)| TableName::new(schema, table));
    let usage = |why: String| Failure::new(Exit::Usage, anyhow!(why));
    let name = name.ok_or_else(|| usage("say which table: schema.table".to_owned()))?;
    let patterns =
        Patterns::parse(&settings.source.tables).map_err(|error| Failure::new(Exit::Usage, error))?;
    let (options, control) = connect(&settings.source).await.map_err(|error| of(error.into()))?;
    let server = control.server();
    if !patterns.with_case(server.name_case()).follows_table(&name) {
        return Err(usage(format!("{name} is none of the followed tables: see [source] tables")));
    }
    let how = (server.peer, server.gives_gtids());
    drop(control);
    let table = Table::open(&options, how, &name, &of_sink.deliver.rules).await.map_err(of)?;
    let sink = ElasticSink::new(&of_sink.engine).map_err(|error| Failure::new(Exit::Sink, error))?;
    let spec = table.mapping.spec();
    let mut engine = Engine::new(&sink, spec.behind(), spec.pipeline.is_some(), spec.metadata.clone());
    if engine.find().await.map_err(|error| of(error.into()))? == 0 {
        let alias = &spec.alias;
        let why = anyhow!("{name} has no index behind {alias}: the relay makes it with the first row");
        return Err(Failure::new(Exit::Sink, why));
    }
    if matches!(&spec.by_row, Some(by_row) if by_row.deleted_index == DeletedIndex::Skip) {
        engine.leaves_out(known(settings, of_sink).await?);
    }
    let options = DiffOptions {
        sample: arguments.sample,
        keys: arguments.keys,
        patience: Duration::from_secs(arguments.wait),
    };
    let mut diff = Diff { table, engine, lag: &Running(settings, of_sink), options };
    let found = diff.run(&Bar { begun: Instant::now() }).await.map_err(of)?;
    let repair = Repair::of(&found, &diff.table);
    if !arguments.repair || repair == Repair::Nothing {
        return Ok((found, None));
    }
    repair::order((settings, of_sink), &name, &repair, &found).await?;
    let bar = Bar { begun: Instant::now() };
    let left = match &repair {
        Repair::Whole => diff.run(&bar).await,
        _ => diff.run_again(&found.ranges, &bar).await,
    };
    Ok((found, Some((repair, left.map_err(of)?))))
}

/// The aliases that the relay has written behind; none without a relay.
async fn known(settings: &Settings, sink: &SinkSettings) -> Result<BTreeSet<String>, Failure> {
    let route = format!("/sink/{}/indices", sink.name);
    let answer = ask_async(settings, Method::GET, &route, &()).await;
    let failed = |error: anyhow::Error| Failure::new(Exit::Unexpected, error);
    match answer.map_err(failed)? {
        Some(aliases) => aliases.map_err(|refused| failed(anyhow!(refused))),
        None => Ok(BTreeSet::new()),
    }
}

/// The first server that answers.
async fn connect(options: &MysqlOptions) -> Result<(MysqlOptions, Control), MysqlError> {
    let hosts = options.hosts();
    let last = hosts.len().saturating_sub(1);
    for (number, host) in hosts.iter().enumerate() {
        let options = options.only(host);
        match Control::connect(&options).await {
            Ok(control) => return Ok((options, control)),
            Err(error) if number == last => return Err(error),
            Err(error) => tracing::warn!("{error}; the next server is asked"),
        }
    }
    let control = Control::connect(options).await?;
    Ok((options.clone(), control))
}

fn of(error: DiffError) -> Failure {
    let exit = match &error {
        DiffError::Source(_) | DiffError::NoTable { .. } => Exit::Source,
        DiffError::Sink(SinkError::Definite(_)) | DiffError::Mapping(_) => Exit::Sink,
        _ => Exit::Unexpected,
    };
    Failure::new(exit, error)
}

fn print(table: &str, found: &Found, seconds: f64) {
    let rate = found.rows as f64 / seconds.max(0.001);
    let documents = found.documents.map_or_else(String::new, |count| format!(" and {count} documents"));
    println!("{table}: {} rows{documents} compared in {seconds:.1} s ({rate:.0} rows/s)", found.rows);
    kind("missing", "rows without a document", &found.missing);
    kind("stale", "documents that are not what their rows are", &found.stale);
    if let Some(why) = found.without_extra {
        println!("extra: not looked for: {why}");
    } else {
        kind("extra", "documents without a row", &found.extra);
    }
    if found.unlooked > 0 {
        println!("  and {} that seem to have none, too many to look at one by one", found.unlooked);
    }
    if found.undecided.count > 0 {
        kind("undecided", "documents that changed each time that they were looked at", &found.undecided);
    }
    if found.without_index > 0 {
        println!("without an index: {} rows, left out by `deleted_index`", found.without_index);
    }
    if found.existence_only {
        println!("An ingest pipeline makes these documents: only whether they are there was compared.");
    }
    if !found.relay {
        println!("No relay runs: nobody can tell what is lost from what it has yet to carry.");
    } else if found.behind {
        println!(
            "The relay did not catch up in time: some of this may be its lag. See `everrelay status`, or give more with --wait."
        );
    }
}

fn kind(name: &str, what: &str, Kind { count, ids }: &Kind) {
    println!("{name}: {count} {what}");
    ids.iter().for_each(|id| println!("  {}", id.escape_debug()));
    if *count > ids.len() as u64 && !ids.is_empty() {
        println!("  … (--keys shows more)");
    }
}
