//! Frames of one segment file, one after the other, in big reads.

use std::io;
use std::sync::Arc;

use super::frame::{Head, Problem};
use super::record::{HEADER, Kind};
use crate::disk::DiskFile;
use crate::event::Seq;

/// What is read at once, bytes; small in unit tests, so that frames cross its edges.
const CHUNK: usize = if cfg!(test) { 128 } else { 1 << 20 };

/// Why there is no next frame.
#[derive(Debug)]
pub enum ScanError {
    Io(io::Error),
    Bad(Problem),
}

/// A checked frame; its payload is in the [`Scanner`] until the next one is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Scanned {
    pub seq: Seq,
    pub kind: Kind,
    /// Where the frame begins in the file, bytes.
    pub offset: u64,
}

/// Reads one segment file frame by frame up to a limit that may rise.
pub struct Scanner<F> {
    file: Arc<F>,
    salt: u32,
    /// The next frame's number.
    next: Seq,
    /// The next frame's place in the file, bytes; `buffer[start]` if it is there already.
    offset: u64,
    limit: u64,
    buffer: Vec<u8>,
    /// What of `buffer` is read and not yet handed out.
    start: usize,
    filled: usize,
    payload: std::ops::Range<usize>,
}

impl<F: DiskFile> Scanner<F> {
    /// Begins with frame `next` at `offset`; reads no byte at or above `limit`.
    pub fn new(file: Arc<F>, salt: u32, next: Seq, offset: u64, limit: u64) -> Scanner<F> {
        Scanner { file, salt, next, offset, limit, buffer: Vec::new(), start: 0, filled: 0, payload: 0..0 }
    }

    /// Goes on in another file with the same buffer.
    pub fn change_file(&mut self, file: Arc<F>, salt: u32, next: Seq, offset: u64, limit: u64) {
        let buffer = std::mem::take(&mut self.buffer);
        *self = Scanner { buffer, ..Scanner::new(file, salt, next, offset, limit) };
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// `limit`: no lower than the present one, and a frame's end.
    pub fn raise_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// The number that the next frame must have.
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// Where the next frame begins or should begin, bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Goes on with the frame `next`, which begins at `offset`.
    pub fn skip_to(&mut self, next: Seq, offset: u64) {
        let ahead = offset.checked_sub(self.offset).and_then(|ahead| usize::try_from(ahead).ok());
        match ahead.filter(|ahead| *ahead <= self.filled - self.start) {
            Some(ahead) => self.start += ahead,
            None => (self.start, self.filled) = (0, 0),
        }
        (self.next, self.offset, self.payload) = (next, offset, 0..0);
    }

    /// Moves to the next frame; `None` at the limit. After an error the same frame is tried again.
    ///
    /// # Errors
    /// The file cannot be read, or the bytes below the limit are no frame.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<Scanned>, ScanError> {
        if self.offset == self.limit {
            return Ok(None);
        }
        self.fill(HEADER)?;
        let head = Head::read(&self.buffer[self.start..self.filled]);
        let length = head.frame_bytes().map_err(ScanError::Bad)?;
        self.fill(length)?;
        let frame = &self.buffer[self.start..self.start + length];
        let kind = head.check(frame, self.next, self.salt).map_err(ScanError::Bad)?;
        let scanned = Scanned { seq: self.next, kind, offset: self.offset };
        self.payload = self.start + HEADER..self.start + length;
        self.start += length;
        self.offset += length as u64;
        self.next = self.next.next();
        Ok(Some(scanned))
    }

    /// The payload of the frame that [`Scanner::advance`] came to last.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.buffer[self.payload.clone()]
    }

    /// Has `bytes` of the next frame in the buffer.
    #[inline]
    fn fill(&mut self, bytes: usize) -> Result<(), ScanError> {
        if self.filled - self.start >= bytes { Ok(()) } else { self.read(bytes) }
    }

    fn read(&mut self, bytes: usize) -> Result<(), ScanError> {
        // Checked before the buffer grows: no length makes it larger than what the file holds.
        if self.offset.checked_add(bytes as u64).is_none_or(|end| end > self.limit) {
            return Err(ScanError::Bad(Problem::Short));
        }
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        (self.start, self.payload) = (0, 0..0);
        let size = bytes.max(CHUNK);
        if self.buffer.len() != size {
            // One large row is no reason to keep its memory.
            self.buffer.resize(size.max(self.filled), 0);
            self.buffer.shrink_to(size);
        }
        let from = self.offset + self.filled as u64;
        let room = (self.buffer.len() - self.filled) as u64;
        let upto = self.filled + usize::try_from(room.min(self.limit - from)).unwrap_or(0);
        let read = self.file.read_at(&mut self.buffer[self.filled..upto], from);
        self.filled += read.map_err(ScanError::Io)?;
        if self.filled < bytes { Err(ScanError::Bad(Problem::Short)) } else { Ok(()) }
    }
}
