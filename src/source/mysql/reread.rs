//! Rows that their events did not say whole, read again by key before their transaction counts.
//!
//! # Constraints
//!
//! What is read is at least as new as the transaction, on the server that streams it: a server sends a transaction to its replicas before its own engine has
//! committed it, so that a row read at once could be the one before. It may be newer; then the newer event comes later, with a higher version. A row
//! that is not there any more is deleted, which is true only where nothing stood in the way of finding it: a table whose columns are
//! others now, or a key that cannot be spelt, needs a snapshot instead. Memory holds the keys, one chunk of them as values, and a row.
//!
//! # Operation
//!
//! A second connection, to the same server ([`Peer`]), is made when it is first needed and kept. MySQL: its executed set is read until everything that the log will hold is
//! in it. MariaDB, whose binlog state moves before its engines do: transactions with a consistent snapshot are begun until the snapshot's place in the binlog is not before our transaction's end: whatever is read after that is as new.
//! Then keys are asked for in chunks, and rows go into the batch as they come, a chunk over as many batches as it needs. What was executed by the end is the *read
//! horizon*: the log keeps it until it has come as far.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use crate::event::{GtidSet, Op, TableNo};
use crate::log::record::Batch;

use super::binlog::Binlog;
use super::control::Control;
use super::decode::{Decoder, Key, MAX_KEY_PARTS, RowPlan};
use super::error::MysqlError;
use super::link::prepared::Prepared;
use super::options::MysqlOptions;
use super::owed::{Owed, Sorted, parts};
use super::read_after_write::Unanswered;
use super::select::{self, RowReader};
use super::server::Peer;
use super::tables::Version;
use super::{BATCH_BYTES, literal};

/// A connection that was not used for so long is not trusted to be there: servers end idle ones.
const IDLE: Duration = Duration::from_secs(60);

/// Most keys in a question, and most bytes of it.
const CHUNK: usize = 512;
const CHUNK_BYTES: usize = 512 << 10;

/// What is done, in errors.
const DOING: &str = "reading rows again";

/// Why a table needs a snapshot.
const CHANGED: &str =
    "rows came without all their columns, and the table was another one when they were read again";
const UNSPELT: &str =
    "a row came without all its columns, and its key has bytes that are none of its character set";

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// All is read. What the server had executed by then.
    Done(GtidSet),
}

/// Reads rows again for one source.
#[derive(Debug)]
pub struct Reread {
    options: MysqlOptions,
    peer: Peer,
    control: Option<(Control, Instant)>,
    keys: Decoder,
    work: Option<Work>,
    rows: metrics::Counter,
}

/// What is being done for one transaction.
#[derive(Debug)]
struct Work {
    owed: Owed,
    /// Everything that the log will hold with this transaction, and its end in the binlog.
    after: GtidSet,
    place: (String, u64),
    waited: bool,
    table: Option<Table>,
}

/// The table at hand.
#[derive(Debug)]
struct Table {
    version: TableNo,
    keys: Sorted,
    chunk: Option<Chunk>,
}

/// Keys that were asked for.
#[derive(Debug)]
struct Chunk {
    statement: Prepared,
    reader: RowReader,
    /// The keys of rows that have not come yet, as the log holds them.
    wanted: HashSet<Vec<u8>>,
}

/// A question that was not answered by rows.
enum Refusal {
    /// The table is not as its plan says.
    Changed,
    /// A key cannot be written as SQL.
    Unspelt,
    Error(MysqlError),
}

impl Reread {
    #[must_use]
    pub fn new(options: &MysqlOptions) -> Reread {
        Reread {
            options: options.clone(),
            peer: Peer::default(),
            control: None,
            keys: Decoder::new(options.max_row_bytes),
            work: None,
            rows: metrics::counter!("everrelay_source_rows_read_again_total"),
        }
    }

    /// A new stream begins, from this server.
    pub fn restart(&mut self, options: &MysqlOptions, peer: Peer) {
        self.options = options.clone();
        (self.peer, self.control, self.work) = (peer, None, None);
    }

    /// Closes the connection, if there is one.
    pub fn disconnect(&mut self) {
        (self.control, self.work) = (None, None);
    }

    /// Rows of a transaction are being read.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.work.is_some()
    }

    /// Begins with what a transaction owes. `after`: everything that the log will hold with it; `place`: its end, file and offset.
    pub fn begin(&mut self, owed: Owed, after: GtidSet, place: (String, u64)) {
        self.work = Some(Work { owed, after, place, waited: false, table: None });
    }

    /// Does a part of the work, until `batch` has its usual size.
    ///
    /// # Errors
    /// The connection's, a row's that cannot be carried, or the server has not executed the transaction in time.
    pub async fn step(&mut self, binlog: &mut Binlog, batch: &mut Batch) -> Result<Step, MysqlError> {
        let Some(mut work) = self.work.take() else { return Ok(Step::Done(GtidSet::default())) };
        while let Some((version, why)) = work.owed.next_lost() {
            binlog.lost(version, why);
        }
        if !work.waited {
            if work.owed.is_empty() {
                return Ok(Step::Done(GtidSet::default()));
            }
            self.until_executed(&work).await?;
            work.waited = true;
        }
        // A table that has changed costs the connection; another one shows the transaction as well. Rows under way come from none but theirs.
        if work.table.as_ref().is_none_or(|table| table.chunk.is_none()) {
            self.connect().await?;
        }
        let table = match work.table.take() {
            Some(table) => Some(table),
            None => work.owed.next_table().map(|(version, keys)| Table { version, keys, chunk: None }),
        };
        let Some(table) = table else { return Ok(Step::Done(self.finish().await?)) };
        work.table = self.table(table, binlog, batch).await?;
        if let Some((_, used)) = &mut self.control {
            *used = Instant::now();
        }
        self.work = Some(work);
        Ok(Step::More)
    }

    /// Goes on with a table; `None` when nothing of it is left.
    async fn table(
        &mut self,
        mut table: Table,
        binlog: &mut Binlog,
        batch: &mut Batch,
    ) -> Result<Option<Table>, MysqlError> {
        let Some(version) = binlog.version(table.version, batch) else {
            return Err(MysqlError::NotConnected);
        };
        let mut chunk = match table.chunk.take() {
            Some(chunk) => chunk,
            None => match self.ask(version, &mut table.keys).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(None),
                Err(refusal) => return given_up(binlog, table.version, refusal),
            },
        };
        let number = version.record.table;
        let ended = match self.rows(&mut chunk, version, batch).await {
            Ok(ended) => ended,
            Err(refusal) => return given_up(binlog, table.version, refusal),
        };
        binlog.replaced(std::mem::take(&mut chunk.reader.replaced));
        if !ended {
            table.chunk = Some(chunk);
            return Ok(Some(table));
        }
        for key in chunk.wanted.drain() {
            tombstone(number, &key, batch);
        }
        match self.control()?.forget(chunk.statement, DOING).await {
            Ok(()) => Ok(Some(table)),
            Err(unanswered) => given_up(binlog, table.version, unanswered.into()),
        }
    }

    /// Asks for the next rows; `None` where no key is left.
    async fn ask(&mut self, version: &Version, keys: &mut Sorted) -> Result<Option<Chunk>, Refusal> {
        let Version { record, plan, .. } = version;
        let schema = &record.schema;
        let mut sql = format!("SELECT {} FROM {} WHERE ", select::list(schema), select::table(schema));
        let (head, mut wanted) = (sql.len(), HashSet::new());
        while wanted.len() < CHUNK && sql.len() < CHUNK_BYTES {
            let Some(key) = keys.next_key() else { break };
            let mut value = Vec::new();
            if sql.len() > head {
                sql.push_str(" OR ");
            }
            condition(&mut sql, version, key)
                .and_then(|()| self.value(plan, key, &mut value))
                .ok_or(Refusal::Unspelt)?;
            wanted.insert(value);
        }
        if sql.len() == head {
            return Ok(None);
        }
        let most = self.options.max_row_bytes;
        match self.control()?.select(&sql, plan, most, DOING).await {
            Ok((statement, reader)) => Ok(Some(Chunk { statement, reader, wanted })),
            Err(unanswered) => {
                // Its answer may not be read to the end.
                self.control = None;
                Err(unanswered.into())
            }
        }
    }

    /// A key as the log holds it.
    fn value(&mut self, plan: &RowPlan, key: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut raw: Key<'_> = [&[]; MAX_KEY_PARTS];
        raw.iter_mut().zip(parts(key)).for_each(|(place, part)| *place = part);
        self.keys.key(plan, &raw, out).ok()
    }

    /// Takes rows as they come; true behind the last one.
    async fn rows(
        &mut self,
        chunk: &mut Chunk,
        version: &Version,
        batch: &mut Batch,
    ) -> Result<bool, Refusal> {
        let Chunk { reader, wanted, .. } = chunk;
        let (most, table) = (self.options.max_row_bytes, &version.record.schema.name);
        let mut key = Vec::new();
        while batch.len() < BATCH_BYTES {
            let control = self.control()?;
            let Some(row) = control.row(table, most, DOING).await? else { return Ok(true) };
            let mut change = batch.change(version.record.table);
            let from = change.values().len();
            reader
                .read(row, change.values())
                .map_err(|source| MysqlError::selected(table, control.name(), source))?;
            key.clear();
            reader
                .key(change.values().get(from..).unwrap_or_default())
                .for_each(|part| key.extend_from_slice(part));
            // What is equal in a collation is still another document.
            if wanted.remove(&key) {
                change.finish(Op::Update);
                version.changes.increment(1);
                self.rows.increment(1);
            }
        }
        Ok(false)
    }

    /// Waits until the second connection shows the transaction.
    async fn until_executed(&mut self, work: &Work) -> Result<(), MysqlError> {
        self.connect().await?;
        self.control()?.until_shown(&work.after, &work.place).await
    }

    /// What the server has executed now.
    async fn finish(&mut self) -> Result<GtidSet, MysqlError> {
        self.control()?.seen().await
    }

    async fn connect(&mut self) -> Result<(), MysqlError> {
        if self.control.as_ref().is_some_and(|(_, used)| used.elapsed() > IDLE) {
            self.control = None;
        }
        if self.control.is_some() {
            return Ok(());
        }
        let control = Control::to_read(&self.options, self.peer, "preparing to read rows again").await?;
        self.control = Some((control, Instant::now()));
        Ok(())
    }

    fn control(&mut self) -> Result<&mut Control, MysqlError> {
        self.control.as_mut().map(|(control, _)| control).ok_or(MysqlError::NotConnected)
    }
}

/// Rows of a table's version are not read: those that it owes are lost, or it is tried again as a whole.
fn given_up(binlog: &mut Binlog, version: TableNo, refusal: Refusal) -> Result<Option<Table>, MysqlError> {
    match refusal {
        Refusal::Changed => binlog.lost(version, CHANGED),
        Refusal::Unspelt => binlog.lost(version, UNSPELT),
        Refusal::Error(error) => return Err(error),
    }
    Ok(None)
}
/// Appends what a row with this key fulfils.
fn condition(sql: &mut String, version: &Version, key: &[u8]) -> Option<()> {
    let schema = &version.record.schema;
    sql.push('(');
    for (n, (index, raw)) in schema.key.iter().zip(parts(key)).enumerate() {
        if n > 0 {
            sql.push_str(" AND ");
        }
        let index = usize::from(*index);
        select::push_name(sql, &schema.columns.get(index)?.name);
        sql.push_str(" = ");
        literal::push(sql, &version.plan.columns.get(index)?.kind, raw)?;
    }
    sql.push(')');
    Some(())
}

fn tombstone(table: TableNo, key: &[u8], batch: &mut Batch) {
    let mut change = batch.change(table);
    change.values().extend_from_slice(key);
    change.finish(Op::Tombstone);
}

impl From<Unanswered> for Refusal {
    fn from(unanswered: Unanswered) -> Refusal {
        match unanswered {
            Unanswered::Changed => Refusal::Changed,
            Unanswered::Stopped(error) | Unanswered::Error(error) => Refusal::Error(error),
        }
    }
}

impl From<MysqlError> for Refusal {
    fn from(error: MysqlError) -> Refusal {
        Refusal::Error(error)
    }
}
