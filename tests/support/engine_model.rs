//! What an engine keeps of a document that is written by external versions, and what it says of each write. Models keep documents by it, and
//! `real_engines` holds it against the engines themselves.

use std::collections::BTreeMap;

use everrelay::event::Version;
use everrelay::sink::Disposition;

/// A document: its version, and its body unless it was deleted, or never there (0).
pub type Kept = (u64, Option<String>);

/// One write by `external_gte`; without a body a delete.
pub fn take(kept: &mut Kept, version: Version, body: Option<&str>) -> Disposition {
    if kept.0 > version.0 {
        return Disposition::Superseded { current: Some(Version(kept.0)) };
    }
    *kept = (version.0, body.map(str::to_owned));
    Disposition::Done
}

/// Versions of deleted documents go with their tombstones, after `index.gc_deletes` or at a restart: they are as if they had never been there.
pub fn forget_tombstones<K: Ord>(documents: &mut BTreeMap<K, Kept>) {
    documents.retain(|_, (_, body)| body.is_some());
}
