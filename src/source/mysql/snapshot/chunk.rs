//! One chunk: the rows between two places of a table's key, read by SELECT.
//!
//! # Operation
//!
//! The connection shows all that the log held when the chunk was opened ([`Control::until_shown`]) before anything is selected. Where the binlog ended
//! after the last row is *high*: whatever the rows show was in the binlog by then, since a server writes a transaction there before its engine shows it.
//! Where every transaction has a GTID the executed set says so as well, which a stream that has read all at once contains at once; its place it hears from a quiet server with a heartbeat.

use crate::event::GtidSet;

use super::super::control::Control;
use super::super::error::{MysqlError, Place};
use super::super::files::BinlogStatus;
use super::super::options::MysqlOptions;
use super::super::read_after_write::Unanswered;
use super::super::server::{Family, Peer};
use super::subject::Subject;

/// How long a statement may take, milliseconds: one that is stopped by it is asked again for fewer rows.
const STATEMENT_MILLIS: u64 = 20_000;

/// Bytes of rows beyond which a chunk is cut smaller and read again, unless it is one row.
pub const LARGEST: usize = 8 << 20;

/// Rows beyond which it is so too: some may have come since it was cut off.
const MOST_ROWS: usize = 80_000;

/// A connection for reading, kept between chunks.
#[derive(Debug)]
pub struct Session {
    control: Control,
    /// It has shown all of these.
    shown: GtidSet,
    /// Bytes and rows of the last chunk: the next has about as many.
    last: (usize, usize),
}

/// What is to be read.
#[derive(Debug)]
pub struct Wanted {
    /// ` WHERE …`
    pub condition: String,
    /// All that the log held when the chunk was opened, and where that ended in the binlog.
    pub low: GtidSet,
    pub place: (String, u64),
    /// All those transactions have GTIDs.
    pub by_set: bool,
}

/// The rows of a chunk.
#[derive(Debug, Default)]
pub struct Rows {
    /// Values as the log has them, row after row.
    pub bytes: Vec<u8>,
    /// Where each row ends in `bytes`.
    pub ends: Vec<usize>,
    pub high: High,
    /// Values with bytes that are none of their character set.
    pub replaced: u64,
}

/// What the rows can show, at most.
#[derive(Debug, Default)]
pub struct High {
    /// Where the binlog ended after the last row.
    end: BinlogStatus,
    /// What was executed by then, where every transaction has a GTID: a quiet server says no place for a while.
    executed: Option<GtidSet>,
}

impl High {
    /// Whether the stream has passed it, at a place with these transactions read.
    #[must_use]
    pub fn is_passed_at(&self, place: &Place, read: &GtidSet) -> bool {
        self.end.is_passed_at(place)
            || self.executed.as_ref().is_some_and(|executed| executed.is_subset(read))
    }
}

/// Why there are no rows.
#[derive(Debug)]
pub enum Unread {
    /// The table is not as it was described.
    Changed,
    /// They are too many, too large, or took too long.
    TooMuch,
    Error(MysqlError),
}

impl From<Unanswered> for Unread {
    fn from(unanswered: Unanswered) -> Unread {
        match unanswered {
            Unanswered::Changed => Unread::Changed,
            Unanswered::Stopped(_) => Unread::TooMuch,
            Unanswered::Error(error) => Unread::Error(error),
        }
    }
}

impl From<MysqlError> for Unread {
    fn from(error: MysqlError) -> Unread {
        Unread::Error(error)
    }
}

impl Session {
    /// # Errors
    /// It cannot be made, or leads to another server.
    pub async fn connect(options: &MysqlOptions, peer: Peer) -> Result<Session, MysqlError> {
        let doing = "preparing to read a snapshot";
        let mut control = Control::to_read(options, peer, doing).await?;
        let mut settings = vec!["SET SESSION TRANSACTION READ ONLY".to_owned()];
        settings.push(match peer.family {
            Family::Mysql => {
                format!("SET SESSION max_execution_time = {STATEMENT_MILLIS}")
            }
            Family::Mariadb => {
                format!("SET SESSION max_statement_time = {}", STATEMENT_MILLIS / 1000)
            }
        });
        for statement in settings {
            let _: Vec<[String; 0]> = control.ask(doing, &statement).await?;
        }
        Ok(Session { control, shown: GtidSet::default(), last: (0, 0) })
    }

    /// For questions.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Reads a chunk's rows; `max_row_bytes`: the largest row in the log.
    ///
    /// # Errors
    /// See [`Unread`]; the connection is of no more use then.
    pub async fn read(
        &mut self,
        subject: &Subject,
        wanted: &Wanted,
        max_row_bytes: usize,
    ) -> Result<Rows, Unread> {
        let by_set = wanted.by_set && self.control.server().gives_gtids();
        if !by_set {
            self.control.until_committed().await?;
        } else if self.shown.is_empty() || !wanted.low.is_subset(&self.shown) {
            self.control.until_shown(&wanted.low, &wanted.place).await?;
            self.shown.clone_from(&wanted.low);
        }
        let doing = "reading rows of a snapshot";
        let sql = format!("{}{}", subject.select, wanted.condition);
        let (statement, mut reader) = self.control.select(&sql, &subject.plan, max_row_bytes, doing).await?;
        let mut rows = Rows::default();
        rows.bytes.reserve(self.last.0 + self.last.0 / 8);
        rows.ends.reserve(self.last.1 + self.last.1 / 8);
        let table = &subject.schema.name;
        while let Some(row) = self.control.row(table, max_row_bytes, doing).await? {
            reader
                .read(row, &mut rows.bytes)
                .map_err(|source| MysqlError::selected(table, self.control.name(), source))?;
            rows.ends.push(rows.bytes.len());
            if rows.ends.len() > MOST_ROWS || rows.bytes.len() > LARGEST && rows.ends.len() > 1 {
                return Err(Unread::TooMuch);
            }
        }
        rows.replaced = reader.replaced;
        self.last = (rows.bytes.len(), rows.ends.len());
        self.control.forget(statement, doing).await?;
        let end = self.control.binlog_status().await?;
        rows.high = High { end, executed: if by_set { Some(self.control.seen().await?) } else { None } };
        Ok(rows)
    }
}
