//! Column definitions in DDL: whether the values that were there still print as they did.
//!
//! MODIFY and CHANGE repeat a definition whole, whatever of it is new. A value prints as before where the new type holds every value of the
//! old one and prints them alike. Where it holds fewer, the session's `sql_mode` decides: if it is strict, an ALTER that would change a
//! value fails (MySQL, sql/sql_table.cc, *copy_data_between_tables*), but for spaces that a shorter VARCHAR or TEXT cuts off (*Field_longstr::report_if_important_data*).
//! What is not told apart here counts as changed.

use crate::event::ColumnType;

use super::statement::Reader;
use super::tokens::Token;

/// A column's definition, as far as values depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// `None`: values may be any others.
    becomes: Option<Becomes>,
    unsigned: bool,
    nullable: bool,
    /// Rows that were there have a value in the column when it is added.
    pub fills: bool,
    /// The column is the table's key.
    pub primary: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Becomes {
    Integer {
        bits: u8,
        unsigned: bool,
    },
    Decimal {
        precision: u32,
        scale: u32,
    },
    Bit {
        bits: u32,
    },
    Char {
        chars: usize,
    },
    Varchar {
        chars: usize,
    },
    /// So many bytes.
    Text(usize),
    Binary {
        bytes: usize,
    },
    Varbinary {
        bytes: usize,
    },
    Enum(Vec<String>),
    Set(Vec<String>),
    /// Alike if it is the same.
    Same(ColumnType),
}

/// A column as its rows came so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    pub ty: ColumnType,
    pub nullable: bool,
    /// CHAR or BINARY.
    pub padded: bool,
    /// The longest value of CHAR, VARCHAR, TEXT and their binary counterparts.
    pub bytes: usize,
    pub chars: usize,
    /// Of an ENUM or SET.
    pub labels: Vec<String>,
}

impl Definition {
    /// `tokens`: a type and what follows it.
    #[must_use]
    pub(super) fn parse(tokens: &Reader<'_>) -> Definition {
        let mut reader = tokens.clone();
        let serial = reader.peek().is_some_and(|token| token.is("SERIAL"));
        let timestamp = reader.peek().is_some_and(|token| token.is("TIMESTAMP"));
        let becomes = reader.column_type();
        let attributes = Attributes::of(reader.rest());
        let nullable = attributes.nullable(timestamp) && !serial;
        let unsigned = tokens.rest().iter().any(|token| token.is("UNSIGNED") || token.is("ZEROFILL"));
        Definition {
            unsigned,
            becomes: becomes.filter(|_| !attributes.computed && !attributes.counts && !serial),
            nullable,
            fills: !nullable || attributes.has_default || attributes.computed || attributes.counts,
            primary: attributes.primary,
        }
    }

    /// Whether every value of a column prints as before, now that it is defined so.
    #[must_use]
    pub fn keeps(&self, before: &Before, strict: bool) -> bool {
        // NULL is refused by a strict mode; a TIMESTAMP makes the present time of it.
        let timestamp = matches!(before.ty, ColumnType::Timestamp { .. });
        let keeps_null = self.nullable || !before.nullable || (strict && !timestamp);
        let was_unsigned = matches!(before.ty, ColumnType::Integer { unsigned: true, .. });
        let keeps_negative = strict || !self.unsigned || was_unsigned;
        keeps_null
            && keeps_negative
            && self.becomes.as_ref().is_some_and(|becomes| becomes.keeps(before, strict))
    }
}

impl Becomes {
    fn keeps(&self, before: &Before, strict: bool) -> bool {
        match (before.ty, self) {
            (ColumnType::Integer { bits: old, unsigned: false }, Becomes::Integer { bits, unsigned }) => {
                strict || (*bits >= old && !unsigned)
            }
            (ColumnType::Integer { bits: old, unsigned: true }, Becomes::Integer { bits, unsigned }) => {
                strict || *bits > old || (*bits == old && *unsigned)
            }
            (ColumnType::Decimal { precision: old, scale: same }, Becomes::Decimal { precision, scale }) => {
                *scale == u32::from(same) && (strict || *precision >= u32::from(old))
            }
            (ColumnType::Bit { bits: old }, Becomes::Bit { bits }) => *bits >= u32::from(old),
            // Converted to another character set, what it lacks is an error only then.
            (ColumnType::Varchar, Becomes::Char { chars }) => {
                strict && before.padded && *chars >= before.chars
            }
            (ColumnType::Varchar | ColumnType::Text, Becomes::Varchar { chars }) => {
                strict && *chars >= before.chars
            }
            (ColumnType::Varchar | ColumnType::Text, Becomes::Text(bytes)) => {
                let grown = if before.ty == ColumnType::Text { before.bytes } else { 4 * before.chars };
                strict && *bytes >= grown
            }
            (ColumnType::Binary, Becomes::Binary { bytes }) => before.padded && *bytes == before.bytes,
            (ColumnType::Binary, Becomes::Varbinary { bytes }) => *bytes >= before.bytes,
            (ColumnType::Enum, Becomes::Enum(labels)) => {
                before.labels.iter().all(|label| labels.contains(label))
            }
            // A value has its labels in the order of the definition.
            (ColumnType::Set, Becomes::Set(labels)) => labels.starts_with(&before.labels),
            (old, Becomes::Same(ty)) => *ty == old,
            _ => false,
        }
    }
}

/// What stands behind the type.
#[derive(Debug, Default)]
struct Attributes {
    not_null: bool,
    null: bool,
    has_default: bool,
    computed: bool,
    counts: bool,
    primary: bool,
}

impl Attributes {
    fn of(tokens: &[Token]) -> Attributes {
        let mut found = Attributes::default();
        let (mut depth, mut before) = (0_usize, None::<&Token>);
        let is = |token: Option<&Token>, word: &str| token.is_some_and(|token| token.is(word));
        for (i, token) in tokens.iter().enumerate() {
            let next = tokens.get(i + 1);
            match token {
                Token::Mark('(') => depth += 1,
                Token::Mark(')') => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                token if token.is("NULL") && is(before, "NOT") => found.not_null = true,
                token if token.is("NULL") && !is(before, "DEFAULT") => found.null = true,
                // `DEFAULT (NULL)` counts as one: it does no harm.
                token if token.is("DEFAULT") && !is(next, "NULL") => found.has_default = true,
                token if token.is("AS") || token.is("GENERATED") => found.computed = true,
                token if token.is("AUTO_INCREMENT") => found.counts = true,
                token if token.is("PRIMARY") || (token.is("KEY") && !is(before, "UNIQUE")) => {
                    found.primary = true;
                }
                _ => {}
            }
            before = Some(token);
        }
        found
    }

    /// Without explicit_defaults_for_timestamp a TIMESTAMP is NOT NULL unless it says NULL.
    fn nullable(&self, timestamp: bool) -> bool {
        !self.not_null && !self.primary && (self.null || !timestamp)
    }
}

impl Reader<'_> {
    /// `[(n[, n])]`
    fn sizes(&mut self) -> Option<Vec<u32>> {
        let mut sizes = Vec::new();
        if !self.mark('(') {
            return Some(sizes);
        }
        loop {
            sizes.push(self.next()?.number()?);
            if self.mark(')') {
                return Some(sizes);
            }
            if !self.mark(',') {
                return None;
            }
        }
    }

    /// `[(n)]`
    fn size(&mut self) -> Option<Option<u32>> {
        match self.sizes()?.as_slice() {
            [] => Some(None),
            [size] => Some(Some(*size)),
            _ => None,
        }
    }

    fn labels(&mut self) -> Option<Vec<String>> {
        let mut labels = Vec::new();
        if !self.mark('(') {
            return None;
        }
        loop {
            let Token::Literal(label) = self.next()? else { return None };
            labels.push(label.clone());
            if self.mark(')') {
                return Some(labels);
            }
            if !self.mark(',') {
                return None;
            }
        }
    }

    /// Takes a data type; `None` for one that is not known here, or whose values may print otherwise whatever they were.
    fn column_type(&mut self) -> Option<Becomes> {
        let decimals = |size: Option<u32>| u8::try_from(size.unwrap_or(0)).ok();
        let chars = |size: Option<u32>| size.map(|size| size as usize);
        let Token::Word(name) = self.next()? else { return None };
        let becomes = match name.to_ascii_uppercase().as_str() {
            "TINYINT" | "INT1" => self.integer(8)?,
            "SMALLINT" | "INT2" => self.integer(16)?,
            "MEDIUMINT" | "INT3" | "MIDDLEINT" => self.integer(24)?,
            "INT" | "INTEGER" | "INT4" => self.integer(32)?,
            "BIGINT" | "INT8" => self.integer(64)?,
            "BOOL" | "BOOLEAN" => Becomes::Integer { bits: 8, unsigned: false },
            // With digits they round.
            "FLOAT" => match self.sizes()?.as_slice() {
                [] => Becomes::Same(ColumnType::Float),
                [bits] if *bits <= 24 => Becomes::Same(ColumnType::Float),
                [_] => Becomes::Same(ColumnType::Double),
                _ => return None,
            },
            "DOUBLE" => {
                let _ = self.word("PRECISION");
                self.sizes()?.is_empty().then_some(Becomes::Same(ColumnType::Double))?
            }
            "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => match self.sizes()?.as_slice() {
                [] => Becomes::Decimal { precision: 10, scale: 0 },
                [precision] => Becomes::Decimal { precision: *precision, scale: 0 },
                [precision, scale] => Becomes::Decimal { precision: *precision, scale: *scale },
                _ => return None,
            },
            "BIT" => Becomes::Bit { bits: self.size()?.unwrap_or(1) },
            "DATE" => Becomes::Same(ColumnType::Date),
            "YEAR" => {
                self.size()?;
                Becomes::Same(ColumnType::Year)
            }
            "DATETIME" => Becomes::Same(ColumnType::DateTime { decimals: decimals(self.size()?)? }),
            "TIMESTAMP" => Becomes::Same(ColumnType::Timestamp { decimals: decimals(self.size()?)? }),
            "TIME" => Becomes::Same(ColumnType::Time { decimals: decimals(self.size()?)? }),
            "CHAR" | "CHARACTER" if self.word("VARYING") => Becomes::Varchar { chars: chars(self.size()?)? },
            "CHAR" | "CHARACTER" => Becomes::Char { chars: chars(self.size()?).unwrap_or(1) },
            "VARCHAR" => Becomes::Varchar { chars: chars(self.size()?)? },
            "TINYTEXT" => Becomes::Text(0xff),
            "TEXT" => self.sizes()?.is_empty().then_some(Becomes::Text(0xffff))?,
            "MEDIUMTEXT" => Becomes::Text(0xff_ffff),
            "LONGTEXT" => Becomes::Text(0xffff_ffff),
            "BINARY" => Becomes::Binary { bytes: chars(self.size()?).unwrap_or(1) },
            "VARBINARY" => Becomes::Varbinary { bytes: chars(self.size()?)? },
            "TINYBLOB" => Becomes::Varbinary { bytes: 0xff },
            "BLOB" => self.sizes()?.is_empty().then_some(Becomes::Varbinary { bytes: 0xffff })?,
            "MEDIUMBLOB" => Becomes::Varbinary { bytes: 0xff_ffff },
            "LONGBLOB" => Becomes::Varbinary { bytes: 0xffff_ffff },
            "ENUM" => Becomes::Enum(self.labels()?),
            "SET" => Becomes::Set(self.labels()?),
            "JSON" => Becomes::Same(ColumnType::Json),
            _ => return None,
        };
        let text = matches!(becomes, Becomes::Char { .. } | Becomes::Varchar { .. } | Becomes::Text(_));
        if text && self.makes_bytes() { None } else { Some(becomes) }
    }

    fn integer(&mut self, bits: u8) -> Option<Becomes> {
        self.size()?;
        let unsigned = self.rest().iter().any(|token| token.is("UNSIGNED") || token.is("ZEROFILL"));
        Some(Becomes::Integer { bits, unsigned })
    }

    /// `CHARACTER SET binary` turns text into bytes.
    fn makes_bytes(&self) -> bool {
        self.rest().iter().any(|token| token.is("BYTE") || token.is("BINARY"))
    }
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
