//! Dates and times as documents and ids have them.

use crate::event::Value;
use crate::event::value::{Date, DateTime, Instant, Time};

const MICROS_PER_SECOND: u64 = 1_000_000;
const SECONDS_PER_DAY: u64 = 86_400;

/// `2026-11-23`; `false`, and nothing appended, for a date that no calendar knows: a zero in part, year 0 (below MySQL's
/// range, and refused by many date formats), or a day past its month's end (`ALLOW_INVALID_DATES`).
#[inline]
pub(super) fn date(date: Date, out: &mut Vec<u8>) -> bool {
    if date.is_zero_in_part()
        || !(1..=9999).contains(&date.year)
        || date.month > 12
        || date.day > month_length(date)
    {
        return false;
    }
    let [y1, y2] = pair((date.year / 100) as u8);
    let [y3, y4] = pair((date.year % 100) as u8);
    let ([m1, m2], [d1, d2]) = (pair(date.month), pair(date.day));
    out.extend_from_slice(&[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2]);
    true
}

/// `2026-11-23T06:47:08.120`; `false` as [`date`].
#[inline]
pub(super) fn date_time(value: DateTime, out: &mut Vec<u8>) -> bool {
    if value.micros >= SECONDS_PER_DAY * MICROS_PER_SECOND || !date(value.date, out) {
        return false;
    }
    out.push(b'T');
    clock(value.micros, out);
    fraction(value.micros % MICROS_PER_SECOND, value.decimals, out);
    true
}

/// `2026-11-23T06:47:08.120Z`; `false`, and nothing appended, for MySQL's zero TIMESTAMP and past the year 9999.
#[inline]
pub(super) fn instant(value: Instant, out: &mut Vec<u8>) -> bool {
    let days = value.micros / (SECONDS_PER_DAY * MICROS_PER_SECOND);
    if value.micros == 0 || days >= 2_932_897 {
        return false;
    }
    let micros = value.micros % (SECONDS_PER_DAY * MICROS_PER_SECOND);
    let known = date_time(DateTime { date: Date::of_day(days), micros, decimals: value.decimals }, out);
    if known {
        out.push(b'Z');
    }
    known
}

/// `0000-00-00`, `2026-02-31T06:47:08.120`, `0000-00-00T00:00:00Z`: a date that no calendar knows, as others are written; `false`, and nothing appended, for what is
/// no date.
pub(super) fn any_date(value: &Value<'_>, out: &mut Vec<u8>) -> bool {
    let (date, micros, decimals, zone) = match *value {
        Value::Date(date) => (date, None, 0, ""),
        Value::DateTime(DateTime { date, micros, decimals }) => (date, Some(micros), decimals, ""),
        Value::Instant(Instant { micros: 0, decimals }) => {
            (Date { year: 0, month: 0, day: 0 }, Some(0), decimals, "Z")
        }
        _ => return false,
    };
    let too_late = micros.is_some_and(|micros| micros >= SECONDS_PER_DAY * MICROS_PER_SECOND);
    if date.year > 9999 || date.month > 99 || date.day > 99 || too_late {
        return false;
    }
    out.extend_from_slice(format!("{:04}-{:02}-{:02}", date.year, date.month, date.day).as_bytes());
    if let Some(micros) = micros {
        out.push(b'T');
        clock(micros, out);
        fraction(micros % MICROS_PER_SECOND, decimals, out);
    }
    out.extend_from_slice(zone.as_bytes());
    true
}

/// `-838:59:59.000001`.
#[inline]
pub(super) fn time(value: Time, out: &mut Vec<u8>) {
    let micros = value.micros.unsigned_abs();
    if value.micros < 0 {
        out.push(b'-');
    }
    let hours = micros / (3_600 * MICROS_PER_SECOND);
    if hours < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(hours).as_bytes());
    let seconds = micros / MICROS_PER_SECOND % 3_600;
    let ([m1, m2], [s1, s2]) = (pair((seconds / 60) as u8), pair((seconds % 60) as u8));
    out.extend_from_slice(&[b':', m1, m2, b':', s1, s2]);
    fraction(micros % MICROS_PER_SECOND, value.decimals, out);
}

/// `06:47:08` of microseconds below a day.
#[inline]
fn clock(micros: u64, out: &mut Vec<u8>) {
    let seconds = (micros / MICROS_PER_SECOND) as u32;
    let [h1, h2] = pair((seconds / 3_600) as u8);
    let [m1, m2] = pair((seconds / 60 % 60) as u8);
    let [s1, s2] = pair((seconds % 60) as u8);
    out.extend_from_slice(&[h1, h2, b':', m1, m2, b':', s1, s2]);
}

/// `.120`: the first `decimals` digits, nothing for 0.
#[inline]
fn fraction(micros: u64, decimals: u8, out: &mut Vec<u8>) {
    if decimals == 0 {
        return;
    }
    let ([a, b], [c, d], [e, f]) =
        (pair((micros / 10_000) as u8), pair((micros / 100 % 100) as u8), pair((micros % 100) as u8));
    let digits = [b'.', a, b, c, d, e, f];
    out.extend_from_slice(&digits[..1 + usize::from(decimals.min(6))]);
}

/// The two digits of a number below 100.
#[inline]
fn pair(n: u8) -> [u8; 2] {
    [b'0' + n / 10 % 10, b'0' + n % 10]
}

fn month_length(date: Date) -> u8 {
    let leap =
        date.year.is_multiple_of(4) && (!date.year.is_multiple_of(100) || date.year.is_multiple_of(400));
    match date.month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_day_to_the_year_9999_follows_the_one_before() {
        let mut expected = Date { year: 1970, month: 1, day: 1 };
        for days in 0..2_932_897 {
            assert_eq!(Date::of_day(days), expected);
            assert_eq!(expected.day(), Some(days));
            expected.day += 1;
            if expected.day > month_length(expected) {
                expected = Date { year: expected.year, month: expected.month + 1, day: 1 };
            }
            if expected.month > 12 {
                expected = Date { year: expected.year + 1, month: 1, day: 1 };
            }
        }
        assert_eq!(expected.year, 10_000);
    }
}
