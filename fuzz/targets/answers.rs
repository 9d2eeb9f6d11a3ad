//! A bulk's answer: the first byte picks the status, the rest is the body, as an engine or whatever stands before it may send it.

use std::cell::OnceCell;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use everrelay::event::Version;
use everrelay::event::document::{Action, Field, FieldKind, IndexSpec, Verb};
use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Bulk, Disposition, Expect, Item, Sink};
use serde_json::Value;

const STATUSES: [&str; 7] =
    ["200 OK", "200 OK", "200 OK", "400 Bad Request", "413 Too Large", "429 Too Many", "502 Bad Gateway"];

/// What is sent: written, written, deleted.
const ITEMS: [(Verb, &str); 3] = [(Verb::Index, "1"), (Verb::Index, "2"), (Verb::Delete, "3")];

const VERSION: u64 = 7;

pub fn run(input: &[u8]) {
    let Some((status, body)) = input.split_first() else { return };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    thread_local! {
        static ENGINE: OnceCell<Engine> = const { OnceCell::new() };
    }
    ENGINE.with(|engine| engine.get_or_init(Engine::start).judge(status, body));
}

/// A server that answers every bulk with what it is told, and a sink that sends there.
struct Engine {
    answer: Arc<Mutex<(&'static str, Vec<u8>)>>,
    runtime: tokio::runtime::Runtime,
    sink: ElasticSink,
    bulk: Bulk,
}

impl Engine {
    fn start() -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let mut options =
            ElasticOptions::new(format!("http://{}", listener.local_addr().expect("it is bound")));
        options.opaque_prefix = "run-".into();
        let answer = Arc::new(Mutex::new((STATUSES[0], Vec::new())));
        let says = Arc::clone(&answer);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let says = Arc::clone(&says);
                std::thread::spawn(move || serve(stream, &says));
            }
        });
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let sink = ElasticSink::new(&options).expect("the options are whole");
        let bulk = runtime.block_on(bulk(&sink));
        Engine { answer, runtime, sink, bulk }
    }

    fn judge(&self, status: &'static str, body: &[u8]) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = (status, body.to_vec());
        let Ok(judged) = self.runtime.block_on(self.sink.send(&self.bulk)) else { return };
        assert_eq!(judged.len(), ITEMS.len());
        for (at, disposition) in judged.iter().enumerate() {
            if *disposition == Disposition::Done {
                assert!(
                    status == STATUSES[0] && says_done(body, at),
                    "item {at} is done by {status} and {body:?}"
                );
            }
        }
    }
}

/// Whether the engine says so of just this item.
fn says_done(body: &[u8], at: usize) -> bool {
    let (verb, id) = ITEMS[at];
    let (verb, done): (_, &[(u64, &str)]) = match verb {
        Verb::Index => ("index", &[(200, "updated"), (201, "created")]),
        Verb::Delete => ("delete", &[(200, "deleted"), (404, "not_found")]),
    };
    let Ok(answer) = serde_json::from_slice::<Value>(body) else { return false };
    let item = &answer["items"][at][verb];
    let all = answer["items"].as_array().is_some_and(|items| items.len() == ITEMS.len());
    let result = (item["status"].as_u64(), item["result"].as_str());
    all && item["_id"] == id
        && item["_index"] == "a.b-000001"
        && item["_version"] == VERSION
        && item.get("error").is_none_or(Value::is_null)
        && done.iter().any(|(status, word)| result == (Some(*status), Some(*word)))
}

async fn bulk(sink: &ElasticSink) -> Bulk {
    let id = Field { name: "id".into(), kind: FieldKind::Long };
    let spec = IndexSpec { alias: "a.b".into(), fields: vec![id], ..IndexSpec::default() };
    let index = sink.ensure(&spec, Expect::Anything).await.expect("the index is there");
    let (mut body, mut items) = (Vec::new(), Vec::new());
    for (verb, id) in ITEMS {
        let start = body.len();
        let document = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"{}");
            Ok::<(), Infallible>(())
        };
        let action = Action::plain(verb, id, Version(VERSION));
        sink.encode(index.no, &action, document, &mut body).unwrap_or_else(|never| match never {});
        let bytes = start..body.len();
        items.push(Item { index: index.no, verb, id: id.into(), version: Version(VERSION), bytes });
    }
    Bulk { opaque_id: "9".into(), body: body.into(), items }
}

/// Answers requests until the connection ends.
fn serve(stream: TcpStream, says: &Mutex<(&'static str, Vec<u8>)>) {
    let Ok(mut out) = stream.try_clone() else { return };
    let mut stream = BufReader::new(stream);
    while let Some(path) = request(&mut stream) {
        let (status, body) = match path.split('?').next().unwrap_or_default() {
            "/_bulk" => says.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            "/_alias/a.b" => (STATUSES[0], br#"{"a.b-000001":{"aliases":{"a.b":{}}}}"#.to_vec()),
            "/a.b-000001/_settings" => {
                (STATUSES[0], br#"{"a.b-000001":{"settings":{"index":{"uuid":"u1"}}}}"#.to_vec())
            }
            "/a.b-000001/_mapping" => (
                STATUSES[0],
                br#"{"a.b-000001":{"mappings":{"properties":{"id":{"type":"long"}}}}}"#.to_vec(),
            ),
            _ => (STATUSES[0], b"{}".to_vec()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if out.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

/// Reads a request; its path.
fn request(stream: &mut impl BufRead) -> Option<String> {
    let (mut path, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_ascii_lowercase();
        if path.is_none() {
            path = Some(line.split_whitespace().nth(1)?.to_owned());
        } else if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        } else if line.is_empty() {
            std::io::copy(&mut stream.take(length), &mut std::io::sink()).ok()?;
            return path;
        }
    }
}
