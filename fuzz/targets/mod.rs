//! What is fuzzed: one file a target, each with one function `run` that takes any bytes and panics where a promise is broken.
//!
//! The functions know no fuzzer. `fuzz/fuzz_targets/` hands them to libFuzzer, and `tests/fuzz_corpora/` runs them on stable Rust
//! over the committed corpus and mutations of it.
//!
//! | file | what the bytes are | what is promised |
//! |---|---|---|
//! | [`frames`] | what follows a segment's header and state | no panic; frames are dense; opening ends, and again finds the same |
//! | [`header`] | a segment's header | refused, or the log opens |
//! | [`folder`] | a log's files, made with checksums that hold | as `frames`, and a refusal changes nothing |
//! | [`damage`] | changes to a log that was written whole | what is read is a prefix of what was written |
//! | [`records`] | a frame's payload | what decodes is encoded to the same value |
//! | [`documents`] | a schema and a change | an id and one line of JSON, or an error |
//! | [`gtids`] | a GTID set, as text or as stored | what is read prints and reads back the same |
//! | [`configuration`] | `everrelay.toml` | settings, or an error that names the file and no secret |
//! | [`cursor`] | a cursor as sled keeps it | read, written and read the same, or an error that says what to do |
//! | [`parked`] | a parked change, or its row, as sled keeps it | read and written again, or an error that says what to do |
//! | [`json`] | MySQL's binary JSON | JSON within the limit, or an error |
//! | [`diffs`] | a JSON document and its differences | JSON within the limit, or an error |
//! | [`rows`] | a table map and a rows event | what is decoded is a row of its schema, or a key that is owed |
//! | [`selected`] | a table map, an answer's columns and a row of it | a row of the schema, or an error |
//! | [`events`] | the events of a stream | frames that a log takes; a GTID counts with its commit, once |
//! | [`compressed`] | what MariaDB compresses | what was compressed, within a limit, or an error |
//! | [`payload`] | a transaction payload | its events, in bounded memory |
//! | [`statements`] | a QUERY event | a meaning, of followed tables alone |
//! | [`answers`] | a bulk's answer | done only what the answer says was done |
//!
//! [`format`] writes segments with a hand of its own, after docs/log-format.md; [`place`] opens and reads them.

pub mod answers;
pub mod compressed;
pub mod configuration;
pub mod cursor;
pub mod damage;
pub mod diffs;
pub mod documents;
pub mod events;
pub mod folder;
pub mod format;
pub mod frames;
pub mod gtids;
pub mod header;
pub mod json;
pub mod parked;
pub mod payload;
pub mod place;
pub mod records;
pub mod rows;
pub mod selected;
pub mod statements;
