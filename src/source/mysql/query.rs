//! QUERY events: a statement and the session that it ran in.
//!
//! # Format
//!
//! Thread id (4), seconds (4), length of the schema's name (1), error code (2), length of the status variables (2), those, the schema's name
//! and a zero, the statement. Status variables are a code and its value, in a fixed order; those needed here stand near the front.
//! (MySQL, *Query_event*, libs/mysql/binlog/event/statement_events.h.)

use std::borrow::Cow;

use super::charset::Charset;
use super::tokens::SqlMode;
use super::wire::{Short, Wire};

/// A statement as the binlog has it.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    pub sql: &'a [u8],
    schema: &'a [u8],
    pub mode: SqlMode,
    charset: Charset,
}

impl<'a> Query<'a> {
    /// `body`: the event without its common header; `extra`: bytes that an EXECUTE_LOAD_QUERY event has before the status
    /// variables.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(body: &'a [u8], extra: usize) -> Result<Query<'a>, Short> {
        let mut wire = Wire::new(body);
        wire.take(8)?;
        let schema_length = usize::from(wire.u8()?);
        wire.u16()?;
        let status_length = usize::from(wire.u16()?);
        wire.take(extra)?;
        let (mode, charset) = session(Wire::new(wire.take(status_length)?)).unwrap_or_default();
        let schema = wire.take(schema_length)?;
        wire.u8()?;
        let charset = Charset::of_collation(u64::from(charset)).unwrap_or(Charset::Utf8);
        Ok(Query { sql: wire.rest(), schema, mode: SqlMode::from_bits(mode), charset })
    }

    /// The statement as UTF-8; it stands in the session's character set.
    #[must_use]
    pub fn text(&self) -> Cow<'a, str> {
        if let Ok(text) = std::str::from_utf8(self.sql)
            && (self.charset == Charset::Utf8 || self.sql.is_ascii())
        {
            return Cow::Borrowed(text);
        }
        Cow::Owned(self.charset.decode(self.sql, &mut String::new()).0.to_owned())
    }

    /// The session's default schema.
    #[must_use]
    pub fn schema(&self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.schema)
    }
}

/// The session's sql_mode and character_set_client; what stands behind a code that is not known stays unread.
fn session(mut wire: Wire<'_>) -> Result<(u64, u16), Short> {
    let (mut mode, mut charset) = (0, 0);
    while !wire.is_empty() {
        match wire.u8()? {
            // Flags2.
            0 => drop(wire.take(4)?),
            1 => mode = wire.u64()?,
            // The catalog, with and without a zero behind it, and the time zone.
            2 => {
                let length = usize::from(wire.u8()?);
                wire.take(length + 1)?;
            }
            5 | 6 => {
                let length = usize::from(wire.u8()?);
                wire.take(length)?;
            }
            // auto_increment_increment and its offset.
            3 => drop(wire.take(4)?),
            4 => {
                charset = wire.u16()?;
                wire.take(4)?;
            }
            _ => break,
        }
    }
    Ok((mode, charset))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(status: &[u8], schema: &str, sql: &[u8]) -> Vec<u8> {
        let mut body = vec![0; 8];
        body.push(schema.len() as u8);
        body.extend_from_slice(&[0, 0]);
        body.extend_from_slice(&(status.len() as u16).to_le_bytes());
        body.extend_from_slice(status);
        body.extend_from_slice(schema.as_bytes());
        body.push(0);
        body.extend_from_slice(sql);
        body
    }

    #[test]
    fn the_session_is_read_from_the_status_variables() {
        let mut status = vec![0, 0, 0, 0, 0, 1];
        status.extend_from_slice(&4_u64.to_le_bytes());
        status.extend_from_slice(&[6, 3, b's', b't', b'd', 4, 8, 0, 8, 0, 8, 0, 99, 1, 2]);
        let body = event(&status, "shop", b"drop table \xe9");
        let query = Query::parse(&body, 0).unwrap();
        assert!(query.mode.ansi_quotes);
        assert_eq!((query.schema().as_ref(), query.text().as_ref()), ("shop", "drop table é"));
    }

    #[test]
    fn each_prefix_of_an_event_is_an_error_or_a_shorter_statement() {
        let body = event(&[1, 0, 0, 0, 0, 0, 0, 0, 0], "shop", b"");
        for length in 0..body.len() {
            assert!(Query::parse(&body[..length], 0).is_err(), "{length}");
        }
    }
}
