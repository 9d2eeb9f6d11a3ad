//! Where a log found on disk ends, and cutting it there.
//!
//! # The rule
//!
//! Each commit and mark carries the offset of its segment that was known to be synced when it was written. In the last segment, a bad frame at or
//! above the highest such offset is a *torn tail*, whatever follows it: the pages of what was written since the last
//! sync may reach the disk in any order. A bad frame anywhere else is damage, and the log is not opened: what was durable once may
//! have been delivered, so nobody may guess it away.
//!
//! The highest offset may stand in a commit behind the bad frame. Frames behind it cannot be found by length, so every byte is tried: a
//! commit is believed when its checksum, begun with the segment's random salt, and its seq fit. Where more looks like commits than can be
//! told in seconds, the log is not opened: that is no accident, and nobody may guess.
//!
//! # What is read
//!
//! Only the last segment, since each begins with the position and says whether it begins inside a transaction. If it holds no
//! end of that transaction, then also the segment that the transaction began in, up to there.
//!
//! # How it is cut
//!
//! From the end: what is bad is kept beside first (best effort: a full disk does not stop the cut), whole segments are removed from the
//! last backwards, the folder synced after each, then the one that remains is truncated and synced. A crash in between
//! leaves a log whose recovery finds the same end.
//!
//! # What is kept is made durable
//!
//! What was read may be in the system's memory alone: the process that wrote it may have been killed before its sync, or its sync may have
//! failed, and then Linux takes pages for clean that are not on the disk, so that syncing again means nothing. Hence everything above the highest offset
//! known to be synced is written again where it stands, synced, and read once more, before a segment follows it and before anybody reads it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Corrupt, OpenError, Step};
use super::frame::{Head, Problem};
use super::record::{Commit, DECODE_LIMIT, HEADER, Kind, Mark, State};
use super::scan::{ScanError, Scanned, Scanner};
use super::segment::{SEGMENT_HEADER, segment_name, torn_name};
use super::shared::Entry;
use super::standing::Standing;
use crate::disk::{Disk, DiskFile};
use crate::event::Seq;

/// Most that is kept of a torn tail, bytes.
const KEEP_TORN: u64 = 1 << 20;

/// What is written again at once, bytes.
const AT_ONCE: usize = 1 << 20;

/// What opening a log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// No log: a new one was begun.
    Empty,
    /// It ended with a whole transaction.
    Clean,
    /// It ended inside a transaction, which was cut.
    OpenTransactionCut(Cut),
    /// It ended with bytes that are no frame; they and the transaction before them, if it was open, were cut.
    TornTail { torn: Torn, cut: Option<Cut> },
}

/// A transaction without its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Its first frame: the number is given again.
    pub first: Seq,
    pub frames: u64,
    /// Whole segments that went with it.
    pub segments: usize,
}

/// Bytes after the last frame that are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    pub path: PathBuf,
    /// Where they began, bytes.
    pub offset: u64,
    pub bytes: u64,
    /// Where the first 1 MiB of them is kept; `None` if the disk had no room.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Recovered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Recovered::Empty => f.write_str("a new log was begun"),
            Recovered::Clean => f.write_str("the log ended with a whole transaction"),
            Recovered::OpenTransactionCut(cut) => write!(f, "{cut}"),
            Recovered::TornTail { torn, cut: None } => write!(f, "{torn}"),
            Recovered::TornTail { torn, cut: Some(cut) } => write!(f, "{torn}; {cut}"),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cut { first, frames, segments } = self;
        write!(
            f,
            "a transaction without its commit was cut: {frames} frames from {first} on, {segments} whole segments"
        )
    }
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Torn { path, offset, bytes, kept } = self;
        write!(f, "a torn tail of {bytes} bytes at offset {offset} of {path:?} was cut and ")?;
        match kept {
            Some(kept) => write!(f, "kept in {kept:?}"),
            None => f.write_str("could not be kept beside"),
        }
    }
}

/// Where a log ends: behind its last whole transaction.
#[derive(Clone, Debug)]
pub struct End {
    /// Index of the segment, and the offset in it.
    pub segment: usize,
    pub offset: u64,
    /// The number after the last frame.
    pub next: Seq,
    pub standing: Option<Standing>,
    /// The server's time of the last commit or mark read; 0 if there was none.
    pub time_micros: u64,
    /// The latest of all below the end, as [`State::latest_micros`] has it.
    pub latest_micros: u64,
    /// In the segment, the highest offset at or below the end that is known to be synced.
    pub synced: u64,
    /// Frames behind the end.
    pub open_frames: u64,
    /// In the last segment: where the bad bytes begin, and the file's length.
    pub torn: Option<(u64, u64)>,
}

/// Finds where the log `segments` ends; changes nothing.
///
/// # Errors
/// A file cannot be read, or the log is damaged.
pub fn find_end<D: Disk>(disk: &D, dir: &Path, segments: &[Entry]) -> Result<Option<End>, OpenError> {
    let Some(last) = segments.len().checked_sub(1) else { return Ok(None) };
    let scan = Scan::of(disk, dir, segments, last)?.run(None)?;
    let (open_since, mut end) = match scan {
        Ended::Inside { since, torn, next } => (since, End { torn, next, ..End::nowhere() }),
        Ended::At(end) => return Ok(Some(*end)),
    };
    // The last segment holds no end of the transaction that it begins inside of.
    let lost = || {
        let path = dir.join(segment_name(segments[last].header.first));
        Corrupt { path, offset: SEGMENT_HEADER, seq: open_since, problem: Problem::EndsEarly }
    };
    let found = end_before(disk, dir, segments, open_since)?.ok_or_else(lost)?;
    end = End { open_frames: end.next.0 - found.next.0, torn: end.torn, ..found };
    Ok(Some(end))
}

/// Finds the last end of a transaction below the frame `upto`, which is in the last segment or the one after it; changes nothing. All
/// that is below `upto` in its segment must be whole, and in the segment of the end what is below that. `None` if `segments` begin inside
/// a transaction that does not end below `upto`.
///
/// # Errors
/// A file cannot be read, or the log is damaged.
pub fn find_end_below<D: Disk>(
    disk: &D,
    dir: &Path,
    segments: &[Entry],
    upto: Seq,
) -> Result<Option<End>, OpenError> {
    let Some(last) = segments.len().checked_sub(1) else { return Ok(None) };
    match Scan::of(disk, dir, segments, last)?.run(Some(upto))? {
        Ended::At(end) => Ok(Some(*end)),
        Ended::Inside { since, .. } => end_before(disk, dir, segments, since),
    }
}

/// The end that the transaction beginning with the frame `since` follows; `None` if no segment is there that holds it.
fn end_before<D: Disk>(
    disk: &D,
    dir: &Path,
    segments: &[Entry],
    since: Seq,
) -> Result<Option<End>, OpenError> {
    let Some(began) = segments.partition_point(|entry| entry.header.first < since).checked_sub(1) else {
        return Ok(None);
    };
    match Scan::of(disk, dir, segments, began)?.run(Some(since))? {
        Ended::At(found) => Ok(Some(*found)),
        Ended::Inside { .. } => Ok(None),
    }
}

impl End {
    fn nowhere() -> End {
        End {
            segment: 0,
            offset: 0,
            next: Seq(0),
            standing: None,
            time_micros: 0,
            latest_micros: 0,
            synced: 0,
            open_frames: 0,
            torn: None,
        }
    }
}

/// How a scan of one segment ended.
enum Ended {
    At(Box<End>),
    /// The segment begins inside a transaction and does not end it; `next` is the number after its last frame.
    Inside {
        since: Seq,
        torn: Option<(u64, u64)>,
        next: Seq,
    },
}

struct Scan<F> {
    file: Arc<F>,
    path: PathBuf,
    index: usize,
    entry: Entry,
    scanner: Scanner<F>,
}

impl<F: DiskFile> Scan<F> {
    fn of<D: Disk<File = F>>(
        disk: &D,
        dir: &Path,
        segments: &[Entry],
        index: usize,
    ) -> Result<Scan<F>, OpenError> {
        let entry = segments[index];
        let path = dir.join(segment_name(entry.header.first));
        let file = Arc::new(disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?);
        let (salt, first) = (entry.header.salt, entry.header.first);
        let scanner = Scanner::new(file.clone(), salt, first, SEGMENT_HEADER, entry.bytes);
        Ok(Scan { file, path, index, entry, scanner })
    }

    /// Reads up to the frame `upto`, all of which must be whole; without one, to the end of the log's last segment.
    fn run(mut self, upto: Option<Seq>) -> Result<Ended, OpenError> {
        let state: State = match self.scanner.advance() {
            Ok(Some(scanned @ Scanned { kind: Kind::State, .. })) => State::decode(self.scanner.payload())
                .map_err(|e| self.corrupt_at(scanned, Problem::Payload(e.to_string())))?,
            Ok(Some(scanned)) => return Err(self.corrupt_at(scanned, Problem::NoState).into()),
            Ok(None) => return Err(self.corrupt(Problem::NoState).into()),
            Err(ScanError::Io(error)) => return Err(OpenError::io(Step::Read, &self.path, error)),
            // Header and state were synced before the file had its name.
            Err(ScanError::Bad(problem)) => return Err(self.corrupt(problem).into()),
        };
        let mut end = End {
            segment: self.index,
            offset: self.scanner.offset(),
            synced: self.scanner.offset(),
            next: self.scanner.next_seq(),
            standing: state.standing,
            latest_micros: state.latest_micros,
            ..End::nowhere()
        };
        let mut inside = state.open_since;
        let mut torn = None;
        while upto.is_none_or(|upto| self.scanner.next_seq() < upto) {
            let bad = match self.scanner.advance() {
                Ok(Some(scanned)) => match self.end_of(scanned, &mut end) {
                    Ok(ended) => {
                        inside = inside.filter(|_| !ended);
                        continue;
                    }
                    Err(problem) => return Err(self.corrupt_at(scanned, problem).into()),
                },
                Ok(None) if upto.is_none() => break,
                Ok(None) => Problem::EndsEarly,
                Err(ScanError::Io(error)) => return Err(OpenError::io(Step::Read, &self.path, error)),
                Err(ScanError::Bad(problem)) => problem,
            };
            // A whole frame that only a newer version can have written is no torn one.
            let unknown = matches!(bad, Problem::Kind(_) | Problem::Flags(_));
            if upto.is_some() || unknown || self.is_known_synced()? {
                return Err(self.corrupt(bad).into());
            }
            torn = Some((self.scanner.offset(), self.entry.bytes));
            break;
        }
        let next = self.scanner.next_seq();
        match inside {
            Some(since) => Ok(Ended::Inside { since, torn, next }),
            None => Ok(Ended::At(End { open_frames: next.0 - end.next.0, torn, ..end }.into())),
        }
    }

    /// Moves `end` behind the frame if it ends a transaction, and says whether it does.
    fn end_of(&self, scanned: Scanned, end: &mut End) -> Result<bool, Problem> {
        let wrong = |error: bincode::error::DecodeError| Problem::Payload(error.to_string());
        let version = self.entry.header.version(scanned.seq);
        let synced = match scanned.kind {
            Kind::Commit => {
                let commit = Commit::decode(self.scanner.payload()).map_err(wrong)?;
                let synced = commit.synced;
                end.time_micros = commit.time_micros;
                end.standing.get_or_insert_default().committed(commit, version);
                synced
            }
            Kind::Mark => {
                let mark = Mark::decode(self.scanner.payload()).map_err(wrong)?;
                let synced = mark.synced;
                end.time_micros = mark.time_micros;
                end.standing.get_or_insert_default().marked(mark, version);
                synced
            }
            Kind::State => return Err(Problem::Kind(Kind::State as u8)),
            Kind::Schema | Kind::Change | Kind::Prepared | Kind::Sweep => return Ok(false),
        };
        end.synced = end.synced.max(u64::from_le_bytes(synced.0).min(scanned.offset));
        end.latest_micros = end.latest_micros.max(end.time_micros);
        (end.offset, end.next) = (self.scanner.offset(), self.scanner.next_seq());
        Ok(true)
    }

    /// Whether a commit or mark behind the bad frame at the scanner's offset says that the frame was synced.
    fn is_known_synced(&self) -> Result<bool, OpenError> {
        let read_failed = |error| OpenError::io(Step::Read, &self.path, error);
        let (bad, length) = (self.scanner.offset(), self.entry.bytes);
        // Most that is read to tell commits from what looks like them, bytes. Hardly any bytes do by chance; whoever may write rows can make
        // millions that do, each of them nearly as long as the file.
        const MOST_TOLD: usize = if cfg!(test) { 16 << 20 } else { 4 << 30 };
        // A head and the synced offset that a commit's payload begins with.
        const LEAST: usize = HEADER + 8;
        let mut window = vec![0; 1 << 20];
        let (mut frame, mut told) = (Vec::new(), 0);
        let mut at = bad;
        while at + LEAST as u64 <= length {
            let size = usize::try_from(length - at).map_or(window.len(), |left| left.min(window.len()));
            let read = self.file.read_at(&mut window[..size], at).map_err(read_failed)?;
            if read < LEAST {
                break;
            }
            for i in 0..=read - LEAST {
                let candidate = &window[i..i + LEAST];
                if !matches!(candidate[16], 4 | 5) || candidate[17] != 0 {
                    continue;
                }
                let (offset, head) = (at + i as u64, Head::read(candidate));
                let synced = u64::from_le_bytes(std::array::from_fn(|i| candidate[HEADER + i]));
                let most = self.scanner.next_seq().0 + (offset - bad) / HEADER as u64;
                let bytes = HEADER + head.length as usize;
                let fits = synced > bad && synced <= offset && (8..=DECODE_LIMIT).contains(&(bytes - HEADER));
                if !fits
                    || offset + bytes as u64 > length
                    || head.seq < self.scanner.next_seq()
                    || head.seq.0 > most
                {
                    continue;
                }
                told += bytes;
                frame.resize(frame.len().max(bytes), 0);
                let frame = &mut frame[..bytes];
                let read = self.file.read_at(frame, offset).map_err(read_failed)?;
                let whole = read == bytes && head.check(frame, head.seq, self.entry.header.salt).is_ok();
                if whole || told > MOST_TOLD {
                    return Ok(true);
                }
            }
            at += (read - LEAST + 1) as u64;
        }
        Ok(false)
    }

    fn corrupt(&self, problem: Problem) -> Corrupt {
        let (offset, seq) = (self.scanner.offset(), self.scanner.next_seq());
        Corrupt { path: self.path.clone(), offset, seq, problem }
    }

    fn corrupt_at(&self, scanned: Scanned, problem: Problem) -> Corrupt {
        Corrupt { path: self.path.clone(), offset: scanned.offset, seq: scanned.seq, problem }
    }
}

/// Cuts the log to `end`, durably, and takes what is cut out of `segments`.
///
/// # Errors
/// What the disk says. Opening again goes on from there.
pub fn cut<D: Disk>(
    disk: &D,
    dir: &Path,
    segments: &mut Vec<Entry>,
    end: &End,
) -> Result<Recovered, OpenError> {
    let torn = match (end.torn, segments.last()) {
        (Some((offset, length)), Some(last)) => Some(keep_torn(disk, dir, last, offset, length)),
        _ => None,
    };
    let removed = segments.len() - 1 - end.segment;
    while segments.len() - 1 > end.segment {
        let Some(last) = segments.pop() else { break };
        let path = dir.join(segment_name(last.header.first));
        disk.remove(&path).map_err(|e| OpenError::io(Step::Remove, &path, e))?;
        disk.sync_dir(dir).map_err(|e| OpenError::io(Step::Sync, dir, e))?;
    }
    let kept = &mut segments[end.segment];
    // A segment that others followed was synced before they were made.
    let unsure = removed == 0 && end.synced < end.offset;
    if kept.bytes > end.offset || unsure {
        let path = dir.join(segment_name(kept.header.first));
        let file = disk.open_writable(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        // A truncation that is interrupted may leave the old length with zeros behind the new one. Zeros from the end on, and a commit behind
        // them that knows of a synced frame of the open transaction, would read as damage: what is bad goes first, durably.
        if let Some((bad, _)) = end.torn.filter(|(bad, _)| removed == 0 && *bad > end.offset) {
            file.truncate(bad).map_err(|e| OpenError::io(Step::Truncate, &path, e))?;
            file.sync().map_err(|e| OpenError::io(Step::Sync, &path, e))?;
        }
        if kept.bytes > end.offset {
            file.truncate(end.offset).map_err(|e| OpenError::io(Step::Truncate, &path, e))?;
            kept.bytes = end.offset;
        }
        if unsure {
            write_again(&file, &path, end.synced, end.offset)?;
        }
        file.sync().map_err(|e| OpenError::io(Step::Sync, &path, e))?;
        if unsure {
            read_again(file, path, kept, end.next)?;
        }
    }
    let cut = Cut { first: end.next, frames: end.open_frames, segments: removed };
    let cut = Some(cut).filter(|cut| cut.frames > 0);
    Ok(match (torn, cut) {
        (Some(torn), cut) => Recovered::TornTail { torn, cut },
        (None, Some(cut)) => Recovered::OpenTransactionCut(cut),
        (None, None) => Recovered::Clean,
    })
}

/// Writes what stands in `from..to` again, so that the next sync carries it to the disk whatever the system believes of those pages.
pub fn write_again<F: DiskFile>(file: &F, path: &Path, from: u64, to: u64) -> Result<(), OpenError> {
    let mut buffer = vec![0; usize::try_from(to - from).map_or(AT_ONCE, |bytes| bytes.min(AT_ONCE))];
    let mut at = from;
    while at < to {
        let size = usize::try_from(to - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = file.read_at(&mut buffer[..size], at).map_err(|e| OpenError::io(Step::Read, path, e))?;
        if read < size {
            let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(OpenError::io(Step::Read, path, source));
        }
        file.write_all_at(&buffer[..size], at).map_err(|e| OpenError::io(Step::Write, path, e))?;
        at += size as u64;
    }
    Ok(())
}

/// Holds that the frames that were found are those that were written again: in between, the system may have given their pages up.
fn read_again<F: DiskFile>(file: F, path: PathBuf, kept: &Entry, next: Seq) -> Result<(), OpenError> {
    let Entry { header, bytes } = *kept;
    let mut scanner = Scanner::new(Arc::new(file), header.salt, header.first, SEGMENT_HEADER, bytes);
    let problem = loop {
        match scanner.advance() {
            Ok(Some(_)) => {}
            Ok(None) if scanner.next_seq() == next => return Ok(()),
            Ok(None) => break Problem::EndsEarly,
            Err(ScanError::Bad(problem)) => break problem,
            Err(ScanError::Io(error)) => return Err(OpenError::io(Step::Read, &path, error)),
        }
    };
    Err(Corrupt { path, offset: scanner.offset(), seq: scanner.next_seq(), problem }.into())
}

fn keep_torn<D: Disk>(disk: &D, dir: &Path, entry: &Entry, offset: u64, length: u64) -> Torn {
    let path = dir.join(segment_name(entry.header.first));
    let beside = dir.join(torn_name(entry.header.first));
    let bytes = length - offset;
    let copy = || {
        let mut kept = vec![0; usize::try_from(bytes.min(KEEP_TORN)).unwrap_or(0)];
        let read = disk.open(&path)?.read_at(&mut kept, offset)?;
        // An earlier tail of a segment of this name gives way.
        match disk.remove(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create_new(&beside)?;
        file.write_all_at(&kept[..read], 0)?;
        file.sync()
    };
    let kept = match copy() {
        Ok(()) => Some(beside),
        Err(_) => {
            // Half a copy is worth less than its space.
            let _ = disk.remove(&beside);
            None
        }
    };
    Torn { path, offset, bytes, kept }
}
