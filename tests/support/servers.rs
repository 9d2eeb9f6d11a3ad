//! A database and Elasticsearch, by `dev/servers`.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::task::spawn_blocking;

/// Which of the two; the database is whatever the servers are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Mysql,
    Elasticsearch,
}

/// Whose the database is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    Mysql,
    Mariadb,
}

impl Database {
    /// As `dev/servers` calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Database::Mysql => "mysql",
            Database::Mariadb => "mariadb",
        }
    }
}

/// A running pair of servers, as they were when this was asked: a restart gives them other pids. They outlive this value: whoever wants
/// them ended says `dev/servers down`.
#[derive(Clone, Debug)]
pub struct Servers {
    instance: String,
    pub database: Database,
    pub mysql_host: String,
    pub mysql_port: u16,
    /// `mysql://root@…`, without a database.
    pub mysql_url: String,
    pub engine_url: String,
    pub mysql_pid: u32,
    pub engine_pid: u32,
}

#[derive(Deserialize)]
struct Up {
    #[serde(alias = "mariadb")]
    mysql: UpMysql,
    elasticsearch: UpEngine,
}

#[derive(Deserialize)]
struct UpMysql {
    host: String,
    port: u16,
    user: String,
    pid: u32,
}

#[derive(Deserialize)]
struct UpEngine {
    url: String,
    pid: u32,
}

impl Servers {
    /// The servers of the tests, started where they are not up: the instance in `EVERRELAY_TEST_INSTANCE`, else `test`.
    ///
    /// # Errors
    /// `dev/servers` fails; its own words are on standard error.
    pub async fn of_tests(database: Database) -> Result<Servers> {
        let instance = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
        Servers::up_with(database, &instance).await
    }

    /// An empty MySQL without GTIDs, in an instance of its own, and the tests' Elasticsearch.
    ///
    /// # Errors
    /// `dev/servers` fails; its own words are on standard error.
    pub async fn without_gtids() -> Result<Servers> {
        let of_tests = std::env::var("EVERRELAY_TEST_INSTANCE").unwrap_or_else(|_| "test".to_owned());
        let instance = format!("{of_tests}-off");
        let engine = dev_servers(&["up", "elasticsearch", "--instance", &of_tests, "--json"], "").await?;
        let options = "--gtid-mode=OFF --enforce-gtid-consistency=OFF";
        let mysql = ["up", "mysql", "--instance", &instance, "--fresh", "--json"];
        let mysql = dev_servers(&mysql, options).await?;
        let mut both: serde_json::Value = serde_json::from_str(&mysql)?;
        both["elasticsearch"] = serde_json::from_str::<serde_json::Value>(&engine)?["elasticsearch"].take();
        Servers::named(&both.to_string(), Database::Mysql, &instance)
    }

    /// The tests' MySQL, and OpenSearch in the place of Elasticsearch.
    ///
    /// # Errors
    /// `dev/servers` fails; its own words are on standard error.
    pub async fn with_opensearch() -> Result<Servers> {
        let servers = Servers::of_tests(Database::Mysql).await?;
        let answer =
            dev_servers(&["up", "opensearch", "--instance", &servers.instance, "--json"], "").await?;
        let up: serde_json::Value = serde_json::from_str(&answer)?;
        let up: UpEngine = serde_json::from_value(up["opensearch"].clone())?;
        Ok(Servers { engine_url: up.url, engine_pid: up.pid, ..servers })
    }

    /// The servers of an instance, started where they are not up.
    ///
    /// # Errors
    /// `dev/servers` fails; its own words are on standard error.
    pub async fn up(instance: &str) -> Result<Servers> {
        Servers::up_with(Database::Mysql, instance).await
    }

    /// # Errors
    /// As [`Servers::up`].
    pub async fn up_with(database: Database, instance: &str) -> Result<Servers> {
        let names = [database.name(), "elasticsearch"];
        let answer = dev_servers(&["up", names[0], names[1], "--instance", instance, "--json"], "").await?;
        Servers::named(&answer, database, instance)
    }

    fn named(answer: &str, database: Database, instance: &str) -> Result<Servers> {
        let up: Up =
            serde_json::from_str(answer).with_context(|| format!("dev/servers up --json said {answer}"))?;
        Ok(Servers {
            instance: instance.to_owned(),
            database,
            mysql_url: format!("mysql://{}@{}:{}", up.mysql.user, up.mysql.host, up.mysql.port),
            mysql_host: up.mysql.host,
            mysql_port: up.mysql.port,
            engine_url: up.elasticsearch.url,
            mysql_pid: up.mysql.pid,
            engine_pid: up.elasticsearch.pid,
        })
    }

    /// Starts one that was stopped, on its old port, with its old data; back when it is ready.
    ///
    /// # Errors
    /// `dev/servers` fails.
    pub async fn start(&self, server: Server) -> Result<()> {
        self.command("up", server).await
    }

    /// Ends one as an operator would; back when it is gone.
    ///
    /// # Errors
    /// `dev/servers` fails.
    pub async fn stop(&self, server: Server) -> Result<()> {
        self.command("down", server).await
    }

    /// Ends one as a crash would.
    ///
    /// # Errors
    /// `dev/servers` fails.
    pub async fn kill(&self, server: Server) -> Result<()> {
        self.command("kill", server).await
    }

    /// Stops one and starts it again, on its old port, with its old data; back when it is ready.
    ///
    /// # Errors
    /// `dev/servers` fails.
    pub async fn restart(&self, server: Server) -> Result<()> {
        self.command("restart", server).await
    }

    async fn command(&self, command: &str, server: Server) -> Result<()> {
        let name = match server {
            Server::Mysql => self.database.name(),
            Server::Elasticsearch => "elasticsearch",
        };
        dev_servers(&[command, name, "--instance", &self.instance], "").await?;
        Ok(())
    }
}

/// Standard output of `dev/servers ARGUMENT…`; what it says to people is shown when it fails. `options`: more of them for a MySQL that it starts.
async fn dev_servers(arguments: &[&str], options: &str) -> Result<String> {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("dev/servers");
    let mut command = Command::new(&script);
    command.args(arguments).stdin(Stdio::null());
    if !options.is_empty() {
        command.env("MYSQL_EXTRA", options);
    }
    let output = spawn_blocking(move || command.output())
        .await?
        .with_context(|| format!("starting {}", script.display()))?;
    ensure!(
        output.status.success(),
        "dev/servers {} ended with {}:\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}
