//! A pass-through between the relay and the engine that sees each bulk's body and the moment when its answer has ended.
//!
//! Bytes go through as they come. Beside that, requests and answers of a connection are told apart by HTTP/1.1's own rules: the relay
//! asks on a connection only when the last answer has ended.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A bulk that was answered.
#[derive(Debug)]
pub struct Bulk {
    pub body: Vec<u8>,
    pub answered: Instant,
}

/// A running tap.
#[derive(Debug)]
pub struct Tap {
    /// `http://…`, for the relay.
    pub url: String,
    pub bulks: mpsc::UnboundedReceiver<Bulk>,
}

/// Requests of one connection that have no answer yet, as first line and body.
type Asked = Arc<Mutex<VecDeque<(String, Vec<u8>)>>>;

impl Tap {
    /// Listens, and passes on to `engine` (host and port).
    ///
    /// # Errors
    /// No port can be listened on.
    pub async fn start(engine: String) -> Result<Tap> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (answered, bulks) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(&engine).await else { continue };
                let _ = (near.set_nodelay(true), far.set_nodelay(true));
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                let asked = Asked::default();
                tokio::spawn(requests(near_read, far_write, Arc::clone(&asked)));
                tokio::spawn(answers(far_read, near_write, asked, answered.clone()));
            }
        });
        Ok(Tap { url, bulks })
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, asked: Asked) -> Result<()> {
    let mut parser = Messages::default();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut bytes).await?;
        if length == 0 {
            return Ok(());
        }
        // Known before it is sent: the answer cannot come first.
        for message in parser.take(&bytes[..length], |_| true)? {
            asked.lock().expect("nobody panics while holding it").push_back(message);
        }
        to.write_all(&bytes[..length]).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: Asked,
    answered: mpsc::UnboundedSender<Bulk>,
) -> Result<()> {
    let mut parser = Messages::default();
    let mut bytes = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut bytes).await?;
        let now = Instant::now();
        if length == 0 {
            return Ok(());
        }
        to.write_all(&bytes[..length]).await?;
        let mut queue = asked.lock().expect("nobody panics while holding it");
        let has_body = |nth: usize| queue.get(nth).is_none_or(|(line, _)| !line.starts_with("HEAD "));
        for _ in parser.take(&bytes[..length], has_body)? {
            let (line, body) = queue.pop_front().context("an answer follows a request")?;
            if line.contains("/_bulk") {
                let _ = answered.send(Bulk { body, answered: now });
            }
        }
    }
}

/// Cuts a connection's bytes into messages.
#[derive(Default)]
struct Messages {
    bytes: Vec<u8>,
}

impl Messages {
    /// The messages that are whole now: first line, and body unless it is chunked. `has_body` says so of the nth of them.
    fn take(&mut self, bytes: &[u8], has_body: impl Fn(usize) -> bool) -> Result<Vec<(String, Vec<u8>)>> {
        self.bytes.extend_from_slice(bytes);
        let mut whole = Vec::new();
        loop {
            let Some(end) = find(&self.bytes, b"\r\n\r\n") else { return Ok(whole) };
            let head = std::str::from_utf8(&self.bytes[..end])?.to_owned();
            let header = |name: &str| {
                let mut lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
                lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
            };
            let start = end + 4;
            let length = if !has_body(whole.len()) {
                0
            } else if header("transfer-encoding").is_some() {
                match find(&self.bytes[end + 2..], b"\r\n0\r\n\r\n") {
                    Some(last) => end + 2 + last + 7 - start,
                    None => return Ok(whole),
                }
            } else {
                header("content-length").map_or(Ok(0), str::parse)?
            };
            if self.bytes.len() < start + length {
                return Ok(whole);
            }
            let line = head.lines().next().unwrap_or_default().to_owned();
            let body = self.bytes[start..start + length].to_vec();
            self.bytes.drain(..start + length);
            whole.push((line, body));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
