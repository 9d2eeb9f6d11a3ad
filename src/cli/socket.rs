//! Asking the relay that runs on a state folder, at its control socket.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::admin::control::{PATIENCE, SocketPath};
use crate::config::Settings;

/// How long the relay has to answer beyond what it gives its own parts.
const MORE: Duration = Duration::from_secs(5);

/// What the relay answers, or says where it refuses; `None` where no relay runs.
///
/// # Errors
/// Something else answers, or nothing in time.
pub(super) fn ask<T: DeserializeOwned>(
    settings: &Settings,
    method: Method,
    route: &str,
    body: &impl Serialize,
) -> anyhow::Result<Option<Result<T, String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(ask_async(settings, method, route, body))
}

/// The same, from within a runtime.
///
/// # Errors
/// As [`ask`].
pub(super) async fn ask_async<T: DeserializeOwned>(
    settings: &Settings,
    method: Method,
    route: &str,
    body: &impl Serialize,
) -> anyhow::Result<Option<Result<T, String>>> {
    let path = settings.control_path();
    let context = || format!("asking the relay at {path:?}");
    // A folder that is not there has no relay either.
    let socket = match SocketPath::new(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        socket => socket.with_context(context)?,
    };
    if let Err(error) = UnixStream::connect(socket.as_path())
        && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused)
    {
        return Ok(None);
    }
    let body = serde_json::to_string(body)?;
    let client = reqwest::Client::builder().unix_socket(socket.as_path()).timeout(PATIENCE + MORE).build()?;
    let request = client.request(method, format!("http://relay{route}")).body(body);
    let answer = request.send().await.with_context(context)?;
    let status = answer.status();
    let text = answer.text().await.with_context(context)?;
    match status {
        StatusCode::OK => Ok(Some(Ok(serde_json::from_str(&text).with_context(context)?))),
        StatusCode::CONFLICT | StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND => Ok(Some(Err(text))),
        _ => bail!("{text}"),
    }
}
