//! Rows read by SELECT, as the bytes that the stream would have written for them.
//!
//! # Constraints
//!
//! A row that nobody changes in between is the same bytes whether it comes from a row image ([`decode`](super::decode)) or from here: what a document
//! says does not depend on how its row was read. No allocation per column or row.
//!
//! # Format
//!
//! The binary protocol ([`link::prepared`](super::link::prepared)): numbers little-endian, strings behind their length, DECIMAL as digits, dates and times
//! as their parts behind how many of them there are (MySQL, *Protocol_binary*, sql/protocol_classic.cc). FLOAT comes as it is stored, where the text protocol
//! rounds it. Text comes in its column's own character set, since the [`session`] asks for no conversion, and goes through the same
//! [`charset`](super::charset) as the stream's; so do labels, which the server spells out. JSON comes as the text that
//! [`json`](super::json) writes.
//!
//! # Operation
//!
//! [`list`] is what a statement asks for. A [`RowReader`] is made from a table's plan and what the server says of the answer's columns: where the two do not agree
//! the table is no longer what the plan says ([`Differs`]). It takes rows one after the other.

use std::ops::Range;

use crate::event::TableSchema;
use crate::event::codec::RowWriter;
use crate::event::value::{DateTime, Time};

use super::charset::Charset;
use super::decode::{ColumnKind, MAX_KEY_PARTS, RowPlan, Store, geometry};
use super::link::prepared::Definition;
use super::server::Family;
use super::temporal;
use super::wire::{Short, Wire, big_endian, bit};

/// What a session needs so that its rows are the stream's, and that no setting of the server's changes what a SELECT finds or how long it may
/// take.
#[must_use]
pub fn session(family: Family) -> [&'static str; 3] {
    [
        // DEFAULT would be what the server's own settings say: a row behind a limit would be taken for one that is gone.
        "SET SESSION time_zone = '+00:00', sql_mode = '', character_set_results = NULL, autocommit = ON, sql_select_limit = 18446744073709551615, \
         net_write_timeout = 600",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        match family {
            // Without a limit: beyond it the server would read the whole table.
            Family::Mysql => "SET SESSION max_execution_time = 0, range_optimizer_max_mem_size = 0",
            Family::Mariadb => "SET SESSION max_statement_time = 0",
        },
    ]
}

/// A flag of a column's definition (MySQL, include/mysql_com.h).
const UNSIGNED: u16 = 32;
const ENUM: u16 = 256;
const SET: u16 = 2048;

/// The columns of a table in row order, as a SELECT names them.
#[must_use]
pub fn list(schema: &TableSchema) -> String {
    let mut list = String::new();
    for column in &schema.columns {
        if !list.is_empty() {
            list.push_str(", ");
        }
        push_name(&mut list, &column.name);
    }
    list
}

/// `schema.table`, quoted.
#[must_use]
pub fn table(schema: &TableSchema) -> String {
    let mut name = String::new();
    push_name(&mut name, &schema.name.schema);
    name.push('.');
    push_name(&mut name, &schema.name.table);
    name
}

/// A name in backticks.
pub fn push_name(sql: &mut String, name: &str) {
    sql.push('`');
    for c in name.chars() {
        if c == '`' {
            sql.push('`');
        }
        sql.push(c);
    }
    sql.push('`');
}

/// A column that a table does not have as its plan says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("column {column} is of another type now")]
pub struct Differs {
    /// Index in the plan.
    pub column: usize,
}

/// A row that cannot become log bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("it ends early, or goes on after its end")]
    Short,
    #[error("column {column} holds bytes that are no value of its type")]
    Value { column: usize },
    #[error("it takes more bytes than max_row_bytes allows ({limit}): raise max_row_bytes")]
    TooLarge { limit: usize },
}

impl From<Short> for SelectError {
    fn from(_: Short) -> SelectError {
        SelectError::Short
    }
}

/// How a column's value comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coming {
    Signed(u8),
    Unsigned(u8),
    Float,
    Double,
    Decimal,
    Year,
    Bit,
    Date,
    DateTime(u8),
    Timestamp(u8),
    Time(u8),
    Text(Charset),
    Bytes,
    PaddedBytes(usize),
    Label(Charset),
    Labels(Charset),
    Json,
    Geometry,
    Vector,
    /// What MariaDB prints in ASCII.
    Printed,
}

/// What reading the rows of one answer needs.
pub struct RowReader {
    columns: Vec<(Coming, Option<u8>)>,
    key: Vec<Range<usize>>,
    scratch: String,
    limit: usize,
    /// Values in which bytes that their character set does not know became U+FFFD.
    pub replaced: u64,
}

impl std::fmt::Debug for RowReader {
    /// Without what is left of rows.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowReader").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl RowReader {
    /// `family`: of the server that answers; `definitions`: those of an answer to [`list`]; `max_row_bytes`: the largest row in the log.
    ///
    /// # Errors
    /// A column is of another type than the plan says.
    pub fn new(
        family: Family,
        plan: &RowPlan,
        definitions: &[Definition],
        max_row_bytes: usize,
    ) -> Result<RowReader, Differs> {
        let mut columns = Vec::with_capacity(plan.columns.len());
        for (index, column) in plan.columns.iter().enumerate() {
            let coming = definitions
                .get(index)
                .and_then(|definition| coming(family, &column.kind, column.store, definition))
                .ok_or(Differs { column: index })?;
            columns.push((coming, column.key_part));
        }
        let key = vec![0..0; plan.key.len().min(MAX_KEY_PARTS)];
        Ok(RowReader { columns, key, scratch: String::new(), limit: max_row_bytes, replaced: 0 })
    }

    /// Appends a row's values to `out`; `packet`: from its bitmap of nulls on.
    ///
    /// # Errors
    /// See [`SelectError`]; a part of the row may be in `out`.
    pub fn read(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SelectError> {
        let RowReader { columns, key, scratch, replaced, .. } = self;
        let mut wire = Wire::new(packet);
        let nulls = wire.take((columns.len() + 9) / 8)?;
        let start = out.len();
        for (index, (coming, key_part)) in columns.iter().enumerate() {
            let from = out.len();
            let mut writer = RowWriter::new(out);
            if bit(nulls, index + 2) {
                writer.null();
            } else {
                value(*coming, index, &mut wire, scratch, replaced, &mut writer)?;
            }
            if let Some(place) = key_part.and_then(|part| key.get_mut(usize::from(part))) {
                *place = from - start..out.len() - start;
            }
        }
        if out.len() - start > self.limit {
            return Err(SelectError::TooLarge { limit: self.limit });
        }
        if wire.is_empty() { Ok(()) } else { Err(SelectError::Short) }
    }

    /// The key's values of the row that was read last, in key order. `row`: that row's bytes.
    pub fn key<'r>(&self, row: &'r [u8]) -> impl Iterator<Item = &'r [u8]> + use<'_, 'r> {
        self.key.iter().map(|place| row.get(place.clone()).unwrap_or_default())
    }
}

/// How a column comes that the server defines so; `None` where its plan says something else.
fn coming(family: Family, kind: &ColumnKind, store: Store, definition: &Definition) -> Option<Coming> {
    let Definition { collation, kind: ty, flags, decimals } = *definition;
    let of = |wanted: u8, coming: Coming| (ty == wanted).then_some(coming);
    let of_decimals =
        |wanted: u8, plan: u8, coming: Coming| (ty == wanted && decimals == plan).then_some(coming);
    let string = matches!(ty, 15 | 249..=254);
    let labels = || Charset::of(family, u64::from(collation)).ok().filter(|_| ty == 254);
    match kind {
        ColumnKind::Signed | ColumnKind::Unsigned => {
            let (wanted, bytes) = match store {
                Store::Fixed(1) => (1, 1),
                Store::Fixed(2) => (2, 2),
                Store::Fixed(3) => (9, 4),
                Store::Fixed(4) => (3, 4),
                _ => (8, 8),
            };
            let unsigned = *kind == ColumnKind::Unsigned;
            let coming = if unsigned { Coming::Unsigned(bytes) } else { Coming::Signed(bytes) };
            of(wanted, coming).filter(|_| (flags & UNSIGNED != 0) == unsigned)
        }
        ColumnKind::Float => of(4, Coming::Float),
        ColumnKind::Double => of(5, Coming::Double),
        ColumnKind::Decimal(plan) => of_decimals(246, plan.scale(), Coming::Decimal),
        ColumnKind::Year => of(13, Coming::Year),
        ColumnKind::Bit => of(16, Coming::Bit),
        ColumnKind::Date => of(10, Coming::Date),
        ColumnKind::DateTime(plan) => of_decimals(12, *plan, Coming::DateTime(*plan)),
        ColumnKind::Timestamp(plan) => of_decimals(7, *plan, Coming::Timestamp(*plan)),
        ColumnKind::Time(plan) => of_decimals(11, *plan, Coming::Time(*plan)),
        ColumnKind::OldDateTime => of_decimals(12, 0, Coming::DateTime(0)),
        ColumnKind::OldTimestamp => of_decimals(7, 0, Coming::Timestamp(0)),
        ColumnKind::OldTime => of_decimals(11, 0, Coming::Time(0)),
        ColumnKind::Text(charset) | ColumnKind::CompressedText(charset) => {
            let same = Charset::of(family, u64::from(collation)).is_ok_and(|found| found == *charset);
            (string && same && flags & (ENUM | SET) == 0).then_some(Coming::Text(*charset))
        }
        ColumnKind::Bytes | ColumnKind::CompressedBytes => {
            (string && collation == BINARY).then_some(Coming::Bytes)
        }
        ColumnKind::PaddedBytes(length) => {
            (ty == 254 && collation == BINARY).then_some(Coming::PaddedBytes(*length))
        }
        ColumnKind::Enum(_) => labels().filter(|_| flags & ENUM != 0).map(Coming::Label),
        ColumnKind::Set(_) => labels().filter(|_| flags & SET != 0).map(Coming::Labels),
        ColumnKind::Json => of(245, Coming::Json),
        ColumnKind::Geometry => of(255, Coming::Geometry),
        // MariaDB sends a vector as the bytes that it is.
        ColumnKind::Vector => (ty == 242 || string && collation == BINARY).then_some(Coming::Vector),
        ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6 => {
            (string && collation != BINARY && flags & (ENUM | SET) == 0).then_some(Coming::Printed)
        }
    }
}

/// The collation of what is no text.
const BINARY: u16 = 63;

/// Appends one value that is not null.
#[inline]
fn value(
    coming: Coming,
    column: usize,
    wire: &mut Wire<'_>,
    scratch: &mut String,
    replaced: &mut u64,
    out: &mut RowWriter<'_>,
) -> Result<(), SelectError> {
    let bad = SelectError::Value { column };
    match coming {
        Coming::Signed(1) => out.i64(i64::from(i8::from_le_bytes(wire.array()?))),
        Coming::Signed(2) => out.i64(i64::from(i16::from_le_bytes(wire.array()?))),
        Coming::Signed(4) => out.i64(i64::from(i32::from_le_bytes(wire.array()?))),
        Coming::Signed(_) => out.i64(i64::from_le_bytes(wire.array()?)),
        Coming::Unsigned(bytes) => out.u64(wire.uint(usize::from(bytes))?),
        Coming::Float => out.f32(f32::from_le_bytes(wire.array()?)),
        Coming::Double => out.f64(f64::from_le_bytes(wire.array()?)),
        Coming::Year => out.u64(u64::from(wire.u16()?)),
        Coming::Decimal => {
            let digits = Some(wire.string()?).filter(|digits| digits.is_ascii()).ok_or(bad)?;
            // ZEROFILL is how a column prints, and no part of its value.
            let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
            let significant = digits.get(zeros..).unwrap_or_default();
            out.decimal(match significant.first() {
                Some(b'.') | None => digits.get(digits.len() - significant.len() - 1..).ok_or(bad)?,
                _ => significant,
            });
        }
        Coming::Bit => out.u64(big_endian(wire.string()?)),
        Coming::Date => {
            let DateTime { date, micros: 0, .. } = date_time(wire, 0)?.ok_or(bad)? else { return Err(bad) };
            out.date(date);
        }
        Coming::DateTime(decimals) => out.date_time(date_time(wire, decimals)?.ok_or(bad)?),
        Coming::Timestamp(decimals) => {
            let instant = date_time(wire, decimals)?.and_then(temporal::instant_of);
            out.instant(instant.ok_or(bad)?);
        }
        Coming::Time(decimals) => out.time(time(wire, decimals)?.ok_or(bad)?),
        Coming::Text(charset) => out.text(text(charset, wire.string()?, scratch, replaced)),
        Coming::Label(charset) => out.enum_label(text(charset, wire.string()?, scratch, replaced)),
        Coming::Labels(charset) => {
            out.set_labels(std::iter::once(text(charset, wire.string()?, scratch, replaced)))
        }
        Coming::Bytes => out.bytes(wire.string()?),
        Coming::PaddedBytes(length) => out.padded_bytes(wire.string()?, length),
        Coming::Geometry => out.geometry(geometry(wire.string()?).ok_or(bad)?),
        Coming::Vector => match wire.string()? {
            packed if packed.len().is_multiple_of(4) => out.vector(packed),
            _ => return Err(bad),
        },
        Coming::Printed => out.text(std::str::from_utf8(wire.string()?).map_err(|_| bad)?),
        Coming::Json => out.json(std::str::from_utf8(wire.string()?).map_err(|_| bad)?),
    }
    Ok(())
}

#[inline]
fn text<'t>(charset: Charset, bytes: &'t [u8], scratch: &'t mut String, replaced: &mut u64) -> &'t str {
    let (text, lost) = charset.decode(bytes, scratch);
    *replaced += u64::from(lost);
    text
}

/// A date with as many of its parts as are not zero at its end; `None` where it is none.
fn date_time(wire: &mut Wire<'_>, decimals: u8) -> Result<Option<DateTime>, Short> {
    let length = wire.u8()?;
    let (mut date, mut clock, mut micros) = ((0, 0, 0), (0, 0, 0), 0);
    if length >= 4 {
        date = (wire.u16()?, wire.u8()?, wire.u8()?);
    }
    if length >= 7 {
        clock = (wire.u8()?, wire.u8()?, wire.u8()?);
    }
    if length == 11 {
        micros = wire.u32()?;
    }
    if !matches!(length, 0 | 4 | 7 | 11) {
        return Ok(None);
    }
    Ok(temporal::from_parts(date, clock, micros, decimals))
}

/// A TIME alike: its sign, days, the parts of a day, microseconds.
fn time(wire: &mut Wire<'_>, decimals: u8) -> Result<Option<Time>, Short> {
    let length = wire.u8()?;
    let (mut negative, mut days, mut clock, mut micros) = (false, 0, (0, 0, 0), 0);
    if length >= 8 {
        negative = wire.u8()? != 0;
        (days, clock) = (wire.u32()?, (wire.u8()?, wire.u8()?, wire.u8()?));
    }
    if length == 12 {
        micros = wire.u32()?;
    }
    if !matches!(length, 0 | 8 | 12) {
        return Ok(None);
    }
    Ok(temporal::time_from_parts(negative, days, clock, micros, decimals))
}
