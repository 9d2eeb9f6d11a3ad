//! Tables that need a snapshot, told for as long as they do.

use std::collections::BTreeSet;

use metrics::gauge;
use tokio::sync::watch;

use crate::event::TableName;
use crate::lifecycle::Shutdown;
use crate::log::Gap;
use crate::metrics::names;

/// Sets the metrics and warns once of each, until a drain is asked for.
pub async fn tell(mut gaps: watch::Receiver<Vec<Gap>>, shutdown: &Shutdown) {
    let mut told = BTreeSet::new();
    loop {
        told = tell_once(&gaps.borrow_and_update(), &told);
        tokio::select! {
            changed = gaps.changed() => if changed.is_err() { return },
            () = shutdown.wait() => return,
        }
    }
}

fn tell_once(gaps: &[Gap], told: &BTreeSet<TableName>) -> BTreeSet<TableName> {
    let needs = |table: &TableName| gauge!(names::SOURCE_TABLE_NEEDS_SNAPSHOT, "table" => table.to_string());
    for Gap { table, why, wanted, .. } in gaps.iter().filter(|gap| !told.contains(&gap.table)) {
        if *wanted {
            tracing::info!(%table, why, "the documents of a table are not what its rows are until it is read anew");
        } else {
            tracing::warn!(%table, why, "the documents of a table are not what its rows are: it needs a snapshot");
        }
        needs(table).set(1.0);
    }
    let now: BTreeSet<_> = gaps.iter().map(|gap| gap.table.clone()).collect();
    told.difference(&now).for_each(|table| needs(table).set(0.0));
    gauge!(names::SOURCE_TABLES_NEEDING_SNAPSHOT).set(now.len() as f64);
    now
}
