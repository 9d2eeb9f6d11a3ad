//! The tables that the deliver side has met: mapping and index of each, made ready before the first document needs them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::task::JoinSet;

use super::error::DeliverError;
use crate::backoff::Backoff;
use crate::event::{TableName, TableNo, TableSchema, Version};
use crate::lifecycle::Readiness;
use crate::log::record::SchemaRecord;
use crate::mapping::TableMapping;
use crate::mapping::rule::Rules;
use crate::settled::IndexId;
use crate::sink::{Expect, Index, IndexNo, Sink, SinkError};

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
    /// The one whose change was read last: most changes are of the same table as the one before.
    at_hand: Option<(TableNo, Arc<Table>)>,
    by_name: HashMap<TableName, (TableSchema, Arc<Table>)>,
    rules: Rules,
    /// The index that each alias stood for when the cursor was last committed.
    indices: BTreeMap<String, IndexId>,
    /// Indices that were looked at in this run, and whose they are.
    seen: HashMap<TableName, Index>,
    owners: HashMap<IndexNo, TableName>,
    /// Of tables whose index was made in this run: no document of it has a lower version.
    made: HashMap<TableName, Version>,
}

impl Tables {
    #[must_use]
    pub fn new(indices: BTreeMap<String, IndexId>, rules: Rules) -> Tables {
        Tables {
            by_no: HashMap::new(),
            at_hand: None,
            by_name: HashMap::new(),
            rules,
            indices,
            seen: HashMap::new(),
            owners: HashMap::new(),
            made: HashMap::new(),
        }
    }

    /// The table of this number, for as long as its change is worked on: [`Tables::put_back`] gives it back. Neither a look at the map nor the counting of
    /// holders, which costs more, is due for each change then.
    #[must_use]
    pub fn take(&mut self, no: TableNo) -> Option<Arc<Table>> {
        match self.at_hand.take() {
            Some((known, table)) if known == no => Some(table),
            _ => self.by_no.get(&no).cloned(),
        }
    }

    /// After [`Tables::take`], before anything else is learned.
    pub fn put_back(&mut self, no: TableNo, table: Arc<Table>) {
        self.at_hand = Some((no, table));
    }

    /// The concrete name of an index, for messages.
    #[must_use]
    pub fn index_name(&self, no: IndexNo) -> String {
        let index = self.table_of(no).and_then(|table| self.seen.get(table));
        index.map_or_else(|| format!("index number {}", no.0), |index| index.name.clone())
    }

    /// What to keep with the cursor.
    #[must_use]
    pub fn indices(&self) -> &BTreeMap<String, IndexId> {
        &self.indices
    }

    /// Notes the number of a table that is ready in just this shape; false if it is not.
    pub fn recall(&mut self, record: &SchemaRecord) -> bool {
        match self.by_name.get(&record.schema.name) {
            Some((known, table)) if *known == record.schema => {
                self.by_no.insert(record.table, Arc::clone(table));
                self.at_hand = None;
                true
            }
            _ => false,
        }
    }

    /// Begins to make the table of a schema frame ready, which stands in the log with this version; [`Learning::index`] waits for the engine for as long as it takes.
    ///
    /// # Errors
    /// The table cannot be mapped, or its alias is another table's.
    pub fn learn<K: Sink>(
        &self,
        (record, version): (SchemaRecord, Version),
        sink: &Arc<K>,
        readiness: &Readiness,
    ) -> Result<Learning, DeliverError> {
        let mapping = TableMapping::with_rules(&record.schema, &self.rules)?;
        let expect = self.expect(&mapping.spec().alias, &record.schema.name)?;
        let mut task = JoinSet::new();
        let (spec, sink, readiness) = (mapping.spec().clone(), Arc::clone(sink), readiness.clone());
        task.spawn(async move { patiently(&readiness, &spec.alias, || sink.ensure(&spec, expect)).await });
        Ok(Learning { record, version, mapping, task })
    }

    /// What the cursor says of the index of a table that was not met in this run.
    ///
    /// # Errors
    /// The alias is another table's, or the table's documents are behind another.
    pub fn expect(&self, alias: &str, table: &TableName) -> Result<Expect, DeliverError> {
        let moved = self.indices.iter().find(|(stored, index)| index.table == *table && *stored != alias);
        if let Some((stored, _)) = moved {
            return Err(DeliverError::OtherAlias {
                table: table.clone(),
                stored: stored.clone(),
                alias: alias.to_owned(),
            });
        }
        match self.indices.get(alias) {
            Some(stored) if stored.table != *table => Err(DeliverError::SharedAlias {
                alias: alias.to_owned(),
                first: stored.table.clone(),
                second: table.clone(),
            }),
            Some(_) => Ok(Expect::Existing),
            None => Ok(Expect::Anything),
        }
    }

    /// The index of a table that was met in this run.
    #[must_use]
    pub fn index(&self, table: &TableName) -> Option<&Index> {
        self.by_name.get(table).map(|(_, table)| &table.index)
    }

    /// Whether the table's index can hold documents below this version.
    #[must_use]
    pub fn may_have_older(&self, table: &TableName, bound: Version) -> bool {
        self.made.get(table).is_none_or(|made| *made < bound)
    }

    /// The index of a table that was looked at in this run, for whatever reason.
    #[must_use]
    pub fn seen(&self, table: &TableName) -> Option<&Index> {
        self.seen.get(table)
    }

    /// The table whose documents an index holds that was looked at in this run.
    #[must_use]
    pub fn table_of(&self, no: IndexNo) -> Option<&TableName> {
        self.owners.get(&no)
    }

    /// The table is ready.
    ///
    /// # Errors
    /// Its index is not the one that the cursor speaks of.
    pub fn learned(&mut self, learning: Learning, index: Index) -> Result<(), DeliverError> {
        let Learning { record: SchemaRecord { table: no, schema }, version, mapping, .. } = learning;
        self.check_identity(&mapping.spec().alias, &schema.name, &index)?;
        if index.made {
            self.made.insert(schema.name.clone(), version);
        }
        let table = Arc::new(Table { mapping, index });
        self.by_no.insert(no, Arc::clone(&table));
        self.at_hand = None;
        self.by_name.insert(schema.name.clone(), (schema, table));
        Ok(())
    }

    /// An index deleted, re-created or rolled back under us has lost what the cursor calls settled.
    ///
    /// # Errors
    /// `index` is not the one that the cursor speaks of.
    pub fn check_identity(
        &mut self,
        alias: &str,
        table: &TableName,
        index: &Index,
    ) -> Result<(), DeliverError> {
        let Index { name, uuid, history, .. } = index.clone();
        let found = IndexId { table: table.clone(), name, uuid, history };
        match self.indices.get_mut(alias) {
            Some(stored)
                if (&stored.table, &stored.name, &stored.uuid) != (table, &found.name, &found.uuid) =>
            {
                return Err(DeliverError::OtherIndex {
                    alias: alias.to_owned(),
                    stored: describe(stored),
                    found: describe(&found),
                });
            }
            Some(stored) if stored.history.is_some() && history.is_some() && stored.history != history => {
                return Err(DeliverError::Rewound { alias: alias.to_owned(), index: found.name });
            }
            Some(stored) => stored.history = stored.history.or(history),
            None => drop(self.indices.insert(alias.to_owned(), found)),
        }
        self.owners.insert(index.no, table.clone());
        self.seen.insert(table.clone(), index.clone());
        Ok(())
    }
}

/// A table whose index is being made ready, by a task that ends with this value.
#[derive(Debug)]
pub struct Learning {
    record: SchemaRecord,
    version: Version,
    mapping: TableMapping,
    task: JoinSet<Result<Index, DeliverError>>,
}

impl Learning {
    /// Waits for the index. Cancel safe; after it completed it waits for ever.
    ///
    /// # Errors
    /// The engine refuses the index for good.
    pub async fn index(&mut self) -> Result<Index, DeliverError> {
        match self.task.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(failed)) => std::panic::resume_unwind(Box::new(failed.to_string())),
            None => std::future::pending().await,
        }
    }
}

/// Waits for the table that is being made ready; for ever while there is none.
pub(super) async fn next_index(learning: &mut Option<Learning>) -> Result<Index, DeliverError> {
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

fn describe(index: &IndexId) -> String {
    format!("{} (uuid {})", index.name.escape_debug(), index.uuid.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_documents_stay_behind_the_alias_that_they_were_written_to() {
        let (orders, lines) = (TableName::new("shop", "orders"), TableName::new("shop", "lines"));
        let stored = IndexId {
            table: orders.clone(),
            name: "shop.orders-000001".into(),
            uuid: "u".into(),
            history: None,
        };
        let tables = Tables::new(BTreeMap::from([("shop.orders".to_owned(), stored)]), Rules::default());
        assert!(matches!(tables.expect("shop.orders", &orders), Ok(Expect::Existing)));
        assert!(matches!(tables.expect("shop.lines", &lines), Ok(Expect::Anything)));
        assert!(matches!(tables.expect("orders-v2", &orders), Err(DeliverError::OtherAlias { .. })));
        assert!(matches!(tables.expect("shop.orders", &lines), Err(DeliverError::SharedAlias { .. })));
    }
}
