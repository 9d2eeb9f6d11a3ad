//! Disk held back for the moment when there is no other: a file of real blocks, removed when the rest is full.
//!
//! # Constraints
//!
//! - It is given up only by somebody who is about to write and has no room, never just because the disk is full: whoever filled it would
//!   take that room too.
//! - What is given up is made again when there is room, before anything else may use that room: whoever asks [`Reserve::free_bytes`] does not
//!   see what the reserve lacks.
//!
//! # Format
//!
//! One file of exactly the reserve's length; what it holds means nothing. A shorter one was not finished, and one of another length is of another
//! configuration: both are removed.
//!
//! # Operation
//!
//! [`Reserve::open`] looks what is there, [`Reserve::renew`] makes it where there is room, [`Reserve::give_up_under`] gives it up where there is not.
//! On a file system that writes elsewhere what is changed (btrfs, ZFS) removing a file may itself need room, which those keep for it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Disk, DiskFile, is_full};

/// The file; cheap to clone.
pub struct Reserve<D: Disk> {
    file: Arc<ReserveFile<D>>,
}

struct ReserveFile<D> {
    disk: D,
    path: PathBuf,
    folder: PathBuf,
    bytes: u64,
    held: Mutex<bool>,
}

/// The reserve could not be looked at, made or given up.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot {step} the disk reserve {path:?}: {source}. Mend what the system complains of (permissions, the disk) and start again; \
     [state] disk_reserve_bytes = 0 does without"
)]
pub struct ReserveError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl<D: Disk> Clone for Reserve<D> {
    fn clone(&self) -> Self {
        Reserve { file: Arc::clone(&self.file) }
    }
}

impl<D: Disk> Reserve<D> {
    /// A reserve of `bytes` at `path`, whose folder must be there; 0: none, and an older one is removed. Nothing is allocated yet.
    ///
    /// # Errors
    /// The folder cannot be read, or an unfinished reserve not be removed.
    pub fn open(disk: D, path: &Path, bytes: u64) -> Result<Reserve<D>, ReserveError> {
        let folder = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        let file = ReserveFile { disk, path: path.to_path_buf(), folder, bytes, held: Mutex::new(false) };
        let found = match file.disk.open(path).and_then(|found| found.len()) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(file.failed("read", error)),
        };
        match found {
            Some(found) if found == bytes && bytes > 0 => *file.held() = true,
            Some(_) => file.remove()?,
            None => {}
        }
        Ok(Reserve { file: Arc::new(file) })
    }

    /// Bytes held back now.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        if *self.file.held() { self.file.bytes } else { 0 }
    }

    /// Free bytes of its disk, without those that the reserve is to be made of again.
    ///
    /// # Errors
    /// The system does not say.
    pub fn free_bytes(&self) -> Result<u64, ReserveError> {
        // Looked at together, lest what is just being given up counts as free.
        let held = self.file.held();
        let missing = if *held { 0 } else { self.file.bytes };
        Ok(self.file.free()?.saturating_sub(missing))
    }

    /// Gives it up if fewer than `bytes` are free; says whether it did.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn give_up_under(&self, bytes: u64) -> Result<bool, ReserveError> {
        let mut held = self.file.held();
        if !*held || self.file.free()? >= bytes {
            return Ok(false);
        }
        self.file.remove()?;
        *held = false;
        Ok(true)
    }

    /// Makes it if it is missing and `beside` bytes stay free; says whether it did.
    ///
    /// # Errors
    /// The file cannot be made for another reason than want of room.
    pub fn renew(&self, beside: u64) -> Result<bool, ReserveError> {
        let file = &*self.file;
        let mut held = file.held();
        if *held || file.bytes == 0 || file.free()? < file.bytes.saturating_add(beside) {
            return Ok(false);
        }
        let make = || {
            let made = file.disk.create_new(&file.path)?;
            made.preallocate(file.bytes)?;
            made.sync()?;
            file.disk.sync_dir(&file.folder)
        };
        match make() {
            Ok(()) => {
                *held = true;
                Ok(true)
            }
            Err(error) => {
                file.remove()?;
                // Somebody else was quicker.
                if is_full(&error) { Ok(false) } else { Err(file.failed("make", error)) }
            }
        }
    }
}

impl<D: Disk> ReserveFile<D> {
    fn held(&self) -> MutexGuard<'_, bool> {
        // It is set by single assignments.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn free(&self) -> Result<u64, ReserveError> {
        self.disk.free_bytes(&self.folder).map_err(|error| self.failed("measure the room beside", error))
    }

    /// Its room is free when this returns: file systems with a journal hand out what was freed once the removal is in it.
    fn remove(&self) -> Result<(), ReserveError> {
        match self.disk.remove(&self.path) {
            // An operator in need was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result.map_err(|error| self.failed("remove", error))?,
        }
        self.disk.sync_dir(&self.folder).map_err(|error| self.failed("remove", error))
    }

    fn failed(&self, step: &'static str, source: io::Error) -> ReserveError {
        ReserveError { step, path: self.path.clone(), source }
    }
}

impl<D: Disk> fmt::Debug for Reserve<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reserve = f.debug_struct("Reserve");
        reserve.field("path", &self.file.path).field("held_bytes", &self.held_bytes()).finish()
    }
}

/// Writes a file full: the way to allocate where the system knows no other. By chance, since zeros take no room where they are
/// compressed.
pub(super) fn fill<F: DiskFile + ?Sized>(file: &F, length: u64) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < length {
        rand::fill(&mut chunk[..]);
        let size = usize::try_from(length - at).map_or(CHUNK, |left| left.min(CHUNK));
        file.write_all_at(&chunk[..size], at)?;
        at += size as u64;
    }
    file.sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    const BYTES: u64 = 1 << 20;

    fn open(path: &Path, bytes: u64) -> Reserve<SystemDisk> {
        Reserve::open(SystemDisk, path, bytes).unwrap()
    }

    #[test]
    fn it_is_made_where_there_is_room_found_again_and_given_up_where_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = open(&path, BYTES);
        assert_eq!(reserve.held_bytes(), 0);
        assert!(!reserve.renew(u64::MAX).unwrap(), "there is never that much beside it");
        assert!(reserve.renew(0).unwrap());
        assert_eq!((reserve.held_bytes(), path.metadata().unwrap().len()), (BYTES, BYTES));
        assert!(!reserve.renew(0).unwrap(), "held already");

        let reserve = open(&path, BYTES);
        assert_eq!(reserve.held_bytes(), BYTES);
        assert!(!reserve.give_up_under(1).unwrap() && path.exists());
        assert!(reserve.give_up_under(u64::MAX).unwrap());
        assert!(!path.exists() && reserve.held_bytes() == 0);
        assert!(!reserve.give_up_under(u64::MAX).unwrap(), "there is nothing left to give up");
    }

    #[test]
    fn what_it_lacks_is_not_free_for_others() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = open(&dir.path().join("reserve"), u64::MAX);
        assert_eq!(reserve.free_bytes().unwrap(), 0);
        assert!(open(&dir.path().join("other"), 0).free_bytes().unwrap() > 0);
    }

    #[test]
    fn one_that_is_unfinished_or_of_another_length_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        for bytes in [BYTES, 0] {
            std::fs::write(&path, b"half").unwrap();
            assert_eq!(open(&path, bytes).held_bytes(), 0);
            assert!(!path.exists());
        }
    }

    #[test]
    fn one_that_an_operator_removed_is_given_up_without_a_word() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let reserve = open(&path, BYTES);
        assert!(reserve.renew(0).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert!(reserve.give_up_under(u64::MAX).unwrap());
    }
}
