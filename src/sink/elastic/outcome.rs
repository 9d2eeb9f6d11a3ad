//! A bulk's answer, judged item by item.
//!
//! The answer is read in one pass beside the items that were sent. Each entry must be the one for its item: same verb, same id,
//! an index that is the one ensured. An answer that is cut, has fewer or more entries, another order, a key twice or a type
//! that does not fit proves nothing about any item: the whole bulk is unknown.
//!
//! Nearly every answer says of each item that it was done, in words that are known beforehand: so they are compared with those
//! first, byte by byte, and read field by field only where they differ. It takes a fraction of the time.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Target;
use super::reason::{EngineError, Text, current_version, name};
use crate::event::Version;
use crate::event::document::Verb;
use crate::sink::{BulkError, Disposition, Item};

/// What is asked of an answer, to keep it small.
pub(super) const FILTER: &str = "items.*._index,items.*._id,items.*._version,items.*.result,items.*.status,\
    items.*.error.type,items.*.error.reason,items.*.error.caused_by.type";

/// One disposition per item of `items`.
///
/// # Errors
/// [`BulkError::Unknown`] where the answer is not one for these items.
pub(super) fn judge(
    answer: &[u8],
    items: &[Item],
    targets: &[Arc<Target>],
) -> Result<Vec<Disposition>, BulkError> {
    if all_done(answer, items, targets).is_some() {
        return Ok(vec![Disposition::Done; items.len()]);
    }
    let unknown = |reason: String| BulkError::Unknown { reason };
    let mut deserializer = serde_json::Deserializer::from_slice(answer);
    // serde_json's own texts quote the answer; what was wrong of ours is kept beside.
    let wrong = RefCell::new(None);
    let seed = Answer { items, targets, wrong: &wrong };
    let judged = seed.deserialize(&mut deserializer).and_then(|judged| {
        deserializer.end()?;
        Ok(judged)
    });
    judged.map_err(|error| {
        unknown(wrong.take().unwrap_or_else(|| {
            format!(
                "the engine's answer of {} bytes cannot be read: not a bulk answer at line {} column {}",
                answer.len(),
                error.line(),
                error.column()
            )
        }))
    })
}

/// Whether the answer is, byte by byte, the one in which every item was done. `None` says nothing of it.
fn all_done(answer: &[u8], items: &[Item], targets: &[Arc<Target>]) -> Option<()> {
    let mut rest = answer.strip_prefix(b"{\"items\":[")?;
    let mut digits = itoa::Buffer::new();
    for (at, item) in items.iter().enumerate() {
        let target = targets.get(item.index.0 as usize)?;
        // What stands in JSON as it is: anything else is left to a reader of JSON.
        if !is_plain(&item.id) || !is_plain(&target.index) {
            return None;
        }
        if at > 0 {
            rest = rest.strip_prefix(b",")?;
        }
        let results: &[&[u8]] = match item.verb {
            Verb::Index => {
                rest = rest.strip_prefix(b"{\"index\":{\"_index\":\"")?;
                &[b"created\",\"status\":201}}", b"updated\",\"status\":200}}"]
            }
            Verb::Delete => {
                rest = rest.strip_prefix(b"{\"delete\":{\"_index\":\"")?;
                &[b"deleted\",\"status\":200}}", b"not_found\",\"status\":404}}"]
            }
        };
        rest = rest.strip_prefix(target.index.as_bytes())?.strip_prefix(b"\",\"_id\":\"")?;
        rest = rest.strip_prefix(item.id.as_bytes())?.strip_prefix(b"\",\"_version\":")?;
        rest =
            rest.strip_prefix(digits.format(item.version.0).as_bytes())?.strip_prefix(b",\"result\":\"")?;
        rest = results.iter().find_map(|result| rest.strip_prefix(*result))?;
    }
    (rest == b"]}").then_some(())
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\')
}

/// The whole answer: an object whose `items` match.
struct Answer<'s> {
    items: &'s [Item],
    targets: &'s [Arc<Target>],
    wrong: &'s RefCell<Option<String>>,
}

impl Answer<'_> {
    /// Ends the reading with a reason of our own.
    fn mismatch<E: serde::de::Error>(&self, reason: String) -> E {
        self.wrong.replace(Some(reason));
        E::custom("mismatch")
    }
}

impl<'de> DeserializeSeed<'de> for Answer<'_> {
    type Value = Vec<Disposition>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Answer<'_> {
    type Value = Vec<Disposition>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bulk answer")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut judged = None;
        while let Some(key) = map.next_key::<Text<'de>>()? {
            if &*key != "items" {
                map.next_value::<IgnoredAny>()?;
            } else if judged.is_some() {
                return Err(self.mismatch("the engine's answer has its items twice".into()));
            } else {
                judged = Some(map.next_value_seed(Items(&self))?);
            }
        }
        judged.ok_or_else(|| self.mismatch("the engine's answer has no items".into()))
    }
}

/// The entries, in the order of what was sent.
struct Items<'a, 's>(&'a Answer<'s>);

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = Vec<Disposition>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = Vec<Disposition>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let answer = self.0;
        let mut judged = Vec::with_capacity(answer.items.len());
        for (at, item) in answer.items.iter().enumerate() {
            match seq.next_element_seed(Entry { answer, at, item })? {
                Some(disposition) => judged.push(disposition),
                None => {
                    let sent = answer.items.len();
                    return Err(answer.mismatch(format!("the engine answered {at} items of {sent}")));
                }
            }
        }
        if seq.next_element::<IgnoredAny>()?.is_some() {
            let sent = answer.items.len();
            return Err(answer.mismatch(format!("the engine answered more items than the {sent} sent")));
        }
        Ok(judged)
    }
}

/// One entry: `{"index": {…}}`.
struct Entry<'a, 's> {
    answer: &'a Answer<'s>,
    at: usize,
    item: &'s Item,
}

impl<'de> DeserializeSeed<'de> for Entry<'_, '_> {
    type Value = Disposition;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Entry<'_, '_> {
    type Value = Disposition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let verb = map.next_key::<Text<'de>>()?;
        if verb.as_deref() != Some(verb_name(self.item.verb)) {
            return Err(self.mismatch("verb"));
        }
        let result: ItemAnswer<'de> = map.next_value()?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(self.mismatch("number of verbs"));
        }
        self.judge(&result)
    }
}

/// What the engine says of one item. A field that is there twice fails the reading (serde's derive sees to it).
#[derive(serde::Deserialize)]
struct ItemAnswer<'a> {
    #[serde(borrow)]
    _index: Text<'a>,
    #[serde(borrow)]
    _id: Option<Text<'a>>,
    _version: Option<i64>,
    #[serde(borrow)]
    result: Option<Text<'a>>,
    status: u16,
    #[serde(borrow)]
    error: Option<EngineError<'a>>,
}

impl Entry<'_, '_> {
    #[cold]
    fn mismatch<E: serde::de::Error>(&self, what: &str) -> E {
        let at = self.at;
        self.answer
            .mismatch(format!("item {at} of the engine's answer has another {what} than what was sent"))
    }

    /// # Errors
    /// The entry is not this item's.
    fn judge<E: serde::de::Error>(&self, result: &ItemAnswer<'_>) -> Result<Disposition, E> {
        if result._id.as_deref() != Some(&*self.item.id) {
            return Err(self.mismatch("id"));
        }
        let Some(target) = self.answer.targets.get(self.item.index.0 as usize) else {
            return Err(E::custom("an item of an index that was not ensured"));
        };
        match &result.error {
            // An engine that refuses before it looks at the alias answers with the name that was asked for.
            Some(_) if *result._index != target.index && *result._index != target.alias => {
                Ok(moved(&result._index, target))
            }
            Some(error) => Ok(refused(result.status, error, target)),
            None if *result._index != target.index => Ok(moved(&result._index, target)),
            None => self.applied(result),
        }
    }

    fn applied<E: serde::de::Error>(&self, result: &ItemAnswer<'_>) -> Result<Disposition, E> {
        let Some(word) = result.result.as_deref() else {
            return Err(self.mismatch("shape"));
        };
        let done = matches!(
            (self.item.verb, result.status, word),
            (Verb::Index, 200, "updated")
                | (Verb::Index, 201, "created")
                | (Verb::Delete, 200, "deleted")
                | (Verb::Delete, 404, "not_found")
        );
        let version = result._version.and_then(|version| u64::try_from(version).ok()).map(Version);
        Ok(if !done {
            let (status, word) = (result.status, name(word));
            Disposition::Definite {
                reason: format!(
                    "the engine says `{word}` ({status}) of a write that it neither did nor refused: look for an ingest \
                     pipeline that drops documents (`index.default_pipeline`, `index.final_pipeline`)"
                ),
            }
        } else if version != Some(self.item.version) {
            Disposition::Definite {
                reason: "the engine kept another version than the one sent: look for an ingest pipeline that sets \
                         `_version` (`index.default_pipeline`, `index.final_pipeline`)"
                    .into(),
            }
        } else {
            Disposition::Done
        })
    }
}

fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Index => "index",
        Verb::Delete => "delete",
    }
}

#[cold]
fn moved(index: &str, target: &Target) -> Disposition {
    Disposition::Definite {
        reason: format!(
            "a write to alias {} went to index `{}` and not to `{}`: the alias was moved, or the index deleted; point the \
             alias back at `{}`, or start from a new state folder",
            target.alias,
            name(index),
            target.index,
            target.index
        ),
    }
}

/// An item that the engine refused, by its error's type first: the status alone says too little.
#[cold]
fn refused(status: u16, error: &EngineError<'_>, target: &Target) -> Disposition {
    let what = || format!("{} ({status})", error.public(&target.fields));
    let alias = &target.alias;
    match &*error.kind {
        "version_conflict_engine_exception" => {
            Disposition::Superseded { current: current_version(error.text()).map(Version) }
        }
        "index_not_found_exception" => Disposition::Definite {
            reason: format!(
                "{}: alias {alias} or its index `{}` is gone; restore it, or delete what is left and start from a \
                 new state folder",
                what(),
                target.index
            ),
        },
        // Until somebody opens the index or frees the disk: blocks come as 403 and, since 7.x, for a full disk as 429.
        "cluster_block_exception" | "index_closed_exception" | "security_exception" => {
            Disposition::Transient { reason: what() }
        }
        // Checked before the status: a cluster too busy says so with several types, and `unavailable_shards_exception` is 503.
        _ if status == 429 || (500..600).contains(&status) => Disposition::Transient { reason: what() },
        "illegal_argument_exception" if about_the_target(error.text()) => Disposition::Definite {
            reason: format!(
                "{}: the engine cannot write to alias {alias}: give it exactly one write index, and look for a missing \
                 ingest pipeline",
                what()
            ),
        },
        kind => match REFUSALS.iter().find(|refusal| status == 400 && **refusal == kind) {
            Some(kind) => Disposition::Poison { kind, reason: what() },
            None => Disposition::Definite {
                reason: format!(
                    "{}: an answer that is neither known to pass nor known to be the document's fault, at alias {alias}",
                    what()
                ),
            },
        },
    }
}

/// Errors that the same document would meet each time, and others would not.
const REFUSALS: [&str; 13] = [
    "mapper_parsing_exception",
    "mapper_exception",
    "document_parsing_exception",
    "strict_dynamic_mapping_exception",
    "illegal_argument_exception",
    "parsing_exception",
    "parse_exception",
    "x_content_parse_exception",
    "x_content_e_o_f_exception",
    "not_x_content_exception",
    "json_parse_exception",
    "number_format_exception",
    "max_bytes_length_exceeded_exception",
];

/// `illegal_argument_exception` covers both: a document over a limit, and a target that no document can be written to.
fn about_the_target(text: &str) -> bool {
    text.contains("write index") || text.starts_with("pipeline with id [") || text.contains("is not an alias")
}

#[cfg(test)]
mod tests;
