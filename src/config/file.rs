//! The file's shape. Every struct refuses keys that it does not know; serde's errors name line and column.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use toml::Spanned;

use crate::event::document::DeletedIndex;
use crate::mapping::rule::{DecimalAs, DeletesAs, JsonAs, ZeroDatesAs};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub source: Source,
    /// Read for itself, as [`OneSink`] or [`Sinks`].
    pub sink: IgnoredAny,
    #[serde(default)]
    pub state: State,
    #[serde(default)]
    pub snapshot: Snapshot,
    #[serde(default)]
    pub log: Log,
    #[serde(default)]
    pub parked: Parked,
    #[serde(default)]
    pub admin: Admin,
    #[serde(default)]
    pub table: Vec<Table>,
}

/// A file whose section `[sink]` is the only sink.
#[derive(Debug, Deserialize)]
pub struct OneSink {
    pub sink: Sink,
}

/// A file that names its sinks: `[sink.NAME]`.
#[derive(Debug, Deserialize)]
pub struct Sinks {
    pub sink: BTreeMap<Spanned<String>, Sink>,
}

/// What stands in `[sink]`, whatever it is.
#[derive(Debug, Deserialize)]
pub struct SinkKeys {
    pub sink: BTreeMap<Spanned<String>, toml::Value>,
}

/// Where changes come from.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// `mysql://user@host[:3306]`, or `mysql://user@localhost?socket=/path/to/mysqld.sock`; several, for servers with the same transactions.
    #[serde(deserialize_with = "one_or_several")]
    pub url: Vec<String>,
    /// Name of the environment variable that holds the password.
    pub password_env: Option<String>,
    /// File that holds the password; a line break at its end is not part of it.
    pub password_file: Option<PathBuf>,
    /// Patterns `schema.table` with `*` and `?`; with a leading `!` they take tables out again.
    pub tables: Vec<String>,
    /// Where an empty log begins: `snapshot`, `earliest`, `now` or a GTID set.
    #[serde(default = "with_snapshot")]
    pub start: String,
    pub tls: Option<Tls>,
    /// PEM file with the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, those up to its authority behind it.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub client_key_file: Option<PathBuf>,
    /// Largest row that is accepted, bytes.
    pub max_row_bytes: Option<u64>,
}

/// A string, or an array of strings.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct OneOrSeveral;

    impl<'de> Visitor<'de> for OneOrSeveral {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or an array of strings")
        }

        fn visit_str<E>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = seq.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }

    deserializer.deserialize_any(OneOrSeveral)
}

fn with_snapshot() -> String {
    "snapshot".to_owned()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Encrypted, the certificate and its name verified: the default off this machine.
    VerifyIdentity,
    /// Encrypted, the certificate verified, its name not: it is of `ca_file`.
    VerifyCa,
    /// Encrypted, the certificate not looked at.
    Required,
    /// Not encrypted: the default on loopback and sockets.
    Disabled,
}

/// Where documents go.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// `https://host:9200`; several, for nodes of one cluster.
    #[serde(deserialize_with = "one_or_several")]
    pub url: Vec<String>,
    pub api_key_env: Option<String>,
    pub api_key_file: Option<PathBuf>,
    /// User name for basic authentication.
    pub username: Option<String>,
    pub password_env: Option<String>,
    pub password_file: Option<PathBuf>,
    /// A bearer token.
    pub bearer_env: Option<String>,
    pub bearer_file: Option<PathBuf>,
    /// Requests are signed for OpenSearch Service in this region.
    pub aws_region: Option<String>,
    /// Credentials file of AWS' tools; without it the key is in the environment.
    pub aws_credentials_file: Option<PathBuf>,
    /// Section of that file.
    pub aws_profile: Option<String>,
    pub ca_file: Option<PathBuf>,
    /// PEM file with our certificate, those up to its authority behind it.
    pub client_cert_file: Option<PathBuf>,
    /// PEM file with its key.
    pub client_key_file: Option<PathBuf>,
    /// Do not verify the engine's certificate.
    #[serde(default)]
    pub insecure: bool,
    /// Send bodies compressed by gzip.
    #[serde(default)]
    pub compress: bool,
    /// Most bulks under way at the same time.
    pub max_in_flight: Option<NonZeroUsize>,
    /// Most bytes of documents that are sent in a second.
    pub max_bytes_per_second: Option<NonZeroU64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The state folder: the log and the cursor.
    #[serde(default = "state_dir")]
    pub dir: PathBuf,
    /// Disk held back for the moment when there is no other, bytes; 0: none.
    #[serde(default = "disk_reserve_bytes")]
    pub disk_reserve_bytes: u64,
}

fn disk_reserve_bytes() -> u64 {
    64 << 20
}

fn state_dir() -> PathBuf {
    PathBuf::from("/var/lib/everrelay")
}

impl Default for State {
    fn default() -> Self {
        State { dir: state_dir(), disk_reserve_bytes: disk_reserve_bytes() }
    }
}

/// What snapshots may ask of the source.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Connections that read at a time.
    pub connections: Option<usize>,
    /// Most rows that are read in a second.
    pub rows_per_second: Option<NonZeroU64>,
    /// How far replicas may be behind for rows to be read.
    pub max_replica_lag_seconds: Option<u64>,
    /// Replicas besides the server that is read.
    #[serde(default)]
    pub replicas: Vec<String>,
    /// What becomes of a table whose documents came to be other than its rows.
    #[serde(default)]
    pub on_gap: OnGap,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnGap {
    /// It is marked as needing a snapshot.
    #[default]
    Mark,
    /// It is read anew.
    Snapshot,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Size at which a segment ends, bytes.
    pub segment_bytes: Option<u64>,
    /// What all segments together may take, bytes.
    pub quota_bytes: Option<u64>,
    /// How long settled segments are kept for a replay, seconds.
    pub retention_seconds: Option<u64>,
    /// How much of settled segments is kept for a replay, bytes.
    pub retention_bytes: Option<u64>,
}

/// How much may be parked of what the engine refuses before the relay stops instead.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    /// Documents; 0: the relay stops at the first that is refused.
    pub changes: Option<u64>,
    /// What their rows take, bytes.
    pub bytes: Option<u64>,
    /// Documents that are parked anew within a minute.
    pub changes_per_minute: Option<u64>,
}

/// Rules for the tables that a pattern matches; a later section wins.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Pattern `schema.table` with `*` and `?`.
    #[serde(rename = "match")]
    pub matching: Spanned<String>,
    /// The only sink that the section holds for.
    pub sink: Option<Spanned<String>>,
    pub decimal: Option<DecimalAs>,
    pub zero_dates: Option<ZeroDatesAs>,
    pub json: Option<JsonAs>,
    pub deletes: Option<DeletesAs>,
    pub deleted_index: Option<DeletedIndex>,
    /// The alias of the documents' index: text with `{schema}` and `{table}`.
    pub index: Option<String>,
    /// Columns that tell the table's rows apart, in the place of its key.
    pub id: Option<Vec<String>>,
    /// Columns of the key that documents are routed by; none: by their ids.
    pub routing: Option<Vec<String>>,
    /// Names of fields, by their columns'.
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    /// The ingest pipeline that documents go through.
    pub pipeline: Option<String>,
    /// The field that says by what a document became what it is.
    pub metadata: Option<String>,
    /// Settings of an index that is made.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// Mapping of an index that is made, over what the columns give.
    #[serde(default)]
    pub mapping: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    #[serde(default = "listen")]
    pub listen: SocketAddr,
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9609))
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: listen() }
    }
}
