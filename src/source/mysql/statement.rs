//! What a statement in the binlog means for the tables we follow.
//!
//! In row format the binlog still carries statements: the bounds of transactions, DDL, and whatever a session wrote in
//! statement format. A statement that could change rows of a followed table without saying which must not pass, and one
//! that cannot must not stop anything. So what is known is read with care, and of what is not known every name counts: a
//! table that it could mean is taken to be meant.
//!
//! A statement may be as large as an event, so DML and what is not known is read token by token, no further than needed; only
//! DDL, which people write, is held as tokens.

use crate::event::TableName;

use super::definition::Definition;
use super::patterns::Patterns;
use super::tokens::{Lexer, SqlMode, Token};

/// What to do about a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    Begin,
    Commit,
    Rollback,
    /// SAVEPOINT of this name.
    Savepoint(String),
    /// ROLLBACK TO this savepoint: rows between the two do not count.
    RollbackTo(String),
    /// Whatever changes no row.
    Nothing,
    /// `XA START`: what follows is of an XA transaction. Its id, as written.
    XaStart(String),
    /// `XA END`.
    XaEnd,
    /// `XA COMMIT`: rows prepared earlier count from here on. The transaction's id, as written.
    XaCommit(String),
    /// `XA ROLLBACK`, the same.
    XaRollback(String),
    /// DDL that no followed row depends on.
    OtherDdl,
    /// `CREATE TABLE … START TRANSACTION`: rows of the new table follow in the same transaction (atomic CREATE … SELECT). The table, if
    /// it is followed.
    OpensTransaction(Option<TableName>),
    /// DDL of these followed tables.
    Ddl(Vec<Effect>),
    /// The schema and everything in it goes.
    DropsSchema(String),
    /// TRUNCATE of a followed table: all its rows go.
    Truncates(TableName),
    /// Rows of a followed table are changed and no row event says how, or it is not understood whether they are.
    Stops {
        table: TableName,
        what: String,
    },
}

/// What DDL does to a followed table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub table: TableName,
    pub leaves: Leaves,
}

/// How DDL leaves a table's documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// As what its rows are.
    Right,
    /// As something else, and why.
    Gap(String),
    /// The same, if there was such a table.
    GapIfThere(String),
    /// As what its rows are if all these columns keep their values.
    RightIf(Vec<Redefined>),
}

/// A column with another definition under the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redefined {
    pub column: String,
    pub definition: Definition,
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
    let sql = behind_variables(sql, mode);
    let all = Lexer::new(sql, mode);
    let names = Names { schema, patterns };
    let mut rest = all;
    let verb = match rest.next() {
        None => return Meaning::Nothing,
        Some(Token::Word(verb)) => verb.to_ascii_uppercase(),
        Some(_) => return names.meant("a statement that is not understood".to_owned(), all),
    };
    let dml = in_statement_format(&verb);
    match verb.as_str() {
        "INSERT" | "REPLACE" => names.written(dml, rest, all),
        "LOAD" => {
            // A name stands in quotes, or its words differ.
            while rest.clone().next().is_some() && !(next_is(rest, "INTO") && next_is(after(rest), "TABLE")) {
                rest.next();
            }
            names.written(dml, after(after(rest)), all)
        }
        // The tables stand before SET, and for DELETE before WHERE; what stands behind is columns and what is read.
        "UPDATE" => names.meant(dml, Section::new(rest, &["SET"])),
        "DELETE" => names.meant(dml, Section::new(rest, &["WHERE", "ORDER", "LIMIT", "RETURNING"])),
        "BEGIN" | "START" | "COMMIT" | "ROLLBACK" | "SAVEPOINT" | "RELEASE" | "XA" | "CREATE" | "DROP"
        | "ALTER" | "TRUNCATE" | "RENAME" => {
            let tokens = all.collect::<Vec<_>>();
            let reader = Reader { tokens: &tokens, at: 0, schema, patterns, strict: mode.strict };
            // The server writes `XA COMMIT X'…',X'…',1` (sql/xa.h, XID::serialize), with the id in one piece.
            let xid = || sql.split_whitespace().nth(2).unwrap_or_default().to_owned();
            match reader.statement() {
                Meaning::XaStart(_) => Meaning::XaStart(xid()),
                Meaning::XaCommit(_) => Meaning::XaCommit(xid()),
                Meaning::XaRollback(_) => Meaning::XaRollback(xid()),
                meaning => meaning,
            }
        }
        // Maintenance and accounts: no row changes. ANALYZE, OPTIMIZE and REPAIR TABLE are logged by name alone.
        "ANALYZE" | "OPTIMIZE" | "REPAIR" | "CHECK" | "FLUSH" | "GRANT" | "REVOKE" | "INSTALL"
        | "UNINSTALL" | "RESET" | "PURGE" | "SET" => Meaning::OtherDdl,
        _ => names.meant(dml, all),
    }
}

/// MariaDB's `SET STATEMENT variable = value, … FOR statement`: what stands behind FOR.
fn behind_variables(mut sql: &str, mode: SqlMode) -> &str {
    loop {
        let lexer = Lexer::new(sql, mode);
        if !next_is(lexer, "SET") || !next_is(after(lexer), "STATEMENT") {
            return sql;
        }
        let mut variables = Section::new(after(lexer), &["FOR"]);
        while variables.next().is_some() {}
        sql = variables.lexer.rest();
    }
}

fn next_is(mut lexer: Lexer<'_>, word: &str) -> bool {
    lexer.next().is_some_and(|token| token.is(word))
}

fn after(mut lexer: Lexer<'_>) -> Lexer<'_> {
    lexer.next();
    lexer
}

/// The tokens before the first of `ends` outside parentheses.
#[derive(Clone)]
struct Section<'a> {
    lexer: Lexer<'a>,
    ends: &'a [&'a str],
    depth: usize,
}

impl<'a> Section<'a> {
    fn new(lexer: Lexer<'a>, ends: &'a [&'a str]) -> Section<'a> {
        Section { lexer, ends, depth: 0 }
    }
}

impl Iterator for Section<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let token = self.lexer.next()?;
        match token {
            Token::Mark('(') => self.depth += 1,
            Token::Mark(')') => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        (self.depth > 0 || !self.ends.iter().any(|end| token.is(end))).then_some(token)
    }
}

/// What names mean.
#[derive(Clone, Copy)]
struct Names<'a> {
    schema: &'a str,
    patterns: &'a Patterns,
}

impl Names<'_> {
    /// The one table that `[modifiers] [schema.]table` says is written to; where that cannot be read, any name in the statement.
    fn written(self, what: String, rest: Lexer<'_>, all: Lexer<'_>) -> Meaning {
        let mut tokens = rest.skip_while(|token| MODIFIERS.iter().any(|word| token.is(word)));
        let name = |token: Option<Token>| token.and_then(Token::into_name);
        let first = name(tokens.next());
        let qualified = tokens.next() == Some(Token::Mark('.'));
        let second = if qualified { name(tokens.next()) } else { None };
        let table = match (first, second) {
            (Some(schema), Some(table)) => TableName::new(schema, table),
            (Some(table), None) if !qualified => TableName::new(self.schema, table),
            _ => return self.meant(what, all),
        };
        if self.patterns.follows_table(&table) { Meaning::Stops { table, what } } else { Meaning::OtherDdl }
    }

    /// Statements that are not known: each name that stands in one could be a table's.
    fn meant(self, what: String, tokens: impl Iterator<Item = Token> + Clone) -> Meaning {
        match self.followed(tokens) {
            Some(table) => Meaning::Stops { table, what },
            None => Meaning::Nothing,
        }
    }

    /// The first name that could mean a followed table.
    fn followed(self, mut tokens: impl Iterator<Item = Token> + Clone) -> Option<TableName> {
        let mut after_dot = false;
        while let Some(token) = tokens.next() {
            let part = std::mem::replace(&mut after_dot, token == Token::Mark('.'));
            if part || RESERVED.iter().any(|word| token.is(word)) {
                continue;
            }
            let Some(name) = token.into_name() else { continue };
            let mut ahead = tokens.clone();
            let qualified = match ahead.next() {
                Some(Token::Mark('.')) => ahead.next().and_then(Token::into_name),
                _ => None,
            };
            let table = match qualified {
                Some(table) => TableName::new(name, table),
                None => TableName::new(self.schema, name),
            };
            if self.patterns.follows_table(&table) {
                return Some(table);
            }
        }
        None
    }
}

/// Reads tokens from the left.
#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    pub(super) schema: &'a str,
    pub(super) patterns: &'a Patterns,
    /// What a column cannot hold is an error in this session.
    pub(super) strict: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn rest(&self) -> &'a [Token] {
        self.tokens.get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        Some(token)
    }

    /// Takes the next token if it is the keyword `word`.
    pub(super) fn word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is(word));
        self.at += usize::from(found);
        found
    }

    /// Takes the words of `words` one after the other, or none.
    pub(super) fn words(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .enumerate()
            .all(|(i, word)| self.tokens.get(self.at + i).is_some_and(|token| token.is(word)));
        self.at += if found { words.len() } else { 0 };
        found
    }

    pub(super) fn mark(&mut self, mark: char) -> bool {
        let found = self.peek() == Some(&Token::Mark(mark));
        self.at += usize::from(found);
        found
    }

    /// `[schema.]table`
    pub(super) fn table(&mut self) -> Option<TableName> {
        let first = self.next()?.name()?;
        if self.mark('.') {
            return Some(TableName::new(first, self.next()?.name()?));
        }
        Some(TableName::new(self.schema, first))
    }

    pub(super) fn follows(&self, table: &TableName) -> bool {
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
                if !self.word("TO") {
                    return Meaning::Rollback;
                }
                let _ = self.word("SAVEPOINT");
                Meaning::RollbackTo(self.savepoint())
            }
            "SAVEPOINT" => Meaning::Savepoint(self.savepoint()),
            "RELEASE" => Meaning::Nothing,
            "XA" => self.xa(),
            "CREATE" => self.create(),
            "DROP" => self.drop(),
            "ALTER" => self.alter(),
            "TRUNCATE" => {
                let _ = self.word("TABLE");
                match self.table() {
                    Some(table) if self.follows(&table) => Meaning::Truncates(table),
                    Some(_) => Meaning::OtherDdl,
                    None => self.any_name(),
                }
            }
            "RENAME" => self.rename(),
            _ => self.any_name(),
        }
    }

    /// DDL in a form that is not known: each name that stands in it could be a table's.
    pub(super) fn any_name(&self) -> Meaning {
        let (what, names) = match self.tokens {
            [Token::Word(verb), names @ ..] => (in_statement_format(verb), names),
            tokens => ("a statement that is not understood".to_owned(), tokens),
        };
        Names { schema: self.schema, patterns: self.patterns }.meant(what, names.iter().cloned())
    }

    /// A name, or nothing, which no savepoint is called.
    fn savepoint(&mut self) -> String {
        self.next().and_then(Token::name).unwrap_or_default().to_owned()
    }

    fn xa(mut self) -> Meaning {
        let verb = self.next().and_then(Token::name).unwrap_or_default().to_ascii_uppercase();
        match verb.as_str() {
            "START" | "BEGIN" => Meaning::XaStart(String::new()),
            "COMMIT" => Meaning::XaCommit(String::new()),
            "ROLLBACK" => Meaning::XaRollback(String::new()),
            _ => Meaning::XaEnd,
        }
    }
}

/// Words between INSERT or REPLACE and the table.
const MODIFIERS: [&str; 5] = ["LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO"];

/// Reserved words that stand where tables do or in statements of any kind: unquoted, none can be a table's name.
const RESERVED: [&str; 56] = [
    "ALL",
    "AND",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CALL",
    "CASE",
    "CROSS",
    "DELETE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "EXISTS",
    "FALSE",
    "FOR",
    "FORCE",
    "FROM",
    "GROUP",
    "HAVING",
    "IF",
    "IGNORE",
    "IN",
    "INDEX",
    "INNER",
    "INSERT",
    "INTO",
    "IS",
    "JOIN",
    "KEY",
    "LEFT",
    "LIKE",
    "LIMIT",
    "LOW_PRIORITY",
    "NATURAL",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OUTER",
    "REPLACE",
    "RIGHT",
    "SELECT",
    "SET",
    "STRAIGHT_JOIN",
    "TABLE",
    "THEN",
    "TRUE",
    "UNION",
    "UPDATE",
    "USE",
    "USING",
    "VALUES",
    "WHEN",
    "WHERE",
];

fn in_statement_format(verb: &str) -> String {
    format!("{} in statement format", verb.to_ascii_uppercase())
}

#[cfg(test)]
#[path = "statement_tests.rs"]
mod tests;
