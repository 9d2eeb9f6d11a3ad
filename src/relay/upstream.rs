//! What is said of the servers behind the source: their metrics, and what of them stands in the way.

use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::disk::Disk;
use crate::lifecycle::{Readiness, Shutdown};
use crate::log::Log;
use crate::metrics::names;
use crate::source::Upstream;

/// How often the time that is left is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// The parts of the process that say that the server will soon remove what was not read, and that it has no news itself, in [`Readiness`].
const PURGE: &str = "purge";
const REPLICA: &str = "replica";

/// Tells until a drain is asked for.
pub async fn tell<D: Disk, T: Clock>(
    upstream: watch::Receiver<Upstream>,
    log: &Log<D>,
    clock: &T,
    readiness: &Readiness,
    shutdown: &Shutdown,
) {
    loop {
        let now = upstream.borrow().clone();
        let kept = now.kept_seconds(log.visible().time_micros, clock.wall_micros());
        if let Some(seconds) = kept {
            gauge!(names::SOURCE_PURGE_LEFT).set(seconds as f64);
        }
        gauge!(names::SOURCE_REPLICA_LAG).set(now.lag_seconds().unwrap_or(0) as f64);
        told(readiness, PURGE, short(&now, kept));
        told(readiness, REPLICA, stopped(&now));
        tokio::select! {
            () = tokio::time::sleep(TELL_EVERY) => {}
            () = shutdown.wait() => return,
        }
    }
}

fn told(readiness: &Readiness, part: &'static str, obstacle: Option<String>) {
    match obstacle {
        Some(reason) => {
            if readiness.obstacle(part, reason.clone()) {
                tracing::warn!("{reason}");
            }
        }
        None => {
            readiness.clear(part);
        }
    }
}

/// A server removes nothing that it is asked for at the moment.
fn short(upstream: &Upstream, kept: Option<u64>) -> Option<String> {
    let seconds = kept.filter(|seconds| !upstream.is_read() && upstream.is_short(*seconds))?;
    // To the minute: it is news once a minute.
    let left = match seconds / 60 {
        0 => "within a minute, if it has not yet".to_owned(),
        minutes => format!("in {}", humantime::format_duration(Duration::from_secs(minutes * 60))),
    };
    Some(format!(
        "the server removes binlogs with transactions that were not read {left}: let the relay go on before, or raise \
         binlog_expire_logs_seconds there"
    ))
}

fn stopped(upstream: &Upstream) -> Option<String> {
    let replicates = upstream.replicates.iter().filter(|_| upstream.is_read());
    let stopped = replicates.filter_map(|channel| {
        let why = channel.stopped.as_ref()?;
        Some(format!("the server that is read is a replica of {}, and {why}", channel.from))
    });
    let stopped = stopped.collect::<Vec<_>>().join("; ");
    (!stopped.is_empty()).then_some(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::upstream::{HostState, HostUse, Replication};

    fn upstream(at_present: HostUse) -> Upstream {
        let host = HostState { address: "db:3306".into(), at_present, said: None };
        let stopped = Some("it does not receive: error 2003".to_owned());
        let replicates = vec![Replication { from: "db1:3306".into(), lag_seconds: None, stopped }];
        Upstream { hosts: vec![host], replicates, expires_seconds: Some(86_400), ..Upstream::default() }
    }

    #[test]
    fn a_server_that_is_read_removes_nothing_of_it() {
        let text = short(&upstream(HostUse::Refused), Some(3 * 3600 + 59)).unwrap();
        assert!(text.contains("in 3h:") && text.contains("binlog_expire_logs_seconds"), "{text}");
        assert!(short(&upstream(HostUse::Refused), Some(7)).unwrap().contains("within a minute"));
        assert_eq!(short(&upstream(HostUse::Read), Some(7)), None);
        assert_eq!(short(&upstream(HostUse::Refused), Some(7 * 3600)), None);
        assert_eq!(short(&upstream(HostUse::Refused), None), None);
    }

    #[test]
    fn a_replica_that_stands_still_stands_in_the_way() {
        let text = stopped(&upstream(HostUse::Read)).unwrap();
        assert!(text.contains("db1:3306") && text.contains("error 2003"), "{text}");
        assert_eq!(stopped(&upstream(HostUse::Spare)), None);
    }
}
