//! DDL in the binlog: which followed tables it touches, and whether their documents are still what their rows are.
//!
//! docs/ddl.md has the rules in one table; [`alter`](super::alter) has ALTER TABLE.

use super::alter::OTHER_KEY;
use super::statement::{Effect, Leaves, Meaning, Reader};

/// Why documents of a table that was dropped are not its rows.
pub(super) const DROP: &str = "DROP TABLE: its documents stay as they were";

/// What is created, altered and dropped beside tables and indexes: it has no rows.
const OTHER_OBJECTS: [&str; 18] = [
    "DATABASE",
    "EVENT",
    "FUNCTION",
    "GROUP",
    "INSTANCE",
    "LIBRARY",
    "PACKAGE",
    "PREPARE",
    "PROCEDURE",
    "ROLE",
    "SCHEMA",
    "SEQUENCE",
    "SERVER",
    "SYSTEM",
    "TABLESPACE",
    "TRIGGER",
    "USER",
    "VIEW",
];

impl Reader<'_> {
    /// Behind CREATE.
    pub(super) fn create(mut self) -> Meaning {
        let replaces = self.words(&["OR", "REPLACE"]);
        if self.word("TEMPORARY") {
            return Meaning::OtherDdl;
        }
        if self.word("TABLE") {
            let _ = self.words(&["IF", "NOT", "EXISTS"]);
            let Some(table) = self.table() else { return self.any_name() };
            if self.has(&["SYSTEM", "VERSIONING"]) && self.follows(&table) {
                return Meaning::Stops { table, what: "CREATE TABLE … WITH SYSTEM VERSIONING".to_owned() };
            }
            // A new table is empty: its rows come as rows ...
            if matches!(self.tokens, [.., a, b] if a.is("START") && b.is("TRANSACTION")) {
                return Meaning::OpensTransaction(Some(table).filter(|table| self.follows(table)));
            }
            // ... unless the statement itself fills it, as it stands in the binlog in statement format. The words are reserved: no
            // unquoted column is named so.
            let rest = self.rest();
            let fills = rest.iter().any(|token| token.is("SELECT") || token.is("TABLE"))
                || rest.windows(2).any(|w| matches!(w, [a, b] if a.is("VALUES") && b.is("ROW")));
            let leaves = match (fills, replaces) {
                (true, _) => Leaves::Gap("CREATE TABLE … SELECT in statement format".to_owned()),
                (_, true) => Leaves::GapIfThere("CREATE OR REPLACE TABLE".to_owned()),
                _ => Leaves::Right,
            };
            return self.effects([Effect { table, leaves }]);
        }
        let _ = self.word("UNIQUE");
        let _ = self.word("FULLTEXT") || self.word("SPATIAL") || self.word("VECTOR");
        if self.word("INDEX") {
            while self.peek().is_some_and(|token| !token.is("ON")) {
                self.at += 1;
            }
            self.at += 1;
            let Some(table) = self.table() else { return self.any_name() };
            return self.effects([Effect { table, leaves: Leaves::Right }]);
        }
        self.other_object()
    }

    /// Behind DROP.
    pub(super) fn drop(mut self) -> Meaning {
        if self.word("TEMPORARY") {
            return Meaning::OtherDdl;
        }
        if self.word("TABLE") || self.word("TABLES") {
            let if_exists = self.words(&["IF", "EXISTS"]);
            let mut effects = Vec::new();
            loop {
                let Some(table) = self.table() else { return self.any_name() };
                let (gap, why) = (if if_exists { Leaves::GapIfThere } else { Leaves::Gap }, DROP.to_owned());
                effects.push(Effect { table, leaves: gap(why) });
                if !self.mark(',') {
                    return self.effects(effects);
                }
            }
        }
        if self.word("DATABASE") || self.word("SCHEMA") {
            let _ = self.words(&["IF", "EXISTS"]);
            let schema = self.next().and_then(|token| token.name()).unwrap_or_default();
            return Meaning::DropsSchema(schema.to_owned());
        }
        if self.word("INDEX") {
            let _ = self.words(&["IF", "EXISTS"]);
            let name = self.next().and_then(|token| token.name());
            let primary = name.is_some_and(|name| name.eq_ignore_ascii_case("PRIMARY"));
            let on = self.word("ON");
            let Some(table) = self.table().filter(|_| on) else { return self.any_name() };
            // Another key may be what rows are told apart by: that shows in the next rows.
            let leaves = if primary { Leaves::Gap(OTHER_KEY.to_owned()) } else { Leaves::Right };
            return self.effects([Effect { table, leaves }]);
        }
        self.other_object()
    }

    /// Behind RENAME.
    pub(super) fn rename(mut self) -> Meaning {
        if !(self.word("TABLE") || self.word("TABLES")) {
            return self.other_object();
        }
        let _ = self.words(&["IF", "EXISTS"]);
        let mut effects = Vec::new();
        loop {
            let old = self.table();
            self.patience();
            let arrow = self.word("TO");
            let (Some(old), true, Some(new)) = (old, arrow, self.table()) else { return self.any_name() };
            let (from, to) = (format!("RENAME TABLE from {old}"), format!("RENAME TABLE to {new}"));
            effects.push(Effect { table: old, leaves: Leaves::Gap(to) });
            effects.push(Effect { table: new, leaves: Leaves::Gap(from) });
            if !self.mark(',') {
                return self.effects(effects);
            }
        }
    }

    /// Passes over how long MariaDB is to wait for locks: `NOWAIT`, `WAIT n`.
    pub(super) fn patience(&mut self) {
        if !self.word("NOWAIT") && self.word("WAIT") {
            self.next();
        }
    }

    /// Whether these words follow each other somewhere in what is left.
    fn has(&self, words: &[&str]) -> bool {
        let mut places = self.rest().windows(words.len());
        places.any(|tokens| tokens.iter().zip(words).all(|(token, word)| token.is(word)))
    }

    /// Of schemas, views, triggers, routines, users and the like; what is none of these could be about any name in it.
    pub(super) fn other_object(self) -> Meaning {
        // A definer and other attributes stand before the word; a view's query, a routine's body behind it.
        let mut head = self.rest().iter().take_while(|token| !token.is("AS") && !token.is("ON"));
        let known = head.any(|token| OTHER_OBJECTS.iter().any(|word| token.is(word)));
        if known { Meaning::OtherDdl } else { self.any_name() }
    }

    /// What is left of effects when tables that are not followed are left out.
    pub(super) fn effects(&self, effects: impl IntoIterator<Item = Effect>) -> Meaning {
        let followed: Vec<_> = effects.into_iter().filter(|effect| self.follows(&effect.table)).collect();
        if followed.is_empty() { Meaning::OtherDdl } else { Meaning::Ddl(followed) }
    }
}

#[cfg(test)]
#[path = "ddl_tests.rs"]
mod tests;
