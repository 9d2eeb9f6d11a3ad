//! UUID, INET4 and INET6: MariaDB's types of fixed width, as the text that it prints.
//!
//! # Format
//!
//! A row image has them as BINARY(16), BINARY(4) and BINARY(16): in the order in which they print, without the zeros at the end. (MariaDB keeps
//! a UUID with its parts turned round, so that those of one node lie together; what it writes to the binlog is turned back: `UUID::pack`,
//! plugin/type_uuid/sql_type_uuid.h.)

/// Most characters of an address: `ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`.
const MOST: usize = 39;

/// A value's text, on the stack.
#[derive(Debug)]
pub struct Printed {
    text: [u8; MOST],
    length: usize,
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl Printed {
    fn new() -> Printed {
        Printed { text: [0; MOST], length: 0 }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    fn push_hex(&mut self, nibble: u16) {
        self.push(HEX.get(usize::from(nibble & 15)).copied().unwrap_or_default());
    }

    fn push_byte(&mut self, byte: u8) {
        if byte > 99 {
            self.push(b'0' + byte / 100);
        }
        if byte > 9 {
            self.push(b'0' + byte / 10 % 10);
        }
        self.push(b'0' + byte % 10);
    }

    fn push_inet4(&mut self, address: [u8; 4]) {
        for (n, byte) in address.into_iter().enumerate() {
            if n > 0 {
                self.push(b'.');
            }
            self.push_byte(byte);
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII was pushed.
        self.text.get(..self.length).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// `bytes` with the zeros at its end again; `None` where there are more than the type has.
fn padded<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut whole = [0; N];
    whole.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(whole)
}

/// `01234567-89ab-1def-8123-456789abcdef`; `None` for more than 16 bytes.
#[must_use]
pub fn uuid(bytes: &[u8]) -> Option<Printed> {
    let mut printed = Printed::new();
    for (n, byte) in padded::<16>(bytes)?.into_iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            printed.push(b'-');
        }
        printed.push_hex(u16::from(byte >> 4));
        printed.push_hex(u16::from(byte));
    }
    Some(printed)
}

/// `10.2.0.1`; `None` for more than 4 bytes.
#[must_use]
pub fn inet4(bytes: &[u8]) -> Option<Printed> {
    let mut printed = Printed::new();
    printed.push_inet4(padded(bytes)?);
    Some(printed)
}

/// `2001:db8::1`; `None` for more than 16 bytes.
///
/// The first longest run of zeros is left out, one zero alone too, where RFC 5952 keeps that; and six zeros in front make the rest an IPv4 address, as five and `ffff`
/// do (MariaDB, `Inet6::to_string`, plugin/type_inet/sql_type_inet.cc).
#[must_use]
pub fn inet6(bytes: &[u8]) -> Option<Printed> {
    let address = padded::<16>(bytes)?;
    let (pairs, _) = address.as_chunks::<2>();
    let mut words = [0; 8];
    words.iter_mut().zip(pairs).for_each(|(word, pair)| *word = u16::from_be_bytes(*pair));

    let (mut gap, mut run) = (0..0, 0..0);
    for (n, word) in words.into_iter().enumerate() {
        run = if word != 0 { n + 1..n + 1 } else { run.start..n + 1 };
        if run.len() > gap.len() {
            gap = run.clone();
        }
    }
    let is_inet4 = gap == (0..6) || gap == (0..5) && matches!(words, [.., 0xffff, _, _]);
    let mut printed = Printed::new();
    for (n, word) in words.into_iter().enumerate() {
        if gap.contains(&n) {
            if n == gap.start {
                // Before it stands the colon of the word in front, if there is one.
                if n == 0 {
                    printed.push(b':');
                }
                printed.push(b':');
            }
            continue;
        }
        if is_inet4 && n == 6 {
            let [.., a, b, c, d] = address;
            printed.push_inet4([a, b, c, d]);
            return Some(printed);
        }
        let digits = 4 - (word.leading_zeros() / 4).min(3);
        for digit in (0..digits).rev() {
            printed.push_hex(word >> (4 * digit));
        }
        if n < 7 {
            printed.push(b':');
        }
    }
    Some(printed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Bytes of row images and what SELECT printed of them, at MariaDB 10.11.18 and 11.8.9.
    #[test]
    fn values_print_as_mariadb_prints_them() {
        for (hex, expected) in [
            ("0123456789ab1def8123456789abcdef", "01234567-89ab-1def-8123-456789abcdef"),
            ("0123456789ab7def8123456789abcd", "01234567-89ab-7def-8123-456789abcd00"),
            ("", "00000000-0000-0000-0000-000000000000"),
            ("0123456789ab6def4123456789abcd", "01234567-89ab-6def-4123-456789abcd00"),
        ] {
            assert_eq!(uuid(&bytes(hex)).unwrap().as_str(), expected);
        }
        for (hex, expected) in
            [("0a02", "10.2.0.0"), ("", "0.0.0.0"), ("ffffffff", "255.255.255.255"), ("01000001", "1.0.0.1")]
        {
            assert_eq!(inet4(&bytes(hex)).unwrap().as_str(), expected);
        }
        for (hex, expected) in [
            ("00000000000000000000ffff01020304", "::ffff:1.2.3.4"),
            ("00000000000000000000000001020304", "::1.2.3.4"),
            ("20010db8", "2001:db8::"),
            ("00000000000000000000000000000001", "::1"),
            ("00010000000000020000000000030004", "1::2:0:0:3:4"),
            ("00010000000200030004000500060007", "1::2:3:4:5:6:7"),
            ("", "::"),
            ("0000000000000000000000000001", "::0.1.0.0"),
            ("00000000000000000000ffff", "::ffff:0.0.0.0"),
            ("000000000000000000000000ffffffff", "::255.255.255.255"),
            ("fe80000000000000000000a0b0c00d", "fe80::a0:b0c0:d00"),
            ("fe8000000000000000000000a0b0c00d", "fe80::a0b0:c00d"),
            ("ffffffffffffffffffffffffffffffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("00010002000300040005000600070000", "1:2:3:4:5:6:7::"),
        ] {
            assert_eq!(inet6(&bytes(hex)).unwrap().as_str(), expected, "{hex}");
        }
    }

    #[test]
    fn more_bytes_than_the_type_has_are_none() {
        assert!(uuid(&[0; 17]).is_none() && inet6(&[0; 17]).is_none() && inet4(&[0; 5]).is_none());
    }
}
