#![no_main]

#[path = "../targets/mod.rs"]
#[allow(dead_code, reason = "each of the fuzzer's programs runs one target")]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::parked::run(bytes));
