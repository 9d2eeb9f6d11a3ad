//! DECIMAL: MySQL's packed decimal digits as text.
//!
//! # Format
//!
//! Nine digits to four bytes, most significant first; a group of fewer digits takes only as many bytes as it needs and stands at
//! the front of the integer part or at the end of the fraction. The first bit is inverted, and for a negative number all
//! bits are. (MySQL, strings/decimal.cc, *decimal2bin*.)

use super::wire::{Wire, big_endian};

/// Bytes that a group of 0 to 9 digits takes.
const GROUP_BYTES: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// The largest number of 0 to 9 digits.
const GROUP_LARGEST: [u32; 10] = [0, 9, 99, 999, 9_999, 99_999, 999_999, 9_999_999, 99_999_999, 999_999_999];

/// Most digits in a DECIMAL.
pub const MAX_PRECISION: u8 = 65;

/// Most digits after a DECIMAL's point.
pub const MAX_SCALE: u8 = 30;

/// How a DECIMAL(precision, scale) lies in a row image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    integer_digits: u8,
    scale: u8,
    bytes: u8,
}

/// A decimal's text, on the stack: at most a sign, 65 digits, a zero in front and a point.
#[derive(Debug)]
pub struct Digits {
    text: [u8; 72],
    start: usize,
    end: usize,
}

impl Digits {
    /// Room for a sign is left in front.
    fn new() -> Digits {
        Digits { text: [b'0'; 72], start: 1, end: 1 }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.end) {
            *place = byte;
            self.end += 1;
        }
    }

    /// The lowest `width` digits of `value`.
    #[inline]
    fn push_number(&mut self, mut value: u32, width: usize) {
        for place in self.text.get_mut(self.end..self.end + width).unwrap_or_default().iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
        self.end += width;
    }

    /// Of what was pushed so far, the last digit stays, and no zero in front.
    #[inline]
    fn trim(&mut self) {
        while self.end - self.start > 1 && self.text.get(self.start) == Some(&b'0') {
            self.start += 1;
        }
    }

    /// A minus in front.
    fn negate(&mut self) {
        self.start -= 1;
        if let Some(place) = self.text.get_mut(self.start) {
            *place = b'-';
        }
    }

    /// ASCII.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.text.get(self.start..self.end).unwrap_or_default()
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl Decimal {
    /// `None` where no DECIMAL has this precision and scale.
    #[must_use]
    pub fn new(precision: u8, scale: u8) -> Option<Decimal> {
        if precision == 0 || precision > MAX_PRECISION || scale > MAX_SCALE || scale > precision {
            return None;
        }
        let integer_digits = precision - scale;
        let part = |digits: u8| {
            let rest = GROUP_BYTES.get(usize::from(digits % 9)).copied().unwrap_or_default();
            digits / 9 * 4 + rest
        };
        Some(Decimal { integer_digits, scale, bytes: part(integer_digits) + part(scale) })
    }

    /// Digits after the point.
    #[must_use]
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// Bytes in a row image.
    #[inline]
    #[must_use]
    pub fn bytes(self) -> usize {
        usize::from(self.bytes)
    }

    /// The digits as MySQL prints them: no zeros in front but the one before a point, all `scale` digits behind it, never
    /// a negative zero. `None` where the bytes are no decimal.
    #[must_use]
    pub fn digits(self, bytes: &[u8]) -> Option<Digits> {
        let mut packed = [0_u8; 32];
        let packed = packed.get_mut(..self.bytes())?;
        packed.copy_from_slice(bytes.get(..self.bytes())?);
        let first = packed.first_mut()?;
        let negative = *first & 0x80 == 0;
        *first ^= 0x80;
        if negative {
            packed.iter_mut().for_each(|byte| *byte = !*byte);
        }

        let mut wire = Wire::new(packed);
        let mut digits = Digits::new();
        let mut any = false;
        let mut group = |digits: &mut Digits, width: u8| -> Option<()> {
            let width = usize::from(width);
            let value = big_endian(wire.take(usize::from(*GROUP_BYTES.get(width)?)).ok()?) as u32;
            if value > *GROUP_LARGEST.get(width)? {
                return None;
            }
            any |= value != 0;
            digits.push_number(value, width);
            Some(())
        };

        group(&mut digits, self.integer_digits % 9)?;
        for _ in 0..self.integer_digits / 9 {
            group(&mut digits, 9)?;
        }
        if self.integer_digits == 0 {
            digits.push(b'0');
        }
        digits.trim();
        if self.scale > 0 {
            digits.push(b'.');
            for _ in 0..self.scale / 9 {
                group(&mut digits, 9)?;
            }
            group(&mut digits, self.scale % 9)?;
        }
        // A zero that was written as negative: MySQL prints no sign.
        if negative && any {
            digits.negate();
        }
        Some(digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packs as decimal2bin does, from the text of the integer part and of the fraction.
    fn pack(precision: u8, scale: u8, text: &str) -> Vec<u8> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
        let (integer, fraction) = text.split_once('.').unwrap_or((text, ""));
        let integer_digits = usize::from(precision - scale);
        let integer = format!("{:0>1$}", integer.trim_start_matches('0'), integer_digits);
        let fraction = format!("{:0<1$}", fraction, usize::from(scale));
        let mut bytes = Vec::new();
        let mut put = |digits: &str| {
            if !digits.is_empty() {
                let value: u32 = digits.parse().unwrap();
                let count = usize::from(GROUP_BYTES[digits.len()]);
                bytes.extend_from_slice(&value.to_be_bytes()[4 - count..]);
            }
        };
        let (head, tail) = integer.split_at(integer.len() % 9);
        put(head);
        tail.as_bytes().chunks(9).for_each(|c| put(std::str::from_utf8(c).unwrap()));
        fraction.as_bytes().chunks(9).for_each(|c| put(std::str::from_utf8(c).unwrap()));
        if negative {
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        bytes[0] ^= 0x80;
        bytes
    }

    fn round(precision: u8, scale: u8, text: &str) -> String {
        let decimal = Decimal::new(precision, scale).unwrap();
        let bytes = pack(precision, scale, text);
        assert_eq!(bytes.len(), decimal.bytes(), "{precision},{scale}");
        decimal.digits(&bytes).unwrap().as_str().to_owned()
    }

    #[test]
    fn digits_are_as_mysql_prints_them() {
        for (precision, scale, text) in [
            (10, 2, "0.50"),
            (10, 2, "-12.30"),
            (10, 2, "99999999.99"),
            (1, 0, "7"),
            (18, 9, "123456789.987654321"),
            (20, 10, "-1.0000000001"),
            (30, 30, "0.000000000000000000000000000001"),
            (65, 0, "99999999999999999999999999999999999999999999999999999999999999999"),
            (65, 30, "-12345678901234567890123456789012345.123456789012345678901234567890"),
            (12, 0, "1000000000"),
            (12, 0, "100000000000"),
        ] {
            assert_eq!(round(precision, scale, text), text);
        }
        assert_eq!(round(14, 4, "1234567890.1234"), "1234567890.1234");
    }

    #[test]
    fn the_manuals_example_decodes() {
        // MySQL, strings/decimal.cc: 1234567890.1234 is 81 0D FB 38 D2 04 D2, its negative 7E F2 04 C7 2D FB 2D.
        let decimal = Decimal::new(14, 4).unwrap();
        let digits = |bytes: &[u8]| decimal.digits(bytes).unwrap().as_str().to_owned();
        assert_eq!(digits(&[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2]), "1234567890.1234");
        assert_eq!(digits(&[0x7e, 0xf2, 0x04, 0xc7, 0x2d, 0xfb, 0x2d]), "-1234567890.1234");
    }

    #[test]
    fn zero_has_no_sign() {
        assert_eq!(round(10, 2, "0.00"), "0.00");
        assert_eq!(round(10, 2, "-0.00"), "0.00");
        assert_eq!(round(5, 0, "0"), "0");
    }

    #[test]
    fn bytes_that_are_no_decimal_are_refused() {
        let decimal = Decimal::new(9, 0).unwrap();
        assert!(decimal.digits(&[0xff, 0xff, 0xff, 0xff]).is_none());
        assert!(decimal.digits(&[0x80, 0, 0]).is_none());
        assert!(Decimal::new(66, 0).is_none() && Decimal::new(0, 0).is_none());
        assert!(Decimal::new(10, 11).is_none() && Decimal::new(40, 31).is_none());
    }
}
