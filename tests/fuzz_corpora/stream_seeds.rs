//! First inputs for the targets of the stream: a MySQL server's transactions, by hand.

use everrelay::source::mysql::event::kind;

/// One event: type, where it stands, flags and the body as a block.
pub fn event(kind: u8, within: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, within, 0, 0];
    bytes.extend_from_slice(&(body.len() as u16).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn gtid(number: u8) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&[7; 16]);
    body.extend_from_slice(&u64::from(number).to_le_bytes());
    body.push(2);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&1_763_880_000_000_000_u64.to_le_bytes()[..7]);
    body.extend_from_slice(&[200, 0, 0, 0, 0]);
    event(kind::GTID, 0, &body)
}

pub fn query_body(sql: &str) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.extend_from_slice(&[4, 0, 0, 0, 0]);
    body.extend_from_slice(b"shop\0");
    body.extend_from_slice(sql.as_bytes());
    body
}

pub fn query(within: u8, sql: &str) -> Vec<u8> {
    event(kind::QUERY, within, &query_body(sql))
}

/// `id INT PRIMARY KEY`.
pub fn table_map(within: u8, schema: &str) -> Vec<u8> {
    let mut body = vec![5, 0, 0, 0, 0, 0, 1, 0, schema.len() as u8];
    body.extend_from_slice(schema.as_bytes());
    body.extend_from_slice(b"\0\x01t\0\x01\x03\x00\x00\x04\x03\x02id\x08\x01\x00");
    event(kind::TABLE_MAP, within, &body)
}

const HEAD_OF_ROWS: [u8; 10] = [5, 0, 0, 0, 0, 0, 1, 0, 2, 0];

fn insert(within: u8, id: u8) -> Vec<u8> {
    event(kind::WRITE_ROWS, within, &[&HEAD_OF_ROWS[..], &[1, 1, 0, id, 0, 0, 0]].concat())
}

fn update(from: u8, to: u8) -> Vec<u8> {
    let images = [&HEAD_OF_ROWS[..], &[1, 1, 1, 0, from, 0, 0, 0, 0, to, 0, 0, 0]].concat();
    event(kind::UPDATE_ROWS, 0, &images)
}

fn delete(id: u8) -> Vec<u8> {
    event(kind::DELETE_ROWS, 0, &[&HEAD_OF_ROWS[..], &[1, 1, 0, id, 0, 0, 0]].concat())
}

pub fn xid(within: u8) -> Vec<u8> {
    event(kind::XID, within, &[0; 8])
}

/// Inputs for the target `events`.
pub fn events() -> Vec<Vec<u8>> {
    let rotate = event(kind::ROTATE, 0, &[&4_u64.to_le_bytes()[..], b"binlog.000007"].concat());
    let usual = [
        rotate.clone(),
        gtid(1),
        query(0, "BEGIN"),
        table_map(0, "shop"),
        insert(0, 1),
        table_map(0, "shop"),
        update(1, 2),
        table_map(0, "shop"),
        update(2, 2),
        table_map(0, "shop"),
        delete(2),
        xid(0),
    ];
    let others = [
        gtid(1),
        query(0, "BEGIN"),
        table_map(0, "other"),
        insert(0, 1),
        query(0, "COMMIT"),
        event(kind::HEARTBEAT, 0, b"binlog.000007"),
        gtid(2),
        query(0, "CREATE TABLE shop.u (id INT PRIMARY KEY)"),
        gtid(3),
        query(0, "ALTER TABLE t ADD COLUMN a INT"),
    ];
    let payload = [
        gtid(1),
        event(kind::TRANSACTION_PAYLOAD, 0, &[]),
        query(2, "BEGIN"),
        table_map(2, "shop"),
        insert(2, 3),
        xid(3),
        gtid(2),
    ];
    let xa_prepare = event(kind::XA_PREPARE, 0, &[0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'g', b'b']);
    let xa = [
        gtid(1),
        query(0, "XA START X'67',X'62',1"),
        table_map(0, "other"),
        insert(0, 9),
        query(0, "XA END X'67',X'62',1"),
        xa_prepare,
        gtid(2),
        query(0, "XA COMMIT X'67',X'62',1"),
    ];
    let xa_of_ours = [
        gtid(1),
        query(0, "XA START X'67',X'62',1"),
        table_map(0, "shop"),
        insert(0, 9),
        query(0, "XA END X'67',X'62',1"),
        event(kind::XA_PREPARE, 0, &[0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, b'g', b'b']),
        gtid(2),
        query(0, "XA START X'68',X'',1"),
        table_map(0, "shop"),
        insert(0, 8),
        query(0, "XA END X'68',X'',1"),
        event(kind::XA_PREPARE, 0, &[1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'h']),
        gtid(3),
        query(0, "XA COMMIT X'67',X'62',1"),
        gtid(4),
        query(0, "XA COMMIT X'69',X'',1"),
    ];
    let anonymous = || {
        let mut bytes = gtid(0);
        bytes[0] = kind::ANONYMOUS_GTID;
        bytes
    };
    let without_gtids = [
        rotate.clone(),
        event(kind::FORMAT_DESCRIPTION, 0, &[0; 98]),
        event(kind::PREVIOUS_GTIDS, 0, &[0; 8]),
        anonymous(),
        query(0, "BEGIN"),
        table_map(0, "shop"),
        insert(0, 1),
        xid(0),
        gtid(1),
        query(0, "BEGIN"),
        table_map(0, "shop"),
        insert(0, 2),
        xid(0),
        anonymous(),
        query(0, "CREATE TABLE shop.u (id INT PRIMARY KEY)"),
    ];
    let cut_short = [gtid(1), query(0, "BEGIN"), table_map(0, "shop"), insert(0, 1), rotate];
    [&usual[..], &others[..], &payload[..], &xa[..], &xa_of_ours[..], &cut_short[..], &without_gtids[..]]
        .iter()
        .map(|events| events.concat())
        .collect()
}

/// A length-encoded integer.
fn number(value: u64) -> Vec<u8> {
    match value {
        0..=250 => vec![value as u8],
        251..=0xffff => [&[0xfc], &(value as u16).to_le_bytes()[..]].concat(),
        _ => [&[0xfe], &value.to_le_bytes()[..]].concat(),
    }
}

fn field(kind: u64, value: u64) -> Vec<u8> {
    let value = number(value);
    [number(kind), number(value.len() as u64), value].concat()
}

/// An event with its head, as it stands in a payload.
fn inner(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, kind, 1, 0, 0, 0];
    bytes.extend_from_slice(&((body.len() + 19) as u32).to_le_bytes());
    bytes.extend_from_slice(&[0; 6]);
    bytes.extend_from_slice(body);
    bytes
}

/// Inputs for the target `payload`.
pub fn payloads() -> Vec<Vec<u8>> {
    let events =
        [inner(2, b"BEGIN"), inner(30, &[7; 900]), inner(30, &[0; 40_000]), inner(16, &[0; 8])].concat();
    let packed = zstd::bulk::compress(&events, 3).expect("zstd packs");
    let of = |compression: u64, inflated: u64, bytes: &[u8]| {
        let fields =
            [field(2, compression), field(3, inflated), field(1, bytes.len() as u64), vec![0]].concat();
        [&fields[..], bytes].concat()
    };
    let length = events.len() as u64;
    let bomb = zstd::bulk::compress(&vec![0; 8 << 20], 3).expect("zstd packs");
    let held = |most: u8, body: Vec<u8>| [vec![most], body].concat();
    vec![
        held(255, of(0, length, &packed)),
        held(1, of(0, length, &packed)),
        held(16, of(255, length, &events)),
        held(16, of(0, length + 1, &packed)),
        held(16, of(0, length, &packed[..packed.len() - 9])),
        held(16, of(0, 8 << 20, &bomb)),
        held(16, of(7, length, &packed)),
    ]
}
