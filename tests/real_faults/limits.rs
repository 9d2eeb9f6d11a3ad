//! A disk that became read-only, and a machine that gives no more descriptors, inodes or threads (faults 11 and 12).

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::SOON;
use crate::rounds::{Rounds, Run, Tolerance, numbers};
use crate::support::ensure_says;
use crate::support::small_disk::SmallDisk;
use crate::support::strike::{Blow, Strike, When};

#[tokio::test]
async fn fault_11_a_disk_that_came_back_read_only_is_named_and_is_used_when_it_can_be_written() -> Result<()>
{
    let mut rounds =
        Rounds::set("fault_11_a_disk_that_came_back_read_only_is_named_and_is_used_when_it_can_be_written")
            .await?;
    let disk = SmallDisk::mount(&rounds.stage.relay.state_dir(), "size=256m")?;
    rounds.play().await?;
    rounds.recover().await?;
    disk.remount("ro")?;
    for _ in 0..2 {
        rounds.stage.relay.start()?;
        let words = rounds.stage.relay_ends_with(5, SOON).await?;
        ensure_says(&words, &["cannot ", "main/log", "read-only"])?;
    }
    disk.remount("rw")?;
    rounds.play().await?;
    rounds.recover().await?;
    drop(disk);
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_12_without_descriptors_in_midst_of_its_work_the_relay_ends_and_loses_nothing() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_12_without_descriptors_in_midst_of_its_work_the_relay_ends_and_loses_nothing")
            .await?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    let pid = rounds.stage.relay.pid()?;
    let open = |n: &u32| fs::symlink_metadata(format!("/proc/{pid}/fd/{n}")).is_ok();
    let unused = (0..).find(|n| !open(n)).context("a process has no end of descriptors")?;
    let limit =
        Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={unused}")]).status()?;
    ensure!(limit.success(), "prlimit: {limit}");
    rounds.play().await?;
    let words = rounds.stage.relay_ends_with(5, SOON).await?;
    ensure_says(&words, &["cannot ", "/main/", "too many open files"])?;
    rounds.ensure_sound()?;
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_12_with_too_few_descriptors_from_the_start_the_relay_says_so_and_loses_nothing() -> Result<()>
{
    let mut rounds =
        Rounds::set("fault_12_with_too_few_descriptors_from_the_start_the_relay_says_so_and_loses_nothing")
            .await?;
    rounds.play().await?;
    rounds.recover().await?;
    let mut outcomes = Vec::new();
    // Below that the dynamic linker itself cannot work.
    for descriptors in numbers(&mut rounds.rng, 5)?.map(|n| n + 5) {
        rounds.stage.relay.options.through =
            ["prlimit", &format!("--nofile={descriptors}")].map(str::to_owned).into();
        let run = rounds.run_until("too many open files").await?;
        rounds.stage.relay.options.through.clear();
        let (outcome, is_whole) = match run {
            Run::Ended { status, words } => {
                ensure!(!status.success(), "{descriptors} descriptors: {status}");
                ensure_says(&words, &["too many open files"])?;
                (status.to_string(), false)
            }
            Run::Endured => {
                rounds.stage.relay.kill()?;
                ("says so and tries again".to_owned(), false)
            }
            // The last removal of a segment may still have to be synced.
            Run::Whole if rounds.drain_or_fail().await? => ("enough".to_owned(), true),
            Run::Whole => {
                ensure_says(&rounds.stage.relay.last_words(), &["too many open files"])?;
                ("all but the last sync".to_owned(), false)
            }
        };
        outcomes.push(format!("{descriptors}: {outcome}"));
        if is_whole {
            break;
        }
        rounds.ensure_sound()?;
        rounds.recover().await?;
    }
    eprintln!("{outcomes:#?}");
    ensure!(outcomes.len() > 1, "none was too few");
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_12_without_inodes_no_segment_is_half_rotated_and_with_more_it_goes_on() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_12_without_inodes_no_segment_is_half_rotated_and_with_more_it_goes_on").await?;
    rounds.keep_segments()?;
    // Folders, sled's files and a few segments.
    let disk = SmallDisk::mount(&rounds.stage.relay.state_dir(), "size=256m,nr_inodes=16")?;
    for _ in 0..4 {
        rounds.play().await?;
        if rounds.stage.relay.pid().is_err() {
            rounds.stage.relay.start()?;
        }
    }
    let words = rounds.stage.relay_ends_with(5, SOON).await?;
    ensure_says(&words, &["cannot create", "main/log", "no space"])?;
    disk.remount("nr_inodes=10000")?;
    rounds.ensure_sound()?;
    rounds.play().await?;
    rounds.recover().await?;
    drop(disk);
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_12_a_thread_that_cannot_be_started_is_a_clean_end_and_costs_nothing() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_12_a_thread_that_cannot_be_started_is_a_clean_end_and_costs_nothing").await?;
    let mut outcomes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for when in [When::Nth, When::From] {
        for n in numbers(&mut rounds.rng, 4)? {
            let strike = Strike::new("clone3", Blow::Fails("EAGAIN"), when(n));
            let outcome = match rounds.run(&strike, Tolerance::Silence).await? {
                Run::Whole => {
                    rounds.put_away()?;
                    break;
                }
                Run::Endured => {
                    rounds.end().await?;
                    "goes on with fewer".to_owned()
                }
                Run::Ended { status, words } => {
                    ensure!(matches!(status.code(), Some(1 | 5)), "{strike}: {status}:\n{words}");
                    ensure_says(&words, &["thread"]).with_context(|| strike.to_string())?;
                    status.to_string()
                }
            };
            outcomes.entry(outcome).or_default().push(n);
            rounds.ensure_sound()?;
            rounds.recover().await?;
        }
    }
    eprintln!("{outcomes:#?}");
    ensure!(!outcomes.is_empty(), "no thread was refused");
    rounds.stage.clear().await
}
