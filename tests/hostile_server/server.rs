//! A server that says what a script has, turn by turn, and may do anything wrong in one of them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use everrelay::secret::Secret;
use everrelay::source::mysql::{Address, MysqlOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const UUID: &str = "11111111-2222-3333-4444-555555555555";

/// What no server may ever hear.
pub const PASSWORD: &str = "canary-pass-phrase";

/// How a turn goes.
#[derive(Clone, Debug)]
pub enum Turn {
    /// These packets, numbered as they should be.
    Packets(Vec<Vec<u8>>),
    /// These bytes as they are.
    Bytes(Vec<u8>),
    /// One payload without an end, from this sequence number on, until the other side has enough.
    Flood(u8),
    /// Nothing, and the connection stays open.
    Silence,
    /// Bytes, and then nothing.
    Stall(Vec<u8>),
    /// Bytes, and then the connection ends.
    Close(Vec<u8>),
}

/// A running server.
pub struct Fake {
    pub options: MysqlOptions,
    heard: Arc<Mutex<Vec<u8>>>,
    listening: tokio::task::JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Fake {
    /// Serves each connection by this script: the first turn comes unasked, each other one after a packet of the client's.
    pub async fn start(script: Vec<Turn>) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, all) = (script.clone(), Arc::clone(&all));
                tokio::spawn(async move {
                    // The client hangs up in the middle: that is what is tested.
                    let _ = serve(stream, script, &all).await;
                });
            }
        });
        let address = Address::Tcp { host: "127.0.0.1".into(), port };
        let mut options = MysqlOptions::new(address, "relay", Secret::new(PASSWORD), 7);
        options.tables = vec!["shop.*".into()];
        options.connect_timeout = Duration::from_millis(500);
        options.heartbeat = Duration::from_millis(200);
        options.max_row_bytes = 1 << 20;
        Fake { options, heard, listening }
    }

    /// The password was said as it is.
    pub fn heard_password(&self) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes())
    }

    pub fn heard(&self) -> Vec<u8> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Vec<Turn>, heard: &Mutex<Vec<u8>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut sequence = 0_u8;
    for (number, turn) in script.into_iter().enumerate() {
        if number > 0 {
            let mut head = [0; 4];
            stream.read_exact(&mut head).await?;
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
            let mut packet = vec![0; length];
            stream.read_exact(&mut packet).await?;
            heard.lock().unwrap().extend_from_slice(&packet);
            sequence = head[3].wrapping_add(1);
        }
        match turn {
            Turn::Packets(packets) => stream.write_all(&framed(&packets, sequence)).await?,
            Turn::Bytes(bytes) => stream.write_all(&bytes).await?,
            Turn::Flood(first) => {
                sequence = first;
                loop {
                    stream.write_all(&[0xff, 0xff, 0xff, sequence]).await?;
                    for _ in 0..0xff_ffff / 4_095 {
                        stream.write_all(&[0x41; 4_095]).await?;
                    }
                    stream.write_all(&[0x41; 0xff_ffff % 4_095]).await?;
                    sequence = sequence.wrapping_add(1);
                }
            }
            Turn::Silence => break,
            Turn::Stall(bytes) => {
                stream.write_all(&bytes).await?;
                break;
            }
            Turn::Close(bytes) => {
                stream.write_all(&bytes).await?;
                return Ok(());
            }
        }
    }
    // Open until the other side goes.
    let mut rest = [0; 4096];
    loop {
        let read = stream.read(&mut rest).await?;
        if read == 0 {
            return Ok(());
        }
        heard.lock().unwrap().extend_from_slice(&rest[..read]);
    }
}

/// Packets with their heads; those of 16 MiB and more in parts.
pub fn framed(packets: &[Vec<u8>], mut sequence: u8) -> Vec<u8> {
    const FULL: usize = 0xff_ffff;
    let mut bytes = Vec::new();
    for packet in packets {
        let mut rest = packet.as_slice();
        loop {
            let (part, after) = rest.split_at(rest.len().min(FULL));
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes()[..3]);
            bytes.push(sequence);
            bytes.extend_from_slice(part);
            sequence = sequence.wrapping_add(1);
            rest = after;
            if part.len() < FULL {
                break;
            }
        }
    }
    bytes
}

/// CLIENT_SSL.
pub const SSL: u32 = 0x800;

/// The greeting of a server with these capabilities besides the usual ones.
pub fn greeting(plugin: &str, more: u32) -> Vec<u8> {
    // CLIENT_PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, PLUGIN_AUTH_LENENC_CLIENT_DATA.
    let capabilities: u32 = 0x200 | 0x8000 | 0x8_0000 | 0x20_0000 | more;
    let mut packet = b"\x0a9.7.0\0\x07\0\0\0abcdefgh\0".to_vec();
    packet.extend_from_slice(&(capabilities as u16).to_le_bytes());
    packet.extend_from_slice(&[255, 2, 0]);
    packet.extend_from_slice(&((capabilities >> 16) as u16).to_le_bytes());
    packet.push(21);
    packet.extend_from_slice(&[0; 10]);
    packet.extend_from_slice(b"ijklmnopqrst\0");
    packet.extend_from_slice(plugin.as_bytes());
    packet.push(0);
    packet
}

pub fn ok() -> Vec<u8> {
    vec![0, 0, 0, 2, 0, 0, 0]
}

pub fn end() -> Vec<u8> {
    vec![0xfe, 0, 0, 2, 0]
}

pub fn error(code: u16, message: &str) -> Vec<u8> {
    let mut packet = vec![0xff];
    packet.extend_from_slice(&code.to_le_bytes());
    packet.extend_from_slice(b"#HY000");
    packet.extend_from_slice(message.as_bytes());
    packet
}

/// An answer of rows.
pub fn rows(columns: u8, rows: &[&[&str]]) -> Turn {
    let mut packets = vec![vec![columns]];
    packets.extend((0..columns).map(|_| b"\x03def\0\0\0\0\0\x0c\xff\0\0\0\0\0\xfd\0\0\0\0\0".to_vec()));
    packets.push(end());
    for row in rows {
        let mut packet = Vec::new();
        for value in *row {
            packet.push(value.len() as u8);
            packet.extend_from_slice(value.as_bytes());
        }
        packets.push(packet);
    }
    packets.push(end());
    Turn::Packets(packets)
}

/// A connect as it goes well, up to the stream.
pub fn good() -> Vec<Turn> {
    let variables: &[&[&str]] = &[
        &["version", "9.7.0"],
        &["server_uuid", UUID],
        &["gtid_mode", "ON"],
        &["log_bin", "ON"],
        &["binlog_format", "ROW"],
        &["binlog_row_image", "FULL"],
        &["binlog_row_metadata", "FULL"],
        &["binlog_row_value_options", ""],
        &["innodb_native_foreign_keys", "OFF"],
    ];
    vec![
        Turn::Packets(vec![greeting("caching_sha2_password", 0)]),
        Turn::Packets(vec![vec![1, 3], ok()]),
        rows(2, variables),
        rows(1, &[&[&format!("{UUID}:1-9")]]),
        rows(1, &[&[""]]),
        rows(4, &[&["shop", "t", "BASE TABLE", "1"]]),
        rows(5, &[&["binlog.000007", "157", "", "", ""]]),
        rows(2, &[&["255", "utf8mb4_0900_ai_ci"]]),
        Turn::Packets(vec![ok()]),
        Turn::Packets(vec![ok()]),
    ]
}

/// An event with its checksum, as a packet of the stream.
pub fn event(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0];
    packet.extend_from_slice(&bare(kind, body, 4));
    let sum = crc32fast::hash(&packet[1..]);
    packet.extend_from_slice(&sum.to_le_bytes());
    packet
}

/// An event with so much behind it that its size counts.
pub fn bare(kind: u8, body: &[u8], behind: usize) -> Vec<u8> {
    let mut bytes = vec![1, 2, 3, 4, kind, 1, 0, 0, 0];
    bytes.extend_from_slice(&((19 + body.len() + behind) as u32).to_le_bytes());
    bytes.extend_from_slice(&[9, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

pub fn rotate() -> Vec<u8> {
    event(4, b"\x04\0\0\0\0\0\0\0binlog.000007")
}

pub fn description() -> Vec<u8> {
    let mut body = vec![4, 0];
    body.extend_from_slice(&[b'9'; 50]);
    body.extend_from_slice(&[0, 0, 0, 0, 19]);
    body.extend_from_slice(&[0; 40]);
    body.push(1);
    event(15, &body)
}

pub fn gtid(number: u64) -> Vec<u8> {
    let mut body = vec![0];
    body.extend_from_slice(&[
        0x11, 0x11, 0x11, 0x11, 0x22, 0x22, 0x33, 0x33, 0x44, 0x44, 0x55, 0x55, 0x55, 0x55, 0x55, 0x55,
    ]);
    body.extend_from_slice(&number.to_le_bytes());
    body.push(2);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&1_763_880_000_000_000_u64.to_le_bytes()[..7]);
    body.extend_from_slice(&[200, 0, 0, 0, 0]);
    event(33, &body)
}

/// The events of one transaction of `shop.t (id INT PRIMARY KEY)`, without their GTID, as kinds and bodies.
pub fn transaction(id: u8) -> Vec<(u8, Vec<u8>)> {
    let mut begin = vec![0; 8];
    begin.extend_from_slice(&[4, 0, 0, 0, 0]);
    begin.extend_from_slice(b"shop\0BEGIN");
    let mut map = vec![5, 0, 0, 0, 0, 0, 1, 0, 4];
    map.extend_from_slice(b"shop\0\x01t\0\x01\x03\x00\x00\x04\x03\x02id\x08\x01\x00");
    let row = vec![5, 0, 0, 0, 0, 0, 1, 0, 2, 0, 1, 1, 0, id, 0, 0, 0];
    vec![(2, begin), (19, map), (30, row), (16, vec![0; 8])]
}

/// A TRANSACTION_PAYLOAD event's body of these inflated bytes, which says that they are `declared`.
pub fn payload(inflated: &[u8], declared: u64) -> Vec<u8> {
    let compressed = zstd::bulk::compress(inflated, 3).unwrap();
    let mut body = vec![2, 1, 0];
    for (field, value) in [(3, declared), (1, compressed.len() as u64)] {
        body.extend_from_slice(&[field, 9, 254]);
        body.extend_from_slice(&value.to_le_bytes());
    }
    body.push(0);
    body.extend_from_slice(&compressed);
    body
}

/// The events as they stand inside a payload.
pub fn inside(events: &[(u8, Vec<u8>)]) -> Vec<u8> {
    events.iter().flat_map(|(kind, body)| bare(*kind, body, 0)).collect()
}
