//! What a run waits for before it sends anything, and what it leaves so that the next one knows what to wait for.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::super::error::DeliverError;
use super::Deliver;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::settled::CursorStore;
use crate::sink::{Sink, SinkError, UnderWay, Whose};

/// How long a run tries to say that it has ended; others wait for a lease otherwise.
const RELEASE: Duration = Duration::from_secs(2);

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    /// Waits until the engine is at work no more on what former runs sent: whatever of it is applied later stands behind changes that this run sends.
    /// False where the source ended first, and the engine did not tell within the drain time.
    pub(super) async fn former_runs_are_over(
        &mut self,
        source_ended: &CancellationToken,
    ) -> Result<bool, DeliverError> {
        if self.progress.cursor().indices.is_empty() {
            return Ok(true);
        }
        let drain = self.options.drain;
        let given_up = async {
            source_ended.cancelled().await;
            tokio::time::sleep(drain).await;
        };
        tokio::select! {
            biased;
            over = self.wait_for_former_runs() => over.map(|()| true),
            () = given_up => Ok(false),
        }
    }

    async fn wait_for_former_runs(&mut self) -> Result<(), DeliverError> {
        let since = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            // It may be long, and others go on meanwhile.
            self.observe(self.outstanding.settled());
            let mut delay = backoff.next_delay();
            let waits_for = match self.sink.under_way(Whose::FormerRuns).await {
                Ok(UnderWay::Nothing) => break,
                Ok(UnderWay::Tasks(tasks)) => format!("it is at work on {tasks} tasks of them"),
                Ok(UnderWay::Untold(why)) => {
                    let left = self.options.quarantine.saturating_sub(since.elapsed());
                    if left.is_zero() {
                        break;
                    }
                    delay = left;
                    format!(
                        "it does not tell ({why}), and has {} s in all",
                        self.options.quarantine.as_secs()
                    )
                }
                Err(SinkError::Transient(error)) => error.to_string(),
                Err(SinkError::Definite(error)) => return Err(DeliverError::Sink(error)),
            };
            let text = format!(
                "waiting for {} s until the engine has ended the bulks of former runs: {waits_for}",
                since.elapsed().as_secs()
            );
            self.readiness.obstacle("sink", text);
            if backoff.failures() == 1 {
                tracing::warn!(
                    waits_for,
                    "nothing is sent before the search engine has ended the bulks of former runs"
                );
            }
            tokio::time::sleep(delay).await;
        }
        if self.readiness.clear("sink") {
            tracing::info!("the search engine has ended the bulks of former runs");
        }
        Ok(())
    }

    /// Says that nothing is left to be waited for, where nothing is.
    pub(super) async fn release(&mut self, ended: &Result<(), DeliverError>) {
        if ended.is_err() || !self.flights.is_empty() || self.sweeps.is_busy() {
            return;
        }
        match tokio::time::timeout(RELEASE, self.sink.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::info!(%error, "the search engine was not told that this run has ended")
            }
            Err(_) => tracing::info!("the search engine was not told that this run has ended, in time"),
        }
    }

    /// Keeps which indices are written to, and which no more, before anything is: the next run asks what this one left in the engine.
    pub(super) fn note_indices(&mut self) -> Result<(), DeliverError> {
        if self.progress.cursor().indices != *self.tables.indices() {
            self.commit()?;
            self.progress.sync()?;
        }
        Ok(())
    }
}
