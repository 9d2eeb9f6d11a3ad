//! How to reach the engine.

use std::path::PathBuf;
use std::time::Duration;

use super::aws_key::AwsKey;
use crate::event::Version;
use crate::secret::Renewable;

/// What a request proves its sender by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    #[default]
    None,
    Basic {
        user: String,
        password: Renewable,
    },
    /// As the engine hands it out, base64 of `id:key`; also taken as `id:key` itself.
    ApiKey(Renewable),
    Bearer(Renewable),
    /// Each request is signed, for OpenSearch Service.
    Aws {
        region: String,
        key: AwsKeyFrom,
    },
}

/// Where an AWS access key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AwsKeyFrom {
    /// The environment, which stays as it was when the process began.
    Environment(AwsKey),
    /// A profile of a credentials file, which is read again once the key is refused.
    File { path: PathBuf, profile: String },
}

/// Our certificate for the engine, PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, those up to its authority behind it.
    pub chain: PathBuf,
    pub key: PathBuf,
}

/// Options of an [`ElasticSink`](super::ElasticSink).
#[derive(Clone, Debug)]
pub struct ElasticOptions {
    /// The sink's, as metrics name it.
    pub name: String,
    /// `https://search.internal:9200`, with a path where a proxy needs one; several for nodes of one cluster.
    pub urls: Vec<String>,
    pub auth: Auth,
    /// PEM certificates of authorities to trust besides the public ones.
    pub ca_file: Option<PathBuf>,
    /// Take any certificate.
    pub insecure: bool,
    pub client_certificate: Option<ClientCertificate>,
    /// Send bodies compressed by gzip.
    pub compress: bool,
    /// From connecting to the end of the answer, per request.
    pub request_timeout: Duration,
    /// How long any answer at all may take when the last request failed.
    pub connect_timeout: Duration,
    /// Goes before each bulk's id in its `X-Opaque-Id`; another one in each run.
    pub opaque_prefix: String,
    /// What the [`ElasticOptions::opaque_prefix`] of every run of this state folder begins with; empty where there were none.
    pub folder_prefix: String,
    /// Who writes, for the fence; `None`: nothing is fenced, and nothing may be written beside others.
    pub fence: Option<Claimant>,
}

/// Who writes to the indices: what the fence tells other relays.
#[derive(Clone, Debug)]
pub struct Claimant {
    /// Tells this history from every other; copies of a folder have the same.
    pub folder_id: u64,
    /// Another one in each run.
    pub run_id: u32,
    /// This machine, for people.
    pub host: String,
    /// The lock file that this run holds, of all on all machines: whoever names the same in a former run is dead.
    pub place: String,
    /// The lowest version that this run gives.
    pub first_version: Version,
    /// Take indices from relays that may be at work, and wait until those can send nothing more.
    pub take_over: bool,
    /// For how long bulks may be sent after the fence was raised.
    pub lease: Duration,
}

impl Claimant {
    /// What the ids of all bulks of a state folder begin with.
    #[must_use]
    pub fn folder_prefix(folder_id: u64) -> String {
        format!("everrelay-{folder_id:016x}-")
    }

    /// What the ids of all bulks of one run begin with.
    #[must_use]
    pub fn opaque_prefix(folder_id: u64, run_id: u32) -> String {
        format!("{}{run_id:08x}-", Claimant::folder_prefix(folder_id))
    }
}

impl ElasticOptions {
    /// The defaults for `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> ElasticOptions {
        ElasticOptions {
            name: "main".to_owned(),
            urls: vec![url.into()],
            auth: Auth::None,
            ca_file: None,
            insecure: false,
            client_certificate: None,
            compress: false,
            request_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            opaque_prefix: String::new(),
            folder_prefix: String::new(),
            fence: None,
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
    #[error("cannot use the secret in {}: {source}", path.display())]
    SecretFile { path: PathBuf, source: std::io::Error },
    #[error(
        "cannot use the client certificate in {}: {source}; `client_cert_file` and `client_key_file` must be readable PEM files, the certificate's \
         key in the second",
        path.display()
    )]
    ClientCertificate { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot prepare the client for the search engine: {0}")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn no_secret_is_printed() {
        let mut options = ElasticOptions::new("http://localhost:9200");
        options.auth = Auth::Basic { user: "relay".into(), password: Secret::new("canary").into() };
        assert!(!format!("{options:?}").contains("canary"));
        options.auth = Auth::ApiKey(Secret::new("canary").into());
        assert!(!format!("{options:?}").contains("canary"));
        let key =
            AwsKey { id: "A".into(), secret: Secret::new("canary"), token: Some(Secret::new("canary")) };
        options.auth = Auth::Aws { region: "r".into(), key: AwsKeyFrom::Environment(key) };
        assert!(!format!("{options:?}").contains("canary"));
    }
}
