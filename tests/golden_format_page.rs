//! docs/log-format.md is true: its program reads the golden folders as `everrelay log cat` does, and its bytes are those of a golden file.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The page's one block of this language.
fn block(language: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/log-format.md")).unwrap();
    let blocks: Vec<_> = page.split(&format!("```{language}\n")).skip(1).collect();
    assert_eq!(blocks.len(), 1, "the page has one block of {language}");
    blocks[0].split("```").next().unwrap().to_owned()
}

fn cases() -> Vec<PathBuf> {
    let cases = std::fs::read_dir(root().join("tests/golden/log-format-2")).unwrap();
    let mut cases: Vec<_> = cases.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 5, "{cases:?}");
    cases
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// What the page's program prints of a log.
fn by_the_page(program: &Path, log: &Path) -> Vec<Value> {
    let output = Command::new("python3").arg("-I").arg(program).arg(log).output().unwrap_or_else(|error| {
        panic!("python3 cannot be started ({error}): install it (Debian: apt-get install python3)")
    });
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.is_empty(), "{}: {words}", log.display());
    lines(&output.stdout)
}

/// What the relay's own command prints of it.
fn by_the_command(folder: &Path, state: &Path) -> Vec<Value> {
    let config = folder.join("everrelay.toml");
    let text = format!(
        "[source]\nurl = \"mysql://relay@127.0.0.1:1\"\ntables = [\"shop.*\"]\n[sink]\nurl = \"http://127.0.0.1:1\"\n\
         [state]\ndir = {state:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_everrelay"));
    let output = command.args(["log", "cat", "--json", "--config"]).arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    lines(&output.stdout)
}

/// The old key as an id, for the integer keys of the golden folders.
fn id(key: &Value) -> Value {
    let parts: Vec<String> = key.as_array().unwrap().iter().map(ToString::to_string).collect();
    parts.join("|").into()
}

#[test]
fn the_pages_program_reads_what_the_relay_reads() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("logread.py");
    std::fs::write(&program, block("python")).unwrap();
    let mut rows = 0;
    for case in cases() {
        let (read, told) =
            (by_the_page(&program, &case.join("main/log")), by_the_command(folder.path(), &case));
        assert_eq!(read.len(), told.len(), "{}", case.display());
        for (read, told) in read.iter().zip(&told) {
            for (key, value) in told.as_object().unwrap() {
                match key.as_str() {
                    "id" => {}
                    "old_id" => assert_eq!(id(&read["old_key"]), *value, "{told}"),
                    key => assert_eq!(read[key], *value, "{key} of {told}"),
                }
            }
            rows += usize::from(read["row"].is_object());
        }
    }
    assert!(rows > 15, "{rows} rows were compared");
}

#[test]
fn the_pages_program_refuses_what_is_no_log() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("logread.py");
    std::fs::write(&program, block("python")).unwrap();
    let whole =
        std::fs::read(root().join("tests/golden/log-format-2/small/main/log/00000000000000000001.log"))
            .unwrap();
    for (at, expected) in [(0, "no segment"), (8, "format"), (13, "damaged header")] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        let segment = folder.path().join("00000000000000000001.log");
        std::fs::write(&segment, bytes).unwrap();
        let output = Command::new("python3").arg("-I").arg(&program).arg(folder.path()).output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && words.contains(expected), "{words}");
    }
}

#[test]
fn the_pages_bytes_are_the_golden_files() {
    let file =
        std::fs::read(root().join("tests/golden/log-format-2/small/main/log/00000000000000000001.log"))
            .unwrap();
    let mut shown = Vec::new();
    for line in block("hexdump").lines() {
        let Some((offset, rest)) = line.split_once("  ").filter(|(offset, _)| offset.len() == 4) else {
            continue;
        };
        assert_eq!(usize::from_str_radix(offset, 16).unwrap(), shown.len(), "{line}");
        let bytes = rest.get(..47).unwrap_or(rest).split_whitespace();
        shown.extend(
            bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap_or_else(|error| panic!("{error}: {line}"))),
        );
    }
    assert_eq!(shown, file);
}
