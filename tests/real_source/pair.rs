//! A primary and a replica of it, of one test alone.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};
use tokio::sync::{Mutex, MutexGuard};

use crate::server::{Own, Server};

/// The two servers are those of one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

pub struct Pair {
    pub primary: Server,
    pub replica: Server,
    pub own_primary: Own,
    pub own_replica: Own,
    _alone: MutexGuard<'static, ()>,
}

impl Pair {
    /// Both empty of earlier tests and of GTIDs, with a schema at the primary; the replica replicates.
    pub async fn up(name: &str) -> Pair {
        let alone = ALONE.lock().await;
        let of_tests = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
        let start = |which: &str| {
            let instance = format!("{of_tests}-{which}");
            tokio::task::spawn_blocking(move || Own::up(&instance))
        };
        let (primary, replica) = tokio::join!(start("primary"), start("replica"));
        let ((own_primary, primary_url), (own_replica, replica_url)) = (primary.unwrap(), replica.unwrap());
        emptied(&primary_url).await;
        let mut replica = emptied(&replica_url).await;
        let primary = Server::at(&primary_url, name).await;
        let port = Opts::from_url(&primary_url).unwrap().tcp_port();
        for sql in [
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = 'root', \
                 SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, GET_SOURCE_PUBLIC_KEY = 1"
            ),
            "START REPLICA".to_owned(),
        ] {
            replica.query_drop(sql).await.unwrap();
        }
        let replica = primary.beside(&replica_url).await;
        Pair { primary, replica, own_primary, own_replica, _alone: alone }
    }

    /// Waits until the replica has executed all that the primary has.
    pub async fn replicated(&mut self) {
        let set = self.primary.executed().await;
        let asked = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 20)");
        let late: Option<u8> = self.replica.conn.query_first(asked).await.unwrap();
        assert_eq!(late, Some(0), "the replica has everything in time");
    }

    /// Ends the primary as a crash would, and makes the replica a server of its own.
    pub async fn fail_over(&mut self) {
        self.own_primary.kill();
        self.replica.run("STOP REPLICA").await;
        self.replica.run("RESET REPLICA ALL").await;
        let schema = self.replica.schema.clone();
        self.replica.run(&format!("USE {schema}")).await;
    }
}

impl Drop for Pair {
    /// The next test begins with emptying them: nothing need be ended in order.
    fn drop(&mut self) {
        self.own_primary.kill();
        self.own_replica.kill();
    }
}

/// Takes away what an earlier test left.
async fn emptied(url: &str) -> Conn {
    let mut conn = Conn::new(Opts::from_url(url).unwrap()).await.unwrap();
    let left: Vec<String> = conn
        .query("SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'src\\_%'")
        .await
        .unwrap();
    for sql in ["STOP REPLICA", "RESET REPLICA ALL", "SET sql_log_bin = 0"] {
        conn.query_drop(sql).await.unwrap();
    }
    for schema in left {
        conn.query_drop(format!("DROP DATABASE {schema}")).await.unwrap();
    }
    for sql in [
        "CREATE USER IF NOT EXISTS root@'127.0.0.1'",
        "GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION",
        "RESET BINARY LOGS AND GTIDS",
        "SET sql_log_bin = 1",
    ] {
        conn.query_drop(sql).await.unwrap();
    }
    conn
}
