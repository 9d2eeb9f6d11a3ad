//! Bulk bodies: one action line per item, and a document's line below each `index`.

use crate::event::Version;
use crate::event::document::{Action, Verb};

/// What stands before an action's id, per verb.
#[derive(Clone, Debug)]
pub(super) struct Prefixes {
    index: Box<[u8]>,
    delete: Box<[u8]>,
}

impl Prefixes {
    pub(super) fn new(alias: &str) -> Prefixes {
        let prefix = |verb: &str| {
            let mut bytes = format!("{{\"{verb}\":{{\"_index\":").into_bytes();
            string(alias, &mut bytes);
            bytes.extend_from_slice(b",\"_id\":");
            bytes.into()
        };
        Prefixes { index: prefix("index"), delete: prefix("delete") }
    }
}

/// Appends one action; on `document`'s error `body` is as it was.
#[inline]
pub(super) fn encode<E>(
    prefixes: &Prefixes,
    action: &Action<'_>,
    document: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    body: &mut Vec<u8>,
) -> Result<(), E> {
    let start = body.len();
    body.extend_from_slice(match action.verb {
        Verb::Index => &prefixes.index,
        Verb::Delete => &prefixes.delete,
    });
    string(action.id, body);
    if let Some(routing) = action.routing {
        body.extend_from_slice(b",\"routing\":");
        string(routing, body);
    }
    if let (Some(pipeline), Verb::Index) = (action.pipeline, action.verb) {
        body.extend_from_slice(b",\"pipeline\":");
        string(pipeline, body);
    }
    version(action.version, body);
    if action.verb == Verb::Index {
        if let Err(error) = document(body) {
            body.truncate(start);
            return Err(error);
        }
        body.push(b'\n');
    }
    Ok(())
}

/// Appends the delete of a document that was found with its routing.
pub(super) fn delete(
    prefixes: &Prefixes,
    (id, routing): (&str, Option<&str>),
    at: Version,
    body: &mut Vec<u8>,
) {
    body.extend_from_slice(&prefixes.delete);
    string(id, body);
    if let Some(routing) = routing {
        body.extend_from_slice(b",\"routing\":");
        string(routing, body);
    }
    version(at, body);
}

/// Appends what ends an action's line.
#[inline]
fn version(version: Version, body: &mut Vec<u8>) {
    body.extend_from_slice(b",\"version\":");
    body.extend_from_slice(itoa::Buffer::new().format(version.0).as_bytes());
    body.extend_from_slice(b",\"version_type\":\"external_gte\"}}\n");
}

/// Appends a JSON string with its quotation marks.
fn string(text: &str, out: &mut Vec<u8>) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect("a string written to a vector has nothing to fail at");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn an_action_is_one_line_and_its_document_another() {
        let prefixes = Prefixes::new("shop.orders");
        let mut body = Vec::new();
        let index = Action::plain(Verb::Index, "a\"\n\\", Version(7));
        encode(
            &prefixes,
            &index,
            |out| {
                out.extend_from_slice(b"{}");
                Ok::<_, Infallible>(())
            },
            &mut body,
        )
        .unwrap();
        let delete = Action::plain(Verb::Delete, "8", Version(u64::MAX));
        encode(&prefixes, &delete, |_| unreachable!() as Result<(), Infallible>, &mut body).unwrap();
        insta::assert_snapshot!(String::from_utf8(body).unwrap(), @r#"
        {"index":{"_index":"shop.orders","_id":"a\"\n\\","version":7,"version_type":"external_gte"}}
        {}
        {"delete":{"_index":"shop.orders","_id":"8","version":18446744073709551615,"version_type":"external_gte"}}
        "#);
    }

    #[test]
    fn routing_goes_with_every_action_and_a_pipeline_with_those_that_have_a_document() {
        let prefixes = Prefixes::new("shop.orders");
        let mut body = Vec::new();
        for verb in [Verb::Index, Verb::Delete] {
            let action = Action {
                routing: Some("t\"7"),
                pipeline: Some("trim"),
                ..Action::plain(verb, "1", Version(7))
            };
            let document = |out: &mut Vec<u8>| {
                out.extend_from_slice(b"{}");
                Ok::<_, Infallible>(())
            };
            encode(&prefixes, &action, document, &mut body).unwrap();
        }
        insta::assert_snapshot!(String::from_utf8(body).unwrap(), @r#"
        {"index":{"_index":"shop.orders","_id":"1","routing":"t\"7","pipeline":"trim","version":7,"version_type":"external_gte"}}
        {}
        {"delete":{"_index":"shop.orders","_id":"1","routing":"t\"7","version":7,"version_type":"external_gte"}}
        "#);
    }

    #[test]
    fn a_delete_carries_the_documents_own_routing() {
        let prefixes = Prefixes::new("shop.orders");
        let mut body = Vec::new();
        delete(&prefixes, ("1", None), Version(7), &mut body);
        delete(&prefixes, ("2", Some("a \"b")), Version(8), &mut body);
        insta::assert_snapshot!(String::from_utf8(body).unwrap(), @r#"
        {"delete":{"_index":"shop.orders","_id":"1","version":7,"version_type":"external_gte"}}
        {"delete":{"_index":"shop.orders","_id":"2","routing":"a \"b","version":8,"version_type":"external_gte"}}
        "#);
    }

    #[test]
    fn a_document_that_fails_leaves_nothing_behind() {
        let mut body = b"before".to_vec();
        let action = Action::plain(Verb::Index, "1", Version(1));
        let failed = encode(
            &Prefixes::new("a.b"),
            &action,
            |out| {
                out.extend_from_slice(b"{half");
                Err("no")
            },
            &mut body,
        );
        assert_eq!((failed, body), (Err("no"), b"before".to_vec()));
    }
}
