//! Packets, joined in one buffer that is used again and again.
//!
//! # Format
//!
//! ```text
//!  0        3          4
//!  +--------+----------+----------+
//!  | length | sequence | payload… |     length of 0xff_ffff: the next packet goes on
//!  +--------+----------+----------+
//! ```
//!
//! The sequence starts at 0 with each command of ours and counts packets of both sides, modulo 256. An error packet that a server sends
//! unasked, when it shuts down or has waited for too long, may be out of that order (MySQL 8.0.24 and newer, ER_CLIENT_INTERACTION_TIMEOUT).
//!
//! # Operation
//!
//! As much is read at once as has room; payloads are handed out where they lie. Where a payload goes on in another packet, the head between
//! the two is taken out, so that the joined payload is one slice. The buffer grows only when it is full of bytes that have arrived, never by
//! what a head announces, and shrinks again afterwards. A payload may also be taken piece by piece, which needs no more room than one piece.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::LinkError;

/// The buffer's usual size, and the most that is read at once, bytes. Smaller in tests, so that they meet its edges.
const CHUNK: usize = if cfg!(test) { 16 << 10 } else { 512 << 10 };

/// The longest payload of one packet, bytes.
pub(crate) const FULL: usize = if cfg!(test) { 0xffff } else { 0xff_ffff };

const HEAD: usize = 4;

/// An error packet's first byte.
const ERROR: u8 = 0xff;

/// Packets of one connection.
pub struct Packets<S> {
    stream: S,
    /// Initialised throughout; what has arrived and is not consumed lies at `start..filled`.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    sequence: u8,
    /// The payload that `start` lies in.
    payload: Option<Payload>,
    heard: Instant,
}

impl<S> std::fmt::Debug for Packets<S> {
    /// Without the bytes, which are rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Packets { start, filled, sequence, payload, .. } = self;
        f.debug_struct("Packets")
            .field("at_hand", &(start..filled))
            .field("sequence", sequence)
            .field("payload", payload)
            .finish_non_exhaustive()
    }
}

/// A payload of which at least one head has come.
#[derive(Clone, Copy, Debug)]
struct Payload {
    /// Where in the buffer the part ends that heads have announced.
    end: usize,
    /// No other packet goes on with it.
    last: bool,
    /// Length of all of it that heads have announced, consumed parts included.
    announced: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Packets<S> {
    #[must_use]
    pub fn new(stream: S) -> Packets<S> {
        Packets::going_on(stream, 0)
    }

    /// Over a stream on which the next packet has this sequence number.
    #[must_use]
    pub fn going_on(stream: S, sequence: u8) -> Packets<S> {
        let buffer = vec![0; CHUNK];
        Packets { stream, buffer, start: 0, filled: 0, sequence, payload: None, heard: Instant::now() }
    }

    /// The stream and the next sequence number, for another layer to be put between.
    ///
    /// # Errors
    /// More has come than was read: it would be taken for what the other layer protects.
    pub fn into_stream(self) -> Result<(S, u8), LinkError> {
        if self.filled > self.start || self.payload.is_some() {
            return Err(LinkError::Unlike("it speaks out of turn"));
        }
        Ok((self.stream, self.sequence))
    }

    #[must_use]
    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// When bytes last arrived.
    #[must_use]
    pub fn heard(&self) -> Instant {
        self.heard
    }

    /// Sends a command.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn command(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        self.sequence = 0;
        self.send(payload).await
    }

    /// Sends what goes on with what was received.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        let mut rest = payload;
        loop {
            let (part, after) = rest.split_at(rest.len().min(FULL));
            let [a, b, c, ..] = (part.len() as u32).to_le_bytes();
            let mut packet = vec![a, b, c, self.sequence];
            packet.extend_from_slice(part);
            self.sequence = self.sequence.wrapping_add(1);
            self.stream.write_all(&packet).await?;
            rest = after;
            if part.len() < FULL {
                break;
            }
        }
        Ok(self.stream.flush().await?)
    }

    /// The next payload, of at most `limit` bytes.
    ///
    /// # Errors
    /// It is longer, or the connection is gone.
    pub async fn receive(&mut self, limit: usize) -> Result<Vec<u8>, LinkError> {
        std::future::poll_fn(|context| self.poll_whole(context, limit)).await?;
        let payload = self.at_hand().to_vec();
        self.end_payload();
        Ok(payload)
    }

    /// Waits until all of the payload is at hand.
    ///
    /// # Errors
    /// It is longer than `limit`, or the connection is gone.
    pub fn poll_whole(&mut self, context: &mut Context<'_>, limit: usize) -> Poll<Result<(), LinkError>> {
        loop {
            self.join()?;
            if self.announced() > limit {
                return Poll::Ready(Err(LinkError::Unlike("a packet is longer than it may be")));
            }
            if self.is_whole() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_read(context))?;
        }
    }

    /// Waits until at least `wanted` bytes of the payload are at hand, or all that is left of it.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn poll_some(&mut self, context: &mut Context<'_>, wanted: usize) -> Poll<Result<(), LinkError>> {
        loop {
            self.join()?;
            if self.payload.is_some() && (self.at_hand().len() >= wanted || self.is_whole()) {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_read(context))?;
        }
    }

    /// What has come of the payload and is not consumed.
    #[inline]
    #[must_use]
    pub fn at_hand(&self) -> &[u8] {
        let end = self.payload.map_or(self.start, |payload| payload.end.min(self.filled));
        self.buffer.get(self.start..end).unwrap_or_default()
    }

    /// Length of the payload as far as heads have announced it, consumed parts included.
    #[inline]
    #[must_use]
    pub fn announced(&self) -> usize {
        self.payload.map_or(0, |payload| payload.announced)
    }

    /// Nothing of the payload is still to be announced.
    #[inline]
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.payload.is_some_and(|payload| payload.last)
    }

    /// Nothing of the payload is still to come.
    #[inline]
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.payload.is_some_and(|payload| payload.last && payload.end <= self.filled)
    }

    /// Gives up the payload's first `bytes`, which are at hand.
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes.min(self.at_hand().len());
    }

    /// Gives up all of the payload, which is whole.
    #[inline]
    pub fn end_payload(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.start = payload.end.min(self.filled);
        }
    }

    /// Reads heads as far as they have come, and takes those out that stand inside a payload.
    #[inline]
    fn join(&mut self) -> Result<(), LinkError> {
        loop {
            let at = match &self.payload {
                None => self.start,
                Some(payload) if payload.last => return Ok(()),
                Some(payload) => payload.end,
            };
            // The last index is exclusive: all of the head has come.
            let head = self.buffer.get(at..self.filled).and_then(<[u8]>::first_chunk::<HEAD>);
            let Some(&[a, b, c, sequence]) = head else { return Ok(()) };
            if sequence != self.sequence {
                // A server that says why it hangs up counts from 0, or from where it was: its words are worth more than their number.
                match (self.payload, self.buffer.get(at + HEAD..self.filled).and_then(<[u8]>::first)) {
                    (None, None) if [a, b, c] != [0; 3] => return Ok(()),
                    (None, Some(&ERROR)) if [a, b, c] != [0; 3] => self.sequence = sequence,
                    _ => return Err(LinkError::Unlike("a packet is out of order")),
                }
            }
            self.sequence = self.sequence.wrapping_add(1);
            let length = u32::from_le_bytes([a, b, c, 0]) as usize;
            let last = length < FULL;
            match &mut self.payload {
                None => {
                    self.start = at + HEAD;
                    self.payload = Some(Payload { end: self.start + length, last, announced: length });
                }
                Some(payload) => {
                    self.buffer.copy_within(at + HEAD..self.filled, at);
                    self.filled -= HEAD;
                    payload.end += length;
                    payload.last = last;
                    payload.announced = payload.announced.saturating_add(length);
                }
            }
        }
    }

    /// Reads once, as much as there is room for.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.make_room()?;
        let mut room = ReadBuf::new(self.buffer.get_mut(self.filled..).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut room))?;
        let read = room.filled().len();
        if read == 0 {
            let ended = io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection");
            return Poll::Ready(Err(ended.into()));
        }
        self.filled += read;
        self.heard = Instant::now();
        Poll::Ready(Ok(()))
    }

    fn make_room(&mut self) -> Result<(), LinkError> {
        let waiting = self.filled - self.start;
        let room = self.buffer.len() - self.filled;
        let end = self.payload.map_or(self.start, |payload| payload.end) - self.start;
        let shrinks = self.buffer.len() > CHUNK && waiting < CHUNK / 2 && end < CHUNK;
        if self.start > 0 && (room < CHUNK / 2 || room < waiting || shrinks) {
            self.buffer.copy_within(self.start..self.filled, 0);
            if let Some(payload) = &mut self.payload {
                payload.end -= self.start;
            }
            (self.start, self.filled) = (0, waiting);
        }
        if shrinks {
            self.buffer.truncate(CHUNK);
            self.buffer.shrink_to_fit();
        }
        if self.filled == self.buffer.len() {
            let more = self.buffer.len();
            self.buffer.try_reserve_exact(more).map_err(|_| {
                LinkError::Io(io::Error::new(io::ErrorKind::OutOfMemory, "no memory for a large event"))
            })?;
            self.buffer.resize(more * 2, 0);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "packets_tests.rs"]
mod tests;
