//! A folder for a log, and what must be true of any log that is opened there.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use everrelay::clock::Clock;
use everrelay::disk::SystemDisk;
use everrelay::event::{GtidSet, Seq};
use everrelay::log::prepared::{Prepared, Xa};
use everrelay::log::record::{Batch, Commit, Kind, Mark, Position, Synced};
use everrelay::log::{
    Location, Log, LogOptions, Noted, OpenError, Opened, Recovered, WriteError, Writer, open, read_only,
};

/// A folder in memory where the system has a place for that.
pub struct Place {
    folder: tempfile::TempDir,
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub seq: u64,
    pub version: u64,
    pub kind: Kind,
    pub payload: Vec<u8>,
    pub at: Location,
}

/// Everything that a log gives from its start on, and the words of the error that ended it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub start: u64,
    pub visible: u64,
    pub frames: Vec<Read>,
    pub error: Option<String>,
}

/// What opening for writing came to.
pub enum Outcome {
    Refused(OpenError),
    Opened(Content),
}

/// 2026-11-23.
#[derive(Clone, Copy)]
struct Then;

impl Clock for Then {
    fn wall_micros(&self) -> u64 {
        1_795_392_000_000_000
    }

    fn since_boot(&self) -> Duration {
        Duration::ZERO
    }
}

/// Small, so that the log rotates.
pub fn options() -> LogOptions {
    LogOptions { segment_bytes: 600, ..LogOptions::default() }
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Place { folder: folder.expect("a temporary folder can be made") }
    }

    /// A folder that holds these files.
    pub fn with<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> Place {
        let place = Place::new();
        for (name, bytes) in files {
            std::fs::write(place.path().join(name), bytes).expect("a file can be written");
        }
        place
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Every file but the lock, by name.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(self.path()).expect("the folder can be listed");
        let files = entries.map(|entry| {
            let path = entry.expect("the folder can be listed").path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a file can be read"))
        });
        files.filter(|(name, _)| name != "LOCK").collect()
    }

    pub fn open(&self) -> Result<Opened<SystemDisk>, OpenError> {
        open(&SystemDisk, &Then, self.path(), options())
    }

    /// Looks at the log, opens it, reads it, writes to it and opens it again, and panics where these do not agree.
    pub fn examine(&self) -> Outcome {
        let before = self.files();
        let beside = read_only(&SystemDisk, self.path()).map(|opened| content(&opened.log));
        assert!(self.files() == before, "reading changed the folder");
        let Opened { log, recovered, writer } = match self.open() {
            Ok(opened) => opened,
            Err(error) => {
                assert!(self.files() == before, "a refusal changed the folder: {error}");
                assert!(beside.is_err(), "refused for writing and not for reading: {error}");
                return Outcome::Refused(error);
            }
        };
        let found = content(&log);
        match beside {
            Ok(beside) => agree(&beside, &found),
            Err(error) => assert!(recovered == Recovered::Empty, "{recovered:?} and {error}"),
        }
        let position = writer.position().cloned();
        drop((writer, log));
        let Opened { mut writer, log, recovered } = self.open().expect("what was opened once opens again");
        assert_eq!(recovered, Recovered::Clean);
        assert_eq!((content(&log), writer.position()), (found.clone(), position.as_ref()));

        let mut batch = Batch::new();
        batch.mark(&mark(position.unwrap_or_default()));
        writer.append(&mut batch).expect("a recovered log takes a mark");
        writer.sync().expect("a recovered log can be synced");
        let end = log.visible().seq;
        let last = log.reader(end).and_then(|mut reader| {
            let mut last = None;
            while let Some(frame) = reader.next_frame()? {
                last = Some((frame.seq, frame.kind));
            }
            Ok(last)
        });
        assert_eq!(last.expect("what was written can be read"), Some((end, Kind::Mark)));
        decide(&mut writer);
        Outcome::Opened(found)
    }
}

/// Commits every XA transaction that the log knows: their rows are read back, wherever it says that they are.
fn decide(writer: &mut Writer<SystemDisk>) {
    let prepared = writer.standing().map(|standing| standing.prepared.clone()).unwrap_or_default();
    for Prepared { xid, held, .. } in prepared {
        let xa = vec![Xa::Decided { xid, outcome: everrelay::log::prepared::Outcome::Committed }];
        let Mark { synced, position, .. } = mark(GtidSet::default());
        let mut batch = Batch::new();
        let noted = Noted { xa, ..Noted::default() };
        batch.commit(&Commit { synced, gtid: None, time_micros: 0, position, noted });
        let owed = writer.owed(&batch);
        assert!(held.is_none_or(|held| owed == held.bytes));
        match writer.append(&mut batch) {
            Ok(()) => writer.sync().expect("what was copied can be synced"),
            Err(error) => {
                assert!(held.is_some() && matches!(error, WriteError::Held { .. }), "{error}");
                return;
            }
        }
    }
}

fn mark(gtids: GtidSet) -> Mark {
    Mark {
        synced: Synced::default(),
        gtids,
        time_micros: 0,
        position: Position::default(),
        noted: Default::default(),
    }
}

/// Reads all of `log`.
pub fn content(log: &Log<SystemDisk>) -> Content {
    let start = log.retained_start();
    let (mut frames, mut expected): (Vec<Read>, Seq) = (Vec::new(), start);
    let result = log.reader(start).and_then(|mut reader| {
        while let Some(frame) = reader.next_frame()? {
            assert_eq!(frame.seq, expected, "frames are dense");
            expected = expected.next();
            let (seq, version, payload) = (frame.seq.0, frame.version.0, frame.payload.to_vec());
            frames.push(Read { seq, version, kind: frame.kind, payload, at: frame.at });
        }
        Ok(())
    });
    let error = result.err().map(|error| error.to_string());
    Content { start: start.0, visible: log.visible().seq.0, frames, error }
}

/// What was seen without a change is what opening found. A last segment that held nothing but its state is replaced at the opening:
/// its state is then not visible yet.
fn agree(beside: &Content, found: &Content) {
    assert_eq!((beside.start, &beside.error), (found.start, &found.error));
    let (same, more) = beside.frames.split_at(found.frames.len().min(beside.frames.len()));
    assert_eq!(same, found.frames);
    assert!(matches!(more, [] | [Read { kind: Kind::State, .. }]), "{more:?} was lost by opening");
}
