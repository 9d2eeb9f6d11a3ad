//! Every fault of disk, process, clock, engine and source that the relay has to bear has a test of its own, named `fault_NN_…` after it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What strikes, by number; 19, a panic in a task, is the whole process's and is tried beside `lifecycle`.
const FAULTS: &[(u8, &str)] = &[
    (1, "kill -9 at any instant"),
    (2, "power loss: what was not synced is gone, reordered, in parts"),
    (3, "a torn last frame, zeros or garbage after the end"),
    (4, "a bit flipped in a sealed or middle frame"),
    (5, "a bad frame below the highest synced offset"),
    (6, "a sync that fails once and then succeeds"),
    (7, "a write that fails, is short, or is interrupted"),
    (8, "no space in the log"),
    (9, "no space for the cursor"),
    (10, "the quota reached while the engine is away"),
    (11, "a disk that becomes read-only"),
    (12, "no descriptors, inodes or threads"),
    (13, "a crash between temporary file, rename and the folder's sync"),
    (14, "a segment removed while a reader has it"),
    (15, "a segment missing, doubled, foreign; a file too many"),
    (16, "the cursor's folder lost or damaged"),
    (17, "the cursor's folder from an older copy"),
    (18, "a log that ends below the cursor"),
    (20, "told to end, once and twice, while something hangs"),
    (21, "stopped for a while and continued"),
    (22, "a clock that jumps"),
    (23, "a slow disk"),
    (24, "an enormous length, a crafted header"),
    (25, "a reset before a request, or in its midst"),
    (26, "an answer that is lost or cut"),
    (27, "an engine that does not answer, or drop by drop"),
    (28, "a request applied when it was given up long ago"),
    (29, "an engine that is busy, not ready or behind a gateway"),
    (30, "a document that is too large for the engine by itself"),
    (31, "credentials or certificates that the engine refuses in mid-run"),
    (32, "an answer for other items than were sent"),
    (33, "a bulk of which some is done, some put off, some refused"),
    (34, "a document that the engine refuses for good"),
    (35, "a parked change sent again behind a newer one"),
    (36, "an index that is blocked or closed"),
    (37, "an index deleted, or made anew"),
    (38, "an alias that names another index"),
    (39, "another writer on an index"),
    (40, "an engine that restarts; an index restored from a backup, or with a shard from an old copy"),
    (41, "one of several engine nodes gone, or of another cluster; redirects"),
    (42, "a server that restarts, crashes, ends the stream, also under TLS"),
    (43, "a connection that is half open"),
    (44, "binlogs purged before they were read"),
    (45, "a failover to another server, clean"),
    (46, "a failover that lost transactions; binlogs reset; a backup restored, its GTIDs used anew"),
    (47, "a server that forgets what it sent, and gives its GTIDs again"),
    (48, "GTID sets with gaps, tags and many servers; servers that need not give GTIDs"),
    (49, "a stream cut between a GTID and its commit"),
    (50, "damage in the stream, and what the server says that it lacks"),
    (51, "statements, and rows that are not sent whole"),
    (52, "changes that the server does not write to its binlog"),
    (53, "a transaction, a row, a payload larger than all memory or the log"),
    (54, "a crash within such a transaction"),
    (55, "an XA transaction between PREPARE and decision, whatever happens meanwhile"),
    (56, "savepoints, engines mixed, groups that end with ROLLBACK, CREATE … SELECT"),
    (57, "DDL between rows, tables that change places or are made anew, table ids given again"),
    (58, "TRUNCATE, DROP TABLE, DROP DATABASE, partition DDL"),
    (59, "ALTER or failover while a table is snapshotted"),
    (60, "a server that gives up on a reader that is held up"),
    (61, "two replicas of one identity"),
    (62, "a replica as the source that lags"),
    (63, "values at the edges of their types, by the stream and by a snapshot"),
    (64, "two processes on one state folder"),
    (65, "rules that are changed between two runs"),
    (66, "a state folder of another format"),
    (67, "the state folder lost"),
    (68, "an older copy of the state folder"),
    (69, "the state folder copied, and both run"),
];

#[test]
fn every_fault_has_a_test_that_is_named_after_it() {
    let found = names_by_number();
    let missing: Vec<String> = FAULTS
        .iter()
        .filter(|(number, _)| !found.contains_key(number))
        .map(|(number, what)| format!("{number:02}: {what}"))
        .collect();
    assert!(missing.is_empty(), "no test is named after these faults:\n{}", missing.join("\n"));
    let unknown: Vec<_> = found.iter().filter(|(n, _)| FAULTS.iter().all(|(known, _)| known != *n)).collect();
    assert!(unknown.is_empty(), "named after no fault: {unknown:?}");
}

/// Names of test functions that begin with `fault_NN_`, in `src` and `tests`.
fn names_by_number() -> BTreeMap<u8, Vec<String>> {
    let mut found: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders: Vec<PathBuf> = vec![root.join("src"), root.join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                for name in fs::read_to_string(&path).unwrap().split("fn fault_").skip(1) {
                    let name: String =
                        name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                    if let Some(number) = name.split('_').next().and_then(|number| number.parse().ok()) {
                        found.entry(number).or_default().push(name);
                    }
                }
            }
        }
    }
    found
}
