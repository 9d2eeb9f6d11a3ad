//! A table's rows as the documents that they become, read range by range by the snapshot's own reader.

use std::sync::Arc;
use std::time::Duration;

use super::DiffError;
use crate::backoff::Backoff;
use crate::event::codec::Row;
use crate::event::document::Verb;
use crate::event::{GtidSet, Op, TableName};
use crate::mapping::TableMapping;
use crate::mapping::rule::Rules;
use crate::sink::elastic::documents::DocumentId;
use crate::source::mysql::server::Peer;
use crate::source::mysql::snapshot::chunk::{High, Session, Unread, Wanted};
use crate::source::mysql::snapshot::subject::{Cut, Subject};
use crate::source::mysql::{MysqlError, MysqlOptions};

/// What a range's rows take, usually, bytes.
const TARGET: usize = 1 << 20;

/// Most rows of a range.
const MOST_ROWS: usize = 5_000;

/// Rows of the first range.
const FIRST_ROWS: usize = 200;

/// Failures in a row after which a source is given up.
const PATIENCE: u32 = 6;

/// A place in the key's order; `None`: before the first row, or behind the last.
pub type Edge = Option<Vec<u8>>;

/// A document, and the alias that it is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub alias: Arc<str>,
    pub document: DocumentId,
}

/// What a row becomes.
#[derive(Debug)]
pub struct Expected {
    pub at: At,
    pub json: Vec<u8>,
}

/// A range that was read.
#[derive(Debug)]
pub struct Range {
    pub after: Edge,
    pub upto: Edge,
    pub rows: Vec<Expected>,
    /// What the rows can show, at most.
    pub high: High,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    options: MysqlOptions,
    peer: Peer,
    by_set: bool,
    session: Option<Session>,
    subject: Subject,
    pub mapping: TableMapping,
    rows: usize,
}

impl Table {
    /// # Errors
    /// The server does not answer, the table is not there, or can be no documents.
    pub async fn open(
        options: &MysqlOptions,
        (peer, by_set): (Peer, bool),
        table: &TableName,
        rules: &Rules,
    ) -> Result<Table, DiffError> {
        let mut session = Session::connect(options, peer).await?;
        let subject = session.describe(table, &options.keys).await?;
        let subject = subject.ok_or_else(|| DiffError::NoTable { table: table.clone() })?;
        let mapping = TableMapping::with_rules(&subject.schema, rules)?;
        let options = options.clone();
        Ok(Table { options, peer, by_set, session: Some(session), subject, mapping, rows: FIRST_ROWS })
    }

    /// How many rows there may be.
    #[must_use]
    pub fn estimated_rows(&self) -> u64 {
        self.subject.estimated_rows
    }

    /// The SQL condition for the rows of a range; `None`: its places are none of the key that the table has.
    #[must_use]
    pub fn condition(&self, after: &Edge, upto: &Edge) -> Option<String> {
        let condition = self.subject.order.condition(after.as_deref(), upto.as_deref(), None)?;
        Some(condition.strip_prefix(" WHERE ").map_or_else(|| "TRUE".to_owned(), str::to_owned))
    }

    /// The next range behind `after`, within the range that ends at `last`.
    ///
    /// # Errors
    /// The server does not answer for a while, or the table is not what it was.
    pub async fn next(&mut self, after: Edge, last: &Edge) -> Result<Range, DiffError> {
        let mut backoff = Backoff::new();
        loop {
            match self.read(&after, last).await {
                Ok((upto, bytes, ends, high)) => return self.range((after, upto), (&bytes, &ends), high),
                Err(Unread::Changed) => {
                    return Err(DiffError::Changed { table: self.subject.schema.name.clone() });
                }
                Err(Unread::TooMuch) if self.rows > 1 => self.rows = (self.rows / 4).max(1),
                Err(Unread::TooMuch) if backoff.failures() >= PATIENCE => {
                    return Err(DiffError::Slow { table: self.subject.schema.name.clone() });
                }
                Err(Unread::Error(error)) if backoff.failures() >= PATIENCE || error.is_definite() => {
                    return Err(error.into());
                }
                Err(_) => tokio::time::sleep(backoff.next_delay().min(Duration::from_secs(5))).await,
            }
        }
    }

    /// The next range behind `after`, of so many rows at most.
    ///
    /// # Errors
    /// As [`Table::next`].
    pub async fn some(&mut self, after: Edge, rows: usize) -> Result<Range, DiffError> {
        self.rows = rows;
        self.next(after, &None).await
    }

    /// Where the range of `rows` rows behind `after` ends, whose rows nobody reads.
    ///
    /// # Errors
    /// As [`Table::next`].
    pub async fn skip(&mut self, after: Edge, rows: usize) -> Result<Edge, DiffError> {
        let mut backoff = Backoff::new();
        let mut rows = rows;
        loop {
            let result = match self.session().await {
                Ok(mut session) => {
                    let cut = session.cut(&self.subject, (after.as_deref(), None), rows).await;
                    cut.inspect(|_| self.session = Some(session))
                }
                Err(error) => Err(error.into()),
            };
            match result {
                Ok(Cut::At(place)) => return Ok(Some(place)),
                Ok(Cut::End) => return Ok(None),
                Err(Unread::Error(error)) if error.is_definite() => return Err(error.into()),
                Err(Unread::Changed) => {
                    return Err(DiffError::Changed { table: self.subject.schema.name.clone() });
                }
                Err(_) if backoff.failures() >= PATIENCE => {
                    return Err(DiffError::Slow { table: self.subject.schema.name.clone() });
                }
                Err(_) => {
                    rows = (rows / 4).max(1);
                    tokio::time::sleep(backoff.next_delay().min(Duration::from_secs(5))).await;
                }
            }
        }
    }

    async fn session(&mut self) -> Result<Session, MysqlError> {
        match self.session.take() {
            Some(session) => Ok(session),
            None => Session::connect(&self.options, self.peer).await,
        }
    }

    async fn read(&mut self, after: &Edge, last: &Edge) -> Result<(Edge, Vec<u8>, Vec<usize>, High), Unread> {
        let mut session = self.session().await?;
        let subject = &self.subject;
        // A place of another key than the table has now.
        let within = subject.order.condition(None, last.as_deref(), None).ok_or(Unread::Changed)?;
        let within = within.strip_prefix(" WHERE ");
        let upto = match session.cut(subject, (after.as_deref(), within), self.rows).await? {
            Cut::At(place) => Some(place),
            Cut::End => last.clone(),
        };
        let condition = subject.order.condition(after.as_deref(), upto.as_deref(), None);
        let wanted = Wanted {
            condition: condition.ok_or(Unread::Changed)?,
            low: GtidSet::default(),
            place: (String::new(), 0),
            by_set: self.by_set,
        };
        let rows = session.read(subject, &wanted, self.options.max_row_bytes).await?;
        self.session = Some(session);
        if let Some(average) = rows.bytes.len().checked_div(rows.ends.len()) {
            let fit = (TARGET / average.max(1)).clamp(1, MOST_ROWS);
            self.rows = fit.min(self.rows.saturating_mul(4));
        }
        Ok((upto, rows.bytes, rows.ends, rows.high))
    }

    fn range(
        &self,
        (after, upto): (Edge, Edge),
        (bytes, ends): (&[u8], &[usize]),
        high: High,
    ) -> Result<Range, DiffError> {
        let mut rows = Vec::with_capacity(ends.len());
        let (mut alias, mut last) = (String::new(), Arc::<str>::from(""));
        let mut start = 0;
        for end in ends {
            let row = Row::new(bytes.get(start..*end).unwrap_or_default());
            start = *end;
            let (mut id, mut json) = (String::new(), Vec::new());
            self.mapping.id(row, &mut id)?;
            let routing = self.mapping.routing(Op::Read, Verb::Index, row)?;
            self.mapping.document(Op::Read, row, &mut json)?;
            self.mapping.alias(Op::Read, Verb::Index, row, &mut alias)?;
            if *last != *alias {
                last = alias.as_str().into();
            }
            let at = At { alias: Arc::clone(&last), document: DocumentId { id, routing } };
            rows.push(Expected { at, json });
        }
        Ok(Range { after, upto, rows, high })
    }
}
