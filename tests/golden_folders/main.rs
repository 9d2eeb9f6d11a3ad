//! State folders of every released format, as an earlier everrelay left them in `tests/golden/`: each is opened by this one, and what it
//! gives is compared word by word. A folder of a newer format is refused, and left as it is.
//!
//! `cargo test --test golden_folders -- --ignored` makes the folders anew ([`make`]): only ever for a format that is not released.

mod make;
mod show;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use everrelay::clock::Clock;
use everrelay::disk::SystemDisk;
use everrelay::log::{LogOptions, OpenError, open, read_only};
use everrelay::settled::{Cursor, CursorStore, Settled, SettledError};

/// The sink that has a cursor.
const SINK: &str = "main";

/// 2026-11-24: after the folders were made.
#[derive(Clone, Copy)]
struct Later;

impl Clock for Later {
    fn wall_micros(&self) -> u64 {
        make::NOW + 86_400_000_000
    }

    fn since_boot(&self) -> Duration {
        Duration::ZERO
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/log-format-2")
}

/// A copy of a case's state folder, with a configuration that names it.
struct Copied {
    folder: tempfile::TempDir,
}

impl Copied {
    fn of(case: &str) -> Copied {
        let folder = tempfile::tempdir().unwrap();
        copy(&golden().join(case), &folder.path().join("state"));
        let text = format!(
            "[source]\nurl = \"mysql://relay@127.0.0.1:1\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://127.0.0.1:1\"\n\
             [state]\ndir = {:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n",
            folder.path().join("state")
        );
        std::fs::write(folder.path().join("everrelay.toml"), text).unwrap();
        Copied { folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("state/main/log")
    }

    fn settled(&self) -> PathBuf {
        self.folder.path().join("state/main/settled")
    }

    /// Runs the binary on the copy; its exit code, standard output and standard error.
    fn everrelay(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_everrelay"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("everrelay.toml"));
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// What the log gives, what opening it found, and where its cursor stands.
    fn shown(&self) -> String {
        let looked_at = read_only(&SystemDisk, &self.log()).unwrap();
        let mut shown = show::log(&looked_at.log);
        let position = looked_at.standing.map_or("none".to_owned(), |standing| standing.gtids.to_string());
        let opened = open(&SystemDisk, &Later, &self.log(), LogOptions::default()).unwrap();
        let found = opened.recovered.to_string().replace(self.folder.path().to_str().unwrap(), "");
        let cursor = Settled::open(&self.settled()).and_then(|settled| settled.cursor(SINK)?.load()).unwrap();
        shown.push_str(&format!("position: {position}\nfound: {found}\n"));
        match cursor {
            None => shown.push_str("cursor: none\n"),
            Some(Cursor { seq, gtids, indices, sweeps, .. }) => {
                shown.push_str(&format!("cursor: {seq}, {gtids}\n"));
                sweeps.iter().for_each(|sweep| shown.push_str(&format!("owed: {sweep:?}\n")));
                indices
                    .iter()
                    .for_each(|(alias, index)| shown.push_str(&format!("index: {alias} {index:?}\n")));
            }
        }
        assert_eq!(opened.writer.position().map(ToString::to_string).unwrap_or("none".to_owned()), position);
        shown
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Every file below `folder`, by its path.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Declares for each case that it opens, and that the commands read it.
macro_rules! cases {
    ($($case:ident)*) => {$(
        mod $case {
            use super::*;

            #[test]
            fn is_opened_and_gives_what_was_written() {
                let case = stringify!($case).replace('_', "-");
                insta::assert_snapshot!(case.clone(), Copied::of(&case).shown());
            }

            #[test]
            fn is_read_by_the_commands() {
                let case = stringify!($case).replace('_', "-");
                let copied = Copied::of(&case);
                let before = files(&copied.log());
                for command in ["ls", "cat"] {
                    let (code, lines, words) = copied.everrelay(&["log", command, "--json"]);
                    assert_eq!((code, words.as_str()), (Some(0), ""));
                    insta::assert_snapshot!(format!("{case}-{command}"), lines);
                }
                assert!(files(&copied.log()) == before, "looking changed the log");
            }
        }
    )*};
}

cases! { empty small several_segments open_transaction torn_tail truncated xa snapshot followed }

#[test]
fn snapshot_ls_names_what_is_read_and_what_is_swept() {
    let copied = Copied::of("snapshot");
    let (code, lines, words) = copied.everrelay(&["snapshot", "ls"]);
    assert_eq!((code, words.as_str()), (Some(0), ""));
    assert_eq!(
        lines,
        "shop.orders 1 of about 2 rows\nshop.lines was read, and documents without a row are being deleted\n"
    );
    let (_, lines, _) = copied.everrelay(&["snapshot", "ls", "--json"]);
    assert!(
        lines.ends_with("{\"sink\":\"main\",\"state\":\"sweeping\",\"table\":\"shop.lines\"}\n"),
        "{lines}"
    );
}

#[test]
fn a_log_of_a_newer_format_is_refused_before_anything_is_written() {
    for segment in [0, 1, usize::MAX] {
        let copied = Copied::of("several-segments");
        let mut paths: Vec<_> =
            files(&copied.log()).into_keys().filter(|path| path.extension().is_some()).collect();
        paths.sort();
        let path = &paths[segment.min(paths.len() - 1)];
        let mut bytes = std::fs::read(path).unwrap();
        bytes[8] += 1;
        std::fs::write(path, bytes).unwrap();

        let before = files(copied.folder.path());
        let error = open(&SystemDisk, &Later, &copied.log(), LogOptions::default()).unwrap_err();
        assert!(matches!(error, OpenError::Format { found: 3, known: 2, .. }), "{error}");
        assert!(read_only(&SystemDisk, &copied.log()).is_err());
        for command in ["ls", "cat"] {
            let (code, _, words) = copied.everrelay(&["log", command]);
            assert!(
                code == Some(5) && words.contains("format 3") && words.contains("newer"),
                "{code:?} {words}"
            );
        }
        assert!(files(copied.folder.path()) == before, "the refusal changed the state folder");
        let before = files(&copied.log());
        let (code, _, words) = copied.everrelay(&["run"]);
        assert!(code == Some(5) && words.contains("format 3") && words.contains("newer"), "{code:?} {words}");
        assert!(files(&copied.log()) == before, "the refusal changed the log");
    }
}

#[test]
fn a_cursor_folder_of_a_newer_format_is_refused_before_the_log_is_touched() {
    let copied = Copied::of("several-segments");
    {
        let db = sled::open(copied.settled()).unwrap();
        db.insert("format", &2u32.to_le_bytes()).unwrap();
        db.flush().unwrap();
    }
    let log = files(&copied.log());
    // sled writes its own snapshots anew whenever it opens, before anybody can ask it for a key.
    let kept = || {
        let mut files = files(&copied.settled());
        files.retain(|path, _| !path.file_name().unwrap().to_string_lossy().starts_with("snap."));
        files
    };
    let settled = kept();
    // sled gives its lock up on a thread of its own, a moment after the last handle is gone.
    let deadline = Instant::now() + Duration::from_secs(10);
    let error = loop {
        match Settled::open(&copied.settled()).unwrap_err() {
            SettledError::Locked { .. } if Instant::now() < deadline => std::thread::yield_now(),
            error => break error,
        }
    };
    assert!(matches!(error, SettledError::Format { found: 2, known: 1, .. }), "{error}");
    let (code, _, words) = copied.everrelay(&["run"]);
    assert!(code == Some(5) && words.contains("format 2") && words.contains("newer"), "{code:?} {words}");
    assert!(kept() == settled, "the refusal changed the cursor's folder");
    assert!(files(&copied.log()) == log, "the refusal changed the log");
}

#[test]
#[ignore = "writes tests/golden/log-format-2, which released versions must go on opening"]
fn the_golden_folders_are_made() {
    for (case, make) in make::CASES {
        let folder = golden().join(case);
        let _ = std::fs::remove_dir_all(&folder);
        make(&folder.join("main"));
    }
}
