//! The configuration file: one TOML file, eight lines in the usual case.
//!
//! # Promise
//!
//! A key that is not known, a value of the wrong type or out of range, and a missing value are refused with line, column and
//! key; nothing is guessed, nothing is ignored. Secrets come from the environment or from files, never from the file
//! itself, and no error shows one.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | reading and refusing |
//! | [`file`] | the file's shape, for serde |
//! | [`resolve`] | from the file to each room's options |
//! | [`rules`] | sections for tables |
//! | [`sinks`] | one sink or several by name, and which rules hold for which |

pub mod file;
pub mod resolve;
mod rules;
mod sinks;

use std::path::{Path, PathBuf};

pub use resolve::{Settings, SinkSettings};

/// Why a configuration cannot be used. Every message names the file; most name line and column.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path:?}: {source}; name another with --config")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {problem}")]
    Parse { path: String, problem: String },
    #[error("{path}: [{section}] {key}: {problem}")]
    Value { path: String, section: String, key: &'static str, problem: String },
}

/// Reads and checks the configuration at `path`.
///
/// # Errors
/// See [`ConfigError`].
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, &path.display().to_string())
}

/// Line, column and key of an error, and what is wrong; never a value: it may be a secret in the wrong place.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let mut message = error.message().trim_end().to_owned();
    // serde quotes what it found: `invalid type: string "…", expected …`.
    if let (Some(from), Some(to)) = (message.find('"'), message.rfind('"')) {
        message.replace_range(from..=to, "(not shown)");
    }
    let Some(span) = error.span() else { return message };
    let before = &text[..span.start.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (line, column) =
        (before.matches('\n').count() + 1, text[line_start..before.len()].chars().count() + 1);
    let whole = text[line_start..].lines().next().unwrap_or_default();
    // A line without a key may be the rest of a value that began above it.
    let shown = whole.split_once('=').map(|(key, _value)| format!("\n  {}= …", key.trim_start()));
    format!("line {line}, column {column}: {message}{}", shown.unwrap_or_default())
}

/// Checks the configuration `text`; `path` is for messages.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(text: &str, path: &str) -> Result<Settings, ConfigError> {
    let file: file::File = shaped(text, path)?;
    let sinks = sinks::named(text, path)?;
    sinks::check_sections(&file.table, &sinks, text, path)?;
    let mut settings = resolve::resolve(&file, sinks, path)?;
    let mut stamped = Vec::new();
    for sink in &mut settings.sinks {
        let meant = file.table.iter().filter(|table| sinks::is_meant(table, &sink.name));
        // Keys are named for all sinks: whichever is asked says the same.
        let (rules, keys, of_sink) = rules::rules(meant, text, path)?;
        (sink.deliver.rules, settings.source.keys) = (rules, keys);
        stamped.push(of_sink);
    }
    settings.source.stamped = sinks::stamped_for_any(stamped);
    sinks::check_indices(&settings.sinks, path)?;
    Ok(settings)
}

/// The file, or a part of it.
fn shaped<T: serde::de::DeserializeOwned>(text: &str, path: &str) -> Result<T, ConfigError> {
    toml::from_str(text)
        .map_err(|error| ConfigError::Parse { path: path.to_owned(), problem: describe(text, &error) })
}
