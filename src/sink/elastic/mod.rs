//! Elasticsearch 7 to 9 and OpenSearch.
//!
//! # Constraints
//!
//! - An item counts as done only when the engine's own answer says so of that item: its place, verb, id, version and *concrete
//!   index* are compared with what was sent. `took` and `errors: false` prove nothing.
//! - "Not applied" is said only where it is certain: the connection was never made, or the engine itself refused the whole request.
//!   Everything else is unknown ([`BulkError::Unknown`]): a time-out, a reset, a gateway's 5xx, an answer that cannot be read.
//! - Nothing is created by accident: bulks carry `require_alias`, and since a versioned *delete* creates a missing index even so
//!   (seen on 9.5.3), the index of each answer is compared too.
//! - Reasons never quote values: the engine's do ("Preview of field's value: …"), so its error type and names of known
//!   columns are all that is kept of them.
//! - Every request has a deadline.
//!
//! # Format
//!
//! `POST /_bulk?require_alias=true&filter_path=…`, newline-delimited, plain `application/x-ndjson` (the vendor types with
//! `compatible-with` are refused by older engines and by OpenSearch):
//!
//! ```text
//! {"index":{"_index":"shop.orders","_id":"7","version":1763880000000007,"version_type":"external_gte"}}
//! {"id":7,"status":"new"}
//! {"delete":{"_index":"shop.orders","_id":"8","version":1763880000000008,"version_type":"external_gte"}}
//! ```
//!
//! # Operation
//!
//! Requests go through the `elasticsearch` crate's transport, whose client has four traits that this room works around:
//!
//! - It follows redirects, and that cannot be turned off (credentials it drops at another host). An answer from another URL
//!   than the one asked is therefore refused with a definite error that names it, whatever it says; [`Sink::ensure`] meets such an address
//!   before the first row is sent.
//! - It has one time limit for connecting and all the rest. A node that failed, or has not answered for a while, is therefore first asked for any answer at
//!   all, with the connect time-out: bodies are not sent into the void, and what was not sent is certainly not applied.
//! - Its own pool of several nodes never gets past one that is gone. Each node is a client of one node here, and `nodes` chooses.
//! - It reads an answer whole. The announced length is checked before; one that is not announced is bounded by the deadline.
//!
//! | file | idea |
//! |---|---|
//! | [`options`] | [`ElasticOptions`], [`Auth`] |
//! | `action` | bulk bodies |
//! | `client` | what is asked, and what answers and failures prove |
//! | `node` `nodes` | one request to one node; which node is asked |
//! | `access` `sigv4` `aws_key` | what requests prove their sender by, and whom they trust |
//! | `outcome` | a bulk's answer, judged item by item |
//! | [`documents`] | documents by their ids |
//! | `sweep` | deleting all that is older than a bound |
//! | `fence` | no two relays write to one index |
//! | `tasks` | whether the engine is still at work on a request |
//! | `reason` | what an engine's error says, without the row's values |
//! | `index` | aliases, indices and mappings |
//! | `identity` | whether an index is still what it was |
//! | `look` | what will be wrong with an index, before the first document |
//! | `privileges` | what the relay's role may not do |
//! | `made` | what an index is made by besides its fields |
//! | `field` `choice` | mapping types, which existing ones will do, and which of them an engine has |

mod access;
mod action;
mod aws_key;
mod choice;
mod client;
pub mod documents;
mod fence;
mod field;
mod identity;
mod index;
mod look;
mod made;
mod node;
mod nodes;
pub mod options;
mod outcome;
mod privileges;
mod reason;
mod sigv4;
mod sweep;
mod tasks;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use aws_key::AwsKey;
pub use client::EngineVersion;
pub use look::Look;
pub use options::{Auth, AwsKeyFrom, Claimant, ClientCertificate, ElasticError, ElasticOptions};
pub use privileges::Missing;

use self::action::Prefixes;
use self::client::Client;
use self::fence::{Fence, document};
use self::identity::Identities;
use super::{
    Bulk, BulkError, Disposition, Expect, Index, IndexNo, Old, Sink, SinkError, Swept, UnderWay, Whose,
};
use crate::clock::{Clock, SystemClock};
use crate::event::Version;
use crate::event::document::{Action, ByRow, IndexSpec};

/// A search engine behind one URL, or several nodes of the same cluster.
#[derive(Debug)]
pub struct ElasticSink<T = SystemClock> {
    client: Client,
    fence: Option<Fence<T>>,
    /// Indices ensured or found so far, by their number.
    targets: RwLock<Vec<Arc<Target>>>,
    /// Sweeps begun, for the ids of their bulks.
    sweeps: AtomicU64,
    identities: Identities,
    /// The engine has not yet refused to be asked for vectors too.
    knows_vectors: AtomicBool,
}

/// An alias that was ensured or found.
#[derive(Clone, Debug)]
struct Target {
    alias: String,
    /// The concrete index behind it.
    index: String,
    uuid: String,
    /// How many shards it has; 0: not known.
    shards: u32,
    /// Field names, to recognise them in the engine's errors.
    fields: Vec<String>,
    prefixes: Prefixes,
}

impl ElasticSink {
    /// Prepares a client; connects to nothing.
    ///
    /// # Errors
    /// A URL, credential or certificate file that cannot be used.
    pub fn new(options: &ElasticOptions) -> Result<ElasticSink, ElasticError> {
        ElasticSink::with_clock(options, SystemClock)
    }

    /// The highest version that a relay may have sent: any at all, or, where `uuids` are given, one of the state folder `folder_id` to these indices. It is what
    /// the engine's fences say; `None` where they say nothing.
    ///
    /// # Errors
    /// As [`ElasticSink::new`], and where the engine does not answer.
    pub async fn highest_bound(
        options: &ElasticOptions,
        of: Option<(u64, &[String])>,
    ) -> Result<Option<Version>, SinkError> {
        let client = Client::new(options).map_err(|error| SinkError::Definite(Box::new(error)))?;
        match of {
            None => document::highest(&client).await,
            Some((folder_id, uuids)) => {
                let docs = document::read_all(&client, uuids).await?;
                Ok(docs.into_iter().filter(|doc| doc.folder == folder_id).map(|doc| doc.bound).max())
            }
        }
    }
}

impl<T: Clock> ElasticSink<T> {
    /// The same by another clock.
    ///
    /// # Errors
    /// As [`ElasticSink::new`].
    pub fn with_clock(options: &ElasticOptions, clock: T) -> Result<ElasticSink<T>, ElasticError> {
        let claimant = options.fence.clone();
        Ok(ElasticSink {
            client: Client::new(options)?,
            fence: claimant.map(|claimant| Fence::new(claimant, clock, options.request_timeout)),
            targets: RwLock::new(Vec::new()),
            sweeps: AtomicU64::new(0),
            identities: Identities::default(),
            knows_vectors: AtomicBool::new(true),
        })
    }

    /// Asks every node which cluster it is of, where there are several; one that does not answer is asked before it is used.
    ///
    /// # Errors
    /// They are of different clusters.
    pub async fn meet(&self) -> Result<(), SinkError> {
        self.client.meet().await
    }

    /// Each node, `host:port`, and which engine answers there; else why none does.
    pub async fn versions(&self) -> Vec<(String, Result<EngineVersion, SinkError>)> {
        self.client.versions().await
    }

    /// What stands behind an alias, and whether it takes what is to be written; nothing is made.
    ///
    /// # Errors
    /// The engine does not answer, or it cannot be written to.
    pub async fn look(&self, spec: &IndexSpec) -> Result<Look, SinkError> {
        look::look(&self.client, spec).await
    }

    /// What the relay's role lacks to write behind these aliases; `None`: the engine does not tell.
    ///
    /// # Errors
    /// The engine does not answer.
    pub async fn missing_privileges(&self, aliases: &[&str]) -> Result<Option<Vec<Missing>>, SinkError> {
        privileges::missing(&self.client, aliases).await
    }

    /// Every document of an index: `visit` is told id, routing and version.
    ///
    /// # Errors
    /// The engine does not answer for all of it.
    pub async fn scan(
        &self,
        index: IndexNo,
        visit: impl FnMut(&str, Option<&str>, Version) + Send + Sync,
    ) -> Result<(), SinkError> {
        sweep::scan((&self.client, self.fence.as_ref()), self.targets(), index, visit).await
    }

    fn targets(&self) -> Vec<Arc<Target>> {
        self.targets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn target_of(&self, alias: &str) -> Option<Arc<Target>> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.iter().find(|target| target.alias == alias).cloned()
    }

    /// Adds what was found behind an alias, or puts it in the place of what was there before; once it may be written to.
    async fn remember(
        &self,
        alias: &str,
        found: index::Found,
        fields: Vec<String>,
    ) -> Result<Index, SinkError> {
        let index::Found { name, uuid, shards, made } = found;
        let target = Arc::new(Target {
            alias: alias.to_owned(),
            index: name.clone(),
            uuid: uuid.clone(),
            shards,
            fields,
            prefixes: Prefixes::new(alias),
        });
        if let Some(fence) = &self.fence {
            fence.meet(&self.client, &target).await?;
        }
        let history = identity::history(&self.client, &name, shards).await?;
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        let no = match targets.iter().position(|known| known.alias == target.alias) {
            Some(no) => {
                targets[no] = target;
                no
            }
            None => {
                targets.push(target);
                targets.len() - 1
            }
        };
        let no = IndexNo(u32::try_from(no).expect("fewer aliases than 2^32 fit into memory"));
        let index = Index { no, name, uuid, history, made };
        self.identities.met(&index);
        Ok(index)
    }
}

impl<T: Clock> Sink for ElasticSink<T> {
    async fn ensure(&self, spec: &IndexSpec, expect: Expect) -> Result<Index, SinkError> {
        let known = self.target_of(&spec.alias).filter(|_| expect != Expect::Anew);
        let found = index::ensure(&self.client, spec, known.as_deref(), expect).await?;
        let fields = spec.fields.iter().map(|field| field.name.clone()).collect();
        self.remember(&spec.alias, found, fields).await
    }

    async fn find(&self, alias: &str, expect: Expect) -> Result<Option<Index>, SinkError> {
        let known = self.target_of(alias);
        let found = index::find(&self.client, alias, known.as_deref(), expect).await?;
        let fields = known.map(|known| known.fields.clone()).unwrap_or_default();
        match found {
            Some(found) => self.remember(alias, found, fields).await.map(Some),
            None => Ok(None),
        }
    }

    async fn aliases(&self, by_row: &ByRow) -> Result<Vec<String>, SinkError> {
        index::aliases(&self.client, by_row).await
    }

    async fn sweep(
        &self,
        index: IndexNo,
        old: Old<'_>,
        page: impl FnMut(&Swept) -> ControlFlow<()> + Send,
    ) -> Result<ControlFlow<()>, SinkError> {
        let number = self.sweeps.fetch_add(1, Ordering::Relaxed);
        let engine = (&self.client, self.fence.as_ref());
        sweep::Sweep::new(engine, self.targets(), index, old, number).run(page).await
    }

    fn encode<E>(
        &self,
        index: IndexNo,
        action: &Action<'_>,
        document: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
        body: &mut Vec<u8>,
    ) -> Result<(), E> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let target = targets.get(index.0 as usize).expect("an index number comes from `ensure`");
        action::encode(&target.prefixes, action, document, body)
    }

    async fn send(&self, bulk: &Bulk) -> Result<Vec<Disposition>, BulkError> {
        let targets = self.targets();
        self.identities.confirm(&self.client, &targets, &bulk.items).await?;
        if let Some(fence) = &self.fence {
            fence.admit(&self.client, &targets, &bulk.items).await?;
        }
        let answer = self.client.bulk(bulk).await;
        let result = answer.and_then(|answer| outcome::judge(&answer, &bulk.items, &targets));
        let put_off = |disposition: &Disposition| matches!(disposition, Disposition::Transient { .. });
        if result.as_ref().map_or(true, |dispositions| dispositions.iter().any(put_off)) {
            self.identities.doubt(&bulk.items);
            return result;
        }
        // Sent while a shard had no primary, it may have waited for one that is another.
        match self.identities.confirm(&self.client, &targets, &bulk.items).await {
            Err(error @ BulkError::Definite { .. }) => Err(error),
            _ => result,
        }
    }

    async fn under_way(&self, whose: Whose<'_>) -> Result<UnderWay, SinkError> {
        tasks::ask(&self.client, whose).await
    }

    async fn release(&self) -> Result<(), SinkError> {
        match &self.fence {
            Some(fence) => fence.release(&self.client).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
