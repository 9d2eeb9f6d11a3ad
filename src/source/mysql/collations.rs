//! Columns of followed tables whose collation is none that is known here: they are refused before the stream begins.
//!
//! All that the servers bring along are known. An operator may add more (MySQL Reference Manual, *Adding a Collation to a Character Set*), and the binlog tells them by
//! their number alone.

use crate::event::TableName;

use super::charset::Charset;
use super::control::{Control, METADATA_PATIENCE, literal};
use super::error::MysqlError;
use super::patterns::Patterns;
use super::server::Family;

const DOING: &str = "reading the collations of the followed tables";

impl Control {
    /// Sees that every text column of a followed table is of a known collation.
    ///
    /// # Errors
    /// [`MysqlError::Collation`], or the question fails.
    pub async fn check_collations(&mut self, patterns: &Patterns) -> Result<(), MysqlError> {
        let family = self.server().peer.family;
        let all = match family {
            Family::Mysql => "SELECT id, collation_name FROM information_schema.collations",
            // The other table has no numbers of those that serve several character sets.
            Family::Mariadb => {
                "SELECT id, full_collation_name FROM information_schema.collation_character_set_applicability"
            }
        };
        let all: Vec<[String; 2]> = self.ask(DOING, all).await?;
        let is_unknown = |id: &str| id.parse().is_ok_and(|id| Charset::of(family, id).is_err());
        let unknown: Vec<_> =
            all.iter().filter(|[id, _]| is_unknown(id)).map(|[_, name]| literal(name)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let asked = format!(
            "SELECT table_schema, table_name, column_name, collation_name FROM information_schema.columns \
             WHERE collation_name IN ({})",
            unknown.join(", ")
        );
        let columns: Vec<[String; 4]> = self.ask_within(METADATA_PATIENCE, DOING, &asked).await?;
        for [schema, table, column, collation] in columns {
            let table = TableName { schema, table };
            if patterns.follows_table(&table) {
                return Err(MysqlError::Collation { table, column, collation });
            }
        }
        Ok(())
    }
}
