use super::*;
use crate::source::mysql::patterns::Patterns;
use crate::source::mysql::tokens::{Lexer, SqlMode};

fn definition(sql: &str) -> Definition {
    let tokens: Vec<Token> = Lexer::new(sql, SqlMode::default()).collect();
    let patterns = Patterns::default();
    Definition::parse(&Reader { tokens: &tokens, at: 0, schema: "", patterns: &patterns, strict: false })
}

fn of(ty: ColumnType) -> Before {
    Before { ty, nullable: true, padded: false, bytes: 0, chars: 0, labels: Vec::new() }
}

fn integer(bits: u8, unsigned: bool) -> Before {
    of(ColumnType::Integer { bits, unsigned })
}

fn string(ty: ColumnType, chars: usize, padded: bool) -> Before {
    Before { chars, bytes: 4 * chars, padded, ..of(ty) }
}

#[test]
fn what_holds_every_old_value_and_prints_it_alike_keeps_it() {
    let labels = |ty| Before { labels: vec!["a".into(), "it's".into()], ..of(ty) };
    let binary = |bytes, padded| Before { bytes, chars: bytes, padded, ..of(ColumnType::Binary) };
    let text = Before { bytes: 65_535, chars: 65_535, ..of(ColumnType::Text) };
    let varchar = || string(ColumnType::Varchar, 50, false);
    let char = || string(ColumnType::Varchar, 50, true);
    // (old, new, whether it is kept in a strict mode, in another)
    for (before, sql, strict, lax) in [
        (integer(32, false), "BIGINT", true, true),
        (integer(32, false), "INT(11) COMMENT 'x' DEFAULT 5 INVISIBLE", true, true),
        (integer(32, false), "INT UNSIGNED", true, false),
        (integer(32, true), "BIGINT", true, true),
        (integer(32, true), "INT", true, false),
        (integer(32, false), "TINYINT", true, false),
        (integer(32, false), "INT AUTO_INCREMENT", false, false),
        (integer(32, false), "INT AS (a + 1)", false, false),
        (integer(32, false), "DECIMAL(10)", false, false),
        (integer(32, false), "VARCHAR(50)", false, false),
        (integer(32, false), "INT NOT NULL", true, false),
        (Before { nullable: false, ..integer(32, false) }, "INT NOT NULL", true, true),
        (of(ColumnType::Decimal { precision: 10, scale: 2 }), "DECIMAL(12,2)", true, true),
        (of(ColumnType::Decimal { precision: 10, scale: 2 }), "NUMERIC(8, 2) UNSIGNED", true, false),
        (of(ColumnType::Decimal { precision: 10, scale: 2 }), "DECIMAL(12,4)", false, false),
        (of(ColumnType::Decimal { precision: 10, scale: 0 }), "DEC", true, true),
        (of(ColumnType::Float), "FLOAT", true, true),
        (of(ColumnType::Float), "FLOAT(10,2)", false, false),
        (of(ColumnType::Float), "DOUBLE", false, false),
        (of(ColumnType::Double), "FLOAT(30)", true, true),
        (of(ColumnType::Double), "DOUBLE PRECISION NULL", true, true),
        (of(ColumnType::Double), "DOUBLE UNSIGNED", true, false),
        (of(ColumnType::Double), "REAL", false, false),
        (of(ColumnType::Bit { bits: 3 }), "BIT(8)", true, true),
        (of(ColumnType::Bit { bits: 3 }), "BIT", false, false),
        (of(ColumnType::Date), "DATE", true, true),
        (of(ColumnType::Date), "DATETIME", false, false),
        (of(ColumnType::DateTime { decimals: 3 }), "DATETIME(3)", true, true),
        (of(ColumnType::DateTime { decimals: 3 }), "DATETIME(6)", false, false),
        (of(ColumnType::Timestamp { decimals: 0 }), "TIMESTAMP NULL ON UPDATE CURRENT_TIMESTAMP", true, true),
        (of(ColumnType::Timestamp { decimals: 0 }), "TIMESTAMP", false, false),
        (of(ColumnType::Time { decimals: 1 }), "TIME(1)", true, true),
        (of(ColumnType::Year), "YEAR(4)", true, true),
        (of(ColumnType::Json), "JSON", true, true),
        (varchar(), "VARCHAR(50)", true, false),
        (varchar(), "VARCHAR(51) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", true, false),
        (varchar(), "CHARACTER VARYING (60)", true, false),
        (varchar(), "VARCHAR(49)", false, false),
        (varchar(), "VARCHAR(60) CHARACTER SET binary", false, false),
        (varchar(), "CHAR(60)", false, false),
        (varchar(), "TEXT", true, false),
        (varchar(), "TINYTEXT", true, false),
        (string(ColumnType::Varchar, 100, false), "TINYTEXT", false, false),
        (char(), "CHAR(60)", true, false),
        (char(), "VARCHAR(50)", true, false),
        (char(), "VARBINARY(200)", false, false),
        (text.clone(), "MEDIUMTEXT", true, false),
        (text.clone(), "TINYTEXT", false, false),
        (text, "VARCHAR(1000)", false, false),
        (binary(4, true), "BINARY(4)", true, true),
        (binary(4, true), "BINARY(5)", false, false),
        (binary(4, true), "VARBINARY(9)", true, true),
        (binary(9, false), "BLOB", true, true),
        (binary(9, false), "BINARY(9)", false, false),
        (binary(9, false), "VARBINARY(8)", false, false),
        (labels(ColumnType::Enum), "ENUM('it''s', 'a', 'new')", true, true),
        (labels(ColumnType::Enum), "ENUM('a', 'new')", false, false),
        (labels(ColumnType::Enum), "SET('a', 'it''s')", false, false),
        (labels(ColumnType::Set), "SET('a', 'it''s', 'new')", true, true),
        (labels(ColumnType::Set), "SET('it''s', 'a')", false, false),
        (of(ColumnType::Json), "GEOMETRY", false, false),
        (integer(32, false), "", false, false),
    ] {
        let definition = definition(sql);
        assert_eq!(definition.keeps(&before, true), strict, "{sql} of {before:?} in a strict mode");
        assert_eq!(definition.keeps(&before, false), lax, "{sql} of {before:?} in another mode");
    }
}

#[test]
fn a_definition_says_whether_rows_get_a_value_and_whether_it_is_the_key() {
    for (sql, fills, primary) in [
        ("INT", false, false),
        ("INT NULL DEFAULT NULL COMMENT 'PRIMARY KEY'", false, false),
        ("INT UNIQUE KEY REFERENCES t (a) ON DELETE SET NULL", false, false),
        ("TIMESTAMP NULL", false, false),
        ("TIMESTAMP", true, false),
        ("INT DEFAULT (NULL + 1)", true, false),
        ("INT NOT NULL", true, false),
        ("INT GENERATED ALWAYS AS (1) STORED", true, false),
        ("SERIAL", true, false),
        ("BIGINT AUTO_INCREMENT UNIQUE", true, false),
        ("INT PRIMARY KEY", true, true),
        ("INT KEY", true, true),
    ] {
        let definition = definition(sql);
        assert_eq!((definition.fills, definition.primary), (fills, primary), "{sql}");
    }
}
