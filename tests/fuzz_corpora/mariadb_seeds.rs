//! First inputs for the targets that know MariaDB: its transactions, and what it compresses.

use std::io::Write as _;

use everrelay::source::mysql::event::kind;
use flate2::Compression;
use flate2::write::{DeflateEncoder, ZlibEncoder};

use crate::stream_seeds::{event, query, query_body, table_map, xid};

/// Up to the images of a rows event of version 1.
const ROWS: [u8; 10] = [5, 0, 0, 0, 0, 0, 1, 0, 1, 1];

const STANDALONE: u8 = 1;

fn gtid(number: u8, flags: u8, more: &[u8]) -> Vec<u8> {
    let mut body = u64::from(number).to_le_bytes().to_vec();
    body.extend_from_slice(&[1, 0, 0, 0, flags]);
    body.extend_from_slice(more);
    body.resize(body.len().max(19), 0);
    event(kind::MARIADB_GTID, 0, &body)
}

fn list(numbers: &[u8]) -> Vec<u8> {
    let mut body = (numbers.len() as u32).to_le_bytes().to_vec();
    for number in numbers {
        body.extend_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        body.extend_from_slice(&u64::from(*number).to_le_bytes());
    }
    event(kind::GTID_LIST, 0, &body)
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("zlib packs");
    encoder.finish().expect("zlib packs")
}

/// Behind its head and length.
fn packed(bytes: &[u8]) -> Vec<u8> {
    [&[0x84], &(bytes.len() as u32).to_be_bytes()[..], &zlib(bytes)].concat()
}

/// Inputs for the target `events`.
pub fn events() -> Vec<Vec<u8>> {
    let image = |id: u8| [0, id, 0, 0, 0];
    let images: Vec<u8> = (0..200).flat_map(image).collect();
    let update = [&ROWS[..], &[1], &packed(&[image(7), image(8)].concat())].concat();
    let usual = [
        list(&[]),
        gtid(1, STANDALONE, &[0x10, 6, 0, 0, 0]),
        query(0, "CREATE TABLE shop.u (id INT PRIMARY KEY)"),
        gtid(2, 12, &[]),
        event(kind::ANNOTATE_ROWS, 0, b"insert"),
        table_map(0, "shop"),
        event(kind::WRITE_ROWS_V1, 0, &[&ROWS[..], &image(1)].concat()),
        xid(0),
        gtid(3, 14, &[1, 0, 0, 0, 0, 0, 0, 0]),
        table_map(0, "shop"),
        event(kind::WRITE_ROWS_COMPRESSED_V1, 0, &[&ROWS[..], &packed(&images)].concat()),
        table_map(0, "shop"),
        event(kind::UPDATE_ROWS_COMPRESSED_V1, 0, &update),
        query(0, "COMMIT"),
        list(&[3]),
    ];
    let alters = [
        gtid(1, STANDALONE, &[2]),
        query(0, "ALTER TABLE t DROP COLUMN a"),
        gtid(2, STANDALONE, &[8, 1, 0, 0, 0, 0, 0, 0, 0]),
        query(0, "ALTER TABLE t DROP COLUMN a"),
        gtid(3, STANDALONE, &[]),
        event(
            kind::QUERY_COMPRESSED,
            0,
            &[&query_body("")[..], &packed(b"SET STATEMENT a = 1 FOR TRUNCATE o.o")].concat(),
        ),
        gtid(4, STANDALONE, &[4, 1, 0, 0, 0, 0, 0, 0, 0]),
        query(0, "ALTER TABLE t DROP COLUMN a"),
    ];
    let xid_of = [1, 0, 0, 0, 1, 1, b'g', b'b'];
    let xa = [
        gtid(1, 64 + 12, &xid_of),
        table_map(0, "other"),
        event(kind::WRITE_ROWS_V1, 0, &[&ROWS[..], &image(9)].concat()),
        query(0, "XA END X'67',X'62',1"),
        event(kind::XA_PREPARE, 0, &[0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'g', b'b']),
        gtid(2, 128 + 13, &xid_of),
        query(0, "XA COMMIT X'67',X'62',1"),
    ];
    [&usual[..], &alters[..], &xa[..]].iter().map(|events| events.concat()).collect()
}

/// Inputs for the target `compressed`.
pub fn compressed() -> Vec<Vec<u8>> {
    let text = b"xyz".repeat(100);
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&text).expect("deflate packs");
    let deflated = encoder.finish().expect("deflate packs");
    let rows = [&[1, 1][..], &packed(&text)].concat();
    let bomb = [&[0x83, 0xff, 0xff, 0xff][..], &zlib(&vec![0; 0xff_ffff])].concat();
    [
        (0, 4, [&[0x82, 1, 44][..], &zlib(&text)].concat()),
        (0, 4, [&[0x8a, 1, 44][..], &deflated].concat()),
        (0, 1, [&[0x8a, 1, 44][..], &deflated].concat()),
        (0, 1, b"\0as it is".to_vec()),
        (0, 255, bomb),
        (1, 4, [&query_body("")[..], &packed(b"DROP TABLE t")].concat()),
        (2, 4, rows.clone()),
        (3, 4, [&[1, 1][..], &rows[1..]].concat()),
        (2, 4, [&rows[..], &[0]].concat()),
    ]
    .into_iter()
    .map(|(form, limit, bytes)| [&[form, limit], bytes.as_slice()].concat())
    .collect()
}
