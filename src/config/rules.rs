//! `[[table]]`: rules for the documents of some tables.

use super::ConfigError;
use super::file;
use crate::event::pattern::TablePattern;
use crate::mapping::rule::{Rule, Rules};

/// # Errors
/// A pattern that no table could match, or a section that says nothing; the line is named.
pub(super) fn rules(tables: &[file::Table], text: &str, path: &str) -> Result<Rules, ConfigError> {
    let rule = |table: &file::Table| {
        let before = text.get(..table.matching.span().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let pattern = table.matching.get_ref();
        let wrong = |problem: String| ConfigError::Value {
            path: path.to_owned(),
            section: "[table]",
            key: "match",
            problem: format!("line {line}: {problem}"),
        };
        let tables = TablePattern::parse(pattern.trim()).map_err(|problem| {
            wrong(format!("the pattern {pattern:?} {problem}; write schema.table, with * and ? within each"))
        })?;
        if pattern.trim().starts_with('!') {
            return Err(wrong(format!(
                "{pattern:?} excludes: let a later section say otherwise of the tables that are meant by it"
            )));
        }
        let file::Table { decimal, zero_dates, json, .. } = *table;
        if (decimal, zero_dates, json) == (None, None, None) {
            return Err(wrong("its section says nothing of these tables".to_owned()));
        }
        Ok(Rule { tables, line, decimal, zero_dates, json })
    };
    tables.iter().map(rule).collect::<Result<_, _>>().map(Rules)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::mapping::rule::{DecimalAs, JsonAs, ZeroDatesAs};

    const FILE: &str = "[source]\nurl = \"mysql://relay@localhost\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://localhost:9200\"\n";

    fn refused(sections: &str) -> String {
        parse(&format!("{FILE}{sections}"), "f.toml").unwrap_err().to_string()
    }

    #[test]
    fn sections_are_rules_in_their_order() {
        let sections = "[[table]]\nmatch = \"shop.*\"\ndecimal = \"string\"\nzero_dates = \"string\"\n\n\
                        [[table]]\nmatch = \"shop.orders\"\njson = \"flattened\"\ndecimal = \"number\"\n";
        let rules = parse(&format!("{FILE}{sections}"), "f.toml").unwrap().rules.0;
        let [first, second] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((first.line, first.tables.to_string().as_str()), (7, "shop.*"));
        assert_eq!((first.decimal, first.json), (Some(DecimalAs::String), None));
        assert_eq!(first.zero_dates, Some(ZeroDatesAs::String));
        assert_eq!((second.line, second.json), (12, Some(JsonAs::Flattened)));
        assert_eq!((second.decimal, second.zero_dates), (Some(DecimalAs::Number), None));
        assert!(parse(FILE, "f.toml").unwrap().rules.0.is_empty());
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_line() {
        for (sections, expected) in [
            (
                "[[table]]\nmatch = \"orders\"\njson = \"string\"",
                "[[table]] match: line 7: the pattern \"orders\" has no dot",
            ),
            (
                "\n[[table]]\nmatch = \"shop.\"\njson = \"string\"",
                "line 8: the pattern \"shop.\" has an empty part",
            ),
            ("[[table]]\nmatch = \"!shop.a\"\njson = \"string\"", "line 7: \"!shop.a\" excludes"),
            ("[[table]]\nmatch = \"shop.a\"", "line 7: its section says nothing"),
            ("[[table]]\njson = \"string\"", "line 6, column 1: missing field `match`"),
            ("[[table]]\nmatch = \"a.b\"\njsn = \"string\"", "line 8, column 1: unknown field `jsn`"),
            ("[[table]]\nmatch = \"a.b\"\njson = \"text\"", "line 8, column 8: unknown variant"),
            ("[table]\nmatch = \"a.b\"\njson = \"string\"", "line 6"),
        ] {
            let message = refused(sections);
            assert!(message.contains(expected), "{sections}: {message}");
        }
    }
}
