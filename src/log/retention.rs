//! Removing segments that nobody needs.
//!
//! A sealed segment goes when every frame of it is below what anybody still needs, **and** it is older than the retention age or the
//! segments kept behind the cursors are together over the retention bytes: it stays that long only so that it can be replayed. That gives way
//! when room is short: above the low-water mark of the quota, on a disk that is nearly full, and for a transaction that needs all there is. So does what
//! a replay that goes on has yet to read, which stays over age and bytes until then. Segments go
//! from the first on, the folder synced after each, so that a crash leaves a suffix of the log. The segment that the visible log ends
//! in never goes. One that holds rows of an undecided XA transaction goes when they were carried forward, see [`held`].

use std::io;
use std::sync::atomic::Ordering;

use super::error::{RetainError, Step};
use super::held;
use super::quota::Limits;
use super::segment::{segment_name, torn_name};
use super::shared::{Entry, Log, Shared, lock};
use crate::disk::Disk;
use crate::event::Seq;

/// What of the log somebody needs yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needed {
    /// The first frame that nobody can do without, one past the lowest *synced* cursor.
    pub below: Seq,
    /// The first frame that a replay is yet to read; it gives way when room is short.
    pub replay: Option<Seq>,
}

impl From<Seq> for Needed {
    /// No replay goes on.
    fn from(below: Seq) -> Needed {
        Needed { below, replay: None }
    }
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    pub segments: usize,
    pub bytes: u64,
    /// More would go, but for what is held in it: [`Writer::carry_forward`](super::Writer::carry_forward) is due.
    pub carry: bool,
}

/// What is next.
enum Next {
    Nothing,
    Goes(Entry),
    /// What is held below this segment is in the way.
    Carry(Seq),
}

impl<D: Disk> Log<D> {
    /// Removes what may go.
    ///
    /// # Errors
    /// A file cannot be removed. The log is whole then; nothing more is removed before it is opened again.
    pub fn retain(&self, needed: impl Into<Needed>, now_micros: u64) -> Result<Retained, RetainError> {
        let (shared, needed) = (&*self.shared, needed.into());
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
            let entry = match self.next(needed, now_micros, short) {
                Next::Goes(entry) => entry,
                Next::Carry(upto) => {
                    shared.held.ask(upto);
                    shared.publish_space(space);
                    return Ok(Retained { carry: true, ..removed });
                }
                Next::Nothing => {
                    shared.publish_space(space);
                    return Ok(removed);
                }
            };
            // A removal of unknown outcome must not be followed by others: the log could come back with a hole.
            shared.remove(&entry).inspect_err(|_| shared.retention_stopped.store(true, Ordering::Relaxed))?;
            removed.segments += 1;
            removed.bytes += entry.bytes;
        }
    }

    /// Whether the first segment may go; `short`: what is kept for replays alone goes too.
    fn next(&self, needed: Needed, now_micros: u64, short: bool) -> Next {
        let shared = &*self.shared;
        // Before the end: what becomes visible meanwhile may be held.
        let end = self.visible().end.segment;
        let places = shared.held.places();
        let segments = shared.segments();
        let settled = segments.windows(2).take_while(|pair| {
            let follower = pair[1].header.first;
            follower <= needed.below && follower <= end
        });
        let behind: u64 = settled.clone().map(|pair| pair[0].bytes).sum();
        // Those whose time has come are the first ones.
        let retention = shared.options.retention;
        let mut due = 0;
        let mut upto = None;
        for pair in settled {
            let age = now_micros.saturating_sub(pair[1].header.created_micros);
            let old = u128::from(age) > retention.age.as_micros();
            let read = needed.replay.is_none_or(|replay| pair[1].header.first <= replay);
            if !(short || read && (old || behind - due > retention.bytes)) {
                break;
            }
            due += pair[0].bytes;
            upto = Some(pair[1].header.first);
        }
        match (upto, segments.first()) {
            (Some(_), Some(first)) if !held::is_held(&places, first.header.first) => Next::Goes(*first),
            (Some(upto), Some(_)) if held::is_worth(&places, upto, due) => Next::Carry(upto),
            _ => Next::Nothing,
        }
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
