//! Why a pipeline stopped. Every one of these is definite: what waiting mends is waited for.

use std::error::Error;

use crate::disk::ReserveError;
use crate::event::{Seq, TableName, TableNo, Version};
use crate::log::{ReadError, RetainError, WriteError};
use crate::mapping::MappingError;
use crate::settled::SettledError;

/// Why a pipeline stopped.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error(transparent)]
    Ingest(#[from] IngestError),
    #[error(transparent)]
    Deliver(#[from] DeliverError),
    #[error(transparent)]
    Retain(#[from] RetainError),
    #[error(transparent)]
    Cursor(#[from] SettledError),
    #[error(transparent)]
    Reserve(#[from] ReserveError),
}

/// Why the source side stopped.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("{0}")]
    Source(#[source] Box<dyn Error + Send + Sync>),
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Why the indexer stopped.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(
        "log record {seq} cannot be decoded ({problem}); run a version of everrelay that knows it, or `everrelay log cat --from {seq}`"
    )]
    Record { seq: Seq, problem: String },
    #[error(transparent)]
    Mapping(#[from] MappingError),
    #[error("{0}")]
    Sink(#[source] Box<dyn Error + Send + Sync>),
    #[error(
        "the alias {alias:?} stood for the index {stored} and now stands for {found}: what the cursor calls settled is not in it. \
         Point the alias back, or, to fill the new index from what the log still holds, stop everrelay, remove the cursor folder in the \
         state folder and start again; rows older than the log's start will be missing"
    )]
    OtherIndex { alias: String, stored: String, found: String },
    #[error(
        "the index {index} behind the alias {alias:?} has lost documents that it had taken: it was restored from a backup, or a shard of it was allocated from an old copy or empty. \
         To fill it again: move the folder `settled` out of the state folder, start everrelay and run `everrelay snapshot --all`"
    )]
    Rewound { alias: String, index: String },
    #[error(
        "the tables {first} and {second} would share the index alias {alias:?} (index names are lower case, and `index` of [[table]] may name one for both): \
         their documents would overwrite each other. Give each its own, or leave one of them out of [source] tables"
    )]
    SharedAlias { alias: String, first: TableName, second: TableName },
    #[error(
        "documents of the table {table} are behind the alias {stored:?}, and its rules now say {alias:?}: those that are there would stay as they are, \
         and nobody would delete them. Set `index` of [[table]] back; or, to move, delete them and start with a new state folder, or point an alias of \
         your own at the index and search by that"
    )]
    OtherAlias { table: TableName, stored: String, alias: String },
    #[error("the alias {alias} leads to no index")]
    NoIndex { alias: String },
    #[error(
        "the rows of table {table} ask for more than {most} indices ({aliases}), one for each value of what its `index` names: choose columns of few values, or a date of \
         coarser steps, in a new state folder"
    )]
    TooManyIndices { table: TableName, aliases: String, most: usize },
    #[error(
        "the search engine refused document {id} of {index:?} (log record {seq}) for good: {reason}. Nothing after it was skipped; mend the mapping or the row, then start again"
    )]
    Refused { index: String, id: String, seq: Seq, reason: String },
    #[error(
        "the search engine refused document {id} of {index:?} (log record {seq}): {reason}. It cannot be parked: {full}. Nothing was skipped. `everrelay parked ls` \
         says what was refused and why: mend the mapping or the rows, raise the limit or `everrelay parked drop` what is not needed, then start again and \
         `everrelay parked retry` the rest"
    )]
    ParkedFull { index: String, id: String, seq: Seq, reason: String, full: String },
    #[error(
        "document {id} of {index:?} has version {current}, above {highest}, the highest that this log ever gave: another writer is at work on this index. \
         Stop it, or write to an index of your own"
    )]
    ForeignWriter { index: String, id: String, current: Version, highest: Version },
    #[error(
        "the cursor stands at record {cursor}, but the log ends at {visible}: the log lost its end or the folders do not belong together. Restore the whole state folder; or, if the log lost its end, let `everrelay log cut --after {visible}` lower the cursor and have the rest read again from the server"
    )]
    CursorAhead { cursor: Seq, visible: Seq },
    #[error(
        "the cursor stands at record {cursor}, but the log starts at {start}: the records between are gone. Start with an empty state folder"
    )]
    CursorBehind { cursor: Seq, start: Seq },
    #[error(transparent)]
    Cursor(#[from] SettledError),
}

impl DeliverError {
    /// Whether it is about the log or the cursors, and no single sink's.
    #[must_use]
    pub fn is_of_the_state_folder(&self) -> bool {
        match self {
            DeliverError::Read(_)
            | DeliverError::Record { .. }
            | DeliverError::CursorAhead { .. }
            | DeliverError::CursorBehind { .. }
            | DeliverError::Cursor(_) => true,
            DeliverError::Sink(_)
            | DeliverError::OtherIndex { .. }
            | DeliverError::Rewound { .. }
            | DeliverError::Refused { .. }
            | DeliverError::ParkedFull { .. }
            | DeliverError::ForeignWriter { .. }
            | DeliverError::SharedAlias { .. }
            | DeliverError::OtherAlias { .. }
            | DeliverError::NoIndex { .. }
            | DeliverError::TooManyIndices { .. }
            | DeliverError::Mapping(_) => false,
        }
    }

    /// The record `seq` cannot be decoded.
    pub(super) fn undecodable(seq: Seq, error: &bincode::error::DecodeError) -> DeliverError {
        DeliverError::Record { seq, problem: error.to_string() }
    }

    /// The change `seq` names a table that nothing before it describes.
    pub(super) fn no_schema(seq: Seq, table: TableNo) -> DeliverError {
        DeliverError::Record {
            seq,
            problem: format!("no schema of table number {} stands before it", table.0),
        }
    }
}
