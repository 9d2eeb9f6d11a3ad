//! The table at hand: its chunks in order, from where it is cut to where it is appended.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::TableNo;
use crate::log::snapshot::Snapshot;

use super::chunk::{High, Rows};
use super::even::Spacing;
use super::subject::{Cut, Subject};
use super::touched::Opened;

/// What a chunk's rows take in the log, usually, bytes.
const TARGET: usize = 1 << 20;

/// Most rows of a chunk.
const MOST_ROWS: usize = 20_000;

/// Rows of the first chunk, if they are not known to be large.
const FIRST_ROWS: usize = 500;

/// A chunk.
#[derive(Debug)]
pub struct Piece {
    number: u64,
    /// Exclusive, and inclusive; `None`: the table's beginning, and its end.
    after: Option<Vec<u8>>,
    pub upto: Option<Vec<u8>>,
    pub state: State,
}

#[derive(Debug)]
pub enum State {
    Cut,
    Opened(Opened),
    Read(Opened, Rows),
}

/// How far a table is.
#[derive(Debug)]
pub struct Progress {
    pub subject: Arc<Subject>,
    pub version: TableNo,
    pieces: VecDeque<Piece>,
    /// Where the last chunk ends that was cut off.
    end: Option<Vec<u8>>,
    is_cutting: bool,
    /// It ends with the table.
    is_whole: bool,
    rows: usize,
    spacing: Spacing,
    next: u64,
}

/// A chunk's end that keys are to be walked over for: where it begins, and its rows.
pub type Walk = (Option<Vec<u8>>, usize);

impl Progress {
    /// Of a table that was read up to `after`.
    #[must_use]
    pub fn new(subject: Arc<Subject>, version: TableNo, after: Option<Vec<u8>>) -> Progress {
        let row_bytes = usize::try_from(subject.row_bytes.max(1)).unwrap_or(usize::MAX);
        let rows = (TARGET / row_bytes).clamp(1, FIRST_ROWS);
        Progress {
            spacing: Spacing::up_to(subject.last),
            subject,
            version,
            pieces: VecDeque::new(),
            end: after,
            is_cutting: false,
            is_whole: false,
            rows,
            next: 0,
        }
    }

    /// Chunks in the making are given up: it goes on behind `after`.
    pub fn go_back(&mut self, after: Option<Vec<u8>>, smaller: bool) {
        self.pieces.clear();
        (self.end, self.is_cutting, self.is_whole) = (after, false, false);
        if smaller {
            self.spacing.forget();
            self.rows = (self.rows / 4).max(1);
        }
    }

    /// Rows of the next chunk.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    #[must_use]
    pub fn is_smallest(&self) -> bool {
        self.rows == 1
    }

    /// Cuts chunks off, a few ahead, while it can be computed where they end; what is to be walked over for the next, if that is so.
    pub fn begin_cut(&mut self, connections: usize) -> Option<Walk> {
        while !self.is_cutting && !self.is_whole && self.pieces.len() <= connections {
            match self.even_end() {
                Some(place) => self.cut(Cut::At(place)),
                None => {
                    self.is_cutting = true;
                    return Some((self.end.clone(), self.rows));
                }
            }
        }
        None
    }

    /// Where the next chunk ends, if keys lie evenly.
    fn even_end(&self) -> Option<Vec<u8>> {
        let order = &self.subject.order;
        order.at(self.spacing.end_behind(order.integer(self.end.as_ref()?)?, self.rows)?)
    }

    pub fn cut(&mut self, cut: Cut) {
        let upto = match cut {
            Cut::At(place) => Some(place),
            Cut::End => None,
        };
        (self.is_cutting, self.is_whole) = (false, upto.is_none());
        let after = std::mem::replace(&mut self.end, upto.clone());
        self.pieces.push_back(Piece { number: self.next, after, upto, state: State::Cut });
        self.next += 1;
    }

    /// Whether a chunk is to be read, of which so many may be at a time.
    #[must_use]
    pub fn may_read(&self, connections: usize) -> bool {
        let under_way = self.pieces.iter().filter(|piece| matches!(piece.state, State::Opened(_))).count();
        under_way < connections && self.pieces.iter().any(|piece| matches!(piece.state, State::Cut))
    }

    /// The first chunk that is not read yet, which is read from now on: its number and condition. `None` in the second: its places are
    /// none any more.
    pub fn begin_read(&mut self, opened: Opened, filter: Option<&str>) -> Option<(u64, Option<String>)> {
        let piece = self.pieces.iter_mut().find(|piece| matches!(piece.state, State::Cut))?;
        piece.state = State::Opened(opened);
        let condition = self.subject.order.condition(piece.after.as_deref(), piece.upto.as_deref(), filter);
        Some((piece.number, condition))
    }

    /// A chunk's rows have come. What they took says how many the next has.
    pub fn read(&mut self, number: u64, rows: Rows) {
        if let Some(average) = rows.bytes.len().checked_div(rows.ends.len()) {
            let fit = (TARGET / average.max(1)).clamp(1, MOST_ROWS);
            self.rows = fit.min(self.rows.saturating_mul(4));
        }
        let Some(piece) = self.pieces.iter_mut().find(|piece| piece.number == number) else { return };
        let ends = [&piece.after, &piece.upto].map(|end| self.subject.order.integer(end.as_ref()?));
        if let [Some(after), Some(upto)] = ends {
            self.spacing.saw(after, upto, rows.ends.len());
        }
        if let State::Opened(opened) = piece.state {
            piece.state = State::Read(opened, rows);
        }
    }

    /// Takes out the next chunk in order, if its rows have come and `has_passed` its *high*.
    pub fn take_due(&mut self, has_passed: impl Fn(&High) -> bool) -> Option<Piece> {
        let due = matches!(&self.pieces.front()?.state, State::Read(_, rows) if has_passed(&rows.high));
        if due { self.pieces.pop_front() } else { None }
    }
}

/// How far a snapshot is read, as the log has it.
#[must_use]
pub fn reached(snapshot: &Snapshot) -> Option<Vec<u8>> {
    snapshot.begun.as_ref()?.ranges.first()?.after.clone()
}
