//! Plans carried out by several connections, until they are told to stop.
//!
//! A connection that is lost is made again, for as long as a restart of the server may take; a deadlock, a lock wait that takes too long or a key that is
//! taken costs its transaction. Every other error ends the workload.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Error};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::mysql;
use super::plan::{End, Plan, Transaction};
use super::shop::{Scale, Shop};

/// How hard to work.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub connections: u64,
    /// Transactions per second over all connections; `None`: as fast as the server allows.
    pub rate: Option<u32>,
}

/// What was done so far.
#[derive(Debug, Default)]
pub struct Totals {
    /// Committed.
    pub transactions: AtomicU64,
    /// Rows that committed statements say they have changed.
    pub changes: AtomicU64,
    pub rolled_back: AtomicU64,
    /// Given up for a deadlock or a key that was taken.
    pub conflicts: AtomicU64,
    pub reconnects: AtomicU64,
}

impl Totals {
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }
}

/// A workload that runs.
#[derive(Debug)]
pub struct Workload {
    pub totals: Arc<Totals>,
    stop: Arc<AtomicBool>,
    connections: Vec<JoinHandle<Result<()>>>,
}

/// How long a lost server may stay away.
const AWAY: Duration = Duration::from_secs(120);

impl Workload {
    /// Starts all connections.
    #[must_use]
    pub fn start(shop: &Shop, scale: Scale, seed: u64, pace: Pace) -> Workload {
        let (totals, stop) = (Arc::<Totals>::default(), Arc::<AtomicBool>::default());
        let connections = (0..pace.connections)
            .map(|connection| {
                let worker = Worker {
                    url: shop.mysql_url.clone(),
                    plan: Plan::new(shop, scale, seed, connection, pace.connections),
                    interval: pace.rate.map(|rate| {
                        Duration::from_secs_f64(pace.connections as f64 / f64::from(rate.max(1)))
                    }),
                    totals: totals.clone(),
                    stop: stop.clone(),
                };
                tokio::spawn(worker.work())
            })
            .collect();
        Workload { totals, stop, connections }
    }

    /// # Errors
    /// A connection has given up: with its reason.
    pub async fn ensure_alive(&mut self) -> Result<()> {
        if let Some(at) = self.connections.iter().position(JoinHandle::is_finished) {
            self.connections.remove(at).await??;
            bail!("a connection of the workload ended by itself");
        }
        Ok(())
    }

    /// Lets the transactions under way end, and returns what was done.
    ///
    /// # Errors
    /// A connection had given up: with its reason.
    pub async fn stop(mut self) -> Result<Arc<Totals>> {
        self.stop.store(true, Ordering::Relaxed);
        for connection in self.connections.drain(..) {
            connection.await??;
        }
        ensure!(self.totals.transactions() > 0, "the workload committed nothing");
        Ok(self.totals.clone())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.abort();
        }
    }
}

struct Worker {
    url: String,
    plan: Plan,
    interval: Option<Duration>,
    totals: Arc<Totals>,
    stop: Arc<AtomicBool>,
}

impl Worker {
    async fn work(mut self) -> Result<()> {
        let mut conn = self.connect().await?;
        let mut next = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let transaction = self.plan.next_transaction();
            let outcome = carry_out(&mut conn, &transaction).await;
            match outcome {
                Ok(changes) if transaction.end == End::Commit => {
                    self.totals.transactions.fetch_add(1, Ordering::Relaxed);
                    self.totals.changes.fetch_add(changes, Ordering::Relaxed);
                }
                Ok(_) => {
                    self.totals.rolled_back.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if is_conflict(&error) => {
                    self.totals.conflicts.fetch_add(1, Ordering::Relaxed);
                    if conn.query_drop("ROLLBACK").await.is_err() {
                        conn = self.connect().await?;
                    }
                }
                Err(error) if is_lost(&error) => {
                    self.totals.reconnects.fetch_add(1, Ordering::Relaxed);
                    conn = self.connect().await?;
                }
                Err(error) => {
                    return Err(error).context(format!("the workload's transaction {transaction:?}"));
                }
            }
            if let Some(interval) = self.interval {
                next = (next + interval).max(Instant::now() - interval);
                sleep_until(next).await;
            }
        }
        conn.disconnect().await.or_else(|error| if is_lost(&error) { Ok(()) } else { Err(error.into()) })
    }

    async fn connect(&self) -> Result<Conn> {
        let deadline = Instant::now() + AWAY;
        loop {
            let attempt = async {
                let mut conn = mysql::connect(&self.url).await?;
                conn.query_drop("SET innodb_lock_wait_timeout = 5").await?;
                Ok::<Conn, anyhow::Error>(conn)
            };
            match attempt.await {
                Ok(conn) => return Ok(conn),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).context(format!("the server is away for more than {AWAY:?}"));
                }
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

/// Returns the number of rows that the statements say they have changed.
async fn carry_out(conn: &mut Conn, transaction: &Transaction) -> Result<u64, Error> {
    let mut changes = 0;
    conn.query_drop("BEGIN").await?;
    for statement in &transaction.statements {
        conn.query_drop(statement).await?;
        changes += conn.affected_rows();
    }
    conn.query_drop(match transaction.end {
        End::Commit => "COMMIT",
        End::Rollback => "ROLLBACK",
    })
    .await?;
    Ok(changes)
}

fn is_conflict(error: &Error) -> bool {
    // Lock wait time-out, deadlock, duplicate key.
    matches!(error, Error::Server(error) if [1205, 1213, 1062].contains(&error.code))
}

fn is_lost(error: &Error) -> bool {
    // Server shutdown, killed connection, too long an operation interrupted by either.
    match error {
        Error::Server(error) => [1053, 1152, 1317, 3169].contains(&error.code),
        Error::Io(_) | Error::Driver(_) => true,
        _ => false,
    }
}
