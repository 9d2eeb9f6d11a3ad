//! What is done beside the stream: tasks that describe a table, cut it, and read its chunks.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinError;

use super::super::binlog::Binlog;
use super::super::error::MysqlError;
use super::super::options::MysqlOptions;
use super::super::server::Peer;
use super::chunk::{Rows, Session, Unread, Wanted};
use super::subject::{Cut, Subject};
use super::{Reading, Snapshots};

/// What a task came to, and its connection if that is of use.
#[derive(Debug)]
pub(super) enum Done {
    Described(Box<Result<Option<Subject>, Unread>>, Option<Session>),
    Cut(Result<Cut, Unread>, Option<Session>),
    Read(u64, Result<Rows, Unread>, Option<Session>),
    Rested,
}

impl Snapshots {
    pub(super) fn rest(&mut self) {
        let delay = self.backoff.next_delay();
        self.pause(delay);
    }

    pub(super) fn pause(&mut self, delay: Duration) {
        self.resting = true;
        self.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            Done::Rested
        });
    }

    pub(super) fn describe(&mut self) {
        let Some(Reading { table, filter, .. }) = &self.reading else { return };
        // Rows that fulfil a filter may lie anywhere.
        let (table, all, session) = (table.clone(), filter.is_none(), self.idle.pop());
        let (options, peer) = (self.options.clone(), self.peer);
        self.tasks.spawn(async move {
            let described = async {
                let mut session = with_session(session, &options, peer).await?;
                let mut subject = session.describe(&table, &options.keys).await?;
                if let Some(subject) = subject.as_mut().filter(|_| all) {
                    session.find_last(subject).await?;
                }
                Ok((subject, session))
            };
            let (described, session) = described
                .await
                .map_or_else(|error| (Err(error), None), |(subject, session)| (Ok(subject), Some(session)));
            Done::Described(described.into(), session)
        });
    }

    /// Has the next chunk cut off.
    pub(super) fn cut(&mut self) {
        let connections = self.options.snapshot.connections;
        let Some(Reading { filter, progress: Some(progress), .. }) = &mut self.reading else { return };
        let Some((after, rows)) = progress.begin_cut(connections) else { return };
        let (subject, filter, session) = (Arc::clone(&progress.subject), filter.clone(), self.idle.pop());
        let (options, peer) = (self.options.clone(), self.peer);
        self.tasks.spawn(async move {
            let mut session = match with_session(session, &options, peer).await {
                Ok(session) => session,
                Err(error) => return Done::Cut(Err(error.into()), None),
            };
            let cut = session.cut(&subject, (after.as_deref(), filter.as_deref()), rows).await;
            let session = cut.is_ok().then_some(session);
            Done::Cut(cut, session)
        });
    }

    /// Has chunks read that were cut off, as many at a time as there may be connections.
    pub(super) fn read(&mut self, binlog: &Binlog) {
        let options = &self.options;
        while !self.resting
            && self.may_read()
            && let Some(Reading { table, filter, progress: Some(progress), .. }) = &mut self.reading
            && self.owed.iter().all(|known| known.table != *table || !known.paused)
            && progress.may_read(options.snapshot.connections)
        {
            let opened = self.touched.open();
            let Some((number, condition)) = progress.begin_read(opened, filter.as_deref()) else { return };
            let subject = Arc::clone(&progress.subject);
            let ((low, place), by_set) = (binlog.reached(), binlog.gives_gtids());
            let session = self.idle.pop();
            let (options, peer) = (options.clone(), self.peer);
            self.tasks.spawn(async move {
                // It was a place when the chunk was cut.
                let Some(condition) = condition else {
                    return Done::Read(number, Err(Unread::Changed), None);
                };
                let mut session = match with_session(session, &options, peer).await {
                    Ok(session) => session,
                    Err(error) => return Done::Read(number, Err(error.into()), None),
                };
                let wanted = Wanted { condition, low, place, by_set };
                let rows = session.read(&subject, &wanted, options.max_row_bytes).await;
                let session = rows.is_ok().then_some(session);
                Done::Read(number, rows, session)
            });
            if let Some(most) = self.options.snapshot.rows_per_second {
                let rows = self.progress().map_or(0, |progress| progress.rows());
                self.pause(Duration::from_secs_f64(rows as f64 / most.get() as f64));
                return;
            }
        }
    }
}

async fn with_session(
    session: Option<Session>,
    options: &MysqlOptions,
    peer: Peer,
) -> Result<Session, MysqlError> {
    match session {
        Some(session) => Ok(session),
        None => Session::connect(options, peer).await,
    }
}

pub(super) fn of_task(ended: Result<Done, JoinError>) -> Done {
    match ended.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // Nobody cancels one and waits for it.
        Err(Err(_)) => Done::Rested,
    }
}
