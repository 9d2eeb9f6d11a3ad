//! What a check finds, in words.

use std::fmt;
use std::path::PathBuf;

use crate::event::Seq;
use crate::log::error::Corrupt;
use crate::log::frame::Problem;

/// One thing that a check came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A file that is not part of a log.
    Foreign { path: PathBuf },
    /// A segment whose header is not usable: nothing in it can be read.
    Header { path: PathBuf, why: String },
    /// A segment that does not follow the one before it.
    Chain { path: PathBuf, why: String },
    /// The disk does not give what is there.
    Unreadable { path: PathBuf, offset: u64, why: String },
    /// A frame that is not whole. What stands behind it in its segment was not checked.
    Frame { path: PathBuf, offset: u64, seq: Seq, problem: Problem, unread_bytes: u64 },
    /// A whole frame that says what cannot be. Payloads behind it in its segment were not checked.
    Content { path: PathBuf, offset: u64, seq: Seq, why: String },
    /// No damage: bytes behind the log's end that the next start cuts.
    TornTail { path: PathBuf, offset: u64, bytes: u64 },
    /// No damage: a transaction without its commit, under way or cut by the next start.
    OpenTransaction { since: Seq, frames: u64 },
    /// No damage: left behind by the making of a segment.
    Leftover { path: PathBuf },
}

impl Finding {
    /// Whether the log is not what it should be.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        !matches!(self, Finding::TornTail { .. } | Finding::OpenTransaction { .. } | Finding::Leftover { .. })
    }

    /// A word for machines.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Finding::Foreign { .. } => "foreign",
            Finding::Header { .. } => "header",
            Finding::Chain { .. } => "chain",
            Finding::Unreadable { .. } => "unreadable",
            Finding::Frame { .. } => "frame",
            Finding::Content { .. } => "content",
            Finding::TornTail { .. } => "torn_tail",
            Finding::OpenTransaction { .. } => "open_transaction",
            Finding::Leftover { .. } => "leftover",
        }
    }

    /// The file that it is in.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Finding::Foreign { path }
            | Finding::Header { path, .. }
            | Finding::Chain { path, .. }
            | Finding::Unreadable { path, .. }
            | Finding::Frame { path, .. }
            | Finding::Content { path, .. }
            | Finding::TornTail { path, .. }
            | Finding::Leftover { path } => Some(path),
            Finding::OpenTransaction { .. } => None,
        }
    }

    /// Where in the file, bytes.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        match self {
            Finding::Unreadable { offset, .. }
            | Finding::Frame { offset, .. }
            | Finding::Content { offset, .. }
            | Finding::TornTail { offset, .. } => Some(*offset),
            _ => None,
        }
    }

    /// The frame that it is about.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Finding::Frame { seq, .. } | Finding::Content { seq, .. } => Some(*seq),
            Finding::OpenTransaction { since, .. } => Some(*since),
            _ => None,
        }
    }
}

impl From<Corrupt> for Finding {
    fn from(Corrupt { path, offset, seq, problem }: Corrupt) -> Finding {
        Finding::Frame { path, offset, seq, problem, unread_bytes: 0 }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Foreign { path } => write!(f, "{path:?} is not part of a log: move it elsewhere"),
            Finding::Header { path, why } => {
                write!(f, "{path:?} is no usable segment: {why}; nothing in it was checked")
            }
            Finding::Chain { path, why } => write!(f, "{path:?} {why}"),
            Finding::Unreadable { path, offset, why } => {
                write!(
                    f,
                    "{path:?} cannot be read at offset {offset}: {why}; what stands behind was not checked"
                )
            }
            Finding::Frame { path, offset, seq, problem, unread_bytes } => {
                write!(f, "frame {seq}, at offset {offset} of {path:?}: {problem}")?;
                if *unread_bytes > 0 {
                    write!(f, "; nothing behind it in its segment can be trusted ({unread_bytes} bytes)")?;
                }
                Ok(())
            }
            Finding::Content { path, offset, seq, why } => {
                write!(
                    f,
                    "frame {seq}, at offset {offset} of {path:?}: {why}; payloads behind it in its segment were not checked"
                )
            }
            Finding::TornTail { path, offset, bytes } => write!(
                f,
                "no damage: {bytes} bytes at offset {offset} of {path:?} are no whole frame; no sync covers them, and the next start cuts them"
            ),
            Finding::OpenTransaction { since, frames } => write!(
                f,
                "no damage: {frames} frames from {since} on are a transaction without its commit: it is under way, or the next start cuts it"
            ),
            Finding::Leftover { path } => {
                write!(
                    f,
                    "no damage: {path:?} is a segment in the making, or was left behind and the next start removes it"
                )
            }
        }
    }
}
