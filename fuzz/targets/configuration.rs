//! The configuration file.

use everrelay::config;

const PATH: &str = "everrelay.toml";

/// A secret in the wrong place: no error may show it.
pub const CANARY: &str = "canary-7f3a";

/// Where people write secrets, rightly or not.
const SECRET_KEYS: [&str; 6] = ["url", "password", "api_key", "password_env", "api_key_env", "max_row_bytes"];

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Elsewhere a secret is none: names, patterns and paths are shown, so that they can be found.
    let is_secret =
        |line: &str| line.split_once('=').is_some_and(|(key, _)| SECRET_KEYS.contains(&key.trim()));
    if !text.lines().filter(|line| line.contains(CANARY)).all(is_secret) {
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
