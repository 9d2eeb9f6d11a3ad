//! What a log must hold and may hold, and holding one against it.

use std::collections::BTreeMap;

use super::*;
use crate::event::codec;
use crate::log::record::SweepRecord;

/// What a commit or mark ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The source's position is then `set` of this.
    pub position: u64,
    pub values: Vec<u64>,
    /// Rows that an XA transaction holds.
    pub held: Vec<u64>,
    /// The XA transaction that was prepared with it, or decided.
    pub xa: Option<(u64, Turn)>,
}

/// What becomes of an XA transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Prepared,
    Decided,
}

impl Ended {
    pub fn plain(position: u64, values: Vec<u64>) -> Ended {
        Ended { position, values, held: Vec::new(), xa: None }
    }
}

/// The XA transactions that are undecided behind these, with their rows.
pub fn undecided<'a>(ended: impl IntoIterator<Item = &'a Ended>) -> BTreeMap<u64, Vec<u64>> {
    let mut undecided = BTreeMap::new();
    for ended in ended {
        match ended.xa {
            Some((number, Turn::Prepared)) => drop(undecided.insert(number, ended.held.clone())),
            Some((number, Turn::Decided)) => drop(undecided.remove(&number)),
            None => {}
        }
    }
    undecided
}

/// What a log must hold, and what it may.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    /// Frames that were visible: they must be there, as they were, from the retained start on.
    pub seen: &'a [Read],
    pub position: Option<u64>,
    /// What ended with them, all of it since the log was begun.
    pub before: &'a [Ended],
    /// What was appended behind them: any number of these, from the first on, may be there.
    pub appended: &'a [Ended],
    /// The first frame that somebody may still need.
    pub needed: Seq,
}

/// What was found in a log.
#[derive(Debug)]
pub struct Found {
    /// All frames that it keeps.
    pub frames: Vec<Read>,
    pub position: Option<u64>,
    /// How many of [`Bounds::appended`] are there.
    pub appended: usize,
}

/// Reads the whole log and holds it against what it must be.
pub fn check<D: crate::disk::Disk>(opened: &Opened<D>, bounds: &Bounds<'_>) -> Found {
    let Opened { writer, log, .. } = opened;
    let start = log.retained_start();
    assert!(start <= bounds.needed, "{start} is kept, {} is needed", bounds.needed);
    let frames = read(log, start);
    check_frames(&frames, start, log.visible().seq);

    let seen = bounds.seen.last().map_or(Seq(0), |frame| frame.seq);
    assert!(log.visible().seq >= seen, "{seen} was visible, {} is", log.visible().seq);
    let first_seen = bounds.seen.first().map_or(start, |frame| frame.seq);
    let (skip_seen, skip) = (start.0.saturating_sub(first_seen.0), first_seen.0.saturating_sub(start.0));
    let known = bounds.seen.get(skip_seen as usize..).unwrap_or_default();
    let there = &frames[skip as usize..][..known.len()];
    assert!(there == known, "{}", first_difference(there, known));

    let (mut position, mut appended, mut values, mut held) = (bounds.position, 0, Vec::new(), Vec::new());
    for frame in &frames[skip as usize + known.len()..] {
        match frame.kind {
            Kind::Change => values.push(value(frame)),
            Kind::Prepared => held.push(value(frame)),
            Kind::Commit if carried(frame).is_some() => {
                let ended = bounds.before.iter().chain(&bounds.appended[..appended]);
                let number = carried(frame).unwrap();
                assert_eq!((Some(&held), values.is_empty()), (undecided(ended).get(&number), true));
                held.clear();
            }
            Kind::Commit | Kind::Mark => {
                let ended =
                    bounds.appended.get(appended).unwrap_or_else(|| panic!("{frame:?} was not appended"));
                assert_eq!((&values, &held), (&ended.values, &ended.held));
                (position, appended) = (Some(ended.position), appended + 1);
                (values, held) = (Vec::new(), Vec::new());
            }
            Kind::State | Kind::Schema | Kind::Sweep => {}
        }
    }
    assert!(values.is_empty() && held.is_empty(), "a log ends with a whole transaction: {values:?} {held:?}");
    assert_eq!(writer.position(), position.map(set).as_ref());
    let undecided = undecided(bounds.before.iter().chain(&bounds.appended[..appended]));
    check_held(writer.standing(), &undecided, &frames, start);
    check_standing(writer.standing(), bounds.seen, &frames);
    let stats = log.stats();
    assert_eq!(stats.bytes, log.segments().iter().map(|segment| segment.bytes).sum::<u64>());
    assert_eq!((stats.first, stats.last), (start, log.visible().seq));
    Found { frames, position, appended }
}

/// The XA transaction whose rows were carried forward, if that is what the commit ends.
pub fn carried(frame: &Read) -> Option<u64> {
    let commit = Commit::decode(&frame.payload).ok().filter(|commit| commit.gtid.is_none())?;
    match commit.noted.xa.as_slice() {
        [Xa::Prepared(prepared)] => Some(prepared.gtid.as_ref().unwrap().number),
        other => panic!("{other:?}"),
    }
}

/// Holds that the log knows the undecided transactions, and has their rows where it says.
fn check_held(standing: Option<&Standing>, undecided: &BTreeMap<u64, Vec<u64>>, frames: &[Read], start: Seq) {
    let prepared = standing.map(|standing| standing.prepared.as_slice()).unwrap_or_default();
    assert_eq!(prepared.len(), undecided.len());
    for (prepared, (number, rows)) in prepared.iter().zip(undecided) {
        assert_eq!(prepared.xid, xid(*number));
        let Some(held) = prepared.held else {
            assert!(rows.is_empty());
            continue;
        };
        let there = &frames[(held.first.0 - start.0) as usize..=(held.last.0 - start.0) as usize];
        assert_eq!(values_of(there, Kind::Prepared), *rows);
        assert_eq!((there[0].at, held.rows), (held.at, rows.len() as u64));
    }
}

/// Holds that the log knows what its frames come to, where all of them are known: `seen` and what follows of `frames`.
fn check_standing(standing: Option<&Standing>, seen: &[Read], frames: &[Read]) {
    let end = seen.last().map_or(Seq(0), |frame| frame.seq);
    let all: Vec<&Read> = seen.iter().chain(frames.iter().filter(|frame| frame.seq > end)).collect();
    if all.first().is_none_or(|first| first.seq > Seq(1)) {
        return;
    }
    let mut known: Option<Standing> = None;
    for frame in all {
        match frame.kind {
            Kind::Commit => {
                let commit = Commit::decode(&frame.payload).unwrap();
                known.get_or_insert_default().committed(commit, frame.version);
            }
            Kind::Mark => {
                let mark = Mark::decode(&frame.payload).unwrap();
                known.get_or_insert_default().marked(mark, frame.version);
            }
            Kind::Sweep => {
                let sweep = SweepRecord::decode(&frame.payload).unwrap();
                let since = known.as_ref().and_then(|known| known.snapshot_since(&sweep.table));
                assert_eq!(Some(sweep.below()), since, "a sweep takes what is older than its snapshot");
            }
            _ => {}
        }
    }
    assert_eq!(standing, known.as_ref());
}

/// What holds of any log's frames, read from `start` to `end`.
pub fn check_frames(frames: &[Read], start: Seq, end: Seq) {
    let mut known: Vec<(Seq, TableNo)> = Vec::new();
    let mut expected = start;
    let mut version = Version(0);
    for frame in frames {
        assert_eq!(frame.seq, expected);
        assert!(frame.version > version, "versions rise: {frame:?}");
        (expected, version) = (expected.next(), frame.version);
        match frame.kind {
            Kind::State => assert_eq!((frame.at.segment, frame.at.offset), (frame.seq, 64)),
            Kind::Schema => {
                let (table, _) = codec::decode_owned::<TableNo, 16>(&frame.payload).unwrap();
                known.push((frame.at.segment, table));
            }
            Kind::Change | Kind::Prepared => {
                let table = Change::decode(&frame.payload).unwrap().table;
                assert!(known.contains(&(frame.at.segment, table)), "its schema stands before {frame:?}");
            }
            Kind::Sweep | Kind::Commit | Kind::Mark => {}
        }
    }
    assert_eq!(expected, end.next());
}

fn first_difference(there: &[Read], known: &[Read]) -> String {
    let different = there.iter().zip(known).find(|(there, known)| there != known);
    format!("what was visible changed: {different:?}")
}

fn value(frame: &Read) -> u64 {
    values_of(std::slice::from_ref(frame), frame.kind)[0]
}
