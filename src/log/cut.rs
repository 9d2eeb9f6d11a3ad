//! Cutting a log back by hand: for an operator whose log is damaged, or who wants to go back.
//!
//! # Constraints
//!
//! - What stays is a log that opens, ends with a whole transaction, and holds exactly what it held.
//! - Nothing that goes is destroyed: it is kept beside the log, in a folder of the cut's own.
//! - Frames written after a cut take up the numbers of those that went, and their versions are above all that those ever had:
//!   documents that were sent from what goes are outranked by what is read again.
//! - It needs no more than that what stays is whole: up to the cut the chain of the segments, and every frame that a sink has yet to read. Rows of
//!   undecided XA transactions that are not whole are given up: the state that the cut leaves does not name those.
//!
//! # What a cut leaves
//!
//! The log ends with a new segment that holds nothing but its state, as after an opening; so the next opening replaces it and takes
//! over its version base. That base is `max(previous base, now - first seq, highest version that goes + 1 - first seq)`. The highest version that
//! goes is taken from the headers and frames of what goes. Where a header cannot be read, or where a cursor stands past every frame
//! that is there, nobody knows what versions were sent: then the clock answers for them as it does for a folder that was wiped, and a clock that is
//! behind the newest readable header is refused ([`CutError::Clock`]).
//!
//! # The order, and why a crash anywhere is harmless
//!
//! The lock is held from before the plan to the end, so nobody appends, reads on, or moves a cursor meanwhile.
//!
//! 1. Every cursor above the cut is lowered to it and made durable: by the caller, before [`Locked::carry_out`]. A cursor below what it
//!    has settled costs sending again. In another order a crash could leave one above the log's end: once new frames had
//!    the old numbers, it would pass over them.
//! 2. The tail of the segment that is cut, and a segment of the new one's name if there is one, are copied beside and
//!    synced. What stays of the log's last segment is written again where it stands and synced: it may be in the system's memory alone, since the process
//!    that wrote it may have been killed before its sync, or its sync have failed; and nothing may follow what is not durable.
//! 3. The new segment is made, synced before it has its name, in place of the one of the same name. It names the length that
//!    its predecessor will have and a salt that no later segment knows: from here to the end of 5 the headers do not follow each other, so that an opening
//!    refuses ([`OpenError::Chain`]) until the same cut is made again. The highest base is in the folder already, where that next cut
//!    finds it, before the first of those it was taken from goes.
//! 4. Later segments are moved beside, from the last backwards, the folder beside synced first.
//! 5. The predecessor is truncated and synced. If nothing is to be truncated, the log is whole again with the last move.

mod going;
mod held;

use std::io;
use std::path::{Path, PathBuf};

pub use going::Going;

use super::error::{Corrupt, OpenError, Step};
use super::frame::Problem;
use super::open::{self, NOT_BEFORE_MICROS};
use super::record::State;
use super::recovery::{self, End};
use super::scan::{ScanError, Scanner};
use super::segment::{self, LOCK, SEGMENT_HEADER, SegmentHeader, segment_name, torn_name};
use super::shared::Entry;
use super::standing::Standing;
use crate::clock::Clock;
use crate::clock::rfc3339_seconds;
use crate::disk::{Disk, DiskFile};
use crate::event::{Seq, Xid};

/// What is copied at once, bytes.
const CHUNK: usize = 1 << 20;

/// What of it cannot be read is skipped at once, bytes.
const BLOCK: usize = 4 << 10;

/// Where what went is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    pub folder: PathBuf,
    /// Bytes that the disk would not read, and that are zeros in the copy.
    pub unreadable_bytes: u64,
}

/// Why a log cannot be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(
        "the log starts with frame {start}: there is nothing to cut it back to at {asked}. `everrelay log ls` shows what is there"
    )]
    BelowStart { asked: Seq, start: Seq },
    #[error(
        "no transaction ends from the log's start at {start} to {asked}: it begins inside one that is longer. Cut after its end, or start with an empty state folder"
    )]
    NoEnd { asked: Seq, start: Seq },
    #[error(
        "what versions were sent from what goes cannot be read, so those to come must be taken from the clock, and it reads {now_micros} microseconds \
         since 1970 while a segment was made at {seen_micros}. Set the clock and cut again"
    )]
    Clock { now_micros: u64, seen_micros: u64 },
    #[error(
        "the cut is not finished: {source}. Make it again (`everrelay log cut --after {after}`): it brings to its end what was begun"
    )]
    Unfinished { after: Seq, source: OpenError },
}

/// A log that nobody else has open.
#[derive(Debug)]
pub struct Locked<D: Disk> {
    disk: D,
    dir: PathBuf,
    _lock: D::Lock,
}

/// What a cut will do.
#[derive(Debug)]
pub struct Plan {
    /// The last frame that stays: the end of a transaction, at or below what was asked for.
    pub after: Seq,
    /// What the log knows of its source there; `None` if the log was given no start yet.
    pub standing: Option<Standing>,
    /// XA transactions whose rows were held and are not whole: from here on nothing is known of them.
    pub lost: Vec<Xid>,
    pub going: Going,
    header: SegmentHeader,
    latest_micros: u64,
    /// The segment that the new one follows, if it holds more than its state.
    last: Option<Last>,
    /// Segments that go whole, in order.
    later: Vec<Seq>,
}

/// The segment that is cut, and how.
#[derive(Clone, Copy, Debug)]
struct Last {
    entry: Entry,
    /// Its new length, and how much of that is known to be synced, bytes.
    end: u64,
    synced: u64,
    /// The frame that begins there.
    next: Seq,
}

impl Last {
    fn is_truncated(&self) -> bool {
        self.end < self.entry.bytes
    }
}

impl Plan {
    /// Whether nothing goes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.last.is_some_and(|last| last.is_truncated()) && self.going.bytes == 0
    }

    /// Whether the frame `seq` is past all that is there.
    #[must_use]
    pub fn is_passed_by(&self, seq: Seq) -> bool {
        seq > self.going.reach.max(self.after)
    }
}

/// Locks the log in `dir`, which need not be one that opens.
///
/// # Errors
/// There is no such folder, or a process has the log open.
pub fn lock<D: Disk>(disk: &D, dir: &Path) -> Result<Locked<D>, OpenError> {
    // Locking makes the file: not where there is no log.
    if open::list(disk, dir)?.firsts.is_empty() {
        let source = io::Error::new(io::ErrorKind::NotFound, "no segment is there");
        return Err(OpenError::io(Step::Open, dir, source));
    }
    let path = dir.join(LOCK);
    let lock = disk.lock(&path).map_err(|e| OpenError::io(Step::Lock, &path, e))?;
    let lock = lock.ok_or(OpenError::Locked { path })?;
    Ok(Locked { disk: disk.clone(), dir: dir.to_path_buf(), _lock: lock })
}

impl<D: Disk> Locked<D> {
    /// Plans to cut everything behind the last transaction that ends at or below `asked`; changes nothing. `cursors`: where the sinks
    /// stand. Reads what goes, and what stays and is yet to be read.
    ///
    /// # Errors
    /// See [`CutError`]: most often, what would stay is damaged.
    pub fn plan<C: Clock>(&self, clock: &C, asked: Seq, cursors: &[Seq]) -> Result<Plan, CutError> {
        // The highest number has no next one.
        let asked = asked.min(Seq(u64::MAX - 1));
        let now = clock.wall_micros();
        if now < NOT_BEFORE_MICROS {
            return Err(OpenError::Clock { now_micros: now }.into());
        }
        let listing = open::list(&self.disk, &self.dir)?;
        if !listing.foreign.is_empty() {
            return Err(OpenError::Foreign { dir: self.dir.clone(), names: listing.foreign }.into());
        }
        let firsts = listing.firsts;
        let start = firsts.first().copied().unwrap_or_default();
        if asked < start.previous() {
            return Err(CutError::BelowStart { asked, start });
        }
        let (kept, asked) = self.kept(&firsts, asked)?;
        let mut end = self.end(&kept, firsts.len(), asked)?.ok_or(CutError::NoEnd { asked, start })?;
        let lost = match &mut end.standing {
            Some(standing) => held::take_lost(&self.disk, &self.dir, &kept, standing)?,
            None => Vec::new(),
        };
        let lowest = cursors.iter().min().map_or(start, |cursor| Seq(cursor.0.saturating_add(1)));
        self.check_unread(&kept[..end.segment], lowest, kept[end.segment].header.first)?;

        let entry = kept[end.segment];
        let replaced = end.next == entry.header.first.next();
        let (first, previous, last) = if replaced {
            (entry.header.first, entry.header.previous, None)
        } else {
            let cut = Entry { bytes: end.offset, ..entry };
            (
                end.next,
                cut.follower(),
                Some(Last { entry, end: end.offset, synced: end.synced, next: end.next }),
            )
        };
        let later = firsts[end.segment + usize::from(!replaced)..].to_vec();
        let tail = last.filter(Last::is_truncated).map(|last| (entry, last.end, last.next));
        let going = Going::read(
            &self.disk,
            &self.dir,
            tail,
            &later,
            end.standing.as_ref().map(|standing| &standing.gtids),
        )?;

        let sent = cursors.iter().max().copied().unwrap_or_default();
        let seen_micros = kept.iter().map(|entry| entry.header.created_micros).max().unwrap_or(0);
        let seen_micros = seen_micros.max(going.created_micros);
        let known = going.versions_known && sent <= going.reach.max(first.previous());
        if !known && now < seen_micros {
            return Err(CutError::Clock { now_micros: now, seen_micros });
        }
        let above = going.highest.saturating_add(1).saturating_sub(first.0);
        let base = entry.header.base.max(now.saturating_sub(first.0)).max(above);
        let header = SegmentHeader { salt: rand::random(), first, base, created_micros: now, previous };
        Ok(Plan {
            after: first.previous(),
            standing: end.standing,
            lost,
            going: Going { versions_known: known, ..going },
            header,
            latest_micros: end.latest_micros,
            last,
            later,
        })
    }

    /// The segments up to the frame `asked`. Where a cut at or below it was not finished, that is what is asked for again, and returned.
    fn kept(&self, firsts: &[Seq], mut asked: Seq) -> Result<(Vec<Entry>, Seq), OpenError> {
        loop {
            let upto = firsts.partition_point(|first| *first <= asked).max(1).min(firsts.len());
            let broken = match open::chain(&self.disk, &self.dir, &firsts[..upto]) {
                Err(broken @ OpenError::Chain { .. }) => broken,
                kept => {
                    let kept = kept?;
                    let last = kept.last().filter(|last| last.header.first <= asked);
                    match (last, firsts.get(upto)) {
                        (Some(last), Some(next)) if self.is_empty(last)? && !self.follows(*next, last) => {
                            asked = last.header.first.previous();
                            continue;
                        }
                        _ => return Ok((kept, asked)),
                    }
                }
            };
            asked = self.unfinished(&firsts[..upto])?.ok_or(broken)?.previous();
        }
    }

    fn follows(&self, next: Seq, entry: &Entry) -> bool {
        let next = open::entry(&self.disk, &self.dir, next);
        next.is_ok_and(|next| open::follows(&next.header, entry).is_ok())
    }

    /// The segment that a cut made and did not come to the end of: it is empty, and its predecessor is longer than it says, or the next
    /// one does not follow it. Nothing else leaves such a segment inside a log.
    fn unfinished(&self, firsts: &[Seq]) -> Result<Option<Seq>, OpenError> {
        let entries = firsts.iter().map(|first| open::entry(&self.disk, &self.dir, *first));
        let entries: Vec<Entry> = entries.collect::<Result<_, _>>()?;
        for (i, entry) in entries.iter().enumerate() {
            let previous = i.checked_sub(1).map(|i| entries[i].follower());
            let named = entry.header.previous;
            let longer = previous.is_some_and(|previous| {
                (previous.first, previous.salt) == (named.first, named.salt) && previous.bytes > named.bytes
            });
            let alone = entries.get(i + 1).is_some_and(|next| open::follows(&next.header, entry).is_err());
            if (longer || alone) && self.is_empty(entry)? {
                return Ok(Some(entry.header.first));
            }
        }
        Ok(None)
    }

    /// Whether the segment holds nothing but its state.
    fn is_empty(&self, entry: &Entry) -> Result<bool, OpenError> {
        let SegmentHeader { first, salt, .. } = entry.header;
        let path = self.dir.join(segment_name(first));
        let file = self.disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        let mut scanner = Scanner::new(file.into(), salt, first, SEGMENT_HEADER, entry.bytes);
        Ok(matches!(scanner.advance(), Ok(Some(_))) && scanner.offset() == entry.bytes)
    }

    /// The last end at or below `asked`; `segments` of them are there in all.
    fn end(&self, kept: &[Entry], segments: usize, asked: Seq) -> Result<Option<End>, OpenError> {
        // The log's own end may lie below: behind it is what an opening would cut.
        if kept.len() == segments
            && let Ok(Some(end)) = recovery::find_end(&self.disk, &self.dir, kept)
            && end.next <= asked.next()
        {
            return Ok(Some(end));
        }
        recovery::find_end_below(&self.disk, &self.dir, kept, asked.next())
    }

    /// Checks the frames of `segments` from the frame `from` on: up to the segment `next`, which follows them.
    fn check_unread(&self, segments: &[Entry], from: Seq, next: Seq) -> Result<(), OpenError> {
        if from >= next {
            return Ok(());
        }
        // A reader starts with the schemas at the segment's beginning.
        let unread = segments.partition_point(|entry| entry.header.first <= from).saturating_sub(1);
        let followers = segments.iter().skip(unread + 1).map(|entry| entry.header.first).chain([next]);
        for (entry, follower) in segments.iter().skip(unread).zip(followers) {
            self.check_frames(entry, entry.bytes, follower)?;
        }
        Ok(())
    }

    /// Checks the frames of a segment up to an offset, where the frame `next` begins.
    fn check_frames(&self, entry: &Entry, upto: u64, next: Seq) -> Result<(), OpenError> {
        let SegmentHeader { first, salt, .. } = entry.header;
        let path = self.dir.join(segment_name(first));
        let file = self.disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        let mut scanner = Scanner::new(file.into(), salt, first, SEGMENT_HEADER, upto);
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

    /// Makes the cut, and returns where what went is kept, in a folder of its own below `beside`; `None` if nothing went. Every
    /// cursor above [`Plan::after`] must be lowered to it and durable.
    ///
    /// # Errors
    /// [`CutError::Unfinished`]: the same cut, planned and made again, goes on from there.
    pub fn carry_out(self, plan: &Plan, beside: &Path) -> Result<Option<Kept>, CutError> {
        self.cut(plan, beside).map_err(|source| CutError::Unfinished { after: plan.after, source })
    }

    fn cut(&self, plan: &Plan, beside: &Path) -> Result<Option<Kept>, OpenError> {
        let kept = if plan.is_empty() { None } else { Some(self.keep(plan, beside)?) };
        let first = plan.header.first;
        // One that others followed was synced before they were made.
        if let Some(last) = plan.last.filter(|_| plan.later.is_empty()) {
            self.make_durable(last)?;
        }
        let state =
            State { standing: plan.standing.clone(), open_since: None, latest_micros: plan.latest_micros };
        segment::create(&self.disk, &self.dir, &plan.header, &state)
            .map_err(|(step, path, source)| OpenError::Io { step, path, source })?;
        for later in plan.later.iter().rev().filter(|later| **later != first) {
            let folder = kept.as_ref().map_or(beside, |kept| &kept.folder);
            self.move_away(&segment_name(*later), folder)?;
            match self.move_away(&torn_name(*later), folder) {
                Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                moved => moved?,
            }
        }
        if let Some(last) = plan.last.filter(Last::is_truncated) {
            let path = self.dir.join(segment_name(last.entry.header.first));
            let file = self.disk.open_writable(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
            file.truncate(last.end).map_err(|e| OpenError::io(Step::Truncate, &path, e))?;
            file.sync().map_err(|e| OpenError::io(Step::Sync, &path, e))?;
        }
        Ok(kept)
    }

    /// Copies what is going to be overwritten or truncated.
    fn keep(&self, plan: &Plan, beside: &Path) -> Result<Kept, OpenError> {
        let folder = self.folder(plan, beside)?;
        let mut unreadable_bytes = 0;
        if let Some(Last { entry, end, .. }) = plan.last.filter(Last::is_truncated) {
            let first = entry.header.first;
            let name = format!("{:020}.from-{end}", first.0);
            unreadable_bytes += self.copy(&segment_name(first), end, &folder.join(name))?;
        }
        if plan.later.contains(&plan.header.first) {
            let name = segment_name(plan.header.first);
            unreadable_bytes += self.copy(&name, 0, &folder.join(&name))?;
        }
        self.disk.sync_dir(&folder).map_err(|e| OpenError::io(Step::Sync, &folder, e))?;
        Ok(Kept { folder, unreadable_bytes })
    }

    /// Writes what stays of the segment again, syncs it, and holds that it is still what was found.
    fn make_durable(&self, last: Last) -> Result<(), OpenError> {
        let path = self.dir.join(segment_name(last.entry.header.first));
        let file = self.disk.open_writable(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        recovery::write_again(&file, &path, last.synced, last.end)?;
        file.sync().map_err(|e| OpenError::io(Step::Sync, &path, e))?;
        self.check_frames(&last.entry, last.end, last.next)
    }

    /// A new folder below `beside`, named by time and place.
    fn folder(&self, plan: &Plan, beside: &Path) -> Result<PathBuf, OpenError> {
        let time = rfc3339_seconds(plan.header.created_micros).replace(':', "");
        let names = match self.disk.list(beside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(|e| OpenError::io(Step::List, beside, e))?,
        };
        let name = format!("{time}-after-{}", plan.after);
        let free = (2..).map(|n| format!("{name}-{n}")).find(|other| !names.contains(other));
        let folder = match free {
            Some(other) if names.contains(&name) => beside.join(other),
            _ => beside.join(name),
        };
        self.disk.create_dir_all(&folder).map_err(|e| OpenError::io(Step::Create, &folder, e))?;
        Ok(folder)
    }

    /// Copies what the log's file `name` holds from `offset` on, and syncs it. Returns how many bytes could not be read: a sector that is lost
    /// is why a log is cut, and no reason not to.
    fn copy(&self, name: &str, offset: u64, to: &Path) -> Result<u64, OpenError> {
        let path = self.dir.join(name);
        let file = self.disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        let length = file.len().map_err(|e| OpenError::io(Step::Read, &path, e))?.saturating_sub(offset);
        let copy = self.disk.create_new(to).map_err(|e| OpenError::io(Step::Create, to, e))?;
        let mut buffer = vec![0; CHUNK];
        let (mut done, mut unreadable) = (0, 0);
        while done < length {
            let size = usize::try_from(length - done).map_or(CHUNK, |left| left.min(CHUNK));
            let chunk = &mut buffer[..size];
            if file.read_at(chunk, offset + done).is_err() {
                for (i, block) in chunk.chunks_mut(BLOCK).enumerate() {
                    if file.read_at(block, offset + done + (i * BLOCK) as u64).is_err() {
                        block.fill(0);
                        unreadable += block.len() as u64;
                    }
                }
            }
            copy.write_all_at(chunk, done).map_err(|e| OpenError::io(Step::Write, to, e))?;
            done += size as u64;
        }
        copy.sync().map_err(|e| OpenError::io(Step::Sync, to, e))?;
        Ok(unreadable)
    }

    /// Moves the log's file `name` into `folder`, durably.
    fn move_away(&self, name: &str, folder: &Path) -> Result<(), OpenError> {
        let (from, to) = (self.dir.join(name), folder.join(name));
        let synced = |path: &Path| self.disk.sync_dir(path).map_err(|e| OpenError::io(Step::Sync, path, e));
        match self.disk.rename(&from, &to) {
            // The log's folder is a file system of its own.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                self.copy(name, 0, &to)?;
                synced(folder)?;
                self.disk.remove(&from).map_err(|e| OpenError::io(Step::Remove, &from, e))?;
            }
            renamed => renamed.map_err(|e| OpenError::io(Step::Rename, &from, e))?,
        }
        synced(folder)?;
        synced(&self.dir)
    }
}
