//! A log's folder, taken in as far as it can be.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile};
use crate::event::Seq;
use crate::log::error::{Corrupt, OpenError, Step};
use crate::log::open::{self, LISTINGS, Listing};
use crate::log::recovery::{self, End};
use crate::log::segment::{SEGMENT_HEADER, segment_name};
use crate::log::shared::Entry;

/// What is there.
pub(super) struct Folder {
    /// In order of their names.
    pub items: Vec<Item>,
    pub foreign: Vec<String>,
    pub temporary: Vec<String>,
    /// Where the log ends, if that can be told.
    pub end: Option<End>,
    /// Why not, if it cannot.
    pub end_lost: Option<Corrupt>,
}

/// One segment.
pub(super) struct Item {
    pub first: Seq,
    /// The file's length, 0 if it cannot be told.
    pub bytes: u64,
    pub entry: Result<Entry, String>,
    /// Why it does not follow the segment before it.
    pub chain: Option<String>,
    /// The next one does not follow it.
    pub misfit: bool,
    /// Frames are checked up to here.
    pub limit: u64,
}

impl Folder {
    /// Takes in the folder, again where it seems damaged: a process that writes rotates, cuts and retires meanwhile.
    pub fn look<D: Disk>(disk: &D, dir: &Path) -> Result<Folder, OpenError> {
        let mut tries = 1;
        loop {
            let folder = Folder::look_once(disk, dir)?;
            if folder.opens() || tries == LISTINGS {
                return Ok(folder);
            }
            tries += 1;
        }
    }

    /// Whether an opening would take it.
    pub fn opens(&self) -> bool {
        self.is_chain() && self.end.is_some() && self.foreign.is_empty()
    }

    fn is_chain(&self) -> bool {
        self.items.iter().all(|item| item.entry.is_ok() && item.chain.is_none())
    }

    fn look_once<D: Disk>(disk: &D, dir: &Path) -> Result<Folder, OpenError> {
        let Listing { firsts, temporary, foreign, torn: _ } = open::list(disk, dir)?;
        if firsts.is_empty() {
            let source = io::Error::new(io::ErrorKind::NotFound, "no segment is there");
            return Err(OpenError::io(Step::Open, dir, source));
        }
        let mut items: Vec<Item> = Vec::with_capacity(firsts.len());
        for first in firsts {
            let entry = open::entry(disk, dir, first);
            let chain = entry.as_ref().ok().and_then(|entry| broken(entry, &items));
            if let Some(before) = items.last_mut().filter(|_| chain.is_some() || entry.is_err()) {
                before.misfit = true;
            }
            let bytes = match &entry {
                Ok(entry) => entry.bytes,
                Err(_) => disk.open(&dir.join(segment_name(first))).and_then(|file| file.len()).unwrap_or(0),
            };
            let entry = entry.map_err(why);
            items.push(Item { first, bytes, entry, chain, misfit: false, limit: bytes });
        }
        let usable: Vec<Entry> = items.iter().filter_map(|item| item.entry.as_ref().ok().copied()).collect();
        let (end, end_lost) = match recovery::find_end(disk, dir, &usable) {
            Ok(end) => (end, None),
            Err(OpenError::Corrupt(corrupt)) => (None, Some(corrupt)),
            // The frame that cannot be read is come upon again.
            Err(_) => (None, None),
        };
        let mut folder = Folder { items, foreign, temporary, end, end_lost };
        folder.set_limits();
        Ok(folder)
    }

    /// Frames behind the log's end are the writer's, or the next opening's to cut.
    fn set_limits(&mut self) {
        let chain = self.is_chain();
        let Some(end) = &self.end else { return };
        let segments = self.items.len();
        for (i, item) in self.items.iter_mut().enumerate() {
            if chain && i >= end.segment {
                item.limit = if i == end.segment { end.offset } else { SEGMENT_HEADER };
            } else if let Some((torn, _)) = end.torn.filter(|_| i + 1 == segments) {
                item.limit = torn;
            }
        }
    }
}

/// Why a segment does not follow those before it.
fn broken(entry: &Entry, before: &[Item]) -> Option<String> {
    let last = before.last()?;
    if let Ok(previous) = &last.entry {
        return open::follows(&entry.header, previous).err();
    }
    // Behind a file that cannot be used: it may be the predecessor, or not belong there.
    let named = entry.header.previous.first;
    match before.iter().rfind(|item| item.first == named).map(|item| &item.entry) {
        Some(Ok(previous)) => open::follows(&entry.header, previous).err(),
        Some(Err(_)) => None,
        None => Some(format!("follows {}, which is missing", segment_name(named))),
    }
}

/// Why a segment cannot be used, without its path and without what to do.
fn why(error: OpenError) -> String {
    match error {
        OpenError::Header { why, .. } => why.to_owned(),
        OpenError::Format { found, known, .. } => {
            format!("it has format {found}, and this program knows format {known} alone")
        }
        OpenError::Io { step, source, .. } => format!("cannot {step} it: {source}"),
        other => other.to_string(),
    }
}
