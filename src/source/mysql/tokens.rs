//! SQL as tokens: enough of MySQL's lexer to tell names from strings and comments.
//!
//! The content of an executable comment (`/*! … */`) counts as if it stood alone, whatever version it asks for: the server that
//! wrote it may have run it. Optimizer hints and other comments are nothing. (MySQL, sql/sql_lex.cc, *lex_one_token*.)

/// What a session's `sql_mode` changes about tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqlMode {
    /// ANSI_QUOTES: double quotes hold names.
    pub ansi_quotes: bool,
    /// STRICT_TRANS_TABLES or STRICT_ALL_TABLES: what a column cannot hold is an error.
    pub strict: bool,
    /// NO_BACKSLASH_ESCAPES: a backslash in a string is itself.
    pub no_backslash_escapes: bool,
}

impl SqlMode {
    /// From the bits that a query event carries (MySQL, sql/system_variables.h, MODE_…).
    #[must_use]
    pub fn from_bits(bits: u64) -> SqlMode {
        SqlMode {
            ansi_quotes: bits & 4 != 0,
            strict: bits & (3 << 21) != 0,
            no_backslash_escapes: bits & (1 << 20) != 0,
        }
    }
}

/// Most bytes of a literal that are kept: more than an ENUM's label or a number has, and values of rows can be large.
const LITERAL: usize = 1024;

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A keyword or an unquoted name, as written.
    Word(String),
    /// A quoted name.
    Name(String),
    /// A string or a whole number: what it says, cut after [`LITERAL`] bytes.
    Literal(String),
    /// Any other character.
    Mark(char),
}

impl Token {
    /// Whether this is the keyword `word` (given in upper case).
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own.eq_ignore_ascii_case(word))
    }

    /// [`Token::name`], taken out.
    #[must_use]
    pub fn into_name(self) -> Option<String> {
        match self {
            Token::Word(name) | Token::Name(name) => Some(name),
            _ => None,
        }
    }

    /// The number that it is.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match self {
            Token::Literal(said) => said.parse().ok(),
            _ => None,
        }
    }

    /// What it would name where a name stands.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Name(name) => Some(name),
            _ => None,
        }
    }
}

/// The tokens of a statement, one by one: a copy costs nothing and reads on from where the original stands. Never fails: what is
/// unfinished ends with the text.
#[derive(Clone, Copy, Debug)]
pub struct Lexer<'a> {
    rest: &'a str,
    mode: SqlMode,
}

/// Characters of an unquoted name; everything above ASCII is one.
fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

/// What a step over the text met.
enum Step {
    Token(Token),
    /// A comment, or a bound of one.
    Nothing,
    End,
}

impl Iterator for Lexer<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            match self.step() {
                Step::Token(token) => return Some(token),
                Step::Nothing => {}
                Step::End => return None,
            }
        }
    }
}

impl<'a> Lexer<'a> {
    #[must_use]
    pub fn new(sql: &'a str, mode: SqlMode) -> Lexer<'a> {
        Lexer { rest: sql, mode }
    }

    /// What is not read yet.
    #[must_use]
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Takes one token or comment.
    fn step(&mut self) -> Step {
        self.rest =
            self.rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\u{b}' || c == '\0');
        let mut chars = self.rest.chars();
        let Some(first) = chars.next() else { return Step::End };
        let second = chars.next();
        let token = match (first, second) {
            ('#', _) => return self.skip_line(),
            ('-', Some('-')) if chars.next().is_none_or(|c| c.is_whitespace() || c.is_control()) => {
                return self.skip_line();
            }
            ('/', Some('*')) => return self.comment(),
            // The end of an executable comment.
            ('*', Some('/')) => {
                self.advance(2);
                return Step::Nothing;
            }
            ('"', _) if self.mode.ansi_quotes => Token::Name(self.name('"')),
            ('`', _) => Token::Name(self.name('`')),
            ('\'' | '"', _) => {
                let mut said = String::new();
                self.quoted(first, !self.mode.no_backslash_escapes, |c| {
                    if said.len() <= LITERAL {
                        said.push(c);
                    }
                });
                Token::Literal(said)
            }
            (c, _) if is_word(c) => {
                let end = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
                let word = self.rest.get(..end).unwrap_or_default();
                let number = word.bytes().all(|b| b.is_ascii_digit());
                let token =
                    if number { Token::Literal(word.to_owned()) } else { Token::Word(word.to_owned()) };
                self.advance(end);
                token
            }
            (c, _) => {
                self.advance(c.len_utf8());
                Token::Mark(c)
            }
        };
        Step::Token(token)
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn skip_line(&mut self) -> Step {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        Step::Nothing
    }

    fn comment(&mut self) -> Step {
        let inner = self.rest.get(2..).unwrap_or_default();
        // `/*M!` is MariaDB's.
        let executable = inner.strip_prefix('!').or_else(|| inner.strip_prefix("M!"));
        match executable {
            Some(inner) => self.rest = inner.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => self.rest = inner.split_once("*/").map_or("", |(_, rest)| rest),
        }
        Step::Nothing
    }

    fn name(&mut self, quote: char) -> String {
        let mut name = String::new();
        self.quoted(quote, false, |c| name.push(c));
        name
    }

    /// Takes a quoted text whose quote doubled stands for itself, and hands over what it says: literals can be large.
    fn quoted(&mut self, quote: char, backslash: bool, mut says: impl FnMut(char)) {
        let mut chars = self.rest.char_indices().skip(1).peekable();
        let mut end = self.rest.len();
        while let Some((at, c)) = chars.next() {
            if c == '\\' && backslash {
                // What an escape stands for matters to nobody but whoever compares two texts: they differ then.
                says(c);
                if let Some((_, escaped)) = chars.next() {
                    says(escaped);
                }
            } else if c != quote {
                says(c);
            } else if chars.next_if(|(_, next)| *next == quote).is_some() {
                says(quote);
            } else {
                end = at + quote.len_utf8();
                break;
            }
        }
        self.advance(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str, mode: SqlMode) -> Vec<String> {
        Lexer::new(sql, mode).filter_map(|t| t.name().map(str::to_owned)).collect()
    }

    #[test]
    fn strings_and_comments_hold_no_names() {
        let sql =
            "insert /* t1 */ into t2 -- t3\n values ('t4', \"t5\", 'it''s t6', 'a\\'t7') # t8\n/*+ t9 */";
        assert_eq!(names(sql, SqlMode::default()), ["insert", "into", "t2", "values"]);
    }

    #[test]
    fn executable_comments_are_read() {
        assert_eq!(
            names("/*!50003 drop table*/ `a``b`.c /*!99999 x */", SqlMode::default()),
            ["drop", "table", "a`b", "c", "x"]
        );
    }

    #[test]
    fn the_sql_mode_decides_about_quotes_and_backslashes() {
        let ansi = SqlMode { ansi_quotes: true, ..SqlMode::default() };
        assert_eq!(names("drop table \"t\"", ansi), ["drop", "table", "t"]);
        let plain = SqlMode { no_backslash_escapes: true, ..SqlMode::default() };
        assert_eq!(names(r"x '\' y '\' z", plain), ["x", "y", "z"]);
        assert_eq!(names(r"x '\' y \'' z", SqlMode::default()), ["x", "z"]);
        assert_eq!(
            SqlMode::from_bits(4 | 1 << 20),
            SqlMode { ansi_quotes: true, strict: false, no_backslash_escapes: true }
        );
    }

    #[test]
    fn unfinished_text_ends_with_it() {
        for sql in ["'abc", "`abc", "/* abc", "/*!", "-", "--", "'\\", "\"", "a'''"] {
            let _ = Lexer::new(sql, SqlMode::default()).count();
        }
        assert_eq!(names("a--1", SqlMode::default()), ["a"]);
    }
}
