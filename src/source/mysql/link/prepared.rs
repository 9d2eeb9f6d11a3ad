//! Prepared statements: rows in the binary protocol, handed out one by one where they lie in the packet buffer.
//!
//! # Constraints
//!
//! Memory is bounded by one row, for which the reader names a limit, and by the columns' descriptions. Statements have no parameters: what they
//! ask for is spelt in them.
//!
//! # Format
//!
//! COM_STMT_PREPARE is answered by the statement's number and the number of its columns, then the columns' definitions. COM_STMT_EXECUTE is
//! answered by the number of columns, their definitions, and rows: a zero, a bitmap of nulls whose first two bits are unused, and the values that are not
//! null (MySQL, *Protocol_binary*, sql/protocol_classic.cc). COM_STMT_CLOSE has no answer.

use super::super::wire::{Short, Wire};
use super::answer::{is_end, refuse_error};
use super::{ANSWER_PACKET, Link, LinkError};
use crate::event::schema::MAX_COLUMNS;

/// A statement that the server knows by number.
#[derive(Debug)]
pub struct Prepared {
    id: u32,
    columns: usize,
}

/// What a server says of one column of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// The collation of its text.
    pub collation: u16,
    /// MySQL's *enum_field_types*.
    pub kind: u8,
    pub flags: u16,
    pub decimals: u8,
}

impl Definition {
    /// `packet`: a column's definition.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(packet: &[u8]) -> Result<Definition, Short> {
        let mut wire = Wire::new(packet);
        // Catalog, schema, table and column, the latter two also as the server names them itself.
        for _ in 0..6 {
            wire.string()?;
        }
        wire.length()?;
        let collation = wire.u16()?;
        wire.u32()?;
        Ok(Definition { collation, kind: wire.u8()?, flags: wire.u16()?, decimals: wire.u8()? })
    }
}

/// What a packet after the definitions is.
enum Next {
    Row,
    End,
    Error,
}

impl Link {
    /// Has the server make a plan for `sql`, which has no parameters.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn prepare(&mut self, sql: &str) -> Result<Prepared, LinkError> {
        const COM_STMT_PREPARE: u8 = 0x16;
        let mut command = vec![COM_STMT_PREPARE];
        command.extend_from_slice(sql.as_bytes());
        self.command(&command).await?;
        let packet = self.packets.receive(ANSWER_PACKET).await?;
        refuse_error(&packet)?;
        let mut wire = Wire::new(&packet);
        if wire.u8()? != 0 {
            return Err(LinkError::Unlike("it answers otherwise where a statement was prepared"));
        }
        let id = wire.u32()?;
        let (columns, parameters) = (usize::from(wire.u16()?), wire.u16()?);
        if parameters != 0 || columns == 0 || columns > MAX_COLUMNS {
            return Err(LinkError::Unlike("it takes a statement for another one"));
        }
        self.definitions(columns).await?;
        Ok(Prepared { id, columns })
    }

    /// Carries out a statement; its rows come next, and only with the last one does the connection answer anything else. Returns what the
    /// server says of each column that was asked for, in that order.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn execute(&mut self, statement: &Prepared) -> Result<Vec<Definition>, LinkError> {
        const COM_STMT_EXECUTE: u8 = 0x17;
        const NO_CURSOR: u8 = 0;
        let mut command = vec![COM_STMT_EXECUTE];
        command.extend_from_slice(&statement.id.to_le_bytes());
        command.push(NO_CURSOR);
        command.extend_from_slice(&1_u32.to_le_bytes());
        self.command(&command).await?;
        let packet = self.packets.receive(ANSWER_PACKET).await?;
        refuse_error(&packet)?;
        // The same as when it was prepared: the server prepares anew where a table has changed, but its columns were asked for by name.
        if Wire::new(&packet).length()? != statement.columns as u64 {
            return Err(LinkError::Unlike("an answer has other columns than its statement"));
        }
        let definitions = self.definitions(statement.columns).await?;
        self.answering = true;
        Ok(definitions)
    }

    /// The next row, from its bitmap of nulls on; none behind the last one. It stays at hand until the next is asked for.
    ///
    /// # Errors
    /// It is longer than `limit` bytes, or the connection is gone.
    pub async fn next_row(&mut self, limit: usize) -> Result<Option<&[u8]>, LinkError> {
        let Link { packets, answering, held } = self;
        if std::mem::take(held) {
            packets.end_payload();
        }
        if !*answering {
            return Ok(None);
        }
        std::future::poll_fn(|context| packets.poll_whole(context, limit)).await.map_err(|error| {
            if packets.announced() > limit { LinkError::LongRow { limit } } else { error }
        })?;
        let next = match packets.at_hand() {
            [0, ..] => Next::Row,
            [0xff, ..] => Next::Error,
            packet if is_end(packet) => Next::End,
            _ => return Err(LinkError::Unlike("a row is none")),
        };
        match next {
            Next::Row => {
                *held = true;
                Ok(packets.at_hand().get(1..))
            }
            Next::Error => {
                *answering = false;
                let refused = refuse_error(packets.at_hand());
                packets.end_payload();
                refused.map(|()| None)
            }
            Next::End => {
                *answering = false;
                packets.end_payload();
                Ok(None)
            }
        }
    }

    /// Has the server forget a statement.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn close(&mut self, statement: Prepared) -> Result<(), LinkError> {
        const COM_STMT_CLOSE: u8 = 0x19;
        let mut command = vec![COM_STMT_CLOSE];
        command.extend_from_slice(&statement.id.to_le_bytes());
        self.command(&command).await
    }

    async fn definitions(&mut self, columns: usize) -> Result<Vec<Definition>, LinkError> {
        let mut definitions = Vec::with_capacity(columns);
        for _ in 0..columns {
            let packet = self.packets.receive(ANSWER_PACKET).await?;
            refuse_error(&packet)?;
            definitions.push(Definition::parse(&packet)?);
        }
        if !is_end(&self.packets.receive(ANSWER_PACKET).await?) {
            return Err(LinkError::Unlike("its list of columns has no end"));
        }
        Ok(definitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_that_is_cut_is_none() {
        let packet = b"\x03def\x01s\x01t\x01t\x01c\x01c\x0c\x3f\x00\x0b\x00\x00\x00\x03\x03\x02\x00\x00\x00";
        let definition = Definition { collation: 63, kind: 3, flags: 0x203, decimals: 0 };
        assert_eq!(Definition::parse(packet).unwrap(), definition);
        for cut in 0..packet.len() - 2 {
            assert_eq!(Definition::parse(&packet[..cut]), Err(Short), "{cut}");
        }
    }
}
