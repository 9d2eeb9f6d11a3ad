//! The deliver side against a model engine: whatever the engine refuses, loses, forgets or does not say, and wherever the relay is
//! killed, every index ends as the newest committed state of all documents but those that are parked, and the cursor never stands above what the engine
//! has or the store keeps. Tables are truncated, and lose rows that only a snapshot finds; an operator has parked changes sent again, or dropped.
//!
//! Everything follows from one seed. `EVERRELAY_TEST_SEED=N cargo test --test deliver_model TEST` replays it.

#[path = "support/engine_model.rs"]
mod engine_model;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_model::{Kept, forget_tombstones, take};
use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::event::codec::{Row, RowWriter};
use everrelay::event::document::{Action, ByRow, IndexSpec, Verb};
use everrelay::event::gtid::Origin;
use everrelay::event::pattern::TablePattern;
use everrelay::event::{
    Column, ColumnType, Gtid, GtidSet, Op, Seq, TableName, TableNo, TableSchema, Value, Version,
};
use everrelay::lifecycle::{Readiness, Shutdown};
use everrelay::log::record::{
    Batch, Change, Commit, Kind, Mark, Position, SchemaRecord, SweepRecord, Synced,
};
use everrelay::log::snapshot::{self, SnapshotNote, SnapshotStep};
use everrelay::log::{Frame, Log, LogOptions, Noted, Opened, Writer};
use everrelay::mapping::rule::{DeletesAs, Rule, Rules};
use everrelay::mapping::template::IndexTemplate;
use everrelay::relay::deliver::Deliver;
use everrelay::relay::options::DeliverOptions;
use everrelay::relay::parked_orders::{self, Became, Fates, ParkedOrder, ParkedOrders, Which};
use everrelay::relay::parking::ParkLimits;
use everrelay::relay::replay::orders::{self as replay_orders, ReplayOrder, ReplayOrders};
use everrelay::settled::{Cursor, CursorStore, HowEnded, MemoryCursor, Parked, Replay};
use everrelay::sink::{
    Bulk, BulkError, Disposition, Expect, Index, IndexNo, Old, Sink, SinkError, Swept, UnderWay, Whose,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;

/// Keys per table: few, so that every document is hot.
const KEYS: i64 = 12;
const TABLES: [&str; 2] = ["a", "b"];
/// The table whose documents of deleted rows stay and say so, where any do.
const MARKED: usize = 1;
/// The table whose rows say by their key which index their documents are in: each has its own.
const BY_ROW: usize = 0;
const ORIGIN: [u8; 16] = [7; 16];

/// The alias that a document is behind.
fn alias_of(table: &str, id: &str) -> String {
    let by_row = if table == TABLES[BY_ROW] { format!("-{id}") } else { String::new() };
    format!("shop.{table}{by_row}")
}

/// What all aliases of a table begin with.
fn whole(alias: &str) -> &str {
    alias.split('-').next().unwrap_or(alias)
}

#[derive(Default)]
struct Documents {
    /// By alias and id.
    kept: BTreeMap<(String, String), Kept>,
    aliases: Vec<String>,
    /// Bulks that nobody waits for any more and that are yet to be applied.
    late: Vec<Late>,
}

/// A bulk that was given up, or whose relay was killed.
struct Late {
    number: u64,
    run: u64,
    opaque_id: String,
    /// By alias and id.
    documents: Vec<(String, String)>,
}

/// An engine that forgets deleted versions and misbehaves by chance.
struct ModelEngine {
    documents: Arc<Mutex<Documents>>,
    chance: Mutex<StdRng>,
    /// Documents of bulks under way: no two bulks may hold the same one.
    under_way: Mutex<Vec<(IndexNo, String)>>,
    /// Indices being swept: no bulk may hold a document of one.
    sweeping: Mutex<Vec<IndexNo>>,
    /// The newest version that was sent in this run, by index.
    newest: Mutex<BTreeMap<IndexNo, Version>>,
    passed: Passed,
    snapshots: Snapshots,
    /// Refuses [`is_poison`] and [`is_too_large`].
    strict: bool,
    dropped: Dropped,
    trouble: bool,
    run: u64,
    /// Tells what it is at work on.
    tells: bool,
}

/// How often the engine does not answer about an index: seldom enough that it does not do so for a whole drain time, which ends a run, in any of the thousands of times that it is asked.
const NOT_NOW: f64 = 0.1;

/// How long a bulk that was given up may be at work; the quarantine is a little longer.
const LATEST: Duration = Duration::from_millis(400);

/// A bulk that is being sent. Dropped before it is answered for, as by a kill, it is applied later.
struct Sending<'e> {
    engine: &'e ModelEngine,
    bulk: &'e Bulk,
    answered: bool,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.engine.apply_later(self.bulk);
        }
    }
}

/// Documents whose parked change was dropped in some run, by alias and id: what they are in the index is nobody's business until their row changes.
type Dropped = Arc<Mutex<BTreeSet<(String, String)>>>;

/// The document that a row becomes.
fn body(key: i64, value: i64, end: &str) -> String {
    format!("{{\"id\":{key},\"value\":{value}{end}}}")
}

/// Rows that an engine may refuse, by what their documents say.
fn is_poison(body: &str) -> bool {
    body.trim_end().ends_with("3}")
}

/// Documents that are larger than an engine's limit.
fn is_too_large(body: &str) -> bool {
    body.trim_end().ends_with("8}")
}

/// Snapshots that have ended: the alias, or what all of them begin with, and the version that the snapshot began with, and the ids of the rows when it ended.
type Snapshots = Arc<Mutex<BTreeMap<(String, Version), Vec<String>>>>;

/// What stands in the log of each document, against what is sent: whatever the cursor has passed a newer change of must not be sent again as it was before, not even for a moment.
struct Passed {
    log: Log<SystemDisk>,
    cursor: MemoryCursor,
    told: Mutex<Told>,
    /// The newest version of each document that was sent in this run.
    sent: Mutex<BTreeMap<(String, String), Version>>,
}

/// A document's changes, in the order of the log.
type Changes = Vec<(Seq, Version, Verb)>;

/// What a log says of documents.
#[derive(Default)]
struct Told {
    tables: BTreeMap<TableNo, String>,
    /// By alias and id.
    changes: BTreeMap<(String, String), Changes>,
    /// By alias, or what all of them begin with: documents below a version go; with `true` those stay that say that their rows are deleted.
    sweeps: BTreeMap<String, Vec<(Seq, Version, bool)>>,
    /// Which changes those make.
    marked: BTreeSet<Version>,
    upto: Seq,
    /// Documents of deleted rows stay in one of the tables.
    marks: bool,
}

impl Told {
    /// Reads what has become visible.
    fn read(&mut self, log: &Log<SystemDisk>) {
        if self.upto >= log.visible().seq {
            return;
        }
        let from = self.upto.next().max(log.retained_start());
        let Ok(mut reader) = log.reader(from) else { return };
        // What retention takes meanwhile is not told.
        while let Ok(Some(frame)) = reader.next_frame() {
            self.upto = self.upto.max(frame.seq);
            self.tell(&frame);
        }
    }

    fn tell(&mut self, frame: &Frame<'_>) {
        match frame.kind {
            Kind::Schema => {
                let SchemaRecord { table, schema } = SchemaRecord::decode(frame.payload).unwrap();
                self.tables.insert(table, schema.name.table);
            }
            Kind::Sweep => {
                let record = SweepRecord::decode(frame.payload).unwrap();
                let swept = self.sweeps.entry(format!("shop.{}", record.table.table)).or_default();
                swept.push((frame.seq, record.below(), record.of_snapshot));
            }
            Kind::Change => {
                let Change { op, table, mut row, .. } = Change::decode(frame.payload).unwrap();
                let mut number = || match row.next_value().unwrap() {
                    Value::I64(number) => number.to_string(),
                    other => panic!("{other:?}"),
                };
                let mut put = |id: String, verb| {
                    let changes = self.changes.entry((alias_of(&self.tables[&table], &id), id)).or_default();
                    changes.push((frame.seq, frame.version, verb));
                };
                let id = number();
                let stays = self.marks && self.tables[&table] == TABLES[MARKED];
                match op {
                    Op::Delete if stays => {
                        put(id, Verb::Index);
                        self.marked.insert(frame.version);
                    }
                    Op::Delete | Op::Tombstone => put(id, Verb::Delete),
                    Op::Rekey => {
                        let (_, old) = (number(), number());
                        put(old, Verb::Delete);
                        put(id, Verb::Index);
                    }
                    Op::Insert | Op::Update | Op::Read => put(id, Verb::Index),
                }
            }
            _ => {}
        }
    }
}

impl Passed {
    fn new(log: &Log<SystemDisk>, cursor: &MemoryCursor, marks: bool) -> Passed {
        let told = Mutex::new(Told { marks, ..Told::default() });
        Passed { log: log.clone(), cursor: cursor.clone(), told, sent: Mutex::default() }
    }

    fn check(&self, document: (String, String), verb: Verb, version: Version) {
        let mut told = self.told.lock().unwrap();
        told.read(&self.log);
        let passed = self.cursor.load().unwrap().map_or(Seq(0), |cursor| cursor.seq);
        for (seq, newer, _) in told.changes.get(&document).into_iter().flatten() {
            let is_behind = *newer > version && *seq <= passed;
            assert!(
                !is_behind,
                "{document:?} of {version} is sent behind {newer}, which the cursor has passed"
            );
        }
        for (seq, below, but_marked) in told.sweeps.get(whole(&document.0)).into_iter().flatten() {
            let stays = *but_marked && told.marked.contains(&version);
            let returns = verb == Verb::Index && version < *below && *seq <= passed && !stays;
            assert!(!returns, "{document:?} of {version} returns: a sweep below {below} was passed");
        }
        let mut sent = self.sent.lock().unwrap();
        let before = sent.insert(document.clone(), version);
        assert!(before <= Some(version), "{document:?}: {version} is sent behind {before:?}");
    }
}

/// Takes an index out of those being swept, also where the sweep is dropped in the middle.
struct Sweeping<'e>(&'e ModelEngine, IndexNo);

impl Drop for Sweeping<'_> {
    fn drop(&mut self) {
        self.0.sweeping.lock().unwrap().retain(|index| *index != self.1);
    }
}

impl ModelEngine {
    fn draw(&self) -> f64 {
        if self.trouble { self.chance.lock().unwrap().random() } else { 1.0 }
    }

    /// Deleted versions are kept in memory only, and not for long.
    fn forget_tombstones(&self) {
        forget_tombstones(&mut self.documents.lock().unwrap().kept);
    }

    fn index(&self, documents: &Documents, alias: &str) -> Option<Index> {
        let no = documents.aliases.iter().position(|known| known == alias)?;
        Some(Index {
            no: IndexNo(no as u32),
            name: alias.to_owned(),
            uuid: "u".into(),
            history: None,
            made: false,
        })
    }

    /// A TRUNCATE's sweep: nothing else is written to its index meanwhile.
    fn bar(&self, index: IndexNo, bound: Version) -> Sweeping<'_> {
        let under_way = self.under_way.lock().unwrap().clone();
        assert!(under_way.iter().all(|(of, _)| *of != index), "swept before all older is answered for");
        assert!(!self.sweeping.lock().unwrap().contains(&index), "two sweeps of one index");
        let documents = self.documents.lock().unwrap();
        let alias = &documents.aliases[index.0 as usize];
        let of_it = |late: &Late| late.documents.iter().any(|(of, _)| of == alias);
        assert!(!documents.late.iter().any(of_it), "swept while older changes may still be applied");
        drop(documents);
        let newest = self.newest.lock().unwrap().get(&index).copied();
        assert!(newest.is_none_or(|newest| newest < bound), "a newer change was sent before the sweep");
        self.sweeping.lock().unwrap().push(index);
        Sweeping(self, index)
    }

    /// Applies a bulk at some later time, whoever has been killed meanwhile.
    fn apply_later(&self, bulk: &Bulk) {
        let number = self.chance.lock().unwrap().random();
        let mut documents = self.documents.lock().unwrap();
        let alias = |index: IndexNo| documents.aliases[index.0 as usize].clone();
        let of_bulk = bulk.items.iter().map(|item| (alias(item.index), item.id.to_string())).collect();
        let late = Late { number, run: self.run, opaque_id: bulk.opaque_id.clone(), documents: of_bulk };
        documents.late.push(late);
        let (kept, bulk, strict) = (Arc::clone(&self.documents), bulk.clone(), self.strict);
        let due = LATEST.mul_f64(self.draw());
        tokio::spawn(async move {
            tokio::time::sleep(due).await;
            let mut documents = kept.lock().unwrap();
            apply(&mut documents, strict, &bulk, || true);
            documents.late.retain(|late| late.number != number);
        });
    }

    fn apply(&self, bulk: &Bulk, only: impl Fn() -> bool) -> Vec<Disposition> {
        apply(&mut self.documents.lock().unwrap(), self.strict, bulk, only)
    }
}

/// Applies those items of a bulk that `only` lets through.
fn apply(documents: &mut Documents, strict: bool, bulk: &Bulk, only: impl Fn() -> bool) -> Vec<Disposition> {
    let mut dispositions = Vec::new();
    for item in &bulk.items {
        if !only() {
            dispositions.push(Disposition::Transient { reason: "busy".into() });
            continue;
        }
        let alias = documents.aliases[item.index.0 as usize].clone();
        let body = std::str::from_utf8(&bulk.body[item.bytes.clone()]).unwrap();
        // Before the version is looked at, as engines do it.
        if strict && item.verb == Verb::Index && is_poison(body) {
            dispositions.push(Disposition::Poison { kind: "poison", reason: "a three".into() });
            continue;
        }
        let kept = documents.kept.entry((alias, item.id.to_string())).or_default();
        let body = (item.verb == Verb::Index).then(|| body.trim_end());
        dispositions.push(take(kept, item.version, body));
    }
    dispositions
}

impl Sink for ModelEngine {
    async fn ensure(&self, spec: &IndexSpec, _expect: Expect) -> Result<Index, SinkError> {
        if self.draw() < NOT_NOW {
            return Err(SinkError::Transient("not now".into()));
        }
        let mut documents = self.documents.lock().unwrap();
        if !documents.aliases.contains(&spec.alias) {
            documents.aliases.push(spec.alias.clone());
        }
        Ok(self.index(&documents, &spec.alias).unwrap())
    }

    async fn find(&self, alias: &str, expect: Expect) -> Result<Option<Index>, SinkError> {
        if self.draw() < NOT_NOW {
            return Err(SinkError::Transient("not now".into()));
        }
        let found = self.index(&self.documents.lock().unwrap(), alias);
        assert!(found.is_some() || expect != Expect::Existing, "{alias} is gone");
        Ok(found)
    }

    async fn aliases(&self, by_row: &ByRow) -> Result<Vec<String>, SinkError> {
        if self.draw() < NOT_NOW {
            return Err(SinkError::Transient("not now".into()));
        }
        let documents = self.documents.lock().unwrap();
        Ok(documents.aliases.iter().filter(|alias| by_row.has(alias)).cloned().collect())
    }

    async fn sweep(
        &self,
        index: IndexNo,
        Old { versions, spared, but_marked }: Old<'_>,
        mut page: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        let alias = self.documents.lock().unwrap().aliases[index.0 as usize].clone();
        let rows = self.snapshots.lock().unwrap().get(&(whole(&alias).to_owned(), versions.end)).cloned();
        let _sweeping = rows.is_none().then(|| self.bar(index, versions.end));
        // What is there now: what is written meanwhile is not seen.
        let seen: Vec<(String, u64)> = {
            let documents = self.documents.lock().unwrap();
            let alias = &documents.aliases[index.0 as usize];
            let is_seen = |body: &String| !but_marked || !body.contains("deleted");
            let live = documents.kept.iter();
            let live = live.filter(|((of, _), (_, body))| of == alias && body.as_ref().is_some_and(is_seen));
            live.map(|((_, id), (version, _))| (id.clone(), *version)).collect()
        };
        for ids in seen.chunks(2) {
            tokio::time::sleep(Duration::from_micros((self.draw() * 10_000.0) as u64)).await;
            if self.draw() < 0.1 {
                self.forget_tombstones();
            }
            let mut swept = Swept::default();
            for (id, version) in ids {
                assert!(*version >= versions.start.0);
                if *version >= versions.end.0 || spared.contains(id.as_str()) {
                    swept.spared += 1;
                    continue;
                }
                let mut documents = self.documents.lock().unwrap();
                let alias = documents.aliases[index.0 as usize].clone();
                let dropped = self.dropped.lock().unwrap().contains(&(alias.clone(), id.clone()));
                let entry = documents.kept.entry((alias, id.clone())).or_insert((0, None));
                if entry.0 < versions.end.0 {
                    let is_row = !dropped && rows.as_ref().is_some_and(|rows| rows.contains(id));
                    assert!(!is_row || entry.1.is_none(), "a row that the snapshot found is deleted: {id}");
                    *entry = (versions.end.0 - 1, None);
                }
                swept.deleted += 1;
            }
            if page(&swept).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if self.draw() < 0.1 {
                return Err(SinkError::Transient("the scan was lost".into()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn encode<E>(
        &self,
        _index: IndexNo,
        action: &Action<'_>,
        document: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        body: &mut Vec<u8>,
    ) -> Result<(), E> {
        if action.verb == Verb::Index {
            document(body)?;
        }
        body.push(b'\n');
        Ok(())
    }

    async fn send(&self, bulk: &Bulk) -> Result<Vec<Disposition>, BulkError> {
        let documents: Vec<_> = bulk.items.iter().map(|item| (item.index, item.id.to_string())).collect();
        for (item, (_, id)) in bulk.items.iter().zip(&documents) {
            let alias = self.documents.lock().unwrap().aliases[item.index.0 as usize].clone();
            self.passed.check((alias, id.clone()), item.verb, item.version);
            let mut newest = self.newest.lock().unwrap();
            let newest = newest.entry(item.index).or_default();
            *newest = item.version.max(*newest);
        }
        {
            let mut under_way = self.under_way.lock().unwrap();
            for document in &documents {
                assert!(!under_way.contains(document), "two flights of one document: {document:?}");
                assert!(
                    !self.sweeping.lock().unwrap().contains(&document.0),
                    "sent while its index is swept"
                );
                under_way.push(document.clone());
            }
        }
        {
            let kept = self.documents.lock().unwrap();
            for late in &kept.late {
                let may_follow = |(index, id): &(IndexNo, String)| {
                    late.documents.contains(&(kept.aliases[index.0 as usize].clone(), id.clone()))
                };
                assert!(
                    !documents.iter().any(may_follow),
                    "a document is sent again before a former request of it is over"
                );
            }
        }
        let mut sending = Sending { engine: self, bulk, answered: false };
        let pause = Duration::from_micros((self.draw() * 3000.0) as u64);
        tokio::time::sleep(pause).await;
        if self.draw() < 0.1 {
            self.forget_tombstones();
        }
        let too_large = bulk.items.iter().any(|item| {
            let body = std::str::from_utf8(&bulk.body[item.bytes.clone()]).unwrap();
            self.strict && is_too_large(body)
        });
        let result = match self.draw() {
            // Whatever else is in it.
            _ if too_large => Err(BulkError::TooLarge { reason: "413".into() }),
            d if d < 0.05 => Err(BulkError::Transient { reason: "429".into(), retry_after: None }),
            d if d < 0.10 => {
                // Applied in part or in whole, and the answer is lost.
                if self.draw() < 0.5 {
                    self.apply(bulk, || self.draw() < 0.6);
                } else {
                    self.apply_later(bulk);
                }
                Err(BulkError::Unknown { reason: "reset".into() })
            }
            d if d < 0.15 && bulk.items.len() > 1 => Err(BulkError::TooLarge { reason: "413".into() }),
            d if d < 0.40 => Ok(self.apply(bulk, || self.draw() > 0.2)),
            _ => Ok(self.apply(bulk, || true)),
        };
        sending.answered = true;
        self.under_way.lock().unwrap().retain(|document| !documents.contains(document));
        result
    }

    async fn under_way(&self, whose: Whose<'_>) -> Result<UnderWay, SinkError> {
        if self.draw() < 0.2 {
            return Err(SinkError::Transient("a node did not say".into()));
        }
        if !self.tells {
            return Ok(UnderWay::Untold("403".into()));
        }
        let documents = self.documents.lock().unwrap();
        let of_it = |late: &&Late| match whose {
            Whose::Bulk(id) => late.run == self.run && late.opaque_id == id,
            Whose::FormerRuns => late.run != self.run,
        };
        Ok(match documents.late.iter().filter(of_it).count() {
            0 => UnderWay::Nothing,
            tasks => UnderWay::Tasks(tasks),
        })
    }

    async fn release(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The source's side: random transactions, and what the tables hold after each.
struct Story {
    chance: StdRng,
    tables: Vec<BTreeMap<i64, i64>>,
    /// Rows that were deleted, as they were, of [`MARKED`]; `None`: no document of such stays.
    marked: Option<BTreeMap<i64, i64>>,
    /// Ids of [`MARKED`] whose row went and nobody said how, while an engine may have refused what it was: the document may be as an earlier delete had marked it.
    marked_before: BTreeSet<String>,
    number: u64,
    /// Tables whose schema the present writer was given.
    told: [bool; 2],
    /// The one that goes on: its table, and the next key that it reads.
    snapshot: Option<(usize, i64)>,
    /// Tables whose snapshots are to come.
    wanted: Vec<usize>,
    ended: Snapshots,
}

impl Story {
    fn new(seed: u64, marks: bool) -> Story {
        Story {
            chance: StdRng::seed_from_u64(seed),
            tables: vec![BTreeMap::new(); TABLES.len()],
            marked: marks.then(BTreeMap::new),
            marked_before: BTreeSet::new(),
            number: 0,
            told: [false; 2],
            snapshot: None,
            wanted: Vec::new(),
            ended: Snapshots::default(),
        }
    }

    /// The documents that the tables make, by alias and id.
    fn expected(&self) -> BTreeMap<(String, String), String> {
        let of_table = |(rows, table, end): (&BTreeMap<i64, i64>, &str, &str)| {
            let document = |(key, value): (&i64, &i64)| {
                let id = key.to_string();
                ((alias_of(table, &id), id), body(*key, *value, end))
            };
            rows.iter().map(document).collect::<Vec<_>>()
        };
        let marked = self.marked.iter().map(|rows| (rows, TABLES[MARKED], ",\"deleted\":true"));
        let rows = self.tables.iter().zip(TABLES).map(|(rows, table)| (rows, table, ""));
        marked.chain(rows).flat_map(of_table).collect()
    }

    fn schema(table: usize) -> SchemaRecord {
        let bigint = ColumnType::Integer { bits: 64, unsigned: false };
        let column = |name: &str| Column { name: name.into(), ty: bigint, nullable: false };
        SchemaRecord {
            table: TableNo(table as u32),
            schema: TableSchema {
                name: TableName::new("shop", TABLES[table]),
                columns: vec![column("id"), column("value")],
                key: vec![0],
            },
        }
    }

    fn change(&mut self, batch: &mut Batch) {
        let t = self.chance.random_range(0..TABLES.len());
        if self.chance.random_bool(0.02) {
            batch.sweep(&SweepRecord::truncated(TableName::new("shop", TABLES[t])));
            self.tables[t].clear();
            self.marked.iter_mut().filter(|_| t == MARKED).for_each(BTreeMap::clear);
            return;
        }
        if !std::mem::replace(&mut self.told[t], true) {
            batch.schema(&Story::schema(t));
        }
        let key = self.chance.random_range(0..KEYS);
        let value = self.chance.random_range(0..1000);
        let rows = &mut self.tables[t];
        let mut nobody = BTreeMap::new();
        let marked = self.marked.as_mut().filter(|_| t == MARKED).unwrap_or(&mut nobody);
        let mut change = batch.change(TableNo(t as u32));
        let mut row = |key: i64, value: i64, old: Option<i64>| {
            let mut writer = RowWriter::new(change.values());
            writer.i64(key);
            writer.i64(value);
            if let Some(old) = old {
                writer.i64(old);
            }
        };
        let op = match rows.get(&key).copied() {
            None => {
                rows.insert(key, value);
                marked.remove(&key);
                row(key, value, None);
                Op::Insert
            }
            Some(_) if value < 100 => {
                rows.remove(&key);
                RowWriter::new(change.values()).i64(key);
                Op::Tombstone
            }
            Some(before) if value < 300 => {
                rows.remove(&key);
                marked.insert(key, before);
                row(key, before, None);
                Op::Delete
            }
            Some(_) => {
                let free = (0..KEYS).find(|k| !rows.contains_key(k)).filter(|_| value < 500);
                match free {
                    Some(free) => {
                        rows.remove(&key);
                        rows.insert(free, value);
                        marked.remove(&free);
                        row(free, value, Some(key));
                        Op::Rekey
                    }
                    None => {
                        rows.insert(key, value);
                        row(key, value, None);
                        Op::Update
                    }
                }
            }
        };
        change.finish(op);
    }

    /// Begins a snapshot, or reads some rows more of the one that goes on, or ends it.
    fn snapshot_step(&mut self, writer: &mut Writer<SystemDisk>) {
        let mut batch = Batch::new();
        let steps = match self.snapshot {
            None => {
                let t = self.wanted.pop().unwrap_or_else(|| self.chance.random_range(0..TABLES.len()));
                // Rows change and nobody says how: the snapshot finds out.
                for key in 0..KEYS {
                    match self.chance.random_range(0..4) {
                        0 => {
                            let gone = self.tables[t].remove(&key).map(|value| body(key, value, ""));
                            if t == MARKED && gone.is_some_and(|gone| is_poison(&gone) || is_too_large(&gone))
                            {
                                self.marked_before.insert(key.to_string());
                            }
                        }
                        1 => {
                            self.tables[t].insert(key, self.chance.random_range(0..1000));
                            self.marked.iter_mut().filter(|_| t == MARKED).for_each(|marked| {
                                marked.remove(&key);
                            });
                        }
                        _ => {}
                    }
                }
                self.snapshot = Some((t, 0));
                let ranges = vec![snapshot::Range { number: 1, after: None, upto: None }];
                vec![
                    SnapshotStep::Wanted { filter: None },
                    SnapshotStep::Begun { ranges, estimated_rows: KEYS as u64 },
                ]
            }
            Some((t, key)) if key < KEYS => {
                if !std::mem::replace(&mut self.told[t], true) {
                    batch.schema(&Story::schema(t));
                }
                let next = (key + self.chance.random_range(1..5)).min(KEYS);
                for (key, value) in self.tables[t].range(key..next) {
                    let mut change = batch.change(TableNo(t as u32));
                    let mut row = RowWriter::new(change.values());
                    row.i64(*key);
                    row.i64(*value);
                    change.finish(Op::Read);
                }
                self.snapshot = Some((t, next));
                vec![SnapshotStep::Read { range: 1, after: Some(vec![next as u8]), rows: 1 }]
            }
            Some((t, _)) => {
                let table = TableName::new("shop", TABLES[t]);
                let since = writer.standing().unwrap().snapshot_since(&table).unwrap();
                let rows = self.tables[t].keys().map(ToString::to_string).collect();
                self.ended.lock().unwrap().insert((format!("shop.{}", TABLES[t]), since), rows);
                batch.sweep(&SweepRecord::of_snapshot(table));
                vec![SnapshotStep::Ended]
            }
        };
        let (t, _) = self.snapshot.unwrap();
        if steps == [SnapshotStep::Ended] {
            self.snapshot = None;
        }
        let table = TableName::new("shop", TABLES[t]);
        let note = |step| SnapshotNote { table: table.clone(), step };
        batch.commit(&Commit {
            synced: Synced::default(),
            gtid: None,
            time_micros: 1,
            position: Position::default(),
            noted: Noted { snapshots: steps.into_iter().map(note).collect(), ..Noted::default() },
        });
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }

    fn transaction(&mut self, writer: &mut Writer<SystemDisk>) {
        let mut batch = Batch::new();
        let before = (self.tables.clone(), self.marked.clone());
        for _ in 0..self.chance.random_range(1..20) {
            self.change(&mut batch);
        }
        if self.chance.random_bool(0.1) {
            // The stream ends inside it.
            writer.append(&mut batch).unwrap();
            writer.abandon().unwrap();
            (self.tables, self.marked) = before;
            return;
        }
        self.number += 1;
        let origin = Origin::Server { uuid: ORIGIN, tag: String::new() };
        batch.commit(&Commit {
            synced: Synced::default(),
            gtid: Some(Gtid { origin, number: self.number }),
            time_micros: 1,
            position: Position::default(),
            noted: Noted::default(),
        });
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
}

fn open(dir: &Path, versions_above: Version) -> (Writer<SystemDisk>, Log<SystemDisk>) {
    let options = LogOptions { segment_bytes: 4096, versions_above, ..LogOptions::default() };
    let Opened { writer, log, .. } = everrelay::log::open(&SystemDisk, &SystemClock, dir, options).unwrap();
    (writer, log)
}

/// The mark that a log starts with.
fn begin(writer: &mut Writer<SystemDisk>) {
    let mut batch = Batch::new();
    let (gtids, position) = (GtidSet::default(), Position::default());
    batch.mark(&Mark { synced: Synced::default(), gtids, time_micros: 1, position, noted: Noted::default() });
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
}

fn rules(marks: bool) -> Rules {
    let of = |table: usize| Rule::of(TablePattern::parse(&format!("shop.{}", TABLES[table])).unwrap(), 1);
    let mut by_row = of(BY_ROW);
    by_row.index = Some(IndexTemplate::parse("{schema}.{table}-{id}").unwrap());
    let marking = Rule { deletes: Some(DeletesAs::Mark), ..of(MARKED) };
    Rules([by_row].into_iter().chain(marks.then_some(marking)).collect())
}

fn small(chance: &mut StdRng, marks: bool) -> DeliverOptions {
    DeliverOptions {
        rules: rules(marks),
        bulk_bytes: chance.random_range(50..600),
        linger: Duration::from_millis(1),
        in_flight: chance.random_range(1..9),
        bytes_per_second: NonZeroU64::new(chance.random_range(50_000..500_000))
            .filter(|_| chance.random_bool(0.3)),
        outstanding: chance.random_range(20..400),
        waiting: chance.random_range(1..40),
        held_bytes: chance.random_range(600..5000),
        commit_interval: Duration::from_millis(2),
        drain: Duration::from_secs(20),
        quarantine: LATEST + Duration::from_millis(20),
        parked: ParkLimits { changes_per_minute: u64::MAX, ..ParkLimits::default() },
        ..DeliverOptions::default()
    }
}

/// An operator: has what is parked sent again, or drops it.
struct Operator {
    orders: ParkedOrders,
    store: MemoryCursor,
    dropped: Dropped,
    chance: StdRng,
}

impl Operator {
    async fn retry_all(&self) -> Option<Fates> {
        self.orders.ask(ParkedOrder::Retry(Which::All)).await
    }

    async fn order_now_and_then(mut self) {
        loop {
            tokio::time::sleep(Duration::from_micros(self.chance.random_range(0..30_000))).await;
            if self.chance.random_bool(0.8) {
                if self.retry_all().await.is_none() {
                    return;
                }
                continue;
            }
            let parked = self.store.parked().unwrap();
            if parked.is_empty() {
                continue;
            }
            let chosen = &parked[self.chance.random_range(0..parked.len())];
            // Before it is done: a crash may leave it done and not told.
            let document = (alias_of(&chosen.table.table, &chosen.id), chosen.id.clone());
            self.dropped.lock().unwrap().insert(document);
            let order = ParkedOrder::Drop(Which::Records(vec![chosen.seq]));
            let Some(fates) = self.orders.ask(order).await else { return };
            assert!(fates.iter().all(|fate| fate.became == Became::Dropped), "{fates:?}");
        }
    }
}

/// Another: has ranges of the log replayed, or gives that up.
struct Replayer {
    orders: ReplayOrders,
    log: Log<SystemDisk>,
    chance: StdRng,
}

impl Replayer {
    async fn order_now_and_then(mut self) {
        loop {
            tokio::time::sleep(Duration::from_micros(self.chance.random_range(0..40_000))).await;
            let (start, end) = (self.log.retained_start().0, self.log.visible().seq.0);
            let from = Seq(self.chance.random_range(start..end.max(start + 1)));
            let end = self.chance.random_bool(0.5).then(|| Seq(from.0 + self.chance.random_range(1..60)));
            let tables: &[&str] = match self.chance.random_range(0..4) {
                0 => &["shop.a"],
                1 => &["shop.*", "!shop.a"],
                _ => &[],
            };
            let tables = tables.iter().map(|table| (*table).to_owned()).collect();
            let indices: &[&str] =
                if self.chance.random_bool(0.3) { &["shop.a-1*", "shop.a-3"] } else { &[] };
            let indices = indices.iter().map(|index| (*index).to_owned()).collect();
            let order = match self.chance.random_bool(0.1) {
                true => ReplayOrder::Cancel,
                false => ReplayOrder::Begin { from, end, tables, indices },
            };
            // One that is refused is as good.
            if self.orders.ask(order).await.is_none() {
                return;
            }
        }
    }
}

/// Waits for the end of the replay that goes on.
async fn the_replay_ends(cursor: &MemoryCursor) -> Option<Replay> {
    loop {
        let replay = cursor.load().unwrap().and_then(|cursor| cursor.replay);
        let how = replay.as_ref().map(|replay| replay.ended.as_ref().map(|ended| &ended.how));
        match how {
            Some(None) => tokio::time::sleep(Duration::from_millis(1)).await,
            Some(Some(HowEnded::Failed(why))) => {
                // Its range's beginning went with a segment.
                assert!(why.contains("is no longer kept"), "{why}");
                return replay;
            }
            _ => return replay,
        }
    }
}

/// Each document's last change, where it stands at or below the cursor, is what the engine has, or parked: the cursor has passed nothing else.
fn the_cursor_has_passed_nothing_open(
    log: &Log<SystemDisk>,
    cursor: &MemoryCursor,
    (documents, dropped): (&Mutex<Documents>, &Dropped),
    marks: bool,
) {
    let Some(committed) = cursor.load().unwrap() else { return };
    let mut told = Told { marks, ..Told::default() };
    told.read(log);
    let mut last: BTreeMap<(String, String), (Seq, Version, Verb)> = BTreeMap::new();
    for (document, changes) in told.changes {
        let (seq, version, verb) = *changes.last().unwrap();
        // Whether a sweep was made by now cannot be told from here.
        let mut sweeps = told.sweeps.get(whole(&document.0)).into_iter().flatten();
        if !sweeps.any(|(_, below, _)| version < *below) {
            last.insert(document, (seq, version, verb));
        }
    }
    let parked = cursor.parked().unwrap();
    let (documents, dropped) = (documents.lock().unwrap(), dropped.lock().unwrap());
    for (document, (seq, version, verb)) in last {
        if seq > committed.seq || dropped.contains(&document) {
            continue;
        }
        let of_it =
            |parked: &&Parked| (alias_of(&parked.table.table, &parked.id), parked.id.clone()) == document;
        let parked = parked.iter().find(of_it).map(|parked| Version(parked.version));
        let live =
            documents.kept.get(&document).filter(|(_, body)| body.is_some()).map(|(at, _)| Version(*at));
        let is_so = match verb {
            Verb::Index => live.max(parked) >= Some(version),
            Verb::Delete => live.is_none() && parked.is_none(),
        };
        assert!(
            is_so,
            "{document:?}: {verb:?} {version} at {seq}, cursor {}: {live:?}, parked {parked:?}",
            committed.seq
        );
    }
}

/// `wiped`: before the last run the state folder is lost, and rows change before the next one is begun.
async fn history(seed: u64, wiped: bool) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut dir = tempfile::tempdir().unwrap();
    let documents = Arc::new(Mutex::new(Documents::default()));
    let mut cursor = MemoryCursor::default();
    let dropped = Dropped::default();
    // What was deleted in a folder that is lost may never have been marked.
    let marks = !wiped;
    let mut story = Story::new(chance.random(), marks);
    let runs = 6_u64;
    // Openings outrun the clock here; what was sent before the folder was lost the fence says.
    let mut fence = Version(0);
    for run in 0..runs {
        let last = run == runs - 1;
        if wiped && last {
            (dir, cursor) = (tempfile::tempdir().unwrap(), MemoryCursor::default());
            // By which id to ask after its requests is lost with it.
            tokio::time::sleep(2 * LATEST).await;
            (story.snapshot, story.wanted) = (None, vec![0, 1]);
        }
        let strict = chance.random_bool(0.7);
        let (mut writer, log) = open(dir.path(), fence);
        story.told = [false; 2];
        if writer.position().is_none() {
            begin(&mut writer);
        }
        let engine = ModelEngine {
            documents: Arc::clone(&documents),
            chance: Mutex::new(StdRng::seed_from_u64(chance.random())),
            under_way: Mutex::default(),
            sweeping: Mutex::default(),
            newest: Mutex::default(),
            passed: Passed::new(&log, &cursor, marks),
            snapshots: Arc::clone(&story.ended),
            strict,
            dropped: Arc::clone(&dropped),
            trouble: true,
            run,
            tells: chance.random_bool(0.7),
        };
        let (shutdown, source_ended) = (Shutdown::new(), CancellationToken::new());
        let deliver = Deliver::open(
            log.clone(),
            Arc::new(engine),
            cursor.clone(),
            SystemClock,
            small(&mut chance, marks),
            Readiness::new(),
        )
        .unwrap();
        let (orders, queue) = parked_orders::channel();
        let (replays, replay_queue) = replay_orders::channel();
        let deliver = deliver.ordered_by(queue).replays_ordered_by(replay_queue);
        let operator = || Operator {
            orders: orders.clone(),
            store: cursor.clone(),
            dropped: Arc::clone(&dropped),
            chance: StdRng::seed_from_u64(seed ^ run),
        };
        let operating = tokio::spawn(operator().order_now_and_then());
        let chance_of_replays = StdRng::seed_from_u64(!(seed ^ run));
        let replayer = Replayer { orders: replays, log: log.clone(), chance: chance_of_replays };
        let replaying = tokio::spawn(replayer.order_now_and_then());
        let task = tokio::spawn({
            let (shutdown, source_ended) = (shutdown.clone(), source_ended.clone());
            async move { deliver.run(&shutdown, &source_ended).await }
        });
        // Many changes heal whatever was left undone.
        let least = if last { 0 } else { 5 };
        let most = if last && chance.random_bool(0.5) { 1 } else { 60 };
        for _ in 0..chance.random_range(least..most) {
            story.transaction(&mut writer);
            // In the last run none begins: what a sweep before left undone stays.
            let begins = if last && !wiped { 0.0 } else { 0.1 };
            if story.chance.random_bool(if story.snapshot.is_some() { 0.4 } else { begins }) {
                story.snapshot_step(&mut writer);
            }
            tokio::time::sleep(Duration::from_micros(chance.random_range(0..2000))).await;
            if chance.random_bool(0.01) {
                // Whatever was given up is confirmed to be over.
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
            if chance.random_bool(0.05) {
                // As retention does it: what was read before the sync is what is durable after it.
                let mut store = cursor.clone();
                let settled = store.load().unwrap().map_or(Seq(0), |cursor| cursor.done());
                tokio::task::yield_now().await;
                store.sync().unwrap();
                log.retain(settled.next(), u64::MAX).unwrap();
            }
        }
        if !last && chance.random_bool(0.5) {
            // Killed in the middle of its sweep, most often.
            loop {
                story.snapshot_step(&mut writer);
                if story.snapshot.is_none() {
                    break;
                }
            }
            let end = log.visible().seq;
            let is_owed = |cursor: Cursor| !cursor.sweeps.is_empty() || cursor.seq >= end;
            while !cursor.load().unwrap().is_some_and(is_owed) {
                assert!(!task.is_finished(), "it has ended");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        if last {
            while story.snapshot.is_some() || !story.wanted.is_empty() {
                story.snapshot_step(&mut writer);
            }
            operating.abort();
            replaying.abort();
            the_replay_ends(&cursor).await;
            if !strict {
                while !cursor.parked().unwrap().is_empty()
                    || cursor.load().unwrap().is_none_or(|c| c.seq < log.visible().seq)
                {
                    operator().retry_all().await.expect("it runs");
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            source_ended.cancel();
            task.await.unwrap().unwrap();
            let settled = cursor.load().unwrap().unwrap();
            assert_eq!(settled.seq, log.visible().seq, "the cursor is at the log's end");
            assert_eq!(settled.gtids, *writer.position().unwrap(), "and so is its GTID set");
            assert!(settled.sweeps.is_empty(), "nothing is owed");
        } else if chance.random_bool(0.3) {
            shutdown.request();
            task.await.unwrap().unwrap();
        } else {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            the_cursor_has_passed_nothing_open(&log, &cursor, (&documents, &dropped), marks);
            if chance.random_bool(0.5) {
                cursor.lose_unsynced();
            }
        }
        fence = log.highest_version();
    }
    let kept = std::mem::take(&mut documents.lock().unwrap().kept);
    let mut found: BTreeMap<(String, String), String> =
        kept.into_iter().filter_map(|(id, (_, body))| Some((id, body?))).collect();
    let mut expected = story.expected();
    let mut open = dropped.lock().unwrap().clone();
    for parked in cursor.parked().unwrap() {
        let document = (alias_of(&parked.table.table, &parked.id), parked.id.clone());
        let row = cursor.parked_row(&parked.table, &parked.id).unwrap().expect("its row is kept");
        let mut values = Row::new(&row.row);
        let (id, value) = (values.next_value().unwrap(), values.next_value().unwrap());
        let (Value::I64(id), Value::I64(value)) = (id, value) else { panic!("{id:?} {value:?}") };
        let body = format!("{{\"id\":{id},\"value\":{value}}}");
        assert_eq!(
            expected.get(&document),
            Some(&body),
            "the newest change of a row that is there is parked: {parked:?}"
        );
        assert!(if parked.kind == "too_large" { is_too_large(&body) } else { is_poison(&body) });
        open.insert(document);
    }
    // What is in the index of those is older, or nothing; but nothing whose row is gone.
    for document in open {
        if expected.remove(&document).is_some() {
            found.remove(&document);
        }
    }
    // A document that says that its row is deleted is not wrong where there is none.
    for id in story.marked_before {
        let document = (alias_of(TABLES[MARKED], &id), id);
        if !expected.contains_key(&document)
            && found.get(&document).is_some_and(|body| body.contains("deleted"))
        {
            found.remove(&document);
        }
    }
    assert_eq!(found, expected, "index and table differ");
}

#[tokio::test(start_paused = true)]
async fn fault_33_every_index_ends_as_its_table_whatever_the_engine_does_and_wherever_the_relay_is_killed() {
    histories("fault_33", false).await;
}

#[tokio::test(start_paused = true)]
async fn fault_67_after_a_folder_was_lost_snapshots_leave_no_document_without_its_row() {
    histories("fault_67", true).await;
}

#[tokio::test(start_paused = true)]
async fn fault_30_a_document_too_large_by_itself_is_parked_and_all_others_of_its_bulk_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, log) = open(dir.path(), Version(0));
    begin(&mut writer);
    let mut batch = Batch::new();
    batch.schema(&Story::schema(0));
    for id in 0..20 {
        let mut change = batch.change(TableNo(0));
        let mut row = RowWriter::new(change.values());
        row.i64(id);
        row.i64(id);
        change.finish(Op::Insert);
    }
    batch.commit(&Commit {
        synced: Synced::default(),
        gtid: None,
        time_micros: 1,
        position: Position::default(),
        noted: Noted::default(),
    });
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    let documents = Arc::new(Mutex::new(Documents::default()));
    let cursor = MemoryCursor::default();
    let engine = ModelEngine {
        documents: Arc::clone(&documents),
        chance: Mutex::new(StdRng::seed_from_u64(1)),
        under_way: Mutex::default(),
        sweeping: Mutex::default(),
        newest: Mutex::default(),
        passed: Passed::new(&log, &cursor, false),
        snapshots: Snapshots::default(),
        strict: true,
        dropped: Dropped::default(),
        trouble: false,
        run: 0,
        tells: true,
    };
    let options = DeliverOptions { rules: rules(false), ..DeliverOptions::default() };
    let deliver =
        Deliver::open(log.clone(), Arc::new(engine), cursor.clone(), SystemClock, options, Readiness::new());
    let source_ended = CancellationToken::new();
    source_ended.cancel();
    deliver.unwrap().run(&Shutdown::new(), &source_ended).await.unwrap();
    let mut parked = cursor.parked().unwrap();
    parked.sort_by_key(|parked| parked.seq);
    let parked: Vec<_> = parked.iter().map(|parked| (&*parked.id, &*parked.kind)).collect();
    assert_eq!(parked, [("3", "poison"), ("8", "too_large"), ("13", "poison"), ("18", "too_large")]);
    assert_eq!(documents.lock().unwrap().kept.len(), 16);
    assert_eq!(cursor.load().unwrap().unwrap().seq, log.visible().seq);
}

/// Somebody takes documents out of the indices, alters some and brings deleted ones back, all with versions of before. A replay of everything, killed again and again while rows
/// change, leaves what the tables are.
async fn repair(seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let documents = Arc::new(Mutex::new(Documents::default()));
    let cursor = MemoryCursor::default();
    let mut story = Story::new(chance.random(), true);
    let runs = chance.random_range(2..6_u64);
    let mut ordered = false;
    // Where nothing follows, the replay alone says what documents are in the end.
    let most = if chance.random_bool(0.5) { 1 } else { 10 };
    for run in 0..runs {
        let (mut writer, log) = open(dir.path(), Version(0));
        story.told = [false; 2];
        if run == 0 {
            begin(&mut writer);
        }
        let engine = ModelEngine {
            documents: Arc::clone(&documents),
            chance: Mutex::new(StdRng::seed_from_u64(chance.random())),
            under_way: Mutex::default(),
            sweeping: Mutex::default(),
            newest: Mutex::default(),
            passed: Passed::new(&log, &cursor, true),
            snapshots: Arc::clone(&story.ended),
            strict: false,
            dropped: Dropped::default(),
            trouble: true,
            run,
            tells: true,
        };
        let (shutdown, source_ended) = (Shutdown::new(), CancellationToken::new());
        let (orders, queue) = replay_orders::channel();
        let deliver = Deliver::open(
            log.clone(),
            Arc::new(engine),
            cursor.clone(),
            SystemClock,
            small(&mut chance, true),
            Readiness::new(),
        );
        let deliver = deliver.unwrap().replays_ordered_by(queue);
        let task = tokio::spawn({
            let (shutdown, source_ended) = (shutdown.clone(), source_ended.clone());
            async move { deliver.run(&shutdown, &source_ended).await }
        });
        if !ordered {
            for number in 0..40 {
                story.transaction(&mut writer);
                // One is under way beside changes, and one has just ended.
                if number % 3 == 0 {
                    story.snapshot_step(&mut writer);
                }
            }
            story.wanted = vec![MARKED];
            while story.snapshot.is_some() || !story.wanted.is_empty() {
                story.snapshot_step(&mut writer);
            }
            let is_settled = |cursor: Cursor| cursor.seq >= log.visible().seq && cursor.sweeps.is_empty();
            while !cursor.load().unwrap().is_some_and(is_settled) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            damage(&log, &documents, &mut chance);
            let (tables, indices) = (Vec::new(), Vec::new());
            let order = ReplayOrder::Begin { from: Seq(1), end: None, tables, indices };
            orders.ask(order).await.expect("it runs").unwrap();
            ordered = true;
        }
        for _ in 0..chance.random_range(0..most) {
            story.transaction(&mut writer);
            tokio::time::sleep(Duration::from_micros(chance.random_range(0..3000))).await;
        }
        if run == runs - 1 {
            let replay = the_replay_ends(&cursor).await.expect("it was ordered");
            assert_eq!(replay.ended.map(|ended| ended.how), Some(HowEnded::Done));
            source_ended.cancel();
            task.await.unwrap().unwrap();
        } else {
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..200))).await;
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
            if chance.random_bool(0.5) {
                // No further than to where the damage was done.
                let synced = cursor.synced().is_some_and(|cursor| cursor.replay.is_some());
                if synced {
                    cursor.lose_unsynced();
                }
            }
        }
    }
    let kept = std::mem::take(&mut documents.lock().unwrap().kept);
    let found: BTreeMap<(String, String), String> =
        kept.into_iter().filter_map(|(id, (_, body))| Some((id, body?))).collect();
    assert_eq!(found, story.expected(), "index and table differ");
}

fn damage(log: &Log<SystemDisk>, documents: &Mutex<Documents>, chance: &mut StdRng) {
    let mut told = Told::default();
    told.read(log);
    let kept = &mut documents.lock().unwrap().kept;
    for (document, changes) in told.changes {
        let first = changes[0].1.0;
        match chance.random_range(0..4) {
            0 => drop(kept.remove(&document)),
            1 => drop(kept.insert(document, (first, Some("{\"id\":0,\"value\":\"altered\"}".to_owned())))),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_mends_what_was_altered_taken_and_brought_back_wherever_the_relay_is_killed() {
    for seed in seeds("a_replay_mends") {
        repair(seed).await;
    }
}

#[test]
#[should_panic(expected = "which the cursor has passed")]
fn a_state_that_the_cursor_has_passed_is_noticed_when_it_is_sent_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, log) = open(dir.path(), Version(0));
    begin(&mut writer);
    let mut story = Story::new(1, false);
    while story.number < 40 {
        story.transaction(&mut writer);
    }
    let cursor = MemoryCursor::default();
    cursor.clone().commit(&Cursor { seq: log.visible().seq, ..Cursor::default() }).unwrap();
    let passed = Passed::new(&log, &cursor, false);
    passed.told.lock().unwrap().read(&log);
    let changes = passed.told.lock().unwrap().changes.clone();
    // As a replay would without its first pass.
    let (document, changes) = changes.into_iter().find(|(_, changes)| changes.len() > 1).unwrap();
    passed.check(document.clone(), changes[changes.len() - 1].2, changes[changes.len() - 1].1);
    passed.check(document, changes[0].2, changes[0].1);
}

async fn histories(test: &str, wiped: bool) {
    for seed in seeds(test) {
        history(seed, wiped).await;
    }
}

/// Each is said before it is played.
fn seeds(test: &str) -> impl Iterator<Item = u64> {
    let fixed = std::env::var("EVERRELAY_TEST_SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let first = fixed.unwrap_or_else(rand::random);
    let count = if fixed.is_some() { 1 } else { 16 };
    (0..count).map(move |i| first.wrapping_add(i)).inspect(move |seed| {
        println!("seed {seed}: EVERRELAY_TEST_SEED={seed} cargo test --test deliver_model {test}");
    })
}
