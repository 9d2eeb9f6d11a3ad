//! A TCP proxy that resets connections by a script.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Passes connections on to a server, and cuts them where the script says.
#[derive(Debug)]
pub struct Proxy {
    pub address: SocketAddr,
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Script {
    /// The next cut comes first: after so many bytes that one connection got from the server.
    cuts: Mutex<VecDeque<u64>>,
    done: AtomicU64,
}

impl Proxy {
    /// Listens on `address`. `cuts`: how many bytes from the server the next connection that gets so far has been
    /// given when it is reset, one cut after the other. Connections that get fewer bytes are not touched.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(address: &str, server: String, cuts: impl IntoIterator<Item = u64>) -> Result<Proxy> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let script =
            Arc::new(Script { cuts: Mutex::new(cuts.into_iter().collect()), done: AtomicU64::new(0) });
        let shared = script.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, script) = (server.clone(), shared.clone());
                // An error is the end of one connection, as it would be without a proxy.
                tokio::spawn(async move { pass_on(client, &server, &script).await });
            }
        });
        Ok(Proxy { address, script, accepting })
    }

    /// Cuts made so far.
    #[must_use]
    pub fn cuts_made(&self) -> u64 {
        self.script.done.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Script {
    /// How many of `next` more bytes a connection that has had `given` may be given, and whether that is its end.
    fn allow(&self, given: u64, next: u64) -> (u64, bool) {
        let mut cuts = self.cuts.lock().expect("no one panics with the lock held");
        match cuts.front() {
            Some(&cut) if given + next >= cut => {
                cuts.pop_front();
                self.done.fetch_add(1, Ordering::Relaxed);
                (cut.saturating_sub(given), true)
            }
            _ => (next, false),
        }
    }
}

async fn pass_on(client: TcpStream, server: &str, script: &Script) -> std::io::Result<()> {
    let server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    // Closed with data unsent, a socket with no time to linger resets its connection.
    client.set_zero_linger()?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upward = tokio::spawn(async move {
        let _ = copy(&mut from_client, &mut to_server).await;
    });
    let mut given = 0;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from_server.read(&mut buffer).await?;
        let (allowed, is_end) = script.allow(given, read as u64);
        to_client.write_all(&buffer[..allowed as usize]).await?;
        given += allowed;
        if read == 0 || is_end {
            upward.abort();
            return Ok(());
        }
    }
}
