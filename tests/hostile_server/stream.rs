//! The stream itself: packets, events, transaction payloads.

use everrelay::event::GtidSet;
use everrelay::log::Standing;
use everrelay::log::followed::Followed;
use everrelay::log::record::Batch;
use everrelay::source::mysql::MysqlSource;
use everrelay::source::{Source, SourceError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::server::{
    Fake, Turn, UUID, bare, description, error, event, framed, good, gtid, inside, payload, rotate, rows,
    transaction,
};
use crate::{Class, Memory, PATIENCE, error_of, read};

const PAYLOAD: u8 = 40;
const WRITE_ROWS: u8 = 30;
const XID: u8 = 16;

/// A server whose stream says this.
async fn streaming(turn: Turn) -> Fake {
    let mut script = good();
    script.push(turn);
    Fake::start(script).await
}

/// The stream's beginning and then these packets.
fn begun(packets: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    [vec![rotate(), description(), gtid(10)], packets].concat()
}

/// The error that these packets end in, after the connection was closed behind them.
async fn error_after(packets: Vec<Vec<u8>>) -> (Class, String) {
    let fake = streaming(Turn::Close(framed(&begun(packets), 1))).await;
    error_of(fake.options.clone()).await
}

fn plain(id: u8) -> Vec<Vec<u8>> {
    transaction(id).iter().map(|(kind, body)| event(*kind, body)).collect()
}

#[tokio::test]
async fn a_good_stream_is_read_and_its_end_is_worth_another_connection() {
    let inflated = inside(&transaction(2));
    let body = payload(&inflated, inflated.len() as u64);
    let packets = [plain(1), vec![gtid(11), event(PAYLOAD, &body)]].concat();
    let fake = streaming(Turn::Packets(begun(packets.clone()))).await;
    assert_eq!(read(fake.options.clone(), 2).await.unwrap(), 2);
    for (end, says) in [(vec![0xfe, 0, 0, 2, 0], "ended the stream"), (error(1053, "shutdown"), "shutdown")] {
        let (class, text) = error_after([packets.clone(), vec![end]].concat()).await;
        assert!(class == Class::Transient && text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn what_the_server_says_of_its_binlog_keeps_its_class() {
    for (message, class, says) in [
        (
            "Cannot replicate because the source purged required binary logs",
            Class::Definite,
            "snapshot --from-now",
        ),
        ("log event entry exceeded max_allowed_packet", Class::Definite, "SET PERSIST max_allowed_packet"),
        ("A replica with the same server_uuid/server_id has connected", Class::Transient, "another replica"),
        ("bogus data in log event", Class::Garbled, "bogus data"),
    ] {
        let (found, text) = error_after(vec![error(1236, message)]).await;
        assert!(found == class && text.contains(says), "{found:?} {text}");
    }
}

#[tokio::test]
async fn fault_50_bytes_that_are_no_event_are_nonsense_at_their_place() {
    let xid = event(XID, &[0; 8]);
    let mut damaged = xid.clone();
    damaged[22] ^= 1;
    let mut longer = xid.clone();
    longer.push(0);
    let mut tiny = xid.clone();
    tiny[10] = 18;
    let mut endless = xid.clone();
    endless[10..14].copy_from_slice(&u32::MAX.to_le_bytes());
    for (packet, says) in [
        (Vec::new(), "empty"),
        (vec![7; 40], "no event"),
        (vec![0xfe; 40], "no event"),
        (vec![0; 5], "early"),
        (damaged, "checksum"),
        (longer, "of one length"),
        (xid[..xid.len() - 1].to_vec(), "of one length"),
        (tiny, "early"),
        (endless, "of one length"),
        (vec![0xff, 1], "early"),
    ] {
        let (class, text) = error_after(vec![packet.clone()]).await;
        assert!(class == Class::Garbled && text.contains(says), "{packet:?} {class:?} {text}");
        assert!(text.contains("binlog.000007"), "{text}");
    }
    let mut bytes = framed(&begun(vec![xid]), 1);
    let last = bytes.len() - 33;
    assert_eq!(bytes[last], 4, "the last packet's sequence number");
    bytes[last] = 9;
    let fake = streaming(Turn::Close(bytes)).await;
    let (class, text) = error_of(fake.options.clone()).await;
    assert!(class == Class::Garbled && text.contains("out of order"), "{text}");
}

#[tokio::test]
async fn a_file_name_is_no_longer_than_a_path() {
    let named = |length| event(4, &[&[4, 0, 0, 0, 0, 0, 0, 0][..], &vec![b'x'; length]].concat());
    let packets = [vec![named(512), description(), gtid(10)], plain(1), vec![named(513)]].concat();
    let fake = streaming(Turn::Close(framed(&packets, 1))).await;
    let (class, text) = error_of(fake.options.clone()).await;
    assert!(class == Class::Garbled && text.contains("longer than a path"), "{text}");
}

#[tokio::test]
async fn a_server_that_ends_the_stream_out_of_turn_is_heard() {
    let mut bytes = framed(&begun(Vec::new()), 1);
    bytes.extend(framed(&[error(1053, "Server shutdown in progress")], 0));
    let fake = streaming(Turn::Close(bytes)).await;
    let (class, text) = error_of(fake.options.clone()).await;
    assert!(class == Class::Transient && text.contains("1053: Server shutdown"), "{text}");
}

#[tokio::test]
async fn an_event_that_never_comes_whole_is_a_silence_and_takes_no_memory() {
    let memory = Memory::alone().await;
    let mut announced = framed(&begun(Vec::new()), 1);
    // 64 MiB in packets of 16, of which a little comes.
    announced.extend_from_slice(&[0xff, 0xff, 0xff, 4, 0]);
    announced.extend_from_slice(&bare(2, &[0; 100], 64 << 20));
    for (turn, says) in
        [(Turn::Stall(announced.clone()), "silent"), (Turn::Close(announced), "closed the connection")]
    {
        let fake = streaming(turn).await;
        let (class, text) = error_of(fake.options.clone()).await;
        assert!(class == Class::Transient && text.contains(says), "{text}");
    }
    memory.grew_by_at_most(64 << 20);
}

#[tokio::test]
async fn an_event_too_large_to_be_held_passes_where_it_is_not_followed_and_stops_where_it_is() {
    let _memory = Memory::alone().await;
    let mut begin = transaction(1);
    begin.truncate(1);
    let mut map = vec![5, 0, 0, 0, 0, 0, 1, 0, 5];
    map.extend_from_slice(b"other\0\x01t\0\x01\x03\x00\x00\x04\x03\x02id\x08\x01\x00");
    let mut large = transaction(1).remove(2).1;
    large.resize(40 << 20, 7);
    let events = [begin, vec![(19, map), (WRITE_ROWS, large.clone()), (XID, vec![0; 8])]].concat();
    let inflated = inside(&events);
    let compressed = vec![event(PAYLOAD, &payload(&inflated, inflated.len() as u64))];
    let packets = events.iter().map(|(kind, body)| event(*kind, body)).collect::<Vec<_>>();
    for packets in [packets, compressed] {
        let packets = [packets, vec![gtid(11)], plain(3)].concat();
        let fake = streaming(Turn::Packets(begun(packets))).await;
        assert_eq!(read(fake.options.clone(), 2).await.unwrap(), 1);
    }
    // The checksum counts all the same.
    let mut damaged = event(WRITE_ROWS, &large);
    damaged[20 << 20] ^= 1;
    let (class, text) = error_after(vec![event(2, &transaction(1)[0].1), damaged]).await;
    assert!(class == Class::Garbled && text.contains("checksum"), "{text}");
    // Followed, and a statement of which a part says nothing.
    let mut followed = transaction(1);
    followed[2].1 = large.clone();
    for (events, says) in [(followed, "shop.t"), (vec![(2, large)], "event of type 2")] {
        let packets = events.iter().map(|(kind, body)| event(*kind, body)).collect();
        let (class, text) = error_after(packets).await;
        assert!(class == Class::Definite && text.contains(says) && text.contains("max_row_bytes"), "{text}");
    }
}

#[tokio::test]
async fn a_damaged_payload_shows_nothing_of_its_transaction() {
    let whole = inside(&transaction(1));
    let size = whole.len() as u64;
    let body = payload(&whole, size);
    let at = |place: usize, byte: u8| {
        let mut body = body.clone();
        body[place] = byte;
        body
    };
    let without = |last: usize| inside(&transaction(1)[..last]);
    let of = |inflated: &[u8]| payload(inflated, inflated.len() as u64);
    let nested = inside(&[(PAYLOAD, body.clone())]);
    let unknown = inside(&[transaction(1).remove(0), (99, vec![1, 2, 3]), (XID, vec![0; 8])]);
    let twice = [whole.clone(), inside(&[(XID, vec![0; 8])])].concat();
    let mut wrong = event(PAYLOAD, &body);
    let last = wrong.len() - 1;
    wrong[last] ^= 1;
    let mut pieces = vec![
        (event(PAYLOAD, &payload(&whole, size - 1)), "longer than it says"),
        (event(PAYLOAD, &payload(&whole, size + 1)), "no end"),
        (event(PAYLOAD, &body[..body.len() - 5]), "of one length"),
        (event(PAYLOAD, &at(26, 0x41)), "inflated"),
        (event(PAYLOAD, &of(&whole[..whole.len() - 3])), "inside an event"),
        (event(PAYLOAD, &of(&without(3))), "without the end of its transaction"),
        (event(PAYLOAD, &of(&[])), "payload"),
        (event(PAYLOAD, &of(&nested)), "not alone"),
        (event(PAYLOAD, &of(&twice)), "goes on after the end"),
        (event(PAYLOAD, &[1; 400]), "fields"),
        (event(PAYLOAD, &[]), "fields"),
        (wrong, "checksum"),
    ];
    // A frame cut short inside its event, lengths agreeing.
    let mut short = payload(&whole, size);
    short.truncate(short.len() - 5);
    let place = 25 - 8;
    let length = u64::from_le_bytes(short[place..place + 8].try_into().unwrap()) - 5;
    short[place..place + 8].copy_from_slice(&length.to_le_bytes());
    pieces.push((event(PAYLOAD, &short), "no end"));
    for (number, (packet, says)) in pieces.into_iter().enumerate() {
        let fake = streaming(Turn::Packets(begun(vec![packet]))).await;
        // Whatever it says, no transaction counts.
        let (class, text) = read(fake.options.clone(), 1).await.unwrap_err();
        assert!(class == Class::Garbled && text.contains(says), "{number}, {says}: {class:?} {text}");
    }
    for (body, says) in [
        (payload(&whole, 1 << 40), "when inflated"),
        (at(2, 9), "compressed in a way"),
        (of(&unknown), "type 99"),
    ] {
        // It stands before the checksum: damage would say the same, so that it is believed only when it lasts.
        let (class, text) = error_after(vec![event(PAYLOAD, &body)]).await;
        assert!(class == Class::Garbled && text.contains(says), "{text}");
    }
    let last = inside(&[transaction(1).remove(0), (99, vec![1, 2, 3])]);
    let (class, text) = error_after(vec![event(PAYLOAD, &of(&last))]).await;
    assert!(class == Class::Definite && text.contains("type 99"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_53_a_payload_that_inflates_a_thousandfold_takes_no_memory_and_lets_others_work() {
    // More than 1 GiB of rows of a table that is not followed, in some ten kilobytes.
    let mut events = transaction(1);
    events[1].1[9..13].copy_from_slice(b"shup");
    // Not the last of their statement.
    events[2].1[6] = 0;
    let row = inside(&[(WRITE_ROWS, [events[2].1.clone(), vec![0; 1 << 20]].concat())]);
    let mut zstd = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    let mut size = 0;
    let mut write = |bytes: &[u8]| {
        size += bytes.len() as u64;
        std::io::Write::write_all(&mut zstd, bytes).unwrap();
    };
    write(&inside(&events[..2]));
    (0..1_100).for_each(|_| write(&row));
    write(&inside(&events[3..]));
    let compressed = zstd.finish().unwrap();
    let mut body = vec![3, 9, 254];
    body.extend_from_slice(&size.to_le_bytes());
    body.extend_from_slice(&[2, 1, 0, 1, 9, 254]);
    body.extend_from_slice(&(compressed.len() as u64).to_le_bytes());
    body.push(0);
    body.extend_from_slice(&compressed);
    assert!(size > 1 << 30 && body.len() < 1 << 20, "{size} {}", body.len());
    let fake =
        streaming(Turn::Packets(begun([vec![event(PAYLOAD, &body), gtid(11)], plain(1)].concat()))).await;
    let memory = Memory::alone().await;
    assert_eq!(read(fake.options.clone(), 2).await.unwrap(), 1);
    memory.grew_by_at_most(32 << 20);
}

/// Seeded chance, printed with the words that repeat it.
fn random(test: &str) -> (u64, StdRng) {
    let seed: u64 = std::env::var("EVERRELAY_TEST_SEED")
        .ok()
        .map_or_else(|| u64::from(rand::random::<u32>()), |seed| seed.parse().expect("a number"));
    println!("seed {seed}; to replay: EVERRELAY_TEST_SEED={seed} cargo test --test hostile_server {test}");
    (seed, StdRng::seed_from_u64(seed))
}

fn mutate(bytes: &mut Vec<u8>, random: &mut StdRng) {
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..bytes.len().max(1));
        match random.random_range(0..5) {
            _ if bytes.is_empty() => bytes.push(random.random()),
            0 => bytes[at] = random.random(),
            1 => bytes[at] ^= 1 << random.random_range(0..8),
            2 => bytes.truncate(at + 1),
            3 => drop(bytes.drain(at..(at + random.random_range(0..9)).min(bytes.len()))),
            _ => {
                let inserted: [u8; 3] = random.random();
                drop(bytes.splice(at..at, inserted));
            }
        }
    }
}

/// Three transactions at most: an error in what was damaged, or the end of the connection behind what was not.
async fn read_mutated(bytes: Vec<u8>, seed: u64, round: usize) {
    let fake = streaming(Turn::Close(bytes)).await;
    if let Ok(changes) = read(fake.options.clone(), 3).await {
        assert!(changes <= 100, "seed {seed}, round {round}: {changes} changes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_streams_end_in_an_error_or_go_on() {
    let (seed, mut random) = random("mutated_streams");
    let inflated = inside(&transaction(2));
    let body = payload(&inflated, inflated.len() as u64);
    let packets = [plain(1), vec![gtid(11), event(PAYLOAD, &body), gtid(12)], plain(3)].concat();
    let good = framed(&begun(packets), 1);
    let memory = Memory::alone().await;
    for round in 0..300 {
        let mut bytes = good.clone();
        mutate(&mut bytes, &mut random);
        read_mutated(bytes, seed, round).await;
    }
    memory.grew_by_at_most(64 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_events_with_matching_lengths_and_checksums_end_in_an_error_or_go_on() {
    let (seed, mut random) = random("mutated_events");
    let memory = Memory::alone().await;
    for round in 0..300 {
        let mut events = transaction(1);
        let at = random.random_range(0..events.len());
        mutate(&mut events[at].1, &mut random);
        let mut inflated = inside(&events);
        if random.random_bool(0.3) {
            mutate(&mut inflated, &mut random);
        }
        let mut body = payload(&inflated, inflated.len() as u64);
        if random.random_bool(0.3) {
            mutate(&mut body, &mut random);
        }
        let plain = events.iter().map(|(kind, body)| event(*kind, body)).collect::<Vec<_>>();
        let packets = if random.random_bool(0.5) { plain } else { vec![event(PAYLOAD, &body)] };
        read_mutated(framed(&begun(packets), 1), seed, round).await;
    }
    memory.grew_by_at_most(64 << 20);
}

/// What a client asks for that has these transactions of the server, each range without its end: no file, and the offset behind any file's magic.
fn dump_request(ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut set = 1_u64.to_le_bytes().to_vec();
    set.extend_from_slice(uuid::Uuid::parse_str(UUID).unwrap().as_bytes());
    set.extend_from_slice(&(ranges.len() as u64).to_le_bytes());
    ranges.iter().for_each(|(first, end)| {
        set.extend_from_slice(&first.to_le_bytes());
        set.extend_from_slice(&end.to_le_bytes());
    });
    [&[0; 4][..], &4_u64.to_le_bytes(), &(set.len() as u32).to_le_bytes(), &set].concat()
}

#[tokio::test]
async fn fault_49_a_stream_cut_anywhere_counts_a_transaction_with_its_end_and_goes_on_by_gtid_alone() {
    let first = framed(&begun(plain(1)), 1);
    let both = framed(&[begun(plain(1)), vec![gtid(11)], plain(2)].concat(), 1);
    let mut seen = [0; 3];
    // So many connections take what others measure.
    let _memory = Memory::alone().await;
    for cut in 0..=both.len() {
        let mut script = good();
        // It has executed what it streams.
        script[3] = rows(1, &[&[&format!("{UUID}:1-20")]]);
        script.push(Turn::Close(both[..cut].to_vec()));
        let fake = Fake::start(script).await;
        let mut source = MysqlSource::new(fake.options.clone()).unwrap();
        let after: GtidSet = format!("{UUID}:1-5").parse().unwrap();
        let mut commits = 0;
        // As a log has it that is filled under these patterns: nothing is noted of them.
        let followed = Followed { patterns: fake.options.tables.clone(), ..Followed::default() };
        let after = Standing { followed, ..Standing::after(after) };
        let error = match source.connect(&after).await {
            // The first event belongs to the connect.
            Err(error) => error,
            Ok(()) => loop {
                let mut batch = Batch::new();
                let result = tokio::time::timeout(PATIENCE, source.fill(&mut batch)).await.expect("an end");
                commits += batch.commits();
                if let Err(error) = result {
                    break error;
                }
            },
        };
        assert!(matches!(error, SourceError::Transient(_)), "{cut}: {error}");
        let whole = usize::from(cut >= first.len()) + usize::from(cut == both.len());
        assert_eq!((commits, source.gtids().count()), (whole, 5 + whole as u64), "after {cut} bytes");
        seen[whole] += 1;
        // Cut again, it may fail again: it is asked for all the same.
        let _ = source.connect(&Standing::after(source.gtids().clone())).await;
        let ranges = [&[(1, 6)][..], &[(10, 10 + whole as u64)][..whole.min(1)]].concat();
        let asked = dump_request(&ranges);
        let hears = async {
            while !fake.heard().windows(asked.len()).any(|window| window == asked) {
                tokio::task::yield_now().await;
            }
        };
        let heard = tokio::time::timeout(PATIENCE, hears).await;
        assert!(heard.is_ok(), "{ranges:?} was not asked for after {cut} bytes");
    }
    println!("{seen:?} cuts left none, one and both of the transactions");
    assert!(seen[0] > 100 && seen[1] > 100 && seen[2] == 1);
}
