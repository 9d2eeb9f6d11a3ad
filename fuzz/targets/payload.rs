//! A transaction payload's body as the server sends it, cut into reads: what comes out of it are events, and no more memory than one may take.

use std::io::Cursor;
use std::task::{Context, Poll, Waker};

use everrelay::source::mysql::drawn::Drawn;
use everrelay::source::mysql::event::HEAD;
use everrelay::source::mysql::link::packets::Packets;
use everrelay::source::mysql::payload::{FIELDS, Fields, Inflater};

use super::format::Input;

/// Bytes of all events together after which a bomb has shown itself for one.
const ENOUGH: usize = 4 << 20;

pub fn run(input: &[u8]) {
    let mut input = Input(input);
    // The largest event that is held: small, so that larger ones occur.
    let limit = HEAD + usize::from(input.byte()) * 16;
    let body = input.0;
    let Ok(length) = u32::try_from(body.len()) else { return };
    let Ok(fields) = Fields::parse(body.get(..FIELDS).unwrap_or(body)) else { return };
    assert!(fields.length <= body.len());
    let [a, b, c, 0] = length.to_le_bytes() else { return };
    let stream = [&[a, b, c, 0], body].concat();
    // What is read from the stream is there; nothing is ever waited for.
    let mut packets = Packets::new(tokio::io::join(Cursor::new(stream), tokio::io::sink()));
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = packets.poll_some(&mut context, fields.length) else { return };
    packets.consume(fields.length);
    let mut inflater = Inflater::default();
    let drawn = Drawn::new(body.len() - fields.length, None);
    inflater.begin(fields, drawn, limit).expect("there is memory for zstd");
    let mut handed_out = 0;
    while inflater.is_open() && handed_out < ENOUGH {
        match inflater.poll_event(&mut packets, &mut context) {
            // Others get their turn.
            Poll::Pending => handed_out += 1 << 16,
            Poll::Ready(Err(_)) => return,
            Poll::Ready(Ok(inner)) => {
                let bytes = inflater.bytes(&inner);
                assert!(bytes.len() >= HEAD && bytes.len() <= inner.head.size);
                assert!(inner.head.size > limit || bytes.len() == inner.head.size, "an event is held whole");
                assert_eq!(inner.last, !inflater.is_open(), "the last event closes its payload");
                handed_out += inner.head.size;
            }
        }
    }
}
