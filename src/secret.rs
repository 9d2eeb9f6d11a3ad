//! A value that must not be seen: no log line, error, status page or debug print shows it.

use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A password or key. Only [`Secret::reveal`] gives it out, and only the code that sends it calls that.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// Reads a file; a line break at its end is not part of the secret.
    ///
    /// # Errors
    /// It cannot be read as text, or is open to everybody.
    pub fn from_file(path: &Path) -> io::Result<Secret> {
        closed(path)?;
        let text = std::fs::read_to_string(path)?;
        Ok(Secret::new(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t))))
    }

    /// The value itself: for the wire, never for a message.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A secret, and where it is read again once it is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewable {
    pub value: Secret,
    /// None where it is of the environment, which stays as it was when the process began.
    pub file: Option<PathBuf>,
}

impl Renewable {
    /// The secret as it is now.
    ///
    /// # Errors
    /// Its file cannot be read, or is open to everybody.
    pub fn read(&self) -> io::Result<Secret> {
        match &self.file {
            Some(path) => Secret::from_file(path),
            None => Ok(self.value.clone()),
        }
    }
}

impl From<Secret> for Renewable {
    fn from(value: Secret) -> Renewable {
        Renewable { value, file: None }
    }
}

/// A file with a secret in it is not open to everybody.
///
/// # Errors
/// It is, or nobody can look.
pub fn closed(path: &Path) -> io::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode();
    if mode & 0o007 == 0 {
        return Ok(());
    }
    let open = format!("it is open to everybody (mode {:o}): chmod o-rwx it", mode & 0o777);
    Err(io::Error::new(io::ErrorKind::PermissionDenied, open))
}
