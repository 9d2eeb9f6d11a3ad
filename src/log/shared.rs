//! [`Log`]: what everybody but the writer holds. It knows the segments, how far they may be read, and a few open files.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};

use super::error::{ReadError, Step};
use super::frame::{Head, Problem};
use super::held::HeldPlaces;
use super::index::{Index, Point, Trail};
use super::quota::{Limits, Space};
use super::reader::{Frame, Reader};
use super::record::{HEADER, Kind};
use super::segment::{SEGMENT_HEADER, SegmentHeader, segment_name};
use super::snapshot::Snapshot;
use super::{Corrupt, Gap, Location, LogOptions, Standing, Visible};
use crate::disk::{Disk, DiskFile, Reserve};
use crate::event::{Seq, Version};

/// Files kept open for [`Log::read_at`].
const OPEN_FILES: usize = 16;

/// What [`Log::read_at`] reads at first, bytes: most rows whole.
const FIRST_READ: usize = 1024;

/// A log's segments and visibility; cheap to clone.
pub struct Log<D: Disk> {
    pub(super) shared: Arc<Shared<D>>,
}

impl<D: Disk> Clone for Log<D> {
    fn clone(&self) -> Log<D> {
        Log { shared: Arc::clone(&self.shared) }
    }
}

pub(super) struct Shared<D: Disk> {
    pub disk: D,
    pub dir: PathBuf,
    pub options: LogOptions,
    /// In order, never empty; the writer appends to the last.
    segments: Mutex<Vec<Entry>>,
    pub visible: watch::Sender<Visible>,
    /// Tables that need a snapshot, as of what is visible.
    pub gaps: watch::Sender<Vec<Gap>>,
    pub snapshots: watch::Sender<Vec<Snapshot>>,
    /// Most recently used last.
    files: Mutex<Vec<Arc<Segment<D::File>>>>,
    pub index: Index,
    /// Held while segments are removed.
    pub retaining: Mutex<()>,
    pub retention_stopped: AtomicBool,
    pub read_only: bool,
    pub limits: Limits,
    /// Room that the log leaves free, since it is to be held back again.
    pub reserve: OnceLock<Reserve<D>>,
    pub space: watch::Sender<Space>,
    /// Measurements so far.
    pub measurements: AtomicU64,
    /// Everything that is kept for a replay alone is to go.
    pub squeezed: AtomicBool,
    pub room_wanted: Notify,
    pub held: HeldPlaces,
}

/// One segment as the folder has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub header: SegmentHeader,
    pub bytes: u64,
}

/// One segment, open for reading: it can be read even when it is no longer retained.
pub(super) struct Segment<F> {
    pub header: SegmentHeader,
    pub file: Arc<F>,
}

/// What a log keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    pub segments: usize,
    pub bytes: u64,
    /// The first frame that is kept.
    pub first: Seq,
    /// The last frame that is visible.
    pub last: Seq,
}

/// One segment, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    pub first: Seq,
    /// Its last frame, or of the log's last segment the last that is visible; `None` if none is.
    pub last: Option<Seq>,
    pub bytes: u64,
    /// Versions of its changes are this plus their seq.
    pub base: u64,
    /// Wall time of its making, microseconds since 1970 UTC.
    pub created_micros: u64,
    /// Wall time of its closing; `None` if it is being written.
    pub sealed_micros: Option<u64>,
}

impl<D: Disk> fmt::Debug for Log<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut log = f.debug_struct("Log");
        log.field("dir", &self.shared.dir).field("visible", &self.visible());
        log.finish_non_exhaustive()
    }
}

impl<D: Disk> Log<D> {
    /// How far the log may be read now.
    #[must_use]
    pub fn visible(&self) -> Visible {
        *self.shared.visible.borrow()
    }

    /// To wait for more.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Visible> {
        self.shared.visible.subscribe()
    }

    /// The tables that need a snapshot, as of what is visible; over [`MAX_GAPS`](super::MAX_GAPS) one of `*.*` stands for the rest.
    #[must_use]
    pub fn gaps(&self) -> watch::Receiver<Vec<Gap>> {
        self.shared.gaps.subscribe()
    }

    /// Snapshots of tables that are not over, as of what is visible, in the order in which they were wanted.
    #[must_use]
    pub fn snapshots(&self) -> watch::Receiver<Vec<Snapshot>> {
        self.shared.snapshots.subscribe()
    }

    /// The first frame that is kept. A cursor is at least the one before it.
    #[must_use]
    pub fn retained_start(&self) -> Seq {
        self.shared.segments().first().map_or(Seq(0), |entry| entry.header.first)
    }

    /// Reads from the frame `from` on, once it is visible. Schemas that its segment holds before `from` come first.
    ///
    /// # Errors
    /// `from` is no longer kept, is more than one past what is visible, or its segment cannot be opened.
    pub fn reader(&self, from: Seq) -> Result<Reader<D>, ReadError> {
        Reader::open(self.clone(), from)
    }

    /// Reads one frame again that a [`Reader`] handed out. `buffer` is overwritten, and grows to the longest frame that it held.
    ///
    /// # Errors
    /// The segment is no longer kept, cannot be read, or has no frame there.
    pub fn read_at<'b>(&self, at: Location, buffer: &'b mut Vec<u8>) -> Result<Frame<'b>, ReadError> {
        let segment = self.shared.segment(at.segment)?;
        let failed = |seq, source| ReadError::Io {
            step: Step::Read,
            path: self.shared.dir.join(segment_name(at.segment)),
            offset: at.offset,
            seq,
            source,
        };
        let mut seq = Seq(0);
        let nowhere = |problem| ReadError::Nowhere { at, problem };
        let mut filled = 0;
        let mut wanted = HEADER;
        while filled < wanted {
            // The head's own read brings most frames whole.
            let size = if filled == 0 { FIRST_READ } else { wanted };
            buffer.resize(buffer.len().max(size), 0);
            let read = segment.file.read_at(&mut buffer[filled..size], at.offset + filled as u64);
            filled += read.map_err(|source| failed(seq, source))?;
            if filled < wanted {
                return Err(nowhere(Problem::Short));
            }
            let head = Head::read(buffer);
            seq = head.seq;
            wanted = head.frame_bytes().map_err(nowhere)?;
            if filled < wanted {
                // No length makes the buffer larger than what the file holds.
                let length = segment.file.len().map_err(|source| failed(seq, source))?;
                if at.offset + wanted as u64 > length {
                    return Err(nowhere(Problem::Short));
                }
            }
        }
        let head = Head::read(buffer);
        let kind = head.check(&buffer[..wanted], seq, segment.header.salt).map_err(nowhere)?;
        let version = segment.header.version(seq);
        Ok(Frame { seq, version, kind, payload: &buffer[HEADER..wanted], at })
    }

    /// The highest version that a visible change of this log can have; versions above it are somebody else's.
    #[must_use]
    pub fn highest_version(&self) -> Version {
        let visible = self.visible().seq;
        let base = self.shared.segments().last().map_or(0, |entry| entry.header.base);
        Version(base.saturating_add(visible.0))
    }

    /// Bytes from `at` to the end of what is visible.
    #[must_use]
    pub fn bytes_after(&self, at: Location) -> u64 {
        let end = self.visible().end;
        if at >= end {
            return 0;
        }
        let segments = self.shared.segments();
        let from = segments.partition_point(|entry| entry.header.first < at.segment);
        let after = &segments[from..];
        let whole: u64 = after.iter().take_while(|e| e.header.first < end.segment).map(|e| e.bytes).sum();
        // A segment that is no longer kept does not count.
        let passed = if after.first().is_some_and(|e| e.header.first == at.segment) { at.offset } else { 0 };
        (whole + end.offset).saturating_sub(passed)
    }

    /// What the log keeps.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let last = self.visible().seq;
        let segments = self.shared.segments();
        Stats {
            segments: segments.len(),
            bytes: segments.iter().map(|entry| entry.bytes).sum(),
            first: segments.first().map_or(Seq(0), |entry| entry.header.first),
            last,
        }
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let visible = self.visible();
        let segments = self.shared.segments();
        let followers = segments.iter().skip(1).map(Some).chain([None]);
        segments
            .iter()
            .zip(followers)
            .map(|(Entry { header, bytes }, follower)| SegmentInfo {
                first: header.first,
                last: match follower {
                    Some(follower) => Some(follower.header.first.previous()),
                    None => Some(visible.seq).filter(|seq| *seq >= header.first),
                },
                bytes: *bytes,
                base: header.base,
                created_micros: header.created_micros,
                sealed_micros: follower.map(|follower| follower.header.created_micros),
            })
            .collect()
    }
}

/// What a thread that panicked left in these mutexes is whole: they are changed by single calls.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<D: Disk> Shared<D> {
    pub fn new(
        disk: D,
        dir: PathBuf,
        options: LogOptions,
        segments: Vec<Entry>,
        limits: Limits,
        visible: Visible,
        read_only: bool,
    ) -> Shared<D> {
        Shared {
            disk,
            dir,
            options,
            segments: Mutex::new(segments),
            visible: watch::Sender::new(visible),
            gaps: watch::Sender::default(),
            snapshots: watch::Sender::default(),
            files: Mutex::default(),
            index: Index::default(),
            retaining: Mutex::default(),
            retention_stopped: AtomicBool::new(false),
            read_only,
            limits,
            reserve: OnceLock::new(),
            space: watch::Sender::default(),
            measurements: AtomicU64::new(0),
            squeezed: AtomicBool::new(false),
            room_wanted: Notify::new(),
            held: HeldPlaces::default(),
        }
    }

    pub fn segments(&self) -> MutexGuard<'_, Vec<Entry>> {
        lock(&self.segments)
    }

    /// Tells the gaps at the visible end.
    pub fn tell_gaps(&self, standing: Option<&Standing>) {
        let gaps = standing.map_or(&[][..], |standing| &standing.gaps);
        self.gaps.send_if_modified(|told| {
            let news = told.as_slice() != gaps;
            if news {
                *told = gaps.to_vec();
            }
            news
        });
    }

    /// Tells the snapshots at the visible end.
    pub fn tell_snapshots(&self, standing: Option<&Standing>) {
        let snapshots = standing.map_or(&[][..], |standing| &standing.snapshots);
        self.snapshots.send_if_modified(|told| {
            let news = told.as_slice() != snapshots;
            told.truncate(snapshots.len());
            // Most wait, and there may be thousands: only what is new is copied.
            let changed = told.iter_mut().zip(snapshots).filter(|(told, snapshot)| told != snapshot);
            changed.for_each(|(told, snapshot)| told.clone_from(snapshot));
            told.extend_from_slice(&snapshots[told.len()..]);
            news
        });
    }

    /// Header of the segment that holds the frame `seq` or will hold it; `None` below the retained start.
    pub fn containing(&self, seq: Seq) -> Option<SegmentHeader> {
        let segments = self.segments();
        let after = segments.partition_point(|entry| entry.header.first <= seq);
        after.checked_sub(1).map(|i| segments[i].header)
    }

    /// Header of the first segment that begins above `first`.
    pub fn following(&self, first: Seq) -> Option<SegmentHeader> {
        let segments = self.segments();
        let after = segments.partition_point(|entry| entry.header.first <= first);
        segments.get(after).map(|entry| entry.header)
    }

    /// Opens a segment for reading.
    pub fn open(&self, header: SegmentHeader) -> Result<Segment<D::File>, ReadError> {
        let path = self.dir.join(segment_name(header.first));
        let file = self.disk.open(&path).map_err(|source| {
            // Retention may have been quicker.
            if source.kind() == std::io::ErrorKind::NotFound && !self.keeps(header) {
                let start = self.segments().first().map_or(Seq(0), |entry| entry.header.first);
                return ReadError::BelowRetained { wanted: header.first, start };
            }
            let (step, offset) = (Step::Open, 0);
            ReadError::Io { step, path: path.clone(), offset, seq: header.first, source }
        })?;
        let found = SegmentHeader::read(&file, &path, header.first)
            .map_err(|error| ReadError::Segment { path: path.clone(), source: Box::new(error) })?;
        if found != header {
            let (offset, seq, problem) = (SEGMENT_HEADER, header.first, Problem::Replaced);
            return Err(Corrupt { path, offset, seq, problem }.into());
        }
        Ok(Segment { header, file: Arc::new(file) })
    }

    /// Whether a segment whose file was not found should be there. Beside the process that writes, its retention is noticed so: it
    /// removes segments from the first on, and never the one that the visible log ends in.
    fn keeps(&self, header: SegmentHeader) -> bool {
        if self.containing(header.first) != Some(header) {
            return false;
        }
        let end = self.visible.borrow().end.segment;
        let first = self.segments().first().map_or(header.first, |entry| entry.header.first);
        let missing = |first| {
            let opened = self.disk.open(&self.dir.join(segment_name(first)));
            opened.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        if !self.read_only || header.first >= end || !missing(first) {
            return true;
        }
        self.segments().retain(|entry| entry.header.first > header.first);
        false
    }

    /// Length of the segment that begins with `first`, bytes; 0 if it is not kept.
    pub fn bytes_of(&self, first: Seq) -> u64 {
        let segments = self.segments();
        let found = segments.binary_search_by_key(&first, |entry| entry.header.first);
        found.map_or(0, |place| segments[place].bytes)
    }

    /// A segment for reading, from the files kept open if it is there.
    pub fn segment(&self, first: Seq) -> Result<Arc<Segment<D::File>>, ReadError> {
        {
            let mut files = lock(&self.files);
            if let Some(i) = files.iter().rposition(|segment| segment.header.first == first) {
                files[i..].rotate_left(1);
                return Ok(Arc::clone(&files[files.len() - 1]));
            }
        }
        let header = self.containing(first).filter(|header| header.first == first).ok_or_else(|| {
            let start = self.segments().first().map_or(Seq(0), |entry| entry.header.first);
            ReadError::BelowRetained { wanted: first, start }
        })?;
        let segment = Arc::new(self.open(header)?);
        let mut files = lock(&self.files);
        if files.len() == OPEN_FILES {
            files.remove(0);
        }
        files.push(Arc::clone(&segment));
        Ok(segment)
    }

    /// Leaves a trail in the index, but of a segment that is gone: it was forgotten when it went.
    pub fn tell(&self, trail: &mut Trail, kind: Kind, at: Point) {
        let segments = self.segments();
        if segments.binary_search_by_key(&trail.segment(), |entry| entry.header.first).is_ok() {
            trail.tell(&self.index, kind, at);
        }
    }

    /// Forgets a segment that is no longer among the log's, so that its blocks can be freed.
    pub fn close(&self, first: Seq) {
        lock(&self.files).retain(|segment| segment.header.first != first);
        self.index.forget(first);
    }
}
