//! MariaDB's compressed events inside the stream: inflated, each is what it would have been.

use crate::log::record::Batch;

use super::super::compressed::Inflating;
use super::super::decode::{Change, RowsHeader};
use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::super::tables::Target;
use super::{Binlog, TOO_LARGE};

impl Binlog {
    pub(super) fn compressed_rows(
        &mut self,
        event: &RawEvent<'_>,
        name: &'static str,
        change: Change,
        version: u8,
        batch: &mut Batch,
    ) -> Result<(), MysqlError> {
        let header = RowsHeader::parse(event.body(), version).map_err(self.short("a rows event"))?;
        let followed = matches!(self.tables.target(header.table_id), Some(Target::Followed(_)));
        if !followed || event.is_cut() {
            // The head is enough.
            return self.rows(event, name, change, version, batch);
        }
        let bitmaps = if change == Change::Update { 2 } else { 1 };
        let mut inflate = std::mem::take(&mut self.inflate);
        let taken = match inflate.rows(event.bytes(), header.rest, bitmaps, self.largest) {
            Ok(bytes) => self.rows(&event.with(bytes), name, change, version, batch),
            Err(problem) => Err(self.not_inflated(name, problem)),
        };
        self.inflate = inflate;
        taken
    }

    pub(super) fn compressed_query(
        &mut self,
        event: &RawEvent<'_>,
        batch: &mut Batch,
    ) -> Result<(), MysqlError> {
        let mut inflate = std::mem::take(&mut self.inflate);
        let taken = match inflate.query(event.bytes(), event.body(), self.largest) {
            Ok(bytes) => self.query(&event.with(bytes), 0, batch),
            Err(problem) => Err(self.not_inflated("QUERY_COMPRESSED event", problem)),
        };
        self.inflate = inflate;
        taken
    }

    fn not_inflated(&self, event: &str, problem: Inflating) -> MysqlError {
        match problem {
            Inflating::Damaged => self.garbled(format!("a {event} cannot be inflated")),
            Inflating::TooLong(bytes) => {
                self.refuse(&format!("{event} of {bytes} bytes when inflated"), TOO_LARGE)
            }
        }
    }
}
