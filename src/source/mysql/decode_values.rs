//! One value of a row image into log bytes.

use crate::event::codec::RowWriter;
use crate::event::value::Geometry;
use crate::event::wkb;

use super::super::charset::Charset;
use super::super::compressed::{Inflate, Inflating};
use super::super::wire::{big_endian, little_endian, signed};
use super::super::{fixed_binary, json, temporal};
use super::{ColumnKind, ColumnPlan, DecodeError, Decoder};

impl Decoder {
    /// Appends one value that is not null.
    #[inline]
    pub(super) fn value(
        &mut self,
        column: &ColumnPlan,
        index: usize,
        raw: &[u8],
        out: &mut RowWriter<'_>,
    ) -> Result<(), DecodeError> {
        let bad = DecodeError::Value { column: index };
        match &column.kind {
            ColumnKind::Signed => out.i64(signed(raw)),
            ColumnKind::Unsigned => out.u64(little_endian(raw)),
            // Seen faster than that it is UTF-8.
            ColumnKind::Text(Charset::Utf8) if raw.is_ascii() => out.ascii(raw),
            ColumnKind::Text(charset) => {
                let (text, replaced) = charset.decode(raw, &mut self.scratch);
                if replaced {
                    note_replaced(&mut self.replaced, &mut self.replaced_in, index);
                }
                out.text(text);
            }
            ColumnKind::Decimal(decimal) => out.decimal(decimal.digits(raw).ok_or(bad)?.as_bytes()),
            ColumnKind::DateTime(decimals) => {
                out.date_time(temporal::date_time(raw, *decimals).ok_or(bad)?);
            }
            ColumnKind::Timestamp(decimals) => out.instant(temporal::instant(raw, *decimals).ok_or(bad)?),
            ColumnKind::Date => out.date(temporal::date(raw).ok_or(bad)?),
            ColumnKind::Time(decimals) => out.time(temporal::time(raw, *decimals).ok_or(bad)?),
            ColumnKind::Float => out.f32(f32::from_le_bytes(raw.try_into().map_err(|_| bad)?)),
            ColumnKind::Double => out.f64(f64::from_le_bytes(raw.try_into().map_err(|_| bad)?)),
            ColumnKind::Enum(labels) => match (little_endian(raw) as usize).checked_sub(1) {
                // 0 is the error value, which the server prints as the empty string.
                None => out.enum_label(""),
                Some(label) => out.enum_label(labels.get(label).ok_or(bad)?),
            },
            ColumnKind::Set(labels) => {
                let members = little_endian(raw);
                if labels.len() < 64 && members >> labels.len() != 0 {
                    return Err(bad);
                }
                let chosen = labels.iter().enumerate().filter(|(i, _)| members >> i & 1 == 1);
                out.set_labels(chosen.map(|(_, label)| label.as_str()));
            }
            ColumnKind::Bytes => out.bytes(raw),
            ColumnKind::CompressedText(charset) => {
                let plain = inflated(&mut self.inflate, raw, index, &mut self.grows_left, self.limit)?;
                let (text, replaced) = charset.decode(plain, &mut self.scratch);
                if replaced {
                    note_replaced(&mut self.replaced, &mut self.replaced_in, index);
                }
                out.text(text);
            }
            ColumnKind::CompressedBytes => {
                out.bytes(inflated(&mut self.inflate, raw, index, &mut self.grows_left, self.limit)?);
            }
            ColumnKind::PaddedBytes(length) => out.padded_bytes(raw, *length),
            ColumnKind::Json => {
                let text = json::write_text(raw, &mut self.json, self.grows_left)
                    .map_err(|source| DecodeError::Json { column: index, source })?;
                self.grows_left = self.grows_left.saturating_sub(text.len());
                out.json(text);
            }
            // Years since 1900; 0 is the year 0000.
            ColumnKind::Year => out.u64(match little_endian(raw) {
                0 => 0,
                year => year + 1900,
            }),
            ColumnKind::Bit => out.u64(big_endian(raw)),
            ColumnKind::Geometry => out.geometry(geometry(raw).ok_or(bad)?),
            ColumnKind::Vector if raw.len().is_multiple_of(4) => out.vector(raw),
            ColumnKind::Vector => return Err(bad),
            ColumnKind::Uuid => out.text(fixed_binary::uuid(raw).ok_or(bad)?.as_str()),
            ColumnKind::Inet4 => out.text(fixed_binary::inet4(raw).ok_or(bad)?.as_str()),
            ColumnKind::Inet6 => out.text(fixed_binary::inet6(raw).ok_or(bad)?.as_str()),
            ColumnKind::OldDateTime => out.date_time(temporal::old_date_time(raw).ok_or(bad)?),
            ColumnKind::OldTimestamp => out.instant(temporal::old_instant(raw).ok_or(bad)?),
            ColumnKind::OldTime => out.time(temporal::old_time(raw).ok_or(bad)?),
        }
        Ok(())
    }
}

#[cold]
fn note_replaced(count: &mut u64, columns: &mut Vec<usize>, column: usize) {
    *count += 1;
    if !columns.contains(&column) {
        columns.push(column);
    }
}

/// A geometry as both servers keep it: the number of its reference system, then well-known binary. `None` where that is none.
pub(in super::super) fn geometry(raw: &[u8]) -> Option<Geometry<'_>> {
    let (srid, wkb) = raw.split_first_chunk::<4>()?;
    wkb::walk(wkb, |_| ()).ok()?;
    Some(Geometry { srid: u32::from_le_bytes(*srid), wkb })
}

/// A compressed column's value, and how many bytes the row may have besides.
fn inflated<'a>(
    inflate: &'a mut Inflate,
    raw: &'a [u8],
    column: usize,
    left: &mut usize,
    limit: usize,
) -> Result<&'a [u8], DecodeError> {
    let value = inflate.column(raw, *left).map_err(|problem| match problem {
        Inflating::Damaged => DecodeError::Value { column },
        Inflating::TooLong(bytes) => DecodeError::TooLarge { bytes, limit },
    })?;
    *left = left.saturating_sub(value.len());
    Ok(value)
}
