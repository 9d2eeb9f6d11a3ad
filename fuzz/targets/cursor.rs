//! A cursor as sled keeps it.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use everrelay::settled::{CursorStore, Settled, SettledError};

use super::place::Place;

const NAME: &str = "elasticsearch";

thread_local! {
    /// A folder with a format and an id: making one anew would take longer than all the rest.
    static FOLDER: OnceCell<Place> = const { OnceCell::new() };
}

pub fn run(input: &[u8]) {
    FOLDER.with(|folder| {
        let place = folder.get_or_init(|| {
            let place = Place::new();
            drop(Settled::open(place.path()).expect("an empty folder opens"));
            place
        });
        store(place, "cursors", NAME.as_bytes(), Some(input));
        let settled = unlocked(|| match Settled::open(place.path()) {
            Err(SettledError::Locked { .. }) => None,
            opened => Some(opened.expect("a folder opens whatever its cursors hold")),
        });
        let mut cursors = settled.cursor(NAME).expect("its tree opens");
        match cursors.load() {
            Ok(cursor) => {
                let cursor = cursor.expect("it was stored");
                cursors.commit(&cursor).expect("it is committed");
                assert_eq!(cursors.load().expect("it is read"), Some(cursor));
            }
            Err(SettledError::Format { found, .. }) => {
                assert_eq!(Some(found), input.first().map(|b| u32::from(*b)))
            }
            Err(error) => assert!(error.to_string().contains("start again"), "{error}"),
        }
    });
}

/// Puts `value` into one of sled's trees, past the code that writes them; `None`: nothing is there.
pub fn store(place: &Place, tree: &str, key: &[u8], value: Option<&[u8]>) {
    let config = sled::Config::new().path(place.path()).cache_capacity(1 << 20).flush_every_ms(None);
    let db = unlocked(|| match config.open() {
        Err(sled::Error::Io(error)) if error.to_string().contains("lock") => None,
        opened => Some(opened.expect("sled opens")),
    });
    let tree = db.open_tree(tree).expect("sled opens a tree");
    match value {
        Some(value) => tree.insert(key, value),
        None => tree.remove(key),
    }
    .expect("sled stores");
}

/// sled's own threads may hold a folder's lock for a moment after it was closed.
pub fn unlocked<T>(mut open: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(opened) = open() {
            return opened;
        }
        assert!(Instant::now() < deadline, "the lock is not given back");
        std::thread::yield_now();
    }
}
