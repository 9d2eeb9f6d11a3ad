//! What can go wrong on a connection, before anybody says what was being done.

use std::fmt;
use std::path::PathBuf;

use super::super::wire::{Short, Wire};

/// Bytes of a server's text that are shown.
const MESSAGE_SHOWN: usize = 1_000;

/// An error of a connection.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection, or no longer. An error of TLS is inside.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The server's own words.
    #[error("{0}")]
    Server(#[from] ServerSaid),
    /// Bytes that the protocol does not know.
    #[error("the server does not keep to MySQL's protocol: {0}")]
    Unlike(&'static str),
    #[error("the server offers no TLS")]
    NoTls,
    #[error("the server asks for a login by {0:?}, which is not supported")]
    Plugin(String),
    #[error("the server asks for the password as it is, which is never sent")]
    Cleartext,
    #[error(
        "the server asks for the password itself, and by TCP without TLS nothing shows that it is the server that holds this port"
    )]
    Unproven,
    #[error("{path:?}: {problem}")]
    CertificateFile { path: PathBuf, problem: String },
    #[error("the password's file {path:?}: {problem}")]
    PasswordFile { path: PathBuf, problem: std::io::Error },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    #[error("an event is larger than 1 GiB")]
    TooLarge,
    #[error("a row takes more than {limit} bytes")]
    LongRow { limit: usize },
    #[error("a transaction payload is compressed in a way that is not known")]
    Compression,
    #[error("a transaction payload takes {bytes} bytes when inflated, and {limit} are accepted")]
    Inflated { bytes: u64, limit: u64 },
}

impl From<Short> for LinkError {
    fn from(Short: Short) -> LinkError {
        LinkError::Unlike("a packet ends early")
    }
}

impl LinkError {
    /// The error of TLS, if it is one.
    #[must_use]
    pub fn tls(&self) -> Option<&rustls::Error> {
        match self {
            LinkError::Tls(error) => Some(error),
            LinkError::Io(error) => error.get_ref()?.downcast_ref(),
            _ => None,
        }
    }
}

/// An error packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSaid {
    pub code: u16,
    pub message: String,
}

impl std::error::Error for ServerSaid {}

impl fmt::Display for ServerSaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.code, self.message)
    }
}

impl ServerSaid {
    /// `packet`: from 0xff on. Before the login it has no SQL state.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(packet: &[u8]) -> Result<ServerSaid, Short> {
        let mut wire = Wire::new(packet);
        wire.u8()?;
        let code = wire.u16()?;
        let mut message = wire.rest();
        if let [b'#', _, _, _, _, _, rest @ ..] = message {
            message = rest;
        }
        Ok(ServerSaid { code, message: shown(message) })
    }
}

/// A server's text as it may stand in log lines: cut, its control characters escaped.
#[must_use]
pub fn shown(text: &[u8]) -> String {
    let cut = text.get(..MESSAGE_SHOWN).unwrap_or(text);
    let cut = String::from_utf8_lossy(cut);
    let mut shown = String::with_capacity(cut.len());
    for c in cut.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_packet_has_a_state_only_after_the_login() {
        let late = ServerSaid::parse(b"\xff\x15\x04#28000Access denied\x1b[2J").unwrap();
        assert_eq!((late.code, late.message.as_str()), (1045, "Access denied\\u{1b}[2J"));
        let early = ServerSaid::parse(b"\xff\x10\x04Too many connections").unwrap();
        assert_eq!((early.code, early.message.as_str()), (1040, "Too many connections"));
        assert!(ServerSaid::parse(b"\xff\x10").is_err());
    }
}
