use super::super::tests::{changes, column, event, image, plan};
use super::super::{Charset, Store};
use super::*;

/// What an event says, and the keys that it owes.
fn read(plan: &RowPlan, change: Change, rows: &[u8]) -> Result<(Vec<String>, Vec<Vec<u8>>), DecodeError> {
    let (mut batch, mut owed) = (Batch::new(), Owed::default());
    let mut decoder = Decoder::new(1 << 16);
    decoder.rows(plan, TableNo(7), change, Wire::new(rows), &mut batch, &mut owed)?;
    assert_eq!(batch.payloads().count(), batch.frames());
    let mut keys = Vec::new();
    if let Some((table, why)) = owed.next_lost() {
        assert_eq!((table, why), (TableNo(7), NO_KEY));
        keys.push(b"lost".to_vec());
    }
    if let Some((_, mut sorted)) = owed.next_table() {
        while let Some(key) = sorted.next_key() {
            keys.push(super::super::super::owed::parts(key).flatten().copied().collect());
        }
    }
    Ok((changes(&batch), keys))
}

/// An image of the key alone.
fn key(id: i32) -> Vec<u8> {
    [&[0][..], &id.to_le_bytes()].concat()
}

/// An image of the text alone.
fn text(text: &str) -> Vec<u8> {
    [&[0][..], &(text.len() as u16).to_le_bytes(), text.as_bytes()].concat()
}

/// An event whose bitmaps are these.
fn with(bitmaps: &[u8], images: &[Vec<u8>]) -> Vec<u8> {
    [&[4][..], bitmaps, &images.concat()].concat()
}

#[test]
fn a_row_that_is_not_said_whole_is_owed_by_its_key() {
    let one = 1_i32.to_le_bytes().to_vec();
    for (change, rows) in [
        // MINIMAL: the key, and what was set.
        (Change::Update, with(&[0b0001, 0b0010], &[key(1), text("x")])),
        (Change::Update, with(&[0b0001, 0b0011], &[key(1), [key(1), text("x")[1..].to_vec()].concat()])),
        (Change::Write, with(&[0b0001], &[key(1)])),
        // Nothing but the key was set, to what it was.
        (Change::Update, with(&[0b0001, 0b0001], &[key(1), key(1)])),
    ] {
        assert_eq!(read(&plan(), change, &rows).unwrap(), (Vec::new(), vec![one.clone()]), "{rows:?}");
    }
}

#[test]
fn a_key_that_changed_or_is_all_that_came_of_a_deleted_row_is_a_tombstone() {
    let two = 2_i32.to_le_bytes().to_vec();
    let moved = with(&[0b0001, 0b0001], &[key(1), key(2)]);
    assert_eq!(read(&plan(), Change::Update, &moved).unwrap(), (vec!["Tombstone I64(1)".into()], vec![two]));
    let gone = with(&[0b0001], &[key(1), key(2)]);
    let (changes, keys) = read(&plan(), Change::Delete, &gone).unwrap();
    assert_eq!(
        (changes.as_slice(), keys.len()),
        (&["Tombstone I64(1)".into(), "Tombstone I64(2)".into()][..], 0)
    );
}

#[test]
fn an_after_image_with_all_columns_needs_no_more_than_the_old_key() {
    for (id, op) in [(1, "Update I64(1) Text(\"y\")"), (2, "Rekey I64(2) Text(\"y\")")] {
        let rows = with(&[0b0001, 0b1111], &[key(1), image(id, "y")]);
        let (changes, keys) = read(&plan(), Change::Update, &rows).unwrap();
        assert!(changes[0].starts_with(op) && keys.is_empty(), "{changes:?}");
    }
}

#[test]
fn what_an_after_image_lacks_is_in_a_before_image_with_all_columns() {
    // Only the text; then the key too, and the text becomes null.
    let changed = text("y");
    let rekeyed = [vec![2], 3_i32.to_le_bytes().to_vec()].concat();
    for (present, after, op) in
        [(0b0010, changed, "Update I64(1) Text(\"y\")"), (0b0011, rekeyed, "Rekey I64(3) Null")]
    {
        let rows = with(&[0b1111, present], &[image(1, "x"), after]);
        let (changes, keys) = read(&plan(), Change::Update, &rows).unwrap();
        assert!(changes.len() == 1 && changes[0].starts_with(op) && keys.is_empty(), "{changes:?}");
    }
}

#[test]
fn a_row_whose_key_did_not_come_is_lost() {
    for (change, rows) in [
        (Change::Write, with(&[0b0010], &[text("x")])),
        (Change::Delete, with(&[0b0010], &[text("x")])),
        (Change::Update, with(&[0b0010, 0b0010], &[text("x"), text("y")])),
        // What it was is not known: its document would stay.
        (Change::Update, with(&[0b0010, 0b1111], &[text("x"), image(1, "y")])),
        // No column at all, so no byte.
        (Change::Write, with(&[0], &[])),
        (Change::Delete, with(&[0], &[])),
        (Change::Update, with(&[0, 0], &[])),
        // A null in a key.
        (Change::Write, with(&[0b0001], &[vec![1]])),
    ] {
        assert_eq!(read(&plan(), change, &rows).unwrap(), (Vec::new(), vec![b"lost".to_vec()]), "{rows:?}");
    }
}

#[test]
fn rows_without_columns_have_no_bytes() {
    let rows = with(&[0], &[vec![7]]);
    assert_eq!(read(&plan(), Change::Write, &rows).unwrap_err(), DecodeError::Short);
}

#[test]
fn parts_of_a_key_that_did_not_change_are_those_of_the_before_image() {
    let mut plan = plan();
    plan.columns[1].key_part = Some(0);
    plan.columns[0].key_part = Some(1);
    plan.key = vec![1, 0];
    let both = |id: i32, name: &str| [key(id), text(name)[1..].to_vec()].concat();
    let rows = with(&[0b0011, 0b0010], &[both(1, "old"), text("new")]);
    let (changes, keys) = read(&plan, Change::Update, &rows).unwrap();
    assert_eq!(changes, ["Tombstone Text(\"old\") I64(1)"]);
    assert_eq!(keys, [[b"new".as_slice(), &1_i32.to_le_bytes()].concat()]);
}

/// A key, a document, a text, another document.
fn documents() -> RowPlan {
    let mut columns = vec![
        column(Store::Fixed(4), ColumnKind::Signed),
        column(Store::Prefixed(4), ColumnKind::Json),
        column(Store::Prefixed(2), ColumnKind::Text(Charset::Utf8)),
        column(Store::Prefixed(4), ColumnKind::Json),
    ];
    columns[0].key_part = Some(0);
    RowPlan { columns, key: vec![0] }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_le_bytes(), bytes].concat()
}

/// `[1, 2]`
const ARRAY: &[u8] = &[2, 2, 0, 10, 0, 5, 1, 0, 5, 2, 0];

/// Replaces the first cell by 7.
const DIFF: &[u8] = &[0, 4, b'$', b'[', b'0', b']', 3, 5, 7, 0];

#[test]
fn differences_are_applied_where_the_before_image_has_the_document() {
    let row = |first: &[u8], second: &[u8]| {
        [vec![0], 1_i32.to_le_bytes().to_vec(), sized(first), vec![1, 0, b't'], sized(second)].concat()
    };
    let partial = |bits: u8, first: &[u8], second: &[u8]| {
        with(&[0x0f, 0x0f], &[row(ARRAY, ARRAY), vec![1, bits], row(first, second)])
    };
    for (rows, expected) in [
        (partial(0b01, DIFF, ARRAY), ("[7, 2]", "[1, 2]")),
        (partial(0b11, DIFF, b""), ("[7, 2]", "[1, 2]")),
        (partial(0b10, ARRAY, DIFF), ("[1, 2]", "[7, 2]")),
        // No options: documents.
        (with(&[0x0f, 0x0f], &[row(ARRAY, ARRAY), vec![0], row(ARRAY, ARRAY)]), ("[1, 2]", "[1, 2]")),
    ] {
        let (changes, keys) = read(&documents(), Change::PartialUpdate, &rows).unwrap();
        let (first, second) = expected;
        assert_eq!(changes, [format!("Update I64(1) Json({first:?}) Text(\"t\") Json({second:?})")]);
        assert!(keys.is_empty());
        for cut in 0..rows.len() {
            let _ = read(&documents(), Change::PartialUpdate, &rows[..cut]);
        }
    }
    // Nobody has the document: the row is read again.
    let rows = with(&[0b0001, 0b0010], &[key(1), vec![1, 0b01], [vec![0], sized(DIFF)].concat()]);
    let (changes, keys) = read(&documents(), Change::PartialUpdate, &rows).unwrap();
    assert_eq!((changes.len(), keys), (0, vec![1_i32.to_le_bytes().to_vec()]));
    let all = with(&[0b0001, 0b1111], &[key(1), vec![1, 0b01], row(DIFF, ARRAY)]);
    let (changes, keys) = read(&documents(), Change::PartialUpdate, &all).unwrap();
    assert_eq!((changes.len(), keys.len()), (0, 1));
}

#[test]
fn differences_that_do_not_fit_are_an_error() {
    let row = |nulls: u8, first: &[u8]| {
        [vec![nulls], 1_i32.to_le_bytes().to_vec(), first.to_vec(), vec![1, 0, b't'], sized(ARRAY)].concat()
    };
    let null = row(0b0010, b"");
    let beyond = &[0, 4, b'$', b'[', b'9', b']', 3, 5, 7, 0];
    for (rows, expected) in [
        (
            with(&[0x0f, 0x0f], &[row(0, &sized(ARRAY)), vec![1, 1], row(0, &sized(beyond))]),
            DiffError::Rejected,
        ),
        (
            with(&[0x0f, 0x0f], &[row(0, &sized(ARRAY)), vec![1, 1], row(0, &sized(b"\x00"))]),
            DiffError::Malformed,
        ),
        (with(&[0x0f, 0x0f], &[null, vec![1, 1], row(0, &sized(DIFF))]), DiffError::Rejected),
    ] {
        let error = read(&documents(), Change::PartialUpdate, &rows).unwrap_err();
        assert_eq!(error, DecodeError::Diff { column: 1, source: expected });
        assert!(error.is_garbled());
    }
    let rows = with(&[0x0f, 0x0f], &[row(0, &sized(ARRAY)), vec![2], row(0, &sized(ARRAY))]);
    let error = read(&documents(), Change::PartialUpdate, &rows).unwrap_err();
    assert_eq!(error, DecodeError::Options { options: 2 });
}

#[test]
fn each_prefix_of_an_event_in_part_is_an_error_or_fewer_rows() {
    let rows = with(&[0b0001, 0b0010], &[key(1), text("long enough"), key(2), text("x")]);
    for cut in 0..rows.len() {
        if let Ok((_, keys)) = read(&plan(), Change::Update, &rows[..cut]) {
            assert!(keys.len() < 2, "{cut}");
        }
    }
    assert_eq!(event(Change::Write, &[]).len(), 2);
}
