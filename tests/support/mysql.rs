//! Connections to MySQL and one-off statements.

use anyhow::{Context, Result};
use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder};

/// A new connection, with the session's time zone UTC.
///
/// # Errors
/// The server cannot be reached or refuses.
pub async fn connect(url: &str) -> Result<Conn> {
    let opts = Opts::from_url(url)?;
    let opts = OptsBuilder::from_opts(opts)
        .prefer_socket(Some(false))
        .max_allowed_packet(Some(1 << 30))
        .setup(vec!["SET time_zone = '+00:00'", "SET NAMES utf8mb4"]);
    Conn::new(opts).await.with_context(|| format!("connecting to {url}"))
}

/// Carries out statements on a connection of their own.
///
/// # Errors
/// The first that fails, by its text.
pub async fn execute<S: AsRef<str>>(url: &str, statements: impl IntoIterator<Item = S>) -> Result<()> {
    let mut conn = connect(url).await?;
    for statement in statements {
        let statement = statement.as_ref();
        conn.query_drop(statement).await.with_context(|| format!("carrying out {}", shortened(statement)))?;
    }
    conn.disconnect().await?;
    Ok(())
}

/// One row of one query.
///
/// # Errors
/// The query fails, or has no row.
pub async fn one<T: FromRow + Send + 'static>(url: &str, query: &str) -> Result<T> {
    let mut conn = connect(url).await?;
    let row: Option<T> = conn.query_first(query).await.with_context(|| format!("asking {query}"))?;
    conn.disconnect().await?;
    row.with_context(|| format!("no row: {query}"))
}

/// The server's executed GTID set, on one line; of MariaDB all that is or was in its binlog.
///
/// # Errors
/// The server cannot be asked.
pub async fn executed(url: &str) -> Result<String> {
    let version: String = one(url, "SELECT VERSION()").await?;
    let variable = if version.contains("MariaDB") { "gtid_binlog_state" } else { "gtid_executed" };
    let set: String = one(url, &format!("SELECT @@GLOBAL.{variable}")).await?;
    Ok(set.replace(['\n', ' '], ""))
}

/// `text` as a string literal of SQL.
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\0' => out.push_str("\\0"),
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn shortened(statement: &str) -> String {
    if statement.len() <= 300 {
        return statement.to_owned();
    }
    format!("{}…", statement.chars().take(300).collect::<String>())
}
