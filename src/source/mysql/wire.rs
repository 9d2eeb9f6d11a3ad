//! Reading the server's bytes without trusting them: every read is checked and none panics.

/// Bytes not yet read. Integers are little-endian unless said otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire<'a>(&'a [u8]);

/// The bytes ended before what they announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes end early")]
pub struct Short;

impl<'a> Wire<'a> {
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Wire<'a> {
        Wire(bytes)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything not yet read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Short> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Short)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    pub fn u8(&mut self) -> Result<u8, Short> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    pub fn u16(&mut self) -> Result<u16, Short> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u32(&mut self) -> Result<u32, Short> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub fn u64(&mut self) -> Result<u64, Short> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// An unsigned integer of `bytes` bytes, at most 8.
    #[inline]
    pub fn uint(&mut self, bytes: usize) -> Result<u64, Short> {
        Ok(little_endian(self.take(bytes)?))
    }

    /// The protocol's length-encoded integer.
    pub fn length(&mut self) -> Result<u64, Short> {
        match self.u8()? {
            byte @ 0..=250 => Ok(u64::from(byte)),
            252 => self.uint(2),
            253 => self.uint(3),
            254 => self.uint(8),
            // 251 (NULL) and 255 (an error packet) are no lengths.
            _ => Err(Short),
        }
    }

    /// A length-encoded integer that counts something held in memory.
    pub fn size(&mut self) -> Result<usize, Short> {
        usize::try_from(self.length()?).map_err(|_| Short)
    }

    /// A length-encoded string.
    pub fn string(&mut self) -> Result<&'a [u8], Short> {
        let length = self.size()?;
        self.take(length)
    }
}

/// At most 8 bytes as an unsigned integer; bytes above the eighth are ignored.
#[inline]
#[must_use]
pub fn little_endian(bytes: &[u8]) -> u64 {
    // The usual widths first: a loop over a length that is not known takes several times as long.
    match *bytes {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_le_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_le_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h, ..] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        _ => bytes.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)),
    }
}

/// At most 8 little-endian bytes, two's complement.
#[inline]
#[must_use]
pub fn signed(raw: &[u8]) -> i64 {
    let unused = 64_u32.saturating_sub(raw.len() as u32 * 8).min(63);
    (little_endian(raw) << unused) as i64 >> unused
}

/// At most 8 bytes, most significant first, as an unsigned integer.
#[inline]
#[must_use]
pub fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u64::from(*byte))
}

/// Bit `index` of a bitmap whose first bit is the lowest of its first byte; false past the end.
#[inline]
#[must_use]
pub fn bit(bitmap: &[u8], index: usize) -> bool {
    bitmap.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_encoded_integers_have_four_widths() {
        for (bytes, value) in [
            (&[250][..], 250),
            (&[252, 0, 1], 256),
            (&[253, 0, 0, 1], 65_536),
            (&[254, 0, 0, 0, 0, 0, 0, 0, 1], 1 << 56),
        ] {
            assert_eq!(Wire::new(bytes).length(), Ok(value));
            for cut in 0..bytes.len() {
                assert_eq!(Wire::new(&bytes[..cut]).length(), Err(Short));
            }
        }
        assert_eq!(Wire::new(&[251]).length(), Err(Short));
    }

    #[test]
    fn integers_of_every_width_have_their_lowest_byte_first() {
        let bytes = [1, 2, 3, 4, 5, 6, 7, 8, 9];
        for width in 0..=9 {
            let value = (0..width.min(8)).map(|at| (at as u64 + 1) << (8 * at)).sum::<u64>();
            assert_eq!(little_endian(&bytes[..width]), value, "{width}");
        }
    }

    #[test]
    fn bits_count_from_the_lowest_of_the_first_byte() {
        assert!(bit(&[0b10, 1], 1) && bit(&[0b10, 1], 8));
        assert!(!bit(&[0b10, 1], 0) && !bit(&[0b10, 1], 16));
    }
}
