//! `[sink]`, or `[sink.NAME]` for several.
//!
//! Which of the two a file has is looked at first: where any of the keys in `[sink]` is a table, all of them are names. So unknown keys are refused with
//! line and column in both forms.

use super::file;
use super::{ConfigError, SinkSettings, shaped};
use crate::event::pattern::ByTable;
use crate::mapping::template::IndexTemplate;
use crate::settled::MAIN;

/// Longest name of a sink.
const MAX_NAME: usize = 32;

/// A sink as the file has it.
#[derive(Debug)]
pub struct Named {
    pub name: String,
    /// Its section, as errors name it.
    pub section: String,
    pub sink: file::Sink,
}

/// The sinks of a file, by name.
pub(super) fn named(text: &str, path: &str) -> Result<Vec<Named>, ConfigError> {
    if !are_named(text, path)? {
        let file::OneSink { sink } = shaped(text, path)?;
        return Ok(vec![Named { name: MAIN.to_owned(), section: "sink".to_owned(), sink }]);
    }
    let file::Sinks { sink } = shaped(text, path)?;
    let named = sink.into_iter().map(|(name, sink)| {
        let (at, name) = (name.span().start, name.into_inner());
        if !is_name(&name) {
            let problem = format!(
                "[sink.{}]: sinks are named with 1 to {MAX_NAME} of a-z, 0-9, _ and -: the name is a label of metrics and a key of the state folder",
                name.escape_debug()
            );
            return Err(wrong(text, path, at, &problem));
        }
        Ok(Named { section: format!("sink.{name}"), name, sink })
    });
    named.collect()
}

/// Whether the sinks have names.
fn are_named(text: &str, path: &str) -> Result<bool, ConfigError> {
    // Where it is no table at all, who reads it says so.
    let Ok(file::SinkKeys { sink }) = toml::from_str(text) else { return Ok(false) };
    let (names, keys): (Vec<_>, Vec<_>) = sink.into_iter().partition(|(_, value)| value.is_table());
    match (names.first(), keys.iter().min_by_key(|(key, _)| key.span().start)) {
        (Some((name, _)), Some((key, _))) => {
            let (key, at) = (key.get_ref().escape_debug(), key.span().start);
            let name = name.get_ref().escape_debug();
            let problem = format!(
                "[sink] has `{key}`, which is of a single sink, beside the sink [sink.{name}]: where there are several each has a section of its own. Move \
                 `{key}` and what stands with it to [sink.{MAIN}], as which the state folder knows the sink of [sink]"
            );
            Err(wrong(text, path, at, &problem))
        }
        (first, _) => Ok(first.is_some()),
    }
}

fn is_name(name: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(usual)
}

/// Whether a section for tables holds for a sink.
pub(super) fn is_meant(table: &file::Table, sink: &str) -> bool {
    table.sink.as_ref().is_none_or(|meant| meant.get_ref() == sink)
}

/// Which changes say in the log of which transaction they are: those of which any sink's documents are to. One more than needed costs its bytes.
pub(super) fn stamped_for_any(by_sink: Vec<ByTable<bool>>) -> ByTable<bool> {
    let several = by_sink.len() > 1;
    let mut all: Vec<_> = by_sink.into_iter().flat_map(|ByTable(said)| said).collect();
    if several {
        // The last that is said holds.
        all.sort_by_key(|(_, stamped)| *stamped);
    }
    ByTable(all)
}

/// # Errors
/// A section for tables names a sink that there is not.
pub(super) fn check_sections(
    tables: &[file::Table],
    sinks: &[Named],
    text: &str,
    path: &str,
) -> Result<(), ConfigError> {
    for (table, meant) in tables.iter().filter_map(|table| Some((table, table.sink.as_ref()?))) {
        if table.id.is_some() {
            let problem = "[[table]] id: the columns that tell rows apart stand in the log, and so hold for all sinks: put `id` into a section \
                           without `sink`";
            return Err(wrong(text, path, meant.span().start, problem));
        }
        if !sinks.iter().any(|sink| sink.name == *meant.get_ref()) {
            let names = sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(", ");
            let problem = format!("[[table]] sink: there is no sink {:?}; there is {names}", meant.get_ref());
            return Err(wrong(text, path, meant.span().start, &problem));
        }
    }
    Ok(())
}

/// # Errors
/// Two sinks would write to the same indices of one engine. What shows only there, as by two names of one engine, the fence refuses.
pub(super) fn check_indices(sinks: &[SinkSettings], path: &str) -> Result<(), ConfigError> {
    for (i, sink) in sinks.iter().enumerate() {
        let same =
            sinks[..i].iter().find(|other| share_an_engine(sink, other) && indices(sink) == indices(other));
        if let Some(other) = same {
            let (name, other) = (&sink.name, &other.name);
            let problem = format!(
                "{other} has the same engine, and nothing gives the two different indices: they would write to one. Name another engine; or give \
                 one of them indices of its own, by [[table]] with `sink = {name:?}` and `index`"
            );
            let (path, section) = (path.to_owned(), format!("sink.{name}"));
            return Err(ConfigError::Value { path, section, key: "url", problem });
        }
    }
    Ok(())
}

fn share_an_engine(a: &SinkSettings, b: &SinkSettings) -> bool {
    let spelt = |url: &String| url.trim().trim_end_matches('/').to_ascii_lowercase();
    a.engine.urls.iter().any(|a| b.engine.urls.iter().any(|b| spelt(a) == spelt(b)))
}

/// What of its rules names indices.
fn indices(sink: &SinkSettings) -> Vec<(String, &IndexTemplate)> {
    let rules = sink.deliver.rules.0.iter();
    rules.filter_map(|rule| Some((rule.tables.to_string(), rule.index.as_ref()?))).collect()
}

fn wrong(text: &str, path: &str, at: usize, problem: &str) -> ConfigError {
    let line = text.get(..at).unwrap_or_default().matches('\n').count() + 1;
    ConfigError::Parse { path: path.to_owned(), problem: format!("line {line}: {problem}") }
}

#[cfg(test)]
mod tests {
    use super::super::{Settings, parse};

    const SOURCE: &str = "[source]\nurl = \"mysql://relay@localhost\"\ntables = [\"shop.*\"]\n";
    const A: &str = "[sink.a]\nurl = \"http://localhost:9200\"\n";
    const B: &str = "[sink.b]\nurl = \"http://localhost:9201\"\nmax_in_flight = 3\n";

    fn parsed(sections: &[&str]) -> Settings {
        parse(&[&[SOURCE], sections].concat().concat(), "f.toml").unwrap()
    }

    fn refused(sections: &[&str]) -> String {
        parse(&[&[SOURCE], sections].concat().concat(), "f.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_section_sink_is_the_sink_main_and_sections_with_names_are_several() {
        let names = |settings: &Settings| -> Vec<String> {
            settings.sinks.iter().map(|sink| sink.name.clone()).collect()
        };
        assert_eq!(names(&parsed(&["[sink]\nurl = \"http://localhost:9200\"\n"])), ["main"]);
        let settings = parsed(&[B, A, "[parked]\nchanges = 5\n"]);
        assert_eq!(names(&settings), ["a", "b"]);
        let [a, b] = settings.sinks.as_slice() else { panic!() };
        assert_eq!(
            (&*a.engine.urls[0], &*b.engine.urls[0]),
            ("http://localhost:9200", "http://localhost:9201")
        );
        assert_eq!((b.deliver.in_flight, a.deliver.parked.changes, b.deliver.parked.changes), (3, 5, 5));
        assert_eq!((&*a.engine.name, &*b.deliver.name), ("a", "b"));
        // A name may be a key's.
        assert_eq!(names(&parsed(&["[sink.url]\nurl = \"http://localhost:9200\"\n"])), ["url"]);
    }

    #[test]
    fn a_table_section_may_be_for_one_sink_alone() {
        let tables = "[[table]]\nmatch = \"shop.*\"\njson = \"string\"\n\
                      [[table]]\nmatch = \"shop.*\"\nsink = \"b\"\nindex = \"b-{table}\"\n";
        let settings = parsed(&[A, B, tables]);
        let lines = |i: usize| -> Vec<usize> {
            settings.sinks[i].deliver.rules.0.iter().map(|rule| rule.line).collect()
        };
        assert_eq!((lines(0), lines(1)), (vec![10], vec![10, 13]));
    }

    #[test]
    fn a_change_says_of_which_transaction_it_is_if_any_sinks_documents_are_to() {
        let section = |sink: &str, metadata: &str| {
            format!("[[table]]\nmatch = \"shop.a\"\nsink = \"{sink}\"\nmetadata = \"{metadata}\"\n")
        };
        let stamped = |sections: &[&str]| {
            let table = crate::event::TableName::new("shop", "a");
            parsed(sections).source.stamped.of(&table).copied()
        };
        let (a, b) = (section("a", ""), section("b", "change"));
        assert_eq!(stamped(&[A, B, &a, &b]), Some(true));
        assert_eq!(stamped(&[A, B, &b, &a]), Some(true));
        assert_eq!((stamped(&[A, B, &a]), stamped(&[A, B])), (Some(false), None));
    }

    #[test]
    fn one_engine_may_be_named_twice_where_its_indices_differ() {
        let again = "[sink.b]\nurl = \"HTTP://localhost:9200/\"\n";
        let message = refused(&[A, again]);
        assert!(message.contains("f.toml: [sink.b] url: a has the same engine"), "{message}");
        let both = "[[table]]\nmatch = \"shop.*\"\nindex = \"x-{table}\"\n";
        assert!(refused(&[A, again, both]).contains("the same engine"));
        parsed(&[A, again, "[[table]]\nmatch = \"shop.*\"\nsink = \"b\"\nindex = \"x-{table}\"\n"]);
    }

    #[test]
    fn what_no_sink_can_be_is_refused_with_its_line() {
        let long = format!("[sink.{}]\nurl = \"http://localhost:9200\"\n", "x".repeat(33));
        for (sections, expected) in [
            (vec!["[sink]\nurl = \"http://a:1\"\n", B], "f.toml: line 5: [sink] has `url`"),
            (
                vec![B, "[sink.Prod]\nurl = \"http://a:1\"\n"],
                "line 7: [sink.Prod]: sinks are named with 1 to 32",
            ),
            (vec![&long], "line 4: [sink.xxx"),
            (vec!["[sink.\"\"]\nurl = \"http://a:1\"\n"], "line 4: [sink.]"),
            (vec![A, "[sink.b]\nurl = \"http://a:1\"\nurls = 1\n"], "line 8, column 1: unknown field `urls`"),
            (vec!["[sink]\nurl = \"http://a:1\"\nurls = 1\n"], "line 6, column 1: unknown field `urls`"),
            (vec![A, "[sink.b]\ninsecure = true\n"], "line 6, column 1: missing field `url`"),
            (
                vec![A, "[sink.b]\nurl = \"http://a:1\"\nmax_in_flight = 65\n"],
                "[sink.b] max_in_flight: between",
            ),
            (vec![A, "[sink.b]\nurl = \"a\"\n"], "f.toml: [sink.b] url:"),
            (vec!["sink = \"x\"\n"], "unknown field `sink`"),
            (vec!["[[sink]]\nurl = \"http://a:1\"\n"], "line 4"),
            (vec!["[sink]\n"], "missing field `url`"),
            (vec![], "missing field `sink`"),
            (
                vec![A, "[[table]]\nmatch = \"a.b\"\nsink = \"c\"\njson = \"string\"\n"],
                "line 8: [[table]] sink: there is no sink \"c\"; there is a",
            ),
            (
                vec![A, "[[table]]\nmatch = \"a.b\"\nsink = \"a\"\nid = [\"x\"]\n"],
                "line 8: [[table]] id: the columns",
            ),
            (vec![A, "[[table]]\nmatch = \"a.b\"\nsink = \"a\"\n"], "line 7: its section says nothing"),
        ] {
            let message = refused(&sections);
            assert!(message.contains(expected), "{sections:?}: {message}");
        }
    }
}
