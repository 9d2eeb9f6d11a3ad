//! Transactions: which events make one, what of it is written, and when its GTID counts.
//!
//! ```text
//! GTID ─ QUERY BEGIN ─ (TABLE_MAP… ROWS…)… ─ XID | QUERY COMMIT        rows of followed tables: a commit frame
//! GTID ─ QUERY (DDL, or statement format)                              no rows: folded into the set
//! GTID ─ QUERY XA START ─ … ─ XA_PREPARE                               later: GTID ─ QUERY XA COMMIT
//! ```
//!
//! ANONYMOUS_GTID stands in place of GTID where the transaction has none ([`place`]).
//! MariaDB's GTID event stands for BEGIN and XA START as well, unless it says that a statement alone follows.
//!
//! Rows go into the batch as they come; they count with the commit frame, which carries the GTID. A transaction without
//! followed rows adds its GTID to the set in memory, and a mark frame records the set between transactions, so often that
//! the position never falls behind what the server purges. An event that is not understood is an error unless it says
//! itself that it may be ignored.
//!
//! XA: the rows of a transaction come with its PREPARE and are written as held ones; its XA COMMIT, a transaction of its own, makes them count: see
//! [`prepared`](crate::log::prepared) and [`undecided`](super::undecided). An XA COMMIT of what is not held may change any followed table, which all
//! need a snapshot from there on.

#[path = "binlog_begins.rs"]
mod begins;
#[path = "binlog_compressed.rs"]
mod compressed;
#[path = "binlog_maps.rs"]
mod maps;
#[cfg(feature = "mariadb")]
#[path = "binlog_mariadb.rs"]
mod mariadb;
#[path = "binlog_metrics.rs"]
mod measured;
#[path = "binlog_owed.rs"]
mod owed;
#[path = "binlog_place.rs"]
mod place;
#[path = "binlog_rollbacks.rs"]
mod rollbacks;
#[path = "binlog_rows.rs"]
mod rows;
#[path = "binlog_snapshot.rs"]
mod snapshot;
#[path = "binlog_statements.rs"]
mod statements;
#[path = "binlog_xa.rs"]
mod xa;

use std::collections::{BTreeSet, HashSet};

use tokio::time::Instant;

use crate::event::{Gtid, GtidSet, Stamp, TableName, Xid};
use crate::log::followed::Followed;
use crate::log::record::{Batch, Commit, Mark, Position, Synced};
use crate::log::{Gap, Noted, Standing};
use crate::metrics::names;

use self::place::Going;
use self::rollbacks::{Found, Rollbacks};
use self::snapshot::Observed;
pub use self::snapshot::{Disturbance, Noticed};
use super::compressed::Inflate;
use super::decode::{Change, Decoder};
use super::error::{MysqlError, Place};
use super::event::{RawEvent, Within, kind};
use super::marks::Marks;
use super::options::MysqlOptions;
use super::owed::Owed;
use super::patterns::Patterns;
use super::server::Peer;
use super::tables::{Tables, Version};
use super::undecided::Undecided;
use super::wire::Short;

/// Of an event that was not held whole.
const TOO_LARGE: &str =
    "it is more than twice as large as max_row_bytes allows a row to be: raise max_row_bytes";

/// Events of which all matters. Of rows of tables that are not followed, and of what is passed over, the beginning is enough.
fn needs_all(kind: u8) -> bool {
    matches!(
        kind,
        kind::QUERY
            | kind::EXECUTE_LOAD_QUERY
            | kind::TABLE_MAP
            | kind::GTID
            | kind::GTID_TAGGED
            | kind::ANONYMOUS_GTID
            | kind::XA_PREPARE
            | kind::ROTATE
            | kind::FORMAT_DESCRIPTION
            | kind::MARIADB_GTID
            | kind::GTID_LIST
            | kind::QUERY_COMPRESSED
    )
}

/// The state of one stream.
#[derive(Debug)]
pub struct Binlog {
    tables: Tables,
    decoder: Decoder,
    inflate: Inflate,
    gtids: GtidSet,
    /// The most that an event may be when inflated, bytes.
    largest: usize,
    server: Peer,
    place: Place,
    /// Where the last transaction ends.
    position: Position,
    /// Where the event stands that is being taken.
    within: Within,
    transaction: Option<Transaction>,
    /// Of a transaction that is to be read once more.
    found: Option<Found>,
    /// The server is looking for our place, which it may take long over without a heartbeat (MariaDB reads a whole file).
    seeking: bool,
    undecided: Undecided,
    going: Going,
    gives_gtids: bool,
    observed: Observed,
    marks: Marks,
    events: metrics::Counter,
    replaced: metrics::Counter,
    /// Tables and columns of which it was said that bytes of theirs were replaced.
    reported: HashSet<(TableName, String)>,
    last_event: metrics::Gauge,
    lag: metrics::Gauge,
    undecided_xa: metrics::Gauge,
    last_micros: u64,
    /// A transaction ended since that was last measured.
    has_ended: bool,
}

/// The transaction that is being read.
#[derive(Debug)]
struct Transaction {
    gtid: Option<Gtid>,
    /// Offset of its first event; 0 where the server does not say where that ends.
    began: u64,
    time_micros: u64,
    /// BEGIN or XA START was seen: a statement inside does not end it.
    begun: bool,
    /// Whatever its statement says, the table stays as it was (the first half of MariaDB's ALTER in two phases).
    alters_nothing: bool,
    /// A followed table with rows in it.
    rows_of: Option<TableName>,
    /// Rows that are to be read again before it counts.
    owed: Owed,
    /// Its end has come; what it owes has not.
    ended: bool,
    /// To be recorded with its end.
    noted: Noted,
    /// It is one of XA.
    xa: Option<Xid>,
    rollbacks: Rollbacks,
}

impl Transaction {
    fn new(gtid: Option<Gtid>, time_micros: u64) -> Transaction {
        Transaction {
            gtid,
            began: 0,
            time_micros,
            begun: false,
            alters_nothing: false,
            rows_of: None,
            owed: Owed::default(),
            ended: false,
            noted: Noted::default(),
            xa: None,
            rollbacks: Rollbacks::default(),
        }
    }
}

impl Transaction {
    /// What changes of this table say of it.
    fn stamp(&self, table: &Version) -> Option<Stamp> {
        table.stamped.then(|| Stamp { time_micros: self.time_micros, gtid: self.gtid.clone() })
    }
}

impl Binlog {
    #[must_use]
    pub fn new(options: &MysqlOptions) -> Binlog {
        Binlog {
            tables: Tables::new(options.keys.clone(), options.stamped.clone()),
            decoder: Decoder::new(options.max_row_bytes),
            inflate: Inflate::default(),
            largest: options.max_row_bytes.saturating_mul(2),
            gtids: GtidSet::default(),
            server: Peer::default(),
            place: Place::default(),
            position: Position::default(),
            within: Within::Stream,
            transaction: None,
            found: None,
            seeking: false,
            undecided: Undecided::default(),
            going: Going::default(),
            gives_gtids: true,
            observed: Observed::default(),
            marks: Marks::new(options.mark_interval, options.mark_transactions),
            events: metrics::counter!("everrelay_source_events_total"),
            replaced: metrics::counter!("everrelay_source_replaced_values_total"),
            reported: HashSet::new(),
            last_event: metrics::gauge!("everrelay_source_last_event_seconds"),
            lag: metrics::gauge!(names::SOURCE_LAG),
            undecided_xa: metrics::gauge!(names::SOURCE_UNDECIDED_XA),
            last_micros: 0,
            has_ended: false,
        }
    }

    /// A new stream begins after `after`.
    pub fn restart(
        &mut self,
        after: GtidSet,
        server: Peer,
        patterns: Patterns,
        followed: BTreeSet<TableName>,
    ) {
        self.tables.restart(patterns, followed, server);
        self.tables.forget_schemas();
        (self.gtids, self.server) = (after, server);
        (self.place, self.position, self.transaction) = (Place::default(), Position::default(), None);
        (self.seeking, self.going, self.gives_gtids) = (true, Going::default(), true);
        self.undecided.restart(&[], &Followed::default());
        self.observed = Observed::default();
        self.marks.clear();
    }

    /// Who streams.
    #[must_use]
    pub fn server(&self) -> Peer {
        self.server
    }

    /// The new stream begins behind the PREPAREs of these XA transactions, and before their decision.
    pub fn restart_xa(&mut self, after: &Standing) {
        self.undecided.restart(&after.prepared, &after.followed);
    }

    #[must_use]
    pub fn gtids(&self) -> &GtidSet {
        &self.gtids
    }

    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// A silence may be work: a large event is on its way, or the server looks for our place.
    #[must_use]
    pub fn may_be_silent(&self) -> bool {
        self.transaction.is_some() || self.seeking
    }

    /// When the next mark is due, if one is.
    #[must_use]
    pub fn mark_due(&self) -> Option<Instant> {
        // Inside a transaction none can be written.
        if self.transaction.is_some() { None } else { self.marks.deadline() }
    }

    /// Writes a mark where one is due.
    pub fn mark_if_due(&mut self, batch: &mut Batch) {
        if self.transaction.is_none() && self.marks.is_due() {
            self.mark(Noted::default(), batch);
        }
    }

    fn mark(&mut self, mut noted: Noted, batch: &mut Batch) {
        self.marks.clear();
        // Its set has their PREPAREs and decisions.
        noted.xa.extend(self.undecided.take_untold());
        batch.mark(&Mark {
            synced: Synced::default(),
            gtids: self.gtids.clone(),
            time_micros: self.last_micros,
            position: self.position.clone(),
            noted,
        });
    }

    /// The open transaction changed rows of a followed table and no row event says how: recorded with the position that passes it.
    fn gap(&mut self, table: TableName, why: impl Into<String>) {
        self.observed.disturb(&table, Disturbance::Gap);
        if let Some(Transaction { noted, time_micros, .. }) = &mut self.transaction {
            noted.gaps.push(Gap::new(table, why, *time_micros));
        }
    }

    /// Takes one event; appends what it means to `batch`.
    ///
    /// # Errors
    /// What stops the source, see [`MysqlError`].
    pub fn event(&mut self, event: &RawEvent<'_>, batch: &mut Batch) -> Result<(), MysqlError> {
        self.events.increment(1);
        self.moves(event);
        self.within = event.within();
        if self.was_read(event)? {
            return Ok(());
        }
        batch.hold(self.transaction.as_ref().is_some_and(|transaction| transaction.xa.is_some()));
        self.take(event, batch).map_err(|error| match self.within {
            // The checksum comes with the last one.
            Within::Payload { last: false } => error.unverified(),
            _ => error,
        })?;
        let open = self.transaction.as_ref().is_some_and(|transaction| !transaction.ended);
        if self.within == (Within::Payload { last: true }) && open {
            return Err(self.garbled("a transaction payload ends without the end of its transaction"));
        }
        Ok(())
    }

    fn take(&mut self, event: &RawEvent<'_>, batch: &mut Batch) -> Result<(), MysqlError> {
        if event.is_cut() && needs_all(event.kind()) {
            return Err(self.refuse(&format!("event of type {}", event.kind()), TOO_LARGE));
        }
        match event.kind() {
            kind::WRITE_ROWS => self.rows(event, "WRITE_ROWS event", Change::Write, 2, batch),
            kind::UPDATE_ROWS => self.rows(event, "UPDATE_ROWS event", Change::Update, 2, batch),
            kind::DELETE_ROWS => self.rows(event, "DELETE_ROWS event", Change::Delete, 2, batch),
            kind::WRITE_ROWS_V1 => self.rows(event, "WRITE_ROWS_V1 event", Change::Write, 1, batch),
            kind::UPDATE_ROWS_V1 => self.rows(event, "UPDATE_ROWS_V1 event", Change::Update, 1, batch),
            kind::DELETE_ROWS_V1 => self.rows(event, "DELETE_ROWS_V1 event", Change::Delete, 1, batch),
            kind::WRITE_ROWS_COMPRESSED => {
                self.compressed_rows(event, "WRITE_ROWS_COMPRESSED event", Change::Write, 2, batch)
            }
            kind::UPDATE_ROWS_COMPRESSED => {
                self.compressed_rows(event, "UPDATE_ROWS_COMPRESSED event", Change::Update, 2, batch)
            }
            kind::DELETE_ROWS_COMPRESSED => {
                self.compressed_rows(event, "DELETE_ROWS_COMPRESSED event", Change::Delete, 2, batch)
            }
            kind::WRITE_ROWS_COMPRESSED_V1 => {
                self.compressed_rows(event, "WRITE_ROWS_COMPRESSED_V1 event", Change::Write, 1, batch)
            }
            kind::UPDATE_ROWS_COMPRESSED_V1 => {
                self.compressed_rows(event, "UPDATE_ROWS_COMPRESSED_V1 event", Change::Update, 1, batch)
            }
            kind::DELETE_ROWS_COMPRESSED_V1 => {
                self.compressed_rows(event, "DELETE_ROWS_COMPRESSED_V1 event", Change::Delete, 1, batch)
            }
            kind::TABLE_MAP => self.table_map(event),
            kind::GTID | kind::GTID_TAGGED => self.gtid(event),
            kind::ANONYMOUS_GTID => self.anonymous(event),
            kind::PREVIOUS_GTIDS => self.previous_gtids(event, batch),
            #[cfg(feature = "mariadb")]
            kind::MARIADB_GTID => self.mariadb_gtid(event),
            #[cfg(feature = "mariadb")]
            kind::GTID_LIST => self.gtid_list(event),
            kind::XID => self.commit(batch),
            kind::QUERY => self.query(event, 0, batch),
            kind::QUERY_COMPRESSED => self.compressed_query(event, batch),
            // The statement stands behind the numbers of the file that it loaded.
            kind::EXECUTE_LOAD_QUERY => self.query(event, 13, batch),
            kind::FORMAT_DESCRIPTION => self.described(event),
            kind::ROTATE => self.rotate(event),
            kind::STOP => self.between_transactions("a STOP event"),
            kind::HEARTBEAT | kind::HEARTBEAT_V2 => {
                self.seeking = false;
                self.marks.idle();
                Ok(())
            }
            kind::ROWS_QUERY
            | kind::ANNOTATE_ROWS
            // How far back the server would look after a crash, and of what key its file is: what is streamed is not encrypted.
            | kind::BINLOG_CHECKPOINT
            | kind::START_ENCRYPTION
            // What a statement in statement format needs: the statement decides.
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::BEGIN_LOAD_QUERY
            | kind::APPEND_BLOCK
            | kind::DELETE_FILE
            // Group replication's membership: no rows.
            | kind::VIEW_CHANGE => Ok(()),
            kind::XA_PREPARE => self.xa_prepare(event, batch),
            kind::PARTIAL_UPDATE_ROWS => {
                self.rows(event, "PARTIAL_UPDATE_ROWS event", Change::PartialUpdate, 2, batch)
            }
            kind::TRANSACTION_PAYLOAD => self.payload(),
            kind::INCIDENT => Err(self.refuse(
                "INCIDENT event",
                "the server says that its binlog lacks changes here: stop the relay and run `everrelay snapshot --from-now`, which reads every table anew",
            )),
            _ if event.is_ignorable() => Ok(()),
            number => Err(self.refuse(&format!("event of type {number}"), "this type is not known, and the server does not say that it may be ignored")),
        }
    }

    fn garbled(&self, what: impl Into<String>) -> MysqlError {
        MysqlError::Garbled { place: self.place.clone().into(), what: what.into() }
    }

    fn short<'a>(&'a self, event: &'a str) -> impl Fn(Short) -> MysqlError + 'a {
        move |Short| self.garbled(format!("{event} ends early"))
    }

    fn refuse(&self, event: &str, why: &'static str) -> MysqlError {
        MysqlError::Event { event: event.into(), place: self.place.clone().into(), why }
    }

    fn refuse_table(&self, event: &str, table: TableName, why: &'static str) -> MysqlError {
        MysqlError::Table { event: event.into(), table, place: self.place.clone().into(), why }
    }

    fn between_transactions(&self, what: &str) -> Result<(), MysqlError> {
        if self.transaction.is_none() {
            return Ok(());
        }
        Err(self.garbled(format!("{what} inside a transaction")))
    }

    /// What follows are the events of a payload, which is the whole of a transaction but its GTID.
    fn payload(&self) -> Result<(), MysqlError> {
        match (&self.transaction, self.within) {
            (Some(transaction), Within::Stream) if !transaction.begun => Ok(()),
            _ => Err(self.garbled("a TRANSACTION_PAYLOAD event that is not alone in its transaction")),
        }
    }

    /// The open transaction ends here.
    fn end(&mut self, batch: &mut Batch) -> Result<(), MysqlError> {
        if self.within == (Within::Payload { last: false }) {
            return Err(self.garbled("a transaction payload goes on after the end of its transaction"));
        }
        self.tables.end_statement();
        self.is_as_handed_over()?;
        if let Some(transaction) =
            self.transaction.as_mut().filter(|transaction| !transaction.owed.is_empty())
        {
            transaction.ended = true;
            return Ok(());
        }
        self.count(batch)
    }

    /// The ended transaction owes nothing.
    fn count(&mut self, batch: &mut Batch) -> Result<(), MysqlError> {
        let Some(Transaction { gtid, began, time_micros, rows_of, noted, .. }) = self.transaction.take()
        else {
            return Err(self.garbled("a transaction ends that never began"));
        };
        self.place.gtid = None;
        (self.last_micros, self.has_ended) = (time_micros, true);
        self.observed.notice(&noted);
        if let Some(gtid) = &gtid {
            self.gtids.insert(gtid);
        }
        self.position.server = self.server.uuid;
        self.position.file.clone_from(&self.place.file);
        (self.position.offset, self.position.began) = (self.place.offset, began);
        self.position.by_place = self.going.needs_place(gtid.as_ref());
        // What was held counts behind a commit alone.
        if rows_of.is_some() || !noted.xa.is_empty() {
            batch.commit(&Commit {
                synced: Synced::default(),
                gtid,
                time_micros,
                position: self.position.clone(),
                noted,
            });
        } else if noted.is_empty() {
            self.marks.folded();
        } else {
            // No later: whoever goes on behind the transaction would not know of it.
            self.mark(noted, batch);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "binlog_tests.rs"]
mod tests;
