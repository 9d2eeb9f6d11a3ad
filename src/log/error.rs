//! What can go wrong with the log, and what an operator can do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Location;
use super::frame::Problem;
use crate::event::Seq;

/// What was being done to a file or folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Create,
    Open,
    List,
    Lock,
    Read,
    Write,
    Sync,
    Rename,
    Truncate,
    Remove,
    /// Asking how much is free.
    Measure,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Create => "create",
            Step::Open => "open",
            Step::List => "list",
            Step::Lock => "lock",
            Step::Read => "read",
            Step::Write => "write",
            Step::Sync => "sync",
            Step::Rename => "rename",
            Step::Truncate => "truncate",
            Step::Remove => "remove",
            Step::Measure => "measure the room beside",
        })
    }
}

/// A frame that should be there and is not, or is not whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "frame {seq} of the log is damaged, at offset {offset} of {path:?}: {problem}. Nothing was changed. \
     `everrelay log verify` lists all that is damaged. `everrelay log cut --after {}` keeps what stands before it and has the rest read \
     again from the server; or restore the whole state folder from a copy",
    seq.previous()
)]
pub struct Corrupt {
    pub path: PathBuf,
    /// Where the frame begins in the file, bytes.
    pub offset: u64,
    pub seq: Seq,
    pub problem: Problem,
}

/// The log cannot be opened. Every one of these is definite, and none of them was preceded by a change to the log, save
/// `Io`, before which a recovery may have cut what it was about to cut.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path:?} is locked: another everrelay process has this log open. Stop it, or give this one a state folder of its own"
    )]
    Locked { path: PathBuf },
    #[error(
        "cannot {step} {path:?}: {source}. Mend what the system complains of (space, permissions, the disk) and start again"
    )]
    Io { step: Step, path: PathBuf, source: io::Error },
    #[error(
        "the clock reads {now_micros} microseconds since 1970, which is before this program was written. Versions of documents \
         are taken from it: set the clock and start again"
    )]
    Clock { now_micros: u64 },
    #[error(
        "{path:?} has format {found}, and this program knows format {known} alone. Start the everrelay that wrote it, or a newer one"
    )]
    Format { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{path:?} is no usable segment: {why}. Restore the whole state folder from a copy, or let `everrelay log verify` say which \
         `everrelay log cut` keeps what stands before it and has the rest read again from the server"
    )]
    Header { path: PathBuf, why: &'static str },
    #[error("{dir:?} holds what is not part of a log: {}. Move it elsewhere and start again", names.join(", "))]
    Foreign { dir: PathBuf, names: Vec<String> },
    #[error(
        "{dir:?} does not hold one whole log: {path:?} {why}. Put back what is missing or belongs there, or let `everrelay log verify` \
         say which `everrelay log cut` keeps what stands before it and has the rest read again from the server. If a cut was \
         not finished, make the same cut again"
    )]
    Chain { dir: PathBuf, path: PathBuf, why: String },
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}

impl OpenError {
    pub(super) fn io(step: Step, path: &Path, source: io::Error) -> OpenError {
        OpenError::Io { step, path: path.to_path_buf(), source }
    }
}

/// The writer has stopped. It keeps the error: every later call returns it again, since what a file holds after a failed write or
/// sync is not known until the log is opened anew.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    #[error(
        "cannot {step} {path:?}: {source}. Nothing more is written; mend what the system complains of (space, permissions, the disk) and start again"
    )]
    Io { step: Step, path: PathBuf, source: Arc<io::Error> },
    #[error(
        "a change of {table} takes {bytes} bytes, and at most {limit} are allowed: raise max_row_bytes, or leave the table out"
    )]
    TooLarge { table: String, bytes: u64, limit: u64 },
    /// The log was drained as far as it can be: reading the transaction again would end in the same place.
    #[error(
        "the transaction after {after} does not fit into the log: it has {bytes} bytes so far, and with a quota of {quota} bytes the log \
         may take {second} while a transaction is open{}. Everything before it is kept and delivered, nothing of it is kept: raise [log] \
         quota_bytes and start again",
        held_for_people(*held)
    )]
    TransactionTooLarge {
        after: String,
        bytes: u64,
        quota: u64,
        second: u64,
        /// What undecided XA transactions hold, bytes.
        held: u64,
    },
    #[error(
        "rows of a prepared XA transaction cannot be read back to be written where they count: {source}. If nothing but them is damaged, \
         `everrelay log cut` after the log's last frame goes on without them, and their XA COMMIT marks the tables as needing a snapshot"
    )]
    Held { source: Arc<ReadError> },
    /// The source broke the rules of [`Batch`](super::record::Batch).
    #[error("frame {seq} cannot be written: {why}. This is a defect of everrelay: please report it")]
    Misuse { seq: Seq, why: &'static str },
}

impl WriteError {
    pub(super) fn held(error: ReadError) -> WriteError {
        let io = |step, path, source| WriteError::Io { step, path, source: Arc::new(source) };
        let held = |error| WriteError::Held { source: Arc::new(error) };
        match error {
            ReadError::Io { step, path, source, .. } => io(step, path, source),
            ReadError::Segment { path, source } => match *source {
                OpenError::Io { step, path, source } => io(step, path, source),
                other => held(ReadError::Segment { path, source: Box::new(other) }),
            },
            error => held(error),
        }
    }
}

fn held_for_people(bytes: u64) -> String {
    if bytes == 0 {
        return String::new();
    }
    format!(
        ", of which {bytes} are held by XA transactions that are prepared and not decided (XA RECOVER lists them)"
    )
}

/// The log cannot be read here.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(
        "frame {wanted} is no longer kept: the log starts with {start}. What is older is gone from it; `everrelay log ls` shows what is there"
    )]
    BelowRetained { wanted: Seq, start: Seq },
    #[error(
        "frame {wanted} was asked for, and the log ends with {visible}: it has lost its end, or belongs to another state folder. \
         Restore it, or remove the folder's cursor to send again everything that is kept"
    )]
    Ahead { wanted: Seq, visible: Seq },
    #[error(
        "cannot {step} {path:?} for frame {seq} at offset {offset}: {source}. If the disk is sound, start again"
    )]
    Io { step: Step, path: PathBuf, offset: u64, seq: Seq, source: io::Error },
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error("{path:?} cannot be used: {source}")]
    Segment { path: PathBuf, source: Box<OpenError> },
    #[error("no frame begins at offset {} of segment {}: {problem}. The file is not what it was when the log was opened", at.offset, at.segment)]
    Nowhere { at: Location, problem: Problem },
}

/// A place that was asked for by time or GTID.
#[derive(Debug, thiserror::Error)]
pub enum SeekError {
    #[error(
        "{wanted} is not kept whole: the log starts with frame {start}, and below that lies {below}. `everrelay log ls` shows what is there"
    )]
    BelowRetained { wanted: String, start: Seq, below: String },
    #[error(
        "{wanted} is not in the log, which ends with frame {end}. `everrelay log ls` shows what is there"
    )]
    AboveEnd { wanted: String, end: Seq },
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A segment could not be removed; the log is whole, and retention rests until the next start.
#[derive(Debug, thiserror::Error)]
pub enum RetainError {
    #[error(
        "cannot {step} {path:?}: {source}. The log is whole; mend what the system complains of and start again"
    )]
    Io { step: Step, path: PathBuf, source: io::Error },
    #[error("removing segments failed before; it is tried again after a restart")]
    Stopped,
    #[error("this log is open for reading alone")]
    ReadOnly,
}
