//! DDL in the binlog: which tables it touches, and whether rows that were sent are still what they were.
//!
//! Of a followed table only added columns and plain indexes pass. What turns another table into a followed one (RENAME, EXCHANGE
//! PARTITION) stops as well.

use crate::event::TableName;

use super::statement::{Alteration, Meaning, Reader};
use super::tokens::Token;

/// Why documents of a table that was dropped are not its rows.
pub(super) const DROP: &str = "DROP TABLE: its documents stay as they were";

impl<'a> Reader<'a> {
    pub(super) fn create(mut self) -> Meaning {
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
            if self.has(&["SYSTEM", "VERSIONING"]) && self.follows(&table) {
                return Meaning::Stops { table, what: "CREATE TABLE … WITH SYSTEM VERSIONING".to_owned() };
            }
            // A new table is empty: its rows come as rows ...
            if matches!(self.tokens, [.., a, b] if a.is("START") && b.is("TRANSACTION")) {
                return Meaning::OpensTransaction;
            }
            // ... unless the statement itself fills it, as it stands in the binlog in statement format. The words are reserved: no
            // unquoted column is named so.
            let rest = self.tokens.get(self.at..).unwrap_or_default();
            let fills = rest.iter().any(|token| token.is("SELECT") || token.is("TABLE"))
                || rest.windows(2).any(|w| matches!(w, [a, b] if a.is("VALUES") && b.is("ROW")));
            if fills && self.follows(&table) {
                return Meaning::Stops {
                    table,
                    what: "CREATE TABLE … SELECT in statement format".to_owned(),
                };
            }
            return Meaning::OtherDdl;
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
                // One that is replaced is dropped.
                Some(table) if self.follows(&table) => {
                    Meaning::Alters(Alteration::of_indexes(table, replaces))
                }
                _ => Meaning::OtherDdl,
            };
        }
        // Schemas, views, triggers, routines, events, users and the like hold no rows.
        Meaning::OtherDdl
    }

    pub(super) fn drop(mut self) -> Meaning {
        if self.word("TEMPORARY") {
            return Meaning::OtherDdl;
        }
        if self.word("TABLE") || self.word("TABLES") {
            let if_exists = self.words(&["IF", "EXISTS"]);
            let mut followed = Vec::new();
            loop {
                match self.table() {
                    Some(table) if self.follows(&table) => followed.push(table),
                    Some(_) => {}
                    None => return self.any_name(),
                }
                if !self.mark(',') {
                    break;
                }
            }
            return match if_exists {
                _ if followed.is_empty() => Meaning::OtherDdl,
                true => Meaning::DropsIfExists(followed),
                false => Meaning::Gaps(followed.into_iter().map(|table| (table, DROP.to_owned())).collect()),
            };
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

    pub(super) fn rename(mut self) -> Meaning {
        if !(self.word("TABLE") || self.word("TABLES")) {
            return Meaning::OtherDdl;
        }
        let _ = self.words(&["IF", "EXISTS"]);
        let mut gaps = Vec::new();
        loop {
            let old = self.table();
            self.patience();
            let arrow = self.word("TO");
            let (Some(old), true, Some(new)) = (old, arrow, self.table()) else { return self.any_name() };
            let (from, to) = (format!("RENAME TABLE to {new}"), format!("RENAME TABLE from {old}"));
            gaps.extend([(old, from), (new, to)].into_iter().filter(|(table, _)| self.follows(table)));
            if !self.mark(',') {
                return if gaps.is_empty() { Meaning::OtherDdl } else { Meaning::Gaps(gaps) };
            }
        }
    }

    pub(super) fn alter(mut self) -> Meaning {
        let ignore = self.word("IGNORE");
        let _ = self.word("ONLINE") || self.word("OFFLINE");
        if !self.word("TABLE") {
            return Meaning::OtherDdl;
        }
        let _ = self.words(&["IF", "EXISTS"]);
        let Some(table) = self.table() else { return self.any_name() };
        self.patience();
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
            } else if clause.words(&["CONVERT", "PARTITION"]) {
                // MariaDB makes a table of a partition, and a partition of a table.
                while clause.peek().is_some() && !clause.words(&["TO", "TABLE"]) {
                    clause.at += 1;
                }
                other = clause.table().map(|table| (table, "CONVERT PARTITION"));
            } else if clause.words(&["CONVERT", "TABLE"]) {
                other = clause.table().map(|table| (table, "CONVERT TABLE"));
            }
            if let Some((table, verb)) = other
                && self.follows(&table)
            {
                return Meaning::Stops { table, what: format!("ALTER TABLE … {verb}") };
            }
            if !self.mark(',') {
                return Meaning::OtherDdl;
            }
        }
    }

    /// Passes over how long MariaDB is to wait for locks: `NOWAIT`, `WAIT n`.
    fn patience(&mut self) {
        if !self.word("NOWAIT") && self.word("WAIT") {
            self.next();
        }
    }

    /// Whether these words follow each other somewhere in what is left.
    fn has(&self, words: &[&str]) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        rest.windows(words.len()).any(|tokens| tokens.iter().zip(words).all(|(token, word)| token.is(word)))
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
