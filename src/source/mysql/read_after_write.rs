//! Reading rows by SELECT beside the stream: a connection whose rows are the stream's, and that shows all that the log holds.
//!
//! A server sends a transaction to its replicas before its own engine has committed it: a row that is read at once could be the one before.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};

use crate::event::{GtidSet, TableName};

use super::connection::most_held;
use super::control::Control;
use super::decode::RowPlan;
use super::error::MysqlError;
use super::files::in_order;
use super::link::LinkError;
use super::link::prepared::Prepared;
use super::options::MysqlOptions;
use super::select::{self, RowReader, SelectError};
use super::server::{Family, Peer};

/// For everything that is waited for: an answer, a row, the server's own commit.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// No such database, column or table.
const CHANGED: [u16; 3] = [1049, 1054, 1146];

/// *ER_QUERY_TIMEOUT* (MySQL), *ER_STATEMENT_TIMEOUT* (MariaDB).
const STOPPED: [u16; 2] = [3024, 1969];

/// Between looks at what the server has executed: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// Why rows of a table do not come. The connection is of no more use.
#[derive(Debug)]
pub enum Unanswered {
    /// The table is not as its plan says, or there is none.
    Changed,
    /// It took longer than the session lets a statement take.
    Stopped(MysqlError),
    Error(MysqlError),
}

impl Control {
    /// Asks for rows of a table, which [`Control::row`] hands out. `max_row_bytes`: the largest row in the log; `doing`: what for, in errors.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn select(
        &mut self,
        sql: &str,
        plan: &RowPlan,
        max_row_bytes: usize,
        doing: &'static str,
    ) -> Result<(Prepared, RowReader), Unanswered> {
        let Control { link, server, about, .. } = self;
        let statement = answered(timeout(PATIENCE, link.prepare(sql)).await, doing, server)?;
        let definitions = answered(timeout(PATIENCE, link.execute(&statement)).await, doing, server)?;
        let reader = RowReader::new(about.peer.family, plan, &definitions, max_row_bytes);
        reader.map(|reader| (statement, reader)).map_err(|_| Unanswered::Changed)
    }

    /// The next row that was asked for; `None` behind the last one.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn row(
        &mut self,
        table: &TableName,
        max_row_bytes: usize,
        doing: &'static str,
    ) -> Result<Option<&[u8]>, Unanswered> {
        let Control { link, server, .. } = self;
        let row = timeout(PATIENCE, link.next_row(most_held(max_row_bytes))).await;
        if let Ok(Err(LinkError::LongRow { .. })) = row {
            let source = SelectError::TooLarge { limit: max_row_bytes };
            return Err(Unanswered::Error(MysqlError::selected(table, server, source)));
        }
        answered(row, doing, server)
    }

    /// Has the server forget a question whose rows have come.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn forget(&mut self, statement: Prepared, doing: &'static str) -> Result<(), Unanswered> {
        let closed = timeout(PATIENCE, self.link.close(statement)).await;
        answered(closed, doing, &self.server)
    }

    /// A connection to the server `peer`, of which rows are to be read. `doing`: what for, in errors.
    ///
    /// # Errors
    /// It cannot be made, or leads to another server.
    pub async fn to_read(
        options: &MysqlOptions,
        peer: Peer,
        doing: &'static str,
    ) -> Result<Control, MysqlError> {
        let mut control = Control::connect(options).await?;
        if control.server().peer != peer {
            // Behind a balancer: another connection may meet the one that streams.
            return Err(MysqlError::OtherServer { server: options.address.to_string() });
        }
        for statement in select::session(peer.family) {
            let _: Vec<[String; 0]> = control.ask(doing, statement).await?;
        }
        Ok(control)
    }

    /// Waits until what is read over this connection shows all transactions in `after`, of which the last ends at `place`, file and offset.
    /// MySQL: its executed set is read until they are in it. MariaDB, whose binlog state moves before its engines do: transactions with a consistent
    /// snapshot are begun until the snapshot's place in the binlog is not before the end.
    ///
    /// # Errors
    /// They are not shown in time, or the connection's.
    pub async fn until_shown(
        &mut self,
        after: &GtidSet,
        (file, end): &(String, u64),
    ) -> Result<(), MysqlError> {
        let (deadline, mut pause) = (Instant::now() + PATIENCE, PAUSES.0);
        let family = self.server().peer.family;
        loop {
            let shown = match family {
                Family::Mysql => after.is_subset(&self.executed().await?),
                Family::Mariadb => {
                    let place = self.snapshot().await?;
                    place.is_some_and(|(at, offset)| in_order(&at, offset) >= in_order(file, *end))
                }
            };
            if shown {
                // What is read from now on is as new. In a snapshot a table that was altered meanwhile could not be read at all.
                return if family == Family::Mariadb { self.end_snapshot().await } else { Ok(()) };
            }
            if Instant::now() >= deadline {
                let server = self.name().to_owned();
                return Err(MysqlError::NotExecuted { server, seconds: PATIENCE.as_secs() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Waits until every transaction that is in MySQL's binlog by now is shown: each commit holds a metadata lock from before it is
    /// written to the binlog until its engine has committed (MySQL, sql/handler.cc, *ha_commit_trans*), and performance_schema shows these
    /// locks. So those of now are waited for, each until it is gone; nothing is locked for it.
    ///
    /// # Errors
    /// performance_schema does not show them, one is held for too long, or the connection's.
    pub async fn until_committed(&mut self) -> Result<(), MysqlError> {
        let doing = "reading which commits are under way";
        let instrument = "SELECT enabled FROM performance_schema.setup_instruments WHERE name = 'wait/lock/metadata/sql/mdl'";
        let enabled: Vec<[String; 1]> = self.ask(doing, instrument).await?;
        if enabled.iter().all(|[enabled]| enabled != "YES") {
            return Err(MysqlError::CommitsUnseen { server: self.name().to_owned() });
        }
        let (deadline, mut pause) = (Instant::now() + PATIENCE, PAUSES.0);
        let mut open: Option<BTreeSet<[String; 2]>> = None;
        loop {
            let held = "SELECT owner_thread_id, COALESCE(owner_event_id, 0) FROM performance_schema.metadata_locks \
                        WHERE object_type = 'COMMIT' AND lock_status = 'GRANTED'";
            let held: BTreeSet<[String; 2]> = self.ask(doing, held).await?.into_iter().collect();
            // What is gone and comes again is another commit.
            let still = match open {
                Some(open) => open.intersection(&held).cloned().collect(),
                None => held,
            };
            if still.is_empty() {
                return Ok(());
            }
            open = Some(still);
            if Instant::now() >= deadline {
                let server = self.name().to_owned();
                return Err(MysqlError::NotExecuted { server, seconds: PATIENCE.as_secs() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

fn answered<T>(
    result: Result<Result<T, LinkError>, Elapsed>,
    doing: &'static str,
    server: &str,
) -> Result<T, Unanswered> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(LinkError::Server(said))) if CHANGED.contains(&said.code) => Err(Unanswered::Changed),
        Ok(Err(source)) => {
            let stopped = matches!(&source, LinkError::Server(said) if STOPPED.contains(&said.code));
            let error = MysqlError::link(doing, server, source);
            Err(if stopped { Unanswered::Stopped(error) } else { Unanswered::Error(error) })
        }
        Err(_) => Err(Unanswered::Error(MysqlError::NoAnswer {
            doing,
            server: server.to_owned(),
            seconds: PATIENCE.as_secs(),
        })),
    }
}
