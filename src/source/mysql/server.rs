//! What a server says about itself, and which of its settings lose changes.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::error::MysqlError;
use super::link::shown;
use super::patterns::NameCase;
use super::schema::FULL_METADATA;

/// Whose server it is: what they do not have in common is decided by this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    Mysql,
    Mariadb,
}

/// Who streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    pub family: Family,
    /// `server_uuid`; MariaDB has none: 16 bytes of a hash over what tells its servers apart.
    pub uuid: [u8; 16],
}

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct Server {
    name: String,
    pub peer: Peer,
    pub version: String,
    variables: HashMap<String, String>,
}

/// A setting that changes need: its name, the value, and what sets it.
type Needed = (&'static str, &'static str, &'static str);

const METADATA: &str = "binlog_row_metadata";

const FULL_METADATA_MARIADB: &str =
    "SET GLOBAL binlog_row_metadata = 'FULL', and write it into the server's option file";

const LOG_BIN: Needed = ("log_bin", "ON", "the server with --log-bin (a restart)");

const MYSQL_NEEDS: [Needed; 3] = [
    LOG_BIN,
    ("binlog_format", "ROW", "SET PERSIST binlog_format = 'ROW'"),
    // Else a server that cannot write its binlog goes on without one.
    ("binlog_error_action", "ABORT_SERVER", "SET PERSIST binlog_error_action = 'ABORT_SERVER'"),
];

/// It has no SET PERSIST.
const MARIADB_NEEDS: [Needed; 2] = [
    LOG_BIN,
    ("binlog_format", "ROW", "SET GLOBAL binlog_format = 'ROW', and write it into the server's option file"),
];

/// Turns GTIDs on, step by step; each waits for transactions of the step before (MySQL, *Enabling GTID Transactions Online*).
pub const GTIDS_ON: &str = "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; \
                            and when the relay has read what came without GTIDs SET PERSIST gtid_mode = ON";

impl Server {
    /// The question whose answer [`Server::new`] takes. SHOW leaves out what a version does not know, where @@ would be an error.
    pub const QUESTION: &str = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'server_uuid', 'server_uid', \
        'server_id', 'hostname', 'port', 'gtid_mode', 'gtid_strict_mode', 'log_bin', 'log_replica_updates', 'log_slave_updates', \
        'binlog_format', 'binlog_row_image', 'binlog_row_metadata', 'binlog_row_value_options', \
        'lower_case_table_names', 'binlog_error_action', 'sync_binlog', 'innodb_flush_log_at_trx_commit', 'innodb_native_foreign_keys')";

    /// `rows`: names and values of the server's variables, asked for at `address`.
    ///
    /// # Errors
    /// It is older than what this source reads.
    pub fn new(address: &str, rows: Vec<[String; 2]>) -> Result<Server, MysqlError> {
        let variables: HashMap<String, String> =
            rows.into_iter().map(|[name, value]| (name.to_ascii_lowercase(), value)).collect();
        let version = variables.get("version").map(|version| shown(version.as_bytes())).unwrap_or_default();
        let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        let (family, uuid) = if version.contains("MariaDB") {
            let known = cfg!(feature = "mariadb") && number >= (10, 11);
            (Family::Mariadb, known.then(|| identity(&variables)))
        } else {
            let uuid = variables.get("server_uuid").and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
            (Family::Mysql, uuid.filter(|_| number >= (8, 0)).map(|uuid| *uuid.as_bytes()))
        };
        match uuid {
            Some(uuid) => {
                Ok(Server { name: address.to_owned(), peer: Peer { family, uuid }, version, variables })
            }
            None => Err(MysqlError::Version { server: address.to_owned(), found: version }),
        }
    }

    /// Family and version, for people.
    #[must_use]
    pub fn title(&self) -> String {
        match self.peer.family {
            Family::Mysql => format!("MySQL {}", self.version),
            // Its versions say so themselves.
            Family::Mariadb => self.version.clone(),
        }
    }

    /// # Errors
    /// A setting under which changes cannot be carried whole, with the statement that changes it.
    pub fn check(&self) -> Result<(), MysqlError> {
        let needs = match self.peer.family {
            Family::Mysql => &MYSQL_NEEDS[..],
            Family::Mariadb => &MARIADB_NEEDS[..],
        };
        for &(name, needed, statement) in needs {
            // A server without the variable has only the way that is needed.
            let Some(found) = self.variable(name) else { continue };
            if !found.eq_ignore_ascii_case(needed) {
                let (server, found) = (self.name.clone(), shown(found.as_bytes()));
                return Err(MysqlError::Setting { server, name, found, needed, statement });
            }
        }
        if self.is_off("gtid_strict_mode") {
            tracing::warn!(
                server = %self.name,
                "gtid_strict_mode is OFF: should two servers write in one GTID domain, their sequences may fall, and this source stops there"
            );
        }
        Ok(())
    }

    /// Every transaction that it commits has a GTID.
    #[must_use]
    pub fn gives_gtids(&self) -> bool {
        self.peer.family == Family::Mariadb || self.gtid_mode().eq_ignore_ascii_case("ON")
    }

    /// Of MySQL; a server without the variable has only the way that is needed.
    #[must_use]
    pub fn gtid_mode(&self) -> &str {
        self.variable("gtid_mode").unwrap_or("ON")
    }

    /// What is weaker where it does not give every transaction a GTID, and what changes that.
    #[must_use]
    pub fn without_gtids(&self) -> Option<String> {
        (!self.gives_gtids()).then(|| {
            let mode = shown(self.gtid_mode().as_bytes());
            format!(
                "gtid_mode is {mode}: the binlog is read by file and position, which mean something at this server alone. No other server can take its \
                 place, a crash that takes transactions back is noticed only where others stand in their place or the file is shorter, and rows that come without all their columns (binlog_row_image other than FULL) end the relay. {GTIDS_ON} turn GTIDs on while everything runs, and the \
                 relay goes over by itself"
            )
        })
    }

    /// Asks how it replicates from others, if it does.
    #[must_use]
    pub fn replica_question(&self) -> &'static str {
        match self.peer.family {
            // The new word came with 8.0.22.
            Family::Mysql if self.is_older_than((8, 0, 22)) => "SHOW SLAVE STATUS",
            Family::Mysql => "SHOW REPLICA STATUS",
            Family::Mariadb => "SHOW ALL SLAVES STATUS",
        }
    }

    /// Asks where its binlog ends.
    #[must_use]
    pub fn end_question(&self) -> &'static str {
        match self.peer.family {
            Family::Mysql if !self.is_older_than((8, 2, 0)) => "SHOW BINARY LOG STATUS",
            _ => "SHOW MASTER STATUS",
        }
    }

    fn is_older_than(&self, than: (u32, u32, u32)) -> bool {
        let mut numbers = self.version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().unwrap_or(0);
        (next(), next(), next()) < than
    }

    /// What it replicates from others is in its binlog too.
    #[must_use]
    pub fn writes_what_it_replicates(&self) -> bool {
        !self.is_off("log_replica_updates") && !self.is_off("log_slave_updates")
    }

    /// Whether a crash of its machine can take transactions back that were sent already: what says so.
    #[must_use]
    pub fn forgets_after_a_crash(&self) -> Option<String> {
        let lax = |name: &&str| self.variable(name).is_some_and(|value| value != "1");
        let lax: Vec<String> = ["sync_binlog", "innodb_flush_log_at_trx_commit"]
            .into_iter()
            .filter(lax)
            .map(|name| format!("{name} = {}", shown(self.variable(name).unwrap_or_default().as_bytes())))
            .collect();
        (!lax.is_empty()).then(|| lax.join(", "))
    }

    /// The statement that makes table maps say everything, where they do not.
    #[must_use]
    pub fn wants_metadata(&self) -> Option<&'static str> {
        let full = self.variable(METADATA).is_some_and(|found| found.eq_ignore_ascii_case("FULL"));
        let statement = match self.peer.family {
            Family::Mysql => FULL_METADATA,
            Family::Mariadb => FULL_METADATA_MARIADB,
        };
        (!full).then_some(statement)
    }

    /// Whether it writes rows that a foreign key's action changes; a server that knows the choice has it.
    #[must_use]
    pub fn writes_cascades(&self) -> bool {
        self.is_off("innodb_native_foreign_keys")
    }

    fn is_off(&self, name: &str) -> bool {
        self.variable(name).is_some_and(|value| value.eq_ignore_ascii_case("OFF"))
    }

    /// Settings under which changes are carried whole, and at what cost.
    #[must_use]
    pub fn costs(&self) -> Vec<String> {
        let mut costs = Vec::new();
        let image = self.variable("binlog_row_image").unwrap_or("FULL");
        if !["FULL", "FULL_NODUP"].iter().any(|whole| image.eq_ignore_ascii_case(whole)) {
            costs.push(format!(
                "binlog_row_image is {}: rows that come without all their columns are read again by key, for which the user needs SELECT on them, \
                 and each transaction with such rows waits for it; FULL spares that",
                shown(image.as_bytes())
            ));
        }
        let options = self.variable("binlog_row_value_options").unwrap_or_default();
        if !options.is_empty() {
            costs.push(format!(
                "binlog_row_value_options is {}: documents are put together from their differences, and where binlog_row_image is not FULL \
                 their rows are read again by key",
                shown(options.as_bytes())
            ));
        }
        costs
    }

    /// How this server compares table names.
    #[must_use]
    pub fn name_case(&self) -> NameCase {
        match self.variable("lower_case_table_names") {
            Some("1" | "2") => NameCase::Insensitive,
            _ => NameCase::Sensitive,
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

/// What tells a MariaDB server apart from others. `server_uid` comes from the machine and the port alone.
fn identity(variables: &HashMap<String, String>) -> [u8; 16] {
    let mut hash = Sha256::new();
    for name in ["server_uid", "server_id", "hostname", "port"] {
        let value = variables.get(name).map_or("", String::as_str);
        hash.update((value.len() as u64).to_le_bytes());
        hash.update(value);
    }
    let mut identity = [0; 16];
    identity.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    identity
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(changed: &[(&str, &str)]) -> Server {
        let good = [
            ("log_bin", "ON"),
            ("gtid_mode", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_metadata", "FULL"),
        ];
        let variables = good.iter().chain(changed).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Server { name: "db:3306".into(), peer: Peer::default(), version: "8.4.0".into(), variables }
    }

    fn of_version(version: &str, others: &[[&str; 2]]) -> Result<Server, MysqlError> {
        let rows = [["version", version]]
            .into_iter()
            .chain(others.iter().copied())
            .map(|row| row.map(str::to_owned));
        Server::new("db:3306", rows.collect())
    }

    #[test]
    fn families_and_versions_are_told_apart() {
        let uuid = ["server_uuid", "3e11fa47-71ca-11e1-9e33-c80aa9429562"];
        for (version, family) in [
            ("8.0.11", Family::Mysql),
            ("9.7.0-debug", Family::Mysql),
            ("10.11.18-MariaDB-0+deb12u1-log", Family::Mariadb),
            ("11.8.9-MariaDB-0+deb13u1 from Debian-log", Family::Mariadb),
        ] {
            assert_eq!(of_version(version, &[uuid]).unwrap().peer.family, family, "{version}");
        }
        for old in ["5.7.44", "10.6.20-MariaDB", "10.10.7-MariaDB", "", "x"] {
            let text = of_version(old, &[uuid]).unwrap_err().to_string();
            assert!(text.contains("MySQL 8.0 and newer") && text.contains(old), "{text}");
        }
        assert!(of_version("8.4.0", &[]).is_err(), "it has no UUID");
    }

    #[test]
    fn servers_of_mariadb_are_told_apart_by_all_that_they_say_of_themselves() {
        let identity = |uid, id, port| {
            of_version("11.8.9-MariaDB", &[["server_uid", uid], ["server_id", id], ["port", port]])
                .unwrap()
                .peer
                .uuid
        };
        assert_eq!(identity("x", "1", "3306"), identity("x", "1", "3306"));
        assert_ne!(identity("x", "1", "3306"), identity("y", "1", "3306"));
        assert_ne!(identity("x", "1", "3306"), identity("x", "2", "3306"));
        assert_ne!(identity("x", "11", "1"), identity("x", "1", "11"));
    }

    #[test]
    fn mariadb_is_told_what_it_needs_in_its_own_words() {
        let settings = [["log_bin", "ON"], ["binlog_format", "ROW"], ["binlog_row_metadata", "NO_LOG"]];
        let server = of_version("11.8.9-MariaDB", &settings).unwrap();
        assert!(server.check().is_ok());
        assert!(server.wants_metadata().unwrap().contains("SET GLOBAL binlog_row_metadata"));
        let changed = [settings[0], ["binlog_format", "MIXED"], settings[2]];
        let text = of_version("11.8.9-MariaDB", &changed).unwrap().check().unwrap_err().to_string();
        assert!(text.contains("SET GLOBAL binlog_format") && text.contains("MIXED"), "{text}");
    }

    #[test]
    fn each_setting_that_loses_changes_is_refused_with_the_statement_that_mends_it() {
        assert!(server(&[]).check().is_ok());
        for (name, value, statement) in [
            ("log_bin", "OFF", "--log-bin"),
            ("binlog_format", "MIXED", "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_error_action", "IGNORE_ERROR", "SET PERSIST binlog_error_action = 'ABORT_SERVER'"),
        ] {
            let text = server(&[(name, value)]).check().unwrap_err().to_string();
            assert!(text.contains(statement) && text.contains(value) && text.contains("db:3306"), "{text}");
        }
    }

    #[test]
    fn without_gtids_a_server_is_read_and_what_is_weaker_is_said() {
        assert!(server(&[]).gives_gtids() && server(&[]).without_gtids().is_none());
        for mode in ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE"] {
            let server = server(&[("gtid_mode", mode)]);
            assert!(server.check().is_ok() && !server.gives_gtids());
            let text = server.without_gtids().unwrap();
            assert!(text.contains(mode) && text.contains("SET PERSIST gtid_mode = ON"), "{text}");
        }
        assert!(of_version("11.8.9-MariaDB", &[]).unwrap().gives_gtids());
    }

    #[test]
    fn metadata_may_be_minimal_and_are_better_full() {
        let minimal = server(&[("binlog_row_metadata", "MINIMAL")]);
        assert!(minimal.check().is_ok());
        assert_eq!(minimal.wants_metadata(), Some("SET PERSIST binlog_row_metadata = 'FULL'"));
        assert_eq!(server(&[]).wants_metadata(), None);
    }

    #[test]
    fn what_has_to_be_read_again_is_a_cost_and_no_error() {
        assert!(server(&[]).costs().is_empty());
        assert!(server(&[("binlog_row_image", "FULL_NODUP")]).costs().is_empty());
        for (name, value) in [
            ("binlog_row_image", "MINIMAL"),
            ("binlog_row_image", "noblob"),
            ("binlog_row_value_options", "PARTIAL_JSON"),
        ] {
            let server = server(&[(name, value)]);
            assert!(server.check().is_ok());
            let costs = server.costs();
            assert!(costs.len() == 1 && costs[0].contains(name) && costs[0].contains(value), "{costs:?}");
        }
    }

    #[test]
    fn what_a_server_says_is_shown_cut_and_escaped() {
        let found = format!("MIXED\x1b[2J{}", "x".repeat(9_000));
        let text = server(&[("binlog_format", &found)]).check().unwrap_err().to_string();
        assert!(text.contains("MIXED\\u{1b}[2J") && text.len() < 2_000, "{text}");
    }

    #[test]
    fn case_follows_lower_case_table_names() {
        assert_eq!(server(&[]).name_case(), NameCase::Sensitive);
        assert_eq!(server(&[("lower_case_table_names", "1")]).name_case(), NameCase::Insensitive);
    }
}
