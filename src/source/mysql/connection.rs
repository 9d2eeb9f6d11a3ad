//! The binlog stream: raw events one by one, their checksums compared, its silence noticed.
//!
//! It stands on `mysql_async`'s stream, behind a type narrow enough to be replaced. Three things are done here that that
//! stream does not do: checksums are compared, "nothing at hand" can be told from "nothing more", and bytes over which its parsers
//! panic are an error like any other nonsense.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{FutureExt as _, Stream};
use mysql_async::prelude::Queryable as _;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn};
use mysql_common::binlog::consts::BinlogChecksumAlg;
use mysql_common::binlog::events::{Event, GtidEvent};
use mysql_common::packets::{GnoInterval, Sid, Tag};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

use crate::event::GtidSet;
use crate::event::gtid::Origin;
use crate::lifecycle::contain;

use super::error::{MysqlError, Place};
use super::options::MysqlOptions;

/// Event types (MySQL, libs/mysql/binlog/event/binlog_event.h, *Log_event_type*).
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
}

/// LOG_EVENT_BINLOG_IN_USE_F: not part of a checksum.
const IN_USE: u16 = 1;

/// Bytes of a checksum.
const CHECKSUM: usize = 4;

/// One event as it came.
#[derive(Debug)]
pub struct RawEvent(Event);

impl RawEvent {
    /// An event without a checksum.
    #[cfg(test)]
    pub fn of(kind: u8, flags: u16, body: &[u8]) -> RawEvent {
        use mysql_common::binlog::consts::BinlogVersion;
        use mysql_common::binlog::events::FormatDescriptionEvent;
        let mut bytes = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
        bytes.extend_from_slice(&(body.len() as u32 + 19).to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0]);
        bytes.extend_from_slice(&flags.to_le_bytes());
        bytes.extend_from_slice(body);
        let description = FormatDescriptionEvent::new(BinlogVersion::Version4);
        RawEvent(Event::read(&description, bytes.as_slice()).expect("a whole event"))
    }

    #[must_use]
    pub fn kind(&self) -> u8 {
        self.0.header().event_type_raw()
    }

    /// Seconds since 1970 at which the statement began; 0 in artificial events.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.0.header().timestamp()
    }

    /// Offset of the next event, its lower 32 bits; 0 in artificial events.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.0.header().log_pos()
    }

    /// LOG_EVENT_IGNORABLE_F: a reader that does not know the event may pass over it.
    #[must_use]
    pub fn is_ignorable(&self) -> bool {
        self.0.header().flags_raw() & 0x80 != 0
    }

    /// Without common header and checksum.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.0.data()
    }

    /// A GTID event of either form, parsed.
    ///
    /// # Errors
    /// It is malformed.
    pub fn gtid(&self) -> std::io::Result<GtidEvent> {
        contain(|| self.0.read_event()).unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
    }

    /// The body of the artificial ROTATE that starts a stream: it carries a checksum before the description event could say so.
    #[must_use]
    pub fn body_before_description(&self) -> &[u8] {
        let body = self.body();
        match body.split_last_chunk::<CHECKSUM>() {
            Some((inner, sum)) if self.checksum_of(inner) == u32::from_le_bytes(*sum) => inner,
            _ => body,
        }
    }

    fn checksum_of(&self, body: &[u8]) -> u32 {
        let header = self.0.header();
        let mut hash = crc32fast::Hasher::new();
        hash.update(&header.timestamp().to_le_bytes());
        hash.update(&[header.event_type_raw()]);
        hash.update(&header.server_id().to_le_bytes());
        hash.update(&header.event_size().to_le_bytes());
        hash.update(&header.log_pos().to_le_bytes());
        hash.update(&(header.flags_raw() & !IN_USE).to_le_bytes());
        hash.update(body);
        if header.event_type_raw() == kind::FORMAT_DESCRIPTION {
            hash.update(&[BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32 as u8]);
        }
        hash.finalize()
    }

    /// False where the event carries a checksum and it is another.
    fn checksum_matches(&self) -> bool {
        let crc32 = matches!(
            self.0.footer().get_checksum_alg(),
            Ok(Some(BinlogChecksumAlg::BINLOG_CHECKSUM_ALG_CRC32))
        );
        match self.0.checksum() {
            Some(sum) if crc32 => self.checksum_of(self.body()) == u32::from_le_bytes(sum),
            _ => true,
        }
    }
}

/// What waiting for the stream ended with.
#[derive(Debug)]
pub enum Next {
    Event(RawEvent),
    /// The deadline that was asked for came first.
    Deadline,
}

/// A connection that only receives events.
pub struct BinlogConnection {
    stream: BinlogStream,
    server: String,
    last_heard: Instant,
}

impl std::fmt::Debug for BinlogConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BinlogConnection").field("server", &self.server).finish_non_exhaustive()
    }
}

impl BinlogConnection {
    /// Registers as a replica and asks for what follows `after`.
    ///
    /// # Errors
    /// The server refuses, or is gone.
    pub async fn start(
        mut conn: Conn,
        server: &str,
        after: &GtidSet,
        options: &MysqlOptions,
    ) -> Result<BinlogConnection, MysqlError> {
        let doing = "asking for the binlog";
        let fail = |source| MysqlError::client(doing, server, source);
        // The names with "source" are read first since 8.0.26 and the others before that (sql/rpl_binlog_sender.cc).
        // mysql_async sets only the old checksum name, and to a value that is none.
        let (nanos, uuid) = (options.heartbeat.as_nanos(), options.replica_uuid());
        conn.query_drop(format!(
            "SET @source_heartbeat_period = {nanos}, @master_heartbeat_period = {nanos}, \
             @source_binlog_checksum = 'CRC32', @replica_uuid = '{uuid}', @slave_uuid = '{uuid}', \
             SESSION net_write_timeout = 600"
        ))
        .await
        .map_err(fail)?;
        let request = BinlogStreamRequest::new(options.server_id())
            .with_hostname(b"everrelay")
            .with_gtid()
            .with_gtid_set(sids(after));
        let stream = conn.get_binlog_stream(request).await.map_err(|source| match source {
            // Logging in worked, so this is the registration: it wants the privilege.
            mysql_async::Error::Server(ref error) if error.code == 1045 => MysqlError::Refused {
                doing,
                server: server.to_owned(),
                advice: "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user".to_owned(),
                source: source.into(),
            },
            source => fail(source),
        })?;
        Ok(BinlogConnection { stream, server: server.to_owned(), last_heard: Instant::now() })
    }

    /// The next event, if it has arrived already. `place`: where we are, for errors.
    ///
    /// # Errors
    /// The stream ended or is damaged.
    pub fn at_hand(&mut self, place: &Place) -> Result<Option<RawEvent>, MysqlError> {
        match self.next().now_or_never() {
            Some(event) => self.received(event, place).map(Some),
            None => Ok(None),
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
    ) -> Result<Next, MysqlError> {
        let silent = self.last_heard + patience;
        match timeout_at(deadline.min(silent), self.next()).await {
            Ok(event) => self.received(event, place).map(Next::Event),
            Err(_) if Instant::now() >= silent => Err(MysqlError::Silent {
                server: self.server.clone(),
                seconds: self.last_heard.elapsed().as_secs(),
                place: place.clone().into(),
            }),
            Err(_) => Ok(Next::Deadline),
        }
    }

    fn next(&mut self) -> impl Future<Output = Result<Polled, String>> + '_ {
        std::future::poll_fn(|context| poll_contained(&mut self.stream, context))
    }

    fn received(&mut self, event: Result<Polled, String>, place: &Place) -> Result<RawEvent, MysqlError> {
        self.last_heard = Instant::now();
        let event = match event {
            Err(panic) => return Err(unparsed(place, &panic)),
            Ok(event) => event,
        };
        let event = match event {
            Some(Ok(event)) => RawEvent(event),
            Some(Err(source)) => return Err(MysqlError::stream(&self.server, place, source)),
            None => {
                return Err(MysqlError::Ended { server: self.server.clone(), place: place.clone().into() });
            }
        };
        if !event.checksum_matches() {
            let what = format!("the checksum of the next event (type {}) does not match", event.kind());
            return Err(MysqlError::Garbled { place: place.clone().into(), what });
        }
        Ok(event)
    }
}

/// What the client's stream gives.
type Polled = Option<Result<Event, mysql_async::Error>>;

/// One poll; its parsers panic over an event that is shorter than it says (mysql_common 0.37, *Event::read*). The stream is not polled
/// again after that: the connection is given up.
fn poll_contained<S>(stream: &mut S, context: &mut Context<'_>) -> Poll<Result<Option<S::Item>, String>>
where
    S: Stream + Unpin,
{
    match contain(|| Pin::new(stream).poll_next(context)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    }
}

fn unparsed(place: &Place, panic: &str) -> MysqlError {
    let what = format!("the bytes of the next event are no event: {panic}");
    MysqlError::Garbled { place: place.clone().into(), what }
}

/// A set in the protocol's terms.
fn sids(set: &GtidSet) -> Vec<Sid<'static>> {
    let sid = |origin: &Origin| {
        let sid = Sid::new(origin.uuid);
        match Tag::new(origin.tag.clone()) {
            Ok(tag) => sid.with_tag(tag),
            Err(_) => sid,
        }
    };
    set.iter()
        .map(|(origin, intervals)| {
            let intervals = intervals.map(|(start, end)| GnoInterval::new(start, end));
            sid(origin).with_intervals(intervals.collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_parser_that_panics_is_nonsense_with_its_place() {
        let mut bytes =
            futures_util::stream::iter([1]).map(|_| -> u8 { panic!("failed to fill whole buffer") });
        let polled = std::future::poll_fn(|context| poll_contained(&mut bytes, context)).await;
        let place = Place { file: "binlog.000007".into(), offset: 9, gtid: None };
        let error = crate::source::SourceError::from(unparsed(&place, &polled.unwrap_err()));
        assert!(matches!(error, crate::source::SourceError::Garbled(_)), "{error:?}");
        let text = error.to_string();
        assert!(text.contains("binlog.000007:9") && text.contains("failed to fill"), "{text}");
    }
}
