//! `log ls`: one line a segment.

use std::io::Write;

use serde::Serialize;

use crate::cli::{bytes_for_people, time_for_people};
use crate::disk::SystemDisk;
use crate::log::{Log, SegmentInfo};

#[derive(Serialize)]
struct SegmentLine {
    first: u64,
    last: Option<u64>,
    bytes: u64,
    version_base: u64,
    created_micros: u64,
    sealed_micros: Option<u64>,
}

impl From<&SegmentInfo> for SegmentLine {
    fn from(info: &SegmentInfo) -> Self {
        SegmentLine {
            first: info.first.0,
            last: info.last.map(|seq| seq.0),
            bytes: info.bytes,
            version_base: info.base,
            created_micros: info.created_micros,
            sealed_micros: info.sealed_micros,
        }
    }
}

pub(super) fn list(log: &Log<SystemDisk>, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let segments = log.segments();
    if json {
        for info in &segments {
            writeln!(out, "{}", serde_json::to_string(&SegmentLine::from(info))?)?;
        }
        return Ok(());
    }
    writeln!(out, "{:>20} {:>20} {:>10}  {:<20} sealed", "first", "last", "size", "created")?;
    for info in &segments {
        let last = info.last.map_or_else(|| "-".to_owned(), |seq| seq.to_string());
        let sealed = info.sealed_micros.map_or_else(|| "being written".to_owned(), time_for_people);
        writeln!(
            out,
            "{:>20} {:>20} {:>10}  {:<20} {sealed}",
            info.first,
            last,
            bytes_for_people(info.bytes),
            time_for_people(info.created_micros),
        )?;
    }
    let bytes = segments.iter().map(|info| info.bytes).sum();
    writeln!(out, "{} segments, {}", segments.len(), bytes_for_people(bytes))?;
    Ok(())
}
