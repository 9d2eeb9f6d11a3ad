//! The nodes of one cluster: which is asked next, and which is left alone for a while.
//!
//! - Requests go round among the nodes that have just answered. A node of which that is not known, or whose pause is over, is asked
//!   for an answer beside them, by a task of its own that ends with its deadline: no bulk waits for a machine that is gone. Only where no node is well a request waits
//!   for one to answer.
//! - What could not be sent goes to another node at once. What was sent, or may have been, never does: that is the caller's to judge.
//! - Where there are several, each says which cluster it is of before it is used, at the start and again whenever it was lost: a node of another
//!   cluster would take half of the documents, and nobody would notice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use elasticsearch::http::Method;
use serde::Deserialize;

use super::node::{Ask, Failure, Health, Node, headers, redirected};

/// Most bytes of an answer about the cluster.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Nodes {
    nodes: Vec<Arc<Node>>,
    cluster: Arc<Cluster>,
    /// Where the next round begins.
    next: AtomicUsize,
}

/// What all nodes have in common.
#[derive(Debug)]
struct Cluster {
    several: bool,
    connect_timeout: Duration,
    known: Mutex<Option<Known>>,
}

/// The first node that said which cluster it is of.
#[derive(Debug)]
struct Known {
    uuid: String,
    node: String,
}

/// The nodes that one request was not taken to.
#[derive(Debug, Default)]
pub(super) struct Tried(Vec<usize>);

impl Nodes {
    pub(super) fn new(nodes: Vec<Node>, connect_timeout: Duration) -> Nodes {
        let several = nodes.len() > 1;
        let nodes = nodes.into_iter().map(|node| Arc::new(if several { node } else { node.trusted() }));
        let cluster = Arc::new(Cluster { several, connect_timeout, known: Mutex::default() });
        Nodes { nodes: nodes.collect(), cluster, next: AtomicUsize::new(0) }
    }

    pub(super) fn all(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Asks every node which cluster it is of; one that does not answer is asked when it does.
    ///
    /// # Errors
    /// They are of several.
    pub(super) async fn meet(&self) -> Result<(), Failure> {
        if !self.cluster.several {
            return Ok(());
        }
        let asked = self.nodes.iter().map(|node| self.cluster.admit(node));
        for result in futures_util::future::join_all(asked).await {
            if let Err(wrong @ Failure::Wrong(_)) = result {
                return Err(wrong);
            }
        }
        Ok(())
    }

    /// A node that has answered and was not tried.
    ///
    /// # Errors
    /// None answers, or what answers must not be used.
    pub(super) async fn next(&self, tried: &mut Tried) -> Result<&Arc<Node>, Failure> {
        let mut unsent = None;
        loop {
            let Some((at, health)) = self.choose(tried)? else {
                return Err(unsent.unwrap_or_else(|| Failure::Unsent("no other node can be reached".into())));
            };
            let node = &self.nodes[at];
            tried.0.push(at);
            if health == Health::Well {
                return Ok(node);
            }
            match self.cluster.admit(node).await {
                Ok(()) => return Ok(node),
                Err(failure @ Failure::Unsent(_)) => unsent = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// The node that is to be tried now, if any is left.
    fn choose(&self, tried: &Tried) -> Result<Option<(usize, Health)>, Failure> {
        let (mut well, mut doubtful, mut aside) = (None, Vec::new(), None);
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        for step in 0..self.nodes.len() {
            let at = start.wrapping_add(step) % self.nodes.len();
            if tried.0.contains(&at) {
                continue;
            }
            match self.nodes[at].health() {
                Health::Well => well = well.or(Some(at)),
                Health::Doubtful => doubtful.push(at),
                Health::Aside(until) => {
                    aside = aside.filter(|(soonest, _)| *soonest <= until).or(Some((until, at)));
                }
                Health::Wrong(why) => return Err(Failure::Wrong(why)),
            }
        }
        Ok(match (well, doubtful.first(), aside) {
            (Some(at), _, _) => {
                doubtful.iter().for_each(|&at| self.cluster.ask_beside(&self.nodes[at]));
                Some((at, Health::Well))
            }
            (None, Some(&at), _) => Some((at, Health::Doubtful)),
            // Its callers pause between attempts by themselves.
            (None, None, Some((_, at))) if tried.0.is_empty() => Some((at, Health::Doubtful)),
            _ => None,
        })
    }
}

impl Cluster {
    /// Asks a node for an answer while requests go to others.
    fn ask_beside(self: &Arc<Self>, node: &Arc<Node>) {
        if node.claim(2 * self.connect_timeout) {
            let (cluster, node) = (Arc::clone(self), Arc::clone(node));
            tokio::spawn(async move { cluster.admit(&node).await });
        }
    }

    /// Asks a node for an answer, where there are several the one that says which cluster it is of. The node is well then, or put aside.
    ///
    /// # Errors
    /// Unsent: it does not answer, or not now. Wrong: it must not be used.
    async fn admit(&self, node: &Node) -> Result<(), Failure> {
        let answered = if self.several {
            self.identify(node).await
        } else {
            // Any answer at all: a proxy may lead its own root elsewhere, and still pass on what is below.
            match self.ask(node, Method::Head, "", &[]).await {
                Err(Failure::Wrong(_)) | Ok(_) => Ok(()),
                Err(failure) => Err(failure),
            }
        };
        match &answered {
            Ok(()) => node.well(),
            Err(Failure::Unsent(reason) | Failure::Lost(reason)) => node.put_aside(reason),
            Err(Failure::Wrong(why)) => node.is_wrong(why),
        }
        answered.map_err(|failure| match failure {
            Failure::Wrong(why) => Failure::Wrong(why),
            Failure::Unsent(reason) | Failure::Lost(reason) => {
                Failure::Unsent(format!("the engine cannot be reached, nothing was sent: {reason}"))
            }
        })
    }

    async fn identify(&self, node: &Node) -> Result<(), Failure> {
        #[derive(Deserialize)]
        struct Said {
            cluster_uuid: String,
        }
        let mut statuses = Vec::new();
        // `GET /` is a module of its own and may be missing (405); the other needs the privilege `monitor`.
        for (path, query) in
            [("", &[][..]), ("_cluster/state/version", &[("filter_path", "cluster_uuid")][..])]
        {
            let (status, body) = self.ask(node, Method::Get, path, query).await?;
            match (status, serde_json::from_slice::<Said>(&body)) {
                // A node that has not found its cluster yet.
                (200, Ok(Said { cluster_uuid })) if cluster_uuid == "_na_" => {
                    return Err(Failure::Unsent(format!("{} is of no cluster yet", node.name)));
                }
                (200, Ok(Said { cluster_uuid })) => return self.compare(node, cluster_uuid),
                (300..=399, _) => return Err(Failure::Wrong(redirected(status, None))),
                (401 | 403 | 408 | 429 | 500.., _) => {
                    return Err(Failure::Unsent(format!(
                        "{} does not say which cluster it is of: it answered GET /{path} with {status}",
                        node.name
                    )));
                }
                _ => statuses.push(status.to_string()),
            }
        }
        Err(Failure::Wrong(format!(
            "what answers at {} is no search engine: GET / said {}, and neither said which cluster it is of; check the sink's url",
            node.name,
            statuses.join(" and GET /_cluster/state/version ")
        )))
    }

    fn compare(&self, node: &Node, uuid: String) -> Result<(), Failure> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| Known { uuid: uuid.clone(), node: node.name.clone() });
        if known.uuid == uuid {
            return Ok(());
        }
        let text = |text: &str| text.chars().take(64).collect::<String>().escape_debug().to_string();
        Err(Failure::Wrong(format!(
            "{} and {} are nodes of different clusters ({} and {}): the sink's url names nodes of one; take out what is of another",
            known.node,
            node.name,
            text(&known.uuid),
            text(&uuid)
        )))
    }

    async fn ask(
        &self,
        node: &Node,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<(u16, bytes::Bytes), Failure> {
        let headers = headers("application/json");
        let ask = Ask { method, path, query, headers, body: None, timeout: self.connect_timeout };
        let response = node.send(ask).await?;
        let status = response.status_code().as_u16();
        let body = match method {
            Method::Head => bytes::Bytes::new(),
            _ => node.body(response, MAX_ANSWER).await.map_err(Failure::Lost)?,
        };
        Ok((status, body))
    }
}
