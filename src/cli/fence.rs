//! What `everrelay run` says of itself in the fence, and whether its versions begin high enough, asked before anything is written to the log.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::Context;
use tokio::task::JoinSet;

use super::Failure;
use super::run::open_log;
use crate::backoff::Backoff;
use crate::config::Settings;
use crate::disk::SystemDisk;
use crate::event::Version;
use crate::lifecycle::{Exit, Shutdown};
use crate::log::{LOCK, Opened};
use crate::settled::Cursor;
use crate::sink::SinkError;
use crate::sink::elastic::{Claimant, ElasticOptions, ElasticSink};

/// How long a start waits for what the fence says; the log opens without the engine.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long after the bulks of a run nothing more may be sent without a new raise.
const LEASE: Duration = Duration::from_secs(15);

/// How far above another relay's bound its indices are taken over: an hour of versions, as that one may raise it meanwhile.
const MARGIN: u64 = 3_600_000_000;

/// What a sink knows of what it wrote in former runs: its id, and its cursor.
pub(super) type Known = (u64, Cursor);

/// This run of a sink, whose versions follow what the log holds. `sink_id`: the sink's, see [`Settled::sink_id`](crate::settled::Settled::sink_id).
pub(super) fn claimant(
    settings: &Settings,
    opened: &Opened<SystemDisk>,
    sink_id: u64,
    take_over: bool,
) -> Result<Claimant, Failure> {
    let path = settings.log_dir().join(LOCK);
    let lock = std::fs::metadata(&path)
        .with_context(|| format!("cannot look at {path:?}"))
        .map_err(|error| Failure::new(Exit::State, error))?;
    // Device and inode tell files apart on one machine until it is started anew; the lock is held, so nobody else is given them. Without the boot's id no
    // former run is recognised, and each is watched for a lease.
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.map_or_else(|_| rand::random::<u64>().to_string(), |id| id.trim().to_owned());
    Ok(Claimant {
        folder_id: sink_id,
        run_id: rand::random(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        place: format!("{boot}:{}:{}", lock.dev(), lock.ino()),
        first_version: Version(opened.log.highest_version().0.saturating_add(1)),
        take_over,
        lease: LEASE,
    })
}

/// Opens the log once more, with higher versions, where its own would begin at or below what the fence says was sent: by a later state of this folder, or, to
/// take its indices over, by anybody. Where an engine does not answer in time the log stays as it is for it: such versions are refused later. `known`: by sink, as the
/// settings have them.
pub(super) async fn outrank(
    opened: Opened<SystemDisk>,
    settings: &mut Settings,
    known: &[Known],
    take_over: bool,
    shutdown: &Shutdown,
) -> Result<Opened<SystemDisk>, Failure> {
    let above = if take_over {
        tokio::select! {
            bound = highest_of_all(settings) => bound?.map(|bound| Version(bound.0.saturating_add(MARGIN))),
            () = shutdown.wait() => None,
        }
    } else {
        // Side by side: an engine that is away costs the time once.
        let mut asked = JoinSet::new();
        for (sink, (sink_id, cursor)) in settings.sinks.iter().zip(known) {
            let uuids: Vec<String> = cursor.indices.values().map(|index| index.uuid.clone()).collect();
            if !uuids.is_empty() {
                let (engine, sink_id) = (sink.engine.clone(), *sink_id);
                asked.spawn(async move {
                    let bound = ElasticSink::highest_bound(&engine, Some((sink_id, &uuids)));
                    tokio::time::timeout(PATIENCE, bound).await.unwrap_or(Ok(None)).unwrap_or(None)
                });
            }
        }
        asked.join_all().await.into_iter().flatten().max()
    };
    let Some(above) = above.filter(|above| *above > opened.log.highest_version()) else {
        return Ok(opened);
    };
    tracing::warn!(%above, "versions as high were sent to the search engine before; this run's begin above them");
    drop(opened);
    settings.log.versions_above = above;
    open_log(settings).await
}

/// Of every sink's engine; each is waited for.
async fn highest_of_all(settings: &Settings) -> Result<Option<Version>, Failure> {
    let mut highest = None;
    for sink in &settings.sinks {
        highest = highest.max(highest_of(&sink.engine).await?);
    }
    Ok(highest)
}

async fn highest_of(options: &ElasticOptions) -> Result<Option<Version>, Failure> {
    let mut backoff = Backoff::new();
    loop {
        match ElasticSink::highest_bound(options, None).await {
            Ok(highest) => return Ok(highest),
            Err(SinkError::Definite(error)) => return Err(Failure::new(Exit::Sink, anyhow::anyhow!(error))),
            Err(SinkError::Transient(error)) => {
                if backoff.failures() == 0 {
                    tracing::warn!(%error, "to take over, the search engine is waited for");
                }
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}
