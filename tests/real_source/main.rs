//! The MySQL source against a real server.
//!
//! The server is the one that `EVERRELAY_TEST_MYSQL_URL` names (`mysql://root@127.0.0.1:3306`, GTIDs on), else the one that `dev/servers up mysql
//! --instance test` starts; likewise MariaDB (`EVERRELAY_TEST_MARIADB_URL`). Without them these tests fail: run them by `dev/test real`. Each test
//! has a schema of its own.

/// Tests of these functions at MySQL and at MariaDB, as `NAME::mysql` and `NAME::mariadb`.
macro_rules! at_each {
    ($($name:ident),* $(,)?) => {$( at_these!($name: mysql Mysql, mariadb Mariadb); )*};
}

/// At the oldest MariaDB too.
macro_rules! at_every {
    ($($name:ident),* $(,)?) => {$( at_these!($name: mysql Mysql, mariadb Mariadb, mariadb10 Mariadb10); )*};
}

/// At both of MariaDB alone.
macro_rules! at_mariadb {
    ($($name:ident),* $(,)?) => {$( at_these!($name: mariadb Mariadb, mariadb10 Mariadb10); )*};
}

macro_rules! at_these {
    ($name:ident: $($server:ident $at:ident),*) => {
        mod $name {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $server() {
                super::$name($crate::server::At::$at).await;
            }
        )*}
    };
}

mod carriers;
mod charsets;
#[path = "../real_differential/columns.rs"]
mod columns;
mod connections;
mod ddl;
mod ddl_cases;
mod errors;
mod golden;
mod hosts;
mod images;
mod limits;
mod mariadb;
mod online;
mod outcome;
mod pair;
mod random;
mod reused;
mod select;
mod server;
mod snapshots;
mod stalls;
mod storm;
mod tls;
mod transactions;
#[path = "../support/valve.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod valve;
mod without_gtids;
mod without_gtids_modes;
mod xa;
