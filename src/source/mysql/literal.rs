//! A key's values as SQL that finds their row and no other.
//!
//! Text is spelt by its bytes under the name of its character set: what a conversion would make of it might not be equal to the column, and a row that is
//! not found is a row that is gone. Numbers are spelt with all digits, times in UTC as the [`session`](super::select::session) has it.

use std::fmt::Write as _;

use crate::event::Value;
use crate::event::value::{Date, DateTime, Time};

use super::decode::ColumnKind;
use super::wire::{big_endian, little_endian, signed};
use super::{fixed_binary, temporal};

/// Appends a value of a key column; `raw`: as it lies in a row image. `None`: it cannot be spelt, and `sql` holds a part.
pub fn push(sql: &mut String, kind: &ColumnKind, raw: &[u8]) -> Option<()> {
    match kind {
        ColumnKind::Signed => write!(sql, "{}", signed(raw)).ok(),
        // A SET's labels keep their numbers wherever an ALTER leaves documents right.
        ColumnKind::Unsigned | ColumnKind::Set(_) => write!(sql, "{}", little_endian(raw)).ok(),
        // By label: an ALTER may have given it another number by now.
        ColumnKind::Enum(labels) => match little_endian(raw) as usize {
            0 => write!(sql, "0").ok(),
            label => text(sql, labels.get(label - 1)?),
        },
        ColumnKind::Bit => write!(sql, "{}", big_endian(raw)).ok(),
        ColumnKind::Year => match little_endian(raw) {
            0 => write!(sql, "0").ok(),
            year => write!(sql, "{}", year + 1900).ok(),
        },
        // A FLOAT is compared as the DOUBLE that it equals.
        ColumnKind::Float => double(sql, f64::from(f32::from_le_bytes(raw.try_into().ok()?))),
        ColumnKind::Double => double(sql, f64::from_le_bytes(raw.try_into().ok()?)),
        ColumnKind::Decimal(decimal) => {
            sql.push_str(decimal.digits(raw)?.as_str());
            Some(())
        }
        ColumnKind::Date => {
            let Date { year, month, day } = temporal::date(raw)?;
            write!(sql, "'{year:04}-{month:02}-{day:02}'").ok()
        }
        ColumnKind::DateTime(decimals) => date_time(sql, temporal::date_time(raw, *decimals)?),
        ColumnKind::OldDateTime => date_time(sql, temporal::old_date_time(raw)?),
        ColumnKind::Timestamp(decimals) => {
            date_time(sql, temporal::utc_of(temporal::instant(raw, *decimals)?))
        }
        ColumnKind::OldTimestamp => date_time(sql, temporal::utc_of(temporal::old_instant(raw)?)),
        ColumnKind::Time(decimals) => time(sql, temporal::time(raw, *decimals)?),
        ColumnKind::OldTime => time(sql, temporal::old_time(raw)?),
        ColumnKind::Text(charset) => {
            // The server refuses a literal with bytes that are none of its character set.
            if charset.decode(raw, &mut String::new()).1 {
                return None;
            }
            // It is converted to the column's own set, where nothing is lost by it.
            write!(sql, "_{} ", charset.mysql_name()).ok()?;
            hex(sql, raw, raw.len())
        }
        ColumnKind::Bytes => hex(sql, raw, raw.len()),
        ColumnKind::PaddedBytes(length) => hex(sql, raw, *length),
        // No key can be over these.
        ColumnKind::CompressedText(_)
        | ColumnKind::CompressedBytes
        | ColumnKind::Json
        | ColumnKind::Geometry
        | ColumnKind::Vector => None,
        ColumnKind::Uuid => write!(sql, "'{}'", fixed_binary::uuid(raw)?.as_str()).ok(),
        ColumnKind::Inet4 => write!(sql, "'{}'", fixed_binary::inet4(raw)?.as_str()).ok(),
        ColumnKind::Inet6 => write!(sql, "'{}'", fixed_binary::inet6(raw)?.as_str()).ok(),
    }
}

/// Appends a value of a key column so that it can be compared as the column is ordered; `None` as for [`push`].
pub fn push_value(sql: &mut String, kind: &ColumnKind, value: &Value<'_>) -> Option<()> {
    match (kind, value) {
        // Ordered by their numbers, whatever their labels are.
        (ColumnKind::Enum(labels), Value::Enum(label)) => {
            let mut found =
                labels.iter().enumerate().filter(|(_, known)| known == label).map(|(place, _)| place + 1);
            match (found.next(), label.is_empty()) {
                // The error value reads alike.
                (Some(_), true) => None,
                (number, _) => write!(sql, "{}", number.or(label.is_empty().then_some(0))?).ok(),
            }
        }
        (ColumnKind::Set(labels), Value::Set(chosen)) => {
            let mut members = 0_u64;
            for label in chosen.split(',').filter(|label| !label.is_empty()) {
                let place = labels.iter().position(|known| known == label)?;
                members |= 1_u64.checked_shl(u32::try_from(place).ok()?)?;
            }
            write!(sql, "{members}").ok()
        }
        (ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6, Value::Text(printed)) => {
            let harmless = printed.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-.:".contains(&byte));
            harmless.then(|| write!(sql, "'{printed}'").ok())?
        }
        (_, Value::I64(number)) => write!(sql, "{number}").ok(),
        (_, Value::U64(number)) => write!(sql, "{number}").ok(),
        // Compared as the DOUBLE that it equals.
        (_, Value::F32(number)) => double(sql, f64::from(*number)),
        (_, Value::F64(number)) => double(sql, *number),
        (_, Value::Decimal(digits)) => {
            sql.push_str(digits);
            Some(())
        }
        (_, Value::Text(value)) => text(sql, value),
        (_, Value::Bytes(bytes)) => hex(sql, bytes, bytes.len()),
        (_, Value::Date(Date { year, month, day })) => write!(sql, "'{year:04}-{month:02}-{day:02}'").ok(),
        (_, Value::DateTime(value)) => date_time(sql, *value),
        (_, Value::Instant(value)) => date_time(sql, temporal::utc_of(*value)),
        (_, Value::Time(value)) => time(sql, *value),
        _ => None,
    }
}

fn double(sql: &mut String, value: f64) -> Option<()> {
    if value.is_finite() { write!(sql, "{value:e}").ok() } else { None }
}

fn date_time(sql: &mut String, value: DateTime) -> Option<()> {
    let DateTime { date: Date { year, month, day }, micros, .. } = value;
    write!(sql, "'{year:04}-{month:02}-{day:02} ").ok()?;
    clock(sql, micros)
}

fn time(sql: &mut String, value: Time) -> Option<()> {
    sql.push_str(if value.micros < 0 { "'-" } else { "'" });
    clock(sql, value.micros.unsigned_abs())
}

fn clock(sql: &mut String, micros: u64) -> Option<()> {
    let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
    write!(sql, "{:02}:{:02}:{:02}.{micros:06}'", seconds / 3600, seconds / 60 % 60, seconds % 60).ok()
}

fn text(sql: &mut String, value: &str) -> Option<()> {
    sql.push_str("_utf8mb4 ");
    hex(sql, value.as_bytes(), value.len())
}

/// `bytes` and as many zeros as bring them to `length`.
fn hex(sql: &mut String, bytes: &[u8], length: usize) -> Option<()> {
    sql.push_str("x'");
    for byte in bytes {
        write!(sql, "{byte:02x}").ok()?;
    }
    sql.extend(std::iter::repeat_n("00", length.saturating_sub(bytes.len())));
    sql.push('\'');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::charset::Charset;
    use super::*;

    fn spelt(kind: &ColumnKind, raw: &[u8]) -> Option<String> {
        let mut sql = String::new();
        push(&mut sql, kind, raw).map(|()| sql)
    }

    #[test]
    fn a_label_is_spelt_as_it_reads_and_several_by_their_number() {
        let labels = || ["a", "é", "b"].map(str::to_owned).to_vec().into_boxed_slice();
        for (kind, raw, expected) in [
            (ColumnKind::Enum(labels()), &[2][..], "_utf8mb4 x'c3a9'"),
            (ColumnKind::Enum(labels()), &[0], "0"),
            (ColumnKind::Set(labels()), &[5], "5"),
        ] {
            assert_eq!(spelt(&kind, raw).as_deref(), Some(expected), "{kind:?}");
        }
        assert_eq!(spelt(&ColumnKind::Enum(labels()), &[4]), None);
    }

    #[test]
    fn a_value_is_spelt_so_that_nothing_of_it_is_lost() {
        for (kind, raw, expected) in [
            (ColumnKind::Signed, &[0xff, 0xff, 0xff][..], "-1"),
            (ColumnKind::Unsigned, &[0xff; 8], "18446744073709551615"),
            (ColumnKind::Bit, &[1, 0], "256"),
            (ColumnKind::Year, &[0], "0"),
            (ColumnKind::Year, &[126], "2026"),
            (ColumnKind::Float, &1.1_f32.to_le_bytes(), "1.100000023841858e0"),
            (ColumnKind::Double, &5e-324_f64.to_le_bytes(), "5e-324"),
            (ColumnKind::Bytes, b"\x00'", "x'0027'"),
            (ColumnKind::PaddedBytes(4), b"a", "x'61000000'"),
            (ColumnKind::Text(Charset::Utf8), "é".as_bytes(), "_utf8mb4 x'c3a9'"),
            (ColumnKind::Text(Charset::of_collation(8).unwrap()), b"\x81", "_latin1 x'81'"),
            (ColumnKind::Text(Charset::of_collation(28).unwrap()), b"\xd6\xd0", "_gbk x'd6d0'"),
            (ColumnKind::Date, &[0, 0, 0], "'0000-00-00'"),
            (ColumnKind::OldTime, &(-8_385_959_i32).to_le_bytes()[..3], "'-838:59:59.000000'"),
            (ColumnKind::OldTimestamp, &1_795_392_001_u32.to_le_bytes(), "'2026-11-23 00:00:01.000000'"),
            (ColumnKind::OldTimestamp, &[0; 4], "'0000-00-00 00:00:00.000000'"),
        ] {
            assert_eq!(spelt(&kind, raw).as_deref(), Some(expected), "{kind:?}");
        }
        for (kind, raw) in [
            (ColumnKind::Text(Charset::Utf8), &b"a\xff"[..]),
            (ColumnKind::Double, &f64::NAN.to_le_bytes()),
            (ColumnKind::Json, b"\x04\x00"),
        ] {
            assert_eq!(spelt(&kind, raw), None, "{kind:?}");
        }
    }
}
