//! Removing segments that nobody needs.
//!
//! A sealed segment goes when every frame of it is below what anybody still needs, **and** it is older than the retention age or the
//! segments kept behind the cursors are together over the retention bytes: it stays that long only so that it can be replayed. That gives way
//! when room is short: above the low-water mark of the quota, on a disk that is nearly full, and for a transaction that needs all there is. Segments go
//! from the first on, the folder synced after each, so that a crash leaves a suffix of the log. The segment that the visible log ends
//! in never goes.

use std::io;
use std::sync::atomic::Ordering;

use super::error::{RetainError, Step};
use super::quota::Limits;
use super::segment::{segment_name, torn_name};
use super::shared::{Entry, Log, Shared, lock};
use crate::disk::Disk;
use crate::event::Seq;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    pub segments: usize,
    pub bytes: u64,
}

impl<D: Disk> Log<D> {
    /// Removes what may go. `below`: the first frame that anybody still needs, one past the lowest *synced* cursor.
    ///
    /// # Errors
    /// A file cannot be removed. The log is whole then; nothing more is removed before it is opened again.
    pub fn retain(&self, below: Seq, now_micros: u64) -> Result<Retained, RetainError> {
        let shared = &*self.shared;
        if shared.read_only {
            return Err(RetainError::ReadOnly);
        }
        let _one_at_a_time = lock(&shared.retaining);
        if shared.retention_stopped.load(Ordering::Relaxed) {
            return Err(RetainError::Stopped);
        }
        let mut removed = Retained::default();
        let measured = |(step, source)| RetainError::Io { step, path: shared.dir.clone(), source };
        loop {
            let space = shared.measure().map_err(measured)?;
            let Limits { low, resume_free, .. } = shared.limits;
            let short = space.log_bytes > low
                || space.free_bytes < resume_free
                || shared.squeezed.load(Ordering::Relaxed);
            let Some(entry) = self.next_to_go(below, now_micros, short) else {
                shared.publish_space(space);
                return Ok(removed);
            };
            // A removal of unknown outcome must not be followed by others: the log could come back with a hole.
            shared.remove(&entry).inspect_err(|_| shared.retention_stopped.store(true, Ordering::Relaxed))?;
            removed.segments += 1;
            removed.bytes += entry.bytes;
        }
    }

    /// The first segment, if it may go; `short`: what is kept for a replay alone goes too.
    fn next_to_go(&self, below: Seq, now_micros: u64, short: bool) -> Option<Entry> {
        let shared = &*self.shared;
        let end = self.visible().end.segment;
        let segments = shared.segments();
        let sealed = segments.windows(2).take_while(|pair| {
            let follower = pair[1].header.first;
            follower <= below && follower <= end
        });
        let behind: u64 = sealed.map(|pair| pair[0].bytes).sum();
        let [first, second, ..] = segments.as_slice() else { return None };
        if behind == 0 {
            return None;
        }
        let retention = shared.options.retention;
        let age = now_micros.saturating_sub(second.header.created_micros);
        let old = u128::from(age) > retention.age.as_micros();
        (short || old || behind > retention.bytes).then_some(*first)
    }
}

impl<D: Disk> Shared<D> {
    fn remove(&self, entry: &Entry) -> Result<(), RetainError> {
        let first = entry.header.first;
        // Before the file goes, so that who finds no file also finds that it is not kept.
        self.segments().retain(|entry| entry.header.first != first);
        self.close(first);
        for (name, must) in [(torn_name(first), false), (segment_name(first), true)] {
            let path = self.dir.join(name);
            match self.disk.remove(&path) {
                Err(error) if must || error.kind() != io::ErrorKind::NotFound => {
                    return Err(RetainError::Io { step: Step::Remove, path, source: error });
                }
                _ => {}
            }
        }
        let failed = |source| RetainError::Io { step: Step::Sync, path: self.dir.clone(), source };
        self.disk.sync_dir(&self.dir).map_err(failed)
    }
}
