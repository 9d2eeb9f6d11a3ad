//! What a stream goes on from: the log's GTID set, or its place in a binlog file.
//!
//! # Constraints
//!
//! MySQL gives every transaction a GTID where `gtid_mode` is ON, and there alone. Where it is not, a set does not say where to go on, and the place does: a file and an
//! offset of the server that has that file, and of no other. A server passes over what the set has, and over whole files in front of the first that begins
//! with a set that is not in ours, whatever they hold (MySQL, sql/rpl_binlog_sender.cc, sql/binlog.cc, *find_first_log_not_in_gtid_set*): transactions without GTIDs
//! in them would be lost without a word. It refuses to send one without a GTID where `gtid_mode` is ON, and one with a GTID where it is OFF.
//!
//! # Operation
//!
//! [`Control::way`]: by the set where the server's mode is ON and the log says that its set is enough, else by place, at the same server, which must have
//! the file still. Whether the file is what it was [`witness`](super::witness) looks at. [`Control::nothing_passed_over`] looks, once the stream says in which file it begins,
//! at what lies between that and the log's place.

use crate::event::GtidSet;
use crate::log::Standing;
use crate::log::record::Position;
use crate::source::Start;

use super::connection::Begin;
use super::control::Control;
use super::error::{MysqlError, Place};
use super::files::{file_number, is_older};
use super::options::MysqlOptions;
use super::server::Family;
use super::witness;

/// Offset of a binlog file's first event, bytes.
pub const FILE_HEAD: u64 = 4;

/// Most files that are looked at when a stream begins in a later one.
const MOST_FILES: usize = 1_000;

/// How a stream goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// The server sends what is not in the log's set.
    BySet,
    /// The server sends what stands behind a place of its own.
    ByPlace {
        file: String,
        /// Offset that is asked for. The protocol has 32 bits for it.
        from: u32,
        /// Offset up to which all was read: `from` or later.
        offset: u64,
        /// What the server executed and had in none of its files, asked while `file` was there: GTIDs of transactions before it.
        before: GtidSet,
    },
}

impl Way {
    /// Where the server is asked to begin. `after`: where the log stands.
    #[must_use]
    pub fn begin<'a>(&'a self, after: &'a Standing) -> Begin<'a> {
        match self {
            Way::BySet => Begin::After(&after.gtids),
            Way::ByPlace { file, from, .. } => Begin::At { file, offset: *from },
        }
    }

    #[must_use]
    pub fn is_by_place(&self) -> bool {
        matches!(self, Way::ByPlace { .. })
    }
}

/// The offset to ask for so that everything behind `place` comes: an event begins there.
fn to_ask(place: &Position) -> u32 {
    let asked = [place.offset, place.began].into_iter().filter(|offset| *offset >= FILE_HEAD);
    asked.filter_map(|offset| u32::try_from(offset).ok()).next().unwrap_or(FILE_HEAD as u32)
}

impl Control {
    /// How a stream goes on from where the log stands.
    ///
    /// # Errors
    /// It can go on by place alone, and the log has none of this server, or its file is gone; or a question fails.
    pub async fn way(&mut self, after: &Standing) -> Result<Way, MysqlError> {
        let place = &after.position;
        if self.about.gives_gtids() && !place.by_place {
            return Ok(Way::BySet);
        }
        let (server, mode) = (self.server.clone(), self.about.gtid_mode().to_owned());
        if place.file.is_empty() {
            return Err(MysqlError::NoPlace { server, mode });
        }
        let uuid = self.about.peer.uuid;
        if place.server != uuid {
            let [found, of] = [uuid, place.server].map(uuid::Uuid::from_bytes);
            return Err(MysqlError::PlaceOfAnother { server, mode, found, of, place: shown(place) });
        }
        // Before the files: what is purged later may stand behind ours.
        let before = self.purged().await?;
        let files = self.binlog_files().await?;
        let is_there = files.iter().any(|(file, _)| *file == place.file);
        if !is_there && files.last().is_none_or(|(last, _)| !is_older(last, &place.file)) {
            let oldest = files.first().map(|(file, _)| file.escape_debug().to_string()).unwrap_or_default();
            let file = place.file.escape_debug().to_string();
            return Err(MysqlError::PlacePurged { server, file, oldest });
        }
        Ok(Way::ByPlace { file: place.file.clone(), from: to_ask(place), offset: place.offset, before })
    }

    /// Where a log begins that can go on by place alone.
    ///
    /// # Errors
    /// `start` needs GTIDs, or a question fails.
    pub async fn start_by_place(
        &mut self,
        start: &Start,
        options: &MysqlOptions,
    ) -> Result<Standing, MysqlError> {
        let (file, offset) = match start {
            Start::After(_) => return Err(self.no_start("a start behind GTIDs")),
            Start::Now | Start::Snapshot => {
                let end = self.binlog_status().await?;
                (end.file, end.offset)
            }
            Start::Earliest => {
                let oldest = self.binlog_files().await?.into_iter().next();
                let (file, _) = oldest.ok_or_else(|| MysqlError::GtidSet {
                    server: self.server.clone(),
                    problem: "SHOW BINARY LOGS names no file".to_owned(),
                })?;
                if file_number(&file) > 1 {
                    tracing::warn!(
                        server = %self.server,
                        %file,
                        "the oldest binlog file that the server still has: rows last changed before it are not carried"
                    );
                }
                (file, FILE_HEAD)
            }
        };
        // No transaction was read that could be looked for later; the file itself can.
        let made = witness::time_at(&file, FILE_HEAD as u32, options).await?;
        let time_micros = made.map_err(|problem| MysqlError::GtidSet {
            server: self.server.clone(),
            problem: format!("reading the head of its binlog file {}: {problem}", file.escape_debug()),
        })?;
        let server = self.about.peer.uuid;
        let position = Position { server, file, by_place: true, began: FILE_HEAD, offset };
        Ok(Standing { position, time_micros, ..Standing::default() })
    }

    fn no_start(&self, start: &'static str) -> MysqlError {
        let (server, mode) = (self.server.clone(), self.about.gtid_mode().to_owned());
        MysqlError::StartWithoutGtids { server, mode, start }
    }

    /// Sees that a stream by GTIDs, which begins in the file `begins`, has not passed over transactions without any.
    ///
    /// # Errors
    /// [`MysqlError::PassedOver`], or a question fails.
    pub async fn nothing_passed_over(&mut self, after: &Standing, begins: &str) -> Result<(), MysqlError> {
        let place = &after.position;
        let ours = self.about.peer.family == Family::Mysql && place.server == self.about.peer.uuid;
        if !ours || place.file.is_empty() || !is_older(&place.file, begins) {
            return Ok(());
        }
        let files = self.binlog_files().await?;
        let between = files.iter().map(|(file, _)| file);
        let between = between.skip_while(|file| **file != place.file).take_while(|file| *file != begins);
        for file in between.take(MOST_FILES) {
            let from = if *file == place.file { place.offset } else { FILE_HEAD };
            if let Some(offset) = self.first_anonymous(file, from).await? {
                return Err(MysqlError::PassedOver {
                    server: self.server.clone(),
                    place: Place { file: file.clone(), offset, gtid: None }.into(),
                });
            }
        }
        Ok(())
    }

    /// The offset of the first transaction behind an offset, if it has no GTID.
    async fn first_anonymous(&mut self, file: &str, from: u64) -> Result<Option<u64>, MysqlError> {
        // A description and the list of GTIDs come first in a file.
        let events = self.binlog_events("looking at what its stream passes over", file, from, 3).await?;
        let heads = ["Format_desc", "Previous_gtids"];
        let first = events.into_iter().find(|[_, _, kind, ..]| !heads.contains(&kind.as_str()));
        Ok(first.and_then(
            |[_, offset, kind, ..]| {
                if kind == "Anonymous_Gtid" { Some(offset.parse().unwrap_or(from)) } else { None }
            },
        ))
    }
}

fn shown(place: &Position) -> String {
    format!("{}:{}", place.file.escape_debug(), place.offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_that_cannot_be_asked_for_is_come_to_from_before() {
        const LARGE: u64 = u32::MAX as u64;
        for (began, offset, asked) in [
            (4, 4, 4),
            (200, 900, 900),
            (200, LARGE, u32::MAX),
            (200, LARGE + 1, 200),
            (LARGE + 1, LARGE + 900, 4),
            (0, LARGE + 900, 4),
        ] {
            let place = Position { began, offset, ..Position::default() };
            assert_eq!(to_ask(&place), asked, "{began} {offset}");
        }
    }
}
