//! Members of a document that no column gives: whether its row is deleted, and by what the document became what it is.

use std::io::Write;

use bincode::error::DecodeError;

use super::rule::{DeletesAs, TableRules};
use super::{json, name, temporal};
use crate::event::document::{Field, FieldKind};
use crate::event::value::Instant;
use crate::event::{Op, Stamp, codec};

/// The field of documents that stay though their rows are deleted, and what it is there.
pub(super) const DELETED: &str = "deleted";
const MARK: &[u8] = b",\"deleted\":true";

/// Limit on what decoding a stamp may allocate, bytes.
const LIMIT: usize = 256;

/// Decimals of microseconds.
const MICROS: u8 = 6;

/// What a table's rules add to its documents.
#[derive(Clone, Debug, Default)]
pub(super) struct Extra {
    pub deleted: bool,
    /// `,"name":{"operation":"`
    metadata: Option<Box<[u8]>>,
}

impl Extra {
    /// Adds its fields to `fields`, those of the columns.
    ///
    /// # Errors
    /// The name of a field that cannot be, and why.
    pub(super) fn of(rules: &TableRules, fields: &mut Vec<Field>) -> Result<Extra, (String, &'static str)> {
        let mut extra = Extra { deleted: rules.deletes == DeletesAs::Mark, metadata: None };
        if extra.deleted {
            let why = "`deletes = \"mark\"` says there which rows are deleted: call the column's field otherwise, by `rename`";
            add(fields, DELETED, FieldKind::Boolean, why)?;
        }
        if let Some(name) = rules.metadata.as_ref().filter(|name| !name.is_empty()) {
            name::check_field(name).map_err(|why| (name.clone(), why))?;
            let why = "`metadata` calls a field so, and another one is called so already";
            add(fields, name, FieldKind::Metadata, why)?;
            let mut member = b",\"".to_vec();
            json::escape(name.as_bytes(), &mut member);
            member.extend_from_slice(b"\":{\"operation\":\"");
            extra.metadata = Some(member.into());
        }
        Ok(extra)
    }

    /// Appends the members behind those of the columns. `stamp`: its bytes.
    ///
    /// # Errors
    /// They are none.
    pub(super) fn write(&self, op: Op, stamp: Option<&[u8]>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        if op == Op::Delete && self.deleted {
            out.extend_from_slice(MARK);
        }
        let Some(metadata) = &self.metadata else { return Ok(()) };
        out.extend_from_slice(metadata);
        out.extend_from_slice(match op {
            Op::Insert => b"insert",
            Op::Update | Op::Rekey => b"update",
            Op::Delete | Op::Tombstone => b"delete",
            Op::Read => b"snapshot",
        });
        out.push(b'"');
        if let Some(stamp) = stamp {
            let (Stamp { time_micros, gtid }, _) = codec::decode_owned::<Stamp, LIMIT>(stamp)?;
            let start = out.len();
            out.extend_from_slice(b",\"time\":\"");
            if temporal::instant(Instant { micros: time_micros, decimals: MICROS }, out) {
                out.push(b'"');
            } else {
                out.truncate(start);
            }
            if let Some(gtid) = gtid {
                out.extend_from_slice(b",\"gtid\":\"");
                // A vector takes all bytes.
                let _ = write!(out, "{gtid}");
                out.push(b'"');
            }
        }
        out.push(b'}');
        Ok(())
    }
}

fn add(
    fields: &mut Vec<Field>,
    name: &str,
    kind: FieldKind,
    why: &'static str,
) -> Result<(), (String, &'static str)> {
    if fields.iter().any(|field| field.name == name) {
        return Err((name.to_owned(), why));
    }
    fields.push(Field { name: name.to_owned(), kind });
    Ok(())
}
