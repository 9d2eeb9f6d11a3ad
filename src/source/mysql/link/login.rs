//! From an open connection to one that takes commands: the handshake, TLS, the password.
//!
//! Known logins are `caching_sha2_password`, `mysql_native_password` and MariaDB's `client_ed25519`, as the server asks for them, first or by
//! one switch. The password itself is sent only where nobody but the server reads it: under TLS or through a socket. By TCP without TLS it
//! would go encrypted by a key that whoever answers there names, so that it is given only where `tls = "disabled"` was spelt (MySQL's own
//! clients ask for a key only with `--get-server-public-key`); what a server remembers of a password (*caching_sha2_password*'s cache) or compares
//! as a scramble needs no key.

use mysql_common::constants::CapabilityFlags;
use mysql_common::crypto;
use mysql_common::packets::{AuthPlugin, HandshakeResponse, SslRequest};
use mysql_common::proto::MySerialize;
use mysql_common::scramble::{create_response_for_ed25519, scramble_native, scramble_sha256};

use crate::lifecycle::contain;
use crate::secret::Secret;

use super::super::options::{Address, MysqlOptions, Tls};
use super::super::wire::{Short, Wire};
use super::packets::Packets;
use super::transport::{Transport, address_literal};
use super::{LinkError, ServerSaid, tls};

/// Longest packet of a login, bytes.
const LOGIN_PACKET: usize = 16 << 10;

/// Longest RSA key that is taken, bytes of PEM: 8,192 bits. The work grows with its cube.
const KEY: usize = 2 << 10;

/// Packets of the server before it has decided.
const ROUNDS: usize = 8;

/// The largest packet that we take, bytes: MySQL's protocol carries no more.
const MAX_PACKET: u32 = 1 << 30;

/// utf8mb4_general_ci: what answers come in.
const COLLATION: u8 = 45;

const NEEDED: CapabilityFlags = CapabilityFlags::CLIENT_PROTOCOL_41
    .union(CapabilityFlags::CLIENT_SECURE_CONNECTION)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH);

const WANTED: CapabilityFlags = NEEDED
    .union(CapabilityFlags::CLIENT_LONG_PASSWORD)
    .union(CapabilityFlags::CLIENT_LONG_FLAG)
    .union(CapabilityFlags::CLIENT_TRANSACTIONS)
    .union(CapabilityFlags::CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA);

/// Logs in on an open connection, by this password and all else in `options`.
///
/// # Errors
/// The server says no, or is none.
pub async fn login(
    transport: Transport,
    options: &MysqlOptions,
    password: &Secret,
) -> Result<Packets<Transport>, LinkError> {
    let mut packets = Packets::new(transport);
    let greeting = packets.receive(LOGIN_PACKET).await?;
    let greeting = Greeting::parse(&greeting)?;
    let mut capabilities = WANTED & greeting.capabilities;
    if !capabilities.contains(NEEDED) {
        return Err(LinkError::Unlike("it is older than MySQL 5.7"));
    }
    // Nothing leaves this machine through a socket.
    if let (Address::Tcp { host, .. }, true) = (&options.address, options.tls.encrypts()) {
        if !greeting.capabilities.contains(CapabilityFlags::CLIENT_SSL) {
            return Err(LinkError::NoTls);
        }
        capabilities |= CapabilityFlags::CLIENT_SSL;
        packets.send(&bytes(&SslRequest::new(capabilities, MAX_PACKET, COLLATION))).await?;
        packets = match packets.into_stream()? {
            (Transport::Tcp(stream), sequence) => {
                let stream = tls::secure(stream, address_literal(host), options).await?;
                Packets::going_on(Transport::Tls(stream.into()), sequence)
            }
            (other, sequence) => Packets::going_on(other, sequence),
        };
    }
    let Greeting { method, nonce, .. } = greeting;
    let proof = method.proof(password.reveal(), &nonce)?;
    let response = HandshakeResponse::new(
        Some(proof),
        (8, 0, 0),
        Some(options.user.as_bytes()),
        None::<&[u8]>,
        Some(AuthPlugin::from_bytes(method.name())),
        capabilities,
        None,
        MAX_PACKET,
    );
    packets.send(&bytes(&response)).await?;
    prove(&mut packets, options, password.reveal(), method, nonce).await?;
    Ok(packets)
}

/// Answers the server's questions until it has decided.
async fn prove(
    packets: &mut Packets<Transport>,
    options: &MysqlOptions,
    password: &str,
    mut method: Method,
    mut nonce: Vec<u8>,
) -> Result<(), LinkError> {
    const FAST: u8 = 3;
    const FULL: u8 = 4;
    let mut switched = false;
    for _ in 0..ROUNDS {
        let packet = packets.receive(LOGIN_PACKET).await?;
        match (packet.as_slice(), method) {
            ([0, ..], _) => return Ok(()),
            ([0xff, ..], _) => return Err(ServerSaid::parse(&packet)?.into()),
            ([0xfe], _) => return Err(LinkError::Plugin("mysql_old_password".to_owned())),
            ([0xfe, ..], _) if switched => return Err(LinkError::Unlike("it changes the login twice")),
            ([0xfe, request @ ..], _) => {
                switched = true;
                let mut wire = Wire::new(request);
                let name = until_zero(&mut wire)?;
                method = Method::named(name).ok_or_else(|| unknown(name))?;
                nonce = wire.rest().to_vec();
                if let (Some(0), 21 | 33) = (nonce.last(), nonce.len()) {
                    nonce.pop();
                }
                packets.send(&method.proof(password, &nonce)?).await?;
            }
            ([1, FAST], Method::CachingSha2) => {
                if !packets.stream().is_private() && options.tls == Tls::Local {
                    tracing::warn!(
                        server = %options.address,
                        "the server took the login because it remembers the password; after its next restart it will ask for the password \
                         itself, which is not given by TCP without TLS: connect through its socket, or set tls"
                    );
                }
            }
            ([1, FULL], Method::CachingSha2)
                if !packets.stream().is_private() && options.tls != Tls::Disabled =>
            {
                return Err(LinkError::Unproven);
            }
            ([1, FULL], Method::CachingSha2) => full(packets, password, &nonce).await?,
            _ => return Err(LinkError::Unlike("its login asks for what is not known")),
        }
    }
    Err(LinkError::Unlike("its login has no end"))
}

/// The password itself: the server has no cached scramble to compare with.
async fn full(packets: &mut Packets<Transport>, password: &str, nonce: &[u8]) -> Result<(), LinkError> {
    const KEY_PLEASE: u8 = 2;
    let mut password = password.as_bytes().to_vec();
    password.push(0);
    if packets.stream().is_private() {
        return packets.send(&password).await;
    }
    packets.send(&[KEY_PLEASE]).await?;
    let packet = packets.receive(KEY).await?;
    let key = match packet.as_slice() {
        [1, key @ ..] => key,
        [0xff, ..] => return Err(ServerSaid::parse(&packet)?.into()),
        _ => return Err(LinkError::Unlike("it does not name its key")),
    };
    for (byte, with) in password.iter_mut().zip(nonce.iter().cycle()) {
        *byte ^= with;
    }
    // It panics over a key that is none.
    let encrypted = contain(|| crypto::encrypt(&password, key))
        .map_err(|_| LinkError::Unlike("its key is no RSA key"))?;
    packets.send(&encrypted).await
}

fn bytes(packet: &impl MySerialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.serialize(&mut bytes);
    bytes
}

fn unknown(name: &[u8]) -> LinkError {
    if name == b"mysql_clear_password" {
        return LinkError::Cleartext;
    }
    LinkError::Plugin(String::from_utf8_lossy(name.get(..64).unwrap_or(name)).into_owned())
}

fn until_zero<'a>(wire: &mut Wire<'a>) -> Result<&'a [u8], Short> {
    let length = wire.rest().iter().position(|byte| *byte == 0).ok_or(Short)?;
    let taken = wire.take(length)?;
    wire.u8()?;
    Ok(taken)
}

/// How a password is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    CachingSha2,
    Native,
    Ed25519,
}

impl Method {
    fn named(name: &[u8]) -> Option<Method> {
        [Method::CachingSha2, Method::Native, Method::Ed25519]
            .into_iter()
            .find(|method| method.name() == name)
    }

    fn name(self) -> &'static [u8] {
        match self {
            Method::CachingSha2 => b"caching_sha2_password",
            Method::Native => b"mysql_native_password",
            Method::Ed25519 => b"client_ed25519",
        }
    }

    /// Shows that we know the password without showing it.
    fn proof(self, password: &str, nonce: &[u8]) -> Result<Vec<u8>, LinkError> {
        let length = if self == Method::Ed25519 { 32 } else { 20 };
        if nonce.len() != length {
            return Err(LinkError::Unlike("its login's nonce has another length"));
        }
        let password = password.as_bytes();
        Ok(match self {
            Method::CachingSha2 => scramble_sha256(nonce, password).map(Vec::from).unwrap_or_default(),
            Method::Native => scramble_native(nonce, password).map(Vec::from).unwrap_or_default(),
            Method::Ed25519 => create_response_for_ed25519(password, nonce).to_vec(),
        })
    }
}

/// The server's first packet.
#[derive(Debug)]
struct Greeting {
    capabilities: CapabilityFlags,
    method: Method,
    nonce: Vec<u8>,
}

impl Greeting {
    /// Version 10 of the protocol: version (1), the server's name and a zero, thread (4), nonce (8), a zero, capabilities (2), collation
    /// (1), status (2), capabilities (2), length of the nonce (1), 10 bytes, the rest of the nonce (at least 13, a zero at its end), the
    /// usual login and a zero.
    fn parse(packet: &[u8]) -> Result<Greeting, LinkError> {
        let mut wire = Wire::new(packet);
        match wire.u8()? {
            10 => {}
            0xff => return Err(ServerSaid::parse(packet)?.into()),
            _ => return Err(LinkError::Unlike("it greets otherwise")),
        }
        until_zero(&mut wire)?;
        wire.take(4)?;
        let mut nonce = wire.take(8)?.to_vec();
        wire.take(1)?;
        let low = wire.u16()?;
        wire.take(3)?;
        let high = wire.u16()?;
        wire.take(11)?;
        nonce.extend_from_slice(wire.take(12)?);
        wire.take(1)?;
        // Some servers leave out the last zero.
        let name = wire.rest();
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        Ok(Greeting {
            capabilities: CapabilityFlags::from_bits_truncate(u32::from(high) << 16 | u32::from(low)),
            method: match Method::named(name) {
                Some(Method::Native) => Method::Native,
                // The usual one; a server that wants another says so.
                _ => Method::CachingSha2,
            },
            nonce,
        })
    }
}
