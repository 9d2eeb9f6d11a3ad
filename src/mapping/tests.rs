use super::rule::{DecimalAs, DeletesAs, JsonAs, Rule, ZeroDatesAs};
use super::*;
use crate::event::codec::{self, RowWriter};
use crate::event::gtid::Origin;
use crate::event::pattern::TablePattern;
use crate::event::value::{Date, DateTime, Instant, Time};
use crate::event::{Column, Gtid, Stamp};

fn schema(columns: &[(&str, ColumnType)], key: &[u16]) -> TableSchema {
    let column = |&(name, ty): &(&str, ColumnType)| Column { name: name.to_owned(), ty, nullable: true };
    TableSchema {
        name: TableName::new("shop", "Orders"),
        columns: columns.iter().map(column).collect(),
        key: key.to_vec(),
    }
}

fn row(values: &[Value<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RowWriter::new(&mut bytes);
    for value in values {
        writer.value(value);
    }
    bytes
}

/// The document of a table with one column.
fn document(ty: ColumnType, value: Value<'_>) -> String {
    let mapping = TableMapping::new(&schema(&[("c", ty)], &[0])).unwrap();
    let mut out = Vec::new();
    mapping.document(Op::Read, Row::new(&row(&[value])), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    text.strip_prefix("{\"c\":").unwrap().strip_suffix('}').unwrap().to_owned()
}

/// The id of a table whose key is all its columns, in reverse order.
fn id(values: &[Value<'_>]) -> String {
    let columns: Vec<(&str, ColumnType)> = values.iter().map(|_| ("c", ColumnType::Text)).collect();
    let key: Vec<u16> = (0..values.len() as u16).rev().collect();
    let mapping = TableMapping::new(&schema(&columns, &key)).unwrap();
    let reversed: Vec<Value<'_>> = values.iter().rev().copied().collect();
    let mut out = "left over".to_owned();
    mapping.id(Row::new(&row(&reversed)), &mut out).unwrap();
    out
}

const DATE: Date = Date { year: 2026, month: 11, day: 23 };

#[test]
fn every_type_prints_as_documented() {
    let integer = ColumnType::Integer { bits: 64, unsigned: true };
    assert_eq!(document(integer, Value::Null), "null");
    assert_eq!(document(integer, Value::I64(i64::MIN)), "-9223372036854775808");
    assert_eq!(document(integer, Value::U64(u64::MAX)), "18446744073709551615");
    assert_eq!(document(ColumnType::Year, Value::U64(0)), "0");
    assert_eq!(document(ColumnType::Float, Value::F32(0.1)), "0.1");
    assert_eq!(document(ColumnType::Float, Value::F32(16_777_216.0)), "16777216.0");
    assert_eq!(document(ColumnType::Double, Value::F64(0.1 + 0.2)), "0.30000000000000004");
    assert_eq!(document(ColumnType::Double, Value::F64(1e300)), "1e300");
    assert_eq!(document(ColumnType::Double, Value::F64(f64::NAN)), "null");
    assert_eq!(document(ColumnType::Float, Value::F32(f32::INFINITY)), "null");
    let decimal = ColumnType::Decimal { precision: 12, scale: 2 };
    for (digits, expected) in [
        ("-12.30", "-12.30"),
        ("0.00", "0.00"),
        ("007.50", "7.50"),
        ("-000", "-0"),
        (".5", "0.5"),
        ("99999999999999999999999999999.999", "99999999999999999999999999999.999"),
    ] {
        assert_eq!(document(decimal, Value::Decimal(digits)), expected);
    }
    assert_eq!(document(ColumnType::Varchar, Value::Text("007 \"é\"\n🦀")), "\"007 \\\"é\\\"\\n🦀\"");
    assert_eq!(document(ColumnType::Binary, Value::Bytes(b"")), "\"\"");
    assert_eq!(document(ColumnType::Binary, Value::Bytes(&[0, 0xff, 0xfe, 1])), "\"AP/+AQ==\"");
    assert_eq!(document(ColumnType::Json, Value::Json("{\"a\": [1, {}]}")), "{\"a\": [1, {}]}");
    assert_eq!(document(ColumnType::Json, Value::Json("[\n1]")), "[ 1]");
    assert_eq!(document(ColumnType::Enum, Value::Enum("")), "\"\"");
    assert_eq!(document(ColumnType::Set, Value::Set("")), "[]");
    assert_eq!(document(ColumnType::Set, Value::Set("a,b\"")), "[\"a\",\"b\\\"\"]");
}

#[test]
fn dates_and_times_have_exactly_their_digits() {
    assert_eq!(document(ColumnType::Date, Value::Date(DATE)), "\"2026-11-23\"");
    let micros = ((6 * 60 + 47) * 60 + 8) * 1_000_000 + 120_400;
    for (decimals, expected) in
        [(0, ""), (1, ".1"), (2, ".12"), (3, ".120"), (4, ".1204"), (5, ".12040"), (6, ".120400")]
    {
        let value = Value::DateTime(DateTime { date: DATE, micros, decimals });
        let expected_text = format!("\"2026-11-23T06:47:08{expected}\"");
        assert_eq!(document(ColumnType::DateTime { decimals }, value), expected_text);
        let value = Value::Instant(Instant { micros: 1_795_416_428_120_400, decimals });
        let expected_text = format!("\"2026-11-23T06:47:08{expected}Z\"");
        assert_eq!(document(ColumnType::Timestamp { decimals }, value), expected_text);
    }
    let time =
        |micros, decimals| document(ColumnType::Time { decimals }, Value::Time(Time { micros, decimals }));
    assert_eq!(time(0, 0), "\"00:00:00\"");
    assert_eq!(time(-1, 6), "\"-00:00:00.000001\"");
    assert_eq!(time(-3_020_399_000_001, 6), "\"-838:59:59.000001\"");
    assert_eq!(time(45_296_700_000, 1), "\"12:34:56.7\"");
}

#[test]
fn dates_that_no_calendar_knows_are_null() {
    for (year, month, day) in [
        (0, 0, 0),
        (2026, 0, 1),
        (2026, 1, 0),
        (0, 1, 1),
        (2026, 2, 29),
        (2026, 4, 31),
        (2026, 13, 1),
        (10_000, 1, 1),
    ] {
        let date = Date { year, month, day };
        assert_eq!(document(ColumnType::Date, Value::Date(date)), "null", "{date:?}");
        let value = Value::DateTime(DateTime { date, micros: 0, decimals: 0 });
        assert_eq!(document(ColumnType::DateTime { decimals: 0 }, value), "null", "{date:?}");
    }
    let leap = Value::Date(Date { year: 2000, month: 2, day: 29 });
    assert_eq!(document(ColumnType::Date, leap), "\"2000-02-29\"");
    let zero = Value::Instant(Instant { micros: 0, decimals: 0 });
    assert_eq!(document(ColumnType::Timestamp { decimals: 0 }, zero), "null");
}

#[test]
fn a_document_has_every_column_in_row_order_and_ends_with_the_row() {
    let columns = [
        ("id", ColumnType::Integer { bits: 64, unsigned: false }),
        ("a \"b\"", ColumnType::Text),
        ("é", ColumnType::Text),
    ];
    let mapping = TableMapping::new(&schema(&columns, &[0])).unwrap();
    let mut bytes = row(&[Value::I64(7), Value::Null, Value::Text("x")]);
    bytes.extend_from_slice(&row(&[Value::I64(6)]));
    let mut out = b"before\n".to_vec();
    mapping.document(Op::Read, Row::new(&bytes), &mut out).unwrap();
    let expected = "before\n{\"id\":7,\"a \\\"b\\\"\":null,\"é\":\"x\"}";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut id = String::new();
    mapping.id(Row::new(&bytes), &mut id).unwrap();
    assert_eq!(id, "7");
    mapping.old_id(Row::new(&bytes), &mut id).unwrap();
    assert_eq!(id, "6");
    mapping.id_of_key(Row::new(&row(&[Value::I64(5)])), &mut id).unwrap();
    assert_eq!(id, "5");
}

#[test]
fn a_single_key_is_its_text() {
    assert_eq!(id(&[Value::I64(-1_000_000)]), "-1000000");
    assert_eq!(id(&[Value::U64(u64::MAX)]), "18446744073709551615");
    assert_eq!(id(&[Value::Text("a|b\\c")]), "a|b\\c");
    assert_eq!(id(&[Value::Bytes(&[0xfb, 0xff, 0])]), "-_8A");
    assert_eq!(id(&[Value::Decimal("-007.50")]), "-7.50");
    assert_eq!(id(&[Value::F32(0.1)]), "0.1");
    assert_eq!(id(&[Value::Date(DATE)]), "2026-11-23");
    assert_eq!(id(&[Value::Date(Date { year: 0, month: 0, day: 0 })]), "0000-00-00");
    let value = DateTime { date: DATE, micros: 1_000_000, decimals: 3 };
    assert_eq!(id(&[Value::DateTime(value)]), "2026-11-23T00:00:01.000");
    assert_eq!(id(&[Value::Instant(Instant { micros: 0, decimals: 3 })]), "@0");
    assert_eq!(id(&[Value::Time(Time { micros: -1_000_000, decimals: 0 })]), "-00:00:01");
}

#[test]
fn several_keys_are_joined_in_key_order() {
    assert_eq!(id(&[Value::I64(1), Value::Text("a|b\\"), Value::Text("")]), "1|a\\|b\\\\|");
}

#[test]
fn a_long_id_is_hashed_and_none_is_longer_than_the_engine_takes() {
    let text = "é".repeat(256);
    assert_eq!(id(&[Value::Text(&text)]), text);
    let text = format!("{text}x");
    let hashed = id(&[Value::Text(&text)]);
    assert_eq!(hashed, "sha256:2a0026761f981b40765e1bbfccbf305405e746c78776f352ae70fb13fb26e7bd");
}

#[test]
fn ids_of_different_keys_differ() {
    let texts = [
        "",
        "\\",
        "\\\\",
        "a",
        "|",
        "\\|",
        "a|",
        "sha256:",
        "\\sha256:",
        "\\\\sha256:",
        "sha256:x",
        "\\sha256:x",
        "s",
    ];
    let mut seen = std::collections::HashMap::new();
    for a in texts {
        // A table's ids only need to differ among themselves.
        assert_eq!(seen.insert((1, id(&[Value::Text(a)])), vec![a]), None, "{a}");
        for b in texts {
            let id = id(&[Value::Text(a), Value::Text(b)]);
            assert!(!id.is_empty() && !id.starts_with("sha256:"));
            assert_eq!(seen.insert((2, id), vec![a, b]), None, "{a} {b}");
        }
    }
    for (_, id) in seen.keys() {
        assert!(!id.is_empty() && !id.starts_with("sha256:"), "{id}");
    }
}

#[test]
fn a_null_key_is_an_error_that_names_the_column() {
    let mapping = TableMapping::new(&schema(&[("id", ColumnType::Text)], &[0])).unwrap();
    let error = mapping.id(Row::new(&row(&[Value::Null])), &mut String::new()).unwrap_err();
    assert!(error.to_string().contains("`id`") && error.to_string().contains("shop.Orders"), "{error}");
}

#[test]
fn a_cut_row_is_an_error_at_every_length() {
    let columns = [("a", ColumnType::Text), ("b", ColumnType::Text)];
    let mapping = TableMapping::new(&schema(&columns, &[1])).unwrap();
    let bytes = row(&[Value::Text("one"), Value::Text("two")]);
    for length in 0..bytes.len() {
        let row = Row::new(&bytes[..length]);
        assert!(matches!(mapping.document(Op::Read, row, &mut Vec::new()), Err(MappingError::Row { .. })));
        assert!(matches!(mapping.id(row, &mut String::new()), Err(MappingError::Row { .. })));
        assert!(matches!(mapping.old_id(row, &mut String::new()), Err(MappingError::Row { .. })));
    }
}

#[test]
fn the_alias_is_lower_case_and_the_fields_are_the_columns() {
    let integer = |bits, unsigned| ColumnType::Integer { bits, unsigned };
    let columns = [
        ("a", integer(8, true)),
        ("b", integer(24, true)),
        ("c", integer(32, true)),
        ("d", integer(64, true)),
        ("e", ColumnType::Bit { bits: 64 }),
        ("f", ColumnType::Bit { bits: 1 }),
        ("g", integer(8, false)),
    ];
    let mapping = TableMapping::new(&schema(&columns, &[0])).unwrap();
    assert_eq!(mapping.spec().alias, "shop.orders");
    let kinds: Vec<FieldKind> = mapping.spec().fields.iter().map(|field| field.kind).collect();
    use FieldKind::{Byte, Integer, Long, Short, UnsignedLong};
    assert_eq!(kinds, [Short, Integer, Long, UnsignedLong, UnsignedLong, Long, Byte]);
}

#[test]
fn what_the_engine_would_refuse_by_name_is_refused_with_table_and_column() {
    let error = TableMapping::new(&schema(&[("_id", ColumnType::Text)], &[0])).unwrap_err();
    assert!(error.to_string().contains("`_id`") && error.to_string().contains("shop.Orders"), "{error}");
    let mut wrong = schema(&[("id", ColumnType::Text)], &[0]);
    wrong.name.schema = "_x".into();
    assert!(matches!(TableMapping::new(&wrong), Err(MappingError::IndexName { .. })));
    for key in [&[][..], &[1]] {
        let wrong = schema(&[("id", ColumnType::Text)], key);
        assert!(matches!(TableMapping::new(&wrong), Err(MappingError::Key { .. })));
    }
}

#[test]
fn a_later_rule_wins_key_by_key_and_names_match_however_they_are_written() {
    let rule = |tables: &str, decimal, json| Rule {
        decimal,
        json,
        ..Rule::of(TablePattern::parse(tables).unwrap(), 1)
    };
    let rules = Rules(vec![
        rule("shop.*", Some(DecimalAs::String), Some(JsonAs::String)),
        rule("SHOP.orders", None, Some(JsonAs::Flattened)),
        rule("other.*", Some(DecimalAs::Number), None),
    ]);
    let columns = [("d", ColumnType::Decimal { precision: 9, scale: 2 }), ("j", ColumnType::Json)];
    let mapping = TableMapping::with_rules(&schema(&columns, &[0]), &rules).unwrap();
    let kinds: Vec<FieldKind> = mapping.spec().fields.iter().map(|field| field.kind).collect();
    assert_eq!(kinds, [FieldKind::Keyword, FieldKind::Flattened]);
    let tables = [TableName::new("shop", "orders")];
    assert_eq!(rules.without_a_table(&tables).collect::<Vec<_>>(), [&rules.0[2]]);
}

#[test]
fn by_rule_decimals_json_and_dates_that_no_calendar_knows_are_strings() {
    let rules = Rules(vec![Rule {
        decimal: Some(DecimalAs::String),
        zero_dates: Some(ZeroDatesAs::String),
        json: Some(JsonAs::String),
        ..Rule::of(TablePattern::parse("*.*").unwrap(), 1)
    }]);
    let date = |year, month, day| Date { year, month, day };
    let instant = ColumnType::Timestamp { decimals: 3 };
    let moment = ColumnType::DateTime { decimals: 6 };
    for (ty, value, expected) in [
        (ColumnType::Decimal { precision: 9, scale: 2 }, Value::Decimal("-007.50"), "\"-7.50\""),
        (ColumnType::Json, Value::Json("{\"a\": [1.10, \"é\"]}"), "\"{\\\"a\\\": [1.10, \\\"é\\\"]}\""),
        (ColumnType::Json, Value::Json("null"), "\"null\""),
        (ColumnType::Json, Value::Null, "null"),
        (ColumnType::Date, Value::Date(DATE), "\"2026-11-23\""),
        (ColumnType::Date, Value::Date(date(0, 0, 0)), "\"0000-00-00\""),
        (ColumnType::Date, Value::Date(date(2026, 2, 31)), "\"2026-02-31\""),
        (
            moment,
            Value::DateTime(DateTime { date: date(2026, 0, 1), micros: 1, decimals: 6 }),
            "\"2026-00-01T00:00:00.000001\"",
        ),
        (instant, Value::Instant(Instant { micros: 0, decimals: 3 }), "\"0000-00-00T00:00:00.000Z\""),
        // What no column holds.
        (instant, Value::Instant(Instant { micros: u64::MAX, decimals: 3 }), "null"),
        (ColumnType::Double, Value::F64(0.5), "0.5"),
    ] {
        let mapping = TableMapping::with_rules(&schema(&[("c", ty)], &[0]), &rules).unwrap();
        let mut out = Vec::new();
        mapping.document(Op::Read, Row::new(&row(&[value])), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), format!("{{\"c\":{expected}}}"));
    }
}

#[test]
fn by_rule_fields_have_other_names_and_their_columns_are_told_apart_still() {
    let columns = [("id", ColumnType::Integer { bits: 32, unsigned: false }), ("name", ColumnType::Text)];
    let by = |rename: &[(&str, &str)]| {
        let rename = rename.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        let rule = Rule { rename, ..Rule::of(TablePattern::parse("shop.*").unwrap(), 1) };
        TableMapping::with_rules(&schema(&columns, &[0]), &Rules(vec![rule]))
    };
    let mapping = by(&[("name", "ti\"tle"), ("absent", "x")]).unwrap();
    let mut out = Vec::new();
    mapping.document(Op::Read, Row::new(&row(&[Value::I64(7), Value::Text("a")])), &mut out).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#"{"id":7,"ti\"tle":"a"}"#);
    let names: Vec<&str> = mapping.spec().fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(names, ["id", "ti\"tle"]);
    assert_eq!(mapping.spec().renamed.len(), 1, "what the table has");
    // A name that the engine keeps for itself becomes usable, and no name becomes two columns'.
    assert!(by(&[("name", "id"), ("id", "name")]).is_ok());
    for rename in [&[("name", "id")][..], &[("name", "_id")], &[("name", "a.b")]] {
        assert!(matches!(by(rename), Err(MappingError::FieldName { .. })), "{rename:?}");
    }
}

#[test]
fn by_rule_documents_are_routed_by_columns_of_the_key_wherever_a_change_has_them() {
    let number = ColumnType::Integer { bits: 32, unsigned: false };
    let columns =
        [("name", ColumnType::Text), ("id", number), ("tenant", ColumnType::Text), ("area", number)];
    let by = |routing: &[&str]| {
        let routing = Some(routing.iter().map(|&name| name.to_owned()).collect());
        let rule = Rule { routing, ..Rule::of(TablePattern::parse("shop.*").unwrap(), 1) };
        TableMapping::with_rules(&schema(&columns, &[2, 1, 3]), &Rules(vec![rule]))
    };
    let whole = [Value::Text("n"), Value::I64(7), Value::Text("te|st"), Value::I64(3)];
    let key = [Value::Text("ol|d"), Value::I64(8), Value::I64(4)];
    let rekeyed = row(&[&whole[..], &key].concat());
    let (whole, key) = (row(&whole), row(&key));
    for (routing, now, before) in [
        (&["tenant"][..], "te|st", "ol|d"),
        (&["area"], "3", "4"),
        (&["area", "tenant"], "3|te\\|st", "4|ol\\|d"),
    ] {
        let mapping = by(routing).unwrap();
        let of = |op, verb, row| mapping.routing(op, verb, Row::new(row)).unwrap().unwrap();
        for (op, verb) in [
            (Op::Insert, Verb::Index),
            (Op::Update, Verb::Index),
            (Op::Read, Verb::Index),
            (Op::Delete, Verb::Delete),
        ] {
            assert_eq!(of(op, verb, &whole), now, "{op:?}");
        }
        assert_eq!(of(Op::Rekey, Verb::Index, &rekeyed), now);
        assert_eq!(of(Op::Rekey, Verb::Delete, &rekeyed), before);
        assert_eq!(of(Op::Tombstone, Verb::Delete, &key), before);
        assert_eq!(mapping.spec().routing, routing);
    }
    assert_eq!(by(&[]).unwrap().routing(Op::Insert, Verb::Index, Row::new(&whole)).unwrap(), None);
    for (column, why) in [("name", "not of the key"), ("nobody", "no such column")] {
        let error = by(&[column]).unwrap_err();
        assert!(matches!(error, MappingError::Routing { .. }) && error.to_string().contains(why), "{error}");
    }
}

#[test]
fn by_rule_documents_of_deleted_rows_stay_and_say_so() {
    let of = |deletes, column: &str| {
        let rule = Rule { deletes: Some(deletes), ..Rule::of(TablePattern::parse("*.*").unwrap(), 1) };
        TableMapping::with_rules(&schema(&[(column, ColumnType::Text)], &[0]), &Rules(vec![rule]))
    };
    let (marks, deletes) = (of(DeletesAs::Mark, "id").unwrap(), of(DeletesAs::Delete, "id").unwrap());
    let written = |mapping: &TableMapping, op| {
        let mut out = Vec::new();
        mapping.document(op, Row::new(&row(&[Value::Text("a")])), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    assert_eq!((marks.verb(Op::Delete), deletes.verb(Op::Delete)), (Verb::Index, Verb::Delete));
    assert_eq!((marks.verb(Op::Tombstone), marks.verb(Op::Rekey)), (Verb::Delete, Verb::Index));
    assert_eq!(written(&marks, Op::Delete), r#"{"id":"a","deleted":true}"#);
    assert_eq!(written(&marks, Op::Update), r#"{"id":"a"}"#);
    let field = marks.spec().fields.last().unwrap();
    assert_eq!((field.name.as_str(), field.kind), ("deleted", FieldKind::Boolean));
    assert_eq!((marks.spec().deleted.as_deref(), deletes.spec().deleted.as_deref()), (Some("deleted"), None));
    let error = of(DeletesAs::Mark, "deleted").unwrap_err().to_string();
    assert!(error.contains("by `rename`"), "{error}");
}

#[test]
fn by_rule_documents_say_by_what_they_became_what_they_are() {
    let of = |metadata: &str| {
        let rule = |metadata: &str| Rule {
            metadata: Some(metadata.to_owned()),
            deletes: Some(DeletesAs::Mark),
            ..Rule::of(TablePattern::parse("*.*").unwrap(), 1)
        };
        let rules = Rules(vec![rule("before"), rule(metadata)]);
        TableMapping::with_rules(&schema(&[("id", ColumnType::Text)], &[0]), &rules)
    };
    let written = |mapping: &TableMapping, op, stamp: Option<&Stamp>| {
        let (mut out, mut bytes) = (Vec::new(), Vec::new());
        stamp.inspect(|stamp| codec::encode(*stamp, &mut bytes));
        let stamp = stamp.map(|_| &bytes[..]);
        mapping.stamped_document((op, stamp), Row::new(&row(&[Value::Text("a")])), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let mapping = of("m\"").unwrap();
    let gtid = |number| Gtid { origin: Origin::Domain { domain: 1, server: 2 }, number };
    let stamp = Stamp { time_micros: 1_763_880_000_000_007, gtid: Some(gtid(3)) };
    assert_eq!(
        written(&mapping, Op::Rekey, Some(&stamp)),
        r#"{"id":"a","m\"":{"operation":"update","time":"2025-11-23T06:40:00.000007Z","gtid":"1-2-3"}}"#
    );
    let unnamed = Stamp { gtid: None, ..stamp };
    assert_eq!(
        written(&mapping, Op::Delete, Some(&unnamed)),
        r#"{"id":"a","deleted":true,"m\"":{"operation":"delete","time":"2025-11-23T06:40:00.000007Z"}}"#
    );
    assert_eq!(written(&mapping, Op::Read, None), r#"{"id":"a","m\"":{"operation":"snapshot"}}"#);
    assert_eq!(mapping.spec().fields.last().unwrap().kind, FieldKind::Metadata);
    let error =
        mapping.stamped_document((Op::Insert, Some(&[1])), Row::new(&row(&[Value::Null])), &mut Vec::new());
    assert!(matches!(error, Err(MappingError::Row { .. })));
    let none = of("").unwrap();
    assert_eq!(
        (written(&none, Op::Insert, Some(&unnamed)), none.spec().metadata.clone()),
        (r#"{"id":"a"}"#.to_owned(), None)
    );
    for taken in ["id", "deleted", "a.b.."] {
        assert!(matches!(of(taken), Err(MappingError::FieldName { .. })), "{taken}");
    }
}

#[test]
fn by_rule_an_alias_is_made_of_the_tables_name() {
    let index = Some(super::template::IndexTemplate::parse("search-{table}").unwrap());
    let rules = Rules(vec![Rule { index, ..Rule::of(TablePattern::parse("*.*").unwrap(), 1) }]);
    let schema = schema(&[("id", ColumnType::Text)], &[0]);
    assert_eq!(TableMapping::with_rules(&schema, &rules).unwrap().spec().alias, "search-orders");
    assert_eq!(behind(&schema.name, &rules).unwrap(), Behind::Alias("search-orders".to_owned()));
    let odd = TableName::new("shop", "a b");
    assert!(matches!(behind(&odd, &rules), Err(MappingError::IndexName { .. })));
}

#[test]
fn by_rule_an_alias_is_made_of_columns_of_the_key_wherever_a_change_has_them() {
    let number = ColumnType::Integer { bits: 32, unsigned: false };
    let columns = [("name", ColumnType::Text), ("id", number), ("day", ColumnType::Date), ("area", number)];
    let by = |index: &str| {
        let index = Some(super::template::IndexTemplate::parse(index).unwrap());
        let rule = Rule { index, ..Rule::of(TablePattern::parse("shop.*").unwrap(), 1) };
        TableMapping::with_rules(&schema(&columns, &[2, 1, 3]), &Rules(vec![rule]))
    };
    let day = |day| Value::Date(Date { year: 2026, month: 11, day });
    let whole = [Value::Text("n"), Value::I64(7), day(29), Value::I64(3)];
    let key = [day(28), Value::I64(8), Value::I64(4)];
    let rekeyed = row(&[&whole[..], &key].concat());
    let (whole, key) = (row(&whole), row(&key));
    let mapping = by("o-{area}-{day:%m.%d}").unwrap();
    let of = |op, verb, row| {
        let mut out = "before".to_owned();
        mapping.alias(op, verb, Row::new(row), &mut out).map(|()| out).unwrap()
    };
    for (op, verb) in [(Op::Insert, Verb::Index), (Op::Read, Verb::Index), (Op::Delete, Verb::Delete)] {
        assert_eq!(of(op, verb, &whole), "o-3-11.29", "{op:?}");
    }
    assert_eq!(of(Op::Rekey, Verb::Index, &rekeyed), "o-3-11.29");
    assert_eq!(of(Op::Rekey, Verb::Delete, &rekeyed), "o-4-11.28");
    assert_eq!(of(Op::Tombstone, Verb::Delete, &key), "o-4-11.28");
    let Behind::ByRow(by_row) = mapping.spec().behind() else { panic!() };
    assert_eq!((&*by_row.pattern, &*by_row.template), ("o-*-*", "o-{area}-{day:%m.%d}"));
    for (index, why) in
        [("o-{name}", "not of the key"), ("o-{nobody}", "no such"), ("o-{id:%Y}", "none of DATE")]
    {
        let error = by(index).unwrap_err();
        assert!(matches!(error, MappingError::Index { .. }) && error.to_string().contains(why), "{error}");
    }
    assert!(matches!(by(&format!("{}-{{id}}", "x".repeat(190))), Err(MappingError::IndexName { .. })));
}
