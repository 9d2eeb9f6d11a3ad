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
        self.tagged(tag::I64, zigzag(value));
    }

    #[inline]
    pub fn u64(&mut self, value: u64) {
        self.tagged(tag::U64, value);
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

    /// `digits`: ASCII, as MySQL prints a DECIMAL.
    #[inline]
    pub fn decimal(&mut self, digits: &[u8]) {
        debug_assert!(digits.is_ascii());
        self.string(tag::DECIMAL, digits);
    }

    #[inline]
    pub fn text(&mut self, text: &str) {
        self.string(tag::TEXT, text.as_bytes());
    }

    /// The same of text that is known to be ASCII.
    #[inline]
    pub fn ascii(&mut self, text: &[u8]) {
        debug_assert!(text.is_ascii());
        self.string(tag::TEXT, text);
    }

    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.string(tag::BYTES, bytes);
    }

    /// `bytes` followed by as many zeros as bring it to `length` bytes.
    #[inline]
    pub fn padded_bytes(&mut self, bytes: &[u8], length: usize) {
        let length = length.max(bytes.len());
        self.tagged(tag::BYTES, length as u64);
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
        let DateTime { date: Date { year, month, day }, micros, decimals } = value;
        if year > SHORT as u16 && micros > LONG {
            let ([x, y], [a, b, c, d, e, f, g, h]) = (year.to_le_bytes(), micros.to_le_bytes());
            let bytes = [tag::DATE_TIME, 251, x, y, month, day, 253, a, b, c, d, e, f, g, h, decimals];
            self.out.extend_from_slice(&bytes);
        } else {
            self.out.push(tag::DATE_TIME);
            encode(&value, self.out);
        }
    }

    #[inline]
    pub fn instant(&mut self, value: Instant) {
        self.tagged(tag::INSTANT, value.micros);
        self.out.push(value.decimals);
    }

    #[inline]
    pub fn time(&mut self, value: Time) {
        self.tagged(tag::TIME, zigzag(value.micros));
        self.out.push(value.decimals);
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
        self.tagged(tag::SET, length.saturating_sub(1) as u64);
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
        self.tagged(tag, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }

    /// A variant's index and bincode's variable-length unsigned integer.
    #[inline]
    fn tagged(&mut self, tag: u8, value: u64) {
        if value <= SHORT {
            self.out.extend_from_slice(&[tag, value as u8]);
        } else if let Ok(value) = u16::try_from(value) {
            let [a, b] = value.to_le_bytes();
            self.out.extend_from_slice(&[tag, 251, a, b]);
        } else if let Ok(value) = u32::try_from(value) {
            let [a, b, c, d] = value.to_le_bytes();
            self.out.extend_from_slice(&[tag, 252, a, b, c, d]);
        } else {
            let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
            self.out.extend_from_slice(&[tag, 253, a, b, c, d, e, f, g, h]);
        }
    }
}

/// The largest integer that bincode writes as one byte.
const SHORT: u64 = 250;

/// The largest one that it writes in fewer than nine.
const LONG: u64 = u32::MAX as u64;

/// bincode's zigzag: the sign in the lowest bit.
#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
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
        let mut value = Value::Null;
        self.next_into(&mut value)?;
        Ok(value)
    }

    /// The same in the place of `value`, for who reads many: one that is returned is written in parts and copied as a whole, for which the processor
    /// waits longer than for all else that it costs.
    ///
    /// # Errors
    /// As [`Row::next_value`]; `value` may be any then.
    #[inline]
    pub fn next_into(&mut self, value: &mut Value<'a>) -> Result<(), DecodeError> {
        match usual(self.bytes, value) {
            Some(rest) => self.bytes = rest,
            None => *value = self.any_value()?,
        }
        Ok(())
    }

    /// The same of whatever bincode reads a value from, and what is wrong with what it does not.
    #[cold]
    fn any_value(&mut self) -> Result<Value<'a>, DecodeError> {
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

/// Reads a value as bincode would, and returns what follows, without its steps for each byte; `None` for the rare ones and for what is none.
#[inline]
fn usual<'a>(bytes: &'a [u8], value: &mut Value<'a>) -> Option<&'a [u8]> {
    match *bytes {
        [tag::NULL, ref rest @ ..] => {
            *value = Value::Null;
            return Some(rest);
        }
        [tag::DATE, 251, x, y, month, day, ref rest @ ..] => {
            *value = Value::Date(Date { year: u16::from_le_bytes([x, y]), month, day });
            return Some(rest);
        }
        [tag::DATE_TIME, 251, x, y, month, day, 253, a, b, c, d, e, f, g, h, decimals, ref rest @ ..] => {
            let date = Date { year: u16::from_le_bytes([x, y]), month, day };
            let micros = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            *value = Value::DateTime(DateTime { date, micros, decimals });
            return Some(rest);
        }
        [tag::F64, a, b, c, d, e, f, g, h, ref rest @ ..] => {
            *value = Value::F64(f64::from_le_bytes([a, b, c, d, e, f, g, h]));
            return Some(rest);
        }
        [tag::F32 | tag::F64 | tag::DATE | tag::DATE_TIME | tag::GEOMETRY, ..] => return None,
        _ => {}
    }
    let (tag, number, rest) = tagged(bytes)?;
    *value = match tag {
        tag::I64 => Value::I64(unzigzag(number)),
        tag::U64 => Value::U64(number),
        tag::INSTANT => {
            let (&decimals, rest) = rest.split_first()?;
            *value = Value::Instant(Instant { micros: number, decimals });
            return Some(rest);
        }
        tag::TIME => {
            let (&decimals, rest) = rest.split_first()?;
            *value = Value::Time(Time { micros: unzigzag(number), decimals });
            return Some(rest);
        }
        _ => {
            let (bytes, rest) = rest.split_at_checked(usize::try_from(number).ok()?)?;
            let text = || std::str::from_utf8(bytes).ok();
            *value = match tag {
                tag::DECIMAL => Value::Decimal(text()?),
                tag::TEXT => Value::Text(text()?),
                tag::JSON => Value::Json(text()?),
                tag::ENUM => Value::Enum(text()?),
                tag::SET => Value::Set(text()?),
                tag::BYTES => Value::Bytes(bytes),
                tag::VECTOR => Value::Vector(bytes),
                _ => return None,
            };
            return Some(rest);
        }
    };
    Some(rest)
}

/// What [`RowWriter::tagged`] wrote, and what follows.
#[inline]
fn tagged(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (&[tag, first], rest) = bytes.split_first_chunk()?;
    let (number, rest) = match first {
        251 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from(u16::from_le_bytes(*bytes)), rest))?,
        252 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from(u32::from_le_bytes(*bytes)), rest))?,
        253 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from_le_bytes(*bytes), rest))?,
        254.. => return None,
        short => (u64::from(short), rest),
    };
    Some((tag, number, rest))
}

#[inline]
fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_bytes_are_they_read_as_bincode_reads_them(
            tag in 0..20_u8, first in prop_oneof![0..5_u8, 245..=255_u8], rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = vec![tag, first];
            bytes.extend(rest);
            for bytes in [&bytes[..], &bytes[..1]] {
                let mut row = Row::new(bytes);
                let plain = bincode::borrow_decode_from_slice::<Value<'_>, _>(bytes, CONFIG);
                match (row.next_value(), plain) {
                    (Ok(value), Ok((expected, used))) => {
                        // As text: what is no number is not equal to itself.
                        prop_assert_eq!(format!("{value:?}"), format!("{expected:?}"));
                        prop_assert_eq!(row.rest(), &bytes[used..]);
                    }
                    (read, expected) => prop_assert_eq!(read.is_ok(), expected.is_ok()),
                }
            }
        }
    }

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
        both(Value::Decimal("-12.30"), |w| w.decimal(b"-12.30"));
        let long = "x".repeat(70_000);
        for text in ["", "é🦀", &long[..251], &long] {
            both(Value::Text(text), |w| w.text(text));
            if text.is_ascii() {
                both(Value::Text(text), |w| w.ascii(text.as_bytes()));
            }
            both(Value::Bytes(text.as_bytes()), |w| w.bytes(text.as_bytes()));
            both(Value::Json(text), |w| w.json(text));
            both(Value::Enum(text), |w| w.enum_label(text));
        }
        both(Value::Bytes(b"a\0\0"), |w| w.padded_bytes(b"a", 3));
        let date = Date { year: 2026, month: 11, day: 23 };
        both(Value::Date(date), |w| w.date(date));
        for micros in [0, 250, 251, 65_536, LONG, LONG + 1, 86_399_999_999] {
            for year in [0, 250, 251, 9999] {
                let value = DateTime { date: Date { year, month: 0, day: 31 }, micros, decimals: 3 };
                both(Value::DateTime(value), |w| w.date_time(value));
            }
            let instant = Instant { micros, decimals: 6 };
            both(Value::Instant(instant), |w| w.instant(instant));
            let time = Time { micros: -(micros as i64), decimals: 0 };
            both(Value::Time(time), |w| w.time(time));
        }
        let time = Time { micros: 3_020_399_999_999, decimals: 6 };
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
