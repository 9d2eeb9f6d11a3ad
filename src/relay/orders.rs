//! How an operator's orders come to the indexer, and its answers back.
//!
//! Orders are carried out one after the other. Whoever asks may cease to wait: an order that the indexer has taken is carried out all the same.

use tokio::sync::{mpsc, oneshot};

/// Orders that may wait for the indexer.
const QUEUE: usize = 16;

/// An order that the indexer has taken.
#[derive(Debug)]
pub struct Taken<O, A> {
    pub order: O,
    pub answer: oneshot::Sender<A>,
}

/// The end that asks.
#[derive(Debug)]
pub struct Orders<O, A> {
    queue: mpsc::Sender<Taken<O, A>>,
}

/// The indexer's end.
#[derive(Debug)]
pub struct Queue<O, A> {
    queue: mpsc::Receiver<Taken<O, A>>,
}

/// Both ends.
#[must_use]
pub fn channel<O, A>() -> (Orders<O, A>, Queue<O, A>) {
    let (queue, taken) = mpsc::channel(QUEUE);
    (Orders { queue }, Queue { queue: taken })
}

impl<O, A> Clone for Orders<O, A> {
    fn clone(&self) -> Self {
        Orders { queue: self.queue.clone() }
    }
}

impl<O, A> Orders<O, A> {
    /// Waits until the indexer has carried the order out; `None` where it has stopped, and then what it did before is not known.
    pub async fn ask(&self, order: O) -> Option<A> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(Taken { order, answer }).await.ok()?;
        answered.await.ok()
    }
}

impl<O, A> Queue<O, A> {
    /// One that never has any.
    #[must_use]
    pub fn none() -> Self {
        channel().1
    }

    /// The next order; for ever while there is none. Cancel safe.
    pub async fn next(&mut self) -> Taken<O, A> {
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
        let (orders, mut queue) = channel::<&str, Vec<u8>>();
        let withdrawn = tokio::time::timeout(std::time::Duration::from_millis(1), orders.ask("b"));
        withdrawn.await.unwrap_err();
        let asking = tokio::spawn({
            let orders = orders.clone();
            async move { orders.ask("a").await }
        });
        let taken = queue.next().await;
        assert_eq!(taken.order, "a");
        taken.answer.send(Vec::new()).unwrap();
        assert_eq!(asking.await.unwrap(), Some(Vec::new()));
        drop(queue);
        assert_eq!(orders.ask("a").await, None);
    }
}
