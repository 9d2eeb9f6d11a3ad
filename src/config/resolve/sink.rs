//! The search engine: its nodes, what they are to be trusted by, and what they are shown.

use std::path::PathBuf;

use super::super::ConfigError;
use super::super::file;
use super::{At, certificate, readable, secret_of};
use crate::secret::{Renewable, Secret};
use crate::sink::elastic::{Auth, AwsKey, AwsKeyFrom, ClientCertificate, ElasticOptions, ElasticSink};

/// The profile of an AWS credentials file that its own tools take.
const USUAL_PROFILE: &str = "default";

/// # Errors
/// See [`ConfigError`].
pub fn sink(sink: file::Sink, at: &At<'_>) -> Result<ElasticOptions, ConfigError> {
    let auth = auth(at, &sink)?;
    let mut options = ElasticOptions { urls: sink.url, auth, ..ElasticOptions::new("") };
    options.ca_file = readable(at, "ca_file", sink.ca_file)?;
    options.insecure = sink.insecure;
    if options.insecure && options.ca_file.is_some() {
        return Err(
            at.wrong("insecure", "ca_file says whom to trust, and insecure = true that anybody is: give one")
        );
    }
    let plain = options.urls.iter().any(|url| url.trim().starts_with("http:"));
    let unseen = plain.then_some("it is shown over TLS alone: give each url as https");
    let files = (sink.client_cert_file, sink.client_key_file);
    options.client_certificate =
        certificate(at, files, unseen)?.map(|(chain, key)| ClientCertificate { chain, key });
    options.compress = sink.compress;
    ElasticSink::new(&options).map_err(|error| at.wrong("url", error.to_string()))?;
    Ok(options)
}

fn auth(at: &At<'_>, sink: &file::Sink) -> Result<Auth, ConfigError> {
    let renewable = |env_key, env, file_key, file: &Option<PathBuf>| {
        let value = secret_of(at, env_key, env, file_key, file)?;
        Ok(value.map(|value| Renewable { value, file: file.clone() }))
    };
    let key = renewable("api_key_env", &sink.api_key_env, "api_key_file", &sink.api_key_file)?;
    let token = renewable("bearer_env", &sink.bearer_env, "bearer_file", &sink.bearer_file)?;
    let password = renewable("password_env", &sink.password_env, "password_file", &sink.password_file)?;
    let mut given: Vec<(&'static str, Auth)> = Vec::new();
    given.extend(key.map(|key| ("api_key_env", Auth::ApiKey(key))));
    given.extend(token.map(|token| ("bearer_env", Auth::Bearer(token))));
    match (&sink.username, password) {
        (None, None) => {}
        (Some(user), Some(password)) => {
            given.push(("username", Auth::Basic { user: user.clone(), password }))
        }
        (Some(_), None) => {
            return Err(
                at.wrong("username", "its password is missing: name it by password_env or password_file")
            );
        }
        (None, Some(_)) => return Err(at.wrong("username", "missing beside the password")),
    }
    given.extend(aws(at, sink)?.map(|auth| ("aws_region", auth)));
    match given.len() {
        0 => Ok(Auth::None),
        1 => Ok(given.remove(0).1),
        _ => {
            let (first, second) = (given[0].0, given[1].0);
            Err(at.wrong(
                first,
                format!("it and {second} exclude each other: the engine takes one proof of who asks"),
            ))
        }
    }
}

fn aws(at: &At<'_>, sink: &file::Sink) -> Result<Option<Auth>, ConfigError> {
    let Some(region) = &sink.aws_region else {
        return match (&sink.aws_credentials_file, &sink.aws_profile) {
            (None, None) => Ok(None),
            _ => {
                Err(at
                    .wrong("aws_region", "missing beside the other aws_ keys, for example \"eu-central-1\""))
            }
        };
    };
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if region.is_empty() || !region.bytes().all(is_part) {
        return Err(at.wrong("aws_region", "it is no region, for example \"eu-central-1\""));
    }
    let key = match &sink.aws_credentials_file {
        Some(path) => {
            let profile = sink.aws_profile.clone().unwrap_or_else(|| USUAL_PROFILE.to_owned());
            AwsKey::from_file(path, &profile)
                .map_err(|error| at.wrong("aws_credentials_file", format!("cannot use {path:?}: {error}")))?;
            AwsKeyFrom::File { path: path.clone(), profile }
        }
        None if sink.aws_profile.is_some() => {
            return Err(at.wrong("aws_profile", "it is a part of aws_credentials_file, which is missing"));
        }
        None => {
            let of = |name: &str| std::env::var(name).ok();
            let missing = |name: &str| {
                at.wrong(
                    "aws_region",
                    format!("the environment variable {name} is not set, and no aws_credentials_file"),
                )
            };
            let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
            AwsKeyFrom::Environment(AwsKey {
                id: of(id).ok_or_else(|| missing(id))?,
                secret: of(secret).map(Secret::new).ok_or_else(|| missing(secret))?,
                token: of("AWS_SESSION_TOKEN").map(Secret::new),
            })
        }
    };
    Ok(Some(Auth::Aws { region: region.clone(), key }))
}
