//! Bounds and times of a pipeline.

use std::num::NonZeroU64;
use std::time::Duration;

use super::parking::ParkLimits;
use crate::mapping::rule::Rules;

/// Bounds and times of the deliver side.
#[derive(Clone, Debug)]
pub struct DeliverOptions {
    /// The sink's, as metrics name it.
    pub name: String,
    /// A bulk body is sent when it has grown to this, bytes.
    pub bulk_bytes: usize,
    /// A smaller body is sent after this time while others are in flight.
    pub linger: Duration,
    /// Most bulks under way at the same time; how many are, the engine's answers say.
    pub in_flight: usize,
    /// Most bytes of their bodies, about: the more are under way, the smaller each is.
    pub in_flight_bytes: usize,
    /// Most bytes of bodies that are sent in a second.
    pub bytes_per_second: Option<NonZeroU64>,
    /// Most unsettled actions.
    pub outstanding: usize,
    /// Most changes that wait for an older one of their document.
    pub waiting: usize,
    /// Most bytes of bodies in flight or put off.
    pub held_bytes: usize,
    /// How often the cursor is committed while it moves.
    pub commit_interval: Duration,
    /// How long flights may go on when a drain was asked for.
    pub drain: Duration,
    /// How long a request of unknown outcome has to end where the engine does not tell whether it has.
    pub quarantine: Duration,
    /// How much may be parked.
    pub parked: ParkLimits,
    /// What documents are made by.
    pub rules: Rules,
}

impl Default for DeliverOptions {
    fn default() -> Self {
        DeliverOptions {
            name: "main".to_owned(),
            bulk_bytes: 3_000_000,
            linger: Duration::from_millis(20),
            in_flight: 16,
            in_flight_bytes: 6_000_000,
            bytes_per_second: None,
            outstanding: 400_000,
            waiting: 100_000,
            held_bytes: 16_000_000,
            commit_interval: Duration::from_millis(200),
            drain: Duration::from_secs(15),
            quarantine: Duration::from_secs(120),
            parked: ParkLimits::default(),
            rules: Rules::default(),
        }
    }
}
