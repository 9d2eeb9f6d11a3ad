//! The servers that `[source] url` names.

use std::path::PathBuf;

use super::At;
use crate::config::ConfigError;
use crate::source::mysql::Address;

const SHAPE: &str = "expected mysql://user@host:3306 or mysql://user@localhost?socket=/path/to/mysqld.sock";

/// The first server, the others, and the user, who is the same at each. `key`: under which they stand.
///
/// # Errors
/// A URL that means nothing, holds a password, or names another user or a server again.
pub fn named(
    at: &At<'_>,
    key: &'static str,
    urls: &[String],
) -> Result<(Address, Vec<Address>, String), ConfigError> {
    let mut servers = Vec::with_capacity(urls.len());
    for (number, text) in urls.iter().enumerate() {
        // The URL itself is not printed: it may hold a password.
        let place = if urls.len() == 1 { String::new() } else { format!("number {}: ", number + 1) };
        let wrong = |problem: String| at.wrong(key, format!("{place}{problem}"));
        let server = server(text).map_err(wrong)?;
        if let Some((_, user)) = servers.first() {
            if *user != server.1 {
                return Err(wrong(
                    "it names another user than the first: user and password are the same at each".to_owned(),
                ));
            }
            if servers.contains(&server) {
                return Err(wrong(format!("it names {} again", server.0)));
            }
        }
        servers.push(server);
    }
    let mut servers = servers.into_iter();
    let (first, user) =
        servers.next().ok_or_else(|| at.wrong(key, format!("it names no server; {SHAPE}")))?;
    Ok((first, servers.map(|(address, _)| address).collect(), user))
}

/// Where a server listens, and as whom to log in; else what is wrong.
fn server(text: &str) -> Result<(Address, String), String> {
    let url = url::Url::parse(text).map_err(|error| format!("{error}; {SHAPE}"))?;
    if !matches!(url.scheme(), "mysql" | "mariadb") {
        return Err(format!("its scheme is not mysql; {SHAPE}"));
    }
    if url.password().is_some() {
        return Err(
            "it holds a password; take it out and name it by password_env or password_file".to_owned()
        );
    }
    let mut socket = None;
    for (key, value) in url.query_pairs() {
        match &*key {
            "socket" if value.starts_with('/') => socket = Some(PathBuf::from(value.into_owned())),
            // Not named: where a password has a question mark, this is what follows it.
            _ => return Err(format!("it has a parameter that is not known; {SHAPE}")),
        }
    }
    if !matches!(url.path(), "" | "/") {
        return Err(format!("it names a database; tables go into `tables`; {SHAPE}"));
    }
    let address = match (socket, url.host_str()) {
        (Some(socket), _) => Address::Socket(socket),
        (None, Some(host)) if host.contains(',') => {
            return Err(
                "several servers are an array: url = [\"mysql://user@a\", \"mysql://user@b\"]".to_owned()
            );
        }
        (None, Some(host)) if !host.is_empty() => {
            Address::Tcp { host: percent_decoded(host), port: url.port().unwrap_or(3306) }
        }
        (None, _) => return Err(format!("it names no host; {SHAPE}")),
    };
    let user = percent_decoded(url.username());
    if user.is_empty() {
        return Err(format!("it names no user; {SHAPE}"));
    }
    Ok((address, user))
}

/// `%40` as `@`, and so on; what is no UTF-8 then stays as it is written.
fn percent_decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().map_or_else(|_| text.to_owned(), Into::into)
}
