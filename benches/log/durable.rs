//! One record made durable at a time.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::log::record::Batch;
use everrelay::log::{LogOptions, Opened, open};

use crate::content::{RECORD_BYTES, commit, record, row, start};
use crate::measure::median;
use crate::medians;

const APPENDS: usize = 300;

pub fn lines(root: &Path, rounds: usize) -> Result<()> {
    let names = [("log.durable_append_vs_fdatasync", "ratio"), ("log.durable_append_p50_us", "us")];
    let (dir, plain) = (root.join("log"), root.join("plain"));
    medians(rounds, names, || {
        let (one, limit) = durable(&dir, &plain)?;
        std::fs::remove_dir_all(&dir)?;
        Ok([one / limit, one * 1e6])
    })
}

/// Median seconds of one record made durable, and of as many bytes written to a file that grows alike and fdatasync, turn by turn:
/// the disk's own mood is the same for both.
fn durable(dir: &Path, plain: &Path) -> Result<(f64, f64)> {
    let Opened { mut writer, .. } = open(&SystemDisk, &SystemClock, dir, LogOptions::default())?;
    let mut batch = Batch::new();
    start(&mut batch);
    writer.append(&mut batch)?;
    writer.sync()?;
    let _ = std::fs::remove_file(plain);
    let file = File::create_new(plain)?;
    let row = row();
    let bytes = [0xA5; RECORD_BYTES + 80];
    let (mut appends, mut writes) = (Vec::new(), Vec::new());
    for number in 0..APPENDS {
        let begun = Instant::now();
        record(&mut batch, &row);
        commit(&mut batch, number as u64 + 1);
        writer.append(&mut batch)?;
        writer.sync()?;
        appends.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        file.write_all_at(&bytes, (number * bytes.len()) as u64)?;
        file.sync_data()?;
        writes.push(begun.elapsed().as_secs_f64());
    }
    Ok((median(&appends).0, median(&writes).0))
}
