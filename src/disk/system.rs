//! The machine's own files: pread, pwrite, fdatasync, flock.
//!
//! Folders are made 0700 and files 0600: a log holds every row that passes through it. No last path component is followed
//! if it is a symbolic link.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::{Disk, DiskFile};

/// The machine's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

/// The flock on a file; the kernel releases it when the file is closed, whatever ends the process.
#[derive(Debug)]
pub struct SystemLock {
    _file: File,
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("open flags fit the C int that open takes");
    // The standard library adds O_CLOEXEC to every open.
    options.read(true).mode(0o600).custom_flags(flags);
    options
}

impl Disk for SystemDisk {
    type File = File;
    type Lock = SystemLock;

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let parent = |folder: &Path| {
            let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.unwrap_or(Path::new(".")).to_path_buf()
        };
        let mut missing: Vec<PathBuf> = Vec::new();
        let mut at = path;
        while !at.is_dir() {
            missing.push(at.to_path_buf());
            match at.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => at = parent,
                _ => break,
            }
        }
        // Folders are made from the top, each synced before the next: of those that are there the deepest alone may be one whose
        // maker was stopped before its sync. Where its parent may not be read, nobody could have made it this way.
        match self.sync_dir(&parent(at)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
        for folder in missing.iter().rev() {
            match DirBuilder::new().mode(0o700).create(folder) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                result => result?,
            }
            self.sync_dir(&parent(folder))?;
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        options().open(path)
    }

    fn open_writable(&self, path: &Path) -> io::Result<File> {
        options().write(true).open(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        options().write(true).create_new(true).open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SystemLock>> {
        let file = options().write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(SystemLock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = retry_on_intr(|| rustix::fs::statvfs(path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match FileExt::read_at(self, &mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn preallocate(&self, length: u64) -> io::Result<()> {
        match retry_on_intr(|| rustix::fs::fallocate(self, FallocateFlags::empty(), 0, length)) {
            // Not every file system can; all of them can be written to.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => super::reserve::fill(self, length),
            result => Ok(result?),
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn folders_and_files_are_for_their_owner_alone() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        SystemDisk.create_dir_all(&folder).unwrap();
        SystemDisk.create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        SystemDisk.create_new(&path).unwrap();
        assert!(SystemDisk.create_new(&path).is_err());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&temp.path().join("a")), mode(&folder), mode(&path)), (0o700, 0o700, 0o600));
        assert_eq!(SystemDisk.list(&folder).unwrap(), ["file"]);
        assert!(SystemDisk.free_bytes(&folder).unwrap() > 0);
    }

    #[test]
    fn reading_stops_at_the_end_of_the_file_and_only_there() {
        let temp = tempfile::tempdir().unwrap();
        let file = SystemDisk.create_new(&temp.path().join("file")).unwrap();
        DiskFile::write_all_at(&file, b"abcdef", 2).unwrap();
        file.sync().unwrap();
        let mut buffer = [9; 8];
        assert_eq!(DiskFile::read_at(&file, &mut buffer, 1).unwrap(), 7);
        assert_eq!(&buffer[..7], b"\0abcdef");
        file.truncate(3).unwrap();
        assert_eq!(DiskFile::len(&file).unwrap(), 3);
    }

    #[test]
    fn what_is_preallocated_takes_blocks_whether_the_system_does_it_or_it_is_written() {
        use std::os::unix::fs::MetadataExt;

        let temp = tempfile::tempdir().unwrap();
        for (name, by_hand) in [("allocated", false), ("written", true)] {
            let path = temp.path().join(name);
            let file = SystemDisk.create_new(&path).unwrap();
            let bytes = 3_000_000;
            if by_hand { super::super::reserve::fill(&file, bytes) } else { file.preallocate(bytes) }
                .unwrap();
            file.sync().unwrap();
            let metadata = path.metadata().unwrap();
            assert_eq!(metadata.len(), bytes, "{name}");
            assert!(metadata.blocks() * 512 >= bytes, "{name}: {} blocks", metadata.blocks());
        }
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (target, link) = (temp.path().join("target"), temp.path().join("link"));
        std::fs::write(&target, b"x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(SystemDisk.open(&link).is_err());
        assert!(SystemDisk.open_writable(&link).is_err());
        assert!(SystemDisk.lock(&link).is_err());
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("LOCK");
        let lock = SystemDisk.lock(&path).unwrap().unwrap();
        assert!(SystemDisk.lock(&path).unwrap().is_none());
        drop(lock);
        assert!(SystemDisk.lock(&path).unwrap().is_some());
    }
}
