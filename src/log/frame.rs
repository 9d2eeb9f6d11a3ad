//! One frame's head: filled in when it is written, checked when it is read. The format is in [`record`](super::record).

use std::fmt;

use bincode::Encode;

use super::record::{HEADER, Kind};
use crate::event::{Seq, TableNo, codec};

/// No payload is longer, whatever the options say: 1 GiB, the most that `max_row_bytes` can be set to, and 16 MiB beside it.
pub const MAX_PAYLOAD: u32 = (1 << 30) + (16 << 20);

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The file ends inside the frame.
    Short,
    /// The length is over [`MAX_PAYLOAD`].
    Length(u32),
    /// The checksum does not match.
    Checksum,
    /// The checksum matches, and the frame stands in the wrong place.
    Seq(Seq),
    /// No kind that this version knows.
    Kind(u8),
    /// Flags that this version does not know.
    Flags(u8),
    /// The payload is not what its kind says.
    Payload(String),
    /// The segment does not begin with its state.
    NoState,
    /// A row of a table whose schema does not stand before it.
    NoSchema,
    /// A segment that others follow ends early, before the frame with this number.
    EndsEarly,
    /// Not the segment that was there when the log was opened.
    Replaced,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Problem::Short => f.write_str("the file ends inside it"),
            Problem::Length(length) => write!(f, "its length reads {length} bytes, which no frame has"),
            Problem::Checksum => f.write_str("its checksum does not match"),
            Problem::Seq(found) => write!(f, "frame {found} stands in its place"),
            Problem::Kind(kind) => write!(f, "its kind reads {kind}, which this version does not know"),
            Problem::Flags(flags) => write!(f, "its flags read {flags:#x}, which this version does not know"),
            Problem::Payload(why) => write!(f, "its payload cannot be decoded: {why}"),
            Problem::NoState => f.write_str("the segment's state should stand here"),
            Problem::NoSchema => f.write_str("no schema of its table stands before it"),
            Problem::EndsEarly => f.write_str("the segment ends before it"),
            Problem::Replaced => {
                f.write_str("the file is not the one that was there when the log was opened")
            }
        }
    }
}

/// A frame's head as it stands in the file, not believed yet.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub length: u32,
    pub crc: u32,
    pub seq: Seq,
    pub kind: u8,
    pub flags: u8,
}

impl Head {
    /// `bytes`: at least [`HEADER`].
    #[inline]
    pub fn read(bytes: &[u8]) -> Head {
        let bytes: &[u8; HEADER] = bytes.first_chunk().expect("callers have a whole head");
        let [l0, l1, l2, l3, c0, c1, c2, c3, s0, s1, s2, s3, s4, s5, s6, s7, kind, flags] = *bytes;
        Head {
            length: u32::from_le_bytes([l0, l1, l2, l3]),
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            seq: Seq(u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7])),
            kind,
            flags,
        }
    }

    /// Bytes of the whole frame.
    ///
    /// # Errors
    /// The length cannot be one.
    #[inline]
    pub fn frame_bytes(&self) -> Result<usize, Problem> {
        if self.length > MAX_PAYLOAD {
            return Err(Problem::Length(self.length));
        }
        Ok(HEADER + self.length as usize)
    }

    /// Believes the head of the whole frame `bytes`, or says why not.
    ///
    /// # Errors
    /// See [`Problem`].
    #[inline]
    pub fn check(&self, bytes: &[u8], expected: Seq, salt: u32) -> Result<Kind, Problem> {
        if checksum(bytes, salt) != self.crc {
            return Err(Problem::Checksum);
        }
        if self.seq != expected {
            return Err(Problem::Seq(self.seq));
        }
        if self.flags != 0 {
            return Err(Problem::Flags(self.flags));
        }
        Kind::from_byte(self.kind).ok_or(Problem::Kind(self.kind))
    }
}

/// CRC-32 of a whole frame without its CRC field, begun with the segment's salt.
#[inline]
pub fn checksum(frame: &[u8], salt: u32) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&frame[..4]);
    hasher.update(&frame[8..]);
    hasher.finalize()
}

/// Completes a whole frame whose length, kind and payload stand already.
#[inline]
pub fn seal(frame: &mut [u8], seq: Seq, salt: u32) {
    frame[8..16].copy_from_slice(&seq.0.to_le_bytes());
    frame[17] = 0;
    let crc = checksum(frame, salt);
    frame[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// Appends a complete frame with the payload `value`.
pub fn encode<T: Encode>(kind: Kind, value: &T, seq: Seq, salt: u32, out: &mut Vec<u8>) {
    build(kind, seq, salt, out, |out| codec::encode(value, out));
}

/// Appends a complete frame with the payload `payload`.
pub fn copy(kind: Kind, payload: &[u8], seq: Seq, salt: u32, out: &mut Vec<u8>) {
    build(kind, seq, salt, out, |out| out.extend_from_slice(payload));
}

fn build(kind: Kind, seq: Seq, salt: u32, out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.resize(start + HEADER, 0);
    out[start + 16] = kind as u8;
    payload(out);
    // A length over u32 reads as one that every reader refuses.
    let length = u32::try_from(out.len() - start - HEADER).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    seal(&mut out[start..], seq, salt);
}

/// The table that a change's payload names, read by hand: the writer asks it of every change.
#[inline]
pub fn table_of(change: &[u8]) -> Option<TableNo> {
    // One byte of op, then bincode's varint.
    let number = match change.get(1)? {
        byte @ 0..=250 => u32::from(*byte),
        251 => u32::from(u16::from_le_bytes(*change.get(2..)?.first_chunk()?)),
        252 => u32::from_le_bytes(*change.get(2..)?.first_chunk()?),
        _ => return None,
    };
    Some(TableNo(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Op;
    use crate::log::record::ChangeHead;

    #[test]
    fn the_table_read_by_hand_is_the_one_that_was_encoded() {
        for number in [0, 1, 250, 251, 65_535, 65_536, u32::MAX] {
            let mut bytes = Vec::new();
            codec::encode(&ChangeHead { op: Op::Delete, table: TableNo(number) }, &mut bytes);
            assert_eq!(table_of(&bytes), Some(TableNo(number)));
            assert_eq!(table_of(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn a_frame_is_believed_only_with_its_salt_and_in_its_place() {
        let mut bytes = Vec::new();
        copy(Kind::Change, b"payload", Seq(7), 42, &mut bytes);
        let head = Head::read(&bytes);
        assert_eq!(head.frame_bytes(), Ok(bytes.len()));
        assert_eq!(head.check(&bytes, Seq(7), 42), Ok(Kind::Change));
        assert_eq!(head.check(&bytes, Seq(8), 42), Err(Problem::Seq(Seq(7))));
        assert_eq!(head.check(&bytes, Seq(7), 43), Err(Problem::Checksum));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let head = Head::read(&flipped);
            let whole = head.frame_bytes().is_ok_and(|length| length == flipped.len());
            assert!(!whole || head.check(&flipped, Seq(7), 42).is_err(), "{bit}");
        }
    }
}
