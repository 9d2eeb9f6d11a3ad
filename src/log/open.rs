//! From folder to writer and log.
//!
//! Every opening for writing begins a new segment, because a new version base needs a header: `base = max(previous base + 2^16, now - next seq)`.
//! Versions then rise through the log, and those of a log begun anew outrank what an older folder sent. The 2^16 ([`VERSIONS_AHEAD`]) lie above all that a
//! sink may have announced while the log was open before.
//!
//! A last segment that holds nothing but header and state is replaced by the new one, so that restarts do not pile up empty
//! segments. Both have the same first seq and so the same name; the new one is synced before it is renamed over the old, so at every instant one
//! of them is there whole. Both carry the same position, no change has a version from the old base, no later segment names the old salt,
//! and no reader has it open: this process has just begun to have any.

use std::io;
use std::path::Path;

use super::error::{OpenError, Step};
use super::held;
use super::record::State;
use super::recovery::{self, Recovered};
use super::segment::{self, LOCK, Name, Previous, SEGMENT_HEADER, SegmentHeader, segment_name};
use super::shared::{Entry, Log, Shared};
use super::writer::{Start, Writer};
use super::{Location, LogOptions, Standing, Visible};
use crate::clock::Clock;
use crate::disk::{Disk, DiskFile};
use crate::event::{Seq, VERSIONS_AHEAD};

/// 2026-01-01T00:00:00Z: a clock that reads less is wrong, and versions taken from it would be too low.
pub const NOT_BEFORE_MICROS: u64 = 1_767_225_600_000_000;

/// How often a listing is tried again that a writing process changed meanwhile.
pub(super) const LISTINGS: usize = 5;

/// A log open for writing.
#[derive(Debug)]
pub struct Opened<D: Disk> {
    pub writer: Writer<D>,
    pub log: Log<D>,
    pub recovered: Recovered,
}

/// Opens the log in the folder `dir`, made if missing: locks it, cuts what a crash left, begins a segment.
///
/// # Errors
/// See [`OpenError`].
pub fn open<D: Disk, C: Clock>(
    disk: &D,
    clock: &C,
    dir: &Path,
    options: LogOptions,
) -> Result<Opened<D>, OpenError> {
    disk.create_dir_all(dir).map_err(|e| OpenError::io(Step::Create, dir, e))?;
    let path = dir.join(LOCK);
    let lock = disk.lock(&path).map_err(|e| OpenError::io(Step::Lock, &path, e))?;
    let lock = lock.ok_or(OpenError::Locked { path })?;

    let now = clock.wall_micros();
    if now < NOT_BEFORE_MICROS {
        return Err(OpenError::Clock { now_micros: now });
    }
    let Survey { mut segments, temporary } = survey(disk, dir)?;
    let end = recovery::find_end(disk, dir, &segments)?;
    // From here on the folder is changed.
    for name in temporary {
        let path = dir.join(name);
        disk.remove(&path).map_err(|e| OpenError::io(Step::Remove, &path, e))?;
    }
    let recovered = match &end {
        Some(end) => recovery::cut(disk, dir, &mut segments, end)?,
        None => Recovered::Empty,
    };

    let free = disk.free_bytes(dir).map_err(|e| OpenError::io(Step::Measure, dir, e))?;
    let limits = options.limits(segments.iter().map(|entry| entry.bytes).sum(), free);
    let (next, standing, time_micros, latest_micros) =
        end.map_or((Seq(1), None, 0, 0), |end| (end.next, end.standing, end.time_micros, end.latest_micros));
    let floor = now.max(options.versions_above.0.saturating_add(1));
    let (mut header, state) = first_segment(&mut segments, next, floor, standing.clone(), latest_micros);
    header.created_micros = now;
    let (file, bytes) = segment::create(disk, dir, &header, &state)
        .map_err(|(step, path, source)| OpenError::Io { step, path, source })?;
    segments.push(Entry { header, bytes });

    let visible = Visible {
        seq: header.first.previous(),
        end: Location { segment: header.first, offset: SEGMENT_HEADER },
        time_micros,
        ..Visible::default()
    };
    let options = LogOptions { segment_bytes: limits.segment, ..options };
    let shared = Shared::new(disk.clone(), dir.to_path_buf(), options, segments, limits, visible, false);
    shared.tell_gaps(standing.as_ref());
    shared.tell_snapshots(standing.as_ref());
    shared.held.publish(held::spans(standing.as_ref()));
    let log = Log { shared: shared.into() };
    let clock = clock.clone();
    let now = Box::new(move || clock.wall_micros());
    let start = Start { header, file, bytes, standing, latest_micros, visible };
    let writer = Writer::start(log.clone(), start, now, lock);
    Ok(Opened { writer, log, recovered })
}

/// Header and state of the segment that an opening begins, its versions not below `floor`; an empty last segment leaves `segments` for it.
fn first_segment(
    segments: &mut Vec<Entry>,
    next: Seq,
    floor: u64,
    standing: Option<Standing>,
    latest_micros: u64,
) -> (SegmentHeader, State) {
    let last = segments.last().map(|last| last.header);
    let (first, previous) = match last {
        Some(last) if last.first.next() == next => (last.first, last.previous),
        Some(_) => (next, segments.last().map(Entry::follower).unwrap_or_default()),
        None => (next, Previous::default()),
    };
    segments.retain(|entry| entry.header.first < first);
    let above = last.map_or(0, |last| last.base.saturating_add(VERSIONS_AHEAD));
    let base = floor.saturating_sub(first.0).max(above);
    let header = SegmentHeader { salt: rand::random(), first, base, created_micros: floor, previous };
    (header, State { standing, open_since: None, latest_micros })
}

impl Entry {
    /// How the next segment names this one.
    pub(super) fn follower(&self) -> Previous {
        Previous { first: self.header.first, bytes: self.bytes, salt: self.header.salt }
    }
}

/// What a log's folder holds.
struct Survey {
    segments: Vec<Entry>,
    /// To be removed: left behind by the making of a segment, or kept of one that is gone.
    temporary: Vec<String>,
}

/// Reads the folder and all headers, and checks that the segments follow each other; changes nothing.
fn survey<D: Disk>(disk: &D, dir: &Path) -> Result<Survey, OpenError> {
    let Listing { firsts, mut temporary, torn, foreign } = list(disk, dir)?;
    if !foreign.is_empty() {
        return Err(OpenError::Foreign { dir: dir.to_path_buf(), names: foreign });
    }
    // A segment may have been cut away whole after its torn end was kept: retention does not come by its name.
    let start = firsts.first().copied().unwrap_or_default();
    temporary.extend(torn.into_iter().filter(|(first, _)| *first < start).map(|(_, name)| name));
    Ok(Survey { segments: chain(disk, dir, &firsts)?, temporary })
}

/// Names in a log's folder, in order.
#[derive(Default)]
pub(super) struct Listing {
    /// Of the segments.
    pub firsts: Vec<Seq>,
    /// What the making of a segment left behind.
    pub temporary: Vec<String>,
    /// What recoveries kept, by the segment that it was cut from.
    pub torn: Vec<(Seq, String)>,
    /// What is not part of a log.
    pub foreign: Vec<String>,
}

pub(super) fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Listing, OpenError> {
    let names = disk.list(dir).map_err(|e| OpenError::io(Step::List, dir, e))?;
    let mut listing = Listing::default();
    for name in names {
        match Name::of(&name) {
            Name::Segment(first) => listing.firsts.push(first),
            Name::Temporary => listing.temporary.push(name),
            Name::Torn(first) => listing.torn.push((first, name)),
            Name::Lock => {}
            Name::Foreign => listing.foreign.push(name),
        }
    }
    listing.firsts.sort();
    listing.foreign.sort();
    Ok(listing)
}

/// Reads the headers of these segments, and checks that they follow each other.
pub(super) fn chain<D: Disk>(disk: &D, dir: &Path, firsts: &[Seq]) -> Result<Vec<Entry>, OpenError> {
    let mut segments: Vec<Entry> = Vec::with_capacity(firsts.len());
    for &first in firsts {
        let entry = entry(disk, dir, first)?;
        if let Some(previous) = segments.last() {
            follows(&entry.header, previous).map_err(|why| OpenError::Chain {
                dir: dir.to_path_buf(),
                path: dir.join(segment_name(first)),
                why,
            })?;
        }
        segments.push(entry);
    }
    Ok(segments)
}

/// Header and length of one segment.
pub(super) fn entry<D: Disk>(disk: &D, dir: &Path, first: Seq) -> Result<Entry, OpenError> {
    let path = dir.join(segment_name(first));
    let file = disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
    let header = SegmentHeader::read(&file, &path, first)?;
    let bytes = file.len().map_err(|e| OpenError::io(Step::Read, &path, e))?;
    Ok(Entry { header, bytes })
}

/// Why a segment is not the one that comes after `previous`.
pub(super) fn follows(header: &SegmentHeader, previous: &Entry) -> Result<(), String> {
    let (named, found) = (header.previous, previous.follower());
    if named.first != found.first {
        return Err(format!(
            "follows {}, which is missing; before it stands {}",
            segment_name(named.first),
            segment_name(found.first)
        ));
    }
    if named.salt != found.salt {
        return Err(format!("follows another {} than the one that is there", segment_name(found.first)));
    }
    if named.bytes != found.bytes {
        let name = segment_name(found.first);
        return Err(format!("follows {name} of {} bytes, which now has {}", named.bytes, found.bytes));
    }
    if header.base < previous.header.base {
        return Err(format!("has a lower version base than {}", segment_name(found.first)));
    }
    Ok(())
}

/// A log open for reading alone.
#[derive(Debug)]
pub struct ReadOnly<D: Disk> {
    pub log: Log<D>,
    /// What the log knows of its source at the visible end; `None` before the log was given a start.
    pub standing: Option<Standing>,
    /// The latest server's time up to there, as [`State::latest_micros`] has it.
    pub latest_micros: u64,
}

/// The log in `dir` for reading alone, up to where a recovery would cut it now, without a lock and without a change: also beside
/// the process that writes it.
///
/// # Errors
/// See [`OpenError`]; a folder without a segment is one with [`io::ErrorKind::NotFound`].
pub fn read_only<D: Disk>(disk: &D, dir: &Path) -> Result<ReadOnly<D>, OpenError> {
    let mut tries = 0;
    let (segments, end) = loop {
        tries += 1;
        let found = survey(disk, dir)
            .and_then(|survey| Ok((recovery::find_end(disk, dir, &survey.segments)?, survey.segments)));
        match found {
            Ok((Some(end), segments)) => break (segments, end),
            Ok((None, _)) => {
                let source = io::Error::new(io::ErrorKind::NotFound, "no segment is there");
                return Err(OpenError::io(Step::Open, dir, source));
            }
            // The writer rotates, cuts and retires while the folder is read.
            Err(OpenError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && tries < LISTINGS && disk.list(dir).is_ok() => {
            }
            Err(OpenError::Chain { .. } | OpenError::Corrupt(_)) if tries < LISTINGS => {}
            Err(error) => return Err(error),
        }
    };
    let visible = Visible {
        seq: end.next.previous(),
        end: Location { segment: segments[end.segment].header.first, offset: end.offset },
        time_micros: end.time_micros,
        ..Visible::default()
    };
    let options = LogOptions::default();
    // Nothing is written through it.
    let limits = options.limits(0, u64::MAX);
    let shared = Shared::new(disk.clone(), dir.to_path_buf(), options, segments, limits, visible, true);
    shared.tell_gaps(end.standing.as_ref());
    shared.tell_snapshots(end.standing.as_ref());
    Ok(ReadOnly {
        log: Log { shared: shared.into() },
        standing: end.standing,
        latest_micros: end.latest_micros,
    })
}
