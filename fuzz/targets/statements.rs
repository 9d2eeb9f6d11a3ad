//! A QUERY event: what its statement means for followed tables, whatever white space stands before it.

use std::sync::OnceLock;

use everrelay::source::mysql::patterns::Patterns;
use everrelay::source::mysql::query::Query;
use everrelay::source::mysql::statement::{Meaning, classify};

pub fn run(input: &[u8]) {
    static PATTERNS: OnceLock<Patterns> = OnceLock::new();
    let patterns =
        PATTERNS.get_or_init(|| Patterns::parse(&["shop.*", "!shop.audit_*"]).expect("they are patterns"));
    let Ok(query) = Query::parse(input, 0) else { return };
    let (text, schema) = (query.text(), query.schema());
    let meaning = classify(&text, &schema, query.mode, patterns);
    assert_eq!(classify(&format!("\n\t {text}"), &schema, query.mode, patterns), meaning);
    let tables = match &meaning {
        Meaning::DropsIfExists(tables) => tables.as_slice(),
        Meaning::Alters(alteration) => std::slice::from_ref(&alteration.table),
        Meaning::Stops { table, .. } => std::slice::from_ref(table),
        _ => &[],
    };
    assert!(tables.iter().all(|table| patterns.follows_table(table)), "{tables:?} are not followed");
}
