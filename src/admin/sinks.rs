//! How far each sink is.

use serde::{Deserialize, Serialize};

use super::ParkedStatus;
use super::replay::ReplayStatus;
use crate::settled::{Cursor, Parked};

/// One sink's state, for `/status` and the `status` command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    pub name: String,
    /// The configuration names it; the log is kept for one that it does not name any more, too.
    pub configured: bool,
    /// Why it was stopped for good while others go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Everything up to here is settled in the search engine.
    pub cursor: u64,
    /// What stands up to here it does not need any more: below the cursor while documents are deleted.
    pub done: u64,
    /// Transactions settled in the search engine, of those that have GTIDs.
    pub gtids: String,
    /// Tables that a snapshot was read of, and whose documents without a row are being deleted.
    pub swept: Vec<String>,
    /// What the search engine refused, by table and reason: it has older versions of these documents, or none.
    pub parked: Vec<ParkedStatus>,
    /// The replay that goes on, or the last one.
    #[serde(default)]
    pub replay: Option<ReplayStatus>,
}

impl SinkStatus {
    /// By its cursor and what is parked.
    #[must_use]
    pub fn new(name: &str, configured: bool, cursor: &Cursor, parked: &[Parked]) -> SinkStatus {
        SinkStatus {
            name: name.to_owned(),
            configured,
            stopped: None,
            cursor: cursor.seq.0,
            done: cursor.done().0,
            gtids: cursor.gtids.to_string(),
            swept: cursor.sweeps.iter().map(|sweep| sweep.table.to_string()).collect(),
            parked: ParkedStatus::of(parked),
            replay: cursor.replay.as_ref().map(ReplayStatus::from),
        }
    }
}
