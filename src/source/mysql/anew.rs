//! A log that goes on from where its server is now, whatever was in between: what an operator consents to when transactions are lost that were not read, or that the server never had.
//!
//! # Constraints
//!
//! Between where the log stands and where the server is now nobody knows what happened: binlogs were purged, or a failover lost transactions whose rows have documents. So every followed table has a gap, and a
//! snapshot of all of it is wanted, behind which a sweep takes what only the index has: versions rise through the log, and all that was logged before is older than the snapshot. Nothing else that is known stays. The set, the place and the read horizon are another history's. Shapes may be
//! of other columns. A snapshot that was read in part lacks what changed since. Rows of undecided XA transactions may have been decided unseen, and their names given again: the XA COMMIT of one that is not known is a gap of every followed table,
//! which is right whatever it was. Documents of a table that is gone stay, as they do after DROP TABLE, and the table is marked.
//!
//! One mark says all of it ([`Follows::anew`]): before it is durable nothing has changed, and behind it the log is one that has just begun.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::event::TableName;
use crate::log::followed::Follows;
use crate::log::snapshot::{Snapshot, SnapshotNote, SnapshotStep};
use crate::log::{Gap, Noted, Standing};
use crate::source::{Source, SourceError, Start};

use super::control::Control;
use super::error::MysqlError;
use super::{MysqlSource, followed};

/// Pause between looks at a server that may come to have what it lacks.
const PAUSE: Duration = Duration::from_secs(1);

const PASSED_OVER: &str =
    "transactions were passed over that were not read, or lost: rows may be others than its documents";

const GONE: &str = "transactions were passed over that were not read, or lost, and it is gone: its documents stay as they were";

impl MysqlSource {
    /// What the source says that it cannot go on from where the log stands, since something is lost there; `None`: it can. A server that may only lag is waited for as a relay does, and
    /// `waiting` told.
    ///
    /// # Errors
    /// Whether something is lost nobody knows: the server cannot be reached, or does not serve for another reason.
    pub async fn loss(
        &mut self,
        after: &Standing,
        mut waiting: impl FnMut(&str),
    ) -> Result<Option<String>, SourceError> {
        loop {
            let Err(error) = self.connect(after).await else {
                self.disconnect();
                return Ok(None);
            };
            match &error {
                SourceError::Definite(said) if is(said.as_ref(), MysqlError::is_loss) => {
                    return Ok(Some(said.to_string()));
                }
                SourceError::Transient(said)
                    if is(said.as_ref(), |said| matches!(said, MysqlError::Lacks { .. })) =>
                {
                    waiting(&said.to_string());
                    tokio::time::sleep(PAUSE).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Where the log goes on, and what is to be noted there. `known`: tables that have documents, besides those that the log knows of.
    ///
    /// # Errors
    /// The server cannot be asked, or follows more tables than there may be snapshots of.
    pub async fn anew(
        &mut self,
        after: &Standing,
        known: impl IntoIterator<Item = TableName>,
    ) -> Result<(Standing, Noted), SourceError> {
        let begins = self.resolve_start(&Start::Snapshot).await?;
        let case = Control::connect(&self.options).await?.server().name_case();
        let patterns = self.patterns.clone().with_case(case);
        let there: Vec<_> = begins.snapshots.iter().map(|Snapshot { table, .. }| table.clone()).collect();
        let mut gone: BTreeSet<_> = followed::logged(after).chain(known).collect();
        for table in &there {
            gone.remove(table);
        }
        gone.retain(|table| patterns.follows_table(table));
        let gap = |table: &TableName, why| Gap::new(table.clone(), why, 0);
        let gaps = there.iter().map(|table| gap(table, PASSED_OVER));
        let gaps = gaps.chain(gone.iter().map(|table| gap(table, GONE))).collect();
        let wanted = |table| SnapshotNote { table, step: SnapshotStep::Wanted { filter: None } };
        let snapshots = there.into_iter().map(wanted).collect();
        let patterns = begins.followed.patterns.clone();
        let follows = Some(Follows { patterns, forgotten: Vec::new(), anew: true });
        Ok((begins, Noted { gaps, snapshots, follows, ..Noted::default() }))
    }
}

fn is(error: &(dyn std::error::Error + Send + Sync + 'static), what: impl Fn(&MysqlError) -> bool) -> bool {
    error.downcast_ref::<MysqlError>().is_some_and(what)
}
