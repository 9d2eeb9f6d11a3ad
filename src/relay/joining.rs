//! A sink that the configuration names for the first time, on a log that others have read before.
//!
//! # Constraints
//!
//! - The log has lost what all others have settled, so no place in it gives a new sink's index every row: a snapshot of every followed table does.
//! - No start leaves the sink with a cursor and without that snapshot: the cursor is kept once the log has kept that it is wanted.
//!
//! # Operation
//!
//! The cursor stands where the log ended as it was opened, and the snapshots are wanted behind that: so all rows that they bring, and all that changes from
//! then on, are behind the cursor, and what stands before it would be overtaken by them. Until the cursor is kept, retention holds the log from there on. A
//! crash before makes the next start order them again.
//!
//! What a snapshot reads goes into the log, and so to all sinks: the others write the same documents once more, with higher versions.

use std::time::Duration;

use crate::lifecycle::{self, Readiness};
use crate::settled::{Cursor, CursorStore, SettledError};
use crate::source::orders::{Orders, SnapshotOrder, Tables};

/// How long a source that refuses is left alone.
const PAUSE: Duration = Duration::from_secs(5);

/// Orders the snapshots, and keeps the cursor: the sink may begin.
///
/// # Errors
/// The cursor cannot be kept.
pub async fn join<C: CursorStore>(
    mut store: C,
    cursor: &Cursor,
    orders: &Orders,
    readiness: &Readiness,
) -> Result<(), SettledError> {
    readiness.obstacle(
        lifecycle::SINK,
        "it is new, and begins when the source has taken the order to read every followed table for it",
    );
    loop {
        let refused = match orders.ask(SnapshotOrder::Begin { tables: Tables::All, filter: None }).await {
            Ok(tables) => {
                tracing::info!(
                    tables = tables.len(),
                    "a new sink: every followed table is read for it, into the log and so for the other sinks too"
                );
                break;
            }
            Err(refused) => refused,
        };
        if readiness.obstacle(
            lifecycle::SINK,
            format!("it is new, and every followed table is to be read for it: {refused}"),
        ) {
            tracing::warn!(%refused, "a new sink waits for snapshots of all tables, which the source refuses");
        }
        tokio::time::sleep(PAUSE).await;
    }
    store.commit(cursor)?;
    store.sync()?;
    readiness.clear(lifecycle::SINK);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Seq, TableName};
    use crate::settled::MemoryCursor;
    use crate::source::orders::{self, Refused};

    #[tokio::test(start_paused = true)]
    async fn a_new_sink_has_a_cursor_once_its_snapshots_are_wanted_and_not_before() {
        let (orders, mut queue) = orders::channel();
        let (store, readiness) = (MemoryCursor::default(), Readiness::new());
        let cursor = Cursor { seq: Seq(41), ..Cursor::default() };
        let joining = tokio::spawn({
            let (store, cursor, readiness) = (store.clone(), cursor.clone(), readiness.clone());
            async move { join(store, &cursor, &orders, &readiness).await }
        });
        let taken = queue.next().await;
        assert_eq!(taken.order, SnapshotOrder::Begin { tables: Tables::All, filter: None });
        assert!(store.load().unwrap().is_none() && readiness.obstacles()["sink"].contains("it is new"));
        taken.answer(Err(Refused("too many".into())));
        let taken = queue.next().await;
        assert!(store.load().unwrap().is_none() && readiness.obstacles()["sink"].contains("too many"));
        // Taken, and not durable yet.
        let durable = taken.done_once_durable(vec![TableName::new("shop", "orders")]);
        tokio::task::yield_now().await;
        assert!(store.load().unwrap().is_none());
        durable.send(()).unwrap();
        joining.await.unwrap().unwrap();
        assert_eq!((store.load().unwrap(), store.synced()), (Some(cursor.clone()), Some(cursor)));
        assert!(readiness.obstacles().is_empty());
    }
}
