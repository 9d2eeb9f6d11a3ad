//! Opening what a long outage leaves: 10 GB with a torn end, page cache dropped; and an idle log of 10,000 segments. Each is opened by a process
//! of its own, whose memory is nothing else's.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::log::record::Batch;
use everrelay::log::{LogOptions, Opened, Recovered, open};
use rustix::fs::Advice;
use serde::{Deserialize, Serialize};

use crate::content::{RECORD_BYTES, commit, record, row, start};
use crate::measure::{MB, own_peak};
use crate::{append, medians};

const SEGMENTS: u64 = 10_000;
const BYTES: u64 = 10_000_000_000;
const TORN: usize = 1 << 20;

/// What an opening took.
#[derive(Serialize, Deserialize)]
struct Taken {
    seconds: f64,
    peak_bytes: f64,
    segments: usize,
    torn: bool,
}

pub fn lines(root: &Path, rounds: usize, quick: bool) -> Result<()> {
    let shrink = if quick { 10 } else { 1 };
    let dir = root.join("large");
    append::append(&dir, BYTES / shrink / RECORD_BYTES as u64)?;
    let last = fill_last(&dir)?;
    let length = last.metadata()?.len();
    let written = segments(&dir)?;
    let names = [("log.open_10gb_seconds", "s"), ("log.open_10gb_rss_mb", "MB")];
    medians(rounds, names, || {
        // As if the process had ended when the last segment was full, in the middle of a write.
        for path in segments(&dir)?.into_iter().filter(|path| !written.contains(path)) {
            fs::remove_file(path)?;
        }
        last.set_len(length)?;
        last.write_all_at(&vec![0x5A; TORN], length)?;
        forget(&dir)?;
        let taken = in_child(&dir)?;
        ensure!(taken.torn, "the opening found no torn tail");
        Ok([taken.seconds, taken.peak_bytes / MB])
    })?;
    fs::remove_dir_all(&dir)?;

    // In memory where the system has a place for that: each segment costs several syncs to make.
    let temporary = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir_in(root))?;
    let dir = temporary.path().join("log");
    many(&dir, SEGMENTS / shrink)?;
    let names = [("log.idle_10k_segments_rss_mb", "MB"), ("log.open_10k_segments_seconds", "s")];
    medians(rounds, names, || {
        let taken = in_child(&dir)?;
        ensure!(taken.segments as u64 >= SEGMENTS / shrink, "{} segments", taken.segments);
        Ok([taken.peak_bytes / MB, taken.seconds])
    })
}

/// What the child does: opens the log and says what that took.
pub fn child(dir: &Path) -> Result<()> {
    let begun = Instant::now();
    let opened = open(&SystemDisk, &SystemClock, dir, LogOptions::default())?;
    let seconds = begun.elapsed().as_secs_f64();
    let torn = matches!(opened.recovered, Recovered::TornTail { .. });
    let taken = Taken { seconds, peak_bytes: own_peak()?, segments: opened.log.stats().segments, torn };
    println!("{}", serde_json::to_string(&taken)?);
    Ok(())
}

fn in_child(dir: &Path) -> Result<Taken> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.arg("--child").arg(dir).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "a child ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("what a child says")
}

/// Fills the last segment, and returns its file.
fn fill_last(dir: &Path) -> Result<File> {
    let segment_bytes = LogOptions::default().segment_bytes;
    let Opened { mut writer, log, .. } = open(&SystemDisk, &SystemClock, dir, LogOptions::default())?;
    let mut batch = Batch::new();
    crate::content::schema(&mut batch);
    let mut number = writer.position().map_or(0, |position| position.count());
    let row = row();
    let bytes = || log.segments().last().map_or(0, |segment| segment.bytes);
    while bytes() + 2 * (1 << 20) < segment_bytes {
        while batch.len() < 1 << 20 {
            number += 1;
            record(&mut batch, &row);
            commit(&mut batch, number);
        }
        writer.append(&mut batch)?;
        writer.sync()?;
    }
    let last = segments(dir)?.pop().context("a log has segments")?;
    Ok(File::options().write(true).open(last)?)
}

/// A log of `count` segments with a transaction each.
fn many(dir: &Path, count: u64) -> Result<()> {
    let options = LogOptions { segment_bytes: 500, ..LogOptions::default() };
    let Opened { mut writer, log, .. } = open(&SystemDisk, &SystemClock, dir, options)?;
    let (mut batch, row) = (Batch::new(), row());
    start(&mut batch);
    let mut number = 0;
    while (log.stats().segments as u64) < count {
        number += 1;
        record(&mut batch, &row);
        commit(&mut batch, number);
        writer.append(&mut batch)?;
    }
    Ok(writer.sync()?)
}

/// The segments' files in order.
fn segments(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    Ok(files)
}

/// Has the kernel drop what it caches of the folder.
fn forget(dir: &Path) -> Result<()> {
    for path in segments(dir)? {
        let file = File::open(path)?;
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}
