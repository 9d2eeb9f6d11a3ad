//! Elasticsearch over HTTP, as a user of the indices would.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

/// One engine.
#[derive(Clone, Debug)]
pub struct Engine {
    http: Client,
    pub url: String,
}

/// One document of a scan.
#[derive(Debug, Deserialize)]
pub struct Hit {
    #[serde(rename = "_id")]
    pub id: String,
    /// The document's own bytes.
    #[serde(rename = "_source")]
    pub source: Box<RawValue>,
    sort: Box<RawValue>,
}

#[derive(Deserialize)]
struct Page {
    pit_id: String,
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
    hits: Hits,
}

#[derive(Deserialize)]
struct Shards {
    failed: u64,
}

#[derive(Deserialize)]
struct Hits {
    hits: Vec<Hit>,
}

const PAGE: usize = 2000;

impl Engine {
    /// # Errors
    /// The client cannot be made.
    pub fn new(url: &str) -> Result<Engine> {
        let http = Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        Ok(Engine { http, url: url.trim_end_matches('/').to_owned() })
    }

    /// Status and body of one request.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> Result<(StatusCode, String)> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        let answer = request.send().await.with_context(|| format!("asking {}{path}", self.url))?;
        let status = answer.status();
        Ok((status, answer.text().await?))
    }

    /// The body of a request that has to succeed.
    ///
    /// # Errors
    /// It does not.
    pub async fn demand(&self, method: Method, path: &str, body: Option<String>) -> Result<String> {
        let (status, text) = self.ask(method, path, body).await?;
        ensure!(status.is_success(), "{path} was answered {status}: {text}");
        Ok(text)
    }

    /// Calls `each` with every document that the alias shows, after a refresh. A missing alias has none.
    ///
    /// # Errors
    /// The engine fails or leaves shards out; or what `each` fails with.
    pub async fn scan(&self, alias: &str, mut each: impl FnMut(Hit) -> Result<()>) -> Result<()> {
        let (status, text) = self.ask(Method::POST, &format!("/{alias}/_refresh"), None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        ensure!(status.is_success(), "refreshing {alias} was answered {status}: {text}");
        #[derive(Deserialize)]
        struct Opened {
            id: String,
        }
        let opened = self.demand(Method::POST, &format!("/{alias}/_pit?keep_alive=2m"), None).await?;
        let Opened { id: mut pit } = serde_json::from_str(&opened)?;
        let mut after: Option<Box<RawValue>> = None;
        loop {
            let mut body = json!({
                "size": PAGE,
                "pit": {"id": pit, "keep_alive": "2m"},
                "sort": [{"_shard_doc": "asc"}],
                "track_total_hits": false,
            });
            if let Some(after) = &after {
                body["search_after"] = serde_json::from_str(after.get())?;
            }
            let text = self.demand(Method::POST, "/_search", Some(body.to_string())).await?;
            let page: Page = serde_json::from_str(&text)?;
            ensure!(!page.timed_out && page.shards.failed == 0, "{alias}: an incomplete page of documents");
            pit = page.pit_id;
            let Some(last) = page.hits.hits.last() else { break };
            after = Some(last.sort.clone());
            for hit in page.hits.hits {
                each(hit)?;
            }
        }
        self.demand(Method::DELETE, "/_pit", Some(json!({"id": pit}).to_string())).await?;
        Ok(())
    }

    /// One document's body by its id, as written last (no refresh needed); `None` where there is no such document or index.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn document(&self, alias: &str, id: &str) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Found {
            #[serde(rename = "_source")]
            source: Box<RawValue>,
        }
        let (status, text) = self.ask(Method::GET, &format!("/{alias}/_doc/{id}"), None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        ensure!(status.is_success(), "{alias}/{id} was answered {status}: {text}");
        let found: Found = serde_json::from_str(&text)?;
        Ok(Some(found.source.get().to_owned()))
    }

    /// The number of documents that the alias shows, after a refresh; a missing alias has none.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn count(&self, alias: &str) -> Result<u64> {
        #[derive(Deserialize)]
        struct Count {
            count: u64,
        }
        let (status, _) = self.ask(Method::POST, &format!("/{alias}/_refresh"), None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(0);
        }
        let text = self.demand(Method::GET, &format!("/{alias}/_count"), None).await?;
        Ok(serde_json::from_str::<Count>(&text)?.count)
    }

    /// The names of all indices that begin with `prefix`.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn indices(&self, prefix: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Named {
            index: String,
        }
        let path = format!("/_cat/indices/{prefix}*?h=index&format=json&expand_wildcards=all");
        let text = self.demand(Method::GET, &path, None).await?;
        let mut names: Vec<String> =
            serde_json::from_str::<Vec<Named>>(&text)?.into_iter().map(|named| named.index).collect();
        names.sort();
        Ok(names)
    }

    /// Deletes all indices that begin with `prefix`.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn delete_indices(&self, prefix: &str) -> Result<()> {
        for name in self.indices(prefix).await? {
            self.demand(Method::DELETE, &format!("/{name}"), None).await?;
        }
        Ok(())
    }
}
