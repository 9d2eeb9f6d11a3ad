//! What goes wrong between a MySQL server and us, and which of it is worth another try.

use crate::event::{Gtid, GtidSet, TableName};
use crate::source::SourceError;

use super::advice::{advice, is_denial, is_of_certificates};
use super::catalog::Unlike;
use super::decode::DecodeError;
use super::link::LinkError;
use super::patterns::BadPattern;
use super::schema::{FULL_METADATA, SchemaError};
use super::select::SelectError;
use super::server::GTIDS_ON;

/// What lets a server send transactions of another mode than its own.
const TURN_BACK: &str = "SET GLOBAL gtid_mode = ON_PERMISSIVE there (from OFF: OFF_PERMISSIVE), start the relay again, and when it has read what is behind go on with the mode that is \
                         wanted; or stop the relay and run `everrelay snapshot --from-now`";

/// The way out where transactions are lost.
pub const FROM_NOW: &str = "stop the relay and run `everrelay snapshot --from-now`, which goes on from where the server is now and reads every followed table anew";

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
    #[error("{doing} at {server}: {source}")]
    Link { doing: &'static str, server: String, source: Box<LinkError> },
    #[error("{doing} at {server}: {source}; {advice}")]
    Refused { doing: &'static str, server: String, source: Box<LinkError>, advice: String },
    #[error("{doing} at {server}: no answer within {seconds} s")]
    NoAnswer { doing: &'static str, server: String, seconds: u64 },
    #[error(
        "{server} is {found}: this source reads MySQL 8.0 and newer, and MariaDB 10.11 and newer where it is built with it"
    )]
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
         apart: add one, name columns that are unique (`id = [\"…\"]` in a [[table]] section that matches it), or exclude it by the pattern \"!{table}\""
    )]
    NoKey { table: TableName },
    #[error("the followed table {table} cannot be read: {source}")]
    NamedKey { table: TableName, source: SchemaError },
    #[error(
        "{table} cannot be read for its snapshot: {why}; exclude it by the pattern \"!{table}\", or mend it"
    )]
    Snapshot { table: TableName, why: String },
    #[error(
        "{server} gives no GTIDs, and its performance_schema does not show commits that are under way, which is how a snapshot without GTIDs \
         knows what it sees: set gtid_mode = ON, or run UPDATE performance_schema.setup_instruments SET enabled = 'YES' WHERE name = \
         'wait/lock/metadata/sql/mdl'"
    )]
    CommitsUnseen { server: String },
    #[error(
        "{tables} tables are followed, and a log begins with snapshots of {} at most: set start = \"now\" and order snapshots of some after others \
         (everrelay snapshot TABLE…), or follow fewer by a relay",
        crate::log::snapshot::MAX_SNAPSHOTS
    )]
    ManySnapshots { tables: usize },
    #[error("the snapshot of {table}: {source}")]
    Unreadable { table: TableName, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{table} cannot be read for its snapshot: {source}; exclude it by the pattern \"!{table}\"")]
    Described { table: TableName, source: super::catalog::Unlike },
    #[error(
        "the followed table {table} has system versioning, and rows of its past would be taken for rows: exclude it by the pattern \
         \"!{table}\""
    )]
    Versioned { table: TableName },
    #[error(
        "column {column:?} of the followed table {table} has the collation {collation:?}, which is none of the server's own: give it \
         another, or exclude the table by the pattern \"!{table}\""
    )]
    Collation { table: TableName, column: String, collation: String },
    #[error("{server} sent a GTID set that is not understood: {problem}")]
    GtidSet { server: String, problem: String },
    #[error(
        "{server} has purged transactions that were not read yet: {missing}. To give them up, {FROM_NOW}; and raise \
         binlog_expire_logs_seconds there"
    )]
    Purged { server: String, missing: GtidSet },
    #[error(
        "the state folder holds transactions that {server} never executed: {missing} is not in its gtid_executed (MariaDB: gtid_binlog_state); \
         the folder belongs to another source, or a failover lost them there: point it to the server that it was made \
         with; or, where they are lost for good, {FROM_NOW}"
    )]
    AnotherHistory { server: String, missing: GtidSet, hope: Hope },
    #[error(
        "{server} does not write changes of the followed table {table} to its binlog (binlog_do_db, binlog_ignore_db): take the filter out, or \
         exclude the table by the pattern \"!{table}\""
    )]
    LeftOut { server: String, table: TableName },
    #[error(
        "{server} is a replica of {from} with log_replica_updates = OFF: what it replicates is not in its binlog; start it with \
         log_replica_updates = ON, or name {from} by url"
    )]
    ReplicaWithoutBinlog { server: String, from: String },
    #[error(
        "{server} is not what the state folder was read from, though its server_uuid is the same: where the log's last transaction began, {place} of \
         {time}, {found}: its binlogs were reset, it was restored from a backup, or it lost transactions in a crash, and wrote others since; \
         {FROM_NOW}"
    )]
    Reused { server: String, place: String, time: String, found: String },
    #[error(
        "{server} has gtid_mode = {mode}, so that its transactions may have no GTIDs, and the log knows no place in its binlog files to go on from: {GTIDS_ON}; \
         or {FROM_NOW}"
    )]
    NoPlace { server: String, mode: String },
    #[error(
        "the log goes on at {place} in the binlog of the server with the UUID {of}, and {server} is the server {found} (gtid_mode = {mode}): without GTIDs a place means \
         nothing at another server. Point the relay to the server that it was read from; or {FROM_NOW}. To be able to change servers, turn GTIDs on at both \
         beforehand: {GTIDS_ON}"
    )]
    PlaceOfAnother { server: String, mode: String, found: uuid::Uuid, of: uuid::Uuid, place: String },
    #[error(
        "{server} no longer has its binlog file {file}, where the log goes on; its oldest is {oldest}: {FROM_NOW}; and raise binlog_expire_logs_seconds there"
    )]
    PlacePurged { server: String, file: String, oldest: String },
    #[error(
        "{server} has gtid_mode = {mode}, so that its transactions may have no GTIDs, and {start} needs them: start = \"earliest\" or \"now\" do not; or {GTIDS_ON}"
    )]
    StartWithoutGtids { server: String, mode: String, start: &'static str },
    #[error("{server} does not stream what stands behind {place}: {said}; {TURN_BACK}")]
    OtherMode { server: String, place: Box<Place>, said: String },
    #[error(
        "{server} passes over a transaction without a GTID at {place}, which was not read: its gtid_mode was not ON for a while; {TURN_BACK}"
    )]
    PassedOver { server: String, place: Box<Place> },
    #[error("{server} lacks transactions that the state folder holds: {missing}; {waiting}")]
    Lacks { server: String, missing: GtidSet, waiting: &'static str },
    #[error(
        "{source}; trying again, since it was right before: a password or a grant may be about to change"
    )]
    Denied { source: Box<MysqlError> },
    /// What each of several servers said.
    #[error("none of the servers serves: {0}")]
    NoneServes(String),
    #[error(
        "{at}: {last} was written after {highest}, so that no sequence tells a place in that GTID domain: give servers that write independently \
         domains of their own (gtid_domain_id), SET GLOBAL gtid_strict_mode = ON; and {FROM_NOW}"
    )]
    Falling { at: String, last: Gtid, highest: Gtid },
    #[error("the stream from {server} was silent for {seconds} s, without a heartbeat, after {place}")]
    Silent { server: String, seconds: u64, place: Box<Place> },
    #[error("{server} ended the stream after {place}")]
    Ended { server: String, place: Box<Place> },
    #[error("reading the stream from {server} after {place}: {source}")]
    Stream { server: String, place: Box<Place>, source: Box<LinkError> },
    #[error("{server} gave the stream to another replica after {place}: {source}")]
    Evicted { server: String, place: Box<Place>, source: Box<LinkError> },
    #[error(
        "{server} gave the stream to another replica three times within a minute: something else registers there with our server id {id} \
         or UUID {uuid}: a second relay on a copy of this state folder (stop one of them), or a replica (give it another server_id)"
    )]
    Clash { server: String, id: u32, uuid: uuid::Uuid },
    #[error("{server} refused to stream after {place}: {source}; {advice}")]
    StreamRefused { server: String, place: Box<Place>, source: Box<LinkError>, advice: String },
    #[error("the stream is not as it should be at {place}: {what}")]
    Garbled { place: Box<Place>, what: String },
    #[error(
        "{place}: rows of the transaction were rolled back within it, after they were read: it is read again without them"
    )]
    RolledBack { place: Box<Place> },
    #[error("{event} of {table} at {place}: {source}")]
    Rows { event: &'static str, table: TableName, place: Box<Place>, source: DecodeError },
    #[error("TABLE_MAP event of {table} at {place}: {source}")]
    Schema { table: TableName, place: Box<Place>, source: SchemaError },
    #[error(
        "TABLE_MAP event of {table} at {place}: it does not say all of the table's columns (binlog_row_metadata = MINIMAL, or a type that MariaDB's binlog does not tell), {source}, and no statement \
         in the binlog explains that: the table was altered elsewhere, or with sql_log_bin = 0, or the user may not see it (GRANT SELECT ON it \
         TO the user). {FULL_METADATA} (MariaDB: SET GLOBAL; its UUID, INET4, INET6 and VECTOR no setting tells); and {FROM_NOW}; or exclude the table by a pattern"
    )]
    Unlike { table: TableName, place: Box<Place>, source: Unlike },
    #[error(
        "{server} was asked for what its stream leaves out, and another server answered than the one that streams"
    )]
    OtherServer { server: String },
    #[error("{event} of {table} at {place}: {why}")]
    Table { event: String, table: TableName, place: Box<Place>, why: &'static str },
    #[error("{event} at {place}: {why}")]
    Event { event: String, place: Box<Place>, why: &'static str },
    #[error("a row of {table}, read again at {server}: {source}")]
    Selected { table: TableName, server: String, source: SelectError },
    #[error("{server} has not executed after {seconds} s what it streams")]
    NotExecuted { server: String, seconds: u64 },
    #[error("the source was asked for changes without a connection")]
    NotConnected,
    /// Found before the checksum of the bytes that say it was compared: damage would say it too.
    #[error(transparent)]
    Unverified(Box<MysqlError>),
}

/// Whether a server may come to have transactions that it lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// It has not a single one of ours: it is another server, or was begun anew.
    None,
    /// A while will tell.
    Grace,
    /// It is a replica, and has not done all that it was told of.
    CatchingUp,
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Transient,
    Garbled,
    Definite,
}

impl MysqlError {
    pub(super) fn class(&self) -> Class {
        match self {
            MysqlError::Link { source, .. } if matches!(**source, LinkError::Unlike(_)) => Class::Garbled,
            MysqlError::Link { .. }
            | MysqlError::NoAnswer { .. }
            | MysqlError::Silent { .. }
            | MysqlError::Ended { .. }
            | MysqlError::Stream { .. }
            | MysqlError::Evicted { .. }
            | MysqlError::NotExecuted { .. }
            | MysqlError::OtherServer { .. }
            | MysqlError::RolledBack { .. }
            | MysqlError::Lacks { .. }
            | MysqlError::Denied { .. }
            | MysqlError::NotConnected => Class::Transient,
            MysqlError::Garbled { .. } | MysqlError::GtidSet { .. } | MysqlError::Unverified(_) => {
                Class::Garbled
            }
            // While certificates are changed, here or there, what is new meets what is old.
            MysqlError::Refused { source, .. } | MysqlError::StreamRefused { source, .. }
                if is_of_certificates(source) =>
            {
                Class::Garbled
            }
            MysqlError::Rows { source, .. } if source.is_garbled() => Class::Garbled,
            MysqlError::Selected { source: SelectError::Short | SelectError::Value { .. }, .. } => {
                Class::Garbled
            }
            MysqlError::Schema { source: SchemaError::Malformed, .. } => Class::Garbled,
            _ => Class::Definite,
        }
    }

    /// Transactions that the log goes on from or would read next are not where it looks for them, and trying again does not bring them: an operator may give
    /// them up.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            MysqlError::Purged { .. }
            | MysqlError::AnotherHistory { .. }
            | MysqlError::Reused { .. }
            | MysqlError::NoPlace { .. }
            | MysqlError::PlaceOfAnother { .. }
            | MysqlError::PlacePurged { .. }
            | MysqlError::PassedOver { .. }
            | MysqlError::OtherMode { .. } => true,
            // The server's own words for the same, and about nothing else.
            MysqlError::StreamRefused { advice, .. } => advice.contains("--from-now"),
            _ => false,
        }
    }

    /// It is about who we are, or what we may.
    #[must_use]
    pub fn is_denial(&self) -> bool {
        match self {
            MysqlError::Refused { source, .. } | MysqlError::StreamRefused { source, .. } => {
                is_denial(source)
            }
            _ => false,
        }
    }

    /// The same, said by bytes whose checksum is still to come.
    #[must_use]
    pub fn unverified(self) -> MysqlError {
        if self.class() == Class::Definite { MysqlError::Unverified(self.into()) } else { self }
    }

    /// A row of `table`, read by SELECT at `server`, that cannot become log bytes.
    #[must_use]
    pub fn selected(table: &TableName, server: &str, source: SelectError) -> MysqlError {
        MysqlError::Selected { table: table.clone(), server: server.to_owned(), source }
    }

    /// An error of the connection while `doing` something at `server`: definite with advice, or worth another try.
    #[must_use]
    pub fn link(doing: &'static str, server: &str, source: LinkError) -> MysqlError {
        match advice(&source) {
            Some(advice) => MysqlError::Refused {
                doing,
                server: server.to_owned(),
                source: source.into(),
                advice: advice.to_owned(),
            },
            None => MysqlError::Link { doing, server: server.to_owned(), source: source.into() },
        }
    }

    /// An error of the connection while reading the stream.
    #[must_use]
    pub fn stream(server: &str, place: &Place, source: LinkError) -> MysqlError {
        let (server, place) = (server.to_owned(), Box::new(place.clone()));
        match &source {
            // MariaDB's ER_SLAVE_SAME_ID.
            LinkError::Server(said) if said.code == 4052 => {
                MysqlError::Evicted { server, place, source: source.into() }
            }
            // ER_SOURCE_FATAL_ERROR_READING_BINLOG: one number for many faults.
            LinkError::Server(said) if said.code == 1236 => {
                let text = said.message.as_str();
                let says = |part: &str| text.contains(part);
                // A stream by GTIDs meets one of them when the mode was changed under it: the next goes by place.
                if says("Cannot replicate") && says("AUTO_POSITION") {
                    return MysqlError::Garbled {
                        place,
                        what: format!("{server} says: {text}; {TURN_BACK}"),
                    };
                }
                if says("Cannot replicate") && says("GTID_MODE") {
                    return MysqlError::OtherMode { server, place, said: text.to_owned() };
                }
                let advice = if says("purged") || says("Could not find first log file") {
                    FROM_NOW
                } else if says("has more GTIDs") || says("GTIDs than") {
                    "the state folder belongs to another source: point it to the server that it was made with; or stop the relay and run `everrelay snapshot --from-now`"
                } else if says("position > file size") {
                    "the file is shorter than it was: it was lost in part in a crash (sync_binlog other than 1), or is another: stop the relay and run `everrelay snapshot --from-now`"
                } else if says("max_allowed_packet") {
                    "SET PERSIST max_allowed_packet = 1073741824 (MariaDB: SET GLOBAL)"
                } else if says("same server_uuid") || says("same server_id") {
                    return MysqlError::Evicted { server, place, source: source.into() };
                } else {
                    // A truncated or damaged binlog, a checksum that does not match: the relay counts these.
                    return MysqlError::Garbled { place, what: format!("{server} says: {text}") };
                };
                MysqlError::StreamRefused { server, place, source: source.into(), advice: advice.to_owned() }
            }
            LinkError::Unlike(what) => MysqlError::Garbled { place, what: format!("behind it {what}") },
            said => match advice(said) {
                Some(advice) => {
                    // An event's length and a payload's fields come before their checksum.
                    let early = matches!(
                        said,
                        LinkError::TooLarge | LinkError::Compression | LinkError::Inflated { .. }
                    );
                    let advice = advice.to_owned();
                    let refused = MysqlError::StreamRefused { server, place, advice, source: source.into() };
                    if early { refused.unverified() } else { refused }
                }
                None => MysqlError::Stream { server, place, source: source.into() },
            },
        }
    }
}

impl MysqlError {
    /// Whether asking again cannot help.
    #[must_use]
    pub fn is_definite(&self) -> bool {
        matches!(self.class(), Class::Definite)
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

#[cfg(test)]
mod tests {
    use super::super::link::ServerSaid;
    use super::*;
    use std::io::{Error as Io, ErrorKind};

    fn stream(source: LinkError) -> (Class, String) {
        let place = Place { file: "binlog.000007".into(), offset: 9, gtid: None };
        let error = MysqlError::stream("db:3306", &place, source);
        (error.class(), error.to_string())
    }

    fn said(code: u16, message: &str) -> LinkError {
        ServerSaid { code, message: message.into() }.into()
    }

    #[test]
    fn bytes_that_are_no_event_are_nonsense_at_their_place() {
        for source in [
            LinkError::Unlike("a packet ends early"),
            said(1236, "log event entry exceeded; the first event …"),
        ] {
            let (class, text) = stream(source);
            assert_eq!(class, Class::Garbled, "{text}");
            assert!(text.contains("binlog.000007:9"), "{text}");
        }
        let login = MysqlError::link("connecting", "db:3306", LinkError::Unlike("it greets otherwise"));
        assert_eq!(login.class(), Class::Garbled);
    }

    #[test]
    fn bytes_that_stop_coming_are_worth_another_connection() {
        for source in [
            Io::new(ErrorKind::UnexpectedEof, "connection closed"),
            Io::new(ErrorKind::UnexpectedEof, "peer closed connection without sending TLS close_notify"),
            Io::new(ErrorKind::ConnectionReset, "reset"),
            Io::new(ErrorKind::InvalidData, rustls::Error::DecryptError),
        ] {
            let (class, text) = stream(source.into());
            assert_eq!(class, Class::Transient, "{text}");
        }
        assert_eq!(stream(said(1053, "Server shutdown in progress")).0, Class::Transient);
    }

    #[test]
    fn what_a_server_says_of_its_binlog_is_told_apart() {
        for (message, advised) in [
            ("Cannot replicate because the source purged required binary logs", "snapshot --from-now"),
            ("Replica has more GTIDs than the source has", "another source"),
            ("log event entry exceeded max_allowed_packet", "SET PERSIST max_allowed_packet"),
        ] {
            let (class, text) = stream(said(1236, message));
            assert_eq!(class, Class::Definite, "{text}");
            assert!(text.contains(advised), "{text}");
        }
    }

    #[test]
    fn an_eviction_is_worth_another_connection_and_a_clash_is_not() {
        let message = "A replica with the same server_uuid/server_id as this replica has connected to the source; the first event …";
        let (class, text) = stream(said(1236, message));
        assert_eq!(class, Class::Transient, "{text}");
        let uuid = uuid::Uuid::from_bytes([7; 16]);
        let clash = MysqlError::Clash { server: "db:3306".into(), id: 2_147_483_655, uuid };
        assert_eq!(clash.class(), Class::Definite);
        let text = clash.to_string();
        assert!(text.contains("2147483655") && text.contains(&uuid.to_string()), "{text}");
    }

    #[test]
    fn what_no_other_connection_would_carry_is_believed_when_it_lasts() {
        for (source, said) in [
            (LinkError::TooLarge, "larger than 1 GiB"),
            (LinkError::Compression, "binlog_transaction_compression = OFF"),
            (LinkError::Inflated { bytes: 9, limit: 8 }, "9 bytes when inflated, and 8"),
        ] {
            let (class, text) = stream(source);
            // No checksum was compared yet.
            assert_eq!(class, Class::Garbled);
            assert!(text.contains(said) && text.contains("binlog.000007:9"), "{text}");
        }
    }
}
