//! Everything set up for one test: servers, a shop in a schema of its own, and a relay that does not run yet.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::{Mutex, MutexGuard};

use super::compare::{Comparison, compare};
use super::engine::Engine;
use super::mysql;
use super::pulse::Beat;
use super::relay::{Relay, RelayOptions, relay_binary};
use super::seed::Seed;
use super::servers::{Database, Servers};
use super::shop::{Scale, Shop};
use super::workload::{Pace, Workload};

/// Tests stop and restart the servers that they share: one at a time, whatever the number of test threads.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What a test plays on. [`Stage::clear`] at its end; where that is not reached, the relay's folder is kept and named.
#[derive(Debug)]
pub struct Stage {
    pub servers: Servers,
    pub engine: Engine,
    pub shop: Shop,
    /// What is compared: the shop's tables, and those that a test adds.
    pub tables: Vec<String>,
    pub scale: Scale,
    pub seed: Seed,
    pub relay: Relay,
    folder: Option<TempDir>,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    /// `test`: the test function's name, which names the schema and what replays it. `rows`: what the shop opens with.
    ///
    /// # Errors
    /// No servers, or they refuse.
    pub async fn set(test: &'static str, rows: u64) -> Result<Stage> {
        Stage::set_with(Database::Mysql, test, rows).await
    }

    /// The same with this database.
    ///
    /// # Errors
    /// As [`Stage::set`].
    pub async fn set_with(database: Database, test: &'static str, rows: u64) -> Result<Stage> {
        Stage::set_on(|| Servers::of_tests(database), test, rows).await
    }

    /// The same with these servers.
    ///
    /// # Errors
    /// As [`Stage::set`].
    pub async fn set_on<F: Future<Output = Result<Servers>>>(
        servers: impl FnOnce() -> F,
        test: &'static str,
        rows: u64,
    ) -> Result<Stage> {
        let alone = ALONE.lock().await;
        let seed = Seed::take(test)?;
        let servers = servers().await?;
        let engine = Engine::new(&servers.engine_url)?;
        // No run meets what an earlier one left, in the engine or in the binlog.
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let name = &test[..test.len().min(30)];
        let shop = Shop::new(&servers.mysql_url, &format!("{name}_{:x}", started & 0xffff_ffff));
        let before = mysql::executed(&servers.mysql_url).await?;
        shop.create().await?;
        let scale = Scale::of_rows(rows);
        if rows > 0 {
            shop.seed(scale, seed.number).await?;
        }
        let folder = tempfile::Builder::new().prefix("everrelay-test-").tempdir()?;
        let mut options =
            RelayOptions::new(relay_binary(), &servers.mysql_url, &servers.engine_url, &shop.schema);
        if !before.is_empty() {
            options.start = before;
        }
        let relay = Relay::prepare(folder.path(), options)?;
        let tables = shop.tables().into_iter().map(str::to_owned).collect();
        Ok(Stage { servers, engine, shop, tables, scale, seed, relay, folder: Some(folder), _alone: alone })
    }

    /// Starts a workload of several connections.
    #[must_use]
    pub fn workload(&self, rate: Option<u32>) -> Workload {
        Workload::start(&self.shop, self.scale, self.seed.number, Pace { connections: 3, rate })
    }

    /// Runs `everrelay` with the relay's configuration; its exit code, what it printed, and what it complained of.
    ///
    /// # Errors
    /// It cannot be started, or a signal ended it.
    pub async fn command(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let mut command = Command::new(relay_binary());
        command.args(arguments).arg("--config").arg(self.relay.config_file());
        let output = command.output().await.context("starting everrelay")?;
        let code = output.status.code().context("ended by a signal")?;
        Ok((code, String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    }

    /// Waits for the relay to end by itself with this exit code, and returns all that it said.
    ///
    /// # Errors
    /// It does not end in time, or with another status.
    pub async fn relay_ends_with(&mut self, code: i32, within: Duration) -> Result<String> {
        let status = self.relay.exit(within).await?;
        let words = self.relay.words();
        ensure!(
            status.code() == Some(code),
            "the relay was to exit with {code}, it ended with {status}:\n{words}"
        );
        Ok(words)
    }

    /// Waits until the running relay has caught up, and compares every table with its index. Nobody may write meanwhile.
    ///
    /// # Errors
    /// It does not catch up in time, or anything differs: in words, with the seed.
    pub async fn agree(&mut self, within: Duration) -> Result<Comparison> {
        let seed = self.seed;
        self.caught_up_and_equal(within).await.with_context(|| seed.to_string())
    }

    async fn caught_up_and_equal(&mut self, within: Duration) -> Result<Comparison> {
        self.relay.ensure_alive()?;
        let beat = Beat::commit(&self.shop).await?;
        while !beat.has_arrived(&self.engine).await? {
            self.relay.ensure_alive()?;
            let last_words = || self.relay.last_words();
            ensure!(
                beat.age() < within,
                "nothing new in the engine for {within:?}; the relay's last words:\n{}",
                last_words()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.relay.until_settled(within).await?;
        let names = self.tables.iter().map(String::as_str);
        let comparison = compare(&self.shop.mysql_url, &self.engine, &self.shop.schema, names).await?;
        ensure!(comparison.differences() == 0, "table and index differ:\n{comparison}");
        let ours: Vec<String> =
            self.tables.iter().map(|table| format!("{}.{table}-000001", self.shop.schema)).collect();
        let found = self.engine.indices(&self.shop.schema).await?;
        ensure!(
            found.iter().all(|name| ours.contains(name)),
            "nobody asked for all of these indices: {found:?}"
        );
        eprint!("{comparison}");
        Ok(comparison)
    }

    /// Ends the relay and takes away all that the test made.
    ///
    /// # Errors
    /// A server fails.
    pub async fn clear(mut self) -> Result<()> {
        if self.relay.pid().is_ok() {
            self.relay.kill()?;
        }
        if let Some(folder) = self.folder.take() {
            folder.close()?;
        }
        self.shop.drop().await?;
        self.engine.delete_indices(&self.shop.schema).await
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(folder) = self.folder.take() {
            eprintln!("{}; the relay's folder: {}", self.seed, folder.keep().display());
        }
    }
}
