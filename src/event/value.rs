//! One column of one row, in nobody's dialect.
//!
//! The same enum carries the binlog's row images and, in its bincode form, the log's bytes
//! ([`codec`](super::codec)). Values keep what the source had (zero dates, exact decimal digits); what becomes of
//! them in a document is the mapping's decision.

use bincode::{BorrowDecode, Decode, Encode};

/// A column's value, borrowing from the bytes it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Encode, BorrowDecode)]
pub enum Value<'a> {
    Null,
    I64(i64),
    /// Unsigned integers, YEAR and BIT.
    U64(u64),
    F32(f32),
    F64(f64),
    /// Decimal digits as MySQL prints them: `-12.30`.
    Decimal(&'a str),
    Text(&'a str),
    Bytes(&'a [u8]),
    Date(Date),
    DateTime(DateTime),
    Instant(Instant),
    Time(Time),
    /// JSON text, as the server prints it.
    Json(&'a str),
    /// An ENUM's label; index 0 (the error value) is `""`.
    Enum(&'a str),
    /// A SET's labels joined by commas (no label can contain one); the empty set is `""`.
    Set(&'a str),
    Geometry(Geometry<'a>),
    /// f32 in little-endian order, four bytes each.
    Vector(&'a [u8]),
}

/// A geometry as its source keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, BorrowDecode)]
pub struct Geometry<'a> {
    /// Number of the spatial reference system; 0 is a plane without units.
    pub srid: u32,
    /// Well-known binary ([`wkb`](super::wkb)), whole: x then y, which a geographic system calls longitude and latitude.
    pub wkb: &'a [u8],
}

/// A calendar date; month and day may be 0, year 0 with both 0 is MySQL's zero date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Date {
    /// 0 to 9999.
    pub year: u16,
    /// 0 to 12.
    pub month: u8,
    /// 0 to 31.
    pub day: u8,
}

impl Date {
    /// The date that is `days` after 1970-01-01, below the year 10000: Howard Hinnant, "chrono-Compatible Low-Level Date
    /// Algorithms", `civil_from_days`, for days that are not negative.
    #[must_use]
    pub fn of_day(days: u64) -> Date {
        let z = days + 719_468;
        let era = z / 146_097;
        let doe = z % 146_097;
        let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + u64::from(month <= 2);
        Date { year: year as u16, month: month as u8, day: day as u8 }
    }

    /// Days since 1970-01-01: `days_from_civil` of the same; `None` before, and where it is zero in part.
    #[must_use]
    pub fn day(self) -> Option<u64> {
        if self.is_zero_in_part() {
            return None;
        }
        // Years that begin in March, so that a leap day is a year's last.
        let month = u64::from(self.month);
        let year = u64::from(self.year).checked_sub(u64::from(month < 3))?;
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + u64::from(self.day) - 1;
        (365 * year + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)
    }

    /// A month or day of 0: no calendar knows this day.
    #[must_use]
    pub fn is_zero_in_part(self) -> bool {
        self.month == 0 || self.day == 0
    }
}

/// A date with a time of day and no time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct DateTime {
    pub date: Date,
    /// Microseconds since midnight, below 86,400,000,000.
    pub micros: u64,
    /// Digits after the second that the column keeps, 0 to 6.
    pub decimals: u8,
}

/// A point in time, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Instant {
    /// Microseconds since 1970-01-01T00:00:00Z; 0 is MySQL's zero TIMESTAMP, which no real one equals.
    pub micros: u64,
    /// Digits after the second that the column keeps, 0 to 6.
    pub decimals: u8,
}

/// A signed duration, MySQL's TIME: -838:59:59.999999 to 838:59:59.999999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Time {
    /// Microseconds, negative before midnight.
    pub micros: i64,
    /// Digits after the second that the column keeps, 0 to 6.
    pub decimals: u8,
}
