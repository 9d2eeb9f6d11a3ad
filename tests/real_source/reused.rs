//! The same server with another history: GTIDs that it gave again to other transactions.

use std::path::Path;
use std::process::Command;

use everrelay::event::GtidSet;
use everrelay::source::Source;
use mysql_async::prelude::Queryable;
use tokio::sync::Mutex;

use crate::server::{At, Follower, Own, Server, definite_in_time};

/// Its binlogs are reset: the server is that of one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

fn own(at: At, which: &str) -> (Own, String) {
    let of_tests = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
    Own::up_at(at, &format!("{of_tests}-{which}"))
}

/// Commits until it has given every number of `read` again, and some more.
async fn pass(server: &mut Server, read: &GtidSet, sql: &str) {
    while !read.is_subset(&server.executed().await) {
        server.run(sql).await;
    }
    for _ in 0..3 {
        server.run(sql).await;
    }
}

/// Refused, and the place and reason are said.
async fn refused(follower: &mut Follower, says: &str) {
    let place = &follower.read.standing.position;
    let place = format!("{}:{}", place.file, place.began);
    let text = definite_in_time(&mut follower.source, &follower.read.standing).await;
    for part in ["though its server_uuid is the same", &place, says, "snapshot --from-now"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

at_every!(fault_46_a_server_whose_binlogs_were_reset_is_refused_though_it_has_passed_our_numbers);

async fn fault_46_a_server_whose_binlogs_were_reset_is_refused_though_it_has_passed_our_numbers(at: At) {
    let _alone = ALONE.lock().await;
    let (_own, url) = own(at, "reset");
    let reset = if at.is_mariadb() { "RESET MASTER" } else { "RESET BINARY LOGS AND GTIDS" };
    let mut server = Server::at(&url, "reset").await;
    server.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a VARCHAR(200))").await;
    // What stands at our place afterwards: a transaction of another time, the middle of one, nothing yet, or files of lower numbers.
    for (flushes, before, after, says) in [
        (0, "INSERT INTO t (a) VALUES ('same')", "INSERT INTO t (a) VALUES ('same')", "there"),
        (0, "INSERT INTO t (a) VALUES ('short')", "INSERT INTO t (a) VALUES (REPEAT('long', 50))", ""),
        (0, "INSERT INTO t (a) VALUES (REPEAT('long', 50))", "FLUSH PRIVILEGES", "its file ends at"),
        (3, "INSERT INTO t (a) VALUES ('c')", "INSERT INTO t (a) VALUES ('d')", "its newest binlog file is"),
    ]
    .into_iter()
    // MariaDB's times are in seconds, of which this is one.
    .skip(usize::from(at.is_mariadb()))
    {
        server.run(reset).await;
        for _ in 0..flushes {
            server.run("FLUSH BINARY LOGS").await;
        }
        let mut follower = server.follow().await;
        for _ in 0..8 {
            server.run(before).await;
        }
        follower.catch_up(&mut server).await;
        // It goes on where nothing of it is another.
        follower.reconnect().await;
        follower.source.disconnect();
        server.run(reset).await;
        pass(&mut server, follower.source.gtids(), after).await;
        refused(&mut follower, says).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_47_a_server_whose_data_fell_back_is_refused_though_it_has_passed_our_numbers() {
    let (own, url) = own(At::Mysql, "fallen");
    let mut server = Server::at(&url, "fallen").await;
    server.run("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a INT)").await;
    let folder: Option<String> = server.conn.query_first("SELECT @@datadir").await.unwrap();
    let folder = folder.unwrap().trim_end_matches('/').to_owned();
    let kept = tempfile::tempdir_in(Path::new(&folder).parent().unwrap()).unwrap();
    let copy = |from: &Path, to: &Path| {
        let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success(), "{from:?} to {to:?}");
    };
    // As it was on the disk when the machine went down.
    own.kill();
    copy(Path::new(&folder), &kept.path().join("data"));
    own.start();
    server.connect_again().await;
    let mut follower = server.follow().await;
    for number in 0..5 {
        server.run(&format!("INSERT INTO t (a) VALUES ({number})")).await;
    }
    follower.catch_up(&mut server).await;
    follower.source.disconnect();
    own.kill();
    std::fs::remove_dir_all(&folder).unwrap();
    copy(&kept.path().join("data"), Path::new(&folder));
    own.start();
    server.connect_again().await;
    pass(&mut server, follower.source.gtids(), "INSERT INTO t (a) VALUES (9)").await;
    refused(&mut follower, "there").await;
}
