//! What fails, when, and for how long.

use std::io;

use rustix::io::Errno;

pub use super::content::Cache;

/// What a disk is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    CreateDir,
    List,
    Open,
    Create,
    Lock,
    Read,
    Length,
    Write,
    Truncate,
    Sync,
    Rename,
    Remove,
    SyncDir,
    FreeBytes,
}

impl Operation {
    /// Whether it leaves the disk other than it was.
    pub(super) fn changes(self) -> bool {
        use Operation::{FreeBytes, Length, List, Open, Read};
        !matches!(self, List | Open | Read | Length | FreeBytes)
    }
}

/// How an operation fails. But for [`Fault::Short`] and [`Fault::Drops`], one that fails has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// EIO, whatever is asked.
    Io,
    /// EIO of this alone.
    IoOf(Operation),
    /// ENOSPC of what needs room: folders, files, writes, renamings, and syncs, in which some file systems look for it.
    Full,
    /// A write puts down its first half, and ENOSPC follows.
    Short,
    /// A file's sync fails with EIO, and what was pending will never be durable, whatever later syncs say.
    Drops(Cache),
}

impl Fault {
    fn can_strike(self, operation: Operation) -> bool {
        use Operation::{Create, CreateDir, Rename, Sync, Write};
        match self {
            Fault::Io => true,
            Fault::IoOf(one) => operation == one,
            Fault::Full => matches!(operation, Create | CreateDir | Write | Rename | Sync),
            Fault::Short => operation == Write,
            Fault::Drops(_) => operation == Sync,
        }
    }

    pub(super) fn error(self) -> io::Error {
        match self {
            Fault::Io | Fault::IoOf(_) | Fault::Drops(_) => Errno::IO,
            Fault::Full | Fault::Short => Errno::NOSPC,
        }
        .into()
    }
}

/// How long a fault stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// The operation asked for again succeeds.
    Once,
    /// Everything that it can strike fails from then on.
    ForGood,
}

/// A fault that is set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub fault: Fault,
    /// Operations that it could strike and that pass before.
    pub passing: u64,
    pub lasting: Lasting,
    pub struck: bool,
}

impl Plan {
    /// Whether it strikes this operation.
    pub fn strikes(&mut self, operation: Operation) -> bool {
        if !self.fault.can_strike(operation) || (self.struck && self.lasting == Lasting::Once) {
            return false;
        }
        if self.passing > 0 {
            self.passing -= 1;
            return false;
        }
        self.struck = true;
        true
    }
}
