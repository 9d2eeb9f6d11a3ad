//! One segment's header, name and birth.
//!
//! # Format
//!
//! All integers are little-endian.
//!
//! ```text
//!   0        8         12     16          24     32        40             48               56              60     64
//!   +--------+---------+------+-----------+------+---------+--------------+----------------+---------------+------+
//!   | magic  | version | salt | first seq | base | created | previous seq | previous bytes | previous salt | crc  |
//!   +--------+---------+------+-----------+------+---------+--------------+----------------+---------------+------+
//! ```
//!
//! A segment names its predecessor by first seq, length and salt, so that a missing, shortened or foreign segment shows when the log
//! is opened, from headers alone. A log's first segment has three zeros there; what retention removed is not
//! missed. `created` is wall time in microseconds, and the time at which the predecessor was sealed. `crc` is the CRC-32 of the 60 bytes
//! before it. The first frame follows at byte 64: the segment's [`State`], synced with the header before the file has its name.

use std::io;
use std::path::{Path, PathBuf};

use super::error::{OpenError, Step};
use super::frame;
use super::record::{Kind, State};
use crate::disk::{Disk, DiskFile};
use crate::event::{Seq, Version};

/// Bytes before a segment's first frame.
pub const SEGMENT_HEADER: u64 = 64;

/// The format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 2;

/// Numbers of frames are below this: counting on from a header's never overflows.
const SEQ_LIMIT: u64 = 1 << 62;

const MAGIC: [u8; 8] = *b"EVRLYLOG";

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Seeds the checksums of its frames.
    pub salt: u32,
    /// Number of its first frame, the state.
    pub first: Seq,
    /// A change's document version is this plus its seq.
    pub base: u64,
    /// Wall time of its making, microseconds since 1970 UTC.
    pub created_micros: u64,
    pub previous: Previous,
}

/// What a segment says of its predecessor: all zeros if it is the log's first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    pub first: Seq,
    pub bytes: u64,
    pub salt: u32,
}

impl SegmentHeader {
    /// The version of the frame `seq`.
    #[must_use]
    #[inline]
    pub fn version(&self, seq: Seq) -> Version {
        Version(self.base.saturating_add(seq.0))
    }

    fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.base.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.created_micros.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.previous.first.0.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.previous.bytes.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the segment `file` that lies at `path`, whose name says that it begins with `first`.
    ///
    /// # Errors
    /// The file cannot be read, is no segment, is of another format, is damaged, or is not the one that its name says.
    pub fn read<F: DiskFile>(file: &F, path: &Path, first: Seq) -> Result<SegmentHeader, OpenError> {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        let read = file.read_at(&mut bytes, 0).map_err(|e| OpenError::io(Step::Read, path, e))?;
        let wrong = |why| Err(OpenError::Header { path: path.to_path_buf(), why });
        if read < bytes.len() {
            return wrong("it is shorter than a segment's header");
        }
        if bytes[..8] != MAGIC {
            return wrong("it does not begin as a segment does");
        }
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let format = u32_at(8);
        if format != FORMAT {
            return Err(OpenError::Format { path: path.to_path_buf(), found: format, known: FORMAT });
        }
        if u32_at(60) != crc32fast::hash(&bytes[..60]) {
            return wrong("its header's checksum does not match");
        }
        let header = SegmentHeader {
            salt: u32_at(12),
            first: Seq(u64_at(16)),
            base: u64_at(24),
            created_micros: u64_at(32),
            previous: Previous { first: Seq(u64_at(40)), bytes: u64_at(48), salt: u32_at(56) },
        };
        if !(1..SEQ_LIMIT).contains(&header.first.0) {
            return wrong("its first frame has a number that no log reaches");
        }
        if header.first != first {
            return wrong("its name is not that of its first frame");
        }
        Ok(header)
    }
}

/// Makes the segment `header` durable under its name, with `state` as its first frame, in place of a segment of that name if
/// there is one, and returns it with its length.
///
/// Header and state are synced before the name appears: whoever finds the name finds both whole.
///
/// # Errors
/// What the disk says, with the step and the path. The log has then lost nothing; a temporary file may be left.
pub fn create<D: Disk>(
    disk: &D,
    dir: &Path,
    header: &SegmentHeader,
    state: &State,
) -> Result<(D::File, u64), (Step, PathBuf, io::Error)> {
    let (temporary, path) = (dir.join(temporary_name(header.first)), dir.join(segment_name(header.first)));
    let mut bytes = header.encode().to_vec();
    frame::encode(Kind::State, state, header.first, header.salt, &mut bytes);

    let at = |step, path: &Path| {
        let path = path.to_path_buf();
        move |error| (step, path, error)
    };
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err((Step::Remove, temporary, error));
        }
        _ => {}
    }
    let file = disk.create_new(&temporary).map_err(at(Step::Create, &temporary))?;
    file.write_all_at(&bytes, 0).map_err(at(Step::Write, &temporary))?;
    file.sync().map_err(at(Step::Sync, &temporary))?;
    disk.rename(&temporary, &path).map_err(at(Step::Rename, &temporary))?;
    disk.sync_dir(dir).map_err(at(Step::Sync, dir))?;
    Ok((file, bytes.len() as u64))
}

/// What a name in the log's folder stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Segment(Seq),
    /// Left behind by a segment's making.
    Temporary,
    /// Bytes cut from a segment by a recovery.
    Torn(Seq),
    Lock,
    Foreign,
}

/// Name of the file whose lock the writing process holds.
pub const LOCK: &str = "LOCK";

impl Name {
    pub fn of(name: &str) -> Name {
        let digits = |text: &str| {
            let plain = text.len() == 20 && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| plain).map(Seq)
        };
        match name.split_once('.') {
            None if name == LOCK => Name::Lock,
            Some((first, extension)) => match (digits(first), extension) {
                (Some(first), "log") => Name::Segment(first),
                (Some(_), "new") => Name::Temporary,
                (Some(first), "torn") => Name::Torn(first),
                _ => Name::Foreign,
            },
            None => Name::Foreign,
        }
    }
}

pub fn segment_name(first: Seq) -> String {
    format!("{:020}.log", first.0)
}

pub fn torn_name(first: Seq) -> String {
    format!("{:020}.torn", first.0)
}

fn temporary_name(first: Seq) -> String {
    format!("{:020}.new", first.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::SystemDisk;

    const HEADER: SegmentHeader = SegmentHeader {
        salt: 0xDEAD_BEEF,
        first: Seq(1000),
        base: 1_767_225_600_000_000,
        created_micros: 1_767_225_600_001_000,
        previous: Previous { first: Seq(7), bytes: 4096, salt: 3 },
    };

    #[test]
    fn names_say_what_they_are() {
        assert_eq!(Name::of(&segment_name(Seq(u64::MAX))), Name::Segment(Seq(u64::MAX)));
        assert_eq!(Name::of("00000000000000000001.new"), Name::Temporary);
        assert_eq!(Name::of("00000000000000000001.torn"), Name::Torn(Seq(1)));
        assert_eq!(Name::of("LOCK"), Name::Lock);
        for name in
            ["1.log", "+0000000000000000001.log", "99999999999999999999.log", "x", "LOCK.log", "LOCK2", ""]
        {
            assert_eq!(Name::of(name), Name::Foreign, "{name}");
        }
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let state = State { standing: None, open_since: None, latest_micros: 0 };
        let (file, bytes) = create(&SystemDisk, dir.path(), &HEADER, &state).unwrap();
        assert_eq!(bytes, DiskFile::len(&file).unwrap());
        let path = dir.path().join(segment_name(Seq(1000)));
        assert_eq!(SegmentHeader::read(&file, &path, Seq(1000)).unwrap(), HEADER);
        assert!(SegmentHeader::read(&file, &path, Seq(1001)).is_err());
        let whole = HEADER.encode();
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole;
            flipped[bit / 8] ^= 1 << (bit % 8);
            DiskFile::write_all_at(&file, &flipped, 0).unwrap();
            assert!(SegmentHeader::read(&file, &path, Seq(1000)).is_err(), "{bit}");
        }
    }

    #[test]
    fn a_first_frame_whose_number_no_log_reaches_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for first in [Seq(0), Seq(SEQ_LIMIT), Seq(u64::MAX)] {
            let file = SystemDisk.create_new(&dir.path().join(segment_name(first))).unwrap();
            DiskFile::write_all_at(&file, &SegmentHeader { first, ..HEADER }.encode(), 0).unwrap();
            let error = SegmentHeader::read(&file, dir.path(), first).unwrap_err();
            assert!(matches!(error, OpenError::Header { .. }), "{error}");
        }
    }

    #[test]
    fn another_format_is_named_as_such_whatever_else_the_header_holds() {
        let dir = tempfile::tempdir().unwrap();
        let state = State { standing: None, open_since: None, latest_micros: 0 };
        let (file, _) = create(&SystemDisk, dir.path(), &HEADER, &state).unwrap();
        DiskFile::write_all_at(&file, &3u32.to_le_bytes(), 8).unwrap();
        DiskFile::write_all_at(&file, &[0xFF; 40], 16).unwrap();
        let error = SegmentHeader::read(&file, dir.path(), Seq(1000)).unwrap_err();
        assert!(matches!(error, OpenError::Format { found: 3, known: 2, .. }), "{error}");
    }
}
