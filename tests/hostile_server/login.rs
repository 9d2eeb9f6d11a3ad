//! Before the stream.

use everrelay::source::mysql::{ClientCertificate, MysqlOptions, Tls};

use crate::server::{Fake, PASSWORD, SSL, Turn, error, framed, good, greeting, ok};
use crate::{Class, Memory, error_of};

/// The script with one turn replaced, and what follows it gone.
fn with(number: usize, turn: Turn) -> Vec<Turn> {
    let mut script = good();
    script.truncate(number);
    script.push(turn);
    script
}

/// The bytes of a turn that goes well, and the sequence number that they begin with.
fn bytes_of(number: usize) -> (Vec<u8>, u8) {
    // A greeting begins, an answer to a login follows two packets, one to a command its command.
    let sequence = match number {
        0 => 0,
        1 => 2,
        _ => 1,
    };
    match good().swap_remove(number) {
        Turn::Packets(packets) => (framed(&packets, sequence), sequence),
        other => panic!("{other:?}"),
    }
}

/// The turn whose question has minutes: a server with very many tables takes long.
const TABLES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn each_turn_may_fail_in_every_way_and_none_hangs_or_takes_much_memory() {
    let memory = Memory::alone().await;
    for number in 0..good().len() {
        let (bytes, sequence) = bytes_of(number);
        let half = bytes[..bytes.len() / 2].to_vec();
        let mut jump = bytes.clone();
        jump[3] = sequence.wrapping_add(3);
        let huge = vec![0xff, 0xff, 0xff, sequence, 0];
        let mut ways = vec![
            (Turn::Close(Vec::new()), Some(Class::Transient)),
            (Turn::Close(half.clone()), Some(Class::Transient)),
            (Turn::Bytes(jump), Some(Class::Garbled)),
            (Turn::Flood(sequence), None),
            (Turn::Packets(vec![error(1040, "Too many connections")]), Some(Class::Transient)),
            (Turn::Packets(vec![error(1045, "Access denied")]), Some(Class::Definite)),
            (Turn::Packets(vec![Vec::new()]), Some(Class::Garbled)),
            (Turn::Packets(vec![b"GET / HTTP/1.1\r\n".to_vec()]), Some(Class::Garbled)),
        ];
        if number != TABLES {
            ways.push((Turn::Silence, Some(Class::Transient)));
            ways.push((Turn::Stall(half), Some(Class::Transient)));
            ways.push((Turn::Stall(huge), None));
        }
        if number > 1 {
            ways.push((Turn::Packets(vec![b"\xfb/etc/passwd".to_vec()]), Some(Class::Garbled)));
        }
        for (way, expected) in ways {
            let said = format!("{way:?}");
            let fake = Fake::start(with(number, way)).await;
            let (class, text) = error_of(fake.options.clone()).await;
            match expected {
                Some(expected) => assert_eq!(class, expected, "turn {number}, {said}: {text}"),
                None => assert_ne!(class, Class::Definite, "turn {number}, {said}: {text}"),
            }
            assert!(!fake.heard_password(), "turn {number}, {said}");
        }
    }
    // A packet of an answer may be 16 MiB long, in a buffer that doubles.
    memory.grew_by_at_most(64 << 20);
}

fn switch(plugin: &str, nonce: &[u8]) -> Turn {
    let mut packet = vec![0xfe];
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet.extend_from_slice(nonce);
    Turn::Packets(vec![packet])
}

/// The script with these turns for the answer to the login.
fn login(turns: Vec<Turn>) -> Vec<Turn> {
    let mut script = good();
    script.splice(1..2, turns);
    script
}

#[tokio::test]
async fn a_password_is_proven_as_the_server_asks_and_never_said() {
    use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};
    let password = PASSWORD.as_bytes();
    let (first, second) = (&b"abcdefghijklmnopqrst"[..], &b"ABCDEFGHIJKLMNOPQRST"[..]);
    let long = &b"0123456789abcdef0123456789abcdef"[..];
    let done = || Turn::Packets(vec![ok()]);
    for (script, proof) in [
        (login(vec![done()]), scramble_sha256(first, password).unwrap().to_vec()),
        (
            login(vec![switch("mysql_native_password", b"ABCDEFGHIJKLMNOPQRST\0"), done()]),
            scramble_native(second, password).unwrap().to_vec(),
        ),
        (
            login(vec![switch("client_ed25519", long), done()]),
            create_response_for_ed25519(password, long).to_vec(),
        ),
        (
            login(vec![
                switch("caching_sha2_password", b"ABCDEFGHIJKLMNOPQRST\0"),
                Turn::Packets(vec![vec![1, 3], ok()]),
            ]),
            scramble_sha256(second, password).unwrap().to_vec(),
        ),
    ] {
        let fake = Fake::start(script).await;
        // The login goes well: what ends is the stream, which says nothing.
        let (class, text) = error_of(fake.options.clone()).await;
        assert!(class == Class::Transient && text.contains("silent"), "{text}");
        assert!(fake.heard().windows(proof.len()).any(|window| window == proof), "{text}");
        assert!(!fake.heard_password());
    }
}

#[tokio::test]
async fn a_server_that_asks_for_what_is_not_given_is_refused() {
    let key = |key: &str| {
        let mut packet = vec![1];
        packet.extend_from_slice(key.as_bytes());
        login(vec![Turn::Packets(vec![vec![1, 4]]), Turn::Packets(vec![packet])])
    };
    let begin = "-----BEGIN PUBLIC KEY-----\n";
    for (script, expected, says) in [
        (login(vec![switch("mysql_clear_password", b"")]), Class::Definite, "never sent"),
        (login(vec![switch("sha256_password", b"x")]), Class::Definite, "sha256_password"),
        (login(vec![Turn::Packets(vec![vec![0xfe]])]), Class::Definite, "mysql_old_password"),
        (login(vec![switch("mysql_native_password", b"short")]), Class::Garbled, "nonce"),
        (login(vec![switch("client_ed25519", b"short")]), Class::Garbled, "nonce"),
        (
            login(vec![switch("caching_sha2_password", &[7; 20]), switch("caching_sha2_password", &[7; 20])]),
            Class::Garbled,
            "twice",
        ),
        (login(vec![Turn::Packets(vec![vec![1, 3]; 20])]), Class::Garbled, "no end"),
        (login(vec![Turn::Packets(vec![vec![1, 9]])]), Class::Garbled, "not known"),
        (key("no key"), Class::Garbled, "RSA"),
        (key(&format!("{begin}AAAA\n-----END PUBLIC KEY-----")), Class::Garbled, "RSA"),
        (key(&format!("{begin}MIIB\n-----END PUBLIC KEY-----")), Class::Garbled, "RSA"),
        (key(&"A".repeat(3_000)), Class::Garbled, "longer"),
    ] {
        let fake = Fake::start(script).await;
        let mut options = fake.options.clone();
        options.tls = Tls::Disabled;
        let (class, text) = error_of(options).await;
        assert!(class == expected && text.contains(says), "{class:?} {text}");
        assert!(!fake.heard_password());
    }
}

#[tokio::test]
async fn whoever_holds_a_port_of_this_machine_is_not_given_the_password_under_a_key_of_its_own() {
    let fake = Fake::start(login(vec![Turn::Packets(vec![vec![1, 4]]), Turn::Silence])).await;
    assert_eq!(fake.options.tls, Tls::Local);
    let (class, text) = error_of(fake.options.clone()).await;
    assert!(class == Class::Definite && text.contains("socket=") && text.contains("verify_ca"), "{text}");
    // Not even the key was asked for.
    let heard = fake.heard();
    assert!(heard.windows(20).any(|window| window == b"caching_sha2_passwor"), "{heard:?}");
    assert!(!heard.ends_with(&[2]), "{heard:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_out_of_turn_is_heard() {
    let said = error(4031, "The client was disconnected by the server because of inactivity.");
    for number in 0..good().len() {
        for sequence in [0, 3, 200] {
            let fake =
                Fake::start(with(number, Turn::Close(framed(std::slice::from_ref(&said), sequence)))).await;
            let (class, text) = error_of(fake.options.clone()).await;
            assert!(class == Class::Transient && text.contains("4031: The client was"), "{number} {text}");
        }
    }
}

#[tokio::test]
async fn a_server_is_told_when_it_is_left() {
    for script in [good(), with(2, Turn::Packets(vec![error(1045, "no")]))] {
        let fake = Fake::start(script).await;
        error_of(fake.options.clone()).await;
        let deadline = std::time::Instant::now() + crate::PATIENCE;
        while !fake.heard().ends_with(&[1, 0, 0, 0, 1]) {
            assert!(std::time::Instant::now() < deadline, "{:?}", fake.heard());
            tokio::task::yield_now().await;
        }
    }
}

fn tls(fake: &Fake) -> MysqlOptions {
    let mut options = fake.options.clone();
    options.tls = Tls::VerifyIdentity;
    options
}

#[tokio::test]
async fn tls_comes_before_anything_else_or_not_at_all() {
    let fake = Fake::start(good()).await;
    let (class, text) = error_of(tls(&fake)).await;
    assert!(class == Class::Definite && text.contains("offers no TLS"), "{text}");
    // The user's name is not said either.
    assert!(fake.heard().is_empty());

    let secured = || greeting("caching_sha2_password", SSL);
    // Words put before TLS would be taken for the server's own.
    let early = Fake::start(vec![Turn::Bytes([framed(&[secured()], 0), framed(&[ok()], 2)].concat())]).await;
    let (class, text) = error_of(tls(&early)).await;
    assert!(class == Class::Garbled && text.contains("out of turn"), "{text}");

    let hello = |turn| Fake::start(vec![Turn::Packets(vec![secured()]), turn]);
    for turn in [Turn::Silence, Turn::Close(Vec::new()), Turn::Bytes(b"no TLS at all".repeat(9))] {
        let fake = hello(turn).await;
        let (class, text) = error_of(tls(&fake)).await;
        assert_eq!(class, Class::Transient, "{text}");
        assert!(!fake.heard().windows(5).any(|window| window == b"relay"));
    }
}

#[tokio::test]
async fn files_that_hold_no_certificate_or_key_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let fake =
        Fake::start(vec![Turn::Packets(vec![greeting("caching_sha2_password", SSL)]), Turn::Silence]).await;
    let mut roots = tls(&fake);
    roots.ca_file = Some(empty.clone());
    let mut own = tls(&fake);
    own.client_certificate = Some(ClientCertificate { chain: empty.clone(), key: empty });
    let mut absent = tls(&fake);
    absent.ca_file = Some("/nonexistent/ca.pem".into());
    for (options, file) in [(roots, "empty.pem"), (own, "empty.pem"), (absent, "/nonexistent/ca.pem")] {
        let (class, text) = error_of(options).await;
        // Nonsense, and definite only if it lasts: files are changed one after the other.
        assert!(class == Class::Garbled && text.contains(file), "{text}");
    }
}
