//! Whether replicas keep up, where snapshots are to wait for them.
//!
//! A snapshot writes nothing, but it reads: from disks and caches that others need, and where the server that is read is a replica itself, beside what it
//! has to execute. Who asks for it names how far the replicas may be behind ([`SnapshotOptions::max_replica_lag`]): chunks are begun only while
//! each of those named, and each channel of the server that is read, says that it is no further. One that does not say, cannot be asked or stands still is waited for: that nobody
//! knows is no sign of health. The stream goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::control::Control;
use super::super::error::MysqlError;
use super::super::options::{Host, MysqlOptions};
use super::super::replica::Channel;
use crate::source::upstream::Upstream;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// For one server's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A task that asks the replicas, for as long as this lives.
#[derive(Debug)]
pub struct Replicas {
    task: JoinHandle<()>,
    /// Why nothing may be read, as of the last look.
    held: watch::Receiver<Option<Arc<str>>>,
    upstream: watch::Sender<Upstream>,
}

impl Replicas {
    /// `None` where nobody is to be waited for. Nothing may be read before the first look.
    #[must_use]
    pub fn watch(options: &MysqlOptions, upstream: &watch::Sender<Upstream>) -> Option<Replicas> {
        let most = options.snapshot.max_replica_lag?;
        let told = watch::Sender::new(Some(Arc::from("the replicas were not asked yet")));
        let held = told.subscribe();
        let (options, telling) = (options.clone(), upstream.clone());
        let task = tokio::spawn(async move {
            let read = Host { address: options.address.clone(), tls: options.tls };
            let named = options.snapshot_replicas.iter().cloned().map(|host| (host, true));
            let mut asked: Vec<Asked> = std::iter::once((read, false))
                .chain(named)
                .map(|(host, named)| Asked { options: options.only(&host), named, control: None })
                .collect();
            loop {
                let mut why = None;
                for server in &mut asked {
                    if let Some(said) = server.ask(most).await {
                        why.get_or_insert(said);
                    }
                }
                tell(why, &told, &telling);
                sleep(LOOK_EVERY).await;
            }
        });
        Some(Replicas { task, held, upstream: upstream.clone() })
    }

    /// They keep up.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.held.borrow().is_none()
    }

    /// Completes when they keep up. Cancel safe.
    pub async fn until_may_read(&self) {
        if self.held.clone().wait_for(Option::is_none).await.is_err() {
            // The task is gone, and so is this in a moment.
            std::future::pending().await
        }
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        self.task.abort();
        self.upstream.send_if_modified(|upstream| upstream.snapshots_wait.take().is_some());
    }
}

fn tell(why: Option<String>, told: &watch::Sender<Option<Arc<str>>>, upstream: &watch::Sender<Upstream>) {
    let before = upstream.borrow().snapshots_wait.is_some();
    match &why {
        Some(why) if !before => tracing::warn!(why, "snapshots wait for replicas"),
        None if before => tracing::info!("replicas keep up, snapshots go on"),
        _ => {}
    }
    upstream.send_if_modified(|upstream| {
        let changed = upstream.snapshots_wait != why;
        upstream.snapshots_wait.clone_from(&why);
        changed
    });
    told.send_replace(why.map(Arc::from));
}

/// A server that is asked.
struct Asked {
    options: MysqlOptions,
    /// The configuration says that it is a replica.
    named: bool,
    control: Option<Control>,
}

impl Asked {
    /// Why it is to be waited for, if it is.
    async fn ask(&mut self, most: Duration) -> Option<String> {
        let address = self.options.address.clone();
        match timeout(PATIENCE, self.channels()).await {
            Ok(Ok(channels)) => lags(&channels, self.named, most).map(|why| format!("{address}: {why}")),
            Ok(Err(error)) => {
                self.control = None;
                Some(format!("{address} cannot be asked how far it is behind: {error}"))
            }
            Err(_) => {
                self.control = None;
                Some(format!("{address} did not answer within {} s how far it is behind", PATIENCE.as_secs()))
            }
        }
    }

    async fn channels(&mut self) -> Result<Vec<Channel>, MysqlError> {
        let control = match &mut self.control {
            Some(control) => control,
            None => self.control.insert(Control::connect(&self.options).await?),
        };
        control.replicas().await
    }
}

/// Why a server with these channels is to be waited for. `named`: it is said to be a replica.
fn lags(channels: &[Channel], named: bool, most: Duration) -> Option<String> {
    if channels.is_empty() && named {
        return Some("it replicates from nobody: take it out of `replicas` in [snapshot]".to_owned());
    }
    channels.iter().find_map(|channel| {
        let from = &channel.source;
        match channel.behind_seconds {
            _ if !channel.executes => Some(format!("it does not execute what it receives from {from}")),
            None => Some(format!("it does not know how far it is behind {from}")),
            Some(seconds) if seconds > most.as_secs() => Some(format!(
                "it is {seconds} s behind {from}, and may be {} s (max_replica_lag_seconds)",
                most.as_secs()
            )),
            Some(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(10);

    fn channel(behind_seconds: Option<u64>) -> Channel {
        Channel {
            source: "db1:3306".into(),
            receives: true,
            executes: true,
            behind_seconds,
            ..Channel::default()
        }
    }

    #[test]
    fn who_keeps_up_is_not_waited_for() {
        assert_eq!(lags(&[channel(Some(0)), channel(Some(10))], true, MOST), None);
        assert_eq!(lags(&[], false, MOST), None, "a server that is no replica");
    }

    #[test]
    fn who_lags_stands_still_or_does_not_know_is_waited_for() {
        for (channels, named, word) in [
            (vec![channel(Some(0)), channel(Some(11))], true, "it is 11 s behind db1:3306"),
            (vec![channel(Some(11))], false, "may be 10 s"),
            (vec![channel(None)], false, "does not know"),
            (vec![Channel { executes: false, ..channel(Some(0)) }], true, "does not execute"),
            (vec![], true, "replicates from nobody"),
        ] {
            let why = lags(&channels, named, MOST).unwrap();
            assert!(why.contains(word), "{why}");
        }
    }
}
