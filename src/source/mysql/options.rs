//! What a configuration says about a MySQL server.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use crate::event::pattern::ByTable;

use super::named_key::NamedKeys;
use crate::secret::Secret;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Tcp { host: String, port: u16 },
    Socket(PathBuf),
}

impl Address {
    /// A socket, or a host that is this machine: what is sent does not leave it.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Address::Socket(_) => true,
            Address::Tcp { host, .. } => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                host.eq_ignore_ascii_case("localhost")
                    || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } => write!(f, "{}:{port}", host.escape_debug()),
            Address::Socket(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the connection is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Encrypted, by a certificate of a known CA for this host.
    VerifyIdentity,
    /// Encrypted, by a certificate of a known CA, for whatever name.
    VerifyCa,
    /// Encrypted, by whatever certificate: no protection against an active attacker.
    Required,
    Disabled,
    /// Not encrypted, since nobody said otherwise and the server is on this machine. Whoever holds its TCP port is not known to be the
    /// server, so no password goes there that the one behind the port could read.
    Local,
}

impl Tls {
    /// What holds where the configuration says nothing.
    #[must_use]
    pub fn default_for(address: &Address) -> Tls {
        if address.is_local() { Tls::Local } else { Tls::VerifyIdentity }
    }

    #[must_use]
    pub fn encrypts(self) -> bool {
        !matches!(self, Tls::Disabled | Tls::Local)
    }
}

/// The certificate that we show the server, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Ours first, then those up to the CA's.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// One of several servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub address: Address,
    pub tls: Tls,
}

/// A MySQL source's options.
#[derive(Clone, Debug)]
pub struct MysqlOptions {
    pub address: Address,
    pub user: String,
    pub password: Secret,
    /// Where the password is instead, read anew at each login.
    pub password_file: Option<PathBuf>,
    pub tls: Tls,
    /// PEM; replaces the built-in roots.
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificate>,
    /// Other servers with the same transactions, tried behind the first, in this order; user, password and certificates are the same.
    pub others: Vec<Host>,
    /// `schema.table` patterns, see [`patterns`](super::patterns).
    pub tables: Vec<String>,
    /// Keys of tables in the place of their own.
    pub keys: NamedKeys,
    /// Tables whose changes say of which transaction they are.
    pub stamped: ByTable<bool>,
    /// The server speaks at least this often; twice as long a silence is a dead connection.
    pub heartbeat: Duration,
    /// At most this long between marks while transactions of other tables go by.
    pub mark_interval: Duration,
    /// At most this many transactions between marks.
    pub mark_transactions: u64,
    pub max_row_bytes: usize,
    /// How long a server may lack transactions that we hold (a replica that lags after a failover) before they count as lost.
    pub failover_grace: Duration,
    /// How long a login or a grant may be refused after this source was served: while a password is changed, here or there.
    pub denial_grace: Duration,
    /// For connecting and for each answer before the stream begins; questions about tables have 5 minutes.
    pub connect_timeout: Duration,
    pub snapshot: SnapshotOptions,
    /// Replicas that snapshots wait for, by [`SnapshotOptions::max_replica_lag`]; user, password and certificates are the same.
    pub snapshot_replicas: Vec<Host>,
    /// Stable for this state folder and unlike any other's: server id and replica UUID follow from it.
    pub relay_id: u64,
}

/// What snapshots may ask of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Connections that read at a time; one more looks where chunks end.
    pub connections: usize,
    /// `None`: as fast as the log and the sinks take them.
    pub rows_per_second: Option<NonZeroU64>,
    /// Tables are read by themselves that come to be followed when the log has begun.
    pub added: bool,
    /// Tables are read by themselves whose documents came to be other than their rows.
    pub gaps: bool,
    /// How far replicas may be behind for rows to be read, whole seconds. `None`: nobody asks them.
    pub max_replica_lag: Option<Duration>,
}

impl Default for SnapshotOptions {
    fn default() -> SnapshotOptions {
        SnapshotOptions {
            connections: 2,
            rows_per_second: None,
            added: true,
            gaps: false,
            max_replica_lag: None,
        }
    }
}

impl MysqlOptions {
    /// Defaults for everything but the server.
    #[must_use]
    pub fn new(address: Address, user: impl Into<String>, password: Secret, relay_id: u64) -> MysqlOptions {
        MysqlOptions {
            tls: Tls::default_for(&address),
            address,
            user: user.into(),
            password,
            password_file: None,
            ca_file: None,
            client_certificate: None,
            others: Vec::new(),
            snapshot_replicas: Vec::new(),
            tables: Vec::new(),
            keys: NamedKeys::default(),
            stamped: ByTable::default(),
            heartbeat: Duration::from_secs(10),
            mark_interval: Duration::from_secs(10),
            mark_transactions: 10_000,
            max_row_bytes: 64 << 20,
            snapshot: SnapshotOptions::default(),
            failover_grace: Duration::from_secs(60),
            denial_grace: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            relay_id,
        }
    }

    /// Every server, the first one first.
    #[must_use]
    pub fn hosts(&self) -> Vec<Host> {
        let first = Host { address: self.address.clone(), tls: self.tls };
        std::iter::once(first).chain(self.others.iter().cloned()).collect()
    }

    /// The same, for this one of the servers alone.
    #[must_use]
    pub fn only(&self, host: &Host) -> MysqlOptions {
        let Host { address, tls } = host.clone();
        MysqlOptions { address, tls, others: Vec::new(), ..self.clone() }
    }

    /// The password as it is now.
    ///
    /// # Errors
    /// Its file cannot be read.
    pub fn current_password(&self) -> std::io::Result<Secret> {
        match &self.password_file {
            Some(path) => Secret::from_file(path),
            None => Ok(self.password.clone()),
        }
    }

    /// The id that we register as: in the upper half, where nobody numbers servers by hand, never 0.
    #[must_use]
    pub fn server_id(&self) -> u32 {
        let mixed = mix(self.relay_id);
        0x8000_0000 | (mixed as u32 & 0x7fff_ffff)
    }

    /// The UUID that we register as. The server ends an older stream of the same UUID when a new one asks, so ours must be
    /// our own (MySQL, sql/rpl_source.cc, *kill_zombie_dump_threads*).
    #[must_use]
    pub fn replica_uuid(&self) -> uuid::Uuid {
        let (high, low) = (mix(self.relay_id), mix(!self.relay_id));
        uuid::Builder::from_custom_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes()).into_uuid()
    }
}

/// SplitMix64's finalizer: neighbouring ids end up far apart.
fn mix(id: u64) -> u64 {
    let mut z = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_in_no_debug_output() {
        let options =
            MysqlOptions::new(Address::Tcp { host: "db".into(), port: 3306 }, "u", Secret::new("hunter2"), 1);
        assert!(!format!("{options:?}").contains("hunter2"));
    }

    #[test]
    fn tls_is_the_default_wherever_bytes_leave_the_machine() {
        for (host, tls) in [
            ("localhost", Tls::Local),
            ("127.0.0.1", Tls::Local),
            ("::1", Tls::Local),
            ("[::1]", Tls::Local),
            ("db.internal", Tls::VerifyIdentity),
            ("10.0.0.1", Tls::VerifyIdentity),
            ("localhost.example", Tls::VerifyIdentity),
        ] {
            assert_eq!(Tls::default_for(&Address::Tcp { host: host.into(), port: 3306 }), tls, "{host}");
        }
        assert_eq!(Tls::default_for(&Address::Socket("/s".into())), Tls::Local);
    }

    #[test]
    fn server_ids_are_high_stable_and_differ() {
        let of = |id| {
            let options = MysqlOptions::new(Address::Socket("/s".into()), "u", Secret::default(), id);
            (options.server_id(), options.replica_uuid())
        };
        assert_eq!(of(7), of(7));
        let mut ids: Vec<u32> = (0..10_000).map(|id| of(id).0).collect();
        assert!(ids.iter().all(|id| *id >= 0x8000_0000));
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() > 9_990);
        assert_ne!(of(0).1, of(u64::MAX).1);
    }
}
