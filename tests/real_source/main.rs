//! The MySQL source against a real server.
//!
//! The server is the one that `EVERRELAY_TEST_MYSQL_URL` names (`mysql://root@127.0.0.1:3306`, GTIDs on), else the one that `dev/servers up mysql
//! --instance test` starts; without either these tests fail: run them by `dev/test real`. Each test has a schema of its own.

mod carriers;
mod charsets;
#[path = "../real_differential/columns.rs"]
mod columns;
mod errors;
mod golden;
mod select;
mod server;
mod tls;
mod transactions;
