//! Two relays and one index: what the fence lets through, at an engine that keeps its documents and fails where it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use everrelay::clock::Clock;
use everrelay::event::{VERSIONS_AHEAD, Version};
use everrelay::sink::elastic::{Claimant, ElasticOptions, ElasticSink};
use everrelay::sink::{BulkError, Disposition, Expect, Index, Sink, SinkError};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::{answer, bulk_of, control, ok, read_whole, spec};

/// Leases of the tests; time is pushed on by [`Boot`].
const LEASE: Duration = Duration::from_secs(1000);

const REQUEST: Duration = Duration::from_secs(60);

/// Time since the machine started, which a test pushes on.
#[derive(Clone, Debug)]
struct Boot(Instant, Arc<Mutex<Duration>>);

impl Boot {
    fn new() -> Boot {
        Boot(Instant::now(), Arc::default())
    }

    fn push(&self, by: Duration) {
        *self.1.lock().unwrap() += by;
    }
}

impl Clock for Boot {
    fn wall_micros(&self) -> u64 {
        1_795_416_428_120_000
    }

    fn since_boot(&self) -> Duration {
        self.0.elapsed() + *self.1.lock().unwrap()
    }
}

/// What goes wrong with the next write to a fence.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wrong {
    /// It is done, and the answer lost.
    AnswerLost,
    /// Every one is refused, until told otherwise.
    Status(&'static str, &'static str),
}

#[derive(Default)]
struct State {
    made: bool,
    /// By id: sequence number and source.
    fences: BTreeMap<String, (u64, Value)>,
    writes: u64,
    wrong: Option<Wrong>,
    /// Bulks of documents: who sent them.
    sent: Vec<String>,
    /// What bears these ids is at work.
    tasks: Vec<String>,
}

/// An engine with one index, whose UUID is `u1`.
#[derive(Clone)]
struct Engine {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Engine {
    async fn start() -> Engine {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let engine = Engine { url, state: Arc::default() };
        let state = Arc::clone(&engine.state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&state)));
            }
        });
        engine
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn fence(&self) -> Value {
        self.state().fences.get("u1").map(|(_, source)| source.clone()).unwrap_or_default()
    }

    fn goes_wrong(&self, wrong: impl Into<Option<Wrong>>) {
        self.state().wrong = wrong.into();
    }

    fn relay(&self, claimant: Claimant) -> Relay {
        let mut options = ElasticOptions::new(&self.url);
        options.request_timeout = REQUEST;
        options.folder_prefix = Claimant::folder_prefix(claimant.folder_id);
        options.opaque_prefix = Claimant::opaque_prefix(claimant.folder_id, claimant.run_id);
        options.fence = Some(claimant);
        let boot = Boot::new();
        Relay { sink: ElasticSink::with_clock(&options, boot.clone()).unwrap(), boot }
    }
}

struct Relay {
    sink: ElasticSink<Boot>,
    boot: Boot,
}

impl Relay {
    async fn meets(&self) -> Result<Index, SinkError> {
        self.sink.ensure(&spec(), Expect::Anything).await
    }

    /// Meets the index for as long as it takes, time being pushed on.
    async fn waits(&self, seconds: u64) -> Result<Index, SinkError> {
        let first = self.meets().await;
        let Err(SinkError::Transient(why)) = first else { panic!("it does not wait: {first:?}") };
        assert!(why.to_string().contains("nothing is sent"), "{why}");
        self.boot.push(Duration::from_secs(seconds - 1));
        let early = tokio::time::timeout(Duration::from_millis(700), self.meets()).await;
        assert!(early.is_err(), "it does not wait for {seconds} s: {early:?}");
        self.boot.push(Duration::from_secs(2));
        self.meets().await
    }

    async fn sends(&self, version: u64) -> Result<Vec<Disposition>, BulkError> {
        self.sink.send(&bulk_of(&self.sink, version)).await
    }
}

fn claimant(folder: u64, run: u32, first: u64) -> Claimant {
    Claimant {
        folder_id: folder,
        run_id: run,
        host: format!("host-{folder}"),
        place: format!("lock-{folder}"),
        first_version: Version(first),
        take_over: false,
        lease: LEASE,
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    while let Ok(Some((head, body))) = read_whole(&mut stream).await {
        let said = said(&state, &head, &body);
        let Some(said) = said else {
            let _ = stream.set_zero_linger();
            return;
        };
        if stream.write_all(&said).await.is_err() {
            return;
        }
    }
}

/// The answer; none where it is lost.
fn said(state: &Mutex<State>, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut state = state.lock().unwrap();
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let path = path.split('?').next().unwrap();
    let opaque = head
        .split("\r\n")
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("x-opaque-id: ").map(str::to_owned));
    let no_index = r#"{"error":{"type":"index_not_found_exception","reason":"x"},"status":404}"#;
    Some(match (method, path) {
        ("PUT", "/everrelay-fence") => {
            state.made = true;
            ok("{}")
        }
        ("GET", "/everrelay-fence/_doc/u1") if !state.made => answer("404 Not Found", "", no_index),
        ("GET", "/everrelay-fence/_doc/u1") => match state.fences.get("u1") {
            None => answer("404 Not Found", "", r#"{"_index":"everrelay-fence","_id":"u1","found":false}"#),
            Some((seq_no, source)) => ok(&json!({
                "_id": "u1", "found": true, "_seq_no": seq_no, "_primary_term": 1, "_source": source,
            })
            .to_string()),
        },
        ("POST", "/everrelay-fence/_mget") => {
            let found = |(id, (_, source)): (&String, &(u64, Value))| json!({"_id": id, "found": true, "_source": source});
            let mut docs: Vec<Value> = state.fences.iter().map(found).collect();
            docs.push(json!({"_id": "u2", "found": false}));
            ok(&json!({ "docs": docs }).to_string())
        }
        ("POST", "/everrelay-fence/_search") => {
            let found = |(id, (seq_no, source)): (&String, &(u64, Value))| json!({"_id": id, "_seq_no": seq_no, "_primary_term": 1, "_source": source});
            let hits: Vec<Value> = state.fences.iter().map(found).collect();
            ok(&json!({"hits": {"hits": hits}}).to_string())
        }
        ("GET", "/_tasks") => {
            let task = |action: &str, id: &str| json!({"action": action, "headers": {"X-Opaque-Id": id}});
            let mut tasks: Vec<Value> =
                state.tasks.iter().map(|id| task("indices:data/write/bulk", id)).collect();
            tasks.push(task("cluster:monitor/tasks/lists", &opaque.unwrap()));
            ok(&json!({ "tasks": tasks }).to_string())
        }
        ("POST", "/_bulk") => {
            let lines: Vec<Value> =
                body.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
            let is_fence = lines[0]["create"]["_index"] == "everrelay-fence"
                || lines[0]["index"]["_index"] == "everrelay-fence";
            if !is_fence {
                state.sent.push(opaque.unwrap());
                let items: Vec<Value> = lines
                    .chunks(2)
                    .map(|pair| {
                        let (id, version) = (&pair[0]["index"]["_id"], &pair[0]["index"]["version"]);
                        json!({"index": {"_index": "a.b-000001", "_id": id, "_version": version, "result": "created", "status": 201}})
                    })
                    .collect();
                return Some(ok(&json!({ "items": items }).to_string()));
            }
            state.writes += 1;
            if let Some(Wrong::Status(status, kind)) = state.wrong {
                return Some(answer(status, "", &json!({"error": {"type": kind}}).to_string()));
            }
            let items: Vec<Value> = lines.chunks(2).map(|pair| raise(&mut state, pair)).collect();
            if state.wrong.take() == Some(Wrong::AnswerLost) {
                return None;
            }
            ok(&json!({ "items": items }).to_string())
        }
        _ => control(head),
    })
}

fn raise(state: &mut State, pair: &[Value]) -> Value {
    let is_create = pair[0].get("create").is_some();
    let head = if is_create { &pair[0]["create"] } else { &pair[0]["index"] };
    let verb = if is_create { "create" } else { "index" };
    // It is made by the write itself, as engines do unless told otherwise.
    state.made = true;
    let id = head["_id"].as_str().unwrap().to_owned();
    let there = state.fences.get(&id).map(|(seq_no, _)| *seq_no);
    let wanted = head["if_seq_no"].as_u64();
    if there != wanted {
        let error = json!({"type": "version_conflict_engine_exception"});
        return json!({verb: {"_id": id, "status": 409, "error": error}});
    }
    let seq_no = there.unwrap_or(10) + 1;
    state.fences.insert(id.clone(), (seq_no, pair[1].clone()));
    json!({verb: {"_id": id, "status": 201, "_seq_no": seq_no, "_primary_term": 1}})
}

const DONE: Result<Vec<Disposition>, BulkError> = Ok(Vec::new());

#[track_caller]
fn is_done(result: &Result<Vec<Disposition>, BulkError>) {
    assert_eq!(
        result.as_ref().map(|_| Vec::new()),
        DONE.as_ref().map(|_| Vec::<Disposition>::new()),
        "{result:?}"
    );
}

#[track_caller]
fn definite(result: Result<Index, SinkError>, parts: &[&str]) {
    let Err(SinkError::Definite(error)) = result else { panic!("{result:?}") };
    let text = error.to_string();
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");
}

#[track_caller]
fn is_halted(result: Result<Vec<Disposition>, BulkError>, parts: &[&str]) {
    let Err(BulkError::Definite { reason }) = result else { panic!("{result:?}") };
    assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
}

#[tokio::test]
async fn a_bulk_goes_out_below_a_bound_that_was_raised_within_the_lease_and_raises_are_few() {
    let engine = Engine::start().await;
    let relay = engine.relay(claimant(1, 7, 100));
    relay.meets().await.unwrap();
    assert_eq!(
        (engine.fence(), engine.state().writes),
        (Value::Null, 0),
        "nothing is claimed before it is used"
    );
    is_done(&relay.sends(100).await);
    let fence = engine.fence();
    assert_eq!(fence["bound"], 100 + VERSIONS_AHEAD);
    assert_eq!((&fence["folder"], &fence["run"]), (&json!("0000000000000001"), &json!("00000007")));
    assert_eq!((&fence["host"], &fence["index"]), (&json!("host-1"), &json!("a.b-000001")));
    for version in [101, 5000, 100 + VERSIONS_AHEAD] {
        is_done(&relay.sends(version).await);
    }
    relay.boot.push(LEASE / 3 - Duration::from_secs(60));
    is_done(&relay.sends(102).await);
    assert_eq!(engine.state().writes, 1);
    is_done(&relay.sends(101 + VERSIONS_AHEAD).await);
    assert_eq!(engine.fence()["bound"], 101 + 2 * VERSIONS_AHEAD);
    assert_eq!(engine.state().writes, 2);
    relay.boot.push(LEASE / 3);
    is_done(&relay.sends(103).await);
    assert_eq!(engine.fence()["bound"], 101 + 2 * VERSIONS_AHEAD);
    assert_eq!(engine.state().writes, 3);
}

#[tokio::test]
async fn fault_21_what_was_stopped_for_longer_than_its_lease_raises_its_fence_before_it_sends() {
    let engine = Engine::start().await;
    let relay = engine.relay(claimant(1, 7, 100));
    relay.meets().await.unwrap();
    is_done(&relay.sends(100).await);
    engine.goes_wrong(Wrong::Status("503 Service Unavailable", "unavailable_shards_exception"));
    relay.boot.push(LEASE - Duration::from_secs(60));
    is_done(&relay.sends(101).await);
    assert_eq!(engine.state().writes, 2, "a raise that fails within the lease stops nothing");
    relay.boot.push(Duration::from_secs(120));
    let sent = engine.state().sent.len();
    let outcome = relay.sends(102).await;
    assert!(matches!(outcome, Err(BulkError::Transient { .. })), "{outcome:?}");
    assert_eq!(engine.state().sent.len(), sent, "nothing is sent without a lease");
    // Somebody else has taken it meanwhile.
    engine.goes_wrong(None);
    let other = engine.relay(claimant(2, 9, 1_000_000));
    other.waits(LEASE.as_secs()).await.unwrap();
    is_done(&other.sends(1_000_000).await);
    is_halted(relay.sends(102).await, &["run 00000009", "host-2", "a.b-000001", "has taken"]);
    assert_eq!(engine.state().sent.len(), sent + 1);
}

#[tokio::test]
async fn a_raise_whose_answer_is_lost_is_found_again_as_ones_own() {
    let engine = Engine::start().await;
    let relay = engine.relay(claimant(1, 7, 100));
    relay.meets().await.unwrap();
    for pushed in [Duration::ZERO, LEASE * 2] {
        relay.boot.push(pushed);
        engine.goes_wrong(Wrong::AnswerLost);
        let outcome = relay.sends(100).await;
        assert!(matches!(outcome, Err(BulkError::Transient { .. })), "{outcome:?}");
        is_done(&relay.sends(100).await);
    }
}

#[tokio::test]
async fn fault_39_the_second_of_two_relays_on_one_index_ends_and_names_the_first() {
    let engine = Engine::start().await;
    let (first, second) = (engine.relay(claimant(1, 7, 100)), engine.relay(claimant(2, 9, 1_000_000)));
    first.meets().await.unwrap();
    is_done(&first.sends(100).await);
    assert!(matches!(second.meets().await, Err(SinkError::Transient(_))));
    first.boot.push(LEASE / 2);
    is_done(&first.sends(101).await);
    definite(second.meets().await, &["run 00000007", "host-1", "at this moment", "--take-over"]);
    is_done(&first.sends(102).await);
    // A version that is too low is said at once.
    let third = engine.relay(claimant(3, 9, 50));
    definite(third.meets().await, &["run 00000007", "host-1", "--take-over", "50"]);
}

#[tokio::test]
async fn a_relay_that_is_gone_holds_its_index_for_one_lease_and_one_that_ended_well_not_at_all() {
    let engine = Engine::start().await;
    let first = engine.relay(claimant(1, 7, 100));
    first.meets().await.unwrap();
    is_done(&first.sends(100).await);
    let second = engine.relay(claimant(2, 9, 1_000_000));
    second.waits(LEASE.as_secs()).await.unwrap();
    is_done(&second.sends(1_000_000).await);
    second.sink.release().await.unwrap();
    assert_eq!(engine.fence()["released"], true);
    let third = engine.relay(claimant(3, 9, 2_000_000));
    third.meets().await.unwrap();
    is_done(&third.sends(2_000_000).await);
    assert_eq!(engine.fence()["released"], false);
}

#[tokio::test]
async fn what_a_relay_that_is_gone_left_in_the_engine_is_waited_for() {
    let engine = Engine::start().await;
    let first = engine.relay(claimant(1, 7, 100));
    first.meets().await.unwrap();
    is_done(&first.sends(100).await);
    engine.state().tasks = vec!["everrelay-0000000000000001-00000007-4".into()];
    let second = engine.relay(claimant(2, 9, 1_000_000));
    let waits = second.waits(LEASE.as_secs()).await;
    let Err(SinkError::Transient(why)) = waits else { panic!("{waits:?}") };
    assert!(why.to_string().contains("1 tasks"), "{why}");
    engine.state().tasks = vec!["everrelay-0000000000000001-00000008-4".into()];
    second.meets().await.unwrap();
}

#[tokio::test]
async fn fault_69_a_copied_folder_ends_beside_the_one_that_runs_and_a_dead_run_of_this_folder_is_no_obstacle()
{
    let engine = Engine::start().await;
    let first = engine.relay(claimant(1, 7, 100));
    first.meets().await.unwrap();
    is_done(&first.sends(100).await);
    // The same lock file: whoever held it is dead.
    let again = engine.relay(claimant(1, 8, 1_000_000));
    again.meets().await.unwrap();
    is_done(&again.sends(1_000_000).await);
    let copy = engine.relay(Claimant { place: "elsewhere".into(), ..claimant(1, 9, 2_000_000) });
    assert!(matches!(copy.meets().await, Err(SinkError::Transient(_))));
    again.boot.push(LEASE / 2);
    is_done(&again.sends(1_000_001).await);
    definite(copy.meets().await, &["run 00000008", "host-1", "at this moment"]);
}

#[tokio::test]
async fn fault_68_an_older_copy_of_a_folder_whose_versions_begin_too_low_is_refused() {
    let engine = Engine::start().await;
    let first = engine.relay(claimant(1, 7, 100));
    first.meets().await.unwrap();
    is_done(&first.sends(100).await);
    let copy = engine.relay(claimant(1, 8, 100));
    definite(copy.meets().await, &["an older copy", "run 00000007"]);
    let options = ElasticOptions::new(&engine.url);
    let uuids = ["u1".to_owned(), "u2".to_owned()];
    let highest = |folder| {
        let (options, uuids) = (options.clone(), &uuids);
        async move { ElasticSink::highest_bound(&options, Some((folder, uuids))).await.unwrap() }
    };
    assert_eq!(highest(2).await, None);
    let highest = highest(1).await;
    assert_eq!(highest, Some(Version(100 + VERSIONS_AHEAD)), "what the next opening of the log outranks");
}

#[tokio::test]
async fn a_take_over_overwrites_the_fence_first_and_sends_when_the_other_can_send_nothing_more() {
    let engine = Engine::start().await;
    let first = engine.relay(claimant(1, 7, 100));
    first.meets().await.unwrap();
    is_done(&first.sends(100).await);
    let second = engine.relay(Claimant { take_over: true, ..claimant(2, 9, 1_000_000) });
    second.waits((LEASE + REQUEST).as_secs()).await.unwrap();
    is_done(&second.sends(1_000_000).await);
    first.boot.push(LEASE);
    is_halted(first.sends(101).await, &["run 00000009", "host-2", "has taken"]);
    // The answer to the overwriting is lost: the same wait.
    let third = engine.relay(Claimant { take_over: true, ..claimant(3, 5, 2_000_000) });
    engine.goes_wrong(Wrong::AnswerLost);
    assert!(matches!(third.meets().await, Err(SinkError::Transient(_))));
    let early = tokio::time::timeout(Duration::from_millis(700), third.meets()).await;
    assert!(early.is_err(), "it does not wait: {early:?}");
    third.boot.push(LEASE + REQUEST);
    third.meets().await.unwrap();
}

#[tokio::test]
async fn fault_31_a_role_without_the_fence_is_told_so_and_credentials_that_change_are_waited_for() {
    let engine = Engine::start().await;
    let relay = engine.relay(claimant(1, 7, 100));
    relay.meets().await.unwrap();
    engine.goes_wrong(Wrong::Status("403 Forbidden", "security_exception"));
    is_halted(relay.sends(100).await, &["everrelay-fence", "`read`, `index`"]);
    engine.goes_wrong(Wrong::Status("401 Unauthorized", "security_exception"));
    let outcome = relay.sends(100).await;
    assert!(matches!(outcome, Err(BulkError::Transient { .. })), "{outcome:?}");
    engine.goes_wrong(None);
    is_done(&relay.sends(100).await);
    assert_eq!(engine.state().sent.len(), 1);
}

#[tokio::test]
async fn a_fence_that_was_deleted_is_made_again() {
    let engine = Engine::start().await;
    let relay = engine.relay(claimant(1, 7, 100));
    relay.meets().await.unwrap();
    is_done(&relay.sends(100).await);
    *engine.state() = State::default();
    relay.boot.push(LEASE / 2);
    is_done(&relay.sends(101).await);
    assert_eq!(engine.fence()["bound"], 101 + VERSIONS_AHEAD);
}
