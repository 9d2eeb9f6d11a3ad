//! Indices that are made ready, or looked for, while reading waits.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::DeliverError;
use crate::backoff::Backoff;
use crate::event::document::IndexSpec;
use crate::event::{TableName, Version};
use crate::lifecycle::Readiness;
use crate::log::record::SchemaRecord;
use crate::mapping::TableMapping;
use crate::sink::{Expect, Index, Sink, SinkError};

/// An index that is being made ready or looked for, by a task that ends with it.
#[derive(Debug)]
pub struct Learning {
    pub(super) wanted: Wanted,
    task: JoinSet<Result<Option<Index>, DeliverError>>,
}

/// For what.
#[derive(Debug)]
pub(super) enum Wanted {
    /// All documents of a table.
    Table { record: SchemaRecord, version: Version, mapping: Box<TableMapping> },
    /// A document of a table with many.
    Index { table: TableName, alias: String, what: Sought, version: Version },
}

/// Why one of many indices is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought {
    /// It may be written to then.
    Ready,
    /// It need not be there.
    Found,
    /// The cursor knows it, and may forget it if it is gone.
    Anew,
}

impl Learning {
    /// Has an index made ready.
    pub(super) fn ensure<K: Sink>(
        wanted: Wanted,
        spec: IndexSpec,
        expect: Expect,
        (sink, readiness): (&Arc<K>, &Readiness),
    ) -> Learning {
        let (sink, readiness) = (Arc::clone(sink), readiness.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            patiently(&readiness, &spec.alias, || sink.ensure(&spec, expect)).await.map(Some)
        });
        Learning { wanted, task }
    }

    /// Has one looked for that may not be there.
    pub(super) fn find<K: Sink>(
        wanted: Wanted,
        alias: String,
        (sink, readiness): (&Arc<K>, &Readiness),
    ) -> Learning {
        let (sink, readiness) = (Arc::clone(sink), readiness.clone());
        let mut task = JoinSet::new();
        task.spawn(
            async move { patiently(&readiness, &alias, || sink.find(&alias, Expect::MaybeGone)).await },
        );
        Learning { wanted, task }
    }

    /// Waits for the index; `None`: there is none. Cancel safe; after it completed it waits for ever.
    ///
    /// # Errors
    /// The engine refuses the index for good.
    pub async fn index(&mut self) -> Result<Option<Index>, DeliverError> {
        match self.task.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(failed)) => std::panic::resume_unwind(Box::new(failed.to_string())),
            None => std::future::pending().await,
        }
    }
}

/// Waits for the index that is being made ready; for ever while there is none.
pub(super) async fn next_index(learning: &mut Option<Learning>) -> Result<Option<Index>, DeliverError> {
    match learning {
        Some(learning) => learning.index().await,
        None => std::future::pending().await,
    }
}

/// Asks the engine about the index of an alias for as long as it takes.
///
/// # Errors
/// The engine refuses it for good.
pub(super) async fn patiently<T, Asked: Future<Output = Result<T, SinkError>>>(
    readiness: &Readiness,
    alias: &str,
    ask: impl Fn() -> Asked,
) -> Result<T, DeliverError> {
    let mut backoff = Backoff::new();
    loop {
        match ask().await {
            Ok(answer) => {
                if readiness.clear(PART) {
                    tracing::info!(alias, "the index is ready");
                }
                return Ok(answer);
            }
            Err(SinkError::Definite(error)) => return Err(DeliverError::Sink(error)),
            Err(SinkError::Transient(error)) => {
                let delay = backoff.next_delay();
                if readiness.obstacle(PART, error.to_string()) {
                    tracing::warn!(%error, alias, "waiting for an index");
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

/// What an index being made ready is called in `/readyz`.
const PART: &str = "index";
