//! A small file system of its own, to be filled.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// A tmpfs; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `options`: as mount takes them, `size=64m`.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(at: &Path, options: &str) -> Result<SmallDisk> {
        std::fs::create_dir_all(at)?;
        let options = format!("{options},mode=0700");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status()?;
        ensure!(status.success(), "tmpfs cannot be mounted at {}: this test needs root", at.display());
        Ok(SmallDisk(at.to_owned()))
    }

    /// Gives it other `options`, with all that it holds.
    ///
    /// # Errors
    /// It cannot be remounted.
    pub fn remount(&self, options: &str) -> Result<()> {
        let status =
            Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status()?;
        ensure!(status.success(), "tmpfs cannot be remounted with {options}");
        Ok(())
    }

    /// Writes a file until not a byte more fits, as somebody else might, and returns its path.
    ///
    /// # Errors
    /// It cannot be written for another reason.
    pub fn fill(&self) -> Result<PathBuf> {
        let path = self.0.join("ballast");
        let mut file = File::create(&path)?;
        for chunk in [vec![7; 64 << 10], vec![7; 1]] {
            loop {
                match file.write(&chunk) {
                    Ok(0) => bail!("nothing was written"),
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("filling the disk"),
                }
            }
        }
        Ok(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there must not keep the test's folder.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
