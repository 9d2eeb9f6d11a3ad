//! Dates and times: MySQL's packed forms as [`event::value`](crate::event::value) types.
//!
//! Formats: MySQL, mysys/my_time.cc (*my_datetime_packed_from_binary* and its siblings); the forms before 5.6.4 are
//! Field_timestamp, Field_time and Field_datetime of sql/field.cc, which tables keep until they are rebuilt.
//! Every function returns `None` for bytes that are no such value.

use crate::event::value::{Date, DateTime, Instant, Time};

use super::wire::{big_endian, little_endian};

const SECOND: u64 = 1_000_000;

/// Bytes that `decimals` digits after the second take.
#[inline]
#[must_use]
pub fn fraction_bytes(decimals: u8) -> usize {
    usize::from(decimals).div_ceil(2)
}

/// Microseconds from a fraction's bytes.
#[inline]
fn micros(fraction: &[u8]) -> Option<u64> {
    let value = big_endian(fraction);
    let micros = match fraction.len() {
        0 => 0,
        1 => value * 10_000,
        2 => value * 100,
        _ => value,
    };
    (micros < SECOND).then_some(micros)
}

/// DATE: three bytes, year 15 bits, month 4, day 5.
#[inline]
#[must_use]
pub fn date(bytes: &[u8]) -> Option<Date> {
    let value = little_endian(bytes) as u32;
    checked_date(value >> 9, value >> 5 & 15, value & 31)
}

fn checked_date(year: u32, month: u32, day: u32) -> Option<Date> {
    if year > 9999 || month > 12 || day > 31 {
        return None;
    }
    Some(Date { year: year as u16, month: month as u8, day: day as u8 })
}

fn checked_time_of_day(hour: u64, minute: u64, second: u64, micros: u64) -> Option<u64> {
    if hour > 23 || minute > 59 || second > 59 || micros >= SECOND {
        return None;
    }
    Some(((hour * 60 + minute) * 60 + second) * SECOND + micros)
}

/// DATETIME since 5.6.4: five bytes of date and time, then the fraction.
#[inline]
#[must_use]
pub fn date_time(bytes: &[u8], decimals: u8) -> Option<DateTime> {
    let (whole, fraction) = bytes.split_at_checked(5)?;
    let packed = big_endian(whole).checked_sub(0x80_0000_0000)?;
    from_packed(packed, micros(fraction)?, decimals)
}

/// A DATETIME from its packed integer part: year x 13 + month, 5 bits of day, 5 of hour, 6 of minute, 6 of second.
#[inline]
fn from_packed(packed: u64, micros: u64, decimals: u8) -> Option<DateTime> {
    let (day, year_month) = (packed >> 17 & 31, packed >> 22);
    let date = checked_date(u32::try_from(year_month / 13).ok()?, (year_month % 13) as u32, day as u32)?;
    let micros = checked_time_of_day(packed >> 12 & 31, packed >> 6 & 63, packed & 63, micros)?;
    Some(DateTime { date, micros, decimals })
}

/// DATETIME before 5.6.4: eight bytes, the decimal digits YYYYMMDDhhmmss.
#[must_use]
pub fn old_date_time(bytes: &[u8]) -> Option<DateTime> {
    let value = little_endian(bytes);
    let (day, time) = (value / 1_000_000, value % 1_000_000);
    let date = checked_date(u32::try_from(day / 10_000).ok()?, (day / 100 % 100) as u32, (day % 100) as u32)?;
    let micros = checked_time_of_day(time / 10_000, time / 100 % 100, time % 100, 0)?;
    Some(DateTime { date, micros, decimals: 0 })
}

/// TIMESTAMP since 5.6.4: four bytes of seconds, then the fraction.
#[inline]
#[must_use]
pub fn instant(bytes: &[u8], decimals: u8) -> Option<Instant> {
    let (seconds, fraction) = bytes.split_at_checked(4)?;
    Some(Instant { micros: big_endian(seconds) * SECOND + micros(fraction)?, decimals })
}

/// TIMESTAMP before 5.6.4: four bytes of seconds, little-endian.
#[must_use]
pub fn old_instant(bytes: &[u8]) -> Option<Instant> {
    let seconds = u32::from_le_bytes(bytes.try_into().ok()?);
    Some(Instant { micros: u64::from(seconds) * SECOND, decimals: 0 })
}

/// TIME since 5.6.4: three bytes and the fraction, as one number whose middle is zero.
#[inline]
#[must_use]
pub fn time(bytes: &[u8], decimals: u8) -> Option<Time> {
    let fraction = bytes.len().checked_sub(3)?;
    if fraction > 3 {
        return None;
    }
    let bits = fraction as u32 * 8;
    // Below zero the fraction counts down from the next whole second: the difference to the middle, made positive,
    // has whole and fraction apart again.
    let value = i64::try_from(big_endian(bytes)).ok()? - (0x80_0000 << bits);
    let magnitude = value.unsigned_abs();
    let fraction = big_endian_tail(magnitude, fraction)?;
    from_packed_time(magnitude >> bits, fraction, value < 0, decimals)
}

/// Microseconds in the lowest `bytes` bytes of `value`.
fn big_endian_tail(value: u64, bytes: usize) -> Option<u64> {
    micros(value.to_be_bytes().get(8_usize.checked_sub(bytes)?..)?)
}

/// A TIME from its packed integer part: 10 bits of hour, 6 of minute, 6 of second.
fn from_packed_time(packed: u64, micros: u64, negative: bool, decimals: u8) -> Option<Time> {
    let (hour, minute, second) = (packed >> 12 & 1023, packed >> 6 & 63, packed & 63);
    if packed >> 22 != 0 || hour > 838 {
        return None;
    }
    let in_hour = checked_time_of_day(0, minute, second, micros)?;
    let micros = i64::try_from(hour * 3_600 * SECOND + in_hour).ok()?;
    Some(Time { micros: if negative { -micros } else { micros }, decimals })
}

/// TIME before 5.6.4: three bytes, signed, the decimal digits hhhmmss.
#[must_use]
pub fn old_time(bytes: &[u8]) -> Option<Time> {
    let value = little_endian(bytes) as u32;
    // Sign-extended from 24 bits.
    let value = i64::from((value << 8) as i32 >> 8);
    let magnitude = value.unsigned_abs();
    let packed = (magnitude / 10_000) << 12 | (magnitude / 100 % 100) << 6 | (magnitude % 100);
    from_packed_time(packed, 0, value < 0, 0)
}

/// DATE, DATETIME or TIMESTAMP inside a JSON document: the packed integer part above 24 bits of microseconds.
#[must_use]
pub fn json_date_time(packed: i64) -> Option<DateTime> {
    let packed = u64::try_from(packed).ok()?;
    from_packed(packed >> 24, packed & 0xff_ffff, 6)
}

/// TIME inside a JSON document: alike, signed.
#[must_use]
pub fn json_time(packed: i64) -> Option<Time> {
    let magnitude = packed.unsigned_abs();
    from_packed_time(magnitude >> 24, magnitude & 0xff_ffff, packed < 0, 6)
}

/// A DATETIME from year, month and day, hour, minute and second, and microseconds.
#[must_use]
pub fn from_parts(date: (u16, u8, u8), clock: (u8, u8, u8), micros: u32, decimals: u8) -> Option<DateTime> {
    let date = checked_date(date.0.into(), date.1.into(), date.2.into())?;
    let micros = checked_time_of_day(clock.0.into(), clock.1.into(), clock.2.into(), micros.into())?;
    Some(DateTime { date, micros, decimals })
}

/// A TIME from its parts.
#[must_use]
pub fn time_from_parts(
    negative: bool,
    days: u32,
    clock: (u8, u8, u8),
    micros: u32,
    decimals: u8,
) -> Option<Time> {
    let in_day = checked_time_of_day(clock.0.into(), clock.1.into(), clock.2.into(), micros.into())?;
    // -838:59:59.999999 to 838:59:59.999999
    if days > 34 || u64::from(days) * 86_400 * SECOND + in_day >= 839 * 3_600 * SECOND {
        return None;
    }
    let micros = i64::try_from(u64::from(days) * 86_400 * SECOND + in_day).ok()?;
    Some(Time { micros: if negative { -micros } else { micros }, decimals })
}

/// A TIMESTAMP from the date and time that it is in UTC.
#[must_use]
pub fn instant_of(value: DateTime) -> Option<Instant> {
    let DateTime { date, micros, decimals } = value;
    if (date, micros) == (Date { year: 0, month: 0, day: 0 }, 0) {
        return Some(Instant { micros: 0, decimals });
    }
    Some(Instant { micros: date.day()? * 86_400 * SECOND + micros, decimals })
}

/// The date and time of a TIMESTAMP in UTC.
#[must_use]
pub fn utc_of(value: Instant) -> DateTime {
    let Instant { micros, decimals } = value;
    let date = match micros {
        0 => Date { year: 0, month: 0, day: 0 },
        _ => Date::of_day(micros / (86_400 * SECOND)),
    };
    DateTime { date, micros: micros % (86_400 * SECOND), decimals }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros_of(hour: i64, minute: i64, second: i64, micros: i64) -> i64 {
        ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
    }

    #[test]
    fn dates_keep_their_zeros() {
        let pack = |y: u32, m: u32, d: u32| (y << 9 | m << 5 | d).to_le_bytes();
        assert_eq!(date(&pack(2026, 11, 23)[..3]), Some(Date { year: 2026, month: 11, day: 23 }));
        assert_eq!(date(&[0, 0, 0]), Some(Date { year: 0, month: 0, day: 0 }));
        assert_eq!(date(&pack(9999, 12, 31)[..3]), Some(Date { year: 9999, month: 12, day: 31 }));
        assert_eq!(date(&pack(2026, 13, 1)[..3]), None);
        assert_eq!(date(&pack(10_000, 1, 1)[..3]), None);
    }

    #[test]
    fn date_times_have_their_fraction() {
        let packed: u64 = (2026 * 13 + 11) << 22 | 23 << 17 | 14 << 12 | 50 << 6 | 36;
        let mut bytes = (packed + 0x80_0000_0000).to_be_bytes()[3..].to_vec();
        let expected = |micros, decimals| {
            let date = Date { year: 2026, month: 11, day: 23 };
            Some(DateTime { date, micros: micros_of(14, 50, 36, micros) as u64, decimals })
        };
        assert_eq!(date_time(&bytes, 0), expected(0, 0));
        bytes.push(12);
        assert_eq!(date_time(&bytes, 2), expected(120_000, 2));
        bytes.pop();
        bytes.extend_from_slice(&[0x01, 0xe2, 0x40]);
        assert_eq!(date_time(&bytes, 6), expected(123_456, 6));
        assert_eq!(date_time(&[0x80, 0, 0, 0, 0], 0).unwrap().date.year, 0);
        assert_eq!(date_time(&[0x7f, 0, 0, 0, 0], 0), None);
        assert_eq!(old_date_time(&20_261_123_145_036_u64.to_le_bytes()), expected(0, 0));
    }

    #[test]
    fn instants_count_microseconds() {
        assert_eq!(instant(&[0, 0, 0, 0], 0), Some(Instant { micros: 0, decimals: 0 }));
        let late = Some(Instant { micros: u64::from(u32::MAX) * 1_000_000 + 999_900, decimals: 4 });
        assert_eq!(instant(&[0xff, 0xff, 0xff, 0xff, 0x27, 0x0f], 4), late);
        assert_eq!(old_instant(&[1, 0, 0, 0]).unwrap().micros, 1_000_000);
    }

    #[test]
    fn times_below_zero_count_their_fraction_down() {
        // MySQL, my_time.cc, the table above my_time_packed_from_binary: '-00:00:01.10' and its neighbours.
        for (bytes, micros) in [
            (&[0x80, 0x00, 0x00, 0x00][..], 0),
            (&[0x7f, 0xff, 0xff, 0xff], -10_000),
            (&[0x7f, 0xff, 0xff, 0x9d], -990_000),
            (&[0x7f, 0xff, 0xff, 0x00], -1_000_000),
            (&[0x7f, 0xff, 0xfe, 0xff], -1_010_000),
            (&[0x7f, 0xff, 0xfe, 0xf6], -1_100_000),
            (&[0x80, 0x00, 0x01, 0x0a], 1_100_000),
        ] {
            assert_eq!(time(bytes, 2), Some(Time { micros, decimals: 2 }), "{bytes:x?}");
        }
        let packed: i64 = 838 << 12 | 59 << 6 | 59;
        let most = (packed + 0x80_0000).to_be_bytes();
        assert_eq!(time(&most[5..], 0).unwrap().micros, micros_of(838, 59, 59, 0));
        let least = (0x8000_0000_0000 - (packed << 24)).to_be_bytes();
        assert_eq!(time(&least[2..], 6).unwrap().micros, -micros_of(838, 59, 59, 0));
        let before_5_6 = (-8_385_959_i32).to_le_bytes();
        assert_eq!(old_time(&before_5_6[..3]).unwrap().micros, -micros_of(838, 59, 59, 0));
    }

    #[test]
    fn instants_come_from_their_parts_in_utc() {
        let instant = |date, clock, micros| {
            from_parts(date, clock, micros, 6).and_then(instant_of).map(|instant| instant.micros)
        };
        assert_eq!(instant((0, 0, 0), (0, 0, 0), 0), Some(0));
        for (date, seconds) in [
            ((1970, 1, 1), 0),
            ((1972, 2, 29), 68_169_600),
            ((1999, 12, 31), 946_598_400),
            ((2000, 3, 1), 951_868_800),
            ((2026, 11, 23), 1_795_392_000),
            ((2038, 1, 19), 2_147_472_000),
        ] {
            let micros = instant(date, (0, 0, 1), 5);
            assert_eq!(micros, Some((seconds + 1) * SECOND + 5), "{date:?}");
            let back = utc_of(Instant { micros: micros.unwrap(), decimals: 6 });
            assert_eq!(Some(back), from_parts(date, (0, 0, 1), 5, 6));
        }
        assert_eq!(instant((1969, 12, 31), (0, 0, 0), 0), None);
        assert_eq!(instant((1970, 0, 1), (0, 0, 0), 0), None);
        assert_eq!(from_parts((2026, 1, 1), (24, 0, 0), 0, 0), None);
        let most = time_from_parts(true, 34, (22, 59, 59), 999_999, 6).unwrap();
        assert_eq!(most.micros, -micros_of(838, 59, 59, 999_999));
        assert_eq!(time_from_parts(false, 34, (23, 0, 0), 0, 0), None);
        assert_eq!(time_from_parts(false, u32::MAX, (23, 59, 59), 0, 0), None);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for a in 0..=255_u8 {
            for length in 0..9 {
                let bytes = [a, !a, a, a ^ 0x55, a, 255, a, 0, 9];
                let bytes = &bytes[..length];
                for decimals in 0..=6 {
                    let _ = (date_time(bytes, decimals), instant(bytes, decimals), time(bytes, decimals));
                }
                let _ = (date(bytes), old_date_time(bytes), old_time(bytes), old_instant(bytes));
                let packed = little_endian(bytes) as i64;
                let _ = (json_date_time(packed), json_time(packed));
            }
        }
    }
}
