//! What is asked of a server before streaming from it, and what is refused.
//!
//! One ordinary connection asks for settings, history and keys, and then becomes the stream itself: what was checked and what is streamed
//! are the same server, behind whatever proxy.

use std::collections::HashMap;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, SslOpts};
use tokio::time::{Instant, sleep, timeout};

use crate::event::{GtidSet, TableName};

use super::connection::BinlogConnection;
use super::error::MysqlError;
use super::options::{Address, MysqlOptions, Tls};
use super::patterns::{NameCase, Patterns};
use super::schema::FULL_METADATA;

/// The largest packet that MySQL's protocol carries, bytes: a row event may be as large.
const MAX_PACKET: usize = 1 << 30;

/// Pause between looks at a server that lacks transactions of ours.
const GRACE_PAUSE: Duration = Duration::from_millis(200);

/// For one question to information_schema: with very many tables it opens each of them.
const METADATA_PATIENCE: Duration = Duration::from_secs(300);

/// The followed tables that exist; for one without a primary key the columns of a unique key over NOT NULL columns, else none.
pub type FollowedKeys = HashMap<TableName, Vec<String>>;

/// A connection for questions.
#[derive(Debug)]
pub struct Control {
    conn: Conn,
    server: String,
    patience: Duration,
}

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct Server {
    name: String,
    pub version: String,
    pub uuid: [u8; 16],
    variables: HashMap<String, String>,
}

impl Control {
    /// # Errors
    /// The server cannot be reached (transient) or says no (definite).
    pub async fn connect(options: &MysqlOptions) -> Result<Control, MysqlError> {
        let (server, doing) = (options.address.to_string(), "connecting");
        if options.tls == Tls::Disabled && !options.address.is_local() {
            tracing::warn!(%server, "TLS is disabled: the password and all rows cross the network as they are");
        }
        let connecting = timeout(options.connect_timeout, Conn::new(client_options(options)));
        let conn = match connecting.await {
            Ok(conn) => conn.map_err(|source| MysqlError::client(doing, &server, source))?,
            Err(_) => {
                let seconds = options.connect_timeout.as_secs();
                return Err(MysqlError::NoAnswer { doing, server, seconds });
            }
        };
        Ok(Control { conn, server, patience: options.connect_timeout })
    }

    /// Asks for everything that [`Server::check`] judges.
    ///
    /// # Errors
    /// The question fails, or the server is no MySQL 8.
    pub async fn server(&mut self) -> Result<Server, MysqlError> {
        // SHOW leaves out what a version does not know, where @@ would be an error.
        let rows: Vec<(String, String)> = self
            .ask(
                "reading the server's settings",
                "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'server_uuid', 'server_id', \
                 'gtid_mode', 'log_bin', 'log_replica_updates', 'binlog_format', 'binlog_row_image', 'binlog_row_metadata', \
                 'binlog_row_value_options', 'binlog_transaction_compression', 'lower_case_table_names')",
            )
            .await?;
        let variables: HashMap<String, String> =
            rows.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        let version = variables.get("version").cloned().unwrap_or_default();
        let uuid = variables.get("server_uuid").and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match uuid {
            Some(uuid) if major.is_some_and(|major| major >= 8) && !version.contains("MariaDB") => {
                Ok(Server { name: self.server.clone(), version, uuid: *uuid.as_bytes(), variables })
            }
            _ => Err(MysqlError::Version { server: self.server.clone(), found: version }),
        }
    }

    /// Everything that the server has executed.
    ///
    /// # Errors
    /// The question fails.
    pub async fn executed(&mut self) -> Result<GtidSet, MysqlError> {
        self.gtid_set("reading gtid_executed", "SELECT @@GLOBAL.gtid_executed").await
    }

    /// What the server has executed and no longer has.
    ///
    /// # Errors
    /// The question fails.
    pub async fn purged(&mut self) -> Result<GtidSet, MysqlError> {
        self.gtid_set("reading gtid_purged", "SELECT @@GLOBAL.gtid_purged").await
    }

    /// Refuses a server whose history is not ours.
    ///
    /// The server itself only looks at its own UUID (MySQL, sql/rpl_binlog_sender.cc, *check_start_file*): after a failover that lost
    /// transactions it would go on as if nothing were wrong. A replica may merely lag, and even a primary sends a transaction before
    /// `gtid_executed` shows it; so it is given `grace`, unless none of our transactions is known there at all.
    ///
    /// # Errors
    /// [`MysqlError::AnotherHistory`] or [`MysqlError::Purged`].
    pub async fn check_history(&mut self, ours: &GtidSet, grace: Duration) -> Result<(), MysqlError> {
        let deadline = Instant::now() + grace;
        loop {
            let executed = self.executed().await?;
            let missing = ours.subtract(&executed);
            if missing.is_empty() {
                break;
            }
            if missing == *ours || Instant::now() >= deadline {
                return Err(MysqlError::AnotherHistory { server: self.server.clone(), missing });
            }
            tracing::warn!(server = %self.server, %missing, "the server lacks transactions that we hold: waiting for them");
            sleep(GRACE_PAUSE).await;
        }
        let missing = self.purged().await?.subtract(ours);
        if missing.is_empty() {
            return Ok(());
        }
        Err(MysqlError::Purged { server: self.server.clone(), missing })
    }

    /// Sees that every followed table that exists has a key, and returns the keys that table maps will not name.
    ///
    /// # Errors
    /// [`MysqlError::NoKey`], or the question fails.
    pub async fn keys(&mut self, patterns: &Patterns) -> Result<FollowedKeys, MysqlError> {
        let doing = "reading the keys of the followed tables";
        let tables: Vec<(String, String, bool)> = self
            .ask_within(
                METADATA_PATIENCE,
                doing,
                "SELECT t.table_schema, t.table_name, c.constraint_name IS NOT NULL FROM information_schema.tables t \
                 LEFT JOIN information_schema.table_constraints c ON c.table_schema = t.table_schema \
                 AND c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY' \
                 WHERE t.table_type = 'BASE TABLE' \
                 AND t.table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')",
            )
            .await?;
        let mut keys = FollowedKeys::new();
        for (schema, table, has_primary_key) in tables {
            let table = TableName { schema, table };
            if !patterns.follows_table(&table) {
                continue;
            }
            let mut key = Vec::new();
            if !has_primary_key {
                key = self.unique_key(doing, &table).await?;
                if key.is_empty() {
                    return Err(MysqlError::NoKey { table });
                }
            }
            keys.insert(table, key);
        }
        Ok(keys)
    }

    /// The column names of `tables`, in row order.
    ///
    /// # Errors
    /// The question fails.
    pub async fn columns(
        &mut self,
        tables: &[TableName],
    ) -> Result<Vec<(TableName, Vec<String>)>, MysqlError> {
        let doing = "reading the columns of the followed tables";
        let mut found = Vec::with_capacity(tables.len());
        for table in tables {
            let asking = self.conn.exec::<String, _, _>(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = ? AND table_name = ? \
                 ORDER BY ordinal_position",
                (&table.schema, &table.table),
            );
            let columns = match timeout(METADATA_PATIENCE, asking).await {
                Ok(columns) => columns.map_err(|source| MysqlError::client(doing, &self.server, source))?,
                Err(_) => return Err(self.no_answer(doing, METADATA_PATIENCE)),
            };
            found.push((table.clone(), columns));
        }
        Ok(found)
    }

    /// The columns of a unique key of whole, NOT NULL columns: the first by name; empty where there is none.
    async fn unique_key(
        &mut self,
        doing: &'static str,
        table: &TableName,
    ) -> Result<Vec<String>, MysqlError> {
        let asking = self.conn.exec::<(String, Option<String>, Option<String>, Option<u64>), _, _>(
            "SELECT index_name, column_name, nullable, sub_part FROM information_schema.statistics \
             WHERE table_schema = ? AND table_name = ? AND non_unique = 0 ORDER BY index_name, seq_in_index",
            (&table.schema, &table.table),
        );
        let parts = match timeout(METADATA_PATIENCE, asking).await {
            Ok(parts) => parts.map_err(|source| MysqlError::client(doing, &self.server, source))?,
            Err(_) => return Err(self.no_answer(doing, METADATA_PATIENCE)),
        };
        Ok(parts
            .chunk_by(|a, b| a.0 == b.0)
            .find_map(|index| {
                let columns = index.iter().map(|(_, column, nullable, sub_part)| {
                    let whole = sub_part.is_none() && nullable.as_deref() != Some("YES");
                    column.clone().filter(|_| whole)
                });
                columns.collect::<Option<Vec<_>>>()
            })
            .unwrap_or_default())
    }

    /// Turns this connection into a stream of what follows `after`.
    ///
    /// # Errors
    /// The server refuses, or is gone.
    pub async fn stream(
        self,
        after: &GtidSet,
        options: &MysqlOptions,
    ) -> Result<BinlogConnection, MysqlError> {
        match timeout(self.patience, BinlogConnection::start(self.conn, &self.server, after, options)).await {
            Ok(stream) => stream,
            Err(_) => Err(MysqlError::NoAnswer {
                doing: "asking for the binlog",
                server: self.server,
                seconds: self.patience.as_secs(),
            }),
        }
    }

    async fn gtid_set(&mut self, doing: &'static str, query: &str) -> Result<GtidSet, MysqlError> {
        let rows: Vec<String> = self.ask(doing, query).await?;
        let text = rows.into_iter().next().unwrap_or_default();
        text.parse().map_err(|error: crate::event::gtid::ParseGtidError| MysqlError::GtidSet {
            server: self.server.clone(),
            problem: error.to_string(),
        })
    }

    async fn ask<T>(&mut self, doing: &'static str, query: &str) -> Result<Vec<T>, MysqlError>
    where
        T: mysql_async::prelude::FromRow + Send + 'static,
    {
        self.ask_within(self.patience, doing, query).await
    }

    async fn ask_within<T>(
        &mut self,
        patience: Duration,
        doing: &'static str,
        query: &str,
    ) -> Result<Vec<T>, MysqlError>
    where
        T: mysql_async::prelude::FromRow + Send + 'static,
    {
        match timeout(patience, self.conn.query(query)).await {
            Ok(rows) => rows.map_err(|source| MysqlError::client(doing, &self.server, source)),
            Err(_) => Err(self.no_answer(doing, patience)),
        }
    }

    fn no_answer(&self, doing: &'static str, patience: Duration) -> MysqlError {
        MysqlError::NoAnswer { doing, server: self.server.clone(), seconds: patience.as_secs() }
    }
}

impl Server {
    /// # Errors
    /// A setting under which changes cannot be carried whole, with the statement that changes it.
    pub fn check(&self) -> Result<(), MysqlError> {
        const NEEDED: [(&str, &str, &str); 7] = [
            ("log_bin", "ON", "mysqld with --log-bin (a restart)"),
            (
                "gtid_mode",
                "ON",
                "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
                 SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON",
            ),
            ("binlog_format", "ROW", "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_row_image", "FULL", "SET PERSIST binlog_row_image = 'FULL'"),
            ("binlog_row_metadata", "FULL", FULL_METADATA),
            ("binlog_row_value_options", "", "SET PERSIST binlog_row_value_options = ''"),
            ("binlog_transaction_compression", "OFF", "SET PERSIST binlog_transaction_compression = OFF"),
        ];
        for (name, needed, statement) in NEEDED {
            // A server without the variable has only the way that is needed; but metadata are missing before 8.0.1.
            let found = match self.variable(name) {
                Some(found) => found,
                None if name == "binlog_row_metadata" => "(unknown)",
                None => continue,
            };
            if !found.eq_ignore_ascii_case(needed) {
                let needed = if needed.is_empty() { "''" } else { needed };
                let (server, found) = (self.name.clone(), found.to_owned());
                return Err(MysqlError::Setting { server, name, found, needed, statement });
            }
        }
        if self.variable("log_replica_updates").is_some_and(|v| v.eq_ignore_ascii_case("OFF")) {
            tracing::warn!(server = %self.name, "log_replica_updates is OFF: what this server replicates is not in its binlog");
        }
        Ok(())
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

/// Our options in the client's terms.
fn client_options(options: &MysqlOptions) -> OptsBuilder {
    let builder = OptsBuilder::default()
        .user(Some(&options.user))
        .pass(Some(options.password.reveal()))
        .prefer_socket(false)
        .stmt_cache_size(0)
        .tcp_keepalive(Some(Duration::from_secs(60)))
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(28_800));
    let builder = match &options.address {
        Address::Tcp { host, port } => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            builder.ip_or_hostname(host).tcp_port(*port)
        }
        Address::Socket(path) => builder.socket(Some(path.to_string_lossy())),
    };
    let roots = |ssl: SslOpts| match &options.ca_file {
        Some(path) => ssl.with_root_certs(vec![path.clone().into()]).with_disable_built_in_roots(true),
        None => ssl,
    };
    builder.ssl_opts(match options.tls {
        Tls::Disabled => None,
        Tls::VerifyIdentity => Some(roots(SslOpts::default())),
        Tls::Required => Some(
            SslOpts::default()
                .with_danger_accept_invalid_certs(true)
                .with_danger_skip_domain_validation(true),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(changed: &[(&str, &str)]) -> Server {
        let good = [
            ("log_bin", "ON"),
            ("gtid_mode", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("binlog_row_value_options", ""),
        ];
        let variables = good.iter().chain(changed).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Server { name: "db:3306".into(), version: "8.4.0".into(), uuid: [0; 16], variables }
    }

    #[test]
    fn each_setting_that_loses_changes_is_refused_with_the_statement_that_mends_it() {
        assert!(server(&[]).check().is_ok());
        for (name, value, statement) in [
            ("log_bin", "OFF", "--log-bin"),
            ("gtid_mode", "ON_PERMISSIVE", "SET PERSIST gtid_mode = ON"),
            ("binlog_format", "MIXED", "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_row_image", "MINIMAL", "SET PERSIST binlog_row_image = 'FULL'"),
            ("binlog_row_metadata", "MINIMAL", "SET PERSIST binlog_row_metadata = 'FULL'"),
            ("binlog_row_value_options", "PARTIAL_JSON", "SET PERSIST binlog_row_value_options = ''"),
            ("binlog_transaction_compression", "ON", "SET PERSIST binlog_transaction_compression = OFF"),
        ] {
            let text = server(&[(name, value)]).check().unwrap_err().to_string();
            assert!(text.contains(statement) && text.contains(value) && text.contains("db:3306"), "{text}");
        }
    }

    #[test]
    fn case_follows_lower_case_table_names() {
        assert_eq!(server(&[]).name_case(), NameCase::Sensitive);
        assert_eq!(server(&[("lower_case_table_names", "1")]).name_case(), NameCase::Insensitive);
    }
}
