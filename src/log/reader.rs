//! Frames in order, up to what is visible.
//!
//! A reader never reads a byte past [`Visible::end`](super::Visible): what lies beyond may still be cut, so it must not even be
//! in the buffer. It holds the file of the segment that it is in, and goes on reading it when retention has removed it.
//!
//! One that begins inside a segment goes from stop to stop first, as the [`index`](super::index) knows them: to each schema frame before, and
//! then to the last known frame not above the one asked for.

use std::cmp::Ordering;
use std::fmt;

use super::error::{Corrupt, ReadError, Step};
use super::frame::Problem;
use super::index::{Point, Trail};
use super::record::Kind;
use super::scan::{ScanError, Scanned, Scanner};
use super::segment::{SEGMENT_HEADER, SegmentHeader, segment_name};
use super::shared::{Log, Segment};
use super::{Location, Visible};
use crate::disk::{Disk, DiskFile};
use crate::event::{Seq, Version};

/// One frame, checked.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    pub seq: Seq,
    /// Version of the document that a change becomes.
    pub version: Version,
    pub kind: Kind,
    pub payload: &'a [u8],
    pub at: Location,
}

/// Reads a log in order. Blocks for as long as the disk does, and never waits for more to be written.
pub struct Reader<D: Disk> {
    log: Log<D>,
    from: Seq,
    segment: Segment<D::File>,
    scanner: Scanner<D::File>,
    /// Where it goes before it reads on in order, the next one last.
    stops: Vec<Point>,
    trail: Trail,
}

impl<D: Disk> Reader<D> {
    pub(super) fn open(log: Log<D>, from: Seq) -> Result<Reader<D>, ReadError> {
        let visible = log.visible();
        if from > visible.seq.next() {
            return Err(ReadError::Ahead { wanted: from, visible: visible.seq });
        }
        // The frame after the visible ones may lie in a segment that nothing visible is in yet: it is come to from below.
        let containing = log.shared.containing(from).filter(|header| header.first <= visible.end.segment);
        let header = match containing {
            None if from >= log.retained_start() => log.shared.containing(visible.end.segment),
            header => header,
        };
        let start = log.retained_start();
        let header = header.ok_or(ReadError::BelowRetained { wanted: from, start })?;
        let segment = log.shared.open(header)?;
        let scanner =
            Scanner::new(segment.file.clone(), header.salt, header.first, SEGMENT_HEADER, SEGMENT_HEADER);
        let trail = Trail::new(header.first);
        let mut reader = Reader { log, from, segment, scanner, stops: Vec::new(), trail };
        // The limit first: stops above it are not for this reader.
        reader.raise_limit()?;
        let limit = reader.scanner.limit();
        reader.stops = reader.log.shared.index.stops(header.first, from, limit);
        Ok(reader)
    }

    /// The next frame; `None` when everything visible has been read: wait on [`Log::watch`] then.
    ///
    /// Frames come with rising seq, none left out from the one that was asked for on. Below it, only [`Kind::Schema`] frames of its
    /// segment come, with their own, lower seq. Commits, marks and states come as they stand.
    ///
    /// # Errors
    /// What cannot be read, and where. Trying again tries the same frame.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        let scanned = loop {
            let step = if self.stops.is_empty() { self.scanner.advance() } else { self.advance_to_stop() };
            match step {
                Ok(Some(scanned)) => {
                    if self.trail.is_due(scanned.kind, scanned.offset) {
                        self.tell(scanned);
                    }
                    if scanned.seq >= self.from || scanned.kind == Kind::Schema {
                        break scanned;
                    }
                }
                Ok(None) if self.reach_further()? => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.failed(error)),
            }
        };
        Ok(Some(Frame {
            seq: scanned.seq,
            version: self.segment.header.version(scanned.seq),
            kind: scanned.kind,
            payload: self.scanner.payload(),
            at: Location { segment: self.segment.header.first, offset: scanned.offset },
        }))
    }

    /// Where the next frame begins or will begin.
    #[must_use]
    pub fn location(&self) -> Location {
        let offset = self.stops.first().map_or(self.scanner.offset(), |start| start.offset);
        Location { segment: self.segment.header.first, offset }
    }

    /// Bytes that are visible and not yet read.
    #[must_use]
    pub fn bytes_behind(&self) -> u64 {
        self.log.bytes_after(self.location())
    }

    #[cold]
    fn tell(&mut self, scanned: Scanned) {
        let at = Point { seq: scanned.seq, offset: scanned.offset };
        self.log.shared.tell(&mut self.trail, scanned.kind, at);
    }

    /// The frame at the next stop, which is left only when it was read.
    #[cold]
    fn advance_to_stop(&mut self) -> Result<Option<Scanned>, ScanError> {
        if let Some(stop) = self.stops.last() {
            self.scanner.skip_to(stop.seq, stop.offset);
            self.trail = Trail::from(self.segment.header.first, stop.offset);
        }
        let scanned = self.scanner.advance()?;
        self.stops.pop();
        Ok(scanned)
    }

    /// At the scanner's limit: raises it or goes to the next segment; false if nothing more is visible.
    fn reach_further(&mut self) -> Result<bool, ReadError> {
        // Before the limit is looked at: a segment that is sealed now has its length for good.
        let sealed = self.segment.header.first < self.log.visible().end.segment;
        if self.raise_limit()? {
            return Ok(true);
        }
        if sealed {
            self.enter_next()?;
        }
        Ok(sealed)
    }

    /// Raises the scanner's limit to what is visible of the segment; false if that is no more than before.
    fn raise_limit(&mut self) -> Result<bool, ReadError> {
        let Visible { end, .. } = self.log.visible();
        let limit = match self.segment.header.first.cmp(&end.segment) {
            // Segments before the one with the visible end are sealed.
            Ordering::Less => self.segment.file.len().map_err(|e| self.failed(ScanError::Io(e)))?,
            Ordering::Equal => end.offset,
            Ordering::Greater => return Ok(false),
        };
        let further = limit > self.scanner.limit();
        if further {
            self.scanner.raise_limit(limit);
        }
        Ok(further)
    }

    fn enter_next(&mut self) -> Result<(), ReadError> {
        let expected = self.scanner.next_seq();
        let shared = &self.log.shared;
        let next: SegmentHeader = match shared.following(self.segment.header.first) {
            Some(next) if next.first == expected => next,
            _ if expected < self.log.retained_start() => {
                let start = self.log.retained_start();
                return Err(ReadError::BelowRetained { wanted: expected, start });
            }
            _ => return Err(self.failed(ScanError::Bad(Problem::EndsEarly))),
        };
        self.segment = shared.open(next)?;
        let file = self.segment.file.clone();
        self.scanner.change_file(file, next.salt, next.first, SEGMENT_HEADER, SEGMENT_HEADER);
        self.trail = Trail::new(next.first);
        Ok(())
    }

    fn failed(&self, error: ScanError) -> ReadError {
        let path = self.log.shared.dir.join(segment_name(self.segment.header.first));
        let (offset, seq) = (self.scanner.offset(), self.scanner.next_seq());
        match error {
            ScanError::Io(source) => ReadError::Io { step: Step::Read, path, offset, seq, source },
            ScanError::Bad(problem) => Corrupt { path, offset, seq, problem }.into(),
        }
    }
}

impl<D: Disk> fmt::Debug for Reader<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reader = f.debug_struct("Reader");
        reader.field("from", &self.from).field("location", &self.location());
        reader.finish_non_exhaustive()
    }
}
