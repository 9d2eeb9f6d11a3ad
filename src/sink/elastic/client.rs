//! What is asked of the engine, and what its answers and failures prove.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::http::headers::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use elasticsearch::http::response::Response;
use elasticsearch::http::{Method, Url};
use serde::Deserialize;

use super::access::{Access, visible};
use super::node::{Ask, Failure, Node, headers, method_name, node_url, redirected};
use super::nodes::{Nodes, Tried};
use super::options::{Auth, ElasticError, ElasticOptions};
use super::outcome::FILTER;
use super::reason::{EngineError, Text, name};
use crate::sink::{Bulk, BulkError, SinkError};

/// Most bytes of an answer to anything but a bulk: mappings are the largest.
const MAX_ANSWER: u64 = 64 << 20;

/// Most bytes of a bulk's answer per item, errors included; and what stands around them.
const MAX_ITEM_ANSWER: u64 = 64 << 10;

/// The type of bodies that are no lines.
const JSON: &str = "application/json";

/// Longest wait that an answer may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// Which engine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineVersion {
    /// `elasticsearch` or `opensearch`; `None` where the engine did not say.
    pub distribution: Option<String>,
    /// `9.5.3`.
    pub number: String,
}

#[derive(Debug)]
pub(super) struct Client {
    nodes: Nodes,
    request_timeout: Duration,
    connect_timeout: Duration,
    opaque_prefix: String,
    folder_prefix: String,
}

/// An answer to a request about indices: its status and body, whatever the status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// An answer's head, and who gave it.
struct Reply<'n> {
    node: &'n Arc<Node>,
    response: Response,
}

impl Client {
    pub(super) fn new(options: &ElasticOptions) -> Result<Client, ElasticError> {
        let access = Arc::new(Access::new(options)?);
        let mut nodes: Vec<Node> = Vec::with_capacity(options.urls.len());
        for url in &options.urls {
            let node = Node::new(node_url(url)?, &options.name, Arc::clone(&access))?;
            if nodes.iter().any(|other| other.url() == node.url()) {
                return Err(ElasticError::Url { why: format!("it names {} twice", node.name) });
            }
            nodes.push(node);
        }
        let in_the_clear = |node: &&Node| node.url().scheme() == "http" && !is_loopback(node.url());
        if let Some(node) = nodes.iter().find(in_the_clear).filter(|_| options.auth != Auth::None) {
            tracing::warn!(
                node = node.name,
                "credentials go over the network without TLS: give the sink's url as https"
            );
        }
        if nodes.is_empty() {
            return Err(ElasticError::Url { why: "it names no node".into() });
        }
        if options.insecure {
            tracing::warn!("insecure = true: the search engine's certificate is not verified");
        }
        if !options.opaque_prefix.is_empty() && visible(&options.opaque_prefix, false).is_none() {
            return Err(ElasticError::Credentials { why: "the opaque prefix is not printable ASCII" });
        }
        Ok(Client {
            nodes: Nodes::new(nodes, options.connect_timeout),
            request_timeout: options.request_timeout,
            connect_timeout: options.connect_timeout,
            opaque_prefix: options.opaque_prefix.clone(),
            folder_prefix: options.folder_prefix.clone(),
        })
    }

    /// Asks every node which cluster it is of.
    pub(super) async fn meet(&self) -> Result<(), SinkError> {
        self.nodes.meet().await.map_err(|failure| match failure {
            Failure::Unsent(reason) | Failure::Lost(reason) => SinkError::Transient(reason.into()),
            Failure::Wrong(reason) => SinkError::Definite(reason.into()),
        })
    }

    /// Sends a bulk and returns the body of the engine's 200.
    pub(super) async fn bulk(&self, bulk: &Bulk) -> Result<Bytes, BulkError> {
        let mut headers = headers("application/x-ndjson");
        let opaque = self.opaque_id(&bulk.opaque_id);
        let opaque = visible(&opaque, false).ok_or_else(|| BulkError::Definite {
            reason: "the bulk's id is no header value: it must be printable ASCII".into(),
        })?;
        headers.insert(HeaderName::from_static("x-opaque-id"), opaque);
        let query = [("require_alias", "true"), ("filter_path", FILTER)];
        let request = self.ask(Method::Post, "_bulk", headers, &query, Some(bulk.body.clone()));
        let Reply { node, response } = self.request(request).await.map_err(|failure| match failure {
            Failure::Unsent(reason) => BulkError::Transient { reason, retry_after: None },
            Failure::Lost(reason) => BulkError::Unknown { reason },
            Failure::Wrong(reason) => BulkError::Definite { reason },
        })?;
        let limit = MAX_ITEM_ANSWER.saturating_mul(bulk.items.len() as u64 + 1).min(4 * MAX_ANSWER);
        let (status, retry_after, location) = head(&response);
        let body = node.body(response, limit).await;
        if status == 200 {
            return body.map_err(|reason| BulkError::Unknown { reason });
        }
        // Of a refusal the status says enough; its text may be cut.
        let body = body.unwrap_or_default();
        if status == 503 && not_begun(&body) && self.nodes.all().len() > 1 {
            // Perhaps it has lost its cluster, and others have not.
            node.put_aside(&said(status, &body));
        }
        Err(refused(status, retry_after, location, &body))
    }

    /// The `X-Opaque-Id` of a bulk.
    pub(super) fn opaque_id(&self, bulk: &str) -> String {
        format!("{}{bulk}", self.opaque_prefix)
    }

    /// What the `X-Opaque-Id` of every bulk begins with that this state folder ever sent; empty where it sent none before this run.
    pub(super) fn folder_prefix(&self) -> &str {
        &self.folder_prefix
    }

    /// Sends a request that is not a bulk.
    ///
    /// # Errors
    /// Transient: no answer, or one that only says "later". Definite: what answers is not asked rightly.
    pub(super) async fn control(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, SinkError> {
        let answer = self.answered(method, path, query, body).await?;
        served(&format!("{} /{path}", method_name(method)), answer)
    }

    /// The same, whatever the status is.
    ///
    /// # Errors
    /// Transient: no answer. Definite: what answers is not asked rightly, or leads elsewhere.
    pub(super) async fn answered(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&serde_json::Value>,
    ) -> Result<Answer, SinkError> {
        let asked = format!("{} /{path}", method_name(method));
        let body = body.map(|body| Bytes::from(body.to_string()));
        let sent = self.request(self.ask(method, path, self.control_headers(JSON), query, body)).await;
        self.answer(&asked, sent).await
    }

    /// The same with a body of lines of JSON.
    ///
    /// # Errors
    /// As [`Client::answered`].
    pub(super) async fn answered_lines(
        &self,
        path: &str,
        query: &[(&str, &str)],
        lines: Vec<u8>,
    ) -> Result<Answer, SinkError> {
        let headers = self.control_headers("application/x-ndjson");
        let ask = self.ask(Method::Post, path, headers, query, Some(Bytes::from(lines)));
        let sent = self.request(ask).await;
        self.answer(&format!("POST /{path}"), sent).await
    }

    fn control_headers(&self, content_type: &'static str) -> HeaderMap {
        let mut headers = headers(content_type);
        if let Some(prefix) = visible(&self.opaque_prefix, false) {
            headers.insert(HeaderName::from_static("x-opaque-id"), prefix);
        }
        headers
    }

    async fn answer(&self, asked: &str, sent: Result<Reply<'_>, Failure>) -> Result<Answer, SinkError> {
        let Reply { node, response } = sent.map_err(|failure| match failure {
            Failure::Unsent(reason) | Failure::Lost(reason) => {
                SinkError::Transient(format!("{asked}: {reason}").into())
            }
            Failure::Wrong(reason) => SinkError::Definite(format!("{asked}: {reason}").into()),
        })?;
        let (status, _, location) = head(&response);
        let body = node.body(response, MAX_ANSWER).await;
        let body = body.map_err(|reason| SinkError::Transient(format!("{asked}: {reason}").into()))?;
        match status {
            300..=399 => Err(SinkError::Definite(redirected(status, location.as_deref()).into())),
            _ => Ok(Answer { status, body }),
        }
    }

    /// Each node by name, and which engine answers there.
    pub(super) async fn versions(&self) -> Vec<(String, Result<EngineVersion, SinkError>)> {
        let mut versions = Vec::new();
        for node in self.nodes.all() {
            versions.push((node.name.clone(), self.version(node).await));
        }
        versions
    }

    async fn version(&self, node: &Arc<Node>) -> Result<EngineVersion, SinkError> {
        #[derive(Deserialize)]
        struct Root {
            version: Version,
        }
        #[derive(Deserialize)]
        struct Version {
            number: String,
            distribution: Option<String>,
        }
        #[derive(Deserialize)]
        struct Nodes {
            nodes: std::collections::BTreeMap<String, Node>,
        }
        #[derive(Deserialize)]
        struct Node {
            version: String,
        }
        let get = async |path: &str, query: &[(&str, &str)]| {
            let ask = self.ask(Method::Get, path, self.control_headers(JSON), query, None);
            let sent = node.send(Ask { timeout: self.connect_timeout, ..ask }).await;
            let sent = sent.map(|response| Reply { node, response });
            let asked = format!("GET /{path}");
            self.answer(&asked, sent).await.and_then(|answer| served(&asked, answer))
        };
        let root = get("", &[]).await?;
        let said = serde_json::from_slice(&root.body).ok().filter(|_| root.status == 200);
        if let Some(Root { version }) = said {
            let distribution = version.distribution.or_else(|| Some("elasticsearch".to_owned()));
            return Ok(EngineVersion { distribution, number: version.number });
        }
        // `GET /` is a module of its own and may be missing (405).
        let query = [("filter_path", "nodes.*.version")];
        let nodes = get("_nodes/_local/http", &query).await?;
        let version = serde_json::from_slice::<Nodes>(&nodes.body).ok();
        let version = version.and_then(|nodes| nodes.nodes.into_values().next());
        version.map(|node| EngineVersion { distribution: None, number: node.version }).ok_or_else(|| {
            SinkError::Definite(
                format!(
                    "what answers at the sink's url is no search engine: GET / said {} and GET /_nodes/_local {}; check \
                     the url and its path",
                    root.status, nodes.status
                )
                .into(),
            )
        })
    }

    fn ask<'a>(
        &self,
        method: Method,
        path: &'a str,
        headers: HeaderMap,
        query: &'a [(&'a str, &'a str)],
        body: Option<Bytes>,
    ) -> Ask<'a> {
        Ask { method, path, query, headers, body, timeout: self.request_timeout }
    }

    /// Sends a request to one node after the other until it is sent.
    async fn request(&self, ask: Ask<'_>) -> Result<Reply<'_>, Failure> {
        let mut tried = Tried::default();
        let mut unsent = None;
        loop {
            let node = match (self.nodes.next(&mut tried).await, unsent) {
                (Ok(node), _) => node,
                // What the node said that was well a moment ago tells more.
                (Err(Failure::Unsent(_)), Some(failure)) | (Err(failure), _) => return Err(failure),
            };
            match node.send(ask.clone()).await {
                Ok(response) => {
                    node.well();
                    return Ok(Reply { node, response });
                }
                Err(Failure::Unsent(reason)) => {
                    node.put_aside(&reason);
                    unsent = Some(Failure::Unsent(reason));
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// An answer that says more than "later".
///
/// # Errors
/// Transient: it does not.
pub(super) fn served(asked: &str, answer: Answer) -> Result<Answer, SinkError> {
    let said = || said(answer.status, &answer.body);
    match answer.status {
        408 | 429 | 500.. => {
            Err(SinkError::Transient(format!("{asked}: the engine answered {}", said()).into()))
        }
        401 | 403 => Err(SinkError::Transient(
            format!(
                "{asked}: the engine refused the credentials with {}; the relay's role needs `view_index_metadata`, \
                 `create_index`, `manage`, `read`, `index` and `delete` on its indices",
                said()
            )
            .into(),
        )),
        _ => Ok(answer),
    }
}

/// What a whole bulk's refusal proves.
fn refused(status: u16, retry_after: Option<Duration>, location: Option<String>, body: &[u8]) -> BulkError {
    let said = said(status, body);
    match status {
        300..=399 => BulkError::Definite { reason: redirected(status, location.as_deref()) },
        413 => BulkError::TooLarge { reason: format!("the bulk is too large: {said}") },
        // Before it looks at the first item, the engine refuses by these; a proxy that limits rates does not pass them on.
        429 => BulkError::Transient { reason: format!("the engine is busy: {said}"), retry_after },
        401 | 403 => BulkError::Transient {
            reason: format!(
                "the engine refused the credentials: {said}; the relay's role needs `index` and `delete` on its indices"
            ),
            retry_after,
        },
        // Only the engine itself knows that it did nothing. A gateway that says 502, 503 or 504 may have passed the body on,
        // and a 408 comes after part of it was read.
        503 if not_begun(body) => {
            BulkError::Transient { reason: format!("the engine is not ready: {said}"), retry_after }
        }
        200..=299 | 408 | 500.. => BulkError::Unknown { reason: format!("the engine answered {said}") },
        _ => BulkError::Definite {
            reason: format!("the engine refused the bulk: {said}; check the sink's url and its path"),
        },
    }
}

/// Errors of the whole cluster, raised before a bulk's first item is looked at.
fn not_begun(body: &[u8]) -> bool {
    matches!(
        error_of(body).map(|error| error.kind.0.into_owned()).as_deref(),
        Some(
            "cluster_block_exception"
                | "master_not_discovered_exception"
                | "es_rejected_execution_exception"
                | "rejected_execution_exception"
                | "circuit_breaking_exception"
        )
    )
}

/// The error in an engine's answer, where it is one.
pub(super) fn error_of(body: &[u8]) -> Option<EngineError<'_>> {
    #[derive(Deserialize)]
    struct Refusal<'a> {
        #[serde(borrow)]
        error: Shape<'a>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Shape<'a> {
        Object(#[serde(borrow)] EngineError<'a>),
        // Older engines, and proxies in front of them, say it in a bare string.
        Text(#[serde(borrow)] Text<'a>),
    }
    match serde_json::from_slice::<Refusal<'_>>(body).ok()?.error {
        Shape::Object(error) => Some(error),
        Shape::Text(text) => Some(EngineError { reason: Some(text), ..EngineError::default() }),
    }
}

/// `503 cluster_block_exception`: what a refusal says, without quoting more of it.
pub(super) fn said(status: u16, body: &[u8]) -> String {
    match error_of(body) {
        Some(error) if !error.kind.is_empty() => format!("{status} {}", name(&error.kind)),
        _ => format!("{status}"),
    }
}

fn head(response: &Response) -> (u16, Option<Duration>, Option<String>) {
    let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // The other form, a date, is not sent by the engines; backoff does without it.
    let retry_after = text(RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
    let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    (response.status_code().as_u16(), retry_after, text(LOCATION).map(str::to_owned))
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
