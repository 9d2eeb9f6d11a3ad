//! What runs in a process of its own, so that its CPU and memory are nothing else's: this program, started again.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::event::GtidSet;
use everrelay::lifecycle::{Readiness, Shutdown};
use everrelay::log::{LogOptions, Visible, open};
use everrelay::relay::committer::Committer;
use everrelay::relay::ingest::Ingest;
use everrelay::secret::Secret;
use everrelay::source::Start;
use everrelay::source::mysql::connection::Next;
use everrelay::source::mysql::control::Control;
use everrelay::source::mysql::error::Place;
use everrelay::source::mysql::event::kind;
use everrelay::source::mysql::select::session;
use everrelay::source::mysql::{Address, MysqlOptions, MysqlSource};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use crate::backlog::Stretch;
use crate::measure::{MB, load, own_cpu, own_peak};
use crate::note;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// The transactions behind a place.
    Stream,
    /// All rows of the table, by a snapshot into the log.
    Snapshot,
    /// The same rows, dropped.
    Select,
}

/// What a child is to read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Task {
    pub host: String,
    pub port: u16,
    pub schema: String,
    pub after: String,
    pub transactions: u64,
    /// Rows of the table.
    pub rows: u64,
    pub what: What,
    /// An empty folder for the log; none to drop what is read.
    pub log: Option<PathBuf>,
}

/// What it took, from connecting to the last change.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Taken {
    pub wall_seconds: f64,
    pub cpu_seconds: f64,
    pub peak_bytes: f64,
}

impl Taken {
    /// Notes a round: this, and what the bare minimum took, called `alone`.
    pub fn note(&self, round: usize, alone: &str, limit: Taken) {
        let Taken { wall_seconds, cpu_seconds, peak_bytes } = self;
        note!(
            "round {round}: {wall_seconds:.2} s wall, {cpu_seconds:.2} s CPU, {:.1} MB peak; {alone} alone {:.2} s wall, {:.2} s CPU; load {}",
            peak_bytes / MB,
            limit.wall_seconds,
            limit.cpu_seconds,
            load()
        );
    }
}

impl Task {
    #[must_use]
    pub fn new(host: &str, port: u16, stretch: &Stretch, log: Option<&Path>) -> Task {
        Task {
            host: host.to_owned(),
            port,
            schema: stretch.schema.to_owned(),
            after: stretch.after.clone(),
            transactions: stretch.transactions,
            rows: stretch.changes,
            what: What::Stream,
            log: log.map(Path::to_owned),
        }
    }

    /// Carries the task out in a child.
    ///
    /// # Errors
    /// The child fails; its own words are on standard error.
    pub async fn run(&self) -> Result<Taken> {
        if let Some(log) = self.log.as_ref().filter(|log| log.exists()) {
            std::fs::remove_dir_all(log)?;
        }
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--child").arg(serde_json::to_string(self)?).stderr(Stdio::inherit()).kill_on_drop(true);
        let output = command.output().await?;
        ensure!(output.status.success(), "a child ended with {}", output.status);
        serde_json::from_slice(&output.stdout).context("what a child says")
    }

    fn options(&self) -> MysqlOptions {
        let address = Address::Tcp { host: self.host.clone(), port: self.port };
        let mut options = MysqlOptions::new(address, "root", Secret::new(""), u64::from(std::process::id()));
        options.tables = vec![format!("{}.*", self.schema)];
        options
    }
}

/// The child's side: says what it took on standard output.
///
/// # Errors
/// What stops it.
pub fn main(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task)?;
    // As `everrelay run` does it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let _metrics = everrelay::metrics::install()?;
    let (wall, cpu) = (Instant::now(), own_cpu());
    match (&task.log, task.what) {
        (Some(log), _) => runtime.block_on(ingest(&task, log))?,
        (None, What::Select) => runtime.block_on(select(&task))?,
        (None, _) => runtime.block_on(wire(&task))?,
    }
    let taken = Taken {
        wall_seconds: wall.elapsed().as_secs_f64(),
        cpu_seconds: own_cpu() - cpu,
        peak_bytes: own_peak()?,
    };
    println!("{}", serde_json::to_string(&taken)?);
    runtime.shutdown_background();
    Ok(())
}

/// The source side as it is in the relay, until every transaction is visible.
async fn ingest(task: &Task, log: &Path) -> Result<()> {
    let opened = open(&SystemDisk, &SystemClock, log, LogOptions::default())?;
    let source = MysqlSource::new(task.options())?;
    let committer = Committer::start(opened.writer)?;
    let start = match task.what {
        What::Snapshot => Start::Snapshot,
        _ => Start::After(task.after.parse()?),
    };
    let shutdown = Shutdown::new();
    let ingest = Ingest::new(source, committer, start, SystemClock, Readiness::new());
    let mut visible = opened.log.watch();
    let mut snapshots = opened.log.snapshots();
    let whole = async {
        let is_whole = |visible: &Visible| match task.what {
            What::Snapshot => visible.seq.0 > task.rows,
            // The start of an empty log is a mark.
            _ => visible.commits > task.transactions,
        };
        visible.wait_for(is_whole).await?;
        // They are told behind what is visible.
        snapshots.wait_for(Vec::is_empty).await
    };
    tokio::select! {
        ended = ingest.run(&shutdown) => {
            ended?;
            bail!("the source side ended by itself")
        }
        whole = whole => {
            whole?;
            Ok(())
        }
    }
}

/// The rows alone: by as many connections as a snapshot has, in chunks of the usual size.
async fn select(task: &Task) -> Result<()> {
    const CHUNK: u64 = 4_000;
    let options = task.options();
    let next = std::sync::Arc::new(AtomicU64::new(0));
    let mut connections = tokio::task::JoinSet::new();
    for _ in 0..options.snapshot.connections {
        let (options, next, rows, schema) = (options.clone(), next.clone(), task.rows, task.schema.clone());
        connections.spawn(async move {
            let mut control = Control::connect(&options).await?;
            for statement in session(control.server().peer.family) {
                control.link().ask(statement).await?;
            }
            let mut found = 0;
            loop {
                let first = next.fetch_add(CHUNK, Ordering::Relaxed);
                if first >= rows {
                    return anyhow::Ok(found);
                }
                let sql =
                    format!("SELECT * FROM {schema}.orders WHERE id > {first} AND id <= {}", first + CHUNK);
                let statement = control.link().prepare(&sql).await?;
                control.link().execute(&statement).await?;
                while control.link().next_row(1 << 20).await?.is_some() {
                    found += 1;
                }
                control.link().close(statement).await?;
            }
        });
    }
    let mut found = 0;
    while let Some(ended) = connections.join_next().await {
        found += ended??;
    }
    ensure!(found == task.rows, "{found} of {} rows", task.rows);
    Ok(())
}

/// The stream alone: events are received, their checksums compared, and dropped.
async fn wire(task: &Task) -> Result<()> {
    let options = task.options();
    let after: GtidSet = task.after.parse()?;
    let mut stream = Control::connect(&options).await?.stream(&after, &options).await?;
    let (mut commits, place) = (0, Place::default());
    while commits < task.transactions {
        let event = match stream.at_hand(&place)? {
            Some(event) => event,
            None => match stream
                .wait(tokio::time::Instant::now() + options.heartbeat, options.heartbeat, &place)
                .await?
            {
                Next::Event(event) => event,
                Next::Deadline => continue,
            },
        };
        commits += u64::from(event.kind() == kind::XID);
    }
    Ok(())
}
