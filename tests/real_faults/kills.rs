//! SIGKILL at the nth call of a kind, n swept until a run ends whole (faults 1 and 13).

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;

use anyhow::{Context, Result, ensure};
use rand::Rng;

use crate::rounds::{Rounds, Run, Tolerance, numbers};
use crate::support::strike::{Blow, Strike, Trace, When};

/// Kills at every `stride`th call until a run ends whole; after each kill the folder is sound, and an untouched relay brings all to agree.
async fn sweep(rounds: &mut Rounds, calls: &'static str, stride: u64) -> Result<()> {
    let mut killed_at: BTreeMap<String, u32> = BTreeMap::new();
    for n in numbers(&mut rounds.rng, stride)? {
        let strike = Strike::new(calls, Blow::Kill, When::Nth(n));
        let Some(place) = kill(rounds, &strike).await? else {
            rounds.put_away()?;
            break;
        };
        *killed_at.entry(place).or_default() += 1;
        rounds.recover().await.with_context(|| format!("after {strike}"))?;
        let left = temporary(rounds)?;
        ensure!(left.is_empty(), "the restart left {left:?}");
    }
    eprintln!("killed at {killed_at:?}");
    ensure!(!killed_at.is_empty(), "no run was killed at {calls}");
    Ok(())
}

/// A run that is killed: where, and the folder is sound. `None`: it ended whole, and the relay goes on.
async fn kill(rounds: &mut Rounds, strike: &Strike) -> Result<Option<String>> {
    let run = rounds.run(strike, Tolerance::None).await?;
    let Run::Ended { status, words } = run else { return Ok(None) };
    ensure!(status.signal() == Some(9), "{strike}: ended with {status}:\n{words}");
    let trace = rounds.trace()?;
    let call = trace.last_call(strike.calls).context("a call was to be killed")?;
    let place = Trace::place(call, &rounds.stage.relay.state_dir());
    // Renamed it would be a segment: the name that the next start finds is the temporary one.
    let left = temporary(rounds)?;
    ensure!(!place.starts_with("rename main/log") || !left.is_empty(), "{place} was not the last: {left:?}");
    rounds.ensure_sound().with_context(|| format!("after {strike} at {place}"))?;
    Ok(Some(place))
}

/// Names in the log's folder that a segment has while it is made.
fn temporary(rounds: &Rounds) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(rounds.log_dir())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.extend(Some(name).filter(|name| name.ends_with(".new")));
    }
    Ok(found)
}

#[tokio::test]
async fn fault_01_killed_at_any_sync_the_relay_loses_nothing() -> Result<()> {
    let mut rounds = Rounds::set("fault_01_killed_at_any_sync_the_relay_loses_nothing").await?;
    sweep(&mut rounds, "fdatasync", 4).await?;
    sweep(&mut rounds, "fsync", 10).await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_01_killed_at_any_write_the_relay_loses_nothing() -> Result<()> {
    let mut rounds = Rounds::set("fault_01_killed_at_any_write_the_relay_loses_nothing").await?;
    sweep(&mut rounds, "pwrite64", 6).await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_01_killed_at_any_removal_of_a_segment_the_relay_loses_nothing() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_01_killed_at_any_removal_of_a_segment_the_relay_loses_nothing").await?;
    sweep(&mut rounds, "unlink", 5).await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_13_killed_before_any_rename_the_relay_takes_its_temporary_file_away() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_13_killed_before_any_rename_the_relay_takes_its_temporary_file_away").await?;
    sweep(&mut rounds, "rename", 2).await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_13_leftovers_of_segments_never_finished_are_taken_away() -> Result<()> {
    let mut rounds = Rounds::set("fault_13_leftovers_of_segments_never_finished_are_taken_away").await?;
    rounds.play().await?;
    rounds.recover().await?;
    for (first, content) in [(1, &b""[..]), (7, b"half a head"), (u64::MAX, &[0; 4096])] {
        std::fs::write(rounds.log_dir().join(format!("{first:020}.new")), content)?;
    }
    rounds.ensure_sound()?;
    rounds.play().await?;
    rounds.recover().await?;
    let left = temporary(&rounds)?;
    ensure!(left.is_empty(), "still there: {left:?}");
    rounds.stage.clear().await
}

/// A kill in the midst of the writing, a torn tail behind it, and then a kill at a step of the recovery of that.
#[tokio::test]
async fn fault_01_killed_at_any_step_of_a_recovery_the_next_one_finishes_it() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_01_killed_at_any_step_of_a_recovery_the_next_one_finishes_it").await?;
    rounds.play().await?;
    rounds.recover().await?;
    let mut killed_at: BTreeMap<String, u32> = BTreeMap::new();
    for (calls, most, stride) in
        [("ftruncate", 1, 1), ("unlink", 2, 2), ("pwrite64", 1, 1), ("fdatasync", 3, 2)]
    {
        for n in numbers(&mut rounds.rng, stride)?.take_while(|n| *n <= most) {
            let torn = Strike::new("pwrite64", Blow::Kill, When::Nth(rounds.rng.random_range(5..9)));
            if kill(&mut rounds, &torn).await?.is_none() {
                rounds.put_away()?;
            }
            let last = rounds.stage.relay.segments()?.pop().context("a segment")?;
            let garbage: [u8; 300] = rounds.rng.random();
            OpenOptions::new().append(true).open(last)?.write_all(&garbage)?;
            let strike = Strike::new(calls, Blow::Kill, When::Nth(n));
            let place = kill(&mut rounds, &strike).await?.context("a recovery makes that call")?;
            *killed_at.entry(place).or_default() += 1;
            rounds.recover().await.with_context(|| format!("after {strike}"))?;
        }
    }
    eprintln!("killed at {killed_at:?}");
    rounds.stage.clear().await
}
