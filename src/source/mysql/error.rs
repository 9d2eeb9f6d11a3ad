//! What goes wrong between a MySQL server and us, and which of it is worth another try.

use mysql_async::{DriverError, Error as ClientError, IoError};
use mysql_common::proto::codec::error::PacketCodecError;

use crate::event::{Gtid, GtidSet, TableName};
use crate::source::SourceError;

use super::decode::DecodeError;
use super::patterns::BadPattern;
use super::schema::SchemaError;

/// A place in the stream, for people: `binlog.000007:1234 (GTID …:5)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    /// Offset after the event, bytes.
    pub offset: u64,
    pub gtid: Option<Gtid>,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.escape_debug(), self.offset)?;
        match &self.gtid {
            Some(gtid) => write!(f, " (GTID {gtid})"),
            None => Ok(()),
        }
    }
}

/// Everything that stops or interrupts this source.
#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    #[error("{doing} at {server}: {}", said(source))]
    Client { doing: &'static str, server: String, source: Box<ClientError> },
    #[error("{doing} at {server}: {}; {advice}", said(source))]
    Refused { doing: &'static str, server: String, source: Box<ClientError>, advice: String },
    #[error("{doing} at {server}: no answer within {seconds} s")]
    NoAnswer { doing: &'static str, server: String, seconds: u64 },
    #[error("{server} is {found}: this source reads MySQL 8.0 and newer")]
    Version { server: String, found: String },
    #[error("{server} has {name} = {found}, and {needed} is needed: run {statement}")]
    Setting {
        server: String,
        name: &'static str,
        found: String,
        needed: &'static str,
        statement: &'static str,
    },
    #[error(
        "the followed table {table} has no primary key and no unique key over NOT NULL columns, so its rows cannot be told \
         apart: add one, or exclude it by the pattern \"!{table}\""
    )]
    NoKey { table: TableName },
    #[error("{server} sent a GTID set that is not understood: {problem}")]
    GtidSet { server: String, problem: String },
    #[error(
        "{server} has purged transactions that were not read yet: {missing}; raise binlog_expire_logs_seconds there, and \
         start from a new state folder"
    )]
    Purged { server: String, missing: GtidSet },
    #[error(
        "the state folder holds transactions that {server} never executed: GTID_SUBTRACT(ours, @@gtid_executed) = {missing}; \
         the folder belongs to another source, or a failover lost them there: point it to the server that it was made \
         with, or start from a new state folder"
    )]
    AnotherHistory { server: String, missing: GtidSet },
    #[error("the stream from {server} was silent for {seconds} s, without a heartbeat, after {place}")]
    Silent { server: String, seconds: u64, place: Box<Place> },
    #[error("{server} ended the stream after {place}")]
    Ended { server: String, place: Box<Place> },
    #[error("reading the stream from {server} after {place}: {}", said(source))]
    Stream { server: String, place: Box<Place>, source: Box<ClientError> },
    #[error("{server} gave the stream to another replica after {place}: {source}")]
    Evicted { server: String, place: Box<Place>, source: Box<ClientError> },
    #[error(
        "{server} gave the stream to another replica three times within a minute: something else registers there with our server id {id} \
         or UUID {uuid}: a second relay on a copy of this state folder (stop one of them), or a replica (give it another server_id)"
    )]
    Clash { server: String, id: u32, uuid: uuid::Uuid },
    #[error("{server} refused to stream after {place}: {source}; {advice}")]
    StreamRefused { server: String, place: Box<Place>, source: Box<ClientError>, advice: String },
    #[error("the stream is not as it should be at {place}: {what}")]
    Garbled { place: Box<Place>, what: String },
    #[error("{event} of {table} at {place}: {source}")]
    Rows { event: &'static str, table: TableName, place: Box<Place>, source: DecodeError },
    #[error("TABLE_MAP event of {table} at {place}: {source}")]
    Schema { table: TableName, place: Box<Place>, source: SchemaError },
    #[error(
        "TABLE_MAP event of {table} at {place}: the table has no primary key and was made after its keys were read: connecting again to read \
         them"
    )]
    UnreadKey { table: TableName, place: Box<Place> },
    #[error("{event} of {table} at {place}: {why}")]
    Table { event: String, table: TableName, place: Box<Place>, why: &'static str },
    #[error("{event} at {place}: {why}")]
    Event { event: String, place: Box<Place>, why: &'static str },
    #[error("the source was asked for changes without a connection")]
    NotConnected,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Transient,
    Garbled,
    Definite,
}

/// The client's words without its prefix, which it gives twice: `Input/output error: Input/output error: connection refused`.
fn said(error: &ClientError) -> String {
    error.to_string().replace("Input/output error: ", "")
}

impl MysqlError {
    fn class(&self) -> Class {
        match self {
            MysqlError::Client { .. }
            | MysqlError::NoAnswer { .. }
            | MysqlError::Silent { .. }
            | MysqlError::Ended { .. }
            | MysqlError::Stream { .. }
            | MysqlError::Evicted { .. }
            | MysqlError::UnreadKey { .. }
            | MysqlError::NotConnected => Class::Transient,
            MysqlError::Garbled { .. } | MysqlError::GtidSet { .. } => Class::Garbled,
            MysqlError::Rows { source, .. } if source.is_garbled() => Class::Garbled,
            MysqlError::Schema { source: SchemaError::Malformed, .. } => Class::Garbled,
            _ => Class::Definite,
        }
    }

    /// An error of the client while `doing` something at `server`: definite with advice, or worth another try.
    #[must_use]
    pub fn client(doing: &'static str, server: &str, source: ClientError) -> MysqlError {
        match advice(&source) {
            Some(advice) => {
                MysqlError::Refused { doing, server: server.to_owned(), source: source.into(), advice }
            }
            None => MysqlError::Client { doing, server: server.to_owned(), source: source.into() },
        }
    }

    /// An error of the client while reading the stream.
    #[must_use]
    pub fn stream(server: &str, place: &Place, source: ClientError) -> MysqlError {
        let (server, place) = (server.to_owned(), Box::new(place.clone()));
        if let ClientError::Server(error) = &source {
            // ER_SOURCE_FATAL_ERROR_READING_BINLOG: one number for many faults.
            if error.code == 1236 {
                let text = error.message.as_str();
                let says = |part: &str| text.contains(part);
                let advice = if says("purged") || says("Could not find first log file") {
                    "start from a new state folder"
                } else if says("has more GTIDs") || says("GTIDs than") {
                    "the state folder belongs to another source: start from a new one"
                } else if says("max_allowed_packet") {
                    "SET PERSIST max_allowed_packet = 1073741824"
                } else if says("same server_uuid") || says("same server_id") {
                    return MysqlError::Evicted { server, place, source: source.into() };
                } else {
                    // A truncated or damaged binlog, a checksum that does not match: the relay counts these.
                    return MysqlError::Garbled { place, what: format!("{server} says: {text}") };
                };
                let (source, advice) = (source.into(), advice.to_owned());
                return MysqlError::StreamRefused { server, place, source, advice };
            }
        }
        if is_unparsed(&source) {
            return MysqlError::Garbled {
                place,
                what: format!("the bytes of the next event are no event: {source}"),
            };
        }
        match advice(&source) {
            Some(advice) => MysqlError::StreamRefused { server, place, source: source.into(), advice },
            None => MysqlError::Stream { server, place, source: source.into() },
        }
    }
}

impl From<MysqlError> for SourceError {
    fn from(error: MysqlError) -> SourceError {
        match error.class() {
            Class::Transient => SourceError::Transient(error.into()),
            Class::Garbled => SourceError::Garbled(error.into()),
            Class::Definite => SourceError::Definite(error.into()),
        }
    }
}

/// The client's packet layer speaks through io errors.
fn codec_error(error: &std::io::Error) -> Option<&PacketCodecError> {
    error.get_ref()?.downcast_ref()
}

/// Whether the bytes came and are not what they should be; where they only stopped coming, another connection helps.
///
/// The client's parsers and its socket both answer with io errors. Of the socket's, InvalidData and Other are TLS records that do not verify
/// (an error of rustls within) and a packet cut short by the end of the connection (tokio_util's *decode_eof*).
fn is_unparsed(error: &ClientError) -> bool {
    use std::io::ErrorKind;
    let error = match error {
        ClientError::Driver(
            DriverError::UnexpectedPacket { .. }
            | DriverError::PacketOutOfOrder
            | DriverError::BadCompressedPacketHeader,
        ) => return true,
        ClientError::Io(IoError::Io(error)) => error,
        _ => return false,
    };
    if let Some(error) = codec_error(error) {
        return !matches!(error, PacketCodecError::PacketTooLarge);
    }
    if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return false;
    }
    let text = error.to_string();
    match error.kind() {
        ErrorKind::InvalidData => true,
        ErrorKind::Other => text != "bytes remaining on stream",
        ErrorKind::UnexpectedEof => {
            text.contains("can't parse") || text.contains("failed to fill whole buffer")
        }
        _ => false,
    }
}

/// What an operator can do about an error that trying again would not mend; `None` where it might.
///
/// A server that cannot be reached may come back, whatever the reason; one that answers "no" will say it again.
fn advice(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Server(error) => Some(match error.code {
            1045 | 1698 => "check the user, the password and from where the user may connect".to_owned(),
            1130 => "the server allows no connections from this host: see the user's host part".to_owned(),
            1142 | 1044 | 1370 => "grant the user what the message names".to_owned(),
            1227 => "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO the user".to_owned(),
            1193 => "MySQL 8.0 or newer is needed".to_owned(),
            1820 | 1862 => "the user's password has expired: set a new one".to_owned(),
            3118 => "ALTER USER … ACCOUNT UNLOCK".to_owned(),
            3159 => "the server asks for TLS: set tls = \"verify_identity\"".to_owned(),
            _ => return None,
        }),
        ClientError::Driver(DriverError::NoClientSslFlagFromServer) => {
            Some("the server offers no TLS: enable it there, or spell tls = \"disabled\"".to_owned())
        }
        ClientError::Driver(
            DriverError::UnknownAuthPlugin { .. }
            | DriverError::MysqlOldPasswordDisabled
            | DriverError::CleartextPluginDisabled,
        ) => Some("use caching_sha2_password for this user".to_owned()),
        ClientError::Io(IoError::Tls(_)) => Some(TLS_ADVICE.to_owned()),
        ClientError::Io(IoError::Io(error)) if codec_error(error).is_some() => match codec_error(error)? {
            PacketCodecError::PacketTooLarge => {
                Some("an event is larger than 1 GiB, which MySQL's protocol does not carry".to_owned())
            }
            _ => None,
        },
        ClientError::Io(IoError::Io(error)) => {
            let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
            match inner {
                // A certificate that has expired is renewed at the server; any other fault of it is ours to mend.
                rustls::Error::InvalidCertificate(
                    rustls::CertificateError::Expired
                    | rustls::CertificateError::ExpiredContext { .. }
                    | rustls::CertificateError::NotValidYet
                    | rustls::CertificateError::NotValidYetContext { .. },
                ) => None,
                rustls::Error::InvalidCertificate(_) => Some(TLS_ADVICE.to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

const TLS_ADVICE: &str = "check the CA file and the host's name in the certificate (MySQL's own certificates name no host: \
                          tls = \"required\" encrypts without verifying)";

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error as Io, ErrorKind};

    fn stream(source: impl Into<ClientError>) -> (Class, String) {
        let place = Place { file: "binlog.000007".into(), offset: 9, gtid: None };
        let error = MysqlError::stream("db:3306", &place, source.into());
        (error.class(), error.to_string())
    }

    fn io(kind: ErrorKind, text: &'static str) -> IoError {
        IoError::Io(Io::new(kind, text))
    }

    #[test]
    fn bytes_that_are_no_event_are_nonsense_at_their_place() {
        for source in [
            ClientError::from(DriverError::UnexpectedPacket { payload: vec![7] }),
            ClientError::from(IoError::from(PacketCodecError::PacketsOutOfSync)),
            io(ErrorKind::InvalidData, "Unknown ENUM").into(),
            io(ErrorKind::Other, "TRANSACTION_PAYLOAD_EVENT encountered").into(),
            io(ErrorKind::UnexpectedEof, "can't parse: buf doesn't have enough data").into(),
            io(ErrorKind::UnexpectedEof, "failed to fill whole buffer").into(),
        ] {
            let (class, text) = stream(source);
            assert_eq!(class, Class::Garbled, "{text}");
            assert!(text.contains("binlog.000007:9"), "{text}");
        }
    }

    #[test]
    fn bytes_that_stop_coming_are_worth_another_connection() {
        for source in [
            io(ErrorKind::UnexpectedEof, "connection closed"),
            io(ErrorKind::UnexpectedEof, "peer closed connection without sending TLS close_notify"),
            io(ErrorKind::ConnectionReset, "reset"),
            io(ErrorKind::Other, "bytes remaining on stream"),
            IoError::Io(Io::new(ErrorKind::InvalidData, rustls::Error::DecryptError)),
        ] {
            let (class, text) = stream(source);
            assert_eq!(class, Class::Transient, "{text}");
        }
    }

    #[test]
    fn an_eviction_is_worth_another_connection_and_a_clash_is_not() {
        let message = "A replica with the same server_uuid/server_id as this replica has connected to the source; the first event …";
        let server = mysql_async::ServerError { code: 1236, message: message.into(), state: "HY000".into() };
        let (class, text) = stream(ClientError::Server(server));
        assert_eq!(class, Class::Transient, "{text}");
        let uuid = uuid::Uuid::from_bytes([7; 16]);
        let clash = MysqlError::Clash { server: "db:3306".into(), id: 2_147_483_655, uuid };
        assert_eq!(clash.class(), Class::Definite);
        let text = clash.to_string();
        assert!(text.contains("2147483655") && text.contains(&uuid.to_string()), "{text}");
    }

    #[test]
    fn an_event_over_the_protocols_limit_is_definite() {
        let (class, text) = stream(IoError::from(PacketCodecError::PacketTooLarge));
        assert_eq!(class, Class::Definite);
        assert!(text.contains("larger than 1 GiB") && text.contains("binlog.000007:9"), "{text}");
    }
}
