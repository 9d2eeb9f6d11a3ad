use super::*;

fn column(name: &str, full_type: &str, octets: Option<u64>) -> Column {
    let data_type = full_type.split(['(', ' ']).next().unwrap().to_owned();
    Column { name: name.into(), full_type: full_type.into(), data_type, nullable: false, octets }
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
    ] {
        let column = column("a", full_type, octets);
        assert!(column.is_stored_as(ty, metadata), "{full_type}");
        let others = [(8, &[][..]), (246, &[10, 3]), (15, &[0xb0, 5]), (254, &[247, 2]), (18, &[2])];
        let known = column.data_type != "inet6";
        assert!(
            others.iter().all(|(ty, metadata)| column.is_stored_as(*ty, metadata) != known),
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
        let bytes = asked.describe(&Description::parse(&map).unwrap())?;
        let whole = Description::parse(&bytes).unwrap();
        assert!(whole.is_whole());
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
    assert_eq!(Asked::default().describe(&Description::parse(&one).unwrap()), Err(Unlike::NoTable));
}
