//! Transaction payloads: the events of one transaction, compressed into one event.
//!
//! # Constraints
//!
//! A payload takes as much memory as its largest event and zstd's window, however large it is: it is inflated as its bytes arrive, and its
//! events are handed out as they become whole. The declared length is compared and never trusted. The last event, which is what makes the
//! transaction count, is handed out only when the payload has ended as declared and its checksum was compared: what is wrong with it shows
//! before anything of it is visible.
//!
//! # Format
//!
//! Fields, then the compressed bytes up to the event's end. A field is its type, its length and its value, each a length-encoded integer: 2 how it is
//! compressed (0 zstd, 255 not at all), 3 the length when inflated, 1 the length of the compressed bytes; 0 (which stands alone)
//! ends the fields. Others are passed over, as the server does (MySQL, *Transaction_payload_event*, libs/mysql/binlog/event).

use std::ops::Range;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

use super::drawn::Drawn;
use super::event::{HEAD, Head, KEPT};
use super::link::LinkError;
use super::link::packets::Packets;
use super::wire::{Short, Wire};

/// Bytes within which the fields must end; those that are known take 34.
pub const FIELDS: usize = 256;

/// The most that a payload may be when inflated. Memory does not depend on it: a bomb costs time alone, and this bounds it.
const MOST_INFLATED: u64 = 64 << 30;

/// zstd's own limit (128 MiB), and what level 22, MySQL's highest, uses. The server's usual level 3 takes 2 MiB.
const WINDOW_LOG: u32 = 27;

/// Inflated at once, bytes.
const PIECE: usize = 128 << 10;

/// Pieces inflated without an event before others get their turn.
const PIECES: usize = 64;

/// Memory that is kept between payloads, bytes.
const USUAL: usize = 4 * PIECE;

/// A payload that may have had a large window, bytes when inflated.
const LARGE: u64 = 4 << 20;

/// The fields of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Bytes of the fields themselves.
    pub length: usize,
    compression: Compression,
    inflated: u64,
    /// Compressed bytes.
    pub size: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compression {
    Zstd,
    None,
}

impl Fields {
    /// `body`: the beginning of the event's body, [`FIELDS`] bytes of it where it is so long.
    ///
    /// # Errors
    /// It is not understood, or says more than is accepted.
    pub fn parse(body: &[u8]) -> Result<Fields, LinkError> {
        const UNLIKE: LinkError = LinkError::Unlike("a transaction payload has no end of its fields");
        let mut wire = Wire::new(body.get(..FIELDS).unwrap_or(body));
        let (mut compression, mut inflated, mut size) = (None, None, None);
        loop {
            let field = wire.length().map_err(|Short| UNLIKE)?;
            if field == 0 {
                break;
            }
            let mut value = Wire::new(wire.string().map_err(|Short| UNLIKE)?);
            match field {
                1 => size = Some(value.length()?),
                2 => compression = Some(value.length()?),
                3 => inflated = Some(value.length()?),
                _ => {}
            }
        }
        let length = body.len().min(FIELDS) - wire.len();
        let size = size.ok_or(LinkError::Unlike("a transaction payload does not say its length"))?;
        let (compression, inflated) = match (compression, inflated) {
            (Some(0), Some(inflated)) => (Compression::Zstd, inflated),
            (Some(255) | None, inflated) => (Compression::None, inflated.unwrap_or(size)),
            (Some(0), None) => {
                return Err(LinkError::Unlike("a transaction payload does not say its length"));
            }
            (Some(_), _) => return Err(LinkError::Compression),
        };
        if inflated > MOST_INFLATED {
            return Err(LinkError::Inflated { bytes: inflated, limit: MOST_INFLATED });
        }
        Ok(Fields { length, compression, inflated, size })
    }
}

/// An event of a payload; [`Inflater::bytes`] has it until the next is asked for.
#[derive(Clone, Debug)]
pub struct Inner {
    pub head: Head,
    pub bytes: Range<usize>,
    pub last: bool,
}

/// Memory for payloads, used again and again, and the one that is being read.
#[derive(Default)]
pub struct Inflater {
    zstd: Option<Decoder<'static>>,
    /// Initialised throughout; what is inflated and not handed out lies at `start..filled`.
    buffer: Vec<u8>,
    start: usize,
    filled: usize,
    /// Of the event at `start`, which is too large: bytes that are not kept and still to come.
    skip: Option<usize>,
    open: Option<Open>,
}

/// The payload that is being read.
#[derive(Debug)]
struct Open {
    drawn: Drawn,
    compression: Compression,
    /// Bytes when inflated, as declared, and how many of them are still to come.
    declared: u64,
    left: u64,
    /// zstd has nothing more to say of the bytes that it was given.
    at_frame_end: bool,
    /// All was read and the checksum compared.
    ended: bool,
    /// The largest event that is held whole, bytes.
    limit: usize,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Inflater {
    /// Begins a payload whose compressed bytes come next; an event larger than `limit` will be cut to [`KEPT`] bytes.
    ///
    /// # Errors
    /// No memory for zstd.
    pub fn begin(&mut self, fields: Fields, drawn: Drawn, limit: usize) -> Result<(), LinkError> {
        (self.start, self.filled, self.skip) = (0, 0, None);
        if fields.compression == Compression::Zstd {
            match &mut self.zstd {
                Some(zstd) => zstd.reinit()?,
                None => {
                    let mut zstd = Decoder::new()?;
                    zstd.set_parameter(DParameter::WindowLogMax(WINDOW_LOG))?;
                    self.zstd = Some(zstd);
                }
            }
        }
        self.open = Some(Open {
            drawn,
            compression: fields.compression,
            declared: fields.inflated,
            left: fields.inflated,
            at_frame_end: false,
            ended: false,
            limit,
        });
        Ok(())
    }

    /// A payload is being read.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// An event that was handed out.
    #[must_use]
    pub fn bytes(&self, inner: &Inner) -> &[u8] {
        self.buffer.get(inner.bytes.clone()).unwrap_or_default()
    }

    /// The payload's next event. The last one closes it.
    ///
    /// # Errors
    /// The payload is damaged, or the connection is gone.
    pub fn poll_event<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        packets: &mut Packets<S>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Inner, LinkError>> {
        for _ in 0..PIECES {
            if let Some(inner) = self.whole_event()? {
                return Poll::Ready(Ok(inner));
            }
            ready!(self.poll_more(packets, context))?;
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// The event at `start`, if all of it is there and it is known whether another one follows.
    fn whole_event(&mut self) -> Result<Option<Inner>, LinkError> {
        let Some(open) = &self.open else {
            return Err(LinkError::Unlike("a transaction payload goes on after its end"));
        };
        let ended = open.ended;
        let more = || match ended {
            true => Err(LinkError::Unlike("a transaction payload ends inside an event")),
            false => Ok(None),
        };
        let waiting = self.buffer.get(self.start..self.filled).unwrap_or_default();
        if waiting.len() < HEAD {
            return more();
        }
        let head = Head::parse(waiting)
            .map_err(|Short| LinkError::Unlike("an event of a transaction payload is too short"))?;
        let held = if head.size > open.limit { head.size.min(KEPT) } else { head.size };
        let Some(beyond) = waiting.len().checked_sub(held) else { return more() };
        if head.size > held {
            // Whatever came behind the part that is kept is the event's until so much has come.
            let skip = self.skip.get_or_insert(head.size - held);
            let dropped = beyond.min(*skip);
            *skip -= dropped;
            let skipping = *skip > 0;
            let end = self.start + held;
            self.buffer.copy_within(end + dropped..self.filled, end);
            self.filled -= dropped;
            if skipping {
                return more();
            }
        }
        let end = self.start + held;
        let last = self.filled == end;
        if last && !ended {
            return Ok(None);
        }
        let bytes = self.start..end;
        (self.start, self.skip) = (end, None);
        if last {
            self.close();
        }
        Ok(Some(Inner { head, bytes, last }))
    }

    /// The payload is through; a large one's window goes with it.
    fn close(&mut self) {
        if self.open.take().is_some_and(|open| open.declared > LARGE) {
            self.zstd = None;
        }
    }

    /// Gives up the last event of the last payload, and memory that only large events need.
    #[inline]
    pub fn give_back(&mut self) {
        if self.open.is_none() && self.buffer.len() > USUAL {
            (self.buffer, self.start, self.filled) = (Vec::new(), 0, 0);
        }
    }

    /// Inflates one piece, or sees that the payload has ended.
    fn poll_more<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        packets: &mut Packets<S>,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), LinkError>> {
        self.make_room()?;
        let Inflater { zstd, buffer, filled, open: Some(open), .. } = self else {
            return Poll::Ready(Err(LinkError::Unlike("a transaction payload goes on after its end")));
        };
        let input = ready!(open.drawn.poll_piece(packets, context))?;
        let room = buffer.get_mut(*filled..).unwrap_or_default();
        let (read, written) = match (open.compression, zstd) {
            (Compression::Zstd, Some(zstd)) => {
                let (mut from, mut to) = (InBuffer::around(input), OutBuffer::around(room));
                let hint = zstd
                    .run(&mut from, &mut to)
                    .map_err(|_| LinkError::Unlike("a transaction payload cannot be inflated"))?;
                if from.pos() > 0 || to.pos() > 0 {
                    open.at_frame_end = hint == 0;
                }
                (from.pos(), to.pos())
            }
            _ => {
                let length = input.len().min(room.len());
                if let (Some(to), Some(from)) = (room.get_mut(..length), input.get(..length)) {
                    to.copy_from_slice(from);
                }
                open.at_frame_end = true;
                (length, length)
            }
        };
        open.drawn.take(packets, read);
        *filled += written;
        open.left = (open.left.checked_sub(written as u64))
            .ok_or(LinkError::Unlike("a transaction payload is longer than it says"))?;
        if read == 0 && written == 0 {
            if open.drawn.left() > 0 || !open.at_frame_end || open.left > 0 {
                return Poll::Ready(Err(LinkError::Unlike("a transaction payload has no end")));
            }
            ready!(open.drawn.poll_end(packets, context))?;
            open.ended = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Room for at least one piece.
    fn make_room(&mut self) -> Result<(), LinkError> {
        if self.buffer.len() - self.filled >= PIECE {
            return Ok(());
        }
        let waiting = self.filled - self.start;
        self.buffer.copy_within(self.start..self.filled, 0);
        (self.start, self.filled) = (0, waiting);
        if self.buffer.len() > USUAL && waiting < PIECE {
            self.buffer.truncate(USUAL);
            self.buffer.shrink_to_fit();
        }
        if self.buffer.len() - self.filled < PIECE {
            let more = self.buffer.len().max(2 * PIECE);
            self.buffer.try_reserve_exact(more).map_err(|_| {
                LinkError::Io(std::io::Error::new(
                    std::io::ErrorKind::OutOfMemory,
                    "no memory for a large event",
                ))
            })?;
            self.buffer.resize(self.buffer.len() + more, 0);
        }
        Ok(())
    }
}
