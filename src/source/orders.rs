//! What an operator asks of a source while it runs: snapshots of tables.
//!
//! An order waits until the source takes it, which it does between transactions; it is answered once what it did is durable in the log. Whoever
//! asks may cease to wait: an order that the source did not take by then is not carried out.

use std::fmt;

use tokio::sync::{mpsc, oneshot};

use crate::event::TableName;

/// Orders that may wait for the source.
const QUEUE: usize = 16;

/// Which tables an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tables {
    /// To begin: every followed table. Else: every table whose snapshot is not over.
    All,
    /// These, each as it was spelt.
    Named(Vec<TableName>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotOrder {
    /// Snapshots of tables are wanted; one that is not over begins again. `filter`: of rows that fulfil this SQL condition only.
    Begin {
        tables: Tables,
        filter: Option<String>,
    },
    /// Nothing more is read until they are resumed.
    Pause(Tables),
    Resume(Tables),
    /// They are over, without a sweep; what was read stays.
    Cancel(Tables),
}

/// Why an order was not carried out, for people; nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// The tables that it was carried out for.
pub type Answer = Result<Vec<TableName>, Refused>;

/// An order that the source has taken.
#[derive(Debug)]
pub struct Taken {
    pub order: SnapshotOrder,
    answer: oneshot::Sender<(Answer, Option<oneshot::Receiver<()>>)>,
}

impl Taken {
    /// Tells whoever asked.
    pub fn answer(self, answer: Answer) {
        // Nobody waits for it any more.
        let _ = self.answer.send((answer, None));
    }

    /// Tells whoever asked that it is carried out for these tables, once what is returned here was told; not if it is dropped.
    pub fn done_once_durable(self, tables: Vec<TableName>) -> oneshot::Sender<()> {
        let (durable, until_durable) = oneshot::channel();
        let _ = self.answer.send((Ok(tables), Some(until_durable)));
        durable
    }
}

/// The end that asks.
#[derive(Clone, Debug)]
pub struct Orders {
    queue: mpsc::Sender<Taken>,
}

/// The source's end.
#[derive(Debug)]
pub struct OrderQueue {
    queue: mpsc::Receiver<Taken>,
}

/// Both ends.
#[must_use]
pub fn channel() -> (Orders, OrderQueue) {
    let (queue, taken) = mpsc::channel(QUEUE);
    (Orders { queue }, OrderQueue { queue: taken })
}

impl Orders {
    /// Waits until the source has carried the order out and the log keeps it, or refuses it. A caller that is dropped withdraws it, unless
    /// the source has it already.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn ask(&self, order: SnapshotOrder) -> Answer {
        let gone =
            || Refused("the source takes no orders: it has stopped, and the relay's log says why".to_owned());
        let (answer, answered) = oneshot::channel();
        self.queue.send(Taken { order, answer }).await.map_err(|_| gone())?;
        let (answer, until_durable) = answered.await.map_err(|_| gone())?;
        if let Some(until_durable) = until_durable {
            let lost = "the log did not take what was ordered, which counts for nothing: see what the relay says, and order it again";
            until_durable.await.map_err(|_| Refused(lost.to_owned()))?;
        }
        answer
    }
}

impl OrderQueue {
    /// One that never has any.
    #[must_use]
    pub fn none() -> OrderQueue {
        let (_, queue) = channel();
        queue
    }

    /// The next order, if one waits.
    pub fn try_next(&mut self) -> Option<Taken> {
        loop {
            match self.queue.try_recv() {
                Ok(withdrawn) if withdrawn.answer.is_closed() => {}
                Ok(order) => return Some(order),
                Err(_) => return None,
            }
        }
    }

    /// Waits for the next order; for ever when nobody can ask any more. Cancel safe.
    pub async fn next(&mut self) -> Taken {
        loop {
            match self.queue.recv().await {
                Some(withdrawn) if withdrawn.answer.is_closed() => {}
                Some(order) => return order,
                None => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause() -> SnapshotOrder {
        SnapshotOrder::Pause(Tables::All)
    }

    #[tokio::test]
    async fn an_order_is_answered_by_the_source() {
        let (orders, mut queue) = channel();
        let table = TableName::new("shop", "orders");
        let source = tokio::spawn(async move {
            let taken = queue.next().await;
            assert_eq!(taken.order, pause());
            taken.answer(Ok(vec![table.clone()]));
            queue.next().await.answer(Err(Refused("no".into())));
        });
        assert_eq!(orders.ask(pause()).await, Ok(vec![TableName::new("shop", "orders")]));
        assert_eq!(orders.ask(pause()).await, Err(Refused("no".into())));
        source.await.unwrap();
        let gone = orders.ask(pause()).await.unwrap_err();
        assert!(gone.to_string().contains("it has stopped"), "{gone}");
    }

    #[tokio::test]
    async fn an_order_that_nobody_waits_for_any_more_is_not_carried_out() {
        let (orders, mut queue) = channel();
        let withdrawn = tokio::spawn({
            let orders = orders.clone();
            async move { orders.ask(SnapshotOrder::Cancel(Tables::All)).await }
        });
        tokio::task::yield_now().await;
        withdrawn.abort();
        let _ = withdrawn.await;
        assert!(queue.try_next().is_none());
        let asked = tokio::spawn(async move { orders.ask(pause()).await });
        let taken = queue.next().await;
        assert_eq!(taken.order, pause());
        drop(taken);
        assert!(asked.await.unwrap().is_err(), "a source that drops it has ended");
        assert!(queue.try_next().is_none() && OrderQueue::none().try_next().is_none());
    }
}
