//! The log's one writer, on a thread of its own: fdatasync blocks, and the source should decode meanwhile.
//!
//! Group commit: it takes what the queue holds, writes it, syncs once, and *visible* moves to the last commit. While
//! it syncs the next batches gather. The queue is short and batches are bounded, so memory is too.

use std::thread::JoinHandle;

use metrics::counter;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::event::GtidSet;
use crate::log::record::Batch;
use crate::log::{WriteError, Writer};
use crate::metrics::names;

/// Batches that may wait for the writer.
const QUEUE: usize = 4;
/// Bytes after which a sync is due though more is waiting.
const SYNC_BYTES: usize = 16 << 20;

enum Order {
    Append(Batch),
    /// Cut the open transaction; answer with the position.
    Abandon(oneshot::Sender<Option<GtidSet>>),
}

/// The queue's near end.
#[derive(Debug)]
pub struct Committer {
    orders: mpsc::Sender<Order>,
    spent: mpsc::Receiver<Batch>,
    ended: CancellationToken,
    thread: Option<JoinHandle<Result<(), WriteError>>>,
}

/// The writer thread has ended; [`Committer::finish`] says why.
#[derive(Debug, Clone, Copy)]
pub struct Gone;

impl Committer {
    /// Starts the writer's thread.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start<D: Disk>(writer: Writer<D>) -> std::io::Result<Committer> {
        let (orders, queue) = mpsc::channel(QUEUE);
        let (give_back, spent) = mpsc::channel(QUEUE + 1);
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let thread = std::thread::Builder::new().name("log-writer".into());
        let thread = thread.spawn(move || {
            let _ended_at_return_or_panic = guard;
            work(writer, queue, &give_back)
        })?;
        Ok(Committer { orders, spent, ended, thread: Some(thread) })
    }

    /// An empty batch, used before where there is one.
    pub fn batch(&mut self) -> Batch {
        self.spent.try_recv().unwrap_or_default()
    }

    /// Queues a batch; waits while the queue is full.
    ///
    /// # Errors
    /// The writer has failed.
    pub async fn append(&self, batch: Batch) -> Result<(), Gone> {
        self.orders.send(Order::Append(batch)).await.map_err(|_| Gone)
    }

    /// Cuts the open transaction and returns the position of the last commit; `None` before the log was given a start.
    ///
    /// # Errors
    /// The writer has failed.
    pub async fn abandon(&self) -> Result<Option<GtidSet>, Gone> {
        let (answer, position) = oneshot::channel();
        self.orders.send(Order::Abandon(answer)).await.map_err(|_| Gone)?;
        position.await.map_err(|_| Gone)
    }

    /// Cancelled when the writer's thread ends, for whatever reason.
    #[must_use]
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Closes the queue, waits until all of it is durable, and says how it went.
    ///
    /// # Errors
    /// What stopped the writer.
    pub async fn finish(mut self) -> Result<(), WriteError> {
        drop(self.orders);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        match tokio::task::spawn_blocking(move || thread.join()).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(cancelled) => std::panic::resume_unwind(Box::new(cancelled.to_string())),
        }
    }
}

fn work<D: Disk>(
    mut writer: Writer<D>,
    mut queue: mpsc::Receiver<Order>,
    give_back: &mpsc::Sender<Batch>,
) -> Result<(), WriteError> {
    while let Some(order) = queue.blocking_recv() {
        let mut unsynced = 0;
        let mut ends = 0;
        let mut next = Some(order);
        while let Some(order) = next {
            match order {
                Order::Append(mut batch) => {
                    unsynced += batch.len();
                    ends += batch.commits();
                    counter!(names::LOG_CHANGES).increment(batch.changes() as u64);
                    writer.append(&mut batch)?;
                    batch.clear();
                    // A full or closed return channel only means that the batch is dropped.
                    let _ = give_back.try_send(batch);
                }
                Order::Abandon(answer) => {
                    writer.abandon()?;
                    // Nobody waits for the answer any more when the asker is gone.
                    let _ = answer.send(writer.position().cloned());
                }
            }
            next = if unsynced < SYNC_BYTES { queue.try_recv().ok() } else { None };
        }
        if ends > 0 || unsynced >= SYNC_BYTES {
            counter!(names::LOG_SYNCS).increment(1);
            writer.sync()?;
        }
    }
    writer.sync()?;
    Ok(())
}
