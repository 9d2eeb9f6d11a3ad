//! Files behind a trait, so that a simulated disk can lose, tear and refuse what the real one would on a bad day.
//!
//! Everything blocks: callers choose the thread. Nothing is retried here; a short write is completed, any error is passed on.

use std::io;
use std::path::Path;

mod reserve;
pub mod sim;
mod system;

pub use reserve::{Reserve, ReserveError};
pub use sim::SimDisk;
pub use system::{SystemDisk, SystemLock};

/// Whether the system says that there is no room, be it on the disk or for this user.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A folder tree that can be made durable piece by piece; cheap to clone.
pub trait Disk: Clone + Send + Sync + 'static {
    type File: DiskFile;
    /// Keeps a lock until dropped.
    type Lock: Send + Sync + 'static;

    /// Makes `path` and its missing parents, mode 0700. All that anybody made this way is durable when it returns, also what
    /// an earlier call made that was stopped before its sync.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Names in the folder `path`, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Opens an existing file for reading alone.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens an existing file for reading and writing.
    fn open_writable(&self, path: &Path) -> io::Result<Self::File>;

    /// Creates a file, mode 0600; it must not exist.
    fn create_new(&self, path: &Path) -> io::Result<Self::File>;

    /// Renames, replacing what `to` names; durable after [`Disk::sync_dir`]. Open files follow their name. Between folders it may be
    /// refused with [`io::ErrorKind::CrossesDevices`], and is durable after both are synced.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file; durable after [`Disk::sync_dir`]. Who has it open goes on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the folder's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Locks the file `path`, made if missing, for this process alone; `None` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Self::Lock>>;

    /// Bytes that may still be written below `path`.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// One open file.
#[allow(
    clippy::len_without_is_empty,
    reason = "a length that can fail has no use for an emptiness that can fail too"
)]
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes at `offset`; fewer only at the file's end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` at `offset`.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Length, bytes.
    fn len(&self) -> io::Result<u64>;

    /// Makes a new, empty file `length` bytes long, on blocks of its own: what was allocated is not taken by anybody else, and is free again
    /// when the file is removed. What it holds does not matter. An error may leave a part of it.
    fn preallocate(&self, length: u64) -> io::Result<()> {
        reserve::fill(self, length)
    }

    /// Cuts the file to `length` bytes.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// fdatasync: content and length are durable when it returns.
    fn sync(&self) -> io::Result<()>;
}
