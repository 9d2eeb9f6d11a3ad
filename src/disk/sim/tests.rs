use std::collections::BTreeSet;

use super::*;

const SEEDS: u64 = 400;

fn path() -> &'static Path {
    Path::new("/d/file")
}

/// A disk with the folder `/d`.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/d")).unwrap();
    disk
}

/// A disk with `path()` holding `bytes`, durable.
fn disk_with(bytes: &[u8]) -> (SimDisk, SimFile) {
    let disk = disk();
    disk.put(path(), bytes).unwrap();
    let file = disk.open_writable(path()).unwrap();
    (disk, file)
}

/// Every content of `path()` that crashes leave.
fn outcomes(disk: &SimDisk) -> BTreeSet<Option<Vec<u8>>> {
    (0..SEEDS).map(|seed| disk.crash(seed).contents(path()).ok()).collect()
}

fn names(disk: &SimDisk) -> BTreeSet<Vec<String>> {
    (0..SEEDS).map(|seed| disk.crash(seed).list(Path::new("/d")).unwrap()).collect()
}

fn error(result: io::Result<impl Sized>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_is_written_is_read_and_holes_are_zeros() {
    let (_, file) = disk_with(b"");
    file.write_all_at(b"abc", 2).unwrap();
    file.write_all_at(b"z", 1200).unwrap();
    let mut buffer = [9; 8];
    assert_eq!((file.read_at(&mut buffer, 0).unwrap(), &buffer), (8, b"\0\0abc\0\0\0"));
    assert_eq!((file.read_at(&mut buffer, 1199).unwrap(), &buffer[..2]), (2, &b"\0z"[..]));
    assert_eq!(file.read_at(&mut buffer, u64::MAX).unwrap(), 0);
    file.truncate(3).unwrap();
    file.truncate(6).unwrap();
    assert_eq!((file.read_at(&mut buffer, 0).unwrap(), &buffer[..6]), (6, &b"\0\0a\0\0\0"[..]));
    assert_eq!(file.len().unwrap(), 6);
}

#[test]
fn what_was_synced_survives_every_crash() {
    let (disk, file) = disk_with(b"");
    let bytes: Vec<u8> = (0..2000).map(|i| (i % 251) as u8).collect();
    file.write_all_at(&bytes, 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(bytes.clone())]));
    file.truncate(700).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(bytes[..700].to_vec())]));
}

#[test]
fn each_sector_is_any_of_its_versions_by_itself_and_may_be_torn_between_two() {
    let (disk, file) = disk_with(&[0; 3 * SECTOR]);
    for version in 1..=2 {
        file.write_all_at(&[version; 3 * SECTOR], 0).unwrap();
    }
    let outcomes = outcomes(&disk);
    let (mut whole, mut torn) = (BTreeSet::new(), 0);
    for bytes in outcomes.iter().flatten() {
        assert_eq!(bytes.len(), 3 * SECTOR);
        if bytes.chunks(SECTOR).all(|sector| sector.iter().all(|byte| *byte == sector[0])) {
            whole.insert([bytes[0], bytes[SECTOR], bytes[2 * SECTOR]]);
        } else {
            let broken = |sector: &&[u8]| sector.windows(2).filter(|pair| pair[0] != pair[1]).count() == 1;
            assert_eq!(bytes.chunks(SECTOR).filter(broken).count(), 1);
            torn += 1;
        }
    }
    // 27 there are; the last alone, the middle alone, and all of one version are among those met.
    assert!(whole.len() > 15 && torn > 10, "{} {torn}", whole.len());
    for wanted in [[0, 0, 0], [2, 2, 2], [0, 0, 2], [2, 0, 0], [1, 1, 1], [2, 1, 1]] {
        assert!(whole.contains(&wanted), "{wanted:?} of {whole:?}");
    }
}

#[test]
fn a_length_that_survives_its_data_shows_zeros_or_garbage() {
    let (disk, file) = disk_with(b"durable");
    file.write_all_at(&[7; 4 * SECTOR], 7).unwrap();
    let (mut lengths, mut zeros, mut garbage) = (BTreeSet::new(), 0, 0);
    for bytes in outcomes(&disk).iter().flatten() {
        assert_eq!(&bytes[..7], b"durable");
        lengths.insert(bytes.len());
        for sector in bytes.chunks(SECTOR).skip(1).filter(|sector| sector.len() == SECTOR) {
            zeros += usize::from(sector.iter().all(|byte| *byte == 0));
            garbage += usize::from(sector.iter().any(|byte| ![0, 7].contains(byte)));
        }
    }
    assert_eq!(lengths, BTreeSet::from([7, 7 + 4 * SECTOR]));
    assert!(zeros > 20 && garbage > 20, "{zeros} {garbage}");
}

#[test]
fn a_truncation_that_is_not_synced_may_not_have_happened() {
    let (disk, file) = disk_with(&[1; 1500]);
    file.truncate(600).unwrap();
    let lengths: BTreeSet<_> = outcomes(&disk).iter().flatten().map(Vec::len).collect();
    assert_eq!(lengths, BTreeSet::from([600, 1500]));
    assert!(outcomes(&disk).iter().flatten().all(|bytes| bytes[..600] == [1; 600]));
}

#[test]
fn a_new_file_is_there_for_good_only_when_its_folder_was_synced() {
    let disk = disk();
    let file = disk.create_new(path()).unwrap();
    assert_eq!(error(disk.create_new(path())), Some(Errno::EXIST.raw_os_error()));
    file.write_all_at(b"x", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"x".to_vec())]));
}

#[test]
fn a_removed_file_may_come_back_until_its_folder_is_synced_and_is_read_on_by_who_has_it_open() {
    let (disk, file) = disk_with(b"x");
    disk.remove(path()).unwrap();
    assert_eq!(error(disk.open(path())), Some(Errno::NOENT.raw_os_error()));
    assert_eq!(outcomes(&disk), BTreeSet::from([None, Some(b"x".to_vec())]));
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([None]));
    assert_eq!(file.read_at(&mut [0], 0).unwrap(), 1);
}

#[test]
fn a_renaming_happens_or_not_or_shows_both_names_and_never_neither() {
    let disk = disk();
    for (name, bytes) in [("/d/old", b"o"), ("/d/new", b"n")] {
        disk.put(Path::new(name), bytes).unwrap();
    }
    disk.rename(Path::new("/d/new"), Path::new("/d/old")).unwrap();
    let found: BTreeSet<_> = (0..SEEDS)
        .map(|seed| {
            let crashed = disk.crash(seed);
            (crashed.contents(Path::new("/d/old")).ok(), crashed.contents(Path::new("/d/new")).ok())
        })
        .collect();
    let (old, new) = (Some(b"o".to_vec()), Some(b"n".to_vec()));
    let all = [(old, new.clone()), (new.clone(), None), (new.clone(), new)];
    assert_eq!(found, BTreeSet::from(all));
    // The old name given again, in whatever order that arrives.
    drop(disk.create_new(Path::new("/d/new")).unwrap());
    for seed in 0..SEEDS {
        let crashed = disk.crash(seed);
        let shown = ["/d/old", "/d/new"].map(|name| crashed.contents(Path::new(name)).ok());
        assert!(shown.contains(&Some(b"n".to_vec())), "{seed}: {shown:?}");
    }
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(names(&disk).len(), 1);
}

#[test]
fn entries_survive_each_by_itself() {
    let disk = disk();
    for name in ["/d/a", "/d/b", "/d/c"] {
        drop(disk.create_new(Path::new(name)).unwrap());
    }
    assert_eq!(names(&disk).len(), 8);
}

#[test]
fn a_folder_made_is_durable_and_so_is_one_whose_maker_was_stopped() {
    let disk = SimDisk::new();
    disk.fail(Fault::IoOf(Operation::SyncDir), 0, Lasting::Once);
    assert!(disk.create_dir_all(Path::new("/a/b")).is_err());
    assert!((0..SEEDS).any(|seed| disk.crash(seed).list(Path::new("/a")).is_err()));
    disk.create_dir_all(Path::new("/a/b")).unwrap();
    assert!((0..SEEDS).all(|seed| disk.crash(seed).list(Path::new("/a/b")).is_ok()));
}

#[test]
fn a_sync_that_drops_is_followed_by_one_that_succeeds_and_means_nothing() {
    for cache in [Cache::Stays, Cache::Reverts] {
        let (disk, file) = disk_with(b"old");
        file.write_all_at(b"new and longer", 0).unwrap();
        disk.fail(Fault::Drops(cache), 0, Lasting::Once);
        assert_eq!(error(file.sync()), Some(Errno::IO.raw_os_error()));
        file.sync().unwrap();
        let seen = disk.contents(path()).unwrap();
        let durable = b"old\0\0\0\0\0\0\0\0\0\0\0".to_vec();
        assert_eq!(seen, if cache == Cache::Stays { b"new and longer".to_vec() } else { durable.clone() });
        assert_eq!(outcomes(&disk), BTreeSet::from([Some(durable)]));
        // Written again, the sector is dirty again.
        file.write_all_at(b"new", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(outcomes(&disk), BTreeSet::from([Some(disk.contents(path()).unwrap())]));
    }
}

#[test]
fn a_sync_that_fails_leaves_pending_what_was() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"new", 0).unwrap();
    disk.fail(Fault::Io, 0, Lasting::Once);
    assert!(file.sync().is_err());
    assert!(outcomes(&disk).contains(&Some(b"old".to_vec())));
    file.sync().unwrap();
    assert_eq!(outcomes(&disk), BTreeSet::from([Some(b"new".to_vec())]));
}

#[test]
fn a_fault_strikes_the_operation_it_is_set_for_once_or_from_then_on() {
    let (disk, file) = disk_with(b"");
    for lasting in [Lasting::Once, Lasting::ForGood] {
        disk.fail(Fault::Io, 1, lasting);
        file.write_all_at(b"a", 0).unwrap();
        assert!(!disk.struck());
        assert_eq!(error(file.read_at(&mut [0], 0)), Some(Errno::IO.raw_os_error()));
        assert!(disk.struck());
        assert_eq!(disk.list(Path::new("/d")).is_err(), lasting == Lasting::ForGood);
        disk.heal();
        disk.list(Path::new("/d")).unwrap();
    }
    let all: [(Operation, &dyn Fn() -> Option<i32>); 11] = [
        (Operation::List, &|| error(disk.list(Path::new("/d")))),
        (Operation::Open, &|| error(disk.open(path()))),
        (Operation::Create, &|| error(disk.create_new(Path::new("/d/new")))),
        (Operation::Lock, &|| error(disk.lock(Path::new("/d/LOCK")))),
        (Operation::Read, &|| error(file.read_at(&mut [0], 0))),
        (Operation::Length, &|| error(file.len())),
        (Operation::Truncate, &|| error(file.truncate(0))),
        (Operation::Sync, &|| error(file.sync())),
        (Operation::Rename, &|| error(disk.rename(path(), Path::new("/d/to")))),
        (Operation::Remove, &|| error(disk.remove(path()))),
        (Operation::SyncDir, &|| error(disk.sync_dir(Path::new("/d")))),
    ];
    let before = (disk.contents(path()).unwrap(), disk.list(Path::new("/d")).unwrap());
    for (operation, ask) in all {
        disk.fail(Fault::IoOf(operation), 0, Lasting::Once);
        assert_eq!(ask(), Some(Errno::IO.raw_os_error()), "{operation:?}");
        disk.heal();
        assert_eq!((disk.contents(path()).unwrap(), disk.list(Path::new("/d")).unwrap()), before);
    }
}

#[test]
fn a_short_write_leaves_its_first_half() {
    let (disk, file) = disk_with(b"");
    disk.fail(Fault::Short, 1, Lasting::Once);
    file.write_all_at(b"ab", 0).unwrap();
    assert_eq!(error(file.write_all_at(b"cdef", 2)), Some(Errno::NOSPC.raw_os_error()));
    assert_eq!(disk.contents(path()).unwrap(), b"abcd");
}

#[test]
fn a_full_disk_takes_what_fits_and_has_room_again_when_a_file_is_gone() {
    let (disk, file) = disk_with(b"");
    disk.set_capacity(1000);
    let other = disk.create_new(Path::new("/d/other")).unwrap();
    file.write_all_at(&[1; 600], 0).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 400);
    assert_eq!(error(other.write_all_at(&[2; 500], 0)), Some(Errno::NOSPC.raw_os_error()));
    assert_eq!((other.len().unwrap(), disk.free_bytes(Path::new("/d")).unwrap()), (400, 0));
    file.write_all_at(&[3; 600], 0).unwrap();
    assert_eq!(error(file.truncate(601)), Some(Errno::NOSPC.raw_os_error()));
    assert!(file.write_all_at(&[3; 2], u64::MAX - 1).is_err());
    disk.remove(path()).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 0);
    drop(file);
    assert_eq!(disk.free_bytes(Path::new("/d")).unwrap(), 600);
}

#[test]
fn a_flipped_bit_is_flipped_for_good() {
    let (disk, file) = disk_with(b"ab");
    file.write_all_at(b"c", 2).unwrap();
    for bit in [0, 17] {
        disk.flip(path(), bit).unwrap();
    }
    assert_eq!(disk.contents(path()).unwrap(), b"`ba");
    file.sync().unwrap();
    assert_eq!(disk.crash(1).contents(path()).unwrap(), b"`ba");
}

#[test]
fn a_lock_ends_with_its_holder_or_with_a_crash() {
    let disk = disk();
    let lock = disk.lock(Path::new("/d/LOCK")).unwrap().unwrap();
    assert!(disk.lock(Path::new("/d/LOCK")).unwrap().is_none());
    assert!(disk.crash(7).lock(Path::new("/d/LOCK")).unwrap().is_some());
    drop(lock);
    assert!(disk.lock(Path::new("/d/LOCK")).unwrap().is_some());
}

#[test]
fn the_history_has_the_disk_before_each_change_and_a_seed_repeats_its_crash() {
    let (disk, file) = disk_with(b"");
    disk.keep_history();
    file.write_all_at(b"a", 0).unwrap();
    disk.list(Path::new("/d")).unwrap();
    file.sync().unwrap();
    file.write_all_at(b"b", 0).unwrap();
    let seen = [0, 1, 2, 3].map(|i| disk.before(i).unwrap().contents(path()).unwrap());
    assert_eq!(seen, [&b""[..], b"a", b"a", b"b"]);
    assert_eq!((disk.history_len(), disk.operations()), (3, 7));
    assert!(disk.before(4).is_none());
    assert_eq!(outcomes(&disk.before(2).unwrap()), BTreeSet::from([Some(b"a".to_vec())]));
    for seed in 0..SEEDS {
        assert_eq!(disk.crash(seed).contents(path()).unwrap(), disk.crash(seed).contents(path()).unwrap());
    }
}

#[test]
fn a_file_opened_for_reading_is_not_written() {
    let (disk, _) = disk_with(b"x");
    let file = disk.open(path()).unwrap();
    assert!(file.write_all_at(b"y", 0).is_err() && file.truncate(0).is_err());
    assert_eq!(disk.contents(path()).unwrap(), b"x");
}
