//! How to reach the engine.

use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secret;

/// What a request proves its sender by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        user: String,
        password: Secret,
    },
    /// As the engine hands it out, base64 of `id:key`; also taken as `id:key` itself.
    ApiKey(Secret),
}

/// Options of an [`ElasticSink`](super::ElasticSink).
#[derive(Clone, Debug)]
pub struct ElasticOptions {
    /// `https://search.internal:9200`, with a path where a proxy needs one; several for nodes of one cluster.
    pub urls: Vec<String>,
    pub auth: Auth,
    /// PEM certificates of authorities to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate.
    pub insecure: bool,
    /// From connecting to the end of the answer, per request.
    pub request_timeout: Duration,
    /// How long any answer at all may take when the last request failed.
    pub connect_timeout: Duration,
    /// Goes before each bulk's id in its `X-Opaque-Id`; another one in each run.
    pub opaque_prefix: String,
    /// What the [`ElasticOptions::opaque_prefix`] of every run of this state folder begins with; empty where there were none.
    pub folder_prefix: String,
}

impl ElasticOptions {
    /// The defaults for `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> ElasticOptions {
        ElasticOptions {
            urls: vec![url.into()],
            auth: Auth::None,
            ca_file: None,
            insecure: false,
            request_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            opaque_prefix: String::new(),
            folder_prefix: String::new(),
        }
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ElasticError {
    #[error("the sink's url cannot be used: {why}; give it like `https://search.internal:9200`")]
    Url { why: String },
    #[error("the sink's credentials cannot be used: {why}")]
    Credentials { why: &'static str },
    #[error("cannot read the certificates in {}: {source}; `ca_file` must be a readable PEM file", path.display())]
    CaFile { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot prepare the client for the search engine: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let mut options = ElasticOptions::new("http://localhost:9200");
        options.auth = Auth::Basic { user: "relay".into(), password: Secret::new("canary") };
        assert!(!format!("{options:?}").contains("canary"));
        options.auth = Auth::ApiKey(Secret::new("canary"));
        assert!(!format!("{options:?}").contains("canary"));
    }
}
