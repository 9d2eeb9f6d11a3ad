//! What it means for the log that other tables are followed than before.
//!
//! # Constraints
//!
//! The log says which patterns it was filled under ([`Followed`](crate::log::followed::Followed)). Where the stream goes on under the same ones nothing is to be done: whatever table was made since comes with the
//! stream, row by row. A table that other patterns match now was not read up to here: what rows it has stand in no document, or in old ones, if it was followed once and taken out. That is a gap, and a
//! snapshot is wanted for it. Of a table that is not followed any more nothing is owed, and nothing that is known stays: it may be altered while nobody looks.
//!
//! A table whose key is another by the configuration than it was ([`named_key`](super::named_key)) is one of those too: its documents have other ids now.
//!
//! A log that does not say its patterns is taken to have been filled under the present ones: nobody knows better, and to read everything again would be a surprise.

use std::collections::BTreeSet;

use crate::event::TableName;
use crate::log::followed::Follows;
use crate::log::snapshot::{SnapshotNote, SnapshotStep};
use crate::log::{Gap, Noted, Standing};

use super::description::Description;
use super::named_key::{NamedKeys, named};
use super::options::MysqlOptions;
use super::patterns::{BadPattern, Patterns};

/// Of a table that has rows from before.
const NOT_FOLLOWED: &str = "it was not followed until now: rows that it had have no documents, or old ones";

/// Of one whose documents have other ids now.
const OTHER_ID: &str = "its rows are told apart by other columns now (`id` in the configuration): documents stay under their old ids";

/// Of one that only documents may be left of.
const GONE: &str = "it was not followed for a while, and is gone: its documents stay as they were";

/// Most tables that are named in the relay's own words.
const NAMED: usize = 20;

/// What is to be noted where the log stands before anything else is written; `None` where it was filled under the same patterns. `patterns`: those of `options`, under the server's rules of
/// case; `there`: the tables that they match at the server.
///
/// # Errors
/// The log's patterns mean nothing.
pub fn news(
    after: &Standing,
    options: &MysqlOptions,
    patterns: &Patterns,
    there: &BTreeSet<TableName>,
) -> Result<Option<Noted>, BadPattern> {
    let known = &after.followed.patterns;
    let other_ids: BTreeSet<_> = other_ids(after, &options.keys).collect();
    if *known == options.tables && other_ids.is_empty() {
        return Ok(None);
    }
    let before = match known.as_slice() {
        [] => None,
        known => Some(Patterns::parse(known)?.with_case(patterns.case())),
    };
    let was = |table: &TableName| {
        before.as_ref().is_none_or(|before| before.follows_table(table)) && !other_ids.contains(table)
    };
    let follows = |table: &TableName| patterns.follows_table(table);
    let logged: BTreeSet<_> = logged(after).collect();
    let forgotten = logged.iter().filter(|table| !(was(table) && follows(table)));
    let follows =
        Follows { patterns: options.tables.clone(), forgotten: forgotten.cloned().collect(), anew: false };
    let (found, gone): (Vec<_>, Vec<_>) = there
        .iter()
        .chain(logged.difference(there).filter(|table| patterns.follows_table(table)))
        .filter(|table| !was(table))
        .partition(|table| there.contains(*table));
    let gap = |table: &&TableName, why: &str| Gap::new((*table).clone(), why, after.time_micros);
    let of_found = |table: &TableName| if other_ids.contains(table) { OTHER_ID } else { NOT_FOLLOWED };
    let gaps = found.iter().map(|table| gap(table, of_found(table)));
    let gaps = gaps.chain(gone.iter().map(|table| gap(table, GONE))).collect();
    let wanted = found
        .iter()
        .filter(|_| options.snapshot.added)
        .map(|table| SnapshotNote { table: (*table).clone(), step: SnapshotStep::Wanted { filter: None } });
    let snapshots = wanted.collect();
    Ok(Some(Noted { gaps, snapshots, follows: Some(follows), ..Noted::default() }))
}

/// The tables that the log describes with another key by the configuration than they have now.
fn other_ids(after: &Standing, keys: &NamedKeys) -> impl Iterator<Item = TableName> {
    let others = after.shapes.iter().filter(|shape| {
        let described = Description::parse(&shape.described).ok();
        let before = described.and_then(|described| described.named_key());
        let now = named(keys, &shape.table).map(|key| key.iter().map(String::as_bytes).collect());
        before != now
    });
    others.map(|shape| shape.table.clone())
}

/// Says it.
pub fn tell(noted: &Noted) {
    let Some(Follows { forgotten, .. }) = &noted.follows else { return };
    let names = |tables: &mut dyn Iterator<Item = &TableName>| {
        tables.take(NAMED).map(ToString::to_string).collect::<Vec<_>>()
    };
    if !noted.gaps.is_empty() {
        let tables = names(&mut noted.gaps.iter().map(|gap| &gap.table));
        let read = noted.snapshots.len();
        tracing::info!(
            count = noted.gaps.len(),
            ?tables,
            read,
            "tables are followed that were not before, or have other ids"
        );
    }
    let out = forgotten.iter().filter(|table| noted.gaps.iter().all(|gap| gap.table != **table));
    let out: Vec<_> = out.collect();
    if !out.is_empty() {
        let tables = names(&mut out.iter().copied());
        tracing::info!(
            count = out.len(),
            ?tables,
            "tables are not followed any more: their documents stay as they are"
        );
    }
}

/// The tables that the log knows something of. A gap that stands for all is of none.
pub(super) fn logged(standing: &Standing) -> impl Iterator<Item = TableName> {
    let gaps = standing.gaps.iter().filter(|gap| !gap.is_of_all()).map(|gap| &gap.table);
    let shapes = standing.shapes.iter().map(|shape| &shape.table);
    let snapshots = standing.snapshots.iter().map(|snapshot| &snapshot.table);
    gaps.chain(shapes).chain(snapshots).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Version;
    use crate::event::pattern::{ByTable, NameCase, TablePattern};
    use crate::log::Shape;
    use crate::secret::Secret;
    use crate::source::mysql::Address;

    fn options(tables: &[&str]) -> MysqlOptions {
        let address = Address::Tcp { host: "db".to_owned(), port: 3306 };
        let tables = tables.iter().map(|table| (*table).to_owned()).collect();
        MysqlOptions { tables, ..MysqlOptions::new(address, "relay", Secret::new(""), 1) }
    }

    fn names(tables: &[&str]) -> BTreeSet<TableName> {
        tables.iter().map(|table| TableName::new("shop", *table)).collect()
    }

    /// Has the log go on under these patterns at a server with these tables of theirs; returns what it is told.
    fn goes_on(standing: &mut Standing, options: &MysqlOptions, there: &[&str]) -> Option<Noted> {
        let patterns = Patterns::parse(&options.tables).unwrap().with_case(NameCase::Sensitive);
        let noted = news(standing, options, &patterns, &names(there)).unwrap()?;
        standing.noted(noted.clone(), Version(1));
        Some(noted)
    }

    fn shape(table: &str) -> Shape {
        let table = TableName::new("shop", table);
        Shape { table, described: vec![1], asked_at: None, altered: false }
    }

    fn owed(standing: &Standing) -> (String, String) {
        let gaps: Vec<_> = standing.gaps.iter().map(|gap| gap.table.table.clone()).collect();
        let snapshots: Vec<_> = standing.snapshots.iter().map(|known| known.table.table.clone()).collect();
        (gaps.join(" "), snapshots.join(" "))
    }

    fn are(gaps: &str, snapshots: &str) -> (String, String) {
        (gaps.to_owned(), snapshots.to_owned())
    }

    #[test]
    fn what_a_new_pattern_matches_is_owed_once() {
        let mut standing = Standing::default();
        let narrow = options(&["shop.a"]);
        let told = goes_on(&mut standing, &narrow, &["a"]).unwrap();
        assert!(
            told.gaps.is_empty() && told.snapshots.is_empty(),
            "a log that does not say reads nothing again"
        );
        assert_eq!(goes_on(&mut standing, &narrow, &["a"]), None);
        let wide = options(&["shop.*", "!shop.d"]);
        goes_on(&mut standing, &wide, &["a", "b", "c"]).unwrap();
        assert_eq!(owed(&standing), are("b c", "b c"));
        assert_eq!(goes_on(&mut standing, &wide, &["a", "b", "c", "made_since"]), None);
        let same = options(&["!shop.d", "shop.?", "shop.??*"]);
        let told = goes_on(&mut standing, &same, &["a", "b", "c", "made_since"]).unwrap();
        assert!(told.gaps.is_empty() && told.follows.unwrap().forgotten.is_empty(), "they mean the same");
        assert_eq!(owed(&standing), are("b c", "b c"));
    }

    #[test]
    fn a_table_that_is_taken_out_owes_nothing_and_put_in_again_all_of_it() {
        let mut standing = Standing { shapes: vec![shape("a"), shape("b")], ..Standing::default() };
        let (wide, narrow) = (options(&["shop.*"]), options(&["shop.*", "!shop.b", "!shop.c"]));
        goes_on(&mut standing, &wide, &["a", "b", "c"]);
        let gap = |table: &str| Gap::new(TableName::new("shop", table), "ALTER", 1);
        let note = |table| SnapshotNote {
            table: TableName::new("shop", table),
            step: SnapshotStep::Wanted { filter: None },
        };
        let noted = Noted { gaps: vec![gap("b")], snapshots: vec![note("a"), note("c")], ..Noted::default() };
        standing.noted(noted, Version(1));
        goes_on(&mut standing, &narrow, &["a"]);
        assert_eq!((owed(&standing), standing.shapes.len()), (are("", "a"), 1));
        // What came of a table meanwhile is of another time.
        standing.shapes.push(shape("b"));
        goes_on(&mut standing, &wide, &["a", "c"]);
        assert_eq!((owed(&standing), standing.shapes.len()), (are("b c", "a c"), 1));
        assert!(standing.gaps[0].why.contains("is gone"), "{:?}", standing.gaps);
    }

    #[test]
    fn where_the_log_did_not_begin_with_a_snapshot_a_new_table_is_marked() {
        let mut standing = Standing::default();
        goes_on(&mut standing, &options(&["shop.a"]), &["a"]);
        let mut wide = options(&["shop.*"]);
        wide.snapshot.added = false;
        goes_on(&mut standing, &wide, &["a", "b"]);
        assert_eq!(owed(&standing), are("b", ""));
    }

    #[test]
    fn a_table_with_another_key_by_the_configuration_is_read_anew() {
        let described = [1, 3, 0, 0];
        let shape = |table: &str| Shape { described: described.to_vec(), ..shape(table) };
        let mut standing = Standing { shapes: vec![shape("a"), shape("b")], ..Standing::default() };
        let mut options = options(&["shop.*"]);
        goes_on(&mut standing, &options, &["a", "b"]);
        assert_eq!(owed(&standing), are("", ""));
        let tables = TablePattern::parse("shop.b").unwrap();
        options.keys = ByTable(vec![(tables, vec!["n".to_owned()])]);
        goes_on(&mut standing, &options, &["a", "b"]).unwrap();
        assert_eq!(owed(&standing), are("b", "b"));
        assert!(standing.gaps[0].why.contains("other columns"), "{:?}", standing.gaps);
        // Its next rows say by what they are told apart.
        let described =
            Description::parse(&described).unwrap().with_key(named(&options.keys, &shape("b").table));
        standing
            .noted(Noted { shapes: vec![Shape { described, ..shape("b") }], ..Noted::default() }, Version(2));
        assert_eq!(goes_on(&mut standing, &options, &["a", "b"]), None);
        options.keys = NamedKeys::default();
        goes_on(&mut standing, &options, &["a", "b"]).unwrap();
        assert_eq!((owed(&standing), standing.shapes.len()), (are("b", "b"), 1));
    }

    #[test]
    fn a_gap_that_stands_for_all_tables_stays() {
        let all = Gap::new(TableName::new("*", "*"), "many", 1);
        let mut standing = Standing { gaps: vec![all], ..Standing::default() };
        goes_on(&mut standing, &options(&["shop.a"]), &["a"]);
        goes_on(&mut standing, &options(&["shop.b"]), &["b"]);
        assert_eq!(
            standing.gaps.iter().map(|gap| gap.table.to_string()).collect::<Vec<_>>(),
            ["*.*", "shop.b"]
        );
    }
}
