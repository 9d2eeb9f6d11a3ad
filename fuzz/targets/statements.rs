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
    let tables: Vec<_> = match &meaning {
        Meaning::Ddl(effects) => effects.iter().map(|effect| &effect.table).collect(),
        Meaning::OpensTransaction(table) => table.iter().collect(),
        Meaning::Stops { table, .. } => vec![table],
        _ => Vec::new(),
    };
    assert!(tables.iter().all(|table| patterns.follows_table(table)), "{tables:?} are not followed");
}
