//! gtid_mode that is changed while the relay reads: over to GTIDs and back.

use everrelay::source::mysql::{MysqlOptions, MysqlSource};
use everrelay::source::{Source, SourceError};

use crate::without_gtids::{Off, briefs_of, error};

const MODES: [&str; 4] = ["OFF", "OFF_PERMISSIVE", "ON_PERMISSIVE", "ON"];

impl Off {
    async fn mode(&mut self, mode: &str) {
        self.server.run(&format!("SET GLOBAL gtid_mode = {mode}")).await;
    }

    async fn insert(&mut self, id: u32) {
        self.server.run(&format!("INSERT INTO t VALUES ({id}, 'a')")).await;
    }

    /// From OFF on, without a transaction.
    async fn turn_on(&mut self) {
        self.server.run("SET GLOBAL enforce_gtid_consistency = ON").await;
        for mode in &MODES[1..] {
            self.mode(mode).await;
        }
    }

    async fn turn_off(&mut self) {
        for mode in MODES.iter().rev().skip(1) {
            self.mode(mode).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_gtids_may_be_turned_on_and_off_while_rows_come_each_once() {
    let mut off = Off::up("off_modes").await;
    let mut follower = off.server.follow().await;
    off.server.run("SET GLOBAL enforce_gtid_consistency = ON").await;
    let (mut id, mut by_place) = (0, Vec::new());
    for mode in MODES.iter().chain(MODES.iter().rev()).chain(&MODES) {
        if id > 0 {
            off.mode(mode).await;
        }
        // By the same connection, by another, and in a file of its own.
        for _ in 0..2 {
            off.insert(id).await;
            off.catch_up(&mut follower).await;
            off.insert(id + 1).await;
            off.again(&mut follower).await;
            off.server.run("FLUSH BINARY LOGS").await;
            id += 2;
        }
        off.catch_up(&mut follower).await;
        by_place.push(follower.read.standing.position.by_place);
    }
    let expected: Vec<String> = (0..id).map(|id| format!("insert t {id},a")).collect();
    assert_eq!(briefs_of(&follower, "t"), expected);
    assert_eq!(
        by_place,
        [true, true, false, false, false, false, true, true, true, true, false, false],
        "GTIDs come from ON_PERMISSIVE on"
    );
    // The log has all GTIDs that there are.
    let executed = off.server.executed().await;
    assert_eq!(follower.read.standing.gtids, executed);
    // And so another server may take its place: none is asked for a file.
    let mut standing = follower.read.standing.clone();
    standing.position.server = [1; 16];
    MysqlSource::new(off.server.options()).unwrap().connect(&standing).await.unwrap();
    off.turn_off().await;
    let text =
        crate::server::definite_in_time(&mut MysqlSource::new(off.server.options()).unwrap(), &standing)
            .await;
    assert!(text.contains("nothing at another server"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_what_the_present_mode_forbids_to_send_is_definite_and_says_how_it_is_read() {
    let mut off = Off::up("off_behind").await;
    let mut follower = off.server.follow().await;
    off.insert(1).await;
    off.catch_up(&mut follower).await;
    follower.source.disconnect();
    // Without a GTID, behind a server that is ON.
    off.insert(2).await;
    off.turn_on().await;
    off.again(&mut follower).await;
    let refused = error(&mut follower).await;
    let text = refused.to_string();
    assert!(matches!(refused, SourceError::Definite(_)), "{text}");
    assert!(text.contains("SET GLOBAL gtid_mode = ON_PERMISSIVE"), "{text}");
    off.mode("ON_PERMISSIVE").await;
    off.again(&mut follower).await;
    off.catch_up(&mut follower).await;
    off.mode("ON").await;
    off.insert(3).await;
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t"), ["insert t 1,a", "insert t 2,a", "insert t 3,a"]);
    // With one, behind a server that is OFF.
    follower.source.disconnect();
    off.insert(4).await;
    off.turn_off().await;
    off.again(&mut follower).await;
    let text = error(&mut follower).await.to_string();
    assert!(text.contains("OFF_PERMISSIVE"), "{text}");
    off.mode("OFF_PERMISSIVE").await;
    off.again(&mut follower).await;
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t").last().unwrap(), "insert t 4,a");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_48_transactions_without_gtids_that_the_server_would_pass_over_are_found() {
    let mut off = Off::up("off_over").await;
    off.turn_on().await;
    let mut follower = off.server.follow().await;
    off.insert(1).await;
    off.catch_up(&mut follower).await;
    follower.source.disconnect();
    assert!(!follower.read.standing.position.by_place);
    // OFF for a while, and ON again, before the relay looks.
    off.turn_off().await;
    off.insert(2).await;
    off.turn_on().await;
    off.insert(3).await;
    let text = off.refusal(&follower).await;
    for part in ["passes over a transaction without a GTID", "SET GLOBAL gtid_mode = ON_PERMISSIVE"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    off.mode("ON_PERMISSIVE").await;
    off.again(&mut follower).await;
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t"), ["insert t 1,a", "insert t 2,a", "insert t 3,a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_by_gtids_goes_on_by_place_when_the_mode_is_changed_under_it() {
    let mut off = Off::up("off_under").await;
    off.turn_on().await;
    let mut follower = off.server.follow_with(MysqlOptions { ..off.server.options() }).await;
    off.insert(1).await;
    off.catch_up(&mut follower).await;
    off.turn_off().await;
    off.insert(2).await;
    // The server ends it where the first comes without.
    let ended = error(&mut follower).await;
    assert!(!matches!(ended, SourceError::Definite(_)), "{ended}");
    follower.reconnect().await;
    off.catch_up(&mut follower).await;
    assert_eq!(briefs_of(&follower, "t"), ["insert t 1,a", "insert t 2,a"]);
    assert!(follower.read.standing.position.by_place);
}
