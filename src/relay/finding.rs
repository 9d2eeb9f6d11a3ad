//! Looking for the indices of tables that were not met in this run, beside everything else.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::DeliverError;
use super::learning::{patiently, ready_if_there};
use crate::event::TableName;
use crate::event::document::IndexSpec;
use crate::lifecycle::Readiness;
use crate::sink::{Expect, Index, Sink};

/// An index that was looked for, or why there is none to write to.
#[derive(Debug)]
pub struct Found {
    pub table: TableName,
    pub alias: String,
    pub index: Result<Option<Index>, DeliverError>,
}

/// What is looked for.
#[derive(Debug, Default)]
pub struct Finding {
    tasks: JoinSet<Found>,
}

impl Finding {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Looks for an index, for as long as it takes; where a table has many it is made ready to be written to, if it is there.
    pub fn begin<K: Sink>(
        &mut self,
        (table, spec, expect): (TableName, IndexSpec, Expect),
        sink: &Arc<K>,
        readiness: &Readiness,
    ) {
        let (sink, readiness) = (Arc::clone(sink), readiness.clone());
        self.tasks.spawn(async move {
            let index = match spec.by_row {
                Some(_) => ready_if_there(&*sink, &readiness, &spec).await,
                None => patiently(&readiness, &spec.alias, || sink.find(&spec.alias, expect)).await,
            };
            Found { table, alias: spec.alias, index }
        });
    }

    /// Waits for an index that is looked for; for ever while none is. Cancel safe.
    pub async fn next(&mut self) -> Found {
        match self.tasks.join_next().await {
            Some(Ok(found)) => found,
            Some(Err(failed)) => std::panic::resume_unwind(Box::new(failed.to_string())),
            None => std::future::pending().await,
        }
    }
}
