//! What is settled: how far each sink has carried the log, kept in sled.
//!
//! # Constraints
//!
//! - A cursor may fall back after a crash, never run ahead: what is sent again is harmless, what is skipped is lost.
//! - A segment of the log goes only below a cursor that was *synced* ([`CursorStore::sync`]): sled's own flush asks the kernel with
//!   `sync_file_range`, which is no promise against power loss.
//! - Losing the folder costs sending again everything that the log keeps, and what was parked from before that: so damage never stops an operator
//!   for longer than it takes to remove it. What was parked comes back with a snapshot of its table.
//!
//! # Format
//!
//! sled's default tree holds `format` (u32) and `folder id` (u64), little-endian. The tree `cursors` holds a value per sink: a byte
//! with the version of its encoding, then a [`Cursor`] in bincode 2's standard configuration. What is parked stands beside, see [`parked`].
//!
//! # Operation
//!
//! [`Settled::open`] once a pipeline, [`Settled::cursor`] once a sink. Everything blocks.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | the folder: [`Settled`], [`SettledError`] |
//! | [`cursor`] | [`Cursor`], [`CursorStore`] and its two kinds |
//! | [`parked`] | changes that the engine refuses |
//! | [`replay`] | documents that are sent again: how far that is |
//! | `handle` | letting go of sled without its panic |
//! | [`reserved`] | a cursor that commits also on a full disk |

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use self::handle::Handle;
use crate::disk::{Disk, ReserveError, SystemDisk};
use crate::lifecycle;

pub mod cursor;
mod handle;
pub mod parked;
pub mod replay;
pub mod reserved;

pub use cursor::{Cursor, CursorStore, IndexId, MemoryCursor, OwedSweep, SledCursor};
pub use parked::{Parked, ParkedRow, ParkedStep};
pub use replay::{Ended, HowEnded, Replay, Replayed};
pub use reserved::{ROOM_BYTES, Reserved};

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;

const FORMAT_KEY: &str = "format";
const FOLDER_ID_KEY: &str = "folder id";

/// The sink that needs no name.
pub const MAIN: &str = "main";

/// Page cache of sled, bytes: a few cursors need next to none, and its default is 1 GiB.
const CACHE_BYTES: u64 = 4 << 20;

/// The folder `settled`, open; cheap to clone.
#[derive(Clone, Debug)]
pub struct Settled {
    db: Handle<sled::Db>,
    path: Arc<Path>,
    folder_id: u64,
    /// Why nothing more can be trusted to the folder: see [`SettledError::Stopped`].
    stopped: Arc<OnceLock<String>>,
}

/// What is settled cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum SettledError {
    #[error(
        "{path:?} is locked: another everrelay process has it open. Stop it, or give this one a state folder of its own"
    )]
    Locked { path: PathBuf },
    #[error(
        "cannot {step} {path:?}: {source}. Mend what the system complains of (space, permissions, the disk) and start again"
    )]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "{path:?} has format {found}, and this program knows format {known} alone. Start the everrelay that wrote it, or a newer one"
    )]
    Format { path: PathBuf, found: u32, known: u32 },
    #[error(
        "{path:?} is damaged: {why}. Move the folder away and start again: everything that the log still keeps is then sent again, \
         which does no harm"
    )]
    Damaged { path: PathBuf, why: String },
    #[error(transparent)]
    Reserve(#[from] ReserveError),
    /// After a failed sync a later one may succeed without having written what the first could not.
    #[error("nothing more is kept in {path:?} since this went wrong: {why}. Mend it and start again")]
    Stopped { path: PathBuf, why: String },
}

impl Settled {
    /// Opens the folder `path`, made if missing.
    ///
    /// # Errors
    /// See [`SettledError`]. Another format is refused before a key is written.
    pub fn open(path: &Path) -> Result<Settled, SettledError> {
        let io = |step| move |source| SettledError::Io { step, path: path.to_path_buf(), source };
        SystemDisk.create_dir_all(path).map_err(io("create"))?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .print_profile_on_drop(false);
        // sled answers some kinds of damage with a panic.
        let db = lifecycle::contain(|| config.open())
            .map_err(|why| SettledError::Damaged { path: path.to_path_buf(), why })?;
        let db = db.map_err(|error| describe(path, "open", error))?;
        let stopped = Arc::default();
        let mut settled = Settled { db: Handle::new(db), path: path.into(), folder_id: 0, stopped };
        settled.folder_id = settled.read_ids()?;
        Ok(settled)
    }

    /// A number drawn when the folder was made: tells this history from that of every other folder.
    #[must_use]
    pub fn folder_id(&self) -> u64 {
        self.folder_id
    }

    /// Tells what the sink `name` writes from what everybody else writes, other sinks of this folder included: two of them that reach one index are two
    /// writers. The sink of a configuration with one has the folder's own.
    #[must_use]
    pub fn sink_id(&self, name: &str) -> u64 {
        use sha2::{Digest, Sha256};
        if name == MAIN {
            return self.folder_id;
        }
        let digest = Sha256::new().chain_update(self.folder_id.to_le_bytes()).chain_update(name).finalize();
        digest.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
    }

    /// The cursor of the sink `name`.
    ///
    /// # Errors
    /// sled cannot open its tree.
    pub fn cursor(&self, name: &str) -> Result<SledCursor, SettledError> {
        SledCursor::open(self.clone(), name)
    }

    /// Removes the cursor of the sink `name` and all that is parked of it, durably.
    ///
    /// # Errors
    /// sled cannot remove them.
    pub fn forget(&self, name: &str) -> Result<(), SettledError> {
        SledCursor::forget(self, name)?;
        self.sync()
    }

    /// Names of the sinks that have a cursor here.
    ///
    /// # Errors
    /// sled cannot read them.
    pub fn cursors(&self) -> Result<Vec<String>, SettledError> {
        SledCursor::names(self)
    }

    fn read_ids(&self) -> Result<u64, SettledError> {
        let failed = |error| describe(&self.path, "read", error);
        let get = |key| self.db.get(key).map_err(failed);
        let damaged =
            |why: &str| SettledError::Damaged { path: self.path.to_path_buf(), why: why.to_owned() };
        if let Some(format) = get(FORMAT_KEY)? {
            let format: [u8; 4] = (*format).try_into().map_err(|_| damaged("its format cannot be read"))?;
            let found = u32::from_le_bytes(format);
            if found != FORMAT {
                let path = self.path.to_path_buf();
                return Err(SettledError::Format { path, found, known: FORMAT });
            }
            let id = get(FOLDER_ID_KEY)?.and_then(|id| (*id).try_into().ok());
            return Ok(u64::from_le_bytes(id.ok_or_else(|| damaged("its id cannot be read"))?));
        }
        if !self.db.is_empty() || self.db.tree_names().len() > 1 {
            return Err(damaged("it holds something else than cursors"));
        }
        let id: u64 = rand::random();
        let mut batch = sled::Batch::default();
        batch.insert(FORMAT_KEY, &FORMAT.to_le_bytes());
        batch.insert(FOLDER_ID_KEY, &id.to_le_bytes());
        self.db.apply_batch(batch).map_err(|error| describe(&self.path, "write", error))?;
        self.sync()?;
        Ok(id)
    }

    /// Makes everything committed durable against power loss.
    ///
    /// # Errors
    /// It is not known to be; nothing more is accepted then.
    pub fn sync(&self) -> Result<(), SettledError> {
        self.usable()?;
        let flushed = self.db.flush().map_err(|error| describe(&self.path, "flush", error));
        let synced = flushed.and_then(|_| sync_below(&self.path));
        if let Err(error) = &synced {
            let _ = self.stopped.set(error.to_string());
        }
        synced
    }

    /// Lets the folder go.
    ///
    /// # Errors
    /// sled's last sync fails, where this is the last that holds the folder.
    pub fn close(mut self) -> Result<(), SettledError> {
        let path = self.path.to_path_buf();
        let closed = self.db.let_go();
        closed.map_err(|why| SettledError::Io { step: "sync", path, source: io::Error::other(why) })
    }

    fn usable(&self) -> Result<(), SettledError> {
        match self.stopped.get() {
            Some(why) => Err(SettledError::Stopped { path: self.path.to_path_buf(), why: why.clone() }),
            None => Ok(()),
        }
    }
}

/// fsync of every file and folder below `path`: sled's log, its snapshots and large values. A descriptor opened just now is told of
/// write-back errors that nobody was told of yet (Linux 4.17 and later), so a new one will do.
fn sync_below(path: &Path) -> Result<(), SettledError> {
    let failed = |step, path: &Path| {
        let path = path.to_path_buf();
        move |source| SettledError::Io { step, path, source }
    };
    for entry in std::fs::read_dir(path).map_err(failed("list", path))? {
        let entry = entry.map_err(failed("list", path))?.path();
        if entry.is_dir() {
            sync_below(&entry)?;
            continue;
        }
        match File::open(&entry).and_then(|file| file.sync_all()) {
            // sled removes snapshots and large values in the background.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(failed("sync", &entry))?,
        }
    }
    File::open(path).and_then(|folder| folder.sync_all()).map_err(failed("sync", path))
}

/// sled's error in our words.
fn describe(path: &Path, step: &'static str, error: sled::Error) -> SettledError {
    let path = path.to_path_buf();
    match error {
        // sled's own text for a lock that is taken; the kind is Other.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            SettledError::Locked { path }
        }
        sled::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
            SettledError::Damaged { path, why: source.to_string() }
        }
        sled::Error::Io(source) => SettledError::Io { step, path, source },
        error => SettledError::Damaged { path, why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Opens a folder once more: threads of the store that was dropped may hold its files for a moment yet.
    pub(super) fn again(path: &Path) -> Result<Settled, SettledError> {
        let mut opened = Settled::open(path);
        for _ in 0..1000 {
            if !matches!(opened, Err(SettledError::Locked { .. })) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            opened = Settled::open(path);
        }
        opened
    }

    #[test]
    fn a_folder_keeps_its_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settled");
        let id = Settled::open(&path).unwrap().folder_id();
        assert_eq!(again(&path).unwrap().folder_id(), id);
        assert_ne!(Settled::open(&dir.path().join("other")).unwrap().folder_id(), id);
    }

    #[test]
    fn sinks_of_a_folder_write_under_ids_of_their_own() {
        let dir = tempfile::tempdir().unwrap();
        let ids = {
            let settled = Settled::open(dir.path()).unwrap();
            assert_eq!(settled.sink_id("main"), settled.folder_id());
            ["main", "a", "b"].map(|name| settled.sink_id(name))
        };
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
        let settled = again(dir.path()).unwrap();
        assert_eq!(["main", "a", "b"].map(|name| settled.sink_id(name)), ids);
    }

    #[test]
    fn a_second_process_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Settled::open(dir.path()).unwrap();
        let error = Settled::open(dir.path()).unwrap_err();
        assert!(matches!(error, SettledError::Locked { .. }), "{error}");
    }

    #[test]
    fn fault_66_another_format_of_the_cursor_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        {
            let settled = Settled::open(dir.path()).unwrap();
            settled.db.insert(FORMAT_KEY, &2u32.to_le_bytes()).unwrap();
            settled.sync().unwrap();
        }
        for _ in 0..2 {
            let error = again(dir.path()).unwrap_err();
            assert!(matches!(error, SettledError::Format { found: 2, known: 1, .. }), "{error}");
        }
    }

    #[test]
    fn a_foreign_sled_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        sled::open(dir.path()).unwrap().insert("key", "value").unwrap();
        let error = again(dir.path()).unwrap_err();
        assert!(matches!(error, SettledError::Damaged { .. }), "{error}");
    }

    #[test]
    fn damage_is_an_error_that_says_what_to_do_or_is_overcome() {
        for at in [0, 8, 24, 40, 100] {
            let dir = tempfile::tempdir().unwrap();
            drop(Settled::open(dir.path()).unwrap());
            for file in ["db", "conf"] {
                let path = dir.path().join(file);
                let mut bytes = std::fs::read(&path).unwrap();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 0xFF;
                    std::fs::write(&path, &bytes).unwrap();
                }
            }
            if let Err(error) = again(dir.path()) {
                assert!(error.to_string().contains("start again"), "{error}");
            }
        }
    }
}
