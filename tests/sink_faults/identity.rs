//! An index that goes back behind what it had taken, and one that only restarts.

use super::*;

/// What the engine says of its one index of two shards.
#[derive(Clone)]
struct State {
    uuid: &'static str,
    /// Of the primaries; `None`: it has none at present.
    histories: [Option<&'static str>; 2],
    /// Status and body of bulks' answers.
    bulk: (&'static str, &'static str),
    /// Of what asks about shards.
    stats: &'static str,
    looks: usize,
    bulks: usize,
}

struct Engine {
    url: String,
    state: Arc<Mutex<State>>,
}

const AWAY: (&str, &str) =
    ("503 Service Unavailable", r#"{"error":{"type":"cluster_block_exception"},"status":503}"#);

impl Engine {
    async fn start() -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let histories = [Some("a"), Some("b")];
        let (bulk, stats) = (("200 OK", GOOD), "200 OK");
        let state = Arc::new(Mutex::new(State { uuid: "u1", histories, bulk, stats, looks: 0, bulks: 0 }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                tokio::spawn(async move {
                    while let Ok(Some(head)) = read_request(&mut stream).await {
                        let answer = said(&mut state.lock().unwrap(), &head);
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Engine { url, state }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn met(&self) -> (ElasticSink, Index, Bulk) {
        let sink = ElasticSink::new(&options(&self.url)).unwrap();
        let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
        let bulk = bulk(&sink, &index);
        (sink, index, bulk)
    }
}

fn said(state: &mut State, head: &str) -> Vec<u8> {
    const JSON: &str = "content-type: application/json\r\n";
    if head.starts_with("POST /_bulk") {
        state.bulks += 1;
        return answer(state.bulk.0, JSON, state.bulk.1);
    }
    let uuid = state.uuid;
    if head.starts_with("GET /a.b-000001/_settings") {
        return ok(&format!(
            r#"{{"a.b-000001":{{"settings":{{"index":{{"uuid":"{uuid}","number_of_shards":"2"}}}}}}}}"#
        ));
    }
    if head.starts_with("GET /a.b-000001/_stats/docs?level=shards") {
        state.looks += 1;
        let shards = state.histories.iter().enumerate().filter_map(|(number, history)| {
            let history = (*history)?;
            Some(format!(
                r#""{number}":[{{"routing":{{"primary":true}},"commit":{{"user_data":{{"history_uuid":"{history}"}}}}}}]"#
            ))
        });
        let shards = shards.collect::<Vec<_>>().join(",");
        let body = format!(r#"{{"indices":{{"a.b-000001":{{"uuid":"{uuid}","shards":{{{shards}}}}}}}}}"#);
        return answer(state.stats, JSON, &body);
    }
    control(head)
}

/// Sends until it is told something else than to wait.
async fn insists(sink: &ElasticSink, bulk: &Bulk) -> Result<Vec<Disposition>, BulkError> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match sink.send(bulk).await {
            Err(BulkError::Transient { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            other => return other,
        }
    }
}

#[tokio::test]
async fn fault_40_an_index_that_went_back_behind_what_it_had_taken_is_definite_and_gets_nothing_more() {
    for lost in [|state: &mut State| state.histories[1] = Some("c"), |state: &mut State| state.uuid = "u2"] {
        let engine = Engine::start().await;
        let (sink, index, bulk) = engine.met().await;
        assert!(index.history.is_some());
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
        engine.state().bulk = AWAY;
        assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
        // It comes back as another.
        lost(&mut engine.state());
        let Err(BulkError::Definite { reason }) = insists(&sink, &bulk).await else { panic!("sent") };
        assert!(reason.contains("a.b-000001"), "{reason}");
        let sent = engine.state().bulks;
        assert!(matches!(sink.send(&bulk).await, Err(BulkError::Definite { .. })));
        assert_eq!(engine.state().bulks, sent);
        // And the next run sees what this one knew.
        let again = ElasticSink::new(&options(&engine.url)).unwrap();
        let now = again.ensure(&spec(), Expect::Existing).await.unwrap();
        assert_ne!((&now.uuid, now.history), (&index.uuid, index.history));
    }
}

#[tokio::test]
async fn fault_40_an_engine_that_restarts_with_its_history_is_waited_for() {
    let engine = Engine::start().await;
    let (sink, index, bulk) = engine.met().await;
    engine.state().bulk = AWAY;
    assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
    // Its shards come back one after the other.
    engine.state().histories = [None, None];
    assert!(matches!(sink.send(&bulk).await, Err(BulkError::Transient { .. })));
    engine.state().histories = [Some("a"), None];
    engine.state().bulk = ("200 OK", GOOD);
    assert_eq!(insists(&sink, &bulk).await, Ok(vec![Disposition::Done]));
    engine.state().histories = [Some("a"), Some("b")];
    assert_eq!(insists(&sink, &bulk).await, Ok(vec![Disposition::Done]));
    let again = ElasticSink::new(&options(&engine.url)).unwrap();
    assert_eq!(again.ensure(&spec(), Expect::Existing).await.unwrap().history, index.history);
}

#[tokio::test]
async fn looks_are_few_while_all_is_well_and_an_engine_that_may_not_be_asked_is_believed() {
    let engine = Engine::start().await;
    let (sink, _, bulk) = engine.met().await;
    for _ in 0..20 {
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    }
    assert_eq!(engine.state().looks, 1);
    engine.state().stats = "403 Forbidden";
    let (sink, index, bulk) = engine.met().await;
    assert_eq!(index.history, None);
    assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    // One that is away is neither.
    engine.state().stats = "503 Service Unavailable";
    let sink = ElasticSink::new(&options(&engine.url)).unwrap();
    assert!(matches!(sink.ensure(&spec(), Expect::Existing).await, Err(SinkError::Transient(_))));
}
