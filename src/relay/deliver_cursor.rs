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

    pub(super) fn observe(&self, settled: Seq) {
        let needed = self.log.bytes_needed(settled.next());
        self.pacing.room(self.log.limits().has_room_beside(needed, &self.log.space().borrow()));
        let (visible, name) = (self.visible.borrow().seq, &self.options.name);
        gauge!(names::LOG_VISIBLE_SEQ).set(visible.0 as f64);
        gauge!(names::SINK_CURSOR_SEQ, "sink" => name.clone()).set(settled.0 as f64);
        gauge!(names::SINK_LAG_RECORDS, "sink" => name.clone())
            .set(visible.0.saturating_sub(settled.0) as f64);
        gauge!(names::SINK_IN_FLIGHT_LIMIT, "sink" => name.clone()).set(self.flights.limit() as f64);
        gauge!(names::SINK_IN_FLIGHT, "sink" => name.clone()).set(self.flights.len() as f64);
        let now = self.clock.wall_micros();
        // Of what was not read yet nobody knows the age: the last word on it stands.
        let oldest = self.progress.oldest_micros().or_else(|| (settled == visible).then_some(now));
        if let Some(oldest) = oldest {
            let lag = now.saturating_sub(oldest);
            gauge!(names::SINK_LAG_SECONDS, "sink" => name.clone()).set(lag as f64 / 1e6);
        }
    }
}
