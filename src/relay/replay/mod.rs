//! Replay: documents that changes of a range of the log touched are sent again, each in its newest state.
//!
//! # Constraints
//!
//! - Of a document only the newest state in the log is ever sent, with that change's own version: an index where the row is there, a delete where it is not. What
//!   came between is never sent, so nothing that was deleted returns, even for a moment, and however soon the engine forgets deleted versions.
//! - Memory is bounded ([`MOST_NOTED`]) however many documents there are: then they are worked off in slices of their hashes, one after the other.
//!
//! # Operation
//!
//! A first pass notes, of each document touched in the range, the record of its newest change up to the *horizon* ([`noted`]). The second reads from the range's
//! beginning up to the horizon once more and takes a change only where it is the one noted ([`due`]). A sweep, a TRUNCATE's or a snapshot's, counts as a delete of all older documents of its table.
//! [`going`] has the indexer send it beside the live stream, which goes first; [`dry_run`] makes both passes and sends nothing.
//!
//! | file | idea |
//! |---|---|
//! | [`reading`] | the log's changes as changes of documents |
//! | [`noted`] | which change of each document is its newest |
//! | [`due`] | what is to be sent |
//! | [`going`] | what is sent, and how far that is |
//! | [`orders`] | what an operator asks of it |
//! | [`dry_run`] | what would be sent |

pub mod dry_run;
pub mod due;
pub mod going;
pub mod noted;
pub mod orders;
pub mod reading;

use crate::event::pattern::{TablePattern, glob};
use crate::event::{Seq, TableName};

/// Most documents that are noted at a time: 24 bytes each, in a table that doubles, so 48 MiB while it grows, and 26 else.
pub const MOST_NOTED: usize = 7 << 17;

/// Which documents are meant: those that these records touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub from: Seq,
    /// The first record that is not meant any more.
    pub end: Seq,
    pub tables: Chosen,
    /// Only documents behind these aliases, with `*` and `?`, or in these indices; none: all.
    pub indices: Vec<String>,
}

impl Scope {
    /// Whether documents behind an alias are meant.
    #[must_use]
    pub fn has_alias(&self, alias: &str) -> bool {
        // A concrete index has its alias's name, and a number behind it.
        let number = |name: &str| name.strip_prefix(alias)?.strip_prefix('-')?.parse::<u64>().ok();
        self.indices.is_empty() || self.indices.iter().any(|name| glob(name, alias) || number(name).is_some())
    }
}

/// The tables that are meant: all, or those that a pattern matches and none that begins with `!` does, however their names are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    positive: Vec<TablePattern>,
    negative: Vec<TablePattern>,
}

impl Chosen {
    /// No pattern at all: every table.
    ///
    /// # Errors
    /// What is wrong with a pattern.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Chosen, &'static str> {
        let mut chosen = Chosen::default();
        for pattern in patterns.iter().map(|pattern| pattern.as_ref().trim()) {
            match pattern.strip_prefix('!') {
                Some(body) => chosen.negative.push(TablePattern::parse(body.trim_start())?),
                None => chosen.positive.push(TablePattern::parse(pattern)?),
            }
        }
        Ok(chosen)
    }

    #[must_use]
    pub fn has(&self, table: &TableName) -> bool {
        let matches = |pattern: &TablePattern| pattern.matches_any_case(table);
        (self.positive.is_empty() || self.positive.iter().any(matches)) && !self.negative.iter().any(matches)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
