//! The write-ahead log: what it made visible it never loses and never changes.
//!
//! # Constraints
//!
//! - One process writes; readers of that process never see a byte past the last durable end of a transaction.
//! - A crash at any instant, power loss included, leaves a prefix of what was appended, ending with a whole transaction,
//!   and at least everything that was visible.
//! - The source's position is in the log itself, so the two cannot disagree.
//! - A transaction may be larger than memory; nothing here grows with it. Memory is one read buffer a reader, the schemas of the
//!   tables in use, some 70 bytes a segment, and an index of at most 4 MiB.
//! - A failed write or sync is final: see [`WriteError`].
//!
//! # Format
//!
//! A folder of segments `{first seq:020}.log`, a `LOCK`, and after a crash `.torn` files with what was cut. A segment is a header
//! (`segment`) and frames ([`record`]): first its [`State`](record::State), from which the log's
//! suffix recovers alone. docs/log-format.md has all of it in one place, with a reader in Python.
//!
//! # Operation
//!
//! [`open`] recovers (`recovery`), begins a new segment, and hands out the one [`Writer`] and a [`Log`] that can be
//! cloned. The writer appends batches, and [`Writer::sync`] makes them durable and then [`Visible`]. [`Log::reader`] follows from any
//! retained frame; [`Log::seek_time`] and [`Log::seek_gtid`] say which; [`Log::read_at`] reads a frame again; [`Log::retain`] removes what nobody needs. [`read_only`]
//! looks at a log beside the process that writes it.
//!
//! | file | idea |
//! |---|---|
//! | [`record`] | what frames say; [`record::Batch`]: frames in the making |
//! | `frame` | a frame's head: filled in, checked |
//! | `segment` | a segment's header, name and birth |
//! | `scan` | the frames of one file, in big reads |
//! | `recovery` | where a log found on disk ends, and cutting it there |
//! | [`cut`] | cutting it back by hand, damaged or not |
//! | [`verify`] | checking all of it, damaged or not |
//! | `open` | from folder to writer and log |
//! | `standing` | [`Standing`]: where the source goes on from, and what is owed |
//! | [`prepared`] | XA transactions that are not decided yet |
//! | [`snapshot`] | snapshots of tables that are not over yet |
//! | [`followed`] | which tables the source follows |
//! | `writer` | append, abandon |
//! | `writer::held` | rows of XA transactions: held, copied when they count, carried forward |
//! | `writer::segments` | from one segment to the next, and back |
//! | `writer::admit` | whether there is room for a batch |
//! | `writer::sync` | a sync that goes on while more is appended |
//! | `shared` | [`Log`]: what everybody but the writer holds |
//! | `index` | where frames stand, as far as somebody passed them |
//! | `reader` | frames in order, up to what is visible |
//! | `seek` | from a time or a GTID to a frame |
//! | `retention` | removing segments |
//! | `held` | what undecided XA transactions keep from being removed |
//! | `quota` | what the log may take, and what happens at the end of it |
//! | `error` | what can go wrong, and what to do |

pub mod cut;
mod error;
pub mod followed;
mod frame;
mod held;
mod index;
mod open;
pub mod prepared;
mod quota;
mod reader;
pub mod record;
mod recovery;
mod retention;
mod scan;
mod seek;
mod segment;
mod shared;
pub mod snapshot;
mod standing;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

pub use error::{Corrupt, OpenError, ReadError, RetainError, SeekError, Step, WriteError};
pub use frame::{MAX_PAYLOAD, Problem};
pub use open::{NOT_BEFORE_MICROS, Opened, ReadOnly, open, read_only};
pub use quota::{Limits, Quota, Shortage, ShortageKind, Space};
pub use reader::{Frame, Reader};
pub use recovery::{Cut, Recovered, Torn};
pub use retention::{Needed, Retained};
pub use segment::{FORMAT, LOCK};
pub use shared::{Log, SegmentInfo, Stats};
pub use standing::{Gap, MAX_GAPS, MAX_SHAPE_BYTES, Noted, Shape, Standing};
pub use writer::{Syncing, Writer};

use std::time::Duration;

use bincode::{Decode, Encode};

use crate::event::{Seq, Version};

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// A segment is closed before it grows over this, bytes; a single larger frame gets one of its own.
    pub segment_bytes: u64,
    /// Longest payload of a change that is written, at most [`MAX_PAYLOAD`], bytes.
    pub max_frame_bytes: u64,
    pub retention: Retention,
    pub quota: Quota,
    /// What is left free on the disk, bytes: a new segment's head, what recovery and the cursor beside the log may need, and what others
    /// write between a look and a write.
    pub keep_free_bytes: u64,
    /// Versions begin above this one: it may have been sent by a later state of this folder, or by another.
    pub versions_above: Version,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        // The largest row is 64 MiB; its names, keys and JSON text may add a little.
        LogOptions {
            segment_bytes: 128 << 20,
            max_frame_bytes: 72 << 20,
            retention: Retention::default(),
            quota: Quota::default(),
            keep_free_bytes: 16 << 20,
            versions_above: Version(0),
        }
    }
}

/// How long segments stay that every cursor has passed, so that they can be replayed: until either is exceeded.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Since the segment was closed.
    pub age: Duration,
    /// Sum of such segments, bytes.
    pub bytes: u64,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention { age: Duration::from_secs(24 * 60 * 60), bytes: 16 << 30 }
    }
}

/// A frame's place: valid for as long as its segment is retained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Location {
    /// First seq of the segment.
    pub segment: Seq,
    /// In the segment's file, bytes.
    pub offset: u64,
}

/// How far the log may be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    /// The last commit or mark that is durable. A log without one, and one just opened: the last frame before the first that can
    /// be written.
    pub seq: Seq,
    /// Where that frame ends.
    pub end: Location,
    /// The server's time of it, microseconds since 1970 UTC; 0 where it is not known.
    pub time_micros: u64,
    /// Commits and marks that became visible since the log was opened.
    pub commits: u64,
    /// Bytes appended since the log was opened, abandoned ones included, headers and states of segments not.
    pub bytes: u64,
}
