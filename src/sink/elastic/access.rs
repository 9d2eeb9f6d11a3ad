//! What requests prove their sender by, and whom they trust; read again from the files once it is refused.
//!
//! What the engine answers with 401 or 403 it has not done, so the same request goes out again as soon as a file says something else. A file that cannot be used
//! then is said in the log, and what was read before stays.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use elasticsearch::auth::{ClientCertificate, Credentials};
use elasticsearch::cert::{Certificate, CertificateValidation};
use elasticsearch::http::Url;
use elasticsearch::http::headers::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use elasticsearch::http::transport::{SingleNodeConnectionPool, Transport, TransportBuilder};

use super::aws_key::AwsKey;
use super::options::{Auth, AwsKeyFrom, ElasticError, ElasticOptions};
use super::sigv4;
use crate::secret::{Renewable, Secret};

#[derive(Debug)]
pub(super) struct Access {
    options: ElasticOptions,
    held: RwLock<Arc<Held>>,
}

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held {
    proof: Proof,
    trust: Trust,
    /// Grows with each other trust.
    pub generation: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Proof {
    None,
    /// The header is marked as sensitive, and not printed.
    Header(HeaderValue),
    Signature {
        key: AwsKey,
        region: String,
    },
}

/// What connections are made with: PEM bytes.
#[derive(PartialEq, Eq)]
struct Trust {
    authorities: Option<Vec<u8>>,
    /// Our certificate, those above it, and its key.
    identity: Option<Vec<u8>>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(certificates)")
    }
}

impl Access {
    pub(super) fn new(options: &ElasticOptions) -> Result<Access, ElasticError> {
        let held = RwLock::new(Arc::new(read(options, 0)?));
        Ok(Access { options: options.clone(), held })
    }

    pub(super) fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn compresses(&self) -> bool {
        self.options.compress
    }

    /// A client of one node.
    pub(super) fn transport(&self, held: &Held, url: Url) -> Result<Transport, ElasticError> {
        transport(&self.options, &held.trust, url)
    }

    /// Reads all files again; whether there is anything else than `refused` now.
    pub(super) async fn read_again(self: &Arc<Self>, refused: &Arc<Held>) -> bool {
        if self.held() != *refused {
            return true;
        }
        let (access, refused) = (Arc::clone(self), Arc::clone(refused));
        // A file system may hang; the engine's own deadline does not cover it, and other requests go on.
        let read = tokio::task::spawn_blocking(move || access.renew(&refused)).await;
        read.unwrap_or(false)
    }

    fn renew(&self, refused: &Held) -> bool {
        let mut renewed = match read(&self.options, refused.generation) {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::warn!(%error, "what the search engine refused cannot be read again");
                return false;
            }
        };
        if renewed == *refused {
            return false;
        }
        renewed.generation += u64::from(renewed.trust != refused.trust);
        tracing::info!("credentials or certificates for the search engine were read again from their files");
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        true
    }
}

impl Held {
    /// Adds to a request's headers what proves its sender.
    pub(super) fn prove(
        &self,
        headers: &mut HeaderMap,
        (method, url): (&str, &Url),
        query: &[(&str, &str)],
        body: &[u8],
    ) {
        match &self.proof {
            Proof::None => {}
            Proof::Header(value) => drop(headers.insert(AUTHORIZATION, value.clone())),
            Proof::Signature { key, region } => {
                let host = url.host_str().unwrap_or_default();
                let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
                let signed = sigv4::Signed { method, host: &host, path: url.path(), query, body };
                for (name, value) in sigv4::sign(key, region, SystemTime::now(), signed) {
                    // All of a key that is no header's value was refused when it was read.
                    if let Some(mut value) = visible(&value, true) {
                        value.set_sensitive(true);
                        headers.insert(HeaderName::from_static(name), value);
                    }
                }
            }
        }
    }
}

fn read(options: &ElasticOptions, generation: u64) -> Result<Held, ElasticError> {
    let trust = Trust {
        authorities: match &options.ca_file {
            Some(path) if !options.insecure => Some(
                fs::read(path)
                    .map_err(|error| ElasticError::CaFile { path: path.clone(), source: error.into() })?,
            ),
            _ => None,
        },
        identity: match &options.client_certificate {
            Some(files) => {
                let read = |path: &Path| {
                    fs::read(path).map_err(|error| ElasticError::ClientCertificate {
                        path: path.to_owned(),
                        source: error.into(),
                    })
                };
                let mut pem = read(&files.chain)?;
                pem.push(b'\n');
                pem.extend(read(&files.key)?);
                Some(pem)
            }
            None => None,
        },
    };
    // Tried now: what cannot be used must not take the place of what can.
    let anywhere = Url::parse("https://localhost").map_err(|error| ElasticError::Client(error.into()))?;
    transport(options, &trust, anywhere)?;
    Ok(Held { proof: proof(&options.auth)?, trust, generation })
}

fn transport(options: &ElasticOptions, trust: &Trust, url: Url) -> Result<Transport, ElasticError> {
    // One node a pool: the client's own round robin never gets past a node that is gone.
    let builder = TransportBuilder::new(SingleNodeConnectionPool::new(url));
    // The environment's proxies are off: rows go where the configuration says.
    let mut builder = builder.disable_proxy().enable_meta_header(false).timeout(options.request_timeout);
    if let Some(pem) = &trust.identity {
        builder = builder.auth(Credentials::Certificate(ClientCertificate::Pem(pem.clone())));
    }
    if options.insecure {
        builder = builder.cert_validation(CertificateValidation::None);
    } else if let (Some(pem), Some(path)) = (&trust.authorities, &options.ca_file) {
        let certificates = Certificate::from_pem(pem)
            .map_err(|error| ElasticError::CaFile { path: path.clone(), source: error.into() })?;
        builder = builder.cert_validation(CertificateValidation::Full(certificates));
    }
    builder.build().map_err(|error| match &options.client_certificate {
        Some(files) => ElasticError::ClientCertificate { path: files.chain.clone(), source: error.into() },
        None => ElasticError::Client(error.into()),
    })
}

fn proof(auth: &Auth) -> Result<Proof, ElasticError> {
    let wrong = |why| ElasticError::Credentials { why };
    let header = |text: String| {
        let mut value = HeaderValue::from_str(&text).map_err(|_| wrong("they are no text for a header"))?;
        value.set_sensitive(true);
        Ok(Proof::Header(value))
    };
    match auth {
        Auth::None => Ok(Proof::None),
        Auth::Basic { user, .. } if user.contains(':') => Err(wrong("a user name cannot contain a colon")),
        Auth::Basic { user, password } => {
            let password = secret(password)?;
            header(format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.reveal()))))
        }
        Auth::ApiKey(key) => {
            let key = secret(key)?;
            if visible(key.reveal(), false).is_none() {
                return Err(wrong(
                    "an API key is printable ASCII without blanks, as the engine handed it out",
                ));
            }
            let key = match key.reveal().contains(':') {
                true => STANDARD.encode(key.reveal()),
                false => key.reveal().to_owned(),
            };
            header(format!("ApiKey {key}"))
        }
        Auth::Bearer(token) => {
            let token = secret(token)?;
            if visible(token.reveal(), false).is_none() {
                return Err(wrong("a bearer token is printable ASCII without blanks"));
            }
            header(format!("Bearer {}", token.reveal()))
        }
        Auth::Aws { region, key } => {
            let key = match key {
                AwsKeyFrom::Environment(key) => key.clone(),
                AwsKeyFrom::File { path, profile } => AwsKey::from_file(path, profile)
                    .map_err(|source| ElasticError::SecretFile { path: path.clone(), source })?,
            };
            let is_visible = |text: &str| visible(text, false).is_some();
            let token = key.token.as_ref().is_none_or(|token| is_visible(token.reveal()));
            if !is_visible(&key.id) || !is_visible(key.secret.reveal()) || !token {
                return Err(wrong("an AWS access key is printable ASCII without blanks"));
            }
            Ok(Proof::Signature { key, region: region.clone() })
        }
    }
}

fn secret(secret: &Renewable) -> Result<Secret, ElasticError> {
    secret
        .read()
        .map_err(|source| ElasticError::SecretFile { path: secret.file.clone().unwrap_or_default(), source })
}

/// A header's value of visible ASCII, not empty.
pub(super) fn visible(text: &str, or_blanks: bool) -> Option<HeaderValue> {
    let fits = |byte: u8| byte.is_ascii_graphic() || or_blanks && byte == b' ';
    (!text.is_empty() && text.bytes().all(fits)).then(|| HeaderValue::from_str(text).ok()).flatten()
}
