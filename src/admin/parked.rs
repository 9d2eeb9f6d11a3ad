//! What is parked, as the control socket and the command show it: without a row's values unless they are asked for.
//!
//! Below `/sink/NAME`:
//!
//! | route | body, JSON | answer, JSON |
//! |---|---|---|
//! | `GET /parked` | | a list of [`ParkedChange`], oldest first |
//! | `POST /parked/show` | `{"records": [7]}` | a list of [`Shown`] |
//! | `POST /parked/retry`, `…/drop` | `{"tables": […]}`, `{"records": […]}`; neither: all | a list of [`Told`] |
//!
//! 504 where the search engine takes too long: the order is carried out all the same.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::control::{PATIENCE, named};
use crate::event::codec::Row;
use crate::event::{Op, Seq};
use crate::mapping::TableMapping;
use crate::mapping::rule::Rules;
use crate::relay::id_for_people;
use crate::relay::parked_orders::{Became, Fate, ParkedOrder, ParkedOrders, Which};
use crate::settled::{CursorStore, Parked, ParkedRow, SettledError, SledCursor};
use crate::source::orders::Tables;

/// A parked change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedChange {
    /// Its record in the log; orders name it by that.
    pub record: u64,
    pub table: String,
    /// As log lines name the document.
    pub document: String,
    /// The document's id, a row's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub operation: String,
    /// The version that the document would have.
    pub version: u64,
    /// The engine's word for what is wrong.
    pub reason: String,
    /// More of it.
    pub details: String,
    /// Microseconds since 1970 UTC, as the next.
    pub since_micros: u64,
    /// When it was refused last.
    pub tried_micros: u64,
    /// How often it was refused.
    pub attempts: u32,
    /// What its row takes.
    pub bytes: u64,
}

/// A parked change and its row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    #[serde(flatten)]
    pub change: ParkedChange,
    /// The document that it would be by the rules as they are now: JSON text.
    pub body: String,
}

/// Which parked changes are meant; neither: all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meant {
    /// `schema.table` each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<Vec<u64>>,
}

/// What became of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub record: u64,
    pub table: String,
    pub became: Outcome,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The engine has it.
    Taken,
    /// The index has a newer version already.
    Superseded,
    /// A newer change or a sweep came before it.
    Overtaken,
    /// Another change of its document is under way; it stays parked.
    Busy,
    /// It stays parked.
    Refused,
    Dropped,
}

impl From<Fate> for Told {
    fn from(Fate { table, seq, became }: Fate) -> Told {
        let (became, details) = match became {
            Became::Taken => (Outcome::Taken, None),
            Became::Superseded => (Outcome::Superseded, None),
            Became::Overtaken => (Outcome::Overtaken, None),
            Became::Busy => (Outcome::Busy, None),
            Became::Refused { reason } => (Outcome::Refused, Some(reason)),
            Became::Dropped => (Outcome::Dropped, None),
        };
        Told { record: seq.0, table: table.to_string(), became, details }
    }
}

impl From<&Parked> for ParkedChange {
    fn from(parked: &Parked) -> ParkedChange {
        ParkedChange {
            record: parked.seq.0,
            table: parked.table.to_string(),
            document: id_for_people(&parked.id),
            id: Some(parked.id.clone()),
            operation: match parked.op {
                Op::Insert => "insert",
                Op::Update => "update",
                Op::Rekey => "key change",
                Op::Delete | Op::Tombstone => "delete",
                Op::Read => "snapshot read",
            }
            .to_owned(),
            version: parked.version,
            reason: parked.kind.clone(),
            details: parked.reason.clone(),
            since_micros: parked.since_micros,
            tried_micros: parked.tried_micros,
            attempts: parked.attempts,
            bytes: parked.bytes,
        }
    }
}

impl Meant {
    /// # Errors
    /// A table that is none.
    pub fn which(&self) -> Result<Which, String> {
        match (&self.tables, &self.records) {
            (None, None) => Ok(Which::All),
            (None, Some(records)) => Ok(Which::Records(records.iter().copied().map(Seq).collect())),
            (Some(tables), None) => match named(tables)? {
                Tables::All => Ok(Which::All),
                Tables::Named(tables) => Ok(Which::Tables(tables)),
            },
            (Some(_), Some(_)) => Err("it names tables and records".to_owned()),
        }
    }
}

/// All that is parked, oldest first.
///
/// # Errors
/// The store cannot be read.
pub fn list(store: &impl CursorStore) -> Result<Vec<ParkedChange>, SettledError> {
    Ok(chosen(store, &Which::All)?.iter().map(ParkedChange::from).collect())
}

/// Those that are meant, oldest first.
///
/// # Errors
/// The store cannot be read.
pub fn chosen(store: &impl CursorStore, which: &Which) -> Result<Vec<Parked>, SettledError> {
    let mut parked = store.parked()?;
    parked.retain(|parked| which.chooses(parked));
    parked.sort_unstable_by(|a, b| (a.version, &a.id).cmp(&(b.version, &b.id)));
    Ok(parked)
}

/// Those that are meant, with their rows.
///
/// # Errors
/// The store cannot be read.
pub fn show(store: &impl CursorStore, which: &Which, rules: &Rules) -> Result<Vec<Shown>, SettledError> {
    let mut shown = Vec::new();
    for parked in chosen(store, which)? {
        // Settled since it was listed.
        let Some(row) = store.parked_row(&parked.table, &parked.id)? else { continue };
        shown.push(Shown { change: ParkedChange::from(&parked), body: document(parked.op, &row, rules) });
    }
    Ok(shown)
}

fn document(op: Op, ParkedRow { schema, row }: &ParkedRow, rules: &Rules) -> String {
    let mut body = Vec::new();
    let written = TableMapping::with_rules(schema, rules)
        .and_then(|mapping| mapping.document(op, Row::new(row), &mut body));
    match written {
        Ok(()) => String::from_utf8_lossy(&body).into_owned(),
        Err(error) => serde_json::json!({"error": error.to_string()}).to_string(),
    }
}

/// What the routes work on.
#[derive(Debug)]
pub struct Room {
    pub store: SledCursor,
    pub rules: Rules,
    pub orders: ParkedOrders,
}

/// The routes of the control socket.
pub(super) fn routes(room: Room) -> Router {
    Router::new()
        .route("/parked", get(list_all))
        .route("/parked/show", post(show_some))
        .route("/parked/retry", post(retry))
        .route("/parked/drop", post(forget))
        .with_state(Arc::new(room))
}

async fn list_all(State(room): State<Arc<Room>>) -> Response {
    answer(list(&room.store))
}

async fn show_some(State(room): State<Arc<Room>>, body: Bytes) -> Response {
    match meant(&body) {
        Ok(which) => answer(show(&room.store, &which, &room.rules)),
        Err(why) => (StatusCode::BAD_REQUEST, why).into_response(),
    }
}

async fn retry(State(room): State<Arc<Room>>, body: Bytes) -> Response {
    carry_out(&room, &body, ParkedOrder::Retry).await
}

async fn forget(State(room): State<Arc<Room>>, body: Bytes) -> Response {
    carry_out(&room, &body, ParkedOrder::Drop).await
}

async fn carry_out(room: &Room, body: &[u8], order: impl FnOnce(Which) -> ParkedOrder) -> Response {
    let order = match meant(body) {
        Ok(which) => order(which),
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    match tokio::time::timeout(PATIENCE, room.orders.ask(order)).await {
        Ok(Some(fates)) => answer(Ok(fates.into_iter().map(Told::from).collect::<Vec<_>>())),
        Ok(None) => {
            let why = "the indexer has stopped, and the relay's log says why; `everrelay parked ls` shows what is parked now";
            (StatusCode::CONFLICT, why).into_response()
        }
        Err(_) => {
            let why = format!(
                "not done within {PATIENCE:?}: the search engine may be away, or a table's older documents are being deleted. What was begun \
                 goes on: `everrelay parked ls` shows what is still parked"
            );
            (StatusCode::GATEWAY_TIMEOUT, why).into_response()
        }
    }
}

fn meant(body: &[u8]) -> Result<Which, String> {
    serde_json::from_slice::<Meant>(body).map_err(|error| error.to_string())?.which()
}

pub(super) fn answer<T: Serialize>(result: Result<T, SettledError>) -> Response {
    let failed = |error: String| (StatusCode::INTERNAL_SERVER_ERROR, error).into_response();
    match result.map(|value| serde_json::to_string(&value)) {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error)) => failed(error.to_string()),
        Err(error) => failed(error.to_string()),
    }
}
