//! Appending with group commit as the relay does, and reading it again; beside the bare disk.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, anyhow};
use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::event::Seq;
use everrelay::log::record::{Batch, HEADER};
use everrelay::log::{Log, LogOptions, Opened, open};
use everrelay::relay::committer::Committer;

use crate::content::{TRANSACTION, commit, record, row, start};
use crate::measure::own_cpu;
use crate::medians;

const RECORDS: u64 = 1_500_000;
/// As the MySQL source fills its batches at most, bytes.
const BATCH_BYTES: usize = 1 << 20;

pub fn lines(root: &Path, rounds: usize) -> Result<()> {
    let names = [
        ("log.share_of_sequential_write", "ratio"),
        ("log.write_mb_per_second", "MB/s"),
        ("log.records_per_cpu_second", "records/s"),
        ("log.read_bytes_per_cpu_second", "bytes/s"),
    ];
    let (dir, plain) = (root.join("log"), root.join("plain"));
    medians(rounds, names, || {
        let (wall, cpu, bytes) = append(&dir, RECORDS)?;
        let plain = sequential_write(&plain, bytes)?;
        let read = read(&dir)?;
        std::fs::remove_dir_all(&dir)?;
        Ok([plain / wall, bytes as f64 / wall / 1e6, RECORDS as f64 / cpu, read])
    })
}

/// Appends through a [`Committer`]; wall and CPU seconds, those of building the records included, and the log's bytes.
pub fn append(dir: &Path, records: u64) -> Result<(f64, f64, u64)> {
    let Opened { writer, log, .. } = open(&SystemDisk, &SystemClock, dir, LogOptions::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (wall, used) = (Instant::now(), own_cpu());
    runtime.block_on(fill(Committer::start(writer)?, records))?;
    let taken = (wall.elapsed().as_secs_f64(), own_cpu() - used);
    Ok((taken.0, taken.1, bytes(&log)))
}

fn bytes(log: &Log<SystemDisk>) -> u64 {
    log.stats().bytes
}

async fn fill(mut committer: Committer, records: u64) -> Result<()> {
    let gone = |_| anyhow!("the writer has ended");
    let row = row();
    let mut batch = committer.batch();
    start(&mut batch);
    for number in 1..=records / TRANSACTION {
        for _ in 0..TRANSACTION {
            record(&mut batch, black_box(&row));
        }
        commit(&mut batch, number);
        if batch.len() >= BATCH_BYTES {
            let next = committer.batch();
            committer.append(std::mem::replace(&mut batch, next)).await.map_err(gone)?;
        }
    }
    committer.append(std::mem::replace(&mut batch, Batch::new())).await.map_err(gone)?;
    committer.finish().await?;
    Ok(())
}

/// Seconds for as many bytes, a megabyte a write, and one fdatasync.
fn sequential_write(path: &Path, bytes: u64) -> Result<f64> {
    let chunk = vec![0xA5; 1 << 20];
    let _ = std::fs::remove_file(path);
    let wall = Instant::now();
    let file = File::create_new(path)?;
    let mut at = 0;
    while at < bytes {
        let length = (bytes - at).min(chunk.len() as u64);
        file.write_all_at(&chunk[..length as usize], at)?;
        at += length;
    }
    file.sync_data()?;
    Ok(wall.elapsed().as_secs_f64())
}

/// Bytes per CPU second, from the page cache.
fn read(dir: &Path) -> Result<f64> {
    let Opened { log, .. } = open(&SystemDisk, &SystemClock, dir, LogOptions::default())?;
    let mut reader = log.reader(Seq(1))?;
    let used = own_cpu();
    let mut bytes = 0;
    while let Some(frame) = reader.next_frame()? {
        bytes += black_box(frame.payload).len() + HEADER;
    }
    Ok(bytes as f64 / (own_cpu() - used))
}
