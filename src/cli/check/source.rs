//! What `check` finds at the servers of the source: each is tried whole, since any of them may have to serve.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::{Findings, Verdict};
use crate::config::{Settings, SinkSettings};
use crate::event::TableName;
use crate::lifecycle::Exit;
use crate::log::{Gap, Standing};
use crate::mapping::TableMapping;
use crate::source::Start;
use crate::source::mysql::cascades::UNSEEN;
use crate::source::mysql::connection::Begin;
use crate::source::mysql::control::Control;
use crate::source::mysql::followed;
use crate::source::mysql::named_key::{NamedKeys, named};
use crate::source::mysql::patterns::Patterns;
use crate::source::mysql::place::Way;
use crate::source::mysql::witness;
use crate::source::mysql::{MysqlError, MysqlOptions, Place};
use crate::source::upstream::Replication;

/// A server that keeps its binlogs for less is warned of, seconds.
const LITTLE_TIME: u64 = 86_400;

pub(super) async fn servers(settings: &Settings, standing: Option<&Standing>, findings: &mut Findings) {
    let options = &settings.source;
    let hosts = options.hosts();
    for host in &hosts {
        findings.of = (hosts.len() > 1).then(|| host.address.to_string());
        if let Err(error) = server(&options.only(host), settings, standing, findings).await {
            findings.failed("source", Exit::Source, &error);
        }
    }
    findings.of = None;
}

async fn server(
    options: &MysqlOptions,
    Settings { sinks, start, .. }: &Settings,
    standing: Option<&Standing>,
    findings: &mut Findings,
) -> Result<(), MysqlError> {
    let mut control = Control::connect(options).await?;
    let server = control.server().clone();
    findings.ok("source", format!("{} at {}", server.title(), options.address));
    match server.check() {
        Ok(()) if server.gives_gtids() => findings.ok("source settings", "GTIDs, row format"),
        Ok(()) => findings.ok("source settings", "row format"),
        Err(error) => findings.failed("source settings", Exit::Source, &error),
    }
    if let Some(weaker) = server.without_gtids() {
        findings.add("GTIDs", Verdict::Warning, weaker);
    }
    for cost in server.costs() {
        findings.add("row images", Verdict::Warning, cost);
    }
    if let Some(lax) = server.forgets_after_a_crash() {
        let text = format!(
            "{lax}: a crash of its machine can take back transactions that were sent already, and give their GTIDs to others; the relay \
             refuses it then. SET PERSIST sync_binlog = 1; SET PERSIST innodb_flush_log_at_trx_commit = 1 (MariaDB: SET GLOBAL, and its option file)"
        );
        findings.add("durability", Verdict::Warning, text);
    }
    let patterns = Patterns::parse(&options.tables)?.with_case(server.name_case());
    if let Some(statement) = server.wants_metadata() {
        let text = format!(
            "binlog_row_metadata is not FULL: rows do not name their columns, information_schema does, and that may be newer than the rows \
             while the relay is behind; run {statement}"
        );
        findings.add("row metadata", Verdict::Warning, text);
    }
    for cascade in control.cascades(&patterns).await? {
        findings.add("foreign key", Verdict::Warning, format!("{cascade}: its actions {UNSEEN}"));
    }
    if let Err(error) = control.check_collations(&patterns).await {
        findings.failed("collations", Exit::Source, &error);
    }
    match control.followed(&patterns, &options.keys).await {
        Ok(found) => {
            for (table, key) in found.iter().filter_map(|table| Some((table, named(&options.keys, table)?))) {
                for doubt in control.doubts_of_key(table, key).await? {
                    let text = format!("the key of {table} is {key:?} by `id`, and {doubt}");
                    findings.add("[[table]]", Verdict::Warning, text);
                }
            }
            tables(&mut control, found, (sinks, &options.keys), findings).await?;
        }
        Err(error) => findings.failed("tables", Exit::Source, &error),
    }
    if let Some(standing) = standing {
        others_than_before(&mut control, standing, options, &patterns, findings).await?;
    }
    replication(&mut control, findings).await?;
    retention(&mut control, findings).await?;
    let (after, way) = match standing {
        Some(standing) => {
            // What the server lacks now it may have in a moment; that is for `run` to wait for.
            match history(&mut control, standing, options).await {
                Ok(way) => {
                    findings.ok("history", "the server has everything that the log goes on from");
                    (standing.clone(), way)
                }
                Err(error) => {
                    findings.failed("history", Exit::Source, &error);
                    if !server.gives_gtids() {
                        return Ok(());
                    }
                    (standing.clone(), Way::BySet)
                }
            }
        }
        None if server.gives_gtids() => (Standing::after(control.executed().await?), Way::BySet),
        None => {
            let begin = match control.start_by_place(start, options).await {
                Err(error @ MysqlError::StartWithoutGtids { .. }) => {
                    findings.failed("start", Exit::Source, &error);
                    control.start_by_place(&Start::Now, options).await?
                }
                begin => begin?,
            };
            let way = control.way(&begin).await?;
            (begin, way)
        }
    };
    // Under a number of its own: a relay that runs on the same folder keeps its stream.
    let options = MysqlOptions { relay_id: rand::random(), ..options.clone() };
    match first_event(control, way.begin(&after), &options).await {
        Ok(()) => findings.ok("replication", "the server streams its binlog to this user"),
        Err(error) => findings.failed("replication", Exit::Source, &error),
    }
    Ok(())
}

/// Whether the server has what the log goes on from, and how it would go on.
async fn history(
    control: &mut Control,
    standing: &Standing,
    options: &MysqlOptions,
) -> Result<Way, MysqlError> {
    let way = control.way(standing).await?;
    // What the server lacks now it may have in a moment; that is for `run` to wait for.
    control.check_history(standing, Duration::ZERO).await?;
    if !way.is_by_place() {
        control.check_purged(standing).await?;
    }
    witness::check(control, standing, options).await?;
    Ok(way)
}

/// What refuses a stream comes in place of its first event.
async fn first_event(control: Control, begin: Begin<'_>, options: &MysqlOptions) -> Result<(), MysqlError> {
    let mut stream = control.stream(begin, options).await?;
    let patience = options.heartbeat * 2;
    stream.wait(Instant::now() + patience, patience, &Place::default()).await.map(|_| ())
}

/// The followed tables that exist.
async fn tables(
    control: &mut Control,
    tables: BTreeSet<TableName>,
    (sinks, keys): (&[SinkSettings], &NamedKeys),
    findings: &mut Findings,
) -> Result<(), MysqlError> {
    match control.check_written(&tables).await {
        Ok(()) => {
            // A session may leave its changes out, and nobody can tell.
            findings.ok(
                "binlog",
                "it has the followed tables; what sessions with sql_log_bin = 0 change is never seen",
            );
        }
        Err(error) => findings.failed("binlog", Exit::Source, &error),
    }
    if tables.is_empty() {
        findings.add("tables", Verdict::Warning, "no table matches yet; tables made later are followed");
        return Ok(());
    }
    findings.ok("tables", format!("{} followed, each with a key", tables.len()));
    let followed: Vec<_> = tables.into_iter().collect();
    // A section for all sinks is one rule of each.
    let rules = sinks.iter().flat_map(|sink| sink.deliver.rules.without_a_table(&followed));
    for rule in rules.map(|rule| (rule.line, rule)).collect::<BTreeMap<_, _>>().into_values() {
        let text = format!("line {}: no followed table matches {}", rule.line, rule.tables);
        findings.add("[[table]]", Verdict::Warning, text);
    }
    let outlines = control.outlines(&followed, keys).await?;
    for sink in sinks {
        let mut aliases = BTreeMap::new();
        for outline in &outlines {
            let table = &outline.name;
            match TableMapping::with_rules(outline, &sink.deliver.rules) {
                Ok(mapping) => {
                    let alias = mapping.spec().alias.clone();
                    if let Some(other) = aliases.insert(alias.clone(), table.clone()) {
                        let text = format!(
                            "{other} and {table} would share the index alias {alias}: give each its own"
                        );
                        findings.failed("names", Exit::Sink, &text);
                    }
                    let specs = findings.indices.entry(sink.name.clone()).or_default();
                    specs.insert(alias, mapping.spec().clone());
                }
                Err(error) => findings.failed("names", Exit::Sink, &error),
            }
        }
    }
    Ok(())
}

/// Tables that the log does not carry yet.
async fn others_than_before(
    control: &mut Control,
    standing: &Standing,
    options: &MysqlOptions,
    patterns: &Patterns,
    findings: &mut Findings,
) -> Result<(), MysqlError> {
    // What is wrong with them was said.
    let Ok(there) = control.followed(patterns, &options.keys).await else { return Ok(()) };
    let Some(noted) = followed::news(standing, options, patterns, &there)? else { return Ok(()) };
    for Gap { table, why, .. } in &noted.gaps {
        let text = if noted.snapshots.iter().any(|note| note.table == *table) {
            format!("{table} is read by a snapshot from the next start on: {why}")
        } else {
            format!("{table} needs a snapshot from the next start on: {why}")
        };
        findings.add("tables", Verdict::Warning, text);
    }
    Ok(())
}

/// Where the server has its rows from itself.
async fn replication(control: &mut Control, findings: &mut Findings) -> Result<(), MysqlError> {
    let channels = match control.replicas().await {
        Err(error) if error.is_denial() => {
            let text = "this user may not see whether it is a replica (MariaDB: GRANT SLAVE MONITOR ON *.* TO the user)";
            findings.add("replica", Verdict::Warning, text);
            return Ok(());
        }
        channels => channels?,
    };
    for channel in channels {
        let Replication { from, lag_seconds, stopped } = channel.into();
        match (stopped, lag_seconds) {
            (Some(why), _) => {
                findings.add("replica", Verdict::Warning, format!("it is a replica of {from}, and {why}"));
            }
            (None, Some(seconds)) => {
                findings.ok("replica", format!("it is a replica of {from}, {seconds} s behind"));
            }
            (None, None) => findings.ok("replica", format!("it is a replica of {from}")),
        }
    }
    Ok(())
}

/// For how long the relay may be away.
async fn retention(control: &mut Control, findings: &mut Findings) -> Result<(), MysqlError> {
    match control.expires_seconds().await? {
        None => {}
        Some(0) => findings.ok("retention", "it keeps its binlogs until they are removed by hand"),
        Some(seconds) => {
            let kept = humantime::format_duration(Duration::from_secs(seconds));
            let text = format!("it keeps its binlogs for {kept} (binlog_expire_logs_seconds)");
            if seconds < LITTLE_TIME {
                let text = format!("{text}: the relay must not be away for longer, nor its log full");
                findings.add("retention", Verdict::Warning, text);
            } else {
                findings.ok("retention", text);
            }
        }
    }
    Ok(())
}
