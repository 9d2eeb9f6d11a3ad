//! A TCP proxy with a valve. While it is shut connections are accepted and stay, and nothing passes in either direction: a server that
//! never answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy before one server.
#[derive(Debug)]
pub struct Valve {
    pub address: SocketAddr,
    gate: Gate,
    accepting: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Gate {
    open: watch::Sender<bool>,
    /// Bytes from the server, of all connections, until it shuts.
    left: Arc<AtomicI64>,
}

impl Valve {
    /// Listens on a free port of loopback; open.
    ///
    /// # Errors
    /// There is none.
    pub async fn before(server: String) -> Result<Valve> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let gate = Gate { open: watch::Sender::new(true), left: Arc::new(AtomicI64::new(i64::MAX)) };
        let shared = gate.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, gate) = (server.clone(), shared.clone());
                // An error is the end of one connection, as it would be without a proxy.
                tokio::spawn(async move { pass_on(client, &server, &gate).await });
            }
        });
        Ok(Valve { address, gate, accepting })
    }

    pub fn shut(&self) {
        self.gate.open.send_replace(false);
    }

    /// Shuts when about so many bytes more came from the server.
    pub fn shut_after(&self, bytes: i64) {
        self.gate.left.store(bytes, Ordering::Relaxed);
    }

    pub fn open(&self) {
        self.gate.left.store(i64::MAX, Ordering::Relaxed);
        self.gate.open.send_replace(true);
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(client: TcpStream, server: &str, gate: &Gate) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = pump(from_client, to_server, gate, |_| {}) => ended,
        ended = pump(from_server, to_client, gate, |read| {
            let read = i64::try_from(read).unwrap_or(i64::MAX);
            if gate.left.fetch_sub(read, Ordering::Relaxed) <= read {
                gate.open.send_replace(false);
            }
        }) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    gate: &Gate,
    passed: impl Fn(usize),
) -> Result<()> {
    let mut is_open = gate.open.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        is_open.wait_for(|open| *open).await?;
        to.write_all(&buffer[..read]).await?;
        passed(read);
    }
}
