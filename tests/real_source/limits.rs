//! Tables and rows as large as they get, and columns that are not there in every row.

use everrelay::source::SourceError;
use mysql_async::prelude::Queryable;

use crate::server::{At, Row, Server};

at_each!(
    as_many_columns_as_an_engine_takes_are_read,
    a_row_of_just_the_limit_passes_and_one_byte_more_stops_by_name,
    columns_that_were_added_to_rows_that_were_there_have_their_defaults,
    text_is_read_in_the_character_set_of_its_time,
);

fn named(row: &Row) -> String {
    row.values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

async fn as_many_columns_as_an_engine_takes_are_read(at: At) {
    let mut server = Server::on(at, "wide").await;
    // MariaDB keeps a definition in at most 64 KiB.
    let most = if at.is_mariadb() { 2700 } else { 4096 };
    for (engine, columns) in [("InnoDB", 1017), ("MyISAM", most)] {
        let mut follower = server.follow().await;
        let rest: Vec<String> = (1..columns).map(|n| format!("c{n} TINYINT UNSIGNED")).collect();
        server
            .run(&format!("CREATE TABLE {engine} (id INT PRIMARY KEY, {}) ENGINE={engine}", rest.join(", ")))
            .await;
        let values = |none: fn(usize) -> bool| {
            let value = |n: usize| if none(n) { "NULL".to_owned() } else { (n % 256).to_string() };
            (1..columns).map(value).collect::<Vec<_>>().join(",")
        };
        let rows = [values(|_| false), values(|_| true), values(|n| n % 2 == 0), values(|n| n % 8 != 7)];
        for (id, row) in rows.iter().enumerate() {
            server.run(&format!("INSERT INTO {engine} VALUES ({id}, {row})")).await;
        }
        server.run(&format!("UPDATE {engine} SET c{} = 9 WHERE id = 1", columns - 1)).await;
        server.run(&format!("DELETE FROM {engine} WHERE id = 0")).await;
        follower.catch_up(&mut server).await;
        let mut wanted: Vec<String> =
            rows.iter().enumerate().map(|(id, row)| format!("insert {engine} {id},{row}")).collect();
        let nulls = "NULL,".repeat(columns - 2);
        wanted.extend([format!("update {engine} 1,{nulls}9"), format!("delete {engine} 0,{}", rows[0])]);
        assert!(follower.briefs() == wanted, "{engine}");
        server.run(&format!("DROP TABLE {engine}")).await;
    }
}

async fn a_row_of_just_the_limit_passes_and_one_byte_more_stops_by_name(at: At) {
    const LIMIT: usize = 100_000;
    let mut server = Server::on(at, "limit").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, b LONGBLOB)").await;
    let mut options = server.options();
    options.max_row_bytes = LIMIT;
    let mut follower = server.follow_with(options).await;
    // A row image is a byte of nulls, four of the key, four of a length and the value.
    let most = LIMIT - 9;
    for sql in [
        format!("INSERT INTO t VALUES (1, REPEAT('x', {most}))"),
        "UPDATE t SET b = REPEAT('y', LENGTH(b))".to_owned(),
        "DELETE FROM t".to_owned(),
    ] {
        server.run(&sql).await;
        follower.catch_up(&mut server).await;
    }
    assert_eq!(follower.read.changes.len(), 3);
    assert!(follower.read.changes.iter().all(|row| row.values[1].1.len() == 2 * most));
    server.run(&format!("INSERT INTO t VALUES (3, REPEAT('x', {}))", most + 1)).await;
    let error = follower.error(&mut server).await;
    let text = error.to_string();
    assert!(matches!(error, SourceError::Definite(_)), "{text}");
    for said in
        [&format!("{}.t", server.schema), "max_row_bytes", &LIMIT.to_string(), &(LIMIT + 1).to_string()]
    {
        assert!(text.contains(said), "{text}");
    }
    assert_eq!(follower.read.changes.len(), 3);
}

async fn columns_that_were_added_to_rows_that_were_there_have_their_defaults(at: At) {
    let mut server = Server::on(at, "added").await;
    server.run("SET sql_mode = DEFAULT").await;
    // MariaDB 11.8 leaves generated columns out of updates, and such rows are read again.
    server
        .run(
            "CREATE TABLE t (id INT PRIMARY KEY, d INT DEFAULT 7, e VARCHAR(10) CHARACTER SET latin1 DEFAULT 'é', \
             i INT DEFAULT 3 INVISIBLE, n INT, m DATETIME(2) DEFAULT '2026-11-23 06:47:08.12')",
        )
        .await;
    let mut follower = server.follow().await;
    for sql in [
        "INSERT INTO t (id) VALUES (1), (2), (3)",
        "ALTER TABLE t ADD COLUMN a INT DEFAULT 5, ALGORITHM=INSTANT",
        "UPDATE t SET n = 1 WHERE id = 1",
        "ALTER TABLE t ADD COLUMN f VARCHAR(9) NOT NULL DEFAULT 'first' FIRST, ALGORITHM=INSTANT",
        "UPDATE t SET n = 2 WHERE id = 2",
        "INSERT INTO t (id, i, a) VALUES (4, NULL, DEFAULT(a))",
        "ALTER TABLE t DROP COLUMN d, ALGORITHM=INSTANT",
        "UPDATE t SET n = 3 WHERE id = 3",
        "ALTER TABLE t ALTER COLUMN a SET DEFAULT 6",
        "INSERT INTO t (id) VALUES (5)",
        "UPDATE t SET id = id + 10 WHERE id = 1",
    ] {
        server.run(sql).await;
        follower.catch_up(&mut server).await;
    }
    let m = "m=2026-11-23 06:47:08.12";
    let row = |id: u8| format!("id={id},d=7,e=é,i=3,n=NULL,{m}");
    assert_eq!(
        follower.read.changes.iter().map(named).collect::<Vec<_>>(),
        [
            row(1),
            row(2),
            row(3),
            format!("id=1,d=7,e=é,i=3,n=1,{m},a=5"),
            format!("f=first,id=2,d=7,e=é,i=3,n=2,{m},a=5"),
            format!("f=first,id=4,d=7,e=é,i=NULL,n=NULL,{m},a=5"),
            format!("f=first,id=3,e=é,i=3,n=3,{m},a=5"),
            format!("f=first,id=5,e=é,i=3,n=NULL,{m},a=6"),
            format!("f=first,id=11,e=é,i=3,n=1,{m},a=5"),
        ]
    );
}

async fn text_is_read_in_the_character_set_of_its_time(at: At) {
    const TEXT: &str = "日本é";
    for late in [false, true] {
        let mut server = Server::on(at, "recoded").await;
        server.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(20), e ENUM('日', 'x'), k CHAR(5))").await;
        let mut follower = server.follow().await;
        let sets = ["utf8mb4", "ujis", "utf16le", "utf8mb3", "eucjpms", "utf32", "ucs2", "utf8mb4"];
        for (id, set) in sets.iter().enumerate() {
            server
                .run(&format!(
                    "ALTER TABLE t MODIFY a VARCHAR(20) CHARACTER SET {set}, MODIFY e ENUM('日', 'x') CHARACTER SET {set}, \
                     MODIFY k CHAR(5) CHARACTER SET {set}"
                ))
                .await;
            server.run(&format!("INSERT INTO t VALUES ({id}, '{TEXT}', '日', '本')")).await;
            if !late {
                follower.catch_up(&mut server).await;
            }
        }
        server.run("ALTER TABLE t CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin").await;
        server.run("INSERT INTO t VALUES (100, '🦀', 'x', '🦀')").await;
        follower.catch_up(&mut server).await;
        let mut wanted: Vec<String> =
            (0..sets.len()).map(|id| format!("insert t {id},{TEXT},日,本")).collect();
        wanted.push("insert t 100,🦀,x,🦀".to_owned());
        assert_eq!(follower.briefs(), wanted);
        // And the rows that the ALTERs wrote anew are those that the server has.
        let there: Vec<(u32, String)> =
            server.conn.query("SELECT id, a FROM t WHERE id < 100").await.unwrap();
        assert!(there.iter().all(|(_, text)| text == TEXT), "{there:?}");
    }
}
