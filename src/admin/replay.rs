//! The replay, as the control socket, `/status` and the commands show it.
//!
//! Below `/sink/NAME`:
//!
//! | route | body, JSON | answer, JSON |
//! |---|---|---|
//! | `GET /replay` | | the replay that goes on, or the last one, as a [`ReplayStatus`]; `null` where there was none |
//! | `POST /replay` | [`Asked`] | the same: it was begun |
//! | `POST /replay/cancel` | | the same: it was given up |
//! | `GET /indices` | | the aliases behind which the sink has documents, as its cursor knows them |
//!
//! 409 with why not in words, 504 where the indexer takes too long: the order is withdrawn then, unless it was taken already.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::control::PATIENCE;
use super::parked::answer;
use crate::event::Seq;
use crate::relay::replay::orders::{ReplayOrder, ReplayOrders};
use crate::settled::{CursorStore, HowEnded, Replay, Replayed, SledCursor};

/// Which documents are to be sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Those that this record touched, or a later one,
    pub from: u64,
    /// before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<u64>,
    /// Of tables by these patterns; none: all.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Only behind these aliases, with `*` and `?`, or in these indices; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indices: Vec<String>,
}

/// How far a replay is, or what became of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplayStatus {
    /// Each has the next one.
    pub number: u64,
    pub state: ReplayState,
    /// Why it could not go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// The range's first record, and its last.
    pub from: u64,
    pub to: u64,
    pub tables: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indices: Vec<String>,
    /// When it was ordered, microseconds since 1970 UTC, as the next.
    pub since_micros: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_micros: Option<u64>,
    /// How much of it is done, 0 to 1, about; less after a restart, which makes the first pass anew.
    pub part: f64,
    /// Documents that were indexed, and deleted again.
    pub indexed: u64,
    pub deleted: u64,
    /// A newer change came meanwhile and was sent in its turn.
    pub overtaken: u64,
    /// The engine has a version of them that this log did not give: they are not what their rows are.
    pub conflicts: u64,
    /// The engine refused them: `everrelay parked ls`.
    pub parked: u64,
    /// Of tables without an index: left out.
    pub without_index: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayState {
    /// It finds out which changes are the newest.
    #[default]
    Reading,
    Sending,
    Done,
    Cancelled,
    Failed,
}

impl From<&Replay> for ReplayStatus {
    fn from(replay: &Replay) -> ReplayStatus {
        let is_noted = replay.horizon > Seq(0) && replay.noted >= replay.horizon;
        let (state, details) = match replay.ended.as_ref().map(|ended| &ended.how) {
            None if is_noted => (ReplayState::Sending, None),
            None => (ReplayState::Reading, None),
            Some(HowEnded::Done) => (ReplayState::Done, None),
            Some(HowEnded::Cancelled) => (ReplayState::Cancelled, None),
            Some(HowEnded::Failed(why)) => (ReplayState::Failed, Some(why.clone())),
        };
        let Replayed { indexed, deleted, overtaken, conflicts, parked, without_index } = replay.counts;
        ReplayStatus {
            number: replay.number,
            state,
            details,
            from: replay.from.0,
            to: replay.end.previous().0,
            tables: replay.tables.clone(),
            indices: replay.indices.clone(),
            since_micros: replay.since_micros,
            ended_micros: replay.ended.as_ref().map(|ended| ended.micros),
            part: if state == ReplayState::Done { 1.0 } else { part(replay) },
            indexed,
            deleted,
            overtaken,
            conflicts,
            parked,
            without_index,
        }
    }
}

impl ReplayStatus {
    #[must_use]
    pub fn is_going(&self) -> bool {
        matches!(self.state, ReplayState::Reading | ReplayState::Sending)
    }
}

/// Of the hashes, by halves of the two passes.
fn part(replay: &Replay) -> f64 {
    let all = replay.horizon.0.saturating_sub(replay.from.previous().0).max(1) as f64;
    let of_log = |at: Seq| at.0.saturating_sub(replay.from.previous().0) as f64 / all;
    let passes = (of_log(replay.noted) + of_log(replay.place)).min(2.0) / 2.0;
    let word = |words: [u64; 2]| words[0] as f64 / u64::MAX as f64;
    let (first, last) = (word(replay.slice.0), word(replay.slice.1));
    first + (last - first) * passes
}

/// What the routes work on.
#[derive(Debug)]
pub struct Room {
    pub store: SledCursor,
    pub orders: ReplayOrders,
}

/// The routes of the control socket.
pub(super) fn routes(room: Room) -> Router {
    Router::new()
        .route("/replay", get(show).post(begin))
        .route("/replay/cancel", post(cancel))
        .route("/indices", get(indices))
        .with_state(Arc::new(room))
}

async fn show(State(room): State<Arc<Room>>) -> Response {
    let replay = room.store.load().map(|cursor| cursor.and_then(|cursor| cursor.replay));
    answer(replay.map(|replay| replay.as_ref().map(ReplayStatus::from)))
}

async fn indices(State(room): State<Arc<Room>>) -> Response {
    let cursor = room.store.load().map(Option::unwrap_or_default);
    answer(cursor.map(|cursor| cursor.indices.into_keys().collect::<Vec<_>>()))
}

async fn begin(State(room): State<Arc<Room>>, body: Bytes) -> Response {
    match serde_json::from_slice::<Asked>(&body) {
        Ok(Asked { from, end, tables, indices }) => {
            let (from, end) = (Seq(from), end.map(Seq));
            carry_out(&room, ReplayOrder::Begin { from, end, tables, indices }).await
        }
        Err(why) => (StatusCode::BAD_REQUEST, why.to_string()).into_response(),
    }
}

async fn cancel(State(room): State<Arc<Room>>) -> Response {
    carry_out(&room, ReplayOrder::Cancel).await
}

async fn carry_out(room: &Room, order: ReplayOrder) -> Response {
    match tokio::time::timeout(PATIENCE, room.orders.ask(order)).await {
        Ok(Some(Ok(replay))) => answer(Ok(ReplayStatus::from(&replay))),
        Ok(Some(Err(refused))) => (StatusCode::CONFLICT, refused).into_response(),
        Ok(None) => {
            let why = "the indexer has stopped, and the relay's log says why";
            (StatusCode::CONFLICT, why).into_response()
        }
        Err(_) => {
            let why = format!(
                "the indexer did not take the order within {PATIENCE:?}: the search engine may be away. `everrelay status` shows what goes on"
            );
            (StatusCode::GATEWAY_TIMEOUT, why).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_says_how_much_of_it_is_done() {
        let mut replay = Replay {
            number: 1,
            from: Seq(101),
            end: Seq(151),
            tables: Vec::new(),
            indices: Vec::new(),
            since_micros: 5,
            slice: ([0; 2], [u64::MAX; 2]),
            place: Seq(100),
            horizon: Seq(0),
            noted: Seq(0),
            counts: Replayed::default(),
            ended: None,
        };
        let at = |replay: &Replay| {
            let ReplayStatus { state, part, .. } = ReplayStatus::from(replay);
            (state, (part * 100.0).round())
        };
        assert_eq!(at(&replay), (ReplayState::Reading, 0.0));
        (replay.horizon, replay.noted) = (Seq(200), Seq(150));
        assert_eq!(at(&replay), (ReplayState::Reading, 25.0));
        (replay.noted, replay.place) = (Seq(200), Seq(150));
        assert_eq!(at(&replay), (ReplayState::Sending, 75.0));
        replay.slice.0[0] = u64::MAX / 2;
        assert_eq!(at(&replay), (ReplayState::Sending, 88.0), "of the second half of them");
        replay.ended = Some(crate::settled::Ended { micros: 7, how: HowEnded::Failed("so".into()) });
        assert_eq!(at(&replay).0, ReplayState::Failed);
    }
}
