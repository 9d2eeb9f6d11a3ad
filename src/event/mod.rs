//! What flows through the relay, in nobody's dialect: sequence numbers and document versions, table schemas, row
//! values and their bytes, GTID sets, and the documents that come out at the other end.
//!
//! Every room above speaks these types; none of them knows MySQL or Elasticsearch.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | [`Seq`], [`Version`], [`TableNo`], [`Op`], [`Stamp`] |
//! | [`schema`] | [`TableSchema`]: a table's columns and key |
//! | [`value`] | [`Value`]: one column of one row |
//! | [`codec`] | rows as bytes: [`codec::RowWriter`], [`codec::Row`] |
//! | [`wkb`] | a geometry's bytes, walked over |
//! | [`gtid`] | [`Gtid`], [`GtidSet`] |
//! | [`xid`] | [`Xid`]: the names of XA transactions |
//! | [`pattern`] | patterns over table names |
//! | [`document`] | [`document::IndexSpec`], [`document::Verb`]: what a sink is given |

pub mod codec;
pub mod document;
pub mod gtid;
pub mod pattern;
pub mod schema;
pub mod value;
pub mod wkb;
pub mod xid;

pub use gtid::{Gtid, GtidSet};
pub use schema::{Column, ColumnType, TableName, TableSchema};
pub use value::Value;
pub use xid::Xid;

use bincode::{Decode, Encode};

/// Sequence number of a log frame: dense, +1 per frame of whatever kind, never reused once visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Seq(pub u64);

impl Seq {
    /// The next frame's number.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }

    /// The previous frame's number; 0 stays 0.
    #[must_use]
    pub fn previous(self) -> Seq {
        Seq(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for Seq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// External version of a document: a segment's version base plus the change's [`Seq`]; rises through the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// How far above the versions that a log gave a sink may say that it writes. Each opening of a log leaves as much free below its own versions.
/// Few enough that a folder that is opened again and again does not outrun the clock (65 ms each time), which a folder begun anew takes its versions from; at 200,000
/// changes a second it is said three times a second.
pub const VERSIONS_AHEAD: u64 = 1 << 16;

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Number that a writing process gives to one version of one table's schema. It is valid within a log segment:
/// each segment repeats a schema before its first use there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TableNo(pub u32);

/// Whose transaction a change is of, where the change itself says so.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Stamp {
    /// The server's commit time, microseconds since 1970 UTC.
    pub time_micros: u64,
    /// `None` where the source gives none.
    pub gtid: Option<Gtid>,
}

/// What a change did to its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Op {
    /// A new row: the row's after-image.
    Insert,
    /// A changed row under the same key: the row's after-image.
    Update,
    /// A row whose key changed: the after-image, followed by the key columns of the before-image.
    Rekey,
    /// A deleted row: the row's before-image.
    Delete,
    /// A deleted row of which no more is known than its key: the key columns' values, in key order.
    Tombstone,
    /// A row that SELECT found: the row.
    Read,
}

impl Op {
    /// By its number; `None` for one that there is not.
    #[inline]
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Op> {
        [Op::Insert, Op::Update, Op::Rekey, Op::Delete, Op::Tombstone, Op::Read]
            .get(usize::from(byte))
            .copied()
    }
}
