//! What an engine's error says, without the values that it quotes.

use std::borrow::Cow;

use serde::Deserialize;

/// A JSON string, borrowed where it has no escapes (serde copies a bare `Cow`, and one in an `Option`).
#[derive(Debug, Default, PartialEq, Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// Most of an engine's text that is kept, bytes.
const MAX_NAME: usize = 128;

/// An engine's error object, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
pub(super) struct EngineError<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Text<'a>,
    #[serde(borrow, default)]
    pub reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub caused_by: Option<Cause<'a>>,
}

/// What an error was caused by.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Cause<'a> {
    #[serde(rename = "type", borrow, default)]
    pub kind: Text<'a>,
}

impl EngineError<'_> {
    pub(super) fn text(&self) -> &str {
        self.reason.as_deref().unwrap_or_default()
    }

    /// `document_parsing_exception, caused by number_format_exception, at column amount`: types, and a column of `fields` that the text names.
    pub(super) fn public(&self, fields: &[String]) -> String {
        let mut text = name(&self.kind);
        if let Some(cause) = &self.caused_by {
            text.push_str(", caused by ");
            text.push_str(&name(&cause.kind));
        }
        if let Some(column) = named_column(self.text(), fields) {
            text.push_str(", at column ");
            text.push_str(&name(column));
        }
        text
    }
}

/// An exception's type or another short name, cleaned for a log line.
pub(super) fn name(text: &str) -> String {
    let mut clean: String = text.escape_debug().take(MAX_NAME).collect();
    if clean.is_empty() {
        clean.push_str("no error type");
    }
    clean
}

/// The first of `fields` that `text` has in brackets, alone or as the start of a path (`meta.a.b`). Only what is a
/// column's name already is taken, so nothing of a row can come along: inner names of a JSON column are row data.
fn named_column<'f>(text: &str, fields: &'f [String]) -> Option<&'f str> {
    text.split('[').skip(1).find_map(|rest| {
        let inside = rest.split(']').next().unwrap_or(rest);
        let first = inside.split('.').next().unwrap_or(inside);
        fields.iter().find(|field| *field == inside || *field == first).map(String::as_str)
    })
}

/// The version in "[id]: version conflict, current version [6] is higher than the one provided [5]". Read from the end: the id
/// stands in front and may say anything.
pub(super) fn current_version(text: &str) -> Option<u64> {
    let (_, rest) = text.rsplit_once("current version [")?;
    rest.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_types_and_column_names_are_kept() {
        let fields = ["amount".to_owned(), "meta".to_owned()];
        let error = |reason: &'static str| EngineError {
            kind: Text("document_parsing_exception".into()),
            reason: Some(Text(reason.into())),
            caused_by: Some(Cause { kind: Text("illegal_argument_exception".into()) }),
        };
        let text = "[1:25] failed to parse field [amount] of type [long] in document with id 'alice@example.com'. \
                    Preview of field's value: 'canary'";
        assert_eq!(
            error(text).public(&fields),
            "document_parsing_exception, caused by illegal_argument_exception, at column amount"
        );
        let text = "object mapping for [meta.alice.canary] tried to parse field [canary] as object";
        let public = error(text).public(&fields);
        assert!(public.ends_with("at column meta") && !public.contains("canary"), "{public}");
        assert!(!error("[canary]").public(&fields).contains("canary"));
    }

    #[test]
    fn the_current_version_is_read_behind_whatever_the_id_says() {
        let text = "[current version [9] is]: version conflict, current version [6] is higher than the one provided [5]";
        assert_eq!(current_version(text), Some(6));
        let text = "[7]: version conflict, current version [6] is higher or equal to the one provided [6]";
        assert_eq!(current_version(text), Some(6));
        for text in ["", "current version [", "current version [x]", "current version [-1]"] {
            assert_eq!(current_version(text), None, "{text}");
        }
    }
}
