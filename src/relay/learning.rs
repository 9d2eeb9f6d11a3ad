//! What reading waits for: indices that are made ready or looked for.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::DeliverError;
use crate::backoff::Backoff;
use crate::event::document::{ByRow, IndexSpec};
use crate::event::{TableName, Version};
use crate::lifecycle::Readiness;
use crate::log::record::SchemaRecord;
use crate::mapping::TableMapping;
use crate::sink::{Expect, Index, Sink, SinkError};

/// Something that reading waits for, by a task that ends with it.
#[derive(Debug)]
pub struct Learning {
    pub(super) wanted: Wanted,
    task: JoinSet<Result<Learned, DeliverError>>,
}

/// What it came to.
#[derive(Debug)]
pub enum Learned {
    /// An index that may be written to; `None`: there is none.
    Index(Option<Index>),
    /// The aliases of a table's indices, as the engine has them.
    Aliases(Vec<String>),
}

/// For what.
#[derive(Debug)]
pub(super) enum Wanted {
    /// All documents of a table.
    Table { record: SchemaRecord, version: Version, mapping: Box<TableMapping> },
    /// A document of a table with many. `anew`: if it is gone it is to be made anew.
    Index { table: TableName, alias: String, version: Version, anew: bool },
    /// One index more of a table that had as many as it may have.
    Room { table: TableName, pattern: String },
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
        Learning::by(wanted, async move {
            let index = patiently(&readiness, &spec.alias, || sink.ensure(&spec, expect)).await?;
            Ok(Learned::Index(Some(index)))
        })
    }

    /// Has one made ready that may not be there.
    pub(super) fn find<K: Sink>(
        wanted: Wanted,
        spec: IndexSpec,
        (sink, readiness): (&Arc<K>, &Readiness),
    ) -> Learning {
        let (sink, readiness) = (Arc::clone(sink), readiness.clone());
        Learning::by(
            wanted,
            async move { Ok(Learned::Index(ready_if_there(&*sink, &readiness, &spec).await?)) },
        )
    }

    /// Asks which there are.
    pub(super) fn list<K: Sink>(
        wanted: Wanted,
        by_row: ByRow,
        (sink, readiness): (&Arc<K>, &Readiness),
    ) -> Learning {
        let (sink, readiness) = (Arc::clone(sink), readiness.clone());
        Learning::by(wanted, async move {
            let aliases = patiently(&readiness, &by_row.pattern, || sink.aliases(&by_row)).await?;
            Ok(Learned::Aliases(aliases))
        })
    }

    fn by(
        wanted: Wanted,
        task: impl Future<Output = Result<Learned, DeliverError>> + Send + 'static,
    ) -> Learning {
        Learning { wanted, task: JoinSet::from_iter([task]) }
    }

    /// Waits for it. Cancel safe; after it completed it waits for ever.
    ///
    /// # Errors
    /// The engine refuses the index for good.
    pub async fn learned(&mut self) -> Result<Learned, DeliverError> {
        match self.task.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(failed)) => std::panic::resume_unwind(Box::new(failed.to_string())),
            None => std::future::pending().await,
        }
    }
}

/// Makes an index ready that is there; makes none.
///
/// # Errors
/// The engine refuses it for good.
pub(super) async fn ready_if_there<K: Sink>(
    sink: &K,
    readiness: &Readiness,
    spec: &IndexSpec,
) -> Result<Option<Index>, DeliverError> {
    let found = patiently(readiness, &spec.alias, || sink.find(&spec.alias, Expect::MaybeGone)).await?;
    if found.is_none() {
        return Ok(None);
    }
    patiently(readiness, &spec.alias, || sink.ensure(spec, Expect::Existing)).await.map(Some)
}

/// Waits for what reading waits for; for ever while that is nothing.
pub(super) async fn next_learned(learning: &mut Option<Learning>) -> Result<Learned, DeliverError> {
    match learning {
        Some(learning) => learning.learned().await,
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
