//! A TCP proxy with a valve. While it is shut connections are accepted and stay, and nothing passes in either direction: a server that
//! never answers.

use std::net::SocketAddr;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy before one server.
#[derive(Debug)]
pub struct Valve {
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Valve {
    /// Listens on a free port of loopback; open.
    ///
    /// # Errors
    /// There is none.
    pub async fn before(server: String) -> Result<Valve> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, is_open) = watch::channel(true);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, is_open) = (server.clone(), is_open.clone());
                // An error is the end of one connection, as it would be without a proxy.
                tokio::spawn(async move { pass_on(client, &server, is_open).await });
            }
        });
        Ok(Valve { address, open, accepting })
    }

    pub fn shut(&self) {
        self.open.send_replace(false);
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Valve {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass_on(client: TcpStream, server: &str, is_open: watch::Receiver<bool>) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = pump(from_client, to_server, is_open.clone()) => ended,
        ended = pump(from_server, to_client, is_open) => ended,
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut is_open: watch::Receiver<bool>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        is_open.wait_for(|open| *open).await?;
        to.write_all(&buffer[..read]).await?;
    }
}
