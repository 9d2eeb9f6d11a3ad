//! Foreign keys that change rows of followed tables without row events.
//!
//! InnoDB carries out CASCADE and SET NULL itself, below the binlog. MySQL does it above since 9.6, and writes the rows, unless
//! `innodb_native_foreign_keys` is ON; MariaDB does not. Nothing in the stream says that it happened.

use std::fmt;

use crate::event::TableName;

use super::control::{Control, METADATA_PATIENCE};
use super::error::MysqlError;
use super::patterns::Patterns;

/// A foreign key of a followed table whose actions its rows' documents do not see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cascade {
    pub table: TableName,
    pub key: String,
    /// As `ON DELETE CASCADE`.
    pub actions: String,
}

impl fmt::Display for Cascade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} ({})", self.key.escape_debug(), self.table, self.actions)
    }
}

impl Control {
    /// The foreign keys of followed tables that change rows without row events; none where the server writes those.
    ///
    /// # Errors
    /// The question fails.
    pub async fn cascades(&mut self, patterns: &Patterns) -> Result<Vec<Cascade>, MysqlError> {
        if self.server().writes_cascades() {
            return Ok(Vec::new());
        }
        let rows: Vec<[String; 5]> = self
            .ask_within(
                METADATA_PATIENCE,
                "reading the foreign keys of the followed tables",
                "SELECT constraint_schema, table_name, constraint_name, delete_rule, update_rule \
                 FROM information_schema.referential_constraints \
                 WHERE delete_rule NOT IN ('NO ACTION', 'RESTRICT') OR update_rule NOT IN ('NO ACTION', 'RESTRICT')",
            )
            .await?;
        let cascades = rows.into_iter().map(|[schema, table, key, deletes, updates]| {
            let rules = [("ON DELETE", deletes), ("ON UPDATE", updates)];
            let acts = rules.iter().filter(|(_, rule)| rule != "NO ACTION" && rule != "RESTRICT");
            let actions = acts.map(|(on, rule)| format!("{on} {rule}")).collect::<Vec<_>>().join(" ");
            Cascade { table: TableName { schema, table }, key, actions }
        });
        Ok(cascades.filter(|cascade| patterns.follows_table(&cascade.table)).collect())
    }
}

/// What an operator is told of them.
pub const UNSEEN: &str = "change rows without row events, so documents stay as they were: let the application delete and update these rows, \
                          or a trigger; with MySQL 9.6 and newer, innodb_native_foreign_keys = OFF";
