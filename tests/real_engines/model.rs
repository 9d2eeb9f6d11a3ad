//! The engine as models of tests have it, held against a real one: the same writes, the same answers, the same documents in the end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use everrelay::event::Version;
use everrelay::event::document::{Action, Verb};
use everrelay::sink::elastic::documents::DocumentId;
use everrelay::sink::{Bulk, Disposition, Item, Sink};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use super::Table;
use super::engine_model::{Kept, forget_tombstones, take};
use super::seed::Seed;

const DOCUMENTS: usize = 8;
const BULKS: usize = 150;

pub async fn answers_as_the_model_does(engine: &str) {
    let seed = Seed::take("the_engine_answers_as_the_model_of_the_tests_does").unwrap();
    let mut random = StdRng::seed_from_u64(seed.number);
    let table = Table::new(engine, &[]).await;
    let mut model: BTreeMap<String, Kept> = BTreeMap::new();
    let (mut newest, mut superseded, mut forgotten) = (7_u64, 0, 0);
    for number in 0..BULKS {
        let (mut body, mut items, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for id in (1..=DOCUMENTS).map(|id| id.to_string()) {
            if random.random_bool(0.5) {
                continue;
            }
            newest += random.random_range(0..3);
            // Equal ones too: what is sent again is taken again.
            let version = Version(newest.saturating_sub(random.random_range(0..40)).max(1));
            let verb = if random.random_bool(0.3) { Verb::Delete } else { Verb::Index };
            let text = format!("{{\"id\":{id},\"n\":{number}}}");
            let document = (verb == Verb::Index).then_some(&*text);
            expected.push(take(model.entry(id.clone()).or_default(), version, document));
            let start = body.len();
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(text.as_bytes());
                Ok::<(), Infallible>(())
            };
            let action = Action::plain(verb, &id, version);
            table.engine.sink.encode(table.index.no, &action, write, &mut body).unwrap();
            let bytes = start..body.len();
            items.push(Item { index: table.index.no, verb, id: id.as_str().into(), version, bytes });
        }
        if items.is_empty() {
            continue;
        }
        let bulk = Bulk { opaque_id: number.to_string(), body: Bytes::from(body), items };
        let answered = table.engine.sink.send(&bulk).await.unwrap();
        assert_eq!(answered, expected, "bulk {number}, {seed}: {:?}", bulk.items);
        let is_superseded = |answer: &&Disposition| matches!(answer, Disposition::Superseded { .. });
        superseded += answered.iter().filter(is_superseded).count();
        if number % 50 == 49 {
            forgotten += model.values().filter(|(_, body)| body.is_none()).count();
            forget_at_once(&table).await;
            forget_tombstones(&mut model);
        }
    }
    let ids: Vec<_> = (1..=DOCUMENTS).map(|id| DocumentId { id: id.to_string(), routing: None }).collect();
    let found = table.engine.sink.documents(table.index.no, &ids).await.unwrap();
    for (DocumentId { id, .. }, found) in ids.iter().zip(found) {
        let expected = model.get(id).and_then(|(version, body)| Some((*version, body.clone()?)));
        let found = found.map(|found| (found.version.0, found.source.unwrap()));
        assert_eq!(found, expected, "document {id}, {seed}");
    }
    assert!(superseded > 50 && forgotten > 0, "{superseded} superseded, {forgotten} forgotten, {seed}");
}

/// Has the engine forget the versions of what was deleted, at once.
async fn forget_at_once(table: &Table) {
    let settings = format!("{}/_settings", table.index.name);
    let keep = |time: &str| Some(json!({"index": {"gc_deletes": time}}));
    table.engine.ask(reqwest::Method::PUT, &settings, keep("0ms")).await;
    // Its clock for this moves every 200 ms.
    tokio::time::sleep(Duration::from_millis(500)).await;
    table.engine.ask(reqwest::Method::POST, &format!("{}/_refresh", table.index.name), None).await;
    table.engine.ask(reqwest::Method::PUT, &settings, keep("1h")).await;
}
