use super::super::schema::{self, SchemaError};
use super::*;
use crate::event::ColumnType;

fn column(name: &str, full_type: &str, octets: Option<u64>) -> Column {
    let data_type = full_type.split(['(', ' ']).next().unwrap().to_owned();
    Column {
        name: name.into(),
        full_type: full_type.into(),
        data_type,
        nullable: false,
        octets,
        collation: None,
    }
}

#[test]
fn labels_are_those_that_the_server_would_print() {
    let labels = column("a", r"enum('a','b''c','d\\e','f\ng','x,y','(','')", None).labels();
    assert_eq!(labels, ["a", "b'c", "d\\e", "f\ng", "x,y", "(", ""]);
    assert_eq!(column("a", "set('1','2')", None).labels(), ["1", "2"]);
}

#[test]
fn types_are_compared_with_what_the_rows_have() {
    for (full_type, octets, ty, metadata) in [
        ("tinyint(1)", None, 1, &[][..]),
        ("int(5) unsigned zerofill", None, 3, &[]),
        ("decimal(10,2) unsigned", None, 246, &[10, 2]),
        ("float(10,2)", None, 4, &[4]),
        ("double", None, 5, &[8]),
        ("bit(13)", None, 16, &[5, 1]),
        ("date", None, 10, &[]),
        ("datetime(3)", None, 18, &[3]),
        ("datetime", None, 12, &[]),
        ("time", None, 19, &[0]),
        ("varchar(300)", Some(1200), 15, &[0xb0, 4]),
        ("char(10)", Some(40), 254, &[254, 40]),
        ("char(255)", Some(1020), 254, &[206, 252]),
        ("binary(4)", Some(4), 254, &[254, 4]),
        ("mediumtext", Some(16_777_215), 252, &[3]),
        ("json", None, 245, &[4]),
        ("enum('a','b')", Some(4), 254, &[247, 1]),
        ("set('1','2','3','4','5','6','7','8','9')", Some(40), 254, &[248, 2]),
        ("inet6", None, 254, &[254, 16]),
        ("inet4", None, 254, &[254, 4]),
        ("uuid", None, 254, &[254, 16]),
        ("vector(3)", Some(12), 15, &[12, 0]),
    ] {
        let column = column("a", full_type, octets);
        assert!(column.is_stored_as(ty, metadata, Family::Mariadb), "{full_type}");
        let others = [(8, &[][..]), (246, &[10, 3]), (15, &[0xb0, 5]), (254, &[247, 2]), (18, &[2])];
        assert!(
            others.iter().all(|(ty, metadata)| !column.is_stored_as(*ty, metadata, Family::Mariadb)),
            "{full_type}"
        );
    }
}

#[test]
fn a_map_is_completed_only_if_it_is_of_these_columns() {
    let asked = Asked {
        columns: vec![column("id", "int unsigned", None), column("e", "enum('x','y')", Some(4))],
        key: vec!["id".into()],
        ..Asked::default()
    };
    // Two columns, not NULL; the first unsigned.
    let map =
        |types: [u8; 2], nulls: u8, signs: u8| vec![2, types[0], types[1], 2, 247, 1, nulls, 1, 1, signs];
    let described = |map: Vec<u8>| {
        let bytes = asked.describe(&Description::parse(&map).unwrap(), Family::Mysql)?;
        let whole = Description::parse(&bytes).unwrap();
        assert!(whole.is_whole(Family::Mysql));
        Ok(whole
            .names()
            .unwrap()
            .iter()
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect::<Vec<_>>())
    };
    assert_eq!(described(map([3, 254], 0, 0x80)), Ok(vec!["id".to_owned(), "e".to_owned()]));
    assert_eq!(described(map([8, 254], 0, 0x80)), Err(Unlike::Column("id".into())));
    assert_eq!(described(map([3, 254], 2, 0x80)), Err(Unlike::Column("e".into())), "it may be NULL");
    assert_eq!(described(map([3, 254], 0, 0)), Err(Unlike::Column("id".into())), "it is signed");
    let one = vec![1, 3, 0, 0];
    assert_eq!(described(one.clone()), Err(Unlike::Count { has: 2, rows: 1 }));
    let one = Description::parse(&one).unwrap();
    assert_eq!(Asked::default().describe(&one, Family::Mysql), Err(Unlike::NoTable));
}

/// A whole map of a key and of a column as BINARY or VARBINARY, of this collation.
fn binary(ty: u8, metadata: [u8; 2], collation: u8) -> Vec<u8> {
    let head = [2, 3, ty, 2, metadata[0], metadata[1], 0];
    [&head[..], &[1, 1, 0], &[2, 1, collation], &[4, 5, 2], b"id", &[1], b"b", &[8, 1, 0]].concat()
}

#[test]
fn what_a_map_of_mariadbs_does_not_tell_is_asked_for_and_kept_with_it() {
    let table = TableName::new("s", "t");
    let as_binary = binary(254, [254, 16], 63);
    for (full_type, map, ty) in [
        ("uuid", as_binary.clone(), ColumnType::Uuid),
        ("inet6", as_binary.clone(), ColumnType::Inet6),
        ("inet4", binary(254, [254, 4], 63), ColumnType::Inet4),
        ("vector(3)", binary(15, [12, 0], 63), ColumnType::Vector { dimensions: 3 }),
        ("binary(16)", as_binary, ColumnType::Binary),
        ("varbinary(12)", binary(15, [12, 0], 63), ColumnType::Binary),
    ] {
        let octets = Some(if full_type.contains("16") { 16 } else { 12 });
        let asked = Asked {
            columns: vec![column("id", "int", None), column("b", full_type, octets)],
            key: vec!["id".into()],
            ..Asked::default()
        };
        let own = Description::parse(&map).unwrap();
        assert!(own.is_whole(Family::Mysql) && !own.is_whole(Family::Mariadb), "{full_type}");
        let described = asked.describe(&own, Family::Mariadb).unwrap();
        let whole = Description::parse(&described).unwrap();
        assert!(whole.is_whole(Family::Mariadb), "{full_type}");
        let (schema, _) = schema::build(&table, &described, Family::Mariadb).unwrap();
        assert_eq!(schema.columns[1].ty, ty, "{full_type}");
        // The next map of the same table is completed by it.
        assert_eq!(own.completed_by(&whole), Some(described), "{full_type}");
    }
    // Nothing else is asked about: text, and bytes of other lengths.
    for whole in [
        binary(254, [254, 16], 45),
        binary(15, [12, 0], 45),
        binary(254, [254, 15], 63),
        binary(15, [13, 0], 63),
    ] {
        assert!(Description::parse(&whole).unwrap().is_whole(Family::Mariadb), "{whole:?}");
    }
}

#[test]
fn a_type_that_the_column_cannot_be_of_is_refused() {
    let map = binary(254, [254, 16], 63);
    for natives in [&[1, 2, 0][..], &[1, 4, 3], &[0, 1, 0], &[1, 5, 0], &[1, 1, 1], &[1, 1]] {
        let described = [&map[..], &[128, natives.len() as u8], natives].concat();
        let built = schema::build(&TableName::new("s", "t"), &described, Family::Mariadb);
        assert_eq!(built.unwrap_err(), SchemaError::Malformed, "{natives:?}");
    }
}
