//! What frames say, checked against each other.
//!
//! | frame | must |
//! |---|---|
//! | state | say the position, the open transaction and the latest time that the frames before it come to |
//! | schema | have a key within its columns |
//! | change | name a table whose schema stands before it in the segment; hold as many values as that has columns, for a rekey also the old key's; nothing more |
//! | prepared | as a change; not behind rows that count |
//! | sweep | go up to its own version; a snapshot's up to where its table's snapshot began |
//! | commit | come after a start of the log; say for which XA transaction rows before it are held, and where; stand behind as many changes as one that it commits held |
//! | mark | stand between transactions |
//! | commit and mark | name a synced offset of the segment, at or below their own place, and no lower than the one before |
//!
//! After something damaged nothing is known of the position until the next state says it.

use std::collections::HashMap;

use crate::event::schema::MAX_COLUMNS;
use crate::event::{Op, Seq, TableNo, Version};
use crate::log::prepared::{Held, Outcome, Prepared, Xa};
use crate::log::record::{Change, Commit, Kind, Mark, SchemaRecord, State, SweepRecord, Synced};
use crate::log::segment::SegmentHeader;
use crate::log::{Location, Standing};

/// What the frames so far come to.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// `None` before the first state, and after something damaged.
    known: Option<Known>,
    /// Nothing more is checked in this segment.
    lost: bool,
    /// Its first frame.
    segment: Seq,
    /// What the number of one of its frames is added to for its version.
    base: u64,
    /// Columns and key columns of the tables whose schema this segment has.
    tables: HashMap<TableNo, (usize, usize)>,
    /// The last synced offset that this segment names.
    synced: u64,
}

#[derive(Debug)]
struct Known {
    standing: Option<Standing>,
    open: Option<Open>,
    latest_micros: u64,
}

/// The transaction that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    since: Seq,
    /// Where that frame stands; `None`: not all of the transaction was seen.
    at: Option<Location>,
    /// Its rows that count, and those that are held.
    changes: u64,
    held: u64,
}

impl Content {
    /// The segment with this header begins.
    pub fn begin(&mut self, header: &SegmentHeader) {
        (self.lost, self.segment, self.base) = (false, header.first, header.base);
        self.tables.clear();
        self.synced = 0;
    }

    /// XA transactions that are undecided at the log's end and whose rows are held below `start`, where no log is; none where that is not known.
    pub fn gone(&self, start: Seq) -> Vec<(Seq, String)> {
        let standing = self.known.as_ref().and_then(|known| known.standing.as_ref());
        let prepared = standing.map(|standing| standing.prepared.as_slice()).unwrap_or_default();
        let gone = prepared.iter().filter_map(|prepared| {
            let first = prepared.held?.first;
            (first < start).then(|| (first, prepared.xid.to_string()))
        });
        gone.collect()
    }

    /// Something is damaged: what follows in its segment is not judged.
    pub fn lose(&mut self) {
        self.lost = true;
        self.known = None;
    }

    /// Takes in a whole frame that lies from `offset` to `end`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(
        &mut self,
        kind: Kind,
        seq: Seq,
        offset: u64,
        end: u64,
        payload: &[u8],
    ) -> Result<(), String> {
        if self.lost {
            return Ok(());
        }
        let at = Location { segment: self.segment, offset };
        match kind {
            Kind::State => {
                self.synced = end;
                self.state(seq, State::decode(payload).map_err(undecodable)?)
            }
            Kind::Schema => {
                self.schema(&SchemaRecord::decode(payload).map_err(undecodable)?)?;
                self.opens(seq, at);
                Ok(())
            }
            Kind::Sweep => {
                self.sweep(&SweepRecord::decode(payload).map_err(undecodable)?, seq)?;
                if let Some(open) = self.opens(seq, at) {
                    open.changes += 1;
                }
                Ok(())
            }
            Kind::Change | Kind::Prepared => {
                self.change(payload)?;
                let Some(open) = self.opens(seq, at) else { return Ok(()) };
                match kind {
                    Kind::Change => open.changes += 1,
                    _ => open.held += 1,
                }
                if kind == Kind::Prepared && open.changes > 0 {
                    return Err("it is held, and stands behind rows that count".to_owned());
                }
                Ok(())
            }
            Kind::Commit => {
                let commit = Commit::decode(payload).map_err(undecodable)?;
                self.synced(commit.synced, offset)?;
                self.commit(seq, commit)
            }
            Kind::Mark => {
                let mark = Mark::decode(payload).map_err(undecodable)?;
                self.synced(mark.synced, offset)?;
                self.mark(seq, mark)
            }
        }
    }

    fn state(&mut self, seq: Seq, state: State) -> Result<(), String> {
        let State { standing, open_since, latest_micros } = state;
        if open_since.is_some_and(|since| since >= seq) {
            return Err("it says that a transaction is open which begins behind it".to_owned());
        }
        if let Some(known) = &self.known {
            if known.standing.as_ref().map(|known| without_lost(known, &standing)) != standing {
                return Err("its position, or what is owed there, is not what the frames before it come to"
                    .to_owned());
            }
            if known.open.map(|open| open.since) != open_since {
                return Err(
                    "it says otherwise than the frames before it whether a transaction is open".to_owned()
                );
            }
            if known.latest_micros != latest_micros {
                return Err("its latest time is not that of the frames before it".to_owned());
            }
        }
        // What a transaction that goes on has already is known from the frames before, or not at all.
        let seen = self.known.as_ref().and_then(|known| known.open);
        let open = open_since.map(|since| seen.unwrap_or(Open { since, at: None, changes: 0, held: 0 }));
        self.known = Some(Known { standing, open, latest_micros });
        Ok(())
    }

    fn schema(&mut self, record: &SchemaRecord) -> Result<(), String> {
        let (columns, key) = (record.schema.columns.len(), &record.schema.key);
        if columns > MAX_COLUMNS {
            return Err(format!("it has {columns} columns"));
        }
        if key.is_empty() || key.iter().any(|column| usize::from(*column) >= columns) {
            return Err("its key is not of its columns".to_owned());
        }
        self.tables.insert(record.table, (columns, key.len()));
        Ok(())
    }

    fn change(&mut self, payload: &[u8]) -> Result<(), String> {
        let change = Change::decode(payload).map_err(undecodable)?;
        change.stamp().map_err(undecodable)?;
        let Change { op, table, mut row, .. } = change;
        let Some(&(columns, key)) = self.tables.get(&table) else {
            return Err(format!("no schema of table number {} stands before it in its segment", table.0));
        };
        let values = match op {
            Op::Insert | Op::Update | Op::Delete | Op::Read => columns,
            Op::Rekey => columns + key,
            Op::Tombstone => key,
        };
        for value in 1..=values {
            let wrong = |error| format!("value {value} of {values}: {}", undecodable(error));
            row.next_value().map_err(wrong)?;
        }
        if !row.rest().is_empty() {
            return Err(format!("{} bytes follow its {values} values", row.rest().len()));
        }
        Ok(())
    }

    fn version(&self, seq: Seq) -> Version {
        Version(self.base.saturating_add(seq.0))
    }

    fn sweep(&self, sweep: &SweepRecord, seq: Seq) -> Result<(), String> {
        let (below, own) = (sweep.below(), self.version(seq));
        if !sweep.of_snapshot && below != own {
            return Err(format!("it goes up to version {below}, and has version {own}"));
        }
        let Some(known) = self.known.as_ref().filter(|_| sweep.of_snapshot) else { return Ok(()) };
        match known.standing.as_ref().and_then(|standing| standing.snapshot_since(&sweep.table)) {
            Some(since) if since == below => Ok(()),
            Some(since) => Err(format!(
                "it goes up to version {below}, and the snapshot that it ends began with {since}"
            )),
            None => Err("no snapshot of its table has begun".to_owned()),
        }
    }

    fn commit(&mut self, seq: Seq, commit: Commit) -> Result<(), String> {
        let version = self.version(seq);
        let Some(known) = &mut self.known else { return Ok(()) };
        let Some(standing) = &mut known.standing else {
            return Err("it stands in a log that no mark has given a start".to_owned());
        };
        let open = known.open.take().unwrap_or(Open {
            since: seq,
            at: Some(Location::default()),
            changes: 0,
            held: 0,
        });
        known.latest_micros = known.latest_micros.max(commit.time_micros);
        let checked = check_xa(standing, &open, seq, &commit.noted.xa);
        standing.committed(commit, version);
        checked
    }

    fn mark(&mut self, seq: Seq, mark: Mark) -> Result<(), String> {
        let version = self.version(seq);
        let Some(known) = &mut self.known else { return Ok(()) };
        if known.open.is_some_and(|open| open.changes + open.held > 0) {
            return Err("it is a mark, and stands inside a transaction".to_owned());
        }
        known.open = None;
        known.latest_micros = known.latest_micros.max(mark.time_micros);
        known.standing.get_or_insert_default().marked(mark, version);
        Ok(())
    }

    /// The transaction of the frame `seq`, which begins with it if none is open; `None` where nothing is known.
    fn opens(&mut self, seq: Seq, at: Location) -> Option<&mut Open> {
        let begins = Open { since: seq, at: Some(at), changes: 0, held: 0 };
        Some(self.known.as_mut()?.open.get_or_insert(begins))
    }

    fn synced(&mut self, synced: Synced, offset: u64) -> Result<(), String> {
        let synced = u64::from_le_bytes(synced.0);
        if synced < self.synced || synced > offset {
            let least = self.synced;
            return Err(format!(
                "it says that {synced} bytes were synced, which is not from {least} to {offset}"
            ));
        }
        self.synced = synced;
        Ok(())
    }
}

/// What the frames come to, without the XA transactions that a cut gave up.
fn without_lost(known: &Standing, state: &Option<Standing>) -> Standing {
    let mut known = known.clone();
    let said = state.as_ref().map(|state| state.prepared.as_slice()).unwrap_or_default();
    known.prepared.retain(|prepared| said.binary_search_by(|said| said.xid.cmp(&prepared.xid)).is_ok());
    known
}

/// Whether what the commit `seq` says of XA transactions fits to what it ends.
fn check_xa(standing: &Standing, open: &Open, seq: Seq, xa: &[Xa]) -> Result<(), String> {
    // Of a transaction that began before the log does, only a part was seen.
    let Some(at) = open.at else { return Ok(()) };
    let holds = open.held > 0;
    if holds && xa.len() != 1 {
        return Err("rows are held before it, and it does not name the one XA transaction that they are of"
            .to_owned());
    }
    // Rows of XA transactions that count from here on; of another transaction, all of its own.
    let mut count = if xa.is_empty() { open.changes } else { 0 };
    for xa in xa {
        match xa {
            Xa::Prepared(Prepared { held: None, .. }) if !holds => {}
            Xa::Prepared(Prepared { held: Some(held), .. }) if holds => {
                let Held { first, at: place, last, rows, bytes: _ } = *held;
                if (first, place, rows) != (open.since, at, open.held) || last < first || last >= seq {
                    return Err("rows are held before it, and it says that they stand elsewhere".to_owned());
                }
            }
            Xa::Prepared(_) => {
                return Err("it says otherwise than what stands before it whether rows are held".to_owned());
            }
            Xa::Decided { outcome: Outcome::RolledBack, .. } if holds => {
                return Err("rows are held before it, and it rolls them back".to_owned());
            }
            Xa::Decided { outcome: Outcome::RolledBack, .. } => {}
            Xa::Decided { outcome: Outcome::Committed, .. } if holds => count += open.held,
            Xa::Decided { xid, outcome: Outcome::Committed } => {
                count += standing.held(xid).map_or(0, |held| held.rows);
            }
        }
    }
    if count != open.changes {
        let found = open.changes;
        return Err(format!(
            "{count} rows of XA transactions count from here on, and {found} stand before it"
        ));
    }
    Ok(())
}

fn undecodable(error: bincode::error::DecodeError) -> String {
    format!("its payload cannot be decoded: {error}")
}
