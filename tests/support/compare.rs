//! A table against its index, document by document.
//!
//! One hash per row is kept, so a million rows take some tens of megabytes. What differs is read a second time, in full.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use anyhow::Result;

use super::canonical::{Document, canonical_members};
use super::engine::Engine;
use super::mysql;
use super::oracle::Table;

/// How many differences of each kind are kept word by word.
const SHOWN: usize = 5;

/// What came of comparing one table.
#[derive(Debug, Default)]
pub struct TableComparison {
    pub table: String,
    pub rows: u64,
    pub documents: u64,
    /// Rows without a document.
    pub missing: u64,
    /// Documents that differ from their row.
    pub stale: u64,
    /// Documents without a row.
    pub extra: u64,
    /// Some of the differences, in words.
    pub examples: Vec<String>,
}

impl TableComparison {
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.missing + self.stale + self.extra
    }
}

/// What came of comparing several tables.
#[derive(Debug, Default)]
pub struct Comparison {
    pub tables: Vec<TableComparison>,
}

impl Comparison {
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.tables.iter().map(TableComparison::differences).sum()
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    #[must_use]
    pub fn documents(&self) -> u64 {
        self.tables.iter().map(|table| table.documents).sum()
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in &self.tables {
            writeln!(
                f,
                "{}: {} rows, {} documents, {} missing, {} stale, {} extra",
                table.table, table.rows, table.documents, table.missing, table.stale, table.extra
            )?;
            for example in &table.examples {
                writeln!(f, "  {example}")?;
            }
        }
        Ok(())
    }
}

/// Compares tables of one schema with their indices. Nobody may write to the tables meanwhile.
///
/// # Errors
/// A server fails. Differences are no errors: see [`Comparison::differences`].
pub async fn compare<'a>(
    mysql_url: &str,
    engine: &Engine,
    schema: &str,
    tables: impl IntoIterator<Item = &'a str>,
) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    for name in tables {
        comparison.tables.push(compare_table(mysql_url, engine, schema, name).await?);
    }
    Ok(comparison)
}

async fn compare_table(
    mysql_url: &str,
    engine: &Engine,
    schema: &str,
    name: &str,
) -> Result<TableComparison> {
    let mut conn = mysql::connect(mysql_url).await?;
    let table = Table::describe(&mut conn, schema, name).await?;
    let mut result = TableComparison { table: table.name.clone(), ..TableComparison::default() };

    let mut expected: HashMap<String, u64> = HashMap::new();
    let mut same_id = Vec::new();
    table
        .documents(&mut conn, |id, document| {
            result.rows += 1;
            match expected.entry(id) {
                Entry::Vacant(entry) => {
                    entry.insert(hash(&document));
                }
                Entry::Occupied(entry) => same_id.push(entry.key().clone()),
            }
            Ok(())
        })
        .await?;

    // Found but different, with the document found; found without a row.
    let mut stale: HashMap<String, Document> = HashMap::new();
    let mut extra: Vec<(String, String)> = Vec::new();
    engine
        .scan(&table.alias(), |hit| {
            result.documents += 1;
            let document = canonical_members(hit.source.get(), |member| table.numbers_of(member))?;
            match expected.remove(&hit.id) {
                Some(row) if row == hash(&document) => {}
                Some(_) => {
                    result.stale += 1;
                    if stale.len() < SHOWN {
                        stale.insert(hit.id, document);
                    }
                }
                None => {
                    result.extra += 1;
                    if extra.len() < SHOWN {
                        extra.push((hit.id, hit.source.get().to_owned()));
                    }
                }
            }
            Ok(())
        })
        .await?;

    result.missing = expected.len() as u64 + same_id.len() as u64;
    let missing: HashSet<String> = expected.into_keys().take(SHOWN).collect();
    for id in same_id {
        result.examples.push(format!("two rows have the id {id:?}"));
    }
    for (id, source) in extra {
        result.examples.push(format!("extra {id:?}: {source}"));
    }
    if !missing.is_empty() || !stale.is_empty() {
        table
            .documents(&mut conn, |id, row| {
                if missing.contains(&id) {
                    result.examples.push(format!("missing {id:?}: {row:?}"));
                }
                if let Some(found) = stale.get(&id) {
                    result.examples.push(format!("stale {id:?}: {}", difference(&row, found)));
                }
                Ok(())
            })
            .await?;
    }
    conn.disconnect().await?;
    Ok(result)
}

fn hash(document: &Document) -> u64 {
    let mut hasher = DefaultHasher::new();
    document.hash(&mut hasher);
    hasher.finish()
}

/// The members that differ.
fn difference(row: &Document, found: &Document) -> String {
    let mut words = Vec::new();
    for (name, expected) in row {
        match found.get(name) {
            Some(value) if value == expected => {}
            Some(value) => words.push(format!("{name} is {value}, the row has {expected}")),
            None => words.push(format!("{name} is not there, the row has {expected}")),
        }
    }
    for (name, value) in found {
        if !row.contains_key(name) {
            words.push(format!("{name} is {value}, the row has no such column"));
        }
    }
    words.join("; ")
}
