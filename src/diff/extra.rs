//! Documents without a row.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::rows::{At, Edge};
use super::{BATCH, Diff, DiffError, Found, Lag};
use crate::event::Version;
use crate::sink::elastic::documents::DocumentId;

/// Rows beyond which extra documents are not looked for: their ids take 512 MiB.
const MOST_ROWS: usize = 1 << 25;

/// Documents that seem to have no row and are decided one by one; of more only the number is told.
const MOST_CANDIDATES: usize = 100_000;

/// Ids of rows, each with the alias that its document is to be behind, as half of their SHA-256: that two of a table meet in it nobody will live to see.
#[derive(Debug, Default)]
pub(super) struct Seen {
    ids: Vec<u128>,
    too_many: bool,
}

impl Seen {
    pub(super) fn add(&mut self, alias: &str, id: &str) {
        if self.ids.len() >= MOST_ROWS {
            (self.ids, self.too_many) = (Vec::new(), true);
        }
        if !self.too_many {
            self.ids.push(hash(alias, id));
        }
    }
}

fn hash(alias: &str, id: &str) -> u128 {
    // No alias has a NUL.
    let digest = Sha256::new().chain_update(alias).chain_update([0]).chain_update(id).finalize();
    let mut half = [0; 16];
    half.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    u128::from_le_bytes(half)
}

impl<L: Lag> Diff<'_, L> {
    /// Looks at every document of the index, and once more at every row where some have none.
    pub(super) async fn find_extra(&mut self, seen: Seen, found: &mut Found) -> Result<(), DiffError> {
        let Seen { mut ids, too_many } = seen;
        if too_many {
            found.without_extra = Some("the table has more than 33 million rows");
            return Ok(());
        }
        ids.sort_unstable();
        let mut candidates: HashMap<(Arc<str>, String), (At, Version)> = HashMap::new();
        let (mut documents, mut undecided) = (0, 0);
        let visit = |alias: &Arc<str>, id: &str, routing: Option<&str>, version: Version| {
            documents += 1;
            if ids.binary_search(&hash(alias, id)).is_err() {
                if candidates.len() >= MOST_CANDIDATES {
                    undecided += 1;
                    return;
                }
                let document = DocumentId { id: id.to_owned(), routing: routing.map(str::to_owned) };
                let at = At { alias: Arc::clone(alias), document };
                candidates.insert((Arc::clone(alias), id.to_owned()), (at, version));
            }
        };
        self.engine.scan(visit).await?;
        drop(ids);
        found.documents = Some(documents);
        found.unlooked = undecided;
        if candidates.is_empty() {
            return Ok(());
        }
        let (mut after, mut last): (Edge, _) = (None, None);
        loop {
            let range = self.table.next(after, &None).await?;
            for At { alias, document } in range.rows.into_iter().map(|row| row.at) {
                candidates.remove(&(alias, document.id));
            }
            last = Some(range.high).or(last);
            after = range.upto;
            if after.is_none() || candidates.is_empty() {
                break;
            }
        }
        if candidates.is_empty() {
            return Ok(());
        }
        // Later ranges show all that former ones could.
        if found.relay && !self.until_settled(last.as_slice()).await? {
            found.behind = true;
        }
        let mut candidates: Vec<_> = candidates.into_values().collect();
        candidates.sort_by(|(a, _), (b, _)| (&a.document.id, &a.alias).cmp(&(&b.document.id, &b.alias)));
        for batch in candidates.chunks(BATCH) {
            let at: Vec<_> = batch.iter().map(|(at, _)| at.clone()).collect();
            for ((at, version), document) in batch.iter().zip(self.engine.documents(&at).await?) {
                // One that was written to since may have a row now.
                if document.is_some_and(|document| document.version == *version) {
                    found.extra.add(at.document.id.clone(), self.options.keys);
                }
            }
        }
        Ok(())
    }
}
