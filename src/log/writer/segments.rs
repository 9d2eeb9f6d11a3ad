//! The segment that is written: closing it and beginning the next, and cutting it back.

use std::path::PathBuf;
use std::sync::Arc;

use super::Writer;
use crate::disk::{Disk, DiskFile};
use crate::log::Location;
use crate::log::error::{Step, WriteError};
use crate::log::index::Trail;
use crate::log::record::State;
use crate::log::segment::{self, SegmentHeader, segment_name};
use crate::log::shared::Entry;

impl<D: Disk> Writer<D> {
    /// Closes the segment and begins the next.
    pub(super) fn rotate(&mut self, base: u64) -> Result<(), WriteError> {
        // Nothing begun on the old file may outlive it.
        self.settle()?;
        if self.synced < self.written {
            self.file.sync().map_err(|e| self.io(Step::Sync, e))?;
            self.synced = self.written;
        }
        let sealed = Entry { header: self.header, bytes: self.written };
        let header = SegmentHeader {
            salt: rand::random(),
            first: self.next,
            base,
            created_micros: (self.now)(),
            previous: sealed.follower(),
        };
        let state = State {
            standing: self.standing.clone(),
            open_since: self.open.map(|open| open.since),
            latest_micros: self.latest_micros,
        };
        let shared = &self.log.shared;
        let (file, bytes) = segment::create(&shared.disk, &shared.dir, &header, &state)
            .map_err(|(step, path, source)| WriteError::Io { step, path, source: Arc::new(source) })?;
        shared.segments().push(Entry { header, bytes });
        (self.header, self.file) = (header, Arc::new(file));
        (self.written, self.synced) = (bytes, bytes);
        self.next = self.next.next();
        self.last_table = None;
        self.trail = Trail::new(header.first);
        if self.open.is_none() {
            self.end = (Location { segment: header.first, offset: bytes }, self.next);
        }
        Ok(())
    }

    pub(super) fn cut_open(&mut self) -> Result<(), WriteError> {
        let (end, next) = self.end;
        let shared = Arc::clone(&self.log.shared);
        let io = |step, path: PathBuf| move |source| WriteError::Io { step, path, source: Arc::new(source) };
        if self.header.first > end.segment {
            while self.header.first > end.segment {
                let path = shared.dir.join(segment_name(self.header.first));
                shared.disk.remove(&path).map_err(io(Step::Remove, path))?;
                let synced = shared.disk.sync_dir(&shared.dir);
                synced.map_err(io(Step::Sync, shared.dir.clone()))?;
                shared.segments().pop();
                shared.close(self.header.first);
                let segments = shared.segments();
                let last = segments.last().ok_or_else(|| self.misuse("the log has no segment left"))?;
                (self.header, self.written) = (last.header, last.bytes);
            }
            let path = self.path();
            self.file = Arc::new(shared.disk.open_writable(&path).map_err(io(Step::Open, path))?);
        }
        self.file.truncate(end.offset).map_err(|e| self.io(Step::Truncate, e))?;
        self.file.sync().map_err(|e| self.io(Step::Sync, e))?;
        self.written = end.offset;
        self.synced = end.offset;
        self.set_length();
        self.trail.cut(&shared.index, end);
        (self.next, self.open, self.last_table) = (next, None, None);
        for table in self.tables.values_mut().filter(|table| table.at >= end) {
            // Not in the log any more: it is repeated before the next change. No segment begins with frame 0.
            table.at = Location::default();
        }
        // Numbers are given again, and a segment that was made to outrank somebody may be gone.
        self.rise()
    }
}
