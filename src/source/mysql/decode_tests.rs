use super::*;
use crate::event::Value;
use crate::log::record::{Change as Read, Kind};
use crate::source::mysql::wire::signed;

pub(super) fn column(store: Store, kind: ColumnKind) -> ColumnPlan {
    ColumnPlan { store, kind, key_part: None }
}

/// An integer key, a text, a BINARY(4) and a SET.
pub(super) fn plan() -> RowPlan {
    let labels = ["a", "b", "c"].map(str::to_owned).to_vec().into_boxed_slice();
    let mut columns = vec![
        column(Store::Fixed(4), ColumnKind::Signed),
        column(Store::Prefixed(2), ColumnKind::Text(Charset::Utf8)),
        column(Store::Prefixed(1), ColumnKind::PaddedBytes(4)),
        column(Store::Fixed(1), ColumnKind::Set(labels)),
    ];
    columns[0].key_part = Some(0);
    RowPlan { columns, key: vec![0] }
}

pub(super) fn image(id: i32, text: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.extend_from_slice(&[2, 0xff, 1, 0b101]);
    bytes
}

fn decode(change: Change, rows: &[u8]) -> Result<(Batch, u64), DecodeError> {
    let mut batch = Batch::new();
    let mut decoder = Decoder::new(1 << 20);
    decoder.rows(&plan(), TableNo(7), change, Wire::new(rows), &mut batch, &mut Owed::default())?;
    Ok((batch, decoder.replaced))
}

pub(super) fn event(change: Change, images: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![4, 0xff];
    if change == Change::Update {
        bytes.push(0x0f);
    }
    images.iter().for_each(|image| bytes.extend_from_slice(image));
    bytes
}

pub(super) fn changes(batch: &Batch) -> Vec<String> {
    batch
        .payloads()
        .map(|(kind, payload)| {
            assert_eq!(kind, Kind::Change);
            let mut change = Read::decode(payload).unwrap();
            let mut text = format!("{:?}", change.op);
            while !change.row.rest().is_empty() {
                text.push_str(&format!(" {:?}", change.row.next_value().unwrap()));
            }
            text
        })
        .collect()
}

#[test]
fn each_change_says_what_it_did() {
    let row = "Text(\"é\") Bytes([255, 1, 0, 0]) Set(\"a,c\")";
    let inserted = decode(Change::Write, &event(Change::Write, &[image(-1, "é"), image(2, "é")])).unwrap();
    assert_eq!(changes(&inserted.0), [format!("Insert I64(-1) {row}"), format!("Insert I64(2) {row}")]);
    let updated = decode(Change::Update, &event(Change::Update, &[image(1, "x"), image(1, "é")])).unwrap();
    assert_eq!(changes(&updated.0), [format!("Update I64(1) {row}")]);
    let rekeyed = decode(Change::Update, &event(Change::Update, &[image(1, "x"), image(2, "é")])).unwrap();
    assert_eq!(changes(&rekeyed.0), [format!("Rekey I64(2) {row} I64(1)")]);
    let deleted = decode(Change::Delete, &event(Change::Delete, &[image(3, "é")])).unwrap();
    assert_eq!(changes(&deleted.0), [format!("Delete I64(3) {row}")]);
}

#[test]
fn keys_that_differ_only_in_what_cannot_be_read_are_one() {
    let mut plan = plan();
    plan.columns[0].key_part = None;
    plan.columns[1].key_part = Some(0);
    plan.key = vec![1];
    let bad = |byte: u8| {
        let mut bytes = vec![0, 1, 0, 0, 0, 1, 0, byte];
        bytes.extend_from_slice(&[0, 0]);
        bytes
    };
    let mut batch = Batch::new();
    let rows = event(Change::Update, &[bad(0xfe), bad(0xff)]);
    let mut decoder = Decoder::new(1 << 20);
    decoder
        .rows(&plan, TableNo(7), Change::Update, Wire::new(&rows), &mut batch, &mut Owed::default())
        .unwrap();
    assert!(changes(&batch)[0].starts_with("Update I64(1) Text(\"\u{fffd}\")"));
    assert!(decoder.replaced > 0);
    assert_eq!(decoder.replaced_in, [1], "each column once");
}

#[test]
fn nulls_take_no_bytes() {
    let rows = event(Change::Write, &[vec![0b1110, 9, 0, 0, 0]]);
    assert_eq!(changes(&decode(Change::Write, &rows).unwrap().0), ["Insert I64(9) Null Null Null"]);
}

#[test]
fn an_event_has_as_many_columns_as_its_table() {
    // Bits past the last column mean nothing.
    let mut rows = event(Change::Write, &[image(1, "x")]);
    rows[1] = 0x0f;
    assert!(decode(Change::Write, &rows).is_ok());
    rows[0] = 5;
    assert_eq!(decode(Change::Write, &rows).unwrap_err(), DecodeError::Width { found: 5, expected: 4 });
}

#[test]
fn a_row_over_the_limit_is_refused_by_size() {
    let rows = event(Change::Write, &[image(1, &"x".repeat(1_000))]);
    let mut batch = Batch::new();
    let error = Decoder::new(500)
        .rows(&plan(), TableNo(7), Change::Write, Wire::new(&rows), &mut batch, &mut Owed::default())
        .unwrap_err();
    assert!(matches!(error, DecodeError::TooLarge { limit: 500, .. }) && !error.is_garbled());
    assert!(batch.is_empty());
}

#[test]
fn each_prefix_of_an_event_is_an_error_and_leaves_whole_frames() {
    for change in [Change::Write, Change::Update, Change::Delete] {
        let rows = event(change, &[image(1, "text"), image(2, "text")]);
        let whole = changes(&decode(change, &rows).unwrap().0).len();
        for length in 0..rows.len() {
            // Only a cut between two rows is no error.
            if let Ok((batch, _)) = decode(change, &rows[..length]) {
                assert!(changes(&batch).len() < whole);
            }
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut state = 0x1234_5678_9abc_def1_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    let kinds = [
        (Store::Fixed(8), ColumnKind::Unsigned),
        (Store::Fixed(4), ColumnKind::Float),
        (Store::Fixed(5), ColumnKind::Decimal(Decimal::new(10, 2).unwrap())),
        (Store::Fixed(1), ColumnKind::Year),
        (Store::Fixed(8), ColumnKind::DateTime(6)),
        (Store::Fixed(7), ColumnKind::Timestamp(6)),
        (Store::Fixed(6), ColumnKind::Time(6)),
        (Store::Fixed(1), ColumnKind::Enum(vec!["x".to_owned()].into())),
        (Store::Prefixed(4), ColumnKind::Json),
        (Store::Prefixed(1), ColumnKind::Text(Charset::Utf16)),
        (Store::Prefixed(1), ColumnKind::Geometry),
        (Store::Prefixed(1), ColumnKind::Vector),
        (Store::Prefixed(1), ColumnKind::Uuid),
        (Store::Prefixed(1), ColumnKind::Inet4),
        (Store::Prefixed(1), ColumnKind::Inet6),
    ];
    let columns: Vec<ColumnPlan> =
        kinds.into_iter().map(|(store, kind)| ColumnPlan { store, kind, key_part: Some(0) }).collect();
    let plan = RowPlan { columns, key: vec![0] };
    for _ in 0..20_000 {
        let mut bytes = vec![15, 0xff, 0xff, 0xff, 0xff, 0, 0];
        bytes.extend((0..random() % 200).map(|_| random() as u8));
        for change in [Change::Write, Change::Update, Change::PartialUpdate, Change::Delete] {
            let mut batch = Batch::new();
            // With and without all columns.
            bytes[1] = bytes.last().copied().unwrap_or(0xff) | 0xf0;
            let _ = Decoder::new(1 << 16).rows(
                &plan,
                TableNo(1),
                change,
                Wire::new(&bytes),
                &mut batch,
                &mut Owed::default(),
            );
            assert_eq!(batch.payloads().count(), batch.frames());
        }
    }
}

#[test]
fn geometries_vectors_and_mariadbs_types_are_checked_and_kept() {
    let kinds = [ColumnKind::Geometry, ColumnKind::Vector, ColumnKind::Uuid, ColumnKind::Inet4];
    let columns: Vec<ColumnPlan> = kinds.into_iter().map(|kind| column(Store::Prefixed(1), kind)).collect();
    let plan = RowPlan { columns, key: vec![2] };
    let decoded = |values: [&[u8]; 4]| {
        let mut rows = vec![4, 0xff, 0];
        for value in values {
            rows.push(value.len() as u8);
            rows.extend_from_slice(value);
        }
        let mut batch = Batch::new();
        Decoder::new(1 << 16).rows(
            &plan,
            TableNo(7),
            Change::Write,
            Wire::new(&rows),
            &mut batch,
            &mut Owed::default(),
        )?;
        Ok::<_, DecodeError>(changes(&batch).concat())
    };
    let point =
        [&[0xe6, 0x10, 0, 0, 1, 1, 0, 0, 0][..], &1.5_f64.to_le_bytes(), &2.0_f64.to_le_bytes()].concat();
    let vector = 0.5_f32.to_le_bytes();
    let text = decoded([&point, &vector, &[0x01, 0x23], &[10]]).unwrap();
    assert!(text.contains("Geometry(Geometry { srid: 4326, wkb: [1, 1, 0, 0, 0,"), "{text}");
    assert!(
        text.contains(
            "Vector([0, 0, 0, 63]) Text(\"01230000-0000-0000-0000-000000000000\") Text(\"10.0.0.0\")"
        ),
        "{text}"
    );
    for (column, values) in [
        (0, [&point[..20], &vector, &[], &[]]),
        (0, [&[][..], &vector, &[], &[]]),
        (1, [&point[..], &vector[..3], &[], &[]]),
        (2, [&point[..], &vector, &[1; 17], &[]]),
        (3, [&point[..], &vector, &[], &[1; 5]]),
    ] {
        assert_eq!(decoded(values), Err(DecodeError::Value { column }), "{values:?}");
    }
}

#[test]
fn headers_of_both_versions_lead_to_the_columns() {
    let first = [1, 0, 0, 0, 0, 0, 1, 0, 4, 0xff];
    let header = RowsHeader::parse(&first, 1).unwrap();
    assert_eq!((header.table_id, header.ends_statement, header.rest.rest()), (1, true, &[4, 0xff][..]));
    let second = [1, 0, 0, 0, 0, 1, 0, 0, 4, 0, 9, 9, 4];
    let header = RowsHeader::parse(&second, 2).unwrap();
    assert_eq!((header.table_id, header.ends_statement), (1 | 1 << 40, false));
    assert_eq!(header.rest.rest(), &[4]);
    assert!(RowsHeader::parse(&[0, 0, 0, 0, 0, 0, 0, 0, 1, 0], 2).is_err());
}

#[test]
fn integers_of_all_widths_keep_their_sign() {
    for (raw, value) in [
        (&[0x80][..], -128),
        (&[0x7f], 127),
        (&[0xff, 0xff, 0xff], -1),
        (&[0, 0, 0x80], -8_388_608),
        (&[0xff; 8], -1),
        (&[0, 0, 0, 0, 0, 0, 0, 0x80], i64::MIN),
    ] {
        assert_eq!(signed(raw), value, "{raw:x?}");
    }
    let _: Value<'_> = Value::I64(signed(&[]));
}

#[test]
fn the_json_of_a_row_has_one_limit_and_a_large_value_leaves_no_memory_behind() {
    // An opaque value becomes base64, a third longer.
    let length = 6 << 20;
    let mut document = vec![0x0f, 252];
    document.extend([
        length as u8 | 0x80,
        (length >> 7) as u8 | 0x80,
        (length >> 14) as u8 | 0x80,
        (length >> 21) as u8,
    ]);
    document.resize(document.len() + length, 7);
    let mut columns = vec![column(Store::Fixed(4), ColumnKind::Signed)];
    columns.resize(3, column(Store::Prefixed(4), ColumnKind::Json));
    columns[0].key_part = Some(0);
    let plan = RowPlan { columns, key: vec![0] };
    let mut bytes = vec![3, 0xff, 0, 1, 0, 0, 0];
    for _ in 0..2 {
        bytes.extend_from_slice(&(document.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&document);
    }
    let decode = |limit: usize| {
        let (mut batch, mut decoder) = (Batch::new(), Decoder::new(limit));
        let result = decoder.rows(
            &plan,
            TableNo(1),
            Change::Write,
            Wire::new(&bytes),
            &mut batch,
            &mut Owed::default(),
        );
        (result, batch, decoder)
    };
    let (result, batch, decoder) = decode(32 << 20);
    assert_eq!((result, batch.changes()), (Ok(1), 1));
    assert!(decoder.scratch.capacity() <= MAX_KEPT);
    // Each column alone would fit.
    let (result, ..) = decode(14 << 20);
    assert_eq!(result, Err(DecodeError::Json { column: 2, source: JsonError::TooLong }));
}
