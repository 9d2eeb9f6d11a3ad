//! Checking a whole log, without a lock and without a change: beside the process that writes it, without one, and also a log
//! that opening refuses.
//!
//! # Constraints
//!
//! - Whatever is wrong with what is visible is found and named, all of it and not just the first: a finding ends the check of its
//!   segment, since frames behind a bad one cannot be found, and the next segment is gone on with.
//! - What a running process changes meanwhile is no finding: it appends, rotates, cuts an open transaction, and retires segments.
//! - Nothing that a file holds makes it fail, or take more memory than the file is long.
//!
//! # What is checked
//!
//! The folder for what is not part of a log; each header; that segments follow each other; each frame's length, checksum, kind and seq, up
//! to where the log ends. What lies behind that end an opening would cut: a torn tail and a transaction without its commit are
//! noted, and are no damage. [`Depth::Payloads`] also takes every payload apart: see `content`.
//!
//! # Operation
//!
//! [`verify`] looks at the folder first, again where that seems damaged, since a process that writes may have been in the middle of a change.
//! Up to the end found then, segments do not change any more; they only go, from the first on.

mod content;
mod finding;
mod folder;

use std::path::Path;

pub use finding::Finding;

use super::error::OpenError;
use super::frame::Problem;
use super::open;
use super::record::{Kind, State};
use super::scan::{ScanError, Scanner};
use super::segment::{SEGMENT_HEADER, SegmentHeader, segment_name};
use super::shared::Entry;
use crate::disk::Disk;
use crate::event::Seq;
use content::Content;
use folder::{Folder, Item};

/// How much is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Headers and frames.
    Frames,
    /// What they say, too.
    Payloads,
}

/// What [`verify`] tells while it works.
#[derive(Debug)]
pub enum Report {
    /// So many bytes will be read; said once, first.
    Total(u64),
    /// So many more were read.
    Read(u64),
    Finding(Finding),
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    pub segments: u64,
    pub frames: u64,
    /// Commits and marks.
    pub ends: u64,
    pub bytes: u64,
    /// The first frame that is there, and the last whole one; 0 where there is none.
    pub first: Seq,
    pub last: Seq,
    /// Findings that are damage.
    pub damaged: u64,
    /// Whether an opening would take the log as it is.
    pub opens: bool,
    pub way_out: WayOut,
}

/// What an operator can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WayOut {
    /// Nothing: no damage, or none but foreign files.
    #[default]
    None,
    /// Cutting the log after this frame, which takes away so many bytes.
    Cut { after: Seq, bytes: u64 },
    /// Nothing whole stands before the first damage.
    NothingToKeep,
}

/// Checks the log in `dir`, and reports what is wrong with it.
///
/// # Errors
/// There is no log, or its folder cannot be listed.
pub fn verify<D: Disk>(
    disk: &D,
    dir: &Path,
    depth: Depth,
    mut report: impl FnMut(Report),
) -> Result<Checked, OpenError> {
    let folder = Folder::look(disk, dir)?;
    report(Report::Total(folder.items.iter().map(|item| item.limit).sum()));
    for name in &folder.foreign {
        report(Report::Finding(Finding::Foreign { path: dir.join(name) }));
    }
    let checked = Checked {
        first: folder.items.first().map_or(Seq(0), |item| item.first),
        damaged: folder.foreign.len() as u64,
        opens: folder.opens(),
        ..Checked::default()
    };
    let content = (depth == Depth::Payloads).then(Content::default);
    let mut walk = Walk { disk, dir, report: &mut report, content, checked, whole_to: None, broken: false };
    let followers = folder.items.iter().skip(1).map(|item| Some(item.first)).chain([None]);
    for (i, (item, follower)) in folder.items.iter().zip(followers).enumerate() {
        walk.segment(i, item, follower)?;
    }
    if let Some(lost) = folder.end_lost.clone().filter(|_| !walk.broken) {
        walk.damage(lost.into());
    }
    walk.behind_the_end(&folder);
    walk.below_the_start(&folder);
    Ok(walk.finish(&folder))
}

/// The check under way.
struct Walk<'a, D, R> {
    disk: &'a D,
    dir: &'a Path,
    report: &'a mut R,
    content: Option<Content>,
    checked: Checked,
    /// The last end of a transaction before anything damaged: its seq, index of its segment, offset behind it.
    whole_to: Option<(Seq, usize, u64)>,
    /// Damage was found.
    broken: bool,
}

impl<D: Disk, R: FnMut(Report)> Walk<'_, D, R> {
    fn damage(&mut self, finding: Finding) {
        self.checked.damaged += 1;
        self.broken = true;
        if let Some(content) = &mut self.content {
            content.lose();
        }
        (self.report)(Report::Finding(finding));
    }

    /// Checks one segment; `follower`: the first frame of the next one by name.
    fn segment(&mut self, index: usize, item: &Item, follower: Option<Seq>) -> Result<(), OpenError> {
        let path = self.dir.join(segment_name(item.first));
        let entry = match &item.entry {
            Ok(entry) => *entry,
            Err(why) => {
                self.damage(Finding::Header { path, why: why.clone() });
                return Ok(());
            }
        };
        if let Some(why) = &item.chain {
            self.damage(Finding::Chain { path: path.clone(), why: why.clone() });
        }
        if item.limit == SEGMENT_HEADER && entry.bytes > SEGMENT_HEADER {
            // Behind the log's end: a process that writes may have cut it away by now.
            return Ok(());
        }
        let Some(file) = self.open(&path, &entry, follower.is_none())? else {
            if let Some(content) = &mut self.content {
                content.lose();
            }
            return Ok(());
        };
        self.checked.segments += 1;
        let SegmentHeader { first, salt, .. } = entry.header;
        let mut scanner = Scanner::new(file.into(), salt, first, SEGMENT_HEADER, item.limit);
        if let Some(content) = &mut self.content {
            content.begin(&entry.header);
        }
        let problem = loop {
            let at = scanner.offset();
            match scanner.advance() {
                Ok(Some(scanned)) => {
                    let read = scanner.offset() - at;
                    self.checked.frames += 1;
                    self.checked.bytes += read;
                    self.checked.last = scanned.seq;
                    (self.report)(Report::Read(read));
                    let begins = scanned.seq == first;
                    let wrong = match (scanned.kind, begins) {
                        (Kind::State, true) => self.begins(index, first, scanner.payload()),
                        (_, true) => Some(Problem::NoState),
                        (Kind::State, false) => Some(Problem::Kind(Kind::State as u8)),
                        _ => None,
                    };
                    if let Some(problem) = wrong {
                        break Some((at, scanned.seq, problem));
                    }
                    let content = self.content.as_mut();
                    let said = content
                        .map(|c| c.take(scanned.kind, scanned.seq, at, scanner.offset(), scanner.payload()));
                    if let Some(Err(why)) = said {
                        let (offset, seq) = (scanned.offset, scanned.seq);
                        self.damage(Finding::Content { path: path.clone(), offset, seq, why });
                    }
                    if matches!(scanned.kind, Kind::Commit | Kind::Mark) {
                        self.checked.ends += 1;
                        if !self.broken && follower.is_none_or(|follower| scanned.seq < follower) {
                            self.whole_to = Some((scanned.seq, index, scanner.offset()));
                        }
                    }
                }
                // Header and state were synced before the file had its name.
                Ok(None) if scanner.next_seq() == first && item.limit == entry.bytes => {
                    break Some((at, first, Problem::NoState));
                }
                Ok(None) => break None,
                Err(ScanError::Bad(problem)) => break Some((scanner.offset(), scanner.next_seq(), problem)),
                Err(ScanError::Io(error)) => {
                    self.damage(Finding::Unreadable {
                        path,
                        offset: scanner.offset(),
                        why: error.to_string(),
                    });
                    return Ok(());
                }
            }
        };
        if let Some((offset, seq, problem)) = problem {
            let unread_bytes = item.limit - offset;
            self.damage(Finding::Frame { path, offset, seq, problem, unread_bytes });
        } else if item.limit == entry.bytes
            && let Some(follower) = follower.filter(|follower| *follower != scanner.next_seq())
            && !item.misfit
        {
            let (offset, seq) = (scanner.offset(), scanner.next_seq());
            let why = format!("the segment ends before it, and the next one begins with frame {follower}");
            self.damage(Finding::Content { path, offset, seq, why });
        }
        Ok(())
    }

    /// A segment begins: without anything damaged before it, and outside a transaction, the log is whole up to there.
    fn begins(&mut self, index: usize, first: Seq, payload: &[u8]) -> Option<Problem> {
        match State::decode(payload) {
            Ok(state) => {
                if !self.broken && self.whole_to.is_none() && state.open_since.is_none() {
                    self.whole_to = Some((first.previous(), index, SEGMENT_HEADER));
                }
                None
            }
            Err(error) => Some(Problem::Payload(error.to_string())),
        }
    }

    /// Opens a segment; `None` if it went meanwhile, or holds nothing visible any more.
    fn open(&mut self, path: &Path, entry: &Entry, last: bool) -> Result<Option<D::File>, OpenError> {
        let first = entry.header.first;
        let opened = self.disk.open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) => {
                let gone = error.kind() == std::io::ErrorKind::NotFound;
                // Retention removes from the first on.
                if gone && open::list(self.disk, self.dir)?.firsts.iter().all(|other| *other > first) {
                    return Ok(None);
                }
                self.damage(Finding::Unreadable { path: path.into(), offset: 0, why: error.to_string() });
                return Ok(None);
            }
        };
        match SegmentHeader::read(&file, path, first) {
            Ok(header) if header == entry.header => Ok(Some(file)),
            // An opening puts a new segment in place of one that holds nothing yet.
            _ if last => Ok(None),
            _ => {
                let (offset, seq, problem) = (SEGMENT_HEADER, first, Problem::Replaced);
                let unread_bytes = entry.bytes;
                self.damage(Finding::Frame { path: path.into(), offset, seq, problem, unread_bytes });
                Ok(None)
            }
        }
    }

    /// Notes what an opening would cut.
    fn behind_the_end(&mut self, folder: &Folder) {
        for name in &folder.temporary {
            (self.report)(Report::Finding(Finding::Leftover { path: self.dir.join(name) }));
        }
        let Some(end) = folder.end.as_ref().filter(|_| !self.broken) else { return };
        let last = folder.items.last().map_or(Seq(0), |item| item.first);
        if let Some((offset, length)) = end.torn {
            let path = self.dir.join(segment_name(last));
            (self.report)(Report::Finding(Finding::TornTail { path, offset, bytes: length - offset }));
        }
        if end.open_frames > 0 {
            let (since, frames) = (end.next, end.open_frames);
            (self.report)(Report::Finding(Finding::OpenTransaction { since, frames }));
        }
    }

    /// Nothing that is held may be gone.
    fn below_the_start(&mut self, folder: &Folder) {
        let Some(start) = folder.items.first().map(|item| item.first) else { return };
        let content = self.content.as_ref().filter(|_| !self.broken);
        for (seq, xid) in content.map(|content| content.gone(start)).unwrap_or_default() {
            let path = self.dir.join(segment_name(start));
            let why =
                format!("it holds rows of the prepared XA transaction {xid}, and the log starts behind it");
            self.damage(Finding::Content { path, offset: 0, seq, why });
        }
    }

    fn finish(mut self, folder: &Folder) -> Checked {
        if self.broken {
            self.checked.way_out = match self.whole_to {
                None => WayOut::NothingToKeep,
                Some((after, index, offset)) => {
                    let bytes: u64 = folder.items[index..].iter().map(|item| item.bytes).sum();
                    WayOut::Cut { after, bytes: bytes.saturating_sub(offset) }
                }
            };
        }
        self.checked
    }
}
