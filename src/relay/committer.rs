//! The log's one writer, on a thread of its own: fdatasync blocks, and the source should decode meanwhile.
//!
//! Group commit: it takes what the queue holds, writes it, syncs once, and *visible* moves to the last commit. With nothing waiting in the queue it syncs
//! itself, which is quickest for a single transaction. With more waiting, a second thread syncs while the writer goes on appending, so that neither
//! disk nor processor waits for the other; one sync is under way at a time. The queue is short, batches are bounded, and so is what may be
//! written ahead of the disk: so memory is too.
//!
//! A batch for which the log has no room is not written, and neither is what follows it, until the open transaction is cut: [`Committer::refused`] says so
//! to whoever fills batches. They are lost without loss: whoever cuts goes on from the log's position, which knows nothing of them.

use std::collections::VecDeque;
use std::sync::mpsc as thread_queue;
use std::thread::{Builder, JoinHandle};

use metrics::counter;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::event::Seq;
use crate::log::record::Batch;
use crate::log::{Shortage, Space, Standing, Syncing, WriteError, Writer};
use crate::metrics::names;

/// Batches that may wait for the writer.
const QUEUE: usize = 4;
/// Bytes after which a sync is begun though no transaction has ended.
const SYNC_BYTES: u64 = 4 << 20;
/// Bytes that may be written while a sync goes on before the writer waits for it; the sync covers as many at most.
const AHEAD_BYTES: u64 = 32 << 20;

enum Order {
    Append(Batch),
    /// Cut the open transaction.
    Abandon(oneshot::Sender<Abandoned>),
    /// The sync that was begun is done.
    Synced,
    /// What is held is to be carried forward, see [`Log::retain`](crate::log::Log::retain).
    Carry,
}

/// Tells the writer that rows of undecided XA transactions are to be carried forward.
#[derive(Clone, Debug)]
pub struct Carrier {
    orders: mpsc::WeakSender<Order>,
}

impl Carrier {
    /// Not where the queue is full: the writer then comes to it with what it has.
    pub fn carry(&self) {
        if let Some(orders) = self.orders.upgrade() {
            let _ = orders.try_send(Order::Carry);
        }
    }
}

/// Where the log stands between two connections.
#[derive(Debug)]
pub struct Abandoned {
    /// What the log knows of the source behind the last commit; `None` before it was given a start.
    pub standing: Option<Standing>,
    /// Why nothing can be written, if so.
    pub shortage: Option<Shortage>,
}

/// The queue's near end.
#[derive(Debug)]
pub struct Committer {
    orders: mpsc::Sender<Order>,
    spent: mpsc::Receiver<Batch>,
    refused: watch::Receiver<Option<Shortage>>,
    space: watch::Receiver<Space>,
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
        let (refuse, refused) = watch::channel(None);
        let space = writer.log().space();
        let ended = CancellationToken::new();
        let guard = ended.clone().drop_guard();
        let (syncs, to_sync) = thread_queue::channel::<Syncing<D::File>>();
        let done = orders.downgrade();
        Builder::new().name("log-sync".into()).spawn(move || {
            for sync in to_sync {
                sync.run();
                // The writer settles by itself what it needs; when its queue is closed it needs no word either.
                if let Some(orders) = done.upgrade() {
                    let _ = orders.blocking_send(Order::Synced);
                }
            }
        })?;
        let thread = Builder::new().name("log-writer".into()).spawn(move || {
            let _ended_at_return_or_panic = guard;
            work(writer, queue, &give_back, &refuse, &syncs)
        })?;
        Ok(Committer { orders, spent, refused, space, ended, thread: Some(thread) })
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

    /// Cuts the open transaction, and says from where the source is to be read, and whether that can be now.
    ///
    /// # Errors
    /// The writer has failed.
    pub async fn abandon(&self) -> Result<Abandoned, Gone> {
        let (answer, abandoned) = oneshot::channel();
        self.orders.send(Order::Abandon(answer)).await.map_err(|_| Gone)?;
        abandoned.await.map_err(|_| Gone)
    }

    /// To have rows carried forward; it does not keep the writer from ending.
    #[must_use]
    pub fn carrier(&self) -> Carrier {
        Carrier { orders: self.orders.downgrade() }
    }

    /// Completes when the log had no room for a batch: nothing is written before [`Committer::abandon`].
    pub async fn refused(&mut self) {
        if self.refused.wait_for(Option::is_some).await.is_err() {
            // The writer has ended; that is seen elsewhere.
            std::future::pending().await
        }
    }

    /// Completes when the shortage is over.
    ///
    /// # Errors
    /// Nobody looks any more.
    pub async fn until_over(&mut self, shortage: &Shortage) -> Result<(), Gone> {
        self.space.wait_for(|space| shortage.is_over(space)).await.map(|_| ()).map_err(|_| Gone)
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
    refuse: &watch::Sender<Option<Shortage>>,
    syncs: &thread_queue::Sender<Syncing<D::File>>,
) -> Result<(), WriteError> {
    // Ends of transactions that no sync was begun for.
    let mut ends = 0;
    // Who waits until everything up to a number is durable.
    let mut told: VecDeque<(Seq, oneshot::Sender<()>)> = VecDeque::new();
    while let Some(order) = queue.blocking_recv() {
        match order {
            Order::Append(mut batch) => {
                if refuse.borrow().is_none() {
                    let waiting = batch.take_told();
                    if let Some(ended) = append(&mut writer, &mut batch, refuse)? {
                        ends += ended;
                        told.extend(waiting.into_iter().map(|waiting| (writer.ended(), waiting)));
                    }
                }
                batch.clear();
                // A full or closed return channel only means that the batch is dropped.
                let _ = give_back.try_send(batch);
            }
            Order::Abandon(answer) => {
                writer.abandon()?;
                let shortage = match refuse.send_replace(None) {
                    Some(shortage) => Some(shortage),
                    None => writer.admit(0)?,
                };
                // Nobody waits for the answer any more when the asker is gone.
                let _ = answer.send(Abandoned { standing: writer.standing().cloned(), shortage });
            }
            // One that the writer has settled by itself since may be followed by another that goes on.
            Order::Synced if writer.is_syncing() => {}
            Order::Synced => writer.settle()?,
            Order::Carry => ends += writer.carry_forward()?,
        }
        let unsynced = writer.unsynced_bytes();
        if (ends > 0 || unsynced >= SYNC_BYTES) && (!writer.is_syncing() || unsynced >= AHEAD_BYTES) {
            ends = 0;
            counter!(names::LOG_SYNCS).increment(1);
            if queue.is_empty() {
                writer.sync()?;
            } else if let Some(sync) = writer.begin_sync()?
                && syncs.send(sync).is_err()
            {
                // Its thread lives for as long as this one.
                writer.settle()?;
            }
        }
        tell(&mut told, writer.log().visible().seq);
    }
    writer.sync()?;
    tell(&mut told, writer.log().visible().seq);
    Ok(())
}

/// Tells those who wait for no more than what is durable.
fn tell(told: &mut VecDeque<(Seq, oneshot::Sender<()>)>, durable: Seq) {
    let heard = told.iter().take_while(|(seq, _)| *seq <= durable).count();
    for (_, waiting) in told.drain(..heard) {
        // Nobody waits for it any more.
        let _ = waiting.send(());
    }
}

/// Appends the batch, and returns how many transactions it ended; `None` if there is no room for it.
fn append<D: Disk>(
    writer: &mut Writer<D>,
    batch: &mut Batch,
    refuse: &watch::Sender<Option<Shortage>>,
) -> Result<Option<usize>, WriteError> {
    // Rows that were held and count from here on are written again.
    let bytes = (batch.len() as u64).saturating_add(writer.owed(batch));
    if let Some(shortage) = writer.admit(bytes)? {
        refuse.send_replace(Some(shortage));
        return Ok(None);
    }
    let (ends, changes) = (batch.commits(), batch.changes());
    writer.append(batch)?;
    counter!(names::LOG_CHANGES).increment(changes as u64);
    if ends > 0
        && let Some(shortage) = writer.pause_due()?
    {
        refuse.send_replace(Some(shortage));
    }
    Ok(Some(ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::disk::SystemDisk;
    use crate::event::{TableName, TableNo, TableSchema};
    use crate::log::record::{Mark, Position, SchemaRecord, Synced};

    use crate::log::{LogOptions, Noted, Quota};

    fn marked(batch: &mut Batch) -> oneshot::Receiver<()> {
        batch.mark(&Mark {
            synced: Synced::default(),
            gtids: crate::event::GtidSet::default(),
            time_micros: 1,
            position: Position::default(),
            noted: Noted::default(),
        });
        let (told, heard) = oneshot::channel();
        batch.tell_when_durable(told);
        heard
    }

    #[tokio::test]
    async fn who_waits_for_a_batch_hears_of_it_once_it_is_visible_and_never_of_one_without_room() {
        let folder = tempfile::tempdir().unwrap();
        let options =
            LogOptions { quota: Quota::Bytes(64 << 10), keep_free_bytes: 0, ..LogOptions::default() };
        let opened =
            crate::log::open(&SystemDisk, &SystemClock, &folder.path().join("log"), options).unwrap();
        let log = opened.log;
        let mut committer = Committer::start(opened.writer).unwrap();
        let mut written = 0;
        loop {
            let mut batch = committer.batch();
            for table in 0..100 {
                let name = TableName::new("shop", "x".repeat(60));
                let schema = TableSchema { name, columns: Vec::new(), key: Vec::new() };
                batch.schema(&SchemaRecord { table: TableNo(table), schema });
            }
            let heard = marked(&mut batch);
            committer.append(batch).await.unwrap();
            if heard.await.is_err() {
                break;
            }
            written += 1;
            assert!(written < 20 && log.visible().seq.0 >= written * 101, "{written}: {:?}", log.visible());
        }
        assert!(written > 3);
        committer.refused().await;
        assert!(committer.abandon().await.unwrap().shortage.is_some());
        committer.finish().await.unwrap();
    }
}
