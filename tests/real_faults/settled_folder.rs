//! The cursor's folder lost, damaged, or put back from an old copy (faults 16 and 17): what is settled is never guessed. Either more is sent
//! again, or the relay says what to do, and doing it sends everything again.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::seq::IndexedRandom;

use crate::SOON;
use crate::rounds::{Rounds, numbers};
use crate::support::ensure_says;

/// Copies a folder of files and folders.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

async fn sent(rounds: &Rounds, disposition: &str) -> Result<f64> {
    let label = format!("disposition=\"{disposition}\"");
    let metrics = rounds.stage.relay.metrics().await?;
    Ok(metrics.sum("everrelay_sink_items_total", &label).unwrap_or(0.0))
}

#[tokio::test]
async fn fault_16_a_lost_cursor_sends_again_all_that_the_log_keeps() -> Result<()> {
    let mut rounds = Rounds::set("fault_16_a_lost_cursor_sends_again_all_that_the_log_keeps").await?;
    for keep in [false, true] {
        if keep {
            rounds.keep_segments()?;
        }
        rounds.play().await?;
        rounds.recover().await?;
        fs::remove_dir_all(rounds.settled_dir())?;
        rounds.play().await?;
        rounds.stage.relay.start()?;
        rounds.stage.agree(SOON).await?;
        rounds.drain().await?;
    }
    // Nothing new, all of it again.
    fs::remove_dir_all(rounds.settled_dir())?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    let (done, superseded) = (sent(&rounds, "done").await?, sent(&rounds, "superseded").await?);
    ensure!(done + superseded > 200.0, "{done} done, {superseded} superseded");
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_16_a_damaged_cursor_is_never_guessed_and_the_advice_brings_all_back() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_16_a_damaged_cursor_is_never_guessed_and_the_advice_brings_all_back").await?;
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    // A tenth of them by default: which, the seed says.
    for _ in numbers(&mut rounds.rng, 10)?.take_while(|n| *n <= 50) {
        // Kept, a cursor may fall back far; else it may fall behind the log's start.
        rounds.stage.relay.options.retention_seconds =
            Some(if rounds.rng.random_bool(0.5) { 3600 } else { 0 });
        rounds.stage.relay.write_config()?;
        rounds.play().await?;
        rounds.recover().await?;
        let harm = harm(&mut rounds)?;
        rounds.play().await?;
        let outcome = rounds.overcome().await.with_context(|| harm.clone())?;
        let kind = harm.split(' ').next().unwrap_or_default();
        *outcomes.entry(format!("{kind}: {outcome}")).or_default() += 1;
    }
    eprintln!("{outcomes:#?}");
    rounds.stage.clear().await
}

/// Flips bytes of one of sled's files or cuts it, and says so.
fn harm(rounds: &mut Rounds) -> Result<String> {
    let files: Vec<PathBuf> = fs::read_dir(rounds.settled_dir())?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    let rng = &mut rounds.rng;
    // Mostly the file with the cursor in it.
    let db = files.iter().find(|path| path.ends_with("db")).context("sled's own file")?;
    let file = if rng.random_bool(0.7) { db } else { files.choose(rng).context("sled's files")? };
    let mut bytes = fs::read(file)?;
    // sled makes its file longer than what is in it.
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(1, |last| last + 1);
    let name = file.display();
    if rng.random_bool(0.5) {
        let length = rng.random_range(0..used);
        OpenOptions::new().write(true).open(file)?.set_len(length as u64)?;
        return Ok(format!("cut {name} of {used} bytes to {length}"));
    }
    let places: Vec<usize> = (0..rng.random_range(1..=3)).map(|_| rng.random_range(0..used)).collect();
    for place in &places {
        if let Some(byte) = bytes.get_mut(*place) {
            *byte ^= 1 << rng.random_range(0..8);
        }
    }
    fs::write(file, bytes)?;
    Ok(format!("flipped {places:?} of {used} bytes of {name}"))
}

#[tokio::test]
async fn fault_17_an_older_copy_of_the_cursor_costs_sending_again_and_nothing_else() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_17_an_older_copy_of_the_cursor_costs_sending_again_and_nothing_else").await?;
    rounds.keep_segments()?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    // Drained, not killed: a cursor is committed.
    rounds.drain().await?;
    let old = rounds.stage.relay.dir.join("old");
    copy(&rounds.settled_dir(), &old)?;
    rounds.play().await?;
    rounds.recover().await?;
    fs::remove_dir_all(rounds.settled_dir())?;
    copy(&old, &rounds.settled_dir())?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    let (done, superseded) = (sent(&rounds, "done").await?, sent(&rounds, "superseded").await?);
    eprintln!("sent again: {done} done, {superseded} superseded");
    ensure!(done + superseded > 200.0, "a round was to be sent again");
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_17_a_cursor_older_than_the_logs_start_is_refused_until_its_state_is_empty() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_17_a_cursor_older_than_the_logs_start_is_refused_until_its_state_is_empty")
            .await?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    // Drained, not killed: a cursor is committed.
    rounds.drain().await?;
    let old = rounds.stage.relay.dir.join("old");
    copy(&rounds.settled_dir(), &old)?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    rounds.until_retained().await?;
    rounds.drain().await?;
    fs::remove_dir_all(rounds.settled_dir())?;
    copy(&old, &rounds.settled_dir())?;
    for _ in 0..2 {
        rounds.stage.relay.start()?;
        let words = rounds.stage.relay_ends_with(5, SOON).await?;
        ensure_says(&words, &["cursor stands at record", "log starts at", "gone", "empty state folder"])?;
    }
    fs::remove_dir_all(rounds.stage.relay.state_dir())?;
    rounds.play().await?;
    rounds.recover().await?;
    rounds.stage.clear().await
}
