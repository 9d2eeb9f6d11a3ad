use super::*;

fn patterns() -> Patterns {
    Patterns::parse(&["shop.*", "!shop.audit*", "*.orders"]).unwrap()
}

fn meaning(sql: &str) -> Meaning {
    classify(sql, "shop", SqlMode::default(), &patterns())
}

fn stops(sql: &str) -> Option<String> {
    match meaning(sql) {
        Meaning::Stops { table, what } => Some(format!("{what}: {table}")),
        _ => None,
    }
}

#[test]
fn bounds_of_transactions_are_told_apart() {
    for (sql, expected) in [
        ("BEGIN", Meaning::Begin),
        ("begin /* x */", Meaning::Begin),
        ("START TRANSACTION", Meaning::Begin),
        ("COMMIT", Meaning::Commit),
        ("ROLLBACK", Meaning::Rollback),
        ("ROLLBACK /* added by the server */", Meaning::Rollback),
        ("ROLLBACK TO `s`", Meaning::RollbackTo),
        ("ROLLBACK WORK TO SAVEPOINT s", Meaning::RollbackTo),
        ("SAVEPOINT `orders`", Meaning::Nothing),
        ("XA START X'61',X'',1", Meaning::XaBounds),
        ("XA END X'61',X'',1", Meaning::XaBounds),
        ("XA COMMIT X'61',X'',1", Meaning::XaCommit("X'61',X'',1".into())),
        ("XA ROLLBACK X'61',X'',1", Meaning::XaRollback("X'61',X'',1".into())),
        ("", Meaning::Nothing),
    ] {
        assert_eq!(meaning(sql), expected, "{sql}");
    }
}

#[test]
fn ddl_of_a_followed_table_stops_unless_it_only_adds() {
    for (sql, expected) in [
        ("TRUNCATE TABLE orders", "TRUNCATE TABLE: shop.orders"),
        ("truncate `shop`.`orders`", "TRUNCATE TABLE: shop.orders"),
        ("ALTER TABLE orders DROP COLUMN a", "ALTER TABLE … DROP COLUMN A: shop.orders"),
        ("ALTER TABLE orders ADD COLUMN a INT, MODIFY b INT", "ALTER TABLE … MODIFY B INT: shop.orders"),
        ("ALTER TABLE orders ADD PRIMARY KEY (a)", "ALTER TABLE … ADD PRIMARY KEY: shop.orders"),
        ("ALTER TABLE orders ADD a INT UNIQUE", "ALTER TABLE … ADD A INT: shop.orders"),
        ("ALTER TABLE orders ADD UNIQUE KEY (a)", "ALTER TABLE … ADD UNIQUE KEY: shop.orders"),
        ("ALTER TABLE orders DROP PRIMARY KEY", "ALTER TABLE … DROP PRIMARY KEY: shop.orders"),
        ("ALTER TABLE orders DROP PARTITION p0", "ALTER TABLE … DROP PARTITION P0: shop.orders"),
        ("ALTER TABLE orders TRUNCATE PARTITION p0", "ALTER TABLE … TRUNCATE PARTITION P0: shop.orders"),
        ("ALTER TABLE orders DISCARD TABLESPACE", "ALTER TABLE … DISCARD TABLESPACE: shop.orders"),
        ("ALTER TABLE orders RENAME TO x.y", "ALTER TABLE … RENAME TO X: shop.orders"),
        ("ALTER TABLE x.y RENAME TO shop.new_orders", "ALTER TABLE … RENAME: shop.new_orders"),
        ("ALTER TABLE x.y RENAME = orders", "ALTER TABLE … RENAME: shop.orders"),
        (
            "ALTER TABLE x.y EXCHANGE PARTITION p WITH TABLE orders",
            "ALTER TABLE … EXCHANGE PARTITION: shop.orders",
        ),
        ("ALTER TABLE orders", "ALTER TABLE … : shop.orders"),
        ("CREATE OR REPLACE TABLE orders (a INT)", "CREATE OR REPLACE TABLE: shop.orders"),
        ("CREATE UNIQUE INDEX i ON orders (a)", "CREATE UNIQUE INDEX: shop.orders"),
        ("DROP INDEX `PRIMARY` ON orders", "DROP INDEX `PRIMARY`: shop.orders"),
        (
            "CREATE TABLE orders AS SELECT * FROM x.y",
            "CREATE TABLE … SELECT in statement format: shop.orders",
        ),
        (
            "CREATE TABLE IF NOT EXISTS `shop`.orders (a INT) (SELECT 1)",
            "CREATE TABLE … SELECT in statement format: shop.orders",
        ),
        ("CREATE TABLE orders TABLE x.y", "CREATE TABLE … SELECT in statement format: shop.orders"),
        ("CREATE TABLE orders VALUES ROW(1)", "CREATE TABLE … SELECT in statement format: shop.orders"),
        (
            "SET STATEMENT max_statement_time = 1, lock_wait_timeout = (2) FOR TRUNCATE orders NOWAIT",
            "TRUNCATE TABLE: shop.orders",
        ),
        (
            "set statement a=1 for set statement b=2 for UPDATE orders SET a = 1",
            "UPDATE in statement format: shop.orders",
        ),
        ("ALTER TABLE orders WAIT 5 DROP COLUMN a", "ALTER TABLE … DROP COLUMN A: shop.orders"),
        ("ALTER TABLE orders ADD SYSTEM VERSIONING", "ALTER TABLE … ADD SYSTEM VERSIONING: shop.orders"),
        (
            "ALTER TABLE x.y CONVERT PARTITION p TO TABLE orders",
            "ALTER TABLE … CONVERT PARTITION: shop.orders",
        ),
        (
            "ALTER TABLE x.y NOWAIT CONVERT TABLE orders TO PARTITION p",
            "ALTER TABLE … CONVERT TABLE: shop.orders",
        ),
        (
            "CREATE TABLE orders (a INT PRIMARY KEY) WITH SYSTEM VERSIONING",
            "CREATE TABLE … WITH SYSTEM VERSIONING: shop.orders",
        ),
        ("/*M!100301 TRUNCATE TABLE */ orders", "TRUNCATE TABLE: shop.orders"),
        ("/*!50000 TRUNCATE TABLE */ orders", "TRUNCATE TABLE: shop.orders"),
        ("-- a comment\n/* another */ TRUNCATE TABLE orders", "TRUNCATE TABLE: shop.orders"),
    ] {
        assert_eq!(stops(sql).as_deref(), Some(expected), "{sql}");
    }
}

#[test]
fn drops_and_renames_leave_documents_behind() {
    let gap = |table: &str, why: &str| (TableName::new("shop", table), why.to_owned());
    for (sql, expected) in [
        (
            "DROP TABLE `audit_1`, orders /* generated by server */",
            vec![gap("orders", crate::source::mysql::ddl::DROP)],
        ),
        ("RENAME TABLE a.x TO a.y, a.z TO shop.n", vec![gap("n", "RENAME TABLE from a.z")]),
        ("RENAME TABLE a.x WAIT 1 TO a.y, a.z NOWAIT TO shop.n", vec![gap("n", "RENAME TABLE from a.z")]),
        ("RENAME TABLE orders TO audit", vec![gap("orders", "RENAME TABLE to shop.audit")]),
    ] {
        assert_eq!(meaning(sql), Meaning::Gaps(expected), "{sql}");
    }
}

#[test]
fn added_columns_and_plain_indexes_are_followed() {
    let alters = |sql: &str| match meaning(sql) {
        Meaning::Alters(alteration) => {
            (alteration.adds_columns, alteration.fills_rows, alteration.drops_index)
        }
        other => panic!("{sql}: {other:?}"),
    };
    for (sql, expected) in [
        ("ALTER TABLE orders ADD COLUMN a INT", (true, false, false)),
        (
            "ALTER TABLE `shop`.`orders` ADD a INT NULL DEFAULT NULL FIRST, ADD b TEXT AFTER `a`",
            (true, false, false),
        ),
        ("ALTER TABLE orders ADD COLUMN (a INT, b DECIMAL(10,2))", (true, false, false)),
        ("ALTER TABLE orders ADD a INT NOT NULL", (true, true, false)),
        ("ALTER TABLE orders ADD a INT DEFAULT 5, ALGORITHM=INSTANT, LOCK=NONE", (true, true, false)),
        ("ALTER TABLE orders ADD a INT COMMENT 'DROP COLUMN b, MODIFY c'", (true, false, false)),
        ("ALTER TABLE orders ADD `unique` INT", (true, false, false)),
        ("ALTER TABLE orders ADD INDEX i (a), ADD FULLTEXT (b)", (false, false, false)),
        ("ALTER TABLE orders DROP INDEX i", (false, false, true)),
        ("CREATE INDEX i ON orders (a)", (false, false, false)),
        ("DROP INDEX i ON orders", (false, false, true)),
        ("ALTER ONLINE TABLE IF EXISTS orders NOWAIT ADD COLUMN IF NOT EXISTS a INT", (true, false, false)),
        ("CREATE OR REPLACE INDEX i ON orders (a) WAIT 5", (false, false, true)),
    ] {
        assert_eq!(alters(sql), expected, "{sql}");
    }
}

#[test]
fn ddl_of_other_tables_stops_nothing() {
    for sql in [
        "TRUNCATE audit_log",
        "DROP TABLE audit_log, x.y",
        "DROP TEMPORARY TABLE IF EXISTS orders",
        "CREATE TEMPORARY TABLE orders (a INT)",
        "CREATE TABLE orders (id INT PRIMARY KEY)",
        "CREATE TABLE IF NOT EXISTS orders LIKE x",
        "CREATE TABLE orders (`select` INT, a INT COMMENT 'TABLE') PARTITION BY RANGE (a) (PARTITION p VALUES LESS THAN (5))",
        "CREATE TABLE x.y SELECT * FROM orders",
        "ALTER TABLE x.y DROP COLUMN orders, RENAME COLUMN a TO orders",
        "ALTER TABLE x.y RENAME INDEX a TO orders",
        "RENAME TABLE x.a TO x.b",
        "RENAME USER orders TO b",
        "CREATE VIEW orders AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON orders FOR EACH ROW DELETE FROM orders",
        "DROP PROCEDURE orders",
        "GRANT ALL ON shop.orders TO x",
        "ALTER DATABASE shop CHARACTER SET utf8mb4",
        "ALTER USER orders IDENTIFIED BY 'x'",
        "OPTIMIZE TABLE orders",
        "FLUSH TABLES",
        "SET STATEMENT lock_wait_timeout = 1 FOR TRUNCATE audit_log WAIT 5",
        "CREATE OR REPLACE SEQUENCE orders START WITH 5",
        "ALTER SEQUENCE orders RESTART 7",
        "DROP SEQUENCE orders",
        "CREATE TABLE x.y (a INT) WITH SYSTEM VERSIONING",
        "SET PASSWORD FOR orders = 'x'",
    ] {
        assert_eq!(meaning(sql), Meaning::OtherDdl, "{sql}");
    }
    assert_eq!(
        meaning("DROP TABLE IF EXISTS `audit_1`, other.orders, n /* generated by server */"),
        Meaning::DropsIfExists(vec![TableName::new("other", "orders"), TableName::new("shop", "n")])
    );
    assert_eq!(meaning("DROP DATABASE IF EXISTS `shop`"), Meaning::DropsSchema("shop".into()));
    assert_eq!(meaning("CREATE TABLE orders (`id` int) START TRANSACTION"), Meaning::OpensTransaction);
}

#[test]
fn statement_format_stops_where_it_could_mean_a_followed_table() {
    for (sql, expected) in [
        ("INSERT INTO orders VALUES (1)", "INSERT in statement format: shop.orders"),
        ("insert ignore `shop`.orders select 1", "INSERT in statement format: shop.orders"),
        ("REPLACE LOW_PRIORITY INTO x.orders VALUES (1)", "REPLACE in statement format: x.orders"),
        ("UPDATE x.y, orders SET y.a = 1", "UPDATE in statement format: shop.orders"),
        ("DELETE FROM orders WHERE a = 1", "DELETE in statement format: shop.orders"),
        ("DELETE x.y FROM x.y JOIN orders", "DELETE in statement format: shop.orders"),
        ("LOAD DATA INFILE 'x' INTO TABLE orders", "LOAD in statement format: shop.orders"),
        ("CALL refill('x')", "CALL in statement format: shop.refill"),
        ("WITH a AS (SELECT 1) UPDATE x.y SET a = 1", "WITH in statement format: shop.WITH"),
    ] {
        assert_eq!(stops(sql).as_deref(), Some(expected), "{sql}");
    }
    for sql in [
        "INSERT INTO audit_log SELECT * FROM orders",
        "UPDATE audit_log SET orders = 1 WHERE a IN (SELECT a FROM orders)",
        "DELETE FROM x.y WHERE orders = 1",
        "LOAD DATA INFILE 'orders' INTO TABLE x.y",
        "INSERT INTO x.y VALUES ('orders', \"shop.orders\")",
    ] {
        assert!(matches!(meaning(sql), Meaning::Nothing | Meaning::OtherDdl), "{sql}");
    }
    for sql in ["INSERT INTO", "DELETE", "UPDATE SET"] {
        assert_eq!(meaning(sql), Meaning::Nothing, "{sql}");
    }
    assert!(
        stops("LOAD DATA INFILE 'x' INTO TABLE").is_some(),
        "what ends early could mean any of its names"
    );
    let elsewhere = |sql| classify(sql, "x", SqlMode::default(), &patterns());
    assert_eq!(elsewhere("INSERT INTO t VALUES (1)"), Meaning::OtherDdl);
    assert_eq!(elsewhere("CALL p()"), Meaning::Nothing);
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
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        let mut sql = String::new();
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            sql.push_str(words[state as usize % words.len()]);
            sql.push(' ');
        }
        let _ = meaning(&sql);
    }
}
