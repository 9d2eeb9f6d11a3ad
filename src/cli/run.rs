//! `everrelay run`: the daemon, from start to exit, read top to bottom.

mod beginning;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::time::Instant;

use beginning::{Beginning, Folder, Store};

use super::{ConfigArgument, Failure, fence, sinks};
use crate::admin::sinks::SinkStatus;
use crate::admin::{self, PipelineStatus, Room, control};
use crate::clock::{Clock, SystemClock};
use crate::config::Settings;
use crate::disk::{self, Reserve, SystemDisk};
use crate::lifecycle::{Exit, Readiness, Shutdown};
use crate::log::{Log, OpenError, Opened};
use crate::relay::committer::Committer;
use crate::relay::error::{IngestError, RelayError};
use crate::relay::ingest::Ingest;
use crate::relay::options::DeliverOptions;
use crate::relay::sinks::{Sinks, Stopped};
use crate::relay::snapshots::{Rates, Snapshots};
use crate::relay::{Outlook, Retention, upstream};
use crate::settled::{ROOM_BYTES, Settled, SettledError};
use crate::source::Upstream;
use crate::source::mysql::{MysqlOptions, MysqlSource};
use crate::source::orders;

/// How long a locked state folder is tried.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// How long the disk has, after the drain, for what was queued for it by then.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// Arguments of `everrelay run`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Take indices from another relay that has written to them and may be at work still.
    #[arg(long)]
    take_over: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit, Failure> {
    let settings = arguments.config.load()?;
    // One provider in the whole tree; a second installation would only say that this one is there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the threads that everything runs on: the system gives no more threads or descriptors")
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let result = runtime.block_on(daemon(settings, arguments.take_over));
    // A blocking call that hangs must not hold the exit up: everything that matters is durable by now.
    runtime.shutdown_background();
    result
}

async fn daemon(settings: Settings, take_over: bool) -> Result<Exit, Failure> {
    let shutdown = Shutdown::new();
    let second_signal = shutdown.on_signals().map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let state_dir = settings.state_dir.clone();
    let overdue = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.wait().await;
            tokio::time::sleep(DeliverOptions::default().drain + DISK_PATIENCE).await;
        }
    };
    // In a task of its own: a disk that hangs must not keep the second signal from being seen.
    let mut serving = tokio::spawn(serve(settings, take_over, shutdown));
    tokio::select! {
        result = &mut serving => match result {
            Ok(result) => result.map(|()| Exit::Done),
            Err(failed) => Err(Failure::new(Exit::Unexpected, failed)),
        },
        () = second_signal => Ok(Exit::Signal),
        // As safe as a second signal: what is not durable by now was never visible.
        () = overdue => Err(Failure::new(Exit::State, anyhow::anyhow!(
            "the disk under {state_dir:?} has not answered since the end was asked for, nor {DISK_PATIENCE:?} after the drain time; ending \
             without it. Nothing that was visible is lost. Look at the disk, and start again"
        ))),
    }
}

/// A cursor of a newer everrelay is refused before opening the log cuts it and begins a segment. Whatever else may be wrong with it is said when it is
/// opened for good.
pub(super) fn refuse_newer_cursors(settings: &Settings) -> Result<(), Failure> {
    let folder = settings.settled_dir();
    match folder.exists().then(|| Settled::open(&folder)) {
        Some(Err(error @ SettledError::Format { .. })) => Err(Failure::new(Exit::State, error)),
        // A sync that fails is not to be followed by one that succeeds.
        Some(Ok(settled)) => settled.close().map_err(|error| Failure::new(Exit::State, error)),
        Some(Err(_)) | None => Ok(()),
    }
}

async fn serve(mut settings: Settings, take_over: bool, shutdown: Shutdown) -> Result<(), Failure> {
    let metrics = crate::metrics::install().map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let readiness = Readiness::new();
    readiness.obstacle("source", "connecting");
    refuse_newer_cursors(&settings)?;

    let opened = open_log(&settings).await?;
    tracing::info!(
        folder = %settings.state_dir.display(),
        recovered = %opened.recovered,
        quota_bytes = opened.log.limits().quota,
        "log open"
    );
    // The log's lock holds by now: nobody else has the reserve.
    let reserve = reserve(&settings)?;
    let settled = open_settled(&settings, &reserve).await?;
    let folder = Folder::open(&settings, settled, reserve.clone())?;
    let opened = fence::outrank(opened, &mut settings, &folder.known()?, take_over, &shutdown).await?;
    opened.log.leave_room_for(reserve.clone());

    // The log's lock holds: a socket that is there was left behind.
    let control_path = settings.control_path();
    let control = control::bind(&control_path)
        .with_context(|| format!("cannot listen on {control_path:?}, the socket for commands"))
        .map_err(|error| Failure::new(Exit::State, error))?;

    let options = MysqlOptions { relay_id: folder.id(), ..settings.source.clone() };
    let source = MysqlSource::new(options).map_err(|error| Failure::new(Exit::Usage, error))?;
    let upstream = source.upstream();
    let (orders, order_queue) = orders::channel();
    let mut engines = Vec::new();
    for sink in &settings.sinks {
        let claimant = fence::claimant(&settings, &opened, folder.sink_id(&sink.name), take_over)?;
        engines.push(beginning::engine(sink, claimant)?);
    }

    let listener = admin::bind(settings.admin_listen)
        .await
        .with_context(|| format!("cannot listen on {} ([admin] listen)", settings.admin_listen))
        .map_err(|error| Failure::new(Exit::Usage, error))?;
    let (log, standing) = (opened.log, opened.writer.standing().cloned());
    let committer = Committer::start(opened.writer)
        .context("cannot start the log writer's thread: the system gives no more threads")
        .map_err(|error| Failure::new(Exit::Unexpected, error))?;
    let joins = folder.joins(&settings, &log, standing.as_ref())?;
    let retention = Retention::of_all(
        log.clone(),
        folder.held(&joins)?,
        SystemClock,
        reserve.clone(),
        committer.carrier(),
    );
    let snapshots = Snapshots::new(log.snapshots());
    let stopped = Stopped::default();
    let outlooks = Outlooks {
        room: retention.outlook(),
        upstream: upstream.clone(),
        rates: snapshots.rates(),
        stopped: stopped.clone(),
    };
    let status = status_of(log.clone(), folder.stores()?, outlooks, readiness.clone());
    let told = (log.clone(), readiness.clone());
    tracing::info!(address = %settings.admin_listen, "admin listening: /metrics /healthz /readyz /status");

    let start = Beginning { log, readiness: readiness.clone(), orders: orders.clone(), joins };
    let (sides, control) = start.sides(&folder, &settings, engines, control).await?;
    let idle = start.idle(&folder)?;
    let sinks = Sinks { stopped, idle, ..Sinks::new(start.log, sides, readiness.clone()) };
    let source = source.paced_by(sinks.pace()).ordered_by(order_queue);
    let ingest = Ingest::new(source, committer, settings.start, SystemClock, readiness.clone());

    let pipeline = crate::relay::run(ingest, sinks, retention, readiness.clone(), &shutdown);
    let admin = async {
        let admin = admin::serve(listener, metrics, readiness, status, shutdown.clone());
        tokio::try_join!(admin, control.serve(orders, shutdown.clone()))
    };
    let telling = upstream::tell(upstream, &told.0, &SystemClock, &told.1, &shutdown);
    let (pipeline, admin, (), ()) = tokio::join!(pipeline, admin, telling, snapshots.tell(&shutdown));
    pipeline.map_err(failure)?;
    admin.map_err(|error| Failure::new(Exit::Unexpected, error))?;
    tracing::info!("the cursor is committed; goodbye");
    Ok(())
}

/// Opens the log; on a full disk with the room that was held back for that.
pub(super) async fn open_log(settings: &Settings) -> Result<Opened<SystemDisk>, Failure> {
    let open = || crate::log::open(&SystemDisk, &SystemClock, &settings.log_dir(), settings.log.clone());
    let locked = |error: &OpenError| matches!(error, OpenError::Locked { .. });
    match open_unlocked(open, locked).await {
        Err(Failure { error, .. }) if is_full(&error) && give_up_under(&reserve(settings)?, u64::MAX)? => {
            tracing::warn!(%error, "the disk is full; its reserve is given up to open the log");
            open_unlocked(open, locked).await
        }
        result => result,
    }
}

/// Opens the cursors' store; where that fails on a nearly full disk, with the room that was held back. sled says in several ways that it had none.
async fn open_settled(settings: &Settings, reserve: &Reserve<SystemDisk>) -> Result<Settled, Failure> {
    let open = || Settled::open(&settings.settled_dir());
    let locked = |error: &SettledError| matches!(error, SettledError::Locked { .. });
    match open_unlocked(open, locked).await {
        Err(Failure { error, .. })
            if !matches!(error.downcast_ref(), Some(SettledError::Locked { .. }))
                && give_up_under(reserve, ROOM_BYTES)? =>
        {
            tracing::warn!(%error, "the disk is full; its reserve is given up to open the cursor");
            open_unlocked(open, locked).await
        }
        result => result,
    }
}

fn is_full(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(OpenError::Io { source, .. }) if disk::is_full(source))
}

fn give_up_under(reserve: &Reserve<SystemDisk>, bytes: u64) -> Result<bool, Failure> {
    reserve.give_up_under(bytes).map_err(|error| Failure::new(Exit::State, error))
}

fn reserve(settings: &Settings) -> Result<Reserve<SystemDisk>, Failure> {
    Reserve::open(SystemDisk, &settings.reserve_path(), settings.disk_reserve_bytes)
        .map_err(|error| Failure::new(Exit::State, error))
}

/// Opens a part of the state folder. One that is locked is tried again for a moment: `everrelay status` may be looking, or the relay
/// that this one follows is not quite gone.
async fn open_unlocked<T, E>(open: impl Fn() -> Result<T, E>, locked: fn(&E) -> bool) -> Result<T, Failure>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match open() {
            Err(error) if locked(&error) && Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PATIENCE / 10).await;
            }
            result => return result.map_err(|error| Failure::new(Exit::State, error)),
        }
    }
}

/// What is told of a pipeline while it runs.
struct Outlooks {
    room: watch::Receiver<Outlook>,
    upstream: watch::Receiver<Upstream>,
    rates: watch::Receiver<Rates>,
    stopped: Stopped,
}

fn status_of(
    log: Log<SystemDisk>,
    stores: Vec<Store>,
    outlooks: Outlooks,
    readiness: Readiness,
) -> admin::StatusFn {
    Arc::new(move || {
        let Outlooks { room, upstream, rates, stopped } = &outlooks;
        let outlook = *room.borrow();
        let room = Room {
            quota_bytes: log.limits().quota,
            disk_free_bytes: outlook.free_bytes,
            disk_reserve_bytes: outlook.reserve_bytes,
            // Not known before the first look.
            outage_left_seconds: (outlook != Outlook::default()).then_some(outlook.outage_seconds),
            paused: readiness.obstacles().remove(crate::relay::ingest::NO_ROOM),
        };
        let status = |store: &Store| {
            let status = sinks::load(&store.name, store.configured, &store.cursor)?;
            Ok(SinkStatus { stopped: stopped.why(&store.name), ..status })
        };
        let sinks = stores.iter().map(status).collect::<Result<_, SettledError>>()?;
        let status = PipelineStatus::new(&log, sinks, room);
        let rates: HashMap<String, f64> =
            rates.borrow().iter().map(|(table, rate)| (table.to_string(), *rate)).collect();
        let status = status.with_rates(|table| rates.get(table).copied());
        Ok(status.with_source(upstream.borrow().clone(), SystemClock.wall_micros()))
    })
}

/// Which exit code a pipeline's end has.
fn failure(error: RelayError) -> Failure {
    let exit = match &error {
        RelayError::Ingest(IngestError::Source(_)) => Exit::Source,
        RelayError::Ingest(IngestError::Write(_))
        | RelayError::Retain(_)
        | RelayError::Cursor(_)
        | RelayError::Reserve(_) => Exit::State,
        RelayError::Deliver(error) if error.is_of_the_state_folder() => Exit::State,
        RelayError::Deliver(_) => Exit::Sink,
    };
    Failure::new(exit, error)
}
