//! Clocks, memory, medians, and the lines that are printed: for every bench.

use std::fs;

use anyhow::{Context, Result};

/// Bytes in what the lines call MB.
pub const MB: f64 = 1e6;

/// One measure, printed as it is known.
pub fn line(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

/// What was seen beside the measures: for people, on standard error.
#[macro_export]
macro_rules! note {
    ($($words:tt)*) => { eprintln!("# {}", format_args!($($words)*)) };
}

/// The middle one, and how far the others were from it, as a share of it.
#[must_use]
pub fn median(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let middle = sorted[sorted.len() / 2];
    (middle, (high - low) / middle)
}

/// User and system time of this process, seconds.
#[must_use]
pub fn own_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The most memory that this process ever had resident, bytes.
///
/// # Errors
/// /proc is not there.
pub fn own_peak() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    Ok(kilobytes.trim().trim_end_matches(" kB").parse::<f64>()? * 1024.0)
}

/// How many processes wanted a processor lately: what else went on is part of every figure.
#[must_use]
pub fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
