//! A system call of the relay that fails, hangs or kills it, by `strace -e inject=…`: the shipped binary, without a line of code for it.
//!
//! strace counts by thread: the nth call is the nth of the thread that comes so far first. A kill comes before its call is made. The
//! relay stays our own child (`-D`), so that signals, exit codes and memory are its own.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Every call by which the relay changes its state folder.
pub const CHANGING: &str = "pwrite64,fdatasync,fsync,sync_file_range,rename,unlink,ftruncate,mkdir";

/// What happens at the call.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// SIGKILL.
    Kill,
    /// It is not made, and fails with this error: `EIO`.
    Fails(&'static str),
    /// It is not made, and says that it was, with this result.
    Claims(u64),
    /// It is made so many milliseconds later.
    Hangs(u64),
}

/// Which of the calls.
#[derive(Clone, Copy, Debug)]
pub enum When {
    Nth(u64),
    /// That one and all that follow.
    From(u64),
}

/// One strike.
#[derive(Clone, Debug)]
pub struct Strike {
    /// Names of system calls, with commas between.
    pub calls: &'static str,
    pub blow: Blow,
    pub when: When,
    /// Only calls on these files and folders; on any if there are none.
    pub on: Vec<PathBuf>,
}

impl Strike {
    #[must_use]
    pub fn new(calls: &'static str, blow: Blow, when: When) -> Strike {
        Strike { calls, blow, when, on: Vec::new() }
    }

    #[must_use]
    pub fn on(self, paths: impl IntoIterator<Item = PathBuf>) -> Strike {
        Strike { on: paths.into_iter().collect(), ..self }
    }

    /// The words that go before a command; what is called is written to the file `trace`.
    #[must_use]
    pub fn command(&self, trace: &Path) -> Vec<String> {
        let blow = match self.blow {
            Blow::Kill => "signal=SIGKILL".to_owned(),
            Blow::Fails(error) => format!("error={error}"),
            Blow::Claims(result) => format!("retval={result}"),
            Blow::Hangs(millis) => format!("delay_enter={millis}ms"),
        };
        let when = match self.when {
            When::Nth(n) => n.to_string(),
            When::From(n) => format!("{n}+"),
        };
        let mut words = vec!["strace".to_owned()];
        words.extend(["-D", "-f", "-qq", "-y", "-s", "0"].map(str::to_owned));
        if !matches!(self.blow, Blow::Kill) {
            // Calls that are not looked at cost nothing then; but a signal given at such a stop is lost.
            words.push("--seccomp-bpf".to_owned());
        }
        words.extend(["-o".to_owned(), trace.display().to_string()]);
        words.extend(["-e".to_owned(), format!("trace={CHANGING},{}", self.calls)]);
        words.extend(["-e".to_owned(), format!("inject={}:{blow}:when={when}", self.calls)]);
        for path in &self.on {
            words.extend(["-P".to_owned(), path.display().to_string()]);
        }
        words
    }
}

impl fmt::Display for Strike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?} at {:?}", self.calls, self.blow, self.when)
    }
}

/// The strace of one process. While a call of it hangs, the dead process is not laid to rest before strace is.
#[derive(Debug)]
pub struct Tracer(Option<Pid>);

impl Tracer {
    /// # Errors
    /// Nobody traces the process.
    pub fn of(process: u32) -> Result<Tracer> {
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let line =
            status.lines().find_map(|line| line.strip_prefix("TracerPid:")).context("a tracer's line")?;
        let pid = Pid::from_raw(line.trim().parse()?).context("nobody traces it")?;
        Ok(Tracer(Some(pid)))
    }

    /// Ends strace: what hung goes on, where its process lives.
    ///
    /// # Errors
    /// It has ended before.
    pub fn end(&mut self) -> Result<()> {
        kill_process(self.0.take().context("it was ended")?, Signal::KILL)?;
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Whether the process has ended, though its parent may not have been told.
#[must_use]
pub fn is_dead(process: u32) -> bool {
    // `pid (name) state …`; the name may hold anything.
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// What one run of the relay called.
#[derive(Clone, Debug)]
pub struct Trace {
    lines: Vec<String>,
}

impl Trace {
    /// # Errors
    /// strace has written nothing: it did not run.
    pub fn read(path: &Path) -> Result<Trace> {
        let text = fs::read(path).with_context(|| format!("strace's file {}", path.display()))?;
        let mut lines: Vec<String> = Vec::new();
        for line in String::from_utf8_lossy(&text).lines() {
            // `7 fsync(9</x> <unfinished ...>` and later `7 <... fsync resumed>) = 0` are one call, made whole where it ended.
            let thread = line.split(' ').next().unwrap_or_default();
            let begun = line.contains("<... ").then(|| {
                let is_begun = |other: &String| {
                    other.ends_with("<unfinished ...>") && other.split(' ').next() == Some(thread)
                };
                lines.iter().rposition(is_begun)
            });
            match begun.flatten() {
                Some(begun) => {
                    let begun = lines.remove(begun);
                    let end = line.split_once("resumed>").map_or("", |(_, end)| end);
                    lines.push(begun.trim_end_matches("<unfinished ...>").to_owned() + end);
                }
                None => lines.push(line.to_owned()),
            }
        }
        Ok(Trace { lines })
    }

    /// The calls that were tampered with, as strace writes them.
    #[must_use]
    pub fn struck(&self) -> Vec<&str> {
        self.lines.iter().filter(|line| line.contains("(INJECTED)")).map(String::as_str).collect()
    }

    /// The calls after this one.
    #[must_use]
    pub fn after(&self, call: &str) -> Vec<&str> {
        self.lines.iter().map(String::as_str).skip_while(|line| *line != call).skip(1).collect()
    }

    /// The last of these calls (names with commas between) that was begun: where it was killed or hangs.
    #[must_use]
    pub fn last_call(&self, calls: &str) -> Option<&str> {
        let is_one = |line: &&str| calls.split(',').any(|call| line.contains(&format!(" {call}(")));
        self.lines.iter().map(String::as_str).rfind(is_one)
    }

    /// The first path in a line of strace, that of the working directory aside.
    #[must_use]
    pub fn path(line: &str) -> Option<&str> {
        let line =
            line.split_once("AT_FDCWD").and_then(|(_, rest)| rest.split_once('>')).map_or(line, |at| at.1);
        let start = line.find(['<', '"'])? + 1;
        let length = line.get(start..)?.find(['>', '"'])?;
        line.get(start..start + length).filter(|path| path.starts_with('/'))
    }

    /// Which call on what kind of file below `folder` a line of strace speaks of: `rename main/log/.new`.
    #[must_use]
    pub fn place(line: &str, folder: &Path) -> String {
        let call = line.split('(').next().and_then(|head| head.rsplit(' ').next()).unwrap_or_default();
        let path = Path::new(Trace::path(line).unwrap_or_default());
        let file = path.strip_prefix(folder).unwrap_or(path).display().to_string();
        // A segment's number and a snapshot's say nothing about its kind.
        let kind = file.trim_start_matches('/').replace(|c: char| c.is_ascii_digit(), "");
        format!("{call} {kind}")
    }
}
