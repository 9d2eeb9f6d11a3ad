//! The log damaged by hand (faults 3, 4, 5, 15, 18): what may be cut is cut and kept beside; everything else is refused by name, without a
//! change, and what the refusal advises brings all back.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use everrelay::clock::SystemClock;
use everrelay::disk::SystemDisk;
use everrelay::log::LogOptions;
use rand::Rng;

use crate::SOON;
use crate::rounds::Rounds;
use crate::support::{ensure_says, eventually};

type Folder = BTreeMap<PathBuf, Vec<u8>>;

fn read_folder(folder: &Path) -> Result<Folder> {
    let mut files = Folder::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        files.insert(path.clone(), fs::read(path)?);
    }
    Ok(files)
}

fn write_folder(folder: &Path, files: &Folder) -> Result<()> {
    fs::remove_dir_all(folder)?;
    fs::create_dir(folder)?;
    for (path, content) in files {
        fs::write(path, content)?;
    }
    Ok(())
}

/// Two starts say this and exit with 5, and the log is byte by byte what it was.
async fn ensure_refused(rounds: &mut Rounds, all_of: &[&str]) -> Result<()> {
    let before = read_folder(&rounds.log_dir())?;
    for _ in 0..2 {
        let said = rounds.stage.relay.words().len();
        rounds.stage.relay.start()?;
        let words = rounds.stage.relay_ends_with(5, SOON).await?.split_off(said);
        ensure_says(&words, all_of)?;
    }
    ensure!(read_folder(&rounds.log_dir())? == before, "the refusal changed the log");
    Ok(())
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).context("a segment's name")
}

fn flip(path: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(path)?;
    *bytes.get_mut(at).context("the file is long enough")? ^= 0x10;
    fs::write(path, bytes)?;
    Ok(())
}

#[tokio::test]
async fn fault_15_a_log_that_is_not_one_whole_chain_is_refused_with_names() -> Result<()> {
    let mut rounds = Rounds::set("fault_15_a_log_that_is_not_one_whole_chain_is_refused_with_names").await?;
    rounds.keep_segments()?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    rounds.drain().await?;
    let (log, whole) = (rounds.log_dir(), read_folder(&rounds.log_dir())?);
    let segments = rounds.stage.relay.segments()?;
    let [first, second, third, ..] = segments.as_slice() else {
        anyhow::bail!("a round makes more segments than {segments:?}")
    };

    fs::remove_file(second)?;
    ensure_refused(&mut rounds, &[name(second)?, name(third)?, "missing", "put back"]).await?;
    write_folder(&log, &whole)?;

    let length = fs::metadata(second)?.len();
    OpenOptions::new().write(true).open(second)?.set_len(length - 1)?;
    ensure_refused(&mut rounds, &[name(second)?, name(third)?, &length.to_string(), "put back"]).await?;
    write_folder(&log, &whole)?;

    let duplicate = log.join(format!("{:020}.log", 2));
    fs::copy(first, &duplicate)?;
    ensure_refused(&mut rounds, &[name(&duplicate)?, "name", "restore"]).await?;
    write_folder(&log, &whole)?;

    // Of another log, whole in itself.
    let other = tempfile::tempdir()?;
    drop(everrelay::log::open(&SystemDisk, &SystemClock, other.path(), LogOptions::default())?);
    fs::copy(other.path().join(name(first)?), first)?;
    ensure_refused(&mut rounds, &[name(first)?, name(second)?, "another", "put back"]).await?;
    write_folder(&log, &whole)?;

    fs::write(log.join("notes.txt"), "mine")?;
    fs::write(log.join("00000000000000000001.log~"), "an editor's")?;
    ensure_refused(&mut rounds, &["notes.txt", "00000000000000000001.log~", "elsewhere"]).await?;
    write_folder(&log, &whole)?;

    rounds.play().await?;
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_03_what_is_no_frame_behind_the_last_sync_is_cut_kept_beside_and_said() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_03_what_is_no_frame_behind_the_last_sync_is_cut_kept_beside_and_said").await?;
    let garbage: [u8; 1000] = rounds.rng.random();
    for tail in [&garbage[..], &garbage[..1], &[0; 4096]] {
        rounds.play().await?;
        rounds.stage.relay.start()?;
        rounds.stage.agree(SOON).await?;
        rounds.stage.relay.kill()?;
        let last = rounds.stage.relay.segments()?.pop().context("a segment")?;
        OpenOptions::new().append(true).open(&last)?.write_all(tail)?;
        rounds.ensure_sound()?;
        let said = rounds.stage.relay.words().len();
        rounds.stage.relay.start()?;
        rounds.stage.agree(SOON).await?;
        let words = rounds.stage.relay.words().split_off(said);
        ensure_says(&words, &[&format!("torn tail of {} bytes", tail.len()), name(&last)?])?;
        rounds.end().await?;
    }
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_04_a_bit_flipped_in_a_sealed_segment_stops_delivery_there_and_is_named() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_04_a_bit_flipped_in_a_sealed_segment_stops_delivery_there_and_is_named").await?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    rounds.until_retained().await?;
    rounds.end().await?;
    // With nowhere to go whole rounds are in the log.
    let engine = rounds.stage.relay.options.sink_url.clone();
    rounds.stage.relay.options.sink_url = "http://127.0.0.1:9".to_owned();
    rounds.stage.relay.write_config()?;
    rounds.play().await?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    let relay = &rounds.stage.relay;
    eventually("several segments", SOON, async || Ok((relay.segments()?.len() >= 6).then_some(()))).await?;
    rounds.stage.relay.kill()?;
    rounds.stage.relay.options.sink_url = engine;
    rounds.stage.relay.write_config()?;

    let sealed = rounds.stage.relay.segments()?.swap_remove(1);
    let at = rounds.rng.random_range(2000..50_000);
    flip(&sealed, at)?;
    let before = rounds.status()?["pipeline"]["sinks"][0]["cursor"].as_u64();
    for _ in 0..2 {
        let said = rounds.stage.relay.words().len();
        rounds.stage.relay.start()?;
        let words = rounds.stage.relay_ends_with(5, SOON).await?.split_off(said);
        ensure_says(&words, &["damaged", name(&sealed)?, "offset", "frame", "restore"])?;
    }
    let after = rounds.status()?["pipeline"]["sinks"][0]["cursor"].as_u64();
    ensure!(after > before, "nothing before the damage was delivered: {before:?}, {after:?}");
    flip(&sealed, at)?;
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_05_a_bit_flipped_below_what_was_synced_is_refused_and_nothing_is_cut() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_05_a_bit_flipped_below_what_was_synced_is_refused_and_nothing_is_cut").await?;
    rounds.play().await?;
    rounds.recover().await?;
    rounds.stage.relay.start()?;
    // Each with a sync of its own: the later ones tell that the first was synced.
    for _ in 0..3 {
        rounds.stage.agree(SOON).await?;
    }
    rounds.stage.relay.kill()?;
    let last = rounds.stage.relay.segments()?.pop().context("a segment")?;
    let length = usize::try_from(fs::metadata(&last)?.len())?;
    let at = rounds.rng.random_range(200..length / 2);
    flip(&last, at)?;
    ensure_refused(&mut rounds, &["damaged", name(&last)?, "offset", "nothing was changed", "restore"])
        .await?;
    flip(&last, at)?;
    rounds.play().await?;
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_18_a_log_that_ends_below_the_cursor_is_refused_until_its_advice_is_followed() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_18_a_log_that_ends_below_the_cursor_is_refused_until_its_advice_is_followed")
            .await?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    for _ in 0..3 {
        rounds.stage.agree(SOON).await?;
    }
    rounds.drain().await?;
    let last = rounds.stage.relay.segments()?.pop().context("a segment")?;
    let length = fs::metadata(&last)?.len();
    OpenOptions::new().write(true).open(&last)?.set_len(length - 1)?;
    let mut refusal = String::new();
    for _ in 0..3 {
        let said = rounds.stage.relay.words().len();
        rounds.stage.relay.start()?;
        refusal = rounds.stage.relay_ends_with(5, SOON).await?.split_off(said);
        ensure_says(&refusal, &["cursor stands at record", "log ends at", "restore"])?;
    }
    eprintln!("{}", rounds.follow(&refusal)?);
    rounds.play().await?;
    rounds.recover().await?;
    rounds.stage.clear().await
}
