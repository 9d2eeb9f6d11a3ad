//! Table maps inside the stream: whose rows come next, and what the server is to be asked for to read them.

use crate::event::TableName;
use crate::log::Standing;

use super::super::catalog::Asked;
use super::super::error::MysqlError;
use super::super::event::{RawEvent, kind};
use super::super::schema::TableMap;
use super::super::tables::TableError;
use super::Binlog;

impl Binlog {
    /// How the log describes its tables where the stream begins.
    pub fn recall(&mut self, after: &Standing) {
        self.tables.recall(&after.shapes, &after.position);
    }

    /// The table that information_schema is to be asked about before this event is taken, if one is.
    #[must_use]
    pub fn to_ask(&self, event: &RawEvent<'_>) -> Option<TableName> {
        if event.kind() != kind::TABLE_MAP || event.is_cut() {
            return None;
        }
        self.tables.to_ask(&TableMap::parse(event.body()).ok()?, &self.place)
    }

    /// What it said.
    pub fn told(&mut self, table: TableName, asked: Asked) {
        self.tables.told(table, asked);
    }

    pub(super) fn table_map(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        let map = TableMap::parse(event.body()).map_err(self.short("a TABLE_MAP event"))?;
        self.tables.map(&map, &self.place).map_err(|error| {
            let (table, place) = (map.name(), self.place.clone().into());
            match error {
                TableError::Schema(source) => MysqlError::Schema { table, place, source },
                TableError::Unlike(source) => MysqlError::Unlike { table, place, source },
            }
        })
    }
}
