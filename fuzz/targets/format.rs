//! The log's format, written by a hand of its own after docs/log-format.md, so that the crate's own is not judged by itself; and
//! [`Input`], the bytes of a fuzzer taken apart.

/// What a header says, checksum aside.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    pub salt: u32,
    pub first: u64,
    pub base: u64,
    pub created_micros: u64,
    pub previous_first: u64,
    pub previous_bytes: u64,
    pub previous_salt: u32,
}

/// The first segment of a log, made on 2026-11-23.
pub const FIRST: Header = Header {
    salt: 0x5A17,
    first: 1,
    base: 1_795_392_000_000_000,
    created_micros: 1_795_392_000_000_000,
    previous_first: 0,
    previous_bytes: 0,
    previous_salt: 0,
};

impl Header {
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"EVRLYLOG".to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(self.salt.to_le_bytes());
        for number in [self.first, self.base, self.created_micros, self.previous_first, self.previous_bytes] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.previous_salt.to_le_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }
}

/// A whole frame with a checksum that holds.
pub fn frame(kind: u8, flags: u8, seq: u64, salt: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("inputs are far smaller than 4 GiB").to_le_bytes();
    let mut rest = seq.to_le_bytes().to_vec();
    rest.extend([kind, flags]);
    rest.extend(payload);
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    hasher.update(&length);
    hasher.update(&rest);
    let mut frame = length.to_vec();
    frame.extend(hasher.finalize().to_le_bytes());
    frame.extend(rest);
    frame
}

/// A state without a position: three absent or zero fields.
pub const EMPTY_STATE: [u8; 3] = [0, 0, 0];

/// A fuzzer's bytes, read from the front; zeros follow their end.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes that follow their length, of two bytes.
    pub fn block(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16());
        self.take(length)
    }

    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.take(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
