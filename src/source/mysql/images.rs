//! Row images that lack columns, and those that have a document's differences in place of the document.
//!
//! # Format
//!
//! An image has a bit of nulls for each column that the event's bitmap says is present, and their values. With `binlog_row_image=MINIMAL` a before-image has the
//! key, an after-image what the statement set; with NOBLOB both lack the large columns that did not change. (MySQL,
//! *THD::binlog_prepare_row_images*, sql/binlog.cc.) With MariaDB's FULL_NODUP a before-image has all columns, an after-image those that changed.
//! MariaDB 11.8 leaves generated columns out of the images of an update, whatever the setting. In a PARTIAL_UPDATE_ROWS event each after-image comes behind the *value options*, an
//! integer: with 1 there is a bit for each JSON column of the table, and a set bit says that the after-image has its differences. (MySQL,
//! *Rows_log_event*, sql/log_event.h.)
//!
//! # Operation
//!
//! What was not sent is not guessed. A row that is not said whole is owed by its key, of which parts that the after-image lacks are those of the
//! before-image. A changed key is the old key's tombstone; so is a deleted row of which only the key came. Differences are applied where the
//! before-image has the document.

use crate::event::codec::RowWriter;
use crate::event::{Op, TableNo};
use crate::log::record::Batch;

use super::super::json_diff::{self, DiffError};
use super::super::owed::Owed;
use super::super::wire::{Wire, bit};
use super::{Change, ColumnKind, ColumnPlan, DecodeError, Decoder, Key, MAX_KEY_PARTS, RowPlan, all_set};

/// Why it is not known which row an event is about.
pub(super) const NO_KEY: &str = "a row came without all columns of its key (binlog_row_image is not FULL)";

/// The value options' bit for differences.
const PARTIAL_JSON: u64 = 1;

/// A row's key as far as an image has it: the parts, and a bit for each that came.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    parts: Key<'a>,
    came: u16,
}

impl<'a> Found<'a> {
    fn put(&mut self, column: &ColumnPlan, raw: Option<&'a [u8]>) {
        // A key column is never null.
        if let (Some(part), Some(raw)) = (column.key_part.map(usize::from), raw)
            && let Some(place) = self.parts.get_mut(part)
        {
            *place = raw;
            self.came |= 1 << part;
        }
    }

    fn is_whole(&self, plan: &RowPlan) -> bool {
        self.came.count_ones() as usize == plan.key.len().min(MAX_KEY_PARTS)
    }

    /// Parts that did not come are those of `before`.
    fn or(mut self, before: &Found<'a>) -> Found<'a> {
        for (part, (place, old)) in self.parts.iter_mut().zip(before.parts).enumerate() {
            if self.came >> part & 1 == 0 {
                *place = old;
            }
        }
        self.came |= before.came;
        self
    }
}

/// What an update's images have of JSON documents.
#[derive(Default)]
struct Documents<'a> {
    /// Those of the before-image, by column.
    bases: Vec<(usize, &'a [u8])>,
    /// A bit for each JSON column of the table: the after-image has its differences.
    partial: &'a [u8],
}

impl<'a> Documents<'a> {
    /// The after-image has this column's differences.
    fn is_partial(&self, plan: &RowPlan, index: usize) -> bool {
        let before = plan.columns.iter().take(index).filter(|column| column.kind == ColumnKind::Json);
        !self.partial.is_empty() && bit(self.partial, before.count())
    }

    fn base(&self, index: usize) -> Option<&'a [u8]> {
        self.bases.iter().find(|(column, _)| *column == index).map(|(_, base)| *base)
    }
}

impl Decoder {
    /// One row of an event whose images do not have everything. `present`: the event's bitmaps.
    pub(super) fn row_in_part(
        &mut self,
        to: (&RowPlan, TableNo),
        change: Change,
        present: (&[u8], &[u8]),
        rows: &mut Wire<'_>,
        batch: &mut Batch,
        owed: &mut Owed,
    ) -> Result<(), DecodeError> {
        let (plan, table) = to;
        if matches!(change, Change::Update | Change::PartialUpdate) {
            return self.update_in_part(to, change, present, rows, batch, owed);
        }
        let mut key = Found::default();
        let start = rows.len();
        plan.walk_present(present.0, rows, |column, _, raw| {
            key.put(column, raw);
            Ok(())
        })?;
        self.check_size(start - rows.len())?;
        match (key.is_whole(plan), change) {
            (false, _) => owed.of(table).lose(NO_KEY),
            (true, Change::Delete) => self.tombstone(plan, table, &key.parts, batch)?,
            (true, _) => owe(plan, table, &key.parts, owed),
        }
        Ok(())
    }

    fn update_in_part<'a>(
        &mut self,
        (plan, table): (&RowPlan, TableNo),
        change: Change,
        (first, second): (&[u8], &[u8]),
        rows: &mut Wire<'a>,
        batch: &mut Batch,
        owed: &mut Owed,
    ) -> Result<(), DecodeError> {
        let (mut before, mut after) = (Found::default(), Found::default());
        let mut documents = Documents::default();
        let (old, start) = (*rows, rows.len());
        plan.walk_present(first, rows, |column, index, raw| {
            before.put(column, raw);
            if let (ColumnKind::Json, Some(raw), Change::PartialUpdate) = (&column.kind, raw, change) {
                documents.bases.push((index, raw));
            }
            Ok(())
        })?;
        self.check_size(start - rows.len())?;
        if change == Change::PartialUpdate {
            documents.partial = match rows.length()? {
                0 => &[],
                PARTIAL_JSON => {
                    let columns = plan.columns.iter().filter(|column| column.kind == ColumnKind::Json);
                    rows.take(columns.count().div_ceil(8))?
                }
                options => return Err(DecodeError::Options { options }),
            };
        }
        let (image, start) = (*rows, rows.len());
        let mut said = before.is_whole(plan) && all_set(second, plan.columns.len());
        plan.walk_present(second, rows, |column, index, raw| {
            after.put(column, raw);
            if column.kind == ColumnKind::Json && raw.is_some() && documents.is_partial(plan, index) {
                // A null in its place is no document: then the differences do not fit.
                said &= bit(first, index);
            }
            Ok(())
        })?;
        self.check_size(start - rows.len())?;
        if said {
            let (before, after) = (&before.parts, &after.parts);
            return self.update_with_documents((plan, table), (before, after), &documents, image, batch);
        }
        let after = after.or(&before);
        if change == Change::Update && before.is_whole(plan) && all_set(first, plan.columns.len()) {
            let (before, after) = (&before.parts, &after.parts);
            return self.update_over((plan, table), (before, after), (old, image), second, batch);
        }
        if !before.is_whole(plan) || !after.is_whole(plan) {
            owed.of(table).lose(NO_KEY);
            return Ok(());
        }
        if before.parts.get(..plan.key.len()) != after.parts.get(..plan.key.len()) {
            self.tombstone(plan, table, &before.parts, batch)?;
        }
        owe(plan, table, &after.parts, owed);
        Ok(())
    }

    /// Appends an update whose before-image has all columns, and whose after-image those of `present`, which changed.
    fn update_over(
        &mut self,
        (plan, table): (&RowPlan, TableNo),
        (before, after): (&Key<'_>, &Key<'_>),
        (mut old, mut new): (Wire<'_>, Wire<'_>),
        present: &[u8],
        batch: &mut Batch,
    ) -> Result<(), DecodeError> {
        self.grows_left = self.limit;
        let width = plan.columns.len();
        let changed = (0..width).filter(|index| bit(present, *index)).count();
        let (old_nulls, new_nulls) = (old.take(width.div_ceil(8))?, new.take(changed.div_ceil(8))?);
        let mut writer = batch.change(table);
        let values = writer.values();
        let first = values.len();
        let mut out = RowWriter::new(values);
        let mut place = 0;
        for (index, column) in plan.columns.iter().enumerate() {
            let mut raw = if bit(old_nulls, index) { None } else { Some(column.store.take(&mut old)?) };
            if bit(present, index) {
                raw = if bit(new_nulls, place) { None } else { Some(column.store.take(&mut new)?) };
                place += 1;
            }
            match raw {
                None => out.null(),
                Some(raw) => self.value(column, index, raw, &mut out)?,
            }
        }
        let op = self.update(plan, before, after, writer.values())?;
        self.check_size(writer.values().len() - first)?;
        writer.finish(op);
        Ok(())
    }

    /// Appends an update whose after-image has all columns, some of them as differences to the before-image's.
    fn update_with_documents(
        &mut self,
        (plan, table): (&RowPlan, TableNo),
        (before, after): (&Key<'_>, &Key<'_>),
        documents: &Documents<'_>,
        mut image: Wire<'_>,
        batch: &mut Batch,
    ) -> Result<(), DecodeError> {
        self.grows_left = self.limit;
        let mut writer = batch.change(table);
        let values = writer.values();
        let first = values.len();
        let mut out = RowWriter::new(values);
        plan.walk(&mut image, |column, index, raw| match raw {
            None => {
                out.null();
                Ok(())
            }
            Some(diffs) if column.kind == ColumnKind::Json && documents.is_partial(plan, index) => {
                let text = documents
                    .base(index)
                    .ok_or(DiffError::Rejected)
                    .and_then(|base| json_diff::write_text(base, diffs, &mut self.json, self.grows_left))
                    .map_err(|source| DecodeError::Diff { column: index, source })?;
                self.grows_left = self.grows_left.saturating_sub(text.len());
                out.json(text);
                Ok(())
            }
            Some(raw) => self.value(column, index, raw, &mut out),
        })?;
        let op = self.update(plan, before, after, writer.values())?;
        self.check_size(writer.values().len() - first)?;
        writer.finish(op);
        Ok(())
    }

    fn tombstone(
        &mut self,
        plan: &RowPlan,
        table: TableNo,
        key: &Key<'_>,
        batch: &mut Batch,
    ) -> Result<(), DecodeError> {
        let mut values = std::mem::take(&mut self.old_key);
        let made = self.key(plan, key, &mut values);
        let mut writer = batch.change(table);
        writer.values().extend_from_slice(&values);
        self.old_key = values;
        made?;
        writer.finish(Op::Tombstone);
        Ok(())
    }
}

fn owe(plan: &RowPlan, table: TableNo, key: &Key<'_>, owed: &mut Owed) {
    owed.of(table).owe(key.get(..plan.key.len()).unwrap_or(key));
}

impl RowPlan {
    /// Goes over an image with the columns of `present` and hands each of those columns' bytes (`None`: null) to `visit`.
    fn walk_present<'a, F>(
        &self,
        present: &[u8],
        wire: &mut Wire<'a>,
        mut visit: F,
    ) -> Result<(), DecodeError>
    where
        F: FnMut(&ColumnPlan, usize, Option<&'a [u8]>) -> Result<(), DecodeError>,
    {
        let columns = || self.columns.iter().enumerate().filter(|(index, _)| bit(present, *index));
        let nulls = wire.take(columns().count().div_ceil(8))?;
        for (place, (index, column)) in columns().enumerate() {
            let raw = if bit(nulls, place) { None } else { Some(column.store.take(wire)?) };
            visit(column, index, raw)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "images_tests.rs"]
mod tests;
