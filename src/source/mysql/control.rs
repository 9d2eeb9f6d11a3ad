//! What is asked of a server before streaming from it, and what is refused.
//!
//! One connection asks for settings, history and keys, and then becomes the stream itself: what was checked and what is streamed are the
//! same server, behind whatever proxy.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::event::gtid::Origin;
use crate::event::{Column, ColumnType, Gtid, GtidSet, TableName, TableSchema};
use crate::log::Standing;

use super::connection::{Begin, BinlogConnection};
use super::error::{Hope, MysqlError};
use super::link::{Link, LinkError, Row};
use super::named_key::{NamedKeys, named};
use super::options::MysqlOptions;
use super::patterns::Patterns;
use super::place::FILE_HEAD;
use super::server::{Family, Server};

/// Pause between looks at a server that lacks transactions of ours.
const MOMENT_PAUSE: Duration = Duration::from_millis(100);

/// For transactions whose rows may be seen already to be in the executed set.
const COMMITTING: Duration = Duration::from_secs(1);

/// For one question to information_schema: with very many tables it opens each of them.
pub(super) const METADATA_PATIENCE: Duration = Duration::from_secs(300);

/// A connection for questions.
#[derive(Debug)]
pub struct Control {
    pub(super) link: Link,
    pub(super) server: String,
    pub(super) about: Server,
    pub(super) patience: Duration,
}

impl Control {
    /// Connects, and asks for everything that [`Server::check`] judges.
    ///
    /// # Errors
    /// The server cannot be reached (transient), says no or is too old (definite).
    pub async fn connect(options: &MysqlOptions) -> Result<Control, MysqlError> {
        let (server, doing) = (options.address.to_string(), "connecting");
        if !options.tls.encrypts() && !options.address.is_local() {
            tracing::warn!(%server, "TLS is disabled: the password and all rows cross the network as they are");
        }
        let patience = options.connect_timeout;
        let mut link = match timeout(patience, Link::connect(options)).await {
            Ok(link) => link.map_err(|source| MysqlError::link(doing, &server, source))?,
            Err(_) => {
                return Err(MysqlError::NoAnswer { doing, server, seconds: patience.as_secs() });
            }
        };
        let rows =
            asked(&mut link, &server, patience, "reading the server's settings", Server::QUESTION).await?;
        let about = Server::new(&server, rows)?;
        Ok(Control { link, server, about, patience })
    }

    /// Where it was asked, for people.
    pub(super) fn name(&self) -> &str {
        &self.server
    }

    /// What the server says about itself.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.about
    }

    /// Everything that the server has executed; of MariaDB everything that is or was in its binlog.
    ///
    /// # Errors
    /// The question fails, or sequences fall in one of MariaDB's domains.
    pub async fn executed(&mut self) -> Result<GtidSet, MysqlError> {
        match self.about.peer.family {
            Family::Mysql => self.gtid_set("reading gtid_executed", "SELECT @@GLOBAL.gtid_executed").await,
            Family::Mariadb => self.binlog_state().await,
        }
    }

    /// What the server has executed and no longer has.
    ///
    /// # Errors
    /// The question fails, or sequences fall in one of MariaDB's domains.
    pub async fn purged(&mut self) -> Result<GtidSet, MysqlError> {
        match self.about.peer.family {
            Family::Mysql => self.gtid_set("reading gtid_purged", "SELECT @@GLOBAL.gtid_purged").await,
            Family::Mariadb => self.before_oldest_file().await,
        }
    }

    /// The connection itself, for rows.
    pub fn link(&mut self) -> &mut Link {
        &mut self.link
    }

    /// Begins a transaction whose snapshot has a place in MariaDB's binlog, file and offset: it shows what was committed before, and nothing else.
    ///
    /// # Errors
    /// The question fails.
    pub async fn snapshot(&mut self) -> Result<Option<(String, u64)>, MysqlError> {
        let doing = "beginning a snapshot";
        let _: Vec<[String; 0]> = self.ask(doing, "START TRANSACTION WITH CONSISTENT SNAPSHOT").await?;
        let rows: Vec<[String; 2]> = self.ask(doing, "SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
        let value = |wanted: &str| {
            let row = rows.iter().find(|[name, _]| name.eq_ignore_ascii_case(wanted));
            row.map(|[_, value]| value.clone())
        };
        let offset = value("binlog_snapshot_position").and_then(|offset| offset.parse().ok());
        Ok(value("binlog_snapshot_file").zip(offset))
    }

    /// What a SELECT that was answered before can have seen. On MySQL rows are seen a moment before `gtid_executed` has their transaction, which
    /// until then is in `gtid_owned`: so what is owned is waited for, but not a transaction that is long in the making, whose rows nobody sees.
    ///
    /// # Errors
    /// The question fails.
    pub async fn seen(&mut self) -> Result<GtidSet, MysqlError> {
        if self.about.peer.family == Family::Mariadb {
            // It moves before rows are seen.
            return self.binlog_state().await;
        }
        let (deadline, mut pause) = (Instant::now() + COMMITTING, Duration::from_millis(1));
        let (mut owned, mut executed) = self.owned_and_executed().await?;
        loop {
            let open = owned.subtract(&executed);
            if open.is_empty() || Instant::now() >= deadline {
                return Ok(executed);
            }
            sleep(pause).await;
            pause *= 2;
            let (still, later) = self.owned_and_executed().await?;
            let gone = open.subtract(&still);
            (owned, executed) = (open.subtract(&gone), later);
        }
    }

    /// In this order: what is not owned any more is executed.
    async fn owned_and_executed(&mut self) -> Result<(GtidSet, GtidSet), MysqlError> {
        let asked = "SELECT @@GLOBAL.gtid_owned, @@GLOBAL.gtid_executed";
        let rows: Vec<[String; 2]> = self.ask("reading what was executed", asked).await?;
        let unusable = |problem: String| MysqlError::GtidSet { server: self.server.clone(), problem };
        let [[owned, executed]] = rows.as_slice() else {
            return Err(unusable(format!("{} rows answer", rows.len())));
        };
        let parse = |text: &str| text.parse::<GtidSet>().map_err(|error| unusable(error.to_string()));
        Ok((parse(&without_owners(owned))?, parse(executed)?))
    }

    /// Ends it.
    ///
    /// # Errors
    /// The question fails.
    pub async fn end_snapshot(&mut self) -> Result<(), MysqlError> {
        let _: Vec<[String; 0]> = self.ask("ending a snapshot", "COMMIT").await?;
        Ok(())
    }

    async fn binlog_state(&mut self) -> Result<GtidSet, MysqlError> {
        let doing = "reading gtid_binlog_state";
        let (state, last) = ("SELECT @@GLOBAL.gtid_binlog_state", "SELECT @@GLOBAL.gtid_binlog_pos");
        let state = self.gtid_set(doing, state).await?;
        // Asked later, it may be further on, never behind.
        let last = self.gtid_set(doing, last).await?;
        self.rising(&state, last.domains())?;
        Ok(state)
    }

    /// MariaDB's oldest binlog file begins with a list of what stood in files before it.
    async fn before_oldest_file(&mut self) -> Result<GtidSet, MysqlError> {
        let doing = "reading the head of the oldest binlog file";
        let files = self.binlog_files().await?;
        let oldest = files.first().map(|(file, _)| file);
        let server = self.server.clone();
        let unusable = |problem: &str| MysqlError::GtidSet {
            server: server.clone(),
            problem: format!("{doing}: {problem}"),
        };
        let oldest = oldest.ok_or_else(|| unusable("there is none"))?;
        let events = self.binlog_events(doing, oldest, FILE_HEAD, 4).await?;
        let list = events.iter().find(|[_, _, kind, ..]| kind == "Gtid_list");
        let [.., list] = list.ok_or_else(|| unusable("it has no list of GTIDs"))?;
        let list = list.trim_start_matches('[').trim_end_matches(']');
        let parse = |text: &str| text.parse::<GtidSet>().map_err(|error| unusable(&error.to_string()));
        let set = parse(list)?;
        // The last of each domain stands behind the others of it.
        let mut last = BTreeMap::new();
        for gtid in list.split(',').map(parse) {
            if let Some(Gtid { origin: Origin::Domain { domain, server }, number }) = gtid?.only() {
                last.insert(domain, Gtid { origin: Origin::Domain { domain, server }, number });
            }
        }
        self.rising(&set, last.into_values())?;
        Ok(set)
    }

    /// Sees that in each domain the last GTID is the highest: a domain's place is told by its sequence.
    fn rising(&self, set: &GtidSet, last: impl Iterator<Item = Gtid>) -> Result<(), MysqlError> {
        let of = |gtid: &Gtid| match gtid.origin {
            Origin::Domain { domain, .. } => Some(domain),
            Origin::Server { .. } => None,
        };
        for last in last {
            let highest = set.domains().find(|highest| of(highest) == of(&last));
            if let Some(highest) = highest.filter(|highest| highest.number > last.number) {
                return Err(MysqlError::Falling { at: self.server.clone(), last, highest });
            }
        }
        Ok(())
    }

    /// Refuses a server whose history is not ours.
    ///
    /// The server itself only looks at its own UUID (MySQL, sql/rpl_binlog_sender.cc, *check_start_file*): after a failover that lost
    /// transactions it would go on as if nothing were wrong. Even a primary sends a transaction before `gtid_executed` shows it: it is
    /// given a `moment`. A replica may lag for longer, of which the error has a word.
    ///
    /// # Errors
    /// [`MysqlError::AnotherHistory`].
    pub async fn check_history(&mut self, ours: &Standing, moment: Duration) -> Result<(), MysqlError> {
        let deadline = Instant::now() + moment;
        // What was read by SELECT must have happened there as well.
        let mut seen = ours.gtids.clone();
        seen.union(&ours.horizon);
        loop {
            let executed = self.executed().await?;
            let missing = seen.subtract(&executed);
            if missing.is_empty() {
                return Ok(());
            }
            if missing == seen || Instant::now() >= deadline {
                let hope = match self.replicas().await {
                    _ if missing == seen => Hope::None,
                    Ok(channels) if channels.iter().any(|channel| channel.is_behind(&executed)) => {
                        Hope::CatchingUp
                    }
                    // Not to be allowed to look is no reason.
                    Ok(_) => Hope::Grace,
                    Err(error) if error.is_denial() => Hope::Grace,
                    Err(error) => return Err(error),
                };
                return Err(MysqlError::AnotherHistory { server: self.server.clone(), missing, hope });
            }
            sleep(MOMENT_PAUSE).await;
        }
    }

    /// Refuses a server that no longer has what is to be read next, where that is said by a set.
    ///
    /// # Errors
    /// [`MysqlError::Purged`].
    pub async fn check_purged(&mut self, ours: &Standing) -> Result<(), MysqlError> {
        let missing = self.purged().await?.subtract(&ours.gtids);
        if missing.is_empty() {
            return Ok(());
        }
        Err(MysqlError::Purged { server: self.server.clone(), missing })
    }

    /// The followed tables that exist; each has a key, of its own or by `keys`.
    ///
    /// # Errors
    /// [`MysqlError::NoKey`], [`MysqlError::NamedKey`], or the question fails.
    pub async fn followed(
        &mut self,
        patterns: &Patterns,
        keys: &NamedKeys,
    ) -> Result<BTreeSet<TableName>, MysqlError> {
        let tables: Vec<[String; 4]> = self
            .ask_within(
                METADATA_PATIENCE,
                "reading the keys of the followed tables",
                "SELECT t.table_schema, t.table_name, t.table_type, c.constraint_name IS NOT NULL FROM information_schema.tables t \
                 LEFT JOIN information_schema.table_constraints c ON c.table_schema = t.table_schema \
                 AND c.table_name = t.table_name AND c.constraint_type = 'PRIMARY KEY' \
                 WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') \
                 AND t.table_schema NOT IN ('mysql', 'sys', 'performance_schema', 'information_schema')",
            )
            .await?;
        let mut followed = BTreeSet::new();
        for [schema, table, kind, has_primary_key] in tables {
            let table = TableName { schema, table };
            if !patterns.follows_table(&table) {
                continue;
            }
            if kind == "SYSTEM VERSIONED" {
                return Err(MysqlError::Versioned { table });
            }
            if let Some(key) = named(keys, &table) {
                self.check_named_key(&table, key).await?;
            } else if has_primary_key == "0" && self.key(&table).await?.is_empty() {
                return Err(MysqlError::NoKey { table });
            }
            followed.insert(table);
        }
        Ok(followed)
    }

    /// What `tables` are made of, as far as names go: columns, which of them are dates (all others are text here), and the key.
    ///
    /// # Errors
    /// The question fails.
    pub async fn outlines(
        &mut self,
        tables: &[TableName],
        keys: &NamedKeys,
    ) -> Result<Vec<TableSchema>, MysqlError> {
        let doing = "reading the columns of the followed tables";
        let mut found = Vec::with_capacity(tables.len());
        for table in tables {
            let asked = format!(
                "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = {} AND table_name = {} \
                 ORDER BY ordinal_position",
                literal(&table.schema),
                literal(&table.table)
            );
            let columns: Vec<[String; 2]> = self.ask_within(METADATA_PATIENCE, doing, &asked).await?;
            let column = |[name, ty]: [String; 2]| {
                let ty = match ty.to_ascii_lowercase().as_str() {
                    "date" => ColumnType::Date,
                    "datetime" => ColumnType::DateTime { decimals: 0 },
                    "timestamp" => ColumnType::Timestamp { decimals: 0 },
                    _ => ColumnType::Text,
                };
                Column { name, ty, nullable: true }
            };
            let columns: Vec<Column> = columns.into_iter().map(column).collect();
            let key = match named(keys, table) {
                Some(key) => key.to_vec(),
                None => self.key(table).await?,
            };
            let place = |name: &String| columns.iter().position(|column| column.name == *name);
            let key = key.iter().filter_map(place).filter_map(|at| u16::try_from(at).ok()).collect();
            found.push(TableSchema { name: table.clone(), columns, key });
        }
        Ok(found)
    }

    /// Turns this connection into a stream from `begin` on.
    ///
    /// # Errors
    /// The server refuses, or is gone.
    pub async fn stream<'a>(
        self,
        begin: impl Into<Begin<'a>>,
        options: &MysqlOptions,
    ) -> Result<BinlogConnection, MysqlError> {
        let Control { link, server, about, patience } = self;
        let start = BinlogConnection::start(link, &server, about.peer.family, begin.into(), options);
        match timeout(patience, start).await {
            Ok(stream) => stream,
            Err(_) => {
                let (doing, seconds) = ("asking for the binlog", patience.as_secs());
                Err(MysqlError::NoAnswer { doing, server, seconds })
            }
        }
    }

    async fn gtid_set(&mut self, doing: &'static str, query: &str) -> Result<GtidSet, MysqlError> {
        let rows: Vec<[String; 1]> = self.ask(doing, query).await?;
        let unusable = |problem: String| MysqlError::GtidSet { server: self.server.clone(), problem };
        // No row is not the empty set: that would be somebody else's answer, and a start from everything.
        let [[text]] = rows.as_slice() else { return Err(unusable(format!("{} rows answer", rows.len()))) };
        text.parse().map_err(|error: crate::event::gtid::ParseGtidError| unusable(error.to_string()))
    }

    pub(super) async fn ask<R: TryFrom<Vec<String>>>(
        &mut self,
        doing: &'static str,
        query: &str,
    ) -> Result<Vec<R>, MysqlError> {
        self.ask_within(self.patience, doing, query).await
    }

    pub(super) async fn ask_within<R: TryFrom<Vec<String>>>(
        &mut self,
        patience: Duration,
        doing: &'static str,
        query: &str,
    ) -> Result<Vec<R>, MysqlError> {
        asked(&mut self.link, &self.server, patience, doing, query).await
    }
}

/// `UUID:7#12:8#13` without the threads' numbers behind `#`.
fn without_owners(owned: &str) -> String {
    let mut in_owner = false;
    let keeps = |c: &char| {
        in_owner = *c == '#' || (in_owner && c.is_ascii_digit());
        !in_owner
    };
    owned.chars().filter(keeps).collect()
}

/// What a question is answered with, within so long.
async fn asked<R: TryFrom<Vec<String>>>(
    link: &mut Link,
    server: &str,
    patience: Duration,
    doing: &'static str,
    query: &str,
) -> Result<Vec<R>, MysqlError> {
    match timeout(patience, link.ask(query)).await {
        Ok(rows) => rows
            .and_then(|rows| rows.into_iter().map(values).collect())
            .map_err(|source| MysqlError::link(doing, server, source)),
        Err(_) => Err(MysqlError::NoAnswer { doing, server: server.to_owned(), seconds: patience.as_secs() }),
    }
}

/// A value as a literal of SQL, whatever is in it and whatever the session's sql_mode is.
pub(super) fn literal(value: &str) -> String {
    let hex = value.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("_utf8mb4 x'{hex}'")
}

/// A row of as many values as are expected; none of them NULL.
fn values<R: TryFrom<Vec<String>>>(row: Row) -> Result<R, LinkError> {
    let values = row.into_iter().collect::<Option<Vec<_>>>();
    let values = values.and_then(|values| R::try_from(values).ok());
    values.ok_or(LinkError::Unlike("a row is not what was asked for"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_transactions_are_a_set_without_their_threads() {
        let text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:8#12#9:7#13:blue:2#1,\n3e11fa47-71ca-11e1-9e33-c80aa9429563:1#4";
        let set: GtidSet = without_owners(text).parse().unwrap();
        let plain = "3e11fa47-71ca-11e1-9e33-c80aa9429562:7-8:blue:2,3e11fa47-71ca-11e1-9e33-c80aa9429563:1";
        assert_eq!(set, plain.parse().unwrap());
        assert_eq!(without_owners(""), "");
    }
}
