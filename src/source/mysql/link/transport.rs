//! The bytes' way: TCP, a socket of this machine, or TLS over TCP.

use std::io::{self, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::super::options::Address;

/// An open connection.
#[derive(Debug)]
pub enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(address: &Address) -> io::Result<Transport> {
        match address {
            Address::Tcp { host, port } => {
                let stream = TcpStream::connect((address_literal(host), *port)).await?;
                stream.set_nodelay(true)?;
                Ok(Transport::Tcp(stream))
            }
            Address::Socket(path) => Ok(Transport::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Hands over a few bytes if they can be taken at once, and does not ask what becomes of them.
    pub fn say(&mut self, bytes: &[u8]) {
        let _ = match self {
            Transport::Tcp(stream) => stream.try_write(bytes),
            Transport::Unix(stream) => stream.try_write(bytes),
            Transport::Tls(stream) => {
                let (stream, session) = stream.get_mut();
                let said = session.writer().write(bytes);
                session.send_close_notify();
                said.and_then(|_| session.write_tls(&mut AtOnce(stream)))
            }
        };
    }

    /// However it is closed, by a kill too, the other side learns of it with the first byte that it sends. A server that streams writes to who is
    /// gone once more otherwise, and has nothing but a heartbeat to write when nothing is changed.
    pub fn end_abruptly(&self) {
        let _ = match self {
            Transport::Tcp(stream) => stream.set_zero_linger(),
            Transport::Tls(stream) => stream.get_ref().0.set_zero_linger(),
            Transport::Unix(_) => Ok(()),
        };
    }

    /// Nobody outside this machine can read what is sent, unless TLS was asked for without a look at the certificate.
    #[must_use]
    pub fn is_private(&self) -> bool {
        !matches!(self, Transport::Tcp(_))
    }
}

/// Takes what the socket takes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl io::Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A host as the resolver and TLS want it: an IPv6 address without its brackets.
#[must_use]
pub fn address_literal(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_read(context, into),
            Transport::Unix(stream) => Pin::new(stream).poll_read(context, into),
            Transport::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Transport::Unix(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Transport::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
