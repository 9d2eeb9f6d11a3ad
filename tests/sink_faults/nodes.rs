//! Several nodes of one cluster: who is asked, who is passed over, and who must not be used.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Bulk, BulkError, Disposition, Expect, Sink, SinkError};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::{GOOD, answer, bulk, control, ok, options, read_request, spec};

/// What a node does with a bulk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bulks {
    Takes,
    /// Reads it and breaks off.
    Loses,
    /// Says that it has no master.
    Refuses,
}

struct Node {
    port: u16,
    cluster: Arc<Mutex<&'static str>>,
    bulks: Arc<Mutex<Bulks>>,
    /// Requests read, by method and path.
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
    serving: JoinHandle<()>,
}

impl Node {
    async fn start(cluster: &'static str) -> Node {
        Node::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), cluster)
    }

    fn listen(listener: TcpListener, cluster: &'static str) -> Node {
        let port = listener.local_addr().unwrap().port();
        let (cluster, bulks) = (Arc::new(Mutex::new(cluster)), Arc::new(Mutex::new(Bulks::Takes)));
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = (cluster.clone(), bulks.clone(), seen.clone());
        let serving = tokio::spawn(async move {
            // Ended with this task: nothing of a node that is gone goes on.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (cluster, bulks, seen) = shared.clone();
                connections.spawn(async move {
                    let _ = serve(stream, &cluster, &bulks, &seen).await;
                });
            }
        });
        Node { port, cluster, bulks, seen, serving }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn seen(&self, what: &str) -> usize {
        self.seen.lock().unwrap().get(what).copied().unwrap_or(0)
    }

    /// Nobody listens there any more, and every connection is gone.
    async fn stop(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        // The connections end with the set that the task owned.
        until("the port to be closed", async || TcpStream::connect(("127.0.0.1", self.port)).await.is_err())
            .await;
    }
}

async fn serve(
    mut stream: TcpStream,
    cluster: &Mutex<&'static str>,
    bulks: &Mutex<Bulks>,
    seen: &Mutex<BTreeMap<String, usize>>,
) -> std::io::Result<()> {
    while let Some(head) = read_request(&mut stream).await? {
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap(), words.next().unwrap().split('?').next().unwrap());
        *seen.lock().unwrap().entry(format!("{method} {path}")).or_default() += 1;
        let cluster = *cluster.lock().unwrap();
        let said = match (method, path) {
            // As the engines without that module do.
            ("GET", "/") => answer("405 Method Not Allowed", "", "{}"),
            ("GET", "/_cluster/state/version") => ok(&format!(r#"{{"cluster_uuid":"{cluster}"}}"#)),
            ("POST", "/_bulk") => {
                let bulks = *bulks.lock().unwrap();
                match bulks {
                    Bulks::Takes => ok(GOOD),
                    Bulks::Loses => return stream.set_zero_linger(),
                    Bulks::Refuses => answer(
                        "503 Service Unavailable",
                        "",
                        r#"{"error":{"type":"master_not_discovered_exception"}}"#,
                    ),
                }
            }
            _ => control(&head),
        };
        stream.write_all(&said).await?;
    }
    Ok(())
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn several(nodes: &[&Node]) -> ElasticOptions {
    let urls = nodes.iter().map(|node| node.url()).collect();
    ElasticOptions { urls, connect_timeout: Duration::from_secs(10), ..options("") }
}

/// Every node was asked who it is, and the index is there.
async fn met(sink: &ElasticSink) -> Bulk {
    sink.meet().await.unwrap();
    let index = sink.ensure(&spec(), Expect::Anything).await.unwrap();
    bulk(sink, &index)
}

fn bulks(nodes: &[&Node]) -> Vec<usize> {
    nodes.iter().map(|node| node.seen("POST /_bulk")).collect()
}

#[tokio::test]
async fn bulks_go_round_among_the_nodes() {
    let nodes = [Node::start("c1").await, Node::start("c1").await, Node::start("c1").await];
    let nodes = [&nodes[0], &nodes[1], &nodes[2]];
    let sink = ElasticSink::new(&several(&nodes)).unwrap();
    let bulk = met(&sink).await;
    for _ in 0..9 {
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    }
    assert_eq!(bulks(&nodes), [3, 3, 3]);
}

#[tokio::test]
async fn fault_41_a_node_that_is_gone_is_passed_over_at_once_and_used_again_when_it_is_back() {
    let (mut gone, other) = (Node::start("c1").await, Node::start("c1").await);
    let sink = ElasticSink::new(&several(&[&gone, &other])).unwrap();
    let bulk = met(&sink).await;
    until("both to be used", async || {
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
        gone.seen("POST /_bulk") > 0 && other.seen("POST /_bulk") > 0
    })
    .await;
    gone.stop().await;
    // A connection that ended under a request leaves it unknown, once; from then on nothing is sent there.
    let outcomes = [sink.send(&bulk).await, sink.send(&bulk).await];
    let unknown = outcomes.iter().filter(|outcome| matches!(outcome, Err(BulkError::Unknown { .. }))).count();
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!(unknown <= 1 && unknown + done == 2, "{outcomes:?}");
    for _ in 0..20 {
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    }
    let listener = TcpListener::bind(("127.0.0.1", gone.port)).await.unwrap();
    let back = Node::listen(listener, "c1");
    until("the node to be used again", async || {
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
        back.seen("POST /_bulk") > 0
    })
    .await;
}

#[tokio::test]
async fn a_bulk_that_may_have_been_sent_goes_to_no_other_node() {
    let (loses, other) = (Node::start("c1").await, Node::start("c1").await);
    let sink = ElasticSink::new(&several(&[&loses, &other])).unwrap();
    let bulk = met(&sink).await;
    *loses.bulks.lock().unwrap() = Bulks::Loses;
    let before = other.seen("POST /_bulk");
    let mut outcomes = vec![sink.send(&bulk).await];
    if outcomes[0].is_ok() {
        outcomes.push(sink.send(&bulk).await);
    }
    assert!(matches!(outcomes.pop(), Some(Err(BulkError::Unknown { .. }))), "{outcomes:?}");
    assert_eq!(other.seen("POST /_bulk"), before + outcomes.len());
}

#[tokio::test]
async fn a_node_that_lost_its_cluster_is_put_aside_and_the_others_are_used() {
    let (alone, other) = (Node::start("c1").await, Node::start("c1").await);
    let sink = ElasticSink::new(&several(&[&alone, &other])).unwrap();
    let bulk = met(&sink).await;
    *alone.bulks.lock().unwrap() = Bulks::Refuses;
    *alone.cluster.lock().unwrap() = "_na_";
    let outcomes = [sink.send(&bulk).await, sink.send(&bulk).await];
    let put_off =
        outcomes.iter().filter(|outcome| matches!(outcome, Err(BulkError::Transient { .. }))).count();
    assert_eq!(put_off, 1, "{outcomes:?}");
    for _ in 0..20 {
        assert_eq!(sink.send(&bulk).await, Ok(vec![Disposition::Done]));
    }
    assert_eq!(alone.seen("POST /_bulk"), 1);
}

#[tokio::test]
async fn nodes_of_different_clusters_are_a_definite_error_before_anything_is_written() {
    let (first, second) = (Node::start("c1").await, Node::start("c2").await);
    let sink = ElasticSink::new(&several(&[&first, &second])).unwrap();
    let Err(SinkError::Definite(error)) = sink.meet().await else { panic!("they were taken") };
    let error = error.to_string();
    for part in ["different clusters", "c1", "c2", &format!(":{}", first.port), &format!(":{}", second.port)]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(matches!(sink.ensure(&spec(), Expect::Anything).await, Err(SinkError::Definite(_))));
    assert_eq!((first.seen("PUT /a.b-000001"), second.seen("PUT /a.b-000001")), (0, 0));
}

#[tokio::test]
async fn a_node_that_comes_back_as_another_cluster_stops_the_relay() {
    let (mut gone, other) = (Node::start("c1").await, Node::start("c1").await);
    let sink = ElasticSink::new(&several(&[&gone, &other])).unwrap();
    let bulk = met(&sink).await;
    gone.stop().await;
    // At most one is of unknown outcome.
    let _ = (sink.send(&bulk).await, sink.send(&bulk).await);
    let back = Node::listen(TcpListener::bind(("127.0.0.1", gone.port)).await.unwrap(), "c2");
    until("it to be found out", async || match sink.send(&bulk).await {
        Ok(_) => false,
        Err(BulkError::Definite { reason }) => reason.contains("different clusters"),
        Err(error) => panic!("{error}"),
    })
    .await;
    assert_eq!(back.seen("POST /_bulk"), 0);
}

#[tokio::test]
async fn where_no_node_can_be_reached_nothing_was_sent() {
    let (mut first, mut second) = (Node::start("c1").await, Node::start("c1").await);
    let options = several(&[&first, &second]);
    let sink = ElasticSink::new(&options).unwrap();
    let bulk = met(&sink).await;
    first.stop().await;
    second.stop().await;
    // Of each node one request at most is lost with its connection.
    let outcomes =
        [sink.send(&bulk).await, sink.send(&bulk).await, sink.send(&bulk).await, sink.send(&bulk).await];
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert!(
        matches!(outcomes[2..], [Err(BulkError::Transient { .. }), Err(BulkError::Transient { .. })]),
        "{outcomes:?}"
    );
    assert!(sink.meet().await.is_ok(), "which cluster they are of is asked when they are there");
    let fresh = ElasticSink::new(&options).unwrap();
    assert!(matches!(fresh.ensure(&spec(), Expect::Anything).await, Err(SinkError::Transient(_))));
}
