//! The cursor moves, and what is told of it.

use metrics::gauge;

use super::super::error::DeliverError;
use super::Deliver;
use crate::clock::Clock;
use crate::disk::Disk;
use crate::event::Seq;
use crate::metrics::names;
use crate::settled::CursorStore;
use crate::sink::Sink;

impl<K: Sink, C: CursorStore, D: Disk, T: Clock> Deliver<K, C, D, T> {
    /// Moves the cursor over the settled prefix and commits it.
    pub(super) fn commit(&mut self) -> Result<(), DeliverError> {
        let settled = self.outstanding.settled();
        let parked = self.parking.take_steps();
        self.progress.replay(self.replays.kept());
        self.progress.commit(settled, self.tables.indices(), &parked)?;
        self.observe(settled);
        Ok(())
    }

    fn observe(&self, settled: Seq) {
        let needed = self.log.bytes_needed(settled.next());
        self.pacing.room(self.log.limits().has_room_beside(needed, &self.log.space().borrow()));
        let visible = self.visible.borrow().seq;
        gauge!(names::LOG_VISIBLE_SEQ).set(visible.0 as f64);
        gauge!(names::SINK_CURSOR_SEQ).set(settled.0 as f64);
        gauge!(names::SINK_LAG_RECORDS).set(visible.0.saturating_sub(settled.0) as f64);
        gauge!(names::SINK_IN_FLIGHT_LIMIT).set(self.flights.limit() as f64);
        gauge!(names::SINK_IN_FLIGHT).set(self.flights.len() as f64);
        let now = self.clock.wall_micros();
        let lag = self.progress.oldest_micros().map_or(0, |oldest| now.saturating_sub(oldest));
        gauge!(names::SINK_LAG_SECONDS).set(lag as f64 / 1e6);
    }
}
