//! What a [`Disk`] is asked for.

use super::*;

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let mut parent = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            let name = name.to_str().ok_or(Errno::INVAL)?;
            let found = state.image.folder(parent)?.get(name);
            let id = match found {
                Some(id) => id,
                None => {
                    state.begin_plain(Operation::CreateDir)?;
                    let id = state.image.add(Node::Folder(Arc::default()));
                    state.image.folder_mut(parent)?.create(name, id);
                    id
                }
            };
            // Also where the folder was there: who made it may have been stopped before this.
            state.begin_plain(Operation::SyncDir)?;
            state.sync_dir(parent)?;
            parent = id;
        }
        state.image.folder(parent).map(|_| ())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.begin_plain(Operation::List)?;
        let id = state.image.find(path)?;
        Ok(state.image.folder(id)?.names().cloned().collect())
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        self.open_existing(path, false)
    }

    fn open_writable(&self, path: &Path) -> io::Result<SimFile> {
        self.open_existing(path, true)
    }

    fn create_new(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        state.begin_plain(Operation::Create)?;
        let (folder, name) = state.image.parent(path)?;
        if state.image.folder(folder)?.get(&name).is_some() {
            return Err(Errno::EXIST.into());
        }
        let id = state.image.add(Node::File(Arc::default()));
        state.image.folder_mut(folder)?.create(&name, id);
        Ok(self.file(&mut state, id, true))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_plain(Operation::Rename)?;
        let (folder, from) = state.image.parent(from)?;
        let (other, to) = state.image.parent(to)?;
        if folder != other {
            return Err(Errno::XDEV.into());
        }
        let folder = state.image.folder_mut(folder)?;
        let id = folder.get(&from).ok_or(Errno::NOENT)?;
        folder.rename(&from, &to, id);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_plain(Operation::Remove)?;
        let (folder, name) = state.image.parent(path)?;
        let id = state.image.folder(folder)?.get(&name).ok_or(Errno::NOENT)?;
        state.image.file(id)?;
        state.image.folder_mut(folder)?.remove(&name);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin_plain(Operation::SyncDir)?;
        let id = state.image.find(path)?;
        state.sync_dir(id)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SimLock>> {
        let mut state = self.state();
        state.begin_plain(Operation::Lock)?;
        let (folder, name) = state.image.parent(path)?;
        let id = match state.image.folder(folder)?.get(&name) {
            Some(id) => id,
            None => {
                let id = state.image.add(Node::File(Arc::default()));
                state.image.folder_mut(folder)?.create(&name, id);
                id
            }
        };
        let free = state.locks.insert(id);
        Ok(free.then(|| SimLock { disk: self.clone(), id }))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.state();
        state.begin_plain(Operation::FreeBytes)?;
        state.image.find(path)?;
        Ok(state.free())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.begin_plain(Operation::Read)?;
        state.longest_read = state.longest_read.max(buffer.len());
        let view = state.image.file(self.id)?.view();
        let rest = usize::try_from(offset).ok().and_then(|offset| view.get(offset..)).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if !self.writable {
            return Err(Errno::BADF.into());
        }
        let struck = state.begin(Operation::Write).err();
        let bytes = match struck {
            None => bytes,
            Some(Fault::Short) => &bytes[..bytes.len() / 2],
            Some(fault) => return Err(fault.error()),
        };
        // What there is room for is written.
        let length = state.image.file(self.id)?.view().len() as u64;
        let room = length.saturating_add(state.free()).saturating_sub(offset);
        let fitting = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        if fitting > 0 {
            let start = usize::try_from(offset).map_err(|_| Errno::FBIG)?;
            state.image.file_mut(self.id)?.write(&bytes[..fitting], start);
        }
        match struck {
            None if fitting == bytes.len() => Ok(()),
            None => Err(Errno::NOSPC.into()),
            Some(fault) => Err(fault.error()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.begin_plain(Operation::Length)?;
        Ok(state.image.file(self.id)?.view().len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        if !self.writable {
            return Err(Errno::INVAL.into());
        }
        state.begin_plain(Operation::Truncate)?;
        let room = (state.image.file(self.id)?.view().len() as u64).saturating_add(state.free());
        if length > room {
            return Err(Errno::NOSPC.into());
        }
        let length = usize::try_from(length).map_err(|_| Errno::FBIG)?;
        state.image.file_mut(self.id)?.truncate(length);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let struck = state.begin(Operation::Sync);
        let content = state.image.file_mut(self.id)?;
        match struck {
            Ok(()) => content.sync(),
            Err(fault) => {
                if let Fault::Drops(cache) = fault {
                    content.drop_pending(cache);
                }
                return Err(fault.error());
            }
        }
        Ok(())
    }
}
