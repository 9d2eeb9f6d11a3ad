//! The binlog stream: events one by one, where they lie in the buffer that they were read into.
//!
//! # Constraints
//!
//! What is handed out is whole and its checksum was compared (where events carry one). Memory is bounded by what one event may take, which follows
//! from `max_row_bytes`: a larger one is taken from its packet piece by piece and handed out [cut](RawEvent::is_cut), for its
//! receiver to pass over or to refuse. Transaction payloads are handed out as the events in them ([`payload`](super::payload)).
//!
//! # Format
//!
//! Each payload is a zero and an event, or an error packet, or EOF: the server ends the stream. (MySQL, sql/rpl_binlog_sender.cc.) The
//! stream's first event, an artificial ROTATE, may carry a checksum before the format description says whether events do.
//!
//! # Operation
//!
//! The connection that asked ([`Control`](super::control::Control)) becomes the stream. An event stays at hand until the next is asked
//! for. "Nothing at hand" can be told from "nothing more", so that a batch ends where the server has nothing further.

use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use mysql_common::packets::{ComBinlogDump, ComBinlogDumpGtid, ComRegisterSlave, GnoInterval, Sid, Tag};
use mysql_common::proto::MySerialize;
use tokio::time::{Instant, timeout_at};

use crate::event::GtidSet;
use crate::event::gtid::Origin;

use super::drawn::Drawn;
use super::error::{MysqlError, Place};
use super::event::{CHECKSUM, HEAD, Head, KEPT, RawEvent, Within, checksum_of, kind};
use super::link::{Link, LinkError, Served, ServerSaid};
use super::options::MysqlOptions;
use super::payload::{FIELDS, Fields, Inflater, Inner};
use super::server::Family;

/// The largest event that MySQL's protocol carries, bytes.
const MOST: usize = 1 << 30;

/// Longest error packet, bytes.
const ERROR_PACKET: usize = 64 << 10;

/// Bytes of inflated events between turns of others: they come without a wait that would give one.
const TURN: usize = 16 << 20;

/// The largest event that is held whole, bytes: an update of a row has two images, and rows events of many rows are small (MySQL,
/// *binlog_row_event_max_size*).
#[must_use]
pub fn most_held(max_row_bytes: usize) -> usize {
    const REST: usize = 1 << 20;
    max_row_bytes.saturating_mul(2).saturating_add(REST).min(MOST)
}

/// What waiting for the stream ended with.
#[derive(Debug)]
pub enum Next<'a> {
    Event(RawEvent<'a>),
    /// The deadline that was asked for came first.
    Deadline,
}

/// Where a stream begins.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    /// With what follows these transactions.
    After(&'a GtidSet),
    /// At an event's offset in a binlog file, bytes.
    At { file: &'a str, offset: u32 },
}

impl<'a> From<&'a GtidSet> for Begin<'a> {
    fn from(set: &'a GtidSet) -> Begin<'a> {
        Begin::After(set)
    }
}

/// Whether events carry checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checksums {
    /// No format description has come.
    Unknown,
    None,
    Crc32,
}

/// An event, and where it lies.
#[derive(Debug)]
enum Found {
    /// Behind the first byte of the packet at hand, so many bytes.
    Whole(Head, usize),
    /// Its beginning is in `kept`.
    Cut(Head),
    /// A payload's own head; its events come next.
    Payload,
    Inner(Inner),
}

/// A connection that only receives events.
pub struct BinlogConnection {
    packets: Served,
    server: String,
    limit: usize,
    checksums: Checksums,
    /// The packet at hand is an event that was handed out.
    held: bool,
    /// An event that is too large.
    cutting: Option<(Head, Drawn)>,
    kept: Vec<u8>,
    inflater: Inflater,
    /// Of the payload that is or was open.
    payload: (Head, [u8; HEAD]),
    /// Bytes of inflated events since others had their turn.
    spent: usize,
}

impl std::fmt::Debug for BinlogConnection {
    /// Without the bytes, which are rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let BinlogConnection { packets, server, checksums, inflater, .. } = self;
        f.debug_struct("BinlogConnection")
            .field("packets", packets)
            .field("server", server)
            .field("checksums", checksums)
            .field("inflater", inflater)
            .finish_non_exhaustive()
    }
}

impl BinlogConnection {
    /// Registers as a replica and asks a server of this family for its binlog from `begin` on.
    ///
    /// # Errors
    /// The server refuses, or is gone.
    pub async fn start(
        mut link: Link,
        server: &str,
        family: Family,
        begin: Begin<'_>,
        options: &MysqlOptions,
    ) -> Result<BinlogConnection, MysqlError> {
        let doing = "asking for the binlog";
        let fail = |source| MysqlError::link(doing, server, source);
        link.ask(&session(family, begin, options)).await.map_err(fail)?;
        let register = ComRegisterSlave::new(options.server_id()).with_hostname(b"everrelay");
        link.tell(&bytes(&register)).await.map_err(|source| match source {
            // Logging in worked, so this is the registration: it wants the privilege.
            LinkError::Server(ref said) if said.code == 1045 => MysqlError::Refused {
                doing,
                server: server.to_owned(),
                advice: "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user".to_owned(),
                source: source.into(),
            },
            source => fail(source),
        })?;
        let id = options.server_id();
        let dump = match (begin, family) {
            (Begin::After(set), Family::Mysql) => {
                bytes(&ComBinlogDumpGtid::new(id).with_pos(4).with_sids(sids(set)))
            }
            // Where to begin the session says.
            (Begin::After(_), Family::Mariadb) => bytes(&ComBinlogDump::new(id).with_pos(4)),
            (Begin::At { file, offset }, _) => {
                bytes(&ComBinlogDump::new(id).with_pos(offset).with_filename(file.as_bytes()))
            }
        };
        let packets = link.into_stream(&dump).await.map_err(fail)?;
        let nothing = Head { seconds: 0, kind: 0, server: 0, size: HEAD, end: 0, flags: 0 };
        Ok(BinlogConnection {
            packets,
            server: server.to_owned(),
            limit: most_held(options.max_row_bytes),
            checksums: Checksums::Unknown,
            held: false,
            cutting: None,
            kept: Vec::new(),
            inflater: Inflater::default(),
            payload: (nothing, [0; HEAD]),
            spent: 0,
        })
    }

    /// The next event, if it has arrived already. `place`: where we are, for errors.
    ///
    /// # Errors
    /// The stream ended or is damaged.
    pub fn at_hand(&mut self, place: &Place) -> Result<Option<RawEvent<'_>>, MysqlError> {
        match self.poll_found(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(found) => self.received(found, place).map(Some),
            Poll::Pending => Ok(None),
        }
    }

    /// Waits for the next event, at most until `deadline`.
    ///
    /// # Errors
    /// The stream ended, is damaged, or was silent for longer than `patience`.
    pub async fn wait(
        &mut self,
        deadline: Instant,
        patience: Duration,
        place: &Place,
    ) -> Result<Next<'_>, MysqlError> {
        if self.spent >= TURN {
            self.spent = 0;
            tokio::task::yield_now().await;
        }
        loop {
            // Bytes of an event that is not whole yet are no silence.
            let silent = self.packets.heard() + patience;
            let found =
                timeout_at(deadline.min(silent), std::future::poll_fn(|context| self.poll_found(context)));
            if let Ok(found) = found.await {
                return self.received(found, place).map(Next::Event);
            }
            let (now, heard) = (Instant::now(), self.packets.heard());
            if now >= heard + patience {
                return Err(MysqlError::Silent {
                    server: self.server.clone(),
                    seconds: (now - heard).as_secs(),
                    place: place.clone().into(),
                });
            }
            if now >= deadline {
                return Ok(Next::Deadline);
            }
        }
    }

    fn received(
        &self,
        found: Result<Option<Found>, LinkError>,
        place: &Place,
    ) -> Result<RawEvent<'_>, MysqlError> {
        match found {
            Ok(Some(found)) => Ok(self.event(found)),
            Ok(None) => Err(MysqlError::Ended { server: self.server.clone(), place: place.clone().into() }),
            Err(source) => Err(MysqlError::stream(&self.server, place, source)),
        }
    }

    #[inline]
    fn event(&self, found: Found) -> RawEvent<'_> {
        match found {
            Found::Whole(head, length) => {
                let bytes = self.packets.at_hand().get(1..1 + length).unwrap_or_default();
                RawEvent::new(head, bytes, Within::Stream)
            }
            Found::Cut(head) => RawEvent::new(head, &self.kept, Within::Stream),
            Found::Payload => RawEvent::new(self.payload.0, &self.payload.1, Within::Stream),
            Found::Inner(inner) => {
                let within = Within::Payload { last: inner.last };
                // Inside a payload offsets mean nothing: the place is that of the payload's end.
                let head = Head { end: self.payload.0.end, ..inner.head };
                RawEvent::new(head, self.inflater.bytes(&inner), within)
            }
        }
    }

    /// The next event; none where the server ends the stream.
    fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Found>, LinkError>> {
        if self.inflater.is_open() {
            if self.spent >= TURN {
                // Not at hand: `wait` gives the others their turn first.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let inner = ready!(self.inflater.poll_event(&mut self.packets, context))?;
            self.spent += inner.head.size;
            return Poll::Ready(Ok(Some(Found::Inner(inner))));
        }
        if self.cutting.is_some() {
            return self.poll_cut(context);
        }
        if self.held {
            self.held = false;
            self.packets.end_payload();
        }
        self.give_back();
        ready!(self.packets.poll_some(context, 1 + HEAD))?;
        let (mark, rest) = match self.packets.at_hand() {
            [mark, rest @ ..] => (*mark, rest),
            [] => return Poll::Ready(Err(LinkError::Unlike("a packet of the stream is empty"))),
        };
        match mark {
            0 => {}
            0xff => {
                ready!(self.packets.poll_whole(context, ERROR_PACKET))?;
                return Poll::Ready(Err(ServerSaid::parse(self.packets.at_hand())?.into()));
            }
            0xfe if self.packets.is_whole() && rest.len() < 8 => return Poll::Ready(Ok(None)),
            _ => return Poll::Ready(Err(LinkError::Unlike("a packet of the stream is no event"))),
        }
        let head = Head::parse(rest)?;
        let announced = self.packets.announced() - 1;
        if announced > head.size || (self.packets.is_announced() && announced < head.size) {
            return Poll::Ready(Err(LinkError::Unlike("a packet and its event are not of one length")));
        }
        if head.size > MOST {
            return Poll::Ready(Err(LinkError::TooLarge));
        }
        if head.kind == kind::TRANSACTION_PAYLOAD {
            ready!(self.packets.poll_some(context, 1 + HEAD + FIELDS))?;
            return Poll::Ready(self.open_payload(head).map(Some));
        }
        if head.size > self.limit {
            let own = rest.get(..HEAD).unwrap_or_default();
            self.kept.extend_from_slice(own);
            let checksum = (self.checksums == Checksums::Crc32).then(|| checksum_of(own));
            self.packets.consume(1 + HEAD);
            let left = head.size - HEAD - if checksum.is_some() { CHECKSUM } else { 0 };
            self.cutting = Some((head, Drawn::new(left, checksum)));
            return self.poll_cut(context);
        }
        ready!(self.packets.poll_whole(context, 1 + head.size))?;
        let length = self.verified(head)?;
        self.held = true;
        Poll::Ready(Ok(Some(Found::Whole(head, length))))
    }

    /// Length of the event at hand without its checksum, which is compared.
    #[inline]
    fn verified(&mut self, head: Head) -> Result<usize, LinkError> {
        let bytes = self.packets.at_hand().get(1..).unwrap_or_default();
        if bytes.len() != head.size {
            return Err(LinkError::Unlike("a packet and its event are not of one length"));
        }
        let Some((content, sum)) = bytes.split_last_chunk::<CHECKSUM>() else {
            return Ok(bytes.len());
        };
        let matches = || checksum_of(content).finalize().to_le_bytes() == *sum;
        if head.kind == kind::FORMAT_DESCRIPTION {
            // The last byte of the content says what follows it, here and in the events to come.
            self.checksums = match content.get(HEAD..).and_then(<[u8]>::last) {
                Some(0) => Checksums::None,
                Some(1) => Checksums::Crc32,
                _ => {
                    return Err(LinkError::Unlike("a format description names a checksum that is not known"));
                }
            };
        }
        match self.checksums {
            Checksums::Crc32 if matches() => Ok(content.len()),
            Checksums::Crc32 => Err(LinkError::Unlike("the checksum of an event does not match")),
            Checksums::Unknown if content.len() >= HEAD && matches() => Ok(content.len()),
            Checksums::None if head.kind == kind::FORMAT_DESCRIPTION => Ok(content.len()),
            Checksums::Unknown | Checksums::None => Ok(bytes.len()),
        }
    }

    fn open_payload(&mut self, head: Head) -> Result<Found, LinkError> {
        let bytes = self.packets.at_hand().get(1..).unwrap_or_default();
        let Some((own, body)) = bytes.split_first_chunk::<HEAD>() else {
            return Err(LinkError::Unlike("a packet ends early"));
        };
        let fields = Fields::parse(body)?;
        let before = HEAD + fields.length;
        let checksum = match (self.checksums, bytes.get(..before)) {
            (Checksums::Crc32, Some(before)) => Some(checksum_of(before)),
            _ => None,
        };
        let after = if checksum.is_some() { CHECKSUM } else { 0 };
        let left = head.size.checked_sub(before + after);
        let Some(left) = left.filter(|left| *left as u64 == fields.size) else {
            return Err(LinkError::Unlike("a transaction payload and its event are not of one length"));
        };
        self.payload = (head, *own);
        self.packets.consume(1 + before);
        self.inflater.begin(fields, Drawn::new(left, checksum), self.limit)?;
        self.spent = 0;
        Ok(Found::Payload)
    }

    /// Takes an event that is too large piece by piece, and keeps its beginning.
    fn poll_cut(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Found>, LinkError>> {
        loop {
            let Some((head, drawn)) = &mut self.cutting else {
                return Poll::Ready(Err(LinkError::Unlike("an event goes on after its end")));
            };
            let piece = ready!(drawn.poll_piece(&mut self.packets, context))?;
            let length = piece.len();
            if length == 0 {
                ready!(drawn.poll_end(&mut self.packets, context))?;
                let head = *head;
                self.cutting = None;
                return Poll::Ready(Ok(Some(Found::Cut(head))));
            }
            let room = KEPT.saturating_sub(self.kept.len()).min(length);
            self.kept.extend_from_slice(piece.get(..room).unwrap_or_default());
            drawn.take(&mut self.packets, length);
        }
    }

    /// Memory that only large events need goes with them.
    #[inline]
    fn give_back(&mut self) {
        if !self.kept.is_empty() {
            self.kept = Vec::new();
        }
        self.inflater.give_back();
    }
}

/// What the server is to know of its replica before it streams. Semi-synchronous replication is not asked for: nothing here answers it.
fn session(family: Family, begin: Begin<'_>, options: &MysqlOptions) -> String {
    let (nanos, uuid) = (options.heartbeat.as_nanos(), options.replica_uuid());
    let common = format!(
        "SET @master_heartbeat_period = {nanos}, @master_binlog_checksum = 'CRC32', @slave_uuid = '{uuid}', \
         SESSION net_write_timeout = 600"
    );
    match family {
        // The names with "source" are read first since 8.0.26 and the others before that (sql/rpl_binlog_sender.cc).
        Family::Mysql => format!(
            "{common}, @source_heartbeat_period = {nanos}, @source_binlog_checksum = 'CRC32', @replica_uuid = '{uuid}'"
        ),
        // 4: GTIDs are understood (MARIA_SLAVE_CAPABILITY_GTID, sql/log_event.h). Strict: a place that is not in the binlog is an error, and
        // not the next one that is.
        Family::Mariadb => {
            let Begin::After(after) = begin else {
                return format!("{common}, @mariadb_slave_capability = 4");
            };
            let state = after.domains().map(|gtid| gtid.to_string()).collect::<Vec<_>>().join(",");
            format!(
                "{common}, @mariadb_slave_capability = 4, @slave_connect_state = '{state}', @slave_gtid_strict_mode = 1, \
                 @slave_gtid_ignore_duplicates = 0"
            )
        }
    }
}

fn bytes(command: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    command.serialize(&mut bytes);
    bytes
}

/// A set in the protocol's terms.
fn sids(set: &GtidSet) -> Vec<Sid<'static>> {
    set.iter()
        .filter_map(|(origin, intervals)| {
            let Origin::Server { uuid, tag } = origin else { return None };
            let sid = match Tag::new(tag.clone()) {
                Ok(tag) => Sid::new(*uuid).with_tag(tag),
                Err(_) => Sid::new(*uuid),
            };
            let intervals = intervals.map(|(start, end)| GnoInterval::new(start, end));
            Some(sid.with_intervals(intervals.collect()))
        })
        .collect()
}
