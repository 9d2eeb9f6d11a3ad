//! XA transactions, as MySQL and MariaDB write them.

use everrelay::log::Standing;
use everrelay::source::mysql::{MysqlOptions, MysqlSource};
use everrelay::source::{Source, SourceError};

use crate::server::{At, Follower, Read, Server};

at_every! {
    rows_count_with_xa_commit_and_not_with_xa_rollback,
    xa_of_other_tables_is_told_by_a_mark_and_means_nothing,
    a_commit_of_what_is_not_held_marks_every_followed_table,
    fault_51_rows_without_all_columns_are_read_again_with_one_phase_and_definite_with_two,
}

/// A session of its own for one XA transaction: the server gives a session that has prepared one nothing else to do.
struct Branch {
    server: Server,
    xid: String,
}

impl Branch {
    async fn prepared(at: At, of: &Server, name: &str, statements: &[&str]) -> Branch {
        let mut branch = Branch::ended(at, of, name, statements).await;
        branch.say("PREPARE", "").await;
        branch
    }

    async fn ended(at: At, of: &Server, name: &str, statements: &[&str]) -> Branch {
        let server = Server::on(at, "branch").await;
        let mut branch = Branch { server, xid: format!("'{}','{name}',7", of.schema) };
        branch.server.run(&format!("USE {}", of.schema)).await;
        branch.say("START", "").await;
        for statement in statements {
            branch.server.run(statement).await;
        }
        branch.say("END", "").await;
        branch
    }

    async fn say(&mut self, verb: &str, more: &str) {
        self.server.run(&format!("XA {verb} {} {more}", self.xid)).await;
    }

    async fn decided(mut self, verb: &str) {
        self.say(verb, "").await;
    }
}

/// Another run goes on from what a log would know.
async fn again(follower: &mut Follower, options: MysqlOptions) {
    let mut source = MysqlSource::new(options).unwrap();
    source.connect(&follower.read.standing).await.unwrap();
    follower.source = source;
    follower.read.changes.clear();
}

async fn rows_count_with_xa_commit_and_not_with_xa_rollback(at: At) {
    let mut server = Server::on(at, "xa_rows").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
    server.run("CREATE TABLE u (id INT PRIMARY KEY)").await;
    server.run("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)").await;
    let mut follower = server.follow().await;
    let one =
        ["UPDATE t SET id = 11 WHERE id = 1", "INSERT INTO u VALUES (1)", "UPDATE t SET a = 9 WHERE id = 11"];
    let one = Branch::prepared(at, &server, "one", &one).await;
    let two =
        Branch::prepared(at, &server, "two", &["DELETE FROM t WHERE id = 2", "INSERT INTO u VALUES (2)"])
            .await;
    let gone = Branch::prepared(at, &server, "gone", &["INSERT INTO t VALUES (4, 4)"]).await;
    server.run("UPDATE t SET a = 33 WHERE id = 3").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["update t 3,33"]);
    assert_eq!(follower.read.standing.prepared.len(), 3);
    gone.decided("ROLLBACK").await;
    two.decided("COMMIT").await;
    server.run("INSERT INTO t VALUES (2, 22)").await;
    one.decided("COMMIT").await;
    let mut at_once = Branch::ended(at, &server, "at_once", &["INSERT INTO u VALUES (5)"]).await;
    at_once.say("COMMIT", "ONE PHASE").await;
    // Nothing of these is written, or nothing that counts.
    Branch::prepared(at, &server, "read", &["SELECT COUNT(*) FROM t"]).await.decided("COMMIT").await;
    Branch::prepared(at, &server, "empty", &[]).await.decided("ROLLBACK").await;
    follower.catch_up(&mut server).await;
    let expected = [
        "update t 3,33",
        "delete t 2,2",
        "insert u 2",
        "insert t 2,22",
        "rekey t 11,1 was 1",
        "insert u 1",
        "update t 11,9",
        "insert u 5",
    ];
    assert_eq!(follower.briefs(), expected);
    let Read { standing: Standing { prepared, .. }, gaps, .. } = &follower.read;
    assert!(prepared.is_empty() && gaps.is_empty(), "{prepared:?} {gaps:?}");
}

async fn xa_of_other_tables_is_told_by_a_mark_and_means_nothing(at: At) {
    for decision in ["COMMIT", "ROLLBACK"] {
        let mut server = Server::on(at, "xa").await;
        server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
        server.run("CREATE TABLE o (id INT PRIMARY KEY)").await;
        let mut options = server.options();
        options.tables.push(format!("!{}.o", server.schema));
        options.mark_transactions = 1;
        let mut follower = server.follow_with(options.clone()).await;
        let branch = Branch::prepared(at, &server, "other", &["INSERT INTO o VALUES (1)"]).await;
        server.run("INSERT INTO t VALUES (1)").await;
        follower.catch_up(&mut server).await;
        assert!(server.executed().await.is_subset(&follower.read.gtids), "the PREPARE is told too");
        again(&mut follower, options.clone()).await;
        branch.decided(decision).await;
        server.run("INSERT INTO t VALUES (2)").await;
        server.run("INSERT INTO o VALUES (2)").await;
        follower.catch_up(&mut server).await;
        assert_eq!((follower.briefs(), &follower.read.gaps), (vec!["insert t 2".to_owned()], &vec![]));
        assert!(follower.read.standing.prepared.is_empty(), "{:?}", follower.read.standing);
    }
}

async fn a_commit_of_what_is_not_held_marks_every_followed_table(at: At) {
    let mut server = Server::on(at, "xa_before").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    server.run("CREATE TABLE u (id INT PRIMARY KEY)").await;
    let before = Branch::prepared(at, &server, "before", &["INSERT INTO t VALUES (1)"]).await;
    let dropped = Branch::prepared(at, &server, "dropped", &["INSERT INTO t VALUES (2)"]).await;
    let mut follower = server.follow().await;
    dropped.decided("ROLLBACK").await;
    server.run("INSERT INTO t VALUES (3)").await;
    follower.catch_up(&mut server).await;
    assert!(follower.read.gaps.is_empty());
    before.decided("COMMIT").await;
    server.run("INSERT INTO t VALUES (4)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 3", "insert t 4"]);
    let gaps = &follower.read.gaps;
    assert!(gaps.len() == 2 && gaps[0].starts_with("t: ") && gaps[1].starts_with("u: "), "{gaps:?}");
}

async fn fault_51_rows_without_all_columns_are_read_again_with_one_phase_and_definite_with_two(at: At) {
    let mut server = Server::on(at, "xa_images").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b INT)").await;
    server.run("INSERT INTO t VALUES (1, 1, 1), (2, 2, 2), (3, 3, 3)").await;
    let mut follower = server.follow().await;
    // What is held and what is read again stay in one order.
    let statements = [
        "INSERT INTO t VALUES (4, 4, 4)",
        "SET binlog_row_image = 'MINIMAL'",
        "DELETE FROM t WHERE id = 1",
        "INSERT INTO t (id, a) VALUES (1, 5)",
        "UPDATE t SET id = 12 WHERE id = 2",
        "UPDATE t SET b = 6 WHERE id = 4",
    ];
    let mut once = Branch::ended(at, &server, "once", &statements).await;
    once.say("COMMIT", "ONE PHASE").await;
    follower.catch_up(&mut server).await;
    let expected = [
        "insert t 4,4,4",
        "tombstone t 1",
        "tombstone t 2",
        "update t 1,5,NULL",
        "update t 4,4,6",
        "update t 12,2,2",
    ];
    assert_eq!(follower.briefs(), expected);
    assert!(follower.read.standing.prepared.is_empty() && follower.read.gaps.is_empty());
    // Keys alone need no reading.
    let gone = ["SET binlog_row_image = 'MINIMAL'", "DELETE FROM t WHERE id = 3"];
    Branch::prepared(at, &server, "gone", &gone).await.decided("COMMIT").await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs().last().unwrap(), "tombstone t 3");
    let two = ["SET binlog_row_image = 'MINIMAL'", "UPDATE t SET b = 7 WHERE id = 4"];
    let two = Branch::prepared(at, &server, "two", &two).await;
    let SourceError::Definite(error) = follower.error(&mut server).await else { panic!("not definite") };
    let text = error.to_string();
    assert!(text.contains("XA_PREPARE") && text.contains(&format!("{}.t", server.schema)), "{text}");
    two.decided("ROLLBACK").await;
}
