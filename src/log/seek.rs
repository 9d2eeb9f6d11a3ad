//! From a time or a GTID to a frame.
//!
//! Each segment begins with its [`State`]: all GTIDs committed below it, and the latest commit time below it. Neither ever falls along
//! the log (but for transactions that a server lost, where an operator had the log go on without them: whether such a one is found depends on where it
//! stands), so a binary search over the states finds the one segment in which what is sought ends, and its frames are read until it
//! does. What a transaction began with may stand in an earlier segment, which the state says too.
//!
//! The first mark of a log says where it was begun: what that holds was never in the log, and is answered as what is no longer kept.

use std::fmt;

use super::error::{Corrupt, ReadError, SeekError};
use super::frame::Problem;
use super::reader::Frame;
use super::record::{Commit, Kind, Mark, State};
use super::segment::{SEGMENT_HEADER, segment_name};
use super::shared::Log;
use super::{Location, Reader, Standing};
use crate::clock::rfc3339_micros;
use crate::disk::Disk;
use crate::event::{Gtid, GtidSet, Seq};

/// Characters of a GTID set that an error shows.
const SHOWN: usize = 200;

/// What is sought.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// The first whose server's time is this or later, microseconds since 1970 UTC.
    Time(u64),
    Gtid(&'a Gtid),
    /// The first that is not in the set.
    After(&'a GtidSet),
}

impl<D: Disk> Log<D> {
    /// The first frame of the first transaction, or the first mark, whose server's time is `micros` or later: all before it are earlier.
    /// A mark of unknown time is passed over.
    ///
    /// # Errors
    /// That transaction is no longer kept whole, there is none yet, or the log cannot be read.
    pub fn seek_time(&self, micros: u64) -> Result<Seq, SeekError> {
        // 0 stands for an unknown time.
        self.seek(Target::Time(micros.max(1)))
    }

    /// The first frame of the transaction `gtid`, or the mark that it was folded into.
    ///
    /// # Errors
    /// It is no longer kept whole, the log does not hold it, or cannot be read.
    pub fn seek_gtid(&self, gtid: &Gtid) -> Result<Seq, SeekError> {
        self.seek(Target::Gtid(gtid))
    }

    /// The first frame of the first transaction, or the first mark, that is not contained in `set`.
    ///
    /// # Errors
    /// Some of what is missing from the set is no longer kept, nothing is missing from it, or the log cannot be read.
    pub fn seek_after(&self, set: &GtidSet) -> Result<Seq, SeekError> {
        self.seek(Target::After(set))
    }

    /// How the segment begins whose first frame is `segment`.
    ///
    /// # Errors
    /// It is no longer kept, or cannot be read.
    pub fn state(&self, segment: Seq) -> Result<State, ReadError> {
        let mut buffer = Vec::new();
        let frame = self.read_at(Location { segment, offset: SEGMENT_HEADER }, &mut buffer)?;
        if frame.kind != Kind::State {
            return Err(self.corrupt(&frame, Problem::NoState).into());
        }
        State::decode(frame.payload).map_err(|error| self.unreadable(&frame, &error).into())
    }

    fn seek(&self, target: Target<'_>) -> Result<Seq, SeekError> {
        loop {
            match self.search(target) {
                // Retention was quicker: what is left is searched, which is less each time.
                Err(SeekError::Read(ReadError::BelowRetained { .. })) => {}
                result => return result,
            }
        }
    }

    fn search(&self, target: Target<'_>) -> Result<Seq, SeekError> {
        let visible = self.visible().seq;
        // A state is read only when it is visible, as all else.
        let segments: Vec<Seq> = {
            let segments = self.shared.segments();
            segments.iter().map(|entry| entry.header.first).take_while(|first| *first <= visible).collect()
        };
        let above = || SeekError::AboveEnd { wanted: target.to_string(), end: visible };
        let Some(&start) = segments.first() else { return Err(above()) };
        let below = |state: &State| SeekError::BelowRetained {
            wanted: target.to_string(),
            start,
            below: target.passed(state),
        };
        let first_state = self.state(start)?;
        if target.is_below(&first_state) {
            return Err(below(&first_state));
        }
        // What is sought does not end below segments[low], and ends below segments[high], or that is the end.
        let (mut low, mut high) = (0, segments.len());
        while high - low > 1 {
            let middle = usize::midpoint(low, high);
            if target.is_below(&self.state(segments[middle])?) { high = middle } else { low = middle }
        }
        match self.scan(target, segments[low])? {
            None => Err(above()),
            Some(Found::At(first)) if first >= start => Ok(first),
            Some(Found::At(_)) => Err(below(&first_state)),
            Some(Found::Start(gtids)) => {
                let standing = Some(Standing::after(gtids));
                Err(below(&State { standing, open_since: None, latest_micros: 0 }))
            }
        }
    }

    /// Reads from the segment `from` on until what is sought ends.
    fn scan(&self, target: Target<'_>, from: Seq) -> Result<Option<Found>, SeekError> {
        let mut reader: Reader<D> = self.reader(from)?;
        // The first frame of the transaction being read, and whether the log has been given a start.
        let (mut begun, mut started) = (None, true);
        while let Some(frame) = reader.next_frame()? {
            let unreadable = |error| ReadError::from(self.unreadable(&frame, &error));
            match frame.kind {
                Kind::State => {
                    let state = State::decode(frame.payload).map_err(unreadable)?;
                    (begun, started) = (state.open_since, state.standing.is_some());
                }
                Kind::Schema | Kind::Change | Kind::Prepared | Kind::Sweep => {
                    begun.get_or_insert(frame.seq);
                }
                Kind::Commit => {
                    let first = begun.take().unwrap_or(frame.seq);
                    if target.is_commit(&Commit::decode(frame.payload).map_err(unreadable)?) {
                        return Ok(Some(Found::At(first)));
                    }
                }
                Kind::Mark => {
                    begun = None;
                    let mark = Mark::decode(frame.payload).map_err(unreadable)?;
                    let is_start = !std::mem::replace(&mut started, true);
                    if target.is_mark(&mark) {
                        let by_gtid = !matches!(target, Target::Time(_));
                        let start = is_start && by_gtid;
                        return Ok(Some(if start { Found::Start(mark.gtids) } else { Found::At(frame.seq) }));
                    }
                }
            }
        }
        Ok(None)
    }

    fn unreadable(&self, frame: &Frame<'_>, error: &bincode::error::DecodeError) -> Corrupt {
        self.corrupt(frame, Problem::Payload(error.to_string()))
    }

    fn corrupt(&self, frame: &Frame<'_>, problem: Problem) -> Corrupt {
        let path = self.shared.dir.join(segment_name(frame.at.segment));
        Corrupt { path, offset: frame.at.offset, seq: frame.seq, problem }
    }
}

enum Found {
    /// The first frame of the transaction, or the mark.
    At(Seq),
    /// In the set that the log was begun with.
    Start(GtidSet),
}

impl Target<'_> {
    /// Whether it ends below a segment that begins so.
    fn is_below(&self, state: &State) -> bool {
        match self {
            Target::Time(micros) => state.latest_micros >= *micros,
            Target::Gtid(gtid) => {
                state.standing.as_ref().is_some_and(|standing| standing.gtids.contains(gtid))
            }
            Target::After(set) => {
                state.standing.as_ref().is_some_and(|standing| !standing.gtids.is_subset(set))
            }
        }
    }

    fn is_commit(&self, commit: &Commit) -> bool {
        match self {
            Target::Time(micros) => commit.time_micros >= *micros,
            Target::Gtid(gtid) => commit.gtid.as_ref() == Some(*gtid),
            Target::After(set) => commit.gtid.as_ref().is_some_and(|gtid| !set.contains(gtid)),
        }
    }

    fn is_mark(&self, mark: &Mark) -> bool {
        match self {
            Target::Time(micros) => mark.time_micros >= *micros,
            Target::Gtid(gtid) => mark.gtids.contains(gtid),
            Target::After(set) => !mark.gtids.is_subset(set),
        }
    }

    /// What a log that starts with this state has passed, in the terms of what is sought.
    fn passed(&self, state: &State) -> String {
        match self {
            Target::Time(_) => format!("commits up to {}", rfc3339_micros(state.latest_micros)),
            Target::Gtid(_) | Target::After(_) => state
                .standing
                .as_ref()
                .map_or_else(|| "nothing".to_owned(), |standing| standing.gtids.brief(SHOWN)),
        }
    }
}

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Time(micros) => write!(f, "what was committed at {} or later", rfc3339_micros(*micros)),
            Target::Gtid(gtid) => write!(f, "transaction {gtid}"),
            Target::After(set) => write!(f, "what follows {}", set.brief(SHOWN)),
        }
    }
}
