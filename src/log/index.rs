//! Where frames stand: a sparse index in memory, so that who begins inside a segment does not read it from its start.
//!
//! # Constraints
//!
//! - Every point is a frame's start, and of a segment in which there are points, every schema frame below the last of them is known:
//!   a reader hands those out before the frame that it was asked for.
//! - It may know less than the log holds, never anything else: what it does not know is found by reading, and then known.
//! - Its memory has a bound, [`MOST_BYTES`] and what one segment may have, however many segments and tables there are: a point
//!   takes 16 bytes, a full segment of 128 MiB has 63 of them, and the segments used longest ago are forgotten.
//! - It may know what is not visible yet, and [`Index::stops`] does not hand that out. What is cut is forgotten before its places are
//!   written again.
//!
//! # Operation
//!
//! Whoever passes frames in order, the writer and every reader, leaves a [`Trail`]: it tells each schema frame, and one frame in
//! [`SPACING`] bytes. Between two tellings nothing is locked. A trail says since where it has left no schema untold, and
//! is believed only where that meets what is known already.

use std::collections::HashMap;
use std::sync::Mutex;

use super::Location;
use super::record::Kind;
use super::segment::SEGMENT_HEADER;
use super::shared::lock;
use crate::event::Seq;

/// Least distance between two points, bytes; small in unit tests, so that every reader there meets some.
pub const SPACING: u64 = if cfg!(test) { 200 } else { 2 << 20 };

/// Points of one segment. At more, every second one goes, and their distance doubles.
const MOST_POINTS: usize = if cfg!(test) { 16 } else { 1024 };

/// Schema frames of one segment that are kept; what lies behind so many is found by reading.
const MOST_SCHEMAS: usize = if cfg!(test) { 16 } else { 1 << 14 };

/// All segments together, bytes; the segment told of last may go over it by what one segment may have.
pub const MOST_BYTES: usize = if cfg!(test) { 16 << 10 } else { 4 << 20 };

/// Where a frame begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub seq: Seq,
    /// In the segment's file, bytes.
    pub offset: u64,
}

/// What is known of all segments.
#[derive(Debug, Default)]
pub struct Index {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    segments: HashMap<Seq, Sketch>,
    bytes: usize,
    /// Rises with every use: the lowest was used longest ago.
    uses: u64,
}

/// What is known of one segment.
#[derive(Debug)]
struct Sketch {
    /// Every schema frame that begins below is in `schemas`.
    upto: u64,
    spacing: u64,
    /// In order, none above `upto`.
    points: Vec<Point>,
    schemas: Vec<Point>,
    used: u64,
}

impl Sketch {
    fn new() -> Sketch {
        let (points, schemas) = (Vec::new(), Vec::new());
        Sketch { upto: SEGMENT_HEADER, spacing: SPACING, points, schemas, used: 0 }
    }

    /// Its entry in the map counts twice: a map has room to spare.
    fn bytes(&self) -> usize {
        2 * size_of::<(Seq, Sketch)>()
            + (self.points.capacity() + self.schemas.capacity()) * size_of::<Point>()
    }

    fn note(&mut self, since: u64, at: Point, kind: Kind) {
        // Known already, or between what is known and what was passed lies what nobody has looked at.
        if at.offset < self.upto || since > self.upto {
            return;
        }
        if kind == Kind::Schema && self.schemas.last().is_none_or(|last| last.offset < at.offset) {
            if self.schemas.len() == MOST_SCHEMAS {
                return;
            }
            self.schemas.push(at);
        }
        self.upto = at.offset;
        let last = self.points.last().map_or(SEGMENT_HEADER, |last| last.offset);
        if at.offset - last < self.spacing {
            return;
        }
        if self.points.len() == MOST_POINTS {
            let mut second = true;
            self.points.retain(|_| {
                second = !second;
                second
            });
            self.spacing = self.spacing.saturating_mul(2);
        }
        self.points.push(at);
    }

    fn cut(&mut self, offset: u64) {
        self.upto = self.upto.min(offset);
        self.points.retain(|point| point.offset <= offset);
        self.schemas.retain(|schema| schema.offset < offset);
    }
}

impl Known {
    /// Takes in what `change` does to the segment's sketch, which is begun if it is missing, and keeps to [`MOST_BYTES`].
    fn change(&mut self, segment: Seq, change: impl FnOnce(&mut Sketch)) {
        self.uses += 1;
        let before = self.segments.get(&segment).map_or(0, Sketch::bytes);
        let sketch = self.segments.entry(segment).or_insert_with(Sketch::new);
        change(sketch);
        sketch.used = self.uses;
        self.bytes = self.bytes - before + sketch.bytes();
        while self.bytes > MOST_BYTES {
            let others = self.segments.iter().filter(|(first, _)| **first != segment);
            let Some((&oldest, _)) = others.min_by_key(|(_, sketch)| sketch.used) else { break };
            self.forget(oldest);
        }
    }

    fn forget(&mut self, segment: Seq) {
        self.bytes -= self.segments.remove(&segment).map_or(0, |sketch| sketch.bytes());
    }
}

impl Index {
    /// Where to go for the frame `from` of a segment, reading nothing at or above `limit`: the schema frames before the place to read
    /// on from, and then that place, **last stop first**. Empty where nothing better is known than the segment's start.
    pub fn stops(&self, segment: Seq, from: Seq, limit: u64) -> Vec<Point> {
        let mut known = lock(&self.known);
        known.uses += 1;
        let used = known.uses;
        let Some(sketch) = known.segments.get_mut(&segment) else { return Vec::new() };
        sketch.used = used;
        let below = sketch.points.partition_point(|point| point.seq <= from && point.offset <= limit);
        let Some(start) = below.checked_sub(1).map(|i| sketch.points[i]) else { return Vec::new() };
        let schemas = sketch.schemas.partition_point(|schema| schema.offset < start.offset);
        [start].into_iter().chain(sketch.schemas[..schemas].iter().rev().copied()).collect()
    }

    /// Forgets a segment.
    pub fn forget(&self, segment: Seq) {
        lock(&self.known).forget(segment);
    }

    #[cfg(test)]
    pub fn bytes(&self) -> usize {
        let known = lock(&self.known);
        assert_eq!(known.bytes, known.segments.values().map(Sketch::bytes).sum::<usize>());
        known.bytes
    }

    #[cfg(test)]
    pub fn segments(&self) -> Vec<Seq> {
        let mut segments: Vec<_> = lock(&self.known).segments.keys().copied().collect();
        segments.sort();
        segments
    }
}

/// The way of somebody who passes the frames of one segment in order.
#[derive(Clone, Copy, Debug)]
pub struct Trail {
    segment: Seq,
    /// Every schema frame passed since this offset was told.
    since: u64,
    /// The first frame at or above this offset is told.
    due: u64,
}

impl Trail {
    /// From the start of a segment.
    pub fn new(segment: Seq) -> Trail {
        Trail::from(segment, SEGMENT_HEADER)
    }

    /// From a frame's start inside a segment.
    pub fn from(segment: Seq, offset: u64) -> Trail {
        Trail { segment, since: offset, due: offset.saturating_add(SPACING) }
    }

    pub fn segment(&self) -> Seq {
        self.segment
    }

    /// Whether the frame of this kind at `offset` is to be told: asked of every frame.
    #[inline]
    pub fn is_due(&self, kind: Kind, offset: u64) -> bool {
        offset >= self.due || kind == Kind::Schema
    }

    /// Tells the index that the frame `at` was come to. The segment must be one that the log has.
    pub fn tell(&mut self, index: &Index, kind: Kind, at: Point) {
        lock(&index.known).change(self.segment, |sketch| sketch.note(self.since, at, kind));
        *self = Trail::from(self.segment, at.offset);
    }

    /// The log was cut to `end`: nothing behind it is known any more, and the trail goes on from there.
    pub fn cut(&mut self, index: &Index, end: Location) {
        if let Some(known) = lock(&index.known).segments.get_mut(&end.segment) {
            known.cut(end.offset);
        }
        // A trail in an earlier segment ended there: this one begins anew, and is believed if all up to here was told.
        let since = if self.segment == end.segment { self.since.min(end.offset) } else { end.offset };
        *self = Trail::from(end.segment, since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Seq = Seq(1);

    fn point(offset: u64) -> Point {
        Point { seq: Seq(offset), offset }
    }

    fn offsets(stops: &[Point]) -> Vec<u64> {
        stops.iter().map(|stop| stop.offset).collect()
    }

    /// Passes a segment's frames of 50 bytes each from `from` to `to`, with schemas where it says.
    fn pass(index: &Index, trail: &mut Trail, frames: impl Iterator<Item = u64>, schemas: &[u64]) {
        for offset in frames {
            let kind = if schemas.contains(&offset) { Kind::Schema } else { Kind::Change };
            if trail.is_due(kind, offset) {
                trail.tell(index, kind, point(offset));
            }
        }
    }

    #[test]
    fn the_stops_are_the_schemas_below_the_last_point_and_that_point() {
        let (index, mut trail) = (Index::default(), Trail::new(S));
        pass(&index, &mut trail, (64..1064).step_by(50), &[114, 464, 964]);
        // A schema is told at once, and the next point is a spacing behind it.
        assert_eq!(offsets(&index.stops(S, Seq(463), u64::MAX)), [314, 114]);
        assert_eq!(offsets(&index.stops(S, Seq(800), u64::MAX)), [664, 464, 114]);
        assert_eq!(
            offsets(&index.stops(S, Seq(800), 663)),
            [314, 114],
            "what is not visible is not handed out"
        );
        assert!(index.stops(S, Seq(313), u64::MAX).is_empty());
        assert!(index.stops(Seq(2), Seq(800), u64::MAX).is_empty());
    }

    #[test]
    fn a_trail_that_does_not_meet_what_is_known_is_not_believed() {
        let (index, mut trail) = (Index::default(), Trail::new(S));
        pass(&index, &mut trail, (64..464).step_by(50), &[114]);
        let mut inside = Trail::from(S, 1014);
        pass(&index, &mut inside, (1014..2014).step_by(50), &[]);
        assert_eq!(offsets(&index.stops(S, Seq(9999), u64::MAX)), [314, 114]);
        // Forgotten on the way: what it told before is told to nobody any more.
        index.forget(S);
        pass(&index, &mut trail, (464..1464).step_by(50), &[464]);
        assert!(index.stops(S, Seq(9999), u64::MAX).is_empty());
    }

    #[test]
    fn what_is_cut_is_forgotten_and_what_comes_in_its_place_is_known() {
        let (index, mut trail) = (Index::default(), Trail::new(S));
        pass(&index, &mut trail, (64..1064).step_by(50), &[114, 764]);
        trail.cut(&index, Location { segment: S, offset: 714 });
        assert_eq!(offsets(&index.stops(S, Seq(9999), u64::MAX)), [714, 114]);
        pass(&index, &mut trail, (714..2000).step_by(60), &[774]);
        assert_eq!(offsets(&index.stops(S, Seq(1100), u64::MAX)), [1014, 774, 114]);
    }

    #[test]
    fn memory_is_bounded_whatever_is_told() {
        let index = Index::default();
        for segment in 1..=10_000 {
            let mut trail = Trail::new(Seq(segment));
            pass(&index, &mut trail, (64..20_000).step_by(50), &[64, 114, 164, 214]);
            assert!(index.bytes() <= MOST_BYTES);
        }
        let segments = index.segments();
        assert!(segments.len() > 1 && segments.contains(&Seq(10_000)) && !segments.contains(&S));
        // One segment of any length has points all along.
        let mut trail = Trail::new(Seq(20_000));
        pass(&index, &mut trail, (64..1_000_000).step_by(50), &[64]);
        for from in [100_000, 500_000, 999_000] {
            let start = index.stops(Seq(20_000), Seq(from), u64::MAX)[0].offset;
            assert!(start <= from && from - start < 200_000, "{start} for {from}");
        }
        // And tables without end cost what was told before.
        let all: Vec<u64> = (64..1_000_000).step_by(50).collect();
        let mut trail = Trail::new(Seq(30_000));
        pass(&index, &mut trail, all.iter().copied(), &all);
        assert!(index.bytes() <= MOST_BYTES);
        assert!(index.stops(Seq(30_000), Seq(999_000), u64::MAX).len() <= MOST_SCHEMAS + 1);
    }
}
