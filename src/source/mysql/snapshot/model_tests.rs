//! A chunk's steps and the stream's, in every order, over two keys.
//!
//! The server writes transactions to its binlog one after the other, and shows each some time after. The stream reads them from the binlog. A chunk is opened, selected and
//! appended at any time that the rules allow. Whatever the order, the log's last word on each key must be what the table has in the end.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::touched::{Opened, Touched};

/// Which of the rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rules {
    /// The SELECT waits until what the log held at the opening is shown.
    low: bool,
    /// The chunk waits until the stream has passed where the binlog ended after the SELECT.
    high: bool,
    /// Keys touched up to the appending count, not only those up to *high*.
    up_to_appending: bool,
    /// Keys touched since the opening count, not only those since the SELECT.
    since_opening: bool,
}

const ALL: Rules = Rules { low: true, high: true, up_to_appending: true, since_opening: true };

/// What a transaction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Change {
    /// The row with this key is there from now on, or another.
    Put(u8),
    Delete(u8),
    /// The row of the first key gets the second.
    Rekey(u8, u8),
}

const CHANGES: [Change; 5] =
    [Change::Put(1), Change::Put(2), Change::Delete(1), Change::Rekey(1, 2), Change::Rekey(2, 1)];

/// Rows by key; a row is the number of the transaction that wrote it, 0 for those of before.
type Table = BTreeMap<u8, usize>;

/// Applies transaction `number`; hands each key that it touches to `touch`, with its row if there is one.
fn apply(change: Change, number: usize, table: &mut Table, mut touch: impl FnMut(u8, Option<usize>)) {
    match change {
        Change::Put(key) => {
            table.insert(key, number);
            touch(key, Some(number));
        }
        Change::Delete(key) => {
            if table.remove(&key).is_some() {
                touch(key, None);
            }
        }
        Change::Rekey(from, to) => {
            if table.contains_key(&from) && !table.contains_key(&to) {
                table.remove(&from);
                table.insert(to, number);
                touch(from, None);
                touch(to, Some(number));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Chunk {
    Closed,
    Opened { opened: Opened, low: usize },
    Selected { opened: Opened, rows: Table, high: usize, at_high: Option<BTreeSet<u8>> },
    Appended,
}

/// The world at one moment.
#[derive(Clone)]
struct World<'a> {
    rules: Rules,
    changes: &'a [Change],
    /// How many transactions are in the binlog, shown, and read.
    written: usize,
    shown: usize,
    read: usize,
    shows: Table,
    /// The table as of what the stream has read.
    follows: Table,
    log: BTreeMap<u8, Option<usize>>,
    touched: Touched,
    chunk: Chunk,
}

impl World<'_> {
    /// Goes on in every way; true if `wrong` is at any moment. `seen`: what needs no second look.
    fn any_is(&self, wrong: fn(&World<'_>) -> bool, seen: &mut HashSet<String>) -> bool {
        let touched = |opened| [1, 2].map(|key| self.touched.since(opened, &[key]));
        let touched = match &self.chunk {
            Chunk::Opened { opened, .. } | Chunk::Selected { opened, .. } => touched(*opened),
            _ => [false; 2],
        };
        let World { written, shown, read, log, chunk, .. } = self;
        if !seen.insert(format!("{written} {shown} {read} {log:?} {chunk:?} {touched:?}")) {
            return false;
        }
        let steps = [World::write, World::show, World::stream, World::open, World::select, World::append];
        wrong(self)
            || steps.into_iter().any(|step| {
                let mut next = self.clone();
                step(&mut next) && next.any_is(wrong, seen)
            })
    }

    fn write(&mut self) -> bool {
        let can = self.written < self.changes.len();
        self.written += usize::from(can);
        can
    }

    fn show(&mut self) -> bool {
        let can = self.shown < self.written;
        if can {
            apply(self.changes[self.shown], self.shown + 1, &mut self.shows, |_, _| {});
            self.shown += 1;
        }
        can
    }

    fn stream(&mut self) -> bool {
        let can = self.read < self.written;
        if can {
            let World { log, touched, follows, .. } = self;
            apply(self.changes[self.read], self.read + 1, follows, |key, row| {
                log.insert(key, row);
                touched.touch(&[key]);
            });
            self.read += 1;
            self.note_high();
        }
        can
    }

    /// What had been touched when *high* was passed.
    fn note_high(&mut self) {
        if let Chunk::Selected { opened, high, at_high, .. } = &mut self.chunk
            && self.read >= *high
        {
            let touched = [1, 2].into_iter().filter(|key| self.touched.since(*opened, &[*key]));
            at_high.get_or_insert_with(|| touched.collect());
        }
    }

    fn open(&mut self) -> bool {
        let can = matches!(self.chunk, Chunk::Closed);
        if can {
            self.chunk = Chunk::Opened { opened: self.touched.open(), low: self.read };
        }
        can
    }

    fn select(&mut self) -> bool {
        let Chunk::Opened { opened, low } = self.chunk else { return false };
        let can = !self.rules.low || self.shown >= low;
        if can {
            let opened = if self.rules.since_opening { opened } else { self.touched.open() };
            self.chunk =
                Chunk::Selected { opened, rows: self.shows.clone(), high: self.written, at_high: None };
            self.note_high();
        }
        can
    }

    fn append(&mut self) -> bool {
        let Chunk::Selected { opened, rows, at_high, .. } = self.chunk.clone() else { return false };
        if self.rules.high && at_high.is_none() {
            return false;
        }
        for (key, row) in rows {
            let touched = match &at_high {
                Some(at_high) if !self.rules.up_to_appending => at_high.contains(&key),
                _ => self.touched.since(opened, &[key]),
            };
            if !touched {
                self.log.insert(key, Some(row));
            }
        }
        self.touched.close(opened);
        self.chunk = Chunk::Appended;
        true
    }
}

/// All is over, and the log's last word on a key is not what the table has.
fn is_stale(world: &World<'_>) -> bool {
    let World { changes, read, shown, chunk, log, shows, .. } = world;
    let over = matches!(chunk, Chunk::Appended) && [*read, *shown] == [changes.len(); 2];
    let wrong = |key: u8| log.get(&key).copied().flatten() != shows.get(&key).copied();
    over && [1, 2].into_iter().any(wrong)
}

/// The log has a row of a transaction that the stream has not come to.
fn is_early(world: &World<'_>) -> bool {
    world.log.values().flatten().any(|row| *row > world.read)
}

/// Any `count` changes of which some order is `wrong`, where `before` are the rows of the table at first.
fn found(rules: Rules, count: u32, before: &[u8], wrong: fn(&World<'_>) -> bool) -> Option<Vec<Change>> {
    let scripts = (0..CHANGES.len().pow(count)).map(|number| {
        (0..count).map(|place| CHANGES[number / CHANGES.len().pow(place) % CHANGES.len()]).collect::<Vec<_>>()
    });
    let before: Table = before.iter().map(|key| (*key, 0)).collect();
    scripts.into_iter().find(|changes| {
        let world = World {
            rules,
            changes,
            written: 0,
            shown: 0,
            read: 0,
            shows: before.clone(),
            follows: before.clone(),
            log: BTreeMap::new(),
            touched: Touched::default(),
            chunk: Chunk::Closed,
        };
        world.any_is(wrong, &mut HashSet::new())
    })
}

#[test]
fn no_order_of_a_chunks_steps_and_the_streams_leaves_a_stale_row_or_an_early_one() {
    for before in [&[][..], &[1], &[1, 2]] {
        for count in 0..=3 {
            assert_eq!(found(ALL, count, before, is_stale), None, "{before:?}");
            assert_eq!(found(ALL, count, before, is_early), None, "{before:?}");
        }
    }
}

#[test]
fn without_any_one_of_the_rules_some_order_leaves_one() {
    let finds = |rules, wrong| (1..=2).any(|count| found(rules, count, &[1], wrong).is_some());
    for rules in [
        Rules { low: false, ..ALL },
        Rules { up_to_appending: false, ..ALL },
        Rules { since_opening: false, ..ALL },
    ] {
        assert!(finds(rules, is_stale), "{rules:?}");
    }
    // What comes later mends it, unless another server takes over and lacks it.
    assert!(finds(Rules { high: false, ..ALL }, is_early));
}
