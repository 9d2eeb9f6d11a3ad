//! Reading rows by SELECT beside the stream: a connection whose rows are the stream's, and that shows all that the log holds.
//!
//! A server sends a transaction to its replicas before its own engine has committed it: a row that is read at once could be the one before.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::event::GtidSet;

use super::control::Control;
use super::error::MysqlError;
use super::files::in_order;
use super::options::MysqlOptions;
use super::select;
use super::server::{Family, Peer};

/// Between looks at what the server has executed: at first, and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

impl Control {
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
    /// They are not shown within `patience`, or the connection's.
    pub async fn until_shown(
        &mut self,
        after: &GtidSet,
        (file, end): &(String, u64),
        patience: Duration,
    ) -> Result<(), MysqlError> {
        let (deadline, mut pause) = (Instant::now() + patience, PAUSES.0);
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
                return Err(MysqlError::NotExecuted { server, seconds: patience.as_secs() });
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
    /// performance_schema does not show them, one is held for longer than `patience`, or the connection's.
    pub async fn until_committed(&mut self, patience: Duration) -> Result<(), MysqlError> {
        let doing = "reading which commits are under way";
        let instrument = "SELECT enabled FROM performance_schema.setup_instruments WHERE name = 'wait/lock/metadata/sql/mdl'";
        let enabled: Vec<[String; 1]> = self.ask(doing, instrument).await?;
        if enabled.iter().all(|[enabled]| enabled != "YES") {
            return Err(MysqlError::CommitsUnseen { server: self.name().to_owned() });
        }
        let (deadline, mut pause) = (Instant::now() + patience, PAUSES.0);
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
                return Err(MysqlError::NotExecuted { server, seconds: patience.as_secs() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}
