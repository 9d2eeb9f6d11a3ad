//! The tables seen in the stream: what each table map means, remembered as long as it stays the same.
//!
//! A table id says which map a rows event belongs to only until its statement ends; ids are given anew after a restart of the
//! server. So maps are told apart by their bytes: the same names and the same shape are the same version of a table.
//!
//! A map that leaves out names or key ([`Description`]) is completed by the description of the table's last rows, which the log holds,
//! unless a statement has altered the table since; else by what information_schema says ([`Asked`]). That is asked while we read, so it is
//! newer than the rows up to where the binlog ended then. Where a statement between the two alters the table, rows before it may have been read
//! under names of after it, and the table needs a snapshot; rows that do not fit the newer columns at all are left out, for the same
//! snapshot to bring. Where no statement explains the difference, nobody knows how to read the rows: an error.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::pattern::ByTable;
use crate::event::{Column, TableName, TableNo, TableSchema};
use crate::log::Shape;
use crate::log::record::{Batch, Position, SchemaRecord};

use super::catalog::{Asked, Unlike};
use super::decode::RowPlan;
use super::definition::Before;
use super::description::Description;
use super::error::Place;
use super::files::in_order;
use super::named_key::{NamedKeys, named};
use super::patterns::{NameCase, Patterns};
use super::schema::{self, SchemaError, TableMap};
use super::server::Peer;
use super::wire::Short;

/// Most tables that are not followed to remember; beyond, all of those are forgotten.
const MAX_UNFOLLOWED: usize = 100_000;

/// One version of a followed table.
#[derive(Debug)]
pub struct Version {
    pub record: SchemaRecord,
    pub plan: RowPlan,
    /// Whether its changes say of which transaction they are.
    pub stamped: bool,
    /// Whether the log's present segment has the schema.
    sent: bool,
    /// To be noted with its next rows.
    news: Option<Box<News>>,
    pub changes: metrics::Counter,
}

impl Version {
    /// Writes the schema into `batch` if the log does not have it.
    fn send(&mut self, batch: &mut Batch) {
        if !self.sent {
            batch.schema(&self.record);
            self.sent = true;
        }
    }
}

/// What the rows that come next say of their table.
#[derive(Debug)]
pub struct News {
    pub shape: Shape,
    /// Why the documents of rows before are not what those are now.
    pub gap: Option<String>,
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
    /// Followed, and its rows are left out: an entry of [`Tables::unread`].
    Unread(usize),
}

/// A table whose rows do not fit what information_schema says: a statement that alters it must come before `until`.
#[derive(Debug)]
struct Unread {
    table: TableName,
    until: Position,
}

/// A followed table whose rows cannot be read.
#[derive(Debug)]
pub enum TableError {
    Schema(SchemaError),
    /// Its columns have no names, and what information_schema says of it is unlike, with nothing to explain that.
    Unlike(Unlike),
}

/// What a statement did to a table that the log describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Altered {
    /// Rows before the statement may have been read under names of after it.
    pub was_newer: bool,
}

/// All tables of one source.
#[derive(Debug, Default)]
pub struct Tables {
    keys: NamedKeys,
    /// Those whose changes say of which transaction they are.
    stamped: ByTable<bool>,
    patterns: Patterns,
    /// The followed tables that were there when connecting.
    there: BTreeSet<TableName>,
    server: Peer,
    known: HashMap<Box<[u8]>, Known>,
    unfollowed: usize,
    versions: Vec<Version>,
    /// How each table's rows were described last, as the log has it or will have it with the open transaction.
    logged: BTreeMap<TableName, Shape>,
    asked: HashMap<TableName, Asked>,
    unread: Vec<Unread>,
    /// Table ids of the open statement: few, so a list.
    open: Vec<(u64, Target)>,
}

impl Tables {
    /// `keys`: those that the configuration names; `stamped`: whose changes say of which transaction they are.
    #[must_use]
    pub fn new(keys: NamedKeys, stamped: ByTable<bool>) -> Tables {
        Tables { keys, stamped, ..Tables::default() }
    }

    /// For a new connection. It may begin before what was read last, so a table may have an older shape again.
    pub fn restart(&mut self, patterns: Patterns, there: BTreeSet<TableName>, server: Peer) {
        self.known.clear();
        self.unfollowed = 0;
        (self.patterns, self.there, self.server) = (patterns, there, server);
        self.logged.clear();
        self.asked.clear();
        self.unread.clear();
        self.open.clear();
    }

    /// How the log describes its tables where the connection begins, at `place`.
    pub fn recall(&mut self, shapes: &[Shape], place: &Position) {
        for shape in shapes {
            let mut shape = shape.clone();
            // What was newer then is of now.
            shape.asked_at = shape.asked_at.filter(|asked| !has_reached(place, asked));
            self.logged.insert(shape.table.clone(), shape);
        }
    }

    #[must_use]
    pub fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// The table that information_schema is to be asked about before the map is taken, if one is. `place`: where we are.
    #[must_use]
    pub fn to_ask(&self, map: &TableMap<'_>, place: &Place) -> Option<TableName> {
        match self.known.get(map.names) {
            Some(Known::Unfollowed) => return None,
            Some(Known::Sequence(shape) | Known::Followed { shape, .. }) if shape == map.shape => {
                return None;
            }
            _ => {}
        }
        let name = map.name();
        if !self.patterns.follows_table(&name) || schema::is_sequence(map.shape, self.server.family) {
            return None;
        }
        let shape = self.shape(map, &name).ok()?;
        let own = Description::parse(&shape).ok()?;
        let family = self.server.family;
        if own.is_whole(family) || self.by_the_log(&name, &own).is_some() {
            return None;
        }
        let usable = self
            .asked
            .get(&name)
            .is_some_and(|asked| asked.describe(&own, family).is_ok() || !self.has_reached(place, &asked.at));
        (!usable).then_some(name)
    }

    /// What information_schema said about `table`.
    pub fn told(&mut self, table: TableName, asked: Asked) {
        self.asked.insert(table, asked);
    }

    /// Notes a table map; its id counts until [`Tables::end_statement`]. `place`: where we are.
    ///
    /// # Errors
    /// See [`TableError`].
    pub fn map(&mut self, map: &TableMap<'_>, place: &Place) -> Result<(), TableError> {
        let target = match self.known.get(map.names) {
            Some(Known::Unfollowed) => Target::Unfollowed,
            Some(Known::Sequence(shape)) if shape == map.shape => Target::Unfollowed,
            Some(Known::Followed { shape, version }) if shape == map.shape => Target::Followed(*version),
            _ => self.learn(map, place)?,
        };
        self.open.retain(|(id, _)| *id != map.table_id);
        self.open.push((map.table_id, target));
        Ok(())
    }

    fn learn(&mut self, map: &TableMap<'_>, place: &Place) -> Result<Target, TableError> {
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
        if schema::is_sequence(map.shape, self.server.family) {
            self.known.insert(map.names.into(), Known::Sequence(map.shape.to_vec()));
            return Ok(Target::Unfollowed);
        }
        let shape = self.shape(map, &name).map_err(|short| TableError::Schema(short.into()))?;
        let own = Description::parse(&shape).map_err(|short| TableError::Schema(short.into()))?;
        let family = self.server.family;
        let (described, asked_at) = if own.is_whole(family) {
            (shape.to_vec(), None)
        } else if let Some(found) = self.by_the_log(&name, &own) {
            found
        } else {
            let asked = self.asked.get(&name).ok_or(TableError::Schema(SchemaError::Minimal))?;
            match asked.describe(&own, family) {
                Ok(described) => (described, Some(asked.at.clone())),
                Err(unlike) => {
                    let until = asked.at.clone();
                    return self
                        .leave_out(name, until, place)
                        .map(Target::Unread)
                        .ok_or(TableError::Unlike(unlike));
                }
            }
        };
        if schema::is_sequence(&described, self.server.family) {
            self.known.insert(map.names.into(), Known::Sequence(map.shape.to_vec()));
            return Ok(Target::Unfollowed);
        }
        let (schema, plan) =
            schema::build(&name, &described, self.server.family).map_err(TableError::Schema)?;
        let shape = Shape { table: name.clone(), described, asked_at, altered: false };
        let news = self.news(shape, (&schema, &plan));
        let version = self.version_of(&schema, &plan).0 as usize;
        if let Some(version) = self.versions.get_mut(version) {
            version.news = news;
        }
        self.known.insert(map.names.into(), Known::Followed { shape: map.shape.to_vec(), version });
        Ok(Target::Followed(version))
    }

    /// What a map says of its table, and what the configuration does.
    fn shape<'a>(&self, map: &TableMap<'a>, table: &TableName) -> Result<Cow<'a, [u8]>, Short> {
        Ok(match named(&self.keys, table) {
            None => Cow::Borrowed(map.shape),
            key => Cow::Owned(Description::parse(map.shape)?.with_key(key)),
        })
    }

    /// The number of the version of a table that has these columns.
    pub fn version_of(&mut self, schema: &TableSchema, plan: &RowPlan) -> TableNo {
        let known = self.versions.iter().position(|old| old.record.schema == *schema && old.plan == *plan);
        TableNo(known.unwrap_or_else(|| self.add(schema.clone(), plan.clone())) as u32)
    }

    /// A version by its number.
    #[must_use]
    pub fn known(&self, version: usize) -> Option<&Version> {
        self.versions.get(version)
    }

    /// The map completed by the description of the table's last rows, and where what that does not say of itself was asked for.
    fn by_the_log(&self, table: &TableName, own: &Description<'_>) -> Option<(Vec<u8>, Option<Position>)> {
        let logged = self.logged.get(table).filter(|logged| !logged.altered)?;
        let described = own.completed_by(&Description::parse(&logged.described).ok()?)?;
        let whole =
            Description::parse(&described).is_ok_and(|described| described.is_whole(self.server.family));
        whole.then(|| (described, logged.asked_at.clone()))
    }

    /// Leaves rows out that do not fit what was asked for when the binlog ended at `until`; `None` where nothing can explain that.
    fn leave_out(&mut self, table: TableName, until: Position, place: &Place) -> Option<usize> {
        let place_of = self.unread.iter().position(|unread| unread.table == table);
        let number = match place_of {
            Some(number) => number,
            None => {
                self.unread.push(Unread { table, until });
                self.unread.len() - 1
            }
        };
        let unread = self.unread.get(number)?;
        (!self.has_reached(place, &unread.until)).then_some(number)
    }

    /// What is to be noted of rows of this shape.
    fn news(&self, shape: Shape, new: (&TableSchema, &RowPlan)) -> Option<Box<News>> {
        let Some(old) = self.logged.get(&shape.table) else {
            return Some(Box::new(News { shape, gap: None }));
        };
        if *old == shape {
            return None;
        }
        let before = schema::build(&old.table, &old.described, self.server.family).ok();
        let gap = before.and_then(|(schema, plan)| schema::difference((&schema, &plan), new));
        Some(Box::new(News { shape, gap }))
    }

    fn add(&mut self, schema: TableSchema, plan: RowPlan) -> usize {
        let number = self.versions.len();
        let columns = schema.columns.iter().map(|Column { name, .. }| name.as_str()).collect::<Vec<_>>();
        tracing::info!(table = %schema.name, columns = ?columns, "following the table in this shape");
        let changes = metrics::counter!("everrelay_source_changes_total", "table" => schema.name.to_string());
        let stamped = self.stamped.of(&schema.name).copied().unwrap_or_default();
        let record = SchemaRecord { table: TableNo(number as u32), schema };
        self.versions.push(Version { record, plan, stamped, sent: false, news: None, changes });
        number
    }

    /// What `table_id` means in the open statement.
    #[must_use]
    pub fn target(&self, table_id: u64) -> Option<Target> {
        self.open.iter().find(|(id, _)| *id == table_id).map(|(_, target)| *target)
    }

    /// The version behind [`Target::Followed`], its schema written into `batch` if the log does not have it; and what its rows say
    /// of their table, once.
    pub fn version(&mut self, version: usize, batch: &mut Batch) -> Option<(&Version, Option<Box<News>>)> {
        let version = self.versions.get_mut(version)?;
        version.send(batch);
        let news = version.news.take();
        if let Some(News { shape, .. }) = news.as_deref() {
            self.logged.insert(shape.table.clone(), shape.clone());
        }
        Some((version, news))
    }

    /// The same for rows that are read again: what they say of their table was said with their event.
    pub fn again(&mut self, version: usize, batch: &mut Batch) -> Option<&Version> {
        let version = self.versions.get_mut(version)?;
        version.send(batch);
        Some(version)
    }

    /// The name of the table behind [`Target::Followed`].
    #[must_use]
    pub fn name(&self, version: usize) -> TableName {
        self.versions.get(version).map_or_else(|| TableName::new("", ""), |v| v.record.schema.name.clone())
    }

    /// The table behind [`Target::Unread`].
    #[must_use]
    pub fn unread(&self, number: usize) -> Option<&TableName> {
        self.unread.get(number).map(|unread| &unread.table)
    }

    /// The statement ended: its table ids mean nothing any more.
    pub fn end_statement(&mut self) {
        self.open.clear();
    }

    /// Schemas are to be sent again before their next use.
    pub fn forget_schemas(&mut self) {
        self.versions.iter_mut().for_each(|version| version.sent = false);
    }

    /// A statement that begins at `began` may have altered, made or removed the table. `None` if the log describes no rows of it, or
    /// knows already.
    pub fn alter(&mut self, table: &TableName, began: &Place) -> Option<Altered> {
        let versions = &self.versions;
        self.known.retain(|_, known| {
            let Known::Followed { version, .. } = known else { return true };
            versions.get(*version).is_none_or(|version| version.record.schema.name != *table)
        });
        self.asked.remove(table);
        self.unread.retain(|unread| unread.table != *table);
        self.open.retain(|(_, target)| !matches!(target, Target::Unread(_)));
        let (server, shape) = (self.server, self.logged.get_mut(table).filter(|shape| !shape.altered)?);
        shape.altered = true;
        let newer = |asked: &Position| !stands_at(server, began, asked);
        Some(Altered { was_newer: shape.asked_at.as_ref().is_some_and(newer) })
    }

    /// A column as the table's last rows had it.
    #[must_use]
    pub fn before(&self, table: &TableName, column: &str) -> Option<Before> {
        let logged = self.logged.get(table)?;
        schema::before(&logged.described, self.server.family, column)
    }

    fn same(&self, a: &TableName, b: &TableName) -> bool {
        self.patterns.same_name(&a.schema, &b.schema) && self.patterns.same_name(&a.table, &b.table)
    }

    /// The followed tables that were there when connecting, were seen in the stream, or that the log describes.
    fn all(&self) -> impl Iterator<Item = &TableName> {
        let seen = self.versions.iter().map(|version| &version.record.schema.name);
        let all = self.there.iter().chain(seen).chain(self.logged.keys());
        all.filter(|table| self.patterns.follows_table(table))
    }

    /// Whether the table was there when connecting, was seen in the stream, or is described by the log.
    #[must_use]
    pub fn is_known(&self, table: &TableName) -> bool {
        self.all().any(|known| self.same(known, table))
    }

    /// The followed tables that are known, in order.
    #[must_use]
    pub fn followed(&self) -> Vec<TableName> {
        self.all().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The name of a table that a statement names, as the server's table maps spell it: where names are the same in any case a
    /// statement may spell it otherwise.
    #[must_use]
    pub fn spelt(&self, table: TableName) -> TableName {
        if self.patterns.case() != NameCase::Insensitive {
            return table;
        }
        match self.all().find(|known| self.same(known, &table)) {
            Some(known) => known.clone(),
            // One that is gone again. What it can have been called is what such a server stores (lower_case_table_names = 1).
            None => TableName::new(table.schema.to_lowercase(), table.table.to_lowercase()),
        }
    }

    /// The followed tables of this schema that are known.
    #[must_use]
    pub fn seen_in(&self, schema: &str) -> BTreeSet<TableName> {
        self.all().filter(|name| self.patterns.same_name(&name.schema, schema)).cloned().collect()
    }

    fn has_reached(&self, place: &Place, position: &Position) -> bool {
        stands_at(self.server, place, position)
    }
}

/// Whether a place of this server is at a position or behind it; false where the two cannot be compared.
fn stands_at(server: Peer, place: &Place, position: &Position) -> bool {
    server.uuid == position.server
        && in_order(&place.file, place.offset) >= in_order(&position.file, position.offset)
}

/// The same of two positions.
fn has_reached(place: &Position, position: &Position) -> bool {
    place.server == position.server
        && in_order(&place.file, place.offset) >= in_order(&position.file, position.offset)
}
