//! A sweep against a real engine: `EVERRELAY_TEST_ELASTICSEARCH_URL` names it, of whatever kind.

mod support;

use std::collections::{BTreeSet, HashSet};
use std::convert::Infallible;
use std::ops::ControlFlow;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use everrelay::event::Version;
use everrelay::event::document::{Action, IndexSpec, Verb};
use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Bulk, Disposition, Expect, Index, Item, Old, Sink, SinkError, Swept};
use reqwest::Method;
use serde_json::{Value, json};
use support::engine::Engine;

/// Versions as a log gives them.
const BASE: u64 = 1_795_392_000_000_000;

const BOUND: Version = Version(BASE + 100_000);

struct Place {
    engine: Engine,
    sink: ElasticSink,
    index: Index,
    alias: String,
}

impl Place {
    async fn new() -> Result<Place> {
        let name = "EVERRELAY_TEST_ELASTICSEARCH_URL";
        let url = std::env::var(name).with_context(|| format!("set {name}, or run `dev/test real`"))?;
        let sink = ElasticSink::new(&ElasticOptions::new(&url))?;
        let alias = format!("t{}.orders", uuid::Uuid::new_v4().simple());
        let engine = Engine::new(&url)?;
        // Several shards, and no fields: what is in a document does not matter here.
        let body =
            json!({"aliases": {&alias: {"is_write_index": true}}, "settings": {"number_of_shards": 3}});
        let made = engine.ask(Method::PUT, &format!("/{alias}-000001"), Some(body.to_string())).await?;
        ensure!(made.0.is_success(), "{made:?}");
        let index = sink.find(&alias, Expect::Existing).await?.context("the index was just made")?;
        Ok(Place { engine, sink, index, alias })
    }

    /// Writes documents or deletes them; whether each was done.
    async fn write(&self, verb: Verb, documents: &[(String, u64)]) -> Result<Vec<bool>> {
        let (mut body, mut items) = (Vec::new(), Vec::new());
        for (id, version) in documents {
            let (start, version) = (body.len(), Version(*version));
            let document = |out: &mut Vec<u8>| {
                out.extend_from_slice(b"{}");
                Ok::<(), Infallible>(())
            };
            self.sink.encode(self.index.no, &Action::plain(verb, id, version), document, &mut body)?;
            let bytes = start..body.len();
            items.push(Item { index: self.index.no, verb, id: id.as_str().into(), version, bytes });
        }
        let bulk = Bulk { opaque_id: "1".into(), body: Bytes::from(body), items };
        Ok(self.sink.send(&bulk).await?.into_iter().map(|judged| judged == Disposition::Done).collect())
    }

    /// One pass; the sum of its pages, and how many they were.
    async fn sweep(&self) -> Result<(Swept, usize), SinkError> {
        let (mut sum, mut pages) = (Swept::default(), 0);
        let versions = Version(BASE)..BOUND;
        let page = |page: &Swept| {
            pages += 1;
            sum.deleted += page.deleted;
            sum.spared += page.spared;
            let newest = sum.newest.take().into_iter().chain(page.newest.clone());
            sum.newest = newest.max_by_key(|(_, version)| *version);
            ControlFlow::Continue(())
        };
        let old = Old { versions, spared: &HashSet::new(), but_marked: false };
        let ended = self.sink.sweep(self.index.no, old, page).await?;
        assert!(ended.is_continue());
        Ok((sum, pages))
    }

    /// The ids of all documents that are there, read one by one: no search is trusted.
    async fn there(&self, documents: &[(String, u64)]) -> Result<BTreeSet<String>> {
        let ids: Vec<&String> = documents.iter().map(|(id, _)| id).collect();
        let path = format!("/{}/_mget?_source=false", self.index.name);
        let body = json!({"ids": ids}).to_string();
        let (status, text) = self.engine.ask(Method::POST, &path, Some(body)).await?;
        ensure!(status.is_success(), "{text}");
        let found: Value = serde_json::from_str(&text)?;
        let found = found["docs"].as_array().context("a list")?.iter().filter(|doc| doc["found"] == true);
        Ok(found.map(|doc| doc["_id"].as_str().unwrap_or_default().to_owned()).collect())
    }

    async fn open_scans(&self) -> Result<Value> {
        let path = format!("/{}/_stats/search?filter_path=_all.total.search.open_contexts", self.index.name);
        let text = self.engine.ask(Method::GET, &path, None).await?.1;
        Ok(serde_json::from_str::<Value>(&text)?["_all"]["total"]["search"]["open_contexts"].clone())
    }

    async fn clear(self) -> Result<()> {
        self.engine.delete_indices(&self.alias).await
    }
}

fn ids(count: u64, version: u64) -> Vec<(String, u64)> {
    (0..count).map(|n| (format!("{version}-{n}"), BASE + version + n)).collect()
}

#[tokio::test]
async fn a_sweep_deletes_every_older_document_and_no_newer_one() -> Result<()> {
    let place = Place::new().await?;
    let mut old = ids(2_345, 0);
    let odd = ["a\"b\\c", "naïve|🦀", " ", "a/b?c=d&e", "%20", &"x".repeat(512)];
    old.extend(odd.map(|id| (id.to_owned(), BOUND.0 - 1)));
    let new = [ids(300, 100_001), vec![("at the bound".to_owned(), BOUND.0)]].concat();
    ensure!(place.write(Verb::Index, &old).await?.iter().all(|done| *done));
    ensure!(place.write(Verb::Index, &new).await?.iter().all(|done| *done));
    // Of somebody who gave a routing, once to the same id twice; with a version as ours.
    for routing in ["b c", "1", "2"] {
        let path = format!(
            "/{}/_doc/routed?routing={}&version={BASE}&version_type=external_gte",
            place.alias,
            routing.replace(' ', "%20")
        );
        let (status, text) = place.engine.ask(Method::PUT, &path, Some("{}".into())).await?;
        ensure!(status.is_success(), "{text}");
    }
    let before = place.engine.count(&place.alias).await?;
    let routed = before - (old.len() + new.len()) as u64;
    ensure!((1..=3).contains(&routed), "{before}");

    let (swept, pages) = place.sweep().await?;
    ensure!(pages >= 3, "{pages} pages");
    ensure!(swept.deleted == old.len() as u64 + routed && swept.spared == new.len() as u64, "{swept:?}");
    let newest = new.iter().map(|(_, version)| Version(*version)).max();
    ensure!(swept.newest.map(|(_, version)| version) == newest, "the newest document is told");
    ensure!(place.there(&old).await?.is_empty());
    ensure!(place.there(&new).await?.len() == new.len());
    ensure!(place.engine.count(&place.alias).await? == new.len() as u64);
    ensure!(place.open_scans().await? == 0, "scans stay open");

    // Again, it finds nothing; what is older than the bound does not come back, what is newer does.
    ensure!(place.sweep().await?.0.deleted == 0);
    ensure!(place.write(Verb::Index, &old[..10]).await?.iter().all(|done| !done));
    let again: Vec<_> = old[..10].iter().map(|(id, _)| (id.clone(), BOUND.0 + 1_000_000)).collect();
    ensure!(place.write(Verb::Index, &again).await?.iter().all(|done| *done));
    ensure!(place.sweep().await?.0.deleted == 0);
    ensure!(place.there(&again).await?.len() == 10);
    place.clear().await
}

#[tokio::test]
async fn a_sweep_of_an_empty_index_is_one_page_of_nothing() -> Result<()> {
    let place = Place::new().await?;
    ensure!(place.sweep().await? == (Swept::default(), 1));
    ensure!(place.open_scans().await? == 0);
    place.clear().await
}

#[tokio::test]
async fn a_sweep_ends_after_the_page_at_which_it_is_told_to_and_leaves_no_scan_open() -> Result<()> {
    let place = Place::new().await?;
    let old = ids(2_500, 0);
    place.write(Verb::Index, &old).await?;
    let mut pages = 0;
    let page = |_: &Swept| {
        pages += 1;
        if pages == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let which = Old { versions: Version(BASE)..BOUND, spared: &HashSet::new(), but_marked: false };
    let ended = place.sink.sweep(place.index.no, which, page).await?;
    ensure!(ended.is_break() && pages == 2);
    ensure!(place.there(&old).await?.len() == 500, "two pages of 1000 are gone");
    ensure!(place.open_scans().await? == 0, "scans stay open");
    place.clear().await
}

#[tokio::test]
async fn a_document_that_no_relay_wrote_stops_a_sweep_before_it_goes() -> Result<()> {
    let place = Place::new().await?;
    let path = format!("/{}/_doc/theirs", place.alias);
    place.engine.ask(Method::PUT, &path, Some("{}".into())).await?;
    let Err(SinkError::Definite(error)) = place.sweep().await else { anyhow::bail!("it went on") };
    let words = error.to_string();
    ensure!(words.contains(&place.index.name) && words.contains("version 1;"), "{words}");
    ensure!(place.there(&[("theirs".to_owned(), 0)]).await?.len() == 1);
    ensure!(place.open_scans().await? == 0, "scans stay open");
    place.clear().await
}

#[tokio::test]
async fn a_sweep_waits_while_writes_are_blocked_and_ends_at_an_index_that_is_gone() -> Result<()> {
    let place = Place::new().await?;
    place.write(Verb::Index, &ids(10, 0)).await?;
    let block = |on: Value| json!({"index.blocks.write": on}).to_string();
    let settings = format!("/{}/_settings", place.index.name);
    place.engine.ask(Method::PUT, &settings, Some(block(json!(true)))).await?;
    ensure!(matches!(place.sweep().await, Err(SinkError::Transient(_))), "a block passes");
    ensure!(place.open_scans().await? == 0, "scans stay open");
    place.engine.ask(Method::PUT, &settings, Some(block(Value::Null))).await?;
    ensure!(place.sweep().await?.0.deleted == 10);
    place.engine.delete_indices(&place.alias).await?;
    let Err(SinkError::Definite(error)) = place.sweep().await else { anyhow::bail!("it went on") };
    ensure!(error.to_string().contains("is gone"), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_is_looked_for_is_not_made() -> Result<()> {
    let place = Place::new().await?;
    let nowhere = place.alias.replace("orders", "nowhere");
    ensure!(place.sink.find(&nowhere, Expect::Anything).await?.is_none());
    ensure!(matches!(place.sink.find(&nowhere, Expect::Existing).await, Err(SinkError::Definite(_))));
    ensure!(place.engine.indices(&nowhere).await?.is_empty());
    // Found before it was ensured, it is the same index.
    let spec = IndexSpec { alias: place.alias.clone(), fields: Vec::new(), ..IndexSpec::default() };
    ensure!(place.sink.ensure(&spec, Expect::Existing).await? == place.index);
    place.clear().await
}
