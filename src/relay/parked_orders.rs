//! What an operator asks of the indexer while it runs: parked changes to be sent again, or forgotten.
//!
//! Orders are carried out one after the other. Whoever asks may cease to wait: an order that the indexer has taken is carried out all the same.

use tokio::sync::{mpsc, oneshot};

use crate::event::{Seq, TableName};
use crate::settled::Parked;

/// Orders that may wait for the indexer.
const QUEUE: usize = 16;

/// Which parked changes an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    All,
    Tables(Vec<TableName>),
    /// By their records in the log.
    Records(Vec<Seq>),
}

impl Which {
    #[must_use]
    pub fn chooses(&self, parked: &Parked) -> bool {
        match self {
            Which::All => true,
            Which::Tables(tables) => tables.contains(&parked.table),
            Which::Records(records) => records.contains(&parked.seq),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParkedOrder {
    /// Send them again.
    Retry(Which),
    /// Forget them: their documents stay as they are in the index until their rows change.
    Drop(Which),
}

/// What became of one parked change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    pub table: TableName,
    pub seq: Seq,
    pub became: Became,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// The engine has it.
    Taken,
    /// The index has a newer version of its document.
    Superseded,
    /// A newer change or a sweep of its document came before it.
    Overtaken,
    /// A change of its document is under way: it was not sent.
    Busy,
    /// It stays parked.
    Refused {
        reason: String,
    },
    Dropped,
}

/// In the order in which it was decided.
pub type Fates = Vec<Fate>;

/// An order that the indexer has taken.
#[derive(Debug)]
pub struct Taken {
    pub order: ParkedOrder,
    pub answer: oneshot::Sender<Fates>,
}

/// The end that asks.
#[derive(Clone, Debug)]
pub struct ParkedOrders {
    queue: mpsc::Sender<Taken>,
}

/// The indexer's end.
#[derive(Debug)]
pub struct ParkedQueue {
    queue: mpsc::Receiver<Taken>,
}

/// Both ends.
#[must_use]
pub fn channel() -> (ParkedOrders, ParkedQueue) {
    let (queue, taken) = mpsc::channel(QUEUE);
    (ParkedOrders { queue }, ParkedQueue { queue: taken })
}

impl ParkedOrders {
    /// Waits until the indexer has carried the order out; `None` where it has stopped, and then what it did before is not known.
    pub async fn ask(&self, order: ParkedOrder) -> Option<Fates> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Taken { order, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl ParkedQueue {
    /// One that never has any.
    #[must_use]
    pub fn none() -> ParkedQueue {
        channel().1
    }

    /// The next order; for ever while there is none. Cancel safe.
    pub async fn next(&mut self) -> Taken {
        loop {
            match self.queue.recv().await {
                Some(withdrawn) if withdrawn.answer.is_closed() => {}
                Some(taken) => return taken,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_that_nobody_waits_for_is_not_taken_and_a_stopped_indexer_answers_nothing() {
        let (orders, mut queue) = channel();
        let withdrawn = tokio::time::timeout(
            std::time::Duration::from_millis(1),
            orders.ask(ParkedOrder::Drop(Which::All)),
        );
        withdrawn.await.unwrap_err();
        let asking = tokio::spawn({
            let orders = orders.clone();
            async move { orders.ask(ParkedOrder::Retry(Which::All)).await }
        });
        let taken = queue.next().await;
        assert_eq!(taken.order, ParkedOrder::Retry(Which::All));
        taken.answer.send(Vec::new()).unwrap();
        assert_eq!(asking.await.unwrap(), Some(Vec::new()));
        drop(queue);
        assert_eq!(orders.ask(ParkedOrder::Retry(Which::All)).await, None);
    }
}
