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
        ("ROLLBACK TO `s`", Meaning::RollbackTo("s".into())),
        ("ROLLBACK WORK TO SAVEPOINT s", Meaning::RollbackTo("s".into())),
        ("ROLLBACK TO savepoint `a ``b`", Meaning::RollbackTo("a `b".into())),
        ("SAVEPOINT `orders`", Meaning::Savepoint("orders".into())),
        ("SAVEPOINT savepoint", Meaning::Savepoint("savepoint".into())),
        ("RELEASE SAVEPOINT s", Meaning::Nothing),
        ("XA START X'61',X'',1", Meaning::XaStart("X'61',X'',1".into())),
        ("XA END X'61',X'',1", Meaning::XaEnd),
        ("XA COMMIT X'61',X'',1", Meaning::XaCommit("X'61',X'',1".into())),
        ("XA ROLLBACK X'61',X'',1", Meaning::XaRollback("X'61',X'',1".into())),
        ("", Meaning::Nothing),
    ] {
        assert_eq!(meaning(sql), expected, "{sql}");
    }
}

#[test]
fn a_truncate_of_a_followed_table_is_told_from_others_however_it_is_written() {
    for sql in [
        "TRUNCATE TABLE orders",
        "truncate `shop`.`orders`",
        "/*!50000 TRUNCATE TABLE */ orders",
        "TRUNCATE /* x */ TABLE shop . orders -- all of it",
        "TRUNCATE TABLE orders WAIT 5",
        "/*M!100301 TRUNCATE TABLE */ orders",
        "-- a comment\n/* another */ TRUNCATE TABLE orders",
        "SET STATEMENT max_statement_time = 1, lock_wait_timeout = (2) FOR TRUNCATE orders NOWAIT",
    ] {
        assert_eq!(meaning(sql), Meaning::Truncates(TableName::new("shop", "orders")), "{sql}");
    }
    assert_eq!(meaning("TRUNCATE audit_log"), Meaning::OtherDdl);
    assert!(stops("TRUNCATE TABLE (orders)").is_some(), "what is not understood could mean it");
    assert_eq!(
        stops("set statement a=1 for set statement b=2 for UPDATE orders SET a = 1").as_deref(),
        Some("UPDATE in statement format: shop.orders")
    );
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
