use super::*;
use tokio::io::{DuplexStream, duplex};

/// One payload as packets, the first with this sequence number.
fn framed(payload: &[u8], sequence: &mut u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = payload;
    loop {
        let (part, after) = rest.split_at(rest.len().min(FULL));
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
        bytes.push(*sequence);
        bytes.extend_from_slice(part);
        *sequence = sequence.wrapping_add(1);
        rest = after;
        if part.len() < FULL {
            return bytes;
        }
    }
}

/// Packets of a server that says this and ends.
fn hearing(bytes: Vec<u8>) -> Packets<DuplexStream> {
    let (near, mut far) = duplex(1 << 20);
    tokio::spawn(async move { far.write_all(&bytes).await });
    Packets::new(near)
}

#[tokio::test]
async fn payloads_of_every_length_around_a_packets_limit_arrive_as_they_were_sent() {
    let (mut bytes, mut sequence, mut payloads) = (Vec::new(), 0, Vec::new());
    for length in [0, 1, FULL - 1, FULL, FULL + 1, 3, 2 * FULL, 2 * FULL + 9, 1] {
        let payload: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
        bytes.extend(framed(&payload, &mut sequence));
        payloads.push(payload);
    }
    let mut packets = hearing(bytes);
    for payload in &payloads {
        let found = packets.receive(usize::MAX).await.unwrap();
        assert!(found == *payload, "{}", payload.len());
    }
    assert!(matches!(packets.receive(9).await.unwrap_err(), LinkError::Io(_)));
    // What the large ones took is given back.
    assert_eq!(packets.buffer.len(), CHUNK);
}

#[tokio::test]
async fn a_payload_taken_in_pieces_needs_no_more_room_than_a_piece() {
    let mut sequence = 0;
    let payload: Vec<u8> = (0..3 * FULL + 5).map(|i| (i % 253) as u8).collect();
    let mut bytes = framed(&payload, &mut sequence);
    bytes.extend(framed(b"after", &mut sequence));
    let mut packets = hearing(bytes);
    let mut taken = 0;
    loop {
        std::future::poll_fn(|context| packets.poll_some(context, 1)).await.unwrap();
        let piece = packets.at_hand();
        assert!(payload[taken..].starts_with(piece));
        let length = piece.len();
        if length == 0 && packets.is_whole() {
            break;
        }
        packets.consume(length);
        taken += length;
    }
    assert_eq!((taken, packets.announced(), packets.buffer.len()), (payload.len(), payload.len(), CHUNK));
    packets.end_payload();
    assert_eq!(packets.receive(5).await.unwrap(), b"after");
}

#[tokio::test]
async fn a_jump_in_the_sequence_is_nonsense() {
    for sequence in [1, 255] {
        let error = hearing(vec![1, 0, 0, sequence, 0]).receive(9).await.unwrap_err();
        assert!(matches!(error, LinkError::Unlike(_)), "{error}");
    }
    let mut large = framed(&vec![0; FULL + 1], &mut 0);
    large[FULL + 7] = 7;
    assert!(matches!(hearing(large).receive(usize::MAX).await.unwrap_err(), LinkError::Unlike(_)));
}

#[tokio::test]
async fn an_error_packet_is_heard_whatever_its_number_and_nothing_else_is() {
    let error = framed(b"\xff\x85\x04#08S01bye", &mut 9);
    for cut in [3, 4, 5, 9] {
        let (near, mut far) = duplex(1 << 10);
        let mut packets = Packets::new(near);
        let receive = tokio::spawn(async move { packets.receive(99).await });
        let (first, rest) = error.split_at(cut);
        far.write_all(first).await.unwrap();
        tokio::task::yield_now().await;
        far.write_all(rest).await.unwrap();
        assert_eq!(receive.await.unwrap().unwrap()[0], 0xff, "{cut}");
    }
    for other in [framed(b"", &mut 9), framed(b"\x00\xff", &mut 9)] {
        assert!(matches!(hearing(other).receive(99).await.unwrap_err(), LinkError::Unlike(_)));
    }
}

#[tokio::test]
async fn what_has_come_is_in_no_debug_output() {
    let mut packets = hearing(framed(b"canary", &mut 0));
    std::future::poll_fn(|context| packets.poll_whole(context, 99)).await.unwrap();
    let text = format!("{packets:?}");
    assert!(text.contains("at_hand") && !text.contains("99, 97"), "{text}");
}

#[tokio::test]
async fn an_announced_length_takes_no_memory() {
    let mut packets = hearing(vec![0xfe, 0xff, 0, 0, 1, 2, 3]);
    assert!(matches!(packets.receive(usize::MAX).await.unwrap_err(), LinkError::Io(_)));
    assert_eq!(packets.buffer.len(), CHUNK);
    assert!(matches!(hearing(vec![10, 0, 0, 0]).receive(9).await.unwrap_err(), LinkError::Unlike(_)));
}

#[tokio::test]
async fn what_comes_before_another_layer_is_refused() {
    let mut packets = hearing(vec![1, 0, 0, 0, 5, 1]);
    assert_eq!(packets.receive(9).await.unwrap(), [5]);
    assert!(matches!(packets.into_stream().unwrap_err(), LinkError::Unlike(_)));
    let mut packets = hearing(vec![1, 0, 0, 0, 5]);
    packets.receive(9).await.unwrap();
    assert_eq!(packets.into_stream().unwrap().1, 1);
}
