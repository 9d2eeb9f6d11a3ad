//! The tables seen in the stream: what each table map means, remembered as long as it stays the same.
//!
//! A table id says which map a rows event belongs to only until its statement ends; ids are given anew after a restart of the
//! server. So maps are told apart by their bytes: the same names and the same shape are the same version of a table.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::event::{Column, TableName, TableNo, TableSchema};
use crate::log::record::{Batch, SchemaRecord};

use super::control::FollowedKeys;
use super::decode::RowPlan;
use super::patterns::{NameCase, Patterns};
use super::schema::{self, SchemaError, TableMap};
use super::server::Family;

/// Most tables that are not followed to remember; beyond, all of those are forgotten.
const MAX_UNFOLLOWED: usize = 100_000;

/// One version of a followed table.
#[derive(Debug)]
pub struct Version {
    pub record: SchemaRecord,
    pub plan: RowPlan,
    /// Whether the log's present segment has the schema.
    sent: bool,
    pub changes: metrics::Counter,
}

/// What is known of a name.
#[derive(Debug)]
enum Known {
    Unfollowed,
    /// The shape of a sequence of MariaDB's, by whatever name: it has no rows.
    Sequence(Vec<u8>),
    /// The shape of its last table map, and its version.
    Followed {
        shape: Vec<u8>,
        version: usize,
    },
}

/// What a table id means right now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Unfollowed,
    Followed(usize),
}

/// A followed table that changed in a way that its rows in the log do not allow.
#[derive(Debug)]
pub enum TableError {
    Schema(SchemaError),
    /// It has no primary key and was made after the keys were read: connecting again reads them anew.
    UnreadKey,
    /// Columns are gone, renamed or of another type.
    Changed,
}

/// All tables of one source.
#[derive(Debug, Default)]
pub struct Tables {
    patterns: Patterns,
    keys: FollowedKeys,
    family: Family,
    known: HashMap<Box<[u8]>, Known>,
    unfollowed: usize,
    /// Tables that [`TableError::UnreadKey`] was said of.
    unread: HashSet<TableName>,
    versions: Vec<Version>,
    /// Table ids of the open statement: few, so a list.
    open: Vec<(u64, Target)>,
}

impl Tables {
    /// For a new connection. It may begin before what was read last, so a table may have an older shape again.
    pub fn restart(&mut self, patterns: Patterns, keys: FollowedKeys, family: Family) {
        self.known.clear();
        self.unfollowed = 0;
        (self.patterns, self.keys, self.family) = (patterns, keys, family);
        self.open.clear();
    }

    #[must_use]
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Notes a table map; its id counts until [`Tables::end_statement`].
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn map(&mut self, map: &TableMap<'_>) -> Result<(), TableError> {
        let target = match self.known.get(map.names) {
            Some(Known::Unfollowed) => Target::Unfollowed,
            Some(Known::Sequence(shape)) if shape == map.shape => Target::Unfollowed,
            Some(Known::Followed { shape, version }) if shape == map.shape => Target::Followed(*version),
            _ => self.learn(map)?,
        };
        self.open.retain(|(id, _)| *id != map.table_id);
        self.open.push((map.table_id, target));
        Ok(())
    }

    fn learn(&mut self, map: &TableMap<'_>) -> Result<Target, TableError> {
        let name = map.name();
        if !self.patterns.follows_table(&name) {
            self.unfollowed += 1;
            if self.unfollowed > MAX_UNFOLLOWED {
                self.known.retain(|_, known| !matches!(known, Known::Unfollowed));
                self.unfollowed = 1;
            }
            self.known.insert(map.names.into(), Known::Unfollowed);
            return Ok(Target::Unfollowed);
        }
        if schema::is_sequence(map, self.family) {
            self.known.insert(map.names.into(), Known::Sequence(map.shape.to_vec()));
            return Ok(Target::Unfollowed);
        }
        let key = self.key(&name);
        let (schema, plan) = match schema::build(map, key, self.family) {
            // Once: a table that is gone again by then has no key to be read.
            Err(SchemaError::NoKey) if key.is_none() && self.unread.insert(name.clone()) => {
                return Err(TableError::UnreadKey);
            }
            built => built.map_err(TableError::Schema)?,
        };
        self.unread.remove(&name);
        let before = match self.known.get(map.names) {
            Some(Known::Followed { version, .. }) => self.versions.get(*version).map(|old| (*version, old)),
            _ => None,
        };
        let version = match before {
            Some((_, old))
                if !schema::only_adds_columns((&old.record.schema, &old.plan), (&schema, &plan)) =>
            {
                return Err(TableError::Changed);
            }
            // Only what does not matter here changed: a default collation, a column's visibility.
            Some((version, old)) if old.record.schema == schema && old.plan == plan => version,
            _ => match self.versions.iter().position(|old| old.record.schema == schema && old.plan == plan) {
                Some(version) => version,
                None => self.add(schema, plan),
            },
        };
        self.known.insert(map.names.into(), Known::Followed { shape: map.shape.to_vec(), version });
        Ok(Target::Followed(version))
    }

    fn add(&mut self, schema: TableSchema, plan: RowPlan) -> usize {
        let number = self.versions.len();
        let columns = schema.columns.iter().map(|Column { name, .. }| name.as_str()).collect::<Vec<_>>();
        tracing::info!(table = %schema.name, columns = ?columns, "following the table in this shape");
        let changes = metrics::counter!("everrelay_source_changes_total", "table" => schema.name.to_string());
        let record = SchemaRecord { table: TableNo(number as u32), schema };
        self.versions.push(Version { record, plan, sent: false, changes });
        number
    }

    /// What `table_id` means in the open statement.
    #[must_use]
    pub fn target(&self, table_id: u64) -> Option<Target> {
        self.open.iter().find(|(id, _)| *id == table_id).map(|(_, target)| *target)
    }

    /// The version behind [`Target::Followed`], its schema written into `batch` if the log does not have it.
    pub fn version(&mut self, version: usize, batch: &mut Batch) -> Option<&Version> {
        let version = self.versions.get_mut(version)?;
        if !version.sent {
            batch.schema(&version.record);
            version.sent = true;
        }
        Some(version)
    }

    /// The name of the table behind [`Target::Followed`].
    #[must_use]
    pub fn name(&self, version: usize) -> TableName {
        self.versions.get(version).map_or_else(|| TableName::new("", ""), |v| v.record.schema.name.clone())
    }

    /// The statement ended: its table ids mean nothing any more.
    pub fn end_statement(&mut self) {
        self.open.clear();
    }

    /// Schemas are to be sent again before their next use.
    pub fn forget_schemas(&mut self) {
        self.versions.iter_mut().for_each(|version| version.sent = false);
    }

    /// What was read of the table's key when connecting; `None`: it was not there. A statement may write its name in another case.
    fn key(&self, table: &TableName) -> Option<&[String]> {
        let found = self.keys.get(table);
        let found = found.or_else(|| {
            let mut keys = self.keys.iter().filter(|_| self.patterns.case() == NameCase::Insensitive);
            keys.find(|(name, _)| self.same(name, table)).map(|(_, key)| key)
        });
        found.map(Vec::as_slice)
    }

    fn same(&self, a: &TableName, b: &TableName) -> bool {
        self.patterns.same_name(&a.schema, &b.schema) && self.patterns.same_name(&a.table, &b.table)
    }

    /// Whether the table is told apart by a key that its table map does not name.
    #[must_use]
    pub fn needs_unique_key(&self, table: &TableName) -> bool {
        self.key(table).is_some_and(|key| !key.is_empty())
    }

    /// Whether the table was there when connecting, or was seen in the stream.
    #[must_use]
    pub fn is_known(&self, table: &TableName) -> bool {
        let mut seen = self.versions.iter().map(|version| &version.record.schema.name);
        self.key(table).is_some() || seen.any(|name| self.same(name, table))
    }

    /// The followed tables of this schema that were there when connecting or were seen in the stream.
    #[must_use]
    pub fn seen_in(&self, schema: &str) -> BTreeSet<TableName> {
        let names = self.versions.iter().map(|version| &version.record.schema.name).chain(self.keys.keys());
        names.filter(|name| self.patterns.same_name(&name.schema, schema)).cloned().collect()
    }
}
