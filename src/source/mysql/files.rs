//! The server's binlog files: where they end, how long they are kept, and what is left out of them.
//!
//! What a server does not write to its binlog nobody can carry, and nothing in the stream says so: databases that its filters leave out, and on a
//! replica without *log_replica_updates* everything that it replicates. (Statements of sessions with `sql_log_bin = 0` cannot be seen
//! at all.)

use std::cmp::Ordering;
use std::collections::BTreeSet;

use tokio::time::timeout;

use crate::event::TableName;

use super::control::Control;
use super::error::{MysqlError, Place};
use super::replica::Channel;

/// Where a server's binlog ends, and which databases it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinlogStatus {
    pub file: String,
    /// Bytes.
    pub offset: u64,
    /// Where there are any, these databases alone.
    only: Vec<String>,
    /// Else all but these.
    without: Vec<String>,
}

impl BinlogStatus {
    /// Whether all before its end stands before `place` too.
    #[must_use]
    pub fn is_passed_at(&self, place: &Place) -> bool {
        match file_number(&place.file).cmp(&file_number(&self.file)) {
            Ordering::Less => false,
            Ordering::Equal => place.offset >= self.offset,
            Ordering::Greater => true,
        }
    }

    /// Whether changes of tables in this database are written.
    fn has(&self, schema: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|name| name == schema);
        if self.only.is_empty() { !among(&self.without) } else { among(&self.only) }
    }
}

/// The number that a binlog file's name ends in: later files have higher ones. 0 where it has none.
#[must_use]
pub fn file_number(file: &str) -> u64 {
    file.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The same files, and a lower number.
#[must_use]
pub fn is_older(file: &str, than: &str) -> bool {
    let base = |file: &str| file.rsplit_once('.').map(|(base, _)| base.to_owned());
    base(file) == base(than) && file_number(file) < file_number(than)
}

/// Sorts places of one server: its files are numbered with at least six digits, and more where those do not do.
#[must_use]
pub fn in_order(file: &str, offset: u64) -> (usize, &str, u64) {
    (file.len(), file, offset)
}

impl Control {
    /// Where the server's binlog ends now.
    ///
    /// # Errors
    /// The question fails, is not allowed (it takes REPLICATION CLIENT), or there is no binlog.
    pub async fn binlog_status(&mut self) -> Result<BinlogStatus, MysqlError> {
        let doing = "reading where its binlog ends";
        let rows: Vec<Vec<String>> = self.ask(doing, self.about.end_question()).await?;
        let unusable = |problem: &str| MysqlError::GtidSet {
            server: self.server.clone(),
            problem: format!("{doing}: {problem}"),
        };
        let [file, offset, only, without, ..] = rows.first().map(Vec::as_slice).unwrap_or_default() else {
            return Err(unusable("it has none"));
        };
        let offset = offset.parse().map_err(|_| unusable("no offset"))?;
        let names = |list: &str| list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Ok(BinlogStatus { file: file.clone(), offset, only: names(only), without: names(without) })
    }

    /// The binlog files that the server has, oldest first, and their sizes, bytes.
    ///
    /// # Errors
    /// The question fails, or is not allowed (it takes REPLICATION CLIENT).
    pub async fn binlog_files(&mut self) -> Result<Vec<(String, u64)>, MysqlError> {
        let doing = "reading which binlog files it has";
        let rows: Vec<Vec<String>> = self.ask(doing, "SHOW BINARY LOGS").await?;
        let file = |row: &Vec<String>| match row.as_slice() {
            [file, size, ..] => Some((file.clone(), size.parse().ok()?)),
            _ => None,
        };
        let files: Option<Vec<_>> = rows.iter().map(file).collect();
        files.ok_or_else(|| MysqlError::GtidSet {
            server: self.server.clone(),
            problem: format!("{doing}: a row is none"),
        })
    }

    /// The first `count` events of a binlog file from an offset on, as the server prints them: file, offset, type, server, end and content.
    ///
    /// # Errors
    /// The question fails: there is no such file, or no event begins at the offset.
    pub async fn binlog_events(
        &mut self,
        doing: &'static str,
        file: &str,
        from: u64,
        count: usize,
    ) -> Result<Vec<[String; 6]>, MysqlError> {
        let file = file.replace('\\', "\\\\").replace('\'', "''");
        self.ask(doing, &format!("SHOW BINLOG EVENTS IN '{file}' FROM {from} LIMIT {count}")).await
    }

    /// What time it is there, microseconds since 1970 UTC.
    ///
    /// # Errors
    /// The question fails.
    pub async fn now_micros(&mut self) -> Result<u64, MysqlError> {
        let doing = "reading its clock";
        let rows: Vec<[String; 1]> =
            self.ask(doing, "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)").await?;
        let micros = rows.first().and_then(|[time]| time.parse().ok());
        micros.ok_or_else(|| MysqlError::GtidSet {
            server: self.server.clone(),
            problem: format!("{doing}: no time"),
        })
    }

    /// How long the server keeps a binlog file that is not written to any more, seconds; 0: for ever, `None`: it does not say.
    ///
    /// # Errors
    /// The question fails.
    pub async fn expires_seconds(&mut self) -> Result<Option<u64>, MysqlError> {
        let asked = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('binlog_expire_logs_seconds', 'binlog_expire_logs_auto_purge')";
        let rows: Vec<[String; 2]> = self.ask("reading how long it keeps its binlogs", asked).await?;
        let value = |wanted| rows.iter().find(|[name, _]| name == wanted).map(|[_, value]| value.as_str());
        if value("binlog_expire_logs_auto_purge").is_some_and(|value| value.eq_ignore_ascii_case("OFF")) {
            return Ok(Some(0));
        }
        Ok(value("binlog_expire_logs_seconds").and_then(|seconds| seconds.parse().ok()))
    }

    /// The channels by which the server replicates from others; none where it does not.
    ///
    /// # Errors
    /// The question fails, or is not allowed (it takes REPLICATION CLIENT).
    pub async fn replicas(&mut self) -> Result<Vec<Channel>, MysqlError> {
        let doing = "reading the state of its own replication";
        let asked = self.about.replica_question();
        let Ok(answer) = timeout(self.patience, self.link.ask_named(asked)).await else {
            let (server, seconds) = (self.server.clone(), self.patience.as_secs());
            return Err(MysqlError::NoAnswer { doing, server, seconds });
        };
        let (names, rows) = answer.map_err(|source| MysqlError::link(doing, &self.server, source))?;
        Ok(rows.into_iter().map(|row| Channel::new(&names, row)).collect())
    }

    /// Refuses a server whose binlog lacks changes of followed tables.
    ///
    /// # Errors
    /// [`MysqlError::LeftOut`] or [`MysqlError::ReplicaWithoutBinlog`], or a question fails.
    pub async fn check_written(&mut self, followed: &BTreeSet<TableName>) -> Result<(), MysqlError> {
        let status = self.binlog_status().await?;
        if let Some(table) = followed.iter().find(|table| !status.has(&table.schema)) {
            let server = self.server.clone();
            return Err(MysqlError::LeftOut { server, table: table.clone() });
        }
        if self.about.writes_what_it_replicates() {
            return Ok(());
        }
        let channels = match self.replicas().await {
            // MariaDB wants a privilege of its own for that, and does not write what it replicates unless it is told to.
            Err(error) if error.is_denial() => {
                tracing::warn!(
                    server = %self.server,
                    "what this server replicates is not in its binlog, and this user may not see whether it does \
                     (MariaDB: GRANT SLAVE MONITOR ON *.* TO the user)"
                );
                return Ok(());
            }
            channels => channels?,
        };
        match channels.first() {
            Some(channel) => Err(MysqlError::ReplicaWithoutBinlog {
                server: self.server.clone(),
                from: channel.source.clone(),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(only: &[&str], without: &[&str]) -> BinlogStatus {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        BinlogStatus { file: "binlog.000099".into(), offset: 700, only: names(only), without: names(without) }
    }

    #[test]
    fn databases_that_are_named_alone_outrank_those_that_are_left_out() {
        let all = status(&[], &[]);
        assert!(all.has("shop"));
        let (some, most) = (status(&["shop"], &["shop"]), status(&[], &["audit"]));
        assert_eq!((some.has("shop"), some.has("other")), (true, false));
        assert_eq!((most.has("shop"), most.has("audit")), (true, false));
    }

    #[test]
    fn files_follow_each_other_by_their_numbers() {
        let end = status(&[], &[]);
        let place = |file: &str, offset| Place { file: file.into(), offset, gtid: None };
        for (file, offset, passed) in [
            ("binlog.000099", 699, false),
            ("binlog.000099", 700, true),
            ("binlog.000100", 4, true),
            ("binlog.1000000", 4, true),
            ("binlog.000098", 9_999, false),
            ("", 9_999, false),
        ] {
            assert_eq!(end.is_passed_at(&place(file, offset)), passed, "{file}:{offset}");
        }
    }
}
