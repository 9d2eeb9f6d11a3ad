//! What the server is asked while its binlog is read, over a connection of its own: how long it keeps binlogs, what time it is there, where its
//! binlog ends, and how it replicates from others. None of it stops the source: who cannot be asked is asked again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::source::upstream::{Replication, Upstream};

use super::control::Control;
use super::error::{MysqlError, Place};
use super::files::BinlogStatus;
use super::options::MysqlOptions;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// For all questions of one look together.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the server's binlog ended at a time by its clock, microseconds since 1970 UTC.
#[derive(Debug)]
struct End {
    status: BinlogStatus,
    micros: u64,
}

/// A task that looks, for as long as this lives.
#[derive(Debug)]
pub struct Watch {
    task: JoinHandle<()>,
    end: Arc<Mutex<Option<End>>>,
}

impl Watch {
    /// Begins to look at the server of these options.
    #[must_use]
    pub fn start(options: MysqlOptions, upstream: watch::Sender<Upstream>) -> Watch {
        let end = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&end);
        let task = tokio::spawn(async move {
            let mut control = None;
            loop {
                match timeout(PATIENCE, look(&options, &mut control, &upstream, &seen)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::debug!(%error, "the server cannot be asked how it is");
                        control = None;
                    }
                    Err(_) => control = None,
                }
                sleep(LOOK_EVERY).await;
            }
        });
        Watch { task, end }
    }

    /// The server's time up to which everything that it had committed stands before `place`, if that became known since it was asked last.
    /// Microseconds since 1970 UTC.
    #[must_use]
    pub fn passed(&self, place: &Place) -> Option<u64> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = end.as_ref().filter(|end| end.status.is_passed_at(place))?.micros;
        *end = None;
        Some(micros)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look(
    options: &MysqlOptions,
    control: &mut Option<Control>,
    upstream: &watch::Sender<Upstream>,
    seen: &Mutex<Option<End>>,
) -> Result<(), MysqlError> {
    let control = match control {
        Some(control) => control,
        None => control.insert(Control::connect(options).await?),
    };
    let expires_seconds = control.expires_seconds().await?;
    // The time comes first: what was committed by then stands before the end.
    let micros = control.now_micros().await?;
    let ours = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
    let clock_ahead_micros = i64::try_from(i128::from(micros) - ours as i128).unwrap_or(0);
    let status = control.binlog_status().await?;
    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(End { status, micros });
    let replicates = match control.replicas().await {
        Ok(channels) => channels.into_iter().map(Replication::from).collect(),
        // Nothing to be known, then.
        Err(error) if error.is_denial() => Vec::new(),
        Err(error) => return Err(error),
    };
    upstream.send_modify(|upstream| {
        upstream.expires_seconds = expires_seconds;
        upstream.clock_ahead_micros = clock_ahead_micros;
        upstream.replicates = replicates;
    });
    Ok(())
}
