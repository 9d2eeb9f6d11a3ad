//! An event that is not held whole: taken from its packet piece by piece, its checksum compared at the end.

use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::event::CHECKSUM;
use super::link::LinkError;
use super::link::packets::Packets;

/// What is left of an event.
#[derive(Debug)]
pub struct Drawn {
    /// Bytes before the checksum.
    left: usize,
    /// The checksum of what was taken; none where the event carries none.
    checksum: Option<crc32fast::Hasher>,
}

impl Drawn {
    /// `left`: bytes of the event that are still in the packet, the checksum aside; `checksum`: of those before.
    #[must_use]
    pub fn new(left: usize, checksum: Option<crc32fast::Hasher>) -> Drawn {
        Drawn { left, checksum }
    }

    /// Bytes that are still to be taken.
    #[must_use]
    pub fn left(&self) -> usize {
        self.left
    }

    /// The next bytes, at least one unless none is left.
    ///
    /// # Errors
    /// The packet ends before the event, or the connection is gone.
    pub fn poll_piece<'p, S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        packets: &'p mut Packets<S>,
        context: &mut Context<'_>,
    ) -> Poll<Result<&'p [u8], LinkError>> {
        if self.left == 0 {
            return Poll::Ready(Ok(&[]));
        }
        ready!(packets.poll_some(context, 1))?;
        let piece = packets.at_hand();
        let piece = piece.get(..self.left).unwrap_or(piece);
        if piece.is_empty() {
            return Poll::Ready(Err(LinkError::Unlike("a packet is shorter than its event")));
        }
        Poll::Ready(Ok(piece))
    }

    /// Takes bytes that [`Drawn::poll_piece`] showed.
    pub fn take<S: AsyncRead + AsyncWrite + Unpin>(&mut self, packets: &mut Packets<S>, bytes: usize) {
        if let (Some(checksum), Some(taken)) = (&mut self.checksum, packets.at_hand().get(..bytes)) {
            checksum.update(taken);
        }
        packets.consume(bytes);
        self.left -= bytes;
    }

    /// Sees that nothing is left but a checksum that matches, and gives up the packet.
    ///
    /// # Errors
    /// It is otherwise, or the connection is gone.
    pub fn poll_end<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        packets: &mut Packets<S>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), LinkError>> {
        ready!(packets.poll_some(context, CHECKSUM + 1))?;
        let sum = self.checksum.as_ref().map(|checksum| checksum.clone().finalize().to_le_bytes());
        let expected = sum.as_ref().map_or(&[][..], |sum| sum.as_slice());
        let rest = packets.at_hand();
        if !packets.is_whole() || rest.len() != expected.len() {
            return Poll::Ready(Err(LinkError::Unlike("a packet and its event are not of one length")));
        }
        if rest != expected {
            return Poll::Ready(Err(LinkError::Unlike("the checksum of an event does not match")));
        }
        packets.end_payload();
        Poll::Ready(Ok(()))
    }
}
