//! Names of indices: made from the names of tables (`{schema}.{table}`, `search-{table}`, `orders`), or from values of each row too (`orders-{created_at:%Y.%m}`,
//! `{table}-{region}`).
//!
//! # Constraints
//!
//! - Columns of the key alone (or of `id`, which is one): then a document's index follows from its id, and where a row was before it moved the log says with the key that it had.
//! - Whatever a row holds, its alias is one that the engine takes and that the table's pattern matches; two values may share an alias, since ids tell their documents apart.
//!
//! # Format
//!
//! - `{COLUMN}`: the value's text as an id has it, lower-cased, with `_` for each character that no index name may have. Over 64 bytes it ends in a hash.
//! - `{COLUMN:%Y.%m}`: of a DATE, DATETIME, or TIMESTAMP (UTC), by `%Y` `%m` `%d` `%H`, `%G` and `%V` (ISO week and its year), and text.

use sha2::{Digest, Sha256};

use super::id;
use super::name::{FIRST, check_alias};
use crate::event::document::{Behind, ByRow, DeletedIndex};
use crate::event::value::{Date, DateTime, Instant};
use crate::event::{TableName, Value};

/// Most bytes that a value gives to a name.
pub(super) const MOST_OF_A_VALUE: usize = 64;

/// What is kept of the text of a longer one.
const KEPT_OF_A_VALUE: usize = 40;

const MICROS_PER_HOUR: u64 = 3_600_000_000;

/// What the alias of a table's documents is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTemplate {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Schema,
    Table,
    Column(ColumnPart),
}

/// A column's place in a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnPart {
    pub name: String,
    /// How a date is written; `None`: the value's text.
    pub date: Option<Vec<DatePart>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DatePart {
    Text(String),
    Year,
    Month,
    Day,
    Hour,
    WeekYear,
    Week,
}

impl IndexTemplate {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<IndexTemplate, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or("a `{` is not closed")?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_lowercase()));
            }
            parts.push(match name {
                "schema" => Part::Schema,
                "table" => Part::Table,
                _ => Part::Column(ColumnPart::parse(name)?),
            });
            rest = after;
        }
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}')))
            || rest.contains('}')
        {
            return Err("a `}` was not opened".to_owned());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_lowercase()));
        }
        if matches!(parts.first(), Some(Part::Column(_))) {
            return Err("it begins with a value of the row: let it begin with {table} or a text, by which the table's indices are known".to_owned());
        }
        if let (Some(Part::Text(last)), true) =
            (parts.last(), parts.iter().any(|part| matches!(part, Part::Column(_))))
            && (last.ends_with(FIRST) || FIRST.ends_with(last) || last.chars().all(|c| c == '.'))
        {
            return Err(format!("it ends in `{last}`, as the number of an index does, or in dots"));
        }
        let template = IndexTemplate { text: text.to_owned(), parts };
        // Names of tables are looked at when they are met.
        check_alias(&template.name("a", "b", "0")).map_err(str::to_owned)?;
        Ok(template)
    }

    /// Behind what a table's documents are.
    pub(super) fn behind(&self, table: &TableName) -> Behind {
        let name = |value| self.name(&table.schema, &table.table, value);
        if self.columns().next().is_none() {
            return Behind::Alias(name(""));
        }
        let (table, template, pattern) = (table.clone(), self.text.clone(), name("*"));
        Behind::ByRow(ByRow { table, template, pattern, deleted_index: DeletedIndex::default() })
    }

    /// As long a name as the longest that a row of the table can give.
    pub(super) fn longest(&self, table: &TableName) -> String {
        self.name(&table.schema, &table.table, &"0".repeat(MOST_OF_A_VALUE + 1))
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = &ColumnPart> {
        self.parts.iter().filter_map(|part| match part {
            Part::Column(column) => Some(column),
            _ => None,
        })
    }

    /// Replaces `out` by the alias of a row that has these values in the template's columns, in their order.
    pub(super) fn fill<'a>(
        &self,
        table: &TableName,
        values: impl Iterator<Item = Value<'a>>,
        out: &mut String,
    ) {
        out.clear();
        let mut values = values;
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Schema => out.push_str(&table.schema.to_lowercase()),
                Part::Table => out.push_str(&table.table.to_lowercase()),
                Part::Column(column) => column.write(&values.next().unwrap_or(Value::Null), out),
            }
        }
        // What the first index behind an alias is called is no alias, and dots alone are none.
        if out.ends_with(FIRST) || out.chars().all(|c| c == '.') {
            out.push('_');
        }
    }

    /// Lower-cased: index names have no upper case.
    fn name(&self, schema: &str, table: &str, value: &str) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Schema => schema.to_lowercase(),
            Part::Table => table.to_lowercase(),
            Part::Column(_) => value.to_owned(),
        };
        self.parts.iter().map(part).collect()
    }
}

impl ColumnPart {
    fn parse(text: &str) -> Result<ColumnPart, String> {
        let (name, date) = match text.split_once(":%") {
            Some((name, _)) => (name, Some(DatePart::parse(&text[name.len() + 1..])?)),
            None => (text, None),
        };
        if name.is_empty() {
            return Err(format!("`{{{}}}` names no column", text.escape_debug()));
        }
        Ok(ColumnPart { name: name.to_owned(), date })
    }

    fn write(&self, value: &Value<'_>, out: &mut String) {
        let mut text = String::new();
        match &self.date {
            Some(parts) => date_parts(parts, value, &mut text),
            None => drop(id::push(value, false, &mut text)),
        }
        let start = out.len();
        for c in text.chars().flat_map(char::to_lowercase) {
            out.push(if c.is_control() || r#"\/*?"<>|,#: "#.contains(c) { '_' } else { c });
        }
        if out.len() - start > MOST_OF_A_VALUE {
            let digest = Sha256::digest(text.as_bytes());
            let mut end = start + KEPT_OF_A_VALUE;
            while !out.is_char_boundary(end) {
                end -= 1;
            }
            out.truncate(end);
            out.push('_');
            for byte in &digest[..8] {
                out.push_str(&format!("{byte:02x}"));
            }
        }
    }
}

impl DatePart {
    fn parse(text: &str) -> Result<Vec<DatePart>, String> {
        let mut parts = Vec::new();
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            let part = match (c, if c == '%' { rest.next() } else { None }) {
                ('%', Some('Y')) => DatePart::Year,
                ('%', Some('m')) => DatePart::Month,
                ('%', Some('d')) => DatePart::Day,
                ('%', Some('H')) => DatePart::Hour,
                ('%', Some('G')) => DatePart::WeekYear,
                ('%', Some('V')) => DatePart::Week,
                ('%', other) => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(format!("`%{}` is none of %Y %m %d %H %G %V", other.escape_debug()));
                }
                (c, _) => DatePart::Text(c.to_lowercase().collect()),
            };
            parts.push(part);
        }
        let sample: String =
            parts.iter().map(|part| if let DatePart::Text(text) = part { text } else { "0" }).collect();
        check_alias(&format!("a{sample}")).map_err(str::to_owned)?;
        Ok(parts)
    }
}

/// A date that no calendar knows is written as it is; week 00 of its year.
fn date_parts(parts: &[DatePart], value: &Value<'_>, out: &mut String) {
    let (date, hour) = match *value {
        Value::Date(date) => (date, 0),
        Value::DateTime(DateTime { date, micros, .. }) => (date, micros / MICROS_PER_HOUR),
        Value::Instant(Instant { micros: 0, .. }) => (Date { year: 0, month: 0, day: 0 }, 0),
        Value::Instant(Instant { micros, .. }) => {
            (Date::of_day(micros / (24 * MICROS_PER_HOUR)), micros / MICROS_PER_HOUR % 24)
        }
        _ => return,
    };
    let (week_year, week) = iso_week(date);
    for part in parts {
        match part {
            DatePart::Text(text) => out.push_str(text),
            DatePart::Year => out.push_str(&format!("{:04}", date.year)),
            DatePart::Month => out.push_str(&format!("{:02}", date.month)),
            DatePart::Day => out.push_str(&format!("{:02}", date.day)),
            DatePart::Hour => out.push_str(&format!("{hour:02}")),
            DatePart::WeekYear => out.push_str(&format!("{week_year:04}")),
            DatePart::Week => out.push_str(&format!("{week:02}")),
        }
    }
}

/// Year and number of the week that a day is in, by ISO 8601: the week is the year's that has its Thursday.
fn iso_week(date: Date) -> (u64, u64) {
    // A day of the same place in the calendar, which repeats after 400 years, behind 1970.
    let later = Date { year: date.year.saturating_add(2_000), ..date };
    let Some(day) = later.day() else { return (u64::from(date.year), 0) };
    // 1970-01-01 was a Thursday.
    let thursday = day - (day + 3) % 7 + 3;
    let year = Date::of_day(thursday).year;
    let first = Date { year, month: 1, day: 1 }.day().unwrap_or(thursday);
    (u64::from(year).saturating_sub(2_000), (thursday - first) / 7 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, values: &[Value<'_>]) -> String {
        let mut out = String::new();
        let template = IndexTemplate::parse(text).unwrap();
        let table = TableName::new("Shop", "Orders");
        template.fill(&table, values.iter().cloned(), &mut out);
        if let Behind::ByRow(by_row) = template.behind(&table) {
            assert!(by_row.has(&out), "{} {out}", by_row.pattern);
        }
        check_alias(&out).unwrap();
        out
    }

    #[test]
    fn names_are_made_of_the_tables() {
        let table = TableName::new("Shop", "Orders");
        for (text, alias) in [
            ("{schema}.{table}", "shop.orders"),
            ("search-{table}", "search-orders"),
            ("All", "all"),
            ("{table}{schema}-v2", "ordersshop-v2"),
        ] {
            assert_eq!(IndexTemplate::parse(text).unwrap().behind(&table), Behind::Alias(alias.to_owned()));
        }
    }

    #[test]
    fn names_are_made_of_values_of_the_rows() {
        let day = |year, month, day| Value::Date(Date { year, month, day });
        for (text, value, alias) in [
            ("{table}-{d:%Y.%m}", day(2026, 11, 3), "orders-2026.11"),
            ("o-{d:%Y-%m-%d}", day(0, 0, 0), "o-0000-00-00"),
            ("o-{d:%G-w%V}", day(2027, 1, 1), "o-2026-w53"),
            ("o-{d:%G-w%V}", day(2024, 12, 30), "o-2025-w01"),
            ("o-{d:%G-w%V}", day(1, 1, 1), "o-0001-w01"),
            ("o-{d:%V}", day(2026, 0, 1), "o-00"),
            (
                "o-{d:%Y%m%d%H}",
                Value::DateTime(DateTime {
                    date: Date { year: 2026, month: 2, day: 28 },
                    micros: 86_399_999_999,
                    decimals: 0,
                }),
                "o-2026022823",
            ),
            (
                "o-{d:%Y.%m.%d-%H}",
                Value::Instant(Instant { micros: 951_782_400_000_000 + 3_600_000_000, decimals: 0 }),
                "o-2000.02.29-01",
            ),
            ("o-{d:%Y}", Value::Instant(Instant { micros: 0, decimals: 0 }), "o-0000"),
            ("o-{n}", Value::I64(-7), "o--7"),
            ("o-{n}-x", Value::Text("EU West/1"), "o-eu_west_1-x"),
            ("o-{n}", Value::Text("000001"), "o-000001_"),
            ("o{n}", Value::Text(""), "o"),
            (".{n}", Value::Text("."), ".._"),
        ] {
            assert_eq!(filled(text, &[value]), alias, "{text}");
        }
    }

    #[test]
    fn whatever_a_row_holds_its_alias_is_one() {
        let long = "ö".repeat(200);
        let hostile =
            ["", ".", "..", "*", "a,b", "a\n", "İ", "-", "\u{0}", &long, &"x".repeat(64), &"x".repeat(65)];
        let names: Vec<String> = hostile.iter().map(|text| filled("o-{n}", &[Value::Text(text)])).collect();
        assert_eq!(names[2], "o-..");
        assert!(
            names[9].starts_with("o-öööööööööööööööööööö_") && names[9].len() <= 2 + MOST_OF_A_VALUE,
            "{}",
            names[9]
        );
        assert_ne!(names[10], names[11]);
    }

    #[test]
    fn what_makes_no_name_is_refused() {
        for (text, expected) in [
            ("orders-{created_at:%Q}", "`%Q` is none of"),
            ("orders-{created_at:%}", "`%` is none of"),
            ("orders-{created_at:%Y/%m}", "cannot contain"),
            ("{region}-orders", "begins with a value"),
            ("orders-{", "is not closed"),
            ("orders}", "was not opened"),
            ("orders}-{d}", "was not opened"),
            ("o-{n}-000001", "as the number"),
            ("o-{n}01", "as the number"),
            ("o-{n}.", "or in dots"),
            ("orders-{}", "`{}` names no column"),
            ("", "dots alone"),
            ("a b", "cannot contain"),
            ("_{table}", "cannot begin with"),
            ("a/{table}", "cannot contain"),
        ] {
            let error = IndexTemplate::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
