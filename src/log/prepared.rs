//! XA transactions between PREPARE and decision, as commits and marks tell of them and the [`Standing`](super::Standing) keeps them.
//!
//! Rows of an XA transaction come at its PREPARE, with a GTID of its own, and count only with its XA COMMIT, which may come days later or never. Until then
//! they are *held*: frames of kind `prepared`, ended by a commit that names the transaction ([`Xa::Prepared`]). The commit
//! that decides it ([`Xa::Decided`]) stands behind copies of them as changes, or behind nothing where it was rolled back.

use bincode::{Decode, Encode};

use super::Location;
use crate::event::{Gtid, Seq, Xid};

/// What a commit or mark says of one XA transaction.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Xa {
    /// It is prepared. The same one again: its rows are held elsewhere now.
    Prepared(Prepared),
    Decided {
        xid: Xid,
        outcome: Outcome,
    },
}

/// How an XA transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Outcome {
    Committed,
    RolledBack,
}

/// An XA transaction that is prepared and not decided.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Prepared {
    pub xid: Xid,
    /// Of its PREPARE; `None` where the source gives none.
    pub gtid: Option<Gtid>,
    /// The server's time of its PREPARE, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
    /// `None`: it has no rows of followed tables. Sources leave it so; the writer knows.
    pub held: Option<Held>,
}

/// Where rows are held: frames of one transaction, with every schema that they need among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Held {
    /// The first frame.
    pub first: Seq,
    pub at: Location,
    /// The last frame.
    pub last: Seq,
    /// How many of them are rows.
    pub rows: u64,
    /// What they take of the log, bytes; heads and states of segments in between are counted with them.
    pub bytes: u64,
}

/// Takes in what became known of an XA transaction. `prepared`: those that are undecided, by xid.
pub(super) fn take(prepared: &mut Vec<Prepared>, xa: Xa) {
    let xid = match &xa {
        Xa::Prepared(new) => &new.xid,
        Xa::Decided { xid, .. } => xid,
    };
    match (prepared.binary_search_by(|known| known.xid.cmp(xid)), xa) {
        (Ok(place), Xa::Prepared(new)) => prepared[place] = new,
        (Err(place), Xa::Prepared(new)) => prepared.insert(place, new),
        (Ok(place), Xa::Decided { .. }) => drop(prepared.remove(place)),
        (Err(_), Xa::Decided { .. }) => {}
    }
}
