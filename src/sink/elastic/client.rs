//! One request and its answer, or what its failure proves.

use std::error::Error;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use elasticsearch::Elasticsearch;
use elasticsearch::auth::Credentials;
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::headers::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    USER_AGENT,
};
use elasticsearch::http::response::Response;
use elasticsearch::http::transport::{MultiNodeConnectionPool, SingleNodeConnectionPool, TransportBuilder};
use elasticsearch::http::{Method, Url};
use serde::Deserialize;

use super::options::{Auth, ElasticError, ElasticOptions};
use super::outcome::FILTER;
use super::reason::{EngineError, Text, name};
use crate::sink::{Bulk, BulkError, SinkError};

/// Most bytes of an answer to anything but a bulk: mappings are the largest.
const MAX_ANSWER: u64 = 64 << 20;

/// Most bytes of a bulk's answer per item, errors included; and what stands around them.
const MAX_ITEM_ANSWER: u64 = 64 << 10;

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
    client: Elasticsearch,
    nodes: Vec<Url>,
    request_timeout: Duration,
    connect_timeout: Duration,
    opaque_prefix: String,
    /// The last request got an answer.
    reached: AtomicBool,
}

/// An answer to a request about indices: its status and body, whatever the status.
#[derive(Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub body: Bytes,
}

/// Why there is no answer.
enum Failure {
    /// No connection: nothing was sent.
    Unsent(String),
    /// Something was sent, or may have been.
    Lost(String),
    /// The request cannot be made, or was sent elsewhere.
    Wrong(String),
}

impl Client {
    pub(super) fn new(options: &ElasticOptions) -> Result<Client, ElasticError> {
        let nodes = options.url.split(',').map(node_url).collect::<Result<Vec<_>, _>>()?;
        let builder = match &nodes[..] {
            [node] => TransportBuilder::new(SingleNodeConnectionPool::new(node.clone())),
            // Without a reseed frequency the pool stays as given: no sniffing.
            _ => TransportBuilder::new(MultiNodeConnectionPool::round_robin(nodes.clone(), None)),
        };
        // The environment's proxies are off: rows go where the configuration says.
        let mut builder = builder.disable_proxy().enable_meta_header(false).timeout(options.request_timeout);
        if let Some(credentials) = credentials(&options.auth)? {
            builder = builder.auth(credentials);
        }
        if options.insecure {
            tracing::warn!("insecure = true: the search engine's certificate is not verified");
            builder = builder.cert_validation(CertificateValidation::None);
        } else if let Some(path) = &options.ca_file {
            let failed = |source| ElasticError::CaFile { path: path.clone(), source };
            let pem = fs::read(path).map_err(|error| failed(error.into()))?;
            let certificates = Certificate::from_pem(&pem).map_err(|error| failed(error.into()))?;
            builder = builder.cert_validation(CertificateValidation::Full(certificates));
        }
        header(&options.opaque_prefix)
            .ok_or(ElasticError::Credentials { why: "the opaque prefix is not printable ASCII" })?;
        let transport = builder.build().map_err(|error| ElasticError::Client(error.into()))?;
        Ok(Client {
            client: Elasticsearch::new(transport),
            nodes,
            request_timeout: options.request_timeout,
            connect_timeout: options.connect_timeout,
            opaque_prefix: options.opaque_prefix.clone(),
            reached: AtomicBool::new(true),
        })
    }

    /// Sends a bulk and returns the body of the engine's 200.
    pub(super) async fn bulk(&self, bulk: &Bulk) -> Result<Bytes, BulkError> {
        self.reach().await?;
        let mut headers = headers("application/x-ndjson");
        let opaque = format!("{}{}", self.opaque_prefix, bulk.opaque_id);
        let opaque = header(&opaque).ok_or_else(|| BulkError::Definite {
            reason: "the bulk's id is no header value: it must be printable ASCII".into(),
        })?;
        headers.insert(HeaderName::from_static("x-opaque-id"), opaque);
        let query = [("require_alias", "true"), ("filter_path", FILTER)];
        let request = self.request(Method::Post, "_bulk", headers, &query, Some(bulk.body.clone()));
        let response = request.await.map_err(|failure| match failure {
            Failure::Unsent(reason) => BulkError::Transient { reason, retry_after: None },
            Failure::Lost(reason) => BulkError::Unknown { reason },
            Failure::Wrong(reason) => BulkError::Definite { reason },
        })?;
        let limit = MAX_ITEM_ANSWER.saturating_mul(bulk.items.len() as u64 + 1).min(4 * MAX_ANSWER);
        let (status, retry_after, location) = head(&response);
        let body = self.body(response, limit).await;
        if status == 200 {
            return body.map_err(|reason| BulkError::Unknown { reason });
        }
        // Of a refusal the status says enough; its text may be cut.
        Err(refused(status, retry_after, location, &body.unwrap_or_default()))
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
        let mut headers = headers("application/json");
        if let Some(prefix) = header(&self.opaque_prefix).filter(|prefix| !prefix.is_empty()) {
            headers.insert(HeaderName::from_static("x-opaque-id"), prefix);
        }
        let body = body.map(|body| Bytes::from(body.to_string()));
        let asked = format!("{} /{path}", method_name(method));
        let response =
            self.request(method, path, headers, query, body).await.map_err(|failure| match failure {
                Failure::Unsent(reason) | Failure::Lost(reason) => {
                    SinkError::Transient(format!("{asked}: {reason}").into())
                }
                Failure::Wrong(reason) => SinkError::Definite(format!("{asked}: {reason}").into()),
            })?;
        let (status, _, location) = head(&response);
        let body = self.body(response, MAX_ANSWER).await;
        let body = body.map_err(|reason| SinkError::Transient(format!("{asked}: {reason}").into()))?;
        let said = || said(status, &body);
        match status {
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
            300..=399 => Err(SinkError::Definite(redirected(status, location.as_deref()).into())),
            _ => Ok(Answer { status, body }),
        }
    }

    pub(super) async fn version(&self) -> Result<EngineVersion, SinkError> {
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
        let root = self.control(Method::Get, "", &[], None).await?;
        let said = serde_json::from_slice(&root.body).ok().filter(|_| root.status == 200);
        if let Some(Root { version }) = said {
            let distribution = version.distribution.or_else(|| Some("elasticsearch".to_owned()));
            return Ok(EngineVersion { distribution, number: version.number });
        }
        // `GET /` is a module of its own and may be missing (405).
        let query = [("filter_path", "nodes.*.version")];
        let nodes = self.control(Method::Get, "_nodes/_local/http", &query, None).await?;
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

    /// After a failure: waits for any answer at all before a bulk's body is sent.
    async fn reach(&self) -> Result<(), BulkError> {
        if self.reached.load(Ordering::Relaxed) {
            return Ok(());
        }
        let asked = self.client.send(
            Method::Head,
            "",
            headers("application/json"),
            None::<&()>,
            None::<()>,
            Some(self.connect_timeout),
        );
        match asked.await {
            Ok(_) => Ok(()),
            Err(error) => {
                let reason = format!("the engine cannot be reached, nothing was sent: {}", causes(&error));
                Err(BulkError::Transient { reason, retry_after: None })
            }
        }
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        query: &[(&str, &str)],
        body: Option<Bytes>,
    ) -> Result<Response, Failure> {
        let sent =
            self.client.send(method, path, headers, Some(query), body, Some(self.request_timeout)).await;
        self.reached.store(sent.is_ok(), Ordering::Relaxed);
        let response = sent.map_err(|error| {
            let reason = causes(&error);
            match error.source().and_then(|source| source.downcast_ref::<reqwest::Error>()) {
                Some(source) if source.is_connect() => {
                    Failure::Unsent(format!("the engine cannot be reached: {reason}"))
                }
                Some(source) if source.is_builder() => {
                    Failure::Wrong(format!("the request cannot be made: {reason}"))
                }
                Some(source) if source.is_redirect() => {
                    Failure::Wrong(format!("redirects are refused: {reason}"))
                }
                Some(_) => Failure::Lost(format!("no answer came: {reason}")),
                None => Failure::Wrong(format!("the request cannot be made: {reason}")),
            }
        })?;
        let asked = |node: &Url| node.join(path).is_ok_and(|url| same_place(&url, response.url()));
        if self.nodes.iter().any(asked) {
            return Ok(response);
        }
        let mut url = response.url().clone();
        url.set_query(None);
        Err(Failure::Wrong(redirected(response.status_code().as_u16(), Some(url.as_str()))))
    }

    async fn body(&self, response: Response, limit: u64) -> Result<Bytes, String> {
        if let Some(length) = response.content_length().filter(|length| *length > limit) {
            self.reached.store(false, Ordering::Relaxed);
            return Err(format!("the answer announces {length} bytes, more than the {limit} that are taken"));
        }
        response.bytes().await.map_err(|error| {
            self.reached.store(false, Ordering::Relaxed);
            format!("the answer broke off: {}", causes(&error))
        })
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

fn redirected(status: u16, location: Option<&str>) -> String {
    let location = location.map_or_else(|| "nowhere".to_owned(), |l| l.escape_debug().to_string());
    format!(
        "redirects are refused: the answer ({status}) leads to {location}; put the engine's own address into the sink's url"
    )
}

fn head(response: &Response) -> (u16, Option<Duration>, Option<String>) {
    let text = |name| response.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // The other form, a date, is not sent by the engines; backoff does without it.
    let retry_after = text(RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
    let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER));
    (response.status_code().as_u16(), retry_after, text(LOCATION).map(str::to_owned))
}

fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // An engine would compress each answer, at more CPU than a near wire costs; and an answer's length would say nothing.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("everrelay/", env!("CARGO_PKG_VERSION"))));
    headers
}

/// A header's value of visible ASCII.
fn header(text: &str) -> Option<HeaderValue> {
    text.bytes().all(|byte| byte.is_ascii_graphic()).then(|| HeaderValue::from_str(text).ok()).flatten()
}

fn credentials(auth: &Auth) -> Result<Option<Credentials>, ElasticError> {
    Ok(Some(match auth {
        Auth::None => return Ok(None),
        Auth::Basic { user, .. } if user.contains(':') => {
            return Err(ElasticError::Credentials { why: "a user name cannot contain a colon" });
        }
        Auth::Basic { user, password } => Credentials::Basic(user.clone(), password.reveal().to_owned()),
        // The client panics on a key that is no header value.
        Auth::ApiKey(key) if key.reveal().is_empty() || header(key.reveal()).is_none() => {
            return Err(ElasticError::Credentials {
                why: "an API key is printable ASCII without blanks, as the engine handed it out",
            });
        }
        Auth::ApiKey(key) => match key.reveal().split_once(':') {
            Some((id, key)) => Credentials::ApiKey(id.to_owned(), key.to_owned()),
            None => Credentials::EncodedApiKey(key.reveal().to_owned()),
        },
    }))
}

/// A node's URL, with a slash at its end.
fn node_url(text: &str) -> Result<Url, ElasticError> {
    let wrong = |why: String| ElasticError::Url { why };
    // The text is not quoted: it may hold a password.
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(format!("it is no URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it is neither http nor https".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds credentials, which belong into `password_env` or `api_key_env`".into()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment".into()));
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// The same path at the same server.
fn same_place(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
        && a.path() == b.path()
}

fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Head => "HEAD",
    }
}

/// An error and what caused it, on one line, with the node but not the long URL that the client's text has.
fn causes(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut node) = (String::new(), None);
    let mut next = Some(error);
    while let Some(cause) = next {
        node = node
            .or_else(|| cause.downcast_ref::<reqwest::Error>()?.url().map(|url| url.authority().to_owned()));
        let said = cause.to_string();
        let said = said.split(" for url (").next().unwrap_or_default();
        if !text.ends_with(said) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(said);
        }
        next = cause.source();
    }
    if let Some(node) = node {
        text.push_str(&format!(" ({node})"));
    }
    text.escape_debug().to_string()
}
