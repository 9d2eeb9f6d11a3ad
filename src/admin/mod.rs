//! The HTTP side, for people, probes and Prometheus. It reads; it changes nothing: what does is asked for at the [control socket](control).
//!
//! | route | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the process is alive |
//! | `GET /readyz` | 200 while nothing stands in the way of progress, else 503 and what does, a line each |
//! | `GET /metrics` | Prometheus text format |
//! | `GET /status` | the same state as one JSON object |
//!
//! It listens on loopback unless told otherwise, and answers requests only that name this machine: a web page somewhere
//! cannot reach it through a visitor's browser by a name of its own (DNS rebinding).

pub mod control;
pub mod parked;
pub mod replay;
pub mod sinks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use sinks::SinkStatus;
use tokio::net::TcpListener;

use crate::disk::Disk;
use crate::lifecycle::{Readiness, Shutdown};
use crate::log::snapshot::Snapshot;
use crate::log::{Gap, Log};
use crate::metrics::names;
use crate::relay::ingest::NO_ROOM;
use crate::settled::{Parked, SettledError};
use crate::source::Upstream;

/// Gives the state that `/status` shows; called per request.
pub type StatusFn = Arc<dyn Fn() -> Result<PipelineStatus, SettledError> + Send + Sync>;

/// One pipeline's state, for `/status` and the `status` command.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct PipelineStatus {
    /// First sequence number still in the log.
    pub retained_start: u64,
    /// Sequence number of the last durable commit.
    pub visible: u64,
    /// Server time of the last durable commit, microseconds since 1970 UTC.
    pub visible_time_micros: u64,
    pub log_bytes: u64,
    pub log_segments: u64,
    #[serde(flatten)]
    pub room: Room,
    /// By name.
    pub sinks: Vec<SinkStatus>,
    /// Tables whose documents are not what their rows are, by name.
    pub needs_snapshot: Vec<NeedsSnapshot>,
    /// Snapshots that are not over, in the order in which they were wanted.
    #[serde(default)]
    pub snapshots: Vec<SnapshotStatus>,
    /// The servers that it is filled from; of a relay that does not run, none.
    #[serde(default)]
    pub source: Upstream,
    /// For how long the server keeps what was not read yet, at least; `None` where nobody knows.
    #[serde(default)]
    pub purge_left_seconds: Option<u64>,
}

/// A table that needs a snapshot.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct NeedsSnapshot {
    pub table: String,
    /// What changed its rows without a row event that says how.
    pub why: String,
    /// The server's time of it, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
    /// A snapshot of it was wanted since: one that is waiting or being read, or that was cancelled.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub wanted: bool,
}

/// Changes of a table that the search engine refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct ParkedStatus {
    pub table: String,
    /// The engine's word for it.
    pub reason: String,
    /// Documents, each by its newest change.
    pub changes: u64,
    /// What their rows take.
    pub bytes: u64,
    /// When the oldest of them was parked, microseconds since 1970 UTC.
    pub since_micros: u64,
}

impl ParkedStatus {
    /// Everything parked, by table and reason.
    #[must_use]
    pub fn of(parked: &[Parked]) -> Vec<ParkedStatus> {
        let mut by_reason = BTreeMap::new();
        for Parked { table, kind, bytes, since_micros, .. } in parked {
            let (table, reason) = (table.to_string(), kind.clone());
            let of_reason = by_reason.entry((table.clone(), kind)).or_insert_with(|| ParkedStatus {
                table,
                reason,
                changes: 0,
                bytes: 0,
                since_micros: u64::MAX,
            });
            of_reason.changes += 1;
            of_reason.bytes += bytes;
            of_reason.since_micros = of_reason.since_micros.min(*since_micros);
        }
        by_reason.into_values().collect()
    }
}

/// The snapshot of a table.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct SnapshotStatus {
    pub table: String,
    pub state: SnapshotState,
    /// Of rows that fulfil this SQL condition only.
    pub filter: Option<String>,
    /// Read so far.
    pub rows: u64,
    /// How many it may come to; 0 before it is read.
    pub estimated_rows: u64,
    /// Read in a second; `None` where nobody knows.
    pub rows_per_second: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotState {
    /// Its turn has not come.
    Waiting,
    Reading,
    Paused,
}

impl SnapshotStatus {
    /// How long it will take at the present rate, seconds; `None` where nobody knows.
    #[must_use]
    pub fn seconds_left(&self) -> Option<u64> {
        let rate = self.rows_per_second.filter(|rate| *rate > 0.0 && self.state == SnapshotState::Reading)?;
        let left = self.estimated_rows.checked_sub(self.rows)?;
        Some((left as f64 / rate) as u64)
    }
}

impl From<&Snapshot> for SnapshotStatus {
    fn from(Snapshot { table, filter, paused, begun }: &Snapshot) -> SnapshotStatus {
        let state = match begun {
            _ if *paused => SnapshotState::Paused,
            Some(_) => SnapshotState::Reading,
            None => SnapshotState::Waiting,
        };
        let (rows, estimated_rows) =
            begun.as_ref().map_or((0, 0), |begun| (begun.rows, begun.estimated_rows));
        let (table, filter) = (table.to_string(), filter.clone());
        SnapshotStatus { table, state, filter, rows, estimated_rows, rows_per_second: None }
    }
}

/// What the log may take, and how long that will do.
#[derive(Clone, Debug, Default, Serialize, serde::Deserialize)]
pub struct Room {
    /// What all segments together may take.
    pub quota_bytes: u64,
    /// Free on the log's disk, the reserve not counted.
    pub disk_free_bytes: u64,
    /// Held back on it; 0 while it is given up.
    pub disk_reserve_bytes: u64,
    /// How long the search engine could be away before the source is paused, at the present rate; `None` where nobody knows.
    pub outage_left_seconds: Option<u64>,
    /// Why the source is not read, if the log has no room.
    pub paused: Option<String>,
}

impl PipelineStatus {
    /// The state of a log, of the sinks that follow it, and of the room that it has.
    #[must_use]
    pub fn new<D: Disk>(log: &Log<D>, sinks: Vec<SinkStatus>, room: Room) -> PipelineStatus {
        let (stats, visible) = (log.stats(), log.visible());
        PipelineStatus {
            retained_start: log.retained_start().0,
            visible: visible.seq.0,
            visible_time_micros: visible.time_micros,
            log_bytes: stats.bytes,
            log_segments: stats.segments as u64,
            room,
            sinks,
            needs_snapshot: log.gaps().borrow().iter().map(NeedsSnapshot::from).collect(),
            snapshots: log.snapshots().borrow().iter().map(SnapshotStatus::from).collect(),
            source: Upstream::default(),
            purge_left_seconds: None,
        }
    }

    /// Of several sinks the one that the log is kept for longest, where it holds the log.
    #[must_use]
    pub fn holds(&self) -> Option<&SinkStatus> {
        let slowest = self.sinks.iter().min_by_key(|sink| sink.done)?;
        Some(slowest).filter(|slowest| self.sinks.len() > 1 && slowest.done < self.visible)
    }

    /// With how many rows a second its snapshots read, by table.
    #[must_use]
    pub fn with_rates(mut self, rate: impl Fn(&str) -> Option<f64>) -> PipelineStatus {
        for snapshot in &mut self.snapshots {
            snapshot.rows_per_second = rate(&snapshot.table);
        }
        self
    }

    /// With what is known of its source at the time `now_micros`, microseconds since 1970 UTC.
    #[must_use]
    pub fn with_source(self, source: Upstream, now_micros: u64) -> PipelineStatus {
        let purge_left_seconds = source.kept_seconds(self.visible_time_micros, now_micros);
        PipelineStatus { source, purge_left_seconds, ..self }
    }
}

impl From<&Gap> for NeedsSnapshot {
    fn from(Gap { table, why, time_micros, wanted }: &Gap) -> NeedsSnapshot {
        let (table, why) = (table.to_string(), why.clone());
        NeedsSnapshot { table, why, time_micros: *time_micros, wanted: *wanted }
    }
}

/// What `/status` answers.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct Status {
    pub version: String,
    pub ready: bool,
    /// What stands in the way, by part.
    pub obstacles: BTreeMap<String, String>,
    pub pipeline: PipelineStatus,
}

/// How often the recorder folds what it has counted.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct Shared {
    metrics: PrometheusHandle,
    readiness: Readiness,
    status: StatusFn,
    address: SocketAddr,
}

/// Listens on `address`.
///
/// # Errors
/// The address cannot be listened on.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until a drain is asked for.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    readiness: Readiness,
    status: StatusFn,
    shutdown: Shutdown,
) -> std::io::Result<()> {
    let upkept = metrics.clone();
    let shared = Shared { metrics, readiness, status, address: listener.local_addr()? };
    let routes = Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
        .route("/status", get(status_json))
        .layer(middleware::from_fn_with_state(shared.clone(), own_name_only))
        .with_state(shared);
    let upkeep = async {
        // Without it histograms keep every value until somebody scrapes.
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            upkept.run_upkeep();
        }
    };
    tokio::select! {
        () = upkeep => Ok(()),
        result = axum::serve(listener, routes).into_future() => result,
        () = shutdown.wait() => Ok(()),
    }
}

async fn own_name_only(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("");
    // A name may only be localhost; addresses cannot be rebound, so any of them will do.
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if name == "localhost" || bare.parse::<std::net::IpAddr>().is_ok() || !shared.address.ip().is_loopback() {
        next.run(request).await
    } else {
        (StatusCode::FORBIDDEN, "ask by address or as localhost\n").into_response()
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let obstacles = shared.readiness.obstacles();
    if obstacles.is_empty() {
        return (StatusCode::OK, "ready\n").into_response();
    }
    let mut lines: String = obstacles.iter().map(|(part, reason)| format!("{part}: {reason}\n")).collect();
    if obstacles.contains_key(NO_ROOM)
        && let Ok(pipeline) = (shared.status)()
        && let Some(SinkStatus { name, done, .. }) = pipeline.holds()
    {
        lines.push_str(&format!(
            "log: it is kept for sink {name}, which has settled {done} of {}\n",
            pipeline.visible
        ));
    }
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn scrape(State(shared): State<Shared>) -> Response {
    gauge!(names::READY).set(if shared.readiness.obstacles().is_empty() { 1.0 } else { 0.0 });
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, shared.metrics.render()).into_response()
}

async fn status_json(State(shared): State<Shared>) -> Response {
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
    let pipeline = match (shared.status)() {
        Ok(pipeline) => pipeline,
        Err(error) => return failed(error.to_string()),
    };
    let obstacles = shared.readiness.obstacles();
    let status = Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: obstacles.is_empty(),
        obstacles,
        pipeline,
    };
    match serde_json::to_string(&status) {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => failed(error.to_string()),
    }
}
