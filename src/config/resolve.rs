//! From the file to each room's options: URLs taken apart, secrets fetched, defaults filled in.

mod servers;
mod sink;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ConfigError;
use super::file;
use super::sinks::Named;
use crate::log::{LogOptions, Quota, Retention};
use crate::relay::options::DeliverOptions;
use crate::relay::parking::ParkLimits;
use crate::secret::Secret;
use crate::sink::elastic::ElasticOptions;
use crate::source::Start;
use crate::source::mysql::{Address, ClientCertificate, Host, MysqlOptions, Tls};

/// Everything that a pipeline is made from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `relay_id` is 0 until the state folder's own id is known.
    pub source: MysqlOptions,
    pub start: Start,
    /// One at least, by name.
    pub sinks: Vec<SinkSettings>,
    pub log: LogOptions,
    /// The state folder.
    pub state_dir: PathBuf,
    pub disk_reserve_bytes: u64,
    pub admin_listen: SocketAddr,
}

/// What a sink is made from.
#[derive(Clone, Debug)]
pub struct SinkSettings {
    /// Its name in the state folder.
    pub name: String,
    pub engine: ElasticOptions,
    pub deliver: DeliverOptions,
}

impl Settings {
    /// The pipeline's log.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.state_dir.join(PIPELINE).join("log")
    }

    /// What is settled of it.
    #[must_use]
    pub fn settled_dir(&self) -> PathBuf {
        self.state_dir.join(PIPELINE).join("settled")
    }

    /// The file that holds disk back for the pipeline.
    #[must_use]
    pub fn reserve_path(&self) -> PathBuf {
        self.state_dir.join(PIPELINE).join("reserve")
    }

    /// The socket that a running relay takes orders at.
    #[must_use]
    pub fn control_path(&self) -> PathBuf {
        self.state_dir.join(PIPELINE).join("control.sock")
    }

    /// What was cut from its log by hand.
    #[must_use]
    pub fn cut_dir(&self) -> PathBuf {
        self.state_dir.join(PIPELINE).join("cut")
    }
}

/// The one pipeline's folder in the state folder.
const PIPELINE: &str = "main";

/// The start that begins with the tables' rows.
const WITH_SNAPSHOT: &str = "snapshot";

/// Most bulks under way: each takes a connection, and its share of the memory becomes small.
const MOST_IN_FLIGHT: usize = 64;

/// Most connections that read snapshots: each holds rows in memory.
const MOST_CONNECTIONS: usize = 16;
/// Largest `max_row_bytes`.
const MAX_ROW_BYTES: u64 = 1 << 30;
/// What a row may grow by on its way into a frame: names, keys, JSON text.
const FRAME_SLACK: u64 = 8 << 20;
/// Smallest and largest segment.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 << 10..=1 << 40;

/// Names the place of a wrong value.
struct At<'a> {
    path: &'a str,
    section: &'a str,
}

impl At<'_> {
    fn wrong(&self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            section: self.section.to_owned(),
            key,
            problem: problem.into(),
        }
    }
}

/// # Errors
/// A value that means nothing, or a secret that is not where the file says.
pub fn resolve(file: &file::File, sinks: Vec<Named>, path: &str) -> Result<Settings, ConfigError> {
    let max_row = file.source.max_row_bytes;
    let sink = |Named { name, section, sink, .. }: Named| {
        let at = At { path, section: &section };
        let deliver = deliver(&at, &name, &sink, &file.parked)?;
        let engine = ElasticOptions { name: name.clone(), ..sink::sink(sink, &at)? };
        Ok(SinkSettings { name, engine, deliver })
    };
    Ok(Settings {
        start: start(&file.source, path)?,
        source: source(&file.source, &file.snapshot, path)?,
        sinks: sinks.into_iter().map(sink).collect::<Result<_, _>>()?,
        log: log(&file.log, max_row, path)?,
        state_dir: file.state.dir.clone(),
        disk_reserve_bytes: file.state.disk_reserve_bytes,
        admin_listen: file.admin.listen,
    })
}

fn start(source: &file::Source, path: &str) -> Result<Start, ConfigError> {
    Ok(match source.start.as_str() {
        "earliest" => Start::Earliest,
        "now" => Start::Now,
        WITH_SNAPSHOT => Start::Snapshot,
        set => Start::After(set.parse().map_err(|error| {
            let problem = format!("neither \"earliest\", \"now\" nor \"snapshot\", and {error}");
            At { path, section: "source" }.wrong("start", problem)
        })?),
    })
}

fn source(source: &file::Source, snapshot: &file::Snapshot, path: &str) -> Result<MysqlOptions, ConfigError> {
    let at = At { path, section: "source" };
    let (address, others, user) = servers::named(&at, "url", &source.url)?;
    if source.tables.is_empty() {
        return Err(at.wrong("tables", "it names no table; for all tables of a schema: [\"shop.*\"]"));
    }
    let password = secret(&at, &source.password_env, &source.password_file)?.unwrap_or_default();
    let mut options = MysqlOptions::new(address, user, password, 0);
    options.password_file.clone_from(&source.password_file);
    options.others =
        others.into_iter().map(|address| Host { tls: Tls::default_for(&address), address }).collect();
    tls(&at, source, &mut options)?;
    if let Some(bytes) = source.max_row_bytes {
        let fits = usize::try_from(bytes).ok().filter(|_| (1..=MAX_ROW_BYTES).contains(&bytes));
        options.max_row_bytes = fits
            .ok_or_else(|| at.wrong("max_row_bytes", format!("{bytes} is not from 1 to {MAX_ROW_BYTES}")))?;
    }
    crate::source::mysql::patterns::Patterns::parse(&source.tables)
        .map_err(|error| at.wrong("tables", error.to_string()))?;
    options.tables.clone_from(&source.tables);
    options.snapshot.added = source.start == WITH_SNAPSHOT;
    snapshots(&At { path, section: "snapshot" }, snapshot, &mut options)?;
    Ok(options)
}

fn snapshots(at: &At<'_>, snapshot: &file::Snapshot, options: &mut MysqlOptions) -> Result<(), ConfigError> {
    if let Some(connections) = snapshot.connections {
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(at.wrong("connections", format!("{connections} is not from 1 to {MOST_CONNECTIONS}")));
        }
        options.snapshot.connections = connections;
    }
    options.snapshot.rows_per_second = snapshot.rows_per_second;
    options.snapshot.gaps = snapshot.on_gap == file::OnGap::Snapshot;
    options.snapshot.max_replica_lag = snapshot.max_replica_lag_seconds.map(Duration::from_secs);
    if snapshot.replicas.is_empty() {
        return Ok(());
    }
    if snapshot.max_replica_lag_seconds.is_none() {
        return Err(at.wrong("replicas", "how far may they be behind? Say so by max_replica_lag_seconds"));
    }
    let (first, others, user) = servers::named(at, "replicas", &snapshot.replicas)?;
    if user != options.user {
        return Err(at.wrong("replicas", "they are asked as the user of [source] url, and name another"));
    }
    let addresses = std::iter::once(first).chain(others);
    let host = |address: Address| {
        // What was spelt for the source holds for them; what depends on the address does not.
        let is_default = options.tls == Tls::default_for(&options.address);
        Host { tls: if is_default { Tls::default_for(&address) } else { options.tls }, address }
    };
    options.snapshot_replicas = addresses.map(host).collect();
    Ok(())
}

fn tls(at: &At<'_>, source: &file::Source, options: &mut MysqlOptions) -> Result<(), ConfigError> {
    if let Some(tls) = source.tls {
        let tls = match tls {
            file::Tls::VerifyIdentity => Tls::VerifyIdentity,
            file::Tls::VerifyCa => Tls::VerifyCa,
            file::Tls::Required => Tls::Required,
            file::Tls::Disabled => Tls::Disabled,
        };
        options.tls = tls;
        options.others.iter_mut().for_each(|host| host.tls = tls);
    }
    let hosts = options.hosts();
    if hosts.iter().any(|host| matches!(host.address, Address::Socket(_)) && host.tls.encrypts()) {
        return Err(at.wrong(
            "tls",
            "nothing leaves this machine through a socket, where TLS is not used: take it out",
        ));
    }
    options.ca_file = readable(at, "ca_file", source.ca_file.clone())?;
    if options.tls == Tls::VerifyCa && options.ca_file.is_none() {
        return Err(at.wrong(
            "tls",
            "verify_ca takes any certificate of an authority, and public ones certify anybody: name your own by ca_file",
        ));
    }
    let encrypts = hosts.iter().any(|host| host.tls.encrypts());
    let unseen = (!encrypts).then_some("it is shown over TLS alone, which is disabled: set tls");
    let files = (source.client_cert_file.clone(), source.client_key_file.clone());
    options.client_certificate =
        certificate(at, files, unseen)?.map(|(chain, key)| ClientCertificate { chain, key });
    Ok(())
}

fn log(log: &file::Log, max_row: Option<u64>, path: &str) -> Result<LogOptions, ConfigError> {
    let at = At { path, section: "log" };
    let mut options = LogOptions::default();
    if let Some(bytes) = log.segment_bytes {
        if !SEGMENT_BYTES.contains(&bytes) {
            let (least, most) = (SEGMENT_BYTES.start(), SEGMENT_BYTES.end());
            return Err(at.wrong("segment_bytes", format!("{bytes} is not from {least} to {most}")));
        }
        options.segment_bytes = bytes;
    }
    let Retention { age, bytes } = options.retention;
    options.retention = Retention {
        age: log.retention_seconds.map_or(age, Duration::from_secs),
        bytes: log.retention_bytes.unwrap_or(bytes),
    };
    if let Some(row) = max_row {
        options.max_frame_bytes = row.saturating_add(FRAME_SLACK);
    }
    if let Some(bytes) = log.quota_bytes {
        let least = options.least_quota();
        if bytes < least {
            let problem = format!(
                "{bytes} is under {least}, the least that works with rows of max_row_bytes: raise it, or lower [source] max_row_bytes"
            );
            return Err(at.wrong("quota_bytes", problem));
        }
        options.quota = Quota::Bytes(bytes);
    }
    Ok(options)
}

fn deliver(
    at: &At<'_>,
    name: &str,
    sink: &file::Sink,
    parked: &file::Parked,
) -> Result<DeliverOptions, ConfigError> {
    let defaults = DeliverOptions::default();
    let ParkLimits { changes, bytes, changes_per_minute } = defaults.parked;
    let parked = ParkLimits {
        changes: parked.changes.unwrap_or(changes),
        bytes: parked.bytes.unwrap_or(bytes),
        changes_per_minute: parked.changes_per_minute.unwrap_or(changes_per_minute),
    };
    let in_flight = sink.max_in_flight.map_or(defaults.in_flight, NonZeroUsize::get);
    if in_flight > MOST_IN_FLIGHT {
        return Err(at.wrong("max_in_flight", format!("between 1 and {MOST_IN_FLIGHT}")));
    }
    let (name, bytes_per_second) = (name.to_owned(), sink.max_bytes_per_second);
    Ok(DeliverOptions { name, in_flight, bytes_per_second, parked, ..defaults })
}

fn secret(at: &At<'_>, env: &Option<String>, file: &Option<PathBuf>) -> Result<Option<Secret>, ConfigError> {
    secret_of(at, "password_env", env, "password_file", file)
}

fn secret_of(
    at: &At<'_>,
    env_key: &'static str,
    env: &Option<String>,
    file_key: &'static str,
    file: &Option<PathBuf>,
) -> Result<Option<Secret>, ConfigError> {
    match (env, file) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => {
            Err(at.wrong(env_key, format!("it and {file_key} exclude each other: give one of them")))
        }
        (Some(name), None) => match std::env::var(name) {
            Ok(value) => Ok(Some(Secret::new(value))),
            Err(std::env::VarError::NotPresent) => {
                Err(at.wrong(env_key, format!("the environment variable {} is not set", variable(name))))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(at.wrong(env_key, format!("the environment variable {} is not UTF-8", variable(name))))
            }
        },
        (None, Some(path)) => Ok(Some(secret_file(at, file_key, path)?)),
    }
}

/// The name of an environment variable, if it can be one by the usual spelling: else it may be the secret itself, in the wrong place.
fn variable(name: &str) -> String {
    let usual = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if name.bytes().all(usual) { format!("{name:?}") } else { "that it names (not shown)".to_owned() }
}

fn closed(at: &At<'_>, key: &'static str, path: &Path) -> Result<(), ConfigError> {
    crate::secret::closed(path).map_err(|error| unreadable(at, key, path, &error))
}

fn unreadable(at: &At<'_>, key: &'static str, path: &Path, error: &std::io::Error) -> ConfigError {
    at.wrong(key, format!("cannot use {path:?}: {error}"))
}

fn secret_file(at: &At<'_>, key: &'static str, path: &Path) -> Result<Secret, ConfigError> {
    Secret::from_file(path).map_err(|error| unreadable(at, key, path, &error))
}

fn readable(at: &At<'_>, key: &'static str, path: Option<PathBuf>) -> Result<Option<PathBuf>, ConfigError> {
    if let Some(path) = &path {
        std::fs::File::open(path).map_err(|error| unreadable(at, key, path, &error))?;
    }
    Ok(path)
}

/// A certificate that is shown and its key, of which there are both or none. `unseen`: why nobody would see it, if so.
fn certificate(
    at: &At<'_>,
    (chain, key): (Option<PathBuf>, Option<PathBuf>),
    unseen: Option<&'static str>,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    let (chain, key) = match (chain, key) {
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(at.wrong("client_cert_file", "its key is missing: name it by client_key_file"));
        }
        (None, Some(_)) => {
            return Err(
                at.wrong("client_key_file", "its certificate is missing: name it by client_cert_file")
            );
        }
        (Some(chain), Some(key)) => (chain, key),
    };
    if let Some(why) = unseen {
        return Err(at.wrong("client_cert_file", why));
    }
    closed(at, "client_key_file", &key)?;
    let chain = readable(at, "client_cert_file", Some(chain))?;
    let key = readable(at, "client_key_file", Some(key))?;
    Ok(chain.zip(key))
}

#[cfg(test)]
mod tests;
