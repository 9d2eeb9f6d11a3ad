//! The log's changes as changes of documents: which tables, which ids, to be indexed or deleted.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::super::error::DeliverError;
use super::Scope;
use crate::disk::Disk;
use crate::event::document::{Behind, Verb};
use crate::event::{Op, Seq, TableName, TableNo, TableSchema, Version};
use crate::log::record::{Change, Kind, SchemaRecord, SweepRecord};
use crate::log::{Log, Reader};
use crate::mapping::rule::Rules;
use crate::mapping::{self, MappingError, TableMapping};

/// A document by a hash over its index's alias (where a table has many, its name) and its id, which says its routing too, and which alias it is behind: half of a SHA-256, so that nobody can make rows whose documents are taken for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DocumentHash(pub [u64; 2]);

impl DocumentHash {
    pub const FIRST: DocumentHash = DocumentHash([0; 2]);
    pub const LAST: DocumentHash = DocumentHash([u64::MAX; 2]);
}

/// A table as the log describes it at some place, and as today's rules have it.
#[derive(Debug)]
pub struct TableThere {
    pub name: TableName,
    pub mapping: TableMapping,
    /// What tells its documents from other tables'.
    pub space: String,
    /// Of that; ids follow.
    hash: Sha256,
}

impl TableThere {
    fn new(schema: &TableSchema, rules: &Rules) -> Result<TableThere, DeliverError> {
        let mapping = TableMapping::with_rules(schema, rules)?;
        let space = mapping.spec().behind().space();
        // None has a NUL, so no two of (space, id) are one text.
        let hash = Sha256::new().chain_update(space.as_bytes()).chain_update([0]);
        Ok(TableThere { name: schema.name.clone(), mapping, space, hash })
    }

    fn document(&self, id: &str) -> DocumentHash {
        let bytes = self.hash.clone().chain_update(id.as_bytes()).finalize();
        let word = |at: usize| bytes[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        DocumentHash([word(0), word(8)])
    }
}

/// One record.
#[derive(Debug)]
pub struct Step<'a> {
    pub seq: Seq,
    pub version: Version,
    pub what: What<'a>,
}

#[derive(Debug)]
pub enum What<'a> {
    /// A change of a table that is meant.
    Change {
        table: &'a Arc<TableThere>,
        change: Change<'a>,
        payload: &'a [u8],
        /// The document that it indexes or deletes; `None`: one that is not meant.
        document: Option<Touched<'a>>,
        /// The one that a change of the key deletes besides.
        old: Option<Touched<'a>>,
    },
    /// Documents of the table below a version go; `but_marked`: those stay that say that their rows are deleted.
    Sweep {
        space: String,
        below: Version,
        but_marked: bool,
    },
    Other,
}

/// A document, and what a change does to it.
#[derive(Clone, Copy, Debug)]
pub struct Touched<'a> {
    pub id: &'a str,
    pub verb: Verb,
    pub hash: DocumentHash,
}

/// Reads the log from some record on.
#[derive(Debug)]
pub struct Reading<D: Disk> {
    reader: Reader<D>,
    scope: Arc<Scope>,
    rules: Rules,
    /// Of the segment being read; `None` for a table that is not meant.
    by_no: HashMap<TableNo, Option<Arc<TableThere>>>,
    /// Of the segments before, the newest of each: most repeat what they say.
    known: HashMap<TableName, (TableSchema, Arc<TableThere>)>,
    id: String,
    old_id: String,
    alias: String,
}

impl<D: Disk> Reading<D> {
    /// # Errors
    /// The log does not hold `from`, or cannot be read.
    pub fn open(log: &Log<D>, scope: &Arc<Scope>, rules: &Rules, from: Seq) -> Result<Self, DeliverError> {
        Ok(Reading {
            reader: log.reader(from)?,
            scope: Arc::clone(scope),
            rules: rules.clone(),
            by_no: HashMap::new(),
            known: HashMap::new(),
            id: String::new(),
            old_id: String::new(),
            alias: String::new(),
        })
    }

    /// Bytes that are visible and not read.
    #[must_use]
    pub fn bytes_behind(&self) -> u64 {
        self.reader.bytes_behind()
    }

    /// The next record; `None` where nothing more is visible. Schemas from before the first record come with their own, lower number.
    ///
    /// # Errors
    /// The log cannot be read, or a table is none by today's rules.
    pub fn next_step(&mut self) -> Result<Option<Step<'_>>, DeliverError> {
        let Some(frame) = self.reader.next_frame()? else { return Ok(None) };
        let (seq, version) = (frame.seq, frame.version);
        let undecodable = |error| DeliverError::undecodable(seq, &error);
        let mut what = What::Other;
        match frame.kind {
            // Each segment repeats the schemas that it uses.
            Kind::State => self.by_no.clear(),
            Kind::Schema => {
                let SchemaRecord { table: no, schema } =
                    SchemaRecord::decode(frame.payload).map_err(undecodable)?;
                let there = match self.known.get(&schema.name) {
                    _ if !is_meant(&self.scope, &self.rules, &schema.name)? => None,
                    Some((known, there)) if *known == schema => Some(Arc::clone(there)),
                    _ => {
                        let there = Arc::new(TableThere::new(&schema, &self.rules)?);
                        self.known.insert(schema.name.clone(), (schema, Arc::clone(&there)));
                        Some(there)
                    }
                };
                self.by_no.insert(no, there);
            }
            Kind::Change => {
                let change = Change::decode(frame.payload).map_err(undecodable)?;
                let table = self.by_no.get(&change.table);
                let table = table.ok_or_else(|| DeliverError::no_schema(seq, change.table))?;
                if let Some(table) = table {
                    let mapping = &table.mapping;
                    match change.op {
                        Op::Tombstone => mapping.id_of_key(change.row, &mut self.id)?,
                        _ => mapping.id(change.row, &mut self.id)?,
                    }
                    let mut is_meant = |verb| {
                        if !mapping.is_by_row() || self.scope.indices.is_empty() {
                            return Ok(true);
                        }
                        mapping.alias(change.op, verb, change.row, &mut self.alias)?;
                        Ok::<_, MappingError>(self.scope.has_alias(&self.alias))
                    };
                    let mut old = None;
                    if change.op == Op::Rekey {
                        mapping.old_id(change.row, &mut self.old_id)?;
                        if self.old_id != self.id && is_meant(Verb::Delete)? {
                            let hash = table.document(&self.old_id);
                            old = Some(Touched { id: &self.old_id, verb: Verb::Delete, hash });
                        }
                    }
                    let verb = mapping.verb(change.op);
                    let document = is_meant(verb)?;
                    let document =
                        document.then(|| Touched { id: &self.id, verb, hash: table.document(&self.id) });
                    what = What::Change { table, change, payload: frame.payload, document, old };
                }
            }
            Kind::Sweep => {
                let sweep = SweepRecord::decode(frame.payload).map_err(undecodable)?;
                if self.scope.tables.has(&sweep.table) {
                    let space = mapping::behind(&sweep.table, &self.rules)?.space();
                    what = What::Sweep { space, below: sweep.below(), but_marked: sweep.of_snapshot };
                }
            }
            // Rows of an XA transaction come again as changes when they count.
            Kind::Commit | Kind::Mark | Kind::Prepared => {}
        }
        Ok(Some(Step { seq, version, what }))
    }
}

/// Whether documents of a table may be meant.
fn is_meant(scope: &Scope, rules: &Rules, table: &TableName) -> Result<bool, MappingError> {
    Ok(scope.tables.has(table)
        && match mapping::behind(table, rules)? {
            Behind::Alias(alias) => scope.has_alias(&alias),
            Behind::ByRow(_) => true,
        })
}
