//! Calls that fail, or claim to have succeeded (faults 6, 7, 8, 11, 16).
//!
//! A call of the log that fails ends the relay: exit code 5, one line that says what was done to which file. Nothing is tried again on
//! the log, as a second fdatasync would succeed without having written what the first could not. The next start loses nothing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitStatus;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::rounds::{Rounds, Run, Tolerance, numbers};
use crate::support::strike::{Blow, CHANGING, Strike, Trace, When};

/// What the log's writer calls and nobody else.
const WRITING: &[&str] = &["pwrite64", "fdatasync", "rename", "ftruncate"];

fn is_call(line: &str, call: &str) -> bool {
    line.contains(&format!(" {call}("))
}

/// Lets a call fail, every `stride`th of a run, until a run ends whole and untouched.
async fn sweep(
    rounds: &mut Rounds,
    stride: u64,
    tolerance: Tolerance<'_>,
    strike: impl Fn(&Rounds, u64) -> Result<Strike>,
) -> Result<()> {
    let mut said: BTreeMap<String, u32> = BTreeMap::new();
    for n in numbers(&mut rounds.rng, stride)? {
        let strike = strike(rounds, n)?;
        let run = rounds.run(&strike, tolerance).await?;
        let trace = rounds.trace()?;
        let struck: Vec<String> = trace.struck().into_iter().map(str::to_owned).collect();
        let context = || format!("{strike}, which struck {struck:#?}");
        let saying = match run {
            // A strike that had not come may come at the end.
            Run::Whole if rounds.drain_or_fail().await.with_context(context)? => break,
            Run::Whole => "at its end".to_owned(),
            Run::Endured => {
                let is_well = rounds.drain_or_fail().await.with_context(context)?;
                (if is_well { "goes on" } else { "goes on, and ends a little later" }).to_owned()
            }
            Run::Ended { status, words } => {
                let state = rounds.stage.relay.state_dir();
                let saying = ended_well(status, &words, &struck, &trace, &state);
                saying.with_context(|| format!("{}\n{words}", context()))?
            }
        };
        *said.entry(saying).or_default() += 1;
        rounds.ensure_sound().with_context(context)?;
        rounds.recover().await.with_context(context)?;
    }
    eprintln!("{said:#?}");
    ensure!(!said.is_empty(), "no run was struck");
    Ok(())
}

/// What it named, and how.
fn ended_well(
    status: ExitStatus,
    words: &str,
    struck: &[String],
    trace: &Trace,
    state: &Path,
) -> Result<String> {
    ensure!(status.code() == Some(5), "ended with {status}");
    let lines: Vec<Value> = words.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut last: Vec<&Value> = lines.iter().filter(|line| line["exit_code"] == 5).collect();
    let message =
        last.pop().and_then(|line| line["message"].as_str()).context("no line has the exit code")?;
    ensure!(last.is_empty(), "two lines say why it ends");
    let (step, rest) =
        message.rsplit_once("cannot ").and_then(|(_, rest)| rest.split_once(" \"")).context("no step")?;
    let named = rest.split('"').next().unwrap_or_default();
    // Several threads may have been struck. Of a folder made, its parent is synced; sled's files are known by their folder.
    let is_named = |line: &&String| {
        Trace::path(line).is_some_and(|path| path.starts_with(named) || named.starts_with(path))
    };
    let cause = struck.iter().find(is_named).with_context(|| format!("{named} is named, another failed"))?;
    let is_log = |line: &str| Trace::path(line).is_some_and(|path| path.contains("/main/log"));
    if let Some(call) = WRITING.iter().find(|call| is_log(cause) && is_call(cause, call)) {
        // What the writer had begun before it was told may end; the call that failed is not made again, and no segment is begun.
        let again = |line: &&str| is_log(line) && (is_call(line, call) || is_call(line, "rename"));
        let again: Vec<&str> = trace.after(cause).into_iter().filter(again).collect();
        ensure!(again.is_empty(), "the log went on: {again:#?}");
    }
    Ok(format!("{}: cannot {step}", Trace::place(cause, state)))
}

#[tokio::test]
async fn fault_06_a_sync_that_fails_once_ends_the_relay_and_is_never_tried_again() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_06_a_sync_that_fails_once_ends_the_relay_and_is_never_tried_again").await?;
    for (calls, stride) in [("fdatasync", 4), ("fsync", 12)] {
        let strike = |_: &Rounds, n| Ok(Strike::new(calls, Blow::Fails("EIO"), When::Nth(n)));
        sweep(&mut rounds, stride, Tolerance::None, strike).await?;
    }
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_07_a_write_or_rename_that_fails_ends_the_relay_and_costs_nothing() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_07_a_write_or_rename_that_fails_ends_the_relay_and_costs_nothing").await?;
    for (calls, stride) in [("pwrite64", 6), ("rename", 2)] {
        let strike = |_: &Rounds, n| Ok(Strike::new(calls, Blow::Fails("EIO"), When::Nth(n)));
        sweep(&mut rounds, stride, Tolerance::None, strike).await?;
    }
    rounds.stage.clear().await
}

/// What a full disk stops may also be waited for, as long as nothing is lost.
#[tokio::test]
async fn fault_08_no_space_at_any_call_costs_nothing() -> Result<()> {
    let mut rounds = Rounds::set("fault_08_no_space_at_any_call_costs_nothing").await?;
    for (calls, stride) in [("pwrite64", 7), ("fdatasync", 5), ("rename", 2)] {
        let strike = |_: &Rounds, n| Ok(Strike::new(calls, Blow::Fails("ENOSPC"), When::Nth(n)));
        sweep(&mut rounds, stride, Tolerance::Silence, strike).await?;
    }
    sweep(&mut rounds, 9, Tolerance::Silence, |rounds, n| {
        let strike = Strike::new("openat", Blow::Fails("ENOSPC"), When::Nth(n));
        Ok(strike.on(rounds.known_paths()?))
    })
    .await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_11_a_disk_that_takes_nothing_from_some_moment_on_ends_the_relay_and_costs_nothing()
-> Result<()> {
    let mut rounds = Rounds::set(
        "fault_11_a_disk_that_takes_nothing_from_some_moment_on_ends_the_relay_and_costs_nothing",
    )
    .await?;
    let strike = |_: &Rounds, n| Ok(Strike::new(CHANGING, Blow::Fails("EROFS"), When::From(n)));
    sweep(&mut rounds, 5, Tolerance::None, strike).await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_16_an_error_at_any_call_of_the_cursors_store_ends_the_relay_and_costs_nothing() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_16_an_error_at_any_call_of_the_cursors_store_ends_the_relay_and_costs_nothing")
            .await?;
    for (calls, error, stride) in
        [("pwrite64", "EIO", 2), ("sync_file_range", "EIO", 2), ("fsync", "EIO", 3), ("openat", "EMFILE", 3)]
    {
        let strike = |rounds: &Rounds, n| {
            let settled = rounds.settled_dir();
            let strike = Strike::new(calls, Blow::Fails(error), When::Nth(n));
            Ok(strike.on([settled.join("db"), settled.join("conf"), settled]))
        };
        sweep(&mut rounds, stride, Tolerance::None, strike).await?;
    }
    rounds.stage.clear().await
}

/// A disk that says of a write what is not so. What the log shows is read back from the disk: it is found there, at the latest by the next
/// start, and never taken for a row.
#[tokio::test]
async fn fault_07_a_write_that_only_claims_to_have_been_made_is_found_and_the_advice_brings_all_back()
-> Result<()> {
    let mut rounds = Rounds::set(
        "fault_07_a_write_that_only_claims_to_have_been_made_is_found_and_the_advice_brings_all_back",
    )
    .await?;
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for n in numbers(&mut rounds.rng, 4)? {
        let strike = Strike::new("pwrite64", Blow::Claims(10), When::Nth(n));
        let run = rounds.run(&strike, Tolerance::Silence).await?;
        let struck = rounds.trace()?.struck().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let context = || format!("{strike}, which struck {struck:#?}");
        let outcome = match run {
            Run::Whole => {
                rounds.put_away()?;
                break;
            }
            Run::Endured => {
                rounds.drain_or_fail().await.with_context(context)?;
                "not seen while it ran"
            }
            Run::Ended { status, words } => {
                ensure!(status.code() == Some(5), "{}: {status}:\n{words}", context());
                "seen while it ran"
            }
        };
        let advice = rounds.overcome().await.with_context(context)?;
        *outcomes.entry(format!("{outcome}, then {advice}")).or_default() += 1;
    }
    eprintln!("{outcomes:#?}");
    ensure!(!outcomes.is_empty(), "no write was struck");
    rounds.stage.clear().await
}
