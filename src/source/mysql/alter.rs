//! ALTER TABLE, clause by clause: whether documents of the table are still what its rows are.
//!
//! docs/ddl.md has the rules in one table. A clause that is not known is not understood, and neither is its statement: nothing may be
//! taken to be harmless for want of a word. (MySQL 8.0 to 9.7, sql/sql_yacc.yy, *alter_table_stmt*; MariaDB's own words beside them.)

use crate::event::TableName;

use super::definition::Definition;
use super::statement::{Effect, Leaves, Meaning, Reader, Redefined};
use super::tokens::Token;

/// What the clauses so far come to.
#[derive(Debug, Default)]
struct Altered {
    /// The first reason why documents are not what rows are.
    gap: Option<String>,
    redefined: Vec<Redefined>,
    /// Other tables whose rows changed, and why.
    others: Vec<(TableName, String)>,
}

impl Altered {
    fn gap(&mut self, why: impl Into<String>) {
        if self.gap.is_none() {
            self.gap = Some(why.into());
        }
    }
}

/// Options that take a value without `=` and change no row.
const OPTIONS: [&str; 31] = [
    "AUTO_INCREMENT",
    "AUTOEXTEND_SIZE",
    "AVG_ROW_LENGTH",
    "CHECKSUM",
    "COMMENT",
    "COMPRESSION",
    "CONNECTION",
    "DELAY_KEY_WRITE",
    "ENCRYPTED",
    "ENCRYPTION",
    "ENCRYPTION_KEY_ID",
    "ENGINE_ATTRIBUTE",
    "INSERT_METHOD",
    "KEY_BLOCK_SIZE",
    "MAX_ROWS",
    "MIN_ROWS",
    "PACK_KEYS",
    "PAGE_CHECKSUM",
    "PAGE_COMPRESSED",
    "PAGE_COMPRESSION_LEVEL",
    "PASSWORD",
    "ROW_FORMAT",
    "SECONDARY_ENGINE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "STORAGE",
    "TABLE_CHECKSUM",
    "TABLESPACE",
    "TRANSACTIONAL",
];

/// What may stand before PARTITION, and whether the partitions' rows are others afterwards.
const PARTITION_VERBS: [(&str, bool); 12] = [
    ("ADD", false),
    ("ANALYZE", false),
    ("CHECK", false),
    ("COALESCE", false),
    ("DISCARD", true),
    ("DROP", true),
    ("IMPORT", true),
    ("OPTIMIZE", false),
    ("REBUILD", false),
    ("REORGANIZE", false),
    ("REPAIR", false),
    ("TRUNCATE", true),
];

impl<'a> Reader<'a> {
    /// Behind ALTER.
    pub(super) fn alter(mut self) -> Meaning {
        let _ = self.word("ONLINE") || self.word("OFFLINE");
        let ignore = self.word("IGNORE");
        if !self.word("TABLE") {
            return self.other_object();
        }
        let _ = self.words(&["IF", "EXISTS"]);
        let Some(table) = self.table() else { return self.any_name() };
        self.patience();
        let followed = self.follows(&table);
        let mut altered = Altered::default();
        if ignore {
            altered.gap("ALTER IGNORE TABLE: rows that would be a key's second are gone");
        }
        loop {
            let start = self.at;
            let understood = self.takes_the_rest(&table, &mut altered) || {
                let clause = Reader { tokens: self.clause(), at: 0, ..self.clone() };
                clause.clause_is_known(&table, &mut altered)
            };
            if !understood && followed {
                let words = self.tokens.get(start..self.at).unwrap_or_default().iter();
                let words = words.map_while(|token| match token {
                    Token::Word(word) => Some(word.to_ascii_uppercase()),
                    _ => None,
                });
                let words = words.take(3).collect::<Vec<_>>().join(" ");
                return Meaning::Stops { table, what: format!("ALTER TABLE … {words}") };
            }
            if !self.mark(',') {
                break;
            }
        }
        let Altered { gap, redefined, others } = altered;
        let leaves = match gap {
            Some(why) => Leaves::Gap(why),
            None if redefined.is_empty() => Leaves::Right,
            None => Leaves::RightIf(redefined),
        };
        let own = [Effect { table, leaves }];
        let others = others.into_iter().map(|(table, why)| Effect { table, leaves: Leaves::Gap(why) });
        self.effects(own.into_iter().chain(others))
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

    /// ORDER BY and what is about partitions take the rest of the statement: lists of names with commas.
    fn takes_the_rest(&mut self, table: &TableName, altered: &mut Altered) -> bool {
        if self.word("ORDER") {
            self.at = self.tokens.len();
            return true;
        }
        for (verb, loses) in PARTITION_VERBS {
            if self.words(&[verb, "PARTITION"]) {
                if loses {
                    altered.gap(format!("{verb} PARTITION: no row event says which rows that changed"));
                }
                self.at = self.tokens.len();
                return true;
            }
        }
        let exchanges = if self.words(&["EXCHANGE", "PARTITION"]) {
            &["WITH", "TABLE"][..]
        } else if self.words(&["CONVERT", "PARTITION"]) {
            &["TO", "TABLE"][..]
        } else if self.words(&["CONVERT", "TABLE"]) {
            &[][..]
        } else {
            return false;
        };
        while self.peek().is_some() && !self.words(exchanges) {
            self.at += 1;
        }
        let Some(other) = self.table() else { return false };
        altered.gap(format!("EXCHANGE PARTITION with {other}"));
        altered.others.push((other, format!("EXCHANGE PARTITION with {table}")));
        self.at = self.tokens.len();
        true
    }

    /// Whether all of the clause is understood; notes what it does. Options stand in one clause, and partitioning behind the last.
    fn clause_is_known(mut self, table: &TableName, altered: &mut Altered) -> bool {
        // ALTER TABLE without a clause is nothing.
        while self.peek().is_some() {
            if !self.is_item(table, altered) {
                return false;
            }
        }
        true
    }

    fn is_item(&mut self, table: &TableName, altered: &mut Altered) -> bool {
        let Some(Token::Word(word)) = self.next() else { return false };
        let end = self.tokens.len();
        match word.to_ascii_uppercase().as_str() {
            "ADD" => return self.is_addition(altered),
            "DROP" => return self.is_removal(altered),
            "MODIFY" => {
                let _ = self.word("COLUMN");
                let _ = self.words(&["IF", "EXISTS"]);
                let Some(column) = self.name() else { return false };
                self.redefines(column, altered);
            }
            "CHANGE" => {
                let _ = self.word("COLUMN");
                let _ = self.words(&["IF", "EXISTS"]);
                let (Some(old), Some(new)) = (self.name(), self.name()) else { return false };
                if old == new {
                    self.redefines(new, altered);
                } else {
                    altered.gap(renamed(&old, &new));
                    self.at = end;
                }
            }
            "RENAME" => return self.is_renaming(table, altered),
            // ALTER [COLUMN] … SET DEFAULT, DROP DEFAULT, SET VISIBLE; indexes and checks: no value changes.
            "ALTER" | "PARTITION" | "SECONDARY_LOAD" | "SECONDARY_UNLOAD" => self.at = end,
            "CONVERT" => return self.is_conversion(altered),
            "DISCARD" | "IMPORT" => {
                altered.gap(format!("{} TABLESPACE", word.to_ascii_uppercase()));
                return self.word("TABLESPACE");
            }
            "ENABLE" | "DISABLE" => return self.word("KEYS"),
            "REMOVE" | "UPGRADE" => return self.word("PARTITIONING"),
            "WITH" | "WITHOUT" => return self.word("VALIDATION"),
            "FORCE" | "NOWAIT" => {}
            "ALGORITHM" | "LOCK" => {
                let _ = self.mark('=');
                return self.next().is_some();
            }
            "UNION" => {
                altered.gap("UNION: the table's rows are those of others");
                self.at = end;
            }
            "ENGINE" | "TYPE" => {
                let _ = self.mark('=');
                let Some(engine) = self.name() else { return false };
                if engine.eq_ignore_ascii_case("BLACKHOLE") {
                    altered.gap("ENGINE = BLACKHOLE: its rows are gone");
                }
            }
            "DEFAULT" => return self.is_charset_option(),
            "CHARACTER" | "CHARSET" | "COLLATE" => {
                self.at -= 1;
                return self.is_charset_option();
            }
            "DATA" | "INDEX" if self.word("DIRECTORY") => {
                let _ = self.mark('=');
                return self.next().is_some();
            }
            "START" => return self.word("TRANSACTION"),
            // MariaDB's engines have options of their own.
            word => {
                let equals = self.mark('=');
                return (equals || OPTIONS.contains(&word)) && self.next().is_some();
            }
        }
        true
    }

    /// `[DEFAULT] {CHARACTER SET | CHARSET | COLLATE} [=] name`: of columns to come.
    fn is_charset_option(&mut self) -> bool {
        let known = self.words(&["CHARACTER", "SET"]) || self.word("CHARSET") || self.word("COLLATE");
        let _ = self.mark('=');
        known && self.next().is_some()
    }

    fn name(&mut self) -> Option<String> {
        Some(self.next()?.name()?.to_owned())
    }

    fn redefines(&mut self, column: String, altered: &mut Altered) {
        let definition = Definition::parse(self);
        self.at = self.tokens.len();
        if definition.primary {
            altered.gap(OTHER_KEY);
        }
        altered.redefined.push(Redefined { column, definition });
    }

    /// Behind ADD.
    fn is_addition(&mut self, altered: &mut Altered) -> bool {
        let column = self.word("COLUMN");
        let _ = self.words(&["IF", "NOT", "EXISTS"]);
        if !self.mark('(') {
            return self.is_addition_of_one(column, altered);
        }
        loop {
            let start = self.at;
            let mut depth = 0_usize;
            while let Some(token) = self.peek() {
                match token {
                    Token::Mark('(') => depth += 1,
                    Token::Mark(',' | ')') if depth == 0 => break,
                    Token::Mark(')') => depth -= 1,
                    _ => {}
                }
                self.at += 1;
            }
            let one = self.tokens.get(start..self.at).unwrap_or_default();
            if !(Reader { tokens: one, at: 0, ..self.clone() }).is_addition_of_one(false, altered) {
                return false;
            }
            if !self.mark(',') {
                return self.mark(')');
            }
        }
    }

    fn is_addition_of_one(&mut self, column: bool, altered: &mut Altered) -> bool {
        let end = self.tokens.len();
        if !column {
            if self.word("CONSTRAINT") {
                let kinds = ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"];
                while self.peek().is_some_and(|token| !kinds.iter().any(|kind| token.is(kind))) {
                    self.at += 1;
                }
            }
            if self.words(&["PRIMARY", "KEY"]) {
                altered.gap(OTHER_KEY);
                self.at = end;
                return true;
            }
            // A unique key may become what rows are told apart by: that shows in the next rows.
            let keys = ["INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "FOREIGN", "CHECK"];
            if keys.iter().any(|kind| self.word(kind)) || self.words(&["VECTOR", "INDEX"]) {
                self.at = end;
                return true;
            }
            let versions =
                self.clone().words(&["SYSTEM", "VERSIONING"]) || self.clone().words(&["PERIOD", "FOR"]);
            if versions || self.peek().is_some_and(|token| token.is("CONSTRAINT")) {
                return false;
            }
        }
        let Some(name) = self.name() else { return false };
        let definition = Definition::parse(self);
        if definition.primary {
            altered.gap(OTHER_KEY);
        }
        if definition.fills {
            altered
                .gap(format!("ADD COLUMN {} with a value for the rows that were there", name.escape_debug()));
        }
        // A type at least.
        let typed = self.peek().is_some();
        self.at = end;
        typed
    }

    /// Behind DROP.
    fn is_removal(&mut self, altered: &mut Altered) -> bool {
        let end = self.tokens.len();
        if self.words(&["PRIMARY", "KEY"]) {
            altered.gap(OTHER_KEY);
            return true;
        }
        let _ = self.words(&["FOREIGN", "KEY"])
            || self.word("INDEX")
            || self.word("KEY")
            || self.word("CHECK")
            || self.word("CONSTRAINT")
            || {
                let _ = self.word("COLUMN");
                let _ = self.words(&["IF", "EXISTS"]);
                let versions =
                    self.clone().words(&["SYSTEM", "VERSIONING"]) || self.clone().words(&["PERIOD", "FOR"]);
                let Some(name) = self.name().filter(|_| !versions) else { return false };
                let column = name.escape_debug();
                altered.gap(format!("DROP COLUMN {column}: documents keep it until their rows change"));
                let _ = self.word("RESTRICT") || self.word("CASCADE");
                return true;
            };
        let _ = self.words(&["IF", "EXISTS"]);
        let Some(name) = self.name() else { return false };
        if name.eq_ignore_ascii_case("PRIMARY") {
            altered.gap(OTHER_KEY);
        }
        self.at = end;
        true
    }

    /// Behind RENAME.
    fn is_renaming(&mut self, table: &TableName, altered: &mut Altered) -> bool {
        if self.word("COLUMN") {
            let _ = self.words(&["IF", "EXISTS"]);
            let old = self.name();
            let to = self.word("TO");
            let (Some(old), true, Some(new)) = (old, to, self.name()) else { return false };
            altered.gap(renamed(&old, &new));
            return true;
        }
        if self.word("INDEX") || self.word("KEY") {
            self.at = self.tokens.len();
            return true;
        }
        let _ = self.word("TO") || self.word("AS") || self.mark('=');
        let Some(new) = self.table() else { return false };
        altered.gap(format!("RENAME TABLE to {new}"));
        altered.others.push((new, format!("RENAME TABLE from {table}")));
        true
    }

    /// Behind CONVERT.
    fn is_conversion(&mut self, altered: &mut Altered) -> bool {
        let known = self.words(&["TO", "CHARACTER", "SET"]) || self.words(&["TO", "CHARSET"]);
        let Some(charset) = self.name().filter(|_| known) else { return false };
        if charset.eq_ignore_ascii_case("BINARY") {
            altered.gap("CONVERT TO CHARACTER SET binary: text becomes bytes");
        } else if !self.strict {
            altered.gap("CONVERT TO CHARACTER SET: what the new one lacks was replaced");
        }
        !self.word("COLLATE") || self.next().is_some()
    }
}

/// Documents have their ids by the key.
pub(super) const OTHER_KEY: &str = "another PRIMARY KEY: documents stay under their old ids";

fn renamed(old: &str, new: &str) -> String {
    format!(
        "RENAME COLUMN {} to {}: documents keep the old name until their rows change",
        old.escape_debug(),
        new.escape_debug()
    )
}
