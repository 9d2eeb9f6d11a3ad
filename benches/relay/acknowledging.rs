//! An engine that is never the limit: bulks are answered as if every action had been done, all else is passed on to a real one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::note;

/// A running one; it ends when this value is dropped.
#[derive(Debug)]
pub struct Acknowledging {
    /// `http://…`, for the relay.
    pub url: String,
    actions: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    client: Client,
    engine_url: String,
    actions: Arc<AtomicU64>,
}

impl Acknowledging {
    /// Listens; what is no bulk goes to `engine_url`.
    ///
    /// # Errors
    /// No port can be listened on.
    pub async fn start(engine_url: &str) -> Result<Acknowledging> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let actions = Arc::<AtomicU64>::default();
        let client = Client::builder().no_proxy().build()?;
        let shared = Shared { client, engine_url: engine_url.to_owned(), actions: Arc::clone(&actions) };
        let router = Router::new().fallback(respond).with_state(shared);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                note!("the server that acknowledges all ended: {error}");
            }
        });
        Ok(Acknowledging { url, actions, serving })
    }

    /// Actions that were acknowledged since this was last asked.
    pub fn take_actions(&self) -> u64 {
        self.actions.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Acknowledging {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn respond(State(shared): State<Shared>, request: Request) -> Response {
    shared.answer(request).await.unwrap_or_else(|error| {
        note!("a request was not answered: {error:#}");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

impl Shared {
    async fn answer(&self, request: Request) -> Result<Response> {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, usize::MAX).await?;
        let asked = head.uri.path_and_query().context("a request has a path")?.as_str();
        // The fence's documents go by bulk too, without this.
        if head.method == Method::POST && asked.starts_with("/_bulk?require_alias=true") {
            let (answer, actions) = done(&body)?;
            self.actions.fetch_add(actions, Ordering::Relaxed);
            return Ok(json(StatusCode::OK, answer.into()));
        }
        let mut passed = self.client.request(head.method, format!("{}{asked}", self.engine_url)).body(body);
        if let Some(kind) = head.headers.get(header::CONTENT_TYPE) {
            passed = passed.header(header::CONTENT_TYPE, kind);
        }
        let answer = passed.send().await?;
        Ok(json(answer.status(), answer.bytes().await?))
    }
}

fn json(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The answer in which all of a bulk's actions were done, and how many there are.
fn done(body: &[u8]) -> Result<(Vec<u8>, u64)> {
    let (mut answer, mut actions) = (b"{\"items\":[".to_vec(), 0);
    let mut lines = body.split(|byte| *byte == b'\n');
    while let Some(line) = lines.next().filter(|line| !line.is_empty()) {
        let (verb, result) = if line.starts_with(b"{\"index\"") {
            lines.next().context("a document follows its action")?;
            ("index", "created\",\"status\":201}}")
        } else {
            ("delete", "deleted\",\"status\":200}}")
        };
        let mut quoted = line.split(|byte| *byte == b'"');
        // {"index":{"_index":"shop.orders","_id":"7","version":9,"version_type":…
        let mut next = |skipped| {
            std::str::from_utf8(quoted.nth(skipped).context("an action is cut")?).context("an action")
        };
        let (alias, id, version) = (next(5)?, next(3)?, next(2)?);
        let version = version.trim_matches([':', ',']);
        if actions > 0 {
            answer.push(b',');
        }
        let item = format!(
            "{{\"{verb}\":{{\"_index\":\"{alias}-000001\",\"_id\":\"{id}\",\"_version\":{version},\"result\":\"{result}"
        );
        answer.extend_from_slice(item.as_bytes());
        actions += 1;
    }
    answer.extend_from_slice(b"]}");
    Ok((answer, actions))
}
