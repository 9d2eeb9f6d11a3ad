//! What a replay would send: both passes, and nothing sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::error::DeliverError;
use super::Scope;
use super::due::{Taken, Taking};
use super::noted::{Noted, Noting, Slice};
use super::reading::DocumentHash;
use crate::disk::Disk;
use crate::event::Seq;
use crate::event::document::Verb;
use crate::log::Log;
use crate::mapping::rule::Rules;

/// Records between two calls of [`count`]'s `tell`.
const TOLD_EVERY: usize = 4096;

/// What would be sent of one table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfTable {
    /// In the range.
    pub changes: u64,
    pub to_index: u64,
    pub to_delete: u64,
    /// Of the rows to be indexed, as the log holds them, bytes.
    pub bytes: u64,
}

/// By table.
pub type Counted = BTreeMap<String, OfTable>;

/// Counts what a replay up to `horizon` would send; `tell`: called now and then.
///
/// # Errors
/// The log does not hold the range's beginning, or cannot be read.
pub fn count<D: Disk>(
    log: &Log<D>,
    scope: &Arc<Scope>,
    rules: &Rules,
    horizon: Seq,
    mut tell: impl FnMut(),
) -> Result<Counted, DeliverError> {
    let mut counted = Counted::new();
    let mut slice = Some(Slice::WHOLE);
    while let Some(wanted) = slice {
        let done = count_slice(log, scope, rules, Noted::new(wanted, horizon), &mut counted, &mut tell)?;
        slice = done.next();
    }
    Ok(counted)
}

pub(super) fn count_slice<D: Disk>(
    log: &Log<D>,
    scope: &Arc<Scope>,
    rules: &Rules,
    noted: Noted,
    counted: &mut Counted,
    tell: &mut impl FnMut(),
) -> Result<Slice, DeliverError> {
    let mut noting = Noting::open(log, scope, rules, noted)?;
    while !noting.go_on(TOLD_EVERY)? {
        tell();
    }
    if noting.noted().slice().first == DocumentHash::FIRST {
        for (table, changes) in noting.changes() {
            counted.entry(table.to_string()).or_default().changes = *changes;
        }
    }
    let noted = noting.noted();
    let mut taking = Taking::open(log, scope, rules, scope.from)?;
    for read in 1_usize.. {
        if read % TOLD_EVERY == 0 {
            tell();
        }
        match taking.go_on(noted)? {
            Taken::Nothing => {}
            Taken::End => break,
            Taken::Due => {
                while taking.first(noted).is_some() {
                    let Some(due) = taking.take(noted) else { continue };
                    let of = counted.entry(due.table.name.to_string()).or_default();
                    match due.verb {
                        Verb::Index => {
                            of.to_index += 1;
                            of.bytes += due.payload.len() as u64;
                        }
                        Verb::Delete => of.to_delete += 1,
                    }
                }
            }
        }
    }
    Ok(noted.slice())
}
