//! What a statement in the binlog means for the tables we follow.
//!
//! In row format the binlog still carries statements: the bounds of transactions, DDL, and whatever a session wrote in
//! statement format. A statement that could change rows of a followed table without saying which must not pass, and one
//! that cannot must not stop anything. So what is known is read with care, and of what is not known every name counts: a
//! table that it could mean is taken to be meant.

use crate::event::TableName;

use super::patterns::Patterns;
use super::tokens::{SqlMode, Token, tokens};

/// What to do about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Begin,
    Commit,
    Rollback,
    /// ROLLBACK TO SAVEPOINT: rows before it in the same transaction may not count.
    RollbackTo,
    /// SAVEPOINT and whatever else changes no row.
    Nothing,
    /// `XA START` and `XA END`.
    XaBounds,
    /// `XA COMMIT`: rows prepared earlier count from here on. The transaction's id, as written.
    XaCommit(String),
    /// `XA ROLLBACK`, the same.
    XaRollback(String),
    /// DDL that no followed row depends on.
    OtherDdl,
    /// `CREATE TABLE … START TRANSACTION`: rows of the new table follow in the same transaction (atomic CREATE … SELECT).
    OpensTransaction,
    /// A followed table gained columns or changed its indexes.
    Alters(Alteration),
    /// The schema and everything in it goes.
    DropsSchema(String),
    /// Rows of a followed table are changed and no row event says how.
    Stops {
        table: TableName,
        what: String,
    },
}

/// An ALTER of a followed table that changes no row that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alteration {
    pub table: TableName,
    pub adds_columns: bool,
    /// An added column has a value in the rows that were there before.
    pub fills_rows: bool,
    pub drops_index: bool,
}

/// Classifies one statement of the binlog.
///
/// `schema`: the session's default schema, empty for none.
#[must_use]
pub fn classify(sql: &str, schema: &str, mode: SqlMode, patterns: &Patterns) -> Meaning {
    // Nearly all statements are these, as the server itself writes them.
    match sql {
        "BEGIN" => return Meaning::Begin,
        "COMMIT" => return Meaning::Commit,
        _ => {}
    }
    let tokens = tokens(sql, mode);
    let reader = Reader { tokens: &tokens, at: 0, schema, patterns };
    // The server writes `XA COMMIT X'…',X'…',1` (sql/xa.h, XID::serialize), with the id in one piece.
    let xid = || sql.split_whitespace().nth(2).unwrap_or_default().to_owned();
    match reader.statement() {
        Meaning::XaCommit(_) => Meaning::XaCommit(xid()),
        Meaning::XaRollback(_) => Meaning::XaRollback(xid()),
        meaning => meaning,
    }
}

/// Reads tokens from the left.
#[derive(Clone)]
struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    schema: &'a str,
    patterns: &'a Patterns,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    /// Takes the next token if it is the keyword `word`.
    fn word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(word));
        self.at += usize::from(found);
        found
    }

    /// Takes the words of `words` one after the other, or none.
    fn words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .enumerate()
            .all(|(i, word)| self.tokens.get(self.at + i).is_some_and(|token| token.is(word)));
        self.at += if found { words.len() } else { 0 };
        found
    }

    fn mark(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    /// `[schema.]table`
    fn table(&mut self) -> Option<TableName> {
        let first = self.next()?.name()?;
        if self.mark('.') {
            return Some(TableName::new(first, self.next()?.name()?));
        }
        Some(TableName::new(self.schema, first))
    }

    fn follows(&self, table: &TableName) -> bool {
        self.patterns.follows_table(table)
    }

    fn statement(mut self) -> Meaning {
        let Some(first) = self.next() else { return Meaning::Nothing };
        let Token::Word(word) = first else { return self.any_name() };
        match word.to_ascii_uppercase().as_str() {
            "BEGIN" => Meaning::Begin,
            "START" if self.word("TRANSACTION") => Meaning::Begin,
            "COMMIT" => Meaning::Commit,
            "ROLLBACK" => {
                let _ = self.word("WORK");
                if self.word("TO") { Meaning::RollbackTo } else { Meaning::Rollback }
            }
            "SAVEPOINT" | "RELEASE" => Meaning::Nothing,
            "XA" => self.xa(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "ALTER" => self.alter(),
            "TRUNCATE" => {
                let _ = self.word("TABLE");
                self.stops_if_followed("TRUNCATE TABLE")
            }
            "RENAME" => self.rename(),
            // Maintenance and accounts: no row changes. ANALYZE, OPTIMIZE and REPAIR TABLE are logged by name alone.
            "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "FLUSH" | "GRANT" | "REVOKE" | "INSTALL"
            | "UNINSTALL" | "RESET" | "PURGE" | "SET" => Meaning::OtherDdl,
            _ => self.any_name(),
        }
    }

    /// Statements that are not known, DML among them: each name that stands in it could be a table's.
    fn any_name(&self) -> Meaning {
        let what = match self.tokens.first() {
            Some(Token::Word(word)) => format!("{} in statement format", word.to_ascii_uppercase()),
            _ => "a statement that is not understood".to_owned(),
        };
        match self.first_followed_name() {
            Some(table) => Meaning::Stops { table, what },
            None => Meaning::Nothing,
        }
    }

    /// The first name from here on that could mean a followed table.
    fn first_followed_name(&self) -> Option<TableName> {
        let tokens = self.tokens;
        tokens.iter().enumerate().find_map(|(i, token)| {
            let name = token.name()?;
            let qualified = match (tokens.get(i + 1), tokens.get(i + 2).and_then(Token::name)) {
                (Some(Token::Mark('.')), Some(table)) => Some(TableName::new(name, table)),
                _ => None,
            };
            let plain = TableName::new(self.schema, name);
            qualified
                .filter(|table| self.follows(table))
                .or_else(|| Some(plain).filter(|table| self.follows(table)))
        })
    }

    fn stops_if_followed(mut self, what: &str) -> Meaning {
        match self.table() {
            Some(table) if self.follows(&table) => Meaning::Stops { table, what: what.to_owned() },
            Some(_) => Meaning::OtherDdl,
            None => self.any_name(),
        }
    }

    fn xa(mut self) -> Meaning {
        let verb = self.next().and_then(Token::name).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "COMMIT" => Meaning::XaCommit(String::new()),
            "ROLLBACK" => Meaning::XaRollback(String::new()),
            _ => Meaning::XaBounds,
        }
    }

    fn create(mut self) -> Meaning {
        let replaces = self.words(&["OR", "REPLACE"]);
        if self.word("TEMPORARY") {
            return Meaning::OtherDdl;
        }
        if self.word("TABLE") {
            let _ = self.words(&["IF", "NOT", "EXISTS"]);
            let Some(table) = self.table() else { return self.any_name() };
            if replaces && self.follows(&table) {
                return Meaning::Stops { table, what: "CREATE OR REPLACE TABLE".to_owned() };
            }
            // A new table is empty: its rows come as rows.
            let atomic = matches!(self.tokens, [.., a, b] if a.is("START") && b.is("TRANSACTION"));
            return if atomic { Meaning::OpensTransaction } else { Meaning::OtherDdl };
        }
        let unique = self.word("UNIQUE");
        let _ = self.word("FULLTEXT") || self.word("SPATIAL");
        if self.word("INDEX") {
            while self.peek().is_some_and(|token| !token.is("ON")) {
                self.at += 1;
            }
            self.at += 1;
            return match self.table() {
                Some(table) if self.follows(&table) && unique => {
                    Meaning::Stops { table, what: "CREATE UNIQUE INDEX".to_owned() }
                }
                Some(table) if self.follows(&table) => Meaning::Alters(Alteration::of_indexes(table, false)),
                _ => Meaning::OtherDdl,
            };
        }
        // Schemas, views, triggers, routines, events, users and the like hold no rows.
        Meaning::OtherDdl
    }

    fn drop(mut self) -> Meaning {
        if self.word("TEMPORARY") {
            return Meaning::OtherDdl;
        }
        if self.word("TABLE") || self.word("TABLES") {
            let _ = self.words(&["IF", "EXISTS"]);
            loop {
                match self.table() {
                    Some(table) if self.follows(&table) => {
                        return Meaning::Stops { table, what: "DROP TABLE".to_owned() };
                    }
                    Some(_) => {}
                    None => return self.any_name(),
                }
                if !self.mark(',') {
                    return Meaning::OtherDdl;
                }
            }
        }
        if self.word("DATABASE") || self.word("SCHEMA") {
            let _ = self.words(&["IF", "EXISTS"]);
            let schema = self.next().and_then(Token::name).unwrap_or_default();
            return Meaning::DropsSchema(schema.to_owned());
        }
        if self.word("INDEX") {
            let primary =
                self.next().and_then(Token::name).is_some_and(|name| name.eq_ignore_ascii_case("PRIMARY"));
            if self.word("ON") {
                return match self.table() {
                    Some(table) if self.follows(&table) && primary => {
                        Meaning::Stops { table, what: "DROP INDEX `PRIMARY`".to_owned() }
                    }
                    Some(table) if self.follows(&table) => {
                        Meaning::Alters(Alteration::of_indexes(table, true))
                    }
                    _ => Meaning::OtherDdl,
                };
            }
        }
        Meaning::OtherDdl
    }

    fn rename(mut self) -> Meaning {
        if !(self.word("TABLE") || self.word("TABLES")) {
            return Meaning::OtherDdl;
        }
        let _ = self.words(&["IF", "EXISTS"]);
        loop {
            let old = self.table();
            let arrow = self.word("TO");
            let (Some(old), true, Some(new)) = (old, arrow, self.table()) else { return self.any_name() };
            for table in [old, new] {
                if self.follows(&table) {
                    return Meaning::Stops { table, what: "RENAME TABLE".to_owned() };
                }
            }
            if !self.mark(',') {
                return Meaning::OtherDdl;
            }
        }
    }

    fn alter(mut self) -> Meaning {
        let ignore = self.word("IGNORE");
        let _ = self.word("ONLINE") || self.word("OFFLINE");
        if !self.word("TABLE") {
            return Meaning::OtherDdl;
        }
        let _ = self.words(&["IF", "EXISTS"]);
        let Some(table) = self.table() else { return self.any_name() };
        if !self.follows(&table) {
            return self.alter_of_other_table();
        }
        let stops = |what: String| Meaning::Stops { table: table.clone(), what };
        if ignore {
            return stops("ALTER IGNORE TABLE".to_owned());
        }
        let mut alteration = Alteration::of_indexes(table.clone(), false);
        loop {
            let clause = self.clause();
            let reader = Reader { tokens: clause, at: 0, ..self.clone() };
            if !reader.harmless_clause(&mut alteration) {
                let words = clause.iter().map_while(|token| match token {
                    Token::Word(word) => Some(word.to_ascii_uppercase()),
                    _ => None,
                });
                let words = words.take(3).collect::<Vec<_>>().join(" ");
                return stops(format!("ALTER TABLE … {words}"));
            }
            if !self.mark(',') {
                return Meaning::Alters(alteration);
            }
        }
    }

    /// Not followed itself, but it may become a followed one, or trade a partition with it.
    fn alter_of_other_table(mut self) -> Meaning {
        loop {
            let mut clause = Reader { tokens: self.clause(), at: 0, ..self.clone() };
            let mut other = None;
            if clause.word("RENAME") {
                let _ = clause.word("TO") || clause.word("AS") || clause.mark('=');
                if !["COLUMN", "INDEX", "KEY"].iter().any(|word| clause.peek().is_some_and(|t| t.is(word))) {
                    other = clause.table().map(|table| (table, "RENAME"));
                }
            } else if clause.words(&["EXCHANGE", "PARTITION"]) {
                while clause.peek().is_some() && !clause.words(&["WITH", "TABLE"]) {
                    clause.at += 1;
                }
                other = clause.table().map(|table| (table, "EXCHANGE PARTITION"));
            }
            if let Some((table, verb)) = other {
                if self.follows(&table) {
                    return Meaning::Stops { table, what: format!("ALTER TABLE … {verb}") };
                }
            }
            if !self.mark(',') {
                return Meaning::OtherDdl;
            }
        }
    }

    /// The tokens up to the next comma outside parentheses.
    fn clause(&mut self) -> &'a [Token] {
        let start = self.at;
        let mut depth = 0_usize;
        while let Some(token) = self.peek() {
            match token {
                Token::Mark('(') => depth += 1,
                Token::Mark(')') => depth = depth.saturating_sub(1),
                Token::Mark(',') if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        self.tokens.get(start..self.at).unwrap_or_default()
    }

    /// Whether a clause of an ALTER TABLE changes no row that was sent; notes what it does.
    fn harmless_clause(mut self, alteration: &mut Alteration) -> bool {
        if self.word("ALGORITHM") || self.word("LOCK") {
            return self.rest_is_one_option();
        }
        if self.word("DROP") {
            alteration.drops_index = true;
            return (self.word("INDEX") || self.word("KEY"))
                && !self
                    .peek()
                    .and_then(Token::name)
                    .is_some_and(|name| name.eq_ignore_ascii_case("PRIMARY"))
                && self.tokens.len() == 3;
        }
        if !self.word("ADD") {
            return false;
        }
        let index = ["INDEX", "KEY", "FULLTEXT", "SPATIAL"];
        if index.iter().any(|word| self.word(word)) {
            return self.no_partitions();
        }
        let named_column = self.word("COLUMN");
        let other = ["PRIMARY", "UNIQUE", "CONSTRAINT", "FOREIGN", "CHECK", "PARTITION", "PERIOD", "SYSTEM"];
        if !named_column && other.iter().any(|word| self.peek().is_some_and(|token| token.is(word))) {
            return false;
        }
        let _ = self.words(&["IF", "NOT", "EXISTS"]);
        alteration.adds_columns = true;
        // A key among the column's attributes is one that the table did not have.
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let has = |word: &str| rest.iter().any(|token| token.is(word));
        alteration.fills_rows |= has("DEFAULT")
            && !rest.windows(2).any(|w| matches!(w, [a, b] if a.is("DEFAULT") && b.is("NULL")));
        alteration.fills_rows |= has("AS") || has("GENERATED") || has("AUTO_INCREMENT");
        alteration.fills_rows |= rest.windows(2).any(|w| matches!(w, [a, b] if a.is("NOT") && b.is("NULL")));
        !has("PRIMARY") && !has("UNIQUE") && !has("KEY") && self.no_partitions()
    }

    /// `= VALUE` and nothing more.
    fn rest_is_one_option(mut self) -> bool {
        let _ = self.mark('=');
        self.next().is_some() && self.peek().is_none()
    }

    /// Partition options follow the last clause without a comma.
    fn no_partitions(&self) -> bool {
        !self.tokens.iter().any(|token| token.is("PARTITION") || token.is("PARTITIONING"))
    }
}

impl Alteration {
    fn of_indexes(table: TableName, drops_index: bool) -> Alteration {
        Alteration { table, adds_columns: false, fills_rows: false, drops_index }
    }
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
