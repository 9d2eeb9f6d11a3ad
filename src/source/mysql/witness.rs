//! Whether the server still has, where the log says, the transaction that the log holds last.
//!
//! GTIDs alone do not tell, and places without GTIDs tell nothing at all: a server whose binlogs were reset, that was restored from a backup, or whose machine crashed before its binlog was on the disk,
//! gives numbers again, to other transactions; once it has passed ours, the sets agree. The log has the place of its last transaction in the
//! server's file, or of the file itself where it has read none, and its time (MySQL's in microseconds, MariaDB's in seconds): the event there is asked for, over a connection of its own, and must be that transaction's
//! first. A file that is gone by the server's own rule has nothing to compare; but files that end before the log's place, or below its file's number, were
//! not what it was read from.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::rfc3339_micros;
use crate::log::Standing;

use super::connection::{Begin, Next};
use super::control::Control;
use super::error::{MysqlError, Place};
use super::event::{RawEvent, kind};
use super::files::is_older;
use super::options::MysqlOptions;

/// For the event to come; an artificial ROTATE and a format description come before it.
const PATIENCE: Duration = Duration::from_secs(20);
const EVENTS: usize = 6;

/// Compares what the log holds last with what the server has there, if it is the same server and still has the file.
///
/// # Errors
/// [`MysqlError::Reused`], or the server cannot be asked.
pub async fn check(control: &mut Control, ours: &Standing, options: &MysqlOptions) -> Result<(), MysqlError> {
    let peer = control.server().peer;
    let position = &ours.position;
    if position.file.is_empty() || position.server != peer.uuid {
        return Ok(());
    }
    let reused = |found: String| MysqlError::Reused {
        server: options.address.to_string(),
        place: format!("{}:{}", position.file.escape_debug(), position.began),
        time: rfc3339_micros(ours.time_micros),
        found,
    };
    let files = control.binlog_files().await?;
    let Some((_, size)) = files.iter().find(|(file, _)| *file == position.file) else {
        return match files.last() {
            Some((last, _)) if is_older(last, &position.file) => {
                Err(reused(format!("its newest binlog file is {}", last.escape_debug())))
            }
            _ => Ok(()),
        };
    };
    if *size < position.offset {
        return Err(reused(format!("its file ends at {size}")));
    }
    let offset = match u32::try_from(position.began) {
        Ok(offset) if offset > 0 && ours.time_micros > 0 => offset,
        // Not known, or behind 4 GiB, which cannot be asked for.
        _ => return Ok(()),
    };
    let found = match time_at(&position.file, offset, options).await {
        // A transaction that the present mode forbids to send begins there: nothing more can be seen of it.
        Err(MysqlError::OtherMode { .. }) => return Ok(()),
        found => found?,
    };
    match found {
        Ok(micros) if micros == ours.time_micros => Ok(()),
        Ok(micros) => Err(reused(format!("it has one of {} there", rfc3339_micros(micros)))),
        Err(said) => Err(reused(said)),
    }
}

/// The time of the transaction, or the file, that begins there, microseconds since 1970 UTC; else what is there instead.
///
/// # Errors
/// The server cannot be asked, or does not send what is there under its `gtid_mode`.
pub async fn time_at(
    file: &str,
    offset: u32,
    options: &MysqlOptions,
) -> Result<Result<u64, String>, MysqlError> {
    // Under a number of its own: our stream would be taken from us otherwise.
    let options = MysqlOptions { relay_id: rand::random(), ..options.clone() };
    let control = Control::connect(&options).await?;
    let mut stream = control.stream(Begin::At { file, offset }, &options).await?;
    let place = Place { file: file.to_owned(), offset: offset.into(), gtid: None };
    for _ in 0..EVENTS {
        let next = match stream.wait(Instant::now() + PATIENCE, PATIENCE, &place).await {
            Ok(next) => next,
            // No event begins there.
            Err(error @ (MysqlError::Garbled { .. } | MysqlError::StreamRefused { .. })) => {
                return Ok(Err(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let Next::Event(event) = next else { break };
        if let Some(found) = time_of(&event) {
            return Ok(found);
        }
    }
    Ok(Err("it has no transaction there".to_owned()))
}

/// `None` of what the server sends before the event that was asked for.
fn time_of(event: &RawEvent<'_>) -> Option<Result<u64, String>> {
    match event.kind() {
        kind::ROTATE | kind::HEARTBEAT | kind::HEARTBEAT_V2 | kind::START_ENCRYPTION => None,
        _ if event.is_artificial() || event.end() == 0 => None,
        kind::FORMAT_DESCRIPTION => Some(Ok(u64::from(event.seconds()) * 1_000_000)),
        kind::GTID | kind::GTID_TAGGED | kind::ANONYMOUS_GTID => Some(match event.gtid() {
            Ok(gtid) => Ok(event.committed_micros(&gtid)),
            Err(error) => Err(format!("it has a GTID event there that is malformed: {error}")),
        }),
        // MariaDB knows no finer time.
        kind::MARIADB_GTID => Some(Ok(u64::from(event.seconds()) * 1_000_000)),
        number => Some(Err(format!("it has an event of type {number} there, and no transaction begins"))),
    }
}
