//! The fuzz targets on stable Rust: over their committed corpora, and over as many mutations of them as there is time for.
//!
//! `EVERRELAY_FUZZ_SECONDS` is the time a target has for mutations (2). Each mutated input comes from a seed of its own, the next from
//! the next; what fails prints its seed and is kept beside, to be added to `fuzz/corpus/` with the mending.
//! `cargo test --test fuzz_corpora -- --ignored` makes the corpora anew ([`seeds`]).

mod allocation;
mod mariadb_seeds;
mod mutate;
mod seeds;
mod snapshot_seeds;
mod stream_seeds;
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;

#[global_allocator]
static ALLOCATOR: allocation::Counting = allocation::Counting;

/// No input takes longer, on a busy machine and without optimisation.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a target keeps for itself: folders' contents, what it read, what it encoded again.
const OWN: usize = 8 << 20;

/// What the log's decoding of one payload may take (`record::DECODE_LIMIT`).
const PAYLOAD: usize = 64 << 20;

struct Target {
    name: &'static str,
    run: fn(&[u8]),
    /// The most memory that an input may take, bytes.
    most_bytes: usize,
}

/// Declares a test for each target.
macro_rules! targets {
    ($($test:ident: $target:ident within $most:expr;)*) => {$(
        #[test]
        fn $test() {
            fuzz(Target { name: stringify!($target), run: targets::$target::run, most_bytes: $most }, stringify!($test));
        }
    )*};
}

targets! {
    any_frames_are_read_or_refused: frames within PAYLOAD + OWN;
    any_header_is_read_or_refused: header within OWN;
    any_folder_is_opened_or_refused_and_opens_alike_again: folder within PAYLOAD + OWN;
    a_damaged_log_gives_what_was_written_or_less: damage within OWN;
    any_payload_is_decoded_to_what_encodes_it: records within PAYLOAD + OWN;
    any_row_becomes_a_document_or_an_error: documents within PAYLOAD + OWN;
    any_gtid_set_is_read_as_it_prints: gtids within PAYLOAD + OWN;
    any_configuration_is_taken_or_explained: configuration within PAYLOAD + OWN;
    any_stored_cursor_is_read_or_explained: cursor within PAYLOAD + OWN;
    anything_parked_is_read_or_explained: parked within PAYLOAD + OWN;
    any_binary_json_is_json_or_refused: json within OWN;
    any_differences_leave_json_or_are_refused: diffs within OWN;
    any_rows_event_is_rows_or_refused: rows within OWN;
    any_selected_row_is_a_row_or_refused: selected within OWN;
    any_stream_of_events_is_frames_or_refused: events within OWN;
    any_transaction_payload_is_events_or_refused: payload within PAYLOAD + OWN;
    anything_compressed_is_inflated_within_its_limit_or_refused: compressed within OWN;
    any_answer_proves_no_more_than_it_says: answers within OWN;
    any_statement_means_the_same_whatever_space_stands_before_it: statements within OWN;
}

fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// The inputs of a corpus with their names, in order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus_folder(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    inputs.sort();
    assert!(inputs.len() > 1, "{} holds no corpus", folder.display());
    inputs
}

fn fuzz(target: Target, test: &'static str) {
    let seconds = number("EVERRELAY_FUZZ_SECONDS").unwrap_or(2);
    let first = number("EVERRELAY_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    println!("seed {first}: EVERRELAY_TEST_SEED={first} cargo test --test fuzz_corpora {test}");
    let (starts, started) = channel();
    let name = target.name;
    let worker = std::thread::spawn(move || {
        work(&target, test, first, Instant::now() + Duration::from_secs(seconds), &starts)
    });
    let mut last = String::from("nothing");
    loop {
        match started.recv_timeout(PATIENCE) {
            Ok(what) => last = what,
            Err(RecvTimeoutError::Timeout) => panic!("{name}: {last} has not ended after {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    match worker.join() {
        Ok(runs) => println!("{name}: {runs} inputs in {seconds} s"),
        // What went wrong is said already.
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Runs the corpus, then mutations until the time is over; returns how many inputs there were.
fn work(target: &Target, test: &str, first: u64, until: Instant, starts: &Sender<String>) -> u64 {
    let start = |what: String| starts.send(what).expect("the test waits for its worker");
    let mut inputs = Vec::new();
    for (name, input) in corpus(target.name) {
        let file = format!("fuzz/corpus/{}/{name}", target.name);
        start(file.clone());
        run(target, &input).unwrap_or_else(|why| panic!("{file}: {why}"));
        inputs.push(input);
    }
    let mut seed = first;
    while Instant::now() < until {
        let replay = format!("EVERRELAY_TEST_SEED={seed} cargo test --test fuzz_corpora {test}");
        start(replay.clone());
        let input = mutate::input(&inputs, &mut StdRng::seed_from_u64(seed));
        run(target, &input)
            .unwrap_or_else(|why| panic!("{why}\n{}\nto replay: {replay}", keep(target.name, seed, &input)));
        seed = seed.wrapping_add(1);
    }
    inputs.len() as u64 + seed.wrapping_sub(first)
}

fn run(target: &Target, input: &[u8]) -> Result<(), String> {
    let mut outcome = Ok(());
    let most = allocation::most_during(|| outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    outcome.map_err(|_| "a promise was broken, see above".to_owned())?;
    let allowed = target.most_bytes + 32 * input.len();
    if most > allowed { Err(format!("took {most} bytes of memory, {allowed} are allowed")) } else { Ok(()) }
}

/// Keeps an input that failed; says where.
fn keep(target: &str, seed: u64, input: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{target}-{seed}"));
    match std::fs::write(&path, input) {
        Ok(()) => format!("kept in {}: add it to fuzz/corpus/{target}", path.display()),
        Err(error) => format!("could not be kept in {}: {error}", path.display()),
    }
}

#[test]
fn the_corpora_hold_what_is_made_for_them() {
    for (target, inputs) in seeds::all() {
        let made: Vec<Vec<u8>> = corpus(target)
            .into_iter()
            .filter(|(name, _)| name.starts_with("made-"))
            .map(|(_, input)| input)
            .collect();
        assert!(made == inputs, "{target}: make the corpora anew");
    }
}

#[test]
#[ignore = "writes fuzz/corpus; what a fuzzer found there stays"]
fn the_corpora_are_made() {
    for (target, inputs) in seeds::all() {
        let folder = corpus_folder(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (n, input) in inputs.iter().enumerate() {
            std::fs::write(folder.join(format!("made-{n:02}")), input).unwrap();
        }
    }
}
