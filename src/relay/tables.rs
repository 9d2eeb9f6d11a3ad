//! The tables that the deliver side has met: mapping and index of each, made ready before the first document needs them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::error::DeliverError;
use crate::backoff::Backoff;
use crate::event::{TableName, TableNo, TableSchema};
use crate::lifecycle::Readiness;
use crate::log::record::SchemaRecord;
use crate::mapping::TableMapping;
use crate::settled::IndexId;
use crate::sink::{Index, IndexNo, Sink, SinkError};

/// A table whose index is ready.
#[derive(Debug)]
pub struct Table {
    pub mapping: TableMapping,
    pub index: Index,
}

/// Tables by the number that the segment being read gives them.
#[derive(Debug)]
pub struct Tables {
    by_no: HashMap<TableNo, Arc<Table>>,
    by_name: HashMap<TableName, (TableSchema, Arc<Table>)>,
    /// The index that each alias stood for when the cursor was last committed.
    indices: BTreeMap<String, IndexId>,
}

impl Tables {
    #[must_use]
    pub fn new(indices: BTreeMap<String, IndexId>) -> Tables {
        Tables { by_no: HashMap::new(), by_name: HashMap::new(), indices }
    }

    #[must_use]
    pub fn get(&self, no: TableNo) -> Option<&Arc<Table>> {
        self.by_no.get(&no)
    }

    /// The concrete name of an index, for messages.
    #[must_use]
    pub fn index_name(&self, no: IndexNo) -> String {
        let index = self.by_name.values().map(|(_, table)| &table.index).find(|index| index.no == no);
        index.map_or_else(|| format!("index number {}", no.0), |index| index.name.clone())
    }

    /// What to keep with the cursor.
    #[must_use]
    pub fn indices(&self) -> &BTreeMap<String, IndexId> {
        &self.indices
    }

    /// Makes the table of a schema frame ready; waits for the engine for as long as it takes.
    ///
    /// # Errors
    /// The table cannot be mapped, the engine refuses its index for good, or the index is not the one that the cursor speaks of.
    pub async fn learn<K: Sink>(
        &mut self,
        record: SchemaRecord,
        sink: &K,
        readiness: &Readiness,
    ) -> Result<(), DeliverError> {
        let SchemaRecord { table: no, schema } = record;
        if let Some((known, table)) = self.by_name.get(&schema.name)
            && *known == schema
        {
            self.by_no.insert(no, Arc::clone(table));
            return Ok(());
        }
        let mapping = TableMapping::new(&schema)?;
        let index = ensure(&mapping, sink, readiness).await?;
        self.check_identity(&mapping.spec().alias, &index)?;
        let table = Arc::new(Table { mapping, index });
        self.by_no.insert(no, Arc::clone(&table));
        self.by_name.insert(schema.name.clone(), (schema, table));
        Ok(())
    }

    /// An index deleted, re-created or rolled back under us has lost what the cursor calls settled.
    fn check_identity(&mut self, alias: &str, index: &Index) -> Result<(), DeliverError> {
        let found = IndexId { name: index.name.clone(), uuid: index.uuid.clone() };
        match self.indices.get(alias) {
            Some(stored) if *stored != found => Err(DeliverError::OtherIndex {
                alias: alias.to_owned(),
                stored: describe(stored),
                found: describe(&found),
            }),
            Some(_) => Ok(()),
            None => {
                self.indices.insert(alias.to_owned(), found);
                Ok(())
            }
        }
    }
}

async fn ensure<K: Sink>(
    mapping: &TableMapping,
    sink: &K,
    readiness: &Readiness,
) -> Result<Index, DeliverError> {
    let mut backoff = Backoff::new();
    loop {
        match sink.ensure(mapping.spec()).await {
            Ok(index) => {
                if readiness.clear("sink") {
                    tracing::info!("the search engine answers again");
                }
                return Ok(index);
            }
            Err(SinkError::Definite(error)) => return Err(DeliverError::Sink(error)),
            Err(SinkError::Transient(error)) => {
                let delay = backoff.next_delay();
                if readiness.obstacle("sink", error.to_string()) {
                    tracing::warn!(%error, "waiting for the search engine");
                }
                tokio::time::sleep(delay).await;
            }
        }
    }
}

fn describe(index: &IndexId) -> String {
    format!("{} (uuid {})", index.name.escape_debug(), index.uuid.escape_debug())
}
