//! The tables that the deliver side has met: mapping and indices of each, made ready before the first document needs them.
//!
//! A table has one index, which is made ready as the table is met, or many, each row's alias said by its key: such a one is made ready as the first document is to be written
//! to it. A delete makes none: where there is none, there is nothing to delete. That an index is not there is believed for a while ([`ABSENT`]).
//!
//! One of many that was deleted ends the relay when a document is to be written to it, which would be alone there, unless the rules say that such are left out, or that it is made anew.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::error::DeliverError;
use super::learning::{Learned, Learning, Wanted};
use crate::event::document::{Behind, DeletedIndex, IndexSpec, Verb};
use crate::event::{Op, TableName, TableNo, TableSchema, Version};
use crate::lifecycle::Readiness;
use crate::log::record::{Change, SchemaRecord};
use crate::mapping::rule::Rules;
use crate::mapping::{self, MappingError, TableMapping};
use crate::settled::IndexId;
use crate::sink::{Expect, Index, IndexNo, Sink};

/// Most indices of one table: each is a shard and more of the engine's, which takes a thousand of a node.
const MOST_INDICES: usize = 1_000;

/// How long one of many indices is taken for there without having been written to: then it may have been deleted meanwhile.
const THERE: Duration = Duration::from_secs(300);

/// How long an index that was not there is taken for not there.
const ABSENT: Duration = Duration::from_secs(30);

/// Most aliases that are known to lead nowhere.
const MOST_ABSENT: usize = 10_000;

/// A table whose documents can be made.
#[derive(Debug)]
pub struct Table {
    pub mapping: TableMapping,
    /// Where all of them go; `None`: each row says where.
    pub index: Option<IndexNo>,
}

/// Where a document goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    Index(IndexNo),
    /// There is no such index: nothing is to be deleted there, or written.
    Nowhere,
    /// To one that has to be made ready, or looked for.
    Unknown,
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
    /// By alias, indices that were looked at in this run, and whose they are.
    seen: HashMap<String, Seen>,
    owners: HashMap<IndexNo, Owner>,
    /// Of tables whose rows say where they go: the aliases whose indices have the fields that the table has now.
    ready: HashSet<String>,
    /// Aliases that led nowhere, and when.
    absent: HashMap<String, Instant>,
    /// Aliases whose indices were deleted, and are to be made anew.
    forgotten: HashSet<String>,
    /// Indices that were made in this run: no document there has a lower version.
    made: HashMap<IndexNo, Version>,
}

#[derive(Debug)]
struct Seen {
    index: Index,
    /// When it was looked at, or a document of it read.
    at: Instant,
}

#[derive(Debug)]
struct Owner {
    table: TableName,
    alias: String,
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
            ready: HashSet::new(),
            absent: HashMap::new(),
            forgotten: HashSet::new(),
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
        let index = self.owners.get(&no).and_then(|owner| self.seen(&owner.alias));
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
    /// `None`: it is, since its rows say where they go.
    ///
    /// # Errors
    /// The table cannot be mapped, or its alias is another table's.
    pub fn learn<K: Sink>(
        &mut self,
        (record, version): (SchemaRecord, Version),
        sink: &Arc<K>,
        readiness: &Readiness,
    ) -> Result<Option<Learning>, DeliverError> {
        let mapping = TableMapping::with_rules(&record.schema, &self.rules)?;
        let (spec, name) = (mapping.spec().clone(), &record.schema.name);
        let expect = self.expect(&spec.behind(), &spec.alias, name)?;
        if mapping.is_by_row() {
            let same = |(other, (_, there)): &(&TableName, &(TableSchema, Arc<Table>))| {
                *other != name && there.mapping.spec().alias == spec.alias
            };
            if let Some((first, _)) = self.by_name.iter().find(same) {
                let (alias, first, second) = (spec.alias, first.clone(), name.clone());
                return Err(DeliverError::SharedAlias { alias, first, second });
            }
            let indices = &self.indices;
            self.ready.retain(|alias| indices.get(alias).is_none_or(|index| index.table != *name));
            self.note(record, Table { mapping, index: None });
            return Ok(None);
        }
        let wanted = Wanted::Table { record, version, mapping: Box::new(mapping) };
        Ok(Some(Learning::ensure(wanted, spec, expect, (sink, readiness))))
    }

    /// Begins to make ready, or for a delete to look for, the index that a row of the table says, for a change with this version.
    ///
    /// # Errors
    /// The alias is another table's, or the table has too many.
    pub fn learn_index<K: Sink>(
        &self,
        table: &Table,
        (alias, (op, verb), version): (&str, (Op, Verb), Version),
        sink: &Arc<K>,
        readiness: &Readiness,
    ) -> Result<Learning, DeliverError> {
        let spec = table.mapping.spec();
        let name = spec.by_row.as_ref().map(|by_row| by_row.table.clone()).unwrap_or_default();
        let expect = self.expect(&spec.behind(), alias, &name)?;
        let by_row = spec.by_row.clone().unwrap_or_default();
        let (is_delete, is_known) = (is_delete(op, verb), self.indices.contains_key(alias));
        if !is_delete && !is_known && self.aliases_of(&name).count() >= MOST_INDICES {
            let wanted = Wanted::Room { table: name, pattern: by_row.pattern.clone() };
            return Ok(Learning::list(wanted, by_row, (sink, readiness)));
        }
        // One that was deleted has nothing to delete; and the rules may say that it is gone for good, or comes again.
        let may_be_gone = is_known && by_row.deleted_index != DeletedIndex::Halt;
        let looks = is_delete || (may_be_gone && !self.seen.get(alias).is_some_and(Seen::is_fresh));
        let anew = !is_delete && by_row.deleted_index == DeletedIndex::Make;
        let wanted = Wanted::Index { table: name, alias: alias.to_owned(), version, anew };
        Ok(if looks {
            Learning::find(wanted, spec.at(alias), (sink, readiness))
        } else {
            Learning::ensure(wanted, spec.at(alias), expect, (sink, readiness))
        })
    }

    /// Where a change's document goes that it does `verb` to; `alias` is what its row says, where the table has more than one.
    ///
    /// # Errors
    /// The row cannot be read.
    pub fn to(
        &mut self,
        table: &Table,
        change: &Change<'_>,
        verb: Verb,
        alias: &mut String,
    ) -> Result<To, MappingError> {
        if let Some(index) = table.index {
            return Ok(To::Index(index));
        }
        table.mapping.alias(change.op, verb, change.row, alias)?;
        Ok(match self.ready(alias) {
            Some(index) => To::Index(index),
            None if self.is_absent(alias)
                && (is_delete(change.op, verb) || self.leaves_out(table, alias)) =>
            {
                To::Nowhere
            }
            None => To::Unknown,
        })
    }

    /// The index behind one of many aliases, if it may be written to.
    fn ready(&mut self, alias: &str) -> Option<IndexNo> {
        let seen = self.seen.get_mut(alias).filter(|seen| seen.is_fresh() && self.ready.contains(alias))?;
        seen.at = Instant::now();
        Some(seen.index.no)
    }

    /// The index behind an alias, for a document of any version: it may be older than all that the index was made for.
    pub fn to_any_version(&mut self, spec: &IndexSpec, alias: &str) -> Option<IndexNo> {
        let index = match &spec.by_row {
            Some(_) => self.ready(alias),
            None => self.seen(alias).map(|index| index.no),
        };
        if let Some(index) = &index {
            self.made.remove(index);
        }
        index
    }

    /// What the documents of a table need now, for one of its aliases; `spec`: what those need that are to be sent.
    #[must_use]
    pub fn spec_at(&self, table: &TableName, spec: &IndexSpec, alias: &str) -> IndexSpec {
        self.by_name.get(table).map_or(spec, |(_, table)| table.mapping.spec()).at(alias)
    }

    /// An index was looked for on account of documents of any version, and may be written to.
    ///
    /// # Errors
    /// It is not the one that the cursor speaks of.
    pub fn found(&mut self, alias: &str, table: &TableName, index: &Index) -> Result<(), DeliverError> {
        self.check_identity(alias, table, index)?;
        self.ready.insert(alias.to_owned());
        Ok(())
    }

    /// Whether an index that was deleted is left alone.
    fn leaves_out(&self, table: &Table, alias: &str) -> bool {
        let by_row = table.mapping.spec().by_row.as_ref();
        by_row.is_some_and(|by_row| by_row.deleted_index == DeletedIndex::Skip)
            && self.indices.contains_key(alias)
    }

    /// Whether the alias led nowhere a moment ago.
    #[must_use]
    pub fn is_absent(&self, alias: &str) -> bool {
        self.absent.get(alias).is_some_and(|since| since.elapsed() < ABSENT)
    }

    fn lose(&mut self, alias: &str) {
        self.seen.remove(alias);
        self.ready.remove(alias);
    }

    /// The alias leads nowhere.
    pub fn note_absent(&mut self, alias: &str) {
        self.lose(alias);
        if self.absent.len() >= MOST_ABSENT {
            self.absent.clear();
        }
        if self.absent.insert(alias.to_owned(), Instant::now()).is_none() {
            tracing::info!(alias, "no index is there: deletes, and rows left out, are passed over");
        }
    }

    /// What to expect where the documents of a table are looked for behind an alias: of many one may have been deleted, and nothing is to be found there then.
    ///
    /// # Errors
    /// As [`Tables::expect`].
    pub fn expect_found(
        &self,
        behind: &Behind,
        alias: &str,
        table: &TableName,
    ) -> Result<Expect, DeliverError> {
        let expect = self.expect(behind, alias, table)?;
        Ok(if matches!(behind, Behind::ByRow(_)) { Expect::MaybeGone } else { expect })
    }

    /// What the cursor says of the index behind one of the aliases of a table that was not looked at in this run.
    ///
    /// # Errors
    /// The alias is another table's, or the table has documents behind another.
    pub fn expect(&self, behind: &Behind, alias: &str, table: &TableName) -> Result<Expect, DeliverError> {
        let mut of_table = self.indices.iter().filter(|(_, index)| index.table == *table);
        let template = behind.template();
        let is_other = |(stored, index): &(&String, &IndexId)| {
            !behind.has(stored) || index.template.as_deref() != template
        };
        if let Some((stored, _)) = of_table.find(is_other) {
            let alias = template.map_or_else(|| behind.to_string(), str::to_owned);
            return Err(DeliverError::OtherAlias { table: table.clone(), stored: stored.clone(), alias });
        }
        match self.indices.get(alias) {
            Some(stored) if stored.table != *table => Err(DeliverError::SharedAlias {
                alias: alias.to_owned(),
                first: stored.table.clone(),
                second: table.clone(),
            }),
            Some(_) => Ok(Expect::Existing),
            None if self.forgotten.contains(alias) => Ok(Expect::Anew),
            None => Ok(Expect::Anything),
        }
    }

    /// Whether an index can hold documents below this version.
    #[must_use]
    pub fn may_have_older(&self, index: &Index, bound: Version) -> bool {
        self.made.get(&index.no).is_none_or(|made| *made < bound)
    }

    /// The index behind an alias that was looked at in this run, for whatever reason.
    #[must_use]
    pub fn seen(&self, alias: &str) -> Option<&Index> {
        self.seen.get(alias).map(|seen| &seen.index)
    }

    /// All indices of a table that were looked at in this run.
    #[must_use]
    pub fn seen_of(&self, table: &TableName) -> Vec<Index> {
        let of_table = |index: &&Index| self.table_of(index.no) == Some(table);
        let seen = self.seen.values().map(|seen| &seen.index);
        let mut seen: Vec<Index> = seen.filter(of_table).cloned().collect();
        seen.sort_by_key(|index| index.no);
        seen
    }

    /// The aliases that a table had documents behind when the cursor was last committed, and since.
    pub fn aliases_of<'t>(&'t self, table: &'t TableName) -> impl Iterator<Item = &'t String> {
        self.indices.iter().filter(|(_, index)| index.table == *table).map(|(alias, _)| alias)
    }

    /// The table whose documents an index holds that was looked at in this run.
    #[must_use]
    pub fn table_of(&self, no: IndexNo) -> Option<&TableName> {
        self.owners.get(&no).map(|owner| &owner.table)
    }

    /// What reading waited for has come.
    ///
    /// # Errors
    /// The index is not the one that the cursor speaks of, or there is room for none.
    pub fn learned(&mut self, learning: Learning, learned: Learned) -> Result<(), DeliverError> {
        match (learning.wanted, learned) {
            (Wanted::Table { record, version, mapping }, Learned::Index(Some(index))) => {
                self.check_identity(&mapping.spec().alias, &record.schema.name, &index)?;
                if index.made {
                    self.made.insert(index.no, version);
                }
                self.note(record, Table { mapping: *mapping, index: Some(index.no) });
            }
            (Wanted::Index { table, alias, version, .. }, Learned::Index(Some(index))) => {
                self.found(&alias, &table, &index)?;
                if index.made {
                    self.made.insert(index.no, version);
                }
            }
            (Wanted::Index { table, alias, anew: true, .. }, Learned::Index(None)) => {
                tracing::warn!(%table, alias, "the index was deleted, and is made anew for what comes");
                self.forget(&alias);
            }
            (Wanted::Index { alias, .. }, Learned::Index(None)) => self.note_absent(&alias),
            (Wanted::Room { table, pattern }, Learned::Aliases(there)) => {
                self.make_room(&table, pattern, &there)?;
            }
            // Of a table that has one index it is made; no other answer is asked for.
            (Wanted::Table { .. }, _) | (Wanted::Index { .. }, _) | (Wanted::Room { .. }, _) => {}
        }
        Ok(())
    }

    /// Forgets the indices of a table that were deleted, since it has too many.
    fn make_room(
        &mut self,
        table: &TableName,
        aliases: String,
        there: &[String],
    ) -> Result<(), DeliverError> {
        if there.len() >= MOST_INDICES {
            return Err(DeliverError::TooManyIndices { table: table.clone(), aliases, most: MOST_INDICES });
        }
        let gone: Vec<String> =
            self.aliases_of(table).filter(|alias| !there.contains(alias)).cloned().collect();
        tracing::warn!(%table, aliases, gone = gone.len(), "indices that were deleted are forgotten: the table has had too many");
        gone.iter().for_each(|alias| self.forget(alias));
        Ok(())
    }

    /// Kept so before it is made anew: whatever stands behind the alias then is taken.
    fn forget(&mut self, alias: &str) {
        self.indices.remove(alias);
        self.lose(alias);
        self.forgotten.insert(alias.to_owned());
    }

    fn note(&mut self, SchemaRecord { table: no, schema }: SchemaRecord, table: Table) {
        let table = Arc::new(table);
        self.by_no.insert(no, Arc::clone(&table));
        self.at_hand = None;
        self.by_name.insert(schema.name.clone(), (schema, table));
    }

    /// What the rules make a table's aliases by, where its rows say them.
    fn template(&self, table: &TableName) -> Option<String> {
        // A table that no alias can be made for was refused before anything was looked for.
        mapping::behind(table, &self.rules).ok()?.template().map(str::to_owned)
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
        let template = self.template(table);
        let found = IndexId { table: table.clone(), name, uuid, history, template };
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
        self.owners.insert(index.no, Owner { table: table.clone(), alias: alias.to_owned() });
        self.seen.insert(alias.to_owned(), Seen { index: index.clone(), at: Instant::now() });
        self.absent.remove(alias);
        self.forgotten.remove(alias);
        Ok(())
    }
}

impl Seen {
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < THERE
    }
}

/// Whether nothing need be there for it: a delete, or what says that its row is deleted.
fn is_delete(op: Op, verb: Verb) -> bool {
    op == Op::Delete || verb == Verb::Delete
}

fn describe(index: &IndexId) -> String {
    format!("{} (uuid {})", index.name.escape_debug(), index.uuid.escape_debug())
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
