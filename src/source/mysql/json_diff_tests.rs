use super::*;

/// A small object or array of integers and inlined values: names (empty for an array), types and entries.
fn container(kind: u8, elements: &[(&str, u8, &[u8])]) -> Vec<u8> {
    let names = kind == 0;
    let heads = 4 + elements.len() * if names { 7 } else { 3 };
    let (mut bytes, mut tail) = (Vec::new(), Vec::new());
    bytes.extend_from_slice(&(elements.len() as u16).to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    if names {
        for (name, ..) in elements {
            bytes.extend_from_slice(&((heads + tail.len()) as u16).to_le_bytes());
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            tail.extend_from_slice(name.as_bytes());
        }
    }
    for (_, kind, value) in elements {
        bytes.push(*kind);
        if matches!(kind, 4..=6) {
            bytes.extend_from_slice(value);
        } else {
            bytes.extend_from_slice(&((heads + tail.len()) as u16).to_le_bytes());
            tail.extend_from_slice(value);
        }
    }
    bytes.extend(tail);
    let size = bytes.len() as u16;
    bytes[2..4].copy_from_slice(&size.to_le_bytes());
    bytes
}

fn document(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn diff(operation: u8, path: &str, value: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = vec![operation, path.len() as u8];
    bytes.extend_from_slice(path.as_bytes());
    if let Some(value) = value {
        bytes.push(value.len() as u8);
        bytes.extend_from_slice(value);
    }
    bytes
}

fn applied(document: &[u8], diffs: &[Vec<u8>]) -> Result<String, DiffError> {
    let mut out = b"before".to_vec();
    write_text(document, &diffs.concat(), &mut out, 1 << 16).map(str::to_owned)
}

/// `{"b": 1, "cc": [1, [], true], "a b": {}}` in the server's order: by length, then by bytes.
fn sample() -> Vec<u8> {
    let empty = container(2, &[]);
    let array = container(2, &[("", 5, &[1, 0]), ("", 2, &empty), ("", 4, &[1, 0])]);
    let object = container(0, &[("b", 5, &[1, 0]), ("cc", 2, &array), ("a b", 0, &container(0, &[]))]);
    document(0, &object)
}

const SEVEN: &[u8] = &[5, 7, 0];

#[test]
fn differences_change_what_their_paths_lead_to() {
    let sample = sample();
    let text = r#"{"b": 1, "cc": [1, [], true], "a b": {}}"#;
    assert_eq!(applied(&sample, &[]).unwrap(), text);
    for (diffs, expected) in [
        (vec![diff(0, "$.b", Some(SEVEN))], r#"{"b": 7, "cc": [1, [], true], "a b": {}}"#),
        (vec![diff(0, "$.cc[0]", Some(SEVEN))], r#"{"b": 1, "cc": [7, [], true], "a b": {}}"#),
        (vec![diff(0, "$.cc[last]", Some(SEVEN))], r#"{"b": 1, "cc": [1, [], 7], "a b": {}}"#),
        (vec![diff(0, "$.cc[last-2]", Some(SEVEN))], r#"{"b": 1, "cc": [7, [], true], "a b": {}}"#),
        (vec![diff(1, "$.cc[3]", Some(SEVEN))], r#"{"b": 1, "cc": [1, [], true, 7], "a b": {}}"#),
        (vec![diff(1, "$.cc[99]", Some(SEVEN))], r#"{"b": 1, "cc": [1, [], true, 7], "a b": {}}"#),
        (vec![diff(1, "$.cc[1][0]", Some(SEVEN))], r#"{"b": 1, "cc": [1, [7], true], "a b": {}}"#),
        (vec![diff(2, "$.cc[1]", None)], r#"{"b": 1, "cc": [1, true], "a b": {}}"#),
        (vec![diff(2, "$.b", None)], r#"{"cc": [1, [], true], "a b": {}}"#),
        (vec![diff(1, "$.a", Some(SEVEN))], r#"{"a": 7, "b": 1, "cc": [1, [], true], "a b": {}}"#),
        (vec![diff(1, "$.zz", Some(SEVEN))], r#"{"b": 1, "cc": [1, [], true], "zz": 7, "a b": {}}"#),
        (
            vec![diff(1, "$.\"a b\".\"\\\"q\"", Some(SEVEN))],
            r#"{"b": 1, "cc": [1, [], true], "a b": {"\"q": 7}}"#,
        ),
        (
            vec![
                diff(1, "$.n", Some(&document(0, &container(0, &[])))),
                diff(1, "$.n.m", Some(SEVEN)),
                diff(2, "$.b", None),
            ],
            r#"{"n": {"m": 7}, "cc": [1, [], true], "a b": {}}"#,
        ),
    ] {
        assert_eq!(applied(&sample, &diffs).unwrap(), expected);
    }
}

#[test]
fn a_path_that_leads_nowhere_is_refused() {
    for diffs in [
        diff(0, "$.none", Some(SEVEN)),
        diff(0, "$.b.c", Some(SEVEN)),
        diff(0, "$[0]", Some(SEVEN)),
        diff(0, "$.cc[3]", Some(SEVEN)),
        diff(0, "$.cc[last-3]", Some(SEVEN)),
        diff(1, "$.b", Some(SEVEN)),
        diff(1, "$.cc.x", Some(SEVEN)),
        diff(2, "$.none", None),
        diff(2, "$.cc[7]", None),
        diff(2, "$.cc[1][0]", None),
    ] {
        assert_eq!(
            applied(&sample(), std::slice::from_ref(&diffs)).unwrap_err(),
            DiffError::Rejected,
            "{diffs:?}"
        );
    }
    assert_eq!(applied(b"", &[diff(0, "$.a", Some(SEVEN))]).unwrap_err(), DiffError::Rejected);
    assert_eq!(applied(b"", &[]).unwrap(), "null");
}

#[test]
fn what_is_no_difference_is_malformed() {
    for diffs in [
        diff(3, "$.b", Some(SEVEN)),
        diff(0, "$", Some(SEVEN)),
        diff(0, "b", Some(SEVEN)),
        diff(0, "$b", Some(SEVEN)),
        diff(0, "$.", Some(SEVEN)),
        diff(0, "$.\"b", Some(SEVEN)),
        diff(0, "$.\"\\x\"", Some(SEVEN)),
        diff(0, "$[", Some(SEVEN)),
        diff(0, "$[x]", Some(SEVEN)),
        diff(0, "$[-1]", Some(SEVEN)),
        diff(0, "$[lastly]", Some(SEVEN)),
        diff(0, "$.b", Some(b"")),
        vec![0],
        vec![0, 99, b'$'],
    ] {
        assert_eq!(
            applied(&sample(), std::slice::from_ref(&diffs)).unwrap_err(),
            DiffError::Malformed,
            "{diffs:?}"
        );
    }
    let deep = format!("${}", "[0]".repeat(101));
    let error = applied(&sample(), &[[&[0, 252, 48, 1][..], deep.as_bytes(), &[3], SEVEN].concat()]);
    assert_eq!(error.unwrap_err(), DiffError::Json(JsonError::TooDeep));
}

#[test]
fn what_is_opened_and_what_is_written_are_bounded() {
    let cells = vec![("", 5, &[1, 0][..]); 5_000];
    let large = document(2, &container(2, &cells));
    let diffs = diff(0, "$[0]", Some(SEVEN));
    let mut out = Vec::new();
    for limit in [4_999, 14_000] {
        assert_eq!(write_text(&large, &diffs, &mut out, limit), Err(DiffError::Json(JsonError::TooLong)));
    }
    assert!(write_text(&large, &diffs, &mut out, 16_000).unwrap().starts_with("[7, 1, "));
}
