//! Connections that end, go silent or say something else than the server did, wherever in the stream that is.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use everrelay::log::Standing;
use everrelay::source::mysql::{Address, MysqlOptions, MysqlSource, Tls};
use everrelay::source::{Source, SourceError};
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::pair::Pair;
use crate::server::{Follower, Own, Server, definite_in_time};
use crate::valve::Valve;

/// Bytes between two places that are tried; the smallest event is larger.
const STRIDE: u64 = 37;

fn by(options: MysqlOptions, address: SocketAddr) -> MysqlOptions {
    let address = Address::Tcp { host: address.ip().to_string(), port: address.port() };
    MysqlOptions { address, ..options }
}

/// What the proxy does to the first connection that gets so far.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Cut,
    Flip,
}

/// Listens as the server does; `at`: bytes from the server.
async fn striking(server: String, blow: Blow, at: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let struck = Arc::new(AtomicBool::new(false));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, struck) = (server.clone(), Arc::clone(&struck));
            // An error is the end of one connection, as it would be without a proxy.
            tokio::spawn(async move { pass_on(client, &server, blow, at, &struck).await });
        }
    });
    address
}

async fn pass_on(
    client: TcpStream,
    server: &str,
    blow: Blow,
    at: u64,
    struck: &AtomicBool,
) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let upward = async move { tokio::io::copy(&mut from_client, &mut to_server).await.map(|_| ()) };
    let downward = async move {
        let (mut given, mut buffer) = (0, vec![0; 16 * 1024]);
        loop {
            let mut read = from_server.read(&mut buffer).await?;
            let there = at.checked_sub(given).filter(|there| *there < read as u64);
            let strikes = there.filter(|_| !struck.swap(true, Ordering::Relaxed));
            match (blow, strikes) {
                (Blow::Flip, Some(there)) => buffer[there as usize] ^= 4,
                (Blow::Cut, Some(there)) => read = there as usize,
                (_, None) => {}
            }
            to_client.write_all(&buffer[..read]).await?;
            given += read as u64;
            if read == 0 || (matches!(blow, Blow::Cut) && strikes.is_some()) {
                return Ok(());
            }
        }
    };
    tokio::select! {
        ended = upward => ended,
        ended = downward => ended,
    }
}

/// How far a connection came before it was struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It did not stream yet.
    Connecting,
    Streaming,
    ToTheEnd,
}

/// Some transactions of several kinds, and where they begin.
struct Sweep {
    server: Server,
    start: Standing,
    expected: Vec<String>,
}

impl Sweep {
    async fn of(mut server: Server) -> Sweep {
        server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT)").await;
        server.run("CREATE TABLE u (id INT PRIMARY KEY) ENGINE = MyISAM").await;
        let mut follower = server.follow().await;
        let start = follower.read.standing.clone();
        for sql in [
            "INSERT INTO t VALUES (1, 1), (2, 2)",
            "INSERT INTO u VALUES (1)",
            "BEGIN",
            "UPDATE t SET a = a + 10",
            "SAVEPOINT s",
            "DELETE FROM t WHERE id = 1",
            "ROLLBACK TO s",
            "INSERT INTO t VALUES (3, 3)",
            "COMMIT",
            "ALTER TABLE t ADD b INT",
            "UPDATE t SET b = 5 WHERE id = 3",
        ] {
            server.run(sql).await;
        }
        follower.catch_up(&mut server).await;
        let expected = follower.briefs();
        assert_eq!(expected.len(), 7, "{expected:?}");
        Sweep { server, start, expected }
    }

    /// Reads over a connection that is struck there, and after it over another: everything comes once.
    async fn strike(&mut self, blow: Blow, at: u64) -> Came {
        let mut follower = self.server.follow().await;
        (follower.read.standing, follower.read.gtids) = (self.start.clone(), self.start.gtids.clone());
        let direct = MysqlOptions { heartbeat: Duration::from_secs(1), ..self.server.options() };
        let address = striking(self.server.address().to_string(), blow, at).await;
        follower.source = MysqlSource::new(by(direct.clone(), address)).unwrap();
        let target = self.server.executed().await;
        let (came, error) = match follower.source.connect(&self.start).await {
            Err(error) => (Came::Connecting, Some(error)),
            Ok(()) => match follower.until(&target).await {
                Err(error) => (Came::Streaming, Some(error)),
                Ok(()) => (Came::ToTheEnd, None),
            },
        };
        match error {
            // What is asked before the stream has no checksum: it may be told anything.
            Some(SourceError::Definite(error)) if came == Came::Streaming => {
                panic!("{blow:?} at {at}: {error}")
            }
            Some(_) => {
                follower.source = MysqlSource::new(direct).unwrap();
                follower.reconnect().await;
                follower.until(&target).await.unwrap_or_else(|error| panic!("{blow:?} at {at}: {error}"));
            }
            None => {}
        }
        assert_eq!(follower.briefs(), self.expected, "{blow:?} at {at}");
        came
    }

    /// Every place from where the stream begins to where it ends.
    async fn everywhere(&mut self, blow: Blow) {
        const COARSE: u64 = 512;
        let mut at = COARSE;
        while self.strike(Blow::Cut, at).await == Came::Connecting {
            at += COARSE;
        }
        at -= COARSE;
        let mut streaming = 0;
        loop {
            match self.strike(blow, at).await {
                Came::Connecting => {}
                Came::Streaming => streaming += 1,
                // A look at the server by another connection may have been struck in place of the stream; at the end no more is.
                Came::ToTheEnd if streaming > 40 => break,
                Came::ToTheEnd => {}
            }
            at += STRIDE;
            assert!(at < 1 << 20, "the stream has an end");
        }
        println!("{streaming} places");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_50_a_bit_flipped_in_any_event_is_never_read_and_another_connection_reads_it_right() {
    // Nobody else writes to its binlog.
    let of_tests = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
    let (_own, url) = Own::up(&format!("{of_tests}-flip"));
    Sweep::of(Server::at(&url, "flip").await).await.everywhere(Blow::Flip).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_42_streams_killed_in_a_loop_under_load_with_and_without_tls_cost_nothing() {
    const KILLS: usize = 20;
    let mut server = Server::new("loop").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a VARCHAR(100))").await;
    let options = server.options();
    let mut follower = server.follow_with(options.clone()).await;
    let uuid = options.replica_uuid();
    let killing = async {
        let mut conn = Conn::new(server.opts().clone()).await.unwrap();
        let streams = format!(
            "SELECT t.processlist_id FROM performance_schema.threads t JOIN performance_schema.user_variables_by_thread v \
             ON v.thread_id = t.thread_id WHERE t.processlist_command LIKE 'Binlog Dump%' \
             AND v.variable_name = 'replica_uuid' AND v.variable_value = '{uuid}'"
        );
        let mut killed = HashSet::new();
        while killed.len() < KILLS {
            for thread in conn.query::<u64, _>(streams.as_str()).await.unwrap() {
                // It may have ended by itself.
                if conn.query_drop(format!("KILL {thread}")).await.is_ok() {
                    killed.insert(thread);
                }
            }
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    let mut writer = Conn::new(server.opts().clone()).await.unwrap();
    writer.query_drop(format!("USE {}", server.schema)).await.unwrap();
    let done = AtomicBool::new(false);
    let writing = async {
        let mut id = 0;
        tokio::pin!(killing);
        loop {
            let rows: Vec<String> = (id..id + 50).map(|id| format!("({id}, REPEAT('x', 90))")).collect();
            let insert = format!("INSERT INTO t VALUES {}", rows.join(","));
            id += 50;
            tokio::select! {
                inserted = writer.query_drop(insert) => inserted.unwrap(),
                () = &mut killing => return done.store(true, Ordering::Relaxed),
            }
        }
    };
    let reading = async {
        let mut ended = 0;
        let never = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1".parse().unwrap();
        loop {
            // Until the stream ends, or for a while.
            let read = tokio::time::timeout(Duration::from_secs(1), follower.until(&never)).await;
            match read {
                Ok(Err(SourceError::Transient(_))) => ended += 1,
                Ok(other) => panic!("{other:?}"),
                Err(_) if done.load(Ordering::Relaxed) => return (follower, ended),
                Err(_) => {}
            }
            let tls = if ended % 2 == 0 { Tls::Local } else { Tls::Required };
            follower.source = MysqlSource::new(MysqlOptions { tls, ..options.clone() }).unwrap();
            follower.reconnect().await;
        }
    };
    let ((), (mut follower, ended)) = tokio::join!(writing, reading);
    // The others were killed while they began.
    assert!(ended > 0);
    follower.reconnect().await;
    follower.catch_up(&mut server).await;
    let rows: Option<usize> = server.conn.query_first("SELECT COUNT(*) FROM t").await.unwrap();
    let read: Vec<&str> = follower.read.changes.iter().map(|row| row.values[0].1.as_str()).collect();
    let expected: Vec<String> = (0..rows.unwrap()).map(|id| id.to_string()).collect();
    assert_eq!(read, expected, "each once, in order");
}

/// The stream ends by itself within so long.
async fn ends_within(follower: &mut Follower, bound: Duration) -> (SourceError, Duration) {
    let began = Instant::now();
    let never = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1".parse().unwrap();
    let error = tokio::time::timeout(bound, follower.until(&never)).await.expect("it ends in time");
    (error.unwrap_err(), began.elapsed())
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_43_a_half_open_connection_is_given_up_after_two_heartbeats_and_made_anew() {
    let mut server = Server::new("half_open").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let valve = Valve::before(server.address().to_string()).await.unwrap();
    let heartbeat = Duration::from_secs(2);
    let options = MysqlOptions { heartbeat, connect_timeout: Duration::from_secs(2), ..server.options() };
    let mut follower = server.follow_with(by(options, valve.address)).await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    valve.shut();
    // Nothing comes, and nothing says that the connection has ended.
    server.run("INSERT INTO t VALUES (2)").await;
    let (error, after) = ends_within(&mut follower, heartbeat * 6).await;
    assert!(matches!(error, SourceError::Transient(_)) && error.to_string().contains("silent"), "{error}");
    assert!(after >= heartbeat, "{after:?}");
    // As long as it lasts another connection gets no answer, which is no last word either.
    let error = follower.source.connect(&follower.read.standing).await.unwrap_err();
    assert!(matches!(error, SourceError::Transient(_)), "{error}");
    valve.open();
    follower.reconnect().await;
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), ["insert t 1", "insert t 2"]);
}

#[tokio::test]
async fn fault_48_gaps_in_a_set_of_many_servers_and_tags_are_kept_exactly_and_filled_later() {
    let mut server = Server::new("gaps").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    let [one, other] = [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()];
    let mut id = 0;
    let mut expected = Vec::new();
    let mut commit = async |server: &mut Server, gtid: String| {
        id += 1;
        server.run(&format!("SET gtid_next = '{gtid}'")).await;
        server.run(&format!("INSERT INTO t VALUES ({id})")).await;
        server.run("SET gtid_next = 'AUTOMATIC'").await;
        expected.push(format!("insert t {id}"));
    };
    for number in [1, 2, 3, 5, 7, 6, 9, 10] {
        commit(&mut server, format!("{one}:{number}")).await;
    }
    commit(&mut server, format!("{one}:red:4")).await;
    commit(&mut server, format!("{other}:100")).await;
    follower.catch_up(&mut server).await;
    let text = follower.read.gtids.to_string();
    for part in [format!("{one}:1-3:5-7:9-10,"), format!("{one}:red:4"), format!("{other}:100,")] {
        assert!(format!("{text},").contains(&part), "{part} in {text}");
    }
    // What was left out is read when it comes, by another connection too.
    follower.reconnect().await;
    for gtid in [format!("{one}:8"), format!("{other}:1"), format!("{one}:red:1"), format!("{one}:4")] {
        commit(&mut server, gtid).await;
    }
    follower.catch_up(&mut server).await;
    assert_eq!(follower.briefs(), expected);
    assert_eq!(follower.read.gtids, follower.read.standing.gtids);
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_a_server_that_may_write_transactions_without_gtids_is_refused_where_no_place_is_known() {
    let mut pair = Pair::up("modes").await;
    pair.primary.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let after = Standing::after(pair.primary.executed().await);
    for mode in ["ON_PERMISSIVE", "OFF_PERMISSIVE"] {
        pair.primary.run(&format!("SET GLOBAL gtid_mode = {mode}")).await;
        let mut source = MysqlSource::new(pair.primary.options()).unwrap();
        let text = definite_in_time(&mut source, &after).await;
        assert!(text.contains(mode) && text.contains("SET PERSIST gtid_mode = ON"), "{text}");
    }
    pair.primary.run("SET GLOBAL gtid_mode = ON_PERMISSIVE").await;
    pair.primary.run("SET GLOBAL gtid_mode = ON").await;
    MysqlSource::new(pair.primary.options()).unwrap().connect(&after).await.unwrap();
}

#[tokio::test]
async fn fault_44_for_how_long_the_server_keeps_what_was_not_read_is_told_beforehand() {
    let mut server = Server::new("keeps").await;
    server.run("CREATE TABLE t (id INT PRIMARY KEY)").await;
    let mut follower = server.follow().await;
    server.run("INSERT INTO t VALUES (1)").await;
    follower.catch_up(&mut server).await;
    let mut upstream = follower.source.upstream();
    let told = upstream.wait_for(|upstream| upstream.expires_seconds.is_some());
    let told =
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("it is told").unwrap().clone();
    let expires: Option<u64> =
        server.conn.query_first("SELECT @@GLOBAL.binlog_expire_logs_seconds").await.unwrap();
    assert_eq!(told.expires_seconds, expires);
    let read = follower.read.standing.time_micros;
    let days = |days: u64| read + days * 86_400_000_000;
    let kept = [0, 10, 40].map(|since| told.kept_seconds(read, days(since)).unwrap());
    let expires = expires.unwrap();
    assert!(kept[0] > expires - 60 && kept[0] <= expires + 60, "{kept:?} of {expires}");
    assert!(kept[1] < kept[0] && kept[2] == 0, "{kept:?} of {expires}");
}
