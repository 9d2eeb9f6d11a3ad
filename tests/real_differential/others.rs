//! What `mysql_common` and `mysql_cdc` say, as text in the form of ours.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use everrelay::event::Value;
use everrelay::event::value::{Date, DateTime, Instant, Time};
use mysql_cdc::binlog_reader::BinlogReader;
use mysql_cdc::events::binlog_event::BinlogEvent;
use mysql_cdc::events::row_events::mysql_value::MySqlValue as CdcValue;
use mysql_cdc::events::row_events::row_data::RowData;
use mysql_common::Value as CommonValue;
use mysql_common::binlog::consts::{BinlogVersion, EventType};
use mysql_common::binlog::events::{EventData, RowsEventData, TableMapEvent};
use mysql_common::binlog::jsonb::{self, JsonContainer, JsonDom, JsonNumber, JsonScalar};
use mysql_common::binlog::row::BinlogRow;
use mysql_common::binlog::value::BinlogValue;
use mysql_common::binlog::{BinlogFile, BinlogFileHeader};
use mysql_common::io::ParseBuf;
use serde_json::value::RawValue;

use crate::columns::Kind::{self, *};
use crate::columns::{COLUMNS, ENUM, SET};
use crate::server::text;

pub type Image = Option<Vec<String>>;
/// Before- and after-images of one event; `None`: refused.
pub type Said = Option<Vec<(Image, Image)>>;

pub fn kinds() -> Vec<Kind> {
    [Int(32), Int(8)].into_iter().chain(COLUMNS.iter().map(|column| column.2)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02X}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text is UTF-8")
}

fn label(index: u64) -> String {
    index.checked_sub(1).map(|i| ENUM[i as usize].replace("''", "'")).unwrap_or_default()
}

fn labels(bits: u64) -> String {
    let chosen = SET.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    chosen.map(|(_, label)| *label).collect::<Vec<_>>().join(",")
}

fn day(year: u16, month: u8, day: u8) -> Date {
    Date { year, month, day }
}

fn of_day(hour: u64, minute: u8, second: u8, micros: u32) -> u64 {
    ((hour * 60 + u64::from(minute)) * 60 + u64::from(second)) * 1_000_000 + u64::from(micros)
}

fn common_text(kind: Kind, value: BinlogValue<'_>) -> String {
    let value = match value {
        BinlogValue::Value(value) => value,
        BinlogValue::Jsonb(json) => return dom_text(json.parse().expect("a JSON document")),
        BinlogValue::JsonDiff(_) => panic!("partial JSON was not asked for"),
    };
    let big_endian = |bytes: &[u8]| bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b));
    match (kind, value) {
        (_, CommonValue::NULL) => "NULL".to_owned(),
        (Enum, CommonValue::Int(index)) => label(index as u64),
        (_, CommonValue::Int(v)) => v.to_string(),
        (_, CommonValue::UInt(v)) => v.to_string(),
        (_, CommonValue::Float(v)) => text(&Value::F32(v)),
        (_, CommonValue::Double(v)) => text(&Value::F64(v)),
        (Day, CommonValue::Date(y, m, d, 0, 0, 0, 0)) => text(&Value::Date(day(y, m, d))),
        (Local(decimals), CommonValue::Date(y, m, d, hour, minute, second, micros)) => {
            let micros = of_day(hour.into(), minute, second, micros);
            text(&Value::DateTime(DateTime { date: day(y, m, d), micros, decimals }))
        }
        (Clock(decimals), CommonValue::Time(negative, days, hour, minute, second, micros)) => {
            let micros = of_day(u64::from(days) * 24 + u64::from(hour), minute, second, micros) as i64;
            text(&Value::Time(Time { micros: if negative { -micros } else { micros }, decimals }))
        }
        (Stamp(decimals), CommonValue::Bytes(digits)) => {
            let digits = utf8(&digits);
            let (seconds, micros) = digits.split_once('.').unwrap_or((&digits, "0"));
            let micros = seconds.parse::<u64>().unwrap() * 1_000_000 + micros.parse::<u64>().unwrap();
            text(&Value::Instant(Instant { micros, decimals }))
        }
        (Bit(_), CommonValue::Bytes(bytes)) => big_endian(&bytes).to_string(),
        (Set, CommonValue::Bytes(bytes)) => labels(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))),
        (Binary(_) | PaddedBinary(_) | Blob(_), CommonValue::Bytes(bytes)) => hex(&bytes),
        // MariaDB's is text.
        (Json, CommonValue::Bytes(bytes)) => json_text(&utf8(&bytes)),
        (Decimal(..) | Text(_) | Year, CommonValue::Bytes(bytes)) => utf8(&bytes),
        (kind, value) => panic!("mysql_common made {value:?} of {kind:?}"),
    }
}

fn cdc_text(kind: Kind, value: Option<CdcValue>) -> String {
    let Some(value) = value else { return "NULL".to_owned() };
    match (kind, value) {
        (_, CdcValue::TinyInt(v)) => v.to_string(),
        (_, CdcValue::SmallInt(v)) => v.to_string(),
        (_, CdcValue::MediumInt(v) | CdcValue::Int(v)) => v.to_string(),
        (_, CdcValue::BigInt(v)) => v.to_string(),
        (_, CdcValue::Year(v)) => v.to_string(),
        (_, CdcValue::Float(v)) => text(&Value::F32(v)),
        (_, CdcValue::Double(v)) => text(&Value::F64(v)),
        (_, CdcValue::Decimal(v)) => v,
        (Text(_), CdcValue::String(v)) => v,
        (Binary(_) | PaddedBinary(_), CdcValue::String(v)) => hex(v.as_bytes()),
        (Text(_), CdcValue::Blob(v)) => utf8(&v),
        (Blob(_), CdcValue::Blob(v)) => hex(&v),
        // A binary document begins with a type below every character of a text.
        (Json, CdcValue::Blob(v)) if v.first().is_some_and(|first| *first > 15) => json_text(&utf8(&v)),
        (Json, CdcValue::Blob(v)) => {
            let json: jsonb::Value<'_> = ParseBuf(&v).parse(()).expect("a JSON document");
            dom_text(json.parse().expect("a JSON document"))
        }
        (_, CdcValue::Bit(bits)) => bits.iter().fold(0, |n, bit| n << 1 | u64::from(*bit)).to_string(),
        (_, CdcValue::Enum(index)) => label(index.into()),
        (_, CdcValue::Set(bits)) => labels(bits),
        (_, CdcValue::Date(v)) => text(&Value::Date(day(v.year, v.month, v.day))),
        (Clock(decimals), CdcValue::Time(v)) => {
            let micros = of_day(v.hour as u64, v.minute, v.second, v.millis * 1_000) as i64;
            text(&Value::Time(Time { micros, decimals }))
        }
        (Local(decimals), CdcValue::DateTime(v)) => {
            let micros = of_day(v.hour.into(), v.minute, v.second, v.millis * 1_000);
            text(&Value::DateTime(DateTime { date: day(v.year, v.month, v.day), micros, decimals }))
        }
        (Stamp(decimals), CdcValue::Timestamp(millis)) => {
            text(&Value::Instant(Instant { micros: millis * 1_000, decimals }))
        }
        (kind, value) => panic!("mysql_cdc made {value:?} of {kind:?}"),
    }
}

/// Digits that a double may need to be read back as the same.
const DOUBLE_DIGITS: usize = 17;

/// A JSON number with as many digits as it needs; integers as they are.
///
/// A double half-way between two texts of 17 digits has two shortest ones, and printers differ in which they take (ours as the server's: the even
/// one; the standard library's: the other): a number of so many digits stands for the double that it is read back as.
fn number(token: &str) -> String {
    if !token.contains(['.', 'e', 'E']) {
        return token.to_owned();
    }
    let significant = token.split(['e', 'E']).next().unwrap_or(token);
    let significant = significant.trim_start_matches(['-', '0', '.']).trim_end_matches('0');
    if significant.bytes().filter(u8::is_ascii_digit).count() == DOUBLE_DIGITS {
        return format!("{:e}", token.parse::<f64>().unwrap());
    }
    let (mantissa, exponent) = token.split_once(['e', 'E']).unwrap_or((token, "0"));
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    let exponent =
        exponent.parse::<i64>().unwrap() - fraction.len() as i64 + (digits.len() - kept.len()) as i64;
    match kept.trim_start_matches('0') {
        "" => format!("{sign}0.0"),
        kept => format!("{sign}{kept}e{exponent}"),
    }
}

fn object(entries: BTreeMap<String, String>) -> String {
    let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{key:?}: {value}")).collect();
    format!("{{{}}}", entries.join(", "))
}

fn dom_text(dom: JsonDom) -> String {
    match dom {
        JsonDom::Container(JsonContainer::Array(elements)) => {
            format!("[{}]", elements.into_iter().map(dom_text).collect::<Vec<_>>().join(", "))
        }
        JsonDom::Container(JsonContainer::Object(entries)) => {
            object(entries.into_iter().map(|(key, value)| (key, dom_text(value))).collect())
        }
        JsonDom::Scalar(scalar) => match scalar {
            JsonScalar::Null => "null".to_owned(),
            JsonScalar::Boolean(v) => v.to_string(),
            JsonScalar::DateTime(v) => format!("{:?}", format!("{v:.6}")),
            JsonScalar::Number(JsonNumber::Decimal(v)) => number(&v.to_string()),
            JsonScalar::Number(JsonNumber::Double(v)) => number(&format!("{v:?}")),
            JsonScalar::Number(JsonNumber::Int(v)) => v.to_string(),
            JsonScalar::Number(JsonNumber::Uint(v)) => v.to_string(),
            JsonScalar::Opaque(v) => format!("{:?}", v.to_string()),
            JsonScalar::String(v) => format!("{v:?}"),
        },
    }
}

/// Our JSON text in the form of [`dom_text`].
pub fn json_text(json: &str) -> String {
    match json.as_bytes()[0] {
        b'{' => {
            let entries: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
            object(entries.into_iter().map(|(key, value)| (key, json_text(value.get()))).collect())
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).unwrap();
            format!("[{}]", elements.iter().map(|v| json_text(v.get())).collect::<Vec<_>>().join(", "))
        }
        b'"' => format!("{:?}", serde_json::from_str::<String>(json).unwrap()),
        b'-' | b'0'..=b'9' => number(json),
        _ => json.to_owned(),
    }
}

fn common_event(rows: &RowsEventData<'_>, table: &TableMapEvent<'_>) -> Said {
    let image = |row: BinlogRow| {
        assert_eq!(row.len(), kinds().len(), "full images");
        kinds().into_iter().zip(row.unwrap()).map(|(kind, value)| common_text(kind, value)).collect()
    };
    let read = || rows.rows(table).collect::<Result<Vec<_>, _>>().expect("mysql_common reads rows");
    // The panics that are known need no backtraces; one that is not is named by the comparison.
    let hook = take_hook();
    set_hook(Box::new(|_| ()));
    let read = catch_unwind(AssertUnwindSafe(read));
    set_hook(hook);
    let read = read.ok()?;
    Some(read.into_iter().map(|(before, after)| (before.map(image), after.map(image))).collect())
}

fn cdc_event(event: BinlogEvent) -> Said {
    let image = |row: RowData| -> Image {
        assert_eq!(row.cells.len(), kinds().len(), "full images");
        Some(kinds().into_iter().zip(row.cells).map(|(kind, value)| cdc_text(kind, value)).collect())
    };
    Some(match event {
        BinlogEvent::WriteRowsEvent(e) => e.rows.into_iter().map(|row| (None, image(row))).collect(),
        BinlogEvent::DeleteRowsEvent(e) => e.rows.into_iter().map(|row| (image(row), None)).collect(),
        BinlogEvent::UpdateRowsEvent(e) => {
            e.rows.into_iter().map(|row| (image(row.before_update), image(row.after_update))).collect()
        }
        event => panic!("no rows: {event:?}"),
    })
}

/// What both say to the events of `schema` in these files, event by event.
pub fn others(files: &[String], schema: &str) -> Vec<(Said, Said)> {
    let (mut common, mut copy) = (Vec::new(), b"\xfebin".to_vec());
    let mut tables = HashSet::new();
    for path in files {
        let bytes = fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut file = BinlogFile::new(BinlogVersion::Version4, &bytes[..]).expect("a binlog file");
        let mut at = BinlogFileHeader::LEN;
        while let Some(event) = file.next() {
            let event = event.expect("an event");
            let raw = &bytes[at..][..event.header().event_size() as usize];
            at += raw.len();
            use EventType::*;
            let Ok(
                FORMAT_DESCRIPTION_EVENT
                | TABLE_MAP_EVENT
                | WRITE_ROWS_EVENT
                | UPDATE_ROWS_EVENT
                | DELETE_ROWS_EVENT
                | WRITE_ROWS_EVENT_V1
                | UPDATE_ROWS_EVENT_V1
                | DELETE_ROWS_EVENT_V1,
            ) = event.header().event_type()
            else {
                continue;
            };
            match event.read_data().expect("the event's data") {
                Some(EventData::FormatDescriptionEvent(_)) => copy.extend_from_slice(raw),
                Some(EventData::TableMapEvent(table)) if table.database_name() == schema => {
                    tables.insert(table.table_id());
                    copy.extend_from_slice(raw);
                }
                Some(EventData::RowsEvent(rows)) if tables.contains(&rows.table_id()) => {
                    let table = file.reader().get_tme(rows.table_id()).expect("its table map");
                    common.push(common_event(&rows, table));
                    copy.extend_from_slice(raw);
                }
                _ => {}
            }
        }
        assert_eq!(at, bytes.len(), "{path} was read to its end");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    fs::write(&path, &copy).unwrap();
    let events = BinlogReader::new(fs::File::open(&path).unwrap()).expect("a binlog file").read_events();
    let cdc: Vec<Said> = events
        .filter_map(|event| match event {
            Ok((_, BinlogEvent::FormatDescriptionEvent(_) | BinlogEvent::TableMapEvent(_))) => None,
            Ok((_, event)) => Some(cdc_event(event)),
            Err(_) => Some(None),
        })
        .collect();
    assert_eq!(common.len(), cdc.len(), "as many events of rows");
    common.into_iter().zip(cdc).collect()
}
