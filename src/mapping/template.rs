//! Names of indices made from names of tables: `{schema}.{table}`, `search-{table}`, `orders`.

use super::name::check_alias;
use crate::event::TableName;

/// What the alias of a table's documents is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexTemplate(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Schema,
    Table,
}

impl IndexTemplate {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<IndexTemplate, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let (name, after) = behind.split_once('}').ok_or("a `{` is not closed")?;
            parts.push(Part::Text(before.to_lowercase()));
            parts.push(match name {
                "schema" => Part::Schema,
                "table" => Part::Table,
                _ => {
                    return Err(format!(
                        "`{{{}}}` is neither {{schema}} nor {{table}}: a name by a column's value or date is not built, for a row that moves \
                         to another index has to be deleted where it was, and the log does not keep where that is",
                        name.escape_debug()
                    ));
                }
            });
            rest = after;
        }
        if rest.contains('}') {
            return Err("a `}` was not opened".to_owned());
        }
        parts.push(Part::Text(rest.to_lowercase()));
        let template = IndexTemplate(parts);
        // Names of tables are looked at when they are met.
        check_alias(&template.of("a", "b")).map_err(str::to_owned)?;
        Ok(template)
    }

    pub(super) fn alias(&self, table: &TableName) -> String {
        self.of(&table.schema, &table.table)
    }

    /// Lower-cased: index names have no upper case.
    fn of(&self, schema: &str, table: &str) -> String {
        let part = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Schema => schema.to_lowercase(),
            Part::Table => table.to_lowercase(),
        };
        self.0.iter().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_tables() {
        let table = TableName::new("Shop", "Orders");
        for (text, alias) in [
            ("{schema}.{table}", "shop.orders"),
            ("search-{table}", "search-orders"),
            ("All", "all"),
            ("{table}{schema}-v2", "ordersshop-v2"),
        ] {
            assert_eq!(IndexTemplate::parse(text).unwrap().alias(&table), alias);
        }
    }

    #[test]
    fn what_makes_no_name_is_refused() {
        for (text, expected) in [
            ("orders-{created_at:%Y}", "`{created_at:%Y}` is neither {schema} nor {table}"),
            ("orders-{", "is not closed"),
            ("orders}", "was not opened"),
            ("{}", "`{}` is neither"),
            ("", "dots alone"),
            ("a b", "cannot contain"),
            ("_{table}", "cannot begin with"),
            ("a/{table}", "cannot contain"),
        ] {
            let error = IndexTemplate::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
