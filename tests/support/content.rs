//! Random values, as awkward as real ones.
//!
//! JSON keeps one type a path, and no text that looks like a date: the engine maps the first value of a path that it meets
//! and refuses what does not fit later, which is not what the shop is to show.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::json;

use super::mysql::quoted;

const WORDS: &[&str] = &[
    "amber",
    "Brücke",
    "café",
    "dawn",
    "Ελλάδα",
    "forêt",
    "garden",
    "Привет",
    "ink",
    "日本語",
    "kettle",
    "lämpö",
    "중국",
    "नमस्ते",
    "o'clock",
    "\"quoted\"",
    "back\\slash",
    "tab\there",
    "line\nbreak",
    "مرحبا",
    "null",
    "0",
    "-1e5",
    "{}",
    "<b>",
    "\u{2028}",
    "e\u{301}",
    "ﬃ",
    "𝕫",
    "\u{10ffff}",
];

const EMOJI: &[&str] = &["🚚", "📦", "😀", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "☕", "🫠", "✅", "❤️"];

const COUNTRIES: &[&str] = &["DE", "FR", "JP", "BR", "IN", "US", "KE", "NO"];
const INTERESTS: &[&str] = &["books", "music", "games", "garden", "travel"];
pub const STATUSES: &[&str] = &["new", "paid", "packed", "shipped", "returned"];
pub const KINDS: &[&str] = &["book", "record", "game", "tool", "groß"];

/// A handful of words, some with an emoji; sometimes empty.
pub fn phrase(rng: &mut StdRng, most_words: usize) -> String {
    let count = rng.random_range(0..=most_words);
    let mut words: Vec<&str> = (0..count).map(|_| pick(rng, WORDS)).collect();
    if rng.random_bool(0.3) {
        words.push(pick(rng, EMOJI));
    }
    words.join(" ")
}

pub fn pick<'a>(rng: &mut StdRng, from: &[&'a str]) -> &'a str {
    from.choose(rng).expect("the lists above are not empty")
}

/// `NULL` now and then, else the value.
fn nullable(rng: &mut StdRng, value: String) -> String {
    if rng.random_bool(0.15) { "NULL".to_owned() } else { value }
}

pub fn money(rng: &mut StdRng, most: u64) -> String {
    let cents = rng.random_range(0..most * 100);
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn date(rng: &mut StdRng) -> String {
    let (year, month, day) =
        (rng.random_range(1900..2038), rng.random_range(1..=12), rng.random_range(1..=28));
    format!("{year:04}-{month:02}-{day:02}")
}

/// A literal with milliseconds; no time zone.
pub fn moment(rng: &mut StdRng) -> String {
    let (hour, minute, second) = (rng.random_range(0..24), rng.random_range(0..60), rng.random_range(0..60));
    format!("'{} {hour:02}:{minute:02}:{second:02}.{:03}'", date(rng), rng.random_range(0..1000))
}

/// Within TIMESTAMP's range, six digits.
fn instant(rng: &mut StdRng) -> String {
    let (seconds, micros) = (rng.random_range(1..2_147_483_647u64), rng.random_range(0..1_000_000));
    format!("FROM_UNIXTIME({seconds}.{micros:06})")
}

pub fn profile(rng: &mut StdRng) -> String {
    let tags: Vec<&str> = (0..rng.random_range(0..4)).map(|_| pick(rng, WORDS)).collect();
    let profile = json!({
        "tier": pick(rng, &["bronze", "silver", "gold 🥇"]),
        "visits": rng.random_range(-5_000_000_000i64..5_000_000_000),
        "score": f64::from(rng.random_range(-100_000..100_000)) / 8.0,
        "vip": rng.random_bool(0.5),
        "tags": tags,
        "address": {"city": phrase(rng, 2), "zip": format!("z{:05}", rng.random_range(0..99_999))},
        "friend": if rng.random_bool(0.5) { None } else { Some(rng.random_range(0..1_000_000)) },
        "nothing": [], "empty": {},
    });
    quoted(&profile.to_string())
}

/// The values of a row of customers after its id.
pub fn customer(rng: &mut StdRng) -> String {
    let interests: Vec<&str> = INTERESTS.iter().copied().filter(|_| rng.random_bool(0.4)).collect();
    let (name, email) = (phrase(rng, 3), format!("{}@example.org", rng.random_range(0..1_000_000_000)));
    let (notes, born, discount) =
        (quoted(&phrase(rng, 30)), format!("'{}'", date(rng)), format!("{:.3}", rng.random_range(-9.0..9.0)));
    format!(
        "{},{},{},{},{},{},{},{},{},{}",
        quoted(&email),
        quoted(&name),
        quoted(pick(rng, COUNTRIES)),
        quoted(&interests.join(",")),
        money(rng, 1_000_000),
        nullable(rng, discount),
        nullable_profile(rng),
        nullable(rng, notes),
        nullable(rng, born),
        moment(rng),
    )
}

fn nullable_profile(rng: &mut StdRng) -> String {
    let profile = profile(rng);
    nullable(rng, profile)
}

/// The values of a row of products after its sku.
pub fn product(rng: &mut StdRng) -> String {
    let barcode: Vec<String> =
        (0..rng.random_range(1..=8)).map(|_| format!("{:02x}", rng.random::<u8>())).collect();
    let weight = format!("{:e}", rng.random_range(-1e6..1e6f64));
    let rating = format!("{}", rng.random_range(0.0..5.0f32));
    format!(
        "{},{},{},{},{},{},{},X'{}',{},{},{}",
        quoted(&phrase(rng, 8)),
        money(rng, 10_000),
        nullable(rng, weight),
        nullable(rng, rating),
        rng.random_range(-100..10_000),
        quoted(pick(rng, KINDS)),
        nullable_profile(rng),
        barcode.concat(),
        rng.random_range(1901..2155),
        rng.random_range(0..2),
        instant(rng),
    )
}

/// The values of a row of orders after its id.
pub fn order(rng: &mut StdRng, customer: u64) -> String {
    let note = quoted(&phrase(rng, 12));
    format!(
        "{customer},{},{},{},{},{}",
        quoted(pick(rng, STATUSES)),
        money(rng, 100_000),
        nullable(rng, note),
        nullable_profile(rng),
        moment(rng),
    )
}

/// The values of a row of order_items after its key.
pub fn item(rng: &mut StdRng, sku: &str) -> String {
    let packed_in = format!(
        "'{}{:02}:{:02}:{:02}.{:02}'",
        if rng.random_bool(0.2) { "-" } else { "" },
        rng.random_range(0..300),
        rng.random_range(0..60),
        rng.random_range(0..60),
        rng.random_range(0..100)
    );
    format!(
        "{},{},{},{}",
        quoted(sku),
        rng.random_range(0..u32::MAX),
        money(rng, 1000),
        nullable(rng, packed_in)
    )
}
