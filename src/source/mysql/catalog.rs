//! What information_schema says of a table, for table maps that leave it out.
//!
//! It is asked while the stream is read, over a connection of its own and of the same server, and is as new as the server then is: where the
//! binlog ended right after it was asked comes with it, and what stands behind that place cannot be in it. (A GTID set would not do: an ALTER
//! is seen in information_schema before gtid_executed has it. Its place in the binlog it has before that.)
//!
//! What it says is compared with the table map column by column: their number, types, lengths, digits, signs, and which may be NULL.

use crate::event::TableName;
use crate::log::record::Position;

use super::control::{Control, METADATA_PATIENCE, literal};
use super::description::{
    self, CHARSETS, DIMENSIONS, Description, ENUM_LABELS, KEY, NAMES, NATIVES, Native, SET_LABELS, SIGNS,
};
use super::error::MysqlError;
use super::options::MysqlOptions;
use super::server::{Family, Peer};
use super::tokens::{Lexer, SqlMode, Token};
use super::wire::bit;

/// utf8mb4_general_ci: what labels are written in.
const UTF8: usize = 45;

/// Each column's collation, one by one.
const EACH_CHARSET: u8 = 3;

/// Each label's collation, one by one.
const EACH_LABEL_CHARSET: u8 = 11;

/// A table as information_schema has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Where the server's binlog ended afterwards.
    pub at: Position,
    /// In row order; none where there is no such table, or none that the user may see.
    pub columns: Vec<Column>,
    /// Names of the columns of the primary key, else of a unique key over whole NOT NULL columns.
    pub key: Vec<String>,
}

/// A column as information_schema has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    /// As `varchar(50)` or `enum('a','b')`.
    pub full_type: String,
    /// As `varchar`.
    pub data_type: String,
    pub nullable: bool,
    /// The longest value of a string column, bytes.
    pub octets: Option<u64>,
    /// Of what is no text that of bytes.
    pub collation: Option<u64>,
}

/// Why a table map is not of the table that information_schema has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unlike {
    #[error("information_schema shows no such table to this user")]
    NoTable,
    #[error("information_schema has {has} columns where its rows have {rows}")]
    Count { has: usize, rows: usize },
    #[error("the column {0:?} in information_schema is of another type than that of its rows")]
    Column(String),
}

impl Asked {
    /// The table map completed.
    ///
    /// # Errors
    /// It is not of these columns.
    pub fn describe(&self, map: &Description<'_>, family: Family) -> Result<Vec<u8>, Unlike> {
        if self.columns.is_empty() {
            return Err(Unlike::NoTable);
        }
        let (has, rows) = (self.columns.len(), map.types.len());
        if has != rows {
            return Err(Unlike::Count { has, rows });
        }
        for (index, (column, found)) in self.columns.iter().zip(map.columns()).enumerate() {
            let same = found.is_ok_and(|(ty, metadata)| column.is_stored_as(ty, metadata, family));
            if !same || column.nullable != bit(map.nulls, index) {
                return Err(Unlike::Column(column.name.clone()));
            }
        }
        let (mut names, mut enums, mut sets, mut charsets) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut natives = Vec::new();
        for (index, column) in self.columns.iter().enumerate() {
            if let Some(native) = column.native() {
                native.push(index, &mut natives);
            }
            description::string(column.name.as_bytes(), &mut names);
            let out = match column.data_type.as_str() {
                "enum" => &mut enums,
                "set" => &mut sets,
                _ => continue,
            };
            let labels = column.labels();
            description::length(labels.len(), out);
            labels.iter().for_each(|label| description::string(label.as_bytes(), out));
            description::length(UTF8, &mut charsets);
        }
        let signs = self.signs();
        let mut fields = vec![
            (SIGNS, &signs[..]),
            (NAMES, &names),
            (SET_LABELS, &sets),
            (ENUM_LABELS, &enums),
            (EACH_LABEL_CHARSET, &charsets),
        ];
        let mut key = Vec::new();
        for name in &self.key {
            // Altered between two questions.
            let place = self.columns.iter().position(|column| column.name == *name);
            description::length(place.ok_or_else(|| Unlike::Column(name.clone()))?, &mut key);
        }
        fields.push((KEY, &key));
        if family == Family::Mariadb {
            fields.push((NATIVES, &natives));
        }
        let collations = self.collations(map, family)?;
        if map.field(CHARSETS).is_none() {
            fields.push((EACH_CHARSET, &collations));
        }
        let described = map.completed_by(&map.with(fields));
        // Whose signs are others is not said; the first is as good as any.
        described.ok_or_else(|| {
            Unlike::Column(self.columns.first().map(|column| column.name.clone()).unwrap_or_default())
        })
    }

    /// A description of it without any table map: of rows as they would be written now.
    ///
    /// # Errors
    /// There is no such table, or a column is of a type that is not known here.
    pub fn whole(&self, family: Family) -> Result<Vec<u8>, Unlike> {
        let (mut types, mut metadata, mut nulls) =
            (Vec::new(), Vec::new(), vec![0; self.columns.len().div_ceil(8)]);
        for (index, column) in self.columns.iter().enumerate() {
            let (ty, bytes) = column.storage(family).ok_or_else(|| Unlike::Column(column.name.clone()))?;
            types.push(ty);
            metadata.extend_from_slice(&bytes);
            if let Some(byte) = nulls.get_mut(index / 8).filter(|_| column.nullable) {
                *byte |= 1_u8 << (index % 8);
            }
        }
        let mut map = Vec::new();
        description::length(types.len(), &mut map);
        map.extend_from_slice(&types);
        description::string(&metadata, &mut map);
        map.extend_from_slice(&nulls);
        let mut dimensions = Vec::new();
        for column in
            self.columns.iter().filter(|column| column.data_type == "vector" && family == Family::Mysql)
        {
            description::length(column.digits().first().map_or(0, |count| *count as usize), &mut dimensions);
        }
        if !dimensions.is_empty() {
            map.push(DIMENSIONS);
            description::string(&dimensions, &mut map);
        }
        let map = Description::parse(&map).map_err(|_| Unlike::NoTable)?;
        self.describe(&map, family)
    }

    /// The collations of the columns that have one, where the map leaves them out (MariaDB's NO_LOG).
    fn collations(&self, map: &Description<'_>, family: Family) -> Result<Vec<u8>, Unlike> {
        let mut collations = Vec::new();
        if map.field(CHARSETS).is_some() {
            return Ok(collations);
        }
        for (column, found) in self.columns.iter().zip(map.columns()) {
            if found.is_ok_and(|(ty, metadata)| description::has_collation(ty, metadata, family)) {
                let collation = column.collation.and_then(|number| usize::try_from(number).ok());
                let collation = collation.ok_or_else(|| Unlike::Column(column.name.clone()))?;
                description::length(collation, &mut collations);
            }
        }
        Ok(collations)
    }

    /// A bit for each numeric column, the first in the highest of a byte (MySQL, sql/log_event.cc, *init_signedness_field*).
    fn signs(&self) -> Vec<u8> {
        let numeric = self.columns.iter().filter(|column| column.is_numeric());
        let mut signs = Vec::new();
        for (index, column) in numeric.enumerate() {
            if index % 8 == 0 {
                signs.push(0);
            }
            let unsigned = column.data_type == "year" || column.full_type.contains("unsigned");
            if let Some(last) = signs.last_mut().filter(|_| unsigned) {
                *last |= 0x80_u8 >> (index % 8);
            }
        }
        signs
    }
}

impl Column {
    fn is_numeric(&self) -> bool {
        matches!(
            self.data_type.as_str(),
            "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "float" | "double" | "year"
        )
    }

    /// Its type, if it is one of those that MariaDB's table maps do not tell.
    fn native(&self) -> Option<Native> {
        Some(match self.data_type.as_str() {
            "uuid" => Native::Uuid,
            "inet4" => Native::Inet4,
            "inet6" => Native::Inet6,
            "vector" => Native::Vector { dimensions: u16::try_from(*self.digits().first()?).ok()? },
            _ => return None,
        })
    }

    /// The type byte and metadata by which rows written now have it; `None` for a type that is not known here.
    fn storage(&self, family: Family) -> Option<(u8, Vec<u8>)> {
        let digits = self.digits();
        let digit = |place: usize| digits.get(place).map_or(Some(0), |digit| u8::try_from(*digit).ok());
        let octets = self.octets.unwrap_or(0);
        let string = |ty: u8| Some((ty, u16::try_from(octets).ok()?.to_le_bytes().to_vec()));
        let blob = |prefix: u8| Some((252, vec![prefix]));
        match self.data_type.as_str() {
            "tinyint" => Some((1, Vec::new())),
            "smallint" => Some((2, Vec::new())),
            "mediumint" => Some((9, Vec::new())),
            "int" => Some((3, Vec::new())),
            "bigint" => Some((8, Vec::new())),
            "float" => Some((4, vec![4])),
            "double" => Some((5, vec![8])),
            "decimal" => Some((246, vec![digit(0)?, digit(1)?])),
            "bit" => Some((16, vec![digit(0)? % 8, digit(0)? / 8])),
            "year" => Some((13, Vec::new())),
            "date" => Some((10, Vec::new())),
            "datetime" => Some((18, vec![digit(0)?])),
            "timestamp" => Some((17, vec![digit(0)?])),
            "time" => Some((19, vec![digit(0)?])),
            "varchar" | "varbinary" => string(15),
            "char" | "binary" => Some((254, vec![0xfe ^ (octets >> 4 & 0x30) as u8, octets as u8])),
            "tinytext" | "tinyblob" => blob(1),
            "text" | "blob" => blob(2),
            "mediumtext" | "mediumblob" => blob(3),
            "longtext" | "longblob" => blob(4),
            "json" => Some((245, vec![4])),
            "uuid" | "inet6" => Some((254, vec![254, 16])),
            "inet4" => Some((254, vec![254, 4])),
            "vector" if family == Family::Mysql => Some((242, vec![4])),
            "vector" => string(15),
            "enum" => Some((254, vec![247, if self.labels().len() > 255 { 2 } else { 1 }])),
            "set" => {
                let bytes = self.labels().len().div_ceil(8);
                Some((254, vec![248, if bytes > 4 { 8 } else { bytes as u8 }]))
            }
            "geometry" | "point" | "linestring" | "polygon" | "multipoint" | "multilinestring"
            | "multipolygon" | "geomcollection" | "geometrycollection" => Some((255, vec![4])),
            _ => None,
        }
    }

    /// Whether rows may have it by this type byte and metadata. A type that is not known here is not compared.
    fn is_stored_as(&self, ty: u8, metadata: &[u8], family: Family) -> bool {
        let no_fraction = self.digits().first().is_none_or(|decimals| *decimals == 0);
        let as_of_old = match self.data_type.as_str() {
            "date" => ty == 14,
            // Of tables made before MySQL 5.6.
            "datetime" => ty == 12 && no_fraction,
            "timestamp" => ty == 7 && no_fraction,
            "time" => ty == 11 && no_fraction,
            _ => false,
        };
        let plain = match ty {
            // MariaDB's COMPRESSED columns.
            141 => 15,
            140 | 249..=251 => 252,
            ty => ty,
        };
        as_of_old || self.storage(family).is_none_or(|written| written == (plain, metadata.to_vec()))
    }

    /// The numbers in the type's parentheses.
    fn digits(&self) -> Vec<u64> {
        let inside = self.full_type.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
        let inside = inside.map_or("", |(inside, _)| inside);
        inside.split(',').filter_map(|number| number.trim().parse().ok()).collect()
    }

    /// Of an ENUM or SET. The server writes them with its escapes (MySQL, sql/sql_show.cc and mysys, *append_unescaped*).
    fn labels(&self) -> Vec<String> {
        let mode = SqlMode::default();
        let mut labels = Vec::new();
        for token in Lexer::new(&self.full_type, mode) {
            if let Token::Literal(label) = token {
                labels.push(unescaped(&label));
            }
        }
        labels
    }
}

/// `\\0`, `\\n`, `\\r` and `\\\\` are what the server escapes.
fn unescaped(label: &str) -> String {
    let mut chars = label.chars();
    let mut plain = String::with_capacity(label.len());
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next() {
                Some('0') => '\0',
                Some('n') => '\n',
                Some('r') => '\r',
                Some(c) => c,
                None => '\\',
            },
            c => c,
        });
    }
    plain
}

/// The connection for such questions, made when there is one.
#[derive(Debug, Default)]
pub struct Catalog {
    control: Option<Control>,
}

impl Catalog {
    /// Asks the server `peer` about `table`.
    ///
    /// # Errors
    /// It does not answer, or another server does.
    pub async fn ask(
        &mut self,
        options: &MysqlOptions,
        peer: Peer,
        table: &TableName,
    ) -> Result<Asked, MysqlError> {
        // One that was left alone may be gone by now: then another is made, once.
        if let Some(mut control) = self.control.take()
            && let Ok(asked) = control.table(table).await
        {
            self.control = Some(control);
            return Ok(asked);
        }
        let mut control = Control::connect(options).await?;
        if control.server().peer != peer {
            return Err(MysqlError::OtherServer { server: options.address.to_string() });
        }
        control.show_all_columns().await?;
        let asked = control.table(table).await?;
        self.control = Some(control);
        Ok(asked)
    }

    /// Nothing is left at the server that nobody uses.
    pub fn close(&mut self) {
        self.control = None;
    }
}

const DOING: &str = "reading the columns of a followed table";

impl Control {
    /// A primary key that MySQL made by itself is a column of rows like any other, whatever the server is set to show.
    pub(super) async fn show_all_columns(&mut self) -> Result<(), MysqlError> {
        let known: Vec<[String; 2]> = self
            .ask_within(
                METADATA_PATIENCE,
                DOING,
                "SHOW VARIABLES LIKE 'show_gipk_in_create_table_and_information_schema'",
            )
            .await?;
        if !known.is_empty() {
            let set = "SET SESSION show_gipk_in_create_table_and_information_schema = ON";
            let _: Vec<[String; 0]> = self.ask_within(METADATA_PATIENCE, DOING, set).await?;
        }
        Ok(())
    }

    /// What information_schema says of a table now.
    ///
    /// # Errors
    /// The server does not answer, or has no binlog.
    pub async fn table(&mut self, table: &TableName) -> Result<Asked, MysqlError> {
        let (schema, name) = (literal(&table.schema), literal(&table.table));
        let (collation, join) = match self.server().peer.family {
            Family::Mysql => (
                "CASE WHEN c.collation_name IS NULL THEN 63 ELSE COALESCE(a.id, '') END",
                "LEFT JOIN information_schema.collations a ON a.collation_name = c.collation_name",
            ),
            Family::Mariadb => (
                "CASE WHEN c.collation_name IS NULL THEN 63 ELSE COALESCE(a.id, '') END",
                "LEFT JOIN information_schema.collation_character_set_applicability a ON a.full_collation_name = c.collation_name",
            ),
        };
        let asked = format!(
            "SELECT c.column_name, c.column_type, c.data_type, c.is_nullable = 'YES', COALESCE(c.character_octet_length, ''), {collation} \
             FROM information_schema.columns c {join} WHERE c.table_schema = {schema} AND c.table_name = {name} \
             ORDER BY c.ordinal_position"
        );
        let columns: Vec<[String; 6]> = self.ask_within(METADATA_PATIENCE, DOING, &asked).await?;
        let columns =
            columns.into_iter().map(|[name, full_type, data_type, nullable, octets, collation]| Column {
                name,
                full_type,
                data_type: data_type.to_ascii_lowercase(),
                nullable: nullable == "1",
                octets: octets.parse().ok(),
                collation: collation.parse().ok(),
            });
        let columns = columns.collect();
        let key = self.key(table).await?;
        let at = self.end_of_binlog().await?;
        Ok(Asked { at, columns, key })
    }

    /// The columns of the primary key, else of the first unique key, by name, of whole, NOT NULL columns; empty where there is none.
    pub(super) async fn key(&mut self, table: &TableName) -> Result<Vec<String>, MysqlError> {
        // A part that is an expression has no column's name.
        let asked = format!(
            "SELECT index_name, COALESCE(column_name, ''), \
             column_name IS NOT NULL AND (index_name = 'PRIMARY' OR (sub_part IS NULL AND COALESCE(nullable, '') <> 'YES')) \
             FROM information_schema.statistics WHERE table_schema = {} AND table_name = {} AND non_unique = 0 \
             ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index",
            literal(&table.schema),
            literal(&table.table)
        );
        let parts: Vec<[String; 3]> = self.ask_within(METADATA_PATIENCE, DOING, &asked).await?;
        Ok(parts
            .chunk_by(|[a, ..], [b, ..]| a == b)
            .find_map(|index| {
                let columns = index.iter().map(|[_, column, usable]| (usable == "1").then(|| column.clone()));
                columns.collect::<Option<Vec<_>>>()
            })
            .unwrap_or_default())
    }

    /// Where the server's binlog ends now.
    async fn end_of_binlog(&mut self) -> Result<Position, MysqlError> {
        let (file, offset) = self.binlog_files().await?.pop().ok_or_else(|| MysqlError::GtidSet {
            server: self.name().to_owned(),
            problem: "SHOW BINARY LOGS names no file".to_owned(),
        })?;
        let server = self.server().peer.uuid;
        Ok(Position { server, file, offset, ..Position::default() })
    }
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
