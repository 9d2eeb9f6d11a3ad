//! `everrelay run` as a process of its own, to be killed.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Client;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::time::Instant;

use super::eventually;
use super::scrape::Metrics;

/// What goes into the configuration file.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    pub binary: PathBuf,
    pub source_url: String,
    /// The name of an environment variable, and its value.
    pub password: Option<(String, String)>,
    pub tables: Vec<String>,
    /// `earliest`, `now`, or a GTID set.
    pub start: String,
    pub sink_url: String,
    /// In the place of `[sink]` with the URL: sections as they are.
    pub sinks: Option<String>,
    pub segment_bytes: Option<u64>,
    pub max_row_bytes: Option<u64>,
    pub quota_bytes: Option<u64>,
    pub disk_reserve_bytes: Option<u64>,
    /// How long the log is kept behind the cursor.
    pub retention_seconds: Option<u64>,
    /// Added to the end of the configuration file as it is.
    pub more: String,
    /// A command that becomes the relay, and its arguments: `strace -D …`, `prlimit …`. Empty: the relay is started directly.
    pub through: Vec<String>,
}

impl RelayOptions {
    /// The usual ones: small segments, so that rotation and retention are met.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, source_url: &str, sink_url: &str, schema: &str) -> RelayOptions {
        RelayOptions {
            binary: binary.into(),
            source_url: source_url.to_owned(),
            password: None,
            tables: vec![format!("{schema}.*")],
            start: "earliest".to_owned(),
            sink_url: sink_url.to_owned(),
            sinks: None,
            segment_bytes: Some(1 << 20),
            max_row_bytes: None,
            quota_bytes: None,
            disk_reserve_bytes: None,
            retention_seconds: None,
            more: String::new(),
            through: Vec::new(),
        }
    }

    fn config(&self, state: &Path, admin: &str) -> String {
        let tables: Vec<String> = self.tables.iter().map(|table| format!("{table:?}")).collect();
        // A password goes over loopback without TLS only where that is spelt.
        let password = self.password.as_ref().map_or(String::new(), |(variable, _)| {
            format!("password_env = {variable:?}\ntls = \"disabled\"\n")
        });
        let line = |key: &str, value: Option<u64>| value.map_or(String::new(), |v| format!("{key} = {v}\n"));
        let max_row = line("max_row_bytes", self.max_row_bytes);
        let reserve = line("disk_reserve_bytes", self.disk_reserve_bytes);
        let log = [
            "\n[log]\n".to_owned(),
            line("segment_bytes", self.segment_bytes),
            line("quota_bytes", self.quota_bytes),
            line("retention_seconds", self.retention_seconds),
        ]
        .concat();
        let sinks = self.sinks.clone().unwrap_or_else(|| format!("[sink]\nurl = {:?}\n", self.sink_url));
        format!(
            "[source]\nurl = {:?}\n{password}tables = [{}]\nstart = {:?}\n{max_row}\n{sinks}\n\
             [state]\ndir = {:?}\n{reserve}\n[admin]\nlisten = {admin:?}\n{log}{}",
            self.source_url,
            tables.join(", "),
            self.start,
            state.display().to_string(),
            self.more
        )
    }
}

/// The binary that cargo has built for the tests; a relay built elsewhere can be tried by `EVERRELAY_TEST_BINARY`.
#[must_use]
pub fn relay_binary() -> PathBuf {
    let built = option_env!("CARGO_BIN_EXE_everrelay").unwrap_or("everrelay");
    std::env::var_os("EVERRELAY_TEST_BINARY").map_or_else(|| PathBuf::from(built), PathBuf::from)
}

/// One relay: its folder, and its process while there is one. Dropping it kills the process.
#[derive(Debug)]
pub struct Relay {
    pub options: RelayOptions,
    pub dir: PathBuf,
    /// Host and port of its HTTP server.
    pub admin: String,
    http: Client,
    child: Option<Child>,
    peak_bytes: u64,
}

impl Relay {
    /// Writes the configuration into `dir`; nothing runs yet.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn prepare(dir: &Path, options: RelayOptions) -> Result<Relay> {
        fs::create_dir_all(dir)?;
        // Bound and let go: the port stays the same over restarts, as an operator's would.
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let relay = Relay { options, dir: dir.to_owned(), admin, http, child: None, peak_bytes: 0 };
        relay.write_config()?;
        Ok(relay)
    }

    /// Writes the options as they are now; in force from the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_config(&self) -> Result<()> {
        fs::write(self.config_file(), self.options.config(&self.state_dir(), &self.admin))?;
        Ok(())
    }

    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("everrelay.toml")
    }

    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("relay.log")
    }

    /// The log's segments, oldest first; none before the first start.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn segments(&self) -> Result<Vec<PathBuf>> {
        let log = self.state_dir().join("main/log");
        let mut found = Vec::new();
        if log.exists() {
            for entry in fs::read_dir(log)? {
                let path = entry?.path();
                found.extend(Some(path).filter(|path| path.extension().is_some_and(|end| end == "log")));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Starts the process, in a process group of its own, its words added to [`Relay::log_file`].
    ///
    /// # Errors
    /// The binary cannot be started.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the relay runs already");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let binary = self.options.binary.as_os_str();
        let mut words = self.options.through.iter().map(OsStr::new).chain([binary]);
        let mut command = Command::new(words.next().unwrap_or(binary));
        command.args(words).arg("run").arg("--config").arg(self.config_file());
        if let Some((variable, password)) = &self.options.password {
            command.env(variable, password);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        self.child = Some(child);
        Ok(())
    }

    /// # Errors
    /// Nothing runs.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("no relay runs")?.id())
    }

    /// SIGKILL; back when the process is gone.
    ///
    /// # Errors
    /// Nothing runs, or it had ended by itself before.
    pub fn kill(&mut self) -> Result<()> {
        self.note_peak();
        self.ensure_alive()?;
        let mut child = self.child.take().context("no relay runs")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Sends a signal and does not wait.
    ///
    /// # Errors
    /// Nothing runs.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.note_peak();
        let pid = Pid::from_raw(i32::try_from(self.pid()?)?).context("a process has a pid above 0")?;
        kill_process(pid, signal)?;
        Ok(())
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// It does not, `within` the time; the relay's last words are in the error.
    pub async fn exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        let child = self.child.as_mut().context("no relay runs")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("the relay did not end within {within:?}; its last words:\n{}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits for the end of a process that was killed by a signal.
    ///
    /// # Errors
    /// Nothing runs.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.child.take().context("no relay runs")?.wait()?)
    }

    /// How it ended, if it has ended by itself.
    ///
    /// # Errors
    /// Nothing runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        let status = self.child.as_mut().context("no relay runs")?.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// # Errors
    /// It has ended; its last words are in the error.
    pub fn ensure_alive(&mut self) -> Result<()> {
        let child = self.child.as_mut().context("no relay runs")?;
        if let Some(status) = child.try_wait()? {
            self.child = None;
            bail!("the relay ended by itself with {status}; its last words:\n{}", self.last_words());
        }
        Ok(())
    }

    /// Lets the process go on when this value is dropped, and returns its pid.
    ///
    /// # Errors
    /// Nothing runs.
    pub fn leave_running(&mut self) -> Result<u32> {
        Ok(self.child.take().context("no relay runs")?.id())
    }

    /// Everything that the relay wrote, over all its lives.
    #[must_use]
    pub fn words(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The end of what the relay wrote.
    #[must_use]
    pub fn last_words(&self) -> String {
        let words = self.words();
        let lines: Vec<&str> = words.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Status and body of one of its pages.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn get(&self, path: &str) -> Result<(u16, String)> {
        let answer = self.http.get(format!("http://{}{path}", self.admin)).send().await?;
        let status = answer.status().as_u16();
        Ok((status, answer.text().await?))
    }

    /// # Errors
    /// It does not answer, or not with metrics.
    pub async fn metrics(&self) -> Result<Metrics> {
        let (status, text) = self.get("/metrics").await?;
        ensure!(status == 200, "/metrics was answered {status}: {text}");
        Ok(Metrics::parse(&text))
    }

    /// One metric, summed over its labels; 0 where it is not there yet.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        Ok(self.metrics().await?.get(name).unwrap_or(0.0))
    }

    /// Waits until /readyz has this status, and returns its body.
    ///
    /// # Errors
    /// It does not come to that, or the relay ends.
    pub async fn until_ready_is(&mut self, wanted: u16, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            self.ensure_alive()?;
            let answer = self.get("/readyz").await;
            match answer {
                Ok((status, body)) if status == wanted => return Ok(body),
                answer if Instant::now() >= deadline => {
                    bail!(
                        "waited {within:?} for /readyz to be {wanted}, it is {answer:?}; the relay's last words:\n{}",
                        self.last_words()
                    );
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until its log was begun, and everything that it shows is settled, and the cursor says so.
    ///
    /// # Errors
    /// It does not come to that, or the relay ends.
    pub async fn until_settled(&mut self, within: Duration) -> Result<()> {
        self.ensure_alive()?;
        // Not the metrics: they are of the last commit of the cursor, and would call settled what came into the log since.
        eventually("the relay's cursor is at the log's end", within, async || {
            let Ok((200, status)) = self.get("/status").await else { return Ok(None) };
            let status: Value = serde_json::from_str(&status)?;
            let (sinks, visible) = (&status["pipeline"]["sinks"], &status["pipeline"]["visible"]);
            let sinks = sinks.as_array().context("sinks in /status")?;
            let settled = sinks.iter().all(|sink| sink["cursor"] == *visible);
            Ok((settled && *visible != 0).then_some(()))
        })
        .await
        .with_context(|| format!("the relay's last words:\n{}", self.last_words()))?;
        self.ensure_alive()
    }

    /// The most memory that any of its lives so far had resident.
    pub fn peak_bytes(&mut self) -> u64 {
        self.note_peak();
        self.peak_bytes
    }

    /// Memory resident now; 0 when nothing runs.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    fn note_peak(&mut self) {
        self.peak_bytes = self.peak_bytes.max(self.memory("VmHWM:"));
    }

    fn memory(&self, line: &str) -> u64 {
        let read = || {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid().ok()?)).ok()?;
            let kilobytes = status.lines().find_map(|l| l.strip_prefix(line))?;
            kilobytes.trim().trim_end_matches(" kB").parse::<u64>().ok()
        };
        read().unwrap_or(0) * 1024
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
