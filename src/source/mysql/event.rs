//! One event as it came: its envelope, and nothing of its meaning.
//!
//! # Format
//!
//! ```text
//!  0         4      5           9        13     17      19
//!  +---------+------+-----------+--------+------+-------+-------+----------+
//!  | seconds | kind | server id | size   | end  | flags | body… | checksum |
//!  +---------+------+-----------+--------+------+-------+-------+----------+
//! ```
//!
//! `size` counts all of it; the checksum (CRC-32, 4 bytes) is there where the stream's format description says so, and in the description
//! itself. An event inside a transaction payload has none.

use mysql_common::binlog::consts::BinlogVersion;
use mysql_common::binlog::events::{Event, FormatDescriptionEvent, GtidEvent};

use crate::lifecycle::contain;

use super::wire::{Short, Wire};

/// Event types (MySQL, libs/mysql/binlog/event/binlog_event.h, *Log_event_type*; from 160 on MariaDB's own, sql/log_event.h).
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const APPEND_BLOCK: u8 = 9;
    pub const DELETE_FILE: u8 = 11;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIADB_GTID: u8 = 162;
    pub const GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// Bytes before an event's body.
pub const HEAD: usize = 19;

/// Bytes of a checksum.
pub const CHECKSUM: usize = 4;

/// LOG_EVENT_BINLOG_IN_USE_F: not part of a checksum.
const IN_USE: u8 = 1;

/// Bytes that are kept of an event that is too large to be held: its table's number is in them.
pub const KEPT: usize = 128 << 10;

/// An event's envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub seconds: u32,
    pub kind: u8,
    /// Id of the server that wrote it first.
    pub server: u32,
    /// All of the event, bytes.
    pub size: usize,
    pub end: u32,
    pub flags: u16,
}

impl Head {
    /// # Errors
    /// The bytes are fewer than an event's head, or say that the event is shorter than that.
    pub fn parse(bytes: &[u8]) -> Result<Head, Short> {
        let mut wire = Wire::new(bytes);
        let (seconds, kind, server) = (wire.u32()?, wire.u8()?, wire.u32()?);
        let (size, end, flags) = (wire.u32()? as usize, wire.u32()?, wire.u16()?);
        if size < HEAD { Err(Short) } else { Ok(Head { seconds, kind, server, size, end, flags }) }
    }
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    Stream,
    /// A transaction payload. The last one is handed out only when all of the payload was read and its checksum compared.
    Payload {
        last: bool,
    },
}

/// One event, in the buffer that it was read into.
#[derive(Clone, Copy)]
pub struct RawEvent<'a> {
    head: Head,
    /// Head and body.
    bytes: &'a [u8],
    within: Within,
}

impl std::fmt::Debug for RawEvent<'_> {
    /// Without the body, which may be rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawEvent")
            .field("head", &self.head)
            .field("within", &self.within)
            .finish_non_exhaustive()
    }
}

impl<'a> RawEvent<'a> {
    /// `bytes`: head and body, or as much of it as was kept.
    #[must_use]
    pub fn new(head: Head, bytes: &'a [u8], within: Within) -> RawEvent<'a> {
        RawEvent { head, bytes, within }
    }

    #[inline]
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.head.kind
    }

    /// Seconds since 1970 at which the statement began; 0 in artificial events.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.head.seconds
    }

    /// Id of the server that wrote it first.
    #[must_use]
    pub fn server_id(&self) -> u32 {
        self.head.server
    }

    /// Offset of the next event, its lower 32 bits; 0 in artificial events, and inside transactions of MariaDB 11.8 and newer
    /// (*binlog_legacy_event_pos*).
    #[must_use]
    pub fn end(&self) -> u32 {
        self.head.end
    }

    /// LOG_EVENT_ARTIFICIAL_F: the server made it for its replica, and it is in no file.
    #[must_use]
    pub fn is_artificial(&self) -> bool {
        self.head.flags & 0x20 != 0
    }

    /// All of it with its checksum, bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.head.size
    }

    /// LOG_EVENT_THREAD_SPECIFIC_F: of a statement, it used a temporary table.
    #[must_use]
    pub fn is_thread_specific(&self) -> bool {
        self.head.flags & 0x04 != 0
    }

    /// LOG_EVENT_IGNORABLE_F: a reader that does not know the event may pass over it.
    #[must_use]
    pub fn is_ignorable(&self) -> bool {
        self.head.flags & 0x80 != 0
    }

    /// Where it stands.
    #[must_use]
    pub fn within(&self) -> Within {
        self.within
    }

    /// It was too large to be held: the body is only its beginning.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        // A payload's own body is not handed out with it, but event by event.
        self.head.size > self.bytes.len() + CHECKSUM && self.head.kind != kind::TRANSACTION_PAYLOAD
    }

    /// Without common head and checksum.
    #[inline]
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.bytes.get(HEAD..).unwrap_or_default()
    }

    /// The same event with other bytes, head and body: what it says when inflated.
    #[must_use]
    pub fn with(&self, bytes: &'a [u8]) -> RawEvent<'a> {
        RawEvent { head: Head { size: bytes.len(), ..self.head }, bytes, within: self.within }
    }

    /// Head and body, without a checksum.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// When the transaction was committed that this GTID event begins, microseconds since 1970 UTC.
    #[must_use]
    pub fn committed_micros(&self, gtid: &GtidEvent) -> u64 {
        match gtid.immediate_commit_timestamp() {
            // Unknown before MySQL 8.0.1.
            0 => u64::from(self.seconds()) * 1_000_000,
            micros => micros,
        }
    }

    /// A GTID event of either of MySQL's forms, parsed.
    ///
    /// # Errors
    /// It is malformed.
    pub fn gtid(&self) -> std::io::Result<GtidEvent> {
        // The size in the head as if there were no checksum.
        let mut bytes = self.bytes.to_vec();
        let size = bytes.len() as u32;
        if let Some(place) = bytes.get_mut(9..13) {
            place.copy_from_slice(&size.to_le_bytes());
        }
        let description = FormatDescriptionEvent::new(BinlogVersion::Version4);
        contain(|| Event::read(&description, bytes.as_slice())?.read_event())
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }
}

/// The checksum of an event's head and the beginning of its body, to go on with.
#[inline]
#[must_use]
pub fn checksum_of(bytes: &[u8]) -> crc32fast::Hasher {
    let mut hash = crc32fast::Hasher::new();
    match bytes.get(17) {
        Some(flags) if flags & IN_USE != 0 => {
            hash.update(bytes.get(..17).unwrap_or_default());
            hash.update(&[flags & !IN_USE]);
            hash.update(bytes.get(18..).unwrap_or_default());
        }
        _ => hash.update(bytes),
    }
    hash
}

#[cfg(test)]
impl RawEvent<'static> {
    /// An event of the stream, without a checksum; its bytes stay for ever.
    pub fn of(kind: u8, flags: u16, body: &[u8]) -> RawEvent<'static> {
        RawEvent::of_within(Within::Stream, kind, flags, body)
    }

    pub fn of_within(within: Within, kind: u8, flags: u16, body: &[u8]) -> RawEvent<'static> {
        let bytes = event_bytes(kind, flags, body).leak();
        RawEvent::new(Head::parse(bytes).unwrap(), bytes, within)
    }
}

/// An event without a checksum.
#[cfg(test)]
pub fn event_bytes(kind: u8, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
    bytes.extend_from_slice(&((body.len() + HEAD) as u32).to_le_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0]);
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_in_use_flag_is_no_part_of_the_checksum() {
        let (idle, used) = (event_bytes(15, 0x80, b"body"), event_bytes(15, 0x81, b"body"));
        assert_eq!(checksum_of(&idle).finalize(), checksum_of(&used).finalize());
        assert_eq!(checksum_of(&idle).finalize(), crc32fast::hash(&idle));
    }

    #[test]
    fn a_head_that_is_cut_or_smaller_than_itself_is_none() {
        let bytes = event_bytes(16, 0, &[0; 8]);
        assert_eq!(Head::parse(&bytes).unwrap().size, 27);
        for cut in 0..HEAD {
            assert_eq!(Head::parse(&bytes[..cut]), Err(Short));
        }
        let mut small = bytes;
        small[9] = 18;
        assert_eq!(Head::parse(&small), Err(Short));
    }
    #[test]
    fn an_events_body_is_in_no_debug_output() {
        let event = RawEvent::of(kind::WRITE_ROWS, 0, &[77; 40]);
        assert!(!format!("{event:?}").contains("77, 77"));
    }
}
