//! Column types with values at their edges, and keys of every kind.

/// A type, and literals that are tried in it; NULL is tried in all of them.
pub const SPECIMENS: &[(&str, &[&str])] = &[
    ("TINYINT", &["-128", "127", "0"]),
    ("TINYINT UNSIGNED", &["255"]),
    ("SMALLINT", &["-32768", "32767"]),
    ("SMALLINT UNSIGNED", &["65535"]),
    ("MEDIUMINT", &["-8388608", "8388607", "-1"]),
    ("MEDIUMINT UNSIGNED", &["16777215"]),
    ("INT", &["-2147483648", "2147483647"]),
    ("INT UNSIGNED", &["4294967295"]),
    ("BIGINT", &["-9223372036854775808", "9223372036854775807", "9007199254740993"]),
    ("BIGINT UNSIGNED", &["18446744073709551615", "9223372036854775808", "0"]),
    ("BOOLEAN", &["TRUE", "FALSE"]),
    ("DECIMAL(12,2)", &["12.30", "-0.01", "0", "9999999999.99", "-9999999999.99"]),
    (
        "DECIMAL(65,30)",
        &[
            "-12345678901234567890123456789012345.123456789012345678901234567890",
            "0.000000000000000000000000000001",
        ],
    ),
    ("DECIMAL(9,0)", &["-999999999", "100"]),
    ("DECIMAL(9,9)", &["0.123456789", "-0.000000001"]),
    ("FLOAT", &["0.1", "-3.4028235e38", "1.17549435e-38", "16777217", "1e-45", "0", "123456.789"]),
    (
        "DOUBLE",
        &["0.1", "1.7976931348623157e308", "5e-324", "-2.2250738585072014e-308", "9007199254740993", "1e21"],
    ),
    ("BIT(1)", &["b'1'", "b'0'"]),
    ("BIT(13)", &["b'1111111111111'", "b'1'"]),
    ("BIT(64)", &["b'1111111111111111111111111111111111111111111111111111111111111111'"]),
    ("CHAR(5)", &["''", "'ab   '", "'grüße'", "'👩‍👩‍👧'"]),
    ("VARCHAR(50)", &["''", "'trailing  '", "'\\0nul\\n\\\\\"'", "'😀🇩🇪'", "'\u{10ffff}'"]),
    ("VARCHAR(300) CHARACTER SET latin1", &["'grüße €'", "REPEAT('ÿ', 300)"]),
    ("VARCHAR(40) CHARACTER SET utf16", &["'a😀'"]),
    ("VARCHAR(40) CHARACTER SET utf16le", &["'a😀'"]),
    ("VARCHAR(40) CHARACTER SET sjis", &["'日本ｶﾅ'", "'表\\\\~'"]),
    ("TEXT CHARACTER SET ujis", &["'日本ｶﾅ丂'"]),
    ("CHAR(9) CHARACTER SET big5", &["'中文 x'"]),
    ("VARCHAR(9) CHARACTER SET greek", &["'Ωμέγα'"]),
    ("VARCHAR(9) CHARACTER SET swe7", &["'ÄÖÅäöå'"]),
    ("ENUM('中','x') CHARACTER SET gb2312", &["'中'"]),
    ("POINT", &["ST_GeomFromText('POINT(13.5 52.25)')", "ST_GeomFromText('POINT(-180 90)')"]),
    (
        "GEOMETRY",
        &[
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1.5 1))')",
            "ST_GeomFromText('POLYGON((0 0,0 9,9 9,0 0),(1 2,1 3,2 3,1 2))')",
            "ST_GeomFromText('MULTIPOLYGON(((0 0,0 1,1 1,0 0)))')",
        ],
    ),
    ("TINYTEXT", &["'short'"]),
    ("TEXT", &["REPEAT('ü', 30000)"]),
    ("LONGTEXT", &["REPEAT('text ', 100000)"]),
    ("BINARY(4)", &["X'00ff'", "X''", "X'20202020'", "X'61000000'"]),
    ("VARBINARY(300)", &["X'00ff00'", "X''", "REPEAT(X'fb', 300)"]),
    ("BLOB", &["X'c3280a'", "REPEAT(X'00', 40000)"]),
    ("DATE", &["'1000-01-01'", "'9999-12-31'", "'2024-02-29'", "'0000-00-00'", "'2024-00-00'"]),
    ("DATETIME", &["'1000-01-01 00:00:00'", "'9999-12-31 23:59:59'", "'0000-00-00'"]),
    ("DATETIME(3)", &["'2026-11-23 06:47:08.120'", "'0001-01-01 00:00:00.001'"]),
    ("DATETIME(6)", &["'2026-11-23 06:47:08.000001'", "'9999-12-31 23:59:59.999999'"]),
    ("TIMESTAMP NULL", &["'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'0000-00-00'"]),
    ("TIMESTAMP(1) NULL", &["'2026-11-23 06:47:08.9'"]),
    ("TIMESTAMP(6) NULL", &["'2026-11-23 06:47:08.000001'"]),
    ("TIME", &["'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'"]),
    ("TIME(1)", &["'-00:00:00.5'", "'12:34:56.7'"]),
    ("TIME(6)", &["'-838:59:58.999999'", "'00:00:00.000001'", "'-01:00:00.000001'"]),
    ("YEAR", &["1901", "2155", "'0000'"]),
    ("ENUM('a','größe','with ''quote''','x,y')", &["'a'", "'größe'", "'with ''quote'''", "'x,y'"]),
    ("SET('a','größe','c')", &["''", "'a'", "'a,größe,c'", "'c'"]),
    ("SET('1','2','3','4','5','6','7','8','9')", &["'9'", "'1,8,9'"]),
    (
        "JSON",
        &[
            r#"'{"a": {"b": ["x", "y"]}, "n": null, "t": true, "f": false}'"#,
            r#"'{"int": -9223372036854775808, "double": 0.1, "small": 1e-7, "text": "😀\\n\\\\u0001"}'"#,
            r#"JSON_OBJECT('int', 9223372036854775807, 'long', REPEAT('x', 70000))"#,
            r#"JSON_OBJECT('decimal', CAST(12.30 AS DECIMAL(10,2)), 'date', CAST('2026-11-23' AS DATE))"#,
            r#"JSON_OBJECT('time', CAST('-12:34:56.5' AS TIME(1)), 'moment', CAST('2026-11-23 06:47:08.12' AS DATETIME(2)))"#,
            "'{}'",
        ],
    ),
];

/// Of MariaDB alone.
pub const MARIADB_SPECIMENS: &[(&str, &[&str])] = &[
    ("UUID", &["'01234567-89AB-4DEF-8123-456789ABCDEF'"]),
    ("INET4", &["'10.2.0.1'", "'0.0.0.0'"]),
    ("INET6", &["'2001:db8::1'", "'::ffff:1.2.3.4'", "'::'"]),
    ("BINARY(16)", &["X'0123456789abcdef'", "''"]),
];

/// Tables: name, columns with the key, and rows.
pub const KEYS: &[(&str, &str, &[&str])] = &[
    (
        "k0",
        "a VARCHAR(50), b VARCHAR(50), c INT, PRIMARY KEY (b, a)",
        &["'x|y', 'z', 1", "'x', 'y|z', 2", r"'back\\slash', '|', 3", "'', '', 4", "'ü 😀', '/?#%', 5"],
    ),
    ("k1", "a BIGINT UNSIGNED, b DECIMAL(6,2), PRIMARY KEY (a, b)", &["18446744073709551615, -1.50", "0, 0"]),
    (
        "k2",
        "a DATE, b DATETIME(3), c TIMESTAMP(2) NOT NULL, d TIME(1), PRIMARY KEY (a, b, c, d)",
        &[
            "'2026-11-22', '2026-11-23 01:02:03.120', '2026-11-23 01:02:03.5', '-01:02:03.5'",
            "'2026-11-23', '2026-11-23 01:02:03.120', '2026-11-23 01:02:03.5', '-01:02:03.5'",
        ],
    ),
    ("k3", "a VARBINARY(20) PRIMARY KEY", &["X'00ff'", "X'fbff'", "'plain'"]),
    ("k4", "a CHAR(8) PRIMARY KEY", &["'a'", "'b   '", "' c'"]),
    ("k5", "a BINARY(4) PRIMARY KEY", &["X'00'", "X'0000ff'"]),
    ("k6", "a ENUM('x','y'), b YEAR, PRIMARY KEY (a, b)", &["'y', 1999", "'x', 2155"]),
    (
        "k7",
        "a VARCHAR(100) PRIMARY KEY",
        &["'_looks/like a path?'", "'UPPER'", "'ends with a space '", "'12.0'"],
    ),
];

/// Statements that make the table `specimens`: an `id`, and a column of each type, in a row for each value.
#[must_use]
pub fn specimens_of(schema: &str, specimens: &[(&str, &[&str])]) -> Vec<String> {
    // One table with a column for each: c00 and so on, in their order.
    let columns: Vec<String> =
        specimens.iter().enumerate().map(|(n, (data_type, _))| format!("c{n:02} {data_type}")).collect();
    let mut statements = vec![
        "SET sql_mode = 'ALLOW_INVALID_DATES'".to_owned(),
        format!("CREATE TABLE `{schema}`.specimens (id INT PRIMARY KEY, {})", columns.join(", ")),
    ];
    let most = specimens.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    for row in 0..=most {
        let values = specimens.iter().map(|(_, values)| *values.get(row).unwrap_or(&"NULL"));
        let values: Vec<&str> = values.collect();
        statements.push(format!("INSERT INTO `{schema}`.specimens VALUES ({row}, {})", values.join(", ")));
    }
    statements
}
