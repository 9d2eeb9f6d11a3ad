//! What the engine's list of tasks says of a bulk that was given up.

use std::sync::{Arc, Mutex};

use everrelay::sink::elastic::ElasticSink;
use everrelay::sink::{Sink, SinkError, UnderWay, Whose};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::{answer, ok, options, read_request};

/// An engine that says this of its tasks.
struct Engine {
    sink: ElasticSink,
    says: Arc<Mutex<Vec<u8>>>,
    head: Arc<Mutex<String>>,
}

impl Engine {
    async fn start() -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = options(&format!("http://{}", listener.local_addr().unwrap()));
        (options.folder_prefix, options.opaque_prefix) = ("folder-".into(), "folder-run-".into());
        let engine =
            Engine { sink: ElasticSink::new(&options).unwrap(), says: Arc::default(), head: Arc::default() };
        let (says, head) = (Arc::clone(&engine.says), Arc::clone(&engine.head));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (says, head) = (Arc::clone(&says), Arc::clone(&head));
                tokio::spawn(async move {
                    while let Ok(Some(asked)) = read_request(&mut stream).await {
                        *head.lock().unwrap() = asked;
                        let said = says.lock().unwrap().clone();
                        if stream.write_all(&said).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        engine
    }

    async fn asked(&self, answer: Vec<u8>, whose: Whose<'_>) -> Result<UnderWay, SinkError> {
        *self.says.lock().unwrap() = answer;
        self.sink.under_way(whose).await
    }

    /// What comes of tasks that bear these ids, the question among them.
    async fn of(&self, ids: &[&str], whose: Whose<'_>) -> UnderWay {
        let mut tasks: Vec<Value> = ids.iter().map(|id| task("indices:data/write/bulk[s]", id)).collect();
        tasks.push(task("cluster:monitor/tasks/lists", "folder-run-"));
        tasks.push(json!({"action": "indices:data/write/bulk", "headers": {}, "node": "x"}));
        tasks.push(json!({"action": "indices:data/write/bulk"}));
        self.asked(ok(&json!({ "tasks": tasks }).to_string()), whose).await.unwrap()
    }
}

fn task(action: &str, id: &str) -> Value {
    json!({"node": "x", "id": 1, "action": action, "headers": {"X-Opaque-Id": id, "trace.id": "y"}})
}

#[tokio::test]
async fn a_bulk_is_told_from_all_others_and_from_those_of_former_runs() {
    let engine = Engine::start().await;
    let bulk = Whose::Bulk("1");
    assert_eq!(engine.of(&[], bulk).await, UnderWay::Nothing);
    let others = ["folder-run-11", "folder-run-", "folder-other-1", "other-run-1", "1", ""];
    assert_eq!(engine.of(&others, bulk).await, UnderWay::Nothing);
    assert_eq!(engine.of(&["folder-run-1", "x", "folder-run-1"], bulk).await, UnderWay::Tasks(2));
    let head = engine.head.lock().unwrap().to_ascii_lowercase();
    assert!(head.starts_with("get /_tasks?actions="), "{head}");
    assert!(head.contains("x-opaque-id: folder-run-\r\n"), "{head}");
    assert_eq!(engine.of(&["other-1", "folder"], Whose::FormerRuns).await, UnderWay::Nothing);
    assert_eq!(engine.of(&["folder-old-1", "folder-old-2"], Whose::FormerRuns).await, UnderWay::Tasks(2));
}

#[tokio::test]
async fn an_answer_that_proves_nothing_is_none() {
    let engine = Engine::start().await;
    let own = task("cluster:monitor/tasks/lists", "folder-run-");
    let refusal = r#"{"error":{"type":"security_exception","reason":"canary"},"status":403}"#;
    for untold in [
        answer("403 Forbidden", "", refusal),
        answer("404 Not Found", "", "<html>canary</html>"),
        answer("405 Method Not Allowed", "", "canary"),
        ok("<html>canary</html>"),
        ok("{}"),
        ok(r#"{"nodes":{}}"#),
        ok(r#"{"tasks":{}}"#),
        // The header was kept back on its way.
        ok(r#"{"tasks":[]}"#),
        ok(&json!({"tasks": [task("cluster:monitor/tasks/lists", "another")]}).to_string()),
    ] {
        let said = engine.asked(untold.clone(), Whose::Bulk("1")).await.unwrap();
        let UnderWay::Untold(why) = said else { panic!("{said:?}: {}", String::from_utf8_lossy(&untold)) };
        assert!(why.contains("tasks") && !why.contains("canary"), "{why}");
    }
    for later in [
        ok(&json!({"tasks": [own], "node_failures": [{"type": "failed_node_exception"}]}).to_string()),
        ok(&json!({"tasks": [own], "task_failures": [{"task_id": 1}]}).to_string()),
        answer("401 Unauthorized", "", ""),
        answer("429 Too Many Requests", "", ""),
        answer("503 Service Unavailable", "", ""),
        answer("502 Bad Gateway", "", "<html>"),
    ] {
        let said = engine.asked(later.clone(), Whose::FormerRuns).await;
        assert!(
            matches!(said, Err(SinkError::Transient(_))),
            "{said:?}: {}",
            String::from_utf8_lossy(&later)
        );
    }
}
