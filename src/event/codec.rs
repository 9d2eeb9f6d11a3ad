//! Rows as bytes.
//!
//! # Constraints
//!
//! A source writes a row's values one by one, straight from its own bytes, without a structure in between and without
//! an allocation per column. A reader borrows them back the same way, and may stop early.
//!
//! # Format
//!
//! A row is its columns' [`Value`]s one after the other in bincode 2's standard configuration: the variant's index as a
//! varint, then the fields. Nothing says how many there are: the table's schema does. Any [`Value`] encoded by its derived
//! `Encode` gives the same bytes as the [`RowWriter`]'s method for it (a test holds that).

use bincode::config::{Configuration, standard};
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use bincode::{Decode, Encode};

use super::value::{Date, DateTime, Geometry, Instant, Time, Value};

/// The one bincode configuration of the log: little-endian, variable-length integers.
pub const CONFIG: Configuration = standard();

/// Appends to a byte vector; never fails.
struct Append<'a>(&'a mut Vec<u8>);

impl Writer for Append<'_> {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends `value`'s bincode form to `out`.
#[inline]
pub fn encode<T: Encode>(value: &T, out: &mut Vec<u8>) {
    bincode::encode_into_writer(value, Append(out), CONFIG)
        .expect("appending to a vector does not fail, and no encoded type has a case of its own that does");
}

/// Decodes a `T` from the start of `bytes`, allocating at most `LIMIT` bytes, and returns it with what follows it.
///
/// # Errors
/// Whatever bincode finds wrong: too short, an unknown variant, not UTF-8, over the limit.
pub fn decode_owned<T: Decode<()>, const LIMIT: usize>(bytes: &[u8]) -> Result<(T, &[u8]), DecodeError> {
    let (value, used) = bincode::decode_from_slice(bytes, CONFIG.with_limit::<LIMIT>())?;
    Ok((value, &bytes[used..]))
}

/// Writes one row's values in column order to the end of a byte vector.
pub struct RowWriter<'a> {
    out: &'a mut Vec<u8>,
}

/// Variant indices of [`Value`], in its order.
mod tag {
    pub const NULL: u8 = 0;
    pub const I64: u8 = 1;
    pub const U64: u8 = 2;
    pub const F32: u8 = 3;
    pub const F64: u8 = 4;
    pub const DECIMAL: u8 = 5;
    pub const TEXT: u8 = 6;
    pub const BYTES: u8 = 7;
    pub const DATE: u8 = 8;
    pub const DATE_TIME: u8 = 9;
    pub const INSTANT: u8 = 10;
    pub const TIME: u8 = 11;
    pub const JSON: u8 = 12;
    pub const ENUM: u8 = 13;
    pub const SET: u8 = 14;
    pub const GEOMETRY: u8 = 15;
    pub const VECTOR: u8 = 16;
}

impl<'a> RowWriter<'a> {
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>) -> RowWriter<'a> {
        RowWriter { out }
    }

    #[inline]
    pub fn null(&mut self) {
        self.out.push(tag::NULL);
    }

    #[inline]
    pub fn i64(&mut self, value: i64) {
        self.out.push(tag::I64);
        // bincode's zigzag: the sign in the lowest bit.
        self.varint(((value << 1) ^ (value >> 63)) as u64);
    }

    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.out.push(tag::U64);
        self.varint(value);
    }

    #[inline]
    pub fn f32(&mut self, value: f32) {
        self.out.push(tag::F32);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    #[inline]
    pub fn f64(&mut self, value: f64) {
        self.out.push(tag::F64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// `digits`: as MySQL prints a DECIMAL.
    #[inline]
    pub fn decimal(&mut self, digits: &str) {
        self.string(tag::DECIMAL, digits.as_bytes());
    }

    #[inline]
    pub fn text(&mut self, text: &str) {
        self.string(tag::TEXT, text.as_bytes());
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.string(tag::BYTES, bytes);
    }

    /// `bytes` followed by as many zeros as bring it to `length` bytes.
    #[inline]
    pub fn padded_bytes(&mut self, bytes: &[u8], length: usize) {
        let length = length.max(bytes.len());
        self.out.push(tag::BYTES);
        self.varint(length as u64);
        self.out.extend_from_slice(bytes);
        self.out.resize(self.out.len() + (length - bytes.len()), 0);
    }

    #[inline]
    pub fn date(&mut self, date: Date) {
        self.out.push(tag::DATE);
        encode(&date, self.out);
    }

    #[inline]
    pub fn date_time(&mut self, value: DateTime) {
        self.out.push(tag::DATE_TIME);
        encode(&value, self.out);
    }

    #[inline]
    pub fn instant(&mut self, value: Instant) {
        self.out.push(tag::INSTANT);
        encode(&value, self.out);
    }

    #[inline]
    pub fn time(&mut self, value: Time) {
        self.out.push(tag::TIME);
        encode(&value, self.out);
    }

    #[inline]
    pub fn json(&mut self, text: &str) {
        self.string(tag::JSON, text.as_bytes());
    }

    #[inline]
    pub fn enum_label(&mut self, label: &str) {
        self.string(tag::ENUM, label.as_bytes());
    }

    /// The labels at the set bits of `members`, joined by commas.
    pub fn set_labels<'l>(&mut self, labels: impl Iterator<Item = &'l str> + Clone) {
        let length: usize = labels.clone().map(|label| label.len() + 1).sum();
        self.out.push(tag::SET);
        self.varint(length.saturating_sub(1) as u64);
        for (i, label) in labels.enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(label.as_bytes());
        }
    }

    #[inline]
    pub fn geometry(&mut self, value: Geometry<'_>) {
        self.out.push(tag::GEOMETRY);
        encode(&value, self.out);
    }

    /// `packed`: f32 in little-endian order.
    #[inline]
    pub fn vector(&mut self, packed: &[u8]) {
        self.string(tag::VECTOR, packed);
    }

    /// Any value; the methods above write the same bytes faster.
    pub fn value(&mut self, value: &Value<'_>) {
        encode(value, self.out);
    }

    #[inline]
    fn string(&mut self, tag: u8, bytes: &[u8]) {
        self.out.push(tag);
        self.varint(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// bincode's variable-length unsigned integer.
    #[inline]
    fn varint(&mut self, value: u64) {
        if value <= 250 {
            self.out.push(value as u8);
        } else if let Ok(value) = u16::try_from(value) {
            let [a, b] = value.to_le_bytes();
            self.out.extend_from_slice(&[251, a, b]);
        } else if let Ok(value) = u32::try_from(value) {
            let [a, b, c, d] = value.to_le_bytes();
            self.out.extend_from_slice(&[252, a, b, c, d]);
        } else {
            self.out.push(253);
            self.out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// One row's bytes, read value by value.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    bytes: &'a [u8],
}

impl<'a> Row<'a> {
    /// `bytes`: values as [`RowWriter`] wrote them; more may follow the row's last column.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Row<'a> {
        Row { bytes }
    }

    /// The next column's value, borrowed.
    ///
    /// # Errors
    /// The bytes end, or are no value.
    #[inline]
    pub fn next_value(&mut self) -> Result<Value<'a>, DecodeError> {
        let (value, used) = bincode::borrow_decode_from_slice(self.bytes, CONFIG)?;
        self.bytes = &self.bytes[used..];
        Ok(value)
    }

    /// What follows the values read so far.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(value: Value<'_>, write: impl FnOnce(&mut RowWriter<'_>)) {
        let (mut derived, mut written) = (Vec::new(), Vec::new());
        RowWriter::new(&mut derived).value(&value);
        write(&mut RowWriter::new(&mut written));
        assert_eq!(derived, written, "{value:?}");
        let mut row = Row::new(&written);
        assert_eq!(row.next_value().unwrap(), value);
        assert!(row.rest().is_empty());
    }

    #[test]
    fn each_writer_method_writes_what_the_derived_encoding_writes() {
        both(Value::Null, |w| w.null());
        for v in [0, 1, -1, 125, -126, 250, 251, 65_535, 65_536, i64::MAX, i64::MIN] {
            both(Value::I64(v), |w| w.i64(v));
            both(Value::U64(v as u64), |w| w.u64(v as u64));
        }
        both(Value::F32(1.5), |w| w.f32(1.5));
        both(Value::F64(-0.0), |w| w.f64(-0.0));
        both(Value::Decimal("-12.30"), |w| w.decimal("-12.30"));
        let long = "x".repeat(70_000);
        for text in ["", "é🦀", &long[..251], &long] {
            both(Value::Text(text), |w| w.text(text));
            both(Value::Bytes(text.as_bytes()), |w| w.bytes(text.as_bytes()));
            both(Value::Json(text), |w| w.json(text));
            both(Value::Enum(text), |w| w.enum_label(text));
        }
        both(Value::Bytes(b"a\0\0"), |w| w.padded_bytes(b"a", 3));
        let date = Date { year: 2026, month: 11, day: 23 };
        both(Value::Date(date), |w| w.date(date));
        let date_time = DateTime { date, micros: 86_399_999_999, decimals: 3 };
        both(Value::DateTime(date_time), |w| w.date_time(date_time));
        let instant = Instant { micros: 1_763_880_000_000_000, decimals: 6 };
        both(Value::Instant(instant), |w| w.instant(instant));
        let time = Time { micros: -3_020_399_999_999, decimals: 6 };
        both(Value::Time(time), |w| w.time(time));
        for srid in [0, 4326, u32::MAX] {
            let geometry = Geometry { srid, wkb: &[1, 2, 3] };
            both(Value::Geometry(geometry), |w| w.geometry(geometry));
        }
        both(Value::Vector(&[0, 0, 0x80, 0x3f]), |w| w.vector(&[0, 0, 0x80, 0x3f]));
        both(Value::Set(""), |w| w.set_labels([].into_iter()));
        both(Value::Set("a,b"), |w| w.set_labels(["a", "b"].into_iter()));
    }

    #[test]
    fn a_cut_row_is_an_error_at_every_length() {
        let mut bytes = Vec::new();
        RowWriter::new(&mut bytes).text("emoji 🦀");
        for length in 0..bytes.len() {
            assert!(Row::new(&bytes[..length]).next_value().is_err(), "{length}");
        }
    }
}
