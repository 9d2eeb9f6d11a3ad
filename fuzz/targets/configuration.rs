//! The configuration file.

use everrelay::config;

const PATH: &str = "everrelay.toml";

/// A secret in the wrong place: no error may show it.
pub const CANARY: &str = "canary-7f3a";

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // What stands where a key or a section should is shown: only a value can be a secret.
    let is_name = |line: &str| match line.split_once('=') {
        Some((key, _)) => key.contains(CANARY),
        None => line.trim_start().starts_with('[') && line.contains(CANARY),
    };
    if text.lines().any(is_name) {
        return;
    }
    // A device would be read as the file that the configuration says it is.
    if text.contains("/dev") || text.contains("/proc") {
        return;
    }
    if let Err(error) = config::parse(text, PATH) {
        let words = error.to_string();
        assert!(words.contains(PATH), "{words} names no file");
        assert!(!words.contains(CANARY) && !format!("{error:?}").contains(CANARY), "{words} shows a secret");
    }
}
