//! Answers of the text protocol.

use super::super::wire::Wire;
use super::{LinkError, Row, ServerSaid};

/// Most columns of an answer: a replica's status has 60 (MySQL) or 65 (MariaDB). Letters stay outside: whoever answers in words is no server.
const MOST_COLUMNS: u64 = 70;

/// The first packet of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Ok,
    /// Rows of so many columns.
    Columns(usize),
}

impl Answer {
    /// # Errors
    /// The server's error, or no answer at all.
    pub fn parse(packet: &[u8]) -> Result<Answer, LinkError> {
        refuse_error(packet)?;
        match packet.first() {
            Some(0) => Ok(Answer::Ok),
            // Never offered, so only a server that wants what it must not have asks for it.
            Some(0xfb) => Err(LinkError::Unlike("it asks for a file of this machine, which is never given")),
            _ => match Wire::new(packet).length()? {
                columns @ 1..=MOST_COLUMNS => Ok(Answer::Columns(columns as usize)),
                _ => Err(LinkError::Unlike("an answer has too many columns")),
            },
        }
    }
}

/// # Errors
/// The packet is an error packet.
pub fn refuse_error(packet: &[u8]) -> Result<(), LinkError> {
    match packet.first() {
        Some(0xff) => Err(ServerSaid::parse(packet)?.into()),
        _ => Ok(()),
    }
}

/// The name in a column's definition: behind catalog, schema, and the table by both its names.
///
/// # Errors
/// It ends early.
pub fn column_name(packet: &[u8]) -> Result<String, LinkError> {
    let mut wire = Wire::new(packet);
    for _ in 0..4 {
        wire.string()?;
    }
    Ok(String::from_utf8_lossy(wire.string()?).into_owned())
}

/// An EOF packet. A row whose first value is 16 MiB or longer begins alike and is longer.
#[must_use]
pub fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// One row.
///
/// # Errors
/// It ends early, is too long, or is no UTF-8 (as which results were asked for).
pub fn row(mut wire: Wire<'_>, columns: usize) -> Result<Row, LinkError> {
    const NULL: u8 = 0xfb;
    let mut row = Row::with_capacity(columns);
    for _ in 0..columns {
        if wire.rest().first() == Some(&NULL) {
            wire.u8()?;
            row.push(None);
            continue;
        }
        let text = std::str::from_utf8(wire.string()?)
            .map_err(|_| LinkError::Unlike("a value of its answer is not UTF-8"))?;
        row.push(Some(text.to_owned()));
    }
    if wire.is_empty() { Ok(row) } else { Err(LinkError::Unlike("a row of its answer is too long")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_packet_says_what_comes() {
        assert_eq!(Answer::parse(&[0, 0, 0, 2, 0, 0, 0]).unwrap(), Answer::Ok);
        assert_eq!(Answer::parse(&[3]).unwrap(), Answer::Columns(3));
        assert!(matches!(Answer::parse(b"\xff\x15\x04#28000no").unwrap_err(), LinkError::Server(_)));
        for nonsense in [&b"\xfb/etc/passwd"[..], b"", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff", b"\xfc\x00"] {
            assert!(matches!(Answer::parse(nonsense).unwrap_err(), LinkError::Unlike(_)), "{nonsense:?}");
        }
    }

    #[test]
    fn rows_are_read_whole_or_not_at_all() {
        let bytes = b"\x02on\xfb\x00";
        assert_eq!(row(Wire::new(bytes), 3).unwrap(), [Some("on".into()), None, Some(String::new())]);
        for cut in 0..bytes.len() {
            row(Wire::new(&bytes[..cut]), 3).unwrap_err();
        }
        row(Wire::new(bytes), 2).unwrap_err();
        row(Wire::new(b"\x01\xff"), 1).unwrap_err();
    }
}
