//! The house: rooms stand on floors, imports go strictly downward, and rooms on one floor do not import each other.
//!
//! The floors are docs/design.md's table. `lib.rs` is the map and stands outside.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room with its floor; a room is a file or folder right below `src`.
const FLOORS: &[(&str, u8)] = &[
    ("main", 7),
    ("cli", 7),
    ("admin", 6),
    ("config", 5),
    ("diff", 4),
    ("relay", 4),
    ("source", 3),
    ("mapping", 3),
    ("sink", 3),
    ("log", 2),
    ("settled", 2),
    ("event", 1),
    ("backoff", 0),
    ("clock", 0),
    ("disk", 0),
    ("lifecycle", 0),
    ("metrics", 0),
    ("secret", 0),
];

/// Lines of one file, tests beside the code included.
const MOST_LINES: usize = 500;

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    path.strip_prefix(src).unwrap().to_str().unwrap().to_owned()
}

fn room(relative: &str) -> &str {
    let first = relative.split('/').next().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

/// Room names after `crate::` (or `everrelay::`), those in braces included.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "everrelay::"] {
        for (at, _) in text.match_indices(start) {
            let line_start = text[..at].rfind('\n').map_or(0, |n| n + 1);
            if text[line_start..at].trim_start().starts_with("//") {
                continue;
            }
            let rest = &text[at + start.len()..];
            let name =
                |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
            if let Some(group) = rest.strip_prefix('{') {
                let mut depth = 0;
                let mut item_start = true;
                for (i, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => item_start = true,
                        c if depth == 0 && item_start && !c.is_whitespace() => {
                            found.push(name(&group[i..]));
                            item_start = false;
                        }
                        _ => {}
                    }
                }
            } else {
                found.push(name(rest));
            }
        }
    }
    found
}

#[test]
fn imports_go_strictly_downward() {
    let floors: BTreeMap<&str, u8> = FLOORS.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources() {
        let relative = relative(&path);
        if relative == "lib.rs" {
            continue;
        }
        let here = room(&relative);
        let Some(&floor) = floors.get(here) else {
            wrong.push(format!("{relative}: the room {here:?} is on no floor"));
            continue;
        };
        for import in imports(&fs::read_to_string(&path).unwrap()) {
            let Some(&other) = floors.get(import.as_str()) else {
                wrong.push(format!("{relative}: imports {import:?}, which is no room"));
                continue;
            };
            // main.rs is the door that opens on cli.
            if import != here && other >= floor && (here, import.as_str()) != ("main", "cli") {
                wrong.push(format!("{relative}: {here} (floor {floor}) imports {import} (floor {other})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_holds_one_idea_in_at_most_500_lines() {
    let long: Vec<String> = sources()
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).unwrap().lines().count()))
        .filter(|(_, lines)| *lines > MOST_LINES)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn the_import_reader_sees_paths_groups_and_no_comments() {
    let text = "use crate::event::Seq;\nuse crate::{disk, log::{A, B}, sink};\n// use crate::cli;\nlet x = crate::clock::now();";
    let mut found = imports(text);
    found.sort();
    assert_eq!(found, ["clock", "disk", "event", "log", "sink"]);
}
