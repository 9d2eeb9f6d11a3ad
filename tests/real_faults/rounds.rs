//! The play that is struck: rounds in which every row of a small table changes, and whether the relay's folder is sound after each.
//!
//! A round is a few dozen transactions, one of them larger than a segment, with inserts, deletes and changed keys: about six
//! segments of 64 KiB. They are committed before the relay starts, so that each run makes much the same calls. As every row has
//! a new value in every round, a change that a strike lost shows in the index.

use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use everrelay::disk::SystemDisk;
use everrelay::log::record::Kind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;
use serde_json::Value;
use tokio::time::Instant;

use crate::SOON;
use crate::support::eventually;
use crate::support::mysql;
use crate::support::pulse::Beat;
use crate::support::stage::Stage;
use crate::support::strike::{Strike, Trace};

/// Rows of the table in an even round; an odd one has one more.
const ROWS: u64 = 240;

/// What stands before the number in an advice to cut the log.
const CUT: &str = "everrelay log cut --after ";

/// How a run under a strike ended.
#[derive(Debug)]
pub enum Run {
    /// By itself, with these words.
    Ended { status: ExitStatus, words: String },
    /// The strike never came: all is settled, and no segment is left that may go.
    Whole,
    /// It was struck and goes on.
    Endured,
}

/// What a relay that was struck may do beside ending.
#[derive(Clone, Copy, Debug)]
pub enum Tolerance<'a> {
    None,
    /// Go on if it says this.
    Saying(&'a str),
    /// Go on.
    Silence,
}

/// One stage and its rounds.
#[derive(Debug)]
pub struct Rounds {
    pub stage: Stage,
    pub rng: StdRng,
    round: u64,
    /// Highest visible seq that any run showed.
    seen_visible: Option<u64>,
}

impl Rounds {
    /// # Errors
    /// No servers, or they refuse.
    pub async fn set(test: &'static str) -> Result<Rounds> {
        let mut stage = Stage::set(test, 0).await?;
        let schema = &stage.shop.schema;
        let numbers: Vec<String> = (1..=ROWS).map(|id| format!("({id},0,'')")).collect();
        let statements = [
            format!(
                "CREATE TABLE `{schema}`.struck (id INT UNSIGNED PRIMARY KEY, round INT NOT NULL, \
                 body VARCHAR(500) CHARACTER SET ascii NOT NULL)"
            ),
            format!("INSERT INTO `{schema}`.struck VALUES {}", numbers.join(",")),
        ];
        mysql::execute(&stage.shop.mysql_url, statements).await?;
        stage.tables = vec!["struck".to_owned(), "pulse".to_owned()];
        stage.relay.options.segment_bytes = Some(64 << 10);
        stage.relay.options.retention_seconds = Some(0);
        stage.relay.write_config()?;
        let rng = StdRng::seed_from_u64(stage.seed.number);
        Ok(Rounds { stage, rng, round: 0, seen_visible: None })
    }

    /// Segments are kept for an hour from now on.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn keep_segments(&mut self) -> Result<()> {
        self.stage.relay.options.retention_seconds = Some(3600);
        self.stage.relay.write_config()
    }

    /// Waits until the running relay has let all segments go that may go.
    ///
    /// # Errors
    /// It does not.
    pub async fn until_retained(&self) -> Result<()> {
        let relay = &self.stage.relay;
        let what = "one segment is left";
        eventually(what, SOON, async || Ok((relay.segments()?.len() == 1).then_some(()))).await
    }

    /// Commits a round's transactions.
    ///
    /// # Errors
    /// The server fails.
    pub async fn play(&mut self) -> Result<()> {
        self.round += 1;
        let (round, table) = (self.round, format!("`{}`.struck", self.stage.shop.schema));
        let body = |length: u64| format!("REPEAT(CHAR(65 + (id + {round}) % 26), {length})");
        let mut statements: Vec<String> = (0..20)
            .map(|part| {
                format!("UPDATE {table} SET round = {round}, body = {} WHERE id % 20 = {part}", body(350))
            })
            .collect();
        statements.push(format!("UPDATE {table} SET body = {}", body(500)));
        let moved = if round % 2 == 1 { "id + 1000 WHERE id <= 40" } else { "id - 1000 WHERE id > 1000" };
        statements.push(format!("UPDATE {table} SET id = {moved}"));
        statements.push(format!("DELETE FROM {table} WHERE id IN (100, 101)"));
        statements
            .push(format!("INSERT INTO {table} VALUES (100, {round}, 'again'), (101, {round}, 'again')"));
        statements.push(if round % 2 == 1 {
            format!("INSERT INTO {table} VALUES (500, {round}, {})", "'odd'")
        } else {
            format!("DELETE FROM {table} WHERE id = 500")
        });
        mysql::execute(&self.stage.shop.mysql_url, statements).await
    }

    /// Plays a round and runs the relay under `strike`.
    ///
    /// # Errors
    /// It neither ends nor becomes whole in time: it hangs.
    pub async fn run(&mut self, strike: &Strike, tolerance: Tolerance<'_>) -> Result<Run> {
        self.play().await?;
        self.stage.relay.options.through = strike.command(&self.trace_file());
        let run = self.run_through(tolerance).await.with_context(|| strike.to_string());
        self.stage.relay.options.through.clear();
        run
    }

    /// Plays a round and runs the relay until it ends, is whole, or says this.
    ///
    /// # Errors
    /// Nothing of that in time: it hangs.
    pub async fn run_until(&mut self, says: &str) -> Result<Run> {
        self.play().await?;
        self.run_through(Tolerance::Saying(says)).await
    }

    async fn run_through(&mut self, tolerance: Tolerance<'_>) -> Result<Run> {
        let beat = Beat::commit(&self.stage.shop).await?;
        let said = self.stage.relay.words().len();
        self.stage.relay.start()?;
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.stage.relay.ended()? {
                let words = self.stage.relay.words().split_off(said);
                return Ok(Run::Ended { status, words });
            }
            if self.is_whole(&beat).await? {
                let is_struck = self.trace().is_ok_and(|trace| !trace.struck().is_empty());
                match tolerance {
                    _ if !is_struck => return Ok(Run::Whole),
                    Tolerance::Silence => return Ok(Run::Endured),
                    // The struck call may have been the one that made it whole: then it ends now.
                    Tolerance::None | Tolerance::Saying(_) => {}
                }
            }
            if let Tolerance::Saying(says) = tolerance
                && self.stage.relay.words()[said..].to_lowercase().contains(says)
            {
                return Ok(Run::Endured);
            }
            if Instant::now() >= deadline {
                let ready = self.stage.relay.get("/readyz").await;
                bail!(
                    "the relay hangs; /readyz: {ready:?}; its last words:\n{}",
                    self.stage.relay.last_words()
                );
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_whole(&mut self, beat: &Beat) -> Result<bool> {
        let Ok((200, status)) = self.stage.relay.get("/status").await else { return Ok(false) };
        let status: Value = serde_json::from_str(&status)?;
        let pipeline = &status["pipeline"];
        let (visible, cursor) = (pipeline["visible"].as_u64(), pipeline["sinks"][0]["cursor"].as_u64());
        self.seen_visible = self.seen_visible.max(visible);
        Ok(visible == cursor
            && self.stage.relay.segments()?.len() == 1
            && beat.has_arrived(&self.stage.engine).await?)
    }

    /// What the last run called.
    ///
    /// # Errors
    /// strace did not run.
    pub fn trace(&self) -> Result<Trace> {
        Trace::read(&self.trace_file())
    }

    #[must_use]
    pub fn trace_file(&self) -> PathBuf {
        self.stage.relay.dir.join("trace")
    }

    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.stage.relay.state_dir().join("main/log")
    }

    #[must_use]
    pub fn settled_dir(&self) -> PathBuf {
        self.stage.relay.state_dir().join("main/settled")
    }

    /// The paths below the state folder that a run is known to open: all that is there, and the segment that it will begin.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn known_paths(&self) -> Result<Vec<PathBuf>> {
        let (log, settled) = (self.log_dir(), self.settled_dir());
        let mut paths = vec![settled.join("db"), settled.join("conf"), log.join("LOCK")];
        if log.exists() {
            let next = everrelay::log::read_only(&SystemDisk, &log)?.log.visible().seq.next();
            paths.extend(["log", "new"].map(|extension| log.join(format!("{:020}.{extension}", next.0))));
        }
        paths.extend(self.stage.relay.segments()?);
        paths.extend([log, settled]);
        Ok(paths)
    }

    /// The folder that a relay left behind is whole: the log reads from its start to a commit or mark, nothing that was visible is missing,
    /// and retained start <= cursor + 1, cursor <= visible.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn ensure_sound(&self) -> Result<()> {
        if self.stage.relay.segments()?.is_empty() {
            ensure!(self.seen_visible.is_none(), "the log is gone");
            return Ok(());
        }
        let log = everrelay::log::read_only(&SystemDisk, &self.log_dir())?.log;
        let (mut next, visible) = (log.retained_start(), log.visible().seq);
        let mut reader = log.reader(next)?;
        let mut last = None;
        while let Some(frame) = reader.next_frame()? {
            ensure!(frame.seq == next, "frame {} stands where {next} should", frame.seq);
            (next, last) = (next.next(), Some(frame.kind));
        }
        ensure!(next == visible.next(), "the log reads up to {next}, and {visible} is visible");
        let ends = matches!(last, None | Some(Kind::Commit | Kind::Mark | Kind::State));
        ensure!(ends, "what is visible ends with a {last:?}");
        ensure!(Some(visible.0) >= self.seen_visible, "{:?} was visible, now {visible}", self.seen_visible);
        let status = self.status()?;
        let number = |key: &str| status["pipeline"][key].as_u64().with_context(|| format!("{key}: {status}"));
        let cursor = status["pipeline"]["sinks"][0]["cursor"].as_u64().context("a cursor")?;
        let (start, end) = (number("retained_start")?, number("visible")?);
        // A folder without a cursor starts at the retained start.
        ensure!(cursor <= end && (start <= cursor + 1 || cursor == 0), "{status}");
        Ok(())
    }

    /// `everrelay status --json` on the folder that a relay left behind.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.command(&["status", "--json"])?)?)
    }

    /// Starts the relay untouched; table and index agree; then it is ended, one time by SIGTERM, another by SIGKILL.
    ///
    /// # Errors
    /// Anything differs, or it does not end well.
    pub async fn recover(&mut self) -> Result<()> {
        self.stage.relay.start()?;
        self.stage.agree(SOON).await?;
        self.end().await
    }

    /// Starts the relay: it brings all to agree, or it says what to do; then that is done, and it does. Returns which.
    ///
    /// # Errors
    /// Anything differs in the end, or it ends without advice.
    pub async fn overcome(&mut self) -> Result<&'static str> {
        let said = self.stage.relay.words().len();
        self.stage.relay.start()?;
        let Err(error) = self.stage.agree(SOON).await else {
            self.drain().await?;
            return Ok("goes on");
        };
        let words = self.stage.relay.words().split_off(said);
        let last = words.lines().last().unwrap_or_default();
        ensure!(self.stage.relay.pid().is_err() && last.contains("\"exit_code\":5"), "{error:?}\n{words}");
        let advice = self.follow(last)?;
        self.recover().await.with_context(|| format!("having followed {last}"))?;
        Ok(advice)
    }

    /// Does what a refusal advises.
    ///
    /// # Errors
    /// It advises nothing, or that cannot be done.
    pub fn follow(&mut self, refusal: &str) -> Result<&'static str> {
        if refusal.contains("Move the folder away and start again") {
            std::fs::remove_dir_all(self.settled_dir())?;
            return Ok("the cursor is moved away");
        }
        // What is cut is read again, under other numbers.
        self.seen_visible = None;
        let mut said = refusal.to_owned();
        if !said.contains(CUT) && said.contains("let `everrelay log verify` say which") {
            // It exits as one that found damage does.
            said = String::from_utf8(self.output(&["log", "verify"])?.stdout)?;
        }
        if let Some((_, after)) = said.split_once(CUT) {
            let after: String = after.chars().take_while(char::is_ascii_digit).collect();
            self.command(&["log", "cut", "--yes", "--after", &after])?;
            return Ok("the log is cut");
        }
        ensure!(said.to_lowercase().contains("start with an empty"), "no advice: {refusal}\n{said}");
        std::fs::remove_dir_all(self.stage.relay.state_dir())?;
        Ok("the state is emptied")
    }

    /// An everrelay command on the folder that a relay left behind.
    fn output(&self, words: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.stage.relay.options.binary);
        Ok(command.args(words).arg("--config").arg(self.stage.relay.config_file()).output()?)
    }

    /// What one says that succeeds.
    fn command(&self, words: &[&str]) -> Result<Vec<u8>> {
        let output = self.output(words)?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// Ends the running relay by SIGTERM, or waits for it to end by itself with 5: whether it is well.
    ///
    /// # Errors
    /// It ends otherwise.
    pub async fn drain_or_fail(&mut self) -> Result<bool> {
        if self.stage.relay.ended()?.is_none() {
            self.stage.relay.signal(Signal::TERM)?;
            let status = self.stage.relay.exit(SOON).await?;
            ensure!(matches!(status.code(), Some(0 | 5)), "{status}");
            return Ok(status.success());
        }
        Ok(false)
    }

    /// Kills the relay if it still runs: the strike may yet have come to one that became whole.
    ///
    /// # Errors
    /// The system does.
    pub fn put_away(&mut self) -> Result<()> {
        if self.stage.relay.ended()?.is_none() {
            self.stage.relay.signal(Signal::KILL)?;
            self.stage.relay.wait()?;
        }
        Ok(())
    }

    /// Ends the running relay, one time by SIGTERM, another by SIGKILL.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn end(&mut self) -> Result<()> {
        if self.rng.random_bool(0.5) {
            return self.stage.relay.kill();
        }
        self.drain().await
    }

    /// Ends the running relay by SIGTERM.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn drain(&mut self) -> Result<()> {
        self.stage.relay.signal(Signal::TERM)?;
        self.stage.relay_ends_with(0, SOON).await?;
        Ok(())
    }
}

/// The numbers at which a sweep strikes: 1, 2, 3, … with `EVERRELAY_TEST_SWEEP=all`, else every `stride`th from a random one on.
///
/// # Errors
/// The variable says something else.
pub fn numbers(rng: &mut StdRng, stride: u64) -> Result<impl Iterator<Item = u64> + use<>> {
    let stride = match std::env::var("EVERRELAY_TEST_SWEEP") {
        Ok(text) if text == "all" => 1,
        Ok(text) => bail!("EVERRELAY_TEST_SWEEP={text}: it can be `all`"),
        Err(_) => stride,
    };
    let first = rng.random_range(1..=stride);
    Ok((first..).step_by(usize::try_from(stride)?))
}
