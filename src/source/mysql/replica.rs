//! How the server that is read replicates from another one.
//!
//! What it has not executed yet it cannot send, and a replica that stands still says nothing by itself: an index behind it grows stale while all is
//! quiet. (MySQL, *SHOW REPLICA STATUS*; MariaDB, *SHOW ALL SLAVES STATUS*; read by the names of the columns, old and new.)

use crate::event::GtidSet;
use crate::source::upstream::Replication;

use super::link::{Row, shown};

/// One channel of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Where it replicates from, `host:port`.
    pub source: String,
    /// It is connected to its source and receives.
    pub receives: bool,
    /// It executes what it received.
    pub executes: bool,
    /// How far it is behind its source; `None` where it does not know.
    pub behind_seconds: Option<u64>,
    /// Everything that it received; MySQL alone says so.
    pub(super) received: GtidSet,
    /// Its own words on what stopped it.
    pub problem: String,
}

impl Channel {
    /// `names`: the columns of an answer; `row`: one of its rows.
    #[must_use]
    pub fn new(names: &[String], row: Row) -> Channel {
        let value = |wanted: &[&str]| {
            let place =
                names.iter().position(|name| wanted.iter().any(|wanted| name.eq_ignore_ascii_case(wanted)));
            place.and_then(|place| row.get(place)?.as_deref()).unwrap_or_default()
        };
        let host = value(&["Source_Host", "Master_Host"]);
        let port = value(&["Source_Port", "Master_Port"]);
        let problems = [value(&["Last_IO_Error"]), value(&["Last_SQL_Error"])];
        let problem = problems.into_iter().find(|problem| !problem.is_empty()).unwrap_or_default();
        Channel {
            source: shown(format!("{host}:{port}").as_bytes()),
            receives: value(&["Replica_IO_Running", "Slave_IO_Running"]) == "Yes",
            executes: value(&["Replica_SQL_Running", "Slave_SQL_Running"]) == "Yes",
            behind_seconds: value(&["Seconds_Behind_Source", "Seconds_Behind_Master"]).parse().ok(),
            received: value(&["Retrieved_Gtid_Set"]).parse().unwrap_or_default(),
            problem: shown(problem.as_bytes()),
        }
    }

    /// It goes on by itself with what `executed` does not have yet.
    #[must_use]
    pub fn is_behind(&self, executed: &GtidSet) -> bool {
        self.executes
            && (!self.received.is_subset(executed)
                || (self.receives && self.behind_seconds.is_some_and(|seconds| seconds > 0)))
    }
}

impl From<Channel> for Replication {
    fn from(channel: Channel) -> Replication {
        let part = match (channel.receives, channel.executes) {
            (true, true) => None,
            (false, _) => Some("it does not receive"),
            (true, false) => Some("it does not execute what it receives"),
        };
        let stopped = part.map(|part| match channel.problem.as_str() {
            "" => part.to_owned(),
            problem => format!("{part}: {problem}"),
        });
        Replication { from: channel.source, lag_seconds: channel.behind_seconds, stopped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(values: &[(&str, Option<&str>)]) -> Channel {
        let names: Vec<String> = values.iter().map(|(name, _)| (*name).to_owned()).collect();
        Channel::new(&names, values.iter().map(|(_, value)| value.map(str::to_owned)).collect())
    }

    #[test]
    fn a_replica_is_read_by_old_names_and_new() {
        for (word, old) in [("Replica", "Source"), ("Slave", "Master")] {
            let found = channel(&[
                (&format!("{old}_Host"), Some("db1")),
                (&format!("{old}_Port"), Some("3306")),
                (&format!("{word}_IO_Running"), Some("Connecting")),
                (&format!("{word}_SQL_Running"), Some("Yes")),
                (&format!("Seconds_Behind_{old}"), None),
                ("Last_IO_Error", Some("error connecting\u{1b}[2J")),
                ("Last_SQL_Error", Some("")),
            ]);
            assert_eq!((found.source.as_str(), found.receives, found.executes), ("db1:3306", false, true));
            assert_eq!((found.behind_seconds, found.problem.as_str()), (None, "error connecting\\u{1b}[2J"));
        }
        assert_eq!(channel(&[]), Channel { source: ":".into(), ..Channel::default() });
    }

    #[test]
    fn a_replica_is_behind_while_it_executes_and_has_something_left() {
        let executed: GtidSet = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".parse().unwrap();
        let of = |received: &str, sql: &str, seconds: Option<&str>| {
            channel(&[
                ("Retrieved_Gtid_Set", Some(received)),
                ("Replica_IO_Running", Some("Yes")),
                ("Replica_SQL_Running", Some(sql)),
                ("Seconds_Behind_Source", seconds),
            ])
            .is_behind(&executed)
        };
        assert!(of("3e11fa47-71ca-11e1-9e33-c80aa9429562:4-9", "Yes", Some("0")));
        assert!(of("3e11fa47-71ca-11e1-9e33-c80aa9429562:4", "Yes", Some("7")));
        assert!(!of("3e11fa47-71ca-11e1-9e33-c80aa9429562:4", "Yes", Some("0")));
        assert!(!of("3e11fa47-71ca-11e1-9e33-c80aa9429562:4-9", "No", Some("7")));
        assert!(!of("", "Yes", None));
    }
}
