//! Several servers with the same transactions: which is read, which is tried next, and when a refusal is the last word.
//!
//! Connecting is a round: each host is tried, first the one that was read last, until one serves. There the source stays until that connection ends;
//! a host that said nonsense comes last in the next round. What one host refuses for good (it purged what we need, has another history, a setting under
//! which changes are lost) does not stop the source while another may serve: a round's failure is transient if that of any host may pass by
//! itself, else nonsense if that of any is, else definite; and it says what each host said.
//!
//! Two refusals may pass by themselves and have a while, each host its own. One that lacks transactions of ours has the failover grace: a
//! replica may lag, and begins anew with the grace as long as it catches up. And once any host has served, a refused login or grant has the
//! denial grace, the password's file being read anew at each login: a password that is changed at night must not end the relay.

use tokio::time::Instant;

use crate::metrics::names;
use crate::source::SourceError;
use crate::source::upstream::{HostState, HostUse};

use super::error::{Class, Hope, MysqlError};
use super::options::{Host, MysqlOptions};

/// The servers of one source.
#[derive(Debug)]
pub struct Hosts {
    tried: Vec<Tried>,
    /// The one that was read last.
    current: usize,
    /// One of them was read in this run.
    served: bool,
}

/// A host, and since when it refuses.
#[derive(Debug)]
struct Tried {
    host: Host,
    /// How many of our transactions it lacked at the last look, and since when it has not come nearer.
    lacks: Option<(u64, Instant)>,
    denies: Option<Instant>,
    at_present: HostUse,
    said: Option<String>,
}

impl Hosts {
    #[must_use]
    pub fn new(options: &MysqlOptions) -> Hosts {
        let tried = options.hosts().into_iter().map(|host| Tried {
            host,
            lacks: None,
            denies: None,
            at_present: HostUse::Spare,
            said: None,
        });
        Hosts { tried: tried.collect(), current: 0, served: false }
    }

    /// How each of them stands.
    #[must_use]
    pub fn states(&self) -> Vec<HostState> {
        let state = |tried: &Tried| {
            let address = tried.host.address.to_string();
            let read = if tried.at_present == HostUse::Read { 1.0 } else { 0.0 };
            metrics::gauge!(names::SOURCE_HOST, "host" => address.clone()).set(read);
            HostState { address, at_present: tried.at_present, said: tried.said.clone() }
        };
        self.tried.iter().map(state).collect()
    }

    /// One round, in the order of trying: number and host.
    #[must_use]
    pub fn round(&self) -> Vec<(usize, Host)> {
        let all = self.tried.iter().map(|tried| tried.host.clone()).enumerate();
        let mut round: Vec<_> = all.collect();
        round.rotate_left(self.current);
        round
    }

    /// This one serves.
    pub fn serves(&mut self, number: usize) {
        (self.current, self.served) = (number, true);
        if let Some(tried) = self.tried.get_mut(number) {
            (tried.lacks, tried.denies) = (None, None);
            (tried.at_present, tried.said) = (HostUse::Read, None);
        }
    }

    /// The stream has ended.
    pub fn none_is_read(&mut self) {
        for tried in self.tried.iter_mut().filter(|tried| tried.at_present == HostUse::Read) {
            tried.at_present = HostUse::Spare;
        }
    }

    /// Begins the next round with another one.
    pub fn turn(&mut self) {
        self.current = (self.current + 1) % self.tried.len().max(1);
    }

    /// What a host's refusal comes to at this time.
    pub fn refused(&mut self, number: usize, error: MysqlError, options: &MysqlOptions) -> MysqlError {
        let error = self.judged(number, error, options);
        let several = self.tried.len() > 1;
        if let Some(tried) = self.tried.get_mut(number) {
            let said = error.to_string();
            if several && tried.said.as_ref() != Some(&said) {
                tracing::warn!(server = %tried.host.address, error = %said, "this server does not serve");
            }
            (tried.at_present, tried.said) = (HostUse::Refused, Some(said));
        }
        error
    }

    fn judged(&mut self, number: usize, error: MysqlError, options: &MysqlOptions) -> MysqlError {
        let Some(tried) = self.tried.get_mut(number) else { return error };
        let now = Instant::now();
        match error {
            MysqlError::AnotherHistory { server, missing, hope: hope @ (Hope::Grace | Hope::CatchingUp) } => {
                let count = missing.count();
                let since = match tried.lacks {
                    Some((before, since)) if hope == Hope::Grace && count >= before => since,
                    _ => now,
                };
                tried.lacks = Some((count, since));
                if hope == Hope::Grace && now - since >= options.failover_grace {
                    return MysqlError::AnotherHistory { server, missing, hope };
                }
                let waiting = match hope {
                    Hope::CatchingUp => "it is a replica that lags: waiting for it",
                    _ => "waiting for a while, since it may lag",
                };
                MysqlError::Lacks { server, missing, waiting }
            }
            error if error.is_denial() && self.served => {
                let since = *tried.denies.get_or_insert(now);
                if now - since >= options.denial_grace {
                    return error;
                }
                MysqlError::Denied { source: error.into() }
            }
            error => {
                // Whatever it is now, it is not that any more.
                (tried.lacks, tried.denies) = (None, None);
                error
            }
        }
    }
}

/// What a round comes to in which no host served.
#[must_use]
pub fn verdict(mut refusals: Vec<MysqlError>) -> SourceError {
    if refusals.len() == 1
        && let Some(only) = refusals.pop()
    {
        return only.into();
    }
    let is = |class| refusals.iter().any(|refusal| refusal.class() == class);
    let said = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let error = Box::new(MysqlError::NoneServes(said));
    if is(Class::Transient) {
        SourceError::Transient(error)
    } else if is(Class::Garbled) {
        SourceError::Garbled(error)
    } else {
        SourceError::Definite(error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::link::ServerSaid;
    use super::super::options::{Address, Tls};
    use super::*;
    use crate::secret::Secret;

    fn options() -> MysqlOptions {
        let address = |host: &str| Address::Tcp { host: host.to_owned(), port: 3306 };
        let mut options = MysqlOptions::new(address("a"), "u", Secret::default(), 1);
        options.others = ["b", "c"].map(|host| Host { address: address(host), tls: Tls::Local }).into();
        options
    }

    fn lacks(count: u64, hope: Hope) -> MysqlError {
        let missing = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{count}").parse().unwrap();
        MysqlError::AnotherHistory { server: "a:3306".into(), missing, hope }
    }

    fn denial() -> MysqlError {
        let said = ServerSaid { code: 1045, message: "Access denied".into() };
        MysqlError::link("connecting", "a:3306", said.into())
    }

    fn away(server: &str) -> MysqlError {
        MysqlError::NoAnswer { doing: "connecting", server: server.into(), seconds: 1 }
    }

    fn order(hosts: &Hosts) -> Vec<usize> {
        hosts.round().iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn a_round_begins_with_the_host_that_served_last_and_a_turn_moves_on() {
        let mut hosts = Hosts::new(&options());
        assert_eq!(order(&hosts), [0, 1, 2]);
        hosts.serves(1);
        assert_eq!(order(&hosts), [1, 2, 0]);
        hosts.turn();
        hosts.turn();
        assert_eq!(order(&hosts), [0, 1, 2]);
    }

    #[test]
    fn a_round_is_definite_only_where_every_host_refuses_for_good() {
        let definite = || lacks(3, Hope::None);
        let garbled = || MysqlError::GtidSet { server: "b:3306".into(), problem: "nonsense".into() };
        for (refusals, class) in [
            (vec![definite(), away("b:3306")], "transient"),
            (vec![definite(), garbled(), away("b:3306")], "transient"),
            (vec![garbled(), definite()], "garbled"),
            (vec![definite(), denial()], "definite"),
            (vec![definite()], "definite"),
        ] {
            let said: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            let (found, error) = match verdict(refusals) {
                SourceError::Transient(error) => ("transient", error),
                SourceError::Garbled(error) => ("garbled", error),
                SourceError::Definite(error) => ("definite", error),
            };
            let text = error.to_string();
            assert_eq!(found, class, "{text}");
            assert!(said.iter().all(|said| text.contains(said)), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_lacks_transactions_has_the_grace_from_when_it_came_nearer_last() {
        let (mut hosts, options) = (Hosts::new(&options()), options());
        let mut after = async |seconds, count, hope| {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            hosts.refused(0, lacks(count, hope), &options).class()
        };
        assert_eq!(after(0, 9, Hope::Grace).await, Class::Transient);
        assert_eq!(after(50, 9, Hope::Grace).await, Class::Transient);
        assert_eq!(after(9, 8, Hope::Grace).await, Class::Transient, "it came nearer");
        assert_eq!(after(59, 8, Hope::Grace).await, Class::Transient);
        assert_eq!(
            after(9_000, 8, Hope::CatchingUp).await,
            Class::Transient,
            "a replica that lags is waited for"
        );
        assert_eq!(after(59, 8, Hope::Grace).await, Class::Transient);
        assert_eq!(after(1, 8, Hope::Grace).await, Class::Definite);
        assert_eq!(after(0, 8, Hope::None).await, Class::Definite);
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_definite_at_the_start_and_has_a_while_once_a_host_has_served() {
        let (mut hosts, options) = (Hosts::new(&options()), options());
        assert_eq!(hosts.refused(0, denial(), &options).class(), Class::Definite);
        hosts.serves(1);
        let refused = hosts.refused(0, denial(), &options);
        assert_eq!(refused.class(), Class::Transient);
        assert!(refused.to_string().contains("Access denied"), "{refused}");
        tokio::time::advance(options.denial_grace - Duration::from_secs(1)).await;
        assert_eq!(hosts.refused(0, denial(), &options).class(), Class::Transient);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(hosts.refused(0, denial(), &options).class(), Class::Definite);
        hosts.refused(0, away("a:3306"), &options);
        assert_eq!(
            hosts.refused(0, denial(), &options).class(),
            Class::Transient,
            "it was something else in between"
        );
    }
}
