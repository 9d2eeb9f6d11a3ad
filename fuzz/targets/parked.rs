//! A parked change as sled keeps it: the first byte says whether the rest is the change or its row.

use std::cell::OnceCell;

use everrelay::event::{Op, TableName, codec};
use everrelay::mapping::TableMapping;
use everrelay::settled::{Cursor, CursorStore, ParkedStep, Settled, SettledError};

use super::cursor::{store, unlocked};
use super::place::Place;

const NAME: &str = "elasticsearch";
const TREES: [&str; 2] = ["parked elasticsearch", "parked rows elasticsearch"];
const ID: &str = "7";

thread_local! {
    static FOLDER: OnceCell<Place> = const { OnceCell::new() };
}

pub fn run(input: &[u8]) {
    let Some((which, value)) = input.split_first() else { return };
    FOLDER.with(|folder| {
        let place = folder.get_or_init(|| {
            let place = Place::new();
            drop(Settled::open(place.path()).expect("an empty folder opens"));
            place
        });
        let table = TableName::new("shop", "t");
        let mut key = Vec::new();
        codec::encode(&table, &mut key);
        key.extend_from_slice(ID.as_bytes());
        let which = usize::from(which % 2);
        store(place, TREES[which], &key, Some(value));
        store(place, TREES[1 - which], &key, None);
        let settled = unlocked(|| match Settled::open(place.path()) {
            Err(SettledError::Locked { .. }) => None,
            opened => Some(opened.expect("a folder opens whatever is parked in it")),
        });
        let mut cursors = settled.cursor(NAME).expect("its trees open");
        let explained = |error: SettledError| match error {
            SettledError::Format { found, .. } => {
                assert_eq!(Some(found), value.first().map(|b| u32::from(*b)))
            }
            error => assert!(error.to_string().contains("start again"), "{error}"),
        };
        match cursors.parked() {
            Ok(parked) => {
                let again = parked.iter().map(|parked| ParkedStep::Again(Box::new(parked.clone())));
                // Under a key of its own it may be another one's.
                cursors.settle(&Cursor::default(), &again.collect::<Vec<_>>()).expect("it is kept");
                for parked in &parked {
                    assert!(cursors.parked().expect("it is read").contains(parked));
                    let gone = ParkedStep::Gone { table: parked.table.clone(), id: parked.id.clone() };
                    cursors.settle(&Cursor::default(), &[gone]).expect("it goes");
                }
            }
            Err(error) => explained(error),
        }
        match cursors.parked_row(&table, ID) {
            Ok(row) => {
                if let Some(row) = row
                    && let Ok(mapping) = TableMapping::new(&row.schema)
                {
                    let _ = mapping.document(Op::Read, codec::Row::new(&row.row), &mut Vec::new());
                }
            }
            Err(error) => explained(error),
        }
    });
}
