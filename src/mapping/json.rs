//! JSON text: escaping strings, and splicing values that are JSON already.

/// Bytes that cannot stand in a JSON string as they are.
const ESCAPED: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Whether one of eight bytes is a control character, a quotation mark or a backslash (may say so wrongly of bytes
/// after one that is).
#[inline]
fn any_escaped(word: u64) -> bool {
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (control | zero(word ^ (ONES * 0x22)) | zero(word ^ (ONES * 0x5c))) & HIGHS != 0
}

/// Length of the longest prefix that needs no escape, bytes.
#[inline]
fn plain_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        if any_escaped(u64::from_le_bytes(*chunk)) {
            break;
        }
        at += 8;
    }
    let stop = bytes[at..].iter().position(|&byte| ESCAPED[usize::from(byte)] != 0);
    stop.map_or(bytes.len(), |n| at + n)
}

/// Appends the inside of a JSON string, without its quotation marks. `bytes`: UTF-8.
#[inline]
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let plain = plain_prefix(bytes);
    out.extend_from_slice(&bytes[..plain]);
    if plain < bytes.len() {
        escape_rest(&bytes[plain..], out);
    }
}

#[cold]
fn escape_rest(mut bytes: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    while let Some((&byte, rest)) = bytes.split_first() {
        match ESCAPED[usize::from(byte)] {
            b'u' => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        let plain = plain_prefix(rest);
        out.extend_from_slice(&rest[..plain]);
        bytes = &rest[plain..];
    }
}

/// Appends a JSON value as it is, on one line. A raw line break can only be white space between tokens (in a string it is
/// escaped), so a blank says the same; MySQL prints none, but MariaDB keeps JSON as it was written.
#[inline]
pub(super) fn splice(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    for byte in &mut out[start..] {
        *byte = if *byte < 0x20 { b' ' } else { *byte };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_reads_back_as_it_was(text in "(?s).{0,40}|[\\x00-\\x30\"\\\\é🦀]{0,40}") {
            let mut out = vec![b'"'];
            escape(text.as_bytes(), &mut out);
            out.push(b'"');
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn every_byte_at_every_place_of_a_word_is_looked_at() {
        for byte in 0..0x80_u8 {
            for at in 0..20 {
                let mut text = [b'a'; 20];
                text[at] = byte;
                let expected = if ESCAPED[usize::from(byte)] == 0 { 20 } else { at };
                assert_eq!(plain_prefix(&text), expected, "{byte} at {at}");
            }
        }
    }

    #[test]
    fn spliced_json_is_one_line() {
        let mut out = Vec::new();
        splice("{\n\t\"a\": \"b\\n\"\r\n}", &mut out);
        assert_eq!(out, b"{  \"a\": \"b\\n\"  }");
    }
}
