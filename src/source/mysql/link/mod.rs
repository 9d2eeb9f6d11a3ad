//! The connection to a server: packets, TLS, login, questions.
//!
//! # Constraints
//!
//! The server may be hostile. Each length is compared with a constant and with what is there before memory is taken for it, no parser here
//! panics, and every wait is under a deadline (a caller's: [`Link::connect`] and [`Link::ask`] as a whole, the stream by its patience). The
//! password leaves this machine only under TLS or as a scramble, never as it is; a local file is never given.
//!
//! # Format
//!
//! MySQL's client/server protocol, version 10 ([`packets`]: framing; [`login`]: the handshake). What we send is built by `mysql_common`;
//! what the server sends is read by [`Wire`], since not all of that crate's parsers survive bytes that are cut short.
//!
//! # Operation
//!
//! One connection asks and then becomes the stream: what was checked and what is streamed are the same server, behind whatever proxy. This
//! is why questions do not go through `mysql_async` (whose *skip_domain_validation*, besides, looks for a name of an error that rustls
//! no longer prints, so that `verify_ca` could not be had from it: 0.37.1, *DangerousVerifier*).
//!
//! | file | idea |
//! |---|---|
//! | [`transport`] | TCP, a socket, TLS over TCP |
//! | [`tls`] | whose certificates are good |
//! | [`packets`] | one buffer, packets joined in it |
//! | [`login`] | handshake and passwords |
//! | [`answer`] | OK, errors, rows as text |
//! | [`prepared`] | rows in the binary protocol, one by one |
//! | [`error`] | what can go wrong |

pub mod answer;
pub mod error;
pub mod login;
pub mod packets;
pub mod prepared;
pub mod tls;
pub mod transport;

pub use error::{LinkError, ServerSaid, shown};

use std::io;
use std::ops::{Deref, DerefMut};

use super::options::MysqlOptions;
use super::wire::Wire;
use answer::Answer;
use packets::Packets;
use transport::Transport;

/// Largest packet of an answer, bytes: a GTID set of half a million intervals fits.
const ANSWER_PACKET: usize = 16 << 20;

/// Largest answer, bytes: the names of a million tables fit.
const ANSWER_BYTES: usize = 256 << 20;

/// One row of an answer; `None` is NULL.
pub type Row = Vec<Option<String>>;

/// Packets of a connection that is logged in. The server is told when it ends: what merely breaks off it counts and logs as aborted.
#[derive(Debug)]
pub struct Served(Packets<Transport>);

impl Deref for Served {
    type Target = Packets<Transport>;

    #[inline]
    fn deref(&self) -> &Packets<Transport> {
        &self.0
    }
}

impl DerefMut for Served {
    #[inline]
    fn deref_mut(&mut self) -> &mut Packets<Transport> {
        &mut self.0
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        const COM_QUIT: u8 = 1;
        self.0.stream_mut().say(&[1, 0, 0, 0, COM_QUIT]);
    }
}

/// A connection after its login.
#[derive(Debug)]
pub struct Link {
    packets: Served,
    /// The rest of an answer is still to come.
    answering: bool,
    /// The packet at hand is a row that was handed out.
    held: bool,
}

impl Link {
    /// Connects and logs in.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn connect(options: &MysqlOptions) -> Result<Link, LinkError> {
        let password = options.current_password().map_err(|problem| LinkError::PasswordFile {
            path: options.password_file.clone().unwrap_or_default(),
            problem,
        })?;
        let transport = Transport::connect(&options.address).await?;
        let packets = login::login(transport, options, &password).await?;
        Ok(Link { packets: Served(packets), answering: false, held: false })
    }

    /// The rows that a statement answers with, none where it answers OK.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn ask(&mut self, sql: &str) -> Result<Vec<Row>, LinkError> {
        Ok(self.ask_named(sql).await?.1)
    }

    /// The names of an answer's columns, and its rows.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn ask_named(&mut self, sql: &str) -> Result<(Vec<String>, Vec<Row>), LinkError> {
        const COM_QUERY: u8 = 3;
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(sql.as_bytes());
        self.command(&command).await?;
        let columns = match self.answer().await? {
            Answer::Ok => return Ok((Vec::new(), Vec::new())),
            Answer::Columns(columns) => columns,
        };
        let mut names = Vec::with_capacity(columns);
        for _ in 0..columns {
            let packet = self.packets.receive(ANSWER_PACKET).await?;
            answer::refuse_error(&packet)?;
            names.push(answer::column_name(&packet)?);
        }
        if !answer::is_end(&self.packets.receive(ANSWER_PACKET).await?) {
            return Err(LinkError::Unlike("its list of columns has no end"));
        }
        let (mut rows, mut bytes) = (Vec::new(), 0);
        loop {
            let packet = self.packets.receive(ANSWER_PACKET).await?;
            answer::refuse_error(&packet)?;
            if answer::is_end(&packet) {
                return Ok((names, rows));
            }
            bytes += packet.len() + columns * size_of::<Option<String>>() + size_of::<Row>();
            if bytes > ANSWER_BYTES {
                return Err(LinkError::Unlike("its answer has no end"));
            }
            rows.push(answer::row(Wire::new(&packet), columns)?);
        }
    }

    /// A command that is answered by OK.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn tell(&mut self, command: &[u8]) -> Result<(), LinkError> {
        self.command(command).await?;
        match self.answer().await? {
            Answer::Ok => Ok(()),
            Answer::Columns(_) => Err(LinkError::Unlike("it answers with rows where OK was due")),
        }
    }

    /// A command whose answer is a stream.
    ///
    /// # Errors
    /// It cannot be sent.
    pub async fn into_stream(mut self, command: &[u8]) -> Result<Served, LinkError> {
        self.command(command).await?;
        self.packets.stream_mut().end_abruptly();
        Ok(self.packets)
    }

    async fn command(&mut self, command: &[u8]) -> Result<(), LinkError> {
        if self.answering {
            let error =
                io::Error::new(io::ErrorKind::InvalidInput, "its last answer was not read to its end");
            return Err(error.into());
        }
        self.packets.command(command).await
    }

    async fn answer(&mut self) -> Result<Answer, LinkError> {
        Answer::parse(&self.packets.receive(ANSWER_PACKET).await?)
    }
}
