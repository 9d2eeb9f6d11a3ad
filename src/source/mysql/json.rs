//! MySQL's binary JSON as the text that the server itself prints.
//!
//! # Format
//!
//! A value is a type byte and its bytes. An object or array has its element count and size, then for each element an entry with
//! type and offset (small scalars lie in the entry itself), an object also an entry for each key; offsets count from the
//! object's or array's own first byte. Small ones have two-byte numbers, large ones four. (MySQL, sql-common/json_binary.h.)
//!
//! # Text
//!
//! As `CAST(column AS CHAR)`: `", "` and `": "` between, keys in stored order, control characters escaped, doubles as
//! *my_gcvt* prints them with `.0` where nothing else shows that they are doubles, decimals with all their digits, dates and
//! times quoted with six decimals, other opaque values as `base64:type…:` (sql-common/json_dom.cc, *wrapper_to_string*).
//!
//! # Hostile bytes
//!
//! Offsets may overlap, so that few bytes can say a long text: the output's length is bounded, and since each value writes
//! at least one byte, so is the time. Depth is bounded by what the server itself allows.

use std::io::Write as _;

use base64::Engine as _;

use super::numbers::Decimal;
use super::temporal;
use super::wire::{Short, Wire};

/// MySQL's JSON_DOCUMENT_MAX_DEPTH.
pub(super) const MAX_DEPTH: u32 = 100;

/// MySQL's base64_encode breaks its lines here.
const BASE64_LINE: usize = 76;

/// Bytes that are no JSON document, or not one that is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("the JSON document is malformed")]
    Malformed,
    #[error("the JSON document is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("the JSON document's text is longer than the largest row")]
    TooLong,
}

impl From<Short> for JsonError {
    fn from(_: Short) -> JsonError {
        JsonError::Malformed
    }
}

/// Replaces `out` by `document`'s text, at most `limit` bytes.
///
/// # Errors
/// See [`JsonError`]; `out` then holds a part.
pub fn write_text<'o>(document: &[u8], out: &'o mut Vec<u8>, limit: usize) -> Result<&'o str, JsonError> {
    let mut printer = Printer::new(out, limit);
    match document.split_first() {
        Some((kind, bytes)) => printer.value(*kind, bytes, 0)?,
        // A zero-length document is how a non-null column without a value is stored; the server prints it as null
        // (sql/field.cc, Field_json::val_json).
        None => printer.out.extend_from_slice(b"null"),
    }
    printer.finish()
}

/// Writes a document's text.
pub(super) struct Printer<'a> {
    /// UTF-8 if the document's strings are: that is seen at the end, once for all of them.
    out: &'a mut Vec<u8>,
    /// Length of `out` that is not passed.
    limit: usize,
}

/// The widths of one object or array.
#[derive(Clone, Copy)]
struct Layout {
    number: usize,
    keys: bool,
}

impl Layout {
    const fn of(kind: u8) -> Option<Layout> {
        Some(match kind {
            0x00 => Layout { number: 2, keys: true },
            0x01 => Layout { number: 4, keys: true },
            0x02 => Layout { number: 2, keys: false },
            0x03 => Layout { number: 4, keys: false },
            _ => return None,
        })
    }

    /// A count, size or offset.
    #[inline]
    fn number(self, wire: &mut Wire<'_>) -> Result<usize, Short> {
        Ok(if self.number == 2 { usize::from(wire.u16()?) } else { wire.u32()? as usize })
    }

    /// Whether a value of this type lies in its entry.
    const fn inlines(self, kind: u8) -> bool {
        matches!(kind, 0x04..=0x06) || self.number == 4 && matches!(kind, 0x07 | 0x08)
    }
}

/// The elements of an object or array: name, type, and bytes from the value's first one on.
#[derive(Clone)]
pub(super) struct Container<'a> {
    layout: Layout,
    bytes: &'a [u8],
    left: usize,
    names: Wire<'a>,
    entries: Wire<'a>,
}

/// A member's name and what it is, or a cell's.
pub(super) type Element<'a> = (Option<&'a [u8]>, u8, &'a [u8]);

impl<'a> Container<'a> {
    /// `None` where the type is that of a scalar.
    pub(super) fn of(kind: u8, bytes: &'a [u8]) -> Result<Option<Container<'a>>, JsonError> {
        let Some(layout) = Layout::of(kind) else { return Ok(None) };
        let mut wire = Wire::new(bytes);
        let left = layout.number(&mut wire)?;
        let size = layout.number(&mut wire)?;
        let bytes = bytes.get(..size).ok_or(JsonError::Malformed)?;
        let names = if layout.keys { wire.take(left.saturating_mul(layout.number + 2))? } else { &[] };
        let names = Wire::new(names);
        let entries = Wire::new(wire.take(left.saturating_mul(layout.number + 1))?);
        Ok(Some(Container { layout, bytes, left, names, entries }))
    }

    /// Elements have names: it is an object.
    pub(super) fn has_names(kind: u8) -> bool {
        matches!(kind, 0x00 | 0x01)
    }

    /// Elements that are left.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    #[inline]
    fn element(&mut self) -> Result<Element<'a>, JsonError> {
        let mut name = None;
        if self.layout.keys {
            let offset = self.layout.number(&mut self.names)?;
            let length = usize::from(self.names.u16()?);
            name = Some(Wire::new(self.bytes.get(offset..).ok_or(JsonError::Malformed)?).take(length)?);
        }
        let kind = self.entries.u8()?;
        let entry = self.entries.take(self.layout.number)?;
        if self.layout.inlines(kind) {
            return Ok((name, kind, entry));
        }
        let offset = self.layout.number(&mut Wire::new(entry))?;
        Ok((name, kind, self.bytes.get(offset..).ok_or(JsonError::Malformed)?))
    }
}

impl<'a> Iterator for Container<'a> {
    type Item = Result<Element<'a>, JsonError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.element())
    }
}

impl<'a> Printer<'a> {
    /// Replaces `out`, by at most `limit` bytes.
    pub(super) fn new(out: &'a mut Vec<u8>, limit: usize) -> Printer<'a> {
        out.clear();
        Printer { out, limit }
    }

    /// What was written.
    pub(super) fn finish(self) -> Result<&'a str, JsonError> {
        // A string's first and last byte stand between quotes: no two make a character together.
        std::str::from_utf8(self.out).map_err(|_| JsonError::Malformed)
    }

    /// A value of this type; `bytes`: from its first one on, more may follow.
    pub(super) fn value(&mut self, kind: u8, bytes: &[u8], depth: u32) -> Result<(), JsonError> {
        if self.out.len() >= self.limit {
            return Err(JsonError::TooLong);
        }
        let mut wire = Wire::new(bytes);
        match kind {
            0x00..=0x03 => {
                let container = Container::of(kind, bytes)?.ok_or(JsonError::Malformed)?;
                return self.container(container, Container::has_names(kind), depth);
            }
            0x04 => self.out.extend_from_slice(match wire.u8()? {
                0 => b"null",
                1 => b"true",
                2 => b"false",
                _ => return Err(JsonError::Malformed),
            }),
            0x05 => self.integer(i16::from_le_bytes(wire.array()?)),
            0x06 => self.integer(wire.u16()?),
            0x07 => self.integer(i32::from_le_bytes(wire.array()?)),
            0x08 => self.integer(wire.u32()?),
            0x09 => self.integer(i64::from_le_bytes(wire.array()?)),
            0x0a => self.integer(wire.u64()?),
            0x0b => write_double(f64::from_le_bytes(wire.array()?), self.out)?,
            0x0c => {
                let length = short_length(&mut wire)?;
                return self.string(wire.take(length)?);
            }
            0x0f => {
                let field_type = wire.u8()?;
                let length = short_length(&mut wire)?;
                return self.opaque(field_type, wire.take(length)?);
            }
            _ => return Err(JsonError::Malformed),
        }
        Ok(())
    }

    fn container(&mut self, container: Container<'_>, names: bool, depth: u32) -> Result<(), JsonError> {
        self.begin(if names { b'{' } else { b'[' }, depth)?;
        for (i, element) in container.enumerate() {
            let (name, kind, bytes) = element?;
            match name {
                Some(name) => self.name(i, name)?,
                None => self.cell(i),
            }
            self.value(kind, bytes, depth + 1)?;
        }
        self.end(if names { b'}' } else { b']' });
        Ok(())
    }

    /// An object or array begins.
    pub(super) fn begin(&mut self, bracket: u8, depth: u32) -> Result<(), JsonError> {
        if depth >= MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        if self.out.len() >= self.limit {
            return Err(JsonError::TooLong);
        }
        self.out.push(bracket);
        Ok(())
    }

    /// A member's name comes, the object's `i`-th.
    pub(super) fn name(&mut self, i: usize, name: &[u8]) -> Result<(), JsonError> {
        self.cell(i);
        self.string(name)?;
        self.out.extend_from_slice(b": ");
        Ok(())
    }

    /// A cell comes, the array's `i`-th.
    pub(super) fn cell(&mut self, i: usize) {
        if i > 0 {
            self.out.extend_from_slice(b", ");
        }
    }

    /// An object or array ends.
    pub(super) fn end(&mut self, bracket: u8) {
        self.out.push(bracket);
    }

    fn integer(&mut self, value: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    fn string(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        if self.out.len().saturating_add(bytes.len()) > self.limit {
            return Err(JsonError::TooLong);
        }
        self.out.reserve(bytes.len() + 2);
        self.out.push(b'"');
        // Most strings have nothing to escape, and looking for it in all bytes at once is what processors do well.
        if bytes.iter().fold(false, |found, byte| found | (*byte < 0x20) | matches!(byte, b'"' | b'\\')) {
            self.escaped(bytes)?;
        } else {
            self.out.extend_from_slice(bytes);
        }
        self.out.push(b'"');
        Ok(())
    }

    fn escaped(&mut self, bytes: &[u8]) -> Result<(), JsonError> {
        let mut from = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let escape: &[u8] = match byte {
                b'"' => b"\\\"",
                b'\\' => b"\\\\",
                0x08 => b"\\b",
                0x09 => b"\\t",
                0x0a => b"\\n",
                0x0c => b"\\f",
                0x0d => b"\\r",
                0..0x20 => b"",
                _ => continue,
            };
            self.out.extend_from_slice(bytes.get(from..at).unwrap_or_default());
            from = at + 1;
            if escape.is_empty() {
                write!(self.out, "\\u{byte:04x}").map_err(|_| JsonError::Malformed)?;
            } else {
                self.out.extend_from_slice(escape);
            }
        }
        self.out.extend_from_slice(bytes.get(from..).unwrap_or_default());
        Ok(())
    }

    fn opaque(&mut self, field_type: u8, bytes: &[u8]) -> Result<(), JsonError> {
        let packed = || bytes.try_into().map(i64::from_le_bytes).map_err(|_| JsonError::Malformed);
        match field_type {
            // MYSQL_TYPE_NEWDECIMAL: precision, scale, packed digits.
            246 => {
                let mut wire = Wire::new(bytes);
                let decimal = Decimal::new(wire.u8()?, wire.u8()?).ok_or(JsonError::Malformed)?;
                let digits = decimal.digits(wire.rest()).ok_or(JsonError::Malformed)?;
                self.out.extend_from_slice(digits.as_bytes());
                Ok(())
            }
            // MYSQL_TYPE_DATE; MYSQL_TYPE_TIMESTAMP and MYSQL_TYPE_DATETIME.
            10 | 7 | 12 => {
                let value = temporal::json_date_time(packed()?).ok_or(JsonError::Malformed)?;
                let date = value.date;
                write!(self.out, "\"{:04}-{:02}-{:02}", date.year, date.month, date.day)
                    .map_err(|_| JsonError::Malformed)?;
                if field_type != 10 {
                    self.out.push(b' ');
                    self.clock(value.micros)?;
                }
                self.out.push(b'"');
                Ok(())
            }
            // MYSQL_TYPE_TIME.
            11 => {
                let value = temporal::json_time(packed()?).ok_or(JsonError::Malformed)?;
                self.out.extend_from_slice(if value.micros < 0 { b"\"-" } else { b"\"" });
                self.clock(value.micros.unsigned_abs())?;
                self.out.push(b'"');
                Ok(())
            }
            _ => {
                if bytes.len() >= self.limit.saturating_sub(self.out.len()) {
                    return Err(JsonError::TooLong);
                }
                write!(self.out, "\"base64:type{field_type}:").map_err(|_| JsonError::Malformed)?;
                let engine = base64::engine::general_purpose::STANDARD;
                for (i, line) in bytes.chunks(BASE64_LINE / 4 * 3).enumerate() {
                    if i > 0 {
                        self.out.extend_from_slice(b"\\n");
                    }
                    let mut text = [0_u8; BASE64_LINE];
                    let length = engine.encode_slice(line, &mut text).map_err(|_| JsonError::Malformed)?;
                    self.out.extend_from_slice(text.get(..length).unwrap_or_default());
                }
                self.out.push(b'"');
                Ok(())
            }
        }
    }

    /// `hh:mm:ss.ffffff`
    fn clock(&mut self, micros: u64) -> Result<(), JsonError> {
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(self.out, "{hour:02}:{minute:02}:{second:02}.{micros:06}").map_err(|_| JsonError::Malformed)
    }
}

/// The length of a string or opaque value: seven bits a byte, lowest first, at most 32 bits in all.
fn short_length(wire: &mut Wire<'_>) -> Result<usize, JsonError> {
    let mut length = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = wire.u8()?;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(length).map(|l| l as usize).map_err(|_| JsonError::Malformed);
        }
    }
    Err(JsonError::Malformed)
}

/// A double as *my_gcvt* prints it into a field wide enough for all its digits: the shortest digits that read back as the
/// same double, without exponent from 1e-15 up to below 1e15 (strings/dtoa.cc, MAX_DECPT_FOR_F_FORMAT), and where a seventeenth digit is a fraction
/// (as 9.7 prints it).
fn write_double(value: f64, out: &mut Vec<u8>) -> Result<(), JsonError> {
    if !value.is_finite() {
        return Err(JsonError::Malformed);
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    if value == 0.0 {
        out.extend_from_slice(b"0.0");
        return Ok(());
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().map_err(|_| JsonError::Malformed)?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = [0_u8; 32];
    let mut length = 0;
    for (place, digit) in digits.iter_mut().zip(whole.bytes().chain(fraction.bytes())) {
        *place = digit;
        length += 1;
    }
    let digits = digits.get(..length).and_then(|d| std::str::from_utf8(d).ok()).unwrap_or_default();
    let leading = digits.len() - digits.trim_start_matches('0').len();
    let digits = digits.trim_matches('0');
    // The value is 0.DIGITS x 10^point.
    let point = whole.len() as i32 - leading as i32 + exponent;

    let plain = (-14..=15).contains(&point) || (point == 16 && digits.len() > 16);
    if !plain {
        let (first, rest) = digits.split_at_checked(1).ok_or(JsonError::Malformed)?;
        out.extend_from_slice(first.as_bytes());
        if !rest.is_empty() {
            out.push(b'.');
            out.extend_from_slice(rest.as_bytes());
        }
        write!(out, "e{}", point - 1).map_err(|_| JsonError::Malformed)?;
    } else if let Ok(before) = usize::try_from(point) {
        if before == 0 {
            out.push(b'0');
        }
        let (whole, fraction) = digits.split_at_checked(before).unwrap_or((digits, ""));
        out.extend_from_slice(whole.as_bytes());
        out.extend(std::iter::repeat_n(b'0', before.saturating_sub(digits.len())));
        out.push(b'.');
        out.extend_from_slice(if fraction.is_empty() { b"0" } else { fraction.as_bytes() });
    } else {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', point.unsigned_abs() as usize));
        out.extend_from_slice(digits.as_bytes());
    }
    Ok(())
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
