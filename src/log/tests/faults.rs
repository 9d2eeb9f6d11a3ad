//! A disk that refuses: every operation of a history fails once, and readers beside the writer.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::disk::{Disk, DiskFile, SystemLock};

/// The machine's files, of which one changing operation fails, and all after it that anybody still dares.
#[derive(Clone)]
struct Failing {
    /// Changing operations so far.
    operations: Arc<AtomicU64>,
    /// The one that fails; it succeeds from then on, as a second fdatasync does.
    failing: u64,
    error: i32,
}

struct FailingFile {
    file: File,
    disk: Failing,
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl Failing {
    fn at(failing: u64, error: i32) -> Failing {
        Failing { operations: Arc::default(), failing, error }
    }

    fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    fn count(&self) -> io::Result<()> {
        if self.operations.fetch_add(1, Ordering::Relaxed) == self.failing {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        Ok(())
    }

    fn file(&self, file: File) -> FailingFile {
        FailingFile { file, disk: self.clone() }
    }
}

impl Disk for Failing {
    type File = FailingFile;
    type Lock = SystemLock;

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        SystemDisk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        SystemDisk.list(path)
    }

    fn open(&self, path: &Path) -> io::Result<FailingFile> {
        Ok(self.file(Disk::open(&SystemDisk, path)?))
    }

    fn open_writable(&self, path: &Path) -> io::Result<FailingFile> {
        self.count()?;
        Ok(self.file(SystemDisk.open_writable(path)?))
    }

    fn create_new(&self, path: &Path) -> io::Result<FailingFile> {
        self.count()?;
        Ok(self.file(SystemDisk.create_new(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.count()?;
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.count()?;
        SystemDisk.remove(path)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        self.count()
    }

    fn lock(&self, path: &Path) -> io::Result<Option<SystemLock>> {
        SystemDisk.lock(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        SystemDisk.free_bytes(path)
    }
}

impl DiskFile for FailingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        DiskFile::read_at(&self.file, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.disk.count() {
            // A write that fails may have written a part.
            DiskFile::write_all_at(&self.file, &bytes[..bytes.len() / 2], offset)?;
            return Err(error);
        }
        DiskFile::write_all_at(&self.file, bytes, offset)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.file)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.count()?;
        DiskFile::truncate(&self.file, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.count()
    }
}

/// Transactions of three changes, rotations inside some, one abandoned. Returns what was visible last.
fn history(log: &Log<Failing>, writer: &mut Writer<Failing>) -> Result<(), WriteError> {
    let mut batch = start();
    for number in 1..=6 {
        transaction(&mut batch, number, [number * 10, number * 10 + 1, number * 10 + 2]);
        writer.append(&mut batch)?;
        if number == 3 {
            for value in 0..30 {
                change(&mut batch, TABLE, value);
            }
            writer.append(&mut batch)?;
            writer.abandon()?;
        }
        writer.sync()?;
        assert_eq!(log.visible().commits, number + 1);
    }
    Ok(())
}

fn expected(transactions: u64) -> Vec<u64> {
    (1..=transactions).flat_map(|number| [number * 10, number * 10 + 1, number * 10 + 2]).collect()
}

#[test]
fn a_writer_whose_disk_failed_once_writes_nothing_more_and_reopening_loses_nothing_visible() {
    for error in [EIO, ENOSPC] {
        for failing in 0.. {
            let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let disk = Failing::at(failing, error);
            let mut seen = 0;
            match open(&disk, &At(NOW), dir.path(), options(300)) {
                Ok(Opened { mut writer, log, .. }) => {
                    let failed = history(&log, &mut writer);
                    seen = log.visible().commits.saturating_sub(1);
                    if failed.is_ok() {
                        assert_eq!(seen, 6);
                        assert!(failing > 50, "the history has that many operations: {failing}");
                        break;
                    }
                    let after = disk.operations();
                    let mut batch = start();
                    assert!(writer.append(&mut batch).is_err() && writer.sync().is_err());
                    assert!(writer.abandon().is_err() && writer.outrank(Version(u64::MAX)).is_err());
                    assert_eq!(disk.operations(), after);
                    // What was visible can be read on.
                    assert_eq!(values(&read(&log, Seq(1))), expected(seen));
                }
                Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error}"),
            }
            let Opened { writer, log, .. } = open_at(dir.path(), 300);
            let kept = writer.position().map_or(0, GtidSet::count);
            assert!(kept >= seen, "{failing}: {kept} of {seen}");
            assert_eq!(values(&read(&log, Seq(1))), expected(kept));
        }
    }
}

#[test]
fn a_recovery_whose_disk_failed_anywhere_is_finished_by_the_next() {
    let whole = tempfile::tempdir().unwrap();
    {
        let Opened { mut writer, .. } = open_at(whole.path(), 300);
        let mut batch = start();
        transaction(&mut batch, 1, [10, 11, 12]);
        for value in 0..30 {
            change(&mut batch, TABLE, value);
        }
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
    let mut names = SystemDisk.list(whole.path()).unwrap();
    names.sort();
    let last = names.iter().rfind(|name| name.ends_with(".log")).unwrap();
    let mut torn = std::fs::read(whole.path().join(last)).unwrap();
    torn.extend([7; 100]);
    for failing in 0.. {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        for name in &names {
            std::fs::copy(whole.path().join(name), dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join(last), &torn).unwrap();
        let disk = Failing::at(failing, ENOSPC);
        let first = open(&disk, &At(NOW), dir.path(), options(300)).map(|opened| opened.recovered);
        if let Ok(Recovered::TornTail { torn, .. }) = &first {
            // No room beside stops nothing.
            assert_eq!(torn.kept.is_some(), disk.operations() <= failing || failing > 4, "{failing}");
            if disk.operations() <= failing {
                break;
            }
        }
        let Opened { log, writer, .. } = open_at(dir.path(), 300);
        assert_eq!(values(&read(&log, Seq(1))), [10, 11, 12], "{failing}: {first:?}");
        assert_eq!(writer.position(), Some(&set(1)));
    }
}

#[test]
fn a_reader_beside_the_writer_sees_whole_transactions_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 500);
    const TRANSACTIONS: u64 = 200;
    let reader = std::thread::spawn(move || {
        let mut reader = log.reader(Seq(1)).unwrap();
        let mut visible = log.watch();
        let (mut expected, mut number, mut changes) = (Seq(1), 0, 0);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        while number < TRANSACTIONS {
            let Some(frame) = reader.next_frame().unwrap() else {
                assert_eq!(changes, 0, "what is visible ends with a transaction");
                runtime.block_on(visible.changed()).unwrap();
                continue;
            };
            assert_eq!(frame.seq, expected);
            expected = expected.next();
            match frame.kind {
                Kind::Change => changes += 1,
                Kind::Commit => {
                    number += 1;
                    assert_eq!(changes, number % 7 + 1);
                    changes = 0;
                }
                _ => {}
            }
        }
    });
    let mut batch = start();
    for number in 1..=TRANSACTIONS {
        if number % 5 == 0 {
            for value in 0..10 {
                change(&mut batch, TABLE, value);
            }
            writer.append(&mut batch).unwrap();
            writer.abandon().unwrap();
        }
        transaction(&mut batch, number, 0..number % 7 + 1);
        writer.append(&mut batch).unwrap();
        if number % 3 == 0 || number == TRANSACTIONS {
            writer.sync().unwrap();
        }
    }
    reader.join().unwrap();
}
