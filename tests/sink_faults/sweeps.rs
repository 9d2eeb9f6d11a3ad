//! A sweep whose scan or deletes fail at any step: it passes only if every document was answered for.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use everrelay::event::Version;
use everrelay::sink::elastic::ElasticSink;
use everrelay::sink::{Expect, Index, Old, Sink, SinkError, Swept};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::{answer, control, ok, options, read_request, spec};

const VERSIONS: std::ops::Range<Version> = Version(100)..Version(200);

/// Ids and versions: of three pages, a newer one among them.
const PAGES: [&[(&str, u64)]; 3] = [&[("1", 100), ("2", 150)], &[("3", 250), ("4", 199)], &[("5", 120)]];

/// What is asked in a sweep, in order.
const STEPS: [&str; 8] = [
    "POST /a.b-000001/_refresh",
    "POST /a.b-000001/_search",
    "POST /_bulk",
    "POST /_search/scroll",
    "POST /_bulk",
    "POST /_search/scroll",
    "POST /_bulk",
    "DELETE /_search/scroll",
];

/// What is said instead, and at which step.
type Wrong = Option<(usize, Vec<u8>)>;

/// An engine that answers a sweep well but where it is told otherwise.
struct Engine {
    url: String,
    /// Said once; then the connection is reset.
    wrong: Arc<Mutex<Wrong>>,
    /// How many steps went well.
    step: Arc<Mutex<usize>>,
    /// The sweep's requests.
    asked: Arc<Mutex<Vec<String>>>,
}

fn page(number: usize) -> Vec<u8> {
    let hits = PAGES.get(number).copied().unwrap_or_default();
    let hits: Vec<Value> = hits
        .iter()
        .map(|(id, version)| json!({"_index": "a.b-000001", "_id": id, "_version": version}))
        .collect();
    let total = PAGES.iter().map(|page| page.len()).sum::<usize>();
    scanned(total, 2, &hits)
}

fn scanned(total: usize, successful: u64, hits: &[Value]) -> Vec<u8> {
    let shards = json!({"total": 2, "successful": successful, "failed": 2 - successful});
    let page = json!({
        "_scroll_id": "s", "timed_out": false, "_shards": shards, "hits": {"total": {"value": total}, "hits": hits},
    });
    ok(&page.to_string())
}

/// The deletes of a page's old documents are done.
fn deleted(number: usize) -> Vec<u8> {
    let items: Vec<Value> = PAGES[number]
        .iter()
        .filter(|(_, version)| *version < 200)
        .map(|(id, _)| {
            json!({"delete": {"_index": "a.b-000001", "_id": id, "_version": 199, "result": "deleted", "status": 200}})
        })
        .collect();
    ok(&json!({"items": items}).to_string())
}

/// The answer to a step that goes well.
fn good(step: usize) -> Vec<u8> {
    match step {
        0 => ok(r#"{"_shards":{"total":2,"successful":2,"failed":0}}"#),
        1 => page(0),
        2 => deleted(0),
        3 => page(1),
        4 => deleted(1),
        5 => page(2),
        6 => deleted(2),
        _ => ok("{}"),
    }
}

impl Engine {
    async fn start() -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let engine = Engine {
            url: format!("http://{}", listener.local_addr().unwrap()),
            wrong: Arc::default(),
            step: Arc::default(),
            asked: Arc::default(),
        };
        let (wrong, step, asked) = (engine.wrong.clone(), engine.step.clone(), engine.asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (wrong, step_now, asked) = (wrong.clone(), step.clone(), asked.clone());
                tokio::spawn(async move {
                    while let Ok(Some(head)) = read_request(&mut stream).await {
                        let line: Vec<&str> = head.split(['?', ' ']).take(2).collect();
                        let line = line.join(" ");
                        let said = match STEPS.iter().find(|step| **step == line) {
                            None => Ok(control(&head)),
                            Some(_) => {
                                asked.lock().unwrap().push(line);
                                let mut step = step_now.lock().unwrap();
                                match wrong.lock().unwrap().take_if(|(at, _)| at == &*step) {
                                    Some((_, bytes)) => Err(bytes),
                                    None => {
                                        *step += 1;
                                        Ok(good(*step - 1))
                                    }
                                }
                            }
                        };
                        let (Ok(bytes) | Err(bytes)) = &said;
                        stream.write_all(bytes).await?;
                        if said.is_err() {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                            stream.set_zero_linger()?;
                            break;
                        }
                    }
                    Ok::<(), std::io::Error>(())
                });
            }
        });
        engine
    }

    /// Sweeps once, with this said at one step; what came of it, and what was reported.
    async fn sweep(
        &self,
        sink: &ElasticSink,
        index: &Index,
        wrong: Wrong,
    ) -> (Result<ControlFlow<()>, SinkError>, Vec<Swept>) {
        *self.wrong.lock().unwrap() = wrong;
        *self.step.lock().unwrap() = 0;
        self.asked.lock().unwrap().clear();
        let mut pages = Vec::new();
        let swept = |page: &Swept| {
            pages.push(page.clone());
            ControlFlow::Continue(())
        };
        let old = Old { versions: VERSIONS, spared: &HashSet::new(), but_marked: false };
        let result = sink.sweep(index.no, old, swept).await;
        (result, pages)
    }
}

async fn ready() -> (Engine, ElasticSink, Index) {
    let engine = Engine::start().await;
    let mut options = options(&engine.url);
    options.request_timeout = Duration::from_secs(5);
    let sink = ElasticSink::new(&options).unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    (engine, sink, index)
}

#[tokio::test]
async fn a_sweep_deletes_what_is_old_page_by_page_and_lets_go_of_its_scan() {
    let (engine, sink, index) = ready().await;
    let (result, pages) = engine.sweep(&sink, &index, None).await;
    assert!(matches!(result, Ok(ControlFlow::Continue(()))), "{result:?}");
    assert_eq!(*engine.asked.lock().unwrap(), STEPS);
    let counts: Vec<_> = pages.iter().map(|page| (page.deleted, page.spared)).collect();
    assert_eq!(counts, [(2, 0), (1, 1), (1, 0)]);
    assert_eq!(pages[1].newest, Some(("3".into(), Version(250))));
}

#[tokio::test]
async fn a_scan_cut_lost_or_short_at_any_page_passes_for_nothing() {
    let (engine, sink, index) = ready().await;
    for step in [1, 3, 5] {
        let whole = good(step);
        let lost = answer("404 Not Found", "", r#"{"error":{"type":"search_context_missing_exception"}}"#);
        let hit = |index: &str, id: &str| json!({"_index": index, "_id": id, "_version": 100});
        let mut said: Vec<Vec<u8>> = (0..whole.len()).step_by(7).map(|at| whole[..at].to_vec()).collect();
        said.extend([
            lost,
            answer("503 Service Unavailable", "", ""),
            ok("<html>"),
            ok("{}"),
            // A shard is away: its documents are not among these.
            scanned(5, 1, &[]),
            // Pages end before all has come, or more comes than was counted.
            scanned(5, 2, &[]),
            scanned(1, 2, &["1", "2", "3", "4", "5", "6"].map(|id| hit("a.b-000001", id))),
            // Another index answers.
            scanned(5, 2, &[hit("other", "1")]),
        ]);
        for bytes in &said {
            let (result, pages) = engine.sweep(&sink, &index, Some((step, bytes.clone()))).await;
            let text = String::from_utf8_lossy(bytes).into_owned();
            assert!(result.is_err(), "step {step}, {text}: {result:?}");
            assert!(pages.len() <= step / 2, "step {step}, {text}: {pages:?}");
        }
    }
    // What is not the relay's stops it for good, before anything of that page is deleted.
    let foreign = scanned(5, 2, &[json!({"_index": "a.b-000001", "_id": "1", "_version": 7})]);
    let (result, _) = engine.sweep(&sink, &index, Some((1, foreign))).await;
    assert!(
        matches!(&result, Err(SinkError::Definite(error)) if error.to_string().contains("did not write")),
        "{result:?}"
    );
    assert!(!engine.asked.lock().unwrap().contains(&"POST /_bulk".to_owned()));
    let (result, _) = engine.sweep(&sink, &index, None).await;
    assert!(result.is_ok(), "{result:?}");
}

#[tokio::test]
async fn deletes_whose_answer_is_lost_are_sent_again_and_those_that_are_refused_end_the_sweep() {
    let (engine, sink, index) = ready().await;
    for step in [2, 4, 6] {
        let whole = good(step);
        for bytes in [
            whole[..whole.len() / 2].to_vec(),
            Vec::new(),
            answer("503 Service Unavailable", "", ""),
            answer("429 Too Many Requests", "retry-after: 0\r\n", ""),
            // As many items as were sent, or its outcome is unknown.
            ok(r#"{"items":[]}"#),
        ] {
            let (result, pages) = engine.sweep(&sink, &index, Some((step, bytes.clone()))).await;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert!(result.is_ok() && pages.len() == 3, "step {step}, {text}: {result:?}");
            let bulks = engine.asked.lock().unwrap().iter().filter(|asked| **asked == "POST /_bulk").count();
            assert_eq!(bulks, 4, "step {step}, {text}");
        }
        let refused =
            answer("400 Bad Request", "", r#"{"error":{"type":"illegal_argument_exception"},"status":400}"#);
        let (result, _) = engine.sweep(&sink, &index, Some((step, refused))).await;
        assert!(matches!(result, Err(SinkError::Definite(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_refresh_that_not_every_shard_answered_begins_no_scan() {
    let (engine, sink, index) = ready().await;
    for bytes in [
        ok(r#"{"_shards":{"total":2,"successful":1,"failed":1}}"#),
        ok("{}"),
        answer("503 Service Unavailable", "", ""),
        good(0)[..30].to_vec(),
    ] {
        let (result, pages) = engine.sweep(&sink, &index, Some((0, bytes))).await;
        assert!(result.is_err() && pages.is_empty(), "{result:?}");
        assert!(engine.asked.lock().unwrap().iter().all(|asked| !asked.contains("_search")));
    }
}
