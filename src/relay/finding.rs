//! Looking for the indices of tables that were not met in this run, beside everything else.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::DeliverError;
use super::learning::patiently;
use crate::event::TableName;
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

    /// Looks for the index of a table, for as long as it takes.
    pub fn begin<K: Sink>(
        &mut self,
        (table, alias, expect): (TableName, String, Expect),
        sink: &Arc<K>,
        readiness: &Readiness,
    ) {
        let (sink, readiness) = (Arc::clone(sink), readiness.clone());
        self.tasks.spawn(async move {
            let index = patiently(&readiness, &alias, || sink.find(&alias, expect)).await;
            Found { table, alias, index }
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
