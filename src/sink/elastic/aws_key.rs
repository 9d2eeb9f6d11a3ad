//! An AWS access key, and the file that the tools of AWS keep it in.
//!
//! ```text
//! [default]
//! aws_access_key_id = AKIDEXAMPLE
//! aws_secret_access_key = …
//! aws_session_token = …          (with a key that does not live long)
//! ```

use std::io;
use std::path::Path;

use crate::secret::Secret;

/// The token goes with a key that does not live long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsKey {
    pub id: String,
    pub secret: Secret,
    pub token: Option<Secret>,
}

impl AwsKey {
    /// Reads the key of a profile.
    ///
    /// # Errors
    /// The file cannot be read, is open to everybody, or has no such key.
    pub fn from_file(path: &Path, profile: &str) -> io::Result<AwsKey> {
        crate::secret::closed(path)?;
        let text = std::fs::read_to_string(path)?;
        AwsKey::of_profile(&text, profile).map_err(|missing| {
            io::Error::new(io::ErrorKind::InvalidData, format!("its profile [{profile}] has no {missing}"))
        })
    }

    fn of_profile(text: &str, profile: &str) -> Result<AwsKey, &'static str> {
        let (mut id, mut secret, mut token) = (None, None, None);
        let mut inside = false;
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                inside = name.trim() == profile;
            } else if let Some((name, value)) = line.split_once('=').filter(|_| inside) {
                let value = value.trim();
                match name.trim() {
                    "aws_access_key_id" => id = Some(value.to_owned()),
                    "aws_secret_access_key" => secret = Some(Secret::new(value)),
                    "aws_session_token" => token = Some(Secret::new(value)),
                    _ => {}
                }
            }
        }
        Ok(AwsKey {
            id: id.ok_or("aws_access_key_id")?,
            secret: secret.ok_or("aws_secret_access_key")?,
            token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profiles_key_is_its_own() {
        let text = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key=s=1\n\n[ other ]\naws_access_key_id=B\n\
                    aws_session_token = t\nregion = x\naws_secret_access_key = s2\n";
        let key = |id: &str, secret: &str, token: Option<&str>| AwsKey {
            id: id.into(),
            secret: Secret::new(secret),
            token: token.map(Secret::new),
        };
        assert_eq!(AwsKey::of_profile(text, "default"), Ok(key("A", "s=1", None)));
        assert_eq!(AwsKey::of_profile(text, "other"), Ok(key("B", "s2", Some("t"))));
        assert_eq!(AwsKey::of_profile(text, "third"), Err("aws_access_key_id"));
        assert_eq!(AwsKey::of_profile("[a]\naws_access_key_id = A\n", "a"), Err("aws_secret_access_key"));
    }
}
