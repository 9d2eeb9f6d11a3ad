//! Several servers, and one that replicates from another.

use std::time::Duration;

use everrelay::event::Version;
use everrelay::log::Standing;
use everrelay::log::record::{Batch, Commit, Kind};
use everrelay::source::mysql::{Address, Host, MysqlOptions, MysqlSource, Tls};
use everrelay::source::upstream::HostUse;
use everrelay::source::{Source, SourceError};
use mysql_async::prelude::Queryable;

use crate::pair::Pair;
use crate::server::{Follower, Server, definite_in_time};

/// The primary, and then the replica.
fn both(pair: &Pair) -> MysqlOptions {
    let mut options = pair.primary.options();
    options.others = vec![Host { address: pair.replica.address(), tls: Tls::Local }];
    options
}

/// A source that knows of the replica alone.
fn alone_at_the_replica(pair: &Pair) -> MysqlSource {
    let alone = both(pair).only(&Host { address: pair.replica.address(), tls: Tls::Local });
    MysqlSource::new(alone).unwrap()
}

fn uses(follower: &Follower) -> Vec<HostUse> {
    follower.source.upstream().borrow().hosts.iter().map(|host| host.at_present).collect()
}

/// What each server said when it was tried last.
fn said(source: &MysqlSource) -> Vec<String> {
    source.upstream().borrow().hosts.iter().map(|host| host.said.clone().unwrap_or_default()).collect()
}

/// The stream ends, in an error that is worth another connection.
async fn ended(follower: &mut Follower) {
    let ending = async {
        loop {
            let mut batch = Batch::new();
            if let Err(error) = follower.source.fill(&mut batch).await {
                assert!(matches!(error, SourceError::Transient(_)), "{error}");
                return;
            }
            follower.read.batch(&batch);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ending).await.expect("the stream ends in time");
}

async fn uuid(server: &mut Server) -> [u8; 16] {
    let text: Option<String> = server.conn.query_first("SELECT @@server_uuid").await.unwrap();
    *uuid::Uuid::parse_str(&text.unwrap()).unwrap().as_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_45_a_clean_failover_is_resumed_at_the_other_server_without_loss_or_repetition() {
    let mut pair = Pair::up("clean").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = pair.primary.follow_with(both(&pair)).await;
    pair.primary.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut pair.primary).await;
    assert_eq!(uses(&follower), [HostUse::Read, HostUse::Spare]);
    // This one is read from the replica alone.
    pair.primary.run("INSERT INTO t VALUES (2)").await;
    pair.replicated().await;
    let uuids = [uuid(&mut pair.primary).await, uuid(&mut pair.replica).await];
    follower.source.disconnect();
    pair.fail_over().await;
    follower.reconnect().await;
    pair.replica.run("INSERT INTO t VALUES (3)").await;
    follower.catch_up(&mut pair.replica).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2", "insert t 3"]);
    let servers: Vec<_> = follower.read.commits.iter().map(|commit| commit.position.server).collect();
    assert_eq!(servers, [uuids[0], uuids[1], uuids[1]]);
    assert_eq!(uses(&follower), [HostUse::Refused, HostUse::Read]);
    assert!(said(&follower.source)[0].contains("refused"), "{:?}", said(&follower.source));
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_a_failover_that_lost_transactions_is_refused_with_the_difference_named() {
    let mut pair = Pair::up("lossy").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    pair.replicated().await;
    let mut follower = pair.primary.follow_with(both(&pair)).await;
    pair.replica.run("STOP REPLICA").await;
    let before = pair.primary.executed().await;
    pair.primary.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut pair.primary).await;
    let lost = pair.primary.executed().await.subtract(&before);
    pair.fail_over().await;
    pair.replica.run("INSERT INTO t VALUES (2)").await;
    ended(&mut follower).await;

    // While the primary may come back with it nothing is final, but nothing is read either.
    let error = follower.source.connect(&follower.read.standing).await.unwrap_err();
    assert!(matches!(error, SourceError::Transient(_)), "{error}");
    assert!(error.to_string().contains(&lost.to_string()), "{error}");
    assert_eq!(uses(&follower), [HostUse::Refused, HostUse::Refused]);
    // Where there is no other server it is final after the grace.
    let mut source = alone_at_the_replica(&pair);
    let text = definite_in_time(&mut source, &follower.read.standing).await;
    assert!(text.contains(&lost.to_string()) && text.contains("never executed"), "{text}");
    // To go on without them is an operator's to say: from where that server is, with every table owed.
    let mut alone = alone_at_the_replica(&pair);
    let mut waited = 0;
    let said = alone.loss(&follower.read.standing, |_| waited += 1).await.unwrap();
    assert!(said.is_some_and(|said| said.contains(&lost.to_string())) && waited > 0);
    let (begins, noted) = alone.anew(&follower.read.standing, []).await.unwrap();
    assert_eq!(begins.gtids, pair.replica.executed().await);
    assert_eq!((noted.gaps.len(), noted.snapshots.len()), (1, 1));
    assert!(alone.loss(&begins, |_| {}).await.unwrap().is_none(), "and nothing is lost to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_46_a_failover_that_lost_what_was_only_seen_by_select_is_refused_too() {
    let mut pair = Pair::up("horizon").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY, v INT, w TEXT)").await;
    pair.primary.run("INSERT INTO t VALUES (1, 0, 'w')").await;
    let follower = pair.primary.follow().await;
    let start = follower.read.standing.clone();
    pair.primary.run("SET binlog_row_image = 'MINIMAL'").await;
    pair.primary.run("UPDATE t SET v = 1").await;
    pair.replicated().await;
    pair.replica.run("STOP REPLICA").await;
    let before = pair.primary.executed().await;
    pair.primary.run("UPDATE t SET v = 2").await;
    let lost = pair.primary.executed().await.subtract(&before);
    // Read only now: the first transaction's row is that of the second. And the log ends with the first.
    let mut source = MysqlSource::new(pair.primary.options()).unwrap();
    source.connect(&start).await.unwrap();
    let first = loop {
        let mut batch = Batch::new();
        source.fill(&mut batch).await.unwrap();
        let mut ends = batch.payloads().filter(|(kind, _)| *kind == Kind::Commit);
        if let Some((_, payload)) = ends.next() {
            break Commit::decode(payload).unwrap();
        }
    };
    let mut standing = start;
    standing.committed(first, Version(1));
    assert_eq!(standing.horizon, lost);
    drop(source);
    // The replica has all that the log holds, and not what its document shows.
    let mut at_replica = MysqlSource::new(pair.replica.options()).unwrap();
    let text = definite_in_time(&mut at_replica, &standing).await;
    assert!(text.contains(&lost.to_string()) && text.contains("never executed"), "{text}");
    // Once it has that too, it is followed.
    pair.replica.run("START REPLICA").await;
    pair.replicated().await;
    pair.fail_over().await;
    at_replica.connect(&standing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_for_good_does_not_stop_the_source_while_another_serves() {
    let mut pair = Pair::up("refusing").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = pair.primary.follow_with(both(&pair)).await;
    pair.primary.run("INSERT INTO t VALUES (1)").await;
    pair.replicated().await;
    follower.source.disconnect();
    // The primary has not what was not read yet, the replica has.
    pair.primary.purge().await;
    follower.reconnect().await;
    assert_eq!(uses(&follower), [HostUse::Refused, HostUse::Read]);
    assert!(said(&follower.source)[0].contains("purged"), "{:?}", said(&follower.source));
    follower.catch_up(&mut pair.primary).await;
    assert_eq!(follower.briefs(), ["insert t 1"]);

    // When both do, it is final, and each is named with its reason.
    pair.primary.run("INSERT INTO t VALUES (2)").await;
    pair.replicated().await;
    follower.source.disconnect();
    for server in [&mut pair.primary, &mut pair.replica] {
        server.purge().await;
    }
    let text = definite_in_time(&mut follower.source, &follower.read.standing).await;
    for server in [&pair.primary, &pair.replica] {
        assert!(text.contains(&format!("{} has purged", server.address())), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_62_a_replica_that_lags_is_waited_for_and_tells_its_lag() {
    let mut pair = Pair::up("lagging").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    pair.replicated().await;
    for sql in [
        "STOP REPLICA SQL_THREAD",
        "CHANGE REPLICATION SOURCE TO SOURCE_DELAY = 4",
        "START REPLICA SQL_THREAD",
    ] {
        pair.replica.run(sql).await;
    }
    let mut options = both(&pair).only(&Host { address: pair.replica.address(), tls: Tls::Local });
    options.failover_grace = Duration::from_millis(100);
    let mut follower = pair.primary.follow().await;
    pair.primary.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut pair.primary).await;

    // It lacks what was read from the primary, for longer than the grace, and has received it.
    follower.source = MysqlSource::new(options).unwrap();
    let error = follower.source.connect(&follower.read.standing).await.unwrap_err();
    assert!(matches!(error, SourceError::Transient(_)), "{error}");
    assert!(error.to_string().contains("replica that lags"), "{error}");
    follower.reconnect().await;
    let mut upstream = follower.source.upstream();
    pair.primary.run("INSERT INTO t VALUES (2)").await;
    follower.catch_up(&mut pair.primary).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2"]);
    let seen = upstream.wait_for(|upstream| upstream.lag_seconds().is_some());
    let seen =
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("its lag is told").unwrap().clone();
    assert_eq!(seen.replicates[0].from, pair.primary.address().to_string());
    assert_eq!(seen.replicates[0].stopped, None);

    // One that stands still says why.
    pair.replica.run("STOP REPLICA SQL_THREAD").await;
    follower.reconnect().await;
    let stopped =
        upstream.wait_for(|upstream| upstream.replicates.iter().any(|channel| channel.stopped.is_some()));
    tokio::time::timeout(Duration::from_secs(20), stopped)
        .await
        .expect("it is told that it stands still")
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_52_what_a_server_does_not_write_to_its_binlog_is_refused() {
    let mut pair = Pair::up("unwritten").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    pair.replicated().await;
    let mut options = both(&pair).only(&Host { address: pair.replica.address(), tls: Tls::Local });
    let after = Standing::after(pair.primary.executed().await);
    let schema = pair.primary.schema.clone();
    pair.own_replica.restart_with(&format!("--log-replica-updates=OFF --binlog-ignore-db={schema}"));
    let refused = async |options: &MysqlOptions, says: &str| {
        let mut source = MysqlSource::new(options.clone()).unwrap();
        let text = definite_in_time(&mut source, &after).await;
        assert!(text.contains(says) && text.contains(&options.address.to_string()), "{text}");
    };
    refused(&options, &format!("{schema}.t to its binlog")).await;
    options.tables = vec!["another.*".to_owned()];
    refused(&options, "log_replica_updates = OFF").await;
    pair.replica.connect_again().await;
    pair.replica.run("SET GLOBAL binlog_error_action = IGNORE_ERROR").await;
    refused(&options, "binlog_error_action = IGNORE_ERROR").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_no_time_where_another_is() {
    let mut server = Server::new("away").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut options = server.options();
    options.others = vec![Host { address: server.address(), tls: Tls::Local }];
    options.address = Address::Tcp { host: "127.0.0.1".into(), port: 1 };
    let mut follower = server.follow_with(options).await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    assert_eq!(uses(&follower), [HostUse::Refused, HostUse::Read]);
    assert_eq!(follower.briefs(), ["insert t 1"]);
}
