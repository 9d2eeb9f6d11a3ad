//! Patterns over table names: `schema.table`, with `*` and `?` within each.

use super::TableName;

/// How names are compared: for a MySQL server its `lower_case_table_names`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCase {
    /// 0: names differ by case.
    #[default]
    Sensitive,
    /// 1 (stored in lower case) and 2 (compared in lower case).
    Insensitive,
}

/// One `schema.table` pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    schema: String,
    table: String,
}

impl TablePattern {
    /// # Errors
    /// What is wrong with it: no dot, or an empty part.
    pub fn parse(text: &str) -> Result<TablePattern, &'static str> {
        let (schema, table) = text.split_once('.').ok_or("has no dot")?;
        if schema.is_empty() || table.is_empty() {
            return Err("has an empty part");
        }
        Ok(TablePattern { schema: schema.to_owned(), table: table.to_owned() })
    }

    /// The pattern of the schema alone.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.schema
    }

    #[must_use]
    pub fn matches(&self, schema: &str, table: &str, case: NameCase) -> bool {
        self.matches_schema(schema, case) && by_case(&self.table, table, case)
    }

    /// Whether it could match a table of this schema.
    #[must_use]
    pub fn matches_schema(&self, schema: &str, case: NameCase) -> bool {
        by_case(&self.schema, schema, case)
    }

    /// Whether it matches a table, however its name is written.
    #[must_use]
    pub fn matches_any_case(&self, table: &TableName) -> bool {
        self.matches(&table.schema, &table.table, NameCase::Insensitive)
    }
}

/// What is said of the tables that patterns match; of those that match a table the last says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ByTable<T>(pub Vec<(TablePattern, T)>);

impl<T> Default for ByTable<T> {
    fn default() -> ByTable<T> {
        ByTable(Vec::new())
    }
}

impl<T> ByTable<T> {
    /// What is said of a table, however its name is written.
    #[must_use]
    pub fn of(&self, table: &TableName) -> Option<&T> {
        self.0.iter().rfind(|(tables, _)| tables.matches_any_case(table)).map(|(_, said)| said)
    }
}

impl std::fmt::Display for TablePattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema.escape_debug(), self.table.escape_debug())
    }
}

fn by_case(pattern: &str, name: &str, case: NameCase) -> bool {
    match case {
        NameCase::Sensitive => glob(pattern, name),
        NameCase::Insensitive => glob(&pattern.to_lowercase(), &name.to_lowercase()),
    }
}

/// Whether a name matches a pattern of `*` and `?`, letter by letter.
#[must_use]
pub fn glob(pattern: &str, name: &str) -> bool {
    wildcard(&chars(pattern), &chars(name))
}

fn chars(text: &str) -> Vec<char> {
    text.chars().collect()
}

/// `*` is any run of characters, `?` any one. Linear but for the last star: no pattern can make it slow.
fn wildcard(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while let Some(c) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(x) if *x == '?' || x == c => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((star_p, star_n)) => {
                    star = Some((star_p, star_n + 1));
                    p = star_p + 1;
                    n = star_n + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|c| *c == '*'))
}
