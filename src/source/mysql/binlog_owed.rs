//! What the open transaction owes: rows that its events did not say whole ([`owed`](super::super::owed)), and gaps.

use crate::event::{GtidSet, TableNo};
use crate::log::record::Batch;

use super::super::error::MysqlError;
use super::super::owed::Owed;
use super::super::tables::Version;
use super::{Binlog, Transaction};

impl Binlog {
    /// The end of a transaction has come that owes rows: what it owes, everything that the log will hold with it, and its end, file and
    /// offset. [`Binlog::complete`] comes next.
    pub fn take_owed(&mut self) -> Option<(Owed, GtidSet, (String, u64))> {
        let transaction = self.transaction.as_mut().filter(|transaction| transaction.ended)?;
        let mut after = self.gtids.clone();
        if let Some(gtid) = &transaction.gtid {
            after.insert(gtid);
        }
        Some((std::mem::take(&mut transaction.owed), after, (self.place.file.clone(), self.place.offset)))
    }

    /// The rows that were owed are in the batches. `horizon`: what the server had executed by then.
    ///
    /// # Errors
    /// No transaction has ended.
    pub fn complete(&mut self, horizon: GtidSet, batch: &mut Batch) -> Result<(), MysqlError> {
        if let Some(Transaction { noted, gtid, .. }) = &mut self.transaction {
            // What the log has passed says nothing new.
            let mut passed = self.gtids.clone();
            if let Some(gtid) = gtid {
                passed.insert(gtid);
            }
            noted.horizon = horizon.beyond(&passed);
        }
        batch.stamp(None);
        self.count(batch)
    }

    /// Rows of a table changed in this transaction and it is not known which, or how.
    pub fn lost(&mut self, version: TableNo, why: &str) {
        let table = self.tables.name(version.0 as usize);
        tracing::warn!(%table, place = %self.place, "{why}: the table needs a snapshot");
        self.gap(table, why);
    }

    /// A version of a table, its schema written into `batch` if the log does not have it; rows that come next are those of the open transaction.
    pub fn version(&mut self, version: TableNo, batch: &mut Batch) -> Option<&Version> {
        // Behind the others that are held, so that they are copied in this order.
        batch.hold(self.transaction.as_ref().is_some_and(|transaction| transaction.xa.is_some()));
        let table = self.tables.again(version.0 as usize, batch)?;
        batch.stamp(self.transaction.as_ref().and_then(|transaction| transaction.stamp(table)).as_ref());
        Some(table)
    }

    /// So many values had bytes that are none of their character set.
    pub fn replaced(&mut self, values: u64) {
        self.decoder.replaced += values;
    }
}
