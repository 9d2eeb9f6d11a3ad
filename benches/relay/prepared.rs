//! What the engine takes when nothing but sending is left to do: the backlog's actions as bodies made beforehand.
//!
//! One action a change, uncollapsed, with the ids, versions and mapping of the relay; bodies of 5,000 actions, two in flight.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use everrelay::disk::SystemDisk;
use everrelay::event::Op;
use everrelay::event::document::{Action, IndexSpec, Verb};
use everrelay::log::read_only;
use everrelay::log::record::{Change, Kind, SchemaRecord};
use everrelay::mapping::TableMapping;
use everrelay::sink::elastic::{ElasticOptions, ElasticSink};
use everrelay::sink::{Expect, Index, Sink};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::note;
use crate::support::engine::Engine;

const ACTIONS: u64 = 5_000;
const IN_FLIGHT: usize = 2;
/// Of the index that warms the engine up.
const SCRATCH: &str = "bench-scratch";

/// Ready-made bulks of one index.
pub struct Bodies {
    bodies: Vec<Bytes>,
    pub actions: u64,
    spec: IndexSpec,
}

impl Bodies {
    /// Makes them from the log of a run; the index is there afterwards.
    ///
    /// # Errors
    /// The log or the engine fails.
    pub async fn of_log(log: &Path, engine_url: &str) -> Result<Bodies> {
        let log = read_only(&SystemDisk, log)?.log;
        let mut reader = log.reader(log.retained_start())?;
        let sink = ElasticSink::new(&ElasticOptions::new(engine_url))?;
        let mut table: Option<(TableMapping, Index)> = None;
        let (mut bodies, mut body, mut actions, mut id) = (Vec::new(), Vec::new(), 0, String::new());
        while let Some(frame) = reader.next_frame()? {
            match frame.kind {
                Kind::Schema if table.is_none() => {
                    let mapping = TableMapping::new(&SchemaRecord::decode(frame.payload)?.schema)?;
                    let index = sink.ensure(mapping.spec(), Expect::Anything).await?;
                    table = Some((mapping, index));
                }
                Kind::Change => {
                    let (mapping, index) = table.as_ref().context("a schema comes before its changes")?;
                    let change = Change::decode(frame.payload)?;
                    mapping.id(change.row, &mut id)?;
                    let verb = match change.op {
                        Op::Insert | Op::Update | Op::Read => Verb::Index,
                        Op::Delete => Verb::Delete,
                        Op::Rekey | Op::Tombstone => bail!("the backlog changes no keys and has whole rows"),
                    };
                    let action = Action::plain(verb, &id, frame.version);
                    sink.encode(
                        index.no,
                        &action,
                        |out| mapping.document(change.op, change.row, out),
                        &mut body,
                    )?;
                    actions += 1;
                    if actions % ACTIONS == 0 {
                        bodies.push(Bytes::from(std::mem::take(&mut body)));
                    }
                }
                _ => {}
            }
        }
        if !body.is_empty() {
            bodies.push(Bytes::from(body));
        }
        let (mapping, _) = table.context("the log has a table")?;
        Ok(Bodies { bodies, actions, spec: mapping.spec().clone() })
    }

    /// Sends all of them to an empty index; the seconds that it took.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn send(&self, engine_url: &str) -> Result<f64> {
        self.clear(engine_url).await?;
        ElasticSink::new(&ElasticOptions::new(engine_url))?.ensure(&self.spec, Expect::Anything).await?;
        let begun = Instant::now();
        let conflicts = send(engine_url, "require_alias=true&", self.bodies.iter().cloned()).await?;
        let seconds = begun.elapsed().as_secs_f64();
        if conflicts > 0 {
            note!("prepared bodies overtook each other in {conflicts} actions");
        }
        Ok(seconds)
    }

    /// Removes the index.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn clear(&self, engine_url: &str) -> Result<()> {
        remove(engine_url, &format!("{}-000001", self.spec.alias)).await
    }
}

/// Removes an index, if it is there.
///
/// # Errors
/// The engine fails.
pub async fn remove(engine_url: &str, index: &str) -> Result<()> {
    let (status, text) = Engine::new(engine_url)?.ask(Method::DELETE, &format!("/{index}"), None).await?;
    ensure!(status.is_success() || status.as_u16() == 404, "removing {index} was answered {status}: {text}");
    Ok(())
}

/// Sends actions until the engine's code is compiled and its caches are as they will stay.
///
/// # Errors
/// The engine fails.
pub async fn warm(engine_url: &str, actions: u64) -> Result<()> {
    note!("warming the engine with {actions} actions");
    let mut random = StdRng::seed_from_u64(2);
    let begun = Instant::now();
    let bodies = (0..actions / ACTIONS).map(|bulk| scratch_body(bulk * ACTIONS, &mut random));
    send(engine_url, "", bodies).await?;
    note!("warm: {:.0} actions/s", actions as f64 / begun.elapsed().as_secs_f64());
    remove(engine_url, SCRATCH).await
}

fn scratch_body(first: u64, random: &mut StdRng) -> Bytes {
    let mut body = String::new();
    for n in first..first + ACTIONS {
        let (id, amount) = (n % 1_000_000, random.random_range(100..1_000_000));
        body.push_str(&format!(
            "{{\"index\":{{\"_index\":\"{SCRATCH}\",\"_id\":\"{id}\",\"version\":{},\"version_type\":\"external_gte\"}}}}\n\
             {{\"id\":{id},\"customer_id\":{amount},\"status\":\"paid\",\"amount\":{amount}.25,\"note\":\"Leave it with the \
             neighbour at number {amount:07}; call before coming. Thank you!\",\"created_at\":\"2026-02-03T04:05:06.789Z\",\
             \"meta\":{{\"tags\":[\"a\",\"b{amount}\"],\"source\":\"web\"}}}}\n",
            n + 1
        ));
    }
    Bytes::from(body)
}

/// Sends bodies, two at a time; how many actions came too late for a newer one.
async fn send(engine_url: &str, query: &str, bodies: impl Iterator<Item = Bytes>) -> Result<usize> {
    let client = Client::builder().no_proxy().build()?;
    let url = format!("{engine_url}/_bulk?{query}filter_path=errors,items.*.error.type");
    let mut flights: JoinSet<Result<usize>> = JoinSet::new();
    let mut conflicts = 0;
    for body in bodies {
        if flights.len() == IN_FLIGHT {
            conflicts += flights.join_next().await.context("two are in flight")???;
        }
        let request = client.post(&url).header("content-type", "application/x-ndjson").body(body);
        flights.spawn(async move {
            let answer = request.send().await?.error_for_status()?;
            judge(&answer.bytes().await?)
        });
    }
    while let Some(flight) = flights.join_next().await {
        conflicts += flight??;
    }
    Ok(conflicts)
}

/// Of two bodies in flight the later may come first: such a conflict is an action like any other.
fn judge(answer: &[u8]) -> Result<usize> {
    let answer: Value = serde_json::from_slice(answer)?;
    if answer["errors"] == false {
        return Ok(0);
    }
    let items = answer["items"].as_array().context("an answer has items")?;
    let kinds = items.iter().flat_map(|item| item.as_object().into_iter().flat_map(|item| item.values()));
    let kinds: Vec<&Value> =
        kinds.map(|item| &item["error"]["type"]).filter(|kind| !kind.is_null()).collect();
    if let Some(other) = kinds.iter().find(|kind| **kind != "version_conflict_engine_exception") {
        bail!("the engine refused an action: {other}");
    }
    Ok(kinds.len())
}
