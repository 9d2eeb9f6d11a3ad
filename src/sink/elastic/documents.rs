//! Looking at documents by their ids.
//!
//! # Constraints
//!
//! - In real time: a document is seen as soon as its write was answered, without a refresh.
//! - Every answer is hostile: as many documents as were asked for, in that order, each of the id and the concrete index that was asked for.
//!
//! # Format
//!
//! ```text
//! POST /INDEX/_mget?_source_exclude_vectors=false   {"docs":[{"_id":"7"},{"_id":"8","routing":"eu"}]}
//! ```
//!
//! Elasticsearch leaves vectors out of the source since 9.2 unless it is asked for them in these words, which older ones and OpenSearch
//! refuse. No `filter_path`: it would drop empty objects out of the documents themselves.

use std::sync::atomic::Ordering;

use elasticsearch::http::Method;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Answer, said};
use super::index::encoded;
use super::reason::Text;
use super::{ElasticSink, Target};
use crate::clock::Clock;
use crate::event::Version;
use crate::sink::{IndexNo, SinkError};

/// Which document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentId {
    pub id: String,
    pub routing: Option<String>,
}

/// A document as the engine has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub version: Version,
    /// Its JSON; `None` where the engine keeps none.
    pub source: Option<String>,
}

#[derive(Deserialize)]
struct Found<'a> {
    #[serde(borrow)]
    docs: Vec<Doc<'a>>,
}

#[derive(Deserialize)]
struct Doc<'a> {
    #[serde(borrow)]
    _index: Text<'a>,
    #[serde(borrow)]
    _id: Text<'a>,
    #[serde(default)]
    found: Option<bool>,
    #[serde(default)]
    _version: Option<u64>,
    #[serde(borrow, default)]
    _source: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

impl<T: Clock> ElasticSink<T> {
    /// The documents with these ids, each `None` where there is none.
    ///
    /// # Errors
    /// The engine does not answer, or not to what was asked; the index is gone.
    pub async fn documents(
        &self,
        index: IndexNo,
        wanted: &[DocumentId],
    ) -> Result<Vec<Option<Document>>, SinkError> {
        let targets = self.targets();
        let target = targets.get(index.0 as usize).expect("an index number comes from `ensure` or `find`");
        let docs: Vec<Value> = wanted.iter().map(asked).collect();
        let (path, body) = (format!("{}/_mget", encoded(&target.index)), json!({ "docs": docs }));
        let query = [("_source_exclude_vectors", "false")];
        let query = if self.knows_vectors.load(Ordering::Relaxed) { &query[..] } else { &[] };
        let mut answer = self.client.control(Method::Post, &path, query, Some(&body)).await?;
        if answer.status == 400 && !query.is_empty() {
            self.knows_vectors.store(false, Ordering::Relaxed);
            answer = self.client.control(Method::Post, &path, &[], Some(&body)).await?;
        }
        taken(&answer, target, wanted)
    }
}

fn asked(DocumentId { id, routing }: &DocumentId) -> Value {
    match routing {
        Some(routing) => json!({"_id": id, "routing": routing}),
        None => json!({ "_id": id }),
    }
}

fn taken(
    answer: &Answer,
    target: &Target,
    wanted: &[DocumentId],
) -> Result<Vec<Option<Document>>, SinkError> {
    let index = &target.index;
    match answer.status {
        200 => {}
        404 => return Err(target.changed("that index is gone".into())),
        status => {
            let said = said(status, &answer.body);
            return Err(SinkError::Definite(
                format!("the engine refused to show documents of index `{index}`: {said}").into(),
            ));
        }
    }
    let unreadable = |what: &str| {
        SinkError::Transient(
            format!("the engine's answer to a look at documents of index `{index}` {what}").into(),
        )
    };
    let Found { docs } = serde_json::from_slice(&answer.body).map_err(|_| unreadable("cannot be read"))?;
    if docs.len() != wanted.len() {
        return Err(unreadable(&format!("has {} documents of {}", docs.len(), wanted.len())));
    }
    let document = |(doc, wanted): (Doc<'_>, &DocumentId)| {
        if *doc._id != *wanted.id || *doc._index != **index {
            return Err(unreadable("is of another document"));
        }
        match (doc.error, doc.found, doc._version) {
            (None, Some(false), _) => Ok(None),
            (None, Some(true), Some(version)) => {
                let source = doc._source.map(|source| source.get().to_owned());
                Ok(Some(Document { version: Version(version), source }))
            }
            (Some(_), ..) => Err(unreadable("says that a document cannot be shown")),
            _ => Err(unreadable("does not say whether a document is there")),
        }
    };
    docs.into_iter().zip(wanted).map(document).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::action::Prefixes;
    use super::*;

    fn read(status: u16, body: &str) -> Result<Vec<Option<Document>>, String> {
        let target = Target {
            alias: "a".into(),
            index: "a-1".into(),
            uuid: "u".into(),
            shards: 1,
            fields: Vec::new(),
            prefixes: Prefixes::new("a"),
        };
        let wanted = ["7", "8"].map(|id| DocumentId { id: id.into(), routing: None });
        let answer = Answer { status, body: Bytes::from(body.to_owned()) };
        taken(&answer, &target, &wanted).map_err(|error| match error {
            SinkError::Transient(error) | SinkError::Definite(error) => error.to_string(),
        })
    }

    #[test]
    fn a_document_is_there_with_its_own_bytes_or_is_not() {
        let body = r#"{"docs":[{"_index":"a-1","_id":"7","_version":5,"found":true,"_source":{"a": 1.0}},
            {"_index":"a-1","_id":"8","found":false}]}"#;
        let document = Document { version: Version(5), source: Some(r#"{"a": 1.0}"#.into()) };
        assert_eq!(read(200, body).unwrap(), [Some(document), None]);
    }

    #[test]
    fn an_answer_to_anything_else_is_refused() {
        let seven = r#"{"_index":"a-1","_id":"7","found":false}"#;
        for other in [
            r#"{"_index":"a-2","_id":"8","found":false}"#,
            r#"{"_index":"a-1","_id":"9","found":false}"#,
            r#"{"_index":"a-1","_id":"8"}"#,
            r#"{"_index":"a-1","_id":"8","found":true}"#,
            r#"{"_index":"a-1","_id":"8","error":{"type":"x","reason":"secret"}}"#,
            r#"{"_index":"a-1","_id":"8","found":false},{"_index":"a-1","_id":"8","found":false}"#,
            "{}",
        ] {
            let said = read(200, &format!(r#"{{"docs":[{seven},{other}]}}"#)).unwrap_err();
            assert!(said.contains("`a-1`") && !said.contains("secret"), "{said}");
        }
        for (status, body) in [(200, "<html>"), (200, r#"{"docs":[]}"#), (404, "{}"), (400, "{}")] {
            read(status, body).unwrap_err();
        }
    }
}
