//! `everrelay check`: tries everything that `run` will need, and says of each what it found. It changes nothing, but
//! asks for a binlog stream as `run` would, since no grant can be believed before it is used.

mod source;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::{ConfigArgument, Failure};
use crate::config::{Settings, SinkSettings};
use crate::disk::{Disk, SystemDisk};
use crate::event::document::IndexSpec;
use crate::lifecycle::Exit;
use crate::log::{Gap, Standing};
use crate::settled::Settled;
use crate::sink::elastic::{ElasticSink, Look, Missing};
use crate::sink::{Sink, SinkError};

/// Free space under which a warning is due, bytes.
const LITTLE_SPACE: u64 = 1 << 30;

/// Most indices on which privileges are missing and that are named.
const SHOWN_PRIVILEGES: usize = 20;

/// Most tables that need a snapshot and are named; `status` names all.
const SHOWN_GAPS: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Failed,
}

/// What was tried and what came of it.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

/// Everything tried so far, printed as it comes.
struct Findings {
    json: bool,
    /// The server or the sink that is tried, where there are several.
    of: Option<String>,
    /// What the followed tables' documents need, by sink and alias.
    indices: BTreeMap<String, BTreeMap<String, IndexSpec>>,
    /// The exit code of the first failure.
    exit: Exit,
}

impl Findings {
    fn add(&mut self, what: &'static str, verdict: Verdict, text: impl Into<String>) {
        let text = match &self.of {
            Some(of) => format!("{of}: {}", text.into()),
            None => text.into(),
        };
        let finding = Finding { what, verdict, text };
        if self.json {
            // These types have no case that JSON lacks.
            println!("{}", serde_json::to_string(&finding).unwrap_or_default());
            return;
        }
        let mark = match verdict {
            Verdict::Ok => "ok     ",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED ",
        };
        println!("{mark} {what}: {}", finding.text);
    }

    fn ok(&mut self, what: &'static str, text: impl Into<String>) {
        self.add(what, Verdict::Ok, text);
    }

    fn failed(&mut self, what: &'static str, exit: Exit, error: &dyn std::fmt::Display) {
        self.add(what, Verdict::Failed, error.to_string());
        if self.exit == Exit::Done {
            self.exit = exit;
        }
    }
}

pub(super) fn run(arguments: &CheckArguments) -> Result<Exit, Failure> {
    let settings = arguments.config.load()?;
    // One provider in the whole tree; a second installation would only say that this one is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let mut findings =
        Findings { json: arguments.json, of: None, indices: BTreeMap::new(), exit: Exit::Done };
    findings.ok("configuration", "understood");
    let standing = state_folder(&settings, &mut findings);
    runtime.block_on(async {
        source::servers(&settings, standing.as_ref(), &mut findings).await;
        for sink in &settings.sinks {
            findings.of = (settings.sinks.len() > 1).then(|| format!("sink {}", sink.name));
            engine(sink, &mut findings).await;
        }
    });
    Ok(findings.exit)
}

/// Looks at the state folder; returns what the log knows of its source.
fn state_folder(settings: &Settings, findings: &mut Findings) -> Option<Standing> {
    let dir = &settings.state_dir;
    let existing = dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let free = SystemDisk.free_bytes(existing);
    match &free {
        &Ok(free) if free < LITTLE_SPACE => {
            let text = format!(
                "{} free below {}: an outage of the search engine would fill it soon",
                super::bytes_for_people(free),
                dir.display()
            );
            findings.add("state folder", Verdict::Warning, text);
        }
        &Ok(free) => {
            findings.ok("state folder", format!("{}, {} free", dir.display(), super::bytes_for_people(free)));
        }
        Err(error) => findings.failed("state folder", Exit::State, &format!("{}: {error}", dir.display())),
    }
    if !settings.log_dir().exists() {
        findings.ok("log", "none yet: a first start");
        quota(settings, 0, free.ok(), findings);
        return None;
    }
    match crate::log::read_only(&SystemDisk, &settings.log_dir()) {
        Ok(opened) => {
            let stats = opened.log.stats();
            findings.ok("log", format!("records {} to {}", stats.first, stats.last));
            quota(settings, stats.bytes, free.ok(), findings);
            sinks_of_the_folder(settings, findings);
            for gap in opened.standing.iter().flat_map(|standing| &standing.gaps).take(SHOWN_GAPS) {
                needs_snapshot(gap, settings.source.snapshot.gaps, findings);
            }
            opened.standing
        }
        Err(error) => {
            findings.failed("log", Exit::State, &error);
            None
        }
    }
}

/// Sinks that the log is kept for in vain.
fn sinks_of_the_folder(settings: &Settings, findings: &mut Findings) {
    let folder = settings.settled_dir();
    // Where the cursors cannot be read a relay may be at work on them, or `run` says what is wrong.
    let settled = folder.exists().then(|| Settled::open(&folder));
    let Some(Ok(settled)) = settled else { return };
    let Ok((_, others)) = super::sinks::names(settings, &settled) else { return };
    for name in others {
        let text = format!(
            "the log is kept for {name}, which the configuration does not name: name it again, or `everrelay log forget-sink {name}`"
        );
        findings.add("sinks", Verdict::Warning, text);
    }
}

/// `by_itself`: where the configuration has such tables read anew.
fn needs_snapshot(Gap { table, why, wanted, .. }: &Gap, by_itself: bool, findings: &mut Findings) {
    let then = match (wanted, by_itself) {
        (true, _) => "it is read anew, unless that was cancelled (`everrelay snapshot ls`)".to_owned(),
        (false, true) => "it is read anew once the relay runs, if it is there".to_owned(),
        (false, false) => format!("`everrelay snapshot {table}` reads it anew"),
    };
    findings.add("documents", Verdict::Warning, format!("{table} needs a snapshot: {why}; {then}"));
}

/// What the log may take, and whether the disk has it; how long that lasts nobody knows before changes come.
fn quota(settings: &Settings, taken: u64, free: Option<u64>, findings: &mut Findings) {
    // That the disk does not say is a finding already.
    let Some(free) = free else { return };
    let reserve = settings.disk_reserve_bytes;
    let held = std::fs::metadata(settings.reserve_path()).map_or(0, |file| file.len());
    let (limits, people) = (settings.log.limits(taken, free), super::bytes_for_people);
    let missing = reserve.saturating_sub(held).saturating_add(limits.keep_free);
    let has = taken.saturating_add(free.saturating_sub(missing));
    let text = format!(
        "the log takes {} and may take {}; {} are free, {} of a reserve of {} are held",
        people(taken),
        people(limits.quota),
        people(free),
        people(held),
        people(reserve)
    );
    if limits.quota > has {
        let text =
            format!("{text}: the disk is full before the quota is reached, and the source is paused then");
        findings.add("quota", Verdict::Warning, text);
    } else {
        findings
            .ok("quota", format!("{text}. How long that lasts `everrelay status` says once changes come"));
    }
}

async fn engine(settings: &SinkSettings, findings: &mut Findings) {
    let specs = findings.indices.remove(&settings.name).unwrap_or_default();
    let sink = match ElasticSink::new(&settings.engine) {
        Ok(sink) => sink,
        Err(error) => return findings.failed("sink", Exit::Sink, &error),
    };
    let versions = sink.versions().await;
    let any = versions.iter().any(|(_, version)| version.is_ok());
    for (node, version) in versions {
        match version {
            Ok(version) => {
                let name = version.distribution.as_deref().unwrap_or("search engine");
                findings.ok("sink", format!("{name} {} at {node}", version.number));
            }
            // The relay goes on with the others.
            Err(SinkError::Transient(error)) if any => {
                findings.add("sink", Verdict::Warning, format!("{node}: {error}"));
            }
            Err(SinkError::Transient(error) | SinkError::Definite(error)) => {
                findings.failed("sink", Exit::Sink, &format!("{node}: {error}"));
            }
        }
    }
    match sink.meet().await {
        Ok(()) if any => {
            privileges(&sink, &specs, findings).await;
            indices(&sink, specs, findings).await;
        }
        Ok(()) => {}
        Err(SinkError::Transient(error) | SinkError::Definite(error)) => {
            findings.failed("sink", Exit::Sink, &error);
        }
    }
}

/// Whether the role may do what the relay will.
async fn privileges(sink: &ElasticSink, specs: &BTreeMap<String, IndexSpec>, findings: &mut Findings) {
    let aliases: Vec<&str> = specs.keys().map(String::as_str).collect();
    let missing = match sink.missing_privileges(&aliases).await {
        Ok(Some(missing)) => missing,
        // Without security, or by an engine that has no such question.
        Ok(None) => return,
        Err(SinkError::Transient(error) | SinkError::Definite(error)) => {
            return findings.failed("privileges", Exit::Sink, &error);
        }
    };
    if missing.is_empty() {
        return findings.ok("privileges", "the role has what it needs on the cluster and its indices");
    }
    let more = missing.len().saturating_sub(SHOWN_PRIVILEGES);
    for Missing { on, privileges } in missing.into_iter().take(SHOWN_PRIVILEGES) {
        let privileges = privileges.join(", ");
        match on {
            Some(index) => {
                let text = format!("the role lacks {privileges} on {index}");
                findings.failed("privileges", Exit::Sink, &text);
            }
            // The relay runs without, and waits longer.
            None => findings.add(
                "privileges",
                Verdict::Warning,
                format!(
                    "the role lacks {privileges} on the cluster: the relay cannot ask what became of a bulk without an answer, and waits two minutes then"
                ),
            ),
        }
    }
    if more > 0 {
        findings.add("privileges", Verdict::Warning, format!("and some on {more} more indices"));
    }
}

/// Of tables whose rows say behind which alias they are: one for each alias that is there; or, where none is, for one that could be.
async fn each_index(
    sink: &ElasticSink,
    specs: BTreeMap<String, IndexSpec>,
) -> Result<BTreeMap<String, IndexSpec>, SinkError> {
    let mut each = BTreeMap::new();
    for (alias, spec) in specs {
        let Some(by_row) = &spec.by_row else {
            each.insert(alias, spec);
            continue;
        };
        let mut aliases = sink.aliases(by_row).await?;
        if aliases.is_empty() {
            aliases.push(alias.replace('*', "0"));
        }
        each.extend(aliases.into_iter().map(|alias| (alias.clone(), spec.at(&alias))));
    }
    Ok(each)
}

/// Whether each index takes its documents, or can be made.
async fn indices(sink: &ElasticSink, specs: BTreeMap<String, IndexSpec>, findings: &mut Findings) {
    let specs = match each_index(sink, specs).await {
        Ok(specs) => specs,
        Err(SinkError::Transient(error) | SinkError::Definite(error)) => {
            return findings.failed("index", Exit::Sink, &error);
        }
    };
    let (mut there, all) = (0, specs.len());
    for (alias, spec) in specs {
        match sink.look(&spec).await {
            Ok(Look { index, fields, limit, .. }) if fields > limit => {
                let text = format!(
                    "{alias}: {} would have {fields} fields and takes {limit}: raise index.mapping.total_fields.limit, of one that is to be made by \
                     [table.settings]",
                    index.unwrap_or_else(|| "its index".to_owned())
                );
                findings.failed("index", Exit::Sink, &text);
            }
            Ok(Look { index, depth, depth_limit, .. }) if depth > depth_limit => {
                let text = format!(
                    "{alias}: fields of {} lie {depth} objects deep and it takes {depth_limit}: raise index.mapping.depth.limit, of one that is to be made by \
                     [table.settings]",
                    index.unwrap_or_else(|| "its index".to_owned())
                );
                findings.failed("index", Exit::Sink, &text);
            }
            Ok(look) => {
                there += usize::from(look.index.is_some());
                if look.other_rules {
                    let text = format!(
                        "{alias}: its documents were written by another `rename` or `pipeline`; those whose rows do not change follow by `everrelay snapshot`"
                    );
                    findings.add("index", Verdict::Warning, text);
                }
            }
            Err(SinkError::Definite(error)) => findings.failed("index", Exit::Sink, &error),
            Err(SinkError::Transient(error)) => {
                // One that does not answer says nothing of the others either.
                findings.failed("index", Exit::Sink, &error);
                return;
            }
        }
    }
    if all > 0 {
        findings.ok("indices", format!("{all} looked at, {there} of them there already"));
    }
}
