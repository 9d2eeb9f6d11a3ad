use super::*;

fn text(document: &[u8]) -> Result<String, JsonError> {
    let mut out = b"before".to_vec();
    write_text(document, &mut out, 1 << 20).map(str::to_owned)
}

fn double(value: f64) -> String {
    let mut out = Vec::new();
    write_double(value, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// `{"a": [1, "x"], "b": true}` as the server stores it.
const SMALL: &[u8] = &[
    0x00, // small object
    2, 0, 33, 0, // two elements, 33 bytes
    18, 0, 1, 0, 19, 0, 1, 0, // keys at 18 and 19, one byte each
    0x02, 20, 0, // small array at 20
    0x04, 1, 0, // true, inlined
    b'a', b'b', // keys
    2, 0, 13, 0, // two elements, 13 bytes
    0x05, 1, 0, // 1, inlined
    0x0c, 10, 0, // string at 10
    1, b'x', 0, // "x"
];

#[test]
fn objects_and_arrays_print_as_the_server_prints_them() {
    assert_eq!(text(SMALL).unwrap(), r#"{"a": [1, "x"], "b": true}"#);
    assert_eq!(text(&[]).unwrap(), "null");
    assert_eq!(text(&[0x00, 0, 0, 4, 0]).unwrap(), "{}");
    assert_eq!(text(&[0x03, 0, 0, 0, 0, 8, 0, 0, 0]).unwrap(), "[]");
}

#[test]
fn scalars_print_as_the_server_prints_them() {
    for (document, expected) in [
        (&[0x04, 0][..], "null"),
        (&[0x04, 2], "false"),
        (&[0x05, 0xff, 0xff], "-1"),
        (&[0x06, 0xff, 0xff], "65535"),
        (&[0x07, 0, 0, 0, 0x80], "-2147483648"),
        (&[0x08, 0xff, 0xff, 0xff, 0xff], "4294967295"),
        (&[0x0a, 255, 255, 255, 255, 255, 255, 255, 255], "18446744073709551615"),
        (b"\x0c\x09q\"\\\n\x01\x1f\x7f\xc3\xa9", r#""q\"\\\n\u0001\u001fé""#),
        (b"\x0f\xf6\x04\x03\x02\x80\x32", "0.50"),
        (b"\x0f\x10\x02\x00\x05", r#""base64:type16:AAU=""#),
    ] {
        let expected = expected.replace("\u{1f}é", "\u{1f}\u{7f}é").replace("001fé", "001f\u{7f}é");
        assert_eq!(text(document).unwrap(), expected, "{document:x?}");
    }
}

#[test]
fn dates_and_times_are_quoted_with_six_decimals() {
    let opaque = |field: u8, packed: i64| {
        let mut bytes = vec![0x0f, field, 8];
        bytes.extend_from_slice(&packed.to_le_bytes());
        text(&bytes).unwrap()
    };
    let day: i64 = (2015 * 13 + 1) << 22 | 15 << 17;
    let clock: i64 = 23 << 12 | 24 << 6 | 25;
    assert_eq!(opaque(12, (day | clock) << 24), r#""2015-01-15 23:24:25.000000""#);
    assert_eq!(opaque(7, (day | clock) << 24 | 120), r#""2015-01-15 23:24:25.000120""#);
    assert_eq!(opaque(10, day << 24), r#""2015-01-15""#);
    assert_eq!(opaque(11, clock << 24 | 7), r#""23:24:25.000007""#);
    assert_eq!(opaque(11, -(clock << 24 | 7)), r#""-23:24:25.000007""#);
}

#[test]
fn doubles_print_as_my_gcvt_prints_them() {
    for (value, expected) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (-1.5, "-1.5"),
        (0.1, "0.1"),
        (0.001, "0.001"),
        (1e14, "100000000000000.0"),
        (123_456_789_012_345.0, "123456789012345.0"),
        (1e15, "1e15"),
        (1_234_567_890_123_456.5, "1234567890123456.5"),
        (1_000_000_000_000_001.0, "1.000000000000001e15"),
        (1.234e15, "1.234e15"),
        (1e100, "1e100"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (1.5e-300, "1.5e-300"),
        (0.1 + 0.2, "0.30000000000000004"),
        (f64::MAX, "1.7976931348623157e308"),
        (5e-324, "5e-324"),
    ] {
        assert_eq!(double(value), expected);
    }
}

#[test]
fn each_prefix_of_a_document_is_an_error() {
    for length in 1..SMALL.len() - 1 {
        assert!(text(&SMALL[..length]).is_err(), "{length}");
    }
}

#[test]
fn nesting_is_bounded_by_what_the_server_allows() {
    // An array whose one element is the array itself.
    let endless = [0x02, 1, 0, 7, 0, 0x02, 0, 0];
    assert_eq!(text(&endless), Err(JsonError::TooDeep));
}

#[test]
fn overlapping_offsets_cannot_make_a_long_text() {
    // 2,000 elements, each of which is the array itself: without a bound 2,000^100 values.
    let count: u16 = 2_000;
    let mut bomb = vec![0x02];
    bomb.extend_from_slice(&count.to_le_bytes());
    bomb.extend_from_slice(&(4 + count * 3).to_le_bytes());
    for _ in 0..count {
        bomb.extend_from_slice(&[0x02, 0, 0]);
    }
    assert!(text(&bomb).is_err());
    // A string said many times.
    let mut bomb = vec![0x02];
    bomb.extend_from_slice(&count.to_le_bytes());
    let offset = 4 + count * 3;
    bomb.extend_from_slice(&(offset + 2_002).to_le_bytes());
    for _ in 0..count {
        bomb.push(0x0c);
        bomb.extend_from_slice(&offset.to_le_bytes());
    }
    bomb.extend_from_slice(&[0xd0, 0x0f]);
    bomb.extend_from_slice(&[b'x'; 2_000]);
    assert_eq!(text(&bomb), Err(JsonError::TooLong));
}

#[test]
fn random_changes_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..20_000 {
        let mut bytes = SMALL.to_vec();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        let _ = text(&bytes);
    }
}
