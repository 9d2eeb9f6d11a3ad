use super::*;
use crate::event::ColumnType;
use crate::source::mysql::charset::Charset;
use crate::source::mysql::decode::{ColumnKind, Store};

/// A table map's body, optional fields as (type, value).
pub(crate) fn body(
    names: (&str, &str),
    types: &[u8],
    metadata: &[u8],
    nulls: &[u8],
    optional: &[(u8, &[u8])],
) -> Vec<u8> {
    let mut bytes = vec![5, 0, 0, 0, 0, 0, 1, 0];
    for name in [names.0, names.1] {
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(0);
    }
    bytes.push(types.len() as u8);
    bytes.extend_from_slice(types);
    bytes.push(metadata.len() as u8);
    bytes.extend_from_slice(metadata);
    bytes.extend_from_slice(nulls);
    for (field, value) in optional {
        bytes.push(*field);
        bytes.push(value.len() as u8);
        bytes.extend_from_slice(value);
    }
    bytes
}

/// `id INT UNSIGNED PRIMARY KEY, y YEAR, n TINYINT, c CHAR(300) latin1 NULL, b BINARY(9), e ENUM('x','y')`
fn shop() -> Vec<u8> {
    body(
        ("shop", "orders"),
        &[3, 13, 1, 254, 254, 254],
        // CHAR(300): 300 = 0x12c, so 0x100 of it inverted in the type; BINARY(9); ENUM of one byte.
        &[254 ^ 0x10, 0x2c, 254, 9, 247, 1],
        &[0b1000],
        &[
            (1, &[0b1100_0000]),
            (2, &[8, 1, 63]),
            (4, b"\x02id\x01y\x01n\x01c\x01b\x01e"),
            (6, b"\x02\x01x\x01y"),
            (8, &[0]),
            (10, &[8]),
            (12, &[0xff]),
            (99, b"whatever comes later"),
        ],
    )
}

fn built(bytes: &[u8]) -> Result<(TableSchema, RowPlan), SchemaError> {
    let map = TableMap::parse(bytes)?;
    build(&map.name(), map.shape, Family::Mysql)
}

#[test]
fn a_table_map_says_names_types_signs_and_key() {
    let (schema, plan) = built(&shop()).unwrap();
    assert_eq!(schema.name.to_string(), "shop.orders");
    let described: Vec<_> = schema.columns.iter().map(|c| (c.name.as_str(), c.ty, c.nullable)).collect();
    assert_eq!(
        described,
        [
            ("id", ColumnType::Integer { bits: 32, unsigned: true }, false),
            // YEAR takes a bit of signedness: TINYINT behind it is signed.
            ("y", ColumnType::Year, false),
            ("n", ColumnType::Integer { bits: 8, unsigned: false }, false),
            ("c", ColumnType::Varchar, true),
            ("b", ColumnType::Binary, false),
            ("e", ColumnType::Enum, false),
        ]
    );
    assert_eq!(schema.key, [0]);
    assert_eq!(plan.columns[3].store, Store::Prefixed(2));
    assert_eq!(plan.columns[4].kind, ColumnKind::PaddedBytes(9));
    assert_eq!(plan.columns[5].kind, ColumnKind::Enum(vec!["x".to_owned(), "y".to_owned()].into()));
}

#[test]
fn a_map_without_names_or_key_is_no_description() {
    let bytes = body(("s", "t"), &[3], &[], &[0], &[(1, &[0])]);
    assert_eq!(built(&bytes).unwrap_err(), SchemaError::Minimal);
    let bytes = body(("s", "t"), &[3], &[], &[0], &[(4, b"\x01a")]);
    assert_eq!(built(&bytes).unwrap_err(), SchemaError::NoKey);
}

#[test]
fn a_key_over_prefixes_is_a_key_over_whole_columns() {
    let bytes =
        body(("s", "t"), &[15, 3], &[0, 4], &[0], &[(2, &[45]), (4, b"\x01a\x01b"), (9, &[0, 10, 1, 0])]);
    let (schema, plan) = built(&bytes).unwrap();
    assert_eq!(schema.key, [0, 1]);
    assert_eq!((plan.columns[0].key_part, plan.columns[1].key_part), (Some(0), Some(1)));
}

#[test]
fn types_and_character_sets_that_are_not_decoded_are_named() {
    for (ty, metadata, named) in
        [(0, &[][..], "before MySQL 5.0"), (20, &[], "TYPED ARRAY"), (200, &[], "200")]
    {
        let bytes = body(("s", "t"), &[ty], metadata, &[0], &[(4, b"\x03col"), (8, &[0])]);
        let text = built(&bytes).unwrap_err().to_string();
        assert!(text.contains(named) && text.contains("col"), "{text}");
    }
    let bytes = body(("s", "t"), &[15], &[9, 0], &[0], &[(2, &[252, 5, 4]), (4, b"\x03col"), (8, &[0])]);
    let text = built(&bytes).unwrap_err().to_string();
    assert!(text.contains("1029") && text.contains("col"), "{text}");
}

/// As MySQL 9.7 and MariaDB 11.8 wrote them.
#[test]
fn a_vector_counts_as_text_and_a_geometry_does_at_mariadb_alone() {
    // g POINT, a VARCHAR(10) latin1, v VECTOR(3), b VARCHAR(10) cp1251, w VECTOR(300)
    let types = [255, 15, 242, 15, 242];
    let mysql = body(
        ("s", "t"),
        &types,
        &[4, 10, 0, 4, 10, 0, 4],
        &[0x1f],
        &[
            (1, &[]),
            (3, &[8, 63, 51, 63]),
            (7, &[1]),
            (13, &[3, 252, 0x2c, 1]),
            (4, b"\x01g\x01a\x01v\x01b\x01w"),
            (8, &[1]),
        ],
    );
    let (schema, plan) = built(&mysql).unwrap();
    let found: Vec<_> = schema.columns.iter().map(|column| column.ty).collect();
    let vector = |dimensions| ColumnType::Vector { dimensions };
    assert_eq!(
        found,
        [ColumnType::Geometry, ColumnType::Varchar, vector(3), ColumnType::Varchar, vector(300)]
    );
    assert_eq!(plan.columns[3].kind, ColumnKind::Text(Charset::of_collation(51).unwrap()));
    assert_eq!((plan.columns[0].store, plan.columns[2].store), (Store::Prefixed(4), Store::Prefixed(4)));

    // i6 INET6 (which it calls BINARY(16)), g POINT, t VARCHAR(10) latin1
    let mariadb = body(
        ("s", "t"),
        &[254, 255, 15],
        &[254, 16, 4, 10, 0],
        &[7],
        &[(1, &[]), (2, &[63, 2, 8]), (7, &[1]), (4, b"\x02i6\x01g\x01t"), (8, &[0])],
    );
    let map = TableMap::parse(&mariadb).unwrap();
    let (_, plan) = build(&map.name(), map.shape, Family::Mariadb).unwrap();
    assert_eq!(plan.columns[2].kind, ColumnKind::Text(Charset::of_collation(8).unwrap()));
}

#[test]
fn a_set_has_at_most_64_labels() {
    let table = |count: u8| {
        let mut labels = vec![count];
        (0..count).for_each(|_| labels.extend_from_slice(b"\x01x"));
        let optional: &[(u8, &[u8])] = &[(4, b"\x02id\x01s"), (5, &labels), (8, &[0]), (10, &[8])];
        built(&body(("s", "t"), &[3, 254], &[248, 8], &[0], optional))
    };
    assert!(table(64).is_ok());
    assert_eq!(table(65).unwrap_err(), SchemaError::Malformed);
}

#[test]
fn shapes_differ_where_documents_of_the_old_one_would_be_others_now() {
    let table = |columns: &[(&str, u8, &[u8])], key: &[u8]| {
        let types: Vec<u8> = columns.iter().map(|(_, ty, _)| *ty).collect();
        let metadata: Vec<u8> = columns.iter().flat_map(|(.., metadata)| metadata.to_vec()).collect();
        let names: Vec<u8> =
            columns.iter().flat_map(|(name, ..)| [&[name.len() as u8], name.as_bytes()].concat()).collect();
        let charsets = [45, 1, 63];
        built(&body(("s", "t"), &types, &metadata, &[0], &[(2, &charsets), (4, &names), (8, key)])).unwrap()
    };
    let old: [(&str, u8, &[u8]); 3] = [("id", 3, &[]), ("a", 15, &[40, 0]), ("b", 254, &[254, 4])];
    let (schema, plan) = table(&old, &[0]);
    let differ = |columns: &[(&str, u8, &[u8])], key: &[u8]| {
        let (new, new_plan) = table(columns, key);
        difference((&schema, &plan), (&new, &new_plan)).unwrap_or_default()
    };
    let [id, a, b] = old;
    assert_eq!(differ(&[id, a, b], &[0]), "");
    assert_eq!(differ(&[("x", 1, &[]), a, b, ("c", 3, &[]), id], &[4]), "", "added, and in another order");
    assert_eq!(differ(&[("id", 8, &[]), ("a", 252, &[2]), ("b", 15, &[9, 0])], &[0]), "", "wider");
    assert_eq!(differ(&[id, a], &[0]), "its rows have no column b any more");
    assert_eq!(differ(&[id, ("A", 15, &[40, 0]), b], &[0]), "its rows have no column a any more");
    assert_eq!(differ(&[id, ("a", 3, &[]), ("b", 15, &[4, 0])], &[0]), "its column a is of another type");
    assert_eq!(
        differ(&[id, a, ("b", 254, &[254, 5])], &[0]),
        "its column b is of another type",
        "padded more"
    );
    assert_eq!(differ(&[id, a, b], &[1, 0]), "its rows are told apart by (a, id), by (id) before");
}

#[test]
fn a_columns_length_is_known_in_bytes_and_characters() {
    let before = |column| {
        let map = shop();
        before(TableMap::parse(&map).unwrap().shape, Family::Mysql, column)
    };
    let lengths = |column| before(column).map(|known| (known.padded, known.bytes, known.chars));
    assert_eq!(lengths("c"), Some((true, 300, 300)), "latin1");
    assert_eq!(lengths("b"), Some((true, 9, 9)));
    assert_eq!(before("e").unwrap().labels, ["x", "y"]);
    assert_eq!(before("C"), None);
    let bytes = body(
        ("s", "t"),
        &[15, 252],
        &[200, 0, 2],
        &[3],
        &[(3, &[255 - 21, 45]), (4, b"\x01a\x01b"), (8, &[0])],
    );
    let map = TableMap::parse(&bytes).unwrap();
    let known = |column| super::before(map.shape, Family::Mysql, column).unwrap();
    assert_eq!((known("a").bytes, known("a").chars, known("a").nullable), (200, 50, true), "utf8mb4");
    assert_eq!((known("b").bytes, known("b").chars), (65_535, 65_535));
}

#[test]
fn each_prefix_and_random_changes_are_errors_and_never_panic() {
    let whole = shop();
    for length in 0..whole.len() {
        let _ = built(&whole[..length]);
    }
    assert!((0..50).all(|length| built(&whole[..length]).is_err()));
    let mut state = 0x0dd0_feed_5eed_1234_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() % bytes.len();
            bytes[at] = random() as u8;
        }
        let _ = built(&bytes);
    }
}
