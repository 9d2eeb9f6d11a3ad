//! What MariaDB compresses by zlib: events (*log_bin_compress*) and columns (*COMPRESSED*).
//!
//! # Constraints
//!
//! A length that is declared takes no memory: the buffer grows with what was inflated, at most to the limit that the caller gives. What is
//! not as long as it says, or goes on behind its end, is damaged.
//!
//! # Format
//!
//! ```text
//! of an event    1 000 0nnn   length (n bytes, the highest first)   zlib
//! of a column    1000 rnnn    length (n bytes, the highest first)   zlib, or deflate alone where r is set
//!                0000 0000    the value as it is
//! ```
//!
//! An event is compressed from its statement on, or from its first row image on; what stands before is as in any other. An empty column has
//! no byte at all. (MariaDB, *binlog_buf_compress*, sql/log_event.cc; *compress_zlib*, sql/field_comp.cc.)

use flate2::{Decompress, FlushDecompress, Status};

use super::wire::{Short, Wire, big_endian};

/// Inflated at once, bytes.
const PIECE: usize = 64 << 10;

/// Memory that is kept from one event to the next, bytes.
const KEPT: usize = 4 << 20;

/// Bytes that cannot be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inflating {
    /// They are not what they should be.
    Damaged,
    /// So many bytes would come of them, which is more than is taken.
    TooLong(usize),
}

impl From<Short> for Inflating {
    fn from(_: Short) -> Inflating {
        Inflating::Damaged
    }
}

/// Memory for inflating, used again and again.
#[derive(Default)]
pub struct Inflate {
    zlib: Option<Decompress>,
    deflate: Option<Decompress>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Inflate {
    /// Without the bytes, which are rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflate").field("held", &self.buffer.len()).finish_non_exhaustive()
    }
}

impl Inflate {
    /// A compressed rows event as one that is not. `rest`: what it has from the number of columns on; `bitmaps`: how many there are of the
    /// columns present; `limit`: the most that its row images may be, bytes.
    ///
    /// # Errors
    /// It is damaged, or too long.
    pub fn rows(
        &mut self,
        event: &[u8],
        mut rest: Wire<'_>,
        bitmaps: usize,
        limit: usize,
    ) -> Result<&[u8], Inflating> {
        let bitmap_bytes = rest.size()?.div_ceil(8);
        rest.take(bitmap_bytes.checked_mul(bitmaps).ok_or(Short)?)?;
        self.event(event, rest, limit)
    }

    /// A compressed QUERY event as one that is not. `body`: what it has behind its head; `limit`: the longest statement, bytes.
    ///
    /// # Errors
    /// It is damaged, or too long.
    pub fn query(&mut self, event: &[u8], body: &[u8], limit: usize) -> Result<&[u8], Inflating> {
        let mut rest = Wire::new(body);
        rest.take(8)?;
        let schema = usize::from(rest.u8()?);
        rest.u16()?;
        let status = usize::from(rest.u16()?);
        rest.take(status + schema + 1)?;
        self.event(event, rest, limit)
    }

    /// `event` up to where `rest`, its end, begins, and behind it what `rest` says when inflated.
    fn event(&mut self, event: &[u8], mut rest: Wire<'_>, limit: usize) -> Result<&[u8], Inflating> {
        let before =
            event.len().checked_sub(rest.len()).and_then(|before| event.get(..before)).ok_or(Short)?;
        let head = rest.u8()?;
        // One algorithm is known, and only such a length.
        if head & 0xf8 != 0x80 || !(1..=4).contains(&(head & 7)) {
            return Err(Inflating::Damaged);
        }
        let length = big_endian(rest.take(usize::from(head & 7))?) as usize;
        self.give_back();
        self.buffer.extend_from_slice(before);
        let zlib = self.zlib.get_or_insert_with(|| Decompress::new(true));
        append(zlib, true, rest.rest(), length, limit, &mut self.buffer)?;
        Ok(&self.buffer)
    }

    /// A column's value. `limit`: the longest, bytes.
    ///
    /// # Errors
    /// It is damaged, or too long.
    pub fn column<'a>(&'a mut self, raw: &'a [u8], limit: usize) -> Result<&'a [u8], Inflating> {
        let Some((head, rest)) = raw.split_first() else { return Ok(raw) };
        if *head == 0 {
            return Ok(rest);
        }
        if head & 0xf0 != 0x80 {
            return Err(Inflating::Damaged);
        }
        let mut rest = Wire::new(rest);
        let length = big_endian(rest.take(usize::from(head & 7))?) as usize;
        self.give_back();
        let (inflate, wrapped) = match head & 8 {
            0 => (self.zlib.get_or_insert_with(|| Decompress::new(true)), true),
            _ => (self.deflate.get_or_insert_with(|| Decompress::new(false)), false),
        };
        append(inflate, wrapped, rest.rest(), length, limit, &mut self.buffer)?;
        Ok(&self.buffer)
    }

    /// Empties the buffer; a large one goes.
    fn give_back(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT);
    }
}

/// Appends the `length` bytes that come of `from`.
fn append(
    inflate: &mut Decompress,
    wrapped: bool,
    from: &[u8],
    length: usize,
    limit: usize,
    to: &mut Vec<u8>,
) -> Result<(), Inflating> {
    if length > limit {
        return Err(Inflating::TooLong(length));
    }
    inflate.reset(wrapped);
    let (start, mut read) = (to.len(), 0);
    loop {
        let left = length - (to.len() - start);
        // One byte more than is declared: it must not come.
        to.reserve(left.min(PIECE) + 1);
        let (before_in, before_out) = (inflate.total_in(), to.len());
        let rest = from.get(read..).unwrap_or_default();
        let status =
            inflate.decompress_vec(rest, to, FlushDecompress::None).map_err(|_| Inflating::Damaged)?;
        let taken = (inflate.total_in() - before_in) as usize;
        read += taken;
        let written = to.len() - start;
        match status {
            _ if written > length => return Err(Inflating::Damaged),
            Status::StreamEnd if written == length && read == from.len() => return Ok(()),
            Status::StreamEnd => return Err(Inflating::Damaged),
            // It asks for what is not there.
            _ if taken == 0 && to.len() == before_out => return Err(Inflating::Damaged),
            Status::Ok | Status::BufError => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, ZlibEncoder};

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Three columns, a bitmap of them, and compressed images.
    fn rows_event(images: &[u8], declared: u32) -> Vec<u8> {
        let mut event = vec![3, 0b111, 0x84];
        event.extend_from_slice(&declared.to_be_bytes());
        event.extend_from_slice(&zlib(images));
        event
    }

    #[test]
    fn images_stand_behind_what_stood_before_them() {
        let images: Vec<u8> = (0..300_000_u32).map(|i| (i / 7) as u8).collect();
        let event = rows_event(&images, images.len() as u32);
        let mut inflate = Inflate::default();
        for _ in 0..2 {
            let inflated = inflate.rows(&event, Wire::new(&event), 1, LIMIT).unwrap();
            assert_eq!((&inflated[..2], &inflated[2..]), (&[3, 0b111][..], images.as_slice()));
        }
        assert_eq!(
            inflate.rows(&event, Wire::new(&event), 1, 299_999).unwrap_err(),
            Inflating::TooLong(images.len())
        );
    }

    #[test]
    fn a_statement_stands_behind_its_session() {
        let mut body = vec![7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 2, 0, 0xaa, 0xbb];
        body.extend_from_slice(b"probe\0");
        body.extend_from_slice(&[0x81, 12]);
        body.extend_from_slice(&zlib(b"create table"));
        let mut inflate = Inflate::default();
        let inflated = inflate.query(&body, &body, LIMIT).unwrap();
        assert!(inflated.ends_with(b"\xaa\xbbprobe\0create table"), "{inflated:?}");
        assert_eq!(inflated.len(), 15 + 6 + 12);
    }

    #[test]
    fn columns_come_as_they_are_or_in_either_form_of_zlib() {
        let text = [b'x'; 300];
        let mut inflate = Inflate::default();
        assert_eq!(inflate.column(b"", LIMIT), Ok(&b""[..]));
        assert_eq!(inflate.column(b"\0short", LIMIT), Ok(&b"short"[..]));
        for (head, packed) in [(0x82, zlib(&text)), (0x8a, deflate(&text))] {
            let raw = [&[head, 1, 44][..], &packed].concat();
            assert_eq!(inflate.column(&raw, LIMIT), Ok(&text[..]), "{head:x}");
            assert_eq!(inflate.column(&raw, 299), Err(Inflating::TooLong(300)));
        }
        // As MariaDB 11.8 wrote REPEAT('xyz', 100).
        let recorded = [0x8a, 1, 0x2c, 0xab, 0xa8, 0xac, 0xaa, 0x18, 0x45, 0xc4, 0x21, 0];
        assert_eq!(inflate.column(&recorded, LIMIT), Ok(&b"xyz".repeat(100)[..]));
    }

    #[test]
    fn what_is_longer_or_shorter_than_it_says_or_cut_short_is_damaged() {
        let images = [7; 5_000];
        let mut inflate = Inflate::default();
        let mut damaged = |event: &[u8]| {
            assert_eq!(
                inflate.rows(event, Wire::new(event), 1, LIMIT),
                Err(Inflating::Damaged),
                "{event:x?}"
            );
        };
        for declared in [0, 4_999, 5_001, LIMIT as u32] {
            damaged(&rows_event(&images, declared));
        }
        let event = rows_event(&images, 5_000);
        (0..event.len()).for_each(|cut| damaged(&event[..cut]));
        damaged(&[event.as_slice(), &[0]].concat());
        for head in [0_u8, 0x01, 0x80, 0x85, 0x92, 0xc1] {
            let mut other = event.clone();
            other[2] = head;
            damaged(&other);
        }
    }
}
