//! Which tables are followed: `schema.table` patterns with `*` and `?`, some of them negative (`!`).
//!
//! A table is followed if any positive pattern and no negative one matches it; their order says nothing. System
//! schemas are never followed.

use crate::event::TableName;
pub use crate::event::pattern::NameCase;
use crate::event::pattern::TablePattern;
use crate::log::followed::{MAX_PATTERN_BYTES, pattern_bytes};

/// Schemas that belong to the server itself.
const SYSTEM: [&str; 4] = ["mysql", "sys", "information_schema", "performance_schema"];

/// What an error shows of the longest of too many patterns, characters.
const SHOWN: usize = 80;

const TOO_MANY: &str = "is one of more than 1 MiB of patterns, which is more than the log keeps";
const _: () = assert!(MAX_PATTERN_BYTES == 1 << 20);

/// A pattern that no table could match as meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the table pattern {pattern:?} {problem}; write schema.table, with * and ? within each, and ! in front to exclude"
)]
pub struct BadPattern {
    pub pattern: String,
    pub problem: &'static str,
}

/// All patterns of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patterns {
    positive: Vec<TablePattern>,
    negative: Vec<TablePattern>,
    case: NameCase,
}

impl Patterns {
    /// # Errors
    /// A pattern without a dot, with an empty part, for a system schema; no positive pattern at all, or more than the log keeps.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Patterns, BadPattern> {
        let mut parsed = Patterns::default();
        if pattern_bytes(patterns) > MAX_PATTERN_BYTES {
            let longest = patterns.iter().map(AsRef::as_ref).max_by_key(|pattern| pattern.len());
            let pattern = longest.unwrap_or_default().chars().take(SHOWN).collect();
            return Err(BadPattern { pattern, problem: TOO_MANY });
        }
        for text in patterns.iter().map(AsRef::as_ref) {
            let bad = |problem| BadPattern { pattern: text.to_owned(), problem };
            let (negative, body) = match text.trim().strip_prefix('!') {
                Some(body) => (true, body.trim_start()),
                None => (false, text.trim()),
            };
            let pattern = TablePattern::parse(body).map_err(bad)?;
            if !negative && is_system(pattern.schema()) {
                return Err(bad("names a system schema, which is never followed"));
            }
            if negative { parsed.negative.push(pattern) } else { parsed.positive.push(pattern) }
        }
        if parsed.positive.is_empty() {
            let pattern = patterns.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(", ");
            return Err(BadPattern {
                pattern,
                problem: "follows no table: at least one without ! is needed",
            });
        }
        Ok(parsed)
    }

    /// The same patterns under a server's rules of case.
    #[must_use]
    pub fn with_case(mut self, case: NameCase) -> Patterns {
        self.case = case;
        self
    }

    /// Whether changes of this table are wanted.
    #[must_use]
    pub fn follows(&self, schema: &str, table: &str) -> bool {
        let matches = |pattern: &TablePattern| pattern.matches(schema, table, self.case);
        !is_system(schema) && self.positive.iter().any(matches) && !self.negative.iter().any(matches)
    }

    /// [`Patterns::follows`] for a [`TableName`].
    #[must_use]
    pub fn follows_table(&self, name: &TableName) -> bool {
        self.follows(&name.schema, &name.table)
    }

    /// Whether a table of this schema could be followed.
    #[must_use]
    pub fn follow_in(&self, schema: &str) -> bool {
        !is_system(schema) && self.positive.iter().any(|pattern| pattern.matches_schema(schema, self.case))
    }

    /// How the server compares names.
    #[must_use]
    pub fn case(&self) -> NameCase {
        self.case
    }

    /// Whether two names are one to the server.
    #[must_use]
    pub fn same_name(&self, a: &str, b: &str) -> bool {
        glob_same(a, b, self.case)
    }
}

fn is_system(schema: &str) -> bool {
    SYSTEM.iter().any(|system| system.eq_ignore_ascii_case(schema))
}

fn glob_same(a: &str, b: &str, case: NameCase) -> bool {
    match case {
        NameCase::Sensitive => a == b,
        NameCase::Insensitive => a.to_lowercase() == b.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> Patterns {
        Patterns::parse(list).unwrap()
    }

    #[test]
    fn a_table_is_followed_by_any_positive_and_no_negative_pattern_in_any_order() {
        for list in [["shop.*", "!shop.audit_*"], ["!shop.audit_*", "shop.*"]] {
            let p = patterns(&list);
            assert!(p.follows("shop", "orders"));
            assert!(!p.follows("shop", "audit_log"));
            assert!(!p.follows("shopping", "orders"));
        }
    }

    #[test]
    fn stars_and_question_marks_match_within_a_part() {
        let p = patterns(&["tenant_??.*_v*"]);
        assert!(p.follows("tenant_01", "orders_v2"));
        assert!(p.follows("tenant_01", "a_b_v"));
        assert!(!p.follows("tenant_1", "orders_v2"));
        assert!(!p.follows("tenant_01", "orders"));
        assert!(patterns(&["*.*"]).follows("a", "b.c"));
        assert!(patterns(&["é?.*"]).follows("éü", "t"));
    }

    #[test]
    fn many_stars_take_no_time() {
        let pattern = format!("s.{}b", "a*".repeat(200));
        assert!(!patterns(&[&pattern]).follows("s", &"a".repeat(5_000)));
    }

    #[test]
    fn system_schemas_are_never_followed() {
        let p = patterns(&["*.*"]);
        for schema in ["mysql", "sys", "MySQL", "information_schema", "performance_schema"] {
            assert!(!p.follows(schema, "user"));
        }
        assert!(Patterns::parse(&["mysql.user"]).is_err());
        assert!(p.follow_in("shop") && !p.follow_in("mysql"));
    }

    #[test]
    fn case_is_compared_as_the_server_compares_it() {
        let p = patterns(&["Shop.Orders"]);
        assert!(!p.follows("shop", "orders"));
        assert!(p.with_case(NameCase::Insensitive).follows("SHOP", "orders"));
    }

    #[test]
    fn more_patterns_than_the_log_keeps_are_refused() {
        let long = format!("shop.{}", "é".repeat(MAX_PATTERN_BYTES / 3));
        assert!(Patterns::parse(&[&long]).is_ok());
        let error = Patterns::parse(&[&long, &long]).unwrap_err().to_string();
        assert!(error.contains("more than 1 MiB") && error.len() < 500, "{error}");
    }

    #[test]
    fn a_bad_pattern_is_named() {
        for (list, named) in [
            (&["orders"][..], "orders"),
            (&[".orders"], ".orders"),
            (&["shop."], "shop."),
            (&["!shop.x"], "!shop.x"),
            (&[], ""),
        ] {
            assert_eq!(Patterns::parse(list).unwrap_err().pattern, named);
        }
    }
}
