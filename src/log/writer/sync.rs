//! One fdatasync that goes on while the next batches are written.
//!
//! The writer hands out what is to be synced ([`Writer::begin_sync`]), a thread of its own does it, and the writer
//! takes the outcome in ([`Writer::settle`]): only then is anything durable. Whoever comes first does the work, so that a
//! writer which cannot go on without it never waits for a thread that may not have begun. It is done once: the kernel tells an error
//! of write-back once, and a second call would succeed and mean nothing.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use super::Writer;
use crate::disk::{Disk, DiskFile};
use crate::log::Visible;
use crate::log::error::{Step, WriteError};
use crate::log::held::{self, Span};
use crate::log::shared::lock;

/// A sync that was begun; cheap to clone.
pub struct Syncing<F> {
    job: Arc<Job<F>>,
}

struct Job<F> {
    file: Arc<F>,
    /// Held while the sync lasts.
    outcome: Mutex<Option<Result<(), Arc<io::Error>>>>,
}

impl<F> Clone for Syncing<F> {
    fn clone(&self) -> Self {
        Syncing { job: Arc::clone(&self.job) }
    }
}

impl<F> fmt::Debug for Syncing<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Syncing").finish_non_exhaustive()
    }
}

impl<F: DiskFile> Syncing<F> {
    pub(super) fn new(file: Arc<F>) -> Syncing<F> {
        Syncing { job: Arc::new(Job { file, outcome: Mutex::default() }) }
    }

    /// Does it, or waits for whoever is doing it. The writer learns the outcome from [`Writer::settle`].
    pub fn run(&self) {
        // The outcome is the writer's to judge.
        let _ = self.outcome();
    }

    pub(super) fn is_done(&self) -> bool {
        self.job.outcome.try_lock().is_ok_and(|outcome| outcome.is_some())
    }

    pub(super) fn outcome(&self) -> Result<(), Arc<io::Error>> {
        lock(&self.job.outcome).get_or_insert_with(|| self.job.file.sync().map_err(Arc::new)).clone()
    }
}

/// What holds once a sync has succeeded.
pub(super) struct Pending<F> {
    pub sync: Syncing<F>,
    /// Bytes of the segment being written that are then durable.
    pub written: u64,
    pub ended: Visible,
    /// Where rows are held then, if that has changed.
    pub held: Option<Arc<[Span]>>,
}

impl<D: Disk> Writer<D> {
    /// Makes what was appended durable, and visible up to its last commit or mark.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then, and nothing more became visible.
    pub fn sync(&mut self) -> Result<(), WriteError> {
        while self.begin_sync()?.is_some() {
            self.settle()?;
        }
        Ok(())
    }

    /// Begins a sync of what was appended, for another thread to [run](Syncing::run) while more is appended; one that was begun before is
    /// settled first. `None` if everything is durable and visible already.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then.
    pub fn begin_sync(&mut self) -> Result<Option<Syncing<D::File>>, WriteError> {
        self.settle()?;
        if self.synced == self.written {
            let held = self.held_now();
            self.publish(self.ended, held);
            return Ok(None);
        }
        let sync = Syncing::new(Arc::clone(&self.file));
        let (written, ended, held) = (self.written, self.ended, self.held_now());
        self.pending = Some(Pending { sync: sync.clone(), written, ended, held });
        Ok(Some(sync))
    }

    /// Whether a sync was begun and goes on.
    #[must_use]
    pub fn is_syncing(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| !pending.sync.is_done())
    }

    /// Bytes that no sync was begun for.
    #[must_use]
    pub fn unsynced_bytes(&self) -> u64 {
        self.written - self.pending.as_ref().map_or(self.synced, |pending| pending.written)
    }

    /// Takes in the outcome of the sync that was begun, if one was: waits for it, or does it if nobody has. What it covers is durable then, and
    /// visible up to its last commit or mark.
    ///
    /// # Errors
    /// See [`WriteError`]; the writer has stopped then, and nothing more became visible.
    pub fn settle(&mut self) -> Result<(), WriteError> {
        self.health()?;
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let synced = pending.sync.outcome();
        let synced = synced.map_err(|source| WriteError::Io { step: Step::Sync, path: self.path(), source });
        self.latch(synced)?;
        self.synced = pending.written;
        self.publish(pending.ended, pending.held);
        Ok(())
    }

    /// Where rows are held behind the last end, if that has changed since it was asked for.
    fn held_now(&mut self) -> Option<Arc<[Span]>> {
        std::mem::take(&mut self.held_changed).then(|| held::spans(self.standing.as_ref()))
    }

    fn publish(&self, ended: Visible, held: Option<Arc<[Span]>>) {
        // Before anybody can pass what is held.
        if let Some(held) = held {
            self.log.shared.held.publish(held);
        }
        if ended.seq > self.log.visible().seq {
            // Whoever sees that something is visible sees what it says of these. More may be told early: it is read again if it was lost.
            self.log.shared.tell_gaps(self.standing.as_ref());
            self.log.shared.tell_snapshots(self.standing.as_ref());
            self.log.shared.visible.send_replace(ended);
        }
    }
}
