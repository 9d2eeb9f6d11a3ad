//! Rows of undecided XA transactions that a cut leaves without their frames: their decision is then one of what is not held.

use std::path::Path;

use super::super::error::{OpenError, Step};
use super::super::prepared::{Held, Prepared};
use super::super::record::Kind;
use super::super::scan::Scanner;
use super::super::segment::{SEGMENT_HEADER, segment_name};
use super::super::shared::Entry;
use super::super::standing::Standing;
use crate::disk::Disk;
use crate::event::Xid;

/// Takes those out of `standing` whose rows are not whole in `kept`, and returns which they were.
pub(super) fn take_lost<D: Disk>(
    disk: &D,
    dir: &Path,
    kept: &[Entry],
    standing: &mut Standing,
) -> Result<Vec<Xid>, OpenError> {
    let mut lost = Vec::new();
    for Prepared { xid, held, .. } in &standing.prepared {
        if let Some(held) = held
            && !is_whole(disk, dir, kept, held)?
        {
            lost.push(xid.clone());
        }
    }
    // In order, as those were.
    standing.prepared.retain(|prepared| lost.binary_search(&prepared.xid).is_err());
    Ok(lost)
}

fn is_whole<D: Disk>(disk: &D, dir: &Path, kept: &[Entry], held: &Held) -> Result<bool, OpenError> {
    let from = kept.partition_point(|entry| entry.header.first < held.at.segment);
    let (mut next, mut offset, mut rows) = (held.first, held.at.offset, 0);
    for entry in &kept[from..] {
        // The first one may be gone.
        if next == held.first && entry.header.first != held.at.segment {
            return Ok(false);
        }
        let path = dir.join(segment_name(entry.header.first));
        let file = disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        let mut scanner = Scanner::new(file.into(), entry.header.salt, next, offset, entry.bytes);
        while scanner.next_seq() <= held.last {
            // What the disk does not read is lost as well.
            match scanner.advance() {
                Ok(Some(scanned)) => rows += u64::from(scanned.kind == Kind::Prepared),
                Ok(None) => break,
                Err(_) => return Ok(false),
            }
        }
        if scanner.next_seq() > held.last {
            return Ok(rows == held.rows);
        }
        (next, offset) = (scanner.next_seq(), SEGMENT_HEADER);
    }
    Ok(false)
}
