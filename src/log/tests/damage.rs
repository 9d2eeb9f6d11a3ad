//! Torn tails, flipped bits, open transactions: what a crash or a bad disk leaves.

use std::fs;
use std::path::PathBuf;

use super::*;

/// The one segment that has frames besides its state, and its bytes.
fn only_segment(dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("00000000000000000001.log");
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

/// A folder with this first segment alone.
fn folder_with(bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("00000000000000000001.log"), bytes).unwrap();
    dir
}

/// Three transactions, the last two in one batch; its bytes and where each frame ends.
fn small_log() -> (Vec<u8>, Vec<Read>) {
    let dir = tempfile::tempdir().unwrap();
    let Opened { mut writer, log, .. } = open_at(dir.path(), 1 << 20);
    let mut batch = start();
    transaction(&mut batch, 1, [10]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    transaction(&mut batch, 2, [20, 21]);
    transaction(&mut batch, 3, [30]);
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    (only_segment(dir.path()).1, read(&log, Seq(1)))
}

#[test]
fn fault_03_a_tail_torn_at_any_byte_costs_only_what_was_not_whole() {
    let (bytes, frames) = small_log();
    let synced = frames[5].at.offset as usize;
    let ends: Vec<(usize, u64)> = {
        let ends = frames.iter().skip(1).map(|frame| frame.at.offset as usize).chain([bytes.len()]);
        ends.zip(&frames)
            .filter(|(_, f)| matches!(f.kind, Kind::Commit | Kind::Mark))
            .map(|(end, f)| (end, f.seq.0))
            .collect()
    };
    for length in synced..=bytes.len() {
        for junk in [&b""[..], &[0; 700], &[0xA5; 40]] {
            let dir = folder_with(&[&bytes[..length], junk].concat());
            let beside = read_only(&SystemDisk, dir.path()).unwrap().log.visible().seq;
            let Opened { mut writer, log, recovered } = open_at(dir.path(), 1 << 20);
            let (end, last) = ends.iter().rev().find(|(end, _)| *end <= length).unwrap();
            assert_eq!((log.visible().seq, beside), (Seq(*last), Seq(*last)), "{length}");
            let read_back = read(&log, Seq(1));
            assert_eq!(read_back[..], frames[..read_back.len()]);
            assert_eq!(read_back.last().unwrap().seq.0, *last);
            assert_eq!(only_segment(dir.path()).1, bytes[..*end]);
            let at_frame = frames.iter().any(|f| f.at.offset as usize == length) || length == bytes.len();
            match recovered {
                Recovered::Clean => assert!(length == *end && junk.is_empty()),
                Recovered::OpenTransactionCut(_) => assert!(at_frame && junk.is_empty()),
                Recovered::TornTail { torn, .. } => {
                    assert!(!at_frame || !junk.is_empty());
                    let kept = fs::read(torn.kept.unwrap()).unwrap();
                    let offset = torn.offset as usize;
                    assert_eq!(kept, [&bytes[offset..length], junk].concat());
                }
                Recovered::Empty => panic!("{length}"),
            }
            let mut batch = Batch::new();
            batch.schema(&schema(TABLE));
            transaction(&mut batch, 4, [40]);
            writer.append(&mut batch).unwrap();
            writer.sync().unwrap();
            assert_eq!(values(&read(&log, Seq(1))).last(), Some(&40));
        }
    }
}

#[test]
fn fault_04_a_flipped_byte_never_yields_a_frame_that_was_not_written() {
    let (bytes, frames) = small_log();
    let synced = frames[5].at.offset as usize;
    for at in 0..bytes.len() {
        for mask in [0x01, 0x80, 0xFF] {
            let mut flipped = bytes.clone();
            flipped[at] ^= mask;
            let dir = folder_with(&flipped);
            match open(&SystemDisk, &At(NOW), dir.path(), options(1 << 20)) {
                Ok(Opened { log, recovered, .. }) => {
                    assert!(at >= synced && matches!(recovered, Recovered::TornTail { .. }), "{at}");
                    let read_back = read(&log, Seq(1));
                    assert_eq!(read_back[..], frames[..read_back.len()], "{at}");
                    assert!(read_back.len() >= 5 && read_back.len() < frames.len());
                }
                Err(OpenError::Corrupt(corrupt)) => {
                    assert!(at < synced, "{at}: {corrupt}");
                    let frame = frames.iter().rev().find(|f| f.at.offset as usize <= at).unwrap();
                    assert_eq!((corrupt.offset, corrupt.seq), (frame.at.offset, frame.seq), "{at}");
                    assert_eq!(only_segment(dir.path()).1, flipped);
                }
                Err(OpenError::Header { .. } | OpenError::Format { .. }) => assert!(at < 64, "{at}"),
                Err(error) => panic!("{at}: {error}"),
            }
        }
    }
}

#[test]
fn fault_04_a_flipped_byte_in_a_sealed_segment_stops_the_reader_at_its_frame() {
    let (bytes, frames) = small_log();
    let dir = folder_with(&bytes);
    let first = only_segment(dir.path()).0;
    drop(open_at(dir.path(), 1 << 20));
    for at in 64..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        fs::write(&first, &flipped).unwrap();
        let Opened { log, .. } = open_at(dir.path(), 1 << 20);
        let (read_back, error) = read_until(&log, Seq(1));
        let Some(ReadError::Corrupt(corrupt)) = error else { panic!("{at}: {error:?}") };
        let hit = frames.iter().rposition(|frame| frame.at.offset as usize <= at).unwrap();
        assert_eq!(read_back[..], frames[..hit], "{at}");
        assert_eq!((corrupt.seq, corrupt.offset), (frames[hit].seq, frames[hit].at.offset));
        let cut = format!("everrelay log cut --after {}`", frames[hit].seq.previous());
        let said = corrupt.to_string();
        assert!(said.contains(&cut) && said.contains("everrelay log verify"), "{said}");
        let mut buffer = Vec::new();
        assert!(log.read_at(frames[hit].at, &mut buffer).is_err());
    }
}

#[test]
fn fault_02_pages_of_the_last_batch_may_be_lost_in_any_order() {
    let (bytes, frames) = small_log();
    let synced = frames[5].at.offset as usize;
    // The batch behind the last sync, its first bytes lost and its end on the disk.
    for lost in 1..bytes.len() - synced {
        let mut holed = bytes.clone();
        holed[synced..synced + lost].fill(0);
        let dir = folder_with(&holed);
        let Opened { log, recovered, .. } = open_at(dir.path(), 1 << 20);
        assert!(matches!(recovered, Recovered::TornTail { .. }), "{lost}");
        assert_eq!(log.visible().seq, frames[4].seq);
    }
}

#[test]
fn fault_05_damage_below_a_synced_offset_that_stands_behind_it_is_no_torn_tail() {
    let (bytes, frames) = small_log();
    let synced = frames[5].at.offset as usize;
    for at in [frames[3].at.offset as usize, synced - 1] {
        let mut holed = bytes.clone();
        holed[at..synced].fill(0);
        let dir = folder_with(&holed);
        let error = open(&SystemDisk, &At(NOW), dir.path(), options(1 << 20)).unwrap_err();
        assert!(matches!(error, OpenError::Corrupt(_)), "{error}");
        // Without the commits that know it, nobody can tell.
        let dir = folder_with(&holed[..synced]);
        let Opened { recovered, .. } = open_at(dir.path(), 1 << 20);
        assert!(matches!(recovered, Recovered::TornTail { .. }));
    }
}

#[test]
fn only_the_first_mebibyte_of_a_torn_tail_is_kept() {
    let (bytes, _) = small_log();
    let dir = folder_with(&[&bytes[..], &vec![0x5A; 3 << 20]].concat());
    let Opened { recovered, .. } = open_at(dir.path(), 1 << 20);
    let Recovered::TornTail { torn, cut: None } = recovered else { panic!("{recovered:?}") };
    assert_eq!(torn.bytes, 3 << 20);
    let said = Recovered::TornTail { torn: torn.clone(), cut: None }.to_string();
    assert!(said.contains("3145728 bytes") && said.contains(".torn"), "{said}");
    assert_eq!(fs::read(torn.kept.unwrap()).unwrap(), vec![0x5A; 1 << 20]);
}

#[test]
fn an_open_transaction_is_cut_out_of_all_its_segments() {
    for before in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let (next, frames) = {
            let Opened { mut writer, log, .. } = open_at(dir.path(), 400);
            let mut batch = start();
            if before > 0 {
                transaction(&mut batch, 1, 0..before * 2);
            } else {
                mark(&mut batch, set(1));
            }
            writer.append(&mut batch).unwrap();
            writer.sync().unwrap();
            let next = writer.next_seq();
            for value in 0..100 {
                change(&mut batch, TABLE, value);
            }
            writer.append(&mut batch).unwrap();
            writer.sync().unwrap();
            assert!(log.segments().len() > 5);
            (next, read(&log, Seq(1)))
        };
        let beside = read_only(&SystemDisk, dir.path()).unwrap().log;
        assert_eq!(beside.visible().seq, frames.last().unwrap().seq);
        assert_eq!(read(&beside, Seq(1)), frames);
        let Opened { writer, log, recovered } = open_at(dir.path(), 400);
        let Recovered::OpenTransactionCut(cut) = recovered else { panic!("{recovered:?}") };
        assert_eq!(cut.first, next);
        assert!(cut.segments > 4 && cut.frames > 100);
        assert_eq!(writer.position(), Some(&set(1)));
        assert_eq!(read(&log, Seq(1)), frames);
        assert_eq!(log.visible().seq, frames.last().unwrap().seq);
    }
}

#[test]
fn a_torn_tail_inside_an_open_transaction_cuts_both_and_any_leftover_of_that_recovers_alike() {
    let dir = tempfile::tempdir().unwrap();
    {
        let Opened { mut writer, .. } = open_at(dir.path(), 400);
        let mut batch = start();
        transaction(&mut batch, 1, [1, 2]);
        for value in 0..60 {
            change(&mut batch, TABLE, value);
        }
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
    let names = || {
        let mut names: Vec<String> = crate::disk::Disk::list(&SystemDisk, dir.path()).unwrap();
        names.sort();
        names
    };
    let all = names();
    let last = dir.path().join(all.iter().rfind(|name| name.ends_with(".log")).unwrap());
    let mut bytes = fs::read(&last).unwrap();
    bytes.extend([7; 30]);
    fs::write(&last, bytes).unwrap();
    let segments: Vec<_> = all.iter().filter(|name| name.ends_with(".log")).collect();
    // As if the recovery had been stopped after removing so many segments.
    for removed in 0..segments.len() {
        let copy = tempfile::tempdir().unwrap();
        for name in &segments[..segments.len() - removed] {
            fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        let Opened { writer, log, recovered } = open_at(copy.path(), 400);
        assert_eq!((log.visible().seq, writer.position()), (Seq(6), Some(&set(1))), "{recovered:?}");
        assert_eq!(values(&read(&log, Seq(1))), [1, 2]);
        assert_eq!(matches!(recovered, Recovered::TornTail { cut: Some(_), .. }), removed == 0);
    }
}

#[test]
fn a_tail_full_of_what_looks_like_commits_is_refused_before_all_of_it_is_told() {
    let (bytes, frames) = small_log();
    let mut tail = vec![0; 30];
    // Each says that it reaches to the end of the file, or nearly so.
    let count: u32 = 40_000;
    for n in 0..count {
        let mut head = ((count - n) * 20).to_le_bytes().to_vec();
        head.extend([0; 4]);
        head.extend((frames.len() as u64 + 2).to_le_bytes());
        head.extend([Kind::Commit as u8, 0]);
        head.extend((bytes.len() as u64 + 1).to_le_bytes());
        tail.extend(head);
    }
    let whole = [&bytes[..], &tail].concat();
    let dir = folder_with(&whole);
    let error = open(&SystemDisk, &At(NOW), dir.path(), options(1 << 20)).unwrap_err();
    let OpenError::Corrupt(corrupt) = error else { panic!("{error}") };
    assert_eq!(corrupt.offset, bytes.len() as u64);
    assert_eq!(only_segment(dir.path()).1, whole);
    // A few are told one by one.
    let dir = folder_with(&whole[..bytes.len() + 30 + 26 * 20]);
    let Opened { recovered, .. } = open_at(dir.path(), 1 << 20);
    assert!(matches!(recovered, Recovered::TornTail { .. }), "{recovered:?}");
}

#[test]
fn a_whole_frame_of_an_unknown_kind_is_refused_and_not_taken_for_a_torn_tail() {
    let (bytes, frames) = small_log();
    let salt = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let last = frames.last().unwrap();
    let mut unknown = bytes[last.at.offset as usize..].to_vec();
    unknown[16] = 9;
    crate::log::frame::seal(&mut unknown, last.seq.next(), salt);
    let whole = [&bytes[..], &unknown].concat();
    let dir = folder_with(&whole);
    let error = open(&SystemDisk, &At(NOW), dir.path(), options(1 << 20)).unwrap_err();
    let OpenError::Corrupt(corrupt) = error else { panic!("{error}") };
    assert_eq!((corrupt.seq, corrupt.problem), (last.seq.next(), Problem::Kind(9)));
    assert_eq!(only_segment(dir.path()).1, whole);
}
