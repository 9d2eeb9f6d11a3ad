//! Keys that the configuration names: columns that tell a table's rows apart where no key of its own does, or in the place of that.
//!
//! # Constraints
//!
//! A table's description has its key by name ([`NAMED`](super::description::NAMED)), so the log keeps by which columns its documents' ids are made, and another key than that is noticed
//! when the stream goes on. The columns are NOT NULL: an order by them leaves no row out, and no id is made of nothing. That no two rows share them nobody checks but the server, where
//! it has an index for that.

use crate::event::TableName;
use crate::event::pattern::ByTable;

use super::control::{Control, METADATA_PATIENCE, literal};
use super::error::MysqlError;
use super::schema::SchemaError;

const DOING: &str = "reading the columns and indices of a table's named key";

/// What a server does not do for columns that are a table's key.
pub const NOT_UNIQUE: &str = "no unique index keeps rows from having the same values there, and such rows have one document: the last one's";
pub const NO_ORDER: &str =
    "no index begins with them in this order, so each chunk of a snapshot reads the whole table";

/// The columns of keys, in their order; none: the table's own key.
pub type NamedKeys = ByTable<Vec<String>>;

/// The columns that are a table's key; `None`: it has its own.
#[must_use]
pub fn named<'k>(keys: &'k NamedKeys, table: &TableName) -> Option<&'k [String]> {
    keys.of(table).map(Vec::as_slice).filter(|columns| !columns.is_empty())
}

impl Control {
    /// Refuses columns that cannot be a table's key by the configuration.
    ///
    /// # Errors
    /// The table has no such column, or one that may be NULL; or the server does not answer.
    pub async fn check_named_key(&mut self, table: &TableName, columns: &[String]) -> Result<(), MysqlError> {
        let asked = format!(
            "SELECT column_name, is_nullable = 'YES' FROM information_schema.columns WHERE {}",
            place(table)
        );
        let there: Vec<[String; 2]> = self.ask_within(METADATA_PATIENCE, DOING, &asked).await?;
        for column in columns {
            let found = there.iter().find(|[name, _]| name == column);
            if let Some(why) = SchemaError::of_named(found.map(|[_, nullable]| nullable == "1")) {
                let source = SchemaError::NamedKey { column: column.clone(), why };
                return Err(MysqlError::NamedKey { table: table.clone(), source });
            }
        }
        Ok(())
    }

    /// What the server does not do for such columns: [`NOT_UNIQUE`], [`NO_ORDER`].
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn doubts_of_key(
        &mut self,
        table: &TableName,
        columns: &[String],
    ) -> Result<Vec<&'static str>, MysqlError> {
        let asked = format!(
            "SELECT index_name, COALESCE(column_name, ''), non_unique = 0 FROM information_schema.statistics WHERE {} \
             ORDER BY index_name, seq_in_index",
            place(table)
        );
        let parts: Vec<[String; 3]> = self.ask_within(METADATA_PATIENCE, DOING, &asked).await?;
        let indices = || parts.chunk_by(|[a, ..], [b, ..]| a == b);
        let unique = indices().any(|index| {
            index
                .iter()
                .all(|[_, column, unique]| unique == "1" && columns.iter().any(|named| named == column))
        });
        let ordered = indices().any(|index| {
            index.len() >= columns.len()
                && index.iter().zip(columns).all(|([_, column, _], named)| named == column)
        });
        let doubts = [(unique, NOT_UNIQUE), (ordered, NO_ORDER)];
        Ok(doubts.into_iter().filter(|(fine, _)| !fine).map(|(_, doubt)| doubt).collect())
    }
}

fn place(table: &TableName) -> String {
    format!("table_schema = {} AND table_name = {}", literal(&table.schema), literal(&table.table))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::pattern::TablePattern;

    #[test]
    fn the_last_pattern_that_matches_says_it() {
        let key = |tables: &str, columns: &[&str]| {
            let columns = columns.iter().map(|column| (*column).to_owned()).collect();
            (TablePattern::parse(tables).unwrap(), columns)
        };
        let keys =
            ByTable(vec![key("shop.*", &["id"]), key("shop.log_*", &["at", "n"]), key("shop.log_a", &[])]);
        let of = |table: &str| named(&keys, &TableName::new("SHOP", table)).map(<[String]>::to_vec);
        assert_eq!(of("orders"), Some(vec!["id".to_owned()]));
        assert_eq!(of("Log_b"), Some(vec!["at".to_owned(), "n".to_owned()]));
        assert_eq!((of("log_a"), named(&keys, &TableName::new("other", "log_b"))), (None, None));
    }
}
