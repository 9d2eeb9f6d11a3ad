//! A disk in memory that loses, tears and refuses what a real one does on a bad day.
//!
//! # What is promised
//!
//! What [`Disk`] promises, and nothing beyond it, as seldom as real disks are kind:
//!
//! - A file's bytes and its length are durable after its own [`DiskFile::sync`] alone. Until then each [`SECTOR`] is at a crash any
//!   version between the durable one and the newest, by itself, and so is the length. One sector may be torn at any byte between its version before
//!   and after a write. Where the length grew and the data did not arrive, there are zeros or garbage.
//! - An entry of a folder is durable after [`Disk::sync_dir`] of that folder alone. Until then a new file may be missing and a removed one come
//!   back, each by itself. A renaming has happened, has not, or shows both names; never neither, unless the old name was
//!   not durable itself; and what it replaces stands under the name until it has.
//! - A sync that fails leaves pending what was, or ([`Fault::Drops`]) drops it: a later sync succeeds and means nothing, while readers may go on
//!   seeing the bytes that the disk does not have.
//! - A lock ends with its holder or with a crash.
//!
//! # What is assumed
//!
//! - Bytes that were durable in a sector stand in it whatever is written around them: both versions hold them. A drive that ruins a
//!   whole sector when its power goes inside a write breaks this; that is bit rot ([`SimDisk::flip`]).
//! - A file system keeps names and lengths in a journal: a failed sync does not drop them silently, it leaves them pending. (Where the journal
//!   itself fails, Linux makes the file system read-only: [`Lasting::ForGood`].)
//! - What was cut off a file does not come back at its old place when the file grows again: journals order that, and only ext4 mounted with
//!   `data=writeback` shows old blocks. Garbage is anything but that.
//! - Space of a removed file is free once its removal is durable and nobody has it open.
//!
//! # Operation
//!
//! Clones share one disk. [`SimDisk::crash`] gives another one, with what a power cut now may leave, and the first goes on as if nothing had been: so one
//! state can be crashed with many seeds. The same seed on the same state gives the same disk. [`SimDisk::keep_history`] keeps a copy before each
//! changing operation (copies share what does not change), so that one run can be crashed at every one of them. [`SimDisk::fail`] sets a fault
//! at the Nth operation that it can strike.
//!
//! Nothing here sleeps or reads a clock, and no order depends on memory addresses: a run repeats exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::io::Errno;

use self::content::Content;
use self::fault::Plan;
use self::folder::Folder;
use super::{Disk, DiskFile};

mod content;
mod fault;
mod folder;
mod operations;
#[cfg(test)]
mod tests;

pub use content::SECTOR;
pub use fault::{Cache, Fault, Lasting, Operation};

/// Room on a new disk, bytes. Holes count as if they were written.
const CAPACITY: u64 = 1 << 30;

/// Number of a file or folder, whatever names it.
type Id = u64;

const ROOT: Id = 0;

/// The disk; see the module.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    image: Image,
    capacity: u64,
    locks: BTreeSet<Id>,
    /// Who is open how often.
    open: BTreeMap<Id, usize>,
    /// Open and without a name for good.
    nameless: BTreeSet<Id>,
    operations: u64,
    longest_read: usize,
    plan: Option<Plan>,
    history: Option<Vec<Image>>,
}

/// Everything that is or may become durable.
#[derive(Clone, Debug)]
struct Image {
    nodes: BTreeMap<Id, Node>,
    next: Id,
}

#[derive(Clone, Debug)]
enum Node {
    Folder(Arc<Folder>),
    File(Arc<Content>),
}

/// How much of what is pending a crash leaves: drawn for each file and folder by itself.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Nothing,
    Everything,
    /// Each change with this probability.
    Any(f64),
    /// The first share is lost, what came later arrived.
    Late(f64),
    /// The first share arrived, the change behind it in part.
    Torn(f64),
}

impl Fate {
    fn draw(random: &mut StdRng) -> Fate {
        match random.random_range(0..10) {
            0 => Fate::Nothing,
            1 => Fate::Everything,
            2..=4 => Fate::Any(random.random()),
            5..=6 => Fate::Late(random.random()),
            _ => Fate::Torn(random.random()),
        }
    }

    /// Whether the change `i` of `count` survives whole.
    fn keeps(self, i: usize, count: usize, random: &mut StdRng) -> bool {
        match self {
            Fate::Nothing => false,
            Fate::Everything => true,
            Fate::Any(probability) => random.random_bool(probability),
            Fate::Late(share) => i >= part(share, count),
            Fate::Torn(share) => i < part(share, count),
        }
    }

    /// The change that survives in part.
    fn torn(self, count: usize) -> Option<usize> {
        match self {
            Fate::Torn(share) => Some(part(share, count)),
            _ => None,
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small count")]
fn part(share: f64, count: usize) -> usize {
    (share * count as f64) as usize
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> SimDisk {
        let nodes = BTreeMap::from([(ROOT, Node::Folder(Arc::default()))]);
        SimDisk::of(Image { nodes, next: ROOT + 1 }, CAPACITY)
    }

    fn of(image: Image, capacity: u64) -> SimDisk {
        let state = State {
            image,
            capacity,
            locks: BTreeSet::new(),
            open: BTreeMap::new(),
            nameless: BTreeSet::new(),
            operations: 0,
            longest_read: 0,
            plan: None,
            history: None,
        };
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed elsewhere may still look at the disk.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as a power cut now may leave it: everything on it is durable, nothing open, locked or set to fail.
    #[must_use]
    pub fn crash(&self, seed: u64) -> SimDisk {
        let state = self.state();
        let mut random = StdRng::seed_from_u64(seed);
        let nodes = state.image.nodes.iter().map(|(id, node)| {
            let node = match node {
                Node::Folder(folder) if folder.is_settled() => node.clone(),
                Node::File(content) if content.is_settled() => node.clone(),
                Node::Folder(folder) => Node::Folder(Arc::new(folder.crash(&mut random))),
                Node::File(content) => Node::File(Arc::new(content.crash(&mut random))),
            };
            (*id, node)
        });
        let mut image = Image { nodes: nodes.collect(), next: state.image.next };
        image.forget_unnamed(&BTreeMap::new());
        SimDisk::of(image, state.capacity)
    }

    /// From now on keeps a copy of the disk before each operation that changes it.
    pub fn keep_history(&self) {
        self.state().history = Some(Vec::new());
    }

    /// The disk as it was before the changing operation `index`, counted from 0 where the history begins; as it is now for the one that will
    /// come next. Nothing is open, locked or set to fail on it.
    #[must_use]
    pub fn before(&self, index: usize) -> Option<SimDisk> {
        let state = self.state();
        let history = state.history.as_ref()?;
        let image = if index == history.len() { Some(&state.image) } else { history.get(index) };
        image.map(|image| SimDisk::of(image.clone(), state.capacity))
    }

    /// Changing operations since the history began.
    #[must_use]
    pub fn history_len(&self) -> usize {
        self.state().history.as_ref().map_or(0, Vec::len)
    }

    /// Operations asked for so far, failed ones included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets `fault` strike once `passing` operations that it can strike have passed from now on, in place of any fault set before.
    pub fn fail(&self, fault: Fault, passing: u64, lasting: Lasting) {
        self.state().plan = Some(Plan { fault, passing, lasting, struck: false });
    }

    /// Ends the fault that is set.
    pub fn heal(&self) {
        self.state().plan = None;
    }

    /// Does something that the fault which is set does not strike, nor counts.
    pub fn undisturbed<T>(&self, act: impl FnOnce() -> T) -> T {
        let plan = self.state().plan.take();
        let result = act();
        self.state().plan = plan;
        result
    }

    /// The most that was ever asked for in one read, bytes.
    #[must_use]
    pub fn longest_read(&self) -> usize {
        self.state().longest_read
    }

    /// Whether the fault that is set has struck.
    #[must_use]
    pub fn struck(&self) -> bool {
        self.state().plan.is_some_and(|plan| plan.struck)
    }

    /// Sets the room of the whole disk, bytes.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Bit rot: turns one bit of a file over, durable or not.
    ///
    /// # Errors
    /// There is no such file.
    pub fn flip(&self, path: &Path, bit: usize) -> io::Result<()> {
        let mut state = self.state();
        let id = state.image.find(path)?;
        state.image.file_mut(id)?.flip(bit);
        Ok(())
    }

    /// A file's bytes as they are seen now. No operation: it never fails by a fault that is set.
    ///
    /// # Errors
    /// There is no such file.
    pub fn contents(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let id = state.image.find(path)?;
        Ok(state.image.file(id)?.view().to_vec())
    }

    /// Puts a file into a folder that is there, in place of one of that name if there is one, durable at once. No operation, as above.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let id = state.image.add(Node::File(Arc::new(Content::durable(bytes.to_vec()))));
        let (folder, name) = state.image.parent(path)?;
        let folder = state.image.folder_mut(folder)?;
        folder.create(&name, id);
        folder.sync();
        Ok(())
    }
}

impl State {
    /// Counts an operation, and lets it fail if that is set.
    fn begin(&mut self, operation: Operation) -> Result<(), Fault> {
        if let Some(history) = self.history.as_mut().filter(|_| operation.changes()) {
            history.push(self.image.clone());
        }
        self.operations += 1;
        match self.plan.as_mut().and_then(|plan| plan.strikes(operation).then_some(plan.fault)) {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    fn begin_plain(&mut self, operation: Operation) -> io::Result<()> {
        self.begin(operation).map_err(Fault::error)
    }

    fn free(&self) -> u64 {
        let used = self.image.nodes.values().map(|node| match node {
            Node::File(content) => content.view().len() as u64,
            Node::Folder(_) => 0,
        });
        self.capacity.saturating_sub(used.sum())
    }

    fn sync_dir(&mut self, id: Id) -> io::Result<()> {
        if self.image.folder_mut(id)?.sync() {
            self.nameless = self.image.forget_unnamed(&self.open);
        }
        Ok(())
    }
}

impl Image {
    fn add(&mut self, node: Node) -> Id {
        let id = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        id
    }

    fn find(&self, path: &Path) -> io::Result<Id> {
        let mut at = ROOT;
        for component in path.components() {
            match component {
                Component::RootDir | Component::CurDir => {}
                Component::Normal(name) => {
                    let name = name.to_str().ok_or(Errno::INVAL)?;
                    at = self.folder(at)?.get(name).ok_or(Errno::NOENT)?;
                }
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::INVAL.into()),
            }
        }
        Ok(at)
    }

    /// The folder that `path` lies in, and its name there.
    fn parent(&self, path: &Path) -> io::Result<(Id, String)> {
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::INVAL)?;
        let folder = self.find(path.parent().unwrap_or(Path::new("")))?;
        Ok((folder, name.to_owned()))
    }

    fn folder(&self, id: Id) -> io::Result<&Folder> {
        match self.nodes.get(&id) {
            Some(Node::Folder(folder)) => Ok(folder),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn folder_mut(&mut self, id: Id) -> io::Result<&mut Folder> {
        match self.nodes.get_mut(&id) {
            Some(Node::Folder(folder)) => Ok(Arc::make_mut(folder)),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn file(&self, id: Id) -> io::Result<&Content> {
        match self.nodes.get(&id) {
            Some(Node::File(content)) => Ok(content),
            _ => Err(Errno::ISDIR.into()),
        }
    }

    fn file_mut(&mut self, id: Id) -> io::Result<&mut Content> {
        match self.nodes.get_mut(&id) {
            Some(Node::File(content)) => Ok(Arc::make_mut(content)),
            _ => Err(Errno::ISDIR.into()),
        }
    }

    /// Drops what no folder can ever name again, but for what is open, which is returned.
    fn forget_unnamed(&mut self, open: &BTreeMap<Id, usize>) -> BTreeSet<Id> {
        let mut named = BTreeSet::from([ROOT]);
        for node in self.nodes.values() {
            if let Node::Folder(folder) = node {
                named.extend(folder.ids());
            }
        }
        self.nodes.retain(|id, _| named.contains(id) || open.contains_key(id));
        self.nodes.keys().filter(|id| !named.contains(id)).copied().collect()
    }
}

/// A file open on a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    id: Id,
    writable: bool,
}

/// A lock on a [`SimDisk`].
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    id: Id,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.id);
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        let left = state.open.get(&self.id).map_or(0, |count| count - 1);
        if left > 0 {
            state.open.insert(self.id, left);
            return;
        }
        state.open.remove(&self.id);
        if state.nameless.remove(&self.id) {
            state.image.nodes.remove(&self.id);
        }
    }
}

impl SimDisk {
    fn file(&self, state: &mut State, id: Id, writable: bool) -> SimFile {
        *state.open.entry(id).or_default() += 1;
        SimFile { disk: self.clone(), id, writable }
    }

    fn open_existing(&self, path: &Path, writable: bool) -> io::Result<SimFile> {
        let mut state = self.state();
        state.begin_plain(Operation::Open)?;
        let id = state.image.find(path)?;
        state.image.file(id)?;
        Ok(self.file(&mut state, id, writable))
    }
}
