//! Told to end while nothing answers, and stopped for a while (faults 20 and 21).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::SOON;
use crate::rounds::Rounds;
use crate::support::strike::{Blow, Strike, Tracer, When, is_dead};
use crate::support::valve::Valve;
use crate::support::{ensure_says, eventually, mysql};

/// The documented bound of a drain, what is left to the disk after it, and a little for ending.
const DRAIN: Duration = Duration::from_secs(23);
const AT_ONCE: Duration = Duration::from_secs(1);

/// A relay whose engine has gone silent with a bulk under way.
async fn set_with_a_silent_engine(test: &'static str) -> Result<(Rounds, Valve)> {
    let mut rounds = Rounds::set(test).await?;
    let engine = rounds.stage.servers.engine_url.clone();
    let valve = Valve::before(engine.trim_start_matches("http://").to_owned()).await?;
    rounds.stage.relay.options.sink_url = format!("http://{}", valve.address);
    rounds.stage.relay.write_config()?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    valve.shut();
    rounds.play().await?;
    let relay = &rounds.stage.relay;
    eventually("a bulk under way", SOON, async || {
        Ok((relay.metric("everrelay_sink_bulks_in_flight").await? > 0.0).then_some(()))
    })
    .await?;
    Ok((rounds, valve))
}

/// Sends the signals, each once the one before was taken; the relay has then ended in time, with this code.
async fn ends_after(
    rounds: &mut Rounds,
    tracer: Option<Tracer>,
    signals: &[Signal],
    code: i32,
    within: Duration,
) -> Result<()> {
    let (asked, process) = (Instant::now(), rounds.stage.relay.pid()?);
    for (i, signal) in signals.iter().enumerate() {
        if i > 0 {
            let relay = &rounds.stage.relay;
            let draining = async || Ok(relay.words().contains("draining").then_some(()));
            eventually("the first signal is taken", AT_ONCE, draining).await?;
        }
        rounds.stage.relay.signal(*signal)?;
    }
    eventually("the relay's end", within, async || Ok(is_dead(process).then_some(()))).await?;
    eprintln!("ended in {:?}", asked.elapsed());
    drop(tracer);
    rounds.stage.relay_ends_with(code, AT_ONCE).await?;
    Ok(())
}

#[tokio::test]
async fn fault_20_told_to_end_while_the_engine_never_answers_the_relay_ends_within_its_bound() -> Result<()> {
    let (mut rounds, valve) = set_with_a_silent_engine(
        "fault_20_told_to_end_while_the_engine_never_answers_the_relay_ends_within_its_bound",
    )
    .await?;
    ends_after(&mut rounds, None, &[Signal::TERM], 0, DRAIN).await?;
    rounds.ensure_sound()?;
    valve.open();
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_20_told_twice_while_the_engine_never_answers_the_relay_ends_at_once() -> Result<()> {
    let (mut rounds, valve) =
        set_with_a_silent_engine("fault_20_told_twice_while_the_engine_never_answers_the_relay_ends_at_once")
            .await?;
    ends_after(&mut rounds, None, &[Signal::TERM, Signal::TERM], 130, AT_ONCE).await?;
    rounds.ensure_sound()?;
    valve.open();
    rounds.recover().await?;
    rounds.stage.clear().await
}

/// A relay whose log syncs for longer than anything here lasts.
async fn set_with_a_hanging_sync(test: &'static str) -> Result<(Rounds, Tracer)> {
    let mut rounds = Rounds::set(test).await?;
    rounds.play().await?;
    rounds.recover().await?;
    rounds.play().await?;
    // Those of the opening are over by then.
    let strike = Strike::new("fdatasync", Blow::Hangs(600_000), When::From(4));
    rounds.stage.relay.options.through = strike.command(&rounds.trace_file());
    rounds.stage.relay.start()?;
    rounds.stage.relay.options.through.clear();
    // Before anything can fail: without it nobody could lay the relay to rest.
    let process = rounds.stage.relay.pid()?;
    let tracer = eventually("strace", SOON, async || Ok(Tracer::of(process).ok())).await?;
    rounds.stage.relay.until_ready_is(200, SOON).await?;
    eventually("a sync that hangs", SOON, async || {
        let trace = rounds.trace()?;
        // Its end is not written yet.
        Ok(trace.last_call("fdatasync").is_some_and(|call| !call.contains(" = ")).then_some(()))
    })
    .await?;
    Ok((rounds, tracer))
}

#[tokio::test]
async fn fault_20_told_to_end_while_a_sync_hangs_the_relay_ends_within_its_bound_and_says_why() -> Result<()>
{
    let (mut rounds, tracer) = set_with_a_hanging_sync(
        "fault_20_told_to_end_while_a_sync_hangs_the_relay_ends_within_its_bound_and_says_why",
    )
    .await?;
    ends_after(&mut rounds, Some(tracer), &[Signal::TERM], 5, DRAIN).await?;
    let state = rounds.stage.relay.state_dir();
    ensure_says(&rounds.stage.relay.words(), &[state.to_str().context("UTF-8")?, "disk"])?;
    rounds.ensure_sound()?;
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_20_told_twice_while_a_sync_hangs_the_relay_ends_at_once() -> Result<()> {
    let (mut rounds, tracer) =
        set_with_a_hanging_sync("fault_20_told_twice_while_a_sync_hangs_the_relay_ends_at_once").await?;
    ends_after(&mut rounds, Some(tracer), &[Signal::TERM, Signal::INT], 130, AT_ONCE).await?;
    rounds.ensure_sound()?;
    rounds.recover().await?;
    rounds.stage.clear().await
}

#[tokio::test]
async fn fault_21_stopped_until_the_server_has_given_it_up_the_relay_goes_on_and_agrees() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_21_stopped_until_the_server_has_given_it_up_the_relay_goes_on_and_agrees").await?;
    rounds.play().await?;
    rounds.stage.relay.start()?;
    rounds.stage.agree(SOON).await?;
    let reconnects = rounds.stage.relay.metric("everrelay_source_reconnects_total").await?;
    rounds.stage.relay.signal(Signal::STOP)?;
    rounds.play().await?;
    // As it does by itself ten minutes after it could write no more.
    let url = rounds.stage.shop.mysql_url.clone();
    let dumps = "FROM performance_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'";
    let thread: u64 = mysql::one(&url, &format!("SELECT ID {dumps}")).await?;
    mysql::execute(&url, [format!("KILL {thread}")]).await?;
    eventually("the server has given it up", SOON, async || {
        let left: u64 = mysql::one(&url, &format!("SELECT COUNT(*) {dumps}")).await?;
        Ok((left == 0).then_some(()))
    })
    .await?;
    rounds.play().await?;
    rounds.stage.relay.signal(Signal::CONT)?;
    rounds.stage.agree(SOON).await?;
    let reconnected = rounds.stage.relay.metric("everrelay_source_reconnects_total").await? - reconnects;
    ensure!(reconnected >= 1.0, "the relay did not connect again");
    rounds.end().await?;
    rounds.stage.clear().await
}

/// Stopped in the midst of its work, again and again: bulks of unknown outcome, answers long there when it goes on.
#[tokio::test]
async fn fault_21_stopped_again_and_again_under_load_the_relay_goes_on_and_agrees() -> Result<()> {
    let mut rounds =
        Rounds::set("fault_21_stopped_again_and_again_under_load_the_relay_goes_on_and_agrees").await?;
    rounds.stage.relay.start()?;
    rounds.stage.relay.until_ready_is(200, SOON).await?;
    for _ in 0..5 {
        rounds.play().await?;
        rounds.stage.relay.signal(Signal::STOP)?;
        rounds.play().await?;
        rounds.stage.relay.signal(Signal::CONT)?;
    }
    rounds.stage.agree(SOON).await?;
    rounds.end().await?;
    rounds.stage.clear().await
}
