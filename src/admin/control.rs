//! The control socket: orders to a running relay, by HTTP over a Unix socket that only the relay's own user may open.
//!
//! | route | body, JSON | answer, JSON |
//! |---|---|---|
//! | `POST /snapshot` | `{"tables": ["shop.orders"], "filter": "id > 7"}`; no tables: all | `{"tables": […]}`: those that it is carried out for |
//! | `POST /snapshot/pause`, `…/resume`, `…/cancel` | `{"tables": […]}`; none: all that are not over | the same |
//! | `/sink/NAME/parked`, `/sink/NAME/parked/…` | see [`parked`](super::parked) | |
//! | `/sink/NAME/replay`, `/sink/NAME/replay/cancel` | see [`replay`](super::replay) | |
//!
//! 200 where the order is carried out, 409 with why not in words, 400 for a body that is none, 404 for a sink that does not run, 504 where the source takes
//! too long.
//!
//! It stands in the state folder, which the relay has to itself: a socket that a killed one left there is replaced.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;

use super::{parked, replay};
use crate::event::TableName;
use crate::lifecycle::Shutdown;
use crate::source::orders::{Orders, SnapshotOrder, Tables};

/// How long the source may take to carry an order out: it connects again with pauses of some seconds, and no order is taken meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Longest path of a socket, bytes: *sockaddr_un* has 108 and a zero.
const LONGEST: usize = 107;

/// What an order is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// `schema.table` each; `None`: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub tables: Vec<String>,
}

/// A socket's path, however long the folder's: sockets have short ones, and by the folder's descriptor there always is one.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    /// Holds the descriptor that `path` goes by.
    _folder: Option<fs::File>,
}

impl SocketPath {
    /// # Errors
    /// The folder cannot be opened.
    pub fn new(path: &Path) -> io::Result<SocketPath> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() <= LONGEST {
            return Ok(SocketPath { path: path.to_owned(), _folder: None });
        }
        let folder = fs::File::open(folder)?;
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(SocketPath { path, _folder: Some(folder) })
    }

    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.path
    }
}

/// The socket while it is served; it goes with this.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
    sinks: Router,
}

/// Puts the socket in its place. Whoever calls has the state folder to itself.
///
/// # Errors
/// The system's.
pub fn bind(path: &Path) -> io::Result<Control> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(SocketPath::new(path)?.as_path())?;
    // The folder is the relay's alone, so nobody came before this.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(Control { listener, path: path.to_owned(), sinks: Router::new() })
}

impl Control {
    /// Shows what is parked of a sink and its replay, and takes orders for both.
    #[must_use]
    pub fn with_sink(self, name: &str, parked: parked::Room, replay: replay::Room) -> Control {
        let routes = parked::routes(parked).merge(replay::routes(replay));
        Control { sinks: self.sinks.nest(&format!("/sink/{name}"), routes), ..self }
    }

    /// Takes orders until a drain is asked for.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve(self, orders: Orders, shutdown: Shutdown) -> io::Result<()> {
        let routes = Router::new()
            .route("/snapshot", post(begin))
            .route("/snapshot/pause", post(pause))
            .route("/snapshot/resume", post(resume))
            .route("/snapshot/cancel", post(cancel))
            .with_state(orders)
            .merge(self.sinks)
            .fallback(unknown);
        let served = tokio::select! {
            served = axum::serve(self.listener, routes).into_future() => served,
            () = shutdown.wait() => Ok(()),
        };
        // One that stays is replaced by the next relay.
        let _ = fs::remove_file(&self.path);
        served
    }
}

async fn unknown() -> Response {
    let why =
        "the relay that runs has no such sink: it was started with another configuration. Start it again";
    (StatusCode::NOT_FOUND, why).into_response()
}

async fn begin(State(orders): State<Orders>, body: Bytes) -> Response {
    carry_out(&orders, &body, |tables, filter| Some(SnapshotOrder::Begin { tables, filter })).await
}

async fn pause(State(orders): State<Orders>, body: Bytes) -> Response {
    carry_out(&orders, &body, |tables, filter| filter.is_none().then_some(SnapshotOrder::Pause(tables))).await
}

async fn resume(State(orders): State<Orders>, body: Bytes) -> Response {
    carry_out(&orders, &body, |tables, filter| filter.is_none().then_some(SnapshotOrder::Resume(tables)))
        .await
}

async fn cancel(State(orders): State<Orders>, body: Bytes) -> Response {
    carry_out(&orders, &body, |tables, filter| filter.is_none().then_some(SnapshotOrder::Cancel(tables)))
        .await
}

async fn carry_out(
    orders: &Orders,
    body: &[u8],
    order: impl FnOnce(Tables, Option<String>) -> Option<SnapshotOrder>,
) -> Response {
    let asked = serde_json::from_slice::<Asked>(body).map_err(|error| error.to_string());
    let order = asked.and_then(|Asked { tables, filter }| {
        let tables = tables.map_or(Ok(Tables::All), |names| named(&names))?;
        order(tables, filter).ok_or_else(|| "a filter is for a snapshot that begins".to_owned())
    });
    let order = match order {
        Ok(order) => order,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match tokio::time::timeout(PATIENCE, orders.ask(order)).await {
        Ok(Ok(tables)) => {
            let done = Done { tables: tables.iter().map(ToString::to_string).collect() };
            match serde_json::to_string(&done) {
                Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
            }
        }
        Ok(Err(refused)) => (StatusCode::CONFLICT, refused.to_string()).into_response(),
        Err(_) => {
            let why = format!(
                "the source did not answer within {PATIENCE:?}: it may be connecting, or paused. The order is withdrawn, unless the source \
                 had it already: `everrelay snapshot ls` shows that"
            );
            (StatusCode::GATEWAY_TIMEOUT, why).into_response()
        }
    }
}

pub(super) fn named(names: &[String]) -> Result<Tables, String> {
    let table = |name: &String| match name.split_once('.') {
        Some((schema, table)) if !schema.is_empty() && !table.is_empty() => Ok(TableName::new(schema, table)),
        _ => Err(format!("{name:?} is no table: they are named schema.table")),
    };
    match names {
        [] => Err("it names no table".to_owned()),
        names => names.iter().map(table).collect::<Result<_, _>>().map(Tables::Named),
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
