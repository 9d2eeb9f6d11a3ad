use super::*;
use crate::source::mysql::patterns::Patterns;
use crate::source::mysql::statement::{Redefined, classify};
use crate::source::mysql::tokens::SqlMode;

const STRICT: SqlMode = SqlMode { ansi_quotes: false, strict: true, no_backslash_escapes: false };

fn meaning(sql: &str, mode: SqlMode) -> Meaning {
    let patterns = Patterns::parse(&["shop.*", "!shop.audit*", "*.orders"]).unwrap();
    classify(sql, "shop", mode, &patterns)
}

/// Each effect in words; the columns that decide it in parentheses.
fn effects(sql: &str) -> Vec<String> {
    match meaning(sql, STRICT) {
        Meaning::Ddl(effects) => effects.iter().map(shown).collect(),
        Meaning::OtherDdl => Vec::new(),
        other => vec![format!("{other:?}")],
    }
}

fn shown(Effect { table, leaves }: &Effect) -> String {
    match leaves {
        Leaves::Right => format!("{table} right"),
        Leaves::Gap(why) => format!("{table} gap: {why}"),
        Leaves::GapIfThere(why) => format!("{table} gap if there: {why}"),
        Leaves::RightIf(redefined) => {
            let columns: Vec<&str> = redefined.iter().map(|Redefined { column, .. }| &**column).collect();
            format!("{table} right if ({})", columns.join(" "))
        }
    }
}

#[test]
fn alter_leaves_documents_right_where_no_row_is_another() {
    for clauses in [
        "ADD COLUMN a INT",
        "ADD a INT NULL DEFAULT NULL FIRST, ADD b TEXT AFTER `a`",
        "ADD COLUMN (a INT, b DECIMAL(10,2), INDEX (a, b), CONSTRAINT c CHECK (a > b))",
        "ADD a INT COMMENT 'DROP COLUMN b, MODIFY c' CHECK (a IS NOT NULL)",
        "ADD `unique` INT, ALGORITHM=INSTANT, LOCK NONE",
        "ADD a INT UNIQUE KEY",
        "ADD period INT, ADD system INT",
        "ADD INDEX i (a), ADD FULLTEXT (b), ADD SPATIAL KEY (c), ADD UNIQUE (d), ADD KEY k (a) USING BTREE",
        "ADD CONSTRAINT FOREIGN KEY (a) REFERENCES b (c) ON DELETE CASCADE, ADD CONSTRAINT u UNIQUE (x)",
        "DROP INDEX i, DROP KEY k, DROP FOREIGN KEY f, DROP CHECK c, DROP CONSTRAINT d",
        "ALTER COLUMN a SET DEFAULT 5, ALTER b DROP DEFAULT, ALTER INDEX i INVISIBLE, ALTER CHECK c NOT ENFORCED",
        "RENAME INDEX a TO b, RENAME KEY c TO d",
        "ENGINE = InnoDB ROW_FORMAT=DYNAMIC COMMENT 'ENGINE=BLACKHOLE', AUTO_INCREMENT 5",
        "DEFAULT CHARACTER SET = utf8mb4 COLLATE utf8mb4_bin, CHARSET latin1",
        "CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        "FORCE, DISABLE KEYS, ENABLE KEYS, WITHOUT VALIDATION",
        "ORDER BY a, b DESC",
        "ADD PARTITION (PARTITION p1 VALUES LESS THAN (10))",
        "REORGANIZE PARTITION p0, p1 INTO (PARTITION p VALUES LESS THAN MAXVALUE)",
        "COALESCE PARTITION 2",
        "REBUILD PARTITION p0, p1",
        "ADD INDEX (a) PARTITION BY HASH (id) PARTITIONS 4",
        "REMOVE PARTITIONING",
        "SECONDARY_ENGINE = RAPID, SECONDARY_LOAD",
        "STATS_PERSISTENT=1, ENCRYPTION='Y', TABLESPACE ts STORAGE DISK, DATA DIRECTORY '/x'",
        "WAIT 5 ADD COLUMN IF NOT EXISTS a INT",
        "",
    ] {
        let sql = format!("ALTER TABLE orders {clauses}");
        assert_eq!(effects(&sql), ["shop.orders right"], "{sql}");
    }
    for sql in [
        "CREATE INDEX i ON orders (a)",
        "CREATE UNIQUE INDEX i USING BTREE ON orders (a)",
        "CREATE OR REPLACE INDEX i ON orders (a) WAIT 5",
        "ALTER ONLINE TABLE IF EXISTS orders NOWAIT ADD COLUMN IF NOT EXISTS a INT",
        "DROP INDEX i ON orders",
        "CREATE TABLE orders (id INT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS orders LIKE x",
        "CREATE TABLE orders (`select` INT, a INT COMMENT 'TABLE') PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN (5))",
    ] {
        assert_eq!(effects(sql), ["shop.orders right"], "{sql}");
    }
}

#[test]
fn alter_leaves_a_gap_where_rows_become_others() {
    for (clauses, why) in [
        ("ADD a INT NOT NULL", "ADD COLUMN a with a value for the rows that were there"),
        ("ADD a INT DEFAULT 5", "ADD COLUMN a with a value for the rows that were there"),
        ("ADD a INT AS (b + 1) VIRTUAL", "ADD COLUMN a with a value for the rows that were there"),
        ("ADD a TIMESTAMP", "ADD COLUMN a with a value for the rows that were there"),
        ("ADD COLUMN (b INT, a INT DEFAULT (1))", "ADD COLUMN a with a value for the rows that were there"),
        ("ADD a SERIAL", "ADD COLUMN a with a value for the rows that were there"),
        ("ADD a INT PRIMARY KEY", OTHER_KEY),
        ("ADD a INT KEY", OTHER_KEY),
        ("ADD PRIMARY KEY (a)", OTHER_KEY),
        ("ADD CONSTRAINT c PRIMARY KEY (a)", OTHER_KEY),
        ("DROP PRIMARY KEY", OTHER_KEY),
        ("DROP INDEX `PRIMARY`", OTHER_KEY),
        ("MODIFY a INT PRIMARY KEY", OTHER_KEY),
        ("DROP COLUMN a", "DROP COLUMN a: documents keep it until their rows change"),
        ("ADD b INT, DROP a", "DROP COLUMN a: documents keep it until their rows change"),
        ("RENAME COLUMN a TO b", "RENAME COLUMN a to b: documents keep the old name until their rows change"),
        ("CHANGE a b INT", "RENAME COLUMN a to b: documents keep the old name until their rows change"),
        (
            "CHANGE COLUMN a A INT",
            "RENAME COLUMN a to A: documents keep the old name until their rows change",
        ),
        ("DROP PARTITION p0, p1", "DROP PARTITION: no row event says which rows that changed"),
        ("TRUNCATE PARTITION ALL", "TRUNCATE PARTITION: no row event says which rows that changed"),
        ("IMPORT PARTITION p TABLESPACE", "IMPORT PARTITION: no row event says which rows that changed"),
        ("DISCARD TABLESPACE", "DISCARD TABLESPACE"),
        ("IMPORT TABLESPACE", "IMPORT TABLESPACE"),
        ("CONVERT TO CHARACTER SET binary", "CONVERT TO CHARACTER SET binary: text becomes bytes"),
        ("ENGINE=BLACKHOLE", "ENGINE = BLACKHOLE: its rows are gone"),
        ("UNION=(x, y)", "UNION: the table's rows are those of others"),
    ] {
        let sql = format!("ALTER TABLE orders {clauses}");
        assert_eq!(effects(&sql), [format!("shop.orders gap: {why}")], "{sql}");
    }
    let lossy = meaning("ALTER TABLE orders CONVERT TO CHARACTER SET ascii", SqlMode::default());
    assert!(matches!(lossy, Meaning::Ddl(effects) if matches!(effects[0].leaves, Leaves::Gap(_))));
    for (sql, expected) in [
        (
            "ALTER IGNORE TABLE orders ADD UNIQUE (a)",
            "ALTER IGNORE TABLE: rows that would be a key's second are gone",
        ),
        ("DROP INDEX `PRIMARY` ON orders", OTHER_KEY),
        ("CREATE TABLE orders AS SELECT * FROM x.y", "CREATE TABLE … SELECT in statement format"),
        (
            "CREATE TABLE IF NOT EXISTS `shop`.orders (a INT) (SELECT 1)",
            "CREATE TABLE … SELECT in statement format",
        ),
        ("CREATE TABLE orders TABLE x.y", "CREATE TABLE … SELECT in statement format"),
        ("CREATE TABLE orders VALUES ROW(1)", "CREATE TABLE … SELECT in statement format"),
    ] {
        assert_eq!(effects(sql), [format!("shop.orders gap: {expected}")], "{sql}");
    }
}

#[test]
fn columns_defined_anew_decide_themselves() {
    assert_eq!(
        effects(
            "ALTER TABLE orders MODIFY a BIGINT NOT NULL AFTER b, CHANGE COLUMN `c` `c` VARCHAR(50), ADD d INT"
        ),
        ["shop.orders right if (a c)"]
    );
}

#[test]
fn tables_that_change_places_are_gaps_of_each_followed_name() {
    for (sql, expected) in [
        ("RENAME TABLE a.x TO a.y, a.z TO shop.n", vec!["shop.n gap: RENAME TABLE from a.z"]),
        ("RENAME TABLE a.x WAIT 1 TO a.y, a.z NOWAIT TO shop.n", vec!["shop.n gap: RENAME TABLE from a.z"]),
        (
            "ALTER TABLE x.y NOWAIT CONVERT TABLE orders TO PARTITION p VALUES LESS THAN (5)",
            vec!["shop.orders gap: EXCHANGE PARTITION with x.y"],
        ),
        ("RENAME TABLE orders TO audit", vec!["shop.orders gap: RENAME TABLE to shop.audit"]),
        (
            "RENAME TABLES orders TO audit_old, audit_new TO orders",
            vec![
                "shop.orders gap: RENAME TABLE to shop.audit_old",
                "shop.orders gap: RENAME TABLE from shop.audit_new",
            ],
        ),
        (
            "ALTER TABLE orders ADD a INT, RENAME TO n",
            vec!["shop.orders gap: RENAME TABLE to shop.n", "shop.n gap: RENAME TABLE from shop.orders"],
        ),
        ("ALTER TABLE x.y RENAME = orders", vec!["shop.orders gap: RENAME TABLE from x.y"]),
        (
            "ALTER TABLE x.y EXCHANGE PARTITION p WITH TABLE orders WITHOUT VALIDATION",
            vec!["shop.orders gap: EXCHANGE PARTITION with x.y"],
        ),
        (
            "ALTER TABLE orders CONVERT PARTITION p TO TABLE n",
            vec![
                "shop.orders gap: EXCHANGE PARTITION with shop.n",
                "shop.n gap: EXCHANGE PARTITION with shop.orders",
            ],
        ),
    ] {
        assert_eq!(effects(sql), expected, "{sql}");
    }
    let dropped = |how: &str, table: &str| format!("{table} {how}: {DROP}");
    assert_eq!(
        effects("DROP TABLE `audit_1`, other.orders, n /* generated by server */"),
        [dropped("gap", "other.orders"), dropped("gap", "shop.n")]
    );
    assert_eq!(effects("DROP TABLE IF EXISTS n"), [dropped("gap if there", "shop.n")]);
    assert_eq!(
        effects("CREATE OR REPLACE TABLE n (a INT)"),
        ["shop.n gap if there: CREATE OR REPLACE TABLE"]
    );
    assert_eq!(meaning("DROP DATABASE IF EXISTS `shop`", STRICT), Meaning::DropsSchema("shop".into()));
    let atomic = |table: &str| format!("CREATE TABLE {table} (`id` int) START TRANSACTION");
    let opened = |table: &str| meaning(&atomic(table), STRICT);
    assert_eq!(opened("n"), Meaning::OpensTransaction(Some(crate::event::TableName::new("shop", "n"))));
    assert_eq!(opened("x.y"), Meaning::OpensTransaction(None));
}

#[test]
fn ddl_that_is_not_understood_stops_where_it_names_a_followed_table() {
    for (sql, expected) in [
        ("ALTER TABLE orders FROB a", "ALTER TABLE … FROB A"),
        ("ALTER TABLE orders ADD COLUMN a INT, FROB", "ALTER TABLE … FROB"),
        ("ALTER TABLE orders ADD SYSTEM VERSIONING", "ALTER TABLE … ADD SYSTEM VERSIONING"),
        (
            "CREATE TABLE orders (a INT PRIMARY KEY) WITH SYSTEM VERSIONING",
            "CREATE TABLE … WITH SYSTEM VERSIONING",
        ),
        ("ALTER TABLE orders ADD COLUMN", "ALTER TABLE … ADD COLUMN"),
        ("CREATE FROB orders AS SELECT user FROM x.y", "CREATE in statement format"),
        ("DROP FROB orders", "DROP in statement format"),
    ] {
        match meaning(sql, STRICT) {
            Meaning::Stops { what, .. } => assert_eq!(what, expected),
            other => panic!("{sql}: {other:?}"),
        }
    }
    assert_eq!(meaning("ALTER TABLE x.y FROB a", STRICT), Meaning::OtherDdl);
}

#[test]
fn ddl_of_other_tables_and_objects_is_nothing() {
    for sql in [
        "DROP TABLE audit_log, x.y",
        "DROP TEMPORARY TABLE IF EXISTS orders",
        "CREATE TEMPORARY TABLE orders (a INT)",
        "CREATE TABLE x.y SELECT * FROM orders",
        "ALTER TABLE x.y DROP COLUMN orders, RENAME COLUMN a TO orders",
        "ALTER TABLE x.y RENAME INDEX a TO orders",
        "RENAME TABLE x.a TO x.b",
        "RENAME USER orders TO b",
        "CREATE VIEW orders AS SELECT 1",
        "CREATE OR REPLACE ALGORITHM=MERGE DEFINER=`a`@`%` SQL SECURITY DEFINER VIEW orders AS SELECT 1",
        "CREATE OR REPLACE JSON RELATIONAL DUALITY VIEW orders AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON orders FOR EACH ROW DELETE FROM orders",
        "CREATE DEFINER=`a`@`%` PROCEDURE orders() BEGIN DELETE FROM orders; END",
        "CREATE EVENT orders ON SCHEDULE EVERY 1 DAY DO DELETE FROM orders",
        "CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'orders'",
        "CREATE UNDO TABLESPACE orders ADD DATAFILE 'x'",
        "CREATE LIBRARY orders LANGUAGE JAVASCRIPT AS 'x'",
        "DROP PROCEDURE orders",
        "DROP VIEW orders",
        "GRANT ALL ON shop.orders TO x",
        "ALTER DATABASE shop CHARACTER SET utf8mb4",
        "ALTER USER orders IDENTIFIED BY 'x'",
        "ALTER INSTANCE ROTATE INNODB MASTER KEY",
        "OPTIMIZE TABLE orders",
        "FLUSH TABLES",
        "SET STATEMENT lock_wait_timeout = 1 FOR TRUNCATE audit_log WAIT 5",
        "CREATE OR REPLACE SEQUENCE orders START WITH 5",
        "ALTER SEQUENCE orders RESTART 7",
        "DROP SEQUENCE orders",
        "CREATE TABLE x.y (a INT) WITH SYSTEM VERSIONING",
        "SET PASSWORD FOR orders = 'x'",
    ] {
        assert_eq!(meaning(sql, STRICT), Meaning::OtherDdl, "{sql}");
    }
}

#[test]
fn no_text_makes_it_panic() {
    let words = [
        "ALTER",
        "TABLE",
        "orders",
        ".",
        "(",
        ")",
        ",",
        "ADD",
        "DROP",
        "RENAME",
        "TO",
        "XA",
        "COMMIT",
        "CREATE",
        "INDEX",
        "ON",
        "'",
        "`",
        "/*!",
        "*/",
        "EXCHANGE",
        "WITH",
        "é",
        "--",
        "\\",
        "START",
        "TRANSACTION",
        "MODIFY",
        "CHANGE",
        "COLUMN",
        "PARTITION",
        "CONVERT",
        "VARCHAR",
        "ENUM",
        "5",
        "=",
        "CONSTRAINT",
        "ORDER",
        "DEFAULT",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..40_000 {
        let mut sql = String::from(if state & 1 == 0 { "" } else { "ALTER TABLE orders " });
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            sql.push_str(words[state as usize % words.len()]);
            sql.push(' ');
        }
        let _ = meaning(&sql, STRICT);
    }
}
