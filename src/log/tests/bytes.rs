//! Every bit of a small log turned over, and every file of it cut at every length: no wrong frame, and each finding as the rule says.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::history::dir;
use super::*;
use crate::disk::{Disk, SimDisk};
use crate::log::frame;
use crate::log::record::HEADER;

/// A log of three segments.
struct Small {
    disk: SimDisk,
    /// All frames that are there, visible or not.
    frames: Vec<Read>,
    /// The last that ends a transaction.
    end: Seq,
    /// The offset of the last segment that its commits know to be synced.
    synced: u64,
}

const SEGMENT: u64 = 520;

/// Two sealed segments, and a last one with a batch that was synced and one of two transactions that was not, or else, `inside`, with
/// the middle of a transaction that began in the first.
fn small(inside: bool) -> Small {
    let disk = SimDisk::new();
    let Opened { mut writer, log, .. } = open(&disk, &At(NOW), dir(), options(SEGMENT)).unwrap();
    let mut batch = start();
    transaction(&mut batch, 1, [10, 11]);
    let mut number = 1;
    writer.append(&mut batch).unwrap();
    writer.sync().unwrap();
    while log.segments().len() < 3 {
        if inside {
            change(&mut batch, TABLE, 1000);
        } else {
            number += 1;
            transaction(&mut batch, number, [number * 10]);
        }
        writer.append(&mut batch).unwrap();
        writer.sync().unwrap();
    }
    let last = log.segments()[2].first;
    let synced = disk.contents(&path(last)).unwrap().len() as u64;
    if inside {
        change(&mut batch, TABLE, 1001);
    } else {
        transaction(&mut batch, number + 1, [1]);
        transaction(&mut batch, number + 2, [2]);
    }
    writer.append(&mut batch).unwrap();
    assert_eq!(log.segments().len(), 3);
    let end = if inside { log.visible().seq } else { writer.next_seq().previous() };
    // What is open is read as if it were visible, to know it.
    let frames = raw_frames(&disk, &log);
    Small { disk: on_disk(&files(&disk)), frames, end, synced }
}

/// The frames as they stand in the files.
fn raw_frames(disk: &SimDisk, log: &Log<SimDisk>) -> Vec<Read> {
    let mut frames = Vec::new();
    for segment in log.segments() {
        let bytes = disk.contents(&path(segment.first)).unwrap();
        let mut at = 64;
        while at < bytes.len() {
            let head = frame::Head::read(&bytes[at..]);
            let end = at + head.frame_bytes().unwrap();
            frames.push(Read {
                seq: head.seq,
                version: Version(segment.base + head.seq.0),
                kind: Kind::from_byte(head.kind).unwrap(),
                payload: bytes[at + HEADER..end].to_vec(),
                at: Location { segment: segment.first, offset: at as u64 },
            });
            at = end;
        }
    }
    frames
}

fn path(first: Seq) -> PathBuf {
    dir().join(format!("{:020}.log", first.0))
}

fn files(disk: &SimDisk) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = disk.list(dir()).unwrap();
    let paths = names.into_iter().filter(|name| name != LOCK).map(|name| dir().join(name));
    paths.map(|path| (path.clone(), disk.contents(&path).unwrap())).collect()
}

fn on_disk(files: &BTreeMap<PathBuf, Vec<u8>>) -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(dir()).unwrap();
    files.iter().for_each(|(path, bytes)| disk.put(path, bytes).unwrap());
    disk
}

/// What was found, once it has been held against what was written.
#[derive(Debug)]
enum Finding {
    Opened { recovered: Recovered, read: Vec<Read>, stopped: Option<Corrupt> },
    Refused(OpenError),
}

/// Opens a log that was tampered with: whatever it hands out was written, and a refusal changes nothing.
fn look(small: &Small, files: &BTreeMap<PathBuf, Vec<u8>>) -> Finding {
    let disk = on_disk(files);
    let largest = files.values().map(Vec::len).max().unwrap_or(0);
    let beside = read_only(&disk, dir()).map(|read| read_until(&read.log, read.log.retained_start()).0);
    let opened = open(&disk, &At(NOW), dir(), options(SEGMENT));
    assert!(disk.longest_read() <= largest.max(1024), "{} bytes were asked for", disk.longest_read());
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            assert!(self::files(&disk) == *files, "a refusal changes nothing: {error}");
            assert!(beside.is_err());
            return Finding::Refused(error);
        }
    };
    let (read, stopped) = read_until(&opened.log, opened.log.retained_start());
    let own = |read: &[Read]| read.iter().take_while(|frame| small.frames.contains(frame)).count();
    // Behind what was written stands the state of the segment that the opening began, which nobody sees yet.
    assert_eq!(own(&read), read.len(), "{:?}", read.get(own(&read)));
    assert!(read.iter().zip(&small.frames).all(|(read, written)| read == written));
    assert!(beside.unwrap().iter().zip(&read).all(|(beside, read)| beside == read));
    let mut buffer = Vec::new();
    for frame in &small.frames {
        if let Ok(again) = opened.log.read_at(frame.at, &mut buffer) {
            assert_eq!((again.seq, again.kind, again.payload), (frame.seq, frame.kind, &frame.payload[..]));
        }
    }
    assert!(disk.longest_read() <= largest.max(1024));
    let stopped = stopped.map(|error| match error {
        ReadError::Corrupt(corrupt) => corrupt,
        error => panic!("{error}"),
    });
    Finding::Opened { recovered: opened.recovered, read, stopped }
}

fn frame_at(small: &Small, segment: Seq, offset: u64) -> &Read {
    let mut own = small.frames.iter().rev().filter(|frame| frame.at.segment == segment);
    own.find(|frame| frame.at.offset <= offset).unwrap()
}

#[test]
fn fault_04_a_bit_turned_over_anywhere_is_found_where_it_is_and_no_wrong_frame_is_read() {
    let small = small(false);
    let whole = files(&small.disk);
    assert_eq!(whole.len(), 3);
    for (i, (path, bytes)) in whole.iter().enumerate() {
        let segment =
            small.frames.iter().map(|frame| frame.at.segment).find(|s| self::path(*s) == *path).unwrap();
        for at in 0..bytes.len() {
            for mask in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
                let mut flipped = whole.clone();
                flipped.get_mut(path).unwrap()[at] ^= mask;
                let hit = (at >= 64).then(|| frame_at(&small, segment, at as u64));
                match (look(&small, &flipped), hit) {
                    (
                        Finding::Refused(
                            OpenError::Header { path: p, .. } | OpenError::Format { path: p, .. },
                        ),
                        None,
                    ) => {
                        assert_eq!(p, *path);
                    }
                    (
                        Finding::Opened { recovered: Recovered::Clean, read, stopped: Some(corrupt) },
                        Some(hit),
                    ) => {
                        assert!(i < 2, "{path:?} {at}");
                        assert_eq!(
                            (&corrupt.path, corrupt.offset, corrupt.seq),
                            (path, hit.at.offset, hit.seq)
                        );
                        assert_eq!(read.last().map_or(Seq(1), |frame| frame.seq.next()), hit.seq);
                    }
                    (
                        Finding::Opened { recovered: Recovered::TornTail { torn, .. }, read, stopped: None },
                        Some(hit),
                    ) => {
                        assert!(i == 2 && at as u64 >= small.synced, "{path:?} {at}");
                        assert_eq!((torn.offset, &torn.path), (hit.at.offset, path));
                        let kept = small.frames.iter().rev().find(|frame| {
                            frame.seq < hit.seq && matches!(frame.kind, Kind::Commit | Kind::Mark)
                        });
                        assert_eq!(read.last(), kept);
                    }
                    (Finding::Refused(OpenError::Corrupt(corrupt)), Some(hit)) => {
                        assert!(i == 2 && (at as u64) < small.synced, "{path:?} {at}");
                        assert_eq!(
                            (&corrupt.path, corrupt.offset, corrupt.seq),
                            (path, hit.at.offset, hit.seq)
                        );
                    }
                    (finding, _) => panic!("{path:?} {at} {mask}: {finding:?}"),
                }
            }
        }
    }
}

#[test]
fn fault_04_a_bit_turned_over_around_an_open_transaction_is_found_or_cut_with_it() {
    let small = small(true);
    let whole = files(&small.disk);
    assert_eq!(whole.len(), 3);
    let mut refused = 0;
    for (path, bytes) in &whole {
        for at in 0..bytes.len() {
            for mask in [1, 128, 255] {
                let mut flipped = whole.clone();
                flipped.get_mut(path).unwrap()[at] ^= mask;
                match look(&small, &flipped) {
                    Finding::Opened { recovered, read, stopped: None } => {
                        assert!(!matches!(recovered, Recovered::Clean | Recovered::Empty));
                        assert_eq!(read.last().unwrap().seq, small.end, "{path:?} {at}");
                    }
                    Finding::Refused(OpenError::Header { .. } | OpenError::Format { .. }) => assert!(at < 64),
                    Finding::Refused(OpenError::Corrupt(corrupt)) => {
                        assert_eq!(corrupt.path, *path);
                        assert!(corrupt.offset <= at as u64);
                        refused += 1;
                    }
                    finding => panic!("{path:?} {at} {mask}: {finding:?}"),
                }
            }
        }
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn fault_03_a_file_cut_at_any_length_is_a_torn_tail_in_the_last_segment_and_refused_elsewhere() {
    for inside in [false, true] {
        let small = small(inside);
        let whole = files(&small.disk);
        let last = whole.keys().next_back().unwrap();
        for (path, bytes) in &whole {
            for length in 0..bytes.len() {
                let mut cut = whole.clone();
                cut.get_mut(path).unwrap().truncate(length);
                match look(&small, &cut) {
                    Finding::Refused(OpenError::Header { path: p, .. }) => assert!(length < 64 && p == *path),
                    Finding::Refused(OpenError::Chain { .. }) => assert!(length >= 64 && path != last),
                    // The state was synced before the file had its name.
                    Finding::Refused(OpenError::Corrupt(corrupt)) => {
                        assert!(path == last && corrupt.offset == 64 && corrupt.path == *path);
                    }
                    Finding::Opened { recovered, read, stopped: None } => {
                        assert!(path == last, "{path:?} {length}");
                        let kept = read.last().unwrap();
                        assert!(kept.seq <= small.end && (!inside || kept.seq == small.end));
                        let mut all = small.frames.iter();
                        let whole = all.any(|f| {
                            f.at.segment == small.frames.last().unwrap().at.segment
                                && f.at.offset == length as u64
                        });
                        assert_eq!(matches!(recovered, Recovered::TornTail { .. }), !whole, "{length}");
                    }
                    finding => panic!("{path:?} {length}: {finding:?}"),
                }
            }
        }
    }
}

#[test]
fn fault_15_a_segment_missing_doubled_swapped_lengthened_or_beside_a_strange_file_is_refused_by_name() {
    let small = small(false);
    let whole = files(&small.disk);
    let paths: Vec<&PathBuf> = whole.keys().collect();
    let refused = |files: &BTreeMap<PathBuf, Vec<u8>>, named: &str| match look(&small, files) {
        Finding::Refused(error) => assert!(error.to_string().contains(named), "{named}: {error}"),
        finding => panic!("{finding:?}"),
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut missing = whole.clone();
    missing.remove(paths[1]);
    refused(&missing, &name(paths[1]));
    for (from, to) in [(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)] {
        let mut doubled = whole.clone();
        doubled.insert(paths[to].clone(), whole[paths[from]].clone());
        refused(&doubled, &name(paths[to]));
    }
    let mut beside = whole.clone();
    beside.insert(path(Seq(u64::MAX)), whole[paths[1]].clone());
    refused(&beside, &name(&path(Seq(u64::MAX))));
    for path in &paths[..2] {
        let mut longer = whole.clone();
        longer.get_mut(*path).unwrap().push(0);
        refused(&longer, &name(path));
    }
    let mut foreign = whole.clone();
    let other = files(&self::small(false).disk);
    foreign.insert(paths[1].clone(), other[paths[1]].clone());
    refused(&foreign, &name(paths[1]));
    let mut strange = whole.clone();
    strange.insert(dir().join("notes.txt"), b"x".to_vec());
    refused(&strange, "notes.txt");
}

#[test]
fn fault_24_a_length_that_no_frame_has_is_refused_before_anything_is_allocated_for_it() {
    let small = small(false);
    let whole = files(&small.disk);
    for frame in &small.frames {
        for length in [u32::MAX, MAX_PAYLOAD + 1, MAX_PAYLOAD, 1 << 29, 1 << 20, 4096, 0] {
            let mut crafted = whole.clone();
            let bytes = crafted.get_mut(&path(frame.at.segment)).unwrap();
            let at = frame.at.offset as usize;
            bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
            match look(&small, &crafted) {
                Finding::Opened { stopped: Some(corrupt), .. }
                | Finding::Refused(OpenError::Corrupt(corrupt)) => {
                    assert_eq!((corrupt.offset, corrupt.seq), (frame.at.offset, frame.seq));
                    if length > MAX_PAYLOAD {
                        assert_eq!(corrupt.problem, Problem::Length(length));
                    }
                }
                Finding::Opened { recovered: Recovered::TornTail { torn, .. }, .. } => {
                    assert_eq!(torn.offset, frame.at.offset);
                }
                finding => panic!("{frame:?} {length}: {finding:?}"),
            }
        }
    }
}

#[test]
fn fault_24_a_whole_frame_that_claims_more_than_it_holds_is_refused_before_anything_is_allocated_for_it() {
    let small = small(false);
    let whole = files(&small.disk);
    let (last, bytes) = whole.iter().next_back().unwrap();
    let salt = u32::from_le_bytes(bytes[12..16].try_into().unwrap());
    let state = small.frames.iter().rfind(|frame| frame.kind == Kind::State).unwrap();
    // bincode: a set that is there, of 2^60 origins; eight bytes of synced, and a tag of as many bytes.
    let mut huge = vec![253];
    huge.extend((1u64 << 60).to_le_bytes());
    let set = [&[1][..], &huge].concat();
    let tag = [&[0; 8][..], &[1; 16], &huge].concat();
    for (kind, payload) in [(Kind::State, set), (Kind::Commit, tag.clone()), (Kind::Mark, tag[..8].to_vec())]
    {
        let mut crafted = bytes[..64].to_vec();
        if kind != Kind::State {
            crafted.extend_from_slice(&bytes[64..64 + HEADER + state.payload.len()]);
        }
        let seq = Seq(state.seq.0 + u64::from(kind != Kind::State));
        let offset = crafted.len() as u64;
        frame::copy(kind, &payload, seq, salt, &mut crafted);
        let mut folder = whole.clone();
        folder.insert(last.clone(), crafted);
        match look(&small, &folder) {
            Finding::Refused(OpenError::Corrupt(corrupt)) => {
                assert_eq!((corrupt.offset, corrupt.seq), (offset, seq));
                assert!(matches!(corrupt.problem, Problem::Payload(_)), "{corrupt}");
            }
            finding => panic!("{kind:?}: {finding:?}"),
        }
    }
}
