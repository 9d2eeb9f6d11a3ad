//! The names of XA transactions, as X/Open has them: a format, a global part and a branch.
//!
//! Text form: as MySQL and MariaDB write them into statements of the binlog, `X'6162',X'',1` (sql/xa.h, *serialize_xid*).
//! Stored form: bincode of the fields; lengths over the standard's are refused there too.

use std::fmt;

use bincode::de::Decoder;
use bincode::error::DecodeError;
use bincode::{Decode, Encode, impl_borrow_decode};

/// Longest global part, and longest branch, bytes (X/Open, MAXGTRIDSIZE and MAXBQUALSIZE).
pub const MAX_PART: usize = 64;

/// One XA transaction's name. Among those that are undecided at one server it is unique.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode)]
pub struct Xid {
    format: u32,
    global: Vec<u8>,
    branch: Vec<u8>,
}

impl Xid {
    /// `None` where a part is longer than [`MAX_PART`].
    #[must_use]
    pub fn new(format: u32, global: &[u8], branch: &[u8]) -> Option<Xid> {
        let legal = global.len() <= MAX_PART && branch.len() <= MAX_PART;
        legal.then(|| Xid { format, global: global.to_vec(), branch: branch.to_vec() })
    }

    /// Reads the text form, in any case; `None` where it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Xid> {
        let mut parts = text.trim().split(',').map(str::trim);
        let (global, branch) = (part(parts.next()?)?, part(parts.next()?)?);
        let format = parts.next()?.parse().ok()?;
        if parts.next().is_some() {
            return None;
        }
        Xid::new(format, &global, &branch)
    }
}

/// The bytes of `X'…'`.
fn part(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(['X', 'x'])?.strip_prefix('\'')?.strip_suffix('\'')?.as_bytes();
    if digits.len() > 2 * MAX_PART || !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

impl<Context> Decode<Context> for Xid {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Xid, DecodeError> {
        let (format, global, branch): (u32, Vec<u8>, Vec<u8>) = Decode::decode(decoder)?;
        if global.len() > MAX_PART || branch.len() > MAX_PART {
            return Err(DecodeError::Other("an xid is longer than one may be"));
        }
        Ok(Xid { format, global, branch })
    }
}
impl_borrow_decode!(Xid);

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.global, &self.branch] {
            f.write_str("X'")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str("',")?;
        }
        write!(f, "{}", self.format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::codec;

    #[test]
    fn the_text_is_that_of_the_statements_and_is_read_back() {
        let long = "ab".repeat(MAX_PART);
        for text in
            ["X'',X'',1", "X'6162',X'00ff',4294967295", &format!("X'{long}',X'{}',0", "00".repeat(64))]
        {
            let xid = Xid::parse(text).unwrap();
            assert_eq!(xid.to_string(), text);
            assert_eq!(Xid::parse(&text.to_uppercase()), Some(xid.clone()));
            let mut bytes = Vec::new();
            codec::encode(&xid, &mut bytes);
            assert_eq!(codec::decode_owned::<Xid, 1024>(&bytes).unwrap(), (xid, &[][..]));
        }
        assert_eq!(Xid::parse("x'aB' , X'' ,1"), Xid::new(1, &[0xAB], b""));
    }

    #[test]
    fn what_is_no_xid_is_refused() {
        let long = "ab".repeat(MAX_PART + 1);
        for text in [
            "",
            "X'61'",
            "X'61',X''",
            "X'61',X'',-1",
            "X'61',X'',4294967296",
            "X'6',X'',1",
            "X'6g',X'',1",
            "'61',X'',1",
            "X'61',X'',1,2",
            "X'61',X'',",
            &format!("X'{long}',X'',1"),
            "X'é',X'',1",
        ] {
            assert_eq!(Xid::parse(text), None, "{text}");
        }
        assert_eq!(Xid::new(1, &[0; MAX_PART + 1], b""), None);
        let mut bytes = Vec::new();
        codec::encode(&(1u32, vec![0u8; MAX_PART + 1], Vec::<u8>::new()), &mut bytes);
        assert!(codec::decode_owned::<Xid, 1024>(&bytes).is_err());
    }
}
