//! A disk whose free space is what a test says, a source that counts what is asked of it, and an engine that can be away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everrelay::disk::{Disk, SystemDisk, SystemLock};
use everrelay::event::codec::RowWriter;
use everrelay::event::document::{Action, ByRow, IndexSpec};
use everrelay::event::gtid::Origin;
use everrelay::event::{Column, ColumnType, Gtid, Op, TableName, TableNo, TableSchema, Xid};
use everrelay::log::prepared::{Outcome, Prepared, Xa};
use everrelay::log::record::{Batch, Commit, Position, SchemaRecord, Synced};
use everrelay::log::{Log, Noted, Standing};
use everrelay::sink::{
    Bulk, BulkError, Disposition, Expect, Index, IndexNo, Old, Sink, SinkError, Swept, UnderWay, Whose,
};
use everrelay::source::{Source, SourceError, Start};
use tokio::sync::watch;

/// The machine's files on a disk that has as much room as it is told.
#[derive(Clone, Debug)]
pub struct SmallDisk {
    free: Arc<AtomicU64>,
}

impl SmallDisk {
    pub fn new(free: u64) -> SmallDisk {
        SmallDisk { free: Arc::new(AtomicU64::new(free)) }
    }

    pub fn set_free(&self, bytes: u64) {
        self.free.store(bytes, Ordering::SeqCst);
    }
}

impl Disk for SmallDisk {
    type File = File;
    type Lock = SystemLock;

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        Disk::open(&SystemDisk, path)
    }

    fn open_writable(&self, path: &Path) -> io::Result<File> {
        SystemDisk.open_writable(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        SystemDisk.create_new(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SystemLock>> {
        SystemDisk.lock(path)
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::SeqCst))
    }
}

/// Bytes of a row's text.
pub const PAD: usize = 200;
/// Rows that one call gives at most: batches begin and end inside transactions.
const ROWS_AT_HAND: u64 = 17;
pub const TABLE: TableNo = TableNo(3);

/// What was asked of a source.
#[derive(Debug, Default)]
pub struct Seen {
    pub connected: AtomicBool,
    pub connections: AtomicU64,
    /// The most that the log had when something was asked for, bytes.
    pub most_log_bytes: AtomicU64,
    /// In the middle of which transaction a disk is left with how many bytes.
    pub shrinks: Mutex<Option<(u64, SmallDisk, u64)>>,
    /// How often each transaction was begun.
    begun: Mutex<BTreeMap<u64, u64>>,
}

impl Seen {
    pub fn begun(&self, transaction: u64) -> u64 {
        self.begun.lock().unwrap().get(&transaction).copied().unwrap_or(0)
    }

    fn reached(&self, (transaction, row): (u64, u64)) {
        let mut shrinks = self.shrinks.lock().unwrap();
        if let Some((_, disk, free)) = shrinks.take_if(|(number, ..)| *number == transaction && row > 0) {
            disk.set_free(free);
        }
    }
}

/// A server with one table, into which each transaction inserted so many rows. Rows are numbered on from 1, transactions too. One without rows
/// commits the first one, which then is one of XA.
pub struct ModelSource {
    rows: Vec<u64>,
    seen: Arc<Seen>,
    log: Log<SmallDisk>,
    /// The transaction that is read, and how many of its rows were.
    at: (u64, u64),
    told: bool,
}

impl ModelSource {
    pub fn new(rows: Vec<u64>, seen: Arc<Seen>, log: Log<SmallDisk>) -> ModelSource {
        ModelSource { rows, seen, log, at: (1, 0), told: false }
    }

    fn rows_before(&self, transaction: u64) -> u64 {
        self.rows[..transaction as usize - 1].iter().sum()
    }

    fn commit(&mut self, transaction: u64, xa: Vec<Xa>, batch: &mut Batch) {
        let origin = Origin::Server { uuid: [7; 16], tag: String::new() };
        let (server, file) = ([7; 16], "binlog.000001".into());
        batch.commit(&Commit {
            synced: Synced::default(),
            gtid: Some(Gtid { origin, number: transaction }),
            time_micros: 1,
            position: Position { server, file, offset: transaction, ..Position::default() },
            noted: Noted { xa, ..Noted::default() },
        });
        self.at = (transaction + 1, 0);
    }
}

impl Source for ModelSource {
    async fn resolve_start(&mut self, _: &Start) -> Result<Standing, SourceError> {
        Ok(Standing::default())
    }

    async fn connect(&mut self, after: &Standing) -> Result<(), SourceError> {
        assert!(!self.seen.connected.swap(true, Ordering::SeqCst), "connected already");
        self.seen.connections.fetch_add(1, Ordering::SeqCst);
        self.at = (after.gtids.count() + 1, 0);
        self.told = false;
        Ok(())
    }

    fn disconnect(&mut self) {
        self.seen.connected.store(false, Ordering::SeqCst);
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<(), SourceError> {
        assert!(self.seen.connected.load(Ordering::SeqCst), "not connected");
        self.seen.most_log_bytes.fetch_max(self.log.stats().bytes, Ordering::SeqCst);
        // As if it came from a network: whoever else is to run does.
        tokio::task::yield_now().await;
        if !self.told {
            batch.schema(&schema());
            self.told = true;
        }
        self.seen.reached(self.at);
        for _ in 0..ROWS_AT_HAND {
            let (transaction, row) = self.at;
            let Some(&rows) = self.rows.get(transaction as usize - 1) else {
                if batch.is_empty() {
                    std::future::pending::<()>().await;
                }
                return Ok(());
            };
            let is_xa = self.rows.contains(&0);
            let xid = Xid::new(1, b"first", b"").unwrap();
            if rows == 0 {
                self.commit(transaction, vec![Xa::Decided { xid, outcome: Outcome::Committed }], batch);
                continue;
            }
            batch.hold(is_xa && transaction == 1);
            if row == 0 {
                *self.seen.begun.lock().unwrap().entry(transaction).or_default() += 1;
            }
            let mut change = batch.change(TABLE);
            let mut writer = RowWriter::new(change.values());
            writer.u64(self.rows_before(transaction) + row + 1);
            writer.text(&"x".repeat(PAD));
            change.finish(Op::Insert);
            self.at.1 += 1;
            if self.at.1 == rows {
                let held = Prepared { xid, gtid: None, time_micros: 1, held: None };
                let held = Some(Xa::Prepared(held)).filter(|_| is_xa && transaction == 1);
                self.commit(transaction, held.into_iter().collect(), batch);
            }
        }
        Ok(())
    }
}

pub fn schema() -> SchemaRecord {
    let id =
        Column { name: "id".into(), ty: ColumnType::Integer { bits: 64, unsigned: true }, nullable: false };
    let pad = Column { name: "pad".into(), ty: ColumnType::Text, nullable: false };
    let name = TableName::new("shop", "t");
    SchemaRecord { table: TABLE, schema: TableSchema { name, columns: vec![id, pad], key: vec![0] } }
}

fn index(alias: &str) -> Index {
    Index { no: IndexNo(0), name: alias.to_owned(), uuid: "u".into(), history: None, made: false }
}

/// An engine that takes everything, unless it is away.
#[derive(Debug)]
pub struct ModelEngine {
    ids: Mutex<BTreeSet<u64>>,
    here: watch::Sender<bool>,
    /// How long it takes over a bulk, and the rows in the order in which it took them.
    takes: Duration,
    order: Mutex<Vec<u64>>,
}

impl ModelEngine {
    pub fn new(here: bool) -> ModelEngine {
        ModelEngine {
            ids: Mutex::default(),
            here: watch::Sender::new(here),
            takes: Duration::ZERO,
            order: Mutex::default(),
        }
    }

    pub fn slow(takes: Duration) -> ModelEngine {
        ModelEngine { takes, ..ModelEngine::new(true) }
    }

    /// Rows in the order in which they became documents.
    pub fn order(&self) -> Vec<u64> {
        self.order.lock().unwrap().clone()
    }

    pub fn is_here(&self, here: bool) {
        self.here.send_replace(here);
    }

    /// How many rows became documents.
    pub fn documents(&self) -> u64 {
        self.ids.lock().unwrap().len() as u64
    }

    /// The last row that did.
    pub fn last(&self) -> u64 {
        self.ids.lock().unwrap().last().copied().unwrap_or(0)
    }
}

impl Sink for ModelEngine {
    async fn ensure(&self, spec: &IndexSpec, _: Expect) -> Result<Index, SinkError> {
        Ok(index(&spec.alias))
    }

    async fn find(&self, alias: &str, _: Expect) -> Result<Option<Index>, SinkError> {
        Ok((self.documents() > 0).then(|| index(alias)))
    }

    async fn aliases(&self, _: &ByRow) -> Result<Vec<String>, SinkError> {
        unreachable!("no table has more than one index here")
    }

    async fn sweep(
        &self,
        _: IndexNo,
        _: Old<'_>,
        _: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        unreachable!("no table is truncated here")
    }

    fn encode<E>(
        &self,
        _: IndexNo,
        _: &Action<'_>,
        document: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        body: &mut Vec<u8>,
    ) -> Result<(), E> {
        document(body)
    }

    async fn send(&self, bulk: &Bulk) -> Result<Vec<Disposition>, BulkError> {
        let here = self.here.subscribe().wait_for(|here| *here).await.map(|_| ());
        here.map_err(|_| BulkError::Transient { reason: "gone".into(), retry_after: None })?;
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let rows = || bulk.items.iter().map(|item| item.id.parse::<u64>().unwrap());
        self.ids.lock().unwrap().extend(rows());
        self.order.lock().unwrap().extend(rows());
        Ok(vec![Disposition::Done; bulk.items.len()])
    }

    async fn under_way(&self, _: Whose<'_>) -> Result<UnderWay, SinkError> {
        Ok(UnderWay::Nothing)
    }

    async fn release(&self) -> Result<(), SinkError> {
        Ok(())
    }
}
