//! MySQL and MariaDB, read as a replica reads them.
//!
//! # Constraints
//!
//! Every committed row change of a followed table reaches the log once, in commit order, with the value that the server would print;
//! what cannot be carried so is a definite error that names event, table and place. Nothing is skipped. A GTID counts with its commit and
//! not before. Nothing is written to the server and no lock is taken.
//!
//! # Format
//!
//! The server's binlog events, version 4, as *COM_BINLOG_DUMP_GTID* sends them (MySQL, sql/rpl_binlog_sender.cc), or as
//! *COM_BINLOG_DUMP* does (MySQL where transactions have no GTIDs; MariaDB, sql/sql_repl.cc). A row image becomes the
//! log's bytes in one pass ([`decode`]); a table's columns come from its table map ([`schema`]), so they are those of the moment
//! when the row was written, however far behind we read.
//!
//! # Operation
//!
//! [`connect`](MysqlSource::connect) asks the server's settings over an ordinary connection ([`control`]) and turns it into a stream
//! ([`connection`]); [`fill`](MysqlSource::fill) feeds events to the state machine of transactions ([`binlog`]), which
//! writes frames into the batch. Reconnecting is the relay's business: errors say whether it is worth it ([`error`]).
//!
//! | file | idea |
//! |---|---|
//! | [`options`] | what a configuration says about a server |
//! | [`control`] | what is asked before streaming |
//! | [`server`] | what a server says of itself, and which settings are refused |
//! | [`files`] | the server's binlog files, and what is left out of them |
//! | [`hosts`] [`replica`] | several servers, and those that replicate from others |
//! | [`place`] [`previous`] | what a stream goes on from: a GTID set, or a place |
//! | [`witness`] | whether the server has what was read from it |
//! | [`watch`] | what is asked while the stream goes on |
//! | [`link`] | the connection: packets, TLS, logins, questions |
//! | [`connection`] [`event`] | the binlog stream: raw events, checksums |
//! | [`drawn`] [`payload`] | events that are not held whole, compressed transactions |
//! | [`mariadb`] [`compressed`] | MariaDB's own events; what it compresses |
//! | [`advice`] | what an operator can do about an error |
//! | [`silence`] [`evictions`] | how long to wait for it, and who else takes it |
//! | [`binlog`] | transactions: which events make one, and when it counts |
//! | [`xa`] [`undecided`] | XA transactions between PREPARE and decision |
//! | [`marks`] | when the position is recorded without rows |
//! | [`query`] [`statement`] [`ddl`] [`alter`] [`definition`] [`tokens`] | what statements in the binlog mean for followed tables |
//! | [`patterns`] [`followed`] | which tables are followed, and others than before |
//! | [`named_key`] | keys that the configuration names |
//! | [`anew`] | going on without what was lost |
//! | [`cascades`] | foreign keys that change rows without row events |
//! | [`collations`] | columns whose collation is not known |
//! | [`tables`] | the tables seen so far, by their table maps |
//! | [`description`] [`catalog`] | table maps that leave something out: completed by the log's last rows, by information_schema |
//! | [`schema`] [`columns`] | a table map as schema and decode plan |
//! | [`decode`] | row images to log bytes |
//! | [`owed`] [`reread`] [`literal`] | rows that were not said whole, read again by key |
//! | [`select`] | rows of SELECT to the same log bytes |
//! | [`read_after_write`] | when a SELECT shows all that the stream did |
//! | [`snapshot`] | whole tables, read beside the stream |
//! | [`numbers`] [`temporal`] [`charset`] [`json`] [`json_diff`] [`fixed_binary`] | the types |
//! | [`wire`] | checked reading |

// The server's bytes are not trusted: nothing here may panic on them.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]

pub mod advice;
pub mod alter;
pub mod anew;
pub mod binlog;
pub mod cascades;
pub mod catalog;
pub mod charset;
pub mod collations;
pub mod columns;
pub mod compressed;
pub mod connection;
pub mod control;
pub mod ddl;
pub mod decode;
pub mod definition;
pub mod description;
pub mod drawn;
pub mod error;
pub mod event;
pub mod evictions;
pub mod files;
pub mod fixed_binary;
pub mod followed;
pub mod hosts;
pub mod json;
pub mod json_diff;
pub mod link;
pub mod literal;
#[cfg(feature = "mariadb")]
pub mod mariadb;
pub mod marks;
pub mod named_key;
pub mod numbers;
pub mod options;
pub mod owed;
pub mod patterns;
pub mod payload;
pub mod place;
pub mod previous;
pub mod query;
pub mod read_after_write;
pub mod replica;
pub mod reread;
pub mod schema;
pub mod select;
pub mod server;
pub mod silence;
pub mod snapshot;
pub mod statement;
pub mod tables;
pub mod temporal;
pub mod tokens;
pub mod undecided;
pub mod watch;
pub mod wire;
pub mod witness;
pub mod xa;

use std::time::Duration;

use tokio::sync::watch as channel;
use tokio::time::Instant;

use crate::event::{GtidSet, TableName, Version};
use crate::log::record::Batch;
use crate::log::snapshot::{MAX_SNAPSHOTS, Snapshot};
use crate::log::{Noted, Standing};
use crate::source::orders::OrderQueue;
use crate::source::{Pace, Source, SourceError, Start, Upstream};

use binlog::Binlog;
use catalog::Catalog;
use connection::{BinlogConnection, Next};
use control::Control;
pub use error::{MysqlError, Place};
use evictions::Evictions;
use hosts::{Hosts, verdict};
pub use options::{Address, ClientCertificate, Host, MysqlOptions, SnapshotOptions, Tls};
use patterns::Patterns;
use reread::{Reread, Step};
use silence::Silence;
use snapshot::Snapshots;
use watch::Watch;

/// For a server to show as executed what it has sent already.
const MOMENT: Duration = Duration::from_secs(1);

/// Size at which a batch is handed over even if more is at hand, bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A MySQL or MariaDB server's binlog as a [`Source`].
#[derive(Debug)]
pub struct MysqlSource {
    /// Of the server that is read, or was tried last.
    options: MysqlOptions,
    hosts: Hosts,
    patterns: Patterns,
    stream: Option<BinlogConnection>,
    binlog: Binlog,
    reread: Reread,
    silence: Silence,
    evictions: Evictions,
    watch: Option<Watch>,
    upstream: channel::Sender<Upstream>,
    catalog: Catalog,
    /// It was said what is weaker without GTIDs.
    warned: bool,
    snapshots: Snapshots,
    /// Noted before all else that the stream says.
    news: Option<Noted>,
}

impl MysqlSource {
    /// # Errors
    /// A table pattern that means nothing.
    pub fn new(options: MysqlOptions) -> Result<MysqlSource, MysqlError> {
        let patterns = Patterns::parse(&options.tables)?;
        let binlog = Binlog::new(&options);
        let (silence, reread) = (Silence::new(options.heartbeat), Reread::new(&options));
        let (hosts, evictions) = (Hosts::new(&options), Evictions::default());
        let upstream = channel::Sender::new(Upstream { hosts: hosts.states(), ..Upstream::default() });
        let snapshots = Snapshots::new(&options, upstream.clone());
        Ok(MysqlSource {
            options,
            hosts,
            patterns,
            stream: None,
            binlog,
            reread,
            silence,
            evictions,
            watch: None,
            upstream,
            catalog: Catalog::default(),
            warned: false,
            snapshots,
            news: None,
        })
    }

    /// The id that the server knows this source by.
    #[must_use]
    pub fn server_id(&self) -> u32 {
        self.options.server_id()
    }

    /// What is known of the servers, as it changes.
    #[must_use]
    pub fn upstream(&self) -> channel::Receiver<Upstream> {
        self.upstream.subscribe()
    }

    /// How fast rows of snapshots may come.
    #[must_use]
    pub fn paced_by(mut self, pace: Pace) -> MysqlSource {
        self.snapshots.paced_by(pace);
        self
    }

    /// Where orders for snapshots come from.
    #[must_use]
    pub fn ordered_by(mut self, orders: OrderQueue) -> MysqlSource {
        self.snapshots.ordered_by(orders);
        self
    }

    /// Everything read so far, committed transactions only.
    #[must_use]
    pub fn gtids(&self) -> &GtidSet {
        self.binlog.gtids()
    }

    /// Where only a place says where to go on, people are shown it.
    fn tell_place(&self) {
        let position = self.binlog.position();
        let news = |upstream: &mut Upstream| match &upstream.place {
            _ if position.file.is_empty() => false,
            None if !position.by_place => false,
            _ => {
                let place = || format!("{}:{}", position.file.escape_debug(), position.offset);
                upstream.place = position.by_place.then(place);
                true
            }
        };
        self.upstream.send_if_modified(news);
    }

    fn end_stream(&mut self) {
        (self.stream, self.watch) = (None, None);
        self.catalog.close();
        self.reread.disconnect();
        self.snapshots.disconnect();
        self.hosts.none_is_read();
        self.upstream.send_modify(|upstream| upstream.hosts = self.hosts.states());
    }

    async fn connect_stream(&mut self, after: &Standing) -> Result<(), MysqlError> {
        let mut control = Control::connect(&self.options).await?;
        let server = control.server().clone();
        server.check()?;
        let patterns = self.patterns.clone().with_case(server.name_case());
        let way = control.way(after).await?;
        control.check_history(after, MOMENT).await?;
        if !way.is_by_place() {
            control.check_purged(after).await?;
        }
        witness::check(&mut control, after, &self.options).await?;
        let followed = control.followed(&patterns, &self.options.keys).await?;
        control.check_written(&followed).await?;
        control.check_collations(&patterns).await?;
        for cascade in control.cascades(&patterns).await? {
            tracing::warn!(foreign_key = %cascade, "its actions {}", cascades::UNSEEN);
        }
        self.news = followed::news(after, &self.options, &patterns, &followed)?;
        let mut after = after.clone();
        if let Some(noted) = &self.news {
            followed::tell(noted);
            // No snapshot has begun by it, which is all that the version says.
            after.noted(noted.clone(), Version(0));
        }
        let after = &after;
        self.snapshots.restart(&self.options, server.peer, after, &followed);
        self.binlog.restart(after.gtids.clone(), server.peer, patterns, followed);
        self.binlog.goes(&way, server.gives_gtids());
        self.binlog.recall(after);
        self.binlog.restart_xa(after);
        self.reread.restart(&self.options, server.peer);
        let mut stream = control.stream(way.begin(after), &self.options).await?;
        self.first_event(&mut stream).await?;
        if !way.is_by_place() && files::is_older(&after.position.file, &self.binlog.place().file) {
            let mut control = Control::connect(&self.options).await?;
            if control.server().peer != server.peer {
                return Err(MysqlError::OtherServer { server: self.options.address.to_string() });
            }
            control.nothing_passed_over(after, &self.binlog.place().file).await?;
        }
        if let Some(weaker) = server.without_gtids().filter(|_| !std::mem::replace(&mut self.warned, true)) {
            tracing::warn!(server = %self.options.address, "{weaker}");
        }
        tracing::info!(server = %self.options.address, version = %server.title(), "connected to the binlog stream");
        self.stream = Some(stream);
        Ok(())
    }

    /// What refuses a stream comes in place of its first event, so that it is known while other hosts can be tried.
    async fn first_event(&mut self, stream: &mut BinlogConnection) -> Result<(), MysqlError> {
        let MysqlSource { binlog, silence, .. } = self;
        let inside = binlog.may_be_silent();
        let next = stream.wait(Instant::now() + FAR, silence.patience(inside), binlog.place()).await;
        if let Err(MysqlError::Silent { .. }) = next {
            silence.fell(inside);
        }
        match next? {
            // A transaction has at least a beginning and an end: one event leaves nothing to write.
            Next::Event(event) => binlog.event(&event, &mut Batch::new()),
            Next::Deadline => Ok(()),
        }
    }

    async fn start_at(&mut self, start: &Start) -> Result<Standing, MysqlError> {
        let mut control = Control::connect(&self.options).await?;
        control.server().check()?;
        let mut standing = match start {
            _ if !control.server().gives_gtids() => control.start_by_place(start, &self.options).await?,
            Start::After(set) => Standing::after(set.clone()),
            Start::Now | Start::Snapshot => Standing::after(control.executed().await?),
            Start::Earliest => self.earliest(&mut control).await?,
        };
        standing.followed.patterns.clone_from(&self.options.tables);
        if *start == Start::Snapshot {
            let patterns = self.patterns.clone().with_case(control.server().name_case());
            let followed = control.followed(&patterns, &self.options.keys).await?;
            if followed.len() > MAX_SNAPSHOTS {
                return Err(MysqlError::ManySnapshots { tables: followed.len() });
            }
            standing.snapshots = followed.into_iter().map(wanted).collect();
        }
        Ok(standing)
    }

    async fn earliest(&self, control: &mut Control) -> Result<Standing, MysqlError> {
        let purged = control.purged().await?;
        if !purged.is_empty() {
            tracing::warn!(
                server = %self.options.address,
                %purged,
                "the server has purged its oldest transactions: rows last changed in them are not carried"
            );
        }
        Ok(Standing::after(purged))
    }

    async fn fill_batch(&mut self, batch: &mut Batch) -> Result<(), MysqlError> {
        let MysqlSource { options, stream, binlog, reread, silence, catalog, snapshots, news, .. } = self;
        let stream = stream.as_mut().ok_or(MysqlError::NotConnected)?;
        if let Some(noted) = news.take() {
            binlog.note(noted, batch);
        }
        let mut waited = false;
        while batch.len() < BATCH_BYTES {
            if reread.is_busy() {
                if let Step::Done(horizon) = reread.step(binlog, batch).await? {
                    binlog.complete(horizon, batch)?;
                    silence.ended();
                }
                continue;
            }
            let between = !binlog.in_transaction();
            if between {
                snapshots.work(binlog, batch)?;
                // What it added is handed over before anything is waited for.
                waited |= !batch.is_empty();
            }
            let next = match stream.at_hand(binlog.place())? {
                Some(event) => Next::Event(event),
                // In the middle of a transaction its rest is on its way: what has not ended is not worth handing over.
                None if waited && !(binlog.in_transaction() && batch.commits() == 0) => break,
                None => {
                    let until = binlog.mark_due().unwrap_or_else(|| Instant::now() + FAR);
                    let inside = binlog.may_be_silent();
                    waited = true;
                    let next = tokio::select! {
                        biased;
                        next = stream.wait(until, silence.patience(inside), binlog.place()) => next,
                        () = snapshots.news(), if between => continue,
                    };
                    if let Err(MysqlError::Silent { .. }) = next {
                        silence.fell(inside);
                    }
                    next?
                }
            };
            waited = true;
            match next {
                Next::Event(event) => {
                    let inside = binlog.in_transaction();
                    if let Some(table) = binlog.to_ask(&event) {
                        let asked = catalog.ask(options, binlog.server(), &table).await?;
                        binlog.told(table, asked);
                    }
                    binlog.event(&event, batch)?;
                    if let Some((owed, after, place)) = binlog.take_owed() {
                        reread.begin(owed, after, place);
                        continue;
                    }
                    if inside && !binlog.in_transaction() {
                        silence.ended();
                    }
                }
                Next::Deadline => {}
            }
            binlog.mark_if_due(batch);
        }
        Ok(())
    }
}

fn wanted(table: TableName) -> Snapshot {
    Snapshot { table, filter: None, paused: false, begun: None }
}

/// Further away than any deadline that matters.
const FAR: Duration = Duration::from_secs(86_400);

impl Source for MysqlSource {
    async fn resolve_start(&mut self, start: &Start) -> Result<Standing, SourceError> {
        let mut refusals = Vec::new();
        for (number, host) in self.hosts.round() {
            self.options = self.options.only(&host);
            match self.start_at(start).await {
                Ok(standing) => return Ok(standing),
                Err(error) => refusals.push(self.hosts.refused(number, error, &self.options)),
            }
        }
        Err(verdict(refusals))
    }

    async fn connect(&mut self, after: &Standing) -> Result<(), SourceError> {
        self.end_stream();
        let mut refusals = Vec::new();
        for (number, host) in self.hosts.round() {
            self.options = self.options.only(&host);
            match self.connect_stream(after).await {
                Ok(()) => {
                    self.hosts.serves(number);
                    self.upstream.send_modify(|upstream| upstream.hosts = self.hosts.states());
                    self.watch = Some(Watch::start(self.options.clone(), self.upstream.clone()));
                    return Ok(());
                }
                Err(error) => refusals.push(self.hosts.refused(number, error, &self.options)),
            }
        }
        self.upstream.send_modify(|upstream| upstream.hosts = self.hosts.states());
        Err(verdict(refusals))
    }

    fn disconnect(&mut self) {
        // What was read and not written is read again.
        self.upstream.send_modify(|upstream| upstream.read_until_micros = 0);
        self.end_stream();
    }

    async fn fill(&mut self, batch: &mut Batch) -> Result<(), SourceError> {
        self.snapshots.begin_batch();
        let result = self.fill_batch(batch).await;
        self.snapshots.collect(&self.binlog, batch);
        if let Some(micros) = self.watch.as_ref().and_then(|watch| watch.passed(self.binlog.place())) {
            self.upstream.send_modify(|upstream| upstream.read_until_micros = micros);
        }
        if result.is_err() {
            self.end_stream();
        }
        self.tell_place();
        self.binlog.publish_metrics();
        match result {
            Err(MysqlError::Evicted { server, .. }) if self.evictions.again() => Err(MysqlError::Clash {
                server,
                id: self.options.server_id(),
                uuid: self.options.replica_uuid(),
            })?,
            result => Ok(result.map_err(|error| {
                let error = SourceError::from(error);
                if matches!(error, SourceError::Garbled(_)) {
                    self.hosts.turn();
                }
                error
            })?),
        }
    }
}
