//! Where in the server's binlog the stream stands.

use super::super::error::MysqlError;
use super::super::event::RawEvent;
use super::super::wire::Wire;
use super::Binlog;

/// Longest name of a binlog file, bytes (MySQL's FN_REFLEN).
const FILE_NAME: usize = 512;

impl Binlog {
    /// Notes where the event ends. `end`: the offset's lower 32 bits; files grow past them within a large transaction. Inside one MariaDB 11.8
    /// does not say it: there `size`, the event's bytes, tell people about where it is.
    pub(super) fn advance(&mut self, end: u32, size: usize) {
        if end != 0 {
            let (high, low) = (self.place.offset >> 32, self.place.offset & 0xffff_ffff);
            let high = if u64::from(end) < low { high + 1 } else { high };
            self.place.offset = high << 32 | u64::from(end);
        } else if self.transaction.is_some() {
            self.place.offset = self.place.offset.saturating_add(size as u64);
        }
    }

    /// Where an event began; 0 where the server does not say where it ends.
    pub(super) fn beginning(&self, event: &RawEvent<'_>) -> u64 {
        if event.end() == 0 { 0 } else { self.place.offset.saturating_sub(event.size() as u64) }
    }

    pub(super) fn rotate(&mut self, event: &RawEvent<'_>) -> Result<(), MysqlError> {
        self.between_transactions("a ROTATE event")?;
        let mut wire = Wire::new(event.body());
        let offset = wire.u64().map_err(self.short("a ROTATE event"))?;
        if wire.len() > FILE_NAME {
            return Err(self.garbled("a ROTATE event names a file longer than a path may be"));
        }
        self.place.file = String::from_utf8_lossy(wire.rest()).into_owned();
        self.place.offset = offset;
        Ok(())
    }
}
