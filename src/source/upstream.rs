//! What is known of the servers behind a source: for people, for metrics, and to tell how long they keep what was not read yet.

use serde::{Deserialize, Serialize};

use crate::metrics::LONG_SECONDS;

/// The servers behind a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// In the order in which they were named.
    pub hosts: Vec<HostState>,
    /// The channels by which the server that is read replicates from others.
    pub replicates: Vec<Replication>,
    /// Of the server that was read last: how long it keeps its binlogs, 0: for ever; `None` before it was asked.
    pub expires_seconds: Option<u64>,
    /// Its clock less ours, microseconds.
    pub clock_ahead_micros: i64,
    /// By its clock: everything that it had committed by then was read. Microseconds since 1970 UTC; 0 where only the log says more.
    pub read_until_micros: u64,
    /// Where what was read ends in the binlog of the server that is read, file and offset, while that alone says where to go on; `None` where GTIDs say it.
    #[serde(default)]
    pub place: Option<String>,
    /// What snapshots wait for, if they wait for replicas.
    #[serde(default)]
    pub snapshots_wait: Option<String>,
}

/// One of the servers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostState {
    pub address: String,
    #[serde(rename = "use")]
    pub at_present: HostUse,
    /// What it said when it was tried last, if it did not serve.
    pub said: Option<String>,
}

/// What a server is to the source at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostUse {
    /// It is read.
    Read,
    /// It is not tried, since another one serves, or has not been yet.
    Spare,
    /// It did not serve when it was tried last.
    Refused,
}

/// How a server replicates from another one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// Where from.
    pub from: String,
    /// How far it is behind; `None` where it does not know.
    pub lag_seconds: Option<u64>,
    /// Why it does not go on, if it does not.
    pub stopped: Option<String>,
}

impl Upstream {
    /// Whether a server is read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.hosts.iter().any(|host| host.at_present == HostUse::Read)
    }

    /// For how many seconds the server will keep what was not read yet, at most [`LONG_SECONDS`]; `None` where that is not known.
    ///
    /// A server removes a binlog file when nothing was written to it for as long as it keeps files (MySQL, sql/binlog.cc,
    /// *purge_logs_before_date*; not while a replica reads it), so what was committed at some time is there for as long after that at least. The oldest transaction not read
    /// is no older than the latest one that was.
    ///
    /// `logged_micros`: the time of the latest transaction in the log; `now_micros`: by our clock; microseconds since 1970 UTC.
    #[must_use]
    pub fn kept_seconds(&self, logged_micros: u64, now_micros: u64) -> Option<u64> {
        let keeps = match self.expires_seconds? {
            0 => return Some(LONG_SECONDS),
            seconds => seconds,
        };
        let read_until = self.read_until_micros.max(logged_micros);
        if read_until == 0 {
            return None;
        }
        let its_now = now_micros.saturating_add_signed(self.clock_ahead_micros);
        let age = its_now.saturating_sub(read_until) / 1_000_000;
        Some(keeps.saturating_sub(age).min(LONG_SECONDS))
    }

    /// Whether that is little enough to say so: less than a day, and a quarter of what the server gives.
    #[must_use]
    pub fn is_short(&self, kept_seconds: u64) -> bool {
        kept_seconds < 86_400 && kept_seconds < self.expires_seconds.unwrap_or(0) / 4
    }

    /// How far the server that is read is behind the one that it replicates from, seconds; `None` where it replicates from none or does not
    /// know.
    #[must_use]
    pub fn lag_seconds(&self) -> Option<u64> {
        self.replicates.iter().filter_map(|channel| channel.lag_seconds).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn second(seconds: u64) -> u64 {
        seconds * 1_000_000
    }

    #[test]
    fn what_was_not_read_is_kept_for_as_long_as_the_latest_that_was() {
        let mut upstream = Upstream { expires_seconds: Some(30 * DAY), ..Upstream::default() };
        assert_eq!(upstream.kept_seconds(0, second(100 * DAY)), None, "nothing was read");
        assert_eq!(upstream.kept_seconds(second(90 * DAY), second(100 * DAY)), Some(20 * DAY));
        upstream.read_until_micros = second(99 * DAY);
        assert_eq!(
            upstream.kept_seconds(second(90 * DAY), second(100 * DAY)),
            Some(29 * DAY),
            "it was quiet since"
        );
        assert_eq!(upstream.kept_seconds(second(90 * DAY), second(200 * DAY)), Some(0));
        upstream.clock_ahead_micros = -60_000_000;
        assert_eq!(upstream.kept_seconds(0, second(100 * DAY)), Some(29 * DAY + 60), "its clock is behind");
        upstream.expires_seconds = Some(0);
        assert_eq!(upstream.kept_seconds(0, second(100 * DAY)), Some(LONG_SECONDS), "it keeps them for ever");
        upstream.expires_seconds = None;
        assert_eq!(upstream.kept_seconds(0, second(100 * DAY)), None);
    }

    #[test]
    fn a_quarter_of_what_the_server_gives_is_short_and_a_day_never_is() {
        let of = |days: u64, kept| {
            Upstream { expires_seconds: Some(days * DAY), ..Upstream::default() }.is_short(kept)
        };
        assert_eq!(
            (of(30, DAY), of(30, DAY - 1), of(1, DAY / 4), of(1, DAY / 4 - 1)),
            (false, true, false, true)
        );
    }
}
