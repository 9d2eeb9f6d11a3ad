//! The documents that a table's rows must have become: the product's contract, told a second time, from SELECTs.
//!
//! Rows are read by a prepared statement: the text protocol rounds FLOAT.

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::StreamExt;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row, Value};

use super::canonical::{Document, Numbers, canonical};

/// One column, as information_schema has it.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    /// Lower-case, without length and attributes: `varchar`.
    pub data_type: String,
    /// Digits after the second.
    pub decimals: usize,
}

impl Column {
    fn is_geometry(&self) -> bool {
        let types = ["geom", "point", "line", "polygon", "multi"];
        types.iter().any(|prefix| self.data_type.starts_with(prefix))
    }

    /// How this column's numbers are compared.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        match self.data_type.as_str() {
            "float" | "double" | "json" => Numbers::ByValue,
            _ if self.is_geometry() => Numbers::ByValue,
            _ => Numbers::AsPrinted,
        }
    }
}

/// One table.
#[derive(Clone, Debug)]
pub struct Table {
    pub schema: String,
    pub name: String,
    pub columns: Vec<Column>,
    /// Indices into `columns`, in key order.
    pub key: Vec<usize>,
}

impl Table {
    /// Reads a table's columns and key: those with the comment `key 1`, `key 2`, …, else the primary one's.
    ///
    /// # Errors
    /// The server cannot be asked; there is no such table, or it has no such key.
    pub async fn describe(conn: &mut Conn, schema: &str, name: &str) -> Result<Table> {
        let columns: Vec<(String, String, Option<usize>, String)> = conn
            .exec(
                "SELECT COLUMN_NAME, DATA_TYPE, DATETIME_PRECISION, COLUMN_COMMENT FROM information_schema.COLUMNS \
                 WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
                (schema, name),
            )
            .await?;
        let mut named: Vec<_> = columns.iter().filter(|(.., comment)| comment.starts_with("key ")).collect();
        named.sort_by(|a, b| a.3.cmp(&b.3));
        let mut keys: Vec<String> = named.into_iter().map(|(name, ..)| name.clone()).collect();
        let primary: Vec<String> = conn
            .exec(
                "SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? \
                 AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX",
                (schema, name),
            )
            .await?;
        if keys.is_empty() {
            keys = primary;
        }
        let columns: Vec<Column> = columns
            .into_iter()
            .map(|(name, data_type, decimals, _)| Column {
                name,
                data_type: data_type.to_lowercase(),
                decimals: decimals.unwrap_or(0),
            })
            .collect();
        let key: Vec<usize> =
            keys.iter().filter_map(|key| columns.iter().position(|column| column.name == *key)).collect();
        ensure!(!key.is_empty(), "{schema}.{name} is missing or has no key");
        Ok(Table { schema: schema.to_owned(), name: name.to_owned(), columns, key })
    }

    /// Where its documents are to be found.
    #[must_use]
    pub fn alias(&self) -> String {
        format!("{}.{}", self.schema, self.name).to_lowercase()
    }

    /// How the numbers of a document's member are compared.
    #[must_use]
    pub fn numbers_of(&self, member: &str) -> Numbers {
        self.columns.iter().find(|column| column.name == member).map_or(Numbers::AsPrinted, Column::numbers)
    }

    /// Calls `each` with the id and the document of every row, in no order.
    ///
    /// # Errors
    /// The server fails, a value is of a type that has no document form here, or what `each` fails with.
    pub async fn documents(
        &self,
        conn: &mut Conn,
        mut each: impl FnMut(String, Document) -> Result<()>,
    ) -> Result<()> {
        let selected = |column: &Column| {
            let name = format!("`{}`", column.name.replace('`', "``"));
            if column.is_geometry() { format!("ST_AsGeoJSON({name})") } else { name }
        };
        let columns: Vec<String> = self.columns.iter().map(selected).collect();
        let query = format!("SELECT {} FROM `{}`.`{}`", columns.join(", "), self.schema, self.name);
        let mut rows = conn.exec_stream::<Row, _, _>(&query, ()).await.with_context(|| query.clone())?;
        while let Some(row) = rows.next().await {
            let values = row?.unwrap();
            each(self.id(&values)?, self.document(&values)?)?;
        }
        Ok(())
    }

    fn document(&self, values: &[Value]) -> Result<Document> {
        let mut document = Document::new();
        for (column, value) in self.columns.iter().zip(values) {
            let member = json(column, value).with_context(|| format!("{}.{}", self.name, column.name))?;
            document.insert(column.name.clone(), canonical(&member, column.numbers())?);
        }
        Ok(document)
    }

    fn id(&self, values: &[Value]) -> Result<String> {
        if let [only] = self.key[..] {
            return text(&self.columns[only], &values[only]);
        }
        let mut parts = Vec::new();
        for &part in &self.key {
            let part = text(&self.columns[part], &values[part])?;
            parts.push(part.replace('\\', "\\\\").replace('|', "\\|"));
        }
        Ok(parts.join("|"))
    }
}

/// A key column's text within a document's id.
fn text(column: &Column, value: &Value) -> Result<String> {
    match (column.data_type.as_str(), value) {
        ("binary" | "varbinary", Value::Bytes(bytes)) => Ok(URL_SAFE_NO_PAD.encode(bytes)),
        _ => {
            let json = json(column, value)?;
            if json.starts_with('"') { Ok(serde_json::from_str(&json)?) } else { Ok(json) }
        }
    }
}

/// A value as JSON text. `value`: as the binary protocol has it.
///
/// # Errors
/// The type has no document form here.
pub fn json(column: &Column, value: &Value) -> Result<String> {
    let string = |text: &str| Ok(serde_json::to_string(text)?);
    match (column.data_type.as_str(), value) {
        (_, Value::NULL) => Ok("null".to_owned()),
        ("tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year", Value::Int(number)) => {
            Ok(number.to_string())
        }
        ("tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "year", Value::UInt(number)) => {
            Ok(number.to_string())
        }
        ("decimal", Value::Bytes(digits)) => Ok(String::from_utf8(digits.clone())?),
        // The fewest digits that read back the same; of two such that are as near, the even one. Display takes the other: 4.0820313 for 4.08203125.
        ("float", Value::Float(number)) => Ok(ryu::Buffer::new().format(*number).to_owned()),
        ("double", Value::Double(number)) => Ok(ryu::Buffer::new().format(*number).to_owned()),
        ("bit", Value::Bytes(bytes)) => {
            Ok(bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)).to_string())
        }
        (
            "char" | "varchar" | "tinytext" | "text" | "mediumtext" | "longtext" | "enum" | "uuid" | "inet4"
            | "inet6",
            Value::Bytes(bytes),
        ) => string(std::str::from_utf8(bytes)?),
        ("binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob", Value::Bytes(bytes)) => {
            string(&STANDARD.encode(bytes))
        }
        ("set", Value::Bytes(bytes)) => {
            let labels = std::str::from_utf8(bytes)?;
            let labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
            Ok(serde_json::to_string(&labels)?)
        }
        ("json", Value::Bytes(bytes)) => Ok(String::from_utf8(bytes.clone())?),
        (_, Value::Bytes(bytes)) if column.is_geometry() => Ok(String::from_utf8(bytes.clone())?),
        ("date" | "datetime" | "timestamp", Value::Date(_, month, day, ..)) if *month == 0 || *day == 0 => {
            Ok("null".to_owned())
        }
        ("date", Value::Date(year, month, day, ..)) => string(&format!("{year:04}-{month:02}-{day:02}")),
        ("datetime" | "timestamp", &Value::Date(year, month, day, hour, minute, second, micros)) => {
            let zone = if column.data_type == "timestamp" { "Z" } else { "" };
            let fraction = fraction(micros, column.decimals);
            string(&format!(
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}"
            ))
        }
        ("time", &Value::Time(negative, days, hours, minutes, seconds, micros)) => {
            let sign = if negative { "-" } else { "" };
            let hours = days * 24 + u32::from(hours);
            let fraction = fraction(micros, column.decimals);
            string(&format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{fraction}"))
        }
        (data_type, value) => bail!("no document form for {data_type}: {value:?}"),
    }
}

/// `.120` for 120,000 microseconds and three digits; nothing for none.
fn fraction(micros: u32, decimals: usize) -> String {
    if decimals == 0 {
        return String::new();
    }
    format!(".{}", &format!("{micros:06}")[..decimals])
}
