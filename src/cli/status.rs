//! `everrelay status`: how a running relay is doing, or how a stopped one left its state folder.

use std::time::Duration;

use anyhow::{Context, bail};

use super::replay::for_people as replay_for_people;
use super::{ConfigArgument, Failure, bytes_for_people, sinks};
use crate::admin::sinks::SinkStatus;
use crate::admin::{
    NeedsSnapshot, ParkedStatus, PipelineStatus, Room, SnapshotState, SnapshotStatus, Status,
};
use crate::clock::{Clock, SystemClock, rfc3339_seconds};
use crate::config::Settings;
use crate::disk::{Disk, SystemDisk};
use crate::lifecycle::Exit;
use crate::metrics::LONG_SECONDS;
use crate::source::upstream::HostUse;

/// How long the relay may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
pub(super) struct StatusArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &StatusArguments) -> Result<Exit, Failure> {
    let (running, status) = look(&arguments.config.load()?)?;
    if arguments.json {
        let mut json =
            serde_json::to_value(&status).map_err(|error| Failure::new(Exit::Unexpected, error))?;
        json["running"] = running.into();
        println!("{json}");
    } else {
        print(&status, running);
    }
    Ok(Exit::Done)
}

/// Whether a relay runs, and how it is doing, or how it was left behind.
pub(super) fn look(settings: &Settings) -> Result<(bool, Status), Failure> {
    match ask(settings).map_err(|error| Failure::new(Exit::Unexpected, error))? {
        Some(status) => Ok((true, status)),
        None => Ok((false, left_behind(settings)?)),
    }
}

/// Asks the relay at the configured address; `None` where nothing listens there.
fn ask(settings: &Settings) -> anyhow::Result<Option<Status>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(asked(settings))
}

/// The same within a runtime.
pub(super) async fn asked(settings: &Settings) -> anyhow::Result<Option<Status>> {
    let url = format!("http://{}/status", settings.admin_listen);
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
    let answer = match client.get(&url).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_connect() => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("asking {url}")),
    };
    let text = answer.text().await.with_context(|| format!("asking {url}"))?;
    let status = serde_json::from_str(&text)
        .with_context(|| format!("what answers at {url} is no everrelay; see [admin] listen"))?;
    Ok(Some(status))
}

/// Reads the state folder without a relay.
fn left_behind(settings: &Settings) -> Result<Status, Failure> {
    let state = |error: anyhow::Error| Failure::new(Exit::State, error);
    let opened = crate::log::read_only(&SystemDisk, &settings.log_dir()).map_err(|error| {
        let context =
            format!("no relay answers at {}, and its state folder cannot be read", settings.admin_listen);
        state(anyhow::Error::new(error).context(context))
    })?;
    let log = opened.log;
    let sinks = sinks::left_behind(settings).map_err(|error| state(error.into()))?;
    let free = SystemDisk.free_bytes(&settings.log_dir()).map_err(|error| state(error.into()))?;
    let room = Room {
        // As the next start will set it.
        quota_bytes: settings.log.limits(log.stats().bytes, free).quota,
        disk_free_bytes: free,
        disk_reserve_bytes: std::fs::metadata(settings.reserve_path()).map_or(0, |reserve| reserve.len()),
        ..Room::default()
    };
    let position = opened.standing.map(|standing| standing.position).filter(|position| position.by_place);
    let place = position.map(|position| format!("{}:{}", position.file.escape_debug(), position.offset));
    let mut pipeline = PipelineStatus::new(&log, sinks, room);
    pipeline.source.place = place;
    Ok(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: false,
        obstacles: [("relay".to_owned(), "not running".to_owned())].into(),
        pipeline,
    })
}

/// How the sinks stand, by the state folder or by the relay that holds its lock.
pub(super) fn standing_of_sinks(settings: &Settings) -> anyhow::Result<Vec<SinkStatus>> {
    let error = match sinks::left_behind(settings) {
        Ok(sinks) => return Ok(sinks),
        Err(error) => error,
    };
    match ask(settings).with_context(|| error.to_string())? {
        Some(status) => Ok(status.pipeline.sinks),
        None => bail!("{error}; and no relay answers at {}", settings.admin_listen),
    }
}

fn print(status: &Status, running: bool) {
    let pipeline = &status.pipeline;
    println!("relay     {}", if running { "running" } else { "not running" });
    println!("ready     {}", if status.ready { "yes" } else { "no" });
    for (part, reason) in &status.obstacles {
        println!("          {part}: {reason}");
    }
    let size = bytes_for_people(pipeline.log_bytes);
    println!(
        "log       {} to {}, {} segments, {size}",
        pipeline.retained_start, pipeline.visible, pipeline.log_segments
    );
    if pipeline.visible_time_micros > 0 {
        let age = SystemClock.wall_micros().saturating_sub(pipeline.visible_time_micros) / 1_000_000;
        println!("          last commit {} ({age} s ago)", rfc3339_seconds(pipeline.visible_time_micros));
    }
    print_source(pipeline);
    print_room(pipeline);
    pipeline.sinks.iter().for_each(|sink| print_sink(sink, pipeline));
    print_snapshots(&pipeline.snapshots);
    for NeedsSnapshot { table, why, time_micros, .. } in &pipeline.needs_snapshot {
        let since =
            if *time_micros > 0 { rfc3339_seconds(*time_micros) } else { "an unknown time".to_owned() };
        let is_owed = |snapshot: &SnapshotStatus| snapshot.table == *table && snapshot.filter.is_none();
        let state = if pipeline.snapshots.iter().any(is_owed) { "; it is to come" } else { "" };
        println!("snapshot  {table} needs one since {since}: {why}{state}");
    }
}

fn print_sink(sink: &SinkStatus, pipeline: &PipelineStatus) {
    // The only one need not be named.
    let of = if pipeline.sinks.len() > 1 { format!("sink {}: ", sink.name) } else { String::new() };
    let behind = pipeline.visible.saturating_sub(sink.cursor);
    println!("settled   {of}up to {}, {behind} records behind", sink.cursor);
    match (&*sink.gtids, &pipeline.source.place) {
        ("", Some(_)) => println!("          of transactions without GTIDs"),
        ("", None) => println!("          no transaction yet"),
        (gtids, Some(_)) => println!("          {gtids}, and transactions without GTIDs"),
        (gtids, None) => println!("          {gtids}"),
    }
    if !sink.configured {
        println!(
            "          it is not in the configuration, and the log is kept for it: name it there again, or `everrelay log forget-sink {}`",
            sink.name
        );
    }
    if let Some(why) = &sink.stopped {
        println!("stopped   {of}{why}");
    }
    for table in &sink.swept {
        println!("snapshot  {of}{table} was read; deleting documents whose rows are gone");
    }
    if let Some(replay) = &sink.replay {
        println!("replay    {of}{}", replay_for_people(replay));
    }
    for ParkedStatus { table, reason, changes, since_micros, .. } in &sink.parked {
        let (many, since) =
            (if *changes == 1 { "document" } else { "documents" }, rfc3339_seconds(*since_micros));
        println!(
            "parked    {of}{changes} {many} of {table} since {since}, refused with {reason}: the index has older versions of them, or none"
        );
    }
}

fn print_source(pipeline: &PipelineStatus) {
    let mut label = "source";
    for host in &pipeline.source.hosts {
        let at_present = match (host.at_present, &host.said) {
            (HostUse::Read, _) => "is read".to_owned(),
            (HostUse::Spare, None) => "not tried".to_owned(),
            (HostUse::Spare, Some(said)) => format!("not tried since; then: {said}"),
            (HostUse::Refused, said) => format!("does not serve: {}", said.as_deref().unwrap_or_default()),
        };
        println!("{label:<9} {} {at_present}", host.address);
        label = "";
    }
    for channel in &pipeline.source.replicates {
        let state = match (&channel.stopped, channel.lag_seconds) {
            (Some(why), _) => why.clone(),
            (None, Some(seconds)) => format!("{seconds} s behind"),
            (None, None) => "how far behind it does not know".to_owned(),
        };
        println!("          it is a replica of {}: {state}", channel.from);
    }
    if let Some(why) = &pipeline.source.snapshots_wait {
        println!("          snapshots wait for replicas: {why}");
    }
    if let Some(place) = &pipeline.source.place {
        println!("{label:<9} was read up to {place}, by place: transactions may have no GTIDs");
    }
    match pipeline.purge_left_seconds {
        Some(seconds) if seconds < LONG_SECONDS => println!(
            "          keeps what was not read yet for {} at least",
            humantime::format_duration(Duration::from_secs(seconds))
        ),
        Some(_) => println!("          keeps what was not read yet for a year or for ever"),
        None => {}
    }
}

/// Those that are read or paused, and how many wait.
fn print_snapshots(snapshots: &[SnapshotStatus]) {
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.state != SnapshotState::Waiting) {
        println!("snapshot  {}", snapshot_for_people(snapshot));
    }
    match snapshots.iter().filter(|snapshot| snapshot.state == SnapshotState::Waiting).count() {
        0 => {}
        1 => println!("          1 waits for its turn"),
        count => println!("          {count} wait for their turn"),
    }
}

/// How far a snapshot is.
pub(super) fn snapshot_for_people(snapshot: &SnapshotStatus) -> String {
    let SnapshotStatus { table, state, filter, rows, estimated_rows, rows_per_second } = snapshot;
    let filter = filter.as_ref().map_or(String::new(), |filter| format!(" where {filter}"));
    let read = match state {
        SnapshotState::Waiting => return format!("{table}{filter} waits for its turn"),
        SnapshotState::Paused if *rows == 0 => {
            return format!("{table}{filter}, paused before it has read a row");
        }
        _ if *estimated_rows == 0 => format!("{rows} rows"),
        _ => format!("{rows} of about {estimated_rows} rows"),
    };
    let state = match (state, rows_per_second, snapshot.seconds_left()) {
        (SnapshotState::Paused, _, _) => ", paused".to_owned(),
        (_, Some(rate), Some(seconds)) => {
            let left = humantime::format_duration(Duration::from_secs(seconds));
            format!(", {rate:.0} a second, {left} left")
        }
        (_, Some(rate), None) if *rate > 0.0 => format!(", {rate:.0} a second"),
        _ => String::new(),
    };
    format!("{table}{filter} {read}{state}")
}

fn print_room(pipeline: &PipelineStatus) {
    let Room { quota_bytes, disk_free_bytes, disk_reserve_bytes, outage_left_seconds, paused } =
        &pipeline.room;
    println!(
        "quota     {} of {} taken, {} free on the disk, {} held back",
        bytes_for_people(pipeline.log_bytes),
        bytes_for_people(*quota_bytes),
        bytes_for_people(*disk_free_bytes),
        bytes_for_people(*disk_reserve_bytes)
    );
    match outage_left_seconds {
        Some(seconds) if *seconds >= LONG_SECONDS => {
            println!("          enough for a year without the search engine")
        }
        Some(seconds) => println!(
            "          enough for {} without the search engine, at the present rate",
            humantime::format_duration(Duration::from_secs(*seconds))
        ),
        None => {}
    }
    if paused.is_some() {
        let holds =
            pipeline.holds().map_or(String::new(), |sink| format!("; sink {} holds the log", sink.name));
        println!("          the source is paused{holds}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::TableName;
    use crate::log::snapshot::{Begun, Snapshot};

    #[test]
    fn a_snapshot_says_how_far_it_is_and_how_long_it_will_take_where_that_is_known() {
        let snapshot = |rows, estimated_rows, rate, paused, filter: Option<&str>| {
            let begun = Begun { since: 1, ranges: Vec::new(), rows, estimated_rows, covers_gap: false };
            let begun = Some(begun).filter(|_| rows > 0);
            let (table, filter) = (TableName::new("shop", "orders"), filter.map(str::to_owned));
            let status = SnapshotStatus::from(&Snapshot { table, filter, paused, begun });
            snapshot_for_people(&SnapshotStatus { rows_per_second: rate, ..status })
        };
        assert_eq!(snapshot(0, 0, None, false, None), "shop.orders waits for its turn");
        let read = snapshot(300, 1000, Some(7.0), false, None);
        assert_eq!(read, "shop.orders 300 of about 1000 rows, 7 a second, 1m 40s left");
        let more = snapshot(1200, 1000, Some(7.0), false, Some("id > 7"));
        assert_eq!(more, "shop.orders where id > 7 1200 of about 1000 rows, 7 a second");
        assert_eq!(snapshot(300, 0, Some(0.0), false, None), "shop.orders 300 rows");
        assert_eq!(snapshot(300, 1000, Some(7.0), true, None), "shop.orders 300 of about 1000 rows, paused");
        assert_eq!(snapshot(0, 0, None, true, None), "shop.orders, paused before it has read a row");
    }
}
