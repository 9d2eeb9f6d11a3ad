//! The fence's documents: how they are kept in the engine, read, and written by compare-and-set.
//!
//! # Format
//!
//! Index `everrelay-fence`, hidden, of one shard with as many copies as there are nodes for, two at most. A document's id is the UUID of the index that it
//! speaks of:
//!
//! ```text
//! {"folder":"08f3…","run":"1c90a2d4","host":"relay-1","place":"…","bound":1763880000262151,"released":false,
//!  "alias":"shop.orders","index":"shop.orders-000001","raised":"2026-11-28T15:04:05Z"}
//! ```
//!
//! `bound`: no version above it was ever sent. `place`: the lock file that the run holds, of all on its machine. `released`: the run has ended and left
//! nothing in the engine. `alias`, `index` and `raised` are for people.

use std::borrow::Cow;
use std::fmt;

use elasticsearch::http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::client::{Answer, Client, error_of, said};
use super::super::index::encoded;
use super::super::reason::Text;
use crate::clock::rfc3339_seconds;
use crate::event::Version;
use crate::sink::SinkError;

/// The index that fences are kept in.
pub const INDEX: &str = "everrelay-fence";

/// No relay gives versions as high as this: microseconds of the year 5138.
const HIGHEST: u64 = 100_000_000_000_000_000;

/// Longest name of a host that is kept, bytes.
const MAX_NAME: usize = 128;

/// Who wrote, and how far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Doc {
    pub folder: u64,
    pub run: u32,
    pub host: String,
    pub place: String,
    pub bound: Version,
    pub released: bool,
    pub raised_micros: u64,
}

impl fmt::Display for Doc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Doc { folder, run, host, .. } = self;
        write!(f, "run {run:08x} of the state folder {folder:016x} on host {}", host.escape_debug())
    }
}

/// Where a document stands; one that was written since stands elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Spot {
    pub seq_no: u64,
    pub primary_term: u64,
}

/// What is there of an index.
#[derive(Debug)]
pub(super) enum Found {
    Document(Doc, Spot),
    Nothing,
    /// Not even the index that fences are kept in.
    NoIndex,
}

/// What is to be written in the place of what stood at `spot`, or where nothing did.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub uuid: String,
    pub spot: Option<Spot>,
    pub alias: String,
    pub index: String,
    pub doc: Doc,
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    At(Spot),
    /// The document is not where it was said to be.
    Moved,
}

/// Why the fence cannot be kept at all.
#[derive(Debug, thiserror::Error)]
enum FenceIndexError {
    #[error(
        "the relay's role may not {what} the index `{INDEX}` ({said}), which says who writes where so that no two relays write to one index: give it `read`, `index` \
         and `create_index` on it"
    )]
    NotPermitted { what: &'static str, said: String },
    #[error(
        "document {uuid} of the index `{INDEX}` is none of this relay's format: a newer everrelay may have written it. Start that one, or delete the document \
         when no relay writes to that index"
    )]
    Unreadable { uuid: String },
    #[error(
        "the engine refuses to {what} the index `{INDEX}`: {said}. If it is something else of yours, rename it; look for an index template of its name"
    )]
    Refused { what: &'static str, said: String },
}

impl From<FenceIndexError> for SinkError {
    fn from(error: FenceIndexError) -> SinkError {
        SinkError::Definite(Box::new(error))
    }
}

#[derive(Serialize, Deserialize)]
struct Source<'a> {
    #[serde(borrow)]
    folder: Cow<'a, str>,
    #[serde(borrow)]
    run: Cow<'a, str>,
    #[serde(borrow)]
    host: Cow<'a, str>,
    #[serde(borrow)]
    place: Cow<'a, str>,
    bound: u64,
    released: bool,
    #[serde(borrow)]
    alias: Cow<'a, str>,
    #[serde(borrow)]
    index: Cow<'a, str>,
}

impl Source<'_> {
    fn doc(&self) -> Option<Doc> {
        let mut host: String = self.host.chars().take(MAX_NAME).collect();
        if host.is_empty() {
            host.push('?');
        }
        Some(Doc {
            folder: u64::from_str_radix(&self.folder, 16).ok()?,
            run: u32::from_str_radix(&self.run, 16).ok()?,
            host,
            place: self.place.chars().take(MAX_NAME).collect(),
            bound: Version(self.bound).min(Version(HIGHEST)),
            released: self.released,
            raised_micros: 0,
        })
        .filter(|_| self.bound < HIGHEST)
    }
}

/// What the answer says if it is none to what was asked.
fn unserved(answer: &Answer, what: &'static str) -> SinkError {
    let said = said(answer.status, &answer.body);
    let kind = error_of(&answer.body).map(|error| error.kind.0.into_owned()).unwrap_or_default();
    refused(answer.status, &kind, said, what)
}

fn refused(status: u16, kind: &str, said: String, what: &'static str) -> SinkError {
    match (status, kind) {
        // Blocks come as 403: a disk that is full, an operator.
        (_, "cluster_block_exception" | "index_closed_exception") | (401 | 408 | 429 | 500.., _) => {
            SinkError::Transient(
                format!("cannot {what} the index `{INDEX}`: the engine answered {said}").into(),
            )
        }
        (403, _) => FenceIndexError::NotPermitted { what, said }.into(),
        _ => FenceIndexError::Refused { what, said }.into(),
    }
}

/// The document about an index, as it was written last.
pub(super) async fn read(client: &Client, uuid: &str) -> Result<Found, SinkError> {
    #[derive(Deserialize)]
    struct Got<'a> {
        found: bool,
        _seq_no: Option<u64>,
        _primary_term: Option<u64>,
        #[serde(borrow)]
        _source: Option<Source<'a>>,
    }
    let path = format!("{INDEX}/_doc/{}", encoded(uuid));
    let answer = client.answered(Method::Get, &path, &[("realtime", "true")], None).await?;
    let unreadable = || FenceIndexError::Unreadable { uuid: uuid.to_owned() };
    match answer.status {
        200 => {}
        404 => {
            let kind = error_of(&answer.body).map(|error| error.kind.0.into_owned());
            return match kind.as_deref() {
                Some("index_not_found_exception") => Ok(Found::NoIndex),
                Some(_) => Err(unserved(&answer, "read")),
                None => match serde_json::from_slice::<Got<'_>>(&answer.body) {
                    Ok(Got { found: false, .. }) => Ok(Found::Nothing),
                    _ => Err(unserved(&answer, "read")),
                },
            };
        }
        _ => return Err(unserved(&answer, "read")),
    }
    let got: Got<'_> = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
    let (Some(seq_no), Some(primary_term), Some(source), true) =
        (got._seq_no, got._primary_term, got._source, got.found)
    else {
        return Err(unreadable().into());
    };
    let doc = source.doc().ok_or_else(unreadable)?;
    Ok(Found::Document(doc, Spot { seq_no, primary_term }))
}

/// The documents about these indices, as far as there are any.
pub(in super::super) async fn read_all(client: &Client, uuids: &[String]) -> Result<Vec<Doc>, SinkError> {
    #[derive(Deserialize)]
    struct Got<'a> {
        #[serde(borrow)]
        docs: Vec<One<'a>>,
    }
    #[derive(Deserialize)]
    struct One<'a> {
        #[serde(borrow)]
        _source: Option<Source<'a>>,
    }
    if uuids.is_empty() {
        return Ok(Vec::new());
    }
    let body = json!({ "ids": uuids });
    let answer = client.answered(Method::Post, &format!("{INDEX}/_mget"), &[], Some(&body)).await?;
    match answer.status {
        200 => {}
        404 => return Ok(Vec::new()),
        _ => return Err(unserved(&answer, "read")),
    }
    let unreadable = || FenceIndexError::Unreadable { uuid: uuids.join(", ") };
    let got: Got<'_> = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
    let docs = got.docs.into_iter().filter_map(|one| one._source);
    docs.map(|source| source.doc().ok_or_else(|| unreadable().into())).collect()
}

/// Makes the index; that it is there already is no error.
pub(super) async fn prepare(client: &Client) -> Result<(), SinkError> {
    let body = json!({
        "settings": {"index": {"number_of_shards": 1, "auto_expand_replicas": "0-1", "hidden": true}},
        "mappings": {"dynamic": false, "properties": {"folder": {"type": "keyword"}, "bound": {"type": "long"}}},
    });
    let answer = client.answered(Method::Put, INDEX, &[], Some(&body)).await?;
    let kind = error_of(&answer.body).map(|error| error.kind.0.into_owned());
    match (answer.status, kind.as_deref()) {
        (200, _) => {
            tracing::info!(index = INDEX, "created the index that says who writes where");
            Ok(())
        }
        (400, Some("resource_already_exists_exception")) => Ok(()),
        _ => Err(unserved(&answer, "create")),
    }
}

/// Everything that one run has claimed, as claims to be written in the place of it.
pub(super) async fn of_run(client: &Client, of: &Doc) -> Result<Vec<Claim>, SinkError> {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        hits: Hits<'a>,
    }
    #[derive(Deserialize)]
    struct Hits<'a> {
        #[serde(borrow)]
        hits: Vec<Hit<'a>>,
    }
    #[derive(Deserialize)]
    struct Hit<'a> {
        #[serde(borrow)]
        _id: Text<'a>,
        _seq_no: u64,
        _primary_term: u64,
        #[serde(borrow)]
        _source: Source<'a>,
    }
    // Where that is not permitted, what was written just now is met by itself.
    client.answered(Method::Post, &format!("{INDEX}/_refresh"), &[], None).await?;
    let body = json!({
        "size": MOST, "seq_no_primary_term": true, "query": {"term": {"folder": format!("{:016x}", of.folder)}},
    });
    let answer = client.answered(Method::Post, &format!("{INDEX}/_search"), &[], Some(&body)).await?;
    if answer.status != 200 {
        return Err(unserved(&answer, "search"));
    }
    let said: Said<'_> = serde_json::from_slice(&answer.body).map_err(|_| {
        SinkError::Transient(format!("the engine's answer about `{INDEX}` cannot be read").into())
    })?;
    let claims = said.hits.hits.into_iter().filter_map(|hit| {
        let doc = hit._source.doc().filter(|doc| doc.run == of.run)?;
        Some(Claim {
            uuid: hit._id.to_string(),
            spot: Some(Spot { seq_no: hit._seq_no, primary_term: hit._primary_term }),
            alias: hit._source.alias.into_owned(),
            index: hit._source.index.into_owned(),
            doc,
        })
    });
    Ok(claims.collect())
}

/// Most documents of one run that are looked at together; any more are met one by one.
const MOST: usize = 10_000;

/// The highest bound of all fences, whoever's; `None` where there are none.
pub(in super::super) async fn highest(client: &Client) -> Result<Option<Version>, SinkError> {
    // Where that is not permitted, a bound of this second may be missed; it is refused when it is met.
    client.answered(Method::Post, &format!("{INDEX}/_refresh"), &[], None).await?;
    let body = json!({"size": 0, "aggs": {"highest": {"max": {"field": "bound"}}}});
    let answer = client.answered(Method::Post, &format!("{INDEX}/_search"), &[], Some(&body)).await?;
    match answer.status {
        200 => {}
        404 => return Ok(None),
        _ => return Err(unserved(&answer, "search")),
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    // A double, which is exact below 2^53: microseconds until 2255.
    let highest = said.pointer("/aggregations/highest/value").and_then(Value::as_f64);
    Ok(highest.map(|highest| Version((highest as u64).min(HIGHEST))))
}

/// Writes all of these in one request.
///
/// # Errors
/// One of them was refused; the outcome of the others is to be read.
pub(super) async fn write(client: &Client, claims: &[Claim]) -> Result<Vec<Written>, SinkError> {
    let mut body = Vec::new();
    for claim in claims {
        line(&mut body, &head(claim));
        line(&mut body, &claim.source());
    }
    let query = [("filter_path", FILTER)];
    let answer = client.answered_lines("_bulk", &query, body).await?;
    if answer.status != 200 {
        return Err(unserved(&answer, "write to"));
    }
    let unreadable =
        || SinkError::Transient(format!("the engine's answer about `{INDEX}` cannot be read").into());
    let read: Bulk<'_> = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
    if read.items.len() != claims.len() {
        return Err(unreadable());
    }
    let mut all = Vec::with_capacity(claims.len());
    for (claim, item) in claims.iter().zip(&read.items) {
        let item = item.index.as_ref().or(item.create.as_ref()).ok_or_else(unreadable)?;
        if *item._id != claim.uuid {
            return Err(unreadable());
        }
        let kind = item.error.as_ref().map(|error| &*error.kind);
        all.push(match (item.status, kind, item._seq_no, item._primary_term) {
            (200 | 201, None, Some(seq_no), Some(primary_term)) => Written::At(Spot { seq_no, primary_term }),
            (409, Some("version_conflict_engine_exception"), ..) => Written::Moved,
            // It was deleted, and the engine makes none by itself.
            (404, Some("index_not_found_exception"), ..) => Written::Moved,
            (status, kind, ..) => {
                let kind = kind.unwrap_or_default();
                return Err(refused(
                    status,
                    kind,
                    format!("{status} {}", super::super::reason::name(kind)),
                    "write to",
                ));
            }
        });
    }
    Ok(all)
}

const FILTER: &str = "items.*._id,items.*.status,items.*._seq_no,items.*._primary_term,items.*.error.type";

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    items: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    index: Option<Item<'a>>,
    #[serde(borrow)]
    create: Option<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    _id: Text<'a>,
    status: u16,
    _seq_no: Option<u64>,
    _primary_term: Option<u64>,
    #[serde(borrow)]
    error: Option<Kind<'a>>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Text<'a>,
}

fn line(body: &mut Vec<u8>, value: &Value) {
    body.extend_from_slice(value.to_string().as_bytes());
    body.push(b'\n');
}

fn head(claim: &Claim) -> Value {
    let (index, id) = (INDEX, &claim.uuid);
    match claim.spot {
        None => json!({"create": {"_index": index, "_id": id}}),
        Some(Spot { seq_no, primary_term }) => {
            json!({"index": {"_index": index, "_id": id, "if_seq_no": seq_no, "if_primary_term": primary_term}})
        }
    }
}

impl Claim {
    /// The same of another run.
    pub(super) fn by(self, doc: &Doc) -> Claim {
        Claim { doc: doc.clone(), ..self }
    }

    fn source(&self) -> Value {
        let Doc { folder, run, host, place, bound, released, raised_micros } = &self.doc;
        json!({
            "folder": format!("{folder:016x}"),
            "run": format!("{run:08x}"),
            "host": host,
            "place": place,
            "bound": bound.0,
            "released": released,
            "alias": self.alias,
            "index": self.index,
            "raised": rfc3339_seconds(*raised_micros),
        })
    }
}
