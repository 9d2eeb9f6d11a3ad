//! What is resident before anything is read: in a process of its own, with the relay's allocator.

#[path = "../src/main/allocator.rs"]
mod allocator;

use everrelay::settled::Settled;

/// Bytes of this process that are resident and no file's.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn the_cursors_store_takes_a_few_megabytes() {
    allocator::give_back_soon();
    let folder = tempfile::tempdir().unwrap();
    let before = resident();
    let settled = Settled::open(&folder.path().join("settled")).unwrap();
    // Its 41 histograms, which count nothing, would be 21.5 MB if they were written to.
    let taken = resident() - before;
    assert!(taken < 6_000_000, "{taken} bytes");
    settled.close().unwrap();
}
