//! What a bulk's outcome is called when the wire or what stands in it fails: a scripted server in place of the engine.

mod access;
mod fence;
mod identity;
mod nodes;
mod sweeps;
mod tasks;

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use everrelay::clock::Clock;
use everrelay::event::Version;
use everrelay::event::document::{Action, Field, FieldKind, IndexSpec, Verb};
use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Bulk, BulkError, Disposition, Expect, Index, IndexNo, Item, Sink, SinkError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the server does once it has read a bulk.
#[derive(Clone, Debug)]
enum Script {
    /// Sends these bytes, then closes in good order.
    Answer(Vec<u8>),
    /// Sends these bytes, then resets.
    Reset(Vec<u8>),
    /// Sends these bytes, then one more every few milliseconds, for ever.
    Drip(Vec<u8>),
}

struct Server {
    url: String,
    script: Arc<Mutex<Script>>,
    /// Bulks read whole, and requests of any kind.
    bulks: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// Head of the last bulk.
    head: Arc<Mutex<String>>,
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            url: format!("http://{}", listener.local_addr().unwrap()),
            script: Arc::new(Mutex::new(Script::Answer(ok(GOOD)))),
            bulks: Arc::default(),
            requests: Arc::default(),
            head: Arc::default(),
        };
        let (script, bulks) = (server.script.clone(), server.bulks.clone());
        let (requests, last_head) = (server.requests.clone(), server.head.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, bulks) = (script.clone(), bulks.clone());
                let (requests, last_head) = (requests.clone(), last_head.clone());
                tokio::spawn(async move {
                    let _ = serve(stream, &script, &bulks, &requests, &last_head).await;
                });
            }
        });
        server
    }

    fn says(&self, script: Script) {
        *self.script.lock().unwrap() = script;
    }
}

async fn serve(
    mut stream: TcpStream,
    script: &Mutex<Script>,
    bulks: &AtomicUsize,
    requests: &AtomicUsize,
    last_head: &Mutex<String>,
) -> std::io::Result<()> {
    loop {
        let Some(head) = read_request(&mut stream).await? else { return Ok(()) };
        requests.fetch_add(1, Ordering::SeqCst);
        if !head.starts_with("POST /_bulk") {
            stream.write_all(&control(&head)).await?;
            continue;
        }
        bulks.fetch_add(1, Ordering::SeqCst);
        *last_head.lock().unwrap() = head;
        let script = script.lock().unwrap().clone();
        match script {
            Script::Answer(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Script::Reset(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
                // Lets the bytes arrive before the reset takes what is still under way.
                tokio::time::sleep(Duration::from_millis(2)).await;
                stream.set_zero_linger()?;
                return Ok(());
            }
            Script::Drip(bytes) => {
                stream.write_all(&bytes).await?;
                loop {
                    stream.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
    }
}

/// A request's head once its body is read too; `None` where the connection ends before it.
async fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    Ok(read_whole(stream).await?.map(|(head, _)| head))
}

/// A request's head and body.
async fn read_whole(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let length = head
        .to_ascii_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some((head, bytes.split_off(end))))
}

fn control(head: &str) -> Vec<u8> {
    let body = match head.split_whitespace().nth(1).unwrap().split('?').next().unwrap() {
        "/_alias/a.b" => r#"{"a.b-000001":{"aliases":{"a.b":{}}}}"#,
        "/a.b-000001/_settings" => r#"{"a.b-000001":{"settings":{"index":{"uuid":"u1"}}}}"#,
        "/a.b-000001/_mapping" => r#"{"a.b-000001":{"mappings":{"properties":{"id":{"type":"long"}}}}}"#,
        _ => "{}",
    };
    ok(body)
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", body)
}

const GOOD: &str =
    r#"{"items":[{"index":{"_index":"a.b-000001","_id":"1","_version":7,"result":"created","status":201}}]}"#;

fn options(url: &str) -> ElasticOptions {
    let mut options = ElasticOptions::new(url);
    options.request_timeout = Duration::from_secs(10);
    options.connect_timeout = Duration::from_millis(500);
    options.opaque_prefix = "run-".into();
    options
}

fn spec() -> IndexSpec {
    let id = Field { name: "id".into(), kind: FieldKind::Long };
    IndexSpec { alias: "a.b".into(), fields: vec![id], ..IndexSpec::default() }
}

fn bulk(sink: &ElasticSink, _: &Index) -> Bulk {
    bulk_of(sink, 7)
}

/// Document 1 of the first index in this version.
fn bulk_of<T: Clock>(sink: &ElasticSink<T>, version: u64) -> Bulk {
    let (index, version) = (IndexNo(0), Version(version));
    let mut body = Vec::new();
    let action = Action::plain(Verb::Index, "1", version);
    let document = |out: &mut Vec<u8>| {
        out.extend_from_slice(b"{\"id\":1}");
        Ok::<(), Infallible>(())
    };
    sink.encode(index, &action, document, &mut body).unwrap();
    let item = Item { index, verb: Verb::Index, id: "1".into(), version, bytes: 0..body.len() };
    Bulk { opaque_id: "9".into(), body: Bytes::from(body), items: vec![item] }
}

async fn ready(server: &Server) -> (ElasticSink, Bulk) {
    let sink = ElasticSink::new(&options(&server.url)).unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    let bulk = bulk(&sink, &index);
    (sink, bulk)
}

#[tokio::test]
async fn a_good_answer_is_done_and_the_request_says_who_asks_what() {
    let server = Server::start().await;
    let (sink, bulk) = ready(&server).await;
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    let head = server.head.lock().unwrap().to_ascii_lowercase();
    assert!(head.contains("require_alias=true"), "{head}");
    assert!(head.contains("content-type: application/x-ndjson\r\n"), "{head}");
    assert!(head.contains("x-opaque-id: run-9\r\n"), "{head}");
    assert!(!head.contains("compatible-with") && !head.contains("gzip"), "{head}");
}

#[tokio::test]
async fn fault_26_an_answer_cut_anywhere_is_unknown_and_the_bulk_was_sent_once() {
    let server = Server::start().await;
    let (sink, bulk) = ready(&server).await;
    let whole = ok(GOOD);
    for length in 0..whole.len() {
        for script in [Script::Answer(whole[..length].to_vec()), Script::Reset(whole[..length].to_vec())] {
            server.says(script.clone());
            let before = server.bulks.load(Ordering::SeqCst);
            let outcome = sink.send(&bulk).await;
            assert!(matches!(outcome, Err(BulkError::Unknown { .. })), "{length} {script:?}: {outcome:?}");
            assert_eq!(server.bulks.load(Ordering::SeqCst), before + 1, "{length}");
        }
    }
    server.says(Script::Answer(whole));
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
}

#[tokio::test]
async fn fault_25_a_reset_in_the_midst_of_a_request_is_unknown_wherever_it_comes() {
    let server = Server::start().await;
    let (_, bulk) = ready(&server).await;
    for bytes in (0..300).step_by(23) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let sink = ElasticSink::new(&options(&format!("http://{}", listener.local_addr().unwrap()))).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; bytes];
                let _ = stream.read_exact(&mut request).await;
                stream.set_zero_linger().unwrap();
            }
        });
        let outcome = sink.send(&bulk).await;
        assert!(matches!(outcome, Err(BulkError::Unknown { .. })), "{bytes}: {outcome:?}");
    }
}

#[tokio::test]
async fn fault_29_what_a_status_proves() {
    let server = Server::start().await;
    let (sink, bulk) = ready(&server).await;
    let engine = |kind: &str| format!(r#"{{"error":{{"type":"{kind}","reason":"canary"}},"status":0}}"#);
    let html = "<html>canary</html>".to_owned();
    let cases: Vec<(&str, &str, String, &str)> = vec![
        ("429 Too Many Requests", "retry-after: 7\r\n", engine("circuit_breaking_exception"), "transient"),
        ("429 Too Many Requests", "", html.clone(), "transient"),
        ("401 Unauthorized", "", engine("security_exception"), "transient"),
        ("403 Forbidden", "", engine("security_exception"), "transient"),
        ("503 Service Unavailable", "", engine("cluster_block_exception"), "transient"),
        ("503 Service Unavailable", "", engine("unavailable_shards_exception"), "unknown"),
        ("503 Service Unavailable", "", html.clone(), "unknown"),
        ("502 Bad Gateway", "content-type: text/html\r\n", html.clone(), "unknown"),
        ("504 Gateway Timeout", "", html.clone(), "unknown"),
        ("500 Internal Server Error", "", engine("anything"), "unknown"),
        ("408 Request Timeout", "", String::new(), "unknown"),
        ("202 Accepted", "", GOOD.to_owned(), "unknown"),
        ("204 No Content", "", String::new(), "unknown"),
        ("200 OK", "", html.clone(), "unknown"),
        ("413 Payload Too Large", "", html.clone(), "too large"),
        ("400 Bad Request", "", engine("illegal_argument_exception"), "definite"),
        ("404 Not Found", "", html.clone(), "definite"),
        ("405 Method Not Allowed", "", html.clone(), "definite"),
        ("304 Not Modified", "", String::new(), "definite"),
        ("300 Multiple Choices", "location: /elsewhere\r\n", String::new(), "definite"),
    ];
    for (status, headers, body, expected) in cases {
        server.says(Script::Answer(answer(status, headers, &body)));
        let outcome = sink.send(&bulk).await.unwrap_err();
        let called = match &outcome {
            BulkError::Transient { retry_after, .. } => {
                assert_eq!(retry_after.is_some(), headers.contains("retry-after"), "{outcome:?}");
                assert!(retry_after.is_none_or(|wait| wait == Duration::from_secs(7)));
                "transient"
            }
            BulkError::Unknown { .. } => "unknown",
            BulkError::TooLarge { .. } => "too large",
            BulkError::Definite { .. } => "definite",
        };
        assert_eq!(called, expected, "{status} {body}: {outcome:?}");
        assert!(!outcome.to_string().contains("canary"), "{outcome}");
    }
}

#[tokio::test]
async fn fault_41_a_redirect_is_definite_and_names_where_it_leads() {
    let (server, other) = (Server::start().await, Server::start().await);
    let (sink, bulk) = ready(&server).await;
    for status in ["301 Moved Permanently", "302 Found", "303 See Other", "307 x", "308 x"] {
        for location in [format!("{}/_bulk", other.url), format!("{}/", other.url)] {
            server.says(Script::Answer(answer(status, &format!("location: {location}\r\n"), "")));
            let outcome = sink.send(&bulk).await;
            let Err(BulkError::Definite { reason }) = &outcome else { panic!("{status}: {outcome:?}") };
            assert!(reason.contains(&location), "{reason}");
        }
    }
}

#[tokio::test]
async fn fault_27_an_endless_answer_ends_with_the_deadline() {
    let server = Server::start().await;
    let mut options = options(&server.url);
    options.request_timeout = Duration::from_millis(300);
    let sink = ElasticSink::new(&options).unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    let bulk = bulk(&sink, &index);
    for bytes in [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\nx: ".to_vec(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{".to_vec(),
        b"HTTP/1.1 200 OK\r\n\r\n{".to_vec(),
    ] {
        server.says(Script::Drip(bytes));
        let started = Instant::now();
        let outcome = sink.send(&bulk).await;
        assert!(matches!(outcome, Err(BulkError::Unknown { .. })), "{outcome:?}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn an_answer_that_announces_too_much_is_not_read() {
    let server = Server::start().await;
    let (sink, bulk) = ready(&server).await;
    server.says(Script::Drip(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n{".to_vec()));
    let started = Instant::now();
    let outcome = sink.send(&bulk).await;
    assert!(matches!(outcome, Err(BulkError::Unknown { .. })), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_refused_connection_is_transient() {
    let server = Server::start().await;
    let (sink, bulk) = ready(&server).await;
    // A port that nobody listens on.
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = ElasticSink::new(&options(&format!("http://{unused}"))).unwrap();
    for _ in 0..2 {
        let outcome = refused.send(&bulk).await;
        assert!(matches!(outcome, Err(BulkError::Transient { .. })), "{outcome:?}");
    }
    assert!(matches!(refused.ensure(&spec(), Expect::Anything).await, Err(SinkError::Transient(_))));
    assert!(matches!(refused.versions().await[..], [(_, Err(SinkError::Transient(_)))]));
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
}

#[tokio::test]
async fn after_a_failure_no_body_is_sent_until_something_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let requests = seen.clone();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if let Ok(Some(head)) = read_request(&mut stream).await {
                requests.lock().unwrap().push(head.split_whitespace().next().unwrap().to_owned());
            }
            silent.push(stream);
        }
    });
    let server = Server::start().await;
    let (_, bulk) = ready(&server).await;
    let mut options = options(&url);
    options.request_timeout = Duration::from_millis(200);
    options.connect_timeout = Duration::from_millis(100);
    let sink = ElasticSink::new(&options).unwrap();
    assert!(matches!(sink.send(&bulk).await, Err(BulkError::Unknown { .. })));
    for _ in 0..2 {
        assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
    }
    assert_eq!(*seen.lock().unwrap(), ["POST", "HEAD", "HEAD"]);
}
