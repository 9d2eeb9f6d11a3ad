//! DDL in mid-stream: the rows before and after it, and what needs a snapshot.

use everrelay::source::mysql::control::Control;
use everrelay::source::mysql::patterns::Patterns;
use mysql_async::Row as Found;
use mysql_async::prelude::Queryable;

use crate::ddl_cases::{CASES, Case, MYSQL_CASES};
use crate::server::{At, Follower, Own, Row, Server};

at_each!(
    fault_57_rows_are_read_by_the_columns_of_their_time_through_each_kind_of_ddl,
    fault_57_it_is_the_same_when_all_of_it_is_read_afterwards,
    fault_57_table_maps_without_names_are_completed_by_information_schema,
    fault_57_a_table_id_that_a_restarted_server_gives_again_is_another_table,
    fault_58_dropped_tables_are_gaps_and_the_stream_goes_on,
    rows_that_a_foreign_key_changes_come_or_the_key_is_named,
);

/// Every case that the server has.
fn cases(at: At) -> impl Iterator<Item = (usize, &'static Case)> {
    let own = if at.is_mariadb() { &[] } else { MYSQL_CASES };
    CASES.iter().chain(own).enumerate()
}

/// `insert t id=1,a=10`
fn named(row: &Row) -> String {
    let op = format!("{:?}", row.op).to_lowercase();
    let values: Vec<String> = row.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let old = if row.old_key.is_empty() { String::new() } else { format!(" was {}", row.old_key.join(",")) };
    format!("{op} {} {}{old}", row.table, values.join(","))
}

/// How far the stream is behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lag {
    None,
    /// Every statement was executed before anything is read, by another connection than that which read the first rows.
    Whole,
}

async fn run(server: &mut Server, case: &Case, lag: Lag) -> Follower {
    server.run("SET sql_mode = DEFAULT").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20))").await;
    let mut follower = server.follow().await;
    server.run("INSERT INTO t VALUES (1, 10, 'x'), (2, 20, 'y')").await;
    follower.catch_up(server).await;
    for sql in case.sql {
        server.run(sql).await;
        if lag == Lag::None {
            follower.catch_up(server).await;
        }
    }
    if lag == Lag::Whole {
        follower.connect_again().await;
        follower.catch_up(server).await;
    }
    follower
}

async fn holds(server: &mut Server, case: &Case, lag: Lag) {
    let follower = run(server, case, lag).await;
    let rows: Vec<String> = follower.read.changes.iter().skip(2).map(named).collect();
    assert_eq!(rows, case.rows, "{:?}", case.sql);
    let gaps = case.gaps.iter().map(|gap| gap.replace("SCHEMA", &server.schema));
    let found: Vec<_> =
        follower.read.standing.gaps.iter().map(|gap| format!("{}: {}", gap.table.table, gap.why)).collect();
    assert_eq!(found, gaps.collect::<Vec<_>>(), "{:?}", case.sql);
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
}

async fn fault_57_rows_are_read_by_the_columns_of_their_time_through_each_kind_of_ddl(at: At) {
    for (number, case) in cases(at) {
        let mut server = Server::on(at, &format!("ddl_{number}")).await;
        holds(&mut server, case, Lag::None).await;
    }
}

async fn fault_57_it_is_the_same_when_all_of_it_is_read_afterwards(at: At) {
    for (number, case) in cases(at) {
        let mut server = Server::on(at, &format!("ddl_late_{number}")).await;
        holds(&mut server, case, Lag::Whole).await;
    }
}

async fn fault_57_table_maps_without_names_are_completed_by_information_schema(at: At) {
    // The setting is the whole server's.
    let (_own, url) = Own::up_at(at, "test-minimal");
    let mut server = Server::at(&url, "minimal").await;
    server.run("SET GLOBAL binlog_row_metadata = MINIMAL").await;
    for (number, case) in cases(at) {
        let mut server = Server::at(&url, &format!("minimal_{number}")).await;
        holds(&mut server, case, Lag::None).await;
    }
}

/// The ids that table maps of the newest binlog file say.
async fn table_ids(server: &mut Server) -> Vec<String> {
    let files: Vec<Found> = server.conn.query("SHOW BINARY LOGS").await.expect("the files");
    let newest: String = files.last().and_then(|row| row.get(0)).expect("a file");
    let events: Vec<Found> =
        server.conn.query(format!("SHOW BINLOG EVENTS IN '{newest}'")).await.expect("events");
    let says = events.iter().map(|row| (row.get::<String, _>(2).unwrap(), row.get::<String, _>(5).unwrap()));
    let maps = says.filter(|(kind, _)| kind == "Table_map");
    // `table_id: 94 (schema.t)`
    maps.map(|(_, info)| info.split(' ').nth(1).expect("an id").to_owned()).collect()
}

async fn fault_57_a_table_id_that_a_restarted_server_gives_again_is_another_table(at: At) {
    let (_own, url) = Own::up_at(at, "test-ids");
    let mut server = Server::at(&url, "ids").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    server.run("CREATE TABLE u (b VARCHAR(10), c VARCHAR(10) PRIMARY KEY)").await;
    // It reads when all is over, so that one stream has all of it.
    let mut follower = server.follow().await;
    let mut ids = Vec::new();
    for sql in ["INSERT INTO t VALUES (1, 10)", "INSERT INTO u VALUES ('x', 'y')"] {
        at.dev_servers("restart", "test-ids");
        server.connect_again().await;
        server.run(sql).await;
        ids.push(table_ids(&mut server).await);
    }
    assert!(ids[0].len() == 1 && ids.iter().all(|all| *all == ids[0]), "one id, given twice: {ids:?}");
    assert!(follower.catch_up_again(&mut server).await > 0);
    assert_eq!(follower.briefs(), ["insert t 1,10", "insert u x,y"]);
}

async fn fault_58_dropped_tables_are_gaps_and_the_stream_goes_on(at: At) {
    const DROPPED: &str = "t: DROP TABLE: its documents stay as they were";
    let mut server = Server::on(at, "dropped").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    server.run("CREATE TABLE u (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    server.run("DROP TABLE IF EXISTS nothing").await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    assert!(follower.read.gaps.is_empty());
    server.run("DROP TABLE IF EXISTS t").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    server.run("INSERT INTO t VALUES (2)").await;
    server.run("DROP TABLE t").await;
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2"]);
    let dropped = |table: &str| format!("{table}: DROP DATABASE: its documents stay as they were");
    assert_eq!(follower.read.gaps, [DROPPED.to_owned(), DROPPED.into(), dropped("t"), dropped("u")]);
}

async fn rows_that_a_foreign_key_changes_come_or_the_key_is_named(at: At) {
    let mut server = Server::on(at, "cascade").await;
    for sql in [
        "CREATE TABLE p (id INT PRIMARY KEY)",
        "CREATE TABLE c (id INT PRIMARY KEY, p INT, CONSTRAINT up FOREIGN KEY (p) REFERENCES p (id) ON DELETE CASCADE)",
        "CREATE TABLE n (id INT PRIMARY KEY, p INT, CONSTRAINT off FOREIGN KEY (p) REFERENCES p (id) ON UPDATE SET NULL)",
        "CREATE TABLE r (id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES p (id))",
        "INSERT INTO p VALUES (1), (2)",
        "INSERT INTO c VALUES (10, 1)",
        "INSERT INTO n VALUES (20, 2)",
    ] {
        server.run(sql).await;
    }
    let options = server.options();
    let mut control = Control::connect(&options).await.unwrap();
    let patterns = Patterns::parse(&options.tables).unwrap();
    let mut cascades: Vec<_> =
        control.cascades(&patterns).await.unwrap().iter().map(ToString::to_string).collect();
    cascades.sort();
    let mut follower = server.follow().await;
    server.run("DELETE FROM p WHERE id = 1").await;
    server.run("UPDATE p SET id = 3").await;
    follower.catch_up(&mut server).await;
    let mut rows: Vec<_> = follower.read.changes.iter().map(named).collect();
    rows.sort();
    if at.is_mariadb() {
        let schema = &server.schema;
        let named = [
            format!("off of {schema}.n (ON UPDATE SET NULL)"),
            format!("up of {schema}.c (ON DELETE CASCADE)"),
        ];
        assert_eq!(cascades, named);
        assert_eq!(rows, ["delete p id=1", "rekey p id=3 was 2"]);
    } else {
        assert!(cascades.is_empty(), "{cascades:?}");
        let all = ["delete c id=10,p=1", "delete p id=1", "rekey p id=3 was 2", "update n id=20,p=NULL"];
        assert_eq!(rows, all);
    }
}
