//! What a cut takes away, as far as it can be read: it may be damaged anywhere, and its versions must be known all the same.

use std::path::Path;

use super::super::error::{OpenError, Step};
use super::super::open;
use super::super::record::{Commit, HEADER, Kind, Mark, State};
use super::super::scan::{ScanError, Scanner};
use super::super::segment::{SEGMENT_HEADER, segment_name};
use super::super::shared::Entry;
use crate::disk::{Disk, DiskFile};
use crate::event::{GtidSet, Seq};

/// What goes with a cut.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Going {
    /// 0 if nothing goes but an empty last segment, in place of which the new one comes.
    pub bytes: u64,
    /// Segments that go whole.
    pub segments: usize,
    /// The last frame that could be read; 0 if none.
    pub last: Seq,
    /// Ends of transactions, and marks, that could be read.
    pub ends: u64,
    /// What of the source's position went with them.
    pub gtids: GtidSet,
    /// Every byte could be read as a frame.
    pub whole: bool,
    /// Whether the highest version that goes is known; else versions to come are taken from the clock alone.
    pub versions_known: bool,
    /// No frame that goes has a higher number, or a higher version.
    pub(super) reach: Seq,
    pub(super) highest: u64,
    /// When the newest of the segments was made.
    pub(super) created_micros: u64,
}

impl Going {
    /// Reads the frames of `tail`, a segment, from an offset and seq on, and the segments `later`. `position`: the source's, at the cut.
    ///
    /// # Errors
    /// A file cannot be opened or its length not be told. What cannot be read in it is counted as damaged.
    pub(super) fn read<D: Disk>(
        disk: &D,
        dir: &Path,
        tail: Option<(Entry, u64, Seq)>,
        later: &[Seq],
        position: Option<&GtidSet>,
    ) -> Result<Going, OpenError> {
        let mut going =
            Going { segments: later.len(), whole: true, versions_known: true, ..Going::default() };
        if let Some((entry, offset, next)) = tail {
            going.bytes += entry.bytes - offset;
            going.frames(disk, dir, entry, offset, next)?;
        }
        for &first in later {
            match open::entry(disk, dir, first) {
                Ok(entry) => {
                    let state_ends = going.frames(disk, dir, entry, SEGMENT_HEADER, first)?;
                    if state_ends == Some(entry.bytes) && tail.is_none() && later.len() == 1 {
                        // An opening puts a new segment in its place as well.
                        return Ok(Going { segments: 0, last: Seq(0), gtids: GtidSet::default(), ..going });
                    }
                    going.bytes += entry.bytes;
                }
                Err(_) => {
                    let path = dir.join(segment_name(first));
                    let file = disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
                    // Also a file without a byte is one that goes.
                    going.bytes += file.len().map_err(|e| OpenError::io(Step::Read, &path, e))?.max(1);
                    (going.whole, going.versions_known) = (false, false);
                }
            }
        }
        if let Some(position) = position {
            going.gtids = going.gtids.subtract(position);
        }
        Ok(going)
    }

    /// Takes in the frames of a segment from `offset`, where `next` begins, as far as they are whole; where the state at its start ends.
    fn frames<D: Disk>(
        &mut self,
        disk: &D,
        dir: &Path,
        entry: Entry,
        offset: u64,
        next: Seq,
    ) -> Result<Option<u64>, OpenError> {
        let path = dir.join(segment_name(entry.header.first));
        let file = disk.open(&path).map_err(|e| OpenError::io(Step::Open, &path, e))?;
        let mut scanner = Scanner::new(file.into(), entry.header.salt, next, offset, entry.bytes);
        let mut state_ends = None;
        let mut highest = loop {
            match scanner.advance() {
                Ok(Some(scanned)) => {
                    if scanned.kind == Kind::State {
                        state_ends = Some(scanner.offset());
                    }
                    self.take(scanned.kind, scanner.payload());
                    self.last = self.last.max(scanned.seq);
                }
                Ok(None) => break scanner.next_seq().previous(),
                Err(ScanError::Io(_) | ScanError::Bad(_)) => {
                    self.whole = false;
                    // No frame is shorter than its head.
                    let more = entry.bytes.saturating_sub(scanner.offset()) / HEADER as u64;
                    break Seq(scanner.next_seq().0.saturating_add(more));
                }
            }
        };
        highest = highest.max(next);
        self.reach = self.reach.max(highest);
        self.highest = self.highest.max(entry.header.version(highest).0);
        self.created_micros = self.created_micros.max(entry.header.created_micros);
        Ok(state_ends)
    }

    fn take(&mut self, kind: Kind, payload: &[u8]) {
        // What does not decode is damage, and says nothing of the position.
        let taken = match kind {
            Kind::State => State::decode(payload).map(|state| {
                if let Some(standing) = state.standing {
                    self.gtids.union(&standing.gtids);
                }
            }),
            Kind::Commit => Commit::decode(payload).map(|commit| {
                if let Some(gtid) = &commit.gtid {
                    self.gtids.insert(gtid);
                }
                self.ends += 1;
            }),
            Kind::Mark => Mark::decode(payload).map(|mark| {
                self.gtids.union(&mark.gtids);
                self.ends += 1;
            }),
            Kind::Schema | Kind::Change | Kind::Prepared | Kind::Sweep => return,
        };
        self.whole &= taken.is_ok();
    }
}
