//! The table: its columns, and random values for them as SQL.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// A column's type, as far as values and their text depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Int(u32),
    Unsigned(u32),
    Decimal(usize, usize),
    Float,
    Double,
    /// Characters at most.
    Text(usize),
    /// Bytes at most.
    Binary(usize),
    PaddedBinary(usize),
    Blob(usize),
    Day,
    Clock(u8),
    Local(u8),
    Stamp(u8),
    Year,
    Bit(u32),
    Enum,
    Set,
    Json,
}
use Kind::*;

pub const ENUM: &[&str] = &["small", "größer", "it''s"];
pub const SET: &[&str] = &["a", "é", "c c", "d", "e", "f", "g", "h", "i", "j"];

/// Every column but the first two, `id` and `mild`.
pub const COLUMNS: &[(&str, &str, Kind)] = &[
    ("y", "YEAR", Year),
    ("i8", "TINYINT", Int(8)),
    ("u8", "TINYINT UNSIGNED", Unsigned(8)),
    ("i16", "SMALLINT", Int(16)),
    ("u16", "SMALLINT UNSIGNED", Unsigned(16)),
    ("i24", "MEDIUMINT", Int(24)),
    ("u24", "MEDIUMINT UNSIGNED", Unsigned(24)),
    ("i32", "INT", Int(32)),
    ("u32", "INT UNSIGNED", Unsigned(32)),
    ("i64", "BIGINT", Int(64)),
    ("u64", "BIGINT UNSIGNED", Unsigned(64)),
    ("d1", "DECIMAL(1,0)", Decimal(1, 0)),
    ("d2", "DECIMAL(2,2)", Decimal(2, 2)),
    ("d5", "DECIMAL(5,1)", Decimal(5, 1)),
    ("d9", "DECIMAL(9,9)", Decimal(9, 9)),
    ("d10", "DECIMAL(10,2)", Decimal(10, 2)),
    ("d18", "DECIMAL(18,9)", Decimal(18, 9)),
    ("d20", "DECIMAL(20,13)", Decimal(20, 13)),
    ("d30", "DECIMAL(30,30)", Decimal(30, 30)),
    ("d38", "DECIMAL(38,7)", Decimal(38, 7)),
    ("d65", "DECIMAL(65,0)", Decimal(65, 0)),
    ("d65s", "DECIMAL(65,30)", Decimal(65, 30)),
    ("f", "FLOAT", Float),
    ("d", "DOUBLE", Double),
    ("c", "CHAR(10)", Text(10)),
    ("cl", "CHAR(100)", Text(100)),
    ("v", "VARCHAR(30)", Text(30)),
    ("vl", "VARCHAR(500)", Text(500)),
    ("tt", "TINYTEXT", Text(60)),
    ("tx", "TEXT", Text(2_000)),
    ("lt", "LONGTEXT", Text(300)),
    ("bi", "BINARY(8)", PaddedBinary(8)),
    ("bl", "BINARY(255)", PaddedBinary(255)),
    ("vb", "VARBINARY(20)", Binary(20)),
    ("vbl", "VARBINARY(400)", Binary(400)),
    ("tb", "TINYBLOB", Blob(200)),
    ("b", "BLOB", Blob(3_000)),
    ("mb", "MEDIUMBLOB", Blob(300)),
    ("da", "DATE", Day),
    ("t0", "TIME", Clock(0)),
    ("t1", "TIME(1)", Clock(1)),
    ("t2", "TIME(2)", Clock(2)),
    ("t3", "TIME(3)", Clock(3)),
    ("t5", "TIME(5)", Clock(5)),
    ("t6", "TIME(6)", Clock(6)),
    ("dt0", "DATETIME", Local(0)),
    ("dt2", "DATETIME(2)", Local(2)),
    ("dt3", "DATETIME(3)", Local(3)),
    ("dt4", "DATETIME(4)", Local(4)),
    ("dt6", "DATETIME(6)", Local(6)),
    ("ts0", "TIMESTAMP NULL", Stamp(0)),
    ("ts1", "TIMESTAMP(1) NULL", Stamp(1)),
    ("ts3", "TIMESTAMP(3) NULL", Stamp(3)),
    ("ts6", "TIMESTAMP(6) NULL", Stamp(6)),
    ("b1", "BIT(1)", Bit(1)),
    ("b9", "BIT(9)", Bit(9)),
    ("b64", "BIT(64)", Bit(64)),
    ("e", "ENUM", Enum),
    ("s", "SET", Set),
    ("j", "JSON", Json),
];

/// `id INT PRIMARY KEY, mild TINYINT` and the columns.
pub fn create() -> String {
    let columns = COLUMNS.iter().map(|(name, ty, kind)| match kind {
        Enum => format!("{name} ENUM('{}')", ENUM.join("','")),
        Set => format!("{name} SET('{}')", SET.join("','")),
        _ => format!("{name} {ty}"),
    });
    let columns: Vec<_> = columns.collect();
    format!(
        "CREATE TABLE t (id INT PRIMARY KEY, mild TINYINT NOT NULL, {}) DEFAULT CHARSET utf8mb4 ROW_FORMAT=DYNAMIC",
        columns.join(", ")
    )
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn digits(rng: &mut StdRng, count: usize) -> String {
    let pools = [&b"0"[..], b"9", b"0123456789"];
    let pool = pools.choose(rng).unwrap();
    (0..count).map(|_| char::from(*pool.choose(rng).unwrap())).collect()
}

fn string(rng: &mut StdRng, most: usize) -> String {
    const POOL: &[char] = &[
        'a', 'Z', '0', ' ', 'é', 'ß', '漢', '🦀', '\'', '"', '\\', '\n', '\t', '\0', '\u{1f}', '%', '\u{7f}',
    ];
    let length = *[0, 1, most, rng.random_range(0..=most)].choose(rng).unwrap();
    (0..length).map(|_| *POOL.choose(rng).unwrap()).collect()
}

fn integer(rng: &mut StdRng, least: i128, most: i128) -> i128 {
    let edges =
        [least, most, 0, 1, most / 2 + 1, rng.random_range(least..=most), rng.random_range(least..=most)];
    *edges.choose(rng).unwrap()
}

fn fraction(rng: &mut StdRng, decimals: u8) -> String {
    if decimals == 0 { String::new() } else { format!(".{}", digits(rng, decimals.into())) }
}

fn time_of_day(rng: &mut StdRng) -> String {
    let (h, m, s) = (rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60));
    format!("{h:02}:{m:02}:{s:02}")
}

fn date(rng: &mut StdRng) -> String {
    let year = *[0, 1, 1000, 1970, 9999, rng.random_range(0..10_000)].choose(rng).unwrap();
    if year == 0 {
        return "0000-00-00".to_owned();
    }
    format!("{year:04}-{:02}-{:02}", rng.random_range(0..=12), rng.random_range(0..=28))
}

fn json(rng: &mut StdRng, depth: u32) -> String {
    match rng.random_range(0..if depth == 0 { 7 } else { 9 }) {
        0 => (*["null", "true", "false", "0.0", "-0.0", "1e16", "5e-324"].choose(rng).unwrap()).to_owned(),
        1 => (rng.random::<i64>() >> rng.random_range(0..63)).to_string(),
        2 => rng.random::<u64>().to_string(),
        3 => format!("{:?}", (rng.random::<f64>() - 0.5) * 10_f64.powi(rng.random_range(-300..300))),
        4..=6 => serde_json::to_string(&string(rng, 40)).unwrap(),
        7 => {
            let elements: Vec<_> = (0..rng.random_range(0..6)).map(|_| json(rng, depth - 1)).collect();
            format!("[{}]", elements.join(","))
        }
        _ => {
            let entry = |rng: &mut StdRng| {
                let key = serde_json::to_string(&string(rng, 12)).unwrap();
                format!("{key}:{}", json(rng, depth - 1))
            };
            let entries: Vec<_> = (0..rng.random_range(0..6)).map(|_| entry(rng)).collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

/// JSON that no text has: dates, decimals, bytes; and what needs wide offsets.
const JSON: &[&str] = &[
    "JSON_OBJECT('d', CAST('2015-01-15' AS DATE), 't', CAST('-10:11:12.5' AS TIME(6)), 'z', CAST('0000-00-00' AS DATE))",
    "JSON_ARRAY(CAST('2015-01-15 23:24:25.12' AS DATETIME(2)), CAST(0.50 AS DECIMAL(10,2)), CAST(-7 AS DECIMAL(30,0)))",
    "JSON_ARRAY(CAST(-123456789.123456789123456789 AS DECIMAL(40,20)), CAST(0x00FF10 AS BINARY), b'101', CAST(1.1 AS FLOAT))",
    "CONCAT('[', REPEAT('\"0123456789\",', 7000), '-70000]')",
    "CONCAT('{\"k\": \"', REPEAT('x', 70000), '\", \"z\": [1, true, -70000, 18446744073709551615]}')",
];

/// A value as SQL; a `mild` one is read by every decoder.
pub fn value(rng: &mut StdRng, kind: Kind, mild: bool) -> String {
    if rng.random_ratio(1, 12) {
        return "NULL".to_owned();
    }
    match kind {
        Int(bits) => integer(rng, -(1 << (bits - 1)), (1 << (bits - 1)) - 1).to_string(),
        Unsigned(bits) | Bit(bits) => integer(rng, 0, (1 << bits) - 1).to_string(),
        Year => (*[0, 1901, 2155, rng.random_range(1901..=2155)].choose(rng).unwrap()).to_string(),
        Decimal(precision, scale) => {
            let sign = if rng.random() { "-" } else { "" };
            let whole = rng.random_range(0..=precision - scale);
            format!("{sign}0{}.{}", digits(rng, whole), digits(rng, scale))
        }
        Float => {
            let v = f32::from_bits(rng.random());
            format!("{:e}", if v.is_normal() { v } else { 0.1 })
        }
        Double => {
            let v = f64::from_bits(rng.random());
            format!("{:e}", if v.is_normal() { v } else { -0.0 })
        }
        Text(most) => quoted(&string(rng, most)),
        Binary(most) | PaddedBinary(most) | Blob(most) => {
            let length = rng.random_range(0..=most);
            let highest = if mild && !matches!(kind, Blob(_)) { 0x7f } else { 0xff };
            let bytes = (0..length)
                .map(|_| format!("{:02X}", rng.random_range(0..=highest) * rng.random_range(0..=1)));
            format!("X'{}'", bytes.collect::<String>())
        }
        Day => quoted(&date(rng)),
        Clock(decimals) => {
            let sign = if !mild && rng.random() { "-" } else { "" };
            let hour = *[0, 838, rng.random_range(0..838)].choose(rng).unwrap();
            let (m, s) = (rng.random_range(0..60), rng.random_range(0..59));
            quoted(&format!("{sign}{hour:02}:{m:02}:{s:02}{}", fraction(rng, decimals)))
        }
        Local(decimals) => match date(rng) {
            zero if zero.starts_with("0000") => quoted(&zero),
            date => quoted(&format!("{date} {}{}", time_of_day(rng), fraction(rng, decimals))),
        },
        Stamp(decimals) => match rng.random_range(0..5) {
            0 => "'0000-00-00'".to_owned(),
            1 => "'2038-01-19 03:14:07'".to_owned(),
            _ => {
                let (year, month) = (rng.random_range(1971..2038), rng.random_range(1..=12));
                let day = rng.random_range(1..=28);
                quoted(&format!("{year}-{month:02}-{day:02} {}{}", time_of_day(rng), fraction(rng, decimals)))
            }
        },
        Enum => rng.random_range(1..=ENUM.len()).to_string(),
        Set => rng.random_range(0..1 << SET.len()).to_string(),
        Json if rng.random_ratio(1, 6) => (*JSON.choose(rng).unwrap()).to_owned(),
        Json => quoted(&json(rng, 3)),
    }
}
