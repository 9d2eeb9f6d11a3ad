//! A real server, a schema of its own for each test, and what the source read from it as text.

use std::collections::HashMap;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use everrelay::event::value::{Date, DateTime};
use everrelay::event::{GtidSet, Op, Seq, TableName, TableNo, TableSchema, Value, Version, Xid, codec};
use everrelay::log::prepared::{Held, Outcome, Xa};
use everrelay::log::record::{Batch, Change, Commit, Kind, Mark, SchemaRecord, SweepRecord};
use everrelay::log::snapshot::Snapshot;
use everrelay::log::{Location, Noted, Standing};
use everrelay::secret::Secret;
use everrelay::source::mysql::{Address, MysqlOptions, MysqlSource};
use everrelay::source::{Source, SourceError, Start};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

/// Bound on everything that waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// The servers that a test may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Mysql,
    Mariadb,
    /// The oldest MariaDB that is supported.
    Mariadb10,
}

impl At {
    fn name(self) -> &'static str {
        match self {
            At::Mysql => "mysql",
            At::Mariadb => "mariadb",
            At::Mariadb10 => "mariadb10",
        }
    }

    pub fn is_mariadb(self) -> bool {
        self != At::Mysql
    }

    /// The server's URL.
    pub fn url(self) -> &'static str {
        static URLS: [OnceLock<String>; 3] = [const { OnceLock::new() }; 3];
        URLS[self as usize].get_or_init(|| {
            let named = std::env::var(format!("EVERRELAY_TEST_{}_URL", self.name().to_uppercase()));
            let instance = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
            named.ok().filter(|url| !url.is_empty()).unwrap_or_else(|| self.started(&instance))
        })
    }

    /// `dev/servers COMMAND SERVER --instance INSTANCE`, its JSON.
    pub fn dev_servers(self, command: &str, instance: &str) -> serde_json::Value {
        self.dev_servers_with(&[command, self.name(), "--instance", instance, "--json"], "")
    }

    /// `extra`: more options for the server, in force from a start to the next.
    fn dev_servers_with(self, arguments: &[&str], extra: &str) -> serde_json::Value {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/dev/servers");
        let variable = if self.is_mariadb() { "MARIADB_EXTRA" } else { "MYSQL_EXTRA" };
        match Command::new(script).args(arguments).env(variable, extra).output() {
            Ok(output) if output.status.success() => {
                serde_json::from_slice(&output.stdout).unwrap_or_default()
            }
            run => panic!("no server to test with: run dev/test real, or see dev/servers --help: {run:?}"),
        }
    }

    fn started(self, instance: &str) -> String {
        self.url_in(&self.dev_servers("up", instance))
    }

    fn url_in(self, json: &serde_json::Value) -> String {
        let json = &json[self.name()];
        let (port, socket) = (json["port"].as_u64(), json["socket"].as_str());
        let (port, socket) = (port.expect("a port"), socket.expect("a socket"));
        format!("mysql://root@127.0.0.1:{port}?socket={socket}")
    }
}

/// A server of one test's own; brought down when dropped.
pub struct Own(At, String);

impl Own {
    pub fn up(instance: &str) -> (Own, String) {
        Own::up_at(At::Mysql, instance)
    }

    /// Without data of an earlier run, and with more options.
    pub fn fresh(at: At, instance: &str, extra: &str) -> (Own, String) {
        let own = Own(at, instance.to_owned());
        let arguments = ["up", at.name(), "--instance", instance, "--fresh", "--json"];
        let url = at.url_in(&at.dev_servers_with(&arguments, extra));
        (own, url)
    }

    pub fn up_at(at: At, instance: &str) -> (Own, String) {
        let own = Own(at, instance.to_owned());
        let url = at.started(instance);
        (own, url)
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        self.0.dev_servers("kill", &self.1);
    }

    /// Starts it again.
    pub fn start(&self) {
        self.0.dev_servers("up", &self.1);
    }

    /// Starts it again with these options for mysqld.
    pub fn start_with(&self, options: &str) {
        self.0.dev_servers_with(&["up", self.0.name(), "--instance", &self.1, "--json"], options);
    }

    /// Ends it as an operator would, and starts it again with these options for mysqld.
    pub fn restart_with(&self, options: &str) {
        self.0.dev_servers("down", &self.1);
        self.start_with(options);
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.0.dev_servers("down", &self.1);
    }
}

/// One test's server connection and schema.
pub struct Server {
    pub conn: Conn,
    pub schema: String,
    opts: Opts,
    is_mariadb: bool,
}

impl Server {
    /// A fresh schema named after the test.
    pub async fn new(name: &str) -> Server {
        Server::on(At::Mysql, name).await
    }

    pub async fn on(at: At, name: &str) -> Server {
        Server::at(at.url(), name).await
    }

    pub async fn at(url: &str, name: &str) -> Server {
        let opts = Opts::from_url(url).expect("the server's URL is one");
        let mut conn = Conn::new(opts.clone())
            .await
            .expect("the server answers (EVERRELAY_TEST_…_URL, or dev/test real)");
        // A name that no earlier run left in the binlog.
        let since = std::time::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
        let schema = format!("src_{name}_{since}");
        if opts.socket().is_some() {
            // root may come by the socket alone: the source comes by TCP.
            for sql in [
                "CREATE USER IF NOT EXISTS root@'127.0.0.1'",
                "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
            ] {
                conn.query_drop(sql).await.expect("a user for TCP");
            }
        }
        for sql in [
            format!("CREATE DATABASE {schema}"),
            format!("USE {schema}"),
            "SET time_zone = '+00:00', sql_mode = '', innodb_lock_wait_timeout = 10".to_owned(),
        ] {
            conn.query_drop(sql).await.expect("a fresh schema");
        }
        let version: Option<String> = conn.query_first("SELECT VERSION()").await.expect("a version");
        let is_mariadb = version.is_some_and(|version| version.contains("MariaDB"));
        Server { conn, schema, opts, is_mariadb }
    }

    /// A connection to another server for the schema of this one.
    pub async fn beside(&self, url: &str) -> Server {
        let opts = Opts::from_url(url).expect("the server's URL is one");
        let conn = Conn::new(opts.clone()).await.expect("the server answers");
        Server { conn, schema: self.schema.clone(), opts, is_mariadb: self.is_mariadb }
    }

    /// Another session, once the server is there again.
    pub async fn connect_again(&mut self) {
        self.conn = Conn::new(self.opts.clone()).await.expect("the server answers");
        self.run(&format!("USE {}", self.schema)).await;
    }

    pub fn address(&self) -> Address {
        Address::Tcp { host: self.opts.ip_or_hostname().to_owned(), port: self.opts.tcp_port() }
    }

    pub async fn run(&mut self, sql: &str) {
        if let Err(error) = self.conn.query_drop(sql).await {
            panic!("{sql}: {error}");
        }
    }

    /// Removes all that the server has in its binlog so far.
    pub async fn purge(&mut self) {
        self.run("FLUSH BINARY LOGS").await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.run("PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY").await;
            let files: Vec<mysql_async::Row> = self.conn.query("SHOW BINARY LOGS").await.expect("the files");
            if files.len() == 1 {
                return;
            }
            // A stream that was left may stand in an old file for a moment; MariaDB keeps one for as long that a crash might need.
            assert!(Instant::now() < deadline, "the old files go");
        }
    }

    pub fn options(&self) -> MysqlOptions {
        let address = self.address();
        let user = self.opts.user().unwrap_or("root").to_owned();
        let password = Secret::new(self.opts.pass().unwrap_or_default());
        let id = self.schema.bytes().fold(7, |id: u64, b| id.wrapping_mul(31).wrapping_add(u64::from(b)));
        let mut options = MysqlOptions::new(address, user, password, id);
        options.tables = vec![format!("{}.*", self.schema)];
        options.failover_grace = Duration::from_secs(2);
        options
    }

    /// A source that begins now.
    pub async fn follow(&self) -> Follower {
        self.follow_with(self.options()).await
    }

    pub async fn follow_with(&self, options: MysqlOptions) -> Follower {
        let mut source = MysqlSource::new(options).expect("the patterns are good");
        let start = source.resolve_start(&Start::Now).await.expect("a start");
        source.connect(&start).await.expect("a stream");
        Follower { source, read: Read { gtids: start.gtids.clone(), standing: start, ..Read::default() } }
    }

    pub fn opts(&self) -> &Opts {
        &self.opts
    }

    pub async fn executed(&mut self) -> GtidSet {
        let executed = if self.is_mariadb { "gtid_binlog_state" } else { "gtid_executed" };
        let asked = format!("SELECT @@GLOBAL.{executed}");
        let text: String = self.conn.query_first(asked).await.expect("a set").expect("a row");
        text.parse().expect("a GTID set")
    }
}

/// What a connect ends in that is tried again as the relay would.
pub async fn definite_in_time(source: &mut MysqlSource, after: &Standing) -> String {
    let connecting = async {
        loop {
            match source.connect(after).await {
                Err(SourceError::Definite(error)) => return error.to_string(),
                Err(SourceError::Transient(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                other => panic!("refused neither for good nor for a while: {other:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, connecting).await.expect("it is refused for good in time")
}

/// A source and what it wrote so far.
pub struct Follower {
    pub source: MysqlSource,
    pub read: Read,
}

/// What batches said, read back.
#[derive(Default)]
pub struct Read {
    pub schemas: HashMap<TableNo, TableSchema>,
    /// Operation, table, values, old key values; committed ones only.
    pub changes: Vec<Row>,
    pub commits: Vec<Commit>,
    pub marks: Vec<Mark>,
    /// `table: why`, as noted by commits and marks.
    pub gaps: Vec<String>,
    /// What happened to whole tables, and before which of `changes`.
    pub happened: Vec<(usize, Happened)>,
    pub gtids: GtidSet,
    /// What a log would come to.
    pub standing: Standing,
    open: Vec<Row>,
    /// Of the open transaction, and of those that are prepared.
    open_held: Vec<Row>,
    held: HashMap<Xid, Vec<Row>>,
}

/// To the documents of a whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// They are no longer what the rows are.
    Gap(String),
    /// They go.
    Sweep(String),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub op: Op,
    pub table: String,
    pub values: Vec<(String, String)>,
    pub old_key: Vec<String>,
    /// The values as the log has them.
    pub bytes: Vec<u8>,
}

impl Row {
    /// `insert t 1,a`
    pub fn brief(&self) -> String {
        let op = format!("{:?}", self.op).to_lowercase();
        let values = self.values.iter().map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(",");
        let old =
            if self.old_key.is_empty() { String::new() } else { format!(" was {}", self.old_key.join(",")) };
        format!("{op} {} {values}{old}", self.table)
    }
}

impl Follower {
    /// Goes on where the log would, by another connection or in another run.
    pub async fn connect_again(&mut self) {
        // What is open is cut.
        self.read.open.clear();
        self.read.open_held.clear();
        self.source.connect(&self.read.standing).await.expect("a stream");
    }

    /// Reads until everything that the server has executed by now was read.
    pub async fn catch_up(&mut self, server: &mut Server) {
        let target = server.executed().await;
        self.until(&target).await.expect("the stream goes on");
    }

    /// The same through errors that are worth another connection; how many came.
    pub async fn catch_up_again(&mut self, server: &mut Server) -> usize {
        let target = server.executed().await;
        let mut again = 0;
        while let Err(error) = self.until(&target).await {
            assert!(matches!(error, SourceError::Transient(_)), "{error}");
            again += 1;
            self.connect_again().await;
        }
        again
    }

    /// Reads a snapshot of the table, until it is over.
    pub async fn snapshot(&mut self, schema: &str, table: &str) {
        let table = TableName::new(schema, table);
        self.read.standing.snapshots = vec![Snapshot { table, filter: None, paused: false, begun: None }];
        self.connect_again().await;
        let work = async {
            while !self.read.standing.snapshots.is_empty() {
                let mut batch = Batch::new();
                self.source.fill(&mut batch).await.expect("the stream goes on");
                self.read.batch(&batch);
            }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("it is over in time");
    }

    /// Reads up to the error that must come.
    pub async fn error(&mut self, server: &mut Server) -> SourceError {
        let target = server.executed().await;
        match self.until(&target).await {
            Err(error) => error,
            Ok(()) => panic!("no error came; read {:?}", self.briefs()),
        }
    }

    /// Connects again as the relay would, from what its log holds, and once more while a refusal may pass.
    pub async fn reconnect(&mut self) {
        self.read.open.clear();
        let connecting = async {
            while let Err(error) = self.source.connect(&self.read.standing).await {
                assert!(matches!(error, SourceError::Transient(_)), "{error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, connecting).await.expect("a stream in time");
    }

    pub async fn until(&mut self, target: &GtidSet) -> Result<(), SourceError> {
        let work = async {
            while !target.is_subset(self.source.gtids()) {
                let mut batch = Batch::new();
                let result = self.source.fill(&mut batch).await;
                self.read.batch(&batch);
                result?;
            }
            Ok(())
        };
        tokio::time::timeout(PATIENCE, work).await.expect("the transactions arrive in time")
    }

    pub fn briefs(&self) -> Vec<String> {
        self.read.changes.iter().map(Row::brief).collect()
    }
}

impl Read {
    pub fn batch(&mut self, batch: &Batch) {
        for (kind, payload) in batch.payloads() {
            match kind {
                Kind::Schema => {
                    let (record, _) = codec::decode_owned::<SchemaRecord, 1_000_000>(payload).unwrap();
                    self.schemas.insert(record.table, record.schema);
                }
                Kind::Change | Kind::Prepared => {
                    let mut change = Change::decode(payload).unwrap();
                    let schema = &self.schemas[&change.table];
                    let key = schema.key.iter().map(|index| &schema.columns[usize::from(*index)]);
                    let columns: Vec<_> = match change.op {
                        Op::Tombstone => key.collect(),
                        _ => schema.columns.iter().collect(),
                    };
                    let all = change.row.rest();
                    let values = columns.into_iter().map(|column| {
                        (
                            column.name.clone(),
                            text(&change.row.next_value().expect("a value for each column")),
                        )
                    });
                    let values = values.collect();
                    let bytes = all[..all.len() - change.row.rest().len()].to_vec();
                    let mut old_key = Vec::new();
                    if change.op == Op::Rekey {
                        for _ in &schema.key {
                            old_key.push(text(&change.row.next_value().expect("the old key")));
                        }
                    }
                    assert!(change.row.rest().is_empty(), "nothing follows the row");
                    let row = Row { op: change.op, table: schema.name.table.clone(), values, old_key, bytes };
                    if kind == Kind::Change { self.open.push(row) } else { self.open_held.push(row) }
                }
                Kind::Sweep => {
                    let sweep = SweepRecord::decode(payload).unwrap();
                    let alone = sweep.of_snapshot || self.open.is_empty();
                    assert!(alone, "a TRUNCATE is a transaction of its own");
                    let sweep = Happened::Sweep(sweep.table.table);
                    self.happened.push((self.changes.len(), sweep));
                }
                Kind::Commit => {
                    let (mut commit, _) = codec::decode_owned::<Commit, 1_000_000>(payload).unwrap();
                    match &commit.gtid {
                        Some(gtid) => assert!(self.gtids.insert(gtid), "no transaction twice"),
                        None if !commit.noted.snapshots.is_empty() => {}
                        None => assert!(commit.position.by_place, "nothing else says where to go on"),
                    }
                    self.note(&commit.noted);
                    self.changes.append(&mut self.open);
                    self.turn(&mut commit.noted.xa);
                    self.standing.committed(commit.clone(), Version(1));
                    self.commits.push(commit);
                }
                Kind::Mark => {
                    let (mark, _) = codec::decode_owned::<Mark, 1_000_000>(payload).unwrap();
                    assert!(self.open.is_empty(), "marks stand between transactions");
                    self.gtids.union(&mark.gtids);
                    self.note(&mark.noted);
                    self.standing.marked(mark.clone(), Version(1));
                    self.marks.push(mark);
                }
                Kind::State => panic!("a source writes no state"),
            }
        }
    }
}

impl Read {
    /// Does with held rows what a log does.
    fn turn(&mut self, xa: &mut [Xa]) {
        let own = std::mem::take(&mut self.open_held);
        assert!(own.is_empty() || xa.len() == 1, "held rows are of one XA transaction: {xa:?}");
        for xa in xa {
            match xa {
                Xa::Prepared(prepared) => {
                    let (first, at) = (Seq(1), Location::default());
                    let held = Held { first, at, last: first, rows: own.len() as u64, bytes: 0 };
                    prepared.held = Some(held).filter(|_| !own.is_empty());
                    self.held.insert(prepared.xid.clone(), own.clone());
                }
                Xa::Decided { xid, outcome } => {
                    let rows = self.held.remove(xid).unwrap_or_else(|| own.clone());
                    if *outcome == Outcome::Committed {
                        self.changes.extend(rows);
                    }
                }
            }
        }
    }

    fn note(&mut self, noted: &Noted) {
        self.gaps.extend(noted.gaps.iter().map(|gap| format!("{}: {}", gap.table.table, gap.why)));
        let gaps = noted.gaps.iter().map(|gap| Happened::Gap(gap.table.table.clone()));
        self.happened.extend(gaps.map(|gap| (self.changes.len(), gap)));
    }
}

/// A value as the server prints it under CAST(… AS CHAR); bytes as hex.
pub fn text(value: &Value<'_>) -> String {
    let date = |d: &Date| format!("{:04}-{:02}-{:02}", d.year, d.month, d.day);
    let clock = |micros: u64, decimals: u8| {
        let (s, f) = (micros / 1_000_000, micros % 1_000_000);
        let whole = format!("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
        if decimals == 0 {
            return whole;
        }
        format!("{whole}.{}", &format!("{f:06}")[..usize::from(decimals)])
    };
    match value {
        Value::Null => "NULL".to_owned(),
        Value::I64(v) => v.to_string(),
        Value::U64(v) => v.to_string(),
        Value::F32(v) => format!("f32:{:08x}", v.to_bits()),
        Value::F64(v) => format!("f64:{:016x}", v.to_bits()),
        Value::Decimal(v) | Value::Text(v) | Value::Json(v) | Value::Enum(v) | Value::Set(v) => {
            (*v).to_owned()
        }
        Value::Bytes(v) => v.iter().map(|b| format!("{b:02X}")).collect(),
        Value::Geometry(v) => {
            let bytes = v.srid.to_le_bytes().into_iter().chain(v.wkb.iter().copied());
            bytes.map(|b| format!("{b:02X}")).collect()
        }
        Value::Vector(v) => v.iter().map(|b| format!("{b:02X}")).collect(),
        Value::Date(v) => date(v),
        Value::DateTime(v) => format!("{} {}", date(&v.date), clock(v.micros, v.decimals)),
        Value::Instant(v) if v.micros == 0 => {
            let zero = Date { year: 0, month: 0, day: 0 };
            text(&Value::DateTime(DateTime { date: zero, micros: 0, decimals: v.decimals }))
        }
        Value::Instant(v) => {
            let days = v.micros / 86_400_000_000;
            let value =
                DateTime { date: civil(days), micros: v.micros % 86_400_000_000, decimals: v.decimals };
            text(&Value::DateTime(value))
        }
        Value::Time(v) => {
            let sign = if v.micros < 0 { "-" } else { "" };
            format!("{sign}{}", clock(v.micros.unsigned_abs(), v.decimals))
        }
    }
}

/// The date so many days after 1970-01-01, counted day by day.
fn civil(mut days: u64) -> Date {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    Date { year: year as u16, month: month as u8 + 1, day: days as u8 + 1 }
}
