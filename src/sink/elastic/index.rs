//! Aliases, indices and mappings: making sure that what is written to exists, and is what it was.
//!
//! An alias that leads nowhere gets an index `{alias}-000001` of our mappings, made together with the alias in one request. One that
//! leads to an index keeps it, whoever made it: missing fields are added, existing ones are left as they are, as
//! long as they can take the column's values at all (a date field that a rule gives zero dates is told to ignore them). What was ensured before and is now another index, or none, is an
//! error and never made anew: the documents that it held are missing.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use elasticsearch::http::Method;

use super::Target;
use super::choice::Choice;
use super::client::{Answer, Client, error_of, said};
use super::field::{amended, type_name, will_do};
use super::made;
use super::reason::name;
use crate::event::document::{ByRow, IndexSpec};
use crate::sink::{Expect, SinkError};

/// How often another client may get in between before it is said.
const ATTEMPTS: usize = 3;

/// Why an alias cannot be written to; all but the last need an operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum IndexError {
    #[error(
        "alias {alias} leads to {} and none of them is its one write index; mark one: POST /_aliases with \
         `is_write_index: true`",
        indices.join(", ")
    )]
    NoWriteIndex { alias: String, indices: Vec<String> },
    #[error(
        "alias {alias} gives its documents another routing on index `{index}`; remove `index_routing` from the alias: deletes \
         would miss them"
    )]
    Routed { alias: String, index: String },
    #[error(
        "index `{index}` behind alias {alias} wants a routing for each document (`_routing.required`) and the table's rules \
         give none: set `routing` in its [[table]] section, or point the alias at an index without"
    )]
    RoutingRequired { alias: String, index: String },
    #[error(
        "documents of index `{index}` behind alias {alias} are routed by {before}, and the table's [[table]] section says `routing` = {now}: those \
         that are there would never be changed or deleted again. Set it back, or give the table another `index` in a new state folder; one that is made by hand needs \
         `_routing.required`"
    )]
    RoutedOtherwise { alias: String, index: String, before: String, now: String },
    #[error(
        "documents of index `{index}` behind alias {alias} are there by `index` = {before}, and now it is {now}: those that are there would be looked for elsewhere, and never changed or \
         deleted again. Set it back, or give the table another name of indices in a new state folder"
    )]
    ChosenOtherwise { alias: String, index: String, before: String, now: String },
    #[error(
        "{alias} is an index or a data stream and not an alias; rename it (reindex into another) or delete it: documents go \
         through an alias, so that an index can be replaced"
    )]
    NotAnAlias { alias: String },
    #[error(
        "alias {alias} leads to the data stream `{index}`, which takes no updates or deletes; point it at an index"
    )]
    DataStream { alias: String, index: String },
    #[error(
        "index `{index}` is there but alias {alias} does not lead to it; add the alias (POST /_aliases, with \
         `is_write_index: true`) to go on with it, or delete it to begin anew"
    )]
    Unaliased { alias: String, index: String },
    #[error(
        "alias {alias} led to index `{index}` ({uuid}) when this process began, and now {now}: what was written to it \
         is not there. Point the alias back or restore the index"
    )]
    Changed { alias: String, index: String, uuid: String, now: String },
    #[error(
        "index `{index}` behind alias {alias} has lost documents that it had taken: it was restored from a backup, or a shard of it was allocated from an old copy or \
         empty while this process ran. To fill it again: stop everrelay, move the folder `settled` out of the state folder, start it and run \
         `everrelay snapshot --all`"
    )]
    Rewound { alias: String, index: String },
    #[error(
        "alias {alias} leads nowhere, and documents were written to its index before: it was deleted. Restore it under the same name, or, \
         to fill a new index from what the log still holds, stop everrelay, move the folder `settled` out of the state folder and \
         start again; rows last changed before the log's start will be missing"
    )]
    Gone { alias: String },
    #[error(
        "alias {alias} leads nowhere, and documents were written to its index before: it was deleted, and a row that is to be written there would be alone. Restore it under the same name; \
         or say by `deleted_index` in the table's [[table]] section that such rows are left out (\"skip\"), or that it is made anew (\"make\"), and start again"
    )]
    GoneOfMany { alias: String },
    #[error(
        "field `{field}` of index `{index}` is mapped as {existing} and can take no {wanted}; reindex it with a mapping that \
         can, or rename the column"
    )]
    Field { index: String, field: String, existing: String, wanted: &'static str },
    #[error("the engine refused to {what}: {said}; {advice}")]
    Refused { what: String, said: String, advice: &'static str },
    #[error("the engine's answer about {what} cannot be read")]
    Unreadable { what: String },
    #[error("alias {alias} was changed by others at each of {ATTEMPTS} attempts to look at it")]
    Contended { alias: String },
}

impl From<IndexError> for SinkError {
    fn from(error: IndexError) -> SinkError {
        match error {
            IndexError::Contended { .. } | IndexError::Unreadable { .. } => {
                SinkError::Transient(Box::new(error))
            }
            _ => SinkError::Definite(Box::new(error)),
        }
    }
}

/// A concrete index.
#[derive(Debug)]
pub(super) struct Found {
    pub name: String,
    pub uuid: String,
    /// 0: the engine does not say.
    pub shards: u32,
    /// It was made just now.
    pub made: bool,
}

/// Where an alias leads.
pub(super) enum Resolved {
    Nowhere,
    Index(String),
}

/// See [`Sink::ensure`](crate::sink::Sink::ensure). `known`: what the alias led to before, if it was ensured.
pub(super) async fn ensure(
    client: &Client,
    spec: &IndexSpec,
    known: Option<&Target>,
    expect: Expect,
) -> Result<Found, SinkError> {
    let mut made = false;
    for _ in 0..ATTEMPTS {
        let found = find(client, &spec.alias, known, expect).await.map_err(|error| of_many(spec, error))?;
        if let Some(found) = found {
            add_fields(client, spec, &found.name).await?;
            return Ok(Found { made, ..found });
        }
        // Looked at again afterwards: another client may have been faster, and with other mappings.
        made = create(client, spec).await?;
    }
    Err(IndexError::Contended { alias: spec.alias.clone() }.into())
}

/// Of many indices one may be missed on purpose.
fn of_many(spec: &IndexSpec, error: SinkError) -> SinkError {
    match &error {
        SinkError::Definite(of)
            if spec.by_row.is_some() && matches!(of.downcast_ref(), Some(IndexError::Gone { .. })) =>
        {
            IndexError::GoneOfMany { alias: spec.alias.clone() }.into()
        }
        _ => error,
    }
}

/// See [`Sink::find`](crate::sink::Sink::find). `known`: what the alias led to before, if it was ensured or found.
pub(super) async fn find(
    client: &Client,
    alias: &str,
    known: Option<&Target>,
    expect: Expect,
) -> Result<Option<Found>, SinkError> {
    for _ in 0..ATTEMPTS {
        match (resolve(client, alias).await?, known) {
            (Resolved::Index(index), _) => {
                let Some(found) = describe(client, alias, index).await? else { continue };
                let other = |known: &&Target| known.index != found.name || known.uuid != found.uuid;
                if let Some(known) = known.filter(other) {
                    return Err(known.changed(format!("leads to `{}` ({})", found.name, found.uuid)));
                }
                return Ok(Some(found));
            }
            (Resolved::Nowhere, _) if expect == Expect::MaybeGone => return Ok(None),
            (Resolved::Nowhere, Some(known)) => return Err(known.changed("leads nowhere".into())),
            (Resolved::Nowhere, None) if expect == Expect::Existing => {
                return Err(IndexError::Gone { alias: alias.to_owned() }.into());
            }
            (Resolved::Nowhere, None) => return Ok(None),
        }
    }
    Err(IndexError::Contended { alias: alias.to_owned() }.into())
}

/// See [`Sink::aliases`](crate::sink::Sink::aliases).
pub(super) async fn aliases(client: &Client, by_row: &ByRow) -> Result<Vec<String>, SinkError> {
    let pattern = encoded(&by_row.pattern);
    let what = || format!("the aliases {}", by_row.pattern);
    let answer = client.control(Method::Get, &format!("_alias/{pattern}"), &[], None).await?;
    if answer.status == 404 {
        return Ok(Vec::new());
    }
    let indices = object(&answer, what)?;
    // One that is closed or hidden has documents too.
    let query = [("filter_path", "*.mappings._meta"), ("expand_wildcards", "all")];
    let answer = client.control(Method::Get, &format!("{pattern}/_mapping"), &query, None).await?;
    let mappings = if answer.status == 404 { Map::new() } else { object(&answer, what)? };
    let mut found = BTreeSet::new();
    for (index, entry) in &indices {
        let mapping = mappings.get(index).and_then(|entry| entry.get("mappings"));
        let template = mapping.and_then(|mapping| made::template_of(&by_row.table, mapping));
        let aliases = entry.get("aliases").and_then(Value::as_object);
        let aliases = aliases.into_iter().flat_map(Map::keys).filter(|alias| by_row.has(alias));
        for alias in aliases.filter(|_| template.is_some()) {
            if template != Some(&by_row.template) {
                return Err(made::chosen_otherwise(by_row, (alias, index), template).into());
            }
            found.insert(alias.clone());
        }
    }
    Ok(found.into_iter().collect())
}

impl Target {
    /// It is no more what it was when it was ensured; `now`: what is there instead.
    pub(super) fn changed(&self, now: String) -> SinkError {
        let Target { alias, index, uuid, .. } = self.clone();
        IndexError::Changed { alias, index, uuid, now }.into()
    }
}

pub(super) async fn resolve(client: &Client, alias: &str) -> Result<Resolved, SinkError> {
    let answer = client.control(Method::Get, &format!("_alias/{}", encoded(alias)), &[], None).await?;
    let what = || format!("alias {alias}");
    if answer.status == 404 {
        return Ok(Resolved::Nowhere);
    }
    let indices = object(&answer, what)?;
    let mut write = Vec::new();
    for (index, entry) in &indices {
        let entry = entry.get("aliases").and_then(|aliases| aliases.get(alias));
        let entry = entry.ok_or_else(|| IndexError::Unreadable { what: what() })?;
        if entry.get("index_routing").is_some() {
            return Err(IndexError::Routed { alias: alias.to_owned(), index: index.clone() }.into());
        }
        match entry.get("is_write_index").and_then(Value::as_bool) {
            Some(true) => write.push(index),
            None if indices.len() == 1 => write.push(index),
            _ => {}
        }
    }
    match (&write[..], indices.is_empty()) {
        ([index], _) => Ok(Resolved::Index((*index).clone())),
        (_, true) => Ok(Resolved::Nowhere),
        _ => {
            let indices = indices.into_iter().map(|(index, _)| index).collect();
            Err(IndexError::NoWriteIndex { alias: alias.to_owned(), indices }.into())
        }
    }
}

/// The index's own id; `None` where it has just gone.
pub(super) async fn describe(
    client: &Client,
    alias: &str,
    index: String,
) -> Result<Option<Found>, SinkError> {
    let query = [("filter_path", "*.settings.index.uuid,*.settings.index.number_of_shards")];
    let path = format!("{}/_settings", encoded(&index));
    let answer = client.control(Method::Get, &path, &query, None).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    let settings = object(&answer, || format!("the settings of `{index}`"))?;
    // A data stream answers for the indices behind it.
    let Some(entry) = settings.get(&index) else {
        return Err(IndexError::DataStream { alias: alias.to_owned(), index }.into());
    };
    let uuid = entry.pointer("/settings/index/uuid").and_then(Value::as_str).map(str::to_owned);
    let uuid = uuid.ok_or_else(|| IndexError::Unreadable { what: format!("the settings of `{index}`") })?;
    let shards = entry.pointer("/settings/index/number_of_shards").and_then(Value::as_str);
    let shards = shards.and_then(|shards| shards.parse().ok()).unwrap_or(0);
    Ok(Some(Found { name: index, uuid, shards, made: false }))
}

/// Makes the index and its alias; that somebody else did so meanwhile is no error here.
/// Whether it was made, and not by another client meanwhile.
async fn create(client: &Client, spec: &IndexSpec) -> Result<bool, SinkError> {
    let alias = &spec.alias;
    let index = format!("{alias}-000001");
    not_taken(client, alias).await?;
    let mut choice = Choice::best(&spec.fields);
    loop {
        let body = create_body(spec, &choice);
        let answer = client.control(Method::Put, &encoded(&index), &[], Some(&body)).await?;
        if answer.status == 200 {
            tracing::info!(alias, index, "created an index");
            return Ok(true);
        }
        if another(&mut choice, &answer) {
            continue;
        }
        let kind = error_of(&answer.body).map(|error| error.kind.0.into_owned()).unwrap_or_default();
        if kind == "resource_already_exists_exception" {
            return match resolve(client, alias).await? {
                Resolved::Index(_) => Ok(false),
                Resolved::Nowhere => Err(IndexError::Unaliased { alias: alias.clone(), index }.into()),
            };
        }
        if kind == "invalid_alias_name_exception" {
            return Err(IndexError::NotAnAlias { alias: alias.clone() }.into());
        }
        return Err(IndexError::Refused {
            what: format!("create index `{index}`"),
            said: said_of(spec, &answer),
            advice: "look for an index template that matches its name, at settings and mapping of the table's [[table]] sections, or create index and alias by hand",
        }
        .into());
    }
}

/// An alias that leads nowhere is no index's or data stream's name either.
pub(super) async fn not_taken(client: &Client, alias: &str) -> Result<(), SinkError> {
    let query = [("filter_path", "*.settings.index.uuid")];
    let taken = client.control(Method::Get, &format!("{}/_settings", encoded(alias)), &query, None).await?;
    let first = format!("{alias}-000001");
    if taken.status == 200 && object(&taken, || alias.to_owned())?.keys().any(|name| *name != first) {
        return Err(IndexError::NotAnAlias { alias: alias.to_owned() }.into());
    }
    Ok(())
}

fn create_body(spec: &IndexSpec, choice: &Choice<'_>) -> Value {
    json!({
        "aliases": {&spec.alias: {"is_write_index": true}},
        "settings": made::settings(spec),
        "mappings": made::mapping(spec, choice.properties()),
    })
}

/// Compares the index's mapping with `spec` and adds what is missing.
async fn add_fields(client: &Client, spec: &IndexSpec, index: &str) -> Result<(), SinkError> {
    let path = format!("{}/_mapping", encoded(index));
    let answer = client.control(Method::Get, &path, &[], None).await?;
    let what = || format!("the mapping of `{index}`");
    let mappings = object(&answer, what)?;
    let mapping = mappings.get(index).and_then(|entry| entry.get("mappings"));
    let mapping = mapping.ok_or_else(|| IndexError::Unreadable { what: what() })?;
    let meta = made::compare(spec, index, mapping)?;
    let none = Map::new();
    let existing = mapping.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let (mut missing, mut amendments) = (Vec::new(), Map::new());
    for field in &spec.fields {
        let Some(found) = existing.get(&field.name) else {
            missing.push(field);
            continue;
        };
        if let Some(amended) = amended(field.kind, found) {
            amendments.insert(field.name.clone(), amended);
        }
        // An object has no `type` of its own in the engine's answer.
        let found = found.get("type").and_then(Value::as_str).unwrap_or("object");
        // What the rules say of it was chosen, and a value that it refuses is parked.
        if !will_do(field.kind, found) && made::of_operator(spec, &field.name).is_none() {
            return Err(IndexError::Field {
                index: index.to_owned(),
                field: field.name.escape_debug().to_string(),
                existing: name(found),
                wanted: type_name(field.kind),
            }
            .into());
        }
    }
    if missing.is_empty() && amendments.is_empty() && meta.is_none() {
        return Ok(());
    }
    let mut choice = Choice::best(missing.iter().copied());
    loop {
        let mut properties = made::added(spec, choice.properties());
        properties.extend(amendments.clone());
        let mut body = json!({"properties": properties});
        if let Some(meta) = &meta {
            body["_meta"] = meta.clone();
        }
        let answer = client.control(Method::Put, &path, &[], Some(&body)).await?;
        if answer.status == 200 {
            tracing::info!(
                index,
                added = missing.len(),
                amended = amendments.len(),
                "an index has the fields that it needs"
            );
            return Ok(());
        }
        if another(&mut choice, &answer) {
            continue;
        }
        return Err(IndexError::Refused {
            what: format!("add {} fields to index `{index}`", missing.len() + amendments.len()),
            said: said_of(spec, &answer),
            advice: "look at the index's field limit (`index.mapping.total_fields.limit`), or add the fields by hand",
        }
        .into());
    }
}

/// Whether the mapping was what the engine refused, and another one can be tried.
fn another(choice: &mut Choice<'_>, answer: &Answer) -> bool {
    answer.status == 400 && error_of(&answer.body).is_some_and(|error| choice.fall_back(error.text()))
}

/// What the engine says of a mapping that it refused: the field is named where its text names one.
fn said_of(spec: &IndexSpec, answer: &Answer) -> String {
    let fields: Vec<String> = spec.fields.iter().map(|field| field.name.clone()).collect();
    match error_of(&answer.body) {
        Some(error) => format!("{} {}", answer.status, error.public(&fields)),
        None => answer.status.to_string(),
    }
}

pub(super) fn object(answer: &Answer, what: impl Fn() -> String) -> Result<Map<String, Value>, IndexError> {
    if answer.status != 200 {
        return Err(IndexError::Refused {
            what: format!("tell about {}", what()),
            said: said(answer.status, &answer.body),
            advice: "check the sink's url and its path",
        });
    }
    serde_json::from_slice(&answer.body).map_err(|_| IndexError::Unreadable { what: what() })
}

/// A name as one segment of a URL's path.
pub(super) fn encoded(name: &str) -> String {
    let mut path = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        assert_eq!(encoded("shop.orders-000001"), "shop.orders-000001");
        assert_eq!(encoded("größe%2f"), "gr%C3%B6%C3%9Fe%252f");
    }
}
