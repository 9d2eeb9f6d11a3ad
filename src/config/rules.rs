//! `[[table]]`: rules for the documents of some tables, and the keys of those that are named one.

use serde_json::{Map, Value};

use super::ConfigError;
use super::file;
use crate::event::pattern::{ByTable, TablePattern};
use crate::mapping::rule::{Rule, Rules};
use crate::mapping::template::IndexTemplate;
use crate::source::mysql::decode::MAX_KEY_PARTS;
use crate::source::mysql::named_key::NamedKeys;

/// Parts of a mapping that the relay sets by itself.
const OURS: &[(&str, &str)] = &[
    ("_routing", "`routing` of the section says what documents are routed by"),
    ("_meta", "the relay keeps there what the index was made by"),
];

/// Settings by their whole names: the engine takes `index.number_of_shards`, the same in tables, and both without `index.`, and refuses a setting that is
/// there in two ways.
fn flatten(prefix: &str, settings: &Map<String, Value>, out: &mut Map<String, Value>) {
    for (name, value) in settings {
        let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Object(inner) => flatten(&name, inner, out),
            _ if name.starts_with("index.") => drop(out.insert(name, value.clone())),
            _ => drop(out.insert(format!("index.{name}"), value.clone())),
        }
    }
}

/// # Errors
/// A pattern that no table could match, or a section that says nothing; the line is named.
pub(super) fn rules<'t>(
    tables: impl Iterator<Item = &'t file::Table>,
    text: &str,
    path: &str,
) -> Result<(Rules, NamedKeys, ByTable<bool>), ConfigError> {
    let (mut keys, mut stamped) = (NamedKeys::default(), ByTable::default());
    let mut rule = |table: &file::Table| {
        let before = text.get(..table.matching.span().start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let pattern = table.matching.get_ref();
        let wrong = |problem: String| ConfigError::Value {
            path: path.to_owned(),
            section: "[table]".to_owned(),
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
        let mut rule = Rule::of(tables, line);
        let nothing = rule.clone();
        (rule.decimal, rule.zero_dates, rule.json) = (table.decimal, table.zero_dates, table.json);
        (rule.deletes, rule.deleted_index) = (table.deletes, table.deleted_index);
        let wrong_of = |key: &'static str, problem: String| ConfigError::Value {
            path: path.to_owned(),
            section: "[table]".to_owned(),
            key,
            problem: format!("section of line {line}: {problem}"),
        };
        let index = table.index.as_deref().map(IndexTemplate::parse).transpose();
        rule.index = index.map_err(|problem| wrong_of("index", problem))?;
        rule.routing.clone_from(&table.routing);
        rule.rename.clone_from(&table.rename);
        if table.pipeline.as_ref().is_some_and(String::is_empty) {
            return Err(wrong_of("pipeline", "it is empty; `_none` is no pipeline".to_owned()));
        }
        rule.pipeline.clone_from(&table.pipeline);
        rule.metadata.clone_from(&table.metadata);
        if let Some(metadata) = &table.metadata {
            stamped.0.push((rule.tables.clone(), !metadata.is_empty()));
        }
        flatten("", &table.settings, &mut rule.settings);
        for (key, why) in OURS {
            if table.mapping.contains_key(*key) {
                return Err(wrong_of("mapping", format!("`{key}` is not to be set: {why}")));
            }
        }
        rule.mapping.clone_from(&table.mapping);
        if let Some(columns) = table.id.clone() {
            let mut once = columns.clone();
            once.sort_unstable();
            once.dedup();
            if once.len() < columns.len() || columns.len() > MAX_KEY_PARTS {
                return Err(wrong_of("id", format!("it names a column twice, or more than {MAX_KEY_PARTS}")));
            }
            keys.0.push((rule.tables.clone(), columns));
        }
        if rule == nothing && table.id.is_none() {
            return Err(wrong("its section says nothing of these tables".to_owned()));
        }
        Ok(rule)
    };
    let rules = tables.map(&mut rule).collect::<Result<_, _>>()?;
    Ok((Rules(rules), keys, stamped))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::event::TableName;
    use crate::mapping::rule::{DecimalAs, JsonAs, ZeroDatesAs};
    use crate::source::mysql::named_key::named;

    const FILE: &str = "[source]\nurl = \"mysql://relay@localhost\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://localhost:9200\"\n";

    fn refused(sections: &str) -> String {
        parse(&format!("{FILE}{sections}"), "f.toml").unwrap_err().to_string()
    }

    #[test]
    fn sections_are_rules_in_their_order() {
        let sections = "[[table]]\nmatch = \"shop.*\"\ndecimal = \"string\"\nzero_dates = \"string\"\n\n\
                        [[table]]\nmatch = \"shop.orders\"\njson = \"flattened\"\ndecimal = \"number\"\n";
        let rules = parse(&format!("{FILE}{sections}"), "f.toml").unwrap().sinks.remove(0).deliver.rules.0;
        let [first, second] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((first.line, first.tables.to_string().as_str()), (7, "shop.*"));
        assert_eq!((first.decimal, first.json), (Some(DecimalAs::String), None));
        assert_eq!(first.zero_dates, Some(ZeroDatesAs::String));
        assert_eq!((second.line, second.json), (12, Some(JsonAs::Flattened)));
        assert_eq!((second.decimal, second.zero_dates), (Some(DecimalAs::Number), None));
        assert!(parse(FILE, "f.toml").unwrap().sinks[0].deliver.rules.0.is_empty());
    }

    #[test]
    fn a_section_says_where_documents_go_and_how_their_index_is_made() {
        let sections = "[[table]]\nmatch = \"shop.*\"\nindex = \"search-{table}\"\nrouting = [\"tenant\"]\npipeline = \"trim\"\n\
                        rename = { name = \"title\" }\n[table.settings]\nnumber_of_shards = 3\nindex.refresh_interval = \"30s\"\n\
                        \"index.gc_deletes\" = \"1h\"\nanalysis.analyzer.german.type = \"german\"\n[table.mapping.properties.title]\n\
                        type = \"text\"\nanalyzer = \"german\"\n\n[[table]]\nmatch = \"shop.a\"\nrouting = []\n";
        let rules = parse(&format!("{FILE}{sections}"), "f.toml").unwrap().sinks.remove(0).deliver.rules.0;
        let [first, second] = rules.as_slice() else { panic!("{rules:?}") };
        assert_eq!((&first.routing, &second.routing), (&Some(vec!["tenant".to_owned()]), &Some(Vec::new())));
        assert_eq!((first.pipeline.as_deref(), first.rename["name"].as_str()), (Some("trim"), "title"));
        assert_eq!(
            serde_json::Value::Object(first.settings.clone()),
            serde_json::json!({
                "index.number_of_shards": 3, "index.refresh_interval": "30s", "index.gc_deletes": "1h",
                "index.analysis.analyzer.german.type": "german",
            })
        );
        assert_eq!(first.mapping["properties"]["title"]["analyzer"], "german");
        assert!(first.index.is_some() && second.index.is_none());
    }

    #[test]
    fn a_section_names_the_key_of_its_tables() {
        let sections = "[[table]]\nmatch = \"shop.log_*\"\nid = [\"at\", \"n\"]\n[[table]]\nmatch = \"shop.log_a\"\nid = []\n";
        let settings = parse(&format!("{FILE}{sections}"), "f.toml").unwrap();
        let of = |table| named(&settings.source.keys, &TableName::new("shop", table)).map(<[String]>::to_vec);
        assert_eq!(of("log_b"), Some(vec!["at".to_owned(), "n".to_owned()]));
        assert_eq!((of("log_a"), of("other")), (None, None));
    }

    #[test]
    fn changes_are_stamped_of_tables_whose_documents_are_to_say_so() {
        let sections = "[[table]]\nmatch = \"shop.*\"\nmetadata = \"change\"\n[[table]]\nmatch = \"shop.a\"\nmetadata = \"\"\n";
        let settings = parse(&format!("{FILE}{sections}"), "f.toml").unwrap();
        let of = |table| settings.source.stamped.of(&TableName::new("shop", table)).copied();
        assert_eq!((of("a"), of("b")), (Some(false), Some(true)));
        assert_eq!(parse(FILE, "f.toml").unwrap().source.stamped.of(&TableName::new("shop", "a")), None);
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
            (
                "[[table]]\nmatch = \"a.b\"\nindex = \"o-{created:%Q}\"",
                "index: section of line 7: `%Q` is none of",
            ),
            (
                "[[table]]\nmatch = \"a.b\"\nid = [\"a\", \"a\"]",
                "id: section of line 7: it names a column twice",
            ),
            ("[[table]]\nmatch = \"a.b\"\npipeline = \"\"", "pipeline: section of line 7: it is empty"),
            (
                "[[table]]\nmatch = \"a.b\"\n[table.mapping._routing]\nrequired = true",
                "mapping: section of line 7: `_routing`",
            ),
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
