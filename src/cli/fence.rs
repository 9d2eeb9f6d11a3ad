//! What `everrelay run` says of itself in the fence, and whether its versions begin high enough, asked before anything is written to the log.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use anyhow::Context;

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

/// This run, whose versions follow what the log holds.
pub(super) fn claimant(
    settings: &Settings,
    opened: &Opened<SystemDisk>,
    folder_id: u64,
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
        folder_id,
        run_id: rand::random(),
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        place: format!("{boot}:{}:{}", lock.dev(), lock.ino()),
        first_version: Version(opened.log.highest_version().0.saturating_add(1)),
        take_over,
        lease: LEASE,
    })
}

/// Opens the log once more, with higher versions, where its own would begin at or below what the fence says was sent: by a later state of this folder, or, to
/// take its indices over, by anybody. Where the engine does not answer in time the log stays as it is: such versions are refused later.
pub(super) async fn outrank(
    opened: Opened<SystemDisk>,
    settings: &mut Settings,
    (folder_id, cursor): (u64, &Cursor),
    take_over: bool,
    shutdown: &Shutdown,
) -> Result<Opened<SystemDisk>, Failure> {
    let above = if take_over {
        tokio::select! {
            bound = highest_of_all(&settings.sink) => bound?.map(|bound| Version(bound.0.saturating_add(MARGIN))),
            () = shutdown.wait() => None,
        }
    } else {
        let uuids: Vec<String> = cursor.indices.values().map(|index| index.uuid.clone()).collect();
        let asked = ElasticSink::highest_bound(&settings.sink, Some((folder_id, &uuids)));
        let asked = async { if uuids.is_empty() { Ok(None) } else { asked.await } };
        tokio::time::timeout(PATIENCE, asked).await.unwrap_or(Ok(None)).unwrap_or(None)
    };
    let Some(above) = above.filter(|above| *above > opened.log.highest_version()) else {
        return Ok(opened);
    };
    tracing::warn!(%above, "versions as high were sent to the search engine before; this run's begin above them");
    drop(opened);
    settings.log.versions_above = above;
    open_log(settings).await
}

async fn highest_of_all(options: &ElasticOptions) -> Result<Option<Version>, Failure> {
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
