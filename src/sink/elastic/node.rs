//! One node: one request to it and its answer, or what a failure proves.

use std::error::Error;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use elasticsearch::Elasticsearch;
use elasticsearch::http::headers::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT,
};
use elasticsearch::http::response::Response;
use elasticsearch::http::{Method, Url};

use super::access::{Access, Held};
use super::options::ElasticError;
use crate::backoff::Backoff;
use crate::metrics::names;

/// A node that has not answered for so long is asked for anything at all before it is sent a body: by then its machine may be gone,
/// and a body sent into the void is of unknown outcome where a refused connection is not.
const VOUCHED: Duration = Duration::from_secs(30);

/// Bodies that are not larger gain nothing from being compressed.
const LEAST_COMPRESSED: usize = 1024;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// No connection: nothing was sent.
    Unsent(String),
    /// Something was sent, or may have been.
    Lost(String),
    /// The request cannot be made, was sent elsewhere, or does not belong there.
    Wrong(String),
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Ask<'a> {
    pub method: Method,
    pub path: &'a str,
    pub query: &'a [(&'a str, &'a str)],
    pub headers: HeaderMap,
    pub body: Option<Bytes>,
    /// From connecting to the end of the answer.
    pub timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Node {
    url: Url,
    /// `search-1.internal:9200`, for people and metrics.
    pub name: String,
    /// The sink's name.
    sink: String,
    access: Arc<Access>,
    /// With the generation of certificates that it was made with.
    client: Mutex<(u64, Elasticsearch)>,
    standing: Mutex<Standing>,
}

/// What is known of a node.
#[derive(Debug, Default)]
struct Standing {
    /// When it last answered anything.
    answered: Option<Instant>,
    /// It could not be reached, and is left alone until then.
    aside: Option<Instant>,
    /// Somebody asks it for an answer until then at most.
    asked: Option<Instant>,
    /// It is no node of this cluster.
    wrong: Option<String>,
    backoff: Backoff,
}

/// Whether a node may be sent something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It has just answered.
    Well,
    /// It may answer, and is to be asked first.
    Doubtful,
    /// It could not be reached, and is left alone until then.
    Aside(Instant),
    /// It must not be used.
    Wrong(String),
}

impl Node {
    /// # Errors
    /// Its client cannot be made.
    pub(super) fn new(url: Url, sink: &str, access: Arc<Access>) -> Result<Node, ElasticError> {
        // A URL of a node has a host.
        let host = url.host_str().unwrap_or_default();
        let name =
            url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let held = access.held();
        let client = Elasticsearch::new(access.transport(&held, url.clone())?);
        let client = Mutex::new((held.generation, client));
        Ok(Node { url, name, sink: sink.to_owned(), access, client, standing: Mutex::default() })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// The only node there is: it is taken at its word until it fails.
    pub(super) fn trusted(self) -> Node {
        self.standing().answered = Some(Instant::now());
        self
    }

    pub(super) fn health(&self) -> Health {
        let standing = self.standing();
        if let Some(why) = &standing.wrong {
            return Health::Wrong(why.clone());
        }
        match (standing.aside, standing.answered) {
            (Some(until), _) if until > Instant::now() => Health::Aside(until),
            (None, Some(answered)) if answered.elapsed() < VOUCHED => Health::Well,
            _ => Health::Doubtful,
        }
    }

    /// It answered, and is what it should be.
    pub(super) fn well(&self) {
        let mut standing = self.standing();
        standing.answered = Some(Instant::now());
        standing.asked = None;
        standing.backoff.reset();
        if standing.aside.take().is_some() {
            tracing::info!(node = self.name, "the node can be reached again");
        }
        self.tell_up(1.0);
    }

    /// Its last answer did not come, or not whole: before it is sent anything else it is asked for anything at all.
    pub(super) fn doubt(&self) {
        self.standing().answered = None;
    }

    /// It cannot be reached: it is left alone, longer each time.
    pub(super) fn put_aside(&self, reason: &str) {
        let mut standing = self.standing();
        let pause = standing.backoff.next_delay();
        let first = standing.aside.replace(Instant::now() + pause).is_none();
        (standing.answered, standing.asked) = (None, None);
        if first {
            tracing::warn!(node = self.name, reason, "a node of the search engine is put aside");
        }
        self.tell_up(0.0);
    }

    fn tell_up(&self, up: f64) {
        metrics::gauge!(names::SINK_NODE_UP, "node" => self.name.clone(), "sink" => self.sink.clone())
            .set(up);
    }

    /// It must not be used.
    pub(super) fn is_wrong(&self, why: &str) {
        self.standing().wrong = Some(why.to_owned());
    }

    /// Whether nobody asks it for an answer; whoever is told so does, and takes `time` at most.
    pub(super) fn claim(&self, time: Duration) -> bool {
        let mut standing = self.standing();
        let now = Instant::now();
        let free = standing.asked.is_none_or(|until| until <= now);
        if free {
            standing.asked = Some(now + time);
        }
        free
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request once; again if the engine refused its sender, and the files say something else by now.
    pub(super) async fn send(&self, mut ask: Ask<'_>) -> Result<Response, Failure> {
        if let Some(body) = ask.body.take_if(|body| self.access.compresses() && body.len() > LEAST_COMPRESSED)
        {
            ask.body = Some(compressed(body).await?);
            ask.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let held = self.access.held();
        let sent = self.send_once(ask.clone(), &held).await;
        let (refused, nothing_done) = match &sent {
            Ok(response) => (matches!(response.status_code().as_u16(), 401 | 403), true),
            // A certificate that has run out ends a connection in either way.
            Err(Failure::Unsent(_)) => (true, true),
            Err(Failure::Lost(_)) => (true, false),
            Err(Failure::Wrong(_)) => (false, false),
        };
        if refused && self.access.read_again(&held).await && nothing_done {
            return self.send_once(ask, &self.access.held()).await;
        }
        sent
    }

    /// The client that connects with these certificates.
    fn client(&self, held: &Held) -> Result<Elasticsearch, Failure> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.0 != held.generation {
            let transport = self.access.transport(held, self.url.clone());
            let transport = transport.map_err(|error| Failure::Unsent(error.to_string()))?;
            *client = (held.generation, Elasticsearch::new(transport));
        }
        Ok(client.1.clone())
    }

    async fn send_once(&self, ask: Ask<'_>, held: &Held) -> Result<Response, Failure> {
        let Ask { method, path, query, mut headers, body, timeout } = ask;
        let url =
            self.url.join(path).map_err(|error| Failure::Wrong(format!("{path:?} is no path: {error}")))?;
        let signed = body.as_deref().unwrap_or_default();
        held.prove(&mut headers, (method_name(method), &url), query, signed);
        let client = self.client(held)?;
        let sent = client.send(method, path, headers, Some(query), body, Some(timeout)).await;
        let response = sent.map_err(|error| {
            let reason = causes(&error);
            self.doubt();
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
        if same_place(&url, response.url()) {
            return Ok(response);
        }
        let mut url = response.url().clone();
        url.set_query(None);
        Err(Failure::Wrong(redirected(response.status_code().as_u16(), Some(url.as_str()))))
    }

    /// Reads an answer's body, of `limit` bytes at most.
    pub(super) async fn body(&self, response: Response, limit: u64) -> Result<Bytes, String> {
        if let Some(length) = response.content_length().filter(|length| *length > limit) {
            self.doubt();
            return Err(format!("the answer announces {length} bytes, more than the {limit} that are taken"));
        }
        let body = response.bytes().await.map_err(|error| {
            self.doubt();
            format!("the answer broke off: {}", causes(&error))
        })?;
        Ok(body)
    }
}

/// Compresses on a thread of its own: it takes many times what sending does.
async fn compressed(body: Bytes) -> Result<Bytes, Failure> {
    let compress = move || {
        let mut gzip =
            flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 4), flate2::Compression::fast());
        gzip.write_all(&body).and_then(|()| gzip.finish())
    };
    let body = tokio::task::spawn_blocking(compress).await;
    match body {
        Ok(Ok(body)) => Ok(body.into()),
        Ok(Err(error)) => Err(Failure::Unsent(format!("the body cannot be compressed: {error}"))),
        Err(ended) => Err(Failure::Unsent(format!("the body was not compressed: {ended}"))),
    }
}

pub(super) fn method_name(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Head => "HEAD",
    }
}

pub(super) fn headers(content_type: &'static str) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // An engine would compress each answer, at more CPU than a near wire costs; and an answer's length would say nothing.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("everrelay/", env!("CARGO_PKG_VERSION"))));
    headers
}

pub(super) fn redirected(status: u16, location: Option<&str>) -> String {
    let location = location.map_or_else(|| "nowhere".to_owned(), |l| l.escape_debug().to_string());
    format!(
        "redirects are refused: the answer ({status}) leads to {location}; put the engine's own address into the sink's url"
    )
}

/// A node's URL, with a slash at its end.
pub(super) fn node_url(text: &str) -> Result<Url, ElasticError> {
    let wrong = |why: String| ElasticError::Url { why };
    // The text is not quoted: it may hold a password.
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(format!("it is no URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it is neither http nor https".into()));
    }
    if url.host_str().is_some_and(|host| host.contains(',')) {
        return Err(wrong(
            "several nodes are an array: url = [\"https://a:9200\", \"https://b:9200\"]".into(),
        ));
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
