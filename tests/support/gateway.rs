//! A gateway before the search engine that fails bulks by a script, byte by byte, or passes on nothing at all, or next to nothing, for a while.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of a bulk.
#[derive(Clone, Copy, Debug)]
pub enum Failing {
    /// Reset when so many bytes of the request were passed on.
    Request(usize),
    /// The engine has it, and its answer is reset before the first byte.
    Answer,
    /// The answer ends after so many bytes.
    Cut(usize),
    /// A page in the answer's place.
    Page,
    /// Bytes that are no HTTP.
    Garbage,
}

/// What all connections meet beside that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// What is sent is taken and goes nowhere. A connection that had anything to say meanwhile hears nothing later either.
    Hole,
    /// A byte a second passes, in both directions; the rest at once when it is over, whoever waits for it still.
    Trickle,
}

/// Passes connections on to one server.
#[derive(Debug)]
pub struct Gateway {
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
    script: Arc<Script>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Script {
    failing: Mutex<VecDeque<Failing>>,
    /// Bulks so far: every second one fails, while any is left to fail.
    bulks: AtomicUsize,
    done: AtomicUsize,
}

impl Gateway {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    /// There is none.
    pub async fn before(server: String, failing: impl IntoIterator<Item = Failing>) -> Result<Gateway> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let failing = Mutex::new(failing.into_iter().collect());
        let script = Arc::new(Script { failing, bulks: AtomicUsize::new(0), done: AtomicUsize::new(0) });
        let shared = Arc::clone(&script);
        let weather = watch::Sender::new(Weather::Fair);
        let meets = weather.subscribe();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, script, weather) = (server.clone(), Arc::clone(&shared), meets.clone());
                // An error is the end of one connection, as it would be without a gateway.
                tokio::spawn(async move { pass_on(client, &server, &script, weather).await });
            }
        });
        Ok(Gateway { address, weather, script, accepting })
    }

    /// From now on.
    pub fn becomes(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Bulks that came so far.
    #[must_use]
    pub fn bulks(&self) -> usize {
        self.script.bulks.load(Ordering::Relaxed)
    }

    /// Bulks that failed so far.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.script.done.load(Ordering::Relaxed)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Script {
    fn next(&self) -> Option<Failing> {
        let number = self.bulks.fetch_add(1, Ordering::Relaxed);
        (number % 2 == 1).then(|| self.failing.lock().expect("no one panics with it").pop_front()).flatten()
    }
}

/// What becomes of the bulk at hand. What did not come to pass, the bulk being shorter than that, is another's.
struct AtHand<'s> {
    script: &'s Script,
    failing: Option<Failing>,
    /// Bytes of the request or of the answer.
    passed: usize,
}

impl AtHand<'_> {
    fn begin(&mut self) {
        self.put_back();
        (self.failing, self.passed) = (self.script.next(), 0);
    }

    fn done(&mut self) {
        self.failing = None;
        self.script.done.fetch_add(1, Ordering::Relaxed);
    }

    fn put_back(&mut self) {
        self.script.failing.lock().expect("no one panics with it").extend(self.failing.take());
    }
}

impl Drop for AtHand<'_> {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// Passes bytes on as the weather is.
async fn pass(bytes: &[u8], to: &mut TcpStream, weather: &mut watch::Receiver<Weather>) -> Result<()> {
    let mut rest = bytes;
    while *weather.borrow_and_update() == Weather::Trickle {
        let Some((first, others)) = rest.split_at_checked(1) else { return Ok(()) };
        to.write_all(first).await?;
        rest = others;
        let over = weather.wait_for(|weather| *weather != Weather::Trickle);
        // Passed over or not, the weather says which.
        let _ = tokio::time::timeout(Duration::from_secs(1), over).await;
    }
    Ok(to.write_all(rest).await?)
}

async fn pass_on(
    mut client: TcpStream,
    server: &str,
    script: &Script,
    mut weather: watch::Receiver<Weather>,
) -> Result<()> {
    if *weather.borrow() == Weather::Hole {
        tokio::io::copy(&mut client, &mut sink()).await?;
        return Ok(());
    }
    let mut server = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut up, mut down) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    let mut bulk = AtHand { script, failing: None, passed: 0 };
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                if *weather.borrow() == Weather::Hole {
                    break;
                }
                if up.starts_with(b"POST /_bulk") {
                    bulk.begin();
                }
                let Some(Failing::Request(bytes)) = bulk.failing else {
                    pass(&up[..read], &mut server, &mut weather).await?;
                    continue;
                };
                let allowed = read.min(bytes - bulk.passed);
                bulk.passed += allowed;
                server.write_all(&up[..allowed]).await?;
                if bulk.passed == bytes {
                    bulk.done();
                    // Closed with no time to linger, a socket resets its connection.
                    server.set_zero_linger()?;
                    client.set_zero_linger()?;
                    return Ok(());
                }
            }
            read = server.read(&mut down) => {
                let read = read?;
                if *weather.borrow() == Weather::Hole {
                    break;
                }
                let instead: &[u8] = match bulk.failing {
                    None | Some(Failing::Request(_)) => {
                        pass(&down[..read], &mut client, &mut weather).await?;
                        if read == 0 {
                            return Ok(());
                        }
                        continue;
                    }
                    Some(Failing::Answer) => {
                        bulk.done();
                        client.set_zero_linger()?;
                        return Ok(());
                    }
                    Some(Failing::Cut(bytes)) => {
                        let allowed = read.min(bytes - bulk.passed);
                        bulk.passed += allowed;
                        client.write_all(&down[..allowed]).await?;
                        if bulk.passed < bytes && read > 0 {
                            continue;
                        }
                        b""
                    }
                    Some(Failing::Page) => {
                        b"HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 37\r\n\r\n<html><body>Bad Gateway</body></html>"
                    }
                    Some(Failing::Garbage) => b"\x00\xff\x16\x03 no answer \r\n\r\n\x80",
                };
                client.write_all(instead).await?;
                bulk.done();
                return Ok(client.shutdown().await?);
            }
        }
    }
    drop(server);
    tokio::io::copy(&mut client, &mut sink()).await?;
    Ok(())
}
